//! The two extensions that say where a connection goes.

use core::fmt;

use super::Malformed;
use crate::tls::name::{self, NotAHost};

/// `NameType.host_name` (RFC 6066 §3).
const HOST_NAME: u8 = 0;
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
    match host.map(name::host) {
        None => Ok(None),
        Some(Ok(name)) => Ok(Some(name)),
        // It says no more than where the connection goes anyway.
        Some(Err(NotAHost::Address)) => Ok(None),
        Some(Err(NotAHost::Malformed)) => Err(Malformed::ServerName),
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
