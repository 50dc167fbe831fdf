//! Routes against a model of what the Gateway API says: every route is looked at, and the best that
//! matches is taken.

use std::cmp::Reverse;
use std::time::Duration;

use selvedge_core::error::Reason;
use selvedge_core::http::{Scratch, authority};
use selvedge_core::http1::parse_request;
use selvedge_core::limits::Limits;
use selvedge_core::policy::{
    FieldMatch, GrpcMatch, HostMatch, Match, PathMatch, Pattern, Route, RouteTable, RouteTimeouts,
    ValueMatch,
};

use crate::choose::{Bytes, Choose, pick};

/// No table is larger.
const ROUTES: usize = 24;

/// Requests that one table is asked for.
const REQUESTS: usize = 32;

const HOSTS: [&str; 9] = [
    "a.example",
    "b.example",
    "x.a.example",
    "example",
    "a.example:81",
    "y.x.a.example:81",
    "10.0.0.1",
    "[::1]:81",
    "A.Example",
];

/// What a route may ask for, as it stands in a mesh file; empty: nothing.
const WANTED: [&str; 8] = [
    "",
    "*",
    "a.example",
    "a.example:81",
    "*.example",
    "*.a.example",
    "*.example:81",
    "*.x.a.example",
];

const PATHS: [&str; 14] = [
    "/", "/a", "/a/", "/a/b", "/a/b/", "/ab", "/a//b", "/a/1", "/a/12/b", "/b", "/a.B/Get",
    "/a.B/Put", "/a.B", "/A",
];

type IsMatch = fn(&str) -> bool;

/// Patterns, and what they say in another way.
const PATTERNS: [(&str, IsMatch); 5] = [
    (".*", |_| true),
    ("/a/[0-9]+", |path| digits(path.strip_prefix("/a/"))),
    ("/a/[0-9]+/b", |path| {
        digits(path.strip_prefix("/a/").and_then(|rest| rest.strip_suffix("/b")))
    }),
    ("/(a|b)", |path| matches!(path, "/a" | "/b")),
    ("/a/b/?", |path| matches!(path, "/a/b" | "/a/b/")),
];

fn digits(text: Option<&str>) -> bool {
    text.is_some_and(|text| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit()))
}

