//! Where the encoder finds the entries of its table.

use alloc::vec::Vec;

use super::hash::hash;
use super::names;
use super::table::{Place, Table};

/// Finds entries by the hash of name and value, and of name alone.
///
/// A hash may have any of a few places from its first one on. So what is looked for costs that many
/// comparisons of a tag, and one of strings as a rule, whatever a peer sends.
#[derive(Debug, Default)]
pub(super) struct Index {
    /// A power of two of them.
    slots: Vec<Slot>,
    /// How many entries were ever inserted: the newest is this less 1. It wraps around.
    inserted: u16,
}

/// A hash's [`tag`], and which entry has it. What is found is compared, so that one that is gone does
/// no harm.
#[derive(Clone, Copy, Debug, Default)]
struct Slot {
    tag: u16,
    entry: u16,
}

/// How many places a hash has.
const PLACES: usize = 8;

const FIRST_SLOTS: usize = 16;

/// An entry has two hashes at most; with a third of the slots free, places are rarely all taken.
const SLOTS_PER_ENTRY: usize = 3;

/// Where places are all taken even so, hashes were made to collide: then nothing is done about it.
const MAX_SLOTS_PER_ENTRY: usize = 8;

impl Index {
    /// An entry of this hash that `is_it` accepts: how many are newer.
    #[inline]
    pub(super) fn find(
        &self,
        table: &Table,
        hash: u64,
        is_it: impl Fn(Place) -> bool,
    ) -> Option<usize> {
        let mask = self.slots.len().wrapping_sub(1);
        for step in 0..PLACES {
            let slot = self.slots.get(first(hash).wrapping_add(step) & mask)?;
            if slot.tag == tag(hash) {
                let nth = self.age(slot.entry);
                if table.place(nth).is_some_and(&is_it) {
                    return Some(nth);
                }
            } else if slot.tag == FREE {
                return None;
            }
        }
        None
    }

    /// The newest entry of `table` has this hash; and its name this one, if that is given.
    pub(super) fn insert(&mut self, table: &Table, hash: u64, name_hash: Option<u64>) {
        self.inserted = self.inserted.wrapping_add(1);
        if self.slots.len() < FIRST_SLOTS.max(SLOTS_PER_ENTRY * table.len()) {
            return self.grow(table);
        }
        let newest = self.entry(0);
        for hash in [Some(hash), name_hash].into_iter().flatten() {
            let full = self.put(table, hash, newest).is_err();
            if full && self.slots.len() < MAX_SLOTS_PER_ENTRY * table.len() {
                return self.grow(table);
            }
        }
    }

    /// Puts an entry into one of the places of `hash`, if they are not all taken.
    fn put(&mut self, table: &Table, hash: u64, entry: u16) -> Result<(), Full> {
        let mask = self.slots.len() - 1;
        for step in 0..PLACES {
            let at = first(hash).wrapping_add(step) & mask;
            let slot = self.slots[at];
            // The same tag is the same name: the newest entry of a name stays longest.
            if slot.tag == FREE || slot.tag == tag(hash) || self.age(slot.entry) >= table.len() {
                self.slots[at] = Slot { tag: tag(hash), entry };
                return Ok(());
            }
        }
        Err(Full)
    }

    /// Makes more room, and finds all entries anew, the newest last. One whose places are taken even
    /// then is not found again: that costs what it saved, no more.
    fn grow(&mut self, table: &Table) {
        let count = (2 * self.slots.len()).max(FIRST_SLOTS);
        self.slots.clear();
        self.slots.resize(count, Slot::default());
        for nth in (0..table.len()).rev() {
            let Some(place) = table.place(nth) else { continue };
            let name_hash = hash(0, table.bytes(place.name));
            let entry = self.entry(nth);
            let _ = self.put(table, hash(name_hash, table.bytes(place.value)), entry);
            if !names::is_static(place.label) {
                let _ = self.put(table, name_hash, entry);
            }
        }
    }

    /// How many entries are newer than this one, or would be if it is gone.
    #[inline]
    pub(super) fn age(&self, entry: u16) -> usize {
        usize::from(self.inserted.wrapping_sub(entry).wrapping_sub(1))
    }

    /// The entry than which so many are newer.
    #[inline]
    pub(super) fn entry(&self, nth: usize) -> u16 {
        self.inserted.wrapping_sub(nth as u16).wrapping_sub(1)
    }

    pub(super) fn heap_bytes(&self) -> usize {
        self.slots.capacity() * size_of::<Slot>()
    }
}

const FREE: u16 = 0;

/// All places of a hash are taken.
struct Full;

/// Some bits of a hash, not [`FREE`].
#[inline]
fn tag(hash: u64) -> u16 {
    (hash >> 48) as u16 | 1
}

/// The first place of a hash, but for the number of slots.
#[inline]
fn first(hash: u64) -> usize {
    (hash >> 24) as usize
}
