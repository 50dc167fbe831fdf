//! The engine: every connection of one worker, driven by inputs and time.

mod affinity;
mod authorize;
mod availability;
mod body;
mod boxes;
mod breaker;
mod bridge;
mod check;
mod conn;
mod contract;
mod deadlines;
mod dispatch;
mod downstream;
mod ending;
mod event;
mod exchange;
mod gate;
mod handshake;
mod health;
mod hello;
mod hold;
mod identity;
mod inputs;
mod invariants;
mod mesh;
mod mirror;
mod multiplex;
mod policy;
mod pool;
mod ports;
mod relay;
mod reload;
mod resolve;
mod retry;
mod route;
mod snapshot;
mod spellings;
mod timeouts;
mod tls;
mod tunnel;
mod turn;
mod upstream;

use alloc::collections::VecDeque;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;

use bytes::{Bytes, BytesMut};

pub use contract::*;
pub use event::EventKind;
pub use snapshot::{GateGauge, Guarded};

use crate::buf::Spare;
use crate::config::{Config, Listener};
use crate::http::Scratch;
use crate::http2;
use crate::policy::filter::Edited;
use crate::rng::{Rng, Seed};
use crate::stats::DirectionStats;
use crate::time::Time;
use boxes::Boxes;
use conn::Conns;
use deadlines::Deadlines;
use exchange::{ExchangeId, Exchanges};
use gate::{Gate, GateOf};
use handshake::Handshakes;
use hold::Holds;
use identity::Identity;
use mesh::Mesh;
use mirror::Mirrors;
use policy::Policy;
use ports::Port;

/// The proxy of one worker: sniffing, HTTP/1, tunnels, balancing, pools and timeouts, as one state
/// machine without I/O. See the [crate documentation](crate) for the run loop.
#[derive(Debug)]
pub struct Engine {
    now: Time,
    config: Arc<Config>,
    /// Of the configuration at the start: the adapter's sockets.
    listeners: Vec<Listener>,
    /// Sorted.
    opaque_ports: Vec<u16>,
    rng: Rng,
    conns: Conns,
    exchanges: Exchanges,
    mesh: Mesh,
    mirrors: Mirrors,
    /// Those of the app that have limits.
    ports: Vec<Port>,
    /// What it lets through at once, of all requests.
    gate: Gate,
    /// Gates with room for those that wait.
    opened: Vec<GateOf>,
    timers: Timers,
    /// Exchanges whose timers are set at the end of the turn.
    unarmed: Vec<ExchangeId>,
    /// Heads of responses that wait for what follows them.
    holds: Holds,
    /// What routes said about exchanges that are over.
    policies: Boxes<Policy>,
    identity: Identity,
    handshakes: Handshakes,
    /// Pieces of a record that is being sealed.
    gathered: BytesMut,
    /// Connections with something to do.
    ready: VecDeque<u32>,
    /// Connections that have more to do than one turn does, and wait for [`Input::Timeout`].
    put_off: VecDeque<ConnId>,
    /// Connections whose queues hold slices of read buffers at the end of a turn.
    unsettled: Vec<ConnId>,
    /// Clients that are paused because the worker holds too much.
    starved: Vec<ConnId>,
    outputs: VecDeque<Output>,
    spare: Spare,
    /// Field positions of the head that is being looked at.
    scratch: Scratch,
    /// The same, of one that came on a stream.
    http2_scratch: http2::Scratch,
    /// Room for a head that a route changes.
    edited: Edited,
    /// What HTTP/2 connections are told.
    http2: Arc<http2::Config>,
    /// The authority that is being looked up.
    authority: String,
    directions: [DirectionStats; 2],
    accepted: usize,
    buffered: usize,
    drain: Drain,
}

/// One table of deadlines per kind of thing.
#[derive(Debug, Default)]
struct Timers {
    conns: Deadlines,
    exchanges: Deadlines,
    endpoints: Deadlines,
    breakers: Deadlines,
    checks: Deadlines,
    services: Deadlines,
    names: Deadlines,
}

/// How far a drain has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Drain {
    /// There is none.
    No,
    /// Until then.
    Until(Time),
    /// [`Event::Drained`] was said.
    Done,
}

