extern crate std;

use alloc::string::String;
use std::vec::Vec;

use super::grammar::{Decimal, is_tchar, is_token, is_value, is_value_byte, list, number, trim};
use super::hop::{is_forbidden_in_trailers, is_hop_by_hop};
use super::*;
use crate::error::Reason;

/// The normal form of `authority`, or why there is none.
fn normal(authority: &[u8]) -> Result<String, Reason> {
    let mut out = String::from("left over");
    authority::normalize(authority, 80, &mut out)?;
    assert_eq!(authority::validate(authority), Ok(()));
    Ok(out)
}

#[test]
fn authorities_have_one_normal_form() {
    for (authority, expected) in [
        ("Web.Example", "web.example:80"),
        ("web.example:80", "web.example:80"),
        ("web.example:", "web.example:80"),
        ("WEB.EXAMPLE:8080", "web.example:8080"),
        ("web.example:00080", "web.example:80"),
        ("web.example.", "web.example:80"),
        ("Web.Example.:8080", "web.example:8080"),
        // No names, but nobody else's either.
        (".", ".:80"),
        ("a..", "a..:80"),
        ("web_1.example~x", "web_1.example~x:80"),
        ("xn--bcher-kva.example", "xn--bcher-kva.example:80"),
        ("a%2Db", "a%2db:80"),
        ("!$&'()*+;=", "!$&'()*+;=:80"),
        ("10.0.0.1:65535", "10.0.0.1:65535"),
        ("10.0.0.1:0", "10.0.0.1:0"),
        ("[::1]", "[::1]:80"),
        ("[::1]:8080", "[::1]:8080"),
        ("[::1]:", "[::1]:80"),
        ("[2001:DB8:0:0::1]:443", "[2001:db8::1]:443"),
        ("[::ffff:10.0.0.1]", "[::ffff:10.0.0.1]:80"),
        ("localhost", "localhost:80"),
        ("x", "x:80"),
    ] {
        assert_eq!(normal(authority.as_bytes()).as_deref(), Ok(expected), "{authority}");
        assert_eq!(normal(expected.as_bytes()).as_deref(), Ok(expected), "twice: {authority}");
    }
}

#[test]
fn what_is_not_host_and_port_is_refused() {
    for authority in [
        "",
        ":80",
        "user@web.example",
        "user:password@web.example",
        "web.example/path",
        "web.example?query",
        "web.example#fragment",
        "web.example\\",
        "web example",
        " web.example",
        "web.example ",
        "web.example\t",
        "a.example,b.example",
        "a.example, b.example",
        "web.example:80:80",
        "web.example:+80",
        "web.example:-1",
        "web.example:8o",
        "web.example:0x50",
        "web.example: 80",
        "web.example:65536",
        "web.example:000080",
        "web.example:99999999999999999999",
        "[::1",
        "::1",
        "[::1]80",
        "[::1]:x",
        "[::1]x:80",
        "[]",
        "[]:80",
        "[::1%25eth0]",
        "[::1%eth0]",
        "[v1.x]",
        "[10.0.0.1]",
        "[1:2:3:4:5:6:7:8:9]",
        "[::1]]",
        "[[::1]]",
        "a[::1]",
        "web.exam%",
        "web.exam%4",
        "web.exam%4g",
        "web.exam%%41",
        "\u{fc}ber.example",
        "web\0.example",
        "web.example\u{7f}",
        "\"web.example\"",
        "<web.example>",
        "web.example|x",
        "web{x}",
        "web^x",
        "web`x",
    ] {
        let mut out = String::from("left over");
        let result = authority::normalize(authority.as_bytes(), 80, &mut out);
        assert_eq!(result, Err(Reason::HostInvalid), "{authority:?}");
        assert_eq!(out, "", "{authority:?}");
        assert_eq!(authority::validate(authority.as_bytes()), Err(Reason::HostInvalid));
    }
    for byte in 0x80..=0xff {
        assert_eq!(authority::validate(&[b'a', byte]), Err(Reason::HostInvalid));
    }
}

#[test]
fn only_methods_registered_as_idempotent_are() {
    for method in ["GET", "HEAD", "OPTIONS", "TRACE", "PUT", "DELETE", "PROPFIND", "QUERY"] {
        assert!(method::is_idempotent(method.as_bytes()), "{method}");
    }
    for method in ["POST", "PATCH", "CONNECT", "LOCK", "get", "GETS", "", "PRI"] {
        assert!(!method::is_idempotent(method.as_bytes()), "{method}");
    }
}

