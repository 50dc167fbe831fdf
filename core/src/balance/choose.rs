//! The ways to choose, and what they have in common.

use super::ewma::Decay;
use super::members::{Members, Slot};
use super::{MemberId, Why};
use crate::rng::Rng;
use crate::time::Time;

/// A way to choose the member that gets a request.
pub(super) trait Choose {
    /// One of the ready members, of which there is at least one. It is only told what it may need
    /// to know: a way that goes by keys is asked for requests that have one.
    fn choose(&mut self, members: &mut Members, ask: &mut Ask<'_>) -> (u32, Why);
}

/// What a choice may depend on, beside the members.
pub(super) struct Ask<'a> {
    pub(super) rng: &'a mut Rng,
    pub(super) now: Time,
    /// See [`hash::endpoint_key`](super::hash::endpoint_key).
    pub(super) key: u64,
    /// Who should get it. A way that draws need not ask: it is asked again.
    pub(super) suits: &'a dyn Fn(MemberId) -> bool,
}

/// Peak EWMA, the better of two: the load is `estimate × (pending + 1) / weight`.
#[derive(Clone, Copy, Debug)]
pub(super) struct PeakEwma {
    pub(super) decay: Decay,
}

/// Seconds. What every estimate is read as at least: members that have decayed to nothing still
/// differ by what is pending on them. Well below any round trip through a socket.
const MIN_ESTIMATE: f64 = 1e-6;

impl PeakEwma {
    pub(super) fn load(self, slot: &Slot, now: Time) -> f64 {
        let estimate = slot.estimate.get(now, self.decay).max(MIN_ESTIMATE);
        estimate * (f64::from(slot.pending) + 1.0) / f64::from(slot.weight)
    }
}

impl Choose for PeakEwma {
    fn choose(&mut self, members: &mut Members, ask: &mut Ask<'_>) -> (u32, Why) {
        let now = ask.now;
        better_of_two(members, ask, |slot, other| self.load(slot, now) < self.load(other, now))
    }
}

/// Least request, the better of two: the load is `(pending + 1) / weight`.
#[derive(Clone, Copy, Debug)]
pub(super) struct LeastRequest;

impl Choose for LeastRequest {
    fn choose(&mut self, members: &mut Members, ask: &mut Ask<'_>) -> (u32, Why) {
        better_of_two(members, ask, |slot, other| {
            let load = |slot: &Slot, times: u32| (u64::from(slot.pending) + 1) * u64::from(times);
            load(slot, other.weight) < load(other, slot.weight)
        })
    }
}

/// At random, by weight.
#[derive(Clone, Copy, Debug)]
pub(super) struct Random;

impl Choose for Random {
    fn choose(&mut self, members: &mut Members, ask: &mut Ask<'_>) -> (u32, Why) {
        let zone = members.draw_zone(ask.rng);
        (members.draw_one(zone, ask.rng, ask.now), members.why(zone))
    }
}

/// Of two distinct members drawn by weight the second, if it is less loaded than the first.
fn better_of_two(
    members: &mut Members,
    ask: &mut Ask<'_>,
    is_less: impl Fn(&Slot, &Slot) -> bool,
) -> (u32, Why) {
    let zone = members.draw_zone(ask.rng);
    if let [only] = *members.zones[zone].ready.as_slice() {
        return (only, members.why(zone));
    }
    let (first, second) = members.draw_two(zone, ask.rng, ask.now);
    let slot = |index: u32| &members.slots[index as usize];
    let better = if is_less(slot(second), slot(first)) { second } else { first };
    (better, members.why(zone))
}
