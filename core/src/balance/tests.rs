mod model;

use alloc::vec;
use alloc::vec::Vec;

use super::*;
use crate::rng::Seed;

fn rng(seed: u64) -> Rng {
    Rng::fork(Seed::from_number(seed), 0)
}

fn millis(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

fn at(ms: u64) -> Time {
    Time::ZERO + millis(ms)
}

fn close(a: f64, b: f64) -> bool {
    (a - b).abs() <= 1e-9 * a.abs().max(b.abs())
}

fn with_weights(weights: &[u32]) -> (Balancer, Vec<MemberId>) {
    let mut balancer = Balancer::new(Params::default());
    let ids = weights.iter().map(|&weight| balancer.insert(weight, Time::ZERO)).collect();
    (balancer, ids)
}

fn member(id: MemberId, ids: &[MemberId]) -> usize {
    ids.iter().position(|&other| other == id).expect("picked a member")
}

/// How often each member is picked, nothing else happening.
fn count_picks(balancer: &mut Balancer, ids: &[MemberId], picks: u32, now: Time) -> Vec<u32> {
    let mut rng = rng(42);
    let mut counts = vec![0; ids.len()];
    for _ in 0..picks {
        let id = balancer.pick(&mut rng, now).expect("some are ready");
        counts[member(id, ids)] += 1;
    }
    counts
}

/// Pearson's statistic. With `k` degrees of freedom it is about `k`; beyond `k + 5 √(2k)` something
/// is wrong.
fn assert_fits(counts: &[u32], shares: &[f64]) {
    let total: f64 = counts.iter().map(|&count| f64::from(count)).sum();
    assert!(close(shares.iter().sum(), 1.0));
    let mut statistic = 0.0;
    let mut freedom = -1.0;
    for (&count, &share) in counts.iter().zip(shares) {
        let expected = total * share;
        if expected < 1e-9 {
            assert_eq!(count, 0, "{counts:?} {shares:?}");
            continue;
        }
        statistic += (f64::from(count) - expected).powi(2) / expected;
        freedom += 1.0;
    }
    let bound = freedom + 5.0 * libm::sqrt(2.0 * freedom);
    assert!(statistic <= bound, "{statistic}: {counts:?} {shares:?}");
}

/// The exact share of picks of each member: every ordered pair, drawn by weight, first wins a tie.
fn expected_shares(weights: &[u32], loads: &[f64]) -> Vec<f64> {
    let total: f64 = weights.iter().copied().map(f64::from).sum();
    let mut shares = vec![0.0; weights.len()];
    for first in 0..weights.len() {
        for second in (0..weights.len()).filter(|&second| second != first) {
            let weight = f64::from(weights[first]);
            let pair = weight / total * f64::from(weights[second]) / (total - weight);
            let winner = if loads[second] < loads[first] { second } else { first };
            shares[winner] += pair;
        }
    }
    shares
}

#[test]
fn draws_follow_the_weights_and_the_lower_load_wins() {
    let tables: &[&[u32]] = &[
        &[1, 1],
        &[1, 1, 1, 1, 1, 1, 1],
        &[10_000; 5],
        &[1, 2],
        &[1, 2, 3, 4],
        &[100, 1, 1, 1, 1],
        &[7, 7, 7, 8],
        &[1, 3, 1, 3, 1, 3],
        &[u32::MAX, u32::MAX, 1_000_000_000],
    ];
    for &weights in tables {
        // Loads not in the order of the weights.
        let (mut balancer, ids) = with_weights(weights);
        for (index, &id) in ids.iter().enumerate() {
            let rtt = millis(40 + (index as u64 * 7 % 5) * 100 + index as u64);
            balancer.sample(id, Outcome::Success(rtt), Time::ZERO);
        }
        let loads: Vec<f64> = ids.iter().map(|&id| balancer.load(id, Time::ZERO)).collect();
        let counts = count_picks(&mut balancer, &ids, 50_000, Time::ZERO);
        assert_fits(&counts, &expected_shares(weights, &loads));
    }
}

#[test]
fn equal_loads_share_by_weight() {
    let (mut balancer, ids) = with_weights(&[3; 7]);
    let counts = count_picks(&mut balancer, &ids, 50_000, Time::ZERO);
    assert_fits(&counts, &[1.0 / 7.0; 7]);

    let weights = [1, 2, 4, 8];
    let (mut balancer, ids) = with_weights(&weights);
    for (&id, &weight) in ids.iter().zip(&weights) {
        let rtt = millis(100 * u64::from(weight));
        balancer.sample(id, Outcome::Success(rtt), Time::ZERO);
    }
    let counts = count_picks(&mut balancer, &ids, 50_000, Time::ZERO);
    assert_fits(&counts, &weights.map(|weight| f64::from(weight) / 15.0));
}

#[test]
fn a_new_weight_counts_at_once() {
    let (mut balancer, ids) = with_weights(&[1, 1, 1]);
    count_picks(&mut balancer, &ids, 10, Time::ZERO);
    for weights in [[1, 1, 6], [1, 2, 6], [4, 4, 4]] {
        for (&id, &weight) in ids.iter().zip(&weights) {
            balancer.set_weight(id, weight);
        }
        let loads: Vec<f64> = ids.iter().map(|&id| balancer.load(id, Time::ZERO)).collect();
        let counts = count_picks(&mut balancer, &ids, 20_000, Time::ZERO);
        assert_fits(&counts, &expected_shares(&weights, &loads));
    }
}

#[test]
fn the_two_candidates_are_distinct() {
    // With one request pending everywhere but on one member, that member wins every draw that
    // contains it, and another one wins only draws of two others. The worst never wins: it could
    // only against itself.
    for weights in [&[1, 1, 1][..], &[1, 1000, 1], &[1000, 1, 1], &[1, 1, 1000]] {
        for worst in 0..weights.len() {
            let (mut balancer, ids) = with_weights(weights);
            for _ in 0..5_000 {
                balancer.begin(ids[worst]);
            }
            let counts = count_picks(&mut balancer, &ids, 5_000, Time::ZERO);
            assert_eq!(counts[worst], 0, "{weights:?} {counts:?}");
        }
    }
}

#[test]
fn only_ready_members_are_picked() {
    let (mut balancer, ids) = with_weights(&[1, 1, 5]);
    let mut rng = rng(1);
    let now = at(10);
    assert_eq!((balancer.len(), balancer.ready_len()), (3, 3));
    balancer.set_ready(ids[0], false, now);
    balancer.set_ready(ids[0], false, now);
    assert_eq!((balancer.len(), balancer.ready_len()), (3, 2));
    assert!(!balancer.is_ready(ids[0]));
    for _ in 0..1_000 {
        assert_ne!(balancer.pick(&mut rng, now), Some(ids[0]));
    }
    balancer.remove(ids[2]);
    assert_eq!((balancer.len(), balancer.ready_len()), (2, 1));
    for _ in 0..100 {
        assert_eq!(balancer.pick(&mut rng, now), Some(ids[1]));
    }
    balancer.set_ready(ids[1], false, now);
    assert_eq!(balancer.pick(&mut rng, now), None);
    balancer.set_ready(ids[0], true, now);
    assert_eq!(balancer.pick(&mut rng, now), Some(ids[0]));
    balancer.remove(ids[0]);
    balancer.remove(ids[1]);
    assert!(balancer.is_empty());
    assert_eq!(balancer.pick(&mut rng, now), None);
    assert_eq!(Balancer::new(Params::default()).pick(&mut rng, now), None);
}

#[test]
fn an_estimate_starts_again_when_a_member_is_ready_again() {
    let (mut balancer, ids) = with_weights(&[1, 1]);
    let id = ids[0];
    assert_eq!(balancer.estimate(id, Time::ZERO), millis(30));
    balancer.begin(id);
    balancer.sample(id, Outcome::Failure, at(5));
    assert_eq!(balancer.estimate(id, at(5)), millis(5_000));
    // Ready as before: nothing changes.
    balancer.set_ready(id, true, at(5));
    assert_eq!(balancer.estimate(id, at(5)), millis(5_000));
    balancer.set_ready(id, false, at(6));
    assert!(balancer.estimate(id, at(6)) > millis(4_990));
    balancer.set_ready(id, true, at(60_000));
    assert_eq!(balancer.estimate(id, at(60_000)), millis(30));
    assert_eq!(balancer.pending(id), 1);
    assert!(close(balancer.load(id, at(60_000)), 0.060));
}

#[test]
fn the_estimate_follows_peaks_at_once_and_comes_down_slowly() {
    let (mut balancer, ids) = with_weights(&[1]);
    let id = ids[0];
    let seconds = |balancer: &Balancer, now| balancer.load(id, now);
    balancer.sample(id, Outcome::Success(millis(200)), at(0));
    assert!(close(seconds(&balancer, at(0)), 0.2));
    // Fast answers in the same instant prove nothing.
    for _ in 0..1_000 {
        balancer.sample(id, Outcome::Success(millis(1)), at(0));
    }
    assert!(close(seconds(&balancer, at(0)), 0.2));
    // After one decay time a fast answer counts for 1 - 1/e.
    let e = core::f64::consts::E;
    balancer.sample(id, Outcome::Success(millis(100)), at(10_000));
    let expected = 0.2 / e + 0.1 * (1.0 - 1.0 / e);
    // 0.2 / e is below 0.1: a sample above what is left of the estimate is a peak.
    assert!(0.2 / e < 0.1 && expected > 0.1);
    assert!(close(seconds(&balancer, at(10_000)), 0.1));
    balancer.sample(id, Outcome::Success(millis(10)), at(12_000));
    let keep = libm::exp(-0.2);
    assert!(close(seconds(&balancer, at(12_000)), 0.1 * keep + 0.01 * (1.0 - keep)));
}

#[test]
fn reading_decays_towards_zero_and_changes_nothing() {
    let (mut often, ids) = with_weights(&[1]);
    let id = ids[0];
    often.sample(id, Outcome::Success(millis(100)), at(0));
    let seldom = often.clone();
    let mut last = f64::INFINITY;
    for ms in 1..50_000 {
        let load = often.load(id, at(ms));
        assert!(load < last);
        last = load;
    }
    assert!(last.to_bits() == seldom.load(id, at(49_999)).to_bits());
    assert!(close(last, 0.1 * libm::exp(-4.9999)));
    // Long idle: as good as zero, but what is pending still tells members apart.
    let later = at(10_000_000);
    assert!(seldom.estimate(id, later) < Duration::from_nanos(1));
    let idle = seldom.load(id, later);
    often.begin(id);
    assert!(idle > 0.0 && close(often.load(id, later), 2.0 * idle));
}

#[test]
fn outcomes_count_as_what_they_say() {
    let (mut balancer, ids) = with_weights(&[1]);
    let id = ids[0];
    let mut estimate_after = |outcome, now| {
        balancer.begin(id);
        balancer.end(id, outcome, now);
        balancer.estimate(id, now)
    };
    let now = at(0);
    assert_eq!(estimate_after(Outcome::Unsent, now), millis(30));
    assert_eq!(estimate_after(Outcome::Cancelled(millis(29)), now), millis(30));
    assert_eq!(estimate_after(Outcome::Cancelled(millis(31)), now), millis(31));
    assert_eq!(estimate_after(Outcome::Failure, now), millis(5_000));
    // Neither a failure nor a cancellation makes a member look faster than it is.
    assert_eq!(estimate_after(Outcome::Success(millis(9_000)), now), millis(9_000));
    let later = at(1_000);
    let decayed = 9.0 * libm::exp(-0.1);
    for outcome in [Outcome::Failure, Outcome::Cancelled(millis(1)), Outcome::Unsent] {
        let estimate = estimate_after(outcome, later).as_secs_f64();
        assert!((estimate - decayed).abs() < 1e-6, "{outcome:?} {estimate}");
    }
    assert_eq!(balancer.pending(id), 0);
}

#[test]
fn load_is_estimate_times_pending_over_weight() {
    let (mut balancer, ids) = with_weights(&[4, 0]);
    for _ in 0..3 {
        balancer.begin(ids[0]);
    }
    assert!(close(balancer.load(ids[0], at(0)), 0.030 * 4.0 / 4.0));
    balancer.set_weight(ids[0], 2);
    assert!(close(balancer.load(ids[0], at(0)), 0.030 * 4.0 / 2.0));
    balancer.release(ids[0]);
    assert!(close(balancer.load(ids[0], at(0)), 0.030 * 3.0 / 2.0));
    // A weight of 0 is one of 1.
    assert!(close(balancer.load(ids[1], at(0)), 0.030));
    // More ends than beginnings are no underflow.
    balancer.release(ids[1]);
    assert_eq!(balancer.pending(ids[1]), 0);
}

/// Closed loop: `clients` requests are always under way; each takes the round trip of its member.
/// Returns how many each member got.
fn run(
    rtts: &[u64],
    clients: usize,
    requests: u32,
    fails: impl Fn(usize, Time) -> bool,
) -> Vec<u32> {
    let (mut balancer, ids) = with_weights(&vec![1; rtts.len()]);
    let mut rng = rng(7);
    let mut now = Time::ZERO;
    // End, member, begin.
    let mut under_way: Vec<(Time, usize, Time)> = Vec::new();
    let mut counts = vec![0; rtts.len()];
    for _ in 0..requests {
        if under_way.len() == clients {
            let next = (0..clients).min_by_key(|&i| under_way[i].0).unwrap_or(0);
            let (end, chosen, begin) = under_way.swap_remove(next);
            now = end;
            let outcome =
                if fails(chosen, now) { Outcome::Failure } else { Outcome::Success(now - begin) };
            balancer.end(ids[chosen], outcome, now);
        }
        let id = balancer.pick(&mut rng, now).expect("all are ready");
        let chosen = member(id, &ids);
        balancer.begin(id);
        counts[chosen] += 1;
        let rtt = if fails(chosen, now) { 1 } else { rtts[chosen] };
        let jitter = Duration::from_micros(rng.below(500));
        under_way.push((now + millis(rtt) + jitter, chosen, now));
    }
    counts
}

#[test]
fn a_slow_member_gets_little() {
    let counts = run(&[5, 5, 100], 16, 20_000, |_, _| false);
    assert!(counts[2] < 20_000 / 20, "{counts:?}");
    assert!(counts[0].abs_diff(counts[1]) < 1_000, "{counts:?}");
    let counts = run(&[5, 5, 5], 16, 20_000, |_, _| false);
    assert!(counts.iter().all(|n| n.abs_diff(6_667) < 400), "{counts:?}");
}

#[test]
fn a_fast_failure_is_no_fast_answer() {
    // The third member fails everything, within a millisecond.
    let counts = run(&[10, 10, 10], 16, 20_000, |member, _| member == 2);
    assert!(counts[2] < 20_000 / 50, "{counts:?}");
    assert!(counts[2] > 0, "{counts:?}");
}

#[test]
fn a_penalised_member_comes_back() {
    let (mut balancer, ids) = with_weights(&[1, 1, 1]);
    let mut rng = rng(3);
    balancer.sample(ids[0], Outcome::Failure, at(0));
    let mut first_back = None;
    // The others answer in 20 ms, a hundred times a second.
    for ms in (10..300_000).step_by(10) {
        let id = balancer.pick(&mut rng, at(ms)).expect("all are ready");
        if id == ids[0] && first_back.is_none() {
            first_back = Some(ms);
        }
        balancer.begin(id);
        balancer.end(id, Outcome::Success(millis(20)), at(ms));
    }
    // 5 s decay to 20 ms in ln(250) × 10 s = 55 s.
    let back = first_back.expect("picked again");
    assert!((40_000..70_000).contains(&back), "{back}");
}

#[test]
fn ids_of_removed_members_mean_nothing() {
    let (mut balancer, ids) = with_weights(&[1, 1]);
    let old = ids[0];
    balancer.begin(old);
    balancer.remove(old);
    let new = balancer.insert(3, at(1));
    assert_eq!(new.index(), old.index());
    assert_ne!(new, old);
    let before = balancer.clone();
    balancer.begin(old);
    balancer.end(old, Outcome::Failure, at(2));
    balancer.sample(old, Outcome::Failure, at(2));
    balancer.release(old);
    balancer.set_ready(old, false, at(2));
    balancer.set_weight(old, 99);
    balancer.remove(old);
    assert_eq!(balancer.len(), 2);
    assert_eq!(balancer.pending(new), 0);
    assert!(balancer.is_ready(new) && !balancer.is_ready(old));
    assert!(close(balancer.load(new, at(2)), before.load(new, at(2))));
    assert!(balancer.load(old, at(2)).is_infinite());
    assert_eq!(balancer.estimate(old, at(2)), Duration::MAX);
    assert_eq!(balancer.pending(old), 0);
    // Nor does one of another balancer, larger than this one.
    let (_, others) = with_weights(&[1; 9]);
    balancer.remove(others[8]);
    balancer.set_ready(others[8], true, at(2));
    assert_eq!((balancer.len(), balancer.ready_len()), (2, 2));
}

#[test]
fn extreme_values_stay_finite() {
    let extremes = [Duration::ZERO, Duration::from_nanos(1), Duration::MAX];
    let times = [Time::ZERO, Time::from_nanos(1), Time::MAX];
    let mut rng = rng(9);
    for default_rtt in extremes {
        for decay in extremes {
            for penalty in extremes {
                let mut balancer =
                    Balancer::new(Params { default_rtt, decay, penalty, ..Params::default() });
                let ids = [balancer.insert(u32::MAX, Time::MAX), balancer.insert(0, Time::ZERO)];
                // Time that goes back and forth is what a careless caller may hand in.
                for now in times.into_iter().chain(times.into_iter().rev()) {
                    for rtt in extremes {
                        for outcome in [
                            Outcome::Success(rtt),
                            Outcome::Failure,
                            Outcome::Cancelled(rtt),
                            Outcome::Unsent,
                        ] {
                            for id in ids {
                                balancer.sample(id, outcome, now);
                                let load = balancer.load(id, now);
                                assert!(load.is_finite() && load > 0.0, "{load}");
                            }
                            assert!(balancer.pick(&mut rng, now).is_some());
                        }
                    }
                }
            }
        }
    }
}

#[test]
fn a_sample_from_the_past_does_not_age_the_estimate() {
    let (mut balancer, ids) = with_weights(&[1]);
    balancer.sample(ids[0], Outcome::Success(millis(100)), at(10_000));
    balancer.sample(ids[0], Outcome::Success(millis(10)), at(5_000));
    assert_eq!(balancer.estimate(ids[0], at(10_000)), millis(100));
}

#[test]
fn without_decay_time_only_the_present_counts() {
    let mut balancer = Balancer::new(Params { decay: Duration::ZERO, ..Params::default() });
    let id = balancer.insert(1, at(1));
    assert_eq!(balancer.estimate(id, at(1)), millis(30));
    balancer.sample(id, Outcome::Success(millis(20)), at(2));
    assert_eq!(balancer.estimate(id, at(2)), millis(20));
    assert_eq!(balancer.estimate(id, at(3)), Duration::ZERO);
}

#[test]
fn the_default_estimate_has_a_floor() {
    let mut balancer = Balancer::new(Params { default_rtt: Duration::ZERO, ..Params::default() });
    let id = balancer.insert(1, at(0));
    assert_eq!(balancer.estimate(id, at(0)), millis(1));
}

#[test]
fn nothing_allocates_after_insert() {
    let (mut balancer, ids) = with_weights(&[1, 2, 3, 4, 5]);
    let capacities = |b: &Balancer| {
        let (m, [own, other]) = (&b.members, &b.members.zones);
        let zones = [own, other].map(|zone| zone.ready.capacity() + zone.sums.capacity());
        [m.slots.capacity(), zones[0], zones[1], m.free.capacity()]
    };
    let before = capacities(&balancer);
    let mut rng = rng(5);
    for round in 0..100 {
        for &id in &ids {
            balancer.set_ready(id, round % 3 != 0, at(round));
            balancer.set_weight(id, round as u32);
        }
        let _ = balancer.pick(&mut rng, at(round));
    }
    for id in ids {
        balancer.remove(id);
    }
    assert_eq!(capacities(&balancer), before);
    assert!(size_of::<members::Slot>() <= 32);
    assert_eq!(size_of::<MemberId>(), 8);
}
