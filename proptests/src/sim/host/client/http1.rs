//! An HTTP/1 client on one connection: what it asks, and what it makes of what it gets.

use std::collections::VecDeque;
use std::time::Duration;

use selvedge_core::time::Time;

use super::super::wire::{Then, Wire};
use super::answer::Answer;
use super::{FREE, GO, LEAVE, PACE, Place};
use crate::choose::pick;
use crate::sim::excuses::{BREAKS, DELAYS};
use crate::sim::fault::Fault;
use crate::sim::invariant::{Check, Invariant, violated};
use crate::sim::link::{NEAR, Stamp};
use crate::sim::model::Ended;
use crate::sim::net::{HostId, Net};
use crate::sim::topology::{authorities, users};
use crate::traffic::arrival::Crossed;
use crate::traffic::content::number;
use crate::traffic::request::{self, Ask, Body, damage};
use crate::traffic::wire::{Field, Framing, Head, Part, Reader, show};

/// The state of one connection.
#[derive(Debug, Default)]
pub(super) struct Http1 {
    /// Requests without a complete answer, and where they begin.
    waiting: VecDeque<(u32, u64)>,
    /// How many may wait at once, and how many there may be on this connection; 0 before the first.
    depth: usize,
    quota: u32,
    asked: u32,
    /// It has said what must be its last.
    last: bool,
    /// It takes a break.
    resting: bool,
    /// The proxy said that it closes.
    closing: bool,
    /// It said something that is no request: nobody can tell what answers what.
    wild: bool,
    /// It gave up in the middle.
    gave_up: bool,
    reader: Reader,
    current: Answer,
    /// What came when nobody could tell.
    raw: Vec<u8>,
    /// When the head that is being read was written, and when the answer before it was.
    head: Stamp,
    since: Time,
    /// For the proxy, that may have been over later.
    vague: bool,
    /// When what came last was.
    heard: Stamp,
}

impl Http1 {
    // ---- What it asks ----

    /// Asks as much as it may, or closes.
    pub(super) fn act(
        &mut self,
        net: &mut Net<'_>,
        wire: &mut Wire,
        client: u16,
        slot: u32,
        place: &Place,
        left: &mut u32,
    ) {
        if self.depth == 0 {
            // What is pipelined behind an answer that closes must fit what a proxy drops.
            let large = net.mix.largest > 5000;
            self.depth = if large { 1 } else { pick(net.choose, &[1, 1, 1, 2, 4]) };
            self.quota = pick(net.choose, &[8, 30, 1, 4, 30]);
        }
        if wire.is_ending() {
            return;
        }
        let me = HostId::Client(client);
        if std::mem::take(&mut self.resting) && !net.healed && net.choose.one_in(3) {
            self.resting = true;
            let wait = net.some(Duration::from_millis(200));
            return net.wake(wait, me, slot, GO);
        }
        while self.waiting.len() < self.depth && self.wants_more(net, *left) {
            *left -= 1;
            self.ask(net, wire, client, slot, place);
        }
        if self.closing && self.waiting.is_empty() {
            wire.forget();
            wire.finish(net, Then::Close);
        } else if self.wild && net.healed {
            wire.finish(net, Then::Close);
        } else if !self.wants_more(net, *left) && !self.wild {
            self.end(net, wire);
        }
    }

    fn wants_more(&self, net: &Net<'_>, left: u32) -> bool {
        let ends =
            self.last || self.closing || self.wild || self.gave_up || net.healed && !net.reviving;
        !ends && left > 0 && self.asked < self.quota
    }

    /// It has asked everything.
    fn end(&mut self, net: &mut Net<'_>, wire: &mut Wire) {
        if self.gave_up {
            return;
        }
        if !self.waiting.is_empty() {
            if net.hits(Fault::ClientHalfCloses) {
                wire.finish(net, Then::Fin);
            }
            return;
        }
        if net.healed || !net.choose.one_in(8) {
            let then = if net.choose.one_in(4) { Then::Fin } else { Then::Close };
            wire.finish(net, then);
        }
    }

