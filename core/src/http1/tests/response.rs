use super::*;

const GET: ResponseTo = ResponseTo { is_head: false, is_connect: false };
const HEAD: ResponseTo = ResponseTo { is_head: true, is_connect: false };
const CONNECT: ResponseTo = ResponseTo { is_head: false, is_connect: true };

/// What becomes of bytes that arrive in pieces which end at `cuts`, and then whole.
fn receive(bytes: &[u8], cuts: &[usize]) -> Outcome {
    let mut scanner = HeadScanner::default();
    let mut scratch = Scratch::default();
    let limits = Limits::default();
    for end in cuts.iter().copied().chain([bytes.len()]) {
        let seen = &bytes[..end];
        if let Some((len, response)) =
            receive_response(&mut scanner, seen, &mut scratch, &limits, GET)?
        {
            let described = format!(
                "{} {} {:?} {:?} {} {} {:?} {}",
                response.head.status,
                show(response.head.reason),
                response.framing,
                response.announced,
                response.keep_alive,
                response.upgrade,
                response.grpc_status,
                response.head.fields.len()
            );
            return Ok(Some((len, described)));
        }
    }
    Ok(None)
}

fn every_way(bytes: &[u8]) -> Outcome {
    let whole = receive(bytes, &[]);
    for cut in 1..bytes.len() {
        assert_eq!(receive(bytes, &[cut]), whole, "cut at {cut}: {}", show(bytes));
    }
    let each: Vec<usize> = (1..bytes.len()).collect();
    assert_eq!(receive(bytes, &each), whole, "byte by byte: {}", show(bytes));
    let limits = Limits::default();
    let mut scratch = Scratch::default();
    let two_steps = HeadScanner::default()
        .scan(bytes, HeadKind::Response, &limits)
        .and_then(|len| parse_response(&bytes[..len.unwrap_or(0)], &mut scratch, &limits, GET));
    assert_eq!(two_steps.err(), whole.as_ref().err().copied(), "{}", show(bytes));
    whole
}

#[test]
fn a_response_that_breaks_the_rules_is_refused_however_it_is_cut() {
    for bytes in [
        &b"HTTP/1.1 200 OK\nServer: x\n\n"[..],
        b"HTTP/1.1 200 OK\r\nServer: x\n\r\n",
        b"HTTP/1.1 200 OK\r\nServer: x\r\n\n",
        b"\r\nHTTP/1.1 200 OK\r\n\r\n",
        b" HTTP/1.1 200 OK\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nX: y\r\n z\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nX : y\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nX\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n: y\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nX: \0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nX: y\rz\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nX: \x1b\r\n\r\n",
        b"HTTP/1.1 200 O\0K\r\n\r\n",
        b"HTTP/1.1 200 O\rK\r\n\r\n",
        b"HTTP/1.1 200 \x7f\r\n\r\n",
        b"HTTP/1.1 99 Low\r\n\r\n",
        b"HTTP/1.1 099 Low\r\n\r\n",
        b"HTTP/1.1 2000 High\r\n\r\n",
        b"HTTP/1.1 20 OK\r\n\r\n",
        b"HTTP/1.1 2x0 OK\r\n\r\n",
        b"HTTP/1.1 -20 OK\r\n\r\n",
        b"HTTP/1.1  200 OK\r\n\r\n",
        b"HTTP/1.1\t200 OK\r\n\r\n",
        b"HTTP/1.1 200OK\r\n\r\n",
        b"HTTP/1.1\r\n\r\n",
        b"HTTP/1.1 \r\n\r\n",
        b"HTTP/1.2 200 OK\r\n\r\n",
        b"HTTP/2.0 200 OK\r\n\r\n",
        b"HTTP/0.9 200 OK\r\n\r\n",
        b"http/1.1 200 OK\r\n\r\n",
        b"HTTP 200 OK\r\n\r\n",
        b"ICY 200 OK\r\n\r\n",
        b"<html>\r\n\r\n",
        b"SSH-2.0-x\r\n",
        b"\x15\x03\x01\x00\x02\x02\x46",
        b"HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 5, 6\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked, chunked\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding:\r\n\r\n",
        b"HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
        b"HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n",
    ] {
        assert_eq!(every_way(bytes), Err(Reason::BadResponse), "{}", show(bytes));
    }
    let limits = Limits { header_bytes: 40, header_count: 1, ..Limits::default() };
    for bytes in [
        &b"HTTP/1.1 200 OK\r\nA: b\r\nC: d\r\n\r\n"[..],
        b"HTTP/1.1 200 OK\r\nA: bbbbbbbbbbbbbbbbbbbbbbbbbbbbbb\r\n\r\n",
    ] {
        let mut scratch = Scratch::default();
        let mut scanner = HeadScanner::default();
        let got = receive_response(&mut scanner, bytes, &mut scratch, &limits, GET);
        assert_eq!(got.err(), Some(Reason::BadResponse), "{}", show(bytes));
    }
}

