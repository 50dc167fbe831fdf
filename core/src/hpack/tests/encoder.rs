//! What the encoder writes.

use alloc::format;
use alloc::string::String;

use super::super::static_table::STATIC_TABLE;
use super::*;

const CALL: [(&str, &str); 9] = [
    (":method", "POST"),
    (":scheme", "http"),
    (":path", "/pkg.v1.Service/Method"),
    (":authority", "service.ns.svc.cluster.local:8080"),
    ("content-type", "application/grpc"),
    ("te", "trailers"),
    ("grpc-accept-encoding", "identity,deflate,gzip"),
    ("user-agent", "grpc-go/1.60.1"),
    ("x-tenant", "blue"),
];

fn fields(list: &[(&str, &str)]) -> Vec<Field> {
    list.iter().map(|(name, value)| field(name, value)).collect()
}

#[test]
fn the_third_time_an_octet_each() {
    let (mut encoder, mut decoder) = (Encoder::new(4096), Decoder::new(4096));
    let mut lens = Vec::new();
    for _ in 0..3 {
        let block = encode(&mut encoder, &CALL);
        assert_eq!(decode(&mut decoder, &block), Ok(fields(&CALL)));
        assert_eq!(decoder.table_bytes(), encoder.table_bytes());
        lens.push(block.len());
    }
    assert_eq!(lens[2], CALL.len());
    assert!(lens[0] > lens[1] && lens[1] > lens[2], "{lens:?}");
}

/// In any order, with some left out, what is in the table is found.
#[test]
fn order_does_not_matter() {
    let (mut encoder, mut decoder) = (Encoder::new(4096), Decoder::new(4096));
    for _ in 0..2 {
        let block = encode(&mut encoder, &CALL);
        decode(&mut decoder, &block).expect("a good block");
    }
    for start in 0..CALL.len() {
        for step in [1, 2, 4, 5, 7, 8] {
            let list: Vec<_> = (0..CALL.len() - start)
                .map(|index| CALL[(start + step * index) % CALL.len()])
                .collect();
            let block = encode(&mut encoder, &list);
            assert_eq!(block.len(), list.len(), "{list:?}");
            assert_eq!(decode(&mut decoder, &block), Ok(fields(&list)));
        }
    }
}

#[test]
fn static_entries_take_an_octet() {
    for (index, (name, value)) in (1_u8..).zip(STATIC_TABLE) {
        let mut out = BytesMut::new();
        Encoder::new(4096).indexed_static(&mut out, index);
        let expected = [(name.to_vec(), value.to_vec())].to_vec();
        assert_eq!(decode(&mut Decoder::new(4096), &out), Ok(expected));
        // As a field too, but for secrets.
        let mut field = BytesMut::new();
        Encoder::new(4096).field(&mut field, name, value, false);
        let secret = [&b"authorization"[..], b"cookie", b"proxy-authorization", b"set-cookie"];
        assert_eq!(field == out, !secret.contains(&name), "{index}");
    }
}

#[test]
fn every_status() {
    let (mut encoder, mut decoder) = (Encoder::new(4096), Decoder::new(4096));
    for status in 100..=999 {
        for _ in 0..2 {
            let mut out = BytesMut::new();
            encoder.begin(&mut out);
            encoder.status(&mut out, status);
            let expected = [field(":status", &format!("{status}"))].to_vec();
            assert_eq!(decode(&mut decoder, &out), Ok(expected));
        }
    }
}

/// RFC 9113 §8.2.1: names go out in lower case, also those that are too long to be looked up.
#[test]
fn names_are_written_in_lower_case() {
    let (mut encoder, mut decoder) = (Encoder::new(4096), Decoder::new(4096));
    for len in 1..200 {
        for at in [0, len / 2, len - 1] {
            for letter in [b'A', b'Q', b'Z'] {
                let mut name = alloc::vec![b'-'; len];
                name[at] = letter;
                let mut out = BytesMut::new();
                encoder.field(&mut out, &name, b"v", false);
                let lower = name.to_ascii_lowercase();
                let expected = [(lower, b"v".to_vec())].to_vec();
                assert_eq!(decode(&mut decoder, &out), Ok(expected), "{len} {at}");
            }
        }
    }
    // What is beside the letters stays as it is.
    let name: Vec<u8> = (0..=255).filter(|octet: &u8| !octet.is_ascii_uppercase()).collect();
    let mut out = BytesMut::new();
    encoder.field(&mut out, &name, b"v", false);
    assert_eq!(decode(&mut decoder, &out), Ok([(name, b"v".to_vec())].to_vec()));
}

