//! What all hosts share: time, the events to come, the links, and what is known of what happened.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::BufMut;
use selvedge_core::config::Config;
use selvedge_core::engine::{Command, QueryId};
use selvedge_core::error::{ConnectError, IoError};
use selvedge_core::time::Time;

use super::fault::Fault;
use super::invariant::{Checks, Invariant};
use super::link::{Cut, End, FAR, Fin, Link, LinkId, LinkState, NEAR, Pipe, Stamp, Trap};
use super::mesh::{Authority, Grant};
use super::mix::Mix;
use super::model::Model;
use super::report::Coverage;
use super::splicing::Splicing;
use super::tap::Tap;
use super::trace::Trace;
use crate::choose::{Choose, pick};

/// Names a host.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum HostId {
    Engine(u16),
    Client(u16),
    App(u16),
    Mirror,
    Discovery,
}

impl fmt::Display for HostId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            HostId::Engine(n) => write!(f, "engine {n}"),
            HostId::Client(n) => write!(f, "client {n}"),
            HostId::App(n) => write!(f, "app {n}"),
            HostId::Mirror => f.write_str("mirror"),
            HostId::Discovery => f.write_str("discovery"),
        }
    }
}

/// Something that will happen.
#[derive(Debug)]
pub(super) enum Event {
    /// A connect is answered.
    Connect(LinkId),
    /// The far host takes a connection.
    Accept(LinkId),
    /// Bytes of the end `from` arrive at the other.
    Deliver { link: LinkId, from: usize, n: usize },
    /// The end of what the end `from` sends arrives at the other.
    Fin { link: LinkId, from: usize },
    /// A reset of the end `from` arrives at the other, perhaps before what was sent earlier.
    Reset { link: LinkId, from: usize, hard: bool },
    /// A black hole lets go of what it holds.
    Open { link: LinkId, from: usize },
    /// There is room again for what the end `side` wants to send.
    Writable { link: LinkId, side: usize },
    /// A host wanted to be woken: for one of its connections, or for itself.
    Wake { host: HostId, slot: u32, token: u32 },
    /// An engine is told what a name stands for.
    Resolved { engine: u16, query: QueryId, answer: Answer },
    /// An authority answers an engine.
    Certified { engine: u16, grant: Grant },
    /// The wall clock of an engine is set: it is wrong by so many seconds from now on.
    Clock { engine: u16, wrong: i64 },
    /// The next step of a change of anchors.
    Anchors,
    /// An engine is told what to do.
    Command { engine: u16, command: Command },
}

impl Event {
    /// The direction of a link that it happens in.
    fn direction(&self) -> Option<(LinkId, usize)> {
        match *self {
            Event::Deliver { link, from, .. }
            | Event::Fin { link, from }
            | Event::Reset { link, from, .. } => Some((link, from)),
            _ => None,
        }
    }
}

/// What discovery answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Answer {
    /// What it knows at that time.
    Good,
    /// That it does not know.
    Fails,
}

/// One fault that is not drawn: at which byte of which direction what happens.
#[derive(Clone, Copy, Debug)]
pub(super) struct Plan {
    pub(super) link: LinkId,
    pub(super) from: usize,
    pub(super) at: u64,
    pub(super) trap: Trap,
    /// And the two events after that change places.
    pub(super) swap: bool,
}

struct Entry {
    at: Time,
    seq: u64,
    event: Event,
}

impl PartialEq for Entry {
    fn eq(&self, other: &Self) -> bool {
        self.seq == other.seq
    }
}

impl Eq for Entry {}

impl PartialOrd for Entry {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Entry {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (self.at, self.seq).cmp(&(other.at, other.seq))
    }
}

