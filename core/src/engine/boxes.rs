//! Boxes that are used again.

use alloc::boxed::Box;
use alloc::vec::Vec;

/// A few boxes that wait for their next use: what requests come and go with need not be allocated for
/// each.
#[derive(Debug)]
#[allow(clippy::vec_box, reason = "they are handed out as they are")]
pub(super) struct Boxes<T>(Vec<Box<T>>);

impl<T> Boxes<T> {
    const COUNT: usize = 64;

    /// A box with this in it.
    #[allow(clippy::unnecessary_box_returns, reason = "it is what is wanted")]
    pub(super) fn fill(&mut self, value: T) -> Box<T> {
        match self.0.pop() {
            Some(mut used) => {
                *used = value;
                used
            }
            None => Box::new(value),
        }
    }

    /// One with whatever was in it before.
    pub(super) fn get(&mut self) -> Option<Box<T>> {
        self.0.pop()
    }

    /// Keeps a box that is not needed any more, with what is in it.
    pub(super) fn put(&mut self, used: Box<T>) {
        if self.0.len() < Self::COUNT {
            self.0.push(used);
        }
    }

    /// Gives them back to the allocator.
    pub(super) fn clear(&mut self) {
        self.0.clear();
    }
}

impl<T> Default for Boxes<T> {
    fn default() -> Self {
        Boxes(Vec::new())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_box_is_used_again_and_only_so_many_wait() {
        let mut boxes = Boxes::default();
        let first = boxes.fill(1);
        let place = &raw const *first;
        boxes.put(first);
        let second = boxes.fill(2);
        assert_eq!((&raw const *second, *second), (place, 2));
        (0..100).for_each(|n| boxes.put(Box::new(n)));
        assert_eq!(core::iter::from_fn(|| boxes.get()).count(), Boxes::<i32>::COUNT);
        assert!(boxes.get().is_none());
    }
}
