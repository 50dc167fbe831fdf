//! Which endpoint gets the next request: peak EWMA and the better of two.
//!
//! Every member has an estimate of its round trip and a count of what is pending on it. Its load is
//!
//! ```text
//! estimate × (pending + 1) / weight
//! ```
//!
//! [`Balancer::pick`] draws two distinct ready members by weight and takes the one with the lower
//! load. That is nearly as good as looking at all of them, costs the same with 3 as with 3,000, and
//! does not send everybody to the same favourite at once (Mitzenmacher, "The Power of Two Choices in
//! Randomized Load Balancing").
//!
//! Weight counts in the draw and in the load. With equal latency the loads are equal when a member
//! has `c × weight - 1` requests pending: with 8 or more in flight per unit of weight every share is
//! within 10 % of its weight (weight 1 among many of weight 10 gets 9 % less). With fewer the heavy
//! ones get more than their share: of two idle members with weights 1 and 2 the heavy one gets nearly
//! everything, because its load is half that of the other.
//!
//! ```
//! use core::time::Duration;
//! use selvedge_core::balance::{Balancer, Outcome, Params};
//! use selvedge_core::rng::{Rng, Seed};
//! use selvedge_core::time::Time;
//!
//! let mut rng = Rng::fork(Seed::from_number(1), 0);
//! let mut balancer = Balancer::new(Params::default());
//! let (one, two) = (balancer.insert(1, Time::ZERO), balancer.insert(1, Time::ZERO));
//! balancer.begin(one);
//! let now = Time::ZERO + Duration::from_millis(400);
//! balancer.end(one, Outcome::Success(now - Time::ZERO), now);
//! assert_eq!(balancer.pick(&mut rng, now), Some(two));
//! ```

mod ewma;
#[cfg(test)]
mod tests;

use alloc::vec::Vec;

use crate::rng::Rng;
use crate::time::{Duration, Time};
use ewma::{Decay, Ewma};

/// What a balancer is told once. The defaults are those of linkerd2-proxy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Params {
    /// The estimate of a member that nothing is known of. Not below [`Params::floor`].
    pub default_rtt: Duration,
    /// Time in which an estimate decays to 1/e without samples. Zero counts as a nanosecond.
    pub decay: Duration,
    /// The round trip that a failure counts as.
    pub penalty: Duration,
    /// The least default round trip.
    pub floor: Duration,
}

impl Default for Params {
    fn default() -> Self {
        Params {
            default_rtt: Duration::from_millis(30),
            decay: Duration::from_secs(10),
            penalty: Duration::from_secs(5),
            floor: Duration::from_millis(1),
        }
    }
}

/// Names a member of one balancer. It carries a generation: the id of a removed member stays
/// invalid when its slot is in use again, and every method takes it for nothing.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct MemberId {
    index: u32,
    generation: u32,
}

impl MemberId {
    /// A small number, unique among the members there are: an index for a table beside the
    /// balancer.
    pub const fn index(self) -> usize {
        self.index as usize
    }
}

/// How a request on a member ended, as far as its load is concerned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// A response that counts, and its round trip.
    Success(Duration),
    /// A timeout or a failure response: counts as a round trip of [`Params::penalty`], and never
    /// lowers the estimate, however long it was. A failure is not a fast answer.
    Failure,
    /// Ended by the client after this time: the answer would have taken at least as long, so it can
    /// raise the estimate, but not lower it.
    Cancelled(Duration),
    /// Never reached the endpoint: says nothing about it.
    Unsent,
}

/// The members of one service and their loads.
#[derive(Clone, Debug)]
pub struct Balancer {
    params: Params,
    decay: Decay,
    slots: Vec<Slot>,
    /// Indices of slots without a member.
    free: Vec<u32>,
    /// Indices of the slots of ready members, in no order that matters.
    ready: Vec<u32>,
    /// Running sums of the weights in the order of `ready`, if `draw` is [`Draw::ByWeight`].
    sums: Vec<u64>,
    draw: Draw,
}

#[derive(Clone, Debug)]
struct Slot {
    /// Odd while there is a member, so that no id is valid for an empty slot.
    generation: u32,
    /// Not 0.
    weight: u32,
    pending: u32,
    /// Position in [`Balancer::ready`], or [`NOT_READY`].
    position: u32,
    estimate: Ewma,
}

const NOT_READY: u32 = u32::MAX;

/// Seconds. What every estimate is read as at least: members that have decayed to nothing still
/// differ by what is pending on them. Well below any round trip through a socket.
const MIN_ESTIMATE: f64 = 1e-6;

/// How to draw a ready member.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Draw {
    /// Not known: the ready set or a weight changed.
    Stale,
    /// All weights are equal.
    Uniform,
    /// By [`Balancer::sums`].
    ByWeight,
}

