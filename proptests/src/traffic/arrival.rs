//! What must arrive of an honest message, however many proxies it crossed.

use std::net::SocketAddr;

use super::request::{Body, Request};
use super::response::Response;
use super::wire::{Field, Framing, Head, show};

/// How a message came to where it is read.
#[derive(Clone, Copy, Debug)]
pub struct Way {
    /// How many proxies the request crosses at most.
    pub proxies: u32,
    /// Was it a stream of HTTP/2 anywhere on its way?
    pub crossed: Crossed,
    /// It is one where it is read.
    pub stream: bool,
}

/// Was a message a stream of HTTP/2 on its way? That makes its names lower case, loses its reason
/// phrase, and leaves its framing to frames.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Crossed {
    /// It was not.
    No,
    /// It may have been.
    Maybe,
    /// It was.
    Yes,
}

impl Way {
    /// Through so many proxies, all of them with HTTP/1.
    pub fn http1(proxies: u32) -> Self {
        Way { proxies, crossed: Crossed::No, stream: false }
    }

    /// Holds `check` for a message that crossed HTTP/2, for one that did not, or for either?
    fn holds(self, check: impl Fn(bool) -> Result<(), String>) -> Result<(), String> {
        match self.crossed {
            Crossed::No => check(false),
            Crossed::Yes => check(true),
            Crossed::Maybe => check(false).or_else(|_| check(true)),
        }
    }

    /// May a body that was sent with `sent`, and has so many bytes, arrive with `got`?
    fn may_frame(self, sent: Framing, len: usize, got: Framing) -> bool {
        let empty = [Framing::UntilClose, Framing::Length(0), Framing::Chunked];
        match sent {
            // END_STREAM in the head says it all.
            _ if len == 0 && empty.contains(&got) => true,
            Framing::Length(_) => got == sent,
            _ if self.stream => got == Framing::UntilClose,
            _ => got == Framing::Chunked,
        }
    }
}

/// Is this head what an app must get of `request`?
///
/// # Errors
/// What differs.
pub fn check_request_head(request: &Request, way: Way, head: &Head) -> Result<(), String> {
    way.holds(|crossed| check_request(request, way, crossed, head))
}

fn check_request(request: &Request, way: Way, crossed: bool, head: &Head) -> Result<(), String> {
    let [method, target, version] = head.parts();
    let as_meant = target == request.target.as_bytes();
    // A proxy leaves an absolute target to whom the client wanted to talk to; the next one may be
    // meant itself, and a stream has no absolute one.
    let origin_form = |at| request.target.as_bytes()[at..] == *target;
    let may_shorten = way.proxies > 1 || crossed;
    let shortened = may_shorten && request.target.find("/r/").is_some_and(origin_form);
    if method != request.method.as_bytes() || !(as_meant || shortened) || version != b"HTTP/1.1" {
        let (method, target) = (request.method, &request.target);
        return Err(format!("{method} {target} has become {}", show(&head.line)));
    }
    let mut fields = end_to_end(head);
    if !has_host(request) {
        let host = fields.remove(0);
        if !host.0.eq_ignore_ascii_case("host") || !supplied_host(&host.1) {
            return Err(format!("without a Host, {host:?} came first"));
        }
    }
    check_fields(&request.fields, &fields, crossed)?;
    let (expected, len) = match &request.body {
        Body::Length(len) => (Framing::Length(*len as u64), *len),
        Body::Chunked(..) => (Framing::Chunked, request.body.len()),
        Body::Nothing | Body::UntilClose(_) => (Framing::UntilClose, 0),
    };
    let got = head.framing()?;
    if !(got == expected || crossed && way.may_frame(expected, len, got)) {
        return Err(format!("{expected:?} has become {got:?}"));
    }
    let connection = match (request.te, request.upgrade) {
        _ if way.stream => None,
        (false, false) => None,
        (true, false) => Some(&b"TE"[..]),
        (false, true) => Some(&b"upgrade"[..]),
        (true, true) => Some(&b"upgrade, TE"[..]),
    };
    let te = request.te.then_some(&b"trailers"[..]);
    let upgrade = request.upgrade.then_some(&b"websocket"[..]);
    let got = [head.get("connection"), head.get("te"), head.get("upgrade")];
    if got != [connection, te, upgrade] {
        return Err(format!("connection, te, upgrade: {:?}", got.map(|got| got.map(show))));
    }
    Ok(())
}

