//! From a message to a header block.

use bytes::BytesMut;

use crate::error::Reason;
use crate::hpack::Encoder;
use crate::http::grammar::{Decimal, trim};
use crate::http::{
    Answer, Fate, Fields, Framing, Known, Request, Response, TargetForm, Version, grpc, hop,
};
use crate::http1::{field_line, lines};

/// Indices of the static table (RFC 7541 Appendix A).
mod index {
    pub(super) const METHOD_GET: u8 = 2;
    pub(super) const METHOD_POST: u8 = 3;
    pub(super) const PATH_ROOT: u8 = 4;
    pub(super) const SCHEME_HTTP: u8 = 6;
}

/// Writes the block of a request. `host` is what `:authority` says; empty: nothing.
pub(crate) fn request(hpack: &mut Encoder, out: &mut BytesMut, request: &Request<'_>, host: &[u8]) {
    hpack.begin(out);
    match request.head.method {
        _ if request.upgrade => {
            // RFC 8441 §4.
            hpack.field(out, b":method", b"CONNECT", false);
            hpack.field(out, b":protocol", request.protocol().unwrap_or_default(), false);
        }
        b"GET" => hpack.indexed_static(out, index::METHOD_GET),
        b"POST" => hpack.indexed_static(out, index::METHOD_POST),
        method => hpack.field(out, b":method", method, false),
    }
    if request.form == TargetForm::Authority {
        // RFC 9113 §8.5: no :scheme, no :path.
        hpack.field(out, b":authority", request.head.target, false);
    } else {
        hpack.indexed_static(out, index::SCHEME_HTTP);
        match request.path {
            b"/" => hpack.indexed_static(out, index::PATH_ROOT),
            [b'?', ..] => {
                // An absolute target without a path (RFC 9110 §4.2.3).
                let mut path = BytesMut::with_capacity(request.path.len() + 1);
                path.extend_from_slice(b"/");
                path.extend_from_slice(request.path);
                hpack.field(out, b":path", &path, false);
            }
            path => hpack.field(out, b":path", path, false),
        }
        if !host.is_empty() {
            hpack.field(out, b":authority", host, false);
        }
    }
    let expect = request.expect_continue;
    fields(hpack, out, request.head.fields, request.framing, |known, _| match known {
        Known::Host => false,
        // A server would wait for an HTTP/1.0 client, which waits for nothing.
        Known::Expect => expect,
        // A WebSocket's key with them, which frames make needless (RFC 8441 §5): HAProxy passes on
        // what it proves, and a hop that goes back to HTTP/1 needs one.
        _ => true,
    });
    if request.te_trailers {
        hpack.field(out, b"te", b"trailers", false);
    }
    if let Some(client) = request.client_id {
        hpack.field(out, b"l5d-client-id", client, false);
    }
    if let Some(version) = request.origin {
        let absolute = request.form == TargetForm::Absolute;
        hpack.field(out, MARK, mark(version, absolute), false);
    }
}

/// What mesh proxies tell each other of a message that was HTTP/1.
const MARK: &[u8] = b"l5d-orig-proto";

fn mark(version: Version, absolute: bool) -> &'static [u8] {
    match (version, absolute) {
        (Version::Http10, false) => b"HTTP/1.0",
        (Version::Http11, false) => b"HTTP/1.1",
        (Version::Http10, true) => b"HTTP/1.0; absolute-form",
        (Version::Http11, true) => b"HTTP/1.1; absolute-form",
    }
}

/// Writes the block of a response.
pub(crate) fn response(hpack: &mut Encoder, out: &mut BytesMut, response: &Response<'_>) {
    hpack.begin(out);
    hpack.status(out, response.head.status);
    let framing = match response.framing {
        Framing::None => response.announced,
        framing => framing,
    };
    // A 101 of HTTP/1 to a key of our own: what it proves is not the client's.
    let keyless = |name: &[u8]| !name.eq_ignore_ascii_case(b"sec-websocket-accept");
    fields(hpack, out, response.head.fields, framing, |_, name| !response.upgrade || keyless(name));
    if let Some(version) = response.origin {
        hpack.field(out, MARK, mark(version, false), false);
    }
}

/// Writes the block of a response of ours. It has no body.
pub(crate) fn answer(hpack: &mut Encoder, out: &mut BytesMut, answer: &Answer<'_>) {
    hpack.begin(out);
    if let Some(status) = answer.grpc {
        hpack.status(out, 200);
        hpack.field(out, b"content-type", b"application/grpc", false);
        let code = Decimal::new(u64::from(status));
        hpack.field(out, b"grpc-status", code.as_bytes(), false);
        if !answer.message.is_empty() {
            let mut message = BytesMut::new();
            grpc::put_message(&mut message, answer.message);
            hpack.field(out, b"grpc-message", &message, false);
        }
    } else {
        hpack.status(out, answer.status);
        hpack.field(out, b"content-length", b"0", false);
    }
    if !answer.message.is_empty() {
        hpack.field(out, b"l5d-proxy-error", answer.message.as_bytes(), false);
    }
    if let Some((name, value)) = answer.extra {
        hpack.field(out, name.as_bytes(), value.as_bytes(), false);
    }
}

/// Writes the block of trailers, which are a section that [`check_trailers`] let pass.
pub(crate) fn trailers(hpack: &mut Encoder, out: &mut BytesMut, section: &[u8]) {
    hpack.begin(out);
    // Every line is known to be a field.
    for line in lines(section).take_while(|line| !line.is_empty()) {
        let colon = line.iter().position(|&byte| byte == b':').unwrap_or(line.len());
        let (name, value) = line.split_at(colon);
        if !hop::is_forbidden_in_trailers(name) {
            hpack.field(out, name, trim(value.get(1..).unwrap_or_default()), false);
        }
    }
}

/// Are these trailers, as a section of HTTP/1? Returns how many there are, and how many of them may not
/// go on.
///
/// # Errors
///
/// [`Reason::Trailers`] if a line is not a field.
pub(crate) fn check_trailers(section: &[u8]) -> Result<(usize, usize), Reason> {
    let (mut all, mut dropped) = (0, 0);
    for line in lines(section).take_while(|line| !line.is_empty()) {
        let (name, _) = field_line(line).map_err(|_| Reason::Trailers)?;
        all += 1;
        dropped += usize::from(hop::is_forbidden_in_trailers(name));
    }
    Ok((all, dropped))
}

/// Writes the fields that go on and that `keep` lets pass; Content-Length as `framing` says it.
fn fields(
    hpack: &mut Encoder,
    out: &mut BytesMut,
    fields: Fields<'_>,
    framing: Framing,
    keep: impl Fn(Known, &[u8]) -> bool,
) {
    let mut length = match framing {
        Framing::Length(length) => Some(Decimal::new(length)),
        _ => None,
    };
    for span in fields.spans {
        let (name, value) = (span.name(fields.buf), span.value(fields.buf));
        // The mark is ours to give, whatever an app believes.
        let marks = name.len() == MARK.len() && name.eq_ignore_ascii_case(MARK);
        if span.fate == Fate::Dropped || marks || !keep(span.known, name) {
            continue;
        }
        if span.known == Known::ContentLength {
            // One line, one number, however it came.
            if let Some(length) = length.take() {
                hpack.field(out, b"content-length", length.as_bytes(), false);
            }
        } else {
            hpack.field(out, name, value, span.fate == Fate::Sensitive);
        }
    }
}
