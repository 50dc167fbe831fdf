//! Gives memory back that a busy time has left behind.
//!
//! The C library keeps what is freed, for the next time: some MB after a burst, for as long as the
//! process lives. Its `malloc_trim` returns the pages that nothing lies on any more. It holds its
//! locks meanwhile, so that a worker which allocates waits: it is called when hardly anybody does.

use std::time::Duration;

use tokio::time::{MissedTickBehavior, interval};

use crate::admin::{Usage, usage};

/// How often is looked whether something is to be given back.
const INTERVAL: Duration = Duration::from_secs(10);
/// What is not worth it, in bytes.
const LITTLE: u64 = 1 << 20;
/// The part of the time that a process may work and still be quiet.
const QUIET: f64 = 0.05;
/// Looks until the next try, at most, when one after the other brings little: ten minutes.
const LONGEST_WAIT: u32 = 64;

/// Looks for as long as the process lives.
pub(crate) async fn give_back() {
    let mut ticks = interval(INTERVAL);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut looks = Looks::default();
    loop {
        ticks.tick().await;
        let Some(before) = usage() else { return };
        if looks.are_due(before) {
            trim();
            looks.gave_back(
                before.resident,
                usage().map_or(before.resident, |after| after.resident),
            );
        }
    }
}

#[cfg(target_env = "gnu")]
fn trim() {
    unsafe extern "C" {
        safe fn malloc_trim(pad: usize) -> core::ffi::c_int;
    }
    malloc_trim(0);
}

/// Others have no such call, and keep less.
#[cfg(not(target_env = "gnu"))]
fn trim() {}

/// What was seen so far.
#[derive(Debug)]
struct Looks {
    /// Processor time until the last look, in seconds.
    cpu_seconds: f64,
    /// The least memory that it ever had, in bytes.
    least: u64,
    /// Looks that are left out after the next try, and still from the last one.
    wait: u32,
    left_out: u32,
}

impl Default for Looks {
    fn default() -> Self {
        Looks { cpu_seconds: 0.0, least: u64::MAX, wait: 1, left_out: 0 }
    }
}

impl Looks {
    /// Whether it is quiet, and there may be something to give back.
    fn are_due(&mut self, usage: Usage) -> bool {
        let worked = usage.cpu_seconds - self.cpu_seconds;
        self.cpu_seconds = usage.cpu_seconds;
        self.least = self.least.min(usage.resident);
        self.left_out = self.left_out.saturating_sub(1);
        let quiet = worked < QUIET * INTERVAL.as_secs_f64();
        quiet && self.left_out == 0 && usage.resident > self.least + LITTLE
    }

    /// What a try has brought. Memory that is in use is no reason to try again soon.
    fn gave_back(&mut self, before: u64, after: u64) {
        let enough = before.saturating_sub(after) >= LITTLE / 4;
        self.wait = if enough { 1 } else { (2 * self.wait).min(LONGEST_WAIT) };
        self.left_out = self.wait;
    }
}

#[cfg(test)]
mod tests {
    use super::{LITTLE, LONGEST_WAIT, Looks, Usage};

    const BASE: u64 = 5 << 20;

    /// Looks, each with processor time since the last one and with memory; when it was due.
    fn due(looks: &mut Looks, at: &mut f64, worked: f64, resident: u64) -> bool {
        *at += worked;
        looks.are_due(Usage { cpu_seconds: *at, resident })
    }

    #[test]
    fn what_a_burst_left_is_given_back_when_it_is_quiet() {
        let (mut looks, mut at) = (Looks::default(), 0.0);
        assert!(!due(&mut looks, &mut at, 0.1, BASE), "nothing to give back");
        assert!(!due(&mut looks, &mut at, 8.0, 4 * BASE), "it is busy");
        assert!(due(&mut looks, &mut at, 0.1, 4 * BASE));
        looks.gave_back(4 * BASE, BASE + LITTLE);
        assert!(!due(&mut looks, &mut at, 0.1, BASE + LITTLE), "it is not much");
        assert!(due(&mut looks, &mut at, 0.1, 3 * BASE), "the next burst");
    }

    #[test]
    fn what_is_in_use_is_left_alone() {
        let (mut looks, mut at) = (Looks::default(), 0.0);
        assert!(!due(&mut looks, &mut at, 0.0, BASE));
        let mut tries = 0;
        for _ in 0..1_000 {
            if due(&mut looks, &mut at, 0.01, 10 * BASE) {
                tries += 1;
                looks.gave_back(10 * BASE, 10 * BASE);
            }
        }
        let most = LONGEST_WAIT.ilog2() + 1_000 / LONGEST_WAIT;
        assert!((10..=most).contains(&tries), "{tries} tries in {most}");
        // When it is no longer, that is seen in time.
        let tried = (0..LONGEST_WAIT).any(|_| due(&mut looks, &mut at, 0.01, 10 * BASE));
        assert!(tried, "within {LONGEST_WAIT} looks");
        looks.gave_back(10 * BASE, BASE);
        assert!(due(&mut looks, &mut at, 0.01, 10 * BASE), "and then at once again");
    }
}
