//! The table of HTTP/2 over sockets: an engine that tokio drives, as the server of a raw client and as
//! the client of a raw server. What it does about each case is what the table says, rule by rule.
//!
//! Left out are the cases in which we act by ourselves (let time pass, shut down, answer, send a
//! body), those with limits that are not the default, and what no proxy's connection begins with (no
//! preface, a response to no request).
//! A case ends when the proxy answers a PING that follows it or closes: nothing waits for time.

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use selvedge_core::config::{
    Config, Endpoint, Listener, ListenerKind, Protocol, Service, Target, Timeouts,
};
use selvedge_core::engine::Event;
use selvedge_core::http2::Role;
use selvedge_proptests::h2::notation::{Action, Step};
use selvedge_proptests::h2::table::{Case, cases};
use selvedge_proptests::h2::wire::{ACK, END_HEADERS, Frame, PREFACE, code};
use socket2::{Domain, SockRef, Socket, Type};

/// Only a hang takes longer.
const PATIENCE: Duration = Duration::from_secs(20);

/// What becomes of a case where a proxy does more than the table's end of a connection, and why.
const OTHERS: &[(&str, &str)] = &[
    // It offers extended CONNECT (RFC 8441 §3).
    ("request_with_protocol_that_we_did_not_offer", "accept"),
    // It resets a request that was answered before it ended: what still comes is late.
    ("data_after_the_end", "accept"),
    ("headers_after_the_end", "accept"),
];

/// A worker, and what it says.
struct Proxy {
    addr: SocketAddr,
    events: Receiver<Event>,
    _workers: selvedge_tokio::Workers,
}

impl Proxy {
    fn start(services: Vec<Service>) -> Self {
        let addr = "127.0.0.1:0".parse().expect("an address");
        let listeners = vec![Listener { addr, kind: ListenerKind::Outbound }];
        let timeouts = Timeouts { connect: PATIENCE, failfast: PATIENCE, ..Timeouts::default() };
        let config = Config { listeners, services, timeouts, ..Config::default() };
        let bound = selvedge_tokio::bind(&config, &selvedge_tokio::Options::default());
        let bound = bound.expect("a listener");
        let addr = bound.local_addrs()[0];
        let (sink, events) = channel();
        let workers = bound.serve(&Arc::new(config), move |event| drop(sink.send(event)));
        Proxy { addr, events, _workers: workers.expect("workers") }
    }

    /// The labels of the rules that this peer has broken. They are told before the frames are sent
    /// that follow from them.
    fn violations(&self, by: SocketAddr) -> impl Iterator<Item = &'static str> {
        self.events.try_iter().filter_map(move |event| match event {
            Event::Violation { peer, violation, .. } if peer == by => Some(violation.label()),
            _ => None,
        })
    }

    /// What it did about a case: as [`Case::expect`].
    fn verdict(&self, case: &Case, peer: SocketAddr, frames: &[Frame]) -> Vec<String> {
        let mut lines = Vec::new();
        for frame in frames {
            let (word, second) = (frame.first_word(), frame.word(4).unwrap_or(0));
            if frame.is("RST_STREAM") {
                lines.push(format!("stream {} {}", frame.stream, code(word)));
            } else if frame.is("GOAWAY") && second != 0 {
                lines.push(format!("connection {}", code(second)));
            }
        }
        // A proxy also ends streams whose answer is complete, or not wanted.
        let own = |line: &str| line.ends_with(" NO_ERROR") || line.ends_with(" CANCEL");
        lines.retain(|line| !own(line) || is_wanted(case, line));
        let mut labels = self.violations(peer);
        for line in &mut lines {
            *line = format!("{line} {}", labels.next().unwrap_or("?"));
        }
        lines.extend(labels.map(|label| format!("unpunished {label}")));
        if lines.is_empty() { vec!["accept".to_owned()] } else { lines }
    }
}

fn is_wanted(case: &Case, line: &str) -> bool {
    case.expect.iter().any(|wanted| wanted.starts_with(line))
}

/// The proxy's connection with a peer of HTTP/2.
struct Wire {
    stream: TcpStream,
    rx: Vec<u8>,
}

