//! Routes: what is done with which requests to the mesh.
//!
//! What a route can ask for, and which of several that match is taken, are those of the Gateway
//! API; gRPC's are those of its GRPCRoute.

mod matches;
mod table;
#[cfg(test)]
mod tests;

use alloc::sync::Arc;
use alloc::vec::Vec;

use super::filter::{Changes, Fixed};
use super::mirror::Mirror;
use super::retry::Retry;
use super::split::Split;
use crate::time::Duration;

pub use matches::{FieldMatch, GrpcMatch, HostMatch, Match, PathMatch, ValueMatch};
pub(crate) use table::HostRoutes;
pub use table::RouteTable;

/// Which requests, and what is done with them.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Route {
    /// The service that its requests are for, by [`Service::name`](crate::config::Service::name).
    /// They go there unless [`split`](Route::split) says otherwise.
    pub service: Arc<str>,
    /// Whom the requests ask, by their authority; one of these has to match. Empty: the service
    /// itself.
    pub hosts: Vec<HostMatch>,
    /// What else has to match.
    pub matches: Match,
    /// Its requests are answered by us, all or some of them.
    pub fixed: Option<Fixed>,
    /// What changes in their heads.
    pub changes: Changes,
    /// Which services they are shared out to.
    pub split: Split,
    /// Their times.
    pub timeouts: RouteTimeouts,
    /// What is tried again.
    pub retry: Option<Retry>,
    /// Where copies of them go.
    pub mirror: Option<Mirror>,
    /// A request may ask for shorter timeouts, and for retries, in linkerd2-proxy's `l5d-*` headers;
    /// they do not go on. If not, they are nothing special.
    pub allow_l5d_request_headers: bool,
}

impl Route {
    /// The shortest of the times that a request may end by; `Duration::MAX`: there is none.
    fn shortest_timeout(&self) -> Duration {
        let RouteTimeouts { request, response, idle } = self.timeouts;
        let attempt = self.retry.as_ref().and_then(|retry| retry.per_try_timeout);
        let limits = [request, response, idle, attempt];
        limits.into_iter().flatten().min().unwrap_or(Duration::MAX)
    }
}

/// The times of a route's requests. They beat those of its service; `None`: the service's.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RouteTimeouts {
    /// The whole exchange, from the first byte of the request to the last of the response.
    pub request: Option<Duration>,
    /// From the end of the request to the end of the response. No service has one.
    pub response: Option<Duration>,
    /// Nothing moves in either direction.
    pub idle: Option<Duration>,
}
