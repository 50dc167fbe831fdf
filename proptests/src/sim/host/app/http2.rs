//! An HTTP/2 app on one connection: what it makes of what it gets on its streams, and what it
//! answers.

use std::collections::BTreeMap;
use std::time::Duration;

use selvedge_core::http2::ErrorCode;

use super::super::http2::{STREAM, Streams};
use super::super::wire::{Then, Wire};
use super::health;
use super::served::{self, Served};
use super::{DROP, REST};
use crate::choose::pick;
use crate::h2::mux::Happened;
use crate::sim::fault::Fault;
use crate::sim::invariant::{Check, Invariant, violated};
use crate::sim::link::Stamp;
use crate::sim::model::Told;
use crate::sim::net::{HostId, Net};
use crate::traffic::content::{content, response_key};
use crate::traffic::request::Body;
use crate::traffic::wire::{parse_section, read_head};

/// What a wake-up of a stream is about.
const ANSWER: u32 = 0;
const MORE: u32 = 1;

/// The answer to a request that nobody knows.
const UNKNOWN: &[u8] = b"HTTP/1.1 404 Who are you\r\nContent-Length: 0\r\n\r\n";

/// The state of one connection.
pub(super) struct Http2 {
    streams: Streams,
    app: u16,
    slot: u32,
    /// By stream.
    open: BTreeMap<u32, Open>,
    /// The last stream that it looks at, if it said goodbye.
    last: Option<u32>,
    newest: u32,
    /// Its answers.
    told: Vec<u32>,
    /// It has said something that no honest app would have.
    tainted: bool,
}

/// A stream that is not over.
struct Open {
    served: Served,
    /// The answer, and how much of its body was handed over.
    answer: Option<(u32, usize)>,
    /// Nothing more is to be sent.
    done: bool,
}

impl Http2 {
    pub(super) fn new(net: &mut Net<'_>, app: u16, slot: u32) -> Self {
        Http2 {
            streams: Streams::server(net, HostId::App(app), slot),
            app,
            slot,
            open: BTreeMap::new(),
            last: None,
            newest: 0,
            told: Vec::new(),
            tainted: false,
        }
    }

    fn me(&self) -> HostId {
        HostId::App(self.app)
    }

    // ---- What it gets ----

    pub(super) fn got(
        &mut self,
        net: &mut Net<'_>,
        wire: &mut Wire,
        bytes: &[u8],
        stamp: Stamp,
    ) -> Check {
        for (stream, happened) in self.streams.receive(net, bytes)? {
            // Whatever it said, the proxy may have taken it for anything.
            if !self.tainted {
                self.happened(net, wire, stream, happened, stamp)?;
            }
        }
        self.streams.pump(net, wire);
        self.close_after_goodbye(net, wire);
        Ok(())
    }

    fn happened(
        &mut self,
        net: &mut Net<'_>,
        wire: &mut Wire,
        stream: u32,
        happened: Happened,
        stamp: Stamp,
    ) -> Check {
        if self.last.is_some_and(|last| stream > last) {
            return Ok(());
        }
        let head = match happened {
            Happened::Head(head, end) => (head, end),
            Happened::Reset(_) => {
                self.open.remove(&stream);
                return Ok(());
            }
            Happened::Data(data, end) => {
                let Some(open) = self.open.get_mut(&stream) else { return Ok(()) };
                if !data.is_empty() {
                    open.served.data(net, &data)?;
                }
                return if end { self.got_end(net, wire, stream, b"") } else { Ok(()) };
            }
            Happened::Trailers(section) => return self.got_end(net, wire, stream, &section),
        };
        let (head, end) = head;
        let head = read_head(&head).map_err(|message| violated(Invariant::Bodies, message))?;
        self.newest = stream;
        if net.hits(Fault::AppRefuses) {
            // It has told something by then, perhaps.
            let number = net.model.next_head();
            if let Some(id) = served::id_of(net, &head) {
                self.hint(net, stream, id, number);
                self.streams.pump(net, wire);
            }
            self.streams.reset(net, wire, stream, ErrorCode::REFUSED_STREAM);
            return Ok(());
        }
        let served = Served::head(net, self.app, &head, stamp, true)?;
        let (request, number) = (served.request, served.head);
        self.open.insert(stream, Open { served, answer: None, done: false });
        if let Some(id) = request.filter(|&id| !net.model.requests[id as usize].wild) {
            self.hint(net, stream, id, number);
            let request = &net.model.requests[id as usize].request;
            let (expects, bodiless) = (request.expect, request.body == Body::Nothing);
            if expects && net.choose.below(8) != 7 {
                self.say_interim(net, stream, id, number);
            }
            if !bodiless && !end && net.hits(Fault::AppAnswersEarly) {
                self.answer(net, wire, stream);
            }
        }
        if end { self.got_end(net, wire, stream, b"") } else { Ok(()) }
    }

