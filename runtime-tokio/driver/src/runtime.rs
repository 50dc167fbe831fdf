//! What a runtime brings.

use std::io::{self, IoSlice};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::{AsFd, BorrowedFd};
use std::task::{Context, Poll};
use std::time::Instant;

use hickory_resolver::net::runtime::RuntimeProvider;

use crate::{Background, Block};

/// A runtime: sockets that wake, a timer, and something that runs a future on a thread.
///
/// Every `poll_*` that says [`Poll::Pending`] has seen to it that the waker of its context is woken
/// when it is worth asking again. One wake-up too many does no harm.
pub trait Runtime: 'static {
    /// A TCP connection.
    type Stream: Stream;
    /// A listening socket.
    type Listener: Send;
    /// The one timer of a worker.
    type Timer: Send;
    /// How name servers are reached.
    type Dns: RuntimeProvider;

    /// Takes a connection, or one that is being made; it does not block.
    fn stream(socket: TcpStream) -> io::Result<Self::Stream>;

    /// Takes a listening socket that does not block.
    fn listener(socket: TcpListener) -> io::Result<Self::Listener>;

    /// Accepts one connection.
    fn poll_accept(
        listener: &Self::Listener,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<(Self::Stream, SocketAddr)>>;

    /// A timer that is not set.
    fn timer() -> Self::Timer;

    /// Sets the timer, whatever it was set to; ready if that time has come.
    fn poll_timer(timer: &mut Self::Timer, at: Instant, cx: &mut Context<'_>) -> Poll<()>;

    /// How name servers are reached; called within the worker's future. What has to go on meanwhile
    /// may go into `background`.
    fn dns(background: &Background) -> Self::Dns;

    /// Has the future that `cx` belongs to polled again, but only after the reactor has looked for
    /// events.
    fn yield_now(cx: &mut Context<'_>);

    /// Frees a worker's future from what the runtime may limit a poll to: it limits itself.
    fn unlimited<F: Future + Send>(worker: F) -> impl Future<Output = F::Output> + Send;

    /// Runs a worker on this thread until it ends, and drops it.
    fn run(worker: impl Future<Output = io::Result<()>> + 'static) -> io::Result<()>;
}

/// A TCP connection of a [`Runtime`]. Dropping it closes it.
pub trait Stream: AsFd + Send {
    /// Whether the connection is made, as [`connect_result`](crate::os::connect_result) tells of a
    /// writable socket: our own address.
    fn poll_connected(&self, cx: &mut Context<'_>) -> Poll<io::Result<SocketAddr>>;

    /// Reads once, to the beginning of `block`. When there is nothing more to read the waker is
    /// registered at once.
    fn poll_read(&mut self, block: &mut Block, cx: &mut Context<'_>) -> Poll<io::Result<Read>>;

    /// Writes once; there is at least one slice.
    fn poll_write(
        &mut self,
        slices: &[IoSlice<'_>],
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<usize>>;

    /// Reads in a way of the driver's: `read` does not block, and is called when there may be
    /// something. Unless it would block no waker is registered.
    fn poll_read_with(
        &mut self,
        read: &mut dyn FnMut(BorrowedFd<'_>) -> io::Result<usize>,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<usize>>;

    /// The same, to write.
    fn poll_write_with(
        &mut self,
        write: &mut dyn FnMut(BorrowedFd<'_>) -> io::Result<usize>,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<usize>>;
}

/// What a read brought.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Read {
    /// How many bytes; 0 is the peer's FIN.
    pub length: usize,
    /// There may be more, and no waker is registered: read again.
    pub more: bool,
}
