//! Exchanges: one request and its response, or one tunnel, on its way through the proxy.

use alloc::boxed::Box;
use core::num::NonZeroU64;

use slab::Slab;

use super::boxes::Boxes;
use super::contract::ConnId;
use super::gate::Passage;
use super::policy::Policy;
use crate::buf::OutQueue;
use crate::http::Version;
use crate::http1::Framing;
use crate::http2::{Body, ErrorCode, StreamKey};
use crate::time::Time;

/// Names an exchange; the generation makes a stale name harmless.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ExchangeId {
    pub(crate) index: u32,
    generation: u32,
}

impl ExchangeId {
    /// What a stream remembers of it. Never 0: generations begin at 1.
    pub(crate) fn token(self) -> u64 {
        u64::from(self.index) << 32 | u64::from(self.generation)
    }

    /// The exchange that a stream belongs to; one that never was, if it belongs to none.
    pub(crate) fn of_token(token: u64) -> Self {
        ExchangeId { index: (token >> 32) as u32, generation: token as u32 }
    }
}

/// A request on its way: what the client's and the endpoint's connection share.
#[derive(Debug)]
pub(crate) struct Exchange {
    generation: u32,
    pub(crate) kind: Kind,
    /// The client's connection; [`ConnId::NOBODY`]: it is a copy, and nobody gets its answer.
    pub(crate) down: ConnId,
    /// Its stream there, or that of the request that it is a copy of; `None`: it speaks HTTP/1.
    pub(crate) down_stream: Option<StreamKey>,
    /// The endpoint's connection: being connected, or attached.
    pub(crate) up: Option<ConnId>,
    /// The stream there, if it speaks HTTP/2.
    pub(crate) up_stream: Option<StreamKey>,
    pub(crate) service: u32,
    /// The endpoint of the current attempt.
    pub(crate) endpoint: Option<u32>,
    /// The encoded request, until a connection takes it; for HTTP/2 its head as it was received,
    /// until there is an answer: what it looks like there depends on the connection.
    pub(crate) request: OutQueue,
    /// What came of its body on a stream before there was a connection to pass it on.
    pub(crate) pending: Option<Box<Body>>,
    /// What `request` is charged to the worker with.
    pub(crate) charged: usize,
    /// When the request head was complete.
    pub(crate) started: Time,
    /// When the current attempt began.
    pub(crate) attempt: Time,
    /// When the request was complete: the response-headers timeout counts from here.
    pub(crate) sent: Time,
    /// When the client gives up, as a gRPC client says; `Time::MAX`: it does not.
    pub(crate) deadline: Time,
    /// When bytes last moved.
    pub(crate) last: Time,
    pub(crate) traits: Traits,
    pub(crate) progress: Progress,
    /// The gRPC status that its endpoint gave, once it is known.
    pub(crate) grpc: Option<u8>,
    /// How the attempt went is told to the breaker of its endpoint.
    pub(crate) judged: bool,
    /// What an HTTP/1 client that asked for another protocol is told when it gets that over HTTP/2.
    pub(crate) switch: Option<Box<Switch>>,
    /// What a route says about it.
    pub(crate) policy: Option<Box<Policy>>,
    /// What its endpoint is chosen by, if not by load.
    pub(crate) key: Option<NonZeroU64>,
}

/// See [`Exchange::switch`].
#[derive(Debug)]
pub(crate) struct Switch {
    pub(crate) protocol: Box<[u8]>,
    /// `Sec-WebSocket-Accept`.
    pub(crate) accept: Option<[u8; 28]>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// An HTTP request.
    Http,
    /// Bytes both ways.
    Tunnel {
        /// A CONNECT to us: the client waits for a 200.
        answer: bool,
    },
}

/// What the request said.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Traits {
    pub(crate) client: Version,
    pub(crate) framing: Framing,
    /// The client would use its connection again.
    pub(crate) keep_alive: bool,
    pub(crate) is_head: bool,
    pub(crate) is_connect: bool,
    pub(crate) upgrade: bool,
    pub(crate) expect_continue: bool,
    pub(crate) idempotent: bool,
    pub(crate) grpc: bool,
    /// How it goes on.
    pub(crate) speaks: Speaks,
    /// A field of it must never be indexed (RFC 7541 §7.1.3).
    pub(crate) sensitive: bool,
    /// It asks for a WebSocket over HTTP/2 and has no key: the endpoint gets one of ours.
    pub(crate) keyless: bool,
    /// It was HTTP/1 before another mesh proxy made it HTTP/2, and so shall be its response.
    pub(crate) marked: bool,
    /// Whether it waits for its turn.
    pub(crate) passage: Passage,
    /// Its second gate is that of a port and not of its service.
    pub(crate) at_port: bool,
}

/// What a request goes on as.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Speaks {
    Http1,
    Http2,
    /// HTTP/2, with `l5d-orig-proto` if it was HTTP/1.
    Mesh,
}

impl Traits {
    /// Of a tunnel.
    pub(crate) const OPAQUE: Traits = Traits {
        client: Version::Http11,
        framing: Framing::None,
        keep_alive: false,
        is_head: false,
        is_connect: false,
        upgrade: false,
        expect_continue: false,
        idempotent: false,
        grpc: false,
        speaks: Speaks::Http1,
        sensitive: false,
        keyless: false,
        marked: false,
        passage: Passage::Done,
        at_port: false,
    };
}

