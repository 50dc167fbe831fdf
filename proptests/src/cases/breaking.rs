//! Linkerd's experiment of 2016 with a timeout of a second, with the breaker and without: see
//! [`experiment`](crate::experiment). Seven timeouts in a row eject the backend that has become slow;
//! then one request at a time finds out whether it is fast again.

use std::fmt::{self, Display};

use selvedge_core::time::Duration;

use crate::experiment::{Policy, Run, Setup, run};
use crate::svg::{Stroke, Svg, Timeline, legend};

/// The ways to balance that are compared.
pub const POLICIES: [Policy; 3] = [Policy::RoundRobin, Policy::LeastLoaded, Policy::Selvedge];

/// What is run.
pub fn setup(breaker: bool) -> Setup {
    Setup { timeout: Some(Duration::from_secs(1)), breaker, ..Setup::default() }
}

/// One way to balance, over many seeds.
#[derive(Clone, Debug)]
pub struct Row {
    /// The way to balance.
    pub policy: Policy,
    /// Without the breaker.
    pub without: Sum,
    /// With it.
    pub with: Sum,
}

/// What failed, over many seeds.
#[derive(Clone, Debug)]
pub struct Sum {
    /// Failed requests per run.
    pub failed: f64,
    /// Those of the worst seed.
    pub most: u64,
    /// The share of requests that succeeded, over all seeds.
    pub success: f64,
    /// Failed requests per run until the end of each second.
    pub so_far: Vec<f64>,
}

impl Sum {
    fn new(policy: Policy, breaker: bool, seeds: u64) -> Self {
        let runs: Vec<Run> = (0..seeds).map(|seed| run(&setup(breaker), policy, seed)).collect();
        let count = runs.len().max(1) as f64;
        let failed = runs.iter().map(|run| run.failed).sum::<u64>() as f64 / count;
        let mut sum = 0;
        let so_far = (0..setup(breaker).length.as_secs() as usize).map(|second| {
            sum += runs.iter().map(|run| run.failed_in[second]).sum::<u64>();
            sum as f64 / count
        });
        Sum {
            failed,
            most: runs.iter().map(|run| run.failed).max().unwrap_or(0),
            success: runs.iter().map(Run::success).sum::<f64>() / count,
            so_far: so_far.collect(),
        }
    }
}

/// All ways to balance.
#[derive(Clone, Debug)]
pub struct Report {
    /// In the order of [`POLICIES`].
    pub rows: [Row; 3],
}

impl Report {
    /// Runs all on seeds `0..seeds`.
    pub fn new(seeds: u64) -> Self {
        let rows = POLICIES.map(|policy| Row {
            policy,
            without: Sum::new(policy, false, seeds),
            with: Sum::new(policy, true, seeds),
        });
        Report { rows }
    }

    /// The row of a way to balance.
    pub fn row(&self, policy: Policy) -> &Row {
        let row = self.rows.iter().find(|row| row.policy == policy);
        row.expect("it is one of them")
    }

    /// What has failed so far, over time.
    pub fn plot(&self) -> String {
        let mut svg = Svg::new(960.0, 340.0);
        let timeline = Timeline {
            title: "Failed requests of 60,000 so far; dashed: with a breaker; one backend is slow on grey",
            across: (70.0, 940.0),
            down: (70.0, 300.0),
            seconds: 60,
            ticks: &[(1.0, "1"), (10.0, "10"), (100.0, "100"), (1_000.0, "1,000")],
            most: 4_000.0,
            logarithmic: true,
            shaded: (15.0, 45.0),
        };
        timeline.frame(&mut svg);
        for row in &self.rows {
            let colour = colour(row.policy);
            timeline.curve(&mut svg, row.without.so_far.iter().copied(), Stroke::solid(colour));
            timeline.curve(&mut svg, row.with.so_far.iter().copied(), Stroke::dashed(colour));
        }
        let entries = POLICIES.map(|policy| (policy.name(), Stroke::solid(colour(policy))));
        legend(&mut svg, (70.0, 24.0), &entries);
        svg.finish()
    }
}

fn colour(policy: Policy) -> &'static str {
    match policy {
        Policy::RoundRobin => "#d55e00",
        Policy::LeastLoaded => "#e69f00",
        _ => "#0072b2",
    }
}

/// A table in Markdown.
impl Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "| | failed of 60,000 | worst seed | success | with a breaker: failed | worst seed | \
             success |"
        )?;
        writeln!(f, "|---|---:|---:|---:|---:|---:|---:|")?;
        for Row { policy, without, with } in &self.rows {
            write!(f, "| {} |", policy.name())?;
            for sum in [without, with] {
                write!(f, " {:.1} | {} | {:.3} % |", sum.failed, sum.most, 100.0 * sum.success)?;
            }
            writeln!(f)?;
        }
        Ok(())
    }
}
