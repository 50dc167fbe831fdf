//! Messages cut short at every byte by a peer that then says nothing more: whatever waits for the
//! rest must end, and nobody may take the part for the whole.

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::time::Duration;

use crate::common::{App, Canned, Mesh, Need, PATIENCE, Proxy, eventually, have};

const REQUEST: &[u8] =
    b"POST /reflect HTTP/1.1\r\nHost: web.test\r\nTransfer-Encoding: chunked\r\n\r\n\
    5;a=b\r\nhello\r\n10\r\nabcdefghijklmnop\r\n0\r\nchecksum: abc\r\n\r\n";

const RESPONSE: &[u8] = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n\
    5;a=b\r\nhello\r\n10\r\nabcdefghijklmnop\r\n0\r\nchecksum: abc\r\n\r\n";

/// Long enough for a slow machine, short enough to tell from a hang.
const LIMIT: Duration = Duration::from_secs(20);

/// Sends bytes and closes that side. Returns all that comes back until the other side closes.
fn exchange(to: SocketAddr, bytes: &[u8], half_close: bool) -> Vec<u8> {
    let mut stream = TcpStream::connect(to).expect("cannot connect");
    stream.set_read_timeout(Some(LIMIT)).expect("cannot set a timeout");
    stream.write_all(bytes).expect("cannot write");
    if half_close {
        stream.shutdown(Shutdown::Write).expect("cannot shut down");
    }
    let mut answer = Vec::new();
    match stream.read_to_end(&mut answer) {
        Ok(_) => {}
        Err(error) if error.kind() == ErrorKind::ConnectionReset => {}
        Err(error) => panic!("{} hangs: {error}", bytes.escape_ascii()),
    }
    answer
}

#[track_caller]
fn nothing_is_left(proxy: &Proxy) {
    eventually("nothing is left", PATIENCE, || {
        let left = ["proxy_requests_in_flight", "proxy_buffered_bytes"];
        left.iter().all(|name| proxy.metric(name) == 0).then_some(())
    });
}

#[test]
fn a_request_cut_short_ends() {
    if !have(&[Need::Program("curl")]) {
        return;
    }
    let app = App::start("the app");
    let proxy = Mesh::new().service("web.test", &[app.addr]).start();
    for cut in 1..REQUEST.len() {
        let answer = exchange(proxy.outbound(), &REQUEST[..cut], true);
        let text = String::from_utf8_lossy(&answer);
        assert!(!text.contains("200 OK"), "cut at {cut}: {text}");
    }
    // The twin: it is complete, and its client only has no more to ask.
    let answer = exchange(proxy.outbound(), REQUEST, true);
    let text = String::from_utf8_lossy(&answer);
    assert!(text.contains("200 OK"), "{text}");
    assert!(text.contains("body of 21 bytes\ntrailer checksum: abc\n"), "{text}");
    nothing_is_left(&proxy);
}

#[test]
fn a_response_cut_short_ends() {
    if !have(&[Need::Program("curl")]) {
        return;
    }
    let server = Canned::start(|head| {
        let cut = head.split(['/', ' ']).nth(2).and_then(|n| n.parse::<usize>().ok());
        RESPONSE[..cut.expect("a number")].into()
    });
    let proxy = Mesh::new().service("web.test", &[server.addr]).start();
    let ask = |cut: usize| {
        // What is not idempotent is not sent again.
        let head = format!("POST /{cut} HTTP/1.1\r\nHost: web.test\r\nConnection: close\r\n");
        exchange(proxy.outbound(), (head + "Content-Length: 0\r\n\r\n").as_bytes(), false)
    };
    for cut in 0..RESPONSE.len() {
        let answer = ask(cut);
        let text = String::from_utf8_lossy(&answer);
        // The last chunk says that all is there.
        assert!(!text.contains("\r\n0\r\n"), "cut at {cut}: {text}");
    }
    let answer = ask(RESPONSE.len());
    let text = String::from_utf8_lossy(&answer);
    assert!(text.contains("200 OK"), "{text}");
    assert!(text.ends_with("0\r\nchecksum: abc\r\n\r\n"), "{text}");
    nothing_is_left(&proxy);
}
