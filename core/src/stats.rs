//! Plain counters and fixed-bucket histograms. No registry, no locks: the embedder takes a
//! [`Snapshot`] and renders it.

use alloc::boxed::Box;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::net::SocketAddr;
use core::time::Duration;

use crate::config::Direction;
use crate::error::Reason;
use crate::http2::Violation;
use crate::identity::Name;
use crate::time::UnixTime;
use crate::tls::Failure;
use crate::tls::Malformed;

/// A latency histogram with linkerd2-proxy's `response_latency_ms` buckets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Histogram {
    /// How many fell into each bucket (not cumulative); the last is everything above.
    pub buckets: [u64; Histogram::BOUNDS_MS.len() + 1],
    /// The sum of all samples, in microseconds.
    pub sum_micros: u64,
}

impl Histogram {
    /// Upper bounds of the finite buckets, in milliseconds.
    pub const BOUNDS_MS: [u32; 25] = [
        1, 2, 3, 4, 5, 10, 20, 30, 40, 50, 100, 200, 300, 400, 500, 1_000, 2_000, 3_000, 4_000,
        5_000, 10_000, 20_000, 30_000, 40_000, 50_000,
    ];

    /// Adds a sample.
    pub fn record(&mut self, latency: Duration) {
        let micros = latency.as_secs().saturating_mul(1_000_000);
        let micros = micros.saturating_add(u64::from(latency.subsec_micros()));
        let bucket = Self::BOUNDS_MS.partition_point(|&bound| u64::from(bound) * 1000 < micros);
        self.buckets[bucket] += 1;
        self.sum_micros = self.sum_micros.saturating_add(micros);
    }

    /// How many samples there are.
    pub fn count(&self) -> u64 {
        self.buckets.iter().sum()
    }

    /// Adds another's samples.
    pub fn merge(&mut self, other: &Histogram) {
        for (mine, theirs) in self.buckets.iter_mut().zip(other.buckets) {
            *mine += theirs;
        }
        self.sum_micros = self.sum_micros.saturating_add(other.sum_micros);
    }

    /// The upper bound of the bucket that holds quantile `q` (0 to 1), in milliseconds; `None`
    /// without samples, `u32::MAX` past the last bound.
    pub fn quantile_ms(&self, q: f64) -> Option<u32> {
        let count = self.count();
        let rank = libm::ceil(count as f64 * q) as u64;
        let mut seen = 0;
        for (index, n) in self.buckets.iter().enumerate() {
            seen += n;
            if seen >= rank && seen > 0 {
                return Some(Self::BOUNDS_MS.get(index).copied().unwrap_or(u32::MAX));
            }
        }
        None
    }
}

impl Default for Histogram {
    fn default() -> Self {
        Histogram { buckets: [0; Histogram::BOUNDS_MS.len() + 1], sum_micros: 0 }
    }
}

/// Connections and bytes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TcpStats {
    /// Connections opened.
    pub opens: u64,
    /// Connections closed.
    pub closes: u64,
    /// Bytes read from the peer.
    pub read_bytes: u64,
    /// Of them: those that went on through a pipe, unseen
    /// ([`Input::Spliced`](crate::engine::Input::Spliced)).
    pub spliced_bytes: u64,
    /// Bytes written to the peer.
    pub write_bytes: u64,
}

impl TcpStats {
    /// Adds another's counts.
    pub fn merge(&mut self, other: &TcpStats) {
        self.opens += other.opens;
        self.closes += other.closes;
        self.read_bytes += other.read_bytes;
        self.spliced_bytes += other.spliced_bytes;
        self.write_bytes += other.write_bytes;
    }
}

/// What detection found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DetectStats {
    /// HTTP/1.
    pub http1: u64,
    /// HTTP/2.
    pub http2: u64,
    /// TLS, by a complete ClientHello.
    pub tls: u64,
    /// Anything else.
    pub opaque: u64,
    /// Nothing came in time.
    pub timeout: u64,
    /// Not asked: the port or the service is marked opaque.
    pub skipped: u64,
    /// From accept to the decision.
    pub duration: Histogram,
}

