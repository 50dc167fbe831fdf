//! What proxies of a mesh tell each other, deadlines of gRPC, and the age of connections.

use alloc::string::String;
use alloc::vec::Vec;

use super::http2_rig::{Peer, frame, http2_config};
use super::rig::*;
use crate::engine::{ConnId, Event};
use crate::error::Reason;
use crate::http::Version;
use crate::http2::ErrorCode;
use crate::time::Duration;

fn rig() -> Rig {
    Rig::with(http2_config())
}

/// A header block of literals.
fn block(fields: &[(&str, &str)]) -> Vec<u8> {
    let mut block = Vec::new();
    for (name, value) in fields {
        block.push(0);
        for text in [name, value] {
            block.push(text.len() as u8);
            block.extend(text.bytes());
        }
    }
    block
}

/// A request that another proxy passed on; what the app gets.
fn inbound(line: &str, version: Version) -> (Rig, Peer, ConnId, String) {
    let mut rig = rig();
    let mut proxy = Peer::client_to(&mut rig, INBOUND);
    let head = alloc::format!("{line} HTTP/1.1\r\nHost: mesh.example\r\nx-a: b\r\n\r\n");
    proxy.ask_as(&mut rig, &head, true, Some(version));
    let up = rig.connect();
    let head = rig.written(up);
    (rig, proxy, up, head)
}

#[test]
fn what_was_http1_says_so_to_another_proxy() {
    let origin = "GET /a HTTP/1.1\r\nHost: mesh.example\r\n\r\n";
    let old = "GET /a HTTP/1.0\r\nHost: mesh.example\r\n\r\n";
    let absolute = "GET http://mesh.example/a HTTP/1.1\r\nHost: x\r\n\r\n";
    let pretends = "GET /a HTTP/1.1\r\nHost: mesh.example\r\nL5d-Orig-Proto: HTTP/1.0\r\n\r\n";
    for (request, redirected, mark) in [
        (origin, None, "http/1.1"),
        (old, None, "http/1.0"),
        (pretends, None, "http/1.1"),
        // It meant us, and the app gets what HTTP/1 apps get.
        (absolute, None, "http/1.1"),
        // It meant whoever it was redirected from.
        (absolute, Some("10.9.9.9:80"), "http/1.1; absolute-form"),
    ] {
        let mut rig = rig();
        let down = rig.accept_to(OUTBOUND, redirected);
        rig.receive(down, request.as_bytes());
        let app = Peer::endpoint(&mut rig);
        let head = app.head(1).to_ascii_lowercase();
        assert_eq!(head.matches("l5d-orig-proto: ").count(), 1, "{head}");
        assert!(head.contains(&alloc::format!("l5d-orig-proto: {mark}\r\n")), "{head}");
        assert!(head.contains("\r\nhost: mesh.example\r\n"), "{head}");
    }
}

#[test]
fn a_mark_makes_it_http1_again() {
    let absolute = "GET http://mesh.example/a?b";
    for line in ["GET /a?b", absolute, "OPTIONS *", "OPTIONS http://mesh.example"] {
        for (version, answer) in [(Version::Http10, "1.1"), (Version::Http11, "1.0")] {
            let (mut rig, mut proxy, up, head) = inbound(line, version);
            let fields = "Host: mesh.example\r\nx-a: b\r\n";
            assert_eq!(head, alloc::format!("{line} HTTP/1.1\r\n{fields}\r\n"));
            let interim = b"HTTP/1.1 103 Early Hints\r\n\r\n";
            rig.receive(up, interim);
            let head = alloc::format!("HTTP/{answer} 200 OK\r\nContent-Length: 2\r\n\r\n");
            rig.receive(up, head.as_bytes());
            rig.receive(up, b"hi");
            proxy.run(&mut rig);
            assert_eq!(proxy.on(1).heads[0].as_bytes(), interim);
            let mark = alloc::format!("l5d-orig-proto: HTTP/{answer}\r\n");
            assert!(proxy.head(1).contains(&mark), "{}", proxy.head(1));
            assert_eq!((&proxy.on(1).body[..], proxy.on(1).end), (&b"hi"[..], true));
        }
    }
}

