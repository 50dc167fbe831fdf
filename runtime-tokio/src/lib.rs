//! Runs a [`selvedge_core::engine::Engine`] on tokio.
//!
//! The adapter does what the engine wants and tells it what happened; it decides nothing about
//! traffic. [`bind`] opens the listeners, [`Bound::serve`] runs workers on threads of their own,
//! and [`Bound::embed`] gives a future to run in a runtime that is there already.
//!
//! ```no_run
//! use std::sync::Arc;
//!
//! use selvedge_core::config::{Config, Listener, ListenerKind};
//! use selvedge_tokio::{Options, bind};
//!
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! let mut config = Config::default();
//! config.listeners.push(Listener {
//!     addr: "127.0.0.1:4140".parse()?,
//!     kind: ListenerKind::Outbound,
//! });
//! let bound = bind(&config, &Options::default())?;
//! let mut workers = bound.serve(&Arc::new(config), |event| println!("{event:?}"))?;
//! // … until somebody asks for the end:
//! for worker in workers.handles() {
//!     worker.drain();
//! }
//! workers.ended().await?;
//! # Ok(())
//! # }
//! ```
//!
//! The driver is [`selvedge_driver`]'s; here is what tokio brings to it. A worker's thread has a
//! runtime of its own, and its future is the only task. What `Bound::embed` gives is woken at less
//! cost as a task (`spawn`, `spawn_local`) than in `block_on`.
#![forbid(unsafe_code)]

use std::io::{self, IoSlice};
use std::net::SocketAddr;
use std::os::fd::{AsFd, BorrowedFd};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Instant;

use hickory_resolver::net::runtime::TokioRuntimeProvider;
use selvedge_core::config::Config;
use selvedge_core::engine::Event;
use selvedge_driver::os::connect_result;
pub use selvedge_driver::os::{forbid_core_dumps, raise_descriptor_limit};
use selvedge_driver::{Background, Block, Events, Read, Runtime, Stream};
pub use selvedge_driver::{BindError, Options, Worker, Workers};
use tokio::io::{AsyncReadExt, AsyncWrite, Interest};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::{Builder, LocalOptions};
use tokio::task::coop::unconstrained;
use tokio::time::{Sleep, sleep_until};

/// The listening sockets of all workers. Peers can connect already; nobody accepts yet.
///
/// What it does is [`selvedge_driver::Bound`]'s. The driver is compiled here, once and for speed, and
/// not with whoever uses it.
#[derive(Debug)]
pub struct Bound(selvedge_driver::Bound<Tokio>);

impl Bound {
    /// Where it listens, in the order of [`Config::listeners`]: with the port that the kernel chose
    /// where the configuration says 0.
    pub fn local_addrs(&self) -> &[SocketAddr] {
        self.0.local_addrs()
    }

    /// Serves on threads of its own, one for each of [`Options::workers`].
    ///
    /// Each calls a clone of `events`, which must not block.
    ///
    /// # Errors
    /// When the operating system refuses a thread.
    pub fn serve<E>(self, config: &Arc<Config>, events: E) -> io::Result<Workers>
    where
        E: FnMut(Event) + Clone + Send + 'static,
    {
        self.serve_each(config, &mut || Box::new(events.clone()))
    }

    #[inline(never)]
    fn serve_each(
        self,
        config: &Arc<Config>,
        events: &mut dyn FnMut() -> Events,
    ) -> io::Result<Workers> {
        self.0.serve_each(config, events)
    }

    /// For an embedder with a runtime of its own: the first worker's future, to be run there as a
    /// task. The listeners of further workers are closed.
    ///
    /// The future ends when the engine is drained or told to [`stop`](Worker::stop), with an error
    /// when it cannot start; dropping it closes everything. A panic in it must end the process.
    /// SIGPIPE must be ignored, as it is where Rust's `main` is the program's: a write to a peer that is
    /// gone is an error here.
    pub fn embed(
        self,
        config: &Arc<Config>,
        events: impl FnMut(Event) + Send + 'static,
    ) -> (Worker, Embedded) {
        self.embed_boxed(config, Box::new(events))
    }

    #[inline(never)]
    fn embed_boxed(self, config: &Arc<Config>, events: Events) -> (Worker, Embedded) {
        let (worker, future) = self.0.embed(config, events);
        (worker, Box::pin(future))
    }
}

/// A worker in a runtime that was there already.
pub type Embedded = Pin<Box<dyn Future<Output = io::Result<()>> + Send>>;

