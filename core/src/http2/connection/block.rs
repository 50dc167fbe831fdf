//! Header blocks: HEADERS and CONTINUATION, up to the message they are.

use bytes::BytesMut;

use super::super::budget::Budget;
use super::super::error::{Fault, Violation};
use super::super::frame::{FrameHeader, HEADER, Kind, flags, unpad};
use super::super::message::{BlockKind, Reader, Refusal, RequestFacts, ResponseFacts, Scratch};
use super::super::stream::{Half, Part, StreamKey};
use super::receive::{Io, Step, check_dependency};
use super::{Block, BlockStart, Connection, Event, Going, Role, Trailers};
use crate::error::Reason;
use crate::hpack::Decoded;
use crate::http::Framing;
use crate::http1::ResponseTo;
use crate::limits::Limits;
use crate::time::Time;

/// A message that was read to the scratch.
#[derive(Debug)]
pub(super) enum Message {
    Request { stream: StreamKey, facts: RequestFacts, end: bool },
    Response { stream: StreamKey, token: u64, facts: ResponseFacts, end: bool },
    Trailers { stream: StreamKey, token: u64 },
}

impl Message {
    pub(super) fn event(self, scratch: &Scratch) -> Event<'_> {
        match self {
            Message::Request { stream, facts, end } => {
                Event::Request { stream, request: scratch.request(facts), end }
            }
            Message::Response { stream, token, facts, end } => {
                Event::Response { stream, token, response: scratch.response(&facts), end }
            }
            Message::Trailers { stream, token } => {
                Event::Trailers { stream, token, fields: Trailers(scratch.fields()) }
            }
        }
    }
}

impl Connection {
    /// The time for a header block runs from its first byte.
    pub(super) fn note_partial_block(&mut self, header: FrameHeader, now: Time) {
        if header.kind == Kind::Headers {
            self.block_since.get_or_insert(now);
        }
    }

    pub(super) fn headers(
        &mut self,
        header: FrameHeader,
        payload: &[u8],
        scratch: &mut Scratch,
        io: &mut Io<'_>,
    ) -> Result<Step, Fault> {
        let mut fragment = unpad(header, payload).map_err(Fault::Connection)?;
        let mut violation = None;
        if header.has(flags::PRIORITY) {
            let (priority, rest) =
                fragment.split_at_checked(5).ok_or(Fault::Connection(Violation::FrameLength))?;
            violation = check_dependency(header.stream, priority).err();
            fragment = rest;
        }
        let (stream, end) = (header.stream, header.has(flags::END_STREAM));
        if header.has(flags::END_HEADERS) {
            self.block_since = None;
            return self.block(BlockStart { stream, end, violation }, fragment, scratch, io);
        }
        if fragment.is_empty() {
            self.spend(Budget::EMPTY, io.now)?;
        }
        self.block_since.get_or_insert(io.now);
        let start = BlockStart { stream, end, violation };
        self.block = Some(Block { start, fragments: BytesMut::from(fragment) });
        Ok(Step::Next)
    }

    pub(super) fn continuation(
        &mut self,
        header: FrameHeader,
        payload: &[u8],
        scratch: &mut Scratch,
        io: &mut Io<'_>,
    ) -> Result<Step, Fault> {
        // CVE-2024-27316: neither many bytes nor many frames.
        if payload.len() < HEADER && !header.has(flags::END_HEADERS) {
            self.spend(Budget::EMPTY, io.now)?;
        }
        let Some(mut block) = self.block.take() else { return Ok(Step::Next) };
        if block.fragments.len() + payload.len() > block_limit(io.limits) {
            return Err(Fault::Connection(Violation::BlockTooLarge));
        }
        block.fragments.extend_from_slice(payload);
        if !header.has(flags::END_HEADERS) {
            self.block = Some(block);
            return Ok(Step::Next);
        }
        self.block_since = None;
        self.block(block.start, &block.fragments, scratch, io)
    }

