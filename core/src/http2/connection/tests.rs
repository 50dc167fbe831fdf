extern crate std;

mod states;

use std::string::String;
use std::vec::Vec;

use bytes::BytesMut;

use super::*;
use crate::config::Timeouts;
use crate::http::{Framing, Scratch as Http1Scratch};
use crate::http1::parse_request;
use crate::http2::Scratch;
use crate::limits::Limits;

/// One end: a connection, what it received and what it wants to send.
struct End {
    connection: Connection,
    rx: BytesMut,
    tx: OutQueue,
    limits: Limits,
}

const NOW: Time = Time::ZERO;

impl End {
    fn new(role: Role, config: Config) -> Self {
        let mut tx = OutQueue::default();
        let connection = match role {
            Role::Client => Connection::client(config, &mut tx, NOW),
            Role::Server => Connection::server(config, &mut tx, NOW),
        };
        End { connection, rx: BytesMut::new(), tx, limits: Limits::default() }
    }

    /// What it wants to send.
    fn take(&mut self) -> Vec<u8> {
        self.connection.flush(&mut self.tx, usize::MAX);
        let mut owned = Vec::new();
        self.tx.owned(&mut owned);
        let bytes = owned.concat();
        self.tx.wrote(bytes.len());
        bytes
    }

    /// Everything that happened, as text.
    fn events(&mut self) -> Vec<String> {
        let mut scratch = Scratch::default();
        let mut events = Vec::new();
        loop {
            let End { connection, rx, tx, limits } = self;
            match connection.poll(rx, tx, &mut scratch, limits, NOW) {
                Ok(None) => return events,
                Ok(Some(Event::Settings | Event::Silence)) => {}
                Ok(Some(event)) => events.push(show(&event)),
                Err(violation) => {
                    events.push(std::format!("{violation:?}"));
                    return events;
                }
            }
        }
    }

    fn key(&self, id: u32) -> StreamKey {
        self.connection.streams.find(id).unwrap()
    }
}

fn show(event: &Event<'_>) -> String {
    match event {
        Event::Request { stream, request, end } => {
            let head = String::from_utf8_lossy(request.head.fields.buf);
            std::format!("request {} {end} {:?} {head}", stream.id, request.framing)
        }
        Event::Response { stream, token, response, end } => {
            let head = String::from_utf8_lossy(response.head.fields.buf);
            std::format!("response {} {token} {end} {:?} {head}", stream.id, response.framing)
        }
        Event::Data { stream, data, end, .. } => {
            std::format!("data {} {} {end}", stream.id, data.len())
        }
        Event::Trailers { stream, fields, .. } => {
            let section = String::from_utf8_lossy(fields.section());
            std::format!("trailers {} {section}", stream.id)
        }
        other => std::format!("{other:?}"),
    }
}

/// A client and a server that have greeted each other.
fn pair() -> (End, End) {
    let mut client = End::new(Role::Client, Config::default());
    let mut server = End::new(Role::Server, Config::default());
    shuttle(&mut client, &mut server);
    (client, server)
}

/// Carries bytes both ways until there are none; what happened at the client and at the server.
fn shuttle(client: &mut End, server: &mut End) -> (Vec<String>, Vec<String>) {
    let mut events = (Vec::new(), Vec::new());
    loop {
        let (up, down) = (client.take(), server.take());
        if up.is_empty() && down.is_empty() {
            return events;
        }
        server.rx.extend_from_slice(&up);
        client.rx.extend_from_slice(&down);
        events.1.extend(server.events());
        events.0.extend(client.events());
    }
}

/// Opens a stream with a request that is written in HTTP/1.
fn ask(client: &mut End, head: &[u8], end: bool, token: u64) -> StreamKey {
    let mut scratch = Http1Scratch::default();
    let limits = Limits::default();
    let request = parse_request(head, &mut scratch, &limits).unwrap();
    let host = request.authority.unwrap_or_default().to_vec();
    let End { connection, tx, .. } = client;
    connection.send_request(tx, &request, &host, end, token, NOW).unwrap()
}

fn put(end: &mut End, key: StreamKey, bytes: &[u8], last: bool) {
    let mut bytes = BytesMut::from(bytes);
    let n = bytes.len();
    end.connection.body(key).unwrap().take(&mut bytes, n);
    end.connection.body_added(key, n, last);
}

