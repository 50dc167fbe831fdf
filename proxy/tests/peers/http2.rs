//! HTTP/2 with curl before the proxy, HAProxy and Python behind it.

use std::io::Write as _;
use std::time::Duration;

use crate::common::{
    Mesh, Need, PATIENCE, Peer, Proxy, eventually, free_port, full, have, program, run, script,
};

/// A proxy before HAProxy, which speaks HTTP/1 at `h1.test` and HTTP/2 at `h2.test`.
fn before_haproxy() -> (Proxy, [Peer; 2]) {
    let h1 = Peer::haproxy("one", free_port());
    let h2 = Peer::haproxy_on("two", free_port(), "proto h2");
    let mesh = Mesh::new()
        .service("h1.test", &[h1.addr])
        .speaks("http1")
        .service("h2.test", &[h2.addr])
        .speaks("h2")
        .start();
    (mesh, [h1, h2])
}

/// Rules of HTTP/2 that anybody broke.
pub(super) fn violations(proxy: &Proxy) -> u64 {
    let metrics = proxy.admin("/metrics").expect("no metrics");
    let counts = metrics.lines().filter(|line| line.starts_with("proxy_http2_violations_total{"));
    let counts: Vec<u64> =
        counts.map(|line| line.rsplit(' ').next().unwrap_or("").parse().unwrap_or(1)).collect();
    assert!(counts.len() > 40, "{metrics}");
    counts.iter().sum()
}

#[test]
fn every_version_of_a_client_reaches_every_version_of_an_app() {
    if !have(&[Need::Program("curl"), Need::Program("haproxy")]) {
        return;
    }
    let (proxy, _apps) = before_haproxy();
    for (client, version) in [("--http1.1", "1.1"), ("--http2-prior-knowledge", "2")] {
        for (host, answer) in [("h1.test", "one"), ("h2.test", "two")] {
            let url = format!("http://{host}/");
            let to = ["--connect-to", &format!("::{}", proxy.outbound())].map(str::to_owned);
            let ran = run(
                program("curl").args(["-sS", client, "-d", "some body"]).args(to).args([
                    "-w",
                    " %{http_version} %{http_code}",
                    &url,
                ]),
                PATIENCE,
            )
            .ok();
            assert_eq!(ran.text(), format!("{answer} {version} 200"), "{client} {host}");
        }
    }
}

/// Large bodies of a client of HTTP/2 to an app of HTTP/1 and back, with hashes.
#[test]
fn large_bodies_arrive_whole_and_memory_stays_flat() {
    if !have(&[Need::Program("curl"), Need::Program("python3")]) {
        return;
    }
    let folder = tempfile::tempdir().expect("cannot make a temporary folder");
    let app = Peer::start(script("hash_app.py").arg(folder.path()));
    let proxies = Proxy::chain("big.test", app.addr);
    let bytes: u64 = if full() { 1 << 30 } else { 16 << 20 };
    let file = tempfile::NamedTempFile::new().expect("cannot make a temporary file");
    file.as_file().set_len(bytes).expect("cannot grow");
    let upload = run(
        program("curl")
            .args(["-sS", "--http1.1", "--connect-to", &format!("::{}", proxies[0].outbound())])
            .args(["-X", "POST", "-T"])
            .arg(file.path())
            .arg("http://big.test/upload"),
        10 * PATIENCE,
    )
    .ok();
    let hash = run(program("sha256sum").arg(file.path()), 10 * PATIENCE).ok();
    let hash = hash.text().split(' ').next().unwrap_or_default().to_owned();
    assert!(upload.text().contains(&hash), "{} is not {hash}", upload.text());
    super::chain::check(&proxies);
}

/// HAProxy answers before it has read the request, whose end comes later: what a client that goes by
/// its answers must not notice.
#[test]
fn an_answer_that_overtakes_its_request_arrives() {
    if !have(&[Need::Program("curl"), Need::Program("haproxy")]) {
        return;
    }
    let (proxy, _apps) = before_haproxy();
    for (host, answer) in [("h1.test", "one"), ("h2.test", "two")] {
        let mut curl = program("curl");
        curl.args(["-sS", "--http2-prior-knowledge", "-T", "-", "-w", " %{http_code}"])
            .args(["--connect-to", &format!("::{}", proxy.outbound())])
            .arg(format!("http://{host}/"));
        // Its body has two parts: the answer is there before the second.
        let (from, mut to) = std::io::pipe().expect("no pipe");
        curl.stdin(from);
        let writer = std::thread::spawn(move || {
            for part in ["some ", "body"] {
                to.write_all(part.as_bytes()).expect("curl has closed its input");
                std::thread::sleep(Duration::from_millis(200));
            }
        });
        let ran = run(&mut curl, PATIENCE).ok();
        writer.join().expect("the body was not written");
        assert_eq!(ran.text(), format!("{answer} 200"), "{host}");
    }
    assert_eq!(violations(&proxy), 0);
}

/// An app that knows HTTP/1 only, where the mesh file says that it speaks HTTP/2: one can see why.
#[test]
fn an_app_that_answers_in_http1_is_told_from_one_that_breaks_http2() {
    if !have(&[Need::Program("curl"), Need::Program("nginx")]) {
        return;
    }
    let app = Peer::nginx("old", "");
    let proxy = Mesh::new().service("old.test", &[app.addr]).speaks("h2").start();
    let (status, _) = proxy.get("http://old.test/");
    assert_eq!(status, 502);
    let log = eventually("a line of the log", PATIENCE, || {
        let log = proxy.log();
        log.contains("an HTTP/1 response to an HTTP/2 preface").then_some(log)
    });
    assert!(!log.contains("SETTINGS_MAX_FRAME_SIZE"), "{log}");
    // It goes on asking, whenever a backoff ends.
    let metrics = proxy.admin("/metrics").expect("no metrics");
    let counts = metrics.lines().filter(|line| line.starts_with("proxy_http2_violations_total{"));
    let told: Vec<&str> = counts.filter(|line| !line.ends_with(" 0")).collect();
    assert!(told.len() == 1 && told[0].contains("outbound"), "{told:?}");
    assert!(told[0].contains("violation=\"http1_answer\""), "{told:?}");
}