/// How far an exchange has come.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Progress {
    /// The whole request was received.
    pub(crate) request_done: bool,
    /// How often it was sent again without a policy that says so.
    pub(crate) replays: u8,
    /// It waits for an endpoint.
    pub(crate) queued: bool,
    /// A final response head was passed on.
    pub(crate) response_started: bool,
    /// The connections are a tunnel now.
    pub(crate) tunnelled: bool,
    /// The client, and the endpoint, will send no more through it.
    pub(crate) ended: [bool; 2],
    /// The response is gRPC's: trailers may say how the call ended, ours too.
    pub(crate) call: bool,
    /// What its client was told in informational responses.
    pub(crate) informed: Informed,
    /// What ends the response where it goes on.
    pub(crate) ends: Ends,
    /// The balancer has its sample of this attempt.
    pub(crate) sampled: bool,
    /// The response says that it failed (5xx, gRPC).
    pub(crate) failed: bool,
    /// The attempt uses a connection that served another before.
    pub(crate) reused: bool,
    /// The connection closes after this response.
    pub(crate) close: bool,
    /// The final status, 0 before.
    pub(crate) status: u16,
    /// How the endpoint reset its stream.
    pub(crate) reset: Option<ErrorCode>,
}

/// See [`Progress::ends`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Ends {
    /// What its head says.
    #[default]
    Stated,
    /// The last chunk.
    Chunks,
    /// The end of the connection.
    Close,
}

/// Which informational responses were passed on, as bits.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Informed(u8);

impl Informed {
    /// A 100.
    const CONTINUED: u8 = 1;
    /// Any, of this attempt.
    const NOW: u8 = 2;
    /// Any, of an earlier one.
    const BEFORE: u8 = 4;

    /// Was a 100 passed on?
    pub(crate) fn continued(self) -> bool {
        self.0 & Self::CONTINUED > 0
    }

    /// Was any of an earlier attempt?
    pub(super) fn before(self) -> bool {
        self.0 & Self::BEFORE > 0
    }

    /// One with this status is passed on.
    pub(super) fn pass(&mut self, status: u16) {
        self.0 |= Self::NOW | if status == 100 { Self::CONTINUED } else { 0 };
    }

    /// Another attempt follows: what this one has told the client is not told again.
    pub(super) fn start_over(&mut self) {
        self.0 |= if self.0 & Self::NOW > 0 { Self::BEFORE } else { 0 };
    }
}

impl Exchange {
    /// One that has not begun.
    fn idle() -> Self {
        Exchange {
            generation: 0,
            kind: Kind::Http,
            down: ConnId::NOBODY,
            down_stream: None,
            up: None,
            up_stream: None,
            service: 0,
            endpoint: None,
            request: OutQueue::default(),
            pending: None,
            charged: 0,
            started: Time::ZERO,
            attempt: Time::ZERO,
            sent: Time::MAX,
            deadline: Time::MAX,
            last: Time::ZERO,
            traits: Traits::OPAQUE,
            progress: Progress::default(),
            grpc: None,
            judged: false,
            switch: None,
            policy: None,
            key: None,
        }
    }

    /// Lets go of what it holds, and makes it what it was before it began.
    fn clear(&mut self) {
        *self = Exchange::idle();
    }
}

/// All exchanges. They are large: each is written in its place, and stays there until it is over.
#[derive(Debug, Default)]
pub(crate) struct Exchanges {
    slab: Slab<Box<Exchange>>,
    generation: u32,
    spare: Boxes<Exchange>,
}

impl Exchanges {
    pub(crate) fn len(&self) -> usize {
        self.slab.len()
    }

    pub(crate) fn insert(
        &mut self,
        kind: Kind,
        down: ConnId,
        service: u32,
        traits: Traits,
        now: Time,
    ) -> ExchangeId {
        self.generation = self.generation.wrapping_add(1);
        let generation = self.generation;
        let mut exchange = self.spare.get().unwrap_or_else(|| Box::new(Exchange::idle()));
        exchange.generation = generation;
        exchange.kind = kind;
        exchange.down = down;
        exchange.service = service;
        exchange.traits = traits;
        exchange.started = now;
        exchange.attempt = now;
        exchange.last = now;
        let index = self.slab.insert(exchange);
        ExchangeId { index: index as u32, generation }
    }

    pub(crate) fn get(&self, id: ExchangeId) -> Option<&Exchange> {
        let exchange = self.slab.get(id.index as usize)?;
        (exchange.generation == id.generation).then_some(exchange)
    }

    pub(crate) fn get_mut(&mut self, id: ExchangeId) -> Option<&mut Exchange> {
        let exchange = self.slab.get_mut(id.index as usize)?;
        (exchange.generation == id.generation).then_some(exchange)
    }

    pub(crate) fn remove(&mut self, id: ExchangeId) -> Option<Box<Exchange>> {
        self.get(id)?;
        self.slab.try_remove(id.index as usize)
    }

    /// Keeps what was removed for one that begins.
    pub(crate) fn put(&mut self, mut over: Box<Exchange>) {
        over.clear();
        self.spare.put(over);
    }

    /// The exchange in that slot.
    pub(crate) fn id(&self, index: u32) -> Option<ExchangeId> {
        let generation = self.slab.get(index as usize)?.generation;
        Some(ExchangeId { index, generation })
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (ExchangeId, &Exchange)> {
        self.slab.iter().map(|(index, exchange)| {
            (ExchangeId { index: index as u32, generation: exchange.generation }, &**exchange)
        })
    }
}
