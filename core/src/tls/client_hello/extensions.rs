//! The two extensions that say where a connection goes.

use core::fmt;
use core::net::IpAddr;

use super::Malformed;

/// `NameType.host_name` (RFC 6066 §3).
const HOST_NAME: u8 = 0;
/// The longest name that DNS has, without a trailing dot (RFC 1035 §2.3.4).
const MAX_NAME: usize = 253;
/// The longest of its labels.
const MAX_LABEL: usize = 63;

/// Reads a `server_name` extension.
///
/// ```text
/// | length (2) | { type (1) | length (2) | name } …
/// ```
pub(super) fn server_name(body: &[u8]) -> Result<Option<&str>, Malformed> {
    let (mut list, []) = vector16(body).ok_or(Malformed::ServerNameList)? else {
        return Err(Malformed::ServerNameList);
    };
    if list.is_empty() {
        return Err(Malformed::ServerNameList);
    }
    let mut host = None;
    while let [kind, entry @ ..] = list {
        // Names of other types begin with their length, too (RFC 6066 §3).
        let (name, rest) = vector16(entry).ok_or(Malformed::ServerNameList)?;
        if *kind == HOST_NAME && host.replace(name).is_some() {
            return Err(Malformed::ServerNameRepeated);
        }
        list = rest;
    }
    host.map_or(Ok(None), host_name)
}

/// A name as it is matched and logged; `None`: it is an address.
///
/// RFC 6066 §3 wants neither a trailing dot nor an address. Clients send both; the dot changes
/// nothing, and an address says no more than where the connection goes.
fn host_name(name: &[u8]) -> Result<Option<&str>, Malformed> {
    let name = str::from_utf8(name).map_err(|_| Malformed::ServerName)?;
    if name.parse::<IpAddr>().is_ok() {
        return Ok(None);
    }
    let name = name.strip_suffix('.').unwrap_or(name);
    // An underscore is in no host name, and in many names that hosts have.
    let is_label = |label: &str| {
        let mut bytes = label.bytes();
        (1..=MAX_LABEL).contains(&label.len())
            && bytes.all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'))
    };
    if name.len() <= MAX_NAME && name.split('.').all(is_label) {
        Ok(Some(name))
    } else {
        Err(Malformed::ServerName)
    }
}

/// The names of application protocols, in the order of the client.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
pub struct Protocols<'a> {
    /// Each with its length before it; checked.
    names: &'a [u8],
}

impl<'a> Protocols<'a> {
    /// Reads an `application_layer_protocol_negotiation` extension.
    ///
    /// ```text
    /// | length (2) | { length (1) | name } …
    /// ```
    pub(super) fn read(body: &'a [u8]) -> Result<Self, Malformed> {
        let (names, []) = vector16(body).ok_or(Malformed::ProtocolList)? else {
            return Err(Malformed::ProtocolList);
        };
        let mut rest = names;
        while let [length, after @ ..] = rest {
            if *length == 0 {
                return Err(Malformed::ProtocolList);
            }
            rest = after.get(usize::from(*length)..).ok_or(Malformed::ProtocolList)?;
        }
        if names.is_empty() { Err(Malformed::ProtocolList) } else { Ok(Protocols { names }) }
    }

    /// The names, none of which is empty.
    pub fn iter(self) -> impl Iterator<Item = &'a [u8]> {
        let mut rest = self.names;
        core::iter::from_fn(move || {
            let (&length, after) = rest.split_first()?;
            let (name, after) = after.split_at_checked(usize::from(length))?;
            rest = after;
            Some(name)
        })
    }

    /// Does the client offer this one? Names are compared byte by byte (RFC 7301 §3.2).
    pub fn contains(self, name: &[u8]) -> bool {
        self.iter().any(|offered| offered == name)
    }

    /// It offers none: it sent no such extension.
    pub fn is_empty(self) -> bool {
        self.names.is_empty()
    }
}

impl fmt::Debug for Protocols<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.iter().map(<[u8]>::escape_ascii)).finish()
    }
}

/// What follows its length of two bytes, and the rest.
fn vector16(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (length, rest) = bytes.split_first_chunk()?;
    rest.split_at_checked(usize::from(u16::from_be_bytes(*length)))
}
