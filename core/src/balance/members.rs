//! The members of a balancer: who is ready, what is pending on whom, and draws by weight.

use alloc::vec::Vec;

use super::ewma::Ewma;
use super::{Member, MemberId, Why};
use crate::rng::Rng;
use crate::time::{Duration, Time};

/// Everybody who may be picked, and who may not for now.
///
/// Those in the proxy's own zone are kept apart from the others. Without zones all are others.
#[derive(Clone, Debug)]
pub(super) struct Members {
    pub(super) slots: Vec<Slot>,
    /// What is rarely read of the same slots.
    pub(super) places: Vec<Place>,
    /// Indices of slots without a member.
    pub(super) free: Vec<u32>,
    pub(super) zones: [Zone; 2],
    /// What is pending on ready members.
    pub(super) pending: u64,
    /// Another number after every change of who there is, of what weight.
    pub(super) membership: u64,
    /// … and of who is ready.
    pub(super) readiness: u64,
    /// How long a new or recovered member takes to its whole weight.
    slow_start: Duration,
}

#[derive(Clone, Debug)]
pub(super) struct Slot {
    /// Odd while there is a member, so that no id is valid for an empty slot.
    pub(super) generation: u32,
    /// Not 0.
    pub(super) weight: u32,
    pub(super) pending: u32,
    /// Position in [`Zone::ready`], or [`NOT_READY`].
    pub(super) position: u32,
    pub(super) estimate: Ewma,
}

#[derive(Clone, Debug)]
pub(super) struct Place {
    /// See [`Member::name`].
    pub(super) name: u64,
    /// Index of its zone: [`OWN`] or [`OTHER`].
    zone: usize,
    /// Since when it is ready.
    ready_since: Time,
}

/// The members of the proxy's own zone, or all others.
#[derive(Clone, Debug, Default)]
pub(super) struct Zone {
    /// Indices of the slots of ready members, in no order that matters.
    pub(super) ready: Vec<u32>,
    /// Running sums of the effective weights in the order of `ready`, if `draw` is
    /// [`Draw::ByWeight`].
    pub(super) sums: Vec<u64>,
    draw: Draw,
    /// When the sums are out of date because members warm up.
    refresh: Option<Time>,
    /// The weight of all members, and of those that are ready.
    pub(super) weight: u64,
    pub(super) ready_weight: u64,
}

/// How to draw a ready member.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Draw {
    /// Not known: the ready set or a weight changed.
    #[default]
    Stale,
    /// All weights are equal.
    Uniform,
    /// By [`Zone::sums`].
    ByWeight,
}

const NOT_READY: u32 = u32::MAX;

pub(super) const OWN: usize = 0;
pub(super) const OTHER: usize = 1;

/// Effective weights are counted in these parts of a weight.
pub(super) const WHOLE: u64 = 1_000;

/// What a new member starts with (Envoy: `min_weight_percent`, 10 %).
const FIRST: u64 = WHOLE / 10;

/// In how many steps a weight grows. Each costs a pass over the members.
const STEPS: u32 = 64;

/// How much more of its traffic a zone gets than the part of it that is available (Envoy: the
/// overprovisioning factor, 1.4): a fifth is available in vain before others have to help.
const OVERPROVISIONED: (u64, u64) = (7, 5);

impl Members {
    pub(super) fn new() -> Self {
        Members {
            slots: Vec::new(),
            places: Vec::new(),
            free: Vec::new(),
            zones: Default::default(),
            pending: 0,
            membership: 0,
            readiness: 0,
            slow_start: Duration::ZERO,
        }
    }

    pub(super) fn len(&self) -> usize {
        self.slots.len() - self.free.len()
    }

    pub(super) fn ready_len(&self) -> usize {
        self.zones[OWN].ready.len() + self.zones[OTHER].ready.len()
    }

    pub(super) fn ready_weight(&self) -> u64 {
        self.zones[OWN].ready_weight + self.zones[OTHER].ready_weight
    }

    /// Slot indices of all that are ready.
    pub(super) fn ready(&self) -> impl Iterator<Item = u32> {
        self.zones.iter().flat_map(|zone| zone.ready.iter().copied())
    }

    /// Slot indices of all.
    pub(super) fn all(&self) -> impl Iterator<Item = u32> {
        let is_member = |&index: &u32| self.slots[index as usize].generation % 2 == 1;
        (0..self.slots.len() as u32).filter(is_member)
    }

    pub(super) fn id(&self, index: u32) -> MemberId {
        MemberId { index, generation: self.slots[index as usize].generation }
    }

    pub(super) fn slot(&self, id: MemberId) -> Option<&Slot> {
        self.slots.get(id.index()).filter(|slot| slot.generation == id.generation)
    }

    pub(super) fn slot_mut(&mut self, id: MemberId) -> Option<&mut Slot> {
        self.slots.get_mut(id.index()).filter(|slot| slot.generation == id.generation)
    }

