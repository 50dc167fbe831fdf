//! The Huffman code (RFC 7541 §5.2 and Appendix B).
//!
//! It is canonical: codes of one length are consecutive and in the order of their symbols, and a
//! longer code is above all shorter ones. So the lengths say everything, and all tables are computed
//! from them while compiling (under 5 KiB for decoding, 1 KiB for encoding).

use alloc::vec::Vec;

use bytes::{BufMut, BytesMut};

use super::error::Error;

/// How many bits the code of each symbol has.
#[rustfmt::skip]
static LENGTHS: [u8; 256] = LENGTHS_OF;
#[rustfmt::skip]
const LENGTHS_OF: [u8; 256] = [
    13, 23, 28, 28, 28, 28, 28, 28, 28, 24, 30, 28, 28, 30, 28, 28, // 0x00
    28, 28, 28, 28, 28, 28, 30, 28, 28, 28, 28, 28, 28, 28, 28, 28, // 0x10
    6, 10, 10, 12, 13, 6, 8, 11, 10, 10, 8, 11, 8, 6, 6, 6, // 0x20
    5, 5, 5, 6, 6, 6, 6, 6, 6, 6, 7, 8, 15, 6, 12, 10, // 0x30
    13, 6, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, // 0x40
    7, 7, 7, 7, 7, 7, 7, 7, 8, 7, 8, 13, 19, 13, 14, 6, // 0x50
    15, 5, 6, 5, 6, 5, 6, 6, 6, 5, 7, 7, 6, 6, 6, 5, // 0x60
    6, 7, 6, 5, 5, 6, 7, 7, 7, 7, 7, 15, 11, 14, 13, 28, // 0x70
    20, 22, 20, 20, 22, 22, 22, 23, 22, 23, 23, 23, 23, 23, 24, 23, // 0x80
    24, 24, 22, 23, 24, 23, 23, 23, 23, 21, 22, 23, 22, 23, 23, 24, // 0x90
    22, 21, 20, 22, 22, 23, 23, 21, 23, 22, 22, 24, 21, 22, 23, 23, // 0xa0
    21, 21, 22, 21, 23, 22, 23, 23, 20, 22, 22, 22, 23, 22, 22, 23, // 0xb0
    26, 26, 20, 19, 22, 23, 22, 25, 26, 26, 26, 27, 27, 26, 24, 25, // 0xc0
    19, 21, 26, 27, 27, 26, 27, 24, 21, 21, 26, 26, 28, 27, 27, 27, // 0xd0
    20, 24, 20, 21, 22, 21, 21, 23, 22, 22, 25, 25, 24, 24, 26, 23, // 0xe0
    26, 27, 26, 26, 27, 27, 27, 27, 27, 28, 27, 27, 27, 27, 27, 26, // 0xf0
];

/// The longest codes; one of them, all ones, is EOS.
const MAX_BITS: u32 = 30;

/// How many bits index [`PAIRS`]: all codes of printable ASCII but a dozen are shorter, and two
/// letters or digits fit about as often as not.
const WINDOW: u32 = 10;

/// How many octets `bytes` have when coded.
#[inline]
pub(super) fn encoded_len(bytes: &[u8]) -> usize {
    let bits: usize = bytes.iter().map(|&byte| usize::from(LENGTHS[usize::from(byte)])).sum();
    bits.div_ceil(8)
}

/// Appends the coded `bytes`, of which there are `len` octets.
pub(super) fn encode(bytes: &[u8], len: usize, out: &mut BytesMut) {
    out.reserve(len);
    // The code bits that are not written yet: the lowest `bits` ones.
    let (mut word, mut bits) = (0_u64, 0_u32);
    for &byte in bytes {
        let len = u32::from(LENGTHS[usize::from(byte)]);
        word = word << len | u64::from(CODES[usize::from(byte)]);
        bits += len;
        if bits >= 32 {
            bits -= 32;
            out.put_u32((word >> bits) as u32);
        }
    }
    // Padded with ones, the beginning of EOS.
    let padding = (8 - bits % 8) % 8;
    word = word << padding | ((1 << padding) - 1);
    bits += padding;
    while bits > 0 {
        bits -= 8;
        out.put_u8((word >> bits) as u8);
    }
}