    /// A whole block. It is decoded in any case: the table of HPACK belongs to the connection.
    fn block(
        &mut self,
        start: BlockStart,
        block: &[u8],
        scratch: &mut Scratch,
        io: &mut Io<'_>,
    ) -> Result<Step, Fault> {
        let BlockStart { stream: id, end, violation } = start;
        let place = self.place(id);
        let kind = match place {
            Ok(Place::Request) => BlockKind::Request,
            Ok(Place::Response(_)) => BlockKind::Response,
            _ => BlockKind::Trailers,
        };
        let extended = self.config.settings.enable_connect_protocol;
        let mut reader = Reader::new(scratch, kind, extended);
        // Twice the limit, by HPACK's own measure: what is between is answered 431.
        let most = 2 * io.limits.header_bytes + 32 * Limits::MAX_HEADER_COUNT;
        let decoded = self
            .decoder
            .decode(block, most, |line| reader.field(&line))
            .map_err(|_| Fault::Connection(Violation::Compression))?;
        let too_large = decoded == Decoded::TooLarge;
        let place = place?;
        if let Some(violation) = violation {
            if matches!(place, Place::Request) {
                self.note_peer_stream(id);
            }
            return Err(Fault::Stream(id, violation));
        }
        match place {
            Place::Request => self.request(id, end, reader, too_large, io),
            Place::Response(key) => self.response(key, end, reader, too_large, io),
            Place::Trailers(key) => self.trailers(key, end, reader, too_large, io),
            Place::Nowhere => Ok(Step::Next),
        }
    }

    /// What a block on this stream is.
    fn place(&mut self, id: u32) -> Result<Place, Fault> {
        if let Some(key) = self.streams.find(id) {
            if !self.takes_fields(key) {
                return Err(Fault::Stream(id, Violation::StreamClosed));
            }
            let head = self.streams.get(key).is_some_and(|stream| stream.recv == Half::Head);
            return Ok(if head { Place::Response(key) } else { Place::Trailers(key) });
        }
        if self.is_ours(id) {
            // Streams of ours that are idle get no HEADERS, and even ones none at all.
            let violation = if id < self.next_id { None } else { Some(Violation::StreamIdle) };
            return violation.map_or_else(
                || self.late(id).map(|()| Place::Nowhere),
                |violation| Err(Fault::Connection(violation)),
            );
        }
        if self.role == Role::Client || id.is_multiple_of(2) {
            return Err(Fault::Connection(Violation::StreamId));
        }
        if id > self.last_peer {
            if matches!(self.going, Going::Last(_)) {
                // We said that we would not look at it. What follows is for a stream that is over.
                self.last_peer = id;
                return Ok(Place::Nowhere);
            }
            return Ok(Place::Request);
        }
        if self.past.was_passed_over(id) {
            return Err(Fault::Connection(Violation::StreamId));
        }
        self.late_fields(id).map(|()| Place::Nowhere)
    }

    /// A client's block for a stream that is over. One that we have certainly not reset was ended by
    /// the client itself: it has lost count of its streams, and the connection ends (RFC 9113
    /// §5.1).
    fn late_fields(&self, id: u32) -> Result<(), Fault> {
        self.late(id).map_err(|fault| match fault {
            Fault::Stream(_, violation) if !self.past.may_have_reset(id) => {
                Fault::Connection(violation)
            }
            fault => fault,
        })
    }

    fn request(
        &mut self,
        id: u32,
        end: bool,
        reader: Reader<'_>,
        too_large: bool,
        io: &mut Io<'_>,
    ) -> Result<Step, Fault> {
        self.note_peer_stream(id);
        let most = self.config.settings.max_concurrent_streams.unwrap_or(u32::MAX);
        if self.streams.len() >= most as usize {
            return Err(Fault::Stream(id, Violation::TooManyStreams));
        }
        let result = if too_large {
            Err(Refusal::Answer(Reason::HeadTooLarge))
        } else {
            reader.request(end, io.limits)
        };
        if let Err(Refusal::Malformed(violation)) = result {
            return Err(Fault::Stream(id, violation));
        }
        let recv = if end { Half::Done } else { Half::Body };
        let stream = self.add_stream(id, recv, 0, io.now);
        match result {
            Ok(facts) => {
                if let Some(stream) = self.streams.get_mut(stream) {
                    stream.flags.is_connect = facts.is_connect || facts.upgrade;
                    stream.promised = match facts.framing {
                        Framing::Length(length) => Some(length),
                        _ => None,
                    };
                }
                Ok(Step::Message(Message::Request { stream, facts, end }))
            }
            Err(Refusal::Answer(reason)) => Ok(Step::Event(Event::Refused { stream, reason })),
            Err(Refusal::Malformed(violation)) => Err(Fault::Stream(id, violation)),
        }
    }

