//! What happened in a run: a fingerprint, and a time line for people.

use std::fmt::Display;

use selvedge_core::time::Time;

/// A fingerprint of everything that happened, the same on every machine.
///
/// FNV-1a over 64-bit words (Fowler, Noll, Vo), with a rotation: a product alone carries nothing to
/// the lower bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fingerprint(pub u64);

impl Default for Fingerprint {
    fn default() -> Self {
        Fingerprint(0xcbf2_9ce4_8422_2325)
    }
}

impl Fingerprint {
    /// Adds a number.
    #[inline]
    pub fn word(&mut self, word: u64) {
        self.0 = (self.0 ^ word).wrapping_mul(0x0000_0100_0000_01b3).rotate_left(29);
    }

    /// Adds bytes: their number and up to [`Fingerprint::SEEN`] of them. What a body is made of is
    /// checked by its reader; the head of a message is what differs.
    pub fn bytes(&mut self, bytes: &[u8]) {
        self.word(bytes.len() as u64);
        for chunk in bytes[..bytes.len().min(Self::SEEN)].chunks(8) {
            let mut word = [0; 8];
            word[..chunk.len()].copy_from_slice(chunk);
            self.word(u64::from_le_bytes(word));
        }
    }

    /// How many bytes of a piece are looked at.
    pub const SEEN: usize = 64;
}

/// The fingerprint, and whether somebody reads along.
#[derive(Debug, Default)]
pub(super) struct Trace {
    pub(super) hash: Fingerprint,
    /// Tell people.
    pub(super) shown: bool,
}

impl Trace {
    /// Tells who did what, when.
    #[inline]
    pub(super) fn line(&self, now: Time, who: impl Display, what: impl FnOnce() -> String) {
        if self.shown {
            let nanos = now.as_nanos();
            let (secs, micros) = (nanos / 1_000_000_000, nanos / 1_000 % 1_000_000);
            println!("{secs:>6}.{micros:06}  {:<12} {}", who.to_string(), what());
        }
    }
}
