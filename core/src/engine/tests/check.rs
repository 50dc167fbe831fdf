//! Health checks through the engine: what is asked, and what the answers do.

use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::net::SocketAddr;

use super::http2_rig::Peer;
use super::rig::*;
use super::tls_rig;
use crate::config::{Config, Service};
use crate::engine::{CloseKind, Command, ConnId, Event, TimerKind};
use crate::policy::{CheckKind, HealthCheck};
use crate::stats::Decision;
use crate::time::Duration;

const GET: &[u8] = b"GET / HTTP/1.1\r\nHost: web.example\r\n\r\n";
const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi";
const BAD: &str = "HTTP/1.1 503 Bad\r\nContent-Length: 0\r\n\r\n";

fn check(kind: CheckKind) -> HealthCheck {
    HealthCheck { kind, ..HealthCheck::default() }
}

fn fleet(endpoints: &[&str], health_check: Option<HealthCheck>) -> Config {
    let web = Service { health_check, ..service("web.example:80", endpoints) };
    Config { services: [web].into(), ..config() }
}

fn http() -> HealthCheck {
    check(CheckKind::Http("/healthz?a".into()))
}

fn unhealthy(rig: &Rig) -> Vec<SocketAddr> {
    let services = rig.engine.snapshot().services;
    let all = services.iter().flat_map(|service| &service.endpoints);
    all.filter(|endpoint| endpoint.unhealthy).map(|endpoint| endpoint.addr).collect()
}

fn decided(rig: &Rig, decision: Decision) -> u64 {
    let services = rig.engine.snapshot().services;
    services.iter().map(|service| service.stats.decisions.get(decision)).sum()
}

/// Lets time pass until the next check connects, and takes that connect.
fn next(rig: &mut Rig) -> (ConnId, SocketAddr) {
    for _ in 0..100 {
        if !rig.connects.is_empty() {
            let at = rig.connects[0].1;
            return (rig.connect(), at);
        }
        rig.pass(millis(100));
    }
    panic!("nothing is checked");
}

/// Answers every check for so long.
fn answer_for(rig: &mut Rig, time: Duration, answer: impl Fn(SocketAddr) -> &'static str) {
    let until = rig.now + time;
    loop {
        while let Some(&(_, at)) = rig.connects.first() {
            let up = rig.connect();
            let asked = rig.written(up);
            assert!(
                asked.starts_with("GET /healthz?a HTTP/1.1\r\nhost: web.example\r\n"),
                "{asked}"
            );
            rig.receive(up, answer(at).as_bytes());
            assert_eq!(rig.closed(up).len(), 1, "a check has a connection of its own");
        }
        if rig.now >= until {
            return;
        }
        rig.pass(millis(50));
    }
}

