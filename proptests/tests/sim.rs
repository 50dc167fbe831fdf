//! The mesh simulator: default seeds, the same everywhere.
//!
//! `SELVEDGE_SEEDS=10000` runs more of them.

use std::process::Command;

use proptest::collection::vec;
use proptest::prelude::*;
use selvedge_proptests::choose::{Bytes, Replay};
use selvedge_proptests::sim::{self, Invariant, Report, Scenario, Scope, Violation};

fn seeds() -> u64 {
    match std::env::var("SELVEDGE_SEEDS") {
        Ok(text) => text.parse().unwrap_or_else(|error| panic!("SELVEDGE_SEEDS={text}: {error}")),
        Err(_) => 250,
    }
}

/// Runs seeds on all cores.
fn run(count: u64) -> Report {
    let jobs = std::thread::available_parallelism().map_or(1, usize::from) as u64;
    let mut total = Report::default();
    std::thread::scope(|scope| {
        let part = |job| {
            let mut report = Report::default();
            for seed in (job..count).step_by(jobs as usize) {
                let outcome = sim::run_seed(seed);
                if let Some(violation) = outcome.violation {
                    panic!(
                        "seed {seed}: {violation}\nagain: cargo run --profile sim \
                         -p selvedge-proptests --bin sim -- --seed {seed} --trace"
                    );
                }
                report.merge(&outcome.report);
            }
            report
        };
        let threads: Vec<_> = (0..jobs).map(|job| scope.spawn(move || part(job))).collect();
        for thread in threads {
            match thread.join() {
                Ok(report) => total.merge(&report),
                Err(panic) => std::panic::resume_unwind(panic),
            }
        }
    });
    total
}

#[test]
fn whatever_goes_wrong_the_invariants_hold() {
    let count = seeds();
    let report = run(count);
    println!("{report}");
    assert!(report.requests >= 100 * count, "{} requests", report.requests);
    assert!(report.answered * 2 > report.requests, "most requests are answered");
    if count >= 10_000 {
        assert_eq!(report.missing(), Vec::<String>::new(), "everything has happened");
    }
}

/// The file was written by the sim profile (`sim --golden`), and this is another.
#[test]
fn the_same_seed_has_the_same_hash_in_every_build() {
    assert_eq!(
        sim::golden_hashes(),
        sim::kept_hashes(),
        "if that was meant: cargo run --profile sim -p selvedge-proptests --bin sim -- --golden"
    );
}

#[test]
fn the_same_seed_has_the_same_hash_in_another_process() {
    let mut sim = Command::new(env!("CARGO_BIN_EXE_sim"));
    let output = sim.args(["--hashes", "--seeds", "0..20"]).output().expect("it starts");
    assert!(output.status.success());
    assert_eq!(String::from_utf8_lossy(&output.stdout), sim::golden_hashes());
}

/// Every byte of a request and its response on every link × every fault there × both orders of the
/// two events that follow.
#[test]
fn everything_that_can_happen_to_one_request() {
    let most_bytes = if seeds() < 1000 { 1000 } else { 20_000 };
    let (mut total, mut messages) = (0, 0);
    for seed in 0.. {
        let tried = sim::exhaust(seed, most_bytes).unwrap_or_else(|outcome| {
            let text = outcome.violation.map_or_else(String::new, |what| what.to_string());
            panic!("seed {seed}: {text}")
        });
        println!("seed {seed}: {tried:?}");
        assert_eq!(tried.cases, tried.bytes * 7 * 2);
        assert!(tried.answered * 3 >= tried.cases, "{tried:?}");
        total += tried.cases;
        messages += u64::from(tried.cases > 0);
        if messages == exhaustive_messages() {
            break;
        }
    }
    println!("{total} cases of {messages} requests and responses");
}

fn exhaustive_messages() -> u64 {
    (seeds() / 100).clamp(2, 50)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 100, ..ProptestConfig::default() })]

    /// The choices may be any bytes, as a fuzzer makes them; proptest makes them fewer.
    #[test]
    fn whatever_the_bytes_are_the_invariants_hold(data in vec(any::<u8>(), 0..3000)) {
        let outcome = sim::run(&mut Bytes::new(&data), &Scope::SMALL);
        prop_assert_eq!(outcome.violation, None);
    }
}

/// A failure is made short, and stays the same failure.
#[test]
fn a_failing_run_is_shrunk_and_replayed() {
    // What holds cannot be shrunk.
    let (choices, outcome) = sim::record(1, &Scope::SMALL);
    assert_eq!(outcome.violation, None);
    assert!(sim::shrink(choices.clone(), &Scope::SMALL, Invariant::Bodies, 100).is_none());
    // The recorded choices are the seed's.
    let again = sim::run(&mut Replay::new(&choices), &Scope::SMALL);
    assert_eq!(again.report.steps, outcome.report.steps);
    assert_eq!(again.report.hash, outcome.report.hash);
    let scenario = Scenario {
        choices,
        violation: Violation { invariant: Invariant::Bodies, message: "x".into(), step: 3 },
    };
    assert_eq!(Scenario::choices_of(&scenario.to_text()), Ok(scenario.choices));
    assert!(Scenario::choices_of("1 2 x").is_err());
}