    pub(super) fn is_ready(&self, id: MemberId) -> bool {
        self.slot(id).is_some_and(|slot| slot.position != NOT_READY)
    }

    pub(super) fn set_slow_start(&mut self, slow_start: Duration) {
        self.slow_start = slow_start;
        self.changed();
    }

    // ---- Who there is ----

    pub(super) fn insert(&mut self, member: &Member, estimate: Ewma, now: Time) -> MemberId {
        let index = self.free.pop().unwrap_or_else(|| self.grow(estimate));
        let slot = &mut self.slots[index as usize];
        slot.generation = slot.generation.wrapping_add(1);
        slot.weight = member.weight.max(1);
        slot.pending = 0;
        slot.estimate = estimate;
        let zone = if member.local { OWN } else { OTHER };
        self.places[index as usize] = Place { name: member.name, zone, ready_since: now };
        self.zones[zone].weight += u64::from(self.slots[index as usize].weight);
        self.membership += 1;
        self.enter_ready(index, now);
        self.id(index)
    }

    fn grow(&mut self, estimate: Ewma) -> u32 {
        self.slots.push(Slot {
            generation: 0,
            weight: 1,
            pending: 0,
            position: NOT_READY,
            estimate,
        });
        self.places.push(Place { name: 0, zone: OTHER, ready_since: Time::ZERO });
        // Here, so that no draw ever allocates.
        let members = self.slots.len();
        for zone in &mut self.zones {
            zone.ready.reserve(members - zone.ready.len());
            zone.sums.reserve(members - zone.sums.len());
        }
        self.free.reserve(members - self.free.len());
        members as u32 - 1
    }

    pub(super) fn remove(&mut self, id: MemberId) {
        let Some(slot) = self.slot(id) else { return };
        let weight = u64::from(slot.weight);
        self.leave_ready(id.index);
        self.slots[id.index()].generation = id.generation.wrapping_add(1);
        self.zones[self.places[id.index()].zone].weight -= weight;
        self.membership += 1;
        self.free.push(id.index);
    }

    pub(super) fn set_weight(&mut self, id: MemberId, weight: u32) {
        let weight = weight.max(1);
        let Some(slot) = self.slot_mut(id).filter(|slot| slot.weight != weight) else { return };
        let (old, is_ready) = (slot.weight, slot.position != NOT_READY);
        slot.weight = weight;
        let zone = &mut self.zones[self.places[id.index()].zone];
        let replace = |sum: u64| sum - u64::from(old) + u64::from(weight);
        zone.weight = replace(zone.weight);
        if is_ready {
            zone.ready_weight = replace(zone.ready_weight);
        }
        self.membership += 1;
        self.changed();
    }

    pub(super) fn set_local(&mut self, id: MemberId, local: bool) {
        let zone = if local { OWN } else { OTHER };
        let Some(slot) = self.slot(id) else { return };
        let (weight, since) = (u64::from(slot.weight), self.places[id.index()].ready_since);
        let old = self.places[id.index()].zone;
        if old == zone {
            return;
        }
        let was_ready = self.leave_ready(id.index);
        self.zones[old].weight -= weight;
        self.zones[zone].weight += weight;
        self.places[id.index()].zone = zone;
        if was_ready {
            self.enter_ready(id.index, since);
        }
    }

    // ---- Who is ready ----

    pub(super) fn enter_ready(&mut self, index: u32, since: Time) {
        let slot = &mut self.slots[index as usize];
        let place = &mut self.places[index as usize];
        place.ready_since = since;
        let zone = &mut self.zones[place.zone];
        slot.position = zone.ready.len() as u32;
        zone.ready.push(index);
        zone.ready_weight += u64::from(slot.weight);
        self.pending += u64::from(slot.pending);
        self.changed();
    }

    /// Was it ready?
    pub(super) fn leave_ready(&mut self, index: u32) -> bool {
        let slot = &mut self.slots[index as usize];
        let position = core::mem::replace(&mut slot.position, NOT_READY);
        if position == NOT_READY {
            return false;
        }
        let zone = &mut self.zones[self.places[index as usize].zone];
        zone.ready_weight -= u64::from(slot.weight);
        self.pending -= u64::from(slot.pending);
        zone.ready.swap_remove(position as usize);
        if let Some(&moved) = zone.ready.get(position as usize) {
            self.slots[moved as usize].position = position;
        }
        self.changed();
        true
    }

    fn changed(&mut self) {
        self.readiness += 1;
        for zone in &mut self.zones {
            zone.draw = Draw::Stale;
        }
    }

    // ---- What is pending ----

    pub(super) fn begin(&mut self, id: MemberId) {
        let Some(slot) = self.slot_mut(id).filter(|slot| slot.pending < u32::MAX) else { return };
        slot.pending += 1;
        if slot.position != NOT_READY {
            self.pending += 1;
        }
    }

