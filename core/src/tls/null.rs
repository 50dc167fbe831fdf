//! Sessions without cryptography, for tests and simulations: everything that TLS does to the engine
//! happens (a handshake of three flights, names, ALPN, records, alerts, close_notify, truncation),
//! and all of it is a function of the bytes.
//!
//! ```text
//!   client: ClientHello, a real one, with a private extension that holds its certificate
//!   server: record 22: 1, anchor, protocol, certificate      or an alert
//!   client: record 22: 2                                       or an alert
//!   both:   record 23: masked bytes, sum                        record 21: alert
//! ```
//!
//! The server knows its peer before the client does, as in TLS 1.3 a client is done first.

use alloc::boxed::Box;
use alloc::format;
use alloc::string::ToString;
use alloc::vec::Vec;

use bytes::{Buf, BufMut, BytesMut};

use super::session::{Expected, Failure, MAX_RECORD, Peer, Problem, Provider, Session};
use crate::identity::Name;
use crate::time::UnixTime;

/// What stands for a certificate: a name that an anchor vouches for, for a time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Certificate {
    /// Whom it names.
    pub name: Name,
    /// Who signed it.
    pub anchor: u32,
    /// Not valid before this, nor …
    pub not_before: UnixTime,
    /// … from this on.
    pub not_after: UnixTime,
}

impl Certificate {
    /// One that is always valid.
    pub fn eternal(name: Name, anchor: u32) -> Self {
        let not_after = UnixTime::from_millis(u64::MAX);
        Certificate { name, anchor, not_before: UnixTime::default(), not_after }
    }

    fn encode(&self, out: &mut Vec<u8>) {
        out.put_u32(self.anchor);
        out.put_u64(self.not_before.as_millis());
        out.put_u64(self.not_after.as_millis());
        out.put_u16(self.name.as_str().len() as u16);
        out.extend_from_slice(self.name.as_str().as_bytes());
    }

    fn decode(mut from: &[u8]) -> Option<Certificate> {
        let anchor = from.try_get_u32().ok()?;
        let not_before = UnixTime::from_millis(from.try_get_u64().ok()?);
        let not_after = UnixTime::from_millis(from.try_get_u64().ok()?);
        let length = usize::from(from.try_get_u16().ok()?);
        let name = core::str::from_utf8(from.get(..length)?).ok()?;
        Some(Certificate { name: Name::parse(name).ok()?, anchor, not_before, not_after })
    }
}

/// Makes such sessions.
#[derive(Clone, Debug)]
pub struct Null {
    /// What is shown to servers; `None`: a client without one.
    pub client: Option<Certificate>,
    /// What is shown to clients.
    pub server: Certificate,
    /// Whom is believed.
    pub anchors: Vec<u32>,
}

impl Null {
    /// A workload whose certificate is valid for ever, from the one anchor that it believes.
    pub fn new(name: Name, anchor: u32) -> Self {
        let certificate = Certificate::eternal(name, anchor);
        Null { client: Some(certificate.clone()), server: certificate, anchors: [anchor].into() }
    }
}

impl Provider for Null {
    fn server(&self, now: UnixTime) -> Result<Box<dyn Session>, Problem> {
        Ok(Box::new(NullSession::new(self, now, Role::Server { waits_for_hello: true })))
    }

    fn client(&self, now: UnixTime, expected: &Expected<'_>) -> Result<Box<dyn Session>, Problem> {
        let hello = hello(self.client.as_ref(), expected);
        let expected = expected.identity.clone();
        let role = Role::Client { hello: Some(hello), expected };
        Ok(Box::new(NullSession::new(self, now, role)))
    }
}

#[derive(Debug)]
enum Role {
    Server { waits_for_hello: bool },
    Client { hello: Option<Vec<u8>>, expected: Name },
}

/// One such session.
#[derive(Debug)]
struct NullSession {
    role: Role,
    own: Certificate,
    anchors: Vec<u32>,
    now: UnixTime,
    received: BytesMut,
    /// What is known of the peer; it is told once `done`.
    peer: Peer,
    done: bool,
    closed: bool,
    failed: bool,
}

const ALERT: u8 = 21;
const HANDSHAKE: u8 = 22;
const DATA: u8 = 23;
/// The private extension that holds a client's certificate.
const EXTENSION: u16 = 0xff5e;
const CLOSE_NOTIFY: u8 = 0;
const UNKNOWN_CA: u8 = 48;

impl NullSession {
    fn new(null: &Null, now: UnixTime, role: Role) -> Self {
        NullSession {
            role,
            own: null.server.clone(),
            anchors: null.anchors.clone(),
            now,
            received: BytesMut::new(),
            peer: Peer { version: "TLSv1.3", group: "null", suite: "TLS_NULL", ..Peer::default() },
            done: false,
            closed: false,
            failed: false,
        }
    }

