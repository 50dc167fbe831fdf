//! Randomness from one seed, forked per component.

use core::hash::{BuildHasher, Hasher};

/// The one source of randomness that an engine is given. Two engines with the same seed and the
/// same inputs do the same things.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Seed(pub [u64; 2]);

impl Seed {
    /// A seed from one number, as simulations use it. A proxy on a network takes 128 bits from the
    /// operating system instead: hash keys come from the seed.
    pub const fn from_number(number: u64) -> Self {
        Seed([number, 0x9e37_79b9_7f4a_7c15])
    }
}

/// A small generator (xoshiro256**, Blackman and Vigna 2018). It decides balancing and jitter; it
/// makes no secrets.
#[derive(Clone, Debug)]
pub struct Rng {
    state: [u64; 4],
}

impl Rng {
    /// The generator of the component called `label`: the streams of two labels are independent.
    pub fn fork(seed: Seed, label: u64) -> Self {
        let mut mix = SplitMix(seed.0[0] ^ label.wrapping_mul(0xd6e8_feb8_6659_fd93));
        let other = SplitMix(seed.0[1]).next();
        let mut state = [mix.next(), mix.next() ^ other, mix.next(), mix.next()];
        // The all-zero state is the one that never leaves itself.
        state[0] |= 1;
        Rng { state }
    }

    /// 64 uniform bits.
    pub fn next_u64(&mut self) -> u64 {
        let s = &mut self.state;
        let result = s[1].wrapping_mul(5).rotate_left(7).wrapping_mul(9);
        let t = s[1] << 17;
        s[2] ^= s[0];
        s[3] ^= s[1];
        s[1] ^= s[2];
        s[0] ^= s[3];
        s[2] ^= t;
        s[3] = s[3].rotate_left(45);
        result
    }

    /// Uniform in `0..bound`; 0 if `bound` is 0. Multiply-shift: the bias is below 2⁻³² for every
    /// bound that a proxy meets.
    pub fn below(&mut self, bound: u64) -> u64 {
        ((u128::from(self.next_u64()) * u128::from(bound)) >> 64) as u64
    }

    /// Uniform in `[0, 1)`.
    pub fn unit(&mut self) -> f64 {
        (self.next_u64() >> 11) as f64 * (1.0 / (1_u64 << 53) as f64)
    }
}

/// SplitMix64 (Steele, Lea and Flood 2014), which turns weak seeds into good states.
struct SplitMix(u64);

impl SplitMix {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }
}

/// Keys the maps that a peer can fill: SipHash under a key from the seed, so that nobody
/// outside can choose colliding keys.
#[derive(Clone)]
pub struct KeyedState {
    keys: [u64; 2],
}

impl KeyedState {
    /// Draws a key.
    pub fn new(rng: &mut Rng) -> Self {
        KeyedState { keys: [rng.next_u64(), rng.next_u64()] }
    }
}

impl BuildHasher for KeyedState {
    type Hasher = KeyedHasher;
    #[expect(deprecated, reason = "core's SipHasher13 is not public; SipHasher is 2-4 and stable")]
    fn build_hasher(&self) -> KeyedHasher {
        KeyedHasher(core::hash::SipHasher::new_with_keys(self.keys[0], self.keys[1]))
    }
}

/// See [`KeyedState`].
#[derive(Clone)]
#[expect(deprecated, reason = "stable, keyed, and in core")]
pub struct KeyedHasher(core::hash::SipHasher);

impl Hasher for KeyedHasher {
    fn write(&mut self, bytes: &[u8]) {
        self.0.write(bytes);
    }
    fn finish(&self) -> u64 {
        self.0.finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_fork_independent_streams() {
        let seed = Seed::from_number(7);
        let (mut a, mut b, mut c) = (Rng::fork(seed, 1), Rng::fork(seed, 1), Rng::fork(seed, 2));
        let draw = |rng: &mut Rng| [rng.next_u64(), rng.next_u64(), rng.next_u64()];
        let first = draw(&mut a);
        assert_eq!(first, draw(&mut b));
        assert_ne!(first, draw(&mut c));
    }

    #[test]
    fn below_stays_below_and_reaches_every_value() {
        let mut rng = Rng::fork(Seed::from_number(1), 0);
        let mut seen = [0_u32; 5];
        for _ in 0..10_000 {
            seen[rng.below(5) as usize] += 1;
        }
        assert!(seen.iter().all(|&n| (1_800..2_200).contains(&n)), "{seen:?}");
        assert_eq!(rng.below(0), 0);
        assert!((0..1000).all(|_| (0.0..1.0).contains(&rng.unit())));
    }
}
