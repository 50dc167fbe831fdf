//! Traffic that looks like an attack and is none.

use selvedge_core::http2::{ErrorCode, Role};
use selvedge_core::time::Duration;
use selvedge_proptests::h2::attack::{crumb, crumbs, get, post};
use selvedge_proptests::h2::wire::{END_HEADERS, END_STREAM, Frame};

use super::{ANSWER, STATUS, Target};

const MILLI: Duration = Duration::from_millis(1);

/// Not one GOAWAY, not one RST_STREAM.
fn assert_content(target: &Target) {
    assert_eq!(target.complaints, []);
    assert_eq!(target.end.violations, []);
    target.end.connection.check_invariants().expect("invariants");
}

#[test]
fn ninety_cookie_crumbs_and_fifteen_fields() {
    let mut target = Target::new(Role::Server);
    target.send(&[crumbs(1)]);
    let seen = target.end.lines().pop().unwrap_or_default();
    assert!(seen.starts_with("request 1 "), "{seen}");
    let crumbs: Vec<String> = (0..90).map(crumb).collect();
    assert!(seen.contains(&crumbs.join("; ")), "{seen}");
    assert_content(&target);
}

#[test]
fn twenty_thousand_messages_of_ten_octets_from_a_client() {
    let mut target = Target::new(Role::Server);
    target.send(&[post(1)]);
    let message = Frame::data(1, false, b"0123456789");
    for _ in 0..200 {
        target.send(&vec![message.clone(); 100]);
    }
    target.send(&[Frame::data(1, true, b"")]);
    assert_content(&target);
}

#[test]
fn twenty_thousand_messages_of_ten_octets_to_a_slow_reader() {
    let mut target = Target::new(Role::Server);
    target.send(&[get(1)]);
    let key = target.end.key(1);
    target.end.answer(key, ANSWER, false);
    let mut unread = 0;
    for n in 0..20_000 {
        target.end.put(key, b"0123456789", false);
        let sent = target.drain();
        unread +=
            sent.iter().filter(|frame| frame.is("DATA")).map(|f| f.payload.len()).sum::<usize>();
        // It reads now and then, and gives credit for all that it has read.
        if n % 50 == 49 && unread > 0 {
            target.pass(MILLI);
            target.send(&[
                Frame::window_update(0, unread as u32),
                Frame::window_update(1, unread as u32),
                Frame::ping([0; 8]),
            ]);
            unread = 0;
        }
    }
    target.end.trail(key, STATUS).expect("trailers");
    target.drain();
    assert_eq!(target.end.connection.open_streams(), 0);
    assert_content(&target);
}

#[test]
fn a_client_that_gives_credit_for_every_message() {
    let mut target = Target::new(Role::Server);
    target.send(&[get(1)]);
    let key = target.end.key(1);
    target.end.answer(key, ANSWER, false);
    for _ in 0..20_000 {
        target.end.put(key, &[7; 100], false);
        target.drain();
        // With a PING to measure bandwidth × delay.
        target.send(&[
            Frame::window_update(0, 100),
            Frame::window_update(1, 100),
            Frame::ping(*b"bandwdth"),
        ]);
    }
    assert_content(&target);
}

#[test]
fn four_hundred_unary_calls_at_once_again_and_again() {
    let mut target = Target::new(Role::Server);
    for round in 0..20 {
        let id = |n: u32| 2 * (400 * round + n) + 1;
        let calls: Vec<Frame> = (0..400)
            .flat_map(|n| [post(id(n)), Frame::data(id(n), true, b"\0\0\0\0\x05hello")])
            .collect();
        target.send(&calls);
        for id in target.requests() {
            let key = target.end.key(id);
            target.end.answer(key, ANSWER, false);
            target.end.put(key, b"\0\0\0\0\x05hello", false);
            target.end.trail(key, STATUS).expect("trailers");
        }
        target.drain();
        target.end.keys.clear();
        // What a client may send for each answer.
        target.send(&[Frame::window_update(0, 4000), Frame::ping([1; 8])]);
    }
    assert_eq!(target.end.connection.open_streams(), 0);
    assert_content(&target);
}

#[test]
fn two_thousand_calls_that_are_cancelled_by_their_deadline() {
    // One after another, 100 at a time, each cancelled after 100 ms; with a PING as Go sends it.
    let mut target = Target::new(Role::Server);
    for batch in 0..20 {
        let ids: Vec<u32> = (0..100).map(|n| 2 * (100 * batch + n) + 1).collect();
        target.send(&ids.iter().map(|&id| get(id)).collect::<Vec<_>>());
        target.pass(100 * MILLI);
        let cancel = |&id: &u32| [Frame::reset(id, 8), Frame::ping([2; 8])];
        target.send(&ids.iter().flat_map(cancel).collect::<Vec<_>>());
    }
    assert_content(&target);
    // All of them within one millisecond.
    let mut target = Target::new(Role::Server);
    for n in 0..2000 {
        target.send(&[get(2 * n + 1), Frame::reset(2 * n + 1, 8)]);
    }
    assert_content(&target);
}

