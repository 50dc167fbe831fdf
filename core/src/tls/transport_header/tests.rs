use alloc::vec;
use alloc::vec::Vec;

use super::SessionProtocol::{Http1, Http2};
use super::*;

/// What a header says: port, name and session.
type Says = (u16, Option<&'static str>, Option<SessionProtocol>);

/// Messages as Python's protobuf 7.36.2 writes them, with what they say. We write the same.
const CANONICAL: &[(&[u8], Says)] = &[
    (b"\x08\x01", (1, None, None)),
    (b"\x08P", (80, None, None)),
    (b"\x08\x7f", (127, None, None)),
    (b"\x08\x80\x01", (128, None, None)),
    (b"\x08\xaf\x20", (4143, None, None)),
    (b"\x08\xff\xff\x03", (65_535, None, None)),
    (b"\x08\x90?\x1a\x02\x0a\x00", (8080, None, Some(Http1))),
    (b"\x08\x90?\x1a\x02\x12\x00", (8080, None, Some(Http2))),
    (b"\x08P\x12\x18web.ns.svc.cluster.local", (80, Some("web.ns.svc.cluster.local"), None)),
    (b"\x08\xbb\x03\x12\x0bweb.example\x1a\x02\x12\x00", {
        (443, Some("web.example"), Some(Http2))
    }),
];

/// Others that Python writes: with values that we do not take, or fields that we do not keep.
const FROM_PYTHON: &[(&[u8], Result<Says, Malformed>)] = &[
    // A session protocol without a kind.
    (b"\x08\x90?\x1a\x00", Ok((8080, None, None))),
    (b"\x08P\x12\x0cweb.example.", Ok((80, Some("web.example"), None))),
    (b"", Err(Malformed::Port)),
    (b"\x12\x03web", Err(Malformed::Port)),
    (b"\x08\x80\x80\x04", Err(Malformed::Port)),
    // -1, the least and the greatest int32.
    (b"\x08\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01", Err(Malformed::Port)),
    (b"\x08\x80\x80\x80\x80\xf8\xff\xff\xff\xff\x01", Err(Malformed::Port)),
    (b"\x08\xff\xff\xff\xff\x07", Err(Malformed::Port)),
    (b"\x08P\x12\x0810.0.0.1", Err(Malformed::Name)),
    (b"\x08P\x12\x06web:80", Err(Malformed::Name)),
    // A later version: fields of every type behind ours.
    (
        b"\x08P%\x01\0\0\0)\x02\0\0\0\0\0\0\x002\x01c8\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01\
          \xfa\xff\xff\xff\x0f\x04\x01\x02\xac\x02",
        Ok((80, None, None)),
    ),
    // … another kind of session, and something in one that we know.
    (b"\x08P\x1a\x05\x1a\x03\x0a\x01x", Ok((80, None, None))),
    (b"\x08P\x1a\x0b\x12\x07\x0a\x05laterH\x07", Ok((80, None, Some(Http2)))),
    // Three messages one after the other: they merge.
    (b"\x08\x01\x12\x01a\x08\x02\x1a\x02\x0a\x00\x12\x01b\x1a\x00", {
        Ok((2, Some("b"), Some(Http1)))
    }),
    // 2^32 + 80, which Python reads as 80, too.
    (b"\x08\xd0\x80\x80\x80\x10", Ok((80, None, None))),
];

/// What no protobuf library writes.
const MALFORMED: &[(&[u8], Malformed)] = &[
    (b"\x08", Malformed::Length),
    (b"\x08\x80", Malformed::Length),
    (b"\x08\xff\xff\xff\xff\xff\xff\xff\xff\xff\x02", Malformed::Varint),
    (b"\x08\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01", Malformed::Varint),
    (b"\x00\x01", Malformed::Tag),
    (b"\x08\x50\x07", Malformed::Tag),
    // Groups: start, and end.
    (b"\x08\x50\x23\x24", Malformed::Tag),
    (b"\x08\x50\x24", Malformed::Tag),
    (b"\x08\x50\x88\x80\x80\x80\x80\x01", Malformed::Tag),
    (b"\x08\x50\x12", Malformed::Length),
    (b"\x08\x50\x12\x04web", Malformed::Length),
    (b"\x08\x50\x12\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01", Malformed::Length),
    (b"\x08\x50\x25\x01\x02\x03", Malformed::Length),
    (b"\x08\x50\x29\x01\x02\x03\x04\x05\x06\x07", Malformed::Length),
    (b"\x0a\x01\x50", Malformed::WireType),
    (b"\x0d\x50\x00\x00\x00", Malformed::WireType),
    (b"\x08\x50\x10\x01", Malformed::WireType),
    (b"\x08\x50\x18\x01", Malformed::WireType),
    (b"\x08\x50\x1a\x02\x08\x01", Malformed::WireType),
    (b"\x08\x50\x1a\x02\x10\x01", Malformed::WireType),
    (b"\x08\x50\x1a\x02\x0a\x01", Malformed::Length),
    (b"\x08\x50\x1a\x03\x0a\x01\x00", Malformed::Tag),
    (b"\x08\x50\x1a\x04\x0a\x02\x00\x00", Malformed::Tag),
    (b"\x08\x50\x12\x02\xc3\x28", Malformed::Name),
    (b"\x08\x50\x12\x01.", Malformed::Name),
    (b"\x08\x50\x12\x03a\x00b", Malformed::Name),
];

/// `message` with what comes before it.
fn header(message: &[u8]) -> Vec<u8> {
    [PREFACE, &(message.len() as u32).to_be_bytes()[..], message].concat()
}

fn says(header: TransportHeader<'static>) -> Says {
    (header.port.get(), header.name, header.session)
}

fn decode(buf: &[u8]) -> Result<Option<(usize, Says)>, Malformed> {
    let decoded = TransportHeader::decode(buf.to_vec().leak())?;
    Ok(decoded.map(|(len, header)| (len, says(header))))
}

/// Both tables.
fn from_python() -> impl Iterator<Item = (&'static [u8], Result<Says, Malformed>)> {
    let canonical = CANONICAL.iter().map(|&(message, says)| (message, Ok(says)));
    canonical.chain(FROM_PYTHON.iter().copied())
}

#[test]
fn what_python_writes_is_read_at_every_cut() {
    for (message, expected) in from_python() {
        let input = header(message);
        for n in 0..input.len() {
            assert_eq!(decode(&input[..n]), Ok(None), "{} at {n}", message.escape_ascii());
        }
        let expected = expected.map(|says| Some((input.len(), says)));
        // What follows belongs to the connection.
        for after in [&b""[..], b"\0", b"SSH-2.0-OpenSSH_9.6\r\n", PREFACE] {
            let input = [&input[..], after].concat();
            assert_eq!(decode(&input), expected, "{}", message.escape_ascii());
        }
    }
}

#[test]
fn what_is_malformed_has_its_reason() {
    for (message, reason) in MALFORMED {
        let input = header(message);
        assert_eq!(decode(&input), Err(*reason), "{}", message.escape_ascii());
        assert_eq!(decode(&input[..input.len() - 1]), Ok(None));
    }
}

#[test]
fn what_we_write_is_what_python_writes() {
    for &(message, (port, name, session)) in CANONICAL {
        let port = NonZeroU16::new(port).expect("a port");
        let mut out = BytesMut::from("before");
        TransportHeader { port, name, session }.encode(&mut out);
        let expected = [&b"before"[..], &header(message)].concat();
        assert_eq!(out, expected, "{}", message.escape_ascii());
    }
}

#[test]
fn another_beginning_is_refused_at_its_first_byte() {
    for at in 0..PREFACE.len() {
        let mut input = header(b"\x08\x50");
        input[at] ^= 0x20;
        assert_eq!(decode(&input[..at]), Ok(None));
        assert_eq!(decode(&input[..=at]), Err(Malformed::Preface), "at {at}");
    }
    // An HTTP/2 preface, and a newer version.
    assert_eq!(decode(b"PRI * HTTP/2.0\r\n\r\n"), Err(Malformed::Preface));
    assert_eq!(decode(b"transport.l5d.io/v2\r\n\r\n"), Err(Malformed::Preface));
}

#[test]
fn the_limit_is_where_it_is_said() {
    let most = MAX_BYTES - PREFACE.len() - 4;
    // An unknown field that fills it.
    let mut message = vec![0x08, 0x50, 0x22];
    message.extend([0xe0, 0xff, 0x03]);
    message.resize(most, b'x');
    let length = most - 6;
    let varint = [length as u8 | 0x80, (length >> 7) as u8 | 0x80, (length >> 14) as u8];
    message[3..6].copy_from_slice(&varint);
    let input = header(&message);
    assert_eq!(input.len(), MAX_BYTES);
    assert_eq!(decode(&input), Ok(Some((MAX_BYTES, (80, None, None)))));
    for length in [most as u32 + 1, 1 << 24, u32::MAX] {
        let start = [PREFACE, &length.to_be_bytes()[..]].concat();
        assert_eq!(decode(&start[..start.len() - 1]), Ok(None));
        assert_eq!(decode(&start), Err(Malformed::TooLarge));
    }
}

#[test]
fn every_byte_in_every_place_is_read_without_a_panic() {
    for (message, _) in FROM_PYTHON
        .iter()
        .chain(&[(&b"\x08P\x1a\x04\x0a\x02\x08\x01"[..], { Ok((80, None, Some(Http1))) })])
    {
        for at in 0..message.len() {
            for byte in 0..=u8::MAX {
                let mut message = message.to_vec();
                message[at] = byte;
                let input = header(&message);
                assert_ne!(decode(&input), Ok(None), "it is complete");
            }
        }
    }
}
