//! What happened in runs, as numbers.

use std::fmt;

use selvedge_core::engine::{CloseKind, Event, EventKind, Output, TimerKind};
use selvedge_core::error::Reason;
use selvedge_core::stats::{Decision, Decisions, TlsStats};
use selvedge_core::tls::Failure;

use super::fault::Fault;
use super::invariant::{Checks, Invariant};
use super::mix::Theme;

/// Kinds of [`Output`], by place in [`Coverage::outputs`].
pub const OUTPUTS: [&str; 8] = [
    "connect",
    "flush",
    "read ready",
    "close half",
    "close full",
    "close abort",
    "resolve",
    "certify",
];

/// Kinds of timers, by place in [`Coverage::timers`].
pub const TIMERS: [&str; 10] = [
    "connection",
    "exchange",
    "endpoint",
    "service",
    "resolve",
    "drain",
    "identity",
    "handshake",
    "breaker",
    "check",
];

/// Types of HTTP/2 frames that engines send, by place in [`Coverage::frames`]: the number of the type.
/// A CONTINUATION is not among them: no head here is larger than a frame.
pub const FRAMES: [&str; 9] =
    ["DATA", "HEADERS", "", "RST_STREAM", "SETTINGS", "", "PING", "GOAWAY", "WINDOW_UPDATE"];

/// Ways that a request goes, by what its client and its app speak, in [`Coverage::ways`].
pub const WAYS: [&str; 4] = ["h1 to h1", "h1 to h2", "h2 to h1", "h2 to h2"];

/// What TLS between engines came to, in [`Coverage::mesh`].
pub const MESH: [&str; 6] = [
    "sessions made",
    "sessions that prove both ends",
    "truncated without close_notify",
    "certificates renewed",
    "records on links between engines",
    "requests to apps with an identity",
];

/// What adapters do with pipes, in [`Coverage::pipes`]: worlds, by whether there are any, and pipes.
pub const PIPES: [&str; 6] = [
    "worlds without",
    "worlds with some",
    "worlds with enough",
    "filled",
    "not emptied at once",
    "lost with a connection",
];

/// What becomes of copies of requests.
pub(super) const MIRRORS: [Decision; 7] = [
    Decision::Mirrored,
    Decision::MirrorUnready,
    Decision::MirrorCap,
    Decision::MirrorBehind,
    Decision::MirrorCancelled,
    Decision::MirrorTimeout,
    Decision::MirrorFailed,
];

/// Why handshakes fail, by `Failure as usize`. What a session of no cryptography cannot come to has
/// no name.
const FAILURES: [&str; Failure::ALL.len()] = [
    "unknown issuer",
    "expired",
    "not valid yet",
    "wrong identity",
    "",
    "",
    "",
    "",
    "alert",
    "",
    "",
    "truncated",
    "reset",
    "timeout",
    "",
    "not certified",
    "",
];

/// How often everything happened that can.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Coverage {
    /// By `Fault as usize`.
    pub faults: [u64; Fault::ALL.len()],
    /// See [`OUTPUTS`].
    pub outputs: [u64; OUTPUTS.len()],
    /// By `EventKind as usize`.
    pub events: [u64; EventKind::ALL.len()],
    /// See [`TIMERS`].
    pub timers: [u64; TIMERS.len()],
    /// Refusals and closes, by `Reason as usize`.
    pub reasons: Vec<u64>,
    /// See [`FRAMES`].
    pub frames: [u64; FRAMES.len()],
    /// See [`WAYS`].
    pub ways: [u64; WAYS.len()],
    /// See [`MESH`].
    pub mesh: [u64; MESH.len()],
    /// See [`PIPES`].
    pub pipes: [u64; PIPES.len()],
    /// What became of copies of requests, by place in `MIRRORS`.
    pub mirrors: [u64; MIRRORS.len()],
    /// Handshakes that failed, by `Failure as usize`.
    pub failures: [u64; Failure::ALL.len()],
    /// What runs were about, by `Theme as usize`.
    pub themes: [u64; Theme::ALL.len()],
    /// Ends of byte tunnels that learned of their other end.
    pub tunnels: u64,
    /// Bytes of bodies and tunnels that arrived.
    pub bytes: u64,
}

