//! Failure accrual through the engine: who is ejected, who is not, and what becomes of those that are.

use alloc::collections::BTreeMap;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::net::SocketAddr;

use super::http2_rig::{Peer, http2_config};
use super::rig::*;
use crate::config::{Config, Service};
use crate::engine::{Command, ConnId, Event};
use crate::policy::breaker::{SuccessRate, Trip};
use crate::policy::{Backend, BreakerConfig, Mirror, Retry, Route, RouteTable, Split};
use crate::stats::Decision;
use crate::time::{Duration, Time};

const GET: &[u8] = b"GET / HTTP/1.1\r\nHost: web.example\r\n\r\n";
const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi";
const BUSY: &str = "HTTP/1.1 503 Busy\r\nContent-Length: 0\r\n\r\n";
const BAD: &str = "10.0.0.1:80";

fn breaker() -> BreakerConfig {
    BreakerConfig { consecutive: 3, ..BreakerConfig::default() }
}

fn fleet(endpoints: usize, breaker: BreakerConfig) -> Config {
    let names: Vec<_> = (1..=endpoints).map(|n| alloc::format!("10.0.0.{n}:80")).collect();
    let names: Vec<&str> = names.iter().map(AsRef::as_ref).collect();
    let web = Service { breaker: Some(breaker), ..service("web.example:80", &names) };
    let mut config = Config { services: [web].into(), ..config() };
    config.timeouts.request = Some(Duration::from_secs(5));
    config
}

/// A rig with one client, which knows which connection leads where.
struct Fleet {
    rig: Rig,
    down: ConnId,
    up: BTreeMap<ConnId, SocketAddr>,
}

impl Fleet {
    fn with(config: Config) -> Self {
        let mut rig = Rig::with(config);
        let down = rig.client();
        Fleet { rig, down, up: BTreeMap::new() }
    }

    fn new(endpoints: usize, breaker: BreakerConfig) -> Self {
        Self::with(fleet(endpoints, breaker))
    }

    /// Sends a request; where it arrived.
    fn send(&mut self, request: &[u8]) -> (ConnId, SocketAddr) {
        self.rig.receive(self.down, request);
        while let Some(&(_, addr)) = self.rig.connects.first() {
            let conn = self.rig.connect();
            self.up.insert(conn, addr);
        }
        let rig = &self.rig;
        let asked = self.up.keys().copied().find(|&conn| rig.written_len(conn) > 0);
        let asked = asked.expect("a request was sent on");
        assert_eq!(self.rig.taken(asked), request);
        (asked, self.up[&asked])
    }

    /// Sends a request and answers it by where it arrived.
    fn ask(&mut self, answer: impl Fn(SocketAddr) -> &'static str) -> SocketAddr {
        let (conn, addr) = self.send(GET);
        self.rig.receive(conn, answer(addr).as_bytes());
        assert!(!self.rig.written(self.down).is_empty());
        addr
    }

    /// Asks until an endpoint has been ejected so often in all.
    fn until_ejected(&mut self, times: u64, answer: impl Fn(SocketAddr) -> &'static str) {
        for _ in 0..10_000 {
            if self.decided(Decision::Ejected) == times {
                return;
            }
            self.ask(&answer);
            // Estimates decay, or nobody would ask those that fail.
            self.rig.now += millis(100);
        }
        panic!("ejected {} times", self.decided(Decision::Ejected));
    }

    fn decided(&self, decision: Decision) -> u64 {
        let services = self.rig.engine.snapshot().services;
        services.iter().map(|service| service.stats.decisions.get(decision)).sum()
    }

    fn ejected(&self) -> Vec<SocketAddr> {
        let services = self.rig.engine.snapshot().services;
        let all = services.iter().flat_map(|service| &service.endpoints);
        all.filter(|endpoint| endpoint.ejected).map(|endpoint| endpoint.addr).collect()
    }

