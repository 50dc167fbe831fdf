//! What goes out: heads, bodies in turns, credit, farewells.

use alloc::boxed::Box;

use bytes::BytesMut;

use super::super::budget::Budget;
use super::super::encode;
use super::super::error::{ErrorCode, Violation};
use super::super::frame::{self, FrameHeader, HEADER, Kind, flags};
use super::super::settings::MAX_WINDOW;
use super::super::stream::{Half, Part, StreamKey};
use super::{Body, Connection, Going, Ping, Trailers, opaque};
use crate::buf::OutQueue;
use crate::config::Timeouts;
use crate::error::Reason;
use crate::hpack::Encoder;
use crate::http::{Answer, Request, Response};
use crate::time::{Duration, Time};

/// How long streams that were opened before a GOAWAY was seen may take to arrive.
const FAREWELL: Duration = Duration::from_secs(1);

impl Connection {
    // ---- Heads ----

    /// Opens a stream with a request; `None` if [`Connection::capacity`] is 0. `host` is what
    /// `:authority` says; `end`: there is neither body nor trailers.
    pub fn send_request(
        &mut self,
        tx: &mut OutQueue,
        request: &Request<'_>,
        host: &[u8],
        end: bool,
        token: u64,
        now: Time,
    ) -> Option<StreamKey> {
        if self.capacity() == 0 {
            return None;
        }
        let id = self.next_id;
        self.next_id += 2;
        let key = self.add_stream(id, Half::Head, token, now);
        if let Some(stream) = self.streams.get_mut(key) {
            stream.flags.is_head = request.is_head;
            stream.flags.is_connect = request.is_connect || request.upgrade;
            stream.send = if end { Half::Done } else { Half::Body };
            stream.flags.ending = end;
        }
        self.headers_frame(tx, id, end, |hpack, out| encode::request(hpack, out, request, host));
        Some(key)
    }

    /// Sends a response head, final or informational, on a stream that has had no final one.
    pub fn send_response(
        &mut self,
        tx: &mut OutQueue,
        key: StreamKey,
        response: &Response<'_>,
        end: bool,
    ) {
        let interim = matches!(response.head.status, 100..=199);
        let part = if interim { Part::Interim } else { Part::Head };
        if self.advance(key, part, end) {
            self.headers_frame(tx, key.id, end, |hpack, out| {
                encode::response(hpack, out, response);
            });
            self.drop_if_over(key);
        }
    }

    /// Answers a CONNECT of either kind: what follows are the bytes of a tunnel.
    pub fn accept_tunnel(&mut self, tx: &mut OutQueue, key: StreamKey) {
        if self.advance(key, Part::Head, false) {
            self.headers_frame(tx, key.id, false, |hpack, out| {
                hpack.begin(out);
                hpack.status(out, 200);
            });
        }
    }

    /// Answers with an error of ours.
    pub fn send_error(&mut self, tx: &mut OutQueue, key: StreamKey, reason: Reason, grpc: bool) {
        self.send_answer(tx, key, &Answer::of(reason, grpc));
    }

    /// Answers a request with a response of ours.
    pub fn send_answer(&mut self, tx: &mut OutQueue, key: StreamKey, answer: &Answer<'_>) {
        if self.advance(key, Part::Head, true) {
            self.headers_frame(tx, key.id, true, |hpack, out| encode::answer(hpack, out, answer));
            self.drop_if_over(key);
        }
    }

    /// Notes what is sent on a stream; false if it cannot be.
    fn advance(&mut self, key: StreamKey, part: Part, end: bool) -> bool {
        let Some(stream) = self.streams.get_mut(key) else { return false };
        let Ok(next) = stream.send.after(part, end) else { return false };
        stream.send = next;
        stream.flags.ending |= end;
        true
    }