/// See the [module](self).
pub(super) struct Net<'a> {
    pub(super) choose: &'a mut dyn Choose,
    pub(super) splicing: Splicing,
    pub(super) now: Time,
    /// Counts writes, so that what was written when can be told within one instant.
    pub(super) tick: u64,
    heap: BinaryHeap<Reverse<Entry>>,
    seq: u64,
    /// What is to happen at the first byte of links that do not exist yet.
    pub(super) plan: Option<Plan>,
    /// The next two events change places.
    swap: bool,
    pub(super) links: Vec<Link>,
    pub(super) mix: Mix,
    pub(super) authority: Authority,
    /// Something that is no record went between engines with identities.
    pub(super) leak: Option<String>,
    /// Nothing goes wrong any more.
    pub(super) healed: bool,
    /// And clients ask all the same, to see whether everybody is well.
    pub(super) reviving: bool,
    pub(super) model: Model,
    pub(super) checks: Checks,
    pub(super) coverage: Coverage,
    pub(super) trace: Trace,
}

impl<'a> Net<'a> {
    pub(super) fn new(choose: &'a mut dyn Choose, mix: Mix, model: Model, shown: bool) -> Self {
        Net {
            choose,
            splicing: Splicing::default(),
            now: Time::from_nanos(1),
            tick: 0,
            heap: BinaryHeap::new(),
            seq: 0,
            plan: None,
            swap: false,
            links: Vec::new(),
            mix,
            authority: Authority::default(),
            leak: None,
            healed: false,
            reviving: false,
            model,
            checks: Checks::default(),
            coverage: Coverage::default(),
            trace: Trace { shown, ..Trace::default() },
        }
    }

    // ---- Time ----

    /// The next thing that happens; time moves there.
    pub(super) fn next(&mut self) -> Option<Event> {
        let Reverse(mut entry) = self.heap.pop()?;
        if std::mem::take(&mut self.swap)
            && let Some(Reverse(second)) = self.heap.pop()
        {
            // What one end sends arrives in its order.
            if entry.event.direction().is_none_or(|it| second.event.direction() != Some(it)) {
                entry.at = second.at;
                self.heap.push(Reverse(std::mem::replace(&mut entry, second)));
            } else {
                self.heap.push(Reverse(second));
            }
        }
        self.now = self.now.max(entry.at);
        Some(entry.event)
    }

    /// When the next thing happens.
    pub(super) fn peek(&self) -> Option<Time> {
        self.heap.peek().map(|Reverse(entry)| entry.at)
    }

    pub(super) fn at(&mut self, at: Time, event: Event) {
        self.seq += 1;
        self.heap.push(Reverse(Entry { at, seq: self.seq, event }));
    }

    pub(super) fn after(&mut self, wait: Duration, event: Event) {
        self.at(self.now + wait, event);
    }

    pub(super) fn wake(&mut self, wait: Duration, host: HostId, slot: u32, token: u32) {
        self.after(wait, Event::Wake { host, slot, token });
    }

    // ---- Chance ----

    /// Does this fault happen now? Counted if so.
    #[inline]
    pub(super) fn hits(&mut self, fault: Fault) -> bool {
        let hit = !self.healed && self.mix.draws(self.choose, fault);
        self.coverage.faults[fault as usize] += u64::from(hit);
        hit
    }

    /// The same, for what is decided once for a connection or a host.
    pub(super) fn hits_once(&mut self, fault: Fault) -> bool {
        let hit = !self.healed && self.mix.draws_once(self.choose, fault);
        self.coverage.faults[fault as usize] += u64::from(hit);
        hit
    }

    /// Does this fault of [`Splicing`] happen now?
    pub(super) fn hits_splice(&mut self, fault: Fault) -> bool {
        let hit = !self.healed && self.mix.draws(&mut self.splicing.choose, fault);
        self.coverage.faults[fault as usize] += u64::from(hit);
        hit
    }

    /// Some time up to `most`.
    pub(super) fn some(&mut self, most: Duration) -> Duration {
        let steps = self.choose.below(1000) as u32;
        most * steps / 1000
    }

    // ---- Links ----

