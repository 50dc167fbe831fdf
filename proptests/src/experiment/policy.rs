//! The ways to balance that are compared.

use selvedge_core::balance::{Balancer, MemberId, Outcome, Params};
use selvedge_core::rng::Rng;
use selvedge_core::time::{Duration, Time};

use super::{Setup, choose};

/// A way to choose the backend of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Policy {
    /// One after the other.
    RoundRobin,
    /// Of two drawn at random the one with less in flight.
    LeastLoaded,
    /// Peak EWMA as linkerd samples it: when a request is over, whatever its end, the time that it
    /// took. A timeout is a sample of one second.
    LinkerdPeakEwma,
    /// The balancer of the core as the engine uses it: a timeout is a penalty sample.
    Selvedge,
    /// The best that is possible: it is told which backend is slow when the first answer could be
    /// missed, and when it is fast again. Nobody can know sooner, and until then every policy sends
    /// it an eleventh of the requests, on average over which backend it is.
    Informed,
}

impl Policy {
    /// All of them, the worst first.
    pub const ALL: [Policy; 5] = [
        Policy::RoundRobin,
        Policy::LeastLoaded,
        Policy::LinkerdPeakEwma,
        Policy::Selvedge,
        Policy::Informed,
    ];

    /// Its name in tables.
    pub fn name(self) -> &'static str {
        match self {
            Policy::RoundRobin => "round robin",
            Policy::LeastLoaded => "least loaded",
            Policy::LinkerdPeakEwma => "peak EWMA, as Linkerd samples it",
            Policy::Selvedge => "Selvedge",
            Policy::Informed => "best possible",
        }
    }
}

/// A policy at work.
pub(super) struct State {
    policy: Policy,
    rng: Rng,
    next: usize,
    /// Keeps the counts of what is in flight for every policy.
    balancer: Balancer,
    ids: Vec<MemberId>,
    told_from: Time,
    told_until: Time,
}

impl State {
    pub(super) fn new(policy: Policy, setup: &Setup, rng: Rng) -> Self {
        let mut balancer = Balancer::new(Params::default());
        let ids = (0..setup.backends).map(|_| balancer.insert(1, Time::ZERO)).collect();
        State {
            policy,
            rng,
            next: 0,
            balancer,
            ids,
            told_from: setup.slow_from + setup.median,
            told_until: setup.slow_until,
        }
    }

    /// The backend of the next request, which is on its way from now on.
    pub(super) fn pick(&mut self, now: Time) -> usize {
        let backend = match self.policy {
            Policy::RoundRobin => self.round_robin(),
            Policy::LeastLoaded => self.least_loaded(),
            Policy::LinkerdPeakEwma | Policy::Selvedge => {
                choose(&mut self.balancer, &mut self.rng, now)
            }
            Policy::Informed => {
                let first = self.round_robin();
                let avoid = first == 0 && (self.told_from..self.told_until).contains(&now);
                if avoid { self.round_robin() } else { first }
            }
        };
        self.balancer.begin(self.ids[backend]);
        backend
    }

    /// A request is over; a timeout cancelled it or it was answered.
    pub(super) fn end(&mut self, backend: usize, took: Duration, timed_out: bool, now: Time) {
        let outcome = match self.policy {
            Policy::Selvedge if timed_out => Outcome::Failure,
            _ => Outcome::Success(took),
        };
        self.balancer.end(self.ids[backend], outcome, now);
    }

    fn in_flight(&self, backend: usize) -> u32 {
        self.balancer.pending(self.ids[backend])
    }

    fn round_robin(&mut self) -> usize {
        let backend = self.next;
        self.next = (self.next + 1) % self.ids.len();
        backend
    }

    fn least_loaded(&mut self) -> usize {
        let count = self.ids.len();
        let first = self.rng.below(count as u64) as usize;
        let second = (first + 1 + self.rng.below(count as u64 - 1) as usize) % count;
        if self.in_flight(second) < self.in_flight(first) { second } else { first }
    }
}
