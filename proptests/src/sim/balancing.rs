//! How services are told to share their requests out over endpoints, and what the keys of requests are.

use std::time::Duration;

use selvedge_core::balance::{Kind, LoadBound};
use selvedge_core::config::{Endpoint, Service, Target};
use selvedge_core::policy::affinity::{Affinity, Key};

use super::fault::Fault;
use super::mix::Mix;
use super::model::Sent;
use super::shares::BALANCED;
use crate::choose::{Choose, pick};

/// The zone of outbound engines, where there are zones.
pub(super) const ZONE: &str = "a";

/// Draws how the first services share their requests out.
pub(super) fn balance(
    choose: &mut dyn Choose,
    mix: &Mix,
    services: &mut [Service],
    faults: &mut Vec<Fault>,
) {
    for (index, service) in services.iter_mut().enumerate().take(BALANCED) {
        let mut once = |fault, choose: &mut dyn Choose| {
            let hit = mix.draws_once(choose, fault);
            faults.extend(hit.then_some(fault));
            hit
        };
        if once(Fault::DeadEndpoints, choose) {
            let addr = super::topology::address(index as u8, 80);
            let like = service.endpoints[0].clone();
            service.endpoints.push(Endpoint { target: Target::Addr(addr), ..like });
        }
        let balancing = &mut service.balancing;
        if once(Fault::Balancers, choose) {
            balancing.kind = pick(choose, &KINDS);
            if balancing.kind.is_hash() && !choose.one_in(6) {
                balancing.affinity = Some(affinity(choose));
            }
        }
        if once(Fault::Sticky, choose) {
            balancing.sticky = Some(affinity(choose));
        }
        if once(Fault::SlowStarts, choose) {
            balancing.slow_start = pick(choose, &[300, 3000, 30_000].map(Duration::from_millis));
        }
        let zones = once(Fault::Zones, choose);
        let weights = once(Fault::Shares, choose);
        for endpoint in &mut service.endpoints {
            if zones {
                endpoint.zone = pick(choose, &[Some(ZONE), Some("b"), None]).map(Into::into);
            }
            if weights {
                endpoint.weight = pick(choose, &[1, 2, 5]);
            }
        }
    }
}

const KINDS: [Kind; 5] =
    [Kind::RoundRobin, Kind::Random, Kind::RingHash, Kind::Maglev, Kind::LeastRequest];

fn affinity(choose: &mut dyn Choose) -> Affinity {
    let key = match choose.below(3) {
        0 => Key::Header("x-user".into()),
        1 => Key::Cookie("user".into()),
        _ => Key::Source,
    };
    let load_bound =
        pick(choose, &[LoadBound::NONE, LoadBound::default(), LoadBound::thousandths(2_000)]);
    Affinity { key, load_bound }
}

/// The key of a request, if it has one: never the same for different requests.
pub(super) fn key_of(affinity: &Affinity, sent: &Sent) -> Option<u32> {
    match affinity.key {
        Key::Header(_) | Key::Cookie(_) => sent.request.user.map(|user| user as u32),
        Key::Source => Some(1_000_000 + u32::from(sent.client)),
    }
}
