//! The client's side: requests on streams.

use crate::config::Protocol;
use crate::engine::Engine;
use crate::engine::conn::{State, Unread};
use crate::engine::contract::{ConnId, Direction};
use crate::engine::exchange::{Exchange, Kind, Speaks, Traits};
use crate::engine::gate::Passage;
use crate::engine::policy::Selected;
use crate::engine::relay::Side;
use crate::error::Reason;
use crate::http::{Answer, Fate, Framing, Request, Version, grpc};
use crate::http2::{ErrorCode, StreamKey};

impl Engine {
    /// A request began on a stream.
    pub(super) fn accept_stream_request(
        &mut self,
        index: u32,
        stream: StreamKey,
        request: &Request<'_>,
        end: bool,
    ) {
        let Some(conn) = self.conns.get(index) else { return };
        let (direction, redirected) = (conn.direction, conn.original_dst.is_some());
        self.direction(direction).requests += 1;
        let to_us = request.is_connect && !redirected;
        // Apps do not mark what they send: only another proxy's mark means anything.
        let origin = request.origin.filter(|_| direction == Direction::Inbound && !to_us);
        let selected = if to_us {
            self.tunnel_service(index, request.authority).map(|service| {
                let key = self.endpoint_key(index, service, None, Some(request));
                Selected { key, ..Selected::from(service) }
            })
        } else {
            // A CONNECT that was redirected to us is meant for the proxy that it was sent to.
            self.select(index, request, request.authority.filter(|_| !request.is_connect))
        };
        let selected = match selected {
            Ok(selected) => selected,
            Err(reason) => return self.answer_stream(index, stream, reason, request.grpc),
        };
        if let Some(refused) = self.limit_rate(index) {
            self.collect_service(selected.service);
            return self.answer_stream_fixed(index, stream, &refused, request.grpc);
        }
        let traits = Traits {
            client: Version::Http11,
            // What frames it on HTTP/1: END_STREAM is all that does here.
            framing: if end { Framing::None } else { request.framing },
            keep_alive: true,
            is_head: request.is_head,
            is_connect: request.is_connect,
            upgrade: request.upgrade,
            expect_continue: request.expect_continue,
            idempotent: request.idempotent,
            grpc: request.grpc,
            speaks: match origin {
                _ if to_us => Speaks::Http1,
                Some(_) => Speaks::Http1,
                None => self.speaks(selected.service, Speaks::Http2),
            },
            marked: origin.is_some(),
            passage: Passage::Done,
            at_port: false,
            sensitive: is_sensitive(request),
            keyless: false,
        };
        let Some(route) = selected.acting_route() else {
            return self.begin_stream_request(index, stream, request, selected, traits, end);
        };
        match self.fixed_answer(&route, request) {
            Some(fixed) => self.answer_stream_fixed(index, stream, &fixed, request.grpc),
            None => self.with_changes(&route, request, |engine, request| {
                engine.begin_stream_request(index, stream, request, selected, traits, end);
            }),
        }
    }

    fn begin_stream_request(
        &mut self,
        index: u32,
        stream: StreamKey,
        request: &Request<'_>,
        selected: Selected,
        traits: Traits,
        end: bool,
    ) {
        let is_mirrored = selected.is_mirrored();
        let Selected { service, policy, key } = selected;
        let Some(conn) = self.conns.get(index) else { return };
        let redirected = conn.original_dst.is_some();
        let Some(down) = self.conns.id(index) else { return };
        let to_us = request.is_connect && !redirected;
        let kind = if to_us { Kind::Tunnel { answer: true } } else { Kind::Http };
        let time = request.grpc.then(|| grpc::timeout(request.head.fields)).flatten();
        let id = match self.begin_exchange(kind, down, service, traits, time) {
            Ok(id) => id,
            Err(reason) => {
                self.collect_service(service);
                return self.answer_stream(index, stream, reason, request.grpc);
            }
        };
        self.set_key(id, key);
        self.set_policy(id, policy);
        if let Some(exchange) = self.exchanges.get_mut(id) {
            exchange.down_stream = Some(stream);
        }
        self.with_http2(down, |connection, _| connection.set_token(stream, id.token()));
        // What follows the head of a tunnel is no body.
        let tunnel = request.upgrade || request.is_connect;
        if end || tunnel {
            self.request_done(id);
        }
        if end && tunnel {
            self.bridge_end(id, Side::Down);
        }
        self.encode(id, request, redirected || traits.marked);
        self.dispatch_head(id, Some(request));
        if is_mirrored {
            self.begin_mirror(id, request);
        }
    }

