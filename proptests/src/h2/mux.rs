//! A peer's end of a connection of HTTP/2: messages go in and come out in the form that they have in
//! HTTP/1.

use std::collections::BTreeMap;

use bytes::BytesMut;
use selvedge_core::buf::OutQueue;
use selvedge_core::http::{self, Fields, Request, Response};
use selvedge_core::http1::{ResponseTo, parse_request, parse_response};
use selvedge_core::http2::{Config, Connection, ErrorCode, Event, Scratch, StreamKey, Violation};
use selvedge_core::limits::Limits;
use selvedge_core::time::Time;

use crate::choose::{Choose, pick};

/// What happened on a stream.
#[derive(Debug)]
pub(crate) enum Happened {
    /// A head, in the form that it has in HTTP/1, and whether that was all.
    Head(Vec<u8>, bool),
    Data(Vec<u8>, bool),
    Trailers(Vec<u8>),
    Reset(ErrorCode),
}

/// One end.
#[derive(Debug)]
pub(crate) struct Mux {
    pub(crate) connection: Connection,
    tx: OutQueue,
    rx: BytesMut,
    /// Credit is given back as bytes come.
    pub(crate) reads: bool,
    /// It has said something that no peer should: what it thinks of the other means nothing.
    pub(crate) hostile: bool,
    /// The last stream that the other says it has looked at.
    pub(crate) last: Option<u32>,
    pub(crate) keys: BTreeMap<u32, StreamKey>,
}

impl Mux {
    pub(crate) fn client(config: Config, now: Time) -> Self {
        let mut tx = OutQueue::default();
        let connection = Connection::client(config, &mut tx, now);
        Self::new(connection, tx)
    }

    pub(crate) fn server(config: Config, now: Time) -> Self {
        let mut tx = OutQueue::default();
        let connection = Connection::server(config, &mut tx, now);
        Self::new(connection, tx)
    }

    fn new(connection: Connection, tx: OutQueue) -> Self {
        Mux {
            connection,
            tx,
            rx: BytesMut::new(),
            reads: true,
            hostile: false,
            last: None,
            keys: BTreeMap::new(),
        }
    }

    /// Bytes arrive.
    ///
    /// # Errors
    /// The engine broke a rule.
    pub(crate) fn receive(
        &mut self,
        bytes: &[u8],
        now: Time,
    ) -> Result<Vec<(u32, Happened)>, String> {
        self.rx.extend_from_slice(bytes);
        let mut scratch = Scratch::default();
        let limits = Limits::default();
        let mut all = Vec::new();
        loop {
            let polled =
                self.connection.poll(&mut self.rx, &mut self.tx, &mut scratch, &limits, now);
            let event = match polled {
                Ok(Some(event)) => event,
                Ok(None) => break,
                Err(_) if self.hostile => break,
                Err(violation) => return Err(format!("the engine: {violation:?}")),
            };
            let (key, happened) = match event {
                Event::Request { stream, request, end } => {
                    (stream, Happened::Head(request_text(&request), end))
                }
                Event::Response { stream, response, end, .. } => {
                    (stream, Happened::Head(response_text(&response), end))
                }
                Event::Data { stream, data, end, .. } => {
                    if self.reads {
                        self.connection.release(&mut self.tx, stream, data.len(), true);
                    }
                    (stream, Happened::Data(data.to_vec(), end))
                }
                Event::Trailers { stream, fields, .. } => {
                    (stream, Happened::Trailers(fields.section().to_vec()))
                }
                Event::Reset { stream, code, .. } => (stream, Happened::Reset(code)),
                Event::GoAway { last, .. } => {
                    self.last = Some(self.last.unwrap_or(last).min(last));
                    continue;
                }
                // They crossed our SETTINGS.
                Event::Settings | Event::Silence | Event::Offence(Violation::TooManyStreams) => {
                    continue;
                }
                _ if self.hostile => continue,
                other => return Err(format!("the engine: {other:?}")),
            };
            self.keys.insert(key.id, key);
            all.push((key.id, happened));
        }
        Ok(all)
    }

    /// Its own account of credit and of queues.
    ///
    /// # Errors
    /// What does not hold.
    pub(crate) fn check(&self) -> Result<(), String> {
        self.connection.check_invariants()
    }

    /// Everything that it can send now.
    pub(crate) fn take(&mut self) -> Vec<u8> {
        self.connection.flush(&mut self.tx, 100_000);
        self.take_heads()
    }

