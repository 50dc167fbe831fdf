//! A tonic server on a thread of its own, and what its clients need: bytes in, bytes out, without
//! generated code.

use std::convert::Infallible;
use std::future::Future;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::thread::JoinHandle;
use std::time::Duration;

use bytes::{Buf as _, BufMut as _, Bytes};
use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tokio_stream::Stream;
use tokio_stream::wrappers::TcpListenerStream;
use tonic::codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder};
use tonic::codegen::http;
use tonic::server::{
    ClientStreamingService, Grpc, ServerStreamingService, StreamingService, UnaryService,
};
use tonic::{Request, Response, Status, Streaming};

/// Messages are bytes.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Raw;

impl Codec for Raw {
    type Encode = Bytes;
    type Decode = Bytes;
    type Encoder = Raw;
    type Decoder = Raw;

    fn encoder(&mut self) -> Raw {
        Raw
    }

    fn decoder(&mut self) -> Raw {
        Raw
    }
}

impl Encoder for Raw {
    type Item = Bytes;
    type Error = Status;

    fn encode(&mut self, message: Bytes, out: &mut EncodeBuf<'_>) -> Result<(), Status> {
        out.put(message);
        Ok(())
    }
}

impl Decoder for Raw {
    type Item = Bytes;
    type Error = Status;

    fn decode(&mut self, message: &mut DecodeBuf<'_>) -> Result<Option<Bytes>, Status> {
        Ok(Some(message.copy_to_bytes(message.remaining())))
    }
}

/// A tonic server with one method for every kind of call. It ends when this is dropped.
pub(crate) struct GrpcApp {
    pub(crate) addr: SocketAddr,
    cancelled: Arc<AtomicUsize>,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl GrpcApp {
    pub(crate) fn start() -> Self {
        let (stop, stopped) = oneshot::channel();
        let (told, addr) = std::sync::mpsc::channel();
        let echo = Echo::default();
        let cancelled = Arc::clone(&echo.cancelled);
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            runtime.expect("no runtime").block_on(async {
                let listener = TcpListener::bind("127.0.0.1:0").await.expect("cannot listen");
                told.send(listener.local_addr().expect("no address")).expect("nobody waits");
                let server = tonic::transport::Server::builder();
                // Either it ends by itself, which it does not, or by the word of its owner.
                let incoming = TcpListenerStream::new(listener);
                tokio::select! {
                    _ = server.serve_with_incoming(echo, incoming) => {}
                    _ = stopped => {}
                }
            });
        });
        let addr = addr.recv().expect("the app did not start");
        GrpcApp { addr, cancelled, stop: Some(stop), thread: Some(thread) }
    }

    /// Calls of `Slow` that ended before they had an answer.
    pub(crate) fn cancelled(&self) -> usize {
        self.cancelled.load(Ordering::Acquire)
    }
}

impl Drop for GrpcApp {
    fn drop(&mut self) {
        if let Some(stop) = self.stop.take() {
            let _ = stop.send(());
        }
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// The service `test.Echo`.
#[derive(Clone, Default)]
struct Echo {
    cancelled: Arc<AtomicUsize>,
}

type Later<T> = Pin<Box<dyn Future<Output = T> + Send>>;
type Answer = Result<Response<Bytes>, Status>;
type Messages = Pin<Box<dyn Stream<Item = Result<Bytes, Status>> + Send>>;
type Answers = Result<Response<Messages>, Status>;

impl<B> tower_service::Service<http::Request<B>> for Echo
where
    B: http_body::Body + Send + 'static,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>> + Send + 'static,
{
    type Response = http::Response<tonic::body::Body>;
    type Error = Infallible;
    type Future = Later<Result<Self::Response, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<B>) -> Self::Future {
        let echo = self.clone();
        Box::pin(async move {
            let most = 5 << 20;
            let mut grpc = Grpc::new(Raw).max_decoding_message_size(most);
            Ok(match request.uri().path() {
                "/test.Echo/Unary" => grpc.unary(Unary, request).await,
                "/test.Echo/Fail" => grpc.unary(Fail, request).await,
                "/test.Echo/Slow" => grpc.unary(Slow(echo.cancelled), request).await,
                "/test.Echo/Down" => grpc.server_streaming(Down, request).await,
                "/test.Echo/Up" => grpc.client_streaming(Up, request).await,
                "/test.Echo/Both" => grpc.streaming(Both, request).await,
                path => Status::unimplemented(path).into_http(),
            })
        })
    }
}

/// Its own message back, and `x-call` as `x-seen`.
struct Unary;

impl UnaryService<Bytes> for Unary {
    type Response = Bytes;
    type Future = Later<Answer>;