    /// When the backoff of the last one that was ejected is over, and a moment more.
    fn pass_backoff(&mut self) {
        let wait = self.rig.events.iter().rev().find_map(|event| match event {
            Event::EndpointEjected { retry_in, .. } => Some(*retry_in),
            _ => None,
        });
        self.rig.pass(wait.expect("one was ejected") + millis(1));
    }
}

fn one_is_bad(at: SocketAddr) -> &'static str {
    if at == addr(BAD) { BUSY } else { OK }
}

#[test]
fn an_endpoint_that_fails_is_not_asked_until_a_probe_succeeds() {
    let mut fleet = Fleet::new(3, breaker());
    fleet.until_ejected(1, one_is_bad);
    assert_eq!(fleet.ejected(), [addr(BAD)]);
    let said = fleet.rig.events.iter().find_map(|event| match event {
        Event::EndpointEjected { addr, trip, retry_in, .. } => Some((*addr, *trip, *retry_in)),
        _ => None,
    });
    let (at, trip, retry_in) = said.expect("it is said");
    assert_eq!((at, trip), (addr(BAD), Trip::Consecutive(3)));
    assert!((1000..=1500).contains(&retry_in.as_millis()), "{retry_in:?}");
    for _ in 0..50 {
        assert_ne!(fleet.ask(one_is_bad), addr(BAD));
    }
    // One request finds out, and it is the first.
    fleet.pass_backoff();
    assert_eq!(fleet.ask(one_is_bad), addr(BAD));
    for _ in 0..50 {
        assert_ne!(fleet.ask(one_is_bad), addr(BAD));
    }
    assert_eq!(fleet.decided(Decision::Ejected), 2);
    fleet.pass_backoff();
    assert_eq!(fleet.ask(|_| OK), addr(BAD));
    assert_eq!((fleet.ejected(), fleet.decided(Decision::Readmitted)), ([].into(), 1));
}

#[test]
fn while_a_probe_is_under_way_nobody_else_is_sent_there() {
    let mut fleet = Fleet::new(2, breaker());
    fleet.until_ejected(1, one_is_bad);
    fleet.pass_backoff();
    let (probe, at) = fleet.send(GET);
    assert_eq!(at, addr(BAD));
    let first = core::mem::replace(&mut fleet.down, fleet.rig.client());
    for _ in 0..20 {
        assert_ne!(fleet.ask(|_| OK), addr(BAD));
    }
    // Its client leaves: another request is the probe.
    fleet.rig.reset(first);
    assert!(!fleet.rig.closed(probe).is_empty());
    assert_eq!(fleet.ask(|_| OK), addr(BAD));
    assert_eq!(fleet.ejected(), []);
}

/// Up to its probe, of whose answer there is so much.
fn probed(part: &[u8]) -> (Fleet, ConnId) {
    let mut fleet = Fleet::new(2, breaker());
    fleet.until_ejected(1, one_is_bad);
    fleet.pass_backoff();
    let (probe, _) = fleet.send(GET);
    fleet.rig.receive(probe, part);
    (fleet, probe)
}

#[test]
fn a_probe_is_judged_at_the_end_of_its_answer() {
    let begun = b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nabc";
    let (mut fleet, probe) = probed(begun);
    assert_eq!(fleet.ejected(), [addr(BAD)]);
    fleet.rig.pass(millis(900));
    fleet.rig.receive(probe, b"defghi");
    assert_eq!((fleet.ejected(), fleet.decided(Decision::Readmitted)), ([].into(), 1));
    // A body that is cut short is a failure, and it is one more.
    let (mut fleet, probe) = probed(begun);
    fleet.rig.reset(probe);
    assert_eq!(fleet.ejected(), [addr(BAD)]);
    assert_eq!(fleet.decided(Decision::Ejected), 2);
    assert_eq!(fleet.decided(Decision::Readmitted), 0);
}

