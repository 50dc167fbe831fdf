//! Writes heads straight into the output of the other side.
//!
//! Fields that go on unchanged are copied in runs, as they came: usually most of a head is one or
//! two copies.

use bytes::BytesMut;

use super::Framing;
use super::facts::is_upgrade;
use super::request::{Request, TargetForm};
use super::response::Response;
use crate::error::Reason;
use crate::http::grammar::{Decimal, list};
use crate::http::{Fields, Known, Span, Version};

/// What changes in a request on its way.
#[derive(Clone, Copy, Debug)]
pub struct RequestRewrite<'a> {
    /// The value of Host when the request has none (it is then the first field) or when its target
    /// names the authority (RFC 9112 §3.2.2: Host is replaced in its place). Else Host stays.
    pub host: &'a [u8],
    /// Keep an absolute target absolute; else its path is sent.
    pub absolute: bool,
    /// Pass its Upgrade on.
    pub upgrade: bool,
}

/// What changes in a response on its way.
#[derive(Clone, Copy, Debug)]
pub struct ResponseRewrite {
    /// What the client speaks.
    pub client: Version,
    /// What Connection tells it.
    pub connection: ConnectionOption,
    /// How the body is sent on. [`Framing::Chunked`] only to an HTTP/1.1 client.
    /// [`Framing::None`] sends what [`Response::announced`] says about a body that is not there.
    pub framing: Framing,
}

/// What the Connection field of a response says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ConnectionOption {
    /// No such field.
    Nothing,
    /// `close`: this response is the last.
    Close,
    /// `keep-alive`: to an HTTP/1.0 client that asked for it.
    KeepAlive,
    /// `upgrade`, and the Upgrade field goes on: a 101.
    Upgrade,
}

/// How to answer a request with an error of ours.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ErrorAnswer {
    /// Say that the connection closes.
    pub close: bool,
    /// Say that it stays open: to an HTTP/1.0 client that asked for it.
    pub keep_alive_10: bool,
    /// Answer as a gRPC server does: 200 and a `grpc-status`.
    pub grpc: bool,
}

/// Writes the head of a request as HTTP/1.1.
pub fn encode_request(out: &mut BytesMut, request: &Request<'_>, rewrite: &RequestRewrite<'_>) {
    let head = &request.head;
    out.reserve(head.fields.buf.len() + rewrite.host.len() + 64);
    out.extend_from_slice(head.method);
    out.extend_from_slice(b" ");
    if request.form == TargetForm::Absolute && !rewrite.absolute {
        if request.path.first() == Some(&b'?') {
            out.extend_from_slice(b"/");
        }
        out.extend_from_slice(request.path);
    } else {
        out.extend_from_slice(head.target);
    }
    out.extend_from_slice(b" HTTP/1.1\r\n");

    if request.head.fields.get(Known::Host).is_none() {
        put_field(out, b"Host", rewrite.host);
    }
    let replaces_host = matches!(request.form, TargetForm::Absolute | TargetForm::Authority);
    let mut te_trailers = request.te_trailers;
    copy_fields(out, head.fields, request.framing, |known| match known {
        Known::Host if replaces_host => Action::Value(rewrite.host),
        // A server would wait for an HTTP/1.0 client, which waits for nothing.
        Known::Expect if !request.expect_continue => Action::Drop,
        Known::Te if te_trailers => {
            te_trailers = false;
            Action::Value(b"trailers")
        }
        Known::Upgrade if rewrite.upgrade => Action::Upgrade,
        _ => Action::Default,
    });
    match (request.te_trailers, rewrite.upgrade) {
        (false, false) => {}
        (true, false) => out.extend_from_slice(b"Connection: TE\r\n"),
        (false, true) => out.extend_from_slice(b"Connection: upgrade\r\n"),
        (true, true) => out.extend_from_slice(b"Connection: upgrade, TE\r\n"),
    }
    out.extend_from_slice(b"\r\n");
}

