//! Carries heads, bodies and ends from one side of an exchange to the other when either is a
//! stream of HTTP/2.
//!
//! Credit goes the other way: a peer that sends on a stream may send as much more as the far side
//! has taken.

use alloc::boxed::Box;

use bytes::BytesMut;

use super::Engine;
use super::body::{Carried, Outgoing, carry};
use super::conn::{Conn, State};
use super::exchange::{Ends, Exchange, ExchangeId};
use super::mirror::Copied;
use crate::buf::OutQueue;
use crate::error::Reason;
use crate::http::Framing;
use crate::http1::{self, BodyDecoder};
use crate::http2::{Connection, StreamKey, Trailers};
use crate::limits::Limits;

/// A side of an exchange.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Side {
    /// The client's.
    Down,
    /// The endpoint's.
    Up,
}

impl Side {
    pub(super) fn other(self) -> Side {
        match self {
            Side::Down => Side::Up,
            Side::Up => Side::Down,
        }
    }
}

impl Engine {
    /// Body bytes came on a stream: the request's from the client, the response's from the endpoint.
    pub(super) fn stream_data(&mut self, index: u32, id: ExchangeId, data: BytesMut, end: bool) {
        let now = self.now;
        let Some(exchange) = self.exchanges.get_mut(id) else { return };
        exchange.last = now;
        let is_down = self.conns.get(index).is_some_and(|conn| conn.endpoint.is_none());
        if exchange.progress.tunnelled {
            let side = if is_down { Side::Down } else { Side::Up };
            self.bridge_bytes(id, side, data);
            if end {
                self.bridge_end(id, side);
            }
        } else if is_down && exchange.is_tunnel() {
            // It is early, and waits for the far end to agree.
            keep(exchange, data, &mut self.buffered);
            if end {
                self.bridge_end(id, Side::Down);
            }
        } else if is_down {
            self.pass_request_body(id, data, end);
            if end {
                self.request_done(id);
            }
        } else if self.pass_held(id) {
            self.pass_response_body(id, data);
            if end {
                self.end_response_body(id, None);
            }
        }
    }

    /// Trailers came on a stream: they end its message.
    pub(super) fn stream_trailers(&mut self, index: u32, id: ExchangeId, trailers: Trailers<'_>) {
        let Some(exchange) = self.exchanges.get(id) else { return };
        let is_down = self.conns.get(index).is_some_and(|conn| conn.endpoint.is_none());
        if exchange.progress.tunnelled || is_down && exchange.is_tunnel() {
            // A tunnel has none (RFC 9113 §8.5), but it ends.
            self.bridge_end(id, if is_down { Side::Down } else { Side::Up });
        } else if is_down {
            let (is_mirrored, section) = (exchange.mirror().is_some(), trailers.section());
            self.end_request_body(id, Some(section));
            self.request_done(id);
            if is_mirrored {
                self.feed_mirror(id, Copied::trailers(section), true);
            }
        } else {
            let status = trailers.grpc_status();
            self.heed_trailers(id, status, trailers);
            if !self.retries_trailers(id, status, trailers) && self.pass_held(id) {
                if let (Some(status), Some(exchange)) = (status, self.exchanges.get_mut(id)) {
                    super::upstream::note_trailers(exchange, status);
                }
                self.end_response_body(id, Some(trailers));
            }
        }
    }

    // ---- Requests ----

    fn pass_request_body(&mut self, id: ExchangeId, mut data: BytesMut, end: bool) {
        let Some(exchange) = self.exchanges.get_mut(id) else { return };
        let replay_bytes = exchange.replay_bytes(self.config.limits.replay_bytes);
        let n = data.len();
        let mut copied = exchange.mirror().map(|_| Copied::default());
        let sink = exchange.up.filter(|&up| self.conns.find(up).is_some_and(takes_requests));
        let Some(up) = sink else {
            let kept = keep(exchange, data, &mut self.buffered);
            if let Some(mut copied) = copied {
                copied.last_of(kept, n, Outgoing::Frames);
                self.feed_mirror(id, copied, end);
            }
            return;
        };
        let Some(conn) = self.conns.get_mut(up.index) else { return };
        conn.flags.dirty = true;
        if let (State::Http2(http2), Some(stream)) = (&mut conn.state, exchange.up_stream) {
            if let Some(body) = http2.connection.body(stream) {
                body.take(&mut data, n);
                if let Some(copied) = &mut copied {
                    copied.last_of(body, n, Outgoing::Frames);
                }
                let kept = body.held();
                http2.connection.body_added(stream, n, end);
                if kept > replay_bytes {
                    http2.connection.release_body(stream);
                }
            }
        } else {
            let outgoing = outgoing(exchange.traits.framing);
            outgoing.put(&mut data, n, &mut conn.tx);
            if let Some(copied) = &mut copied {
                copied.last_of(&conn.tx, n, outgoing);
            }
            if conn.tx.is_retaining() && conn.tx.held() > replay_bytes {
                conn.tx.release();
            }
        }
        self.touch(up.index);
        if end {
            self.end_request_body(id, None);
        }
        if let Some(copied) = copied {
            self.feed_mirror(id, copied, end);
        }
    }