impl Balancer {
    /// A balancer without members.
    pub fn new(params: Params) -> Self {
        Balancer {
            params,
            decay: Decay::new(params.decay),
            slots: Vec::new(),
            free: Vec::new(),
            ready: Vec::new(),
            sums: Vec::new(),
            draw: Draw::Stale,
        }
    }

    /// How many members there are.
    pub fn len(&self) -> usize {
        self.slots.len() - self.free.len()
    }

    /// Whether there is no member.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// How many members are ready.
    pub fn ready_len(&self) -> usize {
        self.ready.len()
    }

    /// Whether this member can be picked.
    pub fn is_ready(&self, id: MemberId) -> bool {
        self.slot(id).is_some_and(|slot| slot.position != NOT_READY)
    }

    /// What was begun on this member and not ended or released.
    pub fn pending(&self, id: MemberId) -> u32 {
        self.slot(id).map_or(0, |slot| slot.pending)
    }

    /// `estimate × (pending + 1) / weight`, in seconds: finite and above zero. Infinite for a
    /// member that was removed.
    pub fn load(&self, id: MemberId, now: Time) -> f64 {
        self.slot(id).map_or(f64::INFINITY, |slot| self.slot_load(slot, now))
    }

    /// The round trip that is expected of this member. Without samples it decays towards zero.
    /// [`Duration::MAX`] for a member that was removed.
    pub fn estimate(&self, id: MemberId, now: Time) -> Duration {
        self.slot(id).map_or(Duration::MAX, |slot| {
            Duration::try_from_secs_f64(slot.estimate.get(now, self.decay)).unwrap_or(Duration::MAX)
        })
    }

    /// A new member, ready at once, expected to answer within the default round trip. Its share of
    /// the draws is `weight` over the sum of the weights of all ready members; 0 counts as 1.
    pub fn insert(&mut self, weight: u32, now: Time) -> MemberId {
        let estimate = self.initial_estimate(now);
        let index = self.free.pop().unwrap_or_else(|| {
            self.slots.push(Slot {
                generation: 0,
                weight: 1,
                pending: 0,
                position: NOT_READY,
                estimate,
            });
            // Here, so that nothing else ever allocates.
            let members = self.slots.len();
            self.ready.reserve(members - self.ready.len());
            self.sums.reserve(members - self.sums.len());
            self.free.reserve(members - self.free.len());
            members as u32 - 1
        });
        let slot = &mut self.slots[index as usize];
        slot.generation = slot.generation.wrapping_add(1);
        slot.weight = weight.max(1);
        slot.pending = 0;
        slot.estimate = estimate;
        let id = MemberId { index, generation: slot.generation };
        self.enter_ready(index);
        id
    }

    /// Takes a member out. What is pending on it is forgotten: nothing has to be ended.
    pub fn remove(&mut self, id: MemberId) {
        if let Some(slot) = self.slot_mut(id) {
            slot.generation = slot.generation.wrapping_add(1);
            self.leave_ready(id.index);
            self.free.push(id.index);
        }
    }

    /// Another weight from now on; 0 counts as 1.
    pub fn set_weight(&mut self, id: MemberId, weight: u32) {
        let weight = weight.max(1);
        if let Some(slot) = self.slot_mut(id)
            && slot.weight != weight
        {
            slot.weight = weight;
            self.draw = Draw::Stale;
        }
    }

    /// Whether this member can be picked. When one becomes ready its estimate starts again at the
    /// default round trip: what was known of it was known of another process. What is pending on it
    /// stays.
    pub fn set_ready(&mut self, id: MemberId, ready: bool, now: Time) {
        let estimate = self.initial_estimate(now);
        let Some(slot) = self.slot_mut(id) else { return };
        match (slot.position != NOT_READY, ready) {
            (false, true) => {
                slot.estimate = estimate;
                self.enter_ready(id.index);
            }
            (true, false) => self.leave_ready(id.index),
            _ => {}
        }
    }

    /// The member that should get the next request: of two distinct ready ones drawn by weight, the
    /// one with the lower load. `None` when nothing is ready. It does not [`begin`](Self::begin).
    ///
    /// O(1) when all weights are equal, else O(log n), but for the first call after the ready set
    /// or a weight changed: that is O(n).
    pub fn pick(&mut self, rng: &mut Rng, now: Time) -> Option<MemberId> {
        let index = match *self.ready.as_slice() {
            [] => return None,
            [only] => only,
            _ => {
                let (first, second) = self.draw_two(rng);
                let load = |index: u32| self.slot_load(&self.slots[index as usize], now);
                if load(second) < load(first) { second } else { first }
            }
        };
        let generation = self.slots[index as usize].generation;
        Some(MemberId { index, generation })
    }

