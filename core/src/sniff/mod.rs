//! Protocol detection: what a connection speaks, told from its first bytes.
//!
//! A [`Sniffer`] only looks. It consumes nothing, so whatever the answer is, every byte that was
//! received is still there to be parsed or forwarded.
//!
//! ```
//! use selvedge_core::sniff::{Protocol, Sniffer};
//!
//! let mut sniffer = Sniffer::default();
//! assert_eq!(sniffer.sniff(b"GE"), None);
//! assert_eq!(sniffer.sniff(b"GET "), Some(Protocol::Http1));
//! ```
//!
//! Three beginnings are known:
//!
//! ```text
//! HTTP/1   *LEADING_EMPTY_LINES( CR LF ) registered-method SP
//!          *LEADING_EMPTY_LINES( CR LF ) *text [ SP *( text / SP / obs-text ) ]
//!                                        SP "HTTP/" DIGIT "." DIGIT [ CR ] LF
//!          text = %x21-7E / HTAB;  obs-text = %x80-FF
//! HTTP/2   "PRI * HTTP/2.0" CR LF CR LF "SM" CR LF CR LF
//! TLS      22, 3, 0..4, length (2 bytes), 1                 record header, ClientHello
//! ```
//!
//! The second form of HTTP/1 is much wider than a request line: a line that claims to be HTTP is
//! answered as HTTP, with an error if it deserves one (`G(T / HTTP/1.1`, ` GET / HTTP/1.1`), and
//! never forwarded unread. Everything else is [`Protocol::Opaque`], from the first byte on that
//! rules all three out: for text that is the end of its first line, for most binary protocols one
//! of the first bytes.
//!
//! What that width costs: a text protocol whose client sends part of a line and then waits for the
//! server (a JSON value or an XML stream header without a line end) is forwarded only when
//! [`Timeouts::detect_prefix`](crate::config::Timeouts::detect_prefix) has passed, 1 s by default.
//! Protocols that end their lines at once (Redis, SMTP, memcached) or that use control characters
//! (PostgreSQL, MongoDB, Kafka) do not wait. A port marked opaque never does.

mod methods;
#[cfg(test)]
mod tests;

pub(crate) use methods::is_registered;

use crate::limits::Limits;

/// What the first bytes of a connection are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Protocol {
    /// HTTP/1.0 or HTTP/1.1, or something that is to be answered by HTTP/1: its errors are not
    /// forwarded (RFC 9112).
    Http1,
    /// The whole HTTP/2 preface with prior knowledge (RFC 9113 §3.4).
    Http2,
    /// A TLS handshake record that begins with a ClientHello (RFC 8446 §4.1.2, §5.1).
    Tls,
    /// None of these: forward it untouched.
    Opaque,
}

/// Reads the beginning of one connection, whichever way it is cut.
///
/// It takes one byte at a time and stops at the byte that decides, so the answer depends neither on
/// how the input arrived nor on what follows that byte. Bytes seen in an earlier call are not read
/// again, but for the few that a decision is about.
#[derive(Clone, Copy, Debug, Default)]
pub struct Sniffer {
    /// Bytes read so far. At most [`Sniffer::MAX_BYTES`].
    scanned: u32,
    /// Where the first line begins: 2 for every empty line before it.
    line_start: u8,
    stage: Stage,
}

/// What has been read so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Stage {
    /// Nothing.
    #[default]
    Start,
    /// A TLS content type, and more of a record header.
    Tls,
    /// The CR of an empty line.
    EmptyLine,
    /// Empty lines, but nothing of the line after them.
    LineStart,
    /// Part of a line, without a SP: of what would be a method.
    Method,
    /// `PRI ` and more of the HTTP/2 preface.
    Preface,
    /// Something that is not a registered method, a SP, and more of the line.
    Line,
    /// A line that ends in `SP HTTP/d.d`, and a CR.
    LineEnd,
    Decided(Protocol),
}

impl Sniffer {
    /// The longest first line that is waited for when no registered method begins it, without its
    /// CRLF: the default of [`Limits::target_bytes`] and room for method and version. A longer one
    /// is opaque, so that text without line ends does not pile up here.
    pub const LINE_BYTES: usize = 33 * 1024;

    /// The decision has fallen when this many bytes are there.
    pub const MAX_BYTES: usize = 2 * Limits::LEADING_EMPTY_LINES + Self::LINE_BYTES + 2;

    /// What the connection speaks, or `None` while that depends on bytes that are not there yet.
    ///
    /// `buf` is everything received since the connection began: it starts with the `buf` of the
    /// call before. A decision is final.
    pub fn sniff(&mut self, buf: &[u8]) -> Option<Protocol> {
        loop {
            if let Stage::Decided(protocol) = self.stage {
                return Some(protocol);
            }
            let at = self.scanned as usize;
            let byte = *buf.get(at)?;
            self.stage = self.next(byte, &buf[..at]);
            self.scanned += 1;
        }
    }

