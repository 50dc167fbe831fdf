//! An engine and its adapter: what stands between the state machine and the links.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use selvedge_core::config::{Config, Target};
use selvedge_core::engine::{
    Accepted, CloseKind, Command, ConnId, Engine, Event as Told, Input, Output, QueryId,
};
use selvedge_core::error::{ConnectError, DnsError, IoError};
use selvedge_core::limits::Limits;
use selvedge_core::rng::Seed;
use selvedge_core::time::Time;

use super::Host;
use crate::sim::invariant::{Check, Invariant, violated};
use crate::sim::link::{FAR, Fin, LinkId, NEAR};
use crate::sim::mix::{Fault, LATE, STALL};
use crate::sim::net::{Answer, Event, HostId, Net};

/// Tokens of wake-ups.
const TURN: u32 = 0;
const TIMER: u32 = 1;
/// Sockets that are visited in one turn.
const VISITS: usize = 64;
/// No turn takes more rounds, nor does a timer fire more often at one time.
const ROUNDS: usize = 20_000;
/// How many slices go into one write.
const SLICES: usize = 16;

/// See the [module](self).
pub(in crate::sim) struct EngineHost {
    pub(in crate::sim) id: HostId,
    pub(in crate::sim) engine: Engine,
    pub(in crate::sim) config: Arc<Config>,
    /// Its address; the listeners' ports are of the configuration.
    pub(in crate::sim) ip: IpAddr,
    /// Is it told to drain?
    pub(in crate::sim) draining: bool,
    pub(in crate::sim) drained: u32,
    sockets: Vec<Option<Socket>>,
    ready: VecDeque<ConnId>,
    block: BytesMut,
    /// A turn is to come.
    due: bool,
    /// When the timer will fire.
    armed: Time,
    stalled_until: Time,
    turns: u64,
    /// Connections that are gone.
    dead: VecDeque<ConnId>,
    /// Those that were reported broken in this turn.
    broken: Vec<ConnId>,
    /// What queries were answered.
    names: BTreeMap<QueryId, Vec<IpAddr>>,
    originals: BTreeSet<SocketAddr>,
    /// Bytes that came from clients and went to them.
    moved: [u64; 2],
}

/// What the adapter knows of a connection.
#[derive(Debug)]
struct Socket {
    conn: ConnId,
    link: LinkId,
    side: usize,
    connecting: bool,
    /// On the ready list.
    queued: bool,
    /// The engine wants to write, and not everything is written.
    flush: bool,
    /// The link takes no more for now.
    blocked: bool,
    write_failed: Option<IoError>,
    /// The budget was seen to be 0.
    paused: bool,
    read_closed: bool,
    failed: bool,
    fin_sent: bool,
}

impl EngineHost {
    pub(in crate::sim) fn new(
        index: u16,
        ip: IpAddr,
        config: Config,
        seed: u64,
        now: Time,
    ) -> Self {
        let config = Arc::new(config);
        EngineHost {
            id: HostId::Engine(index),
            engine: Engine::new(Arc::clone(&config), Seed::from_number(seed), now),
            config,
            ip,
            draining: false,
            drained: 0,
            sockets: Vec::new(),
            ready: VecDeque::new(),
            block: BytesMut::new(),
            due: false,
            armed: Time::MAX,
            stalled_until: Time::ZERO,
            turns: 0,
            dead: VecDeque::new(),
            broken: Vec::new(),
            names: BTreeMap::new(),
            originals: BTreeSet::new(),
            moved: [0; 2],
        }
    }

    /// Does what the configuration wants at once.
    pub(in crate::sim) fn start(&mut self, net: &mut Net<'_>) -> Check {
        self.settle(net)?;
        self.arm(net);
        Ok(())
    }

    /// Connections that it has.
    pub(in crate::sim) fn open(&self) -> usize {
        self.sockets.iter().flatten().count()
    }

    // ---- Turns ----

