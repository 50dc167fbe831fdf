//! Peers that speak HTTP/2 to the engine of a [`Rig`].

use alloc::collections::BTreeMap;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

use bytes::BytesMut;

use super::rig::*;
use crate::buf::OutQueue;
use crate::config::{Config, Protocol};
use crate::engine::ConnId;
use crate::http;
use crate::http1::{self, ResponseTo};
use crate::http2::{self, Connection, ErrorCode, Event, StreamKey, Violation};
use crate::limits::Limits;

/// Services of every protocol: `h1`, `h2` and `mesh.example` have one endpoint, `two.example` has
/// two that speak HTTP/2.
pub(super) fn http2_config() -> Config {
    let mut config = config();
    for (name, protocol, endpoints) in [
        ("h1.example:80", Protocol::Http1, &["10.1.0.1:80"][..]),
        ("h2.example:80", Protocol::Http2, &["10.1.0.2:80"]),
        ("mesh.example:80", Protocol::Mesh, &["10.1.0.3:80"]),
        ("two.example:80", Protocol::Http2, &["10.1.0.4:80", "10.1.0.5:80"]),
    ] {
        let mut service = service(name, endpoints);
        service.protocol = protocol;
        config.services.push(service);
    }
    config
}

/// What came on one stream.
#[derive(Debug, Default)]
pub(super) struct Got {
    /// Heads in HTTP/1 form.
    pub(super) heads: Vec<String>,
    pub(super) body: Vec<u8>,
    pub(super) trailers: Option<String>,
    /// END_STREAM came.
    pub(super) end: bool,
    pub(super) reset: Option<ErrorCode>,
}

/// A client of the engine, or an endpoint, that speaks HTTP/2.
pub(super) struct Peer {
    pub(super) conn: ConnId,
    pub(super) connection: Connection,
    tx: OutQueue,
    rx: BytesMut,
    /// Gives credit back as body bytes come …
    pub(super) reads: bool,
    /// … but on this stream.
    pub(super) stalls_on: Option<u32>,
    pub(super) got: BTreeMap<u32, Got>,
    keys: BTreeMap<u32, StreamKey>,
    /// Last stream and code of every GOAWAY.
    pub(super) goaways: Vec<(u32, u32)>,
    answered: Vec<u32>,
    /// What the engine did wrong.
    pub(super) violation: Option<Violation>,
}

impl Peer {
    fn new(conn: ConnId, config: http2::Config, is_client: bool, rig: &Rig) -> Self {
        let mut tx = OutQueue::default();
        let connection = if is_client {
            Connection::client(config, &mut tx, rig.now)
        } else {
            Connection::server(config, &mut tx, rig.now)
        };
        Peer {
            conn,
            connection,
            tx,
            rx: BytesMut::new(),
            reads: true,
            stalls_on: None,
            got: BTreeMap::new(),
            keys: BTreeMap::new(),
            goaways: Vec::new(),
            answered: Vec::new(),
            violation: None,
        }
    }

    /// A client that has said hello.
    pub(super) fn client(rig: &mut Rig) -> Self {
        Self::client_with(rig, http2::Config::default())
    }

    /// A client of that listener.
    pub(super) fn client_to(rig: &mut Rig, listener: u16) -> Self {
        let conn = rig.accept_to(listener, None);
        let mut peer = Peer::new(conn, http2::Config::default(), true, rig);
        peer.run(rig);
        peer
    }

    pub(super) fn client_with(rig: &mut Rig, config: http2::Config) -> Self {
        let conn = rig.client();
        let mut peer = Peer::new(conn, config, true, rig);
        peer.run(rig);
        peer
    }

    /// A client that reads no body.
    pub(super) fn stalled_client(rig: &mut Rig) -> Self {
        let mut peer = Self::client_with(rig, narrow());
        peer.reads = false;
        peer
    }

    /// The endpoint of the oldest connect, which has said hello.
    pub(super) fn endpoint(rig: &mut Rig) -> Self {
        Self::endpoint_with(rig, http2::Config::default())
    }

    pub(super) fn endpoint_with(rig: &mut Rig, config: http2::Config) -> Self {
        let conn = rig.connect();
        let mut peer = Peer::new(conn, config, false, rig);
        peer.run(rig);
        peer
    }

