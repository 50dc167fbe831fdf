//! A dynamic table (RFC 7541 §2.3.2, §4).

use alloc::collections::VecDeque;
use alloc::vec::Vec;
use core::ops::Range;

use super::ENTRY_OVERHEAD;

/// Entries over one arena of bytes. New ones are appended to it, name and value side by side; what
/// evicted ones leave at its beginning is closed when it is worth a copy.
///
/// ```text
///   arena: [ evicted | oldest | … | newest | literals of the field that is being read ]
/// ```
#[derive(Debug)]
pub(super) struct Table {
    arena: Vec<u8>,
    /// The newest first.
    entries: VecDeque<Entry>,
    /// What position the first byte of the arena has. Positions wrap around; only differences count.
    base: u32,
    /// The sum of all entries, each with [`ENTRY_OVERHEAD`].
    size: usize,
    max_size: usize,
}

#[derive(Clone, Copy, Debug)]
struct Entry {
    position: u32,
    name_len: u32,
    value_len: u32,
    /// What the table's owner knows about the name.
    label: u8,
    /// Which entry the owner expects after this one.
    next: u16,
}

const _: () = assert!(size_of::<Entry>() == 16);

/// Where an entry's name and value are in the arena.
#[derive(Clone, Debug)]
pub(super) struct Place {
    pub(super) name: Range<usize>,
    pub(super) value: Range<usize>,
    pub(super) label: u8,
}

/// What the first entry makes room for: growing from nothing would copy often.
const FIRST_ARENA: usize = 256;

/// So many bytes of evicted entries are left alone.
const DEAD_BYTES: usize = 128;

/// A literal in transit may leave the arena this large, so that each does not allocate anew.
const KEEP_BYTES: usize = 1024;

impl Table {
    /// An empty one; allocates nothing.
    pub(super) fn new(max_size: u32) -> Self {
        Table {
            arena: Vec::new(),
            entries: VecDeque::new(),
            base: 0,
            size: 0,
            max_size: max_size as usize,
        }
    }

    /// How many entries there are.
    #[inline]
    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    /// The size as RFC 7541 §4.1 counts it.
    pub(super) fn size(&self) -> usize {
        self.size
    }

    pub(super) fn max_size(&self) -> usize {
        self.max_size
    }

    pub(super) fn heap_bytes(&self) -> usize {
        self.arena.capacity() + self.entries.capacity() * size_of::<Entry>()
    }

    /// Where the `nth` entry is, 0 being the newest.
    #[inline]
    pub(super) fn place(&self, nth: usize) -> Option<Place> {
        let entry = self.entries.get(nth)?;
        let start = entry.position.wrapping_sub(self.base) as usize;
        let middle = start + entry.name_len as usize;
        let end = middle + entry.value_len as usize;
        Some(Place { name: start..middle, value: middle..end, label: entry.label })
    }

    /// What was last set as next to the `nth` entry.
    #[inline]
    pub(super) fn next(&self, nth: usize) -> u16 {
        self.entries.get(nth).map_or(0, |entry| entry.next)
    }

    pub(super) fn set_next(&mut self, nth: usize, next: u16) {
        if let Some(entry) = self.entries.get_mut(nth) {
            entry.next = next;
        }
    }

    /// Bytes of the arena.
    #[inline]
    pub(super) fn bytes(&self, range: Range<usize>) -> &[u8] {
        &self.arena[range]
    }

    /// The arena, to append to. What is appended becomes an entry or is cut off again.
    #[inline]
    pub(super) fn arena(&mut self) -> &mut Vec<u8> {
        if self.arena.capacity() == 0 {
            self.arena.reserve(FIRST_ARENA);
        }
        &mut self.arena
    }

    /// Where the arena ends.
    #[inline]
    pub(super) fn end(&self) -> usize {
        self.arena.len()
    }

    /// Cuts off what was appended from `end` on.
    #[inline]
    pub(super) fn truncate(&mut self, end: usize) {
        self.arena.truncate(end);
    }

    /// Makes an entry of the last bytes of the arena, and evicts what it displaces: everything if it
    /// is too large itself, and then it is not inserted (RFC 7541 §4.4).
    pub(super) fn insert(&mut self, name_len: usize, value_len: usize, label: u8) {
        let len = name_len + value_len;
        let size = len + ENTRY_OVERHEAD;
        let start = self.arena.len() - len;
        self.evict(self.max_size.saturating_sub(size));
        if size <= self.max_size {
            self.entries.push_front(Entry {
                position: self.base.wrapping_add(start as u32),
                name_len: name_len as u32,
                value_len: value_len as u32,
                label,
                next: 0,
            });
            self.size += size;
        } else {
            self.arena.truncate(start);
        }
        self.close_gap();
    }

    /// Evicts down to `max_size`, which holds from now on (RFC 7541 §4.3).
    pub(super) fn set_max_size(&mut self, max_size: u32) {
        self.max_size = max_size as usize;
        self.evict(self.max_size);
        self.close_gap();
    }

    /// Gives back what only large literals in transit needed.
    #[inline]
    pub(super) fn settle(&mut self) {
        if self.arena.capacity() > KEEP_BYTES {
            self.arena.shrink_to((2 * self.arena.len()).max(KEEP_BYTES));
        }
    }

    #[inline]
    fn evict(&mut self, max_size: usize) {
        while self.size > max_size {
            let Some(oldest) = self.entries.pop_back() else { return };
            self.size -= (oldest.name_len + oldest.value_len) as usize + ENTRY_OVERHEAD;
        }
    }

    /// Moves the entries to the beginning of the arena once the gap before them is half as long as
    /// they are: so a byte is moved twice at most for each that is inserted.
    #[inline]
    fn close_gap(&mut self) {
        let gap = match self.entries.back() {
            Some(oldest) => oldest.position.wrapping_sub(self.base) as usize,
            None => self.arena.len(),
        };
        if gap > DEAD_BYTES && 3 * gap > self.arena.len() || gap == self.arena.len() {
            self.arena.drain(..gap);
            self.base = self.base.wrapping_add(gap as u32);
        }
    }
}
