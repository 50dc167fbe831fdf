//! Runs the mesh simulator: many seeds on all cores, or one in every detail.

use std::ops::Range;
use std::panic;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};
use std::{env, fs, io, thread};

use clap::Parser;
use indicatif::{ProgressBar, ProgressStyle};
use selvedge_proptests::choose::Replay;
use selvedge_proptests::sim::{self, Fault, Faults, Report, Scenario, Scope, Theme, Violation};

/// Seeds that a thread takes at once.
const BATCH: u64 = 32;
/// So many failures are enough.
const FAILURES: usize = 5;
/// Attempts to shrink a failure.
const SHRINK_RUNS: usize = 10_000;
/// From here on a run must have seen everything.
const COVERS: u64 = 10_000;

#[derive(Debug, Parser)]
#[command(about = "A whole mesh in one thread, from one number")]
struct Arguments {
    /// Seeds to run, the last one excluded.
    #[arg(long, value_name = "A..B", value_parser = range, default_value = "0..10000")]
    seeds: Range<u64>,
    /// Run this seed only.
    #[arg(long, value_name = "N", conflicts_with = "seeds")]
    seed: Option<u64>,
    /// Run the choices of this file only.
    #[arg(long, value_name = "FILE", conflicts_with_all = ["seeds", "seed"])]
    replay: Option<PathBuf>,
    /// With --seed or --replay: tell who does what, when.
    #[arg(long)]
    trace: bool,
    /// Threads; all cores if not given.
    #[arg(long, value_name = "N")]
    jobs: Option<usize>,
    /// What all worlds are about: anything, outage, one-bad, slow-death, flapping, herd or impatient.
    #[arg(long, value_name = "NAME", value_parser = theme, conflicts_with = "golden")]
    world: Option<Theme>,
    /// Write the hashes that tests compare with.
    #[arg(long)]
    golden: bool,
    /// Only worlds that have this fault, by its name in the report; may be repeated.
    #[arg(long, value_name = "NAME", value_parser = fault, conflicts_with_all = ["replay", "golden"])]
    with: Vec<Fault>,
    /// Print the hash of each seed.
    #[arg(long)]
    hashes: bool,
}

fn range(text: &str) -> Result<Range<u64>, String> {
    let (from, to) = text.split_once("..").ok_or("not A..B")?;
    let number = |text: &str| text.parse::<u64>().map_err(|error| error.to_string());
    let range = number(from)?..number(to)?;
    if range.is_empty() { Err("no seeds".to_owned()) } else { Ok(range) }
}

fn fault(text: &str) -> Result<Fault, String> {
    let names = || Fault::ALL.iter().map(|fault| fault.name()).collect::<Vec<_>>().join(", ");
    Fault::named(text).ok_or_else(|| format!("none of: {}", names()))
}

