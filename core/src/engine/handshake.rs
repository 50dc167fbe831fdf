//! TLS handshakes: how they begin and end on either side, and how many there may be at once.

use alloc::boxed::Box;
use alloc::sync::Arc;
use core::net::{IpAddr, SocketAddr};

use bytes::{Buf, BytesMut};

use super::Engine;
use super::conn::{Detect, Server, State};
use super::contract::{CloseKind, ConnId, Direction, Event, Output};
use super::tls::{Tls, whole_records};
use crate::config::Meshed;
use crate::error::Reason;
use crate::time::{Duration, Time};
use crate::tls::transport_header::{self, SessionProtocol};
use crate::tls::{Expected, Failure, Problem, Side, TransportHeader};

/// Handshakes that are gone on with at one reading of the clock: a signature takes as long as a
/// dozen requests, and whoever has a session must not wait for those that want one.
const AT_ONCE: u32 = 4;

/// Between two batches of those that wait.
const PAUSE: Duration = Duration::from_millis(1);

/// Handshakes in progress.
#[derive(Debug, Default)]
pub(super) struct Handshakes {
    /// That clients have begun.
    pub(super) clients: usize,
    /// Those that wait for their turn. Some may be gone.
    waiting: alloc::collections::VecDeque<ConnId>,
    /// When the first of them have it.
    due: Time,
    /// How many were gone on with at this time.
    done: (Time, u32),
}

impl Handshakes {
    /// When the next ones have their turn.
    pub(super) fn due(&self) -> Option<Time> {
        (!self.waiting.is_empty()).then_some(self.due)
    }

    /// Puts one behind the others.
    fn wait(&mut self, id: ConnId, now: Time) {
        if self.waiting.is_empty() {
            self.due = now + PAUSE;
        }
        self.waiting.push_back(id);
    }

    /// May one be gone on with now?
    fn take(&mut self, now: Time) -> bool {
        if self.done.0 != now {
            self.done = (now, 0);
        }
        self.done.1 += 1;
        self.done.1 <= AT_ONCE
    }
}

impl Engine {
    // ---- With clients ----

    /// A client asked for us by our server name: the session ends here.
    pub(super) fn begin_tls(&mut self, index: u32, local: Option<IpAddr>) {
        let name = self.config.identity.as_ref().map(|own| Arc::clone(&own.server_name));
        let name = name.unwrap_or_default();
        let full = self.handshakes.clients >= self.config.limits.handshakes;
        let session = match self.provider() {
            _ if full => Err(Failure::Limit.into()),
            None => Err(Failure::NotCertified.into()),
            Some((provider, wall)) => provider.server(wall),
        };
        let Some(conn) = self.conns.get_mut(index) else { return };
        match session {
            Ok(session) => {
                let mut tls = Tls::new(session, Side::Server, name, self.now);
                tls.waiting = core::mem::take(&mut conn.rx);
                tls.local = local;
                conn.tls = Some(Box::new(tls));
                conn.state = State::Handshake;
                self.handshakes.clients += 1;
                self.timers.conns.set(index, self.now + self.config.timeouts.handshake);
                self.drive_handshake(index);
            }
            Err(problem) => {
                self.tls_failed(index, Side::Server, name, problem);
                self.end_conn(index, CloseKind::Abort);
            }
        }
    }

    /// The first bytes of a session that was agreed to begin with a transport header.
    pub(super) fn drive_header(&mut self, index: u32) {
        let app = self.config.app;
        let Some(conn) = self.conns.get_mut(index) else { return };
        let (State::Header, Some(tls)) = (&conn.state, &conn.tls) else { return };
        let (n, port, session) = match TransportHeader::decode(&conn.rx) {
            Ok(Some((n, header))) if header.name.is_none() => {
                (n, header.port.get(), header.session)
            }
            Ok(None) if !conn.flags.eof => return,
            // A gateway is what we are not.
            Ok(_) | Err(_) => return self.close_unserved(index, Reason::TransportHeader),
        };
        let ours = tls.local.map(|ip| SocketAddr::new(ip, port));
        conn.rx.advance(n);
        // The app may listen on loopback only.
        conn.original_dst = app.filter(|app| app.port() == port).or(ours);
        let direction = conn.direction;
        self.direction(direction).detect.skipped += 1;
        let Some(conn) = self.conns.get_mut(index) else { return };
        match session {
            None => self.begin_opaque(index),
            Some(SessionProtocol::Http1) => {
                conn.state = State::Server(Server::default());
                self.timers.conns.set(index, self.now + self.config.timeouts.keep_alive);
                self.drive_server(index);
            }
            Some(SessionProtocol::Http2) => self.begin_http2(index),
        }
    }

