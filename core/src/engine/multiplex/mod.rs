//! Connections that speak HTTP/2: what happens on them, and their ends.

mod downstream;
mod pool;
mod upstream;

use alloc::boxed::Box;
use alloc::sync::Arc;
use alloc::vec::Vec;

use super::Engine;
use super::conn::{Conn, Http2, State, Unread};
use super::contract::{CloseKind, ConnId, Event};
use super::exchange::ExchangeId;
use crate::error::Reason;
use crate::http2::{self, Connection, ErrorCode, Role, StreamKey, Violation};
use crate::limits::Limits;
use crate::time::{Duration, Time};

/// What one connection may make one turn do, counted in events that only move bytes: one that floods
/// does not hold up everybody else. What an honest peer sends at once is less, as long as it goes over
/// few connections: a hundred requests, or the answers to them.
pub(super) const TURN: usize = 128;

/// What it costs of that when one more connection has something to do: it will be written to.
pub(super) const DRIVEN: usize = 8;

/// What anything costs that the adapter is asked for, such as a connection to open or to close: the
/// kernel does more for one than the core does in half a turn.
pub(super) const OUTPUT: usize = 32;

/// How long an endpoint may be silent on open streams before it is asked whether it is still there
/// (linkerd2-proxy's keep-alive interval).
const KEEP_ALIVE: Duration = Duration::from_secs(10);

impl Engine {
    /// How many streams share a connection now; `None` if it is none that streams share. What the
    /// kernel holds of it and has not sent yet keeps all of them waiting. An adapter need not ask.
    pub fn open_streams(&self, conn: ConnId) -> Option<usize> {
        Some(self.conns.find(conn)?.http2()?.open_streams())
    }

    /// A client's connection begins with the preface.
    pub(super) fn begin_http2(&mut self, index: u32) {
        let (config, now) = (Arc::clone(&self.http2), self.now);
        let Some(conn) = self.conns.get_mut(index) else { return };
        conn.tx.furnish(&mut self.spare);
        let connection = Connection::server(config, &mut conn.tx, now);
        conn.state = State::Http2(Box::new(Http2::new(connection, Time::MAX)));
        conn.flags.dirty = true;
        self.drive_http2(index);
    }

    /// Takes what came on a connection as far as it goes, within a turn's bounds.
    pub(super) fn drive_http2(&mut self, index: u32) {
        if self.conns.get(index).is_some_and(|conn| conn.flags.put_off) {
            return;
        }
        let mut scratch = core::mem::take(&mut self.http2_scratch);
        let mut more = true;
        let (mut events, before) = (0, self.ready.len() * DRIVEN + self.outputs.len() * OUTPUT);
        while events + self.ready.len() * DRIVEN + self.outputs.len() * OUTPUT < before + TURN {
            events += 1;
            let most = self.config.limits.stream_buffer + Limits::READ_BLOCK;
            let Some(conn) = self.conns.get_mut(index) else { break };
            let unsent = conn.tx.unsent();
            let State::Http2(http2) = &mut conn.state else { break };
            if unsent > most {
                // It asks for answers and does not read them.
                more = false;
                break;
            }
            let limits = &self.config.limits;
            let polled =
                http2.connection.poll(&mut conn.rx, &mut conn.tx, &mut scratch, limits, self.now);
            conn.flags.dirty |= conn.tx.unsent() > unsent;
            match polled {
                Ok(Some(http2::Event::Silence)) => events += Connection::SILENT_STEPS - 1,
                Ok(Some(event)) => self.http2_event(index, event),
                Ok(None) => {
                    more = false;
                    break;
                }
                Err(violation) => {
                    more = false;
                    self.http2_broken(index, violation);
                    break;
                }
            }
        }
        self.http2_scratch = scratch;
        if more {
            self.put_off(index);
        } else {
            self.after_http2(index);
        }
    }

    /// The rest of what came on a connection has to wait until others had their turns.
    fn put_off(&mut self, index: u32) {
        let Some(id) = self.conns.id(index) else { return };
        match self.conns.get_mut(index) {
            Some(conn) if conn.http2().is_some() => {
                conn.flags.put_off = true;
                self.put_off.push_back(id);
            }
            // What happened made something else of it.
            _ => self.touch(index),
        }
    }

