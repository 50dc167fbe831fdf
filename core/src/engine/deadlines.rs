//! One deadline per slot of a slab, re-armed lazily.

use alloc::collections::BinaryHeap;
use alloc::vec::Vec;
use core::cmp::Reverse;

use crate::time::Time;

/// The deadlines of one kind of thing, by its index.
///
/// A deadline that moves later (the usual case: activity) costs two stores: the heap keeps the
/// earlier entry, and when that comes up it is pushed again at the true time. The entry even
/// outlives the thing, and serves the next one in the same slot.
#[derive(Debug, Default)]
pub(crate) struct Deadlines {
    slots: Vec<Slot>,
    heap: BinaryHeap<Reverse<(Time, u32)>>,
}

#[derive(Clone, Copy, Debug)]
struct Slot {
    /// When it is really due; `MAX`: never.
    due: Time,
    /// The earliest heap entry for this slot that counts; `MAX`: none.
    armed: Time,
}

impl Deadlines {
    /// Sets the deadline of `index`, in whole milliseconds.
    pub(crate) fn set(&mut self, index: u32, due: Time) {
        let due = due.ceil_millis();
        match self.slots.get_mut(index as usize) {
            Some(slot) if slot.armed <= due => slot.due = due,
            _ => self.arm(index, due),
        }
    }

    /// The same, for a deadline before which the heap has no entry.
    #[inline(never)]
    fn arm(&mut self, index: u32, due: Time) {
        let at = index as usize;
        if at >= self.slots.len() {
            self.slots.resize(at + 1, Slot { due: Time::MAX, armed: Time::MAX });
        }
        self.slots[at] = Slot { due, armed: due };
        if due == Time::MAX {
            return;
        }
        self.heap.push(Reverse((due, index)));
        if self.heap.len() > 2 * self.slots.len() + 64 {
            self.rebuild();
        }
    }

    /// Leaves one entry per deadline: those that were overtaken by earlier ones pile up behind.
    fn rebuild(&mut self) {
        self.heap.clear();
        for (index, slot) in self.slots.iter_mut().enumerate() {
            slot.armed = slot.due;
            if slot.due != Time::MAX {
                self.heap.push(Reverse((slot.due, index as u32)));
            }
        }
    }

    /// `index` has no deadline any more.
    pub(crate) fn clear(&mut self, index: u32) {
        if let Some(slot) = self.slots.get_mut(index as usize) {
            slot.due = Time::MAX;
        }
    }

    /// Has `index` a deadline?
    pub(crate) fn is_set(&self, index: u32) -> bool {
        self.slots.get(index as usize).is_some_and(|slot| slot.due != Time::MAX)
    }

    /// The earliest deadline.
    pub(crate) fn next(&mut self) -> Option<Time> {
        while let Some(&Reverse((at, index))) = self.heap.peek() {
            let slot = &mut self.slots[index as usize];
            if slot.armed == at && slot.due <= at {
                return Some(at);
            }
            // Out of date: a duplicate, or the deadline has moved.
            self.heap.pop();
            if slot.armed == at {
                slot.armed = slot.due;
                if slot.due != Time::MAX {
                    self.heap.push(Reverse((slot.due, index)));
                }
            }
        }
        None
    }

    /// Takes a deadline that `now` has reached, and clears it.
    pub(crate) fn pop(&mut self, now: Time) -> Option<u32> {
        if self.next()? > now {
            return None;
        }
        let Reverse((_, index)) = self.heap.pop()?;
        self.slots[index as usize] = Slot { due: Time::MAX, armed: Time::MAX };
        Some(index)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng::{Rng, Seed};

    fn ms(n: u64) -> Time {
        Time::from_nanos(n * 1_000_000)
    }

    #[test]
    fn moving_a_deadline_later_adds_no_entry() {
        let mut deadlines = Deadlines::default();
        for n in 1..1000 {
            deadlines.set(0, ms(n));
        }
        assert_eq!(deadlines.heap.len(), 1);
        assert_eq!(deadlines.next(), Some(ms(999)));
        deadlines.clear(0);
        assert_eq!(deadlines.next(), None);
    }

    /// Against a plain array, over random operations.
    #[test]
    fn behaves_like_an_array() {
        let mut rng = Rng::fork(Seed::from_number(3), 0);
        let mut model = [None; 8];
        let mut deadlines = Deadlines::default();
        let mut now = Time::ZERO;
        for _ in 0..100_000 {
            let index = rng.below(8) as u32;
            match rng.below(4) {
                0 | 1 => {
                    let due = (now + ms(rng.below(50)).saturating_since(Time::ZERO)).ceil_millis();
                    deadlines.set(index, due);
                    model[index as usize] = Some(due);
                }
                2 => {
                    deadlines.clear(index);
                    model[index as usize] = None;
                }
                _ => {
                    now = ms(now.as_nanos() / 1_000_000 + rng.below(10));
                    while let Some(fired) = deadlines.pop(now) {
                        let due = model[fired as usize].take();
                        assert!(due.is_some_and(|due| due <= now));
                    }
                    assert!(model.iter().flatten().all(|&due| due > now));
                }
            }
            assert_eq!(deadlines.next(), model.iter().flatten().min().copied());
            assert!(deadlines.heap.len() < 100, "entries must not pile up");
        }
    }
}
