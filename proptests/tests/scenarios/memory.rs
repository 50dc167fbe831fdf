//! The simulator: links are queues, and time is a number.

use std::net::SocketAddr;
use std::time::Duration;

use selvedge_core::config::Config;
use selvedge_core::engine::{Command, Event};
use selvedge_core::stats::Snapshot;
use selvedge_proptests::sim::{Seen, Stage};

use crate::net::{APPS, Arrived, Net, Peer, Setup, config};

/// Nothing takes longer, even in virtual time.
const PATIENCE: Duration = Duration::from_hours(3);

pub(crate) struct Memory {
    config: Config,
    apps: Vec<SocketAddr>,
    stage: Stage,
    listening: bool,
}

impl Memory {
    pub(crate) fn start(setup: Setup) -> Self {
        let addr = |app| SocketAddr::from(([127, 0, 0, 1], 9001 + app as u16));
        let apps: Vec<_> = (0..APPS).map(addr).collect();
        let mut config = config(&apps, setup);
        for (listener, port) in config.listeners.iter_mut().zip(4140..) {
            listener.addr.set_port(port);
        }
        let stage = Stage::new(config.clone(), &apps);
        Memory { config, apps, stage, listening: true }
    }

    /// Waits until `look` finds something.
    fn until<T>(&mut self, what: &str, mut look: impl FnMut(&mut Stage) -> Option<T>) -> T {
        let patience = self.stage.now() + PATIENCE;
        loop {
            self.stage.settle();
            if let Some(found) = look(&mut self.stage) {
                return found;
            }
            assert!(self.stage.now() < patience, "waited in vain for {what}");
            self.stage.pass(patience);
        }
    }
}

impl Net for Memory {
    fn connect(&mut self, listener: usize) -> Peer {
        assert!(self.listening, "nobody listens");
        Peer(self.stage.connect(listener))
    }

    fn accept(&mut self, app: usize) -> Peer {
        Peer(self.until("a connection to the app", |stage| stage.accept(app)))
    }

    fn has_caller(&mut self, app: usize) -> bool {
        self.stage.settle();
        self.stage.has_caller(app)
    }

    fn refuse(&mut self, app: usize) {
        self.stage.refuse(app);
    }

    fn send(&mut self, peer: Peer, bytes: &[u8]) {
        self.stage.send(peer.0, bytes);
    }

    fn finish(&mut self, peer: Peer) {
        self.stage.finish(peer.0);
    }

    fn reset(&mut self, peer: Peer) {
        self.stage.reset(peer.0);
    }

    fn close(&mut self, peer: Peer) {
        self.stage.close(peer.0);
    }

    fn receive(&mut self, peer: Peer) -> Arrived {
        self.until("something to read", |stage| {
            Some(match stage.look(peer.0)? {
                Seen::Bytes(bytes) => Arrived::Bytes(bytes),
                Seen::Fin => Arrived::Fin,
                Seen::Reset => Arrived::Reset,
            })
        })
    }

    fn wait(&mut self, time: Duration) {
        let until = self.stage.now() + time;
        while self.stage.now() < until {
            self.stage.pass(until);
        }
    }

    fn command(&mut self, command: Command) {
        self.listening &= !matches!(command, Command::Drain);
        self.stage.command(command);
    }

    fn event(&mut self) -> Event {
        self.until("an event", Stage::event)
    }

    fn snapshot(&mut self) -> Option<Snapshot> {
        self.stage.settle();
        (!self.stage.is_drained()).then(|| self.stage.snapshot())
    }

    fn addr(&self, app: usize) -> SocketAddr {
        self.apps[app]
    }

    fn config(&self) -> &Config {
        &self.config
    }
}
