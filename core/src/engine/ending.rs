//! How things end: answers to what is refused, exchanges, connections, endpoints.

use alloc::boxed::Box;
use alloc::sync::Arc;

use bytes::BytesMut;

use super::Engine;
use super::conn::{Conn, Fin, State};
use super::contract::{CloseKind, Event, Output};
use super::exchange::{Ends, Exchange, ExchangeId, Kind, Traits};
use super::gate::Passage;
use super::mesh::{Service, ServiceKind};
use crate::balance::Outcome;
use crate::config::Timeouts;
use crate::error::Reason;
use crate::http::{Answer, Version};
use crate::http1::{self, ConnectionOption, Framing};
use crate::http2::ErrorCode;
use crate::limits::Limits;
use crate::policy::breaker::Verdict;

/// How much of an unknown authority is told. A name has at most 253 bytes.
const LOGGED: usize = 256;

impl Engine {
    // ---- Refusals: no exchange has begun ----

    /// Refuses the message that a client is sending: answers, stops reading requests, closes.
    pub(super) fn refuse(&mut self, index: u32, reason: Reason) {
        self.count_refusal(index, reason, None);
        let Some(conn) = self.conns.get(index) else { return };
        if let State::Server(_) = conn.state {
            self.answer(index, &Answer::of(reason, false), true, None);
            self.linger(index);
        } else {
            self.end_conn(index, CloseKind::Abort);
        }
    }

    /// Answers a request that gets no exchange. Its connection goes on if it can.
    pub(super) fn answer_unserved(&mut self, index: u32, reason: Reason, traits: &Traits) {
        self.count_refusal(index, reason, None);
        self.answer_unserved_with(index, &Answer::of(reason, traits.grpc), traits);
    }

    /// Answers a request that gets no exchange with a response of ours.
    pub(super) fn answer_unserved_with(
        &mut self,
        index: u32,
        answer: &Answer<'_>,
        traits: &Traits,
    ) {
        let complete = matches!(traits.framing, Framing::None | Framing::Length(0));
        let close = !complete || !traits.keep_alive || traits.is_connect || self.is_draining();
        self.answer(index, answer, close, Some(traits));
        if close {
            self.linger(index);
        } else {
            self.next_request(index);
        }
    }

    /// Closes a connection that nothing can be said on.
    pub(super) fn close_unserved(&mut self, index: u32, reason: Reason) {
        let Some(conn) = self.conns.get(index) else { return };
        let (direction, peer) = (conn.direction, conn.peer);
        self.direction(direction).refused[reason as usize] += 1;
        if let Some(conn) = self.conns.id(index) {
            self.emit(Event::Closed { conn, direction, peer, reason });
        }
        self.end_conn(index, CloseKind::Abort);
    }

    /// Counts a refusal and says so.
    pub(super) fn count_refusal(&mut self, index: u32, reason: Reason, service: Option<Arc<str>>) {
        let Some(conn) = self.conns.get(index) else { return };
        let (direction, peer) = (conn.direction, conn.peer);
        self.direction(direction).refused[reason as usize] += 1;
        let is_unknown = reason == Reason::UnknownAuthority && service.is_none();
        let asked = Some(self.authority.as_str()).filter(|asked| is_unknown && !asked.is_empty());
        // It is ASCII.
        let authority = asked.map(|asked| asked[..asked.len().min(LOGGED)].into());
        if let Some(conn) = self.conns.id(index) {
            self.emit(Event::Refused { conn, direction, peer, reason, service, authority });
        }
    }

    /// Writes an error answer.
    fn answer(&mut self, index: u32, answer: &Answer<'_>, close: bool, traits: Option<&Traits>) {
        let Some(conn) = self.conns.get_mut(index) else { return };
        let http10 = traits.is_some_and(|traits| traits.client == Version::Http10);
        let connection = match (close, http10) {
            (true, _) => ConnectionOption::Close,
            (false, true) => ConnectionOption::KeepAlive,
            (false, false) => ConnectionOption::Nothing,
        };
        conn.tx.furnish(&mut self.spare);
        conn.tx.append(|out| http1::encode_answer(out, answer, connection));
        conn.flags.dirty = true;
        self.touch(index);
    }

