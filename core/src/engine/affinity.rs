//! Where a request goes by what it has in common with others: its keys.

use alloc::boxed::Box;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::num::NonZeroU64;

use super::Engine;
use super::contract::Event;
use super::exchange::ExchangeId;
use super::retry::Redraw;
use crate::balance::{Picked, Why, hash};
use crate::http::Request;
use crate::policy::affinity::Affinity;
use crate::policy::{Route, Split};
use crate::stats::Decision;

impl Engine {
    /// What of a request on the connection `index` chooses an endpoint of `service`. A service of a
    /// split that has nothing to say about it leaves that to the `parent`, whose split it is.
    pub(super) fn endpoint_key(
        &self,
        index: u32,
        service: u32,
        parent: Option<u32>,
        request: Option<&Request<'_>>,
    ) -> Option<NonZeroU64> {
        let own = self.mesh.services.get(service as usize)?;
        let affinity = own.balancing.endpoint_affinity();
        if affinity.is_none() && parent.is_none() {
            return None;
        }
        let parent = || self.mesh.services.get(parent? as usize)?.balancing.sticky.as_ref();
        let key = self.key(index, affinity.or_else(parent)?, request, hash::endpoint_key)?;
        #[cfg(selvedge_canary)]
        let key = if canary!(SeededHash) { self.mesh.seeded_hash(key) } else { key };
        NonZeroU64::new(key)
    }

    /// What of a request chooses one of the services of a split of `parent`.
    pub(super) fn split_key(
        &mut self,
        index: u32,
        parent: u32,
        route: &Route,
        request: &Request<'_>,
    ) -> Option<u64> {
        let sticky = self.mesh.services.get(parent as usize)?.balancing.sticky.as_ref()?;
        if !matches!(route.split, Split::Weighted(_)) {
            return None;
        }
        let key = self.key(index, sticky, Some(request), hash::service_key);
        if key.is_none() {
            let (service, decision) = (Arc::clone(&route.service), Decision::KeyMissing);
            self.decided(&service, decision);
            self.emit(Event::Placed { service, addr: None, to: None, decision });
        }
        key
    }

    /// What a split of `parent` is drawn by again when a request is tried again: `split`, which chose
    /// the first service, and what chooses endpoints, if that is not `own` for all of them.
    pub(super) fn redraw(
        &self,
        index: u32,
        parent: u32,
        route: &Route,
        (split, own): (Option<u64>, Option<NonZeroU64>),
        request: &Request<'_>,
    ) -> Option<Box<Redraw>> {
        let keys = || {
            route.split.backends().iter().filter_map(|backend| {
                let &service = self.mesh.by_name.get(&backend.service)?;
                let other = Some(parent).filter(|_| service != parent);
                let key = self.endpoint_key(index, service, other, Some(request));
                Some((Arc::clone(&backend.service), key))
            })
        };
        let endpoints =
            if keys().any(|(_, key)| key != own) { keys().collect() } else { Vec::new() };
        let is_keyed = split.is_some() || !endpoints.is_empty();
        is_keyed.then(|| Box::new(Redraw { split, endpoints }))
    }

    fn key(
        &self,
        index: u32,
        affinity: &Affinity,
        request: Option<&Request<'_>>,
        hash: fn(&[u8]) -> u64,
    ) -> Option<u64> {
        let client = self.conns.get(index)?.peer.ip();
        affinity.key.with(request, client, hash)
    }

    /// Notes by what the endpoint of an exchange that has just begun is chosen.
    #[inline]
    pub(super) fn set_key(&mut self, id: ExchangeId, key: Option<NonZeroU64>) {
        if key.is_some()
            && let Some(exchange) = self.exchanges.get_mut(id)
        {
            exchange.key = key;
        }
    }

    /// Counts why an endpoint was picked, if there is something to say about it.
    #[inline]
    pub(super) fn count_pick(&mut self, service: u32, endpoint: u32, picked: Picked) {
        let decision = match picked.why {
            Why::Balanced | Why::Key | Why::Tried => return,
            Why::OtherZone => Decision::OtherZone,
            Why::NoKey => Decision::KeyMissing,
            Why::NotReady => Decision::KeyUnready,
            Why::Full => Decision::KeyOverload,
        };
        let Some(service) = self.mesh.services.get_mut(service as usize) else { return };
        service.stats.decisions.count(decision);
        let Some(endpoint) = self.mesh.endpoints.get(endpoint as usize) else { return };
        let (service, addr) = (Arc::clone(&service.name), endpoint.addr);
        self.emit(Event::Placed { service, addr: Some(addr), to: None, decision });
    }

    /// Counts that a request does not go to the service of a split that its key belongs to.
    pub(super) fn count_draw(&mut self, route: &Route, drawn: &Arc<str>, why: Why) {
        let decision = match why {
            Why::NotReady => Decision::SplitUnready,
            Why::Full => Decision::SplitOverload,
            _ => return,
        };
        self.decided(&route.service, decision);
        let (service, to) = (Arc::clone(&route.service), Some(Arc::clone(drawn)));
        self.emit(Event::Placed { service, addr: None, to, decision });
    }
}
