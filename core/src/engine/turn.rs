//! The end of a turn: the ready list.

use super::Engine;
use super::conn::{ClientPhase, Conn, Fin, ServerPhase, State};
use super::contract::{CloseKind, ConnId, Output};
use super::relay::stream_room;
use crate::config::Timeouts;
use crate::http2::frame::DEFAULT_MAX_FRAME;
use crate::http2::{Connection, StreamKey};
use crate::limits::Limits;
use crate::time::Time;
use crate::tls::transport_header;

impl Engine {
    /// Does the work of a turn: call it once after a batch of inputs, then drain
    /// [`Engine::poll_output`].
    ///
    /// The work is bounded: where one peer sent more than a turn should take,
    /// [`Engine::next_timeout`] wants to be woken at once, and others get their turns in between.
    pub fn end_turn(&mut self, now: Time) {
        self.now = self.now.max(now);
        self.settle_queues();
        let mut opened = false;
        loop {
            while let Some(index) = self.ready.pop_front() {
                let Some(conn) = self.conns.get_mut(index) else { continue };
                conn.flags.queued = false;
                let reads = !conn.has_nothing_to_read() || self.is_draining();
                if reads {
                    self.drive(index);
                }
                self.settle(index, reads);
            }
            self.feed_starved();
            if !self.opened.is_empty() && !opened {
                opened = true;
                self.open_gates();
            }
            if self.ready.is_empty() {
                return self.arm_exchanges();
            }
        }
    }

    pub(super) fn drive(&mut self, index: u32) {
        let Some(conn) = self.conns.get(index) else { return };
        match conn.state {
            State::Detect { .. } => self.drive_detect(index),
            State::Header => self.drive_header(index),
            State::Handshake | State::Connecting(_) if conn.tls.is_some() => {
                self.drive_handshake(index);
            }
            State::Server(_) => self.drive_server(index),
            State::Client(_) => self.drive_client(index),
            State::Tunnel(_) => {
                if self.is_draining() {
                    self.drain_tunnel(index);
                }
                self.drive_tunnel(index);
            }
            State::Http2(_) => self.drive_http2(index),
            State::Bridge(_) => self.drive_bridge(index),
            State::Check(_) => self.drive_check(index),
            State::Linger { .. } => self.drive_linger(index),
            State::Waiting(_) | State::Connecting(_) | State::Closing | State::Handshake => {}
        }
    }

    /// After a connection was driven, or had only something to write: what has to be written, closed,
    /// read again.
    fn settle(&mut self, index: u32, driven: bool) {
        let Some(mut conn) = self.conns.get_mut(index) else { return };
        let is_sealed = conn.tls.is_some();
        if is_sealed || conn.http2().is_some() {
            self.flush_http2(index);
            if is_sealed {
                self.seal(index);
            }
            let Some(same) = self.conns.get_mut(index) else { return };
            conn = same;
        }
        let id = conn.id(index);
        let writes = conn.spliced > 0 || conn.outgoing().unsent() > 0;
        if core::mem::take(&mut conn.flags.dirty) && writes {
            self.outputs.push_back(Output::Flush(id));
            if conn.tx.is_unsettled() {
                self.unsettled.push(id);
            }
        }
        if conn.http2().is_some_and(Connection::is_unsettled) {
            self.unsettled.push(id);
        }
        let before = conn.charged;
        conn.settle_received();
        self.buffered = self.buffered - before + conn.charged;
        let unsent = conn.unsent();
        if unsent == 0 || canary!(HastyFin) && unsent == conn.spliced as usize {
            if let State::Closing = conn.state {
                return self.end_conn(index, CloseKind::Full);
            }
            if conn.flags.fin == Fin::Wanted {
                conn.flags.fin = Fin::Sent;
                if let State::Linger { .. } = conn.state {
                    self.timers.conns.set(index, self.now + Timeouts::LINGER);
                }
                self.outputs.push_back(Output::Close { conn: id, how: CloseKind::Half });
                // What was waiting for that is looked at once more.
                conn.touch(index, &mut self.ready);
            }
        }
        let limits = &self.config.limits;
        let stalls = conn.flags.paused
            || unsent > limits.stream_buffer
            || self.buffered >= limits.buffer_bytes;
        // What was only written to gave nobody more, and what is between messages has no sink.
        let goes_on = !stalls && (!driven || conn.is_between() || self.may_read(index));
        if !goes_on {
            self.pause_or_resume(index, id);
        }
    }