/// TLS sessions of one side of the proxy: with clients inbound, with endpoints outbound.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsStats {
    /// Handshakes that were completed.
    pub handshakes: u64,
    /// Of them: with a peer that showed a certificate.
    pub authenticated: u64,
    /// Handshakes that failed and sessions that broke, by `failure as usize`.
    pub failures: Box<[u64]>,
    /// Sessions that ended without close_notify where there may have been more.
    pub truncated: u64,
    /// From the first byte, or the connect, to the end of the handshake.
    pub duration: Histogram,
}

impl TlsStats {
    /// Adds another's counts.
    pub fn merge(&mut self, other: &TlsStats) {
        self.handshakes += other.handshakes;
        self.authenticated += other.authenticated;
        for (mine, theirs) in self.failures.iter_mut().zip(&other.failures) {
            *mine += theirs;
        }
        self.truncated += other.truncated;
        self.duration.merge(&other.duration);
    }
}

impl Default for TlsStats {
    fn default() -> Self {
        TlsStats {
            handshakes: 0,
            authenticated: 0,
            failures: alloc::vec![0; Failure::ALL.len()].into_boxed_slice(),
            truncated: 0,
            duration: Histogram::default(),
        }
    }
}

/// Our certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IdentitySnapshot {
    /// Whose.
    pub name: Name,
    /// Is there one that is valid now? If not, nothing meshed is served.
    pub certified: bool,
    /// From when to when the last one is valid.
    pub validity: Option<(UnixTime, UnixTime)>,
    /// How long it is still valid.
    pub expires_in: Duration,
    /// When the next one is asked for.
    pub renews_in: Duration,
    /// Certificates that came.
    pub certifications: u64,
    /// Failures to get one.
    pub failures: u64,
}

/// What became of connections that began like TLS.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HelloStats {
    /// For this proxy.
    pub terminated: u64,
    /// Named somebody else: passed on to their original destination, or to the service of that name.
    pub passed: u64,
    /// Named nobody: passed on to where they wanted to go, if that is known.
    pub nameless: u64,
    /// Named what no service is called, and had no original destination: closed.
    pub unknown: u64,
    /// Named nobody, where that is not served: closed.
    pub closed: u64,
    /// Opaque after all, by `malformed as usize`.
    pub malformed: Box<[u64]>,
}

impl HelloStats {
    /// Adds another's counts.
    pub fn merge(&mut self, other: &HelloStats) {
        self.terminated += other.terminated;
        self.passed += other.passed;
        self.nameless += other.nameless;
        self.unknown += other.unknown;
        self.closed += other.closed;
        for (mine, theirs) in self.malformed.iter_mut().zip(&other.malformed) {
            *mine += theirs;
        }
    }
}

impl Default for HelloStats {
    fn default() -> Self {
        let malformed = alloc::vec![0; Malformed::ALL.len()].into_boxed_slice();
        HelloStats { terminated: 0, passed: 0, nameless: 0, unknown: 0, closed: 0, malformed }
    }
}

/// One side of the proxy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DirectionStats {
    /// Connections that peers opened to us.
    pub accepted: TcpStats,
    /// What detection found on them.
    pub detect: DetectStats,
    /// TLS that begins or ends here.
    pub tls: TlsStats,
    /// What became of TLS among them.
    pub hellos: HelloStats,
    /// Refusals and failures, by `reason as usize`.
    pub refused: Box<[u64]>,
    /// Exchanges answered or given up.
    pub requests: u64,
    /// Rules of HTTP/2 that peers broke, by `violation as usize`.
    pub violations: Box<[u64]>,
    /// Trailer fields that were dropped because they frame or route (RFC 9110 §6.5.1).
    pub trailers_dropped: u64,
}

impl Default for DirectionStats {
    fn default() -> Self {
        DirectionStats {
            accepted: TcpStats::default(),
            detect: DetectStats::default(),
            tls: TlsStats::default(),
            hellos: HelloStats::default(),
            refused: alloc::vec![0; Reason::ALL.len()].into_boxed_slice(),
            requests: 0,
            violations: alloc::vec![0; Violation::ALL.len()].into_boxed_slice(),
            trailers_dropped: 0,
        }
    }
}