    /// Begins to connect; [`Event::Connect`] tells what becomes of it.
    pub(super) fn connect(
        &mut self,
        host: HostId,
        slot: u32,
        to: SocketAddr,
        original_dst: Option<SocketAddr>,
    ) -> LinkId {
        let id = self.links.len() as LinkId;
        let delay = self.mix.latency;
        let near = End::new(host, slot);
        let mut link = Link {
            ends: [near, near],
            pipes: [Pipe::new(delay), Pipe::new(delay)],
            records: None,
            tap: Tap::default(),
            to,
            original_dst,
            state: LinkState::Connecting,
            since: self.now,
            is_check: false,
        };
        for pipe in &mut link.pipes {
            self.shape(pipe);
        }
        if let Some(plan) = self.plan.filter(|plan| plan.link == id) {
            link.pipes[plan.from].trap = Some((plan.at, plan.trap));
        }
        self.links.push(link);
        let trip = Duration::from_nanos(2 * delay);
        if self.hits(Fault::ConnectHangs) {
            // Until it does no harm any more.
            self.after(Duration::from_secs(90), Event::Connect(id));
        } else if self.hits(Fault::ConnectLate) {
            let late = self.some(Duration::from_millis(900));
            self.after(trip + late, Event::Connect(id));
        } else {
            self.after(trip, Event::Connect(id));
        }
        id
    }

    /// The engine that has taken a connection, if one has.
    pub(super) fn engine_of(&self, link: LinkId) -> Option<u16> {
        match self.links[link as usize].ends[FAR].host {
            HostId::Engine(engine) => Some(engine),
            _ => None,
        }
    }

    /// Draws the qualities of a direction.
    fn shape(&mut self, pipe: &mut Pipe) {
        if self.hits_once(Fault::CutRead) {
            pipe.read_cut = self.some_cut();
        }
        if self.hits_once(Fault::CutWrite) {
            pipe.write_cut = self.some_cut();
        }
        if self.hits_once(Fault::SmallPipe) {
            let small = self.mix.largest <= 5000 && !self.mix.has(Fault::Bulk);
            pipe.cap =
                pick(self.choose, if small { &[4096, 1, 100] } else { &[4096, 20_000, 1000] });
        }
        if self.hits_once(Fault::SlowLink) {
            pipe.pace = pick(self.choose, &[1_000, 100, 20_000]);
            pipe.delay *= pick(self.choose, &[1, 10]);
        }
        let far = |choose: &mut dyn Choose| match choose.below(3) {
            0 => choose.below(2_000) as u64,
            1 => choose.below(300) as u64,
            _ => choose.below(50_000) as u64,
        };
        if self.hits(Fault::LinkReset) {
            let at = far(self.choose) + self.splicing.further(&self.mix);
            pipe.trap = Some((at, Trap::Break));
        } else if self.hits(Fault::BlackHole) {
            let at = far(self.choose) + self.splicing.further(&self.mix);
            let long = self.some(Duration::from_secs(20)).as_nanos() as u64;
            pipe.trap = Some((at, Trap::Hole(long)));
        }
    }

    fn some_cut(&mut self) -> Cut {
        match self.choose.below(3) {
            0 => Cut::Anywhere(200),
            1 => Cut::Few(100),
            _ => Cut::Bytes(400),
        }
    }

    /// What becomes of a connect if there is somebody to connect to.
    pub(super) fn connect_result(&mut self) -> Result<(), ConnectError> {
        if self.hits(Fault::ConnectFails) {
            let errors = [
                ConnectError::Refused,
                ConnectError::Unreachable,
                ConnectError::TimedOut,
                ConnectError::Local,
            ];
            return Err(pick(self.choose, &errors));
        }
        Ok(())
    }

