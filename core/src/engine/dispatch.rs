//! From an exchange to a connection: endpoints and the queue.

use alloc::sync::Arc;
use core::num::NonZeroU64;

use super::Engine;
use super::conn::{Client, ClientPhase, Conn, State};
use super::contract::{CloseKind, ConnId, Direction, Event, Output};
use super::exchange::{Exchange, ExchangeId, Kind, Speaks, Traits};
use super::mesh::Health;
use crate::balance::{MemberId, Outcome};
use crate::config::Protocol;
use crate::error::{ConnectError, Reason};
use crate::http::Request;
use crate::http1::HeadScanner;
use crate::policy::breaker::Verdict;
use crate::time::Duration;
use crate::tls::transport_header::SessionProtocol;

/// How many waiting exchanges find an endpoint in one turn: a service that comes back with a full
/// queue does not hold up everybody else.
const QUEUE_BATCH: usize = 128;

impl Engine {
    /// Makes an exchange, unless there are too many. `time`: how long the client gives it.
    pub(super) fn begin_exchange(
        &mut self,
        kind: Kind,
        down: ConnId,
        service: u32,
        traits: Traits,
        time: Option<Duration>,
    ) -> Result<ExchangeId, Reason> {
        let limits = &self.config.limits;
        // Copies take nobody's place.
        if self.exchanges.len() - self.mirrors.live >= limits.in_flight {
            return Err(Reason::InFlight);
        }
        if self.buffered >= limits.buffer_bytes {
            return Err(Reason::BuffersFull);
        }
        let at_port = self.is_at_port(kind, down, service);
        let passage = self.enter_gates(service, at_port, down == ConnId::NOBODY)?;
        let owner = self.mesh.services.get_mut(service as usize).ok_or(Reason::UnknownAuthority)?;
        owner.exchanges += 1;
        owner.stats.requests += 1;
        let traits = Traits { passage, at_port, ..traits };
        let id = self.exchanges.insert(kind, down, service, traits, self.now);
        if let (Some(time), Some(exchange)) = (time, self.exchanges.get_mut(id)) {
            exchange.deadline = exchange.started + time;
        }
        if passage.waits() {
            self.wait_at_gate(id);
        }
        self.rearm(id);
        Ok(id)
    }

    /// Finds an endpoint for an exchange, or a place in the queue.
    pub(super) fn dispatch(&mut self, id: ExchangeId) {
        self.dispatch_head(id, None);
    }