    pub(super) fn release(&mut self, id: MemberId) {
        let Some(slot) = self.slot_mut(id).filter(|slot| slot.pending > 0) else { return };
        slot.pending -= 1;
        if slot.position != NOT_READY {
            self.pending -= 1;
        }
    }

    // ---- Weights ----

    /// What a member's weight counts as, in parts of [`WHOLE`]: it grows from a tenth, in a straight
    /// line, after the member became ready.
    pub(super) fn effective_weight(&self, index: u32, now: Time) -> u64 {
        let weight = u64::from(self.slots[index as usize].weight);
        if self.slow_start.is_zero() || canary!(NoSlowStart) {
            return weight * WHOLE;
        }
        let age = now.saturating_since(self.places[index as usize].ready_since);
        if age >= self.slow_start {
            return weight * WHOLE;
        }
        let steps = age.as_nanos() * u128::from(STEPS) / self.slow_start.as_nanos();
        weight * (FIRST + (WHOLE - FIRST) * steps as u64 / u64::from(STEPS))
    }

    fn is_warming(&self, index: u32, now: Time) -> bool {
        let age = now.saturating_since(self.places[index as usize].ready_since);
        age < self.slow_start
    }

    // ---- Draws ----

    /// The zone that this request goes to: the own one's share is 1.4 times what of it is available,
    /// and at most all. There is somebody ready.
    pub(super) fn draw_zone(&self, rng: &mut Rng) -> usize {
        let [own, other] = &self.zones;
        if own.ready.is_empty() {
            return OTHER;
        }
        if canary!(NoZones) && !other.ready.is_empty() {
            return rng.below(2) as usize;
        }
        let (more, than) = OVERPROVISIONED;
        let (available, all) = (more * own.ready_weight, than * own.weight);
        if other.ready.is_empty() || available >= all || rng.below(all) < available {
            OWN
        } else {
            OTHER
        }
    }

    /// What there is to say of a request that goes to a zone.
    pub(super) fn why(&self, zone: usize) -> Why {
        if zone == OTHER && self.zones[OWN].weight > 0 { Why::OtherZone } else { Why::Balanced }
    }

    /// A ready member of a zone that has one, by weight.
    pub(super) fn draw_one(&mut self, zone: usize, rng: &mut Rng, now: Time) -> u32 {
        self.prepare_draw(zone, now);
        let Zone { ready, sums, draw, .. } = &self.zones[zone];
        let drawn = match (draw, sums.last()) {
            (Draw::ByWeight, Some(&total)) => owner(sums, rng.below(total)),
            _ => rng.below(ready.len() as u64) as usize,
        };
        ready[drawn]
    }

    /// Two distinct ready members of a zone that has as many: the first by weight, the second by
    /// weight among the rest.
    pub(super) fn draw_two(&mut self, zone: usize, rng: &mut Rng, now: Time) -> (u32, u32) {
        self.prepare_draw(zone, now);
        let Zone { ready, sums, draw, .. } = &self.zones[zone];
        if *draw == Draw::Uniform {
            let first = rng.below(ready.len() as u64);
            let second = skip(rng.below(ready.len() as u64 - 1), first, 1);
            return (ready[first as usize], ready[second as usize]);
        }
        // A member owns the points from the sum before it up to its own sum. Leaving out the first
        // member's points leaves the others their shares, without drawing again and again.
        let total = sums[sums.len() - 1];
        let first = owner(sums, rng.below(total));
        let before = if first == 0 { 0 } else { sums[first - 1] };
        let width = sums[first] - before;
        let second = owner(sums, skip(rng.below(total - width), before, width));
        (ready[first], ready[second])
    }

    /// Costs O(n) after a change of who is ready, and at every step of a weight that grows.
    fn prepare_draw(&mut self, zone: usize, now: Time) {
        let Zone { draw, refresh, .. } = &self.zones[zone];
        if *draw != Draw::Stale && refresh.is_none_or(|refresh| now < refresh) {
            return;
        }
        let mut sums = core::mem::take(&mut self.zones[zone].sums);
        sums.clear();
        let (mut total, mut least, mut most, mut warming) = (0, u64::MAX, 0, false);
        for &index in &self.zones[zone].ready {
            let weight = self.effective_weight(index, now);
            warming |= self.is_warming(index, now);
            (least, most) = (weight.min(least), weight.max(most));
            total += weight;
            sums.push(total);
        }
        let step = (self.slow_start / STEPS).max(Duration::from_millis(1));
        let zone = &mut self.zones[zone];
        zone.sums = sums;
        zone.draw = if least < most { Draw::ByWeight } else { Draw::Uniform };
        zone.refresh = warming.then(|| now + step);
    }
}

fn owner(sums: &[u64], point: u64) -> usize {
    sums.partition_point(|&sum| sum <= point)
}

/// `point`, of a range from which the `width` points at `from` were left out.
fn skip(point: u64, from: u64, width: u64) -> u64 {
    if point >= from { point + width } else { point }
}
