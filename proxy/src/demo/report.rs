//! What the run is judged by.

use std::time::{Duration, Instant};

use super::app::Diary;
use super::client::{Answer, USERS};
use super::cost::Cost;
use super::health::Down;
use super::mesh::Session;
use super::wire::Wire;
use super::{CRASHES, SLOW};

/// What was seen, from the client's side and from Selvedge's.
pub(super) struct Seen<'a> {
    pub(super) wire: Wire,
    /// The names of the apps, in the order of the table.
    pub(super) apps: &'a [&'static str],
    pub(super) answers: &'a [Answer],
    pub(super) start: Instant,
    pub(super) end: Instant,
    /// The diary of the app that crashed.
    pub(super) diary: &'a Diary,
    /// When Selvedge knew it to be down.
    pub(super) downs: &'a [Down],
    /// Requests that Selvedge sent again after they had met a dead connection.
    pub(super) resent: u64,
    /// `None`: nobody has an identity.
    pub(super) secured: Option<Secured>,
    pub(super) cost: Option<Cost>,
}

/// What the apps and their Selvedges saw of mutual TLS.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Secured {
    /// What was agreed on, and in how many handshakes.
    pub(super) sessions: Vec<(Session, u64)>,
    /// Requests that the apps got.
    pub(super) received: u64,
    /// Of them: those that came with the identity of the client.
    pub(super) identified: u64,
}

/// The figures and the verdict.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Report {
    pub(super) rows: Vec<Row>,
    pub(super) total: Row,
    pub(super) timeline: Timeline,
    pub(super) resent: u64,
    /// Calls that the client made again.
    pub(super) again: u64,
    pub(super) secured: Option<Secured>,
    pub(super) cost: Option<Cost>,
    pub(super) checks: Vec<Check>,
}

/// The answers of one app, of Selvedge itself, or all.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Row {
    pub(super) name: &'static str,
    pub(super) requests: u64,
    /// Of all requests, 0 to 1.
    pub(super) share: f64,
    /// Answers with status 200 (gRPC: OK) among its own, 0 to 1; 1 if it has none.
    pub(super) success: f64,
    pub(super) p50: Option<Duration>,
    pub(super) p99: Option<Duration>,
}

/// When what happened, since the first request. `None`: not at all.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Timeline {
    pub(super) crashed: Option<Duration>,
    /// Selvedge knew that it is down.
    pub(super) noticed: Option<Duration>,
    /// The app listens again.
    pub(super) back: Option<Duration>,
    /// Selvedge knew that it is up again.
    pub(super) rejoined: Option<Duration>,
    pub(super) ended: Duration,
}

/// One thing that has to be true.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Check {
    /// For machines.
    pub(super) name: &'static str,
    /// For people: what the value is.
    pub(super) what: &'static str,
    pub(super) value: Value,
    pub(super) rule: Rule,
    /// In the unit of the value.
    pub(super) limit: f64,
    pub(super) ok: bool,
}

/// A number and what it counts.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Value {
    Count(u64),
    /// 0 to 1.
    Share(f64),
}

/// How a value has to compare with its limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Rule {
    Exactly,
    Below,
    Above,
}

impl Report {
    pub(super) fn new(seen: &Seen<'_>) -> Report {
        let mut rows: Vec<Row> = Vec::new();
        for &name in seen.apps {
            rows.push(Row::new(name, seen, |answer| is_from(answer, name)));
        }
        let own = Row::new("(Selvedge itself)", seen, |answer| {
            answer.app.is_none() && answer.status.is_some()
        });
        let none = Row::new("(no answer)", seen, |answer| answer.status.is_none());
        // Only when something went wrong.
        rows.extend([own, none].into_iter().filter(|row| row.requests > 0));
        Report {
            rows,
            total: Row::new("total", seen, |_| true),
            timeline: Timeline::new(seen),
            resent: seen.resent,
            again: called_again(seen.answers),
            secured: seen.secured.clone(),
            cost: seen.cost.clone(),
            checks: checks(seen),
        }
    }

    /// Did every check succeed?
    pub(super) fn ok(&self) -> bool {
        self.checks.iter().all(|check| check.ok)
    }
}

impl Seen<'_> {
    fn is_good(&self, answer: &Answer) -> bool {
        answer.status == Some(self.wire.success())
    }
}

impl Row {
    /// Of the answers that are `its`.
    fn new(name: &'static str, seen: &Seen<'_>, its: impl Fn(&Answer) -> bool) -> Row {
        let answers = seen.answers;
        let its = || answers.iter().filter(|&answer| its(answer));
        let good = its().filter(|answer| seen.is_good(answer)).count();
        let mut latencies: Vec<Duration> = its().map(|answer| answer.latency).collect();
        latencies.sort_unstable();
        Row {
            name,
            requests: latencies.len() as u64,
            share: share(latencies.len(), answers.len()).unwrap_or(0.0),
            success: share(good, latencies.len()).unwrap_or(1.0),
            p50: quantile(&latencies, 0.5),
            p99: quantile(&latencies, 0.99),
        }
    }
}

