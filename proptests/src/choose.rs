//! Where the choices of a script or a simulation come from.

use selvedge_core::rng::{Rng, Seed};

/// A source of choices. In every choice 0 is the dullest one, so that a source that has run out
/// brings a script to its end, and a shrinker makes it simpler.
pub trait Choose {
    /// A number below `bound`; 0 if that is 0 or 1.
    fn below(&mut self, bound: usize) -> usize;

    /// Nothing is left: the script should come to its end.
    fn is_exhausted(&self) -> bool;

    /// The same, for one of the few choices that an exhaustive enumeration covers.
    fn focus(&mut self, bound: usize) -> usize {
        self.below(bound)
    }

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

/// Choices that were made before, for shrinking and for replaying what was shrunk. When they have
/// run out, every choice is 0.
#[derive(Debug)]
pub struct Replay<'a>(&'a [u32]);

impl<'a> Replay<'a> {
    /// These choices.
    pub fn new(choices: &'a [u32]) -> Self {
        Replay(choices)
    }
}

impl Choose for Replay<'_> {
    fn below(&mut self, bound: usize) -> usize {
        if bound < 2 {
            return 0;
        }
        let Some((&choice, rest)) = self.0.split_first() else { return 0 };
        self.0 = rest;
        choice as usize % bound
    }

    fn is_exhausted(&self) -> bool {
        self.0.is_empty()
    }
}

/// Notes the choices that another source makes.
pub struct Recorder<'a> {
    source: &'a mut dyn Choose,
    /// Those that had more than one answer.
    pub choices: Vec<u32>,
}

impl<'a> Recorder<'a> {
    /// Notes what `source` chooses.
    pub fn new(source: &'a mut dyn Choose) -> Self {
        Recorder { source, choices: Vec::new() }
    }
}

impl Choose for Recorder<'_> {
    fn below(&mut self, bound: usize) -> usize {
        let choice = self.source.below(bound);
        if bound > 1 {
            self.choices.push(choice as u32);
        }
        choice
    }

    fn is_exhausted(&self) -> bool {
        self.source.is_exhausted()
    }
}

/// Every combination of the choices that are made through [`Choose::focus`], one after another, as
/// an odometer counts. Every other choice is that of a seed, the same in every combination.
#[derive(Debug)]
pub struct Odometer {
    /// Each choice so far, and its bound.
    digits: Vec<(usize, usize)>,
    at: usize,
    seed: u64,
    others: Seeded,
}

impl Odometer {
    /// The first combination.
    pub fn new(seed: u64) -> Self {
        Odometer { digits: Vec::new(), at: 0, seed, others: Seeded::new(seed) }
    }

    /// Goes on to the next combination; false if there is none.
    pub fn advance(&mut self) -> bool {
        self.at = 0;
        self.others = Seeded::new(self.seed);
        while let Some((digit, bound)) = self.digits.last_mut() {
            if *digit + 1 < *bound {
                *digit += 1;
                return true;
            }
            self.digits.pop();
        }
        false
    }
}

impl Choose for Odometer {
    fn below(&mut self, bound: usize) -> usize {
        self.others.below(bound)
    }

    fn focus(&mut self, bound: usize) -> usize {
        if self.at == self.digits.len() {
            self.digits.push((0, bound));
        }
        let (digit, _) = self.digits[self.at];
        self.at += 1;
        digit
    }

    fn is_exhausted(&self) -> bool {
        false
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
    fn what_was_recorded_is_replayed() {
        let draw = |choose: &mut dyn Choose| [choose.below(9), choose.below(1), choose.below(300)];
        let mut seeded = Seeded::new(5);
        let mut recorder = Recorder::new(&mut seeded);
        let first = draw(&mut recorder);
        let choices = recorder.choices;
        assert_eq!(choices.len(), 2);
        let mut replay = Replay::new(&choices);
        assert_eq!((draw(&mut replay), replay.is_exhausted()), (first, true));
    }

    #[test]
    fn an_odometer_shows_every_combination_once() {
        let mut odometer = Odometer::new(0);
        let mut seen = Vec::new();
        loop {
            let first = odometer.focus(3);
            // How many follow depends on what came before.
            let rest: Vec<usize> = (0..first).map(|_| odometer.focus(2)).collect();
            seen.push((first, rest));
            if !odometer.advance() {
                break;
            }
        }
        assert_eq!(seen.len(), 1 + 2 + 4);
        seen.dedup();
        assert_eq!(seen.len(), 7);
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
