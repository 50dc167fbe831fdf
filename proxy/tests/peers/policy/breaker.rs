//! Endpoints that fail, or seem to: haproxy and Python's servers behind, wrk and curl in front.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use super::decisions;
use crate::common::{
    Mesh, Need, PATIENCE, Peer, Proxy, free_port, full, have, program, run, script, tell,
};

const NEEDS: [Need; 4] = [
    Need::Program("wrk"),
    Need::Program("curl"),
    Need::Program("python3"),
    Need::Program("haproxy"),
];
const WEB: &str = "web.test:80";

pub(super) fn failing(how: &str) -> Peer {
    Peer::start(script("failing_app.py").arg(how))
}

pub(super) fn haproxies(count: usize) -> Vec<Peer> {
    (0..count).map(|index| Peer::haproxy(&format!("app-{index}"), free_port())).collect()
}

/// A proxy before these, with more lines for the service.
pub(super) fn proxy(endpoints: &[&Peer], lines: &str, route: &str) -> Proxy {
    let quoted: Vec<_> = endpoints.iter().map(|peer| format!("\"{}\"", peer.addr)).collect();
    let quoted = quoted.join(", ");
    let service =
        format!("[[service]]\nauthority = \"web.test\"\nendpoints = [{quoted}]\n{lines}\n");
    Mesh::new()
        .section(service)
        .section(format!("[[route]]\nservice = \"web.test\"\n{route}"))
        .start()
}

fn endpoint(proxy: &Proxy, family: &str, addr: SocketAddr) -> u64 {
    let labels = format!("direction=\"outbound\",service=\"{WEB}\",target_addr=\"{addr}\"");
    proxy.metric(&format!("{family}{{{labels}}}"))
}

fn requests(proxy: &Proxy, endpoints: &[Peer]) -> u64 {
    endpoints.iter().map(|peer| endpoint(proxy, "endpoint_request_total", peer.addr)).sum()
}

/// What wrk says of so many seconds: requests, failures, the longest of them.
pub(super) struct Load {
    pub(super) requests: u64,
    pub(super) failed: u64,
    pub(super) longest: Duration,
}

pub(super) fn wrk(proxy: &Proxy, seconds: u64) -> impl FnOnce() -> Load + Send + use<> {
    let mut command = program("wrk");
    command.args(["--connections", "32", "--threads", "1", "--timeout", "20s", "--duration"]);
    command.arg(format!("{seconds}s")).args(["--header", "Host: web.test"]);
    command.arg(format!("http://{}/name", proxy.outbound()));
    move || {
        let text = run(&mut command, Duration::from_mins(3)).ok().text();
        let words = |marker: &str| -> Vec<String> {
            let line = text.lines().find(|line| line.contains(marker)).unwrap_or_default();
            line.split_whitespace().map(|word| word.trim_end_matches(',').to_owned()).collect()
        };
        let number = |word: Option<&String>| word.map_or(0, |word| word.parse().expect(word));
        // Socket errors: connect 0, read 0, write 0, timeout 0
        let sockets = words("Socket errors:");
        let sockets: u64 = [3, 5, 7, 9].iter().map(|&at| number(sockets.get(at))).sum();
        // Latency   1.2ms  3.4ms  5.6ms  78.90%: average, deviation, most
        let longest = words("Latency")[3].clone();
        let (value, unit) = longest.split_at(longest.find(char::is_alphabetic).expect("a unit"));
        let value: f64 = value.parse().expect("a time");
        let unit = match unit {
            "us" => 1e-6,
            "ms" => 1e-3,
            "s" => 1.0,
            _ => 60.0,
        };
        Load {
            requests: number(words(" requests in ").first()),
            failed: sockets + number(words("Non-2xx").last()),
            longest: Duration::from_secs_f64(value * unit),
        }
    }
}

