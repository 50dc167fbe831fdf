//! What comes after the last chunk (RFC 9112 §7.1.2).

use bytes::BytesMut;

use super::classify::{field_line, lines};
use crate::error::Reason;
use crate::http::facts;
use crate::http::hop;

/// Writes the last chunk and the trailers that may go on; returns how many may not and were dropped
/// ([`hop::is_forbidden_in_trailers`]).
///
/// `trailers` is a section as [`Body::Trailers`](super::Body::Trailers) shows it, or empty.
///
/// # Errors
///
/// [`Reason::Trailers`] if a line is not a field; nothing is then written.
pub fn encode_last_chunk(out: &mut BytesMut, trailers: &[u8]) -> Result<usize, Reason> {
    let before = out.len();
    out.reserve(trailers.len() + 5);
    out.extend_from_slice(b"0\r\n");
    let mut dropped = 0;
    for line in lines(trailers).take_while(|line| !line.is_empty()) {
        let Ok((name, value)) = field_line(line) else {
            out.truncate(before);
            return Err(Reason::Trailers);
        };
        if hop::is_forbidden_in_trailers(name) {
            dropped += 1;
            continue;
        }
        out.extend_from_slice(name);
        out.extend_from_slice(b": ");
        out.extend_from_slice(value);
        out.extend_from_slice(b"\r\n");
    }
    out.extend_from_slice(b"\r\n");
    Ok(dropped)
}

/// How many fields a trailer section has.
pub(crate) fn trailer_count(trailers: &[u8]) -> usize {
    lines(trailers).take_while(|line| !line.is_empty()).count()
}

/// gRPC's status in a trailer section; `None` if it has none or it is no number.
pub fn trailer_grpc_status(trailers: &[u8]) -> Option<u16> {
    trailer(trailers, b"grpc-status").and_then(facts::grpc_status)
}

/// The value of the first field of this name, in lower case, in a trailer section.
pub fn trailer<'a>(trailers: &'a [u8], name: &[u8]) -> Option<&'a [u8]> {
    lines(trailers)
        .filter(|line| line.len() > name.len() && line[..name.len()].eq_ignore_ascii_case(name))
        .find_map(|line| match field_line(line) {
            Ok((found, value)) if found.len() == name.len() => Some(value),
            _ => None,
        })
}
