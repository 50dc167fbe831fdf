//! The first message of a TLS client: whom it wants to talk to, and how.
//!
//! A [`HelloScanner`] only looks. It consumes nothing, so whatever the answer is, every byte that
//! was received is still there to be decrypted or forwarded.
//!
//! ```text
//!  record   | 22 | 3 | 0..4 | length (2)    | fragment of the message …        RFC 8446 §5.1
//!  message  |  1 | length (3)               | ClientHello                      RFC 8446 §4
//!  hello    | 3 | minor | random (32)       | session id <0..32>               RFC 8446 §4.1.2
//!           | cipher suites <2..2^16-2>     | compression methods <1..2^8-1>
//!           | extensions <0..2^16-1>: of them server_name (0) and
//!           |   application_layer_protocol_negotiation (16)                    RFC 6066 §3, 7301 §3.1
//! ```
//!
//! Records and the fields of the message need not begin or end together: a message may lie in one
//! record with room to spare, or in records of one byte each. Of the extensions only the two that
//! routing needs are read; the others, GREASE (RFC 8701) among them, are stepped over. Of an
//! encrypted ClientHello the outer name is what is seen, as its sender wants (RFC 9849 §6.1).

mod extensions;
mod malformed;
#[cfg(test)]
pub(crate) mod tests;

use alloc::vec::Vec;
use core::ops::Range;

pub use extensions::Protocols;
pub use malformed::Malformed;

/// What a complete ClientHello says, borrowed from where it was received.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClientHello<'a> {
    /// The host name that the client wants to reach (RFC 6066 §3), as it was written but for a
    /// trailing dot. `None`: it names nobody, or an address, which is no host name.
    pub server_name: Option<&'a str>,
    /// The application protocols that it offers (RFC 7301), the one it likes best first.
    pub protocols: Protocols<'a>,
}

/// Reads the ClientHello at the beginning of one connection, whichever way it is cut.
///
/// Each byte is looked at once, but for those of a record header that is not complete.
///
/// ```
/// use selvedge_core::tls::{HelloScanner, Malformed};
///
/// let mut scanner = HelloScanner::default();
/// let mut scratch = Vec::new();
/// assert_eq!(scanner.scan(b"\x16\x03\x01", &mut scratch, 65_536), Ok(None));
/// let answer = scanner.scan(b"\x16\x03\x01\x00\x00", &mut scratch, 65_536);
/// assert_eq!(answer, Err(Malformed::RecordLength));
/// ```
#[derive(Clone, Debug, Default)]
pub struct HelloScanner {
    /// Bytes of the buffer that were read.
    read: usize,
    /// Bytes of the current record that were not.
    record: usize,
    /// Bytes of the message behind the current field.
    rest: usize,
    field: Field,
    /// Bytes of the current field that are still to come.
    missing: usize,
    /// The current field as a number.
    value: u32,
    server_name: Option<Span>,
    protocols: Option<Span>,
}

/// Where the body of an extension lies.
#[derive(Clone, Copy, Debug)]
struct Span {
    /// Of its first byte, or of the record header before that.
    start: usize,
    /// Bytes from there to the end of the record.
    record: usize,
    /// Without record headers.
    len: usize,
}

/// The parts of the message in their order. Those that are numbers say how long what follows is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Field {
    #[default]
    Start,
    /// Type (1 byte) and length (3) of the handshake message.
    Header,
    Version,
    Random,
    SessionLength,
    Session,
    SuitesLength,
    Suites,
    CompressionLength,
    Compression,
    ExtensionsLength,
    /// Type (2 bytes) and length (2) of an extension.
    ExtensionHeader,
    Extension,
    Done,
    Failed(Malformed),
}

