//! What must hold of HPACK whatever the bytes are.
//!
//! As in [`codec`](crate::codec), each function takes bytes as a fuzzer makes them, and what does not
//! hold is a panic.

use bytes::BytesMut;
use selvedge_core::hpack::{Decoded, Decoder, ENTRY_OVERHEAD, Encoder, Error};

use crate::choose::{Bytes, Choose, pick};

/// One field.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Field {
    /// Its name, in lower case if it was decoded.
    pub name: Vec<u8>,
    /// Its value.
    pub value: Vec<u8>,
    /// Must it never enter a table?
    pub never_indexed: bool,
}

/// What a `SETTINGS_HEADER_TABLE_SIZE` may say: around the sizes of entries, and the usual ones.
pub const TABLE_SIZES: [u32; 9] = [4096, 0, 31, 33, 64, 200, 1000, 8192, 65536];

/// No script is longer.
const BLOCKS: usize = 200;

/// Names from the static table, of gRPC and of meshes, of secrets, and others.
const NAMES: [&[u8]; 20] = [
    b"x-a",
    b":method",
    b":path",
    b":authority",
    b":status",
    b":scheme",
    b"accept-encoding",
    b"authorization",
    b"content-type",
    b"Content-Length",
    b"cookie",
    b"set-cookie",
    b"date",
    b"te",
    b"grpc-status",
    b"grpc-timeout",
    b"traceparent",
    b"l5d-client-id",
    b"X-Tenant",
    b"x-a-name-that-is-longer-than-all-those-that-anybody-knows-and-needs-more-than-one-octet",
];

const VALUES: [&[u8]; 12] = [
    b"",
    b"0",
    b"200",
    b"GET",
    b"https",
    b"/",
    b"/pkg.v1.Service/Method",
    b"/items/4711?a=b",
    b"application/grpc",
    b"gzip, deflate",
    b"{\"^~`<>[]\\@#$|'+!(\x7f\x80\xff\x00\x0a",
    b"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
];

/// The fields of one block; `seen` are those of the blocks before it, some of which come again.
pub fn fields(choose: &mut dyn Choose, seen: &mut Vec<Field>) -> Vec<Field> {
    let count = choose.below(12);
    (0..count)
        .map(|_| {
            if !seen.is_empty() && choose.flip() {
                return seen[choose.below(seen.len())].clone();
            }
            let name = pick(choose, &NAMES).to_vec();
            let value = match choose.below(8) {
                0 => b"v".repeat(choose.below(300)),
                1 => (0..choose.below(40)).map(|_| choose.below(256) as u8).collect(),
                2 => choose.below(1 << 20).to_string().into_bytes(),
                // Most of a table, or more.
                3 if choose.one_in(8) => b"long".repeat(choose.below(2000)),
                _ => pick(choose, &VALUES).to_vec(),
            };
            let field = Field { name, value, never_indexed: choose.one_in(10) };
            if seen.len() < 64 {
                seen.push(field.clone());
            }
            field
        })
        .collect()
}

/// One block of these fields.
pub fn encode(encoder: &mut Encoder, fields: &[Field]) -> BytesMut {
    let mut block = BytesMut::new();
    encoder.begin(&mut block);
    for Field { name, value, never_indexed } in fields {
        encoder.field(&mut block, name, value, *never_indexed);
    }
    block
}

/// What a block says, up to `limit`.
///
/// # Errors
/// If it is malformed.
pub fn decode(
    decoder: &mut Decoder,
    block: &[u8],
    limit: usize,
) -> Result<(Decoded, Vec<Field>), Error> {
    let mut fields = Vec::new();
    let outcome = decoder.decode(block, limit, |line| {
        let (name, value) = (line.name.to_vec(), line.value.to_vec());
        fields.push(Field { name, value, never_indexed: line.never_indexed });
    })?;
    Ok((outcome, fields))
}

