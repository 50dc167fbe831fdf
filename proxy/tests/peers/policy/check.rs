//! Health checks of Python's, haproxy's and grpcio's servers.

use std::net::SocketAddr;

use crate::common::{Mesh, Need, PATIENCE, Peer, Proxy, eventually, free_port, have, script};

fn proxy(endpoints: &[SocketAddr], check: &str) -> Proxy {
    let quoted: Vec<_> = endpoints.iter().map(|addr| format!("\"{addr}\"")).collect();
    let quoted = quoted.join(", ");
    let section = format!(
        "[[service]]\nauthority = \"web.test\"\nendpoints = [{quoted}]\nprotocol = \"http1\"\n\
         health_check = {{ {check}, interval = \"200ms\", timeout = \"200ms\" }}"
    );
    Mesh::new().section(section).start()
}

fn wait_for(proxy: &Proxy, addr: SocketAddr, unhealthy: u64) {
    let labels = format!("direction=\"outbound\",service=\"web.test:80\",target_addr=\"{addr}\"");
    eventually("the checks notice", PATIENCE, || {
        let now = proxy.metric(&format!("endpoint_unhealthy{{{labels}}}"));
        (now == unhealthy).then_some(())
    });
}

#[test]
fn a_backend_that_does_not_pass_gets_no_request_and_one_that_does_again_gets_some() {
    if !have(&[Need::Program("curl"), Need::Program("python3"), Need::Program("haproxy")]) {
        return;
    }
    let good = Peer::haproxy("good", free_port());
    for (how, check) in [("503", "http = \"/healthz\""), ("hang", "http = \"/healthz\"")] {
        let bad = Peer::start(script("failing_app.py").arg(how));
        let proxy = proxy(&[good.addr, bad.addr], check);
        wait_for(&proxy, good.addr, 0);
        wait_for(&proxy, bad.addr, 1);
        for _ in 0..20 {
            assert_eq!(proxy.curl(&["http://web.test/"]).ok().text(), "good", "{how}");
        }
        // Until it was asked it is not taken for healthy either; that it hangs is seen a little later.
        eventually("it is said", PATIENCE, || {
            proxy.log().contains("endpoint unhealthy: ").then_some(())
        });
    }
    // A stopped process accepts connections and says nothing.
    let other = Peer::haproxy("other", free_port());
    let proxy = proxy(&[good.addr, other.addr], "http = \"/\"");
    wait_for(&proxy, other.addr, 0);
    other.signal("STOP");
    wait_for(&proxy, other.addr, 1);
    for _ in 0..20 {
        assert_eq!(proxy.curl(&["http://web.test/"]).ok().text(), "good");
    }
    other.signal("CONT");
    wait_for(&proxy, other.addr, 0);
    // Nobody passes: better than nobody.
    other.signal("STOP");
    good.signal("STOP");
    wait_for(&proxy, other.addr, 1);
    wait_for(&proxy, good.addr, 1);
    good.signal("CONT");
    other.signal("CONT");
    assert!(proxy.curl(&["http://web.test/"]).ok().text().len() >= 4);
}

#[test]
fn a_connect_is_checked() {
    if !have(&[Need::Program("haproxy")]) {
        return;
    }
    let good = Peer::haproxy("good", free_port());
    let nobody = SocketAddr::from(([127, 0, 0, 1], free_port()));
    let proxy = proxy(&[good.addr, nobody], "tcp = true");
    wait_for(&proxy, nobody, 1);
    wait_for(&proxy, good.addr, 0);
}

#[test]
fn grpcio_is_asked_by_the_protocol_of_grpc() {
    if !have(&[Need::Program("python3"), Need::Python("grpc")]) {
        return;
    }
    let serving = Peer::start(script("health_app.py").arg("SERVING"));
    let not = Peer::start(script("health_app.py").arg("NOT_SERVING"));
    let without = Peer::start(&mut script("grpc_server.py"));
    let all = [serving.addr, not.addr, without.addr];
    let proxy = proxy(&all, "grpc = \"an.example\"");
    wait_for(&proxy, serving.addr, 0);
    wait_for(&proxy, not.addr, 1);
    wait_for(&proxy, without.addr, 1);
    eventually("it is said why", PATIENCE, || {
        let log = proxy.log();
        (log.contains("it does not serve") && log.contains("gRPC status 12")).then_some(())
    });
}
