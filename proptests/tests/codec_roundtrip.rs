//! The codec against itself and against two readers that share nothing with its encoder: what is
//! parsed and written again means what it meant, and nothing that was for one hop gets through.

use bytes::BytesMut;
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;
use selvedge_core::http::{Scratch, Version};
use selvedge_core::http1::{
    Body, BodyDecoder, ConnectionOption, Framing, HeadKind, HeadScanner, RequestRewrite,
    ResponseRewrite, ResponseTo, encode_chunk_end, encode_chunk_start, encode_last_chunk,
    encode_request, encode_response, parse_request, parse_response,
};
use selvedge_core::limits::Limits;
use selvedge_proptests::traffic::wire::{self, Part, Reader, show};

type Field = (String, Vec<u8>);

/// Names that mean something to a proxy, in a field that goes end to end, would change the message:
/// they are left to the lists below.
const KNOWN: [&str; 15] = [
    "connection",
    "content-length",
    "content-type",
    "expect",
    "grpc-status",
    "host",
    "http2-settings",
    "keep-alive",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "x-nominated",
    "x-other",
];

/// What stays on one hop.
const HOP: [&str; 5] =
    ["connection", "keep-alive", "proxy-connection", "http2-settings", "x-nominated"];

fn name() -> impl Strategy<Value = String> {
    "[a-zA-Z0-9!#$%&'*+.^_`|~-]{1,20}"
        .prop_filter("known", |name| !KNOWN.iter().any(|known| known.eq_ignore_ascii_case(name)))
}

/// Without whitespace at its ends.
fn value() -> impl Strategy<Value = Vec<u8>> {
    let byte = prop_oneof![8 => 0x21_u8..0x7f, 1 => 0x80_u8..=0xff, 2 => select(vec![b' ', b'\t'])];
    vec(byte, 0..40).prop_map(|bytes| bytes.trim_ascii().to_vec())
}

fn whitespace() -> impl Strategy<Value = &'static [u8]> {
    select(vec![&b" "[..], b"", b"  ", b"\t", b" \t "])
}

/// A field line as it is sent, and the field.
fn field() -> impl Strategy<Value = (Vec<u8>, Field)> {
    (name(), whitespace(), value(), whitespace()).prop_map(|(name, before, value, after)| {
        let after: &[u8] = if value.is_empty() { b"" } else { after };
        let line = [name.as_bytes(), b":", before, &value, after, b"\r\n"].concat();
        (line, (name, value))
    })
}

/// Lines that must not get through.
fn hop_lines() -> impl Strategy<Value = Vec<&'static str>> {
    vec(
        select(vec![
            "Connection: x-nominated\r\n",
            "connection: ,X-NOMINATED , keep-alive,\r\n",
            "X-Nominated: secret\r\n",
            "Keep-Alive: timeout=1\r\n",
            "Proxy-Connection: close\r\n",
            "HTTP2-Settings: AAA\r\n",
        ]),
        0..4,
    )
    // What is nominated is, by somebody.
    .prop_map(|mut lines| {
        if lines.iter().any(|line| line.starts_with("X-N")) {
            lines.push("Connection: X-nominated\r\n");
        }
        lines
    })
}

#[derive(Clone, Debug)]
struct Message {
    /// The head as it is sent.
    head: Vec<u8>,
    /// What goes end to end, in order.
    fields: Vec<Field>,
    framing: Framing,
}

/// A header section; `own` comes first.
fn section(own: Vec<Field>) -> impl Strategy<Value = Message> {
    let framing = prop_oneof![
        Just(Framing::None),
        (0..=i64::MAX as u64).prop_map(Framing::Length),
        Just(Framing::Chunked),
    ];
    (vec(field(), 0..8), hop_lines(), framing, any::<u64>()).prop_map(
        move |(fields, hops, framing, order)| {
            let own = own.iter().map(|(name, value)| {
                let line = [name.as_bytes(), b": ", value, b"\r\n"].concat();
                (line, Some((name.clone(), value.clone())))
            });
            let kept = fields.into_iter().map(|(line, field)| (line, Some(field)));
            let hops = hops.into_iter().map(|line| (line.as_bytes().to_vec(), None));
            let length = match framing {
                Framing::Length(length) => Some(format!("Content-Length: {length}\r\n")),
                Framing::Chunked => Some("Transfer-Encoding: Chunked\r\n".to_owned()),
                _ => None,
            };
            let length = length.into_iter().map(|line| (line.into_bytes(), None));
            let mut lines: Vec<_> = own.chain(kept).chain(hops).chain(length).collect();
            let len = lines.len().max(1);
            lines.rotate_left(order as usize % len);
            let head = lines.iter().map(|(line, _)| &line[..]).collect::<Vec<_>>().concat();
            let fields = lines.into_iter().filter_map(|(_, field)| field).collect();
            Message { head, fields, framing }
        },
    )
}

