//! The codec as a whole; what a module does alone is tested in the file named after it.

mod attacks;
mod decoder;
mod encoder;
mod huffman;
mod memory;
mod policy;
mod vectors;

use alloc::vec::Vec;

use bytes::BytesMut;

use super::{Decoded, Decoder, Encoder, Error, integer};

/// Large enough for every test that is not about limits.
const LIMIT: usize = 1 << 20;

type Field = (Vec<u8>, Vec<u8>);

fn field(name: &str, value: &str) -> Field {
    (name.as_bytes().to_vec(), value.as_bytes().to_vec())
}

/// What a block decodes to, all of it.
fn decode(decoder: &mut Decoder, block: &[u8]) -> Result<Vec<Field>, Error> {
    let mut fields = Vec::new();
    let outcome = decoder.decode(block, LIMIT, |line| {
        fields.push((line.name.to_vec(), line.value.to_vec()));
    })?;
    assert_eq!(outcome, Decoded::Complete);
    Ok(fields)
}

/// One block of these fields.
fn encode(encoder: &mut Encoder, fields: &[(&str, &str)]) -> BytesMut {
    let mut out = BytesMut::new();
    encoder.begin(&mut out);
    for (name, value) in fields {
        encoder.field(&mut out, name.as_bytes(), value.as_bytes(), false);
    }
    out
}

/// A literal with incremental indexing and a new name; no string is Huffman-coded.
fn indexed(name: &[u8], value: &[u8]) -> Vec<u8> {
    let mut out = BytesMut::from(&[0x40][..]);
    for text in [name, value] {
        integer::write(&mut out, 0, 7, text.len());
        out.extend_from_slice(text);
    }
    out.to_vec()
}

fn hex(digits: &str) -> Vec<u8> {
    let digits: Vec<u8> = digits.bytes().filter(|digit| !digit.is_ascii_whitespace()).collect();
    digits
        .chunks(2)
        .map(|pair| {
            u8::from_str_radix(core::str::from_utf8(pair).expect("ASCII"), 16).expect("hex digits")
        })
        .collect()
}
