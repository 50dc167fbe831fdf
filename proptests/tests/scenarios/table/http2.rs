//! Requests and answers on streams of HTTP/2, on either side or both.

use selvedge_core::config::{Config, Protocol};
use selvedge_core::engine::Event;
use selvedge_proptests::h2::wire::Frame;

use super::{GET, OK, Scenario, pattern, scenario};
use crate::stage::Fields;

const HEAD: Fields<'_> =
    &[(":method", "GET"), (":scheme", "http"), (":path", "/"), (":authority", "app.example")];
const POST: Fields<'_> =
    &[(":method", "POST"), (":scheme", "http"), (":path", "/"), (":authority", "app.example")];
const GRPC: Fields<'_> = &[
    (":method", "POST"),
    (":scheme", "http"),
    (":path", "/svc/Call"),
    (":authority", "app.example"),
    ("content-type", "application/grpc"),
    ("te", "trailers"),
];
const DONE: Fields<'_> = &[(":status", "200")];
const OF_TWO: Fields<'_> = &[(":status", "200"), ("content-length", "2")];

/// Codes of RST_STREAM (RFC 9113 §7).
const REFUSED_STREAM: u32 = 7;
const CANCEL: u32 = 8;
/// A setting (RFC 9113 §6.5.2).
const INITIAL_WINDOW_SIZE: u16 = 4;

fn http2(config: &mut Config) {
    config.services[0].protocol = Protocol::Http2;
}

fn http1(config: &mut Config) {
    config.services[0].protocol = Protocol::Http1;
}

fn mesh(config: &mut Config) {
    config.services[0].protocol = Protocol::Mesh;
}

