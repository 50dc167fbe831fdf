//! What comes in: connections, bytes, ends.

use alloc::sync::Arc;

use bytes::BytesMut;

use super::conn::{Conn, Detect, Fin, State};
use super::contract::{Accepted, CloseKind, Command, ConnId, Direction, Event, Input};
use super::exchange::{Kind, Traits};
use super::relay::Side;
use super::{Drain, Engine};
use crate::config::ListenerKind;
use crate::error::{IoError, Reason};
use crate::http2::{Connection, ErrorCode};
use crate::policy::check::CheckFailure;
use crate::stats::TcpStats;
use crate::time::Time;
use crate::tls::Failure;

impl Engine {
    /// A connection came in. `None`: there are too many; close it.
    pub fn accept(&mut self, now: Time, accepted: Accepted) -> Option<ConnId> {
        self.now = self.now.max(now);
        let kind = self.listeners.get(usize::from(accepted.listener))?.kind.clone();
        let direction = match kind {
            ListenerKind::Inbound => Direction::Inbound,
            ListenerKind::Outbound | ListenerKind::Forward(_) => Direction::Outbound,
        };
        // The rest is for endpoints: a full house that can ask nobody serves nobody.
        let limit = self.config.limits.connections;
        if self.conns.len() >= limit || self.accepted >= limit - limit / 4 {
            self.direction(direction).refused[Reason::ConnectionLimit as usize] += 1;
            return None;
        }
        let original_dst = accepted.original_dst.filter(|&dst| dst != accepted.local);
        let detect = Detect::new(self.now, Some(accepted.local.ip()));
        let mut conn = Conn::new(direction, State::Detect(detect), accepted.peer, self.now);
        conn.original_dst = original_dst;
        let id = self.conns.insert(conn);
        self.accepted += 1;
        self.direction(direction).accepted.opens += 1;
        let skips_detection = original_dst.is_some_and(|dst| {
            self.opaque_ports.binary_search(&dst.port()).is_ok() || self.mesh.opaque.contains(&dst)
        });
        match kind {
            ListenerKind::Forward(name) => self.begin_forward(id, &name),
            _ if skips_detection => {
                self.direction(direction).detect.skipped += 1;
                self.begin_opaque(id.index);
            }
            _ => self.timers.conns.set(id.index, self.now + self.config.timeouts.detect),
        }
        Some(id)
    }

    /// Everything else that happens to the proxy. Never fails: what a peer does wrong changes what
    /// the engine does, and is counted.
    ///
    /// The work is done in [`Engine::end_turn`].
    pub fn handle_input(&mut self, now: Time, input: Input) {
        self.now = self.now.max(now);
        match input {
            Input::Received { conn, data } => self.received(conn, data),
            Input::Spliced { conn, n } => self.spliced(conn, n),
            Input::Unspliced { conn, data } => self.unspliced(conn, data),
            Input::Wrote { conn, n } => self.wrote(conn, n),
            Input::ReadClosed { conn } => self.read_closed(conn),
            Input::Failed { conn, kind } => self.failed(conn, kind),
            Input::Connected { conn, result: Ok(_) } => self.connected(conn),
            Input::Connected { conn, result: Err(error) } => self.connect_failed(conn, error),
            Input::Resolved { query, result } => self.resolved(query, result),
            Input::Identity(result) => self.identity_arrived(result),
            Input::WallClock(wall) => self.wall_clock(wall),
            Input::Command(Command::Reload(config)) => self.reload(&config),
            Input::Command(Command::Drain) => self.begin_drain(),
            Input::Timeout => self.fire_timeouts(),
        }
    }

