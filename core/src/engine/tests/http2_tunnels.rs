//! WebSockets and other upgrades between HTTP/1 and extended CONNECT (RFC 8441).

use alloc::format;
use alloc::string::String;

use super::http2_rig::{Peer, http2_config};
use super::rig::*;
use crate::config::Timeouts;
use crate::engine::{CloseKind, ConnId};
use crate::http2::{self, ErrorCode};
use crate::time::Duration;

/// Of RFC 6455 §1.3.
const KEY: &str = "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";
const ACCEPT: &str = "Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n";
const UPGRADE: &str = "Upgrade: websocket\r\nConnection: upgrade\r\n";
const SWITCH: &str = "HTTP/1.1 101 Switching Protocols\r\n";

fn get(host: &str) -> String {
    format!("GET /chat HTTP/1.1\r\nHost: {host}\r\n")
}

/// An endpoint that knows extended CONNECT.
fn endpoint(rig: &mut Rig) -> Peer {
    let mut config = http2::Config::default();
    config.settings.enable_connect_protocol = true;
    Peer::endpoint_with(rig, config)
}

fn count(head: &str, field: &str) -> usize {
    head.to_ascii_lowercase().matches(&field.to_ascii_lowercase()).count()
}

#[test]
fn an_upgrade_meets_an_endpoint_that_speaks_no_http2_and_is_asked_for_in_http1() {
    let head = format!("{}{KEY}{UPGRADE}\r\n", get("h2.example"));
    type End = fn(&mut Rig, ConnId);
    let ends: [End; 4] = [
        |rig, up| rig.eof(up),
        |rig, up| rig.reset(up),
        |rig, up| rig.receive(up, b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n"),
        |rig, _| rig.pass(Duration::from_secs(4)),
    ];
    for end in ends {
        let mut rig = Rig::with(http2_config());
        let down = rig.client();
        rig.receive(down, head.as_bytes());
        let up = rig.connect();
        assert!(rig.written(up).starts_with("PRI * "));
        end(&mut rig, up);
        let up = rig.connect();
        assert_eq!(rig.written(up), head);
        rig.receive(up, format!("{SWITCH}{ACCEPT}{UPGRADE}\r\nhi").as_bytes());
        let answer = rig.written(down);
        assert!(answer.starts_with(SWITCH) && answer.ends_with("\r\n\r\nhi"), "{answer}");
        assert!(rig.connects.is_empty());
    }
}

#[test]
fn a_client_of_http1_gets_one_proof_and_that_of_its_own_key() {
    for theirs in ["", "Sec-WebSocket-Accept: sahb99gULoMQaDPmIoQkNY4gTGk=\r\n"] {
        let mut rig = Rig::with(http2_config());
        let down = rig.client();
        rig.receive(down, format!("{}{KEY}{UPGRADE}\r\n", get("h2.example")).as_bytes());
        let mut app = endpoint(&mut rig);
        assert_eq!(count(app.head(1), KEY), 1, "{}", app.head(1));
        // HAProxy passes on what the app behind it says of a key that it made itself.
        app.answer(&mut rig, 1, &format!("HTTP/1.1 200 OK\r\n{theirs}x: y\r\n\r\n"), false);
        let answer = rig.written(down);
        assert!(answer.starts_with(SWITCH) && answer.contains("x: y\r\n"), "{answer}");
        assert_eq!((count(&answer, ACCEPT), count(&answer, "-accept:")), (1, 1), "{answer}");
    }
}

#[test]
fn a_key_on_a_stream_goes_on_and_its_proof_comes_back() {
    let mut rig = Rig::with(http2_config());
    let mut client = Peer::client(&mut rig);
    let id = client.ask(&mut rig, &format!("{}{KEY}{UPGRADE}\r\n", get("h1.example")), false);
    let up = rig.connect();
    let head = rig.written(up);
    assert_eq!((count(&head, KEY), count(&head, "-key:")), (1, 1), "{head}");
    rig.receive(up, format!("{SWITCH}{UPGRADE}{ACCEPT}\r\n").as_bytes());
    client.run(&mut rig);
    assert!(client.head(id).starts_with("HTTP/1.1 200 "), "{}", client.head(id));
    assert_eq!(count(client.head(id), ACCEPT), 1, "{}", client.head(id));

    let id = client.ask(&mut rig, &format!("{}{KEY}{UPGRADE}\r\n", get("h2.example")), false);
    let mut app = endpoint(&mut rig);
    assert_eq!(count(app.head(1), KEY), 1, "{}", app.head(1));
    app.answer(&mut rig, 1, &format!("HTTP/1.1 200 OK\r\n{ACCEPT}\r\n"), false);
    client.run(&mut rig);
    assert_eq!(count(client.head(id), ACCEPT), 1, "{}", client.head(id));
}

#[test]
fn a_stream_without_a_key_gets_one_and_never_hears_of_it() {
    let mut rig = Rig::with(http2_config());
    let mut client = Peer::client(&mut rig);
    let id = client.ask(&mut rig, &format!("{}{UPGRADE}\r\n", get("h1.example")), false);
    let up = rig.connect();
    assert_eq!(count(&rig.written(up), "\r\nSec-WebSocket-Key: "), 1);
    rig.receive(up, format!("{SWITCH}{UPGRADE}{ACCEPT}x: y\r\n\r\n").as_bytes());
    client.run(&mut rig);
    assert!(client.head(id).contains("x: y\r\n"), "{}", client.head(id));
    assert_eq!(count(client.head(id), "-accept:"), 0, "{}", client.head(id));
}

/// Extended CONNECT has no place for a method, a body, or the lack of a key.
#[test]
fn an_upgrade_that_no_stream_can_carry_goes_on_as_it_came() {
    for host in ["h2.example", "mesh.example"] {
        for head in [
            format!("{}{UPGRADE}\r\n", get(host)),
            format!(
                "POST /exec HTTP/1.1\r\nHost: {host}\r\nUpgrade: tcp\r\nConnection: upgrade\r\n\r\n"
            ),
            format!("{}Content-Length: 2\r\n{UPGRADE}{KEY}\r\n{{}}", get(host)),
        ] {
            let mut rig = Rig::with(http2_config());
            let down = rig.client();
            rig.receive(down, head.as_bytes());
            let up = rig.connect();
            let written = rig.written(up);
            let start = head.split("Upgrade").next().unwrap_or_default();
            assert!(written.starts_with(start) && !written.contains("-orig-"), "{written}");
            assert_eq!(count(&written, "-key:"), count(&head, "-key:"));
            rig.receive(up, b"HTTP/1.1 426 Upgrade Required\r\nContent-Length: 0\r\n\r\n");
            assert!(rig.written(down).starts_with("HTTP/1.1 426 "));
        }
    }
    // Others are what a stream can carry.
    let mut rig = Rig::with(http2_config());
    let down = rig.client();
    let head = get("mesh.example");
    rig.receive(down, format!("{head}Upgrade: x\r\nConnection: upgrade\r\n\r\n").as_bytes());
    let app = endpoint(&mut rig);
    assert!(app.head(1).contains("Upgrade: x\r\n"), "{}", app.head(1));
}

/// HAProxy resets a stream as soon as the app behind it has closed its connection for good.
#[test]
fn what_came_before_an_end_arrives_though_a_reset_follows() {
    let mut rig = Rig::with(http2_config());
    let down = rig.client();
    rig.receive(down, format!("{}{KEY}{UPGRADE}\r\n", get("h2.example")).as_bytes());
    let mut app = endpoint(&mut rig);
    app.answer(&mut rig, 1, "HTTP/1.1 200 OK\r\n\r\n", false);
    assert!(rig.written(down).starts_with(SWITCH));
    rig.blocked.push(down);
    app.send(&mut rig, 1, b"goodbye", true);
    app.reset(&mut rig, 1, ErrorCode::CANCEL);
    assert!(rig.closed(down).is_empty());
    rig.unblock(down);
    assert_eq!(rig.written(down), "goodbye");
    assert_eq!(rig.closed(down), [CloseKind::Half]);
    // It may say goodbye, too; nobody listens.
    rig.receive(down, b"goodbye");
    rig.eof(down);
    assert_eq!(rig.closed(down), [CloseKind::Half, CloseKind::Full]);
    assert_eq!(rig.engine.gauges().exchanges, 0);

    // The same, to a client on a stream that does not read at once.
    let mut client = Peer::stalled_client(&mut rig);
    let id = client.ask(&mut rig, &format!("{}{UPGRADE}\r\n", get("h2.example")), false);
    app.run(&mut rig);
    app.answer(&mut rig, 3, "HTTP/1.1 200 OK\r\n\r\n", false);
    app.send(&mut rig, 3, &[b'x'; 5_000], true);
    client.run(&mut rig);
    app.reset(&mut rig, 3, ErrorCode::CANCEL);
    client.run(&mut rig);
    assert!(client.on(id).body.len() < 5_000 && client.on(id).reset.is_none());
    client.read_on(&mut rig);
    let got = client.on(id);
    assert_eq!((got.body.len(), got.end, got.reset), (5_000, true, None));
    rig.pass(Timeouts::LINGER + Timeouts::LINGER);
    client.run(&mut rig);
    assert_eq!(client.on(id).reset, Some(ErrorCode::NO_ERROR));
}

#[test]
fn a_reset_without_an_end_is_a_reset() {
    let mut rig = Rig::with(http2_config());
    let down = rig.client();
    rig.receive(down, format!("{}{KEY}{UPGRADE}\r\n", get("h2.example")).as_bytes());
    let mut app = endpoint(&mut rig);
    app.answer(&mut rig, 1, "HTTP/1.1 200 OK\r\n\r\n", false);
    app.send(&mut rig, 1, b"good", false);
    app.reset(&mut rig, 1, ErrorCode::CANCEL);
    assert_eq!(rig.closed(down), [CloseKind::Abort]);
    assert_eq!(rig.engine.gauges().exchanges, 0);
}

#[test]
fn of_several_protocols_a_stream_asks_for_the_first_that_is_one() {
    for offer in
        ["Upgrade: h2c, x/1, y\r\n", "Upgrade: h2c\r\nUpgrade: , x/1\r\n", "Upgrade: x/1\r\n"]
    {
        let mut rig = Rig::with(http2_config());
        let down = rig.client();
        let head =
            format!("GET / HTTP/1.1\r\nHost: h2.example\r\nConnection: upgrade\r\n{offer}\r\n");
        rig.receive(down, head.as_bytes());
        let mut app = endpoint(&mut rig);
        assert!(app.head(1).contains("Upgrade: x/1\r\n"), "{}", app.head(1));
        app.answer(&mut rig, 1, "HTTP/1.1 200 OK\r\n\r\n", false);
        let text = rig.written(down);
        assert!(text.starts_with("HTTP/1.1 101 ") && text.contains("Upgrade: x/1\r\n"), "{text}");
    }
}
