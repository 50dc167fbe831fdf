//! Mirrors: Python's own servers, nghttpd and grpcio get copies of what curl and grpcio send.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::process::Command;

use tempfile::NamedTempFile;

use super::super::grpc::call_with;
use crate::common::{Mesh, Need, PATIENCE, Peer, Proxy, eventually, have, run, script};
use crate::mtls::{identity, init};

const NEEDS: [Need; 2] = [Need::Program("curl"), Need::Program("python3")];

/// An app that answers with the hash of what it gets, and a proxy that copies its requests to `next`.
fn start(next: &Peer, protocol: &str) -> (Peer, Proxy, tempfile::TempDir) {
    let folder = tempfile::tempdir().expect("cannot make a temporary folder");
    std::fs::write(folder.path().join("name"), "app").expect("cannot write");
    let app = Peer::start(script("hash_app.py").arg(folder.path()));
    let proxy = Mesh::new()
        .service("web.test", &[app.addr])
        .speaks("http1")
        .service("next.test", &[next.addr])
        .speaks(protocol)
        .route(
            "service = \"web.test\"\nmirror = { service = \"next.test\", timeout = \"5s\" }\n\
             headers.request.set.x-via = \"selvedge\"",
        )
        .start();
    (app, proxy, folder)
}

fn file(size: usize) -> NamedTempFile {
    let mut file = NamedTempFile::new().expect("cannot make a temporary file");
    let bytes: Vec<u8> = (0..size).map(|n| (n * n % 251) as u8).collect();
    file.write_all(&bytes).expect("cannot write");
    file
}

fn sha256(file: &NamedTempFile) -> String {
    let mut command = Command::new("sha256sum");
    run(command.arg(file.path()), PATIENCE).ok().text()[..64].to_owned()
}

/// How often it was decided so about a copy; 0: never.
fn copies(proxy: &Proxy, decision: &str) -> u64 {
    let metrics = proxy.admin("/metrics").expect("no metrics");
    let labels = format!("service=\"next.test:80\",decision=\"{decision}\"}}");
    let line = metrics.lines().find(|line| line.contains(&labels));
    line.map_or(0, |line| line.rsplit_once(' ').map_or(0, |(_, n)| n.parse().unwrap_or(0)))
}

/// Uploads, with a length and in chunks, in both versions.
fn uploads(proxy: &Proxy, file: &NamedTempFile, expected: &str) -> u64 {
    let versions = ["--http1.1", "--http2-prior-knowledge"].into_iter();
    versions.map(|version| upload(proxy, version, file, expected)).sum()
}

/// The same in one of them.
fn upload(proxy: &Proxy, version: &str, file: &NamedTempFile, expected: &str) -> u64 {
    let body = format!("@{}", file.path().display());
    let ways: [&[&str]; 2] = [&[], &["-H", "Transfer-Encoding: chunked"]];
    for way in ways {
        let args = [version, "-i", "-H", "Expect:", "--data-binary", &body, "http://web.test/up?q"];
        let answer = proxy.curl(&[&args[..], way].concat()).ok().text();
        assert!(answer.contains(" 200") && answer.ends_with(expected), "{version}: {answer}");
    }
    2
}

#[test]
fn mirror_gets_the_same_bytes_and_nobody_gets_its_answers() {
    if !have(&NEEDS) {
        return;
    }
    let next = Peer::start(script("record_app.py").arg("500"));
    let (_app, proxy, _folder) = start(&next, "http1");
    let file = file(50_000);
    let hash = sha256(&file);
    let sent = uploads(&proxy, &file, &hash);
    assert_eq!(proxy.curl(&["http://web.test/name"]).ok().text(), "app");
    // The host stays what was asked for.
    let line = format!("POST /up?q web.test {hash}");
    let same = || next.output().lines().filter(|&other| other == line).count() as u64;
    eventually("every copy arrives", PATIENCE, || (same() == sent).then_some(()));
    let gets = || next.output().contains("GET /name web.test ");
    eventually("the copy of the GET arrives", PATIENCE, || gets().then_some(()));
    assert_eq!(copies(&proxy, "mirrored"), sent + 1);
    for decision in ["mirror_behind", "mirror_failed", "mirror_cancelled", "mirror_timeout"] {
        assert_eq!(copies(&proxy, decision), 0, "{decision}");
    }
}

