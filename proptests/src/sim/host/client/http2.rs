//! An HTTP/2 client on one connection: what it asks on its streams, and what it makes of what it
//! gets.

use std::collections::BTreeMap;
use std::time::Duration;

use selvedge_core::http2::ErrorCode;
use selvedge_core::time::Time;

use super::super::http2::{STREAM, Streams};
use super::super::wire::{Then, Wire};
use super::answer::Answer;
use super::{GO, LEAVE, Place};
use crate::choose::pick;
use crate::h2::mux::Happened;
use crate::h2::wire::PREFACE;
use crate::sim::excuses::BREAKS;
use crate::sim::fault::Fault;
use crate::sim::invariant::{Check, Invariant, violated};
use crate::sim::link::{NEAR, Stamp};
use crate::sim::model::Ended;
use crate::sim::net::{HostId, Net};
use crate::sim::topology::{authorities, users};
use crate::traffic::content::{content, request_key};
use crate::traffic::request::{self, Ask, Body, is_idempotent};
use crate::traffic::wire::{Field, parse_section, read_head};

/// What a wake-up of a stream is about.
const MORE: u32 = 0;
const RESET: u32 = 1;

/// The state of one connection.
pub(super) struct Http2 {
    streams: Streams,
    client: u16,
    slot: u32,
    asked: BTreeMap<u32, Asked>,
    /// How many streams may be open at once, and how many there may be on this connection.
    depth: usize,
    quota: u32,
    count: u32,
    /// It takes a break.
    resting: bool,
    /// It said goodbye, or heard that no more streams are wanted.
    closing: bool,
    /// It said something that no client should.
    wild: bool,
    /// It gave up in the middle.
    gave_up: bool,
}

/// A request on a stream, without a complete answer.
#[derive(Debug)]
struct Asked {
    id: u32,
    /// How much of its body was handed over.
    sent: usize,
    sent_end: bool,
    answer: Answer,
    /// A final head came.
    answered: bool,
}

impl Http2 {
    pub(super) fn new(net: &mut Net<'_>, client: u16, slot: u32) -> Self {
        Http2 {
            streams: Streams::client(net, HostId::Client(client), slot),
            client,
            slot,
            asked: BTreeMap::new(),
            depth: pick(net.choose, &[2, 1, 4, 8, 16]),
            quota: pick(net.choose, &[8, 30, 4, 1, 100]),
            count: 0,
            resting: false,
            closing: false,
            wild: false,
            gave_up: false,
        }
    }

    fn me(&self) -> HostId {
        HostId::Client(self.client)
    }

    // ---- What it asks ----

    /// Asks as much as it may, or closes.
    pub(super) fn act(
        &mut self,
        net: &mut Net<'_>,
        wire: &mut Wire,
        place: &Place,
        left: &mut u32,
    ) {
        if wire.is_ending() {
            return;
        }
        if std::mem::take(&mut self.resting) && !net.healed && net.choose.one_in(6) {
            self.resting = true;
            let wait = net.some(Duration::from_millis(200));
            net.wake(wait, self.me(), self.slot, GO);
        } else {
            while self.asked.len() < self.depth && self.wants_more(net, *left) {
                *left -= 1;
                self.ask(net, wire, place);
            }
        }
        self.closing |= self.streams.mux.connection.is_going();
        if !self.closing && self.count > 0 && net.hits(Fault::GoAway) {
            self.closing = true;
            self.streams.mux.shut_down(net.now);
        }
        self.streams.pump(net, wire);
        let done = self.asked.is_empty() && !self.wants_more(net, *left);
        if self.wild && net.healed || done && !self.resting && !self.gave_up {
            wire.finish(net, Then::Close);
        }
    }

    fn wants_more(&self, net: &Net<'_>, left: u32) -> bool {
        let connection = &self.streams.mux.connection;
        let ends = self.closing || self.wild || self.gave_up || net.healed && !net.reviving;
        !ends && left > 0 && self.count < self.quota && connection.capacity() > 0
    }

