//! The experiment over many seeds, as a table.

use std::fmt::{self, Display};

use selvedge_core::time::Duration;

use super::{Histogram, Policy, Run, Setup, run};

/// What came of all seeds of one policy.
#[derive(Clone, Debug)]
pub struct Row {
    /// The policy.
    pub policy: Policy,
    /// All latencies without a timeout.
    pub latencies: Histogram,
    /// The success rate with a timeout, over all seeds.
    pub mean: f64,
    /// The success rate of the worst seed.
    pub worst: f64,
    /// Failed requests per run with a timeout, over all seeds.
    pub failed: f64,
    /// Failed requests of the worst seed.
    pub most_failed: u64,
    /// Of the failed ones, those that were sent before the first had timed out, over all seeds.
    pub unwarned: f64,
}

/// All policies.
#[derive(Clone, Debug)]
pub struct Report {
    /// How many seeds.
    pub seeds: u64,
    /// One row per policy, in the order of [`Policy::ALL`].
    pub rows: Vec<Row>,
}

/// The percentiles of the table, as shares.
const PERCENTILES: [f64; 6] = [0.5, 0.9, 0.95, 0.99, 0.999, 0.9999];

impl Report {
    /// Runs every policy on seeds `0..seeds`, with and without the timeout of a second. `done` is
    /// told after each policy.
    pub fn new(seeds: u64, mut done: impl FnMut(Policy)) -> Self {
        let rows = Policy::ALL.map(|policy| {
            let row = Row::new(policy, seeds);
            done(policy);
            row
        });
        Report { seeds, rows: rows.into() }
    }

    /// The row of a policy.
    pub fn row(&self, policy: Policy) -> &Row {
        let row = self.rows.iter().find(|row| row.policy == policy);
        row.expect("every policy has a row")
    }
}

impl Row {
    fn new(policy: Policy, seeds: u64) -> Self {
        let patient = Setup::default();
        let timeout = Some(Duration::from_secs(1));
        let strict = Setup { timeout, ..patient };
        let mut latencies = Histogram::default();
        for seed in 0..seeds {
            latencies.merge(&run(&patient, policy, seed).latencies);
        }
        let strict: Vec<Run> = (0..seeds).map(|seed| run(&strict, policy, seed)).collect();
        let mean = |count: fn(&Run) -> u64| {
            strict.iter().map(count).sum::<u64>() as f64 / seeds.max(1) as f64
        };
        let failed = mean(|run| run.failed);
        Row {
            policy,
            latencies,
            mean: 1.0 - failed / mean(|run| run.sent),
            worst: strict.iter().map(Run::success).fold(1.0, f64::min),
            failed,
            most_failed: strict.iter().map(|run| run.failed).max().unwrap_or(0),
            unwarned: mean(|run| run.unwarned),
        }
    }
}

/// A table in Markdown, and how far from the best possible we are.
impl Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "| |")?;
        for share in PERCENTILES {
            write!(f, " p{} |", (share * 1e6).round() / 1e4)?;
        }
        writeln!(f, " success, mean | worst seed | failed of 60,000, mean | worst seed |")?;
        writeln!(f, "|---|{}", "---:|".repeat(PERCENTILES.len() + 4))?;
        for row in &self.rows {
            write!(f, "| {} |", row.policy.name())?;
            for share in PERCENTILES {
                write!(f, " {:.0} ms |", row.latencies.percentile(share))?;
            }
            writeln!(
                f,
                " {:.3} % | {:.3} % | {:.1} | {} |",
                100.0 * row.mean,
                100.0 * row.worst,
                row.failed,
                row.most_failed
            )?;
        }
        let (ours, best) = (self.row(Policy::Selvedge), self.row(Policy::Informed));
        write!(
            f,
            "\nThe best possible loses {:.1}: what was sent before an answer could be missed. Ours \
             loses {:.1}: {:.1} before the first one timed out, {:.1} to find out whether the \
             backend is fast again.",
            best.failed,
            ours.failed,
            ours.unwarned,
            ours.failed - ours.unwarned
        )
    }
}
