//! What an engine has counted, as a value.

use alloc::sync::Arc;
use alloc::vec::Vec;

use super::Engine;
use super::contract::Direction;
use super::gate::Gate;
use super::mesh::{Service, ServiceKind};
use super::ports::Port;
use crate::stats::{
    EndpointSnapshot, GateSnapshot, Gauges, RequestStats, ServiceSnapshot, Snapshot,
};

/// What is at a gate now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GateGauge<'a> {
    /// Whose it is.
    pub of: Guarded<'a>,
    /// Requests that are through and not over.
    pub in_flight: u32,
    /// Requests that wait for their turn.
    pub queued: usize,
    /// What the limit has adapted to, if it adapts.
    pub adaptive_limit: Option<u32>,
}

/// What a gate is before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Guarded<'a> {
    /// The worker.
    Worker,
    /// A service, by its name.
    Service(&'a str),
    /// A port of the app.
    Port(u16),
}

impl Engine {
    /// Everything that was counted so far, and what is held now.
    pub fn snapshot(&self) -> Snapshot {
        let mut services: Vec<ServiceSnapshot> = Vec::new();
        let mut originals = self.mesh.past_originals.clone();
        let mut queued = [0; 2];
        for (index, service) in &self.mesh.services {
            let app = self.mesh.app == Some(index as u32);
            if service.kind == ServiceKind::Named || app {
                services.push(self.service_snapshot(service));
            } else {
                // Not a series each: a peer chooses original destinations.
                originals[service.direction as usize].merge(&service.stats);
                queued[service.direction as usize] += service.queued;
            }
        }
        for direction in Direction::ALL {
            let stats: RequestStats = originals[direction as usize].clone();
            if stats != RequestStats::default() {
                services.push(ServiceSnapshot {
                    name: Arc::from("original-dst"),
                    direction,
                    stats,
                    failfast: false,
                    queued: queued[direction as usize],
                    gate: GateSnapshot::default(),
                    endpoints: Vec::new(),
                });
            }
        }
        Snapshot {
            directions: self.directions.clone(),
            services,
            ports: self.ports.iter().map(Port::snapshot).collect(),
            identity: self.identity_snapshot(),
            gate: self.gate.snapshot(),
            gauges: self.gauges(),
        }
    }

    /// What is held now.
    pub fn gauges(&self) -> Gauges {
        Gauges {
            connections: self.conns.len(),
            accepted: self.accepted,
            exchanges: self.exchanges.len(),
            handshakes: self.handshakes.clients,
            buffered_bytes: self.buffered,
        }
    }

    /// The gates that bound how many requests are in flight: of the worker, of services, then of ports
    /// of the app.
    pub fn gates(&self) -> impl Iterator<Item = GateGauge<'_>> {
        let gauge = |of, gate: &Gate| GateGauge {
            of,
            in_flight: gate.in_flight(),
            queued: gate.queued(),
            adaptive_limit: gate.adaptive_limit(),
        };
        let named = |service: &&Service| service.kind == ServiceKind::Named;
        let services = self.mesh.services.iter().map(|(_, service)| service).filter(named);
        let ports = self.ports.iter();
        core::iter::once(gauge(Guarded::Worker, &self.gate))
            .chain(
                services.map(move |service| gauge(Guarded::Service(&service.name), &service.gate)),
            )
            .chain(ports.map(move |port| gauge(Guarded::Port(port.number), &port.gate)))
    }

    fn service_snapshot(&self, service: &Service) -> ServiceSnapshot {
        let indices = service.targets.iter().flat_map(|target| &target.endpoints);
        let endpoints = indices.filter_map(|&index| self.mesh.endpoints.get(index as usize));
        ServiceSnapshot {
            name: Arc::clone(&service.name),
            direction: service.direction,
            stats: service.stats.clone(),
            failfast: service.failing,
            queued: service.queued + service.gate.queued(),
            gate: service.gate.snapshot(),
            endpoints: endpoints
                .map(|endpoint| EndpointSnapshot {
                    addr: endpoint.addr,
                    ready: service.balancer.is_ready(endpoint.member),
                    ejected: endpoint.is_ejected(),
                    unhealthy: endpoint.is_unhealthy(),
                    pending: service.balancer.pending(endpoint.member),
                    connections: endpoint.conns,
                    stats: endpoint.stats.clone(),
                })
                .collect(),
        }
    }
}
