//! Adaptive concurrency: how many requests may be in flight, found out from how long they take.
//!
//! Beyond the knee of a server more requests at once are not served sooner, they wait. So the limit
//! follows the gradient, the latency of an idle server over that of now, as in Envoy's adaptive
//! concurrency filter and Netflix's concurrency-limits.

use alloc::vec::Vec;

use crate::time::{Duration, Time};

/// The bounds of an adaptive limit, of all workers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Adaptive {
    /// It is never less. Also what is let through while the latency without a load is measured.
    pub min: u32,
    /// It is never more.
    pub max: u32,
}

impl Default for Adaptive {
    fn default() -> Self {
        // Envoy's.
        Adaptive { min: 3, max: 1000 }
    }
}

/// How often the limit is looked at.
const WINDOW: Duration = Duration::from_millis(100);
/// Fewer samples say nothing: a window goes on until it has them.
const FEWEST: usize = 5;
/// More are not kept.
const MOST: usize = 256;
/// How often the latency without a load is measured, by letting only [`Adaptive::min`] through. A
/// server may have become slower or faster for good.
const MEASURE_EVERY: Duration = Duration::from_mins(1);
/// Samples that such a measurement takes …
const MEASURED_BY: usize = 25;
/// … or how long, at most.
const MEASURED_FOR: Duration = Duration::from_secs(2);

/// A limit that adapts.
#[derive(Clone, Debug)]
pub struct Gradient {
    min: f64,
    max: f64,
    limit: f64,
    /// The latency without a load, in nanoseconds.
    base: Option<f64>,
    /// Nanoseconds, of this window.
    samples: Vec<u64>,
    began: Time,
    /// The latency without a load is being measured.
    measuring: bool,
    /// When it is next.
    measures_at: Time,
    /// The most in flight in this window.
    used: u32,
}

impl Gradient {
    /// A limit that knows nothing yet, of one of so many workers.
    pub fn new(config: &Adaptive, workers: u32, now: Time) -> Self {
        let share = |all: u32| f64::from(all.div_ceil(workers.max(1)));
        let (min, max) = (share(config.min), share(config.max.max(config.min)));
        let samples = Vec::new();
        let (began, measures_at) = (now, now);
        let (base, used) = (None, 0);
        Gradient { min, max, limit: min, base, samples, began, measuring: true, measures_at, used }
    }

    /// How many requests may be in flight now.
    pub fn limit(&self) -> u32 {
        if self.measuring { self.min as u32 } else { self.limit as u32 }
    }

    /// A request took so long, and so many were in flight beside it.
    pub fn sample(&mut self, took: Duration, in_flight: u32, now: Time) {
        self.used = self.used.max(in_flight);
        let passed = now.saturating_since(self.began);
        // Those that came before the measurement waited for each other.
        let loaded = self.measuring && f64::from(in_flight) > self.min;
        if loaded && passed < MEASURED_FOR {
            return;
        }
        if self.samples.len() < MOST {
            self.samples.push(u64::try_from(took.as_nanos()).unwrap_or(u64::MAX).max(1));
        }
        if self.measuring {
            let enough = self.samples.len() >= MEASURED_BY || passed >= MEASURED_FOR;
            if enough && self.samples.len() >= FEWEST {
                self.base = Some(self.median());
                self.measuring = false;
                self.measures_at = now + MEASURE_EVERY;
                self.next_window(now);
            }
            return;
        }
        if passed < WINDOW || self.samples.len() < FEWEST {
            return;
        }
        self.adapt();
        if now >= self.measures_at {
            self.measuring = true;
        }
        self.next_window(now);
    }

    fn adapt(&mut self) {
        let base = self.base.unwrap_or(1.0);
        let latency = self.median();
        // A quarter more is noise. Down fast, up slowly.
        let gradient = (base * 1.25 / latency).clamp(0.5, 1.1);
        let room = libm::sqrt(self.limit);
        let wanted = (self.limit * gradient + room)
            .clamp(self.min, if canary!(WideLimit) { 2.0 * self.max } else { self.max });
        // What is not used is no proof that there could be more.
        if wanted < self.limit || f64::from(self.used) * 2.0 >= self.limit {
            self.limit = wanted;
        }
        // It is faster than when it was measured.
        self.base = Some(base.min(latency));
    }

    fn median(&mut self) -> f64 {
        let middle = self.samples.len() / 2;
        *self.samples.select_nth_unstable(middle).1 as f64
    }

    fn next_window(&mut self, now: Time) {
        self.samples.clear();
        self.began = now;
        self.used = 0;
    }
}
