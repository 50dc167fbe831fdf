//! Names that the encoder knows: their place in the static table, and what their values are like.

use super::hash::{SHORT, hash, words};

/// What the values of a name are like, and so how they are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Policy {
    /// They repeat: the first goes into the table.
    Index,
    /// Some repeat: what was seen recently goes into the table.
    Repeat,
    /// They do not repeat.
    Plain,
    /// They are secrets (RFC 7541 §7.1).
    Never,
    /// `:path`.
    Path,
    /// `cookie`.
    Cookie,
    /// `grpc-status`: 0 repeats, and the others are rare.
    GrpcStatus,
}

/// One name.
#[derive(Clone, Copy, Debug)]
pub(super) struct Name {
    text: &'static [u8],
    words: (u64, u64),
    /// Its lowest index in the static table, or 0.
    pub(super) index: u8,
    pub(super) policy: Policy,
    /// Which of the names it is, from 1 on.
    pub(super) id: u8,
}

/// The name that is `text`, whose [`words`] and [`hash`] on 0 these are.
#[inline]
pub(super) fn find(text: &[u8], words: (u64, u64), hash: u64) -> Option<&'static Name> {
    let mut slot = first(hash);
    // Some slot is free, and so ends this; the table is fixed, and it takes four steps at most.
    while let Some(name) = NAMES.get(usize::from(TABLE[slot].name)) {
        if TABLE[slot].tag == tag(hash) && name.is(text, words) {
            return Some(name);
        }
        slot = (slot + 1) % SLOTS;
    }
    None
}

/// Is the name of this `id`, if it has one, in the static table?
pub(super) fn is_static(id: u8) -> bool {
    usize::from(id).checked_sub(1).and_then(|nth| NAMES.get(nth)).is_some_and(|name| name.index > 0)
}

impl Name {
    #[inline]
    fn is(&self, text: &[u8], words: (u64, u64)) -> bool {
        self.words == words
            && self.text.len() == text.len()
            && (text.len() <= SHORT || self.text == text)
    }
}

const SLOTS: usize = 512;
const MAX_STEPS: usize = 4;

/// A place in the table of names.
#[derive(Clone, Copy)]
struct Slot {
    tag: u8,
    /// The name's place in [`NAMES`], or one that is beyond.
    name: u8,
}

static TABLE: [Slot; SLOTS] = {
    let mut table = [Slot { tag: 0, name: u8::MAX }; SLOTS];
    let mut index = 0;
    while index < NAMES_OF.len() {
        let hash = hash(0, NAMES_OF[index].text);
        let (mut slot, mut steps) = (first(hash), 1);
        while table[slot].name != u8::MAX {
            slot = (slot + 1) % SLOTS;
            steps += 1;
        }
        assert!(steps <= MAX_STEPS);
        table[slot] = Slot { tag: tag(hash), name: index as u8 };
        index += 1;
    }
    assert!(NAMES_OF.len() < u8::MAX as usize);
    table
};

const fn first(hash: u64) -> usize {
    (hash >> 24) as usize % SLOTS
}

const fn tag(hash: u64) -> u8 {
    (hash >> 56) as u8
}

const fn name(text: &'static [u8], index: u8, policy: Policy) -> Name {
    Name { text, words: words(text), index, policy, id: 0 }
}

static NAMES: [Name; COUNT] = NAMES_OF;
const COUNT: usize = 109;

const NAMES_OF: [Name; COUNT] = {
    let mut names = LIST;
    let mut index = 0;
    while index < COUNT {
        names[index].id = index as u8 + 1;
        index += 1;
    }
    names
};