#[test]
fn an_endpoint_that_does_not_speak_http_is_found_out_by_its_first_bytes() {
    for bytes in [&b"S"[..], b"HTTP/2", b"HTTP/1,", b"hTTP", b"\r\n"] {
        assert_eq!(every_way(bytes), Err(Reason::BadResponse), "{}", show(bytes));
    }
    for bytes in [&b"H"[..], b"HTTP/1", b"HTTP/1.", b"HTTP/1.1 200"] {
        assert_eq!(receive(bytes, &[]), Ok(None), "{}", show(bytes));
    }
}

/// Status line, fields, what is asked, framing, announced, keep-alive.
type Case = (&'static str, &'static str, ResponseTo, Framing, Framing, bool);

const FRAMING: &[Case] = &[
    ("1.1 200", "", GET, Framing::UntilClose, Framing::None, false),
    ("1.1 200", "Content-Length: 0", GET, Framing::Length(0), Framing::None, true),
    ("1.1 200", "Content-Length: 5", GET, Framing::Length(5), Framing::None, true),
    ("1.1 200", "Content-Length: 5, 05", GET, Framing::Length(5), Framing::None, true),
    ("1.1 200", "Transfer-Encoding: Chunked", GET, Framing::Chunked, Framing::None, true),
    ("1.0 200", "Content-Length: 5", GET, Framing::Length(5), Framing::None, false),
    (
        "1.0 200",
        "Content-Length: 5\r\nConnection: keep-alive",
        GET,
        Framing::Length(5),
        Framing::None,
        true,
    ),
    ("1.0 200", "Connection: keep-alive", GET, Framing::UntilClose, Framing::None, false),
    (
        "1.1 200",
        "Connection: close\r\nContent-Length: 5",
        GET,
        Framing::Length(5),
        Framing::None,
        false,
    ),
    ("1.1 205", "", GET, Framing::UntilClose, Framing::None, false),
    ("1.1 999", "Content-Length: 1", GET, Framing::Length(1), Framing::None, true),
    ("1.1 200", "", HEAD, Framing::None, Framing::None, true),
    ("1.1 200", "Content-Length: 5", HEAD, Framing::None, Framing::Length(5), true),
    ("1.1 200", "Transfer-Encoding: chunked", HEAD, Framing::None, Framing::Chunked, true),
    ("1.1 304", "", GET, Framing::None, Framing::None, true),
    ("1.1 304", "Content-Length: 5", GET, Framing::None, Framing::Length(5), true),
    ("1.1 304", "Transfer-Encoding: chunked", GET, Framing::None, Framing::Chunked, true),
    ("1.1 204", "", GET, Framing::None, Framing::None, true),
    ("1.1 204", "Content-Length: 0", GET, Framing::None, Framing::None, true),
    // Whether a body follows is anyone's guess.
    ("1.1 204", "Content-Length: 5", GET, Framing::None, Framing::None, false),
    ("1.1 204", "Transfer-Encoding: chunked", GET, Framing::None, Framing::None, false),
    ("1.1 100", "", GET, Framing::None, Framing::None, true),
    ("1.1 103", "Content-Length: 5", GET, Framing::None, Framing::None, true),
    ("1.1 101", "", GET, Framing::None, Framing::None, false),
    ("1.1 101", "Content-Length: 5", HEAD, Framing::None, Framing::None, false),
    ("1.1 200", "", CONNECT, Framing::None, Framing::None, false),
    ("1.1 299", "Content-Length: 5", CONNECT, Framing::None, Framing::None, false),
    (
        "1.1 200",
        "Content-Length: 5\r\nTransfer-Encoding: chunked",
        CONNECT,
        Framing::None,
        Framing::None,
        false,
    ),
    ("1.1 300", "", CONNECT, Framing::UntilClose, Framing::None, false),
    ("1.1 407", "Content-Length: 5", CONNECT, Framing::Length(5), Framing::None, true),
];

