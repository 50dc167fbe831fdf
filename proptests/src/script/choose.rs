//! Where a script's choices come from.

use selvedge_core::rng::{Rng, Seed};

/// A source of choices. In every choice 0 is the dullest one, so that a source that has run out
/// brings a script to its end, and a shrinker makes it simpler.
pub trait Choose {
    /// A number below `bound`; 0 if that is 0 or 1.
    fn below(&mut self, bound: usize) -> usize;

    /// Nothing is left: the script should come to its end.
    fn is_exhausted(&self) -> bool;

    /// Yes or no.
    fn flip(&mut self) -> bool {
        self.below(2) == 1
    }

    /// Yes, once in `n` times.
    fn one_in(&mut self, n: usize) -> bool {
        n > 0 && self.below(n) == n - 1
    }

    /// A number from `min` to `max`, both included.
    fn within(&mut self, min: usize, max: usize) -> usize {
        min + self.below(max.saturating_sub(min) + 1)
    }
}

/// One of `items`, which are not none.
pub fn pick<T: Copy>(choose: &mut dyn Choose, items: &[T]) -> T {
    items[choose.below(items.len())]
}

/// An index of `weights`, as often as its weight says.
pub fn weighted(choose: &mut dyn Choose, weights: &[usize]) -> usize {
    let mut point = choose.below(weights.iter().sum());
    for (index, &weight) in weights.iter().enumerate() {
        if point < weight {
            return index;
        }
        point -= weight;
    }
    0
}

/// Choices from a seed; they never run out.
#[derive(Debug)]
pub struct Seeded(Rng);

impl Seeded {
    /// The choices of this seed.
    pub fn new(seed: u64) -> Self {
        Seeded(Rng::fork(Seed::from_number(seed), 0x005c_7197))
    }
}

impl Choose for Seeded {
    fn below(&mut self, bound: usize) -> usize {
        self.0.below(bound as u64) as usize
    }

    fn is_exhausted(&self) -> bool {
        false
    }
}

/// Choices from bytes, as a fuzzer makes them. When they have run out, every choice is 0.
#[derive(Debug)]
pub struct Bytes<'a>(&'a [u8]);

impl<'a> Bytes<'a> {
    /// The choices that these bytes are.
    pub fn new(bytes: &'a [u8]) -> Self {
        Bytes(bytes)
    }
}

impl Choose for Bytes<'_> {
    fn below(&mut self, bound: usize) -> usize {
        let (mut number, mut reach) = (0, 1);
        while reach < bound {
            let Some((&byte, rest)) = self.0.split_first() else { break };
            self.0 = rest;
            number = number << 8 | usize::from(byte);
            reach <<= 8;
        }
        number.checked_rem(bound).unwrap_or(0)
    }

    fn is_exhausted(&self) -> bool {
        self.0.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_used_up_and_then_zeros() {
        let mut bytes = Bytes::new(&[7, 1, 0, 9]);
        assert_eq!((bytes.below(1), bytes.below(5), bytes.below(300)), (0, 2, 256));
        assert!(!bytes.is_exhausted());
        assert_eq!((bytes.below(1000), bytes.below(10)), (9, 0));
        assert!(bytes.is_exhausted());
    }

    #[test]
    fn weights_decide_how_often() {
        let mut seeded = Seeded::new(1);
        let mut seen = [0; 3];
        for _ in 0..4000 {
            seen[weighted(&mut seeded, &[3, 0, 1])] += 1;
        }
        assert!(seen[1] == 0 && (800..1200).contains(&seen[2]), "{seen:?}");
    }
}
