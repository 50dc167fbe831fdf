//! Consistent hashing: ring hash and Maglev, with bounded load.

use alloc::collections::BinaryHeap;
use alloc::vec::Vec;
use core::cmp::Reverse;

use super::choose::{Ask, Choose};
use super::hash;
use super::members::Members;
use super::{LoadBound, MemberId, Why};
use crate::time::{Duration, Time};

/// How a table is laid out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Layout {
    /// Each member owns the parts of a ring that end at points of its own (Karger et al., 1997).
    /// Without a member, only its keys move.
    Ring,
    /// The members take turns to fill a table, each in an order of its own (Eisenbud et al., "Maglev",
    /// 2016). Shares are exact, and a lookup is one step; without a member a few other keys move
    /// too, until the next change.
    Maglev,
}

/// A table of all members, ready or not. A key belongs to one of its slots, and goes to the first
/// member from there on that is ready and not full: so only the keys of a member that is not ready
/// move, and they spread over all others.
#[derive(Clone, Debug)]
pub(super) struct Table {
    layout: Layout,
    bound: LoadBound,
    /// Who is meant by a number in `owners`.
    members: Vec<MemberId>,
    owners: Vec<u32>,
    /// The point of the ring that a slot ends at. Ascending; empty for Maglev.
    points: Vec<u64>,
    /// The [`Members::membership`] that it was built from, and when.
    built: Option<(u64, Time)>,
}

/// Slots of a Maglev table: a prime (as in Envoy and in the paper).
const SLOTS: usize = 65_537;

/// Points of a member of weight 1 on a ring: with as many a share is within a tenth of its weight,
/// mostly …
const POINTS: u64 = 128;
/// … halved as often as it takes to have no more than so many a member, on average …
const MOST_POINTS: u64 = 1_024;
/// … and so many in all.
const RING: u64 = 1 << 18;

/// How long a table is used before it is built again: a rollout of thousands of endpoints, one by one,
/// does not build one for each.
const REST: Duration = Duration::from_millis(200);

/// How many slots are looked at before all ready members are.
const WALK: usize = 1_024;

impl Choose for Table {
    /// Looks at as many slots as there are members for one that is ready and not full: few, unless
    /// most are down.
    fn choose(&mut self, members: &mut Members, ask: &mut Ask<'_>) -> (u32, Why) {
        let (membership, now) = (members.membership, ask.now);
        let is_old = self.built.is_some_and(|(of, _)| of != membership);
        let rests = self.built.is_some_and(|(_, at)| now < at + REST);
        if self.built.is_none() || (is_old && !rests) {
            self.build(members, now);
        }
        let mut found = self.walk(members, ask);
        if found.is_none() && is_old && rests {
            // All that it knows have gone.
            self.build(members, now);
            found = self.walk(members, ask);
        }
        found.unwrap_or_else(|| (among_ready(members, ask), Why::NotReady))
    }
}

impl Table {
    pub(super) fn new(layout: Layout, bound: LoadBound) -> Self {
        let (owners, points) = (Vec::new(), Vec::new());
        Table { layout, bound, members: Vec::new(), owners, points, built: None }
    }

    pub(super) fn layout(&self) -> Layout {
        self.layout
    }

    pub(super) fn set_bound(&mut self, bound: LoadBound) {
        self.bound = bound;
    }

    /// The first member from the slot of a key on that is ready, suits and is not full; if all are
    /// full, the first.
    fn walk(&self, members: &Members, ask: &Ask<'_>) -> Option<(u32, Why)> {
        let slots = self.owners.len();
        let moved = if canary!(MovingKeys) { members.ready_len() as u64 } else { 0 };
        let start = self.slot(ask.key ^ moved << 60)?;
        let (mut last, mut full, mut why) = (None, None, Why::Key);
        for step in 0..slots.min(WALK) {
            let owner = self.owners[(start + step) % slots];
            if last.replace(owner) == Some(owner) {
                continue;
            }
            let id = self.members[owner as usize];
            let Some(slot) = members.slot(id).filter(|_| members.is_ready(id)) else {
                why = why.or(Why::NotReady);
                continue;
            };
            if !(ask.suits)(id) {
                why = why.or(Why::Tried);
            } else if !canary!(NoLoadBound)
                && self.bound.is_full(
                    slot.pending,
                    slot.weight.into(),
                    members.pending,
                    members.ready_weight(),
                )
            {
                full = full.or(Some((id.index, why)));
                why = why.or(Why::Full);
            } else {
                return Some((id.index, why));
            }
        }
        full
    }

