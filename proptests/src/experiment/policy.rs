//! The ways to balance that are compared.

use selvedge_core::balance::{Balancer, MemberId, Outcome, Params};
use selvedge_core::rng::{Rng, Seed};
use selvedge_core::time::Time;

use super::guard::Guard;
use super::{Flight, Setup, choose};

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
    /// Keeps the counts of what is in flight, and who is ejected, for every policy.
    balancer: Balancer,
    ids: Vec<MemberId>,
    guard: Option<Guard>,
    told_from: Time,
    told_until: Time,
}

impl State {
    pub(super) fn new(policy: Policy, setup: &Setup, seed: Seed) -> Self {
        let mut balancer = Balancer::new(Params::default());
        let ids: Vec<MemberId> =
            (0..setup.backends).map(|_| balancer.insert(1, Time::ZERO)).collect();
        State {
            policy,
            rng: Rng::fork(seed, 1),
            next: 0,
            balancer,
            guard: setup.breaker.then(|| Guard::new(&ids, Rng::fork(seed, 2))),
            ids,
            told_from: setup.slow_from + setup.median,
            told_until: setup.slow_until,
        }
    }

    /// The backend of the next request, which is on its way from now on, and whether the request is
    /// to find out if it is well again.
    pub(super) fn pick(&mut self, now: Time) -> (usize, bool) {
        let probed = self.guard.as_mut().and_then(|guard| guard.next_probe(now));
        let backend = probed.unwrap_or_else(|| self.balance(now));
        self.balancer.begin(self.ids[backend]);
        (backend, probed.is_some())
    }

    fn balance(&mut self, now: Time) -> usize {
        match self.policy {
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
        }
    }

    /// A request is over; a timeout cancelled it or it was answered.
    pub(super) fn end(&mut self, flight: &Flight) {
        let outcome = match self.policy {
            Policy::Selvedge if flight.timed_out => Outcome::Failure,
            _ => Outcome::Success(flight.end - flight.begin),
        };
        self.balancer.end(self.ids[flight.backend], outcome, flight.end);
        if let Some(guard) = &mut self.guard {
            guard.judge(flight, &mut self.balancer);
        }
    }

    fn in_flight(&self, backend: usize) -> u32 {
        self.balancer.pending(self.ids[backend])
    }

    fn round_robin(&mut self) -> usize {
        loop {
            let backend = self.next;
            self.next = (self.next + 1) % self.ids.len();
            if self.balancer.is_ready(self.ids[backend]) {
                return backend;
            }
        }
    }

    fn least_loaded(&mut self) -> usize {
        let is_ready = |&backend: &usize| self.balancer.is_ready(self.ids[backend]);
        let ready: Vec<usize> = (0..self.ids.len()).filter(is_ready).collect();
        let count = ready.len();
        let first = self.rng.below(count as u64) as usize;
        let second = (first + 1 + self.rng.below(count as u64 - 1) as usize) % count;
        let (first, second) = (ready[first], ready[second]);
        if self.in_flight(second) < self.in_flight(first) { second } else { first }
    }
}
