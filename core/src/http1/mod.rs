//! HTTP/1.0 and HTTP/1.1 (RFC 9112), both sides, without I/O and without a copy.
//!
//! A [`HeadScanner`] finds the end of a head in what has arrived so far; [`parse_request`] and
//! [`parse_response`] check it once it is complete and say how its body is framed; a
//! [`BodyDecoder`] says which bytes are body; the `encode_*` functions write what goes on. Whatever
//! is forwarded is framed by us, never by repeating the sender's bytes, so that every reader behind
//! us sees the same messages as we do.
//!
//! ```
//! use bytes::BytesMut;
//! use selvedge_core::http::Scratch;
//! use selvedge_core::http1::{HeadKind, HeadScanner, RequestRewrite, encode_request, parse_request};
//! use selvedge_core::limits::Limits;
//!
//! let (limits, mut scratch) = (Limits::default(), Scratch::default());
//! let received = b"GET /a HTTP/1.1\r\nHost: web.example\r\nConnection: close\r\n\r\n";
//! let end = HeadScanner::default().scan(received, HeadKind::Request, &limits).unwrap().unwrap();
//! let request = parse_request(&received[..end], &mut scratch, &limits).unwrap();
//! assert!(!request.keep_alive);
//!
//! let mut out = BytesMut::new();
//! let rewrite = RequestRewrite { host: b"web.example", absolute: false, upgrade: false };
//! encode_request(&mut out, &request, &rewrite);
//! assert_eq!(&out[..], b"GET /a HTTP/1.1\r\nHost: web.example\r\n\r\n");
//! ```

mod body;
mod classify;
mod encode;
mod fields;
mod plain;
mod request;
mod response;
mod scan;
#[cfg(test)]
mod tests;
mod trailer;

pub use body::{Body, BodyDecoder, Truncated};
pub(crate) use classify::{field_line, lines};
pub use encode::{
    ConnectionOption, ErrorAnswer, RequestRewrite, ResponseRewrite, encode_answer,
    encode_chunk_end, encode_chunk_start, encode_error, encode_request, encode_response,
};
pub(crate) use encode::{encode_client_id, encode_switch, encode_websocket_key};
pub use request::{parse_request, receive_request};
pub use response::{ResponseTo, parse_response, receive_response};
pub use scan::{HeadKind, HeadScanner};
pub(crate) use trailer::trailer_count;
pub use trailer::{encode_last_chunk, trailer, trailer_grpc_status};

pub use crate::http::{Framing, Request, Response, TargetForm};
