//! Apps of either version: what they make of what they get, and what they answer.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use selvedge_core::engine::ConnId;
use selvedge_core::error::IoError;
use selvedge_core::http2::ErrorCode;

use super::message::{Answer, Body, trailers};
use super::world::{Told, World, settings};
use crate::choose::{pick, weighted};
use crate::h2::mux::{Happened, Mux};
use crate::script::net::Check;
use crate::traffic::content::{content, is_content, number, request_key, response_key};
use crate::traffic::wire::{Framing, Head, Part, Reader, read_head};

/// An app's end of one connection from the proxy.
#[derive(Debug)]
pub(super) struct App {
    /// `None`: it is over.
    pub(super) conn: Option<ConnId>,
    pub(super) connected: bool,
    out: VecDeque<u8>,
    /// It broke off: nothing more goes out.
    mute: bool,
    /// It closes when everything is sent.
    pub(super) finishing: bool,
    kind: Kind,
    /// By stream; in HTTP/1 by number.
    served: BTreeMap<u32, Served>,
    /// Streams that it has not looked at, as it says.
    refused: BTreeSet<u32>,
}

#[derive(Debug)]
enum Kind {
    Unknown(Vec<u8>),
    Http1(Reader),
    Http2(Box<Mux>),
}

/// A request on a stream.
#[derive(Debug, Default)]
struct Served {
    /// `None`: it is nobody's.
    request: Option<u32>,
    got: usize,
    complete: bool,
    answer: Option<u32>,
    /// How much of the answer's body was sent.
    sent: usize,
    /// Nothing more is to be done.
    over: bool,
}

impl App {
    pub(super) fn new(conn: ConnId) -> Self {
        App {
            conn: Some(conn),
            connected: false,
            out: VecDeque::new(),
            mute: false,
            finishing: false,
            kind: Kind::Unknown(Vec::new()),
            served: BTreeMap::new(),
            refused: BTreeSet::new(),
        }
    }

    pub(super) fn is_open(&self) -> bool {
        self.conn.is_some() && self.connected
    }

    pub(super) fn is_hostile(&self) -> bool {
        matches!(&self.kind, Kind::Http2(mux) if mux.hostile)
    }

    pub(super) fn is_busy(&self) -> bool {
        self.served.values().any(|served| !served.over)
    }

    fn flush(&mut self) {
        if let Kind::Http2(mux) = &mut self.kind
            && !self.mute
        {
            self.out.extend(mux.take());
        }
    }
}