    /// A new stream of the peer's: those below it that are idle are closed (RFC 9113 §5.1.1).
    fn note_peer_stream(&mut self, id: u32) {
        self.past.note_opened(self.last_peer, id);
        self.last_peer = id;
    }

    fn response(
        &mut self,
        key: StreamKey,
        end: bool,
        reader: Reader<'_>,
        too_large: bool,
        io: &mut Io<'_>,
    ) -> Result<Step, Fault> {
        let fault = |violation| Fault::Stream(key.id, violation);
        let Some(stream) = self.streams.get_mut(key) else { return Ok(Step::Next) };
        let to = ResponseTo { is_head: stream.flags.is_head, is_connect: stream.flags.is_connect };
        if too_large {
            return Err(fault(Violation::BlockTooLarge));
        }
        let facts = reader.response(end, to, io.limits).map_err(|refusal| match refusal {
            Refusal::Malformed(violation) => fault(violation),
            Refusal::Answer(_) => fault(Violation::BlockTooLarge),
        })?;
        let interim = matches!(facts.status, 100..=199);
        let part = if interim { Part::Interim } else { Part::Head };
        stream.recv = stream.recv.after(part, end).map_err(fault)?;
        let token = stream.token;
        if interim {
            self.spend(Budget::FRAME, io.now)?;
        } else {
            // Refused, it is a response as any other.
            stream.flags.is_connect &= matches!(facts.status, 200..=299);
            let bodiless = facts.framing == Framing::None && !stream.flags.is_connect;
            stream.promised = match facts.framing {
                Framing::Length(length) if !end => Some(length),
                // To HEAD, and 204 and 304: there may be an empty DATA frame, and no more.
                _ if bodiless => Some(0),
                _ => None,
            };
        }
        if end {
            self.drop_if_over(key);
        }
        Ok(Step::Message(Message::Response { stream: key, token, facts, end }))
    }

    fn trailers(
        &mut self,
        key: StreamKey,
        end: bool,
        reader: Reader<'_>,
        too_large: bool,
        io: &mut Io<'_>,
    ) -> Result<Step, Fault> {
        let fault = |violation| Fault::Stream(key.id, violation);
        let Some(stream) = self.streams.get_mut(key) else { return Ok(Step::Next) };
        if stream.flags.is_connect {
            // A tunnel has DATA and nothing else (RFC 9113 §8.5).
            return Err(fault(Violation::Sequence));
        }
        let next = stream.recv.after(Part::Trailers, end).map_err(fault)?;
        if stream.promised.is_some_and(|left| left > 0) {
            return Err(fault(Violation::ContentMismatch));
        }
        if too_large {
            return Err(fault(Violation::BlockTooLarge));
        }
        reader.trailers(io.limits).map_err(|refusal| match refusal {
            Refusal::Malformed(violation) => fault(violation),
            Refusal::Answer(_) => fault(Violation::BlockTooLarge),
        })?;
        stream.recv = next;
        let token = stream.token;
        self.drop_if_over(key);
        Ok(Step::Message(Message::Trailers { stream: key, token }))
    }
}

/// What a header block is for.
#[derive(Clone, Copy, Debug)]
enum Place {
    Request,
    Response(StreamKey),
    Trailers(StreamKey),
    /// A stream that is over.
    Nowhere,
}

/// Compressed bytes of one header block that are kept together.
fn block_limit(limits: &Limits) -> usize {
    limits.header_bytes.max(super::super::frame::DEFAULT_MAX_FRAME) + 1024
}
