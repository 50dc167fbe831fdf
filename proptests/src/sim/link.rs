//! Links: two byte pipes between two hosts.

use std::collections::VecDeque;
use std::net::SocketAddr;

use bytes::BufMut;
use selvedge_core::engine::ConnId;
use selvedge_core::error::IoError;
use selvedge_core::time::Time;

use super::mesh::Records;
use super::net::HostId;
use super::tap::Tap;
use crate::choose::Choose;

/// Names a link; they are not used again within a run.
pub(super) type LinkId = u32;

/// The end that connected.
pub(super) const NEAR: usize = 0;
/// The end that was connected to.
pub(super) const FAR: usize = 1;

/// A connection between two hosts.
#[derive(Debug)]
pub(super) struct Link {
    /// [`NEAR`] and [`FAR`].
    pub(super) ends: [End; 2],
    /// What each end has sent.
    pub(super) pipes: [Pipe; 2],
    /// Between engines with identities: the records of what each has sent.
    pub(super) records: Option<Box<[Records; 2]>>,
    /// What the near end sends is read along, where somebody wants to know.
    pub(super) tap: Tap,
    /// Where the near end wanted to go.
    pub(super) to: SocketAddr,
    /// Before the kernel redirected it.
    pub(super) original_dst: Option<SocketAddr>,
    pub(super) state: LinkState,
    /// When the connect began.
    pub(super) since: Time,
    /// An engine checks with it how an endpoint does.
    pub(super) is_check: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum LinkState {
    /// The near end waits for an answer.
    Connecting,
    /// Both ends are there, or were.
    Open,
    /// It never came to be.
    Failed,
}

/// A host's end of a link.
#[derive(Clone, Copy, Debug)]
pub(super) struct End {
    pub(super) host: HostId,
    /// The host's own number for it.
    pub(super) slot: u32,
    /// An engine's name for it.
    pub(super) conn: Option<ConnId>,
    /// The host has closed it: it neither reads nor writes any more.
    pub(super) closed: bool,
    /// The other end's reset arrived.
    pub(super) reset: Option<IoError>,
    /// The host was told of it.
    pub(super) told: bool,
}

impl End {
    pub(super) fn new(host: HostId, slot: u32) -> Self {
        End { host, slot, conn: None, closed: false, reset: None, told: false }
    }
}

/// How the end of a direction travels.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Fin {
    /// There is none.
    No,
    /// It was sent.
    Sent,
    /// It arrived, behind all bytes.
    Arrived,
    /// It was read.
    Read,
}

/// How reads or writes are cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Cut {
    /// They are not.
    Whole,
    /// To one byte, so many times.
    Bytes(u32),
    /// To a few bytes, so many times.
    Few(u32),
    /// Anywhere, so many times.
    Anywhere(u32),
}

impl Cut {
    /// How many of `n` bytes are moved at once.
    fn take(&mut self, choose: &mut dyn Choose, n: usize) -> usize {
        match self {
            Cut::Whole => return n,
            Cut::Bytes(left) | Cut::Few(left) | Cut::Anywhere(left) if *left == 0 => {
                *self = Cut::Whole;
            }
            Cut::Bytes(left) => {
                *left -= 1;
                return 1;
            }
            Cut::Few(left) => {
                *left -= 1;
                return 1 + choose.below(n.min(16));
            }
            Cut::Anywhere(left) => {
                *left -= 1;
                return 1 + choose.below(n);
            }
        }
        n
    }

    pub(super) fn is_whole(self) -> bool {
        self == Cut::Whole
    }
}

/// What happens to a link at some byte.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Trap {
    /// It breaks: both ends see a reset.
    Break,
    /// What follows does not arrive for so many nanoseconds.
    Hole(u64),
    /// What follows is written a little later.
    Cut,
    /// A host is woken.
    Wake { host: HostId, slot: u32, token: u32 },
}

/// One direction of a link.
#[derive(Debug)]
pub(super) struct Pipe {
    /// What was written and not read: first what has arrived, then what is held back, then what is
    /// under way.
    data: VecDeque<u8>,
    /// How much of it can be read.
    pub(super) ready: usize,
    /// How much of it has come to a black hole.
    pub(super) held: usize,
    /// Nothing gets through for now.
    pub(super) hole: bool,
    /// A FIN or a reset waits behind what is held.
    pub(super) held_end: bool,
    /// How many bytes it takes.
    pub(super) cap: usize,
    /// How long a byte takes, in nanoseconds.
    pub(super) delay: u64,
    /// How long after the byte before it, in nanoseconds.
    pub(super) pace: u64,
    /// When the last piece arrives.
    pub(super) last: Time,
    pub(super) written: u64,
    pub(super) read: u64,
    pub(super) fin: Fin,
    /// The writer waits for room.
    pub(super) blocked: bool,
    /// When it last did.
    pub(super) last_blocked: Time,
    pub(super) write_cut: Cut,
    pub(super) read_cut: Cut,
    /// What happens when so many bytes were written.
    pub(super) trap: Option<(u64, Trap)>,
    /// Nobody will read what was or will be written.
    pub(super) gone: bool,
    /// When what was written: the offset behind it, and when.
    stamps: VecDeque<(u64, Stamp)>,
    /// Requests whose heads end at these offsets.
    pub(super) marks: VecDeque<(u64, u32)>,
}