#[test]
fn two_thousand_calls_that_we_cancel_while_their_answers_are_under_way() {
    let mut target = Target::new(Role::Client);
    for round in 0..4 {
        let ids: Vec<u32> = (0..500).map(|n| 2 * (500 * round + n) + 1).collect();
        for &id in &ids {
            let key = target.end.ask(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n", true).expect("room");
            assert_eq!(key.id, id);
            target.end.reset(key, ErrorCode::CANCEL);
        }
        target.end.keys.clear();
        assert_eq!(target.drain().iter().filter(|frame| frame.is("RST_STREAM")).count(), 500);
        target.complaints.clear();
        // The answers crossed.
        for &id in &ids {
            target.send(&[
                Frame::headers(id, false, &[(":status", "200")]),
                Frame::data(id, false, b"\0\0\0\0\x05hello"),
                Frame::headers(id, true, &[("grpc-status", "0")]),
            ]);
        }
        assert_content(&target);
    }
}

#[test]
fn window_updates_that_come_late() {
    let mut target = Target::new(Role::Server);
    for n in 0..5000 {
        let id = 2 * n + 1;
        target.send(&[get(id)]);
        let key = target.end.key(id);
        target.end.answer(key, ANSWER, false);
        target.end.put(key, &[0; 1000], true);
        target.drain();
        target.end.keys.clear();
        // For a stream that is over.
        target.send(&[Frame::window_update(id, 1000), Frame::window_update(0, 1000)]);
    }
    assert_content(&target);
}

#[test]
fn a_ping_every_ten_seconds_for_an_hour() {
    for role in [Role::Server, Role::Client] {
        let mut target = Target::new(role);
        for _ in 0..360 {
            target.pass(Duration::from_secs(10));
            assert_eq!(target.send(&[Frame::ping([3; 8])]).len(), 1);
        }
        assert_content(&target);
    }
}

#[test]
fn hundreds_of_long_lived_streams() {
    let mut target = Target::new(Role::Server);
    let ids: Vec<u32> = (0..800).map(|n| 2 * n + 1).collect();
    target.send(&ids.iter().map(|&id| post(id)).collect::<Vec<_>>());
    for &id in &ids {
        target.end.answer(target.end.key(id), ANSWER, false);
    }
    target.drain();
    // Each says something now and then, both ways, for ten minutes.
    for second in 0..600 {
        target.pass(Duration::from_secs(1));
        for &id in ids.iter().skip(second % 10).step_by(10) {
            target.end.put(target.end.key(id), b"update", false);
            target.send(&[Frame::data(id, false, b"ack"), Frame::window_update(id, 6)]);
        }
        target.send(&[Frame::window_update(0, 480)]);
    }
    assert_eq!(target.end.connection.open_streams(), 800);
    assert_content(&target);
}

#[test]
fn a_header_block_that_takes_nine_seconds() {
    let mut target = Target::new(Role::Server);
    let whole = get(1);
    let (first, rest) = whole.payload.split_at(1);
    target.send(&[Frame::new(1, END_STREAM, 1, first)]);
    for (second, octet) in rest.chunks(rest.len() / 9 + 1).enumerate() {
        target.pass(Duration::from_secs(1));
        let last = second == 8;
        target.send(&[Frame::new(9, if last { END_HEADERS } else { 0 }, 1, octet)]);
    }
    assert_eq!(target.requests(), [1]);
    target.pass(Duration::from_secs(100));
    assert_content(&target);
}

#[test]
fn an_upload_of_which_every_frame_is_padded() {
    let mut target = Target::new(Role::Server);
    target.send(&[post(1)]);
    let mut payload = vec![100];
    payload.extend([b'x'; 200]);
    payload.extend([0; 100]);
    for _ in 0..20_000 {
        target.send(&[Frame::new(0, 8, 1, payload.clone())]);
    }
    assert_content(&target);
}

#[test]
fn a_peer_that_refuses_what_it_cannot_take() {
    let mut target = Target::new(Role::Client);
    for n in 0..5000 {
        let id = 2 * n + 1;
        target.end.ask(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n", true).expect("room");
        target.end.keys.clear();
        target.drain();
        target.send(&[Frame::reset(id, 7)]);
    }
    assert_content(&target);
}
