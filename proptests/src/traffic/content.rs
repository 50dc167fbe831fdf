//! Bytes whose every part tells where it belongs: bodies, tunnels and names are made of numbers.

use std::sync::LazyLock;

/// Prime, so that no power of two brings the same bytes to the same place again.
const PERIOD: usize = 4093;

/// Twice the pattern, so that a whole period can be taken from any place.
static PATTERN: LazyLock<Vec<u8>> = LazyLock::new(|| {
    let byte = |n: usize| ((n as u32).wrapping_mul(0x9e37_79b1) >> 24) as u8;
    (0..2 * PERIOD).map(|n| byte(n % PERIOD)).collect()
});

/// The bytes `from..from + len` of the content called `key`.
pub(crate) fn content(key: u32, from: usize, len: usize) -> Vec<u8> {
    let mut out = Vec::with_capacity(len);
    while out.len() < len {
        let at = place(key, from + out.len());
        let n = (len - out.len()).min(PERIOD);
        out.extend_from_slice(&PATTERN[at..at + n]);
    }
    out
}

/// Are `bytes` the ones that begin at `from` in the content called `key`?
pub(crate) fn is_content(key: u32, mut from: usize, bytes: &[u8]) -> bool {
    bytes.chunks(PERIOD).all(|chunk| {
        let at = place(key, from);
        from += chunk.len();
        PATTERN[at..at + chunk.len()] == *chunk
    })
}

fn place(key: u32, from: usize) -> usize {
    (key as usize * 61 + from) % PERIOD
}

/// The key of a request's body, or of a response's.
pub(crate) fn request_key(id: u32) -> u32 {
    2 * id
}

/// See [`request_key`].
pub(crate) fn response_key(id: u32) -> u32 {
    2 * id + 1
}

/// Odd, so that multiplying by it loses nothing; the other undoes it.
const SCATTER: u32 = 0x9e37_79b1;
const GATHER: u32 = 0x0e8b_2f51;

/// A name for a number: eight digits of which every one depends on it, so that a damaged one names
/// nothing.
pub(crate) fn token(id: u32) -> String {
    format!("{:08x}", (id + 1).wrapping_mul(SCATTER))
}

/// The number that a token names, which may be anything if it is damaged.
pub(crate) fn number(token: &[u8]) -> Option<u32> {
    let digits = token.len() == 8 && token.iter().all(u8::is_ascii_hexdigit);
    let text = std::str::from_utf8(token).ok().filter(|_| digits)?;
    let scattered = u32::from_str_radix(text, 16).ok()?;
    scattered.wrapping_mul(GATHER).checked_sub(1)
}

/// One direction of a tunnel: some beginning, a header that names it, and content without end.
#[derive(Debug)]
pub(crate) struct Stream {
    head: Vec<u8>,
    key: u32,
}

/// What a stream may begin with, so that detection takes it for TLS: a ClientHello for the server
/// name `tls`, as short as it can be.
pub(crate) const CLIENT_HELLO: &[u8] = b"\x16\x03\x01\x00\x3b\x01\x00\x00\x37\
    \x03\x03\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\
    \x00\x00\x02\x13\x01\x01\x00\x00\x0c\x00\x00\x00\x08\x00\x06\x00\x00\x03tls";

const MARK: &[u8] = b"\x01T:";

impl Stream {
    /// The stream of this number, which begins with `prelude`.
    pub(crate) fn new(id: u32, prelude: &[u8]) -> Self {
        let head = [prelude, MARK, token(id).as_bytes(), b"\n"].concat();
        Stream { head, key: id.wrapping_mul(7919) }
    }

    /// The bytes from `from` to `to`.
    pub(crate) fn slice(&self, from: usize, to: usize) -> Vec<u8> {
        let head = self.head.len();
        let mut out = self.head[from.min(head)..to.min(head)].to_vec();
        if to > head {
            let from = from.max(head);
            out.extend(content(self.key, from, to - from));
        }
        out
    }

    /// Are `bytes` the ones that begin at `from`?
    pub(crate) fn is(&self, from: usize, bytes: &[u8]) -> bool {
        let (head, len) = (self.head.len(), bytes.len());
        let in_head = head.saturating_sub(from).min(len);
        let after = from.max(head) - head;
        self.head.get(from..from + in_head).unwrap_or_default() == &bytes[..in_head]
            && is_content(self.key, after + head, &bytes[in_head..])
    }

    /// The number of the stream that begins like this, as soon as that can be told.
    pub(crate) fn id_of(begin: &[u8]) -> Option<u32> {
        let mark = begin.windows(MARK.len()).position(|window| window == MARK)?;
        number(begin.get(mark + MARK.len()..mark + MARK.len() + 8)?)
    }

    /// How many bytes the number is within, at most.
    pub(crate) const HEAD_MAX: usize = 80;
}

#[cfg(test)]
mod tests {
    use selvedge_core::tls::HelloScanner;

    use super::*;

    #[test]
    fn content_knows_its_place() {
        let whole = content(5, 0, 10_000);
        assert!(is_content(5, 0, &whole));
        assert!(is_content(5, 4000, &whole[4000..9000]));
        assert!(!is_content(5, 3999, &whole[4000..4010]));
        assert!(!is_content(6, 0, &whole[..10]));
        assert_eq!(content(5, 4090, 20), whole[4090..4110]);
    }

    #[test]
    fn the_client_hello_is_one_and_fits_the_head() {
        let mut scratch = Vec::new();
        let hello = HelloScanner::default().scan(CLIENT_HELLO, &mut scratch, 1000);
        let hello = hello.expect("a hello").expect("a complete one");
        assert_eq!(hello.server_name, Some("tls"));
        assert!(Stream::new(u32::MAX - 1, CLIENT_HELLO).head.len() <= Stream::HEAD_MAX);
    }

    #[test]
    fn tokens_name_numbers() {
        for id in (0..1000).chain([u32::MAX - 1]) {
            assert_eq!(number(token(id).as_bytes()), Some(id));
        }
        assert_eq!((number(b"123"), number(b"zzzzzzzz"), number(b"+1234567")), (None, None, None));
    }

    #[test]
    fn a_stream_is_the_same_in_every_cut() {
        let stream = Stream::new(3, b"hello ");
        let whole = stream.slice(0, 100);
        assert_eq!(
            [stream.slice(0, 9), stream.slice(9, 30), stream.slice(30, 100)].concat(),
            whole
        );
        for (from, to) in [(0, 100), (3, 9), (9, 30), (18, 19), (40, 100)] {
            assert!(stream.is(from, &whole[from..to]), "{from}..{to}");
            assert!(!stream.is(from + 1, &whole[from..to]), "{from}..{to}");
        }
        assert_eq!(Stream::id_of(&whole), Some(3));
        assert_eq!(Stream::id_of(&whole[..12]), None);
    }
}
