//! What an engine has counted, as a value.

use alloc::sync::Arc;
use alloc::vec::Vec;

use super::Engine;
use super::contract::Direction;
use super::mesh::{Service, ServiceKind};
use crate::stats::{EndpointSnapshot, Gauges, RequestStats, ServiceSnapshot, Snapshot};

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
                    endpoints: Vec::new(),
                });
            }
        }
        Snapshot {
            directions: self.directions.clone(),
            services,
            identity: self.identity_snapshot(),
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

    fn service_snapshot(&self, service: &Service) -> ServiceSnapshot {
        let indices = service.targets.iter().flat_map(|target| &target.endpoints);
        let endpoints = indices.filter_map(|&index| self.mesh.endpoints.get(index as usize));
        ServiceSnapshot {
            name: Arc::clone(&service.name),
            direction: service.direction,
            stats: service.stats.clone(),
            failfast: service.failing,
            queued: service.queued + service.gate.queued(),
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
