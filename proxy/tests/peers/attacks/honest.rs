//! Honest traffic that looks like an attack: not one GOAWAY or RST_STREAM from us.

use std::time::{Duration, Instant};

use selvedge_proptests::h2::attack::{crumb, crumbs};
use selvedge_proptests::h2::wire::{ACK, END_STREAM, Frame};

use super::World;
use super::flood::{request, upload};
use crate::common::{App, Need, Sent, Wire, full, have};

/// Some traffic.
type Traffic = fn(&mut Wire);

const TRAFFIC: &[(&str, Traffic)] = &[
    ("90 crumbs of cookie in 15 fields", cookies),
    ("20,000 messages of 10 octets to a slow reader", messages),
    ("400 unary calls at once", calls),
    ("2,000 calls that are cancelled by their deadline", cancels),
    ("WINDOW_UPDATEs that come late", late_updates),
    ("a PING now and then", pings),
    ("hundreds of watches", watches),
];

#[test]
fn honest_traffic_that_looks_like_an_attack_meets_no_complaint() {
    if !have(&[Need::Program("curl")]) {
        return;
    }
    for http2 in [false, true] {
        let app = App::start("app");
        let world = World::new(app.addr, http2, |mesh| mesh);
        for (name, traffic) in TRAFFIC {
            let mut wire = Wire::connect(world.proxy.outbound(), &[]);
            traffic(&mut wire);
            // It is still there, and has nothing to say but this.
            wire.send(&[Frame::ping(*b"farewell")]);
            wire.until("the last PING", |frame| frame.is("PING") && frame.payload == b"farewell");
            assert_eq!(wire.complaints, [], "{name}");
        }
        assert_eq!(crate::http2::violations(&world.proxy), 0);
    }
}

/// Identifiers of a client's streams, from the `first`th on.
fn ids(first: u32, count: u32) -> impl Iterator<Item = u32> + Clone {
    (first..first + count).map(|n| 2 * n + 1)
}

fn cookies(wire: &mut Wire) {
    // The path of the shared frame is answered with a 404; what the app sees is tested elsewhere.
    assert!(crumb(89).ends_with("89"));
    wire.send(&[crumbs(1)]);
    wire.answers(1);
}

fn messages(wire: &mut Wire) {
    let count: u32 = if full() { 200_000 } else { 20_000 };
    wire.credits = false;
    wire.send(&[request(1, &format!("/messages/{count}/10"))]);
    let (mut unread, mut read, mut ended) = (0, 0, false);
    while !ended {
        let frames = wire.poll(Duration::from_millis(100));
        assert!(!wire.closed, "{}", wire.complained());
        for frame in frames {
            unread += if frame.is("DATA") { frame.payload.len() as u32 } else { 0 };
            ended |= (frame.is("DATA") || frame.is("HEADERS")) && frame.has(END_STREAM);
        }
        // It reads slowly, gives credit for all that it has read, and measures.
        std::thread::sleep(Duration::from_millis(1));
        if unread > 0 {
            let credit = [Frame::window_update(0, unread), Frame::window_update(1, unread)];
            wire.send(&credit);
            wire.send(&[Frame::ping(*b"bandwdth")]);
            read += std::mem::take(&mut unread);
        }
    }
    assert_eq!(read, 10 * count);
}

fn calls(wire: &mut Wire) {
    for round in 0..5 {
        let call = |id| [upload(id, "/echo"), Frame::data(id, true, b"\0\0\0\0\x05hello")];
        let frames: Vec<Frame> = ids(400 * round, 400).flat_map(call).collect();
        assert_eq!(wire.send(&frames), Sent::All);
        assert_eq!(wire.answers(400), 4000);
    }
}

fn cancels(wire: &mut Wire) {
    for batch in 0..20 {
        let ids = ids(100 * batch, 100);
        let calls: Vec<Frame> = ids.clone().map(|id| request(id, "/slow/60000")).collect();
        assert_eq!(wire.send(&calls), Sent::All);
        // Their deadlines pass; with a PING each, as Go sends it.
        std::thread::sleep(Duration::from_millis(60));
        let cancel = |id| [Frame::reset(id, 8), Frame::ping([2; 8])];
        assert_eq!(wire.send(&ids.flat_map(cancel).collect::<Vec<_>>()), Sent::All);
        wire.poll(Duration::ZERO);
    }
}

fn late_updates(wire: &mut Wire) {
    for round in 0..20 {
        let ids = ids(50 * round, 50);
        let asks: Vec<Frame> = ids.clone().map(|id| request(id, "/bytes/1000")).collect();
        assert_eq!(wire.send(&asks), Sent::All);
        assert_eq!(wire.answers(50), 50_000);
        // For streams that are over.
        let late: Vec<Frame> = ids.map(|id| Frame::window_update(id, 1000)).collect();
        assert_eq!(wire.send(&late), Sent::All);
    }
}

fn pings(wire: &mut Wire) {
    // Ten seconds are ten milliseconds here.
    for n in 0..100_u64 {
        let opaque = n.to_be_bytes();
        wire.send(&[Frame::ping(opaque)]);
        wire.until("an answer to a PING", |frame| {
            frame.is("PING") && frame.has(ACK) && frame.payload == opaque
        });
        std::thread::sleep(Duration::from_millis(10));
    }
}

fn watches(wire: &mut Wire) {
    let start = Instant::now();
    let asks: Vec<Frame> = ids(0, 300).map(|id| request(id, "/drip/20/50")).collect();
    assert_eq!(wire.send(&asks), Sent::All);
    // "piece 0\n" and so on.
    assert_eq!(wire.answers(300), 300 * (10 * 8 + 10 * 9));
    assert!(start.elapsed() >= Duration::from_secs(1));
}
