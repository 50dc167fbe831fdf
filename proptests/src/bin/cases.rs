//! The published cases of what policies are for: prints the tables, and draws the plots that README
//! shows.
//!
//! `cargo run --profile sim -p selvedge-proptests --bin cases [-- SEEDS [FOLDER]]`

use std::path::PathBuf;
use std::process::ExitCode;
use std::{env, fs, io};

use selvedge_proptests::cases::{breaking, cold, storm};

fn main() -> ExitCode {
    let mut arguments = env::args().skip(1);
    let Ok(seeds) = arguments.next().map_or(Ok(20), |text| text.parse::<u64>()) else {
        eprintln!("expected: cases [SEEDS [FOLDER]]");
        return ExitCode::FAILURE;
    };
    let default = || PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/plots"));
    let folder = arguments.next().map_or_else(default, PathBuf::from);
    match all(seeds.max(1), &folder) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{}: {error}", folder.display());
            ExitCode::FAILURE
        }
    }
}

fn all(seeds: u64, folder: &std::path::Path) -> io::Result<()> {
    fs::create_dir_all(folder)?;
    let storm = storm::Report::new(seeds);
    println!("{storm}");
    fs::write(folder.join("retry-storm.svg"), storm.plot())?;
    let breaking = breaking::Report::new(seeds);
    println!("{breaking}");
    fs::write(folder.join("breaker.svg"), breaking.plot())?;
    let cold = cold::Report::new(seeds);
    println!("{cold}");
    fs::write(folder.join("cold-start.svg"), cold.plot())
}
