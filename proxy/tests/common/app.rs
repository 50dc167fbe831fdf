//! A hyper server on a thread of its own, for HTTP/1 and for HTTP/2 by preface.

use std::convert::Infallible;
use std::error::Error;
use std::fmt::Write as _;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use http_body_util::channel::Channel;
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt as _, Full};
use hyper::body::{Bytes, Incoming};
use hyper::header::{CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue, TRAILER};
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use tokio::net::TcpListener;
use tokio::sync::oneshot;

use super::this_thread;

type AnyError = Box<dyn Error + Send + Sync>;
type Body = BoxBody<Bytes, AnyError>;

/// A hyper server. It ends when this is dropped.
pub(crate) struct App {
    pub(crate) addr: SocketAddr,
    /// The kernel's number of its only thread.
    pub(crate) thread_id: String,
    counters: Arc<Counters>,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Default)]
struct Counters {
    requests: AtomicUsize,
    connections: AtomicUsize,
}

impl App {
    /// What it serves: see [`answer`]. `/name` is answered with `name`.
    pub(crate) fn start(name: &str) -> Self {
        let name: Arc<str> = name.into();
        let counters = Arc::new(Counters::default());
        let shared = Arc::clone(&counters);
        let (stop, stopped) = oneshot::channel();
        let (told, started) = std::sync::mpsc::channel();
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .expect("no runtime");
            runtime.block_on(async {
                let listener = TcpListener::bind("127.0.0.1:0").await;
                let listener = listener.expect("cannot listen");
                let addr = listener.local_addr().expect("no address");
                told.send((addr, this_thread())).expect("nobody waits");
                tokio::spawn(serve(listener, name, shared));
                // The runtime ends with this, and with it all that runs on it.
                let _ = stopped.await;
            });
        });
        let (addr, thread_id) = started.recv().expect("the app did not start");
        App { addr, thread_id, counters, stop: Some(stop), thread: Some(thread) }
    }

    /// Requests so far.
    pub(crate) fn requests(&self) -> usize {
        self.counters.requests.load(Ordering::Acquire)
    }

    /// Connections so far.
    pub(crate) fn connections(&self) -> usize {
        self.counters.connections.load(Ordering::Acquire)
    }
}

