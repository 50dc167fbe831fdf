//! Where we may differ from `h2`, and why.

/// One way to differ.
#[derive(Clone, Copy, Debug)]
pub struct Allowed {
    /// The rule that we say was broken, or the case, if we say that none was.
    pub label: &'static str,
    /// What we do.
    pub ours: &'static str,
    /// What `h2` does.
    pub theirs: &'static str,
    /// Why that is right.
    pub why: &'static str,
}

/// A malformed message costs its stream.
const MALFORMED: &str = "RFC 9113 §8.1.1: a malformed message costs its stream";

const fn allow(
    label: &'static str,
    ours: &'static str,
    theirs: &'static str,
    why: &'static str,
) -> Allowed {
    Allowed { label, ours, theirs, why }
}

/// What is accepted.
const ACCEPT: &str = "accept";
/// The commonest errors.
const STREAM: &str = "stream PROTOCOL_ERROR";
/// The commonest errors.
const CONNECTION: &str = "connection PROTOCOL_ERROR";

/// Where we are stricter, or make an error of another kind.
const STRICTER: &[Allowed] = &[
    allow(
        "authority",
        STREAM,
        ACCEPT,
        "RFC 9113 §8.3.1: no userinfo, no second Host, none that differs; RFC 9110 §9.3.6: CONNECT names a port",
    ),
    allow("authority", STREAM, CONNECTION, MALFORMED),
    allow(
        "block_too_large",
        "connection ENHANCE_YOUR_CALM",
        ACCEPT,
        "RFC 9113 §10.5.1: a limit of ours; `h2` waits for more",
    ),
    allow(
        "compression",
        "connection COMPRESSION_ERROR",
        CONNECTION,
        "RFC 9113 §4.3: of type COMPRESSION_ERROR",
    ),
    allow(
        "compression",
        "connection COMPRESSION_ERROR",
        STREAM,
        "RFC 9113 §4.3: what is wrong with the frame must not hide what is wrong with its block",
    ),
    allow(
        "compression",
        "connection COMPRESSION_ERROR",
        ACCEPT,
        "RFC 9113 §4.3: `h2` drops a representation that the first of two fragments breaks",
    ),
    allow("content_length", STREAM, ACCEPT, "RFC 9110 §8.6: an empty value is no number"),
    allow(
        "content_mismatch",
        STREAM,
        ACCEPT,
        "RFC 9110 §6.4.1: HEAD, 204 and 304 have no content; RFC 9113 §8.1.1",
    ),
    allow("field_name", STREAM, CONNECTION, MALFORMED),
    allow("field_value", STREAM, ACCEPT, "RFC 9113 §8.2.1: no whitespace at either end"),
    allow("field_value", STREAM, CONNECTION, MALFORMED),
    allow(
        "frame_length",
        "connection FRAME_SIZE_ERROR",
        ACCEPT,
        "RFC 9218 §7.1: `h2` does not know PRIORITY_UPDATE",
    ),
    allow(
        "frame_length",
        "connection FRAME_SIZE_ERROR",
        CONNECTION,
        "RFC 9113 §4.2: of type FRAME_SIZE_ERROR",
    ),
    allow(
        "frame_length",
        "stream FRAME_SIZE_ERROR",
        CONNECTION,
        "RFC 9113 §6.3: a PRIORITY of another length costs its stream",
    ),
    allow("frame_stream", CONNECTION, ACCEPT, "RFC 9218 §7.1: `h2` does not know PRIORITY_UPDATE"),
    allow(
        "http1_answer",
        CONNECTION,
        "connection FRAME_SIZE_ERROR",
        "RFC 9113 §3.4: an invalid preface is a PROTOCOL_ERROR",
    ),
    allow("method", STREAM, CONNECTION, MALFORMED),
    allow(
        "path",
        STREAM,
        ACCEPT,
        "RFC 9113 §8.3.1: `*` is for OPTIONS, and a fragment is no part of a path",
    ),
    allow("path", STREAM, CONNECTION, MALFORMED),
    allow(
        "preface",
        CONNECTION,
        "connection 0xffffffff",
        "RFC 9113 §3.4: a GOAWAY may be left out",
    ),
    allow("preface_settings", CONNECTION, ACCEPT, "RFC 9113 §3.4: SETTINGS come first"),
    allow("priority_update", CONNECTION, ACCEPT, "RFC 9218 §7.1: `h2` does not know it"),
    allow(
        "pseudo_missing",
        STREAM,
        ACCEPT,
        "RFC 9113 §8.3.1, §8.3.2: :path and :status are not optional",
    ),
    allow("pseudo_missing", STREAM, CONNECTION, MALFORMED),
    allow("pseudo_place", STREAM, ACCEPT, "RFC 9113 §8.1: trailers have no pseudo-headers"),
    allow("pseudo_place", STREAM, CONNECTION, MALFORMED),
    allow("pseudo_repeated", STREAM, CONNECTION, MALFORMED),
    allow(
        "pseudo_unknown",
        STREAM,
        ACCEPT,
        "RFC 9113 §8.3: those of requests have no place in responses",
    ),
    allow("pseudo_unknown", STREAM, CONNECTION, MALFORMED),
    allow("push", CONNECTION, ACCEPT, "RFC 9113 §8.4: `h2` waits for the end of its block"),
    allow("scheme", STREAM, ACCEPT, "RFC 3986 §3.1: no scheme is empty"),
    allow("scheme", STREAM, CONNECTION, MALFORMED),
    allow("self_dependency", STREAM, CONNECTION, "RFC 7540 §5.3.1: a stream error"),
    allow(
        "sequence",
        STREAM,
        ACCEPT,
        "RFC 9113 §8.1: a head is not followed by another; §8.5: a tunnel has no trailers",
    ),
    allow("sequence", STREAM, CONNECTION, MALFORMED),
    allow(
        "setting_value",
        CONNECTION,
        ACCEPT,
        "RFC 9113 §6.5.2: no server sends ENABLE_PUSH 1; RFC 8441 §3: it is not taken back",
    ),
    allow(
        "setting_window",
        "connection FLOW_CONTROL_ERROR",
        CONNECTION,
        "RFC 9113 §6.5.2: of type FLOW_CONTROL_ERROR",
    ),
    allow("status", STREAM, ACCEPT, "RFC 9113 §8.6: there is no 101"),
    allow("status", STREAM, CONNECTION, MALFORMED),
    allow(
        "stream_closed",
        "stream STREAM_CLOSED",
        ACCEPT,
        "RFC 9113 §5.1: `h2` remembers streams that it reset for longer, or does not look at them",
    ),
    allow(
        "stream_closed",
        "stream STREAM_CLOSED",
        CONNECTION,
        "RFC 9113 §5.1: half-closed (remote): a stream error of type STREAM_CLOSED",
    ),
    allow("stream_closed", "stream STREAM_CLOSED", STREAM, "RFC 9113 §5.1: of type STREAM_CLOSED"),
    allow(
        "stream_closed",
        "connection STREAM_CLOSED",
        CONNECTION,
        "RFC 9113 §5.1: a connection error of type STREAM_CLOSED",
    ),
    allow("stream_id", CONNECTION, STREAM, "RFC 9113 §5.1.1: a connection error"),
    allow("stream_id", CONNECTION, "stream STREAM_CLOSED", "RFC 9113 §5.1.1: a connection error"),
    allow(
        "window",
        "stream FLOW_CONTROL_ERROR",
        "connection FLOW_CONTROL_ERROR",
        "RFC 9113 §6.9.1: either",
    ),
    allow("window_increment", STREAM, CONNECTION, "RFC 9113 §6.9: a stream error"),
    allow(
        "window_overflow",
        "stream FLOW_CONTROL_ERROR",
        ACCEPT,
        "RFC 9113 §6.9.1: also where nothing will be sent any more",
    ),
];

