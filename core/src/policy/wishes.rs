//! What a request asks of its own policy: the `l5d-*` headers of linkerd2-proxy, where a route allows
//! them. They may shorten what a route says, and not stretch it.

use alloc::boxed::Box;
use alloc::sync::Arc;
use alloc::vec::Vec;

use super::retry::Retry;
use super::route::{Match, Route, RouteTimeouts};
use crate::http::{Fields, grammar};
use crate::time::{Duration, parse_duration};

const REQUEST: &str = "l5d-request-timeout";
const TIMEOUT: &str = "l5d-timeout";
const RESPONSE: &str = "l5d-response-timeout";
const RETRY_HTTP: &str = "l5d-retry-http";
const RETRY_GRPC: &str = "l5d-retry-grpc";
const RETRY_LIMIT: &str = "l5d-retry-limit";
const RETRY_TIMEOUT: &str = "l5d-retry-timeout";

/// Every header that is read; none of them goes on.
const ALL: [&str; 7] =
    [REQUEST, TIMEOUT, RESPONSE, RETRY_HTTP, RETRY_GRPC, RETRY_LIMIT, RETRY_TIMEOUT];

/// A route as one request wishes it; the same route if it wishes nothing. `request`: the timeout of
/// requests that the route inherits. A value that cannot be read is no wish.
pub(crate) fn apply(
    route: &Arc<Route>,
    fields: Fields<'_>,
    request: Option<Duration>,
) -> Arc<Route> {
    let is_wish = |name: &[u8]| ALL.iter().any(|wish| name.eq_ignore_ascii_case(wish.as_bytes()));
    if !fields.iter().any(|field| is_wish(field.name)) {
        return Arc::clone(route);
    }
    let value = |name: &str| {
        let mut fields = fields.iter();
        let named = fields.find(|field| field.name.eq_ignore_ascii_case(name.as_bytes()));
        named.and_then(|field| core::str::from_utf8(field.value).ok())
    };
    let time = |name: &str| value(name).and_then(duration);
    let own = &route.timeouts;
    let timeouts = RouteTimeouts {
        request: shorter(own.request.or(request), time(REQUEST).or_else(|| time(TIMEOUT))),
        response: shorter(own.response, time(RESPONSE)),
        idle: own.idle,
    };
    let mut changes = route.changes.clone();
    changes.request.remove.extend(ALL.map(Box::from));
    Arc::new(Route {
        service: Arc::clone(&route.service),
        // It was found.
        hosts: Vec::new(),
        matches: Match::default(),
        fixed: route.fixed.clone(),
        changes,
        split: route.split.clone(),
        timeouts,
        retry: retry(route.retry.as_ref(), value),
        mirror: route.mirror.clone(),
        allow_l5d_request_headers: true,
    })
}

/// Does a request wish for less time than it would have?
pub(crate) fn shorten(own: &Route, wished: &Route, request: Option<Duration>) -> bool {
    let less = |own: Option<Duration>, wished: Option<Duration>| {
        wished.is_some_and(|wished| own.is_none_or(|own| wished < own))
    };
    let each = |route: &Route| route.retry.as_ref().and_then(|retry| retry.per_try_timeout);
    less(own.timeouts.request.or(request), wished.timeouts.request.or(request))
        || less(own.timeouts.response, wished.timeouts.response)
        || less(each(own), each(wished))
}

fn shorter(own: Option<Duration>, wish: Option<Duration>) -> Option<Duration> {
    own.into_iter().chain(wish).min()
}

/// What is tried again: where the request says what, that; else what the route does.
fn retry<'a>(own: Option<&Retry>, value: impl Fn(&str) -> Option<&'a str>) -> Option<Retry> {
    let (mut statuses, mut reset) = (Vec::new(), false);
    for part in value(RETRY_HTTP).unwrap_or_default().split(',') {
        let range = match part.trim() {
            "5xx" => Some((500, 599)),
            "gateway-error" => Some((502, 504)),
            part => range(part),
        };
        reset |= matches!(part.trim(), "5xx" | "gateway-error");
        statuses.extend(range);
    }
    let grpc: Vec<u8> = value(RETRY_GRPC).unwrap_or_default().split(',').filter_map(code).collect();
    if own.is_none() && statuses.is_empty() && grpc.is_empty() {
        return None;
    }
    let mut retry = own.cloned().unwrap_or_default();
    if !statuses.is_empty() {
        (retry.statuses, retry.reset) = (statuses, reset);
    }
    if !grpc.is_empty() {
        retry.grpc = grpc;
    }
    if let Some(limit) = value(RETRY_LIMIT).and_then(|limit| grammar::number(limit.as_bytes())) {
        let limit = u32::try_from(limit).unwrap_or(u32::MAX);
        // Without a policy there is nothing to lower; no request needs more than a policy could say.
        retry.limit = limit.min(own.map_or(100, |own| own.limit));
    }
    if let Some(time) = value(RETRY_TIMEOUT).and_then(duration) {
        retry.per_try_timeout = shorter(retry.per_try_timeout, Some(time));
        retry.timeout |= own.is_none();
    }
    Some(retry)
}