impl Engine {
    /// An engine without connections.
    ///
    /// `seed` decides balancing, jitter and hash keys: 128 bits from the operating system in
    /// production, a number in a simulation.
    pub fn new(config: Arc<Config>, seed: Seed, now: Time) -> Self {
        #[cfg(selvedge_canary)]
        let seed = if canary!(OtherDice) {
            Seed::from_number(seed.0[0] ^ crate::canary::dice())
        } else {
            seed
        };
        let mut keys = Rng::fork(seed, 1);
        let mut engine = Engine {
            now,
            listeners: config.listeners.clone(),
            config,
            opaque_ports: Vec::new(),
            rng: Rng::fork(seed, 2),
            conns: Conns::default(),
            exchanges: Exchanges::default(),
            mesh: Mesh::new(&mut keys),
            mirrors: Mirrors::new(seed),
            ports: Vec::new(),
            gate: Gate::default(),
            opened: Vec::new(),
            timers: Timers::default(),
            unarmed: Vec::new(),
            holds: Holds::default(),
            policies: Boxes::default(),
            identity: Identity::default(),
            handshakes: Handshakes::default(),
            gathered: BytesMut::new(),
            ready: VecDeque::new(),
            put_off: VecDeque::new(),
            unsettled: Vec::new(),
            starved: Vec::new(),
            outputs: VecDeque::new(),
            spare: Spare::default(),
            scratch: Scratch::default(),
            http2_scratch: http2::Scratch::default(),
            edited: Edited::default(),
            http2: Arc::default(),
            authority: String::new(),
            directions: Default::default(),
            accepted: 0,
            buffered: 0,
            drain: Drain::No,
        };
        let config = Arc::clone(&engine.config);
        engine.apply(&config);
        engine
    }

    // ---- What the adapter asks ----

    /// Pops what the engine wants done. Does no work.
    #[inline]
    pub fn poll_output(&mut self) -> Option<Output> {
        let output = self.outputs.pop_front()?;
        if let Output::Close { conn, how: CloseKind::Full | CloseKind::Abort } = output {
            self.conns.free(conn.index);
        }
        Some(output)
    }

    /// When to send [`Input::Timeout`], and why. Changes with every input and every turn.
    pub fn next_timeout(&mut self) -> Option<(Time, TimerKind)> {
        let drain = match self.drain {
            Drain::Until(grace) => Some(grace),
            Drain::No | Drain::Done => None,
        };
        let more = !self.put_off.is_empty() || !self.opened.is_empty();
        let more = more.then_some(self.now);
        self.arm_exchanges();
        let held = self.hold_ends();
        let timers = &mut self.timers;
        [
            (more, TimerKind::Turn),
            (timers.conns.next(), TimerKind::Connection),
            (timers.exchanges.next(), TimerKind::Exchange),
            (held, TimerKind::Exchange),
            (timers.endpoints.next(), TimerKind::Endpoint),
            (timers.breakers.next(), TimerKind::Breaker),
            (timers.checks.next(), TimerKind::Check),
            (timers.services.next(), TimerKind::Service),
            (timers.names.next(), TimerKind::Resolve),
            (self.identity.due(), TimerKind::Identity),
            (self.handshakes.due(), TimerKind::Handshake),
            (drain, TimerKind::Drain),
        ]
        .into_iter()
        .filter_map(|(at, kind)| at.map(|at| (at, kind)))
        .min_by_key(|&(at, _)| at)
    }

    /// The bytes that a connection wants written, borrowed for one `writev`: fills `io` from the
    /// front and returns how many slices it used. Report what was written as [`Input::Wrote`],
    /// before any other input of this connection. There are none while a pipe is to be written
    /// first.
    #[inline]
    pub fn write_bufs<'a>(&'a self, conn: ConnId, io: &mut [&'a [u8]]) -> usize {
        let conn = self.conns.find(conn).filter(|conn| conn.spliced == 0);
        conn.map_or(0, |conn| conn.outgoing().slices(io))
    }

    /// The bytes that a connection wants written, as owned slices, for completion-based I/O. They
    /// are shown again until they are reported as [`Input::Wrote`].
    pub fn take_bufs(&mut self, conn: ConnId, out: &mut Vec<Bytes>) {
        if let Some(conn) = self.conns.find_mut(conn).filter(|conn| conn.spliced == 0) {
            conn.outgoing_mut().owned(out);
        }
    }

    /// How many bytes a connection may read now; 0: none until [`Output::ReadReady`]. One read
    /// buffer more does no harm.
    #[inline]
    pub fn read_budget(&self, conn: ConnId) -> usize {
        match self.conns.find(conn) {
            Some(found) if !found.flags.paused => self.budget(found).max(1),
            _ => 0,
        }
    }

    /// No connection that a peer opened is left.
    pub fn is_drained(&self) -> bool {
        self.drain == Drain::Done
    }

    // ---- Small things that every part needs ----

    fn emit(&mut self, event: Event) {
        self.outputs.push_back(Output::Event(event));
    }

    fn is_draining(&self) -> bool {
        self.drain != Drain::No
    }

    fn direction(&mut self, direction: Direction) -> &mut DirectionStats {
        &mut self.directions[direction as usize]
    }

    /// Puts a connection on the ready list.
    fn touch(&mut self, index: u32) {
        if let Some(conn) = self.conns.get_mut(index) {
            conn.touch(index, &mut self.ready);
        }
    }

    /// The same, by name.
    fn touch_id(&mut self, conn: ConnId) {
        if self.conns.find(conn).is_some() {
            self.touch(conn.index);
        }
    }
}

#[cfg(test)]
mod tests;
