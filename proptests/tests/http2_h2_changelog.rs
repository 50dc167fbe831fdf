//! What the `h2` crate had to mend, from 0.3.20 on (its CHANGELOG.md): each bug that could exist here
//! has a test here, in this file or where the list says.

use selvedge_core::http2::{Config, ErrorCode, Role};
use selvedge_proptests::h2::end::End;
use selvedge_proptests::h2::table::cases;
use selvedge_proptests::h2::wire::{END_STREAM, Frame, PREFACE, frames};

/// Version, what was wrong there, and the tests or cases of the table that would show it here.
const FIXES: &[(&str, &str, &[&str])] = &[
    ("0.3.20", "panic on a request with a 1xx :status", &["request_with_an_interim_status"]),
    (
        "0.3.20",
        "a window that overflows by subtraction",
        &["windows_survive_the_largest_changes", "window_made_negative_by_settings"],
    ),
    ("0.3.21", "more streams than the peer allows", &["no_more_streams_than_the_peer_allows"]),
    ("0.3.21", "data before a CANCEL is lost", &["what_came_before_a_reset_is_handed_out"]),
    ("0.4.1", "a stream takes all credit of the connection", &["credit_goes_round"]),
    ("0.4.2", "streams reset for errors without limit", &["rapid reset by a bad WINDOW_UPDATE"]),
    (
        "0.4.2",
        "a wrong limit of streams before one was advertised",
        &["no_more_streams_than_the_peer_allows"],
    ),
    (
        "0.4.3",
        "a window that holds before its SETTINGS are acknowledged",
        &[
            "window_exceeded_within_the_default_before_our_settings",
            "window_negative_after_our_settings_and_a_byte",
        ],
    ),
    (
        "0.4.4",
        "CONTINUATIONs without limit",
        &["CONTINUATIONs without content", "CONTINUATIONs without end"],
    ),
    ("0.4.5", "connections that hang when they shut down", &["goaway_of_ours_without_an_answer"]),
    ("0.4.5", "pseudo-headers of CONNECT and OPTIONS", &["connect_and_options_are_written_right"]),
    (
        "0.4.6",
        "PROTOCOL_ERROR for a head that is too large",
        &["block_a_little_too_long_is_answered", "block_too_large_costs_the_stream"],
    ),
    ("0.4.7", "END_STREAM with a non-zero Content-Length", &["length_and_the_end"]),
    ("0.4.7", "nobody is told of a stream that was reset for an error", &["length_and_too_much"]),
    (
        "0.4.8",
        "windows of streams on which nothing is sent any more",
        &["windows_of_ended_streams_do_not_matter"],
    ),
    (
        "0.4.8",
        "credit that was reserved for a stream that is over",
        &["credit_of_a_stream_that_is_over_is_not_lost"],
    ),
    ("0.4.13", "1xx are not supported", &["interim_then_final"]),
    ("0.4.13", "padding does not come back as credit", &["padding_comes_back_as_credit"]),
    (
        "0.4.14",
        "credit of padded DATA is lost when the stream is reset",
        &["credit_comes_back_whatever_becomes_of_data"],
    ),
    (
        "0.4.14",
        "credit is lost when a stream is cancelled",
        &["credit_of_a_stream_that_is_over_is_not_lost"],
    ),
    (
        "0.4.14",
        "credit of DATA after GOAWAY is lost",
        &["credit_comes_back_whatever_becomes_of_data", "goaway_of_ours_then_a_stream_too_late"],
    ),
    (
        "0.4.14",
        "HEADERS on a stream that was reset",
        &["nothing_is_sent_on_a_stream_that_was_reset"],
    ),
    ("0.4.14", "a GOAWAY closes the peer's own streams", &["goaway"]),
    (
        "0.4.15",
        "a head far too large does not end the connection",
        &["block_longer_than_any_of_ours"],
    ),
    ("0.4.15", "255 octets of padding overflow", &["padding_and_nothing_else"]),
    ("0.4.15", "panic on very many fields", &["a_header_bomb_is_answered_not_unpacked"]),
    (
        "0.4.15",
        "frames of streams whose HEADERS were not sent",
        &["idle_data", "idle_window_update"],
    ),
    (
        "0.4.15",
        "DATA that waits is sent after a reset",
        &["nothing_is_sent_on_a_stream_that_was_reset"],
    ),
    (
        "0.4.16",
        "small DATA frames without limit",
        &["tiny_data_is_throttled_by_the_window", "DATA without content"],
    ),
    (
        "0.4.16",
        "data before a reset after the end is lost",
        &["what_came_before_a_reset_is_handed_out"],
    ),
    (
        "0.4.17",
        "the limit of small DATA frames hits the ends of streams",
        &["four_hundred_unary_calls_at_once_again_and_again"],
    ),
    (
        "0.4.17",
        "an encoder's table as large as the peer says",
        &["the_encoder_keeps_its_own_limit"],
    ),
    ("0.4.20", "refused streams are not counted", &["streams beyond the limit"]),
    ("0.4.20", "Content-Lengths that differ", &["length_twice_differing", "length_differing"]),
    ("0.4.20", "a response without :status", &["status_missing"]),
    ("0.4.20", "GOAWAY on a stream", &["goaway_on_a_stream"]),
];

