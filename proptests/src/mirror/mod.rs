//! Mirrors: with one and without, clients and their app see the same, at the same time.
//!
//! The same requests are played twice through one engine: once without a mirror, once with one of
//! some mood that gets all or half of them. What each request's client and app saw, byte by byte with
//! the time, has to be equal, and so has everything that the engine counted about their service and
//! its endpoint: requests, failures, latencies, decisions, connections. What the mirror gets is a
//! beginning of what was sent, and looks complete only if it is.

mod mood;
mod peer;
mod plan;
mod world;

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use selvedge_core::config::{Direction, Protocol};
use selvedge_core::stats::{Decision, Snapshot};

use crate::choose::{Choose, pick};
use plan::Plan;
use world::World;

const OUTBOUND: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 4140);
const APP: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::new(10, 0, 0, 1)), 80);
const MIRROR: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::new(10, 0, 0, 2)), 80);

/// What happened to copies.
#[derive(Clone, Debug, Default)]
pub struct Outcome {
    /// Requests of clients.
    pub requests: u64,
    /// Copies that arrived whole, and in part.
    pub copies: [u64; 2],
    /// How often each [`Decision`] was taken about one, by `Decision as usize`.
    pub decisions: Vec<u64>,
}

impl Outcome {
    /// Adds another's counts.
    pub fn add(&mut self, other: &Outcome) {
        self.requests += other.requests;
        self.copies = [0, 1].map(|n| self.copies[n] + other.copies[n]);
        self.decisions.resize(Decision::ALL.len(), 0);
        for (mine, theirs) in self.decisions.iter_mut().zip(&other.decisions) {
            *mine += theirs;
        }
    }
}

/// Plays the requests of `choose` without a mirror, and with one that `moods` makes.
///
/// # Errors
/// What is different, or else did not hold.
pub fn run(choose: &mut dyn Choose, moods: &mut dyn Choose, seed: u64) -> Result<Outcome, String> {
    let plan = Plan::draw(choose);
    let speaks = pick(moods, &[Protocol::Auto, Protocol::Http1, Protocol::Http2]);
    let fraction = pick(moods, &[1.0, 1.0, 0.5]);
    let mut nobody = crate::choose::Bytes::new(&[]);
    let mut without = World::new(&plan, seed, None, &mut nobody);
    without.run().map_err(|error| format!("without: {error}"))?;
    let mut with = World::new(&plan, seed, Some((speaks, fraction)), moods);
    with.run().map_err(|error| format!("with: {error}"))?;
    for key in without.log.keys().chain(with.log.keys()) {
        let (a, b) = (without.log.get(key), with.log.get(key));
        if a != b {
            return Err(format!("{key:?}: without\n{a:?}\nwith\n{b:?}"));
        }
    }
    let (a, b) = (without.snapshot(), with.snapshot());
    let counted = |snapshot: &Snapshot| {
        let direction = &snapshot.directions[Direction::Outbound as usize];
        (
            snapshot.services[0].clone(),
            direction.requests,
            direction.refused.clone(),
            direction.trailers_dropped,
        )
    };
    if counted(&a) != counted(&b) {
        return Err(format!("counted {:?}\nwith {:?}", counted(&a), counted(&b)));
    }
    let decisions = &b.services[1].stats.decisions;
    Ok(Outcome {
        requests: plan.requests.len() as u64,
        copies: with.copies,
        decisions: Decision::ALL.iter().map(|&decision| decisions.get(decision)).collect(),
    })
}
