//! What a hostile peer does to a connection, and what an honest one does that looks like it.
//!
//! An attack ends the connection after a bounded amount of it, or gets nowhere; meanwhile the
//! connection holds and answers a bounded amount. Each has a twin that goes on to its end with not
//! one GOAWAY or RST_STREAM from us.

mod attack;
mod honest;

use selvedge_core::http2::{Config, Role};
use selvedge_core::time::Duration;
use selvedge_proptests::h2::end::{End, Seen};
use selvedge_proptests::h2::wire::{Frame, PREFACE, frames};

/// A connection under test, and what was sent to it.
struct Target {
    end: End,
    /// Octets it was sent.
    received: usize,
    /// Frames it sent in answer, but for acknowledgements and credit.
    complaints: Vec<Frame>,
    /// Octets it answered.
    answered: usize,
    /// The most heap bytes that it held.
    heap: usize,
}

impl Target {
    /// One that was greeted.
    fn new(role: Role) -> Self {
        Self::with(role, Config::default())
    }

    fn with(role: Role, config: Config) -> Self {
        let mut end = End::new(role, config);
        end.releases = Some(true);
        let mut target = Target { end, received: 0, complaints: Vec::new(), answered: 0, heap: 0 };
        target.end.take();
        if role == Role::Server {
            target.end.receive(PREFACE);
        }
        target.send(&[Frame::settings(&[]), Frame::settings_ack()]);
        (target.received, target.answered) = (0, 0);
        target
    }

    /// The peer sends frames; what comes back.
    fn send(&mut self, sent: &[Frame]) -> Vec<Frame> {
        let bytes: Vec<u8> = sent.iter().flat_map(Frame::bytes).collect();
        self.received += bytes.len();
        self.end.receive(&bytes);
        self.drain()
    }

    /// What it wants to send.
    fn drain(&mut self) -> Vec<Frame> {
        let answer = self.end.take();
        self.answered += answer.len();
        self.heap = self.heap.max(self.end.connection.heap_bytes());
        let answer = frames(&answer);
        let complaint = |frame: &&Frame| frame.is("GOAWAY") || frame.is("RST_STREAM");
        self.complaints.extend(answer.iter().filter(complaint).cloned());
        answer
    }

    /// Servers are asked for something.
    fn ask(&mut self) {
        if self.end.connection.role() == Role::Client {
            self.end.ask(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n", true);
            self.drain();
            (self.received, self.answered) = (0, 0);
        }
    }

    /// Answers every request that came.
    fn answer_all(&mut self) {
        for id in self.requests() {
            self.end.answer(self.end.key(id), ANSWER, true);
        }
        self.drain();
        self.answered = 0;
    }

    fn pass(&mut self, time: Duration) {
        self.end.wait_until(self.end.now + time);
    }

    /// Streams of which a request came.
    fn requests(&mut self) -> Vec<u32> {
        let seen = std::mem::take(&mut self.end.seen);
        let id = |seen: Seen| match seen {
            Seen::Line(line) => line.strip_prefix("request ")?.split(' ').next()?.parse().ok(),
            Seen::Data { .. } => None,
        };
        seen.into_iter().filter_map(id).collect()
    }
}

/// What a server answers everything with.
const ANSWER: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Type: application/grpc\r\n\r\n";

/// gRPC's status.
const STATUS: &[u8] = b"grpc-status: 0\r\n\r\n";
