//! The one future of a worker: it owns the engine and every socket.

use std::collections::VecDeque;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::task::{Context, Poll};

use futures_channel::oneshot;
use selvedge_core::config::{Config, ListenerId};
use selvedge_core::engine::{Accepted, CloseKind, Command, ConnId, Engine, Event, Input, Output};
use selvedge_core::limits::Limits;
use selvedge_core::time::{Duration, Time};

use crate::accept::Acceptor;
use crate::block::Blocks;
use crate::clock::WallClock;
use crate::inbox::{Inbox, Message};
use crate::resolve::Names;
use crate::socket::{Socket, Visit};
use crate::timer::Timer;
use crate::urgent::Looks;
use crate::{Events, Options, Runtime, os};

/// Sources that are visited before the reactor, the timer and the messages get their turn.
const VISITS_PER_POLL: usize = 64;
/// Bytes that are read from one socket after another before the engine ends its turn. A turn for
/// all that are ready, and not one for each, has what they send to the same HTTP/2 connection leave
/// in one TLS record and one write; beyond a block, what waits would only grow.
const BYTES_PER_TURN: usize = Limits::READ_BLOCK / 4 * 3;
/// Bytes that those are read in all. Who will send much is not known before it has: when many become
/// ready at once, each is read its share first …
const BYTES_PER_POLL: usize = 8 * Limits::READ_BLOCK;
/// … but no less than this, which most messages fit in.
const LEAST_READ: usize = 4 * 1024;
/// Sockets that move bodies, and those that are new, so many of which are visited after the others:
/// whoever asks for little on a connection that it has does not wait behind a hundred downloads, nor
/// behind as many connections that are made …
const COSTLY_VISITS_PER_POLL: usize = 8;
/// … nor behind so many large reads …
const BULK_BYTES_PER_POLL: usize = COSTLY_VISITS_PER_POLL * Limits::READ_BLOCK;
/// … of which there are fewer, and smaller ones, while anybody asks for little: a poll is what a
/// request waits for before it is seen, and its answer once more …
const BULK_BYTES_BESIDE_OTHERS: usize = 2 * Limits::READ_BLOCK;
/// … or has just done so: who asks for little again and again is not seen in every poll.
const LATELY: Duration = Duration::from_millis(10);
/// Connections that one visit of a listener accepts.
const ACCEPTS_PER_VISIT: u32 = 16;
/// Sockets that are closed before the same. The end of a client can be that of a hundred connections
/// to endpoints, and closing one costs more than a visit: the kernel tells its other end.
const CLOSES_PER_POLL: usize = 8;
/// The index of the timer on the ready list …
const TIMER: u32 = u32::MAX;
/// … of the names that are being resolved …
const NAMES: u32 = TIMER - 1;
/// … and of the first listener. Listeners count down from here; connections count up from 0 and are
/// bounded by memory long before they meet.
const LISTENER: u32 = NAMES - 1;

/// Drives one engine. Everything happens in [`Driver::poll`].
pub(crate) struct Driver<R: Runtime> {
    engine: Engine,
    events: Events,
    options: Options,
    inbox: Arc<Inbox>,
    /// By [`ListenerId`]; none after a drain. Closed first when a worker is stopped, as when a
    /// process ends: who lost a connection and tries again is refused, and not lost once more.
    acceptors: Vec<Acceptor<R>>,
    /// By [`ConnId::index`].
    sockets: Vec<Option<Socket<R::Stream>>>,
    /// Those that the engine is done with, and that this poll closes no more.
    closing: VecDeque<Socket<R::Stream>>,
    /// How many it has closed.
    closed: usize,
    names: Names<R>,
    certify: Certify,
    clock: WallClock,
    timer: Timer<R>,
    /// The clock reading of this poll.
    now: Time,
    /// Indices of the sources to visit.
    ready: VecDeque<u32>,
    /// Those of them that had much to read when they were visited last, or never were.
    costly: VecDeque<u32>,
    /// Until then others than those are taken to ask for something.
    others_until: Time,
    looks: Looks<ConnId>,
    /// The timer has let what was ready go first.
    timer_has_waited: bool,
    blocks: Blocks,
    ended: bool,
}