    fn received(&mut self, id: ConnId, data: BytesMut) {
        if data.is_empty() {
            return;
        }
        let Some(conn) = self.conns.find_mut(id) else { return };
        conn.last = self.now;
        let n = data.len();
        if conn.tls.is_some() {
            let (direction, endpoint) = (conn.direction, conn.endpoint);
            self.count_tcp(direction, endpoint, |tcp| tcp.read_bytes += n as u64);
            return self.received_sealed(id, data);
        }
        if conn.rx.is_empty() {
            conn.rx = data;
            conn.flags.rx_owned = false;
        } else {
            // What was left over is memory of its own since the end of its turn: it grows in place.
            conn.rx.extend_from_slice(&data);
        }
        conn.touch(id.index, &mut self.ready);
        let (direction, endpoint) = (conn.direction, conn.endpoint);
        self.count_tcp(direction, endpoint, |tcp| tcp.read_bytes += n as u64);
    }

    fn wrote(&mut self, id: ConnId, n: usize) {
        if n == 0 {
            return;
        }
        let Some(conn) = self.conns.find_mut(id) else { return };
        conn.last = self.now;
        let of_pipe = n.min(conn.spliced as usize);
        conn.spliced -= of_pipe as u32;
        let queue = conn.outgoing_mut();
        queue.wrote(n - of_pipe);
        // Most writes take everything, and an idle connection holds no buffer.
        queue.vacate(&mut self.spare);
        let low = conn.unsent() <= self.config.limits.stream_buffer / 2;
        if conn.tls.is_some() || !conn.tx.is_retaining() {
            let freed = n.min(conn.charged);
            conn.charged -= freed;
            self.buffered -= if canary!(LeakedCredit) { 0 } else { freed };
        }
        if let State::Tunnel(tunnel) = &mut conn.state
            && tunnel.pins_bulk
        {
            // What is left of a large read may now be a small part of it.
            tunnel.pins_bulk = conn.tx.unsent() > 0;
            if tunnel.pins_bulk {
                self.unsettled.push(id);
            }
        }
        let (direction, endpoint) = (conn.direction, conn.endpoint);
        let retains = conn.tx.is_retaining();
        if conn.tls.is_some() && conn.tx.unsent() > 0 {
            // There is more to seal.
            self.touch(id.index);
        }
        self.count_tcp(direction, endpoint, |tcp| tcp.write_bytes += n as u64);
        if retains {
            self.retained_was_written(id.index);
        }
        if low && !canary!(LostResume) {
            self.resume(id.index);
        }
    }

    /// Counts bytes or ends for the right side of a connection.
    pub(super) fn count_tcp(
        &mut self,
        direction: Direction,
        endpoint: Option<u32>,
        count: impl Fn(&mut TcpStats),
    ) {
        match endpoint {
            None => count(&mut self.direction(direction).accepted),
            Some(endpoint) => {
                if let Some((service, endpoint)) = self.mesh.service_of(endpoint) {
                    count(&mut service.stats.tcp);
                    count(&mut endpoint.stats.tcp);
                }
            }
        }
    }

    /// There is room in a connection's queue: wakes what waits for that.
    pub(super) fn resume(&mut self, index: u32) {
        let Some(conn) = self.conns.get(index) else { return };
        let ends = matches!(conn.state, State::Closing) || conn.flags.fin == Fin::Wanted;
        let queued = conn.http2().is_some_and(Connection::wants_to_send);
        let wakes_itself = ends || conn.flags.paused || !conn.rx.is_empty() || queued;
        let exchange = conn.exchange();
        let is_down = conn.endpoint.is_none();
        let tunnel = match &conn.state {
            State::Tunnel(tunnel) => Some(tunnel.peer),
            _ => None,
        };
        if wakes_itself {
            self.touch(index);
        }
        if let Some(peer) = tunnel {
            if let Some(other) = self.conns.find(peer)
                && (other.flags.paused || other.flags.eof || !other.rx.is_empty())
            {
                self.touch(peer.index);
            }
        } else if let Some(id) = exchange {
            self.made_room(id, if is_down { Side::Up } else { Side::Down });
        }
    }

    fn read_closed(&mut self, id: ConnId) {
        if let Some(conn) = self.conns.find_mut(id) {
            conn.flags.eof = true;
            if conn.tls.is_some() {
                self.sealed_eof(id);
            }
            if !canary!(LostWakeup) {
                self.touch(id.index);
            }
        }
    }

