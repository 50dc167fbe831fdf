//! What must hold of detection and of the codec whatever the bytes are.
//!
//! Each function takes bytes as a fuzzer makes them: the first few say how to cut the others and
//! under which limits. What does not hold is a panic.

use bytes::BytesMut;
use selvedge_core::error::Reason;
use selvedge_core::http::{Scratch, Version};
use selvedge_core::http1::{
    Body, BodyDecoder, ConnectionOption, Framing, HeadKind, HeadScanner, Request, RequestRewrite,
    Response, ResponseRewrite, ResponseTo, TargetForm, encode_chunk_end, encode_chunk_start,
    encode_last_chunk, encode_request, encode_response, parse_request, parse_response,
    receive_request, receive_response,
};
use selvedge_core::limits::Limits;
use selvedge_core::sniff::{Protocol, Sniffer};

use crate::choose::{Bytes, Choose};
use crate::traffic::wire::{self, Part, Reader};

/// The first bytes, taken off, are choices.
const CHOICES: usize = 4;

fn split(data: &[u8]) -> (Bytes<'_>, &[u8]) {
    let (choices, bytes) = data.split_at(data.len().min(CHOICES));
    (Bytes::new(choices), bytes)
}

fn limits(choose: &mut dyn Choose) -> Limits {
    if !choose.one_in(4) {
        return Limits::default();
    }
    Limits { header_count: 4, header_bytes: 200, target_bytes: 30, ..Limits::default() }
}

/// How much of `bytes` is there after each read: all at once, byte by byte, or in two or three.
fn ends(choose: &mut dyn Choose, bytes: &[u8]) -> Vec<usize> {
    let len = bytes.len();
    let mut ends: Vec<usize> = match choose.below(3) {
        0 => (1..len).collect(),
        1 => vec![choose.below(len + 1)],
        _ => vec![choose.below(len + 1), choose.below(len + 1)],
    };
    ends.push(len);
    ends.sort_unstable();
    ends
}

/// Detection says the same in every cut, says it once and for all, and never calls a good request
/// something else.
pub fn sniff(data: &[u8]) {
    let (mut choose, bytes) = split(data);
    let whole = Sniffer::default().sniff(bytes);
    let mut sniffer = Sniffer::default();
    let mut decided = None;
    for end in ends(&mut choose, bytes) {
        let now = sniffer.sniff(&bytes[..end]);
        assert!(decided.is_none() || now == decided, "first {decided:?}, then {now:?}");
        decided = now;
    }
    assert_eq!(decided, whole, "in pieces and whole");
    assert!(whole.is_some() || bytes.len() < Sniffer::MAX_BYTES, "undecided for ever");
    if let Some(protocol) = whole.filter(|&protocol| protocol != Protocol::Http1) {
        let mut scratch = Scratch::default();
        let mut scanner = HeadScanner::default();
        let request = receive_request(&mut scanner, bytes, &mut scratch, &Limits::default());
        assert!(!matches!(request, Ok(Some(_))), "{protocol:?}, but a request");
    }
}

/// Receives a head in pieces: what is found when enough is there.
fn in_pieces<T>(
    choose: &mut dyn Choose,
    bytes: &[u8],
    mut receive: impl FnMut(&mut HeadScanner, &[u8]) -> Result<Option<T>, Reason>,
) -> Result<Option<T>, Reason> {
    let mut scanner = HeadScanner::default();
    for end in ends(choose, bytes) {
        match receive(&mut scanner, &bytes[..end]) {
            Ok(None) => {}
            done => return done,
        }
    }
    Ok(None)
}

/// What a request is, without its bytes.
fn meaning(request: &Request<'_>) -> String {
    let fields: Vec<_> = request.head.fields.iter().collect();
    format!(
        "{:?} {fields:?}",
        (request.head.method, request.path, request.authority, request.framing)
    )
}