    /// The same, without bodies that have not been framed.
    pub(crate) fn take_heads(&mut self) -> Vec<u8> {
        let mut out = Vec::with_capacity(self.tx.unsent());
        loop {
            let mut io = [&[][..]; 16];
            let count = self.tx.slices(&mut io);
            if count == 0 {
                return out;
            }
            let before = out.len();
            for slice in &io[..count] {
                out.extend_from_slice(slice);
            }
            let n = out.len() - before;
            self.tx.wrote(n);
        }
    }

    /// Gives back the credit of everything that came.
    pub(crate) fn read_on(&mut self) {
        self.reads = true;
        for &key in self.keys.values() {
            let held = self.connection.stream_held(key);
            self.connection.release(&mut self.tx, key, held, true);
        }
    }

    pub(crate) fn ask(&mut self, head: &[u8], end: bool, now: Time) -> Option<u32> {
        let mut scratch = http::Scratch::default();
        let request = parse_request(head, &mut scratch, &Limits::default()).expect("a request");
        let host = request.authority.unwrap_or_default();
        let key = self.connection.send_request(&mut self.tx, &request, host, end, 0, now)?;
        self.keys.insert(key.id, key);
        Some(key.id)
    }

    pub(crate) fn answer(&mut self, stream: u32, head: &[u8], end: bool) {
        let mut scratch = http::Scratch::default();
        let to = ResponseTo::default();
        let limits = Limits::default();
        let response = parse_response(head, &mut scratch, &limits, to).expect("a response");
        if let Some(&key) = self.keys.get(&stream) {
            self.connection.send_response(&mut self.tx, key, &response, end);
        }
    }

    pub(crate) fn send(&mut self, stream: u32, data: &[u8], end: bool) {
        let Some(&key) = self.keys.get(&stream) else { return };
        let Some(body) = self.connection.body(key) else { return };
        body.take(&mut BytesMut::from(data), data.len());
        self.connection.body_added(key, data.len(), end);
    }

    pub(crate) fn trailers(&mut self, stream: u32, section: &[u8]) {
        if let Some(&key) = self.keys.get(&stream) {
            self.connection.send_trailers(&mut self.tx, key, section).expect("trailers");
        }
    }

    pub(crate) fn reset(&mut self, stream: u32, code: ErrorCode) {
        if let Some(&key) = self.keys.get(&stream) {
            self.connection.reset(&mut self.tx, key, code);
        }
    }

    pub(crate) fn shut_down(&mut self, now: Time) {
        self.connection.shut_down(&mut self.tx, now);
    }

    /// May something still be sent on this stream?
    pub(crate) fn can_send(&self, stream: u32) -> bool {
        self.keys.get(&stream).is_some_and(|&key| self.connection.can_send(key))
    }

    /// Says something that no peer should.
    pub(crate) fn offend(&mut self, choose: &mut dyn Choose) {
        self.hostile = true;
        let stream = pick(choose, &[0, 1, 3, 2, 5, 99, 0x7fff_ffff]);
        let kind = choose.below(12) as u8;
        let length = pick(choose, &[0, 4, 8, 5, 6, 1, 100]);
        let payload: Vec<u8> = (0..length).map(|_| choose.below(256) as u8).collect();
        let flags = pick(choose, &[0, 1, 4, 5, 8, 0x2d, 0xff]);
        let times = pick(choose, &[1, 1, 1, 3, 3000]);
        let header =
            [&u32::to_be_bytes(length)[1..], &[kind, flags], &u32::to_be_bytes(stream), &payload]
                .concat();
        for _ in 0..times {
            self.tx.append(|out| out.extend_from_slice(&header));
        }
    }
}

fn request_text(request: &Request<'_>) -> Vec<u8> {
    let head = &request.head;
    let line = [head.method, b" ", head.target, b" HTTP/1.1\r\n"].concat();
    text(line, head.fields)
}

fn response_text(response: &Response<'_>) -> Vec<u8> {
    text(format!("HTTP/1.1 {} -\r\n", response.head.status).into_bytes(), response.head.fields)
}

fn text(mut line: Vec<u8>, fields: Fields<'_>) -> Vec<u8> {
    for field in fields {
        line.extend([field.name, b": ", field.value, b"\r\n"].concat());
    }
    line.extend_from_slice(b"\r\n");
    line
}
