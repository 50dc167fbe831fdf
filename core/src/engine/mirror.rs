//! Mirrors: exchanges that are copies of others, with nobody at the client's end.
//!
//! A copy is an exchange like any other, on the endpoint's side: balanced, pooled, timed and counted
//! as a request to its own service. At the client's end it has [`ConnId::NOBODY`], so its response
//! goes nowhere. It is begun when its request has been dispatched, and fed with slices of the same
//! buffers when bytes of the request's body are passed on, never the other way round: whatever
//! becomes of it, nothing that its request waits for depends on it.

use alloc::boxed::Box;
use alloc::sync::Arc;

use super::Engine;
use super::body::{BodyStep, Outgoing, carry};
use super::conn::{Client, ClientPhase, State};
use super::contract::{ConnId, Event};
use super::exchange::{Exchange, ExchangeId, Kind, Speaks};
use super::policy::Policy;
use super::relay::{outgoing, takes_requests};
use super::upstream::is_grpc_failure;
use crate::buf::OutQueue;
use crate::error::Reason;
use crate::http::{Request, grpc};
use crate::http1;
use crate::limits::Limits;
use crate::policy::Route;
use crate::rng::{Rng, Seed};
use crate::stats::Decision;

/// All copies of one worker.
#[derive(Debug)]
pub(super) struct Mirrors {
    /// Their own: what is decided about requests does not depend on them.
    rng: Rng,
    /// How many there are.
    pub(super) live: usize,
}

impl Mirrors {
    pub(super) fn new(seed: Seed) -> Self {
        Mirrors { rng: Rng::fork(seed, 3), live: 0 }
    }
}

/// What was passed on of a request's body, once more.
#[derive(Debug, Default)]
pub(super) struct Copied {
    body: OutQueue,
    pub(super) trailers: Option<Box<[u8]>>,
}

impl Copied {
    /// Nothing but trailers.
    pub(super) fn trailers(section: &[u8]) -> Self {
        Copied { body: OutQueue::default(), trailers: Some(section.into()) }
    }

    /// Adds the `n` body bytes that were put last into a queue.
    pub(super) fn last_of(&mut self, queue: &OutQueue, n: usize, outgoing: Outgoing) {
        if n > 0 {
            // A line end ends a chunk.
            let after = if outgoing == Outgoing::Chunked { 2 } else { 0 };
            queue.share(n, after, &mut self.body);
        }
    }
}

impl Exchange {
    /// Is it a copy?
    pub(super) fn is_mirror(&self) -> bool {
        self.down == ConnId::NOBODY
    }

    /// Its own copy, which may be over.
    #[inline]
    pub(super) fn mirror(&self) -> Option<ExchangeId> {
        self.policy.as_ref()?.mirror
    }
}

impl Engine {
    // ---- Beginnings ----

    /// Copies a request that has just been dispatched, if its route wants that and chance.
    pub(super) fn begin_mirror(&mut self, id: ExchangeId, request: &Request<'_>) {
        // One that is over was answered by us.
        let Some(exchange) = self.exchanges.get(id) else { return };
        let mirror = exchange.policy.as_ref().and_then(|policy| policy.route.mirror.as_ref());
        let Some(mirror) = mirror.filter(|_| !exchange.is_tunnel()) else { return };
        if !mirror.strikes(&mut self.mirrors.rng) {
            return;
        }
        let route = Arc::clone(mirror.route());
        match self.copy_request(id, request, &route) {
            Ok(()) => self.settled(&route.service, Decision::Mirrored),
            Err(decision) => {
                self.decided(&route.service, decision);
                let service = Arc::clone(&route.service);
                self.emit(Event::Mirror { service, addr: None, decision, reason: None });
            }
        }
    }