impl Timeline {
    fn new(seen: &Seen<'_>) -> Timeline {
        let since = |at: Instant| at.saturating_duration_since(seen.start);
        Timeline {
            crashed: seen.diary.crashed.map(since),
            noticed: seen.downs.first().map(|down| since(down.since)),
            back: seen.diary.back.map(since),
            rejoined: seen.downs.last().and_then(|down| down.until).map(since),
            ended: since(seen.end),
        }
    }
}

impl Check {
    fn new(name: &'static str, what: &'static str, value: Value, rule: Rule, limit: f64) -> Check {
        let number = value.number();
        let ok = match rule {
            Rule::Exactly => number.total_cmp(&limit).is_eq(),
            Rule::Below => number < limit,
            Rule::Above => number > limit,
        };
        Check { name, what, value, rule, limit, ok }
    }
}

impl Value {
    pub(super) fn number(self) -> f64 {
        match self {
            Value::Count(count) => count as f64,
            Value::Share(share) => share,
        }
    }
}

fn checks(seen: &Seen<'_>) -> Vec<Check> {
    let whole = seen.answers.len();
    let bad = seen.answers.iter().filter(|answer| !seen.is_good(answer)).count();
    let slow = seen.answers.iter().filter(|answer| is_from(answer, SLOW)).count();
    let last_quarter = seen.answers.iter().filter(|a| a.sequence >= whole as u64 * 3 / 4);
    let (late, of_it) = last_quarter
        .fold((0, 0), |(all, its), answer| (all + 1, its + usize::from(is_from(answer, CRASHES))));
    // Without this one the next could be true of nothing. Looks see an endpoint that is not ready.
    let noticed = seen.downs.iter().filter(|down| down.looks > 1).count();
    let (name, what) = match seen.wire {
        Wire::Http1 => ("not_200", "answers other than 200"),
        Wire::Grpc => ("not_ok", "answers other than OK"),
    };
    let mut checks = vec![
        Check::new(name, what, Value::Count(bad as u64), Rule::Exactly, 0.0),
        Check::new(
            "slow_share",
            "the slow app's share",
            Value::Share(share(slow, whole).unwrap_or(1.0)),
            Rule::Below,
            0.15,
        ),
        Check::new(
            "crash_noticed",
            "times that Selvedge took the crashed app out of use",
            Value::Count(noticed as u64),
            Rule::Above,
            0.0,
        ),
        Check::new(
            "chosen_while_down",
            "requests sent to it while known to be down",
            Value::Count(chosen_while_down(seen)),
            Rule::Exactly,
            0.0,
        ),
        Check::new(
            "crashed_last_quarter",
            "its share of the last quarter",
            Value::Share(share(of_it, late).unwrap_or(0.0)),
            Rule::Above,
            0.1,
        ),
    ];
    if let Some(secured) = &seen.secured {
        let others = secured.received - secured.identified;
        checks.push(Check::new(
            "not_mutual_tls",
            "requests that an app got from nobody",
            // Nothing at all proves nothing.
            Value::Count(if secured.received == 0 { whole as u64 } else { others }),
            Rule::Exactly,
            0.0,
        ));
    }
    if seen.wire == Wire::Grpc || seen.secured.is_some() {
        // Many share a connection, and no more than can be under way at once were lost in one crash.
        checks.push(Check::new(
            "called_again",
            "requests that the client sent again",
            Value::Count(called_again(seen.answers)),
            Rule::Below,
            USERS as f64 + 1.0,
        ));
    }
    checks
}

fn called_again(answers: &[Answer]) -> u64 {
    answers.iter().filter(|answer| answer.again).count() as u64
}

/// What Selvedge says that it sent, and what the app says that it got.
fn chosen_while_down(seen: &Seen<'_>) -> u64 {
    let received =
        |down: &Down| seen.diary.received.iter().filter(|&&at| down.contains(at)).count();
    seen.downs.iter().map(|down| down.attempts().max(received(down) as u64)).sum()
}

fn is_from(answer: &Answer, app: &str) -> bool {
    answer.app.as_deref() == Some(app)
}

fn share(part: usize, whole: usize) -> Option<f64> {
    (whole > 0).then(|| part as f64 / whole as f64)
}

/// The smallest value that at least the part `q` of all values does not exceed (nearest rank).
fn quantile(sorted: &[Duration], q: f64) -> Option<Duration> {
    let rank = (sorted.len() as f64 * q).ceil() as usize;
    sorted.get(rank.saturating_sub(1)).copied()
}

#[cfg(test)]
mod tests;
