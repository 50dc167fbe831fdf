//! Which endpoints may be chosen: those that are connected, not ejected, and pass their checks; and
//! when that has to be all that are connected.

use alloc::boxed::Box;
use alloc::sync::Arc;
use alloc::vec::Vec;

use super::Engine;
use super::contract::{ConnId, Event};
use super::exchange::ExchangeId;
use super::mesh::{Endpoint, Health, Service};
use crate::config;
use crate::policy::breaker::{Breaker, BreakerConfig};
use crate::policy::check::{Checks, HealthCheck};

/// What a service keeps of its endpoints, if it has them judged.
#[derive(Debug)]
pub(crate) struct Guard {
    pub(super) breaker: Option<BreakerConfig>,
    pub(super) check: Option<HealthCheck>,
    /// The share of endpoints that has to be available.
    panic: f64,
    /// Endpoints that may be asked at all: members that are no sockets of ours.
    pub(super) members: u32,
    connected: u32,
    /// Of the connected ones: those that nothing is said against.
    available: u32,
    /// Members out of rotation.
    pub(super) ejected: u32,
    /// Too few are available: what is said against them does not count.
    pub(super) panicking: bool,
    /// Connected endpoints that one request may be sent to, the longest waiting first.
    unprobed: Vec<u32>,
}

/// What such a service keeps of one endpoint.
#[derive(Debug, Default)]
pub(crate) struct Standing {
    pub(super) breaker: Breaker,
    /// Its probe.
    pub(super) probe: Option<ExchangeId>,
    pub(super) checks: Checks,
    /// The connection of the check that is under way.
    pub(super) asking: Option<ConnId>,
    counted: Counted,
}

/// What an endpoint is counted as.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Counted {
    connected: bool,
    available: bool,
    healthy: bool,
    ejected: bool,
    unprobed: bool,
}

impl Service {
    /// Has it an endpoint that nothing is said against?
    pub(crate) fn is_available(&self) -> bool {
        let available = |guard: &Guard| guard.available > 0 || !guard.unprobed.is_empty();
        self.balancer.ready_len() > 0 && self.guard.as_deref().is_none_or(available)
    }

    /// The endpoint that the next request shows how it does, unless it was one of `tried`. Where
    /// requests have keys it is the next one with a key of that endpoint, for the balancer to find.
    pub(super) fn next_probe(&self, tried: &[u32]) -> Option<u32> {
        let guard = self.guard.as_ref()?;
        if self.balancer.settings().kind.is_hash() && guard.available > 0 {
            return None;
        }
        guard.unprobed.iter().find(|&endpoint| !tried.contains(endpoint)).copied()
    }
}

impl Endpoint {
    /// Is this exchange its probe?
    pub(super) fn is_probed_by(&self, id: ExchangeId) -> bool {
        self.standing.as_ref().is_some_and(|standing| standing.probe == Some(id))
    }

    /// Has it failed too much to be asked?
    pub(super) fn is_ejected(&self) -> bool {
        self.standing.as_ref().is_some_and(|standing| standing.counted.ejected)
    }

    /// Does it not pass its checks, or was it not checked yet?
    pub(super) fn is_unhealthy(&self) -> bool {
        self.standing.as_ref().is_some_and(|standing| !standing.counted.healthy)
    }

    fn is_connected(&self, certified: bool) -> bool {
        let up = matches!(self.health, Health::Up { .. });
        up && !self.is_self && !self.removed && (self.mesh.is_none() || certified)
    }
}

impl Guard {
    fn new(new: &config::Service, workers: u32) -> Self {
        Guard {
            breaker: new.breaker.clone().map(|breaker| breaker.share(workers)),
            check: new.health_check.clone(),
            panic: new.panic.unwrap_or(config::Service::PANIC),
            members: 0,
            connected: 0,
            available: 0,
            ejected: 0,
            panicking: false,
            unprobed: Vec::new(),
        }
    }

    /// Do breakers count the same by it as by the other?
    fn counts_like(&self, other: &Guard) -> bool {
        let rate = |guard: &Guard| guard.breaker.as_ref().map(|breaker| breaker.success_rate);
        rate(self) == rate(other)
    }

