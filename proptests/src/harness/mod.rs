//! An engine over in-memory pipes and virtual time: no sockets, no clock, one thread.
//!
//! The harness is the adapter. It does at once what the engine wants done, in the order in which it
//! wants it, and keeps what came out of every connection until a test looks at it. Tests play the
//! peers: they send, close and reset, and move the time.
//!
//! ```
//! use std::sync::Arc;
//! use selvedge_core::config::Config;
//! use selvedge_proptests::harness::{Harness, outbound};
//!
//! let config = Config {
//!     listeners: vec![outbound()],
//!     ..Config::default()
//! };
//! let mut harness = Harness::new(Arc::new(config));
//! let client = harness.accept(0);
//! harness.send(client, b"GET / HTTP/1.1\r\nHost: nowhere.example\r\n\r\n");
//! assert!(harness.pipe(client).received.starts_with(b"HTTP/1.1 404 "));
//! ```

use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;
use std::sync::Arc;

use bytes::BytesMut;
use selvedge_core::config::{Config, Listener, ListenerId, ListenerKind};
use selvedge_core::engine::{Accepted, CloseKind, ConnId, Engine, Event, Input, Output, TimerKind};
use selvedge_core::error::{ConnectError, IoError};
use selvedge_core::identity::Update;
use selvedge_core::limits::Limits;
use selvedge_core::rng::Seed;
use selvedge_core::time::{Duration, Time, UnixTime};

pub mod message;

/// More turns than this without a change of time are an endless loop.
const MANY_TURNS: usize = 10_000;

/// A listener for local apps, on 127.0.0.1:4140.
pub fn outbound() -> Listener {
    Listener { addr: SocketAddr::from(([127, 0, 0, 1], 4140)), kind: ListenerKind::Outbound }
}

/// An engine and all that it is connected to.
#[derive(Debug)]
pub struct Harness {
    engine: Engine,
    now: Time,
    pipes: BTreeMap<ConnId, Pipe>,
    /// What the engine connected to, in this order.
    connected: Vec<ConnId>,
    events: Vec<Event>,
    refuse: Vec<SocketAddr>,
}

/// A connection, seen from the peer.
#[derive(Debug, Default)]
pub struct Pipe {
    /// Where it leads, if the engine opened it.
    pub addr: Option<SocketAddr>,
    /// All that the engine has written.
    pub received: Vec<u8>,
    /// The engine has shut down its write side.
    pub fin: bool,
    /// How the engine ended it.
    pub over: Option<CloseKind>,
    /// Sent by the peer and not yet read by the engine.
    unread: VecDeque<u8>,
    /// The peer's FIN follows what is unread.
    closes: bool,
    closed: bool,
}

impl Pipe {
    /// Nothing will be written to it any more.
    pub fn ended(&self) -> bool {
        self.fin || self.over.is_some()
    }
}

impl Harness {
    /// An engine at time zero.
    pub fn new(config: Arc<Config>) -> Self {
        Harness {
            engine: Engine::new(config, Seed::from_number(1), Time::ZERO),
            now: Time::ZERO,
            pipes: BTreeMap::new(),
            connected: Vec::new(),
            events: Vec::new(),
            refuse: Vec::new(),
        }
    }

    // ---- What a test looks at ----

    /// A connection.
    pub fn pipe(&self, conn: ConnId) -> &Pipe {
        &self.pipes[&conn]
    }

    /// The connections that the engine opened, in this order; those that are over included.
    pub fn connected(&self) -> &[ConnId] {
        &self.connected
    }

    /// Everything worth a log line so far.
    pub fn events(&self) -> &[Event] {
        &self.events
    }

    /// The engine.
    pub fn engine(&self) -> &Engine {
        &self.engine
    }

    // ---- What a peer does ----

    /// A client connects, from 127.0.0.1:40000.
    ///
    /// # Panics
    /// If the engine takes no more.
    pub fn accept(&mut self, listener: ListenerId) -> ConnId {
        let accepted = Accepted {
            listener,
            peer: SocketAddr::from(([127, 0, 0, 1], 40000)),
            local: SocketAddr::from(([127, 0, 0, 1], 4140)),
            original_dst: None,
        };
        let conn = self.engine.accept(self.now, accepted);
        let conn = conn.expect("the limit is far above what a test opens");
        self.pipes.insert(conn, Pipe::default());
        self.settle();
        conn
    }

    /// The engine gets a certificate, and is told the time that it is valid at.
    pub fn identify(&mut self, wall: UnixTime, update: Update) {
        self.input(Input::WallClock(wall));
        self.input(Input::Identity(Ok(update)));
        self.settle();
    }

    /// Takes what the engine has written to a connection since the last time.
    ///
    /// # Panics
    /// If there is no such connection.
    pub fn take(&mut self, conn: ConnId) -> Vec<u8> {
        let pipe = self.pipes.get_mut(&conn).expect("a known connection");
        std::mem::take(&mut pipe.received)
    }

    /// Connects to `addr` are refused from now on.
    pub fn refuse(&mut self, addr: SocketAddr) {
        self.refuse.push(addr);
    }

