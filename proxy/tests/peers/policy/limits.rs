//! Limits of the app's ports, met by wrk, curl and grpcio in front of Python's servers.

use std::time::{Duration, Instant};

use crate::common::{Mesh, Need, PATIENCE, Peer, Proxy, eventually, have, program, run, script};

fn inbound(proxy: &Proxy, reason: &str) -> u64 {
    let labels = format!("direction=\"inbound\",reason=\"{reason}\"");
    proxy.metric(&format!("proxy_refused_total{{{labels}}}"))
}

fn mesh(app: &Peer, lines: &str) -> Mesh {
    let app = app.addr;
    let port = app.port();
    Mesh::new()
        .proxy(format!("app = \"{app}\""))
        .section(format!("[[inbound]]\nport = {port}\n{lines}"))
}

/// The status that curl gets from `from`.
fn status(proxy: &Proxy, from: &str) -> String {
    let mut curl = program("curl");
    curl.args(["--silent", "--max-time", "10", "--interface", from]);
    curl.args(["--output", "/dev/null", "--write-out", "%{http_code}"]);
    run(curl.arg(format!("http://{}/", proxy.inbound())), PATIENCE).ok().text()
}

/// wrk sends as fast as it can; curl, from another address, an honest number of requests, all at once
/// like an attack's.
#[test]
fn a_client_that_floods_gets_its_rate_and_an_honest_one_all_it_wants() {
    if !have(&[Need::Program("wrk"), Need::Program("curl"), Need::Program("python3")]) {
        return;
    }
    let app = Peer::start(script("busy_app.py").arg("200"));
    let proxy = mesh(&app, "rate_limit = { per_client = 100 }").start();
    let url = format!("http://{}/", proxy.inbound());
    let began = Instant::now();
    let flood = std::thread::spawn(move || {
        let mut wrk = program("wrk");
        wrk.args(["--connections", "8", "--threads", "1", "--duration", "2s", &url]);
        run(&mut wrk, PATIENCE).ok().text()
    });
    let honest: Vec<String> = (0..50).map(|_| status(&proxy, "127.0.0.2")).collect();
    let told = flood.join().expect("wrk failed");
    let took = began.elapsed();
    assert!(honest.iter().all(|status| status == "200"), "{honest:?}");
    let word = |marker: &str, at: usize| -> u64 {
        let line =
            told.lines().find(|line| line.contains(marker)).unwrap_or_else(|| panic!("{told}"));
        line.split_whitespace().nth(at).and_then(|word| word.parse().ok()).expect("a number")
    };
    let (all, refused) = (word(" requests in ", 0), word("Non-2xx", 4));
    let most = 100 + (took.as_secs_f64() * 100.0) as u64 + 1;
    assert!(all - refused <= most, "{} of {all} in {took:?}: {told}", all - refused);
    assert!(all - refused >= 150, "{} of {all}: {told}", all - refused);
    // One or two of each connection may have been cut off by wrk's end.
    let counted = || inbound(&proxy, "client_rate_limit");
    eventually("all are counted", PATIENCE, || (counted() >= refused).then_some(()));
    assert!(counted() <= refused + 16, "{}, {refused}", counted());
    // It is forgiven.
    std::thread::sleep(Duration::from_millis(100));
    assert_eq!(status(&proxy, "127.0.0.1"), "200");
}

#[test]
fn a_port_takes_its_rate_of_all_and_says_when_to_come_back() {
    if !have(&[Need::Program("curl"), Need::Program("python3")]) {
        return;
    }
    let app = Peer::start(script("busy_app.py").arg("200"));
    let proxy = mesh(&app, "rate_limit = { rps = 1 }").start();
    for _ in 0..2 {
        let mut curl = program("curl");
        curl.args(["--silent", "--include"]);
        // Two on one connection.
        let url = format!("http://{}/", proxy.inbound());
        let text = run(curl.args([&url, &url]), PATIENCE).ok().text().to_lowercase();
        assert!(text.contains(" 200 ") && text.contains(" 429 "), "{text}");
        assert!(text.contains("retry-after: 1"), "{text}");
        std::thread::sleep(Duration::from_millis(1_050));
    }
    assert_eq!(inbound(&proxy, "rate_limit"), 2);
}

