//! A TCP connection, between its descriptor and the engine.

use std::io::{self, IoSlice, Read as _};
use std::mem::MaybeUninit;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use selvedge_core::engine::{ConnId, Engine, Input};
use selvedge_core::error::IoError;
use selvedge_core::limits::Limits;
use selvedge_core::time::{Duration, Time};
use socket2::SockRef;

use crate::block::Blocks;
use crate::inbox::{Inbox, Source};
use crate::pipe::{self, Pipes};
use crate::{Block, Read, Stream, os};

/// How many slices go into one `writev`. Most writes have one or two; an array of 64 costs more to
/// fill than a second system call now and then.
const MAX_SLICES: usize = 16;

/// How long a connection counts as shared after more than one stream was seen on it: who asks for
/// little again and again is not there at every write.
const LATELY: Duration = Duration::from_millis(100);

/// A socket and what is known about it.
pub(crate) struct Socket<S> {
    pub(crate) conn: ConnId,
    pub(crate) source: Arc<Source>,
    pub(crate) stream: S,
    /// Made from `source`; kept because making one costs two atomic operations.
    waker: Waker,
    connecting: bool,
    /// The kernel takes no more for now; the waker tells when it does.
    write_blocked: bool,
    /// The peer's FIN was read.
    read_closed: bool,
    /// A write failed. What arrived before that is read first: a server that refuses an upload
    /// answers and closes, and the answer must not get lost behind the error.
    write_failed: Option<IoError>,
    /// That write was told what became of the connection, and nobody is told twice: a read that finds
    /// the end is not told of a FIN.
    told_end: bool,
    /// There is more than was read last, behind urgent data: of that no reactor tells.
    behind_urgent: bool,
    /// It is among those at which is looked for that (see [`Looks`](crate::urgent::Looks)).
    is_looked_at: bool,
    /// It was never visited, or its connection is not made yet.
    pub(crate) is_new: bool,
    /// Much was read when it was last visited.
    pub(crate) bulk: bool,
    /// What the kernel was told to hold of it unsent at most; 0: nothing.
    most_unsent: u32,
    /// Until then several streams are taken to share it.
    shared_until: Time,
}

/// What a visit did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Visit {
    /// Nothing: the waker tells when to come again.
    Nothing,
    /// The engine was told something, and given so many bytes; there may be more.
    Fed { bytes: usize, more: bool },
    /// The engine was told that the connect failed: there is no connection.
    Gone,
}

impl<S: Stream> Socket<S> {
    /// A connection, or one that is `connecting`. Its first visit registers the waker.
    pub(crate) fn new(conn: ConnId, stream: S, inbox: &Arc<Inbox>, connecting: bool) -> Self {
        let source = Source::new(inbox, conn.index() as u32);
        let waker = Waker::from(Arc::clone(&source));
        Socket {
            conn,
            source,
            stream,
            waker,
            connecting,
            write_blocked: false,
            read_closed: false,
            write_failed: None,
            told_end: false,
            behind_urgent: false,
            is_looked_at: false,
            is_new: true,
            bulk: false,
            most_unsent: 0,
            shared_until: Time::ZERO,
        }
    }

    /// Looks what happened: finishes connecting, or writes what was blocked and reads at most
    /// one block, and `most` bytes. A socket whose reading the engine has paused is not read.
    pub(crate) fn visit(
        &mut self,
        engine: &mut Engine,
        blocks: &mut Blocks,
        most: usize,
        now: Time,
    ) -> Visit {
        self.source.begin_visit();
        if self.connecting {
            return self.finish_connect(engine, now);
        }
        self.is_new = false;
        let mut wrote = false;
        if self.write_blocked {
            self.write_blocked = false;
            wrote = self.flush(engine, &mut blocks.pipes, now);
        }
        match self.read(engine, blocks, most, now) {
            Visit::Nothing if wrote => Visit::Fed { bytes: 0, more: false },
            read => read,
        }
    }

    fn finish_connect(&mut self, engine: &mut Engine, now: Time) -> Visit {
        let conn = self.conn;
        let cx = &mut Context::from_waker(&self.waker);
        let Poll::Ready(result) = self.stream.poll_connected(cx) else {
            return Visit::Nothing;
        };
        let result = result.map_err(|error| os::connect_error(&error));
        self.connecting = false;
        let visit = match result {
            Ok(_) => Visit::Fed { bytes: 0, more: true },
            Err(_) => Visit::Gone,
        };
        engine.handle_input(now, Input::Connected { conn, result });
        visit
    }

