//! Frames of HTTP/2 (RFC 9113 §4.1), written and read without the core's help.

use std::fmt::{self, Display};

/// What a client sends first (RFC 9113 §3.4).
pub const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// Types of frames, by their number (RFC 9113 §6, RFC 9218 §7.1).
pub const KINDS: [(u8, &str); 11] = [
    (0, "DATA"),
    (1, "HEADERS"),
    (2, "PRIORITY"),
    (3, "RST_STREAM"),
    (4, "SETTINGS"),
    (5, "PUSH_PROMISE"),
    (6, "PING"),
    (7, "GOAWAY"),
    (8, "WINDOW_UPDATE"),
    (9, "CONTINUATION"),
    (16, "PRIORITY_UPDATE"),
];

/// Error codes, by their number (RFC 9113 §7).
pub const CODES: [&str; 14] = [
    "NO_ERROR",
    "PROTOCOL_ERROR",
    "INTERNAL_ERROR",
    "FLOW_CONTROL_ERROR",
    "SETTINGS_TIMEOUT",
    "STREAM_CLOSED",
    "FRAME_SIZE_ERROR",
    "REFUSED_STREAM",
    "CANCEL",
    "COMPRESSION_ERROR",
    "CONNECT_ERROR",
    "ENHANCE_YOUR_CALM",
    "INADEQUATE_SECURITY",
    "HTTP_1_1_REQUIRED",
];

/// Settings, by their number (RFC 9113 §6.5.2, RFC 8441 §9.1).
pub const SETTINGS: [(u16, &str); 7] = [
    (1, "HEADER_TABLE_SIZE"),
    (2, "ENABLE_PUSH"),
    (3, "MAX_CONCURRENT_STREAMS"),
    (4, "INITIAL_WINDOW_SIZE"),
    (5, "MAX_FRAME_SIZE"),
    (6, "MAX_HEADER_LIST_SIZE"),
    (8, "ENABLE_CONNECT_PROTOCOL"),
];

/// END_STREAM of DATA and HEADERS, ACK of SETTINGS and PING.
pub const END_STREAM: u8 = 0x1;
/// Of SETTINGS and PING.
pub const ACK: u8 = 0x1;
/// Of HEADERS and CONTINUATION.
pub const END_HEADERS: u8 = 0x4;
/// Of DATA and HEADERS.
pub const PADDED: u8 = 0x8;
/// Of HEADERS.
pub const PRIORITY: u8 = 0x20;

/// One frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    /// Its type.
    pub kind: u8,
    /// Its flags.
    pub flags: u8,
    /// Its stream.
    pub stream: u32,
    /// What follows the header.
    pub payload: Vec<u8>,
}

impl Frame {
    /// A frame.
    pub fn new(kind: u8, flags: u8, stream: u32, payload: impl Into<Vec<u8>>) -> Self {
        Frame { kind, flags, stream, payload: payload.into() }
    }

    /// SETTINGS.
    pub fn settings(entries: &[(u16, u32)]) -> Self {
        let entry =
            |&(id, value): &(u16, u32)| [&id.to_be_bytes()[..], &value.to_be_bytes()].concat();
        Frame::new(4, 0, 0, entries.iter().flat_map(entry).collect::<Vec<u8>>())
    }

    /// The acknowledgement of SETTINGS.
    pub fn settings_ack() -> Self {
        Frame::new(4, ACK, 0, [])
    }

    /// WINDOW_UPDATE.
    pub fn window_update(stream: u32, increment: u32) -> Self {
        Frame::new(8, 0, stream, increment.to_be_bytes())
    }

    /// RST_STREAM.
    pub fn reset(stream: u32, code: u32) -> Self {
        Frame::new(3, 0, stream, code.to_be_bytes())
    }

    /// PING.
    pub fn ping(opaque: [u8; 8]) -> Self {
        Frame::new(6, 0, 0, opaque)
    }

    /// DATA.
    pub fn data(stream: u32, end: bool, payload: &[u8]) -> Self {
        Frame::new(0, if end { END_STREAM } else { 0 }, stream, payload)
    }

    /// HEADERS of a whole block.
    pub fn headers(stream: u32, end: bool, fields: &[(&str, &str)]) -> Self {
        let mut block = Vec::new();
        for (name, value) in fields {
            literal(&mut block, name.as_bytes(), value.as_bytes());
        }
        Frame::new(1, END_HEADERS | if end { END_STREAM } else { 0 }, stream, block)
    }

