//! Apps: servers that answer, or speak first.

mod health;
mod http1;
mod http2;
mod served;

use std::net::SocketAddr;
use std::time::Duration;

use selvedge_core::error::ConnectError;

use super::Host;
use super::stream::StreamEnd;
use super::wire::{Got, Then, Wire, drain};
use crate::h2::wire::PREFACE;
use crate::sim::fault::Fault;
use crate::sim::invariant::Check;
use crate::sim::link::{FAR, LinkId};
use crate::sim::net::{HostId, Net};
use crate::sim::policy::Failing;
use http1::Http1;
use http2::Http2;

/// Tokens of wake-ups.
const ANSWER: u32 = 0;
const REST: u32 = 1;
const READ: u32 = 2;
const DROP: u32 = 3;
const GO: u32 = 4;
/// The same, of no connection.
pub(in crate::sim) const NOBODY: u32 = u32::MAX;
pub(in crate::sim) const GO_DOWN: u32 = 5;
const COME_UP: u32 = 6;

/// See the [module](self).
pub(in crate::sim) struct App {
    id: HostId,
    index: u16,
    pub(in crate::sim) addr: SocketAddr,
    /// Bytes both ways, and it begins; else HTTP of either version.
    streams: bool,
    pub(in crate::sim) down: bool,
    conns: Vec<Option<Conn>>,
    open: usize,
    buffer: Vec<u8>,
}

/// A connection of an app.
struct Conn {
    wire: Wire,
    stuck: bool,
    speaker: Speaker,
}

enum Speaker {
    /// HTTP of some version, which its first bytes tell.
    Http(Vec<u8>),
    Http1(Box<Http1>),
    Http2(Box<Http2>),
    Stream(StreamEnd),
}

impl App {
    pub(in crate::sim) fn new(index: u16, addr: SocketAddr, streams: bool) -> Self {
        App {
            id: HostId::App(index),
            index,
            addr,
            streams,
            down: false,
            conns: Vec::new(),
            open: 0,
            buffer: Vec::new(),
        }
    }

    pub(in crate::sim) fn start(&mut self, net: &mut Net<'_>) {
        if !self.streams && net.hits_once(Fault::AppFails) {
            // Whatever the run is about.
            let failing = Failing::draw(net.choose);
            net.say(self.id, || format!("will fail: {failing:?}"));
            net.model.failing[usize::from(self.index)] = failing;
        }
        if net.hits_once(Fault::AppDown) {
            let wait = net.some(Duration::from_secs(2));
            net.wake(wait, self.id, NOBODY, GO_DOWN);
        }
    }

    /// Has it no connections?
    pub(in crate::sim) fn is_done(&self) -> bool {
        self.open == 0
    }

    /// Nothing goes wrong any more: it does what it still has to do.
    pub(in crate::sim) fn heal(&mut self, net: &mut Net<'_>) -> Check {
        self.down = false;
        for slot in 0..self.conns.len() {
            let Some(conn) = &mut self.conns[slot] else { continue };
            conn.stuck = false;
            conn.wire.hold = u64::MAX;
            conn.wire.pump(net);
            let link = conn.wire.link;
            match &mut conn.speaker {
                Speaker::Http1(http) => http.heal(net, &mut conn.wire, self.index, slot as u32),
                Speaker::Http2(http) => http.heal(net, &mut conn.wire),
                Speaker::Http(_) => {}
                Speaker::Stream(_) => self.go(net, slot),
            }
            self.readable(net, link, FAR)?;
        }
        Ok(())
    }

    fn go(&mut self, net: &mut Net<'_>, slot: usize) {
        if let Some(Conn { speaker: Speaker::Stream(end), wire, .. }) = &mut self.conns[slot]
            && let Some(wait) = end.act(net, wire)
        {
            net.wake(wait, self.id, slot as u32, GO);
        }
    }

    /// Forgets a connection that is over.
    fn sweep(&mut self, slot: usize) {
        if self.conns[slot].as_ref().is_some_and(|conn| conn.wire.over) {
            self.conns[slot] = None;
            self.open -= 1;
        }
    }

    /// Everything that it had is reset.
    fn go_down(&mut self, net: &mut Net<'_>) {
        self.down = true;
        net.say(self.id, || "goes down".to_owned());
        for slot in 0..self.conns.len() {
            if let Some(conn) = &mut self.conns[slot] {
                conn.wire.abort(net);
                if let Speaker::Stream(end) = &mut conn.speaker {
                    end.leave(net);
                }
                self.sweep(slot);
            }
        }
        let wait = net.some(Duration::from_secs(20));
        net.wake(wait, self.id, NOBODY, COME_UP);
    }

