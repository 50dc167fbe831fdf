//! Heads of messages, borrowed from the buffer they came in.

use super::field::Fields;

/// The version that the sender of a head speaks (RFC 9110 §2.5). Anything else is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Version {
    /// HTTP/1.0.
    Http10,
    /// HTTP/1.1.
    Http11,
}

/// A request's control data and header section.
#[derive(Clone, Copy, Debug)]
pub struct RequestHead<'a> {
    /// The method: a token, case-sensitive (RFC 9110 §9.1).
    pub method: &'a [u8],
    /// The target as received (RFC 9112 §3.2).
    pub target: &'a [u8],
    /// What the client speaks.
    pub version: Version,
    /// The header section.
    pub fields: Fields<'a>,
}

/// A response's control data and header section.
#[derive(Clone, Copy, Debug)]
pub struct ResponseHead<'a> {
    /// The status, 100 to 999. RFC 9110 §15 defines up to 599; a client treats the rest as 5xx.
    pub status: u16,
    /// The reason phrase as received, often empty.
    pub reason: &'a [u8],
    /// What the server speaks.
    pub version: Version,
    /// The header section.
    pub fields: Fields<'a>,
}
