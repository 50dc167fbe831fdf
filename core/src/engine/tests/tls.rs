//! TLS at the edge: handshakes, names, ends, and who may do what.

use alloc::format;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::num::NonZeroU16;

use bytes::BytesMut;

use super::rig::{FORWARD, INBOUND, Rig, addr, millis};
use super::tls_rig::*;
use crate::config::Identity;
use crate::engine::{CloseKind, Command, Event, Input};
use crate::error::Reason;
use crate::stats::TlsStats;
use crate::time::{Duration, UnixTime};
use crate::tls::null::{Certificate, Null};
use crate::tls::transport_header::PROTOCOL;
use crate::tls::{Failure, Side, TransportHeader};

const GET: &str = "GET / HTTP/1.1\r\nHost: one.example\r\n\r\n";
const OK: &str = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";

fn inbound(rig: &Rig) -> TlsStats {
    rig.engine.snapshot().directions[1].tls.clone()
}

fn outbound(rig: &Rig) -> TlsStats {
    rig.engine.snapshot().directions[0].tls.clone()
}

fn refused(rig: &Rig, direction: usize, reason: Reason) -> u64 {
    rig.engine.snapshot().directions[direction].refused[reason as usize]
}

/// What the log says of a handshake that failed.
fn failures(rig: &Rig) -> Vec<(Side, String, String)> {
    let told = |event: &Event| match event {
        Event::TlsFailed { side, name, problem, .. } => {
            Some((*side, name.as_deref().unwrap_or_default().into(), format!("{problem}")))
        }
        _ => None,
    };
    rig.events.iter().filter_map(told).collect()
}

/// A request crosses two proxies: HTTP/1 outside, HTTP/2 in mutual TLS between them.
#[test]
fn a_request_crosses_at_every_cut() {
    for (port, cut) in [(None, 1), (Some(8080), 1), (None, 7), (Some(8080), 1000)] {
        let (mut out, mut inn) = (client(port), server(&["app.ns"]));
        let down = out.client();
        out.receive(down, GET.as_bytes());
        let via = link(&mut out, &mut inn, None);
        let mut crossed = carry(&mut out, &mut inn, &via, cut);
        let (up, to) = inn.connects[0];
        assert_eq!((inn.connect(), to), (up, app()));
        let request = inn.written(up);
        assert!(request.starts_with("GET / HTTP/1.1\r\n"), "{request}");
        assert!(request.contains("l5d-client-id: app.ns\r\n"), "{request}");
        assert!(!request.contains("orig-proto"), "{request}");
        inn.receive(up, OK.as_bytes());
        let more = carry(&mut out, &mut inn, &via, cut);
        assert_eq!(out.written(down), OK);
        for (all, more) in crossed.iter_mut().zip(more) {
            all.extend(more);
            let leaks = |text: &[u8]| all.windows(text.len()).any(|window| window == text);
            assert!(!leaks(b"one.example") && !leaks(b"PRI * HTTP/2.0"), "plaintext crossed");
        }
        for stats in [outbound(&out), inbound(&inn)] {
            assert_eq!((stats.handshakes, stats.authenticated), (1, 1));
        }
        assert_eq!(inn.engine.gauges().handshakes, 0);
    }
}

