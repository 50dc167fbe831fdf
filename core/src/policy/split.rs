//! Traffic splits: which of several services a request of a route goes to.

use alloc::sync::Arc;
use alloc::vec::Vec;

use crate::balance::{LoadBound, Why, hash};
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

    /// The backend that a key belongs to: by weight, the same on every proxy, and another one only if
    /// that one is not available or has too much under way (`pending`). `None` if there is none with a
    /// share.
    pub fn draw_by(
        &self,
        key: u64,
        bound: LoadBound,
        is_available: impl Fn(&Backend) -> bool,
        pending: impl Fn(&Backend) -> u32,
    ) -> Option<(&Backend, Why)> {
        let Split::Weighted(backends) = self else { return None };
        // Who is listed twice has both shares.
        let is_other = |at: usize| {
            let name = &backends[at].service;
            !backends[..at].iter().any(|before| before.service == *name && before.weight > 0)
        };
        let weight = |backend: &Backend| -> u64 {
            let same = backends.iter().filter(|other| other.service == backend.service);
            same.map(|other| u64::from(other.weight)).sum()
        };
        let with_share = || {
            let shares = backends.iter().enumerate().filter(|(_, backend)| backend.weight > 0);
            shares.filter(|(at, _)| is_other(*at)).map(|(_, backend)| backend)
        };
        let first = |left: &dyn Fn(&Backend) -> bool| {
            let of = |backend: &&Backend| distance(key, &backend.service, weight(backend));
            with_share().filter(|b| left(b)).min_by(|a, b| of(a).total_cmp(&of(b)))
        };
        let owner = first(&|_| true)?;
        let available = || with_share().filter(|backend| is_available(backend));
        let total: u64 = available().map(weight).sum();
        let all: u64 = available().map(|backend| u64::from(pending(backend))).sum();
        let is_full =
            |backend: &Backend| bound.is_full(pending(backend), weight(backend), all, total);
        match first(&|backend| is_available(backend) && !is_full(backend)) {
            Some(drawn) if drawn == owner => Some((owner, Why::Key)),
            Some(drawn) if is_available(owner) => Some((drawn, Why::Full)),
            Some(drawn) => Some((drawn, Why::NotReady)),
            None => Some((owner, Why::Key)),
        }
    }

    /// Draws a backend; `None` if there is none with a share.
    pub fn draw(
        &self,
        rng: &mut Rng,
        mut is_available: impl FnMut(&Backend) -> bool,
    ) -> Option<&Backend> {
        if canary!(OneShare) {
            return self.backends().first();
        }
        match self {
            Split::None => None,
            Split::FirstAvailable(backends) => {
                backends.iter().find(|backend| is_available(backend)).or(backends.first())
            }
            Split::Weighted(backends) if canary!(EvenShares) => {
                let shares: Vec<_> = backends.iter().filter(|backend| backend.weight > 0).collect();
                shares.get(rng.below(shares.len() as u64) as usize).copied()
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

/// How far a key is from a backend: it belongs to the nearest (weighted rendezvous hashing). Without
/// one of them, or with another weight of it, no key moves between the others.
fn distance(key: u64, service: &str, weight: u64) -> f64 {
    let number = hash::point(hash::service_name(service), key) >> 11;
    // Above 0, and at most 1.
    let unit = (number + 1) as f64 / (1_u64 << 53) as f64;
    -libm::log(unit) / weight as f64
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

    /// Where each of 4,000 keys goes, if `pending` are under way at each backend.
    fn owners(split: &Split, down: &str, pending: u32) -> Vec<usize> {
        let place = |key: u64| {
            let key = hash::service_key(&key.to_le_bytes());
            let is_up = |backend: &Backend| !down.contains(&*backend.service);
            let bound = LoadBound::default();
            let (drawn, _) = split.draw_by(key, bound, is_up, |_| pending).expect("a backend");
            split.backends().iter().position(|backend| backend == drawn).expect("one of them")
        };
        (0..4_000).map(place).collect()
    }

    #[test]
    fn keys_are_shared_by_weight_and_move_only_when_they_have_to() {
        let split = Split::Weighted(backends(&[("a", 1), ("b", 3), ("none", 0), ("c", 4)]));
        let all = owners(&split, "", 0);
        let share = |owner: usize| all.iter().filter(|&&other| other == owner).count();
        for (owner, expected) in [(0, 500), (1, 1_500), (2, 0), (3, 2_000)] {
            assert!(
                share(owner).abs_diff(expected) < 150,
                "{} instead of {expected}",
                share(owner)
            );
        }
        for (was, is) in all.iter().zip(owners(&split, "b", 0)) {
            assert_eq!(*was != is, *was == 1, "only those of the one that is down");
        }
        assert_eq!(owners(&split, "abc", 0), all, "as if all were up");
        let without = Split::Weighted(backends(&[("a", 1), ("c", 4)]));
        let names = [Some(0), None, None, Some(1)];
        for (was, is) in all.iter().zip(owners(&without, "", 0)) {
            assert!(
                names[*was].is_none_or(|same| same == is),
                "only those of the one that is gone"
            );
        }
    }

    #[test]
    fn a_service_that_is_listed_twice_has_both_shares() {
        let twice = Split::Weighted(backends(&[("a", 1), ("b", 2), ("a", 0), ("a", 1)]));
        let once = Split::Weighted(backends(&[("a", 2), ("b", 2)]));
        assert_eq!(owners(&twice, "", 0), owners(&once, "", 0));
        let without = owners(&twice, "a", 0);
        assert!(without.iter().all(|&owner| owner == 1), "both are down");
        // Half of all that is under way is its share.
        let pending = |backend: &Backend| if &*backend.service == "a" { 12 } else { 7 };
        for key in 0..100 {
            let bound = LoadBound::default();
            let (_, why) = twice.draw_by(key, bound, |_| true, pending).expect("one");
            assert_eq!(why, Why::Key);
        }
    }

    #[test]
    fn a_service_that_has_too_much_leaves_keys_to_others() {
        let split = Split::Weighted(backends(&[("a", 1), ("b", 1)]));
        let draw = |key: u64, bound: LoadBound, a: u32, b: u32| {
            let pending = |backend: &Backend| if &*backend.service == "a" { a } else { b };
            let (drawn, why) = split.draw_by(key, bound, |_| true, pending).expect("one");
            (alloc::string::String::from(&*drawn.service), why)
        };
        let key = (0..100).find(|&key| draw(key, LoadBound::NONE, 0, 0).0 == "a").expect("a key");
        let bound = LoadBound::default();
        // 1.25 times a half of 20.
        assert_eq!(draw(key, bound, 12, 7), ("a".into(), Why::Key));
        assert_eq!(draw(key, bound, 13, 6), ("b".into(), Why::Full));
        assert_eq!(draw(key, LoadBound::NONE, 13, 6), ("a".into(), Why::Key));
        // One is no load: whoever is asked twice at once stays.
        assert_eq!(draw(key, bound, 1, 0), ("a".into(), Why::Key));
        assert_eq!(draw(key, bound, 2, 0), ("b".into(), Why::Full));
    }
}
