//! What a drain waits for, and what not.
use alloc::format;
use alloc::string::String;

use super::rig::*;
use crate::engine::Command;
use crate::time::Duration;

const GET1: &str = "GET / HTTP/1.1\r\nHost: one.example\r\n\r\n";
const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n";

fn big(n: usize) -> String {
    format!("HTTP/1.1 200 OK\r\nContent-Length: {n}\r\n\r\n{}", "x".repeat(n))
}

#[test]
fn a_drain_waits_for_a_slow_reader_of_a_response() {
    let mut rig = Rig::new();
    let (down, up) = rig.exchange(GET1);
    rig.blocked.push(down);
    rig.command(Command::Drain);
    rig.receive(up, big(40_000).as_bytes());
    rig.pass(millis(1500));
    assert_eq!(rig.closed(down), [], "grace is 120 s, response not written yet");
}

#[test]
fn a_connection_accepted_before_a_drain_may_still_ask() {
    let mut rig = Rig::new();
    let down = rig.client();
    rig.command(Command::Drain);
    assert_eq!(rig.closed(down), [], "accepted, its request is on the way");
}

#[test]
fn a_drain_waits_for_the_answer_in_a_half_closed_tunnel() {
    let mut rig = Rig::new();
    let down = rig.accept_to(FORWARD, None);
    let up = rig.connect();
    rig.receive(down, b"query");
    rig.eof(down);
    rig.command(Command::Drain);
    rig.pass(millis(1500));
    rig.receive(up, b"answer");
    assert_eq!(rig.written(down), "answer");
}

#[test]
fn an_empty_line_does_not_hold_up_a_drain() {
    let mut rig = Rig::new();
    let (down, up) = rig.exchange(GET1);
    rig.receive(up, OK.as_bytes());
    rig.receive(down, b"\r\n");
    rig.command(Command::Drain);
    rig.pass(Duration::from_secs(5));
    assert!(rig.engine.is_drained());
}

#[test]
fn a_drain_ends_with_a_client_that_never_reads() {
    let mut rig = Rig::new();
    let (down, up) = rig.exchange(GET1);
    rig.blocked.push(down);
    rig.receive(
        up,
        format!("HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n{}", "x".repeat(90_000))
            .as_bytes(),
    );
    rig.command(Command::Drain);
    rig.pass(Duration::from_secs(121));
    assert!(rig.engine.is_drained());
    assert_eq!(rig.closed(up).len(), 1);
}