#[test]
fn a_request_its_body_and_the_answer_arrive_as_they_were_sent() {
    let (mut client, mut server) = pair();
    let head = b"POST /a?b HTTP/1.1\r\nHost: web.example\r\nX-Y: z\r\nContent-Length: 5\r\n\r\n";
    let key = ask(&mut client, head, false, 7);
    put(&mut client, key, b"hello", true);
    let (_, at_server) = shuttle(&mut client, &mut server);
    assert_eq!(
        at_server,
        [
            "request 1 false Length(5) POST /a?b HTTP/1.1\r\nHost: web.example\r\nx-y: z\r\n\
             content-length: 5\r\n\r\n",
            "data 1 5 true",
        ]
    );
    let End { connection, tx, .. } = &mut server;
    connection.send_error(tx, StreamKey { slot: 0, id: 1 }, Reason::ConnectFailed, false);
    assert_eq!(connection.open_streams(), 0);
    let (at_client, _) = shuttle(&mut client, &mut server);
    assert_eq!(
        at_client,
        ["response 1 7 true Length(0) HTTP/1.1 502 Bad Gateway\r\ncontent-length: 0\r\n\
          l5d-proxy-error: connection to the endpoint failed\r\n\r\n"]
    );
    assert_eq!(client.connection.open_streams(), 0);
}

#[test]
fn trailers_follow_the_body_and_end_the_stream() {
    let (mut client, mut server) = pair();
    let head = b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n";
    let key = ask(&mut client, head, false, 1);
    put(&mut client, key, b"x", false);
    let End { connection, tx, .. } = &mut client;
    let dropped = connection.send_trailers(tx, key, b"x-sum: 1\r\nHost: b\r\n\r\n");
    assert_eq!(dropped, Ok(1));
    let (_, at_server) = shuttle(&mut client, &mut server);
    assert_eq!(at_server[1..], ["data 1 1 false", "trailers 1 x-sum: 1\r\n\r\n"]);
}

#[test]
fn bodies_take_turns_and_stop_at_the_window() {
    let (mut client, mut server) = pair();
    let head = b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n";
    let keys: Vec<StreamKey> = (0..2).map(|n| ask(&mut client, head, false, n)).collect();
    for &key in &keys {
        put(&mut client, key, &std::vec![0; 40_000], true);
    }
    let (_, at_server) = shuttle(&mut client, &mut server);
    // 16 KiB each, in turns, then nothing until credit comes.
    assert_eq!(at_server[2..], ["data 1 16384 false", "data 3 16384 false"]);
    assert_eq!(client.connection.queued(), 2 * (40_000 - 16_384));
    let key = server.key(3);
    server.connection.release(&mut server.tx, key, 16_384, true);
    let (_, at_server) = shuttle(&mut client, &mut server);
    // It has grown: the far side keeps up.
    assert_eq!(at_server, ["data 3 16384 false", "data 3 7232 true"]);
    assert_eq!(server.connection.held(), 16_384 + 40_000 - 16_384);
    assert_eq!(server.connection.growth, 16_384);
    let key = server.key(3);
    server.connection.reset(&mut server.tx, key, ErrorCode::CANCEL);
    assert_eq!((server.connection.growth, server.connection.held()), (0, 16_384));
}

#[test]
fn a_window_update_of_a_stream_that_is_over_is_nobodys_fault() {
    let (mut client, mut server) = pair();
    ask(&mut client, b"GET / HTTP/1.1\r\nHost: a\r\n\r\n", true, 1);
    shuttle(&mut client, &mut server);
    let key = server.key(1);
    server.connection.reset(&mut server.tx, key, ErrorCode::CANCEL);
    let (at_client, _) = shuttle(&mut client, &mut server);
    assert_eq!(
        at_client,
        ["Reset { stream: StreamKey { slot: 0, id: 1 }, token: 1, code: CANCEL }"]
    );
    client.tx.append(|out| frame::write_window_update(out, 1, 10));
    let (at_client, at_server) = shuttle(&mut client, &mut server);
    assert!(at_client.is_empty() && at_server.is_empty());
}