#[test]
fn tcp_crosses_behind_a_transport_header_and_the_server_may_speak_first() {
    for cut in [1, 1000] {
        let (mut out, mut inn) = (client(Some(3306)), server(&[]));
        let down = out.accept_to(FORWARD, None);
        let via = link(&mut out, &mut inn, None);
        carry(&mut out, &mut inn, &via, cut);
        // Nobody waited for a byte of the client's.
        assert_eq!(inn.connects[0].1, addr("127.0.0.1:3306"));
        let up = inn.connect();
        inn.receive(up, b"welcome");
        carry(&mut out, &mut inn, &via, cut);
        assert_eq!(out.written(down), "welcome");
        out.receive(down, b"hello");
        carry(&mut out, &mut inn, &via, cut);
        assert_eq!(inn.written(up), "hello");
        // Each end is passed on by itself, as close_notify and FIN.
        out.eof(down);
        carry(&mut out, &mut inn, &via, cut);
        assert_eq!(
            (out.closed(via.up), inn.closed(up)),
            ([CloseKind::Half].into(), [CloseKind::Half].into())
        );
        inn.receive(up, b"bye");
        inn.eof(up);
        carry(&mut out, &mut inn, &via, cut);
        assert_eq!(out.written(down), "bye");
        inn.eof(via.down);
        out.eof(via.up);
        assert_eq!(out.closed(down).last(), Some(&CloseKind::Full));
        assert_eq!(inn.closed(up).last(), Some(&CloseKind::Full));
        assert_eq!(out.engine.gauges().connections + inn.engine.gauges().connections, 0);
    }
}

/// The end of a connection without close_notify cuts what has no other end, and only that.
#[test]
fn a_fin_without_close_notify_cuts_what_has_no_other_end() {
    for (goodbye, how) in [(true, CloseKind::Half), (false, CloseKind::Abort)] {
        let mut inn = server(&[]);
        let mut peer = Peer::shake(&mut inn, &somebody("app.ns"), &[]);
        peer.send(&mut inn, "\x01 opaque");
        let up = inn.connect();
        assert_eq!(inn.written(up), "\x01 opaque");
        if goodbye {
            peer.goodbye(&mut inn);
        }
        inn.eof(peer.conn);
        assert_eq!(inn.closed(up), [how], "with close_notify: {goodbye}");
        assert_eq!(inbound(&inn).truncated, u64::from(!goodbye));
        assert_eq!(refused(&inn, 1, Reason::TlsTruncated), u64::from(!goodbye));
    }
    // A request that is complete is complete.
    let mut inn = server(&[]);
    let mut peer = Peer::shake(&mut inn, &somebody("app.ns"), &[]);
    peer.send(&mut inn, GET);
    let up = inn.connect();
    inn.eof(peer.conn);
    inn.receive(up, OK.as_bytes());
    assert_eq!(peer.read(&mut inn), OK);
    assert_eq!(inbound(&inn).truncated, 0);
}