/// When something was written: the time, and the order of writes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Stamp {
    pub(super) tick: u64,
    pub(super) at: Time,
}

impl Pipe {
    pub(super) fn new(delay: u64) -> Self {
        Pipe {
            data: VecDeque::new(),
            ready: 0,
            held: 0,
            hole: false,
            held_end: false,
            cap: 256 * 1024,
            delay,
            pace: 0,
            last: Time::ZERO,
            written: 0,
            read: 0,
            fin: Fin::No,
            blocked: false,
            last_blocked: Time::ZERO,
            write_cut: Cut::Whole,
            read_cut: Cut::Whole,
            trap: None,
            gone: false,
            stamps: VecDeque::new(),
            marks: VecDeque::new(),
        }
    }

    /// How much more it takes.
    pub(super) fn room(&self) -> usize {
        self.cap.saturating_sub(self.data.len())
    }

    /// Takes what fits of `slices`, perhaps less; how much.
    pub(super) fn write(
        &mut self,
        choose: &mut dyn Choose,
        slices: &[&[u8]],
        stamp: Stamp,
    ) -> usize {
        let wanted: usize = slices.iter().map(|slice| slice.len()).sum();
        if self.gone {
            self.written += wanted as u64;
            self.read = self.written;
            return wanted;
        }
        let mut n = wanted.min(self.room());
        if let Some((at, _)) = self.trap {
            n = n.min(at.saturating_sub(self.written) as usize);
        }
        if n > 0 && !self.write_cut.is_whole() {
            n = self.write_cut.take(choose, n);
        }
        let mut left = n;
        for slice in slices {
            let part = slice.len().min(left);
            self.data.extend(&slice[..part]);
            left -= part;
        }
        if n > 0 {
            self.written += n as u64;
            match self.stamps.back_mut() {
                // One turn's writes are one.
                Some((end, last)) if *last == stamp => *end = self.written,
                _ => self.stamps.push_back((self.written, stamp)),
            }
        }
        n
    }

    /// When what is next to be read was written, and how much was then.
    pub(super) fn stamp(&self) -> (Stamp, usize) {
        match self.stamps.front() {
            Some(&(end, stamp)) => (stamp, (end - self.read) as usize),
            None => (Stamp::default(), 0),
        }
    }

    /// Reads at most `most` bytes that have arrived into `out`; how many.
    pub(super) fn read(
        &mut self,
        choose: &mut dyn Choose,
        most: usize,
        out: &mut impl BufMut,
    ) -> usize {
        let mut n = self.ready.min(most);
        if n > 0 && !self.read_cut.is_whole() {
            n = self.read_cut.take(choose, n);
        }
        let (front, back) = self.data.as_slices();
        let first = front.len().min(n);
        out.put_slice(&front[..first]);
        out.put_slice(&back[..n - first]);
        self.discard(n);
        n
    }

    /// A request whose head has been read to its end, once each.
    pub(super) fn pop_mark(&mut self) -> Option<u32> {
        let &(at, id) = self.marks.front()?;
        (at <= self.read).then(|| self.marks.pop_front())?;
        Some(id)
    }

    /// Takes off `n` bytes that have arrived.
    fn discard(&mut self, n: usize) {
        self.data.drain(..n);
        self.ready -= n;
        self.read += n as u64;
        while self.stamps.front().is_some_and(|&(end, _)| end <= self.read) {
            self.stamps.pop_front();
        }
    }

    /// Bytes arrive, or are held back.
    pub(super) fn arrive(&mut self, n: usize) {
        if self.gone {
            return;
        }
        if self.hole {
            self.held += n;
        } else {
            self.ready += n;
        }
    }

    /// What was held back arrives.
    pub(super) fn open(&mut self) {
        self.hole = false;
        self.ready += std::mem::take(&mut self.held);
    }

    /// Everything in it is lost.
    pub(super) fn purge(&mut self) {
        self.data.clear();
        self.stamps.clear();
        self.read = self.written;
        (self.ready, self.held) = (0, 0);
        self.gone = true;
        self.trap = None;
    }
}