    fn read(&mut self, engine: &mut Engine, blocks: &mut Blocks, most: usize, now: Time) -> Visit {
        let conn = self.conn;
        let bulk = self.bulk && engine.reads_bulk(conn);
        if bulk
            && !self.read_closed
            && self.write_failed.is_none()
            && !self.behind_urgent
            && let Some(visit) = self.splice(engine, &mut blocks.pipes, most, now)
        {
            return visit;
        }
        let block = if bulk { &mut blocks.bulk } else { &mut blocks.usual };
        block.most = most;
        let result = if self.read_closed || engine.read_budget(conn) == 0 {
            Poll::Pending
        } else if self.write_failed.is_some() {
            self.read_directly(block)
        } else {
            self.read_on(block)
        };
        let (input, bytes, more) = match (result, self.write_failed) {
            (Poll::Ready(Ok(Read { length: 0, .. })), Some(kind)) if self.told_end => {
                (Input::Failed { conn, kind }, 0, false)
            }
            (Poll::Ready(Ok(Read { length: 0, more })), _) => {
                self.read_closed = true;
                (Input::ReadClosed { conn }, 0, more)
            }
            (Poll::Ready(Ok(Read { length, more })), _) => {
                let data = block.take(length);
                (Input::Received { conn, data }, length, more)
            }
            (Poll::Ready(Err(error)), _) => {
                let kind = os::io_error(&error);
                (Input::Failed { conn, kind }, 0, false)
            }
            (Poll::Pending, Some(kind)) => (Input::Failed { conn, kind }, 0, false),
            (Poll::Pending, None) => return Visit::Nothing,
        };
        engine.handle_input(now, input);
        Visit::Fed { bytes, more }
    }

    /// Moves what there is into a pipe to the other end of its tunnel. `None`: it has to be read.
    fn splice(
        &mut self,
        engine: &mut Engine,
        pipes: &mut Pipes,
        most: usize,
        now: Time,
    ) -> Option<Visit> {
        let conn = self.conn;
        let sink = engine.splices_to(conn)?;
        let mut pipe = pipes.take(now)?;
        let cx = &mut Context::from_waker(&self.waker);
        let (input, bytes) = match self.stream.poll_read_with(&mut |fd| pipe.fill(fd, most), cx) {
            Poll::Ready(Ok(n @ 1..)) => {
                pipes.lend(sink, pipe, now);
                engine.handle_input(now, Input::Spliced { conn, n });
                // A pipe is full of packets before it is full of bytes: less than `most` says nothing.
                return Some(Visit::Fed { bytes: n, more: true });
            }
            Poll::Ready(Err(error)) if pipe::is_refusal(&error) => {
                pipes.refuse(now);
                return None;
            }
            Poll::Ready(Err(error)) if error.kind() == io::ErrorKind::Unsupported => {
                pipes.put(pipe);
                return None;
            }
            Poll::Ready(Ok(_)) => {
                self.read_closed = true;
                (Input::ReadClosed { conn }, 0)
            }
            Poll::Ready(Err(error)) => (Input::Failed { conn, kind: os::io_error(&error) }, 0),
            Poll::Pending => {
                pipes.put(pipe);
                return Some(Visit::Nothing);
            }
        };
        pipes.put(pipe);
        engine.handle_input(now, input);
        Some(Visit::Fed { bytes, more: false })
    }

    /// Reads what there is. What is behind urgent data, past the reactor: until nothing is left there.
    fn read_on(&mut self, block: &mut Block) -> Poll<io::Result<Read>> {
        if self.behind_urgent {
            let read = self.read_directly(block);
            self.behind_urgent = matches!(read, Poll::Ready(Ok(_)));
            if read.is_ready() {
                return read;
            }
        }
        self.stream.poll_read(block, &mut Context::from_waker(&self.waker))
    }

    /// After a short read: whether it is to be looked at later, and was not yet to be.
    pub(crate) fn wants_look(&mut self, engine: &Engine) -> bool {
        let wants = !self.is_looked_at && engine.may_be_urgent(self.conn);
        self.is_looked_at |= wants;
        wants
    }

    /// Looks whether a read would bring something, or the end: then it is to be visited.
    pub(crate) fn look(&mut self, engine: &Engine) -> bool {
        self.is_looked_at = false;
        self.behind_urgent = engine.may_be_urgent(self.conn)
            && SockRef::from(&self.stream).peek(&mut [MaybeUninit::uninit()]).is_ok();
        self.behind_urgent
    }

