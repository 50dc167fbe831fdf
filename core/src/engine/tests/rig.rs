//! An engine and the adapter's half of the contract, one step at a time.

extern crate std;

use alloc::collections::BTreeMap;
use alloc::string::{String, ToString};
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::net::SocketAddr;

use bytes::BytesMut;

use crate::config::{Config, Endpoint, Listener, ListenerKind, Service, Target};
use crate::engine::{
    Accepted, CloseKind, Command, ConnId, Engine, Event, Input, Output, TimerKind,
};
use crate::error::{ConnectError, IoError, Reason};
use crate::rng::Seed;
use crate::stats::Decision;
use crate::time::{Duration, Time};

pub(super) const OUTBOUND: u16 = 0;
pub(super) const INBOUND: u16 = 1;
pub(super) const FORWARD: u16 = 2;

pub(super) fn addr(text: &str) -> SocketAddr {
    text.parse().expect("an address")
}

pub(super) fn service(name: &str, endpoints: &[&str]) -> Service {
    Service {
        name: name.into(),
        endpoints: endpoints
            .iter()
            .map(|text| Endpoint {
                target: Target::Addr(addr(text)),
                weight: 1,
                mesh: None,
                zone: None,
            })
            .collect(),
        ..Service::default()
    }
}

/// Listeners, an app, the services `web.example` (two endpoints) and `one.example` (one).
pub(super) fn config() -> Config {
    let listener = |at: &str, kind| Listener { addr: addr(at), kind };
    Config {
        listeners: [
            listener("127.0.0.1:4140", ListenerKind::Outbound),
            listener("0.0.0.0:4143", ListenerKind::Inbound),
            listener("127.0.0.1:5432", ListenerKind::Forward("tcp/5432".into())),
        ]
        .into(),
        own: [addr("127.0.0.1:4191")].into(),
        app: Some(addr("127.0.0.1:8080")),
        opaque_ports: [3306].into(),
        services: [
            service("web.example:80", &["10.0.0.1:80", "10.0.0.2:80"]),
            service("one.example:80", &["10.0.0.3:80"]),
            service("tcp/5432", &["10.0.0.4:5432"]),
        ]
        .into(),
        ..Config::default()
    }
}

pub(super) struct Rig {
    pub(super) engine: Engine,
    pub(super) now: Time,
    /// Connects that were asked for and not answered.
    pub(super) connects: Vec<(ConnId, SocketAddr)>,
    pub(super) closes: Vec<(ConnId, CloseKind)>,
    pub(super) events: Vec<Event>,
    pub(super) resolves: Vec<(crate::engine::QueryId, String)>,
    pub(super) read_ready: Vec<ConnId>,
    /// How often a certificate was asked for.
    pub(super) certify: u32,
    written: BTreeMap<ConnId, Vec<u8>>,
    /// What is in the pipes to connections.
    pipes: BTreeMap<ConnId, Vec<u8>>,
    /// Connections whose socket takes nothing for now.
    pub(super) blocked: Vec<ConnId>,
}

impl Rig {
    pub(super) fn new() -> Self {
        Self::with(config())
    }

    pub(super) fn with(config: Config) -> Self {
        let engine = Engine::new(Arc::new(config), Seed::from_number(1), Time::ZERO);
        let mut rig = Rig {
            engine,
            now: Time::ZERO,
            connects: Vec::new(),
            closes: Vec::new(),
            events: Vec::new(),
            resolves: Vec::new(),
            read_ready: Vec::new(),
            certify: 0,
            written: BTreeMap::new(),
            pipes: BTreeMap::new(),
            blocked: Vec::new(),
        };
        rig.turn();
        rig
    }

    /// Ends the turn, and those that it takes to do all there is; writes are complete at once.
    pub(super) fn turn(&mut self) {
        self.one_turn();
        while matches!(self.engine.next_timeout(), Some((_, TimerKind::Turn))) {
            self.engine.handle_input(self.now, Input::Timeout);
            self.one_turn();
        }
    }

    /// Ends the turn and does what comes out.
    pub(super) fn one_turn(&mut self) {
        self.engine.end_turn(self.now);
        while let Some(output) = self.engine.poll_output() {
            match output {
                Output::Connect { conn, addr } => self.connects.push((conn, addr)),
                Output::Close { conn, how } => {
                    self.connects.retain(|&(other, _)| other != conn);
                    self.closes.push((conn, how));
                }
                Output::Certify => self.certify += 1,
                Output::Event(event) => self.events.push(event),
                Output::Resolve { query, name } => self.resolves.push((query, name.to_string())),
                Output::ReadReady(conn) => self.read_ready.push(conn),
                Output::Flush(conn) => self.flush(conn),
            }
        }
        self.engine.check_invariants().expect("invariants");
    }

    fn flush(&mut self, conn: ConnId) {
        if self.blocked.contains(&conn) {
            return;
        }
        let mut io = [&[][..]; 64];
        let n = self.engine.write_bufs(conn, &mut io);
        let bytes = self.pipes.remove(&conn).unwrap_or_else(|| io[..n].concat());
        if !bytes.is_empty() {
            let n = bytes.len();
            self.written.entry(conn).or_default().extend(bytes);
            self.engine.handle_input(self.now, Input::Wrote { conn, n });
            self.engine.end_turn(self.now);
            self.flush(conn);
        }
    }

    /// The socket takes bytes again.
    pub(super) fn unblock(&mut self, conn: ConnId) {
        self.blocked.retain(|&other| other != conn);
        self.flush(conn);
        self.turn();
    }

    pub(super) fn input(&mut self, input: Input) {
        self.engine.handle_input(self.now, input);
        self.turn();
    }