    fn queue(&mut self, net: &mut Net<'_>, conn: ConnId) {
        let Some(Some(socket)) = self.sockets.get_mut(conn.index()) else { return };
        if socket.conn == conn && !socket.queued {
            socket.queued = true;
            self.ready.push_back(conn);
        }
        self.plan_turn(net);
    }

    fn plan_turn(&mut self, net: &mut Net<'_>) {
        if self.due {
            return;
        }
        self.due = true;
        if net.now > self.stalled_until + 5 * STALL && net.hits(Fault::EngineStalls) {
            self.stalled_until = net.now + net.some(STALL);
            net.say(self.id, || "stalls".to_owned());
        }
        let at = net.now.max(self.stalled_until);
        net.at(at, Event::Wake { host: self.id, slot: 0, token: TURN });
    }

    fn turn(&mut self, net: &mut Net<'_>) -> Check {
        self.due = false;
        // A socket is read once in a turn: the budget does not know of what came in this one.
        for left in (1..=self.ready.len().min(VISITS)).rev() {
            if net.mix.shuffles && left > 1 {
                let at = net.choose.below(left);
                self.ready.swap(0, at);
            }
            let Some(conn) = self.ready.pop_front() else { break };
            self.visit(net, conn);
            if !net.mix.batches {
                self.settle(net)?;
            }
        }
        self.disturb(net);
        self.settle(net)?;
        if !self.ready.is_empty() {
            self.plan_turn(net);
        }
        self.turns += 1;
        if self.turns.is_multiple_of(16) {
            self.check(net)?;
        }
        self.arm(net);
        Ok(())
    }

    /// What an adapter may do, and mostly does not.
    fn disturb(&mut self, net: &mut Net<'_>) {
        if net.hits(Fault::TimerEarly) {
            self.engine.handle_input(net.now, Input::Timeout);
        }
        if self.dead.is_empty() || !net.hits(Fault::LateInput) {
            return;
        }
        let conn = self.dead[net.choose.below(self.dead.len())];
        let input = match net.choose.below(5) {
            0 => Input::ReadClosed { conn },
            1 => Input::Received { conn, data: b"late"[..].into() },
            2 => Input::Wrote { conn, n: net.choose.below(100) },
            3 => Input::Failed { conn, kind: IoError::Reset },
            _ => Input::Connected { conn, result: Err(ConnectError::Refused) },
        };
        self.engine.handle_input(net.now, input);
    }

    fn fire(&mut self, net: &mut Net<'_>) -> Check {
        self.armed = Time::MAX;
        if net.now < self.stalled_until {
            let at = self.stalled_until;
            self.armed = at;
            net.at(at, Event::Wake { host: self.id, slot: 0, token: TIMER });
            return Ok(());
        }
        let mut rounds = 0;
        while let Some((at, kind)) = self.engine.next_timeout()
            && at <= net.now
        {
            rounds += 1;
            net.checks.that(Invariant::Progress, rounds < ROUNDS, || {
                format!("the {kind:?} timer fires again and again")
            })?;
            net.coverage.timer(kind);
            net.trace.hash.word(kind as u64);
            net.say(self.id, || format!("{kind:?} timer"));
            self.engine.handle_input(net.now, Input::Timeout);
            self.settle(net)?;
        }
        net.checks.that(Invariant::Progress, true, String::new)?;
        self.arm(net);
        Ok(())
    }

    /// Sees to it that the engine is woken in time.
    fn arm(&mut self, net: &mut Net<'_>) {
        let Some((at, _)) = self.engine.next_timeout() else { return };
        if at == Time::MAX || at >= self.armed {
            return;
        }
        let late = if net.hits(Fault::TimerLate) { net.some(LATE) } else { Duration::ZERO };
        let at = at.max(net.now) + late;
        if at < self.armed {
            self.armed = at;
            net.at(at, Event::Wake { host: self.id, slot: 0, token: TIMER });
        }
    }

    // ---- Sockets ----

    fn socket(&mut self, conn: ConnId) -> Option<&mut Socket> {
        self.sockets.get_mut(conn.index())?.as_mut().filter(|socket| socket.conn == conn)
    }

