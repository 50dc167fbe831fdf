//! Scripts like those in [`script`](super::script), over HTTP/2: streams of many requests on the
//! connections of either side, beside clients and apps that speak HTTP/1.
//!
//! Every peer that speaks HTTP/2 is a state machine of ours, honest until a script lets it say
//! something that no peer should. What must hold after every turn:
//!
//! - the engine's invariants, those of its HTTP/2 connections included, and the contract;
//! - an honest peer finds nothing wrong with what it gets, frame by frame;
//! - what arrives is what was sent: heads, bodies, trailers, in both directions;
//! - each answer belongs to its request, and comes once;
//! - what was cut short never looks complete;
//! - a request reaches a second app only if the first has not looked at it, or if doing it twice
//!   does no harm and the connection was lost; and never after its answer began.
//!
//! Without faults, every request has its app's answer in the end.

mod app;
mod client;
mod message;
mod world;

use crate::choose::{Choose, Seeded};
use world::World;

/// What happened in a script.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Outcome {
    /// A fingerprint of everything that the engine did.
    pub trace: u64,
    /// Requests made.
    pub requests: u64,
    /// Requests that reached an app.
    pub attempts: u64,
    /// Of them, those that had reached another before.
    pub replays: u64,
    /// Answers of apps that reached their client.
    pub answers: u64,
    /// Answers of the proxy itself.
    pub refusals: u64,
    /// Streams that were reset by either side.
    pub resets: u64,
    /// GOAWAYs of any peer.
    pub goaways: u64,
    /// Connections on which something was said that no peer should say.
    pub hostile: u64,
    /// Configurations that were replaced.
    pub reloads: u64,
    /// Drains that came to their end.
    pub drains: u64,
}

impl Outcome {
    /// Adds another's counts.
    pub fn add(&mut self, other: &Outcome) {
        self.requests += other.requests;
        self.attempts += other.attempts;
        self.replays += other.replays;
        self.answers += other.answers;
        self.refusals += other.refusals;
        self.resets += other.resets;
        self.goaways += other.goaways;
        self.hostile += other.hostile;
        self.reloads += other.reloads;
        self.drains += other.drains;
    }
}

/// Runs the script that these choices are, for at most `steps` steps and what it then takes to end.
///
/// # Errors
/// What did not hold.
pub fn run(choose: &mut dyn Choose, steps: usize) -> Result<Outcome, String> {
    let mut world = World::new(choose);
    let result = world.play(steps);
    let mut outcome = world.outcome;
    outcome.trace = world.net.trace.0;
    result.map(|()| outcome).map_err(|error| format!("{:?}: {error}", world.net.now))
}

/// Runs the script of a seed, which also says how long it is.
///
/// # Errors
/// See [`run`].
pub fn run_seed(seed: u64) -> Result<Outcome, String> {
    let mut choose = Seeded::new(seed);
    let steps = choose.below(250);
    run(&mut choose, steps)
}
