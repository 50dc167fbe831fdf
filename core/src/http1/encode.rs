//! Writes heads straight into the output of the other side.
//!
//! Fields that go on unchanged are copied in runs, as they came: usually most of a head is one or
//! two copies.

use bytes::BytesMut;

use crate::error::Reason;
use crate::http::facts::is_upgrade;
use crate::http::grammar::{Decimal, list};
use crate::http::{
    Answer, Fate, Fields, Framing, Known, Request, Response, Span, TargetForm, Version, grpc,
    status,
};

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
    let buf = head.fields.buf;
    out.reserve(buf.len() + rewrite.host.len() + 64);
    let shortened = request.form == TargetForm::Absolute && !rewrite.absolute;
    let has_host = head.fields.get(Known::Host).is_some();
    let mut start = None;
    if !shortened && has_host && head.version == Version::Http11 {
        // The request line goes on as it came, without empty lines that came before it.
        start = buf.iter().position(|&byte| byte > b' ');
    } else {
        out.extend_from_slice(head.method);
        out.extend_from_slice(b" ");
        if !shortened {
            out.extend_from_slice(head.target);
        } else {
            if request.path.first() == Some(&b'?') {
                out.extend_from_slice(b"/");
            }
            out.extend_from_slice(request.path);
        }
        out.extend_from_slice(b" HTTP/1.1\r\n");
        if !has_host {
            put_field(out, b"Host", rewrite.host);
        }
    }
    let replaces_host = matches!(request.form, TargetForm::Absolute | TargetForm::Authority);
    let mut te_trailers = request.te_trailers;
    let mut copy = Copy::new(head.fields, start);
    copy.fields(out, request.framing, |known| match known {
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
    copy.finish(
        out,
        match (request.te_trailers, rewrite.upgrade) {
            (false, false) => b"",
            (true, false) => b"Connection: TE\r\n",
            (false, true) => b"Connection: upgrade\r\n",
            (true, true) => b"Connection: upgrade, TE\r\n",
        },
    );
}

/// Adds whom the app is told that the request comes from to the head that was just written.
pub(crate) fn encode_client_id(out: &mut BytesMut, identity: &[u8]) {
    out.truncate(out.len() - 2);
    put_field(out, b"l5d-client-id", identity);
    out.extend_from_slice(b"\r\n");
}

/// Adds the key that a WebSocket request has to have and that HTTP/2 does without (RFC 8441 §5) to
/// the head that was just written.
pub(crate) fn encode_websocket_key(out: &mut BytesMut, key: &[u8]) {
    out.truncate(out.len() - 2);
    put_field(out, b"Sec-WebSocket-Key", key);
    out.extend_from_slice(b"\r\n");
}

/// Writes the 101 of a tunnel that came to be over HTTP/2: `response` is its 2xx, `protocol` what was
/// asked for, `accept` what a WebSocket client wants to see, whatever the endpoint says of it.
pub(crate) fn encode_switch(
    out: &mut BytesMut,
    response: &Response<'_>,
    protocol: &[u8],
    accept: Option<&[u8]>,
) {
    out.extend_from_slice(b"HTTP/1.1 101 Switching Protocols\r\n");
    let mut fields = response.head.fields;
    let mut spans = fields.spans.to_vec();
    if accept.is_some() {
        let theirs =
            |span: &&mut Span| span.name(fields.buf).eq_ignore_ascii_case(b"sec-websocket-accept");
        spans.iter_mut().filter(theirs).for_each(|span| span.fate = Fate::Dropped);
        fields.spans = &spans;
    }
    let mut copy = Copy::new(fields, None);
    copy.fields(out, Framing::None, |_| Action::Default);
    copy.finish(out, b"Connection: upgrade\r\n");
    out.truncate(out.len() - 2);
    put_field(out, b"Upgrade", protocol);
    if let Some(accept) = accept {
        put_field(out, b"Sec-WebSocket-Accept", accept);
    }
    out.extend_from_slice(b"\r\n");
}

/// Writes the head of a response as HTTP/1.1.
pub fn encode_response(out: &mut BytesMut, response: &Response<'_>, rewrite: &ResponseRewrite) {
    let head = &response.head;
    out.reserve(head.fields.buf.len() + 64);
    let mut start = Some(0);
    // Without a reason there may be no space before it, and there has to be (RFC 9112 §4).
    if head.version == Version::Http10 || head.reason.is_empty() {
        start = None;
        out.extend_from_slice(b"HTTP/1.1 ");
        out.extend_from_slice(Decimal::new(u64::from(head.status)).as_bytes());
        out.extend_from_slice(b" ");
        out.extend_from_slice(head.reason);
        out.extend_from_slice(b"\r\n");
    }
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
    let mut copy = Copy::new(head.fields, start);
    copy.fields(out, framing, |known| match known {
        Known::Upgrade if upgrade => Action::Upgrade,
        _ => Action::Default,
    });
    copy.finish(
        out,
        match rewrite.connection {
            ConnectionOption::Nothing => b"",
            ConnectionOption::Close => b"Connection: close\r\n",
            ConnectionOption::KeepAlive => b"Connection: keep-alive\r\n",
            ConnectionOption::Upgrade => b"Connection: upgrade\r\n",
        },
    );
}

/// Writes a whole response of ours: no body, and `reason` in `l5d-proxy-error`.
pub fn encode_error(out: &mut BytesMut, reason: Reason, answer: ErrorAnswer) {
    let connection = match answer {
        ErrorAnswer { close: true, .. } => ConnectionOption::Close,
        ErrorAnswer { keep_alive_10: true, .. } => ConnectionOption::KeepAlive,
        _ => ConnectionOption::Nothing,
    };
    encode_answer(out, &Answer::of(reason, answer.grpc), connection);
}

/// Writes a whole response of ours, which has no body.
pub fn encode_answer(out: &mut BytesMut, answer: &Answer<'_>, connection: ConnectionOption) {
    out.reserve(256);
    if let Some(status) = answer.grpc {
        out.extend_from_slice(b"HTTP/1.1 200 OK\r\ncontent-type: application/grpc\r\n");
        put_field(out, b"grpc-status", Decimal::new(u64::from(status)).as_bytes());
        if !answer.message.is_empty() {
            out.extend_from_slice(b"grpc-message: ");
            grpc::put_message(out, answer.message);
            out.extend_from_slice(b"\r\n");
        }
    } else {
        out.extend_from_slice(b"HTTP/1.1 ");
        out.extend_from_slice(Decimal::new(u64::from(answer.status)).as_bytes());
        out.extend_from_slice(b" ");
        out.extend_from_slice(status::phrase(answer.status).as_bytes());
        out.extend_from_slice(b"\r\n");
    }
    if !answer.message.is_empty() {
        put_field(out, b"l5d-proxy-error", answer.message.as_bytes());
    }
    if let Some((name, value)) = answer.extra {
        put_field(out, name.as_bytes(), value.as_bytes());
    }
    match connection {
        ConnectionOption::Close => out.extend_from_slice(b"connection: close\r\n"),
        ConnectionOption::KeepAlive => out.extend_from_slice(b"connection: keep-alive\r\n"),
        ConnectionOption::Nothing | ConnectionOption::Upgrade => {}
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

/// Copies a head in runs: what goes on as it came is left until something else comes.
struct Copy<'a> {
    fields: Fields<'a>,
    /// Where what was not written yet begins.
    from: usize,
}

impl<'a> Copy<'a> {
    /// Everything from `start` on goes on as it came; `None`: from the first field on.
    fn new(fields: Fields<'a>, start: Option<usize>) -> Self {
        let mut copy = Copy { fields, from: 0 };
        copy.from = start.unwrap_or_else(|| copy.line_start(0));
        copy
    }

    /// Where the line of a field begins; past the last one, the empty line that ends the head.
    fn line_start(&self, index: usize) -> usize {
        match self.fields.spans.get(index) {
            Some(span) => span.name as usize,
            None => self.fields.buf.len() - 2,
        }
    }

    /// Writes the fields, each as `choose` says, and `framing` in the place of the first field that
    /// frames, or last.
    fn fields<'v>(
        &mut self,
        out: &mut BytesMut,
        framing: Framing,
        mut choose: impl FnMut(Known) -> Action<'v>,
    ) {
        let buf = self.fields.buf;
        let mut framing = Some(framing);
        for (index, &span) in self.fields.spans.iter().enumerate() {
            if span.fate == Fate::Verbatim && span.known.is_payload() {
                continue;
            }
            let action = choose(span.known);
            let frames = matches!(span.known, Known::ContentLength | Known::TransferEncoding);
            if frames && says_plainly(span, framing) {
                framing = None;
                continue;
            }
            let default = matches!(action, Action::Default);
            if default && !frames && span.fate == Fate::Verbatim {
                continue;
            }
            self.flush(out, span.name as usize);
            self.from = self.line_start(index + 1);
            let name = span.name(buf);
            match action {
                Action::Default if frames => put_framing(out, framing.take(), span.known, name),
                Action::Default if span.fate == Fate::Dropped => {}
                Action::Default => put_field(out, name, span.value(buf)),
                Action::Drop => {}
                Action::Value(value) => put_field(out, name, value),
                Action::Upgrade => put_upgrade(out, name, span.value(buf)),
            }
        }
        if let Some(Framing::Length(_) | Framing::Chunked) = framing {
            self.flush(out, buf.len() - 2);
            self.from = buf.len() - 2;
            put_framing(out, framing, Known::Other, b"");
        }
    }

    fn flush(&self, out: &mut BytesMut, to: usize) {
        if self.from < to {
            out.extend_from_slice(&self.fields.buf[self.from..to]);
        }
    }

    /// Writes `last`, which is empty or a line, and the empty line.
    fn finish(self, out: &mut BytesMut, last: &[u8]) {
        let end = self.fields.buf.len();
        if last.is_empty() {
            self.flush(out, end);
        } else {
            self.flush(out, end - 2);
            out.extend_from_slice(last);
            out.extend_from_slice(b"\r\n");
        }
    }
}

/// Does this line, known to be valid, say just `framing`, with no leading zeros and no list?
fn says_plainly(span: Span, framing: Option<Framing>) -> bool {
    match (span.known, framing) {
        (Known::ContentLength, Some(Framing::Length(length))) => {
            span.fate == Fate::Verbatim
                && span.value_len == length.checked_ilog10().unwrap_or(0) + 1
        }
        _ => false,
    }
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
