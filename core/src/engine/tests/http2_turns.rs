//! What one peer sends at once is handled in turns that are bounded: others come in between.

use alloc::vec::Vec;

use bytes::BytesMut;

use super::http2_rig::{Peer, frame, http2_config};
use super::rig::*;
use crate::engine::multiplex::{DRIVEN, OUTPUT, TURN};
use crate::engine::{ConnId, Input, TimerKind};
use crate::error::IoError;

const GET: &str = "GET /a HTTP/1.1\r\nHost: h2.example\r\n\r\n";
const POST: &str = "POST /a HTTP/1.1\r\nHost: h1.example\r\nTransfer-Encoding: chunked\r\n\r\n";
const CANARY: &[u8] = b"GET / HTTP/1.1\r\nHost: one.example\r\n\r\n";

/// DATA of an octet each, for the client's first stream.
fn octets(count: usize) -> Vec<u8> {
    frame(0, 0, 1, b"z").repeat(count)
}

fn arrived(rig: &mut Rig, conn: ConnId) -> usize {
    rig.written(conn).matches('z').count()
}

/// A client with an upload on its way to an app.
fn uploader(rig: &mut Rig) -> (Peer, ConnId) {
    let mut client = Peer::client(rig);
    client.ask(rig, POST, false);
    let up = rig.connect();
    rig.written(up);
    (client, up)
}

/// One read, and one turn.
fn read(rig: &mut Rig, conn: ConnId, bytes: &[u8]) {
    let data = BytesMut::from(bytes);
    rig.engine.handle_input(rig.now, Input::Received { conn, data });
    rig.one_turn();
}

fn wake(rig: &mut Rig) {
    rig.engine.handle_input(rig.now, Input::Timeout);
    rig.one_turn();
}

fn has_more(rig: &mut Rig) -> bool {
    rig.engine.next_timeout() == Some((rig.now, TimerKind::Turn))
}

/// A PING, and how many times its answer was sent.
const PING: &[u8] = b"\0\0\x08\x06\0\0\0\0\0selvedge";

fn pongs(rig: &mut Rig, conn: ConnId) -> usize {
    let sent = rig.taken(conn);
    sent.windows(8).filter(|bytes| bytes == b"selvedge").count()
}

#[test]
fn frames_that_nobody_hears_of_are_handled_piece_by_piece_as_well() {
    let oversized = b"\x83\x86\x84\x01\x0ah1.example\x0f\x0d\x011";
    // DATA of a stream that was reset for its length, and windows that open.
    let reset = [frame(1, 4, 1, oversized), frame(0, 0, 1, b"zz")].concat();
    let window = frame(8, 0, 0, &[0, 0, 0, 1]);
    for (first, then) in [(&reset[..], octets(1)), (&[][..], window)] {
        for count in [TURN / 4, 1000] {
            let mut rig = Rig::with(http2_config());
            let client = Peer::client(&mut rig);
            read(&mut rig, client.conn, first);
            rig.turn();
            rig.taken(client.conn);
            read(&mut rig, client.conn, &[&then.repeat(count)[..], PING].concat());
            assert_eq!(has_more(&mut rig), count == 1000, "few are no flood");
            let mut turns = 1;
            let mut answered = pongs(&mut rig, client.conn);
            while has_more(&mut rig) {
                assert_eq!(answered, 0, "it is the last");
                wake(&mut rig);
                turns += 1;
                answered += pongs(&mut rig, client.conn);
            }
            assert_eq!(answered, 1);
            assert!(turns >= count / TURN, "{turns} turns");
        }
    }
}

#[test]
fn a_flood_is_handled_piece_by_piece_and_others_come_in_between() {
    let mut rig = Rig::with(http2_config());
    let (flooder, up) = uploader(&mut rig);
    let canary = rig.client();
    read(&mut rig, flooder.conn, &octets(1000));
    let first = TURN - DRIVEN;
    assert_eq!(arrived(&mut rig, up), first);
    assert!(has_more(&mut rig), "it is woken at once");
    assert_eq!(rig.engine.read_budget(flooder.conn), 0, "and reads no more meanwhile");
    read(&mut rig, canary, CANARY);
    assert_eq!(rig.connects.len(), 1, "the canary's turn");
    assert_eq!(arrived(&mut rig, up), 0, "is nobody else's");
    wake(&mut rig);
    assert_eq!(arrived(&mut rig, up), first);
    rig.turn();
    assert_eq!(arrived(&mut rig, up), 1000 - 2 * first);
    assert!(!has_more(&mut rig));
    assert!(rig.engine.read_budget(flooder.conn) > 0);
    assert!(rig.read_ready.contains(&flooder.conn), "it was told to read on");
}

