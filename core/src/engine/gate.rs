//! Gates: requests pass that of the worker, and then one on their way to a service or a port of the
//! app, as many at once as each lets through; those beyond wait in bounded queues, in order.

use alloc::boxed::Box;
use alloc::collections::VecDeque;
use alloc::sync::Arc;

use super::Engine;
use super::contract::{ConnId, Direction, Event};
use super::exchange::{Exchange, ExchangeId, Kind};
use crate::error::Reason;
use crate::policy::Concurrency;
use crate::policy::gradient::{Adaptive, Gradient};
use crate::stats::{Decision, GateSnapshot};
use crate::time::{Duration, Time};

/// How many that wait are let through in one turn: a long queue does not hold up everybody else.
const BATCH: usize = 128;

/// Requests that are through, and those that wait.
#[derive(Debug)]
pub(crate) struct Gate {
    /// Exchanges that are through and have not ended.
    in_flight: u32,
    limit: u32,
    /// A limit that adapts, and what it was made from.
    adaptive: Option<Box<(Gradient, Adaptive, u32)>>,
    /// Exchanges that wait. Some may have ended meanwhile …
    queue: VecDeque<ExchangeId>,
    /// … this many have not …
    queued: usize,
    /// … and how many may.
    max_queue: usize,
    timeout: Duration,
}

/// Which gate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum GateOf {
    /// That of the worker, which all pass first.
    Worker,
    /// That of a service, by its index.
    Service(u32),
    /// That of a port of the app.
    Port(u16),
}

/// What becomes of a request at a gate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Entry {
    Passes,
    Waits,
}

/// How far an exchange has come on its way through gates.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Passage {
    /// It waits for its turn at the worker's.
    First,
    /// It is through that, and waits at that of its service or port.
    Second,
    /// It is through that, and the second has refused it: it is about to end.
    Refused,
    /// It is through.
    Done,
}

impl Passage {
    /// Does it wait for its turn?
    pub(crate) fn waits(self) -> bool {
        matches!(self, Passage::First | Passage::Second)
    }
}

impl Default for Gate {
    fn default() -> Self {
        let (queue, timeout) = (VecDeque::new(), Duration::MAX);
        Gate {
            in_flight: 0,
            limit: u32::MAX,
            adaptive: None,
            queue,
            queued: 0,
            max_queue: 0,
            timeout,
        }
    }
}

impl Gate {
    /// Lets through what `config` says, of one of so many workers that share it.
    pub(super) fn configure(&mut self, config: &Concurrency, workers: u32, now: Time) {
        let workers = if canary!(WholeShare) { 1 } else { workers };
        let share = |all: u32| all.div_ceil(workers.max(1));
        self.limit = config.max_in_flight.map_or(u32::MAX, share);
        self.max_queue = share(config.max_queue) as usize;
        self.timeout = config.queue_timeout;
        // What was learned stays learned, unless the bounds are others.
        let known = self.adaptive.take();
        self.adaptive = config.adaptive.clone().map(|bounds| {
            let same = known.filter(|known| known.1 == bounds && known.2 == workers);
            same.unwrap_or_else(|| {
                Box::new((Gradient::new(&bounds, workers, now), bounds, workers))
            })
        });
    }

    /// The limit that adapts, if there is one.
    pub(super) fn adaptive_limit(&self) -> Option<u32> {
        self.adaptive.as_ref().map(|adaptive| adaptive.0.limit())
    }

    /// A request was answered, or given up on, after so long.
    fn learn(&mut self, took: Duration, now: Time) {
        let in_flight = self.in_flight;
        if let Some(adaptive) = &mut self.adaptive {
            adaptive.0.sample(took, in_flight, now);
        }
    }

    /// What it lets through, and what comes.
    pub(super) fn snapshot(&self) -> GateSnapshot {
        let limit = self.limit.min(self.adaptive_limit().unwrap_or(u32::MAX));
        GateSnapshot {
            limit: (limit < u32::MAX).then_some(u64::from(limit)),
            in_flight: u64::from(self.in_flight),
            queued: self.queued as u64,
        }
    }

    /// Nobody is through, and nobody waits.
    pub(super) fn is_idle(&self) -> bool {
        self.in_flight == 0 && self.queued == 0
    }

    /// Exchanges that wait.
    pub(super) fn queued(&self) -> usize {
        self.queued
    }

    /// Exchanges that are through.
    pub(super) fn in_flight(&self) -> u32 {
        self.in_flight
    }

    /// How long an exchange may wait.
    pub(super) fn timeout(&self) -> Duration {
        self.timeout
    }

    /// Would one more pass at once? Nobody overtakes those that wait.
    pub(super) fn is_open(&self) -> bool {
        self.has_room() && self.queued == 0
    }

