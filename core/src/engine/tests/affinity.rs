//! Balancers, keys and zones through the engine.

use alloc::format;
use alloc::string::{String, ToString};
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::net::SocketAddr;

use super::rig::*;
use crate::balance::{Kind, LoadBound};
use crate::config::{Config, Service};
use crate::engine::{Command, Event, Input};
use crate::error::ConnectError;
use crate::policy::{Affinity, Backend, Key, Retry, Route, RouteTable, Split};
use crate::stats::Decision;

const USERS: u32 = 40;

/// Requests that are never answered pile up here: no load bound.
fn by(key: Key) -> Affinity {
    Affinity { key, load_bound: LoadBound::NONE }
}

fn user() -> Affinity {
    by(Key::Header("x-user".into()))
}

fn web(change: impl FnOnce(&mut Service)) -> Service {
    let mut web = service("web.example:80", &["10.0.0.1:80", "10.0.0.2:80", "10.0.0.5:80"]);
    change(&mut web);
    web
}

fn with(web: Service) -> Config {
    let mut config = config();
    config.services[0] = web;
    config
}

fn ask(fields: &str) -> String {
    format!("GET / HTTP/1.1\r\nHost: web.example\r\n{fields}\r\n")
}

/// The endpoint that a request is sent to, over a connection of its own.
fn place(rig: &mut Rig, head: &str) -> SocketAddr {
    let down = rig.client();
    rig.receive(down, head.as_bytes());
    rig.connects.pop().expect("a connect").1
}

fn places(rig: &mut Rig) -> Vec<SocketAddr> {
    (0..USERS).map(|user| place(rig, &ask(&format!("X-User: {user}\r\n")))).collect()
}

fn decisions(rig: &Rig, decision: Decision) -> u64 {
    let services = rig.engine.snapshot().services;
    services.iter().map(|service| service.stats.decisions.get(decision)).sum()
}

#[test]
fn what_has_the_same_key_goes_to_the_same_endpoint_on_every_proxy() {
    for (kind, sticky) in [(Kind::Maglev, false), (Kind::RingHash, false), (Kind::PeakEwma, true)] {
        let config = with(web(|web| {
            web.balancing.kind = kind;
            let affinity =
                if sticky { &mut web.balancing.sticky } else { &mut web.balancing.affinity };
            *affinity = Some(user());
        }));
        let mut reversed = config.clone();
        reversed.services[0].endpoints.reverse();
        let mut rig = Rig::with(config);
        let first = places(&mut rig);
        assert_eq!(places(&mut rig), first, "{kind:?}");
        assert_eq!(places(&mut Rig::with(reversed)), first, "{kind:?}");
        let endpoints: alloc::collections::BTreeSet<_> = first.iter().collect();
        assert_eq!(endpoints.len(), 3);
        assert_eq!(decisions(&rig, Decision::KeyMissing), 0);
        place(&mut rig, &ask(""));
        assert_eq!(decisions(&rig, Decision::KeyMissing), u64::from(!sticky));
    }
}

#[test]
fn only_the_keys_of_an_endpoint_that_is_down_move_and_they_come_back() {
    let config = with(web(|web| web.balancing.sticky = Some(user())));
    let mut rig = Rig::with(config);
    let before = places(&mut rig);
    let down = rig.client();
    rig.receive(down, ask("X-User: 0\r\n").as_bytes());
    let (conn, gone) = rig.connects.pop().expect("a connect");
    rig.connects.clear();
    rig.input(Input::Connected { conn, result: Err(ConnectError::Refused) });
    assert_ne!(rig.connects.pop().expect("another endpoint").1, gone);
    let after = places(&mut rig);
    for (&was, &is) in before.iter().zip(&after) {
        assert_eq!(was == is, was != gone, "{was} {is}");
    }
    let moved = before.iter().filter(|&&was| was == gone).count() as u64;
    assert_eq!(decisions(&rig, Decision::KeyUnready), moved + 1);
    let said = |event: &&Event| {
        matches!(event, Event::Placed { decision: Decision::KeyUnready, addr: Some(_), .. })
    };
    assert_eq!(rig.events.iter().filter(said).count() as u64, moved + 1);
}

