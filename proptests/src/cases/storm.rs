//! A retry storm. Four servers can answer 1,400 requests a second, and get 1,000. For ten seconds
//! every answer takes twice as long. Who has waited for a second gives up or tries again, three times
//! at most, and in four seconds.
//!
//! Servers do not notice who has given up. So the retries that were meant to help are load that
//! helps nobody: once all wait for a second, four attempts a request are more than the servers can
//! do, and it stays so when they are fast again.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::fmt::{self, Display};

use selvedge_core::balance::{Balancer, MemberId, Outcome, Params};
use selvedge_core::error::Reason;
use selvedge_core::policy::budget::{Budget, BudgetConfig};
use selvedge_core::policy::retry::{Failed, Retry};
use selvedge_core::rng::{Rng, Seed};
use selvedge_core::time::{Duration, Time};

use super::server::Server;
use super::{Second, at, merged, second, total};
use crate::experiment::normal;
use crate::svg::{Stroke, Svg, Timeline, legend};

/// How long requests are sent, in seconds.
pub const LENGTH: u64 = 90;
/// When the servers are slow, in seconds.
pub const SLOW: (u64, u64) = (20, 30);
const SERVERS: usize = 4;
/// Requests that a server works on at a time.
const WORKERS: usize = 7;
const TAKES: Duration = Duration::from_millis(20);
const DEVIATION: Duration = Duration::from_millis(2);
const GAP: Duration = Duration::from_millis(1);
const TRY_TIMEOUT: Duration = Duration::from_secs(1);
const REQUEST_TIMEOUT: Duration = Duration::from_secs(4);
const LIMIT: u32 = 3;

/// What is tried again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Retries {
    /// Nothing.
    Never,
    /// Whatever timed out.
    Always,
    /// The same, as far as the default budget goes.
    Budgeted,
}

impl Retries {
    /// All of them.
    pub const ALL: [Retries; 3] = [Retries::Never, Retries::Always, Retries::Budgeted];

    /// Its name in tables.
    pub fn name(self) -> &'static str {
        match self {
            Retries::Never => "no retries",
            Retries::Always => "3 retries, no budget",
            Retries::Budgeted => "3 retries, the default budget",
        }
    }

    fn stroke(self) -> Stroke {
        match self {
            Retries::Never => Stroke { colour: "#999999", dash: "3 5" },
            Retries::Always => Stroke::solid("#d55e00"),
            Retries::Budgeted => Stroke::solid("#0072b2"),
        }
    }
}

/// What comes next, the earliest first; at the same time in the order in which it was planned.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Event {
    time: Time,
    number: u64,
    what: What,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum What {
    /// A client has a request.
    Request,
    /// A request is sent once more.
    Again(usize),
    /// An attempt that was sent then is answered, or has timed out.
    End { request: usize, member: MemberId, sent: Time, answered: bool },
}

struct Request {
    begin: Time,
    retries: u32,
}

struct World {
    retry: Retry,
    /// How long a client waits in all.
    patience: Duration,
    budget: Option<Budget>,
    balancer: Balancer,
    servers: Vec<Server>,
    requests: Vec<Request>,
    events: BinaryHeap<Reverse<Event>>,
    planned: u64,
    rng: Rng,
    latency: Rng,
    seconds: Vec<Second>,
}

/// What happened in each second of a run.
pub fn run(retries: Retries, seed: u64) -> Vec<Second> {
    let mut world = World::new(retries, Seed::from_number(seed));
    world.plan(Time::ZERO, What::Request);
    while let Some(Reverse(Event { time, what, .. })) = world.events.pop() {
        match what {
            What::Request => world.request(time),
            What::Again(request) => world.send(request, time),
            What::End { request, member, sent, answered } => {
                let outcome =
                    if answered { Outcome::Success(time - sent) } else { Outcome::Failure };
                world.balancer.end(member, outcome, time);
                if answered || !world.try_again(request, time) {
                    world.finish(request, answered, time);
                }
            }
        }
    }
    world.seconds
}

impl World {
    fn new(retries: Retries, seed: Seed) -> Self {
        let mut balancer = Balancer::new(Params::default());
        for _ in 0..SERVERS {
            balancer.insert(1, Time::ZERO);
        }
        let (limit, patience) = match retries {
            Retries::Never => (0, TRY_TIMEOUT),
            Retries::Always | Retries::Budgeted => (LIMIT, REQUEST_TIMEOUT),
        };
        let budget = Budget::new(&BudgetConfig::default(), 1);
        World {
            retry: Retry {
                timeout: true,
                limit,
                per_try_timeout: Some(TRY_TIMEOUT),
                ..Retry::default()
            },
            patience,
            budget: (retries == Retries::Budgeted).then_some(budget),
            balancer,
            servers: (0..SERVERS).map(|_| Server::new(WORKERS)).collect(),
            requests: Vec::new(),
            events: BinaryHeap::new(),
            planned: 0,
            rng: Rng::fork(seed, 0),
            latency: Rng::fork(seed, 1),
            // The last attempts of the last requests come after all requests.
            seconds: vec![Second::default(); LENGTH as usize + 10],
        }
    }

    fn plan(&mut self, time: Time, what: What) {
        self.planned += 1;
        self.events.push(Reverse(Event { time, number: self.planned, what }));
    }

