//! The endpoint's side: responses, and what becomes of a connection that breaks.

use alloc::sync::Arc;

use bytes::Buf;

use super::Engine;
use super::body::{BodyStep, Outgoing, carry};
use super::breaker::grpc_code;
use super::conn::{Client, ClientPhase, Conn, State};
use super::contract::CloseKind;
use super::downstream::Step;
use super::exchange::{Ends, Exchange, ExchangeId};
use super::mesh::Health;
use super::relay;
use crate::balance::Outcome;
use crate::error::Reason;
use crate::http::Version;
use crate::http1::{
    self, BodyDecoder, ConnectionOption, Framing, HeadScanner, Response, ResponseRewrite,
    ResponseTo,
};
use crate::policy::HeaderChanges;
use crate::policy::retry::ATTEMPT_COUNT;
use crate::time::Duration;

impl Engine {
    /// Takes what an endpoint sent as far as it goes.
    pub(super) fn drive_client(&mut self, index: u32) {
        loop {
            let Some(conn) = self.conns.get_mut(index) else { return };
            let State::Client(client) = &conn.state else { return };
            let step = match client.phase {
                ClientPhase::Idle => self.drive_idle(index),
                ClientPhase::Head(_) => self.drive_response_head(index),
                ClientPhase::Body(_) => self.drive_response_body(index),
            };
            if step == Step::Blocked {
                return;
            }
        }
    }

    /// A pooled connection that speaks unasked, or closes, leaves the pool.
    fn drive_idle(&mut self, index: u32) -> Step {
        let draining = self.is_draining();
        let Some(conn) = self.conns.get_mut(index) else { return Step::Blocked };
        if conn.flags.eof || !conn.rx.is_empty() || draining {
            self.leave_pool(index);
        }
        Step::Blocked
    }

    /// Closes an idle connection.
    pub(super) fn leave_pool(&mut self, index: u32) {
        let endpoint = self.conns.get(index).and_then(|conn| conn.endpoint);
        if let Some(target) = endpoint.and_then(|e| self.mesh.endpoints.get_mut(e as usize)) {
            target.idle_live = target.idle_live.saturating_sub(1);
        }
        self.close_when_flushed(index);
    }

    fn drive_response_head(&mut self, index: u32) -> Step {
        let Some(conn) = self.conns.get(index) else { return Step::Blocked };
        let State::Client(Client { exchange: Some(id), .. }) = conn.state else {
            return Step::Blocked;
        };
        let (eof, came) = (conn.flags.eof, !conn.rx.is_empty());
        let Some(exchange) = self.exchanges.get(id) else { return Step::Blocked };
        // Informational responses without end must not pile up before a client that does not read.
        let has_room = || self.room_at(exchange.down, exchange.down_stream) > 0;
        if !(came || eof) || !has_room() {
            return Step::Blocked;
        }
        if came && is_unasked(conn, exchange) {
            self.replay(index, id);
            return Step::Blocked;
        }
        if came {
            let Some(conn) = self.conns.get_mut(index) else { return Step::Blocked };
            let State::Client(Client { phase: ClientPhase::Head(scanner), .. }) = &mut conn.state
            else {
                return Step::Blocked;
            };
            // The connection is alive: what was sent on it counts as sent, unless another answer may
            // be wanted.
            if exchange.retry().is_none() && !canary!(SentAfterHead) {
                conn.tx.release();
            }
            let mut scanner = core::mem::take(scanner);
            let mut rx = core::mem::take(&mut conn.rx);
            let mut scratch = core::mem::take(&mut self.scratch);
            let to = ResponseTo {
                is_head: exchange.traits.is_head,
                is_connect: exchange.traits.is_connect,
            };
            let limits = &self.config.limits;
            let mut leaves = (Framing::UntilClose, false);
            let step = match http1::receive_response(&mut scanner, &rx, &mut scratch, limits, to) {
                Err(reason) => Some(Err(reason)),
                Ok(Some((len, ref response))) => {
                    let passed = self.accept_response(index, id, response);
                    leaves = (response.framing, response.keep_alive);
                    rx.advance(len);
                    Some(passed)
                }
                Ok(None) => None,
            };
            self.scratch = scratch;
            if let Some(conn) = self.conns.get_mut(index) {
                conn.rx = rx;
                if step.is_none()
                    && let State::Client(client) = &mut conn.state
                {
                    client.phase = ClientPhase::Head(scanner);
                }
            }
            if let Some(step) = step {
                if let Ok(Passed::Nowhere) = step {
                    self.leave_answer(index, leaves.0, leaves.1);
                }
                return self.end_response_head(id, step);
            }
        }
        if eof {
            self.client_lost(index, Reason::UpstreamClosed);
        }
        Step::Blocked
    }

