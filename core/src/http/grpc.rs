//! What gRPC puts into fields.

use alloc::format;
use alloc::string::String;

use bytes::BytesMut;

use super::Fields;
use super::grammar::number;
use crate::time::Duration;

/// `grpc-message` is percent-encoded: everything but visible ASCII, space and no `%`.
pub(crate) fn put_message(out: &mut BytesMut, message: &str) {
    const DIGITS: &[u8; 16] = b"0123456789ABCDEF";
    for &byte in message.as_bytes() {
        if (0x20..0x7f).contains(&byte) && byte != b'%' {
            out.extend_from_slice(&[byte]);
        } else {
            let (high, low) = (usize::from(byte >> 4), usize::from(byte & 0xf));
            out.extend_from_slice(&[b'%', DIGITS[high], DIGITS[low]]);
        }
    }
}

/// How long a client gives its call: `grpc-timeout`, at most eight digits and a unit. `None`: it does
/// not say, or says something else.
pub(crate) fn timeout(fields: Fields<'_>) -> Option<Duration> {
    const NAME: &[u8] = b"grpc-timeout";
    let mut fields = fields.iter();
    let value = fields.find(|field| field.name.eq_ignore_ascii_case(NAME))?.value;
    let (unit, digits) = value.split_last()?;
    let count = number(digits).filter(|_| digits.len() <= 8)?;
    Some(match unit {
        b'H' => Duration::from_hours(count),
        b'M' => Duration::from_mins(count),
        b'S' => Duration::from_secs(count),
        b'm' => Duration::from_millis(count),
        b'u' => Duration::from_micros(count),
        b'n' => Duration::from_nanos(count),
        _ => return None,
    })
}

/// The `grpc-timeout` for so much time, in whole milliseconds if eight digits are enough: never more,
/// but never nothing.
pub(crate) fn put_timeout(left: Duration) -> String {
    const MOST: u128 = 99_999_999;
    match left.as_millis().max(1) {
        millis @ ..=MOST => format!("{millis}m"),
        millis => format!("{}S", (millis / 1000).min(MOST)),
    }
}

/// gRPC's status for an answer of ours with this status, as linkerd2-proxy maps them.
pub(crate) fn code(status: u16) -> u8 {
    match status {
        403 => 7,
        404 => 5,
        408 | 504 => 4,
        429 => 8,
        502 | 503 => 14,
        508 => 10,
        _ => 13,
    }
}

/// What a client of gRPC takes an answer with this status for that has no `grpc-status`
/// (grpc/doc/http-grpc-status-mapping.md).
pub(crate) fn code_of_http(status: u16) -> u8 {
    match status {
        400 => 13,
        401 => 16,
        403 => 7,
        404 => 12,
        429 | 502 | 503 | 504 => 14,
        _ => 2,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_left_is_never_more_and_never_nothing() {
        for (left, said) in [
            (Duration::ZERO, "1m"),
            (Duration::from_micros(1_999), "1m"),
            (Duration::from_millis(99_999_999), "99999999m"),
            (Duration::from_millis(100_000_999), "100000S"),
            (Duration::MAX, "99999999S"),
        ] {
            assert_eq!(put_timeout(left), said);
        }
    }
}