    fn request(&mut self, now: Time) {
        let next = now + GAP;
        if next < at(LENGTH) {
            self.plan(next, What::Request);
        }
        self.seconds[second(now)].requests += 1;
        self.requests.push(Request { begin: now, retries: 0 });
        if let Some(budget) = &mut self.budget {
            budget.attempt(now);
        }
        self.send(self.requests.len() - 1, now);
    }

    fn send(&mut self, number: usize, now: Time) {
        let request = &self.requests[number];
        let deadline = request.begin + self.patience;
        // As in the engine: there is nothing left to try for the sake of which to end the last one.
        let per_try = self.retry.per_try_timeout.filter(|_| request.retries < self.retry.limit);
        let until = per_try.map_or(deadline, |timeout| deadline.min(now + timeout));
        let Some(member) = self.balancer.pick(&mut self.rng, now) else { return };
        self.balancer.begin(member);
        self.seconds[second(now)].attempts += 1;
        let takes = normal(&mut self.latency, TAKES, DEVIATION);
        let slow = at(SLOW.0)..at(SLOW.1);
        let answer = self.servers[member.index()]
            .serve(now, |turn| if slow.contains(&turn) { takes * 2 } else { takes });
        let end = What::End { request: number, member, sent: now, answered: answer <= until };
        self.plan(answer.min(until), end);
    }

    /// An attempt has timed out. Is there another one?
    fn try_again(&mut self, number: usize, now: Time) -> bool {
        let request = &mut self.requests[number];
        let again = request.retries < self.retry.limit
            && now < request.begin + self.patience
            && self.retry.covers(Failed::Without(Reason::TryTimeout), true, false)
            && self.budget.as_mut().is_none_or(|budget| budget.spend(now));
        if again {
            request.retries += 1;
            let wait = self.retry.wait(request.retries, &mut self.rng);
            self.plan(now + wait, What::Again(number));
        }
        again
    }

    fn finish(&mut self, number: usize, answered: bool, now: Time) {
        let begin = self.requests[number].begin;
        let seen = &mut self.seconds[second(begin)];
        seen.failed += u64::from(!answered);
        seen.latencies.add(now - begin);
    }
}

/// All ways to retry, over many seeds.
#[derive(Clone, Debug)]
pub struct Report {
    /// What happened in each second, in the order of [`Retries::ALL`].
    pub rows: [(Retries, Vec<Second>); 3],
}

impl Report {
    /// Runs all on seeds `0..seeds`.
    pub fn new(seeds: u64) -> Self {
        let rows = Retries::ALL.map(|retries| (retries, merged(seeds, |seed| run(retries, seed))));
        Report { rows }
    }

    /// Attempts per request over time, and what fails of what begins in each second.
    pub fn plot(&self) -> String {
        let mut svg = Svg::new(960.0, 340.0);
        let common = Timeline {
            title: "Attempts per request, by second; the servers are slow on grey",
            across: (60.0, 470.0),
            down: (70.0, 300.0),
            seconds: LENGTH as usize,
            ticks: &[(0.0, "0"), (1.0, "1"), (2.0, "2"), (3.0, "3"), (4.0, "4")],
            most: 4.2,
            logarithmic: false,
            shaded: (SLOW.0 as f64, SLOW.1 as f64),
        };
        let failures = Timeline {
            title: "Failed requests, by the second in which they began",
            across: (540.0, 940.0),
            ticks: &[(0.0, "0 %"), (0.25, "25 %"), (0.5, "50 %"), (0.75, "75 %"), (1.0, "100 %")],
            most: 1.05,
            ..common.clone()
        };
        for (timeline, value) in
            [(common, Second::amplification as fn(&Second) -> f64), (failures, Second::failures)]
        {
            timeline.frame(&mut svg);
            for (retries, seconds) in &self.rows {
                let values = seconds.iter().take(LENGTH as usize).map(value);
                timeline.curve(&mut svg, values, retries.stroke());
            }
        }
        legend(&mut svg, (60.0, 24.0), &Retries::ALL.map(|each| (each.name(), each.stroke())));
        svg.finish()
    }
}

/// When the last second began, after the servers were fast again, of which more than one request in a
/// thousand failed; `None`: it is the last of all.
pub fn recovered(seconds: &[Second]) -> Option<u64> {
    let failing = |&second: &u64| seconds[second as usize].failures() > 0.001;
    let last = (SLOW.1..LENGTH).rev().find(failing).map_or(SLOW.1, |second| second + 1);
    (last < LENGTH).then_some(last - SLOW.1)
}

/// A table in Markdown.
impl Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "| | attempts per request while slow | in the 60 s after | failed while slow | in the 60 s \
             after | well again after |"
        )?;
        writeln!(f, "|---|---:|---:|---:|---:|---:|")?;
        for (retries, seconds) in &self.rows {
            let slow = total(&seconds[SLOW.0 as usize..SLOW.1 as usize]);
            let after = total(&seconds[SLOW.1 as usize..LENGTH as usize]);
            let recovered =
                recovered(seconds).map_or("never".to_owned(), |after| format!("{after} s"));
            writeln!(
                f,
                "| {} | {:.2} | {:.2} | {:.1} % | {:.1} % | {recovered} |",
                retries.name(),
                slow.amplification(),
                after.amplification(),
                100.0 * slow.failures(),
                100.0 * after.failures(),
            )?;
        }
        Ok(())
    }
}
