//! One engine of a world, and clients and apps that do what a script says: for scenarios that are also
//! played with sockets.

use std::collections::VecDeque;
use std::net::SocketAddr;

use selvedge_core::config::Config;
use selvedge_core::engine::{Command, Event as Told};
use selvedge_core::error::ConnectError;
use selvedge_core::stats::Snapshot;
use selvedge_core::time::Time;

use super::fault::Fault;
use super::host::Host;
use super::host::engine::EngineHost;
use super::invariant::Check;
use super::link::{End, FAR, Fin, LinkId, LinkState, NEAR};
use super::mix::Mix;
use super::model::Model;
use super::net::{Event, HostId, Net};
use crate::choose::Choose;

/// A world in which nothing is left to chance. What must hold of an engine in any world is checked
/// here, too, and what does not hold panics.
pub struct Stage {
    net: Net<'static>,
    engine: EngineHost,
    apps: Vec<Place>,
    /// By link.
    puppets: Vec<Puppet>,
}

/// Where an app listens.
struct Place {
    addr: SocketAddr,
    listens: bool,
    backlog: VecDeque<LinkId>,
}

/// What the script's end of a connection still has to do.
#[derive(Default)]
struct Puppet {
    unsent: VecDeque<u8>,
    /// After that.
    then: Then,
}

#[derive(Clone, Copy, Default, PartialEq, Eq)]
enum Then {
    #[default]
    Nothing,
    Fin,
    Close,
}

/// What somebody sees of a connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Seen {
    /// Bytes.
    Bytes(Vec<u8>),
    /// Their end.
    Fin,
    /// That it broke.
    Reset,
}

/// Always the first of everything.
struct Settled;

impl Choose for Settled {
    fn below(&mut self, _: usize) -> usize {
        0
    }

    fn is_exhausted(&self) -> bool {
        false
    }
}

impl Stage {
    /// An engine with this configuration, whose listeners have an address each, and apps that listen.
    pub fn new(config: Config, apps: &[SocketAddr]) -> Self {
        let mut mix = Mix::calm();
        mix.latency = 0;
        // The script may say anything.
        for fault in [Fault::ClientMalformed, Fault::AppMalformed, Fault::ClientSlow] {
            mix.plan(fault);
        }
        let net = Net::new(Box::leak(Box::new(Settled)), mix, Model::default(), false);
        let ip = config.listeners[0].addr.ip();
        let place = |&addr| Place { addr, listens: true, backlog: VecDeque::new() };
        let apps = apps.iter().map(place).collect();
        let mut engine = EngineHost::new(0, ip, config, 7, net.now);
        engine.heard = Some(VecDeque::new());
        let mut stage = Stage { net, engine, apps, puppets: Vec::new() };
        let started = stage.engine.start(&mut stage.net);
        stage.must(started);
        stage
    }

    /// What time it is.
    pub fn now(&self) -> Time {
        self.net.now
    }

    /// Lets everything happen for which no time has to pass.
    pub fn settle(&mut self) {
        while self.net.peek().is_some_and(|at| at <= self.net.now)
            && let Some(event) = self.net.next()
        {
            let handled = self.handle(&event);
            self.must(handled);
        }
    }

    /// Goes on to what happens next, but not past `until`.
    pub fn pass(&mut self, until: Time) {
        self.net.now = self.net.peek().map_or(until, |at| at.min(until)).max(self.net.now);
        self.settle();
    }

    /// A client connects.
    pub fn connect(&mut self, listener: usize) -> usize {
        let to = self.engine.config.listeners[listener].addr;
        let link = self.net.connect(HostId::Client(0), 0, to, None);
        self.settle();
        link as usize
    }

    /// The next connection to an app, if there is one.
    pub fn accept(&mut self, app: usize) -> Option<usize> {
        self.apps[app].backlog.pop_front().map(|link| link as usize)
    }

    /// Is there a connection to an app?
    pub fn has_caller(&self, app: usize) -> bool {
        !self.apps[app].backlog.is_empty()
    }

    /// An app listens no longer.
    pub fn refuse(&mut self, app: usize) {
        self.apps[app].listens = false;
    }

    /// Sends as far and as soon as there is room.
    pub fn send(&mut self, link: usize, bytes: &[u8]) {
        self.puppet(link).unsent.extend(bytes);
        self.act(link);
    }

    /// Ends what is sent.
    pub fn finish(&mut self, link: usize) {
        self.puppet(link).then = Then::Fin;
        self.act(link);
    }

    /// Closes once everything is sent.
    pub fn close(&mut self, link: usize) {
        self.puppet(link).then = Then::Close;
        self.act(link);
    }

    /// Closes with a reset.
    pub fn reset(&mut self, link: usize) {
        self.settle();
        let side = self.side(link);
        self.net.reset(link as LinkId, side, true);
        self.settle();
    }

