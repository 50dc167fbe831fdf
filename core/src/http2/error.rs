//! Error codes (RFC 9113 §7) and the rules that a peer can break.

use core::fmt;

/// The code of RST_STREAM and GOAWAY (RFC 9113 §7). Unknown ones are passed on as they are.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct ErrorCode(pub u32);

impl ErrorCode {
    /// Nothing is wrong.
    pub const NO_ERROR: ErrorCode = ErrorCode(0);
    /// A rule was broken that has no code of its own.
    pub const PROTOCOL_ERROR: ErrorCode = ErrorCode(1);
    /// The sender's own fault.
    pub const INTERNAL_ERROR: ErrorCode = ErrorCode(2);
    /// More was sent than the window allowed.
    pub const FLOW_CONTROL_ERROR: ErrorCode = ErrorCode(3);
    /// SETTINGS were not acknowledged in time.
    pub const SETTINGS_TIMEOUT: ErrorCode = ErrorCode(4);
    /// A frame for a stream that takes none any more.
    pub const STREAM_CLOSED: ErrorCode = ErrorCode(5);
    /// A frame of an impossible length.
    pub const FRAME_SIZE_ERROR: ErrorCode = ErrorCode(6);
    /// Nothing was done with the request: it may be sent again.
    pub const REFUSED_STREAM: ErrorCode = ErrorCode(7);
    /// The stream is not wanted any more.
    pub const CANCEL: ErrorCode = ErrorCode(8);
    /// HPACK state was lost.
    pub const COMPRESSION_ERROR: ErrorCode = ErrorCode(9);
    /// The tunnel of a CONNECT broke.
    pub const CONNECT_ERROR: ErrorCode = ErrorCode(10);
    /// The peer makes too much work.
    pub const ENHANCE_YOUR_CALM: ErrorCode = ErrorCode(11);
    /// The transport is not safe enough.
    pub const INADEQUATE_SECURITY: ErrorCode = ErrorCode(12);
    /// Ask again over HTTP/1.1.
    pub const HTTP_1_1_REQUIRED: ErrorCode = ErrorCode(13);
}

impl fmt::Debug for ErrorCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const NAMES: [&str; 14] = [
            "NO_ERROR",
            "PROTOCOL_ERROR",
            "INTERNAL_ERROR",
            "FLOW_CONTROL_ERROR",
            "SETTINGS_TIMEOUT",
            "STREAM_CLOSED",
            "FRAME_SIZE_ERROR",
            "REFUSED_STREAM",
            "CANCEL",
            "COMPRESSION_ERROR",
            "CONNECT_ERROR",
            "ENHANCE_YOUR_CALM",
            "INADEQUATE_SECURITY",
            "HTTP_1_1_REQUIRED",
        ];
        match NAMES.get(self.0 as usize) {
            Some(name) => f.write_str(name),
            None => write!(f, "{:#x}", self.0),
        }
    }
}

