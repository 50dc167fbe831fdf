//! Byte tunnels: opaque TCP, CONNECT, and what follows a 101.

use bytes::BytesMut;

use super::Engine;
use super::conn::{Fin, State, Tunnel};
#[cfg(doc)]
use super::contract::Input;
use super::contract::{CloseKind, ConnId, Event};
use super::exchange::{Exchange, ExchangeId, Kind};
use crate::config::Timeouts;
use crate::error::Reason;
use crate::time::{Duration, Time};

impl Engine {
    /// Whether a read of [`BULK_BLOCK`](crate::limits::Limits::BULK_BLOCK) pays on this connection: on a
    /// tunnel whose bytes come fast and leave at once, while the worker holds little. An adapter need
    /// not ask.
    pub fn reads_bulk(&self, conn: ConnId) -> bool {
        let Some(found) = self.conns.find(conn) else { return false };
        let State::Tunnel(tunnel) = &found.state else { return false };
        let sink = self.conns.find(tunnel.peer);
        tunnel.is_bulk()
            && sink.is_some_and(|sink| sink.unsent() == 0 || canary!(OvertakingPipe))
            && (self.buffered <= self.config.limits.buffer_bytes / 4 || canary!(CrowdedPipe))
    }

    /// Whom an adapter may write what it reads on this connection to without seeing it: a pipe and
    /// `splice(2)` save the copies. The other end of a tunnel in the clear, while large reads
    /// [pay](Engine::reads_bulk) and nothing waits at either end. Holds until the next input of either;
    /// say what was read with [`Input::Spliced`]. An adapter need not ask.
    pub fn splices_to(&self, conn: ConnId) -> Option<ConnId> {
        let found = self.conns.find(conn).filter(|_| self.reads_bulk(conn))?;
        let State::Tunnel(tunnel) = &found.state else { return None };
        let sink = self.conns.find(tunnel.peer)?;
        let plain = found.tls.is_none() && sink.tls.is_none();
        let between = found.rx.is_empty() && !found.flags.paused && !found.flags.eof;
        (plain && between && sink.flags.fin == Fin::Open).then_some(tunnel.peer)
    }

    /// Whether there may be urgent data (RFC 9293 §3.8.5) among what comes on this connection: where it
    /// is, or may yet be, passed on as it is. A read ends before urgent data, though more is there. An
    /// adapter that takes a short read for all there is should look once more, if not at once.
    pub fn may_be_urgent(&self, conn: ConnId) -> bool {
        self.conns.find(conn).is_some_and(|found| {
            found.tls.is_none()
                && matches!(
                    found.state,
                    State::Detect(_) | State::Waiting(_) | State::Tunnel(_) | State::Bridge(_)
                )
        })
    }

    /// Bytes of one end are in a pipe to the other.
    pub(super) fn spliced(&mut self, id: ConnId, n: usize) {
        let Some(State::Tunnel(tunnel)) = self.conns.find(id).map(|conn| &conn.state) else {
            return;
        };
        let tunnel = *tunnel;
        if n == 0 {
            return;
        }
        if self.splices_to(id).is_none() {
            return self.abort_tunnel(tunnel.exchange, None);
        }
        let Some((conn, sink)) = self.conns.pair(id.index, tunnel.peer.index) else { return };
        conn.last = self.now;
        if let State::Tunnel(from) = &mut conn.state {
            from.received(n, true);
        }
        sink.spliced = n as u32;
        let counted = if canary!(UncountedPipe) { 0 } else { n };
        sink.charged += counted;
        self.buffered += counted;
        sink.flags.dirty = true;
        sink.touch(tunnel.peer.index, &mut self.ready);
        conn.touch(id.index, &mut self.ready);
        let (direction, endpoint) = (conn.direction, conn.endpoint);
        self.count_tcp(direction, endpoint, |tcp| {
            tcp.read_bytes += n as u64;
            tcp.spliced_bytes += (n as u64) << u32::from(canary!(MiscountedPipe));
        });
    }

