//! What we make of a message, and what we forward of it.

use std::fmt::{self, Display};

use bytes::BytesMut;
use selvedge_core::error::Reason;
use selvedge_core::http::{Fields, Known, Scratch, Version, hop};
use selvedge_core::http1::{
    Body, BodyDecoder, ConnectionOption, Framing, HeadScanner, Request, RequestRewrite, Response,
    ResponseRewrite, ResponseTo, TargetForm, encode_chunk_end, encode_chunk_start,
    encode_last_chunk, encode_request, encode_response, receive_request, receive_response,
};
use selvedge_core::limits::Limits;

use super::{Field, Kind, Message, Start};

/// A message that we accept.
#[derive(Clone, Debug)]
pub struct Taken {
    /// As it came.
    pub direct: Message,
    /// What is for the far side: what the message means without what was for one hop.
    pub meant: Message,
    /// What is sent to the far side; 1xx that came before a response included.
    pub forwarded: Vec<u8>,
    /// Nothing can follow on the connection.
    pub is_last: bool,
}

/// Why a message is not taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// It is wrong. Of a response, where the reason is always the same: what it would be of a
    /// request with the same fields, if that has one.
    Wrong(Reason),
    /// Only the beginning is there.
    Incomplete,
    /// The connection becomes a tunnel: what follows is no message.
    Tunnel,
}

impl Refusal {
    /// Its name in the list of disagreements.
    pub fn label(&self) -> String {
        match self {
            Refusal::Wrong(reason) => reason.label().to_owned(),
            Refusal::Incomplete => "incomplete".to_owned(),
            Refusal::Tunnel => "tunnel".to_owned(),
        }
    }
}

impl Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.label())
    }
}

/// Reads the first message, and writes it as the engine does.
///
/// # Errors
/// Why we do not accept it.
pub fn take(kind: Kind, bytes: &[u8]) -> Result<Taken, Refusal> {
    match kind {
        Kind::Request => take_request(bytes, false),
        Kind::Redirected => take_request(bytes, true),
        Kind::Response(to) => take_response(bytes, to),
    }
}

fn take_request(bytes: &[u8], absolute: bool) -> Result<Taken, Refusal> {
    let (limits, mut scratch) = (Limits::default(), Scratch::default());
    let received = receive_request(&mut HeadScanner::default(), bytes, &mut scratch, &limits);
    let (len, request) = received.map_err(Refusal::Wrong)?.ok_or(Refusal::Incomplete)?;
    let body = decode(request.framing, &bytes[len..], &limits)?;
    let host = request.authority.unwrap_or(b"a.example:80");
    let mut out = BytesMut::new();
    let rewrite = RequestRewrite { host, absolute, upgrade: request.upgrade };
    encode_request(&mut out, &request, &rewrite);
    let trailers = body.write(request.framing, &mut out)?;
    let head = &request.head;
    let start = Start::Request(head.method.to_vec(), head.target.to_vec());
    Ok(Taken {
        direct: Message {
            start,
            fields: all(head.fields),
            body: body.data.clone(),
            trailers: body.trailers.clone(),
        },
        meant: Message {
            start: Start::Request(head.method.to_vec(), forwarded_target(&request, absolute)),
            fields: request_fields(&request, host),
            body: body.data,
            trailers,
        },
        forwarded: out.to_vec(),
        // After an upgrade the server decides what the connection is.
        is_last: request.is_connect || request.upgrade,
    })
}

fn forwarded_target(request: &Request<'_>, absolute: bool) -> Vec<u8> {
    match (request.form, request.path) {
        _ if absolute => request.head.target.to_vec(),
        (TargetForm::Absolute, [b'?', ..]) => [b"/", request.path].concat(),
        (TargetForm::Absolute, path) => path.to_vec(),
        _ => request.head.target.to_vec(),
    }
}

fn request_fields(request: &Request<'_>, host: &[u8]) -> Vec<Field> {
    let replaced = matches!(request.form, TargetForm::Absolute | TargetForm::Authority);
    let mut fields = end_to_end(request.head.fields);
    if !request.expect_continue {
        fields.retain(|(name, _)| !name.eq_ignore_ascii_case(b"expect"));
    }
    match fields.iter_mut().find(|(name, _)| Known::of(name) == Known::Host) {
        Some((_, value)) if replaced => *value = host.to_vec(),
        Some(_) => {}
        None => fields.insert(0, (b"Host".to_vec(), host.to_vec())),
    }
    fields
}