    fn call(&mut self, request: Request<Bytes>) -> Self::Future {
        let seen = request.metadata().get("x-call").cloned();
        let mut response = Response::new(request.into_inner());
        if let Some(seen) = seen {
            response.metadata_mut().insert("x-seen", seen);
        }
        Box::pin(async move { Ok(response) })
    }
}

/// Trailers only.
struct Fail;

impl UnaryService<Bytes> for Fail {
    type Response = Bytes;
    type Future = Later<Answer>;

    fn call(&mut self, _: Request<Bytes>) -> Self::Future {
        Box::pin(async { Err(Status::failed_precondition("not today: ä %")) })
    }
}

/// Answers never; counts how often nobody waited for that any more.
struct Slow(Arc<AtomicUsize>);

impl UnaryService<Bytes> for Slow {
    type Response = Bytes;
    type Future = Later<Answer>;

    fn call(&mut self, _: Request<Bytes>) -> Self::Future {
        struct Count(Arc<AtomicUsize>);
        impl Drop for Count {
            fn drop(&mut self) {
                self.0.fetch_add(1, Ordering::AcqRel);
            }
        }
        let count = Count(Arc::clone(&self.0));
        Box::pin(async move {
            let _count = count;
            tokio::time::sleep(Duration::from_hours(1)).await;
            Ok(Response::new(Bytes::new()))
        })
    }
}

/// Asked for `COUNT SIZE`: so many messages of that size, see [`message`].
struct Down;

impl ServerStreamingService<Bytes> for Down {
    type Response = Bytes;
    type ResponseStream = Messages;
    type Future = Later<Answers>;

    fn call(&mut self, request: Request<Bytes>) -> Self::Future {
        let text = String::from_utf8_lossy(request.get_ref()).into_owned();
        Box::pin(async move {
            let (count, size) = text.split_once(' ').ok_or(Status::invalid_argument("no size"))?;
            let number = |text: &str| {
                text.parse::<usize>().map_err(|error| Status::invalid_argument(error.to_string()))
            };
            let (count, size) = (number(count)?, number(size)?);
            let messages = (0..count).map(move |index| Ok(message(index, size)));
            Ok(Response::new(Box::pin(tokio_stream::iter(messages)) as Messages))
        })
    }
}

/// The message of that number: no two neighbours are the same.
pub(crate) fn message(index: usize, size: usize) -> Bytes {
    let mut bytes = vec![(index % 251) as u8; size];
    let number = (index as u64).to_be_bytes();
    let head = size.min(number.len());
    bytes[..head].copy_from_slice(&number[..head]);
    bytes.into()
}

/// How many messages and bytes it got.
struct Up;

impl ClientStreamingService<Bytes> for Up {
    type Response = Bytes;
    type Future = Later<Answer>;

    fn call(&mut self, request: Request<Streaming<Bytes>>) -> Self::Future {
        Box::pin(async move {
            let (mut messages, mut count, mut bytes) = (request.into_inner(), 0, 0);
            while let Some(message) = messages.message().await? {
                count += 1;
                bytes += message.len();
            }
            Ok(Response::new(format!("{count} {bytes}").into()))
        })
    }
}

/// Each message back, as it comes.
struct Both;

impl StreamingService<Bytes> for Both {
    type Response = Bytes;
    type ResponseStream = Messages;
    type Future = Later<Answers>;

    fn call(&mut self, request: Request<Streaming<Bytes>>) -> Self::Future {
        Box::pin(async move { Ok(Response::new(Box::pin(request.into_inner()) as Messages)) })
    }
}
