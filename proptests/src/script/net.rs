//! An engine, its sockets and its clock: the adapter's half of the contract, with every freedom that
//! an adapter and a kernel have.

use std::collections::{BTreeMap, VecDeque};
use std::fmt::{self, Write};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use selvedge_core::config::Config;
use selvedge_core::engine::{
    Accepted, CloseKind, Command, ConnId, Engine, Event, Input, Output, QueryId,
};
use selvedge_core::error::{ConnectError, IoError};
use selvedge_core::limits::Limits;
use selvedge_core::rng::Seed;
use selvedge_core::time::Time;

use crate::choose::Choose;
use crate::traffic::wire::show;

/// Turns that one moment takes at most. Each takes a frame at least of what was read, if only one when
/// that makes much work: a block of the smallest has 3,641, and two blocks can wait.
const TURNS_AT_ONCE: usize = 8_000;

/// Holds, or says what does not.
pub(crate) type Check = Result<(), String>;

/// Something that an engine's peers notice.
#[derive(Debug)]
pub(crate) enum Note {
    /// It wants to connect.
    Connect(ConnId, SocketAddr),
    /// Bytes arrived.
    Bytes(ConnId, Vec<u8>),
    /// The other side sends no more.
    Fin(ConnId),
    /// The connection is over, by a reset or not.
    Over(ConnId, Reset),
}

/// How a connection ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reset {
    Yes,
    No,
}

/// What an adapter knows of a connection.
#[derive(Debug)]
pub(crate) struct Socket {
    connected: bool,
    /// How many bytes the kernel takes.
    pub(crate) room: usize,
    /// What is in the pipe to it: written before all else.
    pipe: Vec<u8>,
    /// The engine wants to write, and not everything is written.
    flush: bool,
    /// Our FIN was sent.
    fin: bool,
    /// The read budget was seen to be 0: no read before [`Output::ReadReady`].
    paused: bool,
    /// A read is under way that may bring a whole buffer.
    armed: bool,
    /// The peer's FIN was passed on.
    pub(crate) eof: bool,
    /// A failure was passed on: the engine must end it in the same turn.
    failed: bool,
}

/// An engine and everything that is outside of it but its peers.
#[derive(Debug)]
pub(crate) struct Net {
    pub(crate) engine: Engine,
    pub(crate) now: Time,
    pub(crate) sockets: BTreeMap<ConnId, Socket>,
    /// Connects that were not answered. The engine may have given up some of them.
    pub(crate) connects: Vec<(ConnId, SocketAddr)>,
    pub(crate) resolves: Vec<(QueryId, Arc<str>)>,
    /// Connections that are over.
    pub(crate) dead: VecDeque<ConnId>,
    pub(crate) notes: VecDeque<Note>,
    pub(crate) events: Vec<Event>,
    pub(crate) trace: Trace,
    /// How often the engine was told something.
    pub(crate) inputs: u64,
    /// What every socket reads into, as an adapter does it.
    block: BytesMut,
    /// Tell people what happens.
    log: bool,
}

impl Net {
    pub(crate) fn new(config: Config, seed: u64) -> Self {
        let now = Time::from_nanos(1);
        Net {
            engine: Engine::new(Arc::new(config), Seed::from_number(seed), now),
            now,
            sockets: BTreeMap::new(),
            connects: Vec::new(),
            resolves: Vec::new(),
            dead: VecDeque::new(),
            notes: VecDeque::new(),
            events: Vec::new(),
            trace: Trace(0xcbf2_9ce4_8422_2325),
            inputs: 0,
            block: BytesMut::new(),
            log: std::env::var_os("SELVEDGE_LOG").is_some(),
        }
    }

    // ---- What happens to the engine ----

    pub(crate) fn accept(&mut self, accepted: Accepted) -> Result<Option<ConnId>, String> {
        let Some(conn) = self.engine.accept(self.now, accepted) else { return Ok(None) };
        self.insert(conn, true)?;
        Ok(Some(conn))
    }

