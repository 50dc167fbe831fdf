//! A complete request head, checked.

use memchr::memchr;

use super::Framing;
use super::classify;
use super::facts::{self, Expect, Facts};
use super::scan::{HeadKind, HeadScanner};
use crate::error::Reason;
use crate::http::{Fields, RequestHead, Scratch, Version, authority, method};
use crate::limits::Limits;

/// The four forms of a request target (RFC 9112 §3.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TargetForm {
    /// `/path?query`.
    Origin,
    /// `http://authority/path?query`.
    Absolute,
    /// `host:port`, of CONNECT.
    Authority,
    /// `*`, of OPTIONS.
    Asterisk,
}

/// A request head and what it means.
#[derive(Clone, Copy, Debug)]
pub struct Request<'a> {
    /// Method, target, version, fields.
    pub head: RequestHead<'a>,
    /// The form of the target.
    pub form: TargetForm,
    /// Who is asked: the authority of the target, else Host. `None` if there is no Host (HTTP/1.0)
    /// or it is empty. Valid, but as spelled: see [`authority::normalize`].
    pub authority: Option<&'a [u8]>,
    /// The target in origin-form: of an absolute target its path and query (`/` if it has neither;
    /// `*` for OPTIONS; it begins with `?` if there is a query but no path, and
    /// [`encode_request`](super::encode_request) supplies the `/`), else the target itself.
    pub path: &'a [u8],
    /// How the body is delimited; never [`Framing::UntilClose`].
    pub framing: Framing,
    /// Does the client want the connection to stay open (RFC 9112 §9.3)?
    pub keep_alive: bool,
    /// Does it wait for a 100 before it sends the body (RFC 9110 §10.1.1)? HTTP/1.1 only.
    pub expect_continue: bool,
    /// Does it offer to speak something other than HTTP (RFC 9110 §7.8)? `h2c` does not count, and
    /// neither does HTTP/1.0.
    pub upgrade: bool,
    /// Does it accept trailers (RFC 9110 §10.1.4)? HTTP/1.1 only.
    pub te_trailers: bool,
    /// Is it gRPC, by its Content-Type?
    pub grpc: bool,
    /// HEAD: the response has no body.
    pub is_head: bool,
    /// CONNECT: a 2xx makes a tunnel.
    pub is_connect: bool,
    /// May it be sent again when nobody knows what became of it?
    pub idempotent: bool,
}

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
    let mut headers = facts::headers();
    let mut parsed = httparse::Request::new(&mut []);
    match parsed.parse_with_uninit_headers(head, &mut headers) {
        Ok(httparse::Status::Complete(len)) if len == head.len() => {
            let mut request = understand(head, &parsed, scratch, limits)?;
            request.head.fields.spans = &scratch.spans;
            Ok(request)
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
    if scanner.is_new() {
        let mut headers = facts::headers();
        let mut parsed = httparse::Request::new(&mut []);
        let result = parsed.parse_with_uninit_headers(buf, &mut headers);
        // Whatever is not perfect is for the scanner to judge, byte by byte.
        if let Ok(httparse::Status::Complete(len)) = result
            && !matches!(buf[0], b'\r' | b'\n')
            && len <= limits.header_bytes
            && let Ok(mut request) = understand(&buf[..len], &parsed, scratch, limits)
        {
            request.head.fields.spans = &scratch.spans;
            return Ok(Some((len, request)));
        }
    }
    let Some(len) = scanner.scan(buf, HeadKind::Request, limits)? else { return Ok(None) };
    let request = parse_request(&buf[..len], scratch, limits)?;
    Ok(Some((len, request)))
}

/// What a head means whose grammar is right. Its fields are left for the caller to fill in, so that
/// a failure does not keep `scratch` borrowed.
fn understand<'a>(
    head: &'a [u8],
    parsed: &httparse::Request<'_, 'a>,
    scratch: &mut Scratch,
    limits: &Limits,
) -> Result<Request<'a>, Reason> {
    let (Some(method), Some(target), Some(version)) = (parsed.method, parsed.path, parsed.version)
    else {
        return Err(Reason::RequestLine);
    };
    let (method, target) = (method.as_bytes(), target.as_bytes());
    if target.len() > limits.target_bytes {
        return Err(Reason::TargetTooLong);
    }
    let facts = facts::gather(head, parsed.headers, scratch, limits)?;
    let version = if version == 0 { Version::Http10 } else { Version::Http11 };
    let http11 = version == Version::Http11;
    let is_connect = method == b"CONNECT";
    let framing = framing(&facts, version, is_connect)?;
    check_host(&facts, version)?;
    let (form, authority, path) = split_target(method, target)?;
    if http11 && facts.expect == Expect::Unknown {
        return Err(Reason::Expectation);
    }
    Ok(Request {
        head: RequestHead { method, target, version, fields: Fields::none(head) },
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
