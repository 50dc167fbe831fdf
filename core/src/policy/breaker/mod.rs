//! Failure accrual: whether an endpoint that fails is still asked.
//!
//! ```text
//!            a trip                   the backoff is over            a request is sent
//!  serving ─────────▶ shut ──────────────────────────────▶ unprobed ─────────────────▶ probing
//!     ▲                ▲                                       ▲  the probe says nothing │ │
//!     │                │                                       └────────────────────────┘ │
//!     │                └──────────────── it fails, or takes too long ─────────────────────┤
//!     └───────────── it succeeds, or has begun to and goes on for long ───────────────────┘
//! ```
//!
//! A trip is so many failures in a row, or too low a share of successes in a window; linkerd2-proxy
//! calls both together its unified breaker, and this behaves the same. How many endpoints may be shut
//! at once is not decided here: see [`BreakerConfig::floor`].

mod window;

#[cfg(test)]
mod tests;

use alloc::boxed::Box;
use alloc::vec::Vec;
use core::fmt;

use crate::time::{Duration, Time};
use window::Window;

/// When an endpoint is no longer asked, and when again.
#[derive(Clone, Debug, PartialEq)]
pub struct BreakerConfig {
    /// So many failures in a row are a trip; 0: they never are.
    pub consecutive: u32,
    /// Too few successes are a trip.
    pub success_rate: Option<SuccessRate>,
    /// How long an endpoint is shut at first, and half as much again at most; twice as long each time
    /// that a probe fails …
    pub backoff_min: Duration,
    /// … but never longer than this, jitter and what the endpoint asks for included.
    pub backoff_max: Duration,
    /// The share of a service's endpoints that may be ejected, from 0 to 1.
    pub max_ejected: f64,
    /// gRPC statuses that are failures.
    pub grpc: Vec<u8>,
}

/// The share of successes that an endpoint has to have.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct SuccessRate {
    /// From 0 to 1. Below it the endpoint trips.
    pub min: f64,
    /// What is counted over.
    pub window: Duration,
    /// With fewer answers in the window it does not trip.
    pub min_requests: u32,
}

impl Default for BreakerConfig {
    fn default() -> Self {
        BreakerConfig {
            // Linkerd's: failure-accrual-consecutive-max-failures, -min-penalty, -max-penalty.
            consecutive: 7,
            success_rate: None,
            backoff_min: Duration::from_secs(1),
            backoff_max: Duration::from_mins(1),
            max_ejected: 0.5,
            // UNKNOWN, DEADLINE_EXCEEDED, INTERNAL, UNAVAILABLE, DATA_LOSS.
            grpc: [2, 4, 13, 14, 15].into(),
        }
    }
}

impl Default for SuccessRate {
    fn default() -> Self {
        SuccessRate { min: 0.8, window: Duration::from_secs(10), min_requests: 20 }
    }
}

impl BreakerConfig {
    /// How many of so many endpoints may be ejected at once. A single endpoint never is.
    pub fn floor(&self, endpoints: u32) -> u32 {
        if endpoints <= 1 {
            return 0;
        }
        libm::floor(self.max_ejected * f64::from(endpoints)) as u32
    }

    /// The same for one of so many workers that share the traffic: what is counted over a window is
    /// divided by them, and a row of failures is as long as it was.
    #[must_use]
    pub fn share(mut self, workers: u32) -> Self {
        if let Some(rate) = &mut self.success_rate {
            rate.min_requests = rate.min_requests.div_ceil(workers.max(1));
        }
        self
    }

    /// What an answer says about its endpoint. `grpc`: its status, if it is gRPC's.
    #[inline]
    pub fn verdict(&self, status: u16, grpc: Option<u8>) -> Verdict {
        /// RESOURCE_EXHAUSTED.
        const EXHAUSTED: u8 = 8;
        match (status, grpc) {
            (_, Some(code)) if self.grpc.contains(&code) => Verdict::Failure,
            (_, Some(EXHAUSTED)) | (429, None) => Verdict::Throttled,
            (500.., None) => Verdict::Failure,
            _ => Verdict::Success,
        }
    }

    /// How long the endpoint is shut for the `nth` time, from 1. `unit`: a random number from 0 to 1.
    fn backoff(&self, nth: u32, unit: f64) -> Duration {
        let doublings = nth.saturating_sub(1).min(30);
        let base = self.backoff_min.saturating_mul(1 << doublings).min(self.backoff_max);
        // Linkerd's jitter ratio is a half. At the most it goes the other way: proxies that shut an
        // endpoint together do not all come back together.
        let most = base.saturating_add(base / 2).min(self.backoff_max);
        most.mul_f64(1.0 - unit / 3.0)
    }
}

/// What an answer, or that there is none, says about an endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It does what it should.
    Success,
    /// It does, but wants to be asked less: counts to the rate of failures, but is none in a row.
    Throttled,
    /// It fails.
    Failure,
}

/// Why an endpoint is ejected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trip {
    /// So many failures in a row.
    Consecutive(u32),
    /// So many successes …
    SuccessRate {
        /// … of them …
        succeeded: u32,
        /// … in a window.
        total: u32,
    },
    /// It was asked again, and failed again.
    Probe,
}

impl fmt::Display for Trip {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Trip::Consecutive(failures) => write!(f, "{failures} failures in a row"),
            Trip::SuccessRate { succeeded, total } => write!(f, "{succeeded} successes of {total}"),
            Trip::Probe => f.write_str("it was asked again and failed again"),
        }
    }
}

