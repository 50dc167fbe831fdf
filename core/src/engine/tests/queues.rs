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

/// One at a time, whatever it is for.
fn all_limited(concurrency: Concurrency) -> Config {
    Config { concurrency, ..config() }
}

const OTHER: &str = "GET / HTTP/1.1\r\nHost: web.example\r\n\r\n";

fn ask_for(rig: &mut Rig, request: &str) -> ConnId {
    let down = rig.client();
    rig.receive(down, request.as_bytes());
    down
}

#[test]
fn all_requests_wait_for_the_proxy_in_order_whatever_they_are_for() {
    let mut rig = Rig::with(all_limited(one_and_two()));
    let downs = [GET, OTHER, GET, OTHER].map(|request| ask_for(&mut rig, request));
    let told = rig.written(downs[3]);
    assert!(told.starts_with("HTTP/1.1 503 "), "{told}");
    assert!(told.contains("l5d-proxy-error: too many requests wait for their turn at the proxy"));
    assert_eq!(refused(&rig, 0, Reason::ProxyQueueFull), 1);
    let gate = |rig: &Rig| rig.engine.snapshot().gate;
    let mut ups = Vec::new();
    for (index, &down) in downs[..3].iter().enumerate() {
        assert_eq!((gate(&rig).in_flight, gate(&rig).queued), (1, 2 - index as u64));
        if index < 2 {
            // One goes to each service, and the third over the connection of the first.
            assert_eq!(rig.connects.len(), 1, "one at a time");
            ups.push(rig.connect());
        }
        let up = ups[index % 2];
        assert_eq!(rig.written(up).matches("GET ").count(), 1, "request {index}");
        rig.receive(up, OK.as_bytes());
        assert_eq!(rig.written(down), OK, "in order");
    }
    assert_eq!((gate(&rig).in_flight, rig.engine.gauges().exchanges), (0, 0));
}

#[test]
fn without_a_queue_the_proxy_is_busy_at_once_and_who_waits_too_long_is_told() {
    let none = Concurrency { max_queue: 0, ..one_and_two() };
    for (limit, status) in [(none, Reason::ProxyBusy), (one_and_two(), Reason::ProxyQueueTimeout)] {
        let mut rig = Rig::with(all_limited(limit));
        let (_, up) = rig.exchange(GET);
        let late = ask_for(&mut rig, OTHER);
        rig.pass(millis(600));
        assert!(rig.written(late).starts_with("HTTP/1.1 503 "));
        assert_eq!(refused(&rig, 0, status), 1);
        rig.receive(up, OK.as_bytes());
        let (down, _) = rig.exchange(OTHER);
        assert_eq!(rig.written_len(down), 0, "there is room again");
    }
}

/// Who is through the first gate waits at the second, or is refused there; neither keeps what it does
/// not use.
#[test]
fn after_the_proxy_comes_the_service() {
    for (max_queue, reason) in [(0, Reason::ServiceBusy), (1, Reason::ServiceQueueFull)] {
        let mut config = service_limited(Concurrency { max_queue, ..one_and_two() });
        config.concurrency = Concurrency { max_in_flight: Some(2), max_queue: 4, ..one_and_two() };
        let mut rig = Rig::with(config);
        let (first, up) = rig.exchange(GET);
        rig.written(up);
        // It takes the second place of the proxy's.
        let other = ask_for(&mut rig, OTHER);
        let other_up = rig.connect();
        let [next, last] = [GET, GET].map(|request| ask_for(&mut rig, request));
        let gate = rig.engine.snapshot().gate;
        assert_eq!((gate.in_flight, gate.queued), (2, 2));
        rig.receive(other_up, OK.as_bytes());
        assert_eq!(rig.written(other), OK);
        let gate = rig.engine.snapshot().gate;
        if max_queue == 0 {
            // There is no queue at the service: both are told.
            assert_eq!((refused(&rig, 0, reason), gate.in_flight, gate.queued), (2, 1, 0));
            assert!(rig.written(next).starts_with("HTTP/1.1 503 "));
        } else {
            assert_eq!((gate.in_flight, gate.queued), (2, 1), "one waits at each");
            let services = rig.engine.snapshot().services;
            assert_eq!(services.iter().map(|service| service.gate.queued).sum::<u64>(), 1);
        }
        rig.receive(up, OK.as_bytes());
        assert_eq!(rig.written(first), OK);
        if max_queue == 1 {
            for down in [next, last] {
                rig.written(up);
                rig.receive(up, OK.as_bytes());
                assert_eq!(rig.written(down), OK);
            }
        }
        let gate = rig.engine.snapshot().gate;
        assert_eq!((gate.in_flight, gate.queued, rig.engine.gauges().exchanges), (0, 0, 0));
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

/// An endpoint that answers in 10 ms however many ask: the limit grows from what it begins with, that of a
/// service as that of the whole proxy.
#[test]
fn an_adaptive_limit_lets_more_through_where_latency_stays() {
    let adaptive = Some(Adaptive { min: 2, max: 50 });
    let limit = Concurrency { adaptive, max_queue: 100, ..Concurrency::default() };
    adapts(service_limited(limit.clone()));
    let rig = adapts(all_limited(limit.clone()));
    assert!(rig.engine.snapshot().gate.limit.is_some_and(|limit| limit >= 20));
    // A limit that stays is not exceeded, however well it goes.
    let rig = adapts_up_to(all_limited(Concurrency { max_in_flight: Some(5), ..limit }), 5);
    assert_eq!(rig.engine.snapshot().gate.limit, Some(5));
}

fn adapts(config: Config) -> Rig {
    adapts_up_to(config, usize::MAX)
}

fn adapts_up_to(config: Config, most: usize) -> Rig {
    let mut rig = Rig::with(config);
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
    assert!(at_once[0] <= 2 && at_once.iter().all(|&n| n <= most), "{at_once:?}");
    assert!(at_once[190..].iter().all(|&n| n >= most.min(20)), "{at_once:?}");
    rig
}

/// What is configured holds for all workers together: each of two lets half of it through, and half wait.
#[test]
fn workers_share_limits_and_queues() {
    let limit = Concurrency {
        max_in_flight: Some(4),
        max_queue: 2,
        queue_timeout: millis(500),
        adaptive: None,
    };
    let mut rig = Rig::with(Config { workers: 2, ..service_limited(limit) });
    let downs: Vec<ConnId> = (0..4).map(|_| ask(&mut rig, OUTBOUND)).collect();
    assert_eq!(rig.connects.len(), 2);
    assert!(downs[..3].iter().all(|&down| rig.written_len(down) == 0), "two, and one that waits");
    assert!(rig.written(downs[3]).starts_with("HTTP/1.1 503 "));
    // So it is with what they find out.
    for (workers, at_first) in [(1, 8), (2, 4)] {
        let adaptive = Some(Adaptive { min: 8, max: 50 });
        let limit = Concurrency { adaptive, ..Concurrency::default() };
        let mut rig = Rig::with(Config { workers, ..service_limited(limit) });
        for _ in 0..10 {
            ask(&mut rig, OUTBOUND);
        }
        assert_eq!(rig.connects.len(), at_first);
    }
}