    fn take_handshake(&mut self, body: &[u8], out: &mut BytesMut) -> Result<(), Problem> {
        match &mut self.role {
            Role::Server { waits_for_hello: waits @ true } => {
                *waits = false;
                self.take_hello(body, out)
            }
            Role::Server { .. } if body == [2] && !self.done => {
                self.done = true;
                Ok(())
            }
            Role::Client { .. } if body.first() == Some(&1) && !self.done => {
                self.take_answer(&body[1..])?;
                self.done = true;
                record(HANDSHAKE, &[2], out);
                Ok(())
            }
            _ => Err(Failure::Malformed.into()),
        }
    }

    fn take_hello(&mut self, body: &[u8], out: &mut BytesMut) -> Result<(), Problem> {
        let hello = read_hello(body).ok_or(Failure::Malformed)?;
        if let Some(certificate) = hello.certificate {
            self.believe(&certificate)?;
            self.peer.identity = Some(certificate.name);
        }
        let agreed = super::SERVER_PROTOCOLS
            .into_iter()
            .find(|ours| hello.protocols.iter().any(|theirs| theirs == ours));
        if agreed.is_none() && !hello.protocols.is_empty() {
            return Err(Failure::Protocol.into());
        }
        self.peer.protocol = agreed.map(Box::from);
        let mut answer = Vec::from([1, agreed.map_or(0, <[u8]>::len) as u8]);
        answer.extend_from_slice(agreed.unwrap_or_default());
        self.own.encode(&mut answer);
        record(HANDSHAKE, &answer, out);
        Ok(())
    }

    fn take_answer(&mut self, mut body: &[u8]) -> Result<(), Problem> {
        let length = usize::from(body.try_get_u8().map_err(|_| Failure::Malformed)?);
        let protocol = body.get(..length).ok_or(Failure::Malformed)?;
        let certificate = Certificate::decode(&body[length..]).ok_or(Failure::BadCertificate)?;
        self.believe(&certificate)?;
        if let Role::Client { expected, .. } = &self.role
            && *expected != certificate.name
            && !canary!(AnyIdentity)
        {
            let detail = format!("expected {expected}, got {}", certificate.name);
            return Err(Problem { failure: Failure::WrongIdentity, detail });
        }
        self.peer.protocol = (length > 0).then(|| protocol.into());
        self.peer.identity = Some(certificate.name);
        Ok(())
    }

    fn believe(&self, certificate: &Certificate) -> Result<(), Problem> {
        let failure = if !self.anchors.contains(&certificate.anchor) {
            Failure::UnknownIssuer
        } else if self.now < certificate.not_before {
            Failure::NotYetValid
        } else if self.now >= certificate.not_after {
            Failure::Expired
        } else {
            return Ok(());
        };
        Err(Problem { failure, detail: certificate.name.to_string() })
    }

    fn take(
        &mut self,
        kind: u8,
        body: &mut [u8],
        plain: &mut BytesMut,
        out: &mut BytesMut,
    ) -> Result<(), Problem> {
        match kind {
            HANDSHAKE => self.take_handshake(body, out),
            DATA if self.done && !body.is_empty() => {
                let (sum, body) = body.split_last_mut().ok_or(Failure::BadRecord)?;
                mask(body);
                if *sum != checksum(body) {
                    return Err(Failure::BadRecord.into());
                }
                plain.extend_from_slice(body);
                Ok(())
            }
            ALERT if body.len() == 2 && body[1] == CLOSE_NOTIFY => {
                self.closed = true;
                Ok(())
            }
            ALERT if body.len() == 2 => {
                Err(Problem { failure: Failure::Alert, detail: format!("alert {}", body[1]) })
            }
            _ => Err(Failure::Malformed.into()),
        }
    }
}

impl Session for NullSession {
    fn open(
        &mut self,
        received: BytesMut,
        plain: &mut BytesMut,
        out: &mut BytesMut,
    ) -> Result<(), Problem> {
        if self.failed {
            return Err(Failure::Internal.into());
        }
        if let Role::Client { hello, .. } = &mut self.role
            && let Some(hello) = hello.take()
        {
            record(HANDSHAKE, &hello, out);
        }
        self.received.extend_from_slice(&received);
        while let Some(&[kind, _, _, high, low]) = self.received.first_chunk() {
            let length = usize::from(u16::from_be_bytes([high, low]));
            let plausible = matches!(kind, ALERT..=DATA) && length <= MAX_RECORD + 256;
            if plausible && self.received.len() < 5 + length || self.closed {
                break;
            }
            let taken = if plausible {
                let mut whole = self.received.split_to(5 + length);
                self.take(kind, &mut whole[5..], plain, out)
            } else {
                Err(Failure::Malformed.into())
            };
            if let Err(problem) = taken {
                self.failed = true;
                if problem.failure != Failure::Alert {
                    record(ALERT, &[2, UNKNOWN_CA], out);
                }
                return Err(problem);
            }
        }
        // What is left outlives the read buffer.
        self.received = BytesMut::from(&self.received[..]);
        Ok(())
    }

