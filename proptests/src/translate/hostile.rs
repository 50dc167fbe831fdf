//! What a peer of HTTP/2 may put into a header block, and what becomes of it in HTTP/1.

use selvedge_core::http2::{Event, Role};

use super::hop::{
    End, Got, Message, is_tunnel, request_over_http1, request_over_http2, response_over_http1,
    response_over_http2,
};
use super::meaning;
use crate::choose::{Choose, pick};
use crate::h2::wire::{END_HEADERS, END_STREAM, Frame, PREFACE, literal};

/// What became of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// It is a message in every version.
    Passed,
    /// It cost its sender the stream, the connection or a status.
    Refused,
}

const NAMES: [&[u8]; 21] = [
    b"x",
    b"host",
    b"content-length",
    b"transfer-encoding",
    b"connection",
    b"te",
    b"upgrade",
    b"cookie",
    b"expect",
    b"trailer",
    b"keep-alive",
    b"proxy-connection",
    b"http2-settings",
    b"l5d-orig-proto",
    b":path",
    b":authority",
    b"X",
    b"x: y\r\ncontent-length",
    b"x ",
    b"",
    b"x\0",
];

const VALUES: [&[u8]; 31] = [
    b"v",
    b"",
    b"0",
    b"3",
    b"3, 3",
    b"3, 4",
    b"+3",
    b"18446744073709551617",
    b"chunked",
    b"trailers",
    b"trailers, deflate",
    b"websocket",
    b"100-continue",
    b"close, host",
    b"a.example",
    b"other.example",
    b"a.example:80, b",
    b"a@b",
    b"a=b; c=d",
    b"HTTP/1.1; absolute-form",
    b"HTTP/1.0",
    b"x\r\ny: z",
    b"x\ny: z",
    b"x\ry: z",
    b"x\r\n\r\nGET /second HTTP/1.1\r\nHost: a\r\n\r\n",
    b"\0",
    b" v",
    b"v\t",
    b"\x7f",
    b"\xc3\xa4 \xff",
    b"a:b",
];

const PATHS: [&[u8]; 14] = [
    b"/",
    b"/a?b",
    b"*",
    b"",
    b"a",
    b"/a b",
    b"/ HTTP/1.1\r\nHost: x\r\n\r\nGET /second",
    b"/\r\n",
    b"/a#b",
    b"//b",
    b"/\xc3\xa4",
    b"/\xff",
    b"http://other.example/",
    b"/%0d%0a",
];

const METHODS: [&[u8]; 9] =
    [b"GET", b"POST", b"HEAD", b"OPTIONS", b"CONNECT", b"get", b"", b"G ET", b"GET / HTTP/1.1\r\n"];

const AUTHORITIES: [&[u8]; 8] = [
    b"a.example",
    b"a.example:80",
    b"[::1]:80",
    b"",
    b"a.example\r\nx: y",
    b"user@a.example",
    b"a.example/b",
    b"a b",
];

/// A peer sends what it likes, to a server or to a client of ours.
///
/// # Panics
/// If what we make of it is not one message of HTTP/1 that means the same.
pub fn hostile(choose: &mut dyn Choose) -> Fate {
    if choose.one_in(3) { hostile_response(choose) } else { hostile_request(choose) }
}

fn hostile_request(choose: &mut dyn Choose) -> Fate {
    let mut block = Vec::new();
    let odd = |choose: &mut dyn Choose, all: &[&'static [u8]]| {
        if choose.one_in(4) { pick(choose, all) } else { all[0] }
    };
    for (name, values) in [
        (&b":method"[..], &METHODS[..]),
        (b":scheme", &[b"http", b"https", b"", b"a b"]),
        (b":path", &PATHS),
        (b":authority", &AUTHORITIES),
        (b":protocol", &[b"websocket", b"", b"a b"]),
    ] {
        let there = if name == b":protocol" { choose.one_in(12) } else { !choose.one_in(12) };
        if there {
            literal(&mut block, name, odd(choose, values));
        }
    }
    fields(choose, &mut block);
    let mut server = End::new(Role::Server);
    server.feed(PREFACE);
    server.feed(&Frame::settings(&[]).bytes());
    server.feed(&Frame::settings_ack().bytes());
    let Some(mut message) = send(choose, &mut server, block) else { return Fate::Refused };
    if is_tunnel(&message) {
        message.body.clear();
    }
    let was = meaning::of_request(&message, None);
    let once = request_over_http1(&message);
    let passed = meaning::of_request(&once, None);
    assert!(was.passes_as(&passed), "{message:?} became {once:?}");
    let again = request_over_http1(&request_over_http2(&once));
    assert_eq!(meaning::of_request(&again, None), passed, "{message:?}");
    Fate::Passed
}

fn hostile_response(choose: &mut dyn Choose) -> Fate {
    let statuses: [&[u8]; 10] =
        [b"200", b"204", b"304", b"404", b"99", b"1000", b"101", b"2 0", b"200 OK\r\nx: y", b""];
    let mut block = Vec::new();
    literal(&mut block, b":status", pick(choose, &statuses));
    fields(choose, &mut block);
    let method = pick(choose, &["GET", "HEAD"]);
    let mut client = End::asking(method);
    client.feed(&Frame::settings(&[]).bytes());
    client.feed(&Frame::settings_ack().bytes());
    let Some(message) = send(choose, &mut client, block) else { return Fate::Refused };
    let was = meaning::of_response(&message, method, None);
    let once = response_over_http1(&message, method);
    let passed = meaning::of_response(&once, method, None);
    assert!(was.passes_as(&passed), "{message:?} became {once:?}");
    let again = response_over_http1(&response_over_http2(&once, method), method);
    assert_eq!(meaning::of_response(&again, method, None), passed, "{message:?}");
    Fate::Passed
}

/// Some fields, right and wrong.
fn fields(choose: &mut dyn Choose, block: &mut Vec<u8>) {
    for _ in 0..choose.below(4) {
        let name = if choose.flip() { pick(choose, &NAMES) } else { NAMES[choose.below(9)] };
        let value = pick(choose, &VALUES);
        if choose.one_in(6) {
            // Octets of the source's own.
            let value: Vec<u8> = (0..choose.below(8)).map(|_| choose.below(256) as u8).collect();
            literal(block, name, &value);
        } else {
            literal(block, name, value);
        }
    }
}

/// A head, a body perhaps, and perhaps trailers; the message that this is to `end`, if it is one.
fn send(choose: &mut dyn Choose, end: &mut End, block: Vec<u8>) -> Option<Message> {
    let (data, trailers) = (choose.below(3), choose.one_in(4));
    let last = data == 0 && !trailers;
    let flag = |last: bool| if last { END_STREAM } else { 0 };
    end.feed(&Frame::new(1, END_HEADERS | flag(last), 1, block).bytes());
    for n in 0..data {
        let body = pick(choose, &[&b"abc"[..], b"", b"GET / HTTP/1.1\r\n\r\n", b"0\r\n\r\n"]);
        end.feed(&Frame::data(1, n + 1 == data && !trailers, body).bytes());
    }
    if trailers {
        let mut block = Vec::new();
        fields(choose, &mut block);
        end.feed(&Frame::new(1, END_HEADERS | END_STREAM, 1, block).bytes());
    }
    let (mut got, mut refused) = (Got::default(), false);
    let alive = end.poll(|event| match event {
        Event::Refused { .. } | Event::Broken { .. } | Event::Offence(_) => refused = true,
        event if !refused => got.note(event),
        _ => {}
    });
    got.message().filter(|_| alive && !refused)
}
