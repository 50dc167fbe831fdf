//! Requests and answers of a script, in a form that both versions have.

use crate::choose::{Choose, pick};
use crate::traffic::content::token;
use crate::traffic::wire::{Field, Head};

/// How a message says where its body ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Body {
    /// There is none.
    Nothing,
    /// Content-Length.
    Length(usize),
    /// It is only known at the end, with trailers or without.
    Streamed(usize, bool),
}

impl Body {
    fn choose(choose: &mut dyn Choose, largest: usize) -> Self {
        let len = pick(choose, &[0, 1, 100, 1023, 5000, 16_384, 40_000, 100_000, 300_000]);
        let len = len.min(largest);
        match choose.below(5) {
            0 | 1 => Body::Nothing,
            2 => Body::Length(len),
            3 => Body::Streamed(len, false),
            _ => Body::Streamed(len, true),
        }
    }

    pub(super) fn len(self) -> usize {
        match self {
            Body::Nothing => 0,
            Body::Length(len) | Body::Streamed(len, _) => len,
        }
    }

    pub(super) fn has_trailers(self) -> bool {
        matches!(self, Body::Streamed(_, true))
    }

    /// The field that says it in HTTP/1.
    fn line(self) -> String {
        match self {
            Body::Nothing => String::new(),
            Body::Length(len) => format!("Content-Length: {len}\r\n"),
            Body::Streamed(..) => "Transfer-Encoding: chunked\r\n".to_owned(),
        }
    }

    /// All of it in HTTP/1.
    pub(super) fn encode(self, content: &[u8], id: u32, choose: &mut dyn Choose) -> Vec<u8> {
        if !matches!(self, Body::Streamed(..)) {
            return content.to_vec();
        }
        let mut out = Vec::new();
        let mut rest = content;
        while !rest.is_empty() {
            let (piece, after) = rest.split_at(choose.within(1, rest.len()));
            out.extend(format!("{:x}\r\n", piece.len()).into_bytes());
            out.extend_from_slice(piece);
            out.extend_from_slice(b"\r\n");
            rest = after;
        }
        out.extend_from_slice(b"0\r\n");
        if self.has_trailers() {
            out.extend_from_slice(&trailers(id));
        } else {
            out.extend_from_slice(b"\r\n");
        }
        out
    }
}

/// The trailer section of a message.
pub(super) fn trailers(id: u32) -> Vec<u8> {
    format!("x-sum: {}\r\n\r\n", token(id)).into_bytes()
}

/// A request.
#[derive(Clone, Debug)]
pub(super) struct Request {
    pub(super) id: u32,
    pub(super) method: &'static str,
    pub(super) authority: &'static str,
    pub(super) body: Body,
    /// Fields that say nothing to a proxy.
    fields: Vec<(&'static str, &'static str)>,
    grpc: bool,
}

const METHODS: [&str; 6] = ["GET", "POST", "PUT", "HEAD", "DELETE", "PATCH"];

const FIELDS: [(&str, &str); 7] = [
    ("accept", "*/*"),
    ("cookie", "a=b; c=\"d\""),
    ("x-empty", ""),
    ("x-twice", "1"),
    ("x-twice", "2"),
    ("authorization", "secret"),
    ("x-high", "\u{e4} \u{20ac}"),
];

