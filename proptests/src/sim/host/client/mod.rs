//! Clients: what they connect to, how often, and what they do on each connection.

mod answer;
mod http1;
mod http2;

use std::net::SocketAddr;
use std::time::Duration;

use selvedge_core::error::ConnectError;

use super::Host;
use super::stream::{PRELUDES, StreamEnd};
use super::wire::{Got, Then, Wire, drain};
use crate::choose::pick;
use crate::sim::fault::Fault;
use crate::sim::invariant::Check;
use crate::sim::link::{LinkId, NEAR};
use crate::sim::net::{HostId, Net};
use http1::Http1;
use http2::Http2;

/// Tokens of wake-ups.
const CONNECT: u32 = 0;
const GO: u32 = 1;
pub(in crate::sim) const ABORT: u32 = 2;
const LEAVE: u32 = 3;
const READ: u32 = 4;
const FREE: u32 = 5;
const PACE: u32 = 6;

/// What a client does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::sim) enum Speaks {
    /// HTTP/1.
    Http1,
    /// HTTP/2, without negotiation.
    Http2,
    /// Anything that is not HTTP.
    Stream {
        /// Nothing before the server has spoken.
        waits: bool,
        /// What it says must be told from HTTP by its first bytes.
        sniffed: bool,
    },
}

/// Where a client connects, and what for.
#[derive(Clone, Copy, Debug)]
pub(in crate::sim) struct Place {
    pub(in crate::sim) to: SocketAddr,
    pub(in crate::sim) original_dst: Option<SocketAddr>,
    pub(in crate::sim) speaks: Speaks,
    /// The apps that it may reach whatever it says, as bits.
    pub(in crate::sim) apps: u64,
    /// The authorities that it asks for, if not for all.
    pub(in crate::sim) asks: Option<&'static [&'static str]>,
}

/// See the [module](self).
pub(in crate::sim) struct Client {
    id: HostId,
    index: u16,
    place: Place,
    /// Requests, or tunnels, that it still wants to make.
    left: u32,
    /// Counts connections.
    slot: u32,
    conn: Option<Conn>,
    /// A connect is to come.
    planned: bool,
    buffer: Vec<u8>,
}

/// A connection of a client.
struct Conn {
    wire: Wire,
    connected: bool,
    /// It does not read for now.
    stuck: bool,
    speaker: Speaker,
}

/// What is spoken on a connection.
enum Speaker {
    Http1(Box<Http1>),
    Http2(Box<Http2>),
    Stream(StreamEnd),
}

impl Client {
    pub(in crate::sim) fn new(index: u16, place: Place, requests: u32) -> Self {
        Client {
            id: HostId::Client(index),
            index,
            place,
            left: requests,
            slot: 0,
            conn: None,
            planned: false,
            buffer: Vec::new(),
        }
    }

    /// Begins, after a while.
    pub(in crate::sim) fn start(&mut self, net: &mut Net<'_>) {
        let wait = net.some(Duration::from_millis(20));
        self.plan(net, wait);
    }

    /// Has it nothing to do any more?
    pub(in crate::sim) fn is_done(&self) -> bool {
        self.conn.is_none() && (self.left == 0 || !self.planned)
    }

    /// Nothing goes wrong any more: it finishes what it has begun, and begins nothing.
    pub(in crate::sim) fn heal(&mut self, net: &mut Net<'_>) -> Check {
        self.left = 0;
        self.planned = false;
        let Some(conn) = &mut self.conn else { return Ok(()) };
        let link = conn.wire.link;
        conn.stuck = false;
        conn.wire.hold = u64::MAX;
        conn.wire.pace = u64::MAX;
        if conn.connected {
            conn.wire.pump(net);
            if let Speaker::Http2(http) = &mut conn.speaker {
                http.heal(net, &mut conn.wire);
            }
            self.act(net)?;
            return self.readable(net, link, NEAR);
        }
        Ok(())
    }

    fn plan(&mut self, net: &mut Net<'_>, wait: Duration) {
        self.planned = true;
        net.wake(wait, self.id, self.slot, CONNECT);
    }

