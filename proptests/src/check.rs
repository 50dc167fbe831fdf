//! What health checks make of an endpoint, against a model that remembers every check.

use std::time::Duration;

use selvedge_core::policy::check::{Checks, HealthCheck};

use crate::choose::{Bytes, Choose, pick};

/// Checks in one run.
const CHECKS: usize = 200;

/// An endpoint as the documentation has it.
#[derive(Default)]
struct Model {
    /// What checks came to since it was last said to be something else.
    log: Vec<bool>,
    /// `None`: it was not checked.
    passing: Option<bool>,
}

impl Model {
    fn record(&mut self, config: &HealthCheck, passed: bool) {
        self.log.push(passed);
        let (said, enough) = match self.passing {
            // The very first check decides alone.
            None => (!passed, 1),
            Some(true) => (true, config.unhealthy),
            Some(false) => (false, config.healthy),
        };
        let row = self.log.iter().rev().take_while(|&&passed| passed != said).count();
        if row >= enough as usize {
            self.passing = Some(!said);
            self.log.clear();
        }
    }
}

/// How often an endpoint became healthy, and unhealthy.
pub type Counts = [usize; 2];

/// Checks that pass and fail in any order, and the times of the next ones.
///
/// # Panics
/// If the engine's account and the model differ.
pub fn checks(data: &[u8]) -> Counts {
    let mut bytes = Bytes::new(data);
    let choose: &mut dyn Choose = &mut bytes;
    let config = HealthCheck {
        interval: Duration::from_millis(pick(choose, &[5_000, 1, 700, 60_000])),
        healthy: pick(choose, &[2, 1, 3, 5]),
        unhealthy: pick(choose, &[3, 1, 2, 7]),
        ..HealthCheck::default()
    };
    let in_use = choose.flip();
    let mut checks = if in_use { Checks::passing() } else { Checks::default() };
    let mut model = Model { passing: in_use.then_some(true), ..Model::default() };
    let mut counts = Counts::default();
    // Some endpoints fail now and then, others mostly.
    let odds = pick(choose, &[2, 3, 8]);
    for _ in 0..CHECKS {
        assert_eq!(checks.passes(), model.passing == Some(true));
        assert_eq!(checks.is_new(), model.passing.is_none());
        let before = checks.passes();
        let passed = (choose.below(odds) == 0) == choose.one_in(odds + 1);
        model.record(&config, passed);
        let changed = checks.record(&config, passed);
        assert_eq!(changed, before != (model.passing == Some(true)), "{config:?}");
        counts[usize::from(before)] += usize::from(changed);
        let unit = choose.below(256) as f64 / 255.0;
        let (wait, first) = (config.wait(unit), config.first_wait(unit));
        assert!(wait >= config.interval * 3 / 4 && wait <= config.interval * 5 / 4, "{wait:?}");
        assert!(first <= config.interval && first <= Duration::from_secs(1), "{first:?}");
    }
    counts
}