    fn copy_request(
        &mut self,
        id: ExchangeId,
        request: &Request<'_>,
        route: &Arc<Route>,
    ) -> Result<(), Decision> {
        let service = self.mesh.by_name.get(&route.service).copied();
        let service = service.ok_or(Decision::MirrorUnready)?;
        let target = self.mesh.services.get(service as usize).ok_or(Decision::MirrorUnready)?;
        if target.balancer.ready_len() == 0 {
            return Err(Decision::MirrorUnready);
        }
        // A copy waits for nobody.
        let full = self.mirrors.live >= self.config.limits.mirrors || !target.gate.is_open();
        if full || self.is_half_full() {
            return Err(Decision::MirrorCap);
        }
        let Some(exchange) = self.exchanges.get(id) else { return Ok(()) };
        let (down, down_stream) = (exchange.down, exchange.down_stream);
        let (mut traits, complete) = (exchange.traits, exchange.progress.request_done);
        let client = if down_stream.is_some() { Speaks::Http2 } else { Speaks::Http1 };
        traits.speaks = self.speaks(service, client);
        let time = request.grpc.then(|| grpc::timeout(request.head.fields)).flatten();
        let mirror = self.begin_exchange(Kind::Http, ConnId::NOBODY, service, traits, time);
        let mirror = mirror.map_err(|_| Decision::MirrorCap)?;
        self.mirrors.live += 1;
        if let Some(exchange) = self.exchanges.get_mut(mirror) {
            exchange.down_stream = down_stream;
        }
        self.set_policy(mirror, Some(Box::new(Policy::new(Arc::clone(route), service))));
        if let Some(exchange) = self.exchanges.get_mut(id)
            && let Some(policy) = &mut exchange.policy
        {
            policy.mirror = Some(mirror);
        }
        if complete {
            self.request_done(mirror);
        }
        let redirected = self.conns.find(down).is_some_and(|down| down.original_dst.is_some());
        self.encode(mirror, request, redirected);
        core::mem::swap(&mut self.rng, &mut self.mirrors.rng);
        self.dispatch_head(mirror, Some(request));
        core::mem::swap(&mut self.rng, &mut self.mirrors.rng);
        Ok(())
    }

    /// Does the worker hold half of what it may? The other half is for requests.
    fn is_half_full(&self) -> bool {
        let limits = &self.config.limits;
        self.exchanges.len() >= limits.in_flight / 2
            || self.conns.len() >= limits.connections / 2
            || self.buffered >= limits.buffer_bytes / 2
    }

    // ---- Requests ----

    /// More of a request's body was passed on: its copy gets the same. `end`: that is all of it.
    pub(super) fn feed_mirror(&mut self, id: ExchangeId, copied: Copied, end: bool) {
        let Some(mirror) = self.exchanges.get(id).and_then(Exchange::mirror) else { return };
        if self.exchanges.get(mirror).is_none() {
            // Nothing more is copied.
            if let Some(exchange) = self.exchanges.get_mut(id)
                && let Some(policy) = &mut exchange.policy
            {
                policy.mirror = None;
            }
            return;
        }
        if copied.body.unsent() > 0 {
            if self.waits_at_mirror(mirror) >= Limits::MIRROR_BYTES {
                let victim = if canary!(SharedFate) { id } else { mirror };
                return self.fail(victim, Reason::StreamStalled);
            }
            if self.buffered >= self.config.limits.buffer_bytes / 2 {
                return self.fail(mirror, Reason::BuffersFull);
            }
            self.pass_copied(mirror, copied.body);
        }
        if end {
            self.end_request_body(mirror, copied.trailers.as_deref());
            self.request_done(mirror);
        }
    }

    /// How many bytes of a copy have not been written yet.
    fn waits_at_mirror(&self, mirror: ExchangeId) -> usize {
        let Some(exchange) = self.exchanges.get(mirror) else { return 0 };
        let pending = exchange.pending.as_ref().map_or(0, |pending| pending.queue.unsent());
        let Some(up) = exchange.up.and_then(|up| self.conns.find(up)) else { return pending };
        match (up.http2(), exchange.up_stream) {
            (Some(connection), Some(stream)) => connection.stream_queued(stream),
            _ => pending + up.unsent(),
        }
    }