/// Is this head what the client that sent `request` must get of `response`?
///
/// # Errors
/// What differs.
pub fn check_response_head(
    request: &Request,
    response: &Response,
    way: Way,
    head: &Head,
) -> Result<(), String> {
    way.holds(|crossed| check_response(request, response, way, crossed, head))
}

fn check_response(
    request: &Request,
    response: &Response,
    way: Way,
    crossed: bool,
    head: &Head,
) -> Result<(), String> {
    let [_, _, phrase] = head.parts();
    let same_phrase = crossed || phrase == response.phrase.as_bytes();
    if head.status() != response.status || !same_phrase {
        let (status, phrase) = (response.status, response.phrase);
        return Err(format!("{status} {phrase:?} has become {}", show(&head.line)));
    }
    let bodiless = response.body == Body::Nothing;
    let framed = if bodiless { &response.announced } else { &response.body };
    let framing = match framed {
        Body::Length(len) => Framing::Length(*len as u64),
        Body::Chunked(..) if !request.http10 => Framing::Chunked,
        _ => Framing::UntilClose,
    };
    let got = head.framing()?;
    // Nothing frames a body of unknown length in HTTP/2, and HTTP/1.0 knows no chunks.
    let unframed = |got| bodiless || request.http10 && got == Framing::UntilClose;
    let fits = got == framing
        || crossed
            && (way.may_frame(framing, framed.len(), got)
                || !matches!(framing, Framing::Length(_)) && unframed(got));
    if !fits {
        return Err(format!("{framing:?} has become {got:?}"));
    }
    check_fields(&response.fields, &end_to_end(head), crossed)
}

/// The fields that go end to end.
fn end_to_end(head: &Head) -> Vec<&Field> {
    let hop = [
        "connection",
        "content-length",
        "transfer-encoding",
        "upgrade",
        "te",
        // Of an app that is taken for a proxy.
        "l5d-orig-proto",
        // What the last proxy says of the one before it.
        "l5d-client-id",
    ];
    let ours = |field: &&Field| !hop.iter().any(|name| field.0.eq_ignore_ascii_case(name));
    head.fields.iter().filter(ours).collect()
}

/// Are these the trailers that were sent?
///
/// # Errors
/// What was sent, and what came.
pub fn check_trailers(sent: &[Field], way: Way, got: &[Field]) -> Result<(), String> {
    let got: Vec<&Field> = got.iter().collect();
    way.holds(|crossed| check_fields(sent, &got, crossed))
}

/// Are these the fields that were sent, in their order and spelling?
fn check_fields(sent: &[Field], got: &[&Field], crossed: bool) -> Result<(), String> {
    let sent: Vec<&Field> = sent.iter().collect();
    let alike = if crossed {
        got.iter().all(|field| is_lowered(field)) && merged(&sent) == merged(got)
    } else {
        sent == got
    };
    if alike {
        return Ok(());
    }
    let list = |fields: &[&Field]| -> String {
        let lines = fields.iter().map(|(name, value)| format!("\n  {name}: {}", show(value)));
        lines.collect::<Vec<_>>().concat()
    };
    Err(format!("fields sent:{}\nfields that came:{}", list(&sent), list(got)))
}

/// Fields as HTTP/2 has them: names in lower case, what it says where first, and cookies as one,
/// which may come in crumbs (RFC 9113 §8.2.3).
fn merged(fields: &[&Field]) -> Vec<Field> {
    let mut out: Vec<Field> = Vec::with_capacity(fields.len());
    for (name, value) in fields {
        let name = name.to_ascii_lowercase();
        match out.iter_mut().find(|(other, _)| name == "cookie" && *other == name) {
            Some((_, cookies)) => cookies.extend([b"; ", &value[..]].concat()),
            None if name == "host" => out.insert(0, (name, value.clone())),
            None => out.push((name, value.clone())),
        }
    }
    out
}

/// Is this what must go first when there was no Host?
fn has_host(request: &Request) -> bool {
    request.fields.iter().any(|(name, _)| name == "Host")
}

/// The value of the Host that the proxy supplies.
fn supplied_host(value: &[u8]) -> bool {
    std::str::from_utf8(value).is_ok_and(|text| text.parse::<SocketAddr>().is_ok())
}

/// Is this how a field is spelled after HTTP/2? Host is spelled by who writes HTTP/1.
fn is_lowered((name, _): &Field) -> bool {
    *name == name.to_ascii_lowercase() || name == "Host"
}