/// All copies share one connection, whose far end is an inbound proxy. There they are HTTP/1 again, if
/// their requests were.
#[test]
fn mirror_gets_its_copies_through_mutual_tls() {
    const CLIENT: &str = "client.ns.cluster.local";
    const NEXT: &str = "next.ns.cluster.local";
    if !have(&NEEDS) {
        return;
    }
    let (_ca, ca) = init();
    let folder = tempfile::tempdir().expect("cannot make a temporary folder");
    let app = Peer::start(script("hash_app.py").arg(folder.path()));
    let next = Peer::start(script("record_app.py").arg("200"));
    let inbound = Mesh::new()
        .proxy(format!("app = \"{}\"", next.addr))
        .section(identity(NEXT, &ca))
        .section(format!("[[inbound]]\nport = {}\nallow = [\"{CLIENT}\"]", next.addr.port()))
        .start();
    let endpoint = format!("{{ addr = \"{}\", identity = \"{NEXT}\" }}", inbound.inbound());
    let proxy = Mesh::new()
        .service("web.test", &[app.addr])
        .speaks("http1")
        .section(identity(CLIENT, &ca))
        .section(format!("[[service]]\nauthority = \"next.test\"\nendpoints = [{endpoint}]"))
        .route("service = \"web.test\"\nmirror = { service = \"next.test\", timeout = \"20s\" }")
        .start();
    let small = file(50_000);
    let hash = sha256(&small);
    let sent = upload(&proxy, "--http1.1", &small, &hash);
    let line = format!("POST /up?q web.test {hash}");
    let same = || next.output().lines().filter(|&other| other == line).count() as u64;
    eventually("every copy arrives", PATIENCE, || (same() == sent).then_some(()));
    assert_eq!(copies(&proxy, "mirrored"), sent);
    assert_eq!(copies(&proxy, "mirror_failed") + copies(&proxy, "mirror_behind"), 0);
    assert_eq!(inbound.metric("proxy_tls_handshakes_total{direction=\"inbound\"}"), 1);
    // The far app stops: nobody waits, and what it has of a copy does not look complete.
    next.signal("STOP");
    begin_before_the_rest(&proxy, &inbound, 20_000_000);
    let large = file(20_000_000);
    let hash = sha256(&large);
    let behind = 1 + upload(&proxy, "--http1.1", &large, &hash);
    assert_eq!(copies(&proxy, "mirror_behind"), behind);
    next.signal("CONT");
    let is_cut = || next.output().contains("cut");
    eventually("it learns that it is cut", PATIENCE, || is_cut().then_some(()));
    assert_eq!(next.output().lines().filter(|line| line.starts_with("POST ")).count() as u64, sent);
}

/// A request whose copy has come to the far proxy before most of its body is sent: else the copy may be
/// over before anything of it is.
fn begin_before_the_rest(proxy: &Proxy, far: &Proxy, length: usize) {
    let requests = || -> u64 {
        let metrics = far.admin("/metrics").expect("no metrics");
        let lines = metrics.lines().filter(|line| line.starts_with("request_total{"));
        lines.filter_map(|line| line.rsplit(' ').next()?.parse::<u64>().ok()).sum()
    };
    let before = requests();
    let mut client = TcpStream::connect(proxy.outbound()).expect("cannot connect");
    client.set_read_timeout(Some(PATIENCE)).expect("an option");
    let head = format!("POST /up HTTP/1.1\r\nHost: web.test\r\nContent-Length: {length}\r\n\r\n");
    let body = vec![b'x'; length];
    let (first, rest) = body.split_at(1000);
    client.write_all(&[head.as_bytes(), first].concat()).expect("it reads");
    eventually("its copy begins", PATIENCE, || (requests() > before).then_some(()));
    client.write_all(rest).expect("it reads");
    let mut status = [0; 12];
    client.read_exact(&mut status).expect("an answer");
    assert_eq!(&status, b"HTTP/1.1 200");
}