#[test]
fn a_probe_whose_answer_goes_on_for_long_need_not_be_over() {
    let begun = b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\nh";
    let (mut fleet, probe) = probed(begun);
    fleet.rig.pass(millis(999));
    assert_eq!(fleet.ejected(), [addr(BAD)]);
    // A timer may be a millisecond late.
    fleet.rig.pass(millis(2));
    assert_eq!((fleet.ejected(), fleet.decided(Decision::Readmitted)), ([].into(), 1));
    // From then on its end is one of many.
    fleet.rig.reset(probe);
    assert_eq!(fleet.ejected(), []);
}

#[test]
fn trailers_say_how_long_an_endpoint_does_not_want_to_be_asked() {
    for (fields, seconds) in [("grpc-retry-pushback-ms: 9000\r\n", 9..10), ("", 1..2)] {
        let mut config = http2_config();
        let two = config.services.iter_mut().find(|service| &*service.name == "two.example:80");
        two.expect("a service").breaker = Some(BreakerConfig { consecutive: 1, ..breaker() });
        let mut rig = Rig::with(config);
        let mut client = Peer::client(&mut rig);
        let call = "POST /a.B/Get HTTP/1.1\r\nHost: two.example\r\n\
                    Content-Type: application/grpc\r\n\r\n";
        client.ask(&mut rig, call, true);
        let mut app = Peer::endpoint(&mut rig);
        app.answer(&mut rig, 1, "HTTP/1.1 200 OK\r\ncontent-type: application/grpc\r\n\r\n", false);
        app.trailers(&mut rig, 1, &alloc::format!("grpc-status: 14\r\n{fields}"));
        client.run(&mut rig);
        let ejected = rig.events.iter().find_map(|event| match event {
            Event::EndpointEjected { retry_in, .. } => Some(retry_in.as_secs()),
            _ => None,
        });
        assert!(ejected.is_some_and(|wait| seconds.contains(&wait)), "{fields} {ejected:?}");
    }
}

/// Everything that is no failure of the endpoint, much more of it than failures are allowed.
#[test]
fn honest_traffic_that_looks_like_failure_ejects_nobody() {
    let never = |mut fleet: Fleet, once: &dyn Fn(&mut Fleet)| {
        for _ in 0..20 {
            once(&mut fleet);
            fleet.rig.pass(millis(100));
        }
        assert_eq!(fleet.ejected(), []);
        assert_eq!(fleet.decided(Decision::Ejected), 0);
        assert_eq!(fleet.decided(Decision::EjectionSpared), 0);
    };
    let fleet = || Fleet::new(3, breaker());
    for answer in [
        "HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n",
        "HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n",
        "HTTP/1.1 429 Too Many Requests\r\nContent-Length: 0\r\n\r\n",
        "HTTP/1.1 499 Whatever\r\nContent-Length: 0\r\n\r\n",
    ] {
        never(fleet(), &|fleet| _ = fleet.ask(|_| answer));
    }
    // The client leaves before the answer, or in the middle of it.
    for part in ["", "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nabc"] {
        never(fleet(), &|fleet| {
            let (up, _) = fleet.send(GET);
            fleet.rig.receive(up, part.as_bytes());
            fleet.rig.reset(fleet.down);
            fleet.down = fleet.rig.client();
        });
    }
    // It is slow with its own request.
    never(fleet(), &|fleet| {
        fleet.send(b"PUT / HTTP/1.1\r\nHost: web.example\r\nContent-Length: 9\r\n\r\nabc");
        fleet.rig.pass(Duration::from_secs(6));
        fleet.down = fleet.rig.client();
    });
    // Its own time for the call is over.
    never(fleet(), &|fleet| {
        let call = "POST / HTTP/1.1\r\nHost: web.example\r\nContent-Type: application/grpc\r\n\
                    grpc-timeout: 50m\r\nContent-Length: 0\r\n\r\n";
        fleet.rig.receive(fleet.down, call.as_bytes());
        while !fleet.rig.connects.is_empty() {
            fleet.rig.connect();
        }
        fleet.rig.pass(millis(60));
    });
    // Or the time that it asked for, where its route allows that.
    let mut config = self::fleet(3, breaker());
    let service = config.services[0].name.clone();
    let route = Route { service, allow_l5d_request_headers: true, ..Route::default() };
    config.routes = RouteTable::new([route].into());
    never(Fleet::with(config), &|fleet| {
        let hurried = b"GET / HTTP/1.1\r\nHost: web.example\r\nl5d-request-timeout: 50ms\r\n\r\n";
        fleet.rig.receive(fleet.down, hurried);
        while !fleet.rig.connects.is_empty() {
            fleet.rig.connect();
        }
        fleet.rig.pass(millis(60));
    });
}

