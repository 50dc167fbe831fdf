//! What gRPC puts into fields.

use bytes::BytesMut;

use crate::error::Reason;

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

/// gRPC's status for an error of ours, as linkerd2-proxy maps them.
pub(crate) fn code(reason: Reason) -> u8 {
    match reason.status() {
        403 => 7,
        404 => 5,
        408 | 504 => 4,
        502 | 503 => 14,
        508 => 10,
        _ => 13,
    }
}