/// Declares [`Decision`] as a table: variant, metric label.
macro_rules! decisions {
    ($($(#[$doc:meta])* $variant:ident = $label:literal;)*) => {
        /// What policy decided about requests and endpoints. Each has a counter.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[repr(u8)]
        pub enum Decision {
            $($(#[$doc])* $variant,)*
        }

        impl Decision {
            /// Every decision, in declaration order: `ALL[decision as usize] == decision`.
            pub const ALL: &'static [Decision] = &[$(Decision::$variant,)*];

            /// The label value in metrics: stable, lower case, `snake_case`.
            pub const fn label(self) -> &'static str {
                match self { $(Decision::$variant => $label,)* }
            }
        }
    };
}

decisions! {
    /// A route sent the client elsewhere.
    Redirected = "redirected";
    /// A route had the request fail.
    FailureInjected = "failure_injected";
    /// A request waited for its turn.
    Queued = "queued";
    /// A request was sent again.
    Retried = "retried";
    /// A request that was sent again got an answer below 500.
    RetrySucceeded = "retry_succeeded";
    /// It would have been sent again, but had been as often as its route allows.
    RetryLimit = "retry_limit";
    /// It would have been sent again, but the budget was spent.
    RetryBudget = "retry_budget";
    /// It would have been sent again, but part of its body was not kept.
    RetryBody = "retry_body";
    /// It would have been sent again, but its time would have been up, or the endpoint forbade it.
    RetryTooLate = "retry_too_late";
    /// A request went to an endpoint of another zone: too few of the proxy's own are ready.
    OtherZone = "other_zone";
    /// A request had no key to go by: where it goes is not what its like will.
    KeyMissing = "key_missing";
    /// The endpoint that a key belongs to was not ready: the next one got the request.
    KeyUnready = "key_unready";
    /// The endpoint that a key belongs to had too much under way: the next one got the request.
    KeyOverload = "key_overload";
    /// No endpoint of the service of a split that a key belongs to was ready: another one got it.
    SplitUnready = "split_unready";
    /// The service of a split that a key belongs to had too much under way: another one got it.
    SplitOverload = "split_overload";
    /// A request was copied to this service.
    Mirrored = "mirrored";
    /// It was not: no endpoint was ready, or the one that was chosen could not be connected to.
    MirrorUnready = "mirror_unready";
    /// It was not, or its copy was reset: the worker, or the service, has enough to do.
    MirrorCap = "mirror_cap";
    /// A copy was reset: it was too far behind its request.
    MirrorBehind = "mirror_behind";
    /// A copy was reset: its request was cancelled, or over before it was complete.
    MirrorCancelled = "mirror_cancelled";
    /// A copy was reset: its answer took too long.
    MirrorTimeout = "mirror_timeout";
    /// A copy ended without a complete answer: its endpoint reset it, closed, or broke a rule.
    MirrorFailed = "mirror_failed";
    /// An endpoint failed too much, and is not asked for a while.
    Ejected = "ejected";
    /// The same, but too many were ejected already: it is asked all the same.
    EjectionSpared = "ejection_spared";
    /// An endpoint that was ejected is asked again.
    Readmitted = "readmitted";
    /// An endpoint does not pass its checks, and is not asked.
    Unhealthy = "unhealthy";
    /// An endpoint passes its checks, for the first time or again.
    Healthy = "healthy";
    /// A request was sent although too few endpoints are available, those that fail included.
    Panic = "panic";
}

/// How often each [`Decision`] was taken. Holds no memory before the first.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Decisions {
    counts: Vec<u64>,
}

impl Decisions {
    /// One more.
    pub fn count(&mut self, decision: Decision) {
        self.counts.resize(Decision::ALL.len(), 0);
        self.counts[decision as usize] += 1;
    }

    /// How often it was taken.
    pub fn get(&self, decision: Decision) -> u64 {
        self.counts.get(decision as usize).copied().unwrap_or(0)
    }

    /// Adds another's counts.
    pub fn merge(&mut self, other: &Decisions) {
        for (index, &count) in other.counts.iter().enumerate() {
            self.counts.resize(Decision::ALL.len(), 0);
            self.counts[index] += count;
        }
    }
}

/// One service, or one endpoint of it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RequestStats {
    /// Exchanges sent its way (attempts, for an endpoint).
    pub requests: u64,
    /// Final responses by class, 1xx (a tunnel's 101) to 5xx.
    pub responses: [u64; 5],
    /// Exchanges that ended without a complete response from it.
    pub failures: u64,
    /// Sent again after a pooled connection turned out to be dead.
    pub replays: u64,
    /// From the request head to the end of the response.
    pub latency: Histogram,
    /// Connections to it.
    pub tcp: TcpStats,
    /// What policy decided about its requests and endpoints.
    pub decisions: Decisions,
}

impl RequestStats {
    /// Adds another's counts.
    pub fn merge(&mut self, other: &RequestStats) {
        self.requests += other.requests;
        for (mine, theirs) in self.responses.iter_mut().zip(other.responses) {
            *mine += theirs;
        }
        self.failures += other.failures;
        self.replays += other.replays;
        self.latency.merge(&other.latency);
        self.tcp.merge(&other.tcp);
        self.decisions.merge(&other.decisions);
    }

    /// Counts a final response head.
    pub fn responded(&mut self, status: u16) {
        let class = usize::from(status / 100).clamp(1, 5) - 1;
        self.responses[class] += 1;
    }
}

/// Everything an engine has counted, and what it holds now.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Snapshot {
    /// By `Direction as usize`.
    pub directions: [DirectionStats; 2],
    /// Services in the order of the configuration, then the app and the original destinations.
    pub services: Vec<ServiceSnapshot>,
    /// Ports of the app that have limits.
    pub ports: Vec<PortSnapshot>,
    /// Our certificate, if we are somebody.
    pub identity: Option<IdentitySnapshot>,
    /// What the worker lets through at once.
    pub gate: GateSnapshot,
    /// What is held now.
    pub gauges: Gauges,
}