impl<R: Runtime> Driver<R> {
    /// Takes the listeners, in the order of the configuration. Called within the runtime.
    pub(crate) fn new(
        config: Arc<Config>,
        listeners: Vec<TcpListener>,
        options: Options,
        inbox: Arc<Inbox>,
        events: Events,
    ) -> io::Result<Self> {
        let mut acceptors = Vec::with_capacity(listeners.len());
        let mut ready = VecDeque::new();
        for (id, socket) in (0..).zip(listeners) {
            let acceptor = Acceptor::new(id, LISTENER - u32::from(id), socket, &inbox)?;
            acceptor.source.queue(&mut ready);
            acceptors.push(acceptor);
        }
        let timer = Timer::new(&inbox, TIMER);
        let now = timer.now();
        let mut driver = Driver {
            engine: Engine::new(config, os::seed()?, now),
            events,
            options,
            names: Names::new(&inbox, NAMES),
            certify: Certify::default(),
            clock: WallClock::default(),
            inbox,
            sockets: Vec::new(),
            closing: VecDeque::new(),
            closed: 0,
            acceptors,
            timer,
            now,
            ready,
            costly: VecDeque::new(),
            others_until: Time::ZERO,
            looks: Looks::default(),
            timer_has_waited: false,
            blocks: Blocks::default(),
            ended: false,
        };
        driver.read_wall_clock();
        // What the configuration wants at once: names to resolve, a certificate.
        driver.settle();
        Ok(driver)
    }

