//! What routes do to exchanges.

use alloc::boxed::Box;
use alloc::string::String;
use alloc::sync::Arc;
use core::num::NonZeroU64;

use super::Engine;
use super::contract::{Direction, Event};
use super::exchange::{ExchangeId, Traits};
use super::mesh::Service;
use super::retry::Tries;
use crate::balance::{LoadBound, Why};
use crate::error::Reason;
use crate::http::{Answer, Request, authority, grpc};
use crate::http2::StreamKey;
use crate::policy::wishes;
use crate::policy::{Backend, Failure, Fixed, Route, Split};
use crate::stats::Decision;
use crate::time::Time;

/// What a route says about one exchange. It stays what it was when the exchange began, whatever is
/// configured meanwhile.
#[derive(Debug)]
pub(crate) struct Policy {
    pub(crate) route: Arc<Route>,
    /// The service of the route, by its index when the exchange began: that may be another's now.
    parent: u32,
    pub(super) tries: Tries,
    /// None of its route's times can be over before this.
    pub(super) earliest: Time,
    /// The request asked for less time than its route gives: when that is up, it says nothing about
    /// the endpoint.
    pub(super) hurried: bool,
    /// Its copy, until it is known to be over.
    pub(super) mirror: Option<ExchangeId>,
}

impl Policy {
    /// At the beginning of an exchange.
    pub(super) fn new(route: Arc<Route>, parent: u32) -> Self {
        let (tries, earliest) = (Tries::default(), Time::ZERO);
        Policy { route, parent, tries, earliest, hurried: false, mirror: None }
    }
}

/// Where a request goes, and by which route.
pub(super) struct Selected {
    pub(super) service: u32,
    pub(super) policy: Option<Box<Policy>>,
    pub(super) key: Option<NonZeroU64>,
}

impl From<u32> for Selected {
    fn from(service: u32) -> Self {
        Selected { service, policy: None, key: None }
    }
}

impl Selected {
    /// Its route, if that answers some requests itself, or changes them.
    pub(super) fn acting_route(&self) -> Option<Arc<Route>> {
        let route = &self.policy.as_ref()?.route;
        let acts = route.fixed.is_some() || !route.changes.request.is_empty();
        acts.then(|| Arc::clone(route))
    }

    /// Is the request, or a part of such, copied to another service?
    pub(super) fn is_mirrored(&self) -> bool {
        self.policy.as_ref().is_some_and(|policy| policy.route.mirror.is_some())
    }
}

/// What a request that goes nowhere is told.
pub(super) enum FixedAnswer {
    Redirect { status: u16, location: String },
    Failure(Failure),
    Refused { reason: Reason, retry_after: String },
}

impl FixedAnswer {
    fn answer(&self, is_grpc: bool) -> Answer<'_> {
        match self {
            FixedAnswer::Redirect { status, location } => Answer {
                status: *status,
                grpc: None,
                message: "",
                extra: Some(("location", location)),
            },
            FixedAnswer::Failure(failure) => Answer {
                status: failure.status,
                grpc: is_grpc.then(|| failure.grpc.unwrap_or(grpc::code(failure.status))),
                message: &failure.message,
                extra: None,
            },
            FixedAnswer::Refused { reason, retry_after } => {
                Answer { extra: Some(("retry-after", retry_after)), ..Answer::of(*reason, is_grpc) }
            }
        }
    }

    /// What it is counted as, if it is a refusal.
    fn reason(&self) -> Option<Reason> {
        match self {
            FixedAnswer::Redirect { .. } => None,
            FixedAnswer::Failure(_) => Some(Reason::FailureInjected),
            FixedAnswer::Refused { reason, .. } => Some(*reason),
        }
    }
}

impl Engine {
    /// The service of a request: its route's, else that of whom it asks.
    pub(super) fn select(
        &mut self,
        index: u32,
        request: &Request<'_>,
        authority: Option<&[u8]>,
    ) -> Result<Selected, Reason> {
        if !self.config.routes.is_empty()
            && let Some((route, parent)) = self.find_route(index, request, authority)?
        {
            return Ok(self.follow(index, route, parent, request));
        }
        let service = self.route(index, authority)?;
        let key = self.endpoint_key(index, service, None, Some(request));
        Ok(Selected { service, policy: None, key })
    }

