//! TLS from clients: whom it is for is told from its ClientHello, and every byte is passed on.

use alloc::sync::Arc;
use alloc::vec;
use alloc::vec::Vec;

use super::rig::*;
use crate::config::{Config, Identity};
use crate::engine::{CloseKind, Command, ConnId, Event};
use crate::error::Reason;
use crate::identity::Name;
use crate::stats::{DirectionStats, HelloStats};
use crate::time::Duration;
use crate::tls::client_hello::tests::{alpn, extension, message, record, records, sni};
use crate::tls::{Malformed, Nameless};

fn hello(name: &str) -> Vec<u8> {
    record(&message(&[sni(name.as_bytes()), alpn(&[b"h2"])]))
}

fn outbound(rig: &Rig) -> DirectionStats {
    rig.engine.snapshot().directions[0].clone()
}

fn refused(rig: &Rig, reason: Reason) -> u64 {
    outbound(rig).refused[reason as usize]
}

fn malformed(rig: &Rig, reason: Malformed) -> u64 {
    outbound(rig).hellos.malformed[reason as usize]
}

/// The other end of the tunnel of `down`, which got `input` from it, and passes on what it says.
fn is_tunnelled(rig: &mut Rig, down: ConnId, to: &str, input: &[u8]) {
    assert_eq!(rig.connects.first().map(|connect| connect.1), Some(addr(to)));
    let up = rig.connect();
    assert_eq!(rig.taken(up), input);
    rig.receive(up, b"\x16\x03\x03 hello to you");
    assert_eq!(rig.taken(down), b"\x16\x03\x03 hello to you");
    rig.receive(down, b"\x17\x03\x03 data");
    assert_eq!(rig.taken(up), b"\x17\x03\x03 data");
}

#[test]
fn a_service_is_reached_by_its_server_name_at_every_cut() {
    let input = hello("One.example");
    for cut in 1..input.len() {
        let mut rig = Rig::new();
        let down = rig.client();
        rig.receive(down, &input[..cut]);
        assert!(rig.connects.is_empty());
        rig.receive(down, &input[cut..]);
        is_tunnelled(&mut rig, down, "10.0.0.3:80", &input);
        let stats = outbound(&rig);
        assert_eq!((stats.detect.tls, stats.detect.opaque), (1, 0));
        assert_eq!(stats.hellos, HelloStats { passed: 1, ..HelloStats::default() });
    }
}

#[test]
fn what_follows_the_hello_is_passed_on_with_it() {
    let mut rig = Rig::new();
    let down = rig.client();
    let input = [&hello("one.example")[..], b"\x14\x03\x03\0\x01\x01", &[0x17; 500]].concat();
    rig.receive(down, &input);
    is_tunnelled(&mut rig, down, "10.0.0.3:80", &input);
}

#[test]
fn a_large_hello_in_many_records_is_waited_for() {
    let share = extension(0x33, &vec![7; 40_000]);
    let message = message(&[share, sni(b"one.example")]);
    for size in [100, 16_384] {
        let mut rig = Rig::new();
        let down = rig.client();
        let input = records(&message, size);
        for piece in input.chunks(1_000) {
            assert!(rig.engine.read_budget(down) > 0, "it may send more");
            rig.receive(down, piece);
        }
        is_tunnelled(&mut rig, down, "10.0.0.3:80", &input);
    }
}

#[test]
fn an_original_destination_wins_over_the_name() {
    for name in ["one.example", "elsewhere.example"] {
        let mut rig = Rig::new();
        let down = rig.accept_to(OUTBOUND, Some("10.9.9.9:443"));
        rig.receive(down, &hello(name));
        is_tunnelled(&mut rig, down, "10.9.9.9:443", &hello(name));
    }
}

#[test]
fn what_the_mesh_sends_is_for_the_app_whatever_its_name() {
    let mut rig = Rig::new();
    let down = rig.accept_to(INBOUND, None);
    rig.receive(down, &hello("one.example"));
    is_tunnelled(&mut rig, down, "127.0.0.1:8080", &hello("one.example"));
    assert_eq!(rig.engine.snapshot().directions[1].hellos.passed, 1);
}

