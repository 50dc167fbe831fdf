//! What `.ci/instructions` compares with its baseline: rows whose instructions repeat. A head that comes
//! byte by byte costs no more than in proportion to its length, or there is nothing to compare.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::ExitCode;

use crate::measured::measure;
use crate::rows;
use crate::valgrind::Measure;

/// Prints a count and a name for each.
pub(crate) fn print(programs: &Path) -> ExitCode {
    let rows: Vec<_> = rows::all().into_iter().filter(|row| row.gate).collect();
    let costs = measure(&rows, &[Measure::Instructions], programs);
    for cost in &costs {
        println!("{:>10.0}  {}", cost.each[0], cost.row.name);
    }
    let found = costs.iter().map(|cost| (cost.row.name.as_str(), cost.each[0])).collect();
    if in_proportion(&found) { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Does four times as long a head cost four times as much?
fn in_proportion(found: &BTreeMap<&str, f64>) -> bool {
    ["codec", "engine"].into_iter().all(|part| {
        let of = |kib: u32| found[format!("{part}: a head of {kib} KiB, bytes").as_str()];
        let percent = 100.0 * of(64) / of(16);
        eprintln!("{percent:>9.0}%  {part}: of the cost of 16 KiB, at 64 KiB byte by byte");
        let fits = percent <= 440.0;
        if !fits {
            eprintln!("a head byte by byte costs more than in proportion to its length");
        }
        fits
    })
}
