//! The same calls through the `h2` crate, polled by hand.

use std::cell::RefCell;
use std::future::Future;
use std::io;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use bytes::{Bytes, BytesMut};
use h2::RecvStream;
use h2::client::{self, ResponseFuture};
use h2::server::{self, SendResponse};
use http::{HeaderMap, Request, Response};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::ours::{CONCURRENT, MESSAGE};

/// Half of a connection in memory: what one side writes the other reads.
struct Pipe {
    input: Rc<RefCell<BytesMut>>,
    output: Rc<RefCell<BytesMut>>,
}

impl AsyncRead for Pipe {
    fn poll_read(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let mut input = self.input.borrow_mut();
        if input.is_empty() {
            return Poll::Pending;
        }
        let n = input.len().min(buf.remaining());
        buf.put_slice(&input[..n]);
        // Keeps the capacity: a pipe of the kernel does not allocate either.
        input.copy_within(n.., 0);
        let left = input.len() - n;
        input.truncate(left);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Pipe {
    fn poll_write(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.output.borrow_mut().extend_from_slice(bytes);
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let mut output = self.output.borrow_mut();
        for slice in slices {
            output.extend_from_slice(slice);
        }
        Poll::Ready(Ok(slices.iter().map(|slice| slice.len()).sum()))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

/// A future that has all it needs.
fn now<F: Future>(future: F) -> F::Output {
    match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(output) => output,
        Poll::Pending => panic!("it waits for something"),
    }
}

/// Reads a body to its end, and gives its credit back.
fn drain(body: &mut RecvStream) -> bool {
    let mut cx = Context::from_waker(Waker::noop());
    while let Poll::Ready(data) = body.poll_data(&mut cx) {
        let Some(data) = data else { return true };
        let n = data.expect("data").len();
        body.flow_control().release_capacity(n).expect("credit");
    }
    false
}

fn answer(answer: &mut SendResponse<Bytes>) {
    let response = Response::builder().header("content-type", "application/grpc");
    let mut body =
        answer.send_response(response.body(()).expect("a response"), false).expect("sent");
    body.send_data(Bytes::from_static(&MESSAGE), false).expect("sent");
    let mut trailers = HeaderMap::new();
    trailers.insert("grpc-status", "0".parse().expect("a value"));
    trailers.insert("grpc-message", "".parse().expect("a value"));
    body.send_trailers(trailers).expect("sent");
}

fn request() -> Request<()> {
    Request::post("http://greeter.example:80/helloworld.Greeter/SayHello")
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .header("user-agent", "grpc-go/1.60.0")
        .header("grpc-accept-encoding", "gzip")
        .body(())
        .expect("a request")
}

/// Makes so many calls, to the next multiple of [`CONCURRENT`]; how many were answered.
pub(crate) fn run(count: usize) -> usize {
    let mut cx = Context::from_waker(Waker::noop());
    let (up, down) = (Rc::new(RefCell::default()), Rc::new(RefCell::default()));
    let pipe = Pipe { input: Rc::clone(&down), output: Rc::clone(&up) };
    let (mut sender, mut connection) = now(client::handshake(pipe)).expect("a connection");
    let mut greeting = pin!(server::handshake(Pipe { input: up, output: down }));
    assert!(Pin::new(&mut connection).poll(&mut cx).is_pending());
    let Poll::Ready(Ok(mut server)) = greeting.as_mut().poll(&mut cx) else {
        panic!("no greeting")
    };
    let mut answered = 0;
    while answered < count {
        let mut waiting: Vec<ResponseFuture> = Vec::with_capacity(CONCURRENT);
        for _ in 0..CONCURRENT {
            let Poll::Ready(Ok(())) = sender.poll_ready(&mut cx) else { panic!("no room") };
            let (response, mut body) = sender.send_request(request(), false).expect("sent");
            body.send_data(Bytes::from_static(&MESSAGE), true).expect("sent");
            waiting.push(response);
        }
        assert!(Pin::new(&mut connection).poll(&mut cx).is_pending());
        while let Poll::Ready(accepted) = server.poll_accept(&mut cx) {
            let (request, mut respond) = accepted.expect("open").expect("a request");
            assert!(drain(&mut request.into_body()), "the whole body");
            answer(&mut respond);
        }
        assert!(Pin::new(&mut connection).poll(&mut cx).is_pending());
        for response in waiting {
            let mut body = now(response).expect("a response").into_body();
            assert!(drain(&mut body), "the whole body");
            let Poll::Ready(Ok(Some(_))) = body.poll_trailers(&mut cx) else { panic!("trailers") };
            answered += 1;
        }
    }
    answered
}
