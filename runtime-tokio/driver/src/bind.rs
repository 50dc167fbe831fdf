//! Listening sockets: bound before anything is served, so that a wrong address is an error at the
//! start and not a log line later.

use std::fmt;
use std::io;
use std::marker::PhantomData;
use std::net::{SocketAddr, TcpListener};
use std::time::Duration;

use selvedge_core::config::Config;
use socket2::Socket;

use crate::os;

/// How the adapter treats sockets and threads.
#[derive(Clone, Debug)]
pub struct Options {
    /// How many threads [`Bound::serve`] starts, each with an engine and listening sockets of its
    /// own (`SO_REUSEPORT`: the kernel spreads the connections). 0 counts as 1.
    pub workers: usize,
    /// How long a connection is silent before the kernel asks whether the peer is still there, and
    /// how long between two such questions (`SO_KEEPALIVE`). Default 10 s.
    pub keepalive: Option<Duration>,
    /// How long sent data may stay unacknowledged before the kernel gives a connection up
    /// (`TCP_USER_TIMEOUT`, Linux). Off by default: it also ends a connection whose reader merely
    /// pauses for that long.
    pub user_timeout: Option<Duration>,
    /// Connections that the kernel holds for each listener until they are accepted. Default 1024;
    /// the kernel has a maximum of its own (`net.core.somaxconn`).
    pub backlog: u32,
}

impl Default for Options {
    fn default() -> Self {
        Options {
            workers: 1,
            // linkerd2-proxy: INBOUND_ACCEPT_KEEPALIVE, OUTBOUND_CONNECT_KEEPALIVE.
            keepalive: Some(Duration::from_secs(10)),
            user_timeout: None,
            backlog: 1024,
        }
    }
}

/// A listener of the configuration could not be opened.
#[derive(Debug)]
pub struct BindError {
    /// Which address.
    pub addr: SocketAddr,
    /// Why.
    pub source: io::Error,
}

impl fmt::Display for BindError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "cannot listen on {}: {}", self.addr, self.source)
    }
}

impl std::error::Error for BindError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&self.source)
    }
}

/// The listening sockets of all workers. Peers can connect already; nobody accepts yet.
#[derive(Debug)]
pub struct Bound<R> {
    pub(crate) options: Options,
    /// Per worker, in the order of the configuration.
    pub(crate) listeners: Vec<Vec<TcpListener>>,
    addrs: Vec<SocketAddr>,
    runtime: PhantomData<fn() -> R>,
}

impl<R> Bound<R> {
    /// Opens every listener of `config`.
    ///
    /// # Errors
    /// The first that cannot be opened. The others are closed again.
    pub fn open(config: &Config, options: &Options) -> Result<Self, BindError> {
        let workers = options.workers.max(1);
        let mut bound = Bound {
            options: options.clone(),
            listeners: (0..workers).map(|_| Vec::new()).collect(),
            addrs: Vec::with_capacity(config.listeners.len()),
            runtime: PhantomData,
        };
        for listener in &config.listeners {
            let error = |source| BindError { addr: listener.addr, source };
            let mut addr = listener.addr;
            if workers > 1 {
                reserve(addr, options).map_err(error)?;
            }
            for sockets in &mut bound.listeners {
                let socket = listen(addr, options).map_err(error)?;
                // The others join the first on the port that it got.
                addr = socket.local_addr().map_err(error)?;
                sockets.push(socket);
            }
            bound.addrs.push(addr);
        }
        Ok(bound)
    }

    /// Where it listens, in the order of [`Config::listeners`]: with the port that the kernel
    /// chose where the configuration says 0.
    pub fn local_addrs(&self) -> &[SocketAddr] {
        &self.addrs
    }
}

/// With `SO_REUSEPORT` a second proxy of the same user would silently get a share of the first
/// one's connections. Without it, the kernel tells.
fn reserve(addr: SocketAddr, options: &Options) -> io::Result<()> {
    open(addr, options)?.bind(&addr.into())
}

fn listen(addr: SocketAddr, options: &Options) -> io::Result<TcpListener> {
    let socket = open(addr, options)?;
    if options.workers > 1 {
        socket.set_reuse_port(true)?;
    }
    socket.bind(&addr.into())?;
    socket.listen(i32::try_from(options.backlog).unwrap_or(i32::MAX))?;
    Ok(socket.into())
}

fn open(addr: SocketAddr, options: &Options) -> io::Result<Socket> {
    let socket = os::tcp_socket(addr, options)?;
    // Connections of an earlier process that are in TIME_WAIT do not keep the port.
    socket.set_reuse_address(true)?;
    Ok(socket)
}

#[cfg(test)]
mod tests;