    fn has_room(&self) -> bool {
        let limit = self.limit.min(self.adaptive_limit().unwrap_or(u32::MAX));
        let in_flight = self.in_flight + u32::from(canary!(NarrowGate));
        in_flight < limit.saturating_add(canary!(WideGate).into())
    }

    /// One more comes.
    fn enter(&mut self) -> Result<Entry, Reason> {
        if self.is_open() {
            self.in_flight += 1;
            return Ok(Entry::Passes);
        }
        if self.queued < self.max_queue + usize::from(canary!(LongQueue)) {
            return Ok(Entry::Waits);
        }
        Err(if self.max_queue > 0 { Reason::ServiceQueueFull } else { Reason::ServiceBusy })
    }

    /// The same, of one that does not wait.
    pub(super) fn try_enter(&mut self) -> bool {
        let enters = self.is_open();
        self.in_flight += u32::from(enters);
        enters
    }

    fn wait(&mut self, id: ExchangeId, lives: impl Fn(ExchangeId) -> bool) {
        // Those that ended while they waited do not pile up.
        if self.queue.len() > 2 * self.queued + 64 {
            self.queue.retain(|&id| lives(id));
        }
        self.queue.push_back(id);
        self.queued += 1;
    }

    /// Whose turn it is.
    fn next(&mut self) -> Option<ExchangeId> {
        if canary!(LastFirst) { self.queue.pop_back() } else { self.queue.pop_front() }
    }

    /// Everybody who waits, some of whom may have ended.
    pub(super) fn take_queue(&mut self) -> VecDeque<ExchangeId> {
        core::mem::take(&mut self.queue)
    }
}

impl Engine {
    pub(super) fn gate(&mut self, of: GateOf) -> Option<&mut Gate> {
        match of {
            GateOf::Service(index) => {
                self.mesh.services.get_mut(index as usize).map(|service| &mut service.gate)
            }
            GateOf::Port(number) => self.port_gate(number),
            GateOf::Worker => Some(&mut self.gate),
        }
    }

    /// The second gate of an exchange, by its service and whether it is at a port's.
    pub(super) fn gate_of(&self, service: u32, at_port: bool) -> Option<GateOf> {
        if !at_port {
            return Some(GateOf::Service(service));
        }
        self.mesh.services.get(service as usize).map(|service| GateOf::Port(service.port))
    }

    /// Is there a gate at the app's port that a request on this connection is for?
    pub(super) fn is_at_port(&self, kind: Kind, down: ConnId, service: u32) -> bool {
        if self.ports.is_empty() || kind != Kind::Http {
            return false;
        }
        let inbound = |conn: &super::conn::Conn| conn.direction == Direction::Inbound;
        self.conns.find(down).is_some_and(inbound)
            && matches!(self.gate_of(service, true), Some(GateOf::Port(number))
                if self.ports.iter().any(|port| port.number == number))
    }

    /// A request comes. `copy`: it is a mirrored one, which takes no place of the worker's.
    pub(super) fn enter_gates(
        &mut self,
        service: u32,
        at_port: bool,
        copy: bool,
    ) -> Result<Passage, Reason> {
        if !copy {
            if canary!(NarrowProxy) && self.gate.in_flight + 1 == self.gate.limit {
                return Err(Reason::ProxyBusy);
            }
            let entry = self.gate.enter().map_err(|reason| match reason {
                Reason::ServiceQueueFull => Reason::ProxyQueueFull,
                _ => Reason::ProxyBusy,
            })?;
            if entry == Entry::Waits {
                return Ok(Passage::First);
            }
        }
        let entered = self.enter_second(service, at_port);
        if entered.is_err() && !copy {
            self.gate.in_flight -= 1;
        }
        entered
    }

    /// The same at the gate of a service or port.
    fn enter_second(&mut self, service: u32, at_port: bool) -> Result<Passage, Reason> {
        let Some(of) = self.gate_of(service, at_port) else { return Ok(Passage::Done) };
        let thin = canary!(ThinPort) && at_port && self.config.workers > 1;
        let Some(gate) = self.gate(of) else { return Ok(Passage::Done) };
        if thin && gate.in_flight + 1 == gate.limit {
            return Err(Reason::PortBusy);
        }
        match gate.enter() {
            Ok(Entry::Passes) => Ok(Passage::Done),
            Ok(Entry::Waits) => Ok(Passage::Second),
            Err(reason) => Err(match (of, reason) {
                (GateOf::Port(_), Reason::ServiceQueueFull) => Reason::PortQueueFull,
                (GateOf::Port(_), _) => Reason::PortBusy,
                _ => reason,
            }),
        }
    }