    fn got_end(
        &mut self,
        net: &mut Net<'_>,
        wire: &mut Wire,
        stream: u32,
        section: &[u8],
    ) -> Check {
        let Some(open) = self.open.get_mut(&stream) else { return Ok(()) };
        let trailers =
            parse_section(section).map_err(|message| violated(Invariant::Bodies, message))?;
        open.served.end(net, &trailers, true)?;
        if open.done {
            self.open.remove(&stream);
            return Ok(());
        }
        if open.served.answered {
            return Ok(());
        }
        if let Some(wait) = served::thinks(net, self.app) {
            net.wake(wait, self.me(), self.slot, Streams::token(stream, ANSWER));
            return Ok(());
        }
        let slow = net.hits(Fault::AppSlow);
        if slow || net.choose.one_in(4) {
            let most = if slow { Duration::from_secs(4) } else { Duration::from_millis(5) };
            let wait = net.some(most);
            net.wake(wait, self.me(), self.slot, Streams::token(stream, ANSWER));
            return Ok(());
        }
        self.answer(net, wire, stream);
        Ok(())
    }

    // ---- What it answers ----

    fn say_interim(&mut self, net: &mut Net<'_>, stream: u32, id: u32, head: u32) {
        let interim = served::interim(net, id, head);
        self.streams.mux.answer(stream, &interim, false);
    }

    /// It says 1xx before anything else, or not.
    fn hint(&mut self, net: &mut Net<'_>, stream: u32, id: u32, head: u32) {
        for hint in served::hints(net, id, head) {
            self.streams.mux.answer(stream, &hint, false);
        }
    }

    /// It answers what waits for an answer.
    fn answer(&mut self, net: &mut Net<'_>, wire: &mut Wire, stream: u32) {
        let Some(open) = self.open.get_mut(&stream).filter(|open| !open.served.answered) else {
            return;
        };
        if wire.is_ending() {
            return;
        }
        open.served.answered = true;
        let (complete, number) = (open.served.complete, open.served.head);
        let Some(id) = open.served.request else {
            match open.served.asked.map(|asked| health::answer(net, self.app, asked)) {
                None => self.streams.mux.answer(stream, UNKNOWN, true),
                Some(health) => {
                    self.streams.mux.answer(stream, health.head, health.body.is_empty());
                    if !health.body.is_empty() {
                        self.streams.mux.send(stream, health.body, false);
                        self.streams.mux.trailers(stream, health.trailers);
                    }
                }
            }
            self.over(stream);
            return;
        };
        if net.hits(Fault::AppMalformed) {
            self.say_noise(net, wire, id);
            return;
        }
        if complete && net.choose.one_in(12) {
            self.say_interim(net, stream, id, number);
        }
        let mut response = served::answer(net, self.app, id);
        let (rid, len) = (response.id, response.body.len());
        net.say(self.me(), || format!("answers {id}: {} {len}", response.status));
        let bytes = std::mem::take(&mut response.bytes);
        let head = bytes.windows(4).position(|four| four == b"\r\n\r\n").map_or(0, |at| at + 4);
        let end = response.body == Body::Nothing || response.body.is_empty() && net.choose.flip();
        let end = end && response.body.trailer_section(rid).is_none();
        let framed = matches!(response.body, Body::Length(_) | Body::Nothing);
        // What of it is cut off, if anything, and how.
        let resets = net.hits(Fault::AppResetsStream);
        let closes = !resets && net.hits(Fault::AppCloses);
        let breaks = !resets && !closes && net.hits(Fault::AppResets);
        let cut = (resets || closes || breaks).then(|| net.choose.below(len.max(1)));
        let before = resets && net.choose.flip();
        response.truncated = cut.is_some() && !end && !(framed && len == 0);
        net.model.responses.push(Told { response, wild: false, seen: false });
        self.told.push(rid);
        if before {
            let code = pick(net.choose, &[ErrorCode::CANCEL, ErrorCode::INTERNAL_ERROR]);
            self.streams.reset(net, wire, stream, code);
            self.open.remove(&stream);
            return;
        }
        if net.hits(Fault::AppStallsHead) && wire.hold == u64::MAX {
            wire.hold = wire.queued + net.choose.below(20) as u64;
            let wait = net.some(Duration::from_secs(20));
            net.wake(wait, self.me(), self.slot, REST);
        }
        self.streams.mux.answer(stream, &bytes[..head], end);
        if let Some(open) = self.open.get_mut(&stream) {
            open.answer = Some((rid, 0));
        }
        if let Some(cut) = cut {
            self.send_some(net, stream, cut, false);
            self.streams.pump(net, wire);
            if resets {
                // It lies if it says that it has not looked at it.
                let codes =
                    [ErrorCode::CANCEL, ErrorCode::INTERNAL_ERROR, ErrorCode::REFUSED_STREAM];
                let code = pick(net.choose, &codes);
                self.streams.reset(net, wire, stream, code);
                self.open.remove(&stream);
            } else {
                wire.finish(net, if closes { Then::Close } else { Then::Reset });
            }
            return;
        }
        if end {
            self.over(stream);
        } else if len > 0 && net.hits(Fault::AppStallsBody) {
            let n = net.choose.below(len);
            self.send_some(net, stream, n, false);
            let wait = net.some(Duration::from_secs(20));
            net.wake(wait, self.me(), self.slot, Streams::token(stream, MORE));
        } else {
            self.send_some(net, stream, usize::MAX, true);
        }
        self.after_answer(net, wire);
    }

