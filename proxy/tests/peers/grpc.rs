//! grpcio on both sides: unary, streaming each way, trailers only, deadline, cancel, 4 MiB messages.

use std::io::{BufRead, BufReader};
use std::process::Stdio;

use crate::common::{Mesh, Need, PATIENCE, Peer, Proxy, eventually, have, run, script};

const CALLS: &str = "unary\ntrailers only\ndeadline\ncancel\nserver streaming\nclient streaming\n\
    bidirectional\n400 at once\n";

fn missing() -> bool {
    !have(&[Need::Program("python3"), Need::Python("grpc")])
}

/// Every call, from a client to `server` through `proxy`.
fn call(proxy: &Proxy, server: &Peer) {
    call_with(proxy, server, &[]);
}

/// The same, with more words for the client.
pub(crate) fn call_with(proxy: &Proxy, server: &Peer, words: &[&str]) {
    let port = proxy.outbound().port().to_string();
    let ran = run(script("grpc_client.py").args([&port, "grpc.test"]).args(words), PATIENCE).ok();
    assert_eq!(ran.text(), CALLS);
    // The deadline and the cancel: the server learns of both at once.
    eventually("the server saw that nobody waits", PATIENCE, || {
        (server.output().matches("slow ended").count() == 2).then_some(())
    });
}

#[test]
fn every_kind_of_call_passes() {
    if missing() {
        return;
    }
    let server = Peer::start(&mut script("grpc_server.py"));
    let proxy = Mesh::new().service("grpc.test", &[server.addr]).start();
    call(&proxy, &server);
    assert_eq!(super::http2::violations(&proxy), 0);
}

#[test]
fn every_kind_of_call_passes_two_proxies() {
    if missing() {
        return;
    }
    let server = Peer::start(&mut script("grpc_server.py"));
    let proxies = Proxy::chain("grpc.test", server.addr);
    call(&proxies[0], &server);
    super::chain::check(&proxies);
}

/// A stream that has begun ends by the proxy's word, or with its server: a reset would tell the client that
/// it had cancelled its call itself.
#[test]
fn a_stream_that_began_is_told_how_it_ended() {
    if missing() {
        return;
    }
    let late = "DEADLINE_EXCEEDED: request idle for too long";
    let lost = "UNAVAILABLE: response body cut short";
    for (mesh, dies, status) in
        [(Mesh::new().timeout("idle = \"1s\""), false, late), (Mesh::new(), true, lost)]
    {
        let server = Peer::start(&mut script("grpc_server.py"));
        let proxy = mesh.service("grpc.test", &[server.addr]).start();
        let port = proxy.outbound().port().to_string();
        let mut client = script("grpc_begun.py");
        let client = client.args([&port, "grpc.test"]).stdout(Stdio::piped());
        let mut child = client.spawn().unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        assert_eq!(lines.next().unwrap().unwrap(), "begun");
        if dies {
            server.kill();
        }
        assert_eq!(lines.next().unwrap().unwrap(), status);
        assert!(child.wait().unwrap().success());
    }
}