    fn may_read(&self, index: u32) -> bool {
        self.conns.get(index).is_none_or(|conn| self.budget(conn) > 0)
    }

    /// Whether a connection may be read from now on: not while what came from it has no room to go on.
    fn pause_or_resume(&mut self, index: u32, id: ConnId) {
        if self.buffered >= self.config.limits.buffer_bytes {
            self.forgo_replay(index);
        }
        let full = self.buffered >= self.config.limits.buffer_bytes;
        let Some(conn) = self.conns.get(index) else { return };
        let budget = self.budget(conn);
        let Some(conn) = self.conns.get_mut(index) else { return };
        // At the worker's cap, clients that have bytes here send no more of them for now. What
        // endpoints answer goes on: it is how the bytes get fewer.
        // So do those of HTTP/2: what is held may wait for credit that they have sent, and what they
        // may send of bodies is bounded by ours. And a part of a record is of no use without the rest.
        let part = conn.tls.as_ref().map_or(0, |tls| tls.unopened());
        let goes_on = matches!(conn.state, State::Linger { .. } | State::Http2(_));
        if full && conn.endpoint.is_none() && conn.charged > part && !goes_on {
            conn.flags.paused = true;
            if !core::mem::replace(&mut conn.flags.starved, true) {
                self.starved.push(id);
            }
        } else if budget == 0 {
            conn.flags.paused = true;
        } else if core::mem::take(&mut conn.flags.paused) {
            self.outputs.push_back(Output::ReadReady(id));
        }
    }

    /// At the worker's cap, what is kept of a client's request so that it can be sent again makes
    /// room: only its answer would, and that waits for the rest of the request.
    fn forgo_replay(&mut self, index: u32) {
        let exchange = self.conns.get(index).and_then(Conn::exchange);
        let exchange = exchange.and_then(|id| self.exchanges.get(id));
        let Some(exchange) = exchange.filter(|exchange| exchange.down.index == index) else {
            return;
        };
        let stream = exchange.up_stream;
        let Some(up) = exchange.up.filter(|&up| self.conns.find(up).is_some()) else { return };
        let Some(conn) = self.conns.get_mut(up.index) else { return };
        let held = conn.kept();
        if let (State::Http2(http2), Some(stream)) = (&mut conn.state, stream) {
            http2.connection.release_body(stream);
        } else {
            conn.tx.release();
        }
        let freed = (held - conn.kept()).min(conn.charged);
        conn.charged -= freed;
        self.buffered -= freed;
    }

    /// Clients that were paused at the worker's cap go on once it holds clearly less.
    fn feed_starved(&mut self) {
        let cap = self.config.limits.buffer_bytes;
        if self.starved.is_empty() || self.buffered > cap - cap / 8 {
            return;
        }
        for id in core::mem::take(&mut self.starved) {
            if let Some(conn) = self.conns.find_mut(id) {
                conn.flags.starved = false;
                self.touch(id.index);
            }
        }
    }

    /// Queues that still hold slices of read buffers a turn later give them up.
    fn settle_queues(&mut self) {
        if self.unsettled.is_empty() {
            return;
        }
        let mut list = core::mem::take(&mut self.unsettled);
        for id in list.drain(..) {
            if let Some(conn) = self.conns.find_mut(id) {
                conn.tx.settle();
                match &mut conn.state {
                    State::Http2(http2) => http2.connection.settle_queues(),
                    State::Tunnel(tunnel) if tunnel.pins_bulk => {
                        tunnel.pins_bulk = !conn.tx.settle_bulk();
                    }
                    _ => {}
                }
            }
        }
        self.unsettled = list;
    }

