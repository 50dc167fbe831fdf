//! A load at a fixed rate: every request is due at its time, whether the ones before it were answered
//! or not, and its latency counts from then. A generator that waits for answers asks less of a proxy
//! that is slow, and does not see what users see (Tene, "How NOT to Measure Latency").
//!
//! `openloop ADDRESS HOST RATE SECONDS CONNECTIONS` sends POSTs with 10 fields and 100 bytes over HTTP/1
//! and prints percentiles in µs as JSON. A request takes a connection that waits for nothing; if there
//! is none it waits for one. `proxy/bench/compare` runs it.

use std::collections::VecDeque;
use std::io::{self, Read, Write};
use std::mem::MaybeUninit;
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};
use std::{env, process};

use rustix::event::Timespec;
use rustix::event::epoll::{self, CreateFlags, Event, EventData, EventFlags};

/// After the last request was due: how long its answer is waited for.
const PATIENCE: Duration = Duration::from_secs(2);

struct Connection {
    socket: TcpStream,
    /// When the request on it was due.
    due: Option<Instant>,
    received: Vec<u8>,
}

struct Load {
    connections: Vec<Connection>,
    epoll: rustix::fd::OwnedFd,
    /// Connections without a request.
    free: Vec<usize>,
    /// Requests without a connection, by when they were due.
    waiting: VecDeque<Instant>,
    request: Vec<u8>,
    /// Nanoseconds.
    latencies: Vec<u64>,
    failed: u64,
}

fn main() -> io::Result<()> {
    let args: Vec<String> = env::args().skip(1).collect();
    let [address, host, rate, seconds, connections] = args.as_slice() else {
        eprintln!("usage: openloop ADDRESS HOST RATE SECONDS CONNECTIONS");
        process::exit(64);
    };
    let number = |text: &str| text.parse::<u32>().unwrap_or_else(|error| panic!("{text}: {error}"));
    let address: SocketAddr = address.parse().map_err(io::Error::other)?;
    let mut load = Load::connect(address, host, number(connections))?;
    load.run(number(rate), number(rate) * number(seconds))?;
    load.print();
    Ok(())
}

impl Load {
    fn connect(address: SocketAddr, host: &str, count: u32) -> io::Result<Load> {
        let epoll = epoll::create(CreateFlags::CLOEXEC)?;
        let mut connections = Vec::new();
        for index in 0..count {
            let socket = TcpStream::connect(address)?;
            socket.set_nodelay(true)?;
            socket.set_nonblocking(true)?;
            epoll::add(&epoll, &socket, EventData::new_u64(index.into()), EventFlags::IN)?;
            connections.push(Connection { socket, due: None, received: Vec::new() });
        }
        let body = "y".repeat(100);
        let request = format!(
            "POST / HTTP/1.1\r\nHost: {host}\r\nAccept: application/json\r\n\
            Accept-Encoding: gzip, deflate\r\nAccept-Language: en-GB,en;q=0.5\r\n\
            Content-Type: application/json\r\nUser-Agent: bench/1.0\r\n\
            X-Forwarded-For: 192.0.2.7\r\nX-Request-Id: 4bf92f3577b34da6a3ce929d0e0e4736\r\n\
            Traceparent: 00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01\r\n\
            Content-Length: 100\r\n\r\n{body}"
        );
        Ok(Load {
            free: (0..connections.len()).collect(),
            connections,
            epoll,
            waiting: VecDeque::new(),
            request: request.into_bytes(),
            latencies: Vec::new(),
            failed: 0,
        })
    }

    /// Sends `count` requests, `rate` a second, and takes their answers.
    fn run(&mut self, rate: u32, count: u32) -> io::Result<()> {
        let start = Instant::now();
        let due = |index: u32| start + Duration::from_secs(1) * index / rate;
        let end = due(count) + PATIENCE;
        let mut sent = 0;
        while self.latencies.len() as u64 + self.failed < u64::from(count) {
            let now = Instant::now();
            if now >= end {
                break;
            }
            while sent < count && due(sent) <= now {
                self.waiting.push_back(due(sent));
                sent += 1;
            }
            while let (Some(&index), Some(&due)) = (self.free.last(), self.waiting.front()) {
                self.free.pop();
                self.waiting.pop_front();
                self.send(index, due)?;
            }
            let next = if sent < count { due(sent) } else { end };
            self.wait(next.saturating_duration_since(Instant::now()))?;
        }
        self.failed = u64::from(count) - self.latencies.len() as u64;
        Ok(())
    }

    /// A request is smaller than any socket's buffer, and its connection waits for nothing.
    fn send(&mut self, index: usize, due: Instant) -> io::Result<()> {
        let connection = &mut self.connections[index];
        connection.due = Some(due);
        connection.socket.write_all(&self.request)
    }

    fn wait(&mut self, time: Duration) -> io::Result<()> {
        // A sleeping thread is woken some 50 µs late: the last bit is not slept.
        let time = time.saturating_sub(Duration::from_micros(60));
        let timeout =
            Timespec { tv_sec: time.as_secs().cast_signed(), tv_nsec: time.subsec_nanos().into() };
        let mut events = [MaybeUninit::<Event>::uninit(); 64];
        let (ready, _) = epoll::wait(&self.epoll, &mut events, Some(&timeout))?;
        let ready: Vec<usize> = ready.iter().map(|event| event.data.u64() as usize).collect();
        for index in ready {
            self.receive(index)?;
        }
        Ok(())
    }

    fn receive(&mut self, index: usize) -> io::Result<()> {
        let connection = &mut self.connections[index];
        let mut buffer = [0; 4096];
        let read = match connection.socket.read(&mut buffer) {
            Ok(read) => read,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
            Err(error) => return Err(error),
        };
        if read == 0 {
            return Err(io::Error::other("the proxy closed a connection"));
        }
        connection.received.extend_from_slice(&buffer[..read]);
        let Some(status) = answered(&connection.received)? else { return Ok(()) };
        connection.received.clear();
        let due = connection.due.take().ok_or_else(|| io::Error::other("an answer too many"))?;
        if status == 200 {
            self.latencies.push(due.elapsed().as_nanos() as u64);
        } else {
            self.failed += 1;
        }
        self.free.push(index);
        Ok(())
    }

    fn print(&mut self) {
        self.latencies.sort_unstable();
        let percentile = |share: f64| {
            let at = (self.latencies.len() as f64 * share) as usize;
            self.latencies.get(at).map_or(0.0, |&nanos| nanos as f64 / 1000.0)
        };
        println!(
            r#"{{"answered": {}, "failed": {}, "p50": {:.1}, "p99": {:.1}, "p99.9": {:.1}}}"#,
            self.latencies.len(),
            self.failed,
            percentile(0.5),
            percentile(0.99),
            percentile(0.999),
        );
    }
}

/// The status of a complete answer; `None` if it is not complete.
fn answered(received: &[u8]) -> io::Result<Option<u16>> {
    let mut fields = [httparse::EMPTY_HEADER; 32];
    let mut response = httparse::Response::new(&mut fields);
    let httparse::Status::Complete(head) = response.parse(received).map_err(io::Error::other)?
    else {
        return Ok(None);
    };
    let length =
        response.headers.iter().find(|field| field.name.eq_ignore_ascii_case("content-length"));
    let length = length.and_then(|field| str::from_utf8(field.value).ok()?.parse::<usize>().ok());
    let length = length.ok_or_else(|| io::Error::other("an answer without Content-Length"))?;
    Ok((received.len() >= head + length).then_some(response.code.unwrap_or(0)))
}