    /// Bytes that were in a pipe to a connection are here instead.
    pub(super) fn unspliced(&mut self, id: ConnId, data: BytesMut) {
        let low = self.config.limits.stream_buffer / 2;
        let Some(conn) = self.conns.find_mut(id) else { return };
        let State::Tunnel(tunnel) = &mut conn.state else { return };
        if data.len() != conn.spliced as usize {
            let exchange = tunnel.exchange;
            return self.abort_tunnel(exchange, None);
        }
        if data.is_empty() {
            return;
        }
        tunnel.pins_bulk = true;
        conn.spliced = 0;
        if canary!(UnsplicedLast) {
            conn.tx.append(|out| out.extend_from_slice(&data));
        } else {
            conn.tx.put_first(data.freeze());
        }
        conn.flags.dirty = true;
        conn.touch(id.index, &mut self.ready);
        if conn.unsent() <= low {
            self.resume(id.index);
        }
    }

    /// Joins the two connections of an exchange.
    pub(super) fn open_tunnel(&mut self, id: ExchangeId) {
        if self.exchanges.get(id).is_some_and(Exchange::has_stream) {
            return self.open_bridge(id);
        }
        let now = self.now;
        // The endpoint did its part; how long the tunnel lives says nothing about its speed.
        self.sample(id);
        self.timers.exchanges.clear(id.index);
        let Some(exchange) = self.exchanges.get_mut(id) else { return };
        let (down, Some(up)) = (exchange.down, exchange.up) else { return };
        exchange.progress.tunnelled = true;
        let answer = exchange.kind == Kind::Tunnel { answer: true };
        if self.conns.find(down).is_none() || self.conns.find(up).is_none() {
            return self.abort_tunnel(id, None);
        }
        let Some((near, far)) = self.conns.pair(down.index, up.index) else { return };
        near.state = State::Tunnel(Tunnel::new(up, id));
        far.state = State::Tunnel(Tunnel::new(down, id));
        near.last = now;
        far.last = now;
        if answer {
            near.tx.append(|out| out.extend_from_slice(b"HTTP/1.1 200 OK\r\n\r\n"));
            near.flags.dirty = true;
        }
        // One timer for both ends, on the client's.
        self.timers.conns.clear(up.index);
        let tcp_idle = self.tcp_idle(self.exchanges.get(id));
        self.timers.conns.set(down.index, now + tcp_idle);
        self.touch(down.index);
        self.touch(up.index);
    }

    /// Moves what one end received to the other.
    pub(super) fn drive_tunnel(&mut self, index: u32) {
        let room = self.config.limits.stream_buffer;
        let Some(conn) = self.conns.get(index) else { return };
        let State::Tunnel(tunnel) = conn.state else { return };
        if self.conns.find(tunnel.peer).is_none() {
            return self.abort_tunnel(tunnel.exchange, None);
        }
        if conn.flags.truncated && conn.rx.is_empty() {
            self.count_truncation(index);
            return self.abort_tunnel(tunnel.exchange, Some(Reason::TlsTruncated));
        }
        let Some((conn, peer)) = self.conns.pair(index, tunnel.peer.index) else { return };
        let mut moved = false;
        if !conn.rx.is_empty() && peer.tx.unsent() < room {
            let n = conn.rx.len();
            if let (State::Tunnel(from), State::Tunnel(to)) = (&mut conn.state, &mut peer.state) {
                to.pins_bulk |= from.is_bulk();
                // What is sealed or opened goes record by record.
                let plain = conn.tls.is_none() && peer.tls.is_none();
                from.received(n, plain && peer.tx.unsent() + peer.spliced as usize == 0);
            }
            peer.tx.take(&mut conn.rx, n);
            peer.flags.dirty = true;
            moved = true;
        }
        if conn.flags.truncated && conn.rx.is_empty() {
            // The other end gets what came, and then learns that there was more.
            self.touch(index);
        } else if conn.flags.eof && conn.rx.is_empty() && peer.flags.fin == Fin::Open {
            peer.flags.fin = Fin::Wanted;
            moved = true;
            // From now on the shorter limit applies.
            let down = if conn.endpoint.is_none() { index } else { tunnel.peer.index };
            self.timers.conns.set(down, self.now + self.half_open_limit());
        }
        if moved {
            self.touch(tunnel.peer.index);
        }
        self.check_tunnel_over(index);
    }

