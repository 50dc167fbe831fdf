//! What adapters do with pipes: whether they have any, and what becomes of what is in them.

use super::fault::Fault;
use super::mix::{Mix, SPLICES};
use super::net::Net;
use crate::choose::{Choose, Seeded, pick};

/// What a tunnel carries that carries much: several pipes full.
const MUCH: usize = 1 << 20;
/// How often what goes wrong with pipes does: there are few of them in a run.
const RATES: [u16; 3] = [8, 3, 30];

/// When an adapter that may splice has a pipe.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Finds {
    /// Never.
    #[default]
    No,
    /// At times.
    Sometimes,
    /// Whenever it is not refused one.
    Always,
}

/// Choices of their own, which come of the number that the engines' seeds come of: a world without
/// [`Fault::Bulk`] is what it would be without them until something is spliced. One with it has other
/// links, tunnels or not: of a link nobody knows what it will carry when its qualities are drawn.
#[derive(Debug)]
pub(super) struct Splicing {
    pub(super) choose: Seeded,
    pub(super) finds: Finds,
}

impl Default for Splicing {
    /// Without pipes.
    fn default() -> Self {
        Splicing { choose: Seeded::new(0), finds: Finds::No }
    }
}

impl Splicing {
    /// Draws what the adapters of a world have, and what goes wrong with it beside what has to.
    pub(super) fn draw(seed: u64, mix: &mut Mix) -> Self {
        let mut choose = Seeded::new(seed ^ 0x5_711c_e5ee_d000);
        let styles = [Finds::No, Finds::Sometimes, Finds::Always, Finds::Always];
        let mut finds = pick(&mut choose, &styles);
        let asked = SPLICES.iter().any(|fault| fault != Fault::Bulk && mix.has(fault));
        if asked && finds == Finds::No {
            finds = Finds::Sometimes;
        }
        for fault in SPLICES.iter() {
            let often = if fault == Fault::Bulk { 8 } else { 3 };
            let (drawn, rate) = (choose.one_in(often), pick(&mut choose, &RATES));
            let may = fault == Fault::Bulk || finds != Finds::No;
            if drawn && may && !mix.has(fault) {
                mix.set(fault, rate);
            }
        }
        Splicing { choose, finds }
    }

    /// Is there a pipe now?
    pub(super) fn finds_one(&mut self) -> bool {
        match self.finds {
            Finds::No => false,
            Finds::Sometimes => self.choose.flip(),
            Finds::Always => true,
        }
    }

    /// How many bytes later something happens to a link, where much goes over some.
    pub(super) fn further(&mut self, mix: &Mix) -> u64 {
        let late = mix.has(Fault::Bulk) && self.choose.flip();
        if late { self.choose.below(MUCH) as u64 } else { 0 }
    }
}

impl Net<'_> {
    /// How much more than usual an end of a tunnel has to say.
    pub(super) fn much(&mut self) -> usize {
        let hit = !self.healed && self.mix.draws_once(&mut self.splicing.choose, Fault::Bulk);
        self.coverage.faults[Fault::Bulk as usize] += u64::from(hit);
        if hit { self.splicing.choose.within(MUCH / 8, MUCH) } else { 0 }
    }
}