    pub(super) fn accept_to(&mut self, listener: u16, original_dst: Option<&str>) -> ConnId {
        let accepted = Accepted {
            listener,
            peer: addr("127.0.0.1:50000"),
            local: addr("127.0.0.1:4140"),
            original_dst: original_dst.map(addr),
        };
        let conn = self.engine.accept(self.now, accepted).expect("room for a connection");
        self.turn();
        conn
    }

    /// A client of the outbound listener.
    pub(super) fn client(&mut self) -> ConnId {
        self.accept_to(OUTBOUND, None)
    }

    pub(super) fn receive(&mut self, conn: ConnId, data: &[u8]) {
        self.input(Input::Received { conn, data: BytesMut::from(data) });
    }

    /// The same, into a pipe to the other end of a tunnel.
    pub(super) fn splice(&mut self, conn: ConnId, data: &[u8]) {
        let sink = self.engine.splices_to(conn).expect("a tunnel that flows");
        self.pipes.insert(sink, data.into());
        self.input(Input::Spliced { conn, n: data.len() });
    }

    /// The adapter takes a pipe back, and shows what was in it.
    pub(super) fn unsplice(&mut self, conn: ConnId) {
        let data = BytesMut::from(&self.pipes.remove(&conn).expect("a pipe")[..]);
        self.input(Input::Unspliced { conn, data });
    }

    /// The socket takes so much of what is in its pipe, and no more for now.
    pub(super) fn drain_pipe(&mut self, conn: ConnId, n: usize) {
        let pipe = self.pipes.get_mut(&conn).expect("a pipe");
        let bytes: Vec<u8> = pipe.drain(..n).collect();
        self.written.entry(conn).or_default().extend(bytes);
        self.input(Input::Wrote { conn, n });
    }

    pub(super) fn eof(&mut self, conn: ConnId) {
        self.input(Input::ReadClosed { conn });
    }

    pub(super) fn reset(&mut self, conn: ConnId) {
        self.input(Input::Failed { conn, kind: IoError::Reset });
    }

    /// Answers the oldest connect.
    pub(super) fn connect(&mut self) -> ConnId {
        assert!(!self.connects.is_empty(), "the engine connects");
        let (conn, _) = self.connects.remove(0);
        self.input(Input::Connected { conn, result: Ok(addr("127.0.0.1:40000")) });
        conn
    }

    pub(super) fn refuse_connect(&mut self) -> SocketAddr {
        assert!(!self.connects.is_empty(), "the engine connects");
        let (conn, addr) = self.connects.remove(0);
        self.input(Input::Connected { conn, result: Err(ConnectError::Refused) });
        addr
    }

    /// Takes what was written to a connection.
    pub(super) fn written(&mut self, conn: ConnId) -> String {
        let bytes = self.written.remove(&conn).unwrap_or_default();
        String::from_utf8(bytes).expect("text")
    }

    /// The same, of what is no text.
    pub(super) fn taken(&mut self, conn: ConnId) -> Vec<u8> {
        self.written.remove(&conn).unwrap_or_default()
    }

    pub(super) fn written_len(&self, conn: ConnId) -> usize {
        self.written.get(&conn).map_or(0, Vec::len)
    }

    pub(super) fn closed(&self, conn: ConnId) -> Vec<CloseKind> {
        self.closes.iter().filter(|(other, _)| *other == conn).map(|(_, how)| *how).collect()
    }

    /// Lets time pass, with every timeout on the way.
    pub(super) fn pass(&mut self, time: Duration) {
        let until = self.now + time;
        while let Some((at, kind)) = self.engine.next_timeout()
            && at <= until
        {
            self.now = self.now.max(at);
            self.input(Input::Timeout);
            let next = self.engine.next_timeout();
            assert_ne!(next, Some((at, kind)), "a timer that fires must move");
        }
        self.now = until;
        self.turn();
    }

    pub(super) fn command(&mut self, command: Command) {
        self.input(Input::Command(command));
    }

    /// A client with a request in flight on a connected endpoint.
    pub(super) fn exchange(&mut self, request: &str) -> (ConnId, ConnId) {
        let down = self.client();
        self.receive(down, request.as_bytes());
        let up = self.connect();
        (down, up)
    }
}

/// What an event says was decided.
fn said(event: &Event) -> Option<Decision> {
    Some(match event {
        Event::Retry { decision, .. }
        | Event::Mirror { decision, .. }
        | Event::Placed { decision, .. }
        | Event::Decided { decision, .. } => *decision,
        Event::Refused { reason: Reason::FailureInjected, .. } => Decision::FailureInjected,
        Event::EndpointEjected { .. } => Decision::Ejected,
        Event::EjectionSpared { .. } => Decision::EjectionSpared,
        Event::EndpointReadmitted { .. } => Decision::Readmitted,
        Event::CheckPassed { .. } => Decision::Healthy,
        Event::CheckFailed { .. } => Decision::Unhealthy,
        Event::PanicEntered { .. } => Decision::Panic,
        _ => return None,
    })
}

/// Whatever a test is about: what was decided and counted was said, too, each time. (Of a panic it is
/// said when that begins.)
impl Drop for Rig {
    fn drop(&mut self) {
        if std::thread::panicking() {
            return;
        }
        let services = self.engine.snapshot().services;
        for &decision in Decision::ALL {
            let counted: u64 =
                services.iter().map(|service| service.stats.decisions.get(decision)).sum();
            let lines = self.events.iter().filter(|event| said(event) == Some(decision)).count();
            let least = if decision == Decision::Panic { counted.min(1) } else { counted };
            assert!(lines as u64 >= least, "{decision:?}: {counted}, and {lines} events");
        }
    }
}

pub(super) fn millis(n: u64) -> Duration {
    Duration::from_millis(n)
}
