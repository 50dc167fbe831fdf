//! Mirrors through the engine: what a copy gets, what becomes of it, and that its request does not
//! notice.

use alloc::format;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;

use super::http2_rig::{Peer, http2_config, narrow, run};
use super::rig::*;
use crate::config::{Config, Protocol, Service};
use crate::engine::{CloseKind, Command, ConnId, Event};
use crate::http2::ErrorCode;
use crate::policy::{Concurrency, Failure, Fixed, Mirror, Retry, Route, RouteTable};
use crate::stats::Decision;
use crate::time::Duration;

const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi";

/// Requests for `one.example` and `h2.example` are copied to `service`.
fn with(service: &str, change: impl Fn(&mut Route)) -> Config {
    let route = |name: &str| {
        let mirror = Some(Mirror::new(service.into(), 1.0, Mirror::TIMEOUT));
        let mut route = Route { service: name.into(), mirror, ..Route::default() };
        change(&mut route);
        route
    };
    let names = ["one.example:80", "h2.example:80"];
    let mut config = http2_config();
    for (name, protocol, at) in [
        ("next.example:80", Protocol::Http1, "10.9.0.1:80"),
        ("next2.example:80", Protocol::Http2, "10.9.0.2:80"),
    ] {
        config.services.push(Service { protocol, ..super::rig::service(name, &[at]) });
    }
    Config { routes: RouteTable::new(names.map(route).into()), ..config }
}

fn rig(service: &str) -> Rig {
    Rig::with(with(service, |_| ()))
}

fn request(method: &str, body: &str) -> String {
    let length = body.len();
    format!("{method} / HTTP/1.1\r\nHost: one.example\r\nContent-Length: {length}\r\n\r\n{body}")
}

fn decided(rig: &Rig, decision: Decision) -> u64 {
    let services = rig.engine.snapshot().services;
    services.iter().map(|service| service.stats.decisions.get(decision)).sum()
}

/// What happened to copies, of what can.
fn resets(rig: &Rig) -> Vec<(Decision, u64)> {
    let all = Decision::ALL.iter().filter(|decision| decision.label().starts_with("mirror_"));
    all.map(|&decision| (decision, decided(rig, decision))).filter(|(_, n)| *n > 0).collect()
}

/// A client, its endpoint and the mirror's, with a request on its way.
fn mirrored(rig: &mut Rig, request: &str) -> (ConnId, ConnId, ConnId) {
    let (down, up) = rig.exchange(request);
    assert_eq!(rig.connects.len(), 1, "a copy");
    (down, up, rig.connect())
}

fn ends(rig: &Rig) {
    assert_eq!((rig.engine.gauges().exchanges, rig.engine.mirrors.live), (0, 0));
}

#[test]
fn a_copy_is_what_its_request_is_and_nobody_gets_its_answer() {
    let mut rig = rig("next.example:80");
    let chunks = "PUT / HTTP/1.1\r\nHost: one.example\r\nTransfer-Encoding: chunked\r\n\r\n\
                  7\r\nabcdefg\r\n0\r\nx-sum: 1\r\n\r\n";
    let large = request("POST", &"x".repeat(20_000));
    for request in [&request("GET", ""), &request("POST", "body"), chunks, &large] {
        let down = rig.client();
        rig.receive(down, request.as_bytes());
        let conns = [rig.connect(), rig.connect()];
        for conn in conns {
            assert_eq!(rig.written(conn), *request);
        }
        rig.receive(conns[1], b"HTTP/1.1 500 Oh\r\nContent-Length: 5\r\nConnection: close\r\n\r\n");
        rig.receive(conns[1], b"wrong");
        assert_eq!(rig.written(down), "");
        rig.receive(conns[0], OK.replace("\r\n\r\n", "\r\nConnection: close\r\n\r\n").as_bytes());
        assert!(rig.written(down).ends_with("hi"));
        ends(&rig);
    }
    assert_eq!((decided(&rig, Decision::Mirrored), resets(&rig)), (4, [].into()));
    let services = rig.engine.snapshot().services;
    let of = |name: &str| services.iter().find(|service| &*service.name == name).expect(name);
    // A response of the mirror's service, and none of the request's.
    assert_eq!(of("next.example:80").stats.responses, [0, 0, 0, 0, 4]);
    assert_eq!(of("one.example:80").stats.responses, [0, 4, 0, 0, 0]);
    assert_eq!(of("one.example:80").stats.requests, 4);
    assert_eq!(of("one.example:80").endpoints[0].stats.failures, 0);
}