    /// The stage after `byte`, which `before` precedes.
    fn next(&mut self, byte: u8, before: &[u8]) -> Stage {
        const OPAQUE: Stage = Stage::Decided(Protocol::Opaque);
        const HTTP1: Stage = Stage::Decided(Protocol::Http1);
        let line = &before[usize::from(self.line_start)..];
        match self.stage {
            Stage::Start if byte == HANDSHAKE => Stage::Tls,
            Stage::Start | Stage::LineStart => match byte {
                b'\r' if before.len() < 2 * Limits::LEADING_EMPTY_LINES => Stage::EmptyLine,
                b' ' => Stage::Line,
                byte if is_text(byte) => Stage::Method,
                _ => OPAQUE,
            },
            Stage::EmptyLine if byte == b'\n' => {
                self.line_start += 2;
                Stage::LineStart
            }
            Stage::Method if byte == b' ' => match line {
                // The preface is the very beginning of a connection or it is none.
                b"PRI" if self.line_start == 0 => Stage::Preface,
                method if is_registered(method) => HTTP1,
                _ if line.len() < Self::LINE_BYTES => Stage::Line,
                _ => OPAQUE,
            },
            Stage::Method if is_text(byte) && line.len() < Self::LINE_BYTES => Stage::Method,
            Stage::Preface => match PREFACE.get(before.len()) {
                Some(&expected) if byte != expected => HTTP1,
                _ if before.len() + 1 == PREFACE.len() => Stage::Decided(Protocol::Http2),
                _ => Stage::Preface,
            },
            Stage::Line => match byte {
                b'\r' if ends_in_version(line) => Stage::LineEnd,
                b'\n' if ends_in_version(line) => HTTP1,
                b'\t' | b' '..=b'~' | 0x80.. if line.len() < Self::LINE_BYTES => Stage::Line,
                _ => OPAQUE,
            },
            Stage::LineEnd if byte == b'\n' => HTTP1,
            Stage::Tls => next_tls(byte, before).map_or(Stage::Tls, Stage::Decided),
            Stage::EmptyLine | Stage::Method | Stage::LineEnd => OPAQUE,
            Stage::Decided(protocol) => Stage::Decided(protocol),
        }
    }
}

/// The client's connection preface (RFC 9113 §3.4).
const PREFACE: &[u8; 24] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// `ContentType.handshake` (RFC 8446 §5.1).
const HANDSHAKE: u8 = 22;
/// `HandshakeType.client_hello` (RFC 8446 §4).
const CLIENT_HELLO: u8 = 1;
/// Longest record: 2¹⁴ bytes, and what encryption may add (RFC 8446 §5.2). A ClientHello is not
/// encrypted, but no server minds the difference here.
const MAX_RECORD: u16 = (1 << 14) + 256;

/// One more byte of a record header and of the handshake header in it.
///
/// ```text
///    0      1       2       3  4      5
/// +------+-------+-------+---------+------+
/// | type | major | minor | length  | msg  |
/// |  22  |   3   |  0..4 |         |  1   |
/// +------+-------+-------+---------+------+
/// ```
fn next_tls(byte: u8, before: &[u8]) -> Option<Protocol> {
    const MAX: [u8; 2] = MAX_RECORD.to_be_bytes();
    let possible = match *before {
        [_] => byte == 3,
        // 1.0 to 1.3 are 1 to 4; clients write 0 (SSL 3.0), 1 or 3 here, whatever they speak.
        [_, _] => byte <= 4,
        [_, _, _] => byte <= MAX[0],
        [_, _, _, high] => (1..=MAX_RECORD).contains(&u16::from_be_bytes([high, byte])),
        _ if byte == CLIENT_HELLO => return Some(Protocol::Tls),
        _ => false,
    };
    (!possible).then_some(Protocol::Opaque)
}

/// Whether a line, without its end, ends in `SP HTTP/d.d` (RFC 9112 §2.3, §3).
fn ends_in_version(line: &[u8]) -> bool {
    matches!(line, [.., b' ', b'H', b'T', b'T', b'P', b'/', major, b'.', minor]
        if major.is_ascii_digit() && minor.is_ascii_digit())
}

/// What a line that ends in `SP HTTP/d.d` may hold before its first SP. Bytes beyond ASCII are not
/// among it, so that binary protocols are told by them.
fn is_text(byte: u8) -> bool {
    matches!(byte, b'\t' | b'!'..=b'~')
}
