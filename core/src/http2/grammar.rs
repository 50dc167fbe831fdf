//! What names, values and pseudo-headers may be made of (RFC 9113 §8.2.1, §8.3).

use crate::http::grammar::{is_tchar, is_token, is_value};

/// RFC 9113 §8.2.1: a token without upper case.
pub(super) fn is_field_name(name: &[u8]) -> bool {
    !name.is_empty() && name.iter().all(|&byte| is_tchar(byte) && !byte.is_ascii_uppercase())
}

/// RFC 9113 §8.2.1: no NUL, CR, LF (nor any other control character, RFC 9110 §5.5), no whitespace
/// at either end.
pub(super) fn is_field_value(value: &[u8]) -> bool {
    let blank = |byte: Option<&u8>| matches!(byte, Some(b' ' | b'\t'));
    !blank(value.first()) && !blank(value.last()) && is_value(value)
}

/// RFC 9110 §7.8: a name, and a version perhaps.
pub(super) fn is_protocol(protocol: &[u8]) -> bool {
    let mut parts = protocol.splitn(2, |&byte| byte == b'/');
    parts.all(is_token)
}

/// RFC 3986 §3.1.
pub(super) fn is_scheme(scheme: &[u8]) -> bool {
    matches!(scheme.first(), Some(first) if first.is_ascii_alphabetic())
        && scheme.iter().all(|&b| b.is_ascii_alphanumeric() || matches!(b, b'+' | b'-' | b'.'))
}

/// The target in origin-form, or `*` of OPTIONS, as HTTP/1 readers take it: visible ASCII but `#`,
/// and UTF-8.
pub(super) fn is_path(method: &[u8], path: &[u8]) -> bool {
    match path {
        b"*" => method == b"OPTIONS",
        [b'/', ..] => {
            is_value(path)
                && !path.iter().any(|&byte| matches!(byte, b' ' | b'\t' | b'#'))
                && (path.is_ascii() || core::str::from_utf8(path).is_ok())
        }
        _ => false,
    }
}
