//! An engine and its adapter: what stands between the state machine and the links.

mod check;
mod identity;
mod judged;
mod names;
mod output;
mod socket;
mod splice;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use selvedge_core::config::Config;
use selvedge_core::engine::{Accepted, ConnId, Engine, Event as Told, Input, QueryId};
use selvedge_core::error::{ConnectError, IoError};
use selvedge_core::rng::Seed;
use selvedge_core::time::Time;

use super::Host;
use crate::sim::fault::Fault;
use crate::sim::invariant::{Check, Invariant};
use crate::sim::link::{FAR, LinkId, NEAR};
use crate::sim::mix::{LATE, STALL};
use crate::sim::net::{Event, HostId, Net};
use socket::Socket;

/// Tokens of wake-ups.
const TURN: u32 = 0;
pub(in crate::sim) const TIMER: u32 = 1;
/// Sockets that are visited in one turn.
const VISITS: usize = 64;
/// No turn takes more rounds, nor does a timer fire more often at one time.
const ROUNDS: usize = 20_000;

/// See the [module](self).
pub(in crate::sim) struct EngineHost {
    pub(in crate::sim) id: HostId,
    pub(in crate::sim) engine: Engine,
    pub(in crate::sim) config: Arc<Config>,
    /// Its address; the listeners' ports are of the configuration.
    pub(in crate::sim) ip: IpAddr,
    /// Is it told to drain?
    pub(in crate::sim) draining: bool,
    pub(in crate::sim) drained: u32,
    /// What the engine has said, if somebody wants to know.
    pub(in crate::sim) heard: Option<VecDeque<Told>>,
    sockets: Vec<Option<Socket>>,
    ready: VecDeque<ConnId>,
    block: BytesMut,
    /// A turn is to come.
    due: bool,
    /// When the timer will fire.
    armed: Time,
    stalled_until: Time,
    turns: u64,
    /// Connections that are gone.
    dead: VecDeque<ConnId>,
    /// Those that were reported broken in this turn.
    broken: Vec<ConnId>,
    /// What queries were answered.
    names: BTreeMap<QueryId, Vec<IpAddr>>,
    originals: BTreeSet<SocketAddr>,
    /// Bytes that came from clients and went to them.
    moved: [u64; 2],
    /// Of those that came from clients, the ones that the engine did not see.
    spliced: u64,
    /// What it held when it spliced although that was much.
    crowded: Option<usize>,
    /// It was refused a pipe.
    no_pipes_until: Time,
    /// How wrong its wall clock is, in seconds.
    clock_wrong: i64,
    /// When it said that it makes retries, by service: those of a window.
    retries: BTreeMap<String, VecDeque<Time>>,
    /// It has said something of its endpoints.
    judged: bool,
    /// When it began to check each of them, and since when that is known.
    looked: BTreeMap<SocketAddr, VecDeque<Time>>,
    looks_since: Time,
}

impl EngineHost {
    pub(in crate::sim) fn new(
        index: u16,
        ip: IpAddr,
        config: Config,
        seed: u64,
        now: Time,
    ) -> Self {
        let config = Arc::new(config);
        EngineHost {
            id: HostId::Engine(index),
            engine: Engine::new(Arc::clone(&config), Seed::from_number(seed), now),
            config,
            ip,
            draining: false,
            drained: 0,
            heard: None,
            sockets: Vec::new(),
            ready: VecDeque::new(),
            block: BytesMut::new(),
            due: false,
            armed: Time::MAX,
            stalled_until: Time::ZERO,
            turns: 0,
            dead: VecDeque::new(),
            broken: Vec::new(),
            names: BTreeMap::new(),
            originals: BTreeSet::new(),
            moved: [0; 2],
            spliced: 0,
            crowded: None,
            no_pipes_until: Time::ZERO,
            clock_wrong: 0,
            retries: BTreeMap::new(),
            judged: false,
            looked: BTreeMap::new(),
            looks_since: now,
        }
    }

