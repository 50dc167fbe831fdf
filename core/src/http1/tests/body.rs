use std::vec;

use bytes::Buf;

use super::*;

/// What a body turned out to be: data, trailer section, what is left in the buffer.
type Decoded = Result<(String, Option<String>, String), Reason>;

/// Decodes bytes that arrive in pieces which end at `cuts`, and then whole. `Err`: more is needed.
fn decode(framing: Framing, bytes: &[u8], cuts: &[usize]) -> Result<Decoded, BodyDecoder> {
    let limits = Limits::default();
    let mut decoder = BodyDecoder::new(framing);
    let (mut data, mut trailers) = (Vec::new(), None);
    let mut buf = BytesMut::new();
    let mut start = 0;
    for end in cuts.iter().copied().chain([bytes.len()]) {
        buf.extend_from_slice(&bytes[start..end]);
        start = end;
        loop {
            match decoder.decode(&mut buf, &limits) {
                Err(reason) => return Ok(Err(reason)),
                Ok(Body::NeedMore) => break,
                Ok(Body::Data(n)) => {
                    assert!(n > 0);
                    data.extend_from_slice(&buf.split_to(n));
                }
                Ok(Body::Trailers(n)) => {
                    assert!(decoder.is_done());
                    trailers = Some(show(&buf.split_to(n)));
                }
                Ok(Body::End) => {
                    assert!(decoder.is_done());
                    assert_eq!(decoder.eof(), Ok(()));
                    buf.extend_from_slice(&bytes[start..]);
                    return Ok(Ok((show(&data), trailers, show(&buf))));
                }
            }
        }
        assert!(!decoder.is_done());
    }
    Err(decoder)
}

/// The same for the whole, every cut in two and byte by byte.
fn every_way(framing: Framing, bytes: &[u8]) -> Decoded {
    let finish = |cuts: &[usize]| {
        decode(framing, bytes, cuts).unwrap_or_else(|_| panic!("unfinished: {}", show(bytes)))
    };
    let whole = finish(&[]);
    for cut in 1..bytes.len() {
        assert_eq!(finish(&[cut]), whole, "cut at {cut}: {}", show(bytes));
    }
    let each: Vec<usize> = (1..bytes.len()).collect();
    assert_eq!(finish(&each), whole, "byte by byte: {}", show(bytes));
    whole
}

#[allow(clippy::unnecessary_wraps, reason = "it is compared with what decoding returns")]
fn decoded(data: &str, trailers: Option<&str>, rest: &str) -> Decoded {
    Ok((data.into(), trailers.map(Into::into), rest.into()))
}

#[test]
fn every_cut_in_three_decodes_a_chunked_body_alike() {
    let bytes =
        b"4;x=\"y\\\"\"\r\nWiki\r\n0B \t;z\r\n\r\n\0pedia..\n\r\n000;q\r\nX: y\r\n\r\nGET /";
    let whole = every_way(Framing::Chunked, bytes);
    assert_eq!(whole, decoded(r"Wiki\r\n\x00pedia..\n", Some(r"X: y\r\n\r\n"), "GET /"));
    for first in 1..bytes.len() - 1 {
        for second in first + 1..bytes.len() {
            let Ok(got) = decode(Framing::Chunked, bytes, &[first, second]) else {
                panic!("unfinished: {first} {second}");
            };
            assert_eq!(got, whole, "{first} {second}");
        }
    }
}

#[test]
fn well_formed_chunk_lines_are_taken() {
    for (line, size) in [
        ("1", 1),
        ("a", 10),
        ("A", 10),
        ("0000000000000010", 16),
        ("1;x", 1),
        ("1;x;y", 1),
        ("1 ;x", 1),
        ("1\t; x", 1),
        ("1; x = y", 1),
        ("1;x=y;z", 1),
        ("1;x=\"\"", 1),
        ("1;x=\";=,\t\\\"\\\\\" ;y", 1),
        ("1;x=\"\u{fc}\"", 1),
        ("1;!#$%&'*+-.^_`|~=9", 1),
    ] {
        let body = "x".repeat(size);
        let bytes = format!("{line}\r\n{body}\r\n0\r\n\r\n");
        let got = every_way(Framing::Chunked, bytes.as_bytes());
        assert_eq!(got, decoded(&body, Some(r"\r\n"), ""), "{line}");
        let last = format!("0{}\r\n\r\n", line.trim_start_matches(|c: char| c.is_alphanumeric()));
        let got = every_way(Framing::Chunked, last.as_bytes());
        assert_eq!(got, decoded("", Some(r"\r\n"), ""), "{last}");
    }
}

