//! `host [":" port]` (RFC 9110 §7.2, RFC 3986 §3.2): what Host and request targets carry, and what
//! services are found by.

use alloc::string::String;
use core::fmt::Write;
use core::net::Ipv6Addr;

use super::grammar::{Decimal, number};
use crate::error::Reason;

/// Writes the form that services are found by into `out` (cleared first): lower case, the port
/// always present, no trailing dot, an IPv6 address in brackets and in its shortest form.
///
/// `Web.Example` becomes `web.example:80` with `default_port` 80; so does `web.example:`, whose
/// port is empty, and `web.example.`, which only says that no search list is meant (RFC 1034 §3.1).
///
/// # Errors
///
/// [`Reason::HostInvalid`] as for [`validate`]; `out` is then empty.
pub fn normalize(authority: &[u8], default_port: u16, out: &mut String) -> Result<(), Reason> {
    out.clear();
    let Authority { host, port } = parse(authority)?;
    match host {
        Host::Name(name) => {
            let name = match name {
                [host @ .., b'.'] if !matches!(host, [] | [.., b'.']) => host,
                _ => name,
            };
            // A valid name is ASCII.
            out.push_str(core::str::from_utf8(name).map_err(|_| Reason::HostInvalid)?);
            out.make_ascii_lowercase();
        }
        Host::V6(address) => {
            // Writing to a String cannot fail.
            let _ = write!(out, "[{address}]");
        }
    }
    out.push(':');
    let port = Decimal::new(u64::from(port.unwrap_or(default_port)));
    for &digit in port.as_bytes() {
        out.push(char::from(digit));
    }
    Ok(())
}

/// Is this `host [":" port]`?
///
/// A host is a name or IPv4 address (RFC 3986 `reg-name`, but a comma is refused because a list of
/// hosts looks the same) or an IPv6 address in brackets (no zone, no IPvFuture). A port is empty or
/// at most 65535 in at most five digits.
///
/// # Errors
///
/// [`Reason::HostInvalid`] if it is not, or is empty: whoever may accept an empty one (a Host
/// without value, RFC 9110 §7.2) looks first.
pub fn validate(authority: &[u8]) -> Result<(), Reason> {
    parse(authority).map(|_| ())
}

/// The two parts of an authority.
pub(crate) struct Authority<'a> {
    host: Host<'a>,
    /// `None`: absent or empty.
    pub(crate) port: Option<u16>,
}

enum Host<'a> {
    Name(&'a [u8]),
    V6(Ipv6Addr),
}

/// Takes an authority apart, as strictly as [`validate`].
pub(crate) fn parse(authority: &[u8]) -> Result<Authority<'_>, Reason> {
    let (host, rest) = if let [b'[', literal @ ..] = authority {
        let end = memchr::memchr(b']', literal).ok_or(Reason::HostInvalid)?;
        let address = core::str::from_utf8(&literal[..end]).map_err(|_| Reason::HostInvalid)?;
        let address = address.parse().map_err(|_| Reason::HostInvalid)?;
        (Host::V6(address), &literal[end + 1..])
    } else {
        let (name, rest) = authority.split_at(reg_name(authority));
        if name.is_empty() {
            return Err(Reason::HostInvalid);
        }
        (Host::Name(name), rest)
    };
    let port = match rest {
        [] | [b':'] => None,
        [b':', digits @ ..] if digits.len() <= 5 => {
            let port = number(digits).and_then(|port| u16::try_from(port).ok());
            Some(port.ok_or(Reason::HostInvalid)?)
        }
        _ => return Err(Reason::HostInvalid),
    };
    Ok(Authority { host, port })
}

/// The characters of a `reg-name` (RFC 3986 §3.2.2) but `%` and the comma.
static NAME: [bool; 256] = {
    let mut table = [false; 256];
    let mut byte = 0;
    while byte < 256 {
        table[byte] = matches!(byte as u8,
            b'0'..=b'9' | b'A'..=b'Z' | b'a'..=b'z' | b'-' | b'.' | b'_' | b'~'
            | b'!' | b'$' | b'&' | b'\'' | b'(' | b')' | b'*' | b'+' | b';' | b'=');
        byte += 1;
    }
    table
};

/// How long the `reg-name` at the front is.
fn reg_name(bytes: &[u8]) -> usize {
    let mut len = 0;
    loop {
        len += bytes[len..].iter().take_while(|&&byte| NAME[usize::from(byte)]).count();
        match &bytes[len..] {
            [b'%', high, low, ..] if high.is_ascii_hexdigit() && low.is_ascii_hexdigit() => {
                len += 3;
            }
            _ => return len,
        }
    }
}
