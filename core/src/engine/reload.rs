//! A new configuration on live traffic: what is equal stays untouched.

use alloc::sync::Arc;
use alloc::vec::Vec;
use core::net::SocketAddr;

use super::Engine;
use super::contract::{Direction, Event};
use super::exchange::ExchangeId;
use super::gate::GateOf;
use super::mesh::{ServiceKind, TargetState, Times};
use crate::balance::{Member, hash};
use crate::config::{self, Config, ServiceTimeouts, Target};
use crate::error::Reason;
use crate::http2;
use crate::policy::budget::Budget;

impl Engine {
    /// Applies a configuration and says so.
    pub(super) fn reload(&mut self, config: &Arc<Config>) {
        let services = config.services.len();
        self.apply(config);
        self.emit(Event::Reloaded { services });
    }

    /// Makes services, endpoints and times those of `config`.
    pub(super) fn apply(&mut self, config: &Arc<Config>) {
        let before = core::mem::replace(&mut self.config, Arc::clone(config));
        // They keep old routes.
        self.policies.clear();
        self.http2 = Arc::new(http2_config(config));
        self.opaque_ports.clone_from(&config.opaque_ports);
        self.opaque_ports.sort_unstable();
        let unnamed = ServiceTimeouts::default();
        for (_, service) in &mut self.mesh.services {
            // Named ones get their own below.
            service.times = Times::new(&config.timeouts, &unnamed);
        }
        self.apply_app(config);
        self.gate.configure(&config.concurrency, config.workers, self.now);
        self.opens(GateOf::Worker);
        self.apply_ports(config);
        let mut names: Vec<&str> = config.services.iter().map(|service| &*service.name).collect();
        names.sort_unstable();
        let old: Vec<u32> = self.mesh.services.iter().map(|(index, _)| index as u32).collect();
        for index in old {
            let Some(service) = self.mesh.services.get(index as usize) else { continue };
            let kept = names.binary_search(&&*service.name).is_ok();
            if service.kind == ServiceKind::Named && !service.removed && !kept {
                self.remove_service(index);
            }
        }
        for service in &config.services {
            self.apply_service(config, service);
        }
        self.mesh.note_opaque();
        self.mesh.note_names(&config.services, &config.routes);
        let exchanges: Vec<ExchangeId> = self.exchanges.iter().map(|(id, _)| id).collect();
        for id in exchanges {
            self.rearm(id);
        }
        self.serve_waiting_of_removed();
        self.apply_identity(&before, config);
    }

    fn apply_app(&mut self, config: &Config) {
        let current = self.mesh.app.and_then(|app| {
            let service = self.mesh.services.get(app as usize)?;
            let endpoint = service.targets.first()?.endpoints.first()?;
            Some(self.mesh.endpoints.get(*endpoint as usize)?.addr)
        });
        if current == config.app {
            return;
        }
        if let Some(old) = self.mesh.app.take() {
            self.remove_service(old);
        }
        let Some(addr) = config.app else { return };
        let times = Times::new(&config.timeouts, &ServiceTimeouts::default());
        let name = alloc::format!("{addr}").into();
        let index = self.mesh.add_service(name, Direction::Inbound, ServiceKind::App, times);
        self.mesh.app = Some(index);
        let endpoint = config::Endpoint::new(Target::Addr(addr));
        self.add_target(index, endpoint);
    }

    fn apply_service(&mut self, config: &Config, new: &config::Service) {
        let times = Times::new(&config.timeouts, &new.timeouts);
        let index = if let Some(&index) = self.mesh.by_name.get(&new.name) {
            index
        } else if let Some(index) = self.mesh.revive(&new.name) {
            index
        } else {
            let name = Arc::clone(&new.name);
            let (direction, kind) = (Direction::Outbound, ServiceKind::Named);
            let index = self.mesh.add_service(Arc::clone(&name), direction, kind, times.clone());
            self.mesh.by_name.insert(name, index);
            index
        };
        let Some(service) = self.mesh.services.get_mut(index as usize) else { return };
        service.times = times;
        service.opaque = new.opaque;
        service.protocol = new.protocol;
        service.gate.configure(&new.concurrency, config.workers, self.now);
        // What is spent stays spent, unless the budget is another.
        let budget = (new.retry_budget, config.workers);
        if service.budget_config != budget {
            service.budget = Budget::new(&budget.0, budget.1);
            service.budget_config = budget;
        }
        service.balancer.configure(new.balancing.settings());
        service.balancing.clone_from(&new.balancing);
        service.meshed = new.endpoints.iter().any(|endpoint| endpoint.mesh.is_some());
        self.set_guard(index, new);
        self.opens(GateOf::Service(index));
        self.apply_targets(index, &new.endpoints);
        self.service_changed(index);
    }

