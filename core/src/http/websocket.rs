//! The handshake of WebSockets in HTTP/1 (RFC 6455 §4), which HTTP/2 does without.

use super::{Framing, Known, Request};
use crate::rng::Rng;

/// The GUID of RFC 6455 §1.3.
const GUID: &[u8] = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11";

/// What a server answers to `key` in `Sec-WebSocket-Accept` (RFC 6455 §4.2.2).
pub(crate) fn accept(key: &[u8]) -> [u8; 28] {
    let mut hash = sha1_smol::Sha1::new();
    hash.update(key);
    hash.update(GUID);
    base64(hash.digest().bytes())
}

/// A `Sec-WebSocket-Key`: 16 random bytes.
pub(crate) fn key(rng: &mut Rng) -> [u8; 24] {
    let mut bytes = [0; 16];
    bytes[..8].copy_from_slice(&rng.next_u64().to_be_bytes());
    bytes[8..].copy_from_slice(&rng.next_u64().to_be_bytes());
    base64(bytes)
}

/// Does this request ask for a WebSocket without saying a key, as is right over HTTP/2 (RFC 8441 §5)?
pub(crate) fn lacks_key(request: &Request<'_>) -> bool {
    let protocol = request.head.fields.get(Known::Upgrade).unwrap_or_default();
    protocol.eq_ignore_ascii_case(b"websocket") && find_key(request).is_none()
}

/// Can an upgrade be asked for by extended CONNECT, which knows no other method than GET, no body, and
/// no WebSocket without a key (RFC 8441 §5)?
pub(crate) fn fits_stream(request: &Request<'_>) -> bool {
    let bare = matches!(request.framing, Framing::None | Framing::Length(0));
    bare && request.head.method == b"GET" && !lacks_key(request)
}

/// The key of a request.
pub(crate) fn find_key<'a>(request: &Request<'a>) -> Option<&'a [u8]> {
    let name = b"sec-websocket-key";
    let field = request.head.fields.iter().find(|field| field.name.eq_ignore_ascii_case(name))?;
    Some(field.value)
}

/// RFC 4648 §4. `OUT` is four thirds of `IN`, rounded up to fours.
fn base64<const IN: usize, const OUT: usize>(bytes: [u8; IN]) -> [u8; OUT] {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut out = [b'='; OUT];
    for (chunk, quad) in bytes.chunks(3).zip(out.chunks_mut(4)) {
        let word = chunk.iter().fold(0, |word, &byte| word << 8 | u32::from(byte));
        let word = word << (8 * (3 - chunk.len()));
        for (digit, shift) in quad.iter_mut().take(chunk.len() + 1).zip([18, 12, 6, 0]) {
            *digit = DIGITS[(word >> shift & 0x3f) as usize];
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_example_of_the_rfc() {
        assert_eq!(&accept(b"dGhlIHNhbXBsZSBub25jZQ=="), b"s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
    }

    #[test]
    fn the_vectors_of_base64() {
        assert_eq!(&base64::<1, 4>(*b"f"), b"Zg==");
        assert_eq!(&base64::<2, 4>(*b"fo"), b"Zm8=");
        assert_eq!(&base64::<3, 4>(*b"foo"), b"Zm9v");
        assert_eq!(&base64::<6, 8>(*b"foobar"), b"Zm9vYmFy");
    }
}
