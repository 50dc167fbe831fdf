//! What must hold of the transport header whatever the bytes are.

use std::num::NonZeroU16;

use bytes::BytesMut;
use selvedge_core::tls::TransportHeader;
use selvedge_core::tls::transport_header::{MAX_BYTES, Malformed, SessionProtocol};

use crate::choose::{Bytes, Choose, pick};

/// What a header says, and how long it is; `None`: it is not complete.
type Says<'a> = Result<Option<(usize, TransportHeader<'a>)>, Malformed>;

/// Fuzzes the decoder and the encoder: the first byte says which.
///
/// # Panics
/// If something does not hold.
pub fn transport_header(data: &[u8]) {
    match data.split_first() {
        Some((0..128, bytes)) => decode(bytes),
        Some((_, choices)) => round_trip(&mut Bytes::new(choices)),
        None => {}
    }
}

/// A header is waited for, then read or refused, wherever it is cut; what it says can be said again.
fn decode(bytes: &[u8]) {
    let whole = TransportHeader::decode(bytes);
    let mut decided: Says<'_> = Ok(None);
    for end in 0..=bytes.len().min(MAX_BYTES) {
        let now = TransportHeader::decode(&bytes[..end]);
        assert!(decided == Ok(None) || now == decided, "first {decided:?}, then {now:?}");
        decided = now;
    }
    assert_eq!(decided, whole, "in pieces and whole");
    assert!(whole != Ok(None) || bytes.len() < MAX_BYTES, "undecided for ever");
    if let Ok(Some((_, header))) = whole {
        let mut out = BytesMut::new();
        header.encode(&mut out);
        assert_eq!(TransportHeader::decode(&out), Ok(Some((out.len(), header))));
    }
}

/// What is written is read.
fn round_trip(choose: &mut dyn Choose) {
    let port = NonZeroU16::new(1 + choose.below(65_535) as u16).expect("not 0");
    let session = pick(choose, &[None, Some(SessionProtocol::Http1), Some(SessionProtocol::Http2)]);
    let mut name = String::new();
    for _ in 0..choose.below(5) {
        if !name.is_empty() {
            name.push('.');
        }
        for _ in 0..choose.within(1, 60) {
            name.push(char::from(pick(choose, b"abcXYZ019-_")));
        }
    }
    let name =
        Some(&*name).filter(|name| !name.is_empty() && name.parse::<std::net::IpAddr>().is_err());
    let header = TransportHeader { port, name, session };
    let mut out = BytesMut::new();
    header.encode(&mut out);
    let len = out.len();
    assert_eq!(TransportHeader::decode(&out), Ok(Some((len, header))));
    out.extend_from_slice(b"more");
    assert_eq!(TransportHeader::decode(&out), Ok(Some((len, header))));
    assert_eq!(TransportHeader::decode(&out[..len - 1]), Ok(None));
}