#[test]
fn case_does_not_matter_for_finding() {
    let mut encoder = Encoder::new(4096);
    encode(&mut encoder, &[("Content-Type", "text/plain"), ("x-Tenant", "a")]);
    encode(&mut encoder, &[("X-TENANT", "a")]);
    assert_eq!(encode(&mut encoder, &[("content-type", "text/plain")]).len(), 1);
    assert_eq!(encode(&mut encoder, &[("x-tenant", "a"), ("CONTENT-TYPE", "text/plain")]).len(), 2);
}

/// A name of its own is written once, while an entry with it is there.
#[test]
fn names_of_entries_are_used() {
    let (mut encoder, mut decoder) = (Encoder::new(4096), Decoder::new(4096));
    for value in ["a", "a", "b", "c", "b"] {
        let block = encode(&mut encoder, &[("x-tenant", value)]);
        assert_eq!(decode(&mut decoder, &block), Ok([field("x-tenant", value)].to_vec()));
        assert!(value == "a" || block.len() <= 5, "{value}: {block:x?}");
    }
}

/// RFC 7541 §4.2: what the peer's settings make the next block begin with.
#[test]
fn size_updates() {
    let cases: [(u32, &[u32], &str); 13] = [
        (4096, &[], ""),
        (4096, &[4096], ""),
        (4096, &[65536], ""),
        (65536, &[65536], "3fe1ff03"),
        (65536, &[8192], "3fe13f"),
        (8192, &[65536], "3fe13f"),
        (4096, &[0], "20"),
        (4096, &[100, 50], "3f13"),
        // The smallest and the last.
        (4096, &[0, 4096], "203fe11f"),
        (4096, &[50, 100], "3f133f45"),
        (4096, &[100, 50, 4096, 200], "3f133fa901"),
        // Less than the peer allows by default: it is told.
        (100, &[], "3f45"),
        (100, &[0, 4096], "203f45"),
    ];
    for (max, limits, expected) in cases {
        let mut encoder = Encoder::new(max);
        for &limit in limits {
            encoder.set_peer_limit(limit);
        }
        let mut out = BytesMut::new();
        encoder.begin(&mut out);
        assert_eq!(out, hex(expected), "{max} {limits:?}");
        encoder.begin(&mut out);
        assert_eq!(out, hex(expected), "it is said once");
    }
}

/// With no table at all everything still arrives.
#[test]
fn a_peer_without_a_table() {
    let (mut encoder, mut decoder) = (Encoder::new(4096), Decoder::new(4096));
    encode(&mut encoder, &CALL);
    encoder.set_peer_limit(0);
    assert_eq!(encoder.table_bytes(), 0);
    let mut decoder_of_none = |encoder: &mut Encoder| {
        let block = encode(encoder, &CALL);
        assert_eq!(decode(&mut decoder, &block), Ok(fields(&CALL)));
        assert_eq!((encoder.table_bytes(), decoder.table_bytes()), (0, 0));
    };
    decoder_of_none(&mut encoder);
    decoder_of_none(&mut encoder);
}

/// Entries come and go; both tables hold the same, and what is not evicted is found.
#[test]
fn tables_stay_in_step_through_eviction() {
    for size in [0, 33, 64, 100, 300, 1000, 4096] {
        let (mut encoder, mut decoder) = (Encoder::new(4096), Decoder::new(4096));
        encoder.set_peer_limit(size);
        let mut random = 1_u64;
        for _ in 0..2000 {
            let list: Vec<(String, String)> = (0..6)
                .map(|_| {
                    random =
                        random.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
                    let choice = random >> 40;
                    (format!("x-name-{}", choice % 7), "v".repeat((choice >> 8) as usize % 40))
                })
                .collect();
            let list: Vec<(&str, &str)> =
                list.iter().map(|(name, value)| (&name[..], &value[..])).collect();
            let block = encode(&mut encoder, &list);
            assert_eq!(decode(&mut decoder, &block), Ok(fields(&list)));
            assert_eq!(decoder.table_bytes(), encoder.table_bytes());
            assert!(encoder.table_bytes() <= size as usize);
        }
    }
}

/// The numbers of entries wrap around.
#[test]
fn more_entries_than_numbers() {
    let (mut encoder, mut decoder) = (Encoder::new(4096), Decoder::new(4096));
    for number in 0..70_000 {
        let value = format!("{number}");
        let list = [("server", &value[..]), ("te", "trailers"), ("server", &value[..])];
        let block = encode(&mut encoder, &list);
        assert_eq!(decode(&mut decoder, &block), Ok(fields(&list)));
        // The second time it is in the table.
        assert_eq!(block.last().map(|octet| octet & 0x80), Some(0x80));
    }
}
