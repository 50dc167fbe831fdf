//! What the core costs: instructions, allocations, copies and memory, by valgrind. They repeat; seconds
//! do not.
//!
//! ```text
//! cargo bench -p selvedge-core                      all of it, some minutes
//! cargo bench -p selvedge-core -- rows h2 hyper     rows whose names have one of these in them
//! cargo bench -p selvedge-core -- held              memory of what is idle
//! cargo bench -p selvedge-core -- scale [full]      curves, up to a million connections with full
//! cargo bench -p selvedge-core -- instructions      what .ci/instructions compares with its baseline
//! ```

mod gate;
mod held;
mod measured;
mod rows;
mod scale;
#[path = "../../../proptests/src/svg.rs"]
// Its timelines are for simulations, and there it is public.
#[allow(dead_code, unreachable_pub)]
mod svg;
mod valgrind;

use std::env;
use std::path::Path;
use std::process::ExitCode;

use measured::{Cost, measure};
use rows::{Part, Row};
use valgrind::Measure;

const USAGE: &str = "nothing, rows [PART OF A NAME]…, held, scale [full] or instructions: see core/benches/cost/main.rs";

fn main() -> ExitCode {
    // cargo adds this one.
    let args: Vec<String> = env::args().skip(1).filter(|arg| arg != "--bench").collect();
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    if !valgrind::is_installed() {
        eprintln!("*** NOTHING IS MEASURED: valgrind is not installed (apt install valgrind) ***");
        return if args.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE };
    }
    let programs = valgrind::build();
    match args[..] {
        [] => {
            table(&programs, |_| true);
            held::print(&programs);
            scale::print(&programs, false);
        }
        ["rows", ref parts @ ..] => {
            let is_meant = |row: &Row| parts.iter().any(|part| row.name.contains(part));
            table(&programs, |row| parts.is_empty() || is_meant(row));
        }
        ["held"] => held::print(&programs),
        ["scale"] => scale::print(&programs, false),
        ["scale", "full"] => scale::print(&programs, true),
        ["instructions"] => return gate::print(&programs),
        _ => {
            eprintln!("{USAGE}");
            return ExitCode::from(64);
        }
    }
    ExitCode::SUCCESS
}

/// Instructions, allocations and copies of rows.
fn table(programs: &Path, wanted: impl Fn(&Row) -> bool) {
    let rows: Vec<Row> = rows::all().into_iter().filter(wanted).collect();
    let measures = [Measure::Instructions, Measure::Allocations, Measure::Copied];
    let costs = measure(&rows, &measures, programs);
    for (part, title) in Part::ALL {
        let mut shown = costs.iter().filter(|cost| cost.row.part == part).peekable();
        if shown.peek().is_none() {
            continue;
        }
        println!("\n{title}:\n{:>12} {:>11} {:>12}", "instructions", "allocations", "bytes copied");
        for Cost { row, each } in shown {
            let [instructions, allocations, copied] = each[..] else { continue };
            println!("{instructions:>12.0} {allocations:>11.2} {copied:>12.0}  {}", row.name);
        }
    }
    println!(
        "\nInstructions by callgrind, allocations and bytes copied (by memcpy and memmove; of them one copy\n\
         of what is read, which the kernel would make) by DHAT: the difference between N and 3N."
    );
}
