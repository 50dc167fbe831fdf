//! Answers of ours, whatever version they are written in.

use bytes::BytesMut;

use super::grammar::Decimal;
use super::grpc;
use crate::error::Reason;

/// A response without a body that no endpoint gave.
#[derive(Clone, Copy, Debug)]
pub struct Answer<'a> {
    /// Its status, unless it is gRPC's.
    pub status: u16,
    /// To a gRPC client: 200 and this `grpc-status`.
    pub grpc: Option<u8>,
    /// What `l5d-proxy-error` and `grpc-message` say; empty: neither is there. Visible ASCII and
    /// spaces.
    pub message: &'a str,
    /// One more field: its name in lower case, and its value.
    pub extra: Option<(&'a str, &'a str)>,
}

impl Answer<'static> {
    /// What a client is told when its request ends by `reason`.
    pub fn of(reason: Reason, is_grpc: bool) -> Self {
        Answer {
            status: reason.status(),
            grpc: is_grpc.then(|| grpc::code(reason.status())),
            message: reason.message(),
            extra: None,
        }
    }

    /// The same after a response has begun: trailers, as a section of HTTP/1.
    pub(crate) fn trailers(&self) -> BytesMut {
        let mut out = BytesMut::new();
        out.extend_from_slice(b"grpc-status: ");
        let code = self.grpc.unwrap_or_else(|| grpc::code(self.status));
        out.extend_from_slice(Decimal::new(u64::from(code)).as_bytes());
        out.extend_from_slice(b"\r\ngrpc-message: ");
        grpc::put_message(&mut out, self.message);
        out.extend_from_slice(b"\r\nl5d-proxy-error: ");
        out.extend_from_slice(self.message.as_bytes());
        out.extend_from_slice(b"\r\n\r\n");
        out
    }
}
