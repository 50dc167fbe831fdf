//! gRPC-like exchanges, 100 bytes each way and trailers, through a whole engine between peers that
//! speak HTTP/1 or HTTP/2: for counting instructions and allocations.
//!
//! `hop_cost record FROM TO STREAMS COUNT FILE` lets peers talk through an engine and notes what they
//! send; FROM and TO are `h1` or `h2`. `hop_cost replay TO FILE` gives that to another engine: under
//! `valgrind --tool=callgrind` the difference between two counts is what the engine costs, without
//! its peers. With `policy` in front there is a route with retries and timeouts, and the service has
//! a breaker.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::{env, fs};

use bytes::BytesMut;
use selvedge_core::buf::OutQueue;
use selvedge_core::config::{Config, Endpoint, Listener, ListenerKind, Protocol, Service, Target};
use selvedge_core::engine::{Accepted, ConnId, Engine, Input, Output};
use selvedge_core::http::Scratch as Http1Scratch;
use selvedge_core::http1::{ResponseTo, parse_request, parse_response};
use selvedge_core::http2::{Config as Http2Config, Connection, Event, Scratch, StreamKey};
use selvedge_core::limits::Limits;
use selvedge_core::policy::Route;
use selvedge_core::rng::Seed;
use selvedge_core::time::{Duration, Time};

#[path = "common/policies.rs"]
mod policies;

const REQUEST: &[u8] = b"POST /helloworld.Greeter/SayHello HTTP/1.1\r\n\
    Host: greeter.example:80\r\nContent-Type: application/grpc\r\nTE: trailers\r\n\
    User-Agent: grpc-go/1.60.0\r\nGrpc-Accept-Encoding: gzip\r\nTransfer-Encoding: chunked\r\n\r\n";
const RESPONSE: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Type: application/grpc\r\n\
    Transfer-Encoding: chunked\r\n\r\n";
const TRAILERS: &[u8] = b"grpc-status: 0\r\ngrpc-message: \r\n\r\n";
/// A message: its prefix, and 95 bytes.
const MESSAGE: [u8; 100] = [7; 100];

/// What a peer makes of what it reads.
struct Peer {
    is_client: bool,
    /// HTTP/1: what came of a message. HTTP/2: what was not taken yet.
    rx: BytesMut,
    tx: OutQueue,
    http2: Option<(Connection, Scratch)>,
}

impl Peer {
    fn new(is_http2: bool, is_client: bool, now: Time) -> Peer {
        let mut tx = OutQueue::default();
        let begin = if is_client { Connection::client } else { Connection::server };
        let http2 =
            is_http2.then(|| (begin(Http2Config::default(), &mut tx, now), Scratch::default()));
        Peer { is_client, rx: BytesMut::new(), tx, http2 }
    }

