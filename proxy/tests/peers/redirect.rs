//! Original destinations for real: a network namespace whose kernel redirects what its apps send,
//! and another one behind it that holds the servers.

use std::net::SocketAddr;
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use crate::common::{
    App, Mesh, Need, PATIENCE, Peer, Proxy, Ran, eventually, have, program, run, script,
};
use crate::sni::{Certificate, passed};
use crate::tcp::time_to_banner;

/// Whose connections are redirected. The proxy runs as somebody else, so its own are not: as
/// Linkerd does it, with the roles swapped.
const APP_UID: &str = "65534";

/// Two namespaces: `near` with the apps and the proxy, `far` with the servers. An address behind
/// `far` can be reached from `near` only.
pub(crate) struct Net {
    near: String,
    far: String,
}

/// The far server, by both families. It is not the address of the link: only a route leads to it.
pub(crate) const FAR: [&str; 2] = ["10.99.0.1", "fd99::1"];
/// `near` on the link.
const NEAR: &str = "10.98.0.1";

/// Requests that went on to where they wanted.
const REQUESTS: &str = "request_total{direction=\"outbound\",service=\"original-dst\"}";

impl Net {
    pub(crate) fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let id = format!("{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let net = Net { near: format!("slv-n{id}"), far: format!("slv-f{id}") };
        let Net { near, far } = &net;
        for line in [
            format!("ip netns add {near}"),
            format!("ip netns add {far}"),
            format!("ip -n {near} link add link0 type veth peer name link0 netns {far}"),
        ] {
            shell(&line);
        }
        for (name, own, other) in [(near, 1, 2), (far, 2, 1)] {
            for line in [
                "link set lo up".into(),
                format!("addr add 10.98.0.{own}/24 dev link0"),
                format!("addr add fd98::{own}/64 dev link0 nodad"),
                "link set link0 up".into(),
                format!("route add default via 10.98.0.{other}"),
                format!("-6 route add default via fd98::{other}"),
            ] {
                shell(&format!("ip -n {name} {line}"));
            }
        }
        shell(&format!("ip -n {far} addr add {}/32 dev lo", FAR[0]));
        shell(&format!("ip -n {far} addr add {}/128 dev lo", FAR[1]));
        net
    }

    /// What the apps in `near` send to any port of any address goes to the proxy.
    pub(crate) fn redirect_outbound(&self, tables: &str, to: SocketAddr) {
        shell(&format!(
            "ip netns exec {} {tables} -t nat -A OUTPUT -p tcp -m owner --uid-owner {APP_UID} \
             -j REDIRECT --to-ports {}",
            self.near,
            to.port()
        ));
    }

    /// What comes into `near` goes to the proxy.
    fn redirect_inbound(&self, to: SocketAddr) {
        redirect_incoming(&self.near, to);
    }

    pub(crate) fn near(&self, inner: &Command) -> Command {
        within(&self.near, inner)
    }

    fn far(&self, inner: &Command) -> Command {
        within(&self.far, inner)
    }

    /// An app in `near`: what it sends is redirected.
    fn app(&self, words: &[&str]) -> Command {
        let mut command = program("setpriv");
        command.args(["--reuid", APP_UID, "--regid", APP_UID, "--clear-groups"]);
        command.args(words);
        self.near(&command)
    }

    pub(crate) fn curl(&self, args: &[&str]) -> Ran {
        let words = ["curl", "--silent", "--show-error", "--max-time", "50"];
        run(&mut self.app(&[&words, args].concat()), PATIENCE)
    }

    pub(crate) fn start(&self, mesh: Mesh) -> Proxy {
        mesh.wrapper(&["ip", "netns", "exec", &self.near]).start()
    }

    /// A proxy in `far`.
    pub(crate) fn start_far(&self, mesh: Mesh) -> Proxy {
        mesh.wrapper(&["ip", "netns", "exec", &self.far]).start()
    }

    /// What comes into `far` goes to its proxy.
    pub(crate) fn redirect_far(&self, to: SocketAddr) {
        redirect_incoming(&self.far, to);
    }

    /// A server at an address in `far`.
    pub(crate) fn server(&self, name: &str, args: &[&str]) -> Peer {
        Peer::start(&mut self.far(script(name).args(args)))
    }
}

impl Drop for Net {
    fn drop(&mut self) {
        for name in [&self.near, &self.far] {
            let _ = program("ip").args(["netns", "delete", name]).status();
        }
    }
}

fn redirect_incoming(namespace: &str, to: SocketAddr) {
    shell(&format!(
        "ip netns exec {namespace} iptables -t nat -A PREROUTING -p tcp -i link0 \
         -j REDIRECT --to-ports {}",
        to.port()
    ));
}

fn within(namespace: &str, inner: &Command) -> Command {
    let mut command = program("ip");
    command.args(["netns", "exec", namespace]);
    command.arg(inner.get_program()).args(inner.get_args());
    command
}

#[track_caller]
fn shell(line: &str) {
    run(program("sh").args(["-c", line]), PATIENCE).ok();
}

