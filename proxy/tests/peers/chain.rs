//! Two proxies, between them HTTP/2: what streams from a client of HTTP/1 to an app of HTTP/1 and
//! back arrives piece by piece, whole, and does not pile up on the way.

use std::convert::Infallible;
use std::net::SocketAddr;

use http_body_util::channel::{Channel, Sender};
use http_body_util::{BodyExt as _, Empty};
use hyper::body::{Bytes, Incoming};
use hyper::client::conn::http1;
use hyper::header::{CONTENT_TYPE, HOST, HeaderMap, HeaderName, HeaderValue, TE, TRAILER};
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;

use crate::common::{App, PATIENCE, Proxy, full, on_a_runtime, tell};

use super::http2::violations;

/// What must be true of both afterwards.
pub(super) fn check(proxies: &[Proxy; 2]) {
    assert_eq!(proxies.each_ref().map(violations), [0, 0]);
    let heard = proxies[1].metric("inbound_tcp_detect_http_results_total{result=\"http/2\"}");
    assert!(heard > 0, "they do not speak HTTP/2 to each other");
    for proxy in proxies {
        let peak = proxy.memory("VmHWM");
        // A build for tests takes 15 MB before its first request.
        assert!(peak < 32 << 20, "{peak} bytes");
    }
}

async fn connect<B>(to: SocketAddr) -> http1::SendRequest<B>
where
    B: hyper::body::Body<Data = Bytes> + Send + 'static,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let stream = TcpStream::connect(to).await.expect("cannot connect");
    let (sender, connection) = http1::handshake(TokioIo::new(stream)).await.expect("no handshake");
    tokio::spawn(connection);
    sender
}

/// An app that answers every request with a stream of events, which `feeds` tells how to send.
async fn events(listener: TcpListener, feeds: mpsc::Sender<Sender<Bytes, Infallible>>) {
    while let Ok((stream, _)) = listener.accept().await {
        let feeds = feeds.clone();
        tokio::spawn(async move {
            let service = service_fn(move |_: Request<Incoming>| {
                let feeds = feeds.clone();
                async move {
                    let (feed, body) = Channel::new(1);
                    feeds.send(feed).await.expect("the test is over");
                    let mut response = Response::new(body);
                    let kind = HeaderValue::from_static("text/event-stream");
                    response.headers_mut().insert(CONTENT_TYPE, kind);
                    Ok::<_, Infallible>(response)
                }
            });
            let server = hyper::server::conn::http1::Builder::new();
            let _ = server.serve_connection(TokioIo::new(stream), service).await;
        });
    }
}

/// Every event is sent when the one before was read: whoever waits for more waits for ever.
#[test]
fn server_sent_events_arrive_one_by_one() {
    let runtime = tokio::runtime::Runtime::new().expect("no runtime");
    let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0")).expect("cannot listen");
    let proxies = Proxy::chain("app.test", listener.local_addr().expect("no address"));
    let (feeds, mut wanted) = mpsc::channel(1);
    runtime.spawn(events(listener, feeds));
    let to = proxies[0].outbound();
    on_a_runtime(PATIENCE, async {
        for count in [1, 1_000] {
            let mut sender = connect(to).await;
            let request = Request::get("/events").header(HOST, "app.test");
            let request = request.body(Empty::<Bytes>::new()).expect("a good request");
            let response = sender.send_request(request).await.expect("no response");
            assert_eq!(response.headers()[CONTENT_TYPE], "text/event-stream");
            let mut feed = wanted.recv().await.expect("the app is gone");
            let mut body = response.into_body();
            for number in 0..count {
                let event = format!("id: {number}\ndata: {}\n\n", "x".repeat(number % 100));
                feed.send_data(event.clone().into()).await.expect("nobody reads");
                let mut got = Vec::new();
                while got.len() < event.len() {
                    let frame = body.frame().await.expect("an early end").expect("an error");
                    got.extend_from_slice(&frame.into_data().expect("no data"));
                }
                assert_eq!(got, event.as_bytes());
            }
            if count == 1 {
                // The client goes away, and the app gets to know.
                drop((body, sender));
                while feed.send_data(Bytes::from_static(b": still there?\n\n")).await.is_ok() {
                    tokio::time::sleep(std::time::Duration::from_millis(5)).await;
                }
            } else {
                drop(feed);
                assert!(body.frame().await.is_none(), "more than was sent");
            }
        }
    });
    check(&proxies);
}

/// What gRPC is on HTTP/1: framed messages both ways at once, and a status in the trailers.
#[test]
fn a_stream_of_grpc_messages_passes_unchanged() {
    let app = App::start("the app");
    let proxies = Proxy::chain("app.test", app.addr);
    let (count, size) = (if full() { 1 << 14 } else { 1 << 8 }, 1 << 16);
    on_a_runtime(10 * PATIENCE, async {
        let (mut feed, body) = Channel::<Bytes, Infallible>::new(1);
        let request = Request::post("/echo")
            .header(HOST, "app.test")
            .header(CONTENT_TYPE, "application/grpc")
            .header(TE, "trailers")
            .header(TRAILER, "grpc-status")
            .body(body)
            .expect("a good request");
        let writer = tokio::spawn(async move {
            for number in 0..count {
                feed.send_data(message(number, size)).await.expect("nobody reads");
            }
            let status = HeaderName::from_static("grpc-status");
            let trailers = HeaderMap::from_iter([(status, HeaderValue::from_static("0"))]);
            feed.send_trailers(trailers).await.expect("nobody reads");
        });
        let mut sender = connect(proxies[0].outbound()).await;
        let response = sender.send_request(request).await.expect("no response");
        assert_eq!(response.status(), StatusCode::OK);
        let mut body = response.into_body();
        let (mut number, mut rest) = (0, Bytes::new());
        let mut trailers = None;
        while let Some(frame) = body.frame().await {
            let frame = frame.expect("an error");
            if frame.is_trailers() {
                trailers = frame.into_trailers().ok();
                continue;
            }
            let mut data = frame.into_data().expect("no data");
            while !data.is_empty() {
                if rest.is_empty() {
                    rest = message(number, size);
                    number += 1;
                }
                let length = rest.len().min(data.len());
                assert!(rest.split_to(length) == data.split_to(length), "message {number}");
            }
        }
        assert_eq!((number, rest.len()), (count, 0));
        assert_eq!(trailers.expect("no trailers")["grpc-status"], "0");
        writer.await.expect("the writer failed");
    });
    let peaks = proxies.each_ref().map(|proxy| proxy.memory("VmHWM"));
    tell(&format!("1→2→1, {} MiB each way: peaks of {peaks:?} bytes", (count * size) >> 20));
    check(&proxies);
}

/// The message of that number, framed: no two neighbours are the same.
fn message(number: usize, size: usize) -> Bytes {
    let mut bytes = vec![(number % 251) as u8; 5 + size];
    bytes[0] = 0;
    bytes[1..5].copy_from_slice(&(size as u32).to_be_bytes());
    bytes[5..13].copy_from_slice(&(number as u64).to_be_bytes());
    bytes.into()
}
