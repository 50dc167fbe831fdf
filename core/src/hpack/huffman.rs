//! The Huffman code (RFC 7541 §5.2 and Appendix B).
//!
//! It is canonical: codes of one length are consecutive and in the order of their symbols, and a
//! longer code is above all shorter ones. So the lengths say everything, and all tables are computed
//! from them while compiling (1 KiB for each direction).

use alloc::vec::Vec;

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

/// How many bits index [`SHORT`]. No code is of 9 bits; of printable ASCII, only 21 rare characters
/// have more.
const WINDOW: u32 = 8;

/// How many octets `bytes` have when coded.
#[inline]
pub(super) fn encoded_len(bytes: &[u8]) -> usize {
    let bits: usize = bytes.iter().map(|&byte| usize::from(LENGTHS[usize::from(byte)])).sum();
    bits.div_ceil(8)
}

/// Writes the coded `bytes` into `out`, which is as long as they are then.
pub(super) fn encode(bytes: &[u8], out: &mut [u8]) {
    // The code bits that are not written yet: the lowest `bits` ones.
    let (mut word, mut bits, mut at) = (0_u64, 0_u32, 0);
    for &byte in bytes {
        let len = u32::from(LENGTHS[usize::from(byte)]);
        word = word << len | u64::from(CODES[usize::from(byte)]);
        bits += len;
        if bits >= 32
            && let Some(octets) = out.get_mut(at..at + 4)
        {
            bits -= 32;
            octets.copy_from_slice(&((word >> bits) as u32).to_be_bytes());
            at += 4;
        }
    }
    // Less than 32 are left, padded with ones, the beginning of EOS.
    let end = word << 32 | u64::from(u32::MAX);
    for (octet, index) in out.iter_mut().skip(at).zip(1..) {
        *octet = (end >> (32 + bits - 8 * index)) as u8;
    }
}

/// Appends what `input` stands for.
pub(super) fn decode(mut input: &[u8], out: &mut Vec<u8>) -> Result<(), Error> {
    // The next bits of the input, the highest first, and how many are known to be right.
    let (mut window, mut bits) = (0_u64, 0_u32);
    while let Some(chunk) = input.first_chunk::<8>() {
        // What comes in beyond the counted octets is read again next time, with the same result.
        window |= u64::from_be_bytes(*chunk) >> bits;
        let octets = (63 - bits) / 8;
        input = &input[octets as usize..];
        bits += 8 * octets;
        // At least 56 bits: seven short codes.
        let (mut symbols, mut count) = (0_u64, 0);
        while count < 7 {
            let short = SHORT[(window >> (64 - WINDOW)) as usize];
            if short.bits == 0 {
                break;
            }
            symbols |= u64::from(short.symbol) << (8 * count);
            window <<= short.bits;
            bits -= u32::from(short.bits);
            count += 1;
        }
        out.extend_from_slice(&symbols.to_le_bytes());
        out.truncate(out.len() - (8 - count));
        if count == 0 {
            let (symbol, len) = long(window)?;
            out.push(symbol);
            window <<= len;
            bits -= len;
        }
    }
    decode_end(window, bits, input, out)
}

/// What is left when less than 8 octets are not in the window yet.
fn decode_end(
    mut window: u64,
    mut bits: u32,
    input: &[u8],
    out: &mut Vec<u8>,
) -> Result<(), Error> {
    let mut left = input.len() as u32;
    let mut word = last_octets(input);
    loop {
        // Behind the end there are ones, as if it had been padded up to EOS.
        window |= word >> bits;
        let octets = ((63 - bits) / 8).min(left);
        word = !(!word << (8 * octets));
        bits += 8 * octets;
        left -= octets;
        let (mut symbols, mut count) = (0_u64, 0);
        while count < 8 {
            let short = SHORT[(window >> (64 - WINDOW)) as usize];
            if short.bits == 0 || u32::from(short.bits) > bits {
                break;
            }
            symbols |= u64::from(short.symbol) << (8 * count);
            window <<= short.bits;
            bits -= u32::from(short.bits);
            count += 1;
        }
        out.extend_from_slice(&symbols.to_le_bytes());
        out.truncate(out.len() - (8 - count));
        if count > 0 || left > 0 && bits < MAX_BITS {
            continue;
        }
        // All of a long code, or the end.
        let padded = window | u64::MAX.unbounded_shr(bits);
        if padded == u64::MAX && bits < 8 {
            return Ok(());
        }
        let cut = padded == u64::MAX && bits < MAX_BITS
            || SHORT[(padded >> (64 - WINDOW)) as usize].bits > 0;
        let (symbol, len) = if cut { (0, MAX_BITS) } else { long(padded)? };
        if len > bits {
            return Err(Error::HuffmanPadding);
        }
        out.push(symbol);
        window <<= len;
        bits -= len;
    }
}

/// Less than 8 octets, followed by ones.
#[inline]
fn last_octets(octets: &[u8]) -> u64 {
    let ones = u64::MAX.unbounded_shr(8 * octets.len() as u32);
    let word = if let (Some(first), Some(last)) = (octets.first_chunk(), octets.last_chunk()) {
        // Both overlap, and together are all.
        let behind = 64 - 8 * octets.len() as u32;
        u64::from(u32::from_be_bytes(*first)) << 32 | u64::from(u32::from_be_bytes(*last)) << behind
    } else {
        let octets = octets.iter().zip([56, 48, 40]);
        octets.fold(0, |word, (&octet, shift)| word | u64::from(octet) << shift)
    };
    word | ones
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

/// The symbol that some bits begin with.
#[derive(Clone, Copy)]
struct Short {
    symbol: u8,
    /// How many bits it has: 0 if it has more than [`WINDOW`].
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
static SHORT: [Short; 1 << WINDOW] = short();
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

const fn short() -> [Short; 1 << WINDOW] {
    let codes = codes();
    let mut short = [Short { symbol: 0, bits: 0 }; 1 << WINDOW];
    let mut symbol = 0;
    while symbol < 256 {
        let bits = LENGTHS_OF[symbol];
        if bits as u32 <= WINDOW {
            let spare = WINDOW - bits as u32;
            let mut index = codes[symbol] << spare;
            while index < (codes[symbol] + 1) << spare {
                short[index as usize] = Short { symbol: symbol as u8, bits };
                index += 1;
            }
        }
        symbol += 1;
    }
    short
}