    /// Does what the configuration wants at once.
    pub(in crate::sim) fn start(&mut self, net: &mut Net<'_>) -> Check {
        self.will_change(net);
        self.tell_clock(net);
        self.settle(net)?;
        self.has_changed(net, None)?;
        self.arm(net);
        Ok(())
    }

    /// Connections that it has.
    pub(in crate::sim) fn open(&self) -> usize {
        self.sockets.iter().flatten().count()
    }

    // ---- Turns ----

    fn queue(&mut self, net: &mut Net<'_>, conn: ConnId) {
        let Some(Some(socket)) = self.sockets.get_mut(conn.index()) else { return };
        if socket.conn == conn && !socket.queued {
            socket.queued = true;
            self.ready.push_back(conn);
        }
        self.plan_turn(net);
    }

    fn plan_turn(&mut self, net: &mut Net<'_>) {
        if self.due {
            return;
        }
        self.due = true;
        if net.now > self.stalled_until + 5 * STALL && net.hits(Fault::EngineStalls) {
            self.stalled_until = net.now + net.some(STALL);
            net.say(self.id, || "stalls".to_owned());
        }
        let at = net.now.max(self.stalled_until);
        net.at(at, Event::Wake { host: self.id, slot: 0, token: TURN });
    }

    fn turn(&mut self, net: &mut Net<'_>) -> Check {
        self.due = false;
        self.recall_pipe(net);
        // A socket is read once in a turn: the budget does not know of what came in this one.
        for left in (1..=self.ready.len().min(VISITS)).rev() {
            if net.mix.shuffles && left > 1 {
                let at = net.choose.below(left);
                self.ready.swap(0, at);
            }
            let Some(conn) = self.ready.pop_front() else { break };
            self.visit(net, conn);
            if !net.mix.batches {
                self.settle(net)?;
            }
        }
        self.disturb(net)?;
        self.settle(net)?;
        if !self.ready.is_empty() {
            self.plan_turn(net);
        }
        self.turns += 1;
        if self.turns.is_multiple_of(16) {
            self.check(net)?;
        }
        self.arm(net);
        Ok(())
    }

    /// What an adapter may do, and mostly does not.
    fn disturb(&mut self, net: &mut Net<'_>) -> Check {
        if net.hits(Fault::TimerEarly) {
            self.engine.handle_input(net.now, Input::Timeout);
        }
        if self.dead.is_empty() || !net.hits(Fault::LateInput) {
            return Ok(());
        }
        // What is left to do is done first, and what that leaves behind: then nothing is.
        self.settle(net)?;
        self.settle(net)?;
        let before = (self.engine.gauges(), self.engine.next_timeout());
        let conn = self.dead[net.choose.below(self.dead.len())];
        let input = match net.choose.below(5) {
            0 => Input::ReadClosed { conn },
            1 => Input::Received { conn, data: b"late"[..].into() },
            2 => Input::Wrote { conn, n: net.choose.below(100) },
            3 => Input::Failed { conn, kind: IoError::Reset },
            _ => Input::Connected { conn, result: Err(ConnectError::Refused) },
        };
        let said = format!("{input:?}");
        self.engine.handle_input(net.now, input);
        self.engine.end_turn(net.now);
        let output = self.engine.poll_output();
        let same = before == (self.engine.gauges(), self.engine.next_timeout());
        net.checks.that(Invariant::Stale, same && output.is_none(), || {
            format!("{} makes something of {said}: {output:?}", self.id)
        })?;
        // Where that is not judged, it goes on.
        if let Some(output) = output {
            self.perform(net, output)?;
        }
        Ok(())
    }

    fn fire(&mut self, net: &mut Net<'_>) -> Check {
        self.armed = Time::MAX;
        if net.now < self.stalled_until {
            let at = self.stalled_until;
            self.armed = at;
            net.at(at, Event::Wake { host: self.id, slot: 0, token: TIMER });
            return Ok(());
        }
        let mut rounds = 0;
        while let Some((at, kind)) = self.engine.next_timeout()
            && at <= net.now
        {
            rounds += 1;
            net.checks.that(Invariant::Progress, rounds < ROUNDS, || {
                format!("the {kind:?} timer fires again and again")
            })?;
            net.coverage.timer(kind);
            net.trace.hash.word(kind as u64);
            net.say(self.id, || format!("{kind:?} timer"));
            self.engine.handle_input(net.now, Input::Timeout);
            self.settle(net)?;
        }
        net.checks.that(Invariant::Progress, true, String::new)?;
        self.arm(net);
        Ok(())
    }