/// Appends what `input` stands for.
pub(super) fn decode(mut input: &[u8], out: &mut Vec<u8>) -> Result<(), Error> {
    // The next bits of the input, the highest first, and how many are known to be right.
    let (mut window, mut bits) = (0_u64, 0_u32);
    // Symbols that are not appended yet, the lowest octet first, and how many bits they take.
    let (mut word, mut fill) = (0_u64, 0_u32);
    while let Some(chunk) = input.first_chunk::<8>() {
        // What comes in beyond the counted octets is read again next time, with the same result.
        window |= u64::from_be_bytes(*chunk) >> bits;
        let octets = (63 - bits) / 8;
        input = &input[octets as usize..];
        bits += 8 * octets;
        // At least 56 bits: five times the window.
        for _ in 0..5 {
            let pair = PAIRS[(window >> (64 - WINDOW)) as usize];
            if pair.count == 0 {
                if bits < MAX_BITS {
                    break;
                }
                let (symbol, len) = long(window)?;
                word |= u64::from(symbol) << fill;
                fill += 8;
                window <<= len;
                bits -= len;
            } else {
                word |= u64::from(pair.symbols) << fill;
                fill += 8 * u32::from(pair.count);
                window <<= pair.bits;
                bits -= u32::from(pair.bits);
            }
            if fill > 48 {
                flush(&mut word, &mut fill, out);
            }
            if bits < WINDOW {
                break;
            }
        }
    }
    flush(&mut word, &mut fill, out);
    decode_end(window, bits, input, out)
}

#[inline]
fn flush(word: &mut u64, fill: &mut u32, out: &mut Vec<u8>) {
    out.extend_from_slice(&word.to_le_bytes());
    out.truncate(out.len() - (64 - *fill) as usize / 8);
    (*word, *fill) = (0, 0);
}

/// What is left when less than 8 octets are not in the window yet: one symbol at a time.
fn decode_end(
    mut window: u64,
    mut bits: u32,
    input: &[u8],
    out: &mut Vec<u8>,
) -> Result<(), Error> {
    let mut input = input.iter();
    loop {
        while bits <= 56
            && let Some(&octet) = input.next()
        {
            window |= u64::from(octet) << (56 - bits);
            bits += 8;
        }
        if bits == 0 {
            return Ok(());
        }
        // Behind the end there are ones, as if it had been padded up to EOS.
        let padded = window | u64::MAX.unbounded_shr(bits);
        if padded == u64::MAX && bits < MAX_BITS {
            return if bits < 8 { Ok(()) } else { Err(Error::HuffmanPadding) };
        }
        let pair = PAIRS[(padded >> (64 - WINDOW)) as usize];
        let (symbol, len) = if pair.count == 0 {
            long(padded)?
        } else {
            let symbol = pair.symbols as u8;
            (symbol, u32::from(LENGTHS[usize::from(symbol)]))
        };
        if len > bits {
            return Err(Error::HuffmanPadding);
        }
        out.push(symbol);
        window <<= len;
        bits -= len;
    }
}

/// The symbol at the beginning of `window` if it has more than [`WINDOW`] bits, and how many.
#[cold]
fn long(window: u64) -> Result<(u8, u32), Error> {
    let code = (window >> (64 - MAX_BITS)) as u32;
    for level in &LONG {
        if code < level.end {
            let nth = (code - level.start) >> (MAX_BITS - u32::from(level.bits));
            let symbol = BY_CODE[usize::from(level.first) + nth as usize];
            return Ok((symbol, u32::from(level.bits)));
        }
    }
    // All ones.
    Err(Error::HuffmanEos)
}

/// What the next [`WINDOW`] bits begin with.
#[derive(Clone, Copy)]
struct Pair {
    /// The first symbol in the low octet, the second above it.
    symbols: u16,
    /// How many symbols there are: 0 if the first does not fit.
    count: u8,
    /// Of both together: less than 16.
    bits: u8,
}