    /// Writes a header block: a HEADERS frame, and CONTINUATIONs if the peer's frames are too small
    /// for it.
    fn headers_frame<R>(
        &mut self,
        tx: &mut OutQueue,
        id: u32,
        end: bool,
        write: impl FnOnce(&mut Encoder, &mut BytesMut) -> R,
    ) -> R {
        let most = self.peer.max_frame_size as usize;
        let encoder = &mut self.encoder;
        tx.append(|out| {
            let start = out.len();
            out.extend_from_slice(&[0; HEADER]);
            let result = write(encoder, out);
            let length = out.len() - start - HEADER;
            let end_stream = if end { flags::END_STREAM } else { 0 };
            let mut header = FrameHeader {
                length,
                kind: Kind::Headers,
                flags: end_stream | flags::END_HEADERS,
                stream: id,
            };
            if length <= most {
                out[start..start + HEADER].copy_from_slice(&header.bytes());
                return result;
            }
            let block = out.split_off(start + HEADER);
            out.truncate(start);
            header.flags = end_stream;
            let mut fragments = block.chunks(most).peekable();
            while let Some(fragment) = fragments.next() {
                header.length = fragment.len();
                if fragments.peek().is_none() {
                    header.flags |= flags::END_HEADERS;
                }
                header.write(out);
                out.extend_from_slice(fragment);
                header.kind = Kind::Continuation;
                header.flags = 0;
            }
            result
        })
    }

    // ---- Bodies ----

    /// Where body bytes of a stream are put, if it takes any. [`Connection::body_added`] comes after.
    pub fn body(&mut self, key: StreamKey) -> Option<&mut OutQueue> {
        let stream = self.streams.get_mut(key)?;
        let takes = stream.send == Half::Body && !stream.flags.ending;
        takes.then_some(&mut stream.queue)
    }

    /// `n` bytes were put into the queue of a stream; `end`: they were the last.
    pub fn body_added(&mut self, key: StreamKey, n: usize, end: bool) {
        let Some(stream) = self.streams.get_mut(key) else { return };
        if stream.send != Half::Body {
            return;
        }
        stream.flags.ending |= end;
        self.queued += n;
        if stream.queue.is_unsettled() && !core::mem::replace(&mut stream.flags.unsettled, true) {
            self.unsettled.push(key);
        }
        self.note_sendable(key);
    }

    /// From now on, keeps the body bytes of a stream that are sent, so that
    /// [`Connection::take_body`] can have them back.
    pub(crate) fn retain_body(&mut self, key: StreamKey) {
        if let Some(stream) = self.streams.get_mut(key) {
            stream.queue.retain();
        }
    }

    /// The same, and it can be had back also when the stream is over.
    pub(crate) fn retain_body_to_the_end(&mut self, key: StreamKey) {
        if let Some(stream) = self.streams.get_mut(key) {
            stream.queue.retain();
            stream.flags.returns = true;
        }
    }

    /// Would [`Connection::take_body`] give the body back?
    pub(crate) fn keeps_body(&self, key: StreamKey) -> bool {
        match self.streams.get(key) {
            Some(stream) => stream.queue.is_retaining(),
            None => self.returned.as_ref().is_some_and(|(returned, _)| *returned == key),
        }
    }

    /// Forgets what was sent of a body and no longer keeps it.
    pub(crate) fn release_body(&mut self, key: StreamKey) {
        if let Some(stream) = self.streams.get_mut(key) {
            self.retained -= stream.queue.held() - stream.queue.unsent();
            stream.queue.release();
        }
    }

    /// Takes back a whole body that was retained, sent or not, of a stream that is open or has been
    /// the last to end. `None`: some of it is gone.
    pub(crate) fn take_body(&mut self, key: StreamKey) -> Option<Box<Body>> {
        if self.streams.get(key).is_some() {
            self.returned = None;
            self.drop_stream(key);
        }
        let (returned, mut body) = self.returned.take()?;
        if returned != key {
            return None;
        }
        body.queue.rewind();
        body.queue.release();
        Some(body)
    }

