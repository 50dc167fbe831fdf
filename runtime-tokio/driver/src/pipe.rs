//! Pipes for what goes from one socket to another unseen.

use std::io;
use std::os::fd::BorrowedFd;

use bytes::BytesMut;
use selvedge_core::engine::ConnId;
use selvedge_core::time::{Duration, Time};

/// How many may be full at once. Each costs two descriptors: beyond this the bytes are read and
/// written.
const MOST_LENT: usize = 16;
/// Whoever leaves bytes in one for longer reads slowly, and gives it back when all are lent.
const LENT_FOR: Duration = Duration::from_millis(100);
/// After a refusal, descriptors may be there again, or memory: the kernel is asked again after so long.
/// Where it never can, that costs a few system calls.
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// The pipes of a worker. One is lent to a connection while bytes for it are in it and no longer, so
/// that most of the time there is one for all that flow, and none for what is idle.
#[derive(Debug, Default)]
pub(crate) struct Pipes {
    empty: Vec<Pipe>,
    /// In the order in which they were lent.
    lent: Vec<Lent>,
    /// Until then the kernel gives no more, or has no `splice`: it is not asked at each read.
    refused_until: Time,
}

/// A pipe that has bytes in it.
#[derive(Debug)]
struct Lent {
    /// To whom they go.
    to: ConnId,
    pipe: Pipe,
    since: Time,
}

impl Pipes {
    /// An empty one, if there may be one more.
    pub(crate) fn take(&mut self, now: Time) -> Option<Pipe> {
        if now < self.refused_until || self.lent.len() >= MOST_LENT {
            return None;
        }
        self.empty.pop().or_else(|| {
            let made = Pipe::new();
            if made.is_err() {
                self.refuse(now);
            }
            made.ok()
        })
    }

    /// An empty one that was not used.
    pub(crate) fn put(&mut self, pipe: Pipe) {
        debug_assert_eq!(pipe.held, 0, "what is in it would go to somebody else");
        self.empty.push(pipe);
    }

    /// What is in this one goes to that connection.
    pub(crate) fn lend(&mut self, to: ConnId, pipe: Pipe, now: Time) {
        self.lent.push(Lent { to, pipe, since: now });
    }

    /// When all are lent: takes one back from whoever had it long enough, with what is in it. It
    /// stays empty for the next.
    pub(crate) fn recall(&mut self, now: Time) -> Option<(ConnId, io::Result<BytesMut>)> {
        let oldest = self.lent.first().filter(|lent| lent.since + LENT_FOR <= now)?;
        if self.lent.len() < MOST_LENT || oldest.pipe.held == 0 {
            return None;
        }
        let Lent { to, mut pipe, .. } = self.lent.remove(0);
        let data = pipe.read();
        if data.is_ok() {
            self.empty.push(pipe);
        }
        Some((to, data))
    }

    /// The one whose bytes go to that connection.
    pub(crate) fn of(&mut self, to: ConnId) -> Option<&mut Pipe> {
        self.lent.iter_mut().find(|lent| lent.to == to).map(|lent| &mut lent.pipe)
    }

    /// Bytes in all of them.
    #[cfg(test)]
    pub(crate) fn held(&self) -> usize {
        self.lent.iter().map(|lent| lent.pipe.held).sum()
    }

    /// Lends all that are left, as if to slow readers.
    #[cfg(test)]
    pub(crate) fn lend_all(&mut self, to: ConnId, now: Time) {
        while let Some(mut pipe) = self.take(now) {
            pipe.held = 1;
            self.lend(to, pipe, now);
        }
    }

    /// Takes it back if it is empty. What is in it otherwise waits, or is lost when the connection is
    /// `over`.
    pub(crate) fn take_back(&mut self, to: ConnId, over: bool) {
        let at = self.lent.iter().position(|lent| lent.to == to);
        if let Some(at) = at.filter(|&at| over || self.lent[at].pipe.held == 0) {
            let Lent { pipe, .. } = self.lent.remove(at);
            if pipe.held == 0 {
                self.empty.push(pipe);
            }
        }
        if over && self.lent.is_empty() {
            // There may be no timer that closes them when this was the last one.
            self.empty.truncate(1);
        }
    }

    /// There will be none for a while.
    pub(crate) fn refuse(&mut self, now: Time) {
        self.empty.clear();
        self.refused_until = now + RETRY_AFTER;
    }

    /// Nothing flows: those that are empty are closed.
    pub(crate) fn vacate(&mut self) {
        self.empty = Vec::new();
    }
}

/// A pipe that is filled when it is empty, and then emptied. So one that would block does so because
/// of the socket.
#[derive(Debug)]
pub(crate) struct Pipe {
    #[cfg(any(target_os = "linux", target_os = "android"))]
    ends: linux::Ends,
    held: usize,
}

