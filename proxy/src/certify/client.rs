//! Asks an authority that serves on this machine.

use std::net::SocketAddr;
use std::time::Duration;

use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::Bytes;
use hyper::client::conn::http1;
use hyper::header::{CONTENT_TYPE, HOST};
use hyper::{Method, Request, StatusCode};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::server::{ANCHORS, CERTIFY, REQUEST_TYPE};
use crate::http_io::Stream;

/// How long it may take to answer.
const PATIENCE: Duration = Duration::from_secs(10);
/// The longest answer that is read.
const MAX_ANSWER: usize = 256 * 1024;

/// Has a request signed. Returns the chain in PEM.
pub(super) async fn certify(addr: SocketAddr, request: Vec<u8>) -> Result<String, String> {
    ask(addr, Method::POST, CERTIFY, request).await
}

/// What the authority wants trusted, in PEM.
pub(super) async fn anchors(addr: SocketAddr) -> Result<String, String> {
    ask(addr, Method::GET, ANCHORS, Vec::new()).await
}

async fn ask(
    addr: SocketAddr,
    method: Method,
    path: &str,
    body: Vec<u8>,
) -> Result<String, String> {
    let answered = timeout(PATIENCE, exchange(addr, method, path, body)).await;
    let (status, text) = answered.map_err(|_| format!("no answer in {PATIENCE:?}"))??;
    if status == StatusCode::OK {
        Ok(text)
    } else {
        Err(format!("{path}: {status}: {}", text.trim_end()))
    }
}

async fn exchange(
    addr: SocketAddr,
    method: Method,
    path: &str,
    body: Vec<u8>,
) -> Result<(StatusCode, String), String> {
    let stream = TcpStream::connect(addr).await.map_err(|error| error.to_string())?;
    let (mut sender, connection) =
        http1::handshake(Stream(stream)).await.map_err(|error| error.to_string())?;
    let request = Request::builder()
        .method(method)
        .uri(path)
        .header(HOST, addr.to_string())
        .header(CONTENT_TYPE, REQUEST_TYPE)
        .body(Full::new(Bytes::from(body)))
        .map_err(|error| error.to_string())?;
    let answer = async {
        let response = sender.send_request(request).await.map_err(|error| error.to_string())?;
        let status = response.status();
        let body = Limited::new(response.into_body(), MAX_ANSWER).collect().await;
        let body = body.map_err(|error| error.to_string())?.to_bytes();
        Ok((status, String::from_utf8_lossy(&body).into_owned()))
    };
    // The connection does its part for as long as the answer takes, and ends with it.
    tokio::pin!(answer, connection);
    tokio::select! {
        biased;
        answer = &mut answer => answer,
        ended = &mut connection => match ended {
            Ok(()) => answer.await,
            Err(error) => Err(error.to_string()),
        },
    }
}