    fn connect(&mut self, net: &mut Net<'_>) {
        self.planned = false;
        if self.left == 0 || self.conn.is_some() {
            return;
        }
        let Place { to, original_dst, .. } = self.place;
        let link = net.connect(self.id, self.slot, to, original_dst);
        net.say(self.id, || format!("connects to {to} (for {original_dst:?}) over l{link}"));
        let speaker = match self.place.speaks {
            Speaks::Http1 => Speaker::Http1(Box::default()),
            Speaks::Http2 => Speaker::Http2(Box::new(Http2::new(net, self.index, self.slot))),
            Speaks::Stream { sniffed, .. } => {
                // An empty one is not told from HTTP at once.
                let prelude = pick(net.choose, &PRELUDES[usize::from(sniffed)..]);
                self.left -= 1;
                Speaker::Stream(StreamEnd::new(net, self.place.apps, prelude))
            }
        };
        let wire = Wire::new(link, NEAR);
        self.conn = Some(Conn { wire, connected: false, stuck: false, speaker });
    }

    /// It goes on with what it does.
    fn act(&mut self, net: &mut Net<'_>) -> Check {
        let Some(conn) = self.conn.as_mut().filter(|conn| conn.connected) else { return Ok(()) };
        let slot = self.slot;
        match &mut conn.speaker {
            Speaker::Http1(http) => {
                http.act(net, &mut conn.wire, self.index, slot, &self.place, &mut self.left);
            }
            Speaker::Http2(http) => {
                http.act(net, &mut conn.wire, &self.place, &mut self.left);
            }
            Speaker::Stream(end) => {
                let waits = self.place.speaks == Speaks::Stream { waits: true, sniffed: false };
                if waits && !end.heard() && !net.healed {
                    return Ok(());
                }
                if let Some(wait) = end.act(net, &mut conn.wire) {
                    net.wake(wait, self.id, slot, GO);
                }
            }
        }
        self.sweep(net)
    }

    /// Notes that a connection is over, and plans another.
    fn sweep(&mut self, net: &mut Net<'_>) -> Check {
        let Some(conn) = &mut self.conn else { return Ok(()) };
        if !conn.wire.over {
            return Ok(());
        }
        match &mut conn.speaker {
            Speaker::Http1(http) => http.over(net, self.index)?,
            Speaker::Http2(http) => http.over(net)?,
            Speaker::Stream(_) => {}
        }
        self.conn = None;
        self.slot += 1;
        if self.left > 0 {
            // Where endpoints are judged, there is some time for that.
            let most = if net.mix.guarded { 400 } else { 50 };
            let wait = net.some(Duration::from_millis(most));
            self.plan(net, wait);
        }
        Ok(())
    }

    fn take(&mut self, net: &mut Net<'_>, got: Got<'_>) -> Check {
        let Some(conn) = &mut self.conn else { return Ok(()) };
        let wire = &mut conn.wire;
        match (&mut conn.speaker, got) {
            (Speaker::Http1(http), Got::Bytes(bytes, stamp)) => {
                http.got(net, wire, bytes, stamp)?;
                http.act(net, wire, self.index, self.slot, &self.place, &mut self.left);
            }
            (Speaker::Http1(http), Got::Fin) => {
                http.fin(net)?;
                wire.forget();
                wire.finish(net, Then::Close);
            }
            (Speaker::Http2(http), Got::Bytes(bytes, stamp)) => {
                http.got(net, wire, bytes, stamp)?;
                http.act(net, wire, &self.place, &mut self.left);
            }
            (Speaker::Http2(_), Got::Fin) => {
                wire.forget();
                wire.finish(net, Then::Close);
            }
            (Speaker::Http1(_) | Speaker::Http2(_), Got::Reset) => wire.over = true,
            (Speaker::Stream(end), Got::Bytes(bytes, _)) => {
                let first = !end.heard();
                end.got(net, bytes)?;
                if first && matches!(self.place.speaks, Speaks::Stream { waits: true, .. }) {
                    return self.act(net);
                }
            }
            (Speaker::Stream(end), Got::Fin) => end.fin(net, wire)?,
            (Speaker::Stream(end), Got::Reset) => {
                wire.over = true;
                end.broke(net)?;
            }
        }
        Ok(())
    }
}

