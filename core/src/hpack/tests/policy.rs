//! What is indexed, and how the rest is written.

use super::super::policy::looks_unique;
use super::*;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Table,
    Indexed,
    Plain,
    Never,
}
use Kind::{Indexed, Never, Plain, Table};

/// How a field was written, by its first octet.
fn kind(encoder: &mut Encoder, name: &str, value: &str) -> Kind {
    match encode(encoder, &[(name, value)])[0] {
        0x80.. => Table,
        0x40..0x80 => Indexed,
        0x10..0x20 => Never,
        octet => {
            assert!(octet < 0x10, "no field begins with {octet:x}");
            Plain
        }
    }
}

/// The first three times of a field.
fn kinds(name: &str, value: &str) -> [Kind; 3] {
    let mut encoder = Encoder::new(4096);
    [(); 3].map(|()| kind(&mut encoder, name, value))
}

#[test]
fn what_repeats_is_indexed_at_once() {
    for (name, value) in [
        (":authority", "web.example"),
        (":method", "PUT"),
        (":status", "503"),
        ("content-type", "application/grpc"),
        ("te", "trailers"),
        ("grpc-encoding", "gzip"),
        ("grpc-status", "0"),
        ("server", "envoy"),
        ("vary", "accept-encoding"),
    ] {
        assert_eq!(kinds(name, value), [Indexed, Table, Table], "{name}");
    }
}

#[test]
fn what_might_repeat_is_indexed_when_it_does() {
    for (name, value) in [
        (":path", "/pkg.v1.Service/Method"),
        (":path", "/api/v2/users"),
        ("user-agent", "grpc-go/1.60.1"),
        ("referer", "https://web.example/"),
        ("x-tenant", "blue"),
        ("x-forwarded-for", "10.0.0.1"),
        ("l5d-client-id", "web.ns.serviceaccount.identity.linkerd.cluster.local"),
        // Nothing is the one value of an id that comes again.
        ("grpc-message", ""),
    ] {
        assert_eq!(kinds(name, value), [Plain, Indexed, Table], "{name}");
    }
}

#[test]
fn what_does_not_repeat_is_not_indexed() {
    for (name, value) in [
        (":path", "/search?q=a"),
        (":path", "/items/4711"),
        ("x-request-id", "a"),
        ("traceparent", "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"),
        ("x-b3-traceid", "463ac35c9f6413ad"),
        ("x-b3-something", "1"),
        ("l5d-ctx-trace", "AAAA"),
        ("l5d-ctx-else", "AAAA"),
        ("date", "Mon, 21 Oct 2013 20:13:21 GMT"),
        ("content-length", "100"),
        ("etag", "\"a\""),
        ("last-modified", "Mon, 21 Oct 2013 20:13:21 GMT"),
        ("age", "1"),
        ("if-none-match", "\"a\""),
        ("if-something", "1"),
        ("cookie", "session=0123456789abcdef"),
        ("grpc-timeout", "1S"),
        ("grpc-message", "no"),
        ("grpc-status", "14"),
    ] {
        assert_eq!(kinds(name, value), [Plain; 3], "{name}: {value}");
    }
}

/// RFC 7541 §7.1.
#[test]
fn secrets_are_never_indexed() {
    for (name, value) in [
        ("authorization", "Bearer abc"),
        ("authorization", ""),
        ("proxy-authorization", "Basic abc"),
        ("set-cookie", "a=b"),
        ("cookie", "a=b"),
        ("cookie", "0123456789012345678"),
        ("x-api-key", "abc"),
        ("x-my-secret", "abc"),
        ("session_token", "abc"),
    ] {
        assert_eq!(kinds(name, value), [Never; 3], "{name}: {value}");
    }
    // A word is more than some of its letters.
    for name in ["x-author", "x-keyboard", "tokenizer"] {
        assert_eq!(kinds(name, "abc"), [Plain, Indexed, Table], "{name}");
    }
}

/// RFC 7541 §7.1.3: as it came, whatever the name, and though the same is in the table.
#[test]
fn what_came_never_indexed_goes_on_so() {
    let mut encoder = Encoder::new(4096);
    encode(&mut encoder, &[("te", "trailers")]);
    for (name, value) in [("te", "trailers"), (":method", "GET"), ("x-a", "b"), ("X-A", "b")] {
        for _ in 0..3 {
            let mut out = BytesMut::new();
            encoder.begin(&mut out);
            encoder.field(&mut out, name.as_bytes(), value.as_bytes(), true);
            assert_eq!(out[0] & 0xf0, 0x10, "{name}");
        }
    }
    assert_eq!(kind(&mut encoder, "te", "trailers"), Table);
}

#[test]
fn paths_with_ids_look_unique() {
    for path in [
        "/a?b",
        "/?",
        "/items/42",
        "/items/42/",
        "/42",
        "/users/550e8400-e29b-41d4-a716-446655440000/posts",
        "/commits/1a2b3c4d",
        "/orders/ORD-2024-00017",
        "/blobs/x7f3k29q81",
    ] {
        assert!(looks_unique(path.as_bytes()), "{path}");
    }
    for path in [
        "",
        "/",
        "*",
        "/index.html",
        "/v1/users",
        "/api/v2beta1/things",
        "/pkg.v1.Service/Method2",
        "/grpc.health.v1.Health/Check",
        "/deadbeef",
        "/facade/cafe-bad-decade",
        "/static/app.min.js",
    ] {
        assert!(!looks_unique(path.as_bytes()), "{path}");
    }
}

/// An id in each of 1,000 messages displaces nothing that repeats.
#[test]
fn ids_do_not_churn_the_table() {
    let mut encoder = Encoder::new(4096);
    let mut size = 0;
    for message in 0..1000 {
        let (id, span, tenant) = (
            alloc::format!("id-{message}"),
            alloc::format!("{}", message * 7919),
            alloc::format!("tenant-{}", message % 3),
        );
        let fields = [
            ("x-some-id", &id[..]),
            ("te", "trailers"),
            ("x-tenant", &tenant[..]),
            ("x-some-span", &span[..]),
            ("x-region", "eu-1"),
        ];
        let block = encode(&mut encoder, &fields);
        match message {
            ..=20 => size = encoder.table_bytes(),
            // Two ids in full, three octets for the rest.
            _ => assert!(block.len() < 50, "{message}: {block:x?}"),
        }
    }
    assert_eq!(encoder.table_bytes(), size);
}
