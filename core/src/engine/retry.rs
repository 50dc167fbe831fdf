//! Requests that are sent again because an attempt failed.

use alloc::boxed::Box;
use alloc::format;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::num::NonZeroU64;

use super::Engine;
use super::conn::{Client, State};
use super::contract::{CloseKind, Event};
use super::exchange::{Exchange, ExchangeId};
use super::gate::{Gate, GateOf, Passage};
use super::hold::Held;
use crate::balance::Outcome;
use crate::error::Reason;
use crate::http::{Answer, Framing, Response};
use crate::http2::{Body, ErrorCode, Trailers};
use crate::policy::retry::{
    ATTEMPT_COUNT, Again, Failed, LONGEST_WAIT, Retry, pushback, trailer_pushback,
};
use crate::stats::Decision;
use crate::time::{Duration, Time};

/// How far an exchange has come with its retries.
#[derive(Debug, Default)]
pub(crate) struct Tries {
    /// Its method may be repeated.
    pub(super) method: bool,
    /// What chooses one of the services of a split, and an endpoint of it, where there are keys.
    pub(super) redraw: Option<Box<Redraw>>,
    /// Retries so far.
    pub(super) used: u32,
    /// Endpoints that it was given to.
    pub(super) sent: u32,
    /// Why it was not sent once more.
    outcome: Option<Decision>,
    /// Endpoints that were asked. An index may have been given to another since: it is a preference.
    pub(super) tried: Vec<u32>,
    /// It waits until then to be sent again.
    pub(super) resumes: Option<Time>,
    /// Bytes of its head, as it is kept with the body.
    pub(super) head: usize,
    /// A response head that is not passed on yet.
    pub(super) held: Option<Box<Held>>,
}

/// The keys of a request that a split shares out anew whenever it is tried again.
#[derive(Debug)]
pub(crate) struct Redraw {
    /// What chooses a service.
    pub(super) split: Option<u64>,
    /// What chooses an endpoint of each service, if that is not the same for all of them.
    pub(super) endpoints: Vec<(Arc<str>, Option<NonZeroU64>)>,
}

impl Exchange {
    /// What of it is tried again.
    pub(super) fn retry(&self) -> Option<&Retry> {
        self.policy.as_ref()?.route.retry.as_ref()
    }

    /// Is there something to decide about an answer with this status? If not, it was what the first
    /// attempt was to bring.
    #[inline]
    pub(super) fn may_retry(&self, status: u16) -> bool {
        let Some(policy) = &self.policy else { return false };
        let Some(retry) = &policy.route.retry else { return false };
        retry.names(status) || policy.tries.used > 0 || self.traits.grpc
    }

    /// Bytes of its request that may be kept.
    pub(super) fn replay_bytes(&self, all: usize) -> usize {
        match (self.retry(), &self.policy) {
            (Some(retry), Some(policy)) => retry.max_body + policy.tries.head,
            _ => all,
        }
    }

    /// Since when a response head has been waited for, if one is: what is sent again has as long again.
    #[inline]
    pub(super) fn head_wanted_since(&self) -> Option<Time> {
        if !self.progress.request_done || self.progress.response_started {
            return None;
        }
        match &self.policy {
            Some(_) if self.is_resting() => None,
            Some(policy) if policy.tries.used > 0 => {
                self.endpoint.map(|_| self.sent.max(self.attempt))
            }
            _ => Some(self.sent),
        }
    }

    /// When the current attempt has taken too long. The last one may take all the time there is.
    pub(super) fn try_deadline(&self) -> Time {
        let (Some(retry), Some(policy)) = (self.retry(), &self.policy) else { return Time::MAX };
        let waits = self.endpoint.is_some() && !self.progress.response_started;
        match retry.per_try_timeout {
            Some(limit) if waits && policy.tries.used < retry.limit => self.attempt + limit,
            _ => Time::MAX,
        }
    }

    /// When it is sent again.
    pub(super) fn resumes(&self) -> Time {
        self.policy.as_ref().and_then(|policy| policy.tries.resumes).unwrap_or(Time::MAX)
    }

