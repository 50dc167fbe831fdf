//! What it takes to run the engine without any runtime: a whole worker on `epoll` and plain non-blocking
//! calls. What those need around them, and what errors mean, is taken from [`selvedge_driver::os`].
//!
//! `cargo run --release -p selvedge --example epoll -- 127.0.0.1:4143 127.0.0.1:8080`
//!
//! `Worker::turn` tells the engine what happened; `Worker::perform` does what it wants. Sockets are
//! registered once, edge-triggered: a flag remembers what became possible until a call denies it.

use std::collections::VecDeque;
use std::io::{self, ErrorKind, IoSlice, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream, ToSocketAddrs};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant};

use bytes::BytesMut;
use rustix::event::{Timespec, epoll};
use rustix::io::Errno;
use selvedge_core::config::{Config, Listener, ListenerId, ListenerKind};
use selvedge_core::engine::{Accepted, CloseKind, ConnId, Engine, Event, Input, Output};
use selvedge_core::error::DnsError;
use selvedge_core::limits::Limits;
use selvedge_core::time::Time;
use selvedge_driver::{Options, os};

/// What epoll calls the wake-up of [`Remote`]. Listeners count down from here, connections up from 0.
const WAKE: u64 = u64::MAX;
/// How long accepting pauses when the process is out of descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// The C library does not say how long an address is good for.
const TTL: Duration = Duration::from_secs(30);
const MAX_WAIT: Duration = Duration::from_hours(1);

/// Something to do with the engine, between two turns.
type Message = Box<dyn FnOnce(&mut Engine, Time) + Send>;

/// The way into a worker from other threads.
#[derive(Clone)]
pub(crate) struct Remote {
    messages: mpsc::Sender<Message>,
    wake: Arc<UnixStream>,
}

impl Remote {
    pub(crate) fn send(&self, message: impl FnOnce(&mut Engine, Time) + Send + 'static) {
        // A worker that has ended wants nothing, and a full pipe wakes it all the same.
        let _ = self.messages.send(Box::new(message));
        let _ = (&*self.wake).write(&[0]);
    }
}

/// A connection: its socket, and what is known to be possible.
struct Socket {
    conn: ConnId,
    stream: TcpStream,
    connecting: bool,
    readable: bool,
    writable: bool,
    /// A FIN or an error came, perhaps with bytes: no event follows, and a short read is not the last.
    ending: bool,
    read_closed: bool,
    /// A write failed. What arrived before that is read first: it may be an answer. The end is told
    /// once: after any error but EPIPE, which follows a FIN, what a read takes for a FIN is none.
    failed: Option<ErrorKind>,
    /// On the ready list.
    queued: bool,
}

/// One engine, its sockets, and the clock.
pub(crate) struct Worker<E> {
    engine: Engine,
    events: E,
    epoll: OwnedFd,
    listeners: Vec<TcpListener>,
    accept_again: Option<Time>,
    /// By `ConnId::index`.
    sockets: Vec<Option<Socket>>,
    /// Sockets to visit: what epoll reported, and what was not done with.
    ready: VecDeque<usize>,
    /// What all sockets read into, from its front.
    block: BytesMut,
    inbox: mpsc::Receiver<Message>,
    woken: UnixStream,
    pub(crate) remote: Remote,
    origin: Instant,
    /// One clock reading serves a turn.
    now: Time,
    ended: bool,
}

impl<E: FnMut(Event)> Worker<E> {
    /// Takes listeners in the order of the configuration.
    pub(crate) fn new(
        config: Arc<Config>,
        listeners: Vec<TcpListener>,
        events: E,
    ) -> io::Result<Self> {
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        let (wake, woken) = UnixStream::pair()?;
        wake.set_nonblocking(true)?;
        woken.set_nonblocking(true)?;
        register(&epoll, &woken, WAKE)?;
        for (id, listener) in (1..).zip(&listeners) {
            listener.set_nonblocking(true)?;
            register(&epoll, listener, WAKE - id)?;
        }
        let (messages, inbox) = mpsc::channel();
        Ok(Worker {
            engine: Engine::new(config, os::seed()?, Time::ZERO),
            events,
            epoll,
            listeners,
            accept_again: None,
            sockets: Vec::new(),
            ready: VecDeque::new(),
            block: BytesMut::new(),
            inbox,
            woken,
            remote: Remote { messages, wake: Arc::new(wake) },
            origin: Instant::now(),
            now: Time::ZERO,
            ended: false,
        })
    }

    /// Runs until the engine is drained.
    pub(crate) fn run(mut self) -> io::Result<()> {
        let mut events = Vec::with_capacity(256);
        self.settle();
        while !self.ended {
            let wait = if self.ready.is_empty() { self.until_deadline() } else { Duration::ZERO };
            let room = rustix::buffer::spare_capacity(&mut events);
            match epoll::wait(&self.epoll, room, Timespec::try_from(wait).ok().as_ref()) {
                Err(error) if error != Errno::INTR => return Err(error.into()),
                _ => self.turn(&mut events),
            }
        }
        Ok(())
    }