pub(super) const TABLE: &[Scenario] = &[
    scenario("stream to stream", http2, |s| {
        let client = s.streams_client(&[]);
        s.say_head(client, 1, HEAD, true);
        let app = s.streams_app(0, &[]);
        s.sees_head(app, 1, HEAD, true);
        s.say_head(app, 1, OF_TWO, false);
        s.say_data(app, 1, b"ok", true);
        s.sees_head(client, 1, OF_TWO, false);
        s.sees_data(client, 1, b"ok", true);
    }),
    scenario("stream to HTTP/1", http1, |s| {
        let client = s.streams_client(&[]);
        s.say_head(client, 1, HEAD, true);
        let app = s.app(0);
        s.sees(app, GET);
        s.send(app, OK);
        s.sees_head(client, 1, OF_TWO, false);
        s.sees_data(client, 1, b"ok", true);
    }),
    scenario("HTTP/1 to stream", http2, |s| {
        let client = s.client();
        s.send(client, GET);
        let app = s.streams_app(0, &[]);
        s.sees_head(app, 1, HEAD, true);
        s.say_head(app, 1, OF_TWO, false);
        s.say_data(app, 1, b"ok", true);
        s.head(client, "HTTP/1.1 200 OK\r\n");
        s.sees(client, "ok");
    }),
    scenario("HTTP/1 between proxies says so", mesh, |s| {
        let client = s.client();
        s.send(client, GET);
        let app = s.streams_app(0, &[]);
        let marked = [HEAD, &[("l5d-orig-proto", "HTTP/1.1")]].concat();
        s.sees_head(app, 1, &marked, true);
        s.say_head(app, 1, &[(":status", "204")], true);
        s.head(client, "HTTP/1.1 204 ");
    }),
    scenario("streams share a connection, and end in any order", http2, |s| {
        let client = s.streams_client(&[]);
        s.say_head(client, 1, HEAD, true);
        let app = s.streams_app(0, &[]);
        s.sees_head(app, 1, HEAD, true);
        s.say_head(client, 3, HEAD, true);
        s.sees_head(app, 3, HEAD, true);
        s.say_head(app, 3, DONE, true);
        s.sees_head(client, 3, DONE, true);
        s.say_head(app, 1, DONE, true);
        s.sees_head(client, 1, DONE, true);
    }),
    scenario("a client resets a stream, and the other goes on", http2, |s| {
        let client = s.streams_client(&[]);
        s.say_head(client, 1, POST, false);
        let app = s.streams_app(0, &[]);
        s.sees_head(app, 1, POST, false);
        s.say_head(client, 3, HEAD, true);
        s.sees_head(app, 3, HEAD, true);
        s.say(client, &Frame::reset(1, CANCEL));
        s.sees_reset(app, 1, CANCEL);
        s.say_head(app, 3, DONE, true);
        s.sees_head(client, 3, DONE, true);
    }),
    scenario("a client resets a stream that goes to HTTP/1", http1, |s| {
        let client = s.streams_client(&[]);
        s.say_head(client, 1, HEAD, true);
        let app = s.app(0);
        s.sees(app, GET);
        s.say(client, &Frame::reset(1, CANCEL));
        s.rst(app);
    }),
    scenario("an app resets a stream, and the code arrives", http2, |s| {
        let client = s.streams_client(&[]);
        s.say_head(client, 1, HEAD, true);
        let app = s.streams_app(0, &[]);
        s.sees_head(app, 1, HEAD, true);
        s.say_head(app, 1, DONE, false);
        s.sees_head(client, 1, DONE, false);
        s.say(app, &Frame::reset(1, CANCEL));
        s.sees_reset(client, 1, CANCEL);
    }),
    scenario("a refused stream is sent again", http2, |s| {
        let client = s.streams_client(&[]);
        s.say_head(client, 1, POST, false);
        let app = s.streams_app(0, &[]);
        s.sees_head(app, 1, POST, false);
        s.say_data(client, 1, b"body", true);
        s.sees_data(app, 1, b"body", true);
        s.say(app, &Frame::reset(1, REFUSED_STREAM));
        s.sees_head(app, 3, POST, false);
        s.sees_data(app, 3, b"body", true);
        s.say_head(app, 3, DONE, true);
        s.sees_head(client, 1, DONE, true);
    }),
    scenario("a GOAWAY moves what was not looked at", http2, |s| {
        let client = s.streams_client(&[]);
        s.say_head(client, 1, HEAD, true);
        let old = s.streams_app(0, &[]);
        s.sees_head(old, 1, HEAD, true);
        s.say_head(client, 3, POST, true);
        s.sees_head(old, 3, POST, true);
        s.say(old, &Frame::new(7, 0, 0, [[0, 0, 0, 1], [0; 4]].concat()));
        let new = s.streams_app(0, &[]);
        s.sees_head(new, 1, POST, true);
        s.say_head(new, 1, DONE, true);
        s.sees_head(client, 3, DONE, true);
        s.say_head(old, 1, DONE, true);
        s.sees_head(client, 1, DONE, true);
        s.fin(old);
    }),
    scenario("trailers on streams", http2, |s| {
        let client = s.streams_client(&[]);
        s.say_head(client, 1, POST, false);
        let app = s.streams_app(0, &[]);
        s.sees_head(app, 1, POST, false);
        s.say_data(client, 1, b"body", false);
        s.sees_data(app, 1, b"body", false);
        s.say_head(client, 1, &[("x-sum", "1")], true);
        s.sees_head(app, 1, &[("x-sum", "1")], true);
        s.say_head(app, 1, DONE, false);
        s.sees_head(client, 1, DONE, false);
        s.say_head(app, 1, &[("x-sum", "2")], true);
        s.sees_head(client, 1, &[("x-sum", "2")], true);
    }),
    scenario("trailers of HTTP/1 cross a stream", http2, |s| {
        let client = s.client();
        s.send(
            client,
            "POST / HTTP/1.1\r\nHost: app.example\r\nTransfer-Encoding: chunked\r\n\r\n\
             4\r\nbody\r\n0\r\nX-Sum: 1\r\n\r\n",
        );
        let app = s.streams_app(0, &[]);
        s.sees_head(app, 1, POST, false);
        s.sees_data(app, 1, b"body", false);
        s.sees_head(app, 1, &[("x-sum", "1")], true);
        s.say_head(app, 1, DONE, false);
        s.say_head(app, 1, &[("x-sum", "2")], true);
        s.head(client, "HTTP/1.1 200 OK\r\n");
        s.sees(client, "0\r\nx-sum: 2\r\n\r\n");
    }),
    scenario("a gRPC call and its status", http2, |s| {
        let client = s.streams_client(&[]);
        s.say_head(client, 1, GRPC, false);
        let app = s.streams_app(0, &[]);
        s.sees_head(app, 1, GRPC, false);
        s.say_data(client, 1, b"\0\0\0\0\x01a", true);
        s.sees_data(app, 1, b"\0\0\0\0\x01a", true);
        let head: Fields<'_> = &[(":status", "200"), ("content-type", "application/grpc")];
        s.say_head(app, 1, head, false);
        s.sees_head(client, 1, head, false);
        s.say_data(app, 1, b"\0\0\0\0\x01b", false);
        s.sees_data(client, 1, b"\0\0\0\0\x01b", false);
        s.say_head(app, 1, &[("grpc-status", "0")], true);
        s.sees_head(client, 1, &[("grpc-status", "0")], true);
    }),
    scenario("a gRPC answer that is only trailers", http2, |s| {
        let client = s.streams_client(&[]);
        s.say_head(client, 1, GRPC, true);
        let app = s.streams_app(0, &[]);
        s.sees_head(app, 1, GRPC, true);
        let only: Fields<'_> =
            &[(":status", "200"), ("content-type", "application/grpc"), ("grpc-status", "5")];
        s.say_head(app, 1, only, true);
        s.sees_head(client, 1, only, true);
    }),
    scenario("the proxy answers gRPC as gRPC", http2, |s| {
        let client = s.streams_client(&[]);
        let unknown: Vec<_> = GRPC
            .iter()
            .map(|&(name, value)| (name, if name == ":authority" { "no.example" } else { value }))
            .collect();
        s.say_head(client, 1, &unknown, true);
        s.sees_head(
            client,
            1,
            &[
                (":status", "200"),
                ("content-type", "application/grpc"),
                ("grpc-status", "5"),
                ("grpc-message", "no service has this authority"),
                ("l5d-proxy-error", "no service has this authority"),
            ],
            true,
        );
    }),
    scenario("an answer waits for its client's credit", http2, |s| {
        let client = s.streams_client(&[(INITIAL_WINDOW_SIZE, 10)]);
        s.say_head(client, 1, HEAD, true);
        let app = s.streams_app(0, &[]);
        s.sees_head(app, 1, HEAD, true);
        let body = pattern(5000);
        s.say_head(app, 1, DONE, false);
        s.say_data(app, 1, &body, true);
        s.sees_head(client, 1, DONE, false);
        s.sees_data(client, 1, &body[..10], false);
        s.say(client, &Frame::window_update(1, 90));
        s.sees_data(client, 1, &body[10..100], false);
        s.say(client, &Frame::window_update(1, 10_000));
        s.sees_data(client, 1, &body[100..], true);
    }),
    scenario("a stream that stalls does not stop another", http2, |s| {
        let client = s.streams_client(&[(INITIAL_WINDOW_SIZE, 0)]);
        s.say_head(client, 1, HEAD, true);
        let app = s.streams_app(0, &[]);
        s.sees_head(app, 1, HEAD, true);
        s.say_head(client, 3, HEAD, true);
        s.sees_head(app, 3, HEAD, true);
        let body = pattern(10_000);
        s.say_head(app, 1, DONE, false);
        s.sees_head(client, 1, DONE, false);
        s.say_data(app, 1, &body, true);
        s.say_head(app, 3, DONE, false);
        s.sees_head(client, 3, DONE, false);
        s.say_data(app, 3, &body, true);
        s.say(client, &Frame::window_update(3, 10_000));
        s.sees_data(client, 3, &body, true);
        s.say(client, &Frame::window_update(1, 10_000));
        s.sees_data(client, 1, &body, true);
    }),
    scenario("a drain says goodbye in two steps", http2, |s| {
        let client = s.streams_client(&[]);
        s.say_head(client, 1, HEAD, true);
        let app = s.streams_app(0, &[]);
        s.sees_head(app, 1, HEAD, true);
        s.drain();
        s.sees_goaway(client, 0x7fff_ffff);
        s.sees_goaway(client, 1);
        s.say_head(app, 1, DONE, true);
        s.sees_head(client, 1, DONE, true);
        s.fin(client);
        s.close(client);
        s.event(&Event::Drained);
    }),
];
