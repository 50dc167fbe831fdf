//! A scope so small that everything in it is tried: one client, one request, one answer.

use super::Outcome;
use super::fault::Fault;
use super::host::{app, client, engine};
use super::link::Trap;
use super::mix::Mix;
use super::net::{HostId, Plan};
use super::world::World;
use crate::choose::{Choose, Odometer};

/// What was tried.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tried {
    /// Bytes of all directions of all links, in a run without a fault.
    pub bytes: usize,
    /// Runs.
    pub cases: usize,
    /// Of them, those in which the request was answered by the app.
    pub answered: usize,
}

/// What may happen at a byte, and the fault that excuses what becomes of the request.
fn faults() -> [(Trap, Option<Fault>); 7] {
    let wake = |host, slot, token| Trap::Wake { host, slot, token };
    [
        (Trap::Cut, None),
        (Trap::Break, Some(Fault::LinkReset)),
        (Trap::Hole(2_000_000_000), Some(Fault::BlackHole)),
        (wake(HostId::Client(0), 0, client::ABORT), Some(Fault::ClientAborts)),
        (wake(HostId::App(0), app::NOBODY, app::GO_DOWN), Some(Fault::AppDown)),
        (wake(HostId::Engine(0), 0, engine::TIMER), None),
        (wake(HostId::Engine(1), 0, engine::TIMER), None),
    ]
}

/// Tries every byte of the request and response of a seed, on every link, with every fault there,
/// and both orders of the two events that follow. Nothing, if the request is one that is refused, or has
/// more than `most_bytes` with its response.
///
/// # Errors
/// What did not hold.
pub fn exhaust(seed: u64, most_bytes: usize) -> Result<Tried, Box<Outcome>> {
    let mut odometer = Odometer::new(seed);
    let (quiet, pipes) = play(&mut odometer, None, Mix::calm());
    if quiet.violation.is_some() {
        return Err(Box::new(quiet));
    }
    let bytes = pipes.iter().map(|pipe| pipe.2 as usize + 1).sum();
    if quiet.report.answered == 0 || bytes > most_bytes {
        return Ok(Tried::default());
    }
    let mut tried = Tried { bytes, ..Tried::default() };
    let mut odometer = Odometer::new(seed);
    loop {
        let plan = choose_plan(&mut odometer, &pipes, bytes);
        let mut mix = Mix::calm();
        if let Some(fault) = plan.1 {
            mix.plan(fault);
        }
        let (mut outcome, _) = play(&mut odometer, Some(plan.0), mix);
        if let Some(violation) = &mut outcome.violation {
            violation.message = format!("{} ({:?})", violation.message, plan.0);
        }
        tried.cases += 1;
        tried.answered += outcome.report.answered as usize;
        if outcome.violation.is_some() {
            return Err(Box::new(outcome));
        }
        if !odometer.advance() {
            return Ok(tried);
        }
    }
}

/// A link, a direction, and how much was sent.
type Written = (u32, usize, u64);

fn choose_plan(choose: &mut dyn Choose, pipes: &[Written], bytes: usize) -> (Plan, Option<Fault>) {
    let mut at = choose.focus(bytes) as u64;
    let mut place = pipes[0];
    for &pipe in pipes {
        place = pipe;
        if at <= pipe.2 {
            break;
        }
        at -= pipe.2 + 1;
    }
    let faults = faults();
    let (trap, fault) = faults[choose.focus(faults.len())];
    let swap = choose.focus(2) == 1;
    (Plan { link: place.0, from: place.1, at, trap, swap }, fault)
}

fn play(choose: &mut dyn Choose, plan: Option<Plan>, mix: Mix) -> (Outcome, Vec<Written>) {
    let mut world = World::small(choose, mix);
    world.net.plan = plan;
    let violation = world.play_caught();
    let links = (0..).zip(&world.net.links);
    let written = links.flat_map(|(id, link)| {
        let pipes = link.pipes.iter().enumerate();
        pipes.map(move |(from, pipe)| (id, from, pipe.written))
    });
    (Outcome { report: world.report(), violation }, written.collect())
}