    /// Copies out what pins read buffers: for queues that outlive a turn.
    pub fn settle_queues(&mut self) {
        for key in core::mem::take(&mut self.unsettled) {
            if let Some(stream) = self.streams.get_mut(key) {
                stream.flags.unsettled = false;
                stream.queue.settle();
            }
        }
    }

    /// Are there queues that [`Connection::settle_queues`] should look at?
    pub(crate) fn is_unsettled(&self) -> bool {
        !self.unsettled.is_empty()
    }

    /// What still comes on a stream is not wanted: it is dropped. A peer that has not ended the
    /// stream some time after our answer is out is told so (RFC 9113 §8.1). Not at once: there are
    /// clients that drop an answer which a RST_STREAM follows, NO_ERROR or not (curl 7.88), and most
    /// are about to end their request anyway.
    pub fn abandon(&mut self, tx: &mut OutQueue, key: StreamKey, now: Time) {
        let Some(stream) = self.streams.get_mut(key) else { return };
        if stream.recv == Half::Done {
            return;
        }
        stream.flags.abandoned = true;
        let held = stream.held as usize;
        self.release(tx, key, held, false);
        if self.lingering.len() > 2 * self.streams.len() + 16 {
            let streams = &self.streams;
            self.lingering.retain(|&(_, key)| streams.get(key).is_some());
        }
        self.lingering.push_back((now + Timeouts::LINGER, key));
    }

    /// Resets the abandoned streams that have had their time.
    pub(super) fn end_lingering(&mut self, tx: &mut OutQueue, now: Time) {
        while let Some((_, key)) = self.lingering.pop_front_if(|&mut (due, _)| due <= now) {
            let Some(stream) = self.streams.get(key) else { continue };
            if stream.send == Half::Done {
                self.reset(tx, key, ErrorCode::NO_ERROR);
            } else {
                // The answer waits for the peer to read it. A slow reader is no dead one.
                self.lingering.push_back((now + Timeouts::LINGER, key));
            }
        }
    }

    /// Ends a stream with trailers, which are a section of HTTP/1, after what waits in its queue.
    /// Returns how many fields may not be sent as trailers and were dropped.
    ///
    /// # Errors
    ///
    /// [`Reason::Trailers`] if a line is not a field.
    pub fn send_trailers(
        &mut self,
        tx: &mut OutQueue,
        key: StreamKey,
        section: &[u8],
    ) -> Result<usize, Reason> {
        let (all, dropped) = encode::check_trailers(section)?;
        self.end_with(tx, key, section, all > dropped);
        Ok(dropped)
    }

    /// The same with trailers as another connection has received them, which need no second look.
    pub(crate) fn pass_trailers(
        &mut self,
        tx: &mut OutQueue,
        key: StreamKey,
        trailers: Trailers<'_>,
    ) -> usize {
        let dropped = trailers.forbidden();
        self.end_with(tx, key, trailers.section(), trailers.fields().len() > dropped);
        dropped
    }

    /// `any`: there are fields in the section that may go on.
    fn end_with(&mut self, tx: &mut OutQueue, key: StreamKey, section: &[u8], any: bool) {
        let Some(stream) = self.streams.get_mut(key) else { return };
        if stream.send != Half::Body || stream.flags.ending {
            return;
        }
        if !any {
            // A block without fields is legal, and what no peer expects.
            return self.body_added(key, 0, true);
        }
        stream.flags.ending = true;
        stream.trailers = Some(section.into());
        if stream.queue.unsent() == 0 {
            self.end_body(tx, key);
        }
    }

    /// Puts a stream on the list of those that can send, if it can.
    pub(super) fn note_sendable(&mut self, key: StreamKey) {
        let Some(stream) = self.streams.get_mut(key) else { return };
        let waiting = stream.queue.unsent() > 0;
        let can = if waiting { stream.send_window > 0 } else { stream.flags.ending };
        if can && stream.send == Half::Body && !stream.flags.sendable {
            stream.flags.sendable = true;
            if waiting {
                self.sendable.push_back(key);
            } else {
                // An end needs no credit: it does not wait for that of the connection.
                self.sendable.push_front(key);
            }
        }
    }