    /// The request is complete: what ends it on the other side.
    pub(super) fn end_request_body(&mut self, id: ExchangeId, section: Option<&[u8]>) {
        let Some(exchange) = self.exchanges.get_mut(id) else { return };
        let sink = exchange.up.filter(|&up| self.conns.find(up).is_some_and(takes_requests));
        let Some(up) = sink else {
            if let Some(section) = section {
                let pending = exchange.pending.get_or_insert_default();
                pending.trailers = Some(Box::from(section));
            }
            return;
        };
        let (framing, is_mirror) = (exchange.traits.framing, exchange.is_mirror());
        let Some(conn) = self.conns.get_mut(up.index) else { return };
        conn.flags.dirty = true;
        let direction = conn.direction;
        let dropped =
            if let (State::Http2(http2), Some(stream)) = (&mut conn.state, exchange.up_stream) {
                if let Some(section) = section {
                    http2.connection.send_trailers(&mut conn.tx, stream, section)
                } else {
                    http2.connection.body_added(stream, 0, true);
                    Ok(0)
                }
            } else {
                end_chunks(framing, section, conn)
            };
        if !is_mirror {
            self.direction(direction).trailers_dropped += dropped.unwrap_or(0) as u64;
        }
        self.touch(up.index);
    }

    /// What waited for an HTTP/1 connection goes to it.
    pub(super) fn pass_pending(&mut self, id: ExchangeId) {
        let Some(exchange) = self.exchanges.get_mut(id) else { return };
        // An end that came while nothing took it is there, too; one that was written before is in what
        // is sent again.
        let Some(mut pending) = exchange.pending.take() else { return };
        let Some(conn) = exchange.up.and_then(|up| self.conns.get_mut(up.index)) else { return };
        let n = pending.queue.unsent();
        let framing = exchange.traits.framing;
        let chunked = outgoing(framing) == Outgoing::Chunked && n > 0;
        if chunked {
            conn.tx.append(|out| http1::encode_chunk_start(out, n));
        }
        pending.queue.pass(&mut conn.tx, n);
        if chunked {
            conn.tx.append(http1::encode_chunk_end);
        }
        if exchange.progress.request_done {
            self.end_request_body(id, pending.trailers.as_deref());
        }
    }

    // ---- Responses ----

    fn pass_response_body(&mut self, id: ExchangeId, mut data: BytesMut) {
        let Some(exchange) = self.exchanges.get_mut(id) else { return };
        let (down, stream, n) = (exchange.down, exchange.down_stream, data.len());
        let (chunked, grpc) = (exchange.progress.ends == Ends::Chunks, exchange.traits.grpc);
        let judged = exchange.judged;
        if n == 0 {
            return;
        }
        let Some(conn) = self.conns.get_mut(down.index) else {
            // Nobody wants it, and there may be more.
            return self.release_credit(id, Side::Up);
        };
        conn.flags.dirty = true;
        if let (State::Http2(http2), Some(stream)) = (&mut conn.state, stream) {
            if let Some(body) = http2.connection.body(stream) {
                body.take(&mut data, n);
                http2.connection.body_added(stream, n, false);
            }
        } else {
            let outgoing = if chunked { Outgoing::Chunked } else { Outgoing::Plain };
            outgoing.put(&mut data, n, &mut conn.tx);
        }
        // The balancer's sample is the first body frame; gRPC says in its trailers how it went.
        if !grpc {
            self.sample(id);
        } else if judged {
            // Of a long stream a message is a beginning.
            self.probe_answers(id);
        }
        self.touch(down.index);
    }

    /// The response is complete.
    fn end_response_body(&mut self, id: ExchangeId, trailers: Option<Trailers<'_>>) {
        let Some(exchange) = self.exchanges.get_mut(id) else { return };
        let (down, stream) = (exchange.down, exchange.down_stream);
        let chunked = exchange.progress.ends == Ends::Chunks;
        let framing = if chunked { Framing::Chunked } else { Framing::Length(0) };
        if let Some(conn) = self.conns.get_mut(down.index) {
            conn.flags.dirty = true;
            let direction = conn.direction;
            let dropped = match (&mut conn.state, stream, trailers) {
                (State::Http2(http2), Some(stream), Some(trailers)) => {
                    http2.connection.pass_trailers(&mut conn.tx, stream, trailers)
                }
                // `finish` ends the stream.
                (State::Http2(_), ..) => 0,
                _ => end_chunks(framing, trailers.map(Trailers::section), conn).unwrap_or(0),
            };
            self.direction(direction).trailers_dropped += dropped as u64;
        }
        self.finish(id);
    }

    // ---- Room and credit ----

