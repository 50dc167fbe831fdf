//! `/metrics`: what the engines counted and what the system says about the process, in Prometheus
//! text, under linkerd2-proxy's names where it has one.
//!
//! Every series exists from the start, at 0, as far as its labels are known: a rate over a counter
//! that appears with its first increment misses that increment.

use std::fmt;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeLabelSet, LabelSetEncoder, text};
use prometheus_client::registry::Registry;
use selvedge_core::engine::Direction;
use selvedge_core::error::Reason;
use selvedge_core::http2::Violation;
use selvedge_core::stats::{
    Decision, DirectionStats, EndpointSnapshot, Gauges, HelloStats, RequestStats, ServiceSnapshot,
    TcpStats,
};
use selvedge_core::tls::{Failure, Malformed};

use super::families::Families;
use super::process::Process;
use super::totals::Totals;
use super::{Counters, Workers};

/// The whole answer.
pub(super) fn render(workers: Workers, counters: &Counters, ready: bool) -> String {
    let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
    let page = Page {
        totals: Totals::of(workers.snapshots),
        accept_errors: workers.accept_errors,
        reloads: [
            ("applied", count(&counters.reloads_applied)),
            ("refused", count(&counters.reloads_refused)),
        ],
        log_suppressed: count(&counters.log_suppressed),
        certificates: [
            ("success", count(&counters.certificates)),
            ("error", count(&counters.certificates_failed)),
        ],
        certified_at: count(&counters.certified_at),
        ready,
        process: Process::read(),
    };
    let mut registry = Registry::default();
    registry.register_collector(Box::new(page));
    let mut text = String::with_capacity(32 * 1024);
    // Writing to a String does not fail.
    let _ = text::encode(&mut text, &registry);
    text
}

