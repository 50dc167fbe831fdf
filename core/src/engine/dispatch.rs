//! From a request to a connection: routes, endpoints, the pool, the queue.

use alloc::format;
use alloc::sync::Arc;
use core::net::SocketAddr;
use core::time::Duration;

use bytes::BytesMut;

use super::Engine;
use super::conn::{Client, ClientPhase, Conn, Flags, State};
use super::contract::{ConnId, Direction, Event, Output};
use super::exchange::{ExchangeId, Kind, Traits};
use super::mesh::{Health, ServiceKind, Times};
use crate::balance::Outcome;
use crate::buf::OutQueue;
use crate::config::{ListenerKind, ServiceTimeouts};
use crate::error::{ConnectError, Reason};
use crate::http::authority;
use crate::http1::HeadScanner;

/// How many waiting exchanges find an endpoint in one turn: a service that comes back with a full
/// queue does not hold up everybody else.
const QUEUE_BATCH: usize = 128;

impl Engine {
    // ---- Where to ----

    /// The service for a request with this authority on the connection `index`.
    pub(super) fn route(&mut self, index: u32, authority: Option<&[u8]>) -> Result<u32, Reason> {
        let Some(conn) = self.conns.get(index) else { return Err(Reason::ClientGone) };
        let (direction, original_dst) = (conn.direction, conn.original_dst);
        if direction == Direction::Outbound
            && let Some(service) = self.named(authority)
        {
            return Ok(service);
        }
        self.route_unnamed(direction, original_dst, Reason::UnknownAuthority)
    }

    /// The configured service of an authority.
    pub(super) fn named(&mut self, name: Option<&[u8]>) -> Option<u32> {
        let mut buffer = core::mem::take(&mut self.authority);
        let known = name.is_some_and(|name| authority::normalize(name, 80, &mut buffer).is_ok());
        let service = if known { self.mesh.by_name.get(buffer.as_str()).copied() } else { None };
        self.authority = buffer;
        service
    }

    /// Where traffic goes that names no service: its original destination, or the app.
    pub(super) fn route_unnamed(
        &mut self,
        direction: Direction,
        original_dst: Option<SocketAddr>,
        nowhere: Reason,
    ) -> Result<u32, Reason> {
        match (direction, original_dst) {
            // The mesh dialled us by our own port: it means the app.
            (Direction::Inbound, Some(dst)) if self.is_inbound_port(dst) => {
                self.mesh.app.ok_or(nowhere)
            }
            (_, Some(dst)) if self.is_self(dst) => Err(Reason::Loop),
            (Direction::Outbound, Some(dst)) if dst.ip().to_canonical().is_loopback() => {
                Err(Reason::Loopback)
            }
            (_, Some(dst)) => Ok(self.original(direction, dst)),
            (Direction::Inbound, None) => self.mesh.app.ok_or(nowhere),
            (Direction::Outbound, None) => Err(nowhere),
        }
    }

    /// Is `addr` one of our own sockets?
    pub(super) fn is_self(&self, addr: SocketAddr) -> bool {
        let ip = addr.ip().to_canonical();
        let listeners = self.listeners.iter().map(|listener| &listener.addr);
        listeners.chain(&self.config.own).any(|listener| {
            let own = listener.ip().to_canonical();
            let covers = own.is_unspecified() && (ip.is_loopback() || ip.is_unspecified());
            listener.port() == addr.port() && (own == ip || covers)
        })
    }

    fn is_inbound_port(&self, addr: SocketAddr) -> bool {
        self.listeners.iter().any(|listener| {
            listener.kind == ListenerKind::Inbound && listener.addr.port() == addr.port()
        })
    }

    /// The service of an original destination, made on demand.
    fn original(&mut self, direction: Direction, dst: SocketAddr) -> u32 {
        if let Some(&service) = self.mesh.originals.get(&(direction, dst)) {
            return service;
        }
        let times = Times::new(&self.config.timeouts, &ServiceTimeouts::default());
        let name: Arc<str> = format!("{dst}").into();
        let service = self.mesh.add_service(name, direction, ServiceKind::Original, times);
        self.mesh.add_endpoint(service, dst, 1, false, self.now);
        self.mesh.originals.insert((direction, dst), service);
        service
    }