/// The sources in which tests are found by name.
const SOURCES: &[&str] = &[
    include_str!("http2_h2_changelog.rs"),
    include_str!("../src/h2/attack.rs"),
    include_str!("http2_attacks/attack.rs"),
    include_str!("http2_attacks/honest.rs"),
];

#[test]
fn every_fix_has_its_test() {
    let cases = cases();
    for (version, what, tests) in FIXES {
        for test in *tests {
            let found = cases.iter().any(|case| case.name == *test)
                || SOURCES.iter().any(|source| {
                    source.contains(&format!("fn {test}("))
                        || source.contains(&format!("name: \"{test}\","))
                });
            assert!(found, "{version}: {what}: there is no {test}");
        }
    }
}

const GET: &[u8] = b"GET / HTTP/1.1\r\nHost: a.example\r\n\r\n";
const POST: &[u8] = b"POST / HTTP/1.1\r\nHost: a.example\r\nTransfer-Encoding: chunked\r\n\r\n";
const ANSWER: &[u8] = b"HTTP/1.1 200 OK\r\n\r\n";

/// A client that was greeted with these settings.
fn client(settings: &[(u16, u32)]) -> End {
    let mut end = End::new(Role::Client, Config::default());
    send(&mut end, &[Frame::settings(settings), Frame::settings_ack()]);
    end.take();
    end.lines();
    end
}

/// A server that was greeted.
fn server() -> End {
    let mut end = End::new(Role::Server, Config::default());
    end.receive(PREFACE);
    send(&mut end, &[Frame::settings(&[]), Frame::settings_ack()]);
    end.take();
    end.lines();
    end
}

fn send(end: &mut End, sent: &[Frame]) {
    end.receive(&sent.iter().flat_map(Frame::bytes).collect::<Vec<u8>>());
}

fn request(id: u32, end: bool) -> Frame {
    let fields = [(":method", "POST"), (":scheme", "http"), (":path", "/"), (":authority", "a")];
    Frame::headers(id, end, &fields)
}

/// What was sent, as the table writes it.
fn sent(end: &mut End) -> Vec<String> {
    frames(&end.take()).iter().map(ToString::to_string).collect()
}

#[test]
fn windows_survive_the_largest_changes() {
    let mut end = client(&[(4, 0x7fff_ffff)]);
    let key = end.ask(POST, false).expect("room");
    end.put(key, &[0; 1000], false);
    end.take();
    for window in [0, 0x7fff_ffff, 0, 1, 0x7fff_ffff, 0] {
        send(&mut end, &[Frame::settings(&[(4, window)])]);
        let (send, _) = end.connection.credit(Some(key)).expect("open");
        assert_eq!(i64::from(send), i64::from(window) - 1000);
    }
    assert!(!end.dead);
}

