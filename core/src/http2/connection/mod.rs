//! One connection, either role.

mod block;
mod check;
mod receive;
mod send;
#[cfg(test)]
mod tests;
mod timers;

use alloc::boxed::Box;
use alloc::collections::VecDeque;
use alloc::sync::Arc;
use alloc::vec::Vec;

use bytes::BytesMut;

use super::budget::Budget;
use super::error::{ErrorCode, Fault, Violation};
use super::frame::{self, PREFACE};
use super::past::Past;
use super::settings::{DEFAULT_WINDOW, MAX_WINDOW, Settings};
use super::stream::{Flags, Half, Stream, StreamKey};
use super::streams::Streams;
use crate::buf::OutQueue;
use crate::error::Reason;
use crate::hpack::{Decoder, Encoder};
use crate::http::{Field, Fields, Known, Request, Response, facts, hop};
use crate::time::{Duration, Time};

/// Which side of a connection this is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// It sends requests.
    Client,
    /// It answers them.
    Server,
}

/// What a connection is told about itself.
#[derive(Clone, Debug)]
pub struct Config {
    /// What the peer is told. `initial_window_size` is what streams begin with …
    pub settings: Settings,
    /// … and this is how far the window of one that is read as fast as it comes may grow.
    pub max_stream_window: u32,
    /// What all streams together may have grown beyond where they began.
    pub max_growth: u32,
    /// The window of the connection.
    pub connection_window: u32,
    /// The most that the encoder's table takes, whatever the peer allows.
    pub encoder_table: u32,
    /// How long the peer may take to acknowledge SETTINGS (RFC 9113 §6.5.3).
    pub settings_timeout: Duration,
    /// How long a header block may take from its first byte to its last.
    pub header_timeout: Duration,
    /// How long a PING of ours may go unanswered.
    pub ping_timeout: Duration,
}

impl Default for Config {
    fn default() -> Self {
        Config {
            settings: Settings {
                enable_push: false,
                max_concurrent_streams: Some(1024),
                // 100 streams whose far side does not read hold 1.6 MB, and a unary call fits.
                initial_window_size: 16 * 1024,
                max_header_list_size: Some(64 * 1024),
                ..Settings::default()
            },
            max_stream_window: 1 << 20,
            max_growth: 2 << 20,
            connection_window: 1 << 20,
            encoder_table: 4096,
            settings_timeout: Duration::from_secs(10),
            header_timeout: Duration::from_secs(10),
            // linkerd2-proxy: peers ping every 10 s and wait for 3 s.
            ping_timeout: Duration::from_secs(3),
        }
    }
}

/// What happened on a connection. `token` is what [`Connection::set_token`] said about the stream.
#[derive(Debug)]
pub enum Event<'s> {
    /// A request began (servers).
    Request {
        /// Its stream.
        stream: StreamKey,
        /// Its head.
        request: Request<'s>,
        /// It has neither body nor trailers.
        end: bool,
    },
    /// A request that is to be answered with an error: one that exceeds a limit.
    Refused {
        /// Its stream.
        stream: StreamKey,
        /// Why.
        reason: Reason,
    },
    /// A response began, or an informational one came (clients).
    Response {
        /// Its stream.
        stream: StreamKey,
        /// See [`Connection::set_token`].
        token: u64,
        /// Its head.
        response: Response<'s>,
        /// It has neither body nor trailers.
        end: bool,
    },
    /// Body bytes. Say [`Connection::release`] when they have gone on.
    Data {
        /// Their stream.
        stream: StreamKey,
        /// See [`Connection::set_token`].
        token: u64,
        /// The bytes; none: only the end.
        data: BytesMut,
        /// These were the last ones.
        end: bool,
    },
    /// Trailers, which end the message.
    Trailers {
        /// Their stream.
        stream: StreamKey,
        /// See [`Connection::set_token`].
        token: u64,
        /// Their fields.
        fields: Trailers<'s>,
    },
    /// The peer reset a stream.
    Reset {
        /// Which; it is over.
        stream: StreamKey,
        /// See [`Connection::set_token`].
        token: u64,
        /// What it says about why.
        code: ErrorCode,
    },
    /// The peer broke a rule that costs the stream: we have reset it.
    Broken {
        /// Which; it is over.
        stream: StreamKey,
        /// See [`Connection::set_token`].
        token: u64,
        /// The rule.
        violation: Violation,
    },
    /// The peer broke a rule about a stream that is over, or never began: we have reset it.
    Offence(Violation),
    /// The peer will open, or let us open, no more streams. Those of ours above `last` were not
    /// looked at: see [`Connection::unprocessed`].
    GoAway {
        /// The last stream of ours that counts.
        last: u32,
        /// What it says about why.
        code: ErrorCode,
    },
    /// The peer's SETTINGS came: more or fewer streams may be open than before.
    Settings,
    /// So many steps ([`Connection::SILENT_STEPS`]) went by without anything to know, as with DATA
    /// for streams that are over. There may be more: an occasion to see to other connections.
    Silence,
}

