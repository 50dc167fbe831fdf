//! As much of gRPC as the apps and the client share: unary calls, over the h2 crate.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use bytes::Bytes;
use h2::RecvStream;
use h2::client::SendRequest;
use h2::server::SendResponse;
use http::{HeaderMap, HeaderName, HeaderValue, Request, Response};
use tokio::net::TcpStream;
use tokio::sync::Mutex;
use tokio::time::sleep;

use super::app::Shared;
use super::wire::{APP_FIELD, IDENTITY_FIELD};

/// `OK`.
pub(super) const OK: u16 = 0;
/// `UNAVAILABLE`: what a retry policy of gRPC is for. The call can be made again.
pub(super) const UNAVAILABLE: u16 = 14;

const PATH: &str = "/shop.demo.Shop/Visit";
const TYPE: HeaderValue = HeaderValue::from_static("application/grpc");
const STATUS: HeaderName = HeaderName::from_static("grpc-status");
/// Flag and length before a message.
const PREFIX: usize = 5;

// ---- The apps ----

/// Answers every call on a connection, each when its time has come.
///
/// # Errors
/// The connection broke, or its peer broke the protocol.
pub(super) async fn answer(stream: TcpStream, shared: &Arc<Shared>) -> io::Result<()> {
    let mut connection = h2::server::handshake(stream).await.map_err(io::Error::other)?;
    while let Some(call) = connection.accept().await {
        let (request, respond) = call.map_err(io::Error::other)?;
        let identity = request.headers().get(IDENTITY_FIELD).and_then(|id| id.to_str().ok());
        shared.diary().receive(identity);
        let shared = Arc::clone(shared);
        tokio::spawn(async move {
            sleep(shared.delay).await;
            // However it ends, the app has done its part.
            let _ = respond_with(shared.name, respond);
        });
    }
    Ok(())
}

fn respond_with(name: &'static str, mut respond: SendResponse<Bytes>) -> Result<(), h2::Error> {
    let mut response = Response::new(());
    response.headers_mut().insert(http::header::CONTENT_TYPE, TYPE);
    response.headers_mut().insert(APP_FIELD, HeaderValue::from_static(name));
    let mut stream = respond.send_response(response, false)?;
    stream.send_data(message(name.as_bytes()), false)?;
    stream.send_trailers(HeaderMap::from_iter([(STATUS, HeaderValue::from(OK))]))
}

/// A message as it goes over the wire.
fn message(bytes: &[u8]) -> Bytes {
    let mut framed = vec![0; PREFIX];
    framed[1..].copy_from_slice(&(bytes.len() as u32).to_be_bytes());
    framed.extend_from_slice(bytes);
    framed.into()
}

// ---- The client ----

/// One connection to Selvedge, over which everybody calls: what gRPC clients name a channel.
pub(super) struct Channel {
    proxy: SocketAddr,
    authority: &'static str,
    open: Mutex<Option<SendRequest<Bytes>>>,
}

impl Channel {
    pub(super) fn new(proxy: SocketAddr, authority: &'static str) -> Channel {
        Channel { proxy, authority, open: Mutex::default() }
    }

    /// Makes a call: its gRPC status, and which app answered.
    ///
    /// # Errors
    /// There was no answer. The next call opens a connection of its own.
    pub(super) async fn call(&self) -> io::Result<(u16, Option<String>)> {
        let sender = self.sender().await?;
        let answer = self.call_on(sender).await;
        if answer.is_err() {
            *self.open.lock().await = None;
        }
        answer.map_err(io::Error::other)
    }

    async fn sender(&self) -> io::Result<SendRequest<Bytes>> {
        let mut open = self.open.lock().await;
        if let Some(sender) = &*open {
            return Ok(sender.clone());
        }
        let stream = TcpStream::connect(self.proxy).await?;
        stream.set_nodelay(true)?;
        let (sender, connection) = h2::client::handshake(stream).await.map_err(io::Error::other)?;
        tokio::spawn(connection);
        Ok(open.insert(sender).clone())
    }

    async fn call_on(
        &self,
        sender: SendRequest<Bytes>,
    ) -> Result<(u16, Option<String>), h2::Error> {
        let mut request = Request::new(());
        *request.method_mut() = http::Method::POST;
        // Both are constants, and well formed.
        *request.uri_mut() = format!("http://{}{PATH}", self.authority).parse().unwrap_or_default();
        let fields = request.headers_mut();
        fields.insert(http::header::CONTENT_TYPE, TYPE);
        fields.insert(http::header::TE, HeaderValue::from_static("trailers"));
        let (response, mut stream) = sender.ready().await?.send_request(request, false)?;
        stream.send_data(message(b"a visitor"), true)?;
        let response = response.await?;
        let app = response.headers().get(APP_FIELD).and_then(|name| name.to_str().ok());
        let app = app.map(str::to_owned);
        // Without a body the status is in the head.
        let early = status_of(response.headers());
        let late = read_to_trailers(response.into_body()).await?;
        Ok((late.or(early).unwrap_or(u16::MAX), app))
    }
}

/// Reads a body to its end, and the status behind it.
async fn read_to_trailers(mut body: RecvStream) -> Result<Option<u16>, h2::Error> {
    while let Some(data) = body.data().await {
        let length = data?.len();
        body.flow_control().release_capacity(length)?;
    }
    Ok(body.trailers().await?.as_ref().and_then(status_of))
}

fn status_of(fields: &HeaderMap) -> Option<u16> {
    fields.get(STATUS)?.to_str().ok()?.parse().ok()
}
