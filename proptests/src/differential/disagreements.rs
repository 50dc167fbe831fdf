//! Where readers may disagree: a committed list, each line with its clause.

use std::cell::Cell;
use std::fmt::{self, Display};

use serde::Deserialize;

use super::Reading;

/// What was asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Question {
    /// Do they read what we forward as we meant it?
    Forwarded,
    /// Do they read the input as we do?
    Direct,
}

/// What the other reader did, beside us.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It read the same.
    Agree,
    /// It read something else.
    Differ,
    /// It refused what we accept, and says this.
    Refused(String),
    /// It accepted what we refuse.
    Accepted,
}

impl Verdict {
    pub(super) fn of(same: bool, theirs: &Reading) -> Verdict {
        match &theirs.error {
            _ if same => Verdict::Agree,
            // Whoever read another message first has not refused this one.
            _ if !theirs.messages.is_empty() => Verdict::Differ,
            Some(error) => Verdict::Refused(error.clone()),
            None => Verdict::Refused("incomplete".to_owned()),
        }
    }
}

impl Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Verdict::Agree => f.write_str("agrees"),
            Verdict::Differ => f.write_str("something else"),
            Verdict::Refused(error) => write!(f, "refused, {error}"),
            Verdict::Accepted => f.write_str("accepted"),
        }
    }
}

/// One line of the list.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Disagreement {
    /// What was asked.
    pub question: Question,
    /// The other readers.
    pub readers: Vec<String>,
    /// Why we refuse what they accept.
    #[serde(default)]
    pub we_refuse: Option<String>,
    /// What is in the error of those who refuse what we accept.
    #[serde(default)]
    pub they_refuse: Option<String>,
    /// They read something else.
    #[serde(default)]
    pub they_differ: bool,
    /// The clause by which our reading is right, or one of those that are.
    pub clause: String,
    /// Why we differ.
    pub why: String,
    /// How often it was needed.
    #[serde(skip)]
    pub used: Cell<u64>,
}

/// The list.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Disagreements {
    disagreement: Vec<Disagreement>,
}

thread_local! {
    static SHARED: &'static Disagreements = Box::leak(Box::new(Disagreements::new()));
}

impl Default for Disagreements {
    fn default() -> Self {
        Self::new()
    }
}

impl Disagreements {
    /// The list of `tables/disagreements.toml`.
    ///
    /// # Panics
    /// If it is not as this module says.
    pub fn new() -> Self {
        let text = include_str!("../../tables/disagreements.toml");
        toml::from_str(text).unwrap_or_else(|error| panic!("disagreements.toml: {error}"))
    }

    /// The same, read once per thread: a fuzzer asks often.
    pub fn shared() -> &'static Self {
        SHARED.with(|shared| *shared)
    }

    /// All lines.
    pub fn all(&self) -> &[Disagreement] {
        &self.disagreement
    }

    /// Is this listed? `reason` is why we refuse, if we do.
    pub(super) fn allow(
        &self,
        question: Question,
        reader: &str,
        reason: &str,
        verdict: &Verdict,
    ) -> bool {
        let matches = |line: &&Disagreement| {
            let what = match verdict {
                Verdict::Agree => true,
                Verdict::Differ => line.they_differ,
                Verdict::Refused(error) => {
                    line.they_refuse.as_ref().is_some_and(|part| error.contains(&**part))
                }
                Verdict::Accepted => line.we_refuse.as_deref() == Some(reason),
            };
            what && line.question == question && line.readers.iter().any(|name| name == reader)
        };
        let found = self.disagreement.iter().find(matches);
        if let Some(line) = found {
            line.used.set(line.used.get() + 1);
        }
        found.is_some()
    }
}