    fn insert(&mut self, conn: ConnId, link: LinkId, side: usize) -> Check {
        let index = conn.index();
        if self.sockets.len() <= index {
            self.sockets.resize_with(index + 1, || None);
        }
        if let Some(other) = &self.sockets[index] {
            let message = format!("{conn:?} has the index of {:?}", other.conn);
            return Err(violated(Invariant::Drains, message));
        }
        self.sockets[index] = Some(Socket {
            conn,
            link,
            side,
            connecting: side == NEAR,
            queued: false,
            flush: false,
            blocked: false,
            write_failed: None,
            paused: false,
            read_closed: false,
            failed: false,
            fin_sent: false,
        });
        Ok(())
    }

    /// Writes what was blocked and reads at most one block.
    fn visit(&mut self, net: &mut Net<'_>, conn: ConnId) {
        let Some(socket) = self.socket(conn) else { return };
        socket.queued = false;
        if socket.connecting || socket.failed {
            return;
        }
        if socket.flush && !socket.blocked {
            self.flush(net, conn);
        }
        self.read(net, conn);
    }

    fn read(&mut self, net: &mut Net<'_>, conn: ConnId) {
        let budget = self.engine.read_budget(conn);
        let Some(Some(socket)) = self.sockets.get_mut(conn.index()) else { return };
        let (link, side, write_failed) = (socket.link, socket.side, socket.write_failed);
        if budget == 0 || socket.read_closed {
            socket.paused |= budget == 0;
            let gauges = self.engine.gauges();
            net.say(self.id, || format!("{conn:?} may not be read; {gauges:?}"));
            if let Some(kind) = write_failed {
                self.break_off(net, conn, kind);
            }
            return;
        }
        let mut block = std::mem::take(&mut self.block);
        if !block.try_reclaim(Limits::READ_BLOCK) && block.capacity() < Limits::READ_BLOCK / 4 {
            block.reserve(Limits::READ_BLOCK);
        }
        let n = net.read(link, side, Limits::READ_BLOCK.min(block.capacity()), &mut block);
        let pipe = &mut net.links[link as usize].pipes[1 - side];
        if n > 0 {
            let data = block.split();
            self.block = block;
            while let Some(id) = pipe.pop_mark() {
                net.model.requests[id as usize].fed.get_or_insert(net.now);
            }
            let more = pipe.ready > 0 || pipe.fin == Fin::Arrived;
            net.say(self.id, || format!("{conn:?} reads {n}: {}", show(&data)));
            self.moved[0] += if side == FAR { n as u64 } else { 0 };
            self.engine.handle_input(net.now, Input::Received { conn, data });
            if more || net.links[link as usize].ends[side].reset.is_some() {
                self.queue(net, conn);
            }
            return;
        }
        self.block = block;
        if pipe.fin == Fin::Arrived {
            pipe.fin = Fin::Read;
            if let Some(socket) = self.socket(conn) {
                socket.read_closed = true;
            }
            net.say(self.id, || format!("{conn:?} reads the end"));
            self.engine.handle_input(net.now, Input::ReadClosed { conn });
        } else if let Some(kind) = net.links[link as usize].ends[side].reset.or(write_failed) {
            self.break_off(net, conn, kind);
        }
    }

    /// Tells the engine that a connection broke.
    fn break_off(&mut self, net: &mut Net<'_>, conn: ConnId, kind: IoError) {
        let Some(socket) = self.socket(conn) else { return };
        if !std::mem::replace(&mut socket.failed, true) {
            net.say(self.id, || format!("{conn:?} broke: {kind:?}"));
            self.broken.push(conn);
            self.engine.handle_input(net.now, Input::Failed { conn, kind });
        }
    }

