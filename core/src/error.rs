//! Why something was refused, failed or ended: one list, used for answers, metrics and logs.

use core::fmt;

/// Declares [`Reason`] as a table: variant, HTTP status, metric label, message.
macro_rules! reasons {
    ($($(#[$doc:meta])* $variant:ident = $status:literal, $label:literal, $message:literal;)*) => {
        /// Why a message was refused, an exchange failed or a connection was ended early.
        ///
        /// Each has an HTTP status, a label for metrics and a sentence for logs and for
        /// `l5d-proxy-error`.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[repr(u8)]
        pub enum Reason {
            $($(#[$doc])* $variant,)*
        }

        impl Reason {
            /// Every reason, in declaration order: `ALL[reason as usize] == reason`.
            pub const ALL: &'static [Reason] = &[$(Reason::$variant,)*];

            /// The status that a client is answered, when an answer is still possible.
            pub const fn status(self) -> u16 {
                match self { $(Reason::$variant => $status,)* }
            }

            /// The label value in metrics: stable, lower case, `snake_case`.
            pub const fn label(self) -> &'static str {
                match self { $(Reason::$variant => $label,)* }
            }

            /// One sentence for people. It goes into `l5d-proxy-error`: ASCII, no quotes.
            pub const fn message(self) -> &'static str {
                match self { $(Reason::$variant => $message,)* }
            }
        }
    };
}

reasons! {
    // ---- The form of a message (RFC 9112, RFC 9110) ----
    /// A line that ends in LF without CR (RFC 9112 §2.2).
    BareLf = 400, "bare_lf", "line ends in a bare LF";
    /// A CR that no LF follows (RFC 9112 §2.2).
    BareCr = 400, "bare_cr", "bare CR";
    /// A NUL in a head (RFC 9110 §5.5).
    Nul = 400, "nul", "NUL in a message head";
    /// Another control character in a name, value or target (RFC 9110 §5.5).
    ControlCharacter = 400, "control_character", "control character in a message head";
    /// A field line folded onto the next (RFC 9112 §5.2).
    ObsoleteFold = 400, "obs_fold", "obsolete line folding";
    /// A first line that is not `method SP target SP version` (RFC 9112 §3).
    RequestLine = 400, "request_line", "malformed request line";
    /// A method that is not a token (RFC 9110 §9.1).
    Method = 400, "method", "method is not a token";
    /// A request target in none of the four forms, or in the wrong one for its method
    /// (RFC 9112 §3.2).
    Target = 400, "target", "malformed request target";
    /// An HTTP version other than 1.0 and 1.1 on a first line (RFC 9110 §15.6.6).
    Version = 505, "version", "HTTP version not supported";
    /// A field name that is empty or not a token (RFC 9110 §5.1).
    FieldName = 400, "field_name", "malformed field name";
    /// Whitespace between a field name and its colon (RFC 9112 §5.1).
    SpaceBeforeColon = 400, "space_before_colon", "whitespace before the colon of a field";
    /// A field value with a forbidden byte (RFC 9110 §5.5).
    FieldValue = 400, "field_value", "malformed field value";
    /// HTTP/1.1 without Host (RFC 9112 §3.2).
    HostMissing = 400, "host_missing", "no Host field";
    /// More than one Host (RFC 9112 §3.2).
    HostRepeated = 400, "host_repeated", "more than one Host field";
    /// A Host that is not `host [":" port]`, or has userinfo (RFC 9110 §4.2.4, §7.2).
    HostInvalid = 400, "host_invalid", "malformed Host";
    /// A Content-Length that is not a number (RFC 9110 §8.6).
    ContentLengthInvalid = 400, "content_length_invalid", "malformed Content-Length";
    /// Content-Lengths that differ (RFC 9112 §6.3).
    ContentLengthsDiffer = 400, "content_lengths_differ", "differing Content-Length values";
    /// Content-Length beside Transfer-Encoding (RFC 9112 §6.1).
    LengthAndCoding = 400, "length_and_coding", "both Content-Length and Transfer-Encoding";
    /// A transfer coding that is not `chunked` (RFC 9112 §6.1).
    CodingUnknown = 501, "coding_unknown", "unknown transfer coding";
    /// `chunked` that is not last, repeated, empty, or has parameters (RFC 9112 §6.1, §7).
    CodingMisplaced = 400, "coding_misplaced", "misplaced transfer coding";
    /// Transfer-Encoding in an HTTP/1.0 message (RFC 9112 §6.1).
    CodingInHttp10 = 400, "coding_in_http10", "Transfer-Encoding in HTTP/1.0";
    /// A chunk size that is not hexadecimal or does not fit 64 bits (RFC 9112 §7.1).
    ChunkSize = 400, "chunk_size", "malformed chunk size";
    /// A malformed or over-long chunk extension (RFC 9112 §7.1.1).
    ChunkExtension = 400, "chunk_extension", "malformed chunk extension";
    /// Chunk data that CRLF does not follow (RFC 9112 §7.1).
    ChunkEnd = 400, "chunk_end", "chunk data not followed by CRLF";
    /// A malformed trailer section (RFC 9112 §7.1.2).
    Trailers = 400, "trailers", "malformed trailer section";
    /// An expectation other than `100-continue` (RFC 9110 §10.1.1).
    Expectation = 417, "expectation", "unknown expectation";

    // ---- Limits ----
    /// More than `limits.header_count` fields.
    TooManyFields = 431, "too_many_fields", "too many header fields";
    /// A head or trailer section over `limits.header_bytes`.
    HeadTooLarge = 431, "head_too_large", "header section too large";
    /// A target over `limits.target_bytes`.
    TargetTooLong = 414, "target_too_long", "request target too long";
    /// No complete head within `timeouts.header`.
    HeaderTimeout = 408, "header_timeout", "request head not complete in time";
    /// Over `limits.in_flight` exchanges.
    InFlight = 503, "in_flight", "too many requests in flight";
    /// Over `limits.queue` exchanges waiting for one service.
    QueueFull = 503, "queue_full", "too many requests wait for this service";
    /// Over `limits.buffer_bytes` held by this worker.
    BuffersFull = 503, "buffers_full", "too many bytes buffered";
    /// Over `limits.connections`: closed on accept.
    ConnectionLimit = 503, "connection_limit", "too many connections";

    // ---- Routing ----
    /// No service has this authority and there is no original destination.
    UnknownAuthority = 404, "unknown_authority", "no service has this authority";
    /// There are routes for this authority, and none of them matches.
    NoRoute = 404, "no_route", "no route matches the request";
    /// The target is one of our own listeners.
    Loop = 508, "loop", "target is this proxy";
    /// An original destination on loopback, outbound.
    Loopback = 502, "loopback", "original destination is loopback";
    /// Not HTTP, and no original destination or target to forward it to.
    OpaqueNowhere = 502, "opaque_nowhere", "opaque connection with nowhere to go";
    /// TLS for a name that no service has, and no original destination.
    UnknownServerName = 404, "unknown_server_name", "no service has this TLS server name";
    /// TLS that names no server, where that is not served.
    ServerNameMissing = 400, "server_name_missing", "TLS without a server name";
    /// The connection ended before its protocol was known.
    DetectEof = 400, "detect_eof", "connection closed during protocol detection";

    /// The client is not who may reach this port.
    Unauthorized = 403, "unauthorized", "client is not authorized";
    /// No valid transport header came first, or one that asks for what this proxy is not.
    TransportHeader = 400, "transport_header", "malformed or unusable transport header";
    /// This proxy has no valid certificate.
    NotCertified = 503, "not_certified", "this proxy has no valid certificate";

    // ---- The far side ----
    /// No endpoint was ready for `failfast`.
    Failfast = 504, "failfast", "no endpoint ready: service in fail-fast";
    /// The connection was refused or unreachable.
    ConnectFailed = 502, "connect_failed", "connection to the endpoint failed";
    /// No connection could be made for want of something of ours: see [`ConnectError::Local`].
    NoResources = 503, "no_resources", "proxy is out of descriptors, ports or memory";
    /// No connection within the connect timeout.
    ConnectTimeout = 504, "connect_timeout", "connect timed out";
    /// The endpoint is not who it should be, or its TLS handshake failed for another reason.
    HandshakeFailed = 502, "tls_handshake", "TLS handshake with the endpoint failed";
    /// The peer of a TLS session closed without close_notify: there may have been more.
    TlsTruncated = 502, "tls_truncated", "TLS connection closed without close_notify";
    /// The endpoint closed before a complete response head.
    UpstreamClosed = 502, "upstream_closed", "endpoint closed the connection without an answer";
    /// The endpoint reset the connection.
    UpstreamReset = 502, "upstream_reset", "endpoint reset the connection";
    /// Nobody took a byte of the response for too long, and others needed the place.
    StreamStalled = 504, "stream_stalled", "client does not read the response";
    /// The response broke the rules (RFC 9112).
    BadResponse = 502, "bad_response", "malformed response from the endpoint";
    /// The response body ended early or broke its framing.
    ResponseTruncated = 502, "response_truncated", "response body cut short";
    /// No response head within the response-headers timeout.
    ResponseTimeout = 504, "response_timeout", "no response head in time";
    /// The exchange was not over within its whole timeout.
    RequestTimeout = 504, "request_timeout", "request timed out";
    /// The call was not over within its `grpc-timeout`.
    GrpcTimeout = 504, "grpc_timeout", "deadline of the call exceeded";
    /// The response was not over within the response timeout of its route.
    ResponseStreamTimeout = 504, "response_stream_timeout", "response took too long";
    /// Nothing moved on the exchange for the idle timeout.
    IdleTimeout = 504, "idle_timeout", "request idle for too long";

    // ---- Policy ----
    /// Over the rate that a port takes of all clients together.
    RateLimit = 429, "rate_limit", "rate limit of the port exceeded";
    /// Over the rate that a port takes of this client.
    ClientRateLimit = 429, "client_rate_limit", "rate limit of the client exceeded";
    /// Over `max_in_flight` exchanges of the proxy, which has no queue.
    ProxyBusy = 503, "proxy_busy", "too many requests in flight for the proxy";
    /// Over `max_queue` exchanges that wait for their turn at the proxy.
    ProxyQueueFull = 503, "proxy_queue_full", "too many requests wait for their turn at the proxy";
    /// It waited `queue_timeout` for its turn at the proxy.
    ProxyQueueTimeout = 503, "proxy_queue_timeout", "waited too long for its turn at the proxy";
    /// Over `max_in_flight` exchanges of one service that has no queue.
    ServiceBusy = 503, "service_busy", "too many requests in flight for the service";
    /// Over `max_queue` exchanges that wait for their turn at one service.
    ServiceQueueFull = 503, "service_queue_full", "too many requests wait for their turn at the service";
    /// It waited `queue_timeout` for its turn at a service.
    ServiceQueueTimeout = 503, "service_queue_timeout", "waited too long for its turn at the service";
    /// Over `max_in_flight` requests of one port that has no queue.
    PortBusy = 503, "port_busy", "too many requests in flight for the port";
    /// Over `max_queue` requests that wait for their turn at one port.
    PortQueueFull = 503, "port_queue_full", "too many requests wait for their turn at the port";
    /// It waited `queue_timeout` for its turn at a port.
    PortQueueTimeout = 503, "port_queue_timeout", "waited too long for its turn at the port";
    /// An attempt had no response head within the per-try timeout of its route.
    TryTimeout = 504, "try_timeout", "no response head in time for a try";
    /// A route has requests fail.
    FailureInjected = 503, "failure_injected", "failure injected by a route";

    // ---- The near side ----
    /// The client went away before its answer was complete.
    ClientGone = 499, "client_gone", "client closed the connection";
    /// The drain's grace was over.
    Drained = 503, "drained", "proxy is shutting down";

    // ---- Opaque connections ----
    /// Nothing moved for `timeouts.tcp_idle`.
    TcpIdle = 504, "tcp_idle", "TCP connection idle for too long";
    /// Half-closed for longer than `timeouts.half_open`.
    HalfOpen = 504, "half_open", "TCP connection half-open for too long";
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.message())
    }
}