#[test]
fn a_farewell_in_two_steps_loses_no_stream() {
    let (mut client, mut server) = pair();
    server.connection.shut_down(&mut server.tx, NOW);
    // It crosses the farewell.
    ask(&mut client, b"GET / HTTP/1.1\r\nHost: a\r\n\r\n", true, 1);
    let (at_client, at_server) = shuttle(&mut client, &mut server);
    assert_eq!(at_server.len(), 1);
    assert_eq!(at_client.len(), 2, "{at_client:?}");
    assert_eq!(client.connection.capacity(), 0);
    assert!(!server.connection.is_over());
    let key = server.key(1);
    server.connection.send_error(&mut server.tx, key, Reason::ConnectFailed, false);
    shuttle(&mut client, &mut server);
    assert!(server.connection.is_over() && client.connection.is_over());
}

#[test]
fn every_cut_means_the_same() {
    let mut client = End::new(Role::Client, Config::default());
    let head = b"POST /a HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n";
    let key = ask(&mut client, head, false, 1);
    put(&mut client, key, b"some body", false);
    let End { connection, tx, .. } = &mut client;
    connection.send_trailers(tx, key, b"a: b\r\n\r\n").unwrap();
    let bytes = client.take();
    let run = |pieces: &[&[u8]]| {
        let mut server = End::new(Role::Server, Config::default());
        let mut events = Vec::new();
        for piece in pieces {
            server.rx.extend_from_slice(piece);
            events.extend(server.events());
        }
        events
    };
    let whole = run(&[&bytes]);
    assert_eq!(whole.len(), 3, "{whole:?}");
    for cut in 0..bytes.len() {
        let pieces = run(&[&bytes[..cut], &bytes[cut..]]);
        let data: usize = pieces
            .iter()
            .filter_map(|event| {
                event.strip_prefix("data 1 ")?.split(' ').next()?.parse::<usize>().ok()
            })
            .sum();
        assert_eq!((data, &pieces[0], pieces.last()), (9, &whole[0], whole.last()), "{cut}");
    }
}

#[test]
fn an_idle_connection_holds_little() {
    let (mut client, mut server) = pair();
    let head = b"POST /a/b HTTP/1.1\r\nHost: web.example\r\nUser-Agent: test/1.0\r\n\
        Content-Type: application/grpc\r\nContent-Length: 0\r\n\r\n";
    ask(&mut client, head, true, 1);
    shuttle(&mut client, &mut server);
    let key = server.key(1);
    server.connection.send_error(&mut server.tx, key, Reason::ConnectFailed, true);
    shuttle(&mut client, &mut server);
    for end in [&client, &server] {
        let bytes = size_of::<Connection>() + end.connection.heap_bytes();
        assert!(bytes <= 4096, "{bytes}");
    }
    assert!(size_of::<Connection>() <= 832, "{}", size_of::<Connection>());
}

#[test]
fn framing_says_what_end_stream_and_content_length_say() {
    let (mut client, mut server) = pair();
    ask(&mut client, b"GET / HTTP/1.1\r\nHost: a\r\n\r\n", true, 1);
    ask(&mut client, b"PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n", true, 1);
    ask(&mut client, b"PUT / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n", false, 1);
    let (_, at_server) = shuttle(&mut client, &mut server);
    for (event, framing) in
        at_server.iter().zip([Framing::None, Framing::Length(0), Framing::Chunked])
    {
        assert!(event.contains(&std::format!("{framing:?}")), "{event}");
    }
}

#[test]
fn a_stream_is_not_over_while_its_last_frame_is_coming_in() {
    let (mut client, mut server) = pair();
    let head = b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n";
    let key = ask(&mut client, head, false, 1);
    put(&mut client, key, b"x", true);
    let bytes = client.take();
    // All but the last byte of DATA with END_STREAM …
    server.rx.extend_from_slice(&bytes[..bytes.len() - 1]);
    assert_eq!(server.events().len(), 1);
    // … when the answer is complete.
    let key = server.key(1);
    server.connection.send_error(&mut server.tx, key, Reason::ConnectFailed, false);
    assert_eq!(server.connection.open_streams(), 1);
    server.rx.extend_from_slice(&bytes[bytes.len() - 1..]);
    assert_eq!(server.events(), ["data 1 1 true"]);
    assert_eq!(server.connection.open_streams(), 0);
}