fn request() -> impl Strategy<Value = (String, String, Message)> {
    let method = prop_oneof![
        select(vec!["GET", "POST", "HEAD", "PUT"]).prop_map(str::to_owned),
        "[A-Z!#$%&'*+.^_`|~-]{1,12}".prop_filter("a form of its own", |method| {
            method != "CONNECT" && method != "OPTIONS"
        }),
    ];
    let target = "/[a-zA-Z0-9/?&=%._~:@!$'()*+,;-]{0,40}";
    let host = vec![("Host".to_owned(), b"web.example:81".to_vec())];
    (method, target, section(host))
}

fn response() -> impl Strategy<Value = (u16, String, Message)> {
    (200_u16..=999, "[ -~\t]{0,20}", section(Vec::new()))
}

/// All fields, the framing ones left out; and what the framing ones say.
fn split(head: &wire::Head) -> (Vec<Field>, wire::Framing) {
    let frames = |name: &str| {
        name.eq_ignore_ascii_case("content-length")
            || name.eq_ignore_ascii_case("transfer-encoding")
    };
    let fields = head.fields.iter().filter(|(name, _)| !frames(name)).cloned().collect();
    (fields, head.framing().expect("framed once"))
}

fn same(framing: Framing) -> wire::Framing {
    match framing {
        Framing::Length(length) => wire::Framing::Length(length),
        Framing::Chunked => wire::Framing::Chunked,
        Framing::None | Framing::UntilClose => wire::Framing::UntilClose,
    }
}

/// The one head in `bytes`, by our own reader.
fn read_head(bytes: &[u8]) -> wire::Head {
    let mut reader = Reader::default();
    reader.feed(bytes);
    match reader.next(&mut |_| Ok(wire::Framing::Nothing)) {
        Ok(Some(Part::Head(head))) if reader.rest().is_empty() => head,
        other => panic!("{other:?}: {}", show(bytes)),
    }
}