    // ---- Exchanges and endpoints ----

    /// Makes an exchange, unless there are too many.
    pub(super) fn begin_exchange(
        &mut self,
        kind: Kind,
        down: ConnId,
        service: u32,
        traits: Traits,
    ) -> Result<ExchangeId, Reason> {
        let limits = &self.config.limits;
        if self.exchanges.len() >= limits.in_flight {
            return Err(Reason::InFlight);
        }
        if self.buffered >= limits.buffer_bytes {
            return Err(Reason::BuffersFull);
        }
        let owner = self.mesh.services.get_mut(service as usize).ok_or(Reason::UnknownAuthority)?;
        owner.exchanges += 1;
        owner.stats.requests += 1;
        let id = self.exchanges.insert(kind, down, service, traits, self.now);
        self.rearm(id);
        Ok(id)
    }

    /// Finds an endpoint for an exchange, or a place in the queue.
    pub(super) fn dispatch(&mut self, id: ExchangeId) {
        let Some(exchange) = self.exchanges.get(id) else { return };
        let service_index = exchange.service;
        let Some(service) = self.mesh.services.get_mut(service_index as usize) else {
            return self.fail(id, Reason::UnknownAuthority);
        };
        if let Some(member) = service.balancer.pick(&mut self.rng, self.now) {
            let endpoint = service.members[member.index()];
            return self.assign(id, endpoint);
        }
        if service.removed {
            return self.fail(id, Reason::UnknownAuthority);
        }
        if service.failing {
            return self.fail(id, Reason::Failfast);
        }
        if service.queued >= self.config.limits.queue {
            return self.fail(id, Reason::QueueFull);
        }
        // Those that ended while they waited do not pile up.
        if service.queue.len() > 2 * service.queued + 64 {
            let exchanges = &self.exchanges;
            service.queue.retain(|&id| exchanges.get(id).is_some());
        }
        service.queue.push_back(id);
        service.queued += 1;
        if let Some(exchange) = self.exchanges.get_mut(id) {
            exchange.progress.queued = true;
        }
        self.arm_failfast(service_index);
    }

    /// Starts the failfast clock of a service without a ready endpoint.
    pub(super) fn arm_failfast(&mut self, index: u32) {
        let Some(service) = self.mesh.services.get_mut(index as usize) else { return };
        let idle = service.failing || service.failfast_armed || service.kind.is_fixed();
        if !idle && service.balancer.ready_len() == 0 {
            service.failfast_armed = true;
            self.timers.services.set(index, self.now + service.times.failfast);
        }
    }

    /// Gives an exchange to an endpoint: over an idle connection, or a new one.
    fn assign(&mut self, id: ExchangeId, endpoint_index: u32) {
        let now = self.now;
        let Some((service, endpoint)) = self.mesh.service_of(endpoint_index) else { return };
        if endpoint.is_self {
            return self.fail(id, Reason::Loop);
        }
        service.balancer.begin(endpoint.member);
        endpoint.stats.requests += 1;
        let Some(exchange) = self.exchanges.get_mut(id) else { return };
        exchange.endpoint = Some(endpoint_index);
        exchange.attempt = now;
        exchange.progress.sampled = false;
        let pooled = if exchange.kind == Kind::Http { self.unpark(endpoint_index) } else { None };
        match pooled {
            Some(conn) => self.attach(id, conn, true),
            None if self.conns.len() >= self.config.limits.connections => {
                self.fail(id, Reason::ConnectionLimit);
            }
            None => {
                let conn = self.connect(endpoint_index, Some(id));
                if let (Some(conn), Some(exchange)) = (conn, self.exchanges.get_mut(id)) {
                    exchange.up = Some(conn);
                }
            }
        }
    }