    fn ask(&mut self, net: &mut Net<'_>, wire: &mut Wire, client: u16, slot: u32, place: &Place) {
        let id = net.model.requests.len() as u32;
        let ask = Ask {
            id,
            authorities: place.asks.unwrap_or(authorities(&net.mix)),
            redirected: place.original_dst.is_some(),
            largest: net.mix.largest,
            tunnels: false,
            users: users(&net.mix),
        };
        let mut request = request::request(net.choose, ask);
        // What begins like this may not be HTTP.
        let wild = self.asked > 0 && net.hits(Fault::ClientMalformed);
        if wild {
            damage(net.choose, &mut request.bytes);
        }
        self.asked += 1;
        self.wild |= wild;
        let me = HostId::Client(client);
        let (start, len) = (wire.queued, request.bytes.len());
        net.say(me, || format!("asks {id}: {} {:?} {len}", request.method, request.authority));
        self.last |= !request.keep_alive;
        self.waiting.push_back((id, start));
        net.links[wire.link as usize].pipes[NEAR]
            .marks
            .push_back((start + request.head_len as u64, id));
        if wild {
            let wait = net.some(Duration::from_secs(3));
            net.wake(wait, me, slot, LEAVE);
        } else if request.expect && wire.hold == u64::MAX && !net.healed {
            wire.hold = start + request.head_len as u64;
            net.wake(Duration::from_secs(1), me, slot, FREE);
        } else if net.hits(Fault::ClientLeaves) {
            // Less than a line, and then the end, is not told from what is not HTTP.
            let tells = request::tells(&request.bytes);
            wire.hold = start + (tells + net.choose.below(len - tells)) as u64;
            self.gave_up = true;
            let wait = net.some(Duration::from_millis(300));
            net.wake(wait, me, slot, LEAVE);
        } else if wire.pace == u64::MAX && net.hits(Fault::ClientSlow) {
            let tells = request::tells(&request.bytes);
            wire.pace = start + (tells + net.choose.below(len - tells)) as u64;
            net.wake(Duration::from_millis(1), me, slot, PACE);
        }
        let bytes = std::mem::take(&mut request.bytes);
        let alone = self.waiting.len() == 1;
        let engine = net.engine_of(wire.link);
        net.model.ask(request, client, place, engine, [false, self.wild, alone]);
        wire.send(net, &bytes);
    }

    // ---- What it gets ----

    pub(super) fn got(
        &mut self,
        net: &mut Net<'_>,
        wire: &mut Wire,
        bytes: &[u8],
        stamp: Stamp,
    ) -> Check {
        if self.reader.is_between() && self.reader.rest().is_empty() {
            self.head = stamp;
        }
        self.reader.feed(bytes);
        loop {
            let first = self.waiting.front().copied();
            let wild = first.is_none_or(|(id, _)| net.model.requests[id as usize].wild);
            if self.wild && wild && self.reader.is_between() {
                self.raw.extend(self.reader.take_rest());
                return Ok(());
            }
            let method =
                first.map_or("GET", |(id, _)| net.model.requests[id as usize].request.method);
            let mut framing = |head: &Head| match (head.status(), method) {
                (100..=199 | 204 | 304, _) | (_, "HEAD") => Ok(Framing::Nothing),
                _ => head.framing(),
            };
            let next = self.reader.next(&mut framing);
            let part = match next {
                Ok(part) => part,
                Err(message) => return Err(violated(Invariant::Bodies, message)),
            };
            match part {
                None => return Ok(()),
                Some(Part::Head(head)) => self.got_head(net, wire, &head)?,
                Some(Part::Data(data)) => self.got_data(net, wire, &data, stamp)?,
                Some(Part::End(trailers)) => {
                    self.got_end(net, &trailers, true)?;
                    self.head = stamp;
                }
            }
        }
    }

    fn got_head(&mut self, net: &mut Net<'_>, wire: &mut Wire, head: &Head) -> Check {
        self.heard = self.head;
        let asked = self.waiting.front().filter(|&&(_, start)| wire.sent > start);
        let line = || show(&head.line);
        let Some(&(id, _)) = asked else {
            let message = format!("an answer to nothing: {}", line());
            return Err(violated(Invariant::EndsOnce, message));
        };
        net.checks.that(Invariant::EndsOnce, !self.closing, || {
            format!("an answer after the last: {}", line())
        })?;
        let version = head.parts()[0] == b"HTTP/1.1";
        net.checks.that(Invariant::Bodies, version, || format!("status line {}", line()))?;
        // It need not wait any more.
        if !self.gave_up {
            wire.hold = u64::MAX;
            wire.pump(net);
        }
        if (100..=199).contains(&head.status()) {
            return self.current.head(net, id, head, false);
        }
        let blocked = net.links[wire.link as usize].pipes[1 - NEAR].last_blocked;
        let since = (!self.vague).then_some(self.since);
        net.model.check_answer_time(&mut net.checks, &net.mix, id, since, self.head, blocked)?;
        self.note_closing(net, id, head)?;
        self.current.head(net, id, head, false)?;
        let Answer::App(rid, _) = self.current else { return Ok(()) };
        let body = &net.model.responses[rid as usize].response.body;
        let open = head.framing() == Ok(Framing::UntilClose) && *body != Body::Nothing;
        net.checks.that(Invariant::Bodies, !open || self.closing, || {
            "a body that ends with the connection, which does not end".to_owned()
        })
    }

