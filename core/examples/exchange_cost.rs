//! HTTP/1 exchanges through the engine, ten fields and 100 bytes each way: for counting
//! instructions and allocations.
//!
//! `valgrind --tool=callgrind target/release/examples/exchange_cost COUNT`: the difference between
//! two counts is the cost of an exchange, without start-up. With `routes N` before the count there
//! are so many routes, each for another path, and the last one matches; with `policy` there is one
//! route with retries and timeouts, and the service has a breaker.

use std::env;
use std::sync::Arc;

use bytes::BytesMut;
use selvedge_core::config::{Config, Endpoint, Listener, ListenerKind, Service, Target};
use selvedge_core::engine::{Accepted, ConnId, Engine, Input, Output};
use selvedge_core::policy::{Match, PathMatch, Route};
use selvedge_core::rng::Seed;
use selvedge_core::time::{Duration, Time};

#[path = "common/messages.rs"]
mod messages;
#[path = "common/policies.rs"]
mod policies;

struct Bench {
    engine: Engine,
    now: Time,
    /// What every read goes into, as an adapter has it.
    block: BytesMut,
    up: Option<ConnId>,
    written: usize,
}

impl Bench {
    /// One read, and everything that follows from it.
    fn read(&mut self, conn: ConnId, bytes: &[u8]) {
        self.now += Duration::from_micros(20);
        self.block.reserve(32 * 1024);
        self.block.extend_from_slice(bytes);
        let data = self.block.split();
        self.engine.handle_input(self.now, Input::Received { conn, data });
        self.engine.end_turn(self.now);
        while let Some(output) = self.engine.poll_output() {
            match output {
                Output::Flush(conn) => self.write(conn),
                Output::Connect { conn, .. } => {
                    self.up = Some(conn);
                    let local = ([127, 0, 0, 1], 40_000).into();
                    self.engine
                        .handle_input(self.now, Input::Connected { conn, result: Ok(local) });
                    self.engine.end_turn(self.now);
                }
                other => panic!("nothing else happens here: {other:?}"),
            }
        }
    }

    fn write(&mut self, conn: ConnId) {
        let mut io = [&[][..]; 16];
        let slices = self.engine.write_bufs(conn, &mut io);
        let n = io[..slices].iter().map(|slice| slice.len()).sum();
        self.written += n;
        self.engine.handle_input(self.now, Input::Wrote { conn, n });
        self.engine.end_turn(self.now);
    }
}

fn main() {
    let args: Vec<String> = env::args().skip(1).collect();
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    let number = |text: &str| text.parse::<usize>().expect("a number");
    let (routes, policy, count) = match args[..] {
        [] => (0, false, 10),
        [count] => (0, false, number(count)),
        ["routes", routes, count] => (number(routes), false, number(count)),
        ["policy", count] => (1, true, number(count)),
        _ => panic!("[routes N | policy] COUNT"),
    };
    let route = |n: usize| {
        let path = if n + 1 == routes { "/api/v1".into() } else { format!("/api/v1/other/{n}") };
        let path = PathMatch::Prefix(path.into());
        let matches = Match { path, ..Match::default() };
        let mut route = Route { service: "web.example:80".into(), matches, ..Route::default() };
        if policy {
            route.retry = Some(policies::retry());
            route.timeouts = policies::timeouts();
        }
        route
    };
    let target = |last| Endpoint {
        target: Target::Addr(([10, 0, 0, last], 80).into()),
        weight: 1,
        mesh: None,
        zone: None,
    };
    let config = Config {
        listeners: vec![Listener {
            addr: ([127, 0, 0, 1], 4140).into(),
            kind: ListenerKind::Outbound,
        }],
        services: vec![Service {
            name: "web.example:80".into(),
            endpoints: vec![target(1)],
            breaker: policy.then(policies::breaker),
            ..Service::default()
        }],
        routes: (0..routes).map(route).collect::<Vec<_>>().into(),
        ..Config::default()
    };
    let engine = Engine::new(Arc::new(config), Seed::from_number(1), Time::ZERO);
    let block = BytesMut::new();
    let mut bench = Bench { engine, now: Time::ZERO, block, up: None, written: 0 };
    let accepted = Accepted {
        listener: 0,
        peer: ([127, 0, 0, 1], 50_000).into(),
        local: ([127, 0, 0, 1], 4140).into(),
        original_dst: None,
    };
    let down = bench.engine.accept(Time::ZERO, accepted).expect("room");
    let (request, response) = (messages::request(), messages::response());
    for _ in 0..count {
        bench.read(down, request.as_bytes());
        let up = bench.up.expect("connected");
        bench.read(up, response.as_bytes());
    }
    assert_eq!(bench.written, count * (request.len() + response.len()), "all of it was forwarded");
}