    fn end_response_head(&mut self, id: ExchangeId, step: Result<Passed, Reason>) -> Step {
        match step {
            Ok(Passed::On) => Step::More,
            Ok(Passed::Nowhere) => Step::Blocked,
            Ok(Passed::Tunnel) => {
                self.open_tunnel(id);
                Step::Blocked
            }
            Err(reason) => {
                self.fail(id, reason);
                Step::Blocked
            }
        }
    }

    fn accept_response(
        &mut self,
        index: u32,
        id: ExchangeId,
        response: &Response<'_>,
    ) -> Result<Passed, Reason> {
        let end = matches!(response.framing, Framing::None | Framing::Length(0));
        let exchange = self.exchanges.get(id);
        let (tries, judged) = exchange.map_or((false, false), |exchange| {
            (exchange.may_retry(response.head.status), exchange.judged)
        });
        if judged {
            self.heed(id, response);
        }
        if tries && self.retries_response(id, response) {
            return Ok(Passed::Nowhere);
        }
        match self.pass_response(id, response, end)? {
            ResponseKind::Informational => {
                self.expect_another_head(index);
                Ok(Passed::On)
            }
            ResponseKind::Tunnel => Ok(Passed::Tunnel),
            ResponseKind::Final => {
                if let Some(conn) = self.conns.get_mut(index)
                    && let State::Client(client) = &mut conn.state
                {
                    if !canary!(SentAfterHead) {
                        conn.tx.release();
                    }
                    client.reusable &= response.keep_alive;
                    client.phase = ClientPhase::Body(BodyDecoder::new(response.framing));
                }
                Ok(Passed::On)
            }
        }
    }

    /// Passes the head of a response on to the client, as its route changes it. `end`: nothing
    /// follows it.
    pub(super) fn pass_response(
        &mut self,
        id: ExchangeId,
        response: &Response<'_>,
        end: bool,
    ) -> Result<ResponseKind, Reason> {
        let Some(exchange) = self.exchanges.get(id) else { return Err(Reason::ClientGone) };
        let Some(policy) = &exchange.policy else { return self.pass_head(id, response, end) };
        if exchange.is_unreported() && policy.route.changes.response.is_empty() {
            return self.pass_head(id, response, end);
        }
        let route = Arc::clone(&policy.route);
        let Some(report) = exchange.report() else {
            return self.pass_changed(id, response, end, &route.changes.response);
        };
        let mut changes = route.changes.response.clone();
        changes.set.push((ATTEMPT_COUNT.into(), report.into()));
        self.pass_changed(id, response, end, &changes)
    }

    fn pass_changed(
        &mut self,
        id: ExchangeId,
        response: &Response<'_>,
        end: bool,
        changes: &HeaderChanges,
    ) -> Result<ResponseKind, Reason> {
        if changes.is_empty() || response.head.status < 200 {
            return self.pass_head(id, response, end);
        }
        let mut edited = core::mem::take(&mut self.edited);
        let mut response = *response;
        response.head.fields = edited.apply(response.head.fields, changes);
        let passed = self.pass_head(id, &response, end);
        self.edited = edited;
        passed
    }