    fn slot(&self, key: u64) -> Option<usize> {
        match (self.layout, self.owners.len() as u64) {
            (_, 0) => None,
            (Layout::Maglev, slots) => Some((key % slots) as usize),
            (Layout::Ring, slots) => {
                let slot = self.points.partition_point(|&point| point < key);
                Some(slot % slots as usize)
            }
        }
    }

    fn build(&mut self, members: &Members, now: Time) {
        self.built = Some((members.membership, now));
        // In an order that is the same everywhere.
        let mut all: Vec<(u64, u32, MemberId)> = members
            .all()
            .map(|index| {
                let (place, slot) =
                    (&members.places[index as usize], &members.slots[index as usize]);
                (place.name, slot.weight, members.id(index))
            })
            .collect();
        all.sort_unstable();
        self.members = all.iter().map(|&(_, _, id)| id).collect();
        let named: Vec<(u64, u64)> =
            all.iter().map(|&(name, weight, _)| (name, u64::from(weight))).collect();
        self.points.clear();
        self.owners.clear();
        match self.layout {
            Layout::Maglev => maglev(&named, &mut self.owners),
            Layout::Ring => ring(&named, &mut self.points, &mut self.owners),
        }
    }
}

/// Who gets a key if nobody near its slot can: the highest of random numbers that belong to the key
/// and to each ready member (rendezvous hashing). Few are ready then.
fn among_ready(members: &Members, ask: &Ask<'_>) -> u32 {
    let number = |&index: &u32| hash::point(members.places[index as usize].name, ask.key);
    let suits = |&index: &u32| (ask.suits)(members.id(index));
    let suiting = members.ready().filter(suits).max_by_key(number);
    suiting.or_else(|| members.ready().max_by_key(number)).unwrap_or_default()
}

/// Fills a table: whose turn it is takes the next slot of its own order that is free. Turns are by
/// weight, as in round robin.
fn maglev(members: &[(u64, u64)], owners: &mut Vec<u32>) {
    const FREE: u32 = u32::MAX;
    const TURN: u64 = 1 << 40;
    if members.is_empty() {
        return;
    }
    owners.resize(SLOTS, FREE);
    let order = |&(name, _): &(u64, u64)| {
        let slots = SLOTS as u64;
        let offset = hash::point(name, 0) % slots;
        let skip = hash::point(name, 1) % (slots - 1) + 1;
        (offset as usize, skip as usize)
    };
    let mut orders: Vec<(usize, usize)> = members.iter().map(order).collect();
    let turn = |member: usize| (TURN / members[member].1).max(1);
    let mut turns: BinaryHeap<Reverse<(u64, usize)>> =
        (0..members.len()).map(|member| Reverse((turn(member), member))).collect();
    for _ in 0..SLOTS {
        let Some(mut next) = turns.peek_mut() else { return };
        let Reverse((due, member)) = *next;
        *next = Reverse((due + turn(member), member));
        let (at, skip) = &mut orders[member];
        while owners[*at] != FREE {
            *at = (*at + *skip) % SLOTS;
        }
        owners[*at] = member as u32;
    }
}

/// Puts everybody's points on a ring. How many a member has depends on its own weight only, but for
/// the halving: so another's coming and going moves no key between those that stay.
fn ring(members: &[(u64, u64)], points: &mut Vec<u64>, owners: &mut Vec<u32>) {
    let most = (members.len() as u64 * MOST_POINTS).min(RING);
    let total: u64 = members.iter().map(|&(_, weight)| weight).sum();
    let halvings = (0..63).find(|&halvings| (total * POINTS) >> halvings <= most).unwrap_or(63);
    let of = |weight: u64| ((weight * POINTS) >> halvings).max(1);
    let mut all: Vec<(u64, u32)> = Vec::new();
    for (member, &(name, weight)) in members.iter().enumerate() {
        all.extend((0..of(weight)).map(|nth| (hash::point(name, nth), member as u32)));
    }
    all.sort_unstable();
    points.extend(all.iter().map(|&(point, _)| point));
    owners.extend(all.iter().map(|&(_, owner)| owner));
}