    /// Goes on with the connection that was put off first: with one, however many there are.
    pub(super) fn take_up(&mut self) {
        while let Some(id) = self.put_off.pop_front() {
            if let Some(conn) = self.conns.find_mut(id)
                && core::mem::take(&mut conn.flags.put_off)
            {
                return self.touch(id.index);
            }
        }
    }

    /// Handles all that came on a connection: something is about to happen that must not overtake it.
    pub(super) fn catch_up(&mut self, index: u32) {
        while let Some(conn) = self.conns.get_mut(index)
            && core::mem::take(&mut conn.flags.put_off)
        {
            self.drive_http2(index);
            // It was paused for that.
            self.touch(index);
        }
    }

    fn http2_event(&mut self, index: u32, event: http2::Event<'_>) {
        use http2::Event;
        let of = ExchangeId::of_token;
        match event {
            Event::Request { stream, request, end } => {
                self.accept_stream_request(index, stream, &request, end);
            }
            Event::Refused { stream, reason } => self.answer_stream(index, stream, reason, false),
            Event::Response { token, response, end, .. } => {
                self.accept_stream_response(index, of(token), &response, end);
            }
            Event::Data { token, data, end, .. } => self.stream_data(index, of(token), data, end),
            Event::Trailers { token, fields, .. } => {
                self.stream_trailers(index, of(token), fields);
            }
            Event::Reset { stream, token, code } => {
                self.stream_reset(index, stream, of(token), code);
            }
            Event::Broken { token, violation, .. } => {
                self.count_violation(index, violation);
                self.stream_broken(index, of(token));
            }
            Event::Offence(violation) => self.count_violation(index, violation),
            Event::GoAway { .. } => self.http2_goaway(index),
            Event::Settings => self.serve_waiting_of(index),
            Event::Silence => {}
        }
    }

    /// When there is nothing more to take: ends, farewells, deadlines.
    fn after_http2(&mut self, index: u32) {
        let now = self.now;
        let drains = self.is_draining() && !self.is_needed(index);
        let Some(conn) = self.conns.get_mut(index) else { return };
        let eof = conn.flags.eof;
        let Some((connection, tx)) = conn.http2_mut() else { return };
        if drains && !connection.is_going() {
            connection.shut_down(tx, now);
        }
        if eof {
            return self.http2_lost(index, Reason::UpstreamClosed);
        }
        if connection.is_over() {
            return self.http2_over(index);
        }
        if self.conns.get(index).is_some_and(|conn| self.wants_relief(conn)) {
            self.serve_waiting_of(index);
        }
        self.rearm_http2(index);
    }

    /// Is this a connection to an endpoint that what is in progress goes over, or waits for?
    fn is_needed(&self, index: u32) -> bool {
        let Some(conn) = self.conns.get(index).filter(|conn| conn.endpoint.is_some()) else {
            return false;
        };
        let busy = conn.http2().is_some_and(|connection| connection.open_streams() > 0);
        busy || self.wants_relief(conn)
    }

    /// Everything was said on a connection.
    fn http2_over(&mut self, index: u32) {
        let Some(conn) = self.conns.get(index) else { return };
        let Some(endpoint) = conn.endpoint else {
            // What the client still sends must not meet a reset.
            return self.linger(index);
        };
        self.forget_multiplexed(endpoint, index);
        self.give_up_settings(endpoint, index, Reason::UpstreamClosed);
        self.close_when_flushed(index);
        self.serve_waiting(endpoint);
    }

    /// After a connection was driven, before it is written: bodies take their turns.
    pub(super) fn flush_http2(&mut self, index: u32) {
        let high_water = self.config.limits.stream_buffer;
        let Some(conn) = self.conns.get_mut(index) else { return };
        let before = conn.tx.unsent();
        let State::Http2(http2) = &mut conn.state else { return };
        http2.connection.flush(&mut conn.tx, high_water);
        conn.flags.dirty |= conn.tx.unsent() > before;
        loop {
            let Some(conn) = self.conns.get_mut(index) else { return };
            let State::Http2(http2) = &mut conn.state else { return };
            let Some((_, token)) = http2.connection.poll_progress() else { return };
            let is_client = http2.connection.role() == Role::Client;
            let id = ExchangeId::of_token(token);
            self.made_room(
                id,
                if is_client { super::relay::Side::Down } else { super::relay::Side::Up },
            );
        }
    }

