//! The published cases on one seed each: what was published is seen again, and what policies do about
//! it. All seeds, the tables and the plots: `cargo run --profile sim -p selvedge-proptests --bin cases`.

use selvedge_core::policy::BudgetConfig;
use selvedge_proptests::cases::storm::{LENGTH, Retries, SLOW, recovered};
use selvedge_proptests::cases::{breaking, cold, storm, total};
use selvedge_proptests::experiment::{Policy, run};

#[test]
fn retries_without_a_budget_keep_slow_servers_from_recovering() {
    let [never, always, budgeted] = Retries::ALL.map(|retries| storm::run(retries, 1));
    for (seconds, attempts) in [(&never, 1.0), (&always, 4.0)] {
        let end = total(&seconds[60..LENGTH as usize]);
        assert!((end.amplification() - attempts).abs() < 0.01, "{}", end.amplification());
    }
    // The servers have been fast for half a minute, and everything fails.
    let end = total(&always[60..LENGTH as usize]);
    assert_eq!(end.failed, end.requests);
    assert_eq!(recovered(&always), None);
    assert!(recovered(&never).is_some_and(|after| after <= 10));
    assert!(recovered(&budgeted).is_some_and(|after| after <= 25));
    // Before, nobody had a reason to try again.
    for seconds in [&never, &always, &budgeted] {
        let before = total(&seconds[..SLOW.0 as usize]);
        assert_eq!((before.failed, before.attempts), (0, before.requests));
    }
}

/// Counted where attempts arrive, in every window of whole seconds.
#[test]
fn a_budget_holds_where_attempts_arrive() {
    let BudgetConfig { ratio, min_per_second, window } = BudgetConfig::default();
    let bound = |firsts: u64| firsts as f64 * (1.0 + ratio) + min_per_second * window.as_secs_f64();
    let length = window.as_secs() as usize;
    let most = |retries| {
        let seconds = storm::run(retries, 2);
        let over = seconds.windows(length).map(|seconds| {
            let total = total(seconds);
            // A retry is sent after a wait of up to a quarter of a second: the window that it was
            // allowed in may have begun so much earlier, with up to 250 requests more.
            total.attempts as f64 - bound(total.requests + 250)
        });
        over.fold(f64::MIN, f64::max)
    };
    assert!(most(Retries::Budgeted) <= 0.0, "{}", most(Retries::Budgeted));
    assert!(most(Retries::Always) > 10_000.0, "the bound is one that can be missed");
}

#[test]
fn a_breaker_saves_most_of_what_a_balancer_does_not_see() {
    for (policy, least, most) in [
        // A second's share, seven of the row, and a few probes.
        (Policy::RoundRobin, 91, 110),
        (Policy::LeastLoaded, 20, 40),
        (Policy::Selvedge, 20, 30),
    ] {
        let without = run(&breaking::setup(false), policy, 1);
        let with = run(&breaking::setup(true), policy, 1);
        assert!((least..=most).contains(&with.failed), "{policy:?}: {}", with.failed);
        assert!(with.failed < without.failed, "{policy:?}: {} of {}", with.failed, without.failed);
        assert_eq!(with.sent, without.sent);
        assert_eq!(with.failed_in.iter().sum::<u64>(), with.failed);
    }
}

#[test]
fn slow_start_spares_who_is_cold() {
    let failed = |kind, slow_start| {
        let seconds = cold::run(kind, slow_start, 1);
        let before = total(&seconds[..cold::JOINS as usize]);
        assert_eq!(before.failed, 0, "{kind:?}");
        let (cold, end) = (cold::while_cold(&seconds), total(&seconds[50..]));
        // It has its share in the end.
        let share = end.attempts as f64 / end.requests as f64;
        assert!((share - 1.0 / 11.0).abs() < 0.02, "{kind:?}: {share}");
        (cold.failed, cold.latencies.percentile(0.99))
    };
    for (kind, name) in cold::KINDS {
        let (without, with) = (failed(kind, false), failed(kind, true));
        println!("{name}: {without:?} without slow start, {with:?} with");
        assert!(with.0 == 0 && with.1 <= without.1, "{name}");
        // Turns are blind, while the others see that the new one has too much to do.
        assert_eq!(without.0 > 1_000, name == "round robin", "{name}");
    }
}
