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
    /// When that ends.
    until: Time,
    /// Its place among them.
    at: usize,
    /// Successes and answers, by part number modulo their count.
    parts: [(u32, u32); PARTS as usize],
    /// The sum of them.
    sum: (u32, u32),
}

impl Window {
    /// Adds a success to nothing but successes, if no part of the window has ended.
    #[inline]
    pub(super) fn goes_on_well(&mut self, now: Time) -> bool {
        let well = now < self.until && self.sum.0 == self.sum.1 && self.sum.1 < u32::MAX;
        if well {
            // A part is never more than the sum.
            for counts in [&mut self.parts[self.at], &mut self.sum] {
                *counts = (counts.0 + 1, counts.1 + 1);
            }
        }
        well
    }

    /// Adds an answer; the successes and answers of the last `length`, which is always the same.
    #[inline]
    pub(super) fn add(&mut self, length: Duration, succeeded: bool, now: Time) -> (u32, u32) {
        if now >= self.until {
            self.advance(length, now);
        }
        let newest = &mut self.parts[self.at];
        for counts in [newest, &mut self.sum] {
            counts.0 = counts.0.saturating_add(u32::from(succeeded));
            counts.1 = counts.1.saturating_add(1);
        }
        self.sum
    }

    /// Begins the part that `now` is in, and forgets those that a `length` has passed since.
    #[cold]
    fn advance(&mut self, length: Duration, now: Time) {
        let part = (u64::try_from(length.as_nanos()).unwrap_or(u64::MAX) / PARTS).max(1);
        let number = now.as_nanos() / part;
        for passed in 0..number.saturating_sub(self.newest).min(PARTS) {
            let old = core::mem::take(&mut self.parts[((number - passed) % PARTS) as usize]);
            self.sum = (self.sum.0 - old.0, self.sum.1 - old.1);
        }
        self.newest = self.newest.max(number);
        self.at = (self.newest % PARTS) as usize;
        self.until = Time::from_nanos((self.newest + 1).saturating_mul(part));
    }
}
