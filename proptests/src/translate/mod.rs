//! Translation between the versions of HTTP: what must hold whatever the message.
//!
//! A message goes over hops that speak HTTP/1 or HTTP/2, in any order. Each hop is the core's writer,
//! the bytes, and a reader: for HTTP/1 one that shares nothing with the core, for HTTP/2 the core's.
//! What arrives means what was sent. And whatever a peer of HTTP/2 puts into a header block: what the
//! core takes of it is one message of HTTP/1, and not two.

mod hop;
mod hostile;
mod meaning;

use crate::choose::{Bytes, Choose, pick};
use crate::traffic::content::{content, request_key, response_key};
use crate::traffic::request::{Ask, Body, Request, request};
use crate::traffic::response::{Answer, response};
use crate::traffic::wire::Field;
use hop::Message;
pub use hostile::{Fate, hostile};

/// How a hop speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Hop {
    Http1,
    Http2,
}

/// No chain is longer.
const HOPS: usize = 6;

/// A request and its response go over the hops that these bytes choose; or a peer of HTTP/2 sends what
/// they make.
///
/// # Panics
/// If something does not hold.
pub fn translate(data: &[u8]) {
    let mut choose = Bytes::new(data);
    if choose.flip() {
        hostile(&mut choose);
    } else {
        honest(&mut choose);
    }
}

/// A request and its response go over hops.
///
/// # Panics
/// If they do not arrive as they were sent.
pub fn honest(choose: &mut dyn Choose) {
    let hops = choose.within(1, HOPS);
    let hops: Vec<Hop> = (0..hops).map(|_| pick(choose, &[Hop::Http1, Hop::Http2])).collect();
    let authorities = ["a.example", "b.example:81", "[::1]:8080", "C.Example"];
    let id = choose.below(1000) as u32;
    let ask = Ask {
        id,
        authorities: &authorities,
        redirected: false,
        largest: 40_000,
        tunnels: true,
        users: 0,
    };
    let sent = request(choose, ask);
    // Extended CONNECT knows no other method, and no body: the engine sends such a request over HTTP/1.
    let apart = sent.upgrade && (sent.method != "GET" || sent.body != Body::Nothing);
    if apart {
        pass_request(&sent, &[Hop::Http1; HOPS]);
    } else {
        pass_request(&sent, &hops);
    }
    pass_response(choose, &sent, &hops);
}

fn pass_request(sent: &Request, hops: &[Hop]) {
    let at = sent.bytes.iter().position(|&byte| byte > b' ').unwrap_or(0);
    let mut message = Message {
        head: sent.bytes[at..sent.head_len].to_vec(),
        body: content(request_key(sent.id), 0, sent.body.len()),
        trailers: section(&sent.body.trailers(sent.id)),
    };
    // What is for one hop is not told of: see there.
    let expected = meaning::of_request(&message, Some(&sent.fields));
    for &hop in hops {
        message = match hop {
            Hop::Http1 => hop::request_over_http1(&message),
            Hop::Http2 => hop::request_over_http2(&message),
        };
        assert_eq!(meaning::of_request(&message, None), expected, "{hops:?}: {sent:?}");
    }
}

fn pass_response(choose: &mut dyn Choose, to: &Request, hops: &[Hop]) {
    let answer = Answer { id: to.id, to, largest: 40_000, status: None, tunnel: false, wait: None };
    let sent = response(choose, answer);
    let end = sent.bytes.windows(4).position(|four| four == b"\r\n\r\n").unwrap_or(0) + 4;
    let mut message = Message {
        head: sent.bytes[..end].to_vec(),
        body: content(response_key(sent.id), 0, sent.body.len()),
        trailers: section(&sent.body.trailers(sent.id)),
    };
    let expected = meaning::of_response(&message, to.method, Some(&sent.fields));
    for &hop in hops.iter().rev() {
        message = match hop {
            Hop::Http1 => hop::response_over_http1(&message, to.method),
            Hop::Http2 => hop::response_over_http2(&message, to.method),
        };
        let got = meaning::of_response(&message, to.method, None);
        assert_eq!(got, expected, "{hops:?}: {sent:?}");
    }
}

/// Fields as a section of HTTP/1; nothing, if there are none.
fn section(fields: &[Field]) -> Vec<u8> {
    let mut section = Vec::new();
    for (name, value) in fields {
        section.extend([name.as_bytes(), b": ", value, b"\r\n"].concat());
    }
    if !fields.is_empty() {
        section.extend(b"\r\n");
    }
    section
}
