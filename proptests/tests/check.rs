//! Health checks, against a model that remembers everything.

use selvedge_core::rng::{Rng, Seed};
use selvedge_proptests::check::{Counts, checks};

#[test]
fn an_endpoint_is_what_so_many_checks_in_a_row_say() {
    let mut rng = Rng::fork(Seed::from_number(13), 1);
    let mut counts = Counts::default();
    for _ in 0..2_000 {
        let bytes: Vec<u8> = (0..800).map(|_| rng.next_u64() as u8).collect();
        for (sum, count) in counts.iter_mut().zip(checks(&bytes)) {
            *sum += count;
        }
    }
    assert!(counts.iter().all(|&count| count > 1_000), "{counts:?}");
}
