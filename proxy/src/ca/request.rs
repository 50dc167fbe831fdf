//! What is asked of the authority, and for whom.

use std::fmt;

use rcgen::{
    CertificateSigningRequestParams, DnType, DnValue, IsCa, PKCS_ECDSA_P256_SHA256, PublicKey,
    PublicKeyData, SanType,
};
use selvedge_core::identity::Name;
use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::GeneralName;

/// The longest request that is looked at, in bytes.
pub const MAX_REQUEST: usize = 16 * 1024;

/// Is this the name of a workload in `trust_domain`?
///
/// # Errors
/// It is not.
pub fn check_name(name: &Name, trust_domain: &str) -> Result<(), Refusal> {
    let text = name.as_str();
    let is_inside = match text.strip_prefix("spiffe://") {
        Some(id) => id.split_once('/').is_some_and(|(domain, _)| domain == trust_domain),
        None => text.strip_suffix(trust_domain).is_some_and(|labels| labels.ends_with('.')),
    };
    if is_inside {
        return Ok(());
    }
    Err(Refusal::Foreign { name: name.clone(), trust_domain: trust_domain.into() })
}

/// The one subjectAltName that a workload's certificate has.
pub(crate) fn general_name(name: &Name) -> Result<SanType, rcgen::Error> {
    let text = name.as_str().to_owned().try_into()?;
    Ok(if name.is_uri() { SanType::URI(text) } else { SanType::DnsName(text) })
}

/// The first DNS name or URI of a certificate that is the name of a workload.
pub(super) fn first_name(certificate: &X509Certificate<'_>) -> Option<Name> {
    let extension = certificate.subject_alternative_name().ok()??;
    extension.value.general_names.iter().find_map(|name| match name {
        GeneralName::DNSName(text) | GeneralName::URI(text) => Name::parse(text).ok(),
        _ => None,
    })
}

/// Is this a trust domain, as SPIFFE-ID §2.1 has it, and fit to end DNS names with?
pub fn is_trust_domain(name: &str) -> bool {
    Name::parse(name).is_ok_and(|parsed| parsed.as_str() == name && !parsed.is_uri())
}

/// What an authority's certificate signs for: its SPIFFE ID, which has no path.
pub(super) fn trust_domain_of(certificate: &X509Certificate<'_>) -> Option<String> {
    let extension = certificate.subject_alternative_name().ok()??;
    extension.value.general_names.iter().find_map(|name| match name {
        GeneralName::URI(uri) => {
            let domain = uri.strip_prefix("spiffe://")?;
            is_trust_domain(domain).then(|| domain.to_owned())
        }
        _ => None,
    })
}

/// A request that may be signed, if its name may.
#[derive(Debug)]
pub(super) struct Request {
    pub(super) public_key: PublicKey,
    pub(super) name: Name,
}

impl Request {
    pub(super) fn read(der: &[u8]) -> Result<Self, Refusal> {
        if der.len() > MAX_REQUEST {
            return Err(Refusal::TooLong(der.len()));
        }
        // It checks the signature too: whoever asks holds the key.
        let read = CertificateSigningRequestParams::from_der(&der.into());
        let CertificateSigningRequestParams { params, public_key } =
            read.map_err(|error| match error {
                rcgen::Error::CouldNotParseCertificationRequest => Refusal::Malformed,
                error => Refusal::Signature(error.to_string()),
            })?;
        if public_key.algorithm() != &PKCS_ECDSA_P256_SHA256 || public_key.der_bytes().len() != 65 {
            return Err(Refusal::KeyType);
        }
        if params.is_ca != IsCa::NoCa && params.is_ca != IsCa::ExplicitNoCa {
            return Err(Refusal::WantsAuthority);
        }
        let (text, is_uri) = match &params.subject_alt_names[..] {
            [SanType::DnsName(text)] => (text.as_str(), false),
            [SanType::URI(text)] => (text.as_str(), true),
            names => return Err(Refusal::Names(names.len())),
        };
        // Word for word: what it says is what others read.
        let name = Name::parse(text)
            .ok()
            .filter(|name| name.as_str() == text && name.is_uri() == is_uri)
            .ok_or_else(|| Refusal::BadName(text.into()))?;
        let other = params
            .distinguished_name
            .iter()
            .find(|(kind, value)| **kind != DnType::CommonName || text_of(value) != Some(text));
        if other.is_some() {
            return Err(Refusal::Subject(name));
        }
        Ok(Request { public_key, name })
    }
}

fn text_of(value: &DnValue) -> Option<&str> {
    match value {
        DnValue::Utf8String(text) => Some(text),
        DnValue::PrintableString(text) => Some(text.as_str()),
        DnValue::Ia5String(text) => Some(text.as_str()),
        _ => None,
    }
}

/// Why a request is not signed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// Longer than [`MAX_REQUEST`].
    TooLong(usize),
    /// No PKCS #10.
    Malformed,
    /// It is not signed by the key that it is about, or cannot be.
    Signature(String),
    /// Another kind of key than ECDSA P-256.
    KeyType,
    /// It asks for a certificate that may sign others.
    WantsAuthority,
    /// It has so many subjectAltNames, or one of another kind.
    Names(usize),
    /// Its subject says something else than its one name, which is this.
    Subject(Name),
    /// No name of the mesh.
    BadName(String),
    /// A name outside the trust domain.
    Foreign {
        /// The name.
        name: Name,
        /// Where the authority signs.
        trust_domain: String,
    },
    /// The authority's own certificate is over.
    AuthorityExpired,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Refusal::TooLong(length) => {
                write!(f, "expected a request of at most {MAX_REQUEST} bytes, it has {length}")
            }
            Refusal::Malformed => f.write_str("expected a certificate signing request (PKCS #10)"),
            Refusal::Signature(why) => write!(f, "expected a request signed by its own key: {why}"),
            Refusal::KeyType => f.write_str("expected an ECDSA P-256 key"),
            Refusal::WantsAuthority => f.write_str("expected no request for a CA certificate"),
            Refusal::Names(count) => write!(
                f,
                "expected one subjectAltName, a DNS name or a spiffe URI; there are {count}, or \
                 it is of another kind"
            ),
            Refusal::Subject(name) => {
                write!(f, "expected an empty subject, or CN={name} as its subjectAltName")
            }
            Refusal::BadName(name) => write!(
                f,
                "{name:?}: expected a DNS name in lower case, or spiffe://trust-domain/path"
            ),
            Refusal::Foreign { name, trust_domain } => {
                write!(f, "{name}: expected a name in the trust domain {trust_domain}")
            }
            Refusal::AuthorityExpired => f.write_str("the authority's own certificate is over"),
        }
    }
}

impl std::error::Error for Refusal {}
