//! Splits against a model: who gets what share of the requests, and where each key goes.

use std::collections::BTreeMap;

use proptest::collection::vec;
use proptest::prelude::*;
use selvedge_core::balance::{LoadBound, Why, hash};
use selvedge_core::policy::{Backend, Split};
use selvedge_core::rng::{Rng, Seed};

/// A service of the split: its weight, whether it is available, and what is under way there.
type Entry = (u32, bool, u32);

const KEYS: u64 = 400;

fn name(at: usize) -> String {
    format!("service-{at}:80")
}

fn split(entries: &[Entry]) -> Split {
    let backend =
        |(at, &(weight, ..)): (usize, &Entry)| Backend { service: name(at).into(), weight };
    Split::Weighted(entries.iter().enumerate().map(backend).collect())
}

fn at(backend: &Backend) -> usize {
    let digits = backend.service.trim_start_matches("service-").trim_end_matches(":80");
    digits.parse().expect("its place")
}

/// Where a key goes. `entries`: whose shares these are.
fn owner(entries: &[Entry], key: u64, bound: LoadBound) -> Option<(usize, Why)> {
    let split = split(entries);
    let key = hash::service_key(&key.to_le_bytes());
    let drawn = split.draw_by(key, bound, |b| entries[at(b)].1, |b| entries[at(b)].2);
    drawn.map(|(backend, why)| (at(backend), why))
}

/// Has this one more than the bound of its share of what is under way at those that are available? Two
/// are no load.
fn is_full(entries: &[Entry], at: usize) -> bool {
    let up = || entries.iter().filter(|(weight, up, _)| *up && *weight > 0);
    let all: u32 = up().map(|entry| entry.2).sum();
    let weights: f64 = up().map(|entry| f64::from(entry.0)).sum();
    let share = f64::from(all + 1) * f64::from(entries[at].0) / weights;
    f64::from(entries[at].2) >= (share * 1.25).ceil().max(2.0)
}

fn entries() -> impl Strategy<Value = Vec<Entry>> {
    vec((prop_oneof![Just(0_u32), 1..100_u32], any::<bool>(), 0..40_u32), 1..6)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]

    /// By weight among those that are available; if none is, among all.
    #[test]
    fn requests_are_shared_out_by_weight(entries in entries(), seed: u64) {
        const DRAWS: u32 = 4_000;
        let split = split(&entries);
        let mut rng = Rng::fork(Seed::from_number(seed), 1);
        let any_up = entries.iter().any(|(weight, up, _)| *up && *weight > 0);
        let counts = |entry: &Entry| entry.0 > 0 && (entry.1 || !any_up);
        let all: f64 = entries.iter().filter(|e| counts(e)).map(|e| f64::from(e.0)).sum();
        let mut came: BTreeMap<usize, u32> = BTreeMap::new();
        for _ in 0..DRAWS {
            match split.draw(&mut rng, |backend| entries[at(backend)].1) {
                Some(backend) => *came.entry(at(backend)).or_default() += 1,
                None => prop_assert!(all == 0.0),
            }
        }
        for (index, entry) in entries.iter().enumerate() {
            let came = f64::from(came.get(&index).copied().unwrap_or(0));
            let share = if counts(entry) { f64::from(entry.0) / all } else { 0.0 };
            let (mean, spread) = (f64::from(DRAWS) * share, (f64::from(DRAWS) * share).sqrt());
            prop_assert!((came - mean).abs() <= 6.0 * spread + 6.0 * f64::from(share > 0.0), "{came} of {mean}");
        }
    }

    /// To the first that is available, whatever its weight; if none is, to the first.
    #[test]
    fn or_all_go_to_the_first(entries in entries(), seed: u64) {
        let Split::Weighted(backends) = split(&entries) else { unreachable!("it is weighted") };
        let split = Split::FirstAvailable(backends);
        let mut rng = Rng::fork(Seed::from_number(seed), 1);
        let drawn = split.draw(&mut rng, |backend| entries[at(backend)].1).map(at);
        prop_assert_eq!(drawn, Some(entries.iter().position(|entry| entry.1).unwrap_or(0)));
    }

    /// A key goes to its owner, which is the same however many are available, if that is and has not too
    /// much to do; else to another that is and has not. Whoever has no share gets none.
    #[test]
    fn keys_stay_where_they_are(entries in entries()) {
        let all_up: Vec<Entry> = entries.iter().map(|&(weight, ..)| (weight, true, 0)).collect();
        for key in 0..KEYS {
            let owns = owner(&all_up, key, LoadBound::NONE);
            let Some((owns, why)) = owns else {
                prop_assert!(entries.iter().all(|entry| entry.0 == 0));
                continue;
            };
            prop_assert!(why == Why::Key && entries[owns].0 > 0);
            let up = |at: usize| entries[at].1 && entries[at].0 > 0;
            let (unbound, _) = owner(&entries, key, LoadBound::NONE).expect("it has an owner");
            prop_assert!(unbound == owns || !up(owns) && up(unbound), "{} {}", owns, unbound);
            let (bound, why) = owner(&entries, key, LoadBound::default()).expect("an owner");
            if !entries.iter().enumerate().any(|(at, _)| up(at)) {
                prop_assert_eq!(bound, owns);
            } else if up(owns) && !is_full(&entries, owns) {
                prop_assert_eq!((bound, why), (owns, Why::Key));
            } else {
                prop_assert!(up(bound) && !is_full(&entries, bound), "{} {:?}", bound, why);
                prop_assert_eq!(why, if up(owns) { Why::Full } else { Why::NotReady });
            }
        }
    }

    /// Another weight moves keys to where it went up, or from where it went down, and no others.
    #[test]
    fn another_weight_moves_as_few_as_it_can(entries in entries(), which: prop::sample::Index, weight in 0..100_u32) {
        let before: Vec<Entry> = entries.iter().map(|&(weight, ..)| (weight, true, 0)).collect();
        let mut after = before.clone();
        let which = which.index(after.len());
        after[which].0 = weight;
        for key in 0..KEYS {
            let [was, is] = [&before, &after].map(|entries| {
                owner(entries, key, LoadBound::NONE).map(|(owner, _)| owner)
            });
            let moved_as_it_may = if weight >= before[which].0 { is } else { was } == Some(which);
            prop_assert!(was == is || moved_as_it_may, "{was:?} {is:?}");
        }
    }
}
