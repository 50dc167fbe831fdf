//! Frames (RFC 9113 §4, §6).
//!
//! ```text
//! +-----------------------------------------------+
//! |                 Length (24)                   |
//! +---------------+---------------+---------------+
//! |   Type (8)    |   Flags (8)   |
//! +-+-------------+---------------+-------------------------------+
//! |R|                 Stream Identifier (31)                      |
//! +=+=============================================================+
//! |                   Frame Payload (0...)                      ...
//! ```

use bytes::BytesMut;

use super::error::{ErrorCode, Violation};

/// Bytes of a frame header.
pub const HEADER: usize = 9;

/// What a client sends first (RFC 9113 §3.4).
pub const PREFACE: &[u8; 24] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// The payload that every peer accepts (RFC 9113 §4.2), and the most that we do.
pub const DEFAULT_MAX_FRAME: usize = 16_384;

/// Types of frames.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Body bytes.
    Data,
    /// A header block, or its first fragment.
    Headers,
    /// Deprecated (RFC 9113 §5.3.2).
    Priority,
    /// The end of a stream.
    RstStream,
    /// Parameters of the connection.
    Settings,
    /// Server push, which we do not do.
    PushPromise,
    /// Is anybody there?
    Ping,
    /// No more streams.
    GoAway,
    /// Credit.
    WindowUpdate,
    /// The rest of a header block.
    Continuation,
    /// Priority again (RFC 9218 §7.1).
    PriorityUpdate,
    /// Skipped (RFC 9113 §4.1).
    Unknown(u8),
}

impl Kind {
    fn of(byte: u8) -> Kind {
        match byte {
            0x0 => Kind::Data,
            0x1 => Kind::Headers,
            0x2 => Kind::Priority,
            0x3 => Kind::RstStream,
            0x4 => Kind::Settings,
            0x5 => Kind::PushPromise,
            0x6 => Kind::Ping,
            0x7 => Kind::GoAway,
            0x8 => Kind::WindowUpdate,
            0x9 => Kind::Continuation,
            0x10 => Kind::PriorityUpdate,
            other => Kind::Unknown(other),
        }
    }

    fn byte(self) -> u8 {
        match self {
            Kind::Data => 0x0,
            Kind::Headers => 0x1,
            Kind::Priority => 0x2,
            Kind::RstStream => 0x3,
            Kind::Settings => 0x4,
            Kind::PushPromise => 0x5,
            Kind::Ping => 0x6,
            Kind::GoAway => 0x7,
            Kind::WindowUpdate => 0x8,
            Kind::Continuation => 0x9,
            Kind::PriorityUpdate => 0x10,
            Kind::Unknown(byte) => byte,
        }
    }
}

/// Flags. Those that a type does not define are ignored (RFC 9113 §4.1).
pub mod flags {
    /// Of SETTINGS and PING.
    pub const ACK: u8 = 0x1;
    /// Of DATA and HEADERS.
    pub const END_STREAM: u8 = 0x1;
    /// Of HEADERS and CONTINUATION.
    pub const END_HEADERS: u8 = 0x4;
    /// Of DATA and HEADERS.
    pub const PADDED: u8 = 0x8;
    /// Of HEADERS.
    pub const PRIORITY: u8 = 0x20;
}

/// The header of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FrameHeader {
    /// Bytes of the payload.
    pub length: usize,
    /// Its type.
    pub kind: Kind,
    /// See [`flags`].
    pub flags: u8,
    /// 0: the connection.
    pub stream: u32,
}

impl FrameHeader {
    /// Reads the header at the front of `bytes`; `None` if it is not all there.
    pub fn parse(bytes: &[u8]) -> Option<FrameHeader> {
        let bytes = bytes.first_chunk::<HEADER>()?;
        let (length, rest) = bytes.split_first_chunk::<4>()?;
        Some(FrameHeader {
            length: (u32::from_be_bytes(*length) >> 8) as usize,
            kind: Kind::of(bytes[3]),
            flags: rest[0],
            // The reserved bit is ignored.
            stream: word31(&rest[1..])?.1,
        })
    }

    /// Whether it is no frame, but the beginning of an HTTP/1 response: what a server says that
    /// does not know HTTP/2.
    pub fn is_http1(self) -> bool {
        self.bytes().starts_with(b"HTTP/")
    }

