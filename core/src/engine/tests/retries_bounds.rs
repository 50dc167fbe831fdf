//! What bounds retries, and what of them is passed on, beyond the limits of their route.

use alloc::format;
use alloc::string::String;

use super::http2_rig::{Peer, http2_config};
use super::retries::{all, decided, ends, next, request, rig, with};
use super::rig::*;
use crate::config::Config;
use crate::http2::ErrorCode;
use crate::policy::{BudgetConfig, Route, RouteTable};
use crate::stats::Decision;
use crate::time::Duration;

const BUSY: &str = "HTTP/1.1 503 Busy\r\nContent-Length: 0\r\n\r\n";
const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi";
const HINTS: &str = "HTTP/1.1 103 Early Hints\r\n\r\n";
const CONTINUE: &str = "HTTP/1.1 100 Continue\r\n\r\n";

/// All routes, changed.
fn changed(change: impl Fn(&mut Route)) -> Config {
    let mut config = with(&all());
    let mut routes: alloc::vec::Vec<Route> =
        config.routes.iter().map(|route| (**route).clone()).collect();
    routes.iter_mut().for_each(change);
    config.routes = RouteTable::new(routes);
    config
}

#[test]
fn what_a_client_was_told_by_one_try_it_is_not_told_again_by_the_next() {
    for (first, second, passed) in [
        (HINTS, HINTS, HINTS.into()),
        ("", HINTS, String::from(HINTS)),
        // One answer may have several.
        ("", "HTTP/1.1 103 Early Hints\r\n\r\nHTTP/1.1 103 Early Hints\r\n\r\n", HINTS.repeat(2)),
        (CONTINUE, CONTINUE, CONTINUE.into()),
        // A client that waits for it needs one.
        (HINTS, CONTINUE, format!("{HINTS}{CONTINUE}")),
        (CONTINUE, HINTS, CONTINUE.into()),
    ] {
        let mut rig = rig();
        let (down, up) = rig.exchange(&request("PUT", "web.example", "body"));
        rig.receive(up, format!("{first}{BUSY}").as_bytes());
        let (other, _) = next(&mut rig);
        rig.receive(other, format!("{second}{OK}").as_bytes());
        assert_eq!(rig.written(down), format!("{passed}{OK}"), "{first} {second}");
        ends(&rig);
    }
}

#[test]
fn nor_is_it_on_a_stream() {
    let mut rig = rig();
    let mut client = Peer::client(&mut rig);
    let get = "GET / HTTP/1.1\r\nHost: two.example\r\n\r\n";
    let stream = client.ask(&mut rig, get, true);
    for (nth, last) in ["HTTP/1.1 503 Busy\r\n\r\n", "HTTP/1.1 200 OK\r\n\r\n"].iter().enumerate() {
        rig.pass(millis(250));
        let mut app = Peer::endpoint(&mut rig);
        app.answer(&mut rig, 1, HINTS, false);
        client.run(&mut rig);
        assert_eq!(client.on(stream).heads.len(), 1, "{nth}");
        app.answer(&mut rig, 1, last, true);
    }
    client.run(&mut rig);
    let heads = &client.on(stream).heads;
    assert_eq!(heads.len(), 2, "{heads:?}");
    assert!(heads[0].contains(" 103 ") && heads[1].contains(" 200 "), "{heads:?}");
    ends(&rig);
}

/// Seen when the simulator's rule for it was written: a stream that its endpoint refuses after a 1xx is
/// sent again without a policy that says so.
#[test]
fn nor_by_what_is_sent_again_without_a_policy() {
    let mut rig = Rig::with(http2_config());
    let mut client = Peer::client(&mut rig);
    let stream = client.ask(&mut rig, "GET / HTTP/1.1\r\nHost: two.example\r\n\r\n", true);
    let mut app = Peer::endpoint(&mut rig);
    app.answer(&mut rig, 1, HINTS, false);
    app.reset(&mut rig, 1, ErrorCode::REFUSED_STREAM);
    let again = if rig.connects.is_empty() {
        app.run(&mut rig);
        3
    } else {
        app = Peer::endpoint(&mut rig);
        1
    };
    app.answer(&mut rig, again, HINTS, false);
    app.answer(&mut rig, again, "HTTP/1.1 200 OK\r\n\r\n", true);
    client.run(&mut rig);
    let heads = &client.on(stream).heads;
    assert_eq!(heads.len(), 2, "{heads:?}");
    assert!(heads[0].contains(" 103 ") && heads[1].contains(" 200 "), "{heads:?}");
}

