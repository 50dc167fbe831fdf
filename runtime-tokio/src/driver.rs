//! The one task of a worker: it owns the engine and every socket.

use std::collections::VecDeque;
use std::io;
use std::net::TcpListener;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bytes::BytesMut;
use selvedge_core::config::{Config, ListenerId};
use selvedge_core::engine::{Accepted, CloseKind, Command, ConnId, Engine, Event, Input, Output};
use selvedge_core::time::Time;
use tokio::net::TcpStream;
use tokio::time::{Instant, Sleep, sleep_until};

use crate::Options;
use crate::accept::Acceptor;
use crate::inbox::{Inbox, Message, Source};
use crate::os;
use crate::resolve::Names;
use crate::socket::{Socket, Visit};

/// Sources that are visited before the reactor, the timer and the messages get their turn.
const VISITS_PER_POLL: usize = 64;
/// Connections that one visit of a listener accepts.
const ACCEPTS_PER_VISIT: u32 = 16;
/// No sleep is longer: the engine's "never" is far beyond what a timer can be set to.
const MAX_SLEEP: Duration = Duration::from_hours(1);
/// The index of the timer on the ready list. Listeners count down from here; connections count up
/// from 0 and are bounded by memory long before they meet.
const TIMER: u32 = u32::MAX;

/// Drives one engine. Everything happens in [`Driver::poll`].
pub(crate) struct Driver<E> {
    engine: Engine,
    events: E,
    options: Options,
    inbox: Arc<Inbox>,
    /// By [`ConnId::index`].
    sockets: Vec<Option<Socket>>,
    /// By [`ListenerId`]; none after a drain.
    acceptors: Vec<Acceptor>,
    names: Names,
    timer: Timer,
    /// The clock reading of this poll.
    now: Time,
    /// Indices of the sources to visit.
    ready: VecDeque<u32>,
    /// What every socket reads into. The filled part is handed over; once that was written on, its
    /// room is used again.
    block: BytesMut,
    ended: bool,
}

impl<E: FnMut(Event)> Driver<E> {
    /// Takes the listeners, in the order of the configuration. Within a runtime.
    pub(crate) fn new(
        config: Arc<Config>,
        listeners: Vec<TcpListener>,
        options: Options,
        inbox: Arc<Inbox>,
        events: E,
    ) -> io::Result<Self> {
        let mut acceptors = Vec::with_capacity(listeners.len());
        let mut ready = VecDeque::new();
        for (id, socket) in (0..).zip(listeners) {
            let acceptor = Acceptor::new(id, TIMER - 1 - u32::from(id), socket, &inbox)?;
            acceptor.source.queue(&mut ready);
            acceptors.push(acceptor);
        }
        let timer = Timer::new(&inbox);
        let now = timer.now();
        let mut driver = Driver {
            engine: Engine::new(config, os::seed()?, now),
            events,
            options,
            names: Names::new(Arc::clone(&inbox)),
            inbox,
            sockets: Vec::new(),
            acceptors,
            timer,
            now,
            ready,
            block: BytesMut::new(),
            ended: false,
        };
        // What the configuration wants at once: names to resolve.
        driver.settle();
        Ok(driver)
    }

