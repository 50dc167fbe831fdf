//! TLS through the proxy, which sees no more than its ClientHello: curl, openssl and grpcio on one
//! side, openssl, HAProxy, Python's ssl and grpcio on the other.

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::path::Path;
use std::time::Duration;

use tempfile::TempDir;

use crate::common::{
    App, Mesh, Need, PATIENCE, Peer, Proxy, Ran, eventually, free_port, full, have, program, run,
    script,
};
use crate::grpc;

const NEEDS: [Need; 3] =
    [Need::Program("openssl"), Need::Program("curl"), Need::Program("python3")];

/// A certificate for the names below that trusts itself, and its key, in one file.
pub(crate) struct Certificate {
    _folder: TempDir,
    path: String,
}

impl Certificate {
    pub(crate) fn new() -> Self {
        let folder = tempfile::tempdir().expect("cannot make a temporary folder");
        let file = |name: &str| folder.path().join(name).display().to_string();
        let (key, cert) = (file("key"), file("cert"));
        let curve = "ec_paramgen_curve:P-256";
        let names = "subjectAltName=DNS:web.test,DNS:grpc.test,DNS:unknown.test";
        let words = [
            "req", "-x509", "-newkey", "ec", "-pkeyopt", curve, "-nodes", "-days", "2", "-subj",
            "/CN=test", "-addext", names, "-keyout", &key, "-out", &cert,
        ];
        run(program("openssl").args(words), PATIENCE).ok();
        let both = [cert, key].map(|path| fs::read_to_string(path).expect("a file")).concat();
        let path = file("pem");
        fs::write(&path, both).expect("cannot write");
        Certificate { _folder: folder, path }
    }

    pub(crate) fn path(&self) -> &str {
        &self.path
    }
}

/// How many ClientHellos of the outbound side had this outcome.
pub(crate) fn passed(decision: &str) -> String {
    format!("proxy_tls_client_hellos_total{{direction=\"outbound\",decision=\"{decision}\"}}")
}

/// openssl's client at the outbound listener. It says `Q`, which ends it.
#[track_caller]
fn s_client(proxy: &Proxy, pem: &Certificate, words: &[&str]) -> Ran {
    let connect = proxy.outbound().to_string();
    let mut command = program("openssl");
    command.args(["s_client", "-connect", &connect, "-verify_return_error", "-CAfile", pem.path()]);
    run(command.args(words), PATIENCE)
}

#[test]
fn a_service_is_reached_by_its_server_name() {
    if !have(&NEEDS) || !have(&[Need::Program("haproxy")]) {
        return;
    }
    let pem = Certificate::new();
    let app = Peer::haproxy_on("secret", free_port(), &format!("ssl crt {}", pem.path()));
    let cleartext = App::start("never reached");
    let proxy = Mesh::new()
        .service("web.test:443", &[app.addr])
        .service("web.test:80", &[cleartext.addr])
        .start();
    for version in ["--tlsv1.3", "--tls-max=1.2"] {
        let version: Vec<&str> = version.split('=').collect();
        let args = [&version[..], &["--cacert", pem.path(), "https://web.test/"]].concat();
        assert_eq!(proxy.curl(&args).ok().text(), "secret");
    }
    let ran = s_client(&proxy, &pem, &["-servername", "WEB.test", "-brief"]).ok();
    assert!(ran.stderr.contains("Verification: OK"), "{}", ran.stderr);
    assert_eq!(proxy.metric(&passed("passthrough")), 3);
    // Beside it, what is no TLS goes by its Host.
    assert_eq!(proxy.get("http://web.test/name"), (200, "never reached".into()));
}

#[test]
fn an_unknown_name_is_closed_and_said() {
    if !have(&NEEDS) {
        return;
    }
    let pem = Certificate::new();
    let app = Peer::openssl(pem.path(), &["-www"]);
    let proxy = Mesh::new().service("web.test:443", &[app.addr]).start();
    let ran = proxy.curl(&["--insecure", "https://unknown.test/"]);
    assert!(!ran.status.success());
    assert_eq!(proxy.metric(&passed("close_unknown")), 1);
    let log = proxy.log();
    assert!(log.contains("no service has this TLS server name"), "{log}");
    assert!(log.contains("server_name=unknown.test"), "{log}");
    // Nobody at all is meant, and there is nowhere to go.
    assert!(!s_client(&proxy, &pem, &["-noservername"]).status.success());
    assert_eq!(proxy.metric(&passed("passthrough_nameless")), 1);
    let refused = "proxy_refused_total{direction=\"outbound\",reason=\"opaque_nowhere\"}";
    assert_eq!(proxy.metric(refused), 1);
    // The honest one beside them.
    let text = proxy.curl(&["--cacert", pem.path(), "https://web.test/"]).ok().text();
    assert!(text.contains("s_server"), "{text}");
}