#[test]
fn mirror_that_stops_or_dies_is_reset_and_nobody_waits_for_it() {
    if !have(&NEEDS) {
        return;
    }
    let next = Peer::start(script("record_app.py").arg("200"));
    let (_app, proxy, _folder) = start(&next, "http1");
    let large = file(20_000_000);
    let hash = sha256(&large);
    next.signal("STOP");
    let sent = uploads(&proxy, &large, &hash);
    assert_eq!(copies(&proxy, "mirror_behind"), sent);
    next.signal("CONT");
    // What it got does not look complete. (A reset may overtake it.)
    let is_cut = || next.output().contains("cut");
    eventually("it learns that it is cut", PATIENCE, || is_cut().then_some(()));
    assert!(!next.output().contains(&hash));
    next.kill();
    for _ in 0..3 {
        assert_eq!(proxy.curl(&["http://web.test/name"]).ok().text(), "app");
    }
    assert!(copies(&proxy, "mirror_unready") >= 2);
}

#[test]
fn mirror_speaks_what_its_service_speaks() {
    if !have(&[NEEDS[0], NEEDS[1], Need::Program("nghttpd")]) {
        return;
    }
    let files = tempfile::tempdir().expect("cannot make a temporary folder");
    let next = Peer::nghttpd(files.path(), &[]);
    let (_app, proxy, _folder) = start(&next, "h2");
    let file = file(50_000);
    let sent = uploads(&proxy, &file, &sha256(&file));
    // It sends them back, and they are dropped.
    eventually("every copy is answered", PATIENCE, || {
        let metrics = proxy.admin("/metrics")?;
        let labels = "service=\"next.test:80\"";
        let answered = |line: &&str| {
            line.starts_with("response_total{") && line.contains(labels) && line.contains("2xx")
        };
        let line = metrics.lines().find(answered)?;
        line.ends_with(&format!(" {sent}")).then_some(())
    });
    assert_eq!(copies(&proxy, "mirror_failed"), 0);
}

#[test]
fn mirror_gets_every_kind_of_grpc_call_and_learns_of_a_cancel() {
    if !have(&[NEEDS[1], Need::Python("grpc")]) {
        return;
    }
    let [server, next] = [(); 2].map(|()| Peer::start(&mut script("grpc_server.py")));
    let proxy = Mesh::new()
        .service("grpc.test", &[server.addr])
        .service("next.test", &[next.addr])
        .route("service = \"grpc.test\"\nmirror = { service = \"next.test\" }")
        .start();
    call_with(&proxy, &server, &[]);
    // What the mirror knew of its two slow calls when nobody waited for them any more: one had no time
    // left, as it had been told; the other had, and can only have been reset.
    for why in ["deadline", "cancel"] {
        eventually("the mirror saw why nobody waits", PATIENCE, || {
            (next.output().matches(&format!("slow ended: {why}")).count() == 1).then_some(())
        });
    }
    let mirrored = copies(&proxy, "mirrored");
    assert!(mirrored >= 400, "{mirrored}");
    // The cancel is counted as one. The deadline is ours to count, as a timeout or a client that is gone,
    // only if the mirror does not keep it a moment sooner; and 4 MiB in one message may be more than it
    // takes at once.
    let cancelled = || copies(&proxy, "mirror_cancelled");
    eventually("the cancel is counted", PATIENCE, || (cancelled() >= 1).then_some(()));
    assert!(cancelled() + copies(&proxy, "mirror_timeout") <= 2);
    assert_eq!(copies(&proxy, "mirror_failed"), 0);
    assert_eq!(super::super::http2::violations(&proxy), 0);
}
