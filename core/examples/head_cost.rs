//! A long request head, whole or byte by byte: for counting instructions.
//!
//! `valgrind --tool=callgrind target/release/examples/head_cost PART HOW KIB COUNT`, where PART is
//! `codec` or `engine` and HOW is `whole` or `bytes`: the difference between two counts is the cost
//! of a head of KIB kibibytes, without start-up. `.ci/run` does this and checks the ratios.

use std::env;
use std::sync::Arc;

use bytes::BytesMut;
use selvedge_core::config::{Config, Listener, ListenerKind};
use selvedge_core::engine::{Accepted, Engine, Input};
use selvedge_core::http::Scratch;
use selvedge_core::http1::{
    HeadKind, HeadScanner, RequestRewrite, encode_request, receive_request,
};
use selvedge_core::limits::Limits;
use selvedge_core::rng::Seed;
use selvedge_core::time::Time;

/// Fields of about a kilobyte; 64 KiB is exactly what the default limit allows.
fn head(len: usize) -> Vec<u8> {
    let mut head = b"GET / HTTP/1.1\r\nHost: nobody.example\r\n".to_vec();
    while head.len() < len - 1100 {
        head.extend(b"X-Padding: ");
        head.extend([b'x'; 1000]);
        head.extend(b"\r\n");
    }
    let rest = len - head.len() - b"X-Last: \r\n\r\n".len();
    head.extend(b"X-Last: ");
    head.extend(std::iter::repeat_n(b'y', rest));
    head.extend(b"\r\n\r\n");
    head
}

fn scan(head: &[u8], pieces: usize) {
    let limits = Limits::default();
    let mut scratch = Scratch::default();
    let mut scanner = HeadScanner::default();
    let piece = head.len() / pieces;
    let mut until = piece;
    // What is not there yet is only scanned; the borrow of a request ends the loop.
    while until < head.len() {
        let more = scanner.scan(&head[..until], HeadKind::Request, &limits).expect("a good head");
        assert_eq!(more, None);
        until += piece;
    }
    let (_, request) = receive_request(&mut scanner, head, &mut scratch, &limits)
        .expect("a good head")
        .expect("a complete head");
    let rewrite = RequestRewrite { host: b"nobody.example", absolute: false, upgrade: false };
    let mut out = BytesMut::new();
    encode_request(&mut out, &request, &rewrite);
    assert_eq!(out, head);
}

fn drive(head: &[u8], pieces: usize) {
    let listener = Listener { addr: ([127, 0, 0, 1], 4140).into(), kind: ListenerKind::Outbound };
    let config = Arc::new(Config { listeners: vec![listener], ..Config::default() });
    let mut engine = Engine::new(config, Seed::from_number(1), Time::ZERO);
    let accepted = Accepted {
        listener: 0,
        peer: ([127, 0, 0, 1], 50_000).into(),
        local: ([127, 0, 0, 1], 4140).into(),
        original_dst: None,
    };
    let conn = engine.accept(Time::ZERO, accepted).expect("room");
    for piece in head.chunks(head.len() / pieces) {
        engine.handle_input(Time::ZERO, Input::Received { conn, data: BytesMut::from(piece) });
        engine.end_turn(Time::ZERO);
        while engine.poll_output().is_some() {}
    }
    let mut io = [&[][..]; 4];
    let n = engine.write_bufs(conn, &mut io);
    assert!(io[..n].concat().starts_with(b"HTTP/1.1 404 "), "the head was complete");
}

fn main() {
    let args: Vec<String> = env::args().skip(1).collect();
    let [part, how, kib, count] = &args[..] else {
        // Without arguments, one of each.
        let head = head(Limits::default().header_bytes);
        for pieces in [1, head.len()] {
            scan(&head, pieces);
            drive(&head, pieces);
        }
        return;
    };
    let head = head(kib.parse::<usize>().expect("a size") * 1024);
    let pieces = if how == "whole" { 1 } else { head.len() };
    for _ in 0..count.parse().expect("a count") {
        match part.as_str() {
            "codec" => scan(&head, pieces),
            _ => drive(&head, pieces),
        }
    }
}