/// The fields of trailers.
#[derive(Clone, Copy, Debug)]
pub struct Trailers<'s>(pub(crate) Fields<'s>);

impl<'s> Trailers<'s> {
    /// As a trailer section of HTTP/1: a CRLF after each line and an empty one at the end.
    pub fn section(self) -> &'s [u8] {
        self.0.buf
    }

    /// The fields.
    pub fn fields(self) -> Fields<'s> {
        self.0
    }

    /// gRPC's status; `None` if there is none or it is no number.
    pub fn grpc_status(self) -> Option<u16> {
        self.0.get(Known::GrpcStatus).and_then(facts::grpc_status)
    }

    /// How many fields may not go on ([`hop::is_forbidden_in_trailers`]).
    fn forbidden(self) -> usize {
        let forbidden = |field: &Field<'_>| hop::is_recognised_forbidden(field.known, field.name);
        self.0.iter().filter(forbidden).count()
    }
}

/// The state machine of one connection.
///
/// Bytes come in through [`Connection::poll`], one event at a time; everything it wants to send
/// goes to a queue that its owner brings. Body bytes that cannot be sent yet wait in the stream
/// until [`Connection::flush`].
#[derive(Debug)]
pub struct Connection {
    role: Role,
    config: Arc<Config>,
    phase: Phase,
    /// What the peer said about itself.
    peer: Settings,
    /// When our SETTINGS have to be acknowledged.
    settings_due: Option<Time>,
    decoder: Decoder,
    encoder: Encoder,
    streams: Streams,
    /// The next stream that we open.
    next_id: u32,
    /// The last stream that the peer opened.
    last_peer: u32,
    past: Past,
    /// What the peer may still send on the connection.
    recv_window: i32,
    /// Received, and not yet given back.
    recv_credit: u32,
    send_window: i32,
    /// Body bytes of all streams that we, or whoever they were handed to, hold.
    held: usize,
    /// Body bytes that wait in all streams …
    queued: usize,
    /// … and those that were sent and are kept in case they have to be sent again.
    retained: usize,
    /// Streams whose queues may hold slices of read buffers.
    unsettled: Vec<StreamKey>,
    /// The body of the stream that ended last, if it was retained.
    returned: Option<(StreamKey, Box<Body>)>,
    /// What a stream's window begins with: ours once the peer has acknowledged it.
    base_window: u32,
    /// What the windows of all streams have grown by.
    growth: u32,
    /// The DATA frame that is being received.
    data: Option<DataFrame>,
    /// The header block that is being received.
    block: Option<Block>,
    /// When its first byte came.
    block_since: Option<Time>,
    /// Bytes that are dropped: padding, frames of unknown type.
    skip: usize,
    /// Streams that have something to send and credit for it.
    sendable: VecDeque<StreamKey>,
    /// Streams whose queue got shorter.
    progressed: VecDeque<StreamKey>,
    /// Streams that were abandoned before the peer ended them, some of which may be over, and when
    /// they are reset.
    lingering: VecDeque<(Time, StreamKey)>,
    budget: Budget,
    going: Going,
    /// The last stream of ours that the peer will process.
    peer_going: Option<u32>,
    ping: Ping,
    /// It broke.
    dead: Option<Violation>,
}