    /// Writes as much as the link takes. True if the engine was told.
    fn flush(&mut self, net: &mut Net<'_>, conn: ConnId) -> bool {
        let mut told = false;
        loop {
            let Some(socket) = self.sockets.get_mut(conn.index()).and_then(Option::as_mut) else {
                return told;
            };
            if socket.blocked || socket.write_failed.is_some() {
                return told;
            }
            let mut io = [&[][..]; SLICES];
            let count = self.engine.write_bufs(conn, &mut io);
            let wanted: usize = io[..count].iter().map(|slice| slice.len()).sum();
            socket.flush = wanted > 0;
            if wanted == 0 {
                return told;
            }
            match net.write(socket.link, socket.side, &io[..count]) {
                Ok(n) => {
                    net.say(self.id, || format!("{conn:?} writes {n}: {}", show(io[0])));
                    self.moved[1] += if socket.side == FAR { n as u64 } else { 0 };
                    socket.blocked = n < wanted;
                    if n > 0 {
                        self.engine.handle_input(net.now, Input::Wrote { conn, n });
                        told = true;
                    }
                }
                Err(kind) => {
                    socket.write_failed = Some(kind);
                    self.queue(net, conn);
                }
            }
        }
    }

    // ---- What the engine wants ----

    /// Ends the turn and does what comes out, until nothing more does.
    fn settle(&mut self, net: &mut Net<'_>) -> Check {
        let mut rounds = 0;
        let mut told = true;
        net.tick += 1;
        while told {
            self.engine.end_turn(net.now);
            told = false;
            while let Some(output) = self.engine.poll_output() {
                net.coverage.output(&output);
                told |= self.perform(net, output)?;
            }
            rounds += 1;
            if rounds > ROUNDS {
                return Err(violated(Invariant::Progress, "a turn does not end"));
            }
        }
        net.checks.counts[Invariant::Hostile as usize] += 1;
        for conn in std::mem::take(&mut self.broken) {
            let gone = self.socket(conn).is_none();
            net.checks.that(Invariant::Drains, gone, || {
                format!("{:?} {conn:?} broke and is still there", self.id)
            })?;
        }
        self.check_buffers(net)
    }

    fn perform(
        &mut self,
        net: &mut Net<'_>,
        output: Output,
    ) -> Result<bool, Box<crate::sim::Violation>> {
        match output {
            Output::Flush(conn) => {
                net.trace.hash.word(conn.index() as u64);
                let id = self.id;
                let Some(socket) = self.socket(conn).filter(|socket| !socket.connecting) else {
                    let message = format!("{id} flushes {conn:?}, which is not there");
                    return Err(violated(Invariant::Credit, message));
                };
                net.checks.that(Invariant::Bodies, !socket.fin_sent, || {
                    format!("{id} writes to {conn:?} after its end")
                })?;
                socket.flush = true;
                return Ok(self.flush(net, conn));
            }
            Output::ReadReady(conn) => {
                net.trace.hash.word(conn.index() as u64 | 1 << 32);
                // It may have been paused again in the same turn.
                let budget = self.engine.read_budget(conn);
                if let Some(socket) = self.socket(conn) {
                    socket.paused = budget == 0;
                }
                net.checks.counts[Invariant::Credit as usize] += 1;
                self.queue(net, conn);
            }
            Output::Connect { conn, addr } => self.connect(net, conn, addr)?,
            Output::Close { conn, how } => self.close(net, conn, how)?,
            Output::Resolve { query, name } => self.resolve(net, query, &name),
            Output::Event(event) => {
                net.say(self.id, || format!("says {event:?}"));
                if event == Told::Drained {
                    self.drained += 1;
                    let accepted = self.engine.gauges().accepted;
                    net.checks.that(
                        Invariant::Drains,
                        self.drained == 1 && accepted == 0,
                        || format!("drained {} times, with {accepted} connections", self.drained),
                    )?;
                }
            }
        }
        Ok(false)
    }

    fn connect(&mut self, net: &mut Net<'_>, conn: ConnId, addr: SocketAddr) -> Check {
        net.trace.hash.word(u64::from(addr.port()) | 2 << 32);
        let known = self.is_target(addr);
        net.checks.that(Invariant::Load, known, || {
            format!("{} connects to {addr}, which is no target", self.id)
        })?;
        let link = net.connect(self.id, conn.index() as u32, addr, None);
        net.say(self.id, || format!("{conn:?} connects to {addr} over l{link}"));
        net.links[link as usize].ends[NEAR].conn = Some(conn);
        self.insert(conn, link, NEAR)
    }

