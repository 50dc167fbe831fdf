//! What happens when nothing does.

use super::conn::{ClientPhase, ServerPhase, State};
use super::contract::CloseKind;
use super::exchange::{Exchange, ExchangeId};
use super::gate::{GateOf, Passage};
use super::{Drain, Engine};
use crate::error::Reason;
use crate::policy::check::CheckFailure;
use crate::time::{Duration, Time};
use crate::tls::Failure;

impl Engine {
    /// Acts on every deadline that has come.
    pub(super) fn fire_timeouts(&mut self) {
        if canary!(StuckTimer) {
            return;
        }
        self.arm_exchanges();
        while let Some(index) = self.timers.conns.pop(self.now) {
            self.conn_due(index);
        }
        while let Some(index) = self.timers.exchanges.pop(self.now) {
            if let Some(id) = self.exchanges.id(index) {
                self.exchange_due(id);
            }
        }
        self.end_holds();
        while let Some(index) = self.timers.endpoints.pop(self.now) {
            self.probe(index);
        }
        while let Some(index) = self.timers.breakers.pop(self.now) {
            self.breaker_due(index);
        }
        while let Some(index) = self.timers.checks.pop(self.now) {
            self.check_due(index);
        }
        // One batch each: a long queue sets the deadline to now, for the next turn.
        let mut batch = self.mesh.services.len();
        while batch > 0
            && let Some(index) = self.timers.services.pop(self.now)
        {
            batch -= 1;
            self.service_due(index);
        }
        while let Some(index) = self.timers.names.pop(self.now) {
            self.look_up(index);
        }
        self.serve_handshakes();
        if self.identity.due().is_some_and(|due| due <= self.now) {
            self.look_at_identity();
        }
        if let Drain::Until(grace) = self.drain
            && grace <= self.now
        {
            self.end_drain();
        }
        self.take_up();
    }

    fn conn_due(&mut self, index: u32) {
        if self.conns.get(index).is_some_and(|conn| conn.flags.queued || conn.flags.put_off) {
            // Something came and was not handled yet: it may be just what was waited for.
            self.drive(index);
            self.catch_up(index);
            // HTTP/2 has several deadlines: that one is set does not say that none has come.
            let several = self.conns.get(index).is_some_and(|conn| conn.http2().is_some());
            if self.timers.conns.is_set(index) && !several {
                return;
            }
        }
        let draining = self.is_draining();
        let Some(conn) = self.conns.get(index) else { return };
        match &conn.state {
            State::Detect(_) if conn.rx.is_empty() && draining => self.close_when_flushed(index),
            State::Detect(_) => self.give_up_detection(index),
            State::Server(server) => {
                if let ServerPhase::Head(scanner) = &server.phase {
                    if conn.rx.is_empty() || !scanner.started() {
                        self.close_when_flushed(index);
                    } else {
                        self.refuse(index, Reason::HeaderTimeout);
                    }
                }
            }
            State::Handshake => self.handshake_failed(index, Failure::Timeout.into()),
            State::Connecting(_) if conn.tls.is_some() => {
                self.handshake_failed(index, Failure::Timeout.into());
            }
            State::Header => self.close_unserved(index, Reason::TransportHeader),
            State::Connecting(waiting) => {
                let waiting = *waiting;
                self.give_up_connect(index, waiting, Reason::ConnectTimeout);
            }
            State::Client(client) => {
                if let ClientPhase::Idle = client.phase {
                    self.leave_pool(index);
                }
            }
            State::Http2(_) => self.http2_due(index),
            State::Tunnel(_) => self.tunnel_due(index),
            State::Linger { .. } | State::Closing => {
                // A slow reader is no dead one.
                let due = conn.last + self.config.timeouts.half_open;
                if conn.is_flushed() {
                    self.end_conn(index, CloseKind::Full);
                } else if due > self.now && !conn.flags.check {
                    self.timers.conns.set(index, due);
                } else {
                    self.end_conn(index, CloseKind::Abort);
                }
            }
            State::Check(_) => self.answered(index, Err(CheckFailure::Timeout)),
            State::Waiting(_) | State::Bridge(_) => {}
        }
    }

    // ---- Exchanges ----

    /// Shows `visit` the deadlines of an exchange, with what their passing means.
    #[inline]
    fn deadlines(&self, exchange: &Exchange, mut visit: impl FnMut(Time, Reason)) {
        // A tunnel's connections have a timer of their own.
        if exchange.progress.tunnelled {
            if exchange.has_stream() {
                let (due, reason) = self.bridge_deadline(exchange);
                visit(due, reason);
            }
            return;
        }
        let Some(service) = self.mesh.services.get(exchange.service as usize) else { return };
        let (times, progress) = (&service.times, &exchange.progress);
        let own = exchange.policy.as_ref().map(|policy| &policy.route.timeouts);
        if let Some(limit) = own.and_then(|own| own.request).or(times.request) {
            let moving = canary!(MovingDeadline);
            let from = if moving { exchange.last } else { exchange.started };
            visit(from + limit, Reason::RequestTimeout);
        }
        let mut response = (Time::MAX, Reason::ResponseTimeout);
        let mut or = |due, reason| {
            if due < response.0 {
                response = (due, reason);
            }
        };
        if exchange.traits.passage.waits() {
            let (due, reason) = self.gate_deadline(exchange);
            or(due, reason);
        } else {
            if let Some(limit) = times.response_headers
                && let Some(asked) = exchange.head_wanted_since()
            {
                or(asked + limit, Reason::ResponseTimeout);
            }
            if let Some(own) = own {
                or(exchange.try_deadline(), Reason::TryTimeout);
                if let Some(limit) = own.response.filter(|_| progress.request_done) {
                    or(exchange.sent + limit, Reason::ResponseStreamTimeout);
                }
            }
        }
        visit(response.0, response.1);
        if let Some(limit) = own.and_then(|own| own.idle).or(times.idle) {
            visit(exchange.last + limit, Reason::IdleTimeout);
        }
        visit(exchange.deadline, Reason::GrpcTimeout);
    }

