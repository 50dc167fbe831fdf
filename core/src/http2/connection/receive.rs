//! What comes in: frames, up to what they mean for their stream.

use alloc::vec::Vec;

use bytes::{Buf, BytesMut};

use super::super::budget::Budget;
use super::super::error::{ErrorCode, Fault, Violation};
use super::super::frame::{self, FrameHeader, HEADER, Kind, PREFACE, flags, word31};
use super::super::message::Scratch;
use super::super::settings::{self, DEFAULT_WINDOW, MAX_WINDOW};
use super::super::stream::{Half, Part, StreamKey};
use super::{Connection, DataFrame, Event, Going, Phase, Ping, Role, opaque};
use crate::buf::OutQueue;
use crate::limits::Limits;
use crate::time::Time;

/// The arguments that everything here needs.
pub(super) struct Io<'a> {
    pub(super) tx: &'a mut OutQueue,
    pub(super) limits: &'a Limits,
    pub(super) now: Time,
}

/// What looking at the next bytes came to.
pub(super) enum Step {
    /// Something that does not need the scratch.
    Event(Event<'static>),
    /// A message that was read to the scratch.
    Message(super::block::Message),
    /// It was for ourselves.
    Next,
    /// It is not all there.
    More,
}

impl Connection {
    /// After so many steps (a frame takes one or two) a call returns even if nothing happened.
    pub const SILENT_STEPS: usize = 32;

