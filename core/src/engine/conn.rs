//! Connections: their state, and the slab that holds them.

use core::net::{IpAddr, SocketAddr};

use alloc::boxed::Box;
use alloc::collections::VecDeque;

use bytes::BytesMut;
use slab::Slab;

use super::check::Asking;
use super::contract::{ConnId, Direction};
use super::exchange::ExchangeId;
use super::tls::Tls;
use crate::buf::OutQueue;
use crate::http1::{BodyDecoder, HeadScanner};
use crate::http2::{Connection, StreamKey};
use crate::limits::Limits;
use crate::sniff::Sniffer;
use crate::time::Time;
use crate::tls::HelloScanner;

/// One connection, of either side.
#[derive(Debug)]
pub(crate) struct Conn {
    pub(crate) generation: u32,
    pub(crate) direction: Direction,
    pub(crate) state: State,
    /// What it is a connection to, if we opened it.
    pub(crate) endpoint: Option<u32>,
    /// Received and not yet taken.
    pub(crate) rx: BytesMut,
    /// Waiting to be written, or sealed.
    pub(crate) tx: OutQueue,
    /// The session between this and the socket.
    pub(crate) tls: Option<Box<Tls>>,
    pub(crate) flags: Flags,
    /// When bytes last moved.
    pub(crate) last: Time,
    /// What `rx` and `tx` are charged to the worker with.
    pub(crate) charged: usize,
    /// The memory that `rx` keeps, used or not.
    pub(crate) pinned: u32,
    /// Bytes that the adapter keeps for it in a pipe: they are written before `tx`.
    pub(crate) spliced: u32,
    pub(crate) peer: SocketAddr,
    /// Where the client wanted to go; `None` if it wanted us.
    pub(crate) original_dst: Option<SocketAddr>,
}

/// Small facts about a connection.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Flags {
    /// On the ready list.
    pub(crate) queued: bool,
    /// Its peer sent more than a turn handles: the rest is handled in later ones.
    pub(crate) put_off: bool,
    /// Bytes were queued since the last [`Output::Flush`](super::Output::Flush).
    pub(crate) dirty: bool,
    /// The adapter was told that there is nothing to read for now.
    pub(crate) paused: bool,
    /// The peer's FIN was received.
    pub(crate) eof: bool,
    /// The peer's FIN was received without its close_notify.
    pub(crate) truncated: bool,
    /// Our FIN shall follow what is queued.
    pub(crate) fin: Fin,
    /// Waits for the worker to hold fewer bytes.
    pub(crate) starved: bool,
    /// `rx` is memory of its own, not a slice of a read buffer.
    pub(crate) rx_owned: bool,
    /// It is that of a health check.
    pub(crate) check: bool,
    /// HTTP/2 will be spoken on it once it is connected.
    pub(crate) http2: bool,
}

/// Our side's end of stream.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Fin {
    /// Not yet.
    #[default]
    Open,
    /// As soon as everything is written.
    Wanted,
    /// Sent.
    Sent,
}

/// What a connection is for.
#[derive(Debug)]
pub(crate) enum State {
    /// A client whose protocol is not known yet.
    Detect(Detect),
    /// A client whose TLS session with us is being agreed on.
    Handshake,
    /// A client that says in a transport header what its session is for.
    Header,
    /// A client that speaks HTTP/1.
    Server(Server),
    /// A client whose tunnel has no far end yet.
    Waiting(ExchangeId),
    /// An endpoint that is being connected to, and who waits for it; `None`: a probe, or nobody
    /// any more.
    Connecting(Option<ExchangeId>),
    /// An endpoint that is spoken HTTP/1 to.
    Client(Client),
    /// Either side, with HTTP/2.
    Http2(Box<Http2>),
    /// An endpoint whose health is checked.
    Check(Asking),
    /// One end of a byte tunnel.
    Tunnel(Tunnel),
    /// One end of a byte tunnel whose other end is a stream.
    Bridge(ExchangeId),
    /// What still comes is dropped, so that the peer gets to read our answer.
    Linger {
        /// Bytes that are still dropped before we give up.
        left: usize,
    },
    /// Closes as soon as everything is written.
    Closing,
}

