//! HTTP/1 through the engine.

use alloc::format;

use super::rig::*;
use crate::engine::{CloseKind, Event};
use crate::error::Reason;
use crate::time::Duration;

const GET: &str = "GET /a HTTP/1.1\r\nHost: one.example\r\n\r\n";
const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi";

#[test]
fn a_get_goes_through_and_both_connections_serve_the_next() {
    let mut rig = Rig::new();
    let (down, up) = rig.exchange(GET);
    assert_eq!(rig.written(up), GET);
    rig.receive(up, OK.as_bytes());
    assert_eq!(rig.written(down), OK);
    rig.receive(down, GET.as_bytes());
    assert!(rig.connects.is_empty(), "the pooled connection is used");
    assert_eq!(rig.written(up), GET);
    rig.receive(up, OK.as_bytes());
    assert_eq!(rig.written(down), OK);
    let snapshot = rig.engine.snapshot();
    let service = snapshot.services.iter().find(|s| &*s.name == "one.example:80").expect("service");
    assert_eq!((service.stats.requests, service.stats.responses[1]), (2, 2));
    assert_eq!(service.stats.latency.count(), 2);
}

#[test]
fn an_unknown_authority_is_404_and_the_connection_goes_on() {
    let mut rig = Rig::new();
    let down = rig.client();
    rig.receive(down, b"GET / HTTP/1.1\r\nHost: nobody\r\n\r\n");
    let answer = rig.written(down);
    assert!(answer.starts_with("HTTP/1.1 404 "), "{answer}");
    assert!(answer.contains("l5d-proxy-error: no service has this authority\r\n"), "{answer}");
    rig.receive(down, GET.as_bytes());
    rig.connect();
    assert!(rig.closed(down).is_empty());
}

#[test]
fn who_is_unknown_is_told_and_nobody_else() {
    let long = "x".repeat(2_000);
    for (head, named) in [
        ("GET / HTTP/1.1\r\nHost: NoBody.\r\n\r\n", Some("nobody:80")),
        // What the last one asked is no business of these.
        ("GET / HTTP/1.1\r\nHost:\r\n\r\n", None),
        ("GET / HTTP/1.0\r\n\r\n", None),
        ("CONNECT some.body:1 HTTP/1.1\r\nHost: some.body:1\r\n\r\n", Some("some.body:1")),
        (&format!("GET / HTTP/1.1\r\nHost: {long}\r\n\r\n"), Some(&long[..256])),
    ] {
        let mut rig = Rig::new();
        let before = rig.client();
        rig.receive(before, b"GET / HTTP/1.1\r\nHost: before\r\n\r\n");
        rig.events.clear();
        let down = rig.client();
        rig.receive(down, head.as_bytes());
        let told = rig.events.iter().find_map(|event| match event {
            Event::Refused { reason: Reason::UnknownAuthority, authority, .. } => Some(authority),
            _ => None,
        });
        assert_eq!(told.expect("it is refused").as_deref(), named, "{head}");
    }
}

#[test]
fn a_malformed_request_is_answered_and_the_connection_lingers() {
    let mut rig = Rig::new();
    let down = rig.client();
    rig.receive(down, b"GET / HTTP/1.1\r\nHost : x\r\n\r\nGET / HTTP/1.1\r\n");
    let answer = rig.written(down);
    assert!(answer.starts_with("HTTP/1.1 400 "), "{answer}");
    assert!(answer.to_ascii_lowercase().contains("connection: close\r\n"), "{answer}");
    assert_eq!(rig.closed(down), [CloseKind::Half]);
    rig.receive(down, b"more that nobody reads");
    rig.pass(Duration::from_secs(1));
    assert_eq!(rig.closed(down), [CloseKind::Half, CloseKind::Full]);
    assert!(rig.connects.is_empty());
    let refused =
        |event: &Event| matches!(event, Event::Refused { reason: Reason::SpaceBeforeColon, .. });
    assert!(rig.events.iter().any(refused), "{:?}", rig.events);
}