/// Besides a table that redirects.
pub(crate) const REDIRECT_NEEDS: [Need; 4] = [
    Need::Program("curl"),
    Need::Program("ncat"),
    Need::Program("python3"),
    Need::Program("setpriv"),
];

fn prepared(tables: &'static str) -> Option<Net> {
    have(&[&REDIRECT_NEEDS[..], &[Need::Redirect(tables)]].concat()).then(Net::new)
}

#[test]
fn http_goes_on_to_where_it_wanted() {
    let Some(net) = prepared("iptables") else {
        return;
    };
    let _far = net.server("echo_address.py", &[FAR[0], "8000"]);
    let known = App::start("never reached");
    let proxy = net.start(Mesh::new().service("web.test", &[known.addr]));
    net.redirect_outbound("iptables", proxy.outbound());
    let url = format!("http://{}:8000/", FAR[0]);
    let expected = format!("{0} port 8000 for {0}:8000\n", FAR[0]);
    for _ in 0..3 {
        assert_eq!(net.curl(&[&url]).ok().text(), expected);
    }
    // It did come through us, and the name that nobody knows is kept.
    let text = net.curl(&["-H", "Host: unknown.test", &url]).ok().text();
    assert_eq!(text, format!("{} port 8000 for unknown.test\n", FAR[0]));
    assert_eq!(proxy.metric(REQUESTS), 4);
    // Where nobody listens, the answer is ours.
    let text = net.curl(&["-i", &format!("http://{}:8001/", FAR[0])]).ok().text();
    assert!(text.starts_with("HTTP/1.1 502 "), "{text}");
    assert!(text.to_lowercase().contains("\r\nl5d-proxy-error: "), "{text}");
}

#[test]
fn tls_goes_on_to_where_it_wanted_whatever_its_name() {
    let Some(net) = prepared("iptables") else {
        return;
    };
    if !have(&[Need::Program("openssl")]) {
        return;
    }
    let pem = Certificate::new();
    let _far = net.server("echo_address.py", &[FAR[0], "8443", pem.path()]);
    // The service of that name is not what was dialled.
    let known = App::start("never reached");
    let proxy = net.start(Mesh::new().service("web.test:443", &[known.addr]));
    net.redirect_outbound("iptables", proxy.outbound());
    for name in ["web.test", "unknown.test"] {
        let resolve = format!("{name}:8443:{}", FAR[0]);
        let url = format!("https://{name}:8443/");
        let ran = net.curl(&["--cacert", pem.path(), "--resolve", &resolve, &url]).ok();
        assert_eq!(ran.text(), format!("{} port 8443 for {name}:8443\n", FAR[0]));
    }
    // An address is no name.
    let ran = net.curl(&["--insecure", &format!("https://{}:8443/", FAR[0])]).ok();
    assert_eq!(ran.text(), format!("{0} port 8443 for {0}:8443\n", FAR[0]));
    assert_eq!(proxy.metric(&passed("passthrough")), 2);
    assert_eq!(proxy.metric(&passed("passthrough_nameless")), 1);
}

#[test]
fn http_goes_on_to_where_it_wanted_by_v6() {
    let Some(net) = prepared("ip6tables") else {
        return;
    };
    let _far = net.server("echo_address.py", &[FAR[1], "8000"]);
    // A new link takes v6 packets only after a while.
    let mut knock = program("ncat");
    knock.args(["-6", "-z", "-w", "1", FAR[1], "8000"]);
    eventually("the link is up", PATIENCE, || {
        let knocked = run(&mut net.near(&knock), PATIENCE);
        knocked.status.success().then_some(())
    });
    let mut mesh = Mesh::new();
    mesh.outbound.set_ip("::1".parse().expect("an address"));
    let proxy = net.start(mesh);
    net.redirect_outbound("ip6tables", proxy.outbound());
    let url = format!("http://[{}]:8000/", FAR[1]);
    let text = net.curl(&["-g", &url]).ok().text();
    assert_eq!(text, format!("{0} port 8000 for [{0}]:8000\n", FAR[1]));
    assert_eq!(proxy.metric(REQUESTS), 1);
}

#[test]
fn a_known_authority_wins_over_the_address() {
    let Some(net) = prepared("iptables") else {
        return;
    };
    let _dialled = net.server("echo_address.py", &[FAR[0], "8000"]);
    let _meant = net.server("echo_address.py", &[FAR[0], "9000"]);
    let meant = SocketAddr::new(FAR[0].parse().expect("an address"), 9000);
    let proxy = net.start(Mesh::new().service("web.test", &[meant]));
    net.redirect_outbound("iptables", proxy.outbound());
    let url = format!("http://{}:8000/", FAR[0]);
    let text = net.curl(&["-H", "Host: web.test", &url]).ok().text();
    assert_eq!(text, format!("{} port 9000 for web.test\n", FAR[0]));
    let text = net.curl(&["-H", "Host: web.test:8000", &url]).ok().text();
    assert_eq!(text, format!("{} port 8000 for web.test:8000\n", FAR[0]));
}

