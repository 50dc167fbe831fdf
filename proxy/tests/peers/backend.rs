//! Servers that break the rules, and servers that only look as if they did.

use std::time::Duration;

use crate::common::{Canned, Mesh, Need, have};

/// What the server sends, by name.
type Answers = [(&'static str, &'static [u8])];

const BROKEN: &Answers = &[
    ("says nothing", b""),
    ("says half a head", b"HTTP/1.1 200 OK\r\nContent-Le"),
    ("speaks another protocol", b"220 mail.test ESMTP\r\n\r\n"),
    ("is binary", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\x00\r\n\r\n"),
    ("has no status", b"HTTP/1.1 OK\r\nContent-Length: 0\r\n\r\n"),
    ("has a status of two digits", b"HTTP/1.1 20 OK\r\nContent-Length: 0\r\n\r\n"),
    ("frames twice", b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nbody\r\n0\r\n\r\n"),
    ("has two lengths", b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\nContent-Length: 5\r\n\r\nbody!"),
    ("has a signed length", b"HTTP/1.1 200 OK\r\nContent-Length: +4\r\n\r\nbody"),
    ("ends lines in LF", b"HTTP/1.1 200 OK\nContent-Length: 4\n\nbody\r\n\r\n"),
    ("has a NUL in a field", b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\nA: b\0c\r\n\r\nbody"),
    ("has a space before the colon", b"HTTP/1.1 200 OK\r\nContent-Length : 4\r\n\r\nbody"),
    ("folds a field", b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\nA: b\r\n c\r\n\r\nbody"),
    ("switches unasked", b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\nhello"),
    ("speaks HTTP/3", b"HTTP/3.0 200 OK\r\nContent-Length: 0\r\n\r\n"),
];

/// Each has a broken twin above.
const ODD: &Answers = &[
    ("has no reason", b"HTTP/1.1 200 \r\nContent-Length: 4\r\n\r\nbody"),
    ("is HTTP/1.0", b"HTTP/1.0 200 OK\r\nContent-Length: 4\r\n\r\nbody"),
    ("ends by closing", b"HTTP/1.1 200 OK\r\n\r\nbody"),
    ("says that it closes", b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 4\r\n\r\nbody"),
    ("frames by chunks", b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2;a=b\r\nbo\r\n2\r\ndy\r\n0\r\nsum: 1\r\n\r\n"),
    ("says its length twice", b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\nContent-Length: 4\r\n\r\nbody"),
    ("has spaces around values", b"HTTP/1.1 200 OK\r\nContent-Length:   4  \r\nA:\r\n\r\nbody"),
    ("has 8-bit values", b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\nA: caf\xe9\tx\r\n\r\nbody"),
    ("has interim answers", b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nbody"),
    ("sends more than it said", b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nbodyHTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil"),
];

/// A server whose answer is chosen by the number in the path.
fn server(answers: &'static Answers) -> Canned {
    Canned::start(|head| {
        let index = head.split(['/', ' ']).nth(2).and_then(|n| n.parse::<usize>().ok());
        answers[index.expect("a number")].1.into()
    })
}

#[test]
fn a_broken_answer_becomes_a_502_with_the_reason() {
    if !have(&[Need::Program("curl")]) {
        return;
    }
    let server = server(BROKEN);
    let proxy = Mesh::new().service("web.test", &[server.addr]).start();
    for (index, (name, _)) in BROKEN.iter().enumerate() {
        let url = format!("http://web.test/{index}");
        // A POST is not sent again, whatever happened to it.
        let text = proxy.curl(&["-i", "-d", "x", &url]).text();
        assert!(text.starts_with("HTTP/1.1 502 "), "{name}: {text}");
        assert!(text.to_lowercase().contains("\r\nl5d-proxy-error: "), "{name}: {text}");
    }
    assert_eq!(server.requests(), BROKEN.len());
}

#[test]
fn an_odd_answer_passes() {
    if !have(&[Need::Program("curl")]) {
        return;
    }
    let server = server(ODD);
    let proxy = Mesh::new().service("web.test", &[server.addr]).start();
    for (index, (name, _)) in ODD.iter().enumerate() {
        let url = format!("http://web.test/{index}");
        assert_eq!(proxy.get(&url), (200, "body".into()), "{name}");
    }
    assert_eq!(server.requests(), ODD.len());
}

#[test]
fn a_body_cut_short_is_seen_to_be() {
    if !have(&[Need::Program("curl")]) {
        return;
    }
    const CUT: &Answers = &[
        ("by length", b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nbody"),
        ("in a chunk", b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n8\r\nbody"),
        ("between chunks", b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nbody\r\n"),
        (
            "by a bad chunk",
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nbody\r\nxyz\r\n",
        ),
    ];
    let server = server(CUT);
    let proxy = Mesh::new().service("web.test", &[server.addr]).start();
    for (index, (name, _)) in CUT.iter().enumerate() {
        let ran = proxy.curl(&[&format!("http://web.test/{index}")]);
        // 18: a partial file; 52: nothing came; 56: receiving failed.
        let code = ran.status.code();
        assert!(matches!(code, Some(18 | 52 | 56)), "{name}: {code:?} {}", ran.stderr);
        assert!("body".starts_with(&ran.text()), "{name}: {}", ran.text());
    }
}

#[test]
fn a_server_that_never_answers_is_given_up() {
    if !have(&[Need::Program("curl")]) {
        return;
    }
    let server = Canned::start(|head| {
        let slow = head.starts_with("GET /never");
        std::thread::sleep(Duration::from_millis(if slow { 5000 } else { 300 }));
        b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nlate".into()
    });
    let proxy = Mesh::new()
        .service("web.test", &[server.addr])
        .timeout("response_headers = \"2s\"")
        .start();
    assert_eq!(proxy.get("http://web.test/soon"), (200, "late".into()));
    let text = proxy.curl(&["-i", "http://web.test/never"]).ok().text();
    assert!(text.starts_with("HTTP/1.1 504 "), "{text}");
    assert!(text.to_lowercase().contains("\r\nl5d-proxy-error: "), "{text}");
}
