//! Messages over chains of hops that speak HTTP/1 and HTTP/2, and what hostile peers make of them.
//!
//! `SELVEDGE_SEEDS=1000000` tries more of them, `SELVEDGE_SEED=7` only that one.

use selvedge_proptests::choose::Seeded;
use selvedge_proptests::seeds::{self, Running};
use selvedge_proptests::translate::{Fate, honest, hostile};

/// How many of each there are, if nobody says.
const USUAL: u64 = 10_000;

#[test]
fn a_message_comes_out_of_any_chain_as_it_went_in() {
    for seed in seeds::wanted(USUAL) {
        let _running = Running(seed, "translate");
        honest(&mut Seeded::new(seed));
    }
}

#[test]
fn nothing_of_http2_becomes_a_second_message_of_http1() {
    let seeds = seeds::wanted(USUAL);
    let all = seeds.end - seeds.start;
    let (mut passed, mut refused) = (0, 0);
    for seed in seeds {
        let _running = Running(seed, "translate");
        match hostile(&mut Seeded::new(seed)) {
            Fate::Passed => passed += 1,
            Fate::Refused => refused += 1,
        }
    }
    println!("{passed} passed, {refused} refused");
    if all < 100 {
        return;
    }
    assert!(passed > all / 20 && refused > all / 4, "{passed} passed, {refused} refused");
}
