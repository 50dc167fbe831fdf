//! Opaque TCP: ncat on one side, Python's socketserver on the other.

use std::fs::File;
use std::io::{Read as _, Seek as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::process::Command;
use std::time::{Duration, Instant};

use crate::common::{
    Mesh, Need, PATIENCE, Peer, Proxy, eventually, free_port, have, program, run, script,
};

const NEEDS: [Need; 2] = [Need::Program("ncat"), Need::Program("python3")];

fn ncat(to: SocketAddr) -> Command {
    let mut command = program("ncat");
    command.arg(to.ip().to_string()).arg(to.port().to_string());
    command
}

fn file_of(text: &[u8]) -> File {
    let mut file = tempfile::tempfile().expect("cannot make a temporary file");
    file.write_all(text).expect("cannot write");
    file.rewind().expect("cannot rewind");
    file
}

fn upper() -> (Peer, Proxy) {
    let server = Peer::start(script("lines.py").arg("upper"));
    let proxy = Mesh::new().forward(&[server.addr]).start();
    (server, proxy)
}

#[test]
fn a_line_mode_session_ends_by_half_closing() {
    if !have(&NEEDS) {
        return;
    }
    let (_server, proxy) = upper();
    // ncat closes its side at the end of its input and waits for that of the server, which says
    // its last line only then.
    let input = file_of(b"hello\nworld\n");
    let ran = run(ncat(proxy.forward(0)).stdin(input), PATIENCE).ok();
    assert_eq!(ran.text(), "HELLO\nWORLD\n2 lines\n");
    // Nothing at all is a session too.
    let ran = run(ncat(proxy.forward(0)).stdin(file_of(b"")), PATIENCE).ok();
    assert_eq!(ran.text(), "0 lines\n");
}

#[test]
fn a_mebibyte_both_ways() {
    if !have(&NEEDS) {
        return;
    }
    let (_server, proxy) = upper();
    let line = [&[b'a'; 1023][..], b"\n"].concat();
    let ran = run(ncat(proxy.forward(0)).stdin(file_of(&line.repeat(1024))), PATIENCE);
    let mut expected = line.to_ascii_uppercase().repeat(1024);
    expected.extend_from_slice(b"1024 lines\n");
    assert!(ran.ok().stdout == expected);
}

#[test]
fn a_client_that_does_not_read_holds_nothing_up() {
    if !have(&NEEDS) {
        return;
    }
    let (_server, proxy) = upper();
    // It sends for as long as anybody takes it, and reads nothing.
    let mut deaf = TcpStream::connect(proxy.forward(0)).expect("cannot connect");
    let pause = Some(Duration::from_millis(500));
    deaf.set_write_timeout(pause).expect("cannot set a timeout");
    let line = [&[b'a'; 1023][..], b"\n"].concat().repeat(64);
    let mut sent = 0;
    while let Ok(n) = deaf.write(&line) {
        sent += n;
        assert!(sent < 1 << 30, "somebody buffers without end");
    }
    let peak = proxy.memory("VmHWM");
    assert!(peak < 30_000_000, "{peak} bytes resident, {sent} sent");
    // Meanwhile others are served.
    let ran = run(ncat(proxy.forward(0)).stdin(file_of(b"hello\n")), PATIENCE).ok();
    assert_eq!(ran.text(), "HELLO\n1 lines\n");
    // Nothing is lost when it reads after all.
    deaf.shutdown(std::net::Shutdown::Write).expect("cannot shut down");
    deaf.set_read_timeout(Some(PATIENCE)).expect("cannot set a timeout");
    let mut answer = Vec::new();
    deaf.read_to_end(&mut answer).expect("cannot read");
    let mut lines = sent / 1024;
    let mut expected = sent;
    if sent % 1024 != 0 {
        // The last line lacks its end.
        lines += 1;
    }
    expected += format!("{lines} lines\n").len();
    assert_eq!(answer.len(), expected);
}

/// The time until a server that speaks first was heard.
pub(crate) fn time_to_banner(command: &mut Command) -> Duration {
    let start = Instant::now();
    // One line, and the session ends.
    command.stdin(file_of(b""));
    let ran = run(command, PATIENCE).ok();
    assert!(ran.text().starts_with("220 ready\r\n"), "{}", ran.text());
    start.elapsed()
}

#[test]
fn a_server_that_speaks_first_is_heard_at_once() {
    if !have(&NEEDS) {
        return;
    }
    let server = Peer::start(script("lines.py").arg("banner"));
    let proxy = Mesh::new().forward(&[server.addr]).start();
    // The client says nothing before it was greeted.
    let start = Instant::now();
    let mut client = TcpStream::connect(proxy.forward(0)).expect("cannot connect");
    client.set_read_timeout(Some(PATIENCE)).expect("cannot set a timeout");
    let mut greeting = [0; 11];
    client.read_exact(&mut greeting).expect("no greeting");
    let elapsed = start.elapsed();
    assert_eq!(&greeting, b"220 ready\r\n");
    assert!(elapsed < Duration::from_secs(1), "{elapsed:?}");
    client.write_all(b"noop\r\n").expect("cannot write");
    let mut answer = [0; 6];
    client.read_exact(&mut answer).expect("no answer");
    assert_eq!(&answer, b"noop\r\n");
    // And so is it by a real client.
    let elapsed = time_to_banner(&mut ncat(proxy.forward(0)));
    assert!(elapsed < Duration::from_secs(5), "{elapsed:?}");
}

#[test]
fn a_forward_to_nobody_closes_and_comes_back() {
    if !have(&NEEDS) {
        return;
    }
    let port = free_port();
    let addr = SocketAddr::from(([127, 0, 0, 1], port));
    let proxy = Mesh::new()
        .forward(&[addr])
        .timeout("failfast = \"200ms\"")
        .timeout("backoff_max = \"300ms\"")
        .start();
    // It ends, whether ncat calls that an error or not, and brings nothing.
    let ran = run(ncat(proxy.forward(0)).stdin(file_of(b"hello\n")), PATIENCE);
    assert_eq!(ran.text(), "");
    let mut command = script("lines.py");
    let _server = Peer::start(command.args(["upper", "127.0.0.1", &port.to_string()]));
    eventually("it serves", Duration::from_secs(20), || {
        let ran = run(ncat(proxy.forward(0)).stdin(file_of(b"hello\n")), PATIENCE);
        (ran.text() == "HELLO\n1 lines\n").then_some(())
    });
}

#[test]
fn what_is_not_http_and_has_nowhere_to_go_is_closed() {
    if !have(&[Need::Program("ncat"), Need::Program("curl")]) {
        return;
    }
    let app = crate::common::App::start("the app");
    let proxy = Mesh::new().service("web.test", &[app.addr]).start();
    for bytes in
        [&b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"[..], b"SSH-2.0-x\r\n", b"\0\0\0\x01"]
    {
        let ran = run(ncat(proxy.outbound()).stdin(file_of(bytes)), PATIENCE);
        assert_eq!(ran.text(), "", "{bytes:?}");
    }
    let metrics = proxy.admin("/metrics").expect("no metrics");
    assert!(metrics.contains("opaque_nowhere"), "{metrics}");
    assert_eq!(proxy.get("http://web.test/name"), (200, "the app".into()));
}
