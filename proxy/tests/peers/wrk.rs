//! wrk on one side, hyper or haproxy on the other: load, and what must not show under it.

use std::net::{Ipv4Addr, SocketAddr};
use std::process::Command;
use std::time::Duration;

use crate::common::{
    App, Mesh, Need, PATIENCE, Peer, Proxy, eventually, free_port, full, have, program, run, tell,
};

const CONNECTIONS: usize = 64;

/// What wrk tells at its end.
#[derive(Debug)]
struct Summary {
    requests: u64,
    /// Connections that broke and answers that were no 2xx.
    failed: u64,
    text: String,
}

fn wrk(proxy: &Proxy, seconds: u64) -> Command {
    let mut command = program("wrk");
    command.arg("--connections").arg(CONNECTIONS.to_string());
    command.args(["--threads", "2", "--timeout", "20s", "--duration"]);
    command.arg(format!("{seconds}s"));
    command.args(["--header", "Host: web.test"]);
    command.arg(format!("http://{}/name", proxy.outbound()));
    command
}

fn run_wrk(mut command: Command) -> Summary {
    let text = run(&mut command, Duration::from_mins(3)).ok().text();
    let number = |word: &str| -> u64 {
        let digits = word.trim_end_matches(',');
        digits.parse().unwrap_or_else(|_| panic!("{word}: {text}"))
    };
    let words_of = |marker: &str| -> Vec<String> {
        let line = text.lines().find(|line| line.contains(marker));
        let words = line.unwrap_or_default().split_whitespace();
        words.map(str::to_owned).collect()
    };
    let requests = words_of(" requests in ");
    let requests = number(requests.first().expect("no count of requests"));
    // Socket errors: connect 0, read 0, write 0, timeout 0
    let sockets = words_of("Socket errors:");
    let sockets: u64 =
        [3, 5, 7, 9].iter().filter_map(|&at| sockets.get(at)).map(|word| number(word)).sum();
    // Non-2xx or 3xx responses: 0
    let statuses = words_of("Non-2xx");
    let statuses = statuses.last().map_or(0, |word| number(word));
    Summary { requests, failed: sockets + statuses, text }
}

/// The load in the background, while `meddle` does what it wants.
fn under_load(proxy: &Proxy, seconds: u64, meddle: impl FnOnce()) -> Summary {
    let command = wrk(proxy, seconds);
    let load = std::thread::spawn(move || run_wrk(command));
    meddle();
    load.join().expect("the load failed")
}

fn haproxies(count: usize) -> Vec<Peer> {
    (0..count).map(|index| Peer::haproxy(&format!("app-{index}"), free_port())).collect()
}

fn addrs(peers: &[Peer]) -> Vec<SocketAddr> {
    peers.iter().map(|peer| peer.addr).collect()
}

#[test]
fn sixty_four_connections_meet_no_error() {
    if !have(&[Need::Program("wrk")]) {
        return;
    }
    let app = App::start("the app");
    let proxy = Mesh::new().service("web.test", &[app.addr]).start();
    let summary = run_wrk(wrk(&proxy, if full() { 10 } else { 2 }));
    tell(&format!("wrk: {} requests without an error", summary.requests));
    assert_eq!(summary.failed, 0, "{}", summary.text);
    assert!(summary.requests > 100, "{}", summary.text);
    // Not one was answered by anybody else. Those that wrk did not wait for make up the rest.
    assert!(app.requests() as u64 >= summary.requests);
}

#[test]
fn two_workers_share_the_load_and_one_account() {
    if !have(&[Need::Program("wrk"), Need::Program("curl")]) {
        return;
    }
    let app = App::start("the app");
    let mesh = Mesh::new().service("web.test", &[app.addr]).proxy("workers = 2");
    let mut proxy = mesh.start();
    let summary = run_wrk(wrk(&proxy, 2));
    assert_eq!(summary.failed, 0, "{}", summary.text);
    let counted = proxy.metric("request_total{direction=\"outbound\",service=\"web.test:80\"}");
    assert_eq!(counted, app.requests() as u64);
    assert!(counted >= summary.requests, "{}", summary.text);
    // Both take what the control thread tells them.
    let other = App::start("other");
    let services = vec![("web.test".into(), vec![other.addr], String::new())];
    proxy.rewrite_in_place(&Mesh { services, ..proxy.mesh.clone() });
    eventually("both workers know the other endpoint", PATIENCE, || {
        let name = || proxy.get("http://web.test/name").1;
        (0..20).all(|_| name() == "other").then_some(())
    });
    proxy.signal("TERM");
    assert!(proxy.wait(PATIENCE).success());
}