    fn ask(&mut self, net: &mut Net<'_>, wire: &mut Wire, place: &Place) {
        let id = net.model.requests.len() as u32;
        let ask = Ask {
            id,
            authorities: place.asks.unwrap_or(authorities(&net.mix)),
            redirected: place.original_dst.is_some(),
            largest: net.mix.largest,
            tunnels: false,
            users: users(&net.mix),
        };
        let mut request = request::modern(net.choose, ask);
        let first = self.count == 0;
        self.count += 1;
        let bytes = std::mem::take(&mut request.bytes);
        let head = &bytes[..request.head_len];
        let (body, length) = (request.body.clone(), request.body.len());
        net.say(self.me(), || format!("asks {id}: {} {:?}", request.method, request.authority));
        let engine = net.engine_of(wire.link);
        net.model.ask(request, self.client, place, engine, [true, self.wild, true]);
        let end = body == Body::Nothing || body == Body::Length(0) && net.choose.flip();
        self.streams.pump(net, wire);
        let start = wire.queued;
        let Some(stream) = self.streams.mux.ask(head, end, net.now) else { return };
        let at = self.streams.pump_heads(net, wire);
        net.links[wire.link as usize].pipes[NEAR].marks.push_back((at, id));
        let asked = Asked { id, sent: 0, sent_end: end, answer: Answer::None, answered: false };
        self.asked.insert(stream, asked);
        let me = self.me();
        if net.hits(Fault::ClientLeaves) {
            // Less than the preface is not told from what is not HTTP.
            let tells = if first { PREFACE.len() as u64 } else { 0 };
            let most = length + 100;
            wire.hold = start + tells + net.choose.below(most) as u64;
            self.gave_up = true;
            let wait = net.some(Duration::from_millis(300));
            net.wake(wait, me, self.slot, LEAVE);
        }
        if net.hits(Fault::ClientResets) {
            let wait = net.some(Duration::from_millis(100));
            net.wake(wait, me, self.slot, Streams::token(stream, RESET));
        }
        let slow = net.hits(Fault::ClientSlow);
        self.send_some(net, stream, slow);
        self.streams.pump(net, wire);
    }

    /// Hands over the rest of a body, or some of it and more later.
    fn send_some(&mut self, net: &mut Net<'_>, stream: u32, slow: bool) {
        let Some(asked) = self.asked.get_mut(&stream) else { return };
        if asked.sent_end || !self.streams.mux.can_send(stream) {
            return;
        }
        let request = &net.model.requests[asked.id as usize].request;
        let trailers = request.body.trailer_section(asked.id);
        let left = request.body.len() - asked.sent;
        let n = if slow && left > 0 { net.choose.below(left) } else { left };
        let data = content(request_key(asked.id), asked.sent, n);
        asked.sent += n;
        let last = n == left;
        asked.sent_end = last;
        self.streams.mux.send(stream, &data, last && trailers.is_none());
        if !last {
            let wait = net.some(Duration::from_millis(150));
            net.wake(wait, self.me(), self.slot, Streams::token(stream, MORE));
        } else if let Some(trailers) = trailers {
            self.streams.mux.trailers(stream, &trailers);
        }
    }

    /// The time of a stream has come, or of the connection's credit.
    pub(super) fn woken(&mut self, net: &mut Net<'_>, wire: &mut Wire, token: u32) -> Check {
        let (stream, what) = (token / STREAM, token % STREAM);
        match what {
            _ if stream == 0 => self.streams.woken(net, wire, token),
            RESET if self.asked.contains_key(&stream) && !net.healed => {
                self.streams.reset(net, wire, stream, ErrorCode::CANCEL);
                self.end(net, stream, Ended::Given)?;
            }
            MORE => {
                let slow = !net.healed && net.choose.flip();
                self.send_some(net, stream, slow);
                self.streams.pump(net, wire);
            }
            _ => {}
        }
        Ok(())
    }