#[test]
fn our_own_name_is_for_us_from_the_mesh_only() {
    let name = "web.ns.serviceaccount.identity.linkerd.cluster.local";
    let identity = Identity::new(Name::parse(name).expect("a name"));
    let config = || Config { identity: Some(identity.clone()), ..config() };
    let mut rig = Rig::with(config());
    let down = rig.accept_to(INBOUND, Some("10.1.2.3:8080"));
    rig.receive(down, &hello(name));
    assert!(rig.connects.is_empty(), "it is not passed on");
    let stats = &rig.engine.snapshot().directions[1];
    assert_eq!(stats.hellos, HelloStats { terminated: 1, ..HelloStats::default() });
    let mut rig = Rig::with(config());
    let down = rig.accept_to(OUTBOUND, Some("10.1.2.3:8080"));
    rig.receive(down, &hello(name));
    is_tunnelled(&mut rig, down, "10.1.2.3:8080", &hello(name));
    // Without an identity, no name is ours.
    let mut rig = Rig::new();
    let down = rig.accept_to(INBOUND, Some("10.1.2.3:8080"));
    rig.receive(down, &hello(name));
    is_tunnelled(&mut rig, down, "10.1.2.3:8080", &hello(name));
}

#[test]
fn an_unknown_name_is_closed_counted_and_told() {
    let mut rig = Rig::new();
    let down = rig.client();
    rig.receive(down, &hello("db.example"));
    assert_eq!(rig.closed(down), [CloseKind::Abort]);
    assert_eq!(refused(&rig, Reason::UnknownServerName), 1);
    assert_eq!(outbound(&rig).hellos, HelloStats { unknown: 1, ..HelloStats::default() });
    let told = rig.events.iter().any(
        |event| matches!(event, Event::UnknownServerName { name, .. } if &**name == "db.example"),
    );
    assert!(told, "{:?}", rig.events);
}

#[test]
fn no_name_goes_where_it_wanted_to_or_is_closed_as_configured() {
    let bare = record(&message(&[]));
    for (nameless, passes) in
        [(Nameless::Passthrough, true), (Nameless::Terminate, true), (Nameless::Close, false)]
    {
        let mut rig = Rig::with(Config { nameless_tls: nameless, ..config() });
        let down = rig.accept_to(OUTBOUND, Some("10.9.9.9:443"));
        rig.receive(down, &bare);
        let hellos = outbound(&rig).hellos;
        assert_eq!((hellos.nameless == 1, hellos.closed == 1), (passes, !passes));
        if passes {
            is_tunnelled(&mut rig, down, "10.9.9.9:443", &bare);
        } else {
            assert_eq!(rig.closed(down), [CloseKind::Abort]);
            assert_eq!(refused(&rig, Reason::ServerNameMissing), 1);
        }
    }
    let mut rig = Rig::new();
    let down = rig.client();
    rig.receive(down, &bare);
    assert_eq!(rig.closed(down), [CloseKind::Abort]);
    assert_eq!(refused(&rig, Reason::OpaqueNowhere), 1);
}

#[test]
fn garbage_that_looks_like_tls_is_opaque_at_once() {
    for (input, reason) in [
        (&b"\x16\x03\x01\x00\x90\x01\xff\xff\xffwhatever this is"[..], Malformed::TooLarge),
        (b"\x16\x03\x01\x00\x05\x01\x00\x00\x01\x03", Malformed::Length),
        (b"\x16\x03\x01\x00\x01\x01HTTP", Malformed::RecordType),
    ] {
        let mut rig = Rig::new();
        let down = rig.accept_to(OUTBOUND, Some("10.9.9.9:443"));
        rig.receive(down, input);
        is_tunnelled(&mut rig, down, "10.9.9.9:443", input);
        assert_eq!(malformed(&rig, reason), 1);
        assert_eq!(outbound(&rig).detect.opaque, 1);
    }
}