/// What arrived is what was sent, but for the case of names and for secrets that the encoder knows
/// of itself.
fn assert_arrived(sent: &[Field], received: &[Field]) {
    assert_eq!(sent.len(), received.len());
    for (sent, received) in sent.iter().zip(received) {
        assert_eq!(sent.name.to_ascii_lowercase(), received.name);
        assert_eq!(sent.value, received.value);
        assert!(received.never_indexed || !sent.never_indexed, "a secret was exposed: {sent:?}");
    }
}

/// An encoder and a decoder agree through any blocks and any settings, and both stay small.
pub fn hpack_roundtrip(data: &[u8]) {
    let mut choose = Bytes::new(data);
    let most = pick(&mut choose, &TABLE_SIZES);
    let (mut encoder, mut decoder) = (Encoder::new(most), Decoder::new(4096));
    let (mut seen, mut limit) = (Vec::new(), 4096);
    for _ in 0..BLOCKS {
        if choose.is_exhausted() {
            break;
        }
        // Settings that are acknowledged between two blocks: each counts.
        for _ in 0..[0, 0, 0, 1, 2, 3][choose.below(6)] {
            limit = pick(&mut choose, &TABLE_SIZES);
            encoder.set_peer_limit(limit);
            decoder.set_limit(limit);
        }
        let sent = fields(&mut choose, &mut seen);
        let block = encode(&mut encoder, &sent);
        let (outcome, received) =
            decode(&mut decoder, &block, usize::MAX).expect("what was encoded is good");
        assert_eq!(outcome, Decoded::Complete);
        assert_arrived(&sent, &received);
        assert_eq!(encoder.table_bytes(), decoder.table_bytes(), "tables out of step");
        let size = limit.min(most) as usize;
        assert!(decoder.table_bytes() <= size, "{} of {size}", decoder.table_bytes());
    }
    let bound = 6 * 65536;
    assert!(encoder.heap_bytes() <= bound && decoder.heap_bytes() <= bound);
}

/// Any blocks decode the same whatever the limit, up to it; are errors or can be sent on; and leave
/// a table within its bounds.
pub fn hpack_decode(data: &[u8]) {
    let (choices, mut bytes) = data.split_at(data.len().min(6));
    let mut choose = Bytes::new(choices);
    let setting = pick(&mut choose, &TABLE_SIZES);
    let limit = pick(&mut choose, &[65536, 0, 32, 100, 1000, usize::MAX]);
    let cut = 1 + choose.below(1 << 12);
    let (mut whole, mut limited) = (Decoder::new(setting), Decoder::new(setting));
    let (mut encoder, mut further) = (Encoder::new(4096), Decoder::new(4096));
    while let Some((block, rest)) = bytes.split_at_checked(cut.min(bytes.len())) {
        if block.is_empty() {
            break;
        }
        bytes = rest;
        let result = decode(&mut whole, block, usize::MAX);
        let within = decode(&mut limited, block, limit);
        let (outcome, fields) = match result {
            Ok(decoded) => decoded,
            Err(error) => {
                assert_eq!(within, Err(error), "the limit makes no error");
                return;
            }
        };
        assert_eq!(outcome, Decoded::Complete);
        assert_limited(&fields, &within.expect("as without a limit"), limit);
        assert_eq!(whole.table_bytes(), limited.table_bytes(), "tables out of step");
        let size = setting.max(4096) as usize;
        assert!(whole.table_bytes() <= size && whole.heap_bytes() <= 6 * size);
        let forwarded = encode(&mut encoder, &fields);
        let (_, received) = decode(&mut further, &forwarded, usize::MAX).expect("a good block");
        assert_arrived(&fields, &received);
    }
}

/// `limited` is what of `fields` fits `limit`.
fn assert_limited(fields: &[Field], limited: &(Decoded, Vec<Field>), limit: usize) {
    let mut left = limit;
    let fitting = fields.iter().take_while(|field| {
        let size = field.name.len() + field.value.len() + ENTRY_OVERHEAD;
        left.checked_sub(size).map(|rest| left = rest).is_some()
    });
    let fitting = fitting.count();
    let outcome = if fitting == fields.len() { Decoded::Complete } else { Decoded::TooLarge };
    assert_eq!(*limited, (outcome, fields[..fitting].to_vec()));
}
