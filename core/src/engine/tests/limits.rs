//! What happens at every cap, and what a connection weighs.

use super::http2_rig::{Peer, http2_config};
use alloc::vec::Vec;

use super::rig::*;
use crate::engine::conn::Conn;
use crate::engine::exchange::Exchange;
use crate::engine::{Accepted, CloseKind};
use crate::error::Reason;
use crate::time::Duration;

const GET: &str = "GET / HTTP/1.1\r\nHost: one.example\r\n\r\n";
const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n";

fn refused(rig: &Rig, reason: Reason) -> u64 {
    rig.engine.snapshot().directions[0].refused[reason as usize]
}

/// Ten thousand idle connections: this, and a socket, each.
#[test]
fn sizes() {
    assert!(size_of::<Option<Conn>>() <= 336, "{}", size_of::<Option<Conn>>());
    assert!(size_of::<Exchange>() <= 296, "{}", size_of::<Exchange>());
}

#[test]
fn one_connection_too_many_is_not_accepted() {
    let mut config = config();
    config.limits.connections = 2;
    let mut rig = Rig::with(config);
    let first = rig.client();
    rig.client();
    let accepted = Accepted {
        listener: OUTBOUND,
        peer: addr("127.0.0.1:1"),
        local: addr("127.0.0.1:4140"),
        original_dst: None,
    };
    assert_eq!(rig.engine.accept(rig.now, accepted), None);
    assert_eq!(refused(&rig, Reason::ConnectionLimit), 1);
    // A request that would need one more is answered.
    rig.receive(first, GET.as_bytes());
    assert!(rig.written(first).starts_with("HTTP/1.1 503 "));
    // Room again, service again.
    rig.eof(first);
    let down = rig.client();
    rig.engine.check_invariants().expect("invariants");
    assert!(rig.closed(down).is_empty());
}

#[test]
fn requests_in_flight_are_bounded_and_the_connection_survives_the_503() {
    let mut config = config();
    config.limits.in_flight = 1;
    let mut rig = Rig::with(config);
    let (busy, up) = rig.exchange(GET);
    let down = rig.client();
    rig.receive(down, GET.as_bytes());
    assert!(rig.written(down).starts_with("HTTP/1.1 503 "));
    assert_eq!(refused(&rig, Reason::InFlight), 1);
    rig.receive(up, OK.as_bytes());
    assert_eq!(rig.written(busy), OK);
    rig.receive(down, GET.as_bytes());
    rig.receive(up, OK.as_bytes());
    assert_eq!(rig.written(down), OK);
}

#[test]
fn requests_in_flight_to_one_service_are_bounded_and_others_go_on() {
    for (workers, most) in [(1, 2), (2, 1), (3, 1), (0, 2)] {
        let mut config = config();
        config.workers = workers;
        config.services[1].concurrency.max_in_flight = Some(2);
        let mut rig = Rig::with(config);
        let busy: Vec<_> = (0..most).map(|_| rig.exchange(GET)).collect();
        let down = rig.client();
        rig.receive(down, GET.as_bytes());
        let answer = rig.written(down);
        assert!(answer.starts_with("HTTP/1.1 503 "), "{answer}");
        assert!(
            answer.contains("l5d-proxy-error: too many requests in flight for the service\r\n")
        );
        assert_eq!(refused(&rig, Reason::ServiceBusy), 1);
        // Another service has room, and this one has when an answer is complete.
        rig.receive(down, GET.replace("one", "web").as_bytes());
        let other = rig.connect();
        rig.receive(other, OK.as_bytes());
        assert_eq!(rig.written(down), OK);
        rig.receive(busy[0].1, OK.as_bytes());
        rig.receive(down, GET.as_bytes());
        assert_eq!(rig.written(down), "");
    }
}

#[test]
fn the_queue_of_a_service_is_bounded() {
    let mut config = config();
    config.limits.queue = 1;
    let mut rig = Rig::with(config);
    let first = rig.client();
    rig.receive(first, GET.as_bytes());
    rig.refuse_connect();
    let second = rig.client();
    rig.receive(second, GET.as_bytes());
    assert!(rig.written(second).starts_with("HTTP/1.1 503 "));
    assert_eq!((rig.written(first).len(), refused(&rig, Reason::QueueFull)), (0, 1));
}

#[test]
fn who_gave_up_waiting_takes_no_place_in_the_queue() {
    let mut config = config();
    config.limits.queue = 2;
    let mut rig = Rig::with(config);
    let first = rig.client();
    rig.receive(first, GET.as_bytes());
    rig.refuse_connect();
    for _ in 0..500 {
        let down = rig.client();
        rig.receive(down, GET.as_bytes());
        rig.reset(down);
    }
    let honest = rig.client();
    rig.receive(honest, GET.as_bytes());
    assert_eq!((rig.written(honest).len(), refused(&rig, Reason::QueueFull)), (0, 0));
    rig.pass(millis(120));
    let up = rig.connect();
    assert_eq!(rig.written(up), GET);
}

