//! An engine that has much of something, and HTTP/1 exchanges through it: for counting instructions,
//! allocations and memory under valgrind.
//!
//! - `engine_cost connections|endpoints|services N COUNT`: exchanges that take turns among N of them,
//!   after every one of them was used. The difference between two counts is the cost of an exchange.
//! - `engine_cost tunnel COUNT`: so many MiB through an opaque connection, in reads of 32 KiB.
//! - `engine_cost idle http1|http2|tcp N`, `engine_cost idle stream N`: N connections that have made a
//!   request, or N streams of HTTP/2 that wait for their answer. Ends with all of it in memory:
//!   `--tool=dhat` shows that at its end.

use std::{env, process};

use hop::{Hop, outbound, service};
use record::number;
use selvedge_core::config::{Config, Listener, ListenerKind, Protocol};
use selvedge_core::engine::ConnId;
use selvedge_core::time::Duration;

#[path = "common/hop.rs"]
mod hop;
#[path = "common/peer.rs"]
mod peer;
#[path = "common/record.rs"]
mod record;

const RESPONSE: &[u8] = b"HTTP/1.1 200 OK\r\nServer: app/2.1\r\nContent-Length: 5\r\n\r\nhello";
/// SETTINGS.
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";
/// Streams of one client: engines take 1024.
const STREAMS: usize = 1000;

fn request(host: &str) -> Vec<u8> {
    format!("GET /hello HTTP/1.1\r\nHost: {host}\r\nUser-Agent: bench/1.0\r\n\r\n").into_bytes()
}

/// A request that ends its stream: GET, http and / are in HPACK's static table; the authority is a
/// literal that is not indexed.
fn headers(stream: u32) -> Vec<u8> {
    const HOST: &[u8] = b"web.example";
    let block = [b"\x82\x86\x84\x01", &[HOST.len() as u8][..], HOST].concat();
    let mut frame = vec![0, 0, block.len() as u8, 1, 5];
    frame.extend(stream.to_be_bytes());
    frame.extend(block);
    frame
}

/// One exchange; the connection to the endpoint that took it.
fn exchange(hop: &mut Hop, client: ConnId, request: &[u8]) -> ConnId {
    hop.read(client, request);
    let up = hop.last.filter(|&last| last != client).expect("it was forwarded");
    hop.read(up, RESPONSE);
    assert_eq!(hop.last, Some(client), "it was answered");
    up
}

fn roomy(mut config: Config, connections: usize) -> Config {
    config.limits.connections = 2 * connections + 100_000;
    // So many take a while until each has asked, and then until it asks again.
    let timeouts = &mut config.timeouts;
    timeouts.detect = Duration::from_hours(1);
    timeouts.keep_alive = Duration::from_hours(1);
    config
}

fn scale(what: &str, n: usize, count: usize) {
    let services = if what == "services" { n } else { 1 };
    let endpoints = if what == "endpoints" { n } else { 1 };
    let clients = if what == "connections" { n } else { 1 };
    let name = |at: usize| format!("web-{at}.example:80");
    let all = (0..services).map(|at| service(&name(at), Protocol::Http1, endpoints)).collect();
    let mut hop = Hop::new(roomy(outbound(all), clients));
    hop.is_timed = true;
    let clients: Vec<ConnId> = (0..clients).map(|_| hop.accept(0)).collect();
    let requests: Vec<Vec<u8>> = (0..services).map(|at| request(&name(at))).collect();
    // Endpoints are drawn: after so many, all but a few have had their turn.
    let warm = n * if what == "endpoints" { 8 } else { 1 };
    for at in 0..warm + count {
        exchange(&mut hop, clients[at % clients.len()], &requests[at % requests.len()]);
    }
}

fn tunnel(count: usize) {
    let listener =
        Listener { addr: ([127, 0, 0, 1], 4140).into(), kind: ListenerKind::Forward("db".into()) };
    let mut config = outbound(vec![service("db", Protocol::Auto, 1)]);
    config.listeners = vec![listener];
    let mut hop = Hop::new(config);
    let client = hop.accept(0);
    let block = vec![b'x'; 32 * 1024];
    for _ in 0..count * 32 {
        hop.read(client, &block);
    }
    assert_eq!(hop.total, count << 20, "all of it was forwarded");
}

fn idle(kind: &str, n: usize) -> Hop {
    let mut config = outbound(vec![service("web.example:80", Protocol::Http1, 1)]);
    let forward = ListenerKind::Forward("web.example:80".into());
    config.listeners.push(Listener { addr: ([127, 0, 0, 1], 4141).into(), kind: forward });
    let mut hop = Hop::new(roomy(config, n));
    let request = request("web.example");
    match kind {
        "http1" => {
            for _ in 0..n {
                let client = hop.accept(0);
                exchange(&mut hop, client, &request);
            }
        }
        "http2" => {
            for _ in 0..n {
                let client = hop.accept(0);
                hop.read(client, PREFACE);
                exchange(&mut hop, client, &headers(1));
                // The engine's SETTINGS are acknowledged.
                hop.read(client, b"\0\0\0\x04\x01\0\0\0\0");
            }
        }
        "tcp" => {
            for _ in 0..n {
                let client = hop.accept(1);
                hop.read(client, b"hello");
            }
        }
        "stream" => {
            for left in (0..n).step_by(STREAMS).map(|before| n - before) {
                let client = hop.accept(0);
                hop.read(client, PREFACE);
                for stream in 0..left.min(STREAMS) {
                    hop.read(client, &headers(2 * stream as u32 + 1));
                }
            }
        }
        other => panic!("http1, http2, tcp or stream, not {other}"),
    }
    hop
}

fn main() {
    let args: Vec<String> = env::args().skip(1).collect();
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    match args[..] {
        [what @ ("connections" | "endpoints" | "services"), n, count] => {
            scale(what, number(n), number(count));
        }
        ["tunnel", count] => tunnel(number(count)),
        ["idle", kind, n] => {
            let _hop = idle(kind, number(n));
            process::exit(0);
        }
        _ => panic!("connections|endpoints|services N COUNT, tunnel COUNT, or idle KIND N"),
    }
}