    /// Is this the end of less time than its route gives, because its request asked for less?
    pub(super) fn is_hurried(&self, reason: Reason) -> bool {
        use Reason::{RequestTimeout, ResponseStreamTimeout, TryTimeout};
        self.policy.as_ref().is_some_and(|policy| policy.hurried)
            && matches!(reason, RequestTimeout | ResponseStreamTimeout | TryTimeout)
    }

    /// Does its answer say nothing of its attempts?
    pub(super) fn is_unreported(&self) -> bool {
        self.retry().is_none_or(|retry| !retry.report)
    }

    /// What its answer says of its attempts, if its route wants that.
    pub(super) fn report(&self) -> Option<String> {
        if self.is_unreported() {
            return None;
        }
        let tries = &self.policy.as_ref()?.tries;
        Some(match tries.outcome {
            Some(outcome) => format!("{};outcome={}", tries.sent, outcome.label()),
            None => format!("{}", tries.sent),
        })
    }

    /// What its client is told when it ends by `reason`; `report`: of its attempts.
    pub(super) fn answer<'a>(&self, reason: Reason, report: Option<&'a str>) -> Answer<'a> {
        let extra = report.map(|report| (ATTEMPT_COUNT, report));
        Answer { extra, ..Answer::of(reason, self.traits.grpc) }
    }

    /// An informational response came. Is it passed on? Not where an earlier attempt has told the
    /// client as much: of a 100 it needs one, whoever sends it, and of others those of one attempt.
    pub(super) fn informs(&mut self, status: u16) -> bool {
        let tried = self.policy.as_ref().is_some_and(|policy| policy.tries.used > 0);
        let progress = &mut self.progress;
        let again = tried || progress.replays > 0;
        let informed = &mut progress.informed;
        let known = if status == 100 { again && informed.continued() } else { informed.before() };
        let passes = !known || canary!(RepeatedHints);
        if passes {
            informed.pass(status);
        }
        passes
    }

    /// Does it wait to be sent again?
    pub(super) fn is_resting(&self) -> bool {
        self.policy.as_ref().is_some_and(|policy| policy.tries.resumes.is_some())
    }
}

impl Engine {
    // ---- Whether ----

    /// An endpoint answered: is that tried again, instead of passed on? If so, the exchange has left
    /// its connection or stream.
    pub(super) fn retries_response(&mut self, id: ExchangeId, response: &Response<'_>) -> bool {
        let Some(exchange) = self.exchanges.get(id) else { return false };
        let (Some(retry), Some(policy)) = (exchange.retry(), &exchange.policy) else {
            return false;
        };
        let is_grpc = exchange.traits.grpc;
        let failed = match response.grpc_status {
            Some(status @ 1..) if is_grpc => Failed::Grpc(status),
            _ => Failed::Status(response.head.status),
        };
        // How a call went may be said in its trailers.
        let is_open = is_grpc && response.grpc_status.is_none() && !retry.grpc.is_empty();
        if response.head.status < 200 || !retry.covers(failed, policy.tries.method, is_grpc) {
            if !is_open && policy.tries.used > 0 {
                self.retry_succeeds(id, response.head.status);
            }
            return false;
        }
        let again = pushback(response.head.fields, self.wall());
        self.try_again(id, failed, again)
    }

    /// An attempt ended without an answer: is it tried again?
    pub(super) fn retries_failure(&mut self, id: ExchangeId, reason: Reason) -> bool {
        let Some(exchange) = self.exchanges.get(id) else { return false };
        let (Some(retry), Some(policy)) = (exchange.retry(), &exchange.policy) else {
            return false;
        };
        let failed = match exchange.progress.reset {
            Some(ErrorCode::REFUSED_STREAM) if reason != Reason::TryTimeout => Failed::Refused,
            _ => Failed::Without(reason),
        };
        let covers = retry.covers(failed, policy.tries.method, exchange.traits.grpc);
        covers && self.try_again(id, failed, Again::Whenever)
    }