    /// Reads past the reactor, which may not know yet what the failed write revealed.
    fn read_directly(&self, block: &mut Block) -> Poll<io::Result<Read>> {
        match (&*SockRef::from(&self.stream)).read(block.room()) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Poll::Pending,
            read => Poll::Ready(read.map(|length| Read { length, more: true })),
        }
    }

    /// Writes until the engine has nothing more or the kernel takes nothing more. True if the
    /// engine was told something.
    pub(crate) fn flush(&mut self, engine: &mut Engine, pipes: &mut Pipes, now: Time) -> bool {
        let conn = self.conn;
        self.write_blocked |= self.connecting;
        let mut fed = self.flush_pipe(engine, pipes, now);
        while !self.write_blocked && self.write_failed.is_none() {
            let mut slices = [&[][..]; MAX_SLICES];
            let count = engine.write_bufs(conn, &mut slices);
            let wanted: usize = slices[..count].iter().map(|slice| slice.len()).sum();
            if wanted == 0 {
                break;
            }
            match self.poll_write(&slices[..count]) {
                Poll::Ready(Ok(n)) => {
                    if wanted >= Limits::READ_BLOCK / 2 {
                        self.hold_little_unsent(engine, now);
                    }
                    engine.handle_input(now, Input::Wrote { conn, n });
                    fed = true;
                    if n == wanted && count < MAX_SLICES {
                        break;
                    }
                }
                Poll::Ready(Err(error)) => self.fail_write(&error),
                Poll::Pending => self.write_blocked = true,
            }
        }
        fed
    }

    /// The same, of what is in a pipe and goes before all else.
    fn flush_pipe(&mut self, engine: &mut Engine, pipes: &mut Pipes, now: Time) -> bool {
        let conn = self.conn;
        let Some(pipe) = pipes.of(conn) else { return false };
        let mut fed = false;
        // A `splice` that has written something keeps to itself what stopped it.
        let mut was_stopped = false;
        while pipe.held() > 0 && !self.write_blocked && self.write_failed.is_none() {
            let cx = &mut Context::from_waker(&self.waker);
            match self.stream.poll_write_with(&mut |fd| pipe.drain(fd), cx) {
                Poll::Ready(Ok(n @ 1..)) => {
                    engine.handle_input(now, Input::Wrote { conn, n });
                    fed = true;
                    was_stopped = true;
                }
                Poll::Ready(Ok(_)) => self.fail_write(&io::ErrorKind::WriteZero.into()),
                Poll::Ready(Err(error)) => {
                    self.fail_write(&error);
                    // Whether that was a FIN or not, nobody can tell any more.
                    self.told_end |= was_stopped;
                }
                Poll::Pending => self.write_blocked = true,
            }
        }
        pipes.take_back(conn, false);
        fed
    }

    fn fail_write(&mut self, error: &io::Error) {
        self.write_failed = Some(os::io_error(error));
        // After a FIN a reset is a broken pipe.
        self.told_end = error.kind() != io::ErrorKind::BrokenPipe;
        // Reports it.
        self.waker.wake_by_ref();
    }

    /// Much was written: what the kernel holds of it unsent, small answers on the same connection
    /// wait behind.
    fn hold_little_unsent(&mut self, engine: &Engine, now: Time) {
        let Some(streams) = engine.open_streams(self.conn) else { return };
        if streams > 1 {
            self.shared_until = now + LATELY;
        }
        let others = self.shared_until > now;
        let most = if others { os::MOST_UNSENT_BESIDE_OTHERS } else { os::MOST_UNSENT };
        if most != self.most_unsent {
            self.most_unsent = most;
            os::hold_little_unsent(&self.stream, most);
        }
    }

    fn poll_write(&mut self, slices: &[&[u8]]) -> Poll<io::Result<usize>> {
        let mut vector = [IoSlice::new(&[]); MAX_SLICES];
        for (to, from) in vector.iter_mut().zip(slices) {
            *to = IoSlice::new(from);
        }
        let cx = &mut Context::from_waker(&self.waker);
        self.stream.poll_write(&vector[..slices.len()], cx)
    }

    /// Sends a FIN after everything that was written. A peer that is gone makes it fail; reading
    /// tells the same.
    pub(crate) fn shutdown_write(&self) {
        let _ = SockRef::from(&self.stream).shutdown(std::net::Shutdown::Write);
    }

    /// Makes the coming close a reset.
    pub(crate) fn reset_on_close(&self) {
        os::reset_on_close(&self.stream);
    }
}