/// Without a timeout that is shorter: `timeouts.idle` is an hour.
#[test]
fn nobody_is_held_for_as_long_as_an_endpoint_likes() {
    for (asked, waits) in [(299, true), (300, false), (3_000, false)] {
        let mut rig = rig();
        let (down, up) = rig.exchange(&request("GET", "web.example", ""));
        let answer =
            format!("HTTP/1.1 503 Busy\r\nRetry-After: {asked}\r\nContent-Length: 0\r\n\r\n");
        rig.receive(up, answer.as_bytes());
        assert_eq!(decided(&rig, Decision::RetryTooLate), u64::from(!waits), "{asked}");
        if !waits {
            assert_eq!(rig.written(down), answer);
            continue;
        }
        rig.pass(Duration::from_secs(asked));
        let other = rig.connect();
        rig.receive(other, OK.as_bytes());
        assert_eq!(rig.written(down), OK);
        ends(&rig);
    }
}

/// Servers and proxies that know nothing of gRPC answer in HTTP: a client takes a 503 for UNAVAILABLE,
/// which these routes name, and a 500 for UNKNOWN.
#[test]
fn a_call_that_is_answered_in_http_is_tried_again_by_what_its_client_makes_of_that() {
    for (kind, answer, again) in [
        ("application/grpc", "503 Busy", true),
        ("application/grpc", "500 Oh", false),
        ("application/json", "503 Busy", false),
    ] {
        let mut rig = rig();
        let mut client = Peer::client(&mut rig);
        let call = format!(
            "POST /a.B/C HTTP/1.1\r\nHost: two.example\r\nContent-Type: {kind}\r\n\
             Content-Length: 0\r\n\r\n"
        );
        client.ask(&mut rig, &call, true);
        let mut app = Peer::endpoint(&mut rig);
        app.answer(&mut rig, 1, &format!("HTTP/1.1 {answer}\r\n\r\n"), true);
        client.run(&mut rig);
        assert_eq!(decided(&rig, Decision::Retried), u64::from(again), "{kind} {answer}");
        if again {
            rig.pass(millis(250));
            let mut other = Peer::endpoint(&mut rig);
            other.answer(&mut rig, 1, "HTTP/1.1 200 OK\r\ngrpc-status: 0\r\n\r\n", true);
            client.run(&mut rig);
            assert!(client.head(1).contains(" 200 "), "{}", client.head(1));
        } else {
            assert!(client.head(1).contains(&answer[..3]), "{}", client.head(1));
        }
        ends(&rig);
    }
}

