//! An engine driven by hand: what an adapter does, without sockets and without a clock.

// Each program uses some of it.
#![allow(dead_code)]

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;

use bytes::BytesMut;
use selvedge_core::config::{Config, Endpoint, Listener, ListenerKind, Protocol, Service, Target};
use selvedge_core::engine::{Accepted, ConnId, Engine, Input, Output};
use selvedge_core::rng::Seed;
use selvedge_core::time::{Duration, Time};

use super::record::Through;

/// An engine, and the connections that it knows in the order in which it met them.
pub(crate) struct Hop {
    pub(crate) engine: Engine,
    pub(crate) now: Time,
    /// What every read goes into, as an adapter has it.
    block: BytesMut,
    pub(crate) conns: Vec<ConnId>,
    /// What it has written, in total …
    pub(crate) total: usize,
    /// … since that was last asked for, if anybody does …
    pub(crate) keeps: bool,
    pub(crate) sent: Vec<u8>,
    pub(crate) pieces: Vec<(ConnId, usize)>,
    /// … and to whom at last.
    pub(crate) last: Option<ConnId>,
    /// It is told when its timers are due.
    pub(crate) is_timed: bool,
}

/// One connection to the port of that number comes from the first client.
pub(crate) fn accepted(listener: u16) -> Accepted {
    Accepted {
        listener,
        peer: ([127, 0, 0, 1], 50_000).into(),
        local: ([127, 0, 0, 1], 4140).into(),
        original_dst: None,
    }
}

/// The port that apps connect to, and these services.
pub(crate) fn outbound(services: Vec<Service>) -> Config {
    let listener = Listener { addr: ([127, 0, 0, 1], 4140).into(), kind: ListenerKind::Outbound };
    Config { listeners: vec![listener], services, ..Config::default() }
}

/// One with so many endpoints.
pub(crate) fn service(name: &str, protocol: Protocol, endpoints: usize) -> Service {
    let address = |n: usize| SocketAddr::from(([10, 1, (n >> 8) as u8, n as u8], 80));
    let endpoints = (0..endpoints).map(|n| Endpoint::new(Target::Addr(address(n)))).collect();
    Service { name: name.into(), endpoints, protocol, ..Service::default() }
}

impl Hop {
    pub(crate) fn new(config: Config) -> Hop {
        Hop {
            engine: Engine::new(Arc::new(config), Seed::from_number(1), Time::ZERO),
            now: Time::ZERO,
            block: BytesMut::new(),
            conns: Vec::new(),
            total: 0,
            keeps: false,
            sent: Vec::new(),
            pieces: Vec::new(),
            last: None,
            is_timed: false,
        }
    }

    /// A client connects.
    pub(crate) fn accept(&mut self, listener: u16) -> ConnId {
        let conn = self.engine.accept(self.now, accepted(listener)).expect("room");
        self.conns.push(conn);
        self.turn();
        conn
    }

    /// One read, and everything that follows from it.
    pub(crate) fn read(&mut self, conn: ConnId, bytes: &[u8]) {
        self.now += Duration::from_micros(20);
        self.block.reserve(32 * 1024);
        self.block.extend_from_slice(bytes);
        let data = self.block.split();
        self.engine.handle_input(self.now, Input::Received { conn, data });
        self.turn();
        while self.is_timed && self.engine.next_timeout().is_some_and(|(at, _)| at <= self.now) {
            self.engine.handle_input(self.now, Input::Timeout);
            self.turn();
        }
    }

    /// Says something, and does what follows.
    pub(crate) fn input(&mut self, input: Input) {
        self.engine.handle_input(self.now, input);
        self.turn();
    }

    fn turn(&mut self) {
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
                Output::ReadReady(_) | Output::Event(_) | Output::Certify => {}
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
            (self.total, self.last) = (self.total + n, Some(conn));
            if self.keeps {
                io[..slices].iter().for_each(|slice| self.sent.extend_from_slice(slice));
                self.pieces.push((conn, n));
            }
            self.engine.handle_input(self.now, Input::Wrote { conn, n });
            self.engine.end_turn(self.now);
        }
    }
}

impl Through for Hop {
    fn now(&self) -> Time {
        self.now
    }

    fn connections(&self) -> usize {
        self.conns.len()
    }

    fn read(&mut self, at: usize, bytes: &[u8]) {
        Hop::read(self, self.conns[at], bytes);
    }

    fn wrote(&mut self) -> BTreeMap<usize, Vec<u8>> {
        let (mut by_connection, mut rest) = (BTreeMap::<usize, Vec<u8>>::new(), &self.sent[..]);
        for (conn, n) in self.pieces.drain(..) {
            let at = self.conns.iter().position(|&known| known == conn).expect("known");
            let (piece, after) = rest.split_at(n);
            by_connection.entry(at).or_default().extend_from_slice(piece);
            rest = after;
        }
        self.sent.clear();
        by_connection
    }

    fn total(&self) -> usize {
        self.total
    }
}
