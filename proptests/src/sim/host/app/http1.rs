//! An HTTP/1 app on one connection: what it makes of what it gets, and what it answers.

use std::time::Duration;

use super::super::wire::{Then, Wire};
use super::health;
use super::served::{self, Served};
use super::{ANSWER, DROP, REST};
use crate::choose::pick;
use crate::sim::fault::Fault;
use crate::sim::invariant::{Check, Invariant, violated};
use crate::sim::link::Stamp;
use crate::sim::model::Told;
use crate::sim::net::{HostId, Net};
use crate::traffic::content::number;
use crate::traffic::request::{Body, damage};
use crate::traffic::wire::{Field, Framing, Head, Part, Reader, show};

/// The answer to a request that nobody knows.
const UNKNOWN: &[u8] = b"HTTP/1.1 404 Who are you\r\nContent-Length: 0\r\n\r\n";

/// What no HTTP server says.
const NOISE: [&[u8]; 5] = [
    b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhiHTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
    b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n",
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\nx",
    b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n",
    b"+OK ready\r\n",
];

/// The state of one connection.
#[derive(Debug, Default)]
pub(super) struct Http1 {
    reader: Reader,
    current: Option<Served>,
    /// When the head that is being read was written.
    head: Stamp,
    /// It has said something that no honest app would have.
    tainted: bool,
    saw_fin: bool,
}

impl Http1 {
    // ---- What it gets ----

    pub(super) fn got(
        &mut self,
        net: &mut Net<'_>,
        wire: &mut Wire,
        app: u16,
        slot: u32,
        bytes: &[u8],
        stamp: Stamp,
    ) -> Check {
        if self.tainted {
            // Whatever it said, the proxy may have taken it for anything.
            return Ok(());
        }
        if self.reader.is_between() && self.reader.rest().is_empty() {
            self.head = stamp;
        }
        self.reader.feed(bytes);
        let mut framing = |head: &Head| match head.framing()? {
            Framing::UntilClose => Ok(Framing::Nothing),
            framing => Ok(framing),
        };
        loop {
            let part = match self.reader.next(&mut framing) {
                Ok(Some(part)) => part,
                Ok(None) => return Ok(()),
                Err(message) => return Err(violated(Invariant::Bodies, message)),
            };
            match part {
                Part::Head(head) => self.got_head(net, wire, app, slot, &head)?,
                Part::Data(data) => self.got_data(net, &data)?,
                Part::End(trailers) => self.got_end(net, wire, app, slot, &trailers)?,
            }
        }
    }

    fn got_head(
        &mut self,
        net: &mut Net<'_>,
        wire: &mut Wire,
        app: u16,
        slot: u32,
        head: &Head,
    ) -> Check {
        let line = || show(&head.line);
        let alone = self.current.is_none() && wire.sent == wire.queued;
        net.checks.that(Invariant::EndsOnce, alone, || {
            format!("a request within another, {:?}: {}", self.current, line())
        })?;
        let served = Served::head(net, app, head, self.head, false)?;
        let id = served.request.filter(|&id| !net.model.requests[id as usize].wild);
        let number = served.head;
        self.current = Some(served);
        let Some(id) = id else { return Ok(()) };
        for hint in served::hints(net, id, number) {
            wire.send(net, &hint);
        }
        if net.model.requests[id as usize].request.expect && net.choose.below(8) != 7 {
            Self::say_interim(net, wire, id, number);
        }
        let bodiless = matches!(net.model.requests[id as usize].request.body, Body::Nothing);
        if !bodiless && net.hits(Fault::AppAnswersEarly) {
            self.answer(net, wire, app, slot);
        }
        Ok(())
    }

    fn got_data(&mut self, net: &mut Net<'_>, data: &[u8]) -> Check {
        let Some(current) = &mut self.current else {
            let message = format!("data of no request: {}", show(data));
            return Err(violated(Invariant::Bodies, message));
        };
        current.data(net, data)
    }

    fn got_end(
        &mut self,
        net: &mut Net<'_>,
        wire: &mut Wire,
        app: u16,
        slot: u32,
        trailers: &[Field],
    ) -> Check {
        let Some(current) = &mut self.current else {
            return Err(violated(Invariant::Bodies, "the end of nothing"));
        };
        current.end(net, trailers, false)?;
        if current.answered {
            self.current = None;
            return Ok(());
        }
        if net.hits(Fault::AppSlow) {
            let wait = net.some(Duration::from_secs(4));
            net.wake(wait, HostId::App(app), slot, ANSWER);
        } else if let Some(wait) = served::thinks(net, app) {
            net.wake(wait, HostId::App(app), slot, ANSWER);
        } else if net.choose.one_in(4) {
            let wait = net.some(Duration::from_millis(5));
            net.wake(wait, HostId::App(app), slot, ANSWER);
        } else {
            self.answer(net, wire, app, slot);
        }
        Ok(())
    }

