use super::*;
use crate::http1::ConnectionOption::{Close, KeepAlive, Nothing, Upgrade};

/// What arrives, and what goes on by default rules.
const REQUESTS: &[(&str, &str, &str)] = &[
    ("untouched", "GET / HTTP/1.1\r\nHost: a\r\n\r\n", "GET / HTTP/1.1\r\nHost: a\r\n\r\n"),
    (
        "empty lines before it",
        "\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\nX: y\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\nX: y\r\n\r\n",
    ),
    ("1.0 without Host", "GET /x HTTP/1.0\r\n\r\n", "GET /x HTTP/1.1\r\nHost: fallback:1\r\n\r\n"),
    (
        "1.0 without Host, with fields",
        "\r\nGET /x HTTP/1.0\r\nX: y\r\n\r\n",
        "GET /x HTTP/1.1\r\nHost: fallback:1\r\nX: y\r\n\r\n",
    ),
    (
        "1.0 with Host",
        "GET /x HTTP/1.0\r\nX: y\r\nhOsT: a\r\n\r\n",
        "GET /x HTTP/1.1\r\nX: y\r\nhOsT: a\r\n\r\n",
    ),
    ("empty Host", "GET / HTTP/1.1\r\nHost:\r\n\r\n", "GET / HTTP/1.1\r\nHost: \r\n\r\n"),
    (
        "absolute-form",
        "GET http://A.example:80/x?y HTTP/1.1\r\nX: y\r\nHOST: b.example\r\n\r\n",
        "GET /x?y HTTP/1.1\r\nX: y\r\nHOST: A.example:80\r\n\r\n",
    ),
    (
        "absolute-form without path",
        "GET http://a HTTP/1.1\r\nHost: b\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\n\r\n",
    ),
    (
        "absolute-form with a query only",
        "GET http://a?x HTTP/1.1\r\nHost: b\r\n\r\n",
        "GET /?x HTTP/1.1\r\nHost: a\r\n\r\n",
    ),
    (
        "absolute-form, 1.0 without Host",
        "GET http://a/x HTTP/1.0\r\n\r\n",
        "GET /x HTTP/1.1\r\nHost: a\r\n\r\n",
    ),
    (
        "absolute-form of OPTIONS *",
        "OPTIONS http://a HTTP/1.1\r\nHost: b\r\n\r\n",
        "OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n",
    ),
    (
        "CONNECT",
        "CONNECT a:443 HTTP/1.1\r\nHost: b:443\r\nContent-Length: 0\r\n\r\n",
        "CONNECT a:443 HTTP/1.1\r\nHost: a:443\r\n\r\n",
    ),
    (
        "whitespace is tidied",
        "GET / HTTP/1.1\r\nHost:a\r\nX:\t y \t\r\nA: b\r\nE:\r\nE2: \r\nC:  d\r\n\
         D:\te\r\nF: g \r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\nX: y\r\nA: b\r\nE: \r\nE2: \r\nC: d\r\nD: e\r\nF: g\r\n\r\n",
    ),
    (
        "hop-by-hop fields",
        "GET / HTTP/1.1\r\nA: 1\r\nConnection: keep-alive\r\nHost: a\r\nKeep-Alive: 5\r\n\
         Proxy-Connection: close\r\nB: 2\r\nUpgrade: x\r\nHTTP2-Settings: AA\r\nTE: gzip\r\n\
         Proxy-Authorization: kept\r\nProxy-Authenticate: kept\r\n\r\n",
        "GET / HTTP/1.1\r\nA: 1\r\nHost: a\r\nB: 2\r\nProxy-Authorization: kept\r\n\
         Proxy-Authenticate: kept\r\n\r\n",
    ),
    (
        "nominated fields",
        "GET / HTTP/1.1\r\nx-ONE: 1\r\nHost: a\r\nConnection: close, X-One\r\nCookie: c\r\n\
         X-Two: 2\r\nX-One: again\r\nConnection: x-two,,Host , absent\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\nCookie: c\r\n\r\n",
    ),
    (
        "nominated framing stays",
        "POST / HTTP/1.1\r\nHost: a\r\nConnection: content-length, expect\r\n\
         Content-Length: 5\r\nExpect: 100-continue\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\n",
    ),
    (
        "a nominated coding stays",
        "POST / HTTP/1.1\r\nHost: a\r\nConnection: Transfer-Encoding\r\n\
         Transfer-Encoding: chunked\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n",
    ),
    (
        "one length",
        "POST / HTTP/1.1\r\nHost: a\r\ncontent-length: 005, 5\r\nX: y\r\nContent-Length: 5\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: a\r\ncontent-length: 5\r\nX: y\r\n\r\n",
    ),
    (
        "a length that is already right, twice",
        "POST / HTTP/1.1\r\nHost: a\r\ncontent-length: 5\r\nX: y\r\nContent-Length: 5\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: a\r\ncontent-length: 5\r\nX: y\r\n\r\n",
    ),
    (
        "a length of 0",
        "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 00\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n",
    ),
    (
        "chunked",
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-ENCODING:  CHUNKED\r\nX: y\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-ENCODING: chunked\r\nX: y\r\n\r\n",
    ),
    (
        "Expect of a 1.0 client",
        "POST / HTTP/1.0\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 1\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n\r\n",
    ),
    (
        "TE: trailers",
        "GET / HTTP/1.1\r\nHost: a\r\nte: gzip, trailers\r\nTE: trailers\r\nConnection: TE\r\n\
         X: y\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\nte: trailers\r\nX: y\r\nConnection: TE\r\n\r\n",
    ),
    (
        "WebSocket",
        "GET / HTTP/1.1\r\nHost: a\r\nConnection: keep-alive, Upgrade\r\nupgrade: websocket\r\n\
         Sec-WebSocket-Key: k\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\nupgrade: websocket\r\nSec-WebSocket-Key: k\r\n\
         Connection: upgrade\r\n\r\n",
    ),
    (
        "h2c among others, and trailers",
        "GET / HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: h2c\r\n\
         Upgrade: a/1, H2C ,b\r\nTE: trailers\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\nUpgrade: a/1, b\r\nTE: trailers\r\n\
         Connection: upgrade, TE\r\n\r\n",
    ),
    (
        "h2c alone",
        "POST / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\n\
         HTTP2-Settings: AAMAAABkAAQCAAAAAAIAAAAA\r\nContent-Length: 3\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\n",
    ),
];