#[test]
fn resets_and_timeouts_and_refused_connects_are_failures() {
    let once: [&dyn Fn(&mut Fleet); 4] = [
        &|fleet| {
            let (up, _) =
                fleet.send(b"POST / HTTP/1.1\r\nHost: web.example\r\nContent-Length: 0\r\n\r\n");
            fleet.rig.eof(up);
        },
        &|fleet| {
            let (up, _) = fleet.send(GET);
            fleet.rig.receive(up, b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nabc");
            fleet.rig.reset(up);
        },
        &|fleet| {
            fleet.send(GET);
            fleet.rig.pass(Duration::from_secs(5));
        },
        &|fleet| {
            fleet.rig.receive(fleet.down, GET);
            while !fleet.rig.connects.is_empty() {
                fleet.rig.refuse_connect();
            }
            // They listen again, for a moment.
            fleet.rig.pass(millis(200));
            while !fleet.rig.connects.is_empty() {
                let up = fleet.rig.connect();
                fleet.rig.eof(up);
            }
        },
    ];
    for (index, once) in once.into_iter().enumerate() {
        let mut fleet = Fleet::new(2, breaker());
        for _ in 0..8 {
            once(&mut fleet);
            fleet.rig.pass(Duration::from_millis(300));
            fleet.rig.reset(fleet.down);
            fleet.down = fleet.rig.client();
        }
        assert!(fleet.decided(Decision::Ejected) > 0, "{index}");
    }
}

#[test]
fn a_low_share_of_successes_ejects_and_throttling_counts() {
    let rate = SuccessRate { min: 0.5, window: Duration::from_secs(1000), min_requests: 10 };
    let breaker =
        BreakerConfig { consecutive: 0, success_rate: Some(rate), ..BreakerConfig::default() };
    let mut fleet = Fleet::new(3, breaker);
    let slow_down = "HTTP/1.1 429 Slow down\r\nRetry-After: 9\r\nContent-Length: 0\r\n\r\n";
    fleet.until_ejected(1, |at| if at == addr(BAD) { slow_down } else { OK });
    assert_eq!(fleet.ejected(), [addr(BAD)]);
    let said = fleet.rig.events.iter().find_map(|event| match event {
        Event::EndpointEjected { trip, retry_in, .. } => Some((*trip, retry_in.as_secs())),
        _ => None,
    });
    assert_eq!(said, Some((Trip::SuccessRate { succeeded: 0, total: 10 }, 9)));
}

#[test]
fn no_more_are_ejected_than_the_floor_allows() {
    for (endpoints, most) in [(1, 0), (2, 1), (3, 1), (5, 2)] {
        let mut fleet = Fleet::new(endpoints, breaker());
        for _ in 0..200 {
            fleet.ask(|_| BUSY);
            fleet.rig.now += millis(100);
            assert!(fleet.ejected().len() <= most, "{endpoints}");
        }
        assert_eq!(fleet.decided(Decision::Ejected) > 0, most > 0, "{endpoints}");
        assert!(fleet.decided(Decision::EjectionSpared) > 0, "{endpoints}");
    }
}

#[test]
fn fewer_endpoints_or_none_of_a_breaker_readmit_the_ejected() {
    let shrunk = |services: Vec<Service>| Arc::new(Config { services, ..fleet(4, breaker()) });
    let two = [fleet(1, breaker()).services[0].clone()].into();
    let none = Service { breaker: None, ..fleet(4, breaker()).services[0].clone() };
    let strict = BreakerConfig { max_ejected: 0.0, ..breaker() };
    for (services, left) in [
        (fleet(4, breaker()).services, 1),
        (two, 0),
        ([none].into(), 0),
        (fleet(4, strict).services, 0),
    ] {
        let mut fleet = Fleet::new(4, breaker());
        fleet.until_ejected(1, one_is_bad);
        fleet.rig.command(Command::Reload(shrunk(services)));
        assert_eq!(fleet.ejected().len(), left);
        if left == 0 {
            let asked = |_| {
                fleet.rig.now += millis(1000);
                fleet.ask(|_| OK)
            };
            assert!((0..200).map(asked).any(|at| at == addr(BAD)));
        }
    }
}

#[test]
fn with_too_few_available_all_that_are_connected_are_asked() {
    let all = BreakerConfig { max_ejected: 1.0, ..breaker() };
    let mut config = fleet(4, all);
    config.services[0].panic = Some(0.5);
    let mut fleet = Fleet::with(config);
    let bad = |at: SocketAddr| if at == addr("10.0.0.4:80") { OK } else { BUSY };
    for times in 1..=2 {
        fleet.until_ejected(times, bad);
        assert_eq!(fleet.decided(Decision::Panic), 0);
    }
    fleet.until_ejected(3, bad);
    let said = |fleet: &Fleet| {
        let entered = |event: &Event| match event {
            Event::PanicEntered { available, endpoints, .. } => Some((*available, *endpoints)),
            _ => None,
        };
        fleet.rig.events.iter().find_map(entered)
    };
    assert_eq!(said(&fleet), Some((1, 4)));
    let mut asked: Vec<_> = Vec::new();
    for _ in 0..40 {
        asked.push(fleet.ask(|_| OK));
    }
    asked.sort_unstable();
    asked.dedup();
    assert_eq!(asked.len(), 4, "the ejected are asked, too");
    assert_eq!(fleet.decided(Decision::Panic), 40);
    // Those that are well again are readmitted, and the panic ends.
    for _ in 0..10 {
        fleet.rig.pass(Duration::from_secs(2));
        fleet.ask(|_| OK);
    }
    assert_eq!(fleet.ejected(), []);
    assert!(fleet.rig.events.iter().any(|event| matches!(event, Event::PanicLeft { .. })));
}

#[test]
fn a_split_falls_over_before_anybody_panics() {
    let all = BreakerConfig { max_ejected: 1.0, ..breaker() };
    let mut config = fleet(2, all);
    config.services.push(service("next.example:80", &["10.0.1.1:80"]));
    let backend = |name: &str| Backend { service: name.into(), weight: 1 };
    let backends = ["web.example:80", "next.example:80"].map(backend);
    let split = Split::FirstAvailable(backends.into());
    let route = Route { service: "web.example:80".into(), split, ..Route::default() };
    config.routes = RouteTable::new([route].into());
    let mut fleet = Fleet::with(config);
    let next = addr("10.0.1.1:80");
    fleet.until_ejected(2, |at| if at == next { OK } else { BUSY });
    for _ in 0..20 {
        assert_eq!(fleet.ask(|_| OK), next);
    }
    assert_eq!(fleet.decided(Decision::Panic), 0);
    // It is found out all the same that they are well again.
    for _ in 0..3 {
        fleet.rig.pass(Duration::from_secs(2));
        fleet.ask(|_| OK);
    }
    assert_eq!(fleet.ejected(), []);
    assert_ne!(fleet.ask(|_| OK), next);
}

#[test]
fn what_waits_is_served_when_a_backoff_is_over() {
    // The good one is down, and the bad one is ejected: nobody is left, and both are asked.
    let mut fleet = Fleet::new(2, breaker());
    fleet.until_ejected(1, one_is_bad);
    let good = fleet.up.iter().find(|(_, at)| **at != addr(BAD)).map(|(conn, _)| *conn);
    fleet.rig.receive(fleet.down, GET);
    let good = good.expect("a connection");
    fleet.rig.reset(good);
    assert_eq!(fleet.rig.taken(good), GET);
    // A reset of a pooled connection says nothing; the new connect is refused.
    while fleet.rig.connects.first().is_some_and(|(_, at)| *at != addr(BAD)) {
        fleet.rig.refuse_connect();
    }
    let answered = |fleet: &mut Fleet| {
        let asked = fleet.up.keys().copied().find(|&conn| fleet.rig.written_len(conn) > 0);
        let conn = asked.unwrap_or_else(|| fleet.rig.connect());
        fleet.rig.receive(conn, OK.as_bytes());
        fleet.rig.written(fleet.down)
    };
    assert_eq!(answered(&mut fleet), OK, "it panics");
    assert!(fleet.decided(Decision::Panic) > 0);
}

#[test]
fn without_a_breaker_nothing_is_kept() {
    let mut config = fleet(2, breaker());
    config.services[0].breaker = None;
    let mut fleet = Fleet::with(config);
    for _ in 0..50 {
        fleet.ask(|_| BUSY);
    }
    assert_eq!(fleet.ejected(), []);
    let next = fleet.rig.engine.next_timeout().map(|(at, _)| at);
    assert!(next.is_none_or(|at| at > Time::ZERO));
}

/// A try that times out while its client is still sending says nothing about the endpoint; one that has
/// all of its request does.
#[test]
fn a_try_that_waits_for_its_client_ejects_nobody() {
    for complete in [true, false] {
        let mut config = fleet(2, BreakerConfig { consecutive: 1, ..breaker() });
        let retry = Retry { timeout: true, per_try_timeout: Some(millis(300)), ..Retry::default() };
        let route =
            Route { service: "web.example:80".into(), retry: Some(retry), ..Route::default() };
        config.routes = RouteTable::new([route].into());
        let mut rig = Rig::with(config);
        let body = if complete { "ab" } else { "a" };
        let put = alloc::format!(
            "PUT / HTTP/1.1\r\nHost: web.example\r\nContent-Length: 2\r\n\r\n{body}"
        );
        rig.exchange(&put);
        rig.pass(millis(300));
        let services = rig.engine.snapshot().services;
        let count = |decision| -> u64 {
            services.iter().map(|service| service.stats.decisions.get(decision)).sum()
        };
        assert_eq!(count(Decision::Retried), 1, "{complete}");
        assert_eq!(count(Decision::Ejected), u64::from(complete));
    }
}

/// Copies decide nothing: a mirror's service has a breaker of its own, for its own requests.
#[test]
fn a_copy_that_fails_ejects_nobody() {
    for mirrored in [true, false] {
        let mut config = fleet(2, BreakerConfig { consecutive: 1, ..breaker() });
        config.services.push(service("app.example:80", &["10.0.0.9:80"]));
        let mirror = Mirror::new("web.example:80".into(), 1.0, Mirror::TIMEOUT);
        let route = Route {
            service: "app.example:80".into(),
            mirror: mirrored.then_some(mirror),
            ..Route::default()
        };
        config.routes = RouteTable::new([route].into());
        let mut rig = Rig::with(config);
        let host = if mirrored { "app.example" } else { "web.example" };
        let down = rig.client();
        rig.receive(down, alloc::format!("GET / HTTP/1.1\r\nHost: {host}\r\n\r\n").as_bytes());
        while !rig.connects.is_empty() {
            let up = rig.connect();
            rig.receive(up, BUSY.as_bytes());
        }
        assert!(rig.written(down).starts_with("HTTP/1.1 503 "));
        let services = rig.engine.snapshot().services;
        let ejected: u64 =
            services.iter().map(|service| service.stats.decisions.get(Decision::Ejected)).sum();
        assert_eq!(ejected, u64::from(!mirrored));
    }
}