    // ---- With endpoints ----

    /// A connection to an endpoint that is a mesh proxy was made: the handshake is part of the
    /// connect.
    pub(super) fn begin_tls_client(&mut self, index: u32, mesh: &Meshed) {
        let protocols: &[&[u8]] =
            if mesh.port.is_some() { &[transport_header::PROTOCOL] } else { &[] };
        let expected =
            Expected { identity: &mesh.identity, server_name: &mesh.server_name, protocols };
        let session = match self.provider() {
            None => Err(Failure::NotCertified.into()),
            Some((provider, wall)) => provider.client(wall, &expected),
        };
        let name: Arc<str> = mesh.identity.as_str().into();
        let Some(conn) = self.conns.get_mut(index) else { return };
        match session {
            Ok(session) => {
                let mut tls = Tls::new(session, Side::Client, name, self.now);
                tls.header = mesh.port;
                conn.tls = Some(Box::new(tls));
                if !conn.flags.check {
                    // A check has a time for everything.
                    self.timers.conns.set(index, self.now + self.config.timeouts.handshake);
                }
                self.drive_handshake(index);
                self.touch(index);
            }
            Err(problem) => {
                let failure = problem.failure;
                self.tls_failed(index, Side::Client, name, problem);
                self.give_up_handshake(index, failure);
            }
        }
    }

    /// Tells the proxy at the other end what a connection is for, before anything else, if that was
    /// agreed on.
    #[inline]
    pub(super) fn put_transport_header(&mut self, index: u32, session: Option<SessionProtocol>) {
        if self.conns.get(index).is_some_and(|conn| conn.tls.is_some()) {
            self.seal_transport_header(index, session);
        }
    }

    fn seal_transport_header(&mut self, index: u32, session: Option<SessionProtocol>) {
        let Some(tls) = self.conns.get_mut(index).and_then(|conn| conn.tls.as_mut()) else {
            return;
        };
        let port = tls.header.take().and_then(core::num::NonZeroU16::new);
        let agreed = tls.peer().is_some_and(|peer| peer.is_transport());
        if let (Some(port), true) = (port, agreed) {
            let header = TransportHeader { port, name: None, session };
            self.seal_first(index, |out| header.encode(out));
        }
    }

    // ---- Both ----

    /// Goes on with a handshake as far as what came allows, if it is its turn.
    pub(super) fn drive_handshake(&mut self, index: u32) {
        let now = self.now;
        let Some(id) = self.conns.id(index) else { return };
        let Some(conn) = self.conns.get_mut(index) else { return };
        let Some(tls) = &mut conn.tls else { return };
        if tls.is_established() || tls.progress.failed {
            return;
        }
        let n = whole_records(&tls.waiting);
        let first = tls.side == Side::Client && !tls.progress.begun;
        if n == 0 && !first {
            if conn.flags.eof {
                return self.handshake_failed(index, Failure::Truncated.into());
            }
            // A part of a record must not keep a read buffer.
            if !tls.waiting.is_empty() {
                tls.waiting = BytesMut::from(&tls.waiting[..]);
            }
            return;
        }
        if tls.progress.deferred {
            return;
        }
        if !first && !self.handshakes.take(now) {
            tls.progress.deferred = true;
            tls.waiting = BytesMut::from(&tls.waiting[..]);
            self.handshakes.wait(id, now);
            return;
        }
        self.go_on(id, n);
    }

    /// Those that waited have their turn.
    pub(super) fn serve_handshakes(&mut self) {
        if self.handshakes.due().is_none_or(|due| due > self.now) {
            return;
        }
        self.handshakes.done = (self.now, 0);
        self.handshakes.due = self.now + PAUSE;
        for _ in 0..AT_ONCE {
            let Some(id) = self.handshakes.waiting.pop_front() else { return };
            let Some(conn) = self.conns.get_mut(id.index) else { continue };
            if conn.generation == id.generation
                && let Some(tls) = &mut conn.tls
            {
                tls.progress.deferred = false;
                self.drive_handshake(id.index);
                self.touch_id(id);
            }
        }
    }

