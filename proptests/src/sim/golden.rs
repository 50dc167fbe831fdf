//! Hashes of some runs, to compare with those of other builds and machines.

use std::io;
use std::path::Path;

use super::run_seed;

/// How many seeds have their hash kept.
pub const GOLDEN: u64 = 20;

/// What the hashes of the first seeds are, one line each.
pub fn golden_hashes() -> String {
    let line = |seed| format!("{seed} {:016x}\n", run_seed(seed).report.hash);
    (0..GOLDEN).map(line).collect()
}

/// What they were when [`write_golden`] was last asked.
pub fn kept_hashes() -> &'static str {
    include_str!("../../tests/sim.golden")
}

/// Keeps the hashes as they are now, after a change that was meant to change them.
///
/// # Errors
/// If the file cannot be written.
pub fn write_golden() -> io::Result<()> {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/sim.golden");
    std::fs::write(file, golden_hashes())
}
