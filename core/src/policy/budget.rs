//! The budget of retries: what keeps them from turning a bad minute into an outage.

use crate::time::{Duration, Time};

/// How many retries a service bears. In any `window`: at most `ratio` × first attempts +
/// `min_per_second` × the window in seconds. The whole floor may be spent at once.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct BudgetConfig {
    /// Retries per first attempt.
    pub ratio: f64,
    /// Retries a second that are allowed whatever the traffic: without them a quiet service could
    /// never retry.
    pub min_per_second: f64,
    /// What both are counted over.
    pub window: Duration,
}

impl Default for BudgetConfig {
    fn default() -> Self {
        // Finagle's and Linkerd's.
        let window = Duration::from_secs(10);
        BudgetConfig { ratio: 0.2, min_per_second: 10.0, window }
    }
}

/// Parts of a window that are counted apart.
const PARTS: usize = 20;

/// Numbers are counted in millionths, so that every machine counts the same.
const WHOLE: f64 = 1_000_000.0;

/// Counts first attempts and retries.
///
/// A window may begin anywhere in a part. So of the part that it begins in all retries count, and no
/// first attempt: the bound holds for every window, and is missed by a part at most.
#[derive(Clone, Debug)]
pub struct Budget {
    ratio: u64,
    floor: u64,
    /// Of one part, in nanoseconds.
    part: u64,
    /// The number of the newest part.
    newest: u64,
    /// When that ends.
    until: Time,
    /// Its place among them.
    at: usize,
    /// First attempts and retries, by part number modulo their count.
    parts: [(u32, u32); PARTS + 1],
}

impl Budget {
    /// An unspent budget, of one of so many workers that share it.
    pub fn new(config: &BudgetConfig, workers: u32) -> Self {
        let floor = config.min_per_second * config.window.as_secs_f64() / f64::from(workers.max(1));
        let part = u64::try_from(config.window.as_nanos()).unwrap_or(u64::MAX) / PARTS as u64;
        Budget {
            ratio: libm::floor(config.ratio * WHOLE) as u64,
            floor: libm::floor(floor * WHOLE) as u64,
            part: part.max(1),
            newest: 0,
            until: Time::from_nanos(part.max(1)),
            at: 0,
            parts: [(0, 0); PARTS + 1],
        }
    }

    /// A request is sent for the first time.
    pub fn attempt(&mut self, now: Time) {
        let count = &mut self.at(now).0;
        *count = count.saturating_add(1);
    }

    /// A request is sent again, whether the budget allows it or not.
    pub fn charge(&mut self, now: Time) {
        let count = &mut self.at(now).1;
        *count = count.saturating_add(1);
    }

    /// Allows one more retry, and charges it, if there is something left.
    pub fn spend(&mut self, now: Time) -> bool {
        self.at(now);
        let (mut firsts, mut retries) = (0, 1_u64);
        for back in 0..=PARTS as u64 {
            let Some(number) = self.newest.checked_sub(back) else { break };
            let (first, retry) = self.parts[number as usize % (PARTS + 1)];
            retries += u64::from(retry);
            if retries * WHOLE as u64 > self.ratio.saturating_mul(firsts).saturating_add(self.floor)
            {
                return false;
            }
            firsts += u64::from(first);
        }
        self.charge(now);
        true
    }

    /// The counts of the part that `now` is in. Those that are older than a window are forgotten.
    fn at(&mut self, now: Time) -> &mut (u32, u32) {
        if now >= self.until {
            self.advance(now);
        }
        &mut self.parts[self.at]
    }

    /// Begins the part that `now` is in, which is after the newest one.
    #[cold]
    fn advance(&mut self, now: Time) {
        let number = now.as_nanos() / self.part;
        let passed = (number - self.newest).min(PARTS as u64 + 1);
        for back in 0..passed {
            self.parts[(number - back) as usize % (PARTS + 1)] = (0, 0);
        }
        self.newest = number;
        self.at = number as usize % (PARTS + 1);
        self.until = Time::from_nanos((number + 1).saturating_mul(self.part));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spent(budget: &mut Budget, now: Time) -> usize {
        (0..10_000).take_while(|_| budget.spend(now)).count()
    }

    fn at(millis: u64) -> Time {
        Time::ZERO + Duration::from_millis(millis)
    }

    #[test]
    fn the_floor_may_be_spent_at_once_and_is_back_after_a_window() {
        let mut budget = Budget::new(&BudgetConfig::default(), 1);
        assert_eq!(spent(&mut budget, at(0)), 100);
        assert_eq!(spent(&mut budget, at(9_999)), 0);
        assert_eq!(spent(&mut budget, at(10_500)), 100);
        assert_eq!(spent(&mut budget, at(1_000_000)), 100);
    }

    #[test]
    fn traffic_allows_its_part_for_a_window() {
        let mut budget = Budget::new(&BudgetConfig::default(), 1);
        for _ in 0..1_000 {
            budget.attempt(at(0));
        }
        assert_eq!(spent(&mut budget, at(0)), 100, "a window may begin after them");
        assert_eq!(spent(&mut budget, at(600)), 0, "as may one that begins now");
        let mut budget = Budget::new(&BudgetConfig::default(), 1);
        let mut retries = 0;
        for milli in 0..60_000 {
            budget.attempt(at(milli));
            retries += usize::from(budget.spend(at(milli)));
        }
        assert!((12_000..=12_700).contains(&retries), "{retries}");
    }

    #[test]
    fn workers_share_the_floor() {
        let mut budget = Budget::new(&BudgetConfig::default(), 4);
        assert_eq!(spent(&mut budget, at(0)), 25);
        let none = BudgetConfig { ratio: 0.0, min_per_second: 0.0, ..BudgetConfig::default() };
        assert_eq!(spent(&mut Budget::new(&none, 1), at(0)), 0);
    }
}