    /// Both directions are closed: so is the tunnel.
    pub(super) fn check_tunnel_over(&mut self, index: u32) {
        let Some(conn) = self.conns.get(index) else { return };
        let State::Tunnel(tunnel) = conn.state else { return };
        let Some(peer) = self.conns.find(tunnel.peer) else { return };
        let closed = |conn: &super::conn::Conn| {
            conn.flags.eof && conn.rx.is_empty() && conn.flags.fin == Fin::Sent
        };
        if closed(conn) && closed(peer) {
            self.end_tunnel(tunnel.exchange, CloseKind::Full);
        }
    }

    /// Resets both ends.
    pub(super) fn abort_tunnel(&mut self, id: ExchangeId, reason: Option<Reason>) {
        if let Some(reason) = reason
            && let Some(exchange) = self.exchanges.get(id)
            && let Some(conn) = self.conns.find(exchange.down)
        {
            let (down, direction, peer) = (exchange.down, conn.direction, conn.peer);
            self.direction(direction).refused[reason as usize] += 1;
            self.emit(Event::Closed { conn: down, direction, peer, reason });
        }
        self.end_tunnel(id, CloseKind::Abort);
    }

    fn end_tunnel(&mut self, id: ExchangeId, how: CloseKind) {
        self.end_answered(id);
        let Some(exchange) = self.remove_exchange(id) else { return };
        if let Some(service) = self.mesh.services.get_mut(exchange.service as usize) {
            if exchange.progress.status != 0 {
                service.stats.responded(exchange.progress.status);
            }
            if how == CloseKind::Abort {
                service.stats.failures += 1;
            }
        }
        for conn in [Some(exchange.down), exchange.up].into_iter().flatten() {
            if self.conns.find(conn).is_some() {
                self.end_conn(conn.index, how);
            }
        }
        self.release_service(exchange.service);
    }

    /// How long a tunnel may be silent.
    pub(super) fn tcp_idle(&self, exchange: Option<&Exchange>) -> Duration {
        let service = exchange.map(|exchange| exchange.service);
        let service = service.and_then(|service| self.mesh.services.get(service as usize));
        service.map_or(self.config.timeouts.tcp_idle, |service| service.times.tcp_idle)
    }

    /// How long a half-closed tunnel may be silent. A drain does not wait for leftovers.
    pub(super) fn half_open_limit(&self) -> Duration {
        let limit = self.config.timeouts.half_open;
        if self.is_draining() { limit.min(Timeouts::DRAIN_HALF_OPEN) } else { limit }
    }

    /// Nothing moved for as long as the timer knew: it may have since.
    pub(super) fn tunnel_due(&mut self, index: u32) {
        let Some(conn) = self.conns.get(index) else { return };
        let State::Tunnel(tunnel) = conn.state else { return };
        let Some(peer) = self.conns.find(tunnel.peer) else { return };
        let half_open = conn.flags.eof || peer.flags.eof;
        let (limit, reason) = if half_open {
            (self.half_open_limit(), Reason::HalfOpen)
        } else {
            (self.tcp_idle(self.exchanges.get(tunnel.exchange)), Reason::TcpIdle)
        };
        let due: Time = conn.last.max(peer.last) + limit;
        if due > self.now {
            self.timers.conns.set(index, due);
        } else {
            self.abort_tunnel(tunnel.exchange, Some(reason));
        }
    }

    /// At the start of a drain, a half-closed tunnel gets its shorter limit.
    pub(super) fn drain_tunnel(&mut self, index: u32) {
        let Some(conn) = self.conns.get(index) else { return };
        let State::Tunnel(tunnel) = conn.state else { return };
        let half_open =
            conn.flags.eof || self.conns.find(tunnel.peer).is_some_and(|peer| peer.flags.eof);
        if conn.endpoint.is_none() && half_open {
            self.timers.conns.set(index, self.now + self.half_open_limit());
        }
    }
}
