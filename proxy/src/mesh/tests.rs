mod bad;
mod balance;
mod reload;
mod route;

use std::time::Duration;

use selvedge_core::config::{Allow, InboundPort, ListenerKind, Meshed, Target};
use selvedge_core::identity::{Name, Pattern};
use selvedge_core::policy::RateLimit;
use selvedge_core::policy::rate::{ClientMatch, Override};
use selvedge_core::tls::Nameless;

use super::*;
use crate::ca;

/// Reads a file that has to be good.
fn good(text: &str) -> Mesh {
    Mesh::parse(text).unwrap_or_else(|problems| panic!("{problems:?} in\n{text}"))
}

/// What is wrong with a file, as `check` prints it.
fn bad(text: &str) -> Vec<String> {
    match Mesh::parse(text) {
        Ok(mesh) => panic!("accepted as {mesh:?}:\n{text}"),
        Err(problems) => problems.iter().map(ToString::to_string).collect(),
    }
}

const REFERENCE: &str = include_str!("reference.toml");

#[test]
fn an_empty_file_is_all_defaults_and_the_reference_shows_them() {
    let empty = good("");
    let reference = good(REFERENCE);
    assert_eq!(empty.config.limits, Limits::default());
    assert_eq!(empty.config.timeouts, Timeouts::default());
    assert_eq!(empty.config.app, None);
    assert_eq!(empty.config.services, []);
    assert_eq!(empty.config.listeners, reference.config.listeners[..2], "outbound and inbound");
    assert_eq!(empty.config.limits, reference.config.limits);
    assert_eq!(empty.config.timeouts, reference.config.timeouts);
    assert_eq!(empty.config.opaque_ports, reference.config.opaque_ports);
    assert_eq!(empty.admin, reference.admin);
    assert_eq!(empty.sockets, reference.sockets);
    assert_eq!(empty.workers.unwrap_or(1), reference.workers.unwrap());
}

/// The errors about unknown keys list what is known: the reference must name all of it.
#[test]
fn the_reference_names_every_key() {
    for (header, key) in [
        ("[proxy]", "proxy.x"),
        ("[limits]", "limits.x"),
        ("[timeouts]", "timeouts.x"),
        ("[identity]", "identity.x"),
        ("[[inbound]]", "inbound[0].x"),
        ("[[service]]", "service[0].x"),
        ("[[route]]", "route[0].x"),
        ("[[tcp]]", "tcp[0].x"),
    ] {
        let start = format!("\n{header}");
        let sections = REFERENCE.split(&start).skip(1);
        let section: String = sections.map(|text| text.split("\n[").next().unwrap()).collect();
        let problems = bad(&format!("{header}\nx = 1\n"));
        let unknown = problems
            .iter()
            .find(|line| line.contains(key))
            .unwrap_or_else(|| panic!("{problems:?}"));
        let (_, known) = unknown.split_once("expected one of ").unwrap();
        for name in known.split(", ") {
            let shared = ["timeout", "connect_timeout", "idle_timeout", "failfast"];
            let said_above = header == "[[tcp]]" && shared.contains(&name);
            let named = section
                .lines()
                .any(|line| line.trim_start_matches("# ").starts_with(&format!("{name} = ")));
            assert!(named || said_above, "{header} {name}");
        }
    }
}

#[test]
fn everything_arrives_in_the_configuration() {
    let mesh = good(
        r#"
        [proxy]
        outbound = "0.0.0.0:4140"
        inbound = "[::1]:0"
        admin = "127.0.0.1:0"
        app = "10.1.2.3:8080"
        opaque_ports = [5432, "3000-3002", 3001, "65535-65535"]
        nameless_tls = "close"
        workers = 2
        backlog = 7
        keepalive = 0
        user_timeout = "1m"
        [limits]
        connections = 1
        header_count = 256
        buffer_bytes = 0x10_0000
        [timeouts]
        detect = "300ms"
        keep_alive = 0
        request = "2d"
        grace = "0"
        backoff_min = "20s"
        backoff_max = "20s"
        [[tcp]]
        listen = "127.0.0.1:5432"
        to = ["[::1]:15432"]
        "#,
    );
    let config = &mesh.config;
    let kinds: Vec<_> = config.listeners.iter().map(|l| l.kind.clone()).collect();
    assert_eq!(
        kinds,
        [
            ListenerKind::Outbound,
            ListenerKind::Inbound,
            ListenerKind::Forward("tcp/127.0.0.1:5432".into())
        ]
    );
    assert_eq!(config.listeners[0].addr, "0.0.0.0:4140".parse().unwrap());
    assert_eq!(config.listeners[1].addr, "[::1]:0".parse().unwrap());
    assert_eq!(config.app, Some("10.1.2.3:8080".parse().unwrap()));
    assert_eq!(config.opaque_ports, [3000, 3001, 3002, 5432, 65535]);
    assert_eq!(config.nameless_tls, Nameless::Close);
    assert_eq!(mesh.workers, Some(2));
    assert_eq!(
        mesh.sockets,
        Sockets { backlog: 7, keepalive: None, user_timeout: Some(Duration::from_mins(1)) }
    );
    assert_eq!(config.limits.connections, 1);
    assert_eq!(config.limits.header_count, 256);
    assert_eq!(config.limits.buffer_bytes, 1 << 20);
    assert_eq!(config.limits.queue, Limits::default().queue);
    assert_eq!(config.timeouts.detect, Duration::from_millis(300));
    assert_eq!(config.timeouts.keep_alive, Duration::MAX);
    assert_eq!(config.timeouts.request, Some(Duration::from_hours(48)));
    assert_eq!(config.timeouts.response_headers, None);
    assert_eq!(config.timeouts.grace, Duration::ZERO);
}

