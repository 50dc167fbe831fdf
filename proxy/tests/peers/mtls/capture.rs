//! Two proxies in two network namespaces, both redirected to by the kernel, between a curl and a
//! server that know nothing; and what somebody on the link between them sees.

use std::net::SocketAddr;
use std::process::Command;

use super::{identity, init, text_of};
use crate::common::{Mesh, Need, PATIENCE, Peer, eventually, have, run, script, signal};
use crate::redirect::{FAR, Net, REDIRECT_NEEDS};

const SECRET: &str = "the-secret-of-this-request-4711";

/// Writes every frame that crosses the link of `near` to a file.
struct Capture {
    child: std::process::Child,
    file: std::path::PathBuf,
}

impl Capture {
    fn start(net: &Net, folder: &std::path::Path) -> Self {
        let (file, mark) = (folder.join("frames"), folder.join("capturing"));
        let _ = std::fs::remove_file(&mark);
        let mut capture = script("capture.py");
        capture.args(["link0", text_of(&file), text_of(&mark)]);
        let mut command: Command = net.near(&capture);
        let child = command.spawn().expect("cannot start");
        eventually("the link is watched", PATIENCE, || mark.exists().then_some(()));
        Capture { child, file }
    }

    /// Everything that was seen.
    fn end(mut self) -> Vec<u8> {
        signal(self.child.id(), "TERM");
        self.child.wait().expect("cannot wait");
        std::fs::read(&self.file).expect("nothing was captured")
    }
}

fn contains(bytes: &[u8], text: &str) -> bool {
    bytes.windows(text.len()).any(|window| window == text.as_bytes())
}

/// One request of curl's in `near` to a server in `far`, by its address; and what crossed the link.
fn played(net: &Net, folder: &std::path::Path) -> Vec<u8> {
    let capture = Capture::start(net, folder);
    let url = format!("http://{}:8000/{SECRET}", FAR[0]);
    let text = net.curl(&["-H", &format!("X-Secret: {SECRET}"), &url]).ok().text();
    assert_eq!(text, format!("{0} port 8000 for {0}:8000\n", FAR[0]));
    capture.end()
}

#[test]
fn nobody_on_the_link_can_read_a_request() {
    let needs = [&REDIRECT_NEEDS[..], &[Need::Redirect("iptables")]].concat();
    if !have(&needs) {
        return;
    }
    let (folder, ca) = init();
    let net = Net::new();
    // The server listens where a pod would, behind its own proxy.
    let _server = net.server("echo_address.py", &[FAR[0], "8000"]);
    let inbound: SocketAddr = "0.0.0.0:4143".parse().expect("an address");
    let mut mesh = Mesh::new()
        .section(identity("web.ns.cluster.local", &ca))
        .section("[[inbound]]\nport = 8000\nallow = [\"client.ns.cluster.local\"]");
    mesh.inbound = inbound;
    let far = net.start_far(mesh);
    net.redirect_far(inbound);
    let to = format!(
        "endpoints = [{{ addr = \"{}:8000\", identity = \"web.ns.cluster.local\" }}]",
        FAR[0]
    );
    let mesh = Mesh::new()
        .section(identity("client.ns.cluster.local", &ca))
        .section(format!("[[service]]\nauthority = \"{}:8000\"\n{to}", FAR[0]));
    let near = net.start(mesh);
    net.redirect_outbound("iptables", near.outbound());

    let frames = played(&net, folder.path());
    assert!(frames.len() > 2000, "{} bytes were captured", frames.len());
    for word in [SECRET, "GET /", "HTTP/1.1", "X-Secret", "curl/", "port 8000", "PRI * HTTP"] {
        assert!(!contains(&frames, word), "{word:?} crosses the link in cleartext");
    }
    // But by whose name it was asked for, which TLS does not hide.
    assert!(contains(&frames, "web.ns.cluster.local"));
    assert_eq!(far.metric("proxy_tls_handshakes_total{direction=\"inbound\"}"), 1);
    assert_eq!(near.metric("proxy_tls_handshakes_total{direction=\"outbound\"}"), 1);

    // The twin: whoever goes past its proxy is refused, and can be read.
    let capture = Capture::start(&net, folder.path());
    let url = format!("http://{}:8000/{SECRET}", FAR[0]);
    let mut curl = crate::common::program("curl");
    curl.args(["-sS", "-o", "/dev/null", "-w", "%{http_code}", &url]);
    assert_eq!(run(&mut net.near(&curl), PATIENCE).ok().text(), "403");
    let frames = capture.end();
    assert!(contains(&frames, SECRET) && contains(&frames, "GET /"));
}

/// What captures is not what hides: without an identity everything can be read.
#[test]
fn without_an_identity_everybody_on_the_link_can() {
    let needs = [&REDIRECT_NEEDS[..], &[Need::Redirect("iptables")]].concat();
    if !have(&needs) {
        return;
    }
    let folder = tempfile::tempdir().expect("cannot make a temporary folder");
    let net = Net::new();
    let _server: Peer = net.server("echo_address.py", &[FAR[0], "8000"]);
    let near = net.start(Mesh::new());
    net.redirect_outbound("iptables", near.outbound());
    let frames = played(&net, folder.path());
    for word in [SECRET, "GET /", "X-Secret", "curl/", "port 8000"] {
        assert!(contains(&frames, word), "{word:?} was not captured");
    }
}
