//! Apps: what they make of what they get, and what they answer.

use std::collections::VecDeque;
use std::net::SocketAddr;

use selvedge_core::engine::ConnId;
use selvedge_core::error::IoError;

use super::end::End;
use super::mesh;
use super::net::{Check, Reset};
use super::world::{Owner, Told, World};
use crate::choose::{pick, weighted};
use crate::traffic::arrival::{Way, check_request_head, check_trailers};
use crate::traffic::content::{is_content, number, request_key};
use crate::traffic::request::{self, Body, is_idempotent};
use crate::traffic::response::{self, Answer, Response};
use crate::traffic::wire::{Field, Framing, Head, Part, Reader, show};

/// The answer to a request that nobody knows.
const UNKNOWN: &[u8] = b"HTTP/1.1 404 Who are you\r\nContent-Length: 0\r\n\r\n";

/// An app's end of one connection from the proxy.
#[derive(Debug)]
pub(super) struct App {
    /// `None`: it is over.
    pub(super) conn: Option<ConnId>,
    connected: bool,
    pub(super) addr: SocketAddr,
    kind: Kind,
    /// What came before the kind was known.
    first: Vec<u8>,
    reader: Reader,
    current: Option<Current>,
    /// What it wants to send.
    pub(super) out: VecDeque<u8>,
    /// How much it has sent.
    sent: usize,
    /// It closes when everything is sent.
    pub(super) finishing: bool,
    /// It resets when everything is sent.
    resetting: bool,
    /// It has said something that no honest app would have.
    pub(super) tainted: bool,
    pub(super) end: Option<End>,
    saw_fin: bool,
}

/// What is spoken on a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Unknown,
    Http,
    Tunnel,
}

/// The request that is being read or answered.
#[derive(Debug)]
struct Current {
    /// `None`: it is nobody's.
    request: Option<u32>,
    method: &'static str,
    /// How much of its body has come.
    got: usize,
    complete: bool,
    answered: bool,
    /// How much the app had sent before.
    since: usize,
}

impl App {
    pub(super) fn new(conn: ConnId, addr: SocketAddr) -> Self {
        App {
            conn: Some(conn),
            connected: false,
            addr,
            kind: Kind::Unknown,
            first: Vec::new(),
            reader: Reader::default(),
            current: None,
            out: VecDeque::new(),
            sent: 0,
            finishing: false,
            resetting: false,
            tainted: false,
            end: None,
            saw_fin: false,
        }
    }

    /// Is it connected, and not over?
    pub(super) fn is_open(&self) -> bool {
        self.conn.is_some() && self.connected
    }

    /// Has it nothing to do?
    pub(super) fn is_idle(&self) -> bool {
        self.is_open()
            && self.kind == Kind::Http
            && self.current.is_none()
            && self.out.is_empty()
            && !self.tainted
            && !self.is_ending()
    }

    fn is_ending(&self) -> bool {
        self.finishing || self.resetting
    }
}