fn take_response(bytes: &[u8], to: ResponseTo) -> Result<Taken, Refusal> {
    let limits = Limits::default();
    let (mut rest, mut out) = (bytes, BytesMut::new());
    loop {
        let mut scratch = Scratch::default();
        let received =
            receive_response(&mut HeadScanner::default(), rest, &mut scratch, &limits, to);
        let received = received.map_err(|_| Refusal::Wrong(response_reason(rest)))?;
        let (len, response) = received.ok_or(Refusal::Incomplete)?;
        rest = &rest[len..];
        let connected = to.is_connect && matches!(response.head.status, 200..=299);
        if response.head.status == 101 || connected {
            return Err(Refusal::Tunnel);
        }
        let connection = ConnectionOption::Nothing;
        let rewrite =
            ResponseRewrite { client: Version::Http11, connection, framing: response.framing };
        encode_response(&mut out, &response, &rewrite);
        if response.head.status >= 200 {
            let body = decode(response.framing, rest, &limits)?;
            return answered(&response, body, out);
        }
    }
}

fn answered(response: &Response<'_>, body: Decoded, mut out: BytesMut) -> Result<Taken, Refusal> {
    let trailers = body.write(response.framing, &mut out)?;
    let start = Start::Response(response.head.status);
    let fields = response.head.fields;
    let (direct, meant) = (all(fields), end_to_end(fields));
    Ok(Taken {
        direct: Message {
            start: start.clone(),
            fields: direct,
            body: body.data.clone(),
            trailers: body.trailers,
        },
        meant: Message { start, fields: meant, body: body.data, trailers },
        forwarded: out.to_vec(),
        is_last: response.framing == Framing::UntilClose,
    })
}

/// What a request with these fields would be refused for; not for its body, which is not there.
fn response_reason(bytes: &[u8]) -> Reason {
    let head = bytes.windows(4).position(|four| four == b"\r\n\r\n");
    let bytes = &bytes[..head.map_or(bytes.len(), |at| at + 4)];
    let end = bytes.iter().position(|&byte| byte == b'\n').unwrap_or(0);
    let (line, fields) = bytes.split_at(end);
    let Some(line) = line.strip_suffix(b"\r") else { return Reason::BareLf };
    let version = &line[..line.len().min(8)];
    let head = [b"POST / ", version, b"\r\nHost: a\r", fields].concat();
    match take_request(&head, false) {
        // Host means nothing in a response.
        Err(Refusal::Wrong(Reason::HostRepeated | Reason::HostInvalid)) => Reason::BadResponse,
        Err(Refusal::Wrong(reason)) => reason,
        _ => Reason::BadResponse,
    }
}

fn all(fields: Fields<'_>) -> Vec<Field> {
    fields.iter().map(|field| (field.name.to_vec(), field.value.to_vec())).collect()
}

fn end_to_end(fields: Fields<'_>) -> Vec<Field> {
    let kept = fields.iter().filter(|field| !field.hop_by_hop);
    kept.map(|field| (field.name.to_vec(), field.value.to_vec())).collect()
}

/// A complete body.
#[derive(Clone, Debug, Default)]
struct Decoded {
    data: Vec<u8>,
    section: Vec<u8>,
    trailers: Vec<Field>,
}

fn decode(framing: Framing, bytes: &[u8], limits: &Limits) -> Result<Decoded, Refusal> {
    let mut decoder = BodyDecoder::new(framing);
    let (mut rx, mut decoded) = (BytesMut::from(bytes), Decoded::default());
    loop {
        match decoder.decode(&mut rx, limits).map_err(Refusal::Wrong)? {
            Body::Data(n) => decoded.data.extend_from_slice(&rx.split_to(n)),
            Body::Trailers(n) => {
                decoded.section = rx.split_to(n).to_vec();
                decoded.trailers = lines(&decoded.section);
            }
            Body::NeedMore => {
                return decoder.eof().map(|()| decoded).map_err(|_| Refusal::Incomplete);
            }
            Body::End => return Ok(decoded),
        }
    }
}

/// The fields of a trailer section that is known to be well-formed.
fn lines(section: &[u8]) -> Vec<Field> {
    let lines = section.split(|&byte| byte == b'\n');
    let lines = lines.map(|line| line.strip_suffix(b"\r").unwrap_or(line));
    let fields = lines.filter_map(|line| {
        let colon = line.iter().position(|&byte| byte == b':')?;
        Some((line[..colon].to_vec(), line[colon + 1..].trim_ascii().to_vec()))
    });
    fields.collect()
}

impl Decoded {
    /// Writes the body as it is forwarded; returns the trailers that go on.
    fn write(&self, framing: Framing, out: &mut BytesMut) -> Result<Vec<Field>, Refusal> {
        if framing != Framing::Chunked {
            out.extend_from_slice(&self.data);
            return Ok(Vec::new());
        }
        for piece in self.data.chunks(100) {
            encode_chunk_start(out, piece.len());
            out.extend_from_slice(piece);
            encode_chunk_end(out);
        }
        encode_last_chunk(out, &self.section).map_err(Refusal::Wrong)?;
        let mut trailers = self.trailers.clone();
        trailers.retain(|(name, _)| !hop::is_forbidden_in_trailers(name));
        Ok(trailers)
    }
}
