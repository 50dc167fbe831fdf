//! HTTP/1 exchanges through one engine, and through two on two threads at once: engines share nothing,
//! so two do twice as much.
//!
//! `cargo run --release -p selvedge-core --example two_engines [COUNT]`: the best of several rounds, by
//! the clock, and by the time that the threads had on a processor, which a busy machine spoils less.

// It measures time, which engines are given.
#![allow(clippy::disallowed_types, clippy::disallowed_methods)]

use std::sync::Barrier;
use std::time::Instant;
use std::{env, fs, thread};

use hop::{Hop, outbound, service};
use record::number;
use selvedge_core::config::Protocol;

#[path = "common/hop.rs"]
mod hop;
#[path = "common/messages.rs"]
mod messages;
#[path = "common/peer.rs"]
mod peer;
#[path = "common/record.rs"]
mod record;

const ROUNDS: usize = 7;

/// Nanoseconds that this thread was running.
fn on_processor() -> f64 {
    let stat = fs::read_to_string("/proc/thread-self/schedstat").expect("Linux says");
    stat.split_whitespace().next().and_then(|ns| ns.parse().ok()).expect("a number")
}

/// Seconds by the clock and on a processor that so many exchanges take, from when all are ready.
fn exchanges(count: usize, ready: &Barrier) -> [f64; 2] {
    let mut hop = Hop::new(outbound(vec![service("web.example:80", Protocol::Http1, 1)]));
    let client = hop.accept(0);
    let (request, response) = (messages::request(), messages::response());
    let mut exchange = || {
        hop.read(client, request.as_bytes());
        let up = hop.last.filter(|&last| last != client).expect("it was forwarded");
        hop.read(up, response.as_bytes());
    };
    (0..1000).for_each(|_| exchange());
    ready.wait();
    let (start, before) = (Instant::now(), on_processor());
    (0..count).for_each(|_| exchange());
    [start.elapsed().as_secs_f64(), (on_processor() - before) / 1e9]
}

/// Exchanges a second of so many engines together, by the clock and by processors.
fn throughput(engines: usize, count: usize) -> [f64; 2] {
    let ready = Barrier::new(engines);
    let taken: Vec<[f64; 2]> = thread::scope(|scope| {
        let threads: Vec<_> =
            (0..engines).map(|_| scope.spawn(|| exchanges(count, &ready))).collect();
        threads.into_iter().map(|thread| thread.join().expect("no panic")).collect()
    });
    [0, 1].map(|by| taken.iter().map(|seconds| count as f64 / seconds[by]).sum())
}

fn main() {
    let count = env::args().nth(1).map_or(200_000, |count| number(&count));
    let mut best = [[0_f64; 2]; 2];
    for _ in 0..ROUNDS {
        for (engines, best) in best.iter_mut().enumerate() {
            let found = throughput(engines + 1, count);
            for (best, found) in best.iter_mut().zip(found) {
                *best = best.max(found);
            }
        }
    }
    let [one, two] = best;
    for (by, what) in ["by the clock", "by processor time"].into_iter().enumerate() {
        let times = two[by] / one[by];
        println!(
            "{what}: one engine {:.0} exchanges a second, two {:.0}: {times:.2} times as many",
            one[by], two[by]
        );
    }
}