/// Where we are more patient: by the name of the case, or of what was done to a generated one.
const MORE_PATIENT: &[Allowed] = &[
    allow(
        "bit",
        ACCEPT,
        STREAM,
        "RFC 9113 §8.3.1: the `http` crate refuses more of what URIs must not have",
    ),
    allow(
        "connect_accepted",
        ACCEPT,
        STREAM,
        "RFC 9110 §9.3.6: Content-Length in a 2xx to CONNECT is ignored",
    ),
    allow(
        "ended_what_may_have_crossed",
        ACCEPT,
        CONNECTION,
        "RFC 9113 §5.1: WINDOW_UPDATE may come after the end; its value matters no more",
    ),
    allow(
        "field_too_many",
        ACCEPT,
        "connection ENHANCE_YOUR_CALM",
        "RFC 9113 §10.5.1: many small CONTINUATIONs within the limits are not yet a flood",
    ),
    allow(
        "goaway_because_of_us",
        ACCEPT,
        "connection NO_ERROR",
        "RFC 9113 §6.8: whoever is told to go decides when",
    ),
    allow(
        "goaway_that_takes_less_back",
        ACCEPT,
        CONNECTION,
        "RFC 9113 §6.8: the smallest of the two counts",
    ),
    allow(
        "goaway_with_an_unknown_code",
        ACCEPT,
        "connection NO_ERROR",
        "RFC 9113 §7: unknown codes are nothing special",
    ),
    allow(
        "type",
        ACCEPT,
        "connection NO_ERROR",
        "RFC 9113 §6.8: a frame that became a GOAWAY: whoever is told to go decides when",
    ),
];

/// All of them.
pub const ALLOWED: [&[Allowed]; 2] = [STRICTER, MORE_PATIENT];