    /// After an answer that ends a connection: what the peer still sends is read and dropped, so
    /// that it gets to see the answer and not a reset (RFC 9112 §9.6).
    pub(super) fn linger(&mut self, index: u32) {
        let Some(conn) = self.conns.get_mut(index) else { return };
        conn.state = State::Linger { left: Limits::LINGER_BYTES };
        // The time to read it all begins with our FIN; until then a peer that reads is waited for.
        let wait = if conn.flags.fin == Fin::Sent {
            Timeouts::LINGER
        } else {
            conn.flags.fin = Fin::Wanted;
            self.config.timeouts.half_open
        };
        self.timers.conns.set(index, self.now + wait);
        self.touch(index);
    }

    /// Drops what a lingering peer sends, until it has seen enough.
    pub(super) fn drive_linger(&mut self, index: u32) {
        let Some(conn) = self.conns.get_mut(index) else { return };
        let State::Linger { left } = &mut conn.state else { return };
        *left = left.saturating_sub(conn.rx.len());
        conn.rx = BytesMut::new();
        let over = *left == 0 || conn.flags.eof;
        if over && conn.is_flushed() {
            self.end_conn(index, CloseKind::Full);
        }
    }

    // ---- Exchanges ----

    /// The response is complete: the connections are free for the next exchange.
    pub(super) fn finish(&mut self, id: ExchangeId) {
        self.sample(id);
        self.end_answered(id);
        let Some(mut exchange) = self.remove_exchange(id) else { return };
        self.leave_mirror(&exchange, false);
        if let Some(policy) = exchange.policy.take() {
            self.policies.put(policy);
        }
        let progress = exchange.progress;
        if let Some(service) = self.mesh.services.get_mut(exchange.service as usize) {
            service.stats.responded(progress.status);
            service.stats.latency.record(self.now - exchange.started);
        }
        let up = exchange.up.filter(|&up| self.conns.find(up).is_some());
        if let Some(up) = up {
            self.finish_upstream(up.index, &exchange);
        }
        if exchange.down_stream.is_some() {
            self.finish_stream(&exchange);
        } else if self.conns.find(exchange.down).is_some() {
            self.finish_downstream(exchange.down.index, &exchange);
        }
        self.release_service(exchange.service);
        self.exchanges.put(exchange);
    }

    fn finish_upstream(&mut self, index: u32, exchange: &Exchange) {
        let Some(conn) = self.conns.get_mut(index) else { return };
        if let Some(endpoint) = conn.endpoint.and_then(|e| self.mesh.endpoints.get_mut(e as usize))
        {
            endpoint.stats.responded(exchange.progress.status);
            endpoint.stats.latency.record(self.now - exchange.attempt);
        }
        if let (Some(up), Some(stream)) = (exchange.up, exchange.up_stream) {
            return self.finish_upstream_stream(up, stream);
        }
        // A response that overtook its request leaves the connection in the middle of a message.
        if exchange.progress.request_done && conn.is_flushed() {
            self.park(index);
        } else {
            self.end_conn(index, CloseKind::Abort);
        }
    }

    fn finish_downstream(&mut self, index: u32, exchange: &Exchange) {
        let (progress, traits) = (exchange.progress, exchange.traits);
        let close = progress.close || self.is_draining();
        if !progress.request_done {
            return self.linger(index);
        }
        if !close {
            return self.next_request(index);
        }
        let unread = self.conns.get(index).is_some_and(|conn| !conn.rx.is_empty());
        if unread || traits.keep_alive {
            // Closing is our idea: the client may be sending its next request.
            self.linger(index);
        } else {
            self.close_when_flushed(index);
        }
    }

