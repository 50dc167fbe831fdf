//! What the operating system is asked beyond reading and writing, and what its errors mean to the
//! engine. For adapters of any kind.

use std::io;
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::os::fd::AsFd;
use std::time::Duration;

use selvedge_core::error::{ConnectError, IoError};
use selvedge_core::rng::Seed;
use socket2::{Domain, Protocol, SockRef, Socket, TcpKeepalive, Type};

use crate::Options;

/// Raises the soft limit of open descriptors to the hard limit and returns the new soft limit.
/// Each connection costs one descriptor.
///
/// # Errors
/// When the operating system refuses; the old limit stays.
pub fn raise_descriptor_limit() -> io::Result<u64> {
    rlimit::increase_nofile_limit(u64::MAX)
}

/// From now on no core dump of this process is written: there may be a key in its memory.
///
/// # Errors
/// When the operating system refuses.
pub fn forbid_core_dumps() -> io::Result<()> {
    rlimit::setrlimit(rlimit::Resource::CORE, 0, 0)
}

/// Takes 128 bits from the operating system.
///
/// # Errors
/// It has none to give, as early in the boot of a machine.
pub fn seed() -> io::Result<Seed> {
    Ok(Seed([getrandom::u64()?, getrandom::u64()?]))
}

/// A non-blocking TCP socket with the configured options. On Linux an accepted socket inherits
/// those of its listener.
pub(crate) fn tcp_socket(addr: SocketAddr, options: &Options) -> io::Result<Socket> {
    let kind = Type::STREAM.nonblocking().cloexec();
    let socket = Socket::new(Domain::for_address(addr), kind, Some(Protocol::TCP))?;
    socket.set_tcp_nodelay(true)?;
    if let Some(idle) = options.keepalive {
        let keepalive = TcpKeepalive::new().with_time(idle).with_interval(idle);
        socket.set_tcp_keepalive(&keepalive)?;
    }
    #[cfg(any(target_os = "linux", target_os = "android"))]
    if options.user_timeout.is_some() {
        socket.set_tcp_user_timeout(options.user_timeout)?;
    }
    Ok(socket)
}

/// Begins to connect, without blocking. The stream becomes writable when it is over, for better or
/// worse: see [`connect_result`].
///
/// # Errors
/// It failed at once: see [`connect_error`].
pub fn start_connect(addr: SocketAddr, options: &Options) -> io::Result<TcpStream> {
    let socket = tcp_socket(addr, options)?;
    match socket.connect(&addr.into()) {
        Err(error) if error.raw_os_error() != Some(libc::EINPROGRESS) => Err(error),
        _ => Ok(socket.into()),
    }
}