/// A server that has answered a request whose body is still coming.
fn answered_early() -> (End, End, StreamKey, StreamKey) {
    let (mut client, mut server) = pair();
    let head = b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n";
    let up = ask(&mut client, head, false, 1);
    put(&mut client, up, &[0; 9000], false);
    shuttle(&mut client, &mut server);
    let down = server.key(1);
    server.connection.send_error(&mut server.tx, down, Reason::UnknownAuthority, false);
    server.connection.abandon(&mut server.tx, down, NOW);
    (client, server, up, down)
}

#[test]
fn a_request_whose_end_is_under_way_is_not_reset_by_an_early_answer() {
    let (mut client, mut server, up, _) = answered_early();
    put(&mut client, up, b"the rest", true);
    let (at_client, at_server) = shuttle(&mut client, &mut server);
    assert!(at_client[0].starts_with("response 1 1 true"), "{at_client:?}");
    assert_eq!((at_client.len(), at_server.len()), (1, 0), "{at_client:?} {at_server:?}");
    for end in [&client, &server] {
        assert_eq!((end.connection.open_streams(), end.connection.held()), (0, 0));
        assert_eq!(end.connection.check_invariants(), Ok(()));
    }
}

#[test]
fn a_request_that_goes_on_after_an_early_answer_is_reset_in_the_end() {
    let (mut client, mut server, up, _) = answered_early();
    // Many times its window: none of it is held, and all of it may come.
    (0..20).for_each(|_| put(&mut client, up, &[0; 10_000], false));
    let (_, at_server) = shuttle(&mut client, &mut server);
    assert_eq!((at_server.len(), client.connection.queued()), (0, 0), "{at_server:?}");
    assert_eq!((server.connection.held(), server.connection.open_streams()), (0, 1));
    let due = server.connection.deadline().unwrap();
    server.connection.handle_timeout(&mut server.tx, NOW).unwrap();
    assert_eq!((shuttle(&mut client, &mut server).0.len(), due), (0, NOW + Timeouts::LINGER));
    server.connection.handle_timeout(&mut server.tx, due).unwrap();
    let (at_client, _) = shuttle(&mut client, &mut server);
    assert!(at_client[0].contains("NO_ERROR"), "{at_client:?}");
    assert_eq!((server.connection.open_streams(), server.connection.deadline()), (0, None));
    assert_eq!(server.connection.check_invariants(), Ok(()));
}

#[test]
fn an_early_answer_that_is_read_slowly_is_not_cut_short() {
    let (mut client, mut server) = pair();
    let head = b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n";
    ask(&mut client, head, false, 1);
    shuttle(&mut client, &mut server);
    let key = server.key(1);
    server.connection.accept_tunnel(&mut server.tx, key);
    server.connection.send_window = 10;
    put(&mut server, key, &[0; 30], true);
    server.connection.abandon(&mut server.tx, key, NOW);
    let (at_client, _) = shuttle(&mut client, &mut server);
    assert_eq!(at_client[1..], ["data 1 10 false"]);
    let later = NOW + Timeouts::LINGER;
    server.connection.handle_timeout(&mut server.tx, later).unwrap();
    server.connection.send_window = 100;
    let (at_client, _) = shuttle(&mut client, &mut server);
    assert_eq!(at_client, ["data 1 20 true"]);
    server.connection.handle_timeout(&mut server.tx, later + Timeouts::LINGER).unwrap();
    let (at_client, _) = shuttle(&mut client, &mut server);
    assert!(at_client[0].contains("NO_ERROR"), "{at_client:?}");
}

#[test]
fn what_is_remembered_of_early_answers_is_bounded() {
    let (mut client, mut server) = pair();
    let head = b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n";
    for _ in 0..1000 {
        let up = ask(&mut client, head, false, 1);
        shuttle(&mut client, &mut server);
        let down = server.key(up.id);
        server.connection.send_error(&mut server.tx, down, Reason::UnknownAuthority, false);
        server.connection.abandon(&mut server.tx, down, NOW);
        put(&mut client, up, b"x", true);
        shuttle(&mut client, &mut server);
    }
    assert!(server.connection.lingering.len() <= 20, "{}", server.connection.lingering.len());
}

#[test]
fn an_end_does_not_wait_for_credit_of_the_connection() {
    let (mut client, mut server) = pair();
    let head = b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n";
    let keys: Vec<StreamKey> = (0..3).map(|n| ask(&mut client, head, false, n)).collect();
    client.connection.send_window = 10;
    put(&mut client, keys[0], &[0; 20], true);
    put(&mut client, keys[1], &[0; 20], true);
    client.connection.body_added(keys[2], 0, true);
    let (_, at_server) = shuttle(&mut client, &mut server);
    assert_eq!(at_server[3..], ["data 5 0 true", "data 1 10 false"]);
    assert_eq!(client.connection.check_invariants(), Ok(()));
}

