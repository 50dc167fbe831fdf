//! Opaque TCP, CONNECT and upgrades through the engine.

use alloc::{format, vec};

use super::rig::*;
use crate::engine::{CloseKind, ConnId, Input};
use crate::limits::Limits;
use crate::time::Duration;

#[test]
fn an_opaque_forward_carries_bytes_and_half_closes_both_ways() {
    let mut rig = Rig::new();
    let down = rig.accept_to(FORWARD, None);
    rig.receive(down, b"early");
    let up = rig.connect();
    assert_eq!(rig.written(up), "early");
    rig.receive(up, b"hello");
    assert_eq!(rig.written(down), "hello");
    rig.eof(down);
    assert_eq!(rig.closed(up), [CloseKind::Half]);
    rig.receive(up, b"still");
    assert_eq!(rig.written(down), "still");
    rig.eof(up);
    assert_eq!(rig.closed(up), [CloseKind::Half, CloseKind::Full]);
    assert_eq!(rig.closed(down), [CloseKind::Half, CloseKind::Full]);
    assert_eq!(rig.engine.gauges().connections, 0);
}

#[test]
fn an_upgrade_without_a_key_goes_on_without_one() {
    let get = "GET / HTTP/1.1\r\nHost: web.example\r\n";
    let mut rig = Rig::new();
    let (_, up) = rig.exchange(&format!("{get}Connection: Upgrade\r\nUpgrade: websocket\r\n\r\n"));
    let written = format!("{get}Upgrade: websocket\r\nConnection: upgrade\r\n\r\n");
    assert_eq!(rig.written(up), written);
}

#[test]
fn a_reset_on_one_side_is_a_reset_on_the_other() {
    let mut rig = Rig::new();
    let down = rig.accept_to(FORWARD, None);
    let up = rig.connect();
    rig.reset(up);
    assert_eq!(
        (rig.closed(up), rig.closed(down)),
        ([CloseKind::Abort].into(), [CloseKind::Abort].into())
    );
}

#[test]
fn detection_forwards_every_byte_of_what_it_does_not_know() {
    let mut rig = Rig::new();
    let down = rig.accept_to(OUTBOUND, Some("10.9.9.9:6379"));
    rig.receive(down, b"\x01\x02\x03");
    assert_eq!(rig.connects[0].1, addr("10.9.9.9:6379"));
    let up = rig.connect();
    assert_eq!(rig.written(up), "\x01\x02\x03");
}

#[test]
fn a_silent_client_waits_for_detection_and_an_opaque_port_for_nothing() {
    let mut rig = Rig::new();
    rig.accept_to(OUTBOUND, Some("10.9.9.9:25"));
    rig.pass(Duration::from_millis(9_999));
    assert!(rig.connects.is_empty());
    rig.pass(Duration::from_millis(1));
    assert_eq!(rig.connects.len(), 1);
    let mut rig = Rig::new();
    rig.accept_to(OUTBOUND, Some("10.9.9.9:3306"));
    assert_eq!(rig.connects.len(), 1);
}

#[test]
fn opaque_with_nowhere_to_go_is_closed_and_counted() {
    let mut rig = Rig::new();
    let down = rig.client();
    rig.receive(down, b"\x00\x01");
    assert_eq!(rig.closed(down), [CloseKind::Abort]);
    let snapshot = rig.engine.snapshot();
    let reason = crate::error::Reason::OpaqueNowhere as usize;
    assert_eq!(snapshot.directions[0].refused[reason], 1);
}

#[test]
fn connect_to_us_reaches_services_only() {
    let mut rig = Rig::new();
    let down = rig.client();
    rig.receive(down, b"CONNECT one.example:80 HTTP/1.1\r\nHost: one.example:80\r\n\r\n");
    let up = rig.connect();
    assert_eq!(rig.written(down), "HTTP/1.1 200 OK\r\n\r\n");
    rig.receive(down, b"ping");
    assert_eq!(rig.written(up), "ping");
    let down = rig.client();
    rig.receive(down, b"CONNECT 10.0.0.3:80 HTTP/1.1\r\nHost: 10.0.0.3:80\r\n\r\n");
    assert!(rig.written(down).starts_with("HTTP/1.1 404 "));
    assert!(rig.connects.is_empty(), "never an open proxy");
}

