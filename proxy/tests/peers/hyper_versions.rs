//! hyper on both sides, with HTTP/1 and HTTP/2 on either.

use std::io;

use http_body_util::channel::Channel;
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt as _, Empty, Full};
use hyper::body::{Bytes, Incoming};
use hyper::client::conn::{http1, http2};
use hyper::header::{HOST, HeaderMap, HeaderName, HeaderValue, TE, TRAILER, TRANSFER_ENCODING};
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::TcpStream;

use crate::common::{App, Mesh, PATIENCE, Proxy, on_a_runtime};

use super::http2::violations;

type Body = BoxBody<Bytes, io::Error>;

/// What a client speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Speaks {
    Http1,
    Http2,
}

/// A connection to the proxy.
enum Client {
    Http1(http1::SendRequest<Body>),
    Http2(http2::SendRequest<Body>),
}

impl Client {
    async fn connect(proxy: &Proxy, speaks: Speaks) -> Self {
        let stream = TcpStream::connect(proxy.outbound()).await.expect("cannot connect");
        let io = TokioIo::new(stream);
        match speaks {
            Speaks::Http1 => {
                let (sender, connection) = http1::handshake(io).await.expect("no handshake");
                tokio::spawn(connection);
                Client::Http1(sender)
            }
            Speaks::Http2 => {
                let shake = http2::handshake(TokioExecutor::new(), io);
                let (sender, connection) = shake.await.expect("no handshake");
                tokio::spawn(connection);
                Client::Http2(sender)
            }
        }
    }

    /// For another request at the same time: on the same connection where there can be.
    async fn another(&self, proxy: &Proxy) -> Self {
        match self {
            Client::Http1(_) => Client::connect(proxy, Speaks::Http1).await,
            Client::Http2(sender) => Client::Http2(sender.clone()),
        }
    }

    async fn post(&mut self, host: &str, path: &str, body: Body) -> Response<Incoming> {
        self.try_post(host, path, body).await.expect("no response")
    }

    async fn try_post(
        &mut self,
        host: &str,
        path: &str,
        body: Body,
    ) -> hyper::Result<Response<Incoming>> {
        self.ask(Method::POST, host, path, body).await
    }

    async fn ask(
        &mut self,
        method: Method,
        host: &str,
        path: &str,
        body: Body,
    ) -> hyper::Result<Response<Incoming>> {
        let request = Request::builder().method(method).uri(path);
        let request = request.header(TE, "trailers").header(TRAILER, "checksum");
        let bad = "a good request";
        match self {
            Client::Http1(sender) => {
                // With a length there is no place for trailers.
                let request = request.header(HOST, host).header(TRANSFER_ENCODING, "chunked");
                sender.ready().await?;
                sender.send_request(request.body(body).expect(bad)).await
            }
            Client::Http2(sender) => {
                let request = request.uri(format!("http://{host}{path}"));
                sender.send_request(request.body(body).expect(bad)).await
            }
        }
    }

    /// A request without a body, and the body of its response. One that may be sent again: an app
    /// that has refused a body closes the connection, which may be in the pool by then.
    async fn name(&mut self, host: &str) -> Bytes {
        let none = Empty::new().map_err(|never| match never {}).boxed();
        let response = self.ask(Method::GET, host, "/name", none).await.expect("no response");
        assert_eq!(response.status(), StatusCode::OK);
        response.into_body().collect().await.expect("no body").to_bytes()
    }
}

fn body(bytes: Bytes) -> Body {
    Full::new(bytes).map_err(|never| match never {}).boxed()
}

/// Runs a test for a client and a service of either version.
fn each_way(test: &impl AsyncFn(&Proxy, &App, Speaks, &str)) {
    let app = App::start("the app");
    let mesh = Mesh::new().service("h1.test", &[app.addr]).speaks("http1");
    let proxy = mesh.service("h2.test", &[app.addr]).speaks("h2").start();
    for client in [Speaks::Http1, Speaks::Http2] {
        for host in ["h1.test", "h2.test"] {
            on_a_runtime(PATIENCE, test(&proxy, &app, client, host));
        }
    }
    assert_eq!(violations(&proxy), 0);
}

