//! The proxies with real sockets.

use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, channel};

use selvedge_core::config::Config;
use selvedge_core::engine::{Command, Event, Input};
use selvedge_core::stats::Snapshot;

use crate::epoll;
use crate::sockets::Proxy;

/// What an adapter started: the handles of `selvedge-tokio` and `selvedge-smol` are the same type.
struct Adapted {
    addrs: Vec<SocketAddr>,
    events: Receiver<Event>,
    workers: selvedge_tokio::Workers,
}

macro_rules! adapter {
    ($start:ident, $adapter:ident) => {
        pub(crate) fn $start(config: Config) -> Box<dyn Proxy> {
            let bound = $adapter::bind(&config, &$adapter::Options::default()).unwrap();
            let addrs = bound.local_addrs().to_vec();
            let (sink, events) = channel();
            let events_to = move |event| drop(sink.send(event));
            let workers = bound.serve(&Arc::new(config), events_to).unwrap();
            Box::new(Adapted { addrs, events, workers })
        }
    };
}

adapter!(tokio, selvedge_tokio);
adapter!(smol, selvedge_smol);

impl Proxy for Adapted {
    fn addrs(&self) -> &[SocketAddr] {
        &self.addrs
    }

    fn command(&self, command: Command) {
        let worker = &self.workers.handles()[0];
        match command {
            Command::Drain => worker.drain(),
            Command::Reload(config) => worker.reload(config),
        }
    }

    fn snapshot(&self) -> Option<Snapshot> {
        async_io::block_on(self.workers.handles()[0].snapshot())
    }

    fn events(&self) -> &Receiver<Event> {
        &self.events
    }
}

/// The example, which ends when it is drained.
struct Epoll {
    addrs: Vec<SocketAddr>,
    events: Receiver<Event>,
    remote: epoll::Remote,
}

pub(crate) fn epoll(config: Config) -> Box<dyn Proxy> {
    let listen = |listener: &selvedge_core::config::Listener| TcpListener::bind(listener.addr);
    let listeners: Vec<_> = config.listeners.iter().map(|l| listen(l).unwrap()).collect();
    let addrs = listeners.iter().map(|listener| listener.local_addr().unwrap()).collect();
    let (sink, events) = channel();
    let events_to = move |event| drop(sink.send(event));
    let worker = epoll::Worker::new(Arc::new(config), listeners, events_to).unwrap();
    let remote = worker.remote.clone();
    std::thread::spawn(move || worker.run().unwrap());
    Box::new(Epoll { addrs, events, remote })
}

impl Proxy for Epoll {
    fn addrs(&self) -> &[SocketAddr] {
        &self.addrs
    }

    fn command(&self, command: Command) {
        self.remote.send(move |engine, now| engine.handle_input(now, Input::Command(command)));
    }

    fn snapshot(&self) -> Option<Snapshot> {
        let (reply, answer) = channel();
        self.remote.send(move |engine, _| drop(reply.send(engine.snapshot())));
        answer.recv().ok()
    }

    fn events(&self) -> &Receiver<Event> {
        &self.events
    }
}

impl Drop for Epoll {
    fn drop(&mut self) {
        self.command(Command::Drain);
    }
}
