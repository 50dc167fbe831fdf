//! A proxy on loopback for the tests, and peers made of plain blocking sockets.
#![allow(dead_code, reason = "each test binary uses its part")]

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, channel};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use crate::adapter::{Options, Worker, Workers, bind, block_on};
use selvedge_core::config::{Config, Endpoint, Listener, ListenerKind, Service, Target};
use selvedge_core::engine::Event;
use selvedge_core::stats::Snapshot;

/// Only a hang takes longer: where others keep all CPUs busy, who has a low priority gets none for half
/// a minute.
pub(crate) const PATIENCE: Duration = Duration::from_mins(2);

/// A running proxy.
pub(crate) struct Proxy {
    pub(crate) workers: Workers,
    pub(crate) addr: SocketAddr,
    pub(crate) events: Receiver<Event>,
}

impl Proxy {
    pub(crate) fn start(config: Config, options: &Options) -> Proxy {
        let bound = bind(&config, options).unwrap();
        let addr = bound.local_addrs()[0];
        let (sink, events) = channel();
        let workers = bound
            .serve(&Arc::new(config), move |event| {
                let _ = sink.send(event);
            })
            .unwrap();
        Proxy { workers, addr, events }
    }

    /// An opaque forward to `target`.
    pub(crate) fn forward(target: SocketAddr) -> Proxy {
        Proxy::start(forward(Target::Addr(target)), &Options::default())
    }

    pub(crate) fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(self.addr).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_write_timeout(Some(PATIENCE)).unwrap();
        stream
    }

    pub(crate) fn worker(&self) -> Worker {
        self.workers.handles()[0].clone()
    }

    pub(crate) fn snapshot(&self) -> Snapshot {
        block_on(self.worker().snapshot()).unwrap()
    }

    pub(crate) fn ended(&mut self) -> std::io::Result<()> {
        block_on(self.workers.ended())
    }

    /// Waits until no connection is left in the engine.
    pub(crate) fn wait_idle(&self) {
        wait_for("idle", || self.snapshot().gauges.connections == 0);
    }
}

/// The configuration of an opaque forward to `target`.
pub(crate) fn forward(target: Target) -> Config {
    let name: Arc<str> = "forward".into();
    Config {
        listeners: vec![Listener {
            addr: "127.0.0.1:0".parse().unwrap(),
            kind: ListenerKind::Forward(Arc::clone(&name)),
        }],
        services: vec![service(name, target, true)],
        ..Config::default()
    }
}

pub(crate) fn service(name: Arc<str>, target: Target, opaque: bool) -> Service {
    Service {
        name,
        endpoints: vec![Endpoint { target, weight: 1, mesh: None, zone: None }],
        opaque,
        ..Service::default()
    }
}

/// A server that handles each connection on a thread, for as long as the test runs.
pub(crate) fn server<F>(handle: F) -> SocketAddr
where
    F: Fn(TcpStream) + Send + Sync + 'static,
{
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = listener.local_addr().unwrap();
    let handle = Arc::new(handle);
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let handle = Arc::clone(&handle);
            let served = Served::begin();
            thread::spawn(move || {
                handle(stream);
                drop(served);
            });
        }
    });
    addr
}

/// Connections that servers of this process are busy with.
pub(crate) static SERVED: AtomicUsize = AtomicUsize::new(0);

struct Served;

impl Served {
    fn begin() -> Self {
        SERVED.fetch_add(1, Ordering::AcqRel);
        Served
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        SERVED.fetch_sub(1, Ordering::AcqRel);
    }
}

/// Sends everything back, and its FIN after the peer's.
pub(crate) fn echo(mut stream: TcpStream) {
    let mut buffer = [0; 16 * 1024];
    while let Ok(n @ 1..) = stream.read(&mut buffer) {
        if stream.write_all(&buffer[..n]).is_err() {
            return;
        }
    }
}

/// Bytes that are at the right place only if none is lost, doubled or moved.
pub(crate) fn pattern(length: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_u32;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 17;
        state ^= state << 5;
        state as u8
    };
    (0..length).map(|_| next()).collect()
}

/// Writes `bytes` and a FIN from another thread.
pub(crate) fn send_all(stream: &TcpStream, bytes: Vec<u8>) -> JoinHandle<std::io::Result<()>> {
    let mut stream = stream.try_clone().unwrap();
    thread::spawn(move || {
        stream.write_all(&bytes)?;
        stream.shutdown(std::net::Shutdown::Write)
    })
}

/// Writes until all is full that holds bytes on the way to somebody who does not read, and stays so
/// while the proxy looks at its sockets again and again. How much it wrote.
pub(crate) fn fill(proxy: &Proxy, stream: &TcpStream) -> usize {
    fill_beside(stream, || proxy.snapshot().gauges.buffered_bytes)
}

/// The same, where not all that the proxy holds is on that way: `held` is.
pub(crate) fn fill_beside(mut stream: &TcpStream, mut held: impl FnMut() -> usize) -> usize {
    stream.set_nonblocking(true).unwrap();
    // Large, so that there always is more than the proxy has read.
    let block = vec![7; 1 << 20];
    let (mut wrote, mut last, mut idle) = (0, (0, 0), 0);
    wait_for("all to be full", || {
        while let Ok(n) = stream.write(&block) {
            wrote += n;
        }
        let now = (wrote, held());
        idle = if now.1 > 0 && now == last { idle + 1 } else { 0 };
        last = now;
        idle == 20
    });
    stream.set_nonblocking(false).unwrap();
    wrote
}

/// Closes with a reset.
pub(crate) fn reset(stream: TcpStream) {
    let socket = socket2::Socket::from(stream);
    socket.set_linger(Some(Duration::ZERO)).unwrap();
}

pub(crate) fn wait_for(what: &str, mut done: impl FnMut() -> bool) {
    let start = Instant::now();
    while !done() {
        assert!(start.elapsed() < PATIENCE, "waited in vain for: {what}");
        thread::sleep(Duration::from_millis(5));
    }
}