proptest! {
    #[test]
    fn a_request_is_parsed_and_written_as_it_was((method, target, message) in request()) {
        let limits = Limits::default();
        let head = [format!("{method} {target} HTTP/1.1\r\n").as_bytes(), &message.head, b"\r\n"].concat();
        let end = HeadScanner::default().scan(&head, HeadKind::Request, &limits);
        prop_assert_eq!(end, Ok(Some(head.len())));
        let mut scratch = Scratch::default();
        let parsed = parse_request(&head, &mut scratch, &limits).expect("honest");
        prop_assert_eq!(parsed.head.method, method.as_bytes());
        prop_assert_eq!(parsed.head.target, target.as_bytes());
        prop_assert_eq!(parsed.head.version, Version::Http11);
        prop_assert_eq!(parsed.framing, message.framing);
        prop_assert_eq!(parsed.authority, Some(&b"web.example:81"[..]));
        let mut out = BytesMut::new();
        let rewrite = RequestRewrite { host: b"web.example:81", absolute: false, upgrade: false };
        encode_request(&mut out, &parsed, &rewrite);

        let written = read_head(&out);
        prop_assert_eq!(&written.line, &format!("{method} {target} HTTP/1.1").into_bytes());
        let (fields, framing) = split(&written);
        prop_assert_eq!(&fields, &message.fields);
        prop_assert_eq!(framing, same(message.framing));
        prop_assert!(!fields.iter().any(|(name, _)| HOP.iter().any(|hop| hop.eq_ignore_ascii_case(name))));
        // Another reader sees the same.
        let mut headers = [httparse::EMPTY_HEADER; 64];
        let mut other = httparse::Request::new(&mut headers);
        prop_assert_eq!(other.parse(&out), Ok(httparse::Status::Complete(out.len())));
        prop_assert_eq!((other.method, other.path), (Some(&method[..]), Some(&target[..])));
        let seen: Vec<Field> =
            other.headers.iter().map(|field| (field.name.to_owned(), field.value.to_vec())).collect();
        prop_assert_eq!(seen, written.fields);
        // And written once more it is the same to the byte.
        let mut scratch = Scratch::default();
        let again = parse_request(&out, &mut scratch, &limits).expect("as we write it");
        let mut twice = BytesMut::new();
        encode_request(&mut twice, &again, &rewrite);
        prop_assert_eq!(out, twice);
    }

    #[test]
    fn a_response_is_parsed_and_written_as_it_was((status, phrase, message) in response()) {
        let limits = Limits::default();
        let head = [format!("HTTP/1.1 {status} {phrase}\r\n").as_bytes(), &message.head, b"\r\n"].concat();
        let mut scratch = Scratch::default();
        let parsed = parse_response(&head, &mut scratch, &limits, ResponseTo::default()).expect("honest");
        let bodiless = matches!(status, 204 | 304);
        let framing = match message.framing {
            _ if bodiless => Framing::None,
            Framing::None => Framing::UntilClose,
            framing => framing,
        };
        prop_assert_eq!((parsed.head.status, parsed.framing), (status, framing));
        let mut out = BytesMut::new();
        let connection = ConnectionOption::Nothing;
        let rewrite = ResponseRewrite { client: Version::Http11, connection, framing };
        encode_response(&mut out, &parsed, &rewrite);

        let written = read_head(&out);
        prop_assert_eq!(written.status(), status);
        let (fields, written_framing) = split(&written);
        prop_assert_eq!(&fields, &message.fields);
        let announced = match (status, message.framing) {
            // It has no body to speak of (RFC 9110 §8.6).
            (204, _) => wire::Framing::UntilClose,
            (_, framing) => same(framing),
        };
        prop_assert_eq!(written_framing, announced);
        let mut headers = [httparse::EMPTY_HEADER; 64];
        let mut other = httparse::Response::new(&mut headers);
        prop_assert_eq!(other.parse(&out), Ok(httparse::Status::Complete(out.len())));
        prop_assert_eq!(other.code, Some(status));
        let seen: Vec<Field> =
            other.headers.iter().map(|field| (field.name.to_owned(), field.value.to_vec())).collect();
        prop_assert_eq!(seen, written.fields);
    }

    #[test]
    fn chunks_are_read_as_they_were_written(
        pieces in vec(vec(any::<u8>(), 1..100), 0..6),
        trailers in vec(field(), 0..4),
        cuts in vec(0_usize..800, 0..6),
    ) {
        let mut out = BytesMut::new();
        for piece in &pieces {
            encode_chunk_start(&mut out, piece.len());
            out.extend_from_slice(piece);
            encode_chunk_end(&mut out);
        }
        let section = trailers.iter().map(|(line, _)| &line[..]).chain([&b"\r\n"[..]]);
        let section = section.collect::<Vec<_>>().concat();
        let dropped = encode_last_chunk(&mut out, &section).expect("honest");
        // Our own reader …
        let mut reader = Reader::default();
        reader.feed(&[b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n", &out[..]].concat());
        let (mut data, mut end) = (Vec::new(), None);
        while let Some(part) = reader.next(&mut wire::Head::framing).expect("well-formed") {
            match part {
                Part::Data(more) => data.extend(more),
                Part::End(trailers) => end = Some(trailers),
                Part::Head(_) => {}
            }
        }
        prop_assert_eq!(&data, &pieces.concat());
        prop_assert_eq!(end.map(|end| end.len() + dropped), Some(trailers.len()));
        // … and the decoder, in any cut.
        let limits = Limits::default();
        let mut decoder = BodyDecoder::new(Framing::Chunked);
        let (mut rx, mut decoded) = (BytesMut::new(), Vec::new());
        let mut cuts: Vec<usize> = cuts.into_iter().map(|cut| cut.min(out.len())).collect();
        cuts.extend([0, out.len()]);
        cuts.sort_unstable();
        for pair in cuts.windows(2) {
            rx.extend_from_slice(&out[pair[0]..pair[1]]);
            loop {
                match decoder.decode(&mut rx, &limits).expect("well-formed") {
                    Body::Data(n) => decoded.extend_from_slice(&rx.split_to(n)),
                    Body::Trailers(n) => drop(rx.split_to(n)),
                    Body::NeedMore | Body::End => break,
                }
            }
        }
        prop_assert!(decoder.is_done() && rx.is_empty());
        prop_assert_eq!(decoded, data);
    }
}
