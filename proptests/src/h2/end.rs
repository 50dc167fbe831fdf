//! One end of a connection: the core's state machine, what it received, what it said, what it wants
//! to send.

use std::fmt::Write;

use bytes::BytesMut;
use selvedge_core::buf::OutQueue;
use selvedge_core::error::Reason;
use selvedge_core::http::{Fields, Scratch as Http1Scratch};
use selvedge_core::http1::{ResponseTo, parse_request, parse_response};
use selvedge_core::http2::{
    Config, Connection, ErrorCode, Event, Role, Scratch, StreamKey, Violation,
};
use selvedge_core::limits::Limits;
use selvedge_core::time::Time;

/// What happened, in a form that does not depend on how bytes were cut.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Seen {
    /// Body bytes; those that follow one another are one.
    Data {
        /// Their stream.
        stream: u32,
        /// The bytes.
        bytes: Vec<u8>,
        /// They were the last.
        end: bool,
    },
    /// Anything else, as the table writes it.
    Line(String),
}

/// One end.
#[derive(Debug)]
pub struct End {
    /// The state machine.
    pub connection: Connection,
    /// What was received and not read.
    pub rx: BytesMut,
    /// What is to be sent.
    pub tx: OutQueue,
    /// Its limits.
    pub limits: Limits,
    /// The time.
    pub now: Time,
    /// What happened so far.
    pub seen: Vec<Seen>,
    /// The rules that the peer broke so far.
    pub violations: Vec<Violation>,
    /// It is broken.
    pub dead: bool,
    /// Body bytes are released as they come, and may make windows grow.
    pub releases: Option<bool>,
    /// Every stream that there was, in order.
    pub keys: Vec<StreamKey>,
    scratch: Scratch,
}

impl End {
    /// A client or a server.
    pub fn new(role: Role, config: Config) -> Self {
        let mut tx = OutQueue::default();
        let now = Time::ZERO;
        let connection = match role {
            Role::Client => Connection::client(config, &mut tx, now),
            Role::Server => Connection::server(config, &mut tx, now),
        };
        End {
            connection,
            rx: BytesMut::new(),
            tx,
            limits: Limits::default(),
            now,
            seen: Vec::new(),
            violations: Vec::new(),
            dead: false,
            releases: None,
            keys: Vec::new(),
            scratch: Scratch::default(),
        }
    }

    /// Bytes arrive.
    pub fn receive(&mut self, bytes: &[u8]) {
        self.rx.extend_from_slice(bytes);
        loop {
            let End { connection, rx, tx, limits, scratch, .. } = self;
            match connection.poll(rx, tx, scratch, limits, self.now) {
                Ok(None) => return,
                // Where it falls depends on how the bytes were cut.
                Ok(Some(Event::Silence)) => {}
                Ok(Some(event)) => {
                    let (seen, violation, key) = translate(event);
                    self.violations.extend(violation);
                    if let (Seen::Data { bytes, .. }, Some(key), Some(grows)) =
                        (&seen, key, self.releases)
                    {
                        let n = bytes.len();
                        self.connection.release(&mut self.tx, key, n, grows);
                    }
                    if let Some(key) = key
                        && !self.keys.contains(&key)
                    {
                        self.keys.push(key);
                    }
                    self.note(seen);
                }
                Err(violation) => {
                    if !std::mem::replace(&mut self.dead, true) {
                        self.violations.push(violation);
                    }
                    return;
                }
            }
        }
    }

    /// Time passes.
    pub fn wait_until(&mut self, now: Time) {
        self.now = now;
        if let Err(violation) = self.connection.handle_timeout(&mut self.tx, now)
            && !std::mem::replace(&mut self.dead, true)
        {
            self.violations.push(violation);
        }
    }

    /// What it wants to send.
    pub fn take(&mut self) -> Vec<u8> {
        self.connection.flush(&mut self.tx, usize::MAX);
        self.connection.settle_queues();
        let mut owned = Vec::new();
        self.tx.owned(&mut owned);
        let bytes = owned.concat();
        self.tx.wrote(bytes.len());
        bytes
    }

    /// The stream with this number.
    ///
    /// # Panics
    /// If there never was one.
    pub fn key(&self, id: u32) -> StreamKey {
        let key = self.keys.iter().rev().find(|key| key.id == id);
        *key.unwrap_or_else(|| panic!("there never was a stream {id}"))
    }

    /// Sends a request that is written in HTTP/1.
    pub fn ask(&mut self, head: &[u8], end: bool) -> Option<StreamKey> {
        let mut scratch = Http1Scratch::default();
        let request = parse_request(head, &mut scratch, &self.limits).expect("a request");
        let host = request.authority.unwrap_or_default();
        let token = 0;
        let key =
            self.connection.send_request(&mut self.tx, &request, host, end, token, self.now)?;
        self.keys.push(key);
        Some(key)
    }