#[test]
fn a_websocket_handshake_opens_a_tunnel() {
    let mut rig = Rig::new();
    let (down, up) = rig.exchange(
        "GET /chat HTTP/1.1\r\nHost: one.example\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n",
    );
    assert!(rig.written(up).to_ascii_lowercase().contains("upgrade: websocket\r\n"));
    rig.receive(up, b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\nfirst");
    let answer = rig.written(down);
    assert!(answer.starts_with("HTTP/1.1 101 ") && answer.ends_with("\r\n\r\nfirst"), "{answer}");
    rig.receive(down, b"GET / not http any more");
    assert_eq!(rig.written(up), "GET / not http any more");
}

#[test]
fn our_own_listeners_and_loopback_are_no_destinations() {
    let mut rig = Rig::new();
    let down = rig.accept_to(OUTBOUND, Some("127.0.0.1:4143"));
    rig.receive(down, b"GET / HTTP/1.1\r\nHost: x\r\n\r\n");
    assert!(rig.written(down).starts_with("HTTP/1.1 508 "));
    let down = rig.accept_to(INBOUND, Some("127.0.0.1:4191"));
    rig.receive(down, b"GET / HTTP/1.1\r\nHost: x\r\n\r\n");
    assert!(rig.written(down).starts_with("HTTP/1.1 508 "), "the admin server");
    let down = rig.accept_to(OUTBOUND, Some("127.0.0.1:9999"));
    rig.receive(down, b"GET / HTTP/1.1\r\nHost: x\r\n\r\n");
    assert!(rig.written(down).starts_with("HTTP/1.1 502 "));
    assert!(rig.connects.is_empty());
}

#[test]
fn inbound_without_a_destination_is_for_the_app() {
    let mut rig = Rig::new();
    let down = rig.accept_to(INBOUND, None);
    rig.receive(down, b"GET / HTTP/1.0\r\n\r\n");
    assert_eq!(rig.connects[0].1, addr("127.0.0.1:8080"));
    let up = rig.connect();
    assert_eq!(rig.written(up), "GET / HTTP/1.1\r\nHost: 127.0.0.1:8080\r\n\r\n");
}

#[test]
fn bytes_that_come_with_the_deadline_still_count() {
    let mut rig = Rig::new();
    let down = rig.client();
    rig.now += Duration::from_secs(10);
    let data = bytes::BytesMut::from("GET / HTTP/1.1\r\nHost: one.example\r\n\r\n");
    rig.engine.handle_input(rig.now, Input::Received { conn: down, data });
    rig.input(Input::Timeout);
    assert_eq!(rig.connects[0].1, addr("10.0.0.3:80"), "it is HTTP, not silence");
}

/// A tunnel whose answer flows, and its ends.
fn flowing(rig: &mut Rig) -> (ConnId, ConnId) {
    let down = rig.accept_to(FORWARD, None);
    let up = rig.connect();
    assert!(!rig.engine.reads_bulk(up));
    for _ in 0..2 {
        rig.receive(up, &vec![b'x'; Limits::READ_BLOCK]);
    }
    (down, up)
}

#[test]
fn a_tunnel_whose_bytes_come_fast_and_leave_at_once_earns_large_reads() {
    let mut rig = Rig::new();
    let (down, up) = flowing(&mut rig);
    assert!(rig.engine.reads_bulk(up));
    assert!(!rig.engine.reads_bulk(down), "each way by itself");
    rig.receive(up, &vec![b'x'; Limits::BULK_BLOCK]);
    assert_eq!(rig.written_len(down), 2 * Limits::READ_BLOCK + Limits::BULK_BLOCK);
    assert!(rig.engine.reads_bulk(up));
    // Little came: it starts anew.
    rig.receive(up, b"end");
    assert!(!rig.engine.reads_bulk(up));
    rig.eof(up);
    rig.eof(down);
    assert_eq!(rig.closed(down), [CloseKind::Half, CloseKind::Full]);
}

#[test]
fn a_reader_that_stops_ends_large_reads_and_holds_one_at_most() {
    let mut rig = Rig::new();
    let (down, up) = flowing(&mut rig);
    rig.blocked.push(down);
    rig.receive(up, &vec![b'x'; Limits::BULK_BLOCK]);
    assert_eq!((rig.engine.read_budget(up), rig.engine.reads_bulk(up)), (0, false));
    assert_eq!(rig.engine.gauges().buffered_bytes, Limits::BULK_BLOCK);
    // One that was under way.
    rig.receive(up, &[b'x'; 100]);
    // It takes a part, and then everything.
    let n = Limits::BULK_BLOCK - 1000;
    rig.input(Input::Wrote { conn: down, n });
    rig.receive(up, &vec![b'x'; Limits::READ_BLOCK]);
    assert!(!rig.engine.reads_bulk(up), "something waits");
    rig.unblock(down);
    let all = 2 * Limits::READ_BLOCK + 1000 + 100 + Limits::READ_BLOCK;
    assert_eq!(rig.written_len(down), all);
    assert_eq!(rig.engine.gauges().buffered_bytes, 0);
    rig.receive(up, &vec![b'x'; Limits::READ_BLOCK]);
    assert!(!rig.engine.reads_bulk(up), "once is not a flow");
    rig.receive(up, &vec![b'x'; Limits::READ_BLOCK]);
    assert!(rig.engine.reads_bulk(up));
}

#[test]
fn a_worker_that_holds_much_makes_no_large_reads() {
    let mut config = config();
    config.limits.buffer_bytes = 4 * 10_000;
    let mut rig = Rig::with(config);
    let (_, up) = flowing(&mut rig);
    let (slow, other) = (rig.accept_to(FORWARD, None), rig.connect());
    rig.blocked.push(slow);
    rig.receive(other, &[b'x'; 10_000]);
    assert!(rig.engine.reads_bulk(up));
    rig.receive(other, b"x");
    assert!(!rig.engine.reads_bulk(up));
    rig.unblock(slow);
    assert!(rig.engine.reads_bulk(up));
}

/// A tunnel of which the first `n` bytes of a flow are in the pipe to a client that takes none.
fn in_pipe(rig: &mut Rig, n: usize) -> (ConnId, ConnId) {
    let (down, up) = flowing(rig);
    rig.taken(down);
    rig.blocked.push(down);
    rig.splice(up, &vec![b'p'; n]);
    (down, up)
}

#[test]
fn what_flows_in_the_clear_may_go_through_a_pipe() {
    let mut rig = Rig::new();
    let (down, up) = flowing(&mut rig);
    assert_eq!((rig.engine.splices_to(up), rig.engine.splices_to(down)), (Some(down), None));
    let before = rig.engine.snapshot();
    rig.splice(up, &vec![b'p'; Limits::BULK_BLOCK]);
    assert_eq!(rig.written_len(down), 2 * Limits::READ_BLOCK + Limits::BULK_BLOCK);
    assert_eq!(rig.engine.splices_to(up), Some(down), "it flows on");
    assert_eq!(rig.engine.gauges().buffered_bytes, 0);
    let after = rig.engine.snapshot();
    let wrote = |snapshot: &crate::stats::Snapshot| snapshot.directions[0].accepted.write_bytes;
    assert_eq!(wrote(&after) - wrote(&before), Limits::BULK_BLOCK as u64);
    let tcp = |snapshot: &crate::stats::Snapshot, of: fn(&crate::stats::TcpStats) -> u64| {
        snapshot.services.iter().map(|service| of(&service.stats.tcp)).sum::<u64>()
    };
    let came = |of| tcp(&after, of) - tcp(&before, of);
    assert_eq!(came(|tcp| tcp.read_bytes), Limits::BULK_BLOCK as u64);
    assert_eq!(came(|tcp| tcp.spliced_bytes), Limits::BULK_BLOCK as u64);
    assert_eq!(after.directions[0].accepted.spliced_bytes, 0, "they came from the other end");
    // Little came: from now on it is read.
    rig.splice(up, b"end");
    assert_eq!(rig.engine.splices_to(up), None);
    rig.receive(up, b"!");
    assert!(rig.taken(down).ends_with(b"end!"));
}

#[test]
fn a_fin_waits_for_what_is_in_the_pipe() {
    let mut rig = Rig::new();
    let (down, up) = in_pipe(&mut rig, 1000);
    rig.eof(up);
    rig.drain_pipe(down, 999);
    assert_eq!(rig.closed(down), []);
    rig.receive(down, b"still");
    assert_eq!(rig.written(up), "still", "the other way is its own");
    rig.unblock(down);
    assert_eq!((rig.taken(down).len(), rig.closed(down)), (1000, [CloseKind::Half].into()));
    rig.eof(down);
    assert_eq!(rig.closed(up), [CloseKind::Half, CloseKind::Full]);
    assert_eq!(rig.closed(down), [CloseKind::Half, CloseKind::Full]);
    assert_eq!(rig.engine.gauges().connections, 0);
}

#[test]
fn nothing_is_read_while_something_is_in_the_pipe() {
    let mut rig = Rig::new();
    let (down, up) = in_pipe(&mut rig, Limits::READ_BLOCK);
    assert_eq!((rig.engine.read_budget(up), rig.engine.splices_to(up)), (0, None));
    assert!(rig.engine.read_budget(down) > 0);
    assert_eq!(rig.engine.gauges().buffered_bytes, Limits::READ_BLOCK);
    rig.drain_pipe(down, Limits::READ_BLOCK - 1);
    assert_eq!((rig.engine.read_budget(up), rig.read_ready.len()), (0, 0));
    assert_eq!(rig.engine.gauges().buffered_bytes, 1);
    rig.unblock(down);
    assert_eq!((rig.engine.splices_to(up), &rig.read_ready[..]), (Some(down), &[up][..]));
    assert_eq!(rig.engine.gauges().buffered_bytes, 0);
}

#[test]
fn a_read_that_was_under_way_goes_behind_the_pipe() {
    let mut rig = Rig::new();
    let (down, up) = in_pipe(&mut rig, 1000);
    rig.receive(up, &[b'r'; 500]);
    let mut io = [&[][..]; 4];
    assert_eq!(rig.engine.write_bufs(down, &mut io), 0, "not yet");
    let mut owned = vec![];
    rig.engine.take_bufs(down, &mut owned);
    assert!(owned.is_empty());
    rig.eof(up);
    rig.drain_pipe(down, 400);
    rig.unblock(down);
    let expected = [vec![b'p'; 1000], vec![b'r'; 500]].concat();
    assert_eq!((rig.taken(down), rig.closed(down)), (expected, [CloseKind::Half].into()));
    assert_eq!(rig.engine.gauges().buffered_bytes, 0);
}

#[test]
fn a_pipe_is_lost_with_either_end() {
    for of_reader in [false, true] {
        let mut rig = Rig::new();
        let (down, up) = in_pipe(&mut rig, 1000);
        rig.reset(if of_reader { down } else { up });
        assert_eq!(
            (rig.closed(down), rig.closed(up)),
            (vec![CloseKind::Abort], vec![CloseKind::Abort])
        );
        assert_eq!((rig.engine.gauges().buffered_bytes, rig.engine.gauges().connections), (0, 0));
        // Late news of it.
        rig.input(Input::Wrote { conn: down, n: 1000 });
        rig.input(Input::Spliced { conn: up, n: 1000 });
    }
}

#[test]
fn a_reader_that_leaves_the_pipe_full_is_idle() {
    let mut rig = Rig::new();
    let (down, up) = in_pipe(&mut rig, 1000);
    let idle = config().timeouts.tcp_idle;
    rig.pass(idle / 2);
    rig.drain_pipe(down, 1);
    rig.pass(idle.saturating_sub(Duration::from_millis(1)));
    assert_eq!(rig.closed(down), []);
    rig.pass(Duration::from_millis(1));
    assert_eq!(
        (rig.closed(down), rig.closed(up)),
        (vec![CloseKind::Abort], vec![CloseKind::Abort])
    );
    assert_eq!(rig.engine.gauges().buffered_bytes, 0);
}

#[test]
fn a_worker_whose_pipes_hold_much_fills_no_more() {
    let mut config = config();
    config.limits.buffer_bytes = 4 * 10_000;
    let mut rig = Rig::with(config);
    let (_, up) = flowing(&mut rig);
    let (slow, _) = in_pipe(&mut rig, 10_000);
    assert!(rig.engine.splices_to(up).is_some());
    let (slower, _) = in_pipe(&mut rig, 1);
    assert_eq!(rig.engine.splices_to(up), None);
    rig.unblock(slow);
    assert!(rig.engine.splices_to(up).is_some());
    rig.unblock(slower);
    assert_eq!(rig.engine.gauges().buffered_bytes, 0);
}

#[test]
fn bytes_in_a_pipe_that_goes_nowhere_reset_the_tunnel() {
    // Something waits already, or was read just now, or the connection is no tunnel.
    let mut rig = Rig::new();
    let (down, up) = in_pipe(&mut rig, 1000);
    rig.input(Input::Spliced { conn: up, n: 0 });
    assert_eq!(rig.closed(down), []);
    rig.input(Input::Spliced { conn: up, n: 1 });
    assert_eq!(
        (rig.closed(down), rig.closed(up)),
        (vec![CloseKind::Abort], vec![CloseKind::Abort])
    );
    assert_eq!(rig.engine.gauges().buffered_bytes, 0);
    let (down, up) = flowing(&mut rig);
    let data = bytes::BytesMut::from("first");
    rig.engine.handle_input(rig.now, Input::Received { conn: up, data });
    assert_eq!(rig.engine.splices_to(up), None, "that goes first");
    rig.turn();
    assert!(rig.taken(down).ends_with(b"xfirst"));
    let client = rig.client();
    rig.input(Input::Spliced { conn: client, n: 1 });
    assert_eq!(rig.closed(client), []);
}

#[test]
fn an_end_that_gets_no_more_gets_no_pipe() {
    let mut rig = Rig::new();
    let (down, up) = flowing(&mut rig);
    let end = Input::ReadClosed { conn: up };
    rig.engine.handle_input(rig.now, end);
    assert_eq!(rig.engine.splices_to(up), None);
    rig.turn();
    assert_eq!(rig.closed(down), [CloseKind::Half]);
}

#[test]
fn urgent_data_is_looked_for_where_bytes_pass_as_they_are() {
    let mut rig = Rig::new();
    let down = rig.accept_to(FORWARD, None);
    assert!(rig.engine.may_be_urgent(down), "before there is anybody to pass them to");
    let up = rig.connect();
    assert!(rig.engine.may_be_urgent(down) && rig.engine.may_be_urgent(up));
    let client = rig.client();
    assert!(rig.engine.may_be_urgent(client), "nobody knows yet");
    rig.receive(client, b"GET / HTTP/1.1\r\nHost: one.example\r\n\r\n");
    let server = rig.connect();
    assert!(!rig.engine.may_be_urgent(client) && !rig.engine.may_be_urgent(server));
}

#[test]
fn a_pipe_that_is_taken_back_goes_before_what_was_read_later() {
    let mut rig = Rig::new();
    let (down, up) = in_pipe(&mut rig, 100_000);
    rig.receive(up, &[b'r'; 500]);
    rig.drain_pipe(down, 10_000);
    rig.unsplice(down);
    assert_eq!(rig.engine.gauges().buffered_bytes, 90_500);
    assert_eq!((rig.engine.read_budget(up), rig.engine.splices_to(up)), (0, None));
    rig.eof(up);
    assert_eq!(rig.closed(down), []);
    rig.unblock(down);
    let expected = [vec![b'p'; 100_000], vec![b'r'; 500]].concat();
    assert!(rig.taken(down) == expected, "lost, doubled or in another order");
    assert_eq!(rig.closed(down), [CloseKind::Half]);
    assert_eq!(rig.engine.gauges().buffered_bytes, 0);
}

#[test]
fn a_little_that_is_taken_back_lets_its_source_be_read() {
    let mut rig = Rig::new();
    let (down, up) = in_pipe(&mut rig, 1000);
    assert_eq!(rig.engine.read_budget(up), 0);
    rig.unsplice(down);
    assert!(rig.engine.read_budget(up) > 0);
    assert_eq!(rig.engine.splices_to(up), None, "it is not emptied first");
    rig.receive(up, b"more");
    rig.unblock(down);
    assert!(rig.taken(down).ends_with(b"pppmore"));
}

#[test]
fn what_is_taken_back_is_all_of_it_or_the_tunnel_is_reset() {
    for of in [999, 1001] {
        let mut rig = Rig::new();
        let (down, up) = in_pipe(&mut rig, 1000);
        rig.input(Input::Unspliced { conn: down, data: bytes::BytesMut::zeroed(of) });
        let abort = vec![CloseKind::Abort];
        assert_eq!((rig.closed(down), rig.closed(up)), (abort.clone(), abort));
        assert_eq!(rig.engine.gauges().buffered_bytes, 0);
    }
    let mut rig = Rig::new();
    let (down, client) = (flowing(&mut rig).0, rig.client());
    for conn in [down, client] {
        rig.input(Input::Unspliced { conn, data: bytes::BytesMut::new() });
        assert_eq!(rig.closed(conn), [], "there was nothing to take");
    }
}