/// What is known of one endpoint.
#[derive(Clone, Debug, Default)]
pub struct Breaker {
    state: State,
    /// Failures in a row.
    failures: u32,
    /// How often in a row it was shut.
    shut: u32,
    /// The endpoint does not want to be asked before.
    hint: Time,
    window: Option<Box<Window>>,
}

/// See the [module](self).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum State {
    #[default]
    Serving,
    Shut {
        until: Time,
    },
    Awaiting,
    Probing {
        until: Time,
        /// Its answer has begun well.
        answering: bool,
    },
}

impl Breaker {
    /// Is it out of rotation?
    pub fn is_ejected(&self) -> bool {
        self.state != State::Serving
    }

    /// May one request be sent to it, to see how it does?
    pub fn wants_probe(&self) -> bool {
        self.state == State::Awaiting
    }

    /// When [`Breaker::timeout`] has to be called.
    pub fn deadline(&self) -> Option<Time> {
        match self.state {
            State::Shut { until } | State::Probing { until, .. } => Some(until),
            State::Serving | State::Awaiting => None,
        }
    }

    /// Counts a request that ended well and was no probe, if that is all there is to it: all before
    /// it did, too. If not, it has to be [recorded](Self::record).
    #[inline]
    pub fn goes_on_well(&mut self, config: &BreakerConfig, now: Time) -> bool {
        let well = self.state == State::Serving && self.failures == 0 && self.hint == Time::ZERO;
        well && match (&config.success_rate, &mut self.window) {
            (None, _) => true,
            (Some(_), Some(window)) => window.goes_on_well(now),
            (Some(_), None) => false,
        }
    }

    /// A request ended that was no probe. `Some`: the endpoint should be ejected. Whether it is or
    /// not, what was counted is forgotten. What comes while it is ejected says nothing.
    pub fn record(&mut self, config: &BreakerConfig, verdict: Verdict, now: Time) -> Option<Trip> {
        if self.is_ejected() {
            return None;
        }
        self.failures = if verdict == Verdict::Failure { self.failures + 1 } else { 0 };
        if verdict == Verdict::Success {
            self.hint = Time::ZERO;
        }
        let rate = config.success_rate.as_ref().map(|rate| {
            let window = self.window.get_or_insert_default();
            (rate, window.add(rate.window, verdict == Verdict::Success, now))
        });
        let trip = match rate {
            _ if config.consecutive > 0 && self.failures >= config.consecutive => {
                Trip::Consecutive(self.failures)
            }
            Some((rate, (succeeded, total)))
                if succeeded < total
                    && total >= rate.min_requests
                    && f64::from(succeeded) < rate.min * f64::from(total) =>
            {
                Trip::SuccessRate { succeeded, total }
            }
            _ => return None,
        };
        self.forget();
        Some(trip)
    }

    /// The endpoint does not want to be asked for so long.
    pub fn heed(&mut self, wait: Duration, now: Time) {
        self.hint = self.hint.max(now + wait);
    }

    /// Takes it out of rotation. `unit`: a random number from 0 to 1. Returns for how long.
    pub fn eject(&mut self, config: &BreakerConfig, unit: f64, now: Time) -> Duration {
        self.shut = self.shut.saturating_add(1);
        let asked = (self.hint - now).min(config.backoff_max);
        let wait = config.backoff(self.shut, unit).max(asked);
        self.state = State::Shut { until: now + wait };
        wait
    }

    /// The request that was sent to it is the probe.
    pub fn probe(&mut self, config: &BreakerConfig, now: Time) {
        if self.wants_probe() {
            // linkerd2-proxy: a probe without an answer does not keep it out for ever.
            self.state = State::Probing { until: now + config.backoff_max, answering: false };
        }
    }

    /// The answer to the probe has begun well. Whether it ends well is waited for, but no longer than
    /// an endpoint is shut at first: an answer that goes on and on does not keep it out.
    pub fn answering(&mut self, config: &BreakerConfig, now: Time) {
        if let State::Probing { until, answering: answering @ false } = &mut self.state {
            (*until, *answering) = (now + config.backoff_min, true);
        }
    }

    /// The probe is over; `None`: it says nothing. Returns how long the endpoint is shut, if it failed.
    pub fn probed(
        &mut self,
        config: &BreakerConfig,
        verdict: Option<Verdict>,
        unit: f64,
        now: Time,
    ) -> Option<Duration> {
        if !matches!(self.state, State::Probing { .. }) {
            return None;
        }
        match verdict {
            None => self.state = State::Awaiting,
            Some(Verdict::Success) => self.readmit(),
            // While it throttles it is not well.
            Some(Verdict::Throttled | Verdict::Failure) => {
                return Some(self.eject(config, unit, now));
            }
        }
        None
    }

    /// Its deadline may have come: the backoff is over, or the probe has taken too long. Returns how
    /// long the endpoint is shut, if it is; one whose answer had begun is back in rotation.
    pub fn timeout(&mut self, config: &BreakerConfig, unit: f64, now: Time) -> Option<Duration> {
        match self.state {
            State::Shut { until } if until <= now => self.state = State::Awaiting,
            State::Probing { until, answering: true } if until <= now => self.readmit(),
            State::Probing { until, .. } if until <= now => {
                return Some(self.eject(config, unit, now));
            }
            _ => {}
        }
        None
    }

    /// Puts it back into rotation, as if nothing had been.
    pub fn readmit(&mut self) {
        *self = Breaker { window: self.window.take(), ..Breaker::default() };
        self.forget();
    }

    /// Forgets what was counted: it began with another configuration, or has led to a trip.
    pub fn forget(&mut self) {
        self.failures = 0;
        if let Some(window) = &mut self.window {
            **window = Window::default();
        }
    }
}