#[test]
fn a_call_over_the_rate_is_told_resource_exhausted() {
    if !have(&[Need::Program("python3"), Need::Python("grpc")]) {
        return;
    }
    let server = Peer::start(&mut script("grpc_server.py"));
    let proxy = mesh(&server, "rate_limit = { rps = 3 }").start();
    let port = proxy.inbound().port().to_string();
    let began = Instant::now();
    let told = run(script("grpc_statuses.py").args([&port, "20"]), PATIENCE).ok().text();
    // Three at once, and three more for each second that it took.
    let most = 3 + (began.elapsed().as_secs_f64() * 3.0) as u64;
    let whole = |passed| format!("OK {passed}\nRESOURCE_EXHAUSTED {}\n", 20 - passed);
    assert!((3..=most.min(19)).any(|passed| told == whole(passed)), "{most}: {told}");
}

/// Eight at a time, each for 200 ms, at an app that takes two at once: the queue keeps them in order, and
/// the same crowd without one is turned away.
#[test]
fn a_crowd_waits_for_its_turn_and_a_larger_one_is_turned_away() {
    if !have(&[Need::Program("curl"), Need::Program("python3")]) {
        return;
    }
    let app = Peer::start(script("busy_app.py").args(["200", "0.2"]));
    let cases = [
        ("max_in_flight = 2\nmax_queue = 6\nqueue_timeout = \"5s\"", 0, "queue_full"),
        ("max_in_flight = 2", 6, "busy"),
        ("max_in_flight = 2\nmax_queue = 6\nqueue_timeout = \"60ms\"", 6, "queue_timeout"),
    ];
    // Of the port, or of the whole proxy.
    for ((limits, most_refused, reason), of) in
        cases.into_iter().flat_map(|case| ["port", "proxy"].map(|of| (case, of)))
    {
        let of_all = || Mesh::new().proxy(format!("app = \"{}\"\n{limits}", app.addr));
        let proxy = if of == "port" { mesh(&app, limits) } else { of_all() }.start();
        let url = format!("http://{}/", proxy.inbound());
        let mut curl = program("curl");
        curl.args(["--silent", "--parallel", "--parallel-immediate", "--parallel-max", "8"]);
        curl.args(["--write-out", "%{http_code} "]).args([&url; 8]);
        let text = run(&mut curl, PATIENCE).ok().text();
        let refused = text.matches("503").count();
        assert_eq!(text.matches("200").count() + refused, 8, "{text}");
        assert!(refused <= most_refused && (refused > 0) == (most_refused > 0), "{limits}: {text}");
        assert_eq!(inbound(&proxy, &format!("{of}_{reason}")), refused as u64);
    }
}

/// curl asks for 100 ms of an app that takes 400.
#[test]
fn curl_asks_for_less_time_where_the_route_lets_it() {
    if !have(&[Need::Program("curl"), Need::Program("python3")]) {
        return;
    }
    let app = Peer::start(script("busy_app.py").args(["200", "0.4"]));
    for (allowed, status) in [(true, "504"), (false, "200")] {
        let route = format!("service = \"web.test\"\nallow_l5d_request_headers = {allowed}");
        let proxy = Mesh::new().service("web.test", &[app.addr]).route(&route).start();
        let args = ["-o", "/dev/null", "-w", "%{http_code}", "-H", "l5d-timeout: 100ms"];
        let told = proxy.curl(&[&args[..], &["http://web.test/"]].concat()).ok().text();
        assert_eq!(told, status, "{allowed}");
    }
}