/// Writes the head of a response as HTTP/1.1.
pub fn encode_response(out: &mut BytesMut, response: &Response<'_>, rewrite: &ResponseRewrite) {
    let head = &response.head;
    out.reserve(head.fields.buf.len() + 64);
    out.extend_from_slice(b"HTTP/1.1 ");
    out.extend_from_slice(Decimal::new(u64::from(head.status)).as_bytes());
    out.extend_from_slice(b" ");
    out.extend_from_slice(head.reason);
    out.extend_from_slice(b"\r\n");
    let framing = match rewrite.framing {
        Framing::None => response.announced,
        framing => framing,
    };
    let framing = match framing {
        // Such a client knows no chunks; this is what it would be told of the body.
        Framing::Chunked if rewrite.client == Version::Http10 => Framing::UntilClose,
        framing => framing,
    };
    let upgrade = rewrite.connection == ConnectionOption::Upgrade;
    copy_fields(out, head.fields, framing, |known| match known {
        Known::Upgrade if upgrade => Action::Upgrade,
        _ => Action::Default,
    });
    out.extend_from_slice(match rewrite.connection {
        ConnectionOption::Nothing => b"\r\n",
        ConnectionOption::Close => b"Connection: close\r\n\r\n",
        ConnectionOption::KeepAlive => b"Connection: keep-alive\r\n\r\n",
        ConnectionOption::Upgrade => b"Connection: upgrade\r\n\r\n",
    });
}

/// Writes a whole response of ours: no body, and `reason` in `l5d-proxy-error`.
pub fn encode_error(out: &mut BytesMut, reason: Reason, answer: ErrorAnswer) {
    out.reserve(256);
    if answer.grpc {
        out.extend_from_slice(b"HTTP/1.1 200 OK\r\ncontent-type: application/grpc\r\n");
        let status = Decimal::new(u64::from(grpc_code(reason)));
        put_field(out, b"grpc-status", status.as_bytes());
        out.extend_from_slice(b"grpc-message: ");
        put_percent_encoded(out, reason.message().as_bytes());
        out.extend_from_slice(b"\r\n");
    } else {
        out.extend_from_slice(b"HTTP/1.1 ");
        out.extend_from_slice(Decimal::new(u64::from(reason.status())).as_bytes());
        out.extend_from_slice(b" ");
        out.extend_from_slice(phrase(reason.status()).as_bytes());
        out.extend_from_slice(b"\r\n");
    }
    put_field(out, b"l5d-proxy-error", reason.message().as_bytes());
    if answer.close {
        out.extend_from_slice(b"connection: close\r\n");
    } else if answer.keep_alive_10 {
        out.extend_from_slice(b"connection: keep-alive\r\n");
    }
    out.extend_from_slice(b"content-length: 0\r\n\r\n");
}

/// Writes what precedes `len` bytes (at least 1) of chunk data (RFC 9112 §7.1).
pub fn encode_chunk_start(out: &mut BytesMut, len: usize) {
    debug_assert!(len > 0, "an empty chunk would be the last one");
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let mut line = [0; 18];
    let mut start = 16;
    let mut left = len;
    line[16..].copy_from_slice(b"\r\n");
    loop {
        start -= 1;
        line[start] = DIGITS[left & 0xf];
        left >>= 4;
        if left == 0 {
            break;
        }
    }
    out.extend_from_slice(&line[start..]);
}

/// Writes what follows chunk data.
pub fn encode_chunk_end(out: &mut BytesMut) {
    out.extend_from_slice(b"\r\n");
}

/// What becomes of a field.
enum Action<'a> {
    /// Dropped if it is for one hop only, rewritten if it frames, else kept.
    Default,
    Drop,
    Value(&'a [u8]),
    /// Kept without `h2c`.
    Upgrade,
}

/// Writes the fields, each as `choose` says, and `framing` in the place of the first field that
/// frames, or last.
fn copy_fields<'a>(
    out: &mut BytesMut,
    fields: Fields<'_>,
    framing: Framing,
    mut choose: impl FnMut(Known) -> Action<'a>,
) {
    let buf = fields.buf;
    let mut framing = Some(framing);
    let mut run = 0..0;
    for (index, span) in fields.spans.iter().enumerate() {
        let line_start = span.name as usize;
        let line_end = match fields.spans.get(index + 1) {
            Some(next) => next.name as usize,
            // The head ends in an empty line.
            None => buf.len() - 2,
        };
        let action = match span.known {
            Known::Other | Known::ContentType | Known::GrpcStatus => Action::Default,
            known => choose(known),
        };
        let frames = matches!(span.known, Known::ContentLength | Known::TransferEncoding);
        let kept = matches!(action, Action::Default) && !span.hop && !frames;
        if kept && is_canonical(*span, buf, line_end) {
            if run.end != line_start {
                out.extend_from_slice(&buf[run]);
                run = line_start..line_start;
            }
            run.end = line_end;
            continue;
        }
        out.extend_from_slice(&buf[core::mem::replace(&mut run, 0..0)]);
        let name = span.name(buf);
        match action {
            Action::Default if frames => put_framing(out, framing.take(), span.known, name),
            Action::Default if span.hop => {}
            Action::Default => put_field(out, name, span.value(buf)),
            Action::Drop => {}
            Action::Value(value) => put_field(out, name, value),
            Action::Upgrade => put_upgrade(out, name, span.value(buf)),
        }
    }
    out.extend_from_slice(&buf[run]);
    put_framing(out, framing, Known::Other, b"");
}