#[test]
fn an_incomplete_hello_is_waited_for_briefly_and_then_opaque() {
    let input = hello("one.example");
    let cut = input.len() - 1;
    // It pauses, or ends.
    for ends in [false, true] {
        let mut rig = Rig::new();
        let down = rig.accept_to(OUTBOUND, Some("10.9.9.9:443"));
        rig.receive(down, &input[..cut]);
        if ends {
            rig.eof(down);
        } else {
            rig.pass(Duration::from_millis(999));
            assert!(rig.connects.is_empty());
            rig.pass(Duration::from_millis(1));
        }
        assert_eq!(malformed(&rig, Malformed::Incomplete), 1);
        let stats = outbound(&rig);
        assert_eq!((stats.detect.tls, stats.detect.opaque, stats.hellos.passed), (0, 1, 0));
        assert_eq!(rig.connects.first().map(|connect| connect.1), Some(addr("10.9.9.9:443")));
        let up = rig.connect();
        assert_eq!(rig.taken(up), &input[..cut]);
        if ends {
            assert_eq!(rig.closed(up), [CloseKind::Half]);
        } else {
            rig.receive(down, &input[cut..]);
            assert_eq!(rig.taken(up), &input[cut..]);
        }
    }
}

/// Byte by byte it may take long, but not for ever. A slow client that is honest gets through.
#[test]
fn a_hello_in_drips_is_bounded_as_a_whole() {
    let mut rig = Rig::new();
    let drips = rig.accept_to(OUTBOUND, Some("10.9.9.9:443"));
    let slow = rig.client();
    let input = hello("one.example");
    let mut pieces = input.chunks(10);
    let mut served = false;
    let mut sent = 0;
    while malformed(&rig, Malformed::Incomplete) == 0 {
        rig.receive(drips, &input[sent..=sent]);
        sent += 1;
        if let Some(piece) = pieces.next() {
            rig.receive(slow, piece);
            if rig.connects.first().is_some_and(|connect| connect.1 == addr("10.0.0.3:80")) {
                is_tunnelled(&mut rig, slow, "10.0.0.3:80", &input);
                served = true;
            }
        }
        rig.pass(Duration::from_millis(900));
    }
    assert!(served);
    // 30 s, in pauses of 0.9.
    assert_eq!(sent, 34);
    assert_eq!(rig.connects.first().map(|connect| connect.1), Some(addr("10.9.9.9:443")));
    assert_eq!(outbound(&rig).hellos.passed, 1);
    assert_eq!(malformed(&rig, Malformed::Incomplete), 1);
}

#[test]
fn among_services_of_one_host_the_one_on_443_is_meant() {
    let services = |names: &[&str]| {
        let endpoint = |n: usize| alloc::format!("10.0.1.{n}:1");
        let all = names.iter().enumerate();
        all.map(|(n, name)| service(name, &[&endpoint(n)])).collect::<Vec<_>>()
    };
    let cases: [(&[&str], &str, Option<&str>); 8] = [
        (&["a.example:80"], "a.example", Some("10.0.1.0:1")),
        (&["a.example:8443"], "a.example", Some("10.0.1.0:1")),
        (&["a.example:80", "a.example:443"], "a.example", Some("10.0.1.1:1")),
        (&["a.example:443", "a.example:80", "a.example:81"], "A.EXAMPLE", Some("10.0.1.0:1")),
        (&["a.example:80", "a.example:81"], "a.example", None),
        (&["a.example:80", "a.example:81", "a.example:443"], "a.example", Some("10.0.1.2:1")),
        (&["a.example:80", "b.example:80"], "b.example", Some("10.0.1.1:1")),
        (&["a.example:80", "tcp/5432", "[::1]:443"], "example", None),
    ];
    let mut rig = Rig::new();
    for (names, name, expected) in cases {
        // A reload is enough.
        let config = Config { services: services(names), ..config() };
        rig.command(Command::Reload(Arc::new(config)));
        rig.connects = vec![];
        let down = rig.client();
        rig.receive(down, &hello(name));
        let to = rig.connects.first().map(|connect| connect.1);
        assert_eq!(to, expected.map(addr), "{names:?}");
        assert_eq!(rig.closed(down).is_empty(), expected.is_some());
    }
}