    /// Ends an exchange that gets no complete response.
    pub(super) fn fail(&mut self, id: ExchangeId, reason: Reason) {
        if matches!(reason, Reason::ResponseTimeout | Reason::TryTimeout) {
            self.teach_gate(id);
        }
        let Some(exchange) = self.exchanges.get(id) else { return };
        if exchange.policy.is_some() && self.retries_failure(id, reason) {
            return;
        }
        let Some(exchange) = self.exchanges.get(id) else { return };
        if canary!(LeakedExchange) && reason == Reason::ClientGone {
            return;
        }
        if exchange.progress.tunnelled && exchange.has_stream() {
            self.count_refusal(exchange.down.index, reason, None);
            return self.end_bridge(id, Some(ErrorCode::CANCEL));
        }
        if exchange.progress.tunnelled {
            return self.abort_tunnel(id, Some(reason));
        }
        let took = self.now.saturating_since(exchange.attempt);
        let outcome = if self.waits_for_client(exchange) || exchange.is_hurried(reason) {
            Outcome::Cancelled(took)
        } else {
            outcome_of(reason, took)
        };
        let verdict = self.verdict_of_end(id, outcome);
        self.end_attempt(id, Some(outcome), verdict);
        let Some(exchange) = self.remove_exchange(id) else { return };
        self.leave_mirror(&exchange, reason == Reason::ClientGone);
        let service = self.mesh.services.get_mut(exchange.service as usize).map(|service| {
            service.stats.failures += 1;
            Arc::clone(&service.name)
        });
        if exchange.is_mirror() {
            self.mirror_failed(&exchange, reason);
        } else {
            self.count_refusal(exchange.down.index, reason, service);
        }
        if let Some(up) = exchange.up.filter(|&up| self.conns.find(up).is_some()) {
            match exchange.up_stream {
                Some(stream) => self.drop_upstream_stream(up, stream),
                None => self.drop_upstream(up.index),
            }
        }
        if let Some(stream) = exchange.down_stream {
            self.fail_stream(&exchange, stream, reason);
        } else if self.conns.find(exchange.down).is_some() {
            self.fail_downstream(exchange.down.index, &exchange, reason);
        }
        self.release_service(exchange.service);
        self.exchanges.put(exchange);
    }

    /// Is it the client that an exchange is slow by: it has not sent its request, or does not read
    /// the response? Or has the endpoint not been asked yet?
    fn waits_for_client(&self, exchange: &Exchange) -> bool {
        let limits = &self.config.limits;
        let full = |conn: &Conn| match (conn.http2(), exchange.down_stream) {
            (Some(connection), Some(stream)) => connection.stream_queued(stream) > 0,
            _ => conn.unsent() >= limits.stream_buffer,
        };
        let up = exchange.up.and_then(|up| self.conns.find(up));
        !exchange.progress.request_done
            || self.conns.find(exchange.down).is_some_and(full)
            || up.is_some_and(|up| matches!(up.state, State::Connecting(_)))
    }

    /// The endpoint's connection of a failed exchange.
    fn drop_upstream(&mut self, index: u32) {
        let Some(conn) = self.conns.get(index) else { return };
        if let State::Connecting(_) = conn.state {
            self.orphan(index);
        } else {
            // What was sent is incomplete, or its answer is not wanted any more: the endpoint must
            // notice at once.
            self.end_conn(index, CloseKind::Abort);
        }
    }