    /// Counts a retry that was worth it.
    pub(super) fn retry_succeeds(&mut self, id: ExchangeId, status: u16) {
        let Some(policy) = self.exchanges.get(id).and_then(|exchange| exchange.policy.as_ref())
        else {
            return;
        };
        if policy.tries.used > 0 && (200..500).contains(&status) {
            let service = Arc::clone(&policy.route.service);
            self.settled(&service, Decision::RetrySucceeded);
        }
    }

    fn try_again(&mut self, id: ExchangeId, failed: Failed, again: Again) -> bool {
        let Some(exchange) = self.exchanges.get(id) else { return false };
        let Some(policy) = &exchange.policy else { return false };
        let route = Arc::clone(&policy.route);
        let Some(retry) = &route.retry else { return false };
        let started = exchange.progress.response_started && !canary!(RetriedAfterHead);
        if started || exchange.is_tunnel() {
            return false;
        }
        let nth = policy.tries.used + 1;
        let mut wait = retry.wait(nth, &mut self.rng);
        if let Again::After(least) = again {
            wait = wait.max(least);
        }
        let ends = self.last_moment(id).min(self.now + LONGEST_WAIT);
        let too_late = !canary!(LateRetry) && self.now + wait >= ends;
        let decision = if nth > retry.limit && !canary!(NoLimit) {
            Decision::RetryLimit
        } else if too_late || again == Again::Never {
            Decision::RetryTooLate
        } else if !self.is_request_kept(id) {
            Decision::RetryBody
        } else if !self.spend_budget(&route.service) {
            Decision::RetryBudget
        } else {
            Decision::Retried
        };
        self.decided(&route.service, decision);
        let exchange = self.exchanges.get(id);
        let endpoint = exchange.and_then(|exchange| exchange.endpoint);
        let took = exchange.map_or(Duration::ZERO, |exchange| self.now - exchange.attempt);
        let addr = endpoint.and_then(|e| Some(self.mesh.endpoints.get(e as usize)?.addr));
        let service = Arc::clone(&route.service);
        let (limit, nth) = (retry.limit, nth);
        self.emit(Event::Retry { service, addr, failed, took, decision, nth, limit, wait });
        if decision != Decision::Retried {
            let exchange = self.exchanges.get_mut(id);
            if let Some(policy) = exchange.and_then(|exchange| exchange.policy.as_mut()) {
                policy.tries.outcome = Some(decision);
            }
            return false;
        }
        self.take_back(id, failed);
        if let Some(exchange) = self.exchanges.get_mut(id)
            && let Some(policy) = &mut exchange.policy
        {
            policy.tries.used = nth;
            policy.tries.tried.extend(endpoint);
            policy.tries.resumes = Some(self.now + wait);
            policy.tries.held = None;
            exchange.progress.informed.start_over();
        }
        self.rearm(id);
        true
    }

    /// The earliest deadline that waiting for a retry does not move: nothing else moves either.
    fn last_moment(&self, id: ExchangeId) -> Time {
        let (Some(exchange), Some(policy)) = (
            self.exchanges.get(id),
            self.exchanges.get(id).and_then(|exchange| exchange.policy.as_ref()),
        ) else {
            return Time::MAX;
        };
        let service = self.mesh.services.get(exchange.service as usize);
        let own = &policy.route.timeouts;
        let request = own.request.or(service.and_then(|service| service.times.request));
        let response = own.response.filter(|_| exchange.progress.request_done);
        let idle = own.idle.or(service.and_then(|service| service.times.idle));
        let after = |from: Time, limit: Option<Duration>| limit.map_or(Time::MAX, |l| from + l);
        let limits =
            [(exchange.started, request), (exchange.sent, response), (exchange.last, idle)];
        limits.into_iter().fold(exchange.deadline, |first, (from, l)| first.min(after(from, l)))
    }

    fn spend_budget(&mut self, service: &str) -> bool {
        if canary!(NoBudget) {
            return true;
        }
        let now = self.now;
        let Some(&index) = self.mesh.by_name.get(service) else { return false };
        let service = self.mesh.services.get_mut(index as usize);
        service.is_some_and(|service| service.budget.spend(now))
    }