#[test]
fn requests_go_on_as_they_should() {
    for &(what, received, expected) in REQUESTS {
        assert_eq!(with_request(received.as_bytes(), forwarded), expected, "{what}");
    }
}

#[test]
fn what_goes_on_is_understood_alike_and_goes_on_unchanged() {
    for &(what, received, _) in REQUESTS {
        let once = with_request(received.as_bytes(), forwarded);
        let again = with_request(once.as_bytes(), forwarded);
        assert_eq!(again, once, "{what}");
        let meaning = |bytes: &[u8]| {
            with_request(bytes, |request| {
                let kept: Vec<_> = request
                    .head
                    .fields
                    .iter()
                    .filter(|field| !field.hop_by_hop && field.known == crate::http::Known::Other)
                    .map(|field| (show(field.name), show(field.value)))
                    .collect();
                let path = if request.path.starts_with(b"?") {
                    format!("/{}", show(request.path))
                } else {
                    show(request.path)
                };
                (show(request.head.method), path, request.framing, request.upgrade, kept)
            })
        };
        assert_eq!(meaning(once.as_bytes()), meaning(received.as_bytes()), "{what}");
    }
}

#[test]
fn random_requests_go_on_unchanged_the_second_time() {
    let pieces = [
        "Host: a\r\n",
        "X:y\r\n",
        "X: y\r\n",
        "x-hop: \t1 \r\n",
        "Connection: x-hop, keep-alive\r\n",
        "Connection: upgrade\r\n",
        "Upgrade: a, h2c, b\r\n",
        "Expect: 100-continue\r\n",
        "TE: trailers\r\n",
        "Content-Length: 7\r\n",
        "Content-Length: 07\r\n",
        "Cookie: \u{fc}\r\n",
        "Keep-Alive: 5\r\n",
        "Trailer: X\r\n",
        "E:\r\n",
    ];
    let lines = [
        "GET / HTTP/1.1\r\n",
        "POST http://b/x HTTP/1.1\r\n",
        "\r\nGET /y HTTP/1.0\r\n",
        "OPTIONS http://b HTTP/1.1\r\n",
    ];
    let mut dice = Dice(4);
    for _ in 0..5_000 {
        let mut bytes = String::from(lines[dice.roll(lines.len())]);
        let host = dice.roll(4);
        for n in 0..4 + dice.roll(6) {
            bytes.push_str(pieces[if n == host { 0 } else { 1 + dice.roll(pieces.len() - 1) }]);
        }
        bytes.push_str("\r\n");
        let once = with_request(bytes.as_bytes(), forwarded);
        let again = with_request(once.as_bytes(), forwarded);
        assert_eq!(again, once, "{bytes}");
        assert!(!bytes.contains("Connection: x-hop") || !once.contains("x-hop"), "{once}");
        assert!(!once.contains("h2c"), "{once}");
        assert_eq!(once.matches("Host: ").count(), 1, "{once}");
        assert!(once.matches("Content-Length: 7\r\n").count() <= 1, "{once}");
    }
}