    fn turn(&mut self, events: &mut Vec<epoll::Event>) {
        self.now = Time::ZERO + self.origin.elapsed();
        // What this batch says of a socket that was closed, its successor finds untrue and lives on.
        events.drain(..).for_each(|event| self.event(event.data.u64(), event.flags));
        if self.accept_again.is_some_and(|at| at <= self.now) {
            self.accept_again = None;
            self.accept_all();
        }
        // Each socket once: those that have more come back after the next look at epoll.
        for _ in 0..self.ready.len() {
            if let Some(index) = self.ready.pop_front() {
                self.visit(index);
            }
        }
        if self.engine.next_timeout().is_some_and(|(at, _why)| at <= self.now) {
            self.input(Input::Timeout);
        }
    }

    fn until_deadline(&mut self) -> Duration {
        let timeout = self.engine.next_timeout().map(|(at, _why)| at);
        let deadline = timeout.into_iter().chain(self.accept_again).min();
        deadline.map_or(MAX_WAIT, |at| at.saturating_since(self.now).min(MAX_WAIT))
    }

    fn event(&mut self, token: u64, flags: epoll::EventFlags) {
        use epoll::EventFlags as Flags;
        if let Some(Some(socket)) = self.sockets.get_mut(token as usize) {
            socket.ending |= flags.intersects(Flags::RDHUP | Flags::HUP | Flags::ERR);
            socket.readable |= socket.ending || flags.contains(Flags::IN);
            socket.writable |= flags.intersects(Flags::OUT | Flags::HUP | Flags::ERR);
            self.queue(token as usize);
        } else if token == WAKE {
            while matches!(self.woken.read(&mut [0; 64]), Ok(1..)) {}
            while let Ok(message) = self.inbox.try_recv() {
                // If it is a drain: what the kernel holds for us already is still served.
                self.accept_all();
                message(&mut self.engine, self.now);
                self.settle();
            }
        } else if WAKE - token <= self.listeners.len() as u64 {
            self.accept((WAKE - token - 1) as usize);
        }
    }

    fn accept_all(&mut self) {
        (0..self.listeners.len()).for_each(|id| self.accept(id));
    }

    fn accept(&mut self, id: usize) {
        loop {
            let (stream, peer) = match self.listeners[id].accept() {
                Ok(accepted) => accepted,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return,
                Err(error) if os::is_about_one_connection(&error) => continue,
                Err(_) => return self.accept_again = Some(self.now + ACCEPT_PAUSE),
            };
            let Ok(local) = stream.local_addr() else { continue };
            let original_dst = os::original_dst(&stream, peer);
            let (peer, local) = (os::canonical(peer), os::canonical(local));
            let accepted = Accepted { listener: id as ListenerId, peer, local, original_dst };
            if let Some(conn) = self.engine.accept(self.now, accepted) {
                self.insert(conn, stream, false);
            }
            self.settle();
        }
    }

    fn insert(&mut self, conn: ConnId, stream: TcpStream, connecting: bool) {
        let index = conn.index();
        if self.sockets.len() <= index {
            self.sockets.resize_with(index + 1, || None);
        }
        // These hardly ever fail. A socket that is never ready runs into the engine's timeouts.
        let _ = stream.set_nonblocking(true).and_then(|()| stream.set_nodelay(true));
        let _ = register(&self.epoll, &stream, index as u64);
        self.sockets[index] = Some(Socket {
            conn,
            stream,
            connecting,
            readable: false,
            writable: !connecting,
            ending: false,
            read_closed: false,
            failed: None,
            queued: false,
        });
    }

    fn queue(&mut self, index: usize) {
        let Some(Some(socket)) = self.sockets.get_mut(index) else { return };
        if !std::mem::replace(&mut socket.queued, true) {
            self.ready.push_back(index);
        }
    }

    fn input(&mut self, input: Input) {
        self.engine.handle_input(self.now, input);
        self.settle();
    }

    /// Ends the turn and does what the engine wants, until it wants nothing more.
    fn settle(&mut self) {
        let mut fed = true;
        while std::mem::replace(&mut fed, false) {
            self.engine.end_turn(self.now);
            while let Some(output) = self.engine.poll_output() {
                fed |= self.perform(output);
            }
        }
    }