    /// What was sent again without being asked, because a pooled connection was dead, is charged all
    /// the same.
    pub(super) fn charge_budget(&mut self, id: ExchangeId) {
        let now = self.now;
        let Some(exchange) = self.exchanges.get(id) else { return };
        let (Some(_), Some(policy)) = (exchange.retry(), &exchange.policy) else { return };
        if let Some(&index) = self.mesh.by_name.get(&policy.route.service)
            && let Some(service) = self.mesh.services.get_mut(index as usize)
        {
            service.budget.charge(now);
        }
    }

    /// Is everything of the request that was sent still here?
    fn is_request_kept(&self, id: ExchangeId) -> bool {
        let Some(exchange) = self.exchanges.get(id) else { return false };
        let Some(conn) = exchange.up.and_then(|up| self.conns.find(up)) else {
            return exchange.request.held() > 0;
        };
        match (&conn.state, exchange.up_stream) {
            (State::Http2(http2), Some(stream)) => {
                exchange.request.held() > 0 && http2.connection.keeps_body(stream)
            }
            (State::Client(_), _) => conn.tx.is_retaining(),
            _ => exchange.request.held() > 0,
        }
    }

    // ---- How ----

    /// Takes a request back from wherever it was sent, whole. The connection or stream that it was on
    /// has nothing to do with it any more; one that answered is the caller's.
    fn take_back(&mut self, id: ExchangeId, failed: Failed) {
        let Some(exchange) = self.exchanges.get(id) else { return };
        let (up, stream, endpoint) = (exchange.up, exchange.up_stream, exchange.endpoint);
        let complete = exchange.progress.request_done;
        let answered = matches!(failed, Failed::Status(_) | Failed::Grpc(_));
        if let (Failed::Status(status), Some(endpoint)) = (failed, endpoint)
            && let Some(target) = self.mesh.endpoints.get_mut(endpoint as usize)
        {
            target.stats.responded(status);
        }
        // For the balancer a refusal says nothing about how it does.
        let outcome = if failed == Failed::Refused { Outcome::Unsent } else { Outcome::Failure };
        let verdict = self.verdict_of_retry(id, failed);
        self.end_attempt(id, Some(outcome), verdict);
        if let Some(exchange) = self.exchanges.get_mut(id) {
            exchange.up = None;
            exchange.up_stream = None;
            exchange.progress.reset = None;
            exchange.progress.failed = false;
            exchange.grpc = None;
        }
        let Some(up) = up.filter(|&up| self.conns.find(up).is_some()) else {
            // It waited for a stream.
            let target = endpoint.and_then(|e| self.mesh.endpoints.get_mut(e as usize));
            if let Some(target) = target {
                target.waiting.retain(|&waiting| waiting != id);
            }
            return self.leave_queue(id);
        };
        if let Some(stream) = stream {
            let body = self.with_http2(up, |connection, tx| {
                connection.reset(tx, stream, ErrorCode::CANCEL);
                connection.take_body(stream)
            });
            self.keep_body(id, body.flatten());
            return self.serve_waiting_of(up.index);
        }
        let Some(conn) = self.conns.get_mut(up.index) else { return };
        match &mut conn.state {
            State::Client(client) => {
                client.exchange = None;
                let mut request = core::mem::take(&mut conn.tx);
                // Else the endpoint is in the middle of a message.
                client.reusable &= complete && request.unsent() == 0;
                request.rewind();
                request.release();
                if let Some(exchange) = self.exchanges.get_mut(id) {
                    exchange.charged = request.held();
                    self.buffered += exchange.charged;
                    exchange.request = request;
                }
                if !answered {
                    self.end_conn(up.index, CloseKind::Abort);
                }
            }
            State::Connecting(_) => self.orphan(up.index),
            _ => {}
        }
    }