/// How far the beginning of a connection is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// So many bytes of the preface have come.
    Preface(usize),
    /// SETTINGS have to come first.
    Settings,
    Open,
}

/// How far our own farewell is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Going {
    No,
    /// A first GOAWAY said so, and a PING is under way: when it is back, or at this time, no stream
    /// that the peer opened before it knew is lost.
    Announced(Time),
    /// The second GOAWAY said which stream was the last.
    Last(u32),
}

/// A PING of ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ping {
    No,
    /// To be answered until then.
    Sent(Time),
}

/// A DATA frame whose payload is coming in.
#[derive(Clone, Copy, Debug)]
struct DataFrame {
    /// `None`: for a stream that is over.
    stream: Option<StreamKey>,
    /// Content that has not come yet.
    left: usize,
    padding: usize,
    end: bool,
}

/// What the HEADERS frame says of its block.
#[derive(Clone, Copy, Debug)]
struct BlockStart {
    stream: u32,
    end: bool,
    /// What is wrong with the frame: told when the block was decoded.
    violation: Option<Violation>,
}

/// A header block whose CONTINUATIONs are coming in.
#[derive(Debug)]
struct Block {
    start: BlockStart,
    fragments: BytesMut,
}

/// What there was to send of a body.
#[derive(Debug, Default)]
pub(crate) struct Body {
    pub(crate) queue: OutQueue,
    /// Its trailers, in HTTP/1 form.
    pub(crate) trailers: Option<Box<[u8]>>,
}

/// What our PINGs carry.
mod opaque {
    pub(super) const KEEP_ALIVE: [u8; 8] = *b"selvedge";
    pub(super) const FAREWELL: [u8; 8] = *b"farewell";
}

impl Connection {
    /// The client's side: queues the preface and SETTINGS.
    pub fn client(config: impl Into<Arc<Config>>, tx: &mut OutQueue, now: Time) -> Self {
        tx.append(|out| out.extend_from_slice(PREFACE));
        Self::new(Role::Client, config.into(), Phase::Settings, tx, now)
    }

    /// The server's side: queues SETTINGS. The first bytes that it is given are the preface.
    pub fn server(config: impl Into<Arc<Config>>, tx: &mut OutQueue, now: Time) -> Self {
        Self::new(Role::Server, config.into(), Phase::Preface(0), tx, now)
    }

    fn new(role: Role, config: Arc<Config>, phase: Phase, tx: &mut OutQueue, now: Time) -> Self {
        let window = config.connection_window.clamp(DEFAULT_WINDOW, MAX_WINDOW);
        // Extended CONNECT is a server's to offer (RFC 8441 §3).
        let offers = role == Role::Server && config.settings.enable_connect_protocol;
        let settings = Settings { enable_connect_protocol: offers, ..config.settings };
        tx.append(|out| {
            settings.write(out);
            if window > DEFAULT_WINDOW {
                frame::write_window_update(out, 0, window - DEFAULT_WINDOW);
            }
        });
        Connection {
            role,
            phase,
            // Push is a client's to allow: of a server, any 1 is one that it sent.
            peer: Settings { enable_push: role == Role::Server, ..Settings::default() },
            settings_due: Some(now + config.settings_timeout),
            decoder: Decoder::new(config.settings.header_table_size),
            encoder: Encoder::new(config.encoder_table),
            streams: Streams::default(),
            next_id: 1,
            last_peer: 0,
            past: Past::default(),
            recv_window: window.cast_signed(),
            recv_credit: 0,
            send_window: DEFAULT_WINDOW.cast_signed(),
            held: 0,
            queued: 0,
            retained: 0,
            unsettled: Vec::new(),
            returned: None,
            base_window: DEFAULT_WINDOW,
            growth: 0,
            data: None,
            block: None,
            block_since: None,
            skip: 0,
            sendable: VecDeque::new(),
            progressed: VecDeque::new(),
            lingering: VecDeque::new(),
            budget: Budget::new(now),
            going: Going::No,
            peer_going: None,
            ping: Ping::No,
            dead: None,
            config,
        }
    }

