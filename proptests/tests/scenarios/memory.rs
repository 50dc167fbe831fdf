//! The engine without sockets: links are queues, and time is a number.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use selvedge_core::config::Config;
use selvedge_core::engine::{Accepted, CloseKind, Command, ConnId, Engine, Event, Input, Output};
use selvedge_core::error::{ConnectError, IoError};
use selvedge_core::limits::Limits;
use selvedge_core::rng::Seed;
use selvedge_core::stats::Snapshot;
use selvedge_core::time::Time;

use crate::net::{APPS, Arrived, Net, Peer, Setup, config};

/// What a link holds on the way to a peer that does not read: about what a kernel does.
const WINDOW: usize = 256 * 1024;
/// Nothing takes longer, even in virtual time.
const PATIENCE: Duration = Duration::from_hours(3);

/// One connection.
struct Link {
    conn: ConnId,
    /// The proxy still has it.
    open: bool,
    to_proxy: VecDeque<u8>,
    /// Behind `to_proxy`.
    fin: bool,
    fin_seen: bool,
    /// The peer is gone altogether: what is sent to it is answered with a reset.
    gone: bool,
    to_peer: Vec<u8>,
    /// Behind `to_peer`.
    end: Option<Arrived>,
}

struct App {
    addr: SocketAddr,
    listens: bool,
    backlog: VecDeque<Peer>,
}

pub(crate) struct Memory {
    config: Arc<Config>,
    engine: Engine,
    now: Time,
    links: Vec<Link>,
    apps: Vec<App>,
    events: VecDeque<Event>,
    listening: bool,
    drained: bool,
}

impl Memory {
    pub(crate) fn start(setup: Setup) -> Self {
        let addr = |app| SocketAddr::from(([127, 0, 0, 1], 9001 + app as u16));
        let addrs: Vec<_> = (0..APPS).map(addr).collect();
        let config = Arc::new(config(&addrs, setup));
        let engine = Engine::new(Arc::clone(&config), Seed::from_number(7), Time::ZERO);
        let app = |addr| App { addr, listens: true, backlog: VecDeque::new() };
        let mut net = Memory {
            config,
            engine,
            now: Time::ZERO,
            links: Vec::new(),
            apps: addrs.into_iter().map(app).collect(),
            events: VecDeque::new(),
            listening: true,
            drained: false,
        };
        net.settle();
        net
    }

    fn add(&mut self, conn: ConnId) -> Peer {
        self.links.push(Link {
            conn,
            open: true,
            to_proxy: VecDeque::new(),
            fin: false,
            fin_seen: false,
            gone: false,
            to_peer: Vec::new(),
            end: None,
        });
        Peer(self.links.len() - 1)
    }

    fn input(&mut self, input: Input) {
        self.engine.handle_input(self.now, input);
        self.settle();
    }

    fn settle(&mut self) {
        loop {
            self.engine.end_turn(self.now);
            let mut quiet = true;
            while let Some(output) = self.engine.poll_output() {
                quiet = false;
                self.perform(output);
            }
            if quiet {
                return;
            }
        }
    }

    fn perform(&mut self, output: Output) {
        match output {
            Output::Flush(conn) => {
                if let Some(index) = self.find(conn) {
                    self.flush(index);
                }
            }
            Output::Connect { conn, addr } => {
                let app = self.apps.iter().position(|app| app.addr == addr && app.listens);
                let result = match app {
                    Some(app) => {
                        let peer = self.add(conn);
                        self.apps[app].backlog.push_back(peer);
                        Ok(([127, 0, 0, 1], 40_000).into())
                    }
                    None => Err(ConnectError::Refused),
                };
                self.engine.handle_input(self.now, Input::Connected { conn, result });
            }
            Output::Close { conn, how } => {
                let Some(index) = self.find(conn) else { return };
                let link = &mut self.links[index];
                link.open = how == CloseKind::Half;
                let end = if how == CloseKind::Abort { Arrived::Reset } else { Arrived::Fin };
                if end == Arrived::Reset || link.end.is_none() {
                    link.end = Some(end);
                }
            }
            Output::Event(event) => {
                self.listening &= event != Event::Draining;
                self.drained |= event == Event::Drained;
                self.events.push_back(event);
            }
            Output::ReadReady(_) | Output::Resolve { .. } | Output::Certify => {}
        }
    }

    fn find(&self, conn: ConnId) -> Option<usize> {
        self.links.iter().position(|link| link.conn == conn && link.open)
    }

    /// Moves what the window has room for. True if something moved.
    fn flush(&mut self, index: usize) -> bool {
        let mut moved = false;
        loop {
            let link = &mut self.links[index];
            let mut slices = [&[][..]; 8];
            let count = self.engine.write_bufs(link.conn, &mut slices);
            let room = WINDOW.saturating_sub(link.to_peer.len());
            let mut n = 0;
            for slice in &slices[..count] {
                let part = &slice[..slice.len().min(room - n)];
                if !link.gone {
                    link.to_peer.extend_from_slice(part);
                }
                n += part.len();
            }
            if n == 0 {
                return moved;
            }
            moved = true;
            let conn = link.conn;
            let gone = link.gone;
            self.engine.handle_input(self.now, Input::Wrote { conn, n });
            if gone {
                let kind = IoError::Reset;
                self.engine.handle_input(self.now, Input::Failed { conn, kind });
                return true;
            }
        }
    }

