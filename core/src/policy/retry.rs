//! Which outcomes a request may be sent again after, and when.

use alloc::boxed::Box;
use alloc::vec::Vec;
use core::fmt;

use crate::error::Reason;
use crate::http::{Fields, date, grammar, grpc};
use crate::rng::Rng;
use crate::time::{Duration, UnixTime};

/// What is tried again on a route.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Retry {
    /// Statuses that are tried again, as ranges with both ends.
    pub statuses: Vec<(u16, u16)>,
    /// A connection or stream that ended without an answer.
    pub reset: bool,
    /// A stream that the endpoint refused, or that it said goodbye to unprocessed. Beyond the one
    /// time that every request may meet that.
    pub refused: bool,
    /// No response head within [`Retry::per_try_timeout`], or within the response-headers timeout.
    pub timeout: bool,
    /// gRPC statuses that are tried again.
    pub grpc: Vec<u8>,
    /// Methods of requests that may be sent again when an endpoint may have acted on them. gRPC calls
    /// may where [`Retry::grpc`] names the status that their client would get.
    pub methods: Vec<Box<str>>,
    /// Retries per request.
    pub limit: u32,
    /// How long an attempt may be without a response head. Not for the last one.
    pub per_try_timeout: Option<Duration>,
    /// Bytes of a request body that are kept. A request with more is sent once.
    pub max_body: usize,
    /// Answers say in [`ATTEMPT_COUNT`] how often the request was sent.
    pub report: bool,
    /// The first wait is up to this, and twice as long each time …
    pub backoff_min: Duration,
    /// … but no longer than this.
    pub backoff_max: Duration,
}

impl Default for Retry {
    fn default() -> Self {
        let methods = ["GET", "HEAD", "OPTIONS", "TRACE", "PUT", "DELETE"];
        Retry {
            statuses: Vec::new(),
            reset: false,
            refused: false,
            timeout: false,
            grpc: Vec::new(),
            methods: methods.map(Box::from).into(),
            limit: 1,
            per_try_timeout: None,
            // linkerd2-proxy's.
            max_body: 64 * 1024,
            report: false,
            backoff_min: Duration::from_millis(25),
            backoff_max: Duration::from_millis(250),
        }
    }
}

/// A request is held no longer than this until it is sent again, however patient its timeouts are: who
/// wants to be left alone for longer is not asked again, and its answer is passed on. The most that Envoy
/// takes from a `Retry-After` unless it is told otherwise.
pub const LONGEST_WAIT: Duration = Duration::from_mins(5);

/// The field of an answer that says how many endpoints its request was given to, as Envoy's
/// `x-envoy-attempt-count` does, and which decision kept it from one more, if one did: `3`, or
/// `3;outcome=retry_limit`.
pub const ATTEMPT_COUNT: &str = "l5d-attempt-count";

/// How an attempt went that was not good.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failed {
    /// The endpoint answered with this status.
    Status(u16),
    /// It answered with this gRPC status.
    Grpc(u16),
    /// It did not answer.
    Without(Reason),
    /// It refused the request unseen.
    Refused,
}

impl fmt::Display for Failed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Failed::Status(status) => write!(f, "status {status}"),
            Failed::Grpc(status) => write!(f, "gRPC status {status}"),
            Failed::Without(reason) => reason.fmt(f),
            Failed::Refused => f.write_str("endpoint refused the stream"),
        }
    }
}

/// What is asked of a request that may be sent again.
#[derive(Clone, Copy, Debug)]
pub struct Asked<'a> {
    /// Its method.
    pub method: &'a [u8],
    /// Is it gRPC?
    pub grpc: bool,
}

impl Retry {
    /// May a request with this method be sent again when an endpoint may have acted on it?
    pub fn allows_method(&self, method: &[u8]) -> bool {
        self.methods.iter().any(|allowed| allowed.as_bytes() == method)
    }

    /// Are answers with this status tried again, where the method allows it?
    #[inline]
    pub fn names(&self, status: u16) -> bool {
        self.statuses.iter().any(|&(low, high)| (low..=high).contains(&status))
    }

    /// Is this tried again? `method`: what [`Retry::allows_method`] said; `is_grpc`: it is a call of
    /// gRPC.
    pub fn covers(&self, failed: Failed, method: bool, is_grpc: bool) -> bool {
        let named = |status: u16| self.grpc.iter().any(|&code| u16::from(code) == status);
        // What its client would be told.
        let told = |reason: Reason| is_grpc && named(u16::from(grpc::code(reason.status())));
        match failed {
            Failed::Refused => self.refused,
            Failed::Grpc(status) => is_grpc && named(status),
            Failed::Status(status) => {
                method && self.names(status)
                    || is_grpc && status != 200 && named(u16::from(grpc::code_of_http(status)))
            }
            Failed::Without(reason) => match reason {
                Reason::TryTimeout | Reason::ResponseTimeout => {
                    self.timeout && method || told(reason)
                }
                Reason::UpstreamReset | Reason::UpstreamClosed | Reason::BadResponse => {
                    self.reset && method || told(reason)
                }
                _ => false,
            },
        }
    }

    /// How long before retry number `nth`, from 1: up to the backoff, at random, so that those that
    /// failed together do not come back together.
    pub fn wait(&self, nth: u32, rng: &mut Rng) -> Duration {
        let doublings = nth.saturating_sub(1).min(20);
        let most = self.backoff_min.saturating_mul(1 << doublings).min(self.backoff_max);
        most.mul_f64(rng.unit())
    }
}

/// When the endpoint wants to see a request again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Again {
    /// It does not say.
    Whenever,
    /// Not before this.
    After(Duration),
    /// Never.
    Never,
}

