//! What crosses mutual TLS, and that nobody else can tell what it was.

use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::time::Duration;

use super::table::{FRIEND, certificate, client, inbound};
use super::{identity, init, text_of};
use crate::common::{
    App, Mesh, Need, PATIENCE, Peer, Proxy, eventually, full, have, run, script, tell,
};

pub(super) const APP: &str = "web.ns.cluster.local";
pub(super) const CLIENT: &str = "client.ns.cluster.local";

/// An outbound proxy, an inbound one, and an app at `app`.
pub(super) struct Pair {
    pub(super) outbound: Proxy,
    pub(super) inbound: Proxy,
}

impl Pair {
    pub(super) fn start(ca: &str, app: std::net::SocketAddr, more: &str) -> Self {
        Self::with(&identity(CLIENT, ca), &identity(APP, ca), app, more)
    }

    pub(super) fn with(out: &str, inn: &str, app: std::net::SocketAddr, more: &str) -> Self {
        let inbound = Self::inbound(inn, app);
        let meshed = format!("{{ addr = \"{}\", identity = \"{APP}\"", inbound.inbound());
        let outbound = Mesh::new().section(out).section(format!(
            "[[service]]\nauthority = \"web.test\"\nendpoints = [{meshed} }}]\n{more}\n\
             [[tcp]]\nlisten = \"127.0.0.1:0\"\nto = [{meshed}, port = {} }}]",
            app.port()
        ));
        Pair { outbound: outbound.start(), inbound }
    }

    /// The app's side alone.
    pub(super) fn inbound(section: &str, app: std::net::SocketAddr) -> Proxy {
        Mesh::new()
            .proxy(format!("app = \"{app}\""))
            .section(section)
            .section(format!("[[inbound]]\nport = {}\nallow = [\"{CLIENT}\"]", app.port()))
            .start()
    }

    /// Where the opaque forward listens.
    fn forward(&self) -> std::net::SocketAddr {
        let log = self.outbound.log();
        let line = log.lines().find(|line| line.contains("kind=\"tcp\"")).expect("no forward");
        line.split("addr=").nth(1).expect("no address").trim().parse().expect("an address")
    }

    pub(super) fn handshakes(&self) -> u64 {
        self.inbound.metric("proxy_tls_handshakes_total{direction=\"inbound\"}")
    }
}

#[test]
fn a_request_crosses_and_the_app_learns_whose_it_is() {
    if !have(&[Need::Program("curl")]) {
        return;
    }
    let (_folder, ca) = init();
    let app = App::start("the app");
    let pair = Pair::start(&ca, app.addr, "");
    let headers = ["-H", "l5d-client-id: forged.ns.cluster.local", "http://web.test/reflect"];
    let text = pair.outbound.curl(&headers).ok().text();
    assert!(text.starts_with("GET /reflect HTTP/1.1\n"), "{text}");
    let ids: Vec<_> = text.lines().filter(|line| line.starts_with("l5d-client-id")).collect();
    assert_eq!(ids, [format!("l5d-client-id: {CLIENT}")], "{text}");
    assert!(!text.contains("l5d-orig-proto"), "{text}");
    assert_eq!(pair.handshakes(), 1);
}