    /// Writes it.
    pub fn write(self, out: &mut BytesMut) {
        out.extend_from_slice(&self.bytes());
    }

    /// As bytes.
    pub fn bytes(self) -> [u8; HEADER] {
        let mut bytes = [0; HEADER];
        bytes[..3].copy_from_slice(&(self.length as u32).to_be_bytes()[1..]);
        bytes[3] = self.kind.byte();
        bytes[4] = self.flags;
        bytes[5..].copy_from_slice(&self.stream.to_be_bytes());
        bytes
    }

    /// Is this flag set?
    pub fn has(self, flag: u8) -> bool {
        self.flags & flag != 0
    }
}

/// Where the content of a padded frame lies in its payload.
///
/// # Errors
///
/// [`Violation::FrameLength`] if there is no room for the length of the padding,
/// [`Violation::Padding`] if there is none for the padding.
pub(crate) fn unpad(header: FrameHeader, payload: &[u8]) -> Result<&[u8], Violation> {
    if !header.has(flags::PADDED) {
        return Ok(payload);
    }
    let (&padding, rest) = payload.split_first().ok_or(Violation::FrameLength)?;
    let content = rest.len().checked_sub(usize::from(padding)).ok_or(Violation::Padding)?;
    Ok(&rest[..content])
}

/// The 31 bits at the front of a payload, and its first bit.
pub(crate) fn word31(payload: &[u8]) -> Option<(bool, u32)> {
    let word = u32::from_be_bytes(*payload.first_chunk()?);
    Some((word >> 31 == 1, word & 0x7fff_ffff))
}

/// Writes a RST_STREAM.
pub(crate) fn write_reset(out: &mut BytesMut, stream: u32, code: ErrorCode) {
    FrameHeader { length: 4, kind: Kind::RstStream, flags: 0, stream }.write(out);
    out.extend_from_slice(&code.0.to_be_bytes());
}

/// Writes a WINDOW_UPDATE; `increment` is not 0.
pub(crate) fn write_window_update(out: &mut BytesMut, stream: u32, increment: u32) {
    debug_assert!(increment > 0 && increment < 1 << 31, "an impossible increment");
    FrameHeader { length: 4, kind: Kind::WindowUpdate, flags: 0, stream }.write(out);
    out.extend_from_slice(&increment.to_be_bytes());
}

/// Writes a PING.
pub(crate) fn write_ping(out: &mut BytesMut, ack: bool, opaque: [u8; 8]) {
    let flags = if ack { flags::ACK } else { 0 };
    FrameHeader { length: 8, kind: Kind::Ping, flags, stream: 0 }.write(out);
    out.extend_from_slice(&opaque);
}

/// Writes a GOAWAY: streams of the peer above `last` were not looked at.
pub(crate) fn write_goaway(out: &mut BytesMut, last: u32, code: ErrorCode, debug: &str) {
    let length = 8 + debug.len();
    FrameHeader { length, kind: Kind::GoAway, flags: 0, stream: 0 }.write(out);
    out.extend_from_slice(&last.to_be_bytes());
    out.extend_from_slice(&code.0.to_be_bytes());
    out.extend_from_slice(debug.as_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_round_trip_and_the_reserved_bit_is_ignored() {
        for byte in 0..=255 {
            let kind = Kind::of(byte);
            assert_eq!(kind.byte(), byte);
            let header = FrameHeader { length: 0x01_0203, kind, flags: byte, stream: 0x0405_0607 };
            let mut bytes = header.bytes();
            assert_eq!(FrameHeader::parse(&bytes), Some(header));
            bytes[5] |= 0x80;
            assert_eq!(FrameHeader::parse(&bytes), Some(header));
            assert_eq!(FrameHeader::parse(&bytes[..8]), None);
        }
    }

    #[test]
    fn padding_must_fit() {
        let header = |flags| FrameHeader { length: 0, kind: Kind::Data, flags, stream: 1 };
        assert_eq!(unpad(header(0), b"\x09ab"), Ok(&b"\x09ab"[..]));
        let padded = header(flags::PADDED);
        assert_eq!(unpad(padded, b"\x02abPP"), Ok(&b"ab"[..]));
        assert_eq!(unpad(padded, b"\x02PP"), Ok(&b""[..]));
        assert_eq!(unpad(padded, b"\x03PP"), Err(Violation::Padding));
        assert_eq!(unpad(padded, b""), Err(Violation::FrameLength));
    }
}
