//! The experiment that Linkerd published in 2016 ("Beyond Round Robin: Load Balancing for
//! Latency"), in virtual time: what one slow backend of eleven costs under each way to balance.
//!
//! One client sends 1,000 requests a second, evenly, for 60 s. A backend answers after 167 ms
//! (normally distributed, 5 ms); from second 15 to second 45 one of them takes 2 s for every request
//! that it gets. With a timeout a request that takes longer than 1 s has failed and is cancelled.
//!
//! [`Policy::Selvedge`] is the [`Balancer`] of the core, not a model of it. All policies see the
//! same latencies, request by request.

mod guard;
mod histogram;
mod plot;
mod policy;
mod report;

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use selvedge_core::balance::Balancer;
use selvedge_core::rng::{Rng, Seed};
use selvedge_core::time::{Duration, Time};

pub use histogram::Histogram;
pub use plot::plot;
pub use policy::Policy;
use policy::State;
pub use report::{Report, Row};

/// What is measured. [`Setup::default`] is what was published.
#[derive(Clone, Copy, Debug)]
pub struct Setup {
    /// Backends; the first one is the one that becomes slow.
    pub backends: usize,
    /// Time between two requests.
    pub gap: Duration,
    /// How long requests are sent.
    pub length: Duration,
    /// The median latency.
    pub median: Duration,
    /// Its standard deviation.
    pub deviation: Duration,
    /// From when on a backend is slow.
    pub slow_from: Time,
    /// When it stops being slow.
    pub slow_until: Time,
    /// What it takes while it is slow.
    pub slow: Duration,
    /// When a request fails and is cancelled; `None`: it never does.
    pub timeout: Option<Duration>,
    /// Whether backends that fail are ejected, as the default [`BreakerConfig`] says.
    ///
    /// [`BreakerConfig`]: selvedge_core::policy::BreakerConfig
    pub breaker: bool,
}

impl Default for Setup {
    fn default() -> Self {
        Setup {
            backends: 11,
            gap: Duration::from_millis(1),
            length: Duration::from_mins(1),
            median: Duration::from_millis(167),
            deviation: Duration::from_millis(5),
            slow_from: Time::ZERO + Duration::from_secs(15),
            slow_until: Time::ZERO + Duration::from_secs(45),
            slow: Duration::from_secs(2),
            timeout: None,
            breaker: false,
        }
    }
}

/// What came of one run.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Run {
    /// Of the requests that were answered.
    pub latencies: Histogram,
    /// Requests sent.
    pub sent: u64,
    /// Requests that ran into the timeout.
    pub failed: u64,
    /// Of them, those that were sent in each second.
    pub failed_in: Vec<u64>,
    /// Requests that the first backend got, slow or not.
    pub first: u64,
    /// Requests that it got while it was slow.
    pub slowed: u64,
    /// Of them, those that were sent before the first could time out.
    pub unwarned: u64,
}

impl Run {
    /// The part of the requests that were answered in time.
    pub fn success(&self) -> f64 {
        1.0 - self.failed as f64 / self.sent as f64
    }
}

/// A request under way; the order is that of its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Flight {
    end: Time,
    /// Ends at the same time come in the order of the requests.
    number: u64,
    backend: usize,
    begin: Time,
    timed_out: bool,
    /// It finds out whether an ejected backend is well again.
    probe: bool,
}

/// Runs the experiment once.
pub fn run(setup: &Setup, policy: Policy, seed: u64) -> Run {
    let seed = Seed::from_number(seed);
    let mut latency = Rng::fork(seed, 0);
    let mut state = State::new(policy, setup, seed);
    let mut under_way: BinaryHeap<Reverse<Flight>> = BinaryHeap::new();
    let seconds = setup.length.as_secs() as usize + 1;
    let mut run = Run { failed_in: vec![0; seconds], ..Run::default() };
    let mut begin = Time::ZERO;
    while begin < Time::ZERO + setup.length {
        while let Some(flight) = ended(&mut under_way, begin) {
            finish(&mut state, &mut run, flight);
        }
        let (backend, probe) = state.pick(begin);
        let is_slow = backend == 0 && (setup.slow_from..setup.slow_until).contains(&begin);
        let healthy = normal(&mut latency, setup.median, setup.deviation);
        let takes = if is_slow { setup.slow } else { healthy };
        let timeout = setup.timeout.filter(|&timeout| timeout < takes);
        let end = begin + timeout.unwrap_or(takes);
        let number = run.sent;
        let timed_out = timeout.is_some();
        under_way.push(Reverse(Flight { end, number, backend, begin, timed_out, probe }));
        run.sent += 1;
        run.first += u64::from(backend == 0);
        run.slowed += u64::from(is_slow);
        let warned = setup.slow_from + setup.timeout.unwrap_or(setup.slow);
        run.unwarned += u64::from(is_slow && begin <= warned);
        begin += setup.gap;
    }
    while let Some(flight) = ended(&mut under_way, Time::MAX) {
        finish(&mut state, &mut run, flight);
    }
    run
}

/// The next request that ends before `now`, or then.
fn ended(under_way: &mut BinaryHeap<Reverse<Flight>>, now: Time) -> Option<Flight> {
    let Reverse(next) = under_way.peek()?;
    if next.end <= now { under_way.pop().map(|Reverse(flight)| flight) } else { None }
}

fn finish(state: &mut State, run: &mut Run, flight: Flight) {
    state.end(&flight);
    if flight.timed_out {
        run.failed += 1;
        run.failed_in[(flight.begin - Time::ZERO).as_secs() as usize] += 1;
    } else {
        run.latencies.add(flight.end - flight.begin);
    }
}

/// A normally distributed duration, as the sum of twelve uniform ones: the same on every machine,
/// and never more than six deviations away.
pub(crate) fn normal(rng: &mut Rng, mean: Duration, deviation: Duration) -> Duration {
    let sum: f64 = (0..12).map(|_| rng.unit()).sum();
    let micros = mean.as_micros() as f64 + (sum - 6.0) * deviation.as_micros() as f64;
    Duration::from_micros(micros.max(0.0) as u64)
}

/// All members are ready: one is always found.
fn choose(balancer: &mut Balancer, rng: &mut Rng, now: Time) -> usize {
    balancer.pick(rng, now).map_or(0, |id| id.index())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn latencies_are_normally_distributed() {
        let mut rng = Rng::fork(Seed::from_number(3), 0);
        let setup = Setup::default();
        let mut draw = || normal(&mut rng, setup.median, setup.deviation).as_secs_f64() * 1e3;
        let all: Vec<f64> = (0..100_000).map(|_| draw()).collect();
        let mean = all.iter().sum::<f64>() / 1e5;
        let variance = all.iter().map(|value| (value - mean).powi(2)).sum::<f64>() / 1e5;
        assert!((mean - 167.0).abs() < 0.1 && (variance - 25.0).abs() < 0.5, "{mean} {variance}");
        let within = all.iter().filter(|value| (**value - 167.0).abs() < 10.0).count();
        assert!((95_000..96_000).contains(&within), "{within} within two deviations");
    }

    #[test]
    fn round_robin_gives_the_slow_backend_its_share() {
        let setup = Setup { timeout: Some(Duration::from_secs(1)), ..Setup::default() };
        let run = run(&setup, Policy::RoundRobin, 1);
        assert_eq!(run.sent, 60_000);
        // Every eleventh of 30,000.
        assert!(run.failed.abs_diff(30_000 / 11) <= 1, "{}", run.failed);
        assert_eq!(run.failed, run.slowed);
        assert_eq!(run.latencies.count(), run.sent - run.failed);
    }
}
