//! A mirror: it gets copies of what clients ask, and does with them whatever it likes. Nobody else
//! may notice, so nothing that it does is a fault of the run.

use std::net::SocketAddr;
use std::time::Duration;

use selvedge_core::error::ConnectError;

use super::Host;
use super::wire::{Got, Then, Wire, drain};
use crate::sim::invariant::Check;
use crate::sim::link::{FAR, LinkId};
use crate::sim::net::{HostId, Net};

/// Tokens of wake-ups.
const RESET: u32 = 0;
const CLOSE: u32 = 1;

/// What no client must ever get.
const ANSWER: &[u8] = b"HTTP/1.1 299 Mirror\r\nContent-Length: 6\r\n\r\nmirror";

/// See the [module](self).
#[derive(Debug)]
pub(in crate::sim) struct Mirror {
    pub(in crate::sim) addr: SocketAddr,
    conns: Vec<Option<Conn>>,
    buffer: Vec<u8>,
}

/// How it treats one connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mood {
    /// It reads, and says nothing.
    Silent,
    /// It does not read.
    Deaf,
    /// It answers, as if it had been asked in HTTP/1, whatever it gets first.
    Early,
    /// It says what is no HTTP.
    Raving,
}

#[derive(Debug)]
struct Conn {
    wire: Wire,
    mood: Mood,
}

impl Mirror {
    pub(in crate::sim) fn new(addr: SocketAddr) -> Self {
        Mirror { addr, conns: Vec::new(), buffer: Vec::new() }
    }

    /// Has it no connections?
    pub(in crate::sim) fn is_done(&self) -> bool {
        self.conns.iter().all(Option::is_none)
    }

    /// It reads again.
    pub(in crate::sim) fn heal(&mut self, net: &mut Net<'_>) -> Check {
        for slot in 0..self.conns.len() {
            let Some(conn) = &mut self.conns[slot] else { continue };
            conn.mood = Mood::Silent;
            let link = conn.wire.link;
            self.readable(net, link, FAR)?;
        }
        Ok(())
    }

    fn sweep(&mut self, slot: usize) {
        if self.conns[slot].as_ref().is_some_and(|conn| conn.wire.over) {
            self.conns[slot] = None;
        }
    }
}

impl Host for Mirror {
    fn connected(&mut self, _: &mut Net<'_>, _: LinkId, _: Result<(), ConnectError>) -> Check {
        Ok(())
    }

    fn accepted(&mut self, net: &mut Net<'_>, link: LinkId) -> Check {
        let slot = self.conns.len() as u32;
        net.links[link as usize].ends[FAR].slot = slot;
        let mood = match net.choose.below(6) {
            0 | 1 => Mood::Deaf,
            2 => Mood::Early,
            3 => Mood::Raving,
            _ => Mood::Silent,
        };
        net.say(HostId::Mirror, || format!("accepts l{link}, {mood:?}"));
        let end = net.choose.below(6) as u32;
        if end <= CLOSE {
            let wait = net.some(Duration::from_secs(1));
            net.wake(wait, HostId::Mirror, slot, end);
        }
        let mut wire = Wire::new(link, FAR);
        if mood == Mood::Raving {
            wire.send(net, b"no HTTP at all\r\n\r\n");
        }
        self.conns.push(Some(Conn { wire, mood }));
        self.readable(net, link, FAR)
    }

    fn readable(&mut self, net: &mut Net<'_>, link: LinkId, side: usize) -> Check {
        let slot = net.links[link as usize].ends[FAR].slot as usize;
        let Some(Some(conn)) = self.conns.get_mut(slot) else { return Ok(()) };
        if conn.wire.link != link || conn.mood == Mood::Deaf && !net.healed {
            return Ok(());
        }
        let mut buffer = std::mem::take(&mut self.buffer);
        let result = drain(net, link, side, &mut buffer, |net, got| {
            match got {
                Got::Bytes(..) if conn.mood == Mood::Early => {
                    conn.mood = Mood::Silent;
                    conn.wire.send(net, ANSWER);
                }
                Got::Bytes(..) => {}
                Got::Fin => conn.wire.finish(net, Then::Close),
                Got::Reset => conn.wire.over = true,
            }
            Ok(!conn.wire.over)
        });
        self.buffer = buffer;
        self.sweep(slot);
        result
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
        let slot = slot as usize;
        let Some(Some(conn)) = self.conns.get_mut(slot) else { return Ok(()) };
        if token == RESET {
            conn.wire.abort(net);
        } else {
            conn.wire.finish(net, Then::Close);
        }
        self.sweep(slot);
        Ok(())
    }
}
