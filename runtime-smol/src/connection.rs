//! A TCP connection on async-io.

use std::io::{self, IoSlice, Read as _, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::fd::{AsFd, BorrowedFd};
use std::task::{Context, Poll, ready};

use async_io::Async;
use selvedge_driver::os::connect_result;
use selvedge_driver::{Block, Read, Stream};

/// A connection of a smol worker.
///
/// The reactor reports an event once and then has to be asked again, at the cost of a system call.
/// So a short read, which has emptied the socket's buffer, asks at once, and no read is tried before
/// the reactor said that there is something: one read per wake-up.
#[derive(Debug)]
pub struct Connection {
    stream: Async<TcpStream>,
    /// The reactor said so, and no read has come back short since.
    readable: bool,
}

impl Connection {
    pub(crate) fn new(stream: Async<TcpStream>) -> Self {
        Connection { stream, readable: false }
    }
}

impl AsFd for Connection {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.stream.as_fd()
    }
}

impl Stream for Connection {
    fn poll_connected(&self, cx: &mut Context<'_>) -> Poll<io::Result<SocketAddr>> {
        loop {
            ready!(self.stream.poll_writable(cx))?;
            match connect_result(&self.stream) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                result => return Poll::Ready(result),
            }
        }
    }

    fn poll_read(&mut self, block: &mut Block, cx: &mut Context<'_>) -> Poll<io::Result<Read>> {
        let room = block.room();
        loop {
            if !self.readable {
                ready!(self.stream.poll_readable(cx))?;
                self.readable = true;
            }
            match self.stream.get_ref().read(room) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => self.readable = false,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Poll::Ready(Err(error)),
                Ok(length) => {
                    if 0 < length && length < room.len() {
                        self.readable = self.stream.poll_readable(cx)?.is_ready();
                    }
                    let more = length > 0 && self.readable;
                    return Poll::Ready(Ok(Read { length, more }));
                }
            }
        }
    }

    fn poll_write(
        &mut self,
        slices: &[IoSlice<'_>],
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<usize>> {
        let mut stream = self.stream.get_ref();
        loop {
            let written = match slices {
                [one] => stream.write(one),
                slices => stream.write_vectored(slices),
            };
            match written {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    ready!(self.stream.poll_writable(cx))?;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                result => return Poll::Ready(result),
            }
        }
    }

    fn poll_read_with(
        &mut self,
        read: &mut dyn FnMut(BorrowedFd<'_>) -> io::Result<usize>,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<usize>> {
        loop {
            if !self.readable {
                ready!(self.stream.poll_readable(cx))?;
                self.readable = true;
            }
            match read(self.stream.as_fd()) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => self.readable = false,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                result => return Poll::Ready(result),
            }
        }
    }

    fn poll_write_with(
        &mut self,
        write: &mut dyn FnMut(BorrowedFd<'_>) -> io::Result<usize>,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<usize>> {
        loop {
            match write(self.stream.as_fd()) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    ready!(self.stream.poll_writable(cx))?;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                result => return Poll::Ready(result),
            }
        }
    }
}
