//! What each client has sent: a table that no number of clients makes larger than it may be.

use alloc::vec::Vec;
use core::fmt;
use core::hash::BuildHasher;
use core::net::IpAddr;

use hashbrown::HashTable;

use super::{Client, Expected};
use crate::identity::Name;
use crate::rng::KeyedState;
use crate::time::Time;

/// Clients that are remembered one by one, a port and worker. One that has sent nothing for a second
/// needs no memory, so this many have to be active at once before any of them shares.
const MOST: usize = 10_000;

/// What those beyond share, by their hash. Somebody with any number of addresses gets this many
/// clients' worth at most, and takes nothing from those that are remembered.
const SHARED: usize = 256;

/// Entries that each new client looks at for those that need not be remembered. One of them may be the
/// client before, which took the place of one that was forgotten; of the others more than one, so the
/// table shrinks while clients come and go.
const SWEEP: usize = 3;

/// A client as it is remembered.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum Key {
    Identity(Name),
    V4(u32),
    /// Its /64.
    V6(u64),
}

impl Key {
    pub(super) fn of(client: Client<'_>) -> Key {
        match (client.identity, client.addr.to_canonical()) {
            (Some(name), _) => Key::Identity(name.clone()),
            (None, IpAddr::V4(addr)) => Key::V4(addr.to_bits()),
            (None, IpAddr::V6(addr)) => Key::V6((addr.to_bits() >> 64) as u64),
        }
    }
}

pub(super) struct Clients {
    keys: KeyedState,
    /// Where a key is in `entries`.
    table: HashTable<u32>,
    entries: Vec<(Key, Expected)>,
    /// Empty until they are needed.
    shared: Vec<Expected>,
    /// The entry that is looked at next.
    hand: usize,
}

impl fmt::Debug for Clients {
    // The keys are nobody's business.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Clients").field("entries", &self.entries.len()).finish_non_exhaustive()
    }
}

impl Clients {
    pub(super) fn new(keys: KeyedState) -> Self {
        let (table, entries, shared) = (HashTable::new(), Vec::new(), Vec::new());
        Clients { keys, table, entries, shared, hand: 0 }
    }

    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    /// What is expected of a client.
    pub(super) fn get(&mut self, key: Key, now: Time) -> &mut Expected {
        let hash = self.keys.hash_one(&key);
        let known = self.table.find(hash, |&at| self.entries[at as usize].0 == key);
        if let Some(&at) = known {
            return &mut self.entries[at as usize].1;
        }
        for _ in 0..SWEEP {
            self.sweep(now);
        }
        if self.entries.len() >= MOST {
            self.shared.resize(SHARED, Time::ZERO);
            return &mut self.shared[hash as usize % SHARED];
        }
        let (at, entries, keys) = (self.entries.len(), &mut self.entries, &self.keys);
        entries.push((key, Time::ZERO));
        let hash_of = |&at: &u32| keys.hash_one(&entries[at as usize].0);
        self.table.insert_unique(hash, at as u32, hash_of);
        &mut self.entries[at].1
    }

    /// Forgets the next entry if its client has sent nothing for so long that it is as if it were new.
    fn sweep(&mut self, now: Time) {
        if self.hand >= self.entries.len() {
            self.hand = 0;
        }
        match self.entries.get(self.hand) {
            Some((_, expected)) if *expected <= now => {}
            _ => {
                self.hand += 1;
                return;
            }
        }
        let last = self.entries.len() - 1;
        self.forget(self.hand);
        if self.hand != last {
            // The last one is in its place now.
            let hash = self.keys.hash_one(&self.entries[last].0);
            if let Ok(moved) = self.table.find_entry(hash, |&at| at as usize == last) {
                *moved.into_mut() = self.hand as u32;
            }
        }
        self.entries.swap_remove(self.hand);
    }

    /// Takes an entry out of the table.
    fn forget(&mut self, index: usize) {
        let hash = self.keys.hash_one(&self.entries[index].0);
        if let Ok(entry) = self.table.find_entry(hash, |&at| at as usize == index) {
            entry.remove();
        }
    }

    pub(super) fn heap_bytes(&self) -> usize {
        size_of::<(Key, Expected)>() * self.entries.capacity()
            + size_of::<Expected>() * self.shared.capacity()
            + (size_of::<u32>() + 1) * self.table.capacity()
    }
}