    // ---- Deadlines ----

    /// Sets the deadline of a connection: its own, or that of its idleness.
    pub(super) fn rearm_http2(&mut self, index: u32) {
        let Some(conn) = self.conns.get(index) else { return };
        let Some(connection) = conn.http2() else { return };
        let rest = self.http2_rest(index);
        let mut due = connection.deadline().map_or(rest, |due| due.min(rest));
        if let State::Http2(http2) = &conn.state {
            let unread = http2.unread.front().map_or(Time::MAX, |unread| unread.due);
            let retires = if connection.is_going() { Time::MAX } else { http2.retires };
            due = due.min(unread).min(retires);
        }
        if self.wants_relief(conn) {
            due = due.min(self.now + pool::STALLED);
        }
        if conn.endpoint.is_none() && connection.open_streams() > 0 {
            let half_open = self.config.timeouts.half_open;
            let look = conn.last + half_open;
            due = due.min(if look > self.now { look } else { self.now + half_open });
        }
        self.timers.conns.set(index, due);
    }

    /// When a connection has been silent for too long.
    fn http2_rest(&self, index: u32) -> Time {
        let Some(conn) = self.conns.get(index) else { return Time::MAX };
        let Some(connection) = conn.http2() else { return Time::MAX };
        let busy = connection.open_streams() > 0;
        match (conn.endpoint, busy) {
            // What was done about the silence has a deadline of its own.
            (_, false) if connection.is_going() => Time::MAX,
            (_, true) if connection.is_pinging() => Time::MAX,
            (None, false) => conn.last + self.config.timeouts.keep_alive,
            (None, true) => Time::MAX,
            (Some(endpoint), false) => conn.last + self.pool_idle(endpoint),
            (Some(_), true) => conn.last + KEEP_ALIVE,
        }
    }

    /// Are there requests that wait until something moves on this connection?
    fn wants_relief(&self, conn: &Conn) -> bool {
        let target = conn.endpoint.and_then(|endpoint| self.mesh.endpoints.get(endpoint as usize));
        target.is_some_and(|target| !target.waiting.is_empty())
    }

    /// Answers that are complete here, and that the client has not taken a byte of for long: nobody
    /// else waits for them.
    fn give_up_unread(&mut self, index: u32) {
        let (now, half_open) = (self.now, self.config.timeouts.half_open);
        loop {
            let Some(conn) = self.conns.get_mut(index) else { return };
            let State::Http2(http2) = &mut conn.state else { return };
            let due = |unread: &mut Unread| unread.due <= now;
            let Some(unread) = http2.unread.pop_front_if(due) else { return };
            let queued = http2.connection.stream_queued(unread.stream);
            if !http2.connection.can_send(unread.stream) {
                continue;
            }
            if queued < unread.queued {
                http2.unread.push_back(Unread { due: now + half_open, queued, ..unread });
                continue;
            }
            http2.connection.reset(&mut conn.tx, unread.stream, ErrorCode::ENHANCE_YOUR_CALM);
            conn.flags.dirty = true;
            self.count_refusal(index, Reason::StreamStalled, None);
        }
    }

    /// Does a client take nothing of what nobody but itself waits for?
    fn is_unread(&self, index: u32) -> bool {
        let Some(conn) = self.conns.get(index).filter(|conn| conn.endpoint.is_none()) else {
            return false;
        };
        let silent = conn.last + self.config.timeouts.half_open <= self.now;
        let busy = conn.http2().is_some_and(|connection| connection.open_streams() > 0);
        silent && busy && !conn.is_flushed() && self.exchanges_of(index).is_empty()
    }