/// A connection whose protocol is not known yet.
#[derive(Debug)]
pub(crate) struct Detect {
    pub(crate) sniffer: Sniffer,
    /// Reads the ClientHello of what is TLS.
    pub(crate) hello: Option<Box<HelloScanner>>,
    /// When it was accepted.
    pub(crate) accepted: Time,
    /// When its first byte came.
    pub(crate) since: Option<Time>,
    /// Our end of the connection; `None` inside of TLS: what is TLS there is not for us.
    pub(crate) local: Option<IpAddr>,
}

impl Detect {
    pub(crate) fn new(accepted: Time, local: Option<IpAddr>) -> Self {
        Detect { sniffer: Sniffer::default(), hello: None, accepted, since: None, local }
    }
}

/// The HTTP/1 state of a client connection.
#[derive(Debug, Default)]
pub(crate) struct Server {
    pub(crate) phase: ServerPhase,
    pub(crate) exchange: Option<ExchangeId>,
}

#[derive(Debug)]
pub(crate) enum ServerPhase {
    /// Between requests, or in the head of one.
    Head(HeadScanner),
    /// In the body of one.
    Body(BodyDecoder),
    /// The request is complete, the response is not.
    Wait,
}

impl Default for ServerPhase {
    fn default() -> Self {
        ServerPhase::Head(HeadScanner::default())
    }
}

/// The HTTP/2 state of a connection. Its streams belong to exchanges, which their tokens name.
#[derive(Debug)]
pub(crate) struct Http2 {
    pub(crate) connection: Connection,
    /// It has carried a stream that is over: it may be dead without us knowing.
    pub(crate) served: bool,
    /// Answers that were complete before the client has read them, by the time they are given up.
    pub(crate) unread: VecDeque<Unread>,
    /// When it takes no more streams; `Time::MAX`: it takes them as long as it lives.
    pub(crate) retires: Time,
}

/// A stream whose exchange is over, and that has something to send.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Unread {
    pub(crate) due: Time,
    pub(crate) stream: StreamKey,
    /// How much it had to send when that was last looked at.
    pub(crate) queued: usize,
}

impl Http2 {
    pub(crate) fn new(connection: Connection, retires: Time) -> Self {
        Http2 { connection, served: false, unread: VecDeque::new(), retires }
    }
}

/// One end of a byte tunnel.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Tunnel {
    /// The other end.
    pub(crate) peer: ConnId,
    pub(crate) exchange: ExchangeId,
    /// Reads in a row that brought much, each after everything before it was written.
    pub(crate) streak: u8,
    /// What waits to be written may be slices of large read buffers.
    pub(crate) pins_bulk: bool,
}

impl Tunnel {
    /// So long a streak earns large reads.
    const BULK_AFTER: u8 = 2;

    pub(crate) fn new(peer: ConnId, exchange: ExchangeId) -> Self {
        Tunnel { peer, exchange, streak: 0, pins_bulk: false }
    }

    pub(crate) fn is_bulk(&self) -> bool {
        self.streak >= Self::BULK_AFTER
    }

    /// A read brought `n` bytes; `flows`: all that came before them was written.
    pub(crate) fn received(&mut self, n: usize, flows: bool) {
        let much = flows && n >= Limits::READ_BLOCK / 2;
        self.streak = if much { self.streak.saturating_add(1) } else { 0 };
    }
}

/// The HTTP/1 state of an endpoint connection.
#[derive(Debug)]
pub(crate) struct Client {
    pub(crate) exchange: Option<ExchangeId>,
    pub(crate) phase: ClientPhase,
    /// May it serve another exchange after this one?
    pub(crate) reusable: bool,
}

#[derive(Debug)]
pub(crate) enum ClientPhase {
    /// In the pool.
    Idle,
    /// Waiting for a response head, or in it.
    Head(HeadScanner),
    /// In a response body.
    Body(BodyDecoder),
}

