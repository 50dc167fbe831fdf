//! Messages over chains of hops that speak HTTP/1 and HTTP/2, and what hostile peers make of them.
//!
//! `SELVEDGE_SEEDS=1000000` tries more of them.

use std::env;

use selvedge_proptests::choose::Seeded;
use selvedge_proptests::translate::{Fate, honest, hostile};

fn seeds() -> u64 {
    env::var("SELVEDGE_SEEDS").map_or(10_000, |seeds| seeds.parse().expect("a number"))
}

/// Says which seed it was, if that panics.
struct Running(u64);

impl Drop for Running {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("seed {} failed", self.0);
        }
    }
}

#[test]
fn a_message_comes_out_of_any_chain_as_it_went_in() {
    for seed in 0..seeds() {
        let running = Running(seed);
        honest(&mut Seeded::new(seed));
        drop(running);
    }
}

#[test]
fn nothing_of_http2_becomes_a_second_message_of_http1() {
    let (mut passed, mut refused) = (0, 0);
    for seed in 0..seeds() {
        let running = Running(seed);
        match hostile(&mut Seeded::new(seed)) {
            Fate::Passed => passed += 1,
            Fate::Refused => refused += 1,
        }
        drop(running);
    }
    println!("{passed} passed, {refused} refused");
    assert!(passed > seeds() / 20 && refused > seeds() / 4, "{passed} passed, {refused} refused");
}
