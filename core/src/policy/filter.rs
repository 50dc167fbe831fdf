//! What a route does to a message: changed fields, redirects, fixed failures.

use alloc::boxed::Box;
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt::Write;

use crate::http::hop::is_hop_by_hop;
use crate::http::{Fate, Fields, Known, Request, Span, authority, grammar};
use crate::rng::Rng;

/// What changes in the heads of an exchange.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Changes {
    /// Of the request, before it goes to an endpoint.
    pub request: HeaderChanges,
    /// Of the endpoint's final response, before it goes to the client.
    pub response: HeaderChanges,
}

/// What changes in a header section. A name stands in one of the three lists.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HeaderChanges {
    /// Fields that take the place of all of that name.
    pub set: Vec<(Box<str>, Box<str>)>,
    /// Fields that come after all others.
    pub add: Vec<(Box<str>, Box<str>)>,
    /// Names of fields that do not go on.
    pub remove: Vec<Box<str>>,
}

impl HeaderChanges {
    /// Does nothing change?
    pub fn is_empty(&self) -> bool {
        self.set.is_empty() && self.add.is_empty() && self.remove.is_empty()
    }

    /// May a field of this name be changed? Those that frame or route a message, or are for one hop
    /// only, are not a route's to change.
    pub fn may_change(name: &str) -> bool {
        let known = Known::of(name.as_bytes());
        let ours = ["l5d-orig-proto", "l5d-proxy-error", "trailer", "grpc-timeout"];
        grammar::is_token(name.as_bytes())
            && !is_hop_by_hop(known)
            && !matches!(known, Known::Host | Known::ContentLength | Known::Expect)
            && !ours.iter().any(|own| name.eq_ignore_ascii_case(own))
    }

    /// May a field have this value (RFC 9110 §5.5)?
    pub fn is_value(value: &str) -> bool {
        grammar::is_value(value.as_bytes())
            && grammar::trim(value.as_bytes()).len() == value.len()
            && value.is_ascii()
    }
}

/// Room for a head with other fields than it came with. Kept and used again.
#[derive(Debug, Default)]
pub(crate) struct Edited {
    buf: Vec<u8>,
    spans: Vec<Span>,
}

impl Edited {
    /// The same fields but for `changes`.
    pub(crate) fn apply(&mut self, fields: Fields<'_>, changes: &HeaderChanges) -> Fields<'_> {
        let Fields { buf, spans } = fields;
        self.buf.clear();
        self.spans.clear();
        let first = spans.first().map_or(buf.len().saturating_sub(2), |span| span.name as usize);
        self.buf.extend_from_slice(&buf[..first]);
        for &span in spans {
            let name = span.name(buf);
            let is = |other: &str| name.eq_ignore_ascii_case(other.as_bytes());
            let replaced = changes.set.iter().any(|(other, _)| is(other));
            if !replaced && !changes.remove.iter().any(|other| is(other)) {
                self.push(span.known, span.fate, name, span.value(buf));
            }
        }
        for (name, value) in changes.set.iter().chain(&changes.add) {
            let known = Known::of(name.as_bytes());
            self.push(known, Fate::Verbatim, name.as_bytes(), value.as_bytes());
        }
        self.buf.extend_from_slice(b"\r\n");
        Fields { buf: &self.buf, spans: &self.spans }
    }

    fn push(&mut self, known: Known, fate: Fate, name: &[u8], value: &[u8]) {
        let start = self.buf.len() as u32;
        for part in [name, b": ", value, b"\r\n"] {
            self.buf.extend_from_slice(part);
        }
        self.spans.push(Span {
            name: start,
            value: start + name.len() as u32 + 2,
            value_len: value.len() as u32,
            name_len: name.len() as u16,
            known,
            fate,
        });
    }
}

/// An answer of ours instead of an endpoint's.
#[derive(Clone, Debug, PartialEq)]
pub enum Fixed {
    /// The client is sent elsewhere.
    Redirect(Redirect),
    /// Some requests fail.
    Failure(Failure),
}

/// Where a client is sent. What is `None` stays as it asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Redirect {
    /// 301, 302, 303, 307 or 308.
    pub status: u16,
    /// `http` or `https`.
    pub scheme: Option<Box<str>>,
    /// Another host.
    pub host: Option<Box<str>>,
    /// Another port. With another scheme: that one's.
    pub port: Option<u16>,
    /// Another path; the query stays.
    pub path: Option<NewPath>,
}

