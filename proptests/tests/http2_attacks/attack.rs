//! Attacks.

use selvedge_core::http2::{Role, Violation};
use selvedge_core::time::Duration;
use selvedge_proptests::h2::attack::{ATTACKS, Attack, get, header_bombs, post};
use selvedge_proptests::h2::wire::{END_STREAM, Frame};

use super::{ANSWER, Target};

/// The attack whose requests have to be over before it begins.
const ANSWERED: &str = "frames for streams that are over";

#[test]
fn every_attack_ends_the_connection_soon_and_holds_little() {
    for attack in ATTACKS {
        let Attack { name, reference, .. } = attack;
        let mut target = Target::new(attack.role);
        target.ask();
        let mut steps = 0;
        while !target.end.dead {
            assert!(steps <= attack.within, "{name} ({reference}) goes on after {steps} steps");
            target.send(&(attack.step)(steps));
            if attack.name == ANSWERED {
                target.answer_all();
            }
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
            target.send(&(attack.step)(step));
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
    let [one, many] = header_bombs(1, 3);
    target.send(&[one]);
    let seen: Vec<String> = target.end.lines();
    assert_eq!(seen.last().map(String::as_str), Some("refused 1 head_too_large"), "{seen:?}");
    assert!(target.heap < 20_000, "{} heap bytes", target.heap);
    target.send(&[many]);
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
