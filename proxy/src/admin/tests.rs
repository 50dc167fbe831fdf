use std::collections::BTreeMap;
use std::net::SocketAddr;

use selvedge_core::engine::Direction;
use selvedge_core::error::Reason;
use selvedge_core::identity::Name;
use selvedge_core::stats::{
    EndpointSnapshot, GateSnapshot, IdentitySnapshot, PortSnapshot, RequestStats, ServiceSnapshot,
};
use selvedge_core::time::UnixTime;
use selvedge_core::tls::Failure;
use selvedge_core::tls::Malformed;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::*;

/// What one worker could have counted.
fn snapshot() -> Snapshot {
    let mut snapshot = Snapshot::default();
    let outbound = &mut snapshot.directions[Direction::Outbound as usize];
    outbound.accepted.opens = 5;
    outbound.accepted.closes = 2;
    outbound.accepted.read_bytes = 100;
    outbound.accepted.spliced_bytes = 60;
    outbound.accepted.write_bytes = 200;
    outbound.detect.http1 = 4;
    outbound.detect.timeout = 1;
    outbound.hellos.passed = 3;
    outbound.hellos.malformed[Malformed::Trailing as usize] = 2;
    outbound.detect.duration.record(Duration::from_millis(4));
    outbound.detect.duration.record(Duration::from_secs(10));
    outbound.refused[Reason::BareLf as usize] = 3;
    outbound.requests = 10;
    outbound.trailers_dropped = 1;
    let mut service = ServiceSnapshot {
        name: "we\"b:80".into(),
        direction: Direction::Outbound,
        stats: RequestStats::default(),
        failfast: true,
        queued: 6,
        gate: GateSnapshot { limit: Some(10), in_flight: 4, queued: 2 },
        endpoints: vec![
            EndpointSnapshot {
                addr: "10.0.0.1:80".parse().unwrap(),
                ready: true,
                ejected: false,
                unhealthy: false,
                pending: 2,
                connections: 3,
                stats: RequestStats::default(),
            },
            EndpointSnapshot {
                addr: "[::1]:80".parse().unwrap(),
                ready: false,
                ejected: true,
                unhealthy: true,
                pending: 0,
                connections: 0,
                stats: RequestStats::default(),
            },
        ],
    };
    service.stats.requests = 9;
    for status in [101, 200, 204, 304, 404, 500, 503] {
        service.stats.responded(status);
    }
    service.stats.failures = 2;
    service.stats.replays = 1;
    service.stats.latency.record(Duration::from_micros(1500));
    service.stats.latency.record(Duration::from_secs(100));
    service.stats.tcp.opens = 4;
    service.stats.tcp.closes = 1;
    service.endpoints[0].stats.requests = 8;
    service.endpoints[0].stats.failures = 1;
    service.endpoints[0].stats.responded(500);
    snapshot.services.push(service);
    let gate = GateSnapshot { limit: None, in_flight: 3, queued: 1 };
    snapshot.ports.push(PortSnapshot { number: 8080, gate });
    snapshot.gate = GateSnapshot { limit: Some(20), in_flight: 7, queued: 5 };
    snapshot.gauges.connections = 6;
    outbound_tls(&mut snapshot);
    snapshot.identity = Some(IdentitySnapshot {
        name: Name::parse("web.ns.cluster.local").unwrap(),
        certified: true,
        validity: Some((UnixTime::from_secs(1_000), UnixTime::from_secs(87_400))),
        expires_in: Duration::from_secs(100),
        renews_in: Duration::from_secs(70),
        certifications: 2,
        failures: 1,
    });
    snapshot.gauges.accepted = 3;
    snapshot.gauges.exchanges = 2;
    snapshot.gauges.buffered_bytes = 1234;
    snapshot
}

fn outbound_tls(snapshot: &mut Snapshot) {
    let tls = &mut snapshot.directions[Direction::Outbound as usize].tls;
    tls.handshakes = 4;
    tls.failures[Failure::WrongIdentity as usize] = 2;
    tls.truncated = 1;
}

/// Series and values of a page, which has to be well-formed: no series twice, each after the type
/// of its family, and no family twice.
fn parse(text: &str) -> BTreeMap<String, f64> {
    let mut series = BTreeMap::new();
    let mut family = String::new();
    let mut families = Vec::new();
    let lines: Vec<&str> = text.strip_suffix("# EOF\n").unwrap().lines().collect();
    for line in lines {
        if let Some(comment) = line.strip_prefix("# ") {
            let mut words = comment.splitn(3, ' ');
            let (keyword, name) = (words.next().unwrap(), words.next().unwrap());
            assert!(!words.next().unwrap().is_empty(), "{line}");
            match keyword {
                "HELP" => {
                    assert!(!families.contains(&name), "{name} twice");
                    families.push(name);
                    family = name.into();
                }
                "TYPE" => assert_eq!(family, name),
                _ => panic!("{line}"),
            }
            continue;
        }
        let (name, value) = line.rsplit_once(' ').unwrap();
        let suffix = name.strip_prefix(&family).unwrap_or_else(|| panic!("{line}"));
        let suffix = suffix.split('{').next().unwrap();
        assert!(["", "_total", "_sum", "_count", "_bucket", "_info"].contains(&suffix), "{line}");
        let value = value.parse().unwrap_or_else(|_| panic!("{line}"));
        assert_eq!(series.insert(name.into(), value), None, "{line}");
    }
    series
}

