//! A complete request head, checked.

use memchr::memchr;

use super::classify;
use super::fields;
use super::plain::{self, RequestLine};
use super::scan::{HeadKind, HeadScanner};
use crate::error::Reason;
use crate::http::facts::{Expect, Facts};
use crate::http::{
    Fields, Framing, Request, RequestHead, Scratch, TargetForm, Version, authority, method,
};
use crate::limits::Limits;

/// Checks a request head, which is what [`HeadScanner::scan`](super::HeadScanner::scan) found, no
/// byte more or less.
///
/// Where the RFCs leave a choice: an absolute target must have the scheme `http` (we do not speak
/// TLS to whom it names); a target may hold any visible ASCII but `#`, and UTF-8; CONNECT with
/// a body is refused (RFC 9110 §9.3.6 gives it no meaning, so readers differ); identical
/// Content-Lengths count as one; an unknown coding is 501 even when `chunked` does not follow.
///
/// # Errors
///
/// Any reason of the first block of [`Reason`], or of a limit on heads.
pub fn parse_request<'a>(
    head: &'a [u8],
    scratch: &'a mut Scratch,
    limits: &Limits,
) -> Result<Request<'a>, Reason> {
    let mut headers = fields::headers();
    let mut parsed = httparse::Request::new(&mut []);
    match parsed.parse_with_uninit_headers(head, &mut headers) {
        Ok(httparse::Status::Complete(len)) if len == head.len() => {
            let facts = fields::gather(head, parsed.headers, scratch, limits)?;
            let fields = Fields { buf: head, spans: &scratch.spans };
            understand(&request_line(&parsed)?, fields, &facts, limits)
        }
        Err(httparse::Error::TooManyHeaders) => Err(Reason::TooManyFields),
        _ => Err(classify::request(head)),
    }
}

/// Finds and checks the request head at the front of `buf`: [`HeadScanner::scan`] and
/// [`parse_request`] in one, and half the work when a whole head is there at the first look.
/// Returns its length, too; `None` if it is not complete.
///
/// # Errors
///
/// As those two, and the same one for the same bytes however they are cut.
pub fn receive_request<'a>(
    scanner: &mut HeadScanner,
    buf: &'a [u8],
    scratch: &'a mut Scratch,
    limits: &Limits,
) -> Result<Option<(usize, Request<'a>)>, Reason> {
    let mut facts = Facts::default();
    // Whatever is not plain is for the scanner to judge, byte by byte.
    if scanner.is_new()
        && let head = plain::within(buf, limits)
        && let Some((line, end)) = plain::request_line(head)
        && let Some(len) = plain::fields(head, end, scratch, &mut facts, limits)
    {
        let fields = Fields { buf: &buf[..len], spans: &scratch.spans };
        return Ok(Some((len, understand(&line, fields, &facts, limits)?)));
    }
    let Some(len) = scanner.scan(buf, HeadKind::Request, limits)? else { return Ok(None) };
    let request = parse_request(&buf[..len], scratch, limits)?;
    Ok(Some((len, request)))
}

/// The request line as httparse has it.
fn request_line<'a>(parsed: &httparse::Request<'_, 'a>) -> Result<RequestLine<'a>, Reason> {
    let (Some(method), Some(target), Some(minor)) = (parsed.method, parsed.path, parsed.version)
    else {
        return Err(Reason::RequestLine);
    };
    let version = if minor == 0 { Version::Http10 } else { Version::Http11 };
    Ok(RequestLine { method: method.as_bytes(), target: target.as_bytes(), version })
}

