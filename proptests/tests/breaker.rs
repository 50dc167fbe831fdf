//! The breaker, against one that remembers everything.

use selvedge_core::rng::{Rng, Seed};
use selvedge_proptests::breaker::{Counts, breaker};

#[test]
fn a_breaker_does_what_its_description_says() {
    let mut rng = Rng::fork(Seed::from_number(12), 1);
    let mut counts = Counts::default();
    for _ in 0..2_000 {
        let bytes: Vec<u8> = (0..1_000).map(|_| rng.next_u64() as u8).collect();
        for (sum, count) in counts.iter_mut().zip(breaker(&bytes)) {
            *sum += count;
        }
    }
    assert!(counts.iter().all(|&count| count > 1_000), "{counts:?}");
}