impl Default for Coverage {
    fn default() -> Self {
        Coverage {
            faults: [0; Fault::ALL.len()],
            outputs: [0; OUTPUTS.len()],
            events: [0; EventKind::ALL.len()],
            timers: [0; TIMERS.len()],
            reasons: vec![0; Reason::ALL.len()],
            frames: [0; FRAMES.len()],
            ways: [0; WAYS.len()],
            mesh: [0; MESH.len()],
            pipes: [0; PIPES.len()],
            mirrors: [0; MIRRORS.len()],
            failures: [0; Failure::ALL.len()],
            themes: [0; Theme::ALL.len()],
            tunnels: 0,
            bytes: 0,
        }
    }
}

impl Coverage {
    /// Notes an output.
    pub(super) fn output(&mut self, output: &Output) {
        let index = match output {
            Output::Connect { .. } => 0,
            Output::Flush(_) => 1,
            Output::ReadReady(_) => 2,
            Output::Close { how: CloseKind::Half, .. } => 3,
            Output::Close { how: CloseKind::Full, .. } => 4,
            Output::Close { how: CloseKind::Abort, .. } => 5,
            Output::Resolve { .. } => 6,
            Output::Certify => 7,
            Output::Event(event) => return self.event(event),
        };
        self.outputs[index] += 1;
    }

    fn event(&mut self, event: &Event) {
        if let Event::Refused { reason, .. } | Event::Closed { reason, .. } = event {
            self.reasons[*reason as usize] += 1;
        }
        self.events[event.kind() as usize] += 1;
    }

    /// Notes a frame that an engine sent.
    pub(super) fn frame(&mut self, kind: u8) {
        if let Some(count) = self.frames.get_mut(usize::from(kind)) {
            *count += 1;
        }
    }

    /// Notes why a timer fired.
    pub(super) fn timer(&mut self, kind: TimerKind) {
        let index = match kind {
            TimerKind::Connection => 0,
            TimerKind::Exchange => 1,
            TimerKind::Endpoint => 2,
            TimerKind::Service => 3,
            TimerKind::Resolve => 4,
            TimerKind::Drain => 5,
            TimerKind::Identity => 6,
            TimerKind::Handshake => 7,
            TimerKind::Breaker => 8,
            TimerKind::Check => 9,
            TimerKind::Turn => return,
        };
        self.timers[index] += 1;
    }

    /// Notes what an engine counted of TLS.
    pub(super) fn sessions(&mut self, tls: &TlsStats) {
        self.mesh[0] += tls.handshakes;
        self.mesh[1] += tls.authenticated;
        self.mesh[2] += tls.truncated;
        for (mine, theirs) in self.failures.iter_mut().zip(&tls.failures) {
            *mine += theirs;
        }
    }

    /// Notes what an engine counted of copies.
    pub(super) fn mirrors(&mut self, decisions: &Decisions) {
        for (count, decision) in self.mirrors.iter_mut().zip(MIRRORS) {
            *count += decisions.get(decision);
        }
    }

    /// Notes how many certificates an engine got: all but the first were renewals.
    pub(super) fn renewals(&mut self, certificates: u64) {
        self.mesh[3] += certificates.saturating_sub(1);
    }

    fn merge(&mut self, other: &Coverage) {
        let add = |mine: &mut [u64], theirs: &[u64]| {
            for (mine, theirs) in mine.iter_mut().zip(theirs) {
                *mine += theirs;
            }
        };
        add(&mut self.faults, &other.faults);
        add(&mut self.outputs, &other.outputs);
        add(&mut self.events, &other.events);
        add(&mut self.timers, &other.timers);
        add(&mut self.reasons, &other.reasons);
        add(&mut self.frames, &other.frames);
        add(&mut self.ways, &other.ways);
        add(&mut self.mesh, &other.mesh);
        add(&mut self.pipes, &other.pipes);
        add(&mut self.mirrors, &other.mirrors);
        add(&mut self.failures, &other.failures);
        add(&mut self.themes, &other.themes);
        self.tunnels += other.tunnels;
        self.bytes += other.bytes;
    }
}

/// What happened in one run, or in many.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// The fingerprint of one run; of many, their sum, which does not depend on their order.
    pub hash: u64,
    /// How many runs.
    pub runs: u64,
    /// Events of the simulation.
    pub steps: u64,
    /// Virtual time, in nanoseconds.
    pub nanos: u64,
    /// Connections that were opened.
    pub links: u64,
    /// Requests that clients made.
    pub requests: u64,
    /// Of them, those that reached an app.
    pub reached: u64,
    /// Of them, those that reached an app more than once.
    pub replayed: u64,
    /// Requests that ended with the answer of an app.
    pub answered: u64,
    /// … with an answer of the proxy itself.
    pub refused: u64,
    /// … with an answer that was cut short.
    pub truncated: u64,
    /// … with the end of their connection.
    pub lost: u64,
    /// … with a client that gave up, or could not be understood.
    pub given: u64,
    /// How often each invariant was evaluated.
    pub checks: Checks,
    /// How often everything else happened.
    pub coverage: Coverage,
}

