//! Round robin: one after the other, by weight, and smoothly.

use alloc::collections::BinaryHeap;
use alloc::vec::Vec;
use core::cmp::Reverse;

use super::Why;
use super::choose::{Ask, Choose};
use super::members::{Members, WHOLE};

/// Every member has the time of its next turn on a clock that only turns move. Whose time is next gets
/// the request, and its next turn is `1 / weight` later: a member of weight 2 has two turns in the
/// time of one of weight 1, and they are spread out, not in a row.
///
/// Who becomes ready begins at a random point of its turn: a thousand proxies that were told of the
/// same endpoints do not ask them in step.
#[derive(Clone, Debug, Default)]
pub(super) struct RoundRobin {
    /// The time of the next turn, by slot.
    due: Vec<u128>,
    /// The ready members of each zone.
    turns: [Turns; 2],
    /// The [`Members::readiness`] that this is about.
    readiness: u64,
}

#[derive(Clone, Debug, Default)]
struct Turns {
    queue: BinaryHeap<Reverse<(u128, u32)>>,
    /// The time of the turn that was taken last.
    clock: u128,
}

/// Between two turns of a member whose weight is 1.
const TURN: u128 = 1 << 40;

impl Choose for RoundRobin {
    /// O(log n), but for the first one after the ready set or a weight changed: that is O(n).
    fn choose(&mut self, members: &mut Members, ask: &mut Ask<'_>) -> (u32, Why) {
        if self.readiness != members.readiness {
            self.prepare(members, ask);
        }
        let zone = members.draw_zone(ask.rng);
        let Turns { queue, clock } = &mut self.turns[zone];
        let Some(mut next) = queue.peek_mut() else {
            return (members.draw_one(zone, ask.rng, ask.now), members.why(zone));
        };
        let Reverse((due, index)) = *next;
        *clock = due;
        let skips = if canary!(SkippedTurns) && index == 0 { 2 } else { 1 };
        let after = due + skips * turn(members, index, ask);
        *next = Reverse((after, index));
        self.due[index as usize] = after;
        (index, members.why(zone))
    }
}

impl RoundRobin {
    /// Members that stay keep their turns.
    fn prepare(&mut self, members: &Members, ask: &mut Ask<'_>) {
        self.readiness = members.readiness;
        self.due.resize(members.slots.len(), 0);
        for (turns, zone) in self.turns.iter_mut().zip(&members.zones) {
            // Its memory is used again.
            let mut queue = core::mem::take(&mut turns.queue).into_vec();
            queue.clear();
            queue.reserve(members.slots.len());
            for &index in &zone.ready {
                let due = &mut self.due[index as usize];
                let turn = turn(members, index, ask);
                if *due <= turns.clock || *due > turns.clock + turn {
                    *due = turns.clock + 1 + u128::from(ask.rng.below(turn as u64));
                }
                queue.push(Reverse((*due, index)));
            }
            turns.queue = queue.into();
        }
    }
}

/// From one turn of a member to its next: at least 1.
fn turn(members: &Members, index: u32, ask: &Ask<'_>) -> u128 {
    let weight = members.effective_weight(index, ask.now);
    (TURN * u128::from(WHOLE) / u128::from(weight)).max(1)
}