#[test]
fn a_mark_that_is_none_means_nothing() {
    let mut rig = rig();
    let mut client = Peer::client_to(&mut rig, INBOUND);
    client.ask(&mut rig, "GET / HTTP/1.1\r\nHost: mesh.example\r\n\r\n", true);
    let mut app = Peer::endpoint(&mut rig);
    app.ok(&mut rig, 1);
    client.run(&mut rig);
    assert!(!client.head(1).contains("l5d-orig-proto"), "{}", client.head(1));
    // Apps say what they like: outbound, HTTP/2 stays what it is.
    let mut client = Peer::client(&mut rig);
    let fields = [
        (":method", "GET"),
        (":scheme", "http"),
        (":path", "/"),
        (":authority", "h2.example"),
        ("l5d-orig-proto", "HTTP/1.1; absolute-form"),
    ];
    client.raw(&mut rig, &frame(1, 5, 1, &block(&fields)));
    let app = Peer::endpoint(&mut rig);
    assert_eq!(app.head(1), "GET / HTTP/1.1\r\nHost: h2.example\r\n\r\n");
}

#[test]
fn the_mark_of_a_response_stays_between_the_proxies() {
    for (client, version) in [("1.1", "HTTP/1.0"), ("1.0", "HTTP/1.1"), ("2", "HTTP/1.1")] {
        let mut rig = rig();
        let down = rig.client();
        let mut streams = Peer::client(&mut rig);
        if client == "2" {
            streams.ask(&mut rig, "GET / HTTP/1.1\r\nHost: mesh.example\r\n\r\n", true);
        } else {
            let request = alloc::format!("GET / HTTP/{client}\r\nHost: mesh.example\r\n\r\n");
            rig.receive(down, request.as_bytes());
        }
        let mut app = Peer::endpoint(&mut rig);
        let head = [(":status", "200"), ("l5d-orig-proto", version), ("x-a", "b")];
        app.raw(&mut rig, &frame(1, 5, 1, &block(&head)));
        streams.run(&mut rig);
        let text = if client == "2" { streams.head(1).into() } else { rig.written(down) };
        assert!(text.starts_with("HTTP/1.1 200 OK\r\n") && text.contains("x-a: b\r\n"), "{text}");
        assert!(!text.contains("l5d-orig-proto"), "{text}");
    }
}

#[test]
fn a_reset_is_a_502_to_a_client_of_http1() {
    for code in [ErrorCode::INTERNAL_ERROR, ErrorCode::CANCEL, ErrorCode::NO_ERROR] {
        let mut rig = rig();
        let down = rig.client();
        rig.receive(down, b"GET / HTTP/1.1\r\nHost: mesh.example\r\n\r\n");
        let mut app = Peer::endpoint(&mut rig);
        app.reset(&mut rig, 1, code);
        let text = rig.written(down);
        assert!(text.starts_with("HTTP/1.1 502 Bad Gateway\r\n"), "{code:?}: {text}");
        // Its connection goes on.
        rig.receive(down, b"GET / HTTP/1.1\r\nHost: mesh.example\r\n\r\n");
        app.run(&mut rig);
        app.ok(&mut rig, 3);
        assert!(rig.written(down).starts_with("HTTP/1.1 200 OK\r\n"));
    }
}

#[test]
fn an_app_that_resets_is_a_502_to_the_other_proxy() {
    let (mut rig, mut proxy, up, _) = inbound("GET /", Version::Http11);
    rig.reset(up);
    proxy.run(&mut rig);
    assert!(proxy.head(1).starts_with("HTTP/1.1 502 "), "{}", proxy.head(1));
    assert_eq!(proxy.on(1).reset, None);
}

// ---- Deadlines of gRPC ----

const CALL: &str = "POST /a/b HTTP/1.1\r\nHost: h2.example\r\nContent-Type: application/grpc\r\n";