impl Report {
    /// Adds another's counts.
    pub fn merge(&mut self, other: &Report) {
        self.hash = self.hash.wrapping_add(other.hash);
        self.runs += other.runs;
        self.steps += other.steps;
        self.nanos += other.nanos;
        self.links += other.links;
        self.requests += other.requests;
        self.reached += other.reached;
        self.replayed += other.replayed;
        self.answered += other.answered;
        self.refused += other.refused;
        self.truncated += other.truncated;
        self.lost += other.lost;
        self.given += other.given;
        for (mine, theirs) in self.checks.counts.iter_mut().zip(other.checks.counts) {
            *mine += theirs;
        }
        self.coverage.merge(&other.coverage);
    }
}

impl Report {
    /// What never happened, of everything that must.
    pub fn missing(&self) -> Vec<String> {
        let mut missing = Vec::new();
        for (kind, rows) in self.tables() {
            let zeros = rows.into_iter().filter(|&(_, count)| count == 0);
            missing.extend(zeros.map(|(name, _)| format!("{kind}: {name}")));
        }
        missing
    }

    /// Everything that must happen, by kind.
    fn tables(&self) -> [(&'static str, Vec<(&'static str, u64)>); 12] {
        let named = |names: &[&'static str], counts: &[u64]| {
            let rows = names.iter().copied().zip(counts.iter().copied());
            rows.filter(|(name, _)| !name.is_empty()).collect()
        };
        let invariants = Invariant::ALL.map(Invariant::name);
        let faults: Vec<&str> = Fault::ALL.iter().map(|fault| fault.name()).collect();
        // TLS of clients only goes where it wanted to.
        let events = EventKind::ALL.map(|kind| match kind {
            EventKind::UnknownServerName => "",
            _ => kind.label(),
        });
        let coverage = &self.coverage;
        [
            ("invariant evaluated", named(&invariants, &self.checks.counts)),
            ("fault", named(&faults, &coverage.faults)),
            ("output", named(&OUTPUTS, &coverage.outputs)),
            ("event", named(&events, &coverage.events)),
            ("timer", named(&TIMERS, &coverage.timers)),
            ("frame of an engine", named(&FRAMES, &coverage.frames)),
            ("way of a request", named(&WAYS, &coverage.ways)),
            ("TLS between engines", named(&MESH, &coverage.mesh)),
            ("pipe", named(&PIPES, &coverage.pipes)),
            ("mirrored request", named(&MIRRORS.map(Decision::label), &coverage.mirrors)),
            ("world", named(&Theme::ALL.map(Theme::name), &coverage.themes)),
            ("failed handshake", named(&FAILURES, &coverage.failures)),
        ]
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (kind, rows) in self.tables() {
            writeln!(f, "{kind}")?;
            for row in rows.chunks(2) {
                for (name, count) in row {
                    write!(f, "  {name:<34}{count:>13}")?;
                }
                writeln!(f)?;
            }
        }
        writeln!(f, "refused or closed, by reason")?;
        let reasons = Reason::ALL.iter().zip(&self.coverage.reasons);
        let seen: Vec<_> = reasons.filter(|&(_, &count)| count > 0).collect();
        for row in seen.chunks(2) {
            for (reason, count) in row {
                write!(f, "  {:<34}{count:>13}", reason.label())?;
            }
            writeln!(f)?;
        }
        writeln!(
            f,
            "{} requests in {} runs: {} answered, {} refused, {} cut short, {} lost, {} given up; \
             {} reached an app, {} again",
            self.requests,
            self.runs,
            self.answered,
            self.refused,
            self.truncated,
            self.lost,
            self.given,
            self.reached,
            self.replayed,
        )?;
        writeln!(
            f,
            "{} connections, {} ends of tunnels, {} MB, {} events, {} h of virtual time",
            self.links,
            self.coverage.tunnels,
            self.coverage.bytes / 1_000_000,
            self.steps,
            self.nanos / 3_600_000_000_000,
        )?;
        write!(f, "hash of all runs: {:016x}", self.hash)
    }
}
