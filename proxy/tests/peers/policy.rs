//! Policy of the mesh file, seen by curl and by grpcio.

mod adaptive;
mod balance;
mod breaker;
mod check;
mod failing;
mod limits;
mod mirror;
mod outage;
mod shares;

use crate::common::{App, Mesh, Need, Peer, Proxy, have, script};

const CURL: [Need; 1] = [Need::Program("curl")];

#[test]
fn routes_choose_change_redirect_and_fail() {
    if !have(&CURL) {
        return;
    }
    let (stable, canary) = (App::start("stable"), App::start("canary"));
    let proxy = Mesh::new()
        .service("web.test", &[stable.addr])
        .speaks("http1")
        .service("canary.test", &[canary.addr])
        .speaks("http1")
        .route(
            "service = \"canary.test\"\nhosts = [\"*.test\"]\nmatch.headers = { x-canary = \"1\" }",
        )
        .route(
            "service = \"web.test\"\nmatch.path_prefix = \"/reflect\"\n\
             headers.request = { set = { x-via = \"selvedge\" }, remove = [\"x-secret\"] }\n\
             headers.response = { set = { x-by = \"selvedge\" } }",
        )
        .route(
            "service = \"web.test\"\nmatch.path_prefix = \"/old\"\n\
             redirect = { path_prefix = \"/name\" }",
        )
        .route("service = \"web.test\"\nmatch.path = \"/fail\"\nfail = { status = 503 }")
        .route("service = \"web.test\"\nmatch.path = \"/name\"")
        .route(
            "service = \"web.test\"\nhosts = [\"split.test\"]\n\
             split = [{ service = \"web.test\" }, { service = \"canary.test\" }]",
        )
        .start();
    for version in ["--http1.1", "--http2-prior-knowledge"] {
        let curl = |args: &[&str]| proxy.curl(&[&[version], args].concat()).ok().text();
        assert_eq!(curl(&["http://web.test/name"]), "stable");
        assert_eq!(curl(&["-H", "X-Canary: 1", "http://other.test/name"]), "canary");
        let reflect = ["-i", "-H", "X-Secret: 1", "http://web.test/reflect"];
        let seen = curl(&reflect).to_lowercase();
        assert!(seen.contains("x-via: selvedge") && !seen.contains("x-secret"), "{seen}");
        assert!(seen.contains("x-by: selvedge"), "{seen}");
        let location = ["-o", "/dev/null", "-w", "%{redirect_url}", "http://web.test/old?q"];
        assert_eq!(curl(&location), "http://web.test/name?q");
        let status = curl(&["-o", "/dev/null", "-w", "%{http_code}", "http://web.test/fail"]);
        assert_eq!(status, "503");
        let said = curl(&["-i", "http://web.test/none"]).to_lowercase();
        assert!(said.contains(" 404") && said.contains("l5d-proxy-error: no route"), "{said}");
        let name = |_| curl(&["http://split.test/name"]);
        let canaries = (0..40).map(name).filter(|name| name == "canary").count();
        assert!((5..=35).contains(&canaries), "{canaries} of 40");
    }
    for decision in ["redirected", "failure_injected"] {
        assert_eq!(decisions(&proxy, "web.test:80", decision), 2);
    }
    let labels = "direction=\"outbound\",reason=\"no_route\"";
    assert_eq!(proxy.metric(&format!("proxy_refused_total{{{labels}}}")), 2);
}

/// Two of three backends, Python's own servers, answer 503 to everything.
#[test]
fn retries_hide_backends_that_are_busy() {
    if !have(&[CURL[0], Need::Program("python3")]) {
        return;
    }
    let good = App::start("good");
    let busy = [0; 2].map(|_| Peer::start(script("busy_app.py").arg("503")));
    let endpoints = [good.addr, busy[0].addr, busy[1].addr];
    let policy = "service = \"web.test\"\nretry = { on = [\"gateway-error\"], limit = 2, \
                  backoff = { min = 0, max = 0 }, report = true }";
    let statuses = |policy: Option<&str>| {
        let mesh = Mesh::new().service("web.test", &endpoints);
        let proxy = policy.map_or(mesh.clone(), |policy| mesh.route(policy)).start();
        let url = "http://web.test/name";
        let said = "%{http_code} %header{l5d-attempt-count}\n";
        let args = ["-o", "/dev/null", "-w", said, url];
        let all: String = (0..30).map(|_| proxy.curl(&args).ok().text()).collect();
        (all.matches("200").count(), all, proxy)
    };
    let (without, ..) = statuses(None);
    let (with, said, proxy) = statuses(Some(policy));
    let attempts = said.lines().map(|line| line.strip_prefix("200 ").and_then(|n| n.parse().ok()));
    let attempts: u64 = attempts.map(|n: Option<u64>| n.expect(&said)).sum();
    assert_eq!(attempts, 30 + decisions(&proxy, "web.test:80", "retried"));
    assert!(without < 30, "{without} of 30 without retries");
    assert_eq!(with, 30);
    assert!(decisions(&proxy, "web.test:80", "retried") >= 1);
}

/// How often it was decided so.
fn decisions(proxy: &Proxy, service: &str, decision: &str) -> u64 {
    let labels = format!("direction=\"outbound\",service=\"{service}\",decision=\"{decision}\"");
    proxy.metric(&format!("policy_decisions_total{{{labels}}}"))
}