    /// May it connect here now?
    fn is_target(&self, addr: SocketAddr) -> bool {
        let config = &self.config;
        config.app == Some(addr)
            || self.originals.contains(&addr)
            || config.services.iter().flat_map(|service| &service.endpoints).any(|endpoint| {
                match &endpoint.target {
                    Target::Addr(target) => *target == addr,
                    Target::Name { port, .. } => {
                        let mut ips = self.names.values().flatten();
                        *port == addr.port() && ips.any(|&ip| ip == addr.ip())
                    }
                }
            })
    }

    fn close(&mut self, net: &mut Net<'_>, conn: ConnId, how: CloseKind) -> Check {
        net.trace.hash.word(conn.index() as u64 | (how as u64 + 3) << 32);
        let id = self.id;
        let Some(socket) = self.socket(conn) else {
            let message = format!("{id} closes {conn:?} ({how:?}), which is not open");
            return Err(violated(Invariant::Drains, message));
        };
        let (link, side, connecting) = (socket.link, socket.side, socket.connecting);
        let written = !socket.flush && !connecting;
        let twice = how == CloseKind::Half && std::mem::replace(&mut socket.fin_sent, true);
        net.say(id, || format!("{conn:?} is closed: {how:?}"));
        net.checks.that(Invariant::Bodies, how == CloseKind::Abort || written, || {
            format!("{id} closes {conn:?} ({how:?}) before everything is written")
        })?;
        net.checks.that(Invariant::Drains, !twice, || format!("{id} ends {conn:?} twice"))?;
        if how == CloseKind::Half {
            net.fin(link, side);
            return Ok(());
        }
        self.sockets[conn.index()] = None;
        self.bury(conn);
        if connecting {
            net.links[link as usize].ends[NEAR].closed = true;
            let since = net.links[link as usize].since;
            return self.check_connect(net, since);
        }
        match how {
            CloseKind::Abort => {
                let hard = net.mix.has(Fault::LinkReset) && net.choose.flip();
                net.reset(link, side, hard);
            }
            _ => net.close(link, side),
        }
        Ok(())
    }

    /// A connect was given up: not later than its deadline.
    fn check_connect(&self, net: &mut Net<'_>, since: Time) -> Check {
        let due = since + self.config.timeouts.connect + net.mix.slack();
        net.checks.that(Invariant::Deadlines, net.now <= due, || {
            format!("{} gives up a connect at {:?} that was due at {due:?}", self.id, net.now)
        })
    }

    fn bury(&mut self, conn: ConnId) {
        self.dead.push_back(conn);
        if self.dead.len() > 8 {
            self.dead.pop_front();
        }
    }

    // ---- Names and commands ----

    fn resolve(&mut self, net: &mut Net<'_>, query: QueryId, name: &str) {
        let HostId::Engine(engine) = self.id else { return };
        net.say(self.id, || format!("asks for {name}"));
        if net.hits(Fault::DiscoverySilent) {
            return;
        }
        let fails = net.hits(Fault::DiscoveryFails);
        let answer = if fails { Answer::Fails } else { Answer::Good };
        let wait = if net.mix.has(Fault::ConnectLate) {
            net.some(Duration::from_secs(3))
        } else {
            Duration::from_millis(1)
        };
        net.after(wait, Event::Resolved { engine, query, answer });
    }

    /// Discovery answers.
    pub(in crate::sim) fn resolved(
        &mut self,
        net: &mut Net<'_>,
        query: QueryId,
        answer: Result<(Vec<IpAddr>, Duration), DnsError>,
    ) -> Check {
        net.say(self.id, || format!("is told {answer:?}"));
        let failed = answer.is_err();
        let before = if failed { self.endpoints() } else { Vec::new() };
        if let Ok((ips, _)) = &answer {
            self.names.insert(query, ips.clone());
        }
        self.engine.handle_input(net.now, Input::Resolved { query, result: answer });
        self.settle(net)?;
        if failed {
            let after = self.endpoints();
            net.checks.that(Invariant::LastKnown, before == after, || {
                format!("without an answer {before:?} has become {after:?}")
            })?;
        }
        self.arm(net);
        Ok(())
    }