    fn got_data(&mut self, net: &mut Net<'_>, wire: &Wire, data: &[u8], stamp: Stamp) -> Check {
        let times = [std::mem::replace(&mut self.heard, stamp), stamp];
        if let (Some(&(id, _)), Answer::App(..)) = (self.waiting.front(), self.current) {
            let blocked = net.links[wire.link as usize].pipes[1 - NEAR].last_blocked;
            net.model.check_pause(&mut net.checks, &net.mix, id, times, blocked)?;
        }
        self.current.data(net, data)
    }

    /// What the answer says about the connection.
    fn note_closing(&mut self, net: &mut Net<'_>, id: u32, head: &Head) -> Check {
        let request = &net.model.requests[id as usize].request;
        let (http10, keep_alive) = (request.http10, request.keep_alive);
        let said = head.get("connection");
        let known = match said {
            Some(b"close") => {
                self.closing = true;
                true
            }
            Some(b"keep-alive") => http10,
            None => !http10,
            _ => false,
        };
        net.checks.that(Invariant::Bodies, known, || {
            format!("the client is told {:?}", said.map(show))
        })?;
        net.checks.that(Invariant::Bodies, keep_alive || self.closing, || {
            "the client asked for the end of its connection, and keeps it".to_owned()
        })
    }

    /// A message is over; `framed`: it said so itself.
    fn got_end(&mut self, net: &mut Net<'_>, trailers: &[Field], framed: bool) -> Check {
        let Some(&(id, _)) = self.waiting.front() else {
            return Err(violated(Invariant::EndsOnce, "the end of an answer to nothing"));
        };
        let Some(how) = self.current.end(net, id, trailers, [framed, false])? else {
            return Ok(());
        };
        self.waiting.pop_front();
        // For the proxy an answer is over with its stream, whose end may be behind its last byte.
        let streams = net.model.requests[id as usize].crossed != Crossed::No;
        self.vague = streams && net.mix.has_any(DELAYS);
        self.since = net.now;
        self.resting = true;
        net.model.end(&mut net.checks, id, how, net.now)
    }

    // ---- How it ends ----

    /// The proxy sends no more.
    pub(super) fn fin(&mut self, net: &mut Net<'_>) -> Check {
        if self.reader.is_until_close() {
            self.reader = Reader::default();
            return self.got_end(net, &[], false);
        }
        let inside = self.reader.is_between() && !self.reader.rest().is_empty();
        net.checks.that(Invariant::Bodies, !inside, || {
            format!("the end within a head: {}", show(self.reader.rest()))
        })
    }

    /// It asks for no more answers.
    pub(super) fn give_up(&mut self, net: &mut Net<'_>) {
        self.gave_up = true;
        for &(id, _) in &self.waiting {
            net.say("model", || format!("nobody waits for {id} any more"));
        }
    }

    /// The connection is over: what waits for an answer gets none.
    pub(super) fn over(&mut self, net: &mut Net<'_>, client: u16) -> Check {
        let inside = !self.reader.is_between();
        let excused = self.gave_up || self.wild || net.mix.has_any(BREAKS);
        for (index, (id, _)) in std::mem::take(&mut self.waiting).into_iter().enumerate() {
            let cut = inside && index == 0;
            let how = match (self.gave_up || self.wild, cut) {
                (true, _) => Ended::Given,
                (false, true) => Ended::Truncated,
                (false, false) => Ended::Lost,
            };
            let allowed = excused || self.closing && !cut;
            net.checks.that(Invariant::EndsOnce, allowed, || {
                format!("request {id} has no answer, and nothing went wrong")
            })?;
            net.model.end(&mut net.checks, id, how, net.now)?;
        }
        self.check_raw(net, client)
    }

    /// Whatever it was that came, it was not for somebody else.
    fn check_raw(&mut self, net: &mut Net<'_>, client: u16) -> Check {
        let raw = std::mem::take(&mut self.raw);
        for (place, _) in raw.windows(7).enumerate().filter(|(_, window)| window == b"X-Rid: ") {
            let rid = raw.get(place + 7..place + 15).and_then(number);
            let told = rid.and_then(|rid| net.model.responses.get(rid as usize));
            if let Some(told) = told.filter(|told| !told.wild) {
                let owner = net.model.requests[told.response.request as usize].client;
                net.checks.that(Invariant::EndsOnce, owner == client, || {
                    format!("client {client} gets an answer that is for client {owner}")
                })?;
            }
        }
        Ok(())
    }
}

/// Sends a little more of what it has to say, and the rest later.
pub(super) fn go_slowly(net: &mut Net<'_>, wire: &mut Wire, me: HostId, slot: u32) {
    if wire.pace >= wire.queued || net.healed {
        wire.pace = u64::MAX;
    } else {
        let rest = wire.queued - wire.pace;
        wire.pace += rest / 16 + 1 + net.choose.below(20) as u64;
        let wait = net.some(Duration::from_millis(150));
        net.wake(wait, me, slot, PACE);
    }
    wire.pump(net);
}
