//! Endpoints, queues, fail-fast, reload and names through the engine.

use alloc::sync::Arc;

use super::rig::*;
use crate::config::{Endpoint, Target};
use crate::engine::{Command, Event, Input};
use crate::time::Duration;

const GET: &str = "GET / HTTP/1.1\r\nHost: web.example\r\n\r\n";
const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n";

#[test]
fn a_refused_connect_moves_the_request_to_the_other_endpoint() {
    let mut rig = Rig::new();
    let down = rig.client();
    rig.receive(down, GET.as_bytes());
    let first = rig.refuse_connect();
    assert_ne!(rig.connects[0].1, first);
    let up = rig.connect();
    rig.receive(up, OK.as_bytes());
    assert_eq!(rig.written(down), OK);
    // While it is down it is not chosen; a probe brings it back.
    for _ in 0..20 {
        rig.receive(down, GET.as_bytes());
        rig.receive(up, OK.as_bytes());
        assert!(rig.connects.is_empty());
    }
    rig.pass(millis(111));
    assert_eq!(rig.connects[0].1, first);
    rig.connect();
    assert!(rig.events.iter().any(|event| matches!(event, Event::EndpointUp { .. })));
}

#[test]
fn nothing_ready_queues_then_fails_fast_then_recovers() {
    let mut rig = Rig::new();
    let down = rig.client();
    rig.receive(down, GET.as_bytes());
    rig.refuse_connect();
    rig.refuse_connect();
    assert_eq!(rig.written(down), "");
    let refuse_until = |rig: &mut Rig, until: u64| {
        for _ in 0..until / 10 {
            rig.pass(millis(10));
            while !rig.connects.is_empty() {
                rig.refuse_connect();
            }
        }
    };
    refuse_until(&mut rig, 3_000);
    let answer = rig.written(down);
    assert!(answer.starts_with("HTTP/1.1 504 "), "{answer}");
    rig.receive(down, GET.as_bytes());
    assert!(rig.written(down).starts_with("HTTP/1.1 504 "), "at once");
    while rig.connects.is_empty() {
        rig.pass(millis(100));
    }
    let up = rig.connect();
    assert!(rig.events.iter().any(|event| matches!(event, Event::FailfastLeft { .. })));
    rig.receive(down, GET.as_bytes());
    rig.receive(up, OK.as_bytes());
    assert_eq!(rig.written(down), OK);
}

#[test]
fn a_queued_request_goes_with_the_first_ready_endpoint() {
    let mut rig = Rig::new();
    let down = rig.client();
    rig.receive(down, GET.as_bytes());
    rig.refuse_connect();
    rig.refuse_connect();
    rig.pass(millis(120));
    let up = rig.connect();
    assert_eq!(rig.written(up), GET);
}

#[test]
fn a_reload_takes_endpoints_away_without_losing_a_request() {
    let mut rig = Rig::new();
    let (down, up) = rig.exchange(GET);
    let mut new = config();
    new.services[0] = service("web.example:80", &["10.0.0.9:80"]);
    rig.command(Command::Reload(Arc::new(new)));
    rig.receive(up, OK.as_bytes());
    assert_eq!(rig.written(down), OK);
    assert_eq!(rig.closed(up).len(), 1, "no new requests: its connection is closed");
    rig.receive(down, GET.as_bytes());
    assert_eq!(rig.connects[0].1, addr("10.0.0.9:80"));
    let mut none = config();
    none.services.clear();
    rig.command(Command::Reload(Arc::new(none)));
    rig.connect();
}

#[test]
fn names_are_resolved_again_and_the_last_good_answer_stays() {
    let mut config = config();
    config.services[0].endpoints = [Endpoint {
        target: Target::Name { host: "app.test".into(), port: 81 },
        weight: 1,
        mesh: None,
        zone: None,
    }]
    .into();
    let mut rig = Rig::with(config);
    let (query, name) = rig.resolves.remove(0);
    assert_eq!(name, "app.test");
    let down = rig.client();
    rig.receive(down, GET.as_bytes());
    let answer = (["10.1.1.1".parse().expect("ip")].into(), Duration::from_secs(1));
    rig.input(Input::Resolved { query, result: Ok(answer) });
    assert_eq!(rig.connects[0].1, addr("10.1.1.1:81"));
    rig.connect();
    rig.pass(Duration::from_secs(5));
    assert_eq!(rig.resolves.len(), 1, "at the floor of five seconds");
    let (query, _) = rig.resolves.remove(0);
    rig.input(Input::Resolved { query, result: Err(crate::error::DnsError::NotFound) });
    let down = rig.client();
    rig.receive(down, GET.as_bytes());
    assert_eq!(rig.connects[0].1, addr("10.1.1.1:81"));
}