#[test]
fn the_time_of_the_response_runs_across_tries() {
    let mut rig = Rig::with(changed(|route| route.timeouts.response = Some(millis(500))));
    let down = rig.client();
    rig.receive(down, b"PUT / HTTP/1.1\r\nHost: web.example\r\nContent-Length: 2\r\n\r\na");
    let up = rig.connect();
    // It runs from the end of the request.
    rig.pass(millis(600));
    rig.receive(down, b"b");
    rig.pass(millis(100));
    rig.receive(up, BUSY.as_bytes());
    let (other, _) = next(&mut rig);
    rig.receive(other, b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n1");
    rig.pass(millis(149));
    assert_eq!(rig.closed(down), []);
    rig.pass(millis(1));
    assert!(!rig.closed(down).is_empty() && !rig.closed(other).is_empty());
    ends(&rig);
}

/// What is sent again because a pooled connection was dead counts against the budget, and not against
/// the limit; and it is not refused.
#[test]
fn a_dead_connection_is_charged_to_the_budget() {
    for dies in [false, true] {
        let mut config = with(&all());
        let one = config.services.iter_mut().find(|service| &*service.name == "one.example:80");
        // Two in ten seconds.
        one.expect("the service").retry_budget =
            BudgetConfig { ratio: 0.0, min_per_second: 0.2, ..BudgetConfig::default() };
        let mut rig = Rig::with(config);
        let get = request("GET", "one.example", "");
        let (down, mut up) = rig.exchange(&get);
        rig.receive(up, OK.as_bytes());
        rig.written(down);
        rig.receive(down, get.as_bytes());
        if dies {
            rig.eof(up);
            up = rig.connect();
        }
        let mut retried = 0;
        rig.receive(up, BUSY.as_bytes());
        while rig.written_len(down) == 0 {
            retried += 1;
            rig.pass(millis(250));
            // One that met a dead connection gets a new one.
            if dies {
                up = rig.connect();
            }
            rig.receive(up, BUSY.as_bytes());
        }
        assert_eq!(rig.written(down), BUSY);
        assert_eq!(retried, if dies { 1 } else { 2 });
        assert_eq!(decided(&rig, Decision::RetryBudget), u64::from(dies), "else the limit");
        ends(&rig);
    }
}

/// A retry budget that was spent is spent after a reload, too, unless it is another.
#[test]
fn a_reload_gives_no_new_budget() {
    for floor in [0.2, 0.3] {
        let limited = |floor| {
            let mut config = Config { routes: with(&all()).routes, ..http2_config() };
            let budget =
                BudgetConfig { ratio: 0.0, min_per_second: floor, ..BudgetConfig::default() };
            config.services.iter_mut().for_each(|service| service.retry_budget = budget);
            config
        };
        let mut rig = Rig::with(limited(0.2));
        let (down, up) = rig.exchange(&request("GET", "one.example", ""));
        for _ in 0..3 {
            rig.receive(up, BUSY.as_bytes());
            rig.pass(millis(250));
        }
        assert_eq!(rig.written(down), BUSY);
        assert_eq!(decided(&rig, Decision::Retried), 2);
        let config = alloc::sync::Arc::new(limited(floor));
        rig.command(crate::engine::Command::Reload(config));
        rig.receive(down, request("GET", "one.example", "").as_bytes());
        rig.receive(up, BUSY.as_bytes());
        let more = u64::from(floor > 0.2);
        assert_eq!(decided(&rig, Decision::Retried), 2 + more, "{floor}");
    }
}

/// So it is on a stream that its endpoint refuses.
#[test]
fn a_refused_stream_is_charged_to_the_budget() {
    for refused in [false, true] {
        let mut config = with(&all());
        let h2 = config.services.iter_mut().find(|service| &*service.name == "two.example:80");
        // One in ten seconds.
        h2.expect("the service").retry_budget =
            BudgetConfig { ratio: 0.0, min_per_second: 0.1, ..BudgetConfig::default() };
        let mut rig = Rig::with(config);
        let mut client = Peer::client(&mut rig);
        client.ask(&mut rig, "GET / HTTP/1.1\r\nHost: two.example\r\n\r\n", true);
        let mut app = Peer::endpoint(&mut rig);
        let mut stream = 1;
        if refused {
            app.reset(&mut rig, 1, ErrorCode::REFUSED_STREAM);
            if rig.connects.is_empty() {
                app.run(&mut rig);
                stream = 3;
            } else {
                app = Peer::endpoint(&mut rig);
            }
        }
        app.answer(&mut rig, stream, "HTTP/1.1 503 Busy\r\n\r\n", true);
        client.run(&mut rig);
        let counts = [Decision::Retried, Decision::RetryBudget].map(|d| decided(&rig, d));
        assert_eq!(counts, if refused { [0, 1] } else { [1, 0] });
    }
}
