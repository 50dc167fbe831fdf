//! Serves an authority on loopback, over HTTP/1:
//!
//! | | | |
//! |---|---|---|
//! | `POST /certify` | a request: PKCS #10 in DER, as `application/pkcs10` | the chain in PEM, leaf first |
//! | `GET /anchors` | | what is to be trusted, in PEM |
//!
//! It does not ask who asks, so it listens where only this machine can ask. That it wants a media
//! type which no form can send keeps pages in a browser out.

use std::convert::Infallible;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use http_body_util::{BodyExt as _, Limited};
use hyper::body::Incoming;
use hyper::header::{ALLOW, CONTENT_TYPE, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use selvedge::ca::{Authority, MAX_REQUEST, Refusal, describe, write_certificates};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::time::{sleep, timeout};
use tracing::{debug, error, info, warn};

use crate::http_io::Stream;

pub(super) const CERTIFY: &str = "/certify";
pub(super) const ANCHORS: &str = "/anchors";
/// RFC 5967.
pub(super) const REQUEST_TYPE: &str = "application/pkcs10";
/// RFC 8555 §9.1.
const CHAIN_TYPE: &str = "application/pem-certificate-chain";
const TEXT_TYPE: &str = "text/plain; charset=utf-8";

/// Connections that are served at once. More wait to be accepted.
const CONNECTIONS: usize = 256;
/// How long a connection may last.
const CONNECTION_TIMEOUT: Duration = Duration::from_secs(10);
/// The wait after an error of `accept`, which mostly is a want of descriptors.
const ACCEPT_BACKOFF: Duration = Duration::from_millis(100);

/// An authority that others can ask.
#[derive(Debug)]
pub(crate) struct Server {
    /// Read anew for each request.
    folder: PathBuf,
    lifetime: Duration,
}

impl Server {
    pub(crate) fn new(folder: PathBuf, lifetime: Duration) -> Arc<Self> {
        Arc::new(Server { folder, lifetime })
    }

    /// Serves until it is dropped.
    pub(crate) async fn serve(self: Arc<Self>, listener: TcpListener) {
        let slots = Arc::new(Semaphore::new(CONNECTIONS));
        loop {
            let slot = Arc::clone(&slots).acquire_owned().await;
            match listener.accept().await {
                Ok((stream, _)) => {
                    let server = Arc::clone(&self);
                    tokio::spawn(async move {
                        let _slot = slot;
                        let _ = timeout(CONNECTION_TIMEOUT, server.converse(stream)).await;
                    });
                }
                Err(error) => {
                    warn!(%error, "cannot accept a connection");
                    sleep(ACCEPT_BACKOFF).await;
                }
            }
        }
    }

    async fn converse(&self, stream: TcpStream) {
        let service =
            service_fn(|request| async move { Ok::<_, Infallible>(self.answer(request).await) });
        let served =
            http1::Builder::new().keep_alive(false).serve_connection(Stream(stream), service);
        if let Err(error) = served.await {
            debug!(%error, "connection ended early");
        }
    }

    async fn answer(&self, request: Request<Incoming>) -> Response<String> {
        let allowed = match request.uri().path() {
            CERTIFY => Method::POST,
            ANCHORS => Method::GET,
            _ => return respond(StatusCode::NOT_FOUND, TEXT_TYPE, "not found\n".into()),
        };
        if *request.method() != allowed {
            let text = format!("expected {allowed}\n");
            let mut response = respond(StatusCode::METHOD_NOT_ALLOWED, TEXT_TYPE, text);
            if let Ok(allowed) = HeaderValue::from_str(allowed.as_str()) {
                response.headers_mut().insert(ALLOW, allowed);
            }
            return response;
        }
        let authority = match Authority::load(&self.folder) {
            Ok(authority) => authority,
            Err(why) => {
                error!("{why}");
                // Where its files are is nobody's concern.
                let text = "the authority cannot be read: see its log\n".into();
                return respond(StatusCode::SERVICE_UNAVAILABLE, TEXT_TYPE, text);
            }
        };
        if allowed == Method::GET {
            return respond(StatusCode::OK, CHAIN_TYPE, write_certificates(authority.anchors()));
        }
        let (status, why) = match self.certify(&authority, request).await {
            Ok(chain) => return respond(StatusCode::OK, CHAIN_TYPE, chain),
            Err(refused) => refused,
        };
        warn!(status = status.as_u16(), "refused: {why}");
        respond(status, TEXT_TYPE, format!("{why}\n"))
    }

    async fn certify(
        &self,
        authority: &Authority,
        request: Request<Incoming>,
    ) -> Result<String, (StatusCode, String)> {
        let (parts, body) = request.into_parts();
        if parts.headers.get(CONTENT_TYPE).is_none_or(|value| value != REQUEST_TYPE) {
            let why = format!("expected Content-Type: {REQUEST_TYPE}");
            return Err((StatusCode::UNSUPPORTED_MEDIA_TYPE, why));
        }
        let body = Limited::new(body, MAX_REQUEST).collect().await.map_err(|error| {
            let why = format!("expected a request of at most {MAX_REQUEST} bytes: {error}");
            (StatusCode::PAYLOAD_TOO_LARGE, why)
        })?;
        let now = SystemTime::now();
        let issued = authority
            .certify(&body.to_bytes(), self.lifetime, now)
            .map_err(|refusal| (status_of(&refusal), refusal.to_string()))?;
        let name = describe(&issued.chain[0]).ok().and_then(|(_, san)| san);
        let name = name.map(|name| name.to_string());
        info!(name, lifetime = ?issued.not_after.duration_since(now).unwrap_or_default(), "signed");
        Ok(write_certificates(&issued.chain))
    }
}

fn status_of(refusal: &Refusal) -> StatusCode {
    match refusal {
        Refusal::Foreign { .. } | Refusal::WantsAuthority => StatusCode::FORBIDDEN,
        Refusal::AuthorityExpired => StatusCode::SERVICE_UNAVAILABLE,
        _ => StatusCode::BAD_REQUEST,
    }
}

fn respond(status: StatusCode, content_type: &'static str, body: String) -> Response<String> {
    let mut response = Response::new(body);
    *response.status_mut() = status;
    let content_type = HeaderValue::from_static(content_type);
    response.headers_mut().insert(CONTENT_TYPE, content_type);
    response
}