#[test]
fn malformed_chunks_are_refused_alike_however_they_are_cut() {
    for (bytes, reason) in [
        (&b"\r\n"[..], Reason::ChunkSize),
        (b"\r\n1\r\na\r\n0\r\n\r\n", Reason::ChunkSize),
        (b" 1\r\na\r\n0\r\n\r\n", Reason::ChunkSize),
        (b"\t1\r\n", Reason::ChunkSize),
        (b"-1\r\n", Reason::ChunkSize),
        (b"+1\r\n", Reason::ChunkSize),
        (b"0x1\r\n", Reason::ChunkSize),
        (b"1h\r\n", Reason::ChunkSize),
        (b"g\r\n", Reason::ChunkSize),
        (b"1_0\r\n", Reason::ChunkSize),
        (b"1.0\r\n", Reason::ChunkSize),
        (b"1,\r\n", Reason::ChunkSize),
        (b"\"1\"\r\n", Reason::ChunkSize),
        (b";x\r\n", Reason::ChunkSize),
        (b"\0\r\n", Reason::ChunkSize),
        (b"1\0\r\n", Reason::ChunkSize),
        (b"1\xb2\r\n", Reason::ChunkSize),
        (b"00000000000000001\r\n", Reason::ChunkSize),
        (b"10000000000000000\r\n", Reason::ChunkSize),
        (b"fffffffffffffffff\r\n", Reason::ChunkSize),
        (b"1 \r\n", Reason::ChunkExtension),
        (b"1 1\r\n", Reason::ChunkExtension),
        (b"1;\r\n", Reason::ChunkExtension),
        (b"1; \r\n", Reason::ChunkExtension),
        (b"1;;x\r\n", Reason::ChunkExtension),
        (b"1;x \r\n", Reason::ChunkExtension),
        (b"1;x y\r\n", Reason::ChunkExtension),
        (b"1;x=\r\n", Reason::ChunkExtension),
        (b"1;x= ;\r\n", Reason::ChunkExtension),
        (b"1;=y\r\n", Reason::ChunkExtension),
        (b"1;x=y=z\r\n", Reason::ChunkExtension),
        (b"1;x=y z\r\n", Reason::ChunkExtension),
        (b"1;x==y\r\n", Reason::ChunkExtension),
        (b"1;x=\"y\r\n", Reason::ChunkExtension),
        (b"1;x=\"y\\\r\n", Reason::ChunkExtension),
        (b"1;x=\"y\"z\r\n", Reason::ChunkExtension),
        (b"1;x=\"y\"=\r\n", Reason::ChunkExtension),
        (b"1;x=y\"z\"\r\n", Reason::ChunkExtension),
        (b"1;x=\"\0\"\r\n", Reason::ChunkExtension),
        (b"1;x=\"\x7f\"\r\n", Reason::ChunkExtension),
        (b"1;x=\"\\\0\"\r\n", Reason::ChunkExtension),
        (b"1;\0\r\n", Reason::ChunkExtension),
        (b"1;x,y\r\n", Reason::ChunkExtension),
        (b"1;\xfc\r\n", Reason::ChunkExtension),
        (b"1\n", Reason::BareLf),
        (b"1;x\n", Reason::BareLf),
        (b"1;x=\"\n\"\r\n", Reason::BareLf),
        (b"\n", Reason::BareLf),
        (b"1\ra\r\n", Reason::BareCr),
        (b"1\r\r\n", Reason::BareCr),
        (b"1;x\ry\r\n", Reason::BareCr),
        (b"1\r\nab\r\n0\r\n\r\n", Reason::ChunkEnd),
        (b"1\r\na0\r\n\r\n", Reason::ChunkEnd),
        (b"1\r\na\n0\r\n\r\n", Reason::ChunkEnd),
        (b"1\r\na\r0\r\n\r\n", Reason::ChunkEnd),
        (b"1\r\na\r\n\r\n0\r\n\r\n", Reason::ChunkSize),
        (b"0\r\nX: y\n\r\n", Reason::BareLf),
        (b"0\r\n\n", Reason::BareLf),
        (b"0\r\n\rX", Reason::BareCr),
        (b"0\r\nX: y\r\n z\r\n\r\n", Reason::ObsoleteFold),
        (b"0\r\n X: y\r\n\r\n", Reason::ObsoleteFold),
        (b"0\r\nX: \0\r\n\r\n", Reason::Nul),
        (b"0\r\nX\x01: y\r\n\r\n", Reason::ControlCharacter),
    ] {
        assert_eq!(every_way(Framing::Chunked, bytes), Err(reason), "{}", show(bytes));
        let second = [&b"1\r\n.\r\n"[..], bytes].concat();
        assert_eq!(every_way(Framing::Chunked, &second), Err(reason), "{}", show(&second));
    }
}

