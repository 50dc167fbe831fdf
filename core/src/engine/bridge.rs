//! Byte tunnels of which at least one end is a stream of HTTP/2: CONNECT (RFC 9113 §8.5) and
//! extended CONNECT (RFC 8441), which carries WebSockets.
//!
//! A direction ends with END_STREAM on a stream and with a FIN on a connection; each is passed on as
//! the other.

use alloc::boxed::Box;

use bytes::BytesMut;

use super::Engine;
use super::conn::{Fin, State};
use super::contract::{CloseKind, ConnId};
use super::exchange::{Exchange, ExchangeId, Kind};
use super::relay::Side;
use crate::error::Reason;
use crate::http2::{ErrorCode, StreamKey};
use crate::time::Time;

impl Engine {
    /// The far end agreed: from here on, bytes.
    pub(super) fn open_bridge(&mut self, id: ExchangeId) {
        self.sample(id);
        let Some(exchange) = self.exchanges.get_mut(id) else { return };
        exchange.progress.tunnelled = true;
        exchange.last = self.now;
        let (down, up) = (exchange.down, exchange.up);
        let (down_stream, up_stream) = (exchange.down_stream, exchange.up_stream);
        let answer = exchange.kind == Kind::Tunnel { answer: true };
        let pending = exchange.pending.take();
        let Some(up) = up else { return };
        for (conn, stream) in [(down, down_stream), (up, up_stream)] {
            if let Some(conn) = self.conns.get_mut(conn.index).filter(|_| stream.is_none()) {
                conn.state = State::Bridge(id);
            }
            self.timers.conns.clear(if stream.is_none() { conn.index } else { u32::MAX });
            self.touch_id(conn);
        }
        if let (true, Some(stream)) = (answer, down_stream) {
            self.with_http2(down, |connection, tx| connection.accept_tunnel(tx, stream));
        }
        if let Some(mut pending) = pending {
            let n = pending.queue.unsent();
            if let Some(exchange) = self.exchanges.get_mut(id) {
                exchange.charged -= n;
                self.buffered -= n;
            }
            let mut bytes = BytesMut::new();
            let mut owned = alloc::vec::Vec::new();
            pending.queue.owned(&mut owned);
            for part in owned {
                bytes.extend_from_slice(&part);
            }
            self.bridge_bytes(id, Side::Down, bytes);
        }
        if self.exchanges.get(id).is_some_and(|exchange| exchange.progress.ended[0]) {
            self.pass_end(id, Side::Down);
        }
        self.rearm(id);
    }

    /// Bytes came from `side` and go to the other.
    pub(super) fn bridge_bytes(&mut self, id: ExchangeId, side: Side, mut data: BytesMut) {
        let now = self.now;
        let Some(exchange) = self.exchanges.get_mut(id) else { return };
        exchange.last = now;
        let (sink, stream) = exchange.end_of(side.other());
        let Some(conn) = sink.and_then(|sink| self.conns.get_mut(sink.index)) else { return };
        let n = data.len();
        conn.flags.dirty = true;
        match (&mut conn.state, stream) {
            (State::Http2(http2), Some(stream)) => {
                if let Some(body) = http2.connection.body(stream) {
                    body.take(&mut data, n);
                    http2.connection.body_added(stream, n, false);
                }
            }
            _ => conn.tx.take(&mut data, n),
        }
        if let Some(sink) = sink {
            self.touch_id(sink);
        }
    }

    /// Nothing more will come from `side`.
    pub(super) fn bridge_end(&mut self, id: ExchangeId, side: Side) {
        let Some(exchange) = self.exchanges.get_mut(id) else { return };
        if core::mem::replace(&mut exchange.progress.ended[side as usize], true) {
            return;
        }
        exchange.last = self.now;
        if exchange.progress.tunnelled {
            self.pass_end(id, side);
            self.rearm(id);
        }
    }

    fn pass_end(&mut self, id: ExchangeId, side: Side) {
        let Some(exchange) = self.exchanges.get(id) else { return };
        let (sink, stream) = exchange.end_of(side.other());
        let over = exchange.progress.ended == [true; 2];
        if let Some(conn) = sink.and_then(|sink| self.conns.get_mut(sink.index)) {
            match (&mut conn.state, stream) {
                (State::Http2(http2), Some(stream)) => {
                    http2.connection.body_added(stream, 0, true);
                    conn.flags.dirty = true;
                }
                _ if conn.flags.fin == Fin::Open => conn.flags.fin = Fin::Wanted,
                _ => {}
            }
        }
        if let Some(sink) = sink {
            self.touch_id(sink);
        }
        if over {
            self.end_bridge(id, None);
        }
    }