    /// Passes a head on, whichever version either side speaks.
    #[inline]
    fn pass_head(
        &mut self,
        id: ExchangeId,
        response: &Response<'_>,
        end: bool,
    ) -> Result<ResponseKind, Reason> {
        let now = self.now;
        let draining = self.is_draining();
        let Some(exchange) = self.exchanges.get_mut(id) else { return Err(Reason::ClientGone) };
        exchange.last = now;
        let (down, stream) = (exchange.down, exchange.down_stream);
        let kind = response_kind(exchange, response)?;
        if kind == ResponseKind::Informational {
            let passes = exchange.informs(response.head.status);
            // HTTP/1.0 knows no 1xx (RFC 9110 §15.2).
            if !passes || exchange.traits.client == Version::Http10 {
                return Ok(kind);
            }
        }
        if kind == ResponseKind::Final {
            note_final(exchange, response, draining);
        } else if kind == ResponseKind::Tunnel {
            exchange.progress.status = response.head.status;
        }
        let rewrite = ResponseRewrite {
            client: exchange.traits.client,
            connection: connection_option(exchange, kind),
            framing: outgoing_framing(exchange, response.framing),
        };
        if let Some(conn) = self.conns.find_mut(down) {
            conn.tx.furnish(&mut self.spare);
            if let (Some((connection, tx)), Some(stream)) = (conn.http2_mut(), stream) {
                let end = kind == ResponseKind::Final && end;
                let mut response = *response;
                let marked = exchange.traits.marked && kind == ResponseKind::Final;
                response.origin = marked.then_some(response.head.version);
                if kind == ResponseKind::Tunnel {
                    response.head.status = 200;
                    response.upgrade &= exchange.traits.keyless;
                }
                connection.send_response(tx, stream, &response, end);
            } else if let (ResponseKind::Tunnel, Some(switch)) = (kind, &exchange.switch) {
                let accept = switch.accept.as_ref().map(|accept| &accept[..]);
                conn.tx.append(|out| http1::encode_switch(out, response, &switch.protocol, accept));
            } else {
                conn.tx.append(|out| http1::encode_response(out, response, &rewrite));
            }
            conn.flags.dirty = true;
            conn.touch(down.index, &mut self.ready);
        }
        Ok(kind)
    }

    /// After an informational response comes another.
    fn expect_another_head(&mut self, index: u32) {
        if let Some(conn) = self.conns.get_mut(index)
            && let State::Client(client) = &mut conn.state
        {
            client.phase = ClientPhase::Head(HeadScanner::default());
        }
    }

    // ---- Response bodies ----

    fn drive_response_body(&mut self, index: u32) -> Step {
        let Some(conn) = self.conns.get(index) else { return Step::Blocked };
        let State::Client(Client { exchange: Some(id), .. }) = conn.state else {
            return Step::Blocked;
        };
        match self.move_response_body(index, id) {
            Ok(BodyStep::Done) => self.finish(id),
            Ok(BodyStep::Starved) => self.response_eof(index, id),
            Ok(BodyStep::Blocked) => {}
            Err(()) => self.fail(id, Reason::ResponseTruncated),
        }
        Step::Blocked
    }

    /// The end of the connection ends a body that has no other end, and cuts any other short.
    fn response_eof(&mut self, index: u32, id: ExchangeId) {
        let Some(conn) = self.conns.get(index) else { return };
        if let State::Client(Client { phase: ClientPhase::Body(decoder), .. }) = &conn.state
            && conn.flags.eof
        {
            let truncated = conn.flags.truncated && decoder.eof().is_ok();
            if truncated {
                // Only a close_notify would have said that this was all.
                self.count_truncation(index);
                self.fail(id, Reason::TlsTruncated);
            } else if decoder.eof().is_ok() || canary!(ShortBody) {
                self.finish(id);
            } else {
                self.fail(id, Reason::ResponseTruncated);
            }
        }
    }