    /// Takes the most recently used idle connection of an endpoint.
    fn unpark(&mut self, endpoint: u32) -> Option<u32> {
        loop {
            let target = self.mesh.endpoints.get_mut(endpoint as usize)?;
            let id = target.idle.pop_back()?;
            let Some(conn) = self.conns.find(id).filter(|conn| is_idle(conn)) else { continue };
            target.idle_live -= 1;
            // One that said something unasked, or goodbye, is of no use.
            if conn.rx.is_empty() && !conn.flags.eof {
                return Some(id.index);
            }
            self.close_when_flushed(id.index);
        }
    }

    /// Opens a connection to an endpoint, for an exchange or as a probe.
    pub(super) fn connect(
        &mut self,
        endpoint: u32,
        exchange: Option<ExchangeId>,
    ) -> Option<ConnId> {
        let (service, target) = self.mesh.service_of(endpoint)?;
        target.conns += 1;
        let (addr, timeout, direction) = (target.addr, service.times.connect, service.direction);
        let id = self.conns.insert(Conn {
            generation: 0,
            direction,
            state: State::Connecting(exchange),
            endpoint: Some(endpoint),
            rx: BytesMut::new(),
            tx: OutQueue::default(),
            flags: Flags::default(),
            last: self.now,
            charged: 0,
            peer: addr,
            original_dst: None,
        });
        self.timers.conns.set(id.index, self.now + timeout);
        self.outputs.push_back(Output::Connect { conn: id, addr });
        Some(id)
    }

    /// A connect is done.
    pub(super) fn connected(&mut self, id: ConnId) {
        let Some(conn) = self.conns.find(id) else { return };
        let (State::Connecting(waiting), Some(endpoint)) = (&conn.state, conn.endpoint) else {
            return;
        };
        let waiting = *waiting;
        if let Some(conn) = self.conns.get_mut(id.index) {
            conn.last = self.now;
            conn.state =
                State::Client(Client { exchange: None, phase: ClientPhase::Idle, reusable: true });
        }
        self.timers.conns.clear(id.index);
        self.count_tcp(Direction::Outbound, Some(endpoint), |tcp| tcp.opens += 1);
        match waiting.filter(|&waiting| self.exchanges.get(waiting).is_some()) {
            Some(waiting) => self.attach(waiting, id.index, false),
            None => self.park(id.index),
        }
        self.endpoint_up(endpoint);
    }

    /// A connect failed: the connection is over.
    pub(super) fn connect_failed(&mut self, id: ConnId, error: ConnectError) {
        if self.conns.find(id).is_none_or(|conn| !matches!(conn.state, State::Connecting(_))) {
            return;
        }
        let Some(conn) = self.forget(id.index) else { return };
        // The adapter knows: it said so.
        self.conns.free(id.index);
        let (State::Connecting(waiting), Some(endpoint)) = (conn.state, conn.endpoint) else {
            return;
        };
        let reason = match error {
            ConnectError::TimedOut => Reason::ConnectTimeout,
            _ => Reason::ConnectFailed,
        };
        self.after_failed_connect(waiting, endpoint, reason, error == ConnectError::Local);
    }

    /// What a failed connect means for the endpoint and for the exchange that waited for it.
    pub(super) fn after_failed_connect(
        &mut self,
        waiting: Option<ExchangeId>,
        endpoint: u32,
        reason: Reason,
        ours: bool,
    ) {
        if !ours {
            self.endpoint_down(endpoint, reason);
        } else if let Some(target) = self.mesh.endpoints.get_mut(endpoint as usize)
            && let Health::Down { failures, .. } = target.health
        {
            // A probe that we had no descriptor for: again after the same wait.
            target.health = Health::Down { failures, probing: false };
            self.arm_backoff(endpoint, failures);
        }
        let Some(id) = waiting else { return self.release_endpoint(endpoint) };
        let Some(exchange) = self.exchanges.get_mut(id) else {
            return self.release_endpoint(endpoint);
        };
        exchange.up = None;
        let fixed = self
            .mesh
            .services
            .get(exchange.service as usize)
            .is_none_or(|service| service.kind.is_fixed());
        if fixed || ours {
            self.fail(id, reason);
        } else {
            // Nothing was sent: any other endpoint will do.
            self.end_attempt(id, Some(Outcome::Unsent));
            self.dispatch(id);
        }
        self.release_endpoint(endpoint);
    }