    /// Counts an endpoint as what it is now. Returns whether it may be chosen.
    fn count(&mut self, index: u32, standing: &mut Standing, connected: bool) -> bool {
        let ejected = standing.breaker.is_ejected();
        let passes = standing.checks.passes() || canary!(UnhealthyPicked);
        let healthy = self.check.is_none() || passes;
        let now = Counted {
            connected,
            available: connected && healthy && !ejected,
            healthy,
            ejected,
            unprobed: connected && healthy && standing.breaker.wants_probe(),
        };
        let was = core::mem::replace(&mut standing.counted, now);
        for (count, was, is) in [
            (&mut self.connected, was.connected, now.connected),
            (&mut self.available, was.available, now.available),
            (&mut self.ejected, was.ejected, now.ejected),
        ] {
            *count = *count + u32::from(is) - u32::from(was);
        }
        match (was.unprobed, now.unprobed) {
            (false, true) => self.unprobed.push(index),
            (true, false) => self.unprobed.retain(|&other| other != index),
            _ => {}
        }
        self.lets(now)
    }

    fn lets(&self, counted: Counted) -> bool {
        counted.available || counted.unprobed || counted.connected && self.panicking
    }

    /// Is too little available? Only where more would be if nothing were said against it.
    fn is_short(&self) -> bool {
        let short = f64::from(self.available) < self.panic * f64::from(self.members);
        let ignored = canary!(EndlessPanic) && self.panicking;
        ignored || self.available < self.connected && (short || self.available == 0)
    }
}

impl Engine {
    /// Has the endpoints of a service judged as it is configured, from now on. What is known of them
    /// stays.
    pub(super) fn set_guard(&mut self, index: u32, new: &config::Service) {
        let (workers, certified) = (self.config.workers, self.is_certified());
        let members = self.members_of(index);
        let Some(service) = self.mesh.services.get_mut(index as usize) else { return };
        let was = service.guard.take();
        let judges = new.breaker.is_some() || new.health_check.is_some();
        if was.is_none() && !judges {
            return;
        }
        let mut guard = judges.then(|| Box::new(Guard::new(new, workers)));
        let checked = was.as_ref().is_some_and(|was| was.check.is_some());
        let mut begin = Vec::new();
        for index in members {
            if new.health_check.is_none() {
                self.stop_check(index);
            }
            let Some(endpoint) = self.mesh.endpoints.get_mut(index as usize) else { continue };
            let Some(guard) = guard.as_mut().filter(|_| !endpoint.is_self) else {
                endpoint.standing = None;
                self.timers.breakers.clear(index);
                continue;
            };
            let connected = endpoint.is_connected(certified);
            let standing = endpoint.standing.get_or_insert_default();
            standing.counted = Counted::default();
            if was.as_ref().is_some_and(|was| !was.counts_like(guard)) {
                standing.breaker.forget();
            }
            if guard.breaker.is_none() {
                standing.breaker.readmit();
                standing.probe = None;
                self.timers.breakers.clear(index);
            }
            if guard.check.is_some() && !checked {
                // It was good enough until now.
                standing.checks = Checks::passing();
                begin.push(index);
            }
            guard.members += 1;
            guard.count(index, standing, connected);
        }
        if let Some(guard) = &mut guard {
            guard.panicking = was.is_some_and(|was| was.panicking);
        }
        if let Some(service) = self.mesh.services.get_mut(index as usize) {
            service.guard = guard;
        }
        for endpoint in begin {
            self.plan_check(endpoint);
        }
        self.hold_floor(index);
        self.weigh(index);
        self.tell(index);
    }

    /// An endpoint became a member of its service.
    pub(super) fn admit(&mut self, index: u32) {
        let Some((service, endpoint)) = self.mesh.service_of(index) else { return };
        if let Some(guard) = &mut service.guard
            && !endpoint.is_self
        {
            guard.members += 1;
            endpoint.standing.get_or_insert_default();
            self.plan_check(index);
        }
        self.stand(index);
    }

    /// An endpoint is no longer a member of its service.
    pub(super) fn dismiss(&mut self, index: u32) {
        self.timers.breakers.clear(index);
        if !canary!(LingeringCheck) {
            self.stop_check(index);
        }
        let Some((service, endpoint)) = self.mesh.service_of(index) else { return };
        if let (Some(guard), Some(mut standing)) = (&mut service.guard, endpoint.standing.take()) {
            standing.breaker.readmit();
            guard.count(index, &mut standing, false);
            guard.members -= 1;
            let owner = endpoint.service;
            self.hold_floor(owner);
            self.weigh(owner);
        }
    }

    /// Tells the balancer whether an endpoint may be chosen. To be called whenever that may be
    /// another answer than before.
    pub(super) fn stand(&mut self, index: u32) {
        let (now, certified) = (self.now, self.is_certified());
        let Some((service, endpoint)) = self.mesh.service_of(index) else { return };
        let connected = endpoint.is_connected(certified);
        let (Some(guard), Some(standing)) = (&mut service.guard, &mut endpoint.standing) else {
            return service.balancer.set_ready(endpoint.member, connected, now);
        };
        let ready = guard.count(index, standing, connected);
        service.balancer.set_ready(endpoint.member, ready, now);
        let owner = endpoint.service;
        self.weigh(owner);
    }

