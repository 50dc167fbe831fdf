//! A header section in wire order, borrowed from the buffer it came in.

use alloc::vec::Vec;

/// The fields that the proxy itself looks at, recognised once while a head is parsed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Known {
    /// Any other field.
    Other,
    /// `Content-Type` (RFC 9110 §8.3).
    ContentType,
    /// `grpc-status`.
    GrpcStatus,
    /// `Trailer` (RFC 9110 §6.6.2).
    Trailer,
    /// `Connection` (RFC 9110 §7.6.1).
    Connection,
    /// `Content-Length` (RFC 9110 §8.6).
    ContentLength,
    /// `Expect` (RFC 9110 §10.1.1).
    Expect,
    /// `Host` (RFC 9110 §7.2).
    Host,
    /// `HTTP2-Settings` (RFC 7540 §3.2.1, gone in RFC 9113).
    Http2Settings,
    /// `Keep-Alive` (RFC 2068 §19.7.1).
    KeepAlive,
    /// `Proxy-Connection` (RFC 9112 §C.2.2).
    ProxyConnection,
    /// `TE` (RFC 9110 §10.1.4).
    Te,
    /// `Transfer-Encoding` (RFC 9112 §6.1).
    TransferEncoding,
    /// `Upgrade` (RFC 9110 §7.8).
    Upgrade,
    /// `l5d-client-id`: what a mesh proxy tells its app of the client's identity. Only that proxy may
    /// say it.
    ClientId,
}

impl Known {
    /// Does no rewrite of a head ever touch this field?
    #[inline]
    pub(crate) fn is_payload(self) -> bool {
        matches!(self, Known::Other | Known::ContentType | Known::GrpcStatus | Known::Trailer)
    }

    /// Which field has this name, in any case. There must be no control characters in it.
    #[inline]
    pub fn of(name: &[u8]) -> Known {
        if Known::may_be(name) { Known::compare(name) } else { Known::Other }
    }

    /// May this be the name of one? Most fields are none of them, and most of those are told apart by
    /// their length and first byte.
    #[inline]
    pub(crate) fn may_be(name: &[u8]) -> bool {
        name.first().is_some_and(|&first| CANDIDATES >> slot(first, name.len()) & 1 == 1)
    }

    /// [`Known::of`] a name that may be one.
    pub(crate) fn compare(name: &[u8]) -> Known {
        // The length leaves at most two candidates.
        match name.len() {
            2 if is(name, b"te") => Known::Te,
            4 if is(name, b"host") => Known::Host,
            6 if is(name, b"expect") => Known::Expect,
            7 if is(name, b"upgrade") => Known::Upgrade,
            7 if is(name, b"trailer") => Known::Trailer,
            10 if is(name, b"connection") => Known::Connection,
            10 if is(name, b"keep-alive") => Known::KeepAlive,
            11 if is(name, b"grpc-status") => Known::GrpcStatus,
            12 if is(name, b"content-type") => Known::ContentType,
            13 if is(name, b"l5d-client-id") => Known::ClientId,
            14 if is(name, b"content-length") => Known::ContentLength,
            14 if is(name, b"http2-settings") => Known::Http2Settings,
            16 if is(name, b"proxy-connection") => Known::ProxyConnection,
            17 if is(name, b"transfer-encoding") => Known::TransferEncoding,
            _ => Known::Other,
        }
    }
}

/// One bit for the [`slot`] of each known field.
const CANDIDATES: u64 = {
    let names: [&[u8]; 14] = [
        b"te",
        b"host",
        b"expect",
        b"upgrade",
        b"trailer",
        b"connection",
        b"keep-alive",
        b"grpc-status",
        b"content-type",
        b"l5d-client-id",
        b"content-length",
        b"http2-settings",
        b"proxy-connection",
        b"transfer-encoding",
    ];
    let (mut candidates, mut index) = (0, 0);
    while index < names.len() {
        candidates |= 1 << slot(names[index][0], names[index].len());
        index += 1;
    }
    candidates
};

/// A number below 64 that is not that of a known field for nearly all common names.
#[inline]
const fn slot(first: u8, len: usize) -> u32 {
    ((first | 0x20) as u32 * 13).wrapping_add(len as u32) % 64
}

