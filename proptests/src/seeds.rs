//! Which seeds a test runs, and which of them it was that failed.

use std::env;
use std::ops::Range;

/// So many, or as many as `SELVEDGE_SEEDS` says, or only `SELVEDGE_SEED`.
///
/// # Panics
///
/// When either is no number.
pub fn wanted(usual: u64) -> Range<u64> {
    match number("SELVEDGE_SEED") {
        Some(seed) => seed..seed + 1,
        None => 0..number("SELVEDGE_SEEDS").unwrap_or(usual),
    }
}

fn number(name: &str) -> Option<u64> {
    let text = env::var(name).ok()?;
    Some(text.parse().unwrap_or_else(|error| panic!("{name}={text}: {error}")))
}

/// Says which seed it was, of which test, if that panics.
pub struct Running(pub u64, pub &'static str);

impl Drop for Running {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let Running(seed, test) = self;
            eprintln!(
                "seed {seed} failed; again: SELVEDGE_SEED={seed} cargo test -p selvedge-proptests --test {test}"
            );
        }
    }
}