    fn take(
        &mut self,
        net: &mut Net<'_>,
        slot: usize,
        got: Got<'_>,
    ) -> Result<bool, Box<crate::sim::Violation>> {
        let index = self.index;
        let Some(conn) = &mut self.conns[slot] else { return Ok(false) };
        let wire = &mut conn.wire;
        if let (Speaker::Http(first), Got::Bytes(bytes, stamp)) = (&mut conn.speaker, &got) {
            first.extend_from_slice(bytes);
            let (first, stamp) = (first.clone(), *stamp);
            if first.len() < PREFACE.len() && PREFACE.starts_with(&first) {
                return Ok(true);
            }
            // The beginning of a handshake that broke off is passed on as what is no TLS.
            if net.mix.meshed && first.starts_with(&[22]) {
                return Ok(true);
            }
            conn.speaker = if first.starts_with(PREFACE) {
                Speaker::Http2(Box::new(Http2::new(net, index, slot as u32)))
            } else {
                Speaker::Http1(Box::default())
            };
            return self.take(net, slot, Got::Bytes(&first, stamp));
        }
        match (&mut conn.speaker, got) {
            (Speaker::Http(_), Got::Bytes(..)) => {}
            (Speaker::Http(_), Got::Reset) => wire.over = true,
            (Speaker::Http(_) | Speaker::Http2(_), Got::Fin) => wire.finish(net, Then::Close),
            (Speaker::Http2(http), Got::Bytes(bytes, stamp)) => {
                http.got(net, wire, bytes, stamp)?;
            }
            (Speaker::Http2(_), Got::Reset) => wire.over = true,
            (Speaker::Http1(http), Got::Bytes(bytes, stamp)) => {
                http.got(net, wire, index, slot as u32, bytes, stamp)?;
            }
            (Speaker::Http1(http), Got::Fin) => http.fin(net, wire)?,
            (Speaker::Http1(http), Got::Reset) => {
                wire.over = true;
                http.broke(net, index)?;
            }
            (Speaker::Stream(end), Got::Bytes(bytes, _)) => end.got(net, bytes)?,
            (Speaker::Stream(end), Got::Fin) => end.fin(net, wire)?,
            (Speaker::Stream(end), Got::Reset) => {
                wire.over = true;
                end.broke(net)?;
            }
        }
        Ok(self.conns[slot].as_ref().is_some_and(|conn| !conn.wire.over))
    }
}

impl Host for App {
    fn connected(&mut self, _: &mut Net<'_>, _: LinkId, _: Result<(), ConnectError>) -> Check {
        Ok(())
    }

    fn accepted(&mut self, net: &mut Net<'_>, link: LinkId) -> Check {
        let slot = self.conns.len();
        net.links[link as usize].ends[FAR].slot = slot as u32;
        net.say(self.id, || format!("accepts l{link}"));
        let wire = Wire::new(link, FAR);
        let speaker = if self.streams {
            Speaker::Stream(StreamEnd::new(net, 1 << self.index, b""))
        } else {
            Speaker::Http(Vec::new())
        };
        self.conns.push(Some(Conn { wire, stuck: false, speaker }));
        self.open += 1;
        self.go(net, slot);
        self.readable(net, link, FAR)
    }

    fn readable(&mut self, net: &mut Net<'_>, link: LinkId, side: usize) -> Check {
        let slot = net.links[link as usize].ends[FAR].slot as usize;
        let Some(Some(conn)) = self.conns.get_mut(slot) else { return Ok(()) };
        if conn.wire.link != link || conn.stuck {
            return Ok(());
        }
        if net.hits(Fault::AppStuck) {
            conn.stuck = true;
            let wait = net.some(Duration::from_secs(3));
            net.wake(wait, self.id, slot as u32, READ);
            return Ok(());
        }
        let mut buffer = std::mem::take(&mut self.buffer);
        let result = drain(net, link, side, &mut buffer, |net, got| self.take(net, slot, got));
        self.buffer = buffer;
        result?;
        self.sweep(slot);
        Ok(())
    }

    fn writable(&mut self, net: &mut Net<'_>, link: LinkId, _: usize) -> Check {
        let slot = net.links[link as usize].ends[FAR].slot as usize;
        if let Some(Some(conn)) = self.conns.get_mut(slot)
            && conn.wire.link == link
        {
            conn.wire.pump(net);
            self.sweep(slot);
        }
        Ok(())
    }

    fn woken(&mut self, net: &mut Net<'_>, slot: u32, token: u32) -> Check {
        if slot == NOBODY {
            if token == GO_DOWN {
                self.go_down(net);
            } else {
                self.down = false;
            }
            return Ok(());
        }
        let at = slot as usize;
        let Some(Some(conn)) = self.conns.get_mut(at) else { return Ok(()) };
        match (token, &mut conn.speaker) {
            (READ, _) => {
                conn.stuck = false;
                let link = conn.wire.link;
                return self.readable(net, link, FAR);
            }
            (REST, _) => {
                conn.wire.hold = u64::MAX;
                conn.wire.pump(net);
            }
            (ANSWER, Speaker::Http1(http)) => http.answer(net, &mut conn.wire, self.index, slot),
            (DROP, Speaker::Http1(http)) => http.drop_idle(net, &mut conn.wire),
            (GO, Speaker::Stream(_)) => self.go(net, at),
            (_, Speaker::Http2(http)) => http.woken(net, &mut conn.wire, token),
            _ => {}
        }
        self.sweep(at);
        Ok(())
    }
}
