//! Traffic splits: which of several services a request of a route goes to.

use alloc::sync::Arc;
use alloc::vec::Vec;

use crate::rng::Rng;

/// How the requests of a route are shared out.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Split {
    /// All to the service of the route.
    #[default]
    None,
    /// At random by weight, among those that are available; if none is, by weight among all.
    Weighted(Vec<Backend>),
    /// All to the first that is available; if none is, to the first.
    FirstAvailable(Vec<Backend>),
}

/// One of the services of a split.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Backend {
    /// Its name.
    pub service: Arc<str>,
    /// Its share, relative to the others; 0 gets nothing. Not used by [`Split::FirstAvailable`].
    pub weight: u32,
}

impl Split {
    /// The services that requests may go to.
    pub fn backends(&self) -> &[Backend] {
        match self {
            Split::None => &[],
            Split::Weighted(backends) | Split::FirstAvailable(backends) => backends,
        }
    }

    /// Draws a backend; `None` if there is none with a share.
    pub fn draw(
        &self,
        rng: &mut Rng,
        mut is_available: impl FnMut(&Backend) -> bool,
    ) -> Option<&Backend> {
        match self {
            Split::None => None,
            Split::FirstAvailable(backends) => {
                backends.iter().find(|backend| is_available(backend)).or(backends.first())
            }
            Split::Weighted(backends) => {
                let available: u64 = backends
                    .iter()
                    .filter(|backend| is_available(backend))
                    .map(|backend| u64::from(backend.weight))
                    .sum();
                if available > 0 {
                    at(backends, rng.below(available), is_available)
                } else {
                    let all = backends.iter().map(|backend| u64::from(backend.weight)).sum();
                    at(backends, rng.below(all), |_| true)
                }
            }
        }
    }
}

/// The backend that owns this point of those that count.
fn at(
    backends: &[Backend],
    mut point: u64,
    mut counts: impl FnMut(&Backend) -> bool,
) -> Option<&Backend> {
    backends.iter().find(|backend| {
        let share = if counts(backend) { u64::from(backend.weight) } else { 0 };
        let owns = point < share;
        point = point.saturating_sub(share);
        owns
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng::Seed;

    fn backends(shares: &[(&str, u32)]) -> Vec<Backend> {
        shares
            .iter()
            .map(|&(service, weight)| Backend { service: service.into(), weight })
            .collect()
    }

    /// How many of 10,000 draws went to each.
    fn shares(split: &Split, down: &str) -> Vec<u32> {
        let mut rng = Rng::fork(Seed::from_number(1), 1);
        let mut counts = alloc::vec![0; split.backends().len()];
        for _ in 0..10_000 {
            let drawn = split.draw(&mut rng, |backend| &*backend.service != down);
            let drawn = drawn.expect("a backend");
            let index = split.backends().iter().position(|backend| backend == drawn);
            counts[index.expect("one of them")] += 1;
        }
        counts
    }

    #[test]
    fn shares_are_by_weight_among_those_that_are_available() {
        let split = Split::Weighted(backends(&[("a", 90), ("b", 9), ("c", 1), ("d", 0)]));
        let all = shares(&split, "");
        assert!((8_900..9_100).contains(&all[0]) && (800..1_000).contains(&all[1]), "{all:?}");
        assert!((70..130).contains(&all[2]) && all[3] == 0, "{all:?}");
        let without = shares(&split, "a");
        assert!(without[0] == 0 && (8_800..9_200).contains(&without[1]), "{without:?}");
    }

    #[test]
    fn without_any_that_is_available_the_shares_are_as_ever() {
        let split = Split::Weighted(backends(&[("a", 1), ("b", 1)]));
        let mut rng = Rng::fork(Seed::from_number(1), 1);
        let mut a = 0;
        for _ in 0..1_000 {
            let drawn = split.draw(&mut rng, |_| false).expect("a backend");
            a += u32::from(&*drawn.service == "a");
        }
        assert!((450..550).contains(&a), "{a}");
        let nothing = Split::Weighted(backends(&[("a", 0)]));
        assert_eq!(nothing.draw(&mut rng, |_| true), None);
        assert_eq!(Split::None.draw(&mut rng, |_| true), None);
    }

    #[test]
    fn the_first_that_is_available_gets_everything() {
        let split = Split::FirstAvailable(backends(&[("a", 1), ("b", 1), ("c", 1)]));
        assert_eq!(shares(&split, ""), [10_000, 0, 0]);
        assert_eq!(shares(&split, "a"), [0, 10_000, 0]);
        let mut rng = Rng::fork(Seed::from_number(1), 1);
        let drawn = split.draw(&mut rng, |_| false);
        assert_eq!(drawn.map(|backend| &*backend.service), Some("a"));
    }
}
