//! The mesh simulator: default seeds, the same everywhere.
//!
//! `SELVEDGE_SEEDS=10000` runs more of them.

use std::process::Command;

use selvedge_proptests::sim::{self, Report};

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
    assert!(report.requests >= 90 * count, "{} requests", report.requests);
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