/// Asks a writable socket how its connect ended: our own address.
///
/// # Errors
/// Why it failed. `WouldBlock`: it has not ended.
pub fn connect_result(stream: &impl AsFd) -> io::Result<SocketAddr> {
    let socket = SockRef::from(stream);
    if let Some(error) = socket.take_error()? {
        return Err(error);
    }
    let peer = match socket.peer_addr() {
        Err(error) if error.kind() == io::ErrorKind::NotConnected => {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        peer => peer?,
    };
    let local = local_addr(stream)?;
    if Some(local) == peer.as_socket() {
        // A connect to a local port that nobody listens on can get that very port as its own, and
        // then TCP connects the socket to itself (simultaneous open, RFC 9293 §3.5).
        return Err(io::ErrorKind::ConnectionRefused.into());
    }
    Ok(canonical(local))
}

/// Our own address.
///
/// # Errors
/// The connection is gone already.
pub fn local_addr(stream: &impl AsFd) -> io::Result<SocketAddr> {
    let local = SockRef::from(stream).local_addr()?;
    local.as_socket().ok_or_else(|| io::ErrorKind::Unsupported.into())
}

/// `SO_ORIGINAL_DST`. A v6 socket with a v4-mapped peer was redirected by the v4 rules. Without
/// connection tracking, or for a connection that it does not know, the kernel answers with an
/// error: then there is none.
#[cfg(any(target_os = "linux", target_os = "android"))]
pub fn original_dst(stream: &impl AsFd, peer: SocketAddr) -> Option<SocketAddr> {
    let socket = SockRef::from(stream);
    let addr = match peer {
        SocketAddr::V4(_) => socket.original_dst_v4(),
        SocketAddr::V6(_) => socket.original_dst_v6(),
    };
    addr.ok()?.as_socket()
}

/// `SO_ORIGINAL_DST` exists on Linux only.
#[cfg(not(any(target_os = "linux", target_os = "android")))]
pub fn original_dst(_stream: &impl AsFd, _peer: SocketAddr) -> Option<SocketAddr> {
    None
}

/// Unwraps a v4-mapped v6 address.
pub fn canonical(addr: SocketAddr) -> SocketAddr {
    match addr.ip().to_canonical() {
        IpAddr::V4(ip) => SocketAddr::new(ip.into(), addr.port()),
        // As it was: with flow and scope.
        IpAddr::V6(_) => addr,
    }
}

/// What a connection that many can share may have in the kernel unsent. Without a bound it is as much
/// as the peer has given credit for, and a small answer waits behind it; with too small a one the
/// network waits for us. This is for a stream that is alone …
pub(crate) const MOST_UNSENT: u32 = 128 * 1024;
/// … and this for one that others share a connection with: a quarter of a millisecond at 1 Gbit/s.
pub(crate) const MOST_UNSENT_BESIDE_OTHERS: u32 = 32 * 1024;

/// From now on the kernel takes no more than it is about to send, and `most` (`TCP_NOTSENT_LOWAT`).
#[cfg(any(target_os = "linux", target_os = "android"))]
pub(crate) fn hold_little_unsent(stream: &impl AsFd, most: u32) {
    // A kernel that cannot do it only makes some wait.
    let _ = SockRef::from(stream).set_tcp_notsent_lowat(most);
}

/// Where the option is another.
#[cfg(not(any(target_os = "linux", target_os = "android")))]
pub(crate) fn hold_little_unsent(_stream: &impl AsFd, _most: u32) {}

/// Makes the close of a socket a reset.
pub fn reset_on_close(stream: &impl AsFd) {
    let _ = SockRef::from(stream).set_linger(Some(Duration::ZERO));
}

/// What a failed connect means.
pub fn connect_error(error: &io::Error) -> ConnectError {
    use io::ErrorKind as Kind;
    match (error.kind(), error.raw_os_error()) {
        (Kind::ConnectionRefused | Kind::ConnectionReset, _) => ConnectError::Refused,
        (Kind::TimedOut, _) => ConnectError::TimedOut,
        (Kind::AddrNotAvailable | Kind::AddrInUse | Kind::WouldBlock, _)
        | (_, Some(libc::EMFILE | libc::ENFILE | libc::ENOBUFS | libc::ENOMEM)) => {
            ConnectError::Local
        }
        // No route, network or host; also a firewall that answers EPERM, and an address family
        // that this machine has not.
        _ => ConnectError::Unreachable,
    }
}

/// What a failed read or write means.
pub fn io_error(error: &io::Error) -> IoError {
    use io::ErrorKind as Kind;
    match error.kind() {
        Kind::ConnectionReset | Kind::ConnectionAborted | Kind::BrokenPipe => IoError::Reset,
        Kind::TimedOut => IoError::TimedOut,
        _ => IoError::Other,
    }
}

/// After these errors of `accept` the next call may well succeed: the connection was at fault, not
/// the listener (accept(2): Linux passes on what happened to the new socket).
pub fn is_about_one_connection(error: &io::Error) -> bool {
    use libc::{
        ECONNABORTED, ECONNRESET, EHOSTUNREACH, EINTR, ENETDOWN, ENETUNREACH, EPERM, EPROTO,
    };
    [ECONNABORTED, ECONNRESET, EHOSTUNREACH, EINTR, ENETDOWN, ENETUNREACH, EPERM, EPROTO]
        .iter()
        .any(|&number| error.raw_os_error() == Some(number))
}

#[cfg(test)]
mod tests;
