//! Flow control through the engine: who may send, what is held, who waits for whom.

use alloc::vec;
use alloc::vec::Vec;

use super::http2_rig::{Peer, frame, http2_config, narrow, run};
use super::rig::*;
use crate::engine::Engine;
use crate::error::Reason;
use crate::http2::{self, ErrorCode};
use crate::time::Duration;

const GET: &str = "GET /a HTTP/1.1\r\nHost: h2.example\r\n\r\n";
const POST: &str = "POST /a HTTP/1.1\r\nHost: h2.example\r\nTransfer-Encoding: chunked\r\n\r\n";
const OK: &str = "HTTP/1.1 200 OK\r\n\r\n";

fn held(engine: &Engine) -> usize {
    engine.gauges().buffered_bytes
}

#[test]
fn an_upload_waits_for_the_endpoint_and_then_goes_on() {
    for host in ["h1.example", "h2.example"] {
        let mut rig = Rig::with(http2_config());
        let mut client = Peer::client(&mut rig);
        let post = POST.replace("h2.example", host);
        client.ask(&mut rig, &post, false);
        let mut app = if host == "h2.example" {
            let mut app = Peer::endpoint_with(&mut rig, narrow());
            app.reads = false;
            Some(app)
        } else {
            let up = rig.connect();
            rig.blocked.push(up);
            None
        };
        client.send(&mut rig, 1, &vec![7; 1 << 20], true);
        let queued = client.connection.queued();
        assert!(queued > 900_000, "only {} may be under way", (1 << 20) - queued);
        assert!(held(&rig.engine) < 200_000, "{}", held(&rig.engine));
        if let Some(app) = &mut app {
            app.read_on(&mut rig);
            run(&mut rig, app, &mut client);
            assert_eq!((app.on(1).body.len(), app.on(1).end), (1 << 20, true));
        } else {
            let up = rig.blocked[0];
            rig.unblock(up);
            client.run(&mut rig);
            assert!(rig.taken(up).len() > 1 << 20);
        }
        assert_eq!(client.connection.queued(), 0);
    }
}

#[test]
fn credit_of_a_client_is_read_also_at_the_workers_cap() {
    let mut config = http2_config();
    config.limits.buffer_bytes = 10_000;
    let mut rig = Rig::with(config);
    let mut client = Peer::stalled_client(&mut rig);
    client.ask(&mut rig, GET, true);
    let mut app = Peer::endpoint(&mut rig);
    app.answer(&mut rig, 1, OK, false);
    app.send(&mut rig, 1, &vec![7; 100_000], true);
    assert!(held(&rig.engine) >= 10_000);
    assert!(rig.engine.read_budget(client.conn) > 0);
    client.read_on(&mut rig);
    run(&mut rig, &mut app, &mut client);
    assert_eq!((client.on(1).body.len(), client.on(1).end), (100_000, true));
}

#[test]
fn an_end_that_finds_the_queue_full_goes_when_it_is_not() {
    let mut config = http2_config();
    config.limits.stream_buffer = 50;
    let mut rig = Rig::with(config);
    let mut client = Peer::client(&mut rig);
    client.ask(&mut rig, GET, true);
    let mut app = Peer::endpoint(&mut rig);
    rig.blocked.push(client.conn);
    let head = "HTTP/1.1 200 OK\r\nx-long: 0123456789012345678901234567890123456789\r\n\r\n";
    app.answer(&mut rig, 1, head, false);
    app.send(&mut rig, 1, b"", true);
    rig.unblock(client.conn);
    client.run(&mut rig);
    assert!(client.on(1).end);
}

#[test]
fn what_was_taken_of_the_first_window_is_given_back_of_the_second() {
    let mut rig = Rig::with(http2_config());
    let down = rig.client();
    // A client that has not read our SETTINGS: 32,320 bytes, less than half of what it may send.
    let hello = [&http2::frame::PREFACE[..], &frame(4, 0, 0, b"")[..]].concat();
    rig.receive(down, &hello);
    let head = [&[0x83, 0x86, 0x84, 0x41, 10][..], b"h2.example"].concat();
    rig.receive(down, &frame(1, 4, 1, &head));
    let mut app = Peer::endpoint(&mut rig);
    for _ in 0..2 {
        rig.receive(down, &frame(0, 0, 1, &[7; 16_160]));
    }
    app.run(&mut rig);
    rig.taken(down);
    assert_eq!(app.on(1).body.len(), 32_320);
    rig.receive(down, &frame(4, 1, 0, b""));
    let update = frame(8, 0, 1, &u32::to_be_bytes(32_320));
    assert_eq!(rig.taken(down), update);
}

