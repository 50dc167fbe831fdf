//! What a route asks of a request.

use alloc::borrow::Cow;
use alloc::boxed::Box;
use alloc::vec::Vec;

use crate::http::Request;
use crate::policy::pattern::Pattern;

/// An authority, or many.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HostMatch {
    /// This one. Lower case; without a port it matches every port.
    Exact(Box<str>),
    /// All names that end in this, which begins with a dot: `.example` for `*.example`. At least
    /// one label has to precede it. Lower case; without a port it matches every port.
    Suffix(Box<str>),
    /// Every one, and none.
    Any,
}

/// What the head of a request has to be like. The default matches everything.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Match {
    /// Its path, without the query.
    pub path: PathMatch,
    /// Its method: one of these; empty: any.
    pub methods: Vec<Box<str>>,
    /// Fields that it has to have: all of these, each in one of its lines of that name.
    pub headers: Vec<FieldMatch>,
    /// Parameters that its query has to have: all of these. They are compared as they are meant:
    /// percent-encoding is undone, and `+` is a space.
    pub query: Vec<FieldMatch>,
    /// The gRPC method that it has to call. It takes the place of `path`.
    pub grpc: Option<GrpcMatch>,
}

/// A path, compared byte by byte as the client wrote it: neither case nor percent-encoding nor
/// `..` are evened out, as no endpoint would see it.
#[derive(Clone, Debug, Default, PartialEq)]
pub enum PathMatch {
    /// Any, `*` of OPTIONS included.
    #[default]
    Any,
    /// This one.
    Exact(Box<str>),
    /// This one and all below it: `/a` matches `/a`, `/a/` and `/a/b`, but not `/ab`. A slash at its
    /// end means nothing.
    Prefix(Box<str>),
    /// Those that the pattern matches as a whole.
    Regex(Pattern),
}

/// A call of gRPC: a POST of `application/grpc` to `/service/method`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct GrpcMatch {
    /// The service with its package; `None`: any.
    pub service: Option<Box<str>>,
    /// The method; `None`: any.
    pub method: Option<Box<str>>,
}

/// A field or parameter and what its value has to be.
#[derive(Clone, Debug, PartialEq)]
pub struct FieldMatch {
    /// Of a field: in lower case, matches any case. Of a parameter: as it is.
    pub name: Box<str>,
    /// The value.
    pub value: ValueMatch,
}

/// What a value has to be.
#[derive(Clone, Debug, PartialEq)]
pub enum ValueMatch {
    /// Anything, but it has to be there.
    Present,
    /// This.
    Exact(Box<str>),
    /// What the pattern matches as a whole.
    Regex(Pattern),
}

impl ValueMatch {
    fn accepts(&self, value: &[u8]) -> bool {
        match self {
            ValueMatch::Present => true,
            ValueMatch::Exact(exact) => exact.as_bytes() == value,
            ValueMatch::Regex(pattern) => pattern.is_match(value),
        }
    }
}

impl Match {
    /// Does a request match in everything but its path? Of gRPC without a service, in the method at
    /// the end of its path, too.
    pub(super) fn accepts(&self, request: &Request<'_>, target: &Target<'_>) -> bool {
        let method = || self.methods.iter().any(|m| m.as_bytes() == request.head.method);
        (self.methods.is_empty() || method())
            && self.grpc.as_ref().is_none_or(|grpc| grpc.accepts(request, target))
            && self.headers.iter().all(|field| {
                let mut fields = request.head.fields.iter();
                fields.any(|other| {
                    other.name.eq_ignore_ascii_case(field.name.as_bytes())
                        && field.value.accepts(other.value)
                })
            })
            && self.query.iter().all(|parameter| target.has(parameter))
    }
}

impl GrpcMatch {
    fn accepts(&self, request: &Request<'_>, target: &Target<'_>) -> bool {
        let called = || {
            let mut parts = target.path.splitn(3, |&byte| byte == b'/').skip(1);
            let (service, method) = (parts.next(), parts.next());
            let is = |name: &Option<Box<str>>, part: Option<&[u8]>| {
                name.as_ref().is_none_or(|name| Some(name.as_bytes()) == part)
            };
            method.is_some() && is(&self.service, service) && is(&self.method, method)
        };
        request.grpc && request.head.method == b"POST" && called()
    }
}

/// The two parts of a request target.
#[derive(Clone, Copy, Debug)]
pub(super) struct Target<'a> {
    pub(super) path: &'a [u8],
    query: Option<&'a [u8]>,
}

impl<'a> Target<'a> {
    pub(super) fn of(request: &Request<'a>) -> Self {
        let (path, query) = match memchr::memchr(b'?', request.path) {
            Some(at) => (&request.path[..at], Some(&request.path[at + 1..])),
            None => (request.path, None),
        };
        // An absolute target may have a query and no path.
        Target { path: if path.is_empty() { b"/" } else { path }, query }
    }

    /// Has the query this parameter?
    fn has(&self, wanted: &FieldMatch) -> bool {
        let pairs = self.query.unwrap_or_default().split(|&byte| byte == b'&');
        pairs.filter(|pair| !pair.is_empty()).any(|pair| {
            let equals = memchr::memchr(b'=', pair).unwrap_or(pair.len());
            let (name, value) = (&pair[..equals], pair.get(equals + 1..).unwrap_or_default());
            *decode(name) == *wanted.name.as_bytes() && wanted.value.accepts(&decode(value))
        })
    }
}

/// Undoes percent-encoding, with `+` for a space. What is no encoding stays as it is.
fn decode(text: &[u8]) -> Cow<'_, [u8]> {
    if !text.iter().any(|byte| matches!(byte, b'%' | b'+')) {
        return Cow::Borrowed(text);
    }
    let digit = |byte: u8| char::from(byte).to_digit(16);
    let mut decoded = Vec::with_capacity(text.len());
    let mut rest = text;
    while let [first, tail @ ..] = rest {
        rest = tail;
        decoded.push(match (*first, tail) {
            (b'+', _) => b' ',
            (b'%', [high, low, after @ ..]) => match (digit(*high), digit(*low)) {
                (Some(high), Some(low)) => {
                    rest = after;
                    (high << 4 | low) as u8
                }
                _ => b'%',
            },
            (byte, _) => byte,
        });
    }
    Cow::Owned(decoded)
}
