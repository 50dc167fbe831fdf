//! Attacks that do little: they wait, or do not read.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use selvedge_proptests::h2::attack::get;
use selvedge_proptests::h2::wire::{END_STREAM, Frame};

use super::flood::{bombs, drip, request, tiny_data, upload};
use crate::common::{PATIENCE, Sent, Wire};

/// An attack, to its end; what that was.
type Strike = fn(SocketAddr) -> String;

/// Those that are no mere repetition of frames.
pub(super) const STRIKES: &[(&str, Strike)] = &[
    ("header bombs (HPACK expansion, RFC 7541 §7.3)", bombs),
    ("WINDOW_UPDATE drip (CVE-2019-9511)", drip),
    ("DATA of one octet (CVE-2019-9511)", tiny_data),
    ("answers to PINGs that nobody reads (CVE-2019-9512)", unread_pings),
    ("responses that nobody reads (CVE-2019-9517)", unread_responses),
    ("zero windows, 100 x 1 MB (CVE-2019-9511)", hoarding),
    ("slow header block (RFC 9113 §10.5)", slow_headers),
    ("slow frame header (RFC 9113 §10.5)", slow_frame),
    ("slow bodies (RFC 9113 §10.5)", slow_bodies),
];

/// A client that asks for answers and reads none.
fn unread_pings(to: SocketAddr) -> String {
    let mut wire = Wire::connect(to, &[]);
    let batch = vec![Frame::ping([0; 8]); 1000];
    for _ in 0..1000 {
        match wire.send_blindly(&batch) {
            Sent::All => {}
            Sent::Closed => return "cut off".to_owned(),
            Sent::Stuck => return "is not read".to_owned(),
        }
    }
    panic!("a million answers are queued");
}

/// Windows as large as they can be, and a socket that is never read.
fn unread_responses(to: SocketAddr) -> String {
    let mut wire = Wire::connect(to, &[(4, 0x7fff_ffff)]);
    wire.credits = false;
    wire.send(&[Frame::window_update(0, 0x7fff_0000 - 65_535)]);
    let ids = (0..100).map(|n| 2 * n + 1);
    let requests: Vec<Frame> = ids.map(|id| request(id, "/bytes/1048576")).collect();
    assert_eq!(wire.send_blindly(&requests), Sent::All);
    std::thread::sleep(Duration::from_millis(700));
    "is not written to".to_owned()
}

/// A hundred megabytes that no window is open for.
pub(super) fn hoarding(to: SocketAddr) -> String {
    let mut wire = stalled(to, 100);
    std::thread::sleep(Duration::from_millis(700));
    wire.poll(Duration::ZERO);
    assert!(wire.goaway().is_none());
    "held".to_owned()
}

/// A client that has asked for as many megabytes, and lets nothing through but the heads.
pub(super) fn stalled(to: SocketAddr, streams: u32) -> Wire {
    let mut wire = Wire::connect(to, &[(4, 0)]);
    wire.credits = false;
    let ids = (0..streams).map(|n| 2 * n + 1);
    let requests: Vec<Frame> = ids.map(|id| request(id, "/bytes/1048576")).collect();
    assert_eq!(wire.send(&requests), Sent::All);
    let mut heads = 0;
    wire.until("every head", |frame| {
        heads += u32::from(frame.is("HEADERS"));
        heads == streams
    });
    wire
}

/// A header block that comes an octet at a time.
fn slow_headers(to: SocketAddr) -> String {
    let mut wire = Wire::connect(to, &[]);
    wire.send(&[Frame::new(1, END_STREAM, 1, *b"\x82")]);
    last_word(&mut wire, |wire| {
        wire.send(&[Frame::new(9, 0, 1, *b"\x84")]);
    })
}

/// A HEADERS frame whose payload comes an octet at a time.
fn slow_frame(to: SocketAddr) -> String {
    let mut wire = Wire::connect(to, &[]);
    let bytes = get(1).bytes();
    wire.send_bytes(&bytes[..10]);
    let mut rest = bytes[10..].iter().copied().cycle();
    last_word(&mut wire, |wire| {
        let octet = rest.next().unwrap_or_default();
        wire.send_bytes(&[octet]);
    })
}

/// Fifty uploads of an octet now and then.
fn slow_bodies(to: SocketAddr) -> String {
    let mut wire = Wire::connect(to, &[]);
    let ids: Vec<u32> = (0..50).map(|n| 2 * n + 1).collect();
    wire.send(&ids.iter().map(|&id| upload(id, "/reflect")).collect::<Vec<_>>());
    let start = Instant::now();
    let mut over = 0;
    while over < ids.len() {
        assert!(start.elapsed() < PATIENCE, "{over} are over");
        wire.send(&ids.iter().map(|&id| Frame::data(id, false, b"x")).collect::<Vec<_>>());
        let frames = wire.poll(Duration::from_millis(50));
        let heads = frames.iter().filter(|frame| frame.is("HEADERS"));
        over += heads.count();
        std::thread::sleep(Duration::from_millis(50));
    }
    "answered, and not waited for".to_owned()
}

/// Goes on every 50 ms until there is a GOAWAY.
fn last_word(wire: &mut Wire, mut act: impl FnMut(&mut Wire)) -> String {
    let start = Instant::now();
    while wire.goaway().is_none() && !wire.closed {
        assert!(start.elapsed() < PATIENCE, "it goes on");
        act(wire);
        wire.poll(Duration::from_millis(50));
        std::thread::sleep(Duration::from_millis(30));
    }
    wire.goaway().map_or_else(|| "cut off".to_owned(), |code| format!("GOAWAY {code}"))
}
