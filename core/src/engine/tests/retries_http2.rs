//! Retries of calls and of streams that endpoints refuse.

use alloc::format;
use alloc::string::String;

use super::http2_rig::Peer;
use super::retries::{decided, ends, rig};
use super::rig::*;
use crate::http2::ErrorCode;
use crate::stats::Decision;

fn call(body: bool) -> String {
    let length = if body { "" } else { "Content-Length: 0\r\n" };
    format!(
        "POST /a.B/C HTTP/1.1\r\nHost: two.example\r\nContent-Type: application/grpc\r\n{length}\r\n"
    )
}

const UNAVAILABLE: &str =
    "HTTP/1.1 200 OK\r\ncontent-type: application/grpc\r\ngrpc-status: 14\r\n\r\n";

const GRPC: &str = "HTTP/1.1 200 OK\r\ncontent-type: application/grpc\r\n\r\n";

#[test]
fn grpc_that_is_unavailable_is_tried_again_with_its_message() {
    // Before and after the request is complete.
    for complete in [true, false] {
        let mut rig = rig();
        let mut client = Peer::client(&mut rig);
        client.ask(&mut rig, &call(true), false);
        client.send(&mut rig, 1, b"mess", false);
        let mut app = Peer::endpoint(&mut rig);
        if complete {
            client.send(&mut rig, 1, b"age", true);
            app.run(&mut rig);
        }
        app.answer(&mut rig, 1, UNAVAILABLE, true);
        rig.pass(millis(250));
        let mut other = Peer::endpoint(&mut rig);
        if !complete {
            client.send(&mut rig, 1, b"age", true);
        }
        other.run(&mut rig);
        assert_eq!(other.on(1).body, b"message", "{complete}");
        assert!(other.on(1).end);
        other.answer(&mut rig, 1, GRPC, false);
        other.send(&mut rig, 1, b"reply", false);
        other.trailers(&mut rig, 1, "grpc-status: 0\r\n");
        client.run(&mut rig);
        assert_eq!((&client.on(1).body[..], client.on(1).heads.len()), (&b"reply"[..], 1));
        assert!(client.on(1).end && client.on(1).trailers.is_some());
        ends(&rig);
    }
}

#[test]
fn trailers_without_a_message_are_judged_before_the_head_is_passed_on() {
    for (status, again) in [(14, true), (5, false), (0, false)] {
        let mut rig = rig();
        let mut client = Peer::client(&mut rig);
        client.ask(&mut rig, &call(false), true);
        let mut app = Peer::endpoint(&mut rig);
        app.answer(&mut rig, 1, GRPC, false);
        client.run(&mut rig);
        assert!(client.got.get(&1).is_none_or(|got| got.heads.is_empty()), "held");
        app.trailers(&mut rig, 1, &format!("grpc-status: {status}\r\n"));
        client.run(&mut rig);
        if again {
            rig.pass(millis(250));
            let mut other = Peer::endpoint(&mut rig);
            other.answer(&mut rig, 1, GRPC, false);
            // For as long as it takes to see whether something follows.
            client.run(&mut rig);
            assert!(client.got.get(&1).is_none_or(|got| got.heads.is_empty()), "held again");
            rig.pass(millis(10));
            client.run(&mut rig);
            assert_eq!(client.on(1).heads.len(), 1);
            other.trailers(&mut rig, 1, "grpc-status: 14\r\n");
            client.run(&mut rig);
        }
        assert_eq!((client.on(1).heads.len(), client.on(1).end), (1, true), "{status}");
        assert_eq!(decided(&rig, Decision::Retried), u64::from(again), "{status}");
        ends(&rig);
    }
}

#[test]
fn trailers_may_forbid_or_put_off_the_next_try() {
    for (pushback, after) in [("-1", None), ("400", Some(400)), ("x", None)] {
        let mut rig = rig();
        let mut client = Peer::client(&mut rig);
        client.ask(&mut rig, &call(false), true);
        let mut app = Peer::endpoint(&mut rig);
        app.answer(&mut rig, 1, GRPC, false);
        let section = format!("grpc-status: 14\r\ngrpc-retry-pushback-ms: {pushback}\r\n");
        app.trailers(&mut rig, 1, &section);
        client.run(&mut rig);
        assert_eq!(decided(&rig, Decision::Retried), u64::from(after.is_some()), "{pushback}");
        match after {
            None => assert_eq!((client.on(1).heads.len(), client.on(1).end), (1, true)),
            Some(after) => {
                rig.pass(millis(after - 1));
                assert!(rig.connects.is_empty(), "not yet");
                rig.pass(millis(30));
                assert_eq!(rig.connects.len(), 1);
            }
        }
    }
}

