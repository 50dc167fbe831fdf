//! What one proxy tells the other about a connection that is no HTTP of its own: which port, and
//! whose, it is for. The wire is Linkerd's.
//!
//! A client offers [`PROTOCOL`] by ALPN (RFC 7301). If the server takes it, the first bytes of the
//! client are this header; what follows belongs to the connection.
//!
//! ```text
//! | "transport.l5d.io/v1" CR LF CR LF | length (4) | message (length) |
//!
//! message TransportHeader {
//!   int32 port = 1;                          // 1 to 65535
//!   string name = 2;                         // for a gateway
//!   SessionProtocol session_protocol = 3;    // none: opaque
//! }
//! message SessionProtocol { oneof kind { Http1 http1 = 1; Http2 http2 = 2; } }
//! ```

mod protobuf;
#[cfg(test)]
mod tests;

use core::num::NonZeroU16;

use bytes::{BufMut, BytesMut};

use super::name;
use protobuf::{Fields, Value};

/// The name of the protocol in ALPN, and in the first bytes.
pub const PROTOCOL: &[u8] = b"transport.l5d.io/v1";

/// What the header begins with.
const PREFACE: &[u8; 23] = b"transport.l5d.io/v1\r\n\r\n";

/// The longest header, preface and length included (linkerd2-proxy: 64 KiB).
pub const MAX_BYTES: usize = 64 * 1024;

/// What a connection is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TransportHeader<'a> {
    /// The port it is for: of the app, or of `name`.
    pub port: NonZeroU16,
    /// The host it is for, if not this one. Lower case or not, without a trailing dot.
    pub name: Option<&'a str>,
    /// What is spoken on it. `None`: it is opaque.
    pub session: Option<SessionProtocol>,
}

/// What is spoken behind a [`TransportHeader`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum SessionProtocol {
    /// HTTP/1.
    Http1,
    /// HTTP/2 with prior knowledge.
    Http2,
}

faults! {
    /// Why something is no transport header. Nothing behind it can be served.
    Malformed:

    /// It ended, or paused for too long, before it was complete.
    Incomplete = "incomplete", "transport header not complete";
    /// It begins with something else.
    Preface = "preface", "not a transport header";
    /// It is longer than [`MAX_BYTES`].
    TooLarge = "too_large", "transport header too large";
    /// A number of more than ten bytes or 64 bits.
    Varint = "varint", "malformed number";
    /// A field with the number 0, or of a type that protobuf no longer has or never had.
    Tag = "tag", "malformed field tag";
    /// A field that is longer than what contains it.
    Length = "length", "field longer than the header";
    /// A field of the header with the type of another.
    WireType = "wire_type", "field of the wrong type";
    /// No port, or one that is not between 1 and 65535.
    Port = "port", "port out of range";
    /// A name that is no host name.
    Name = "name", "name is not a host name";
}

impl<'a> TransportHeader<'a> {
    /// Reads the header at the beginning of `buf`, whichever way it was cut: how long it is and what
    /// it says, or `None` while that depends on bytes that are not there yet. Until it is complete,
    /// only its preface and length are looked at.
    ///
    /// # Errors
    ///
    /// Why it is none, as soon as that is known.
    pub fn decode(buf: &'a [u8]) -> Result<Option<(usize, Self)>, Malformed> {
        let known = buf.len().min(PREFACE.len());
        if buf[..known] != PREFACE[..known] {
            return Err(Malformed::Preface);
        }
        let Some((length, rest)) = buf[known..].split_first_chunk() else { return Ok(None) };
        let start = buf.len() - rest.len();
        let length = u32::from_be_bytes(*length) as usize;
        if length > MAX_BYTES - start {
            return Err(Malformed::TooLarge);
        }
        match rest.get(..length) {
            Some(message) => Ok(Some((start + length, Self::read(message)?))),
            None => Ok(None),
        }
    }

    /// Reads the message. As everywhere in protobuf, the last of several wins, and what is unknown
    /// is skipped.
    fn read(message: &'a [u8]) -> Result<Self, Malformed> {
        let (mut port, mut name, mut session) = (0, &[][..], None);
        for field in Fields::new(message) {
            match field? {
                // An int32 is as long as an int64 on the wire, and is cut.
                (1, Value::Varint(value)) => port = value as u32,
                (2, Value::Bytes(value)) => name = value,
                (3, Value::Bytes(value)) => session = read_session(value)?.or(session),
                (1..=3, _) => return Err(Malformed::WireType),
                _ => {}
            }
        }
        let port = u16::try_from(port).ok().and_then(NonZeroU16::new).ok_or(Malformed::Port)?;
        let name = match name {
            [] => None,
            name => Some(name::host(name).map_err(|_| Malformed::Name)?),
        };
        Ok(TransportHeader { port, name, session })
    }

    /// Writes the header. A name that is longer than a host name can be is the caller's mistake, and
    /// is refused by whoever reads it.
    pub fn encode(&self, out: &mut BytesMut) {
        out.put_slice(PREFACE);
        let length_at = out.len();
        out.put_u32(0);
        protobuf::put_varint(out, 1, u64::from(self.port.get()));
        if let Some(name) = self.name {
            protobuf::put_bytes(out, 2, name.as_bytes());
        }
        match self.session {
            // A message with an empty one in it.
            Some(SessionProtocol::Http1) => protobuf::put_bytes(out, 3, &[0x0a, 0]),
            Some(SessionProtocol::Http2) => protobuf::put_bytes(out, 3, &[0x12, 0]),
            None => {}
        }
        let length = (out.len() - length_at - 4) as u32;
        out[length_at..length_at + 4].copy_from_slice(&length.to_be_bytes());
    }
}

/// Reads a `SessionProtocol`. A kind that is unknown is as good as none.
fn read_session(message: &[u8]) -> Result<Option<SessionProtocol>, Malformed> {
    let mut session = None;
    for field in Fields::new(message) {
        let (protocol, inner) = match field? {
            (1, Value::Bytes(inner)) => (SessionProtocol::Http1, inner),
            (2, Value::Bytes(inner)) => (SessionProtocol::Http2, inner),
            (1 | 2, _) => return Err(Malformed::WireType),
            _ => continue,
        };
        // Nothing is in there yet, and later versions may have something.
        Fields::new(inner).try_for_each(|field| field.map(drop))?;
        session = Some(protocol);
    }
    Ok(session)
}
