//! Endpoints that are names: looked up as their records expire.

use alloc::sync::Arc;
use alloc::vec::Vec;
use core::net::{IpAddr, SocketAddr};

use super::Engine;
use super::contract::{Event, Output, QueryId};
use crate::config::{Target, Timeouts};
use crate::error::DnsError;
use crate::time::Duration;

impl Engine {
    /// Asks for the addresses of a name.
    pub(super) fn look_up(&mut self, index: u32) {
        let Some(name) = self.mesh.names.get(index as usize) else { return };
        let query = QueryId { index, generation: name.generation };
        self.timers.names.set(index, self.now + Timeouts::DNS_PATIENCE);
        self.outputs.push_back(Output::Resolve { query, name: Arc::clone(&name.host) });
    }

    /// A resolution is done.
    pub(super) fn resolved(
        &mut self,
        query: QueryId,
        result: Result<(Vec<IpAddr>, Duration), DnsError>,
    ) {
        let result = match result {
            Ok((addrs, _)) if addrs.is_empty() => Err(DnsError::NotFound),
            other => other,
        };
        let Some(name) = self.mesh.name_mut(query.index, query.generation) else { return };
        let (service, host, port) = (name.service, Arc::clone(&name.host), name.port);
        match result {
            Ok((mut addrs, ttl)) => {
                name.failures = 0;
                let again = ttl.clamp(Timeouts::DNS_FLOOR, Timeouts::DNS_CEILING);
                self.timers.names.set(query.index, self.now + again);
                // Every machine sees the same order, whatever the resolver's.
                addrs.sort_unstable();
                addrs.dedup();
                self.set_addresses(service, query.index, port, &addrs);
            }
            Err(error) => {
                // The last good answer stays.
                let forgets = canary!(ForgottenEndpoints).then_some(name.service);
                name.failures = (name.failures + 1).min(6);
                let retry_in = Timeouts::DNS_FLOOR * (1 << (name.failures - 1));
                self.timers.names.set(query.index, self.now + retry_in);
                self.emit(Event::ResolveFailed { name: host, error, retry_in });
                if let Some(service) = forgets {
                    self.set_addresses(service, query.index, port, &[]);
                }
            }
        }
    }

    /// Replaces the addresses of one name.
    fn set_addresses(&mut self, service: u32, name: u32, port: u16, addrs: &[IpAddr]) {
        let Some(owner) = self.mesh.services.get_mut(service as usize) else { return };
        let Some(at) = owner.targets.iter().position(|target| target.name == Some(name)) else {
            return;
        };
        let config = owner.targets[at].config.clone();
        let old = core::mem::take(&mut owner.targets[at].endpoints);
        let mut current = Vec::with_capacity(addrs.len());
        let mut gone = Vec::new();
        // `addrs` is sorted: a headless service may have thousands.
        let mut known = alloc::vec![false; addrs.len()];
        for endpoint in old {
            let addr = self.mesh.endpoints[endpoint as usize].addr;
            match addrs.binary_search(&addr.ip()) {
                Ok(at) => {
                    known[at] = true;
                    current.push(endpoint);
                }
                Err(_) => gone.push(endpoint),
            }
        }
        for (&ip, _) in addrs.iter().zip(known).filter(|(_, known)| !known) {
            let addr = SocketAddr::new(ip, port);
            current.push(self.add_endpoint(service, addr, &config));
        }
        if let Some(owner) = self.mesh.services.get_mut(service as usize) {
            owner.targets[at].endpoints = current;
        }
        for endpoint in gone {
            self.remove_endpoint(endpoint);
        }
        self.mesh.note_opaque();
        self.service_changed(service);
    }

    /// Does a target's name need to be looked up?
    pub(super) fn begin_name(&mut self, service: u32, target: &Target) -> Option<u32> {
        let Target::Name { host, port } = target else { return None };
        self.mesh.generation = self.mesh.generation.wrapping_add(1);
        let generation = self.mesh.generation;
        let name = super::mesh::Name {
            service,
            host: Arc::clone(host),
            port: *port,
            generation,
            failures: 0,
        };
        let index = self.mesh.names.insert(name) as u32;
        self.look_up(index);
        Some(index)
    }
}
