//! Rate limits of the app's ports.

use alloc::format;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec;
use alloc::vec::Vec;

use super::http2_rig::Peer;
use super::rig::*;
use super::tls_rig::{self, NOW, name, nobody, somebody, update};
use crate::config::{Allow, Config, Identity, InboundPort};
use crate::engine::{Accepted, Command, ConnId, Input};
use crate::error::Reason;
use crate::identity::Pattern;
use crate::policy::RateLimit;
use crate::policy::rate::{ClientMatch, Override};

const GET: &str = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";
const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n";

fn limited(limit: RateLimit) -> Config {
    let mut config = config();
    let mut port = InboundPort::new(8080, vec![Allow::Unauthenticated]);
    port.rate_limit = Some(limit);
    config.inbound = vec![port];
    config
}

fn per_client(rps: u32) -> RateLimit {
    RateLimit { per_client: Some(rps), ..RateLimit::default() }
}

fn client(rig: &mut Rig, peer: &str, original_dst: Option<&str>) -> ConnId {
    let (peer, local) = (addr(peer), addr("127.0.0.1:4143"));
    let original_dst = original_dst.map(addr);
    let accepted = Accepted { listener: INBOUND, peer, local, original_dst };
    let conn = rig.engine.accept(rig.now, accepted).expect("room");
    rig.turn();
    conn
}

/// An app that answers everything, and its proxy.
struct App {
    rig: Rig,
    ups: Vec<ConnId>,
}

impl App {
    fn new(config: Config) -> Self {
        App { rig: Rig::with(config), ups: Vec::new() }
    }

    /// What a request is answered: the app's 200, or whatever the proxy says.
    fn ask(&mut self, down: ConnId) -> String {
        self.rig.receive(down, GET.as_bytes());
        self.answer();
        self.rig.written(down)
    }

    fn answer(&mut self) {
        while !self.rig.connects.is_empty() {
            self.ups.push(self.rig.connect());
        }
        for &up in &self.ups {
            if !self.rig.written(up).is_empty() {
                self.rig.receive(up, OK.as_bytes());
            }
        }
    }

    fn client(&mut self, peer: &str) -> ConnId {
        client(&mut self.rig, peer, None)
    }

    fn refused(&self, reason: Reason) -> u64 {
        self.rig.engine.snapshot().directions[1].refused[reason as usize]
    }
}

#[test]
fn a_client_that_sends_faster_is_told_when_to_come_back() {
    let mut app = App::new(limited(per_client(2)));
    let (greedy, honest) = (app.client("10.9.0.1:1000"), app.client("10.9.0.2:1"));
    assert_eq!((app.ask(greedy), app.ask(greedy)), (OK.into(), OK.into()));
    let refused = app.ask(greedy);
    for part in [
        "HTTP/1.1 429 ",
        "\r\nretry-after: 1\r\n",
        "\r\nl5d-proxy-error: rate limit of the client exceeded\r\n",
    ] {
        assert!(refused.contains(part), "{refused}");
    }
    // Another connection from there does not help, and others do not suffer.
    let again = app.client("10.9.0.1:1001");
    assert!(app.ask(again).starts_with("HTTP/1.1 429 "));
    assert_eq!(app.ask(honest), OK);
    app.rig.pass(millis(500));
    assert_eq!(app.ask(greedy), OK, "and its connection goes on");
    assert_eq!((app.refused(Reason::ClientRateLimit), app.refused(Reason::RateLimit)), (2, 0));
}

#[test]
fn a_port_takes_no_more_in_all_and_other_ports_everything() {
    let mut app = App::new(limited(RateLimit { total: Some(3), ..RateLimit::default() }));
    for number in 1..=3 {
        let peer = format!("10.9.0.{number}:1");
        let down = client(&mut app.rig, &peer, Some("10.0.0.9:8080"));
        assert_eq!(app.ask(down), OK, "{number}");
    }
    let down = app.client("10.9.0.4:1");
    let refused = app.ask(down);
    assert!(refused.contains("l5d-proxy-error: rate limit of the port exceeded\r\n"), "{refused}");
    assert_eq!(app.refused(Reason::RateLimit), 1);
    let other = client(&mut app.rig, "10.9.0.4:2", Some("10.0.0.9:9090"));
    for _ in 0..10 {
        assert_eq!(app.ask(other), OK);
    }
    // Apps' own requests are not meant.
    let outbound = app.rig.client();
    app.rig.receive(outbound, b"GET / HTTP/1.1\r\nHost: one.example\r\n\r\n");
    app.answer();
    assert_eq!(app.rig.written(outbound), OK);
}

#[test]
fn a_call_is_told_resource_exhausted() {
    let mut rig = Rig::with(limited(RateLimit { total: Some(1), ..RateLimit::default() }));
    let mut peer = Peer::client_to(&mut rig, INBOUND);
    let call = "POST /a.B/C HTTP/1.1\r\nHost: a\r\nContent-Type: application/grpc\r\n\r\n";
    peer.ask(&mut rig, call, true);
    let second = peer.ask(&mut rig, call, true);
    let answer = peer.head(second);
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    assert!(answer.contains("grpc-status: 8\r\n"), "{answer}");
    assert!(answer.contains("retry-after: 1\r\n"), "{answer}");
}

#[test]
fn who_has_proven_who_it_is_has_a_limit_of_its_own() {
    let mut config = limited(RateLimit {
        per_client: Some(1),
        overrides: vec![Override {
            clients: vec![ClientMatch::Identity(Pattern::parse("b.ns").expect("a name"))],
            rps: 2,
        }],
        ..RateLimit::default()
    });
    config.identity = Some(Identity::new(name("web.ns")));
    let mut rig = Rig::with(config);
    rig.input(Input::WallClock(NOW));
    rig.input(Input::Identity(Ok(update("web.ns"))));
    // All from one address.
    for (who, most) in [(nobody(), 1), (somebody("a.ns"), 1), (somebody("b.ns"), 2)] {
        // Handshakes take turns by the clock.
        rig.pass(millis(5));
        let mut peer = tls_rig::Peer::shake(&mut rig, &who, &[]);
        let mut refused = 0;
        for _ in 0..4 {
            peer.send(&mut rig, GET);
            if rig.connects.is_empty() {
                refused += usize::from(peer.read(&mut rig).contains(" 429 "));
                continue;
            }
            let up = rig.connect();
            rig.receive(up, b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
            assert!(peer.read(&mut rig).starts_with("HTTP/1.1 200 "));
        }
        assert_eq!(refused, 4 - most, "{who:?}");
    }
}

#[test]
fn a_reload_keeps_what_was_spent_unless_the_limit_is_another() {
    let config = limited(per_client(1));
    let mut app = App::new(config.clone());
    let down = app.client("10.9.0.1:1");
    assert_eq!(app.ask(down), OK);
    app.rig.command(Command::Reload(Arc::new(config)));
    assert!(app.ask(down).starts_with("HTTP/1.1 429 "));
    app.rig.command(Command::Reload(Arc::new(limited(per_client(2)))));
    assert_eq!(app.ask(down), OK);
    let mut without = limited(per_client(1));
    without.inbound[0].rate_limit = None;
    app.rig.command(Command::Reload(Arc::new(without)));
    for _ in 0..10 {
        assert_eq!(app.ask(down), OK);
    }
}
