//! A client and a server of ours, with a link between them that cuts, reshapes and delays.
//!
//! `SELVEDGE_SEEDS=100000` runs more seeds, `SELVEDGE_SEED=7` only that one.

use proptest::collection::vec;
use proptest::prelude::*;
use selvedge_proptests::choose::{Bytes, Seeded};
use selvedge_proptests::h2::pair::{Tally, run};
use selvedge_proptests::seeds::{self, Running};

/// More than any script of bytes below has.
const STEPS: usize = 400;

#[test]
fn what_is_sent_arrives_and_no_credit_is_lost() {
    let seeds = seeds::wanted(600);
    let all = seeds.clone().count() as u64;
    let mut total = Tally::default();
    for seed in seeds {
        let _running = Running(seed, "http2_pair");
        let tally = run(&mut Seeded::new(seed), STEPS).unwrap_or_else(|error| panic!("{error}"));
        if seed % 16 == 0 {
            assert_eq!(run(&mut Seeded::new(seed), STEPS), Ok(tally), "another trace");
        }
        total.add(&tally);
    }
    println!("{all} seeds: {total:?}");
    if all < 100 {
        return;
    }
    // Everything that a script is made of happened, and often.
    assert!(total.requests > 10 * all, "{total:?}");
    assert!(total.complete > 4 * all, "{total:?}");
    assert!(total.resets > all, "{total:?}");
    assert!(total.bytes > 50_000 * all, "{total:?}");
    assert!(total.trailers > all, "{total:?}");
    assert!(total.settings > 2 * all, "{total:?}");
    assert!(total.farewells > all / 10, "{total:?}");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, max_shrink_iters: 5000, failure_persistence: None, ..ProptestConfig::default() })]

    /// The same with choices that shrink.
    #[test]
    fn whatever_is_chosen_it_arrives(choices in vec(any::<u8>(), 0..600)) {
        run(&mut Bytes::new(&choices), STEPS).map_err(TestCaseError::fail)?;
    }
}
