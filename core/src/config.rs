//! What an engine is told to do. Built and checked by its embedder; the core takes it as given.

use alloc::sync::Arc;
use alloc::vec::Vec;
use core::net::SocketAddr;
use core::time::Duration;

use crate::identity::{self, NameError};
use crate::limits::Limits;
use crate::policy::{
    Balancing, BreakerConfig, BudgetConfig, Concurrency, HealthCheck, RateLimit, RouteTable,
};
use crate::tls::Nameless;

/// The configuration of an engine. Replaced as a whole by [`Command::Reload`]
/// (listeners excepted: they belong to the adapter).
///
/// [`Command::Reload`]: crate::engine::Command::Reload
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Config {
    /// The sockets that connections come from; a [`ListenerId`] is an index into this.
    pub listeners: Vec<Listener>,
    /// Other sockets of this process, the admin server for one: like the listeners, they are no
    /// destinations.
    pub own: Vec<SocketAddr>,
    /// Where inbound traffic without an original destination goes.
    pub app: Option<SocketAddr>,
    /// Ports (of original destinations) that are forwarded without protocol detection.
    pub opaque_ports: Vec<u16>,
    /// Who this workload is; `None`: nothing is meshed.
    pub identity: Option<Identity>,
    /// Who may reach which port of the app, and how much of that it takes. Ports that are not listed
    /// are open to everybody and take everything.
    pub inbound: Vec<InboundPort>,
    /// How many requests may be in flight at once, whatever they are for.
    pub concurrency: Concurrency,
    /// What becomes of TLS that names no server.
    pub nameless_tls: Nameless,
    /// The zone that this proxy is in: endpoints there come first. `None`: zones mean nothing.
    pub zone: Option<Arc<str>>,
    /// Services, by distinct [`Service::name`].
    pub services: Vec<Service>,
    /// What is done with which requests to services.
    pub routes: RouteTable,
    /// How many engines share what is configured per process; 0 counts as 1. Budgets and limits of
    /// services are divided by it.
    pub workers: u32,
    /// Bounds.
    pub limits: Limits,
    /// Times.
    pub timeouts: Timeouts,
}

/// Who this workload is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// What its certificate has to say.
    pub name: identity::Name,
    /// The server name (SNI) by which clients ask for it: TLS with this name ends here, any other
    /// is passed through. The name itself, unless that is a SPIFFE ID.
    pub server_name: Arc<str>,
}

impl Identity {
    /// One whose server name is its name.
    pub fn new(name: identity::Name) -> Self {
        Identity { server_name: name.as_str().into(), name }
    }
}

/// Who may reach one port of the app, and how much of that it takes.
#[derive(Clone, Debug, PartialEq)]
pub struct InboundPort {
    /// The app's port.
    pub port: u16,
    /// Whoever one of these means. None: nobody.
    pub allow: Vec<Allow>,
    /// How many requests a second. Past it: 429, gRPC 8.
    pub rate_limit: Option<RateLimit>,
    /// Requests in flight at once.
    pub concurrency: Concurrency,
}

impl InboundPort {
    /// One without limits.
    pub fn new(port: u16, allow: Vec<Allow>) -> Self {
        InboundPort { port, allow, rate_limit: None, concurrency: Concurrency::default() }
    }
}

/// Whom a port is open to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Allow {
    /// Everybody, with or without a certificate.
    Unauthenticated,
    /// Clients that have proven to be one of these.
    Identity(identity::Pattern),
}

impl Allow {
    /// Reads `unauthenticated`, `*`, `*.suffix`, a DNS-like name or a SPIFFE ID.
    ///
    /// # Errors
    /// It is none of these.
    pub fn parse(text: &str) -> Result<Allow, NameError> {
        if text == "unauthenticated" {
            return Ok(Allow::Unauthenticated);
        }
        identity::Pattern::parse(text).map(Allow::Identity)
    }

    /// Does it let a client of that identity in?
    pub fn admits(&self, client: Option<&identity::Name>) -> bool {
        match self {
            Allow::Unauthenticated => true,
            Allow::Identity(pattern) => client.is_some_and(|client| pattern.matches(client)),
        }
    }
}

/// Index of a listener in [`Config::listeners`].
pub type ListenerId = u16;

/// One listening socket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listener {
    /// Where it listens.
    pub addr: SocketAddr,
    /// What its connections are.
    pub kind: ListenerKind,
}

