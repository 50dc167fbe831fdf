//! One end of a byte tunnel: sends a stream that tells where it comes from, and reads another.

use std::time::Duration;

use super::wire::{Then, Wire};
use crate::sim::excuses::TUNNEL_BREAKS;
use crate::sim::invariant::{Check, Invariant, violated};
use crate::sim::model::StreamSent;
use crate::sim::net::Net;
use crate::traffic::content::{CLIENT_HELLO, Stream, token};
use crate::traffic::wire::show;

/// What goes before the header of a stream, so that detection takes it for one thing or another.
pub(super) const PRELUDES: [&[u8]; 5] =
    [b"", b"HELO mail.example\r\n", b"\x16\x03\x01\x00\x90\x01", b"\r\n\x00", CLIENT_HELLO];

/// See the [module](self).
#[derive(Debug)]
pub(super) struct StreamEnd {
    /// The number of the stream that it sends.
    sends: u32,
    /// How much it still wants to say.
    left: usize,
    /// The stream that it gets, once that is known.
    gets: Option<u32>,
    /// How much of it has come.
    got: usize,
    /// The beginning of it, until it is known.
    begin: Vec<u8>,
    /// Its other end will send no more.
    saw_fin: bool,
}

impl StreamEnd {
    /// An end at one of `apps`, or of a client that may reach them.
    pub(super) fn new(net: &mut Net<'_>, apps: u64, prelude: &[u8]) -> Self {
        let sends = net.model.streams.len() as u32;
        let stream = Stream::new(sends, prelude);
        net.model.streams.push(StreamSent {
            stream,
            queued: 0,
            finished: false,
            other: None,
            apps,
        });
        let most = net.mix.largest;
        let left = prelude.len() + 30 + net.choose.below(most) + net.much();
        StreamEnd { sends, left, gets: None, got: 0, begin: Vec::new(), saw_fin: false }
    }

    /// Says the next piece, and when the one after that is due.
    pub(super) fn act(&mut self, net: &mut Net<'_>, wire: &mut Wire) -> Option<Duration> {
        let sent = &mut net.model.streams[self.sends as usize];
        if sent.finished || wire.over {
            return None;
        }
        let n = match net.choose.below(3) {
            _ if net.healed => self.left,
            0 | 1 => self.left,
            _ => 1 + net.choose.below(self.left),
        };
        let n = n.max(40.min(self.left));
        let bytes = sent.stream.slice(sent.queued, sent.queued + n);
        sent.queued += n;
        self.left -= n;
        if self.left == 0 {
            sent.finished = true;
        }
        wire.send(net, &bytes);
        if self.left > 0 {
            return Some(net.some(Duration::from_millis(300)));
        }
        wire.finish(net, if self.saw_fin { Then::Close } else { Then::Fin });
        None
    }

    /// It got bytes: they are those of one stream, in order, and of its other end.
    pub(super) fn got(&mut self, net: &mut Net<'_>, bytes: &[u8]) -> Check {
        let Some(gets) = self.gets else {
            self.begin.extend_from_slice(bytes);
            if let Some(id) = Stream::id_of(&self.begin) {
                let begin = std::mem::take(&mut self.begin);
                self.join(net, id)?;
                return self.got(net, &begin);
            }
            let fits = self.begin.len() <= Stream::HEAD_MAX;
            return net.checks.that(Invariant::Bodies, fits, || {
                format!("a tunnel begins with {}", show(&self.begin))
            });
        };
        let from = self.got;
        self.got += bytes.len();
        net.coverage.bytes += bytes.len() as u64;
        let sent = &net.model.streams[gets as usize];
        let good = self.got <= sent.queued && sent.stream.is(from, bytes);
        net.checks.that(Invariant::Bodies, good, || {
            format!("stream {gets} differs after {from} bytes: {}", show(bytes))
        })
    }

    /// It learned whose stream it gets.
    fn join(&mut self, net: &mut Net<'_>, id: u32) -> Check {
        self.gets = Some(id);
        let Some(other) = net.model.streams.get(id as usize) else {
            let message = format!("a stream called {}", token(id));
            return Err(violated(Invariant::Bodies, message));
        };
        let mine = &net.model.streams[self.sends as usize];
        let fits = other.other.is_none_or(|gets| gets == self.sends) && id != self.sends;
        net.checks.that(Invariant::Bodies, fits, || {
            format!("stream {id} is of a tunnel between others")
        })?;
        net.checks.that(Invariant::Load, mine.apps & other.apps != 0, || {
            format!("a tunnel for {:x} leads to {:x}", mine.apps, other.apps)
        })?;
        net.model.streams[self.sends as usize].other = Some(id);
        net.coverage.tunnels += 1;
        Ok(())
    }

    /// No more comes: then everything has.
    pub(super) fn fin(&mut self, net: &mut Net<'_>, wire: &mut Wire) -> Check {
        self.saw_fin = true;
        if let Some(gets) = self.gets {
            let sent = &net.model.streams[gets as usize];
            let got = self.got;
            net.checks.that(Invariant::Bodies, sent.finished && sent.queued == got, || {
                format!("a tunnel ends after {got} of {} bytes", sent.queued)
            })?;
        }
        if net.model.streams[self.sends as usize].finished {
            wire.finish(net, Then::Close);
        }
        Ok(())
    }

    /// The connection broke.
    pub(super) fn broke(&mut self, net: &mut Net<'_>) -> Check {
        self.leave(net);
        let excused = net.mix.has_any(TUNNEL_BREAKS);
        net.checks.that(Invariant::EndsOnce, excused, || "a tunnel is reset for nothing".to_owned())
    }

    /// Does it have to say nothing before the other end has spoken?
    pub(super) fn heard(&self) -> bool {
        self.got > 0 || !self.begin.is_empty()
    }

    /// It gives up, and says so by a reset.
    pub(super) fn leave(&mut self, net: &mut Net<'_>) {
        net.model.streams[self.sends as usize].finished = true;
    }
}