#[test]
fn an_identity_arrives_and_paths_begin_where_the_file_is() {
    assert_eq!(good("").identity, None);
    let mut identity = good(
        r#"
        [identity]
        name = "web.ns.mesh"
        trust_domain = "mesh"
        ca = "keys"
        lifetime = "90s"
        anchors = "/etc/anchors.pem"
        "#,
    );
    let identity = identity.identity.as_mut().unwrap();
    identity.resolve("/etc/selvedge".as_ref());
    assert_eq!(
        *identity,
        Identity {
            name: Name::parse("web.ns.mesh").unwrap(),
            trust_domain: "mesh".into(),
            ca: Source::Folder("/etc/selvedge/keys".into()),
            lifetime: Duration::from_secs(90),
            anchors: Some("/etc/anchors.pem".into()),
        }
    );
    let service = good(
        r#"
        [identity]
        name = "spiffe://cluster.local/ns/web"
        server_name = "web"
        ca = "http://[::1]:4190"
        "#,
    );
    let identity = service.identity.unwrap();
    assert_eq!(identity.ca, Source::Service("[::1]:4190".parse().unwrap()));
    assert_eq!(identity.lifetime, ca::LIFETIME);
    assert_eq!(identity.anchors_file(), None);
}

#[test]
fn who_is_who_arrives_in_the_configuration() {
    let mesh = good(
        r#"
        [identity]
        name = "spiffe://cluster.local/ns/web"
        server_name = "Web.ns."
        ca = "ca"
        [[inbound]]
        port = 8080
        allow = ["*.ns.cluster.local", "spiffe://other/api", "unauthenticated", "*"]
        [[inbound]]
        port = 8081
        allow = []
        [[inbound]]
        port = 8082
        rate_limit = { rps = 5, overrides = [{ clients = ["*.b", "10.0.0.0/8", "::1"], rps = 2 }] }
        [[service]]
        authority = "api"
        endpoints = [
            { addr = "10.0.0.1:4143", identity = "API.ns.cluster.local", port = 8080 },
            { addr = "10.0.0.2:80", identity = "spiffe://other/api", server_name = "api" },
        ]
        "#,
    );
    let own = mesh.config.identity.unwrap();
    assert_eq!(own.name.as_str(), "spiffe://cluster.local/ns/web");
    assert_eq!(&*own.server_name, "web.ns");
    let allow = |text: &str| Allow::parse(text).unwrap();
    let everybody = ["*.ns.cluster.local", "spiffe://other/api", "unauthenticated", "*"];
    let clients = vec![
        ClientMatch::Identity(Pattern::parse("*.b").unwrap()),
        ClientMatch::Network("10.0.0.0".parse().unwrap(), 8),
        ClientMatch::Network("::1".parse().unwrap(), 128),
    ];
    assert_eq!(
        mesh.config.inbound,
        [
            InboundPort::new(8080, everybody.map(allow).into()),
            InboundPort::new(8081, vec![]),
            InboundPort {
                rate_limit: Some(RateLimit {
                    total: Some(5),
                    per_client: None,
                    overrides: vec![Override { clients, rps: 2 }],
                }),
                ..InboundPort::new(8082, vec![Allow::Unauthenticated])
            },
        ]
    );
    let name = |text: &str| Name::parse(text).unwrap();
    let endpoints: Vec<_> =
        mesh.config.services[0].endpoints.iter().map(|endpoint| endpoint.mesh.clone()).collect();
    let spiffe =
        Meshed { identity: name("spiffe://other/api"), server_name: "api".into(), port: None };
    assert_eq!(
        endpoints,
        [Some(Meshed::new(name("api.ns.cluster.local"), Some(8080))), Some(spiffe)]
    );
}