/// Everything on the page.
#[derive(Debug)]
struct Page {
    totals: Totals,
    accept_errors: u64,
    reloads: [(&'static str, u64); 2],
    log_suppressed: u64,
    certificates: [(&'static str, u64); 2],
    certified_at: u64,
    ready: bool,
    process: Process,
}

impl Collector for Page {
    fn encode(&self, encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let mut families = Families { encoder };
        self.requests(&mut families)?;
        self.connections(&mut families)?;
        self.refusals(&mut families)?;
        self.hellos(&mut families)?;
        self.balancers(&mut families)?;
        self.endpoints(&mut families)?;
        self.gates(&mut families)?;
        self.identity(&mut families)?;
        self.proxy(&mut families)?;
        self.process(&mut families)
    }
}

type Labels<'a, const N: usize> = [(&'a str, &'a str); N];

/// Name, help, and which number of a `T` it shows.
type Family<T> = (&'static str, &'static str, fn(&T) -> u64);

impl Page {
    fn services(&self) -> impl Iterator<Item = (Labels<'_, 2>, &ServiceSnapshot)> {
        self.totals.services.values().map(|service| {
            let direction = ("direction", service.direction.label());
            ([direction, ("service", &service.name)], service)
        })
    }

    fn directions(&self) -> impl Iterator<Item = (Labels<'_, 1>, &DirectionStats)> {
        let stats = Direction::ALL.into_iter().zip(&self.totals.directions);
        stats.map(|(direction, stats)| ([("direction", direction.label())], stats))
    }

    fn requests(&self, families: &mut Families<'_>) -> fmt::Result {
        families.counters(
            "request",
            "Requests sent to a service.",
            self.services().map(|(labels, s)| (labels, s.stats.requests)),
        )?;
        families.counters(
            "response",
            "Final responses from a service. From 500 on they are failures.",
            self.services().flat_map(|(labels, service)| {
                let classes = ["1xx", "2xx", "3xx", "4xx", "5xx"].into_iter();
                classes.zip(service.stats.responses).map(move |(class, count)| {
                    let judged = if class == "5xx" { "failure" } else { "success" };
                    let [direction, name] = labels;
                    let judged = ("classification", judged);
                    ([direction, name, judged, ("status_class", class)], count)
                })
            }),
        )?;
        families.histograms(
            "response_latency_ms",
            "From the request head to the end of the response.",
            self.services().map(|(labels, s)| (labels, &s.stats.latency)),
        )?;
        families.counters(
            "request_failures",
            "Requests that ended without a complete response from the service.",
            self.services().map(|(labels, s)| (labels, s.stats.failures)),
        )?;
        families.counters(
            "request_replays",
            "Requests sent again because a pooled connection turned out to be dead.",
            self.services().map(|(labels, s)| (labels, s.stats.replays)),
        )?;
        // Only what was ever decided: most services have no policy.
        families.counters(
            "policy_decisions",
            "What policy decided about requests for a service.",
            self.services().flat_map(|([direction, service], s)| {
                let taken = Decision::ALL.iter().map(move |&decision| {
                    let labels = [direction, service, ("decision", decision.label())];
                    (labels, s.stats.decisions.get(decision))
                });
                taken.filter(|&(_, count)| count > 0)
            }),
        )
    }

    /// Connections and bytes: `peer="src"` are the clients', `peer="dst"` those to the endpoints.
    fn connections(&self, families: &mut Families<'_>) -> fmt::Result {
        let series = || {
            let src = self
                .directions()
                .map(|([direction], stats)| (TcpLabels::new(direction.1, None), &stats.accepted));
            let dst = self.services().map(|([direction, service], s)| {
                (TcpLabels::new(direction.1, Some(service.1)), &s.stats.tcp)
            });
            src.chain(dst)
        };
        let counters: [Family<TcpStats>; 5] = [
            ("tcp_open", "Connections opened.", |tcp| tcp.opens),
            ("tcp_close", "Connections closed.", |tcp| tcp.closes),
            ("tcp_read_bytes", "Bytes read from peers.", |tcp| tcp.read_bytes),
            (
                "tcp_spliced_bytes",
                "Bytes read from peers that went on by splice, without a copy.",
                |tcp| tcp.spliced_bytes,
            ),
            ("tcp_write_bytes", "Bytes written to peers.", |tcp| tcp.write_bytes),
        ];
        for (name, help, value) in counters {
            families.counters(name, help, series().map(|(labels, tcp)| (labels, value(tcp))))?;
        }
        families.gauges(
            "tcp_open_connections",
            "Connections open now.",
            series().map(|(labels, tcp)| (labels, tcp.opens.saturating_sub(tcp.closes))),
        )
    }

    fn refusals(&self, families: &mut Families<'_>) -> fmt::Result {
        families.counters(
            "proxy_refused",
            "Messages refused, requests failed and connections ended early, by reason.",
            self.directions().flat_map(|([direction], stats)| {
                Reason::ALL
                    .iter()
                    .zip(&stats.refused)
                    .map(move |(reason, count)| ([direction, ("reason", reason.label())], *count))
            }),
        )?;
        families.counters(
            "proxy_http2_violations",
            "Rules of HTTP/2 that peers broke, at the cost of a stream or the connection.",
            self.directions().flat_map(|([direction], stats)| {
                Violation::ALL.iter().zip(&stats.violations).map(move |(violation, count)| {
                    ([direction, ("violation", violation.label())], *count)
                })
            }),
        )?;
        families.counters(
            "proxy_tls_handshakes",
            "TLS handshakes completed: with clients inbound, with endpoints outbound.",
            self.directions().map(|(labels, stats)| (labels, stats.tls.handshakes)),
        )?;
        families.counters(
            "proxy_tls_failures",
            "TLS handshakes that failed and sessions that broke.",
            self.directions().flat_map(|([direction], stats)| {
                Failure::ALL.iter().zip(&stats.tls.failures).map(move |(failure, count)| {
                    ([direction, ("failure", failure.label())], *count)
                })
            }),
        )?;
        families.counters(
            "proxy_tls_truncated",
            "TLS sessions that ended without close_notify where there may have been more.",
            self.directions().map(|(labels, stats)| (labels, stats.tls.truncated)),
        )?;
        families.counters(
            "proxy_requests",
            "Requests answered or given up, whether a service was found or not.",
            self.directions().map(|(labels, stats)| (labels, stats.requests)),
        )?;
        families.counters(
            "proxy_trailers_dropped",
            "Trailer fields dropped because they frame or route (RFC 9110 §6.5.1).",
            self.directions().map(|(labels, stats)| (labels, stats.trailers_dropped)),
        )?;
        for (direction, stats) in Direction::ALL.into_iter().zip(&self.totals.directions) {
            let [results_name, duration_name] = match direction {
                Direction::Outbound => [
                    "outbound_tcp_detect_http_results",
                    "outbound_tcp_detect_http_duration_seconds",
                ],
                Direction::Inbound => {
                    ["inbound_tcp_detect_http_results", "inbound_tcp_detect_http_duration_seconds"]
                }
            };
            let found = &stats.detect;
            let results = [
                ("http/1", found.http1),
                ("http/2", found.http2),
                ("tls", found.tls),
                ("not_http", found.opaque),
                ("read_timeout", found.timeout),
                ("skipped", found.skipped),
            ];
            families.counters(
                results_name,
                "What protocol detection found on accepted connections.",
                results.map(|(result, count)| ([("result", result)], count)),
            )?;
            families.histogram_seconds(
                duration_name,
                "From accept to the decision.",
                &found.duration,
            )?;
        }
        Ok(())
    }

    /// What became of connections that began like TLS.
    fn hellos(&self, families: &mut Families<'_>) -> fmt::Result {
        families.counters(
            "proxy_tls_client_hellos",
            "Complete ClientHellos, by what became of the connection.",
            self.directions().flat_map(|([direction], stats)| {
                let HelloStats { terminated, passed, nameless, unknown, closed, .. } = stats.hellos;
                [
                    ("terminate", terminated),
                    ("passthrough", passed),
                    ("passthrough_nameless", nameless),
                    ("close_unknown", unknown),
                    ("close_nameless", closed),
                ]
                .map(|(decision, count)| ([direction, ("decision", decision)], count))
            }),
        )?;
        families.counters(
            "proxy_tls_malformed_hellos",
            "Connections that began like TLS and were none: forwarded as opaque.",
            self.directions().flat_map(|([direction], stats)| {
                Malformed::ALL
                    .iter()
                    .zip(&stats.hellos.malformed)
                    .map(move |(reason, count)| ([direction, ("reason", reason.label())], *count))
            }),
        )
    }

    fn balancers(&self, families: &mut Families<'_>) -> fmt::Result {
        families.gauges(
            "balancer_endpoints",
            "Endpoints of a service, by whether they may be chosen.",
            self.services().flat_map(|([direction, service], s)| {
                let ready = s.endpoints.iter().filter(|e| e.ready).count();
                let counts = [("ready", ready), ("pending", s.endpoints.len() - ready)];
                counts.map(|(state, count)| {
                    ([direction, service, ("endpoint_state", state)], count as u64)
                })
            }),
        )?;
        families.gauges(
            "balancer_ejected_endpoints",
            "Endpoints of a service that failed too much to be asked.",
            self.services().map(|(labels, s)| {
                (labels, s.endpoints.iter().filter(|endpoint| endpoint.ejected).count() as u64)
            }),
        )?;
        families.gauges(
            "balancer_queue_length",
            "Requests that wait for an endpoint.",
            self.services().map(|(labels, s)| (labels, s.queued as u64)),
        )?;
        families.gauges(
            "balancer_failfast",
            "1 while requests fail at once, because no endpoint was ready for too long.",
            self.services().map(|(labels, s)| (labels, u64::from(s.failfast))),
        )
    }

    /// Limits of requests in flight, where there are any.
    fn gates(&self, families: &mut Families<'_>) -> fmt::Result {
        let all = self.totals.gate.unwrap_or_default();
        if let Some(limit) = all.limit {
            let help = "Requests that the proxy has in flight at once.";
            families.gauge("proxy_concurrency_limit", help, &limit)?;
        }
        families.gauge(
            "proxy_queue_length",
            "Requests that wait for their turn at the proxy.",
            &all.queued,
        )?;
        families.gauges(
            "concurrency_limit",
            "Requests that a service is sent at once, as far as it is limited; where the limit adapts: by now.",
            self.services().filter_map(|(labels, s)| Some((labels, s.gate.limit?))),
        )?;
        let ports = || self.totals.ports.iter().map(|(&port, gate)| ([("port", port)], gate));
        families.gauges(
            "port_concurrency_limit",
            "Requests that a port of the app is sent at once, as far as it is limited.",
            ports().filter_map(|(labels, gate)| Some((labels, gate.limit?))),
        )?;
        families.gauges(
            "port_requests_in_flight",
            "Requests to a port with limits that are under way.",
            ports().map(|(labels, gate)| (labels, gate.in_flight)),
        )?;
        families.gauges(
            "port_queue_length",
            "Requests to a port that wait for their turn.",
            ports().map(|(labels, gate)| (labels, gate.queued)),
        )
    }

    fn endpoints(&self, families: &mut Families<'_>) -> fmt::Result {
        let series = || {
            self.services().flat_map(|([direction, service], s)| {
                s.endpoints.iter().map(move |endpoint| {
                    let labels = EndpointLabels {
                        direction: direction.1,
                        service: service.1,
                        addr: endpoint.addr,
                    };
                    (labels, endpoint)
                })
            })
        };
        let gauges: [Family<EndpointSnapshot>; 5] = [
            ("endpoint_ready", "1 if the endpoint may be chosen.", |e| u64::from(e.ready)),
            ("endpoint_ejected", "1 if the endpoint failed too much to be asked.", |e| {
                u64::from(e.ejected)
            }),
            ("endpoint_unhealthy", "1 if the endpoint does not pass its health checks.", |e| {
                u64::from(e.unhealthy)
            }),
            ("endpoint_pending", "Requests in flight to the endpoint.", |e| u64::from(e.pending)),
            ("endpoint_connections", "Connections to the endpoint, busy and idle.", |e| {
                u64::from(e.connections)
            }),
        ];
        for (name, help, value) in gauges {
            families.gauges(name, help, series().map(|(labels, e)| (labels, value(e))))?;
        }
        let counters: [Family<RequestStats>; 2] = [
            ("endpoint_request", "Requests sent to the endpoint.", |stats| stats.requests),
            (
                "endpoint_failures",
                "Requests that got no complete response or a 5xx from the endpoint.",
                |stats| stats.failures + stats.responses[4],
            ),
        ];
        for (name, help, value) in counters {
            let series = series().map(|(labels, e)| (labels, value(&e.stats)));
            families.counters(name, help, series)?;
        }
        Ok(())
    }

    /// Our certificate: of the worker that is worst off.
    fn identity(&self, families: &mut Families<'_>) -> fmt::Result {
        families.counters(
            "control_identity_cert_refreshes",
            "Answers of the certificate authority.",
            self.certificates.map(|(result, n)| ([("result", result)], n)),
        )?;
        // Who has no identity has no certificate that could be over.
        let Some(identity) = &self.totals.identity else { return Ok(()) };
        let (_, not_after) = identity.validity.unwrap_or_default();
        for (name, help, value) in [
            (
                "control_identity_cert_expiration_timestamp_seconds",
                "When our certificate ends, since the Unix epoch; 0: there is none.",
                not_after.as_secs(),
            ),
            (
                "control_identity_cert_refresh_timestamp_seconds",
                "When our certificate came, since the Unix epoch; 0: there is none.",
                self.certified_at,
            ),
            (
                "proxy_identity_certified",
                "1 while our certificate is valid.",
                u64::from(identity.certified),
            ),
            (
                "proxy_identity_renewal_seconds",
                "Until the next certificate is asked for.",
                identity.renews_in.as_secs(),
            ),
        ] {
            families.gauge(name, help, &value)?;
        }
        Ok(())
    }

    fn proxy(&self, families: &mut Families<'_>) -> fmt::Result {
        let Gauges { connections, accepted, exchanges, handshakes, buffered_bytes } =
            self.totals.gauges;
        for (name, help, value) in [
            ("proxy_connections", "Connections held.", connections),
            ("proxy_accepted_connections", "Of them: accepted ones.", accepted),
            ("proxy_requests_in_flight", "Requests in flight.", exchanges),
            ("proxy_tls_handshaking", "TLS handshakes that clients have begun.", handshakes),
            ("proxy_buffered_bytes", "Bytes received and not yet written on.", buffered_bytes),
            ("proxy_ready", "1 while serving, 0 once draining.", usize::from(self.ready)),
        ] {
            families.gauge(name, help, &(value as u64))?;
        }
        families.counters(
            "proxy_mesh_reloads",
            "Changes of the mesh file.",
            self.reloads.map(|(result, n)| ([("result", result)], n)),
        )?;
        for (name, help, value) in [
            ("proxy_accept_errors", "How often accepting a connection failed.", self.accept_errors),
            (
                "proxy_log_suppressed",
                "Log lines not written because they were too many.",
                self.log_suppressed,
            ),
        ] {
            families.counter(name, help, &value)?;
        }
        let profile = if cfg!(debug_assertions) { "debug" } else { "release" };
        let labels = [
            ("version", env!("CARGO_PKG_VERSION")),
            ("profile", profile),
            ("arch", std::env::consts::ARCH),
            ("os", std::env::consts::OS),
        ];
        families.info("proxy_build", "Which build this is.", &labels)
    }

    fn process(&self, families: &mut Families<'_>) -> fmt::Result {
        let process = &self.process;
        if let Some(seconds) = process.cpu_seconds {
            let help = "User and system CPU time spent.";
            families.counter("process_cpu_seconds", help, &seconds)?;
        }
        if let Some(seconds) = process.start_time {
            let help = "When the process started, since the Unix epoch.";
            families.gauge("process_start_time_seconds", help, &seconds)?;
        }
        for (name, help, value) in [
            ("process_resident_memory_bytes", "Memory in use.", process.resident_bytes),
            ("process_virtual_memory_bytes", "Address space in use.", process.virtual_bytes),
            ("process_open_fds", "Open descriptors.", process.open_fds),
            ("process_max_fds", "How many descriptors may be open.", process.max_fds),
            ("process_threads", "Threads.", process.threads),
        ] {
            if let Some(value) = value {
                families.gauge(name, help, &value)?;
            }
        }
        Ok(())
    }
}

/// Labels of `tcp_*`: clients have no service.
#[derive(Clone, Copy, Debug)]
struct TcpLabels<'a> {
    direction: &'a str,
    service: Option<&'a str>,
}

impl<'a> TcpLabels<'a> {
    fn new(direction: &'a str, service: Option<&'a str>) -> Self {
        TcpLabels { direction, service }
    }
}

impl EncodeLabelSet for TcpLabels<'_> {
    fn encode(&self, encoder: &mut LabelSetEncoder<'_>) -> fmt::Result {
        let direction = ("direction", self.direction);
        match self.service {
            None => [direction, ("peer", "src")].encode(encoder),
            Some(service) => [direction, ("peer", "dst"), ("service", service)].encode(encoder),
        }
    }
}

/// Labels of `endpoint_*`.
#[derive(Clone, Copy, Debug)]
struct EndpointLabels<'a> {
    direction: &'a str,
    service: &'a str,
    addr: SocketAddr,
}

impl EncodeLabelSet for EndpointLabels<'_> {
    fn encode(&self, encoder: &mut LabelSetEncoder<'_>) -> fmt::Result {
        let addr = self.addr.to_string();
        [("direction", self.direction), ("service", self.service), ("target_addr", &addr)]
            .encode(encoder)
    }
}
