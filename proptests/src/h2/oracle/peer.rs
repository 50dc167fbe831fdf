//! The `h2` crate, driven by hand: no runtime, no sockets.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use h2::client::{self, ResponseFuture, SendRequest};
use h2::server::{self, SendResponse};
use h2::{Reason, RecvStream, SendStream};
use http::{Request, Response};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::{Meaning, Stream, header_lines, note_sent};
use crate::h2::notation::Action;

/// What it reads and writes.
#[derive(Clone, Debug, Default)]
struct Pipe(Rc<RefCell<Buffers>>);

#[derive(Debug, Default)]
struct Buffers {
    input: Vec<u8>,
    output: Vec<u8>,
}

impl AsyncRead for Pipe {
    fn poll_read(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let input = &mut self.0.borrow_mut().input;
        if input.is_empty() {
            return Poll::Pending;
        }
        let n = input.len().min(buf.remaining());
        buf.put_slice(&input[..n]);
        input.drain(..n);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Pipe {
    fn poll_write(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.0.borrow_mut().output.extend_from_slice(bytes);
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

enum Side {
    Greeting(Box<server::Handshake<Pipe, Bytes>>),
    Server(Box<server::Connection<Pipe, Bytes>>),
    Client(Box<client::Connection<Pipe, Bytes>>, SendRequest<Bytes>),
    Over,
}

/// What is kept of a stream, so that nothing is reset because it was dropped.
#[derive(Default)]
struct Handles {
    answer: Option<SendResponse<Bytes>>,
    response: Option<ResponseFuture>,
    send: Option<SendStream<Bytes>>,
    recv: Option<RecvStream>,
    /// All data was read, trailers were not.
    data_done: bool,
}

/// One end.
pub(super) struct Peer {
    side: Side,
    pipe: Pipe,
    handles: BTreeMap<u32, Handles>,
    streams: BTreeMap<u32, Stream>,
    /// Streams that the script resets.
    reset: Vec<u32>,
    failed: bool,
}

const WINDOW: u32 = 16 * 1024;
const CONNECTION_WINDOW: u32 = 1 << 20;

impl Peer {
    /// A server, with the limits of ours.
    pub(super) fn server() -> Self {
        let pipe = Pipe::default();
        let handshake = server::Builder::new()
            .initial_window_size(WINDOW)
            .initial_connection_window_size(CONNECTION_WINDOW)
            .max_concurrent_streams(1024)
            .max_header_list_size(64 * 1024)
            .handshake(pipe.clone());
        Self::new(Side::Greeting(Box::new(handshake)), pipe)
    }

    /// A client, with the limits of ours.
    pub(super) fn client() -> Self {
        let pipe = Pipe::default();
        let mut handshake = Box::pin(
            client::Builder::new()
                .initial_window_size(WINDOW)
                .initial_connection_window_size(CONNECTION_WINDOW)
                .enable_push(false)
                .max_header_list_size(64 * 1024)
                .handshake(pipe.clone()),
        );
        let side = match handshake.as_mut().poll(&mut context()) {
            Poll::Ready(Ok((send, connection))) => Side::Client(Box::new(connection), send),
            _ => Side::Over,
        };
        drop(handshake);
        Self::new(side, pipe)
    }

    fn new(side: Side, pipe: Pipe) -> Self {
        let mut peer = Peer {
            side,
            pipe,
            handles: BTreeMap::new(),
            streams: BTreeMap::new(),
            reset: Vec::new(),
            failed: false,
        };
        peer.pump();
        peer
    }

    pub(super) fn receive(&mut self, bytes: &[u8]) {
        self.pipe.0.borrow_mut().input.extend_from_slice(bytes);
        self.pump();
    }

    /// Does what the script says that we do; `None` if it cannot.
    pub(super) fn act(&mut self, action: &Action) -> Option<()> {
        match action {
            Action::Ask(head, end) => self.ask(head, *end)?,
            Action::Respond(id, head, true) => {
                let status = std::str::from_utf8(head).ok()?.split(' ').nth(1)?;
                let response = Response::builder().status(status).body(()).ok()?;
                let answer = self.handles.get_mut(id)?.answer.as_mut()?;
                drop(answer.send_response(response, true));
            }
            Action::Reset(id, code) => {
                self.reset.push(*id);
                let handles = self.handles.get_mut(id)?;
                let reason = Reason::from(*code);
                if let Some(answer) = &mut handles.answer {
                    answer.send_reset(reason);
                } else {
                    handles.send.as_mut()?.send_reset(reason);
                }
            }
            _ => return None,
        }
        self.pump();
        Some(())
    }

    fn ask(&mut self, head: &[u8], end: bool) -> Option<()> {
        let text = std::str::from_utf8(head).ok()?;
        let method = text.split(' ').next()?;
        let uri = if method == "CONNECT" { "a.example:443" } else { "http://a.example/" };
        let mut request = Request::builder().method(method).uri(uri);
        for line in text.lines().skip(2).take_while(|line| !line.is_empty()) {
            let (name, value) = line.split_once(": ")?;
            if !name.eq_ignore_ascii_case("transfer-encoding") {
                request = request.header(name, value);
            }
        }
        let Side::Client(_, sender) = &mut self.side else { return None };
        let Poll::Ready(Ok(())) = sender.poll_ready(&mut context()) else { return None };
        let (response, send) = sender.send_request(request.body(()).ok()?, end).ok()?;
        let id = u32::from(response.stream_id());
        let handles = Handles { response: Some(response), send: Some(send), ..Handles::default() };
        self.handles.insert(id, handles);
        Some(())
    }

    /// Lets it work until nothing moves.
    fn pump(&mut self) {
        for _ in 0..8 {
            self.drive();
            let ids: Vec<u32> = self.handles.keys().copied().collect();
            for id in ids {
                self.read(id);
            }
        }
    }

    fn drive(&mut self) {
        let mut cx = context();
        loop {
            match &mut self.side {
                Side::Greeting(handshake) => match Pin::new(handshake).poll(&mut cx) {
                    Poll::Ready(Ok(connection)) => self.side = Side::Server(Box::new(connection)),
                    Poll::Ready(Err(_)) => self.fail(),
                    Poll::Pending => return,
                },
                Side::Server(connection) => match connection.poll_accept(&mut cx) {
                    Poll::Ready(Some(Ok((request, answer)))) => self.accept(request, answer),
                    Poll::Ready(Some(Err(_))) => self.fail(),
                    Poll::Ready(None) => self.side = Side::Over,
                    Poll::Pending => return,
                },
                Side::Client(connection, _) => match Pin::new(connection).poll(&mut cx) {
                    Poll::Ready(result) => {
                        self.failed |= result.is_err();
                        self.side = Side::Over;
                    }
                    Poll::Pending => return,
                },
                Side::Over => return,
            }
        }
    }

    fn fail(&mut self) {
        self.failed = true;
        self.side = Side::Over;
    }

    fn accept(&mut self, request: Request<RecvStream>, answer: SendResponse<Bytes>) {
        let id = u32::from(answer.stream_id());
        let (parts, body) = request.into_parts();
        let authority = parts.uri.authority().map(|authority| authority.as_str().to_owned());
        let target = match &authority {
            Some(authority) if parts.method == "CONNECT" => authority.clone(),
            _ => parts.uri.path_and_query().map_or(String::new(), |path| path.as_str().to_owned()),
        };
        let mut headers = parts.headers;
        if let Some(Ok(host)) = authority.map(|authority| authority.parse()) {
            headers.insert("host", host);
        }
        let head = header_lines(&format!("{} {target}", parts.method), &headers);
        self.streams.entry(id).or_default().head = Some(head);
        let handles = Handles { answer: Some(answer), recv: Some(body), ..Handles::default() };
        self.handles.insert(id, handles);
    }

    /// Takes what has come of a message.
    fn read(&mut self, id: u32) {
        let mut cx = context();
        let Some(handles) = self.handles.get_mut(&id) else { return };
        if let Some(response) = &mut handles.response {
            match Pin::new(response).poll(&mut cx) {
                Poll::Ready(Ok(response)) => {
                    let (parts, body) = response.into_parts();
                    let head = header_lines(parts.status.as_str(), &parts.headers);
                    self.streams.entry(id).or_default().head = Some(head);
                    handles.recv = Some(body);
                    handles.response = None;
                }
                Poll::Ready(Err(error)) => {
                    handles.response = None;
                    note_error(self.streams.entry(id).or_default(), &error);
                }
                Poll::Pending => {}
            }
        }
        let Some(recv) = &mut handles.recv else { return };
        while !handles.data_done {
            match recv.poll_data(&mut cx) {
                Poll::Ready(Some(Ok(data))) => {
                    self.streams.entry(id).or_default().body.extend_from_slice(&data);
                }
                Poll::Ready(None) => handles.data_done = true,
                // It stays broken.
                Poll::Ready(Some(Err(error))) => {
                    handles.recv = None;
                    note_error(self.streams.entry(id).or_default(), &error);
                    return;
                }
                Poll::Pending => return,
            }
        }
        match recv.poll_trailers(&mut cx) {
            Poll::Ready(Ok(trailers)) => {
                let stream = self.streams.entry(id).or_default();
                stream.trailers = trailers.map(|trailers| header_lines("", &trailers));
                stream.end = true;
                handles.recv = None;
            }
            Poll::Ready(Err(error)) => {
                handles.recv = None;
                note_error(self.streams.entry(id).or_default(), &error);
            }
            Poll::Pending => {}
        }
    }

    pub(super) fn meaning(&mut self) -> Meaning {
        self.pump();
        let mut meaning = Meaning { streams: self.streams.clone(), ..Meaning::default() };
        note_sent(&mut meaning, &self.pipe.0.borrow().output, self.failed);
        if self.failed && meaning.dead.is_none() {
            // It closed without a word.
            meaning.dead = Some(u32::MAX);
        }
        meaning
    }
}

/// A stream that it gave up, whether it had to say so or not.
fn note_error(stream: &mut Stream, error: &h2::Error) {
    if let Some(reason) = error.reason().filter(|_| error.is_library()) {
        stream.broken.get_or_insert(reason.into());
    }
}

fn context() -> Context<'static> {
    Context::from_waker(Waker::noop())
}
