//! Routes in mesh files.

use std::time::Duration;

use selvedge_core::policy::breaker::SuccessRate;
use selvedge_core::policy::{
    Backend, BreakerConfig, BudgetConfig, CheckKind, Fixed, HealthCheck, HostMatch, Mirror,
    NewPath, PathMatch, Retry, Route, Split, ValueMatch,
};

use super::{bad, good};

const SERVICES: &str = r#"
[[service]]
authority = "web.example"
endpoints = ["10.0.0.1:80"]
[[service]]
authority = "canary.example"
endpoints = ["10.0.0.2:80"]
"#;

fn route(lines: &str) -> Route {
    let mesh = good(&format!("[[route]]\nservice = \"web.example\"\n{lines}\n{SERVICES}"));
    let route = mesh.config.routes.iter().next().expect("a route");
    (**route).clone()
}

#[test]
fn every_key_means_something() {
    let plain = route("");
    assert_eq!(plain, Route { service: "web.example:80".into(), ..Route::default() });
    let hosts = route(r#"hosts = ["Web.Example", "*.example:8080", "*", "[::1]:80", "10.0.0.1"]"#);
    let exact = |name: &str| HostMatch::Exact(name.into());
    let suffix = HostMatch::Suffix(".example:8080".into());
    let all = [exact("web.example"), suffix, HostMatch::Any, exact("[::1]:80"), exact("10.0.0.1")];
    assert_eq!(hosts.hosts, all);
    let path = |lines: &str| route(&format!("match = {{ {lines} }}")).matches.path;
    assert_eq!(path(r#"path = "/a""#), PathMatch::Exact("/a".into()));
    assert_eq!(path(r#"path_prefix = "/a""#), PathMatch::Prefix("/a".into()));
    assert!(matches!(path(r#"path_regex = "/a[0-9]+""#), PathMatch::Regex(_)));
    let fields = route(
        r#"match.headers = { X-Tier = "gold", x-a = { present = true }, x-b = { regex = "[0-9]" } }
        match.query = { "a b" = "" }
        match.method = ["GET", "QUERY"]
        match.grpc = { service = "a.B", method = "Get" }"#,
    )
    .matches;
    let names: Vec<&str> = fields.headers.iter().map(|field| &*field.name).collect();
    assert_eq!(names, ["x-tier", "x-a", "x-b"]);
    assert_eq!(fields.headers[0].value, ValueMatch::Exact("gold".into()));
    assert_eq!((&*fields.query[0].name, fields.methods.len()), ("a b", 2));
    let grpc = fields.grpc.expect("gRPC");
    assert_eq!((grpc.service.as_deref(), grpc.method.as_deref()), (Some("a.B"), Some("Get")));
    let changes = route(
        r#"headers.request = { set = { X-A = "1" }, add = { x-b = "2" }, remove = ["X-C"] }
        headers.response.remove = ["server"]"#,
    )
    .changes;
    assert_eq!(changes.request.set, [("x-a".into(), "1".into())]);
    assert_eq!(changes.request.add, [("x-b".into(), "2".into())]);
    assert_eq!((changes.request.remove.len(), changes.response.remove.len()), (1, 1));
    let split =
        r#"split = [{ service = "web.example", weight = 90 }, { service = "canary.example" }]"#;
    let backend = |service: &str, weight| Backend { service: service.into(), weight };
    let shares = [backend("web.example:80", 90), backend("canary.example:80", 1)];
    assert_eq!(route(split).split, Split::Weighted(shares.into()));
    let first = r#"first_available = ["canary.example", "web.example"]"#;
    let order = [backend("canary.example:80", 1), backend("web.example:80", 1)];
    assert_eq!(route(first).split, Split::FirstAvailable(order.into()));
    let times = route(r#"timeouts = { request = "2s", response = "1s", idle = 0 }"#).timeouts;
    assert_eq!(times.response.map(|time| time.as_millis()), Some(1000));
    let fixed = route(
        r#"match.path_prefix = "/old/"
        redirect = { status = 308, scheme = "https", host = "w.example", path_prefix = "/new" }"#,
    )
    .fixed;
    let Some(Fixed::Redirect(redirect)) = fixed else { panic!("{fixed:?}") };
    assert_eq!((redirect.status, redirect.path), (308, Some(NewPath::Prefix(4, "/new".into()))));
    let retry = route(
        r#"retry = { on = ["gateway-error", 429, "500-501", "response-timeout", "refused-stream", "connect-failure"], grpc = ["unavailable", 8], limit = 3, per_try_timeout = "300ms", max_body = "1MiB", methods = ["GET"], backoff = { min = 0, max = "1s" }, report = true }"#,
    );
    let retry = retry.retry.expect("retries");
    assert_eq!(retry.statuses, [(502, 504), (429, 429), (500, 501)]);
    assert_eq!((retry.reset, retry.refused, retry.timeout, retry.report), (true, true, true, true));
    assert_eq!((&retry.grpc[..], retry.limit, retry.max_body), (&[14, 8][..], 3, 1 << 20));
    assert_eq!((retry.methods.len(), retry.backoff_min.as_millis()), (1, 0));
    assert_eq!(route("retry = {}").retry, Some(Retry::default()));
    let mirror =
        route(r#"mirror = { service = "canary.example", fraction = 0.01, timeout = "5s" }"#);
    let time = Duration::from_secs(5);
    assert_eq!(mirror.mirror, Some(Mirror::new("canary.example:80".into(), 0.01, time)));
    // Of those that a split sends elsewhere, too.
    let split = route(
        r#"mirror.service = "web.example"
        split = [{ service = "canary.example" }]"#,
    );
    let all = Mirror::new("web.example:80".into(), 1.0, Mirror::TIMEOUT);
    assert_eq!(split.mirror, Some(all));
    let fixed = route("fail = { status = 429, ratio = 0.5 }").fixed;
    let Some(Fixed::Failure(failure)) = fixed else { panic!("{fixed:?}") };
    assert_eq!((failure.status, failure.ratio, failure.grpc), (429, 0.5, None));
}

/// One line of a route, and what is said about it.
#[track_caller]
fn refused(line: &str, said: &str) {
    let lines = bad(&format!("[[route]]\nservice = \"web.example\"\n{line}\n{SERVICES}"));
    assert_eq!(lines, [format!("3: route[0].{said}")]);
}

#[test]
fn what_is_wrong_with_retries_is_said() {
    const ON: &str = r#"expected "5xx", "gateway-error", "reset", "connect-failure", "refused-stream", "response-timeout", a status or a range like "500-503""#;
    for (line, said) in [
        (r#"retry.on = ["6xx"]"#, &*format!(r#"retry.on[0] = "6xx": {ON}"#)),
        (r#"retry.on = ["503-500"]"#, &*format!(r#"retry.on[0] = "503-500": {ON}"#)),
        (
            r#"retry.grpc = ["ok"]"#,
            r#"retry.grpc[0] = "ok": expected a gRPC status like "unavailable", or its number from 1 to 16"#,
        ),
        ("retry.limit = 0", "retry.limit = 0: expected an integer from 1 to 100"),
        (
            r#"retry.max_body = "64kb""#,
            r#"retry.max_body = "64kb": expected bytes like 65536, "64KiB" or "1MiB", at most 1 GiB"#,
        ),
        (
            r#"retry.backoff = { min = "2s", max = "1s" }"#,
            r#"retry.backoff.max = "1s": expected at least backoff.min, which is 2s"#,
        ),
    ] {
        refused(line, said);
    }
}

#[test]
fn what_is_wrong_with_mirrors_is_said() {
    for (line, said) in [
        (
            r#"mirror = { service = "web.example" }"#,
            r#"mirror.service = "web.example": expected a service that the requests do not go to anyway"#,
        ),
        (
            r#"mirror = { service = "no.example" }"#,
            r#"mirror.service = "no.example": expected a service of this file, and no service is no.example:80"#,
        ),
        (
            "mirror = { fraction = 1 }",
            "mirror.service: missing, expected the authority of a service",
        ),
        (
            r#"mirror = { service = "canary.example", fraction = 2 }"#,
            "mirror.fraction = 2: expected a number from 0 to 1",
        ),
        (
            r#"mirror = { service = "canary.example", timeout = 0 }"#,
            r#"mirror.timeout = 0: expected a duration like "300ms", "10s", "5m", "1h" or "2d", more than 0"#,
        ),
    ] {
        refused(line, said);
    }
}

#[test]
fn what_is_wrong_is_said() {
    const HOST: &str = r#"expected a host like "web.example", "*.example:8080" or "*""#;
    const PATH: &str = r#"expected a path as clients write it, like "/api/v1", without a query"#;
    const VALUE: &str = r#"expected a text, { regex = "…" } or { present = true }"#;
    const CHANGE: &str = "expected a header field that neither frames nor routes";
    for (line, said) in [
        (r#"hosts = ["a b"]"#, &format!(r#"hosts[0] = "a b": {HOST}"#)),
        (r#"hosts = ["*.*.a"]"#, &format!(r#"hosts[0] = "*.*.a": {HOST}"#)),
        (r#"hosts = ["a:0"]"#, &format!(r#"hosts[0] = "a:0": {HOST}"#)),
        (r#"match.path = "a""#, &format!(r#"match.path = "a": {PATH}"#)),
        (r#"match.path_prefix = "/a?b""#, &format!(r#"match.path_prefix = "/a?b": {PATH}"#)),
        (
            r#"match.path_regex = "/(a""#,
            &r#"match.path_regex = "/(a": expected a regular expression, but unclosed group"#.into(),
        ),
        (
            r#"match = { path = "/a", path_prefix = "/b" }"#,
            &r#"match.path_prefix = "/b": expected either path or path_prefix"#.into(),
        ),
        (
            r#"match.method = ["get"]"#,
            &r#"match.method[0] = "get": expected a method in upper case, like "GET""#.into(),
        ),
        ("match.headers.x = 1", &format!("match.headers.x = 1: {VALUE}")),
        (
            r#"match.headers."a b" = "1""#,
            &r#"match.headers.a b = "1": expected the name of a header field"#.into(),
        ),
        (r#"headers.request.set.host = "a""#, &format!(r#"headers.request.set.host = "a": {CHANGE}"#)),
        (
            r#"headers.request = { set = { x = "a" }, remove = ["X"] }"#,
            &r#"headers.request.remove[0] = "X": expected every name once in set, add and remove"#
                .into(),
        ),
        (
            r#"headers.request.set.x = "a\nb""#,
            &r#"headers.request.set.x = "a\nb": expected the value of a header field, in ASCII"#.into(),
        ),
        (
            r#"split = [{ service = "no.example" }]"#,
            &r#"split[0].service = "no.example": expected a service of this file, and no service is no.example:80"#
                .into(),
        ),
        (
            r#"split = [{ service = "web.example", weight = 0 }]"#,
            &r#"split = [{ service = "web.example", weight = 0 }]: expected at least one service with a weight above 0"#
                .into(),
        ),
        ("first_available = []", &"first_available = []: expected at least one service".into()),
        (
            "redirect = { status = 308 }",
            &"redirect = { status = 308 }: expected scheme, host, port, path or path_prefix: it leads \
              back to where it began"
                .into(),
        ),
        (
            "redirect = { status = 304, port = 81 }",
            &"redirect.status = 304: expected 301, 302, 303, 307 or 308".into(),
        ),
        (
            r#"redirect.path_prefix = "/a""#,
            &r#"redirect.path_prefix = "/a": expected a route with match.path_prefix"#.into(),
        ),
        ("fail.ratio = 1.5", &"fail.ratio = 1.5: expected a number from 0 to 1".into()),
        ("fail.ratio = nan", &"fail.ratio = nan: expected a number from 0 to 1".into()),
        ("fail.grpc_status = 17", &"fail.grpc_status = 17: expected an integer from 1 to 16".into()),
    ] {
        refused(line, said);
    }
    let lines = bad(&format!("[[route]]\nservice = \"no.example\"\n{SERVICES}"));
    assert_eq!(
        lines,
        [
            r#"2: route[0].service = "no.example": expected a service of this file, and no service is no.example:80"#
        ]
    );
    assert_eq!(
        bad("[[route]]"),
        ["1: route[0].service: missing, expected the authority of a service"]
    );
}

#[test]
fn a_service_has_a_breaker_if_it_wants_one() {
    let service = |line: &str| {
        format!("[[service]]\nauthority = \"a\"\nendpoints = [\"10.0.0.1:80\"]\n{line}")
    };
    let breaker = |line: &str| good(&service(line)).config.services[0].breaker.clone();
    assert_eq!(breaker(""), None);
    assert_eq!(breaker("breaker = {}"), Some(BreakerConfig::default()));
    let rated = breaker("breaker = { consecutive = 0, success_rate = { min = 0.5 } }");
    let rated = rated.expect("a breaker");
    let rate = Some(SuccessRate { min: 0.5, ..SuccessRate::default() });
    assert_eq!((rated.consecutive, rated.success_rate), (0, rate));
    let all = breaker(
        r#"breaker = { backoff = { min = "2s", max = "3s" }, max_ejected = 1, grpc = ["internal", 14] }"#,
    );
    let all = all.expect("a breaker");
    assert_eq!((all.backoff_min.as_secs(), all.backoff_max.as_secs()), (2, 3));
    assert_eq!((all.max_ejected, all.grpc), (1.0, [13, 14].into()));
    assert_eq!(good(&service("panic = 0")).config.services[0].panic, Some(0.0));
    for (line, said) in [
        ("breaker = 7", "breaker = 7: expected a table: breaker = { … }"),
        (
            "breaker.consecutive = 0",
            "breaker.consecutive = 0: expected more than 0, where there is no success_rate",
        ),
        ("breaker.max_ejected = 2", "breaker.max_ejected = 2: expected a number from 0 to 1"),
        (
            "breaker.success_rate.min_requests = 0",
            "breaker.success_rate.min_requests = 0: expected an integer from 1 to 1000000",
        ),
        (
            r#"breaker.backoff = { min = "2s", max = "1s" }"#,
            r#"breaker.backoff.max = "1s": expected at least backoff.min, which is 2s"#,
        ),
        (
            "breaker.backoff.min = 0",
            r#"breaker.backoff.min = 0: expected a duration like "300ms", "10s", "5m", "1h" or "2d", more than 0"#,
        ),
        (
            "breaker.grpc = [17]",
            r#"breaker.grpc[0] = 17: expected a gRPC status like "unavailable", or its number from 1 to 16"#,
        ),
        ("panic = 1.5", "panic = 1.5: expected a number from 0 to 1"),
    ] {
        assert_eq!(bad(&service(line)), [format!("4: service[0].{said}")]);
    }
}

#[test]
fn a_service_has_its_endpoints_checked_if_it_wants_to() {
    let service = |line: &str| {
        format!("[[service]]\nauthority = \"a\"\nendpoints = [\"10.0.0.1:80\"]\n{line}")
    };
    let check = |line: &str| good(&service(line)).config.services[0].health_check.clone();
    assert_eq!(check(""), None);
    for (line, kind) in [
        (r#"http = "/healthz?a""#, CheckKind::Http("/healthz?a".into())),
        (r#"grpc = "a.B""#, CheckKind::Grpc("a.B".into())),
        (r#"grpc = """#, CheckKind::Grpc("".into())),
        ("tcp = true", CheckKind::Tcp),
    ] {
        let expected = HealthCheck { kind, ..HealthCheck::default() };
        assert_eq!(check(&format!("health_check = {{ {line} }}")), Some(expected));
    }
    let all = check(
        r#"health_check = { tcp = true, interval = "1m", timeout = "2s", healthy_threshold = 1, unhealthy_threshold = 9 }"#,
    );
    let all = all.expect("a check");
    let times = (all.interval.as_secs(), all.timeout.as_secs(), all.healthy, all.unhealthy);
    assert_eq!(times, (60, 2, 1, 9));
    let one = r#"expected one of http = "/path", grpc = "service" and tcp = true"#;
    for (line, said) in [
        ("{}", format!("health_check = {{}}: {one}")),
        (
            r#"{ tcp = true, http = "/" }"#,
            format!(r#"health_check = {{ tcp = true, http = "/" }}: {one}"#),
        ),
        (
            r#"{ http = "healthz" }"#,
            r#"health_check.http = "healthz": expected a path like "/healthz", without spaces"#
                .into(),
        ),
        (
            "{ tcp = false }",
            "health_check.tcp = false: expected true, or another kind of check".into(),
        ),
        (
            "{ tcp = true, healthy_threshold = 0 }",
            "health_check.healthy_threshold = 0: expected an integer from 1 to 1000".into(),
        ),
    ] {
        let line = format!("health_check = {line}");
        assert_eq!(bad(&service(&line)), [format!("4: service[0].{said}")]);
    }
}

#[test]
fn a_service_has_a_budget_and_a_limit_of_its_own() {
    let service = |line: &str| {
        format!("[[service]]\nauthority = \"a\"\nendpoints = [\"10.0.0.1:80\"]\n{line}")
    };
    let budget = |line: &str| good(&service(line)).config.services[0].retry_budget;
    assert_eq!(budget(""), BudgetConfig::default());
    let own = budget(r#"retry_budget = { ratio = 1, min_per_second = 0.5, window = "5s" }"#);
    assert_eq!((own.ratio, own.min_per_second, own.window.as_secs()), (1.0, 0.5, 5));
    let busy = good(&service("max_in_flight = 7")).config.services[0].concurrency.max_in_flight;
    assert_eq!(busy, Some(7));
    let all = good("[proxy]\nmax_in_flight = 9\nmax_queue = 3").config.concurrency;
    assert_eq!((all.max_in_flight, all.max_queue), (Some(9), 3));
    for (line, said) in [
        ("max_in_flight = 0", "max_in_flight = 0: expected an integer from 1 to 100000000"),
        (
            "adaptive = { min = 5, max = 4 }",
            "adaptive.max = 4: expected an integer from min, which is 5, to 1000000",
        ),
        ("max_queue = 5", "max_queue = 5: expected only beside max_in_flight or adaptive"),
        ("queue_timeout = 0", "queue_timeout = 0: expected only beside max_in_flight or adaptive"),
        ("retry_budget.ratio = -1", "retry_budget.ratio = -1: expected a number from 0 to 1000"),
        (
            r#"retry_budget.window = "500ms""#,
            r#"retry_budget.window = "500ms": expected a duration from "1s" to "60s""#,
        ),
    ] {
        assert_eq!(bad(&service(line)), [format!("4: service[0].{said}")]);
    }
}
