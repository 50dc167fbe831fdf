//! What an idle connection holds, and what a busy one may.

use alloc::{format, vec};

use super::*;

#[test]
fn nothing_is_allocated_before_the_first_entry() {
    assert_eq!((size_of::<Decoder>(), size_of::<Encoder>()), (96, 168));
    let (mut encoder, mut decoder) = (Encoder::new(4096), Decoder::new(4096));
    let block = encode(&mut encoder, &[(":method", "GET"), ("date", "today"), ("x-a", "b")]);
    decode(&mut decoder, &block).expect("a good block");
    assert_eq!((decoder.heap_bytes(), encoder.heap_bytes()), (0, 0));
}

/// All four tables of a proxy's two connections, after a request or two: an idle connection may have
/// 4 KiB in all.
#[test]
fn a_request_leaves_little() {
    let request = [
        (":method", "POST"),
        (":scheme", "http"),
        (":path", "/helloworld.Greeter/SayHello"),
        (":authority", "greeter.default.svc.cluster.local:50051"),
        ("content-type", "application/grpc"),
        ("user-agent", "grpc-go/1.62.0"),
        ("te", "trailers"),
        ("grpc-accept-encoding", "identity,deflate,gzip"),
        ("grpc-timeout", "999872u"),
        ("traceparent", "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"),
    ];
    let response = [(":status", "200"), ("content-type", "application/grpc"), ("server", "envoy")];
    let mut most = 0;
    for fields in [&request[..], &response] {
        let (mut encoder, mut decoder) = (Encoder::new(4096), Decoder::new(4096));
        for _ in 0..3 {
            let block = encode(&mut encoder, fields);
            decode(&mut decoder, &block).expect("a good block");
        }
        most += decoder.heap_bytes() + encoder.heap_bytes();
    }
    assert!(most <= 1600, "{most}");
}

/// A table that is full, and one that was churned for long: a few times its size at most.
#[test]
fn a_full_table_is_bounded() {
    let (mut encoder, mut decoder) = (Encoder::new(4096), Decoder::new(4096));
    let mut most = (0, 0);
    for number in 0..20_000_usize {
        // From many small entries to few large ones.
        let value = "v".repeat(number / 10) + &format!("{number}");
        let block = encode(&mut encoder, &[("te", &value), ("server", &value)]);
        decode(&mut decoder, &block).expect("a good block");
        most = (most.0.max(decoder.heap_bytes()), most.1.max(encoder.heap_bytes()));
    }
    assert!(most.0 <= 12 * 1024 && most.1 <= 12 * 1024, "{most:?}");
}

/// Large strings pass through the arena; it does not stay so large.
#[test]
fn large_literals_leave_nothing() {
    let mut decoder = Decoder::new(4096);
    // 60,000 times `0`, in Huffman code: neither indexed, nor small enough to be.
    for pattern in [0x00, 0x10, 0x40] {
        let mut block = BytesMut::from(&[pattern, 1, b'a'][..]);
        integer::write(&mut block, 0x80, 7, 37_500);
        block.extend_from_slice(&vec![0; 37_500]);
        let fields = decode(&mut decoder, &block).expect("a good block");
        assert_eq!(fields, [(b"a".to_vec(), vec![b'0'; 60_000])]);
        assert!(decoder.heap_bytes() <= 1024, "{}", decoder.heap_bytes());
    }
}