    /// An exchange waits for its turn, where its passage says.
    pub(super) fn wait_at_gate(&mut self, id: ExchangeId) {
        let Some(exchange) = self.exchanges.get(id) else { return };
        let (service, at_port) = (exchange.service, exchange.traits.at_port);
        // It has no stream yet.
        let overtakes = canary!(OvertakingStream)
            && at_port
            && self.conns.find(exchange.down).is_some_and(|conn| conn.http2().is_some());
        let of = match exchange.traits.passage {
            Passage::First => Some(GateOf::Worker),
            _ => self.gate_of(service, at_port),
        };
        let gate = match of {
            Some(GateOf::Worker) => Some(&mut self.gate),
            Some(GateOf::Service(index)) => {
                self.mesh.services.get_mut(index as usize).map(|service| &mut service.gate)
            }
            Some(GateOf::Port(number)) => {
                self.ports.iter_mut().find(|port| port.number == number).map(|port| &mut port.gate)
            }
            None => None,
        };
        let exchanges = &self.exchanges;
        if let Some(gate) = gate {
            gate.wait(id, |id| exchanges.get(id).is_some());
            if overtakes {
                gate.queue.rotate_right(1);
            }
        }
        if let Some(service) = self.mesh.services.get_mut(service as usize) {
            let decision = Decision::Queued;
            service.stats.decisions.count(decision);
            let service = Arc::clone(&service.name);
            self.emit(Event::Decided { service, decision });
        }
    }

    /// An exchange is over.
    pub(super) fn leave_gates(&mut self, exchange: &Exchange) {
        let passage = exchange.traits.passage;
        if passage != Passage::First {
            self.leave_second(exchange.service, exchange.traits.at_port, passage);
        }
        if !exchange.is_mirror() {
            self.leave(GateOf::Worker, passage == Passage::First);
        }
    }

    /// An exchange is over, or goes to another service.
    pub(super) fn leave_second(&mut self, service: u32, at_port: bool, passage: Passage) {
        if passage != Passage::Refused
            && let Some(of) = self.gate_of(service, at_port)
        {
            self.leave(of, passage == Passage::Second);
        }
    }

    fn leave(&mut self, of: GateOf, waits: bool) {
        let Some(gate) = self.gate(of) else { return };
        if waits {
            gate.queued -= 1;
            return;
        }
        gate.in_flight -= 1;
        if gate.queued > 0 && gate.has_room() {
            self.opens(of);
        }
    }

    /// An attempt was answered well, or got no answer in time: what its gate learns from that.
    pub(super) fn teach_gate(&mut self, id: ExchangeId) {
        let Some(exchange) = self.exchanges.get(id) else { return };
        let took = self.now.saturating_since(exchange.attempt);
        let (service, at_port) = (exchange.service, exchange.traits.at_port);
        self.teach_gates(service, at_port, exchange.is_mirror(), took);
    }

    /// The same, of one that took so long.
    #[inline]
    pub(super) fn teach_gates(&mut self, service: u32, at_port: bool, copy: bool, took: Duration) {
        let now = self.now;
        if !copy {
            self.gate.learn(took, now);
        }
        let Some(of) = self.gate_of(service, at_port) else { return };
        if let Some(gate) = self.gate(of) {
            gate.learn(took, now);
        }
    }

    /// There may be room now for those that wait.
    pub(super) fn opens(&mut self, of: GateOf) {
        let waiting = self.gate(of).is_some_and(|gate| gate.queued > 0);
        if waiting && !self.opened.contains(&of) {
            // The last is opened first. Who waits at a second gate moves on before others come to it.
            let at = if of == GateOf::Worker { 0 } else { self.opened.len() };
            self.opened.insert(at, of);
        }
    }

    /// Lets through whom there is room for.
    pub(super) fn open_gates(&mut self) {
        let mut batch = BATCH;
        while let Some(of) = self.opened.pop() {
            while let Some(gate) = self.gate(of)
                && gate.queued > 0
                && gate.has_room()
                && let Some(id) = gate.next()
            {
                if batch == 0 {
                    gate.queue.push_front(id);
                    return self.opened.push(of);
                }
                if self.exchanges.get(id).is_none() {
                    continue;
                }
                if let Some(gate) = self.gate(of) {
                    gate.queued -= 1;
                    gate.in_flight += 1;
                }
                batch -= 1;
                self.go_through(id);
            }
        }
    }

    /// It is an exchange's turn at a gate: to the next, or on its way.
    fn go_through(&mut self, id: ExchangeId) {
        let Some(exchange) = self.exchanges.get(id) else { return };
        let (service, at_port) = (exchange.service, exchange.traits.at_port);
        let entered = match exchange.traits.passage {
            Passage::First => self.enter_second(service, at_port),
            _ => Ok(Passage::Done),
        };
        let Some(exchange) = self.exchanges.get_mut(id) else { return };
        exchange.traits.passage = entered.unwrap_or(Passage::Refused);
        exchange.attempt = self.now;
        match entered {
            Ok(Passage::Second) => self.wait_at_gate(id),
            Ok(_) => self.dispatch(id),
            Err(reason) => return self.fail(id, reason),
        }
        self.rearm(id);
    }
}