#[test]
fn a_call_is_given_up_when_its_client_has() {
    for (started, streams) in [(false, true), (true, true), (false, false)] {
        let mut rig = rig();
        let call = alloc::format!("{CALL}grpc-timeout: 1500m\r\nContent-Length: 0\r\n\r\n");
        let down = rig.client();
        let mut client = Peer::client(&mut rig);
        if streams {
            client.ask(&mut rig, &call, true);
        } else {
            rig.receive(down, call.as_bytes());
        }
        let mut app = Peer::endpoint(&mut rig);
        assert!(app.head(1).contains("grpc-timeout: 1500m\r\n"));
        if started {
            app.answer(&mut rig, 1, "HTTP/1.1 200 OK\r\n\r\n", false);
            client.run(&mut rig);
        }
        rig.pass(millis(1499));
        app.run(&mut rig);
        assert_eq!(app.on(1).reset, None);
        rig.pass(millis(1));
        app.run(&mut rig);
        client.run(&mut rig);
        assert_eq!(app.on(1).reset, Some(ErrorCode::CANCEL));
        if started {
            assert_eq!(client.on(1).reset, Some(ErrorCode::CANCEL));
        } else {
            let text = if streams { client.head(1).into() } else { rig.written(down) };
            assert!(text.starts_with("HTTP/1.1 200 OK\r\n"), "{text}");
            assert!(text.contains("grpc-status: 4\r\n"), "{text}");
        }
        assert_eq!(rig.engine.gauges().exchanges, 0);
        let late =
            |event: &&Event| matches!(event, Event::Refused { reason: Reason::GrpcTimeout, .. });
        assert_eq!(rig.events.iter().filter(late).count(), 1);
    }
}

#[test]
fn what_is_no_deadline_bounds_nothing() {
    let none = ["", "grpc-timeout: 5x\r\n", "grpc-timeout: 123456789n\r\n", "grpc-timeout: m\r\n"];
    // Nor does the deadline of what is no call.
    let plain = "GET / HTTP/1.1\r\nHost: h2.example\r\ngrpc-timeout: 1m\r\n\r\n";
    let calls = none.map(|line| alloc::format!("{CALL}{line}Content-Length: 0\r\n\r\n"));
    for request in calls.iter().map(String::as_str).chain([plain]) {
        let mut rig = rig();
        let mut client = Peer::client(&mut rig);
        client.ask(&mut rig, request, true);
        let mut app = Peer::endpoint(&mut rig);
        rig.pass(Duration::from_secs(9));
        app.ok(&mut rig, 1);
        client.run(&mut rig);
        assert!(client.head(1).starts_with("HTTP/1.1 200 ") && client.on(1).end, "{request}");
    }
}

// ---- The age of connections ----

#[test]
fn an_old_connection_takes_no_more_streams_and_ends_with_its_last() {
    let mut rig = rig();
    let mut client = Peer::client(&mut rig);
    let get = "GET / HTTP/1.1\r\nHost: h2.example\r\n\r\n";
    client.ask(&mut rig, get, true);
    let mut old = Peer::endpoint(&mut rig);
    // A stream that goes on and on.
    old.answer(&mut rig, 1, "HTTP/1.1 200 OK\r\n\r\n", false);
    for minute in 0..60 {
        let young = minute < 48;
        assert!(!young || old.goaways.is_empty(), "after {minute} minutes");
        for _ in 0..12 {
            rig.pass(Duration::from_secs(5));
            old.send(&mut rig, 1, b"x", false);
            client.run(&mut rig);
        }
    }
    assert_eq!(old.goaways.first().map(|&(_, code)| code), Some(0));
    assert!(rig.closes.is_empty(), "{:?}", rig.closes);
    // The next request finds another connection.
    client.ask(&mut rig, get, true);
    let mut new = Peer::endpoint(&mut rig);
    new.ok(&mut rig, 1);
    old.send(&mut rig, 1, b"end", true);
    client.run(&mut rig);
    assert!(client.on(1).end && client.on(3).end);
    assert_eq!((client.on(1).body.len(), client.on(1).reset), (723, None));
    old.run(&mut rig);
    assert!(rig.closes.iter().any(|&(conn, _)| conn == old.conn), "{:?}", rig.closes);
}
