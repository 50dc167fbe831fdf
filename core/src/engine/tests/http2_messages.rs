//! Messages over HTTP/2 on either side of the engine.

use alloc::vec;
use alloc::vec::Vec;

use super::http2_rig::{Peer, frame, http2_config};
use super::rig::*;
use crate::config::Timeouts;
use crate::http2;

fn rig() -> Rig {
    Rig::with(http2_config())
}

#[test]
fn a_get_goes_from_stream_to_stream() {
    for host in ["h2.example", "mesh.example", "one.example"] {
        let mut rig = rig();
        let mut client = Peer::client(&mut rig);
        let request = alloc::format!("GET /a HTTP/1.1\r\nHost: {host}\r\nx-a: b\r\n\r\n");
        let id = client.ask(&mut rig, &request, true);
        let mut app = Peer::endpoint(&mut rig);
        assert_eq!(app.head(1), request);
        assert!(app.on(1).end);
        app.answer(&mut rig, 1, "HTTP/1.1 200 OK\r\nx-c: d\r\nContent-Length: 2\r\n\r\n", false);
        app.send(&mut rig, 1, b"hi", true);
        client.run(&mut rig);
        let got = client.on(id);
        assert_eq!(client.head(id), "HTTP/1.1 200 OK\r\nx-c: d\r\ncontent-length: 2\r\n\r\n");
        assert_eq!((&got.body[..], got.end, got.reset), (&b"hi"[..], true, None));
        assert_eq!((client.connection.open_streams(), app.connection.open_streams()), (0, 0));
    }
}

#[test]
fn a_get_goes_from_a_stream_to_http1_and_back() {
    let mut rig = rig();
    let mut client = Peer::client(&mut rig);
    let id = client.ask(&mut rig, "GET /a HTTP/1.1\r\nHost: h1.example\r\nx-a: b\r\n\r\n", true);
    let up = rig.connect();
    assert_eq!(rig.written(up), "GET /a HTTP/1.1\r\nHost: h1.example\r\nx-a: b\r\n\r\n");
    rig.receive(up, b"HTTP/1.1 200 OK\r\nX-C: d\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n");
    rig.receive(up, b"0\r\nX-Sum: 7\r\n\r\n");
    client.run(&mut rig);
    let got = client.on(id);
    assert!(client.head(id).starts_with("HTTP/1.1 200 OK\r\nx-c: d\r\n"), "{got:?}");
    assert_eq!((&got.body[..], got.end), (&b"hi"[..], true));
    assert_eq!(got.trailers.as_deref(), Some("x-sum: 7\r\n\r\n"));
}

