//! hyper's server and client over memory: no sockets, no runtime, no time.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::convert::Infallible;
use std::future::Future;
use std::io;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use http_body_util::{BodyExt as _, Empty};
use hyper::body::Incoming;
use hyper::http::{HeaderMap, Uri};
use hyper::rt::ReadBufCursor;
use hyper::service::service_fn;
use hyper::{Request, Response};

use super::{Field, Kind, Message, Order, Reader, Reading, Start};

/// How hyper reads.
pub const READER: Reader<'static> = Reader { name: "hyper", order: Order::ByName, target };

/// A target as hyper's own type writes it.
fn target(target: &[u8]) -> Vec<u8> {
    match Uri::try_from(target) {
        Ok(uri) => uri.to_string().into_bytes(),
        Err(_) => target.to_vec(),
    }
}

/// Fields that it has room for, and bytes: not less than we have.
const FIELDS: usize = 300;
const BYTES: usize = 1 << 20;

/// Polls without anything happening after which nothing will.
const IDLE: usize = 20;

/// What hyper makes of messages: requests, or responses of which each is sent when it is asked for.
pub fn read(kind: Kind, messages: &[&[u8]]) -> Reading {
    match kind {
        Kind::Request | Kind::Redirected => read_requests(&messages.concat()),
        Kind::Response(_) => {
            let messages: Vec<&[u8]> =
                messages.iter().copied().filter(|message| !message.is_empty()).collect();
            read_responses(kind, &messages)
        }
    }
}

fn read_requests(bytes: &[u8]) -> Reading {
    let pipe = Pipe::new([bytes.to_vec()].into(), false);
    let reading = Rc::new(RefCell::new(Reading::default()));
    let service = service_fn(|request: Request<Incoming>| {
        let reading = Rc::clone(&reading);
        async move {
            let (head, body) = request.into_parts();
            let method = head.method.as_str().as_bytes().to_vec();
            let start = Start::Request(method, head.uri.to_string().into_bytes());
            match message(start, &head.headers, body).await {
                Ok(message) => reading.borrow_mut().messages.push(message),
                Err(error) => reading.borrow_mut().error = Some(describe(&error)),
            }
            Ok::<_, Infallible>(Response::new(Empty::<Bytes>::new()))
        }
    });
    let mut builder = hyper::server::conn::http1::Builder::new();
    builder.half_close(true).header_read_timeout(None).auto_date_header(false);
    builder.max_headers(FIELDS).max_buf_size(BYTES);
    let connection = builder.serve_connection(pipe.clone(), service);
    if let Some(Err(error)) = drive(&pipe, pin!(connection)) {
        reading.borrow_mut().error.get_or_insert_with(|| describe(&error));
    }
    reading.take()
}

fn read_responses(kind: Kind, messages: &[&[u8]]) -> Reading {
    let pipe = Pipe::new(messages.iter().map(|bytes| bytes.to_vec()).collect(), true);
    let reading = Rc::new(RefCell::new(Reading::default()));
    let run = async {
        let mut builder = hyper::client::conn::http1::Builder::new();
        builder.max_headers(FIELDS).max_buf_size(BYTES);
        let (mut sender, connection) = builder.handshake(pipe.clone()).await?;
        let mut connection = pin!(connection);
        let asking = async {
            for _ in messages {
                sender.ready().await?;
                pipe.0.borrow_mut().asked = true;
                let response = sender.send_request(ask(kind)).await?;
                let (head, body) = response.into_parts();
                let start = Start::Response(head.status.as_u16());
                let message = message(start, &head.headers, body).await?;
                reading.borrow_mut().messages.push(message);
            }
            Ok::<_, hyper::Error>(())
        };
        let mut asking = pin!(asking);
        let mut is_over = false;
        std::future::poll_fn(|context| {
            if let Poll::Ready(result) = asking.as_mut().poll(context) {
                return Poll::Ready(result);
            }
            // What was read before the connection was over may still be on its way.
            is_over = is_over || connection.as_mut().poll(context).is_ready();
            Poll::Pending
        })
        .await
    };
    if let Some(Err(error)) = drive(&pipe, pin!(run)) {
        reading.borrow_mut().error = Some(describe(&error));
    }
    reading.take()
}

fn ask(kind: Kind) -> Request<Empty<Bytes>> {
    let uri = if kind.answers() == "CONNECT" { "a.example:80" } else { "/" };
    let builder = Request::builder().method(kind.answers()).uri(uri).header("host", "a.example");
    builder.body(Empty::new()).expect("a good request")
}

async fn message(
    start: Start,
    headers: &HeaderMap,
    mut body: Incoming,
) -> Result<Message, hyper::Error> {
    let mut message =
        Message { start, fields: fields(headers), body: Vec::new(), trailers: Vec::new() };
    while let Some(frame) = body.frame().await {
        let frame = frame?;
        if let Some(data) = frame.data_ref() {
            message.body.extend_from_slice(data);
        } else if let Some(trailers) = frame.trailers_ref() {
            message.trailers = fields(trailers);
        }
    }
    Ok(message)
}

fn fields(headers: &HeaderMap) -> Vec<Field> {
    let fields = headers.iter();
    fields.map(|(name, value)| (name.as_str().into(), value.as_bytes().to_vec())).collect()
}

/// An error with what caused it.
fn describe(error: &hyper::Error) -> String {
    let mut text = error.to_string();
    let mut cause = std::error::Error::source(error);
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}

/// Polls until it is ready, or nothing happens any more.
fn drive<F: Future>(pipe: &Pipe, mut future: Pin<&mut F>) -> Option<F::Output> {
    let mut context = Context::from_waker(Waker::noop());
    let (mut moved, mut idle) = (0, 0);
    while idle < IDLE {
        if let Poll::Ready(output) = future.as_mut().poll(&mut context) {
            return Some(output);
        }
        let now = pipe.0.borrow().moved;
        idle = if now == moved { idle + 1 } else { 0 };
        moved = now;
    }
    None
}

/// The far end of a connection.
#[derive(Clone)]
struct Pipe(Rc<RefCell<Far>>);

struct Far {
    /// What is sent, in order; the end of the connection follows.
    messages: VecDeque<Vec<u8>>,
    /// What can be read now.
    available: Vec<u8>,
    /// A request is on its way: when it comes, the next message is sent.
    asked: bool,
    /// Bytes that were read or written.
    moved: usize,
}

impl Pipe {
    /// Messages that are sent at once, or each when it is asked for.
    fn new(mut messages: VecDeque<Vec<u8>>, on_request: bool) -> Self {
        let available = if on_request { None } else { messages.pop_front() };
        let available = available.unwrap_or_default();
        Pipe(Rc::new(RefCell::new(Far { messages, available, asked: false, moved: 0 })))
    }
}

impl hyper::rt::Read for Pipe {
    fn poll_read(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
        mut buf: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        let mut far = self.0.borrow_mut();
        if far.available.is_empty() && !far.messages.is_empty() {
            return Poll::Pending;
        }
        let n = far.available.len().min(buf.remaining());
        buf.put_slice(&far.available[..n]);
        far.available.drain(..n);
        far.moved += n;
        Poll::Ready(Ok(()))
    }
}

impl hyper::rt::Write for Pipe {
    fn poll_write(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        let mut far = self.0.borrow_mut();
        far.moved += buf.len();
        if std::mem::take(&mut far.asked)
            && let Some(next) = far.messages.pop_front()
        {
            far.available.extend(next);
        }
        Poll::Ready(Ok(buf.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}