/// Declares [`Violation`] as a table: variant, error code, metric label, message.
macro_rules! violations {
    ($($(#[$doc:meta])* $variant:ident = $code:ident, $label:literal, $message:literal;)*) => {
        /// A rule of HTTP/2 that a peer broke. Where it is raised says whether it costs the
        /// stream or the connection (RFC 9113 §5.4).
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[repr(u8)]
        pub enum Violation {
            $($(#[$doc])* $variant,)*
        }

        impl Violation {
            /// Every violation, in declaration order: `ALL[violation as usize] == violation`.
            pub const ALL: &'static [Violation] = &[$(Violation::$variant,)*];

            /// What the peer is told.
            pub const fn code(self) -> ErrorCode {
                match self { $(Violation::$variant => ErrorCode::$code,)* }
            }

            /// The label value in metrics: stable, lower case, `snake_case`.
            pub const fn label(self) -> &'static str {
                match self { $(Violation::$variant => $label,)* }
            }

            /// One sentence for people; also the debug data of a GOAWAY.
            pub const fn message(self) -> &'static str {
                match self { $(Violation::$variant => $message,)* }
            }
        }
    };
}

violations! {
    // ---- Frames ----
    /// The client's first bytes are not the preface (RFC 9113 §3.4).
    Preface = PROTOCOL_ERROR, "preface", "malformed connection preface";
    /// The first frame is not SETTINGS (RFC 9113 §3.4).
    PrefaceSettings = PROTOCOL_ERROR, "preface_settings", "first frame is not SETTINGS";
    /// A server's first bytes are an HTTP/1 response (RFC 9113 §3.4).
    Http1Answer = PROTOCOL_ERROR, "http1_answer", "an HTTP/1 response to an HTTP/2 preface";
    /// Longer than SETTINGS_MAX_FRAME_SIZE (RFC 9113 §4.2).
    FrameTooLarge = FRAME_SIZE_ERROR, "frame_too_large", "frame over SETTINGS_MAX_FRAME_SIZE";
    /// A length that this type of frame cannot have (RFC 9113 §6).
    FrameLength = FRAME_SIZE_ERROR, "frame_length", "frame of impossible length";
    /// A stream frame on stream 0, or a connection frame on a stream (RFC 9113 §6).
    FrameStream = PROTOCOL_ERROR, "frame_stream", "frame on the wrong stream";
    /// Padding as long as the frame or longer (RFC 9113 §6.1).
    Padding = PROTOCOL_ERROR, "padding", "padding exceeds the frame";
    /// A frame between HEADERS and the end of its block (RFC 9113 §6.10).
    Interleaved = PROTOCOL_ERROR, "interleaved", "frame inside a header block";
    /// CONTINUATION without HEADERS before it (RFC 9113 §6.10).
    Continuation = PROTOCOL_ERROR, "continuation", "CONTINUATION without a header block";
    /// PUSH_PROMISE to a server, or unasked (RFC 9113 §8.4).
    Push = PROTOCOL_ERROR, "push", "PUSH_PROMISE is not welcome";
    /// A setting out of its range (RFC 9113 §6.5.2).
    SettingValue = PROTOCOL_ERROR, "setting_value", "setting out of range";
    /// SETTINGS_INITIAL_WINDOW_SIZE over 2^31-1 (RFC 9113 §6.5.2).
    SettingWindow = FLOW_CONTROL_ERROR, "setting_window", "SETTINGS_INITIAL_WINDOW_SIZE out of range";
    /// An acknowledgement of SETTINGS that were not sent.
    SettingsAck = PROTOCOL_ERROR, "settings_ack", "acknowledged SETTINGS that were not sent";
    /// Our SETTINGS were not acknowledged in time (RFC 9113 §6.5.3).
    SettingsTimeout = SETTINGS_TIMEOUT, "settings_timeout", "SETTINGS not acknowledged in time";
    /// A keep-alive PING was not answered in time.
    PingTimeout = NO_ERROR, "ping_timeout", "PING not answered in time";
    /// A header block was not complete in time.
    HeaderTimeout = ENHANCE_YOUR_CALM, "header_timeout", "header block not complete in time";

    // ---- Streams (RFC 9113 §5.1) ----
    /// A frame for a stream that was never opened.
    StreamIdle = PROTOCOL_ERROR, "stream_idle", "frame for an idle stream";
    /// A frame for a stream that is over.
    StreamClosed = STREAM_CLOSED, "stream_closed", "frame for a closed stream";
    /// A new stream whose id is of the wrong parity or not above the last one (RFC 9113 §5.1.1).
    StreamId = PROTOCOL_ERROR, "stream_id", "invalid stream identifier";
    /// Over SETTINGS_MAX_CONCURRENT_STREAMS (RFC 9113 §5.1.2).
    TooManyStreams = REFUSED_STREAM, "too_many_streams", "too many concurrent streams";
    /// A stream that depends on itself (RFC 7540 §5.3.1).
    SelfDependency = PROTOCOL_ERROR, "self_dependency", "stream depends on itself";

    /// PRIORITY_UPDATE about stream 0, or from a server (RFC 9218 §7.1).
    PriorityUpdate = PROTOCOL_ERROR, "priority_update", "PRIORITY_UPDATE that must not be";

    // ---- Flow control (RFC 9113 §6.9) ----
    /// DATA beyond the window.
    Window = FLOW_CONTROL_ERROR, "window", "more DATA than the window allows";
    /// A WINDOW_UPDATE that makes a window larger than 2^31-1.
    WindowOverflow = FLOW_CONTROL_ERROR, "window_overflow", "window over 2^31-1";
    /// A WINDOW_UPDATE of 0.
    WindowIncrement = PROTOCOL_ERROR, "window_increment", "WINDOW_UPDATE of 0";

    // ---- Messages (RFC 9113 §8) ----
    /// A header block that HPACK cannot read (RFC 7541).
    Compression = COMPRESSION_ERROR, "compression", "undecodable header block";
    /// A header block so long that it is not decoded any more.
    BlockTooLarge = ENHANCE_YOUR_CALM, "block_too_large", "header block too large";
    /// A field name with a byte that it must not have, upper case included (RFC 9113 §8.2.1).
    FieldName = PROTOCOL_ERROR, "field_name", "malformed field name";
    /// A field value with a byte that it must not have, or with space around it (RFC 9113 §8.2.1).
    FieldValue = PROTOCOL_ERROR, "field_value", "malformed field value";
    /// Connection, Transfer-Encoding and their like, or TE other than `trailers` (RFC 9113 §8.2.2).
    ConnectionField = PROTOCOL_ERROR, "connection_field", "connection-specific field";
    /// A pseudo-header after a field, or in trailers (RFC 9113 §8.1, §8.3).
    PseudoPlace = PROTOCOL_ERROR, "pseudo_place", "misplaced pseudo-header";
    /// A pseudo-header that does not exist, or not in this kind of message (RFC 9113 §8.3).
    PseudoUnknown = PROTOCOL_ERROR, "pseudo_unknown", "unknown pseudo-header";
    /// A pseudo-header twice (RFC 9113 §8.3).
    PseudoRepeated = PROTOCOL_ERROR, "pseudo_repeated", "repeated pseudo-header";
    /// A pseudo-header that has to be there (RFC 9113 §8.3.1, §8.3.2).
    PseudoMissing = PROTOCOL_ERROR, "pseudo_missing", "missing pseudo-header";
    /// `:method` is not a token.
    Method = PROTOCOL_ERROR, "method", "malformed :method";
    /// `:scheme` is none (RFC 3986 §3.1).
    Scheme = PROTOCOL_ERROR, "scheme", "malformed :scheme";
    /// `:path` is empty, or not a path (RFC 9113 §8.3.1).
    Path = PROTOCOL_ERROR, "path", "malformed :path";
    /// `:authority` or Host is not `host [":" port]`, or they differ (RFC 9113 §8.3.1).
    Authority = PROTOCOL_ERROR, "authority", "malformed or contradictory authority";
    /// `:status` is not three digits, or 101 (RFC 9113 §8.6).
    Status = PROTOCOL_ERROR, "status", "malformed :status";
    /// A Content-Length that is no number, or several that differ (RFC 9113 §8.1.1).
    ContentLength = PROTOCOL_ERROR, "content_length", "malformed Content-Length";
    /// Content-Length is not what the DATA frames add up to (RFC 9113 §8.1.1).
    ContentMismatch = PROTOCOL_ERROR, "content_mismatch", "body does not match Content-Length";
    /// Trailers that do not end the stream, a 1xx that does, DATA before a response
    /// (RFC 9113 §8.1).
    Sequence = PROTOCOL_ERROR, "sequence", "message out of sequence";

    // ---- Work (see [`budget`](super::budget)) ----
    /// More overhead than the traffic accounts for.
    Overhead = ENHANCE_YOUR_CALM, "overhead", "too much overhead";
    /// Streams that were opened and reset at once (CVE-2023-44487).
    RapidReset = ENHANCE_YOUR_CALM, "rapid_reset", "too many streams reset";
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.message())
    }
}

impl core::error::Error for Violation {}

/// A violation and what it costs (RFC 9113 §5.4).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// The connection.
    Connection(Violation),
    /// The stream.
    Stream(u32, Violation),
    /// Nothing: the frame is dropped.
    Ignore,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn violations_index_themselves_and_have_distinct_labels() {
        for (index, &violation) in Violation::ALL.iter().enumerate() {
            assert_eq!(violation as usize, index);
            let others = &Violation::ALL[..index];
            assert!(others.iter().all(|other| other.label() != violation.label()));
        }
    }
}