    // ---- What its owner asks ----

    /// Which side it is.
    pub fn role(&self) -> Role {
        self.role
    }

    /// Streams that are not over.
    pub fn open_streams(&self) -> usize {
        self.streams.len()
    }

    /// Every stream that is not over, the oldest first.
    pub fn streams(&self) -> impl DoubleEndedIterator<Item = StreamKey> + '_ {
        self.streams.keys()
    }

    /// How many more streams may be opened now; 0 after a GOAWAY.
    pub fn capacity(&self) -> usize {
        let gone = self.peer_going.is_some() || self.going != Going::No || self.dead.is_some();
        if gone || self.next_id > MAX_WINDOW {
            return 0;
        }
        let limit = self.peer.max_concurrent_streams.unwrap_or(u32::MAX);
        (limit as usize).saturating_sub(self.streams.len())
    }

    /// Has the peer's first SETTINGS frame come?
    pub fn is_ready(&self) -> bool {
        self.phase == Phase::Open
    }

    /// What the peer said about itself.
    pub fn peer_settings(&self) -> &Settings {
        &self.peer
    }

    /// Will no more streams be opened, by either side?
    pub fn is_going(&self) -> bool {
        self.peer_going.is_some() || self.going != Going::No || self.dead.is_some()
    }

    /// Is a PING of ours under way?
    pub(crate) fn is_pinging(&self) -> bool {
        self.ping != Ping::No
    }

    /// Everything was said and done: it can be closed.
    pub fn is_over(&self) -> bool {
        let last = matches!(self.going, Going::Last(_)) || self.peer_going.is_some();
        self.dead.is_some() || last && self.streams.len() == 0
    }

    /// Is this stream of ours one that the peer said it had not looked at? Its request can be sent
    /// again, whatever its method (RFC 9113 §6.8).
    pub fn unprocessed(&self, stream: StreamKey) -> bool {
        self.role == Role::Client && self.peer_going.is_some_and(|last| stream.id > last)
    }

    /// Body bytes that were handed out and not released.
    pub fn held(&self) -> usize {
        self.held
    }

    /// Body bytes that wait to be sent, of all streams.
    pub fn queued(&self) -> usize {
        self.queued
    }

    /// Are there streams that wait for room in the queue: with body bytes, or only with their end?
    pub fn wants_to_send(&self) -> bool {
        !self.sendable.is_empty()
    }

    /// Body bytes that this connection keeps: those that wait, and those that may have to be sent
    /// again.
    pub fn buffered(&self) -> usize {
        self.queued + self.retained
    }

    /// Body bytes of a stream that were handed out and not released.
    pub fn stream_held(&self, stream: StreamKey) -> usize {
        self.streams.get(stream).map_or(0, |stream| stream.held as usize)
    }

    /// Body bytes of a stream that wait to be sent.
    pub fn stream_queued(&self, stream: StreamKey) -> usize {
        self.streams.get(stream).map_or(0, |stream| stream.queue.unsent())
    }

    /// Body bytes of a stream that are kept, sent ones that are retained included.
    pub(crate) fn stream_kept(&self, stream: StreamKey) -> usize {
        self.streams.get(stream).map_or(0, |stream| stream.queue.held())
    }

    /// Flow-control credit of a stream, or of the connection: what we may send, and what the peer may.
    /// Below 0 after windows were made smaller (RFC 9113 §6.9.2). `None` if the stream is over.
    pub fn credit(&self, stream: Option<StreamKey>) -> Option<(i32, i32)> {
        match stream {
            Some(key) => {
                let stream = self.streams.get(key)?;
                Some((stream.send_window, stream.recv_window))
            }
            None => Some((self.send_window, self.recv_window)),
        }
    }

    /// Is there such a stream, and may it still be sent on?
    pub fn can_send(&self, stream: StreamKey) -> bool {
        self.streams.get(stream).is_some_and(|stream| stream.send != Half::Done)
    }

    /// Will nothing more be received on this stream?
    pub fn recv_done(&self, stream: StreamKey) -> bool {
        self.streams.get(stream).is_none_or(|stream| stream.recv == Half::Done)
    }

    /// Remembers something about a stream; its events carry it.
    pub fn set_token(&mut self, stream: StreamKey, token: u64) {
        if let Some(stream) = self.streams.get_mut(stream) {
            stream.token = token;
        }
    }

    /// See [`Connection::set_token`]; 0 if the stream is over.
    pub fn token(&self, stream: StreamKey) -> u64 {
        self.streams.get(stream).map_or(0, |stream| stream.token)
    }

    /// Streams whose queue got shorter since this was asked: there is room, or credit to release.
    pub fn poll_progress(&mut self) -> Option<(StreamKey, u64)> {
        while let Some(key) = self.progressed.pop_front() {
            if let Some(stream) = self.streams.get_mut(key) {
                stream.flags.progressed = false;
                return Some((key, stream.token));
            }
        }
        None
    }

    /// Heap bytes that it holds, body bytes excepted.
    pub fn heap_bytes(&self) -> usize {
        self.streams.heap_bytes()
            + self.decoder.heap_bytes()
            + self.encoder.heap_bytes()
            + self.past.heap_bytes()
            + 8 * (self.sendable.capacity() + self.progressed.capacity())
            + 8 * self.unsettled.capacity()
            + size_of::<(Time, StreamKey)>() * self.lingering.capacity()
            + self.block.as_ref().map_or(0, |block| block.fragments.capacity())
    }

    // ---- Small things that both directions need ----

    fn add_stream(&mut self, id: u32, recv: Half, token: u64, now: Time) -> StreamKey {
        let window = self.base_window;
        self.streams.insert(Stream {
            id,
            token,
            recv,
            send: Half::Head,
            flags: Flags::default(),
            recv_window: window.cast_signed(),
            send_window: self.peer.initial_window_size.cast_signed(),
            held: 0,
            credit: 0,
            window,
            promised: None,
            opened: now,
            queue: OutQueue::default(),
            trailers: None,
        })
    }

    /// Takes a stream out; what it held is no longer held here.
    fn drop_stream(&mut self, key: StreamKey) -> Option<Stream> {
        let mut stream = self.streams.remove(key)?;
        self.held -= stream.held as usize;
        self.queued -= stream.queue.unsent();
        self.retained -= stream.queue.held() - stream.queue.unsent();
        self.growth -= stream.window - self.base_window;
        if stream.queue.is_retaining() && (stream.flags.returns || !stream.is_over()) {
            let queue = core::mem::take(&mut stream.queue);
            self.returned = Some((key, Box::new(Body { queue, trailers: stream.trailers.take() })));
        }
        Some(stream)
    }

    /// Takes a stream out if both directions are done.
    fn drop_if_over(&mut self, key: StreamKey) {
        if self.streams.get(key).is_some_and(Stream::is_over) {
            self.drop_stream(key);
            self.budget.earn(Budget::EXCHANGE);
        }
    }

    fn spend(&mut self, cost: u32, now: Time) -> Result<(), Fault> {
        if self.budget.spend(cost, now) {
            Ok(())
        } else {
            Err(Fault::Connection(Violation::Overhead))
        }
    }

    fn is_ours(&self, id: u32) -> bool {
        (id % 2 == 1) == (self.role == Role::Client)
    }
}
