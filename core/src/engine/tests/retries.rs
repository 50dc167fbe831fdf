//! Retries through the engine: what is tried again, where, how often, and what is not.

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use core::net::SocketAddr;

use super::http2_rig::http2_config;
use super::rig::*;
use crate::config::Config;
use crate::engine::{ConnId, Event, Input};
use crate::policy::{BudgetConfig, Retry, Route, RouteTable, RouteTimeouts};
use crate::stats::Decision;
use crate::time::{Duration, UnixTime};

const BUSY: &str = "HTTP/1.1 503 Busy\r\nContent-Length: 0\r\n\r\n";
const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi";

pub(super) fn all() -> Retry {
    Retry {
        statuses: [(500, 599)].into(),
        reset: true,
        refused: true,
        timeout: true,
        grpc: [14].into(),
        limit: 2,
        ..Retry::default()
    }
}

pub(super) fn with(retry: &Retry) -> Config {
    let route = |service: &str| Route {
        service: service.into(),
        retry: Some(retry.clone()),
        ..Route::default()
    };
    let names = ["web.example:80", "one.example:80", "two.example:80"];
    Config { routes: RouteTable::new(names.map(route).into()), ..http2_config() }
}

pub(super) fn rig() -> Rig {
    Rig::with(with(&all()))
}

pub(super) fn request(method: &str, host: &str, body: &str) -> String {
    let length = body.len();
    format!("{method} / HTTP/1.1\r\nHost: {host}\r\nContent-Length: {length}\r\n\r\n{body}")
}

pub(super) fn decided(rig: &Rig, decision: Decision) -> u64 {
    let services = rig.engine.snapshot().services;
    services.iter().map(|service| service.stats.decisions.get(decision)).sum()
}

/// Lets the backoff pass, and connects.
pub(super) fn next(rig: &mut Rig) -> (ConnId, SocketAddr) {
    rig.pass(millis(250));
    let at = rig.connects.first().expect("the engine connects").1;
    (rig.connect(), at)
}

pub(super) fn ends(rig: &Rig) {
    assert_eq!(rig.engine.gauges().exchanges, 0);
}

#[test]
fn a_busy_answer_is_tried_again_at_another_endpoint() {
    let mut rig = rig();
    let put = request("PUT", "web.example", "body");
    let down = rig.client();
    rig.receive(down, put.as_bytes());
    let first = rig.connects[0].1;
    let up = rig.connect();
    assert_eq!(rig.written(up), put);
    rig.receive(up, b"HTTP/1.1 103 Early Hints\r\n\r\n");
    rig.receive(up, BUSY.as_bytes());
    let (other, second) = next(&mut rig);
    assert_ne!(first, second);
    assert_eq!(rig.written(other), put);
    rig.receive(other, OK.as_bytes());
    assert_eq!(rig.written(down), format!("HTTP/1.1 103 Early Hints\r\n\r\n{OK}"));
    // Both connections serve others.
    assert_eq!((rig.closed(up), rig.closed(other)), ([].into(), [].into()));
    let counts = [Decision::Retried, Decision::RetrySucceeded].map(|d| decided(&rig, d));
    assert_eq!(counts, [1, 1]);
    let said = rig.events.iter().find_map(|event| match event {
        Event::Retry { addr, failed, nth, limit, .. } => {
            Some((*addr, format!("{failed}"), *nth, *limit))
        }
        _ => None,
    });
    assert_eq!(said, Some((Some(first), "status 503".into(), 1, 2)));
    ends(&rig);
}

#[test]
fn the_last_answer_is_passed_on_when_the_limit_is_reached() {
    let mut rig = rig();
    let (down, up) = rig.exchange(&request("GET", "one.example", ""));
    rig.receive(up, BUSY.as_bytes());
    for _ in 0..2 {
        assert_eq!(rig.written(down), "");
        // There is no other endpoint, and its connection is here again.
        rig.pass(millis(250));
        rig.receive(up, BUSY.as_bytes());
    }
    assert_eq!(rig.written(down), BUSY);
    assert_eq!((decided(&rig, Decision::Retried), decided(&rig, Decision::RetryLimit)), (2, 1));
    ends(&rig);
}