#[test]
fn what_is_not_http_goes_on_untouched() {
    let Some(net) = prepared("iptables") else {
        return;
    };
    let _far = net.server("lines.py", &["upper", FAR[0], "7000"]);
    let proxy = net.start(Mesh::new());
    net.redirect_outbound("iptables", proxy.outbound());
    // Decided by its first bytes, which are forwarded with the rest, and half-closed.
    let line = format!("printf 'hello there\\nworld\\n' | ncat {} 7000", FAR[0]);
    let ran = run(&mut net.app(&["sh", "-c", &line]), PATIENCE).ok();
    assert_eq!(ran.text(), "HELLO THERE\nWORLD\n2 lines\n");
    drop(proxy);
}

#[test]
fn a_server_that_speaks_first_is_heard_at_once_on_an_opaque_port() {
    let Some(net) = prepared("iptables") else {
        return;
    };
    let _opaque = net.server("lines.py", &["banner", FAR[0], "3306"]);
    let _other = net.server("lines.py", &["banner", FAR[0], "3307"]);
    let mesh = Mesh::new().proxy("opaque_ports = [3306]").timeout("detect = \"4s\"");
    let proxy = net.start(mesh);
    net.redirect_outbound("iptables", proxy.outbound());
    // A client that waits for its greeting, says one line, and goes.
    let session = |port: &str| {
        let script = "start=$(date +%s%N)\n\
                      exec 3<>/dev/tcp/$0/$1\n\
                      read -r -u 3 greeting\n\
                      echo $(($(date +%s%N) - start))\n\
                      echo noop >&3\n\
                      read -r -u 3 answer\n\
                      echo $greeting $answer";
        let ran = run(&mut net.app(&["bash", "-c", script, FAR[0], port]), PATIENCE);
        let text = ran.ok().text();
        let (nanos, rest) = text.split_once('\n').expect("two lines");
        assert_eq!(rest, "220 ready\r noop\n");
        Duration::from_nanos(nanos.parse().expect("a number"))
    };
    let quick = session("3306");
    assert!(quick < Duration::from_secs(1), "{quick:?}");
    // The twin: without the mark it waits for the time of detection, and works all the same.
    let slow = session("3307");
    assert!(slow >= Duration::from_secs(3), "{slow:?}");
    // Whoever says nothing at all, and closes, is passed on as well.
    let mut ncat = net.app(&["ncat", FAR[0], "3306"]);
    assert!(time_to_banner(&mut ncat) < Duration::from_secs(5));
}

#[test]
fn inbound_connections_reach_the_app_they_were_meant_for() {
    let Some(net) = prepared("iptables") else {
        return;
    };
    let mut first = script("echo_address.py");
    let _first = Peer::start(&mut net.near(first.args([NEAR, "8080"])));
    let mut second = script("lines.py");
    let _second = Peer::start(&mut net.near(second.args(["upper", NEAR, "7000"])));
    let mut mesh = Mesh::new();
    mesh.inbound.set_ip("0.0.0.0".parse().expect("an address"));
    let proxy = net.start(mesh);
    net.redirect_inbound(proxy.mesh.inbound);
    let mut curl = program("curl");
    curl.args(["-sS", "--max-time", "50", &format!("http://{NEAR}:8080/")]);
    let text = run(&mut net.far(&curl), PATIENCE).ok().text();
    assert_eq!(text, format!("{NEAR} port 8080 for {NEAR}:8080\n"));
    let mut ncat = program("sh");
    ncat.args(["-c", &format!("printf 'hello there\\n' | ncat {NEAR} 7000")]);
    let text = run(&mut net.far(&ncat), PATIENCE).ok().text();
    assert_eq!(text, "HELLO THERE\n1 lines\n");
    let metrics = proxy.admin("/metrics").expect("no metrics");
    assert!(metrics.contains("direction=\"inbound\""), "{metrics}");
}

#[test]
fn an_app_that_dials_the_proxy_itself_is_no_loop() {
    let Some(net) = prepared("iptables") else {
        return;
    };
    let far = net.server("echo_address.py", &[FAR[0], "8000"]);
    let service = SocketAddr::new(FAR[0].parse().expect("an address"), 8000);
    let proxy = net.start(Mesh::new().service("web.test", &[service]));
    net.redirect_outbound("iptables", proxy.outbound());
    let url = format!("http://{}/", proxy.outbound());
    let status = |host: &str| {
        let args = ["-o", "/dev/null", "-w", "%{http_code}", "-H", host, &url];
        net.curl(&args).ok().text()
    };
    assert_eq!(status("Host: web.test"), "200");
    let refused = status("Host: nowhere.test");
    assert!(["404", "508"].contains(&refused.as_str()), "{refused}");
    // By its name on loopback, where nobody else listens either.
    let args = ["-o", "/dev/null", "-w", "%{http_code}", "http://127.0.0.1:1/"];
    assert_eq!(net.curl(&args).ok().text(), "502");
    drop(far);
}