/// A request head is taken or refused alike in every cut and by both ways in; what is written of it
/// is one request for another reader too, and the same request.
pub fn http1_request(data: &[u8]) {
    let (mut choose, bytes) = split(data);
    let limits = limits(&mut choose);
    let mut scratch = Scratch::default();
    let whole = receive_request(&mut HeadScanner::default(), bytes, &mut scratch, &limits);
    let whole = whole.map(|found| found.map(|(len, request)| (len, meaning(&request))));

    let slow = HeadScanner::default().scan(bytes, HeadKind::Request, &limits);
    let slow = slow.and_then(|found| match found {
        None => Ok(None),
        Some(len) => {
            let mut scratch = Scratch::default();
            let request = parse_request(&bytes[..len], &mut scratch, &limits)?;
            Ok(Some((len, meaning(&request))))
        }
    });
    assert_eq!(whole, slow, "at one look, and by scanning and parsing");
    let cut = in_pieces(&mut choose, bytes, |scanner, bytes| {
        let mut scratch = Scratch::default();
        let found = receive_request(scanner, bytes, &mut scratch, &limits)?;
        Ok(found.map(|(len, request)| (len, meaning(&request))))
    });
    assert_eq!(whole, cut, "whole and in pieces");
    if let Ok(Some((len, _))) = whole {
        written_request(&bytes[..len], choose.flip(), &limits);
    }
}

fn written_request(head: &[u8], absolute: bool, limits: &Limits) {
    let mut scratch = Scratch::default();
    let request = parse_request(head, &mut scratch, limits).expect("it was received");
    let host = request.authority.unwrap_or(b"a.example:80");
    let rewrite = RequestRewrite { host, absolute, upgrade: request.upgrade };
    let mut out = BytesMut::new();
    encode_request(&mut out, &request, &rewrite);
    let seen = read_head(&out);
    let [method, target, version] = seen.parts();
    assert_eq!((method, version), (request.head.method, &b"HTTP/1.1"[..]));
    let absolute = absolute && request.form == TargetForm::Absolute;
    let expected = if absolute { request.head.target } else { request.path };
    assert!(target == expected || target == [b"/", expected].concat(), "target");
    let framing = match request.framing {
        Framing::Length(length) => wire::Framing::Length(length),
        Framing::Chunked => wire::Framing::Chunked,
        Framing::None | Framing::UntilClose => wire::Framing::UntilClose,
    };
    assert_eq!(seen.framing(), Ok(framing));
    let hosts = seen.fields.iter().filter(|(name, _)| name.eq_ignore_ascii_case("host"));
    assert_eq!(hosts.count(), 1, "Host");
    no_hop_by_hop(&seen);
    // What we write we take, but for what we add to a head that is as large as it may be: Host, the
    // framing, Connection.
    let limits = Limits {
        header_count: Limits::MAX_HEADER_COUNT,
        header_bytes: 2 * Limits::default().header_bytes,
        ..Limits::default()
    };
    let mut scratch = Scratch::default();
    let again = parse_request(&out, &mut scratch, &limits).expect("as we write it");
    assert_eq!((again.framing, again.path), (request.framing, target_path(&request, target)));
    let host = again.authority.unwrap_or(b"");
    let mut twice = BytesMut::new();
    encode_request(&mut twice, &again, &RequestRewrite { host, absolute, upgrade: again.upgrade });
    assert_eq!(out, twice, "written twice");
}

/// The path of what was written.
fn target_path<'a>(request: &Request<'a>, target: &'a [u8]) -> &'a [u8] {
    match request.form {
        // A query without a path gets one.
        TargetForm::Absolute if target.starts_with(b"/?") => target,
        _ => request.path,
    }
}

fn no_hop_by_hop(head: &wire::Head) {
    for name in ["keep-alive", "proxy-connection", "http2-settings"] {
        assert!(head.get(name).is_none(), "{name} gets through");
    }
    for (name, value) in &head.fields {
        if name.eq_ignore_ascii_case("connection") {
            let ours: [&[u8]; 6] =
                [b"TE", b"upgrade", b"upgrade, TE", b"close", b"keep-alive", b"upgrade"];
            assert!(ours.contains(&&value[..]), "Connection: {}", value.escape_ascii());
        }
    }
}