    fn insert(&mut self, conn: ConnId, connected: bool) -> Check {
        if let Some(other) = self.sockets.keys().find(|other| other.index() == conn.index()) {
            return Err(format!("{conn:?} has the index of {other:?}"));
        }
        self.sockets.insert(conn, Socket::new(connected));
        Ok(())
    }

    pub(crate) fn input(&mut self, input: Input) {
        // What is in memory does not depend on where: nothing of the input is written as it is.
        let _ = write!(self.trace, "{:?}", self.now);
        self.inputs += 1;
        if self.log {
            match &input {
                Input::Received { conn, data } => {
                    eprintln!("{:?} {conn:?} received {}: {}", self.now, data.len(), show(data));
                }
                Input::Command(Command::Reload(_)) => eprintln!("{:?} reload", self.now),
                input => eprintln!("{:?} {input:?}", self.now),
            }
        }
        self.engine.handle_input(self.now, input);
    }

    /// Answers a connect; also one that the engine has given up.
    pub(crate) fn connected(&mut self, index: usize, result: Result<(), ConnectError>) {
        let (conn, _) = self.connects.remove(index);
        match (self.sockets.get_mut(&conn), result) {
            (Some(socket), Ok(())) => socket.connected = true,
            (Some(_), Err(_)) => {
                self.sockets.remove(&conn);
                self.bury(conn);
            }
            (None, _) => {}
        }
        let local = ([127, 0, 0, 1], 40_000).into();
        self.input(Input::Connected { conn, result: result.map(|()| local) });
    }

    /// How much of `want` may be read from a connection now. A read that is under way may bring more
    /// than the budget by now is.
    pub(crate) fn readable(&mut self, choose: &mut dyn Choose, conn: ConnId, want: usize) -> usize {
        let Some(socket) = self.sockets.get(&conn) else { return 0 };
        if !socket.connected || socket.eof || want == 0 {
            return 0;
        }
        let budget = self.engine.read_budget(conn);
        if socket.armed && choose.one_in(4) {
            return want.min(Limits::READ_BLOCK);
        }
        if socket.paused { 0 } else { want.min(budget) }
    }

    /// A read brought these bytes.
    pub(crate) fn receive(&mut self, conn: ConnId, data: &[u8]) {
        if let Some(socket) = self.sockets.get_mut(&conn) {
            socket.armed = false;
        }
        // Some adapters have pipes.
        if let Some(sink) = self.engine.splices_to(conn)
            && let Some(socket) = self.sockets.get_mut(&sink)
            && self.inputs.is_multiple_of(2)
        {
            socket.pipe = data.to_vec();
            return self.input(Input::Spliced { conn, n: data.len() });
        }
        if self.block.capacity() < data.len() && !self.block.try_reclaim(Limits::READ_BLOCK) {
            self.block.reserve(Limits::READ_BLOCK);
        }
        self.block.extend_from_slice(data);
        let data = self.block.split();
        self.input(Input::Received { conn, data });
    }

    /// A read brought the end; some kernels tell of it without one. Nothing happens if nothing is
    /// read for now.
    pub(crate) fn read_closed(&mut self, choose: &mut dyn Choose, conn: ConnId) {
        let reads = self.engine.read_budget(conn) > 0 || choose.one_in(4);
        match self.sockets.get_mut(&conn) {
            Some(socket) if socket.connected && !socket.eof && (socket.armed || reads) => {
                socket.eof = true;
            }
            _ => return,
        }
        self.input(Input::ReadClosed { conn });
    }

    /// The peer has reset the connection.
    pub(crate) fn failed(&mut self, conn: ConnId, kind: IoError) -> bool {
        match self.sockets.get_mut(&conn) {
            Some(socket) if socket.connected && !socket.failed => socket.failed = true,
            _ => return false,
        }
        self.input(Input::Failed { conn, kind });
        true
    }

    pub(crate) fn reload(&mut self, config: Config) {
        self.input(Input::Command(Command::Reload(Arc::new(config))));
    }