    fn endpoints(&self) -> Vec<SocketAddr> {
        let services = self.engine.snapshot().services;
        services
            .iter()
            .flat_map(|service| &service.endpoints)
            .map(|endpoint| endpoint.addr)
            .collect()
    }

    /// The operator wants something.
    pub(in crate::sim) fn command(&mut self, net: &mut Net<'_>, command: Command) -> Check {
        match &command {
            Command::Reload(config) => {
                net.say(self.id, || "is given another configuration".to_owned());
                self.config = Arc::clone(config);
            }
            Command::Drain => {
                net.say(self.id, || "is told to drain".to_owned());
                self.draining = true;
            }
        }
        // What is under way is for the configuration before.
        self.settle(net)?;
        self.engine.handle_input(net.now, Input::Command(command));
        self.settle(net)?;
        self.check(net)?;
        self.arm(net);
        Ok(())
    }

    // ---- What must hold ----

    /// What the worker holds stays near its cap: one connection more than the cap allows may have
    /// been read when it was met, and each has its own bound.
    fn check_buffers(&self, net: &mut Net<'_>) -> Check {
        let gauges = self.engine.gauges();
        let limits = &self.config.limits;
        let each = 2 * limits.stream_buffer.max(limits.header_bytes)
            + limits.replay_bytes
            + Limits::PIPELINE_BYTES
            + 3 * Limits::READ_BLOCK;
        let most = limits.buffer_bytes + gauges.connections * each;
        let held = gauges.buffered_bytes;
        net.checks.that(Invariant::Caps, held <= most, || {
            format!("{} holds {held} bytes, and {most} are allowed", self.id)
        })
    }

    /// Everything that must hold between turns.
    pub(in crate::sim) fn check(&mut self, net: &mut Net<'_>) -> Check {
        net.checks.result(Invariant::Caps, self.engine.check_buffers())?;
        net.checks.result(Invariant::Credit, self.engine.check_credit())?;
        net.checks.result(Invariant::Load, self.engine.check_load())?;
        let gauges = self.engine.gauges();
        let open = self.open();
        net.checks.that(Invariant::Drains, gauges.connections == open, || {
            format!("{} connections, {open} sockets", gauges.connections)
        })?;
        for socket in self.sockets.iter().flatten() {
            let mut io = [&[][..]; 1];
            let conn = socket.conn;
            let offers = self.engine.write_bufs(conn, &mut io) > 0;
            net.checks.that(Invariant::Credit, !offers || socket.flush, || {
                format!("{} {conn:?} has bytes to write and nobody was told", self.id)
            })?;
            let told = !socket.paused || self.engine.read_budget(conn) == 0;
            net.checks.that(Invariant::Credit, told, || {
                format!("{} {conn:?} may be read and nobody was told", self.id)
            })?;
        }
        Ok(())
    }

    /// Is nothing left?
    pub(in crate::sim) fn is_idle(&self) -> bool {
        let gauges = self.engine.gauges();
        (gauges.connections, gauges.exchanges, gauges.buffered_bytes) == (0, 0, 0)
    }