fn page(snapshots: Vec<Snapshot>) -> BTreeMap<String, f64> {
    let counters = Counters::default();
    counters.reloads_refused.store(7, Ordering::Relaxed);
    counters.log_suppressed.store(8, Ordering::Relaxed);
    counters.certificates.store(3, Ordering::Relaxed);
    counters.certificates_failed.store(4, Ordering::Relaxed);
    counters.certified_at.store(1_020, Ordering::Relaxed);
    let workers = Workers { snapshots, accept_errors: 9 };
    parse(&metrics::render(workers, &counters, true))
}

/// What [`snapshot`] becomes. `WEB` are the labels of its service.
const EXPECTED: &str = r#"
request_total{WEB} 9
response_total{WEB,classification="success",status_class="1xx"} 1
response_total{WEB,classification="success",status_class="2xx"} 2
response_total{WEB,classification="success",status_class="3xx"} 1
response_total{WEB,classification="success",status_class="4xx"} 1
response_total{WEB,classification="failure",status_class="5xx"} 2
response_latency_ms_sum{WEB} 100001.5
response_latency_ms_count{WEB} 2
response_latency_ms_bucket{le="1.0",WEB} 0
response_latency_ms_bucket{le="2.0",WEB} 1
response_latency_ms_bucket{le="50000.0",WEB} 1
response_latency_ms_bucket{le="+Inf",WEB} 2
request_failures_total{WEB} 2
request_replays_total{WEB} 1
tcp_open_total{direction="outbound",peer="src"} 5
tcp_close_total{direction="outbound",peer="src"} 2
tcp_open_connections{direction="outbound",peer="src"} 3
tcp_read_bytes_total{direction="outbound",peer="src"} 100
tcp_spliced_bytes_total{direction="outbound",peer="src"} 60
tcp_write_bytes_total{direction="outbound",peer="src"} 200
tcp_open_total{direction="inbound",peer="src"} 0
tcp_open_total{direction="outbound",peer="dst",service="we\"b:80"} 4
tcp_open_connections{direction="outbound",peer="dst",service="we\"b:80"} 3
proxy_refused_total{direction="outbound",reason="bare_lf"} 3
proxy_refused_total{direction="inbound",reason="half_open"} 0
proxy_requests_total{direction="outbound"} 10
proxy_trailers_dropped_total{direction="outbound"} 1
outbound_tcp_detect_http_results_total{result="http/1"} 4
outbound_tcp_detect_http_results_total{result="read_timeout"} 1
inbound_tcp_detect_http_results_total{result="skipped"} 0
proxy_tls_client_hellos_total{direction="outbound",decision="passthrough"} 3
proxy_tls_client_hellos_total{direction="inbound",decision="close_unknown"} 0
proxy_tls_malformed_hellos_total{direction="outbound",reason="trailing"} 2
proxy_tls_malformed_hellos_total{direction="inbound",reason="incomplete"} 0
outbound_tcp_detect_http_duration_seconds_sum 10.004
outbound_tcp_detect_http_duration_seconds_count 2
outbound_tcp_detect_http_duration_seconds_bucket{le="0.003"} 0
outbound_tcp_detect_http_duration_seconds_bucket{le="0.004"} 1
outbound_tcp_detect_http_duration_seconds_bucket{le="10.0"} 2
inbound_tcp_detect_http_duration_seconds_count 0
balancer_endpoints{WEB,endpoint_state="ready"} 1
balancer_endpoints{WEB,endpoint_state="pending"} 1
balancer_ejected_endpoints{WEB} 1
balancer_queue_length{WEB} 6
balancer_failfast{WEB} 1
proxy_concurrency_limit 20
proxy_queue_length 5
concurrency_limit{WEB} 10
port_requests_in_flight{port="8080"} 3
port_queue_length{port="8080"} 1
endpoint_ready{WEB,target_addr="10.0.0.1:80"} 1
endpoint_ready{WEB,target_addr="[::1]:80"} 0
endpoint_ejected{WEB,target_addr="10.0.0.1:80"} 0
endpoint_ejected{WEB,target_addr="[::1]:80"} 1
endpoint_unhealthy{WEB,target_addr="10.0.0.1:80"} 0
endpoint_unhealthy{WEB,target_addr="[::1]:80"} 1
endpoint_pending{WEB,target_addr="10.0.0.1:80"} 2
endpoint_connections{WEB,target_addr="10.0.0.1:80"} 3
endpoint_request_total{WEB,target_addr="10.0.0.1:80"} 8
endpoint_failures_total{WEB,target_addr="10.0.0.1:80"} 2
proxy_connections 6
proxy_accepted_connections 3
proxy_requests_in_flight 2
proxy_buffered_bytes 1234
proxy_ready 1
proxy_mesh_reloads_total{result="applied"} 0
proxy_mesh_reloads_total{result="refused"} 7
proxy_accept_errors_total 9
proxy_log_suppressed_total 8
proxy_tls_handshakes_total{direction="outbound"} 4
proxy_tls_failures_total{direction="outbound",failure="wrong_identity"} 2
proxy_tls_failures_total{direction="inbound",failure="expired"} 0
proxy_tls_truncated_total{direction="outbound"} 1
control_identity_cert_refreshes_total{result="success"} 3
control_identity_cert_refreshes_total{result="error"} 4
control_identity_cert_expiration_timestamp_seconds 87400
control_identity_cert_refresh_timestamp_seconds 1020
proxy_identity_certified 1
proxy_identity_renewal_seconds 70
"#;