#[test]
fn no_more_streams_than_the_peer_allows() {
    // Nothing was advertised: no limit.
    let mut end = End::new(Role::Client, Config::default());
    assert!((0..500).all(|_| end.ask(GET, true).is_some()));
    let mut end = client(&[(3, 2)]);
    let first = end.ask(GET, true).expect("room");
    assert!(end.ask(GET, true).is_some() && end.ask(GET, true).is_none());
    // Fewer from now on; what is open counts.
    send(&mut end, &[Frame::settings(&[(3, 1)]), Frame::headers(1, true, &[(":status", "200")])]);
    assert!(end.ask(GET, true).is_none());
    send(&mut end, &[Frame::headers(3, true, &[(":status", "200")])]);
    assert!(end.ask(GET, true).is_some() && end.ask(GET, true).is_none());
    assert_eq!(first.id, 1);
}

#[test]
fn what_came_before_a_reset_is_handed_out() {
    for flags in [0, END_STREAM] {
        let mut end = client(&[]);
        end.ask(POST, false).expect("room");
        let head = Frame::headers(1, false, &[(":status", "200")]);
        send(&mut end, &[head, Frame::new(0, flags, 1, *b"data"), Frame::reset(1, 8)]);
        let last = if flags == 0 { "data 1 data" } else { "data 1 data end" };
        assert_eq!(end.lines(), ["response 1 200 {} Chunked", last, "reset 1 CANCEL"]);
    }
}

#[test]
fn credit_goes_round() {
    let mut end = client(&[(4, 0x7fff_ffff)]);
    let keys: Vec<_> = (0..10).map(|_| end.ask(POST, false).expect("room")).collect();
    for &key in &keys {
        end.put(key, &vec![0; 100_000], false);
    }
    // The connection's 65,535 octets, then 16,384 at a time: everybody's turn comes.
    let mut turns = sent(&mut end);
    for _ in 0..6 {
        send(&mut end, &[Frame::window_update(0, 16_384)]);
        turns.extend(sent(&mut end));
    }
    for key in keys {
        let frame = format!("DATA({}, ", key.id);
        assert!(turns.iter().any(|turn| turn.starts_with(&frame)), "{}: {turns:?}", key.id);
    }
}

#[test]
fn connect_and_options_are_written_right() {
    let heads: [(&[u8], &str); 3] = [
        (
            b"CONNECT a.example:443 HTTP/1.1\r\nHost: a.example:443\r\n\r\n",
            "request 1 CONNECT a.example:443 {Host: a.example:443} None",
        ),
        (
            b"OPTIONS * HTTP/1.1\r\nHost: a.example\r\n\r\n",
            "request 1 OPTIONS * {Host: a.example} None",
        ),
        (
            b"OPTIONS /a HTTP/1.1\r\nHost: a.example\r\n\r\n",
            "request 1 OPTIONS /a {Host: a.example} None",
        ),
    ];
    for (head, expected) in heads {
        let (mut client, mut server) = (client(&[]), server());
        let end = !head.starts_with(b"CONNECT");
        client.ask(head, end).expect("room");
        server.receive(&client.take());
        let expected = if end { format!("{expected} end") } else { expected.to_owned() };
        assert_eq!(server.lines(), [expected]);
    }
}

#[test]
fn windows_of_ended_streams_do_not_matter() {
    let mut end = client(&[(4, 100)]);
    // One is done sending, one has not begun to wait, one is over.
    let done = end.ask(GET, true).expect("room");
    end.ask(POST, false).expect("room");
    let over = end.ask(GET, true).expect("room");
    end.take();
    send(&mut end, &[Frame::headers(over.id, true, &[(":status", "200")])]);
    for window in [0, 1 << 20, 5] {
        send(&mut end, &[Frame::settings(&[(4, window)]), Frame::window_update(over.id, 5)]);
        assert_eq!(sent(&mut end), ["SETTINGS_ACK"]);
    }
    send(&mut end, &[Frame::headers(done.id, true, &[(":status", "200")])]);
    assert_eq!((end.connection.open_streams(), end.dead), (1, false));
    end.connection.check_invariants().expect("invariants");
}