#[test]
fn bodies_stream_both_ways_with_their_framing() {
    let mut rig = Rig::new();
    let (down, up) = rig.exchange(
        "POST /up HTTP/1.1\r\nHost: one.example\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nabcd\r\n",
    );
    let head = "POST /up HTTP/1.1\r\nHost: one.example\r\nTransfer-Encoding: chunked\r\n\r\n";
    assert_eq!(rig.written(up), alloc::format!("{head}4\r\nabcd\r\n"));
    rig.receive(down, b"1;x=y\r\nz\r\n0\r\nSum: 7\r\n\r\n");
    assert_eq!(rig.written(up), "1\r\nz\r\n0\r\nSum: 7\r\n\r\n");
    rig.receive(up, b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nfoo\r\n");
    rig.receive(up, b"0\r\n\r\n");
    let head = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";
    assert_eq!(rig.written(down), alloc::format!("{head}3\r\nfoo\r\n0\r\n\r\n"));
}

#[test]
fn pipelined_requests_are_answered_in_order() {
    let mut rig = Rig::new();
    let down = rig.client();
    rig.receive(down, [GET, GET, GET].concat().as_bytes());
    let up = rig.connect();
    for _ in 0..3 {
        assert_eq!(rig.written(up), GET);
        rig.receive(up, OK.as_bytes());
    }
    assert_eq!(rig.written(down), [OK, OK, OK].concat());
}

#[test]
fn a_dead_pooled_connection_costs_nothing() {
    for reset in [false, true] {
        let mut rig = Rig::new();
        let (down, up) = rig.exchange(GET);
        rig.receive(up, OK.as_bytes());
        rig.written(down);
        rig.receive(down, GET.as_bytes());
        if reset {
            rig.reset(up);
        } else {
            rig.eof(up);
        }
        let again = rig.connect();
        assert_eq!(rig.written(again), GET);
        rig.receive(again, OK.as_bytes());
        assert_eq!(rig.written(down), OK);
    }
}

#[test]
fn a_request_that_may_have_had_an_effect_is_not_sent_twice() {
    const POST: &str = "POST / HTTP/1.1\r\nHost: one.example\r\nContent-Length: 1\r\n\r\nx";
    let mut rig = Rig::new();
    let (down, up) = rig.exchange(GET);
    rig.receive(up, OK.as_bytes());
    rig.written(down);
    rig.receive(down, POST.as_bytes());
    rig.eof(up);
    assert!(rig.connects.is_empty());
    assert!(rig.written(down).starts_with("HTTP/1.1 502 "));
    // Its twin: not a byte of it was written.
    let mut rig = Rig::new();
    let (down, up) = rig.exchange(GET);
    rig.receive(up, OK.as_bytes());
    rig.written(down);
    rig.blocked.push(up);
    rig.receive(down, POST.as_bytes());
    rig.reset(up);
    let again = rig.connect();
    assert_eq!(rig.written(again), POST);
}

#[test]
fn a_response_cut_short_is_visible() {
    let mut rig = Rig::new();
    let (down, up) = rig.exchange(GET);
    rig.receive(up, b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf");
    rig.eof(up);
    assert!(rig.written(down).ends_with("half"));
    assert_eq!(rig.closed(down), [CloseKind::Full]);
    let mut rig = Rig::new();
    let (down, up) = rig.exchange(GET);
    rig.receive(up, b"HTTP/1.1 200 OK\r\n\r\nhalf");
    rig.reset(up);
    assert_eq!(rig.closed(down), [CloseKind::Abort], "only a reset ends a close-delimited body");
}

#[test]
fn a_close_delimited_response_ends_with_the_connection() {
    let mut rig = Rig::new();
    let (down, up) = rig.exchange(GET);
    rig.receive(up, b"HTTP/1.0 200 OK\r\n\r\nall");
    rig.eof(up);
    let answer = rig.written(down);
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n") && answer.ends_with("\r\n\r\nall"));
    assert!(answer.to_ascii_lowercase().contains("connection: close"), "{answer}");
    assert_eq!(rig.closed(down), [CloseKind::Half]);
    rig.eof(down);
    assert_eq!(rig.closed(down), [CloseKind::Half, CloseKind::Full]);
}

/// RFC 9112 §9.6: a close that meets what the client pipelined resets, and may cost it the answer.
#[test]
fn a_request_behind_a_close_delimited_response_meets_no_reset() {
    let mut rig = Rig::new();
    let (down, up) = rig.exchange(GET);
    rig.blocked.push(down);
    rig.receive(up, b"HTTP/1.0 200 OK\r\n\r\nall");
    rig.eof(up);
    assert!(rig.engine.read_budget(down) > 0, "what comes now is read, and dropped");
    rig.receive(down, GET.as_bytes());
    rig.unblock(down);
    assert_eq!(rig.closed(down), [CloseKind::Half]);
    rig.eof(down);
    assert_eq!(rig.closed(down), [CloseKind::Half, CloseKind::Full]);
}

#[test]
fn an_expectation_is_passed_on_and_so_is_its_answer() {
    const HEAD: &str = "PUT / HTTP/1.1\r\nHost: one.example\r\nContent-Length: 2\r\n\
                        Expect: 100-continue\r\n\r\n";
    let mut rig = Rig::new();
    let (down, up) = rig.exchange(HEAD);
    assert_eq!(rig.written(up), HEAD);
    rig.receive(up, b"HTTP/1.1 100 Continue\r\n\r\n");
    assert_eq!(rig.written(down), "HTTP/1.1 100 Continue\r\n\r\n");
    rig.receive(down, b"ok");
    assert_eq!(rig.written(up), "ok");
    rig.receive(up, OK.as_bytes());
    assert_eq!(rig.written(down), OK);
    assert!(rig.closed(down).is_empty());
    // A final answer instead: the client may never send the body.
    let mut rig = Rig::new();
    let (down, up) = rig.exchange(HEAD);
    rig.receive(up, b"HTTP/1.1 413 Too Large\r\nContent-Length: 0\r\n\r\n");
    assert!(rig.written(down).to_ascii_lowercase().contains("connection: close"));
    assert_eq!(rig.closed(down), [CloseKind::Half]);
    assert_eq!(rig.closed(up), [CloseKind::Abort]);
}

#[test]
fn a_stalled_reader_pauses_the_endpoint_and_holds_little() {
    let mut rig = Rig::new();
    let (down, up) = rig.exchange(GET);
    rig.blocked.push(down);
    rig.receive(up, b"HTTP/1.1 200 OK\r\nContent-Length: 10000000\r\n\r\n");
    let mut sent = 0;
    while rig.engine.read_budget(up) > 0 {
        rig.receive(up, &[b'x'; 16384]);
        sent += 16384;
        assert!(sent < 200_000, "back-pressure must set in");
    }
    assert!(rig.engine.gauges().buffered_bytes < 200_000);
    rig.unblock(down);
    assert_eq!(rig.read_ready, [up]);
    assert!(rig.written_len(down) > sent);
    assert_eq!(rig.engine.gauges().buffered_bytes, 0);
}

#[test]
fn timeouts_answer_504_and_a_slow_head_408() {
    let mut config = config();
    config.services[1].timeouts.request = Some(Duration::from_secs(2));
    let mut rig = Rig::with(config);
    let (down, up) = rig.exchange(GET);
    rig.pass(Duration::from_secs(2));
    let answer = rig.written(down);
    assert!(answer.starts_with("HTTP/1.1 504 "), "{answer}");
    assert_eq!(rig.closed(up), [CloseKind::Abort]);
    rig.receive(down, &GET.as_bytes()[..20]);
    rig.pass(Duration::from_secs(31));
    assert!(rig.written(down).starts_with("HTTP/1.1 408 "));
    assert_eq!(rig.closed(down), [CloseKind::Half, CloseKind::Full]);
}

#[test]
fn a_drain_closes_what_is_idle_and_lets_the_rest_finish() {
    let mut rig = Rig::new();
    let idle = rig.client();
    let (down, up) = rig.exchange(GET);
    rig.command(crate::engine::Command::Drain);
    // A first request may be on its way.
    assert!(rig.closed(idle).is_empty());
    assert!(rig.closed(down).is_empty());
    rig.pass(Duration::from_secs(1));
    assert_eq!(rig.closed(idle), [CloseKind::Full]);
    rig.receive(up, OK.as_bytes());
    assert!(rig.written(down).to_ascii_lowercase().contains("connection: close"));
    rig.eof(down);
    assert!(rig.events.contains(&Event::Drained), "{:?}", rig.events);
}

#[test]
fn an_empty_body_is_complete_and_its_sender_may_close() {
    let post = "POST / HTTP/1.1\r\nHost: one.example\r\nContent-Length: 0\r\n\r\n";
    let mut rig = Rig::new();
    let down = rig.client();
    rig.receive(down, post.as_bytes());
    rig.eof(down);
    let up = rig.connect();
    assert_eq!(rig.written(up), post);
    rig.receive(up, OK.as_bytes());
    assert_eq!(rig.written(down), OK);
}

#[test]
fn what_came_before_a_broken_chunk_is_passed_on_and_the_cut_is_visible() {
    let mut rig = Rig::new();
    let (down, up) = rig.exchange(GET);
    rig.receive(up, b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n");
    rig.written(down);
    rig.receive(up, b"2\r\nok0\r\n\r\n");
    assert_eq!(rig.written(down), "2\r\nok\r\n");
    assert_eq!(rig.closed(down), [CloseKind::Full]);
    assert_eq!(rig.closed(up), [CloseKind::Abort]);
}

#[test]
fn trailers_are_checked_also_for_a_client_that_gets_none() {
    const GET10: &str = "GET / HTTP/1.0\r\nHost: one.example\r\nConnection: keep-alive\r\n\r\n";
    const HEAD: &[u8] = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n";
    let mut rig = Rig::new();
    let (down, up) = rig.exchange(GET10);
    rig.receive(up, HEAD);
    rig.receive(up, b"0\r\nBad Name: 1\r\n\r\n");
    assert_eq!(rig.closed(down), [CloseKind::Abort], "the client must not take it for complete");
    let mut rig = Rig::new();
    let (down, up) = rig.exchange(GET10);
    rig.receive(up, HEAD);
    rig.receive(up, b"0\r\nGood-Name: 1\r\n\r\n");
    assert!(rig.written(down).ends_with("\r\n\r\nok"));
    assert_eq!(rig.closed(down), [CloseKind::Half]);
}

#[test]
fn informational_responses_without_end_wait_for_their_reader() {
    let mut rig = Rig::new();
    let (down, up) = rig.exchange(GET);
    rig.blocked.push(down);
    let mut sent = 0;
    while rig.engine.read_budget(up) > 0 {
        rig.receive(up, "HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n".repeat(100).as_bytes());
        sent += 100;
        assert!(sent < 10_000, "back-pressure must set in");
    }
    rig.unblock(down);
    rig.receive(up, OK.as_bytes());
    let answer = rig.written(down);
    assert_eq!(answer.matches("HTTP/1.1 103 ").count(), sent);
    assert!(answer.ends_with(OK));
}

#[test]
fn large_trailers_pass_under_the_limit_and_are_refused_over_it() {
    let mut config = config();
    config.limits.stream_buffer = 4096;
    for (len, good) in [(60_000, true), (70_000, false)] {
        let mut rig = Rig::with(config.clone());
        let (down, up) = rig.exchange(
            "POST / HTTP/1.1\r\nHost: one.example\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nX: ",
        );
        for _ in 0..len / 1000 {
            assert!(rig.engine.read_budget(down) > 0 || !good, "stalled");
            rig.receive(down, &[b'x'; 1000]);
        }
        rig.receive(down, b"\r\n\r\n");
        if good {
            assert!(rig.written(up).ends_with("x\r\n\r\n"));
        } else {
            assert!(rig.written(down).starts_with("HTTP/1.1 431 "));
        }
    }
}

#[test]
fn a_farewell_on_an_idle_connection_is_no_answer() {
    let post = "POST / HTTP/1.1\r\nHost: one.example\r\nContent-Length: 1\r\n\r\nx";
    let farewell = "HTTP/1.1 408 Request Timeout\r\nConnection: close\r\n\r\n";
    let mut rig = Rig::new();
    let (down, up) = rig.exchange(GET);
    rig.receive(up, OK.as_bytes());
    rig.written(down);
    // Both arrive in one turn, so nothing of the request was written.
    let input = |conn, text: &str| crate::engine::Input::Received { conn, data: text.into() };
    rig.engine.handle_input(rig.now, input(down, post));
    rig.input(input(up, farewell));
    let again = rig.connect();
    assert_eq!(rig.written(again), post);
    rig.receive(again, OK.as_bytes());
    assert_eq!(rig.written(down), OK);
}

#[test]
fn an_end_inside_the_framing_of_a_body_is_an_end() {
    const HEAD: &str = "POST / HTTP/1.1\r\nHost: one.example\r\nTransfer-Encoding: chunked\r\n\r\n";
    const ANSWER: &str = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";
    for rest in ["1", "1\r", "1\r\nM", "1\r\nM\r", "1\r\nM\r\n0\r\n\r", "1\r\nM\r\n0\r\nSum: a"] {
        let mut rig = Rig::new();
        let (down, up) = rig.exchange(HEAD);
        rig.receive(down, rest.as_bytes());
        rig.eof(down);
        assert_eq!(
            (rig.closed(down).len(), rig.closed(up)),
            (1, [CloseKind::Abort].into()),
            "{rest}"
        );
        assert_eq!(rig.engine.gauges().exchanges, 0);
        let mut rig = Rig::new();
        let (down, up) = rig.exchange(GET);
        rig.receive(up, ANSWER.as_bytes());
        rig.receive(up, rest.as_bytes());
        rig.eof(up);
        assert_eq!(rig.closed(down), [CloseKind::Full], "{rest}");
        assert_eq!(rig.engine.gauges().exchanges, 0);
    }
}
