//! What a small answer waits behind where it shares its connection with large ones: bytes that leave
//! before it, counted without a clock. What the peer and the kernel hold comes on top.

use alloc::format;
use alloc::string::String;
use alloc::vec;
use alloc::vec::Vec;

use super::http2_rig::{Peer, http2_config};
use super::rig::*;
use crate::engine::{ConnId, Input};
use crate::http2;
use crate::limits::Limits;

/// What a stream may send before the client reads any of it.
const WINDOW: u32 = 16 << 20;
const GET: &str = "GET / HTTP/1.1\r\nHost: h1.example\r\n\r\n";
const FRAME: usize = 9 + 16 * 1024;

/// A client of large windows whose socket takes what [`Shared::take`] takes; large answers come in as
/// fast as they are let.
struct Shared {
    rig: Rig,
    client: Peer,
    /// The endpoints that send them.
    sources: Vec<ConnId>,
    /// The endpoint that sends small ones, once it is connected.
    small: Option<ConnId>,
    /// Everything that left.
    sent: Vec<u8>,
}

impl Shared {
    fn with(large: usize) -> Self {
        let mut rig = Rig::with(http2_config());
        let mut config = http2::Config::default();
        config.settings.initial_window_size = WINDOW;
        config.connection_window = 4 * WINDOW;
        let mut client = Peer::client_with(&mut rig, config);
        rig.blocked.push(client.conn);
        let mut sources = Vec::new();
        for _ in 0..large {
            client.ask(&mut rig, GET, true);
            let source = rig.connect();
            rig.receive(source, b"HTTP/1.1 200 OK\r\nContent-Length: 1000000000\r\n\r\n");
            sources.push(source);
        }
        let mut shared = Shared { rig, client, sources, small: None, sent: Vec::new() };
        shared.feed();
        shared
    }

    /// The large ones are read until the engine wants no more of them.
    fn feed(&mut self) {
        let block = vec![b'x'; Limits::READ_BLOCK];
        for &source in &self.sources {
            while self.rig.engine.read_budget(source) > 0 {
                self.rig.receive(source, &block);
            }
        }
    }

    /// The socket of the client takes at most so much.
    fn take(&mut self, most: usize) {
        let conn = self.client.conn;
        let mut io = [&[][..]; 64];
        let count = self.rig.engine.write_bufs(conn, &mut io);
        let mut bytes = io[..count].concat();
        bytes.truncate(most);
        self.rig.input(Input::Wrote { conn, n: bytes.len() });
        self.sent.extend(bytes);
        self.feed();
    }

    /// The frames that left, as type, flags, stream, where each begins and where it ends.
    fn frames(&self) -> impl Iterator<Item = (u8, u8, u32, usize, usize)> + '_ {
        let mut at = 0;
        core::iter::from_fn(move || {
            let head = self.sent.get(at..)?.first_chunk::<9>()?;
            let number = |bytes: &[u8]| bytes.iter().fold(0, |n, &byte| n << 8 | u32::from(byte));
            let start = at;
            at += 9 + number(&head[..3]) as usize;
            Some((head[3], head[4], number(&head[5..]), start, at))
        })
    }

    /// Bytes of DATA of a stream, of frames that have begun to leave.
    fn body(&self, stream: u32) -> usize {
        let own = self.frames().filter(|&(kind, _, id, ..)| kind == 0 && id == stream);
        own.map(|(.., start, end)| end - start - 9).sum()
    }

    /// Where the first frame of a stream begins among what left, and where the one that ends it ends.
    fn place(&self, stream: u32) -> (Option<usize>, Option<usize>) {
        let mut own = self.frames().filter(|&(_, _, id, ..)| id == stream).peekable();
        let first = own.peek().map(|&(_, _, _, start, _)| start);
        let last = own.find(|&(_, flags, ..)| flags & 1 != 0).map(|(.., end)| end);
        (first, last.filter(|&end| end <= self.sent.len()))
    }

    /// How many bytes leave before the first one of an answer that has just come, and up to its last.
    fn behind(&mut self, answer: &str, takes: usize) -> (usize, usize) {
        let stream = self.client.ask(&mut self.rig, GET, true);
        let source = *self.small.get_or_insert_with(|| self.rig.connect());
        let before = self.sent.len();
        self.rig.receive(source, answer.as_bytes());
        for _ in 0..10_000 {
            if let (Some(first), Some(end)) = self.place(stream) {
                return (first - before, end - before);
            }
            self.take(takes);
        }
        panic!("it never comes");
    }
}

/// Its head waits behind what is framed already, however large the windows and however many they are
/// that fill them. Then each of those has one turn, of one frame, before its body has one.
#[test]
fn a_small_answer_waits_behind_little() {
    let length = |n| format!("HTTP/1.1 200 OK\r\nContent-Length: {n}\r\n\r\n{}", "y".repeat(n));
    let chunked =
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\nX-Sum: 7\r\n\r\n";
    let answers = [length(0), length(5), length(10_000), String::from(chunked)];
    // What waits to be written, which the last frame may exceed.
    let framed = Limits::default().stream_buffer + FRAME;
    for large in [1, 2, 10] {
        // The socket takes a little at a time, and all there is.
        for takes in [1000, 10_000, usize::MAX] {
            let mut shared = Shared::with(large);
            for (answer, taken) in answers.iter().zip([0, 1, 20_000, 100_000]) {
                shared.take(taken);
                let (first, end) = shared.behind(answer, takes);
                let what = format!("{first} to {end}, {large} large ones, {takes} at a time");
                assert!(first <= framed, "{what}");
                assert!(end <= framed + large * FRAME + answer.len() + 2 * 9, "{what}");
            }
        }
    }
}

/// So that the bound above says something: as much as the windows allow is there to be sent. And none
/// of the large ones gets further ahead of another than by what was framed before the other came.
#[test]
fn large_ones_fill_what_they_may_and_share_it() {
    let mut shared = Shared::with(4);
    let framed = Limits::default().stream_buffer + FRAME;
    for _ in 0..100 {
        let before = shared.sent.len();
        shared.take(usize::MAX);
        assert!(shared.sent.len() > before, "they stop at {before}");
        let sent = [1, 3, 5, 7].map(|stream| shared.body(stream));
        let (least, most) = (sent.iter().min(), sent.iter().max());
        assert!(most.unwrap() - least.unwrap() <= framed + FRAME, "{sent:?}");
    }
    assert!(shared.sent.len() > 2 << 20);
}