#[test]
fn credit_of_a_stream_that_is_over_is_not_lost() {
    let mut end = client(&[]);
    let before = end.connection.credit(None);
    for _ in 0..100 {
        let key = end.ask(POST, false).expect("room");
        // It waits for its turn when it is cancelled.
        end.put(key, &vec![0; 50_000], true);
        end.reset(key, ErrorCode::CANCEL);
        assert_eq!(sent(&mut end).len(), 2);
    }
    assert_eq!((end.connection.credit(None), end.connection.queued()), (before, 0));
    let key = end.ask(POST, false).expect("room");
    end.put(key, &vec![0; 65_535], true);
    assert_eq!(sent(&mut end).len(), 5);
}

#[test]
fn credit_comes_back_whatever_becomes_of_data() {
    let mut end = server();
    let window = end.connection.credit(None).map(|(_, recv)| recv).expect("credit");
    // Half a megabyte each: on a stream that we reset, on one that is over, on one that is malformed,
    // and after our GOAWAY; padded and not.
    send(&mut end, &[request(1, false), request(3, true), request(5, false)]);
    end.reset(end.key(1), ErrorCode::CANCEL);
    end.answer(end.key(3), ANSWER, true);
    let mut padded = vec![255];
    padded.extend([0; 16_000]);
    let mut given = 0;
    let mut received = 0;
    for round in 0..300 {
        if round == 200 {
            end.connection.shut_down(&mut end.tx, end.now);
            send(&mut end, &[Frame::new(6, 1, 0, *b"farewell"), request(7, false)]);
        }
        let stream = [1, 3, 5, 7][if round < 200 { round % 3 } else { 3 }];
        let frame = Frame::new(0, if round % 2 == 0 { 8 } else { 0 }, stream, padded.clone());
        received += frame.payload.len();
        send(&mut end, &[frame]);
        assert!(!end.dead, "{round}: {:?}", end.violations);
        end.connection.check_invariants().expect("invariants");
        let credit = |frame: &Frame| if frame.is("WINDOW_UPDATE") { frame.first_word() } else { 0 };
        given +=
            frames(&end.take()).iter().filter(|frame| frame.stream == 0).map(credit).sum::<u32>()
                as usize;
    }
    // All but what is not yet worth a frame.
    assert!(received - given <= window as usize / 2, "{received} received, {given} given back");
}

#[test]
fn nothing_is_sent_on_a_stream_that_was_reset() {
    let mut end = server();
    send(&mut end, &[request(1, true), request(3, true), request(5, true)]);
    let keys = [1, 3, 5].map(|id| end.key(id));
    // Reset by us before the head, by us with a body that waits, by the peer.
    end.reset(keys[0], ErrorCode::CANCEL);
    end.answer(keys[1], ANSWER, false);
    end.put(keys[1], &vec![0; 50_000], true);
    end.reset(keys[1], ErrorCode::CANCEL);
    send(&mut end, &[Frame::reset(5, 8)]);
    for key in keys {
        end.answer(key, ANSWER, false);
        assert!(!end.put(key, b"x", true));
        end.trail(key, b"a: b\r\n\r\n").expect("trailers");
        end.reset(key, ErrorCode::CANCEL);
    }
    assert_eq!(
        sent(&mut end),
        ["RST_STREAM(1, CANCEL)", "HEADERS(3, END_HEADERS)", "RST_STREAM(3, CANCEL)"]
    );
}

#[test]
fn the_encoder_keeps_its_own_limit() {
    let mut end = client(&[(1, u32::MAX)]);
    for n in 0..2000 {
        let head = format!("GET / HTTP/1.1\r\nHost: host-{n}.example\r\nX-Field: {n}{n}\r\n\r\n");
        let key = end.ask(head.as_bytes(), true).expect("room");
        end.reset(key, ErrorCode::CANCEL);
    }
    end.take();
    assert!(end.connection.heap_bytes() < 16 * 1024, "{}", end.connection.heap_bytes());
}