/// What the connections of a listener are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ListenerKind {
    /// From local apps to the mesh.
    Outbound,
    /// From the mesh to the local app.
    Inbound,
    /// An opaque forward to the service of this name.
    Forward(Arc<str>),
}

/// Whether traffic comes from the local apps or from the mesh.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Direction {
    /// From local apps.
    Outbound,
    /// From the mesh.
    Inbound,
}

impl Direction {
    /// Both, in the order of their discriminants.
    pub const ALL: [Direction; 2] = [Direction::Outbound, Direction::Inbound];

    /// The label value in metrics.
    pub const fn label(self) -> &'static str {
        match self {
            Direction::Outbound => "outbound",
            Direction::Inbound => "inbound",
        }
    }
}

/// A named set of endpoints.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Service {
    /// What requests are matched by: lower-case `host:port` with the port always present
    /// ([`http::authority::normalize`]); for an opaque forward any other unique name.
    ///
    /// [`http::authority::normalize`]: crate::http::authority::normalize
    pub name: Arc<str>,
    /// Where its requests may go.
    pub endpoints: Vec<Endpoint>,
    /// Connections to its endpoints are forwarded without protocol detection.
    pub opaque: bool,
    /// Overrides of [`Timeouts`].
    pub timeouts: ServiceTimeouts,
    /// What its endpoints are spoken to.
    pub protocol: Protocol,
    /// How many retries it bears.
    pub retry_budget: BudgetConfig,
    /// Exchanges that it has in flight at once.
    pub concurrency: Concurrency,
    /// When an endpoint that fails is no longer asked; `None`: it always is.
    pub breaker: Option<BreakerConfig>,
    /// The share of its endpoints, from 0 to 1, that has to be available; if less is, those that fail
    /// are asked, too. `None`: [`Service::PANIC`].
    pub panic: Option<f64>,
    /// How its endpoints are checked; `None`: they are not.
    pub health_check: Option<HealthCheck>,
    /// How its requests are shared out.
    pub balancing: Balancing,
}

impl Service {
    /// The default of [`Service::panic`].
    pub const PANIC: f64 = 0.3;
}

/// What the endpoints of a service are spoken to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Protocol {
    /// What the client speaks: endpoints that gRPC clients mean speak HTTP/2, and the others need
    /// not.
    #[default]
    Auto,
    /// HTTP/1.1, whatever the client speaks.
    Http1,
    /// HTTP/2, whatever the client speaks, without negotiation.
    Http2,
    /// The endpoints are mesh proxies. Everything goes to them as HTTP/2; what was HTTP/1 says so
    /// in `l5d-orig-proto` and is HTTP/1 again behind them, as between Linkerd's.
    Mesh,
}

/// One endpoint as configured.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint {
    /// Address or name.
    pub target: Target,
    /// Share of the traffic relative to the others; at least 1.
    pub weight: u32,
    /// It is a mesh proxy: spoken to in mutual TLS only.
    pub mesh: Option<Meshed>,
    /// The zone that it is in, if that is known.
    pub zone: Option<Arc<str>>,
}

impl Endpoint {
    /// One of weight 1, that is no mesh proxy.
    pub fn new(target: Target) -> Self {
        Endpoint { target, weight: 1, mesh: None, zone: None }
    }
}

/// An endpoint that is a mesh proxy.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Meshed {
    /// Whom its certificate has to name.
    pub identity: identity::Name,
    /// The server name (SNI) that it is asked for.
    pub server_name: Arc<str>,
    /// The endpoint is the proxy's own inbound port, and this is the app's, which a transport header
    /// names. `None`: the endpoint is the app's port, and the proxy knows that.
    pub port: Option<u16>,
}

impl Meshed {
    /// One whose server name is its identity.
    pub fn new(identity: identity::Name, port: Option<u16>) -> Self {
        Meshed { server_name: identity.as_str().into(), identity, port }
    }
}

/// Where an endpoint is.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Target {
    /// An address.
    Addr(SocketAddr),
    /// A name with A or AAAA records, resolved again as they expire.
    Name {
        /// Lower case, no trailing dot needed.
        host: Arc<str>,
        /// Port of every address.
        port: u16,
    },
}

