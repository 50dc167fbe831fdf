//! Runs many seeds of the engine's random scripts and lists those that fail, whatever it is:
//! `cargo run --profile sim -p selvedge-proptests --example seeds -- FROM COUNT`.
//!
//! With `SELVEDGE_LOG=1` and a count of 1 it tells everything that goes in and comes out.

use std::panic::catch_unwind;
use std::process::ExitCode;

use selvedge_proptests::script::{Outcome, run_seed};

fn main() -> ExitCode {
    let mut arguments = std::env::args().skip(1).map(|text| text.parse().expect("a number"));
    let from: u64 = arguments.next().unwrap_or(0);
    let count: u64 = arguments.next().unwrap_or(1000);
    let mut total = Outcome::default();
    let mut failed = 0;
    for seed in from..from + count {
        match catch_unwind(|| run_seed(seed)) {
            Ok(Ok(outcome)) => total.add(&outcome),
            Ok(Err(error)) => {
                println!("seed {seed}: {error}");
                failed += 1;
            }
            Err(_) => {
                println!("seed {seed}: panic");
                failed += 1;
            }
        }
    }
    println!("{failed} of {count} failed; {total:?}");
    ExitCode::from(u8::from(failed > 0))
}