    /// The route of a request and its service; `None`: no routes are for it.
    fn find_route(
        &mut self,
        index: u32,
        request: &Request<'_>,
        authority: Option<&[u8]>,
    ) -> Result<Option<(Arc<Route>, u32)>, Reason> {
        let direction = self.conns.get(index).map(|conn| conn.direction);
        if direction != Some(Direction::Outbound) || request.is_connect {
            return Ok(None);
        }
        let (routes, mesh) = (&self.config.routes, &self.mesh);
        let spelled = authority.and_then(|authority| mesh.spellings.get(authority));
        let asked = spelled.and_then(|spelled| mesh.services.get(spelled as usize));
        let (found, covered) = if let Some(service) = asked {
            (routes.find_of(&service.routes, request), service.routes.is_covered())
        } else {
            self.authority.clear();
            if let Some(authority) = authority
                && authority::normalize(authority, 80, &mut self.authority).is_err()
            {
                return Ok(None);
            }
            let name = self.authority.as_str();
            let found = routes.find(name, request);
            let is_service = || mesh.by_name.contains_key(name);
            (found, found.is_none() && routes.covers(name, is_service()))
        };
        match found {
            Some(route) => {
                let own = spelled.filter(|_| asked.is_some_and(|service| service.routes.is_own()));
                let parent = own.or_else(|| mesh.by_name.get(&route.service).copied());
                Ok(Some((Arc::clone(route), parent.ok_or(Reason::UnknownAuthority)?)))
            }
            None if covered && !canary!(Unrouted) => Err(Reason::NoRoute),
            None => Ok(None),
        }
    }

    fn follow(
        &mut self,
        index: u32,
        route: Arc<Route>,
        parent: u32,
        request: &Request<'_>,
    ) -> Selected {
        let (mut split_key, mut service) = (None, parent);
        if !matches!(route.split, Split::None) {
            split_key = self.split_key(index, parent, &route, request);
            service = self.draw(&route, split_key).unwrap_or(parent);
        }
        let other = Some(parent).filter(|_| service != parent);
        let key = self.endpoint_key(index, service, other, Some(request));
        let mut policy = self.policies.fill(Policy::new(route, parent));
        if policy.route.allow_l5d_request_headers {
            let inherited = self.mesh.services.get(service as usize);
            let inherited = inherited.and_then(|service| service.times.request);
            let wished = wishes::apply(&policy.route, request.head.fields, inherited);
            policy.hurried = wishes::shorten(&policy.route, &wished, inherited);
            policy.route = wished;
        } else {
            policy.earliest = self.now + self.config.routes.shortest_timeout();
        }
        if let Some(retry) = &policy.route.retry {
            let listed = retry.allows_method(request.head.method);
            policy.tries.method = listed || canary!(RetriedPost);
            if !matches!(policy.route.split, Split::None) {
                policy.tries.redraw =
                    self.redraw(index, parent, &policy.route, (split_key, key), request);
            }
        }
        Selected { service, policy: Some(policy), key }
    }

    /// Draws one of the services that a route's requests are shared out to: the one that a key belongs
    /// to, if there is one.
    pub(super) fn draw(&mut self, route: &Route, key: Option<u64>) -> Option<u32> {
        if matches!(route.split, Split::None) {
            return None;
        }
        let mesh = &self.mesh;
        let service = |name: &str| -> Option<&Service> {
            mesh.services.get(*mesh.by_name.get(name)? as usize)
        };
        let is_available =
            |backend: &Backend| service(&backend.service).is_some_and(Service::is_available);
        // If none is: one that can be asked at all.
        let is_ready = |backend: &Backend| {
            service(&backend.service).is_some_and(|service| service.balancer.ready_len() > 0)
        };
        let judges = |backend: &Backend| {
            service(&backend.service).is_some_and(|service| service.guard.is_some())
        };
        let (drawn, why) = if let Some(key) = key {
            let bound = service(&route.service)
                .and_then(|parent| parent.balancing.sticky.as_ref())
                .map_or(LoadBound::NONE, |sticky| sticky.load_bound);
            let none = !route.split.backends().iter().any(is_available);
            let counts = |backend: &Backend| is_available(backend) || (none && is_ready(backend));
            route.split.draw_by(key, bound, counts, |backend| {
                service(&backend.service).map_or(0, |service| service.exchanges)
            })?
        } else if canary!(JudgedShares) && route.split.backends().iter().all(judges) {
            (route.split.backends().iter().find(|backend| backend.weight > 0)?, Why::Balanced)
        } else {
            let mut drawn = route.split.draw(&mut self.rng, is_available)?;
            if !is_available(drawn) && route.split.backends().iter().any(judges) {
                drawn = route.split.draw(&mut self.rng, is_ready)?;
            }
            (drawn, Why::Balanced)
        };
        let index = mesh.by_name.get(&drawn.service).copied();
        self.count_draw(route, &drawn.service, why);
        index
    }