    /// The client's connection of a failed exchange.
    fn fail_downstream(&mut self, index: u32, exchange: &Exchange, reason: Reason) {
        let (progress, traits) = (exchange.progress, exchange.traits);
        if reason == Reason::ClientGone {
            return self.end_conn(index, CloseKind::Abort);
        }
        if let Kind::Tunnel { answer: false } = exchange.kind {
            return self.end_conn(index, CloseKind::Abort);
        }
        if progress.response_started {
            if progress.ends == Ends::Close {
                // Only a reset tells the client that this was not all.
                self.end_conn(index, CloseKind::Abort);
            } else {
                self.close_when_flushed(index);
            }
            return;
        }
        let close =
            !progress.request_done || !traits.keep_alive || traits.is_connect || self.is_draining();
        let report = exchange.report();
        self.answer(index, &exchange.answer(reason, report.as_deref()), close, Some(&traits));
        if close {
            self.linger(index);
        } else {
            self.next_request(index);
        }
    }

    /// Ends the current attempt of an exchange; `outcome` is the balancer's sample, if it has had
    /// none, and `verdict` is what the endpoint's breaker learns.
    pub(super) fn end_attempt(
        &mut self,
        id: ExchangeId,
        outcome: Option<Outcome>,
        verdict: Option<Verdict>,
    ) {
        self.end_attempt_with(id, outcome, |_, _| verdict);
    }

    /// The same, of an attempt that was answered: what that says is in the answer.
    pub(super) fn end_answered(&mut self, id: ExchangeId) {
        self.end_attempt_with(id, None, Service::verdict_of_answer);
    }

    #[inline]
    fn end_attempt_with(
        &mut self,
        id: ExchangeId,
        outcome: Option<Outcome>,
        verdict: impl FnOnce(&Service, &Exchange) -> Option<Verdict>,
    ) {
        let now = self.now;
        let Some(exchange) = self.exchanges.get_mut(id) else { return };
        let Some(index) = exchange.endpoint.take() else { return };
        let outcome = outcome.filter(|_| !exchange.progress.sampled);
        let Some((service, endpoint)) = self.mesh.service_of(index) else { return };
        if matches!(outcome, Some(Outcome::Failure | Outcome::Cancelled(_))) {
            endpoint.stats.failures += 1;
        }
        if endpoint.removed {
            return;
        }
        match outcome {
            Some(outcome) => service.balancer.end(endpoint.member, outcome, now),
            None if canary!(LostLoad) => {}
            None => service.balancer.release(endpoint.member),
        }
        if exchange.judged {
            let verdict = verdict(service, exchange);
            if !service.settles(endpoint, id, verdict, now) {
                self.judge(id, index, verdict);
            }
        }
    }

    pub(super) fn remove_exchange(&mut self, id: ExchangeId) -> Option<Box<Exchange>> {
        self.timers.exchanges.clear(id.index);
        let removed = self.exchanges.remove(id);
        let exchange = removed.as_ref()?;
        self.mirrors.live -= usize::from(exchange.is_mirror());
        self.buffered -= exchange.charged;
        let passes = exchange.traits.passage == Passage::Done;
        if !canary!(LostSlot) || exchange.progress.response_started || !passes {
            self.leave_gates(exchange);
        }
        if exchange.progress.queued
            && let Some(service) = self.mesh.services.get_mut(exchange.service as usize)
        {
            service.queued -= 1;
        }
        if let Some(conn) = self.conns.get_mut(exchange.down.index)
            && let State::Server(server) = &mut conn.state
            && server.exchange == Some(id)
        {
            server.exchange = None;
        }
        removed
    }

    // ---- Connections ----

    /// A client's connection broke.
    pub(super) fn server_lost(&mut self, index: u32) {
        let exchange = self.conns.get(index).and_then(Conn::exchange);
        match exchange.filter(|&id| self.exchanges.get(id).is_some()) {
            Some(id) => self.fail(id, Reason::ClientGone),
            None => self.end_conn(index, CloseKind::Abort),
        }
    }

    /// Closes a connection as soon as everything is written.
    pub(super) fn close_when_flushed(&mut self, index: u32) {
        if let Some(conn) = self.conns.get_mut(index) {
            conn.state = State::Closing;
            // A peer that does not read must not keep it for ever. A check has a time for everything.
            if !conn.flags.check {
                self.timers.conns.set(index, self.now + self.config.timeouts.half_open);
            }
            self.touch(index);
        }
    }