/// Times, all configurable under `[timeouts]`. `None`: no limit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Timeouts {
    /// How long a silent connection is waited for before it counts as opaque (the server speaks
    /// first).
    pub detect: Duration,
    /// How long an undecided beginning is waited for after its last byte.
    pub detect_prefix: Duration,
    /// From the first byte of a TLS handshake with us, or from the connect of one of ours, to its
    /// end; also what a transport header may take.
    pub handshake: Duration,
    /// From the first byte of a request head to its last: 408.
    pub header: Duration,
    /// How long a keep-alive connection may be without a request.
    pub keep_alive: Duration,
    /// To connect to an endpoint.
    pub connect: Duration,
    /// From the end of the request to the head of the response: 504.
    pub response_headers: Option<Duration>,
    /// The whole exchange, first byte of the request to last of the response: 504.
    pub request: Option<Duration>,
    /// Nothing moves on an exchange in either direction: 504.
    pub idle: Option<Duration>,
    /// How long an upstream connection stays in the pool unused.
    pub pool_idle: Duration,
    /// How long an HTTP/2 connection to an endpoint takes new streams, or up to a fifth less: names
    /// and balancers behind an endpoint's address are looked at again.
    pub connection_age: Duration,
    /// How long a service may be without a ready endpoint before its requests fail at once.
    pub failfast: Duration,
    /// First wait before an endpoint that failed is connected to again; doubles each time …
    pub backoff_min: Duration,
    /// … up to this.
    pub backoff_max: Duration,
    /// Nothing moves on an opaque connection in either direction.
    pub tcp_idle: Duration,
    /// An opaque connection that is closed in one direction and silent in the other.
    pub half_open: Duration,
    /// How long a drain waits for exchanges and tunnels.
    pub grace: Duration,
}

impl Timeouts {
    /// After an error answer: how long what the peer still sends is read and dropped.
    pub const LINGER: Duration = Duration::from_secs(1);
    /// In a drain: how long a half-closed tunnel may be silent. Longer than an answer takes, and
    /// shorter than anybody waits for a process to end.
    pub const DRAIN_HALF_OPEN: Duration = Duration::from_secs(5);
    /// A resolution without an answer is asked for again.
    pub const DNS_PATIENCE: Duration = Duration::from_secs(30);
    /// A name is not resolved again sooner, whatever its TTL says (linkerd2-proxy: 5 s).
    pub const DNS_FLOOR: Duration = Duration::from_secs(5);
    /// … nor later.
    pub const DNS_CEILING: Duration = Duration::from_hours(1);
}

impl Default for Timeouts {
    fn default() -> Self {
        Timeouts {
            // linkerd2-proxy: DETECT_TIMEOUT.
            detect: Duration::from_secs(10),
            detect_prefix: Duration::from_secs(1),
            // linkerd2-proxy: DETECT_TIMEOUT covers it.
            handshake: Duration::from_secs(10),
            header: Duration::from_secs(30),
            keep_alive: Duration::from_mins(10),
            // linkerd2-proxy: OUTBOUND_CONNECT_TIMEOUT.
            connect: Duration::from_secs(1),
            response_headers: None,
            request: None,
            // As long as an opaque connection may be idle: nothing leaks for ever.
            idle: Some(Duration::from_hours(1)),
            // linkerd2-proxy: HTTP1_CONNECTION_POOL_IDLE_TIMEOUT.
            pool_idle: Duration::from_secs(3),
            // nginx: keepalive_time.
            connection_age: Duration::from_hours(1),
            failfast: Duration::from_secs(3),
            // linkerd2-proxy: OUTBOUND_CONNECT_EXP_BACKOFF_{MIN,MAX}, but a shorter maximum: a
            // restarted endpoint is back in rotation within 10 s.
            backoff_min: Duration::from_millis(100),
            backoff_max: Duration::from_secs(10),
            tcp_idle: Duration::from_hours(1),
            half_open: Duration::from_mins(1),
            // linkerd2-proxy: SHUTDOWN_GRACE_PERIOD.
            grace: Duration::from_mins(2),
        }
    }
}

/// A service's own times; `None` inherits from [`Timeouts`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ServiceTimeouts {
    /// See [`Timeouts::request`].
    pub request: Option<Duration>,
    /// See [`Timeouts::connect`].
    pub connect: Option<Duration>,
    /// See [`Timeouts::pool_idle`].
    pub pool_idle: Option<Duration>,
    /// See [`Timeouts::tcp_idle`].
    pub tcp_idle: Option<Duration>,
    /// See [`Timeouts::failfast`].
    pub failfast: Option<Duration>,
}