#[test]
fn another_balancer_after_a_reload_knows_what_is_under_way() {
    let mut rig = Rig::with(with(web(|web| web.balancing.kind = Kind::RoundRobin)));
    let mut turns: Vec<SocketAddr> = (0..3).map(|_| place(&mut rig, &ask(""))).collect();
    turns.sort_unstable();
    turns.dedup();
    assert_eq!(turns.len(), 3);
    place(&mut rig, &ask(""));
    let new = with(web(|web| web.balancing.kind = Kind::LeastRequest));
    rig.command(Command::Reload(Arc::new(new)));
    let busy: Vec<u32> = rig
        .engine
        .snapshot()
        .services
        .iter()
        .flat_map(|s| s.endpoints.iter().map(|e| e.pending))
        .collect();
    assert_eq!(busy.iter().sum::<u32>(), 4);
    // The better of two: the one that has two gets nothing until the others have as many.
    place(&mut rig, &ask(""));
    place(&mut rig, &ask(""));
    let services = rig.engine.snapshot().services;
    let most = services.iter().flat_map(|service| &service.endpoints).map(|e| e.pending).max();
    assert_eq!(most, Some(2));
    // Away with it, on to keys.
    let new = with(web(|web| {
        web.balancing.kind = Kind::Maglev;
        web.balancing.affinity = Some(user());
    }));
    rig.command(Command::Reload(Arc::new(new)));
    assert_eq!(places(&mut rig), places(&mut rig));
}

#[test]
fn cookies_and_sources_are_keys_too() {
    let session = |web: &mut Service| web.balancing.sticky = Some(by(Key::Cookie("sid".into())));
    let mut rig = Rig::with(with(web(session)));
    let mut cookie = |cookie: &str| place(&mut rig, &ask(&format!("Cookie: {cookie}\r\n")));
    let all: Vec<_> = (0..20).map(|n| cookie(&format!("sid={n}"))).collect();
    for (n, &was) in all.iter().enumerate() {
        assert_eq!(cookie(&format!("theme=dark; sid={n}; x={n}")), was);
    }
    // A connection that carries no request has a source.
    let mut config = config();
    let endpoints = ["10.0.0.4:5432", "10.0.0.5:5432", "10.0.0.6:5432"];
    config.services[2] = service("tcp/5432", &endpoints);
    config.services[2].opaque = true;
    config.services[2].balancing.kind = Kind::Maglev;
    config.services[2].balancing.affinity = Some(by(Key::Source));
    let mut rig = Rig::with(config);
    let mut from = |ip: &str, port: u16| {
        let accepted = crate::engine::Accepted {
            listener: FORWARD,
            peer: addr(&format!("{ip}:{port}")),
            local: addr("127.0.0.1:5432"),
            original_dst: None,
        };
        rig.engine.accept(rig.now, accepted).expect("accepted");
        rig.turn();
        rig.connects.pop().expect("a connect").1
    };
    let clients = ["10.1.0.1", "10.1.0.2", "10.1.0.3", "10.1.0.4", "10.1.0.5", "10.1.0.6"];
    let first = clients.map(|ip| from(ip, 1));
    assert_eq!(clients.map(|ip| from(ip, 2)), first);
    assert!(first.iter().any(|&to| to != first[0]));
}

/// The service that each user's requests go to, by a split of 3 to 1.
fn split(rig: &mut Rig) -> Vec<bool> {
    places(rig).iter().map(|addr| addr.ip() == core::net::Ipv4Addr::new(10, 0, 0, 9)).collect()
}

#[test]
fn a_split_is_sticky_as_its_service_says() {
    let backend = |service: &str, weight| Backend { service: service.into(), weight };
    let route = Route {
        service: "web.example:80".into(),
        split: Split::Weighted(
            [backend("web.example:80", 3), backend("canary.example:80", 1)].into(),
        ),
        ..Route::default()
    };
    let canary = |addr: &str| service("canary.example:80", &[addr]);
    let mut config = with(web(|web| web.balancing.sticky = Some(user())));
    config.services.push(canary("10.0.0.9:80"));
    config.routes = RouteTable::new([route].into());
    let mut rig = Rig::with(config.clone());
    let first = split(&mut rig);
    let canaries = first.iter().filter(|&&canary| canary).count();
    assert!((4..=16).contains(&canaries), "{canaries} of {USERS}");
    assert_eq!(split(&mut rig), first);
    // A split that has another weight moves nobody to where the weight went down.
    let mut less = config.clone();
    let mut route = Route::clone(less.routes.iter().next().expect("a route"));
    route.split =
        Split::Weighted([backend("web.example:80", 30), backend("canary.example:80", 1)].into());
    less.routes = RouteTable::new([route].into());
    rig.command(Command::Reload(Arc::new(less)));
    assert!(split(&mut rig).iter().zip(&first).all(|(now, before)| !now || *before));
    // Without the canary its users go to the other one, and nobody else's endpoint changes.
    let mut rig = Rig::with(config.clone());
    let before = places(&mut rig);
    let at = |rig: &mut Rig, user: usize| {
        let down = rig.client();
        rig.receive(down, ask(&format!("X-User: {user}\r\n")).as_bytes());
        rig.connects.pop().expect("a connect")
    };
    let user = first.iter().position(|&canary| canary).expect("a user of the canary");
    let (conn, _) = at(&mut rig, user);
    rig.connects.clear();
    rig.input(Input::Connected { conn, result: Err(ConnectError::Refused) });
    let after = places(&mut rig);
    for ((was, is), canary) in before.iter().zip(&after).zip(first) {
        assert_eq!(was == is, !canary);
    }
    assert_eq!(decisions(&rig, Decision::SplitUnready) as usize, canaries);
}

