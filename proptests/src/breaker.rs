//! The breaker against one that remembers every verdict.

use std::time::Duration;

use selvedge_core::policy::breaker::{Breaker, BreakerConfig, SuccessRate, Trip, Verdict};
use selvedge_core::time::Time;

use crate::choose::{Bytes, Choose, pick};

/// What happens to a breaker in one run.
const EVENTS: usize = 200;

/// An endpoint as the documentation has it.
struct Model {
    config: BreakerConfig,
    /// Verdicts since it was last put into rotation, or tripped.
    log: Vec<(Time, Verdict)>,
    state: State,
    /// How often in a row it was shut.
    shut: u32,
    /// Until when it asked not to be asked.
    hint: Time,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum State {
    Serving,
    Shut(Time),
    Awaiting,
    /// The answer may have begun.
    Probing(Time, bool),
}

impl Model {
    fn record(&mut self, verdict: Verdict, now: Time) -> Option<Trip> {
        if self.state != State::Serving {
            return None;
        }
        if verdict == Verdict::Success {
            self.hint = Time::ZERO;
        }
        self.log.push((now, verdict));
        let row = self.log.iter().rev().take_while(|(_, v)| *v == Verdict::Failure).count() as u32;
        let mut trip = None;
        if let Some(SuccessRate { min, window, min_requests }) = self.config.success_rate {
            // The window moves by tenths.
            let tenth = |at: Time| u128::from(at.as_nanos()) / (window.as_nanos() / 10);
            let recent = self.log.iter().filter(|(at, _)| tenth(*at) + 10 > tenth(now));
            let succeeded = recent.clone().filter(|(_, v)| *v == Verdict::Success).count() as u32;
            let total = recent.count() as u32;
            if total >= min_requests && f64::from(succeeded) < min * f64::from(total) {
                trip = Some(Trip::SuccessRate { succeeded, total });
            }
        }
        if self.config.consecutive > 0 && row >= self.config.consecutive {
            trip = Some(Trip::Consecutive(row));
        }
        if trip.is_some() {
            self.log.clear();
        }
        trip
    }

    /// It is shut for `wait`, which has to be what the backoff and the endpoint allow.
    fn eject(&mut self, wait: Duration, now: Time) {
        self.shut += 1;
        let BreakerConfig { backoff_min, backoff_max, .. } = self.config;
        let base = backoff_min.saturating_mul(1 << (self.shut - 1).min(30)).min(backoff_max);
        let most = (base * 3 / 2).min(backoff_max);
        let asked = (self.hint - now).min(backoff_max);
        let slack = Duration::from_micros(1);
        assert!(wait >= asked && wait + slack >= most * 2 / 3, "{wait:?}: {asked:?}, {most:?}");
        assert!(wait <= most.max(asked) + slack && wait <= backoff_max, "{wait:?}: {most:?}");
        self.state = State::Shut(now + wait);
    }

    fn readmit(&mut self) {
        (self.state, self.shut, self.hint) = (State::Serving, 0, Time::ZERO);
        self.log.clear();
    }

    fn deadline(&self) -> Option<Time> {
        match self.state {
            State::Shut(until) | State::Probing(until, _) => Some(until),
            State::Serving | State::Awaiting => None,
        }
    }
}

fn config(choose: &mut dyn Choose) -> BreakerConfig {
    let rate = SuccessRate {
        min: pick(choose, &[0.8, 0.5, 1.0, 0.0]),
        window: pick(choose, &[10_000, 1_000, 1_007].map(Duration::from_millis)),
        min_requests: pick(choose, &[5, 1, 20]),
    };
    let backoff_min = Duration::from_millis(pick(choose, &[1_000, 1, 7]));
    BreakerConfig {
        consecutive: pick(choose, &[3, 0, 1, 7]),
        success_rate: (choose.below(3) > 0).then_some(rate),
        backoff_min,
        backoff_max: backoff_min * pick(choose, &[60, 1, 3]),
        ..BreakerConfig::default()
    }
}

/// How often a breaker was ejected, for a trip and for its probe, and readmitted.
pub type Counts = [usize; 3];

/// Verdicts, probes, hints and time in any order.
///
/// # Panics
/// If the breaker and the model differ.
pub fn breaker(data: &[u8]) -> Counts {
    let mut bytes = Bytes::new(data);
    let choose: &mut dyn Choose = &mut bytes;
    let config = config(choose);
    let mut breaker = Breaker::default();
    let mut model = Model {
        config: config.clone(),
        log: Vec::new(),
        state: State::Serving,
        shut: 0,
        hint: Time::ZERO,
    };
    let (mut now, mut counts) = (Time::ZERO + Duration::from_secs(5), Counts::default());
    for _ in 0..EVENTS {
        let unit = choose.below(256) as f64 / 255.0;
        let verdicts = [Verdict::Failure, Verdict::Success, Verdict::Throttled];
        let verdict = pick(choose, &verdicts);
        match choose.below(9) {
            0 => now += Duration::from_millis(pick(choose, &[1, 100, 999, 10_000])),
            1 => {
                let wait = Duration::from_millis(pick(choose, &[10, 5_000, 500_000]));
                breaker.heed(wait, now);
                model.hint = model.hint.max(now + wait);
            }
            2 | 3 => {
                // What the engine does when the timer fires, or too early.
                let due = breaker.deadline().filter(|_| choose.below(4) > 0);
                now = due.map_or(now, |due| now.max(due));
                let shut = breaker.timeout(&config, unit, now);
                match model.state {
                    State::Shut(until) if until <= now => model.state = State::Awaiting,
                    State::Probing(until, true) if until <= now => {
                        assert_eq!(shut, None);
                        model.readmit();
                        counts[2] += 1;
                    }
                    State::Probing(until, false) if until <= now => {
                        model.eject(shut.expect("it took too long"), now);
                        counts[1] += 1;
                    }
                    _ => assert_eq!(shut, None),
                }
            }
            4 => {
                breaker.probe(&config, now);
                if model.state == State::Awaiting {
                    model.state = State::Probing(now + config.backoff_max, false);
                }
            }
            6 => {
                breaker.answering(&config, now);
                if let State::Probing(_, false) = model.state {
                    model.state = State::Probing(now + config.backoff_min, true);
                }
            }
            5 => {
                let verdict = (choose.below(4) > 0).then_some(verdict);
                let shut = breaker.probed(&config, verdict, unit, now);
                match (model.state, verdict) {
                    (State::Probing(..), None) => model.state = State::Awaiting,
                    (State::Probing(..), Some(Verdict::Success)) => {
                        model.readmit();
                        counts[2] += 1;
                    }
                    (State::Probing(..), Some(_)) => {
                        model.eject(shut.expect("it failed"), now);
                        counts[1] += 1;
                    }
                    _ => assert_eq!(shut, None),
                }
            }
            _ => {
                let trip = breaker.record(&config, verdict, now);
                assert_eq!(trip, model.record(verdict, now));
                // Now and then the floor spares it.
                if trip.is_some() && choose.below(4) > 0 {
                    model.eject(breaker.eject(&config, unit, now), now);
                    counts[0] += 1;
                }
            }
        }
        assert_eq!(breaker.is_ejected(), model.state != State::Serving);
        assert_eq!(breaker.wants_probe(), model.state == State::Awaiting);
        assert_eq!(breaker.deadline(), model.deadline());
    }
    counts
}
