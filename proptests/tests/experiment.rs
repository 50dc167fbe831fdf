//! The experiment of 2016 on a few seeds: what was published of each way to balance, and that ours
//! is better. All seeds, the table and the plot:
//! `cargo run --profile sim -p selvedge-proptests --bin experiment`.

use selvedge_core::time::Duration;
use selvedge_proptests::experiment::{Policy, Report, Setup, run};

const SEEDS: u64 = 3;

#[test]
fn what_was_published_is_seen_again_and_ours_loses_less() {
    let report = Report::new(SEEDS, |_| {});
    println!("{report}");
    let row = |policy| report.row(policy);
    let percentile = |policy, share| row(policy).latencies.percentile(share);
    let near = |policy, mean: f64| {
        let seen = row(policy).mean;
        assert!((seen - mean).abs() < 0.001, "{policy:?}: {seen}");
    };
    // Fast until the 95th, the 99th, the 99.9th percentile …
    for (policy, fast, slow) in [
        (Policy::RoundRobin, 0.95, 0.99),
        (Policy::LeastLoaded, 0.99, 0.999),
        (Policy::LinkerdPeakEwma, 0.999, 0.9999),
        (Policy::Selvedge, 0.999, 0.9999),
    ] {
        assert!(percentile(policy, fast) < 200.0, "{policy:?}");
        assert!(percentile(policy, slow) > 1_900.0, "{policy:?}");
    }
    // … and with a timeout 95 %, 99 %, 99.9 % of the requests succeed.
    near(Policy::RoundRobin, 0.9546);
    near(Policy::LeastLoaded, 0.9906);
    near(Policy::LinkerdPeakEwma, 0.9982);
    let success = Policy::ALL.map(|policy| row(policy).mean);
    assert!(success.is_sorted(), "{success:?}");
    let (ours, theirs) = (row(Policy::Selvedge), row(Policy::LinkerdPeakEwma));
    assert!(ours.worst >= 0.999, "{}", ours.worst);
    assert!(ours.failed < theirs.failed / 2.0, "{} of {}", ours.failed, theirs.failed);
    // Half of what is lost is lost before anybody can know.
    assert!(ours.failed < row(Policy::Informed).failed * 2.5, "{}", ours.failed);
}

#[test]
fn the_same_seed_is_the_same_run() {
    let setup = Setup { timeout: Some(Duration::from_secs(1)), ..Setup::default() };
    let once = run(&setup, Policy::Selvedge, 7);
    assert_eq!(once, run(&setup, Policy::Selvedge, 7));
    assert_ne!(once.latencies, run(&setup, Policy::Selvedge, 8).latencies);
}

#[test]
fn a_backend_that_is_fast_again_gets_its_share_again() {
    let share = |policy| {
        let length = |seconds| Setup {
            length: Duration::from_secs(seconds),
            timeout: Some(Duration::from_secs(1)),
            ..Setup::default()
        };
        // Slow until second 45; what counts is from 95 to 105.
        let (before, all) = (run(&length(95), policy, 1), run(&length(105), policy, 1));
        (all.first - before.first) as f64 / (all.sent - before.sent) as f64
    };
    for policy in [Policy::LinkerdPeakEwma, Policy::Selvedge] {
        let share = share(policy);
        assert!((share - 1.0 / 11.0).abs() < 0.01, "{policy:?}: {share}");
    }
}