/// Where so many requests go.
fn asked(rig: &mut Rig, requests: usize) -> Vec<SocketAddr> {
    let mut all = Vec::new();
    for _ in 0..requests {
        let down = rig.client();
        rig.receive(down, GET);
        let Some(&(_, at)) = rig.connects.first() else { continue };
        let up = rig.connect();
        rig.receive(up, b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 0\r\n\r\n");
        rig.eof(up);
        assert!(rig.written(down).starts_with("HTTP/1.1 200 "));
        all.push(at);
    }
    all.sort_unstable();
    all.dedup();
    all
}

#[test]
fn an_endpoint_that_does_not_pass_is_not_asked_and_checked_on() {
    let mut rig = Rig::with(fleet(&["10.0.0.1:80", "10.0.0.2:80"], Some(http())));
    let bad = addr("10.0.0.1:80");
    // Nobody was checked yet: all are asked.
    assert_eq!(unhealthy(&rig).len(), 2);
    assert!(!asked(&mut rig, 5).is_empty());
    assert!(decided(&rig, Decision::Panic) > 0);
    let one = |at: SocketAddr| if at == bad { BAD } else { OK };
    answer_for(&mut rig, Duration::from_secs(2), one);
    assert_eq!(unhealthy(&rig), [bad]);
    assert_eq!(asked(&mut rig, 20), [addr("10.0.0.2:80")]);
    // It takes two good checks in a row; and what is expected of it is known again after a while.
    answer_for(&mut rig, Duration::from_mins(2), |_| OK);
    assert_eq!(unhealthy(&rig), []);
    assert_eq!(asked(&mut rig, 50).len(), 2);
    // And three bad ones.
    let before = decided(&rig, Decision::Unhealthy);
    answer_for(&mut rig, Duration::from_secs(8), one);
    assert_eq!(unhealthy(&rig), []);
    answer_for(&mut rig, Duration::from_secs(20), one);
    assert_eq!((unhealthy(&rig), decided(&rig, Decision::Unhealthy)), ([bad].into(), before + 1));
    let said = |event: &Event| matches!(event, Event::CheckFailed { addr, .. } if *addr == bad);
    assert!(rig.events.iter().any(said));
}

#[test]
fn silence_and_nonsense_and_refusal_fail_a_check() {
    let what: [&dyn Fn(&mut Rig); 4] = [
        &|rig| _ = rig.refuse_connect(),
        &|rig| {
            rig.connect();
            rig.pass(Duration::from_secs(1));
        },
        &|rig| {
            let up = rig.connect();
            rig.receive(up, b"hello\r\n\r\n");
        },
        &|rig| {
            let up = rig.connect();
            rig.receive(up, b"HTTP/1.1 100 Continue\r\n\r\n");
            rig.eof(up);
        },
    ];
    for (index, fail) in what.into_iter().enumerate() {
        let mut rig = Rig::with(fleet(&["10.0.0.1:80"], Some(http())));
        while rig.connects.is_empty() {
            rig.pass(millis(100));
        }
        fail(&mut rig);
        assert_eq!(unhealthy(&rig).len(), 1, "{index}");
        assert_eq!(decided(&rig, Decision::Unhealthy), 1, "{index}");
        // The next one is on time, and there is nothing left of the first.
        let (up, _) = next(&mut rig);
        rig.receive(up, OK.as_bytes());
        let (up, _) = next(&mut rig);
        rig.receive(up, OK.as_bytes());
        assert_eq!(unhealthy(&rig), [], "{index}");
        // What refuses a check is up: only a request would tell.
        let down = |event: &Event| matches!(event, Event::EndpointDown { .. });
        assert!(!rig.events.iter().any(down), "{index}");
        assert_eq!(rig.engine.gauges().connections, 0, "{index}");
    }
}

#[test]
fn a_connect_is_enough_for_one_kind_of_check() {
    let mut rig = Rig::with(fleet(&["10.0.0.1:80"], Some(check(CheckKind::Tcp))));
    let (up, _) = next(&mut rig);
    assert_eq!((rig.written(up), unhealthy(&rig)), (String::new(), [].into()));
    assert_eq!(rig.closed(up).len(), 1);
}

#[test]
fn grpc_says_whether_it_serves() {
    for (body, trailers, passes) in [
        (&[0, 0, 0, 0, 2, 8, 1][..], "grpc-status: 0\r\n", true),
        (&[0, 0, 0, 0, 2, 8, 2], "grpc-status: 0\r\n", false),
        (&[], "grpc-status: 12\r\n", false),
    ] {
        let mut rig = Rig::with(fleet(&["10.0.0.1:80"], Some(check(CheckKind::Grpc("s".into())))));
        while rig.connects.is_empty() {
            rig.pass(millis(100));
        }
        let mut up = Peer::endpoint(&mut rig);
        let stream = up.streams()[0];
        let head = up.head(stream);
        assert!(head.starts_with("POST /grpc.health.v1.Health/Check "), "{head}");
        assert_eq!(up.on(stream).body, [0, 0, 0, 0, 3, 0x0a, 1, b's']);
        assert!(up.on(stream).end);
        up.answer(
            &mut rig,
            stream,
            "HTTP/1.1 200 OK\r\nContent-Type: application/grpc\r\n\r\n",
            false,
        );
        up.send(&mut rig, stream, body, false);
        up.trailers(&mut rig, stream, trailers);
        assert_eq!(unhealthy(&rig).is_empty(), passes, "{trailers}");
        assert_eq!(decided(&rig, Decision::Unhealthy), u64::from(!passes));
        rig.pass(millis(1));
    }
}

#[test]
fn who_is_removed_is_not_checked_and_who_is_there_already_is_good_until_then() {
    let both = ["10.0.0.1:80", "10.0.0.2:80"];
    let mut rig = Rig::with(fleet(&both, None));
    assert_eq!(unhealthy(&rig), []);
    let reload = |rig: &mut Rig, endpoints: &[&str], check: Option<HealthCheck>| {
        rig.command(Command::Reload(Arc::new(fleet(endpoints, check))));
    };
    reload(&mut rig, &both, Some(http()));
    assert_eq!(unhealthy(&rig), [], "in use until a check says otherwise");
    answer_for(&mut rig, Duration::from_secs(30), |_| BAD);
    assert_eq!(unhealthy(&rig).len(), 2);
    // All fail: all are asked.
    assert_eq!(asked(&mut rig, 30).len(), 2);
    // One goes while it is checked.
    while rig.connects.iter().all(|&(_, at)| at != addr(both[0])) {
        rig.pass(millis(50));
    }
    reload(&mut rig, &both[1..], Some(http()));
    assert!(rig.connects.iter().all(|&(_, at)| at != addr(both[0])), "its connect is given up");
    answer_for(&mut rig, Duration::from_secs(30), |at| {
        assert_eq!(at, addr(both[1]));
        OK
    });
    assert_eq!(asked(&mut rig, 5), [addr(both[1])]);
    // No checks any more.
    reload(&mut rig, &both, None);
    rig.connects.clear();
    rig.pass(Duration::from_mins(1));
    assert!(rig.connects.is_empty() && unhealthy(&rig).is_empty());
    let next = rig.engine.next_timeout().map(|(_, kind)| kind);
    assert_ne!(next, Some(TimerKind::Check));
}

#[test]
fn a_mesh_endpoint_is_checked_through_its_session() {
    let mut out = tls_rig::client(None);
    let mut config = tls_rig::client_config(None);
    config.services[0].health_check = Some(http());
    out.command(Command::Reload(Arc::new(config)));
    let mut inn = tls_rig::server(&["*"]);
    while out.connects.is_empty() {
        out.pass(millis(100));
    }
    let link = tls_rig::link(&mut out, &mut inn, None);
    let wire = tls_rig::carry(&mut out, &mut inn, &link, usize::MAX);
    assert!(!wire[0].starts_with(b"GET "), "it is sealed");
    // What comes out behind the other proxy is the check.
    let app = inn.connect();
    let asked = inn.written(app);
    assert!(asked.starts_with("GET /healthz?a HTTP/1.1\r\n"), "{asked}");
    inn.receive(app, OK.as_bytes());
    tls_rig::carry(&mut out, &mut inn, &link, usize::MAX);
    assert!(out.events.iter().all(|event| !matches!(event, Event::CheckFailed { .. })));
    assert_eq!(out.closed(link.up).len(), 1);
}

/// The mesh simulator found these: connections of checks that stayed for as long as a slow reader may
/// take, because there was still something to be written to a peer that had gone or said nothing.
#[test]
fn no_connection_of_a_check_outlives_it() {
    let begin = |rig: &mut Rig| {
        while rig.connects.is_empty() {
            rig.pass(millis(100));
        }
        rig.blocked.push(rig.connects[0].0);
        rig.connect()
    };
    // It breaks before the question is written.
    let mut rig = Rig::with(fleet(&["10.0.0.1:80"], Some(http())));
    let up = begin(&mut rig);
    rig.reset(up);
    assert_eq!(rig.closed(up), [CloseKind::Abort]);
    assert_eq!(decided(&rig, Decision::Unhealthy), 1);
    // It is answered before that, and never reads.
    let mut rig = Rig::with(fleet(&["10.0.0.1:80"], Some(http())));
    let up = begin(&mut rig);
    rig.receive(up, OK.as_bytes());
    assert_eq!(decided(&rig, Decision::Healthy), 1);
    rig.pass(Duration::from_secs(1));
    assert_eq!(rig.closed(up), [CloseKind::Abort]);
    // Its handshake is not answered.
    let mut config = tls_rig::client_config(None);
    config.services[0].health_check = Some(http());
    let mut rig = tls_rig::client(None);
    rig.command(Command::Reload(Arc::new(config)));
    let up = begin(&mut rig);
    rig.pass(Duration::from_secs(1));
    assert_eq!(rig.closed(up), [CloseKind::Abort]);
}