#[test]
fn windows_grow_for_those_who_keep_up() {
    let mut rig = Rig::with(http2_config());
    let mut client = Peer::client(&mut rig);
    client.ask(&mut rig, POST, false);
    let mut app = Peer::endpoint(&mut rig);
    run(&mut rig, &mut app, &mut client);
    client.send(&mut rig, 1, &vec![7; 4 << 20], true);
    run(&mut rig, &mut app, &mut client);
    assert_eq!((app.on(1).body.len(), app.on(1).end), (4 << 20, true));
    app.ok(&mut rig, 1);
    assert_eq!(held(&rig.engine), 0);
}

#[test]
fn a_hundred_streams_that_nobody_reads_hold_two_megabytes() {
    // Before and after the endpoint has acknowledged our window.
    for (host, settled) in [("h1.example", true), ("h2.example", false), ("h2.example", true)] {
        let mut rig = Rig::with(http2_config());
        let mut client = Peer::stalled_client(&mut rig);
        let get = GET.replace("h2.example", host);
        let mut apps: Vec<Peer> = Vec::new();
        let mut ups = Vec::new();
        for at in 0..100 {
            client.ask(&mut rig, &get, true);
            if host == "h2.example" {
                if let Some(app) = apps.first_mut() {
                    app.run(&mut rig);
                } else if settled || at == 99 {
                    apps.push(Peer::endpoint(&mut rig));
                }
            } else {
                ups.push(rig.connect());
            }
        }
        let body = vec![7; 1 << 20];
        for app in &mut apps {
            for stream in app.streams() {
                app.answer(&mut rig, stream, OK, false);
                app.send(&mut rig, stream, &body, true);
            }
        }
        let mut left = Vec::new();
        for &up in &ups {
            rig.receive(up, b"HTTP/1.1 200 OK\r\nContent-Length: 1048576\r\n\r\n");
            left.push((up, 1 << 20));
        }
        feed(&mut rig, &mut left);
        let most = held(&rig.engine);
        assert!(most <= 2 << 20, "{host}: {most} bytes are held");
        // The client reads at last.
        client.run(&mut rig);
        while client.streams().iter().any(|&stream| !client.on(stream).end) {
            client.read_on(&mut rig);
            for app in &mut apps {
                app.run(&mut rig);
            }
            feed(&mut rig, &mut left);
        }
        for stream in client.streams() {
            let got = client.on(stream);
            assert_eq!((got.body.len(), got.end), (1 << 20, true), "{host} {stream}");
        }
        assert_eq!(held(&rig.engine), 0);
    }
}

/// Endpoints of HTTP/1 send as much as may be read of them.
fn feed(rig: &mut Rig, left: &mut [(crate::engine::ConnId, usize)]) {
    let block = vec![7; 32 * 1024];
    for (up, left) in left {
        while *left > 0 && rig.engine.read_budget(*up) > 0 {
            let n = rig.engine.read_budget(*up).min(block.len()).min(*left);
            rig.receive(*up, &block[..n]);
            *left -= n;
        }
    }
}

#[test]
fn one_stalled_stream_does_not_slow_the_others() {
    let mut rig = Rig::with(http2_config());
    let mut client = Peer::client_with(&mut rig, narrow());
    client.stalls_on = Some(1);
    client.ask(&mut rig, GET, true);
    let mut app = Peer::endpoint(&mut rig);
    app.answer(&mut rig, 1, OK, false);
    app.send(&mut rig, 1, &vec![7; 1 << 20], true);
    for at in 0..99 {
        let id = client.ask(&mut rig, GET, true);
        app.run(&mut rig);
        app.answer(&mut rig, 3 + 2 * at, OK, false);
        app.send(&mut rig, 3 + 2 * at, &vec![9; 200_000], true);
        run(&mut rig, &mut app, &mut client);
        assert_eq!((client.on(id).body.len(), client.on(id).end), (200_000, true));
    }
    assert!(!client.on(1).end);
}