/// What a head means whose grammar is right.
#[inline]
fn understand<'a>(
    line: &RequestLine<'a>,
    fields: Fields<'a>,
    facts: &Facts<'a>,
    limits: &Limits,
) -> Result<Request<'a>, Reason> {
    let RequestLine { method, target, version } = *line;
    if target.len() > limits.target_bytes {
        return Err(Reason::TargetTooLong);
    }
    let http11 = version == Version::Http11;
    let is_connect = method == b"CONNECT";
    let framing = framing(facts, version, is_connect)?;
    check_host(facts, version)?;
    let (form, authority, path) = split_target(method, target)?;
    if http11 && facts.expect == Expect::Unknown {
        return Err(Reason::Expectation);
    }
    Ok(Request {
        head: RequestHead { method, target, version, fields },
        form,
        authority: authority.or(facts.host.filter(|host| !host.is_empty())),
        path,
        framing,
        keep_alive: !facts.options.close && (http11 || facts.options.keep_alive),
        expect_continue: http11 && facts.expect == Expect::Continue,
        upgrade: http11 && facts.options.upgrade && facts.upgrade,
        te_trailers: http11 && facts.te_trailers,
        grpc: facts.grpc,
        is_head: method == b"HEAD",
        is_connect,
        idempotent: method::is_idempotent(method),
        origin: None,
        client_id: None,
    })
}

/// RFC 9112 §6.3.
fn framing(facts: &Facts<'_>, version: Version, is_connect: bool) -> Result<Framing, Reason> {
    if facts.codings.present {
        if facts.length.is_some() {
            return Err(Reason::LengthAndCoding);
        }
        if version == Version::Http10 {
            return Err(Reason::CodingInHttp10);
        }
        facts.codings.check()?;
        if is_connect {
            return Err(Reason::CodingMisplaced);
        }
        return Ok(Framing::Chunked);
    }
    match facts.length {
        Some(1..) if is_connect => Err(Reason::ContentLengthInvalid),
        Some(length) if !is_connect => Ok(Framing::Length(length)),
        _ => Ok(Framing::None),
    }
}

/// RFC 9112 §3.2: also when the target is absolute and Host is not used.
fn check_host(facts: &Facts<'_>, version: Version) -> Result<(), Reason> {
    if facts.host_repeated {
        return Err(Reason::HostRepeated);
    }
    match facts.host {
        Some([]) => Ok(()),
        Some(host) => authority::validate(host),
        None if version == Version::Http11 => Err(Reason::HostMissing),
        None => Ok(()),
    }
}

type Target<'a> = (TargetForm, Option<&'a [u8]>, &'a [u8]);

/// RFC 9112 §3.2: the form, the authority, the target in origin-form.
fn split_target<'a>(method: &[u8], target: &'a [u8]) -> Result<Target<'a>, Reason> {
    const SCHEME: usize = b"http://".len();
    // A fragment is never sent (RFC 9110 §7.1).
    if memchr(b'#', target).is_some() {
        return Err(Reason::Target);
    }
    if method == b"CONNECT" {
        let parsed = authority::parse(target).map_err(|_| Reason::Target)?;
        // A port must be there, and 0 is none (RFC 9112 §3.2.3).
        return match parsed.port {
            None | Some(0) => Err(Reason::Target),
            Some(_) => Ok((TargetForm::Authority, Some(target), target)),
        };
    }
    match target {
        [b'/', ..] => Ok((TargetForm::Origin, None, target)),
        b"*" if method == b"OPTIONS" => Ok((TargetForm::Asterisk, None, target)),
        _ if target.len() > SCHEME && target[..SCHEME].eq_ignore_ascii_case(b"http://") => {
            let rest = &target[SCHEME..];
            let end = rest.iter().position(|byte| matches!(byte, b'/' | b'?'));
            let (authority, path) = rest.split_at(end.unwrap_or(rest.len()));
            authority::validate(authority).map_err(|_| Reason::Target)?;
            let path: &[u8] = match path {
                [] if method == b"OPTIONS" => b"*",
                [] => b"/",
                _ => path,
            };
            Ok((TargetForm::Absolute, Some(authority), path))
        }
        _ => Err(Reason::Target),
    }
}
