//! tonic on both sides: every kind of call, through one proxy and through two.

use std::net::SocketAddr;
use std::str::FromStr as _;
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::client::Grpc;
use tonic::codegen::http::uri::PathAndQuery;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Request, Response, Status, Streaming};

use crate::common::grpc_app::{GrpcApp, Raw, message};
use crate::common::{Mesh, PATIENCE, Proxy, full, on_a_runtime, tell};

use super::http2::violations;

/// A client of `test.Echo`.
#[derive(Clone)]
struct Client(Grpc<Channel>);

impl Client {
    async fn connect(proxy: SocketAddr) -> Self {
        let endpoint = Endpoint::from_shared(format!("http://{proxy}")).expect("a good address");
        let origin = "http://grpc.test".parse().expect("a good origin");
        let channel = endpoint.origin(origin).connect().await.expect("cannot connect");
        Client(Grpc::new(channel).max_decoding_message_size(5 << 20))
    }

    async fn ready(&mut self, method: &str) -> PathAndQuery {
        self.0.ready().await.expect("the channel is not ready");
        PathAndQuery::from_str(&format!("/test.Echo/{method}")).expect("a good path")
    }

    async fn unary(
        &mut self,
        method: &str,
        request: Request<Bytes>,
    ) -> Result<Response<Bytes>, Status> {
        let path = self.ready(method).await;
        self.0.unary(request, path, Raw).await
    }

    async fn down(&mut self, count: usize, size: usize) -> Streaming<Bytes> {
        let path = self.ready("Down").await;
        let request = Request::new(format!("{count} {size}").into());
        self.0.server_streaming(request, path, Raw).await.expect("no stream").into_inner()
    }

    async fn up(&mut self, count: usize, size: usize) -> Bytes {
        let path = self.ready("Up").await;
        let messages = tokio_stream::iter((0..count).map(move |index| message(index, size)));
        let answer = self.0.client_streaming(Request::new(messages), path, Raw).await;
        answer.expect("no answer").into_inner()
    }

    /// Where to put messages, and where each comes back.
    async fn both(&mut self) -> (mpsc::Sender<Bytes>, Streaming<Bytes>) {
        let path = self.ready("Both").await;
        let (sender, messages) = mpsc::channel(4);
        let request = Request::new(ReceiverStream::new(messages));
        let answers = self.0.streaming(request, path, Raw).await.expect("no stream");
        (sender, answers.into_inner())
    }
}

async fn every_kind_of_call(proxy: SocketAddr, app: &GrpcApp) {
    let mut client = Client::connect(proxy).await;
    for size in [0, 1, 100, 20_000, 4 << 20] {
        let mut request = Request::new(message(7, size));
        request.metadata_mut().insert("x-call", "7".parse().expect("a good value"));
        let response = client.unary("Unary", request).await.expect("no answer");
        assert_eq!(response.metadata().get("x-seen").expect("no metadata"), "7");
        assert_eq!(response.metadata().get("grpc-status").expect("no status"), "0");
        assert_eq!(response.get_ref(), &message(7, size), "{size} bytes");
    }
    // Trailers only.
    for (method, code, text) in [
        ("Fail", Code::FailedPrecondition, "not today: ä %"),
        ("None", Code::Unimplemented, "/test.Echo/None"),
    ] {
        let status = client.unary(method, Request::new(Bytes::new())).await.expect_err("no error");
        assert_eq!((status.code(), status.message()), (code, text));
    }
    // A deadline, which proxy and server are told too, and a client that loses interest.
    let mut request = Request::new(Bytes::new());
    request.set_timeout(Duration::from_millis(200));
    let status = client.unary("Slow", request).await.expect_err("no deadline");
    assert!(matches!(status.code(), Code::DeadlineExceeded | Code::Cancelled), "{status}");
    let mut other = client.clone();
    let call = tokio::spawn(async move { other.unary("Slow", Request::new(Bytes::new())).await });
    tokio::time::sleep(Duration::from_millis(100)).await;
    call.abort();
    while app.cancelled() < 2 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }

    let mut messages = client.down(5_000, 1_000).await;
    for index in 0..5_000 {
        let got = messages.message().await.expect("an error").expect("an early end");
        assert_eq!(got, message(index, 1_000));
    }
    assert_eq!(messages.message().await.expect("an error"), None);
    let status = messages.trailers().await.expect("an error");
    assert!(status.is_none_or(|trailers| trailers.get("grpc-status").is_none_or(|s| s == "0")));
    assert_eq!(client.up(20_000, 10).await, "20000 200000");
    let (sender, mut answers) = client.both().await;
    for index in 0..500 {
        sender.send(message(index, 50)).await.expect("nobody reads");
        let answer = answers.message().await.expect("an error");
        assert_eq!(answer, Some(message(index, 50)));
    }
    drop(sender);
    assert_eq!(answers.message().await.expect("an error"), None);

    let calls = (0..400).map(|index| {
        let mut client = client.clone();
        tokio::spawn(async move {
            let answer = client.unary("Unary", Request::new(message(index, 100))).await;
            assert_eq!(answer.expect("no answer").into_inner(), message(index, 100));
        })
    });
    for call in calls.collect::<Vec<_>>() {
        call.await.expect("a call failed");
    }
}