    /// The same, for an exchange whose request head has just been read.
    pub(super) fn dispatch_head(&mut self, id: ExchangeId, request: Option<&Request<'_>>) {
        let Some(exchange) = self.exchanges.get(id) else { return };
        if exchange.traits.passage.waits() {
            return;
        }
        let service_index = exchange.service;
        let Some(service) = self.mesh.services.get_mut(service_index as usize) else {
            return self.fail(id, Reason::UnknownAuthority);
        };
        let tried = exchange.policy.as_ref().map_or(&[][..], |policy| &policy.tries.tried);
        if service.guard.is_some()
            && !exchange.is_mirror()
            && let Some(endpoint) = service.next_probe(tried)
        {
            return self.assign(id, endpoint, request);
        }
        let key = exchange.key.map(NonZeroU64::get);
        let members = &service.members;
        let is_new =
            |member: MemberId| tried.is_empty() || !tried.contains(&members[member.index()]);
        if let Some(picked) = service.balancer.pick_by(key, &mut self.rng, self.now, is_new) {
            let endpoint = service.members[picked.member.index()];
            self.count_pick(service_index, endpoint, picked);
            return self.assign(id, endpoint, request);
        }
        if service.removed {
            return self.fail(id, Reason::UnknownAuthority);
        }
        if service.own > 0 && service.own as usize == service.balancer.len() {
            return self.fail(id, Reason::Loop);
        }
        if service.failing {
            return self.fail(id, Reason::Failfast);
        }
        if self.exchanges.get(id).is_some_and(Exchange::is_mirror) {
            // It is not worth waiting for.
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
    fn assign(&mut self, id: ExchangeId, endpoint_index: u32, request: Option<&Request<'_>>) {
        let now = self.now;
        let Some((service, endpoint)) = self.mesh.service_of(endpoint_index) else { return };
        service.balancer.begin(endpoint.member);
        endpoint.stats.requests += 1;
        let Some(exchange) = self.exchanges.get_mut(id) else { return };
        exchange.endpoint = Some(endpoint_index);
        exchange.attempt = now;
        exchange.progress.sampled = false;
        let plain = endpoint.mesh.is_none() && service.protocol == Protocol::Auto;
        let apart =
            plain && exchange.traits.speaks == Speaks::Mesh && exchange.down_stream.is_none();
        let on_stream = exchange.kind == Kind::Http && exchange.traits.speaks != Speaks::Http1;
        let policy = exchange.policy.as_deref_mut().map(|policy| policy.tries.sent += 1).is_some();
        // A copy decides nothing.
        exchange.judged = service.guard.is_some() && !exchange.is_mirror();
        if exchange.judged && service.minds(endpoint) {
            self.guard_attempt(id, endpoint_index);
        }
        if policy {
            // The attempt has a time of its own.
            self.rearm(id);
        }
        if apart {
            return self.go_apart(id, request);
        }
        if on_stream {
            return self.assign_stream(id, endpoint_index, request);
        }
        self.assign_connection(id, endpoint_index);
    }

    /// Gives an exchange a connection of its own to its endpoint.
    pub(super) fn assign_connection(&mut self, id: ExchangeId, endpoint_index: u32) {
        let Some(exchange) = self.exchanges.get(id) else { return };
        // A request that is sent again gets a new connection, and if that fails it fails.
        let poolable = exchange.kind == Kind::Http && exchange.progress.replays == 0;
        let pooled = if poolable { self.unpark(endpoint_index) } else { None };
        if let Some(conn) = pooled {
            return self.attach(id, conn, true);
        }
        let adopted = self.adopt(endpoint_index, id);
        if adopted.is_none() && self.conns.len() >= self.config.limits.connections {
            return self.fail(id, Reason::ConnectionLimit);
        }
        let conn = adopted.or_else(|| self.connect(endpoint_index, Some(id)));
        if let Some(exchange) = self.exchanges.get_mut(id) {
            exchange.up = conn;
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
        let mut conn = Conn::new(direction, State::Connecting(exchange), addr, self.now);
        conn.endpoint = Some(endpoint);
        let id = self.conns.insert(conn);
        self.timers.conns.set(id.index, self.now + timeout);
        self.outputs.push_back(Output::Connect { conn: id, addr });
        Some(id)
    }

    /// A connect is done.
    pub(super) fn connected(&mut self, id: ConnId) {
        let Some(conn) = self.conns.find(id) else { return };
        let (State::Connecting(_), Some(endpoint)) = (&conn.state, conn.endpoint) else { return };
        if conn.tls.is_some() {
            return;
        }
        let target = self.mesh.endpoints.get(endpoint as usize);
        match target.and_then(|target| target.mesh.clone()) {
            Some(mesh) => self.begin_tls_client(id.index, &mesh),
            None => self.established(id),
        }
    }

    /// A connect is done, and so is its handshake, if it has one.
    pub(super) fn established(&mut self, id: ConnId) {
        let Some(conn) = self.conns.find(id) else { return };
        let (State::Connecting(waiting), Some(endpoint)) = (&conn.state, conn.endpoint) else {
            return;
        };
        let (waiting, http2) = (*waiting, conn.flags.http2);
        if conn.flags.check {
            return self.begin_check(id);
        }
        if let Some(conn) = self.conns.get_mut(id.index) {
            conn.last = self.now;
            conn.state =
                State::Client(Client { exchange: None, phase: ClientPhase::Idle, reusable: true });
        }
        self.timers.conns.clear(id.index);
        self.count_tcp(Direction::Outbound, Some(endpoint), |tcp| tcp.opens += 1);
        match waiting.filter(|&waiting| self.exchanges.get(waiting).is_some()) {
            _ if http2 => self.http2_connected(id.index),
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
            ConnectError::Local => Reason::NoResources,
            ConnectError::Refused | ConnectError::Unreachable => Reason::ConnectFailed,
        };
        let ours = error == ConnectError::Local;
        if conn.flags.check {
            self.check_unconnected(endpoint, id, reason, ours);
            return self.release_endpoint(endpoint);
        }
        self.after_failed_connect(waiting, endpoint, reason, ours);
        if conn.flags.http2 {
            self.http2_unconnected(endpoint, id.index, reason, ours);
        }
        self.release_endpoint(endpoint);
    }

    /// A connect has taken too long, or failed in a way that the adapter did not call its result.
    pub(super) fn give_up_connect(
        &mut self,
        index: u32,
        waiting: Option<ExchangeId>,
        reason: Reason,
    ) {
        let Some(id) = self.conns.id(index) else { return };
        let Some(conn) = self.forget(index) else { return };
        self.outputs.push_back(Output::Close { conn: id, how: CloseKind::Abort });
        if let Some(endpoint) = conn.endpoint {
            if conn.flags.check {
                self.check_unconnected(endpoint, id, reason, false);
                return self.release_endpoint(endpoint);
            }
            self.after_failed_connect(waiting, endpoint, reason, false);
            if conn.flags.http2 {
                self.http2_unconnected(endpoint, index, reason, false);
            }
            self.release_endpoint(endpoint);
        }
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
        if let Some(id) = waiting {
            self.not_connected(id, reason, ours, true);
        }
    }

    /// The connection that an exchange waited for cannot be made. `answerable`: that counts as one
    /// failure of the endpoint.
    pub(super) fn not_connected(
        &mut self,
        id: ExchangeId,
        reason: Reason,
        ours: bool,
        answerable: bool,
    ) {
        let Some(exchange) = self.exchanges.get_mut(id) else { return };
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
            let verdict = answerable.then_some(Verdict::Failure);
            self.end_attempt(id, Some(Outcome::Unsent), verdict);
            self.dispatch(id);
        }
    }

    /// Gives a connected connection to an exchange and starts to send.
    fn attach(&mut self, id: ExchangeId, index: u32, reused: bool) {
        let Some(exchange) = self.exchanges.get_mut(id) else { return };
        let Some(conn) = self.conns.get_mut(index) else { return };
        exchange.up = Some(conn.id(index));
        exchange.progress.reused = reused;
        self.buffered -= core::mem::take(&mut exchange.charged);
        self.timers.conns.clear(index);
        if let State::Client(client) = &mut conn.state {
            client.exchange = Some(id);
            client.phase = ClientPhase::Head(HeadScanner::default());
        }
        if let Kind::Tunnel { .. } = exchange.kind {
            self.put_transport_header(index, None);
            return self.open_tunnel(id);
        }
        debug_assert!(conn.tx.is_unused(), "a request begins on an idle connection");
        core::mem::swap(&mut conn.tx, &mut exchange.request);
        conn.flags.dirty = true;
        let tries = exchange.retry().is_some();
        if reused || tries || canary!(SentAfterHead) {
            // It may be dead already: keep what is sent until there is an answer.
            conn.tx.retain();
        }
        if let Some(policy) = exchange.policy.as_mut().filter(|_| tries) {
            policy.tries.head = policy.tries.head.max(conn.tx.held());
        }
        // The first bytes of a tunnel wait until it is one.
        let is_pending = exchange.pending.is_some() && !exchange.is_tunnel();
        let down = exchange.down;
        conn.touch(index, &mut self.ready);
        self.put_transport_header(index, Some(SessionProtocol::Http1));
        if is_pending {
            self.pass_pending(id);
        }
        // What of the request came meanwhile goes on. A head that has just been read is followed by
        // whoever reads it.
        let waits = |conn: &Conn| {
            conn.http2().is_some() || conn.flags.paused || conn.flags.eof || !conn.rx.is_empty()
        };
        if self.conns.find(down).is_some_and(waits) {
            self.touch(down.index);
        }
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
            return self.service_ready(index);
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
