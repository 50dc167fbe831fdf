//! Failure accrual: what answers, and that there are none, say about endpoints.

use alloc::sync::Arc;

use super::Engine;
use super::contract::Event;
use super::exchange::{Exchange, ExchangeId, Kind};
use super::mesh::{Endpoint, Service};
use crate::balance::Outcome;
use crate::http::Response;
use crate::http2::{ErrorCode, Trailers};
use crate::policy::breaker::{Trip, Verdict};
use crate::policy::retry::{Again, Failed, pushback, trailer_pushback};
use crate::stats::Decision;
use crate::time::{Duration, Time};

impl Service {
    /// Is there something to note when a request is given to this endpoint: is it asked although it
    /// should not be, or to see how it does?
    pub(super) fn minds(&self, endpoint: &Endpoint) -> bool {
        let wanted = || endpoint.standing.as_ref().is_some_and(|s| s.breaker.wants_probe());
        self.guard.as_ref().is_some_and(|guard| guard.panicking || wanted())
    }

    /// What the answer to an exchange that is judged says about its endpoint.
    pub(super) fn verdict_of_answer(&self, exchange: &Exchange) -> Option<Verdict> {
        let progress = &exchange.progress;
        if progress.tunnelled || exchange.kind != Kind::Http {
            return Some(Verdict::Success);
        }
        self.verdict(progress.status, exchange.grpc)
    }

    fn verdict(&self, status: u16, grpc: Option<u8>) -> Option<Verdict> {
        let config = self.guard.as_ref()?.breaker.as_ref()?;
        (status > 0).then(|| config.verdict(status, grpc))
    }

    /// An attempt ended: records that it went well, if that is all there is to it.
    #[inline]
    pub(super) fn settles(
        &self,
        endpoint: &mut Endpoint,
        id: ExchangeId,
        verdict: Option<Verdict>,
        now: Time,
    ) -> bool {
        let (Some(guard), Some(standing)) = (&self.guard, &mut endpoint.standing) else {
            return true;
        };
        let Some(config) = &guard.breaker else { return true };
        verdict == Some(Verdict::Success)
            && standing.probe != Some(id)
            && standing.breaker.goes_on_well(config, now)
    }
}

impl Engine {
    /// An attempt is given to an endpoint that its service [minds](Service::minds). If that wants a
    /// probe, this is it.
    pub(super) fn guard_attempt(&mut self, id: ExchangeId, index: u32) {
        let now = self.now;
        let Some((service, endpoint)) = self.mesh.service_of(index) else { return };
        let (Some(guard), Some(standing)) = (&service.guard, &mut endpoint.standing) else {
            return;
        };
        if guard.panicking {
            service.stats.decisions.count(Decision::Panic);
        }
        if let Some(config) = &guard.breaker
            && standing.breaker.wants_probe()
            && !(canary!(ManyProbes) && standing.probe.is_some())
        {
            if !canary!(ManyProbes) {
                standing.breaker.probe(config, now);
            }
            standing.probe = Some(id);
            let event =
                Event::EndpointProbed { service: Arc::clone(&service.name), addr: endpoint.addr };
            self.emit(event);
            self.breaker_changed(index);
        }
    }

    // ---- What an attempt says ----

    /// What an endpoint's answer says about it.
    fn verdict_of_answer(&self, id: ExchangeId) -> Option<Verdict> {
        let exchange = self.exchanges.get(id).filter(|exchange| exchange.judged)?;
        self.mesh.services.get(exchange.service as usize)?.verdict_of_answer(exchange)
    }

    fn verdict(&self, exchange: &Exchange, status: u16, grpc: Option<u8>) -> Option<Verdict> {
        self.mesh.services.get(exchange.service as usize)?.verdict(status, grpc)
    }

    /// What an attempt says that ended without a complete answer. `outcome`: what it says to the
    /// balancer. Nothing, if it was the client that ended it, unless the endpoint had failed before.
    pub(super) fn verdict_of_end(&self, id: ExchangeId, outcome: Outcome) -> Option<Verdict> {
        let exchange = self.exchanges.get(id).filter(|exchange| exchange.judged)?;
        if exchange.progress.reset == Some(ErrorCode::REFUSED_STREAM) {
            return None;
        }
        match outcome {
            Outcome::Failure => Some(Verdict::Failure),
            Outcome::Cancelled(_) if canary!(BlamedForCancel) => Some(Verdict::Failure),
            _ => self.verdict_of_answer(id).filter(|&verdict| verdict == Verdict::Failure),
        }
    }

