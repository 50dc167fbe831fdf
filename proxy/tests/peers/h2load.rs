//! h2load before the proxy, behind it what answers at once, and on either side what stands between
//! in real meshes: HAProxy, nginx, nghttpd. Not one request may fail.

use std::net::SocketAddr;

use crate::common::{Mesh, Need, PATIENCE, Peer, free_port, full, have, program, run, tell};

use super::http2::violations;

/// Requests, over 8 connections with 32 streams each.
fn requests() -> u64 {
    if full() { 100_000 } else { 10_000 }
}

/// All requests to `host`, whose name says what is behind, by way of `to`.
#[track_caller]
fn load(before: &str, to: SocketAddr, host: &str, path: &str, options: &[&str]) {
    let requests = requests().to_string();
    let mut h2load = program("h2load");
    h2load.args(["-n", &requests, "-c", "8", "-m", "32"]).args(options);
    h2load.arg(format!("--connect-to={to}")).arg(format!("http://{host}{path}"));
    let text = run(&mut h2load, 3 * PATIENCE).ok().text();
    let expected = format!("{requests} succeeded, 0 failed, 0 errored, 0 timeout");
    assert!(text.contains(&expected), "{host}: {text}");
    assert!(text.contains(&format!("status codes: {requests} 2xx")), "{host}: {text}");
    let rate = text.lines().find(|line| line.starts_with("finished")).unwrap_or_default();
    tell(&format!("h2load {before} {host}: {requests} requests, none failed; {rate}"));
}

const NEEDS: [Need; 4] = [
    Need::Program("h2load"),
    Need::Program("haproxy"),
    Need::Program("nginx"),
    Need::Program("nghttpd"),
];

#[test]
fn no_request_to_any_server_fails() {
    if !have(&NEEDS) {
        return;
    }
    let folder = tempfile::tempdir().expect("cannot make a temporary folder");
    std::fs::write(folder.path().join("name"), "nghttpd").expect("cannot write");
    let apps = [
        ("haproxy-h1.test", "http1", Peer::haproxy("one", free_port())),
        ("haproxy-h2.test", "h2", Peer::haproxy_on("two", free_port(), "proto h2")),
        ("nginx-h1.test", "http1", Peer::nginx("one", "")),
        ("nginx-h2.test", "h2", Peer::nginx("two", "http2")),
        ("nghttpd.test", "auto", Peer::nghttpd(folder.path(), &[])),
    ];
    let mesh = apps.iter().fold(Mesh::new(), |mesh, (host, protocol, app)| {
        mesh.service(host, &[app.addr]).speaks(protocol)
    });
    let proxy = mesh.start();
    for (host, ..) in &apps {
        load("", proxy.outbound(), host, "/name", &[]);
    }
    assert_eq!(violations(&proxy), 0);
}

#[test]
fn no_request_through_any_proxy_fails() {
    if !have(&NEEDS) {
        return;
    }
    let apps =
        [Peer::haproxy("one", free_port()), Peer::haproxy_on("two", free_port(), "proto h2")];
    let proxy = Mesh::new()
        .service("h1.test", &[apps[0].addr])
        .speaks("http1")
        .service("h2.test", &[apps[1].addr])
        .speaks("h2")
        .start();
    let to = proxy.outbound();
    for (name, before, options) in [
        ("HAProxy, HTTP/1", Peer::haproxy_before(to, ""), &["--h1"][..]),
        ("HAProxy, HTTP/2", Peer::haproxy_before(to, "proto h2"), &[]),
        ("nginx, HTTP/1", Peer::nginx_before(to, ""), &["--h1"]),
        ("nginx, HTTP/2 to HTTP/1", Peer::nginx_before(to, "http2"), &[]),
        ("nginx, HTTP/2", Peer::nginx_grpc_before(to), &[]),
    ] {
        for host in ["h1.test", "h2.test"] {
            load(name, before.addr, host, "/", options);
        }
    }
    assert_eq!(violations(&proxy), 0);
}
