//! The mesh simulator: a whole mesh in one thread, from one number.
//!
//! A `World` has virtual time, one ordered heap of events, links and hosts: clients,
//! outbound and inbound engines, apps and a discovery source. Everything that could go one way or
//! another is a [choice](crate::choose): of a seed, of a fuzzer's bytes, of an exhaustive
//! enumeration, or of a list that was shrunk. The same choices make the same world, on every
//! machine.
//!
//! A run draws its own mix of [faults](Fault), plays until its clients are done, heals, and must then
//! drain to nothing. A model that shares nothing with the engine says what may happen
//! to each request; the [invariants](Invariant) are checked while it runs and at the end.

mod availability;
mod balancing;
mod excuses;
mod fault;
mod golden;
mod host;
mod invariant;
mod likely;
mod limiting;
mod limits;
mod link;
mod mesh;
mod mix;
mod model;
mod net;
mod policy;
mod readiness;
mod recut;
mod report;
mod shares;
mod shrink;
mod small;
mod splicing;
mod stage;
mod tap;
mod topology;
mod trace;
mod world;

pub use fault::{Fault, Faults};
pub use golden::{GOLDEN, golden_hashes, kept_hashes, write_golden};
pub use invariant::{Checks, Invariant, Violation};
pub use mix::{Mix, Theme};
pub use report::{Coverage, FRAMES, MESH, OUTPUTS, PIPES, Report, TIMERS, WAYS};
pub use shrink::{Scenario, record, shrink};
pub use small::{Tried, exhaust};
pub use stage::{Seen, Stage};
pub use trace::Fingerprint;
pub use world::Scope;

use crate::choose::{Choose, Seeded};
use world::World;

/// What became of a run.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// What happened.
    pub report: Report,
    /// What did not hold, if anything.
    pub violation: Option<Violation>,
}

/// Runs the world that these choices are. A panic is a violation, too.
pub fn run(choose: &mut dyn Choose, scope: &Scope) -> Outcome {
    play(choose, scope, false)
}

/// The same, and prints who does what, when.
pub fn run_shown(choose: &mut dyn Choose, scope: &Scope) -> Outcome {
    play(choose, scope, true)
}

fn play(choose: &mut dyn Choose, scope: &Scope, shown: bool) -> Outcome {
    let mut world = World::draw(choose, scope, shown);
    let violation = world.play_caught();
    Outcome { report: world.report(), violation }
}

/// The choices of a seed.
pub fn seeded(seed: u64) -> Seeded {
    Seeded::new(seed)
}

/// Of so many seeds, one is run twice.
const TWICE: u64 = 32;

/// Runs the world of a seed; of some seeds twice, which must make no difference.
pub fn run_seed(seed: u64) -> Outcome {
    run_seed_in(seed, &Scope::SEED)
}

/// The same, of worlds of another scope.
pub fn run_seed_in(seed: u64, scope: &Scope) -> Outcome {
    let once = || run(&mut seeded(seed), scope);
    let mut outcome = once();
    if seed.is_multiple_of(TWICE) && outcome.violation.is_none() {
        outcome.violation = differs(&outcome.report, &once());
        outcome.report.checks.counts[Invariant::Determinism as usize] += 1;
    }
    outcome
}

/// Is this what happened when the same choices were made again?
fn differs(first: &Report, again: &Outcome) -> Option<Violation> {
    if again.violation.is_none() && again.report == *first {
        return None;
    }
    let message = format!("a run of {:x} has become one of {:x}", first.hash, again.report.hash);
    let invariant = Invariant::Determinism;
    Some(Violation { invariant, message, step: again.report.steps })
}

/// Runs seeds until something does not hold that the scope judges: which seed, and what. For whoever
/// wants to know whether a bug is found, and by which invariant.
pub fn first_violation(
    seeds: impl IntoIterator<Item = u64>,
    scope: &Scope,
) -> Option<(u64, Violation)> {
    let mut seeds = seeds.into_iter();
    let is_meant =
        |violation: &Violation| scope.only.is_none_or(|only| only == violation.invariant);
    seeds.find_map(|seed| Some((seed, run_seed_in(seed, scope).violation.filter(is_meant)?)))
}
