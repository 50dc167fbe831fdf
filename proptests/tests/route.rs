//! Which route is taken, against a model that looks at every one.

use selvedge_core::rng::{Rng, Seed};
use selvedge_proptests::route::matches;

#[test]
fn the_table_finds_what_looking_at_every_route_finds() {
    let mut rng = Rng::fork(Seed::from_number(7), 1);
    let mut found = 0;
    for _ in 0..3000 {
        let bytes: Vec<u8> = (0..600).map(|_| rng.next_u64() as u8).collect();
        found += matches(&bytes);
    }
    assert!(found > 9_000, "{found}");
}