/// Is this a chunk-size line without its CRLF? By recursive descent over the ABNF of RFC 9112
/// §7.1 and §7.1.1. Returns the size.
fn model(line: &[u8]) -> Option<u64> {
    let digits = line.iter().take_while(|byte| byte.is_ascii_hexdigit()).count();
    let size = u64::from_str_radix(core::str::from_utf8(&line[..digits]).ok()?, 16).ok()?;
    let mut rest = &line[digits..];
    let token = |bytes: &[u8]| {
        bytes.iter().take_while(|&&byte| crate::http::grammar::is_tchar(byte)).count()
    };
    while !rest.is_empty() {
        rest = bws(rest).strip_prefix(b";")?;
        rest = bws(rest);
        let name = token(rest);
        if name == 0 {
            return None;
        }
        rest = &rest[name..];
        let Some(value) = bws(rest).strip_prefix(b"=") else { continue };
        let value = bws(value);
        rest = match value.strip_prefix(b"\"") {
            Some(quoted) => end_of_quoted(quoted)?,
            None if token(value) == 0 => return None,
            None => &value[token(value)..],
        };
    }
    Some(size)
}

fn bws(bytes: &[u8]) -> &[u8] {
    bytes.trim_ascii_start()
}

fn end_of_quoted(bytes: &[u8]) -> Option<&[u8]> {
    match bytes {
        [b'"', rest @ ..] => Some(rest),
        [b'\\', _, rest @ ..] | [_, rest @ ..] => end_of_quoted(rest),
        [] => None,
    }
}

#[test]
fn every_short_chunk_line_is_judged_by_the_grammar() {
    const ALPHABET: &[u8] = b"0a ;=\"\\x";
    let mut accepted = 0;
    let mut line = Vec::new();
    for len in 0..=6u32 {
        for number in 0..ALPHABET.len().pow(len) {
            line.clear();
            let mut left = number;
            for _ in 0..len {
                line.push(ALPHABET[left % ALPHABET.len()]);
                left /= ALPHABET.len();
            }
            let mut buf = BytesMut::from(&line[..]);
            buf.extend_from_slice(b"\r\n.");
            let got = BodyDecoder::new(Framing::Chunked).decode(&mut buf, &Limits::default());
            let taken = match got {
                Ok(Body::Data(1)) => true,
                Ok(Body::NeedMore) => false,
                Err(_) => {
                    assert_eq!(model(&line), None, "{}", show(&line));
                    continue;
                }
                other => panic!("{other:?}: {}", show(&line)),
            };
            accepted += 1;
            assert_eq!(model(&line).map(|size| size > 0), Some(taken), "{}", show(&line));
        }
    }
    assert!(accepted > 1_000, "{accepted}");
}

