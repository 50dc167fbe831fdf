//! WebSockets over extended CONNECT (RFC 8441): h2 and wsproto or HAProxy before the proxy, HAProxy
//! or another proxy of ours behind it, Python's `websockets` at either end.

use std::net::SocketAddr;

use crate::common::{Mesh, Need, PATIENCE, Peer, Proxy, eventually, have, run, script};

use super::http2::violations;

fn missing() -> bool {
    let modules = ["websockets.asyncio.client", "h2", "wsproto"].map(Need::Python);
    !have(&[&[Need::Program("python3"), Need::Program("haproxy")][..], &modules].concat())
}

fn server() -> Peer {
    Peer::start(&mut script("websocket_server.py"))
}

/// A session of `websockets`, which speaks HTTP/1.
#[track_caller]
fn session(to: SocketAddr) {
    let port = to.port().to_string();
    let mut client = script("websocket_client.py");
    let ran = run(client.args(["127.0.0.1", &port, "ws://ws.test/chat"]), PATIENCE).ok();
    assert_eq!(ran.text(), "closed 4001 done here\n");
}

/// Two sessions of h2 and wsproto on one connection, and a request that is none, which `plain` answers.
#[track_caller]
fn streams(to: SocketAddr, server: &Peer, plain: u16) {
    let port = to.port().to_string();
    let mut client = script("websocket_h2_client.py");
    let ran = run(client.args(["127.0.0.1", &port, "ws://ws.test/chat"]), PATIENCE).ok();
    assert_eq!(ran.text(), format!("closed 4001 done here and {plain}\n"));
    eventually("the server saw both ends", PATIENCE, || {
        let output = server.output();
        (output.contains("closed 4001 done here") && output.contains("closed 1006")).then_some(())
    });
}

#[test]
fn streams_become_connections() {
    if missing() {
        return;
    }
    let server = server();
    let proxy = Mesh::new().service("ws.test", &[server.addr]).speaks("http1").start();
    // A server of WebSockets wants an upgrade.
    streams(proxy.outbound(), &server, 426);
    assert_eq!(violations(&proxy), 0);
}

#[test]
fn connections_become_streams_and_connections_again() {
    if missing() {
        return;
    }
    let server = server();
    let proxies = Proxy::chain("ws.test", server.addr);
    session(proxies[0].outbound());
    // The app speaks no HTTP/2, and is found to: a session is asked for in HTTP/1, a request fails.
    streams(proxies[0].outbound(), &server, 502);
    super::chain::check(&proxies);
}

#[test]
fn haproxy_takes_streams_and_makes_them() {
    if missing() {
        return;
    }
    let server = server();
    // websockets -> HAProxy -> streams -> ours -> streams -> HAProxy -> websockets
    let behind = Peer::haproxy_between("proto h2", server.addr, "");
    let proxy = Mesh::new().service("ws.test", &[behind.addr]).speaks("h2").start();
    let before = Peer::haproxy_between("", proxy.outbound(), "proto h2 ws h2");
    session(before.addr);
    session(proxy.outbound());
    streams(proxy.outbound(), &server, 426);
    assert_eq!(violations(&proxy), 0);
}
