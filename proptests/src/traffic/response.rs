//! A grammar of honest responses: what an app sends, and what the client must get of it.

use super::content::{response_key, token};
use super::request::{Body, FieldLine, Request, chunks, extras, size};
use super::wire::Field;
use crate::choose::{Choose, pick};

/// An honest response, or the beginning of one.
#[derive(Clone, Debug)]
pub struct Response {
    /// Its number, which its `X-Rid` and its body are made of.
    pub id: u32,
    /// The request that it answers.
    pub request: u32,
    /// What is sent.
    pub bytes: Vec<u8>,
    /// The status.
    pub status: u16,
    /// The reason phrase.
    pub phrase: &'static str,
    /// What goes end to end, in order.
    pub fields: Vec<Field>,
    /// The body.
    pub body: Body,
    /// The body that it announces and does not have: HEAD and 304.
    pub announced: Body,
    /// The connection may not be used again.
    pub close: bool,
    /// The app ended before all was sent.
    pub truncated: bool,
}

/// How to answer.
#[derive(Clone, Copy, Debug)]
pub struct Answer<'a> {
    /// The number of the response.
    pub id: u32,
    /// The request.
    pub to: &'a Request,
    /// The largest body.
    pub largest: usize,
    /// The status, if it is not to be chosen.
    pub status: Option<u16>,
    /// Switch protocols, if the request asks for that.
    pub tunnel: bool,
    /// How long it does not want to be asked again, as a `Retry-After` says it.
    pub wait: Option<&'a str>,
}

/// An honest response.
pub fn response(choose: &mut dyn Choose, answer: Answer<'_>) -> Response {
    let request = answer.to;
    let tunnel = answer.tunnel && (request.upgrade || request.method == "CONNECT");
    let (status, phrase) = match (tunnel, request.upgrade) {
        (true, true) => (101, "Switching Protocols"),
        (true, false) => (200, "Connection established"),
        (false, _) if request.method == "CONNECT" => (405, ""),
        (false, _) => match answer.status {
            Some(status) => (status, "No"),
            None => pick(choose, &STATUSES),
        },
    };
    let http10 = !tunnel && choose.one_in(6);
    let bodiless = tunnel || request.method == "HEAD" || matches!(status, 204 | 304);
    let framed = match choose.below(if status == 204 || tunnel { 1 } else { 5 }) {
        0 => Body::Nothing,
        1 | 2 => Body::Length(size(choose, answer.largest)),
        3 if !http10 => Body::Chunked(chunks(choose, answer.largest), choose.flip()),
        3 => Body::Length(3),
        _ => Body::UntilClose(size(choose, answer.largest)),
    };
    let (body, announced) = match (bodiless, framed) {
        (true, framed) => (Body::Nothing, framed),
        // Without a word about its length a body ends with the connection.
        (false, Body::Nothing) => (Body::Length(0), Body::Nothing),
        (false, framed) => (framed, Body::Nothing),
    };
    let says = choose.one_in(4);
    let until_close = matches!(body, Body::UntilClose(_));
    let close = until_close || if http10 { !says } else { says };
    let mut lines = vec![
        FieldLine::end_to_end("X-Rid", token(answer.id).as_bytes()),
        FieldLine::end_to_end("X-Id", token(request.id).as_bytes()),
    ];
    if let Some(wait) = answer.wait {
        lines.push(FieldLine::end_to_end("Retry-After", wait.as_bytes()));
    }
    let field = if bodiless { announced.field() } else { body.field() };
    if let Some((name, value)) = field {
        let at = choose.below(lines.len() + 1);
        lines.insert(at, FieldLine::hop(name, &value));
    }
    if status == 101 {
        lines.push(FieldLine::hop("Upgrade", "websocket"));
        lines.push(FieldLine::hop("Connection", "upgrade"));
    }
    extras(choose, (says && !tunnel).then_some(!http10), &mut lines);
    let version = if http10 { "HTTP/1.0" } else { "HTTP/1.1" };
    let mut bytes = format!("{version} {status} {phrase}\r\n").into_bytes();
    for line in &lines {
        bytes.extend_from_slice(&line.sent);
    }
    bytes.extend_from_slice(b"\r\n");
    body.encode(choose, response_key(answer.id), answer.id, &mut bytes);
    Response {
        id: answer.id,
        request: request.id,
        bytes,
        status,
        phrase,
        fields: lines.into_iter().filter_map(|line| line.arrives).collect(),
        body,
        announced,
        close: close && !tunnel,
        truncated: false,
    }
}

const STATUSES: [(u16, &str); 9] = [
    (200, "OK"),
    (200, ""),
    (200, "all right, thanks"),
    (204, "No Content"),
    (304, "Not Modified"),
    (404, "Not Found"),
    (500, "Oh"),
    (503, "Service Unavailable"),
    (599, "Odd"),
];

/// An honest 1xx, the one of that number, and its status.
pub(crate) fn interim(choose: &mut dyn Choose, request: &Request, hint: u32) -> (u16, Vec<u8>) {
    let status = if request.expect { pick(choose, &[100, 103]) } else { 103 };
    let (id, hint) = (token(request.id), token(hint));
    let head =
        format!("HTTP/1.1 {status} Go on\r\nX-Id: {id}\r\nX-Hint: {hint}\r\nLink: </x>\r\n\r\n");
    (status, head.into_bytes())
}