#[test]
fn everything_that_was_counted_is_on_the_page() {
    let page = page(vec![snapshot()]);
    let expected = EXPECTED.replace("WEB", r#"direction="outbound",service="we\"b:80""#);
    for line in expected.trim().lines() {
        let (series, value) = line.rsplit_once(' ').unwrap();
        let value: f64 = value.parse().unwrap();
        let found = page.get(series);
        assert_eq!(found, Some(&value), "{series} among {:#?}", page.keys());
    }
    for series in [
        "process_cpu_seconds_total",
        "process_resident_memory_bytes",
        "process_virtual_memory_bytes",
        "process_open_fds",
        "process_max_fds",
        "process_threads",
        "process_start_time_seconds",
    ] {
        assert!(page.contains_key(series), "{series}");
    }
    let version = env!("CARGO_PKG_VERSION");
    let build = format!("proxy_build_info{{version=\"{version}\",");
    assert!(page.keys().any(|series| series.starts_with(&build)));
}

#[test]
fn every_reason_has_a_series_from_the_start() {
    let page = page(Vec::new());
    for direction in Direction::ALL {
        for reason in Reason::ALL {
            let (direction, reason) = (direction.label(), reason.label());
            let series =
                format!("proxy_refused_total{{direction=\"{direction}\",reason=\"{reason}\"}}");
            assert_eq!(page.get(&series), Some(&0.0), "{series}");
        }
    }
}

#[test]
fn an_address_that_two_names_lead_to_is_one_series() {
    let mut snapshot = snapshot();
    let twin = snapshot.services[0].endpoints[0].clone();
    snapshot.services[0].endpoints.push(twin);
    let page = page(vec![snapshot]);
    let series =
        r#"endpoint_pending{direction="outbound",service="we\"b:80",target_addr="10.0.0.1:80"}"#;
    assert_eq!(page.get(series), Some(&4.0));
}

#[test]
fn workers_are_summed_up() {
    let one = page(vec![snapshot()]);
    let mut other = snapshot();
    other.services[0].endpoints[0].ready = false;
    let two = page(vec![snapshot(), other]);
    assert_eq!(one.keys().collect::<Vec<_>>(), two.keys().collect::<Vec<_>>());
    for (series, &value) in &two {
        let expected = match one[series] {
            // Said once per process, or not a sum.
            _ if series.starts_with("process_") => value,
            same if [
                "proxy_ready",
                "proxy_build",
                "proxy_mesh",
                "proxy_log",
                "proxy_accept_e",
                "proxy_identity",
                "control_identity",
            ]
            .iter()
            .any(|prefix| series.starts_with(prefix)) =>
            {
                same
            }
            same if series.starts_with("balancer_failfast") => same,
            same if series.contains("_ejected") || series.contains("_unhealthy") => same,
            _ if series.starts_with("endpoint_ready") => 0.0,
            _ if series.contains("endpoint_state=\"ready\"") => 0.0,
            _ if series.contains("endpoint_state=\"pending\"") => 2.0,
            one => 2.0 * one,
        };
        assert!((value - expected).abs() < 1e-9, "{series}: {value} {expected}");
    }
}

/// A server and what it tells.
async fn serve(admin: Admin) -> (Arc<Admin>, SocketAddr) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    let admin = Arc::new(admin);
    tokio::spawn(Arc::clone(&admin).serve(listener));
    (admin, addr)
}

