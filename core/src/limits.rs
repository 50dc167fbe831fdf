//! Every bound that a peer can meet, with the reason for its default.

/// Limits, all configurable under `[limits]`. One set of names for every HTTP version.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Connections that one worker holds, both directions. Past it, accepted ones are closed. A
    /// quarter is kept for endpoints.
    pub connections: usize,
    /// TLS handshakes that clients have begun and not ended. Past it, their connections are closed:
    /// each costs a signature, and half-open ones are free for who attacks.
    pub handshakes: usize,
    /// Exchanges in flight on one worker. Past it, requests are answered 503.
    pub in_flight: usize,
    /// Exchanges that wait for one service while none of its endpoints is ready. Past it: 503.
    pub queue: usize,
    /// Fields in one header section, at most [`Limits::MAX_HEADER_COUNT`]. Past it: 431.
    pub header_count: usize,
    /// Bytes of one head (first line and fields) and of one trailer section. Past it: 431.
    pub header_bytes: usize,
    /// Bytes of a request target. Past it: 414.
    pub target_bytes: usize,
    /// Bytes of a TLS ClientHello, record headers included. Past it, it is opaque.
    pub client_hello_bytes: usize,
    /// Idle upstream connections kept per endpoint. Past it, the one idle longest is closed.
    pub pool_idle: usize,
    /// Bytes of one request that are kept so that it can be sent again when a pooled connection
    /// turns out to be dead.
    pub replay_bytes: usize,
    /// Copies of requests that one worker sends to the services that routes mirror to, at once. Past
    /// it, requests are not copied.
    pub mirrors: usize,
    /// Bytes that wait to be written to one connection before its source is paused.
    pub stream_buffer: usize,
    /// Bytes that one worker holds for all connections. Past it, new requests are answered 503.
    pub buffer_bytes: usize,
}

impl Limits {
    /// The header count that the parser has room for.
    pub const MAX_HEADER_COUNT: usize = 256;
    /// What a pipelining client may have waiting behind the request in progress.
    pub const PIPELINE_BYTES: usize = 16 * 1024;
    /// What an adapter reads at once, and so what a slice of a read buffer may pin.
    pub const READ_BLOCK: usize = 32 * 1024;
    /// The same of a tunnel whose bytes come fast and leave at once: a byte costs a third less in reads
    /// of this size. See [`Engine::reads_bulk`](crate::engine::Engine::reads_bulk).
    pub const BULK_BLOCK: usize = 512 * 1024;
    /// Pieces below this are copied together: cheaper than an `iovec` of their own.
    pub const COALESCE_BELOW: usize = 1024;
    /// After an error answer: how much of what the peer still sends is read and dropped, so that it
    /// sees the answer and not a reset (RFC 9112 §9.6) …
    pub const LINGER_BYTES: usize = 64 * 1024;
    /// Bytes of chunk extensions in one chunk header: nobody uses more, and an endless one would be
    /// read for nothing (CVE-2023-39326).
    pub const CHUNK_EXTENSION_BYTES: usize = 1024;
    /// Body bytes that wait on all streams of one HTTP/2 connection before each of them gets less
    /// room: 100 streams whose client reads nothing hold less than 2 MB.
    pub const CONNECTION_QUEUE: usize = 1 << 20;
    /// How far the copy of a request may be behind: when so much of it waits and more comes, it is
    /// reset. The request itself never waits.
    pub const MIRROR_BYTES: usize = 64 * 1024;
    /// Empty lines skipped before a request line (RFC 9112 §2.2 wants at least one).
    pub const LEADING_EMPTY_LINES: usize = 4;
}

impl Default for Limits {
    fn default() -> Self {
        Limits {
            connections: 100_000,
            handshakes: 1_000,
            // linkerd2-proxy: 100 000 per side.
            in_flight: 100_000,
            // linkerd2-proxy: QUEUE_CAPACITY.
            queue: 10_000,
            // hyper and Envoy allow 100; browsers with many cookies stay below.
            header_count: 128,
            // Twice what any common server accepts, so that the app decides and not the proxy.
            header_bytes: 64 * 1024,
            target_bytes: 32 * 1024,
            // Browsers' are 2 KiB with a post-quantum key share. linkerd2-proxy: 8 KiB in one record.
            client_hello_bytes: 64 * 1024,
            // linkerd2-proxy: MAX_IDLE_CONNS_PER_ENDPOINT.
            pool_idle: 10_000,
            replay_bytes: 64 * 1024,
            // However many: past half of `buffer_bytes` they are reset.
            mirrors: 1_000,
            stream_buffer: 64 * 1024,
            buffer_bytes: 256 * 1024 * 1024,
        }
    }
}
