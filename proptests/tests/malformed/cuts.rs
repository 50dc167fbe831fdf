//! The ways in which a message arrives.

use std::collections::BTreeSet;
use std::env;

/// One of them.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Cut {
    /// In one piece (or as many as an adapter reads).
    Whole,
    /// In two, the first of so many bytes.
    At(usize),
    /// Byte by byte.
    Bytes,
}

/// Up to this length a message is cut at every byte; with `SELVEDGE_FULL` set, of any length.
fn all() -> usize {
    if env::var_os("SELVEDGE_FULL").is_some() { usize::MAX } else { 2048 }
}

/// The cuts of a message: whole, byte by byte, and in two at every byte. Of one that is longer than
/// [`all`]: at every byte of its first and last 64, up to two bytes around each of the first and
/// last 32 line ends, 64 bytes around the limits on targets and heads, and every 4,099 bytes.
pub(crate) fn of(bytes: &[u8]) -> Vec<Cut> {
    let mut cuts = vec![Cut::Whole, Cut::Bytes];
    if bytes.len() <= all() {
        cuts.extend((1..bytes.len()).map(Cut::At));
        return cuts;
    }
    let mut places: BTreeSet<usize> = (1..bytes.len()).step_by(4099).collect();
    for edge in [0, TARGET, HEAD, bytes.len()] {
        places.extend(edge.saturating_sub(EDGE)..=edge + EDGE);
    }
    let ends = (0..bytes.len()).filter(|&at| bytes[at] == b'\n');
    let ends: Vec<usize> = ends.collect();
    for &end in ends.iter().take(LINES).chain(ends.iter().rev().take(LINES)) {
        places.extend(end.saturating_sub(2)..=end + 2);
    }
    places.retain(|&at| 0 < at && at < bytes.len());
    cuts.extend(places.into_iter().map(Cut::At));
    cuts
}

const EDGE: usize = 64;
const LINES: usize = 32;
/// The limit on targets: which side of it a piece ends on must not matter.
const TARGET: usize = 32 * 1024;
/// The limit on heads and on trailer sections.
const HEAD: usize = 64 * 1024;

/// The pieces of a message that arrives this way.
pub(crate) fn pieces<'a>(bytes: &'a [u8], cut: &Cut) -> Vec<&'a [u8]> {
    match *cut {
        Cut::Whole => vec![bytes],
        Cut::At(at) => vec![&bytes[..at], &bytes[at..]],
        Cut::Bytes => bytes.chunks(1).collect(),
    }
}