    /// The same, for a request that some members should not get again: the least loaded of the others,
    /// if few draws find none. Any, if there are no others.
    pub fn pick_other(
        &mut self,
        rng: &mut Rng,
        now: Time,
        suits: impl Fn(MemberId) -> bool,
    ) -> Option<MemberId> {
        const DRAWS: usize = 3;
        for _ in 0..DRAWS {
            let drawn = self.pick(rng, now)?;
            if suits(drawn) {
                return Some(drawn);
            }
        }
        let member = |&index: &u32| {
            let generation = self.slots[index as usize].generation;
            MemberId { index, generation }
        };
        let others = self.ready.iter().map(member).filter(|&member| suits(member));
        let load = |member: &MemberId| self.load(*member, now);
        let least = others.min_by(|a, b| load(a).total_cmp(&load(b)));
        least.or_else(|| self.pick(rng, now))
    }

    /// A request is on its way to this member.
    pub fn begin(&mut self, id: MemberId) {
        if let Some(slot) = self.slot_mut(id) {
            slot.pending = slot.pending.saturating_add(1);
        }
    }

    /// A request is over, and this is how it went.
    pub fn end(&mut self, id: MemberId, outcome: Outcome, now: Time) {
        self.sample(id, outcome, now);
        self.release(id);
    }

    /// How a request went that is not over: at the first byte of a response body, say.
    pub fn sample(&mut self, id: MemberId, outcome: Outcome, now: Time) {
        let (decay, penalty) = (self.decay, self.params.penalty);
        let Some(slot) = self.slot_mut(id) else { return };
        match outcome {
            Outcome::Success(rtt) => slot.estimate.sample(rtt, now, decay),
            Outcome::Failure => slot.estimate.raise(penalty, now, decay),
            Outcome::Cancelled(rtt) => slot.estimate.raise(rtt, now, decay),
            Outcome::Unsent => {}
        }
    }

    /// A request is over, and how it went is known already or says nothing.
    pub fn release(&mut self, id: MemberId) {
        if let Some(slot) = self.slot_mut(id) {
            slot.pending = slot.pending.saturating_sub(1);
        }
    }

    fn slot(&self, id: MemberId) -> Option<&Slot> {
        self.slots.get(id.index()).filter(|slot| slot.generation == id.generation)
    }

    fn slot_mut(&mut self, id: MemberId) -> Option<&mut Slot> {
        self.slots.get_mut(id.index()).filter(|slot| slot.generation == id.generation)
    }

    fn initial_estimate(&self, now: Time) -> Ewma {
        Ewma::new(self.params.default_rtt.max(self.params.floor), now)
    }

    fn slot_load(&self, slot: &Slot, now: Time) -> f64 {
        let estimate = slot.estimate.get(now, self.decay).max(MIN_ESTIMATE);
        estimate * (f64::from(slot.pending) + 1.0) / f64::from(slot.weight)
    }

    fn enter_ready(&mut self, index: u32) {
        self.slots[index as usize].position = self.ready.len() as u32;
        self.ready.push(index);
        self.draw = Draw::Stale;
    }

    fn leave_ready(&mut self, index: u32) {
        let position = core::mem::replace(&mut self.slots[index as usize].position, NOT_READY);
        if position == NOT_READY {
            return;
        }
        self.ready.swap_remove(position as usize);
        if let Some(&moved) = self.ready.get(position as usize) {
            self.slots[moved as usize].position = position;
        }
        self.draw = Draw::Stale;
    }

    /// Slot indices of two distinct ready members, of at least two: the first by weight, the second
    /// by weight among the rest.
    fn draw_two(&mut self, rng: &mut Rng) -> (u32, u32) {
        if self.draw == Draw::Stale {
            self.draw = self.prepare_draw();
        }
        let ready = &self.ready;
        if self.draw == Draw::Uniform {
            let first = rng.below(ready.len() as u64);
            let second = skip(rng.below(ready.len() as u64 - 1), first, 1);
            return (ready[first as usize], ready[second as usize]);
        }
        // A member owns the points from the sum before it up to its own sum. Leaving out the first
        // member's points leaves the others their shares, without drawing again and again.
        let sums = &self.sums;
        let owner = |point: u64| sums.partition_point(|&sum| sum <= point);
        let total = sums[sums.len() - 1];
        let first = owner(rng.below(total));
        let before = if first == 0 { 0 } else { sums[first - 1] };
        let width = sums[first] - before;
        let second = owner(skip(rng.below(total - width), before, width));
        (ready[first], ready[second])
    }

    fn prepare_draw(&mut self) -> Draw {
        let weight = |&index: &u32| self.slots[index as usize].weight;
        self.sums.clear();
        let mut weights = self.ready.iter().map(weight);
        let first = weights.next();
        if weights.all(|weight| Some(weight) == first) {
            return Draw::Uniform;
        }
        let mut total = 0;
        self.sums.extend(self.ready.iter().map(|index| {
            total += u64::from(weight(index));
            total
        }));
        Draw::ByWeight
    }
}

/// `point`, of a range from which the `width` points at `from` were left out.
fn skip(point: u64, from: u64, width: u64) -> u64 {
    if point >= from { point + width } else { point }
}
