//! Unary gRPC calls through a client's and a server's HTTP/2 connection, 32 at a time, 100 bytes each
//! way: what a hop does between two connections. For counting instructions and allocations.
//!
//! `valgrind --tool=callgrind target/release/examples/http2_cost COUNT`: the difference between two
//! counts is the cost of a call, without start-up.

use std::env;

use bytes::BytesMut;
use selvedge_core::buf::OutQueue;
use selvedge_core::http::{Framing, Request, Response, Scratch as Http1Scratch};
use selvedge_core::http1::{ResponseTo, parse_request, parse_response};
use selvedge_core::http2::{Config, Connection, Event, Scratch};
use selvedge_core::limits::Limits;
use selvedge_core::time::{Duration, Time};

/// Calls that are under way at once.
pub(crate) const CONCURRENT: usize = 32;

const REQUEST: &[u8] =
    b"POST /helloworld.Greeter/SayHello HTTP/1.1\r\nHost: greeter.example:80\r\n\
    Content-Type: application/grpc\r\nTE: trailers\r\nUser-Agent: grpc-go/1.60.0\r\n\
    Grpc-Accept-Encoding: gzip\r\nTransfer-Encoding: chunked\r\n\r\n";
const RESPONSE: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Type: application/grpc\r\n\
    Transfer-Encoding: chunked\r\n\r\n";
const TRAILERS: &[u8] = b"grpc-status: 0\r\ngrpc-message: \r\n\r\n";

/// A message: its prefix, and 95 bytes.
pub(crate) const MESSAGE: [u8; 100] = [7; 100];

/// One side.
struct End {
    connection: Connection,
    rx: BytesMut,
    tx: OutQueue,
    scratch: Scratch,
}

impl End {
    /// What the other side has to say arrives, as an adapter reads it.
    fn read(&mut self, from: &mut End) {
        from.connection.flush(&mut from.tx, 64 * 1024);
        let mut io = [&[][..]; 64];
        while from.tx.unsent() > 0 {
            let slices = from.tx.slices(&mut io);
            let n = io[..slices].iter().map(|slice| slice.len()).sum();
            self.rx.reserve(32 * 1024);
            for slice in &io[..slices] {
                self.rx.extend_from_slice(slice);
            }
            from.tx.wrote(n);
            io = [&[][..]; 64];
        }
        while from.connection.poll_progress().is_some() {}
    }

    /// Takes what arrived; how many messages were complete.
    fn take(&mut self, limits: &Limits, now: Time, answer: Option<&Response<'_>>) -> usize {
        let mut complete = 0;
        let End { connection, rx, tx, scratch } = self;
        while let Some(event) = connection.poll(rx, tx, scratch, limits, now).expect("no violation")
        {
            match event {
                Event::Data { stream, data, end, .. } => {
                    connection.release(tx, stream, data.len(), true);
                    if end && let Some(response) = answer {
                        connection.send_response(tx, stream, response, false);
                        put(connection, stream, false);
                        connection.send_trailers(tx, stream, TRAILERS).expect("trailers");
                        complete += 1;
                    }
                }
                Event::Trailers { .. } => complete += 1,
                _ => {}
            }
        }
        complete
    }
}

fn put(connection: &mut Connection, stream: selvedge_core::http2::StreamKey, end: bool) {
    let queue = connection.body(stream).expect("an open stream");
    queue.append(|out| out.extend_from_slice(&MESSAGE));
    connection.body_added(stream, MESSAGE.len(), end);
}

/// Makes so many calls, to the next multiple of [`CONCURRENT`]; how many were answered.
pub(crate) fn run(count: usize) -> usize {
    let limits = Limits::default();
    let (mut now, mut answered) = (Time::ZERO, 0);
    let (mut asked, mut said) = (Http1Scratch::default(), Http1Scratch::default());
    let request: Request<'_> = parse_request(REQUEST, &mut asked, &limits).expect("a request");
    assert_eq!(request.framing, Framing::Chunked);
    let to = ResponseTo { is_head: false, is_connect: false };
    let response = parse_response(RESPONSE, &mut said, &limits, to).expect("a response");
    let end =
        |connection, tx| End { connection, rx: BytesMut::new(), tx, scratch: Scratch::default() };
    let mut tx = OutQueue::default();
    let mut client = end(Connection::client(Config::default(), &mut tx, now), tx);
    let mut tx = OutQueue::default();
    let mut server = end(Connection::server(Config::default(), &mut tx, now), tx);
    while answered < count {
        now += Duration::from_micros(500);
        for _ in 0..CONCURRENT {
            let End { connection, tx, .. } = &mut client;
            let host = b"greeter.example:80";
            let stream = connection.send_request(tx, &request, host, false, 1, now).expect("room");
            put(connection, stream, true);
        }
        server.read(&mut client);
        server.take(&limits, now, Some(&response));
        client.read(&mut server);
        answered += client.take(&limits, now, None);
        // Credit, if any.
        server.read(&mut client);
        server.take(&limits, now, Some(&response));
    }
    answered
}

#[allow(dead_code)]
fn main() {
    let count = env::args().nth(1).map_or(10, |count| count.parse().expect("a count"));
    assert!(run(count) >= count, "every call was answered");
}