#[test]
fn extensions_are_bounded_and_sizes_fill_64_bits() {
    let limits = Limits::default();
    let line = |len: usize| format!("1;{}\r\nx\r\n0\r\n\r\n", "a".repeat(len - 1));
    let most = Limits::CHUNK_EXTENSION_BYTES;
    // The CR that ends the extension must still fit.
    let good = every_way(Framing::Chunked, line(most - 1).as_bytes());
    assert_eq!(good, decoded("x", Some(r"\r\n"), ""));
    assert_eq!(every_way(Framing::Chunked, line(most).as_bytes()), Err(Reason::ChunkExtension));
    let mut buf = BytesMut::from(&b"FFFFffffFFFFffff\r\nabc"[..]);
    let mut decoder = BodyDecoder::new(Framing::Chunked);
    assert_eq!(decoder.decode(&mut buf, &limits), Ok(Body::Data(3)));
    buf.advance(3);
    assert_eq!(decoder.decode(&mut buf, &limits), Ok(Body::NeedMore));
    assert_eq!(decoder.eof(), Err(Truncated));
}

#[test]
fn trailers_obey_the_limits_of_heads() {
    let limits = Limits { header_count: 2, header_bytes: 20, ..Limits::default() };
    for (trailers, expected) in [
        ("a: b\r\nc: d\r\n\r\n", Ok(Body::Trailers(14))),
        ("a: b\r\nc: d\r\ne: f\r\n\r\n", Err(Reason::TooManyFields)),
        ("a: 0123456789\r\n\r\n", Ok(Body::Trailers(17))),
        ("a: 0123456789abcdef\r\n\r\n", Err(Reason::HeadTooLarge)),
    ] {
        let mut buf = BytesMut::from(format!("0\r\n{trailers}").as_bytes());
        let got = BodyDecoder::new(Framing::Chunked).decode(&mut buf, &limits);
        assert_eq!(got, expected, "{trailers}");
    }
}

#[test]
fn a_length_is_kept_to_the_byte() {
    assert_eq!(every_way(Framing::Length(5), b"helloGET"), decoded("hello", None, "GET"));
    assert_eq!(every_way(Framing::Length(0), b"GET"), decoded("", None, "GET"));
    assert_eq!(every_way(Framing::None, b"GET"), decoded("", None, "GET"));
    let Err(decoder) = decode(Framing::Length(6), b"hello", &[2]) else { panic!("complete") };
    assert_eq!(decoder.eof(), Err(Truncated));
    assert!(BodyDecoder::new(Framing::Length(0)).is_done());
    assert!(BodyDecoder::new(Framing::None).is_done());
}

#[test]
fn until_close_takes_everything_and_ends_well() {
    let mut decoder = BodyDecoder::new(Framing::UntilClose);
    let mut buf = BytesMut::from(&b"0\r\n\r\n"[..]);
    assert_eq!(decoder.decode(&mut buf, &Limits::default()), Ok(Body::Data(5)));
    buf.clear();
    assert_eq!(decoder.decode(&mut buf, &Limits::default()), Ok(Body::NeedMore));
    assert!(!decoder.is_done());
    assert_eq!(decoder.eof(), Ok(()));
}

#[test]
fn a_chunked_body_cut_short_is_truncated_wherever_it_is() {
    let bytes = b"3;x=\"y\"\r\nabc\r\n0\r\nX: y\r\n\r\n";
    for end in 0..bytes.len() {
        let Err(decoder) = decode(Framing::Chunked, &bytes[..end], &[]) else {
            panic!("complete at {end}");
        };
        assert_eq!(decoder.eof(), Err(Truncated), "{end}");
    }
}

#[test]
fn what_was_encoded_in_chunks_is_decoded() {
    let mut dice = Dice(3);
    for _ in 0..200 {
        let (mut out, mut data) = (BytesMut::new(), Vec::new());
        for _ in 0..dice.roll(5) {
            let piece = vec![b'0' + dice.roll(10) as u8; 1 + dice.roll(300)];
            encode_chunk_start(&mut out, piece.len());
            out.extend_from_slice(&piece);
            encode_chunk_end(&mut out);
            data.extend_from_slice(&piece);
        }
        assert_eq!(encode_last_chunk(&mut out, b"X: y\r\n\r\n"), Ok(0));
        let cuts = [dice.roll(out.len()), out.len() - 1];
        let Ok(got) = decode(Framing::Chunked, &out, &cuts) else { panic!("unfinished") };
        assert_eq!(got, decoded(&show(&data), Some(r"X: y\r\n\r\n"), ""));
    }
}
