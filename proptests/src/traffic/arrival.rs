//! What must arrive of an honest message, however many proxies it crossed.

use std::net::SocketAddr;

use super::request::{Body, Request};
use super::response::Response;
use super::wire::{Field, Framing, Head, show};

/// Is this head what an app must get of `request`, which crossed so many proxies?
///
/// # Errors
/// What differs.
pub fn check_request_head(request: &Request, proxies: u32, head: &Head) -> Result<(), String> {
    let [method, target, version] = head.parts();
    let as_meant = target == request.target.as_bytes();
    // A proxy leaves an absolute target to whom the client wanted to talk to; the next one may be
    // meant itself.
    let origin_form = |at| request.target.as_bytes()[at..] == *target;
    let shortened = proxies > 1 && request.target.find("/r/").is_some_and(origin_form);
    if method != request.method.as_bytes() || !(as_meant || shortened) || version != b"HTTP/1.1" {
        let (method, target) = (request.method, &request.target);
        return Err(format!("{method} {target} has become {}", show(&head.line)));
    }
    let mut fields = end_to_end(head);
    if !has_host(request) {
        let host = fields.remove(0);
        if host.0 != "Host" || !supplied_host(&host.1) {
            return Err(format!("without a Host, {host:?} came first"));
        }
    }
    check_fields(&request.fields, &fields)?;
    let expected = match &request.body {
        Body::Length(len) => Framing::Length(*len as u64),
        Body::Chunked(..) => Framing::Chunked,
        Body::Nothing | Body::UntilClose(_) => Framing::UntilClose,
    };
    if head.framing()? != expected {
        return Err(format!("{expected:?} has become {:?}", head.framing()));
    }
    let connection = match (request.te, request.upgrade) {
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
    head: &Head,
) -> Result<(), String> {
    let [_, _, phrase] = head.parts();
    if head.status() != response.status || phrase != response.phrase.as_bytes() {
        let (status, phrase) = (response.status, response.phrase);
        return Err(format!("{status} {phrase:?} has become {}", show(&head.line)));
    }
    let framed = if response.body == Body::Nothing { &response.announced } else { &response.body };
    let framing = match framed {
        Body::Length(len) => Framing::Length(*len as u64),
        Body::Chunked(..) if !request.http10 => Framing::Chunked,
        _ => Framing::UntilClose,
    };
    if head.framing()? != framing {
        return Err(format!("{framing:?} has become {:?}", head.framing()));
    }
    check_fields(&response.fields, &end_to_end(head))
}

/// The fields that go end to end.
fn end_to_end(head: &Head) -> Vec<&Field> {
    let hop = ["connection", "content-length", "transfer-encoding", "upgrade", "te"];
    let ours = |field: &&Field| !hop.iter().any(|name| field.0.eq_ignore_ascii_case(name));
    head.fields.iter().filter(ours).collect()
}

/// Are these the trailers that were sent?
///
/// # Errors
/// What was sent, and what came.
pub fn check_trailers(sent: &[Field], got: &[Field]) -> Result<(), String> {
    check_fields(sent, &got.iter().collect::<Vec<_>>())
}

/// Are these the fields that were sent, in their order and spelling?
fn check_fields(sent: &[Field], got: &[&Field]) -> Result<(), String> {
    if sent.iter().eq(got.iter().copied()) {
        return Ok(());
    }
    let list = |fields: &[&Field]| -> String {
        let lines = fields.iter().map(|(name, value)| format!("\n  {name}: {}", show(value)));
        lines.collect::<Vec<_>>().concat()
    };
    let sent: Vec<&Field> = sent.iter().collect();
    Err(format!("fields sent:{}\nfields that came:{}", list(&sent), list(got)))
}

/// Is this what must go first when there was no Host?
fn has_host(request: &Request) -> bool {
    request.fields.iter().any(|(name, _)| name == "Host")
}

/// The value of the Host that the proxy supplies.
fn supplied_host(value: &[u8]) -> bool {
    std::str::from_utf8(value).is_ok_and(|text| text.parse::<SocketAddr>().is_ok())
}
