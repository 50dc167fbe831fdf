//! The complete run loop, driven over two pipes in memory: a client on one, an app on the other.
//!
//! Nothing here is asynchronous and nothing is real: time is a number that this file counts up.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use selvedge_core::config::{Config, Endpoint, Listener, ListenerKind, Service, Target};
use selvedge_core::engine::{Accepted, CloseKind, ConnId, Engine, Input, Output};
use selvedge_core::rng::Seed;
use selvedge_core::time::Time;

/// One end of a pipe: what the engine wrote, and whether it closed.
#[derive(Default)]
struct Pipe {
    written: Vec<u8>,
    closed: Option<CloseKind>,
}

/// The adapter: an engine, a clock, and pipes instead of sockets.
struct Adapter {
    engine: Engine,
    now: Time,
    pipes: BTreeMap<ConnId, Pipe>,
    /// The connection to the app, once the engine has asked for it.
    app: Option<ConnId>,
}

impl Adapter {
    /// Something happened to a connection: a whole turn of the loop.
    fn turn(&mut self, input: Input) {
        self.now += Duration::from_millis(1);
        self.engine.handle_input(self.now, input);
        self.engine.end_turn(self.now);
        while let Some(output) = self.engine.poll_output() {
            match output {
                Output::Connect { conn, addr } => {
                    println!("engine connects to {addr}");
                    self.pipes.insert(conn, Pipe::default());
                    self.app = Some(conn);
                    let local = ([127, 0, 0, 1], 40_000).into();
                    self.engine
                        .handle_input(self.now, Input::Connected { conn, result: Ok(local) });
                    self.engine.end_turn(self.now);
                }
                Output::Flush(conn) => self.write(conn),
                Output::Close { conn, how } => {
                    println!("engine closes {conn:?}: {how:?}");
                    self.pipes.entry(conn).or_default().closed = Some(how);
                }
                // Our pipes are always readable and writable, and we have no names.
                Output::ReadReady(_) | Output::Resolve { .. } | Output::Certify => {}
                Output::Event(event) => println!("event: {event:?}"),
            }
        }
    }

    /// Writes what a connection wants written. A socket may take less; a pipe takes it all.
    fn write(&mut self, conn: ConnId) {
        let mut io = [&[][..]; 16];
        let slices = self.engine.write_bufs(conn, &mut io);
        let bytes = io[..slices].concat();
        let n = bytes.len();
        self.pipes.entry(conn).or_default().written.extend(bytes);
        self.engine.handle_input(self.now, Input::Wrote { conn, n });
        self.engine.end_turn(self.now);
    }

    fn take(&mut self, conn: ConnId) -> String {
        let written = std::mem::take(&mut self.pipes.entry(conn).or_default().written);
        String::from_utf8_lossy(&written).into_owned()
    }
}

fn main() {
    let config = Config {
        listeners: vec![Listener {
            addr: ([127, 0, 0, 1], 4140).into(),
            kind: ListenerKind::Outbound,
        }],
        services: vec![Service {
            name: "web.example:80".into(),
            endpoints: vec![Endpoint {
                target: Target::Addr(([10, 0, 0, 1], 8080).into()),
                weight: 1,
                mesh: None,
                zone: None,
            }],
            ..Service::default()
        }],
        ..Config::default()
    };
    let engine = Engine::new(Arc::new(config), Seed::from_number(1), Time::ZERO);
    let mut adapter = Adapter { engine, now: Time::ZERO, pipes: BTreeMap::new(), app: None };

    let accepted = Accepted {
        listener: 0,
        peer: ([127, 0, 0, 1], 50_000).into(),
        local: ([127, 0, 0, 1], 4140).into(),
        original_dst: None,
    };
    let client =
        adapter.engine.accept(adapter.now, accepted).expect("an engine with no limits hit");

    // The request arrives in two pieces, cut where it hurts.
    for piece in ["GET /hello HTTP/1.1\r\nHost: web.exam", "ple\r\nConnection: close\r\n\r\n"] {
        adapter.turn(Input::Received { conn: client, data: BytesMut::from(piece) });
    }
    let app = adapter.app.expect("the engine has connected");
    let request = adapter.take(app);
    println!("--- the app reads\n{request}");
    assert_eq!(request, "GET /hello HTTP/1.1\r\nHost: web.example\r\n\r\n");

    let response = "HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nhello\n";
    adapter.turn(Input::Received { conn: app, data: BytesMut::from(response) });
    let answer = adapter.take(client);
    println!("--- the client reads\n{answer}");
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n") && answer.ends_with("\r\n\r\nhello\n"));
    assert_eq!(adapter.pipes[&client].closed, Some(CloseKind::Full));
}