    /// No more comes.
    pub(super) fn fin(&mut self, net: &mut Net<'_>, wire: &mut Wire) -> Check {
        self.saw_fin = true;
        let partial = self.current.as_ref().is_some_and(|current| !current.complete);
        let rest = self.reader.is_between() && !self.reader.rest().is_empty();
        net.checks.that(Invariant::Bodies, self.tainted || !(partial || rest), || {
            "a clean end within a request".to_owned()
        })?;
        let busy = self.current.as_ref().is_some_and(|current| !current.answered);
        if !busy || partial {
            wire.finish(net, Then::Close);
        }
        Ok(())
    }

    /// The connection broke. The beginning of a request may have had an effect, too.
    pub(super) fn broke(&mut self, net: &mut Net<'_>, app: u16) -> Check {
        if self.tainted || !self.reader.is_between() {
            return Ok(());
        }
        let rest = self.reader.take_rest();
        let mark = rest.windows(6).position(|window| window == b"X-Id: ");
        let id = mark.and_then(|at| number(rest.get(at + 6..at + 14)?));
        match id.filter(|&id| (id as usize) < net.model.requests.len()) {
            Some(id) => net.model.attempt(&mut net.checks, &net.mix, id, app, self.head),
            None => Ok(()),
        }
    }

    // ---- What it answers ----

    fn say_interim(net: &mut Net<'_>, wire: &mut Wire, id: u32, head: u32) {
        let interim = served::interim(net, id, head);
        wire.send(net, &interim);
    }

    /// It answers what waits for an answer.
    pub(super) fn answer(&mut self, net: &mut Net<'_>, wire: &mut Wire, app: u16, slot: u32) {
        let Some(current) = self.current.as_mut().filter(|current| !current.answered) else {
            return;
        };
        if wire.is_ending() {
            return;
        }
        current.answered = true;
        let (id, asked, complete) = (current.request, current.asked, current.complete);
        let number = current.head;
        if complete {
            self.current = None;
        }
        let Some(id) = id else {
            let health = asked.map(|asked| health::answer(net, app, asked).bytes());
            wire.send(net, health.as_deref().unwrap_or(UNKNOWN));
            return;
        };
        if net.hits(Fault::AppMalformed) {
            self.say_noise(net, wire, app, id);
            return;
        }
        if complete && net.choose.one_in(12) {
            Self::say_interim(net, wire, id, number);
        }
        let mut response = served::answer(net, app, id);
        let bytes = std::mem::take(&mut response.bytes);
        let (len, start) = (bytes.len(), wire.queued);
        let me = HostId::App(app);
        net.say(me, || format!("answers {id}: {} {len}", response.status));
        let head = bytes.windows(4).position(|four| four == b"\r\n\r\n").map_or(len, |at| at + 4);
        let mut then = if response.close { Then::Close } else { Then::Nothing };
        let mut cut = None;
        if net.hits(Fault::AppCloses) {
            cut = Some(net.choose.below(len));
            // Where the end of the connection ends the body, only a reset shows that it is cut.
            let open = matches!(response.body, Body::UntilClose(_));
            then = if open { Then::Reset } else { Then::Close };
        } else if net.hits(Fault::AppResets) {
            cut = Some(net.choose.below(len));
            then = Then::Reset;
        } else if net.hits(Fault::AppStallsHead) {
            wire.hold = start + net.choose.below(head) as u64;
        } else if len > head && net.hits(Fault::AppStallsBody) {
            wire.hold = start + (head + net.choose.below(len - head)) as u64;
        } else if then == Then::Nothing && net.hits(Fault::AppDropsIdle) {
            let wait = net.some(Duration::from_millis(300));
            net.wake(wait, me, slot, DROP);
        }
        if wire.hold != u64::MAX {
            let wait = net.some(Duration::from_secs(20));
            net.wake(wait, me, slot, REST);
        }
        response.truncated = cut.is_some();
        net.model.responses.push(Told { response, wild: false, seen: false });
        wire.send(net, &bytes[..cut.unwrap_or(len)]);
        if then != Then::Nothing {
            wire.finish(net, then);
        } else if self.saw_fin {
            wire.finish(net, Then::Close);
        }
    }

    fn say_noise(&mut self, net: &mut Net<'_>, wire: &mut Wire, app: u16, id: u32) {
        self.tainted = true;
        net.model.tainted |= 1 << app;
        net.say(HostId::App(app), || format!("answers {id} with noise"));
        if net.choose.flip() {
            let mut response = served::answer(net, app, id);
            let mut bytes = std::mem::take(&mut response.bytes);
            damage(net.choose, &mut bytes);
            net.model.responses.push(Told { response, wild: true, seen: false });
            wire.send(net, &bytes);
        } else {
            let noise = pick(net.choose, &NOISE);
            wire.send(net, noise);
        }
        let then = if net.choose.flip() { Then::Close } else { Then::Reset };
        wire.finish(net, then);
    }

    /// It closes a connection that is idle.
    pub(super) fn drop_idle(&mut self, net: &mut Net<'_>, wire: &mut Wire) {
        if self.current.is_none() && self.reader.rest().is_empty() {
            wire.finish(net, Then::Close);
        }
    }

    /// Nothing goes wrong any more: it answers what it has not answered.
    pub(super) fn heal(&mut self, net: &mut Net<'_>, wire: &mut Wire, app: u16, slot: u32) {
        if self.current.as_ref().is_some_and(|current| current.complete) {
            self.answer(net, wire, app, slot);
        }
    }
}