    /// Reads and writes until there is nothing more to do.
    pub(super) fn run(&mut self, rig: &mut Rig) {
        while self.pull(rig) | self.push(rig) {}
    }

    fn push(&mut self, rig: &mut Rig) -> bool {
        self.connection.flush(&mut self.tx, usize::MAX);
        let mut owned = Vec::new();
        self.tx.owned(&mut owned);
        let bytes = owned.concat();
        self.tx.wrote(bytes.len());
        for piece in bytes.chunks(Limits::READ_BLOCK) {
            rig.receive(self.conn, piece);
        }
        !bytes.is_empty()
    }

    fn pull(&mut self, rig: &mut Rig) -> bool {
        let bytes = rig.taken(self.conn);
        self.rx.extend_from_slice(&bytes);
        let mut scratch = http2::Scratch::default();
        let limits = Limits::default();
        while self.violation.is_none() {
            let polled =
                self.connection.poll(&mut self.rx, &mut self.tx, &mut scratch, &limits, rig.now);
            match polled {
                Ok(Some(event)) => note(&mut self.got, &mut self.keys, &mut self.goaways, &event),
                Ok(None) => break,
                Err(violation) => {
                    self.violation = Some(violation);
                    break;
                }
            }
            if self.reads {
                self.release_all();
            }
        }
        !bytes.is_empty()
    }

    /// Resets a stream, and does not read what comes of it.
    pub(super) fn reset_unread(&mut self, rig: &mut Rig, stream: u32, code: ErrorCode) {
        self.connection.reset(&mut self.tx, self.keys[&stream], code);
        self.push(rig);
    }

    /// The bytes that were not read.
    pub(super) fn unread(&mut self, rig: &mut Rig) -> Vec<u8> {
        rig.taken(self.conn)
    }

    /// Gives back the credit of everything that came.
    pub(super) fn release_all(&mut self) {
        for &key in self.keys.values().filter(|key| Some(key.id) != self.stalls_on) {
            let held = self.connection.stream_held(key);
            self.connection.release(&mut self.tx, key, held, true);
        }
    }

    fn key(&self, stream: u32) -> StreamKey {
        self.keys[&stream]
    }

    /// What came on a stream.
    pub(super) fn on(&self, stream: u32) -> &Got {
        static NOTHING: Got =
            Got { heads: Vec::new(), body: Vec::new(), trailers: None, end: false, reset: None };
        self.got.get(&stream).unwrap_or(&NOTHING)
    }

    /// The last head on a stream, which must be there.
    pub(super) fn head(&self, stream: u32) -> &str {
        self.on(stream).heads.last().unwrap_or_else(|| panic!("no head on {stream}"))
    }

    /// Sends a request, written in HTTP/1.
    pub(super) fn ask(&mut self, rig: &mut Rig, head: &str, end: bool) -> u32 {
        self.ask_as(rig, head, end, None)
    }

    /// The same, as a proxy that was asked in `origin`.
    pub(super) fn ask_as(
        &mut self,
        rig: &mut Rig,
        head: &str,
        end: bool,
        origin: Option<http::Version>,
    ) -> u32 {
        let mut scratch = http::Scratch::default();
        let limits = Limits { header_bytes: 1 << 20, ..Limits::default() };
        let mut request = http1::parse_request(head.as_bytes(), &mut scratch, &limits).expect(head);
        request.origin = origin;
        let host = request.authority.unwrap_or_default();
        let (connection, tx) = (&mut self.connection, &mut self.tx);
        let key = connection.send_request(tx, &request, host, end, 0, rig.now).expect("a stream");
        self.keys.insert(key.id, key);
        self.run(rig);
        key.id
    }

    /// Answers, in HTTP/1.
    pub(super) fn answer(&mut self, rig: &mut Rig, stream: u32, head: &str, end: bool) {
        let mut scratch = http::Scratch::default();
        let limits = Limits::default();
        let to = ResponseTo::default();
        let response =
            http1::parse_response(head.as_bytes(), &mut scratch, &limits, to).expect(head);
        let key = self.key(stream);
        self.connection.send_response(&mut self.tx, key, &response, end);
        self.answered.push(stream);
        self.run(rig);
    }

