//! A cold start. Ten servers are half busy with 2,000 requests a second when an eleventh joins them
//! that needs ten times as long for each at first, and becomes faster with time, as JIT compilers and
//! empty caches have it. Its equal share is five times what it can do then. A request fails when it
//! has waited for a second.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::fmt::{self, Display};

use selvedge_core::balance::{Balancer, Kind, MemberId, Outcome, Params, Settings};
use selvedge_core::rng::{Rng, Seed};
use selvedge_core::time::{Duration, Time};

use super::server::Server;
use super::{Second, at, merged, second, total};
use crate::experiment::normal;
use crate::svg::{Stroke, Svg, Timeline, legend};

/// How long requests are sent, in seconds.
pub const LENGTH: u64 = 60;
/// When the new server joins, in seconds.
pub const JOINS: u64 = 10;
/// How long it starts slowly, if at all, in seconds.
pub const SLOW_START: u64 = 30;
const SERVERS: usize = 10;
/// Requests that a server works on at a time.
const WORKERS: usize = 8;
const TAKES: Duration = Duration::from_millis(20);
const DEVIATION: Duration = Duration::from_millis(2);
const GAP: Duration = Duration::from_micros(500);
const TIMEOUT: Duration = Duration::from_secs(1);

/// The balancers that are compared.
pub const KINDS: [(Kind, &str); 3] = [
    (Kind::RoundRobin, "round robin"),
    (Kind::LeastRequest, "least request"),
    (Kind::PeakEwma, "peak EWMA"),
];

/// What a request takes that takes `warm` elsewhere, `age` after the start: ten times as long, 5.5
/// times after four seconds, twice after twelve.
fn takes(warm: Duration, age: Duration) -> Duration {
    let ages = age.as_micros() as f64 / 4e6;
    warm.mul_f64(1.0 + 9.0 / (1.0 + ages * ages))
}

/// A request under way; the order is that of its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Flight {
    end: Time,
    begin: Time,
    member: MemberId,
    answered: bool,
}

/// What happened in each second of a run.
pub fn run(kind: Kind, slow_start: bool, seed: u64) -> Vec<Second> {
    let seed = Seed::from_number(seed);
    let (mut rng, mut latency) = (Rng::fork(seed, 0), Rng::fork(seed, 1));
    let mut balancer = Balancer::new(Params::default());
    let slow_start = Duration::from_secs(if slow_start { SLOW_START } else { 0 });
    for _ in 0..SERVERS {
        balancer.insert(1, Time::ZERO);
    }
    // From now on, for whoever is new then.
    balancer.configure(Settings { kind, slow_start, ..Settings::default() });
    let mut servers: Vec<Server> = (0..=SERVERS).map(|_| Server::new(WORKERS)).collect();
    let mut seconds = vec![Second::default(); LENGTH as usize];
    let mut under_way: BinaryHeap<Reverse<Flight>> = BinaryHeap::new();
    let mut now = Time::ZERO;
    while now < at(LENGTH) {
        while let Some(&Reverse(flight)) = under_way.peek()
            && flight.end <= now
        {
            under_way.pop();
            let took = flight.end - flight.begin;
            let outcome = if flight.answered { Outcome::Success(took) } else { Outcome::Failure };
            balancer.end(flight.member, outcome, flight.end);
        }
        if now == at(JOINS) {
            balancer.insert(1, now);
        }
        let Some(member) = balancer.pick(&mut rng, now) else { break };
        balancer.begin(member);
        let warm = normal(&mut latency, TAKES, DEVIATION);
        let is_new = member.index() == SERVERS;
        let answer = servers[member.index()]
            .serve(now, |turn| if is_new { takes(warm, turn - at(JOINS)) } else { warm });
        let end = answer.min(now + TIMEOUT);
        let answered = answer == end;
        under_way.push(Reverse(Flight { end, begin: now, member, answered }));
        let seen = &mut seconds[second(now)];
        seen.requests += 1;
        seen.attempts += u64::from(is_new);
        seen.failed += u64::from(!answered);
        seen.latencies.add(end - now);
        now += GAP;
    }
    seconds
}

/// A balancer with slow start and without.
#[derive(Clone, Debug)]
pub struct Row {
    /// The balancer.
    pub kind: Kind,
    /// Its name.
    pub name: &'static str,
    /// What happened in each second without slow start, and with it. Attempts are those at the new
    /// server.
    pub seconds: [Vec<Second>; 2],
}

/// All balancers, over many seeds.
#[derive(Clone, Debug)]
pub struct Report {
    /// In the order of [`KINDS`].
    pub rows: [Row; 3],
    seeds: u64,
}

impl Report {
    /// Runs all on seeds `0..seeds`.
    pub fn new(seeds: u64) -> Self {
        let rows = KINDS.map(|(kind, name)| {
            let seconds =
                [false, true].map(|slow_start| merged(seeds, |seed| run(kind, slow_start, seed)));
            Row { kind, name, seconds }
        });
        Report { rows, seeds }
    }

    /// The slowest hundredth over time.
    pub fn plot(&self) -> String {
        let mut svg = Svg::new(960.0, 340.0);
        let timeline = Timeline {
            title: "The 99th percentile, by second; dashed: with slow start, whose time is grey",
            across: (70.0, 940.0),
            down: (70.0, 300.0),
            seconds: LENGTH as usize,
            ticks: &[(10.0, "10 ms"), (100.0, "100 ms"), (1_000.0, "1 s")],
            most: 1_200.0,
            logarithmic: true,
            shaded: (JOINS as f64, (JOINS + SLOW_START) as f64),
        };
        timeline.frame(&mut svg);
        for row in &self.rows {
            let colour = colour(row.kind);
            for (seconds, stroke) in
                row.seconds.iter().zip([Stroke::solid(colour), Stroke::dashed(colour)])
            {
                let values = seconds.iter().map(|second| second.latencies.percentile(0.99));
                timeline.curve(&mut svg, values, stroke);
            }
        }
        let entries = KINDS.map(|(kind, name)| (name, Stroke::solid(colour(kind))));
        legend(&mut svg, (70.0, 24.0), &entries);
        svg.finish()
    }
}

fn colour(kind: Kind) -> &'static str {
    match kind {
        Kind::RoundRobin => "#d55e00",
        Kind::LeastRequest => "#e69f00",
        _ => "#0072b2",
    }
}

/// What happened in the first 30 s of the new server.
pub fn while_cold(seconds: &[Second]) -> Second {
    total(&seconds[JOINS as usize..(JOINS + SLOW_START) as usize])
}

/// A table in Markdown.
impl Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "| in the first 30 s of the new server, of 60,000 requests | failed | p99 | p99.9 | with \
             slow start: failed | p99 | p99.9 |"
        )?;
        writeln!(f, "|---|---:|---:|---:|---:|---:|---:|")?;
        for row in &self.rows {
            write!(f, "| {} |", row.name)?;
            for seconds in &row.seconds {
                let cold = while_cold(seconds);
                write!(
                    f,
                    " {:.1} | {:.0} ms | {:.0} ms |",
                    cold.failed as f64 / self.seeds.max(1) as f64,
                    cold.latencies.percentile(0.99),
                    cold.latencies.percentile(0.999)
                )?;
            }
            writeln!(f)?;
        }
        Ok(())
    }
}