impl Pipe {
    /// How many bytes are in it.
    pub(crate) fn held(&self) -> usize {
        self.held
    }
}

/// Whether `splice` itself failed, and not the connection: the bytes are still there to be read, and
/// so will be those of others.
pub(crate) fn is_refusal(error: &io::Error) -> bool {
    let errors = [libc::EINVAL, libc::ENOSYS, libc::EPERM, libc::EACCES, libc::ENOMEM];
    errors.iter().any(|&number| error.raw_os_error() == Some(number))
}

#[cfg(any(target_os = "linux", target_os = "android"))]
mod linux {
    use std::mem::MaybeUninit;
    use std::os::fd::OwnedFd;

    use rustix::io::Errno;
    use rustix::pipe::{PipeFlags, SpliceFlags, fcntl_setpipe_size, pipe_with, splice};

    use socket2::SockRef;

    use super::{BorrowedFd, BytesMut, Pipe, io};

    /// What it is made to hold at most. A packet, however small, takes the place of a page, so that
    /// this is more than is read at once. It is also the most that the kernel lets everybody have
    /// (`pipe-max-size` in pipe(7)).
    const SIZE: usize = 1024 * 1024;

    /// How many bytes a read would bring, if it were for one. 0: the peer's FIN.
    fn peek(socket: BorrowedFd<'_>) -> io::Result<usize> {
        SockRef::from(&socket).peek(&mut [MaybeUninit::uninit()])
    }

    #[derive(Debug)]
    pub(super) struct Ends {
        read: OwnedFd,
        write: OwnedFd,
    }

    impl Pipe {
        pub(super) fn new() -> io::Result<Self> {
            let (read, write) = pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK)?;
            // A small one costs more calls than it saves copies.
            fcntl_setpipe_size(&write, SIZE)?;
            Ok(Pipe { ends: Ends { read, write }, held: 0 })
        }

        /// Moves at most so much from a socket into it. 0: the peer's FIN. `Unsupported`: what comes
        /// next has to be read.
        pub(crate) fn fill(&mut self, from: BorrowedFd<'_>, most: usize) -> io::Result<usize> {
            debug_assert_eq!(self.held, 0, "a pipe that would block may be full");
            let flags = SpliceFlags::NONBLOCK | SpliceFlags::MOVE;
            let splice = || splice(from, None, &self.ends.write, None, most, flags);
            let nothing = |result| matches!(result, Ok(0) | Err(Errno::AGAIN));
            let mut result = splice();
            if nothing(result) {
                // Where `read` passes over urgent data, `splice` waits for ever, or says that nothing
                // follows. And it tells of a reset only if nobody else was told: this may be.
                if peek(from)? == 0 {
                    return Ok(0);
                }
                // Something has come just now, or has to be read.
                result = splice();
                if nothing(result) {
                    return Err(io::ErrorKind::Unsupported.into());
                }
            }
            self.held = result?;
            Ok(self.held)
        }

        /// Moves what is in it into a socket, or a part of it.
        pub(crate) fn drain(&mut self, to: BorrowedFd<'_>) -> io::Result<usize> {
            let flags = SpliceFlags::NONBLOCK | SpliceFlags::MOVE;
            let n = splice(&self.ends.read, None, to, None, self.held, flags)?;
            self.held -= n;
            Ok(n)
        }

        /// Takes out all that is in it.
        pub(super) fn read(&mut self) -> io::Result<BytesMut> {
            let mut data = BytesMut::zeroed(self.held);
            let mut at = 0;
            while at < data.len() {
                match rustix::io::read(&self.ends.read, &mut data[at..])? {
                    0 => return Err(io::ErrorKind::UnexpectedEof.into()),
                    n => at += n,
                }
            }
            self.held = 0;
            Ok(data)
        }
    }
}

/// `splice` exists on Linux only.
#[cfg(not(any(target_os = "linux", target_os = "android")))]
impl Pipe {
    fn new() -> io::Result<Self> {
        Err(io::ErrorKind::Unsupported.into())
    }

    pub(crate) fn fill(&mut self, _from: BorrowedFd<'_>, _most: usize) -> io::Result<usize> {
        Err(io::ErrorKind::Unsupported.into())
    }

    pub(crate) fn drain(&mut self, _to: BorrowedFd<'_>) -> io::Result<usize> {
        Err(io::ErrorKind::Unsupported.into())
    }

    fn read(&mut self) -> io::Result<BytesMut> {
        Err(io::ErrorKind::Unsupported.into())
    }
}

#[cfg(all(test, any(target_os = "linux", target_os = "android")))]
mod tests;
