//! One of three backends fails, in every way that there is: how many requests fail with policy and
//! without, side by side, under wrk and under grpcio.

use super::breaker::{Load, failing, haproxies, proxy, wrk};
use super::decisions;
use crate::common::{Need, PATIENCE, Peer, Proxy, full, have, run, script, tell};

/// Failures come to half a second, with policy or without.
const TIMES: &str = "timeouts = { request = \"1s\", response = \"500ms\" }\n";

/// A balancer that does not see who is slow or fails: what is left to see is the policy.
const BLIND: &str = "balancer = \"round-robin\"\n";

const BREAKER: &str =
    "balancer = \"round-robin\"\nbreaker = { consecutive = 5, backoff = { min = \"1s\" } }";

/// What is known before an answer begins is tried again.
const RETRY: &str = "retry = { on = [\"gateway-error\", \"connect-failure\", \"response-timeout\"], \
    grpc = [\"unavailable\", \"deadline-exceeded\"], limit = 2, per_try_timeout = \"100ms\" }";

/// Requests that may meet the one that fails before it is ejected: what is under way, and a row of
/// failures; and, as often as its backoff ends, a probe.
fn spared(at_once: u64) -> u64 {
    at_once + 5 + 8
}

/// For how long each is asked.
fn seconds(how: &str) -> u64 {
    match how {
        _ if full() => 10,
        // It takes a while until these have failed so often that they are ejected.
        "slow" | "hang" => 2,
        _ => 1,
    }
}

/// The same load without policy and with; what came of it.
fn side_by_side(
    how: &str,
    all: &[&Peer],
    mut load: impl FnMut(&Proxy) -> Load,
    at_once: u64,
    is_hidden: bool,
) {
    let without = load(&proxy(all, BLIND, TIMES));
    let with = proxy(all, BREAKER, &format!("{TIMES}{RETRY}"));
    let under = load(&with);
    let share = |load: &Load| load.failed as f64 * 100.0 / load.requests.max(1) as f64;
    tell(&format!(
        "one of three: {how}: without policy {:.2} % of {} failed, with it {:.3} % of {}; \
         ejected {} times",
        share(&without),
        without.requests,
        share(&under),
        under.requests,
        decisions(&with, "web.test:80", "ejected"),
    ));
    // A third of all, where none of them takes longer than the others; few only where the one shared
    // connection of gRPC is reset: its endpoint is left alone for a moment, which needs no policy.
    let least = if how == "gRPC reset" { 0 } else { spared(at_once) };
    assert!(without.failed > least, "{how}: {} fail without policy", without.failed);
    assert!(under.requests > 100, "{how}: {}", under.requests);
    if is_hidden {
        assert_eq!(under.failed, 0, "{how}: a retry hides it");
        assert!(decisions(&with, "web.test:80", "retried") > 0, "{how}");
    } else {
        // Its answer had begun: nobody may be told another.
        assert!(under.failed <= spared(at_once), "{how}: {}", under.failed);
    }
    assert!(decisions(&with, "web.test:80", "ejected") > 0, "{how}");
}

#[test]
fn one_of_three_fails_under_wrk() {
    if !have(&["wrk", "python3", "haproxy"].map(Need::Program)) {
        return;
    }
    let good = haproxies(2);
    for (how, is_hidden) in [("503", true), ("reset", true), ("hang", true), ("slow", false)] {
        let bad = failing(how);
        let all = [&bad, &good[0], &good[1]];
        let load = |proxy: &Proxy| wrk(proxy, seconds(how))();
        side_by_side(how, &all, load, 32, is_hidden);
    }
}

#[test]
fn one_of_three_fails_under_grpcio() {
    if !have(&[Need::Program("python3"), Need::Python("grpc")]) {
        return;
    }
    let start = |how: &str| Peer::start(script("grpc_failing_server.py").arg(how));
    let good = [start("well"), start("well")];
    for (how, is_hidden) in
        [("unavailable", true), ("busy", true), ("reset", true), ("hang", true), ("slow", false)]
    {
        let bad = start(how);
        let all = [&bad, &good[0], &good[1]];
        let load = |proxy: &Proxy| {
            let port = proxy.outbound().port().to_string();
            let seconds = seconds(how).to_string();
            let words = [&*port, "web.test", "16", &seconds];
            let mut command = script("grpc_steady_client.py");
            let text = run(command.args(words), PATIENCE * 2).ok().text();
            let numbers: Vec<u64> =
                text.split_whitespace().map_while(|word| word.parse().ok()).collect();
            let [requests, failed, longest] = numbers[..] else { panic!("{text}") };
            tell(&format!("{how}: {}", text.trim_end()));
            Load { requests, failed, longest: std::time::Duration::from_millis(longest) }
        };
        side_by_side(&format!("gRPC {how}"), &all, load, 16, is_hidden);
    }
}