/// Is this line `name: value CRLF`, with one space and nothing else around the value? Any other
/// whitespace is legal but not repeated: some reader might take it for something else.
fn is_canonical(span: Span, buf: &[u8], line_end: usize) -> bool {
    let value = span.value as usize;
    let name_end = span.name as usize + usize::from(span.name_len);
    value == name_end + 2
        && buf[value - 1] == b' '
        && line_end == value + span.value_len as usize + 2
}

fn put_field(out: &mut BytesMut, name: &[u8], value: &[u8]) {
    out.extend_from_slice(name);
    out.extend_from_slice(b": ");
    out.extend_from_slice(value);
    out.extend_from_slice(b"\r\n");
}

/// Writes the field that says `framing`, spelled as in `name` if that is the same field.
fn put_framing(out: &mut BytesMut, framing: Option<Framing>, known: Known, name: &[u8]) {
    match framing {
        Some(Framing::Length(length)) => {
            let same = known == Known::ContentLength;
            let name = if same { name } else { b"Content-Length" };
            put_field(out, name, Decimal::new(length).as_bytes());
        }
        Some(Framing::Chunked) => {
            let same = known == Known::TransferEncoding;
            let name = if same { name } else { b"Transfer-Encoding" };
            put_field(out, name, b"chunked");
        }
        Some(Framing::None | Framing::UntilClose) | None => {}
    }
}

/// Writes an Upgrade field with the protocols that are passed on, if any.
fn put_upgrade(out: &mut BytesMut, name: &[u8], value: &[u8]) {
    let mut protocols = list(value).filter(|protocol| is_upgrade(protocol));
    let Some(first) = protocols.next() else { return };
    out.extend_from_slice(name);
    out.extend_from_slice(b": ");
    out.extend_from_slice(first);
    for protocol in protocols {
        out.extend_from_slice(b", ");
        out.extend_from_slice(protocol);
    }
    out.extend_from_slice(b"\r\n");
}

/// `grpc-message` is percent-encoded: everything but visible ASCII, space and no `%`.
fn put_percent_encoded(out: &mut BytesMut, message: &[u8]) {
    const DIGITS: &[u8; 16] = b"0123456789ABCDEF";
    for &byte in message {
        if (0x20..0x7f).contains(&byte) && byte != b'%' {
            out.extend_from_slice(&[byte]);
        } else {
            let (high, low) = (usize::from(byte >> 4), usize::from(byte & 0xf));
            out.extend_from_slice(&[b'%', DIGITS[high], DIGITS[low]]);
        }
    }
}

/// gRPC's status for an error of ours, as linkerd2-proxy maps them.
fn grpc_code(reason: Reason) -> u8 {
    match reason.status() {
        403 => 7,
        404 => 5,
        408 | 504 => 4,
        502 | 503 => 14,
        508 => 10,
        _ => 13,
    }
}

/// The reason phrase of a status of [`Reason`].
fn phrase(status: u16) -> &'static str {
    match status {
        400 => "Bad Request",
        403 => "Forbidden",
        404 => "Not Found",
        408 => "Request Timeout",
        414 => "URI Too Long",
        417 => "Expectation Failed",
        431 => "Request Header Fields Too Large",
        499 => "Client Closed Request",
        501 => "Not Implemented",
        502 => "Bad Gateway",
        503 => "Service Unavailable",
        504 => "Gateway Timeout",
        505 => "HTTP Version Not Supported",
        508 => "Loop Detected",
        _ => "Error",
    }
}