#[test]
fn a_worker_that_holds_too_much_takes_no_new_requests() {
    let mut config = config();
    config.limits.buffer_bytes = 50_000;
    let mut rig = Rig::with(config);
    let (slow, up) = rig.exchange(GET);
    rig.blocked.push(slow);
    rig.receive(up, b"HTTP/1.1 200 OK\r\nContent-Length: 60000\r\n\r\n");
    for _ in 0..4 {
        rig.receive(up, &[b'x'; 15_000]);
    }
    let down = rig.client();
    rig.receive(down, GET.as_bytes());
    assert!(rig.written(down).starts_with("HTTP/1.1 503 "));
    rig.unblock(slow);
    rig.receive(down, GET.as_bytes());
    assert_eq!(rig.written(up), [GET, GET].concat());
}

#[test]
fn an_upload_that_could_be_sent_again_goes_on_at_the_cap() {
    let mut config = config();
    config.limits.buffer_bytes = 10_000;
    let mut rig = Rig::with(config);
    let (down, up) = rig.exchange(GET);
    rig.receive(up, OK.as_bytes());
    let head = "PUT / HTTP/1.1\r\nHost: one.example\r\nContent-Length: 30000\r\n\r\n";
    rig.receive(down, head.as_bytes());
    for _ in 0..2 {
        rig.receive(down, &[b'x'; 15_000]);
        assert!(rig.engine.read_budget(down) > 0, "nobody else would make room");
    }
    assert_eq!(rig.written_len(up), GET.len() + head.len() + 30_000);
    rig.receive(up, OK.as_bytes());
    assert_eq!(rig.written(down), [OK, OK].concat());
    assert_eq!(rig.engine.gauges().buffered_bytes, 0);
}

/// Found by the simulator: it waited until it was idle for too long.
#[test]
fn an_upload_on_a_stream_that_could_be_sent_again_goes_on_at_the_cap() {
    let mut config = http2_config();
    config.limits.buffer_bytes = 10_000;
    let mut rig = Rig::with(config);
    let down = rig.client();
    let head = "PUT / HTTP/1.1\r\nHost: h2.example\r\nContent-Length: 30000\r\n\r\n";
    rig.receive(down, head.as_bytes());
    let mut app = Peer::endpoint(&mut rig);
    for _ in 0..2 {
        rig.receive(down, &[b'x'; 15_000]);
        app.run(&mut rig);
        assert!(rig.engine.read_budget(down) > 0, "nobody else would make room");
    }
    assert_eq!((app.on(1).body.len(), app.on(1).end), (30_000, true));
    app.ok(&mut rig, 1);
    assert!(rig.written(down).starts_with("HTTP/1.1 200 "));
    assert_eq!(rig.engine.gauges().buffered_bytes, 0);
}

#[test]
fn the_pool_keeps_no_more_than_its_cap_and_nothing_for_long() {
    let mut config = config();
    config.limits.pool_idle = 1;
    let mut rig = Rig::with(config);
    let (first, up1) = rig.exchange(GET);
    let (second, up2) = rig.exchange(GET);
    rig.receive(up1, OK.as_bytes());
    rig.receive(up2, OK.as_bytes());
    assert_eq!((rig.written(first), rig.written(second)), (OK.into(), OK.into()));
    assert_eq!((rig.closed(up1), rig.closed(up2).len()), ([CloseKind::Full].into(), 0));
    rig.pass(Duration::from_secs(3));
    assert_eq!(rig.closed(up2), [CloseKind::Full]);
}

#[test]
fn a_pipeline_of_refusals_does_not_run_ahead_of_its_reader() {
    let mut rig = Rig::new();
    let down = rig.client();
    rig.blocked.push(down);
    let request = "GET / HTTP/1.1\r\nHost: nobody\r\n\r\n";
    let mut sent = 0;
    while rig.engine.read_budget(down) > 0 {
        rig.receive(down, request.repeat(100).as_bytes());
        sent += 100;
        assert!(sent < 10_000, "back-pressure must set in");
    }
    rig.unblock(down);
    let answers = rig.written(down).matches("HTTP/1.1 404 ").count();
    assert_eq!(answers, sent, "and none is lost");
}

#[test]
fn an_answer_that_nobody_reads_does_not_keep_a_connection() {
    let mut rig = Rig::new();
    let (down, up) =
        rig.exchange("GET / HTTP/1.1\r\nHost: one.example\r\nConnection: close\r\n\r\n");
    rig.blocked.push(down);
    rig.receive(up, OK.as_bytes());
    assert!(rig.closed(down).is_empty());
    rig.pass(Duration::from_mins(1));
    assert_eq!(rig.closed(down), [CloseKind::Abort]);
}