    /// Frames what waits, each stream in its turn, while windows allow and `tx` holds less than
    /// `high_water` bytes.
    pub fn flush(&mut self, tx: &mut OutQueue, high_water: usize) {
        while tx.unsent() < high_water {
            let Some(key) = self.sendable.pop_front() else { return };
            let Some(stream) = self.streams.get_mut(key) else { continue };
            stream.flags.sendable = false;
            if stream.queue.unsent() == 0 {
                self.end_body(tx, key);
                continue;
            }
            let credit = stream.send_window.min(self.send_window).max(0) as usize;
            let most = credit.min(self.peer.max_frame_size as usize).min(frame::DEFAULT_MAX_FRAME);
            if most == 0 {
                if stream.send_window > 0 {
                    // The connection has no credit: the turn is kept.
                    stream.flags.sendable = true;
                    self.sendable.push_front(key);
                    return;
                }
                continue;
            }
            self.data_frame(tx, key, most);
        }
    }

    /// The same if one stream alone has something to send. For when a body has just become whole: it
    /// goes right behind its head, so that the other side can pass a small message on in one piece,
    /// and not the heads of many first. Where others wait, it waits for its turn.
    pub fn flush_alone(&mut self, tx: &mut OutQueue, high_water: usize) {
        if self.sendable.len() == 1 {
            self.flush(tx, high_water);
        }
    }

    /// Writes one DATA frame of at most `most` bytes.
    fn data_frame(&mut self, tx: &mut OutQueue, key: StreamKey, most: usize) {
        let Some(stream) = self.streams.get_mut(key) else { return };
        let length = stream.queue.unsent().min(most);
        let last = length == stream.queue.unsent();
        let end = last && stream.flags.ending && stream.trailers.is_none();
        let flags = if end { flags::END_STREAM } else { 0 };
        tx.append(|out| FrameHeader { length, kind: Kind::Data, flags, stream: key.id }.write(out));
        stream.queue.pass(tx, length);
        stream.send_window = stream.send_window.saturating_sub_unsigned(length as u32);
        self.send_window = self.send_window.saturating_sub_unsigned(length as u32);
        self.queued -= length;
        if stream.queue.is_retaining() {
            self.retained += length;
        }
        // Cut short by a window that the peer opens a crack at a time: its next update is paid for.
        let drip = !last && length < Budget::WORTHWHILE;
        self.budget.earn(if drip { Budget::FRAME } else { Budget::DATA_SENT });
        if !core::mem::replace(&mut stream.flags.progressed, true) {
            self.progressed.push_back(key);
        }
        if end {
            stream.send = Half::Done;
            self.drop_if_over(key);
        } else if last && stream.flags.ending {
            self.end_body(tx, key);
        } else {
            self.note_sendable(key);
        }
    }

    /// Everything that waited is sent: trailers, or an empty DATA frame, end the stream.
    fn end_body(&mut self, tx: &mut OutQueue, key: StreamKey) {
        let Some(stream) = self.streams.get_mut(key) else { return };
        if !stream.flags.ending || stream.send != Half::Body {
            return;
        }
        stream.send = Half::Done;
        let kept = stream.queue.is_retaining();
        let trailers = if kept { stream.trailers.clone() } else { stream.trailers.take() };
        match trailers {
            Some(section) => {
                self.headers_frame(tx, key.id, true, |hpack, out| {
                    encode::trailers(hpack, out, &section);
                });
            }
            None => tx.append(|out| {
                let flags = flags::END_STREAM;
                FrameHeader { length: 0, kind: Kind::Data, flags, stream: key.id }.write(out);
            }),
        }
        self.drop_if_over(key);
    }

    // ---- Credit ----

