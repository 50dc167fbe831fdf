//! Which route is taken.

use alloc::boxed::Box;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use super::*;
use crate::http::{Request, Scratch, authority};
use crate::http1;
use crate::limits::Limits;
use crate::policy::Pattern;

/// A route that answers to its name.
fn route(name: &str, change: impl FnOnce(&mut Route)) -> Route {
    let mut route =
        Route { service: name.into(), hosts: [HostMatch::Any].into(), ..Route::default() };
    change(&mut route);
    route
}

fn path(name: &str, path: PathMatch) -> Route {
    route(name, |route| route.matches.path = path)
}

fn exact(text: &str) -> PathMatch {
    PathMatch::Exact(text.into())
}

fn prefix(text: &str) -> PathMatch {
    PathMatch::Prefix(text.into())
}

fn regex(text: &str) -> PathMatch {
    PathMatch::Regex(Pattern::new(text).expect(text))
}

fn field(name: &str, value: ValueMatch) -> FieldMatch {
    FieldMatch { name: name.into(), value }
}

fn is(text: &str) -> ValueMatch {
    ValueMatch::Exact(text.into())
}

fn with_request<R>(head: &str, with: impl FnOnce(&Request<'_>) -> R) -> R {
    let mut scratch = Scratch::default();
    let request = http1::parse_request(head.as_bytes(), &mut scratch, &Limits::default());
    with(&request.expect(head))
}

fn find_head(routes: &[Route], head: &str) -> String {
    let table = RouteTable::new(routes.to_vec());
    with_request(head, |request| {
        let mut name = String::new();
        if let Some(asked) = request.authority {
            authority::normalize(asked, 80, &mut name).expect("an authority");
        }
        let found = table.find(&name, request);
        assert_eq!(table.find_of(&table.routes_of(&name, true), request), found, "of a service");
        found.map_or(String::new(), |route| (*route.service).into())
    })
}

fn find(routes: &[Route], line: &str, host: &str) -> String {
    find_head(routes, &format!("{line} HTTP/1.1\r\nHost: {host}\r\n\r\n"))
}

fn find_path(routes: &[Route], path: &str) -> String {
    find(routes, &format!("GET {path}"), "any.example")
}

#[test]
fn a_prefix_ends_at_a_segment() {
    for text in ["/a", "/a/"] {
        let routes = [path("a", prefix(text))];
        for yes in ["/a", "/a/", "/a/b", "/a?q", "/a//"] {
            assert_eq!(find_path(&routes, yes), "a", "{text} {yes}");
        }
        for no in ["/", "/ab", "/b/a", "/A", "/%61"] {
            assert_eq!(find_path(&routes, no), "", "{text} {no}");
        }
    }
    let root = [path("root", prefix("/"))];
    assert_eq!(find_path(&root, "/"), "root");
    assert_eq!(find_path(&root, "/x/y"), "root");
    assert_eq!(find(&root, "OPTIONS *", "h"), "");
    assert_eq!(find(&[route("all", |_| ())], "OPTIONS *", "h"), "all");
}

#[test]
fn an_exact_path_is_that_path_without_its_query() {
    let routes = [path("a", exact("/a/b"))];
    for yes in ["/a/b", "/a/b?", "/a/b?c=/d"] {
        assert_eq!(find_path(&routes, yes), "a", "{yes}");
    }
    for no in ["/a/b/", "/a", "/a/b/c", "/a/B", "/"] {
        assert_eq!(find_path(&routes, no), "", "{no}");
    }
    assert_eq!(find_path(&[path("root", exact("/"))], "/"), "root");
    assert_eq!(find_path(&[path("root", exact("/"))], "//"), "");
    let absolute = "GET http://any.example?q HTTP/1.1\r\nHost: x\r\n\r\n";
    assert_eq!(find_head(&[path("root", exact("/"))], absolute), "root");
}

#[test]
fn a_pattern_is_found_wherever_its_plain_beginning_is() {
    for text in ["/v[12]/.*", ".*", "/v1/x.*", "/v1/(x|y)", "(/v1)/x", "/v1/x"] {
        assert_eq!(find_path(&[path("p", regex(text))], "/v1/x"), "p", "{text}");
    }
    for text in ["/v[23]/.*", "/v1", "/v1/", "v1/x", "/v1/x/"] {
        assert_eq!(find_path(&[path("p", regex(text))], "/v1/x"), "", "{text}");
    }
}

#[test]
fn the_more_exact_path_comes_first_whatever_the_order() {
    let routes = [
        path("all", PathMatch::Any),
        path("short", prefix("/a")),
        path("long", prefix("/a/b/")),
        path("pattern", regex("/a/b/[a-c]")),
        path("exact", exact("/a/b/c")),
    ];
    let mut reversed = routes.to_vec();
    reversed.reverse();
    for routes in [&routes[..], &reversed] {
        for (target, name) in [
            ("/a/b/c", "exact"),
            ("/a/b/a", "pattern"),
            ("/a/b/d", "long"),
            ("/a/bc", "short"),
            ("/b", "all"),
        ] {
            assert_eq!(find_path(routes, target), name, "{target}");
        }
    }
}

#[test]
fn after_the_path_method_fields_and_parameters_decide_then_the_order() {
    let any = |name| route(name, |_| ());
    let method = route("method", |r| r.matches.methods = ["GET".into(), "PUT".into()].into());
    let one = route("one", |r| r.matches.headers = [field("x-a", is("1"))].into());
    let two = route("two", |r| {
        r.matches.headers = [field("x-a", is("1")), field("x-b", ValueMatch::Present)].into();
    });
    let query = route("query", |r| r.matches.query = [field("q", is("1"))].into());
    let all = [any("first"), any("second"), query, one, two, method];
    let head = |line: &str, fields: &str| format!("{line} HTTP/1.1\r\nHost: h\r\n{fields}\r\n");
    for (line, fields, name) in [
        ("PUT /?q=1", "X-A: 1\r\nX-B:\r\nContent-Length: 0\r\n", "method"),
        ("DELETE /?q=1", "X-A: 1\r\nX-B:\r\n", "two"),
        ("DELETE /?q=1", "X-A: 1\r\n", "one"),
        ("DELETE /?q=1", "X-A: 2\r\nx-a: 1\r\n", "one"),
        ("DELETE /?q=1", "X-A: 2\r\n", "query"),
        ("DELETE /", "", "first"),
        // A method is case-sensitive (RFC 9110 §9.1).
        ("get /", "", "first"),
    ] {
        assert_eq!(find_head(&all, &head(line, fields)), name, "{line} {fields}");
    }
}

#[test]
fn query_parameters_are_compared_as_they_are_meant() {
    let routes = [route("q", |r| r.matches.query = [field("a b", is("c&d"))].into())];
    for yes in ["/?a%20b=c%26d", "/?x&a+b=c%26d&y", "/?a+b=no&a+b=c%26d", "/?&&a+b=c%26d"] {
        assert_eq!(find_path(&routes, yes), "q", "{yes}");
    }
    for no in ["/", "/?", "/?a+b=c&d", "/?a+b", "/a+b=c%26d", "/?a+b=c%26d%"] {
        assert_eq!(find_path(&routes, no), "", "{no}");
    }
    let pattern = ValueMatch::Regex(Pattern::new("[0-9]+").expect("a pattern"));
    let routes = [route("q", |r| r.matches.query = [field("n", pattern)].into())];
    assert_eq!(find_path(&routes, "/?n=%31"), "q");
    assert_eq!(find_path(&routes, "/?n=1x"), "");
}

#[test]
fn the_more_exact_host_comes_before_the_more_exact_path() {
    let at = |name: &str, host: HostMatch, path: PathMatch| {
        route(name, |route| {
            route.hosts = [host].into();
            route.matches.path = path;
        })
    };
    let exact_host = |text: &str| HostMatch::Exact(text.into());
    let suffix = |text: &str| HostMatch::Suffix(text.into());
    let routes = [
        at("any", HostMatch::Any, exact("/p")),
        at("wide", suffix(".example"), exact("/p")),
        at("narrow", suffix(".b.example"), exact("/p")),
        at("host", exact_host("a.b.example"), prefix("/p")),
        at("port", exact_host("a.b.example:81"), prefix("/p/q")),
    ];
    for (host, target, name) in [
        ("a.b.example", "/p", "host"),
        ("A.B.Example:80", "/p", "host"),
        ("a.b.example:81", "/p/q", "port"),
        // What none of the routes of the more exact host matches, those of the others may.
        ("a.b.example:81", "/p", "host"),
        ("c.b.example:81", "/p", "narrow"),
        ("d.c.b.example", "/p", "narrow"),
        ("b.example", "/p", "wide"),
        ("example", "/p", "any"),
        (".example", "/p", "any"),
        ("10.0.0.1", "/p", "any"),
        ("[::1]:80", "/p", "any"),
        ("a.b.example", "/", ""),
    ] {
        assert_eq!(find(&routes, &format!("GET {target}"), host), name, "{host}{target}");
    }
    let ported = [at("p", suffix(".example:81"), PathMatch::Any)];
    assert_eq!(find(&ported, "GET /", "a.example:81"), "p");
    assert_eq!(find(&ported, "GET /", "a.example"), "");
}

#[test]
fn without_hosts_it_is_the_service_that_has_to_be_asked() {
    let own = [Route { service: "web.example:80".into(), ..Route::default() }];
    assert_eq!(find(&own, "GET /", "web.example"), "web.example:80");
    assert_eq!(find(&own, "GET /", "web.example:81"), "");
    assert_eq!(find_head(&own, "GET / HTTP/1.0\r\n\r\n"), "");
    assert_eq!(find_head(&[route("all", |_| ())], "GET / HTTP/1.0\r\n\r\n"), "all");
}

#[test]
fn grpc_is_matched_by_service_and_method() {
    let call = |name: &str, service: Option<&str>, method: Option<&str>| {
        route(name, |route| {
            let grpc = GrpcMatch { service: service.map(Box::from), method: method.map(Box::from) };
            route.matches.grpc = Some(grpc);
        })
    };
    let routes = [
        call("any", None, None),
        call("method", None, Some("Get")),
        call("service", Some("a.B"), None),
        call("both", Some("a.B"), Some("Get")),
    ];
    let head = |line: &str, kind: &str| {
        let fields = format!("Host: h\r\nContent-Type: {kind}\r\nContent-Length: 0\r\n");
        format!("{line} HTTP/1.1\r\n{fields}\r\n")
    };
    let grpc = "application/grpc+proto";
    for (line, kind, name) in [
        ("POST /a.B/Get", grpc, "both"),
        ("POST /a.B/Put", grpc, "service"),
        ("POST /a.C/Get", grpc, "method"),
        ("POST /a.C/Put", grpc, "any"),
        ("POST /a.B/Get", "application/json", ""),
        ("PUT /a.B/Get", grpc, ""),
        ("POST /a.B", grpc, ""),
        ("POST /a.B/Get/x", grpc, "service"),
    ] {
        assert_eq!(find_head(&routes, &head(line, kind)), name, "{line} {kind}");
    }
}

#[test]
fn a_thousand_routes_each_find_their_own() {
    let paths = |n: usize| {
        [
            path(&format!("exact {n}"), exact(&format!("/s{n}/x"))),
            path(&format!("prefix {n}"), prefix(&format!("/s{n}"))),
            path(&format!("pattern {n}"), regex(&format!("/s{n}/[0-9]+"))),
        ]
    };
    let routes: Vec<Route> = (0..333).flat_map(paths).collect();
    for n in [0, 7, 70, 332] {
        assert_eq!(find_path(&routes, &format!("/s{n}/x")), format!("exact {n}"));
        assert_eq!(find_path(&routes, &format!("/s{n}/y")), format!("prefix {n}"));
        assert_eq!(find_path(&routes, &format!("/s{n}/12")), format!("pattern {n}"));
    }
}

#[test]
fn a_host_is_covered_by_who_lists_it_and_a_service_by_its_own_wildcards() {
    let hosts = |name: &str, hosts: &[HostMatch]| {
        route(name, |route| {
            route.hosts = hosts.into();
            route.matches.path = exact("/only");
        })
    };
    let own = hosts("web.example:80", &[]);
    let listed = hosts("gate.example:80", &[HostMatch::Exact("shop.example".into())]);
    let wild = hosts("gate.example:80", &[HostMatch::Suffix(".example".into())]);
    let any = hosts("gate.example:80", &[HostMatch::Any]);
    let everything = [own.clone(), listed.clone(), wild.clone(), any.clone()];
    for (routes, authority, as_service, as_stranger) in [
        (&[own][..], "web.example:80", true, true),
        (&everything[..1], "web.example:81", false, false),
        (&[listed][..], "shop.example:80", true, true),
        (&everything[1..2], "shop.example:8080", true, true),
        (&everything[1..2], "gate.example:80", false, false),
        (&[wild][..], "gate.example:80", true, true),
        (&everything[2..3], "web.example:80", false, true),
        (&everything[2..3], "example:80", false, false),
        (&[any][..], "gate.example:80", true, true),
        (&everything[3..], "web.example:80", false, true),
        (&everything[3..], "", false, true),
        (&[], "web.example:80", false, false),
    ] {
        let table = RouteTable::new(routes.to_vec());
        let covers = [true, false].map(|is_service| table.covers(authority, is_service));
        assert_eq!(covers, [as_service, as_stranger], "{authority} of {routes:?}");
    }
}

/// A service's only route is compared, not looked for: with the same result, as [`find_head`] sees to.
#[test]
fn an_only_route_takes_what_it_would_take_among_others() {
    let paths = ["/", "/a", "/a/", "/a?x=/b", "/a/b", "/ab", "//", "//a", "/?a", "/a//", "*"];
    let prefixes = ["/", "/a", "/a/", "/a/b", "//", "/?a"].map(prefix);
    let mut taken = 0;
    for matched in prefixes.into_iter().chain([PathMatch::Any, exact("/a")]) {
        let routes = [path("only", matched)];
        for path in paths {
            let method = if path == "*" { "OPTIONS" } else { "GET" };
            let service = find(&routes, &format!("{method} {path}"), "web.example");
            taken += usize::from(service == "only");
        }
    }
    assert_eq!(taken, 38);
}
