//! The endpoint's side: responses on streams, and what becomes of those that end early.

use alloc::boxed::Box;

use crate::balance::Outcome;
use crate::engine::Engine;
use crate::engine::contract::ConnId;
use crate::engine::exchange::ExchangeId;
use crate::engine::relay::Side;
use crate::engine::upstream::ResponseKind;
use crate::error::Reason;
use crate::http::Response;
use crate::http2::{Body, ErrorCode, Role, StreamKey};

/// How often a request goes elsewhere that a GOAWAY left behind. More than once: all connections to a
/// server that serves so many requests on each (nginx: 1,000) may have come to their ends together.
const LEFT_BEHIND: u8 = 4;

impl Engine {
    /// A response began on a stream, or an informational one came.
    pub(super) fn accept_stream_response(
        &mut self,
        index: u32,
        id: ExchangeId,
        response: &Response<'_>,
        end: bool,
    ) {
        let Some(exchange) = self.exchanges.get(id) else { return };
        if exchange.up.is_none_or(|up| up.index != index) {
            return;
        }
        if exchange.judged {
            self.heed(id, response);
        }
        let Some(exchange) = self.exchanges.get(id) else { return };
        if exchange.may_retry(response.head.status)
            && (self.retries_response(id, response) || !end && self.hold_response(id, response))
        {
            return;
        }
        if !matches!(response.head.status, 100..=199) && !canary!(RetriedAfterHead) {
            self.forget_request(id);
        }
        match self.pass_response(id, response, end) {
            Ok(ResponseKind::Tunnel) => {
                self.open_tunnel(id);
                if end {
                    self.bridge_end(id, Side::Up);
                }
            }
            Ok(_) if end => self.finish(id),
            Ok(_) => {}
            Err(reason) => self.fail(id, reason),
        }
    }

    /// The request was answered: it will not be sent again.
    pub(in crate::engine) fn forget_request(&mut self, id: ExchangeId) {
        let Some(exchange) = self.exchanges.get_mut(id) else { return };
        let mut request = core::mem::take(&mut exchange.request);
        self.buffered -= core::mem::take(&mut exchange.charged);
        request.wrote(request.unsent());
        request.vacate(&mut self.spare);
        if let (Some(up), Some(stream)) = (exchange.up, exchange.up_stream)
            && let Some((connection, _)) =
                self.conns.get_mut(up.index).and_then(|conn| conn.http2_mut())
        {
            connection.release_body(stream);
        }
    }

    /// The peer reset a stream.
    pub(super) fn stream_reset(
        &mut self,
        index: u32,
        stream: StreamKey,
        id: ExchangeId,
        code: ErrorCode,
    ) {
        let Some(exchange) = self.exchanges.get_mut(id) else { return };
        let is_client = self.conns.get(index).is_some_and(|conn| conn.endpoint.is_none());
        let side = if is_client { Side::Down } else { Side::Up };
        if exchange.progress.tunnelled && exchange.progress.ended[side as usize] {
            return self.break_bridge(id, side, code);
        }
        if is_client {
            return self.fail(id, Reason::ClientGone);
        }
        let started = exchange.progress.response_started;
        exchange.progress.reset = Some(code);
        if code == ErrorCode::REFUSED_STREAM && self.replay_stream(index, stream, id, 1) {
            return;
        }
        self.fail(id, if started { Reason::ResponseTruncated } else { Reason::UpstreamReset });
    }

    /// A stream broke a rule, and we have reset it.
    pub(super) fn stream_broken(&mut self, index: u32, id: ExchangeId) {
        let Some(exchange) = self.exchanges.get(id) else { return };
        let started = exchange.progress.response_started;
        let from_client = self.conns.get(index).is_some_and(|conn| conn.endpoint.is_none());
        self.fail(
            id,
            match (from_client, started) {
                (true, _) => Reason::ClientGone,
                (false, true) => Reason::ResponseTruncated,
                (false, false) => Reason::BadResponse,
            },
        );
    }

    /// The response on a stream is complete; the rest of the request is not wanted.
    pub(in crate::engine) fn finish_upstream_stream(&mut self, up: ConnId, stream: StreamKey) {
        self.with_http2(up, |connection, tx| {
            if connection.can_send(stream) {
                connection.reset(tx, stream, ErrorCode::CANCEL);
            }
        });
        self.serve_waiting_of(up.index);
    }