impl Conn {
    /// A connection on which nothing has happened yet.
    pub(crate) fn new(direction: Direction, state: State, peer: SocketAddr, now: Time) -> Self {
        Conn {
            generation: 0,
            direction,
            state,
            endpoint: None,
            rx: BytesMut::new(),
            tx: OutQueue::default(),
            tls: None,
            flags: Flags::default(),
            last: now,
            charged: 0,
            pinned: 0,
            spliced: 0,
            peer,
            original_dst: None,
        }
    }

    /// Its name, in that slot.
    pub(crate) fn id(&self, index: u32) -> ConnId {
        ConnId { index, generation: self.generation }
    }

    /// The exchange that this connection carries.
    pub(crate) fn exchange(&self) -> Option<ExchangeId> {
        match &self.state {
            State::Server(server) => server.exchange,
            State::Client(client) => client.exchange,
            State::Connecting(exchange) => *exchange,
            State::Waiting(exchange) | State::Bridge(exchange) => Some(*exchange),
            State::Tunnel(tunnel) => Some(tunnel.exchange),
            _ => None,
        }
    }

    /// Its HTTP/2 connection, if it speaks that.
    pub(crate) fn http2(&self) -> Option<&Connection> {
        match &self.state {
            State::Http2(http2) => Some(&http2.connection),
            _ => None,
        }
    }

    /// The same, with the queue that it writes to. Whatever is done may have something to write.
    pub(crate) fn http2_mut(&mut self) -> Option<(&mut Connection, &mut OutQueue)> {
        match &mut self.state {
            State::Http2(http2) => {
                self.flags.dirty = true;
                Some((&mut http2.connection, &mut self.tx))
            }
            _ => None,
        }
    }

    /// What was received and not taken must not keep a buffer that it does not fill. Notes what all
    /// that is held is charged with.
    pub(crate) fn settle_received(&mut self) {
        let held = self.rx.len();
        let mut pinned = match held {
            0 => 0,
            _ if self.flags.rx_owned => self.rx.capacity().max(self.pinned as usize),
            _ => self.read_block(),
        };
        if held == 0 {
            self.rx = BytesMut::new();
        } else if 2 * held < pinned && pinned > Limits::COALESCE_BELOW {
            self.rx = BytesMut::from(&self.rx[..]);
            pinned = self.rx.capacity();
        }
        self.flags.rx_owned = true;
        self.pinned = pinned as u32;
        let sealed = self.tls.as_ref().map_or(0, |tls| tls.held());
        let spliced = if canary!(UncountedPipe) { 0 } else { self.spliced as usize };
        self.charged = pinned + self.kept() + sealed + spliced;
    }

    /// Bytes that are kept to be written, or written once more: those of its streams included.
    pub(crate) fn kept(&self) -> usize {
        self.tx.held() + self.http2().map_or(0, Connection::buffered)
    }

    /// It speaks HTTP/1 and has nothing that it could go on with: if it is on the ready list, then to
    /// write. (The end of a response needs no bytes.)
    #[inline]
    pub(crate) fn has_nothing_to_read(&self) -> bool {
        let waits = match &self.state {
            State::Server(_) => true,
            State::Client(client) => !matches!(client.phase, ClientPhase::Body(_)),
            _ => false,
        };
        waits && self.rx.is_empty() && !self.flags.eof
    }

    /// It speaks HTTP/1, everything that came has been taken, and nothing is on its way to another
    /// connection.
    pub(crate) fn is_between(&self) -> bool {
        let between = match &self.state {
            State::Server(server) => !matches!(server.phase, ServerPhase::Body(_)),
            State::Client(client) => matches!(client.phase, ClientPhase::Idle),
            _ => false,
        };
        between && self.rx.is_empty()
    }

    /// Puts it on the ready list, as the connection in that slot.
    #[inline]
    pub(crate) fn touch(&mut self, index: u32, ready: &mut VecDeque<u32>) {
        if !core::mem::replace(&mut self.flags.queued, true) {
            ready.push_back(index);
        }
    }