    /// Says something that no client should: nobody can tell what becomes of its requests.
    pub(super) fn offend(&mut self, net: &mut Net<'_>, wire: &mut Wire) {
        self.wild = true;
        for asked in self.asked.values() {
            net.model.requests[asked.id as usize].wild = true;
        }
        self.streams.offend(net, wire);
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
            if !self.wild {
                self.happened(net, wire, stream, happened, stamp)?;
            }
        }
        self.forget_unprocessed(net)?;
        self.streams.pump(net, wire);
        if !self.wild && self.count > 0 && net.hits(Fault::ClientMalformed) {
            self.offend(net, wire);
            let wait = net.some(Duration::from_secs(3));
            net.wake(wait, self.me(), self.slot, LEAVE);
        }
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
        let Some(asked) = self.asked.get_mut(&stream) else {
            if matches!(happened, Happened::Reset(_)) {
                // The rest of the request is not wanted.
                return Ok(());
            }
            let message = format!("{happened:?} on stream {stream}, where nothing is asked");
            return Err(violated(Invariant::EndsOnce, message));
        };
        let id = asked.id;
        match happened {
            Happened::Head(head, end) => {
                let head =
                    read_head(&head).map_err(|message| violated(Invariant::Bodies, message))?;
                let interim = (100..=199).contains(&head.status());
                net.checks.that(Invariant::EndsOnce, !asked.answered, || {
                    format!("another head on stream {stream}, after the answer to {id}")
                })?;
                asked.answered = !interim;
                if !interim {
                    let blocked = net.links[wire.link as usize].pipes[1 - NEAR].last_blocked;
                    let since = Some(Time::ZERO);
                    net.model.check_answer_time(
                        &mut net.checks,
                        &net.mix,
                        id,
                        since,
                        stamp,
                        blocked,
                    )?;
                }
                asked.answer.head(net, id, &head, true)?;
                if end { self.got_end(net, stream, &[]) } else { Ok(()) }
            }
            Happened::Data(data, end) => {
                if !data.is_empty() {
                    asked.answer.data(net, &data)?;
                }
                if end { self.got_end(net, stream, &[]) } else { Ok(()) }
            }
            Happened::Trailers(section) => {
                let fields = parse_section(&section)
                    .map_err(|message| violated(Invariant::Bodies, message))?;
                self.got_end(net, stream, &fields)
            }
            Happened::Reset(code) => self.got_reset(net, stream, code),
        }
    }

    fn got_end(&mut self, net: &mut Net<'_>, stream: u32, trailers: &[Field]) -> Check {
        let Some(asked) = self.asked.get_mut(&stream) else { return Ok(()) };
        let how = asked.answer.end(net, asked.id, trailers, [true, true])?;
        let Some(how) = how else {
            return Err(violated(Invariant::EndsOnce, "a stream ends with a 1xx"));
        };
        self.resting = true;
        self.end(net, stream, how)
    }

    /// The proxy reset a stream.
    fn got_reset(&mut self, net: &mut Net<'_>, stream: u32, code: ErrorCode) -> Check {
        let Some(asked) = self.asked.get(&stream) else { return Ok(()) };
        let (id, cut) = (asked.id, asked.answered);
        let excused = self.gave_up || net.mix.has_any(BREAKS);
        net.checks.that(Invariant::EndsOnce, excused, || {
            format!("stream {stream}, of request {id}, is reset for nothing: {code:?}")
        })?;
        let sent = &net.model.requests[id as usize];
        let untouched = sent.attempts == 0 || is_idempotent(sent.request.method);
        net.checks.that(
            Invariant::EndsOnce,
            code != ErrorCode::REFUSED_STREAM || untouched,
            || format!("request {id} is refused as if no app had seen it"),
        )?;
        self.end(net, stream, if cut { Ended::Truncated } else { Ended::Lost })
    }

    fn end(&mut self, net: &mut Net<'_>, stream: u32, how: Ended) -> Check {
        let Some(asked) = self.asked.remove(&stream) else { return Ok(()) };
        net.model.end(&mut net.checks, asked.id, how, net.now)
    }

    /// What the proxy says it has not looked at gets no answer.
    fn forget_unprocessed(&mut self, net: &mut Net<'_>) -> Check {
        let Some(last) = self.streams.mux.last.filter(|_| !self.wild) else { return Ok(()) };
        while let Some((&stream, asked)) = self.asked.range(last.saturating_add(1)..).next() {
            let (id, attempts) = (asked.id, net.model.requests[asked.id as usize].attempts);
            net.checks.that(Invariant::EndsOnce, attempts == 0, || {
                format!("request {id}, on stream {stream} above {last}, was looked at")
            })?;
            self.end(net, stream, Ended::Lost)?;
        }
        Ok(())
    }

    // ---- How it ends ----

    /// It asks for no more answers.
    pub(super) fn give_up(&mut self) {
        self.gave_up = true;
        self.streams.mute = true;
    }

    /// Nothing goes wrong any more: it says what it still has to say.
    pub(super) fn heal(&mut self, net: &mut Net<'_>, wire: &mut Wire) {
        let open: Vec<u32> = self.asked.keys().copied().collect();
        for stream in open {
            self.send_some(net, stream, false);
        }
        self.streams.heal(net, wire);
    }

    /// The connection is over: what waits for an answer gets none.
    pub(super) fn over(&mut self, net: &mut Net<'_>) -> Check {
        let excused = self.gave_up || self.wild || net.mix.has_any(BREAKS);
        for (_, asked) in std::mem::take(&mut self.asked) {
            let id = asked.id;
            let how = match (self.gave_up || self.wild, asked.answered) {
                (true, _) => Ended::Given,
                (false, true) => Ended::Truncated,
                (false, false) => Ended::Lost,
            };
            net.checks.that(Invariant::EndsOnce, excused, || {
                format!("request {id} has no answer, and nothing went wrong")
            })?;
            net.model.end(&mut net.checks, id, how, net.now)?;
        }
        Ok(())
    }
}
