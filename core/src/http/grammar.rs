//! Tokens, lists and numbers (RFC 9110 §5.6).

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
    !bytes.is_empty() && bytes.iter().all(|&byte| is_tchar(byte))
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

/// Are these all [`is_value_byte`]? Looks at eight at a time.
pub(crate) fn is_value(bytes: &[u8]) -> bool {
    const EACH: u64 = 0x0101_0101_0101_0101;
    let (words, rest) = bytes.as_chunks::<8>();
    let plain = |word: &[u8; 8]| {
        let word = u64::from_ne_bytes(*word);
        let del = word ^ (0x7f * EACH);
        // The highest bit of a byte: it is below SP; it is DEL.
        let control = word.wrapping_sub(0x20 * EACH) & !word;
        (control | del.wrapping_sub(EACH) & !del) & (0x80 * EACH) == 0
    };
    words.iter().all(|word| plain(word) || word.iter().all(|&byte| is_value_byte(byte)))
        && rest.iter().all(|&byte| is_value_byte(byte))
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
