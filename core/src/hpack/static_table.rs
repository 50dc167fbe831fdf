//! The static table (RFC 7541 Appendix A).

/// Name and value of index 1 and on.
pub(super) static STATIC_TABLE: [(&[u8], &[u8]); LEN] = [
    (b":authority", b""),
    (b":method", b"GET"),
    (b":method", b"POST"),
    (b":path", b"/"),
    (b":path", b"/index.html"),
    (b":scheme", b"http"),
    (b":scheme", b"https"),
    (b":status", b"200"),
    (b":status", b"204"),
    (b":status", b"206"),
    (b":status", b"304"),
    (b":status", b"400"),
    (b":status", b"404"),
    (b":status", b"500"),
    (b"accept-charset", b""),
    (b"accept-encoding", b"gzip, deflate"),
    (b"accept-language", b""),
    (b"accept-ranges", b""),
    (b"accept", b""),
    (b"access-control-allow-origin", b""),
    (b"age", b""),
    (b"allow", b""),
    (b"authorization", b""),
    (b"cache-control", b""),
    (b"content-disposition", b""),
    (b"content-encoding", b""),
    (b"content-language", b""),
    (b"content-length", b""),
    (b"content-location", b""),
    (b"content-range", b""),
    (b"content-type", b""),
    (b"cookie", b""),
    (b"date", b""),
    (b"etag", b""),
    (b"expect", b""),
    (b"expires", b""),
    (b"from", b""),
    (b"host", b""),
    (b"if-match", b""),
    (b"if-modified-since", b""),
    (b"if-none-match", b""),
    (b"if-range", b""),
    (b"if-unmodified-since", b""),
    (b"last-modified", b""),
    (b"link", b""),
    (b"location", b""),
    (b"max-forwards", b""),
    (b"proxy-authenticate", b""),
    (b"proxy-authorization", b""),
    (b"range", b""),
    (b"referer", b""),
    (b"refresh", b""),
    (b"retry-after", b""),
    (b"server", b""),
    (b"set-cookie", b""),
    (b"strict-transport-security", b""),
    (b"transfer-encoding", b""),
    (b"user-agent", b""),
    (b"vary", b""),
    (b"via", b""),
    (b"www-authenticate", b""),
];

/// How many entries the static table has: the first dynamic index is one more.
pub(super) const LEN: usize = 61;

/// For each entry, which index its name has first.
static LOWEST: [u8; LEN] = {
    let mut lowest = [0; LEN];
    let mut nth = 0;
    while nth < LEN {
        lowest[nth] = match nth + 1 {
            3 => 2,
            5 => 4,
            7 => 6,
            9..=14 => 8,
            index => index as u8,
        };
        nth += 1;
    }
    lowest
};

/// The lowest index that has the same name as the `nth` entry, counted from 0.
#[inline]
pub(super) fn lowest(nth: usize) -> u8 {
    LOWEST[nth]
}

/// The entry that has both this name and this value, where `name` is the lowest index of the name.
#[inline]
pub(super) fn with_value(name: u8, value: &[u8]) -> Option<u8> {
    match name {
        0 => None,
        2..=14 | 16 => special(name, value),
        // The value is empty.
        _ => value.is_empty().then_some(name),
    }
}

fn special(name: u8, value: &[u8]) -> Option<u8> {
    let further = match (name, value) {
        (2, b"GET") | (4, b"/") | (6, b"http") | (8, b"200") | (16, b"gzip, deflate") => 0,
        (2, b"POST") | (4, b"/index.html") | (6, b"https") | (8, b"204") => 1,
        (8, b"206") => 2,
        (8, b"304") => 3,
        (8, b"400") => 4,
        (8, b"404") => 5,
        (8, b"500") => 6,
        _ => return None,
    };
    Some(name + further)
}