    /// Hands over some more of a body, and its end if that is to be.
    fn send_some(&mut self, net: &mut Net<'_>, stream: u32, most: usize, may_end: bool) {
        let Some(open) = self.open.get_mut(&stream) else { return };
        let Some((rid, sent)) = open.answer.filter(|_| !open.done) else { return };
        let body = &net.model.responses[rid as usize].response.body;
        let trailers = body.trailer_section(rid);
        let left = body.len() - sent;
        let n = left.min(most);
        open.answer = Some((rid, sent + n));
        let last = may_end && n == left;
        let data = content(response_key(rid), sent, n);
        self.streams.mux.send(stream, &data, last && trailers.is_none());
        if let Some(trailers) = trailers.filter(|_| last) {
            self.streams.mux.trailers(stream, &trailers);
        }
        if last {
            self.over(stream);
        }
    }

    /// Everything was said on a stream.
    fn over(&mut self, stream: u32) {
        if let Some(open) = self.open.get_mut(&stream) {
            open.done = true;
            if open.served.complete {
                self.open.remove(&stream);
            }
        }
    }

    /// Now and then it says goodbye.
    fn after_answer(&mut self, net: &mut Net<'_>, wire: &mut Wire) {
        if self.last.is_none() && net.hits(Fault::GoAway) {
            if net.choose.flip() {
                self.streams.mux.shut_down(net.now);
                self.last = Some(u32::MAX);
            } else {
                self.last = Some(self.newest);
                self.streams.goodbye(net, wire, self.newest);
            }
        } else if self.open.is_empty() && net.hits(Fault::AppDropsIdle) {
            let wait = net.some(Duration::from_millis(300));
            net.wake(wait, self.me(), self.slot, DROP);
        }
    }

    fn close_after_goodbye(&mut self, net: &mut Net<'_>, wire: &mut Wire) {
        let over = self.streams.mux.connection.is_over();
        if over && self.open.is_empty() && self.last == Some(u32::MAX) {
            wire.finish(net, Then::Close);
        }
    }

    fn say_noise(&mut self, net: &mut Net<'_>, wire: &mut Wire, id: u32) {
        self.tainted = true;
        net.model.tainted |= 1 << self.app;
        net.say(self.me(), || format!("answers {id} with noise"));
        // What it had to say before may have become anything, if it was not all sent.
        for &rid in &self.told {
            net.model.responses[rid as usize].wild = true;
        }
        self.streams.offend(net, wire);
        let then = if net.choose.flip() { Then::Close } else { Then::Reset };
        wire.finish(net, then);
    }

    /// It closes a connection that is idle.
    fn drop_idle(&mut self, net: &mut Net<'_>, wire: &mut Wire) {
        let idle = self.streams.mux.connection.open_streams() == 0;
        if idle && !self.tainted {
            wire.finish(net, Then::Close);
        }
    }

    /// The time of a stream has come, or of the connection.
    pub(super) fn woken(&mut self, net: &mut Net<'_>, wire: &mut Wire, token: u32) {
        let (stream, what) = (token / STREAM, token % STREAM);
        match what {
            _ if token == DROP => self.drop_idle(net, wire),
            _ if stream == 0 => self.streams.woken(net, wire, token),
            ANSWER => self.answer(net, wire, stream),
            MORE => self.send_some(net, stream, usize::MAX, true),
            _ => {}
        }
        self.streams.pump(net, wire);
    }

    /// Nothing goes wrong any more: it answers what it has not answered.
    pub(super) fn heal(&mut self, net: &mut Net<'_>, wire: &mut Wire) {
        if self.tainted {
            return;
        }
        let open: Vec<u32> = self.open.keys().copied().collect();
        for stream in open {
            if self.open.get(&stream).is_some_and(|open| open.served.complete) {
                self.answer(net, wire, stream);
            }
            self.send_some(net, stream, usize::MAX, true);
        }
        self.streams.heal(net, wire);
    }
}
