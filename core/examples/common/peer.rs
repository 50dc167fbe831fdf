//! Peers of a hop: clients that make unary gRPC calls of 100 bytes, and a server that answers with 100
//! and trailers, in HTTP/1 or HTTP/2.

use bytes::BytesMut;
use selvedge_core::buf::OutQueue;
use selvedge_core::http::Scratch as Http1Scratch;
use selvedge_core::http1::{ResponseTo, parse_request, parse_response};
use selvedge_core::http2::{Config as Http2Config, Connection, Event, Scratch, StreamKey};
use selvedge_core::limits::Limits;
use selvedge_core::time::Time;

const REQUEST: &[u8] = b"POST /helloworld.Greeter/SayHello HTTP/1.1\r\n\
    Host: greeter.example:80\r\nContent-Type: application/grpc\r\nTE: trailers\r\n\
    User-Agent: grpc-go/1.60.0\r\nGrpc-Accept-Encoding: gzip\r\nTransfer-Encoding: chunked\r\n\r\n";
const RESPONSE: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Type: application/grpc\r\n\
    Transfer-Encoding: chunked\r\n\r\n";
const TRAILERS: &[u8] = b"grpc-status: 0\r\ngrpc-message: \r\n\r\n";
/// A message: its prefix, and 95 bytes.
const MESSAGE: [u8; 100] = [7; 100];

/// What a peer makes of what it reads.
pub(crate) struct Peer {
    is_client: bool,
    /// HTTP/1: what came of a message. HTTP/2: what was not taken yet.
    pub(crate) rx: BytesMut,
    tx: OutQueue,
    http2: Option<(Connection, Scratch)>,
}

impl Peer {
    pub(crate) fn new(is_http2: bool, is_client: bool, now: Time) -> Peer {
        let mut tx = OutQueue::default();
        let begin = if is_client { Connection::client } else { Connection::server };
        let http2 =
            is_http2.then(|| (begin(Http2Config::default(), &mut tx, now), Scratch::default()));
        Peer { is_client, rx: BytesMut::new(), tx, http2 }
    }

    /// A client begins so many exchanges.
    pub(crate) fn ask(&mut self, exchanges: usize, now: Time) {
        let Some((connection, _)) = &mut self.http2 else {
            return self.tx.append(|out| write_http1(out, REQUEST, b""));
        };
        let mut scratch = Http1Scratch::default();
        let request = parse_request(REQUEST, &mut scratch, &Limits::default()).expect("a request");
        for _ in 0..exchanges {
            let host = b"greeter.example:80";
            let stream = connection
                .send_request(&mut self.tx, &request, host, false, 1, now)
                .expect("a stream to spare");
            put_message(connection, stream, true);
        }
    }

    /// Takes what came; how many messages are complete. A server answers them.
    pub(crate) fn take(&mut self, now: Time) -> usize {
        let Some((connection, scratch)) = &mut self.http2 else {
            let end: &[u8] = if self.is_client { TRAILERS } else { b"0\r\n\r\n" };
            if !self.rx.ends_with(end) {
                return 0;
            }
            self.rx.clear();
            if !self.is_client {
                self.tx.append(|out| write_http1(out, RESPONSE, &TRAILERS[..TRAILERS.len() - 2]));
            }
            return 1;
        };
        let limits = Limits::default();
        let mut complete = 0;
        while let Some(event) = connection
            .poll(&mut self.rx, &mut self.tx, scratch, &limits, now)
            .expect("no violation")
        {
            match event {
                Event::Data { stream, data, end, .. } => {
                    connection.release(&mut self.tx, stream, data.len(), true);
                    if end {
                        answer(connection, &mut self.tx, stream);
                        complete += 1;
                    }
                }
                Event::Trailers { .. } => complete += 1,
                _ => {}
            }
        }
        complete
    }

    /// What it sends.
    pub(crate) fn written(&mut self) -> Vec<u8> {
        if let Some((connection, _)) = &mut self.http2 {
            connection.flush(&mut self.tx, usize::MAX);
            while connection.poll_progress().is_some() {}
        }
        let mut owned = Vec::new();
        self.tx.owned(&mut owned);
        let bytes = owned.concat();
        self.tx.wrote(bytes.len());
        bytes
    }
}

fn write_http1(out: &mut BytesMut, head: &[u8], trailers: &[u8]) {
    for part in [head, b"64\r\n", &MESSAGE, b"\r\n0\r\n", trailers, b"\r\n"] {
        out.extend_from_slice(part);
    }
}

fn put_message(connection: &mut Connection, stream: StreamKey, end: bool) {
    let queue = connection.body(stream).expect("an open stream");
    queue.append(|out| out.extend_from_slice(&MESSAGE));
    connection.body_added(stream, MESSAGE.len(), end);
}

fn answer(connection: &mut Connection, tx: &mut OutQueue, stream: StreamKey) {
    let mut scratch = Http1Scratch::default();
    let to = ResponseTo { is_head: false, is_connect: false };
    let response = parse_response(RESPONSE, &mut scratch, &Limits::default(), to);
    connection.send_response(tx, stream, &response.expect("a response"), false);
    put_message(connection, stream, false);
    connection.send_trailers(tx, stream, TRAILERS).expect("trailers");
}