    /// It waits for an endpoint no longer: it will ask for one again.
    fn leave_queue(&mut self, id: ExchangeId) {
        let Some(exchange) = self.exchanges.get_mut(id) else { return };
        if core::mem::take(&mut exchange.progress.queued)
            && let Some(service) = self.mesh.services.get_mut(exchange.service as usize)
        {
            service.queue.retain(|&waiting| waiting != id);
            service.queued -= 1;
        }
    }

    fn keep_body(&mut self, id: ExchangeId, body: Option<Box<Body>>) {
        if let (Some(body), Some(exchange)) = (body, self.exchanges.get_mut(id)) {
            self.buffered += body.queue.held();
            exchange.charged += body.queue.held();
            exchange.pending = Some(body);
        }
    }

    /// A connection of HTTP/1 whose answer is not passed on: if all of that is here, it serves
    /// others.
    pub(super) fn leave_answer(&mut self, index: u32, framing: Framing, keep_alive: bool) {
        let Some(conn) = self.conns.get_mut(index) else { return };
        let body = match framing {
            Framing::None => Some(0),
            Framing::Length(length) => usize::try_from(length).ok(),
            Framing::Chunked | Framing::UntilClose => None,
        };
        let whole = body.is_some_and(|body| conn.rx.len() == body);
        let State::Client(Client { reusable, .. }) = &mut conn.state else { return };
        if whole && keep_alive && *reusable && !conn.flags.eof {
            conn.rx.clear();
            self.park(index);
        } else {
            self.end_conn(index, CloseKind::Abort);
        }
    }

    /// The wait is over: the request is sent again, to a service that is drawn anew.
    pub(super) fn resume_retry(&mut self, id: ExchangeId) {
        let now = self.now;
        let Some(exchange) = self.exchanges.get_mut(id) else { return };
        if canary!(LateRetry) {
            exchange.started = now;
        }
        let (old, speaks) = (exchange.service, exchange.traits.speaks);
        let Some(policy) = &mut exchange.policy else { return };
        policy.tries.resumes = None;
        let (route, redraw) = (Arc::clone(&policy.route), policy.tries.redraw.take());
        let key = redraw.as_ref().and_then(|redraw| redraw.split);
        // What is kept is in the form of the first attempt.
        if let Some(service) = self.draw(&route, key)
            && service != old
            && self.speaks(service, speaks) == speaks
            && self.gate(GateOf::Service(service)).is_some_and(Gate::try_enter)
        {
            self.leave_second(old, false, Passage::Done);
            for (index, more) in [(old, false), (service, true)] {
                if let Some(service) = self.mesh.services.get_mut(index as usize) {
                    let count = &mut service.exchanges;
                    *count = if more { *count + 1 } else { *count - 1 };
                    service.stats.requests += u64::from(more);
                }
            }
            let name = self.mesh.services.get(service as usize).map(|service| &service.name);
            let keys = redraw.iter().flat_map(|redraw| &redraw.endpoints);
            let key = keys.into_iter().find(|(service, _)| Some(service) == name);
            if let Some(exchange) = self.exchanges.get_mut(id) {
                exchange.service = service;
                exchange.key = key.map_or(exchange.key, |key| key.1);
            }
            self.collect_service(old);
        }
        if let Some(policy) =
            self.exchanges.get_mut(id).and_then(|exchange| exchange.policy.as_mut())
        {
            policy.tries.redraw = redraw;
        }
        self.dispatch(id);
        self.rearm(id);
    }

    // ---- Trailers ----

    /// Trailers came without a message before them: are they tried again?
    pub(super) fn retries_trailers(
        &mut self,
        id: ExchangeId,
        status: Option<u16>,
        trailers: Trailers<'_>,
    ) -> bool {
        let Some(exchange) = self.exchanges.get(id) else { return false };
        let (Some(retry), Some(policy)) = (exchange.retry(), &exchange.policy) else {
            return false;
        };
        let Some(failed @ 1..) = status else { return false };
        let failed = Failed::Grpc(failed);
        if policy.tries.held.is_none() || !retry.covers(failed, policy.tries.method, true) {
            return false;
        }
        self.try_again(id, failed, trailer_pushback(trailers.fields()))
    }
}