    /// Sends a response that is written in HTTP/1.
    pub fn answer(&mut self, key: StreamKey, head: &[u8], end: bool) {
        let mut scratch = Http1Scratch::default();
        let to = ResponseTo { is_head: false, is_connect: false };
        let response = parse_response(head, &mut scratch, &self.limits, to).expect("a response");
        self.connection.send_response(&mut self.tx, key, &response, end);
    }

    /// Adds to a body; false if the stream takes nothing more.
    pub fn put(&mut self, key: StreamKey, bytes: &[u8], end: bool) -> bool {
        let Some(queue) = self.connection.body(key) else { return false };
        queue.take(&mut BytesMut::from(bytes), bytes.len());
        self.connection.body_added(key, bytes.len(), end);
        true
    }

    /// Sends trailers that are written in HTTP/1.
    pub fn trail(&mut self, key: StreamKey, section: &[u8]) -> Result<usize, Reason> {
        self.connection.send_trailers(&mut self.tx, key, section)
    }

    /// Resets a stream.
    pub fn reset(&mut self, key: StreamKey, code: ErrorCode) {
        self.connection.reset(&mut self.tx, key, code);
    }

    /// Everything that happened since this was asked, as the table writes it.
    pub fn lines(&mut self) -> Vec<String> {
        std::mem::take(&mut self.seen).iter().map(Seen::to_string).collect()
    }

    fn note(&mut self, seen: Seen) {
        if let (
            Some(Seen::Data { stream: before, bytes, end: end @ false }),
            Seen::Data { stream, bytes: more, end: last },
        ) = (self.seen.last_mut(), &seen)
            && before == stream
        {
            bytes.extend_from_slice(more);
            *end = *last;
            return;
        }
        self.seen.push(seen);
    }
}

/// What an event is in the table, the rule that it is about, and the stream.
fn translate(event: Event<'_>) -> (Seen, Option<Violation>, Option<StreamKey>) {
    let ended = |end| if end { " end" } else { "" };
    let (line, violation, key) = match event {
        Event::Request { stream, request, end } => {
            let head = request.head;
            let (method, target) = (head.method.escape_ascii(), head.target.escape_ascii());
            let fields = show(head.fields);
            let (id, framing) = (stream.id, request.framing);
            (
                format!("request {id} {method} {target} {fields} {framing:?}{}", ended(end)),
                None,
                stream,
            )
        }
        Event::Response { stream, response, end, .. } => {
            let (id, head) = (stream.id, response.head);
            let (fields, framing) = (show(head.fields), response.framing);
            (
                format!("response {id} {} {fields} {framing:?}{}", head.status, ended(end)),
                None,
                stream,
            )
        }
        Event::Data { stream, data, end, .. } => {
            return (
                Seen::Data { stream: stream.id, bytes: data.to_vec(), end },
                None,
                Some(stream),
            );
        }
        Event::Trailers { stream, fields, .. } => {
            (format!("trailers {} {}", stream.id, show(fields.fields())), None, stream)
        }
        Event::Refused { stream, reason } => {
            (format!("refused {} {}", stream.id, reason.label()), None, stream)
        }
        Event::Reset { stream, code, .. } => {
            (format!("reset {} {code:?}", stream.id), None, stream)
        }
        Event::Broken { stream, violation, .. } => {
            (format!("broken {} {}", stream.id, violation.label()), Some(violation), stream)
        }
        Event::Offence(violation) => {
            return (Seen::Line(format!("offence {}", violation.label())), Some(violation), None);
        }
        Event::GoAway { last, code } => {
            return (Seen::Line(format!("goaway {last} {code:?}")), None, None);
        }
        Event::Settings => return (Seen::Line("settings".to_owned()), None, None),
        Event::Silence => return (Seen::Line("silence".to_owned()), None, None),
    };
    (Seen::Line(line), violation, Some(key))
}

fn show(fields: Fields<'_>) -> String {
    let mut text = String::from("{");
    for (index, field) in fields.iter().enumerate() {
        let comma = if index > 0 { ", " } else { "" };
        let (name, value) = (field.name.escape_ascii(), field.value.escape_ascii());
        let _ = write!(text, "{comma}{name}: {value}");
    }
    text + "}"
}

impl std::fmt::Display for Seen {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Seen::Line(line) => f.write_str(line),
            Seen::Data { stream, bytes, end } => {
                write!(f, "data {stream} ")?;
                match bytes.len() {
                    0 => f.write_str("nothing")?,
                    1..=32 => write!(f, "{}", bytes.escape_ascii())?,
                    n => write!(f, "[{n}]")?,
                }
                f.write_str(if *end { " end" } else { "" })
            }
        }
    }
}