    /// Moves everything that can move without time passing.
    fn pump(&mut self) {
        let mut moved = true;
        while std::mem::replace(&mut moved, false) {
            for index in 0..self.links.len() {
                while self.links[index].open && self.deliver(index) {
                    self.settle();
                    moved = true;
                }
                if self.links[index].open && self.flush(index) {
                    self.settle();
                    moved = true;
                }
            }
        }
    }

    /// One read of the proxy's.
    fn deliver(&mut self, index: usize) -> bool {
        let link = &mut self.links[index];
        let conn = link.conn;
        if self.engine.read_budget(conn) == 0 {
            return false;
        }
        let n = link.to_proxy.len().min(Limits::READ_BLOCK);
        if n > 0 {
            let data: BytesMut = link.to_proxy.drain(..n).collect::<Vec<u8>>()[..].into();
            self.engine.handle_input(self.now, Input::Received { conn, data });
        } else if link.fin && !link.fin_seen {
            link.fin_seen = true;
            self.engine.handle_input(self.now, Input::ReadClosed { conn });
        } else {
            return false;
        }
        true
    }

    /// Goes on to the next deadline, but not past `until`.
    fn pass(&mut self, until: Time) {
        match self.engine.next_timeout() {
            Some((at, _)) if at <= until => {
                self.now = self.now.max(at);
                self.input(Input::Timeout);
            }
            _ => self.now = until,
        }
        self.pump();
    }

    /// Waits until `look` finds something.
    fn until<T>(&mut self, what: &str, mut look: impl FnMut(&mut Self) -> Option<T>) -> T {
        let patience = self.now + PATIENCE;
        loop {
            self.pump();
            if let Some(found) = look(self) {
                return found;
            }
            assert!(self.now < patience, "waited in vain for {what}");
            self.pass(patience);
        }
    }
}

impl Net for Memory {
    fn connect(&mut self, listener: usize) -> Peer {
        assert!(self.listening, "nobody listens");
        let addr = SocketAddr::from(([127, 0, 0, 1], 4140 + listener as u16));
        let peer = SocketAddr::from(([127, 0, 0, 1], 50_000 + self.links.len() as u16));
        let listener = listener as u16;
        let accepted = Accepted { listener, peer, local: addr, original_dst: None };
        let conn = self.engine.accept(self.now, accepted).expect("below the limit");
        let peer = self.add(conn);
        self.settle();
        peer
    }

    fn accept(&mut self, app: usize) -> Peer {
        self.until("a connection to the app", |net| net.apps[app].backlog.pop_front())
    }

    fn has_caller(&mut self, app: usize) -> bool {
        self.pump();
        !self.apps[app].backlog.is_empty()
    }

    fn refuse(&mut self, app: usize) {
        self.apps[app].listens = false;
    }

    fn send(&mut self, peer: Peer, bytes: &[u8]) {
        self.links[peer.0].to_proxy.extend(bytes);
        self.pump();
    }

    fn finish(&mut self, peer: Peer) {
        self.links[peer.0].fin = true;
        self.pump();
    }

    fn reset(&mut self, peer: Peer) {
        self.pump();
        let link = &mut self.links[peer.0];
        link.gone = true;
        if link.open {
            let conn = link.conn;
            self.input(Input::Failed { conn, kind: IoError::Reset });
            self.pump();
        }
    }

    fn close(&mut self, peer: Peer) {
        let link = &mut self.links[peer.0];
        link.fin = true;
        link.gone = true;
        self.pump();
    }

    fn receive(&mut self, peer: Peer) -> Arrived {
        self.until("something to read", |net| {
            let link = &mut net.links[peer.0];
            match &mut link.to_peer {
                bytes if !bytes.is_empty() => Some(Arrived::Bytes(std::mem::take(bytes))),
                _ => link.end.clone(),
            }
        })
    }

    fn wait(&mut self, time: Duration) {
        let until = self.now + time;
        while self.now < until {
            self.pass(until);
        }
    }

    fn command(&mut self, command: Command) {
        self.input(Input::Command(command));
        self.pump();
    }

    fn event(&mut self) -> Event {
        self.until("an event", |net| net.events.pop_front())
    }

    fn snapshot(&mut self) -> Option<Snapshot> {
        self.pump();
        if self.drained { None } else { Some(self.engine.snapshot()) }
    }

    fn addr(&self, app: usize) -> SocketAddr {
        self.apps[app].addr
    }

    fn config(&self) -> &Config {
        &self.config
    }
}