impl World<'_> {
    // ---- What an app gets ----

    pub(super) fn app_connected(&mut self, at: usize) {
        self.apps[at].connected = true;
        if mesh::is_opaque(self.apps[at].addr) {
            self.open_app_tunnel(at);
        }
    }

    fn open_app_tunnel(&mut self, at: usize) {
        let mut end = self.open_end(Owner::App(at), b"");
        // It may have said goodbye before.
        end.finished = self.apps[at].finishing;
        self.apps[at].kind = Kind::Tunnel;
        self.apps[at].end = Some(end);
    }

    pub(super) fn app_got(&mut self, at: usize, bytes: &[u8]) -> Check {
        let app = &mut self.apps[at];
        match app.kind {
            // Whatever it said, the proxy may have taken it for the beginning of a tunnel.
            _ if app.tainted => {
                self.note_mentions(at, bytes);
                return Ok(());
            }
            Kind::Tunnel => return self.end_got(Owner::App(at), bytes),
            Kind::Http => app.reader.feed(bytes),
            Kind::Unknown => {
                app.first.extend_from_slice(bytes);
                let first = std::mem::take(&mut app.first);
                let told = first.len() >= 4 || first.iter().any(|byte| *byte < b' ');
                if !told {
                    app.first = first;
                    return Ok(());
                }
                if first[0] < b' ' || first.starts_with(b"PRI ") || first.starts_with(b"HELO") {
                    self.open_app_tunnel(at);
                    return self.end_got(Owner::App(at), &first);
                }
                app.kind = Kind::Http;
                app.reader.feed(&first);
            }
        }
        self.app_parts(at)
    }

    /// A connection on which nobody knows what is what: notes whose requests it may have answered.
    fn note_mentions(&mut self, at: usize, bytes: &[u8]) {
        let first = &mut self.apps[at].first;
        first.extend_from_slice(bytes);
        for (place, _) in first.windows(6).enumerate().filter(|(_, window)| window == b"X-Id: ") {
            let id = first.get(place + 6..place + 14).and_then(number);
            let sent = id.and_then(|id| self.requests.get_mut(id as usize));
            if let Some(sent) = sent.filter(|sent| sent.attempts.last() != Some(&at)) {
                sent.attempts.push(at);
            }
        }
        let keep = first.len().saturating_sub(20);
        first.drain(..keep);
    }

    fn app_parts(&mut self, at: usize) -> Check {
        let mut framing = |head: &Head| match head.framing()? {
            Framing::UntilClose => Ok(Framing::Nothing),
            framing => Ok(framing),
        };
        while let Some(part) = self.apps[at].reader.next(&mut framing)? {
            match part {
                Part::Head(head) => self.app_head(at, &head)?,
                Part::Data(data) => self.app_data(at, &data)?,
                Part::End(trailers) => self.app_end(at, &trailers)?,
            }
        }
        Ok(())
    }

    fn app_head(&mut self, at: usize, head: &Head) -> Check {
        let app = &mut self.apps[at];
        if let Some(current) = &app.current {
            return Err(format!("a request within another, {current:?}: {}", show(&head.line)));
        }
        if !app.out.is_empty() && !app.tainted {
            return Err(format!("a request before the last answer: {}", show(&head.line)));
        }
        let id = head.get("X-Id").and_then(number);
        let id = id.filter(|&id| (id as usize) < self.requests.len());
        app.current = Some(Current {
            request: id,
            method: request::known_method(head.parts()[0]),
            got: 0,
            complete: false,
            answered: false,
            since: app.sent,
        });
        self.outcome.attempts += 1;
        self.outcome.reuses += u64::from(app.sent > 0);
        let Some(id) = id else { return Ok(()) };
        self.note_attempt(at, id)?;
        if self.requests[id as usize].wild { Ok(()) } else { self.check_request(at, id, head) }
    }

    /// A request reached this app. May it?
    fn note_attempt(&mut self, at: usize, id: u32) -> Check {
        let sent = &mut self.requests[id as usize];
        let before = sent.attempts.last().copied();
        sent.attempts.push(at);
        let Some(before) = before.filter(|_| !sent.wild) else { return Ok(()) };
        self.outcome.replays += 1;
        let app = &self.apps[before];
        if app.tainted {
            return Ok(());
        }
        let since = app.current.as_ref().map(|current| current.since);
        if !is_idempotent(sent.request.method) {
            return Err(format!("a {} is sent twice", sent.request.method));
        }
        if app.conn.is_some() {
            return Err(format!("request {id} is sent again for no reason"));
        }
        if sent.answered || since.is_some_and(|since| app.sent > since) {
            return Err(format!("request {id} is sent again after an answer"));
        }
        Ok(())
    }

    fn check_request(&self, at: usize, id: u32, head: &Head) -> Check {
        let sent = &self.requests[id as usize];
        let request = &sent.request;
        check_request_head(request, Way::http1(1), head)?;
        let place = self.place_of(sent.client);
        let targets = self.mesh.targets(place, request.authority.as_deref());
        if !targets.contains(&self.apps[at].addr) {
            return Err(format!("{:?} went to {}", request.authority, self.apps[at].addr));
        }
        Ok(())
    }

    fn app_data(&mut self, at: usize, data: &[u8]) -> Check {
        let Some(current) = &mut self.apps[at].current else {
            return Err(format!("data of no request: {}", show(data)));
        };
        let from = current.got;
        current.got += data.len();
        let sent = current.request.map(|id| &self.requests[id as usize]);
        let Some(sent) = sent.filter(|sent| !sent.wild) else { return Ok(()) };
        if current.got > sent.request.body.len()
            || !is_content(request_key(sent.request.id), from, data)
        {
            return Err(format!("body of request {} differs after {from} bytes", sent.request.id));
        }
        Ok(())
    }

    fn app_end(&mut self, at: usize, trailers: &[Field]) -> Check {
        let app = &mut self.apps[at];
        let Some(current) = &mut app.current else { return Err("the end of nothing".to_owned()) };
        current.complete = true;
        let (id, got, answered) = (current.request, current.got, current.answered);
        if answered {
            app.current = None;
        }
        let sent = id.map(|id| &self.requests[id as usize]);
        let Some(sent) = sent.filter(|sent| !sent.wild) else { return Ok(()) };
        let body = &sent.request.body;
        if got != body.len() {
            return Err(format!("request seems complete after {got} of {} bytes", body.len()));
        }
        check_trailers(&body.trailers(sent.request.id), Way::http1(1), trailers)
    }

    pub(super) fn app_fin(&mut self, at: usize) -> Check {
        let app = &mut self.apps[at];
        app.saw_fin = true;
        match app.kind {
            _ if app.tainted => Ok(()),
            Kind::Tunnel => self.end_fin(Owner::App(at)),
            _ if app.current.as_ref().is_some_and(|current| !current.complete) => {
                Err("a clean end within a request".to_owned())
            }
            // Too little came to tell what it was.
            Kind::Unknown => Ok(()),
            Kind::Http if app.reader.rest().is_empty() => Ok(()),
            Kind::Http => Err("a clean end within a head".to_owned()),
        }
    }

    pub(super) fn app_over(&mut self, at: usize, reset: Reset) -> Check {
        if reset.is_clean() {
            self.app_fin(at)?;
        } else if !self.faults {
            return Err("a reset where nothing went wrong".to_owned());
        }
        let app = &mut self.apps[at];
        app.conn = None;
        if app.kind == Kind::Http && app.reader.is_between() {
            // The beginning of a request may have had an effect, too.
            let rest = app.reader.take_rest();
            let mark = rest.windows(6).position(|window| window == b"X-Id: ");
            let id = mark.and_then(|at| number(rest.get(at + 6..at + 14)?));
            if let Some(id) = id.filter(|&id| (id as usize) < self.requests.len()) {
                return self.note_attempt(at, id);
            }
        }
        Ok(())
    }

    // ---- What an app does ----

    /// It sends some of what it wants to send.
    pub(super) fn app_delivers(&mut self, at: usize) {
        let app = &self.apps[at];
        let Some(conn) = app.conn else { return };
        if app.out.is_empty() && app.resetting {
            self.net.failed(conn, IoError::Reset);
            return;
        }
        if app.out.is_empty() && app.finishing {
            self.net.read_closed(self.choose, conn);
            return;
        }
        let most = self.net.readable(self.choose, conn, app.out.len());
        if most == 0 {
            return;
        }
        let n = match self.choose.below(5) {
            0 | 1 => most,
            2 => 1,
            _ => self.choose.within(1, most),
        };
        let app = &mut self.apps[at];
        let bytes: Vec<u8> = app.out.drain(..n).collect();
        app.sent += n;
        self.net.receive(conn, &bytes);
    }

    /// It has something to say.
    pub(super) fn app_acts(&mut self, at: usize) {
        let app = &self.apps[at];
        if app.is_ending() {
            return;
        }
        if app.kind == Kind::Tunnel {
            self.send_in_tunnel(Owner::App(at));
            return;
        }
        let Some(current) = app.current.as_ref().filter(|current| !current.answered) else {
            return;
        };
        let (id, complete) = (current.request, current.complete);
        let Some(id) = id else {
            self.tell(at, UNKNOWN);
            self.note_answered(at);
            return;
        };
        let rare = usize::from(self.faults);
        match weighted(self.choose, &[8, 3, rare]) {
            0 if complete || (self.faults && self.choose.one_in(3)) => self.answer(at, id),
            0 | 1 => self.say_interim(at, id, 1),
            _ => {
                let times = pick(self.choose, &[40, 40, 40, 40, 40, 40, 40, 5000]);
                self.say_interim(at, id, times);
            }
        }
    }

    fn say_interim(&mut self, at: usize, id: u32, times: usize) {
        let sent = &mut self.requests[id as usize];
        let (_, interim) = response::interim(self.choose, &sent.request, 0);
        sent.interims += times;
        for _ in 0..times {
            self.tell(at, &interim);
        }
    }

    fn tell(&mut self, at: usize, bytes: &[u8]) {
        self.apps[at].out.extend(bytes);
    }

    /// The current request needs no other answer.
    fn note_answered(&mut self, at: usize) {
        let app = &mut self.apps[at];
        if let Some(current) = &mut app.current {
            current.answered = true;
            if current.complete {
                app.current = None;
            }
        }
    }

    /// It answers the request, honestly.
    pub(super) fn answer(&mut self, at: usize, id: u32) {
        let sent = &self.requests[id as usize];
        let Some(current) = &self.apps[at].current else { return };
        let mut request = sent.request.clone();
        if sent.wild {
            // What came is not what was meant.
            request.method = current.method;
            request.upgrade = false;
        }
        let answer = Answer {
            status: None,
            id: self.responses.len() as u32,
            to: &request,
            largest: self.largest,
            tunnel: current.complete && !sent.wild && self.choose.flip(),
            wait: None,
        };
        let mut response = response::response(self.choose, answer);
        if self.faults && self.choose.one_in(8) {
            self.cut_short(at, &mut response);
        }
        self.tell(at, &response.bytes);
        self.note_answered(at);
        let tunnel =
            response.status == 101 || (response.status == 200 && request.method == "CONNECT");
        let app = &mut self.apps[at];
        if response.close {
            app.finishing |= !app.resetting;
        }
        let wild = app.tainted || self.requests[id as usize].wild;
        if tunnel && !app.is_ending() {
            self.open_app_tunnel(at);
        }
        self.responses.push(Told { response, wild, seen: false });
    }

    /// It breaks off within its answer.
    fn cut_short(&mut self, at: usize, response: &mut Response) {
        let until_close = matches!(response.body, Body::UntilClose(_));
        let app = &mut self.apps[at];
        // A close within such a body would be its end.
        app.resetting = until_close || self.choose.flip();
        app.finishing = !app.resetting;
        let whole = response.bytes.len();
        response.bytes.truncate(self.choose.below(whole));
        response.truncated = true;
    }

    /// Is it one that may have given up its connection just when the request came?
    pub(super) fn is_stale(&self, at: usize) -> bool {
        let app = &self.apps[at];
        let silent = |current: &Current| current.since == app.sent && !current.answered;
        app.is_open() && app.sent > 0 && app.current.as_ref().is_some_and(silent)
    }

    /// It had given up its connection just when the request came.
    pub(super) fn app_is_gone(&mut self, at: usize) {
        let app = &mut self.apps[at];
        app.out.clear();
        app.finishing = self.choose.flip();
        app.resetting = !app.finishing;
        self.app_delivers(at);
    }

    /// It says what it must not, or ends when it should not.
    pub(super) fn app_breaks(&mut self, at: usize) {
        if let Some(at) = (0..self.apps.len()).rfind(|&at| self.is_stale(at))
            && self.choose.flip()
        {
            return self.app_is_gone(at);
        }
        let app = &mut self.apps[at];
        if app.is_ending() {
            return;
        }
        match self.choose.below(4) {
            0 => {
                app.resetting = true;
                if self.choose.flip() {
                    // At once: what it wanted to say is lost.
                    self.forget_answers(at);
                    if let Some(conn) = self.apps[at].conn {
                        let kind = pick(self.choose, &[IoError::Reset, IoError::TimedOut]);
                        self.net.failed(conn, kind);
                    }
                }
            }
            1 if app.kind == Kind::Tunnel => self.finish_stream(Owner::App(at)),
            1 => app.finishing = true,
            _ if app.kind == Kind::Http => self.say_noise(at),
            _ => {}
        }
    }

    /// What it wanted to say, it does not.
    fn forget_answers(&mut self, at: usize) {
        let app = &mut self.apps[at];
        app.out.clear();
    }

    fn say_noise(&mut self, at: usize) {
        let app = &mut self.apps[at];
        app.tainted = true;
        let current = app.current.as_ref().filter(|current| !current.answered);
        let asked = current.and_then(|current| current.request);
        let noise: [&[u8]; 5] = [
            b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhiHTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
            b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n",
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\nx",
            b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n",
            b"+OK ready\r\n",
        ];
        match asked {
            Some(id) if self.choose.flip() => {
                let answer = Answer {
                    status: None,
                    id: self.responses.len() as u32,
                    to: &self.requests[id as usize].request,
                    largest: self.largest,
                    tunnel: false,
                    wait: None,
                };
                let mut response = response::response(self.choose, answer);
                request::damage(self.choose, &mut response.bytes);
                self.tell(at, &response.bytes);
                self.responses.push(Told { response, wild: true, seen: false });
            }
            _ => {
                let noise = pick(self.choose, &noise);
                self.tell(at, noise);
            }
        }
        self.note_answered(at);
    }

    // ---- In the end ----

    /// It does what it still has to do.
    pub(super) fn app_heals(&mut self, at: usize) {
        let app = &mut self.apps[at];
        app.resetting |= app.tainted;
        if app.is_ending() {
            return;
        }
        if app.kind == Kind::Tunnel {
            if app.saw_fin {
                self.finish_stream(Owner::App(at));
            }
            return;
        }
        // It may never learn what the connection was for.
        app.finishing |= app.saw_fin;
        self.app_answers(at);
    }

    /// It answers what waits for an answer.
    pub(super) fn app_answers(&mut self, at: usize) {
        let app = &self.apps[at];
        let current = app.current.as_ref();
        let Some(current) = current.filter(|current| current.complete && !current.answered) else {
            return;
        };
        if app.is_ending() {
            return;
        }
        if let Some(id) = current.request {
            return self.answer(at, id);
        }
        self.tell(at, UNKNOWN);
        self.note_answered(at);
    }
}