    pub(super) fn failed(&mut self, id: ConnId, kind: IoError) {
        let Some(conn) = self.conns.find(id) else { return };
        if conn.flags.queued && !conn.rx.is_empty() {
            // What came before the failure counts: an early answer, for one.
            self.drive(id.index);
        }
        self.catch_up(id.index);
        let Some(conn) = self.conns.find(id) else { return };
        let reason = match kind {
            IoError::Reset => Reason::UpstreamReset,
            IoError::TimedOut | IoError::Other => Reason::UpstreamClosed,
        };
        match conn.state {
            // A reset on one side is a reset on the other.
            State::Tunnel(tunnel) => self.abort_tunnel(tunnel.exchange, None),
            State::Client(_) => self.client_lost(id.index, reason),
            State::Http2(_) => self.http2_lost(id.index, reason),
            State::Bridge(exchange) => {
                let side = if conn.endpoint.is_none() { Side::Down } else { Side::Up };
                self.break_bridge(exchange, side, ErrorCode::CONNECT_ERROR);
            }
            // The adapter says `Connected` before anything else; if not, the connect failed.
            State::Connecting(waiting) => {
                let sealed = conn.tls.is_some();
                if sealed {
                    self.count_tls_failure(id.index, Failure::Reset.into());
                }
                let reason = if sealed { Reason::HandshakeFailed } else { Reason::ConnectFailed };
                self.give_up_connect(id.index, waiting, reason);
            }
            State::Handshake => {
                self.count_tls_failure(id.index, Failure::Reset.into());
                self.end_conn(id.index, CloseKind::Abort);
            }
            State::Check(_) => {
                self.answered(id.index, Err(CheckFailure::NoAnswer));
                // What it had to say cannot be said any more.
                self.end_conn(id.index, CloseKind::Abort);
            }
            _ => self.server_lost(id.index),
        }
    }

    fn begin_drain(&mut self) {
        if self.is_draining() {
            return;
        }
        self.drain = Drain::Until(self.now + self.config.timeouts.grace);
        self.emit(Event::Draining);
        let all: alloc::vec::Vec<u32> = self.conns.indices().collect();
        for index in all {
            self.touch(index);
        }
        self.check_drained();
    }

    /// Says once that a drain is complete.
    pub(super) fn check_drained(&mut self) {
        if matches!(self.drain, Drain::Until(_)) && self.accepted == 0 {
            self.drain = Drain::Done;
            self.emit(Event::Drained);
        }
    }

    /// A connection to an opaque forward.
    fn begin_forward(&mut self, id: ConnId, name: &Arc<str>) {
        match self.mesh.by_name.get(&**name) {
            Some(&service) => self.begin_tunnel(id.index, service, None),
            None => self.close_unserved(id.index, Reason::OpaqueNowhere),
        }
    }

    /// Makes the exchange of a tunnel and looks for its far end. `request`: the CONNECT that asks
    /// for it.
    pub(super) fn begin_tunnel(&mut self, index: u32, service: u32, request: Option<&Traits>) {
        let Some(id) = self.conns.id(index) else { return };
        let traits = *request.unwrap_or(&Traits::OPAQUE);
        let kind = Kind::Tunnel { answer: request.is_some() };
        let exchange = match (self.begin_exchange(kind, id, service, traits, None), request) {
            (Ok(exchange), _) => exchange,
            (Err(reason), request) => {
                self.collect_service(service);
                return match request {
                    Some(traits) => self.answer_unserved(index, reason, traits),
                    None => self.close_unserved(index, reason),
                };
            }
        };
        if let Some(conn) = self.conns.get_mut(index) {
            conn.state = State::Waiting(exchange);
            self.timers.conns.clear(index);
        }
        let key = self.endpoint_key(index, service, None, None);
        self.set_key(exchange, key);
        self.dispatch(exchange);
        self.touch(index);
    }
}