    /// A whole answer without a body.
    pub(super) fn ok(&mut self, rig: &mut Rig, stream: u32) {
        self.answer(rig, stream, "HTTP/1.1 200 OK\r\n\r\n", true);
    }

    pub(super) fn send(&mut self, rig: &mut Rig, stream: u32, data: &[u8], end: bool) {
        let key = self.key(stream);
        let body = self.connection.body(key).expect("a stream that takes bytes");
        body.take(&mut BytesMut::from(data), data.len());
        self.connection.body_added(key, data.len(), end);
        self.run(rig);
    }

    pub(super) fn trailers(&mut self, rig: &mut Rig, stream: u32, section: &str) {
        let key = self.key(stream);
        let sent = self.connection.send_trailers(&mut self.tx, key, section.as_bytes());
        sent.expect("trailers");
        self.run(rig);
    }

    pub(super) fn reset(&mut self, rig: &mut Rig, stream: u32, code: ErrorCode) {
        let key = self.key(stream);
        self.connection.reset(&mut self.tx, key, code);
        self.run(rig);
    }

    /// Sends bytes of its own making.
    pub(super) fn raw(&mut self, rig: &mut Rig, bytes: &[u8]) {
        self.tx.append(|out| out.extend_from_slice(bytes));
        self.run(rig);
    }

    /// Opens every window.
    pub(super) fn read_on(&mut self, rig: &mut Rig) {
        self.reads = true;
        self.release_all();
        self.run(rig);
    }

    pub(super) fn shut_down(&mut self, rig: &mut Rig) {
        self.connection.shut_down(&mut self.tx, rig.now);
        self.run(rig);
    }

    /// Reads, and says nothing.
    pub(super) fn pull_only(&mut self, rig: &mut Rig) {
        self.pull(rig);
    }

    /// Is this a stream whose request has not been answered?
    pub(super) fn has_not_answered(&self, stream: u32) -> bool {
        !self.answered.contains(&stream) && self.connection.can_send(self.key(stream))
    }

    /// Streams on which something came, in order.
    pub(super) fn streams(&self) -> Vec<u32> {
        self.got.keys().copied().collect()
    }
}

fn note(
    got: &mut BTreeMap<u32, Got>,
    keys: &mut BTreeMap<u32, StreamKey>,
    goaways: &mut Vec<(u32, u32)>,
    event: &Event<'_>,
) {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).to_string();
    match event {
        Event::Request { stream, request, end } => {
            keys.insert(stream.id, *stream);
            let on = got.entry(stream.id).or_default();
            on.heads.push(text(request.head.fields.buf));
            on.end = *end;
        }
        Event::Response { stream, response, end, .. } => {
            let on = got.entry(stream.id).or_default();
            on.heads.push(text(response.head.fields.buf));
            on.end = *end;
        }
        Event::Data { stream, data, end, .. } => {
            let on = got.entry(stream.id).or_default();
            on.body.extend_from_slice(data);
            on.end |= *end;
        }
        Event::Trailers { stream, fields, .. } => {
            let on = got.entry(stream.id).or_default();
            on.trailers = Some(text(fields.section()));
            on.end = true;
        }
        Event::Reset { stream, code, .. } => {
            got.entry(stream.id).or_default().reset = Some(*code);
        }
        Event::GoAway { last, code } => goaways.push((*last, code.0)),
        // They crossed our SETTINGS.
        Event::Settings | Event::Silence | Event::Offence(Violation::TooManyStreams) => {}
        other => panic!("the engine did something wrong: {other:?}"),
    }
}

/// Both sides of an exchange go on until nothing moves.
pub(super) fn run(rig: &mut Rig, a: &mut Peer, b: &mut Peer) {
    while a.pull(rig) | a.push(rig) | b.pull(rig) | b.push(rig) {}
}

/// Tells a peer to send nothing but the first byte of each body, if nobody reads.
pub(super) fn narrow() -> http2::Config {
    let mut config = http2::Config::default();
    config.settings.initial_window_size = 1;
    config
}

/// A frame.
pub(super) fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = payload.len() as u32;
    let mut out = length.to_be_bytes()[1..].to_vec();
    out.extend([kind, flags]);
    out.extend(stream.to_be_bytes());
    out.extend(payload);
    out
}