impl Request {
    pub(super) fn choose(
        choose: &mut dyn Choose,
        id: u32,
        authorities: &[&'static str],
        largest: usize,
    ) -> Self {
        let mut fields = Vec::new();
        for _ in 0..choose.below(4) {
            let field = pick(choose, &FIELDS);
            // Two lines of cookies are one on the other side.
            if field.0 != "cookie" || !fields.contains(&field) {
                fields.push(field);
            }
        }
        Request {
            id,
            method: pick(choose, &METHODS),
            authority: pick(choose, authorities),
            body: Body::choose(choose, largest),
            fields,
            grpc: choose.one_in(4),
        }
    }

    /// Its head, in HTTP/1.
    pub(super) fn head(&self) -> Vec<u8> {
        let Request { id, method, authority, body, .. } = self;
        let id = token(*id);
        let mut head = format!(
            "{method} /r/{id} HTTP/1.1\r\nHost: {authority}\r\nX-Id: {id}\r\n{}",
            body.line()
        );
        for (name, value) in &self.fields {
            let value = if value.is_empty() { "" } else { &format!(" {value}") };
            head.extend([*name, ":", value, "\r\n"]);
        }
        if self.grpc {
            head.push_str("content-type: application/grpc\r\n");
        }
        head.push_str("\r\n");
        head.into_bytes()
    }

    /// Is this head, as an app got it, what was sent?
    pub(super) fn check(&self, got: &Head) -> Result<(), String> {
        let line = format!("{} /r/{} HTTP/1.1", self.method, token(self.id));
        if got.line != line.as_bytes() || got.get("host") != Some(self.authority.as_bytes()) {
            return Err(format!("{self:?} has become {got:?}"));
        }
        let mut expected = vec![("x-id", token(self.id))];
        expected.extend(self.fields.iter().map(|&(name, value)| (name, value.to_owned())));
        if self.grpc {
            expected.push(("content-type", "application/grpc".to_owned()));
        }
        same(&expected, got)
    }

    pub(super) fn is_idempotent(&self) -> bool {
        matches!(self.method, "GET" | "PUT" | "HEAD" | "DELETE")
    }
}

/// An answer.
#[derive(Clone, Debug)]
pub(super) struct Answer {
    pub(super) id: u32,
    pub(super) request: u32,
    pub(super) status: u16,
    /// It has one; to HEAD, or with 204 or 304, it does not.
    pub(super) body: Body,
}

impl Answer {
    pub(super) fn choose(choose: &mut dyn Choose, id: u32, to: &Request, largest: usize) -> Self {
        let status = pick(choose, &[200, 200, 200, 204, 304, 404, 503]);
        let body = match Body::choose(choose, largest) {
            _ if matches!(status, 204 | 304) || to.method == "HEAD" => Body::Nothing,
            Body::Nothing => Body::Length(0),
            body => body,
        };
        Answer { id, request: to.id, status, body }
    }

    /// Its head, in HTTP/1.
    pub(super) fn head(&self) -> Vec<u8> {
        let Answer { id, request, status, body } = self;
        let (id, request) = (token(*id), token(*request));
        let line = body.line();
        format!("HTTP/1.1 {status} Well\r\nX-Rid: {id}\r\nX-Id: {request}\r\n{line}x-a: 1\r\nx-a: 2\r\n\r\n")
            .into_bytes()
    }

    pub(super) fn check(&self, got: &Head) -> Result<(), String> {
        if got.status() != self.status {
            return Err(format!("{self:?} has become {got:?}"));
        }
        let pair = |name, value: &str| (name, value.to_owned());
        let ids = [("x-rid", token(self.id)), ("x-id", token(self.request))];
        same(&[&ids[..], &[pair("x-a", "1"), pair("x-a", "2")]].concat(), got)
    }
}

/// Are the fields that go end to end these, in this order?
fn same(expected: &[(&str, String)], got: &Head) -> Result<(), String> {
    let frames = ["host", "content-length", "transfer-encoding", "connection", "l5d-orig-proto"];
    let ours = |(name, _): &&Field| !frames.iter().any(|frame| name.eq_ignore_ascii_case(frame));
    let arrived: Vec<&Field> = got.fields.iter().filter(ours).collect();
    let alike = expected.len() == arrived.len()
        && expected.iter().zip(&arrived).all(|((name, value), (other, arrived))| {
            name.eq_ignore_ascii_case(other) && value.as_bytes() == &arrived[..]
        });
    if alike { Ok(()) } else { Err(format!("{expected:?} have become {arrived:?}")) }
}