    /// Takes frames off `rx` until something happens that its owner has to know; `None`: more bytes
    /// are needed. `scratch` holds the head of a message until the next call.
    ///
    /// # Errors
    ///
    /// The peer broke a rule that costs the connection. A GOAWAY is in `tx`; everything that is not
    /// over is lost, and further calls return the same.
    pub fn poll<'s>(
        &mut self,
        rx: &mut BytesMut,
        tx: &mut OutQueue,
        scratch: &'s mut Scratch,
        limits: &Limits,
        now: Time,
    ) -> Result<Option<Event<'s>>, Violation> {
        if let Some(violation) = self.dead {
            return Err(violation);
        }
        let mut io = Io { tx, limits, now };
        for _ in 0..Self::SILENT_STEPS {
            let step = self.step(rx, scratch, &mut io);
            match step.or_else(|fault| self.settle_fault(fault, &mut io))? {
                Step::Event(event) => return Ok(Some(event)),
                Step::Message(message) => return Ok(Some(message.event(scratch))),
                Step::Next => {}
                Step::More => return Ok(None),
            }
        }
        Ok(Some(Event::Silence))
    }

    fn step(
        &mut self,
        rx: &mut BytesMut,
        scratch: &mut Scratch,
        io: &mut Io<'_>,
    ) -> Result<Step, Fault> {
        if let Phase::Preface(seen) = self.phase {
            return self.preface(rx, seen);
        }
        if self.skip > 0 {
            let n = self.skip.min(rx.len());
            rx.advance(n);
            self.skip -= n;
            return Ok(if self.skip > 0 { Step::More } else { Step::Next });
        }
        if let Some(data) = self.data {
            return Ok(self.data_bytes(rx, data, io));
        }
        let Some(header) = FrameHeader::parse(rx) else { return Ok(Step::More) };
        if let Err(fault) = self.check(header) {
            rx.advance(HEADER);
            self.skip = header.length;
            return Err(fault);
        }
        let whole = HEADER + header.length;
        match header.kind {
            Kind::Data => return self.data_header(rx, header, io),
            Kind::Unknown(_) => {
                // Skipped as it comes (RFC 9113 §4.1).
                self.spend(Budget::FRAME, io.now)?;
                rx.advance(HEADER);
                self.skip = header.length;
                return Ok(Step::Next);
            }
            _ if rx.len() < whole => {
                self.note_partial_block(header, io.now);
                return Ok(Step::More);
            }
            _ => {}
        }
        // The frame leaves `rx` whatever becomes of it.
        let step = self.frame(header, &rx[HEADER..whole], scratch, io);
        rx.advance(whole);
        step
    }

    fn preface(&mut self, rx: &mut BytesMut, seen: usize) -> Result<Step, Fault> {
        let n = rx.len().min(PREFACE.len() - seen);
        if rx[..n] != PREFACE[seen..seen + n] {
            return Err(Fault::Connection(Violation::Preface));
        }
        rx.advance(n);
        if seen + n < PREFACE.len() {
            self.phase = Phase::Preface(seen + n);
            return Ok(Step::More);
        }
        self.phase = Phase::Settings;
        Ok(Step::Next)
    }

    /// What can be told from the header of a frame.
    fn check(&self, header: FrameHeader) -> Result<(), Fault> {
        let fail = |violation| Err(Fault::Connection(violation));
        let FrameHeader { length, kind, stream, .. } = header;
        if self.phase == Phase::Settings && self.role == Role::Client && header.is_http1() {
            return fail(Violation::Http1Answer);
        }
        if length > self.config.settings.max_frame_size as usize {
            return fail(Violation::FrameTooLarge);
        }
        if self.phase == Phase::Settings && (kind != Kind::Settings || header.has(flags::ACK)) {
            return fail(Violation::PrefaceSettings);
        }
        match &self.block {
            Some(block) if kind != Kind::Continuation || stream != block.start.stream => {
                return fail(Violation::Interleaved);
            }
            None if kind == Kind::Continuation => return fail(Violation::Continuation),
            _ => {}
        }
        let on_stream = match kind {
            Kind::Data
            | Kind::Headers
            | Kind::Priority
            | Kind::RstStream
            | Kind::PushPromise
            | Kind::Continuation => Some(true),
            Kind::Settings | Kind::Ping | Kind::GoAway | Kind::PriorityUpdate => Some(false),
            Kind::WindowUpdate | Kind::Unknown(_) => None,
        };
        if on_stream.is_some_and(|on_stream| on_stream != (stream != 0)) {
            return fail(Violation::FrameStream);
        }
        let fits = match kind {
            // RFC 9113 §6.3: this one costs only the stream.
            Kind::Priority if length != 5 => {
                return Err(Fault::Stream(stream, Violation::FrameLength));
            }
            Kind::RstStream | Kind::WindowUpdate => length == 4,
            Kind::Ping => length == 8,
            Kind::Settings if header.has(flags::ACK) => length == 0,
            Kind::Settings => length % 6 == 0,
            Kind::GoAway => length >= 8,
            Kind::PriorityUpdate => length >= 4,
            _ => true,
        };
        if fits { Ok(()) } else { fail(Violation::FrameLength) }
    }

    fn frame(
        &mut self,
        header: FrameHeader,
        payload: &[u8],
        scratch: &mut Scratch,
        io: &mut Io<'_>,
    ) -> Result<Step, Fault> {
        match header.kind {
            Kind::Headers => self.headers(header, payload, scratch, io),
            Kind::Continuation => self.continuation(header, payload, scratch, io),
            Kind::Settings => self.settings(header, payload, io),
            Kind::Ping => self.ping_frame(header, payload, io),
            Kind::WindowUpdate => self.window_update(header.stream, payload, io),
            Kind::RstStream => self.rst_stream(header.stream, payload, io),
            Kind::GoAway => {
                self.spend(Budget::FRAME, io.now)?;
                Ok(self.goaway(payload))
            }
            Kind::Priority => {
                self.spend(Budget::FRAME, io.now)?;
                check_dependency(header.stream, payload)
                    .map_err(|violation| Fault::Stream(header.stream, violation))?;
                Ok(Step::Next)
            }
            // A server is never pushed to, and we told servers not to (RFC 9113 §8.4).
            Kind::PushPromise => Err(Fault::Connection(Violation::Push)),
            Kind::PriorityUpdate => {
                self.spend(Budget::FRAME, io.now)?;
                // RFC 9218 §7.1: about a stream, from a client.
                let about = word31(payload).map_or(0, |(_, stream)| stream);
                if about == 0 || self.role == Role::Client {
                    return Err(Fault::Connection(Violation::PriorityUpdate));
                }
                Ok(Step::Next)
            }
            Kind::Data | Kind::Unknown(_) => Ok(Step::Next),
        }
    }

    // ---- Streams ----

    /// The stream that a frame is for; `None`: one that is over, and whose frames may still be
    /// under way.
    pub(super) fn stream_of(&self, id: u32) -> Result<Option<StreamKey>, Violation> {
        if let Some(key) = self.streams.find(id) {
            return Ok(Some(key));
        }
        let idle = if self.is_ours(id) { id >= self.next_id } else { id > self.last_peer };
        if idle { Err(Violation::StreamIdle) } else { Ok(None) }
    }

    /// DATA or HEADERS for a stream that is over: fine if we reset it, else the peer's mistake.
    pub(super) fn late(&self, id: u32) -> Result<(), Fault> {
        // We said that we would not look at it (RFC 9113 §6.8).
        let unprocessed = match self.going {
            Going::Last(last) => !self.is_ours(id) && id > last,
            Going::No | Going::Announced(_) => false,
        };
        if unprocessed || self.past.was_reset(id) {
            Ok(())
        } else {
            Err(Fault::Stream(id, Violation::StreamClosed))
        }
    }

    fn data_header(
        &mut self,
        rx: &mut BytesMut,
        header: FrameHeader,
        io: &mut Io<'_>,
    ) -> Result<Step, Fault> {
        let padded = header.has(flags::PADDED);
        if rx.len() < HEADER + usize::from(padded) && header.length > 0 {
            return Ok(Step::More);
        }
        let (mut content, mut padding) = (header.length, 0);
        if padded {
            padding = rx[HEADER..]
                .first()
                .filter(|_| content > 0)
                .copied()
                .map(usize::from)
                .ok_or(Fault::Connection(Violation::FrameLength))?;
            content -= 1;
            content = content.checked_sub(padding).ok_or(Fault::Connection(Violation::Padding))?;
        }
        rx.advance(HEADER + usize::from(padded));
        let end = header.has(flags::END_STREAM);
        let stream = self.begin_data(header, content, end, io)?;
        self.data = Some(DataFrame { stream, left: content, padding, end });
        Ok(Step::Next)
    }

    /// Charges a DATA frame to the windows; the stream it is for, if that takes it.
    fn begin_data(
        &mut self,
        header: FrameHeader,
        content: usize,
        end: bool,
        io: &mut Io<'_>,
    ) -> Result<Option<StreamKey>, Fault> {
        let length = header.length as u32;
        let key = self.stream_of(header.stream).map_err(Fault::Connection)?;
        // A frame for a stream that is over counts, too (RFC 9113 §5.1).
        self.recv_window = self.recv_window.saturating_sub_unsigned(length);
        if self.recv_window < 0 {
            return Err(Fault::Connection(Violation::Window));
        }
        self.credit_connection(length, io.tx);
        if content == 0 && !end {
            self.spend(Budget::EMPTY, io.now)?;
        } else if content >= Budget::WORTHWHILE {
            self.budget.earn(Budget::DATA_RECEIVED);
        }
        let fault = |violation| Fault::Stream(header.stream, violation);
        let Some(key) = key else {
            self.skip = header.length - usize::from(header.has(flags::PADDED));
            self.late(header.stream)?;
            return Err(Fault::Ignore);
        };
        let Some(stream) = self.streams.get_mut(key) else { return Ok(None) };
        let result = stream.recv.after(Part::Data, end).map_err(fault).and_then(|_| {
            stream.recv_window = stream.recv_window.saturating_sub_unsigned(length);
            // What is empty needs no window, and that may be below 0 (RFC 9113 §6.9.1, §6.9.2).
            if stream.recv_window < 0 && length > 0 {
                return Err(fault(Violation::Window));
            }
            // Padding is gone at once.
            stream.credit += length - content as u32;
            let promised = stream.promised.get_or_insert(u64::MAX);
            let left = promised.checked_sub(content as u64);
            let left = left.ok_or(fault(Violation::ContentMismatch))?;
            if *promised == u64::MAX {
                stream.promised = None;
            } else if end && left > 0 {
                return Err(fault(Violation::ContentMismatch));
            } else {
                *promised = left;
            }
            stream.held += content as u32;
            Ok(())
        });
        if result.is_err() {
            self.skip = header.length - usize::from(header.has(flags::PADDED));
        } else {
            self.held += content;
            if !end {
                self.credit_stream(io.tx, key, false);
            }
        }
        result.map(|()| Some(key))
    }

    /// What has come of a DATA frame's content.
    fn data_bytes(&mut self, rx: &mut BytesMut, mut data: DataFrame, io: &mut Io<'_>) -> Step {
        let n = data.left.min(rx.len());
        let last = n == data.left;
        if n == 0 && !last {
            return Step::More;
        }
        data.left -= n;
        self.data = if last { None } else { Some(data) };
        if last {
            self.skip = data.padding;
        }
        let content = rx.split_to(n);
        let Some(key) = data.stream else { return Step::Next };
        let Some(stream) = self.streams.get_mut(key) else { return Step::Next };
        let (token, end) = (stream.token, last && data.end);
        let unwanted = stream.flags.abandoned;
        if end {
            // Not before: a stream both of whose directions are done is over.
            stream.recv = Half::Done;
            self.drop_if_over(key);
        }
        if unwanted {
            self.release(io.tx, key, n, false);
        }
        if unwanted || content.is_empty() && !end {
            return Step::Next;
        }
        Step::Event(Event::Data { stream: key, token, data: content, end })
    }

    fn rst_stream(&mut self, id: u32, payload: &[u8], io: &mut Io<'_>) -> Result<Step, Fault> {
        let code = ErrorCode(u32::from_be_bytes(payload.try_into().unwrap_or_default()));
        let key = self.stream_of(id).map_err(Fault::Connection)?;
        let Some(stream) = key.and_then(|key| self.drop_stream(key).map(|stream| (key, stream)))
        else {
            // It crossed ours, or the end.
            self.spend(Budget::OLD_RESET, io.now)?;
            return Ok(Step::Next);
        };
        let (key, stream) = stream;
        let young = io.now.saturating_since(stream.opened) < Budget::OLD;
        let cost = if young { Budget::YOUNG_RESET } else { Budget::OLD_RESET };
        // Servers that answer early say so; clients may make work for nothing.
        let free = self.role == Role::Client;
        if !free && !self.budget.spend(cost, io.now) {
            return Err(Fault::Connection(Violation::RapidReset));
        }
        Ok(Step::Event(Event::Reset { stream: key, token: stream.token, code }))
    }

    fn window_update(&mut self, id: u32, payload: &[u8], io: &mut Io<'_>) -> Result<Step, Fault> {
        let increment = word31(payload).map_or(0, |(_, increment)| increment);
        let fault = |violation| match id {
            0 => Fault::Connection(violation),
            _ => Fault::Stream(id, violation),
        };
        self.spend(Budget::FRAME, io.now)?;
        if id == 0 {
            if increment == 0 {
                return Err(fault(Violation::WindowIncrement));
            }
            self.send_window = self
                .send_window
                .checked_add_unsigned(increment)
                .ok_or(fault(Violation::WindowOverflow))?;
            return Ok(Step::Next);
        }
        let key = self.stream_of(id).map_err(Fault::Connection)?;
        // One that comes after the end is nobody's fault (RFC 9113 §5.1).
        let Some(stream) = key.and_then(|key| self.streams.get_mut(key)) else {
            return Ok(Step::Next);
        };
        if increment == 0 {
            return Err(fault(Violation::WindowIncrement));
        }
        stream.send_window = stream
            .send_window
            .checked_add_unsigned(increment)
            .ok_or(fault(Violation::WindowOverflow))?;
        self.note_sendable(key.unwrap_or(StreamKey { slot: u32::MAX, id }));
        Ok(Step::Next)
    }

    // ---- The connection ----

    fn settings(
        &mut self,
        header: FrameHeader,
        payload: &[u8],
        io: &mut Io<'_>,
    ) -> Result<Step, Fault> {
        if header.has(flags::ACK) {
            return self.settings_acked(io);
        }
        let streams = self.streams.len() as u32 / Budget::STREAMS_PER_UNIT;
        self.spend(Budget::SETTINGS + streams, io.now)?;
        let before = self.peer;
        self.peer.apply(payload).map_err(Fault::Connection)?;
        // Push is a client's to allow (RFC 9113 §6.5.2).
        if self.role == Role::Client && self.peer.enable_push && !before.enable_push {
            return Err(Fault::Connection(Violation::SettingValue));
        }
        for size in settings::header_table_sizes(payload) {
            self.encoder.set_peer_limit(size);
        }
        if self.peer.initial_window_size != before.initial_window_size {
            self.change_send_windows(before.initial_window_size)?;
        }
        io.tx.append(settings::write_ack);
        self.phase = Phase::Open;
        Ok(Step::Event(Event::Settings))
    }

    /// RFC 9113 §6.9.2: a change of the initial window changes every window by as much.
    fn change_send_windows(&mut self, before: u32) -> Result<(), Fault> {
        let change = i64::from(self.peer.initial_window_size) - i64::from(before);
        let mut grown = Vec::new();
        for (key, stream) in self.streams.values_mut() {
            let window = i64::from(stream.send_window) + change;
            if window > i64::from(MAX_WINDOW) {
                return Err(Fault::Connection(Violation::WindowOverflow));
            }
            stream.send_window = window as i32;
            if change > 0 && stream.queue.unsent() > 0 {
                grown.push(key);
            }
        }
        for key in grown {
            self.note_sendable(key);
        }
        Ok(())
    }

    /// Our SETTINGS hold from here on: streams begin with our window, not with the default.
    fn settings_acked(&mut self, io: &mut Io<'_>) -> Result<Step, Fault> {
        if self.settings_due.take().is_none() {
            return Err(Fault::Connection(Violation::SettingsAck));
        }
        let settings = &self.config.settings;
        self.decoder.set_limit(settings.header_table_size);
        let window = settings.initial_window_size;
        let change = i64::from(window) - i64::from(DEFAULT_WINDOW);
        self.base_window = window;
        for (_, stream) in self.streams.values_mut() {
            stream.recv_window = (i64::from(stream.recv_window) + change) as i32;
            stream.window = (i64::from(stream.window) + change) as u32;
        }
        // What was too little to give back of the larger window is enough of the smaller one, and the
        // peer may wait for it.
        let keys: Vec<StreamKey> = self.streams.keys().collect();
        for key in keys {
            self.credit_stream(io.tx, key, false);
        }
        Ok(Step::Next)
    }

    fn ping_frame(
        &mut self,
        header: FrameHeader,
        payload: &[u8],
        io: &mut Io<'_>,
    ) -> Result<Step, Fault> {
        let content: [u8; 8] = payload.try_into().unwrap_or_default();
        if !header.has(flags::ACK) {
            self.spend(Budget::FRAME, io.now)?;
            io.tx.append(|out| frame::write_ping(out, true, content));
            return Ok(Step::Next);
        }
        match content {
            opaque::KEEP_ALIVE if self.ping != Ping::No => self.ping = Ping::No,
            opaque::FAREWELL if matches!(self.going, Going::Announced(_)) => {
                self.say_last(io.tx);
            }
            // An answer to nothing.
            _ => self.spend(Budget::FRAME, io.now)?,
        }
        Ok(Step::Next)
    }

    fn goaway(&mut self, payload: &[u8]) -> Step {
        let last = word31(payload).map_or(0, |(_, last)| last);
        let code = word31(&payload[4..]).map_or(0, |(high, low)| u32::from(high) << 31 | low);
        // A second one may lower it, never raise it (RFC 9113 §6.8).
        let last = self.peer_going.map_or(last, |before| last.min(before));
        self.peer_going = Some(last);
        Step::Event(Event::GoAway { last, code: ErrorCode(code) })
    }

    // ---- What is wrong ----

    /// What a fault costs.
    fn settle_fault(&mut self, fault: Fault, io: &mut Io<'_>) -> Result<Step, Violation> {
        match fault {
            Fault::Ignore => Ok(Step::Next),
            Fault::Connection(violation) => {
                self.die(violation, io.tx);
                Err(violation)
            }
            // An idle stream cannot be reset (RFC 9113 §5.1).
            Fault::Stream(id, violation) if self.stream_of(id).is_err() => {
                self.die(violation, io.tx);
                Err(violation)
            }
            Fault::Stream(id, violation) => {
                let late = violation == Violation::StreamClosed && self.streams.find(id).is_none();
                let cost = if late { Budget::LATE } else { Budget::STREAM_ERROR };
                if !self.budget.spend(cost, io.now) {
                    self.die(Violation::Overhead, io.tx);
                    return Err(Violation::Overhead);
                }
                io.tx.append(|out| frame::write_reset(out, id, violation.code()));
                self.past.note_reset(id);
                let stream = self.streams.find(id);
                let gone = stream.and_then(|key| self.drop_stream(key).map(|gone| (key, gone)));
                Ok(match gone {
                    Some((stream, gone)) => {
                        Step::Event(Event::Broken { stream, token: gone.token, violation })
                    }
                    None => Step::Event(Event::Offence(violation)),
                })
            }
        }
    }

    /// Is anything of this stream still expected?
    pub(super) fn takes_fields(&self, key: StreamKey) -> bool {
        self.streams.get(key).is_some_and(|stream| stream.recv != Half::Done)
    }
}

/// RFC 7540 §5.3.1, which RFC 9113 left out with everything else about priorities.
pub(super) fn check_dependency(stream: u32, fields: &[u8]) -> Result<(), Violation> {
    match word31(fields) {
        Some((_, parent)) if parent == stream => Err(Violation::SelfDependency),
        _ => Ok(()),
    }
}