#[test]
fn many_floods_take_turns_and_each_turn_is_bounded() {
    let mut rig = Rig::with(http2_config());
    let (one, up_of_one) = uploader(&mut rig);
    let (other, up_of_other) = uploader(&mut rig);
    for client in [&one, &other] {
        read(&mut rig, client.conn, &octets(3 * TURN));
    }
    for _ in 0..2 {
        let before = (arrived(&mut rig, up_of_one), arrived(&mut rig, up_of_other));
        assert!(before == (TURN - DRIVEN, TURN - DRIVEN), "{before:?}");
        wake(&mut rig);
        assert_eq!(rig.written_len(up_of_other), 0, "one at a time");
        wake(&mut rig);
    }
}

#[test]
fn a_hundred_requests_at_once_are_no_flood() {
    let mut rig = Rig::with(http2_config());
    let mut client = Peer::client(&mut rig);
    client.ask(&mut rig, GET, true);
    let app = Peer::endpoint(&mut rig);
    rig.taken(app.conn);
    let block = b"\x82\x86\x84\x01\x0ah2.example";
    let requests: Vec<u8> = (1..=100).flat_map(|n| frame(1, 5, 2 * n + 1, block)).collect();
    read(&mut rig, client.conn, &requests);
    assert!(!has_more(&mut rig));
    assert_eq!(rig.engine.gauges().exchanges, 101);
}

/// HEADERS of so many requests without a body, on streams of their own from the `first`th on.
fn requests(authority: &str, first: u32, count: u32) -> Vec<Vec<u8>> {
    let mut block = b"\x82\x86\x84\x01".to_vec();
    block.push(authority.len() as u8);
    block.extend(authority.as_bytes());
    (first..first + count).map(|n| frame(1, 5, 2 * n + 1, &block)).collect()
}

/// What one turn made the adapter do: connects, closes and lines in the log.
fn asked(rig: &Rig) -> usize {
    rig.connects.len() + rig.closes.len() + rig.events.len()
}

#[test]
fn a_turn_opens_few_connections_and_all_are_opened() {
    let mut rig = Rig::with(http2_config());
    let client = Peer::client(&mut rig);
    let canary = rig.client();
    read(&mut rig, client.conn, &requests("h1.example", 0, 100).concat());
    assert_eq!(rig.connects.len(), TURN / OUTPUT);
    read(&mut rig, canary, CANARY);
    assert_eq!(rig.connects.len(), TURN / OUTPUT + 1, "the canary's turn is its own");
    let mut turns = 1;
    while has_more(&mut rig) {
        let before = rig.connects.len();
        wake(&mut rig);
        assert!(rig.connects.len() <= before + TURN / OUTPUT);
        turns += 1;
    }
    assert_eq!(rig.connects.len(), 101, "every request has its connection");
    assert!(turns <= 100 * OUTPUT / TURN + 1, "{turns} turns");
}

