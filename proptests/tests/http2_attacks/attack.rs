//! Attacks.

use selvedge_core::http2::{Role, Violation};
use selvedge_core::time::Duration;
use selvedge_proptests::h2::wire::{ACK, END_HEADERS, END_STREAM, Frame};

use super::{ANSWER, Target, get, post};

/// One attack: a step of it, over and over.
struct Attack {
    name: &'static str,
    /// What was known by this name, or the clause that names the danger.
    reference: &'static str,
    role: Role,
    /// What the peer sends in the `n`th step.
    step: fn(&mut Target, u32) -> Vec<Frame>,
    /// What ends it …
    ends: Violation,
    /// … within so many steps, at 20,000 a second.
    within: u32,
}

const SERVER: Role = Role::Server;
const CLIENT: Role = Role::Client;

/// Every one begins anew; the number of the step makes the stream.
const ATTACKS: &[Attack] = &[
    Attack {
        name: "rapid reset",
        reference: "CVE-2023-44487",
        role: SERVER,
        step: |_, n| vec![get(2 * n + 1), Frame::reset(2 * n + 1, 8)],
        ends: Violation::RapidReset,
        within: 3000,
    },
    Attack {
        name: "rapid reset of requests with a body",
        reference: "CVE-2023-44487",
        role: SERVER,
        step: |_, n| {
            let id = 2 * n + 1;
            let data = Frame::data(id, false, b"x");
            vec![post(id), data.clone(), data.clone(), data.clone(), data, Frame::reset(id, 8)]
        },
        ends: Violation::RapidReset,
        within: 3000,
    },
    Attack {
        name: "rapid reset by a bad WINDOW_UPDATE",
        reference: "CVE-2025-8671",
        role: SERVER,
        step: |_, n| vec![get(2 * n + 1), Frame::window_update(2 * n + 1, 0)],
        ends: Violation::Overhead,
        within: 1500,
    },
    Attack {
        name: "rapid reset by a window that overflows",
        reference: "CVE-2025-8671",
        role: SERVER,
        step: |_, n| vec![get(2 * n + 1), Frame::window_update(2 * n + 1, 0x7fff_ffff)],
        ends: Violation::Overhead,
        within: 1500,
    },
    Attack {
        name: "rapid reset by DATA after the end",
        reference: "CVE-2025-8671",
        role: SERVER,
        step: |_, n| vec![get(2 * n + 1), Frame::data(2 * n + 1, true, b"")],
        ends: Violation::Overhead,
        within: 1500,
    },
    Attack {
        name: "rapid reset by a PRIORITY of another length",
        reference: "CVE-2025-8671",
        role: SERVER,
        step: |_, n| vec![get(2 * n + 1), Frame::new(2, 0, 2 * n + 1, [0; 4])],
        ends: Violation::Overhead,
        within: 1500,
    },
    Attack {
        name: "malformed requests",
        reference: "CVE-2025-8671",
        role: SERVER,
        step: |_, n| vec![Frame::headers(2 * n + 1, true, &[(":method", "GET")])],
        ends: Violation::Overhead,
        within: 1500,
    },
    Attack {
        name: "streams beyond the limit",
        reference: "RFC 9113 §5.1.2",
        role: SERVER,
        step: |_, n| vec![post(2 * n + 1)],
        ends: Violation::Overhead,
        within: 3000,
    },
    Attack {
        name: "frames for streams that are over",
        reference: "RFC 9113 §5.1",
        role: SERVER,
        step: |target, n| {
            // More than are remembered, and no two that follow one another.
            if n < 300 {
                let id = 4 * n + 1;
                target.send(&[get(id)]);
                target.end.answer(target.end.key(id), ANSWER, true);
                return Vec::new();
            }
            vec![Frame::data(4 * (n % 300) + 1, false, b"x")]
        },
        ends: Violation::Overhead,
        within: 15_000,
    },
    Attack {
        name: "CONTINUATIONs without content",
        reference: "CVE-2024-27316",
        role: SERVER,
        step: |_, n| vec![continuation(n, b"")],
        ends: Violation::Overhead,
        within: 3000,
    },
    Attack {
        name: "CONTINUATIONs of one octet",
        reference: "CVE-2024-27316",
        role: SERVER,
        step: |_, n| vec![continuation(n, b"\x82")],
        ends: Violation::Overhead,
        within: 3000,
    },
    Attack {
        name: "CONTINUATIONs without end",
        reference: "CVE-2024-27316",
        role: SERVER,
        step: |_, n| vec![continuation(n, &[0x82; 1000])],
        ends: Violation::BlockTooLarge,
        within: 70,
    },
    Attack {
        name: "PINGs",
        reference: "CVE-2019-9512",
        role: SERVER,
        step: |_, _| vec![Frame::ping([0; 8])],
        ends: Violation::Overhead,
        within: 12_000,
    },
    Attack {
        name: "acknowledgements of no PING",
        reference: "CVE-2019-9512",
        role: SERVER,
        step: |_, _| vec![Frame::new(6, ACK, 0, [0; 8])],
        ends: Violation::Overhead,
        within: 12_000,
    },
    Attack {
        name: "SETTINGS",
        reference: "CVE-2019-9515",
        role: SERVER,
        step: |_, n| vec![Frame::settings(&[(4, 65_535 - n)])],
        ends: Violation::Overhead,
        within: 1500,
    },
    Attack {
        name: "DATA without content",
        reference: "CVE-2019-9518",
        role: SERVER,
        step: |_, n| vec![if n == 0 { post(1) } else { Frame::data(1, false, b"") }],
        ends: Violation::Overhead,
        within: 3000,
    },
    Attack {
        name: "DATA with nothing but padding",
        reference: "CVE-2019-9518",
        role: SERVER,
        step: |_, n| vec![if n == 0 { post(1) } else { Frame::new(0, 8, 1, [0; 1]) }],
        ends: Violation::Overhead,
        within: 3000,
    },
    Attack {
        name: "PRIORITY",
        reference: "CVE-2019-9513",
        role: SERVER,
        step: |_, n| vec![Frame::new(2, 0, n % 1000 + 1, [0, 0, 0, 0, 9])],
        ends: Violation::Overhead,
        within: 12_000,
    },
    Attack {
        name: "PRIORITY_UPDATE",
        reference: "RFC 9218 §13.3",
        role: SERVER,
        step: |_, _| vec![Frame::new(16, 0, 0, *b"\0\0\0\x01u=1")],
        ends: Violation::Overhead,
        within: 12_000,
    },
    Attack {
        name: "WINDOW_UPDATEs of the connection",
        reference: "RFC 9113 §10.5",
        role: SERVER,
        step: |_, _| vec![Frame::window_update(0, 1)],
        ends: Violation::Overhead,
        within: 12_000,
    },
    Attack {
        name: "WINDOW_UPDATEs of a stream",
        reference: "RFC 9113 §10.5",
        role: SERVER,
        step: |_, n| vec![if n == 0 { get(1) } else { Frame::window_update(1, 1) }],
        ends: Violation::Overhead,
        within: 12_000,
    },
    Attack {
        name: "frames of an unknown type",
        reference: "RFC 9113 §10.5",
        role: SERVER,
        step: |_, _| vec![Frame::new(0xbb, 0, 0, [])],
        ends: Violation::Overhead,
        within: 12_000,
    },
    Attack {
        name: "GOAWAYs",
        reference: "RFC 9113 §10.5",
        role: SERVER,
        step: |_, _| vec![Frame::new(7, 0, 0, [0; 8])],
        ends: Violation::Overhead,
        within: 12_000,
    },
    Attack {
        name: "RST_STREAMs of streams that are over",
        reference: "RFC 9113 §10.5",
        role: SERVER,
        step: |_, n| if n == 0 { vec![get(1)] } else { vec![Frame::reset(1, 8)] },
        ends: Violation::Overhead,
        within: 12_000,
    },
    Attack {
        name: "informational responses",
        reference: "RFC 9113 §10.5",
        role: CLIENT,
        step: |target, n| {
            if n == 0 {
                target.end.ask(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n", true);
            }
            vec![Frame::headers(1, false, &[(":status", "103")])]
        },
        ends: Violation::Overhead,
        within: 12_000,
    },
    Attack {
        name: "PINGs of a server",
        reference: "CVE-2019-9512",
        role: CLIENT,
        step: |_, _| vec![Frame::ping([0; 8])],
        ends: Violation::Overhead,
        within: 12_000,
    },
    Attack {
        name: "a new stream after the last id",
        reference: "RFC 9113 §5.1.1",
        role: SERVER,
        step: |_, n| vec![get(if n == 0 { 0x7fff_ffff } else { 0x7fff_fffd })],
        ends: Violation::StreamId,
        within: 2,
    },
];

fn continuation(n: u32, payload: &[u8]) -> Frame {
    let kind = if n == 0 { 1 } else { 9 };
    Frame::new(kind, 0, 1, payload)
}

#[test]
fn every_attack_ends_the_connection_soon_and_holds_little() {
    for attack in ATTACKS {
        let Attack { name, reference, .. } = attack;
        let mut target = Target::new(attack.role);
        let mut steps = 0;
        while !target.end.dead {
            assert!(steps <= attack.within, "{name} ({reference}) goes on after {steps} steps");
            let frames = (attack.step)(&mut target, steps);
            target.send(&frames);
            target.pass(Duration::from_micros(50));
            steps += 1;
        }
        assert_eq!(target.end.violations.last(), Some(&attack.ends), "{name}, {steps} steps");
        // What comes back is no more than what was sent, and a little; what is held is little.
        let answered = target.answered;
        assert!(answered <= 2 * target.received + 4096, "{name}: {answered} octets came back");
        // Room for the streams that may be open, and for one block.
        assert!(target.heap <= 600_000, "{name}: {} heap bytes", target.heap);
        target.end.seen.clear();
        assert!(target.send(&[Frame::ping([0; 8])]).is_empty(), "{name}: it answers in death");
    }
}

/// Slowly enough, each of these is nobody's attack: the same steps, ten a second.
#[test]
fn the_same_frames_in_honest_numbers_cost_nothing() {
    let honest =
        ["PINGs", "PRIORITY", "WINDOW_UPDATEs of the connection", "SETTINGS", "rapid reset"];
    for attack in ATTACKS.iter().filter(|attack| honest.contains(&attack.name)) {
        let mut target = Target::new(attack.role);
        for step in 0..6000 {
            let frames = (attack.step)(&mut target, step);
            target.send(&frames);
            target.pass(Duration::from_millis(100));
            target.end.seen.clear();
        }
        assert_eq!(target.complaints, [], "{}", attack.name);
    }
}

#[test]
fn a_flood_that_nobody_reads_the_answers_of_queues_little() {
    // Nothing is taken from the queue: each PING adds 17 octets to it until the budget is gone.
    // Whoever owns a connection stops to read from it long before (`OutQueue::unsent`).
    for unit in [Frame::ping([0; 8]), Frame::settings(&[])] {
        let mut target = Target::new(Role::Server);
        let bytes = unit.bytes().repeat(20_000);
        for piece in bytes.chunks(16 * 1024) {
            let before = target.end.tx.unsent();
            target.end.receive(piece);
            let added = target.end.tx.unsent() - before;
            assert!(added <= piece.len() + 128, "{added} octets for {}", piece.len());
        }
        assert!(target.end.dead);
        assert!(target.end.tx.unsent() <= 180_000, "{} octets", target.end.tx.unsent());
    }
}

#[test]
fn a_header_bomb_is_answered_not_unpacked() {
    let mut target = Target::new(Role::Server);
    // An entry that nearly fills the table, and then its index over and over: 4 KB for one octet.
    let mut block = b"\x82\x86\x84\x41\x01a\x40\x01x\x7f\xc1\x1e".to_vec();
    block.extend([b'y'; 4032]);
    block.extend([0xbe; 12_000]);
    let bomb = Frame::new(1, END_HEADERS | END_STREAM, 1, block);
    target.send(&[bomb]);
    let seen: Vec<String> = target.end.lines();
    assert_eq!(seen.last().map(String::as_str), Some("refused 1 head_too_large"), "{seen:?}");
    assert!(target.heap < 20_000, "{} heap bytes", target.heap);
    // Many small fields.
    let mut block = b"\x82\x86\x84\x41\x01a".to_vec();
    block.extend(b"\x00\x01a\x01b".repeat(3000));
    target.send(&[Frame::new(1, END_HEADERS | END_STREAM, 3, block)]);
    assert_eq!(target.end.lines(), ["refused 3 too_many_fields"]);
    assert_eq!(target.complaints, []);
}

#[test]
fn tiny_data_is_throttled_by_the_window() {
    let mut target = Target::new(Role::Server);
    target.end.releases = None;
    target.send(&[post(1)]);
    for _ in 0..16_384 {
        target.send(&[Frame::data(1, false, b"x")]);
    }
    assert_eq!((target.end.connection.held(), target.complaints.len()), (16_384, 0));
    target.send(&[Frame::data(1, false, b"x")]);
    assert_eq!(target.end.violations, [Violation::Window]);
    assert_eq!(target.end.connection.held(), 0);
}

#[test]
fn a_window_that_opens_a_crack_at_a_time_pays_for_nothing() {
    let mut target = Target::new(Role::Server);
    target.send(&[Frame::settings(&[(4, 0)]), get(1)]);
    let key = target.end.key(1);
    target.end.answer(key, ANSWER, false);
    target.end.put(key, &vec![b'x'; 60_000], true);
    target.drain();
    let mut id = 3;
    // One octet each, and a request that is reset for every four of them.
    while !target.end.dead {
        assert!(id < 20_000, "it goes on");
        for _ in 0..4 {
            target.send(&[Frame::window_update(1, 1)]);
        }
        target.send(&[get(id), Frame::reset(id, 8)]);
        id += 2;
    }
    // Whatever is asked for when the budget is gone.
    assert!(matches!(target.end.violations[..], [Violation::RapidReset | Violation::Overhead]));
}

#[test]
fn a_slow_header_block_has_its_time() {
    for unit in [0, 1] {
        let mut target = Target::new(Role::Server);
        if unit == 1 {
            // A frame of which an octet comes now and then.
            target.end.receive(&get(1).bytes()[..12]);
        } else {
            target.send(&[Frame::new(1, END_STREAM, 1, *b"\x82")]);
        }
        let mut seconds = 0;
        while !target.end.dead {
            target.pass(Duration::from_secs(1));
            if !target.end.dead {
                let octet = [0x84];
                let frame = Frame::new(9, 0, 1, octet).bytes();
                target.end.receive(if unit == 1 { &octet } else { &frame });
            }
            seconds += 1;
        }
        assert_eq!((seconds, target.end.violations.clone()), (10, vec![Violation::HeaderTimeout]));
    }
}