/// Another path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NewPath {
    /// This one.
    Full(Box<str>),
    /// What the route matched as a prefix of so many bytes becomes this.
    Prefix(usize, Box<str>),
}

impl Redirect {
    /// The value of Location for a request.
    pub fn location(&self, request: &Request<'_>) -> String {
        let mut location = String::new();
        let scheme = self.scheme.as_deref().unwrap_or("http");
        let asked = request.authority.unwrap_or_default();
        let asked_port = authority::parse(asked).ok().and_then(|authority| authority.port);
        let asked = core::str::from_utf8(asked).unwrap_or_default();
        let asked_host = match asked.rfind(':') {
            Some(colon) if !asked.ends_with(']') => &asked[..colon],
            _ => asked,
        };
        let host = self.host.as_deref().unwrap_or(asked_host);
        let port = self.port.or(asked_port.filter(|_| self.scheme.is_none()));
        let default = if scheme == "https" { 443 } else { 80 };
        // Writing to a String cannot fail.
        let _ = write!(location, "{scheme}://{host}");
        if let Some(port) = port.filter(|&port| port != default) {
            let _ = write!(location, ":{port}");
        }
        // A target is UTF-8, or it is refused.
        let target = core::str::from_utf8(request.path).unwrap_or("/");
        let (path, query) = target.split_at(target.find('?').unwrap_or(target.len()));
        let path = if path.is_empty() { "/" } else { path };
        match &self.path {
            None => location.push_str(path),
            Some(NewPath::Full(path)) => location.push_str(path),
            Some(NewPath::Prefix(matched, with)) => {
                let rest = path.get(*matched..).unwrap_or_default().trim_start_matches('/');
                let with = with.trim_end_matches('/');
                location.push_str(with);
                if !rest.is_empty() || with.is_empty() {
                    location.push('/');
                }
                location.push_str(rest);
            }
        }
        location.push_str(query);
        location
    }
}

/// Requests that fail whatever an endpoint would say.
#[derive(Clone, Debug, PartialEq)]
pub struct Failure {
    /// The status.
    pub status: u16,
    /// The gRPC status that gRPC clients get; `None`: the one that stands for `status`.
    pub grpc: Option<u8>,
    /// What `l5d-proxy-error` and `grpc-message` say. Visible ASCII and spaces.
    pub message: Box<str>,
    /// The part of the requests that fail, from 0 to 1.
    pub ratio: f64,
}

impl Failure {
    /// Does this request fail?
    pub(crate) fn strikes(&self, rng: &mut Rng) -> bool {
        canary!(AlwaysInjected) || self.ratio >= 1.0 || rng.unit() < self.ratio
    }
}

#[cfg(test)]
mod tests {
    use alloc::string::ToString;

    use super::*;
    use crate::http::Scratch;
    use crate::http1;
    use crate::limits::Limits;
    use crate::rng::Seed;