    /// Lets the time be `to`, and everything fire that is due then.
    pub(crate) fn fire(&mut self, choose: &mut dyn Choose, to: Time) -> Check {
        self.now = self.now.max(to);
        for _ in 0..TURNS_AT_ONCE {
            self.input(Input::Timeout);
            self.turn(choose)?;
            if self.engine.next_timeout().is_none_or(|(at, _)| at > self.now) {
                return Ok(());
            }
        }
        Err(format!("time does not move: {:?} at {:?}", self.engine.next_timeout(), self.now))
    }

    // ---- What the engine does ----

    /// Ends the turn and does what comes out, until nothing more does.
    pub(crate) fn turn(&mut self, choose: &mut dyn Choose) -> Check {
        for _ in 0..20_000 {
            self.engine.end_turn(self.now);
            if !self.perform_all(choose)? {
                return self.check();
            }
        }
        Err("a turn does not end".to_owned())
    }

    /// Does what the engine wants. True if it was told something.
    pub(crate) fn perform_all(&mut self, choose: &mut dyn Choose) -> Result<bool, String> {
        let mut told = false;
        while let Some(output) = self.engine.poll_output() {
            let _ = write!(self.trace, "{output:?}");
            if self.log {
                eprintln!("    {output:?}");
            }
            told |= self.perform(choose, output)?;
        }
        Ok(told)
    }

    fn perform(&mut self, choose: &mut dyn Choose, output: Output) -> Result<bool, String> {
        match output {
            Output::Connect { conn, addr } => {
                self.insert(conn, false)?;
                self.connects.push((conn, addr));
                self.notes.push_back(Note::Connect(conn, addr));
            }
            Output::Flush(conn) => {
                match self.sockets.get_mut(&conn) {
                    Some(socket) if socket.connected && !socket.fin => socket.flush = true,
                    other => return Err(format!("{conn:?} is flushed as {other:?}")),
                }
                return Ok(self.write(choose, conn));
            }
            Output::ReadReady(conn) => match self.sockets.get_mut(&conn) {
                Some(socket) if socket.connected => socket.paused = false,
                other => return Err(format!("{conn:?} is readable as {other:?}")),
            },
            Output::Close { conn, how } => self.close(conn, how)?,
            Output::Resolve { query, name } => self.resolves.push((query, name)),
            Output::Certify => return Err("nobody has an identity here".into()),
            Output::Event(event) => self.events.push(event),
        }
        Ok(false)
    }

    /// The socket may take more than before: writes what the engine wants written.
    pub(crate) fn resume(&mut self, choose: &mut dyn Choose, conn: ConnId) {
        if self.sockets.get(&conn).is_some_and(|socket| socket.flush) {
            self.write(choose, conn);
        }
    }

    /// Writes as much as the socket takes. True if the engine was told.
    fn write(&mut self, choose: &mut dyn Choose, conn: ConnId) -> bool {
        let mut told = false;
        loop {
            let bytes = self.offered(choose, conn);
            let Some(socket) = self.sockets.get_mut(&conn) else { return told };
            socket.flush = !bytes.is_empty();
            let mut n = bytes.len().min(socket.room);
            if n > 1 && choose.one_in(12) {
                n = choose.within(1, n);
            }
            if n == 0 {
                if socket.flush && choose.one_in(4) {
                    // A write that made no progress.
                    self.engine.handle_input(self.now, Input::Wrote { conn, n: 0 });
                    told = true;
                }
                return told;
            }
            if socket.room != usize::MAX {
                socket.room -= n;
            }
            self.trace.bytes(&bytes[..n]);
            if self.log {
                eprintln!("    {conn:?} wrote {n} of {}: {}", bytes.len(), show(&bytes[..n]));
            }
            socket.pipe.drain(..n.min(socket.pipe.len()));
            self.notes.push_back(Note::Bytes(conn, bytes[..n].to_vec()));
            self.input(Input::Wrote { conn, n });
            told = true;
        }
    }