#[test]
fn what_an_endpoint_may_have_acted_on_is_not_repeated() {
    let mut rig = rig();
    let (down, up) = rig.exchange(&request("POST", "web.example", "x"));
    rig.receive(up, BUSY.as_bytes());
    assert_eq!(rig.written(down), BUSY);
    let mut rig = self::rig();
    let (down, up) = rig.exchange(&request("POST", "web.example", "x"));
    rig.reset(up);
    assert!(rig.written(down).starts_with("HTTP/1.1 502 "));
    // Nor is what was answered.
    let mut rig = self::rig();
    let (down, up) = rig.exchange(&request("GET", "web.example", ""));
    rig.receive(up, b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n1");
    rig.reset(up);
    assert!(rig.written(down).ends_with("\r\n\r\n1"));
    rig.pass(millis(300));
    assert_eq!(decided(&rig, Decision::Retried), 0);
}

#[test]
fn a_connection_that_breaks_is_a_failure_that_is_tried_again() {
    for how in 0..3 {
        let mut rig = rig();
        let put = request("PUT", "web.example", "body");
        let (down, up) = rig.exchange(&put);
        match how {
            0 => rig.reset(up),
            1 => rig.eof(up),
            _ => rig.receive(up, b"nonsense\r\n\r\n"),
        }
        let (other, _) = next(&mut rig);
        assert_eq!(rig.written(other), put, "{how}");
        rig.receive(other, OK.as_bytes());
        assert_eq!(rig.written(down), OK, "{how}");
        assert!(!rig.closed(up).is_empty(), "{how}");
        ends(&rig);
    }
}

#[test]
fn a_try_has_its_time_and_the_last_one_all_there_is() {
    let mut retry = all();
    retry.limit = 1;
    retry.per_try_timeout = Some(millis(300));
    let mut rig = Rig::with(with(&retry));
    let (down, up) = rig.exchange(&request("GET", "web.example", ""));
    rig.pass(millis(299));
    assert_eq!(rig.closed(up), []);
    rig.pass(millis(1));
    assert!(!rig.closed(up).is_empty(), "cancelled at once");
    let (other, _) = next(&mut rig);
    rig.pass(Duration::from_secs(9));
    assert_eq!((rig.written(down), rig.closed(other).len()), (String::new(), 0));
    rig.receive(other, OK.as_bytes());
    assert_eq!(rig.written(down), OK);
    ends(&rig);
}

#[test]
fn no_deadline_is_moved_by_a_retry() {
    let mut config = with(&Retry { per_try_timeout: Some(millis(300)), ..all() });
    let mut routes: Vec<Route> = config.routes.iter().map(|route| (**route).clone()).collect();
    for route in &mut routes {
        route.timeouts = RouteTimeouts { request: Some(millis(500)), ..RouteTimeouts::default() };
    }
    config.routes = routes.into();
    let mut rig = Rig::with(config);
    let down = rig.client();
    rig.receive(down, request("GET", "web.example", "").as_bytes());
    rig.connect();
    rig.pass(millis(499));
    assert_eq!(rig.written(down), "");
    rig.pass(millis(1));
    assert!(rig.written(down).starts_with("HTTP/1.1 504 "));
    ends(&rig);
    rig.pass(millis(500));
    ends(&rig);
}

#[test]
fn a_wait_that_is_too_long_is_no_wait() {
    for (field, wait) in [
        ("Retry-After: 1", None),
        ("Retry-After: 0", Some(0)),
        ("grpc-retry-pushback-ms: 400", Some(400)),
        ("grpc-retry-pushback-ms: -1", None),
        // The clock shows 12:00:00.
        ("Retry-After: Thu, 29 Feb 2024 12:00:01 GMT", None),
        ("Retry-After: Thu, 29 Feb 2024 11:59:59 GMT", Some(0)),
    ] {
        let mut config = with(&all());
        config.services[0].timeouts.request = Some(millis(900));
        let mut rig = Rig::with(config);
        rig.input(Input::WallClock(UnixTime::from_secs(1_709_208_000)));
        let (down, up) = rig.exchange(&request("GET", "web.example", ""));
        let answer = format!("HTTP/1.1 503 Busy\r\n{field}\r\nContent-Length: 0\r\n\r\n");
        rig.receive(up, answer.as_bytes());
        let Some(wait) = wait else {
            assert_eq!(rig.written(down), answer);
            assert_eq!(decided(&rig, Decision::RetryTooLate), 1, "{field}");
            continue;
        };
        if wait > 0 {
            rig.pass(millis(wait - 1));
            assert!(rig.connects.is_empty(), "{field}");
        }
        rig.pass(millis(30));
        assert_eq!(rig.connects.len(), 1, "{field}");
    }
}

#[test]
fn a_wait_that_would_end_idle_is_no_wait() {
    // Seconds: the idle timeout of all requests, that of the route, and what the answer asks for. A
    // request waits if it is sent again before it was idle for too long.
    for (all_idle, own_idle, asked, waits) in [
        (5, None, 5, false),
        (5, None, 90_000, false),
        (5, None, 4, true),
        (5, Some(8), 6, true),
        (5, Some(2), 4, false),
    ] {
        let case = format!("{all_idle} {own_idle:?} {asked}");
        let mut config = with(&all());
        config.timeouts.idle = Some(Duration::from_secs(all_idle));
        let mut routes: Vec<Route> = config.routes.iter().map(|route| (**route).clone()).collect();
        for route in &mut routes {
            route.timeouts.idle = own_idle.map(Duration::from_secs);
        }
        config.routes = RouteTable::new(routes);
        let mut rig = Rig::with(config);
        let (down, up) = rig.exchange(&request("GET", "web.example", ""));
        let answer =
            format!("HTTP/1.1 503 Busy\r\nRetry-After: {asked}\r\nContent-Length: 0\r\n\r\n");
        rig.receive(up, answer.as_bytes());
        if !waits {
            assert_eq!(rig.written(down), answer, "{case}");
            assert_eq!(decided(&rig, Decision::RetryTooLate), 1, "{case}");
            continue;
        }
        assert_eq!(rig.written(down), "", "{case}");
        rig.pass(Duration::from_secs(asked));
        let other = rig.connect();
        rig.receive(other, OK.as_bytes());
        assert_eq!(rig.written(down), OK, "{case}");
        ends(&rig);
    }
}

#[test]
fn a_body_that_is_too_large_to_keep_is_sent_once() {
    for (most, retried) in [(4_000, false), (5_000, true)] {
        let mut rig = Rig::with(with(&Retry { max_body: most, ..all() }));
        let put = request("PUT", "web.example", &"x".repeat(5_000));
        let (down, up) = rig.exchange(&put);
        assert_eq!(rig.written(up), put);
        rig.receive(up, BUSY.as_bytes());
        if retried {
            let (other, _) = next(&mut rig);
            assert_eq!(rig.written(other), put);
        } else {
            assert_eq!(rig.written(down), BUSY);
            assert_eq!(decided(&rig, Decision::RetryBody), 1);
        }
    }
}

#[test]
fn a_request_that_is_still_coming_is_tried_again_with_the_rest_of_it() {
    let mut rig = rig();
    let down = rig.client();
    let head = "PUT / HTTP/1.1\r\nHost: web.example\r\nTransfer-Encoding: chunked\r\n\r\n";
    rig.receive(down, head.as_bytes());
    let up = rig.connect();
    rig.receive(down, b"3\r\nabc\r\n");
    assert_eq!(rig.written(up), format!("{head}3\r\nabc\r\n"));
    rig.receive(up, BUSY.as_bytes());
    assert!(!rig.closed(up).is_empty(), "in the middle of a message");
    let (other, _) = next(&mut rig);
    rig.receive(down, b"2\r\nde\r\n0\r\n\r\n");
    let sent = rig.written(other);
    assert_eq!(sent, format!("{head}3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n"));
    rig.receive(other, OK.as_bytes());
    assert_eq!(rig.written(down), OK);
    ends(&rig);
}

#[test]
fn a_spent_budget_lets_failures_through() {
    let mut config = with(&all());
    let one = config.services.iter_mut().find(|service| &*service.name == "one.example:80");
    one.expect("the service").retry_budget =
        BudgetConfig { ratio: 0.0, min_per_second: 0.3, ..BudgetConfig::default() };
    let mut rig = Rig::with(config);
    let mut failed = 0;
    let (mut down, up) = rig.exchange(&request("GET", "one.example", ""));
    for _ in 0..10 {
        while rig.written_len(down) == 0 {
            rig.receive(up, BUSY.as_bytes());
            rig.pass(millis(250));
        }
        failed += 1;
        rig.written(down);
        down = rig.client();
        rig.receive(down, request("GET", "one.example", "").as_bytes());
    }
    // Three in ten seconds.
    assert_eq!((failed, decided(&rig, Decision::Retried)), (10, 3));
    assert!(decided(&rig, Decision::RetryBudget) >= 8);
}

/// Every endpoint answers 503 to everything, for longer than a window: what comes on top of the
/// requests is what the budget says, and not twice the limit.
#[test]
fn an_outage_is_not_amplified() {
    const REQUESTS: u64 = 1_000;
    let mut config = with(&all());
    config.services[0].retry_budget =
        BudgetConfig { min_per_second: 1.0, ..BudgetConfig::default() };
    let mut rig = Rig::with(config);
    let (mut ups, mut waiting): (Vec<ConnId>, Vec<ConnId>) = (Vec::new(), Vec::new());
    let (mut attempts, mut answers) = (0, 0);
    // 50 a second, and a second for the last ones to rest.
    for turn in 0..REQUESTS + 50 {
        if turn < REQUESTS {
            let down = rig.client();
            rig.receive(down, request("GET", "web.example", "").as_bytes());
            waiting.push(down);
        }
        loop {
            while !rig.connects.is_empty() {
                let up = rig.connect();
                ups.push(up);
            }
            ups.retain(|&up| rig.closed(up).is_empty());
            let Some(&up) = ups.iter().find(|&&up| rig.written_len(up) > 0) else { break };
            attempts += rig.written(up).matches("GET ").count() as u64;
            rig.receive(up, BUSY.as_bytes());
        }
        waiting.retain(|&down| {
            let answered = rig.written(down).starts_with("HTTP/1.1 503 ");
            if answered {
                answers += 1;
                rig.eof(down);
            }
            !answered
        });
        rig.pass(millis(20));
    }
    assert_eq!((answers, waiting.len()), (REQUESTS, 0));
    let most = REQUESTS + REQUESTS / 5 + (21 + 10);
    assert!(attempts <= most, "{attempts} attempts for {REQUESTS} requests");
    assert!(attempts >= REQUESTS + REQUESTS / 6, "{attempts}: the budget is there to be used");
    assert_eq!(decided(&rig, Decision::Retried), attempts - REQUESTS);
    ends(&rig);
}

#[test]
fn a_client_that_goes_while_its_request_rests_takes_it_along() {
    let mut rig = rig();
    let (down, up) = rig.exchange(&request("GET", "web.example", ""));
    rig.receive(up, BUSY.as_bytes());
    rig.reset(down);
    ends(&rig);
    rig.pass(millis(500));
    assert!(rig.connects.is_empty());
}

#[test]
fn no_response_head_in_time_is_tried_again_and_each_try_has_as_long() {
    let mut config = with(&all());
    config.timeouts.response_headers = Some(millis(300));
    let mut rig = Rig::with(config);
    let (down, _) = rig.exchange(&request("GET", "web.example", ""));
    rig.pass(millis(300));
    // It is sent again within 25 ms, and connected 225 ms later.
    next(&mut rig);
    rig.pass(millis(40));
    assert_eq!((rig.written(down), decided(&rig, Decision::Retried)), (String::new(), 1));
    rig.pass(millis(40));
    assert_eq!(decided(&rig, Decision::Retried), 2);
    let (up, _) = next(&mut rig);
    rig.receive(up, OK.as_bytes());
    assert_eq!(rig.written(down), OK);
    ends(&rig);
}

/// Found by the simulator: it stood in the queue twice.
#[test]
fn what_waited_for_an_endpoint_waits_once_when_it_is_tried_again() {
    let mut config = with(&all());
    config.timeouts.response_headers = Some(millis(300));
    let mut rig = Rig::with(config);
    let down = rig.client();
    rig.receive(down, request("GET", "one.example", "").as_bytes());
    rig.refuse_connect();
    for _ in 0..8 {
        rig.pass(millis(50));
        while !rig.connects.is_empty() {
            rig.refuse_connect();
        }
    }
    assert_eq!(decided(&rig, Decision::Retried), 1);
    assert_eq!(rig.engine.check_invariants(), Ok(()));
    while rig.connects.is_empty() {
        rig.pass(millis(50));
    }
    let up = rig.connect();
    assert_eq!(rig.written(up), request("GET", "one.example", ""));
    rig.receive(up, OK.as_bytes());
    assert_eq!(rig.written(down), OK);
    assert_eq!(rig.engine.check_invariants(), Ok(()));
    ends(&rig);
}

#[test]
fn a_request_may_ask_for_less_time_where_its_route_lets_it() {
    for allowed in [true, false] {
        let route = Route {
            service: "one.example:80".into(),
            allow_l5d_request_headers: allowed,
            ..Route::default()
        };
        let mut rig =
            Rig::with(Config { routes: RouteTable::new([route].into()), ..http2_config() });
        let wish = "l5d-timeout: 300ms\r\nL5D-Retry-Http: 5xx\r\nl5d-retry-limit: 1\r\n";
        let plain = request("GET", "one.example", "");
        let (down, up) = rig.exchange(&plain.replace("\r\n\r\n", &format!("\r\n{wish}\r\n")));
        let sent = rig.written(up);
        assert_eq!(sent.to_lowercase().contains("l5d-"), !allowed, "{sent}");
        if allowed {
            assert_eq!(sent, plain);
        }
        rig.receive(up, BUSY.as_bytes());
        assert_eq!(decided(&rig, Decision::Retried), u64::from(allowed));
        if !allowed {
            assert_eq!(rig.written(down), BUSY);
            continue;
        }
        rig.pass(millis(299));
        assert_eq!(rig.written(down), "");
        rig.pass(millis(1));
        assert!(rig.written(down).starts_with("HTTP/1.1 504 "));
    }
}
