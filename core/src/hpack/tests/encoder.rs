//! What the encoder writes.

use super::*;

#[test]
fn what_is_written_is_read_and_the_second_time_it_is_short() {
    let fields = [
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
    let expected: Vec<Field> = fields.iter().map(|(name, value)| field(name, value)).collect();
    let (mut encoder, mut decoder) = (Encoder::new(4096), Decoder::new(4096));
    let mut lens = Vec::new();
    for _ in 0..3 {
        let block = encode(&mut encoder, &fields);
        assert_eq!(decode(&mut decoder, &block), Ok(expected.clone()));
        lens.push(block.len());
    }
    assert_eq!(lens[2], fields.len(), "{lens:?} {encoder:?}");
    assert!(lens[0] > lens[1] && lens[1] > lens[2], "{lens:?}");
}