    fn pass_copied(&mut self, mirror: ExchangeId, mut body: OutQueue) {
        let now = self.now;
        let replay_bytes = self.config.limits.replay_bytes;
        let n = body.unsent();
        let Some(exchange) = self.exchanges.get_mut(mirror) else { return };
        exchange.last = now;
        let sink = exchange.up.filter(|&up| self.conns.find(up).is_some_and(takes_requests));
        let Some(up) = sink else {
            let pending = exchange.pending.get_or_insert_default();
            body.pass(&mut pending.queue, n);
            // It outlives the turn.
            pending.queue.settle();
            exchange.charged += n;
            self.buffered += n;
            return;
        };
        let Some(conn) = self.conns.get_mut(up.index) else { return };
        conn.flags.dirty = true;
        if let (State::Http2(http2), Some(stream)) = (&mut conn.state, exchange.up_stream) {
            if let Some(queue) = http2.connection.body(stream) {
                body.pass(queue, n);
                let kept = queue.held();
                http2.connection.body_added(stream, n, false);
                if kept > replay_bytes {
                    http2.connection.release_body(stream);
                }
            }
        } else {
            let chunked = outgoing(exchange.traits.framing) == Outgoing::Chunked;
            if chunked {
                conn.tx.append(|out| http1::encode_chunk_start(out, n));
            }
            body.pass(&mut conn.tx, n);
            if chunked {
                conn.tx.append(http1::encode_chunk_end);
            }
            if conn.tx.is_retaining() && conn.tx.held() > replay_bytes {
                conn.tx.release();
            }
        }
        self.touch(up.index);
    }

    // ---- Responses ----

    /// Drops what an endpoint that speaks HTTP/1 answered a copy with. `Err`: it breaks its framing.
    pub(super) fn discard_response_body(
        &mut self,
        index: u32,
        id: ExchangeId,
    ) -> Result<BodyStep, ()> {
        let limits = &self.config.limits;
        let (Some(exchange), Some(conn)) = (self.exchanges.get_mut(id), self.conns.get_mut(index))
        else {
            return Err(());
        };
        let State::Client(Client { phase: ClientPhase::Body(decoder), .. }) = &mut conn.state
        else {
            return Err(());
        };
        let mut nowhere = OutQueue::default();
        let all = usize::MAX;
        let carried =
            carry(decoder, &mut conn.rx, &mut nowhere, Outgoing::Plain, all, limits, None);
        exchange.progress.failed |= carried.grpc_status.is_some_and(is_grpc_failure);
        let is_grpc = exchange.traits.grpc;
        if carried.moved {
            exchange.last = self.now;
            if !is_grpc {
                self.sample(id);
            }
        }
        match carried.error {
            Some(_) => Err(()),
            None => Ok(BodyStep::of(carried.done, carried.starved)),
        }
    }

    // ---- Ends ----

    /// A request is over. Its copy goes on if it is complete, unless the client gave up.
    #[inline]
    pub(super) fn leave_mirror(&mut self, original: &Exchange, cancelled: bool) {
        if let Some(mirror) = original.mirror()
            && (cancelled || !original.progress.request_done)
        {
            self.fail(mirror, Reason::ClientGone);
        }
    }

    /// A copy ended without a complete response. It has been removed; its connection or stream is
    /// about to be reset.
    pub(super) fn mirror_failed(&mut self, copy: &Exchange, reason: Reason) {
        let decision = match reason {
            Reason::ClientGone | Reason::Drained => Decision::MirrorCancelled,
            Reason::StreamStalled => Decision::MirrorBehind,
            Reason::InFlight
            | Reason::ServiceBusy
            | Reason::QueueFull
            | Reason::ConnectionLimit
            | Reason::NoResources
            | Reason::BuffersFull => Decision::MirrorCap,
            Reason::Failfast
            | Reason::Loop
            | Reason::UnknownAuthority
            | Reason::ConnectFailed
            | Reason::ConnectTimeout => Decision::MirrorUnready,
            Reason::ResponseTimeout
            | Reason::ResponseStreamTimeout
            | Reason::RequestTimeout
            | Reason::GrpcTimeout
            | Reason::IdleTimeout => Decision::MirrorTimeout,
            _ => Decision::MirrorFailed,
        };
        let addr = copy.up.and_then(|up| self.conns.find(up)).map(|up| up.peer);
        let Some(service) = self.mesh.services.get_mut(copy.service as usize) else { return };
        service.stats.decisions.count(decision);
        let service = Arc::clone(&service.name);
        self.emit(Event::Mirror { service, addr, decision, reason: Some(reason) });
    }

    /// The grace of a drain is over.
    pub(super) fn end_mirrors(&mut self) {
        if self.mirrors.live == 0 {
            return;
        }
        let copies = self.exchanges.iter().filter(|(_, exchange)| exchange.is_mirror());
        for id in copies.map(|(id, _)| id).collect::<alloc::vec::Vec<_>>() {
            self.fail(id, Reason::Drained);
        }
    }
}