    fn with_request<R>(head: &str, with: impl FnOnce(&Request<'_>) -> R) -> R {
        let mut scratch = Scratch::default();
        let request = http1::parse_request(head.as_bytes(), &mut scratch, &Limits::default());
        with(&request.expect(head))
    }

    fn pair(name: &str, value: &str) -> (Box<str>, Box<str>) {
        (name.into(), value.into())
    }

    #[test]
    fn fields_are_set_added_and_removed_and_the_others_stay() {
        let changes = HeaderChanges {
            set: [pair("x-a", "1"), pair("x-new", "2")].into(),
            add: [pair("x-b", "3")].into(),
            remove: ["x-gone".into()].into(),
        };
        let head =
            "GET /p HTTP/1.1\r\nHost: h\r\nX-A: old\r\nX-B:  b \r\nX-Gone: 1\r\nx-a: old\r\n\r\n";
        with_request(head, |request| {
            let mut edited = Edited::default();
            // Twice: the room is used again.
            edited.apply(request.head.fields, &changes);
            let fields = edited.apply(request.head.fields, &changes);
            assert_eq!(
                core::str::from_utf8(fields.buf),
                Ok("GET /p HTTP/1.1\r\nHost: h\r\nX-B: b\r\nx-a: 1\r\nx-new: 2\r\nx-b: 3\r\n\r\n")
            );
            let spelled: Vec<u8> = fields
                .iter()
                .flat_map(|field| [field.name, b": ", field.value, b"\r\n"].concat())
                .collect();
            assert!(fields.buf.strip_suffix(b"\r\n").is_some_and(|buf| buf.ends_with(&spelled)));
        });
        with_request("GET / HTTP/1.0\r\n\r\n", |request| {
            let mut edited = Edited::default();
            let fields = edited.apply(request.head.fields, &changes);
            assert!(fields.buf.starts_with(b"GET / HTTP/1.0\r\nx-a: 1\r\n"));
        });
    }

    #[test]
    fn what_frames_or_routes_is_not_a_routes_to_change() {
        for name in ["Host", "content-length", "Transfer-Encoding", "connection", "te", "a b", ""] {
            assert!(!HeaderChanges::may_change(name), "{name}");
        }
        for name in ["x-via", "Authorization", "cache-control"] {
            assert!(HeaderChanges::may_change(name), "{name}");
        }
        assert!(HeaderChanges::is_value("a b") && HeaderChanges::is_value(""));
        assert!(!HeaderChanges::is_value("a\r\nb: c") && !HeaderChanges::is_value(" a"));
    }

    #[test]
    fn a_location_says_what_is_new_and_keeps_the_rest() {
        let keep = Redirect { status: 302, scheme: None, host: None, port: None, path: None };
        let https = Redirect { scheme: Some("https".into()), ..keep.clone() };
        let host = Redirect { host: Some("b.example".into()), ..keep.clone() };
        let port = Redirect { port: Some(8443), ..https.clone() };
        let full = Redirect { path: Some(NewPath::Full("/new".into())), ..keep.clone() };
        let prefix =
            |with: &str| Redirect { path: Some(NewPath::Prefix(4, with.into())), ..keep.clone() };
        for (redirect, host, target, location) in [
            (&keep, "a.example", "/p?q=1", "http://a.example/p?q=1"),
            (&keep, "a.example:8080", "/", "http://a.example:8080/"),
            (&keep, "a.example:80", "/", "http://a.example/"),
            (&keep, "[::1]:8080", "/", "http://[::1]:8080/"),
            (&keep, "[::1]", "/", "http://[::1]/"),
            (&https, "a.example:8080", "/p", "https://a.example/p"),
            (&host, "a.example:8080", "/p", "http://b.example:8080/p"),
            (&port, "a.example", "/p", "https://a.example:8443/p"),
            (&full, "a", "/p?q", "http://a/new?q"),
            (&prefix("/v2"), "a", "/old/x?q", "http://a/v2/x?q"),
            (&prefix("/v2/"), "a", "/old", "http://a/v2"),
            (&prefix("/"), "a", "/old/x", "http://a/x"),
            (&prefix("/"), "a", "/old", "http://a/"),
        ] {
            let head = alloc::format!("GET {target} HTTP/1.1\r\nHost: {host}\r\n\r\n");
            let said = with_request(&head, |request| redirect.location(request));
            assert_eq!(said, location.to_string(), "{head}");
        }
    }

    #[test]
    fn a_part_of_the_requests_fails() {
        let mut rng = Rng::fork(Seed::from_number(1), 1);
        let mut strikes = |ratio: f64| {
            let failure = Failure { status: 503, grpc: None, message: "".into(), ratio };
            (0..10_000).filter(|_| failure.strikes(&mut rng)).count()
        };
        assert_eq!((strikes(0.0), strikes(1.0)), (0, 10_000));
        assert!((2_300..2_700).contains(&strikes(0.25)));
    }
}