#[test]
fn a_turn_goes_over_few_connections_and_all_requests_go_out() {
    let mut rig = Rig::with(http2_config());
    let client = Peer::client(&mut rig);
    read(&mut rig, client.conn, &requests("h1.example", 0, 100).concat());
    rig.turn();
    let endpoints: Vec<ConnId> = (0..100).map(|_| rig.connect()).collect();
    for &up in &endpoints {
        rig.taken(up);
        rig.receive(up, b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
    }
    // The same again, and connections are there.
    read(&mut rig, client.conn, &requests("h1.example", 100, 100).concat());
    let written = |rig: &Rig| endpoints.iter().filter(|&&up| rig.written_len(up) > 0).count();
    let most = TURN / DRIVEN;
    let first = written(&rig);
    assert!((most / 2..=most).contains(&first), "{first}");
    while has_more(&mut rig) {
        let before = written(&rig);
        wake(&mut rig);
        assert!(written(&rig) <= before + most);
    }
    assert_eq!((written(&rig), rig.connects.len()), (100, 0));
}

#[test]
fn rapid_resets_make_a_turn_do_little() {
    for authority in ["h1.example", "h2.example", "no.example"] {
        let mut rig = Rig::with(http2_config());
        let client = Peer::client(&mut rig);
        let asks = requests(authority, 0, 100).into_iter().zip(0..);
        let bytes: Vec<u8> = asks
            .flat_map(|(ask, n)| [ask, frame(3, 0, 2 * n + 1, &[0, 0, 0, 8])].concat())
            .collect();
        read(&mut rig, client.conn, &bytes);
        let mut before = 0;
        loop {
            let now = asked(&rig);
            // The last event of a turn may do more than was left: a request and its refusal.
            assert!(now <= before + TURN / OUTPUT + 1, "{authority}: {}", now - before);
            if !has_more(&mut rig) {
                break;
            }
            before = now;
            wake(&mut rig);
        }
        assert_eq!(rig.engine.gauges().exchanges, 0, "{authority}");
    }
}

#[test]
fn what_came_before_an_end_or_a_failure_still_counts() {
    for failed in [false, true] {
        let mut rig = Rig::with(http2_config());
        let mut client = Peer::client(&mut rig);
        client.ask(&mut rig, GET, true);
        let app = Peer::endpoint(&mut rig);
        let mut answer = frame(1, 4, 1, b"\x88");
        answer.extend(octets(500));
        answer.extend(frame(0, 1, 1, b"z"));
        read(&mut rig, app.conn, &answer);
        assert!(has_more(&mut rig));
        let conn = app.conn;
        let failure = Input::Failed { conn, kind: IoError::Reset };
        rig.input(if failed { failure } else { Input::ReadClosed { conn } });
        client.run(&mut rig);
        assert_eq!((client.on(1).body.len(), client.on(1).end), (501, true), "{failed}");
    }
}

#[test]
fn a_deadline_does_not_overtake_what_has_come() {
    let mut rig = Rig::with(http2_config());
    // It acknowledges our SETTINGS in time, after a long upload.
    let conn = rig.client();
    let mut bytes = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
    bytes.extend(frame(4, 0, 0, b""));
    bytes.extend(frame(1, 4, 1, b"\x83\x86\x84\x01\x0ah1.example"));
    bytes.extend(octets(500));
    bytes.extend(frame(4, 1, 0, b""));
    read(&mut rig, conn, &bytes);
    assert!(has_more(&mut rig));
    rig.now += millis(11_000);
    rig.turn();
    rig.input(Input::Timeout);
    assert_eq!(rig.closed(conn), []);
    let sent = rig.taken(conn);
    assert!(!sent.windows(5).any(|w| w == [8, 7, 0, 0, 0]), "no GOAWAY: {sent:?}");
}

/// Found by random schedules: a late report of a connection that was gone caught up with who had its
/// slot. That one was paused while its rest waited for a turn, and nobody looked at it again.
#[test]
fn who_waits_for_a_turn_is_nothing_to_a_late_report() {
    let mut rig = Rig::with(http2_config());
    let old = rig.client();
    rig.input(Input::Failed { conn: old, kind: IoError::Reset });
    let (client, up) = uploader(&mut rig);
    assert_eq!(client.conn.index(), old.index());
    read(&mut rig, client.conn, &octets(2 * TURN));
    let first = arrived(&mut rig, up);
    assert!(has_more(&mut rig) && rig.engine.read_budget(client.conn) == 0, "it waits");
    rig.read_ready.clear();
    rig.engine.handle_input(rig.now, Input::Failed { conn: old, kind: IoError::Reset });
    rig.one_turn();
    assert_eq!(arrived(&mut rig, up), 0);
    assert!(has_more(&mut rig) && rig.engine.read_budget(client.conn) == 0, "it still does");
    rig.turn();
    wake(&mut rig);
    rig.turn();
    assert_eq!(first + arrived(&mut rig, up), 2 * TURN);
    assert!(rig.engine.read_budget(client.conn) > 0);
    assert!(rig.read_ready.contains(&client.conn), "it was told to read on");
}

/// The kinds and streams of frames.
fn frames(mut bytes: &[u8]) -> Vec<(u8, u8)> {
    let mut frames = Vec::new();
    while let [a, b, c, kind, _, _, _, _, stream, rest @ ..] = bytes {
        frames.push((*kind, *stream));
        bytes = &rest[usize::from(*a) << 16 | usize::from(*b) << 8 | usize::from(*c)..];
    }
    frames
}

const HEADERS: u8 = 1;
const DATA: u8 = 0;

#[test]
fn what_is_whole_in_one_turn_is_whole_on_the_wire() {
    let mut rig = Rig::with(http2_config());
    // Requests of HTTP/1 to an endpoint that speaks HTTP/2 …
    let first = rig.client();
    rig.receive(first, GET.as_bytes());
    let mut app = Peer::endpoint(&mut rig);
    app.ok(&mut rig, 1);
    let post = GET.replace("GET", "POST").replace("\r\n\r\n", "\r\nContent-Length: 5\r\n\r\nhello");
    for _ in 0..2 {
        let conn = rig.client();
        let data = BytesMut::from(post.as_bytes());
        rig.engine.handle_input(rig.now, Input::Received { conn, data });
    }
    rig.turn();
    let sent = frames(&app.unread(&mut rig));
    assert_eq!(sent, [(HEADERS, 3), (DATA, 3), (HEADERS, 5), (DATA, 5)]);
    // … and answers of HTTP/1 to a client that does.
    let mut client = Peer::client(&mut rig);
    let get = GET.replace("h2.", "h1.");
    client.ask(&mut rig, &get, true);
    let up = rig.connect();
    client.ask(&mut rig, &get, true);
    let other = rig.connect();
    for conn in [other, up] {
        let answer = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello";
        rig.engine
            .handle_input(rig.now, Input::Received { conn, data: BytesMut::from(&answer[..]) });
    }
    rig.turn();
    let sent = frames(&client.unread(&mut rig));
    assert_eq!(sent, [(HEADERS, 3), (DATA, 3), (HEADERS, 1), (DATA, 1)]);
}
