//! ClientHellos that are good, nearly good, and neither.

use super::{real_hellos, records};
use crate::choose::{Choose, pick};

/// `body` behind its length of two bytes.
fn vector(body: &[u8]) -> Vec<u8> {
    [&(body.len() as u16).to_be_bytes(), body].concat()
}

fn extension(kind: u16, body: &[u8]) -> Vec<u8> {
    [&kind.to_be_bytes()[..], &vector(body)].concat()
}

/// Host names, addresses, and what is neither.
const NAMES: [&[u8]; 20] = [
    b"web.example",
    b"Web.EXAMPLE",
    b"web.example.",
    b"localhost",
    b"web.ns.serviceaccount.identity.linkerd.cluster.local",
    b"xn--bcher-kva.example",
    b"my_service.ns",
    b"-a.example",
    b"a-.example",
    b"1and1.example",
    b"web.123",
    b"10.0.0.1",
    b"2001:db8::5",
    b"",
    b".",
    b"web..example",
    b"*.example",
    b"web.example:443",
    b"b\xc3\xbccher.example",
    b"web\0.example",
];

fn server_name(choose: &mut dyn Choose) -> Vec<u8> {
    let mut list = Vec::new();
    for _ in 0..[1, 1, 1, 1, 1, 0, 2][choose.below(7)] {
        let kind = pick(choose, &[0, 0, 0, 0, 0, 1]);
        list.push(kind);
        match kind {
            1 if choose.one_in(3) => list.extend([0xff; 3]),
            _ => list.extend(vector(pick(choose, &NAMES))),
        }
    }
    extension(0, &vector(&list))
}

fn protocols(choose: &mut dyn Choose) -> Vec<u8> {
    const PROTOCOLS: [&[u8]; 6] =
        [b"h2", b"http/1.1", b"transport.l5d.io/v1", b"\x0a\x0a", b"\0", b""];
    let mut list = Vec::new();
    for _ in 0..mostly(choose, 2, &[0, 1, 3]) {
        let name = pick(choose, &PROTOCOLS);
        list.push(name.len() as u8);
        list.extend(name);
    }
    extension(16, &vector(&list))
}

fn one_extension(choose: &mut dyn Choose) -> Vec<u8> {
    match choose.below(8) {
        0 | 1 => server_name(choose),
        2 | 3 => protocols(choose),
        4 => extension(mostly(choose, 0x2b, &[13]), &[2, 3, 4]),
        5 => extension(pick(choose, &[0x0a0a, 0x5a5a, 0xffff, 0xfe0d]), &[0; 3]),
        6 => {
            let share = [&[0x11, 0xec][..], &vector(&vec![7; choose.below(20_000)])].concat();
            extension(0x33, &vector(&share))
        }
        _ => extension(0x0015, &vec![0; choose.below(300)]),
    }
}

/// `usual`, or once in a while one of `others`.
fn mostly<T: Copy>(choose: &mut dyn Choose, usual: T, others: &[T]) -> T {
    if choose.one_in(24) { pick(choose, others) } else { usual }
}

/// A handshake message, most of the time one that a server would take.
fn message(choose: &mut dyn Choose) -> Vec<u8> {
    let mut hello = vec![mostly(choose, 3, &[2, 254]), pick(choose, &[3, 1, 2, 4])];
    hello.extend([0x5a; 32]);
    let session = mostly(choose, 32, &[0, 1, 33]);
    hello.push(session);
    hello.extend(vec![1; usize::from(session)]);
    hello.extend(vector(&[0x13, 1, 0x13, 2, 0x13][..mostly(choose, 4, &[2, 0, 3])]));
    let compression = mostly(choose, &[0][..], &[&[0, 1], &[1], &[]]);
    hello.push(compression.len() as u8);
    hello.extend(compression);
    if !choose.one_in(20) {
        let mut extensions = Vec::new();
        if !choose.one_in(12) {
            extensions.extend(extension(13, &vector(&[4, 3, 8, 4])));
        }
        for _ in 0..choose.below(5) {
            extensions.extend(one_extension(choose));
        }
        extensions.truncate(60_000);
        hello.extend(vector(&extensions));
    }
    let length = (hello.len() as u32).to_be_bytes();
    [&[1], &length[1..], &hello].concat()
}

/// Changes a few bytes, as a fuzzer would.
fn mutate(choose: &mut dyn Choose, bytes: &mut Vec<u8>) {
    for _ in 0..=choose.below(3) {
        // Most of what is interesting is not far from the beginning.
        let within = if choose.flip() { bytes.len() } else { bytes.len().min(200) };
        let at = choose.below(within);
        let value = pick(choose, &[0, 1, 2, 3, 16, 22, 127, 128, 255]);
        match choose.below(5) {
            _ if bytes.is_empty() => return,
            0 | 1 => bytes[at] = value,
            2 => bytes[at] = bytes[at].wrapping_add(pick(choose, &[1, 255])),
            3 => bytes.insert(at, value),
            _ => {
                bytes.remove(at);
            }
        }
    }
}

/// The first bytes of a connection: a hello, generated or real, in records of any size, damaged or
/// not, with or without something behind it.
pub fn generate(choose: &mut dyn Choose) -> Vec<u8> {
    let mut bytes = if choose.one_in(4) {
        let real = real_hellos();
        real[choose.below(real.len())].bytes.clone()
    } else {
        let mut message = message(choose);
        if choose.one_in(8) {
            mutate(choose, &mut message);
        }
        let size = pick(choose, &[16_384, 16_384, 16_385, 17_000, 1_000, 50, 1]);
        records(&message, size)
    };
    if choose.flip() {
        mutate(choose, &mut bytes);
    }
    if choose.one_in(4) {
        bytes.extend(pick(choose, &[&b"\x14\x03\x03\0\x01\x01"[..], b"\x17\x03\x03", b"\0\0"]));
    }
    if choose.one_in(10) {
        bytes.truncate(choose.below(bytes.len() + 1));
    }
    bytes
}
