//! What an engine says of its endpoints, how it checks them, and whether that is what it should.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use selvedge_core::config::{Config, Service, Target};
use selvedge_core::engine::Event as Told;
use selvedge_core::time::Time;

use super::EngineHost;
use crate::sim::availability::Scene;
use crate::sim::fault::Fault;
use crate::sim::invariant::{Check, Invariant};
use crate::sim::net::{HostId, Net};

/// From a check to the end of the next one, at most.
const LONGEST: Duration = Duration::from_secs(9);
/// So many services may have one endpoint in common.
const SHARED: usize = 4;

impl EngineHost {
    /// Has it endpoints that are judged?
    fn judges(&self, net: &Net<'_>) -> Option<usize> {
        let HostId::Engine(index) = self.id else { return None };
        let index = usize::from(index);
        (net.mix.guarded && index < net.model.watches.len()).then_some(index)
    }

    /// It says something.
    pub(super) fn hear(&mut self, net: &mut Net<'_>, event: &Told) -> Check {
        let Some(index) = self.judges(net) else { return Ok(()) };
        let addr = match event {
            Told::EndpointEjected { addr, .. } | Told::EjectionSpared { addr, .. } => Some(*addr),
            Told::EndpointProbed { .. }
            | Told::EndpointReadmitted { .. }
            | Told::CheckFailed { .. }
            | Told::CheckPassed { .. }
            | Told::PanicEntered { .. }
            | Told::PanicLeft { .. } => None,
            _ => return Ok(()),
        };
        self.judged = true;
        let model = &mut net.model;
        let app = addr.and_then(|addr| model.places.iter().find(|place| place.0 == addr));
        let blame = app.map(|&(_, app)| &mut model.blames[usize::from(app)]);
        let mut scene =
            Scene { checks: &mut net.checks, mix: &net.mix, config: &self.config, now: net.now };
        model.watches[index].hear(&mut scene, event, blame)
    }

    /// What it holds of its endpoints is what it has said; and its checks go on, and end.
    pub(super) fn check_judged(&mut self, net: &mut Net<'_>) -> Check {
        self.judged = false;
        let Some(index) = self.judges(net) else { return Ok(()) };
        let mut scene =
            Scene { checks: &mut net.checks, mix: &net.mix, config: &self.config, now: net.now };
        net.model.watches[index].compare(&mut scene, &self.engine.snapshot())
    }

    /// It will be told of other endpoints.
    pub(super) fn will_change(&mut self, net: &mut Net<'_>) {
        if let Some(index) = self.judges(net) {
            net.model.watches[index].is_changing = true;
        }
    }

    /// It was told of other endpoints, or began. Who is not there any more is not checked.
    pub(super) fn has_changed(&mut self, net: &mut Net<'_>, before: Option<&Config>) -> Check {
        let Some(index) = self.judges(net) else { return Ok(()) };
        let snapshot = self.engine.snapshot();
        net.model.watches[index].learn(&snapshot, [before, Some(&self.config)], net.now);
        self.looked.clear();
        // What was planned before stays so.
        self.looks_since = net.now + if before.is_some() { LONGEST } else { Duration::ZERO };
        for socket in self.sockets.iter().flatten().filter(|socket| socket.check.is_some()) {
            if !self.engine.is_check(socket.conn) {
                // It is over, and its connection is being closed.
                continue;
            }
            let to = net.links[socket.link as usize].to;
            let checked = self.checked_by(to).next().is_some();
            net.checks.that(Invariant::Checked, checked, || {
                format!("{} still checks {to}, which is no endpoint any more", self.id)
            })?;
        }
        self.check_judged(net)
    }

    /// The services that have this endpoint checked.
    fn checked_by(&self, addr: SocketAddr) -> impl Iterator<Item = &Service> {
        let services = self.config.services.iter();
        services.filter(move |service| {
            service.health_check.is_some()
                && service.endpoints.iter().any(|endpoint| match &endpoint.target {
                    Target::Addr(target) => *target == addr,
                    Target::Name { port, .. } => {
                        let mut ips = self.names.values().flatten();
                        *port == addr.port() && ips.any(|&ip| ip == addr.ip())
                    }
                })
        })
    }