    /// What the engine wants written to a connection, or its beginning.
    fn offered(&mut self, choose: &mut dyn Choose, conn: ConnId) -> Vec<u8> {
        if let Some(socket) = self.sockets.get(&conn).filter(|socket| !socket.pipe.is_empty()) {
            return socket.pipe.clone();
        }
        if choose.one_in(8) {
            let mut owned: Vec<Bytes> = Vec::new();
            self.engine.take_bufs(conn, &mut owned);
            return owned.concat();
        }
        let mut io = [&[][..]; 8];
        let slices = self.engine.write_bufs(conn, &mut io);
        io[..slices].concat()
    }

    fn close(&mut self, conn: ConnId, how: CloseKind) -> Check {
        let error = |what: &str| Err(format!("{conn:?} is closed ({how:?}) {what}"));
        let Some(socket) = self.sockets.get_mut(&conn) else { return error("but is not open") };
        if how != CloseKind::Abort && !socket.connected {
            return error("before it is connected");
        }
        if how != CloseKind::Abort && socket.flush {
            return error("before everything is written");
        }
        if how == CloseKind::Half {
            if std::mem::replace(&mut socket.fin, true) {
                return error("twice");
            }
            self.notes.push_back(Note::Fin(conn));
            return Ok(());
        }
        self.sockets.remove(&conn);
        self.bury(conn);
        let reset = if how == CloseKind::Abort { Reset::Yes } else { Reset::No };
        self.notes.push_back(Note::Over(conn, reset));
        Ok(())
    }

    fn bury(&mut self, conn: ConnId) {
        self.dead.push_back(conn);
        if self.dead.len() > 8 {
            self.dead.pop_front();
        }
    }

    /// What must hold between turns, as far as an adapter sees it.
    fn check(&mut self) -> Check {
        self.engine.check_invariants()?;
        for (&conn, socket) in &mut self.sockets {
            let mut io = [&[][..]; 1];
            let offers = self.engine.write_bufs(conn, &mut io) > 0;
            if socket.failed {
                return Err(format!("{conn:?} failed and is still there"));
            }
            if offers && !socket.flush {
                return Err(format!("{conn:?} has bytes to write and nobody was told"));
            }
            if !socket.connected || socket.eof {
                continue;
            }
            if self.engine.read_budget(conn) == 0 {
                socket.paused = true;
            } else if !socket.paused {
                socket.armed = true;
            }
        }
        let connections = self.engine.gauges().connections;
        if connections != self.sockets.len() {
            return Err(format!("{connections} connections, {} sockets", self.sockets.len()));
        }
        Ok(())
    }
}

impl Net {
    /// Nothing waits to be written.
    pub(crate) fn is_flushed(&self) -> bool {
        !self.sockets.values().any(|socket| socket.flush)
    }

    /// When everything is written and nothing is under way, whoever may be read was told so.
    pub(crate) fn check_told(&self) -> Check {
        let waits = |(conn, socket): &(&ConnId, &Socket)| {
            socket.paused && !socket.eof && self.engine.read_budget(**conn) > 0
        };
        match self.sockets.iter().find(waits) {
            Some((conn, _)) => Err(format!("{conn:?} may be read and nobody was told")),
            None => Ok(()),
        }
    }
}

impl Socket {
    fn new(connected: bool) -> Self {
        Socket {
            connected,
            room: usize::MAX,
            pipe: Vec::new(),
            flush: false,
            fin: false,
            paused: false,
            armed: false,
            eof: false,
            failed: false,
        }
    }
}

/// A fingerprint of everything that an engine did.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Trace(pub(crate) u64);

impl Trace {
    fn bytes(&mut self, bytes: &[u8]) {
        for chunk in bytes.chunks(8) {
            let mut word = [0; 8];
            word[..chunk.len()].copy_from_slice(chunk);
            self.word(u64::from_le_bytes(word) ^ (chunk.len() as u64) << 56);
        }
    }

    fn word(&mut self, word: u64) {
        self.0 = (self.0 ^ word).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(29);
    }
}

impl Write for Trace {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.bytes(text.as_bytes());
        Ok(())
    }
}

/// A while.
pub(crate) fn millis(n: usize) -> Duration {
    Duration::from_millis(n as u64)
}