#[test]
fn a_response_without_length_ends_with_close_notify_only() {
    for goodbye in [true, false] {
        let (mut out, mut inn) = (client(None), server(&[]));
        let mut config = (*out.engine.config).clone();
        config.services.iter_mut().for_each(|s| s.protocol = crate::config::Protocol::Http1);
        out.command(Command::Reload(config.into()));
        let down = out.client();
        out.receive(down, GET.as_bytes());
        let via = link(&mut out, &mut inn, None);
        carry(&mut out, &mut inn, &via, 1000);
        let up = inn.connect();
        inn.receive(up, b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nsome of it");
        if goodbye {
            inn.eof(up);
        } else {
            inn.reset(up);
        }
        carry(&mut out, &mut inn, &via, 1000);
        out.eof(via.up);
        assert!(out.written(down).contains("some of it"));
        let closed = out.closed(down);
        // Chunks of ours tell the client what close_notify told us.
        assert_eq!(outbound(&out).truncated, u64::from(!goodbye));
        assert_eq!(refused(&out, 0, Reason::TlsTruncated), u64::from(!goodbye), "{closed:?}");
    }
}

fn certificate(own: &str, anchor: u32) -> Certificate {
    Certificate::eternal(name(own), anchor)
}

/// What is wrong with a server's certificate, and what a client makes of it.
#[test]
fn a_server_that_is_not_who_it_should_be_is_not_spoken_to() {
    let past = UnixTime::from_secs(5);
    let future = UnixTime::from_secs(NOW.as_secs() + 5);
    for (shown, failure, detail) in [
        (certificate("other.ns", 1), Failure::WrongIdentity, "expected web.ns, got other.ns"),
        (certificate("web.ns", 2), Failure::UnknownIssuer, "web.ns"),
        (Certificate { not_after: past, ..certificate("web.ns", 1) }, Failure::Expired, "web.ns"),
        (
            Certificate { not_before: future, ..certificate("web.ns", 1) },
            Failure::NotYetValid,
            "web.ns",
        ),
    ] {
        let (mut out, mut inn) = (client(None), server(&[]));
        let null = Null { server: shown, ..somebody("web.ns") };
        inn.input(Input::Identity(Ok(update_of("web.ns", null))));
        let down = out.client();
        out.receive(down, GET.as_bytes());
        let via = link(&mut out, &mut inn, None);
        carry(&mut out, &mut inn, &via, 1000);
        let said = format!("{}: {detail}", failure.message());
        assert_eq!(failures(&out), [(Side::Client, "web.ns".into(), said)]);
        assert_eq!(outbound(&out).failures[failure as usize], 1);
        // It is told why, and sees who left.
        assert_eq!(inbound(&inn).failures[Failure::Alert as usize], 1, "{failure:?}");
        assert_eq!(out.closed(via.up), [CloseKind::Full]);
        // No byte of the request was sent; it waits for another endpoint, and fails.
        assert!(out.connects.is_empty() && inn.connects.is_empty());
        out.pass(Duration::from_secs(3));
        assert!(out.written(down).starts_with("HTTP/1.1 504 "), "{failure:?}");
    }
}

/// A client's certificate that is worth nothing is refused; without one it is nobody.
#[test]
fn a_client_is_who_it_proves_to_be() {
    let mut inn = server(&[]);
    let forged = Null { client: Some(certificate("app.ns", 7)), ..somebody("app.ns") };
    let mut peer = Peer::dial(&mut inn, &forged, &[], None);
    let problem = peer.turn(&mut inn).expect_err("an alert");
    assert_eq!(problem.failure, Failure::Alert);
    assert_eq!(inbound(&inn).failures[Failure::UnknownIssuer as usize], 1);
    assert_eq!(inn.closed(peer.conn), [CloseKind::Half], "it gets to read the alert");
    inn.eof(peer.conn);
    assert_eq!(inn.closed(peer.conn), [CloseKind::Half, CloseKind::Full]);

    for (null, told) in [(somebody("app.ns"), Some("app.ns")), (nobody(), None)] {
        let mut inn = server(&[]);
        let mut peer = Peer::shake(&mut inn, &null, &[]);
        peer.send(&mut inn, "GET / HTTP/1.1\r\nHost: a\r\nL5d-Client-Id: root.ns\r\n\r\n");
        let up = inn.connect();
        let request = inn.written(up);
        assert!(!request.contains("root.ns"), "{request}");
        let says = request.contains("l5d-client-id: app.ns\r\n");
        assert_eq!(says, told.is_some(), "{request}");
        assert_eq!(inbound(&inn).authenticated, u64::from(told.is_some()));
    }
}

#[test]
fn a_forged_client_id_goes_nowhere_in_plaintext_either() {
    let mut rig = server(&[]);
    let forged = "GET / HTTP/1.1\r\nHost: one.example\r\nl5d-client-id: root.ns\r\n\r\n";
    let down = rig.accept_to(INBOUND, None);
    rig.receive(down, forged.as_bytes());
    let up = rig.connect();
    assert!(!rig.written(up).contains("client-id"));
    let (_, up) = rig.exchange(forged);
    assert!(!rig.written(up).contains("client-id"));
}

#[test]
fn a_port_is_open_to_whom_it_is_meant_for() {
    // Who comes; HTTP/1, gRPC and TCP get what they understand.
    let table: [(Option<Null>, &[&str], bool); 9] = [
        (None, &["unauthenticated"], true),
        (None, &["*"], false),
        (Some(nobody()), &["*"], false),
        (Some(nobody()), &["unauthenticated"], true),
        (Some(somebody("app.ns")), &["*"], true),
        (Some(somebody("app.ns")), &["*.ns"], true),
        (Some(somebody("app.other")), &["*.ns", "spiffe://td/app"], false),
        (Some(somebody("spiffe://td/app")), &["*.ns", "spiffe://td/app"], true),
        (Some(somebody("app.ns")), &["unauthenticated"], true),
    ];
    for (null, allow, admitted) in table {
        for (request, answer) in [
            (GET, "HTTP/1.1 403 "),
            (
                "POST / HTTP/1.1\r\nHost: a\r\ncontent-type: application/grpc\r\n\r\n",
                "grpc-status: 7",
            ),
            ("\x01 opaque", ""),
        ] {
            let mut inn = server(allow);
            let (conn, told) = if let Some(null) = &null {
                let mut peer = Peer::shake(&mut inn, null, &[]);
                peer.send(&mut inn, request);
                (peer.conn, peer.read(&mut inn))
            } else {
                let conn = inn.accept_to(INBOUND, None);
                inn.receive(conn, request.as_bytes());
                (conn, inn.written(conn))
            };
            assert_eq!(inn.connects.len(), usize::from(admitted), "{null:?} {allow:?}");
            assert_eq!(refused(&inn, 1, Reason::Unauthorized), u64::from(!admitted));
            if !admitted {
                assert!(told.contains(answer), "{told}");
                let closed = inn.closed(conn).contains(&CloseKind::Abort);
                assert_eq!(closed, answer.is_empty(), "{request}");
            }
        }
    }
    // Another port is another matter.
    let mut inn = server(&["app.ns"]);
    let down = inn.accept_to(INBOUND, Some("10.1.2.3:9999"));
    inn.receive(down, GET.as_bytes());
    assert_eq!(inn.connects[0].1, addr("10.1.2.3:9999"));
    let down = inn.accept_to(INBOUND, Some("10.1.2.3:8080"));
    inn.receive(down, GET.as_bytes());
    assert!(inn.written(down).starts_with("HTTP/1.1 403 "));
}

#[test]
fn a_transport_header_is_read_whichever_way_it_is_cut() {
    let mut encoded = BytesMut::new();
    let port = NonZeroU16::new(100).expect("a port");
    TransportHeader { port, name: None, session: None }.encode(&mut encoded);
    let text = String::from_utf8(encoded.to_vec()).expect("ports below 128 are text");
    for at in 0..=text.len() {
        let mut inn = server(&[]);
        let mut peer = Peer::shake(&mut inn, &somebody("app.ns"), &[PROTOCOL]);
        peer.send(&mut inn, &text[..at]);
        assert_eq!(inn.connects.len(), usize::from(at == text.len()));
        if at < text.len() {
            peer.send(&mut inn, &text[at..]);
        }
        peer.send(&mut inn, "GET");
        assert_eq!(inn.connects[0].1, addr("127.0.0.1:100"));
        let up = inn.connect();
        assert_eq!(inn.written(up), "GET", "it is opaque");
    }
    // What is no header, a gateway's, and none in time: closed.
    for bad in ["GET / HTTP/1.1\r\n", &text[..5]] {
        let mut inn = server(&[]);
        let mut peer = Peer::shake(&mut inn, &somebody("app.ns"), &[PROTOCOL]);
        peer.send(&mut inn, bad);
        inn.pass(Duration::from_secs(10));
        assert_eq!(inn.closed(peer.conn), [CloseKind::Abort]);
        assert_eq!(refused(&inn, 1, Reason::TransportHeader), 1);
    }
}

#[test]
fn without_a_common_protocol_there_is_no_session() {
    let mut inn = server(&[]);
    let mut peer = Peer::dial(&mut inn, &somebody("app.ns"), &[b"spdy/1"], None);
    peer.turn(&mut inn).expect_err("an alert");
    assert_eq!(inbound(&inn).failures[Failure::Protocol as usize], 1);
    let mut inn = server(&[]);
    let peer = Peer::shake(&mut inn, &somebody("app.ns"), &[b"spdy/1", b"h2"]);
    let agreed = peer.session.peer().and_then(|peer| peer.protocol.clone());
    assert_eq!(agreed.as_deref(), Some(&b"h2"[..]));
}

#[test]
fn a_handshake_that_stops_is_ended() {
    // After its hello it says nothing; it says half of it; it leaves; it is reset.
    let shake = |inn: &mut Rig| Peer::dial(inn, &somebody("app.ns"), &[], None).conn;
    let mut inn = server(&[]);
    let conn = shake(&mut inn);
    assert_eq!(inn.engine.gauges().handshakes, 1);
    inn.pass(Duration::from_secs(10));
    assert_eq!(inn.closed(conn), [CloseKind::Abort]);
    assert_eq!(inbound(&inn).failures[Failure::Timeout as usize], 1);
    let conn = shake(&mut inn);
    inn.eof(conn);
    assert_eq!(inbound(&inn).failures[Failure::Truncated as usize], 1);
    let conn = shake(&mut inn);
    inn.reset(conn);
    assert_eq!(inbound(&inn).failures[Failure::Reset as usize], 1);
    assert_eq!((inn.engine.gauges().handshakes, inn.engine.gauges().connections), (0, 0));
}

#[test]
fn an_endpoint_that_does_not_shake_hands_is_down() {
    for ends in ["silence", "eof", "reset", "garbage"] {
        let mut out = client(None);
        let down = out.client();
        out.receive(down, GET.as_bytes());
        let up = out.connect();
        let failure = match ends {
            "eof" => {
                out.eof(up);
                Failure::Truncated
            }
            "reset" => {
                out.reset(up);
                Failure::Reset
            }
            "garbage" => {
                out.receive(up, b"HTTP/1.1 400 Bad Request\r\n\r\n");
                Failure::Malformed
            }
            _ => {
                out.pass(Duration::from_secs(10));
                Failure::Timeout
            }
        };
        assert_eq!(outbound(&out).failures[failure as usize], 1, "{ends}");
        let downs = |event: &&Event| matches!(event, Event::EndpointDown { .. });
        assert_eq!(out.events.iter().filter(downs).count(), 1, "{ends}");
        // It waits for an endpoint that is well, and probes look for one.
        out.pass(millis(200));
        assert_eq!(out.connects.len(), 1, "{ends}");
        out.pass(Duration::from_secs(4));
        assert!(out.written(down).starts_with("HTTP/1.1 504 "), "{ends}");
    }
}

#[test]
fn too_many_handshakes_are_refused_and_the_others_take_turns() {
    let mut inn = server(&[]);
    let mut config = (*inn.engine.config).clone();
    config.limits.handshakes = 20;
    inn.command(Command::Reload(config.into()));
    let mut peers: Vec<Peer> =
        (0..21).map(|_| Peer::dial(&mut inn, &somebody("app.ns"), &[], None)).collect();
    let last = peers.pop().expect("the last one");
    assert_eq!(inn.closed(last.conn), [CloseKind::Abort]);
    assert_eq!(inbound(&inn).failures[Failure::Limit as usize], 1);
    // At one reading of the clock, four go on; the others a millisecond later, four by four.
    let answered = |inn: &Rig| peers.iter().filter(|peer| inn.written_len(peer.conn) > 0).count();
    for expected in [4, 8, 12, 16, 20] {
        assert_eq!(answered(&inn), expected);
        inn.pass(millis(1));
    }
    for peer in &mut peers {
        inn.now += millis(1);
        peer.turn(&mut inn).expect("a handshake");
    }
    assert_eq!(inbound(&inn).handshakes, 20);
    assert_eq!(inn.engine.gauges().handshakes, 0);
    // Now there is room again.
    Peer::shake(&mut inn, &somebody("app.ns"), &[]);
}

// ---- Our own certificate ----

#[test]
fn without_a_certificate_nothing_meshed_is_served() {
    let mut config = super::rig::config();
    config.identity = Some(Identity::new(name("web.ns")));
    let mut rig = Rig::with(config);
    assert_eq!((rig.certify, rig.engine.is_ready()), (1, false));
    let conn = Peer::dial(&mut rig, &somebody("app.ns"), &[], None).conn;
    assert_eq!(rig.closed(conn), [CloseKind::Abort]);
    assert_eq!(inbound(&rig).failures[Failure::NotCertified as usize], 1);
    // What is not meshed is.
    let down = rig.accept_to(INBOUND, None);
    rig.receive(down, GET.as_bytes());
    assert_eq!(rig.connects.len(), 1);
    // A certificate is worth something once it is known what time it is.
    rig.input(Input::Identity(Ok(update("web.ns"))));
    assert!(!rig.engine.is_ready());
    rig.input(Input::WallClock(NOW));
    assert!(rig.engine.is_ready());
    Peer::shake(&mut rig, &somebody("app.ns"), &[]);
}

#[test]
fn requests_wait_for_the_certificate() {
    let mut out = client(None);
    let mut config = (*out.engine.config).clone();
    config.identity = Some(Identity::new(name("other.ns")));
    out.command(Command::Reload(config.into()));
    assert!(!out.engine.is_ready());
    assert_eq!(out.certify, 2, "another name, another certificate");
    let down = out.client();
    out.receive(down, GET.as_bytes());
    assert!(out.connects.is_empty());
    out.pass(Duration::from_secs(1));
    out.input(Input::Identity(Ok(update("app.ns"))));
    assert!(!out.engine.is_ready(), "it is for somebody else");
    out.input(Input::Identity(Ok(update("other.ns"))));
    assert_eq!(out.connects.len(), 1);
    // If none comes, they fail as when nobody is there.
    let mut config = super::rig::config();
    config.identity = Some(Identity::new(name("web.ns")));
    config.services.clone_from(&out.engine.config.services);
    let mut rig = Rig::with(config);
    let down = rig.client();
    rig.receive(down, GET.as_bytes());
    rig.pass(Duration::from_secs(3));
    assert!(rig.written(down).starts_with("HTTP/1.1 504 "));
}

#[test]
fn renews_in_time_and_ends_nothing_that_goes_on() {
    let mut inn = server(&[]);
    assert_eq!(inn.certify, 1);
    let snapshot = |rig: &Rig| rig.engine.snapshot().identity.expect("an identity");
    assert_eq!(snapshot(&inn).renews_in, Duration::from_secs(HOUR * 7 / 10));
    assert_eq!(snapshot(&inn).expires_in, Duration::from_hours(1));
    let mut peer = Peer::shake(&mut inn, &somebody("app.ns"), &[]);
    peer.send(&mut inn, "\x01 opaque");
    let up = inn.connect();
    inn.pass(Duration::from_secs(HOUR * 7 / 10));
    assert_eq!(inn.certify, 2);
    // It fails once, comes, and is used at once: other anchors, even.
    inn.input(Input::Identity(Err("busy".into())));
    inn.pass(Duration::from_secs(2));
    assert_eq!(inn.certify, 3);
    let wall = NOW + inn.now.saturating_since(crate::time::Time::ZERO);
    let mut next = update_of("web.ns", Null { anchors: [2].into(), ..somebody("web.ns") });
    next.not_after = wall + Duration::from_mins(10);
    inn.input(Input::Identity(Ok(next)));
    assert_eq!(snapshot(&inn).certifications, 2);
    let mut stale = Peer::dial(&mut inn, &somebody("app.ns"), &[], None);
    stale.turn(&mut inn).expect_err("its anchor was removed");
    peer.send(&mut inn, "more");
    assert_eq!(inn.written(up), "\x01 opaquemore");
    // Nothing more comes: when it ends, new ones are refused, and what goes on goes on.
    inn.pass(Duration::from_mins(11));
    assert!(!inn.engine.is_ready() && !snapshot(&inn).certified);
    assert!(inn.certify > 4, "it is asked for again and again: {}", inn.certify);
    let ended = |event: &&Event| matches!(event, Event::Uncertified { .. });
    assert_eq!(inn.events.iter().filter(ended).count(), 1);
    peer.send(&mut inn, "still");
    assert_eq!(inn.written(up), "still");
    let conn = Peer::dial(&mut inn, &somebody("app.ns"), &[], None).conn;
    assert_eq!(inn.closed(conn), [CloseKind::Abort]);
}

#[test]
fn a_clock_that_is_set_is_believed() {
    let mut inn = server(&[]);
    inn.input(Input::WallClock(UnixTime::from_secs(NOW.as_secs() + 2 * HOUR)));
    assert!(!inn.engine.is_ready());
    assert_eq!(inn.certify, 2, "at once");
    inn.input(Input::WallClock(UnixTime::from_secs(NOW.as_secs() - 10)));
    assert!(!inn.engine.is_ready(), "it is not valid yet");
    inn.pass(Duration::from_secs(10));
    assert!(inn.engine.is_ready());
}

/// A record that is not authentic ends everything that its connection carried.
#[test]
fn a_damaged_record_is_like_a_reset() {
    let mut inn = server(&[]);
    let mut peer = Peer::shake(&mut inn, &somebody("app.ns"), &[]);
    peer.send(&mut inn, "\x01 opaque");
    let up = inn.connect();
    let mut sealed = BytesMut::new();
    peer.session.seal(b"more", &mut sealed).expect("a session");
    sealed[6] ^= 1;
    inn.receive(peer.conn, &sealed);
    assert_eq!(inn.closed(up), [CloseKind::Abort]);
    assert_eq!(inbound(&inn).failures[Failure::BadRecord as usize], 1);
}

/// What a slow reader does not take is not read from the app, sealed or not.
/// Found by the simulator: a part of a record that was larger than the worker's cap waited for the
/// rest, which nobody was allowed to read.
#[test]
fn a_record_is_read_to_its_end_at_the_workers_cap() {
    let mut rig = server(&[]);
    let mut config = (*rig.engine.config).clone();
    config.limits.buffer_bytes = 10_000;
    rig.input(Input::Command(Command::Reload(Arc::new(config))));
    let mut peer = Peer::shake(&mut rig, &somebody("app.ns"), &[]);
    peer.send(&mut rig, "PUT / HTTP/1.1\r\nHost: web\r\nContent-Length: 16000\r\n\r\n");
    let app = rig.connect();
    rig.taken(app);
    let mut record = BytesMut::new();
    peer.session.seal(&[b'x'; 16_000], &mut record).expect("a session");
    let (part, rest) = record.split_at(12_000);
    rig.receive(peer.conn, part);
    assert!(rig.engine.gauges().buffered_bytes > 10_000);
    assert!(rig.engine.read_budget(peer.conn) > 0, "nobody else would make room");
    rig.receive(peer.conn, rest);
    assert_eq!(rig.taken(app).len(), 16_000);
}

#[test]
fn a_slow_reader_holds_back_the_app() {
    let mut inn = server(&[]);
    let mut peer = Peer::shake(&mut inn, &somebody("app.ns"), &[]);
    peer.send(&mut inn, "\x01 opaque");
    let up = inn.connect();
    inn.blocked.push(peer.conn);
    let block = [7; 16 * 1024];
    let mut sent = 0;
    while inn.engine.read_budget(up) > 0 {
        inn.receive(up, &block);
        sent += block.len();
        assert!(sent < 1 << 20, "it reads for ever");
    }
    assert!(inn.engine.gauges().buffered_bytes < 1 << 20);
    inn.unblock(peer.conn);
    while inn.engine.read_budget(up) == 0 {
        inn.turn();
    }
    inn.receive(up, b"end");
    peer.turn(&mut inn).expect("records");
    assert_eq!(peer.plain.len(), sent + 3);
}