    /// It begins a check of this endpoint. Returns how long that may take.
    pub(super) fn begins_check(
        &mut self,
        net: &mut Net<'_>,
        addr: SocketAddr,
    ) -> Result<Duration, Box<crate::sim::Violation>> {
        let checks = self.checked_by(addr).filter_map(|service| service.health_check.as_ref());
        let timeout = checks.map(|check| check.timeout).max();
        net.checks.that(Invariant::Checked, timeout.is_some(), || {
            format!("{} checks {addr}, which is not to be checked", self.id)
        })?;
        let looked = self.looked.entry(addr).or_default();
        looked.push_back(net.now);
        if looked.len() > SHARED {
            looked.pop_front();
        }
        Ok(timeout.unwrap_or_default())
    }

    /// No check takes longer than it may, and none is forgotten.
    pub(super) fn check_looks(&self, net: &mut Net<'_>) -> Check {
        if self.judges(net).is_none() {
            return Ok(());
        }
        let (now, slack) = (net.now, net.mix.slack());
        for socket in self.sockets.iter().flatten() {
            let Some(timeout) = socket.check else { continue };
            let link = &net.links[socket.link as usize];
            let (due, to) = (link.since + timeout + slack, link.to);
            net.checks.that(Invariant::Checked, now <= due, || {
                format!("{} still checks {to} at {now:?}, until {due:?}", self.id)
            })?;
        }
        // What it cannot do itself says nothing about others.
        let unable = net.mix.has(Fault::SmallLimits) || net.mix.doubts_identities();
        if unable || self.draining {
            return Ok(());
        }
        let endpoints = self.config.services.iter().flat_map(|service| &service.endpoints);
        let fixed = endpoints.filter_map(|endpoint| match endpoint.target {
            Target::Addr(addr) => Some(addr),
            Target::Name { .. } => None,
        });
        for addr in fixed {
            // By its address: who else has a name for it is not known to mean it now.
            let by_address = self.checked_by(addr).filter(|service| {
                service.endpoints.iter().any(|endpoint| endpoint.target == Target::Addr(addr))
            });
            let all: Vec<_> =
                by_address.filter_map(|service| service.health_check.as_ref()).collect();
            let longest = all.iter().map(|check| check.interval * 5 / 4 + check.timeout).max();
            let Some(longest) = longest else { continue };
            let due = self.looks_since.max(self.nth_last_look(addr, all.len())) + longest + slack;
            net.checks.that(Invariant::Checked, now <= due, || {
                format!("{} has not checked {addr} at {now:?}, and should by {due:?}", self.id)
            })?;
        }
        Ok(())
    }

    /// When it began the check of an endpoint, the `n`th from the last.
    fn nth_last_look(&self, addr: SocketAddr, n: usize) -> Time {
        let looked: Option<&VecDeque<Time>> = self.looked.get(&addr);
        looked.and_then(|looked| looked.iter().nth_back(n - 1)).copied().unwrap_or(Time::ZERO)
    }

    /// A check is over: not later than it may be.
    pub(super) fn check_ends(&self, net: &mut Net<'_>, since: Time, timeout: Duration) -> Check {
        let due = since + timeout + net.mix.slack();
        net.checks.that(Invariant::Checked, net.now <= due, || {
            format!("{} ends a check at {:?} that was due at {due:?}", self.id, net.now)
        })
    }

    /// The names of the services that it has judged, and whose endpoints are all asked if somebody is:
    /// requests with keys go where these belong.
    pub(in crate::sim) fn guarded(&self) -> impl Iterator<Item = &Arc<str>> {
        let services = self.config.services.iter();
        let judged = services.filter(|it| it.breaker.is_some() || it.health_check.is_some());
        let free = |it: &&Service| {
            !it.balancing.kind.is_hash() && it.balancing.endpoint_affinity().is_none()
        };
        judged.filter(free).map(|service| &service.name)
    }
}
