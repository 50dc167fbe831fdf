//! Limits that adapt, before Python's server, which serves so many at once and lets the others wait.

use std::time::Duration;

use crate::common::{Mesh, Need, PATIENCE, Peer, Proxy, have, program, run, script, tell};

/// What wrk keeps under way.
const CLIENTS: usize = 64;

/// The limit at the end of a load, and the requests that got no answer.
fn load(proxy: &Proxy, to: std::net::SocketAddr, gauge: &str) -> (u64, u64) {
    let clients = CLIENTS.to_string();
    let mut wrk = program("wrk");
    wrk.args(["--connections", &clients, "--threads", "1", "--timeout", "20s"]);
    wrk.args(["--duration", "5s", "--header", "Host: web.test", &format!("http://{to}/")]);
    let load = std::thread::spawn(move || run(&mut wrk, PATIENCE).ok().text());
    // A median: it breathes, and a busy machine makes it hold its breath.
    let mut limits = Vec::new();
    while !load.is_finished() {
        std::thread::sleep(Duration::from_millis(100));
        limits.push(proxy.metric(gauge));
    }
    let text = load.join().expect("wrk failed");
    let half = limits.len() / 2;
    let late = &mut limits[half..];
    late.sort_unstable();
    let failed = text.lines().find(|line| line.contains("Non-2xx"));
    let failed = failed.and_then(|line| line.split_whitespace().last()?.parse().ok());
    (late[late.len() / 2], failed.unwrap_or(0))
}

#[test]
fn an_adaptive_limit_finds_how_many_a_server_takes_at_once() {
    if !have(&[Need::Program("wrk"), Need::Program("curl"), Need::Program("python3")]) {
        return;
    }
    let adaptive = "adaptive = { min = 2, max = 200 }\nmax_queue = 1000\nqueue_timeout = \"20s\"";
    let service = "concurrency_limit{direction=\"outbound\",service=\"web.test:80\"}";
    let mut found = Vec::new();
    for (at_once, is_port) in [(4, false), (4, true), (CLIENTS, false)] {
        let at = at_once.to_string();
        let app = Peer::start(script("busy_app.py").args(["200", "0.04", &at]));
        let (addr, port) = (app.addr, app.addr.port());
        let (limit, failed) = if is_port {
            let proxy = Mesh::new()
                .proxy(format!("app = \"{addr}\""))
                .section(format!("[[inbound]]\nport = {port}\n{adaptive}"))
                .start();
            let gauge = format!("port_concurrency_limit{{port=\"{port}\"}}");
            load(&proxy, proxy.inbound(), &gauge)
        } else {
            let lines = format!("authority = \"web.test\"\nendpoints = [\"{addr}\"]\n{adaptive}");
            let proxy = Mesh::new().section(format!("[[service]]\n{lines}")).start();
            load(&proxy, proxy.outbound(), service)
        };
        tell(&format!("{at_once} at once, {CLIENTS} clients: a limit of {limit}, {failed} failed"));
        assert_eq!(failed, 0, "the others wait for their turn");
        found.push(limit);
    }
    // Somewhat more than the server takes at once, and far from what the clients would send.
    for limit in &found[..2] {
        assert!((2..=24).contains(limit), "{found:?}");
    }
    assert!(found[2] > 2 * found[0].max(found[1]), "{found:?}");
}