/// Each retry draws the split again, and the endpoint of whichever service it draws by the key that this
/// goes by.
#[test]
fn a_retry_at_another_service_of_a_split_goes_by_its_key() {
    const BUSY: &[u8] = b"HTTP/1.1 503 Busy\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";
    let keyed = |name: &str, endpoints: &[&str], header: &str| {
        let mut keyed = service(name, endpoints);
        keyed.balancing.kind = Kind::Maglev;
        keyed.balancing.affinity = Some(by(Key::Header(header.into())));
        keyed
    };
    let backend = |service: &str| Backend { service: service.into(), weight: 1 };
    let route = Route {
        service: "split.example:80".into(),
        split: Split::Weighted(["web.example:80", "canary.example:80"].map(backend).into()),
        retry: Some(Retry { statuses: [(503, 503)].into(), ..Retry::default() }),
        ..Route::default()
    };
    let web = keyed("web.example:80", &["10.0.0.1:80", "10.0.0.2:80", "10.0.0.5:80"], "x-user");
    let mut config = with(web);
    let canaries = ["10.0.1.1:80", "10.0.1.2:80", "10.0.1.3:80"];
    config.services.push(keyed("canary.example:80", &canaries, "x-tenant"));
    config.services.push(service("split.example:80", &["10.0.2.1:80"]));
    config.routes = RouteTable::new([route].into());
    let mut rig = Rig::with(config);
    let mut crossed = 0;
    // In less than what a connect may take: most of these are never answered.
    for user in 0..30 {
        let ask = |host: &str| {
            let fields = format!("X-User: {user}\r\nX-Tenant: t-{}\r\n", user % 7);
            format!("GET / HTTP/1.1\r\nHost: {host}\r\n{fields}\r\n")
        };
        let own = ["web.example", "canary.example"].map(|host| place(&mut rig, &ask(host)));
        let down = rig.client();
        rig.receive(down, ask("split.example").as_bytes());
        let (conn, first) = rig.connects.pop().expect("a connect");
        assert!(own.contains(&first), "{first}");
        rig.input(Input::Connected { conn, result: Ok(addr("127.0.0.1:40000")) });
        rig.receive(conn, BUSY);
        rig.pass(millis(25));
        let (_, second) = rig.connects.pop().expect("it is sent again");
        let same = first.ip().to_string()[..6] == second.ip().to_string()[..6];
        assert!(if same { second != first } else { own.contains(&second) }, "{first} {second}");
        crossed += u32::from(!same);
    }
    assert!((7..=23).contains(&crossed), "{crossed} of 30");
}

#[test]
fn the_own_zone_comes_first_and_others_help() {
    let mut config = with(web(|web| {
        web.balancing.kind = Kind::Random;
        for (endpoint, zone) in web.endpoints.iter_mut().zip(["a", "b", "a"]) {
            endpoint.zone = Some(zone.into());
        }
    }));
    config.zone = Some("b".into());
    let mut rig = Rig::with(config.clone());
    let only = addr("10.0.0.2:80");
    assert!((0..30).all(|_| place(&mut rig, &ask("")) == only));
    assert_eq!(decisions(&rig, Decision::OtherZone), 0);
    // Down: the others have to do. One more is the request that found it out.
    let down = rig.client();
    rig.receive(down, ask("").as_bytes());
    let (conn, _) = rig.connects.pop().expect("a connect");
    rig.connects.clear();
    rig.input(Input::Connected { conn, result: Err(ConnectError::Refused) });
    rig.connects.clear();
    assert!((0..10).all(|_| place(&mut rig, &ask("")) != only));
    assert!(decisions(&rig, Decision::OtherZone) >= 11);
    // We move, live.
    config.zone = Some("a".into());
    rig.command(Command::Reload(Arc::new(config)));
    let before = decisions(&rig, Decision::OtherZone);
    assert!((0..10).all(|_| place(&mut rig, &ask("")) != only));
    assert_eq!(decisions(&rig, Decision::OtherZone), before);
}
