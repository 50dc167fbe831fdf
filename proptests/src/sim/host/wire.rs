//! A client's or an app's end of a link: what it wants to send, and how it ends.

use std::collections::VecDeque;

use crate::sim::invariant::Check;
use crate::sim::link::{Fin, LinkId, Stamp};
use crate::sim::net::Net;

/// How an end ends when everything is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Then {
    /// It does not.
    Nothing,
    /// It sends no more, and reads on.
    Fin,
    /// It closes.
    Close,
    /// It resets.
    Reset,
}

/// See the [module](self).
#[derive(Debug)]
pub(super) struct Wire {
    pub(super) link: LinkId,
    pub(super) side: usize,
    out: VecDeque<u8>,
    /// How much it ever wanted to send.
    pub(super) queued: u64,
    /// How much it has sent.
    pub(super) sent: u64,
    /// It sends no more than this for now: it waits for a 100, or stalls.
    pub(super) hold: u64,
    /// It sends no more than this for now: it is slow.
    pub(super) pace: u64,
    then: Then,
    /// It has ended, by itself or not.
    pub(super) over: bool,
}

/// What came.
pub(super) enum Got<'a> {
    /// Bytes, written at that time.
    Bytes(&'a [u8], Stamp),
    /// No more will.
    Fin,
    /// The connection broke.
    Reset,
}

impl Wire {
    pub(super) fn new(link: LinkId, side: usize) -> Self {
        Wire {
            link,
            side,
            out: VecDeque::new(),
            queued: 0,
            sent: 0,
            hold: u64::MAX,
            pace: u64::MAX,
            then: Then::Nothing,
            over: false,
        }
    }

    /// Sends, as soon as it can.
    pub(super) fn send(&mut self, net: &mut Net<'_>, bytes: &[u8]) {
        self.queued += bytes.len() as u64;
        self.out.extend(bytes);
        self.pump(net);
    }

    /// Ends when everything is sent.
    pub(super) fn finish(&mut self, net: &mut Net<'_>, then: Then) {
        self.then = self.then.max(then);
        self.pump(net);
    }

    /// Will it send no more?
    pub(super) fn is_ending(&self) -> bool {
        self.then != Then::Nothing || self.over
    }

    /// Forgets what it has not sent.
    pub(super) fn forget(&mut self) {
        self.queued -= self.out.len() as u64;
        self.out.clear();
    }

    /// Wants to send no more than it may for now.
    pub(super) fn settle_for_less(&mut self) {
        let keep = self.hold.min(self.pace).saturating_sub(self.sent);
        let keep = usize::try_from(keep).unwrap_or(usize::MAX).min(self.out.len());
        self.queued -= (self.out.len() - keep) as u64;
        self.out.truncate(keep);
    }

    /// Sends what may be sent.
    pub(super) fn pump(&mut self, net: &mut Net<'_>) {
        if self.over {
            return;
        }
        let free = self.hold.min(self.pace).saturating_sub(self.sent);
        while !self.out.is_empty() {
            let most = usize::try_from(free).unwrap_or(usize::MAX).min(self.out.len());
            let (front, back) = self.out.as_slices();
            let first = front.len().min(most);
            let io = [&front[..first], &back[..most - first]];
            if most == 0 {
                return;
            }
            match net.write(self.link, self.side, &io) {
                Ok(n) => {
                    self.out.drain(..n);
                    self.sent += n as u64;
                    if n < most {
                        return;
                    }
                    if self.sent >= self.hold.min(self.pace) {
                        return;
                    }
                }
                // Reading tells the same.
                Err(_) => return,
            }
        }
        match self.then {
            Then::Nothing => {}
            Then::Fin => net.fin(self.link, self.side),
            Then::Close => {
                self.over = true;
                net.close(self.link, self.side);
            }
            Then::Reset => {
                self.over = true;
                net.reset(self.link, self.side, false);
            }
        }
    }

    /// Resets now: what it wanted to send is lost.
    pub(super) fn abort(&mut self, net: &mut Net<'_>) {
        if !std::mem::replace(&mut self.over, true) {
            net.reset(self.link, self.side, false);
        }
    }
}

/// Reads what has come to an end of a link, piece by piece, until `take` has enough.
pub(super) fn drain(
    net: &mut Net<'_>,
    link: LinkId,
    side: usize,
    buffer: &mut Vec<u8>,
    mut take: impl FnMut(&mut Net<'_>, Got<'_>) -> Result<bool, Box<crate::sim::Violation>>,
) -> Check {
    loop {
        if net.links[link as usize].ends[side].closed {
            return Ok(());
        }
        let (stamp, len) = net.links[link as usize].pipes[1 - side].stamp();
        buffer.clear();
        let n = net.read(link, side, len, buffer);
        let more = if n > 0 {
            net.say(net.links[link as usize].ends[side].host, || {
                format!("l{link} gets {n}: {}", crate::traffic::wire::show(&buffer[..n.min(60)]))
            });
            take(net, Got::Bytes(buffer, stamp))?
        } else {
            let pipe = &mut net.links[link as usize].pipes[1 - side];
            if pipe.fin == Fin::Arrived && pipe.ready == 0 {
                pipe.fin = Fin::Read;
                net.say(net.links[link as usize].ends[side].host, || {
                    format!("l{link} gets the end")
                });
                take(net, Got::Fin)?
            } else {
                let end = &mut net.links[link as usize].ends[side];
                if end.reset.is_some() && !std::mem::replace(&mut end.told, true) {
                    let host = end.host;
                    net.say(host, || format!("l{link} is reset"));
                    return take(net, Got::Reset).map(|_| ());
                }
                return Ok(());
            }
        };
        if !more {
            return Ok(());
        }
    }
}