    /// Writes to a link what it takes; how much. It says [`Event::Writable`] if that is not all.
    pub(super) fn write(
        &mut self,
        id: LinkId,
        side: usize,
        slices: &[&[u8]],
    ) -> Result<usize, IoError> {
        let link = &mut self.links[id as usize];
        if let Some(kind) = link.ends[side].reset {
            return Err(kind);
        }
        let wanted: usize = slices.iter().map(|slice| slice.len()).sum();
        let stamp = Stamp { tick: self.tick, at: self.now };
        let pipe = &mut link.pipes[side];
        let n = pipe.write(self.choose, slices, stamp);
        if let Some(records) = &mut link.records {
            let records = &mut records[side];
            let before = records.seen;
            self.checks.counts[Invariant::Bodies as usize] += 1;
            if let Err(message) = records.take(slices, n) {
                self.leak = Some(format!("l{id} carries {message}"));
            }
            self.coverage.mesh[4] += records.seen - before;
        }
        self.trace.hash.word(u64::from(id) << 1 | side as u64);
        self.trace.hash.word(n as u64);
        if let Some(first) = slices.first() {
            self.trace.hash.bytes(&first[..first.len().min(n)]);
        }
        if n > 0 && !pipe.gone {
            let at = pipe.last.max(self.now + Duration::from_nanos(pipe.delay))
                + Duration::from_nanos(pipe.pace * n as u64);
            pipe.last = at;
            self.at(at, Event::Deliver { link: id, from: side, n });
        }
        self.spring(id, side);
        let pipe = &mut self.links[id as usize].pipes[side];
        if n < wanted {
            pipe.blocked = true;
            pipe.last_blocked = self.now;
            if pipe.room() > 0 {
                // It was cut, not full.
                let wait = Duration::from_nanos(pipe.delay);
                pipe.blocked = false;
                self.after(wait, Event::Writable { link: id, side });
            }
        }
        Ok(n)
    }

    /// Lets happen what was to happen at this byte.
    fn spring(&mut self, id: LinkId, side: usize) {
        let pipe = &mut self.links[id as usize].pipes[side];
        let Some((at, trap)) = pipe.trap else { return };
        if pipe.written < at {
            return;
        }
        pipe.trap = None;
        if self.healed {
            return;
        }
        self.swap = self.plan.is_some_and(|plan| plan.swap);
        match trap {
            Trap::Break => {
                self.trace.line(self.now, "link", || format!("l{id} breaks after {at} bytes"));
                self.break_link(id);
            }
            Trap::Cut => {}
            Trap::Wake { host, slot, token } => self.wake(Duration::ZERO, host, slot, token),
            Trap::Hole(nanos) => {
                self.trace.line(self.now, "link", || format!("l{id} becomes a black hole"));
                pipe.hole = true;
                self.after(Duration::from_nanos(nanos), Event::Open { link: id, from: side });
            }
        }
    }

    /// Both ends will see a reset.
    pub(super) fn break_link(&mut self, id: LinkId) {
        let hard = self.choose.flip();
        for from in [NEAR, FAR] {
            let delay = Duration::from_nanos(self.links[id as usize].pipes[from].delay);
            self.after(delay, Event::Reset { link: id, from, hard });
        }
    }

    /// Reads from a link into `out`; how much. Makes room for the writer.
    pub(super) fn read(
        &mut self,
        id: LinkId,
        side: usize,
        most: usize,
        out: &mut impl BufMut,
    ) -> usize {
        let pipe = &mut self.links[id as usize].pipes[1 - side];
        let n = pipe.read(self.choose, most, out);
        if n > 0 && std::mem::take(&mut pipe.blocked) {
            let wait = Duration::from_nanos(pipe.delay);
            // Until it knows, it cannot write.
            pipe.last_blocked = self.now + wait;
            self.after(wait, Event::Writable { link: id, side: 1 - side });
        }
        n
    }

    /// Ends what a side sends.
    pub(super) fn fin(&mut self, id: LinkId, side: usize) {
        let pipe = &mut self.links[id as usize].pipes[side];
        if pipe.fin == Fin::No {
            pipe.fin = Fin::Sent;
            let at = pipe.last.max(self.now + Duration::from_nanos(pipe.delay));
            pipe.last = at;
            self.at(at, Event::Fin { link: id, from: side });
        }
    }