/// *Done when*: `kill -STOP` of one of three backends under load. With a time for each try and a
/// breaker no request exceeds its deadline, and 2 s later under 1 % of them touch the stopped one.
#[test]
fn a_backend_that_is_stopped_is_hardly_asked_and_nobody_waits_for_it() {
    if !have(&NEEDS) {
        return;
    }
    let backends = haproxies(3);
    let all: Vec<&Peer> = backends.iter().collect();
    let proxy = proxy(
        &all,
        "breaker = { consecutive = 7 }",
        "timeouts = { request = \"2s\" }\n\
         retry = { on = [\"gateway-error\", \"response-timeout\"], limit = 2, per_try_timeout = \"300ms\" }",
    );
    let seconds = if full() { 30 } else { 8 };
    let load = std::thread::spawn(wrk(&proxy, seconds));
    std::thread::sleep(Duration::from_secs(1));
    let stopped = &backends[0];
    let touched = || endpoint(&proxy, "endpoint_request_total", stopped.addr);
    assert!(touched() > 0, "it is asked before");
    stopped.signal("STOP");
    std::thread::sleep(Duration::from_secs(2));
    let (before, before_all) = (touched(), requests(&proxy, &backends));
    let load = load.join().expect("the load failed");
    let (touched, all) = (touched() - before, requests(&proxy, &backends) - before_all);
    stopped.signal("CONT");
    let share = touched as f64 / all as f64;
    tell(&format!(
        "kill -STOP: {} requests, {} failed, the longest {:?}; from 2 s on {touched} of {all} \
         ({:.4} %) touch the stopped one; ejected {} times, retried {}",
        load.requests,
        load.failed,
        load.longest,
        share * 100.0,
        decisions(&proxy, WEB, "ejected"),
        decisions(&proxy, WEB, "retried"),
    ));
    assert_eq!(load.failed, 0);
    assert!(load.longest <= Duration::from_secs(2), "{:?}", load.longest);
    assert!(all > 100 && share < 0.01, "{touched} of {all}");
    assert!(decisions(&proxy, WEB, "ejected") >= 1);
    assert!(proxy.log().contains("endpoint ejected: "), "{}", proxy.log());
    // It goes on, and is asked again.
    let asked = Instant::now();
    while endpoint(&proxy, "endpoint_ejected", stopped.addr) > 0 {
        assert!(asked.elapsed() < PATIENCE, "it stays ejected");
        proxy.curl(&["http://web.test/name"]);
    }
}

/// One of three backends fails, in every way: with a breaker fewer requests meet it.
#[test]
fn one_of_three_that_fails_is_left_alone() {
    if !have(&NEEDS) {
        return;
    }
    let good = haproxies(2);
    for how in ["503", "reset", "cut", "hang"] {
        let bad = failing(how);
        let all = [&bad, &good[0], &good[1]];
        let load = |breaker: &str| {
            let proxy = proxy(&all, breaker, "timeouts.request = \"300ms\"");
            let load = wrk(&proxy, if full() { 10 } else { 3 })();
            (load, proxy)
        };
        let (off, _) = load("");
        let (on, proxy) = load("breaker = { consecutive = 5, backoff = { min = \"1s\" } }");
        tell(&format!(
            "one of three: {how}: failed without a breaker {} of {}, with one {} of {}",
            off.failed, off.requests, on.failed, on.requests
        ));
        let ejected = decisions(&proxy, WEB, "ejected");
        assert!(ejected >= 1, "{how}");
        // Those that were under way when it was ejected, and its probes.
        assert!(on.failed <= 32 + 5 + 5, "{how}: {} in {ejected}", on.failed);
        assert_eq!(endpoint(&proxy, "endpoint_ejected", bad.addr), 1, "{how}");
    }
}

/// Answers that are no failures, and clients that do not wait for theirs.
#[test]
fn honest_answers_and_clients_that_leave_eject_nobody() {
    if !have(&NEEDS) {
        return;
    }
    let breaker = "breaker = { consecutive = 3 }";
    for how in ["404", "429", "hang"] {
        let backends = [(); 2].map(|()| failing(how));
        let proxy = proxy(&[&backends[0], &backends[1]], breaker, "timeouts.request = \"20s\"");
        for _ in 0..12 {
            let mut curl = program("curl");
            curl.args(["--silent", "--max-time", if how == "hang" { "0.2" } else { "10" }]);
            curl.args(["--output", "/dev/null", "--write-out", "%{http_code}"]);
            curl.args(["--header", "Host: web.test"]);
            let ran = run(curl.arg(format!("http://{}/", proxy.outbound())), PATIENCE);
            assert_eq!(ran.text(), if how == "hang" { "000" } else { how });
        }
        // A decision that was never taken has no series, or 0.
        let page = proxy.admin("/metrics").expect("the metrics");
        for decision in ["ejected", "ejection_spared"] {
            let mut lines = page.lines().filter(|line| line.contains(decision));
            let counted =
                |line: &str| line.starts_with("policy_decisions") && !line.ends_with(" 0");
            assert!(!lines.any(counted), "{how}: {page}");
        }
    }
    // But what looks like that and is none does.
    let backends = [(); 2].map(|()| failing("500"));
    let proxy = proxy(&[&backends[0], &backends[1]], breaker, "timeouts.request = \"20s\"");
    for _ in 0..12 {
        proxy.curl(&["http://web.test/"]);
    }
    assert_eq!(decisions(&proxy, WEB, "ejected"), 1, "no more than the floor");
    assert!(decisions(&proxy, WEB, "ejection_spared") >= 1);
}