    /// What must hold when everything has ended.
    pub(in crate::sim) fn check_end(&mut self, net: &mut Net<'_>) -> Check {
        self.check(net)?;
        let snapshot = self.engine.snapshot();
        let gauges = snapshot.gauges;
        net.checks.that(Invariant::Drains, self.is_idle() && gauges.accepted == 0, || {
            format!("{} keeps {gauges:?}", self.id)
        })?;
        let told = u32::from(self.draining);
        net.checks.that(Invariant::Drains, self.drained == told, || {
            format!("{} said {} times that it is drained", self.id, self.drained)
        })?;
        let mut moved = [0; 2];
        for direction in &snapshot.directions {
            let tcp = &direction.accepted;
            moved = [moved[0] + tcp.read_bytes, moved[1] + tcp.write_bytes];
            net.checks.that(Invariant::Drains, tcp.opens == tcp.closes, || {
                format!("{} counted {tcp:?}", self.id)
            })?;
        }
        net.checks.that(Invariant::Credit, moved == self.moved, || {
            format!("{} counted {moved:?} bytes, and moved {:?}", self.id, self.moved)
        })?;
        for service in &snapshot.services {
            let loaded = service.endpoints.iter().find(|endpoint| endpoint.pending > 0);
            net.checks.that(Invariant::Load, loaded.is_none() && service.queued == 0, || {
                format!("{} is still loaded: {loaded:?}, {} queued", self.id, service.queued)
            })?;
        }
        Ok(())
    }
}

impl Host for EngineHost {
    fn connected(
        &mut self,
        net: &mut Net<'_>,
        link: LinkId,
        result: Result<(), ConnectError>,
    ) -> Check {
        let Some(conn) = net.links[link as usize].ends[NEAR].conn else { return Ok(()) };
        if let Some(socket) = self.socket(conn) {
            socket.connecting = false;
            if result.is_err() {
                self.sockets[conn.index()] = None;
                self.bury(conn);
            }
        } else if !net.hits(Fault::LateInput) {
            // It was given up, and some adapters cannot tell any more.
            return Ok(());
        }
        net.say(self.id, || format!("{conn:?} is connected: {result:?}"));
        let local = SocketAddr::new(self.ip, 40_000);
        let result = result.map(|()| local);
        self.engine.handle_input(net.now, Input::Connected { conn, result });
        self.settle(net)?;
        self.queue(net, conn);
        self.arm(net);
        Ok(())
    }

    fn accepted(&mut self, net: &mut Net<'_>, link: LinkId) -> Check {
        let Some(found) = net.links.get(link as usize) else { return Ok(()) };
        let original_dst = found.original_dst;
        let port = if original_dst.is_some() { 0 } else { found.to.port() };
        let listeners = self.config.listeners.iter();
        let listener = listeners.clone().position(|listener| listener.addr.port() == port);
        let accepted = Accepted {
            listener: listener.unwrap_or(0) as u16,
            peer: SocketAddr::new([10, 9, 0, 1].into(), 1024 + (link % 60_000) as u16),
            local: SocketAddr::new(
                self.ip,
                self.config.listeners[listener.unwrap_or(0)].addr.port(),
            ),
            original_dst,
        };
        let Some(conn) = self.engine.accept(net.now, accepted) else {
            net.say(self.id, || format!("refuses l{link}"));
            net.close(link, FAR);
            return Ok(());
        };
        net.say(self.id, || format!("accepts l{link} as {conn:?}"));
        self.originals.extend(original_dst);
        self.insert(conn, link, FAR)?;
        net.links[link as usize].ends[FAR].conn = Some(conn);
        self.settle(net)?;
        self.queue(net, conn);
        self.arm(net);
        Ok(())
    }

    fn readable(&mut self, net: &mut Net<'_>, link: LinkId, side: usize) -> Check {
        if let Some(conn) = net.links[link as usize].ends[side].conn {
            self.queue(net, conn);
        }
        Ok(())
    }

    fn writable(&mut self, net: &mut Net<'_>, link: LinkId, side: usize) -> Check {
        if let Some(conn) = net.links[link as usize].ends[side].conn {
            if let Some(socket) = self.socket(conn) {
                socket.blocked = false;
            }
            self.queue(net, conn);
        }
        Ok(())
    }

    fn woken(&mut self, net: &mut Net<'_>, _: u32, token: u32) -> Check {
        match token {
            TURN => self.turn(net),
            _ => self.fire(net),
        }
    }
}

fn show(bytes: &[u8]) -> String {
    crate::traffic::wire::show(&bytes[..bytes.len().min(60)])
}
