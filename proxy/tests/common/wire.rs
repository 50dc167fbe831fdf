//! A client of HTTP/2 that is no state machine: frames by hand, right or wrong, over a socket.

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use selvedge_proptests::h2::wire::{END_STREAM, Frame, PREFACE, code};

use super::PATIENCE;

/// How long a peer may take nothing before we believe that it does not want to.
const STUCK: Duration = Duration::from_secs(2);

/// One connection.
pub(crate) struct Wire {
    stream: TcpStream,
    rx: Vec<u8>,
    /// Every RST_STREAM and GOAWAY that came.
    pub(crate) complaints: Vec<Frame>,
    /// Credit is given back for what is read, as by any honest client.
    pub(crate) credits: bool,
    /// Nothing more comes.
    pub(crate) closed: bool,
}

/// What became of bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Sent {
    All,
    /// The connection is gone.
    Closed,
    /// The peer does not read any more.
    Stuck,
}

impl Wire {
    /// Connects, and exchanges SETTINGS: these are ours.
    pub(crate) fn connect(to: SocketAddr, settings: &[(u16, u32)]) -> Self {
        let stream = TcpStream::connect(to).expect("cannot connect");
        stream.set_nodelay(true).expect("cannot set an option");
        stream.set_nonblocking(true).expect("cannot set an option");
        let (rx, complaints) = (Vec::new(), Vec::new());
        let mut wire = Wire { stream, rx, complaints, credits: true, closed: false };
        let hello = [PREFACE.to_vec(), Frame::settings(settings).bytes()].concat();
        assert_eq!(wire.write(&hello, true), Sent::All);
        wire.until("SETTINGS", |frame| frame.is("SETTINGS"));
        wire.send(&[Frame::settings_ack()]);
        wire
    }

    /// Sends frames, and reads in between if nothing can be written.
    pub(crate) fn send(&mut self, frames: &[Frame]) -> Sent {
        self.write(&frames.iter().flat_map(Frame::bytes).collect::<Vec<u8>>(), true)
    }

    /// Sends bytes that are no whole frames.
    pub(crate) fn send_bytes(&mut self, bytes: &[u8]) -> Sent {
        self.write(bytes, true)
    }

    /// Sends frames, and does not read whatever comes back.
    pub(crate) fn send_blindly(&mut self, frames: &[Frame]) -> Sent {
        self.write(&frames.iter().flat_map(Frame::bytes).collect::<Vec<u8>>(), false)
    }

    fn write(&mut self, mut bytes: &[u8], reads: bool) -> Sent {
        let mut moved = Instant::now();
        while !bytes.is_empty() {
            match self.stream.write(bytes) {
                Ok(n) => {
                    bytes = &bytes[n..];
                    moved = Instant::now();
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    if moved.elapsed() > STUCK {
                        return Sent::Stuck;
                    }
                    if !(reads && self.fill()) {
                        std::thread::sleep(Duration::from_micros(200));
                    }
                }
                Err(_) => {
                    // What the peer said before it went may be there yet.
                    while self.fill() {}
                    return Sent::Closed;
                }
            }
        }
        Sent::All
    }

    /// Reads what is there; false if there is nothing.
    fn fill(&mut self) -> bool {
        let mut buffer = [0; 16 * 1024];
        match self.stream.read(&mut buffer) {
            Ok(n @ 1..) => {
                self.rx.extend_from_slice(&buffer[..n]);
                return true;
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
            Ok(0) | Err(_) => self.closed = true,
        }
        false
    }

    /// The frames that have come, after waiting for `time` if there are none.
    pub(crate) fn poll(&mut self, time: Duration) -> Vec<Frame> {
        let start = Instant::now();
        loop {
            self.fill();
            let frames = self.take();
            if !frames.is_empty() || self.closed || start.elapsed() >= time {
                return frames;
            }
            std::thread::sleep(Duration::from_micros(200));
        }
    }

    fn take(&mut self) -> Vec<Frame> {
        let mut rest = &self.rx[..];
        let frames: Vec<Frame> = std::iter::from_fn(|| Frame::take(&mut rest)).collect();
        let read = self.rx.len() - rest.len();
        self.rx.drain(..read);
        let complaint = |frame: &&Frame| frame.is("GOAWAY") || frame.is("RST_STREAM");
        self.complaints.extend(frames.iter().filter(complaint).cloned());
        if self.credits {
            let mut credit = Vec::new();
            for frame in frames.iter().filter(|frame| frame.is("DATA")) {
                let n = frame.payload.len() as u32;
                let streams = if frame.has(END_STREAM) { &[0][..] } else { &[0, frame.stream] };
                credit.extend(
                    streams.iter().filter(|_| n > 0).map(|&on| Frame::window_update(on, n)),
                );
            }
            let bytes: Vec<u8> = credit.iter().flat_map(Frame::bytes).collect();
            self.write(&bytes, false);
        }
        frames
    }

    /// Reads until such a frame comes, which must be before the peer closes.
    #[track_caller]
    pub(crate) fn until(&mut self, what: &str, mut is: impl FnMut(&Frame) -> bool) {
        let start = Instant::now();
        loop {
            let frames = self.poll(Duration::from_millis(100));
            if frames.iter().any(&mut is) {
                return;
            }
            assert!(!self.closed, "closed before {what}: {}", self.complained());
            assert!(start.elapsed() < PATIENCE, "no {what}: {}", self.complained());
        }
    }

    /// Reads until so many streams have ended; the body bytes that came.
    #[track_caller]
    pub(crate) fn answers(&mut self, count: usize) -> usize {
        let (mut ended, mut bytes) = (0, 0);
        self.until("the last answer", |frame| {
            let ends = (frame.is("DATA") || frame.is("HEADERS")) && frame.has(END_STREAM);
            bytes += if frame.is("DATA") { frame.payload.len() } else { 0 };
            ended += usize::from(ends);
            ended == count
        });
        bytes
    }

    /// The complaints, in words.
    pub(crate) fn complained(&self) -> String {
        let words = self.complaints.iter().map(ToString::to_string);
        let words: Vec<String> = words.collect();
        match words.len() {
            0..=3 => words.join(" "),
            n => format!("{} … {} ({n})", words[0], words[n - 1]),
        }
    }

    /// The code of the GOAWAY that came.
    pub(crate) fn goaway(&self) -> Option<String> {
        let goaway = self.complaints.iter().find(|frame| frame.is("GOAWAY"))?;
        Some(code(goaway.word(4).unwrap_or(0)))
    }
}
