//! Where the body is in what was received.

use bytes::{Buf, BytesMut};

use super::Framing;
use super::scan::{HeadKind, HeadScanner};
use crate::error::Reason;
use crate::http::grammar::is_tchar;
use crate::limits::Limits;

/// Decodes the body of one message. Never copies, never looks at a byte twice.
#[derive(Debug)]
pub struct BodyDecoder(State);

const _: () = assert!(size_of::<BodyDecoder>() <= 32);

/// What is at the front of the buffer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Body {
    /// Nothing that can be used yet.
    NeedMore,
    /// So many bytes of data, at least 1. The caller takes exactly these from the buffer before it
    /// decodes again.
    Data(usize),
    /// A complete trailer section of so many bytes: its lines and the final empty line, so at least
    /// 2. The caller encodes it ([`encode_last_chunk`](super::encode_last_chunk)) and takes it from
    /// the buffer. The decoder is done.
    Trailers(usize),
    /// Nothing of this message: the body is over, and what is left in the buffer follows it.
    End,
}

/// The connection closed before the body was complete (RFC 9112 §8).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Truncated;

impl BodyDecoder {
    /// A decoder at the first byte after the head.
    pub fn new(framing: Framing) -> Self {
        BodyDecoder(match framing {
            Framing::None | Framing::Length(0) => State::Done,
            Framing::Length(length) => State::Length(length),
            Framing::Chunked => State::Size { size: 0, digits: 0 },
            Framing::UntilClose => State::UntilClose,
        })
    }

    /// Was the whole body seen?
    pub fn is_done(&self) -> bool {
        matches!(self.0, State::Done)
    }

    /// Says what is at the front of `buf`, after taking chunk-size lines and the CRLF after chunk
    /// data from it.
    ///
    /// # Errors
    ///
    /// [`Reason::ChunkSize`], [`Reason::ChunkExtension`], [`Reason::ChunkEnd`], [`Reason::BareLf`],
    /// [`Reason::BareCr`], and for trailers those of [`HeadScanner::scan`]. The connection cannot be
    /// used any more.
    pub fn decode(&mut self, buf: &mut BytesMut, limits: &Limits) -> Result<Body, Reason> {
        let mut used = 0;
        let body = loop {
            let rest = &buf[used..];
            match &mut self.0 {
                State::Done => break Body::End,
                _ if rest.is_empty() => break Body::NeedMore,
                State::UntilClose => break Body::Data(rest.len()),
                State::Length(left) => {
                    let n = take(left, rest.len());
                    if *left == 0 {
                        self.0 = State::Done;
                    }
                    break Body::Data(n);
                }
                State::Data(left) => {
                    let n = take(left, rest.len());
                    if *left == 0 {
                        self.0 = State::DataCr;
                    }
                    break Body::Data(n);
                }
                State::Trailers(scanner) => match scanner.scan(rest, HeadKind::Trailers, limits)? {
                    None => break Body::NeedMore,
                    Some(len) => {
                        self.0 = State::Done;
                        break Body::Trailers(len);
                    }
                },
                line => {
                    line.step(rest[0])?;
                    used += 1;
                }
            }
        };
        if used > 0 {
            buf.advance(used);
        }
        Ok(body)
    }

    /// The connection closed. Is the message complete?
    ///
    /// # Errors
    ///
    /// [`Truncated`] unless the body was over or ends with the connection.
    pub fn eof(&self) -> Result<(), Truncated> {
        match self.0 {
            State::Done | State::UntilClose => Ok(()),
            _ => Err(Truncated),
        }
    }
}

fn take(left: &mut u64, available: usize) -> usize {
    let n = usize::try_from(*left).unwrap_or(usize::MAX).min(available);
    *left -= n as u64;
    n
}

#[derive(Debug)]
enum State {
    Done,
    /// So many bytes are to come.
    Length(u64),
    UntilClose,
    /// In `chunk-size`, after so many digits.
    Size {
        size: u64,
        digits: u8,
    },
    /// In `chunk-ext`, after so many bytes of it.
    Extension {
        size: u64,
        len: u16,
        at: Extension,
    },
    /// After the CR of a chunk-size line.
    SizeLf {
        size: u64,
    },
    /// So many bytes of this chunk are to come, at least 1.
    Data(u64),
    DataCr,
    DataLf,
    Trailers(HeadScanner),
}

