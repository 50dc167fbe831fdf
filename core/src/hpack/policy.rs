//! What is worth a place in the dynamic table, and what must not have one.
//!
//! A table is filled once and read often, or it is only churned: a value that never comes again costs
//! an entry that might have. What is known to repeat is indexed at once; what might is indexed when
//! it comes the second time; ids, dates and tokens never are.

use super::names::Policy;

/// How a field that is in neither table is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Literal {
    /// With incremental indexing (RFC 7541 §6.2.1).
    Indexed,
    /// Without indexing (§6.2.2).
    Plain,
    /// Never indexed, here or on the hops that follow (§6.2.3).
    Never,
}

/// Cookies below this can be found by trying (RFC 7541 §7.1.3); longer ones hold enough entropy.
const SHORT_COOKIE: usize = 20;

/// How a field is written that is not indexed because of its name; `None` if it may be.
#[inline]
pub(super) fn not_indexed(policy: Policy, value: &[u8]) -> Option<Literal> {
    match policy {
        Policy::Index | Policy::Repeat | Policy::Path => None,
        // Nothing is the one value that comes again.
        Policy::Plain if value.is_empty() => None,
        Policy::Plain => Some(Literal::Plain),
        Policy::Never => Some(Literal::Never),
        Policy::Cookie if value.len() < SHORT_COOKIE => Some(Literal::Never),
        Policy::Cookie => Some(Literal::Plain),
        Policy::GrpcStatus if value == b"0" => None,
        Policy::GrpcStatus => Some(Literal::Plain),
    }
}

/// How a field is written that is in no table. `seen`: was it here lately?
pub(super) fn literal(policy: Policy, value: &[u8], seen: impl FnOnce() -> bool) -> Literal {
    if let Some(literal) = not_indexed(policy, value) {
        return literal;
    }
    let indexed = match policy {
        Policy::Repeat | Policy::Plain => seen(),
        Policy::Path => !looks_unique(value) && seen(),
        _ => true,
    };
    if indexed { Literal::Indexed } else { Literal::Plain }
}

/// The policy for a name that is not known.
pub(super) fn unknown(name: &[u8]) -> Policy {
    if name.starts_with(b"l5d-ctx-") || name.starts_with(b"x-b3-") || name.starts_with(b"if-") {
        Policy::Plain
    } else if name.split(|&b| b == b'-' || b == b'_').any(is_secret) {
        Policy::Never
    } else {
        Policy::Repeat
    }
}

/// Is a name with this word one of a secret?
fn is_secret(word: &[u8]) -> bool {
    matches!(
        word,
        b"apikey"
            | b"assertion"
            | b"auth"
            | b"authorization"
            | b"cookie"
            | b"credential"
            | b"credentials"
            | b"csrf"
            | b"jwt"
            | b"key"
            | b"passwd"
            | b"password"
            | b"secret"
            | b"session"
            | b"sid"
            | b"signature"
            | b"token"
            | b"tokens"
            | b"xsrf"
    )
}

/// Does a path have a part that hardly comes again: a query, or a segment that is an id?
pub(super) fn looks_unique(path: &[u8]) -> bool {
    let mut segment = Segment::default();
    for &byte in path {
        match byte {
            b'?' => return true,
            b'/' => {
                if segment.is_id() {
                    return true;
                }
                segment = Segment::default();
            }
            _ => segment.add(byte),
        }
    }
    segment.is_id()
}

/// What a segment of a path is made of.
#[derive(Default)]
struct Segment {
    len: u32,
    digits: u32,
    /// Letters up to `f`, in one case or the other, and hyphens.
    hex: u32,
}

impl Segment {
    #[inline]
    fn add(&mut self, byte: u8) {
        self.len += 1;
        match byte {
            b'0'..=b'9' => self.digits += 1,
            b'a'..=b'f' | b'A'..=b'F' | b'-' => self.hex += 1,
            _ => {}
        }
    }

    /// A number, something hexadecimal, a UUID, or anything with many digits: an id, and no word,
    /// version (`v2`, `2024`) or method.
    fn is_id(&self) -> bool {
        let Segment { len, digits, hex } = *self;
        // `2024` and `v1` may be part of an API; a number that is all of a segment is a key.
        digits >= 5 || digits > 0 && digits == len || digits > 0 && len >= 8 && digits + hex == len
    }
}

/// A short memory of the fields that were written as literals: a few bits of the hash of each.
///
/// Four sets of four, the newest first: a field that always comes is found although ids pass by.
#[derive(Debug, Default)]
pub(super) struct Recent {
    sets: [[u16; 4]; 4],
}

impl Recent {
    /// Was this one here lately? It is from now on. That two are taken for one costs an entry, no
    /// more.
    pub(super) fn seen(&mut self, hash: u64) -> bool {
        let set = &mut self.sets[(hash >> 32) as usize % 4];
        // 0 is a free place.
        let tag = (hash >> 48) as u16 | 1;
        if set.contains(&tag) {
            return true;
        }
        *set = [tag, set[0], set[1], set[2]];
        false
    }
}
