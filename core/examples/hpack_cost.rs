//! A warm header block of gRPC, decoded or encoded: for counting instructions.
//!
//! `valgrind --tool=callgrind target/release/examples/hpack_cost PART BLOCK COUNT`, where PART is
//! `decode` or `encode` and BLOCK one of those below, or `huffman`, which is only decoded: the difference between two counts is the cost
//! of a block, without start-up and the first ones, which fill the tables. `.ci/instructions` does
//! this.

use std::env;
use std::hint::black_box;

use bytes::BytesMut;
use selvedge_core::hpack::{Decoded, Decoder, Encoder};

/// The last two fields of [`REQUEST`] as most others write them: literals in Huffman code.
#[rustfmt::skip]
const HUFFMAN: &[u8] = &[
    0x00, 0x89, 0x9a, 0xca, 0xc8, 0xb2, 0x4d, 0x49, 0x4f, 0x6a, 0x7f, 0x86, 0x7d, 0xf7, 0xde, 0x74, 0x56, 0xff, 0x00, 0x88,
    0x4d, 0x83, 0x21, 0x6b, 0x1d, 0x85, 0xa9, 0x3f, 0xa7, 0x00, 0x16, 0x6a, 0x39, 0x5f, 0x14, 0xac, 0xb6, 0xeb, 0xb1, 0xb2,
    0xd4, 0x83, 0x70, 0x6c, 0x90, 0xaf, 0x89, 0xf9, 0x00, 0x50, 0x15, 0xa7, 0x59, 0x71, 0x60, 0x02, 0x50, 0x38, 0xe8, 0xc6,
    0x08, 0xc6, 0xf8, 0x05, 0x1b, 0xab, 0x00, 0x3f,
];

type Fields = &'static [(&'static str, &'static str)];

/// A unary call as grpc-go makes it, with a deadline and a trace.
const REQUEST: Fields = &[
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

/// Ten fields that all repeat.
const REPEATED: Fields = &[
    (":method", "POST"),
    (":scheme", "http"),
    (":path", "/helloworld.Greeter/SayHello"),
    (":authority", "greeter.default.svc.cluster.local:50051"),
    ("content-type", "application/grpc"),
    ("user-agent", "grpc-go/1.62.0"),
    ("te", "trailers"),
    ("grpc-accept-encoding", "identity,deflate,gzip"),
    ("x-tenant", "blue"),
    ("accept-encoding", "identity"),
];

const RESPONSE: Fields = &[
    (":status", "200"),
    ("content-type", "application/grpc"),
    ("grpc-accept-encoding", "identity,deflate,gzip"),
    ("date", "Mon, 21 Oct 2013 20:13:21 GMT"),
];

const TRAILERS: Fields = &[("grpc-status", "0"), ("grpc-message", "")];

const BLOCKS: [(&str, Fields); 4] =
    [("request", REQUEST), ("repeated", REPEATED), ("response", RESPONSE), ("trailers", TRAILERS)];

fn encode(encoder: &mut Encoder, fields: Fields, out: &mut BytesMut) {
    encoder.begin(out);
    for (name, value) in fields {
        encoder.field(out, name.as_bytes(), value.as_bytes(), false);
    }
}

/// What comes after the blocks that fill the tables.
fn warm(fields: Fields, decoder: &mut Decoder, encoder: &mut Encoder) -> BytesMut {
    let mut block = BytesMut::with_capacity(4096);
    for _ in 0..3 {
        block.clear();
        encode(encoder, fields, &mut block);
        let mut at = 0;
        let outcome = decoder.decode(&block, 64 * 1024, |line| {
            let expected = (fields[at].0.as_bytes(), fields[at].1.as_bytes());
            assert_eq!((line.name, line.value), expected);
            at += 1;
        });
        assert_eq!((outcome, at), (Ok(Decoded::Complete), fields.len()));
    }
    block
}

fn decode(decoder: &mut Decoder, block: &[u8], count: usize) {
    for _ in 0..count {
        let outcome = decoder.decode(black_box(block), 64 * 1024, |line| {
            black_box(line);
        });
        assert_eq!(outcome, Ok(Decoded::Complete));
    }
}

fn run(part: &str, fields: Fields, count: usize) {
    let (mut decoder, mut encoder) = (Decoder::new(4096), Encoder::new(4096));
    let mut block = warm(fields, &mut decoder, &mut encoder);
    let len = block.len();
    if part == "decode" {
        return decode(&mut decoder, &block, count);
    }
    for _ in 0..count {
        block.clear();
        encode(&mut encoder, black_box(fields), &mut block);
        assert_eq!(block.len(), len);
    }
}

fn main() {
    let args: Vec<String> = env::args().skip(1).collect();
    let [part, name, count] = &args[..] else {
        // Without arguments, one of each, and what they take.
        decode(&mut Decoder::new(4096), HUFFMAN, 1);
        for (name, fields) in BLOCKS {
            let (mut decoder, mut encoder) = (Decoder::new(4096), Encoder::new(4096));
            let block = warm(fields, &mut decoder, &mut encoder);
            let memory = (decoder.heap_bytes(), encoder.heap_bytes());
            println!("{name}: {} octets; tables of {memory:?} bytes", block.len());
            run("decode", fields, 1);
            run("encode", fields, 1);
        }
        return;
    };
    let count = count.parse().expect("a count");
    if name == "huffman" {
        return decode(&mut Decoder::new(4096), HUFFMAN, count);
    }
    let (_, fields) = BLOCKS.iter().find(|(block, _)| block == name).expect("a block");
    run(part, fields, count);
}
