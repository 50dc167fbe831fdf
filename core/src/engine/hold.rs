//! Heads of gRPC responses that are held: trailers without a message before them are an outcome that
//! can be tried again.

use alloc::boxed::Box;
use alloc::collections::VecDeque;
use alloc::vec::Vec;

use super::Engine;
use super::boxes::Boxes;
use super::exchange::{Exchange, ExchangeId};
use crate::http::{Fields, Framing, Response, ResponseHead, Span, Version, status};
use crate::time::{Duration, Time};

/// How long a head is held for what follows it.
const HOLD: Duration = Duration::from_millis(10);

/// A response head without the buffer that it came in.
#[derive(Debug, Default)]
pub(super) struct Held {
    /// It goes on then at the latest.
    until: Time,
    status: u16,
    framing: Framing,
    grpc: bool,
    origin: Option<Version>,
    buf: Vec<u8>,
    spans: Vec<Span>,
}

/// All that are held, and room for more.
#[derive(Debug, Default)]
pub(super) struct Holds {
    /// All are held equally long: in the order in which they have to go on. Some have gone on before.
    due: VecDeque<(Time, ExchangeId)>,
    /// Those that have gone on: the next ones need no memory of their own.
    spare: Boxes<Held>,
}

impl Holds {
    /// Buffers that grew beyond this are given back to the allocator.
    const CAPACITY: usize = 16 * 1024;

    /// Copies a head of `id` to `place`, and notes when it has to go on.
    fn hold(
        &mut self,
        place: &mut Option<Box<Held>>,
        id: ExchangeId,
        response: &Response<'_>,
        now: Time,
    ) {
        let until = (now + HOLD).ceil_millis();
        self.due.push_back((until, id));
        let mut held = self.spare.get().unwrap_or_default();
        held.until = until;
        held.status = response.head.status;
        held.framing = response.framing;
        held.grpc = response.grpc;
        held.origin = response.origin;
        let Fields { buf, spans } = response.head.fields;
        held.buf.clear();
        held.buf.extend_from_slice(buf);
        held.spans.clear();
        held.spans.extend_from_slice(spans);
        *place = Some(held);
    }

    fn gone(&mut self, held: Box<Held>) {
        if held.buf.capacity() <= Self::CAPACITY {
            self.spare.put(held);
        }
    }
}

impl Exchange {
    fn holds_until(&self) -> Option<Time> {
        let policy = self.policy.as_ref()?;
        policy.tries.held.as_ref().map(|held| held.until)
    }
}

impl Engine {
    /// Holds a gRPC response head until it is known what follows it.
    pub(super) fn hold_response(&mut self, id: ExchangeId, response: &Response<'_>) -> bool {
        let Some(exchange) = self.exchanges.get_mut(id) else { return false };
        let holds = exchange.traits.grpc
            && response.head.status == 200
            && response.grpc_status.is_none()
            && exchange.retry().is_some_and(|retry| !retry.grpc.is_empty());
        let Some(policy) = exchange.policy.as_mut().filter(|_| holds) else { return false };
        self.holds.hold(&mut policy.tries.held, id, response, self.now);
        true
    }

    /// Passes a head on that was held, if one was. False: the exchange is over.
    pub(super) fn pass_held(&mut self, id: ExchangeId) -> bool {
        let Some(exchange) = self.exchanges.get_mut(id) else { return false };
        let held = exchange.policy.as_mut().and_then(|policy| policy.tries.held.take());
        let Some(held) = held else { return true };
        let response = Response {
            head: ResponseHead {
                status: held.status,
                reason: status::phrase(held.status).as_bytes(),
                version: Version::Http11,
                fields: Fields { buf: &held.buf, spans: &held.spans },
            },
            framing: held.framing,
            announced: Framing::None,
            keep_alive: true,
            upgrade: false,
            grpc: held.grpc,
            grpc_status: None,
            origin: held.origin,
        };
        self.retry_succeeds(id, held.status);
        self.forget_request(id);
        let passed = self.pass_response(id, &response, false);
        self.holds.gone(held);
        if let Err(reason) = passed {
            self.fail(id, reason);
        }
        passed.is_ok()
    }

    /// When the first of the heads that are held has to go on.
    pub(super) fn hold_ends(&mut self) -> Option<Time> {
        while let Some(&(due, id)) = self.holds.due.front() {
            if self.exchanges.get(id).and_then(Exchange::holds_until) == Some(due) {
                return Some(due);
            }
            self.holds.due.pop_front();
        }
        None
    }

    /// Nothing came in time: what was held goes on, and what follows it with it.
    pub(super) fn end_holds(&mut self) {
        while self.hold_ends().is_some_and(|due| due <= self.now) {
            let Some((_, id)) = self.holds.due.pop_front() else { return };
            self.catch_up_exchange(id);
            self.pass_held(id);
        }
    }
}