impl HelloScanner {
    /// What the client says, or `None` while that depends on bytes that are not there yet.
    ///
    /// `buf` is everything received since the connection began: it starts with the `buf` of the
    /// call before. What follows the record in which the message ends is not looked at. `scratch`
    /// is only used for an extension that lies in more than one record. `limit` bounds the bytes
    /// from the first record header to the end of the message; the longest message whose end is
    /// waited for depends on nothing else.
    ///
    /// # Errors
    ///
    /// Why it is no ClientHello that a server would take, as soon as that is known. Final, like
    /// every other answer.
    pub fn scan<'a>(
        &mut self,
        buf: &'a [u8],
        scratch: &'a mut Vec<u8>,
        limit: usize,
    ) -> Result<Option<ClientHello<'a>>, Malformed> {
        match self.advance(buf, limit) {
            Ok(true) => self.result(buf, scratch).map(Some),
            Ok(false) => Ok(None),
            Err(reason) => {
                (self.field, self.missing) = (Field::Failed(reason), 0);
                Err(reason)
            }
        }
    }

    /// Reads what is there. Whether the message is complete.
    fn advance(&mut self, buf: &[u8], limit: usize) -> Result<bool, Malformed> {
        loop {
            if self.missing == 0 {
                match self.field {
                    Field::Done => return Ok(true),
                    Field::Failed(reason) => return Err(reason),
                    _ => self.end_field(limit)?,
                }
            } else if self.record == 0 {
                let header = &buf[self.read.min(buf.len())..];
                let Some(length) = record_length(header)? else { return Ok(false) };
                self.read += RECORD_HEADER;
                self.record = length;
                // Records of a few bytes each: the end of the message moves away.
                self.check_limit(limit)?;
            } else {
                let n = self.missing.min(self.record);
                let Some(bytes) = buf.get(self.read..).filter(|bytes| !bytes.is_empty()) else {
                    return Ok(false);
                };
                let bytes = &bytes[..n.min(bytes.len())];
                if self.field.is_number() {
                    self.value = bytes.iter().fold(self.value, |v, &b| v << 8 | u32::from(b));
                }
                self.read += bytes.len();
                self.record -= bytes.len();
                self.missing -= bytes.len();
            }
        }
    }

    /// The current field is complete: what it says about the next.
    fn end_field(&mut self, limit: usize) -> Result<(), Malformed> {
        let value = self.value as usize;
        let (field, len) = match self.field {
            Field::Start => {
                self.rest = MESSAGE_HEADER;
                (Field::Header, MESSAGE_HEADER)
            }
            Field::Header => {
                if value >> 24 != usize::from(CLIENT_HELLO) {
                    return Err(Malformed::MessageType);
                }
                self.rest = value & 0xff_ffff;
                self.check_limit(limit)?;
                (Field::Version, 2)
            }
            Field::Version if value >> 8 != 3 => return Err(Malformed::Version),
            Field::Version => (Field::Random, 32),
            Field::Random => (Field::SessionLength, 1),
            Field::SessionLength if value > 32 => return Err(Malformed::SessionId),
            Field::SessionLength => (Field::Session, value),
            Field::Session => (Field::SuitesLength, 2),
            Field::SuitesLength if value == 0 || value % 2 == 1 => {
                return Err(Malformed::CipherSuites);
            }
            Field::SuitesLength => (Field::Suites, value),
            Field::Suites => (Field::CompressionLength, 1),
            Field::CompressionLength if value == 0 => return Err(Malformed::Compression),
            Field::CompressionLength => (Field::Compression, value),
            // TLS 1.2 and older need not have extensions (RFC 5246 §7.4.1.2).
            Field::Compression if self.rest == 0 => return self.end_message(),
            Field::Compression => (Field::ExtensionsLength, 2),
            Field::ExtensionsLength if value != self.rest => {
                return Err(Malformed::ExtensionsLength);
            }
            Field::ExtensionHeader => {
                self.begin_extension(value >> 16, value & 0xffff)?;
                (Field::Extension, value & 0xffff)
            }
            Field::ExtensionsLength | Field::Extension if self.rest == 0 => {
                return self.end_message();
            }
            Field::ExtensionsLength | Field::Extension => (Field::ExtensionHeader, 4),
            Field::Done | Field::Failed(_) => return Ok(()),
        };
        (self.field, self.missing, self.value) = (field, len, 0);
        self.rest = self.rest.checked_sub(len).ok_or(Malformed::Length)?;
        Ok(())
    }

    /// The end of the message, as far as is known, is not beyond the limit.
    fn check_limit(&self, limit: usize) -> Result<(), Malformed> {
        let end = self.read + self.missing + self.rest;
        if end > limit { Err(Malformed::TooLarge) } else { Ok(()) }
    }

    /// Notes where an extension lies that is read later.
    fn begin_extension(&mut self, kind: usize, len: usize) -> Result<(), Malformed> {
        let (place, repeated) = match kind {
            SERVER_NAME => (&mut self.server_name, Malformed::ServerNameRepeated),
            PROTOCOLS => (&mut self.protocols, Malformed::ProtocolsRepeated),
            _ => return Ok(()),
        };
        let span = Span { start: self.read, record: self.record, len };
        if place.replace(span).is_some() { Err(repeated) } else { Ok(()) }
    }

    fn end_message(&mut self) -> Result<(), Malformed> {
        if self.record > 0 {
            return Err(Malformed::Trailing);
        }
        self.field = Field::Done;
        Ok(())
    }

    /// Reads the extensions of a complete message.
    fn result<'a>(
        &self,
        buf: &'a [u8],
        scratch: &'a mut Vec<u8>,
    ) -> Result<ClientHello<'a>, Malformed> {
        scratch.clear();
        let mut gather = |span: Span| span.gather(buf, scratch);
        let server_name = self.server_name.map(&mut gather);
        let protocols = self.protocols.map(&mut gather);
        let scratch: &'a [u8] = scratch;
        let body = |place| match place {
            Place::Buffer(range) => buf.get(range).unwrap_or_default(),
            Place::Scratch(range) => scratch.get(range).unwrap_or_default(),
        };
        let server_name = match server_name {
            Some(place) => extensions::server_name(body(place))?,
            None => None,
        };
        let protocols = match protocols {
            Some(place) => Protocols::read(body(place))?,
            None => Protocols::default(),
        };
        Ok(ClientHello { server_name, protocols })
    }
}

