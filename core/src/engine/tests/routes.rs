//! Routes through the engine: matching, filters, splits, times.

use alloc::format;
use alloc::vec::Vec;

use super::http2_rig::{Peer, http2_config};
use super::rig::*;
use crate::config::Config;
use crate::engine::{Command, Event};
use crate::error::Reason;
use crate::policy::{
    Backend, Failure, Fixed, HostMatch, Match, PathMatch, Redirect, Route, RouteTable,
    RouteTimeouts, Split,
};
use crate::stats::Decision;
use crate::time::Duration;

fn web(change: impl FnOnce(&mut Route)) -> Route {
    let mut route = Route { service: "web.example:80".into(), ..Route::default() };
    change(&mut route);
    route
}

fn with(routes: Vec<Route>) -> Config {
    Config { routes: RouteTable::new(routes), ..http2_config() }
}

fn get(path: &str, host: &str) -> alloc::string::String {
    format!("GET {path} HTTP/1.1\r\nHost: {host}\r\n\r\n")
}

fn decisions(rig: &Rig, decision: Decision) -> u64 {
    let services = rig.engine.snapshot().services;
    services.iter().map(|service| service.stats.decisions.get(decision)).sum()
}

#[test]
fn a_host_that_no_service_has_finds_one_by_its_route() {
    let any = |route: &mut Route| route.hosts = [HostMatch::Suffix(".example".into())].into();
    let mut rig = Rig::with(with([web(any)].into()));
    let (down, up) = rig.exchange(&get("/", "shop.example"));
    assert_eq!(rig.written(up), get("/", "shop.example"));
    rig.receive(up, b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
    assert!(rig.written(down).starts_with("HTTP/1.1 200 OK\r\n"));
    // Whom nobody has stays unknown.
    let other = rig.client();
    rig.receive(other, get("/", "shop.test").as_bytes());
    assert!(rig.written(other).starts_with("HTTP/1.1 404 "));
    let (_, up) = rig.exchange(&get("/", "one.example"));
    assert_eq!(rig.written(up), get("/", "one.example"));
}

#[test]
fn what_none_of_the_routes_for_it_matches_is_not_found() {
    let only = |service: &str, hosts: &[HostMatch]| Route {
        hosts: hosts.into(),
        matches: Match { path: PathMatch::Prefix("/api".into()), ..Match::default() },
        service: service.into(),
        ..Route::default()
    };
    let wild = [HostMatch::Suffix(".example".into())];
    let routes = [only("web.example:80", &[]), only("h2.example:80", &wild)];
    let mut rig = Rig::with(with(routes.into()));
    let down = rig.client();
    let not_found = |text: &str| {
        text.starts_with("HTTP/1.1 404 Not Found\r\n")
            && text.contains("l5d-proxy-error: no route matches the request\r\n")
    };
    // Its own routes; those of a wildcard for hosts of no service, and for the wildcard's service.
    for host in ["web.example", "nobody.example", "h2.example"] {
        rig.receive(down, get("/apis", host).as_bytes());
        let text = rig.written(down);
        assert!(not_found(&text), "{host}: {text}");
    }
    // Another service has no routes, whatever wildcards of others say; and the connection goes on.
    rig.receive(down, get("/apis", "one.example").as_bytes());
    let up = rig.connect();
    assert_eq!(rig.written(up), get("/apis", "one.example"));
    let call = |host: &str| {
        let fields = "Content-Type: application/grpc\r\nContent-Length: 0\r\n";
        format!("POST /a.B/Get HTTP/1.1\r\nHost: {host}\r\n{fields}\r\n")
    };
    let mut client = Peer::client(&mut rig);
    let stream = client.ask(&mut rig, &call("web.example"), true);
    let head = client.head(stream);
    assert!(head.starts_with("HTTP/1.1 200 ") && head.contains("grpc-status: 5\r\n"), "{head}");
    let refused = rig.engine.snapshot().directions[0].refused[Reason::NoRoute as usize];
    assert_eq!((refused, rig.engine.gauges().exchanges), (4, 1));
}

#[test]
fn fields_change_on_the_way_there_and_back_in_both_versions() {
    let route = |service: &str| {
        let mut route = Route { service: service.into(), ..Route::default() };
        route.changes.request.set = [("x-via".into(), "selvedge".into())].into();
        route.changes.request.remove = ["x-debug".into()].into();
        route.changes.response.add = [("x-by".into(), "us".into())].into();
        route.changes.response.remove = ["server".into()].into();
        route
    };
    let routes = [route("web.example:80"), route("h2.example:80")].into();
    let mut rig = Rig::with(with(routes));
    let head = "GET / HTTP/1.1\r\nHost: web.example\r\nX-Debug: 1\r\nX-Via: them\r\n\r\n";
    let (down, up) = rig.exchange(head);
    let sent = "GET / HTTP/1.1\r\nHost: web.example\r\nx-via: selvedge\r\n\r\n";
    assert_eq!(rig.written(up), sent);
    let answer = "HTTP/1.1 200 OK\r\nServer: x\r\nContent-Length: 2\r\n\r\nhi";
    rig.receive(up, b"HTTP/1.1 103 Early Hints\r\nServer: x\r\n\r\n");
    rig.receive(up, answer.as_bytes());
    assert_eq!(
        rig.written(down),
        "HTTP/1.1 103 Early Hints\r\nServer: x\r\n\r\n\
         HTTP/1.1 200 OK\r\nContent-Length: 2\r\nx-by: us\r\n\r\nhi"
    );
    let mut client = Peer::client(&mut rig);
    client.ask(&mut rig, &head.replace("web", "h2"), true);
    let mut app = Peer::endpoint(&mut rig);
    assert_eq!(app.head(1), sent.replace("web", "h2"));
    app.answer(&mut rig, 1, "HTTP/1.1 200 OK\r\nServer: x\r\n\r\n", true);
    client.run(&mut rig);
    assert_eq!(client.head(1), "HTTP/1.1 200 OK\r\nx-by: us\r\n\r\n");
}

#[test]
fn a_redirect_is_answered_at_once_and_the_connection_goes_on() {
    let redirect =
        Redirect { status: 308, scheme: Some("https".into()), host: None, port: None, path: None };
    let mut rig =
        Rig::with(with([web(|route| route.fixed = Some(Fixed::Redirect(redirect)))].into()));
    let down = rig.client();
    let answer = "HTTP/1.1 308 Permanent Redirect\r\nlocation: https://web.example/a?b\r\n\
                  content-length: 0\r\n\r\n";
    for _ in 0..2 {
        rig.receive(down, get("/a?b", "web.example").as_bytes());
        assert_eq!(rig.written(down), answer);
    }
    let mut client = Peer::client(&mut rig);
    for stream in [1, 3] {
        client.ask(&mut rig, &get("/a?b", "web.example"), true);
        assert_eq!(
            client.head(stream),
            "HTTP/1.1 308 Permanent Redirect\r\ncontent-length: 0\r\n\
             location: https://web.example/a?b\r\n\r\n"
        );
        assert!(client.on(stream).end && client.violation.is_none());
    }
    assert_eq!((decisions(&rig, Decision::Redirected), rig.connects.len()), (4, 0));
    assert_eq!(rig.engine.gauges().exchanges, 0);
}

#[test]
fn a_failure_is_what_the_route_says_and_grpc_where_that_is_spoken() {
    let failure = Failure { status: 418, grpc: Some(8), message: "no".into(), ratio: 1.0 };
    let route = web(|route| route.fixed = Some(Fixed::Failure(failure)));
    let mut rig = Rig::with(with([route].into()));
    let down = rig.client();
    rig.receive(down, get("/", "web.example").as_bytes());
    let text = rig.written(down);
    assert!(
        text.starts_with("HTTP/1.1 418 ") && text.contains("l5d-proxy-error: no\r\n"),
        "{text}"
    );
    let mut client = Peer::client(&mut rig);
    let call = "POST /a/b HTTP/1.1\r\nHost: web.example\r\nContent-Type: application/grpc\r\n\r\n";
    let stream = client.ask(&mut rig, call, true);
    let head = client.head(stream);
    assert!(head.starts_with("HTTP/1.1 200 OK\r\n"), "{head}");
    assert!(head.contains("grpc-status: 8\r\n") && head.contains("grpc-message: no\r\n"), "{head}");
    assert_eq!(decisions(&rig, Decision::FailureInjected), 2);
    let refused = rig.engine.snapshot().directions[0].refused[Reason::FailureInjected as usize];
    assert_eq!(refused, 2);
}

#[test]
fn a_split_passes_over_a_service_that_has_nobody_ready() {
    let backends = ["h1.example:80", "one.example:80"]
        .map(|service| Backend { service: service.into(), weight: 1 });
    let route = web(|route| route.split = Split::Weighted(backends.into()));
    let mut rig = Rig::with(with([route].into()));
    let mut seen = Vec::new();
    for _ in 0..20 {
        rig.exchange(&get("/", "web.example"));
        let services = rig.engine.snapshot().services;
        seen =
            services.iter().map(|service| (service.name.clone(), service.stats.requests)).collect();
    }
    let share = |name: &str| seen.iter().find(|(other, _)| **other == *name).map(|(_, n)| *n);
    let (h1, one) = (share("h1.example:80"), share("one.example:80"));
    assert!(h1 >= Some(4) && one >= Some(4), "{seen:?}");
    assert_eq!(share("web.example:80"), Some(0));
    // The only endpoint of one refuses: from then on all goes to the other.
    let mut refused = false;
    while !refused {
        let down = rig.client();
        rig.receive(down, get("/", "web.example").as_bytes());
        refused = rig.connects[0].1 == addr("10.0.0.3:80");
        if refused {
            rig.refuse_connect();
        } else {
            rig.connect();
        }
    }
    for _ in 0..20 {
        let down = rig.client();
        rig.receive(down, get("/", "web.example").as_bytes());
        assert_eq!(rig.connects.remove(0).1, addr("10.1.0.1:80"));
    }
}

#[test]
fn the_times_of_a_route_beat_those_of_its_service() {
    let times = |timeouts: RouteTimeouts| {
        let mut config = with(
            [
                web(|_| {}),
                web(|route| {
                    route.matches.path = PathMatch::Prefix("/slow".into());
                    route.timeouts = timeouts;
                }),
            ]
            .into(),
        );
        config.services[0].timeouts.request = Some(Duration::from_secs(1));
        Rig::with(config)
    };
    let none = RouteTimeouts::default();
    // Its service's, without one of its own; and of a path that another route matches.
    let request = RouteTimeouts { request: Some(Duration::from_secs(5)), ..none.clone() };
    for (timeouts, path, at) in [
        (none.clone(), "/slow", 1_000),
        (request.clone(), "/fast", 1_000),
        (request.clone(), "/slow", 5_000),
    ] {
        let mut rig = times(timeouts);
        let (down, _) = rig.exchange(&get(path, "web.example"));
        rig.pass(millis(at - 1));
        assert_eq!(rig.written(down), "", "{path} {at}");
        rig.pass(millis(1));
        assert!(rig.written(down).starts_with("HTTP/1.1 504 "), "{path} {at}");
    }
    // From the end of the request to the end of the response, however it drips.
    let response = RouteTimeouts { response: Some(millis(500)), ..request.clone() };
    let mut rig = times(response);
    let post = "POST /slow HTTP/1.1\r\nHost: web.example\r\nContent-Length: 2\r\n\r\na";
    let (down, up) = rig.exchange(post);
    rig.pass(millis(600));
    rig.receive(down, b"b");
    rig.receive(up, b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n1");
    rig.pass(millis(400));
    rig.receive(up, b"2");
    rig.pass(millis(99));
    assert_eq!(rig.closed(down), []);
    rig.pass(millis(1));
    assert!(!rig.closed(down).is_empty());
    let slow = |event: &&Event| {
        matches!(event, Event::Refused { reason: Reason::ResponseStreamTimeout, .. })
    };
    assert_eq!(rig.events.iter().filter(slow).count(), 1);
    let idle = RouteTimeouts { idle: Some(millis(300)), ..request };
    let mut rig = times(idle);
    let (down, up) = rig.exchange(&get("/slow", "web.example"));
    rig.receive(up, b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n1");
    rig.pass(millis(300));
    assert!(!rig.closed(down).is_empty());
}

#[test]
fn what_is_in_flight_keeps_the_route_that_it_began_with() {
    let old = web(|route| {
        route.timeouts.request = Some(millis(500));
        route.changes.response.set = [("x-route".into(), "old".into())].into();
    });
    let mut rig = Rig::with(with([old].into()));
    let (down, up) = rig.exchange(&get("/", "web.example"));
    let (late, _) = rig.exchange(&get("/", "web.example"));
    rig.command(Command::Reload(alloc::sync::Arc::new(with(Vec::new()))));
    rig.receive(up, b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
    assert!(rig.written(down).contains("x-route: old\r\n"));
    rig.pass(millis(500));
    assert!(rig.written(late).starts_with("HTTP/1.1 504 "));
    rig.receive(down, get("/", "web.example").as_bytes());
    rig.receive(up, b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
    assert_eq!(rig.written(down), "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
}

#[test]
fn routes_are_for_what_goes_out() {
    let failure = Failure { status: 503, grpc: None, message: "no".into(), ratio: 1.0 };
    let all = web(|route| {
        route.hosts = [HostMatch::Any].into();
        route.fixed = Some(Fixed::Failure(failure));
    });
    let mut rig = Rig::with(with([all].into()));
    let down = rig.accept_to(INBOUND, None);
    rig.receive(down, get("/", "web.example").as_bytes());
    let up = rig.connect();
    assert_eq!(rig.written(up), get("/", "web.example"));
}
