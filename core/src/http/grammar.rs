//! Tokens, values, lists and numbers (RFC 9110 §5.5 and §5.6).

use wide::u8x16;

/// The characters of a token (RFC 9110 §5.6.2).
static TCHAR: [bool; 256] = {
    let mut table = [false; 256];
    let mut byte = 0;
    while byte < 256 {
        table[byte] = matches!(byte as u8,
            b'!' | b'#' | b'$' | b'%' | b'&' | b'\'' | b'*' | b'+' | b'-' | b'.' | b'^' | b'_'
            | b'`' | b'|' | b'~' | b'0'..=b'9' | b'A'..=b'Z' | b'a'..=b'z');
        byte += 1;
    }
    table
};

/// May this byte stand in a token?
#[inline]
pub(crate) fn is_tchar(byte: u8) -> bool {
    TCHAR[usize::from(byte)]
}

/// Is this a token: one or more [`is_tchar`] bytes?
pub(crate) fn is_token(bytes: &[u8]) -> bool {
    !bytes.is_empty() && token_end(bytes, 0) == bytes.len()
}

/// The characters of a field value (RFC 9110 §5.5).
static VALUE: [bool; 256] = {
    let mut table = [false; 256];
    let mut byte = 0;
    while byte < 256 {
        table[byte] = (byte >= 0x20 && byte != 0x7f) || byte == b'\t' as usize;
        byte += 1;
    }
    table
};

/// May this byte stand in a field value? HTAB and 0x80–FF may.
#[inline]
pub(crate) fn is_value_byte(byte: u8) -> bool {
    VALUE[usize::from(byte)]
}

/// Are these all [`is_value_byte`]?
pub(crate) fn is_value(bytes: &[u8]) -> bool {
    value_end(bytes, 0) == bytes.len()
}

/// Without optional whitespace (SP and HTAB, RFC 9110 §5.6.3) at both ends.
pub(crate) fn trim(mut bytes: &[u8]) -> &[u8] {
    while let [b' ' | b'\t', rest @ ..] = bytes {
        bytes = rest;
    }
    while let [rest @ .., b' ' | b'\t'] = bytes {
        bytes = rest;
    }
    bytes
}

/// The elements of a list, trimmed (RFC 9110 §5.6.1). Empty ones are handed out too: whether they
/// are harmless depends on the field.
pub(crate) fn list(value: &[u8]) -> impl Iterator<Item = &[u8]> {
    value.split(|&byte| byte == b',').map(trim)
}

/// `1*DIGIT` as a number; `None` if it is not that or does not fit.
pub(crate) fn number(digits: &[u8]) -> Option<u64> {
    if digits.is_empty() {
        return None;
    }
    digits.iter().try_fold(0u64, |number, &byte| {
        let digit = byte.wrapping_sub(b'0');
        if digit > 9 {
            return None;
        }
        number.checked_mul(10)?.checked_add(u64::from(digit))
    })
}

/// A number's decimal digits, without an allocation or the formatting machinery.
pub(crate) struct Decimal {
    digits: [u8; 20],
    start: u8,
}

impl Decimal {
    /// The digits of `number`.
    pub(crate) fn new(mut number: u64) -> Self {
        let mut digits = [0; 20];
        let mut start = digits.len();
        loop {
            start -= 1;
            digits[start] = b'0' + (number % 10) as u8;
            number /= 10;
            if number == 0 {
                break;
            }
        }
        Decimal { digits, start: start as u8 }
    }

    /// The digits.
    pub(crate) fn as_bytes(&self) -> &[u8] {
        &self.digits[usize::from(self.start)..]
    }
}

// ---- Sixteen bytes at a time ----

/// Where the token from `at` on ends.
#[inline]
pub(crate) fn token_end(bytes: &[u8], at: usize) -> usize {
    skip(bytes, at, odd_in_name, is_tchar)
}

/// The same of a field's name: a colon ends it, nearly always.
#[inline]
pub(crate) fn name_end(bytes: &[u8], at: usize) -> usize {
    skip(bytes, at, odd_in_name, |byte| byte != b':' && is_tchar(byte))
}

/// Where the bytes from `at` on end that may stand in a field value.
#[inline]
pub(crate) fn value_end(bytes: &[u8], at: usize) -> usize {
    skip(bytes, at, control, |byte| byte != b'\r' && is_value_byte(byte))
}

/// Where the visible ASCII from `at` on ends.
#[inline]
pub(crate) fn visible_end(bytes: &[u8], at: usize) -> usize {
    skip(bytes, at, not_visible, |byte| byte.is_ascii_graphic())
}

/// The index of the first byte from `at` on that may not `stand` there, or the length. `stops` marks
/// the bytes of a block that may not, and perhaps others.
#[inline]
pub(crate) fn skip(
    bytes: &[u8],
    mut at: usize,
    stops: impl Fn(u8x16) -> u8x16,
    stands: impl Fn(u8) -> bool,
) -> usize {
    while let Some(Ok(block)) = bytes.get(at..at + 16).map(<[u8; 16]>::try_from) {
        let stops = stops(u8x16::from(block)).to_bitmask();
        if stops == 0 {
            at += 16;
            continue;
        }
        at += stops.trailing_zeros() as usize;
        if !stands(bytes[at]) {
            return at;
        }
        at += 1;
    }
    while bytes.get(at).is_some_and(|&byte| stands(byte)) {
        at += 1;
    }
    at
}

/// What is neither a letter nor a hyphen: most tokens have nothing else.
#[inline]
fn odd_in_name(block: u8x16) -> u8x16 {
    let place = (block | u8x16::splat(0x20)) - u8x16::splat(b'a');
    !(place.simd_le(u8x16::splat(25)) | block.simd_eq(u8x16::splat(b'-')))
}

/// Control characters, tabs included.
#[inline]
fn control(block: u8x16) -> u8x16 {
    block.simd_le(u8x16::splat(0x1f)) | block.simd_eq(u8x16::splat(0x7f))
}

/// What is not visible ASCII.
#[inline]
fn not_visible(block: u8x16) -> u8x16 {
    (block - u8x16::splat(b'!')).simd_ge(u8x16::splat(0x7f - b'!'))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every byte at every place of a block, among neighbours of all kinds.
    #[test]
    fn blocks_are_skipped_as_bytes_are() {
        type Rule = (fn(u8x16) -> u8x16, fn(u8) -> bool);
        let rules: [(Rule, &[u8]); 3] = [
            ((odd_in_name, is_tchar), b"aZ-~09"),
            ((control, is_value_byte), b"a \t~\x80\xff"),
            ((not_visible, |byte| byte.is_ascii_graphic()), b"!/~az"),
        ];
        for ((stops, stands), neighbours) in rules {
            for &neighbour in neighbours {
                for byte in 0..=u8::MAX {
                    for at in 0..32 {
                        let mut bytes = [neighbour; 37];
                        bytes[at] = byte;
                        bytes[33] = 0;
                        let expected = bytes.iter().position(|&byte| !stands(byte));
                        let found = skip(&bytes, 0, stops, stands);
                        assert_eq!(Some(found), expected, "{byte:#x} at {at} in {neighbour:#x}");
                    }
                }
            }
        }
    }
}
