//! Requests that wait for their turn: in order, not for long, and not too many.

use alloc::sync::Arc;
use alloc::vec;
use alloc::vec::Vec;

use super::rig::*;
use crate::config::{Allow, Config, InboundPort};
use crate::engine::{Command, ConnId};
use crate::error::Reason;
use crate::policy::Concurrency;
use crate::policy::gradient::Adaptive;
use crate::stats::Decision;

const GET: &str = "GET / HTTP/1.1\r\nHost: one.example\r\n\r\n";
const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n";

/// One at a time, and two that wait half a second.
fn one_and_two() -> Concurrency {
    Concurrency { max_in_flight: Some(1), max_queue: 2, queue_timeout: millis(500), adaptive: None }
}

fn service_limited(concurrency: Concurrency) -> Config {
    let mut config = config();
    config.services[1].concurrency = concurrency;
    config
}

fn refused(rig: &Rig, direction: usize, reason: Reason) -> u64 {
    rig.engine.snapshot().directions[direction].refused[reason as usize]
}

fn ask(rig: &mut Rig, listener: u16) -> ConnId {
    let down = rig.accept_to(listener, None);
    rig.receive(down, GET.as_bytes());
    down
}

#[test]
fn requests_wait_in_order_and_the_rest_is_told_at_once() {
    for (listener, full) in [(OUTBOUND, Reason::ServiceQueueFull), (INBOUND, Reason::PortQueueFull)]
    {
        let mut config = service_limited(one_and_two());
        let port = InboundPort::new(8080, vec![Allow::Unauthenticated]);
        config.inbound = vec![InboundPort { concurrency: one_and_two(), ..port }];
        let mut rig = Rig::with(config);
        let downs: Vec<ConnId> = (0..4).map(|_| ask(&mut rig, listener)).collect();
        assert!(rig.written(downs[3]).starts_with("HTTP/1.1 503 "));
        assert_eq!(refused(&rig, usize::from(listener), full), 1);
        assert_eq!(rig.connects.len(), 1, "one at a time");
        let up = rig.connect();
        let waiting = |rig: &Rig| -> usize {
            rig.engine.snapshot().services.iter().map(|service| service.queued).sum()
        };
        let at_service = usize::from(listener == OUTBOUND);
        for (index, &down) in downs[..3].iter().enumerate() {
            assert_eq!(waiting(&rig), at_service * (2 - index));
            assert_eq!(rig.written(up).matches("GET ").count(), 1, "request {index}");
            assert!(downs[index..3].iter().all(|&other| rig.written_len(other) == 0));
            rig.receive(up, OK.as_bytes());
            assert_eq!(rig.written(down), OK, "in order");
        }
        let services = rig.engine.snapshot().services;
        let waited: u64 = services.iter().map(|s| s.stats.decisions.get(Decision::Queued)).sum();
        assert_eq!(waited, 2);
        assert_eq!(rig.engine.gauges().exchanges, 0);
    }
}

#[test]
fn who_waited_too_long_is_told_and_who_goes_away_makes_room() {
    let mut rig = Rig::with(service_limited(one_and_two()));
    let (first, up) = rig.exchange(GET);
    let (gone, slow) = (ask(&mut rig, OUTBOUND), ask(&mut rig, OUTBOUND));
    rig.reset(gone);
    rig.pass(millis(300));
    let late = ask(&mut rig, OUTBOUND);
    assert_eq!(rig.written_len(late), 0, "there is room in the queue");
    rig.pass(millis(300));
    let told = rig.written(slow);
    assert!(told.starts_with("HTTP/1.1 503 "), "{told}");
    assert!(
        told.contains("l5d-proxy-error: waited too long for its turn at the service"),
        "{told}"
    );
    assert_eq!(refused(&rig, 0, Reason::ServiceQueueTimeout), 1);
    assert_eq!(rig.written_len(late), 0);
    rig.written(up);
    rig.receive(up, OK.as_bytes());
    assert_eq!(rig.written(first), OK);
    assert_eq!(rig.written(up), GET, "the one that still waits");
    // Once through, it may take its time.
    rig.pass(millis(2_000));
    rig.receive(up, OK.as_bytes());
    assert_eq!(rig.written(late), OK);
}

