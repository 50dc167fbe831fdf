//! The names in a certificate (RFC 5280 §4.2.1.6), in their order: webpki has them by kind.
//!
//! ```text
//!   Certificate { TBSCertificate { …, [3] { Extensions { Extension { OID, critical?, value } … } } } … }
//!   value: SubjectAltName { [2] dNSName | [6] uniformResourceIdentifier | others … }
//! ```

use crate::identity::Name;

const SEQUENCE: u8 = 0x30;
const OID: u8 = 0x06;
const OCTET_STRING: u8 = 0x04;
/// `[3] EXPLICIT Extensions`.
const EXTENSIONS: u8 = 0xa3;
const DNS_NAME: u8 = 0x82;
const URI: u8 = 0x86;
/// 2.5.29.17.
const SUBJECT_ALT_NAME: &[u8] = &[0x55, 0x1d, 0x11];

/// The identities that a certificate names, in DER. Names that are no identities are skipped, and a
/// certificate that cannot be read names nobody.
pub fn identities(certificate: &[u8]) -> impl Iterator<Item = Name> + '_ {
    Elements(names(certificate).unwrap_or_default()).filter_map(|(tag, value)| {
        let text = core::str::from_utf8(value).ok()?;
        let name = Name::parse(text).ok()?;
        (matches!(tag, DNS_NAME | URI) && name.is_uri() == (tag == URI)).then_some(name)
    })
}

/// The contents of the extension.
fn names(certificate: &[u8]) -> Option<&[u8]> {
    let body = of(Elements(certificate).next()?, SEQUENCE)?;
    let fields = of(Elements(body).next()?, SEQUENCE)?;
    let extensions = Elements(fields).find(|&(tag, _)| tag == EXTENSIONS)?.1;
    let extensions = of(Elements(extensions).next()?, SEQUENCE)?;
    let names = Elements(extensions).find_map(|extension| {
        let mut parts = Elements(of(extension, SEQUENCE)?);
        let id = of(parts.next()?, OID)?;
        // The value is last; whether it is critical may come between.
        let value = of(parts.last()?, OCTET_STRING)?;
        (id == SUBJECT_ALT_NAME).then_some(value)
    })?;
    of(Elements(names).next()?, SEQUENCE)
}

fn of((tag, value): (u8, &[u8]), wanted: u8) -> Option<&[u8]> {
    (tag == wanted).then_some(value)
}

/// The elements of DER, one after the other (X.690 §8.1): low tags, definite lengths. Ends at what is
/// not so.
struct Elements<'a>(&'a [u8]);

impl<'a> Iterator for Elements<'a> {
    type Item = (u8, &'a [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        let (&[tag, first], rest) = self.0.split_first_chunk()?;
        let (length, rest) = match first {
            0..=0x7f => (usize::from(first), rest),
            0x81..=0x83 => {
                let (bytes, rest) = rest.split_at_checked(usize::from(first - 0x80))?;
                (bytes.iter().fold(0, |length, &byte| length << 8 | usize::from(byte)), rest)
            }
            _ => return None,
        };
        let (value, rest) = rest.split_at_checked(length)?;
        self.0 = rest;
        Some((tag, value))
    }
}