    /// Gives a connected connection to an exchange and starts to send.
    fn attach(&mut self, id: ExchangeId, index: u32, reused: bool) {
        let conn_id = self.conns.id(index);
        let Some(exchange) = self.exchanges.get_mut(id) else { return };
        exchange.up = conn_id;
        exchange.progress.reused = reused;
        let (down, kind) = (exchange.down, exchange.kind);
        let request = core::mem::take(&mut exchange.request);
        self.timers.conns.clear(index);
        let Some(conn) = self.conns.get_mut(index) else { return };
        if let State::Client(client) = &mut conn.state {
            client.exchange = Some(id);
            client.phase = ClientPhase::Head(HeadScanner::default());
        }
        if let Kind::Tunnel { .. } = kind {
            return self.open_tunnel(id);
        }
        conn.tx = request;
        conn.flags.dirty = true;
        if reused {
            // It may be dead already: keep what is sent until there is an answer.
            conn.tx.retain();
        }
        self.touch(index);
        self.touch_id(down);
    }

    // ---- The pool ----

    /// Puts a connection without an exchange into the pool, or closes it.
    pub(super) fn park(&mut self, index: u32) {
        let keep = !self.is_draining();
        let Some(id) = self.conns.id(index) else { return };
        let Some(conn) = self.conns.get_mut(index) else { return };
        let (State::Client(client), Some(endpoint)) = (&mut conn.state, conn.endpoint) else {
            return;
        };
        client.exchange = None;
        let usable = client.reusable && !conn.flags.eof && conn.rx.is_empty();
        let Some(target) = self.mesh.endpoints.get_mut(endpoint as usize) else { return };
        if !usable || !keep || target.removed {
            conn.state = State::Closing;
            return self.touch(index);
        }
        client.phase = ClientPhase::Idle;
        conn.tx.vacate(&mut self.spare);
        let conns = &self.conns;
        target.park(id, |id| conns.find(id).is_some_and(is_idle));
        let surplus = target.idle_live as usize > self.config.limits.pool_idle;
        self.timers.conns.set(index, self.now + self.config.timeouts.pool_idle);
        if surplus {
            self.close_longest_idle(endpoint);
        }
    }

    fn close_longest_idle(&mut self, endpoint: u32) {
        let Some(target) = self.mesh.endpoints.get_mut(endpoint as usize) else { return };
        while let Some(id) = target.idle.pop_front() {
            if self.conns.find(id).is_some_and(is_idle) {
                target.idle_live -= 1;
                return self.close_when_flushed(id.index);
            }
        }
    }

    /// Closes all idle connections of an endpoint.
    pub(super) fn close_idle(&mut self, endpoint: u32) {
        let Some(target) = self.mesh.endpoints.get_mut(endpoint as usize) else { return };
        target.idle_live = 0;
        for id in core::mem::take(&mut target.idle) {
            if self.conns.find(id).is_some_and(is_idle) {
                self.close_when_flushed(id.index);
            }
        }
    }

    // ---- Health ----

    /// A connection to an endpoint was refused, reset or timed out.
    pub(super) fn endpoint_down(&mut self, index: u32, reason: Reason) {
        let now = self.now;
        let Some((service, endpoint)) = self.mesh.service_of(index) else { return };
        if service.kind.is_fixed() || endpoint.removed {
            return;
        }
        let failures = match endpoint.health {
            Health::Up { failures } | Health::Down { failures, probing: true } => failures + 1,
            // It is known; a late failure of another connection changes nothing.
            Health::Down { probing: false, .. } => return,
        };
        endpoint.health = Health::Down { failures, probing: false };
        service.balancer.set_ready(endpoint.member, false, now);
        let (name, addr) = (Arc::clone(&service.name), endpoint.addr);
        let owner = endpoint.service;
        let retry_in = self.arm_backoff(index, failures);
        self.emit(Event::EndpointDown { service: name, addr, reason, retry_in });
        self.close_idle(index);
        self.arm_failfast(owner);
    }

