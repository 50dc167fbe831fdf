use alloc::vec;
use core::net::{Ipv4Addr, Ipv6Addr};

use super::*;
use crate::rng::{Rng, Seed};

fn limiter(limit: &RateLimit, workers: u32) -> Limiter {
    Limiter::new(limit, workers, KeyedState::new(&mut Rng::fork(Seed::from_number(1), 1)))
}

fn v4(number: u32) -> Client<'static> {
    Client { identity: None, addr: Ipv4Addr::from_bits(number).into() }
}

fn at(millis: u64) -> Time {
    Time::ZERO + Duration::from_millis(millis)
}

/// How many of 10,000 requests at once are let through.
fn burst(limiter: &mut Limiter, client: Client<'_>, now: Time) -> usize {
    (0..10_000).filter(|_| limiter.admit(client, now).is_ok()).count()
}

#[test]
fn a_seconds_worth_may_come_at_once_and_comes_back_evenly() {
    let mut limiter = limiter(&RateLimit { total: Some(50), ..RateLimit::default() }, 1);
    assert_eq!(burst(&mut limiter, v4(1), at(0)), 50);
    let refused = limiter.admit(v4(2), at(0));
    assert_eq!(refused, Err(TooSoon { limit: Limited::Total, wait: Duration::from_millis(20) }));
    assert_eq!(burst(&mut limiter, v4(1), at(20)), 1);
    assert_eq!(burst(&mut limiter, v4(1), at(120)), 5);
    assert_eq!(burst(&mut limiter, v4(1), at(60_000)), 50);
}

#[test]
fn what_a_client_is_refused_takes_nothing_from_the_others() {
    let limit = RateLimit { total: Some(100), per_client: Some(10), overrides: vec![] };
    let mut limiter = limiter(&limit, 1);
    assert_eq!(burst(&mut limiter, v4(1), at(0)), 10);
    for client in 2..=10 {
        assert_eq!(burst(&mut limiter, v4(client), at(0)), 10, "client {client}");
    }
    let limit = limiter.admit(v4(11), at(0)).map_err(|refused| refused.limit);
    assert_eq!(limit, Err(Limited::Total));
}

#[test]
fn an_override_is_shared_by_those_that_it_is_for() {
    let pattern = |text: &str| ClientMatch::Identity(Pattern::parse(text).expect("a pattern"));
    let network = |text: &str, len| ClientMatch::Network(text.parse().expect("an address"), len);
    let limit = RateLimit {
        total: None,
        per_client: Some(10),
        overrides: vec![
            Override { clients: vec![pattern("*.batch.local")], rps: 3 },
            Override { clients: vec![network("10.1.0.0", 16), network("fd00::", 8)], rps: 20 },
        ],
    };
    let mut limiter = limiter(&limit, 1);
    let names = ["a.batch.local", "b.batch.local", "web.local"].map(|n| Name::parse(n).expect(n));
    let named = |index: usize| Client { identity: Some(&names[index]), ..v4(9) };
    assert_eq!(burst(&mut limiter, named(0), at(0)), 3);
    assert_eq!(burst(&mut limiter, named(1), at(0)), 0);
    assert_eq!(burst(&mut limiter, named(2), at(0)), 10);
    let addr = |text: &str| Client { identity: None, addr: text.parse().expect("an address") };
    assert_eq!(burst(&mut limiter, addr("10.1.2.3"), at(0)), 20);
    assert_eq!(burst(&mut limiter, addr("::ffff:10.1.9.9"), at(0)), 0, "the same network");
    assert_eq!(burst(&mut limiter, addr("fdff::1"), at(0)), 0);
    assert_eq!(burst(&mut limiter, addr("10.2.0.1"), at(0)), 10);
    assert!(network("0.0.0.0", 0).matches(addr("8.8.8.8")));
    assert!(!network("0.0.0.0", 0).matches(addr("::1")));
    assert!(network("10.0.0.1", 32).matches(addr("10.0.0.1")));
}

#[test]
fn a_client_of_ipv6_is_its_network() {
    let mut limiter = limiter(&RateLimit { per_client: Some(5), ..RateLimit::default() }, 1);
    let at_host = |net: u16, host: u16| Client {
        identity: None,
        addr: Ipv6Addr::new(0x2001, 0xdb8, 0, net, 0, 0, 0, host).into(),
    };
    assert_eq!(burst(&mut limiter, at_host(1, 1), at(0)), 5);
    assert_eq!(burst(&mut limiter, at_host(1, 2), at(0)), 0);
    assert_eq!(burst(&mut limiter, at_host(2, 1), at(0)), 5);
}

#[test]
fn workers_share_a_limit() {
    let limit = RateLimit { total: Some(100), ..RateLimit::default() };
    assert_eq!(burst(&mut limiter(&limit, 4), v4(1), at(0)), 25);
    // Less than one a second is still one.
    let limit = RateLimit { total: Some(1), ..RateLimit::default() };
    assert_eq!(burst(&mut limiter(&limit, 4), v4(1), at(0)), 1);
}

#[test]
fn any_number_of_clients_needs_bounded_memory_and_does_not_lock_others_out() {
    let mut limiter = limiter(&RateLimit { per_client: Some(10), ..RateLimit::default() }, 1);
    let mut passed = 0;
    assert_eq!(burst(&mut limiter, v4(0), at(0)), 10);
    for client in 1..200_000 {
        passed += u32::from(limiter.admit(v4(client), at(0)).is_ok());
    }
    assert!(limiter.heap_bytes() < 1024 * 1024, "{}", limiter.heap_bytes());
    assert_eq!(limiter.clients(), 10_000);
    // Those beyond share what 256 clients may send.
    assert_eq!(passed, 9_999 + 256 * 10);
    assert_eq!(burst(&mut limiter, v4(0), at(500)), 5, "who was known still has its own");
    // A second later they are as good as gone.
    for client in 0..20_000 {
        assert!(limiter.admit(v4(1_000_000 + client), at(2_000 + u64::from(client))).is_ok());
    }
    assert!(limiter.clients() < 1_500, "{}", limiter.clients());
}
