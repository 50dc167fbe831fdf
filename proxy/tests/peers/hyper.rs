//! hyper on both sides.

use std::net::SocketAddr;
use std::time::Duration;

use http_body_util::{BodyExt as _, Empty, Full};
use hyper::body::Bytes;
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper::header::{CONNECTION, HOST, HeaderMap, HeaderValue, TE, TRAILER, TRANSFER_ENCODING};
use hyper::{Method, Request, StatusCode};
use hyper_util::client::legacy::Client;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::common::{App, Mesh, PATIENCE, Proxy};

fn pair() -> (App, Proxy) {
    let app = App::start("the app");
    let proxy = Mesh::new().service("web.test", &[app.addr]).start();
    (app, proxy)
}

fn on_a_runtime(test: impl Future<Output = ()>) {
    crate::common::on_a_runtime(PATIENCE, test);
}

async fn connect<B>(to: SocketAddr) -> SendRequest<B>
where
    B: hyper::body::Body<Data = Bytes> + Send + 'static,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let stream = TcpStream::connect(to).await.expect("cannot connect");
    let (sender, connection) = handshake(TokioIo::new(stream)).await.expect("no handshake");
    tokio::spawn(connection);
    sender
}

#[test]
fn trailers_pass_both_ways() {
    let (_app, proxy) = pair();
    on_a_runtime(async {
        let mut sender = connect(proxy.outbound()).await;
        for round in 0..3 {
            let mut trailers = HeaderMap::new();
            let sum = HeaderValue::from(round);
            trailers.insert("checksum", sum.clone());
            let body = Bytes::from(vec![b'x'; 100_000 * round]);
            let length = body.len();
            let body = Full::new(body).with_trailers(async { Some(Ok(trailers)) });
            let request = Request::post("/echo")
                .header(HOST, "web.test")
                .header(TE, "trailers")
                .header(CONNECTION, "te")
                .header(TRAILER, "checksum")
                // With a length there is no place for them.
                .header(TRANSFER_ENCODING, "chunked")
                .body(body)
                .expect("a good request");
            let response = sender.send_request(request).await.expect("no response");
            assert_eq!(response.status(), StatusCode::OK);
            let body = response.into_body().collect().await.expect("no body");
            assert_eq!(body.trailers().and_then(|t| t.get("checksum")), Some(&sum));
            assert_eq!(body.to_bytes().len(), length);
        }
    });
}

#[test]
fn trailers_that_nobody_announced_reach_the_server() {
    let (_app, proxy) = pair();
    on_a_runtime(async {
        // hyper does not send what it did not announce, nor what frames or routes a message.
        let request = b"POST /reflect HTTP/1.1\r\nHost: web.test\r\nTransfer-Encoding: chunked\r\n\
            Connection: close\r\n\r\n\
            3;name=value\r\n123\r\n2\r\n45\r\n0\r\nchecksum: abc\r\ncontent-length: 3\r\n\r\n";
        let mut stream = TcpStream::connect(proxy.outbound()).await.expect("cannot connect");
        stream.write_all(request).await.expect("cannot write");
        let mut text = String::new();
        stream.read_to_string(&mut text).await.expect("cannot read");
        assert!(text.contains("body of 5 bytes\n"), "{text}");
        assert!(text.contains("trailer checksum: abc\n"), "{text}");
        assert!(!text.contains("trailer content-length"), "{text}");
    });
}

#[test]
fn many_requests_at_once_keep_their_bodies_apart() {
    let (app, proxy) = pair();
    let to = proxy.outbound();
    on_a_runtime(async {
        let client = Client::builder(TokioExecutor::new()).build_http();
        let requests = (0..200_usize).map(|index| {
            let client = client.clone();
            tokio::spawn(async move {
                // Lengths on both sides of what fits into one read.
                let body = Bytes::from(vec![b'a' + (index % 26) as u8; index * 700]);
                let request = Request::post(format!("http://{to}/echo"))
                    .header(HOST, "web.test")
                    .body(Full::new(body.clone()))
                    .expect("a good request");
                let response = client.request(request).await.expect("no response");
                assert_eq!(response.status(), StatusCode::OK);
                let echo = response.into_body().collect().await.expect("no body");
                assert_eq!(echo.to_bytes(), body, "request {index}");
            })
        });
        for request in requests.collect::<Vec<_>>() {
            request.await.expect("a request failed");
        }
    });
    assert_eq!(app.requests(), 200);
}

#[test]
fn a_slow_body_does_not_hold_up_others() {
    let (_app, proxy) = pair();
    let to = proxy.outbound();
    on_a_runtime(async {
        let (feed, body) = http_body_util::channel::Channel::<Bytes, std::io::Error>::new(1);
        let slow = tokio::spawn(async move {
            let request = Request::post("/echo").header(HOST, "web.test").body(body);
            let mut sender = connect(to).await;
            let response = sender.send_request(request.expect("a good request")).await;
            response.expect("no response").into_body().collect().await
        });
        let mut feed = feed;
        let mut quick = connect(to).await;
        for piece in ["one ", "two ", "three"] {
            feed.send_data(Bytes::from(piece)).await.expect("nobody reads");
            for _ in 0..20 {
                let request = Request::get("/name").header(HOST, "web.test");
                let request = request.body(Empty::<Bytes>::new()).expect("a good request");
                let response = quick.send_request(request).await.expect("no response");
                let body = response.into_body().collect().await.expect("no body");
                assert_eq!(body.to_bytes(), "the app");
            }
        }
        drop(feed);
        let echo = slow.await.expect("the slow one failed").expect("no body");
        assert_eq!(echo.to_bytes(), "one two three");
    });
}

#[test]
fn a_body_that_its_client_abandons_is_seen_to_be_broken() {
    let (app, proxy) = pair();
    let to = proxy.outbound();
    on_a_runtime(async {
        let (mut feed, body) = http_body_util::channel::Channel::<Bytes, std::io::Error>::new(1);
        let request = Request::post("/reflect").header(HOST, "web.test").body(body);
        let mut sender = connect(to).await;
        let response = tokio::spawn(async move {
            sender.send_request(request.expect("a good request")).await.map(|_| ())
        });
        feed.send_data(Bytes::from("half of it")).await.expect("nobody reads");
        while app.requests() == 0 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        feed.abort(std::io::Error::other("changed my mind"));
        assert!(response.await.expect("it panicked").is_err());
        // Everybody else is served.
        let request = Request::builder().method(Method::GET).uri("/name");
        let request = request.header(HOST, "web.test").body(Empty::<Bytes>::new());
        let mut sender = connect(to).await;
        let response = sender.send_request(request.expect("a good request")).await;
        assert_eq!(response.expect("no response").status(), StatusCode::OK);
    });
}
