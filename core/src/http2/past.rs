//! What is remembered of streams that are over, or that never were.

use alloc::collections::VecDeque;
use alloc::vec::Vec;

/// Identifiers of both kinds, as far as they are remembered.
#[derive(Debug, Default)]
pub(crate) struct Past {
    /// Streams that we reset lately: what still comes for them is nobody's fault. First and last of
    /// those that follow one another.
    reset: VecDeque<(u32, u32)>,
    /// The last of those that are not remembered any more.
    forgotten: u32,
    /// Identifiers that the peer passed over: they are closed (RFC 9113 §5.1.1).
    passed_over: Vec<(u32, u32)>,
}

impl Past {
    /// 1 KiB.
    const RESETS: usize = 128;
    /// Peers do not pass over ids, but a test may.
    const PASSED_OVER: usize = 16;

    /// A stream was reset. Those that were opened one after another are often reset one after
    /// another, too.
    pub(crate) fn note_reset(&mut self, id: u32) {
        if let Some((first, last)) = self.reset.back_mut() {
            if id == *last + 2 {
                *last = id;
                return;
            }
            if id + 2 == *first {
                *first = id;
                return;
            }
        }
        if self.reset.len() == Self::RESETS
            && let Some((_, last)) = self.reset.pop_front()
        {
            self.forgotten = self.forgotten.max(last);
        }
        self.reset.push_back((id, id));
    }

    /// Did we reset this stream lately?
    pub(crate) fn was_reset(&self, id: u32) -> bool {
        let among = |&(first, last): &(u32, u32)| {
            (first..=last).contains(&id) && (id - first).is_multiple_of(2)
        };
        self.reset.iter().any(among)
    }

    /// Is it possible that we reset this stream?
    pub(crate) fn may_have_reset(&self, id: u32) -> bool {
        id <= self.forgotten || self.was_reset(id)
    }

    /// The peer opened `id` next after `last` (0: none).
    pub(crate) fn note_opened(&mut self, last: u32, id: u32) {
        let next = if last == 0 { 1 } else { last + 2 };
        if id > next && self.passed_over.len() < Self::PASSED_OVER {
            self.passed_over.push((next, id));
        }
    }

    /// Did the peer pass this one over?
    pub(crate) fn was_passed_over(&self, id: u32) -> bool {
        self.passed_over.iter().any(|&(from, to)| (from..to).contains(&id))
    }

    /// Heap bytes.
    pub(crate) fn heap_bytes(&self) -> usize {
        8 * (self.reset.capacity() + self.passed_over.capacity())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn resets_in_a_row_take_one_place() {
        let mut past = Past::default();
        (0..5000).for_each(|n| past.note_reset(2 * n + 1));
        (0..5000).rev().for_each(|n| past.note_reset(2 * n + 20_001));
        assert_eq!(past.reset, [(1, 9999), (20_001, 29_999)]);
        assert!(past.was_reset(5001) && !past.was_reset(5002) && !past.was_reset(10_001));
    }

    #[test]
    fn the_oldest_is_forgotten_first() {
        let mut past = Past::default();
        (0..=Past::RESETS as u32).for_each(|n| past.note_reset(4 * n + 1));
        assert!(!past.was_reset(1) && past.was_reset(5));
        assert!(past.may_have_reset(1) && past.may_have_reset(5) && !past.may_have_reset(7));
        assert!(past.heap_bytes() <= 1024);
    }

    #[test]
    fn what_was_passed_over_is_not_what_was_opened() {
        let mut past = Past::default();
        for (last, id) in [(0, 1), (1, 7), (7, 9)] {
            past.note_opened(last, id);
        }
        let over: Vec<u32> = (1..12).step_by(2).filter(|&id| past.was_passed_over(id)).collect();
        assert_eq!(over, [3, 5]);
    }
}
