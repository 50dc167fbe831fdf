//! Published cases of what policies are for, in virtual time, by the core's own types: what becomes of
//! the same traffic with a policy and without.
//!
//! - [`storm`]: services that are slow for ten seconds, and retries that keep them from recovering
//!   (Bronson et al., "Metastable Failures in Distributed Systems", 2021).
//! - [`breaking`]: Linkerd's experiment of 2016 again, with the breaker.
//! - [`cold`]: an instance that is slow at first because it is new, as JIT compilers and empty caches
//!   make them (what slow start is for, in HAProxy, nginx and Envoy).
//!
//! Their tables, and the plots that README shows:
//! `cargo run --profile sim -p selvedge-proptests --bin cases`.

pub mod breaking;
pub mod cold;
mod server;
pub mod storm;

use selvedge_core::time::{Duration, Time};

use crate::experiment::Histogram;

/// What happened in a second.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Second {
    /// Requests of clients that began.
    pub requests: u64,
    /// What was sent to the service, retries included.
    pub attempts: u64,
    /// Of the requests that began, those that got no answer.
    pub failed: u64,
    /// How long the others took, and how long those were waited for.
    pub latencies: Histogram,
}

impl Second {
    fn merge(&mut self, other: &Second) {
        self.requests += other.requests;
        self.attempts += other.attempts;
        self.failed += other.failed;
        self.latencies.merge(&other.latencies);
    }

    /// Attempts per request.
    pub fn amplification(&self) -> f64 {
        self.attempts as f64 / self.requests.max(1) as f64
    }

    /// The share of the requests that got no answer.
    pub fn failures(&self) -> f64 {
        self.failed as f64 / self.requests.max(1) as f64
    }
}

/// All that happened in these seconds.
pub fn total(seconds: &[Second]) -> Second {
    let mut total = Second::default();
    for second in seconds {
        total.merge(second);
    }
    total
}

/// Seeds one after the other; the same seconds of all of them together.
fn merged(seeds: u64, run: impl Fn(u64) -> Vec<Second>) -> Vec<Second> {
    let mut all: Vec<Second> = Vec::new();
    for seed in 0..seeds {
        let seconds = run(seed);
        all.resize(seconds.len(), Second::default());
        for (sum, second) in all.iter_mut().zip(&seconds) {
            sum.merge(second);
        }
    }
    all
}

/// The number of the second that a time is in.
fn second(time: Time) -> usize {
    (time - Time::ZERO).as_secs() as usize
}

/// So many seconds from the beginning.
fn at(seconds: u64) -> Time {
    Time::ZERO + Duration::from_secs(seconds)
}