    /// What a request goes on as: what its service says, else what its client speaks.
    pub(in crate::engine) fn speaks(&self, service: u32, client: Speaks) -> Speaks {
        let Some(service) = self.mesh.services.get(service as usize) else { return client };
        match service.protocol {
            Protocol::Http1 => Speaks::Http1,
            Protocol::Http2 => Speaks::Http2,
            Protocol::Mesh => Speaks::Mesh,
            // Mesh proxies say that they are. Which endpoint it will be is not known yet.
            Protocol::Auto if service.meshed => Speaks::Mesh,
            Protocol::Auto => client,
        }
    }

    /// Answers a request that gets no exchange.
    pub(super) fn answer_stream(
        &mut self,
        index: u32,
        stream: StreamKey,
        reason: Reason,
        grpc: bool,
    ) {
        self.count_refusal(index, reason, None);
        self.answer_stream_with(index, stream, &Answer::of(reason, grpc));
    }

    /// Answers a request with a response of ours.
    pub(in crate::engine) fn answer_stream_with(
        &mut self,
        index: u32,
        stream: StreamKey,
        answer: &Answer<'_>,
    ) {
        let now = self.now;
        let Some(down) = self.conns.id(index) else { return };
        self.with_http2(down, |connection, tx| {
            connection.send_answer(tx, stream, answer);
            connection.abandon(tx, stream, now);
        });
    }

    /// The response of an exchange is complete, and so is the request or it is not wanted.
    pub(in crate::engine) fn finish_stream(&mut self, exchange: &Exchange) {
        if let Some(stream) = exchange.down_stream.filter(|_| !canary!(OpenStream)) {
            self.leave_stream(exchange.down, stream);
        }
    }

    /// Everything that goes on a stream is there, and nobody wants what still comes.
    pub(in crate::engine) fn leave_stream(&mut self, conn: ConnId, stream: StreamKey) {
        let now = self.now;
        self.with_http2(conn, |connection, tx| {
            connection.body_added(stream, 0, true);
            connection.abandon(tx, stream, now);
        });
        let due = self.now + self.config.timeouts.half_open;
        if let Some(conn) = self.conns.find_mut(conn)
            && let State::Http2(http2) = &mut conn.state
            && let queued @ 1.. = http2.connection.stream_queued(stream)
        {
            http2.unread.push_back(Unread { due, stream, queued });
        }
    }

    /// Ends a stream whose exchange failed.
    pub(in crate::engine) fn fail_stream(
        &mut self,
        exchange: &Exchange,
        stream: StreamKey,
        reason: Reason,
    ) {
        if self.ends_call(exchange, stream, reason) {
            return;
        }
        let (progress, report, now) = (exchange.progress, exchange.report(), self.now);
        self.with_http2(exchange.down, |connection, tx| {
            // How the far side ended its stream means the same on this one; but who has answered has
            // looked at it, whatever it says.
            let refused = progress.response_started.then_some(ErrorCode::REFUSED_STREAM);
            let said = progress.reset.filter(|&code| Some(code) != refused);
            let code = said.unwrap_or(match reason {
                Reason::ClientGone
                | Reason::RequestTimeout
                | Reason::GrpcTimeout
                | Reason::IdleTimeout => ErrorCode::CANCEL,
                Reason::StreamStalled => ErrorCode::ENHANCE_YOUR_CALM,
                _ => ErrorCode::INTERNAL_ERROR,
            });
            let gone = reason == Reason::ClientGone;
            if gone || progress.response_started || progress.reset.is_some() {
                connection.reset(tx, stream, code);
            } else {
                connection.send_answer(tx, stream, &exchange.answer(reason, report.as_deref()));
                connection.abandon(tx, stream, now);
            }
        });
    }
}

impl Engine {
    /// Ends a gRPC response that has begun with a status of ours, after what came of it. False: a
    /// reset has to say it. What an endpoint said by a reset stays one, and no deadline waits for a
    /// client to read what is left.
    fn ends_call(&mut self, exchange: &Exchange, stream: StreamKey, reason: Reason) -> bool {
        let progress = exchange.progress;
        let gone = matches!(reason, Reason::ClientGone | Reason::StreamStalled);
        if !progress.call || gone || progress.reset.is_some() {
            return false;
        }
        let is_late = reason != Reason::ResponseTruncated;
        let ended = self.with_http2(exchange.down, |connection, tx| {
            if is_late && connection.stream_queued(stream) > 0 {
                return false;
            }
            let trailers = Answer::of(reason, true).trailers();
            connection.send_trailers(tx, stream, &trailers).is_ok()
        });
        if ended == Some(true) {
            self.leave_stream(exchange.down, stream);
        }
        ended == Some(true)
    }
}

/// Has a field of this request to be kept out of HPACK's tables?
fn is_sensitive(request: &Request<'_>) -> bool {
    request.head.fields.spans.iter().any(|span| span.fate == Fate::Sensitive)
}
