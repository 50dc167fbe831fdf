use super::*;
use crate::http::{Known, method};
use crate::http1::TargetForm::{Absolute, Asterisk, Authority, Origin};

/// Requests that are refused: what is wrong, where the rule is, the request, the reason.
const REFUSED: &[(&str, &[u8], Reason)] = &[
    // The first line.
    ("9112 §3 no target", b"GET HTTP/1.1\r\nHost: a\r\n\r\n", Reason::RequestLine),
    ("9112 §3 no version", b"GET /\r\nHost: a\r\n\r\n", Reason::RequestLine),
    ("9112 §3 only a method", b"GET\r\nHost: a\r\n\r\n", Reason::RequestLine),
    ("9112 §3 two spaces", b"GET  / HTTP/1.1\r\nHost: a\r\n\r\n", Reason::RequestLine),
    ("9112 §3 two spaces", b"GET /  HTTP/1.1\r\nHost: a\r\n\r\n", Reason::RequestLine),
    ("9112 §3 space behind", b"GET / HTTP/1.1 \r\nHost: a\r\n\r\n", Reason::RequestLine),
    ("9112 §3 space before", b" GET / HTTP/1.1\r\nHost: a\r\n\r\n", Reason::RequestLine),
    ("9112 §3.2 space in target", b"GET /a b HTTP/1.1\r\nHost: a\r\n\r\n", Reason::RequestLine),
    ("9112 §3 tab", b"GET\t/ HTTP/1.1\r\nHost: a\r\n\r\n", Reason::ControlCharacter),
    ("9112 §3 tab", b"GET /\tHTTP/1.1\r\nHost: a\r\n\r\n", Reason::ControlCharacter),
    ("9112 §2.3 lower case", b"GET / http/1.1\r\nHost: a\r\n\r\n", Reason::RequestLine),
    ("9112 §2.3 long version", b"GET / HTTP/1.10\r\nHost: a\r\n\r\n", Reason::RequestLine),
    ("9112 §2.3 short version", b"GET / HTTP/1\r\nHost: a\r\n\r\n", Reason::RequestLine),
    ("9112 §2.3 comma", b"GET / HTTP/1,1\r\nHost: a\r\n\r\n", Reason::RequestLine),
    ("9112 §2.3 letters", b"GET / HTTP/x.y\r\nHost: a\r\n\r\n", Reason::RequestLine),
    ("9112 §2.3 name", b"GET / HTTPS/1.1\r\nHost: a\r\n\r\n", Reason::RequestLine),
    ("9112 §3 HTTP/0.9", b"GET /\r\n", Reason::RequestLine),
    ("9112 §2.2 five empty lines", b"\r\n\r\n\r\n\r\n\r\nGET / HTTP/1.1\r\n", Reason::RequestLine),
    ("9112 §2.3 version 1.2", b"GET / HTTP/1.2\r\nHost: a\r\n\r\n", Reason::Version),
    ("9112 §2.3 version 2.0", b"GET / HTTP/2.0\r\nHost: a\r\n\r\n", Reason::Version),
    ("9113 §3.4 preface", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", Reason::Version),
    ("9112 §2.3 version 0.9", b"GET / HTTP/0.9\r\nHost: a\r\n\r\n", Reason::Version),
    ("9110 §9.1 method", b"G(T / HTTP/1.1\r\nHost: a\r\n\r\n", Reason::Method),
    ("9110 §9.1 method", b"\"GET\" / HTTP/1.1\r\nHost: a\r\n\r\n", Reason::Method),
    ("9110 §9.1 method", b"GET: / HTTP/1.1\r\nHost: a\r\n\r\n", Reason::Method),
    ("9110 §9.1 method", b"G\xc3\x8bT / HTTP/1.1\r\nHost: a\r\n\r\n", Reason::Method),
    ("9110 §9.1 method DEL", b"G\x7fT / HTTP/1.1\r\nHost: a\r\n\r\n", Reason::ControlCharacter),
    // The target.
    ("9112 §3.2.1 relative", b"GET index.html HTTP/1.1\r\nHost: a\r\n\r\n", Reason::Target),
    ("9112 §3.2.1 query only", b"GET ?x HTTP/1.1\r\nHost: a\r\n\r\n", Reason::Target),
    ("9112 §3.2.3 not CONNECT", b"GET a.example:80 HTTP/1.1\r\nHost: a\r\n\r\n", Reason::Target),
    ("9112 §3.2.4 not OPTIONS", b"GET * HTTP/1.1\r\nHost: a\r\n\r\n", Reason::Target),
    ("9112 §3.2.4 two stars", b"OPTIONS ** HTTP/1.1\r\nHost: a\r\n\r\n", Reason::Target),
    ("9110 §7.1 fragment", b"GET /a#b HTTP/1.1\r\nHost: a\r\n\r\n", Reason::Target),
    ("9110 §7.1 fragment", b"GET http://a/#b HTTP/1.1\r\nHost: a\r\n\r\n", Reason::Target),
    ("9110 §4.2.2 https", b"GET https://a/ HTTP/1.1\r\nHost: a\r\n\r\n", Reason::Target),
    ("9112 §3.2.2 scheme", b"GET ftp://a/ HTTP/1.1\r\nHost: a\r\n\r\n", Reason::Target),
    ("9112 §3.2.2 scheme", b"GET http:/a/ HTTP/1.1\r\nHost: a\r\n\r\n", Reason::Target),
    ("9110 §4.2.1 no host", b"GET http:///x HTTP/1.1\r\nHost: a\r\n\r\n", Reason::Target),
    ("9110 §4.2.1 no host", b"GET http:// HTTP/1.1\r\nHost: a\r\n\r\n", Reason::Target),
    ("9110 §4.2.1 no host", b"GET http://:80/ HTTP/1.1\r\nHost: a\r\n\r\n", Reason::Target),
    ("9110 §4.2.4 userinfo", b"GET http://u@a/ HTTP/1.1\r\nHost: a\r\n\r\n", Reason::Target),
    ("9110 §4.2.4 userinfo", b"GET http://u:p@a/ HTTP/1.1\r\nHost: a\r\n\r\n", Reason::Target),
    ("3986 §3.2.3 port", b"GET http://a:x/ HTTP/1.1\r\nHost: a\r\n\r\n", Reason::Target),
    ("3986 §3.2.3 port", b"GET http://a:65536/ HTTP/1.1\r\nHost: a\r\n\r\n", Reason::Target),
    ("3986 §3.2.2 IPv6", b"GET http://[::g]/ HTTP/1.1\r\nHost: a\r\n\r\n", Reason::Target),
    ("3986 §3.2 backslash", b"GET http://a\\b/ HTTP/1.1\r\nHost: a\r\n\r\n", Reason::Target),
    ("9112 §3.2.3 origin-form", b"CONNECT / HTTP/1.1\r\nHost: a\r\n\r\n", Reason::Target),
    ("9112 §3.2.3 absolute", b"CONNECT http://a:80 HTTP/1.1\r\nHost: a\r\n\r\n", Reason::Target),
    ("9112 §3.2.3 no port", b"CONNECT a.example HTTP/1.1\r\nHost: a\r\n\r\n", Reason::Target),
    ("9112 §3.2.3 empty port", b"CONNECT a.example: HTTP/1.1\r\nHost: a\r\n\r\n", Reason::Target),
    ("9112 §3.2.3 port 0", b"CONNECT a.example:0 HTTP/1.1\r\nHost: a\r\n\r\n", Reason::Target),
    ("9112 §3.2.3 no host", b"CONNECT :80 HTTP/1.1\r\nHost: a\r\n\r\n", Reason::Target),
    ("9112 §3.2.3 userinfo", b"CONNECT u@a:80 HTTP/1.1\r\nHost: a\r\n\r\n", Reason::Target),
    ("9112 §3.2.3 path", b"CONNECT a:80/x HTTP/1.1\r\nHost: a\r\n\r\n", Reason::Target),
    ("9112 §3.2.3 star", b"CONNECT * HTTP/1.1\r\nHost: a\r\n\r\n", Reason::Target),
    ("9112 §3.2 NUL", b"GET /\0 HTTP/1.1\r\nHost: a\r\n\r\n", Reason::Nul),
    ("9112 §3.2 control", b"GET /\x01 HTTP/1.1\r\nHost: a\r\n\r\n", Reason::ControlCharacter),
    ("9112 §3.2 DEL", b"GET /\x7f HTTP/1.1\r\nHost: a\r\n\r\n", Reason::ControlCharacter),
    ("3986 §2 not UTF-8", b"GET /\xff HTTP/1.1\r\nHost: a\r\n\r\n", Reason::Target),
    ("3986 §2 half a character", b"GET /\xc3 HTTP/1.1\r\nHost: a\r\n\r\n", Reason::Target),
    // Lines.
    ("9112 §2.2 bare LF", b"GET / HTTP/1.1\nHost: a\n\n", Reason::BareLf),
    ("9112 §2.2 bare LF", b"GET / HTTP/1.1\r\nHost: a\n\r\n", Reason::BareLf),
    ("9112 §2.2 bare LF", b"GET / HTTP/1.1\r\nHost: a \n\r\n", Reason::BareLf),
    ("9112 §2.2 bare LF", b"GET / HTTP/1.1\r\nHost:\n\r\n", Reason::BareLf),
    ("9112 §2.2 bare LF", b"GET / HTTP/1.1\r\nHost: a\r\n\n", Reason::BareLf),
    ("9112 §2.2 bare LF", b"\nGET / HTTP/1.1\r\nHost: a\r\n\r\n", Reason::BareLf),
    ("9112 §2.2 bare CR", b"GET / HTTP/1.1\rHost: a\r\n\r\n", Reason::BareCr),
    ("9112 §2.2 bare CR", b"GET / HTTP/1.1\r\nHost: a\rb\r\n\r\n", Reason::BareCr),
    ("9112 §2.2 bare CR", b"GET / HTTP/1.1\r\nHost: a\r\r\n\r\n", Reason::BareCr),
    ("9112 §2.2 bare CR", b"GET / HTTP/1.1\r\nHost: a\r\n\rX: y\r\n\r\n", Reason::BareCr),
    ("9112 §2.2 bare CR", b"\rGET / HTTP/1.1\r\nHost: a\r\n\r\n", Reason::BareCr),
    ("9112 §2.2 bare CR", b"GET /\r HTTP/1.1\r\nHost: a\r\n\r\n", Reason::BareCr),
    ("9112 §5.2 obs-fold", b"GET / HTTP/1.1\r\nHost: a\r\n b\r\n\r\n", Reason::ObsoleteFold),
    ("9112 §5.2 obs-fold", b"GET / HTTP/1.1\r\nHost: a\r\n\tb\r\n\r\n", Reason::ObsoleteFold),
    ("9112 §5.2 obs-fold", b"GET / HTTP/1.1\r\nHost: a\r\nX:\r\n y\r\n\r\n", Reason::ObsoleteFold),
    ("9112 §5.2 empty fold", b"GET / HTTP/1.1\r\nHost: a\r\n \r\n\r\n", Reason::ObsoleteFold),
    ("9112 §2.2 before fields", b"GET / HTTP/1.1\r\n Host: a\r\n\r\n", Reason::ObsoleteFold),
    // Names and values.
    ("9112 §5.1 space", b"GET / HTTP/1.1\r\nHost : a\r\n\r\n", Reason::SpaceBeforeColon),
    ("9112 §5.1 tab", b"GET / HTTP/1.1\r\nHost: a\r\nX\t: y\r\n\r\n", Reason::SpaceBeforeColon),
    (
        "9112 §5.1 space hides a coding",
        b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding : chunked\r\n\r\n",
        Reason::SpaceBeforeColon,
    ),
    ("9110 §5.1 empty name", b"GET / HTTP/1.1\r\nHost: a\r\n: y\r\n\r\n", Reason::FieldName),
    ("9110 §5.1 no colon", b"GET / HTTP/1.1\r\nHost: a\r\nX\r\n\r\n", Reason::FieldName),
    ("9110 §5.1 no colon", b"GET / HTTP/1.1\r\nHost a\r\n\r\n", Reason::FieldName),
    ("9110 §5.1 space in name", b"GET / HTTP/1.1\r\nHost: a\r\nX Y: z\r\n\r\n", Reason::FieldName),
    ("9110 §5.1 parenthesis", b"GET / HTTP/1.1\r\nHost: a\r\nX(: z\r\n\r\n", Reason::FieldName),
    ("9110 §5.1 high byte", b"GET / HTTP/1.1\r\nHost: a\r\nX\xe9: z\r\n\r\n", Reason::FieldName),
    ("9110 §5.1 control", b"GET / HTTP/1.1\r\nX\x01: z\r\n\r\n", Reason::ControlCharacter),
    ("9110 §5.1 DEL", b"GET / HTTP/1.1\r\nHost: a\r\nX\x7f: z\r\n\r\n", Reason::ControlCharacter),
    ("9110 §5.5 NUL", b"GET / HTTP/1.1\r\nHost: a\r\nX: \0\r\n\r\n", Reason::Nul),
    ("9110 §5.5 NUL in a name", b"GET / HTTP/1.1\r\nX\0: y\r\n\r\n", Reason::Nul),
    ("9110 §5.5 control", b"GET / HTTP/1.1\r\nHost: a\x0b\r\n\r\n", Reason::ControlCharacter),
    ("9110 §5.5 escape", b"GET / HTTP/1.1\r\nX: \x1b[0m\r\n\r\n", Reason::ControlCharacter),
    ("9110 §5.5 DEL", b"GET / HTTP/1.1\r\nHost: a\r\nX: \x7f\r\n\r\n", Reason::ControlCharacter),
    // Host.
    ("9112 §3.2 no Host", b"GET / HTTP/1.1\r\n\r\n", Reason::HostMissing),
    ("9112 §3.2 no Host", b"GET http://a/ HTTP/1.1\r\nX: y\r\n\r\n", Reason::HostMissing),
    ("9112 §3.2 two Hosts", b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", Reason::HostRepeated),
    ("9112 §3.2 same twice", b"GET / HTTP/1.1\r\nHost: a\r\nhost: a\r\n\r\n", Reason::HostRepeated),
    ("9112 §3.2 two in 1.0", b"GET / HTTP/1.0\r\nHost: a\r\nHost: a\r\n\r\n", Reason::HostRepeated),
    ("9112 §3.2 one is empty", b"GET / HTTP/1.1\r\nHost:\r\nHost: a\r\n\r\n", Reason::HostRepeated),
    ("9110 §7.2 list", b"GET / HTTP/1.1\r\nHost: a, b\r\n\r\n", Reason::HostInvalid),
    ("9110 §7.2 list", b"GET / HTTP/1.1\r\nHost: a,b\r\n\r\n", Reason::HostInvalid),
    ("9110 §7.2 userinfo", b"GET / HTTP/1.1\r\nHost: u@a\r\n\r\n", Reason::HostInvalid),
    ("9110 §7.2 path", b"GET / HTTP/1.1\r\nHost: a/b\r\n\r\n", Reason::HostInvalid),
    ("9110 §7.2 URL", b"GET / HTTP/1.1\r\nHost: http://a\r\n\r\n", Reason::HostInvalid),
    ("9110 §7.2 port", b"GET / HTTP/1.1\r\nHost: a:b\r\n\r\n", Reason::HostInvalid),
    ("9110 §7.2 port", b"GET / HTTP/1.1\r\nHost: a:99999\r\n\r\n", Reason::HostInvalid),
    ("9110 §7.2 only a port", b"GET / HTTP/1.1\r\nHost: :80\r\n\r\n", Reason::HostInvalid),
    ("9110 §7.2 bare IPv6", b"GET / HTTP/1.1\r\nHost: ::1\r\n\r\n", Reason::HostInvalid),
    ("9110 §7.2 high byte", b"GET / HTTP/1.1\r\nHost: \xe9\r\n\r\n", Reason::HostInvalid),
    ("9110 §7.2 not used", b"GET http://a/ HTTP/1.1\r\nHost: u@a\r\n\r\n", Reason::HostInvalid),
    ("9110 §7.2 in 1.0", b"GET / HTTP/1.0\r\nHost: a b\r\n\r\n", Reason::HostInvalid),
];

/// Header sections that are refused behind `POST / HTTP/1.1` and a Host.
const REFUSED_FRAMING: &[(&str, &str, Reason)] = &[
    ("9110 §8.6 empty", "Content-Length:", Reason::ContentLengthInvalid),
    ("9110 §8.6 sign", "Content-Length: +5", Reason::ContentLengthInvalid),
    ("9110 §8.6 sign", "Content-Length: -5", Reason::ContentLengthInvalid),
    ("9110 §8.6 hexadecimal", "Content-Length: 0x5", Reason::ContentLengthInvalid),
    ("9110 §8.6 fraction", "Content-Length: 5.0", Reason::ContentLengthInvalid),
    ("9110 §8.6 exponent", "Content-Length: 1e1", Reason::ContentLengthInvalid),
    ("9110 §8.6 word", "Content-Length: five", Reason::ContentLengthInvalid),
    ("9110 §8.6 space", "Content-Length: 5 5", Reason::ContentLengthInvalid),
    ("9110 §8.6 quotes", "Content-Length: \"5\"", Reason::ContentLengthInvalid),
    ("9110 §8.6 semicolon", "Content-Length: 5;", Reason::ContentLengthInvalid),
    ("9110 §8.6 underscore", "Content-Length: 1_0", Reason::ContentLengthInvalid),
    ("9110 §8.6 empty element", "Content-Length: 5,", Reason::ContentLengthInvalid),
    ("9110 §8.6 empty element", "Content-Length: ,5", Reason::ContentLengthInvalid),
    ("9110 §8.6 2^63", "Content-Length: 9223372036854775808", Reason::ContentLengthInvalid),
    ("9110 §8.6 2^64", "Content-Length: 18446744073709551616", Reason::ContentLengthInvalid),
    ("9110 §8.6 2^64 + 5", "Content-Length: 18446744073709551621", Reason::ContentLengthInvalid),
    ("9112 §6.3 differing", "Content-Length: 5\r\nContent-Length: 6", Reason::ContentLengthsDiffer),
    ("9112 §6.3 differing", "Content-Length: 5, 6", Reason::ContentLengthsDiffer),
    (
        "9112 §6.3 one is wrong",
        "Content-Length: 5\r\ncontent-length: x",
        Reason::ContentLengthInvalid,
    ),
    ("9112 §6.1 both", "Content-Length: 5\r\nTransfer-Encoding: chunked", Reason::LengthAndCoding),
    ("9112 §6.1 both", "Transfer-Encoding: chunked\r\nContent-Length: 5", Reason::LengthAndCoding),
    ("9112 §6.1 both", "Content-Length: 5\r\nTransfer-Encoding: gzip", Reason::LengthAndCoding),
    ("9112 §6.1 both", "Content-Length: 0\r\nTransfer-Encoding:", Reason::LengthAndCoding),
    ("9112 §6.1 gzip", "Transfer-Encoding: gzip", Reason::CodingUnknown),
    ("9112 §6.1 gzip", "Transfer-Encoding: gzip, chunked", Reason::CodingUnknown),
    (
        "9112 §6.1 gzip",
        "Transfer-Encoding: gzip\r\nTransfer-Encoding: chunked",
        Reason::CodingUnknown,
    ),
    ("9112 §7 identity", "Transfer-Encoding: identity", Reason::CodingUnknown),
    ("9112 §7 identity", "Transfer-Encoding: identity, chunked", Reason::CodingUnknown),
    ("9112 §6.1 nearly", "Transfer-Encoding: xchunked", Reason::CodingUnknown),
    ("9112 §6.1 nearly", "Transfer-Encoding: chunkedx", Reason::CodingUnknown),
    ("9112 §6.1 nearly", "Transfer-Encoding: chunk", Reason::CodingUnknown),
    ("9112 §7 parameters", "Transfer-Encoding: x;y=z, chunked", Reason::CodingUnknown),
    ("9112 §6.1 twice", "Transfer-Encoding: chunked, chunked", Reason::CodingMisplaced),
    (
        "9112 §6.1 twice",
        "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked",
        Reason::CodingMisplaced,
    ),
    ("9112 §6.1 not last", "Transfer-Encoding: chunked, gzip", Reason::CodingMisplaced),
    (
        "9112 §6.1 not last",
        "Transfer-Encoding: chunked\r\nTransfer-Encoding: identity",
        Reason::CodingMisplaced,
    ),
    ("9112 §7 parameter", "Transfer-Encoding: chunked;x=y", Reason::CodingMisplaced),
    ("9112 §7 empty", "Transfer-Encoding:", Reason::CodingMisplaced),
    ("9112 §7 empty element", "Transfer-Encoding: chunked,", Reason::CodingMisplaced),
    ("9112 §7 empty element", "Transfer-Encoding: , chunked", Reason::CodingMisplaced),
    ("9112 §7 space", "Transfer-Encoding: chunked x", Reason::CodingMisplaced),
    ("9112 §7 space", "Transfer-Encoding: chu nked", Reason::CodingMisplaced),
    ("9112 §7 quotes", "Transfer-Encoding: \"chunked\"", Reason::CodingMisplaced),
    ("9110 §10.1.1 unknown", "Expect: 200-ok", Reason::Expectation),
    ("9110 §10.1.1 list", "Expect: 100-continue, x", Reason::Expectation),
    ("9110 §10.1.1 second", "Expect: 100-continue\r\nExpect: y", Reason::Expectation),
];

#[test]
fn what_breaks_the_rules_is_refused_alike_however_it_is_cut() {
    for &(rule, bytes, reason) in REFUSED {
        assert_eq!(every_way(bytes), Err(reason), "{rule}: {}", show(bytes));
    }
    for &(rule, fields, reason) in REFUSED_FRAMING {
        let bytes = format!("POST / HTTP/1.1\r\nHost: a\r\n{fields}\r\n\r\n");
        assert_eq!(every_way(bytes.as_bytes()), Err(reason), "{rule}: {fields}");
        // Connection cannot hide a framing field from us.
        let bytes = format!(
            "POST / HTTP/1.1\r\nConnection: Content-Length, Transfer-Encoding, Expect\r\n\
             Host: a\r\n{fields}\r\n\r\n"
        );
        assert_eq!(every_way(bytes.as_bytes()), Err(reason), "{rule}, nominated: {fields}");
    }
    for (request, reason) in [
        ("POST / HTTP/1.0\r\nTransfer-Encoding: chunked", Reason::CodingInHttp10),
        ("POST / HTTP/1.0\r\nTransfer-Encoding: gzip", Reason::CodingInHttp10),
        ("POST / HTTP/1.0\r\nContent-Length: 1\r\nTransfer-Encoding: x", Reason::LengthAndCoding),
        ("CONNECT a:1 HTTP/1.1\r\nHost: a:1\r\nContent-Length: 1", Reason::ContentLengthInvalid),
        ("CONNECT a:1 HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked", Reason::CodingMisplaced),
    ] {
        let bytes = format!("{request}\r\n\r\n");
        assert_eq!(every_way(bytes.as_bytes()), Err(reason), "{request}");
    }
}

#[test]
fn every_control_character_is_refused_wherever_it_is() {
    let head = b"GET /t HTTP/1.1\r\nHost: a.example\r\nName: value\r\n\r\n";
    for byte in (0..0x20).chain([0x7f]) {
        for at in 0..head.len() {
            let mut bytes = Vec::from(&head[..]);
            if bytes[at] == byte {
                continue;
            }
            bytes[at] = byte;
            let got = receive(&bytes, &[], &Limits::default());
            assert_eq!(scan_and_parse(&bytes, &Limits::default()), got, "{}", show(&bytes));
            // A tab is whitespace around and inside values.
            if byte == b'\t' && got.is_ok() {
                assert!((22..32).contains(&at) || (38..45).contains(&at), "{at}");
                continue;
            }
            assert!(got.is_err(), "{}", show(&bytes));
        }
    }
}

#[test]
fn every_other_byte_may_be_in_a_value() {
    for byte in (0x20..=0xff).filter(|&byte| byte != 0x7f).chain([b'\t']) {
        let bytes = [b"GET / HTTP/1.1\r\nHost: a\r\nX: y", &[byte][..], b"z\r\n\r\n"].concat();
        let got = every_way(&bytes);
        assert_eq!(got.map(|got| got.map(|(len, _)| len)), Ok(Some(bytes.len())));
        with_request(&bytes, |request| {
            let last = request.head.fields.iter().last();
            assert_eq!(last.map(|field| field.value), Some(&[b'y', byte, b'z'][..]));
        });
    }
}

#[test]
fn targets_may_hold_any_visible_ascii_but_a_hash_and_utf8() {
    for byte in (0x21..0x7f).filter(|&byte| byte != b'#') {
        let bytes = [b"GET /", &[byte][..], b" HTTP/1.1\r\nHost: a\r\n\r\n"].concat();
        with_request(&bytes, |request| assert_eq!(request.path, [b'/', byte]));
    }
    let bytes = "GET /\u{fc}\u{1f600} HTTP/1.1\r\nHost: a\r\n\r\n".as_bytes();
    assert!(every_way(bytes).is_ok_and(|got| got.is_some()));
}

/// Target, method, form, authority, path.
const TARGETS: &[(&str, &str, TargetForm, Option<&str>, &str)] = &[
    ("GET", "/", Origin, Some("host.example"), "/"),
    ("GET", "//x/..?a=b&c", Origin, Some("host.example"), "//x/..?a=b&c"),
    ("get", "/http://a/", Origin, Some("host.example"), "/http://a/"),
    ("OPTIONS", "*", Asterisk, Some("host.example"), "*"),
    ("OPTIONS", "/", Origin, Some("host.example"), "/"),
    ("GET", "http://a.example/x?y", Absolute, Some("a.example"), "/x?y"),
    ("GET", "HTTP://A.example:8080/", Absolute, Some("A.example:8080"), "/"),
    ("GET", "http://a.example", Absolute, Some("a.example"), "/"),
    ("GET", "http://a.example?y/z", Absolute, Some("a.example"), "?y/z"),
    ("GET", "http://[::1]:80/x", Absolute, Some("[::1]:80"), "/x"),
    ("GET", "http://a.example:/x", Absolute, Some("a.example:"), "/x"),
    ("OPTIONS", "http://a.example", Absolute, Some("a.example"), "*"),
    ("OPTIONS", "http://a.example/", Absolute, Some("a.example"), "/"),
    ("CONNECT", "a.example:443", Authority, Some("a.example:443"), "a.example:443"),
    ("CONNECT", "[::1]:443", Authority, Some("[::1]:443"), "[::1]:443"),
];

#[test]
fn targets_are_understood() {
    for &(method, target, form, authority, path) in TARGETS {
        let bytes = format!("{method} {target} HTTP/1.1\r\nHost: host.example\r\n\r\n");
        assert!(every_way(bytes.as_bytes()).is_ok(), "{target}");
        with_request(bytes.as_bytes(), |request| {
            assert_eq!(request.form, form, "{target}");
            assert_eq!(request.authority.map(show).as_deref(), authority, "{target}");
            assert_eq!(show(request.path), path, "{target}");
            assert_eq!(show(request.head.target), target);
            assert_eq!(show(request.head.method), method);
            assert_eq!(request.is_connect, method == "CONNECT");
            assert_eq!(request.idempotent, method::is_idempotent(method.as_bytes()));
        });
    }
}

#[test]
fn the_authority_is_that_of_the_target_else_host_else_none() {
    for (bytes, authority) in [
        ("GET / HTTP/1.1\r\nhOST:\t a.example:80 \r\n\r\n", Some("a.example:80")),
        ("GET / HTTP/1.1\r\nHost:\r\n\r\n", None),
        ("GET / HTTP/1.1\r\nHost: \r\n\r\n", None),
        ("GET / HTTP/1.0\r\n\r\n", None),
        ("GET / HTTP/1.0\r\nHost: a\r\n\r\n", Some("a")),
        ("GET http://a/ HTTP/1.0\r\n\r\n", Some("a")),
        ("GET http://a/ HTTP/1.1\r\nHost: b\r\n\r\n", Some("a")),
        ("GET http://a/ HTTP/1.1\r\nHost:\r\n\r\n", Some("a")),
        ("CONNECT a:1 HTTP/1.0\r\n\r\n", Some("a:1")),
    ] {
        assert!(every_way(bytes.as_bytes()).is_ok(), "{bytes}");
        with_request(bytes.as_bytes(), |request| {
            assert_eq!(request.authority.map(show).as_deref(), authority, "{bytes}");
        });
    }
}

#[test]
fn bodies_are_framed_by_one_rule() {
    for (fields, framing) in [
        ("", Framing::None),
        ("Content-Length: 0", Framing::Length(0)),
        ("Content-Length: 5", Framing::Length(5)),
        ("content-LENGTH:  5\t", Framing::Length(5)),
        ("Content-Length: 005", Framing::Length(5)),
        ("Content-Length: 5, 5", Framing::Length(5)),
        ("Content-Length: 5\r\nX: y\r\nContent-Length: 05", Framing::Length(5)),
        ("Content-Length: 9223372036854775807", Framing::Length((1 << 63) - 1)),
        ("Transfer-Encoding: chunked", Framing::Chunked),
        ("transfer-encoding:\tCHUNKED ", Framing::Chunked),
        ("Connection: Transfer-Encoding\r\nTransfer-Encoding: chunked", Framing::Chunked),
        ("Connection: Content-Length\r\nContent-Length: 5", Framing::Length(5)),
        ("Content-Length_: 5\r\nX-Content-Length: 6", Framing::None),
    ] {
        for method in ["GET", "POST", "HEAD", "OPTIONS", "x"] {
            let bytes = format!("{method} / HTTP/1.1\r\nHost: a\r\n{fields}\r\n\r\n");
            let bytes = bytes.replace("\r\n\r\n\r\n", "\r\n\r\n");
            assert!(every_way(bytes.as_bytes()).is_ok(), "{bytes}");
            with_request(bytes.as_bytes(), |request| {
                assert_eq!(request.framing, framing, "{bytes}");
                assert_eq!(request.is_head, method == "HEAD");
            });
        }
    }
    let bytes = b"CONNECT a:1 HTTP/1.1\r\nHost: a:1\r\nContent-Length: 0\r\n\r\n";
    with_request(bytes, |request| assert_eq!(request.framing, Framing::None));
}

#[test]
fn connections_persist_as_both_versions_have_it() {
    for (version, fields, expected) in [
        ("1.1", "", true),
        ("1.1", "Connection: keep-alive\r\n", true),
        ("1.1", "Connection: close\r\n", false),
        ("1.1", "connection: x, CLOSE\r\n", false),
        ("1.1", "Connection: keep-alive\r\nConnection: close\r\n", false),
        ("1.1", "Connection: closed\r\n", true),
        ("1.1", "Connection:\r\n", true),
        ("1.1", "Proxy-Connection: close\r\n", true),
        ("1.0", "", false),
        ("1.0", "Connection: Keep-Alive\r\n", true),
        ("1.0", "Connection: ,, keep-alive ,\r\n", true),
        ("1.0", "Connection: keep-alive, close\r\n", false),
        ("1.0", "Proxy-Connection: keep-alive\r\n", false),
        ("1.0", "Keep-Alive: timeout=5\r\n", false),
    ] {
        let bytes = format!("GET / HTTP/{version}\r\nHost: a\r\n{fields}\r\n");
        with_request(bytes.as_bytes(), |request| {
            assert_eq!(request.keep_alive, expected, "{bytes}");
        });
    }
}

#[test]
fn upgrades_expectations_trailers_and_grpc_are_noticed() {
    let flags = |version: &str, fields: &str| {
        let bytes = format!("POST / HTTP/{version}\r\nHost: a\r\n{fields}\r\n\r\n");
        assert!(every_way(bytes.as_bytes()).is_ok(), "{bytes}");
        with_request(bytes.as_bytes(), |request| {
            [request.upgrade, request.expect_continue, request.te_trailers, request.grpc]
        })
    };
    for (fields, expected) in [
        ("Connection: upgrade\r\nUpgrade: websocket", [true, false, false, false]),
        ("Connection: keep-alive, Upgrade\r\nupgrade: h2c, x/1", [true, false, false, false]),
        ("Connection: upgrade\r\nUpgrade: h2c\r\nUpgrade: y", [true, false, false, false]),
        ("Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AA", [false; 4]),
        ("Connection: upgrade\r\nUpgrade: H2C, h2c", [false; 4]),
        ("Connection: upgrade\r\nUpgrade:", [false; 4]),
        ("Connection: upgrade", [false; 4]),
        ("Upgrade: websocket", [false; 4]),
        ("Expect: 100-Continue", [false, true, false, false]),
        ("Expect: 100-continue\r\nexpect: 100-continue", [false, true, false, false]),
        ("TE: trailers", [false, false, true, false]),
        ("Connection: TE\r\nte: gzip, Trailers", [false, false, true, false]),
        ("TE: gzip;q=0.5", [false; 4]),
        ("Content-Type: application/grpc", [false, false, false, true]),
        ("Content-Type: Application/gRPC+proto", [false, false, false, true]),
        ("Content-Type: application/grpc; x=y", [false, false, false, true]),
        ("Content-Type: application/grpc-web", [false; 4]),
        ("Content-Type: application/grp", [false; 4]),
        ("Content-Type: text/plain", [false; 4]),
    ] {
        assert_eq!(flags("1.1", fields), expected, "{fields}");
        // HTTP/1.0 knows none of them but gRPC's type.
        assert_eq!(flags("1.0", fields), [false, false, false, expected[3]], "{fields}");
    }
    assert_eq!(flags("1.0", "Expect: something else"), [false; 4]);
}

#[test]
fn nominations_are_bounded() {
    let options = |n: usize| {
        let list: Vec<String> = (0..n).map(|n| format!("x{n}")).collect();
        format!(
            "GET / HTTP/1.1\r\nHost: a\r\nConnection: {}\r\nx0: y\r\n\r\n",
            list.join(", close, ,")
        )
    };
    let got = every_way(options(32).as_bytes());
    assert!(got.is_ok_and(|got| got.is_some_and(|(_, text)| !text.contains("x0"))));
    assert_eq!(every_way(options(33).as_bytes()), Err(Reason::TooManyFields));
}

#[test]
fn fields_keep_their_order_and_spelling() {
    let bytes = b"GET / HTTP/1.1\r\nb: 1\r\nHOST: a\r\nA: 2\r\nb: 3\r\ncontent-TYPE:\r\n\r\n";
    with_request(bytes, |request| {
        let fields = request.head.fields;
        let names: Vec<_> = fields.iter().map(|field| show(field.name)).collect();
        let values: Vec<_> = fields.iter().map(|field| show(field.value)).collect();
        assert_eq!(names, ["b", "HOST", "A", "b", "content-TYPE"]);
        assert_eq!(values, ["1", "a", "2", "3", ""]);
        assert_eq!((fields.len(), fields.is_empty()), (5, false));
        assert_eq!(fields.get(Known::Host), Some(&b"a"[..]));
        assert_eq!(fields.get(Known::ContentType), Some(&b""[..]));
        assert_eq!(fields.get(Known::Upgrade), None);
        assert!(fields.into_iter().all(|field| !field.hop_by_hop));
    });
}

#[test]
fn what_is_only_for_this_hop_is_marked() {
    let bytes = b"POST / HTTP/1.1\r\nHost: a\r\nX: 1\r\nTE: trailers\r\nContent-Length: 5\r\n\
        Connection: x, host, content-length, expect, te\r\nExpect: 100-continue\r\nY: 2\r\n\r\n";
    with_request(bytes, |request| {
        let fields = request.head.fields.iter();
        let hop: Vec<_> = fields.filter(|f| f.hop_by_hop).map(|f| show(f.name)).collect();
        assert_eq!(hop, ["X", "TE", "Connection"]);
    });
}

#[test]
fn as_many_fields_as_the_parser_has_room_for() {
    let head = |fields: usize| {
        let mut bytes = Vec::from(&b"GET / HTTP/1.1\r\nHost: a\r\n"[..]);
        for n in 1..fields {
            bytes.extend_from_slice(format!("x{n}: {n}\r\n").as_bytes());
        }
        bytes.extend_from_slice(b"\r\n");
        bytes
    };
    let limits = Limits { header_count: Limits::MAX_HEADER_COUNT, ..Limits::default() };
    assert!(receive(&head(256), &[], &limits).is_ok_and(|got| got.is_some()));
    assert_eq!(receive(&head(257), &[], &limits), Err(Reason::TooManyFields));
    assert_eq!(receive(&head(257), &[5], &limits), Err(Reason::TooManyFields));
    let limits = Limits::default();
    assert!(receive(&head(128), &[], &limits).is_ok_and(|got| got.is_some()));
    assert_eq!(receive(&head(129), &[], &limits), Err(Reason::TooManyFields));
    assert_eq!(receive(&head(129), &[5], &limits), Err(Reason::TooManyFields));
}

#[test]
fn random_requests_are_judged_alike_however_they_are_cut() {
    let pieces: [&[u8]; 24] = [
        b"Host: a\r\n",
        b"Host:\r\n",
        b"Content-Length: 5\r\n",
        b"Content-Length: 6\r\n",
        b"Transfer-Encoding: chunked\r\n",
        b"Connection: close, X, upgrade\r\n",
        b"Connection: keep-alive\r\n",
        b"X: y\r\n",
        b"X:y \r\n",
        b"Upgrade: h2c, websocket\r\n",
        b"Expect: 100-continue\r\n",
        b"TE: trailers\r\n",
        b"Cookie: \xff\t \x80\r\n",
        b"X : y\r\n",
        b"X: y\n",
        b" folded\r\n",
        b"X: \0\r\n",
        b"X: \x7f\r\n",
        b"\r\n",
        b"\r",
        b"\n",
        b":\r\n",
        b"no colon\r\n",
        b"Keep-Alive: 5\r\n",
    ];
    let lines: [&[u8]; 8] = [
        b"GET / HTTP/1.1\r\n",
        b"\r\nPOST http://b/x HTTP/1.1\r\n",
        b"CONNECT a:1 HTTP/1.1\r\n",
        b"GET / HTTP/1.0\r\n",
        b"GET /\x7f HTTP/1.1\r\n",
        b"GE/T / HTTP/1.1\r\n",
        b"OPTIONS * HTTP/1.1\r\n",
        b"GET / HTTP/1.1\n",
    ];
    let mut dice = Dice(2);
    let mut good = 0;
    for _ in 0..2_000 {
        let mut bytes = Vec::from(lines[dice.roll(lines.len())]);
        for n in 0..=dice.roll(6) {
            // Mostly good ones, or nothing would ever pass.
            let most = if dice.roll(8) == 0 { pieces.len() } else { 13 };
            let piece = if n == 0 { 0 } else { dice.roll(most) };
            bytes.extend_from_slice(pieces[piece]);
        }
        bytes.extend_from_slice(b"\r\n");
        good += usize::from(every_way(&bytes).is_ok_and(|got| got.is_some()));
    }
    assert!((200..1_800).contains(&good), "{good}");
}