/// `chunk-ext = *( BWS ";" BWS name [ BWS "=" BWS ( token / quoted-string ) ] )`, RFC 9112 §7.1.1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Extension {
    /// In whitespace before `;`.
    Semicolon,
    /// After `;`, at most whitespace so far.
    NameStart,
    Name,
    /// In whitespace after a name: `=` or `;` may follow.
    NameEnd,
    /// After `=`, at most whitespace so far.
    ValueStart,
    Token,
    Quoted,
    /// After a backslash.
    Escaped,
    /// After the closing quote.
    QuotedEnd,
}

impl State {
    /// Consumes one byte of framing.
    fn step(&mut self, byte: u8) -> Result<(), Reason> {
        *self = match *self {
            State::Size { size, digits } => match (byte as char).to_digit(16) {
                // 16 digits are 64 bits.
                Some(_) if digits == 16 => return Err(Reason::ChunkSize),
                Some(digit) => {
                    State::Size { size: size << 4 | u64::from(digit), digits: digits + 1 }
                }
                None if byte == b'\n' => return Err(Reason::BareLf),
                None if digits == 0 => return Err(Reason::ChunkSize),
                None => match byte {
                    b'\r' => State::SizeLf { size },
                    b';' => extension(size, Extension::NameStart),
                    b' ' | b'\t' => extension(size, Extension::Semicolon),
                    _ => return Err(Reason::ChunkSize),
                },
            },
            State::Extension { size, len, at } => {
                if usize::from(len) >= Limits::CHUNK_EXTENSION_BYTES {
                    return Err(Reason::ChunkExtension);
                }
                match at.next(byte)? {
                    Some(at) => State::Extension { size, len: len + 1, at },
                    None => State::SizeLf { size },
                }
            }
            State::SizeLf { .. } if byte != b'\n' => return Err(Reason::BareCr),
            State::SizeLf { size: 0 } => State::Trailers(HeadScanner::default()),
            State::SizeLf { size } => State::Data(size),
            State::DataCr if byte == b'\r' => State::DataLf,
            State::DataLf if byte == b'\n' => State::Size { size: 0, digits: 0 },
            // The other states are not in a line and do not come here.
            _ => return Err(Reason::ChunkEnd),
        };
        Ok(())
    }
}

/// After the first byte of an extension.
fn extension(size: u64, at: Extension) -> State {
    State::Extension { size, len: 1, at }
}

impl Extension {
    /// What follows `byte`; `None` after the CR that ends the line.
    fn next(self, byte: u8) -> Result<Option<Extension>, Reason> {
        use Extension::{
            Escaped, Name, NameEnd, NameStart, Quoted, QuotedEnd, Semicolon, Token, ValueStart,
        };
        let may_end = matches!(self, Name | Token | QuotedEnd);
        let next = match (self, byte) {
            (_, b'\n') => return Err(Reason::BareLf),
            (_, b'\r') if may_end => return Ok(None),
            (Semicolon, b' ' | b'\t') => Semicolon,
            (Semicolon | Name | NameEnd | Token | QuotedEnd, b';') => NameStart,
            (NameStart, b' ' | b'\t') => NameStart,
            (NameStart | Name, _) if is_tchar(byte) => Name,
            (Name | NameEnd, b'=') => ValueStart,
            (Name | NameEnd, b' ' | b'\t') => NameEnd,
            (ValueStart, b' ' | b'\t') => ValueStart,
            (ValueStart, b'"') => Quoted,
            (ValueStart | Token, _) if is_tchar(byte) => Token,
            (Token | QuotedEnd, b' ' | b'\t') => Semicolon,
            (Quoted, b'"') => QuotedEnd,
            (Quoted, b'\\') => Escaped,
            (Quoted | Escaped, b'\t' | b' '..=b'~' | 0x80..) => Quoted,
            _ => return Err(Reason::ChunkExtension),
        };
        Ok(Some(next))
    }
}