    /// Moves body bytes to the client. `Err`: it breaks its framing.
    fn move_response_body(&mut self, index: u32, id: ExchangeId) -> Result<BodyStep, ()> {
        let limits = &self.config.limits;
        let Some(exchange) = self.exchanges.get_mut(id) else { return Err(()) };
        let down = exchange.down;
        if exchange.is_mirror() {
            return self.discard_response_body(index, id);
        }
        if self.conns.find(down).is_none() {
            return Err(());
        }
        let stream = exchange.down_stream;
        let Some((conn, sink)) = self.conns.pair(index, down.index) else { return Err(()) };
        let State::Client(client) = &mut conn.state else { return Err(()) };
        let ClientPhase::Body(decoder) = &mut client.phase else { return Err(()) };
        let carried = if let (State::Http2(http2), Some(stream)) = (&mut sink.state, stream) {
            let (connection, rx) = (&mut http2.connection, &mut conn.rx);
            relay::carry_to_stream(decoder, rx, connection, &mut sink.tx, stream, limits, None)
        } else {
            let chunked = exchange.progress.ends == Ends::Chunks;
            let outgoing = if chunked { Outgoing::Chunked } else { Outgoing::Plain };
            let room = limits.stream_buffer;
            carry(decoder, &mut conn.rx, &mut sink.tx, outgoing, room, limits, None)
        };
        if let Some(status) = carried.grpc_status {
            note_trailers(exchange, status);
        }
        self.directions[sink.direction as usize].trailers_dropped += carried.dropped as u64;
        // What came before an error is passed on all the same.
        if carried.moved {
            exchange.last = self.now;
            sink.flags.dirty = true;
            // The balancer's sample is the first body frame; gRPC says in its trailers how it went.
            if !exchange.traits.grpc {
                self.sample(id);
            }
            self.touch(down.index);
        }
        match carried.error {
            Some(_) => Err(()),
            None => Ok(BodyStep::of(carried.done, carried.starved)),
        }
    }

    // ---- The balancer's samples ----

    /// Tells the balancer, once per attempt, how the endpoint did.
    #[inline]
    pub(super) fn sample(&mut self, id: ExchangeId) {
        if self.exchanges.get(id).is_some_and(|exchange| !exchange.progress.sampled) {
            self.sample_first(id);
        }
    }

    fn sample_first(&mut self, id: ExchangeId) {
        let now = self.now;
        let Some(exchange) = self.exchanges.get_mut(id) else { return };
        exchange.progress.sampled = true;
        let (failed, took) = (exchange.progress.failed, now.saturating_since(exchange.attempt));
        let endpoint = exchange.endpoint;
        if !failed {
            let (service, at_port) = (exchange.service, exchange.traits.at_port);
            let copy = exchange.is_mirror();
            self.teach_gates(service, at_port, copy, took);
        }
        let Some(endpoint) = endpoint else { return };
        let Some((service, endpoint)) = self.mesh.service_of(endpoint) else { return };
        let outcome = outcome_of(failed, took);
        if endpoint.removed {
            return;
        }
        service.balancer.sample(endpoint.member, outcome, now);
        if !failed {
            // It answers: the next failure is a first one.
            match &mut endpoint.health {
                Health::Up { failures } | Health::Down { failures, .. } => *failures = 0,
            }
            if endpoint.is_probed_by(id) {
                self.probe_answers(id);
            }
        }
    }

    // ---- Broken connections ----