const KNOWN: [(&str, Known); 14] = [
    ("te", Known::Te),
    ("host", Known::Host),
    ("expect", Known::Expect),
    ("trailer", Known::Trailer),
    ("upgrade", Known::Upgrade),
    ("connection", Known::Connection),
    ("keep-alive", Known::KeepAlive),
    ("grpc-status", Known::GrpcStatus),
    ("content-type", Known::ContentType),
    ("l5d-client-id", Known::ClientId),
    ("content-length", Known::ContentLength),
    ("http2-settings", Known::Http2Settings),
    ("proxy-connection", Known::ProxyConnection),
    ("transfer-encoding", Known::TransferEncoding),
];

#[test]
fn known_fields_are_recognised_in_any_case() {
    for (name, known) in KNOWN {
        assert_eq!(Known::of(name.as_bytes()), known, "{name}");
        assert_eq!(Known::of(name.to_ascii_uppercase().as_bytes()), known, "{name}");
    }
}

#[test]
fn one_other_byte_makes_another_field() {
    for (name, known) in KNOWN {
        for at in 0..name.len() {
            for byte in (0x20..=0xffu8).filter(|&byte| is_tchar(byte)) {
                let mut other = Vec::from(name);
                if other[at].eq_ignore_ascii_case(&byte) {
                    continue;
                }
                other[at] = byte;
                assert_eq!(Known::of(&other), Known::Other, "{:?}", core::str::from_utf8(&other));
            }
            let mut short = Vec::from(name);
            short.remove(at);
            assert_ne!(Known::of(&short), known);
        }
    }
    assert_eq!(Known::of(b""), Known::Other);
    assert_eq!(Known::of(b"x-content-length-x"), Known::Other);
}

#[test]
fn what_is_for_one_hop_and_what_may_not_trail() {
    let hop: Vec<&str> =
        KNOWN.iter().filter(|(_, known)| is_hop_by_hop(*known)).map(|(name, _)| *name).collect();
    assert_eq!(
        hop,
        [
            "te",
            "upgrade",
            "connection",
            "keep-alive",
            "l5d-client-id",
            "http2-settings",
            "proxy-connection",
            "transfer-encoding"
        ]
    );
    for name in hop {
        assert!(is_forbidden_in_trailers(name.as_bytes()), "{name}");
    }
    for name in ["Host", "Content-Length", "Authorization", "Set-Cookie", "Content-Type", "Range"] {
        assert!(is_forbidden_in_trailers(name.as_bytes()), "{name}");
    }
    for name in ["grpc-status", "grpc-message", "X-Checksum", "Digest", "Server-Timing", "ETag"] {
        assert!(!is_forbidden_in_trailers(name.as_bytes()), "{name}");
    }
}

#[test]
fn tokens_and_values_hold_what_the_grammar_allows() {
    let tchars: Vec<u8> = (0..=255).filter(|&byte| is_tchar(byte)).collect();
    let expected = b"!#$%&'*+-.0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ^_`abcdefghijklmnopqrstuvwxyz|~";
    assert_eq!(tchars, expected);
    assert!(is_token(b"a-b") && !is_token(b"") && !is_token(b"a b"));
    for at in 0..20 {
        for byte in 0..=255 {
            let mut value = [b'a'; 20];
            value[at] = byte;
            assert_eq!(is_value(&value), is_value_byte(byte), "{byte} at {at}");
            value[(at + 1) % 20] = b'\t';
            assert_eq!(is_value(&value), is_value_byte(byte), "{byte} at {at}");
        }
    }
    let refused: Vec<u8> = (0..=255).filter(|&byte| !is_value_byte(byte)).collect();
    let controls: Vec<u8> = (0..0x20).filter(|&byte| byte != b'\t').chain([0x7f]).collect();
    assert_eq!(refused, controls);
}

#[test]
fn lists_and_numbers() {
    let elements: Vec<&[u8]> = list(b" a ,\tb\t,, c d,").collect();
    assert_eq!(elements, [&b"a"[..], b"b", b"", b"c d", b""]);
    assert_eq!(trim(b" \t "), b"");
    for (digits, expected) in [
        ("0", Some(0)),
        ("00012", Some(12)),
        ("18446744073709551615", Some(u64::MAX)),
        ("18446744073709551616", None),
        ("99999999999999999999", None),
        ("", None),
        ("-1", None),
        ("+1", None),
        ("1 ", None),
        ("1_0", None),
        ("0x1", None),
        ("\u{661}", None),
    ] {
        assert_eq!(number(digits.as_bytes()), expected, "{digits}");
    }
    for value in [0, 9, 10, 99, 100, 65535, u64::MAX] {
        assert_eq!(number(Decimal::new(value).as_bytes()), Some(value));
    }
    assert_eq!(Decimal::new(0).as_bytes(), b"0");
    assert_eq!(Decimal::new(u64::MAX).as_bytes(), b"18446744073709551615");
}