    /// `n` body bytes of a stream have gone on: the peer may send as many more. A stream whose bytes
    /// go on as fast as they come gets a larger window if `may_grow`.
    pub fn release(&mut self, tx: &mut OutQueue, key: StreamKey, n: usize, may_grow: bool) {
        let Some(stream) = self.streams.get_mut(key) else { return };
        let n = n.min(stream.held as usize);
        stream.held -= n as u32;
        stream.credit += if canary!(LeakedWindow) { 0 } else { n as u32 };
        self.held -= n;
        self.credit_stream(tx, key, may_grow);
    }

    /// Gives a stream's credit back once it is half of its window.
    pub(super) fn credit_stream(&mut self, tx: &mut OutQueue, key: StreamKey, may_grow: bool) {
        let Some(stream) = self.streams.get_mut(key) else { return };
        let due = stream.credit > 0 && stream.credit >= stream.window.div_ceil(2);
        if stream.recv == Half::Done || !due {
            return;
        }
        let mut increment = core::mem::take(&mut stream.credit);
        let limit = self.config.max_stream_window;
        // Nothing is held: the far side keeps up, and the window is what limits.
        if may_grow && stream.held == 0 && stream.window < limit {
            let growth = stream.window.min(limit - stream.window);
            let growth = growth.min(self.config.max_growth - self.growth);
            stream.window += growth;
            self.growth += growth;
            increment += growth;
        }
        stream.recv_window = stream.recv_window.saturating_add_unsigned(increment);
        tx.append(|out| frame::write_window_update(out, key.id, increment));
    }

    /// The connection's credit is given back as soon as bytes arrive, whatever becomes of them: a
    /// stream that stalls holds its own window, never that of the others.
    pub(super) fn credit_connection(&mut self, n: u32, tx: &mut OutQueue) {
        self.recv_credit += n;
        if self.recv_credit >= self.config.connection_window / 2 {
            let increment = core::mem::take(&mut self.recv_credit);
            self.recv_window = self.recv_window.saturating_add_unsigned(increment);
            tx.append(|out| frame::write_window_update(out, 0, increment));
        }
    }

    // ---- Ends ----

    /// Resets a stream. What waits on it is gone.
    pub fn reset(&mut self, tx: &mut OutQueue, key: StreamKey, code: ErrorCode) {
        if self.drop_stream(key).is_some() {
            tx.append(|out| frame::write_reset(out, key.id, code));
            self.past.note_reset(key.id);
        }
    }

    /// Says goodbye in two steps (RFC 9113 §6.8): no stream that the peer opens before it knows is
    /// lost. Streams that are open go on. [`Connection::is_over`] says when it can be closed.
    pub fn shut_down(&mut self, tx: &mut OutQueue, now: Time) {
        if self.going != Going::No || self.dead.is_some() {
            return;
        }
        self.going = Going::Announced(now + FAREWELL);
        tx.append(|out| {
            frame::write_goaway(out, MAX_WINDOW, ErrorCode::NO_ERROR, "");
            frame::write_ping(out, false, opaque::FAREWELL);
        });
    }

    /// The second step.
    pub(super) fn say_last(&mut self, tx: &mut OutQueue) {
        let last = self.last_peer;
        self.going = Going::Last(last);
        tx.append(|out| frame::write_goaway(out, last, ErrorCode::NO_ERROR, ""));
    }

    /// The connection is broken.
    pub(super) fn die(&mut self, violation: Violation, tx: &mut OutQueue) {
        self.dead = Some(violation);
        // It never grows (RFC 9113 §6.8).
        let last = match self.going {
            Going::Last(last) => last,
            Going::No | Going::Announced(_) => self.last_peer,
        };
        let (code, message) = (violation.code(), violation.message());
        tx.append(|out| frame::write_goaway(out, last, code, message));
    }

    /// Asks whether the peer is still there; [`Connection::deadline`] is when it has to have
    /// answered.
    pub fn keep_alive(&mut self, tx: &mut OutQueue, now: Time) {
        if self.ping == Ping::No {
            self.ping = Ping::Sent(now + self.config.ping_timeout);
            tx.append(|out| frame::write_ping(out, false, opaque::KEEP_ALIVE));
        }
    }
}