    /// Shows the session `n` bytes.
    fn go_on(&mut self, id: ConnId, n: usize) {
        let Some(conn) = self.conns.get_mut(id.index) else { return };
        let Some(tls) = &mut conn.tls else { return };
        tls.progress.begun = true;
        let data = tls.waiting.split_to(n);
        let (session, rx) = (&mut tls.session, &mut conn.rx);
        conn.flags.rx_owned = true;
        let opened = tls.out.append(|out| session.open(data, rx, out));
        conn.flags.dirty |= tls.out.unsent() > 0;
        conn.flags.eof |= tls.session.is_closed();
        let established = tls.is_established();
        match opened {
            // A peer that is done with the handshake may have failed right behind it.
            Err(problem) => self.handshake_failed(id.index, problem),
            Ok(()) if established => self.handshake_done(id.index),
            Ok(()) => self.drive_handshake(id.index),
        }
    }

    /// The peer is who it is.
    fn handshake_done(&mut self, index: u32) {
        let now = self.now;
        let Some(id) = self.conns.id(index) else { return };
        let Some(conn) = self.conns.get_mut(index) else { return };
        let Some(tls) = &mut conn.tls else { return };
        let stats = &mut self.directions[conn.direction as usize].tls;
        stats.handshakes += 1;
        stats.duration.record(now - tls.since);
        if let Some(session) = tls.peer() {
            stats.authenticated += u64::from(session.identity.is_some());
            let (direction, peer) = (conn.direction, conn.peer);
            let event =
                Event::TlsEstablished { conn: id, direction, peer, session: session.clone() };
            self.outputs.push_back(Output::Event(event));
        }
        // What is there of the first record behind it.
        let rest = core::mem::take(&mut tls.waiting);
        let (side, transport) = (tls.side, tls.peer().is_some_and(|peer| peer.is_transport()));
        if side == Side::Server {
            self.handshakes.clients -= 1;
            if transport {
                conn.state = State::Header;
                self.timers.conns.set(index, now + self.config.timeouts.handshake);
            } else {
                conn.state = State::Detect(Detect::new(now, None));
                self.timers.conns.set(index, now + self.config.timeouts.detect);
            }
        }
        if !rest.is_empty() {
            self.received_sealed(id, rest);
        }
        if self.conns.find(id).is_none() {
            return;
        }
        if side == Side::Client {
            self.established(id);
        } else {
            self.drive(index);
        }
    }

    /// There will be no session.
    pub(super) fn handshake_failed(&mut self, index: u32, problem: Problem) {
        let Some(conn) = self.conns.get_mut(index) else { return };
        let Some(tls) = &mut conn.tls else { return };
        tls.progress.failed = true;
        tls.waiting = BytesMut::new();
        conn.rx = BytesMut::new();
        let (side, failure, eof) = (tls.side, problem.failure, conn.flags.eof);
        self.count_tls_failure(index, problem);
        match side {
            Side::Client => self.give_up_handshake(index, failure),
            Side::Server if eof || failure == Failure::Timeout => {
                self.end_conn(index, CloseKind::Abort);
            }
            Side::Server => {
                self.forget_handshake(index);
                // It gets to read the alert.
                self.linger(index);
            }
        }
    }

    /// A client's handshake is over, one way or the other.
    pub(super) fn forget_handshake(&mut self, index: u32) {
        if let Some(conn) = self.conns.get(index)
            && let State::Handshake = conn.state
        {
            self.handshakes.clients -= 1;
        }
    }

    /// The handshake with an endpoint failed: the connect has. It may get to read why.
    fn give_up_handshake(&mut self, index: u32, failure: Failure) {
        let Some(conn) = self.conns.get(index) else { return };
        let (State::Connecting(waiting), Some(endpoint)) = (&conn.state, conn.endpoint) else {
            return;
        };
        let (waiting, http2) = (*waiting, conn.flags.http2);
        let check = conn.flags.check.then(|| self.conns.id(index)).flatten();
        let (reason, ours) = match failure {
            Failure::NotCertified => (Reason::NotCertified, true),
            Failure::Timeout => (Reason::ConnectTimeout, false),
            _ => (Reason::HandshakeFailed, false),
        };
        self.count_tcp(Direction::Outbound, Some(endpoint), |tcp| tcp.opens += 1);
        if check.is_some() && failure == Failure::Timeout {
            self.end_conn(index, CloseKind::Abort);
        } else {
            self.close_when_flushed(index);
        }
        if let Some(check) = check {
            return self.check_unconnected(endpoint, check, reason, ours);
        }
        self.after_failed_connect(waiting, endpoint, reason, ours);
        if http2 {
            self.http2_unconnected(endpoint, index, reason, ours);
        }
    }
}