#[test]
fn a_call_that_is_tried_again_says_what_is_left_of_its_time() {
    let mut rig = rig();
    let mut client = Peer::client(&mut rig);
    let timed = call(false).replace("\r\n\r\n", "\r\ngrpc-timeout: 2S\r\n\r\n");
    client.ask(&mut rig, &timed, true);
    let mut app = Peer::endpoint(&mut rig);
    assert!(app.head(1).contains("grpc-timeout: 2S\r\n"), "{}", app.head(1));
    rig.pass(millis(500));
    app.answer(&mut rig, 1, UNAVAILABLE, true);
    rig.pass(millis(250));
    let mut other = Peer::endpoint(&mut rig);
    assert!(other.head(1).contains("grpc-timeout: 1250m\r\n"), "{}", other.head(1));
    // And that is when it ends.
    rig.pass(millis(1249));
    other.run(&mut rig);
    assert_eq!(other.on(1).reset, None);
    rig.pass(millis(1));
    other.run(&mut rig);
    client.run(&mut rig);
    assert_eq!(other.on(1).reset, Some(ErrorCode::CANCEL));
    assert!(client.head(1).contains("grpc-status: 4\r\n"), "{}", client.head(1));
    ends(&rig);
}

#[test]
fn a_message_commits_whatever_the_trailers_say() {
    let mut rig = rig();
    let mut client = Peer::client(&mut rig);
    client.ask(&mut rig, &call(false), true);
    let mut app = Peer::endpoint(&mut rig);
    app.answer(&mut rig, 1, GRPC, false);
    app.send(&mut rig, 1, b"x", false);
    app.trailers(&mut rig, 1, "grpc-status: 14\r\n");
    client.run(&mut rig);
    assert_eq!((&client.on(1).body[..], client.on(1).end), (&b"x"[..], true));
    assert_eq!(decided(&rig, Decision::Retried), 0);
}

/// Its answer was passed on: nobody must believe that it did nothing.
#[test]
fn who_refuses_a_stream_after_its_answer_has_begun_is_not_believed() {
    let mut rig = rig();
    let mut client = Peer::client(&mut rig);
    client.ask(&mut rig, "POST / HTTP/1.1\r\nHost: two.example\r\nContent-Length: 0\r\n\r\n", true);
    let mut app = Peer::endpoint(&mut rig);
    app.answer(&mut rig, 1, "HTTP/1.1 200 OK\r\n\r\n", false);
    app.reset(&mut rig, 1, ErrorCode::REFUSED_STREAM);
    client.run(&mut rig);
    assert!(client.head(1).starts_with("HTTP/1.1 200 "), "{}", client.head(1));
    assert_eq!(client.on(1).reset, Some(ErrorCode::INTERNAL_ERROR));
    assert_eq!(decided(&rig, Decision::Retried), 0);
    ends(&rig);
}

#[test]
fn a_refused_stream_of_any_method_is_tried_again_as_often_as_the_limit_says() {
    let mut rig = rig();
    let mut client = Peer::client(&mut rig);
    client.ask(&mut rig, "POST / HTTP/1.1\r\nHost: h2.example\r\nContent-Length: 0\r\n\r\n", true);
    let mut app = Peer::endpoint(&mut rig);
    // Without a route: once, as ever.
    app.reset(&mut rig, 1, ErrorCode::REFUSED_STREAM);
    app.run(&mut rig);
    app.reset(&mut rig, 3, ErrorCode::REFUSED_STREAM);
    client.run(&mut rig);
    assert_eq!(client.on(1).reset, Some(ErrorCode::REFUSED_STREAM));
    // With one: and twice more.
    let post = "POST / HTTP/1.1\r\nHost: two.example\r\nContent-Length: 0\r\n\r\n";
    client.ask(&mut rig, post, true);
    let mut peers = [Peer::endpoint(&mut rig), app];
    let mut refused = 0;
    for _ in 0..8 {
        rig.pass(millis(250));
        while !rig.connects.is_empty() {
            let spare = Peer::endpoint(&mut rig);
            peers[1] = spare;
        }
        for peer in &mut peers {
            peer.run(&mut rig);
            for stream in [1, 3, 5, 7] {
                let is_new = peer.got.get(&stream).is_some_and(|got| {
                    got.end && got.heads.iter().any(|head| head.contains("two.example"))
                });
                if is_new {
                    peer.got.remove(&stream);
                    refused += 1;
                    peer.reset(&mut rig, stream, ErrorCode::REFUSED_STREAM);
                }
            }
        }
    }
    client.run(&mut rig);
    assert_eq!((refused, client.on(3).reset), (4, Some(ErrorCode::REFUSED_STREAM)));
    ends(&rig);
}
