//! A table of files that are refused, with exactly what is said about them.

use super::bad;

/// A service that is good, for files whose fault is elsewhere.
const DURATION: &str = r#"expected a duration like "300ms", "10s", "5m", "1h" or "2d","#;
const PORT: &str = r#"expected a port from 1 to 65535, or a range like "3000-3010""#;
const LISTEN: &str = r#"expected ip:port to listen on, like "127.0.0.1:4140" or "[::1]:0""#;
const CONNECT: &str = r#"expected ip:port to connect to, like "127.0.0.1:8080""#;
const TARGET: &str =
    r#"expected host:port to connect to, like "10.0.0.1:80", "[::1]:80" or "web.local:80""#;
const AUTHORITY: &str = r#"expected host or host:port, like "web.example" or "[::1]:8080""#;

/// One line under a header, and what is said about it.
#[track_caller]
fn refused(header: &str, line: &str, expected: &str) {
    let lines = bad(&format!("{header}\n{line}\n"));
    assert_eq!(lines, [format!("2: {expected}")]);
}

#[test]
fn the_proxy_section() {
    for (line, key_and_value, expected) in [
        (r#"outbound = "127.0.0.1""#, r#"outbound = "127.0.0.1""#, LISTEN),
        (r#"outbound = "localhost:1""#, r#"outbound = "localhost:1""#, LISTEN),
        (r"inbound = 4143", "inbound = 4143", LISTEN),
        (r#"admin = "::1:4191""#, r#"admin = "::1:4191""#, LISTEN),
        (r#"admin = "127.0.0.1:65536""#, r#"admin = "127.0.0.1:65536""#, LISTEN),
        (r#"app = "web:80""#, r#"app = "web:80""#, CONNECT),
        (r#"app = "127.0.0.1:0""#, r#"app = "127.0.0.1:0""#, CONNECT),
        (r#"app = "0.0.0.0:80""#, r#"app = "0.0.0.0:80""#, CONNECT),
        ("opaque_ports = [0]", "opaque_ports[0] = 0", PORT),
        ("opaque_ports = [1, 65536]", "opaque_ports[1] = 65536", PORT),
        (r#"opaque_ports = ["9-8"]"#, r#"opaque_ports[0] = "9-8""#, PORT),
        (r#"opaque_ports = ["80"]"#, r#"opaque_ports[0] = "80""#, PORT),
        (r#"opaque_ports = ["0-1"]"#, r#"opaque_ports[0] = "0-1""#, PORT),
        (r#"opaque_ports = ["+1-2"]"#, r#"opaque_ports[0] = "+1-2""#, PORT),
        (
            "opaque_ports = 3306",
            "opaque_ports = 3306",
            r#"expected a list like [3306, "5000-5010"]"#,
        ),
        ("workers = 0", "workers = 0", "expected an integer from 1 to 256"),
        ("workers = 257", "workers = 257", "expected an integer from 1 to 256"),
        (
            r#"nameless_tls = "drop""#,
            r#"nameless_tls = "drop""#,
            r#"expected "passthrough", "terminate" or "close""#,
        ),
        ("backlog = 1.0", "backlog = 1.0", "expected an integer from 1 to 65535"),
    ] {
        refused("[proxy]", line, &format!("proxy.{key_and_value}: {expected}"));
    }
}

#[test]
fn limits() {
    for (line, range) in [
        ("connections = 0", "1 to 100000000"),
        ("in_flight = 0", "1 to 100000000"),
        ("queue = -1", "0 to 100000000"),
        ("header_count = 0", "1 to 256"),
        ("header_count = 257", "1 to 256"),
        ("header_bytes = 0", "256 to 1073741824"),
        ("target_bytes = true", "16 to 1073741824"),
        ("client_hello_bytes = 100", "512 to 16777216"),
        (r#"pool_idle = "many""#, "0 to 100000000"),
        ("replay_bytes = 1e3", "0 to 1073741824"),
        ("stream_buffer = 1", "1024 to 1073741824"),
        ("buffer_bytes = 0", "1048576 to 1099511627776"),
        ("buffer_bytes = 99999999999999999999999999", "1048576 to 1099511627776"),
    ] {
        refused("[limits]", line, &format!("limits.{line}: expected an integer from {range}"));
    }
}

#[test]
fn timeouts() {
    for (line, zero) in [
        ("detect = 0", "more than 0"),
        (r#"detect_prefix = "0s""#, "more than 0"),
        ("header = 0", "more than 0"),
        (r#"connect = "1.5s""#, "more than 0"),
        ("backoff_min = 0", "more than 0"),
        (r#"backoff_max = "0ms""#, "more than 0"),
        (r#"keep_alive = "1w""#, "or 0 for no limit"),
        (r#"response_headers = "10""#, "or 0 for no limit"),
        ("request = 10", "or 0 for no limit"),
        ("idle = true", "or 0 for no limit"),
        (r#"tcp_idle = """#, "or 0 for no limit"),
        (r#"half_open = "s""#, "or 0 for no limit"),
        (r#"pool_idle = "-1s""#, "or 0 for at once"),
        (r#"failfast = "1 s""#, "or 0 for at once"),
        (r#"grace = "300000000000000d""#, "or 0 for at once"),
        (r#"grace = "99999999999999999999s""#, "or 0 for at once"),
    ] {
        refused("[timeouts]", line, &format!("timeouts.{line}: {DURATION} {zero}"));
    }
    refused(
        "[timeouts]",
        r#"backoff_max = "1ms""#,
        r#"timeouts.backoff_max = "1ms": expected at least backoff_min, which is 100ms"#,
    );
    refused(
        "[timeouts]",
        r#"backoff_min = "11s""#,
        r#"timeouts.backoff_min = "11s": expected at most backoff_max, which is 10s"#,
    );
}

#[test]
fn endpoints() {
    for (line, key_and_value, expected) in [
        (r#""web""#, r#"[0] = "web""#, TARGET),
        (r#""web:0""#, r#"[0] = "web:0""#, TARGET),
        (r#""web:+80""#, r#"[0] = "web:+80""#, TARGET),
        (r#""web:""#, r#"[0] = "web:""#, TARGET),
        (r#"":80""#, r#"[0] = ":80""#, TARGET),
        (r#""::1:80""#, r#"[0] = "::1:80""#, TARGET),
        (r#""[::]:80""#, r#"[0] = "[::]:80""#, TARGET),
        (r#""1.2.3:80""#, r#"[0] = "1.2.3:80""#, TARGET),
        (r#""256.0.0.1:80""#, r#"[0] = "256.0.0.1:80""#, TARGET),
        (r#""a b:80""#, r#"[0] = "a b:80""#, TARGET),
        (r#""-a:80""#, r#"[0] = "-a:80""#, TARGET),
        (r#""a..b:80""#, r#"[0] = "a..b:80""#, TARGET),
        (r#""http://a:80""#, r#"[0] = "http://a:80""#, TARGET),
        ("80", "[0] = 80", TARGET),
        ("{ addr = 80 }", "[0].addr = 80", TARGET),
        ("{ weight = 1 }", "[0].addr", "missing, expected host:port to connect to"),
        (
            r#"{ addr = "a:1", weight = 0 }"#,
            "[0].weight = 0",
            "expected an integer from 1 to 1000000",
        ),
        (
            r#"{ addr = "a:1", weight = 1.5 }"#,
            "[0].weight = 1.5",
            "expected an integer from 1 to 1000000",
        ),
        (
            r#"{ addr = "a:1", w = 2 }"#,
            "[0].w = 2",
            "unknown key, expected one of addr, identity, port, server_name, weight, zone",
        ),
        (
            r#""a:1", { addr = "A:1", weight = 2 }"#,
            r#"[1].addr = "A:1""#,
            "expected every endpoint once, this one was given before",
        ),
    ] {
        let service = format!("authority = \"web\"\nendpoints = [{line}]");
        assert_eq!(
            bad(&format!("[[service]]\n{service}")),
            [format!("3: service[0].endpoints{key_and_value}: {expected}")]
        );
    }
}

#[test]
fn services_and_forwards() {
    let missing = "missing, expected a list of at least one endpoint";
    for (file, expected) in [
        (
            "[[service]]\nendpoints = [\"a:1\"]",
            "1: service[0].authority: missing, expected host or host:port".to_owned(),
        ),
        ("[[service]]\nauthority = \"a\"", format!("1: service[0].endpoints: {missing}")),
        (
            "[[service]]\nauthority = \"a\"\nendpoints = \"a:1\"",
            "3: service[0].endpoints = \"a:1\": expected a list of at least one endpoint".into(),
        ),
        (
            "[[service]]\nauthority = \"u@a\"\nendpoints = [\"a:1\"]",
            format!("2: service[0].authority = \"u@a\": {AUTHORITY}"),
        ),
        (
            "[[service]]\nauthority = \"a:0\"\nendpoints = [\"a:1\"]",
            format!("2: service[0].authority = \"a:0\": {AUTHORITY}"),
        ),
        (
            "[[service]]\nauthority = \"::1\"\nendpoints = [\"a:1\"]",
            format!("2: service[0].authority = \"::1\": {AUTHORITY}"),
        ),
        (
            "[[service]]\nauthority = \"[::1\"\nendpoints = [\"a:1\"]",
            format!("2: service[0].authority = \"[::1\": {AUTHORITY}"),
        ),
        (
            "[[service]]\nauthority = \"*.a\"\nendpoints = [\"a:1\"]",
            format!("2: service[0].authority = \"*.a\": {AUTHORITY}"),
        ),
        (
            "[[service]]\nauthority = \"a\"\nendpoints = [\"a:1\"]\nopaque = 1",
            "4: service[0].opaque = 1: expected true or false".into(),
        ),
        (
            "[[service]]\nauthority = \"a\"\nendpoints = [\"a:1\"]\ntimeout = 1",
            format!("4: service[0].timeout = 1: {DURATION} or 0 for no limit"),
        ),
        (
            "[[service]]\nauthority = \"a\"\nendpoints = [\"a:1\"]\nconnect_timeout = 0",
            format!("4: service[0].connect_timeout = 0: {DURATION} more than 0"),
        ),
        (
            "[[tcp]]\nto = [\"a:1\"]",
            "1: tcp[0].listen: missing, expected ip:port to listen on".into(),
        ),
        ("[[tcp]]\nlisten = \"127.0.0.1:1\"", format!("1: tcp[0].to: {missing}")),
        (
            "[[tcp]]\nlisten = \":1\"\nto = [\"a:1\"]",
            format!("2: tcp[0].listen = \":1\": {LISTEN}"),
        ),
        (
            "[[tcp]]\nlisten = \"127.0.0.1:1\"\nto = [\"a:1\"]\nopaque = true",
            "4: tcp[0].opaque = true: unknown key, expected one of balancer, connect_timeout, failfast, \
             idle_timeout, listen, slow_start, timeout, to"
                .into(),
        ),
    ] {
        assert_eq!(bad(file), [expected], "{file}");
    }
}

#[test]
fn addresses_and_names_that_get_in_each_others_way() {
    let tcp = |listen: &str, to: &str| format!("[[tcp]]\nlisten = \"{listen}\"\nto = [\"{to}\"]\n");
    let own = "expected an address of its own, but";
    let other = "expected a target other than this proxy, but";
    for (file, expected) in [
        (
            "[proxy]\ninbound = \"127.0.0.1:4140\"".to_owned(),
            format!(
                "2: proxy.inbound = \"127.0.0.1:4140\": {own} proxy.outbound is 127.0.0.1:4140"
            ),
        ),
        // The complaint goes to what the file says, not to a default.
        (
            "[proxy]\noutbound = \"127.0.0.1:4191\"".into(),
            format!("2: proxy.outbound = \"127.0.0.1:4191\": {own} proxy.admin is 127.0.0.1:4191"),
        ),
        (
            tcp("0.0.0.0:4143", "a:1"),
            format!("2: tcp[0].listen = \"0.0.0.0:4143\": {own} proxy.inbound is 127.0.0.1:4143"),
        ),
        (
            tcp("[::]:4143", "a:1"),
            format!("2: tcp[0].listen = \"[::]:4143\": {own} proxy.inbound is 127.0.0.1:4143"),
        ),
        (
            tcp("127.0.0.1:0", "a:1") + &tcp("127.0.0.1:0", "a:1"),
            format!("5: tcp[1].listen = \"127.0.0.1:0\": {own} tcp[0].listen is 127.0.0.1:0"),
        ),
        (
            tcp("127.0.0.1:80", "127.0.0.1:80"),
            format!("3: tcp[0].to[0] = \"127.0.0.1:80\": {other} tcp[0].listen is 127.0.0.1:80"),
        ),
        (
            tcp("0.0.0.0:80", "127.9.9.9:80"),
            format!("3: tcp[0].to[0] = \"127.9.9.9:80\": {other} tcp[0].listen is 0.0.0.0:80"),
        ),
        (
            tcp("[::]:80", "[::ffff:127.0.0.1]:80"),
            format!(
                "3: tcp[0].to[0] = \"[::ffff:127.0.0.1]:80\": {other} tcp[0].listen is [::]:80"
            ),
        ),
        (
            tcp("127.0.0.1:80", "LocalHost:4191"),
            format!("3: tcp[0].to[0] = \"LocalHost:4191\": {other} proxy.admin is 127.0.0.1:4191"),
        ),
        (
            "[proxy]\napp = \"127.0.0.1:4140\"".into(),
            format!("2: proxy.app = \"127.0.0.1:4140\": {other} proxy.outbound is 127.0.0.1:4140"),
        ),
        (
            "[[service]]\nauthority = \"a\"\nendpoints = [{ addr = \"127.0.0.1:4143\" }]".into(),
            format!(
                "3: service[0].endpoints[0].addr = \"127.0.0.1:4143\": {other} proxy.inbound is \
                 127.0.0.1:4143"
            ),
        ),
    ] {
        assert_eq!(bad(&file), [expected], "{file}");
    }
}

#[test]
fn the_shape_of_the_file() {
    for (file, expected) in [
        (
            "proxi = 1",
            "1: proxi = 1: unknown key, expected one of identity, inbound, limits, proxy, route, service, tcp, timeouts",
        ),
        (
            "[proxi]\na = 1",
            "1: proxi: unknown key, expected one of identity, inbound, limits, proxy, route, service, tcp, timeouts",
        ),
        ("limits = 5", "1: limits = 5: expected a table: [limits]"),
        ("[[proxy]]", "1: proxy = [[proxy]]: expected a table: [proxy]"),
        ("[service]\nauthority = \"a\"", "1: service: expected tables, each under [[service]]"),
        ("tcp = [1]", "1: tcp[0] = 1: expected tables, each under [[tcp]]"),
    ] {
        assert_eq!(bad(file), [expected], "{file}");
    }
}

#[test]
fn broken_toml_is_reported_with_line_and_column() {
    for (file, expected) in [
        ("[proxy\n", &["1:7: unclosed table, expected `]`"] as &[_]),
        (
            "[proxy]\nworkers = one\n",
            &["2:11: string values must be quoted, expected literal string"],
        ),
        (
            "[limits]\nqueue = 1\nqueue = 2\n[limits]\n",
            &["3:1: duplicate key", "4:2: duplicate key"],
        ),
        (
            "[proxy]\n# é\napp = \"é\" \"\n",
            &["3:11: unexpected key or value, expected newline, `#`"],
        ),
    ] {
        assert_eq!(bad(file), expected, "{file}");
    }
}

const IDENTITY: &str =
    "expected a DNS name that ends in .cluster.local, or spiffe://cluster.local/path";
const SOURCE: &str =
    r#"expected a folder, or "http://ip:port" on loopback, like "http://127.0.0.1:4190""#;
const LIFETIME: &str = r#"expected a duration from "20s" to "365d""#;
const DOMAIN: &str = r#"expected a trust domain in lower case, like "cluster.local""#;

#[test]
fn the_identity_section() {
    let name = r#"name = "web.ns.cluster.local""#;
    let ca = r#"ca = "ca""#;
    let service = r#"ca = "http://127.0.0.1:4190""#;
    let only = "expected only with the folder of an authority: a service decides itself";
    for (lines, expected) in [
        ([name, ca, r#"lifetime = "19s""#], format!(r#"lifetime = "19s": {LIFETIME}"#)),
        ([name, ca, r#"lifetime = "366d""#], format!(r#"lifetime = "366d": {LIFETIME}"#)),
        ([name, ca, "lifetime = 0"], format!("lifetime = 0: {LIFETIME}")),
        ([name, service, r#"lifetime = "1h""#], format!(r#"lifetime = "1h": {only}"#)),
        ([name, ca, r#"anchors = """#], r#"anchors = "": expected the path of a file"#.into()),
        ([name, ca, "anchors = 1"], "anchors = 1: expected the path of a file".into()),
        ([name, ca, r#"trust_domain = "A""#], format!(r#"trust_domain = "A": {DOMAIN}"#)),
        ([name, ca, r#"trust_domain = """#], format!(r#"trust_domain = "": {DOMAIN}"#)),
        ([name, "", r#"ca = """#], format!(r#"ca = "": {SOURCE}"#)),
        ([name, "", "ca = 4190"], format!("ca = 4190: {SOURCE}")),
        ([name, "", r#"ca = "http://127.0.0.1""#], format!(r#"ca = "http://127.0.0.1": {SOURCE}"#)),
        (
            [name, "", r#"ca = "https://127.0.0.1:1""#],
            format!(r#"ca = "https://127.0.0.1:1": {SOURCE}"#),
        ),
        (
            [name, "", r#"ca = "http://10.0.0.1:1""#],
            format!(r#"ca = "http://10.0.0.1:1": {SOURCE}"#),
        ),
        (["", ca, r#"name = "web""#], format!(r#"name = "web": {IDENTITY}"#)),
        (["", ca, r#"name = "web.ns""#], format!(r#"name = "web.ns": {IDENTITY}"#)),
        (
            ["", ca, r#"name = "*.cluster.local""#],
            format!(r#"name = "*.cluster.local": {IDENTITY}"#),
        ),
        (["", ca, r#"name = "spiffe://b/web""#], format!(r#"name = "spiffe://b/web": {IDENTITY}"#)),
        (
            ["", ca, r#"name = "spiffe://cluster.local""#],
            format!(r#"name = "spiffe://cluster.local": {IDENTITY}"#),
        ),
        (
            [name, ca, r#"server_name = "spiffe://a/b""#],
            r#"server_name = "spiffe://a/b": expected a DNS name"#.into(),
        ),
    ] {
        let lines = lines.join("\n");
        assert_eq!(bad(&format!("[identity]\n{lines}")), [format!("4: identity.{expected}")]);
    }
    assert_eq!(
        bad("[identity]"),
        [
            "1: identity.name: missing, expected the name of this proxy",
            "1: identity.ca: missing, expected the folder of an authority, or its http:// address",
        ]
    );
}

#[test]
fn who_may_do_what() {
    let own = "[identity]\nname = \"a.cluster.local\"\nca = \"ca\"\n";
    let anybody =
        r#"expected "unauthenticated", a name, "*." and what names end in, a spiffe URI, or "*""#;
    let list = r#"expected a list like ["*.ns.cluster.local", "unauthenticated"]"#;
    let nobody = "expected an [identity] section: only who is somebody can tell";
    let inbound = |lines: &str| format!("[[inbound]]\n{lines}");
    let endpoint = |keys: &str| {
        format!("[[service]]\nauthority = \"a\"\nendpoints = [{{ addr = \"b:1\", {keys} }}]")
    };
    for (file, expected) in [
        (
            inbound("port = 0\nallow = []"),
            "2: inbound[0].port = 0: expected an integer from 1 to 65535".to_owned(),
        ),
        (inbound("allow = []"), "1: inbound[0].port: missing, expected a port of the app".into()),
        (inbound("port = 1"), format!("1: inbound[0].allow: missing, {list}, or a limit")),
        (
            inbound("port = 1\nallow = \"*\""),
            format!("3: inbound[0].allow = \"*\": {list}"),
        ),
        (
            inbound("port = 1\nallow = [\"a b\"]"),
            format!("3: inbound[0].allow[0] = \"a b\": {anybody}"),
        ),
        (
            inbound("port = 1\nallow = [\"a.*.b\"]"),
            format!("3: inbound[0].allow[0] = \"a.*.b\": {anybody}"),
        ),
        (
            inbound("port = 1\nallow = [1]"),
            format!("3: inbound[0].allow[0] = 1: {anybody}"),
        ),
        (
            inbound("port = 1\nallow = []\n[[inbound]]\nport = 1\nallow = []"),
            "5: inbound[1].port = 1: expected every port once, but it is inbound[0].port too".into(),
        ),
        (
            inbound("port = 1\nallow = [\"unauthenticated\", \"a.b\"]"),
            format!("3: inbound[0].allow[1] = \"a.b\": {nobody}"),
        ),
        (
            endpoint("identity = \"a.b\""),
            format!("3: service[0].endpoints[0].identity = \"a.b\": {nobody}"),
        ),
        (
            endpoint("port = 80"),
            "3: service[0].endpoints[0].port = 80: expected only beside identity".into(),
        ),
        (
            endpoint("server_name = \"a\""),
            "3: service[0].endpoints[0].server_name = \"a\": expected only beside identity".into(),
        ),
        (
            format!("{own}{}", endpoint("identity = \"10.0.0.1\"")),
            "6: service[0].endpoints[0].identity = \"10.0.0.1\": expected a DNS name or a spiffe \
             URI, but it is an IP address"
                .into(),
        ),
        (
            format!("{own}{}", endpoint("identity = \"spiffe://a/b\"")),
            "6: service[0].endpoints[0].server_name: missing, expected a DNS name to be asked for: \
             SNI has no place for a spiffe URI"
                .into(),
        ),
        (
            format!("{own}{}", endpoint("identity = \"a.b\", port = 65536")),
            "6: service[0].endpoints[0].port = 65536: expected an integer from 1 to 65535".into(),
        ),
    ] {
        assert_eq!(bad(&file), [expected], "{file}");
    }
}

#[test]
fn how_much_a_port_takes() {
    let nobody = "expected an [identity] section: only who is somebody can tell";
    let rps = "expected an integer from 1 to 100000000";
    let client = r#"expected a name, "*." and what names end in, a spiffe URI, "*", an address or a network like "10.0.0.0/8""#;
    let of = |text: &str| format!("overrides = [{{ clients = [\"{text}\"], rps = 1 }}]");
    let at = "rate_limit.overrides[0].clients[0]";
    for (limit, expected) in [
        (String::new(), "rate_limit = { }: expected rps, per_client or overrides".to_owned()),
        ("rps = 0".to_owned(), format!("rate_limit.rps = 0: {rps}")),
        ("per_client = \"1\"".to_owned(), format!("rate_limit.per_client = \"1\": {rps}")),
        (of("10.0.0.0/33"), format!("{at} = \"10.0.0.0/33\": {client}")),
        (of("10.0.0.0/+8"), format!("{at} = \"10.0.0.0/+8\": {client}")),
        (of("10.0.0.0/"), format!("{at} = \"10.0.0.0/\": {client}")),
        (of("a b"), format!("{at} = \"a b\": {client}")),
        (of("*.batch.local"), format!("{at} = \"*.batch.local\": {nobody}")),
        (
            "overrides = [{ clients = [], rps = 1 }]".to_owned(),
            "rate_limit.overrides[0].clients = []: expected at least one client".to_owned(),
        ),
        (
            "overrides = [{ clients = [\"::1\"] }]".to_owned(),
            "rate_limit.overrides[0].rps: missing, expected requests a second".to_owned(),
        ),
        (
            "rps = 1, burst = 2".to_owned(),
            "rate_limit.burst = 2: unknown key, expected one of overrides, per_client, rps"
                .to_owned(),
        ),
    ] {
        let file = format!("[[inbound]]\nport = 1\nrate_limit = {{ {limit} }}");
        assert_eq!(bad(&file), [format!("3: inbound[0].{expected}")], "{file}");
    }
    let file = "[proxy]\nnameless_tls = \"terminate\"";
    assert_eq!(bad(file), [format!("2: proxy.nameless_tls = \"terminate\": {nobody}")]);
}