    /// The deadline of a connection has come.
    pub(super) fn http2_due(&mut self, index: u32) {
        let now = self.now;
        if self.is_unread(index) {
            return self.http2_lost(index, Reason::ClientGone);
        }
        self.give_up_unread(index);
        self.retire(index);
        let resting = self.http2_rest(index) <= now;
        let Some(conn) = self.conns.get_mut(index) else { return };
        let Some((connection, tx)) = conn.http2_mut() else { return };
        if let Err(violation) = connection.handle_timeout(tx, now) {
            return self.http2_broken(index, violation);
        }
        if resting && connection.open_streams() > 0 {
            connection.keep_alive(tx, now);
        } else if resting {
            // Nobody is there to wait for.
            connection.shut_down(tx, now);
        }
        if connection.is_over() {
            return self.http2_over(index);
        }
        self.rearm_http2(index);
        self.touch(index);
    }

    /// A connection to an endpoint that is old enough takes no more streams; those it has go on.
    fn retire(&mut self, index: u32) {
        let now = self.now;
        let Some(conn) = self.conns.get_mut(index) else { return };
        let (State::Http2(http2), Some(endpoint)) = (&mut conn.state, conn.endpoint) else {
            return;
        };
        if http2.retires > now || http2.connection.is_going() {
            return;
        }
        http2.connection.shut_down(&mut conn.tx, now);
        conn.flags.dirty = true;
        self.forget_multiplexed(endpoint, index);
        self.serve_waiting(endpoint);
    }

    // ---- Ends ----

    /// Every stream of a connection and the exchange it belongs to.
    fn exchanges_of(&self, index: u32) -> Vec<(StreamKey, ExchangeId)> {
        let Some(connection) = self.conns.get(index).and_then(|conn| conn.http2()) else {
            return Vec::new();
        };
        let exchange = |stream| {
            let id = ExchangeId::of_token(connection.token(stream));
            self.exchanges.get(id).map(|_| (stream, id))
        };
        connection.streams().filter_map(exchange).collect()
    }

    /// A connection closed or failed.
    pub(super) fn http2_lost(&mut self, index: u32, reason: Reason) {
        let Some(conn) = self.conns.get(index) else { return };
        if conn.endpoint.is_some() {
            self.endpoint_lost(index, reason);
        } else {
            for (_, id) in self.exchanges_of(index) {
                self.fail(id, Reason::ClientGone);
            }
        }
        self.end_conn(index, CloseKind::Abort);
    }

    /// A connection's peer broke a rule that costs it.
    fn http2_broken(&mut self, index: u32, violation: Violation) {
        self.count_violation(index, violation);
        let Some(conn) = self.conns.get(index) else { return };
        if conn.endpoint.is_some() {
            self.endpoint_lost(index, Reason::BadResponse);
            return self.close_when_flushed(index);
        }
        let exchanges = self.exchanges_of(index);
        // It gets to read the GOAWAY.
        self.linger(index);
        for (_, id) in exchanges {
            self.fail(id, Reason::ClientGone);
        }
    }

    /// The grace of a drain is over.
    pub(super) fn fail_streams(&mut self, index: u32, reason: Reason) {
        for (_, id) in self.exchanges_of(index) {
            self.fail(id, reason);
        }
    }

    fn count_violation(&mut self, index: u32, violation: Violation) {
        let Some(conn) = self.conns.get(index) else { return };
        let (direction, peer) = (conn.direction, conn.peer);
        self.direction(direction).violations[violation as usize] += 1;
        if let Some(conn) = self.conns.id(index) {
            self.emit(Event::Violation { conn, direction, peer, violation });
        }
    }

    /// Does something with the HTTP/2 connection of that name, if there is one, and sees to it that
    /// what it has to say is sent.
    pub(super) fn with_http2<R>(
        &mut self,
        conn: ConnId,
        act: impl FnOnce(&mut Connection, &mut crate::buf::OutQueue) -> R,
    ) -> Option<R> {
        self.conns.find(conn)?;
        let (connection, tx) = self.conns.get_mut(conn.index)?.http2_mut()?;
        let result = act(connection, tx);
        self.touch(conn.index);
        Some(result)
    }
}
