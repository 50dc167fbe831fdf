//! Which endpoints may be chosen: failures, backoff, probes.

use alloc::sync::Arc;

use super::Engine;
use super::contract::Event;
use super::mesh::Health;
use crate::error::Reason;
use crate::time::Duration;

impl Engine {
    /// A connection to an endpoint was refused, reset or timed out.
    pub(super) fn endpoint_down(&mut self, index: u32, reason: Reason) {
        let Some((service, endpoint)) = self.mesh.service_of(index) else { return };
        if service.kind.is_fixed() || endpoint.removed {
            return;
        }
        let failures = match endpoint.health {
            Health::Up { failures } | Health::Down { failures, probing: true } => failures + 1,
            // It is known; a late failure of another connection changes nothing.
            Health::Down { probing: false, .. } => return,
        };
        endpoint.health = Health::Down { failures, probing: false };
        let (name, addr) = (Arc::clone(&service.name), endpoint.addr);
        let owner = endpoint.service;
        self.stand(index);
        let retry_in = self.arm_backoff(index, failures);
        self.emit(Event::EndpointDown { service: name, addr, reason, retry_in });
        self.close_idle(index);
        self.serve_waiting(index);
        self.arm_failfast(owner);
    }

    /// Sets the time of the next attempt to connect: doubling, with jitter.
    pub(super) fn arm_backoff(&mut self, endpoint: u32, failures: u32) -> Duration {
        let timeouts = &self.config.timeouts;
        let doublings = failures.saturating_sub(1).min(20);
        let base = timeouts.backoff_min.saturating_mul(1 << doublings).min(timeouts.backoff_max);
        // linkerd2-proxy: a tenth of jitter, so that proxies do not knock in step.
        let wait = base + base.mul_f64(0.1 * self.rng.unit());
        self.timers.endpoints.set(endpoint, self.now + wait);
        wait
    }

    /// The backoff is over: a connect without a request finds out.
    pub(super) fn probe(&mut self, index: u32) {
        let certified = self.is_certified();
        let Some(endpoint) = self.mesh.endpoints.get_mut(index as usize) else { return };
        if let Health::Down { failures, probing: false } = endpoint.health
            && !endpoint.removed
        {
            if endpoint.mesh.is_some() && !certified {
                // It cannot be spoken to; the wait begins anew.
                self.arm_backoff(index, failures);
                return;
            }
            endpoint.health = Health::Down { failures, probing: true };
            self.connect(index, None);
        }
    }

    /// A connection to an endpoint was made.
    pub(super) fn endpoint_up(&mut self, index: u32) {
        let Some((service, endpoint)) = self.mesh.service_of(index) else { return };
        let Health::Down { failures, .. } = endpoint.health else { return };
        if endpoint.removed {
            return;
        }
        endpoint.health = Health::Up { failures };
        let (name, addr, owner) = (Arc::clone(&service.name), endpoint.addr, endpoint.service);
        self.stand(index);
        self.timers.endpoints.clear(index);
        self.emit(Event::EndpointUp { service: name, addr });
        let service = self.mesh.services.get(owner as usize);
        if service.is_some_and(|service| service.balancer.ready_len() > 0) {
            self.service_ready(owner);
        }
    }
}