    /// What an attempt says whose request is sent again.
    pub(super) fn verdict_of_retry(&self, id: ExchangeId, failed: Failed) -> Option<Verdict> {
        let exchange = self.exchanges.get(id).filter(|exchange| exchange.judged)?;
        match failed {
            Failed::Refused => None,
            Failed::Status(status) => self.verdict(exchange, status, None),
            Failed::Grpc(code) => self.verdict(exchange, 200, Some(grpc_code(code))),
            // A client that takes its time with its request is not the endpoint's fault.
            Failed::Without(reason) => {
                let blamed = exchange.progress.request_done && !exchange.is_hurried(reason);
                blamed.then_some(Verdict::Failure)
            }
        }
    }

    /// A response head came: an endpoint that fails may say how long it does not want to be asked.
    #[inline]
    pub(super) fn heed(&mut self, id: ExchangeId, response: &Response<'_>) {
        // Below that nothing fails but a call.
        if response.head.status >= 400 || response.grpc_status.is_some() {
            self.heed_head(id, response);
        }
    }

    fn heed_head(&mut self, id: ExchangeId, response: &Response<'_>) {
        let Some(exchange) = self.exchanges.get(id) else { return };
        let grpc = response.grpc_status.filter(|_| exchange.traits.grpc).map(grpc_code);
        let status = response.head.status;
        let verdict = if status < 200 { None } else { self.verdict(exchange, status, grpc) };
        if matches!(verdict, Some(Verdict::Failure | Verdict::Throttled)) {
            self.heed_wait(id, pushback(response.head.fields, self.wall()));
        }
    }

    /// Trailers came: gRPC says there how it failed, and how long it does not want to be asked.
    pub(super) fn heed_trailers(
        &mut self,
        id: ExchangeId,
        status: Option<u16>,
        trailers: Trailers<'_>,
    ) {
        let Some(exchange) = self.exchanges.get(id).filter(|exchange| exchange.judged) else {
            return;
        };
        let code = status.filter(|_| exchange.traits.grpc).map(grpc_code);
        let verdict = code.and_then(|code| self.verdict(exchange, 200, Some(code)));
        if matches!(verdict, Some(Verdict::Failure | Verdict::Throttled)) {
            self.heed_wait(id, trailer_pushback(trailers.fields()));
        }
    }

    fn heed_wait(&mut self, id: ExchangeId, again: Again) {
        let now = self.now;
        if let Again::After(wait) = again
            && let Some(endpoint) = self.exchanges.get(id).and_then(|exchange| exchange.endpoint)
            && let Some((_, endpoint)) = self.mesh.service_of(endpoint)
            && let Some(standing) = &mut endpoint.standing
        {
            standing.breaker.heed(wait, now);
        }
    }

    /// The answer to a probe begins. Of a tunnel that is all that can be said.
    pub(super) fn probe_answers(&mut self, id: ExchangeId) {
        let now = self.now;
        let Some(exchange) = self.exchanges.get(id) else { return };
        let (judged, endpoint) = (exchange.judged, exchange.endpoint);
        let is_tunnel = exchange.progress.tunnelled || exchange.is_tunnel();
        let Some(index) = endpoint.filter(|_| judged) else { return };
        let endpoint = self.mesh.endpoints.get(index as usize);
        let is_probe = endpoint.is_some_and(|endpoint| endpoint.is_probed_by(id));
        if !is_probe || self.verdict_of_answer(id) != Some(Verdict::Success) {
            return;
        }
        if is_tunnel {
            return self.judge(id, index, Some(Verdict::Success));
        }
        if let Some((service, endpoint)) = self.mesh.service_of(index)
            && let (Some(guard), Some(standing)) = (&service.guard, &mut endpoint.standing)
            && let Some(config) = &guard.breaker
        {
            standing.breaker.answering(config, now);
            self.breaker_changed(index);
        }
    }

    // ---- What that does to the endpoint ----