    /// When an exchange has waited too long for its turn.
    fn gate_deadline(&self, exchange: &Exchange) -> (Time, Reason) {
        if canary!(PatientQueue) {
            return (Time::MAX, Reason::ServiceQueueTimeout);
        }
        if exchange.traits.passage == Passage::First {
            return (exchange.started + self.gate.timeout(), Reason::ProxyQueueTimeout);
        }
        if exchange.traits.at_port {
            let of = self.gate_of(exchange.service, true);
            let port = self.ports.iter().find(|port| of == Some(GateOf::Port(port.number)));
            let timeout = port.map_or(Duration::MAX, |port| port.gate.timeout());
            return (exchange.started + timeout, Reason::PortQueueTimeout);
        }
        let service = self.mesh.services.get(exchange.service as usize);
        let timeout = service.map_or(Duration::MAX, |service| service.gate.timeout());
        (exchange.started + timeout, Reason::ServiceQueueTimeout)
    }

    /// The deadlines of an exchange have changed. Most change again in the same turn, so its timer is
    /// set at the end of that.
    pub(super) fn rearm(&mut self, id: ExchangeId) {
        if self.unarmed.last() != Some(&id) {
            self.unarmed.push(id);
        }
    }

    /// Sets the timers of exchanges whose deadlines have changed.
    #[inline]
    pub(super) fn arm_exchanges(&mut self) {
        while let Some(id) = self.unarmed.pop() {
            self.arm(id);
        }
    }

    /// A time before which no deadline of an exchange can come, however it goes on: all of them count
    /// from its beginning or from later. It costs less than they do.
    #[inline]
    fn earliest(&self, exchange: &Exchange) -> Time {
        if exchange.progress.tunnelled || exchange.traits.passage.waits() {
            return Time::ZERO;
        }
        let Some(service) = self.mesh.services.get(exchange.service as usize) else {
            return Time::ZERO;
        };
        let earliest = (exchange.started + service.times.shortest).min(exchange.deadline);
        match &exchange.policy {
            Some(policy) => earliest.min(policy.earliest).min(exchange.resumes()),
            None => earliest,
        }
    }

    /// Sets the timer of an exchange to the first of its deadlines, or to before that while none can
    /// have come: most are over by then, and what is really due is looked at when the timer fires.
    fn arm(&mut self, id: ExchangeId) {
        let Some(exchange) = self.exchanges.get(id) else { return };
        let earliest = self.earliest(exchange);
        if earliest > self.now {
            return self.timers.exchanges.set(id.index, earliest);
        }
        self.arm_exactly(id);
    }

    #[inline(never)]
    fn arm_exactly(&mut self, id: ExchangeId) {
        let Some(exchange) = self.exchanges.get(id) else { return };
        let mut first = exchange.resumes();
        self.deadlines(exchange, |due, _| first = first.min(due));
        if first < Time::MAX {
            self.timers.exchanges.set(id.index, first);
        } else {
            self.timers.exchanges.clear(id.index);
        }
    }

    /// What came in the same turn may be just what was waited for.
    pub(super) fn catch_up_exchange(&mut self, id: ExchangeId) {
        let Some(exchange) = self.exchanges.get(id) else { return };
        for conn in [exchange.up, Some(exchange.down)].into_iter().flatten() {
            if self.conns.find(conn).is_some_and(|conn| conn.flags.queued) {
                self.drive(conn.index);
            }
        }
    }

    fn exchange_due(&mut self, id: ExchangeId) {
        self.catch_up_exchange(id);
        let Some(exchange) = self.exchanges.get(id) else { return };
        let (now, mut passed) = (self.now, None);
        self.deadlines(exchange, |due, reason| {
            if due <= now {
                passed.get_or_insert(reason);
            }
        });
        match passed {
            Some(reason) => self.fail(id, reason),
            None if exchange.resumes() <= now => self.resume_retry(id),
            None => self.rearm(id),
        }
    }

    // ---- Drain ----

    /// The grace is over: everything ends now.
    fn end_drain(&mut self) {
        let all: alloc::vec::Vec<u32> = self.conns.indices().collect();
        for index in all {
            if self.conns.get(index).is_none_or(|conn| conn.endpoint.is_some()) {
                continue;
            }
            self.fail_streams(index, Reason::Drained);
            let exchange = self.conns.get(index).and_then(super::conn::Conn::exchange);
            if let Some(id) = exchange {
                self.fail(id, Reason::Drained);
            }
            self.end_conn(index, CloseKind::Abort);
        }
        self.end_mirrors();
        self.check_drained();
    }
}