#[test]
fn an_absolute_target_stays_absolute_on_demand() {
    let bytes = b"GET http://a?x HTTP/1.1\r\nHost: b\r\n\r\n";
    with_request(bytes, |request| {
        let mut out = BytesMut::new();
        let rewrite = RequestRewrite { host: b"a", absolute: true, upgrade: false };
        encode_request(&mut out, request, &rewrite);
        assert_eq!(show(&out), r"GET http://a?x HTTP/1.1\r\nHost: a\r\n\r\n");
    });
}

#[test]
fn an_upgrade_is_passed_on_only_on_demand() {
    let bytes = b"GET / HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n";
    with_request(bytes, |request| {
        let mut out = BytesMut::new();
        let rewrite = RequestRewrite { host: b"a", absolute: false, upgrade: false };
        encode_request(&mut out, request, &rewrite);
        assert_eq!(show(&out), r"GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    });
}

/// Received, asked, client, connection, framing (`None`: as received), and what goes on.
type Case = (&'static str, ResponseTo, Version, ConnectionOption, Option<Framing>, &'static str);

const TO_GET: ResponseTo = ResponseTo { is_head: false, is_connect: false };
const TO_HEAD: ResponseTo = ResponseTo { is_head: true, is_connect: false };
const TO_CONNECT: ResponseTo = ResponseTo { is_head: false, is_connect: true };
const V10: Version = Version::Http10;
const V11: Version = Version::Http11;

const RESPONSES: &[Case] = &[
    ("1.1 200 OK\r\n\r\n", TO_HEAD, V11, Nothing, None, "1.1 200 OK\r\n\r\n"),
    (
        "1.1 200 \r\nContent-Length: 5\r\nX: y\r\n\r\n",
        TO_GET,
        V11,
        Nothing,
        None,
        "1.1 200 \r\nContent-Length: 5\r\nX: y\r\n\r\n",
    ),
    (
        "1.0 200 Fine\r\nX:y\r\nConnection: keep-alive\r\nContent-Length: 05\r\n\r\n",
        TO_GET,
        V11,
        Close,
        None,
        "1.1 200 Fine\r\nX: y\r\nContent-Length: 5\r\nConnection: close\r\n\r\n",
    ),
    // RFC 9112 §4: the space is there even without a reason.
    (
        "1.1 200\r\nX: y\r\nContent-Length: 0\r\n\r\n",
        TO_GET,
        V11,
        Nothing,
        None,
        "1.1 200 \r\nX: y\r\nContent-Length: 0\r\n\r\n",
    ),
    ("1.0 204\r\n\r\n", TO_GET, V11, Nothing, None, "1.1 204 \r\n\r\n"),
    // Until close: in chunks if the client can, else as it is.
    (
        "1.1 200 OK\r\nConnection: close, X\r\nX: y\r\nZ: z\r\n\r\n",
        TO_GET,
        V11,
        Nothing,
        Some(Framing::Chunked),
        "1.1 200 OK\r\nZ: z\r\nTransfer-Encoding: chunked\r\n\r\n",
    ),
    ("1.1 200 OK\r\n\r\n", TO_GET, V11, Close, None, "1.1 200 OK\r\nConnection: close\r\n\r\n"),
    (
        "1.1 200 OK\r\ntransfer-encoding: CHUNKED\r\nX: y\r\n\r\n",
        TO_GET,
        V11,
        Nothing,
        None,
        "1.1 200 OK\r\ntransfer-encoding: chunked\r\nX: y\r\n\r\n",
    ),
    (
        "1.1 200 OK\r\nTransfer-Encoding: chunked\r\nX: y\r\n\r\n",
        TO_GET,
        V10,
        Close,
        Some(Framing::UntilClose),
        "1.1 200 OK\r\nX: y\r\nConnection: close\r\n\r\n",
    ),
    (
        "1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
        TO_GET,
        V10,
        Close,
        None,
        "1.1 200 OK\r\nConnection: close\r\n\r\n",
    ),
    (
        "1.1 200 OK\r\nContent-Length: 5\r\n\r\n",
        TO_GET,
        V10,
        KeepAlive,
        None,
        "1.1 200 OK\r\nContent-Length: 5\r\nConnection: keep-alive\r\n\r\n",
    ),
    // No body, but told how long it would be.
    (
        "1.1 200 OK\r\nContent-Length: 5, 5\r\n\r\n",
        TO_HEAD,
        V11,
        Nothing,
        None,
        "1.1 200 OK\r\nContent-Length: 5\r\n\r\n",
    ),
    (
        "1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
        TO_HEAD,
        V11,
        Nothing,
        None,
        "1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
    ),
    (
        "1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
        TO_HEAD,
        V10,
        Nothing,
        None,
        "1.1 200 OK\r\n\r\n",
    ),
    (
        "1.1 304 Not Modified\r\nContent-Length: 5\r\nETag: x\r\n\r\n",
        TO_GET,
        V11,
        Nothing,
        None,
        "1.1 304 Not Modified\r\nContent-Length: 5\r\nETag: x\r\n\r\n",
    ),
    // No body, and no word about one.
    (
        "1.1 204 No Content\r\nContent-Length: 0\r\n\r\n",
        TO_GET,
        V11,
        Nothing,
        None,
        "1.1 204 No Content\r\n\r\n",
    ),
    (
        "1.1 204 No Content\r\nTransfer-Encoding: chunked\r\n\r\n",
        TO_GET,
        V11,
        Nothing,
        None,
        "1.1 204 No Content\r\n\r\n",
    ),
    (
        "1.1 103 Early Hints\r\nLink: x\r\nContent-Length: 5\r\n\r\n",
        TO_GET,
        V11,
        Nothing,
        None,
        "1.1 103 Early Hints\r\nLink: x\r\n\r\n",
    ),
    (
        "1.1 200 OK\r\nContent-Length: 5\r\nX: y\r\n\r\n",
        TO_CONNECT,
        V11,
        Nothing,
        None,
        "1.1 200 OK\r\nX: y\r\n\r\n",
    ),
    (
        "1.1 101 Switching\r\nConnection: upgrade\r\nUpgrade: websocket\r\nX: y\r\n\r\n",
        TO_GET,
        V11,
        Upgrade,
        None,
        "1.1 101 Switching\r\nUpgrade: websocket\r\nX: y\r\nConnection: upgrade\r\n\r\n",
    ),
    (
        "1.1 200 OK\r\nConnection: upgrade\r\nUpgrade: websocket\r\nKeep-Alive: 5\r\n\
         Proxy-Authenticate: kept\r\nContent-Length: 0\r\n\r\n",
        TO_GET,
        V11,
        Nothing,
        None,
        "1.1 200 OK\r\nProxy-Authenticate: kept\r\nContent-Length: 0\r\n\r\n",
    ),
];

#[test]
fn responses_go_on_as_they_should() {
    for &(received, to, client, connection, framing, expected) in RESPONSES {
        let bytes = format!("HTTP/{received}");
        let got = with_response(bytes.as_bytes(), to, |response| {
            let mut out = BytesMut::from(&b"HTTP/1.1 before"[..]);
            let framing = framing.unwrap_or(response.framing);
            encode_response(&mut out, response, &ResponseRewrite { client, connection, framing });
            show(&out)
        });
        let expected = format!("HTTP/1.1 beforeHTTP/{expected}");
        assert_eq!(got, Ok(show(expected.as_bytes())), "{received}");
    }
}

#[test]
fn a_phrase_with_high_bytes_goes_on() {
    for version in ["1.0", "1.1"] {
        let bytes = [
            format!("HTTP/{version} 404 Pas trouv").as_bytes(),
            b"\xe9\r\nContent-Length: 0\r\n\r\n",
        ]
        .concat();
        let got = with_response(&bytes, TO_GET, |response| {
            let mut out = BytesMut::new();
            let (client, connection) = (V11, Nothing);
            let rewrite = ResponseRewrite { client, connection, framing: response.framing };
            encode_response(&mut out, response, &rewrite);
            show(&out)
        });
        let expected = r"HTTP/1.1 404 Pas trouv\xe9\r\nContent-Length: 0\r\n\r\n";
        assert_eq!(got.as_deref(), Ok(expected));
    }
}

#[test]
fn every_error_is_a_response_that_says_why() {
    for &reason in Reason::ALL {
        for (close, keep_alive_10) in [(true, false), (false, true), (false, false), (true, true)] {
            let mut out = BytesMut::new();
            encode_error(&mut out, reason, ErrorAnswer { close, keep_alive_10, grpc: false });
            let text = show(&out);
            let got = with_response(&out, TO_GET, |response| {
                assert_eq!(response.head.status, reason.status());
                assert!(!response.head.reason.is_empty() && response.head.reason != b"Error");
                (response.framing, response.keep_alive)
            });
            assert_eq!(got, Ok((Framing::Length(0), !close)), "{text}");
            let why = format!("l5d-proxy-error: {}\\r\\n", reason.message());
            assert!(text.contains(&why), "{text}");
            assert_eq!(text.contains("connection: keep-alive"), keep_alive_10 && !close, "{text}");
        }
    }
}

#[test]
fn grpc_is_told_in_its_own_words() {
    for (reason, code) in [
        (Reason::Failfast, 4),
        (Reason::ConnectTimeout, 4),
        (Reason::RequestTimeout, 4),
        (Reason::HeaderTimeout, 4),
        (Reason::InFlight, 14),
        (Reason::QueueFull, 14),
        (Reason::ConnectFailed, 14),
        (Reason::NoResources, 14),
        (Reason::BadResponse, 14),
        (Reason::UnknownAuthority, 5),
        (Reason::Loop, 10),
        (Reason::HeadTooLarge, 13),
        (Reason::LengthAndCoding, 13),
    ] {
        let mut out = BytesMut::new();
        let answer = ErrorAnswer { close: true, grpc: true, ..ErrorAnswer::default() };
        encode_error(&mut out, reason, answer);
        let text = show(&out);
        let got = with_response(&out, TO_GET, |response| {
            let code = response.grpc_status;
            (response.head.status, code, response.framing, response.keep_alive)
        });
        assert_eq!(got, Ok((200, Some(code), Framing::Length(0), false)), "{text}");
        assert!(text.contains(r"content-type: application/grpc\r\n"), "{text}");
        let why = format!("grpc-message: {}\\r\\n", reason.message());
        assert!(text.contains(&why), "{text}");
    }
}

#[test]
fn chunk_sizes_are_hexadecimal() {
    for len in [1, 9, 10, 15, 16, 255, 256, 65_535, 65_536, usize::MAX] {
        let mut out = BytesMut::new();
        encode_chunk_start(&mut out, len);
        assert_eq!(show(&out), format!("{len:x}\\r\\n"));
    }
    let mut out = BytesMut::new();
    encode_chunk_end(&mut out);
    assert_eq!(&out[..], b"\r\n");
}
