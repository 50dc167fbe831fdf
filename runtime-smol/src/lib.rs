//! Runs a [`selvedge_core::engine::Engine`] on smol, or on anything else that polls futures:
//! sockets, time and names come from async-io, which needs no executor.
//!
//! The adapter does what the engine wants and tells it what happened; it decides nothing about
//! traffic. [`bind`] opens the listeners, [`Bound::serve`](selvedge_driver::Bound::serve) runs
//! workers on threads of their own, and [`Bound::embed`](selvedge_driver::Bound::embed) gives a
//! future to run in an executor that is there already.
//!
//! ```no_run
//! use std::sync::Arc;
//!
//! use selvedge_core::config::{Config, Listener, ListenerKind};
//! use selvedge_smol::{Options, bind};
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
//! The driver is [`selvedge_driver`]'s; here is what async-io brings to it. async-io has one reactor
//! for the whole process, so workers take turns at waiting for its events: with more than one,
//! `selvedge-tokio`, whose workers share nothing, costs less.
#![forbid(unsafe_code)]

mod connection;
mod dns;

use std::io;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Instant;

use async_io::{Async, Timer};
use selvedge_core::config::Config;
pub use selvedge_driver::os::raise_descriptor_limit;
use selvedge_driver::{Background, Runtime};
pub use selvedge_driver::{BindError, Options, Worker, Workers};

pub use connection::Connection;
pub use dns::Dns;

/// The listening sockets of all workers.
pub type Bound = selvedge_driver::Bound<Smol>;

/// Opens every listener of `config`.
///
/// # Errors
/// The first that cannot be opened. The others are closed again.
pub fn bind(config: &Config, options: &Options) -> Result<Bound, BindError> {
    Bound::open(config, options)
}

/// What async-io brings to a worker.
#[derive(Debug)]
pub struct Smol;

impl Runtime for Smol {
    type Stream = Connection;
    type Listener = Async<TcpListener>;
    type Timer = Timer;
    type Dns = Dns;

    fn stream(socket: TcpStream) -> io::Result<Connection> {
        Async::new_nonblocking(socket).map(Connection::new)
    }

    fn listener(socket: TcpListener) -> io::Result<Self::Listener> {
        Async::new_nonblocking(socket)
    }

    fn poll_accept(
        listener: &Self::Listener,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<(Connection, SocketAddr)>> {
        loop {
            match listener.get_ref().accept() {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    ready!(listener.poll_readable(cx))?;
                }
                result => {
                    let (stream, peer) = result?;
                    return Poll::Ready(Ok((Connection::new(Async::new(stream)?), peer)));
                }
            }
        }
    }

    fn timer() -> Timer {
        Timer::never()
    }

    fn poll_timer(timer: &mut Timer, at: Instant, cx: &mut Context<'_>) -> Poll<()> {
        timer.set_at(at);
        Pin::new(timer).poll(cx).map(drop)
    }

    fn dns(background: &Background) -> Dns {
        Dns(background.clone())
    }

    fn yield_now(cx: &mut Context<'_>) {
        // `block_on` and smol's executors look at the reactor before they poll again.
        cx.waker().wake_by_ref();
    }

    fn unlimited<F: Future + Send>(worker: F) -> impl Future<Output = F::Output> + Send {
        worker
    }

    fn run(worker: impl Future<Output = io::Result<()>> + 'static) -> io::Result<()> {
        async_io::block_on(worker)
    }
}
