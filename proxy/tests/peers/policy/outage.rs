//! What clients see of an outage with retries within a budget, and what it costs: Python's servers,
//! asked so many times a second, whatever comes back.

use std::net::SocketAddr;
use std::time::Instant;

use super::decisions;
use crate::common::{App, PATIENCE};
use crate::common::{Mesh, Need, Peer, Proxy, full, have, run, script};

/// As in the example of the mesh file.
const RETRY: &str = "service = \"web.test\"\n\
    retry = { on = [\"gateway-error\", \"connect-failure\", \"response-timeout\"], \
    grpc = [\"unavailable\"], limit = 2, per_try_timeout = \"300ms\", max_body = \"64KiB\" }";

/// Two of three endpoints that fail are a third of all pairs that the balancer may draw, so a third of
/// all requests would need a retry, which is more than the budget: the breaker keeps one of them out.
const BREAKER: &str = "breaker = { consecutive = 7, success_rate = { min = 0.8, window = \"10s\", \
    min_requests = 20 }, backoff = { min = \"1s\", max = \"60s\" }, max_ejected = 0.5 }\npanic = 0.3\n";

/// What a client was told.
struct Told {
    asked: u64,
    good: u64,
}

/// So many requests a second, for so long.
fn ask(proxy: &Proxy, rate: u64, seconds: u64) -> Told {
    let port = proxy.outbound().port();
    let words = [port, rate as u16, seconds as u16].map(|number| number.to_string());
    let ran = run(script("steady_client.py").arg("web.test").args(words), PATIENCE * 4).ok().text();
    let numbers: Vec<u64> = ran.split_whitespace().filter_map(|word| word.parse().ok()).collect();
    Told { asked: numbers[0], good: numbers[1] }
}

fn attempts(proxy: &Proxy, asked: u64) -> u64 {
    asked + decisions(proxy, "web.test:80", "retried")
}

#[test]
fn two_of_three_that_fail_are_hidden_and_an_outage_is_not_amplified() {
    if !have(&[Need::Program("python3")]) {
        return;
    }
    let (rate, seconds) = if full() { (500, 60) } else { (200, 4) };
    let mesh = |endpoints: &[SocketAddr]| {
        let mut mesh = Mesh::new().service("web.test", endpoints).route(RETRY);
        mesh.services[0].2.push_str(BREAKER);
        mesh.start()
    };
    let good = App::start("good");
    let busy: Vec<Peer> = (0..3).map(|_| Peer::start(script("busy_app.py").arg("503"))).collect();
    let began = Instant::now();
    let proxy = mesh(&[good.addr, busy[0].addr, busy[1].addr]);
    let told = ask(&proxy, rate, seconds);
    let took = began.elapsed();
    eprintln!("two of three fail: {} of {} good in {took:?}", told.good, told.asked);
    assert!(told.asked >= rate * seconds * 9 / 10, "{}", told.asked);
    assert!(told.good * 1_000 >= told.asked * 999, "{} of {}", told.good, told.asked);
    let all: Vec<_> = busy.iter().map(|peer| peer.addr).collect();
    let proxy = mesh(&all);
    let began = Instant::now();
    let told = ask(&proxy, rate, seconds);
    let attempts = attempts(&proxy, told.asked);
    // The floor is 10 a second, over the time and a window of 10 s.
    let most = told.asked as f64 * 1.2 + 10.0 * (began.elapsed().as_secs_f64() + 10.0);
    eprintln!("all fail: {attempts} attempts for {} requests, at most {most}", told.asked);
    assert_eq!(told.good, 0);
    assert!(attempts as f64 <= most, "{attempts} for {}", told.asked);
    assert!(attempts > told.asked, "they are tried again");
}