impl Wire {
    fn new(stream: TcpStream) -> Self {
        stream.set_read_timeout(Some(PATIENCE)).expect("cannot set a timeout");
        stream.set_write_timeout(Some(PATIENCE)).expect("cannot set a timeout");
        stream.set_nodelay(true).expect("cannot set an option");
        Wire { stream, rx: Vec::new() }
    }

    /// Reads frames until one is as wanted, or the connection ends.
    fn read(&mut self, mut is_last: impl FnMut(&Frame) -> bool) -> Vec<Frame> {
        let mut frames = Vec::new();
        let mut buffer = [0; 16 * 1024];
        loop {
            let mut rest = &self.rx[..];
            let mut done = false;
            while let Some(frame) = (!done).then(|| Frame::take(&mut rest)).flatten() {
                done = is_last(&frame);
                frames.push(frame);
            }
            self.rx.drain(..self.rx.len() - rest.len());
            if done {
                return frames;
            }
            match self.stream.read(&mut buffer) {
                Ok(n @ 1..) => self.rx.extend_from_slice(&buffer[..n]),
                Ok(0) => return frames,
                Err(error) if error.kind() == ErrorKind::ConnectionReset => return frames,
                Err(error) => panic!("{error}: {frames:?}"),
            }
        }
    }

    /// Sends what a case ends with, and reads all that comes of it.
    fn finish(&mut self, case: &Case, bytes: &[u8]) -> Vec<Frame> {
        // Who has given up on us may not take all of it.
        let _ = self.stream.write_all(bytes);
        if is_complete(bytes) {
            // It lives, or it does not.
            let _ = self.stream.write_all(&Frame::ping(*b"liveness").bytes());
        } else if !is_wanted(case, "connection") {
            // It waits for the rest, which never comes.
            let _ = self.stream.shutdown(Shutdown::Write);
        }
        self.read(|frame| frame.is("PING") && frame.has(ACK) && frame.payload == b"liveness")
    }
}

/// Do the bytes end with a frame, and not within a block of fields?
fn is_complete(bytes: &[u8]) -> bool {
    let mut tail = bytes.strip_prefix(PREFACE).unwrap_or(bytes);
    let mut in_block = false;
    while let Some(frame) = Frame::take(&mut tail) {
        let block = frame.is("HEADERS") || frame.is("CONTINUATION");
        in_block = block && !frame.has(END_HEADERS) || in_block && !block;
    }
    tail.is_empty() && !in_block
}

/// Runs every case of a role that `run` takes.
fn play(role: Role, least: usize, mut run: impl FnMut(&Case) -> Option<Vec<String>>) {
    let (mut ran, mut failures) = (0, Vec::new());
    for case in cases() {
        if case.role != role || !case.has_default_limits() {
            continue;
        }
        let Some(verdict) = run(&case) else { continue };
        ran += 1;
        let other = OTHERS.iter().find(|(name, _)| *name == case.name);
        let expect = other.map_or(case.expect, |(_, other)| vec![(*other).to_owned()]);
        if verdict != expect {
            let (name, clause) = (&case.name, &case.clause);
            failures.push(format!("{name} ({clause}): {verdict:?}, not {expect:?}"));
        }
    }
    println!("{role:?}: {ran} cases over a socket");
    assert!(failures.is_empty(), "{} fail:\n{}", failures.len(), failures.join("\n"));
    assert!(ran >= least, "{ran} cases");
}

/// An app that connections to hang: its backlog is full. Nothing of a request goes on, so no answer
/// and no credit changes what a case is about.
struct Unreachable {
    addr: SocketAddr,
    _listener: Socket,
    _first: TcpStream,
}

impl Unreachable {
    fn new() -> Self {
        let listener = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
        let any = SocketAddr::from(([127, 0, 0, 1], 0));
        listener.bind(&any.into()).expect("cannot bind");
        listener.listen(0).expect("cannot listen");
        let addr = listener.local_addr().ok().and_then(|addr| addr.as_socket());
        let addr = addr.expect("an address");
        let first = TcpStream::connect(addr).expect("room for one");
        Unreachable { addr, _listener: listener, _first: first }
    }
}

fn service(name: String, app: SocketAddr, protocol: Protocol) -> Service {
    let endpoints = vec![Endpoint { target: Target::Addr(app), weight: 1, mesh: None, zone: None }];
    Service { name: name.into(), endpoints, protocol, ..Service::default() }
}