    /// True if the engine was told something.
    fn perform(&mut self, output: Output) -> bool {
        match output {
            Output::Flush(conn) => return self.flush(conn.index()),
            Output::ReadReady(conn) => self.queue(conn.index()),
            Output::Connect { conn, addr } => match os::start_connect(addr, &Options::default()) {
                Ok(stream) => self.insert(conn, stream, true),
                Err(error) => {
                    let result = Err(os::connect_error(&error));
                    self.engine.handle_input(self.now, Input::Connected { conn, result });
                    return true;
                }
            },
            Output::Close { conn, how } => self.close(conn.index(), how),
            Output::Resolve { query, name } => {
                let remote = self.remote.clone();
                std::thread::spawn(move || {
                    let addrs = (&*name, 0).to_socket_addrs();
                    let result = addrs.map(|addrs| (addrs.map(|addr| addr.ip()).collect(), TTL));
                    let result = result.map_err(|_| DnsError::Failed);
                    let input = Input::Resolved { query, result };
                    remote.send(move |engine, now| engine.handle_input(now, input));
                });
            }
            // It has no authority to ask.
            Output::Certify => {}
            Output::Event(event) => {
                if event == Event::Draining {
                    self.listeners.clear();
                }
                self.ended |= event == Event::Drained;
                (self.events)(event);
            }
        }
        false
    }

    fn close(&mut self, index: usize, how: CloseKind) {
        let Some(Some(socket)) = self.sockets.get(index) else { return };
        if how == CloseKind::Half {
            return drop(socket.stream.shutdown(Shutdown::Write));
        }
        if how == CloseKind::Abort {
            os::reset_on_close(&socket.stream);
        }
        self.sockets[index] = None;
    }

    /// Does what the socket is ready for: at most one read, so that none starves the others.
    fn visit(&mut self, index: usize) {
        let Some(Some(socket)) = self.sockets.get_mut(index) else { return };
        socket.queued = false;
        if socket.connecting {
            let (conn, result) = (socket.conn, os::connect_result(&socket.stream));
            if result.as_ref().is_err_and(|error| error.kind() == ErrorKind::WouldBlock) {
                return;
            }
            socket.connecting = false;
            if result.is_err() {
                self.sockets[index] = None;
            }
            let result = result.map_err(|error| os::connect_error(&error));
            self.input(Input::Connected { conn, result });
        } else if self.flush(index) {
            self.settle();
        }
        if let Some(input) = self.read(index) {
            self.input(input);
            self.queue(index);
        }
    }

    /// Reads once; `None`: there is nothing to say.
    fn read(&mut self, index: usize) -> Option<Input> {
        let socket = self.sockets.get_mut(index)?.as_mut()?;
        let conn = socket.conn;
        let failed = |kind: ErrorKind| Input::Failed { conn, kind: os::io_error(&kind.into()) };
        let failed = socket.failed.map(failed);
        if socket.read_closed || !socket.readable || self.engine.read_budget(conn) == 0 {
            return failed;
        }
        if self.block.len() < Limits::READ_BLOCK / 4 {
            self.block = BytesMut::zeroed(Limits::READ_BLOCK);
        }
        match socket.stream.read(&mut self.block) {
            Ok(0) if socket.failed.is_some_and(|kind| kind != ErrorKind::BrokenPipe) => failed,
            Ok(0) => {
                socket.read_closed = true;
                Some(Input::ReadClosed { conn })
            }
            Ok(n) => {
                // A short read empties the socket's buffer: more bytes will be another event.
                socket.readable = n == self.block.len() || socket.ending || failed.is_some();
                Some(Input::Received { conn, data: self.block.split_to(n) })
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                socket.readable = false;
                failed
            }
            Err(error) => Some(Input::Failed { conn, kind: os::io_error(&error) }),
        }
    }

    /// Writes what the engine has for a connection; true if the engine was told something.
    fn flush(&mut self, index: usize) -> bool {
        let Some(Some(socket)) = self.sockets.get_mut(index) else { return false };
        let mut fed = false;
        while socket.writable && !socket.connecting && socket.failed.is_none() {
            let mut slices = [&[][..]; 16];
            let count = self.engine.write_bufs(socket.conn, &mut slices);
            if count == 0 {
                break;
            }
            match socket.stream.write_vectored(&slices.map(IoSlice::new)[..count]) {
                Ok(n) => {
                    self.engine.handle_input(self.now, Input::Wrote { conn: socket.conn, n });
                    fed = true;
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => socket.writable = false,
                Err(error) => {
                    socket.failed = Some(error.kind());
                    socket.readable = true;
                }
            }
        }
        if socket.failed.is_some() {
            self.queue(index);
        }
        fed
    }
}

fn register(epoll: &OwnedFd, source: impl AsFd, token: u64) -> io::Result<()> {
    use epoll::EventFlags as Flags;
    let flags = Flags::IN | Flags::OUT | Flags::RDHUP | Flags::ET;
    Ok(epoll::add(epoll, source, epoll::EventData::new_u64(token), flags)?)
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let words: Vec<String> = std::env::args().collect();
    let [_, listen, app] = &words[..] else { return Err("usage: epoll LISTEN APP".into()) };
    let (addr, app) = (listen.parse()?, Some(app.parse()?));
    let listeners = vec![Listener { addr, kind: ListenerKind::Inbound }];
    let config = Arc::new(Config { listeners, app, ..Config::default() });
    let listeners = vec![TcpListener::bind(addr)?];
    Ok(Worker::new(config, listeners, |event| println!("{event:?}"))?.run()?)
}
