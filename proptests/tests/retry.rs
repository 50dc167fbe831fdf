//! The budget of retries, against one that remembers everything.

use selvedge_core::rng::{Rng, Seed};
use selvedge_proptests::retry::budget;

#[test]
fn no_window_holds_more_retries_than_the_budget_and_few_less() {
    let mut rng = Rng::fork(Seed::from_number(11), 1);
    let mut counts = (0, 0);
    for _ in 0..150 {
        let bytes: Vec<u8> = (0..400).map(|_| rng.next_u64() as u8).collect();
        let (allowed, refused) = budget(&bytes);
        counts = (counts.0 + allowed, counts.1 + refused);
    }
    assert!(counts.0 > 1_000 && counts.1 > 1_000, "{counts:?}");
}