fn listen() -> (TcpListener, SocketAddr) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("cannot listen");
    // It bounds `accept`.
    SockRef::from(&listener).set_read_timeout(Some(PATIENCE)).expect("cannot set a timeout");
    let addr = listener.local_addr().expect("an address");
    (listener, addr)
}

#[test]
fn the_table_of_servers_over_a_socket() {
    let app = Unreachable::new();
    let proxy = Proxy::start(vec![service("a.example:80".into(), app.addr, Protocol::Http1)]);
    play(Role::Server, 250, |case| {
        let [Step::Bytes(bytes)] = &case.script()[..] else { return None };
        // Without the preface it is no connection of HTTP/2.
        if !bytes.starts_with(PREFACE) {
            return None;
        }
        let mut wire = Wire::new(TcpStream::connect(proxy.addr).expect("cannot connect"));
        let peer = wire.stream.local_addr().expect("an address");
        let frames = wire.finish(case, bytes);
        Some(proxy.verdict(case, peer, &frames))
    });
}

#[test]
fn the_table_of_clients_over_a_socket() {
    // An app of its own for every case: nothing of one meets another.
    let (mut apps, mut services) = (Vec::new(), Vec::new());
    for case in cases().into_iter().filter(|case| case.role == Role::Client) {
        let (listener, addr) = listen();
        services.push(service(format!("{}.a.example:80", case.name), addr, Protocol::Http2));
        apps.push((case.name, listener, addr));
    }
    let proxy = Proxy::start(services);
    play(Role::Client, 70, |case| {
        let (asks, bytes) = asks(case)?;
        let (_, app, addr) = apps.iter().find(|(name, ..)| *name == case.name)?;
        let mut clients = Vec::new();
        let mut upstream: Option<Wire> = None;
        for head in asks {
            let mut client = TcpStream::connect(proxy.addr).expect("cannot connect");
            client.write_all(&head).expect("a request");
            clients.push(client);
            let wire = upstream.get_or_insert_with(|| greet(case, app));
            let frames = wire.read(|frame| frame.is("HEADERS"));
            assert!(frames.iter().any(|frame| frame.is("HEADERS")), "{}: {frames:?}", case.name);
        }
        let frames = upstream?.finish(case, &bytes);
        Some(proxy.verdict(case, *addr, &frames))
    });
}

/// Takes the proxy's connection and greets it.
fn greet(case: &Case, app: &TcpListener) -> Wire {
    let (stream, _) = app.accept().unwrap_or_else(|error| panic!("{}: {error}", case.name));
    let mut wire = Wire::new(stream);
    let mut preface = [0; PREFACE.len()];
    let read = wire.stream.read_exact(&mut preface);
    read.unwrap_or_else(|error| panic!("{}: no preface: {error}", case.name));
    assert_eq!(preface, PREFACE);
    wire.stream.write_all(&case.greeting()).expect("a greeting");
    wire
}

/// The requests that a case begins with, as clients of HTTP/1 make them to its app, and what the
/// server sends then; `None`: it is not of that kind.
fn asks(case: &Case) -> Option<(Vec<Vec<u8>>, Vec<u8>)> {
    let ask = |head: &[u8]| {
        let head = String::from_utf8_lossy(head).into_owned();
        head.replace("a.example", &format!("{}.a.example", case.name)).into_bytes()
    };
    let (mut asks, mut bytes) = (Vec::new(), Vec::new());
    for step in &case.steps {
        match step {
            // A client's CONNECT is a tunnel through the proxy, and no stream.
            Step::We(Action::Ask(head, _)) if head.starts_with(b"CONNECT") => return None,
            Step::We(Action::Ask(head, _)) if bytes.is_empty() => asks.push(ask(head)),
            Step::Bytes(more) => bytes.extend(more),
            Step::We(_) => return None,
        }
    }
    if asks.is_empty() {
        // It takes a request to have a connection: fine, if nothing is about streams.
        let mut rest = &bytes[..];
        while let Some(frame) = Frame::take(&mut rest) {
            if frame.stream != 0 {
                return None;
            }
        }
        asks.push(ask(b"GET / HTTP/1.1\r\nHost: a.example\r\n\r\n"));
    }
    Some((asks, bytes))
}