#[test]
fn bodies_and_trailers_pass_both_ways() {
    each_way(&async |proxy, _, speaks, host| {
        let mut client = Client::connect(proxy, speaks).await;
        let name = HeaderName::from_static("checksum");
        for length in [0, 1, 16_384, 65_535, 65_536, 1_000_000] {
            let sum = HeaderValue::from(length);
            let trailers = HeaderMap::from_iter([(name.clone(), sum.clone())]);
            let bytes = Bytes::from(vec![b'x'; length]);
            // Without a length, behind which HTTP/1 has no place for trailers.
            let (mut feed, sent) = Channel::<Bytes, io::Error>::new(1);
            let whole = bytes.clone();
            tokio::spawn(async move {
                feed.send_data(whole).await.expect("nobody reads");
                feed.send_trailers(trailers).await.expect("nobody reads");
            });
            let response = client.post(host, "/echo", sent.boxed()).await;
            assert_eq!(response.status(), StatusCode::OK);
            let echo = response.into_body().collect().await.expect("no body");
            let case = format!("{speaks:?} {host} {length}");
            assert_eq!(echo.trailers().and_then(|t| t.get("checksum")), Some(&sum), "{case}");
            assert!(echo.to_bytes() == bytes, "{case}");
        }
    });
}

#[test]
fn many_requests_at_once_keep_their_bodies_apart() {
    each_way(&async |proxy, app, speaks, host| {
        let (requests, connections) = (app.requests(), app.connections());
        let client = Client::connect(proxy, speaks).await;
        let mut all = Vec::new();
        for index in 0..200_usize {
            let (mut client, host) = (client.another(proxy).await, host.to_owned());
            all.push(tokio::spawn(async move {
                // Lengths on both sides of what fits into one read, and into a window.
                let bytes = Bytes::from(vec![b'a' + (index % 26) as u8; index * 700]);
                let response = client.post(&host, "/echo", body(bytes.clone())).await;
                let echo = response.into_body().collect().await.expect("no body");
                assert!(echo.to_bytes() == bytes, "request {index}");
            }));
        }
        for one in all {
            one.await.expect("a request failed");
        }
        assert_eq!(app.requests() - requests, 200);
        if host == "h2.test" {
            let opened = app.connections() - connections;
            assert!(opened <= 4, "{opened} connections");
        }
    });
}

#[test]
fn slow_and_broken_streams_leave_the_others_alone() {
    each_way(&async |proxy, app, speaks, host| {
        let client = Client::connect(proxy, speaks).await;
        let (mut feed, slow) = Channel::<Bytes, io::Error>::new(1);
        let mut sender = client.another(proxy).await;
        let to = host.to_owned();
        let echo = tokio::spawn(async move {
            let response = sender.post(&to, "/echo", slow.boxed()).await;
            response.into_body().collect().await.expect("no body").to_bytes()
        });
        let mut quick = client.another(proxy).await;
        for piece in ["one ", "two ", "three"] {
            feed.send_data(Bytes::from(piece)).await.expect("nobody reads");
            // Given up in mid-request, …
            let (mut broken, half) = Channel::<Bytes, io::Error>::new(1);
            let (mut sender, to) = (client.another(proxy).await, host.to_owned());
            let seen = app.requests();
            let answer = tokio::spawn(async move {
                sender.try_post(&to, "/reflect", half.boxed()).await.is_err()
            });
            broken.send_data(Bytes::from("half of it")).await.expect("nobody reads");
            while app.requests() == seen {
                tokio::time::sleep(std::time::Duration::from_millis(2)).await;
            }
            broken.abort(io::Error::other("changed my mind"));
            assert!(answer.await.expect("it panicked"), "{speaks:?} {host}: an answer");
            // … in mid-response, …
            let mut sender = client.another(proxy).await;
            let endless = sender.post(host, "/drip/1000000/1", body(Bytes::new())).await;
            let first = endless.into_body().frame().await.expect("no body").expect("an error");
            // More than a piece of it where the machine was slow to read.
            let first = first.into_data().expect("no data");
            assert!(first.starts_with(b"piece 0\n"), "{first:?}");
            // … or answered before its end.
            let mut sender = client.another(proxy).await;
            let large = body(Bytes::from(vec![0; 300_000]));
            if let Ok(refused) = sender.try_post(host, "/refuse", large).await {
                assert_eq!(refused.status(), StatusCode::PAYLOAD_TOO_LARGE);
            } else {
                // hyper gives up an HTTP/1 connection that it cannot write all of a request to.
                assert_eq!(speaks, Speaks::Http1);
            }
            assert_eq!(quick.name(host).await, "the app");
        }
        drop(feed);
        assert_eq!(echo.await.expect("the slow one failed"), "one two three");
    });
}