#[test]
fn a_killed_endpoint_costs_at_most_its_open_connections() {
    if !have(&[Need::Program("wrk"), Need::Program("haproxy"), Need::Program("curl")]) {
        return;
    }
    let seconds = if full() { 30 } else { 6 };
    let mut peers = haproxies(3);
    let proxy = Mesh::new().service("web.test", &addrs(&peers)).start();
    let third = Duration::from_secs(seconds) / 3;
    let mut open = 0;
    let mut back = None;
    let summary = under_load(&proxy, seconds, || {
        std::thread::sleep(third);
        let victim = peers.pop().expect("three were made");
        let port = victim.addr.port();
        open = victim.kill();
        std::thread::sleep(third);
        back = Some(Peer::haproxy("app-2", port));
    });
    let failed = summary.failed as usize;
    tell(&format!(
        "kill -9 of one of three endpoints: {failed} of {} requests failed, {open} connections were open to it",
        summary.requests
    ));
    assert!((1..=4 * CONNECTIONS).contains(&open), "{open} open connections");
    assert!(failed <= open, "{failed} failed, {open} were open\n{}", summary.text);
    // It serves again: at once when the others are gone, which it need not be preferred to.
    drop(peers);
    eventually("the restarted endpoint serves", Duration::from_secs(20), || {
        (proxy.get("http://web.test/").1 == "app-2").then_some(())
    });
}

#[test]
fn rewriting_the_mesh_file_costs_nothing() {
    if !have(&[Need::Program("wrk"), Need::Program("haproxy"), Need::Program("curl")]) {
        return;
    }
    let seconds = if full() { 30 } else { 6 };
    let peers = haproxies(3);
    let all = addrs(&peers);
    let mesh = |count: usize, mesh: &Mesh| Mesh {
        services: vec![("web.test".into(), all[..count].to_vec(), String::new())],
        ..mesh.clone()
    };
    let proxy = Mesh::new().service("web.test", &all).start();
    let mut rewrites: u64 = 0;
    let summary = under_load(&proxy, seconds, || {
        // Until shortly before the end of the load. Each state lasts long enough to be seen.
        let pause = Duration::from_millis(800);
        for round in 0..(Duration::from_secs(seconds - 1).as_millis() / pause.as_millis()) {
            let next = mesh([2, 3, 1, 3][round as usize % 4], &proxy.mesh);
            if round % 2 == 0 {
                proxy.rewrite_in_place(&next);
            } else {
                proxy.rewrite_by_rename(&next);
            }
            rewrites += 1;
            std::thread::sleep(pause);
        }
    });
    tell(&format!(
        "{rewrites} rewrites of the mesh file: {} of {} requests failed",
        summary.failed, summary.requests
    ));
    assert_eq!(summary.failed, 0, "{}", summary.text);
    // They did take effect.
    let reloads = proxy.metric("proxy_mesh_reloads_total{result=\"applied\"}");
    assert!(reloads >= rewrites / 2, "{reloads} of {rewrites} took effect");
    proxy.rewrite_in_place(&mesh(1, &proxy.mesh));
    eventually("the others are gone", PATIENCE, || {
        let names = || proxy.get("http://web.test/").1;
        (0..10).all(|_| names() == "app-0").then_some(())
    });
}

#[test]
fn all_endpoints_gone_fails_fast_and_comes_back() {
    if !have(&[Need::Program("wrk"), Need::Program("haproxy"), Need::Program("curl")]) {
        return;
    }
    let port = free_port();
    let addr = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    let proxy = Mesh::new()
        .service("web.test", &[addr])
        .timeout("failfast = \"200ms\"")
        .timeout("backoff_max = \"300ms\"")
        .start();
    // Everything fails, nothing hangs, and every connection of the client stays.
    let summary = run_wrk(wrk(&proxy, 2));
    assert_eq!(summary.failed, summary.requests, "{}", summary.text);
    assert!(!summary.text.contains("Socket errors"), "{}", summary.text);
    assert!(summary.requests > CONNECTIONS as u64, "{}", summary.text);
    let (status, _) = proxy.get("http://web.test/");
    assert_eq!(status, 504);
    let app = Peer::haproxy("back", port);
    eventually("it serves again", Duration::from_secs(20), || {
        (proxy.get("http://web.test/").1 == "back").then_some(())
    });
    let summary = run_wrk(wrk(&proxy, 1));
    assert_eq!(summary.failed, 0, "{}", summary.text);
    drop(app);
}