/// What `Retry-After` or `grpc-retry-pushback-ms` say. `wall`: the wall-clock time, without which a date
/// means nothing.
pub fn pushback(fields: Fields<'_>, wall: Option<UnixTime>) -> Again {
    let again = trailer_pushback(fields);
    if again != Again::Whenever {
        return again;
    }
    let Some(value) = value(fields, b"retry-after") else { return Again::Whenever };
    match (grammar::number(value), date::parse(value), wall) {
        (Some(seconds), ..) => Again::After(Duration::from_secs(seconds)),
        (None, Some(date), Some(wall)) => Again::After(date.saturating_since(wall)),
        _ => Again::Whenever,
    }
}

/// What `grpc-retry-pushback-ms` says, which may be among the trailers, too.
pub fn trailer_pushback(fields: Fields<'_>) -> Again {
    match value(fields, b"grpc-retry-pushback-ms").map(grammar::number) {
        Some(Some(millis)) => Again::After(Duration::from_millis(millis)),
        // Whatever is no number is as a negative one (gRFC A6).
        Some(None) => Again::Never,
        None => Again::Whenever,
    }
}

/// The value of the first field of that name.
fn value<'a>(fields: Fields<'a>, name: &[u8]) -> Option<&'a [u8]> {
    let mut fields = fields.iter();
    fields.find(|field| field.name.eq_ignore_ascii_case(name)).map(|field| field.value)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::Scratch;
    use crate::http1::{ResponseTo, parse_response};
    use crate::limits::Limits;
    use crate::rng::Seed;

    #[test]
    fn what_may_have_been_acted_on_is_repeated_only_where_the_method_allows_it() {
        let retry = Retry {
            statuses: [(500, 503), (429, 429)].into(),
            reset: true,
            refused: true,
            timeout: true,
            grpc: [14].into(),
            ..Retry::default()
        };
        assert!(retry.allows_method(b"PUT") && !retry.allows_method(b"POST"));
        let closed = Failed::Without(Reason::UpstreamClosed);
        let slow = Failed::Without(Reason::TryTimeout);
        let slower = Failed::Without(Reason::ResponseTimeout);
        for (failed, plain, post, call) in [
            // A client of gRPC takes these for UNAVAILABLE, and that for UNKNOWN.
            (Failed::Status(503), true, false, true),
            (Failed::Status(429), true, false, true),
            (Failed::Status(504), false, false, true),
            (Failed::Status(500), true, false, false),
            (Failed::Status(200), false, false, false),
            (Failed::Grpc(14), false, false, true),
            (Failed::Grpc(13), false, false, false),
            (Failed::Refused, true, true, true),
            (closed, true, false, true),
            // A client would be told DEADLINE_EXCEEDED, which is not named.
            (slow, true, false, false),
            (slower, true, false, false),
            (Failed::Without(Reason::ClientGone), false, false, false),
            (Failed::Without(Reason::RequestTimeout), false, false, false),
        ] {
            assert_eq!(retry.covers(failed, true, false), plain, "GET {failed}");
            assert_eq!(retry.covers(failed, false, false), post, "POST {failed}");
            assert_eq!(retry.covers(failed, false, true), call, "gRPC {failed}");
        }
        let nothing = Retry::default();
        for failed in [Failed::Status(503), Failed::Grpc(14), Failed::Refused, closed, slow] {
            assert!(!nothing.covers(failed, true, true), "{failed}");
        }
    }

    #[test]
    fn waits_double_up_to_the_most_and_are_spread() {
        let retry = Retry::default();
        let mut rng = Rng::fork(Seed::from_number(1), 1);
        for (nth, most) in [(1, 25), (2, 50), (3, 100), (4, 200), (5, 250), (40, 250)] {
            let waits: Vec<Duration> = (0..1000).map(|_| retry.wait(nth, &mut rng)).collect();
            let most = Duration::from_millis(most);
            assert!(waits.iter().all(|&wait| wait < most), "{nth}");
            assert!(waits.iter().any(|&wait| wait > most * 9 / 10), "{nth}");
            assert!(waits.iter().any(|&wait| wait < most / 10), "{nth}");
        }
    }

    #[test]
    fn an_endpoint_says_when_it_wants_to_be_asked_again() {
        for (fields, again) in [
            ("", Again::Whenever),
            ("Retry-After: 3\r\n", Again::After(Duration::from_secs(3))),
            (
                "Retry-After: Thu, 01 Jan 1970 00:01:05 GMT\r\n",
                Again::After(Duration::from_secs(5)),
            ),
            ("Retry-After: Thu, 01 Jan 1970 00:00:05 GMT\r\n", Again::After(Duration::ZERO)),
            ("Retry-After: soon\r\n", Again::Whenever),
            ("grpc-retry-pushback-ms: 50\r\n", Again::After(Duration::from_millis(50))),
            ("grpc-retry-pushback-ms: -1\r\n", Again::Never),
            ("grpc-retry-pushback-ms: x\r\n", Again::Never),
            ("Retry-After: 3\r\nGRPC-Retry-Pushback-Ms: 0\r\n", Again::After(Duration::ZERO)),
        ] {
            let head = alloc::format!("HTTP/1.1 503 Busy\r\n{fields}\r\n");
            let mut scratch = Scratch::default();
            let limits = Limits::default();
            let to = ResponseTo::default();
            let response = parse_response(head.as_bytes(), &mut scratch, &limits, to);
            let response = response.expect("a response");
            let wall = Some(UnixTime::from_secs(60));
            assert_eq!(pushback(response.head.fields, wall), again, "{fields}");
        }
    }
}
