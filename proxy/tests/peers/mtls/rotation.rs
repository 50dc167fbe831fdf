//! Another authority and other trust anchors, while wrk and a gRPC stream are under way.

use std::fs;
use std::time::Duration;

use super::traffic::Pair;
use super::{identity, init, text_of};
use crate::common::{
    Mesh, Need, PATIENCE, Peer, Proxy, eventually, free_port, full, have, run, script,
};

const NEEDS: [Need; 5] = [
    Need::Program("curl"),
    Need::Program("haproxy"),
    Need::Program("wrk"),
    Need::Program("python3"),
    Need::Python("grpc"),
];

/// The mesh file of one of the two proxies, with another authority.
fn signed_by(proxy: &Proxy, ca: &str, anchors: &str) -> Mesh {
    let mut mesh = proxy.mesh.clone();
    let name = mesh.sections[0].lines().nth(1).expect("a name").to_owned();
    let name = name.split('"').nth(1).expect("a name");
    mesh.sections[0] = with_anchors(name, ca, anchors);
    mesh
}

fn with_anchors(name: &str, ca: &str, anchors: &str) -> String {
    format!("{}\nanchors = \"{anchors}\"", identity(name, ca))
}

fn certified(proxy: &Proxy) -> u64 {
    proxy.metric("control_identity_cert_refreshes_total{result=\"success\"}")
}

#[test]
fn nothing_fails_while_everything_is_replaced() {
    if !have(&NEEDS) {
        return;
    }
    let ((folder, old), (_new, new)) = (init(), init());
    let pem = |ca: &str| fs::read_to_string(format!("{ca}/ca.crt")).expect("no certificate");
    let file = folder.path().join("anchors.pem");
    fs::write(&file, pem(&old)).expect("cannot write");
    let anchors = text_of(&file);
    let haproxy = Peer::haproxy("app", free_port());
    let pair = |app| {
        let client = with_anchors("client.ns.cluster.local", &old, anchors);
        Pair::with(&client, &with_anchors("web.ns.cluster.local", &old, anchors), app, "")
    };
    let web = pair(haproxy.addr);
    let server = Peer::start(&mut script("grpc_server.py"));
    let grpc = pair(server.addr);
    let both = [&web.outbound, &web.inbound, &grpc.outbound, &grpc.inbound];

    let seconds = if full() { 30 } else { 10 };
    let to = web.outbound.outbound();
    let load = std::thread::spawn(move || {
        let mut wrk = crate::common::program("wrk");
        let duration = format!("-d{seconds}s");
        wrk.args(["-t1", "-c8", &duration, "-H", "Host: web.test", &format!("http://{to}/")]);
        run(&mut wrk, PATIENCE).ok().text()
    });
    let port = grpc.outbound.outbound().port().to_string();
    let stream = std::thread::spawn(move || {
        let mut command = script("grpc_stream.py");
        command.args([&port, "web.test", &seconds.to_string()]);
        run(&mut command, 2 * PATIENCE).ok().text()
    });
    std::thread::sleep(Duration::from_secs(1));

    // As an operator does it: trust both, let the new one sign, trust the new one alone.
    let said = |what: &str| {
        for proxy in both {
            eventually(what, PATIENCE, || proxy.log().contains(what).then_some(()));
        }
    };
    fs::write(&file, pem(&old) + &pem(&new)).expect("cannot write");
    said("anchors=2");
    let before = both.map(certified);
    for proxy in both {
        proxy.rewrite_by_rename(&signed_by(proxy, &new, anchors));
    }
    for (proxy, before) in both.into_iter().zip(before) {
        eventually("it has a new certificate", PATIENCE, || {
            (certified(proxy) > before).then_some(())
        });
    }
    fs::write(&file, pem(&new)).expect("cannot write");
    said("anchors=1");

    let report = load.join().expect("wrk failed");
    assert!(!report.contains("Non-2xx"), "{report}");
    assert!(!report.contains("Socket errors"), "{report}");
    let streamed = stream.join().expect("the stream failed");
    assert!(streamed.starts_with("one stream, "), "{streamed}");
    for proxy in both {
        let log = proxy.log();
        assert!(!log.contains("TLS: ") && !log.contains("refused"), "{log}");
    }
    // New connections are made of what is new: nobody trusts the old one.
    let again = web.outbound.get("http://web.test/");
    assert_eq!(again, (200, "app".into()));
}
