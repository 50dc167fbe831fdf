//! gRPC-like exchanges, 100 bytes each way and trailers, through a whole engine between peers that
//! speak HTTP/1 or HTTP/2: for counting instructions and allocations.
//!
//! `hop_cost record FROM TO STREAMS COUNT FILE` lets peers talk through an engine and notes what they
//! send; FROM and TO are `h1` or `h2`, and beyond 100 streams there are more clients. `hop_cost replay
//! TO STREAMS FILE` gives that to another engine: under
//! `valgrind --tool=callgrind` the difference between two counts is what the engine costs, without
//! its peers. With `policy` in front there is a route with retries and timeouts, and the service has
//! a breaker.

use std::{env, fs};

use hop::Hop;
use record::{Talk, Through, is_http2, number};
use selvedge_core::config::Protocol;
use selvedge_core::policy::Route;

#[path = "common/hop.rs"]
mod hop;
#[path = "common/peer.rs"]
mod peer;
#[path = "common/policies.rs"]
mod policies;
#[path = "common/record.rs"]
mod record;

/// Streams of one client at most.
const STREAMS: usize = 100;
/// So many fit into a turn, even if each is given to an endpoint's connection of its own.
const FEW: usize = 8;

/// What the engine is told.
#[derive(Clone, Copy)]
struct Settings {
    to_http2: bool,
    /// Retries, timeouts and a breaker.
    policy: bool,
    streams: usize,
}

impl Settings {
    fn clients(self) -> usize {
        self.streams.div_ceil(STREAMS)
    }

    fn hop(self) -> Hop {
        let protocol = if self.to_http2 { Protocol::Http2 } else { Protocol::Http1 };
        let mut service = hop::service("greeter.example:80", protocol, 1);
        let mut routes = Vec::new();
        if self.policy {
            service.breaker = Some(policies::breaker());
            routes.push(Route {
                service: service.name.clone(),
                retry: Some(policies::retry()),
                timeouts: policies::timeouts(),
                ..Route::default()
            });
        }
        let mut config = hop::outbound(vec![service]);
        config.routes = routes.into();
        let mut hop = Hop::new(config);
        // More may not fit into a turn: the rest is done when the engine asks for it.
        hop.is_timed = self.streams > FEW;
        for _ in 0..self.clients() {
            hop.accept(0);
        }
        hop
    }
}

fn main() {
    let args: Vec<String> = env::args().skip(1).collect();
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    let (policy, args) = match &args[..] {
        ["policy", rest @ ..] => (true, rest),
        all => (false, all),
    };
    let settings =
        |to, streams| Settings { to_http2: is_http2(to), policy, streams: number(streams) };
    match *args {
        ["record", from, to, streams, count, file] => {
            let settings = settings(to, streams);
            let talk = Talk {
                from_http2: is_http2(from),
                to_http2: settings.to_http2,
                clients: settings.clients(),
                streams: settings.streams.min(STREAMS),
                count: number(count),
            };
            let mut first = settings.hop();
            first.keeps = true;
            let log = record::record(&mut first, talk);
            let mut second = settings.hop();
            record::replay(&mut second, &log);
            assert_eq!(second.total(), first.total(), "the same input, the same output");
            fs::write(file, log).expect("cannot write");
        }
        ["replay", to, streams, file] => {
            let log = fs::read(file).expect("cannot read");
            let mut hop = settings(to, streams).hop();
            record::replay(&mut hop, &log);
            assert!(hop.total() > log.len() / 2, "all of it was forwarded");
        }
        _ => {
            panic!("[policy] record FROM TO STREAMS COUNT FILE, or [policy] replay TO STREAMS FILE")
        }
    }
}
