//! Scripts: what can happen to one engine, in any order, and what must hold whatever happens.
//!
//! A script is made of choices ([`choose`](crate::choose)): from a seed, or from a fuzzer's bytes. It drives one
//! engine through everything that clients, apps, sockets, time and operators can do to it: honest
//! requests and responses of every framing, and damaged ones; every cut of what is read and
//! written; half-closes and resets; connects that succeed, fail, come late or out of order;
//! timeouts that fire early or late; reloads, name lookups, a drain. Then nothing goes wrong any
//! more, and everything must come to its end.
//!
//! What holds after every turn:
//!
//! - the engine's own invariants;
//! - the contract: each connection ends exactly once, nothing is closed before it is written, who
//!   waits to read or to write is told, inputs for what is gone change nothing, time moves;
//! - what reaches an app or a client is well-formed, by a [reader](crate::traffic::wire) that shares nothing with
//!   the engine's;
//! - honest messages arrive as they were sent: fields in order, bodies, trailers, and nothing that
//!   is for one hop only;
//! - each answer belongs to its request, and comes once; what is not idempotent reaches one app
//!   only, and nothing is sent again once its answer began;
//! - what was cut short never looks complete;
//! - connections go where the configuration of that moment says.
//!
//! Without faults, every request has its app's answer in the end, whatever the cuts, the blocked
//! sockets and the reloads.

mod answer;
mod app;
mod client;
mod end;
mod heal;
mod mesh;
pub(crate) mod net;
mod world;

use crate::choose::{Choose, Seeded};
use world::World;

/// What happened in a script.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Outcome {
    /// A fingerprint of everything that the engine did: the same for the same choices.
    pub trace: u64,
    /// Things that happened.
    pub steps: u64,
    /// Turns of the engine.
    pub turns: u64,
    /// Connections accepted.
    pub clients: u64,
    /// Requests made.
    pub requests: u64,
    /// Requests that reached an app.
    pub attempts: u64,
    /// Of them, those on a connection that had carried another before.
    pub reuses: u64,
    /// Of them, those that reached another app before.
    pub replays: u64,
    /// Answers of apps that reached their client.
    pub answers: u64,
    /// Answers of the proxy itself.
    pub refusals: u64,
    /// 1xx that reached a client.
    pub interims: u64,
    /// Ends of tunnels that learned of their other end.
    pub tunnels: u64,
    /// Configurations that were replaced.
    pub reloads: u64,
    /// Drains that came to their end.
    pub drains: u64,
}

impl Outcome {
    /// Adds another's counts.
    pub fn add(&mut self, other: &Outcome) {
        self.steps += other.steps;
        self.turns += other.turns;
        self.clients += other.clients;
        self.requests += other.requests;
        self.attempts += other.attempts;
        self.reuses += other.reuses;
        self.replays += other.replays;
        self.answers += other.answers;
        self.refusals += other.refusals;
        self.interims += other.interims;
        self.tunnels += other.tunnels;
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
    let result = play(&mut world, steps);
    let mut outcome = world.outcome;
    outcome.trace = world.net.trace.0;
    let at = |error| format!("step {}, {:?}: {error}", outcome.steps, world.net.now);
    result.map_err(at).map(|()| outcome)
}

fn play(world: &mut World<'_>, steps: usize) -> Result<(), String> {
    world.settle()?;
    for _ in 0..steps {
        if world.choose.is_exhausted() {
            break;
        }
        world.step()?;
    }
    world.heal()
}

/// Runs the script of a seed, which also says how long it is.
///
/// # Errors
/// See [`run`].
pub fn run_seed(seed: u64) -> Result<Outcome, String> {
    let mut choose = Seeded::new(seed);
    let steps = choose.below(300);
    run(&mut choose, steps)
}