#[test]
fn http1_goes_over_a_stream_and_back() {
    for (host, mark) in [("h2.example", ""), ("mesh.example", "l5d-orig-proto: HTTP/1.1\r\n")] {
        let mut rig = rig();
        let down = rig.client();
        let head = alloc::format!("POST /a HTTP/1.1\r\nHost: {host}\r\n");
        rig.receive(down, alloc::format!("{head}Transfer-Encoding: chunked\r\n\r\n").as_bytes());
        let mut app = Peer::endpoint(&mut rig);
        assert!(app.head(1).starts_with(&head), "{}", app.head(1));
        assert!(app.head(1).contains(mark), "{}", app.head(1));
        rig.receive(down, b"3\r\nabc\r\n");
        app.run(&mut rig);
        assert_eq!((&app.on(1).body[..], app.on(1).end), (&b"abc"[..], false));
        rig.receive(down, b"0\r\nX-Sum: 7\r\n\r\n");
        app.run(&mut rig);
        assert_eq!(app.on(1).trailers.as_deref(), Some("x-sum: 7\r\n\r\n"));
        app.answer(&mut rig, 1, "HTTP/1.1 103 Early Hints\r\nlink: </x>\r\n\r\n", false);
        let hints = rig.written(down);
        assert_eq!(hints, "HTTP/1.1 103 Early Hints\r\nlink: </x>\r\n\r\n");
        app.answer(&mut rig, 1, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", false);
        app.send(&mut rig, 1, b"hi", false);
        app.trailers(&mut rig, 1, "x-end: 1\r\n\r\n");
        let answer = rig.written(down);
        assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
        assert!(answer.ends_with("\r\n\r\n2\r\nhi\r\n0\r\nx-end: 1\r\n\r\n"), "{answer}");
        // Both connections serve the next.
        rig.receive(down, alloc::format!("GET /b HTTP/1.1\r\nHost: {host}\r\n\r\n").as_bytes());
        app.run(&mut rig);
        assert!(app.head(3).starts_with("GET /b HTTP/1.1\r\n"));
    }
}

#[test]
fn answers_without_a_body_have_none() {
    for (method, status) in [("HEAD", "200 OK"), ("GET", "204 No Content"), ("GET", "304 -")] {
        let head = alloc::format!("{method} / HTTP/1.1\r\nHost: h2.example\r\n\r\n");
        let answer = alloc::format!("HTTP/1.1 {status}\r\nx-a: b\r\n\r\n");
        for late_end in [false, true] {
            let mut rig = rig();
            let mut client = Peer::client(&mut rig);
            let id = client.ask(&mut rig, &head, true);
            let mut app = Peer::endpoint(&mut rig);
            app.answer(&mut rig, 1, &answer, !late_end);
            if late_end {
                app.send(&mut rig, 1, b"", true);
            }
            client.run(&mut rig);
            assert!(client.on(id).end && client.on(id).body.is_empty());
            assert_eq!(client.connection.open_streams(), 0);
            // The same, for a client of HTTP/1.
            let down = rig.client();
            rig.receive(down, head.as_bytes());
            app.run(&mut rig);
            app.answer(&mut rig, 3, &answer, !late_end);
            if late_end {
                app.send(&mut rig, 3, b"", true);
            }
            let text = rig.written(down);
            assert!(text.ends_with("x-a: b\r\n\r\n"), "{text}");
            rig.receive(down, head.as_bytes());
            app.run(&mut rig);
            assert!(app.on(5).end);
        }
    }
}

#[test]
fn trailers_follow_an_empty_body_whatever_its_length_said() {
    let mut rig = rig();
    let mut client = Peer::client(&mut rig);
    let id = client.ask(&mut rig, "GET / HTTP/1.1\r\nHost: h2.example\r\n\r\n", true);
    let mut app = Peer::endpoint(&mut rig);
    app.answer(&mut rig, 1, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", false);
    app.trailers(&mut rig, 1, "grpc-status: 0\r\n\r\n");
    client.run(&mut rig);
    assert_eq!(client.on(id).trailers.as_deref(), Some("grpc-status: 0\r\n\r\n"));
}

#[test]
fn a_request_without_an_authority_waits_for_its_connection_like_any_other() {
    let mut rig = rig();
    let mut client = Peer::client_to(&mut rig, INBOUND);
    client.ask(&mut rig, "GET / HTTP/1.0\r\n\r\n", true);
    let mut app = Peer::endpoint(&mut rig);
    assert!(app.head(1).starts_with("GET / HTTP/1.1\r\n"), "{}", app.head(1));
    app.ok(&mut rig, 1);
    client.run(&mut rig);
    assert!(client.on(1).end, "{:?}", client.on(1));
}

#[test]
fn what_is_refused_is_answered_on_its_stream_and_the_others_go_on() {
    let mut rig = rig();
    let mut client = Peer::client(&mut rig);
    let open = client.ask(&mut rig, "GET /a HTTP/1.1\r\nHost: h2.example\r\n\r\n", true);
    let unknown = client.ask(&mut rig, "GET / HTTP/1.1\r\nHost: nobody\r\n\r\n", true);
    assert!(client.head(unknown).starts_with("HTTP/1.1 404 "), "{}", client.head(unknown));
    let grpc = "POST / HTTP/1.1\r\nHost: nobody\r\nContent-Type: application/grpc\r\n\r\n";
    let grpc = client.ask(&mut rig, grpc, false);
    let answer = client.head(grpc);
    assert!(answer.starts_with("HTTP/1.1 200 ") && answer.contains("grpc-status: "), "{answer}");
    assert!(answer.contains("l5d-proxy-error: "), "{answer}");
    assert_eq!(client.on(grpc).reset, None);
    let large =
        alloc::format!("GET / HTTP/1.1\r\nHost: h2.example\r\nx: {}\r\n\r\n", "x".repeat(66_000));
    let large = client.ask(&mut rig, &large, true);
    assert!(client.head(large).starts_with("HTTP/1.1 431 "), "{}", client.head(large));
    let mut app = Peer::endpoint(&mut rig);
    app.ok(&mut rig, 1);
    client.run(&mut rig);
    assert!(client.on(open).end);
    assert!(client.goaways.is_empty() && rig.closes.is_empty());
}

#[test]
fn cookie_crumbs_are_one_line_for_http1() {
    let mut rig = rig();
    let mut client = Peer::client(&mut rig);
    let mut block = vec![0x82, 0x86, 0x84, 0x41, 10];
    block.extend(b"h1.example");
    for crumb in ["a=1", "b=2", "c=3"] {
        // A literal without indexing, whose name is that of the static table.
        block.extend([0x0f, 17, crumb.len() as u8]);
        block.extend(crumb.bytes());
    }
    client.raw(&mut rig, &frame(1, 5, 1, &block));
    let up = rig.connect();
    let text = rig.written(up);
    assert!(text.contains("\r\ncookie: a=1; b=2; c=3\r\n"), "{text}");
}

#[test]
fn a_hundred_continue_and_a_body_of_any_framing() {
    for (host, version) in [("h1.example", 1), ("h2.example", 2)] {
        for framing in ["Content-Length: 3\r\n", "Transfer-Encoding: chunked\r\n"] {
            let mut rig = rig();
            let mut client = Peer::client(&mut rig);
            let head = alloc::format!(
                "POST / HTTP/1.1\r\nHost: {host}\r\nExpect: 100-continue\r\n{framing}\r\n"
            );
            let id = client.ask(&mut rig, &head, false);
            if version == 1 {
                let up = rig.connect();
                assert!(rig.written(up).contains("expect: 100-continue\r\n"));
                rig.receive(up, b"HTTP/1.1 100 Continue\r\n\r\n");
                client.run(&mut rig);
                assert_eq!(client.head(id), "HTTP/1.1 100 Continue\r\n\r\n");
                client.send(&mut rig, id, b"abc", true);
                let body = rig.written(up);
                let chunked = framing.starts_with('T');
                assert_eq!(body, if chunked { "3\r\nabc\r\n0\r\n\r\n" } else { "abc" });
                rig.receive(up, b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
            } else {
                let mut app = Peer::endpoint(&mut rig);
                assert!(app.head(1).contains("expect: 100-continue\r\n"));
                app.answer(&mut rig, 1, "HTTP/1.1 100 Continue\r\n\r\n", false);
                client.run(&mut rig);
                assert_eq!(client.head(id), "HTTP/1.1 100 Continue\r\n\r\n");
                client.send(&mut rig, id, b"abc", true);
                app.run(&mut rig);
                assert_eq!((&app.on(1).body[..], app.on(1).end), (&b"abc"[..], true));
                app.ok(&mut rig, 1);
            }
            client.run(&mut rig);
            assert!(client.on(id).end);
            assert_eq!(rig.engine.gauges().exchanges, 0);
            assert_eq!(client.head(id).split("\r\n").next(), Some("HTTP/1.1 200 OK"));
        }
    }
}

#[test]
fn an_end_without_a_byte_is_one_last_chunk() {
    let mut rig = rig();
    let mut client = Peer::client(&mut rig);
    let post = "POST / HTTP/1.1\r\nHost: h1.example\r\nTransfer-Encoding: chunked\r\n\r\n";
    let id = client.ask(&mut rig, post, false);
    let up = rig.connect();
    rig.written(up);
    client.send(&mut rig, id, b"abc", false);
    client.send(&mut rig, id, b"", true);
    assert_eq!(rig.written(up), "3\r\nabc\r\n0\r\n\r\n");
}

#[test]
fn an_early_answer_ends_the_request() {
    let mut rig = rig();
    let mut client = Peer::client(&mut rig);
    let post = "POST / HTTP/1.1\r\nHost: h2.example\r\nTransfer-Encoding: chunked\r\n\r\n";
    let id = client.ask(&mut rig, post, false);
    let mut app = Peer::endpoint(&mut rig);
    app.ok(&mut rig, 1);
    client.run(&mut rig);
    app.run(&mut rig);
    assert!(client.on(id).end);
    assert_eq!(app.on(1).reset, Some(http2::ErrorCode::CANCEL));
    // There are clients that drop an answer which a RST_STREAM follows at once.
    assert_eq!(client.on(id).reset, None);
    rig.pass(Timeouts::LINGER);
    client.run(&mut rig);
    assert_eq!(client.on(id).reset, Some(http2::ErrorCode::NO_ERROR));
}

#[test]
fn a_request_that_ends_soon_after_an_early_answer_is_not_reset() {
    let mut rig = rig();
    let mut client = Peer::client(&mut rig);
    let post = "POST / HTTP/1.1\r\nHost: h2.example\r\nTransfer-Encoding: chunked\r\n\r\n";
    let id = client.ask(&mut rig, post, false);
    let mut app = Peer::endpoint(&mut rig);
    app.ok(&mut rig, 1);
    client.send(&mut rig, id, b"the rest", true);
    rig.pass(Timeouts::LINGER + Timeouts::LINGER);
    client.run(&mut rig);
    assert!(client.on(id).end && client.on(id).reset.is_none(), "{:?}", client.on(id));
}

#[test]
fn four_hundred_streams_at_once_on_one_connection() {
    let mut rig = rig();
    let mut client = Peer::client(&mut rig);
    let get = "GET / HTTP/1.1\r\nHost: h2.example\r\n\r\n";
    let ids: Vec<u32> = (0..400).map(|_| client.ask(&mut rig, get, true)).collect();
    let mut apps = Vec::new();
    while !rig.connects.is_empty() {
        apps.push(Peer::endpoint(&mut rig));
    }
    assert_eq!(apps.len(), 2, "256 streams on each");
    for app in &mut apps {
        app.run(&mut rig);
        for stream in app.streams() {
            app.ok(&mut rig, stream);
        }
    }
    client.run(&mut rig);
    assert!(ids.iter().all(|&id| client.on(id).end && client.on(id).reset.is_none()));
}