#[test]
fn every_kind_of_call_passes() {
    let app = GrpcApp::start();
    let proxy = Mesh::new().service("grpc.test", &[app.addr]).start();
    on_a_runtime(PATIENCE, every_kind_of_call(proxy.outbound(), &app));
    assert_eq!(violations(&proxy), 0);
}

#[test]
fn every_kind_of_call_passes_two_proxies() {
    let app = GrpcApp::start();
    let proxies = Proxy::chain("grpc.test", app.addr);
    on_a_runtime(PATIENCE, every_kind_of_call(proxies[0].outbound(), &app));
    assert_eq!(proxies.each_ref().map(violations), [0, 0]);
}

/// A gigabyte each way, and both ways at once on one stream, with calls beside them.
#[test]
fn large_streams_pass_two_proxies_and_memory_stays_flat() {
    let app = GrpcApp::start();
    let proxies = Proxy::chain("grpc.test", app.addr);
    let (count, size) = (if full() { 1 << 14 } else { 1 << 8 }, 1 << 16);
    on_a_runtime(10 * PATIENCE, async {
        let client = Client::connect(proxies[0].outbound()).await;
        let mut down = client.clone();
        let down = tokio::spawn(async move {
            let mut messages = down.down(count, size).await;
            for index in 0..count {
                let got = messages.message().await.expect("an error").expect("an early end");
                assert!(got == message(index, size), "message {index} is another");
            }
            assert_eq!(messages.message().await.expect("an error"), None);
        });
        let mut up = client.clone();
        let up = tokio::spawn(async move {
            assert_eq!(up.up(count, size).await, format!("{count} {}", count * size));
        });
        let mut both = client.clone();
        let (sender, mut answers) = both.both().await;
        let both = tokio::spawn(async move {
            for index in 0..count {
                let got = answers.message().await.expect("an error").expect("an early end");
                assert!(got == message(index, size), "message {index} is another");
            }
            assert_eq!(answers.message().await.expect("an error"), None);
        });
        for index in 0..count {
            sender.send(message(index, size)).await.expect("nobody reads");
            if index % 256 == 0 {
                let answer = client.clone().unary("Unary", Request::new(message(index, 9))).await;
                assert_eq!(answer.expect("no answer").into_inner(), message(index, 9));
            }
        }
        drop(sender);
        for stream in [down, up, both] {
            stream.await.expect("a stream failed");
        }
    });
    for proxy in &proxies {
        let peak = proxy.memory("VmHWM");
        tell(&format!("gRPC streams of {} MiB: peak of {peak} bytes", (count * size) >> 20));
        assert!(peak < 32 << 20, "{peak} bytes");
    }
    assert_eq!(proxies.each_ref().map(violations), [0, 0]);
}