#[rustfmt::skip]
const LIST: [Name; COUNT] = {
    use Policy::{Cookie, GrpcStatus, Index, Never, Path, Plain, Repeat};
    [
        // The static table (RFC 7541 Appendix A).
        name(b":authority", 1, Index),
        name(b":method", 2, Index),
        name(b":path", 4, Path),
        name(b":scheme", 6, Index),
        name(b":status", 8, Index),
        name(b"accept-charset", 15, Index),
        name(b"accept-encoding", 16, Index),
        name(b"accept-language", 17, Repeat),
        name(b"accept-ranges", 18, Index),
        name(b"accept", 19, Index),
        name(b"access-control-allow-origin", 20, Index),
        name(b"age", 21, Plain),
        name(b"allow", 22, Index),
        name(b"authorization", 23, Never),
        name(b"cache-control", 24, Index),
        name(b"content-disposition", 25, Repeat),
        name(b"content-encoding", 26, Index),
        name(b"content-language", 27, Index),
        name(b"content-length", 28, Plain),
        name(b"content-location", 29, Repeat),
        name(b"content-range", 30, Plain),
        name(b"content-type", 31, Index),
        name(b"cookie", 32, Cookie),
        name(b"date", 33, Plain),
        name(b"etag", 34, Plain),
        name(b"expect", 35, Index),
        name(b"expires", 36, Plain),
        name(b"from", 37, Repeat),
        name(b"host", 38, Index),
        name(b"if-match", 39, Plain),
        name(b"if-modified-since", 40, Plain),
        name(b"if-none-match", 41, Plain),
        name(b"if-range", 42, Plain),
        name(b"if-unmodified-since", 43, Plain),
        name(b"last-modified", 44, Plain),
        name(b"link", 45, Repeat),
        name(b"location", 46, Repeat),
        name(b"max-forwards", 47, Repeat),
        name(b"proxy-authenticate", 48, Repeat),
        name(b"proxy-authorization", 49, Never),
        name(b"range", 50, Plain),
        name(b"referer", 51, Repeat),
        name(b"refresh", 52, Repeat),
        name(b"retry-after", 53, Repeat),
        name(b"server", 54, Index),
        name(b"set-cookie", 55, Never),
        name(b"strict-transport-security", 56, Index),
        name(b"transfer-encoding", 57, Index),
        name(b"user-agent", 58, Repeat),
        name(b"vary", 59, Index),
        name(b"via", 60, Index),
        name(b"www-authenticate", 61, Repeat),
        // One value for all, or few.
        name(b":protocol", 0, Index),
        name(b"access-control-allow-credentials", 0, Index),
        name(b"access-control-allow-headers", 0, Index),
        name(b"access-control-allow-methods", 0, Index),
        name(b"grpc-accept-encoding", 0, Index),
        name(b"grpc-encoding", 0, Index),
        name(b"grpc-status", 0, GrpcStatus),
        name(b"l5d-orig-proto", 0, Index),
        name(b"te", 0, Index),
        name(b"trailer", 0, Index),
        name(b"x-b3-sampled", 0, Index),
        name(b"x-content-type-options", 0, Index),
        name(b"x-forwarded-proto", 0, Index),
        name(b"x-frame-options", 0, Index),
        // Another one for each message.
        name(b"b3", 0, Plain),
        name(b"cf-ray", 0, Plain),
        name(b"content-digest", 0, Plain),
        name(b"content-md5", 0, Plain),
        name(b"digest", 0, Plain),
        name(b"grpc-message", 0, Plain),
        name(b"grpc-status-details-bin", 0, Plain),
        name(b"grpc-timeout", 0, Plain),
        name(b"grpc-trace-bin", 0, Plain),
        name(b"l5d-ctx-deadline", 0, Plain),
        name(b"l5d-ctx-trace", 0, Plain),
        name(b"request-id", 0, Plain),
        name(b"sec-websocket-accept", 0, Plain),
        name(b"sec-websocket-key", 0, Plain),
        name(b"sentry-trace", 0, Plain),
        name(b"server-timing", 0, Plain),
        name(b"traceparent", 0, Plain),
        name(b"tracestate", 0, Plain),
        name(b"uber-trace-id", 0, Plain),
        name(b"x-amz-request-id", 0, Plain),
        name(b"x-amzn-trace-id", 0, Plain),
        name(b"x-b3-parentspanid", 0, Plain),
        name(b"x-b3-spanid", 0, Plain),
        name(b"x-b3-traceid", 0, Plain),
        name(b"x-cloud-trace-context", 0, Plain),
        name(b"x-correlation-id", 0, Plain),
        name(b"x-datadog-parent-id", 0, Plain),
        name(b"x-datadog-trace-id", 0, Plain),
        name(b"x-envoy-upstream-service-time", 0, Plain),
        name(b"x-request-id", 0, Plain),
        name(b"x-response-time", 0, Plain),
        name(b"x-runtime", 0, Plain),
        name(b"x-trace-id", 0, Plain),
        name(b"x-transaction-id", 0, Plain),
        // Secrets.
        name(b"api-key", 0, Never),
        name(b"x-access-token", 0, Never),
        name(b"x-amz-security-token", 0, Never),
        name(b"x-api-key", 0, Never),
        name(b"x-auth-token", 0, Never),
        name(b"x-csrf-token", 0, Never),
        name(b"x-session-id", 0, Never),
        name(b"x-vault-token", 0, Never),
        name(b"x-xsrf-token", 0, Never),
    ]
};
