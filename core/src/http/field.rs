//! A header section in wire order, borrowed from the buffer it came in.

use alloc::vec::Vec;

/// The fields that the proxy itself looks at, recognised once while a head is parsed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Known {
    /// Any other field.
    Other,
    /// `Connection` (RFC 9110 §7.6.1).
    Connection,
    /// `Content-Length` (RFC 9110 §8.6).
    ContentLength,
    /// `Content-Type` (RFC 9110 §8.3).
    ContentType,
    /// `Expect` (RFC 9110 §10.1.1).
    Expect,
    /// `grpc-status`.
    GrpcStatus,
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
    /// `Trailer` (RFC 9110 §6.6.2).
    Trailer,
    /// `Transfer-Encoding` (RFC 9112 §6.1).
    TransferEncoding,
    /// `Upgrade` (RFC 9110 §7.8).
    Upgrade,
}

impl Known {
    /// Which field has this name, in any case.
    #[inline]
    pub fn of(name: &[u8]) -> Known {
        // The length leaves at most two candidates, and nearly every other field fails at its
        // first byte.
        let candidates: &[(&[u8], Known)] = match name.len() {
            2 => &[(b"te", Known::Te)],
            4 => &[(b"host", Known::Host)],
            6 => &[(b"expect", Known::Expect)],
            7 => &[(b"upgrade", Known::Upgrade), (b"trailer", Known::Trailer)],
            10 => &[(b"connection", Known::Connection), (b"keep-alive", Known::KeepAlive)],
            11 => &[(b"grpc-status", Known::GrpcStatus)],
            12 => &[(b"content-type", Known::ContentType)],
            14 => &[
                (b"content-length", Known::ContentLength),
                (b"http2-settings", Known::Http2Settings),
            ],
            16 => &[(b"proxy-connection", Known::ProxyConnection)],
            17 => &[(b"transfer-encoding", Known::TransferEncoding)],
            _ => &[],
        };
        for &(candidate, known) in candidates {
            if name.eq_ignore_ascii_case(candidate) {
                return known;
            }
        }
        Known::Other
    }
}

/// Where one field is in its buffer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span {
    pub(crate) name: u32,
    pub(crate) value: u32,
    pub(crate) value_len: u32,
    pub(crate) name_len: u16,
    pub(crate) known: Known,
    /// Not to be forwarded: hop-by-hop, or nominated by Connection.
    pub(crate) hop: bool,
}

const _: () = assert!(size_of::<Span>() == 16);

impl Span {
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
            hop_by_hop: span.hop,
        })
    }
}
