//! Answers of ours, whatever version they are written in.

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
}