fn read_head(bytes: &[u8]) -> wire::Head {
    let mut reader = Reader::default();
    reader.feed(bytes);
    match reader.next(&mut |_| Ok(wire::Framing::Nothing)) {
        Ok(Some(Part::Head(head))) if reader.rest().is_empty() => head,
        other => panic!("{other:?} is written: {}", bytes.escape_ascii()),
    }
}

/// What a response is, without its bytes.
fn response_meaning(response: &Response<'_>) -> String {
    let fields: Vec<_> = response.head.fields.iter().collect();
    let head = (response.head.status, response.head.reason, response.head.version);
    let body = (response.framing, response.announced, response.keep_alive);
    format!("{head:?} {body:?} {:?} {fields:?}", (response.upgrade, response.grpc_status))
}

/// The same of a response, for every kind of request and of client.
pub fn http1_response(data: &[u8]) {
    let (mut choose, bytes) = split(data);
    let limits = limits(&mut choose);
    let to = ResponseTo { is_head: choose.one_in(4), is_connect: choose.one_in(4) };
    let client = if choose.one_in(4) { Version::Http10 } else { Version::Http11 };
    let mut scratch = Scratch::default();
    let whole = receive_response(&mut HeadScanner::default(), bytes, &mut scratch, &limits, to);
    let whole = whole.map(|found| found.map(|(len, response)| (len, response_meaning(&response))));
    let slow = HeadScanner::default().scan(bytes, HeadKind::Response, &limits);
    let slow = slow.and_then(|found| match found {
        None => Ok(None),
        Some(len) => {
            let mut scratch = Scratch::default();
            let response = parse_response(&bytes[..len], &mut scratch, &limits, to)?;
            Ok(Some((len, response_meaning(&response))))
        }
    });
    assert_eq!(whole, slow, "at one look, and by scanning and parsing");
    let cut = in_pieces(&mut choose, bytes, |scanner, bytes| {
        let mut scratch = Scratch::default();
        let found = receive_response(scanner, bytes, &mut scratch, &limits, to)?;
        Ok(found.map(|(len, response)| (len, response_meaning(&response))))
    });
    assert_eq!(whole, cut, "whole and in pieces");
    if let Ok(Some((len, _))) = whole {
        written_response(&bytes[..len], to, client, &limits);
    }
}

fn written_response(head: &[u8], to: ResponseTo, client: Version, limits: &Limits) {
    let mut scratch = Scratch::default();
    let response = parse_response(head, &mut scratch, limits, to).expect("it was received");
    let framing = match (response.framing, client) {
        (Framing::Chunked, Version::Http10) => Framing::UntilClose,
        (framing, _) => framing,
    };
    let rewrite = ResponseRewrite { client, connection: ConnectionOption::Close, framing };
    let mut out = BytesMut::new();
    encode_response(&mut out, &response, &rewrite);
    let seen = read_head(&out);
    assert_eq!(seen.parts()[0], b"HTTP/1.1");
    assert_eq!(seen.status(), response.head.status);
    no_hop_by_hop(&seen);
    let said = seen.framing().expect("framed once");
    match (framing, said) {
        (Framing::Length(a), wire::Framing::Length(b)) => assert_eq!(a, b),
        (Framing::Chunked, wire::Framing::Chunked)
        | (Framing::UntilClose, wire::Framing::UntilClose)
        | (Framing::None, _) => {}
        both => panic!("framed otherwise: {both:?}"),
    }
    if client == Version::Http10 {
        assert_ne!(said, wire::Framing::Chunked, "chunks to HTTP/1.0");
    }
}

