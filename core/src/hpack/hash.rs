//! The hash that the encoder finds names and entries by, and the engine services.
//!
//! It has no key: whoever makes values collide loses their compression and nothing else, because
//! what is found is compared, and no search looks at more than one bucket.

const K0: u64 = 0x9e37_79b9_7f4a_7c15;
const K1: u64 = 0xe703_7ed1_a0b4_28db;

/// Hashes `bytes` onto `seed`.
#[inline]
pub(crate) const fn hash(seed: u64, bytes: &[u8]) -> u64 {
    hash_words(seed, bytes, words(bytes))
}

/// Hashes `bytes`, whose [`words`] are these, onto `seed`.
#[inline]
pub(super) const fn hash_words(seed: u64, bytes: &[u8], words: (u64, u64)) -> u64 {
    let mut seed = seed ^ K0;
    if bytes.len() > SHORT {
        seed = fold(seed, bytes);
    }
    mix(words.0 ^ seed, words.1 ^ K1 ^ bytes.len() as u64)
}

/// Up to so many bytes, the words are all there is.
pub(super) const SHORT: usize = 16;

/// The first and the last word of `bytes`; they overlap if there are few.
#[inline]
pub(super) const fn words(bytes: &[u8]) -> (u64, u64) {
    match (bytes.first_chunk::<8>(), bytes.last_chunk::<8>()) {
        (Some(first), Some(last)) => (u64::from_le_bytes(*first), u64::from_le_bytes(*last)),
        _ => few(bytes),
    }
}

/// Are they equal? Without a call for short ones.
#[inline]
pub(super) fn equal(a: &[u8], b: &[u8]) -> bool {
    if a.len() > SHORT { a == b } else { a.len() == b.len() && words(a) == words(b) }
}

/// All of more than [`SHORT`] bytes but the last ones, 16 at a time.
const fn fold(mut seed: u64, mut bytes: &[u8]) -> u64 {
    while let Some((chunk, rest)) = bytes.split_first_chunk::<16>() {
        let (low, high) = chunk.split_at(8);
        seed = mix(word(low) ^ K1, word(high) ^ seed);
        bytes = rest;
    }
    // At most 15 are left, of which the last word has 8.
    if let Some(chunk) = bytes.first_chunk::<8>() {
        seed = mix(u64::from_le_bytes(*chunk) ^ K1, seed);
    }
    seed
}

const fn word(bytes: &[u8]) -> u64 {
    match bytes.first_chunk::<8>() {
        Some(chunk) => u64::from_le_bytes(*chunk),
        None => 0,
    }
}

/// The words of less than 8 bytes.
#[inline]
const fn few(bytes: &[u8]) -> (u64, u64) {
    if let (Some(first), Some(last)) = (bytes.first_chunk::<4>(), bytes.last_chunk::<4>()) {
        return (u32::from_le_bytes(*first) as u64, u32::from_le_bytes(*last) as u64);
    }
    match *bytes {
        [] => (0, 0),
        [one] => (one as u64, 0),
        [first, .., last] => (first as u64, (bytes[bytes.len() / 2] as u64) << 8 | last as u64),
    }
}

const fn mix(a: u64, b: u64) -> u64 {
    let product = a as u128 * b as u128;
    product as u64 ^ (product >> 64) as u64
}