    /// Appends it to `out`.
    pub fn write(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&(self.payload.len() as u32).to_be_bytes()[1..]);
        out.extend_from_slice(&[self.kind, self.flags]);
        out.extend_from_slice(&self.stream.to_be_bytes());
        out.extend_from_slice(&self.payload);
    }

    /// Its bytes.
    pub fn bytes(&self) -> Vec<u8> {
        let mut out = Vec::new();
        self.write(&mut out);
        out
    }

    /// Takes the frame at the front of `bytes`; `None` if it is not all there.
    pub fn take(bytes: &mut &[u8]) -> Option<Frame> {
        let (header, rest) = bytes.split_first_chunk::<9>()?;
        let length = u32::from_be_bytes([0, header[0], header[1], header[2]]) as usize;
        let (payload, rest) = rest.split_at_checked(length)?;
        let stream = u32::from_be_bytes([header[5], header[6], header[7], header[8]]);
        *bytes = rest;
        Some(Frame { kind: header[3], flags: header[4], stream, payload: payload.to_vec() })
    }

    /// The number at a place in the payload.
    pub fn word(&self, at: usize) -> Option<u32> {
        Some(u32::from_be_bytes(*self.payload.get(at..)?.first_chunk()?))
    }

    /// The number of a WINDOW_UPDATE, or the code of a RST_STREAM.
    pub fn first_word(&self) -> u32 {
        self.word(0).unwrap_or(0)
    }

    /// Is it of this type?
    pub fn is(&self, kind: &str) -> bool {
        KINDS.iter().any(|&(number, name)| number == self.kind && name == kind)
    }

    /// Has it this flag?
    pub fn has(&self, flag: u8) -> bool {
        self.flags & flag != 0
    }
}

/// All frames of `bytes`, which end with one.
///
/// # Panics
/// If they do not.
pub fn frames(mut bytes: &[u8]) -> Vec<Frame> {
    let mut frames = Vec::new();
    while let Some(frame) = Frame::take(&mut bytes) {
        frames.push(frame);
    }
    assert!(bytes.is_empty(), "{} bytes after the last frame", bytes.len());
    frames
}

/// Appends a literal field without indexing and without Huffman coding (RFC 7541 §6.2.2).
pub fn literal(out: &mut Vec<u8>, name: &[u8], value: &[u8]) {
    out.push(0);
    for text in [name, value] {
        integer(out, 0, 7, text.len());
        out.extend_from_slice(text);
    }
}

/// Appends an integer (RFC 7541 §5.1).
pub fn integer(out: &mut Vec<u8>, pattern: u8, prefix: u32, mut value: usize) {
    let mask = (1 << prefix) - 1;
    if value < mask {
        out.push(pattern | value as u8);
        return;
    }
    out.push(pattern | mask as u8);
    value -= mask;
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// The name of an error code.
pub fn code(number: u32) -> String {
    CODES.get(number as usize).map_or_else(|| format!("{number:#x}"), |&name| name.to_owned())
}

/// As in the table: `RST_STREAM(1, CANCEL)`. Payloads that are not short numbers are left out.
impl Display for Frame {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = KINDS.iter().find(|(number, _)| *number == self.kind).map(|(_, name)| *name);
        let word = self.first_word();
        let stream = self.stream;
        match name.unwrap_or("FRAME") {
            "DATA" => {
                let end = if self.has(END_STREAM) { "END_STREAM, " } else { "" };
                write!(f, "DATA({stream}, {end}{} bytes)", self.payload.len())
            }
            name @ ("HEADERS" | "CONTINUATION") => {
                write!(f, "{name}({stream}")?;
                let end = name == "HEADERS" && self.has(END_STREAM);
                write!(f, "{}", if end { ", END_STREAM" } else { "" })?;
                write!(f, "{})", if self.has(END_HEADERS) { ", END_HEADERS" } else { "" })
            }
            "RST_STREAM" => write!(f, "RST_STREAM({stream}, {})", code(word)),
            "WINDOW_UPDATE" => write!(f, "WINDOW_UPDATE({stream}, {word})"),
            "GOAWAY" => {
                write!(f, "GOAWAY({word}, {})", code(self.word(4).unwrap_or(0)))
            }
            name @ ("SETTINGS" | "PING") if self.has(ACK) => write!(f, "{name}_ACK"),
            name @ ("SETTINGS" | "PING") => write!(f, "{name}"),
            name => write!(f, "{name}({:#x}, {stream})", self.flags),
        }
    }
}
