//! With a mirror and without, clients and their app see the same.
//!
//! `SELVEDGE_SEEDS=100000` plays more of it, `SELVEDGE_SEED=7` only that one.

use selvedge_core::stats::Decision;
use selvedge_proptests::choose::Seeded;
use selvedge_proptests::mirror::{Outcome, run};
use selvedge_proptests::seeds::{self, Running};

#[test]
fn nobody_notices_a_mirror() {
    let seeds = seeds::wanted(1_500);
    let all = seeds.clone().count();
    let mut total = Outcome::default();
    for seed in seeds {
        let _running = Running(seed, "mirror");
        let (mut choose, mut moods) = (Seeded::new(2 * seed), Seeded::new(2 * seed + 1));
        let outcome = run(&mut choose, &mut moods, seed).unwrap_or_else(|error| panic!("{error}"));
        total.add(&outcome);
    }
    println!("{all} seeds: {total:?}");
    if all < 1_000 {
        return;
    }
    // Everything that can become of a copy has, and often.
    assert!(total.copies[0] > total.requests / 4 && total.copies[1] > total.requests / 50);
    let happened = |decision: Decision| total.decisions[decision as usize];
    for decision in [
        Decision::Mirrored,
        Decision::MirrorUnready,
        Decision::MirrorCap,
        Decision::MirrorBehind,
        Decision::MirrorCancelled,
        Decision::MirrorTimeout,
        Decision::MirrorFailed,
    ] {
        assert!(happened(decision) > all as u64 / 100, "{decision:?}: {total:?}");
    }
}