#[test]
fn a_client_that_stalls_its_streams_does_not_starve_another() {
    let mut rig = Rig::with(http2_config());
    let mut a = Peer::stalled_client(&mut rig);
    let mut b = Peer::client(&mut rig);
    let mut apps: Vec<Peer> = Vec::new();
    for _ in 0..100 {
        a.ask(&mut rig, GET, true);
        serve(&mut rig, &mut apps);
    }
    for _ in 0..50 {
        let id = b.ask(&mut rig, GET, true);
        serve(&mut rig, &mut apps);
        b.run(&mut rig);
        for app in &mut apps {
            run(&mut rig, app, &mut b);
        }
        assert_eq!((b.on(id).body.len(), b.on(id).end), (100_000, true));
    }
    assert!(apps.len() > 1, "a crowded connection takes no more");
}

/// Every endpoint answers every new request with 100 kB.
fn serve(rig: &mut Rig, apps: &mut Vec<Peer>) {
    while !rig.connects.is_empty() {
        apps.push(Peer::endpoint(rig));
    }
    for app in apps {
        app.run(rig);
        for stream in app.streams() {
            if app.has_not_answered(stream) {
                app.answer(rig, stream, OK, false);
                app.send(rig, stream, &vec![7; 100_000], true);
            }
        }
    }
}

#[test]
fn where_no_connection_can_be_opened_the_stream_that_stalled_longest_makes_room() {
    let mut config = http2_config();
    config.limits.connections = 4;
    let mut rig = Rig::with(config);
    let mut a = Peer::stalled_client(&mut rig);
    let mut b = Peer::client(&mut rig);
    let mut apps: Vec<Peer> = Vec::new();
    for _ in 0..66 {
        a.ask(&mut rig, GET, true);
        serve(&mut rig, &mut apps);
        rig.pass(Duration::from_millis(1));
    }
    assert_eq!(apps.len(), 2);
    // They have not stalled for long yet: who comes later waits.
    let first = b.ask(&mut rig, GET, true);
    serve(&mut rig, &mut apps);
    assert_eq!(rig.engine.gauges().exchanges, 67);
    rig.pass(Duration::from_secs(2));
    serve(&mut rig, &mut apps);
    for app in &mut apps {
        run(&mut rig, app, &mut b);
    }
    a.run(&mut rig);
    assert_eq!((b.on(first).body.len(), b.on(first).end), (100_000, true));
    let reset: Vec<u32> = a.got.keys().copied().filter(|&id| a.on(id).reset.is_some()).collect();
    assert_eq!(reset, [1]);
    assert_eq!(a.on(1).reset, Some(ErrorCode::ENHANCE_YOUR_CALM));
    let refused = rig.engine.snapshot().directions[0].refused[Reason::StreamStalled as usize]
        + rig.engine.snapshot().directions[1].refused[Reason::StreamStalled as usize];
    assert_eq!(refused, 1);
}

#[test]
fn an_answer_that_is_never_read_is_given_up() {
    for (size, code) in [(1000, ErrorCode::ENHANCE_YOUR_CALM), (1 << 20, ErrorCode::CANCEL)] {
        let mut config = http2_config();
        config.timeouts.idle = Some(Duration::from_mins(2));
        let mut rig = Rig::with(config);
        let mut client = Peer::stalled_client(&mut rig);
        client.ask(&mut rig, GET, true);
        let mut app = Peer::endpoint(&mut rig);
        app.answer(&mut rig, 1, OK, false);
        app.send(&mut rig, 1, &vec![7; size], true);
        for _ in 0..60 {
            rig.pass(Duration::from_secs(5));
            client.run(&mut rig);
            app.run(&mut rig);
            // It is alive all the time.
            client.raw(&mut rig, &frame(6, 0, 0, &[0; 8]));
        }
        assert_eq!(client.on(1).reset, Some(code), "{size}");
        assert_eq!(rig.engine.gauges().exchanges, 0);
        assert_eq!(held(&rig.engine), 0);
    }
}
