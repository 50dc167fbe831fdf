//! Helpers of the tests of HTTP/1.

extern crate std;

mod smoke;

use std::string::String;
use std::vec::Vec;

use bytes::BytesMut;

use super::*;
use crate::error::Reason;
use crate::http::Scratch;
use crate::limits::Limits;

/// The length of the head at the front of `bytes`, which must be all there.
fn scan(bytes: &[u8], kind: HeadKind) -> Result<Option<usize>, Reason> {
    HeadScanner::default().scan(bytes, kind, &Limits::default())
}

/// Scans and parses a whole request and passes it on.
fn with_request<T>(bytes: &[u8], then: impl FnOnce(Result<&Request<'_>, Reason>) -> T) -> T {
    let limits = Limits::default();
    let mut scratch = Scratch::default();
    let head = match scan(bytes, HeadKind::Request) {
        Ok(Some(len)) => &bytes[..len],
        Ok(None) => panic!("no complete head: {:?}", String::from_utf8_lossy(bytes)),
        Err(reason) => return then(Err(reason)),
    };
    match parse_request(head, &mut scratch, &limits) {
        Ok(request) => then(Ok(&request)),
        Err(reason) => then(Err(reason)),
    }
}

/// Why a request is refused; `None` if it is not.
fn refused(bytes: &[u8]) -> Option<Reason> {
    with_request(bytes, |request| request.err())
}

/// A request as it is passed on, by default rules.
fn forwarded(bytes: &[u8]) -> String {
    with_request(bytes, |request| {
        let request = request.unwrap_or_else(|reason| panic!("{reason:?}"));
        let mut out = BytesMut::new();
        let rewrite = RequestRewrite {
            host: request.authority.unwrap_or(b"fallback:1"),
            absolute: false,
            upgrade: request.upgrade,
        };
        encode_request(&mut out, request, &rewrite);
        String::from_utf8(Vec::from(&out[..])).unwrap()
    })
}