    /// An attempt ended; `None`: it says nothing about the endpoint.
    pub(super) fn judge(&mut self, id: ExchangeId, index: u32, verdict: Option<Verdict>) {
        let now = self.now;
        let Some((service, endpoint)) = self.mesh.service_of(index) else { return };
        let (Some(guard), Some(standing)) = (&mut service.guard, &mut endpoint.standing) else {
            return;
        };
        let Some(config) = &guard.breaker else { return };
        if standing.probe == Some(id) {
            standing.probe = None;
            let unit = self.rng.unit();
            if let Some(wait) = standing.breaker.probed(config, verdict, unit, now) {
                self.ejected(index, Trip::Probe, wait);
            } else if verdict == Some(Verdict::Success) {
                self.readmitted(index);
            }
            return self.breaker_changed(index);
        }
        let Some(verdict) = verdict else { return };
        let Some(trip) = standing.breaker.record(config, verdict, now) else { return };
        let (ejected, endpoints) = (guard.ejected, guard.members);
        if ejected >= config.floor(endpoints) && !canary!(NoFloor) {
            service.stats.decisions.count(Decision::EjectionSpared);
            let (service, addr) = (Arc::clone(&service.name), endpoint.addr);
            return self.emit(Event::EjectionSpared { service, addr, trip, ejected, endpoints });
        }
        let wait = standing.breaker.eject(config, self.rng.unit(), now);
        self.ejected(index, trip, wait);
        self.breaker_changed(index);
    }

    /// The backoff of an endpoint is over, or its probe has taken too long.
    pub(super) fn breaker_due(&mut self, index: u32) {
        let now = self.now;
        let Some((service, endpoint)) = self.mesh.service_of(index) else { return };
        let (Some(guard), Some(standing)) = (&service.guard, &mut endpoint.standing) else {
            return;
        };
        let Some(config) = &guard.breaker else { return };
        let was_ejected = standing.breaker.is_ejected();
        if let Some(wait) = standing.breaker.timeout(config, self.rng.unit(), now) {
            standing.probe = None;
            self.ejected(index, Trip::Probe, wait);
        } else if was_ejected && !standing.breaker.is_ejected() {
            standing.probe = None;
            self.readmitted(index);
        }
        self.breaker_changed(index);
    }

    /// Puts an endpoint back into rotation although nothing says that it is well.
    pub(super) fn readmit(&mut self, index: u32) {
        let Some((_, endpoint)) = self.mesh.service_of(index) else { return };
        let Some(standing) = &mut endpoint.standing else { return };
        standing.breaker.readmit();
        standing.probe = None;
        self.readmitted(index);
        self.breaker_changed(index);
    }

    /// The breaker of an endpoint is in another state.
    fn breaker_changed(&mut self, index: u32) {
        let Some((_, endpoint)) = self.mesh.service_of(index) else { return };
        let owner = endpoint.service;
        let deadline = endpoint.standing.as_ref().and_then(|standing| standing.breaker.deadline());
        match deadline {
            Some(_) if canary!(EjectedForEver) => {}
            Some(due) => self.timers.breakers.set(index, due),
            None => self.timers.breakers.clear(index),
        }
        self.stand(index);
        self.wake(owner);
    }

    /// There may be an endpoint for those that wait now, or none any more for those that come. They
    /// are looked at in a turn of their own: an exchange is about to end.
    pub(super) fn wake(&mut self, index: u32) {
        let Some(service) = self.mesh.services.get(index as usize) else { return };
        if service.balancer.ready_len() == 0 {
            self.arm_failfast(index);
        } else if service.failing || service.failfast_armed || !service.queue.is_empty() {
            self.timers.services.set(index, self.now);
        }
    }

    fn ejected(&mut self, index: u32, trip: Trip, retry_in: Duration) {
        let Some((service, endpoint)) = self.mesh.service_of(index) else { return };
        service.stats.decisions.count(Decision::Ejected);
        let (service, addr) = (Arc::clone(&service.name), endpoint.addr);
        self.emit(Event::EndpointEjected { service, addr, trip, retry_in });
    }

    fn readmitted(&mut self, index: u32) {
        let Some((service, endpoint)) = self.mesh.service_of(index) else { return };
        service.stats.decisions.count(Decision::Readmitted);
        let (service, addr) = (Arc::clone(&service.name), endpoint.addr);
        self.emit(Event::EndpointReadmitted { service, addr });
    }
}

/// A gRPC status as it is kept: what is no status is UNKNOWN.
pub(super) fn grpc_code(status: u16) -> u8 {
    u8::try_from(status).ok().filter(|&code| code <= 16).unwrap_or(2)
}
