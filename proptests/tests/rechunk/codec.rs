//! A stream of messages through the codec.

use bytes::BytesMut;
use selvedge_core::error::Reason;
use selvedge_core::http::Scratch;
use selvedge_core::http1::{
    Body, BodyDecoder, Framing, HeadScanner, ResponseTo, receive_request, receive_response,
};
use selvedge_core::limits::Limits;

/// What a response answers.
pub(crate) const KINDS: [ResponseTo; 3] = [
    ResponseTo { is_head: false, is_connect: false },
    ResponseTo { is_head: true, is_connect: false },
    ResponseTo { is_head: false, is_connect: true },
];

pub(crate) fn limits(small: bool) -> Limits {
    if !small {
        return Limits::default();
    }
    Limits { header_count: 5, header_bytes: 300, target_bytes: 30, ..Limits::default() }
}

/// A step of the trace. How data is cut is not part of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    Head(String),
    Data(Vec<u8>),
    Trailers(Vec<u8>),
    End,
    Refused(Reason),
    /// The connection ends, and the message may.
    Eof {
        is_complete: bool,
    },
}

/// What the codec makes of a client's bytes.
pub(crate) fn requests(pieces: &[&[u8]], limits: &Limits) -> Vec<Step> {
    run(pieces, limits, |scanner, rx| {
        let mut scratch = Scratch::default();
        let Some((len, request)) = receive_request(scanner, rx, &mut scratch, limits)? else {
            return Ok(None);
        };
        let fields: Vec<_> = request.head.fields.iter().collect();
        let facts = (request.keep_alive, request.expect_continue, request.upgrade, request.is_head);
        let head = (request.head.method, request.head.target, request.authority);
        Ok(Some((len, format!("{head:?} {facts:?} {fields:?}"), request.framing)))
    })
}

/// What it makes of a server's.
pub(crate) fn responses(pieces: &[&[u8]], limits: &Limits, to: ResponseTo) -> Vec<Step> {
    run(pieces, limits, |scanner, rx| {
        let mut scratch = Scratch::default();
        let Some((len, response)) = receive_response(scanner, rx, &mut scratch, limits, to)? else {
            return Ok(None);
        };
        let fields: Vec<_> = response.head.fields.iter().collect();
        let facts = (response.keep_alive, response.announced, response.upgrade);
        let head = (response.head.status, response.head.reason);
        Ok(Some((len, format!("{head:?} {facts:?} {fields:?}"), response.framing)))
    })
}

type Received = Result<Option<(usize, String, Framing)>, Reason>;

fn run(
    pieces: &[&[u8]],
    limits: &Limits,
    mut receive: impl FnMut(&mut HeadScanner, &[u8]) -> Received,
) -> Vec<Step> {
    let (mut rx, mut steps) = (BytesMut::new(), Vec::new());
    let (mut scanner, mut body) = (HeadScanner::default(), None::<BodyDecoder>);
    for piece in pieces {
        rx.extend_from_slice(piece);
        loop {
            let Some(decoder) = &mut body else {
                match receive(&mut scanner, &rx) {
                    Ok(None) => break,
                    Err(reason) => return [steps, vec![Step::Refused(reason)]].concat(),
                    Ok(Some((len, head, framing))) => {
                        let _ = rx.split_to(len);
                        steps.push(Step::Head(format!("{head} {framing:?}")));
                        body = Some(BodyDecoder::new(framing));
                    }
                }
                continue;
            };
            match decoder.decode(&mut rx, limits) {
                Ok(Body::NeedMore) => break,
                Ok(Body::Data(n)) => data(&mut steps, &rx.split_to(n)),
                Ok(Body::Trailers(n)) => steps.push(Step::Trailers(rx.split_to(n).to_vec())),
                Ok(Body::End) => {
                    steps.push(Step::End);
                    (scanner, body) = (HeadScanner::default(), None);
                }
                Err(reason) => return [steps, vec![Step::Refused(reason)]].concat(),
            }
        }
    }
    let is_complete = body.map_or(rx.is_empty(), |decoder| decoder.eof().is_ok());
    steps.push(Step::Eof { is_complete });
    steps
}

fn data(steps: &mut Vec<Step>, more: &[u8]) {
    match steps.last_mut() {
        Some(Step::Data(data)) => data.extend_from_slice(more),
        _ => steps.push(Step::Data(more.to_vec())),
    }
}