    /// A side closes, as a kernel does it: with a reset if there is something that it has not read.
    pub(super) fn close(&mut self, id: LinkId, side: usize) {
        let link = &mut self.links[id as usize];
        if link.ends[side].closed {
            return;
        }
        if link.pipes[1 - side].ready > 0 {
            return self.reset(id, side, false);
        }
        link.ends[side].closed = true;
        self.fin(id, side);
    }

    /// A side resets the link.
    pub(super) fn reset(&mut self, id: LinkId, side: usize, hard: bool) {
        let link = &mut self.links[id as usize];
        link.ends[side].closed = true;
        link.pipes[1 - side].purge();
        let pipe = &mut link.pipes[side];
        let mut at = self.now + Duration::from_nanos(pipe.delay);
        if !hard {
            at = at.max(pipe.last);
            pipe.last = at;
        }
        self.at(at, Event::Reset { link: id, from: side, hard });
    }

    // ---- What arrives ----

    /// Bytes arrive. Should the host look?
    pub(super) fn arrive(&mut self, id: LinkId, from: usize, n: usize) -> bool {
        let link = &mut self.links[id as usize];
        let pipe = &mut link.pipes[from];
        if link.ends[1 - from].closed && !pipe.gone {
            // Nobody is there any more: the kernel says so.
            pipe.purge();
            self.reset(id, 1 - from, false);
            return false;
        }
        pipe.arrive(n);
        pipe.ready > 0
    }

    /// The end of a direction arrives. Should the host look?
    pub(super) fn arrive_fin(&mut self, id: LinkId, from: usize) -> bool {
        let link = &mut self.links[id as usize];
        let pipe = &mut link.pipes[from];
        if pipe.hole {
            pipe.held_end = true;
            return false;
        }
        if link.ends[1 - from].reset.is_some() && pipe.gone {
            return false;
        }
        pipe.fin = pipe.fin.max(Fin::Arrived);
        true
    }

    /// A reset arrives. Should the host look?
    pub(super) fn arrive_reset(&mut self, id: LinkId, from: usize, hard: bool) -> bool {
        let kinds = [IoError::Reset, IoError::Reset, IoError::TimedOut, IoError::Other];
        let kind = if self.healed { IoError::Reset } else { pick(self.choose, &kinds) };
        let link = &mut self.links[id as usize];
        let end = &mut link.ends[1 - from];
        if end.closed || end.reset.is_some() {
            return false;
        }
        end.reset = Some(kind);
        if hard {
            link.pipes[from].purge();
            link.pipes[from].fin = Fin::No;
        } else {
            link.pipes[from].open();
        }
        true
    }

    /// A black hole opens. Should the host look?
    pub(super) fn open(&mut self, id: LinkId, from: usize) -> bool {
        let link = &mut self.links[id as usize];
        let pipe = &mut link.pipes[from];
        if !pipe.hole {
            return false;
        }
        if pipe.held > 0 && link.ends[1 - from].closed && !pipe.gone {
            // Nobody is there any more: the kernel says so.
            pipe.hole = false;
            pipe.purge();
            self.reset(id, 1 - from, false);
            return false;
        }
        pipe.open();
        if std::mem::take(&mut pipe.held_end) {
            pipe.fin = pipe.fin.max(Fin::Arrived);
        }
        true
    }

    // ---- Small things ----

    /// Tells people.
    #[inline]
    pub(super) fn say(&self, who: impl fmt::Display, what: impl FnOnce() -> String) {
        self.trace.line(self.now, who, what);
    }

    /// Tells an engine something, after a while.
    pub(super) fn reload(&mut self, wait: Duration, engine: u16, config: Arc<Config>) {
        self.after(wait, Event::Command { engine, command: Command::Reload(config) });
    }
}
