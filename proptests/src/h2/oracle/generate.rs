//! Conversations for the comparison: valid ones, and such that went wrong somewhere.

use selvedge_core::http2::Role;

use crate::choose::{Choose, pick, weighted};
use crate::h2::notation::{Action, Step};
use crate::h2::wire::{self, Frame};

/// How far the peer is with a message.
#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    Idle,
    Body,
    Done,
}

struct Generator<'c> {
    choose: &'c mut dyn Choose,
    role: Role,
    /// Of streams 1, 3, 5 …: how far the peer is, and how much of the window it has used.
    streams: Vec<(State, usize)>,
    /// Those that answer HEAD.
    heads: Vec<usize>,
    frames: Vec<Frame>,
}

/// A script, and what was done to it: `valid` if nothing.
pub fn script(choose: &mut dyn Choose, role: Role) -> (Vec<Step>, &'static str) {
    let mut steps = Vec::new();
    let (mut streams, mut heads) = (Vec::new(), Vec::new());
    if role == Role::Client {
        for _ in 0..choose.within(1, 4) {
            let method = pick(choose, &["GET", "POST", "HEAD"]);
            let head = format!("{method} / HTTP/1.1\r\nHost: a.example\r\n\r\n");
            steps.push(Step::We(Action::Ask(head.into_bytes(), true)));
            if method == "HEAD" {
                heads.push(streams.len());
            }
            streams.push((State::Idle, 0));
        }
    }
    let mut generator = Generator { choose, role, streams, heads, frames: Vec::new() };
    for _ in 0..generator.choose.within(2, 24) {
        generator.frame();
    }
    let Generator { choose, mut frames, .. } = generator;
    let mutation = if choose.flip() { mutate(choose, &mut frames) } else { "valid" };
    let bytes = frames.iter().flat_map(Frame::bytes).collect();
    steps.push(Step::Bytes(bytes));
    (steps, mutation)
}

