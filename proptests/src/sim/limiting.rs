//! How much services, ports and whole proxies are told to take: rates, requests in flight, and those
//! that wait for their turn.

use std::time::Duration;

use selvedge_core::config::{Allow, InboundPort, Service};
use selvedge_core::identity::Pattern;
use selvedge_core::policy::Concurrency;
use selvedge_core::policy::gradient::Adaptive;
use selvedge_core::policy::rate::{ClientMatch, Override, RateLimit};

use super::fault::Fault;
use super::limits::LIMITED;
use super::mesh::outbound_name;
use super::mix::{LIMITS, Mix};
use super::topology::outbound_ip;
use crate::choose::{Choose, pick};

/// Draws the limits of the first services.
pub(super) fn services(
    choose: &mut dyn Choose,
    mix: &Mix,
    services: &mut [Service],
    faults: &mut Vec<Fault>,
) {
    for service in services.iter_mut().take(LIMITED) {
        service.concurrency = concurrency(choose, mix, faults);
    }
}

/// Draws the limits of whole outbound proxies.
pub(super) fn proxy(choose: &mut dyn Choose, mix: &Mix, faults: &mut Vec<Fault>) -> Concurrency {
    let mut all = Concurrency::default();
    if mix.draws_once(choose, Fault::Gates) {
        faults.push(Fault::Gates);
        all.max_in_flight = Some(pick(choose, &[4, 2, 8]));
        all.max_queue = pick(choose, &[0, 3, 100]);
        all.queue_timeout = pick(choose, &[30, 300, 3000].map(Duration::from_millis));
    }
    all
}

/// Draws the limits of one port of an app.
pub(super) fn port(
    choose: &mut dyn Choose,
    mix: &Mix,
    number: u16,
    inbound: &mut Vec<InboundPort>,
    faults: &mut Vec<Fault>,
) {
    if !mix.has_any(LIMITS) {
        return;
    }
    let rated = mix.draws_once(choose, Fault::RateLimits);
    let limit = rated.then(|| {
        faults.push(Fault::RateLimits);
        rate_limit(choose, mix)
    });
    let concurrency = concurrency(choose, mix, faults);
    let known = inbound.iter().position(|port| port.port == number);
    let at = known.unwrap_or_else(|| {
        inbound.push(InboundPort::new(number, vec![Allow::Unauthenticated]));
        inbound.len() - 1
    });
    inbound[at].rate_limit = limit;
    inbound[at].concurrency = concurrency;
}

fn rate_limit(choose: &mut dyn Choose, mix: &Mix) -> RateLimit {
    let first = if mix.meshed {
        ClientMatch::Identity(Pattern::parse(outbound_name(0).as_str()).expect("a name"))
    } else {
        ClientMatch::Network(outbound_ip(0), 32)
    };
    let own = |rps| Override { clients: vec![first.clone()], rps };
    RateLimit {
        total: pick(choose, &[None, Some(20), Some(100)]),
        per_client: pick(choose, &[Some(10), Some(50), None]),
        overrides: if choose.one_in(3) { vec![own(pick(choose, &[4, 30]))] } else { Vec::new() },
    }
}

fn concurrency(choose: &mut dyn Choose, mix: &Mix, faults: &mut Vec<Fault>) -> Concurrency {
    let mut concurrency = Concurrency::default();
    if mix.draws_once(choose, Fault::Gates) {
        faults.push(Fault::Gates);
        concurrency.max_in_flight = Some(pick(choose, &[2, 1, 4]));
        concurrency.max_queue = pick(choose, &[0, 2, 100]);
        concurrency.queue_timeout = pick(choose, &[30, 300, 3000].map(Duration::from_millis));
    }
    if mix.draws_once(choose, Fault::Adaptive) {
        faults.push(Fault::Adaptive);
        let (min, max) = (pick(choose, &[1, 3]), pick(choose, &[3, 6]));
        concurrency.adaptive = Some(Adaptive { min, max });
        concurrency.max_queue = concurrency.max_queue.max(pick(choose, &[0, 2, 100]));
    }
    concurrency
}
