//! The two ends of a tunnel.

use super::net::Check;
use super::world::{Owner, World};
use crate::traffic::content::{CLIENT_HELLO, Stream, token};
use crate::traffic::wire::show;

/// What one end of a tunnel has sent and got.
#[derive(Debug)]
pub(super) struct End {
    /// The number of the stream that it sends.
    pub(super) sends: usize,
    /// How much of it was sent, or waits to be.
    queued: usize,
    /// The stream that it gets, once that is known.
    gets: Option<usize>,
    /// How much of it has come.
    got: usize,
    /// The beginning of it, until it is known.
    begin: Vec<u8>,
    /// It will send no more.
    pub(super) finished: bool,
}

/// What goes before the header of a stream, so that detection takes it for one thing or another.
pub(super) const PRELUDES: [&[u8]; 6] = [
    b"",
    b"HELO mail.example\r\n",
    b"\x16\x03\x01\x00\x90\x01",
    b"\r\n\x00",
    CLIENT_HELLO,
    b"BREW /\r\n",
];

impl End {
    /// More bytes of its stream.
    fn send(&mut self, stream: &Stream, n: usize) -> Vec<u8> {
        let from = self.queued;
        self.queued += n;
        stream.slice(from, self.queued)
    }
}

impl World<'_> {
    /// A new end, whose stream begins with `prelude`.
    pub(super) fn open_end(&mut self, owner: Owner, prelude: &[u8]) -> End {
        let sends = self.streams.len();
        self.streams.push((Stream::new(sends as u32, prelude), owner));
        End { sends, queued: 0, gets: None, got: 0, begin: Vec::new(), finished: false }
    }

    /// Bytes that an end sends next; `None` if it has no tunnel, or will send no more.
    pub(super) fn send_stream(&mut self, owner: Owner, n: usize) -> Option<Vec<u8>> {
        let streams = std::mem::take(&mut self.streams);
        let end = self.end_mut(owner).filter(|end| !end.finished);
        let bytes = end.map(|end| end.send(&streams[end.sends].0, n));
        self.streams = streams;
        bytes
    }

    fn end_mut(&mut self, owner: Owner) -> Option<&mut End> {
        match owner {
            Owner::Client(at) => self.clients[at].end.as_mut(),
            Owner::App(at) => self.apps[at].end.as_mut(),
        }
    }

    fn end(&self, owner: Owner) -> Option<&End> {
        match owner {
            Owner::Client(at) => self.clients[at].end.as_ref(),
            Owner::App(at) => self.apps[at].end.as_ref(),
        }
    }

    /// An end got bytes: they are those of one stream, in order, and of its other end.
    pub(super) fn end_got(&mut self, owner: Owner, bytes: &[u8]) -> Check {
        let Some(end) = self.end_mut(owner) else { return Err("no tunnel".to_owned()) };
        if end.gets.is_none() {
            end.begin.extend_from_slice(bytes);
            match Stream::id_of(&end.begin) {
                Some(id) => {
                    let begin = std::mem::take(&mut end.begin);
                    end.gets = Some(id as usize);
                    self.join(owner, id as usize)?;
                    return self.end_got(owner, &begin);
                }
                None if end.begin.len() > Stream::HEAD_MAX => {
                    return Err(format!("a tunnel begins with {}", show(&end.begin)));
                }
                None => return Ok(()),
            }
        }
        let (from, gets) = (end.got, end.gets.unwrap_or_default());
        end.got += bytes.len();
        if self.streams[gets].0.slice(from, from + bytes.len()) != bytes {
            return Err(format!("stream {} differs after {from} bytes: {}", gets, show(bytes)));
        }
        Ok(())
    }

    /// An end learned whose stream it gets.
    fn join(&mut self, owner: Owner, id: usize) -> Check {
        let Some((_, other)) = self.streams.get(id) else {
            return Err(format!("a stream called {}", token(id as u32)));
        };
        let (mine, theirs) = (self.end(owner), self.end(*other));
        let (Some(mine), Some(theirs)) = (mine, theirs) else {
            return Err("the stream of no tunnel".to_owned());
        };
        let (client, app) = match (owner, *other) {
            (Owner::Client(client), Owner::App(app)) | (Owner::App(app), Owner::Client(client)) => {
                (client, app)
            }
            both => return Err(format!("a tunnel between {both:?}")),
        };
        if theirs.gets.is_some_and(|gets| gets != mine.sends) {
            return Err(format!("a tunnel with {other:?}, which has one with another"));
        }
        self.outcome.tunnels += 1;
        let addr = self.apps[app].addr;
        let targets = self.clients[client].targets(self);
        if !targets.contains(&addr) {
            return Err(format!("a tunnel to {addr}, of {targets:?}"));
        }
        Ok(())
    }

    /// It closes its direction when everything is sent.
    pub(super) fn finish_stream(&mut self, owner: Owner) {
        match owner {
            Owner::Client(at) => self.clients[at].finishing = true,
            Owner::App(at) => self.apps[at].finishing = true,
        }
        if let Some(end) = self.end_mut(owner) {
            end.finished = true;
        }
    }

    /// An end was told that no more comes: then everything has.
    pub(super) fn end_fin(&self, owner: Owner) -> Check {
        let Some(mine) = self.end(owner) else { return Ok(()) };
        // Who has sent too little to be known may know this end.
        let knows = |(_, other): &&(Stream, Owner)| {
            self.end(*other).is_some_and(|theirs| theirs.gets == Some(mine.sends))
        };
        let other = match mine.gets {
            Some(gets) => Some(&self.streams[gets]),
            None => self.streams.iter().find(knows),
        };
        let Some(theirs) = other.and_then(|&(_, other)| self.end(other)) else { return Ok(()) };
        let got = mine.got + mine.begin.len();
        if !theirs.finished || theirs.queued != got {
            return Err(format!("a tunnel ends after {got} of {} bytes", theirs.queued));
        }
        Ok(())
    }
}