impl Generator<'_> {
    fn frame(&mut self) {
        match weighted(self.choose, &[6, 6, 2, 1, 1, 1, 1, 1, 1]) {
            0 => self.head(),
            1 => self.data(),
            2 => self.trailers(),
            3 => {
                if let Some(at) = self.some(State::Body) {
                    let code = pick(self.choose, &[8, 0, 1, 2, 7, 0xff]);
                    self.streams[at].0 = State::Done;
                    self.frames.push(Frame::reset(id(at), code));
                }
            }
            4 => {
                let flags = if self.choose.one_in(4) { wire::ACK } else { 0 };
                self.frames.push(Frame::new(6, flags, 0, *b"abcdefgh"));
            }
            5 => {
                let value = pick(self.choose, &[65_535, 0, 1 << 20, 100]);
                let ids = [(4, value), (1, value), (3, value), (6, value), (0xee, value)];
                let entries = [pick(self.choose, &ids), pick(self.choose, &ids)];
                self.frames.push(Frame::settings(&entries));
            }
            6 => {
                let stream = match self.some(State::Body) {
                    Some(at) if self.choose.flip() => id(at),
                    _ => 0,
                };
                let increment = self.choose.within(1, 1000) as u32;
                self.frames.push(Frame::window_update(stream, increment));
            }
            7 => {
                let stream = 2 * self.choose.below(8) as u32 + 1;
                let payload = [0, 0, 0, 0, self.choose.below(256) as u8];
                self.frames.push(Frame::new(2, 0, stream, payload));
            }
            _ => {
                let stream = self.choose.below(4) as u32;
                let flags = self.choose.below(256) as u8;
                let length = self.choose.below(40);
                self.frames.push(Frame::new(0xbb, flags, stream, vec![b'u'; length]));
            }
        }
    }

    /// A stream that is so far.
    fn some(&mut self, state: State) -> Option<usize> {
        let all = self.streams.iter().enumerate();
        let at: Vec<usize> =
            all.filter(|(_, stream)| stream.0 == state).map(|(at, _)| at).collect();
        (!at.is_empty()).then(|| at[self.choose.below(at.len())])
    }

    fn head(&mut self) {
        let mut end = self.choose.one_in(3);
        let mut fields = Vec::new();
        let at = match self.role {
            Role::Server => {
                self.streams.push((State::Idle, 0));
                let method = pick(self.choose, &["GET", "POST", "OPTIONS", "x!"]);
                let path = pick(self.choose, &["/", "/a?b=c", "/%20", "/a/../b"]);
                fields.extend([(":method", method), (":scheme", "http"), (":path", path)]);
                fields.push((":authority", pick(self.choose, &["a.example", "b.example:81"])));
                self.streams.len() - 1
            }
            Role::Client => {
                let Some(at) = self.some(State::Idle) else { return };
                end |= self.heads.contains(&at);
                fields.push((":status", pick(self.choose, &["200", "404", "500", "299"])));
                at
            }
        };
        self.streams[at].0 = if end { State::Done } else { State::Body };
        for _ in 0..self.choose.below(4) {
            fields.push(pick(
                self.choose,
                &[
                    ("x-a", "b"),
                    ("x-a", ""),
                    ("cookie", "a=b"),
                    ("user-agent", "one two"),
                    ("x-long", "0123456789012345678901234567890123456789"),
                    ("accept", "*/*"),
                ],
            ));
        }
        let frame = Frame::headers(id(at), end, &fields);
        self.block(frame);
    }

    fn trailers(&mut self) {
        let Some(at) = self.some(State::Body) else { return };
        self.streams[at].0 = State::Done;
        let fields = [("x-sum", "1"), ("grpc-status", "0")];
        let count = self.choose.within(1, 2);
        self.block(Frame::headers(id(at), true, &fields[..count]));
    }

    /// A block, maybe with priority and padding, maybe in two frames.
    fn block(&mut self, mut frame: Frame) {
        if self.choose.one_in(4) {
            let at = self.choose.below(frame.payload.len() + 1);
            let rest = frame.payload.split_off(at);
            frame.flags &= !wire::END_HEADERS;
            let stream = frame.stream;
            self.dress(frame);
            self.frames.push(Frame::new(9, wire::END_HEADERS, stream, rest));
        } else {
            self.dress(frame);
        }
    }

    fn dress(&mut self, mut frame: Frame) {
        if frame.is("HEADERS") && self.choose.one_in(4) {
            frame.flags |= wire::PRIORITY;
            frame.payload.splice(..0, [0, 0, 0, 0, 7]);
        }
        if self.choose.one_in(4) {
            let padding = self.choose.below(20);
            frame.flags |= wire::PADDED;
            frame.payload.insert(0, padding as u8);
            frame.payload.extend(std::iter::repeat_n(0, padding));
        }
        self.frames.push(frame);
    }

    fn data(&mut self) {
        let Some(at) = self.some(State::Body) else { return };
        let used = self.streams[at].1;
        let n = match self.choose.below(4) {
            0 => 0,
            1 | 2 => self.choose.below(100),
            _ => self.choose.below(4000),
        };
        // 21: the most that padding adds.
        if used + n + 21 > 16_384 {
            return;
        }
        let end = self.choose.one_in(4) || n == 0;
        let stream = &mut self.streams[at];
        stream.1 += n + 21;
        stream.0 = if end { State::Done } else { State::Body };
        self.dress(Frame::data(id(at), end, &vec![b'd'; n]));
    }
}

fn id(at: usize) -> u32 {
    at as u32 * 2 + 1
}

/// Spoils one frame.
fn mutate(choose: &mut dyn Choose, frames: &mut Vec<Frame>) -> &'static str {
    if frames.is_empty() {
        return "valid";
    }
    let at = choose.below(frames.len());
    let frame = &mut frames[at];
    match choose.below(9) {
        0 => {
            frame.flags ^= 1 << pick(choose, &[0, 2, 3, 5]);
            "flag"
        }
        1 => {
            frame.stream = choose.below(12) as u32;
            "stream"
        }
        2 => {
            frame.kind = choose.below(11) as u8;
            "type"
        }
        3 => {
            let length = choose.below(frame.payload.len() + 1);
            frame.payload.truncate(length);
            "truncated"
        }
        4 => {
            let frame = frame.clone();
            frames.insert(at, frame);
            "repeated"
        }
        5 => {
            frames.remove(at);
            "lost"
        }
        6 => {
            let other = choose.below(frames.len());
            frames.swap(at, other);
            "swapped"
        }
        7 if !frame.payload.is_empty() => {
            let byte = choose.below(frame.payload.len());
            frame.payload[byte] ^= 1 << choose.below(8);
            "bit"
        }
        _ => {
            frame.payload.push(0);
            "extended"
        }
    }
}