impl World<'_> {
    pub(super) fn app_delivers(&mut self, at: usize) {
        let app = &mut self.apps[at];
        let Some(conn) = app.conn else { return };
        app.flush();
        if app.out.is_empty() && app.finishing {
            self.net.read_closed(self.choose, conn);
            return;
        }
        let len = app.out.len();
        let n = self.some_of(conn, len);
        if n > 0 {
            let bytes: Vec<u8> = self.apps[at].out.drain(..n).collect();
            self.net.receive(conn, &bytes);
        }
    }

    // ---- What it gets ----

    pub(super) fn app_got(&mut self, at: usize, bytes: &[u8]) -> Check {
        let now = self.net.now;
        if let Kind::Unknown(first) = &mut self.apps[at].kind {
            first.extend_from_slice(bytes);
            if first.len() < 4 {
                return Ok(());
            }
            let first = std::mem::take(first);
            self.apps[at].kind = if first.starts_with(b"PRI ") {
                Kind::Http2(Box::new(Mux::server(settings(self.choose, self.faults), now)))
            } else {
                Kind::Http1(Reader::default())
            };
            return self.app_got(at, &first);
        }
        match &mut self.apps[at].kind {
            Kind::Http2(mux) => {
                for (stream, happened) in mux.receive(bytes, now)? {
                    self.app_happened(at, stream, happened)?;
                }
                if let Kind::Http2(mux) = &self.apps[at].kind {
                    mux.check()?;
                }
            }
            Kind::Http1(reader) => {
                reader.feed(bytes);
                self.app_parts(at)?;
            }
            Kind::Unknown(_) => {}
        }
        self.apps[at].flush();
        Ok(())
    }

    fn app_parts(&mut self, at: usize) -> Check {
        let mut framing = |head: &Head| match head.framing()? {
            Framing::UntilClose => Ok(Framing::Nothing),
            framing => Ok(framing),
        };
        loop {
            let app = &mut self.apps[at];
            let Kind::Http1(reader) = &mut app.kind else { return Ok(()) };
            let Some(part) = reader.next(&mut framing)? else { return Ok(()) };
            let last = app.served.len().saturating_sub(1) as u32;
            match part {
                Part::Head(head) => {
                    if app.is_busy() {
                        return Err("a request within another".to_owned());
                    }
                    let number = app.served.len() as u32;
                    self.app_head(at, number, &head)?;
                }
                Part::Data(data) => self.app_data(at, last, &data)?,
                Part::End(fields) => {
                    let section = fields.iter().flat_map(|(name, value)| {
                        let name = name.to_ascii_lowercase();
                        [name.as_bytes(), b": ", value, b"\r\n"].concat()
                    });
                    let section: Vec<u8> = section.chain(*b"\r\n").collect();
                    self.app_end(at, last, (!fields.is_empty()).then_some(&section))?;
                }
            }
        }
    }

    fn app_happened(&mut self, at: usize, stream: u32, happened: Happened) -> Check {
        match happened {
            Happened::Head(head, end) => {
                self.app_head(at, stream, &read_head(&head)?)?;
                if end {
                    self.app_end(at, stream, None)?;
                }
            }
            Happened::Data(data, end) => {
                self.app_data(at, stream, &data)?;
                if end {
                    self.app_end(at, stream, None)?;
                }
            }
            Happened::Trailers(section) => self.app_end(at, stream, Some(&section))?,
            Happened::Reset(_) => {
                if let Some(served) = self.apps[at].served.get_mut(&stream) {
                    served.over = true;
                }
            }
        }
        Ok(())
    }

    fn app_head(&mut self, at: usize, stream: u32, head: &Head) -> Check {
        let id = head.get("x-id").and_then(number);
        let id = id.filter(|&id| (id as usize) < self.requests.len());
        let served = Served { request: id, ..Served::default() };
        self.apps[at].served.insert(stream, served);
        self.outcome.attempts += 1;
        let Some(id) = id else { return Ok(()) };
        self.note_attempt(at, stream, id)?;
        let sent = &self.requests[id as usize];
        if sent.wild { Ok(()) } else { sent.request.check(head) }
    }

    /// A request reached this app. May it?
    fn note_attempt(&mut self, at: usize, stream: u32, id: u32) -> Check {
        let sent = &mut self.requests[id as usize];
        let before = sent.attempts.last().copied();
        sent.attempts.push((at, stream));
        let Some((app, stream)) = before.filter(|_| !sent.wild) else { return Ok(()) };
        self.outcome.replays += 1;
        let app = &self.apps[app];
        if app.is_hostile() {
            return Ok(());
        }
        let lost = app.conn.is_none() && sent.request.is_idempotent();
        if !app.refused.contains(&stream) && !lost {
            return Err(format!("request {id} is sent again for no reason"));
        }
        if sent.served || sent.attempts.len() > 2 {
            return Err(format!("request {id} is sent once more: {:?}", sent.attempts));
        }
        Ok(())
    }

    fn app_data(&mut self, at: usize, stream: u32, data: &[u8]) -> Check {
        let Some(served) = self.apps[at].served.get_mut(&stream) else { return Ok(()) };
        let from = served.got;
        served.got += data.len();
        let Some(sent) = served.request.map(|id| &self.requests[id as usize]) else {
            return Ok(());
        };
        let fits = served.got <= sent.request.body.len();
        if sent.wild || (fits && is_content(request_key(sent.request.id), from, data)) {
            Ok(())
        } else {
            Err(format!("the body of {:?} differs after {from} bytes", sent.request))
        }
    }

    fn app_end(&mut self, at: usize, stream: u32, section: Option<&Vec<u8>>) -> Check {
        let Some(served) = self.apps[at].served.get_mut(&stream) else { return Ok(()) };
        served.complete = true;
        let got = served.got;
        let Some(sent) = served.request.map(|id| &self.requests[id as usize]) else {
            return Ok(());
        };
        let body = sent.request.body;
        if sent.wild {
            return Ok(());
        }
        if got != body.len() || !(sent.complete || body == Body::Length(0)) {
            return Err(format!("{:?} seems complete after {got} bytes", sent.request));
        }
        let expected = body.has_trailers().then(|| trailers(sent.request.id));
        if expected.as_ref() != section {
            return Err(format!("{:?} ends with {section:?}", sent.request));
        }
        Ok(())
    }

    // ---- What it does ----

    pub(super) fn app_acts(&mut self, at: usize) {
        let app = &self.apps[at];
        if app.finishing || app.is_hostile() {
            return;
        }
        let open = app.served.iter().filter(|(_, served)| !served.over);
        let open: Vec<u32> = open.map(|(&stream, _)| stream).collect();
        if open.is_empty() {
            return;
        }
        let stream = pick(self.choose, &open);
        let rare = usize::from(self.faults);
        let is_http2 = matches!(self.apps[at].kind, Kind::Http2(_));
        match weighted(self.choose, &[12, 1, 1, rare, rare]) {
            0 => self.answer_some(at, stream, true),
            1 => self.say_interim(at, stream),
            2 if is_http2 => {
                let reads = self.choose.flip();
                if let Kind::Http2(mux) = &mut self.apps[at].kind {
                    mux.reads = reads;
                    if reads {
                        mux.read_on();
                    }
                }
            }
            3 if is_http2 => self.reset(at, stream),
            4 if is_http2 => self.misbehave(at),
            _ => {}
        }
        self.apps[at].flush();
    }

    fn say_interim(&mut self, at: usize, stream: u32) {
        let app = &mut self.apps[at];
        let Some(served) = app.served.get(&stream) else { return };
        if served.answer.is_some() {
            return;
        }
        let head = b"HTTP/1.1 103 Early Hints\r\nlink: </x>\r\n\r\n";
        match &mut app.kind {
            Kind::Http2(mux) => mux.answer(stream, head, false),
            _ => app.out.extend(head),
        }
    }

    /// It answers, or goes on with an answer.
    fn answer_some(&mut self, at: usize, stream: u32, in_pieces: bool) {
        let app = &mut self.apps[at];
        let Some(served) = app.served.get_mut(&stream) else { return };
        let early = self.faults && self.choose.one_in(8);
        let (Some(id), true) = (served.request, served.complete || early) else { return };
        let request = &self.requests[id as usize].request;
        let begins = served.answer.is_none();
        let answer = *served.answer.get_or_insert_with(|| {
            let answer = self.answers.len() as u32;
            let made = Answer::choose(self.choose, answer, request, self.largest);
            self.answers.push(Told { answer: made, finished: false, seen: false });
            answer
        });
        let told = &mut self.answers[answer as usize];
        let body = told.answer.body;
        let Kind::Http2(mux) = &mut app.kind else {
            let bytes = content(response_key(answer), 0, body.len());
            app.out.extend(told.answer.head());
            app.out.extend(body.encode(&bytes, answer, self.choose));
            told.finished = true;
            // A complete answer to half a request ends the connection.
            app.finishing |= !served.complete;
            served.over = true;
            return;
        };
        if begins {
            let end = body == Body::Nothing || (body == Body::Length(0) && self.choose.flip());
            mux.answer(stream, &told.answer.head(), end);
            told.finished = end;
            served.over = end;
            if end || in_pieces {
                return;
            }
        }
        let left = body.len() - served.sent;
        let n = if in_pieces { self.choose.within(0, left) } else { left };
        let data = content(response_key(answer), served.sent, n);
        served.sent += n;
        let last = served.sent == body.len();
        mux.send(stream, &data, last && !body.has_trailers());
        if last && body.has_trailers() {
            mux.trailers(stream, &trailers(answer));
        }
        told.finished = last;
        served.over = last;
    }

    fn reset(&mut self, at: usize, stream: u32) {
        let codes = [ErrorCode::REFUSED_STREAM, ErrorCode::CANCEL, ErrorCode::INTERNAL_ERROR];
        let code = pick(self.choose, &codes);
        let app = &mut self.apps[at];
        let Some(served) = app.served.get_mut(&stream) else { return };
        if code == ErrorCode::REFUSED_STREAM && served.answer.is_some() {
            return;
        }
        if code == ErrorCode::REFUSED_STREAM {
            app.refused.insert(stream);
        }
        served.over = true;
        if let Kind::Http2(mux) = &mut app.kind {
            mux.reset(stream, code);
            self.outcome.resets += 1;
        }
    }

    /// It says goodbye, or something that nobody should say.
    fn misbehave(&mut self, at: usize) {
        let app = &mut self.apps[at];
        let Kind::Http2(mux) = &mut app.kind else { return };
        if self.choose.flip() {
            self.outcome.goaways += 1;
            mux.shut_down(self.net.now);
        } else if self.choose.one_in(3) {
            self.outcome.hostile += 1;
            mux.offend(self.choose);
        }
    }

    pub(super) fn app_breaks(&mut self, at: usize) {
        let app = &mut self.apps[at];
        let Some(conn) = app.conn else { return };
        // What it wanted to say, it does not: in HTTP/1 that is the end of its last answer.
        let cut = matches!(app.kind, Kind::Http1(_)) && !app.out.is_empty();
        let last = app.served.values().next_back().and_then(|served| served.answer);
        if let Some(answer) = last.filter(|_| cut) {
            self.answers[answer as usize].finished = false;
        }
        if self.choose.flip() {
            let kind = pick(self.choose, &[IoError::Reset, IoError::TimedOut, IoError::Other]);
            if self.net.failed(conn, kind) {
                app.out.clear();
            }
        } else {
            app.out.clear();
            app.mute = true;
            app.finishing = true;
        }
    }

    // ---- In the end ----

    pub(super) fn app_heals(&mut self, at: usize) {
        let app = &mut self.apps[at];
        if app.is_hostile() {
            if let Some(conn) = app.conn {
                app.out.clear();
                self.net.failed(conn, IoError::Reset);
            }
            return;
        }
        if app.finishing {
            return;
        }
        if let Kind::Http2(mux) = &mut app.kind {
            mux.read_on();
        }
        let open = app.served.iter().filter(|(_, served)| served.complete && !served.over);
        let open: Vec<u32> = open.map(|(&stream, _)| stream).collect();
        for stream in open {
            self.answer_some(at, stream, false);
        }
        self.apps[at].flush();
    }
}