#[test]
fn large_and_split_hellos_pass() {
    if !have(&NEEDS) {
        return;
    }
    let pem = Certificate::new();
    let app = Peer::openssl(pem.path(), &["-www"]);
    let proxy = Mesh::new().service("web.test:443", &[app.addr]).start();
    let names: Vec<String> = (0..1_200).map(|n| format!("protocol-{n:04}")).collect();
    let alpn = names.join(",");
    // Over 16 KiB in two records; in 34 of them.
    for fragment in ["16384", "512"] {
        let words =
            ["-servername", "web.test", "-alpn", &alpn, "-max_send_frag", fragment, "-brief"];
        let ran = s_client(&proxy, &pem, &words).ok();
        assert!(ran.stderr.contains("Verification: OK"), "{}", ran.stderr);
    }
    // A hello that a program has sent, in pieces that come one by one. A server answers it with a
    // handshake record, or with an alert because its name is not known there.
    let hellos = Path::new(env!("CARGO_MANIFEST_DIR")).join("../proptests/tables/hellos");
    let proxy = Mesh::new().service("web.example", &[app.addr]).start();
    for (file, size) in [("chromium.bin", 400), ("firefox.bin", 700), ("openssl.bin", 40)] {
        let hello = fs::read(hellos.join(file)).expect("a hello");
        let mut client = TcpStream::connect(proxy.outbound()).expect("cannot connect");
        client.set_nodelay(true).expect("cannot set an option");
        client.set_read_timeout(Some(PATIENCE)).expect("cannot set a timeout");
        for piece in hello.chunks(size) {
            client.write_all(piece).expect("cannot write");
            std::thread::sleep(Duration::from_millis(10));
        }
        let mut answer = [0; 6];
        client.read_exact(&mut answer).expect("no answer");
        assert!(answer.starts_with(&[22, 3, 3]) && answer[5] == 2, "{file}: {answer:?}");
    }
    assert_eq!(proxy.metric(&passed("passthrough")), 3);
}

#[test]
fn garbage_that_looks_like_tls_arrives_as_it_was_sent() {
    if !have(&[Need::Program("ncat"), Need::Program("curl")]) {
        return;
    }
    let server = Peer::echo();
    let proxy = Mesh::new()
        .proxy(format!("app = \"{}\"", server.addr))
        .timeout("detect_prefix = \"200ms\"")
        .start();
    let complete = b"\x16\x03\x01\x00\x90\x01\xff\xff\xff and a message of 16 MB is none";
    let waits = b"\x16\x03\x01\x00\x90\x01\x00\x00\x8c\x03\x03 that is all";
    let changes = b"\x16\x03\x01\x00\x05\x01\x00\x00\x40\x03GET / HTTP/1.1\r\n\r\n";
    let binary: Vec<u8> = b"\x16\x03\x03\x00\x01\x01".iter().copied().chain(0..=255).collect();
    for input in [&complete[..], waits, changes, &binary] {
        let mut client = TcpStream::connect(proxy.inbound()).expect("cannot connect");
        client.set_read_timeout(Some(PATIENCE)).expect("cannot set a timeout");
        client.write_all(input).expect("cannot write");
        let mut answer = vec![0; input.len()];
        client.read_exact(&mut answer).expect("no answer");
        assert_eq!(answer, input);
        client.shutdown(std::net::Shutdown::Write).expect("cannot shut down");
        assert_eq!(client.read(&mut answer).expect("no end"), 0);
    }
    for (reason, count) in [("too_large", 1), ("incomplete", 1), ("record_type", 2)] {
        let name = "proxy_tls_malformed_hellos_total";
        let series = format!("{name}{{direction=\"inbound\",reason=\"{reason}\"}}");
        assert_eq!(proxy.metric(&series), count, "{reason}");
    }
}

#[test]
fn a_large_upload_has_the_same_hash() {
    if !have(&NEEDS) || !have(&[Need::Program("sha256sum")]) {
        return;
    }
    let bytes: u64 = if full() { 10 << 30 } else { 16 << 20 };
    let limit = Duration::from_secs(if full() { 900 } else { 60 });
    let pem = Certificate::new();
    let folder = tempfile::tempdir().expect("cannot make a temporary folder");
    let path = folder.path().join("big").display().to_string();
    // The beginning differs everywhere; the rest, if there is one, takes no room on the disk.
    let make = format!("head -c {} /dev/urandom > {path} && truncate -s {bytes} {path}", 16 << 20);
    run(program("sh").args(["-c", &make]), PATIENCE).ok();
    let expected = run(program("sha256sum").arg(&path), limit).ok().text();
    let expected = expected.split(' ').next().unwrap_or_default();
    let mut server = script("hash_app.py");
    let server = Peer::start(server.arg(folder.path()).arg(pem.path()));
    let proxy = Mesh::new().service("web.test:443", &[server.addr]).start();
    let mut command = program("curl");
    let connect = format!("::{}", proxy.outbound());
    let seconds = limit.as_secs().to_string();
    command.args(["-sS", "--max-time", &seconds, "--connect-to", &connect, "--cacert", pem.path()]);
    command.args(["-X", "POST", "-H", "Expect:", "--upload-file", &path, "https://web.test/"]);
    assert_eq!(run(&mut command, limit).ok().text(), expected);
    // And the other way.
    let get = format!(
        "curl -sS --max-time {seconds} --connect-to {connect} --cacert {} https://web.test/big | sha256sum",
        pem.path()
    );
    let text = run(program("sh").args(["-c", &get]), limit).ok().text();
    assert_eq!(text.split(' ').next(), Some(expected));
    let peak = proxy.memory("VmHWM");
    assert!(peak < 30_000_000, "{peak} bytes resident");
    // What was counted is what went through, and a little for the records.
    let read = "tcp_read_bytes_total{direction=\"outbound\",peer=\"src\"}";
    eventually("it is counted", PATIENCE, || (proxy.metric(read) > bytes).then_some(()));
}

#[test]
fn grpc_with_tls_passes() {
    if !have(&NEEDS) || !have(&[Need::Python("grpc")]) {
        return;
    }
    let pem = Certificate::new();
    let server = Peer::start(script("grpc_server.py").arg(pem.path()));
    let proxy = Mesh::new().service("grpc.test:443", &[server.addr]).start();
    grpc::call_with(&proxy, &server, &[pem.path()]);
    assert!(proxy.metric(&passed("passthrough")) >= 1);
}