#[derive(Clone, Copy, Debug)]
enum Path {
    Any,
    Exact(&'static str),
    Prefix(&'static str),
    Pattern(usize),
    Grpc(Option<&'static str>, Option<&'static str>),
}

/// Whom routes with hosts belong to; those without belong to [`OWN`].
const SERVICES: [&str; 3] = ["a.example:80", "x.a.example:80", "none"];

/// Nobody asks for it but by its name: without hosts a route is found by its service.
const OWN: &str = "b.example:80";

/// A route in the words of the model.
#[derive(Clone, Debug)]
struct Wanted {
    hosts: Vec<&'static str>,
    service: &'static str,
    path: Path,
    methods: Vec<&'static str>,
    headers: Vec<(&'static str, Option<&'static str>)>,
    query: Vec<(&'static str, &'static str)>,
}

#[derive(Clone, Debug)]
struct Asked {
    host: &'static str,
    path: &'static str,
    method: &'static str,
    headers: Vec<(&'static str, &'static str)>,
    query: Vec<(&'static str, &'static str)>,
    grpc: bool,
}

impl Wanted {
    fn choose(choose: &mut dyn Choose) -> Self {
        let few = |choose: &mut dyn Choose| choose.below(3);
        let hosts: Vec<_> = (0..few(choose)).map(|_| pick(choose, &WANTED[1..])).collect();
        let service = if hosts.is_empty() { OWN } else { pick(choose, &SERVICES) };
        let path = match choose.below(5) {
            0 => Path::Any,
            1 => Path::Exact(pick(choose, &PATHS)),
            2 => Path::Prefix(pick(choose, &PATHS)),
            3 => Path::Pattern(choose.below(PATTERNS.len())),
            _ => Path::Grpc(
                pick(choose, &[None, Some("a.B")]),
                pick(choose, &[None, Some("Get"), Some("Put")]),
            ),
        };
        let methods = (0..few(choose)).map(|_| pick(choose, &["GET", "POST", "PUT"])).collect();
        let headers = (0..few(choose))
            .map(|_| (pick(choose, &["x-a", "x-b"]), pick(choose, &[None, Some("1"), Some("2")])))
            .collect();
        let query = (0..few(choose))
            .map(|_| (pick(choose, &["q", "r s"]), pick(choose, &["1", ""])))
            .collect();
        Wanted { hosts, service, path, methods, headers, query }
    }

    fn route(&self, name: usize) -> Route {
        let text = |text: &str| -> Box<str> { text.into() };
        let mut matches = Match {
            methods: self.methods.iter().map(|method| text(method)).collect(),
            headers: self
                .headers
                .iter()
                .map(|&(name, value)| {
                    let value = value.map_or(ValueMatch::Present, |v| ValueMatch::Exact(text(v)));
                    FieldMatch { name: text(name), value }
                })
                .collect(),
            query: self
                .query
                .iter()
                .map(|&(name, value)| FieldMatch {
                    name: text(name),
                    value: ValueMatch::Exact(text(value)),
                })
                .collect(),
            ..Match::default()
        };
        match self.path {
            Path::Any => {}
            Path::Exact(path) => matches.path = PathMatch::Exact(text(path)),
            Path::Prefix(path) => matches.path = PathMatch::Prefix(text(path)),
            Path::Pattern(index) => {
                let pattern = Pattern::new(PATTERNS[index].0).expect("a pattern");
                matches.path = PathMatch::Regex(pattern);
            }
            Path::Grpc(service, method) => {
                let (service, method) = (service.map(text), method.map(text));
                matches.grpc = Some(GrpcMatch { service, method });
            }
        }
        let host = |host: &&str| match host.strip_prefix('*') {
            Some("") => HostMatch::Any,
            Some(suffix) => HostMatch::Suffix(text(suffix)),
            None => HostMatch::Exact(text(host)),
        };
        let hosts = self.hosts.iter().map(host).collect();
        Route {
            service: self.service.into(),
            hosts,
            matches,
            timeouts: times(name),
            ..Route::default()
        }
    }

    /// How well this route suits a request: greater is better. `None`: not at all.
    fn suits(&self, asked: &Asked) -> Option<impl Ord + use<>> {
        let host = self.listed().iter().filter_map(|host| host_suits(host, asked.host)).max()?;
        let path = self.path_suits(asked)?;
        let method = self.methods.is_empty() || self.methods.contains(&asked.method);
        let headers = self.headers.iter().all(|&(name, value)| {
            let mut fields = asked.headers.iter();
            fields.any(|&(n, v)| n == name && value.is_none_or(|value| v == value))
        });
        let query = self.query.iter().all(|pair| asked.query.contains(pair));
        if !(method && headers && query) {
            return None;
        }
        let method = !self.methods.is_empty() || matches!(self.path, Path::Grpc(_, Some(_)));
        Some((host, path, method, self.headers.len(), self.query.len()))
    }

    fn listed(&self) -> &[&'static str] {
        if self.hosts.is_empty() { &[OWN] } else { &self.hosts }
    }

    /// Is a request for this host one for it, or for nobody? By a name that it lists, or by a wildcard,
    /// unless the host is another service.
    fn covers(&self, asked: &str, service: Option<&str>) -> bool {
        let means = |host: &&str| {
            let own = !host.starts_with('*') || service.is_none_or(|name| name == self.service);
            own && host_suits(host, asked).is_some()
        };
        self.listed().iter().any(means)
    }

    fn path_suits(&self, asked: &Asked) -> Option<(u8, usize)> {
        let below = |prefix: &str| {
            let prefix = prefix.trim_end_matches('/');
            let rest = asked.path.strip_prefix(prefix)?;
            (rest.is_empty() || rest.starts_with('/')).then_some((0, prefix.len()))
        };
        match self.path {
            Path::Any => Some((0, 0)),
            Path::Exact(path) => (path == asked.path).then_some((2, 0)),
            Path::Prefix(path) => below(path),
            Path::Pattern(index) => PATTERNS[index].1(asked.path).then_some((1, 0)),
            Path::Grpc(service, method) => {
                let parts: Vec<&str> = asked.path.split('/').collect();
                let is_call = asked.grpc && asked.method == "POST" && parts.len() > 2;
                let is = |name: Option<&str>, part: usize| name.is_none_or(|n| parts[part] == n);
                let called =
                    is_call && is(service, 1) && method.is_none_or(|m| parts[2..].join("/") == m);
                called.then(|| match (service, method) {
                    (Some(_), Some(_)) => (2, 0),
                    (Some(service), None) => (0, service.len() + 1),
                    (None, _) => (0, 0),
                })
            }
        }
    }
}

/// How well a host suits: exact before suffix before any, longer first, with a port first.
fn host_suits(wanted: &str, asked: &str) -> Option<(u8, usize, bool)> {
    let asked = asked.to_lowercase();
    let (asked, port) = match asked.rsplit_once(':') {
        Some((host, port)) if !asked.ends_with(']') => (host.to_owned(), port.to_owned()),
        _ => (asked, "80".to_owned()),
    };
    let (wanted, wanted_port) = match wanted.rsplit_once(':') {
        Some((host, port)) => (host, Some(port)),
        None => (wanted, None),
    };
    if wanted_port.is_some_and(|wanted| wanted != port) {
        return None;
    }
    match wanted.strip_prefix('*') {
        Some("") => Some((0, 0, false)),
        Some(suffix) => {
            let label = asked.strip_suffix(suffix)?;
            (!label.is_empty()).then_some((1, suffix.len(), wanted_port.is_some()))
        }
        None => (wanted == asked).then_some((2, 0, wanted_port.is_some())),
    }
}

impl Asked {
    fn choose(choose: &mut dyn Choose) -> Self {
        let headers = (0..choose.below(3))
            .map(|_| (pick(choose, &["x-a", "x-b", "x-c"]), pick(choose, &["1", "2", ""])))
            .collect();
        let query = (0..choose.below(3))
            .map(|_| (pick(choose, &["q", "r s", "t"]), pick(choose, &["1", "", "2"])))
            .collect();
        Asked {
            host: pick(choose, &HOSTS),
            path: pick(choose, &PATHS),
            method: pick(choose, &["GET", "POST", "PUT", "DELETE"]),
            headers,
            query,
            grpc: choose.below(2) == 1,
        }
    }

    fn head(&self) -> String {
        let query: Vec<String> = self
            .query
            .iter()
            .map(|(name, value)| format!("{}={value}", name.replace(' ', "%20")))
            .collect();
        let query = if query.is_empty() { String::new() } else { format!("?{}", query.join("&")) };
        let mut head =
            format!("{} {}{query} HTTP/1.1\r\nHost: {}\r\n", self.method, self.path, self.host);
        for (name, value) in &self.headers {
            for part in [&name.to_uppercase(), ": ", value, "\r\n"] {
                head += part;
            }
        }
        if self.grpc {
            head += "Content-Type: application/grpc\r\n";
        }
        head + "\r\n"
    }
}

/// Times that tell routes apart.
fn times(name: usize) -> RouteTimeouts {
    RouteTimeouts { request: Some(Duration::from_secs(name as u64)), ..RouteTimeouts::default() }
}

/// A table and requests: each gets the route that the model says. And, of bytes that are neither, the
/// table says something without a panic.
///
/// # Panics
/// If something does not hold.
pub fn route_match(data: &[u8]) {
    matches(data);
}

/// The same; how many requests found a route.
///
/// # Panics
/// If something does not hold.
pub fn matches(data: &[u8]) -> usize {
    let mut bytes = Bytes::new(data);
    let choose: &mut dyn Choose = &mut bytes;
    let wanted: Vec<Wanted> =
        (0..choose.below(ROUTES + 1)).map(|_| Wanted::choose(choose)).collect();
    let routes: Vec<Route> =
        wanted.iter().enumerate().map(|(name, wanted)| wanted.route(name)).collect();
    let table = RouteTable::new(routes.clone());
    let mut count = 0;
    for _ in 0..REQUESTS {
        if choose.is_exhausted() {
            break;
        }
        let asked = Asked::choose(choose);
        let best = wanted
            .iter()
            .enumerate()
            .filter_map(|(index, route)| Some((route.suits(&asked)?, Reverse(index))))
            .max();
        let best = best.map(|(_, Reverse(index))| &routes[index]);
        let found = find(&table, asked.head().as_bytes()).expect("a request");
        assert_eq!(found.as_ref(), best, "{asked:?}\nof {wanted:#?}");
        count += usize::from(best.is_some());
        // Whether it is a service makes no difference to which route is taken.
        let mut name = String::new();
        authority::normalize(asked.host.as_bytes(), 80, &mut name).expect("a host");
        let is_service = choose.flip();
        let service = is_service.then_some(&*name);
        let covered = wanted.iter().any(|route| route.covers(asked.host, service));
        assert_eq!(table.covers(&name, is_service), covered, "{asked:?}\nof {wanted:#?}");
    }
    // What is left, as a request.
    let _ = find(&table, data);
    count
}

/// The route of a request.
fn find(table: &RouteTable, head: &[u8]) -> Result<Option<Route>, Reason> {
    let mut scratch = Scratch::default();
    let request = parse_request(head, &mut scratch, &Limits::default())?;
    let mut name = String::new();
    if let Some(asked) = request.authority {
        authority::normalize(asked, 80, &mut name)?;
    }
    Ok(table.find(&name, &request).map(|route| (**route).clone()))
}