/// Codes of one length.
#[derive(Clone, Copy)]
struct Level {
    /// The first of them and the first that is longer, both shifted up to [`MAX_BITS`].
    start: u32,
    end: u32,
    bits: u8,
    /// Where the first of them is in [`BY_CODE`].
    first: u8,
}

static CODES: [u32; 256] = codes();
static BY_CODE: [u8; 256] = by_code();
static PAIRS: [Pair; 1 << WINDOW] = pairs();
static LONG: [Level; (MAX_BITS - WINDOW) as usize] = levels();

/// Symbols in the order of their codes.
const fn by_code() -> [u8; 256] {
    let mut sorted = [0; 256];
    let (mut next, mut len) = (0, 0);
    while len <= MAX_BITS {
        let mut symbol = 0;
        while symbol < 256 {
            if LENGTHS_OF[symbol] as u32 == len {
                sorted[next] = symbol as u8;
                next += 1;
            }
            symbol += 1;
        }
        len += 1;
    }
    assert!(next == 256);
    sorted
}

/// Codes in their lowest bits.
const fn codes() -> [u32; 256] {
    let order = by_code();
    let mut codes = [0; 256];
    let (mut code, mut nth) = (0, 0);
    let mut len = LENGTHS_OF[order[0] as usize];
    while nth < 256 {
        let symbol = order[nth] as usize;
        code <<= LENGTHS_OF[symbol] - len;
        len = LENGTHS_OF[symbol];
        codes[symbol] = code;
        code += 1;
        nth += 1;
    }
    // Only EOS comes after the last.
    assert!(code == (1 << MAX_BITS) - 1);
    codes
}

const fn levels() -> [Level; (MAX_BITS - WINDOW) as usize] {
    let (codes, order) = (codes(), by_code());
    let mut levels = [Level { start: 0, end: 0, bits: 0, first: 0 }; (MAX_BITS - WINDOW) as usize];
    let (mut nth, mut bits) = (0, WINDOW + 1);
    while LENGTHS_OF[order[nth] as usize] as u32 <= WINDOW {
        nth += 1;
    }
    while bits <= MAX_BITS {
        let unit = 1 << (MAX_BITS - bits);
        let level = &mut levels[(bits - WINDOW - 1) as usize];
        level.bits = bits as u8;
        level.first = nth as u8;
        while nth < 256 && LENGTHS_OF[order[nth] as usize] as u32 == bits {
            let code = codes[order[nth] as usize] * unit;
            if level.end == 0 {
                level.start = code;
            }
            level.end = code + unit;
            nth += 1;
        }
        bits += 1;
    }
    levels
}

const fn pairs() -> [Pair; 1 << WINDOW] {
    let firsts = firsts();
    let mut pairs = [Pair { symbols: 0, count: 0, bits: 0 }; 1 << WINDOW];
    let mut index = 0;
    while index < pairs.len() {
        let (first, first_bits) = firsts[index];
        if first_bits > 0 {
            // Shifted up, so that what is not known is zeros.
            let (second, second_bits) = firsts[(index << first_bits) % (1 << WINDOW)];
            let bits = first_bits + second_bits;
            let fits = second_bits > 0 && bits as u32 <= WINDOW;
            pairs[index] = Pair {
                symbols: first as u16 | if fits { (second as u16) << 8 } else { 0 },
                count: if fits { 2 } else { 1 },
                bits: if fits { bits } else { first_bits },
            };
        }
        index += 1;
    }
    pairs
}

/// For each window its first symbol and how many bits that has: 0 if it does not fit.
const fn firsts() -> [(u8, u8); 1 << WINDOW] {
    let codes = codes();
    let mut firsts = [(0, 0); 1 << WINDOW];
    let mut symbol = 0;
    while symbol < 256 {
        let bits = LENGTHS_OF[symbol];
        if bits as u32 <= WINDOW {
            let spare = WINDOW - bits as u32;
            let mut index = codes[symbol] << spare;
            while index < (codes[symbol] + 1) << spare {
                firsts[index as usize] = (symbol as u8, bits);
                index += 1;
            }
        }
        symbol += 1;
    }
    firsts
}