fn theme(text: &str) -> Result<Theme, String> {
    let names = || Theme::ALL.map(Theme::name).join(", ");
    Theme::named(text).ok_or_else(|| format!("none of: {}", names()))
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let with = Faults::of(&arguments.with);
    let scope = Scope { with, theme: arguments.world, ..Scope::SEED };
    let result = if arguments.golden {
        sim::write_golden().map(|()| true)
    } else if let Some(file) = &arguments.replay {
        replay(file, &scope, arguments.trace)
    } else if let Some(seed) = arguments.seed {
        Ok(run_one(seed, &scope, arguments.trace))
    } else if arguments.hashes {
        for seed in arguments.seeds {
            println!("{seed} {:016x}", sim::run_seed_in(seed, &scope).report.hash);
        }
        Ok(true)
    } else {
        let cores = thread::available_parallelism().map_or(1, usize::from);
        Ok(run_many(arguments.seeds, &scope, arguments.jobs.unwrap_or(cores)))
    };
    match result {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

/// Runs the choices of a file; true if everything holds.
fn replay(file: &Path, scope: &Scope, trace: bool) -> io::Result<bool> {
    let choices = Scenario::choices_of(&fs::read_to_string(file)?).map_err(io::Error::other)?;
    let mut choose = Replay::new(&choices);
    let run = if trace { sim::run_shown } else { sim::run };
    let outcome = run(&mut choose, scope);
    println!("{}", outcome.report);
    Ok(say(outcome.violation.as_ref()))
}

/// Runs one seed; true if everything holds.
fn run_one(seed: u64, scope: &Scope, trace: bool) -> bool {
    let outcome = if trace {
        sim::run_shown(&mut sim::seeded(seed), scope)
    } else {
        sim::run_seed_in(seed, scope)
    };
    println!("{}", outcome.report);
    say(outcome.violation.as_ref())
}

fn say(violation: Option<&Violation>) -> bool {
    if let Some(violation) = violation {
        println!("{violation}");
    }
    violation.is_none()
}

/// Runs seeds on so many threads; true if everything holds, and everything happened.
fn run_many(seeds: Range<u64>, scope: &Scope, jobs: usize) -> bool {
    // A panic is a violation, and reported as one.
    panic::set_hook(Box::new(|_| {}));
    let bar = ProgressBar::new(seeds.end - seeds.start);
    let style = "{elapsed_precise} {wide_bar} {pos}/{len} seeds, {msg}";
    bar.set_style(ProgressStyle::with_template(style).unwrap_or(ProgressStyle::default_bar()));
    bar.enable_steady_tick(Duration::from_millis(200));
    let next = AtomicU64::new(seeds.start);
    let total = Mutex::new((Report::default(), Vec::new()));
    let began = Instant::now();
    thread::scope(|threads| {
        for _ in 0..jobs.max(1) {
            threads.spawn(|| work(&seeds, scope, &next, &total, &bar, began));
        }
    });
    bar.finish_and_clear();
    let (report, mut failures) = total.into_inner().unwrap_or_else(|error| error.into_inner());
    println!("{report}");
    let secs = began.elapsed().as_secs_f64();
    println!("{secs:.1} s on {jobs} threads, {:.0} requests/s", report.requests as f64 / secs);
    failures.sort_by_key(|&(seed, _)| seed);
    for (seed, violation) in &failures {
        println!("seed {seed}: {violation}");
        println!("  again: {} --seed {seed} --trace", program(scope));
    }
    if let Some((seed, violation)) = failures.first() {
        shrink(*seed, scope, violation);
    }
    let missing =
        if report.runs >= COVERS && *scope == Scope::SEED { report.missing() } else { Vec::new() };
    for name in &missing {
        println!("never seen: {name}");
    }
    failures.is_empty() && missing.is_empty()
}

type Failures = Vec<(u64, Violation)>;

fn work(
    seeds: &Range<u64>,
    scope: &Scope,
    next: &AtomicU64,
    total: &Mutex<(Report, Failures)>,
    bar: &ProgressBar,
    began: Instant,
) {
    loop {
        let from = next.fetch_add(BATCH, Ordering::Relaxed);
        let to = (from + BATCH).min(seeds.end);
        let mut report = Report::default();
        let mut failures = Vec::new();
        for seed in from..to {
            let outcome = sim::run_seed_in(seed, scope);
            report.merge(&outcome.report);
            failures.extend(outcome.violation.map(|violation| (seed, violation)));
        }
        let mut total = total.lock().unwrap_or_else(|error| error.into_inner());
        total.0.merge(&report);
        total.1.extend(failures);
        let (done, enough) = (total.0.requests, total.1.len() >= FAILURES);
        let failed = total.1.len();
        drop(total);
        let rate = done as f64 / began.elapsed().as_secs_f64();
        bar.set_message(format!("{done} requests, {rate:.0}/s, {failed} failed"));
        bar.inc(to.saturating_sub(from));
        if to >= seeds.end || enough {
            return;
        }
    }
}

/// Makes a failure short, and says how to see it.
fn shrink(seed: u64, scope: &Scope, violation: &Violation) {
    println!("shrinking seed {seed} …");
    let (choices, _) = sim::record(seed, scope);
    let before = choices.len();
    let shrunk = sim::shrink(choices, scope, violation.invariant, SHRINK_RUNS);
    let Some(scenario) = shrunk else {
        println!("it does not fail again");
        return;
    };
    let file = env::temp_dir().join(format!("selvedge-sim-{seed}.txt"));
    let (after, why) = (scenario.choices.len(), &scenario.violation);
    println!("{before} choices have become {after}: {why}");
    match fs::write(&file, scenario.to_text()) {
        Ok(()) => println!("  again: {} --replay {} --trace", program(scope), file.display()),
        Err(error) => eprintln!("{}: {error}", file.display()),
    }
}

fn program(scope: &Scope) -> String {
    let world = scope.theme.map_or_else(String::new, |theme| format!(" --world {}", theme.name()));
    let with = scope.with.iter().map(|fault| format!(" --with {:?}", fault.name()));
    let with = with.collect::<Vec<_>>().concat();
    format!("cargo run --profile sim -p selvedge-proptests --bin sim --{world}{with}")
}