    /// A peer sends bytes; the engine reads them as far as its budget allows, and acts.
    pub fn send(&mut self, conn: ConnId, data: &[u8]) {
        if let Some(pipe) = self.pipes.get_mut(&conn) {
            pipe.unread.extend(data);
        }
        self.read(conn);
        self.settle();
    }

    /// A peer shuts down its write side.
    pub fn close(&mut self, conn: ConnId) {
        if let Some(pipe) = self.pipes.get_mut(&conn) {
            pipe.closes = true;
        }
        self.read(conn);
        self.settle();
    }

    /// A peer resets the connection. What the engine has not read yet is lost.
    pub fn reset(&mut self, conn: ConnId) {
        if let Some(pipe) = self.pipes.get_mut(&conn) {
            pipe.unread.clear();
        }
        self.input(Input::Failed { conn, kind: IoError::Reset });
        self.settle();
    }

    /// Time passes, and every timer on the way fires.
    pub fn advance(&mut self, by: Duration) {
        let until = self.now + by;
        while let Some((at, _)) = self.engine.next_timeout().filter(|&(at, _)| at <= until) {
            assert!(at >= self.now || self.now == until, "a timer in the past");
            self.now = self.now.max(at);
            self.input(Input::Timeout);
            self.settle();
            let next = self.engine.next_timeout();
            assert!(next.is_none_or(|(next, _)| next > self.now), "a timer fired and did not move");
        }
        self.now = until;
    }

    // ---- The adapter ----

    fn input(&mut self, input: Input) {
        self.engine.handle_input(self.now, input);
    }

    /// Gives the engine what a peer has sent, in blocks as an adapter reads them.
    fn read(&mut self, conn: ConnId) {
        loop {
            let budget = self.engine.read_budget(conn);
            let Some(pipe) = self.pipes.get_mut(&conn).filter(|pipe| pipe.over.is_none()) else {
                return;
            };
            if pipe.unread.is_empty() {
                if pipe.closes && !pipe.closed {
                    pipe.closed = true;
                    self.input(Input::ReadClosed { conn });
                }
                return;
            }
            if budget == 0 {
                return;
            }
            let n = pipe.unread.len().min(Limits::READ_BLOCK);
            let data: BytesMut = pipe.unread.drain(..n).collect::<Vec<u8>>()[..].into();
            self.input(Input::Received { conn, data });
            if !self.pipes[&conn].unread.is_empty() {
                self.settle();
            }
        }
    }

    /// Turns until the engine has nothing left to do.
    fn settle(&mut self) {
        for _ in 0..MANY_TURNS {
            self.engine.end_turn(self.now);
            let mut idle = true;
            while let Some(output) = self.engine.poll_output() {
                idle = false;
                self.act(output);
            }
            if idle && matches!(self.engine.next_timeout(), Some((_, TimerKind::Turn))) {
                self.input(Input::Timeout);
            } else if idle {
                if let Err(broken) = self.engine.check_invariants() {
                    panic!("{broken}");
                }
                return;
            }
        }
        panic!("the engine never comes to rest");
    }

    fn act(&mut self, output: Output) {
        match output {
            Output::Connect { conn, addr } => self.connect(conn, addr),
            Output::Flush(conn) => self.write(conn),
            Output::ReadReady(conn) => self.read(conn),
            Output::Close { conn, how } => {
                let pipe = self.pipes.get_mut(&conn).expect("a known connection");
                assert!(pipe.over.is_none(), "{conn:?} is over twice");
                match how {
                    CloseKind::Half => {
                        assert!(!pipe.fin, "{conn:?} is shut down twice");
                        pipe.fin = true;
                    }
                    CloseKind::Full | CloseKind::Abort => pipe.over = Some(how),
                }
            }
            Output::Resolve { name, .. } => panic!("tests use addresses, not {name}"),
            // Whoever has an identity brings its certificate: `Harness::identify`.
            Output::Certify => {}
            Output::Event(event) => self.events.push(event),
        }
    }

    fn connect(&mut self, conn: ConnId, addr: SocketAddr) {
        let result = if self.refuse.contains(&addr) {
            Err(ConnectError::Refused)
        } else {
            self.connected.push(conn);
            let pipe = Pipe { addr: Some(addr), ..Pipe::default() };
            self.pipes.insert(conn, pipe);
            Ok(SocketAddr::from(([127, 0, 0, 1], 50000)))
        };
        self.input(Input::Connected { conn, result });
    }

    fn write(&mut self, conn: ConnId) {
        loop {
            let mut slices: [&[u8]; 16] = [&[]; 16];
            let used = self.engine.write_bufs(conn, &mut slices);
            let data = slices[..used].concat();
            if data.is_empty() {
                return;
            }
            let pipe = self.pipes.get_mut(&conn).expect("a known connection");
            assert!(!pipe.ended(), "{conn:?} is written to after its end");
            pipe.received.extend_from_slice(&data);
            let n = data.len();
            self.input(Input::Wrote { conn, n });
        }
    }
}