impl Field {
    /// Is it read as a number? The others are stepped over.
    fn is_number(self) -> bool {
        !matches!(
            self,
            Field::Random | Field::Session | Field::Suites | Field::Compression | Field::Extension
        )
    }
}

/// Where the body of an extension can be read in one piece.
enum Place {
    Buffer(Range<usize>),
    Scratch(Range<usize>),
}

impl Span {
    /// Puts the pieces of a body together, if there are several.
    fn gather(self, buf: &[u8], scratch: &mut Vec<u8>) -> Place {
        let Span { mut start, mut record, len: mut left } = self;
        if left <= record {
            return Place::Buffer(start..start + left);
        }
        let begin = scratch.len();
        while left > 0 {
            if record == 0 {
                let header = buf.get(start..).unwrap_or_default();
                let Ok(Some(length)) = record_length(header) else { break };
                (start, record) = (start + RECORD_HEADER, length);
            }
            let n = left.min(record);
            scratch.extend_from_slice(buf.get(start..start + n).unwrap_or_default());
            (start, record, left) = (start + n, record - n, left - n);
        }
        Place::Scratch(begin..scratch.len())
    }
}

/// Type, version and length of a record.
const RECORD_HEADER: usize = 5;
/// Type and length of a handshake message.
const MESSAGE_HEADER: usize = 4;
/// `ContentType.handshake` (RFC 8446 §5.1).
const HANDSHAKE: u8 = 22;
/// `HandshakeType.client_hello` (RFC 8446 §4).
const CLIENT_HELLO: u8 = 1;
/// The longest fragment that is not encrypted (RFC 8446 §5.1).
const MAX_FRAGMENT: usize = 1 << 14;
/// `ExtensionType.server_name` (RFC 6066 §1.1).
const SERVER_NAME: usize = 0;
/// `ExtensionType.application_layer_protocol_negotiation` (RFC 7301 §3.1).
const PROTOCOLS: usize = 16;

/// The length of the fragment behind a record header; `None` if the header is not complete, and
/// not wrong so far.
fn record_length(bytes: &[u8]) -> Result<Option<usize>, Malformed> {
    if bytes.first().is_some_and(|&kind| kind != HANDSHAKE) {
        return Err(Malformed::RecordType);
    }
    // legacy_record_version: clients write 3.0, 3.1 or 3.3 here, whatever they speak.
    if bytes.get(1).is_some_and(|&major| major != 3) || bytes.get(2).is_some_and(|&minor| minor > 4)
    {
        return Err(Malformed::RecordVersion);
    }
    let &[_, _, _, high, low, ..] = bytes else { return Ok(None) };
    match usize::from(u16::from_be_bytes([high, low])) {
        0 => Err(Malformed::RecordLength),
        length if length > MAX_FRAGMENT => Err(Malformed::RecordLength),
        length => Ok(Some(length)),
    }
}