    /// Moves what one end that is a connection received to the other.
    pub(super) fn drive_bridge(&mut self, index: u32) {
        let Some(conn) = self.conns.get_mut(index) else { return };
        let State::Bridge(id) = conn.state else { return };
        let side = if conn.endpoint.is_none() { Side::Down } else { Side::Up };
        let (data, eof) = (core::mem::take(&mut conn.rx), conn.flags.eof);
        if data.is_empty() && conn.flags.truncated {
            self.count_truncation(index);
            return self.end_bridge(id, Some(ErrorCode::CONNECT_ERROR));
        }
        if data.is_empty() && eof {
            return self.bridge_end(id, side);
        }
        if data.is_empty() {
            return;
        }
        if !self.sink_has_room(index) {
            if let Some(conn) = self.conns.get_mut(index) {
                conn.rx = data;
            }
            return;
        }
        self.bridge_bytes(id, side, data);
        if self.conns.get(index).is_some_and(|conn| conn.flags.truncated) {
            self.touch(index);
        } else if eof {
            self.bridge_end(id, side);
        }
    }

    /// When a tunnel has been silent for too long.
    pub(super) fn bridge_deadline(&self, exchange: &Exchange) -> (Time, Reason) {
        if exchange.progress.ended == [false; 2] {
            (exchange.last + self.tcp_idle(Some(exchange)), Reason::TcpIdle)
        } else {
            (exchange.last + self.half_open_limit(), Reason::HalfOpen)
        }
    }

    /// One side is gone. If it had ended its direction before, it only says that it reads no more, as
    /// HAProxy does when an app has closed its connection: what it sent arrives all the same.
    pub(super) fn break_bridge(&mut self, id: ExchangeId, side: Side, code: ErrorCode) {
        let Some(exchange) = self.exchanges.get(id) else { return };
        if !exchange.progress.ended[side as usize] {
            return self.end_bridge(id, Some(code));
        }
        let (gone, (other, stream)) = (exchange.end_of(side), exchange.end_of(side.other()));
        self.remove_bridge(id, false);
        if let (Some(conn), None) = gone
            && self.conns.find(conn).is_some()
        {
            self.end_conn(conn.index, CloseKind::Abort);
        }
        match (other, stream) {
            (Some(conn), Some(stream)) => self.leave_stream(conn, stream),
            (Some(conn), None) if self.conns.find(conn).is_some() => self.linger(conn.index),
            _ => {}
        }
    }

    /// The end of the exchange, but not of what it went over.
    fn remove_bridge(&mut self, id: ExchangeId, failed: bool) -> Option<Box<Exchange>> {
        self.end_answered(id);
        let exchange = self.remove_exchange(id)?;
        if let Some(service) = self.mesh.services.get_mut(exchange.service as usize) {
            if exchange.progress.status != 0 {
                service.stats.responded(exchange.progress.status);
            }
            service.stats.failures += u64::from(failed);
        }
        self.release_service(exchange.service);
        Some(exchange)
    }

    /// Ends a tunnel: `None` when both directions have ended, else how its streams are reset.
    pub(super) fn end_bridge(&mut self, id: ExchangeId, code: Option<ErrorCode>) {
        let Some(exchange) = self.remove_bridge(id, code.is_some()) else { return };
        for side in [Side::Down, Side::Up] {
            let (Some(conn), stream) = exchange.end_of(side) else { continue };
            match (stream, code) {
                (Some(stream), Some(code)) => {
                    self.with_http2(conn, |connection, tx| connection.reset(tx, stream, code));
                }
                (Some(_), None) => {}
                (None, Some(_)) if self.conns.find(conn).is_some() => {
                    self.end_conn(conn.index, CloseKind::Abort);
                }
                (None, None) if self.conns.find(conn).is_some() => {
                    self.close_when_flushed(conn.index);
                }
                (None, _) => {}
            }
        }
    }
}

impl Exchange {
    /// The connection of one side, and the stream on it.
    pub(super) fn end_of(&self, side: Side) -> (Option<ConnId>, Option<StreamKey>) {
        match side {
            Side::Down => (Some(self.down), self.down_stream),
            Side::Up => (self.up, self.up_stream),
        }
    }

    /// Will it be a tunnel, if the far end agrees?
    pub(super) fn is_tunnel(&self) -> bool {
        self.traits.upgrade || self.traits.is_connect || self.kind != Kind::Http
    }

    /// Is one of its ends a stream?
    pub(super) fn has_stream(&self) -> bool {
        self.down_stream.is_some() || self.up_stream.is_some()
    }
}