impl Host for Client {
    fn connected(
        &mut self,
        net: &mut Net<'_>,
        link: LinkId,
        result: Result<(), ConnectError>,
    ) -> Check {
        let Some(conn) = self.conn.as_mut().filter(|conn| conn.wire.link == link) else {
            return Ok(());
        };
        if result.is_err() {
            conn.wire.over = true;
            if let Speaker::Stream(end) = &mut conn.speaker {
                end.broke(net)?;
            } else {
                self.left = self.left.saturating_sub(1);
            }
            return self.sweep(net);
        }
        conn.connected = true;
        if net.hits(Fault::ClientSilent) {
            let wait = Duration::from_secs(11) + net.some(Duration::from_secs(4));
            net.wake(wait, self.id, self.slot, GO);
            return Ok(());
        }
        if net.hits(Fault::ClientAborts) {
            let wait = net.some(Duration::from_secs(1));
            net.wake(wait, self.id, self.slot, ABORT);
        }
        self.act(net)
    }

    fn accepted(&mut self, _: &mut Net<'_>, _: LinkId) -> Check {
        Ok(())
    }

    fn readable(&mut self, net: &mut Net<'_>, link: LinkId, side: usize) -> Check {
        let Some(conn) = self.conn.as_mut().filter(|conn| conn.wire.link == link) else {
            return Ok(());
        };
        if !conn.connected || conn.stuck {
            return Ok(());
        }
        if net.hits(Fault::ClientStuck) {
            conn.stuck = true;
            let wait = net.some(Duration::from_secs(3));
            net.wake(wait, self.id, self.slot, READ);
            return Ok(());
        }
        let mut buffer = std::mem::take(&mut self.buffer);
        let result = drain(net, link, side, &mut buffer, |net, got| {
            self.take(net, got)?;
            Ok(self.conn.as_ref().is_some_and(|conn| !conn.wire.over))
        });
        self.buffer = buffer;
        result?;
        self.sweep(net)
    }

    fn writable(&mut self, net: &mut Net<'_>, link: LinkId, _: usize) -> Check {
        if let Some(conn) = self.conn.as_mut().filter(|conn| conn.wire.link == link) {
            conn.wire.pump(net);
        }
        self.sweep(net)
    }

    fn woken(&mut self, net: &mut Net<'_>, slot: u32, token: u32) -> Check {
        if slot != self.slot {
            return Ok(());
        }
        if token == CONNECT {
            self.connect(net);
            return Ok(());
        }
        let Some(conn) = self.conn.as_mut().filter(|conn| conn.connected) else { return Ok(()) };
        let link = conn.wire.link;
        match token {
            GO => return self.act(net),
            ABORT => {
                net.say(self.id, || format!("aborts l{link}"));
                match &mut conn.speaker {
                    Speaker::Http1(http) => http.give_up(net),
                    Speaker::Http2(http) => http.give_up(),
                    Speaker::Stream(end) => end.broke(net)?,
                }
                conn.wire.abort(net);
            }
            LEAVE => {
                net.say(self.id, || format!("leaves l{link}"));
                match &mut conn.speaker {
                    Speaker::Http1(http) => http.give_up(net),
                    Speaker::Http2(http) => http.give_up(),
                    Speaker::Stream(_) => {}
                }
                conn.wire.settle_for_less();
                conn.wire.finish(net, Then::Close);
            }
            READ => {
                conn.stuck = false;
                return self.readable(net, link, NEAR);
            }
            FREE => {
                conn.wire.hold = u64::MAX;
                conn.wire.pump(net);
            }
            PACE => http1::go_slowly(net, &mut conn.wire, self.id, slot),
            _ => {
                if let Speaker::Http2(http) = &mut conn.speaker {
                    http.woken(net, &mut conn.wire, token)?;
                }
                return self.act(net);
            }
        }
        self.sweep(net)
    }
}