    /// Begins or ends to ignore what is said against endpoints. Looks at all of them only then.
    fn weigh(&mut self, index: u32) {
        let Some(service) = self.mesh.services.get_mut(index as usize) else { return };
        let Some(guard) = &mut service.guard else { return };
        let short = guard.is_short();
        if core::mem::replace(&mut guard.panicking, short) == short {
            return;
        }
        let (available, endpoints) = (guard.available, guard.members);
        let name = Arc::clone(&service.name);
        self.emit(if short {
            Event::PanicEntered { service: name, available, endpoints }
        } else {
            Event::PanicLeft { service: name, available, endpoints }
        });
        self.tell(index);
    }

    /// Tells the balancer of a service which of its endpoints may be chosen.
    fn tell(&mut self, index: u32) {
        let (now, certified) = (self.now, self.is_certified());
        for endpoint in self.members_of(index) {
            let Some((service, endpoint)) = self.mesh.service_of(endpoint) else { continue };
            let ready = match (&service.guard, &endpoint.standing) {
                (Some(guard), Some(standing)) => guard.lets(standing.counted),
                _ => endpoint.is_connected(certified),
            };
            service.balancer.set_ready(endpoint.member, ready, now);
        }
    }

    /// Fewer may be ejected than are: those that would be asked soonest are asked again.
    fn hold_floor(&mut self, index: u32) {
        while let Some(service) = self.mesh.services.get(index as usize)
            && let Some(guard) = &service.guard
            && let Some(config) = &guard.breaker
            && guard.ejected > config.floor(guard.members)
        {
            let until = |&endpoint: &u32| {
                let standing = self.mesh.endpoints.get(endpoint as usize)?.standing.as_ref()?;
                standing.breaker.is_ejected().then(|| standing.breaker.deadline())
            };
            let ejected = self.members_of(index).into_iter().filter(|e| until(e).is_some());
            let Some(endpoint) = ejected.min_by_key(until) else { return };
            self.readmit(endpoint);
        }
    }

    /// The members of a service.
    fn members_of(&self, index: u32) -> Vec<u32> {
        let Some(service) = self.mesh.services.get(index as usize) else { return Vec::new() };
        // Of members that are gone, the table may still have what was theirs.
        let is_member = |&(at, &endpoint): &(usize, &u32)| {
            self.mesh.endpoints.get(endpoint as usize).is_some_and(|endpoint| {
                let here = endpoint.service == index && endpoint.member.index() == at;
                here && !endpoint.removed
            })
        };
        let all = service.members.iter().enumerate().filter(is_member);
        all.map(|(_, &endpoint)| endpoint).collect()
    }

    /// What was said of endpoints is what is counted, and what the balancer was told.
    pub(super) fn check_availability(&self) -> Result<(), alloc::string::String> {
        let certified = self.is_certified();
        for (index, service) in &self.mesh.services {
            let Some(guard) = &service.guard else { continue };
            let members = self.members_of(index as u32);
            let all = members.iter().filter_map(|&endpoint| {
                let endpoint = self.mesh.endpoints.get(endpoint as usize)?;
                Some((endpoint, endpoint.standing.as_ref()?))
            });
            let count = |is: &dyn Fn(&Endpoint, &Standing) -> bool| {
                all.clone().filter(|(endpoint, standing)| is(endpoint, standing)).count() as u32
            };
            let counts = [
                (count(&|_, _| true), guard.members, "members"),
                (count(&|e, _| e.is_connected(certified)), guard.connected, "connected"),
                (count(&|_, s| s.breaker.is_ejected()), guard.ejected, "ejected"),
                (count(&|_, s| s.counted.available), guard.available, "available"),
                (count(&|_, s| s.counted.unprobed), guard.unprobed.len() as u32, "unprobed"),
            ];
            for (is, counted, what) in counts {
                if is != counted {
                    let name = &service.name;
                    return Err(alloc::format!("{name}: {is} {what}, counted {counted}"));
                }
            }
            let floor = guard.breaker.as_ref().map_or(0, |breaker| breaker.floor(guard.members));
            if guard.ejected > floor || guard.panicking != guard.is_short() {
                return Err(alloc::format!("{}: {guard:?}", service.name));
            }
            for (endpoint, standing) in all {
                let ready = service.balancer.is_ready(endpoint.member);
                if ready != guard.lets(standing.counted) {
                    return Err(alloc::format!("{}: ready {ready}, {standing:?}", endpoint.addr));
                }
            }
        }
        Ok(())
    }
}
