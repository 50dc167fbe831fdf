//! The budget of retries against one that remembers every request, and waits within their bounds.

use std::time::Duration;

use selvedge_core::policy::budget::{Budget, BudgetConfig};
use selvedge_core::policy::retry::Retry;
use selvedge_core::rng::{Rng, Seed};
use selvedge_core::time::Time;

use crate::choose::{Bytes, Choose, pick};

/// What happens to a budget in one run.
const EVENTS: usize = 150;

/// Every request: when, how many for the first time, how many again.
struct Memory {
    events: Vec<(Time, usize, usize)>,
    config: BudgetConfig,
    workers: u32,
}

impl Memory {
    /// What may be retried, beside `firsts` first attempts, in millionths.
    fn bound(&self, firsts: usize) -> u64 {
        let BudgetConfig { ratio, min_per_second, window } = self.config;
        let floor = min_per_second * window.as_secs_f64() / f64::from(self.workers);
        (ratio * 1e6).floor() as u64 * firsts as u64 + (floor * 1e6).floor() as u64
    }

    /// How many there were from `from` on, before `to`: first attempts, retries.
    fn within(&self, from: Time, to: Time) -> (usize, usize) {
        let inside = self.events.iter().filter(|(at, ..)| (from..to).contains(at));
        inside.fold((0, 0), |sum, (_, firsts, retries)| (sum.0 + firsts, sum.1 + retries))
    }

    /// No window holds more retries than it may.
    fn check(&self) {
        for &(from, ..) in &self.events {
            let (firsts, retries) = self.within(from, from + self.config.window);
            let most = self.bound(firsts);
            assert!(
                retries as u64 * 1_000_000 <= most,
                "{retries} retries and {firsts} first attempts from {from:?} on, {:?}",
                self.config
            );
        }
    }

    /// One more retry would be too much, or would be if times were a twentieth of a window off.
    fn is_spent(&self, now: Time) -> bool {
        let part = self.config.window / 20 + Duration::from_nanos(20);
        let end = now + Duration::from_nanos(1);
        self.events.iter().map(|&(at, ..)| at).chain([now]).any(|from| {
            let (firsts, _) = self.within(from + part, end);
            let earlier = Time::ZERO + (from - Time::ZERO).saturating_sub(part);
            let (_, retries) = self.within(earlier, end);
            (retries as u64 + 1) * 1_000_000 > self.bound(firsts)
        })
    }
}

/// First attempts and retries at any times: what the budget allows stays within its bound in every
/// window, and it refuses only what is close to that. And waits double within their bounds.
///
/// # Panics
/// If something does not hold.
pub fn retry_policy(data: &[u8]) {
    budget(data);
}

/// The same; how many retries were allowed, and how many refused.
///
/// # Panics
/// If something does not hold.
pub fn budget(data: &[u8]) -> (usize, usize) {
    let mut bytes = Bytes::new(data);
    let choose: &mut dyn Choose = &mut bytes;
    waits(choose);
    let config = BudgetConfig {
        ratio: pick(choose, &[0.2, 0.0, 0.01, 1.0, 3.5]),
        min_per_second: pick(choose, &[1.0, 0.0, 0.1, 10.0]),
        window: Duration::from_millis(pick(choose, &[10_000, 1_000, 1_003, 60_000])),
    };
    let workers = pick(choose, &[1, 2, 7]);
    let mut budget = Budget::new(&config, workers);
    let mut memory = Memory { events: Vec::new(), config, workers };
    let (mut now, mut allowed, mut refused) = (Time::ZERO, 0, 0);
    for _ in 0..EVENTS {
        if choose.is_exhausted() {
            break;
        }
        let step = pick(choose, &[0, 1, 10, 100, 1_000, 20_000]);
        now += Duration::from_millis(step) * choose.below(5) as u32;
        if choose.below(3) == 0 {
            let firsts = 1 + choose.below(20);
            for _ in 0..firsts {
                budget.attempt(now);
            }
            memory.events.push((now, firsts, 0));
        } else if budget.spend(now) {
            memory.events.push((now, 0, 1));
            allowed += 1;
        } else {
            assert!(memory.is_spent(now), "refused at {now:?}, {config:?}");
            refused += 1;
        }
    }
    memory.check();
    (allowed, refused)
}

fn waits(choose: &mut dyn Choose) {
    let [min, more] = [choose.below(256) as u64, choose.below(4096) as u64];
    let retry = Retry {
        backoff_min: Duration::from_millis(min),
        backoff_max: Duration::from_millis(min + more),
        ..Retry::default()
    };
    let mut rng = Rng::fork(Seed::from_number(choose.below(256) as u64), 1);
    for nth in 1..40 {
        let most = (u128::from(min) << nth.min(30) >> 1).min(u128::from(min + more));
        let wait = retry.wait(nth, &mut rng);
        assert!(wait.as_nanos() <= most * 1_000_000, "{nth}: {wait:?} of {most} ms");
    }
}