/// Whoever shows no certificate has no identity, whatever it says.
#[test]
fn a_forged_identity_does_not_reach_the_app() {
    if !have(&[Need::Program("python3"), Need::Program("curl")]) {
        return;
    }
    let (folder, ca) = init();
    let app = App::start("the app");
    let proxy = inbound(&ca, &app, "unauthenticated");
    let request = "GET /reflect HTTP/1.1\\r\\nHost: app\\r\\nl5d-client-id: admin.ns.cluster.local\\r\\n\
                   Connection: close\\r\\n\\r\\n";
    let anchors = format!("{ca}/ca.crt");
    let words = ["--anchors", &anchors, "--send", request];
    let words: Vec<String> = words.iter().map(|&word| word.into()).collect();
    let text = client(&proxy, &words);
    assert!(text.starts_with("HTTP/1.1 200 OK"), "{text}");
    assert!(!text.contains("l5d-client-id"), "{text}");
    // Nor in cleartext.
    let mut stream = TcpStream::connect(proxy.inbound()).expect("cannot connect");
    stream.set_read_timeout(Some(PATIENCE)).expect("cannot set a timeout");
    stream.write_all(request.replace("\\r\\n", "\r\n").as_bytes()).expect("cannot write");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("cannot read");
    assert!(answer.starts_with("HTTP/1.1 200 OK"), "{answer}");
    assert!(!answer.contains("l5d-client-id"), "{answer}");
    // The twin: who has an identity is known by it, and not by what it says.
    let authority = selvedge::ca::Authority::load(folder.path()).expect("no authority");
    let now = std::time::SystemTime::now();
    let valid = selvedge::ca::Validity::starting(now, Duration::from_hours(1));
    certificate(folder.path(), "friend", &authority, FRIEND, valid);
    let mut words = words;
    for (option, file) in [("--certificate", "friend.crt"), ("--key", "friend.pem")] {
        words.extend([option.into(), text_of(&folder.path().join(file)).to_owned()]);
    }
    let text = client(&proxy, &words);
    assert!(text.contains(&format!("l5d-client-id: {FRIEND}\n")), "{text}");
    assert!(!text.contains("admin.ns"), "{text}");
}

#[test]
fn a_removed_anchor_is_removed_at_once() {
    if !have(&[Need::Program("python3"), Need::Program("curl")]) {
        return;
    }
    let ((folder, ca), (_other, other)) = (init(), init());
    let authority = selvedge::ca::Authority::load(folder.path()).expect("no authority");
    let now = std::time::SystemTime::now();
    let valid = selvedge::ca::Validity::starting(now, Duration::from_hours(1));
    certificate(folder.path(), "friend", &authority, FRIEND, valid);
    let pem = |ca: &str| std::fs::read_to_string(format!("{ca}/ca.crt")).expect("no certificate");
    let file = folder.path().join("anchors.pem");
    std::fs::write(&file, pem(&ca) + &pem(&other)).expect("cannot write");
    let app = App::start("the app");
    let section = format!("{}\nanchors = \"{}\"", identity(APP, &other), text_of(&file));
    let proxy = Mesh::new().proxy(format!("app = \"{}\"", app.addr)).section(section).start();
    let mut words: Vec<String> = vec!["--anchors".into(), format!("{other}/ca.crt")];
    for (option, file) in [("--certificate", "friend.crt"), ("--key", "friend.pem")] {
        words.extend([option.into(), text_of(&folder.path().join(file)).to_owned()]);
    }
    assert!(client(&proxy, &words).starts_with("HTTP/1.1 200 OK"));
    std::fs::write(&file, pem(&other)).expect("cannot write");
    eventually("the anchor is gone", PATIENCE, || {
        client(&proxy, &words).starts_with("alert 48").then_some(())
    });
    let failures = "proxy_tls_failures_total{direction=\"inbound\",failure=\"unknown_issuer\"}";
    assert!(proxy.metric(failures) > 0);
    assert!(proxy.log().contains("TLS: certificate is not from a trusted issuer"));
}

/// An opaque client ends without saying so: what the app got may not be all, and it can tell.
#[test]
fn an_end_without_close_notify_is_no_end() {
    if !have(&[Need::Program("python3"), Need::Program("curl")]) {
        return;
    }
    let (folder, ca) = init();
    let listener = TcpListener::bind("127.0.0.1:0").expect("cannot listen");
    let app = listener.local_addr().expect("an address");
    let proxy = Mesh::new()
        .proxy(format!("app = \"{app}\""))
        .section(identity(APP, &ca))
        .section(format!("[[inbound]]\nport = {}\nallow = [\"unauthenticated\"]", app.port()))
        .start();
    let send = |end: &str| {
        let file = text_of(&folder.path().join("ca.crt")).to_owned();
        let words = ["--anchors", &file, "--send", "hello, opaque world\\r\\n", "--end", end];
        let words: Vec<String> = words.iter().map(|&word| word.into()).collect();
        let accepted = listener.try_clone().expect("cannot copy a descriptor");
        let seen = std::thread::spawn(move || {
            let (mut stream, _) = accepted.accept().expect("nobody came");
            stream.set_read_timeout(Some(PATIENCE)).expect("cannot set a timeout");
            let mut text = Vec::new();
            let ended = stream.read_to_end(&mut text).map_err(|error| error.kind());
            (String::from_utf8_lossy(&text).into_owned(), ended.is_ok())
        });
        client(&proxy, &words);
        seen.join().expect("the app failed")
    };
    let truncated = "proxy_tls_truncated_total{direction=\"inbound\"}";
    let (_, ended_well) = send("silent");
    assert!(!ended_well, "a truncation that the app cannot see");
    assert_eq!(proxy.metric(truncated), 1);
    let reason = "proxy_refused_total{direction=\"inbound\",reason=\"tls_truncated\"}";
    assert_eq!(proxy.metric(reason), 1);
    assert!(proxy.log().contains("closed without close_notify"), "{}", proxy.log());
    // The twin: the same with a word at the end.
    let (text, ended_well) = send("early");
    assert_eq!((&*text, ended_well), ("hello, opaque world\r\n", true));
    assert_eq!(proxy.metric(truncated), 1);
}