impl Drop for App {
    fn drop(&mut self) {
        if let Some(stop) = self.stop.take() {
            let _ = stop.send(());
        }
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

async fn serve(listener: TcpListener, name: Arc<str>, counters: Arc<Counters>) {
    loop {
        let Ok((stream, _)) = listener.accept().await else {
            tokio::time::sleep(Duration::from_millis(10)).await;
            continue;
        };
        let _ = stream.set_nodelay(true);
        counters.connections.fetch_add(1, Ordering::AcqRel);
        let (name, counters) = (Arc::clone(&name), Arc::clone(&counters));
        tokio::spawn(async move {
            let service = service_fn(move |request| {
                counters.requests.fetch_add(1, Ordering::AcqRel);
                let name = Arc::clone(&name);
                async move { Ok::<_, Infallible>(answer(&name, request).await) }
            });
            // Clients that go away early are part of the tests.
            let server = auto::Builder::new(TokioExecutor::new());
            let _ = server.serve_connection(TokioIo::new(stream), service).await;
        });
    }
}

async fn answer(name: &str, request: Request<Incoming>) -> Response<Body> {
    let path = request.uri().path().to_owned();
    let mut parts = path.trim_start_matches('/').split('/');
    let what = parts.next().unwrap_or_default();
    let mut number = || parts.next().and_then(|n| n.parse().ok()).unwrap_or(0);
    match what {
        // The name of this server, with a length.
        "name" => Response::new(full(name.to_owned())),
        // The body of the request, trailers included.
        "echo" => echo(request),
        // What arrived here: first line, fields, length of the body.
        "reflect" => reflect(request).await,
        // The name after so many milliseconds.
        "slow" => {
            tokio::time::sleep(Duration::from_millis(number())).await;
            Response::new(full(name.to_owned()))
        }
        // So many pieces, so many milliseconds apart, without a length.
        "drip" => {
            let (count, pause) = (number(), Duration::from_millis(number()));
            Response::new(pieces(count, pause))
        }
        // So many bytes, with a length.
        "bytes" => Response::new(full("x".repeat(number() as usize))),
        // So many messages of so many bytes, and gRPC's trailers.
        "messages" => {
            let count = number();
            messages(count, number() as usize)
        }
        // A body and a trailer field, `checksum`.
        "trailers" => with_trailers(),
        // Refuses a body without reading any of it.
        "refuse" => status(StatusCode::PAYLOAD_TOO_LARGE),
        _ => status(StatusCode::NOT_FOUND),
    }
}

fn status(status: StatusCode) -> Response<Body> {
    let mut response = Response::new(full(String::new()));
    *response.status_mut() = status;
    response
}

fn full(text: String) -> Body {
    Full::new(Bytes::from(text)).map_err(|never| match never {}).boxed()
}

fn echo(request: Request<Incoming>) -> Response<Body> {
    let trailer = request.headers().get(TRAILER).cloned();
    let body = request.into_body().map_err(AnyError::from).boxed();
    let mut response = Response::new(body);
    if let Some(trailer) = trailer {
        response.headers_mut().insert(TRAILER, trailer);
    }
    response
}

async fn reflect(request: Request<Incoming>) -> Response<Body> {
    let mut text = format!("{} {} {:?}\n", request.method(), request.uri(), request.version());
    for (name, value) in request.headers() {
        let _ = writeln!(text, "{name}: {}", String::from_utf8_lossy(value.as_bytes()));
    }
    match request.into_body().collect().await {
        Ok(body) => {
            let trailers = body.trailers().cloned().unwrap_or_default();
            let _ = writeln!(text, "body of {} bytes", body.to_bytes().len());
            for (name, value) in &trailers {
                let value = String::from_utf8_lossy(value.as_bytes());
                let _ = writeln!(text, "trailer {name}: {value}");
            }
        }
        Err(error) => {
            let _ = writeln!(text, "broken body: {error}");
        }
    }
    Response::new(full(text))
}

fn pieces(count: u64, pause: Duration) -> Body {
    let (mut sender, body) = Channel::<Bytes, AnyError>::new(1);
    tokio::spawn(async move {
        for index in 0..count {
            tokio::time::sleep(pause).await;
            let piece = Bytes::from(format!("piece {index}\n"));
            if sender.send_data(piece).await.is_err() {
                return;
            }
        }
    });
    body.boxed()
}

fn messages(count: u64, size: usize) -> Response<Body> {
    let (mut sender, body) = Channel::<Bytes, AnyError>::new(1);
    tokio::spawn(async move {
        let message = Bytes::from(vec![b'm'; size]);
        for _ in 0..count {
            if sender.send_data(message.clone()).await.is_err() {
                return;
            }
        }
        let status = (HeaderName::from_static("grpc-status"), HeaderValue::from_static("0"));
        let _ = sender.send_trailers(HeaderMap::from_iter([status])).await;
    });
    let mut response = Response::new(body.boxed());
    let grpc = HeaderValue::from_static("application/grpc");
    response.headers_mut().insert(CONTENT_TYPE, grpc);
    response
}

fn with_trailers() -> Response<Body> {
    let (mut sender, body) = Channel::<Bytes, AnyError>::new(2);
    tokio::spawn(async move {
        let checksum = HeaderValue::from_static("abc");
        let trailers = HeaderMap::from_iter([(HeaderName::from_static("checksum"), checksum)]);
        if sender.send_data(Bytes::from_static(b"the body\n")).await.is_ok() {
            let _ = sender.send_trailers(trailers).await;
        }
    });
    let mut response = Response::new(body.boxed());
    let names = HeaderValue::from_static("checksum");
    response.headers_mut().insert(TRAILER, names);
    response
}
