//! Clients of either version.

use std::collections::{BTreeMap, VecDeque};

use selvedge_core::engine::ConnId;
use selvedge_core::error::IoError;
use selvedge_core::http2::ErrorCode;
use selvedge_core::time::Time;

use super::message::{Body, Request, trailers};
use super::world::{AUTHORITIES, Sent, World, settings};
use crate::choose::{Choose, pick, weighted};
use crate::h2::mux::{Happened, Mux};
use crate::script::net::Check;
use crate::traffic::content::{content, is_content, number, request_key, response_key};
use crate::traffic::wire::{Framing, Head, Part, Reader, read_head};

/// A client.
#[derive(Debug)]
pub(super) struct Client {
    /// `None`: it is over.
    pub(super) conn: Option<ConnId>,
    out: VecDeque<u8>,
    /// It broke off: nothing more goes out.
    mute: bool,
    /// It closes when everything is sent.
    finishing: bool,
    /// It has sent a byte.
    spoke: bool,
    kind: Kind,
    /// By stream; in HTTP/1 by number.
    asked: BTreeMap<u32, Asked>,
}

#[derive(Debug)]
enum Kind {
    Http1(Reader),
    Http2(Box<Mux>),
}

/// A request on a stream.
#[derive(Debug)]
struct Asked {
    request: u32,
    /// How much of its body was sent.
    sent: usize,
    sent_end: bool,
    answer: From,
    got: usize,
    /// The answer is complete, or there will be none.
    over: bool,
}

/// Whose answer it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum From {
    Nobody,
    App(u32),
    Proxy,
    Wild,
}

impl Client {
    fn new(conn: ConnId, kind: Kind) -> Self {
        Client {
            conn: Some(conn),
            out: VecDeque::new(),
            mute: false,
            finishing: false,
            spoke: false,
            kind,
            asked: BTreeMap::new(),
        }
    }

    pub(super) fn http1(conn: ConnId) -> Self {
        Self::new(conn, Kind::Http1(Reader::default()))
    }

    pub(super) fn http2(conn: ConnId, choose: &mut dyn Choose, faults: bool, now: Time) -> Self {
        Self::new(conn, Kind::Http2(Box::new(Mux::client(settings(choose, faults), now))))
    }

    /// Time passes in which a client that has said nothing is taken for one that never will.
    pub(super) fn hush(&mut self) {
        if !self.spoke {
            self.out.clear();
            self.finishing = true;
        }
    }

    /// For people: what is missing.
    pub(super) fn waits_for(&self) -> Option<String> {
        let open: Vec<_> = self.asked.iter().filter(|(_, asked)| !asked.over).collect();
        self.conn.map(|conn| {
            format!(
                "{conn:?}: {} bytes to send, finishing {}, {open:?}",
                self.out.len(),
                self.finishing
            )
        })
    }