    /// Sets the time of the next attempt to connect: doubling, with jitter.
    fn arm_backoff(&mut self, endpoint: u32, failures: u32) -> Duration {
        let timeouts = &self.config.timeouts;
        let doublings = failures.saturating_sub(1).min(20);
        let base = timeouts.backoff_min.saturating_mul(1 << doublings).min(timeouts.backoff_max);
        // linkerd2-proxy: a tenth of jitter, so that proxies do not knock in step.
        let wait = base + base.mul_f64(0.1 * self.rng.unit());
        self.timers.endpoints.set(endpoint, self.now + wait);
        wait
    }

    /// The backoff is over: a connect without a request finds out.
    pub(super) fn probe(&mut self, index: u32) {
        let Some(endpoint) = self.mesh.endpoints.get_mut(index as usize) else { return };
        if let Health::Down { failures, probing: false } = endpoint.health
            && !endpoint.removed
        {
            endpoint.health = Health::Down { failures, probing: true };
            self.connect(index, None);
        }
    }

    /// A connection to an endpoint was made.
    fn endpoint_up(&mut self, index: u32) {
        let now = self.now;
        let Some((service, endpoint)) = self.mesh.service_of(index) else { return };
        let Health::Down { failures, .. } = endpoint.health else { return };
        if endpoint.removed {
            return;
        }
        endpoint.health = Health::Up { failures };
        service.balancer.set_ready(endpoint.member, true, now);
        let (name, addr, owner) = (Arc::clone(&service.name), endpoint.addr, endpoint.service);
        self.timers.endpoints.clear(index);
        self.emit(Event::EndpointUp { service: name, addr });
        self.service_ready(owner);
    }

    /// The first endpoint of a service is ready: fail-fast ends, the queue moves.
    pub(super) fn service_ready(&mut self, index: u32) {
        let Some(service) = self.mesh.services.get_mut(index as usize) else { return };
        service.failfast_armed = false;
        self.timers.services.clear(index);
        if core::mem::take(&mut service.failing) {
            let name = Arc::clone(&service.name);
            self.emit(Event::FailfastLeft { service: name });
        }
        self.move_queue(index);
    }

    /// Dispatches a batch of the exchanges that wait for a service.
    pub(super) fn move_queue(&mut self, index: u32) {
        for _ in 0..QUEUE_BATCH {
            let Some(service) = self.mesh.services.get_mut(index as usize) else { return };
            if service.balancer.ready_len() == 0 {
                return self.arm_failfast(index);
            }
            let Some(id) = service.queue.pop_front() else { return };
            if let Some(exchange) = self.exchanges.get_mut(id) {
                exchange.progress.queued = false;
                service.queued -= 1;
                self.dispatch(id);
            }
        }
        if self.mesh.services.get(index as usize).is_some_and(|service| !service.queue.is_empty()) {
            self.timers.services.set(index, self.now);
        }
    }

    /// The failfast time is over, or the next batch of the queue is due.
    pub(super) fn service_due(&mut self, index: u32) {
        let Some(service) = self.mesh.services.get_mut(index as usize) else { return };
        service.failfast_armed = false;
        if service.balancer.ready_len() > 0 {
            return self.move_queue(index);
        }
        service.failing = true;
        let name = Arc::clone(&service.name);
        let waiting = core::mem::take(&mut service.queue);
        let waiting = waiting.into_iter().filter(|&id| self.exchanges.get(id).is_some());
        let waiting: alloc::vec::Vec<ExchangeId> = waiting.collect();
        self.emit(Event::FailfastEntered { service: name, failed: waiting.len() });
        for id in waiting {
            self.fail(id, Reason::Failfast);
        }
    }
}

/// Is this a connection in the pool?
fn is_idle(conn: &Conn) -> bool {
    matches!(&conn.state, State::Client(client) if matches!(client.phase, ClientPhase::Idle))
}