    /// One turn of the worker. Ready when the engine was drained, or when it was told to stop.
    pub(crate) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        self.now = self.timer.now();
        for message in self.inbox.collect(cx.waker(), &mut self.ready) {
            self.handle(message);
        }
        for _ in 0..VISITS_PER_POLL {
            let Some(index) = self.ready.pop_front() else {
                break;
            };
            self.visit(index);
        }
        if self.ended {
            return Poll::Ready(());
        }
        self.arm_timer();
        if !self.ready.is_empty() {
            // Runs this task again, but only after the reactor has looked for events: waking it
            // directly would put it in front of them.
            let _ = pin!(tokio::task::yield_now()).poll(cx);
        }
        Poll::Pending
    }

    fn handle(&mut self, message: Message) {
        match message {
            Message::Input(Input::Command(Command::Drain)) => self.drain(),
            Message::Input(input) => self.input(input),
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

    fn visit(&mut self, index: u32) {
        if index == TIMER {
            return self.visit_timer();
        }
        if let Some(Some(socket)) = self.sockets.get_mut(index as usize) {
            let visit = socket.visit(&mut self.engine, &mut self.block, self.now);
            match visit {
                Visit::Nothing => return,
                Visit::Fed => {}
                Visit::FedMore => socket.source.queue(&mut self.ready),
                Visit::Gone => self.sockets[index as usize] = None,
            }
            return self.settle();
        }
        let id = (TIMER - 1 - index) as usize;
        if let Some(acceptor) = self.acceptors.get(id) {
            acceptor.source.begin_visit();
            if self.accept(id, ACCEPTS_PER_VISIT) {
                self.acceptors[id].source.queue(&mut self.ready);
            }
        }
    }

    fn visit_timer(&mut self) {
        self.timer.source.begin_visit();
        self.timer.armed = Time::MAX;
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
                    if let Ok(local) = stream.local_addr() {
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
                let socket = live(&mut self.sockets, conn);
                return socket.is_some_and(|socket| socket.flush(&mut self.engine, self.now));
            }
            Output::ReadReady(conn) => {
                if let Some(socket) = live(&mut self.sockets, conn) {
                    socket.source.queue(&mut self.ready);
                }
            }
            Output::Connect { conn, addr } => match os::start_connect(addr, &self.options) {
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
            Output::Event(event) => {
                self.ended |= event == Event::Drained;
                (self.events)(event);
            }
        }
        false
    }

    fn insert(&mut self, conn: ConnId, stream: TcpStream, connecting: bool) {
        let index = conn.index();
        if self.sockets.len() <= index {
            self.sockets.resize_with(index + 1, || None);
        }
        let socket = Socket::new(conn, stream, &self.inbox, connecting);
        socket.source.queue(&mut self.ready);
        self.sockets[index] = Some(socket);
    }

    fn close(&mut self, conn: ConnId, how: CloseKind) {
        let Some(socket) = live(&mut self.sockets, conn) else {
            return;
        };
        match how {
            CloseKind::Half => return socket.shutdown_write(),
            CloseKind::Full => {}
            CloseKind::Abort => socket.reset_on_close(),
        }
        self.sockets[conn.index()] = None;
    }

    fn arm_timer(&mut self) {
        let timeout = self.engine.next_timeout().map(|(at, _)| at);
        let retries = self.acceptors.iter().filter_map(Acceptor::retry_at);
        if let Some(deadline) = retries.chain(timeout).min()
            && self.timer.arm(deadline, self.now)
        {
            self.timer.source.queue(&mut self.ready);
        }
    }
}

/// The socket of a connection.
fn live(sockets: &mut [Option<Socket>], conn: ConnId) -> Option<&mut Socket> {
    sockets.get_mut(conn.index())?.as_mut()
}

/// The one timer.
struct Timer {
    source: Arc<Source>,
    waker: Waker,
    sleep: Pin<Box<Sleep>>,
    /// What `sleep` is set to; [`Time::MAX`] once it fired.
    armed: Time,
    /// [`Time::ZERO`].
    origin: Instant,
}

impl Timer {
    fn new(inbox: &Arc<Inbox>) -> Self {
        let origin = Instant::now();
        let source = Source::new(inbox, TIMER);
        Timer {
            waker: Waker::from(Arc::clone(&source)),
            source,
            sleep: Box::pin(sleep_until(origin)),
            armed: Time::MAX,
            origin,
        }
    }

    fn now(&self) -> Time {
        Time::ZERO + self.origin.elapsed()
    }

    /// Sees to a wake-up at `deadline` or earlier. Setting the timer anew costs more than being
    /// woken once too often, so a deadline that moves away is left to fire. True if it has come.
    fn arm(&mut self, deadline: Time, now: Time) -> bool {
        if deadline <= now {
            return true;
        }
        let deadline = deadline.min(now + MAX_SLEEP);
        if deadline >= self.armed {
            return false;
        }
        self.armed = deadline;
        let at = self.origin + Duration::from_nanos(deadline.as_nanos());
        self.sleep.as_mut().reset(at);
        let cx = &mut Context::from_waker(&self.waker);
        self.sleep.as_mut().poll(cx).is_ready()
    }
}