    /// One turn of the worker. Ready when the engine was drained, or when it was told to stop.
    pub(crate) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        self.now = self.timer.now();
        self.closed = self.closing.drain(..CLOSES_PER_POLL.min(self.closing.len())).count();
        if self.clock.is_due(self.now) {
            self.read_wall_clock();
        }
        for message in self.inbox.collect(cx.waker(), &mut self.ready) {
            self.handle(message);
        }
        self.visit_ready();
        if self.ended {
            return Poll::Ready(());
        }
        self.arm_timer();
        if !(self.ready.is_empty() && self.costly.is_empty() && self.closing.is_empty()) {
            R::yield_now(cx);
        }
        Poll::Pending
    }

    fn handle(&mut self, message: Message) {
        match message {
            Message::Input(Input::Command(Command::Drain)) => self.drain(),
            Message::Input(input) => self.input(input),
            Message::AwaitCertify(reply) => {
                self.certify.waiting.push(reply);
                self.certify.tell();
            }
            // Whoever asked may have gone.
            Message::Snapshot(reply) => drop(reply.send(self.engine.snapshot())),
            Message::Stop => self.ended = true,
        }
    }

    /// Connections that the kernel has completed are ours: closing the listener would reset them,
    /// so they are accepted first.
    fn drain(&mut self) {
        for id in 0..self.acceptors.len() {
            self.accept(id, self.options.backlog);
        }
        self.input(Input::Command(Command::Drain));
        self.acceptors.clear();
    }

    /// Visits what is ready. A turn ends when each was visited once, or enough was read; before
    /// what is not a socket is visited, so that no index of a closed connection is in use again
    /// while its socket is still there.
    fn visit_ready(&mut self) {
        let mut visits = VISITS_PER_POLL;
        let mut left = BYTES_PER_POLL;
        while visits > 0 && !self.ready.is_empty() {
            let mut turn = Turn::default();
            let count = visits.min(self.ready.len());
            let most = (left / count).clamp(LEAST_READ, Limits::READ_BLOCK);
            for _ in 0..count {
                let Some(index) = self.ready.pop_front() else { break };
                if index == TIMER {
                    visits -= 1;
                    self.defer_timer();
                } else if index as usize >= self.sockets.len() {
                    visits -= 1;
                    self.end_turn(&mut turn);
                    self.visit_other(index);
                } else if self.is_costly(index) {
                    self.costly.push_back(index);
                } else {
                    visits -= 1;
                    left = left.saturating_sub(self.visit_socket(index, most, &mut turn));
                }
            }
            self.end_turn(&mut turn);
        }
        let alone = left == BYTES_PER_POLL;
        if !alone {
            self.others_until = self.now + LATELY;
        }
        self.visit_costly(alone);
    }

    /// What came in time is seen before anything is too late: after a pause of the process both wait.
    /// So the timer goes behind all that was ready, and then behind what is costly.
    fn defer_timer(&mut self) {
        let has_waited = std::mem::replace(&mut self.timer_has_waited, true);
        let queue = if has_waited { &mut self.costly } else { &mut self.ready };
        queue.push_back(TIMER);
    }

    /// Visits those that take long. `alone`: no others sent anything.
    fn visit_costly(&mut self, alone: bool) {
        let mut turn = Turn { fed: !self.costly.is_empty() && self.recall_pipe(), bytes: 0 };
        let beside_others = self.others_until > self.now;
        let mut left = if beside_others { BULK_BYTES_BESIDE_OTHERS } else { BULK_BYTES_PER_POLL };
        for _ in 0..COSTLY_VISITS_PER_POLL {
            let Some(index) = self.costly.pop_front() else { break };
            if index == TIMER {
                self.end_turn(&mut turn);
                self.visit_timer();
                continue;
            }
            let most = if alone { Limits::BULK_BLOCK } else { left.max(Limits::READ_BLOCK) };
            left = left.saturating_sub(self.visit_socket(index, most, &mut turn));
            if left == 0 {
                break;
            }
        }
        self.end_turn(&mut turn);
    }

    /// Who reads slowly does not keep a pipe from who may not. True if the engine was told.
    fn recall_pipe(&mut self) -> bool {
        let Some((conn, read)) = self.blocks.pipes.recall(self.now) else { return false };
        let input = match read {
            Ok(data) => Input::Unspliced { conn, data },
            Err(error) => Input::Failed { conn, kind: os::io_error(&error) },
        };
        self.engine.handle_input(self.now, input);
        true
    }

    fn is_costly(&self, index: u32) -> bool {
        let socket = self.sockets.get(index as usize).and_then(Option::as_ref);
        socket.is_some_and(|socket| socket.is_new || socket.bulk)
    }

    /// Visits one socket, reads at most so much, and ends the turn if enough was read. How much this
    /// one brought.
    fn visit_socket(&mut self, index: u32, most: usize, turn: &mut Turn) -> usize {
        let Some(Some(socket)) = self.sockets.get_mut(index as usize) else { return 0 };
        let mut read = 0;
        match socket.visit(&mut self.engine, &mut self.blocks, most, self.now) {
            Visit::Nothing => return 0,
            Visit::Fed { bytes, more } => {
                socket.bulk = bytes >= most.min(Limits::READ_BLOCK / 4);
                if more && socket.bulk {
                    socket.source.queue(&mut self.costly);
                } else if more {
                    socket.source.queue(&mut self.ready);
                } else if bytes > 0 && socket.wants_look(&self.engine) {
                    self.looks.add(socket.conn, self.now);
                }
                turn.bytes += bytes;
                read = bytes;
            }
            Visit::Gone => self.sockets[index as usize] = None,
        }
        turn.fed = true;
        if turn.bytes >= BYTES_PER_TURN {
            self.end_turn(turn);
        }
        read
    }

    fn visit_other(&mut self, index: u32) {
        if index == NAMES {
            return self.names.visit();
        }
        let id = (LISTENER - index) as usize;
        if let Some(acceptor) = self.acceptors.get(id) {
            acceptor.source.begin_visit();
            if self.accept(id, ACCEPTS_PER_VISIT) {
                self.acceptors[id].source.queue(&mut self.ready);
            }
        }
    }

    fn end_turn(&mut self, turn: &mut Turn) {
        if std::mem::take(turn).fed {
            self.settle();
        }
    }

    fn visit_timer(&mut self) {
        self.timer_has_waited = false;
        self.timer.begin_visit();
        if self.costly.is_empty() {
            self.blocks.bulk.vacate();
            self.blocks.pipes.vacate();
        }
        for conn in self.looks.take(self.now) {
            if let Some(socket) = live(&mut self.sockets, conn)
                && socket.look(&self.engine)
            {
                socket.source.queue(&mut self.ready);
            }
        }
        for acceptor in &self.acceptors {
            if acceptor.retry_at().is_some_and(|at| at <= self.now) {
                acceptor.source.queue(&mut self.ready);
            }
        }
        if matches!(self.engine.next_timeout(), Some((at, _)) if at <= self.now) {
            self.input(Input::Timeout);
        }
    }

    /// Accepts up to `most` connections. True if there may be more.
    fn accept(&mut self, id: usize, most: u32) -> bool {
        for _ in 0..most {
            match self.acceptors[id].poll(self.now) {
                Poll::Ready(Some((stream, peer))) => {
                    // Without an address of ours the connection is gone already.
                    if let Ok(local) = os::local_addr(&stream) {
                        let accepted = Accepted {
                            listener: id as ListenerId,
                            peer,
                            local: os::canonical(local),
                            original_dst: os::original_dst(&stream, peer),
                        };
                        if let Some(conn) = self.engine.accept(self.now, accepted) {
                            self.insert(conn, stream, false);
                        }
                        self.settle();
                    }
                }
                Poll::Ready(None) => {}
                Poll::Pending => return false,
            }
        }
        true
    }

    fn input(&mut self, input: Input) {
        self.engine.handle_input(self.now, input);
        self.settle();
    }

    /// Ends the turn and does what the engine wants, until it wants nothing more.
    fn settle(&mut self) {
        let mut fed = true;
        while fed {
            self.engine.end_turn(self.now);
            fed = false;
            while let Some(output) = self.engine.poll_output() {
                fed |= self.perform(output);
            }
        }
    }

    /// True if the engine was told something, and so has a turn to end.
    fn perform(&mut self, output: Output) -> bool {
        match output {
            Output::Flush(conn) => {
                let Some(socket) = live(&mut self.sockets, conn) else { return false };
                return socket.flush(&mut self.engine, &mut self.blocks.pipes, self.now);
            }
            Output::ReadReady(conn) => {
                if let Some(socket) = live(&mut self.sockets, conn) {
                    socket.source.queue(&mut self.ready);
                }
            }
            Output::Connect { conn, addr } => match self.start_connect(addr) {
                Ok(stream) => self.insert(conn, stream, true),
                Err(error) => {
                    let result = Err(os::connect_error(&error));
                    let input = Input::Connected { conn, result };
                    self.engine.handle_input(self.now, input);
                    return true;
                }
            },
            Output::Close { conn, how } => self.close(conn, how),
            Output::Resolve { query, name } => self.names.resolve(query, name),
            Output::Certify => {
                self.certify.wanted = true;
                self.certify.tell();
            }
            Output::Event(event) => {
                self.ended |= event == Event::Drained;
                (self.events)(event);
            }
        }
        false
    }

    /// Tells the engine what the wall clock shows, if that is not what it expects.
    fn read_wall_clock(&mut self) {
        if let Some(wall) = self.clock.read(self.now) {
            self.engine.handle_input(self.now, Input::WallClock(wall));
        }
    }

    fn start_connect(&self, addr: SocketAddr) -> io::Result<R::Stream> {
        R::stream(os::start_connect(addr, &self.options)?)
    }

    fn insert(&mut self, conn: ConnId, stream: R::Stream, connecting: bool) {
        let index = conn.index();
        if self.sockets.len() <= index {
            self.sockets.resize_with(index + 1, || None);
        }
        let socket = Socket::new(conn, stream, &self.inbox, connecting);
        socket.source.queue(&mut self.ready);
        self.sockets[index] = Some(socket);
    }

    fn close(&mut self, conn: ConnId, how: CloseKind) {
        if how == CloseKind::Half {
            if let Some(socket) = live(&mut self.sockets, conn) {
                socket.shutdown_write();
            }
            return;
        }
        let Some(socket) = self.sockets.get_mut(conn.index()).and_then(Option::take) else {
            return;
        };
        self.blocks.pipes.take_back(conn, true);
        if how == CloseKind::Abort {
            socket.reset_on_close();
        }
        if self.closed < CLOSES_PER_POLL {
            self.closed += 1;
        } else {
            self.closing.push_back(socket);
        }
    }

    fn arm_timer(&mut self) {
        let timeout = self.engine.next_timeout().map(|(at, _)| at);
        let retries = self.acceptors.iter().filter_map(Acceptor::retry_at);
        let clock = self.engine.has_identity().then(|| self.clock.due());
        if let Some(deadline) = retries.chain(timeout).chain(clock).chain(self.looks.due()).min()
            && self.timer.arm(deadline, self.now)
        {
            self.timer.source.queue(&mut self.ready);
        }
    }
}

/// What the engine was told since its last turn ended.
#[derive(Default)]
struct Turn {
    fed: bool,
    bytes: usize,
}

/// Those who wait until a certificate is wanted.
#[derive(Default)]
struct Certify {
    wanted: bool,
    waiting: Vec<oneshot::Sender<()>>,
}

impl Certify {
    /// Tells one that is still there.
    fn tell(&mut self) {
        while self.wanted
            && let Some(waiting) = self.waiting.pop()
        {
            self.wanted = waiting.send(()).is_err();
        }
    }
}

/// The socket of a connection.
fn live<S>(sockets: &mut [Option<Socket<S>>], conn: ConnId) -> Option<&mut Socket<S>> {
    sockets.get_mut(conn.index())?.as_mut()
}

#[cfg(test)]
mod tests;