    /// Ends a connection now.
    pub(super) fn end_conn(&mut self, index: u32, how: CloseKind) {
        let Some(id) = self.conns.id(index) else { return };
        let Some(conn) = self.forget(index) else { return };
        self.outputs.push_back(Output::Close { conn: id, how });
        if let Some(endpoint) = conn.endpoint {
            self.release_endpoint(endpoint);
        }
    }

    /// Takes a connection out of every table but its endpoint's count.
    pub(super) fn forget(&mut self, index: u32) -> Option<Conn> {
        self.forget_handshake(index);
        let mut conn = self.conns.remove(index)?;
        self.timers.conns.clear(index);
        let leaked = if canary!(LeakedPipe) { conn.spliced as usize } else { 0 };
        self.buffered -= conn.charged - leaked;
        conn.tx.vacate(&mut self.spare);
        if let Some(tls) = &mut conn.tls {
            tls.outgoing_mut().vacate(&mut self.spare);
        }
        if !matches!(conn.state, State::Connecting(_)) {
            self.count_tcp(conn.direction, conn.endpoint, |tcp| tcp.closes += 1);
        }
        if conn.endpoint.is_none() {
            self.accepted -= 1;
            self.check_drained();
        }
        Some(conn)
    }

    // ---- Endpoints and services ----

    /// One connection less. The last one of an endpoint that is no longer a member takes it along.
    pub(super) fn release_endpoint(&mut self, index: u32) {
        let Some(endpoint) = self.mesh.endpoints.get_mut(index as usize) else { return };
        endpoint.conns -= 1;
        let service = endpoint.service;
        if endpoint.removed && endpoint.conns == 0 {
            self.mesh.drop_endpoint(index);
            self.timers.endpoints.clear(index);
        }
        self.collect_service(service);
    }

    /// One exchange less.
    pub(super) fn release_service(&mut self, index: u32) {
        if let Some(service) = self.mesh.services.get_mut(index as usize) {
            service.exchanges -= 1;
            self.collect_service(index);
        }
    }

    /// Forgets a service that nothing refers to any more: one that is no longer configured, or that
    /// was made for an original destination.
    pub(super) fn collect_service(&mut self, index: u32) {
        let Some(service) = self.mesh.services.get(index as usize) else { return };
        let original = service.kind == ServiceKind::Original;
        if service.exchanges > 0 {
            return;
        }
        if original {
            // It has one endpoint, and goes when nobody is connected to it.
            let Some(&endpoint) = service.members.first() else { return };
            let Some(target) = self.mesh.endpoints.get(endpoint as usize) else { return };
            if target.conns > 0 {
                return;
            }
            self.mesh.originals.remove(&(service.direction, target.addr));
            self.mesh.drop_endpoint(endpoint);
        } else if !service.removed || service.endpoints > 0 {
            return;
        }
        let service = self.mesh.services.remove(index as usize);
        self.timers.services.clear(index);
        if service.kind.is_fixed() {
            self.mesh.past_originals[service.direction as usize].merge(&service.stats);
        }
    }
}

/// What the balancer learns from an exchange that failed for `reason`.
fn outcome_of(reason: Reason, took: crate::time::Duration) -> Outcome {
    match reason {
        Reason::ResponseTimeout
        | Reason::TryTimeout
        | Reason::ResponseStreamTimeout
        | Reason::RequestTimeout
        | Reason::IdleTimeout
        | Reason::UpstreamClosed
        | Reason::UpstreamReset
        | Reason::BadResponse
        | Reason::ResponseTruncated => Outcome::Failure,
        // The client's time was up, whether it says so itself or not.
        Reason::ClientGone | Reason::GrpcTimeout | Reason::Drained => Outcome::Cancelled(took),
        _ => Outcome::Unsent,
    }
}
