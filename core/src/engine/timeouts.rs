//! What happens when nothing does.

use super::conn::{ClientPhase, ServerPhase, State};
use super::contract::CloseKind;
use super::exchange::{Exchange, ExchangeId};
use super::gate::GateOf;
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
        while let Some(index) = self.timers.conns.pop(self.now) {
            self.conn_due(index);
        }
        while let Some(index) = self.timers.exchanges.pop(self.now) {
            if let Some(id) = self.exchanges.id(index) {
                self.exchange_due(id);
            }
        }
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
                } else if due > self.now {
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

    /// The deadlines of an exchange, with what their passing means.
    #[inline]
    fn deadlines(&self, id: ExchangeId) -> [(Time, Reason); 4] {
        let never = (Time::MAX, Reason::IdleTimeout);
        // A tunnel's connections have a timer of their own.
        let exchange = self.exchanges.get(id);
        if let Some(exchange) = exchange.filter(|exchange| exchange.progress.tunnelled) {
            return if exchange.has_stream() {
                [self.bridge_deadline(exchange), never, never, never]
            } else {
                [never; 4]
            };
        }
        let service = exchange.and_then(|e| self.mesh.services.get(e.service as usize));
        let (Some(exchange), Some(service)) = (exchange, service) else {
            return [never; 4];
        };
        let times = &service.times;
        let after = |from: Time, limit: Option<_>, reason| {
            (limit.map_or(Time::MAX, |limit| from + limit), reason)
        };
        let progress = &exchange.progress;
        let awaits_head = progress.request_done && !progress.response_started;
        let headers = times.response_headers.filter(|_| awaits_head);
        // What is sent again has as long again.
        let again = exchange.policy.as_ref().is_some_and(|policy| policy.tries.used > 0);
        let asked = if again { exchange.sent.max(exchange.attempt) } else { exchange.sent };
        let headers = after(asked, headers, Reason::ResponseTimeout);
        let (request, response, idle) = match &exchange.policy {
            None => (times.request, headers, times.idle),
            Some(policy) => {
                let own = &policy.route.timeouts;
                let all = own.response.filter(|_| progress.request_done);
                let all = after(exchange.sent, all, Reason::ResponseStreamTimeout);
                let headers = if exchange.is_resting() || again && exchange.endpoint.is_none() {
                    never
                } else {
                    headers
                };
                let attempt = (exchange.try_deadline(), Reason::TryTimeout);
                let headers = if attempt.0 < headers.0 { attempt } else { headers };
                (
                    own.request.or(times.request),
                    if all.0 < headers.0 { all } else { headers },
                    own.idle.or(times.idle),
                )
            }
        };
        let response = if exchange.traits.gated { self.gate_deadline(exchange) } else { response };
        [
            after(
                if canary!(MovingDeadline) { exchange.last } else { exchange.started },
                request,
                Reason::RequestTimeout,
            ),
            response,
            after(exchange.last, idle, Reason::IdleTimeout),
            (exchange.deadline, Reason::GrpcTimeout),
        ]
    }

    /// When an exchange has waited too long for its turn.
    fn gate_deadline(&self, exchange: &Exchange) -> (Time, Reason) {
        if canary!(PatientQueue) {
            return (Time::MAX, Reason::ServiceQueueTimeout);
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

    /// Sets the timer of an exchange to the first of its deadlines.
    pub(super) fn rearm(&mut self, id: ExchangeId) {
        let first = self.deadlines(id).into_iter().map(|(due, _)| due).min();
        let retry = self.exchanges.get(id).filter(|exchange| exchange.policy.is_some());
        let retry = retry.map(Exchange::retry_due);
        match first.into_iter().chain(retry).min() {
            Some(due) if due < Time::MAX => self.timers.exchanges.set(id.index, due),
            _ => self.timers.exchanges.clear(id.index),
        }
    }

    fn exchange_due(&mut self, id: ExchangeId) {
        let Some(exchange) = self.exchanges.get(id) else { return };
        for conn in [exchange.up, Some(exchange.down)].into_iter().flatten() {
            // What came in the same turn may be just what was waited for.
            if self.conns.find(conn).is_some_and(|conn| conn.flags.queued) {
                self.drive(conn.index);
            }
        }
        let passed = self.deadlines(id).into_iter().find(|&(due, _)| due <= self.now);
        match passed {
            Some((_, reason)) => self.fail(id, reason),
            None => match self.exchanges.get(id) {
                Some(exchange) if exchange.retry_due() > self.now => self.rearm(id),
                Some(exchange) if exchange.is_resting() => self.resume_retry(id),
                // Nothing came in time: what was held goes on, and what follows it with it.
                Some(_) => _ = self.pass_held(id),
                None => {}
            },
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