    /// Everything has been written.
    pub(crate) fn is_flushed(&self) -> bool {
        self.unsent() == 0
    }

    /// What its last read may have been a part of.
    pub(crate) fn read_block(&self) -> usize {
        match &self.state {
            State::Tunnel(tunnel) if tunnel.is_bulk() => Limits::BULK_BLOCK,
            _ => Limits::READ_BLOCK,
        }
    }

    /// Bytes that still have to be written, sealed or not, or in a pipe.
    pub(crate) fn unsent(&self) -> usize {
        let sealed = self.tls.as_ref().map_or(0, |tls| tls.outgoing().unsent());
        self.tx.unsent() + sealed + self.spliced as usize
    }

    /// What the socket is written from.
    pub(crate) fn outgoing(&self) -> &OutQueue {
        self.tls.as_ref().map_or(&self.tx, |tls| tls.outgoing())
    }

    /// The same, for whoever takes it away.
    pub(crate) fn outgoing_mut(&mut self) -> &mut OutQueue {
        match &mut self.tls {
            Some(tls) => tls.outgoing_mut(),
            None => &mut self.tx,
        }
    }
}

/// All connections.
///
/// The slot of a connection that ended stays taken until the adapter was told, so that no two
/// connections that it knows have the same index.
#[derive(Debug, Default)]
pub(crate) struct Conns {
    slab: Slab<Option<Conn>>,
    live: usize,
    generation: u32,
}

impl Conns {
    pub(crate) fn len(&self) -> usize {
        self.live
    }

    pub(crate) fn insert(&mut self, mut conn: Conn) -> ConnId {
        self.generation = self.generation.wrapping_add(1);
        conn.generation = self.generation;
        let index = self.slab.insert(Some(conn)) as u32;
        self.live += 1;
        ConnId { index, generation: self.generation }
    }

    /// The connection of that name, unless it is gone.
    pub(crate) fn find(&self, id: ConnId) -> Option<&Conn> {
        let is_it = |conn: &&Conn| conn.generation == id.generation || canary!(StaleId);
        self.get(id.index).filter(is_it)
    }

    /// The same, to change it.
    pub(crate) fn find_mut(&mut self, id: ConnId) -> Option<&mut Conn> {
        let is_it = |conn: &&mut Conn| conn.generation == id.generation || canary!(StaleId);
        self.get_mut(id.index).filter(is_it)
    }

    /// The connection in that slot, unless it is gone.
    pub(crate) fn get_mut(&mut self, index: u32) -> Option<&mut Conn> {
        self.slab.get_mut(index as usize)?.as_mut()
    }

    pub(crate) fn get(&self, index: u32) -> Option<&Conn> {
        self.slab.get(index as usize)?.as_ref()
    }

    /// Two different connections at once.
    pub(crate) fn pair(&mut self, a: u32, b: u32) -> Option<(&mut Conn, &mut Conn)> {
        let (a, b) = self.slab.get2_mut(a as usize, b as usize)?;
        Some((a.as_mut()?, b.as_mut()?))
    }

    /// Takes a connection out. Its slot stays taken until [`Conns::free`].
    pub(crate) fn remove(&mut self, index: u32) -> Option<Conn> {
        let conn = self.slab.get_mut(index as usize)?.take()?;
        self.live -= 1;
        Some(conn)
    }

    /// The slot of a connection that was taken out may be used again.
    pub(crate) fn free(&mut self, index: u32) {
        debug_assert!(self.get(index).is_none(), "the slot of a live connection");
        self.slab.try_remove(index as usize);
    }

    pub(crate) fn id(&self, index: u32) -> Option<ConnId> {
        self.get(index).map(|conn| conn.id(index))
    }

    /// The indices of all connections, in slot order: for reload, drain and sweeps only.
    pub(crate) fn indices(&self) -> impl Iterator<Item = u32> + '_ {
        self.iter().map(|(index, _)| index)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (u32, &Conn)> {
        let conn = |(index, conn): (usize, _)| Some((index as u32, Option::as_ref(conn)?));
        self.slab.iter().filter_map(conn)
    }
}