    /// The exchange of a stream failed: the endpoint must notice at once.
    pub(in crate::engine) fn drop_upstream_stream(&mut self, up: ConnId, stream: StreamKey) {
        if !canary!(LostReset) {
            self.with_http2(up, |connection, tx| connection.reset(tx, stream, ErrorCode::CANCEL));
        }
        self.serve_waiting_of(up.index);
    }

    /// An endpoint takes no more streams; those it has not looked at go elsewhere.
    pub(super) fn http2_goaway(&mut self, index: u32) {
        let Some(connection) = self.conns.get(index).and_then(|conn| conn.http2()) else { return };
        if connection.role() == Role::Server {
            return;
        }
        for (stream, id) in self.exchanges_of(index) {
            let connection = self.conns.get(index).and_then(|conn| conn.http2());
            let unprocessed = connection.is_some_and(|connection| connection.unprocessed(stream));
            let unprocessed = unprocessed || canary!(RepeatedAfterGoAway);
            if unprocessed && !self.replay_stream(index, stream, id, LEFT_BEHIND) {
                if let Some(exchange) = self.exchanges.get_mut(id) {
                    exchange.progress.reset = Some(ErrorCode::REFUSED_STREAM);
                }
                self.fail(id, Reason::UpstreamClosed);
            }
        }
        // Those that wait for a stream on it wait for another connection.
        self.serve_waiting_of(index);
    }

    /// Sends a request again, on another stream, if it was not `most` times already: it is known that
    /// nothing was done with it, or that doing it twice does no harm.
    fn replay_stream(&mut self, index: u32, stream: StreamKey, id: ExchangeId, most: u8) -> bool {
        let Some(exchange) = self.exchanges.get(id) else { return false };
        let progress = exchange.progress;
        if progress.replays >= most || progress.response_started || exchange.request.held() == 0 {
            return false;
        }
        let body = self
            .conns
            .get_mut(index)
            .and_then(|conn| conn.http2_mut())
            .and_then(|(connection, _)| connection.take_body(stream));
        let Some(body) = body else { return false };
        self.send_again(id, body);
        true
    }

    fn send_again(&mut self, id: ExchangeId, body: Box<Body>) {
        let Some(exchange) = self.exchanges.get_mut(id) else { return };
        let endpoint = exchange.endpoint;
        self.end_attempt(id, Some(Outcome::Unsent), None);
        let Some(exchange) = self.exchanges.get_mut(id) else { return };
        exchange.up = None;
        exchange.up_stream = None;
        exchange.progress.replays += 1;
        exchange.progress.informed.start_over();
        exchange.progress.reset = None;
        self.buffered += body.queue.held();
        exchange.charged += body.queue.held();
        exchange.pending = Some(body);
        self.charge_budget(id);
        if let Some((service, endpoint)) = endpoint.and_then(|e| self.mesh.service_of(e)) {
            service.stats.replays += 1;
            endpoint.stats.replays += 1;
        }
        self.dispatch(id);
    }

    /// An endpoint's connection is gone, or of no more use.
    pub(super) fn endpoint_lost(&mut self, index: u32, reason: Reason) {
        let Some(conn) = self.conns.get(index) else { return };
        let endpoint = conn.endpoint;
        let (mut blamed, mut failed) = (false, false);
        if let Some(endpoint) = endpoint {
            // What is sent again must not come back here.
            self.forget_multiplexed(endpoint, index);
            self.give_up_settings(endpoint, index, reason);
        }
        for (stream, id) in self.exchanges_of(index) {
            let connection = self.conns.get(index).and_then(|conn| conn.http2());
            let unprocessed = connection.is_some_and(|connection| connection.unprocessed(stream));
            let Some(exchange) = self.exchanges.get(id) else { continue };
            let progress = exchange.progress;
            // It may have been dead since its last stream: as for a pooled connection.
            let stale = progress.reused && exchange.traits.idempotent;
            let most = if unprocessed { LEFT_BEHIND } else { u8::from(stale) };
            if self.replay_stream(index, stream, id, most) {
                continue;
            }
            let fresh = !progress.reused && progress.request_done;
            if reason == Reason::UpstreamReset
                && fresh
                && !blamed
                && let Some(endpoint) = endpoint
            {
                blamed = true;
                self.endpoint_down(endpoint, reason);
            }
            failed = true;
            let started = progress.response_started;
            self.fail(id, if started { Reason::ResponseTruncated } else { reason });
        }
        if let Some(endpoint) = endpoint {
            if failed && !blamed {
                self.look_again(endpoint);
            }
            self.serve_waiting(endpoint);
        }
    }
}
