//! A peak-sensitive, exponentially weighted moving average of round trips.

use crate::time::{Duration, Time};

/// An estimate at a point in time. Between samples it decays towards zero, as `value × exp(-t/τ)`;
/// reading computes that and changes nothing, so how often it is read does not matter.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ewma {
    /// Seconds, at `stamp`. Finite and not negative.
    value: f64,
    stamp: Time,
}

impl Ewma {
    pub(super) fn new(value: Duration, now: Time) -> Self {
        Ewma { value: value.as_secs_f64(), stamp: now }
    }

    /// Seconds. `now` before the last sample reads as the time of that sample.
    pub(super) fn get(&self, now: Time, decay: Decay) -> f64 {
        self.value * decay.keep(self.age(now))
    }

    /// Nanoseconds since the last sample.
    fn age(&self, now: Time) -> u64 {
        now.as_nanos().saturating_sub(self.stamp.as_nanos())
    }

    /// A sample above the estimate replaces it at once: a peak is believed. One below pulls it down
    /// by as much as time has passed, so that a burst of fast answers does not hide a slow one.
    pub(super) fn sample(&mut self, rtt: Duration, now: Time, decay: Decay) {
        let rtt = rtt.as_secs_f64();
        let keep = decay.keep(self.age(now));
        let current = self.value * keep;
        self.value = if rtt > current { rtt } else { current + rtt * (1.0 - keep) };
        self.stamp = self.stamp.max(now);
    }

    /// A sample that can only raise the estimate.
    pub(super) fn raise(&mut self, rtt: Duration, now: Time, decay: Decay) {
        if rtt.as_secs_f64() > self.get(now, decay) {
            self.sample(rtt, now, decay);
        }
    }
}

/// The time constant τ.
#[derive(Clone, Copy, Debug)]
pub(super) struct Decay {
    /// -1/τ, in 1/ns.
    rate: f64,
}

impl Decay {
    /// Zero counts as a nanosecond.
    pub(super) fn new(tau: Duration) -> Self {
        Decay { rate: -1.0 / tau.max(Duration::from_nanos(1)).as_nanos() as f64 }
    }

    /// What part of an estimate is left after so many nanoseconds: in `0..=1`. From libm, so that every
    /// machine computes the same.
    fn keep(self, elapsed: u64) -> f64 {
        libm::exp(elapsed as f64 * self.rate)
    }
}