/// Sends a request and reads until the server closes: head and body.
async fn ask(addr: SocketAddr, request: impl AsRef<[u8]>) -> (String, String) {
    let mut stream = TcpStream::connect(addr).await.unwrap();
    stream.write_all(request.as_ref()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    (head.to_ascii_lowercase(), body.into())
}

fn run(test: impl Future<Output = ()>) {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(test);
}

#[test]
fn live_ready_and_everything_else() {
    run(async {
        let (admin, addr) =
            serve(Admin::new(Arc::default(), || async { Workers::default() })).await;
        let get = |path: &str| format!("GET {path} HTTP/1.1\r\nHost: x\r\n\r\n");
        let (head, body) = ask(addr, get("/live")).await;
        assert!(head.starts_with("http/1.1 200 ok\r\n"), "{head}");
        assert!(head.contains("connection: close"), "{head}");
        assert_eq!(body, "live\n");

        let (head, body) = ask(addr, get("/ready")).await;
        assert!(head.starts_with("http/1.1 503 "), "{head}");
        assert_eq!(body, "not ready\n");
        admin.ready.store(true, Ordering::Relaxed);
        let (head, body) = ask(addr, get("/ready?verbose")).await;
        assert!(head.starts_with("http/1.1 200 "), "{head}");
        assert_eq!(body, "ready\n");

        let (head, body) = ask(addr, "HEAD /ready HTTP/1.1\r\nHost: x\r\n\r\n").await;
        assert!(head.starts_with("http/1.1 200 "), "{head}");
        assert!(head.contains("content-length: 6"), "{head}");
        assert_eq!(body, "");

        let (head, _) = ask(addr, get("/")).await;
        assert!(head.starts_with("http/1.1 404 "), "{head}");
        let (head, _) =
            ask(addr, "POST /live HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n").await;
        assert!(head.starts_with("http/1.1 405 "), "{head}");
        assert!(head.contains("allow: get, head"), "{head}");
        let (head, _) = ask(addr, "no http\r\n\r\n").await;
        assert!(head.starts_with("http/1.1 400 "), "{head}");
    });
}

#[test]
fn it_is_not_ready_while_any_worker_has_no_valid_certificate() {
    run(async {
        let certified = Arc::new(AtomicBool::new(false));
        let now = Arc::clone(&certified);
        let scrape = move || {
            let mut other = snapshot();
            let identity = other.identity.as_mut().unwrap();
            identity.certified = now.load(Ordering::Relaxed);
            async { Workers { snapshots: vec![snapshot(), other], accept_errors: 0 } }
        };
        let (admin, addr) = serve(Admin::new(Arc::default(), scrape)).await;
        admin.ready.store(true, Ordering::Relaxed);
        let get = "GET /ready HTTP/1.1\r\nHost: x\r\n\r\n";
        let (head, body) = ask(addr, get).await;
        assert!(head.starts_with("http/1.1 503 "), "{head}");
        assert_eq!(body, "not ready: no valid certificate\n");
        certified.store(true, Ordering::Relaxed);
        let (head, _) = ask(addr, get).await;
        assert!(head.starts_with("http/1.1 200 "), "{head}");
    });
}

#[test]
fn metrics_are_served_in_the_format_that_was_asked_for() {
    run(async {
        let scrape = || async { Workers { snapshots: vec![snapshot()], accept_errors: 0 } };
        let (_, addr) = serve(Admin::new(Arc::default(), scrape)).await;
        let plain = "GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n";
        let (head, body) = ask(addr, plain).await;
        assert!(head.contains("content-type: text/plain; version=0.0.4"), "{head}");
        let request = "request_total{direction=\"outbound\",service=\"we\\\"b:80\"}";
        assert_eq!(parse(&body).get(request), Some(&9.0));

        let open = "GET /metrics HTTP/1.1\r\nHost: x\r\n\
                    Accept: application/openmetrics-text;version=1.0.0,text/plain;q=0.5\r\n\r\n";
        let (head, body) = ask(addr, open).await;
        assert!(
            head.contains("content-type: application/openmetrics-text; version=1.0.0"),
            "{head}"
        );
        assert!(body.ends_with("# EOF\n"));
    });
}

#[test]
fn a_worker_that_does_not_answer_does_not_hang_the_scrape() {
    run(async {
        let admin = Admin::new(Arc::default(), std::future::pending::<Workers>);
        let (_, addr) = serve(admin).await;
        let metrics = tokio::spawn(ask(addr, "GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n"));
        // It answers other questions meanwhile.
        let (_, body) = ask(addr, "GET /live HTTP/1.1\r\nHost: x\r\n\r\n").await;
        assert_eq!(body, "live\n");
        assert!(!metrics.is_finished());
        let (head, _) = metrics.await.unwrap();
        assert!(head.starts_with("http/1.1 503 "), "{head}");
    });
}
