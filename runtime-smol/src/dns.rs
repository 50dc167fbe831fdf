//! How hickory reaches name servers over async-io.

use std::io::{self, IoSlice};
use std::net::{SocketAddr, TcpStream, UdpSocket};
use std::pin::{Pin, pin};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use async_io::{Async, Timer};
use async_trait::async_trait;
use futures_io::{AsyncRead, AsyncWrite};
use hickory_resolver::net::runtime::{DnsTcpStream, DnsUdpSocket, RuntimeProvider, Spawn, Time};
use selvedge_driver::Background;

/// What hickory uses where the system's configuration names no other.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// Sockets and time for the resolver, and what runs the futures that it leaves behind: the worker
/// itself.
#[derive(Clone, Debug)]
pub struct Dns<S = Background>(pub(crate) S);

type Opening<T> = Pin<Box<dyn Send + Future<Output = io::Result<T>>>>;

impl<S: Spawn + Clone + Send + Sync + Unpin + 'static> RuntimeProvider for Dns<S> {
    type Handle = S;
    type Timer = Clock;
    type Udp = Datagrams;
    type Tcp = ByteStream;

    fn create_handle(&self) -> S {
        self.0.clone()
    }

    fn connect_tcp(
        &self,
        server: SocketAddr,
        _from: Option<SocketAddr>,
        patience: Option<Duration>,
    ) -> Opening<ByteStream> {
        // From no particular address: the system's configuration has no words for one.
        let connect = Async::<TcpStream>::connect(server);
        Box::pin(async move {
            let stream = within(patience.unwrap_or(CONNECT_TIMEOUT), connect).await??;
            stream.get_ref().set_nodelay(true)?;
            Ok(ByteStream(stream))
        })
    }

    fn bind_udp(&self, local: SocketAddr, _server: SocketAddr) -> Opening<Datagrams> {
        Box::pin(async move { Async::<UdpSocket>::bind(local).map(Datagrams) })
    }
}

/// async-io's time.
#[derive(Clone, Copy, Debug)]
pub struct Clock;

#[async_trait]
impl Time for Clock {
    async fn delay_for(duration: Duration) {
        Timer::after(duration).await;
    }

    async fn timeout<F: 'static + Future + Send>(
        duration: Duration,
        future: F,
    ) -> io::Result<F::Output> {
        within(duration, future).await
    }
}

/// Waits for a future, but not for ever.
async fn within<F: Future>(duration: Duration, future: F) -> io::Result<F::Output> {
    let mut future = pin!(future);
    let mut timer = Timer::after(duration);
    std::future::poll_fn(|cx| {
        if let Poll::Ready(output) = future.as_mut().poll(cx) {
            return Poll::Ready(Ok(output));
        }
        Pin::new(&mut timer).poll(cx).map(|_| Err(io::ErrorKind::TimedOut.into()))
    })
    .await
}

/// A UDP socket.
#[derive(Debug)]
pub struct Datagrams(Async<UdpSocket>);

impl DnsUdpSocket for Datagrams {
    type Time = Clock;

    fn poll_recv_from(
        &self,
        cx: &mut Context<'_>,
        buffer: &mut [u8],
    ) -> Poll<io::Result<(usize, SocketAddr)>> {
        loop {
            match self.0.get_ref().recv_from(buffer) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    ready!(self.0.poll_readable(cx))?;
                }
                result => return Poll::Ready(result),
            }
        }
    }

    fn poll_send_to(
        &self,
        cx: &mut Context<'_>,
        datagram: &[u8],
        to: SocketAddr,
    ) -> Poll<io::Result<usize>> {
        loop {
            match self.0.get_ref().send_to(datagram, to) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    ready!(self.0.poll_writable(cx))?;
                }
                result => return Poll::Ready(result),
            }
        }
    }
}

/// A TCP connection to a name server.
#[derive(Debug)]
pub struct ByteStream(Async<TcpStream>);

impl DnsTcpStream for ByteStream {
    type Time = Clock;
}

impl AsyncRead for ByteStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_read(cx, buffer)
    }
}

impl AsyncWrite for ByteStream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write_vectored(cx, slices)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }

    fn poll_close(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_close(cx)
    }
}

#[cfg(test)]
mod tests;
