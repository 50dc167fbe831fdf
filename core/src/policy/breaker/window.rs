//! Successes of the last so many seconds.

use crate::time::{Duration, Time};

/// Parts of a window that are counted apart (linkerd2-proxy: 10).
const PARTS: u64 = 10;

/// Counts answers, and the successes among them, by parts of a window that is over when its last part
/// is.
#[derive(Clone, Debug, Default)]
pub(super) struct Window {
    /// The number of the newest part.
    newest: u64,
    /// Successes and answers, by part number modulo their count.
    parts: [(u32, u32); PARTS as usize],
    /// The sum of them.
    sum: (u32, u32),
}

impl Window {
    /// Adds an answer; the successes and answers of the last `length`.
    pub(super) fn add(&mut self, length: Duration, succeeded: bool, now: Time) -> (u32, u32) {
        let part = (u64::try_from(length.as_nanos()).unwrap_or(u64::MAX) / PARTS).max(1);
        let number = now.as_nanos() / part;
        for passed in 0..number.saturating_sub(self.newest).min(PARTS) {
            let old = core::mem::take(&mut self.parts[((number - passed) % PARTS) as usize]);
            self.sum = (self.sum.0 - old.0, self.sum.1 - old.1);
        }
        self.newest = self.newest.max(number);
        let newest = &mut self.parts[(self.newest % PARTS) as usize];
        for counts in [newest, &mut self.sum] {
            counts.0 = counts.0.saturating_add(u32::from(succeeded));
            counts.1 = counts.1.saturating_add(1);
        }
        self.sum
    }
}