    /// Sees to it that the engine is woken in time.
    fn arm(&mut self, net: &mut Net<'_>) {
        let Some((at, _)) = self.engine.next_timeout() else { return };
        if at == Time::MAX || at >= self.armed {
            return;
        }
        let late = if net.hits(Fault::TimerLate) { net.some(LATE) } else { Duration::ZERO };
        let at = at.max(net.now) + late;
        if at < self.armed {
            self.armed = at;
            net.at(at, Event::Wake { host: self.id, slot: 0, token: TIMER });
        }
    }
}

impl Host for EngineHost {
    fn connected(
        &mut self,
        net: &mut Net<'_>,
        link: LinkId,
        result: Result<(), ConnectError>,
    ) -> Check {
        let Some(conn) = net.links[link as usize].ends[NEAR].conn else { return Ok(()) };
        if let Some(socket) = self.socket(conn) {
            socket.connecting = false;
            if result.is_err() {
                self.sockets[conn.index()] = None;
                self.bury(conn);
            }
        } else if !net.hits(Fault::LateInput) {
            // It was given up, and some adapters cannot tell any more.
            return Ok(());
        }
        net.say(self.id, || format!("{conn:?} is connected: {result:?}"));
        let local = SocketAddr::new(self.ip, 40_000);
        let result = result.map(|()| local);
        self.engine.handle_input(net.now, Input::Connected { conn, result });
        self.settle(net)?;
        self.queue(net, conn);
        self.arm(net);
        Ok(())
    }

    fn accepted(&mut self, net: &mut Net<'_>, link: LinkId) -> Check {
        let Some(found) = net.links.get(link as usize) else { return Ok(()) };
        let original_dst = found.original_dst;
        let port = if original_dst.is_some() { 0 } else { found.to.port() };
        let listeners = self.config.listeners.iter();
        let listener = listeners.clone().position(|listener| listener.addr.port() == port);
        let peer = match found.ends[NEAR].host {
            HostId::Client(n) => [10, 9, 0, n as u8 + 1].into(),
            HostId::Engine(n) => net.model.ips[usize::from(n)],
            _ => [10, 9, 1, 1].into(),
        };
        let accepted = Accepted {
            listener: listener.unwrap_or(0) as u16,
            peer: SocketAddr::new(peer, 1024 + (link % 60_000) as u16),
            local: SocketAddr::new(
                self.ip,
                self.config.listeners[listener.unwrap_or(0)].addr.port(),
            ),
            original_dst,
        };
        let Some(conn) = self.engine.accept(net.now, accepted) else {
            net.say(self.id, || format!("refuses l{link}"));
            net.close(link, FAR);
            return Ok(());
        };
        net.say(self.id, || format!("accepts l{link} as {conn:?}"));
        self.originals.extend(original_dst);
        self.insert(conn, link, FAR)?;
        net.links[link as usize].ends[FAR].conn = Some(conn);
        self.settle(net)?;
        self.queue(net, conn);
        self.arm(net);
        Ok(())
    }

    fn readable(&mut self, net: &mut Net<'_>, link: LinkId, side: usize) -> Check {
        if let Some(conn) = net.links[link as usize].ends[side].conn {
            self.queue(net, conn);
        }
        Ok(())
    }

    fn writable(&mut self, net: &mut Net<'_>, link: LinkId, side: usize) -> Check {
        if let Some(conn) = net.links[link as usize].ends[side].conn {
            if let Some(socket) = self.socket(conn) {
                socket.blocked = false;
            }
            self.queue(net, conn);
        }
        Ok(())
    }

    fn woken(&mut self, net: &mut Net<'_>, _: u32, token: u32) -> Check {
        match token {
            TURN => self.turn(net),
            _ => self.fire(net),
        }
    }
}
