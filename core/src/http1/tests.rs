//! Helpers of the tests of HTTP/1.

extern crate std;

mod body;
mod encode;
mod request;
mod response;
mod scan;
mod trailer;

use std::format;
use std::string::String;
use std::vec::Vec;

use bytes::BytesMut;

use super::*;
use crate::error::Reason;
use crate::http::{Scratch, Version};
use crate::limits::Limits;

/// Bytes for people.
fn show(bytes: &[u8]) -> String {
    bytes.escape_ascii().collect::<Vec<_>>().into_iter().map(char::from).collect()
}

/// What becomes of bytes that arrive in pieces which end at `cuts`, and then whole: the length of
/// the head and how it goes on; `None` if it is not complete.
type Outcome = Result<Option<(usize, String)>, Reason>;

fn receive(bytes: &[u8], cuts: &[usize], limits: &Limits) -> Outcome {
    let mut scanner = HeadScanner::default();
    let mut scratch = Scratch::default();
    for end in cuts.iter().copied().chain([bytes.len()]) {
        let got = receive_request(&mut scanner, &bytes[..end], &mut scratch, limits)?;
        if let Some((len, request)) = got {
            return Ok(Some((len, describe(&request))));
        }
    }
    Ok(None)
}

/// The same in two steps: the scanner first.
fn scan_and_parse(bytes: &[u8], limits: &Limits) -> Outcome {
    let scanned = HeadScanner::default().scan(bytes, HeadKind::Request, limits)?;
    let Some(len) = scanned else { return Ok(None) };
    let mut scratch = Scratch::default();
    let request = parse_request(&bytes[..len], &mut scratch, limits)?;
    Ok(Some((len, describe(&request))))
}

/// Everything that an engine learns from a request, and how it goes on.
fn describe(request: &Request<'_>) -> String {
    format!(
        "{:?} {:?} {:?} keep {} continue {} upgrade {} te {} grpc {} head {} idempotent {}\n{}",
        request.form,
        request.authority.map(show),
        request.framing,
        request.keep_alive,
        request.expect_continue,
        request.upgrade,
        request.te_trailers,
        request.grpc,
        request.is_head,
        request.idempotent,
        forwarded(request)
    )
}

/// A request as it goes on by default rules.
fn forwarded(request: &Request<'_>) -> String {
    let mut out = BytesMut::new();
    let rewrite = RequestRewrite {
        host: request.authority.unwrap_or(b"fallback:1"),
        absolute: false,
        upgrade: request.upgrade,
    };
    encode_request(&mut out, request, &rewrite);
    String::from_utf8_lossy(&out).into_owned()
}

/// What becomes of a request, after checking that it is the same for every cut in two, byte by byte
/// and in two steps.
fn every_way(bytes: &[u8]) -> Outcome {
    let limits = Limits::default();
    let whole = receive(bytes, &[], &limits);
    assert_eq!(scan_and_parse(bytes, &limits), whole, "in two steps: {}", show(bytes));
    for cut in 1..bytes.len() {
        let got = receive(bytes, &[cut], &limits);
        assert_eq!(got, whole, "cut at {cut}: {}", show(bytes));
    }
    let each: Vec<usize> = (1..bytes.len()).collect();
    assert_eq!(receive(bytes, &each, &limits), whole, "byte by byte: {}", show(bytes));
    whole
}

/// Parses a whole request that must be good.
fn with_request<T>(bytes: &[u8], then: impl FnOnce(&Request<'_>) -> T) -> T {
    let mut scratch = Scratch::default();
    let mut scanner = HeadScanner::default();
    let got = receive_request(&mut scanner, bytes, &mut scratch, &Limits::default());
    match got {
        Ok(Some((_, request))) => then(&request),
        Ok(None) => panic!("not complete: {}", show(bytes)),
        Err(reason) => panic!("{reason:?}: {}", show(bytes)),
    }
}

/// Parses a whole response; `Err` if it is refused.
fn with_response<T>(
    bytes: &[u8],
    to: ResponseTo,
    then: impl FnOnce(&Response<'_>) -> T,
) -> Result<T, Reason> {
    let mut scratch = Scratch::default();
    let mut scanner = HeadScanner::default();
    let got = receive_response(&mut scanner, bytes, &mut scratch, &Limits::default(), to)?;
    let Some((_, response)) = got else { panic!("not complete: {}", show(bytes)) };
    Ok(then(&response))
}

/// A generator of choices that is the same each time.
struct Dice(u64);

impl Dice {
    /// Less than `n`.
    fn roll(&mut self, n: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (self.0 >> 33) as usize % n
    }
}
