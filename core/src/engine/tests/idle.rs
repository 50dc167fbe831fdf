//! What a service says of idle connections: pooled ones, and those that are forwarded.

use super::http2_rig::{Peer, http2_config};
use super::rig::*;
use crate::config::{Config, ServiceTimeouts};
use crate::engine::CloseKind;
use crate::time::Duration;

const SECOND: Duration = Duration::from_secs(1);

/// The service keeps connections for 10 s; others do for 3.
fn with(mut config: Config, name: &str, times: ServiceTimeouts) -> Rig {
    config.timeouts.pool_idle = 3 * SECOND;
    config.timeouts.tcp_idle = 100 * SECOND;
    let service = config.services.iter_mut().find(|service| &*service.name == name);
    service.expect("a service").timeouts = times;
    Rig::with(config)
}

fn pooled() -> ServiceTimeouts {
    ServiceTimeouts { pool_idle: Some(10 * SECOND), ..ServiceTimeouts::default() }
}

#[test]
fn a_service_says_how_long_its_connections_are_kept() {
    let mut rig = with(config(), "one.example:80", pooled());
    for (host, seconds) in [("one.example", 10), ("web.example", 3)] {
        let (_, up) = rig.exchange(&alloc::format!("GET / HTTP/1.1\r\nHost: {host}\r\n\r\n"));
        // Between a request and its answer it is not idle.
        rig.pass(20 * SECOND);
        rig.receive(up, b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
        rig.pass((seconds * SECOND).saturating_sub(millis(1)));
        assert_eq!(rig.closed(up), [], "{host}");
        rig.pass(millis(1));
        assert_eq!(rig.closed(up), [CloseKind::Full], "{host}");
    }
}

#[test]
fn so_it_does_of_shared_ones() {
    for (name, seconds) in [("h2.example:80", 10), ("two.example:80", 3)] {
        let mut rig = with(http2_config(), name, pooled());
        let mut client = Peer::client(&mut rig);
        client.ask(&mut rig, "GET / HTTP/1.1\r\nHost: h2.example\r\n\r\n", true);
        let mut app = Peer::endpoint(&mut rig);
        rig.pass(5 * SECOND);
        app.ok(&mut rig, 1);
        rig.pass((seconds - 1) * SECOND);
        app.run(&mut rig);
        assert!(app.goaways.is_empty(), "{name}");
        rig.pass(2 * SECOND);
        app.run(&mut rig);
        assert!(!app.goaways.is_empty(), "{name}");
    }
}

#[test]
fn a_forward_says_how_long_nothing_may_move() {
    let times = ServiceTimeouts { tcp_idle: Some(2 * SECOND), ..ServiceTimeouts::default() };
    for (times, seconds) in [(times, 2), (ServiceTimeouts::default(), 100)] {
        let mut rig = with(config(), "tcp/5432", times);
        let down = rig.accept_to(FORWARD, None);
        let up = rig.connect();
        rig.pass(SECOND);
        rig.receive(up, b"x");
        rig.pass((seconds * SECOND).saturating_sub(millis(1)));
        assert_eq!((rig.closed(down), rig.closed(up)), ([].into(), [].into()));
        rig.pass(millis(2));
        assert_eq!(rig.closed(down), [CloseKind::Abort]);
    }
}