#[test]
fn a_copy_of_a_request_in_pieces_comes_in_the_same_pieces_and_waits_for_its_connection() {
    let mut rig = rig("next.example:80");
    let head = "PUT / HTTP/1.1\r\nHost: one.example\r\nTransfer-Encoding: chunked\r\n\r\n";
    let (down, up) = rig.exchange(head);
    rig.receive(down, b"3\r\nabc\r\n");
    assert_eq!(rig.written(up), format!("{head}3\r\nabc\r\n"));
    let mirror = rig.connect();
    assert_eq!(rig.written(mirror), format!("{head}3\r\nabc\r\n"));
    rig.receive(down, b"2\r\nde\r\n");
    assert_eq!(
        (rig.written(up), rig.written(mirror)),
        ("2\r\nde\r\n".into(), "2\r\nde\r\n".into())
    );
    rig.receive(down, b"0\r\nx: y\r\n\r\n");
    for conn in [up, mirror] {
        assert_eq!(rig.written(conn), "0\r\nx: y\r\n\r\n");
    }
    for conn in [mirror, up] {
        rig.receive(conn, OK.as_bytes());
    }
    assert_eq!(rig.written(down), OK);
    ends(&rig);
}

/// What the client and the endpoint see, whatever the mirror does, is what they see without one.
#[test]
fn nothing_that_a_mirror_does_is_noticed() {
    type Does = Option<fn(&mut Rig, ConnId)>;
    type Case = (&'static str, Does, &'static [(Decision, u64)]);
    let cases: [Case; 9] = [
        ("refuses", None, &[(Decision::MirrorUnready, 1)]),
        ("says nothing", Some(|_, _| ()), &[(Decision::MirrorTimeout, 1)]),
        ("answers early", Some(|rig, at| rig.receive(at, OK.as_bytes())), &[]),
        (
            "answers 500",
            Some(|rig, at| rig.receive(at, b"HTTP/1.1 500 Oh\r\nContent-Length: 0\r\n\r\n")),
            &[],
        ),
        ("resets", Some(|rig, at| rig.reset(at)), &[(Decision::MirrorFailed, 1)]),
        ("closes", Some(|rig, at| rig.eof(at)), &[(Decision::MirrorFailed, 1)]),
        (
            "talks nonsense",
            Some(|rig, at| rig.receive(at, b"nonsense\r\n\r\n")),
            &[(Decision::MirrorFailed, 1)],
        ),
        (
            "breaks off",
            Some(|rig, at| {
                rig.receive(at, b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nx");
                rig.eof(at);
            }),
            &[(Decision::MirrorFailed, 1)],
        ),
        (
            "informs",
            Some(|rig, at| {
                rig.receive(at, b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\n\r\n");
                rig.receive(at, OK.as_bytes());
            }),
            &[],
        ),
    ];
    for (name, does, expected) in cases {
        let mut rig = rig("next.example:80");
        let down = rig.client();
        let put = request("PUT", "body and more");
        let (first, second) = put.split_at(put.len() - 8);
        rig.receive(down, first.as_bytes());
        let up = rig.connect();
        match does {
            Some(does) => {
                let mirror = rig.connect();
                does(&mut rig, mirror);
            }
            None => _ = rig.refuse_connect(),
        }
        assert_eq!((rig.written(up), rig.written(down)), (first.into(), String::new()), "{name}");
        rig.receive(down, second.as_bytes());
        assert_eq!(rig.written(up), second, "{name}");
        rig.receive(up, OK.as_bytes());
        assert_eq!(rig.written(down), OK, "{name}");
        assert_eq!((rig.closed(down), rig.closed(up)), ([].into(), [].into()), "{name}");
        rig.pass(Mirror::TIMEOUT);
        assert_eq!(resets(&rig), expected, "{name}");
        ends(&rig);
        let refused = |event: &&Event| matches!(event, Event::Refused { .. });
        assert_eq!(rig.events.iter().find(refused), None, "{name}");
    }
}

#[test]
fn a_mirror_that_is_too_far_behind_is_reset_and_its_request_goes_on() {
    // On HTTP/2, what its connection holds for all its streams comes on top.
    for (service, held) in [("next.example:80", 60..80), ("next2.example:80", 120..150)] {
        let mut rig = rig(service);
        let down = rig.client();
        let head = "PUT / HTTP/1.1\r\nHost: one.example\r\nContent-Length: 200000\r\n\r\n";
        rig.receive(down, head.as_bytes());
        let up = rig.connect();
        let mirror = rig.connects[0].0;
        rig.blocked.push(mirror);
        rig.connect();
        let (mut sent, mut most) = (0, 0);
        while sent < 200_000 {
            rig.receive(down, &[b'x'; 10_000]);
            sent += 10_000;
            assert_eq!(rig.written(up).trim_start_matches(head).len(), 10_000, "{service} {sent}");
            most = most.max(rig.engine.gauges().buffered_bytes);
        }
        assert_eq!(resets(&rig), [(Decision::MirrorBehind, 1)]);
        assert!(held.contains(&(most / 1_000)), "{most}");
        if service == "next.example:80" {
            assert_eq!(rig.closed(mirror), [CloseKind::Abort], "never ended cleanly");
        }
        rig.receive(up, OK.as_bytes());
        assert_eq!(rig.written(down), OK);
        ends(&rig);
        if service != "next.example:80" {
            rig.unblock(mirror);
        }
        assert_eq!(rig.engine.gauges().buffered_bytes, 0, "{service}");
    }
}

/// The twin: as slow, but never that far behind.
#[test]
fn a_mirror_that_keeps_up_gets_everything() {
    let mut rig = rig("next.example:80");
    let body = "x".repeat(300_000);
    let put = request("PUT", &body);
    let (down, up, mirror) = mirrored(&mut rig, &put[..100]);
    rig.blocked.push(mirror);
    let (mut original, mut copy) = (String::new(), String::new());
    for piece in put.as_bytes()[100..].chunks(30_000) {
        rig.receive(down, piece);
        original += &rig.written(up);
        rig.receive(down, b"");
        rig.unblock(mirror);
        copy += &rig.written(mirror);
        rig.blocked.push(mirror);
    }
    rig.unblock(mirror);
    copy += &rig.written(mirror);
    assert_eq!((original == put, copy == put, resets(&rig)), (true, true, [].into()));
    rig.receive(up, OK.as_bytes());
    assert_eq!(rig.written(down), OK);
    rig.receive(mirror, OK.as_bytes());
    ends(&rig);
}

#[test]
fn no_more_than_the_cap_are_copied_at_once_and_none_where_nobody_is_ready() {
    let mut config = with("next.example:80", |_| ());
    config.limits.mirrors = 2;
    let mut rig = Rig::with(config);
    let mut mirrors = Vec::new();
    for n in 0..4 {
        let down = rig.client();
        rig.receive(down, request("GET", "").as_bytes());
        let up = rig.connect();
        while !rig.connects.is_empty() {
            let mirror = rig.connect();
            mirrors.push(mirror);
        }
        rig.receive(up, OK.replace("\r\n\r\n", "\r\nConnection: close\r\n\r\n").as_bytes());
        assert!(rig.written(down).ends_with("hi"), "{n}");
    }
    assert_eq!((mirrors.len(), decided(&rig, Decision::Mirrored)), (2, 2));
    assert_eq!(resets(&rig), [(Decision::MirrorCap, 2)]);
    for mirror in mirrors {
        rig.reset(mirror);
    }
    // Its endpoint is down now: nothing waits for it.
    let down = rig.client();
    rig.receive(down, request("GET", "").as_bytes());
    let up = rig.connect();
    assert!(rig.connects.is_empty());
    assert_eq!(decided(&rig, Decision::MirrorUnready), 1);
    rig.receive(up, OK.as_bytes());
    assert_eq!(rig.written(down), OK);
    ends(&rig);
}

#[test]
fn a_copy_waits_for_no_turn_at_its_service() {
    let mut config = with("next.example:80", |_| ());
    let next = config.services.iter_mut().find(|service| &*service.name == "next.example:80");
    next.expect("the service").concurrency = Concurrency {
        max_in_flight: Some(1),
        max_queue: 9,
        queue_timeout: millis(900),
        adaptive: None,
    };
    let mut rig = Rig::with(config);
    let (_, _, mirror) = mirrored(&mut rig, &request("GET", ""));
    let (down, up) = rig.exchange(&request("GET", ""));
    assert!(rig.connects.is_empty());
    assert_eq!(resets(&rig), [(Decision::MirrorCap, 1)]);
    rig.receive(up, OK.as_bytes());
    assert_eq!(rig.written(down), OK);
    // And there is one again when the first is over.
    rig.receive(mirror, OK.as_bytes());
    rig.written(mirror);
    rig.receive(down, request("GET", "").as_bytes());
    assert_eq!(rig.written(mirror), request("GET", ""));
    assert_eq!(decided(&rig, Decision::Mirrored), 2);
}

#[test]
fn a_worker_that_is_half_full_copies_nothing() {
    let mut config = with("next.example:80", |_| ());
    config.limits.in_flight = 4;
    let mut rig = Rig::with(config);
    for n in 0..5 {
        let down = rig.client();
        rig.receive(down, request("GET", "").as_bytes());
        // Copies take nobody's place.
        assert_eq!(rig.written(down).is_empty(), n < 4, "{n}");
    }
    assert_eq!((decided(&rig, Decision::Mirrored), decided(&rig, Decision::MirrorCap)), (1, 3));
}

#[test]
fn a_request_that_is_cancelled_takes_its_copy_along() {
    // Complete or not.
    for cut in [0, 3] {
        let mut rig = rig("next.example:80");
        let put = request("PUT", "body");
        let (down, up, mirror) = mirrored(&mut rig, &put[..put.len() - cut]);
        rig.reset(down);
        assert_eq!(
            (rig.closed(up), rig.closed(mirror)),
            ([CloseKind::Abort].into(), [CloseKind::Abort].into())
        );
        assert_eq!(resets(&rig), [(Decision::MirrorCancelled, 1)]);
        ends(&rig);
    }
}

#[test]
fn a_request_that_is_over_before_it_is_complete_leaves_no_copy_that_looks_complete() {
    let mut rig = rig("next.example:80");
    let head = "PUT / HTTP/1.1\r\nHost: one.example\r\nTransfer-Encoding: chunked\r\n\r\n";
    let (down, up, mirror) = mirrored(&mut rig, &format!("{head}3\r\nabc\r\n"));
    rig.receive(up, b"HTTP/1.1 413 Too Large\r\nContent-Length: 0\r\n\r\n");
    assert!(rig.written(down).starts_with("HTTP/1.1 413 "));
    assert_eq!(rig.closed(mirror), [CloseKind::Abort]);
    assert_eq!(resets(&rig), [(Decision::MirrorCancelled, 1)]);
    // Nor does one that breaks its framing.
    let (down, _, mirror) = mirrored(&mut rig, &format!("{head}3\r\nabc\r\n"));
    rig.receive(down, b"nonsense\r\n");
    assert!(rig.written(down).starts_with("HTTP/1.1 400 "));
    assert_eq!(rig.closed(mirror), [CloseKind::Abort]);
    // One that failed and is complete is as good as any: who looks at copies wants those above all.
    let (down, up, mirror) = mirrored(&mut rig, &request("PUT", "body"));
    rig.reset(up);
    assert!(rig.written(down).starts_with("HTTP/1.1 502 "));
    assert_eq!(rig.closed(mirror), []);
    rig.receive(mirror, OK.as_bytes());
    ends(&rig);
}

#[test]
fn a_copy_has_its_own_time_and_the_call_of_a_client_is_told_what_it_has() {
    let mut rig = rig("next2.example:80");
    let mut client = Peer::client(&mut rig);
    let call = "POST /a.B/C HTTP/1.1\r\nHost: h2.example\r\ngrpc-timeout: 30S\r\n\
                Content-Type: application/grpc\r\n\r\n";
    client.ask(&mut rig, call, false);
    let mut app = Peer::endpoint(&mut rig);
    let mut mirror = Peer::endpoint(&mut rig);
    // As long as its request is not complete, it has all the time that there is.
    for _ in 0..3 {
        rig.pass(Duration::from_secs(5));
        for peer in [&mut client, &mut app, &mut mirror] {
            peer.run(&mut rig);
        }
    }
    client.send(&mut rig, 1, b"late", true);
    app.run(&mut rig);
    app.answer(&mut rig, 1, "HTTP/1.1 200 OK\r\n\r\n", false);
    app.trailers(&mut rig, 1, "grpc-status: 0\r\n");
    client.run(&mut rig);
    assert!(client.on(1).end && client.on(1).trailers.is_some());
    mirror.run(&mut rig);
    assert_eq!((&mirror.on(1).body[..], mirror.on(1).end), (&b"late"[..], true));
    assert!(mirror.head(1).contains("grpc-timeout: 30S\r\n"), "{}", mirror.head(1));
    rig.pass(millis(5_000));
    mirror.run(&mut rig);
    rig.pass(millis(4_999));
    mirror.run(&mut rig);
    assert_eq!(mirror.on(1).reset, None);
    rig.pass(millis(1));
    mirror.run(&mut rig);
    assert_eq!(mirror.on(1).reset, Some(ErrorCode::CANCEL));
    assert_eq!(resets(&rig), [(Decision::MirrorTimeout, 1)]);
    ends(&rig);
}

#[test]
fn streams_are_copied_message_by_message_with_their_trailers_in_any_version() {
    for (from, to) in [("h2", "next2"), ("h2", "next"), ("one", "next2")] {
        let mut rig = rig(&format!("{to}.example:80"));
        let mut client = Peer::client(&mut rig);
        let call = format!("POST /a.B/C HTTP/1.1\r\nHost: {from}.example\r\nx-a: b\r\n\r\n");
        client.ask(&mut rig, &call, false);
        let mut app = Peer::endpoint(&mut rig);
        if to == "next" {
            let mirror = rig.connect();
            for part in ["one", "two"] {
                client.send(&mut rig, 1, part.as_bytes(), false);
                app.run(&mut rig);
            }
            client.trailers(&mut rig, 1, "x-t: 1\r\n");
            let written = rig.written(mirror);
            assert!(written.ends_with("3\r\none\r\n3\r\ntwo\r\n0\r\nx-t: 1\r\n\r\n"), "{written}");
            // An answer larger than any window.
            rig.receive(mirror, b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n");
            for _ in 0..100 {
                rig.receive(mirror, format!("2710\r\n{}\r\n", "y".repeat(10_000)).as_bytes());
            }
            rig.receive(mirror, b"0\r\n\r\n");
        } else {
            let mut mirror = Peer::endpoint(&mut rig);
            for part in ["one", "two"] {
                client.send(&mut rig, 1, part.as_bytes(), false);
                run(&mut rig, &mut app, &mut mirror);
            }
            assert_eq!((&mirror.on(1).body[..], mirror.on(1).end), (&b"onetwo"[..], false));
            client.trailers(&mut rig, 1, "x-t: 1\r\n");
            run(&mut rig, &mut app, &mut mirror);
            assert_eq!(mirror.on(1).trailers.as_deref(), Some("x-t: 1\r\n\r\n"));
            assert!(mirror.head(1).contains("x-a: b\r\n"));
            mirror.answer(&mut rig, 1, "HTTP/1.1 200 OK\r\n\r\n", false);
            for n in 0..100 {
                mirror.send(&mut rig, 1, &[b'y'; 10_000], n == 99);
            }
            assert_eq!(mirror.on(1).reset, None);
        }
        app.run(&mut rig);
        assert_eq!((&app.on(1).body[..], app.on(1).end), (&b"onetwo"[..], true), "{from} {to}");
        app.ok(&mut rig, 1);
        client.run(&mut rig);
        assert!(client.on(1).end && client.on(1).body.is_empty(), "{from} {to}");
        assert_eq!(resets(&rig), [], "{from} {to}");
        ends(&rig);
    }
}

/// To a mesh proxy a copy says what its request was, so that the app behind it gets the same.
#[test]
fn a_copy_to_a_mesh_proxy_is_marked_as_its_request_would_be() {
    let mut rig = rig("mesh.example:80");
    let (down, up) = rig.exchange(&request("PUT", "body"));
    let mut mirror = Peer::endpoint(&mut rig);
    assert!(mirror.head(1).contains("l5d-orig-proto: HTTP/1.1\r\n"), "{}", mirror.head(1));
    assert_eq!((&mirror.on(1).body[..], mirror.on(1).end), (&b"body"[..], true));
    mirror.ok(&mut rig, 1);
    rig.receive(up, OK.as_bytes());
    assert_eq!(rig.written(down), OK);
    // What was HTTP/2 stays that.
    let mut client = Peer::client(&mut rig);
    let post = "POST / HTTP/1.1\r\nHost: h2.example\r\nContent-Length: 4\r\n\r\n";
    client.ask(&mut rig, post, false);
    client.send(&mut rig, 1, b"body", true);
    let mut app = Peer::endpoint(&mut rig);
    mirror.run(&mut rig);
    assert!(!mirror.head(3).contains("l5d-orig-proto"), "{}", mirror.head(3));
    assert_eq!((&mirror.on(3).body[..], mirror.on(3).end), (&b"body"[..], true));
    mirror.ok(&mut rig, 3);
    app.ok(&mut rig, 1);
    client.run(&mut rig);
    assert!(client.on(1).end);
    assert_eq!((decided(&rig, Decision::Mirrored), resets(&rig)), (2, [].into()));
    ends(&rig);
}

#[test]
fn a_stream_whose_mirror_stalls_has_all_the_credit_that_its_endpoint_gives() {
    let mut rig = rig("next2.example:80");
    let mut client = Peer::client(&mut rig);
    client.ask(&mut rig, "PUT / HTTP/1.1\r\nHost: h2.example\r\n\r\n", false);
    let mut app = Peer::endpoint(&mut rig);
    // It gives credit for one byte.
    let mut mirror = Peer::endpoint_with(&mut rig, narrow());
    mirror.reads = false;
    for _ in 0..50 {
        client.send(&mut rig, 1, &[b'x'; 10_000], false);
        while !app.on(1).body.len().is_multiple_of(10_000) || client.connection.queued() > 0 {
            run(&mut rig, &mut client, &mut app);
        }
    }
    run(&mut rig, &mut client, &mut app);
    assert_eq!(app.on(1).body.len(), 500_000);
    mirror.run(&mut rig);
    assert_eq!(mirror.on(1).reset, Some(ErrorCode::CANCEL));
    assert_eq!(resets(&rig), [(Decision::MirrorBehind, 1)]);
    client.reset(&mut rig, 1, ErrorCode::CANCEL);
    ends(&rig);
}

#[test]
fn there_is_one_copy_of_a_request_however_often_it_is_tried() {
    let retry = Retry { statuses: [(503, 503)].into(), limit: 2, ..Retry::default() };
    let mut rig = Rig::with(with("next.example:80", |route| route.retry = Some(retry.clone())));
    let put = request("PUT", "body");
    let (down, up, mirror) = mirrored(&mut rig, &put);
    assert_eq!((rig.written(up), rig.written(mirror)), (put.clone(), put.clone()));
    rig.receive(up, b"HTTP/1.1 503 Busy\r\nContent-Length: 0\r\n\r\n");
    // The same answer of the copy is none that is tried again.
    rig.receive(mirror, b"HTTP/1.1 503 Busy\r\nContent-Length: 0\r\n\r\n");
    rig.pass(millis(250));
    assert_eq!((rig.written(up), rig.written(mirror)), (put, String::new()));
    rig.receive(up, OK.as_bytes());
    assert_eq!(rig.written(down), OK);
    assert_eq!((decided(&rig, Decision::Mirrored), decided(&rig, Decision::Retried)), (1, 1));
    ends(&rig);
}

#[test]
fn tunnels_and_answers_of_ours_are_not_copied_and_changes_are() {
    let mut rig = rig("next.example:80");
    let upgrade =
        "GET / HTTP/1.1\r\nHost: one.example\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n";
    rig.exchange(upgrade);
    let down = rig.client();
    rig.receive(down, b"CONNECT one.example:80 HTTP/1.1\r\nHost: one.example:80\r\n\r\n");
    rig.connect();
    assert!(rig.connects.is_empty());
    assert_eq!(decided(&rig, Decision::Mirrored), 0);
    let failure = Failure { status: 503, grpc: None, message: "no".into(), ratio: 1.0 };
    let fixed = Fixed::Failure(failure);
    let mut rig = Rig::with(with("next.example:80", |r| r.fixed = Some(fixed.clone())));
    let down = rig.client();
    rig.receive(down, request("GET", "").as_bytes());
    assert!(rig.written(down).starts_with("HTTP/1.1 503 "));
    assert_eq!((rig.connects.len(), decided(&rig, Decision::Mirrored)), (0, 0));
    let mut rig = Rig::with(with("next.example:80", |route| {
        route.changes.request.set = [("x-via".into(), "us".into())].into();
    }));
    let (_, up, mirror) = mirrored(&mut rig, &request("GET", ""));
    let seen = rig.written(up);
    assert!(seen.contains("Host: one.example\r\n") && seen.contains("x-via: us\r\n"), "{seen}");
    assert_eq!(rig.written(mirror), seen);
}

#[test]
fn a_dead_connection_of_the_mirror_costs_one_more_and_a_reload_ends_copying() {
    let mut rig = rig("next.example:80");
    let (down, up, mirror) = mirrored(&mut rig, &request("GET", ""));
    for conn in [up, mirror] {
        rig.written(conn);
        rig.receive(conn, OK.as_bytes());
    }
    assert_eq!(rig.written(down), OK);
    // Both are in the pool; the mirror's is dead.
    rig.receive(down, request("GET", "").as_bytes());
    assert_eq!((rig.written(up), rig.written(mirror)), (request("GET", ""), request("GET", "")));
    rig.reset(mirror);
    let other = rig.connect();
    assert_eq!(rig.written(other), request("GET", ""));
    for conn in [up, other] {
        rig.receive(conn, OK.as_bytes());
    }
    assert_eq!(rig.written(down), OK);
    ends(&rig);
    rig.command(Command::Reload(Arc::new(http2_config())));
    rig.receive(down, request("GET", "").as_bytes());
    assert_eq!((decided(&rig, Decision::Mirrored), rig.connects.len()), (0, 0));
    assert_eq!(rig.written(up), request("GET", ""));
}

#[test]
fn a_drain_waits_for_no_copy_longer_than_its_grace() {
    let mut config = with("next.example:80", |_| ());
    config.timeouts.grace = Duration::from_secs(2);
    let mut rig = Rig::with(config);
    let (_down, _, mirror) = mirrored(&mut rig, &request("GET", ""));
    rig.command(Command::Drain);
    rig.pass(Duration::from_secs(2));
    assert!(rig.engine.is_drained());
    assert_eq!(rig.closed(mirror), [CloseKind::Abort]);
    ends(&rig);
}
