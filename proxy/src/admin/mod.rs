//! The admin server: `/live`, `/ready` and `/metrics` over HTTP/1.

mod families;
mod metrics;
mod process;
mod totals;

use std::convert::Infallible;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use hyper::header::{ACCEPT, ALLOW, CONTENT_TYPE, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use selvedge_core::stats::Snapshot;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::time::{sleep, timeout};
use tracing::{debug, warn};

use crate::http_io::Stream;
pub(crate) use process::{Usage, usage};

/// What the admin server tells about the process.
pub(crate) struct Admin {
    /// Whether `/ready` says so: while serving, and not yet draining.
    pub ready: AtomicBool,
    /// What is counted outside of the engines.
    pub counters: Arc<Counters>,
    scrape: Scrape,
}

/// What is counted outside of the engines.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    /// Changed mesh files that took effect.
    pub reloads_applied: AtomicU64,
    /// Changed mesh files that were refused.
    pub reloads_refused: AtomicU64,
    /// Events that were not logged, because they were too many.
    pub log_suppressed: Arc<AtomicU64>,
    /// Certificates that the authority gave.
    pub certificates: AtomicU64,
    /// How often it gave none, or none that can be used.
    pub certificates_failed: AtomicU64,
    /// When it last gave one, in seconds since the Unix epoch; 0: never.
    pub certified_at: AtomicU64,
}

impl Counters {
    /// The authority has answered.
    pub(crate) fn certified(&self, is_ok: bool) {
        if !is_ok {
            self.certificates_failed.fetch_add(1, Ordering::Relaxed);
            return;
        }
        self.certificates.fetch_add(1, Ordering::Relaxed);
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        self.certified_at.store(now.as_secs(), Ordering::Relaxed);
    }
}

/// Asks the workers for what they counted.
type Scrape = Box<dyn Fn() -> Pin<Box<dyn Future<Output = Workers> + Send>> + Send + Sync>;

/// What the workers counted.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Workers {
    /// One for each worker that answered.
    pub snapshots: Vec<Snapshot>,
    /// How often `accept` failed.
    pub accept_errors: u64,
}

/// Connections that are served at once. More wait to be accepted.
const CONNECTIONS: usize = 256;
/// How long a connection may last: one request, and its answer read.
const CONNECTION_TIMEOUT: Duration = Duration::from_secs(10);
/// How long the workers have to say what they counted.
const SCRAPE_TIMEOUT: Duration = Duration::from_secs(2);
/// The wait after an error of `accept`, which mostly is a want of descriptors.
const ACCEPT_BACKOFF: Duration = Duration::from_millis(100);

impl Admin {
    /// Not ready yet. `scrape` asks the workers for what they counted.
    pub(crate) fn new<F>(
        log_suppressed: Arc<AtomicU64>,
        scrape: impl Fn() -> F + Send + Sync + 'static,
    ) -> Self
    where
        F: Future<Output = Workers> + Send + 'static,
    {
        Admin {
            ready: AtomicBool::new(false),
            counters: Arc::new(Counters { log_suppressed, ..Counters::default() }),
            scrape: Box::new(move || Box::pin(scrape())),
        }
    }

    /// Serves until it is dropped.
    pub(crate) async fn serve(self: Arc<Self>, listener: TcpListener) {
        let slots = Arc::new(Semaphore::new(CONNECTIONS));
        loop {
            let slot = Arc::clone(&slots).acquire_owned().await;
            match listener.accept().await {
                Ok((stream, _)) => {
                    let admin = Arc::clone(&self);
                    tokio::spawn(async move {
                        let _slot = slot;
                        let _ = timeout(CONNECTION_TIMEOUT, admin.converse(stream)).await;
                    });
                }
                Err(error) => {
                    warn!(%error, "admin: cannot accept a connection");
                    sleep(ACCEPT_BACKOFF).await;
                }
            }
        }
    }

    /// One request on one connection: nobody who asks every few seconds gains from keeping it.
    async fn converse(&self, stream: TcpStream) {
        let service =
            service_fn(|request| async move { Ok::<_, Infallible>(self.answer(&request).await) });
        let served =
            http1::Builder::new().keep_alive(false).serve_connection(Stream(stream), service);
        if let Err(error) = served.await {
            debug!(%error, "admin: connection ended early");
        }
    }

    async fn answer<B>(&self, request: &Request<B>) -> Response<String> {
        let path = request.uri().path();
        if !matches!(path, "/live" | "/ready" | "/metrics") {
            return text(StatusCode::NOT_FOUND, "not found\n");
        }
        if !matches!(*request.method(), Method::GET | Method::HEAD) {
            let mut response = text(StatusCode::METHOD_NOT_ALLOWED, "method not allowed\n");
            let methods = HeaderValue::from_static("GET, HEAD");
            response.headers_mut().insert(ALLOW, methods);
            return response;
        }
        match path {
            "/live" => text(StatusCode::OK, "live\n"),
            "/ready" => match self.readiness().await {
                Ok(()) => text(StatusCode::OK, "ready\n"),
                Err(why) => text(StatusCode::SERVICE_UNAVAILABLE, why),
            },
            _ => self.metrics(request.headers().get(ACCEPT)).await,
        }
    }

    /// Serving, not draining, and every worker has a valid certificate if it needs one.
    async fn readiness(&self) -> Result<(), &'static str> {
        if !self.ready.load(Ordering::Relaxed) {
            return Err("not ready\n");
        }
        let Ok(workers) = timeout(SCRAPE_TIMEOUT, (self.scrape)()).await else {
            return Err("not ready: a worker does not answer\n");
        };
        let identities = workers.snapshots.iter().filter_map(|snapshot| snapshot.identity.as_ref());
        if identities.clone().any(|identity| !identity.certified) {
            return Err("not ready: no valid certificate\n");
        }
        Ok(())
    }

    async fn metrics(&self, accept: Option<&HeaderValue>) -> Response<String> {
        let Ok(workers) = timeout(SCRAPE_TIMEOUT, (self.scrape)()).await else {
            return text(StatusCode::SERVICE_UNAVAILABLE, "a worker does not answer\n");
        };
        let ready = self.ready.load(Ordering::Relaxed);
        let body = metrics::render(workers, &self.counters, ready);
        let open = accept
            .and_then(|accept| accept.to_str().ok())
            .is_some_and(|accept| accept.contains("application/openmetrics-text"));
        // The same text is right as either.
        let content_type = if open {
            "application/openmetrics-text; version=1.0.0; charset=utf-8"
        } else {
            "text/plain; version=0.0.4; charset=utf-8"
        };
        respond(StatusCode::OK, content_type, body)
    }
}

fn text(status: StatusCode, body: &str) -> Response<String> {
    respond(status, "text/plain; charset=utf-8", body.into())
}

fn respond(status: StatusCode, content_type: &'static str, body: String) -> Response<String> {
    let mut response = Response::new(body);
    *response.status_mut() = status;
    let content_type = HeaderValue::from_static(content_type);
    response.headers_mut().insert(CONTENT_TYPE, content_type);
    response
}

#[cfg(test)]
mod tests;