    /// A sink of an exchange has taken bytes: its source, on `side`, may send more.
    pub(super) fn made_room(&mut self, id: ExchangeId, side: Side) {
        let Some(exchange) = self.exchanges.get(id) else { return };
        let source = match side {
            Side::Down => Some(exchange.down),
            Side::Up => exchange.up,
        };
        let Some(conn) = source.and_then(|source| self.conns.find(source)) else { return };
        let Some(source) = source else { return };
        if conn.http2().is_some() {
            self.release_credit(id, side);
        } else if conn.flags.paused || conn.flags.eof || !conn.rx.is_empty() {
            self.touch(source.index);
        }
    }

    /// Gives a stream back the credit for what the other side has taken.
    fn release_credit(&mut self, id: ExchangeId, side: Side) {
        let may_grow = self.buffered < self.config.limits.buffer_bytes / 2;
        let Some(exchange) = self.exchanges.get(id) else { return };
        let (source, sink) = match side {
            Side::Down => {
                ((Some(exchange.down), exchange.down_stream), (exchange.up, exchange.up_stream))
            }
            Side::Up => {
                ((exchange.up, exchange.up_stream), (Some(exchange.down), exchange.down_stream))
            }
        };
        let (Some(conn), Some(stream)) = source else { return };
        let sink_conn = sink.0.and_then(|sink| self.conns.find(sink));
        let waiting = match sink_conn {
            Some(sink_conn) => match (sink_conn.http2(), sink.1) {
                (Some(connection), Some(stream)) => connection.stream_queued(stream),
                _ => sink_conn.tx.unsent(),
            },
            None => exchange.pending.as_ref().map_or(0, |pending| pending.queue.unsent()),
        };
        let Some(conn) = self.conns.get_mut(conn.index) else { return };
        let before = conn.tx.unsent();
        let State::Http2(http2) = &mut conn.state else { return };
        let taken = http2.connection.stream_held(stream).saturating_sub(waiting);
        if taken == 0 {
            return;
        }
        http2.connection.release(&mut conn.tx, stream, taken, may_grow);
        if conn.tx.unsent() > before {
            conn.flags.dirty = true;
            let index = source.0.map_or(u32::MAX, |source| source.index);
            self.touch(index);
        }
    }
}

/// Moves what `rx` holds of a body to a stream, and what ends it.
pub(super) fn carry_to_stream(
    decoder: &mut BodyDecoder,
    rx: &mut BytesMut,
    connection: &mut Connection,
    tx: &mut OutQueue,
    stream: StreamKey,
    limits: &Limits,
    copied: Option<&mut Copied>,
) -> Carried {
    let room = stream_room(connection, limits);
    let Some(body) = connection.body(stream) else {
        // The head ended it: there is no body.
        return Carried { done: decoder.is_done(), ..Carried::default() };
    };
    let before = body.unsent();
    let mut carried = carry(decoder, rx, body, Outgoing::Frames, room, limits, copied);
    let n = body.unsent() - before;
    let end = carried.done && carried.trailers.is_none();
    connection.body_added(stream, n, end);
    if end {
        connection.flush_alone(tx, limits.stream_buffer);
    }
    carried.moved |= carried.done;
    if let Some(section) = carried.trailers.take() {
        match connection.send_trailers(tx, stream, &section) {
            Ok(dropped) => carried.dropped = dropped,
            Err(reason) => carried.error = Some(reason),
        }
    }
    carried
}

/// How many bytes may wait on a stream before its source is paused. Where many streams wait, it is
/// less for each.
pub(super) fn stream_room(connection: &Connection, limits: &Limits) -> usize {
    let most = limits.stream_buffer;
    if connection.queued() < Limits::CONNECTION_QUEUE { most } else { most.min(4096) }
}

/// Keeps body bytes until there is a connection to pass them on; where.
fn keep<'a>(exchange: &'a mut Exchange, mut data: BytesMut, buffered: &mut usize) -> &'a OutQueue {
    let (n, pending) = (data.len(), exchange.pending.get_or_insert_default());
    pending.queue.take(&mut data, n);
    // It outlives the turn.
    pending.queue.settle();
    exchange.charged += n;
    *buffered += n;
    &pending.queue
}

/// How a body of this framing leaves on HTTP/1.
pub(super) fn outgoing(framing: Framing) -> Outgoing {
    if framing == Framing::Chunked { Outgoing::Chunked } else { Outgoing::Plain }
}

/// Is this connection ready for the body of a request?
pub(super) fn takes_requests(conn: &Conn) -> bool {
    matches!(conn.state, State::Client(_) | State::Http2(_))
}

/// Writes what ends a body on HTTP/1; how many trailers were dropped.
fn end_chunks(framing: Framing, section: Option<&[u8]>, conn: &mut Conn) -> Result<usize, Reason> {
    let section = section.unwrap_or_default();
    if framing == Framing::Chunked {
        conn.tx.append(|out| http1::encode_last_chunk(out, section))
    } else {
        // There is no place for them.
        Ok(http1::trailer_count(section))
    }
}