#[test]
fn bodies_are_framed_by_status_request_and_fields() {
    for &(line, fields, to, framing, announced, keep_alive) in FRAMING {
        let bytes = format!("HTTP/{line} x\r\nServer: x\r\n{fields}\r\n\r\n");
        let bytes = bytes.replace("\r\n\r\n\r\n", "\r\n\r\n");
        let got = with_response(bytes.as_bytes(), to, |response| {
            (response.framing, response.announced, response.keep_alive)
        });
        assert_eq!(got, Ok((framing, announced, keep_alive)), "{bytes} to {to:?}");
    }
}

#[test]
fn the_reason_is_kept_as_it_is() {
    for (line, reason) in [
        (&b"HTTP/1.1 200 OK"[..], &b"OK"[..]),
        (b"HTTP/1.1 200 ", b""),
        (b"HTTP/1.1 200", b""),
        (b"HTTP/1.0 404 Not  \tFound ", b"Not  \tFound "),
        (b"HTTP/1.1 404 Pas trouv\xe9", b"Pas trouv\xe9"),
    ] {
        for fields in [&b"\r\n\r\n"[..], b"\r\nX: y\r\n\r\n"] {
            let bytes = [line, fields].concat();
            assert!(every_way(&bytes).is_ok_and(|got| got.is_some()));
            let got = with_response(&bytes, GET, |response| Vec::from(response.head.reason));
            assert_eq!(got.as_deref(), Ok(reason), "{}", show(line));
        }
    }
}

#[test]
fn upgrades_and_grpc_statuses_are_noticed() {
    for (fields, upgrade, grpc) in [
        ("", false, None),
        ("Connection: upgrade\r\nUpgrade: websocket", true, None),
        ("Connection: upgrade", false, None),
        ("Upgrade: websocket", false, None),
        ("Connection: upgrade\r\nUpgrade: h2c", false, None),
        ("grpc-status: 14", false, Some(14)),
        ("Grpc-Status: x", false, None),
    ] {
        let bytes = format!("HTTP/1.1 200 OK\r\nServer: x\r\n{fields}\r\n\r\n");
        let bytes = bytes.replace("\r\n\r\n\r\n", "\r\n\r\n");
        let got = with_response(bytes.as_bytes(), GET, |r| (r.upgrade, r.grpc_status));
        assert_eq!(got, Ok((upgrade, grpc)), "{fields}");
    }
}

#[test]
fn fields_that_mean_nothing_in_a_response_do_no_harm() {
    for fields in ["Host: a\r\nHost: b c", "Expect: x", "TE: trailers", "Host: u@a"] {
        let bytes = format!("HTTP/1.1 200 OK\r\n{fields}\r\nContent-Length: 0\r\n\r\n");
        assert!(every_way(bytes.as_bytes()).is_ok_and(|got| got.is_some()), "{fields}");
    }
}