    /// An endpoint's connection closed or failed.
    pub(super) fn client_lost(&mut self, index: u32, reason: Reason) {
        let Some(conn) = self.conns.get(index) else { return };
        let State::Client(client) = &conn.state else { return };
        let endpoint = conn.endpoint;
        let (waiting, idle) = (client.exchange, matches!(client.phase, ClientPhase::Idle));
        if idle {
            let target = endpoint.and_then(|e| self.mesh.endpoints.get_mut(e as usize));
            if let Some(target) = target {
                target.idle_live = target.idle_live.saturating_sub(1);
            }
        }
        let Some(id) = waiting else { return self.end_conn(index, CloseKind::Abort) };
        if self.is_replayable(index, id) {
            return self.replay(index, id);
        }
        let Some(exchange) = self.exchanges.get(id) else { return };
        let started = exchange.progress.response_started;
        // A reset while it served is the endpoint's failure; a reset of a connection that had
        // served others and was idle until now may only be its idle timeout.
        // So may one that meets a body which the endpoint did not want.
        if reason == Reason::UpstreamReset
            && !exchange.progress.reused
            && exchange.progress.request_done
            && let Some(endpoint) = endpoint
        {
            self.endpoint_down(endpoint, reason);
        }
        self.fail(id, if started { Reason::ResponseTruncated } else { reason });
    }

    /// Can the request be sent again? It met a connection that had served another before, nothing
    /// was answered, and everything sent so far is still here (RFC 9110 §9.2.2, RFC 9112 §9.3.1).
    fn is_replayable(&self, index: u32, id: ExchangeId) -> bool {
        let (Some(conn), Some(exchange)) = (self.conns.get(index), self.exchanges.get(id)) else {
            return false;
        };
        (exchange.progress.reused || canary!(SentAfterHead))
            && conn.tx.is_retaining()
            && conn.rx.is_empty()
            && (exchange.traits.idempotent || canary!(RepeatedPost) || !conn.tx.may_be_sent())
    }

    /// Sends a request again, over another connection.
    fn replay(&mut self, index: u32, id: ExchangeId) {
        let Some(conn) = self.conns.get_mut(index) else { return };
        let mut request = core::mem::take(&mut conn.tx);
        request.rewind();
        request.release();
        if let State::Client(client) = &mut conn.state {
            client.exchange = None;
        }
        let endpoint = conn.endpoint;
        self.end_attempt(id, Some(Outcome::Unsent), None);
        self.end_conn(index, CloseKind::Abort);
        let Some(exchange) = self.exchanges.get_mut(id) else { return };
        exchange.charged = request.held();
        self.buffered += exchange.charged;
        exchange.request = request;
        exchange.up = None;
        exchange.progress.replays += 1;
        exchange.progress.informed.start_over();
        if let Some((service, endpoint)) = endpoint.and_then(|e| self.mesh.service_of(e)) {
            service.stats.replays += 1;
            endpoint.stats.replays += 1;
        }
        self.charge_budget(id);
        self.dispatch(id);
    }

    /// Bytes of a request that cannot be sent twice were written.
    pub(super) fn retained_was_written(&mut self, index: u32) {
        let Some(conn) = self.conns.get_mut(index) else { return };
        if conn.tx.is_retaining()
            && let State::Client(Client { exchange: Some(id), .. }) = conn.state
            && self
                .exchanges
                .get(id)
                .is_none_or(|exchange| !exchange.traits.idempotent && exchange.retry().is_none())
            && !canary!(RepeatedPost)
        {
            conn.tx.release();
        }
    }
}