    /// A client begins so many exchanges.
    fn ask(&mut self, exchanges: usize, now: Time) {
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
    fn take(&mut self, now: Time) -> usize {
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
    fn written(&mut self) -> Vec<u8> {
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

/// What the engine is told.
#[derive(Clone, Copy)]
struct Settings {
    to_http2: bool,
    /// Retries, timeouts and a breaker.
    policy: bool,
}

/// An engine, and the connections that it knows in the order in which it met them.
struct Hop {
    engine: Engine,
    now: Time,
    /// What every read goes into, as an adapter has it.
    block: BytesMut,
    conns: Vec<ConnId>,
    /// What it has written since that was last asked for, in total and by connection.
    total: usize,
    wrote: BTreeMap<usize, Vec<u8>>,
    /// Nobody asks for the bytes.
    is_replay: bool,
}

impl Hop {
    fn new(settings: Settings, is_replay: bool) -> Hop {
        let Settings { to_http2, policy } = settings;
        let route = Route {
            service: "greeter.example:80".into(),
            retry: Some(policies::retry()),
            timeouts: policies::timeouts(),
            ..Route::default()
        };
        let endpoint = Endpoint {
            target: Target::Addr(([10, 0, 0, 1], 80).into()),
            weight: 1,
            mesh: None,
            zone: None,
        };
        let config = Config {
            listeners: vec![Listener {
                addr: ([127, 0, 0, 1], 4140).into(),
                kind: ListenerKind::Outbound,
            }],
            services: vec![Service {
                name: "greeter.example:80".into(),
                endpoints: vec![endpoint],
                protocol: if to_http2 { Protocol::Http2 } else { Protocol::Http1 },
                breaker: policy.then(policies::breaker),
                ..Service::default()
            }],
            routes: policy.then_some(route).into_iter().collect::<Vec<_>>().into(),
            ..Config::default()
        };
        let mut engine = Engine::new(Arc::new(config), Seed::from_number(1), Time::ZERO);
        let accepted = Accepted {
            listener: 0,
            peer: ([127, 0, 0, 1], 50_000).into(),
            local: ([127, 0, 0, 1], 4140).into(),
            original_dst: None,
        };
        let down = engine.accept(Time::ZERO, accepted).expect("room");
        Hop {
            engine,
            now: Time::ZERO,
            block: BytesMut::new(),
            conns: vec![down],
            total: 0,
            wrote: BTreeMap::new(),
            is_replay,
        }
    }

    /// One read, and everything that follows from it.
    fn read(&mut self, at: usize, bytes: &[u8]) {
        self.now += Duration::from_micros(20);
        self.block.reserve(32 * 1024);
        self.block.extend_from_slice(bytes);
        let (conn, data) = (self.conns[at], self.block.split());
        self.engine.handle_input(self.now, Input::Received { conn, data });
        self.engine.end_turn(self.now);
        while let Some(output) = self.engine.poll_output() {
            match output {
                Output::Flush(conn) => self.write(conn),
                Output::Connect { conn, .. } => {
                    self.conns.push(conn);
                    let local = ([127, 0, 0, 1], 40_000).into();
                    let connected = Input::Connected { conn, result: Ok(local) };
                    self.engine.handle_input(self.now, connected);
                    self.engine.end_turn(self.now);
                }
                Output::ReadReady(_) | Output::Event(_) => {}
                other => panic!("nothing else happens here: {other:?}"),
            }
        }
    }

    fn write(&mut self, conn: ConnId) {
        loop {
            let mut io = [&[][..]; 64];
            let slices = self.engine.write_bufs(conn, &mut io);
            let n: usize = io[..slices].iter().map(|slice| slice.len()).sum();
            if n == 0 {
                return;
            }
            self.total += n;
            if !self.is_replay {
                let at = self.conns.iter().position(|&known| known == conn).expect("known");
                self.wrote.entry(at).or_default().extend(io[..slices].concat());
            }
            self.engine.handle_input(self.now, Input::Wrote { conn, n });
            self.engine.end_turn(self.now);
        }
    }
}

/// Lets peers talk; what they sent, as records of connection, length and bytes.
fn record(from_http2: bool, settings: Settings, streams: usize, count: usize) -> (Vec<u8>, usize) {
    let mut hop = Hop::new(settings, false);
    let mut peers = vec![Peer::new(from_http2, true, hop.now)];
    let (mut log, mut answered) = (Vec::new(), 0);
    while answered < count {
        peers[0].ask(streams, hop.now);
        let expected = answered + if from_http2 { streams } else { 1 };
        while answered < expected {
            for (at, peer) in peers.iter_mut().enumerate() {
                let bytes = peer.written();
                for piece in bytes.chunks(32 * 1024) {
                    log.extend_from_slice(&(at as u32).to_le_bytes());
                    log.extend_from_slice(&(piece.len() as u32).to_le_bytes());
                    log.extend_from_slice(piece);
                    hop.read(at, piece);
                }
            }
            peers.resize_with(hop.conns.len(), || Peer::new(settings.to_http2, false, hop.now));
            for (at, bytes) in std::mem::take(&mut hop.wrote) {
                peers[at].rx.extend_from_slice(&bytes);
                let complete = peers[at].take(hop.now);
                answered += if at == 0 { complete } else { 0 };
            }
        }
    }
    (log, hop.total)
}

/// Gives an engine what peers sent to another; how much it wrote.
fn replay(settings: Settings, mut log: &[u8]) -> usize {
    let mut hop = Hop::new(settings, true);
    while let Some((at, rest)) = log.split_first_chunk() {
        let (length, rest) = rest.split_first_chunk().expect("a whole record");
        let at = u32::from_le_bytes(*at) as usize;
        let (bytes, rest) = rest.split_at(u32::from_le_bytes(*length) as usize);
        hop.read(at, bytes);
        log = rest;
    }
    hop.total
}

fn main() {
    let args: Vec<String> = env::args().skip(1).collect();
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    let is_http2 = |version: &str| match version {
        "h1" => false,
        "h2" => true,
        other => panic!("h1 or h2, not {other}"),
    };
    let (policy, args) = match &args[..] {
        ["policy", rest @ ..] => (true, rest),
        all => (false, all),
    };
    let settings = |to| Settings { to_http2: is_http2(to), policy };
    match *args {
        ["record", from, to, streams, count, file] => {
            let (streams, count) = (streams.parse().expect("a number"), count.parse());
            let count = count.expect("a number");
            let (log, wrote) = record(is_http2(from), settings(to), streams, count);
            assert_eq!(replay(settings(to), &log), wrote, "the same input, the same output");
            fs::write(file, log).expect("cannot write");
        }
        ["replay", to, file] => {
            let log = fs::read(file).expect("cannot read");
            assert!(replay(settings(to), &log) > log.len() / 2, "all of it was forwarded");
        }
        _ => panic!("[policy] record FROM TO STREAMS COUNT FILE, or [policy] replay TO FILE"),
    }
}
