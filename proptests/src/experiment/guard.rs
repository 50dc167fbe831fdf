//! The core's breakers, used as the engine uses them.

use selvedge_core::balance::{Balancer, MemberId};
use selvedge_core::policy::BreakerConfig;
use selvedge_core::policy::breaker::{Breaker, Verdict};
use selvedge_core::rng::Rng;
use selvedge_core::time::Time;

use super::Flight;

/// One breaker per backend.
pub(super) struct Guard {
    config: BreakerConfig,
    rng: Rng,
    backends: Vec<(MemberId, Breaker)>,
}

impl Guard {
    pub(super) fn new(ids: &[MemberId], rng: Rng) -> Self {
        let backends = ids.iter().map(|&id| (id, Breaker::default())).collect();
        Guard { config: BreakerConfig::default(), rng, backends }
    }

    /// A backend that has been left alone for long enough: the next request goes there.
    pub(super) fn next_probe(&mut self, now: Time) -> Option<usize> {
        for (_, breaker) in &mut self.backends {
            if breaker.deadline().is_some_and(|deadline| deadline <= now) {
                breaker.timeout(&self.config, self.rng.unit(), now);
            }
        }
        let due = self.backends.iter().position(|(_, breaker)| breaker.wants_probe())?;
        self.backends[due].1.probe(&self.config, now);
        Some(due)
    }

    /// A request is over.
    pub(super) fn judge(&mut self, flight: &Flight, balancer: &mut Balancer) {
        let (config, now) = (&self.config, flight.end);
        let verdict = if flight.timed_out { Verdict::Failure } else { Verdict::Success };
        let ejected = self.backends.iter().filter(|(_, breaker)| breaker.is_ejected()).count();
        let floor = config.floor(self.backends.len() as u32);
        let (id, breaker) = &mut self.backends[flight.backend];
        if flight.probe {
            breaker.probed(config, Some(verdict), self.rng.unit(), now);
            if !breaker.is_ejected() {
                balancer.set_ready(*id, true, now);
            }
        } else if breaker.record(config, verdict, now).is_some() && (ejected as u32) < floor {
            breaker.eject(config, self.rng.unit(), now);
            balancer.set_ready(*id, false, now);
        }
    }
}