/// Compares a token with a lower-case one, whole words at a time: 0x20 tells upper from lower case,
/// and what differs from a digit or a hyphen by it is a control character.
#[inline]
pub(super) fn is<const N: usize>(token: &[u8], lower: &[u8; N]) -> bool {
    let Ok(token) = <&[u8; N]>::try_from(token) else { return false };
    // The first and the last word overlap; together they cover every byte.
    match (token.first_chunk(), lower.first_chunk()) {
        (Some(first), Some(lower_first)) if N <= 16 => {
            let last = token.last_chunk().unwrap_or(first);
            let lower_last = lower.last_chunk().unwrap_or(lower_first);
            (fold(*first) ^ u64::from_ne_bytes(*lower_first))
                | (fold(*last) ^ u64::from_ne_bytes(*lower_last))
                == 0
        }
        _ => token.eq_ignore_ascii_case(lower),
    }
}

fn fold(word: [u8; 8]) -> u64 {
    u64::from_ne_bytes(word) | u64::from_ne_bytes([0x20; 8])
}

/// Where one field is in its buffer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span {
    pub(crate) name: u32,
    pub(crate) value: u32,
    pub(crate) value_len: u32,
    pub(crate) name_len: u16,
    pub(crate) known: Known,
    pub(crate) fate: Fate,
}

/// What becomes of a field when its message goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Fate {
    /// It goes on as it came: its line is `name: value CRLF` with one space and nothing else
    /// around the value.
    Verbatim,
    /// It goes on with other whitespace. What came is legal, but some reader might take it for
    /// something else.
    Tidied,
    /// It stays: it is hop-by-hop, or nominated by Connection.
    Dropped,
    /// It goes on, and HPACK must never index it (RFC 7541 §7.1.3).
    Sensitive,
}

const _: () = assert!(size_of::<Span>() == 16);

impl Span {
    /// One that is to be filled in.
    pub(crate) const EMPTY: Span = Span {
        name: 0,
        value: 0,
        value_len: 0,
        name_len: 0,
        known: Known::Other,
        fate: Fate::Dropped,
    };

    /// The name's bytes.
    #[inline]
    pub(crate) fn name(self, buf: &[u8]) -> &[u8] {
        &buf[self.name as usize..][..usize::from(self.name_len)]
    }

    /// The value's bytes.
    #[inline]
    pub(crate) fn value(self, buf: &[u8]) -> &[u8] {
        &buf[self.value as usize..][..self.value_len as usize]
    }
}

/// Room for the spans of one head. Kept and used again, so that parsing allocates nothing.
#[derive(Debug, Default)]
pub struct Scratch {
    pub(crate) spans: Vec<Span>,
}

/// One field.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Field<'a> {
    /// Which it is.
    pub known: Known,
    /// Its name as spelled by the sender.
    pub name: &'a [u8],
    /// Its value without surrounding whitespace.
    pub value: &'a [u8],
    /// Is it only for this hop ([`hop`](super::hop))?
    pub hop_by_hop: bool,
}

/// A header section in wire order.
#[derive(Clone, Copy, Debug)]
pub struct Fields<'a> {
    pub(crate) buf: &'a [u8],
    pub(crate) spans: &'a [Span],
}

impl<'a> Fields<'a> {
    /// Every field, in wire order.
    pub fn iter(self) -> Iter<'a> {
        Iter { buf: self.buf, spans: self.spans.iter() }
    }

    /// The value of the first field of this kind.
    pub fn get(self, known: Known) -> Option<&'a [u8]> {
        let span = self.spans.iter().find(|span| span.known == known)?;
        Some(span.value(self.buf))
    }

    /// How many there are.
    pub fn len(self) -> usize {
        self.spans.len()
    }

    /// Are there none?
    pub fn is_empty(self) -> bool {
        self.spans.is_empty()
    }
}

impl<'a> IntoIterator for Fields<'a> {
    type Item = Field<'a>;
    type IntoIter = Iter<'a>;
    fn into_iter(self) -> Iter<'a> {
        self.iter()
    }
}

/// See [`Fields::iter`].
#[derive(Clone, Debug)]
pub struct Iter<'a> {
    buf: &'a [u8],
    spans: core::slice::Iter<'a, Span>,
}

impl<'a> Iterator for Iter<'a> {
    type Item = Field<'a>;

    fn next(&mut self) -> Option<Field<'a>> {
        let span = self.spans.next()?;
        Some(Field {
            known: span.known,
            name: span.name(self.buf),
            value: span.value(self.buf),
            hop_by_hop: span.fate == Fate::Dropped,
        })
    }
}