/// A queue in front of an endpoint that dies: each fails by itself, and none is forgotten.
#[test]
fn a_queue_drains_through_a_service_that_fails() {
    let (max_queue, queue_timeout) = (300, millis(9_000));
    let most = Concurrency { max_queue, queue_timeout, ..one_and_two() };
    let mut config = service_limited(most);
    config.timeouts.failfast = millis(100);
    let mut rig = Rig::with(config);
    let downs: Vec<ConnId> = (0..301).map(|_| ask(&mut rig, OUTBOUND)).collect();
    rig.refuse_connect();
    rig.pass(millis(200));
    for down in downs {
        assert!(rig.written(down).starts_with("HTTP/1.1 504 "), "fail-fast");
    }
    assert_eq!(rig.engine.gauges().exchanges, 0);
}

#[test]
fn a_reload_lets_more_through_or_none_wait() {
    let mut rig = Rig::with(service_limited(one_and_two()));
    let downs: Vec<ConnId> = (0..3).map(|_| ask(&mut rig, OUTBOUND)).collect();
    assert_eq!(rig.connects.len(), 1);
    rig.command(Command::Reload(Arc::new(service_limited(Concurrency::default()))));
    assert_eq!(rig.connects.len(), 3);
    let ups: Vec<ConnId> = (0..3).map(|_| rig.connect()).collect();
    for (&down, &up) in downs.iter().zip(&ups) {
        rig.receive(up, OK.as_bytes());
        assert_eq!(rig.written(down), OK);
    }
    // And a service that is gone keeps nobody waiting.
    rig.command(Command::Reload(Arc::new(service_limited(one_and_two()))));
    let downs: Vec<ConnId> = (0..3).map(|_| ask(&mut rig, OUTBOUND)).collect();
    let mut without = config();
    without.services.remove(1);
    rig.command(Command::Reload(Arc::new(without)));
    assert!(downs[1..].iter().all(|&down| rig.written(down).starts_with("HTTP/1.1 404 ")));
}

#[test]
fn a_port_is_full_and_its_app_removed() {
    let mut config = config();
    let port = InboundPort::new(8080, vec![Allow::Unauthenticated]);
    config.inbound = vec![InboundPort { concurrency: one_and_two(), ..port }];
    let mut rig = Rig::with(config.clone());
    let downs: Vec<ConnId> = (0..3).map(|_| ask(&mut rig, INBOUND)).collect();
    config.app = None;
    rig.command(Command::Reload(Arc::new(config.clone())));
    rig.pass(millis(1_000));
    config.app = Some(addr("127.0.0.1:8080"));
    rig.command(Command::Reload(Arc::new(config)));
    assert!(downs[1..].iter().all(|&down| rig.written(down).contains(" 503 ")));
    rig.reset(downs[0]);
    rig.connects.clear();
    // Nothing that was counted stays.
    let down = ask(&mut rig, INBOUND);
    let up = rig.connect();
    rig.receive(up, OK.as_bytes());
    assert_eq!(rig.written(down), OK);
}

/// An endpoint that answers in 10 ms however many ask: the limit grows from what it begins with.
#[test]
fn an_adaptive_limit_lets_more_through_where_latency_stays() {
    let adaptive = Some(Adaptive { min: 2, max: 50 });
    let limit = Concurrency { adaptive, max_queue: 100, ..Concurrency::default() };
    let mut rig = Rig::with(service_limited(limit));
    let mut at_once = Vec::new();
    let (mut ups, mut downs) = (Vec::new(), Vec::new());
    for _ in 0..200 {
        while downs.len() < 40 {
            downs.push(ask(&mut rig, OUTBOUND));
        }
        while !rig.connects.is_empty() {
            ups.push(rig.connect());
        }
        rig.pass(millis(10));
        let busy: Vec<ConnId> =
            ups.iter().copied().filter(|&up| !rig.written(up).is_empty()).collect();
        at_once.push(busy.len());
        for up in busy {
            rig.receive(up, OK.as_bytes());
        }
        downs.retain(|&down| rig.written(down).is_empty());
    }
    assert!(at_once[0] <= 2 && at_once[190..].iter().all(|&n| n >= 20), "{at_once:?}");
}
