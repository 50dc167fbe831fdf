//! A complete response head, checked.

use memchr::memchr;

use super::fields;
use super::plain::{self, StatusLine};
use super::scan::{HeadKind, HeadScanner};
use crate::error::Reason;
use crate::http::facts::Facts;
use crate::http::{Fields, Framing, Response, ResponseHead, Scratch, Version};
use crate::limits::Limits;

/// What the response answers: its framing depends on it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ResponseTo {
    /// A HEAD request.
    pub is_head: bool,
    /// A CONNECT request.
    pub is_connect: bool,
}

/// Checks a response head, which is what [`HeadScanner::scan`](super::HeadScanner::scan) found, no
/// byte more or less.
///
/// # Errors
///
/// [`Reason::BadResponse`], whatever is wrong.
pub fn parse_response<'a>(
    head: &'a [u8],
    scratch: &'a mut Scratch,
    limits: &Limits,
    to: ResponseTo,
) -> Result<Response<'a>, Reason> {
    let mut headers = fields::headers();
    let mut parsed = httparse::Response::new(&mut []);
    let result = httparse::ParserConfig::default().parse_response_with_uninit_headers(
        &mut parsed,
        head,
        &mut headers,
    );
    if result == Ok(httparse::Status::Complete(head.len()))
        && let Some(line) = status_line(&parsed, head)
        && let Ok(facts) = fields::gather(head, parsed.headers, scratch, limits)
    {
        let fields = Fields { buf: head, spans: &scratch.spans };
        return understand(&line, fields, &facts, to);
    }
    Err(Reason::BadResponse)
}

/// Finds and checks the response head at the front of `buf`: [`HeadScanner::scan`] and
/// [`parse_response`] in one, and half the work when a whole head is there at the first look.
/// Returns its length, too; `None` if it is not complete.
///
/// # Errors
///
/// [`Reason::BadResponse`], whatever is wrong.
pub fn receive_response<'a>(
    scanner: &mut HeadScanner,
    buf: &'a [u8],
    scratch: &'a mut Scratch,
    limits: &Limits,
    to: ResponseTo,
) -> Result<Option<(usize, Response<'a>)>, Reason> {
    let mut facts = Facts::default();
    // Whatever is not plain is for the scanner to judge, byte by byte.
    if scanner.is_new()
        && let head = plain::within(buf, limits)
        && let Some((line, end)) = plain::status_line(head)
        && let Some(len) = plain::fields(head, end, scratch, &mut facts, limits)
    {
        let fields = Fields { buf: &buf[..len], spans: &scratch.spans };
        return Ok(Some((len, understand(&line, fields, &facts, to)?)));
    }
    let Some(len) = scanner.scan(buf, HeadKind::Response, limits)? else { return Ok(None) };
    let response = parse_response(&buf[..len], scratch, limits, to)?;
    Ok(Some((len, response)))
}

/// The status line as httparse has it.
fn status_line<'a>(parsed: &httparse::Response<'_, 'a>, head: &'a [u8]) -> Option<StatusLine<'a>> {
    let version = if parsed.version? == 0 { Version::Http10 } else { Version::Http11 };
    Some(StatusLine { version, status: parsed.code?, reason: reason(head) })
}

/// What a head means whose grammar is right.
#[inline]
fn understand<'a>(
    line: &StatusLine<'a>,
    fields: Fields<'a>,
    facts: &Facts<'a>,
    to: ResponseTo,
) -> Result<Response<'a>, Reason> {
    let StatusLine { version, status, reason } = *line;
    if status < 100 {
        return Err(Reason::BadResponse);
    }
    let connected = to.is_connect && matches!(status, 200..=299);
    // RFC 9112 §6.3: what a 2xx to CONNECT says about a body is ignored.
    let delimited = if connected { None } else { delimited(facts, version)? };
    let bodiless = connected || matches!(status, 100..=199 | 204);
    let (framing, announced) = match delimited {
        _ if bodiless => (Framing::None, Framing::None),
        _ if to.is_head || status == 304 => (Framing::None, delimited.unwrap_or(Framing::None)),
        Some(framing) => (framing, Framing::None),
        None => (Framing::UntilClose, Framing::None),
    };
    let tunnel = connected || status == 101;
    let persistent =
        !facts.options.close && (version == Version::Http11 || facts.options.keep_alive);
    let ambiguous = status == 204 && !matches!(delimited, None | Some(Framing::Length(0)));
    Ok(Response {
        head: ResponseHead { status, reason, version, fields },
        framing,
        announced,
        keep_alive: persistent && !tunnel && !ambiguous && framing != Framing::UntilClose,
        upgrade: facts.options.upgrade && facts.upgrade,
        grpc: facts.grpc,
        grpc_status: facts.grpc_status,
        origin: None,
    })
}

/// What the fields say about the body; `None` if nothing.
fn delimited(facts: &Facts<'_>, version: Version) -> Result<Option<Framing>, Reason> {
    if !facts.codings.present {
        return Ok(facts.length.map(Framing::Length));
    }
    // RFC 9112 §6.1 and §6.3: error handling ought to be expected; ours is to refuse.
    if facts.length.is_some() || version == Version::Http10 {
        return Err(Reason::BadResponse);
    }
    facts.codings.check().map_err(|_| Reason::BadResponse)?;
    Ok(Some(Framing::Chunked))
}

/// httparse drops a phrase with bytes above 0x7F, so it is taken from the head itself, whose first
/// line is known to be `HTTP/1.1 200[ reason]`.
fn reason(head: &[u8]) -> &[u8] {
    let rest = &head[b"HTTP/1.1 200".len()..];
    match rest {
        [b' ', rest @ ..] => &rest[..memchr(b'\r', rest).unwrap_or(0)],
        _ => &[],
    }
}