#[test]
fn the_smallest_of_several_table_sizes_is_signalled() {
    let (mut client, _) = pair();
    let sizes = [0, 1, 0, 0, 0, 0, 0, 1, 0, 0, 16, 0];
    client.rx.extend_from_slice(&[0, 0, 12, 4, 0, 0, 0, 0, 0]);
    client.rx.extend_from_slice(&sizes);
    client.events();
    client.take();
    ask(&mut client, b"GET / HTTP/1.1\r\nHost: a\r\n\r\n", true, 1);
    // RFC 7541 §4.2: to 0, then to 4096.
    assert_eq!(client.take()[9..13], [0x20, 0x3f, 0xe1, 0x1f]);
}

#[test]
fn a_crumb_that_must_not_be_indexed_taints_its_line() {
    let (mut client, mut server) = pair();
    // Two crumbs, the second never indexed (RFC 7541 §6.2.3).
    let block = b"\x82\x86\x84\x00\x06cookie\x03a=b\x10\x06cookie\x03c=d";
    client.tx.append(|out| {
        let (flags, length) = (flags_of_a_request(), block.len());
        frame::FrameHeader { length, kind: frame::Kind::Headers, flags, stream: 1 }.write(out);
        out.extend_from_slice(block);
    });
    server.rx.extend_from_slice(&client.take());
    let mut scratch = Scratch::default();
    let End { connection, rx, tx, limits } = &mut server;
    let Ok(Some(Event::Request { request, .. })) =
        connection.poll(rx, tx, &mut scratch, limits, NOW)
    else {
        panic!("no request")
    };
    let span = request.head.fields.spans.last().unwrap();
    assert_eq!(span.value(request.head.fields.buf), b"a=b; c=d");
    assert_eq!(span.fate, crate::http::Fate::Sensitive);
}

fn flags_of_a_request() -> u8 {
    frame::flags::END_STREAM | frame::flags::END_HEADERS
}

#[test]
fn a_client_whose_identifiers_are_used_up_opens_no_more() {
    let (mut client, mut server) = pair();
    client.connection.next_id = MAX_WINDOW;
    assert!(client.connection.capacity() > 0);
    // RFC 9113 §5.1.1: the last one there is …
    ask(&mut client, b"GET / HTTP/1.1\r\nHost: a\r\n\r\n", true, 1);
    let (_, at_server) = shuttle(&mut client, &mut server);
    assert!(at_server[0].starts_with("request 2147483647 true"), "{at_server:?}");
    // … and then none, but what is open goes on.
    assert_eq!(client.connection.capacity(), 0);
    let key = server.key(MAX_WINDOW);
    server.connection.send_error(&mut server.tx, key, Reason::ConnectFailed, false);
    let (at_client, _) = shuttle(&mut client, &mut server);
    assert_eq!(at_client.len(), 1);
    assert_eq!(client.connection.open_streams(), 0);
}

/// A body that is whole goes right behind its head, but not before what waits on another stream.
#[test]
fn a_whole_body_follows_its_head_unless_others_wait() {
    let head = b"POST / HTTP/1.1\r\nHost: web.example\r\nContent-Length: 5\r\n\r\n";
    for others in [false, true] {
        let (mut client, mut server) = pair();
        if others {
            let key = ask(&mut client, head, false, 1);
            put(&mut client, key, b"hell", false);
            shuttle(&mut client, &mut server);
            put(&mut client, key, b"o", true);
        }
        let key = ask(&mut client, head, false, 1);
        put(&mut client, key, b"hello", true);
        let before = client.tx.unsent();
        let End { connection, tx, .. } = &mut client;
        connection.flush_alone(tx, usize::MAX);
        let framed = client.tx.unsent() - before;
        assert_eq!(framed, if others { 0 } else { 9 + 5 });
        let (_, got) = shuttle(&mut client, &mut server);
        assert!(got.last().is_some_and(|last| last.ends_with("data 3 5 true")) == others);
        assert_eq!(got.len(), if others { 3 } else { 2 });
    }
}