#[test]
fn a_server_that_speaks_first_is_heard_at_once() {
    if !have(&[Need::Program("python3"), Need::Program("curl")]) {
        return;
    }
    let (_folder, ca) = init();
    let server = Peer::start(script("lines.py").arg("banner"));
    let pair = Pair::start(&ca, server.addr, "");
    let start = std::time::Instant::now();
    let mut stream = TcpStream::connect(pair.forward()).expect("cannot connect");
    stream.set_read_timeout(Some(PATIENCE)).expect("cannot set a timeout");
    let mut greeting = [0; 11];
    stream.read_exact(&mut greeting).expect("no greeting");
    // Detection would wait for 10 s.
    assert!(start.elapsed() < Duration::from_secs(5), "{:?}", start.elapsed());
    assert_eq!(&greeting, b"220 ready\r\n");
    stream.write_all(b"noop\r\n").expect("cannot write");
    let mut answer = [0; 6];
    stream.read_exact(&mut answer).expect("no answer");
    assert_eq!(&answer, b"noop\r\n");
}

/// By HTTP up and down, and through the opaque forward.
#[test]
fn a_gigabyte_arrives_unchanged_and_is_not_held() {
    let needs = [Need::Program("curl"), Need::Program("python3"), Need::Program("openssl")];
    if !have(&needs) {
        return;
    }
    let mebibytes: usize = if full() { 1024 } else { 16 };
    let (folder, ca) = init();
    let file = folder.path().join("blob");
    let line = format!("head -c {} /dev/urandom > {}", mebibytes << 20, text_of(&file));
    run(crate::common::program("sh").args(["-c", &line]), PATIENCE).ok();
    let hash = |path: &std::path::Path| {
        let mut openssl = crate::common::program("openssl");
        let text = run(openssl.args(["dgst", "-sha256", "-r"]).arg(path), 5 * PATIENCE).ok().text();
        text.split_whitespace().next().expect("a hash").to_owned()
    };
    let expected = hash(&file);
    let app = Peer::start(script("hash_app.py").arg(folder.path()));
    let pair = Pair::start(&ca, app.addr, "");
    let before = [pair.outbound.memory("VmRSS"), pair.inbound.memory("VmRSS")];
    let limit = ["--max-time", "600"];
    let down = folder.path().join("down");
    for base in ["http://web.test".to_owned(), format!("http://{}", pair.forward())] {
        let to = if base.contains("web.test") { pair.outbound.outbound() } else { pair.forward() };
        let mut curl = crate::common::curl(to, &limit);
        curl.args(["-o", text_of(&down), &format!("{base}/blob")]);
        run(&mut curl, 10 * PATIENCE).ok();
        assert_eq!(hash(&down), expected, "down {base}");
        let mut curl = crate::common::curl(to, &limit);
        curl.args(["-H", "Expect:", "-X", "POST", "-T", text_of(&file), &format!("{base}/")]);
        assert_eq!(run(&mut curl, 10 * PATIENCE).ok().text(), expected, "up {base}");
    }
    for (proxy, before) in [&pair.outbound, &pair.inbound].into_iter().zip(before) {
        let grown = proxy.memory("VmHWM").saturating_sub(before);
        assert!(grown < 12 << 20, "grew by {grown} bytes");
        tell(&format!("{mebibytes} MiB four times through mTLS: grew by {} KiB", grown >> 10));
    }
}