/// Opens every listener of `config`.
///
/// # Errors
/// The first that cannot be opened. The others are closed again.
pub fn bind(config: &Config, options: &Options) -> Result<Bound, BindError> {
    selvedge_driver::Bound::open(config, options).map(Bound)
}

/// What tokio brings to a worker.
#[derive(Debug)]
pub struct Tokio;

impl Runtime for Tokio {
    type Stream = Connection;
    type Listener = TcpListener;
    type Timer = Pin<Box<Sleep>>;
    type Dns = TokioRuntimeProvider;

    fn stream(socket: std::net::TcpStream) -> io::Result<Connection> {
        TcpStream::from_std(socket).map(Connection)
    }

    fn listener(socket: std::net::TcpListener) -> io::Result<TcpListener> {
        TcpListener::from_std(socket)
    }

    fn poll_accept(
        listener: &TcpListener,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<(Connection, SocketAddr)>> {
        listener.poll_accept(cx).map_ok(|(stream, peer)| (Connection(stream), peer))
    }

    fn timer() -> Self::Timer {
        Box::pin(sleep_until(Instant::now().into()))
    }

    fn poll_timer(timer: &mut Self::Timer, at: Instant, cx: &mut Context<'_>) -> Poll<()> {
        timer.as_mut().reset(at.into());
        timer.as_mut().poll(cx)
    }

    fn dns(_background: &Background) -> TokioRuntimeProvider {
        // It has tasks of its own, which end with it.
        TokioRuntimeProvider::default()
    }

    fn yield_now(cx: &mut Context<'_>) {
        // Waking the task directly would put it in front of the reactor's events.
        let _ = pin!(tokio::task::yield_now()).poll(cx);
    }

    fn unlimited<F: Future + Send>(worker: F) -> impl Future<Output = F::Output> + Send {
        unconstrained(worker)
    }

    fn run(worker: impl Future<Output = io::Result<()>> + 'static) -> io::Result<()> {
        let runtime = Builder::new_current_thread()
            .enable_io()
            .enable_time()
            .build_local(LocalOptions::default())?;
        // As a task, and not as the future of `block_on`, which is woken through the kernel.
        let task = runtime.spawn_local(worker);
        runtime.block_on(task)?
    }
}

/// A connection of a tokio worker.
#[derive(Debug)]
pub struct Connection(TcpStream);

impl AsFd for Connection {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl Stream for Connection {
    fn poll_connected(&self, cx: &mut Context<'_>) -> Poll<io::Result<SocketAddr>> {
        loop {
            if self.0.poll_write_ready(cx)?.is_pending() {
                return Poll::Pending;
            }
            // `WouldBlock`, after a wake-up too many, clears the readiness.
            match self.0.try_io(Interest::WRITABLE, || connect_result(&self.0)) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                result => return Poll::Ready(result),
            }
        }
    }

    fn poll_read(&mut self, block: &mut Block, cx: &mut Context<'_>) -> Poll<io::Result<Read>> {
        let mut block = block.spare();
        let room = block.limit();
        // Clears the readiness on a short read, which has emptied the socket's buffer: no second
        // read is needed to learn that.
        let read = pin!(self.0.read_buf(&mut block)).poll(cx)?;
        read.map(|length| {
            let more = length == room || length > 0 && self.0.poll_read_ready(cx).is_ready();
            Ok(Read { length, more })
        })
    }

    fn poll_write(
        &mut self,
        slices: &[IoSlice<'_>],
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<usize>> {
        let stream = Pin::new(&mut self.0);
        match slices {
            [one] => stream.poll_write(cx, one),
            slices => stream.poll_write_vectored(cx, slices),
        }
    }

    fn poll_read_with(
        &mut self,
        read: &mut dyn FnMut(BorrowedFd<'_>) -> io::Result<usize>,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<usize>> {
        loop {
            ready!(self.0.poll_read_ready(cx))?;
            // `WouldBlock` clears the readiness.
            match self.0.try_io(Interest::READABLE, || read(self.0.as_fd())) {
                Err(error) if is_transient(&error) => {}
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
            ready!(self.0.poll_write_ready(cx))?;
            match self.0.try_io(Interest::WRITABLE, || write(self.0.as_fd())) {
                Err(error) if is_transient(&error) => {}
                result => return Poll::Ready(result),
            }
        }
    }
}

/// Worth asking again for.
fn is_transient(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted)
}
