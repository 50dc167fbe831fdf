//! The experiment that Linkerd published in 2016, in virtual time: prints the table, and draws the
//! plot that README shows.
//!
//! `cargo run --profile sim -p selvedge-proptests --bin experiment [-- SEEDS [PLOT.svg]]`

use std::path::PathBuf;
use std::process::ExitCode;
use std::{env, fs};

use selvedge_proptests::experiment::{Policy, Report, plot};

/// What ours must reach in every seed.
const LEAST: f64 = 0.999;

fn main() -> ExitCode {
    let mut arguments = env::args().skip(1);
    let Ok(seeds) = arguments.next().map_or(Ok(100), |text| text.parse::<u64>()) else {
        eprintln!("expected: experiment [SEEDS [PLOT.svg]]");
        return ExitCode::FAILURE;
    };
    let default = || PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/experiment.svg"));
    let path = arguments.next().map_or_else(default, PathBuf::from);

    let report = Report::new(seeds.max(1), |policy| eprintln!("{}: done", policy.name()));
    println!("{report}");
    if let Err(error) = fs::write(&path, plot(&report)) {
        eprintln!("{}: {error}", path.display());
        return ExitCode::FAILURE;
    }
    eprintln!("the plot is in {}", path.display());
    let worst = report.row(Policy::Selvedge).worst;
    if worst < LEAST {
        eprintln!("the worst of {seeds} seeds is {worst}, below {LEAST}");
        return ExitCode::FAILURE;
    }
    ExitCode::SUCCESS
}