#[test]
fn services_arrive_in_the_configuration() {
    let mesh = good(
        r#"
        [[service]]
        authority = "Web.Example"
        endpoints = ["[::ffff:10.0.0.1]:80", { weight = 3, addr = "API.local.:81" }]
        opaque = true
        timeout = 0
        connect_timeout = "5s"
        idle_timeout = 0
        failfast = 0
        [[tcp]]
        listen = "127.0.0.1:5432"
        to = ["[::1]:15432"]
        idle_timeout = "1h"
        "#,
    );
    let [web, forward] = &mesh.config.services[..] else { panic!("{:?}", mesh.config.services) };
    assert_eq!(&*web.name, "web.example:80");
    assert!(web.opaque);
    let target = Target::Name { host: "api.local.".into(), port: 81 };
    assert_eq!(
        web.endpoints,
        [
            Endpoint {
                target: Target::Addr("10.0.0.1:80".parse().unwrap()),
                weight: 1,
                mesh: None,
                zone: None,
            },
            Endpoint { target, weight: 3, mesh: None, zone: None },
        ]
    );
    assert_eq!(
        web.timeouts,
        ServiceTimeouts {
            request: Some(Duration::MAX),
            connect: Some(Duration::from_secs(5)),
            pool_idle: Some(Duration::ZERO),
            tcp_idle: None,
            failfast: Some(Duration::ZERO),
        }
    );
    assert_eq!(&*forward.name, "tcp/127.0.0.1:5432");
    assert!(forward.opaque);
    let idle = (forward.timeouts.pool_idle, forward.timeouts.tcp_idle);
    assert_eq!(idle, (None, Some(Duration::from_hours(1))));
}

#[test]
fn authorities_that_are_the_same_are_written_the_same() {
    for (given, expected) in [
        ("web", "web:80"),
        ("WEB.example:080", "web.example:80"),
        ("10.0.0.1", "10.0.0.1:80"),
        ("10.0.0.1:8080", "10.0.0.1:8080"),
        ("[::1]", "[::1]:80"),
        ("[FE80:0::1]:443", "[fe80::1]:443"),
        ("web:", "web:80"),
        ("_http.a-b.c:65535", "_http.a-b.c:65535"),
    ] {
        let mesh = good(&format!("[[service]]\nauthority = \"{given}\"\nendpoints = [\"x:1\"]"));
        assert_eq!(&*mesh.config.services[0].name, expected);
    }
}

#[test]
fn neighbours_that_do_not_collide_are_accepted() {
    good(
        r#"
        [proxy]
        outbound = "127.0.0.1:0"
        inbound = "127.0.0.1:0"
        admin = "127.0.0.2:80"
        [[service]]
        authority = "a"
        endpoints = ["127.0.0.1:80", "localhost:81", "elsewhere:4140", "[::1]:4140"]
        [[service]]
        authority = "a:81"
        endpoints = ["127.0.0.1:80"]
        [[tcp]]
        listen = "0.0.0.0:4140"
        to = ["10.0.0.1:4140"]
        [[tcp]]
        listen = "127.0.0.1:4191"
        to = ["127.0.0.1:4190"]
        "#,
    );
}

#[test]
fn everything_wrong_is_said_at_once_in_the_order_of_the_file() {
    let lines = bad(r#"[timeouts]
connect = "soon"
[proxy]
outbund = "127.0.0.1:4140"
app = "127.0.0.1:4143"
[[service]]
authority = "web"
endpoints = []
[[service]]
authority = "web:80"
endpoints = [{ addr = "127.0.0.1:9001", weight = 0 }]
[limits]
header_count = 257
"#);
    assert_eq!(
        lines,
        [
            r#"2: timeouts.connect = "soon": expected a duration like "300ms", "10s", "5m", "1h" or "2d", more than 0"#,
            r#"4: proxy.outbund = "127.0.0.1:4140": unknown key, expected one of adaptive, admin, app, backlog, inbound, keepalive, max_in_flight, max_queue, nameless_tls, opaque_ports, outbound, queue_timeout, user_timeout, workers, zone"#,
            r#"5: proxy.app = "127.0.0.1:4143": expected a target other than this proxy, but proxy.inbound is 127.0.0.1:4143"#,
            r"8: service[0].endpoints = []: expected a list of at least one endpoint",
            r#"10: service[1].authority = "web:80": expected an authority of its own, but service[0].authority is web:80 too"#,
            r"11: service[1].endpoints[0].weight = 0: expected an integer from 1 to 1000000",
            r"13: limits.header_count = 257: expected an integer from 1 to 256",
        ]
    );
}

#[test]
fn values_in_messages_are_short_and_on_one_line() {
    let long = "x".repeat(100);
    let lines = bad(&format!("[proxy]\nworkers = [\n  1,\n  \"{long}\"\n]"));
    let cut = "x".repeat(54);
    assert_eq!(
        lines,
        [format!("2: proxy.workers = [ 1, \"{cut}…: expected an integer from 1 to 256")]
    );
}
