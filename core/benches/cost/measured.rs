//! Rows as they were measured: side by side where the machine has the cores.

use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::{array, thread};

use crate::rows::{Row, Run};
use crate::valgrind::{Folder, Measure, count};

/// What one more of a row costs.
pub(crate) struct Cost {
    pub(crate) row: Row,
    /// As the measures that were asked for.
    pub(crate) each: Vec<f64>,
}

/// Measures rows.
pub(crate) fn measure(rows: &[Row], measures: &[Measure], programs: &Path) -> Vec<Cost> {
    let folder = Folder::new();
    let total = rows.len();
    side_by_side(rows, |at, row| {
        eprintln!("{} of {total}: {}", at + 1, row.name);
        let runs = [row.few, 3 * row.few].map(|n| prepare(row, n, programs, &folder));
        let each = |&measure: &Measure| {
            let [few, many] =
                array::from_fn(|at| count(measure, &programs.join(program(row)), &runs[at]));
            (many as f64 - few as f64) / (2 * row.few) as f64
        };
        Cost { each: measures.iter().map(each).collect(), row: row.clone() }
    })
}

/// Does work on as many threads as there are cores; the results in their order.
pub(crate) fn side_by_side<T: Sync, R: Send>(
    work: &[T],
    each: impl Fn(usize, &T) -> R + Sync,
) -> Vec<R> {
    let next = AtomicUsize::new(0);
    let take_turns = || {
        let mut results = Vec::new();
        loop {
            let at = next.fetch_add(1, Ordering::Relaxed);
            let Some(item) = work.get(at) else { return results };
            results.push((at, each(at, item)));
        }
    };
    let threads = thread::available_parallelism().map_or(1, usize::from);
    let mut results: Vec<(usize, R)> = thread::scope(|scope| {
        let threads: Vec<_> = (0..threads).map(|_| scope.spawn(take_turns)).collect();
        let done = threads.into_iter().map(|thread| thread.join().expect("nothing is wrong"));
        done.flatten().collect()
    });
    results.sort_by_key(|&(at, _)| at);
    results.into_iter().map(|(_, result)| result).collect()
}

fn program(row: &Row) -> &'static str {
    match row.run {
        Run::Direct(program, _) | Run::Replay { program, .. } => program,
    }
}

/// The arguments of a run of so many.
fn prepare(row: &Row, n: u64, programs: &Path, folder: &Folder) -> Vec<String> {
    match &row.run {
        Run::Direct(_, args) => args.iter().cloned().chain([n.to_string()]).collect(),
        Run::Replay { program, record, replay } => {
            let mut name = vec![*program];
            name.extend(record.iter().map(String::as_str));
            let file = folder.file(&name, n);
            let recorded = Command::new(programs.join(program))
                .args(record)
                .arg(n.to_string())
                .arg(&file)
                .status();
            assert!(recorded.is_ok_and(|status| status.success()), "cannot record {}", row.name);
            let file = file.to_string_lossy().into_owned();
            replay.iter().cloned().chain([file]).collect()
        }
    }
}
