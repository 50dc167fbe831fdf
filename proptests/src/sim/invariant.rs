//! What must always hold, and what did not.

use std::fmt;

/// What must hold whatever happens (the list of the design, in its order).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Invariant {
    /// Each request ends exactly once, as the model allows; it is not sent more often than policy
    /// allows, nor after a final head was passed on, nor if it must not be repeated.
    EndsOnce,
    /// Heads and bodies arrive unchanged; what was cut short never looks complete.
    Bodies,
    /// What is buffered stays under its caps.
    Caps,
    /// Flow-control credit is conserved: what was read is held or written, and who was paused is
    /// told when there is room.
    Credit,
    /// Nothing happens after its deadline.
    Deadlines,
    /// Time moves: a firing timer makes progress.
    Progress,
    /// After healing everything ends: no connections, no buffers, gauges at zero.
    Drains,
    /// Load is counted right; nobody connects to an endpoint that was removed.
    Load,
    /// Same choices, same trace; same bytes in other pieces, same meaning.
    Determinism,
    /// Hostile input never panics, and costs a bounded amount of work.
    Hostile,
    /// The last known endpoints survive the loss of discovery.
    LastKnown,
    /// Retries stay within their limit and their budget.
    Budget,
    /// Requests go, and are answered, as their routes say.
    Routed,
    /// Requests are shared out over endpoints and services by weight, zone, turns and key.
    Balanced,
    /// Ports let through as many requests a second as they are told, and refuse none before that.
    Admitted,
    /// As many are in flight, and wait, as may be: in order, and not too long.
    Bounded,
    /// Endpoints are ejected for failures that they are to blame for, so many at most, and get one
    /// request each time to show how they do; who is well is asked again.
    Ejected,
    /// Endpoints are checked as they should be, until they are removed; who does not pass is not used.
    Checked,
    /// What is said against endpoints is ignored while, and only while, too few would be left.
    Panic,
    /// Requests go to who is meant, and come from who is allowed; another certificate ends nothing.
    Identified,
    /// What is said of a connection that is gone changes nothing.
    Stale,
    /// A 1xx is passed on once, before the answer: of several attempts those of one.
    Informed,
}

impl Invariant {
    /// Every invariant, in order: `ALL[invariant as usize] == invariant`.
    pub const ALL: [Invariant; 22] = [
        Invariant::EndsOnce,
        Invariant::Bodies,
        Invariant::Caps,
        Invariant::Credit,
        Invariant::Deadlines,
        Invariant::Progress,
        Invariant::Drains,
        Invariant::Load,
        Invariant::Determinism,
        Invariant::Hostile,
        Invariant::LastKnown,
        Invariant::Budget,
        Invariant::Routed,
        Invariant::Balanced,
        Invariant::Admitted,
        Invariant::Bounded,
        Invariant::Ejected,
        Invariant::Checked,
        Invariant::Panic,
        Invariant::Identified,
        Invariant::Stale,
        Invariant::Informed,
    ];

    /// A short name for tables.
    pub const fn name(self) -> &'static str {
        match self {
            Invariant::EndsOnce => "requests end once",
            Invariant::Bodies => "bodies intact",
            Invariant::Caps => "buffers capped",
            Invariant::Credit => "credit conserved",
            Invariant::Deadlines => "deadlines kept",
            Invariant::Progress => "time moves",
            Invariant::Drains => "drains to nothing",
            Invariant::Load => "load as counted",
            Invariant::Determinism => "same choices, same trace",
            Invariant::Hostile => "hostile input is harmless",
            Invariant::LastKnown => "last known endpoints stay",
            Invariant::Budget => "retries within budgets",
            Invariant::Routed => "as routes say",
            Invariant::Balanced => "shares and keys",
            Invariant::Admitted => "rates limited",
            Invariant::Bounded => "in flight and queued bounded",
            Invariant::Ejected => "ejected as breakers say",
            Invariant::Checked => "checked, and used if healthy",
            Invariant::Panic => "panic only when it must be",
            Invariant::Identified => "who is who",
            Invariant::Stale => "late reports change nothing",
            Invariant::Informed => "each 1xx once, before the answer",
        }
    }
}

impl fmt::Display for Invariant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", *self as usize + 1, self.name())
    }
}

/// Something that must hold did not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// What.
    pub invariant: Invariant,
    /// How, in words.
    pub message: String,
    /// After so many events.
    pub step: u64,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "invariant {}, step {}: {}", self.invariant, self.step, self.message)
    }
}

/// Holds, or says what does not.
pub(super) type Check = Result<(), Box<Violation>>;

/// How often each invariant was evaluated, and which are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Checks {
    /// By `Invariant as usize`.
    pub counts: [u64; Invariant::ALL.len()],
    /// The only one that is judged, if not all are.
    pub(super) only: Option<Invariant>,
}

impl Checks {
    /// Evaluates `invariant`: `holds`, or else `message` says what is wrong.
    #[inline]
    pub(super) fn that(
        &mut self,
        invariant: Invariant,
        holds: bool,
        message: impl FnOnce() -> String,
    ) -> Check {
        self.counts[invariant as usize] += 1;
        if holds || !self.judges(invariant) { Ok(()) } else { Err(violated(invariant, message())) }
    }

    /// The same, for something that says itself what is wrong.
    pub(super) fn result(&mut self, invariant: Invariant, result: Result<(), String>) -> Check {
        let message = result.err();
        self.that(invariant, message.is_none(), || message.unwrap_or_default())
    }

    /// Is it one that is judged?
    pub(super) fn judges(&self, invariant: Invariant) -> bool {
        self.only.is_none_or(|only| only == invariant)
    }
}

/// A violation; the step is filled in by whoever counts them.
#[expect(clippy::unnecessary_box_returns, reason = "errors are boxed: most results have none")]
pub(super) fn violated(invariant: Invariant, message: impl Into<String>) -> Box<Violation> {
    Box::new(Violation { invariant, message: message.into(), step: 0 })
}