    fn is_hostile(&self) -> bool {
        matches!(&self.kind, Kind::Http2(mux) if mux.hostile)
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
    pub(super) fn client_delivers(&mut self, at: usize) {
        let client = &mut self.clients[at];
        let Some(conn) = client.conn else { return };
        client.flush();
        if client.out.is_empty() && client.finishing {
            self.net.read_closed(self.choose, conn);
            return;
        }
        let (len, spoke) = (client.out.len(), client.spoke);
        let mut n = self.some_of(conn, len);
        if n > 0 && !spoke {
            // Detection gives up on what drips.
            n = n.max(self.net.readable(self.choose, conn, len.min(24)));
        }
        if n == 0 {
            return;
        }
        let client = &mut self.clients[at];
        client.spoke = true;
        let bytes: Vec<u8> = client.out.drain(..n).collect();
        self.net.receive(conn, &bytes);
    }

    // ---- What it does ----

    pub(super) fn client_acts(&mut self, at: usize) {
        let client = &self.clients[at];
        if client.finishing || client.is_hostile() {
            return;
        }
        let unsent =
            |(&stream, asked): (&u32, &Asked)| (!asked.sent_end && !asked.over).then_some(stream);
        let unsent: Vec<u32> = client.asked.iter().filter_map(unsent).collect();
        let open: Vec<u32> =
            client.asked.iter().filter(|(_, asked)| !asked.over).map(|(&id, _)| id).collect();
        let rare = usize::from(self.faults);
        if let Kind::Http1(_) = client.kind {
            if open.is_empty() {
                self.ask_http1(at);
            }
            return;
        }
        match weighted(self.choose, &[6, 8, 1, rare, rare]) {
            1 if !unsent.is_empty() => {
                let stream = pick(self.choose, &unsent);
                self.send_some(at, stream, usize::MAX);
            }
            0 | 1 => {
                for _ in 0..=self.choose.below(3) {
                    self.ask_http2(at);
                }
            }
            2 => {
                let reads = self.choose.flip();
                if let Kind::Http2(mux) = &mut self.clients[at].kind {
                    mux.reads = reads;
                    if reads {
                        mux.read_on();
                    }
                }
            }
            3 if !open.is_empty() => {
                let stream = pick(self.choose, &open);
                let code = pick(self.choose, &[ErrorCode::CANCEL, ErrorCode::NO_ERROR]);
                let client = &mut self.clients[at];
                if let (Kind::Http2(mux), Some(asked)) =
                    (&mut client.kind, client.asked.get_mut(&stream))
                {
                    mux.reset(stream, code);
                    asked.over = true;
                    asked.sent_end = true;
                    self.outcome.resets += 1;
                }
            }
            4 if self.choose.one_in(3) => self.offend(at),
            _ => {}
        }
        self.clients[at].flush();
    }

    fn offend(&mut self, at: usize) {
        self.outcome.hostile += 1;
        let client = &mut self.clients[at];
        for asked in client.asked.values() {
            self.requests[asked.request as usize].wild = true;
        }
        if let Kind::Http2(mux) = &mut client.kind {
            mux.offend(self.choose);
        }
    }

    fn new_request(&mut self) -> Request {
        let id = self.requests.len() as u32;
        let known = if self.faults { AUTHORITIES.len() } else { AUTHORITIES.len() - 1 };
        let request = Request::choose(self.choose, id, &AUTHORITIES[..known], self.largest);
        self.outcome.requests += 1;
        self.requests.push(Sent {
            request: request.clone(),
            wild: false,
            complete: false,
            attempts: Vec::new(),
            answered: false,
            served: false,
        });
        request
    }

    fn ask_http1(&mut self, at: usize) {
        let request = self.new_request();
        let body = content(request_key(request.id), 0, request.body.len());
        let body = request.body.encode(&body, request.id, self.choose);
        self.requests[request.id as usize].complete = true;
        let client = &mut self.clients[at];
        client.out.extend(request.head());
        client.out.extend(body);
        let number = client.asked.len() as u32;
        let asked = Asked { sent_end: true, ..Asked::new(request.id) };
        client.asked.insert(number, asked);
    }

    fn ask_http2(&mut self, at: usize) {
        let Kind::Http2(mux) = &self.clients[at].kind else { return };
        if mux.connection.capacity() == 0 || mux.connection.is_going() {
            return;
        }
        let request = self.new_request();
        let now = self.net.now;
        let end = request.body == Body::Nothing
            || (request.body == Body::Length(0) && self.choose.flip());
        self.requests[request.id as usize].complete = end;
        let client = &mut self.clients[at];
        let Kind::Http2(mux) = &mut client.kind else { return };
        if let Some(stream) = mux.ask(&request.head(), end, now) {
            client.asked.insert(stream, Asked { sent_end: end, ..Asked::new(request.id) });
        }
    }

    /// It sends more of a body, and its end after the last byte.
    fn send_some(&mut self, at: usize, stream: u32, most: usize) {
        let client = &mut self.clients[at];
        let Kind::Http2(mux) = &mut client.kind else { return };
        let Some(asked) = client.asked.get_mut(&stream) else { return };
        if asked.sent_end || !mux.can_send(stream) {
            return;
        }
        let sent = &mut self.requests[asked.request as usize];
        let body = sent.request.body;
        let left = body.len() - asked.sent;
        let n = if most == usize::MAX { self.choose.within(0, left) } else { left };
        let data = content(request_key(asked.request), asked.sent, n);
        asked.sent += n;
        let last = asked.sent == body.len();
        asked.sent_end = last;
        sent.complete |= last;
        mux.send(stream, &data, last && !body.has_trailers());
        if last && body.has_trailers() {
            mux.trailers(stream, &trailers(asked.request));
        }
    }

    pub(super) fn client_breaks(&mut self, at: usize) {
        let client = &mut self.clients[at];
        let Some(conn) = client.conn else { return };
        let kind = pick(self.choose, &[IoError::Reset, IoError::TimedOut, IoError::Other]);
        if self.choose.flip() {
            if self.net.failed(conn, kind) {
                client.out.clear();
            }
        } else {
            if let Kind::Http2(mux) = &mut client.kind
                && self.choose.flip()
            {
                mux.shut_down(self.net.now);
            } else {
                // What it has not sent is lost.
                client.out.clear();
                client.mute = true;
            }
            client.finishing = true;
        }
    }

    // ---- What it gets ----

    pub(super) fn client_got(&mut self, at: usize, bytes: &[u8]) -> Check {
        let now = self.net.now;
        let client = &mut self.clients[at];
        match &mut client.kind {
            Kind::Http2(mux) => {
                for (stream, happened) in mux.receive(bytes, now)? {
                    self.client_happened(at, stream, happened)?;
                }
                if let Kind::Http2(mux) = &self.clients[at].kind {
                    mux.check()?;
                }
                self.forget_unprocessed(at);
            }
            Kind::Http1(reader) => {
                reader.feed(bytes);
                self.client_parts(at)?;
            }
        }
        self.clients[at].flush();
        Ok(())
    }

    /// What the engine says it has not looked at gets no answer.
    fn forget_unprocessed(&mut self, at: usize) {
        let client = &mut self.clients[at];
        let Kind::Http2(mux) = &client.kind else { return };
        let Some(last) = mux.last else { return };
        for (_, asked) in client.asked.range_mut(last.saturating_add(1)..) {
            asked.over = true;
            asked.sent_end = true;
        }
    }

    fn client_parts(&mut self, at: usize) -> Check {
        loop {
            let client = &mut self.clients[at];
            let Kind::Http1(reader) = &mut client.kind else { return Ok(()) };
            let current = client.asked.iter().find(|(_, asked)| !asked.over);
            let current = current.map(|(&number, asked)| (number, asked.request));
            let method = current.map_or("GET", |(_, id)| self.requests[id as usize].request.method);
            let mut framing = |head: &Head| match (head.status(), method) {
                (100..=199 | 204 | 304, _) | (_, "HEAD") => Ok(Framing::Nothing),
                _ => head.framing(),
            };
            let Some(part) = reader.next(&mut framing)? else { return Ok(()) };
            let Some((number, _)) = current else { return Err(format!("unasked: {part:?}")) };
            match part {
                Part::Head(head) => self.client_head(at, number, &head)?,
                Part::Data(data) => self.client_data(at, number, &data)?,
                Part::End(fields) => {
                    let interim = self.clients[at].asked[&number].answer == From::Nobody;
                    if !interim {
                        let section = fields.iter().flat_map(|(name, value)| {
                            let name = name.to_ascii_lowercase();
                            [name.as_bytes(), b": ", value, b"\r\n"].concat()
                        });
                        let section: Vec<u8> = section.chain(*b"\r\n").collect();
                        self.client_end(at, number, (!fields.is_empty()).then_some(&section))?;
                    }
                }
            }
        }
    }

    fn client_happened(&mut self, at: usize, stream: u32, happened: Happened) -> Check {
        let client = &self.clients[at];
        if client.is_hostile() {
            return Ok(());
        }
        let Some(asked) = client.asked.get(&stream) else {
            return Err(format!("{happened:?} on stream {stream}, which there is not"));
        };
        if let Happened::Reset(code) = happened {
            self.outcome.resets += 1;
            let over = std::mem::replace(
                &mut self.clients[at].asked.get_mut(&stream).expect("it").over,
                true,
            );
            return if over || self.faults {
                Ok(())
            } else {
                Err(format!("stream {stream} is reset for nothing: {code:?}"))
            };
        }
        if asked.over {
            return Ok(());
        }
        match happened {
            Happened::Head(head, end) => {
                self.client_head(at, stream, &read_head(&head)?)?;
                if end {
                    self.client_end(at, stream, None)?;
                }
            }
            Happened::Data(data, end) => {
                self.client_data(at, stream, &data)?;
                if end {
                    self.client_end(at, stream, None)?;
                }
            }
            Happened::Trailers(section) => self.client_end(at, stream, Some(&section))?,
            Happened::Reset(_) => {}
        }
        Ok(())
    }

    fn client_head(&mut self, at: usize, stream: u32, head: &Head) -> Check {
        let Some(asked) = self.clients[at].asked.get_mut(&stream) else { return Ok(()) };
        if asked.answer != From::Nobody {
            return Err(format!("a second answer on {stream}: {head:?}"));
        }
        if matches!(head.status(), 100..=199) {
            return Ok(());
        }
        let sent = &mut self.requests[asked.request as usize];
        sent.answered = true;
        let told = head.get("x-rid").and_then(number);
        if let Some(told) = told.and_then(|id| self.answers.get_mut(id as usize)) {
            asked.answer = From::App(told.answer.id);
            sent.served = true;
            if told.answer.request != asked.request || std::mem::replace(&mut told.seen, true) {
                return Err(format!("{:?} answers {:?}", told.answer, sent.request));
            }
            self.outcome.answers += 1;
            return told.answer.check(head);
        }
        let hostile = self.apps.iter().any(|app| app.is_hostile());
        if head.get("l5d-proxy-error").is_some() {
            asked.answer = From::Proxy;
            self.outcome.refusals += 1;
            return if self.faults { Ok(()) } else { Err(format!("refused: {head:?}")) };
        }
        asked.answer = From::Wild;
        if hostile { Ok(()) } else { Err(format!("an answer from nowhere: {head:?}")) }
    }

    fn client_data(&mut self, at: usize, stream: u32, data: &[u8]) -> Check {
        let Some(asked) = self.clients[at].asked.get_mut(&stream) else { return Ok(()) };
        let From::App(id) = asked.answer else { return Ok(()) };
        let from = asked.got;
        asked.got += data.len();
        let fits = asked.got <= self.answers[id as usize].answer.body.len();
        let met_hostile = self.met_hostile(self.clients[at].asked[&stream].request);
        if (fits && is_content(response_key(id), from, data)) || met_hostile {
            Ok(())
        } else {
            Err(format!("the body of answer {id} differs after {from} bytes"))
        }
    }

    /// Has an app that says what it likes seen this request?
    fn met_hostile(&self, request: u32) -> bool {
        let attempts = &self.requests[request as usize].attempts;
        attempts.iter().any(|&(app, _)| self.apps[app].is_hostile())
    }

    fn client_end(&mut self, at: usize, stream: u32, section: Option<&Vec<u8>>) -> Check {
        let Some(asked) = self.clients[at].asked.get_mut(&stream) else { return Ok(()) };
        asked.over = true;
        let (answer, got, request) = (asked.answer, asked.got, asked.request);
        let From::App(id) = answer else {
            return if answer == From::Nobody {
                Err("an end without an answer".into())
            } else {
                Ok(())
            };
        };
        if self.met_hostile(request) {
            return Ok(());
        }
        let told = &self.answers[id as usize];
        let body = told.answer.body;
        if got != body.len() || !(told.finished || body == Body::Length(0)) {
            return Err(format!("answer {id} seems complete after {got} of {body:?}"));
        }
        let expected = body.has_trailers().then(|| trailers(id));
        if expected.as_ref() != section {
            return Err(format!("answer {id} ends with {section:?}"));
        }
        Ok(())
    }

    pub(super) fn client_fin(&mut self, at: usize) -> Check {
        let client = &mut self.clients[at];
        client.finishing = true;
        let open = client.asked.values().any(|asked| !asked.over);
        if open && !self.faults { Err("a close before the answer".to_owned()) } else { Ok(()) }
    }

    pub(super) fn client_over(&mut self, at: usize) -> Check {
        let client = &mut self.clients[at];
        client.conn = None;
        let hostile = client.is_hostile();
        if let Kind::Http1(reader) = &client.kind
            && reader.is_until_close()
        {
            return Err("a body that only its connection ends".to_owned());
        }
        // What the engine says that it has not looked at, nobody has seen.
        if let Kind::Http2(mux) = &client.kind
            && let Some(last) = mux.last.filter(|_| !hostile)
        {
            let seen = |asked: &Asked| !self.requests[asked.request as usize].attempts.is_empty();
            let lost = client.asked.iter().find(|(id, asked)| **id > last && seen(asked));
            if let Some((id, _)) = lost {
                return Err(format!("stream {id} above {last} was looked at"));
            }
        }
        let open = client.asked.values().any(|asked| !asked.over);
        if open && !self.faults { Err("closed before the answer".to_owned()) } else { Ok(()) }
    }

    // ---- In the end ----

    pub(super) fn client_heals(&mut self, at: usize) {
        let client = &mut self.clients[at];
        if client.is_hostile() {
            if let Some(conn) = client.conn {
                client.out.clear();
                self.net.failed(conn, IoError::Reset);
            }
            return;
        }
        if let Kind::Http2(mux) = &mut client.kind {
            mux.read_on();
        }
        let streams: Vec<u32> = client.asked.keys().copied().collect();
        for stream in streams {
            self.send_some(at, stream, 0);
        }
        let client = &mut self.clients[at];
        client.finishing |= client.asked.values().all(|asked| asked.over);
        client.flush();
    }
}

impl Asked {
    fn new(request: u32) -> Self {
        Asked { request, sent: 0, sent_end: false, answer: From::Nobody, got: 0, over: false }
    }
}
