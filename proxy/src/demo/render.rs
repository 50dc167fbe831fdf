//! A report as text and as JSON.

use std::fmt::{self, Display, Formatter};
use std::time::Duration;

use serde_json::{Value as Json, json};

use super::CRASHES;
use super::cost::Cost;
use super::mesh::Session;
use super::report::{Check, Report, Row, Rule, Secured, Timeline, Value};

impl Report {
    /// The same figures as in the text.
    pub(super) fn to_json(&self) -> Json {
        json!({
            "ok": self.ok(),
            "endpoints": self.rows.iter().map(row_json).collect::<Vec<_>>(),
            "total": row_json(&self.total),
            "crashed_app": {
                "name": CRASHES,
                "crashed_s": seconds(self.timeline.crashed),
                "noticed_s": seconds(self.timeline.noticed),
                "back_s": seconds(self.timeline.back),
                "rejoined_s": seconds(self.timeline.rejoined),
            },
            "mutual_tls": self.secured.as_ref().map(secured_json),
            "cost": self.cost.as_ref().map(Cost::to_json),
            "resent": self.resent,
            "called_again": self.again,
            "seconds": seconds(Some(self.timeline.ended)),
            "checks": self.checks.iter().map(check_json).collect::<Vec<_>>(),
        })
    }
}

fn row_json(row: &Row) -> Json {
    json!({
        "name": row.name,
        "requests": row.requests,
        "share": row.share,
        "success": row.success,
        "p50_ms": milliseconds(row.p50),
        "p99_ms": milliseconds(row.p99),
    })
}

fn secured_json(secured: &Secured) -> Json {
    let sessions = secured.sessions.iter().map(|(session, handshakes)| {
        json!({
            "identity": session.identity,
            "version": session.version,
            "group": session.group,
            "suite": session.suite,
            "handshakes": handshakes,
        })
    });
    json!({
        "requests": secured.received,
        "identified": secured.identified,
        "sessions": sessions.collect::<Vec<_>>(),
    })
}

fn check_json(check: &Check) -> Json {
    let value = match check.value {
        Value::Count(count) => json!(count),
        Value::Share(share) => json!(share),
    };
    let limit = match check.value {
        Value::Count(_) => json!(check.limit as u64),
        Value::Share(_) => json!(check.limit),
    };
    json!({
        "name": check.name,
        "ok": check.ok,
        "value": value,
        "rule": match check.rule {
            Rule::Exactly => "==",
            Rule::Below => "<",
            Rule::Above => ">",
        },
        "limit": limit,
    })
}

/// To the microsecond, as a number for machines.
fn milliseconds(duration: Option<Duration>) -> Option<f64> {
    duration.map(|duration| duration.as_micros() as f64 / 1e3)
}

fn seconds(duration: Option<Duration>) -> Option<f64> {
    duration.map(|duration| duration.as_millis() as f64 / 1e3)
}

impl Display for Report {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let width = self.rows.iter().map(|row| row.name.len()).max().unwrap_or(0).max(8);
        writeln!(
            f,
            "  {:width$}  {:>9}  {:>8}  {:>9}  {:>9}  {:>9}",
            "endpoint", "requests", "share", "success", "p50", "p99"
        )?;
        for row in &self.rows {
            write_row(f, row, width)?;
        }
        writeln!(f, "  {}", "-".repeat(width + 54))?;
        write_row(f, &self.total, width)?;
        if let Some(secured) = &self.secured {
            write_secured(f, secured)?;
        }
        if let Some(cost) = &self.cost {
            write!(f, "{cost}")?;
        }
        writeln!(f, "\n{}", Story(self))?;
        for check in &self.checks {
            writeln!(f, "{check}")?;
        }
        Ok(())
    }
}

fn write_row(f: &mut Formatter<'_>, row: &Row, width: usize) -> fmt::Result {
    let time = |duration: Option<Duration>| {
        milliseconds(duration).map_or_else(|| "-".to_owned(), |ms| format!("{ms:.1} ms"))
    };
    writeln!(
        f,
        "  {:width$}  {:>9}  {:>8}  {:>9}  {:>9}  {:>9}",
        row.name,
        row.requests,
        percent(row.share),
        percent(row.success),
        time(row.p50),
        time(row.p99)
    )
}

/// Who the apps were told that their requests are from, and what that was worth.
fn write_secured(f: &mut Formatter<'_>, secured: &Secured) -> fmt::Result {
    let Secured { sessions, received, identified } = secured;
    writeln!(
        f,
        "\n  {identified} of the {received} requests that the apps got came in mutual TLS from"
    )?;
    for (session, handshakes) in sessions {
        let Session { identity, version, group, suite } = session;
        writeln!(f, "  {identity}\n  {version}, {group}, {suite}: {handshakes} handshakes")?;
    }
    Ok(())
}

/// Rounded down: 100 % means all.
fn percent(part: f64) -> String {
    format!("{:.2} %", (part * 1e4 + 1e-6).floor() / 1e2)
}

/// What happened to the app that crashed.
struct Story<'a>(&'a Report);

impl Display for Story<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let Timeline { crashed, noticed, back, rejoined, ended } = self.0.timeline;
        let at = |time: Option<Duration>| {
            time.map_or_else(
                || "never".to_owned(),
                |time| format!("at {:.2} s", time.as_secs_f64()),
            )
        };
        writeln!(
            f,
            "{CRASHES} crashed {}; Selvedge noticed {}. It was back {} and in use again {}.",
            at(crashed),
            at(noticed),
            at(back),
            at(rejoined)
        )?;
        write!(f, "Sent again over another connection: {}. ", self.0.resent)?;
        if self.0.again > 0 {
            write!(f, "Sent again by the client: {}. ", self.0.again)?;
        }
        writeln!(f, "Time for all: {:.1} s.", ended.as_secs_f64())
    }
}

impl Display for Check {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let verdict = if self.ok { "ok    " } else { "FAILED" };
        let number = |number: f64| match self.value {
            Value::Count(_) => format!("{number}"),
            Value::Share(_) => percent(number),
        };
        let (value, limit) = (number(self.value.number()), number(self.limit));
        let rule = match self.rule {
            Rule::Exactly => "has to be",
            Rule::Below => "has to be under",
            Rule::Above => "has to be above",
        };
        write!(f, "  {verdict}  {:<52}{value:>9}   ({rule} {limit})", self.what)
    }
}
