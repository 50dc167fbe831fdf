//! Integers with a prefix (RFC 7541 §5.1).
//!
//! ```text
//!   0   1   2   3   4   5   6   7
//! +---+---+---+---+---+---+---+---+
//! | pattern   |       prefix      |  all ones: the rest follows,
//! +---+---+---+-------------------+
//! | 1 |    seven bits, the least  |  significant first;
//! +---+---------------------------+
//! | 0 |          the last         |
//! +---+---------------------------+
//! ```

use bytes::BytesMut;

use super::error::Error;

/// No integer that means anything needs more than 32 bits; the RFC lets a decoder draw the line.
const MAX_CONTINUATION: usize = 5;

/// The integer whose first octet, already read, is `first`, with a prefix of `prefix` bits.
#[inline]
pub(super) fn read(first: u8, prefix: u32, input: &mut &[u8]) -> Result<u32, Error> {
    let mask = (1 << prefix) - 1;
    let value = u32::from(first) & mask;
    if value < mask { Ok(value) } else { read_long(mask, input) }
}

#[cold]
fn read_long(mask: u32, input: &mut &[u8]) -> Result<u32, Error> {
    let mut value = u64::from(mask);
    for (index, &octet) in input.iter().take(MAX_CONTINUATION).enumerate() {
        value += u64::from(octet & 0x7f) << (7 * index);
        if octet & 0x80 == 0 {
            *input = &input[index + 1..];
            return u32::try_from(value).map_err(|_| Error::IntegerOverflow);
        }
    }
    // What is there already needs another octet.
    Err(if input.len() < MAX_CONTINUATION { Error::Truncated } else { Error::IntegerOverflow })
}

/// Writes `value` with a prefix of `prefix` bits below the bits of `pattern`.
#[inline]
pub(super) fn write(out: &mut BytesMut, pattern: u8, prefix: u32, value: usize) {
    let mask = (1 << prefix) - 1;
    if value < mask {
        push(out, pattern | value as u8);
    } else {
        push(out, pattern | mask as u8);
        write_long(out, value - mask);
    }
}

fn write_long(out: &mut BytesMut, mut value: usize) {
    while value >= 0x80 {
        push(out, value as u8 | 0x80);
        value >>= 7;
    }
    push(out, value as u8);
}

/// Appends one octet. `put_u8` of `BytesMut` takes a call and a copy of unknown length for it.
#[inline]
pub(super) fn push(out: &mut BytesMut, octet: u8) {
    out.extend_from_slice(&[octet]);
}
