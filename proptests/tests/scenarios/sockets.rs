//! Peers on loopback, around a proxy with real sockets. One thread plays them all: nothing is read
//! before a scenario asks for it, and what could not be sent yet is sent while it waits.

use std::collections::VecDeque;
use std::io::{self, ErrorKind, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsFd as _;
use std::sync::mpsc::Receiver;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use selvedge_core::config::Config;
use selvedge_core::engine::{Command, Event};
use selvedge_core::stats::Snapshot;
use socket2::{Domain, SockRef, Socket, Type};

use crate::net::{APPS, Arrived, Net, Peer, Setup, config};

/// Longer than anything here takes on a slow machine.
const PATIENCE: Duration = Duration::from_secs(30);

/// A proxy that runs on a thread of its own.
pub(crate) trait Proxy {
    fn addrs(&self) -> &[SocketAddr];
    fn command(&self, command: Command);
    fn snapshot(&self) -> Option<Snapshot>;
    fn events(&self) -> &Receiver<Event>;
}

/// Starts one.
pub(crate) type Start = fn(Config) -> Box<dyn Proxy>;

struct Conn {
    stream: Option<TcpStream>,
    out: VecDeque<u8>,
    fin: bool,
    /// A write told of a reset; a read will not tell it again.
    broken: bool,
}

pub(crate) struct Sockets {
    config: Config,
    proxy: Box<dyn Proxy>,
    conns: Vec<Conn>,
    /// `None`: it refuses.
    apps: Vec<Option<TcpListener>>,
    /// Bound and not listening: nobody else gets the port of an app that refuses.
    reserved: Vec<Socket>,
    addrs: Vec<SocketAddr>,
}

impl Sockets {
    pub(crate) fn start(start: Start, setup: Setup) -> Self {
        let listen = |_| {
            let listener = TcpListener::bind("127.0.0.1:0").unwrap();
            listener.set_nonblocking(true).unwrap();
            listener
        };
        let listeners: Vec<TcpListener> = (0..APPS).map(listen).collect();
        let addrs: Vec<_> = listeners.iter().map(|l| l.local_addr().unwrap()).collect();
        let config = config(&addrs, setup);
        let proxy = start(config.clone());
        let apps = listeners.into_iter().map(Some).collect();
        Sockets { config, proxy, conns: Vec::new(), apps, reserved: Vec::new(), addrs }
    }

    fn add(&mut self, stream: TcpStream) -> Peer {
        stream.set_nonblocking(true).unwrap();
        stream.set_nodelay(true).unwrap();
        self.conns.push(Conn {
            stream: Some(stream),
            out: VecDeque::new(),
            fin: false,
            broken: false,
        });
        Peer(self.conns.len() - 1)
    }

    /// Waits until `look` finds something. Looks again when `peer` can be read, and now and then.
    fn until<T>(
        &mut self,
        what: &str,
        peer: Option<Peer>,
        mut look: impl FnMut(&mut Self) -> Option<T>,
    ) -> T {
        let start = Instant::now();
        loop {
            self.conns.iter_mut().for_each(Conn::write);
            if let Some(found) = look(self) {
                return found;
            }
            assert!(start.elapsed() < PATIENCE, "waited in vain for {what}");
            self.poll(peer);
        }
    }

    fn poll(&self, peer: Option<Peer>) {
        let mut waits = Vec::new();
        for (index, conn) in self.conns.iter().enumerate() {
            let mut flags = PollFlags::empty();
            flags.set(PollFlags::IN, peer == Some(Peer(index)));
            flags.set(PollFlags::OUT, !conn.out.is_empty());
            if let (Some(stream), false) = (&conn.stream, flags.is_empty()) {
                waits.push(PollFd::from_borrowed_fd(stream.as_fd(), flags));
            }
        }
        let milliseconds = if peer.is_some() { 100 } else { 2 };
        let timeout = Timespec { tv_sec: 0, tv_nsec: milliseconds * 1_000_000 };
        poll(&mut waits, Some(&timeout)).unwrap();
    }
}

impl Conn {
    fn write(&mut self) {
        let Some(stream) = &mut self.stream else { return };
        while !self.out.is_empty() {
            match stream.write(self.out.as_slices().0) {
                Ok(n) => drop(self.out.drain(..n)),
                Err(error) if error.kind() == ErrorKind::WouldBlock => return,
                Err(error) => {
                    self.broken = is_reset(&error);
                    self.out.clear();
                }
            }
        }
        if std::mem::take(&mut self.fin) {
            let _ = stream.shutdown(std::net::Shutdown::Write);
        }
    }

    fn read(&mut self) -> Option<Arrived> {
        let stream = self.stream.as_mut().expect("the peer has closed it");
        let mut buffer = [0; 16 * 1024];
        match stream.read(&mut buffer) {
            Ok(0) if self.broken => Some(Arrived::Reset),
            Ok(0) => Some(Arrived::Fin),
            Ok(n) => Some(Arrived::Bytes(buffer[..n].to_vec())),
            Err(error) if error.kind() == ErrorKind::WouldBlock => None,
            Err(error) if is_reset(&error) => Some(Arrived::Reset),
            Err(error) => panic!("{error}"),
        }
    }
}

fn is_reset(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::ConnectionReset | ErrorKind::BrokenPipe)
}

impl Net for Sockets {
    fn connect(&mut self, listener: usize) -> Peer {
        let stream = TcpStream::connect(self.proxy.addrs()[listener]).unwrap();
        self.add(stream)
    }

    fn accept(&mut self, app: usize) -> Peer {
        let stream = self.until("a connection to the app", None, |net| {
            let listener = net.apps[app].as_ref().expect("it refuses");
            Some(listener.accept().ok()?.0)
        });
        self.add(stream)
    }

    fn has_caller(&mut self, app: usize) -> bool {
        let Some(listener) = &self.apps[app] else { return false };
        let mut waits = [PollFd::new(listener, PollFlags::IN)];
        poll(&mut waits, Some(&Timespec { tv_sec: 0, tv_nsec: 0 })).unwrap() > 0
    }

    fn refuse(&mut self, app: usize) {
        self.apps[app] = None;
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        socket.set_reuse_address(true).unwrap();
        socket.bind(&self.addrs[app].into()).unwrap();
        self.reserved.push(socket);
    }

    fn send(&mut self, peer: Peer, bytes: &[u8]) {
        self.conns[peer.0].out.extend(bytes);
        self.conns[peer.0].write();
    }

    fn finish(&mut self, peer: Peer) {
        self.conns[peer.0].fin = true;
        self.conns[peer.0].write();
    }

    fn reset(&mut self, peer: Peer) {
        if let Some(stream) = self.conns[peer.0].stream.take() {
            SockRef::from(&stream).set_linger(Some(Duration::ZERO)).unwrap();
        }
    }

    fn close(&mut self, peer: Peer) {
        self.conns[peer.0].stream = None;
    }

    fn receive(&mut self, peer: Peer) -> Arrived {
        self.until("something to read", Some(peer), |net| net.conns[peer.0].read())
    }

    fn wait(&mut self, time: Duration) {
        std::thread::sleep(time);
    }

    fn command(&mut self, command: Command) {
        self.proxy.command(command);
    }

    fn event(&mut self) -> Event {
        self.proxy.events().recv_timeout(PATIENCE).expect("waited in vain for an event")
    }

    fn snapshot(&mut self) -> Option<Snapshot> {
        self.proxy.snapshot()
    }

    fn addr(&self, app: usize) -> SocketAddr {
        self.addrs[app]
    }

    fn config(&self) -> &Config {
        &self.config
    }
}