    /// What is to be seen on a connection now.
    pub fn look(&mut self, link: usize) -> Option<Seen> {
        let side = self.side(link);
        let mut bytes = Vec::new();
        if self.net.read(link as LinkId, side, usize::MAX, &mut bytes) > 0 {
            self.settle();
            return Some(Seen::Bytes(bytes));
        }
        let found = &self.net.links[link];
        if found.ends[side].reset.is_some() {
            return Some(Seen::Reset);
        }
        (found.pipes[1 - side].fin >= Fin::Arrived).then_some(Seen::Fin)
    }

    /// Tells the engine what to do.
    pub fn command(&mut self, command: Command) {
        let done = self.engine.command(&mut self.net, command);
        self.must(done);
        self.settle();
    }

    /// What the engine has said next.
    pub fn event(&mut self) -> Option<Told> {
        self.engine.heard.as_mut()?.pop_front()
    }

    /// Has it said that it is drained?
    pub fn is_drained(&self) -> bool {
        self.engine.drained > 0
    }

    /// What the engine counts.
    pub fn snapshot(&mut self) -> Snapshot {
        self.engine.engine.snapshot()
    }

    // ---- What happens ----

    fn handle(&mut self, event: &Event) -> Check {
        match *event {
            Event::Connect(link) => return self.answer_connect(link),
            Event::Deliver { link, from, n } if self.net.arrive(link, from, n) => {
                return self.readable(link, 1 - from);
            }
            Event::Fin { link, from } if self.net.arrive_fin(link, from) => {
                return self.readable(link, 1 - from);
            }
            Event::Reset { link, from, hard } if self.net.arrive_reset(link, from, hard) => {
                return self.readable(link, 1 - from);
            }
            Event::Writable { link, side } if side == self.side(link as usize) => {
                self.perform(link as usize);
            }
            Event::Writable { link, side } if !self.net.links[link as usize].ends[side].closed => {
                return self.engine.writable(&mut self.net, link, side);
            }
            Event::Wake { host: HostId::Engine(_), slot, token } => {
                return self.engine.woken(&mut self.net, slot, token);
            }
            _ => {}
        }
        Ok(())
    }

    fn readable(&mut self, link: LinkId, side: usize) -> Check {
        let end = self.net.links[link as usize].ends[side];
        if end.closed || !matches!(end.host, HostId::Engine(_)) {
            return Ok(());
        }
        self.engine.readable(&mut self.net, link, side)
    }

    fn answer_connect(&mut self, link: LinkId) -> Check {
        let found = &mut self.net.links[link as usize];
        if found.state != LinkState::Connecting {
            return Ok(());
        }
        let to = found.to;
        let by_engine = matches!(found.ends[NEAR].host, HostId::Engine(_));
        let app = self.apps.iter().position(|app| app.addr == to && app.listens);
        let far = match app {
            Some(app) if by_engine => Some(HostId::App(app as u16)),
            _ if !by_engine => Some(self.engine.id),
            _ => None,
        };
        found.state = if far.is_some() { LinkState::Open } else { LinkState::Failed };
        if let Some(host) = far {
            found.ends[FAR] = End::new(host, 0);
        }
        if !by_engine {
            return self.engine.accepted(&mut self.net, link);
        }
        if let Some(app) = app {
            self.apps[app].backlog.push_back(link);
        }
        let result = if app.is_some() { Ok(()) } else { Err(ConnectError::Refused) };
        self.engine.connected(&mut self.net, link, result)
    }

    // ---- Puppets ----

    /// Which end is the script's.
    fn side(&self, link: usize) -> usize {
        match self.net.links[link].ends[NEAR].host {
            HostId::Engine(_) => FAR,
            _ => NEAR,
        }
    }

    fn puppet(&mut self, link: usize) -> &mut Puppet {
        if self.puppets.len() <= link {
            self.puppets.resize_with(link + 1, Puppet::default);
        }
        &mut self.puppets[link]
    }

    fn act(&mut self, link: usize) {
        self.perform(link);
        self.settle();
    }

    /// Does what the script's end of a connection has to do, as far as there is room.
    fn perform(&mut self, link: usize) {
        let side = self.side(link);
        let mut unsent = std::mem::take(&mut self.puppet(link).unsent);
        while !unsent.is_empty() {
            let slices = [unsent.as_slices().0];
            match self.net.write(link as LinkId, side, &slices) {
                Ok(0) => break,
                Ok(n) => drop(unsent.drain(..n)),
                Err(_) => unsent.clear(),
            }
        }
        let puppet = self.puppet(link);
        puppet.unsent = unsent;
        if !puppet.unsent.is_empty() {
            return;
        }
        match std::mem::take(&mut puppet.then) {
            Then::Nothing => {}
            Then::Fin => self.net.fin(link as LinkId, side),
            Then::Close => self.net.close(link as LinkId, side),
        }
    }

    fn must(&self, check: Check) {
        if let Err(violation) = check {
            panic!("{:?}: {violation:?}", self.net.now);
        }
    }
}