/// What a decoder made of a body.
#[derive(Debug, Default, PartialEq, Eq)]
struct Decoded {
    data: Vec<u8>,
    trailers: Vec<u8>,
    error: Option<Reason>,
    done: bool,
    /// What follows the body.
    rest: Vec<u8>,
}

fn decode(framing: Framing, bytes: &[u8], ends: &[usize], limits: &Limits) -> Decoded {
    let mut decoder = BodyDecoder::new(framing);
    let (mut rx, mut decoded, mut from) = (BytesMut::new(), Decoded::default(), 0);
    for &end in ends {
        rx.extend_from_slice(&bytes[from..end]);
        from = end;
        while decoded.error.is_none() {
            match decoder.decode(&mut rx, limits) {
                Ok(Body::Data(n)) => {
                    assert!(n > 0 && n <= rx.len(), "data of {n} bytes");
                    decoded.data.extend_from_slice(&rx.split_to(n));
                }
                Ok(Body::Trailers(n)) => {
                    assert!(n >= 2 && decoder.is_done(), "a trailer section of {n} bytes");
                    decoded.trailers.extend_from_slice(&rx.split_to(n));
                }
                Ok(Body::NeedMore | Body::End) => break,
                Err(reason) => decoded.error = Some(reason),
            }
        }
    }
    decoded.done = decoder.is_done();
    assert!(!decoded.done || decoder.eof().is_ok(), "complete, and truncated");
    if decoded.done {
        decoded.rest = rx.to_vec();
    }
    decoded
}

/// A body is the same data and the same end, or the same error, in every cut; written again it is
/// the same body, for another reader too.
pub fn http1_body(data: &[u8]) {
    let (mut choose, bytes) = split(data);
    let limits = limits(&mut choose);
    let framing = match choose.below(8) {
        0 => Framing::None,
        1 => Framing::Length(choose.below(40) as u64),
        2 => Framing::UntilClose,
        _ => Framing::Chunked,
    };
    let whole = decode(framing, bytes, &[bytes.len()], &limits);
    let cut = decode(framing, bytes, &ends(&mut choose, bytes), &limits);
    assert_eq!(whole, cut, "whole and in pieces");
    if framing == Framing::Chunked && whole.done {
        written_body(&whole);
    }
}

fn written_body(decoded: &Decoded) {
    let mut out = BytesMut::from(&b"PUT / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n"[..]);
    for piece in decoded.data.chunks(300) {
        encode_chunk_start(&mut out, piece.len());
        out.extend_from_slice(piece);
        encode_chunk_end(&mut out);
    }
    let before = out.len();
    if encode_last_chunk(&mut out, &decoded.trailers).is_err() {
        assert_eq!(out.len(), before, "something is written of what is refused");
        return;
    }
    let mut reader = Reader::default();
    reader.feed(&out);
    let (mut data, mut ended) = (Vec::new(), false);
    while let Some(part) = reader.next(&mut wire::Head::framing).expect("well-formed") {
        match part {
            Part::Data(more) => data.extend(more),
            Part::End(trailers) => {
                ended = true;
                let framing = ["content-length", "transfer-encoding", "host", "connection"];
                let forbidden = |name: &str| framing.iter().any(|f| f.eq_ignore_ascii_case(name));
                assert!(!trailers.iter().any(|(name, _)| forbidden(name)), "{trailers:?}");
            }
            Part::Head(_) => {}
        }
    }
    assert!(ended && reader.rest().is_empty(), "one whole body");
    assert_eq!(data, decoded.data);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn good_bytes_are_taken() {
        sniff(b"\0\0\0\0GET / HTTP/1.1\r\n");
        http1_request(b"\0\0\0\0GET http://a?b HTTP/1.1\r\nHost: c\r\nTE: trailers\r\n\r\nrest");
        http1_response(b"\0\0\0\0HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabc");
        http1_body(b"\0\x03\0\x003;a=b\r\nabc\r\n0\r\nA: b\r\n\r\nrest");
    }
}