    /// Keeps the targets that are in both lists, adds and removes the others.
    fn apply_targets(&mut self, index: u32, new: &[config::Endpoint]) {
        let Some(service) = self.mesh.services.get_mut(index as usize) else { return };
        let mut old = core::mem::take(&mut service.targets);
        for endpoint in new {
            let same = |target: &TargetState| {
                target.config.target == endpoint.target && target.config.mesh == endpoint.mesh
            };
            match old.iter().position(same) {
                Some(at) => {
                    let mut target = old.swap_remove(at);
                    target.config = endpoint.clone();
                    let local = self.is_local(endpoint);
                    for &e in &target.endpoints {
                        let member = self.mesh.endpoints[e as usize].member;
                        if let Some(service) = self.mesh.services.get_mut(index as usize) {
                            service.balancer.set_weight(member, endpoint.weight);
                            service.balancer.set_local(member, local);
                        }
                    }
                    if let Some(service) = self.mesh.services.get_mut(index as usize) {
                        service.targets.push(target);
                    }
                }
                None => self.add_target(index, endpoint.clone()),
            }
        }
        for target in old {
            self.remove_target(target);
        }
    }

    fn add_target(&mut self, service: u32, endpoint: config::Endpoint) {
        let name = self.begin_name(service, &endpoint.target);
        let mut endpoints = Vec::new();
        if let Target::Addr(addr) = endpoint.target {
            endpoints.push(self.add_endpoint(service, addr, &endpoint));
        }
        if let Some(service) = self.mesh.services.get_mut(service as usize) {
            service.targets.push(TargetState { config: endpoint, name, endpoints });
        }
    }

    /// Adds an address of a target to its service.
    pub(super) fn add_endpoint(
        &mut self,
        service: u32,
        addr: SocketAddr,
        config: &config::Endpoint,
    ) -> u32 {
        let is_self = self.is_self(addr);
        let member = Member {
            weight: config.weight,
            name: hash::member_name(addr, config.mesh.as_ref().and_then(|mesh| mesh.port)),
            local: self.is_local(config),
        };
        let index = self.mesh.add_endpoint(service, addr, &member, is_self, self.now);
        if let Some(endpoint) = self.mesh.endpoints.get_mut(index as usize) {
            endpoint.mesh.clone_from(&config.mesh);
        }
        self.admit(index);
        index
    }

    /// Is it in our zone?
    fn is_local(&self, endpoint: &config::Endpoint) -> bool {
        endpoint.zone.is_some() && endpoint.zone == self.config.zone
    }

    fn remove_target(&mut self, target: TargetState) {
        if let Some(name) = target.name {
            self.mesh.names.try_remove(name as usize);
            self.timers.names.clear(name);
        }
        for endpoint in target.endpoints {
            self.remove_endpoint(endpoint);
        }
    }

    /// No new requests; idle connections close; what is in flight goes on.
    pub(super) fn remove_endpoint(&mut self, index: u32) {
        self.dismiss(index);
        let Some((service, endpoint)) = self.mesh.service_of(index) else { return };
        if !canary!(RemovedPicked) {
            service.balancer.remove(endpoint.member);
        }
        service.own -= u32::from(endpoint.is_self);
        endpoint.removed = true;
        self.timers.endpoints.clear(index);
        self.close_idle(index);
        self.forget_removed(index);
    }

    /// Forgets an endpoint that was removed, if it has no connections and nobody waits for it.
    pub(super) fn forget_removed(&mut self, index: u32) {
        let Some(endpoint) = self.mesh.endpoints.get(index as usize) else { return };
        if endpoint.removed && endpoint.conns == 0 && endpoint.waiting.is_empty() {
            let service = endpoint.service;
            self.mesh.drop_endpoint(index);
            self.collect_service(service);
        }
    }

    fn remove_service(&mut self, index: u32) {
        let Some(service) = self.mesh.services.get_mut(index as usize) else { return };
        service.removed = true;
        service.opaque = false;
        let name = Arc::clone(&service.name);
        let targets = core::mem::take(&mut service.targets);
        let mut waiting = core::mem::take(&mut service.queue);
        waiting.append(&mut service.gate.take_queue());
        if self.mesh.by_name.get(&name) == Some(&index) {
            self.mesh.by_name.remove(&name);
        }
        self.timers.services.clear(index);
        for target in targets {
            self.remove_target(target);
        }
        for id in waiting {
            self.fail(id, Reason::UnknownAuthority);
        }
        self.collect_service(index);
    }

    /// The endpoints of a service changed: there may be a ready one now, or none any more.
    pub(super) fn service_changed(&mut self, index: u32) {
        let Some(service) = self.mesh.services.get(index as usize) else { return };
        if service.balancer.ready_len() > 0 {
            if service.failing || service.failfast_armed {
                self.service_ready(index);
            }
        } else if !service.queue.is_empty() {
            self.arm_failfast(index);
        }
    }
}

/// What HTTP/2 connections are told from now on.
fn http2_config(config: &Config) -> http2::Config {
    let mut http2 = http2::Config::default();
    let bytes = u32::try_from(config.limits.header_bytes).unwrap_or(u32::MAX);
    http2.settings.max_header_list_size = Some(bytes);
    http2.settings.enable_connect_protocol = true;
    http2.header_timeout = config.timeouts.header;
    http2
}