/// A status, or a range of them.
fn range(text: &str) -> Option<(u16, u16)> {
    let (low, high) = text.split_once('-').unwrap_or((text, text));
    let status = |text: &str| {
        let number = grammar::number(text.as_bytes()).and_then(|n| u16::try_from(n).ok());
        number.filter(|number| (100..=599).contains(number))
    };
    let (low, high) = (status(low)?, status(high)?);
    (low <= high).then_some((low, high))
}

/// The statuses of gRPC that linkerd2-proxy knows by name.
fn code(name: &str) -> Option<u8> {
    match name.trim() {
        "cancelled" => Some(1),
        "deadline-exceeded" => Some(4),
        "resource-exhausted" => Some(8),
        "internal" => Some(13),
        "unavailable" => Some(14),
        _ => None,
    }
}

/// 0 is no wish.
fn duration(text: &str) -> Option<Duration> {
    parse_duration(text.trim()).filter(|duration| !duration.is_zero())
}

#[cfg(test)]
mod tests {
    use alloc::format;
    use alloc::string::String;

    use super::*;
    use crate::http::Scratch;
    use crate::http1;
    use crate::limits::Limits;

    fn wished(route: Route, inherited: Option<u64>, fields: &str) -> Arc<Route> {
        let head: String = format!("GET / HTTP/1.1\r\nHost: a\r\n{fields}\r\n");
        let mut scratch = Scratch::default();
        let request = http1::parse_request(head.as_bytes(), &mut scratch, &Limits::default());
        let fields = request.expect("a request").head.fields;
        apply(&Arc::new(route), fields, inherited.map(Duration::from_millis))
    }

    #[test]
    fn timeouts_get_shorter_and_never_longer() {
        let ms = Duration::from_millis;
        for (own, inherited, fields, request) in [
            (None, None, "L5D-Timeout: 300ms\r\n", Some(ms(300))),
            (Some(200), None, "l5d-timeout: 300ms\r\n", Some(ms(200))),
            (None, Some(200), "l5d-timeout: 300ms\r\n", Some(ms(200))),
            (None, Some(400), "l5d-timeout: 300ms\r\n", Some(ms(300))),
            (Some(500), Some(400), "l5d-timeout: 450ms\r\n", Some(ms(450))),
            (None, None, "l5d-timeout: 1s\r\nl5d-request-timeout: 2s\r\n", Some(ms(2_000))),
            (Some(200), None, "l5d-timeout: soon\r\n", Some(ms(200))),
            (Some(200), None, "l5d-timeout: 0\r\n", Some(ms(200))),
            (Some(200), None, "l5d-timeout: 99999999999999999999d\r\n", Some(ms(200))),
        ] {
            let timeouts = RouteTimeouts { request: own.map(ms), ..RouteTimeouts::default() };
            let route = Route { timeouts, ..Route::default() };
            let had = own.or(inherited).map(ms);
            let inherited_time = inherited.map(ms);
            let asked = wished(route.clone(), inherited, fields);
            assert_eq!(asked.timeouts.request, request, "{fields}");
            assert_eq!(shorten(&route, &asked, inherited_time), request != had, "{fields}");
        }
        let route = wished(Route::default(), None, "l5d-response-timeout: 1m\r\n");
        assert_eq!(route.timeouts.response, Some(ms(60_000)));
    }

    #[test]
    fn retries_are_what_the_request_says_within_what_the_route_does() {
        let route = |limit| {
            let retry = Retry { limit, statuses: [(429, 429)].into(), ..Retry::default() };
            Route { retry: Some(retry), ..Route::default() }
        };
        let none = wished(Route::default(), None, "l5d-retry-limit: 5\r\n");
        assert_eq!(none.retry, None, "nothing to try again");
        let asked = wished(
            Route::default(),
            None,
            "l5d-retry-http: gateway-error, 500-501,429, x\r\nl5d-retry-grpc: unavailable,nope\r\n\
             l5d-retry-limit: 3\r\nl5d-retry-timeout: 50ms\r\n",
        );
        let retry = asked.retry.as_ref().expect("a retry");
        assert_eq!(retry.statuses, [(502, 504), (500, 501), (429, 429)]);
        assert_eq!((&retry.grpc[..], retry.limit, retry.reset), (&[14][..], 3, true));
        assert_eq!(retry.per_try_timeout, Some(Duration::from_millis(50)));
        for (own, wish, limit) in [(2, 5, 2), (2, 1, 1), (2, 0, 0)] {
            let asked = wished(route(own), None, &format!("l5d-retry-limit: {wish}\r\n"));
            let retry = asked.retry.as_ref().expect("a retry");
            assert_eq!((retry.limit, &retry.statuses[..]), (limit, &[(429, 429)][..]));
        }
    }
}