/// What became of a response head.
#[derive(Clone, Copy)]
enum Passed {
    /// It was passed on, or was not for this client.
    On,
    /// It opens a tunnel.
    Tunnel,
    /// It is not wanted: its request is sent again.
    Nowhere,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum ResponseKind {
    Informational,
    Tunnel,
    Final,
}

/// What came on a pooled connection before a byte of the request was written is no answer to it: a
/// server's 408 and close on an idle connection, usually.
fn is_unasked(conn: &Conn, exchange: &Exchange) -> bool {
    exchange.progress.reused && conn.tx.is_retaining() && !conn.tx.may_be_sent()
}

fn response_kind(exchange: &Exchange, response: &Response<'_>) -> Result<ResponseKind, Reason> {
    let traits = &exchange.traits;
    match response.head.status {
        // Only what was asked for, and only after the request (RFC 9110 §7.8).
        101 if traits.upgrade && response.upgrade && exchange.progress.request_done => {
            Ok(ResponseKind::Tunnel)
        }
        101 => Err(Reason::BadResponse),
        100..=199 => Ok(ResponseKind::Informational),
        200..=299 if traits.is_connect => Ok(ResponseKind::Tunnel),
        // RFC 8441 §5: what is a 101 in HTTP/1.
        200..=299 if traits.upgrade && exchange.up_stream.is_some() => Ok(ResponseKind::Tunnel),
        _ => Ok(ResponseKind::Final),
    }
}

/// Notes what a final head says about the exchange.
fn note_final(exchange: &mut Exchange, response: &Response<'_>, draining: bool) {
    let traits = exchange.traits;
    exchange.grpc = response.grpc_status.filter(|_| traits.grpc).map(grpc_code);
    // Who is told a length, and gets less, has been told what to think of it.
    let open = matches!(response.framing, Framing::Chunked | Framing::UntilClose);
    let progress = &mut exchange.progress;
    progress.response_started = true;
    progress.call = traits.grpc && response.grpc && open;
    progress.status = response.head.status;
    progress.failed =
        response.head.status >= 500 || response.grpc_status.is_some_and(is_grpc_failure);
    let outgoing = match (response.framing, traits.client) {
        // HTTP/1.0 knows no chunks (RFC 9112 §7.1).
        (Framing::Chunked, Version::Http10) => Framing::UntilClose,
        (framing, _) => framing,
    };
    progress.ends = match outgoing {
        Framing::Chunked => Ends::Chunks,
        Framing::UntilClose => Ends::Close,
        _ => Ends::Stated,
    };
    // A client that waits for a 100 and gets this instead may never send its body.
    let unsent = traits.expect_continue && !progress.informed.continued() && !progress.request_done;
    // A response without a body is over before its request is.
    let early =
        !progress.request_done && matches!(response.framing, Framing::None | Framing::Length(0));
    // After a CONNECT that failed, what the client sent for its tunnel is no request.
    progress.close = traits.is_connect
        || draining
        || !traits.keep_alive
        || progress.ends == Ends::Close
        || unsent
        || early;
}

fn outgoing_framing(exchange: &Exchange, framing: Framing) -> Framing {
    if exchange.progress.ends == Ends::Close { Framing::UntilClose } else { framing }
}

fn connection_option(exchange: &Exchange, kind: ResponseKind) -> ConnectionOption {
    match kind {
        ResponseKind::Informational => ConnectionOption::Nothing,
        ResponseKind::Tunnel if exchange.traits.is_connect => ConnectionOption::Nothing,
        ResponseKind::Tunnel => ConnectionOption::Upgrade,
        ResponseKind::Final if exchange.progress.close => ConnectionOption::Close,
        // HTTP/1.0 closes unless it is told not to.
        ResponseKind::Final if exchange.traits.client == Version::Http10 => {
            ConnectionOption::KeepAlive
        }
        ResponseKind::Final => ConnectionOption::Nothing,
    }
}

/// Trailers came that say how a call went.
pub(super) fn note_trailers(exchange: &mut Exchange, status: u16) {
    exchange.progress.failed |= is_grpc_failure(status);
    exchange.grpc = exchange.traits.grpc.then(|| grpc_code(status));
}

/// gRPC statuses that are the server's failure: UNKNOWN, DEADLINE_EXCEEDED, INTERNAL, UNAVAILABLE,
/// DATA_LOSS, and RESOURCE_EXHAUSTED is not among them.
pub(super) fn is_grpc_failure(status: u16) -> bool {
    matches!(status, 2 | 4 | 13 | 14 | 15)
}

/// What the balancer learns from a response.
fn outcome_of(failed: bool, took: Duration) -> Outcome {
    if failed { Outcome::Failure } else { Outcome::Success(took) }
}