    /// What a route answers this request with, if it does not let it go on.
    pub(super) fn fixed_answer(
        &mut self,
        route: &Route,
        request: &Request<'_>,
    ) -> Option<FixedAnswer> {
        let (answer, decision) = match route.fixed.as_ref()? {
            Fixed::Redirect(redirect) => {
                let (status, location) = (redirect.status, redirect.location(request));
                (FixedAnswer::Redirect { status, location }, Decision::Redirected)
            }
            Fixed::Failure(failure) => {
                if !failure.strikes(&mut self.rng) {
                    return None;
                }
                (FixedAnswer::Failure(failure.clone()), Decision::FailureInjected)
            }
        };
        match decision {
            // A refusal, of which there is a line.
            Decision::FailureInjected => self.decided(&route.service, decision),
            _ => self.settled(&route.service, decision),
        }
        Some(answer)
    }

    /// Answers a request of HTTP/1.
    pub(super) fn answer_fixed(&mut self, index: u32, fixed: &FixedAnswer, traits: &Traits) {
        if let Some(reason) = fixed.reason() {
            self.count_refusal(index, reason, None);
        }
        self.answer_unserved_with(index, &fixed.answer(traits.grpc), traits);
    }

    /// Answers a request on a stream.
    pub(super) fn answer_stream_fixed(
        &mut self,
        index: u32,
        stream: StreamKey,
        fixed: &FixedAnswer,
        is_grpc: bool,
    ) {
        if let Some(reason) = fixed.reason() {
            self.count_refusal(index, reason, None);
        }
        self.answer_stream_with(index, stream, &fixed.answer(is_grpc));
    }

    /// Goes on with a request as its route changes it.
    pub(super) fn with_changes(
        &mut self,
        route: &Route,
        request: &Request<'_>,
        go_on: impl FnOnce(&mut Self, &Request<'_>),
    ) {
        let changes = &route.changes.request;
        if changes.is_empty() {
            return go_on(self, request);
        }
        let mut edited = core::mem::take(&mut self.edited);
        let mut changed = *request;
        changed.head.fields = edited.apply(request.head.fields, changes);
        go_on(self, &changed);
        self.edited = edited;
    }

    /// Notes what a route says about an exchange that has just begun.
    #[inline]
    pub(super) fn set_policy(&mut self, id: ExchangeId, policy: Option<Box<Policy>>) {
        if policy.is_some() {
            self.put_policy(id, policy);
        }
    }

    fn put_policy(&mut self, id: ExchangeId, policy: Option<Box<Policy>>) {
        let now = self.now;
        let Some(exchange) = self.exchanges.get_mut(id) else { return };
        if let Some(policy) = policy.as_ref().filter(|policy| policy.route.retry.is_some())
            && let Some(parent) = self.mesh.services.get_mut(policy.parent as usize)
        {
            parent.budget.attempt(now);
        }
        exchange.policy = policy;
    }

    /// The same of something that nothing else says.
    pub(super) fn settled(&mut self, service: &Arc<str>, decision: Decision) {
        self.decided(service, decision);
        self.emit(Event::Decided { service: Arc::clone(service), decision });
    }

    /// Counts what was decided about a request for a service.
    pub(super) fn decided(&mut self, service: &str, decision: Decision) {
        if let Some(&index) = self.mesh.by_name.get(service)
            && let Some(service) = self.mesh.services.get_mut(index as usize)
        {
            service.stats.decisions.count(decision);
        }
    }
}
