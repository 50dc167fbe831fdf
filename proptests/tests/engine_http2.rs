//! Random scripts against the engine, over HTTP/2.
//!
//! `SELVEDGE_SEEDS=100000` runs more of them, `SELVEDGE_SEED=7` only that one.

use selvedge_proptests::seeds::{self, Running};
use selvedge_proptests::streams::{Outcome, run_seed};

#[test]
fn whatever_happens_on_streams_the_contract_holds() {
    let seeds = seeds::wanted(3000);
    let all = seeds.clone().count();
    let mut total = Outcome::default();
    for seed in seeds {
        let running = Running(seed, "engine_http2");
        let outcome = run_seed(seed).unwrap_or_else(|error| panic!("{error}"));
        if seed % 16 == 0 {
            assert_eq!(run_seed(seed), Ok(outcome), "the same choices, another trace");
        }
        total.add(&outcome);
        drop(running);
    }
    println!("{all} seeds: {total:?}");
    if all < 1000 {
        return;
    }
    // The scripts say something: everything that they are made of has happened, and often.
    let often = all as u64;
    assert!(total.requests > 4 * often, "{total:?}");
    assert!(total.answers > 2 * often, "{total:?}");
    assert!(total.refusals > often / 4, "{total:?}");
    assert!(total.resets > often / 2, "{total:?}");
    assert!(total.reloads > often / 2, "{total:?}");
    assert!(total.goaways > often / 50, "{total:?}");
    assert!(total.hostile > often / 50, "{total:?}");
    assert!(total.replays > often / 200, "{total:?}");
}