    fn seal(&mut self, plain: &[u8], out: &mut BytesMut) -> Result<(), Problem> {
        if !self.done || self.failed || plain.len() > MAX_RECORD {
            return Err(Failure::Internal.into());
        }
        out.extend_from_slice(&[DATA, 3, 3]);
        out.put_u16(plain.len() as u16 + 1);
        let start = out.len();
        out.extend_from_slice(plain);
        mask(&mut out[start..]);
        out.put_u8(checksum(plain));
        Ok(())
    }

    fn close(&mut self, out: &mut BytesMut) {
        if !self.failed {
            record(ALERT, &[1, CLOSE_NOTIFY], out);
        }
    }

    fn is_closed(&self) -> bool {
        self.closed
    }

    fn held(&self) -> usize {
        self.received.capacity()
    }

    fn peer(&self) -> Option<&Peer> {
        self.done.then_some(&self.peer)
    }
}

/// What is sealed must not be readable, or nobody would notice that it was not sealed.
fn mask(bytes: &mut [u8]) {
    for byte in bytes {
        *byte ^= 0xa5;
    }
}

fn checksum(plain: &[u8]) -> u8 {
    plain.iter().fold(1, |sum: u8, &byte| sum.rotate_left(1) ^ byte)
}

fn record(kind: u8, body: &[u8], out: &mut BytesMut) {
    out.extend_from_slice(&[kind, 3, 3]);
    out.put_u16(body.len() as u16);
    out.extend_from_slice(body);
}

/// A ClientHello (RFC 8446 §4.1.2) with server_name, ALPN and the private extension.
fn hello(certificate: Option<&Certificate>, expected: &Expected<'_>) -> Vec<u8> {
    let mut extensions = Vec::new();
    let name = expected.server_name.as_bytes();
    let mut list = Vec::new();
    list.put_u16(name.len() as u16 + 3);
    list.put_u8(0);
    list.put_u16(name.len() as u16);
    list.extend_from_slice(name);
    extension(0, &list, &mut extensions);
    if !expected.protocols.is_empty() {
        let mut list = Vec::new();
        list.put_u16(expected.protocols.iter().map(|name| name.len() as u16 + 1).sum());
        for name in expected.protocols {
            list.put_u8(name.len() as u8);
            list.extend_from_slice(name);
        }
        extension(16, &list, &mut extensions);
    }
    if let Some(certificate) = certificate {
        let mut encoded = Vec::new();
        certificate.encode(&mut encoded);
        extension(EXTENSION, &encoded, &mut extensions);
    }
    let mut body = Vec::from([3, 3]);
    body.extend_from_slice(&[0x5e; 32]);
    // No session id; one suite; no compression.
    body.extend_from_slice(&[0, 0, 2, 0x13, 0x01, 1, 0]);
    body.put_u16(extensions.len() as u16);
    body.extend_from_slice(&extensions);
    let mut hello = Vec::from([1, 0]);
    hello.put_u16(body.len() as u16);
    hello.extend_from_slice(&body);
    hello
}

fn extension(kind: u16, body: &[u8], out: &mut Vec<u8>) {
    out.put_u16(kind);
    out.put_u16(body.len() as u16);
    out.extend_from_slice(body);
}

/// What this server wants to know of a ClientHello.
#[derive(Default)]
struct Hello {
    protocols: Vec<Vec<u8>>,
    certificate: Option<Certificate>,
}

/// Reads what [`hello`] wrote; other clients need not apply.
fn read_hello(body: &[u8]) -> Option<Hello> {
    let mut rest = body.get(4 + 2 + 32 + 7..)?;
    if body[0] != 1 {
        return None;
    }
    rest.try_get_u16().ok()?;
    let mut hello = Hello::default();
    while !rest.is_empty() {
        let kind = rest.try_get_u16().ok()?;
        let length = usize::from(rest.try_get_u16().ok()?);
        let (mut body, after) = rest.split_at_checked(length)?;
        rest = after;
        match kind {
            16 => {
                body.advance_checked(2)?;
                while !body.is_empty() {
                    let length = usize::from(body.try_get_u8().ok()?);
                    let (name, after) = body.split_at_checked(length)?;
                    hello.protocols.push(name.to_vec());
                    body = after;
                }
            }
            EXTENSION => hello.certificate = Some(Certificate::decode(body)?),
            _ => {}
        }
    }
    Some(hello)
}

/// `advance` without a panic.
trait AdvanceChecked {
    fn advance_checked(&mut self, n: usize) -> Option<()>;
}

impl AdvanceChecked for &[u8] {
    fn advance_checked(&mut self, n: usize) -> Option<()> {
        *self = self.get(n..)?;
        Some(())
    }
}