/// One service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServiceSnapshot {
    /// Its name.
    pub name: Arc<str>,
    /// Which side of the proxy.
    pub direction: Direction,
    /// What it counted.
    pub stats: RequestStats,
    /// Is it in fail-fast?
    pub failfast: bool,
    /// Exchanges that wait for an endpoint, or for their turn.
    pub queued: usize,
    /// What it lets through at once.
    pub gate: GateSnapshot,
    /// Its endpoints.
    pub endpoints: Vec<EndpointSnapshot>,
}

/// One port of the app that has limits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PortSnapshot {
    /// Which.
    pub number: u16,
    /// What it lets through at once.
    pub gate: GateSnapshot,
}

/// Where requests come in, as many at once as there may be.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct GateSnapshot {
    /// So many may be through at once, by now where the limit adapts. `None`: any number.
    pub limit: Option<u64>,
    /// So many are.
    pub in_flight: u64,
    /// So many wait for their turn.
    pub queued: u64,
}

impl GateSnapshot {
    /// Adds what another worker lets through.
    pub fn merge(&mut self, other: &GateSnapshot) {
        self.limit = self.limit.zip(other.limit).map(|(mine, theirs)| mine + theirs);
        self.in_flight += other.in_flight;
        self.queued += other.queued;
    }
}

/// One endpoint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EndpointSnapshot {
    /// Its address.
    pub addr: SocketAddr,
    /// May it be chosen?
    pub ready: bool,
    /// Has it failed too much to be asked?
    pub ejected: bool,
    /// Does it not pass its checks, or was it not checked yet?
    pub unhealthy: bool,
    /// Attempts in flight.
    pub pending: u32,
    /// Connections, busy and idle.
    pub connections: u32,
    /// What it counted.
    pub stats: RequestStats,
}

/// What an engine holds now.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Gauges {
    /// Connections of both directions.
    pub connections: usize,
    /// Of them: accepted ones.
    pub accepted: usize,
    /// Exchanges in flight.
    pub exchanges: usize,
    /// TLS handshakes that clients have begun and not ended.
    pub handshakes: usize,
    /// Bytes received and not yet written on.
    pub buffered_bytes: usize,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn histogram_bounds_are_inclusive() {
        let mut h = Histogram::default();
        h.record(Duration::from_millis(1));
        h.record(Duration::from_micros(1001));
        h.record(Duration::from_hours(1));
        assert_eq!((h.buckets[0], h.buckets[1], h.buckets[25]), (1, 1, 1));
        assert_eq!(h.quantile_ms(0.5), Some(2));
        assert_eq!(h.quantile_ms(1.0), Some(u32::MAX));
        assert_eq!(Histogram::default().quantile_ms(0.5), None);
    }
}