    /// How much a connection may read: what its sink, or its buffer, has room for.
    pub(super) fn budget(&self, conn: &Conn) -> usize {
        let limits = &self.config.limits;
        let held = conn.rx.len();
        let upto = |bound: usize| bound.saturating_sub(held).min(Limits::READ_BLOCK);
        // A trailer section is held until it is complete.
        let body = limits.stream_buffer.max(limits.header_bytes + 1);
        match &conn.state {
            State::Detect { .. } => upto(limits.header_bytes.max(limits.client_hello_bytes) + 1),
            // What waits for its turn is less than a block: a record and a part of one.
            State::Handshake | State::Connecting(_) if conn.is_handshaking() => {
                let waiting = conn.tls.as_ref().map_or(0, |tls| tls.waiting.len());
                Limits::READ_BLOCK.saturating_sub(waiting)
            }
            State::Header => upto(transport_header::MAX_BYTES),
            State::Server(server) => match server.phase {
                ServerPhase::Head(_) if conn.unsent() > limits.stream_buffer => 0,
                ServerPhase::Head(_) => upto(limits.header_bytes + Limits::PIPELINE_BYTES),
                ServerPhase::Body(_) => self.sink_budget(conn, upto(body)),
                ServerPhase::Wait => upto(Limits::PIPELINE_BYTES),
            },
            State::Client(client) => match client.phase {
                ClientPhase::Idle => Limits::READ_BLOCK,
                ClientPhase::Head(_) => {
                    self.sink_budget(conn, upto(limits.header_bytes + Limits::PIPELINE_BYTES))
                }
                ClientPhase::Body(_) => self.sink_budget(conn, upto(body)),
            },
            State::Http2(_) if conn.flags.put_off => 0,
            State::Http2(_) if conn.unsent() > limits.stream_buffer + Limits::READ_BLOCK => 0,
            State::Http2(_) => upto(DEFAULT_MAX_FRAME + Limits::READ_BLOCK),
            State::Waiting(_) => upto(limits.stream_buffer),
            State::Tunnel(_) | State::Bridge(_) => {
                self.sink_budget(conn, upto(limits.stream_buffer))
            }
            State::Linger { .. } => Limits::READ_BLOCK,
            State::Check(_) => upto(limits.header_bytes + DEFAULT_MAX_FRAME),
            State::Handshake | State::Connecting(_) | State::Closing => 0,
        }
    }

    /// `own`, unless the other side of the exchange has enough to write.
    fn sink_budget(&self, conn: &Conn, own: usize) -> usize {
        let room = self.sink_room(conn);
        // Not byte by byte.
        if room == 0 { 0 } else { own.min(room.max(Limits::COALESCE_BELOW)) }
    }

    /// Can the other side of an exchange or tunnel take more?
    pub(super) fn sink_has_room(&self, index: u32) -> bool {
        self.conns.get(index).is_none_or(|conn| self.sink_room(conn) > 0)
    }

    /// How much more the other side should be given.
    fn sink_room(&self, conn: &Conn) -> usize {
        let (sink, stream) = match &conn.state {
            State::Tunnel(tunnel) => (Some(tunnel.peer), None),
            _ => match conn.exchange().and_then(|id| self.exchanges.get(id)) {
                Some(exchange) if conn.endpoint.is_none() => (exchange.up, exchange.up_stream),
                Some(exchange) => (Some(exchange.down), exchange.down_stream),
                None => return usize::MAX,
            },
        };
        sink.map_or(usize::MAX, |sink| self.room_at(sink, stream))
    }

    /// How much more a connection, or a stream of it, should be given.
    pub(super) fn room_at(&self, sink: ConnId, stream: Option<StreamKey>) -> usize {
        if canary!(UnboundedBuffer) {
            return usize::MAX;
        }
        let limits = &self.config.limits;
        let Some(sink) = self.conns.find(sink) else { return usize::MAX };
        match (sink.http2(), stream) {
            (Some(connection), Some(stream)) => {
                // One stream of many: it does not get a whole read buffer beyond its room.
                stream_room(connection, limits).saturating_sub(connection.stream_queued(stream))
            }
            // What is read while there is something in the pipe would be copied.
            _ if sink.spliced > 0 => 0,
            _ if sink.unsent() < limits.stream_buffer => usize::MAX,
            _ => 0,
        }
    }
}