impl core::error::Error for Reason {}

/// Why a connect did not succeed, as far as the core treats it differently.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ConnectError {
    /// `ECONNREFUSED`, or a reset during the handshake.
    Refused,
    /// No route, network or host unreachable.
    Unreachable,
    /// The operating system gave up waiting.
    TimedOut,
    /// Out of descriptors, ports or memory on our side: no fault of the endpoint.
    Local,
}

/// How an established connection broke.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum IoError {
    /// `ECONNRESET` or `EPIPE`.
    Reset,
    /// `ETIMEDOUT`: keepalive or user timeout.
    TimedOut,
    /// Anything else.
    Other,
}

/// Why a name could not be resolved.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum DnsError {
    /// The name does not exist, or has no address (NXDOMAIN, NODATA).
    NotFound,
    /// The resolver failed or did not answer.
    Failed,
}

#[cfg(test)]
mod tests {
    use super::Reason;

    #[test]
    fn reasons_index_themselves_and_have_distinct_labels() {
        for (index, &reason) in Reason::ALL.iter().enumerate() {
            assert_eq!(reason as usize, index);
            let message = reason.message();
            assert!(message.bytes().all(|b| (0x20..0x7f).contains(&b) && b != b'"'), "{message}");
            assert!(Reason::ALL[..index].iter().all(|other| other.label() != reason.label()));
        }
    }
}
