//! Which faults a run has, and how often: each seed draws its own mix.

use std::fmt;
use std::time::Duration;

use super::excuses::{DELAYS, WAITS};
use super::fault::{Fault, Faults};
use crate::choose::{Choose, pick};

/// What a run is about, apart from what goes wrong by chance.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Theme {
    /// Nothing in particular.
    Anything,
    /// All apps fail, until they are healed.
    Outage,
    /// One app fails.
    OneBad,
    /// Apps take longer and longer, and then fail.
    SlowDeath,
    /// Apps fail on and off.
    Flapping,
    /// All apps fail, and come back at once.
    Herd,
    /// Apps are well, and clients do not wait for them.
    Impatient,
}

impl Theme {
    /// Every kind, in order: `ALL[theme as usize] == theme`.
    pub const ALL: [Theme; 7] = [
        Theme::Anything,
        Theme::Outage,
        Theme::OneBad,
        Theme::SlowDeath,
        Theme::Flapping,
        Theme::Herd,
        Theme::Impatient,
    ];

    /// Its name in tables, and for who asks for it.
    pub const fn name(self) -> &'static str {
        match self {
            Theme::Anything => "anything",
            Theme::Outage => "outage",
            Theme::OneBad => "one-bad",
            Theme::SlowDeath => "slow-death",
            Theme::Flapping => "flapping",
            Theme::Herd => "herd",
            Theme::Impatient => "impatient",
        }
    }

    /// The one of this name.
    pub fn named(name: &str) -> Option<Theme> {
        Theme::ALL.into_iter().find(|theme| theme.name() == name)
    }

    fn draw(choose: &mut dyn Choose) -> Self {
        // Most runs are about nothing in particular.
        *Theme::ALL.get((choose.below(24) + 1).saturating_sub(18)).unwrap_or(&Theme::Anything)
    }
}

/// Faults of clients that do not wait.
const IMPATIENCE: [Fault; 6] = [
    Fault::ClientAborts,
    Fault::ClientLeaves,
    Fault::ClientHalfCloses,
    Fault::ClientStuck,
    Fault::ClientResets,
    Fault::AppSlow,
];

/// How often each fault happens in one run, and other things that the run is about.
#[derive(Clone, Debug)]
pub struct Mix {
    /// Once in so many times, by `Fault as usize`; 0: never.
    rates: [u16; Fault::ALL.len()],
    /// Faults that can happen: those with a rate, and those that happen without being drawn.
    faults: Faults,
    planned: Faults,
    /// The largest body.
    pub(super) largest: usize,
    /// How long a link takes, in nanoseconds.
    pub(super) latency: u64,
    /// One turn for everything that is ready, or one for each.
    pub(super) batches: bool,
    /// Ready sockets are visited in any order.
    pub(super) shuffles: bool,
    /// Original destinations are used for HTTP: then nothing may be taken for opaque by its pace.
    pub(super) redirects: bool,
    /// Engines have identities, and TLS between them.
    pub(super) meshed: bool,
    /// Requests to services are copied to a mirror.
    pub(super) mirrored: bool,
    /// How many workers each proxy has: engines that share its address, its configuration and what it
    /// is allowed, and nothing else.
    pub(super) workers: u32,
    /// What it is about.
    pub(super) theme: Theme,
    /// Endpoints of services are judged: by breakers, and by health checks.
    pub(super) guarded: bool,
}

/// How often a fault that is on may happen: once in so many times.
const RATES: [u16; 6] = [200, 60, 30, 200, 60, 8];

impl Mix {
    /// A world in which nothing goes wrong.
    pub fn calm() -> Self {
        Mix {
            rates: [0; Fault::ALL.len()],
            faults: Faults::NONE,
            planned: Faults::NONE,
            largest: 1024,
            latency: 100_000,
            batches: false,
            shuffles: false,
            redirects: false,
            meshed: false,
            mirrored: false,
            workers: 1,
            theme: Theme::Anything,
            guarded: false,
        }
    }

    /// Draws one: most faults are off in most runs, and some runs have none. `theme`: what it is to
    /// be about, if that is not to be drawn.
    ///
    /// In some there is nothing but policies and what does them no harm: only there can the model say
    /// exactly what must come of them.
    pub fn draw(choose: &mut dyn Choose, theme: Option<Theme>) -> Self {
        let mut mix = Mix::calm();
        let mut density = pick(choose, &[0, 4, 3, 8, 3, 2, 4]);
        let drawn = Theme::draw(choose);
        mix.theme = theme.unwrap_or(drawn);
        let themed = mix.theme != Theme::Anything;
        let quiet = choose.one_in(4);
        mix.guarded = themed || choose.one_in(6);
        if themed && !quiet {
            // Half of those that are about something are about nothing else.
            density *= choose.below(2);
        } else if quiet {
            density = pick(choose, &[3, 2, 4]);
        }
        for &fault in Fault::ALL.iter().filter(|&&fault| !SPLICES.contains(fault)) {
            let may = density > 0 && (!quiet || QUIET.contains(fault));
            if may && choose.one_in(density) {
                let rate = pick(choose, &RATES);
                let often = POLICIES.contains(fault) || quiet && ROUTES.contains(fault);
                mix.set(fault, if often { 1 } else { rate });
            }
        }
        mix.largest = pick(choose, &[1024, 100, 5000, 1024, 5000, 16_384, 40_000, 300_000]);
        mix.latency = pick(choose, &[100_000, 1_000, 1_000_000, 20_000_000]);
        mix.batches = choose.flip();
        mix.shuffles = choose.flip();
        mix.redirects = choose.flip();
        mix.meshed = choose.one_in(3);
        mix.mirrored = choose.one_in(4);
        mix.workers = if choose.one_in(4) { 2 } else { 1 };
        match mix.theme {
            Theme::Anything => {}
            Theme::Impatient => {
                for fault in IMPATIENCE {
                    let rate = pick(choose, &[8, 0, 30, 3]);
                    mix.set(fault, rate);
                }
            }
            _ => mix.plan(Fault::AppFails),
        }
        if themed && choose.one_in(3) {
            mix.set(Fault::Guards, pick(choose, &RATES));
        }
        if !mix.guarded {
            mix.set(Fault::Guards, 0);
        }
        if !mix.meshed {
            // Clocks are everywhere, if only for dates in fields.
            let meshed = IDENTITIES.and(RENEWALS).iter();
            meshed.filter(|&fault| fault != Fault::ClockStep).for_each(|fault| mix.set(fault, 0));
        }
        mix
    }

    /// Lets a fault happen once in `rate` times; 0: never.
    pub fn set(&mut self, fault: Fault, rate: u16) {
        self.rates[fault as usize] = rate;
        self.faults.set(fault, rate > 0 || self.planned.contains(fault));
    }

    /// Lets a fault happen often.
    pub(super) fn demand(&mut self, fault: Fault) {
        self.set(fault, if POLICIES.contains(fault) { 1 } else { RATES[5] });
        let of_identity = IDENTITIES.and(RENEWALS).contains(fault);
        self.meshed |= of_identity && fault != Fault::ClockStep;
    }

    /// A fault will happen, and is not drawn.
    pub(super) fn plan(&mut self, fault: Fault) {
        self.planned.set(fault, true);
        self.faults.set(fault, true);
    }

    /// Can it happen in this run?
    pub fn has(&self, fault: Fault) -> bool {
        self.faults.contains(fault)
    }

    /// Can any of them happen in this run?
    pub fn has_any(&self, faults: Faults) -> bool {
        self.faults.meets(faults)
    }

    /// Can any of the faults of identities, where there are any?
    pub(super) fn doubts_identities(&self) -> bool {
        self.meshed && self.has_any(IDENTITIES)
    }

    /// Can nothing else happen in this run?
    pub(super) fn has_only(&self, faults: Faults) -> bool {
        self.faults.is_within(faults)
    }

    /// Does it happen now?
    #[inline]
    pub(super) fn draws(&self, choose: &mut dyn Choose, fault: Fault) -> bool {
        let rate = self.rates[fault as usize];
        rate > 0 && choose.one_in(usize::from(rate))
    }

    /// Does something happen that is decided once for a whole run, or for a connection? More often
    /// than what is decided again and again.
    pub(super) fn draws_once(&self, choose: &mut dyn Choose, fault: Fault) -> bool {
        let rate = self.rates[fault as usize];
        rate > 0 && choose.one_in(usize::from(rate / 16 + 2))
    }

    /// Does what an engine sends arrive within so many round trips?
    pub(super) fn is_prompt(&self) -> bool {
        !self.has_any(DELAYS) && !self.has_any(WAITS)
    }

    /// How much later than it should an engine may act.
    pub(super) fn slack(&self) -> Duration {
        let mut slack = Duration::from_millis(2);
        if self.has(Fault::EngineStalls) {
            slack += STALL;
        }
        if self.has(Fault::TimerLate) {
            slack += LATE;
        }
        slack
    }
}

impl fmt::Display for Mix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "bodies up to {}, links take {} µs", self.largest, self.latency / 1000)?;
        if self.meshed {
            f.write_str(", meshed")?;
        }
        if self.mirrored {
            f.write_str(", mirrored")?;
        }
        if self.workers > 1 {
            write!(f, ", {} workers", self.workers)?;
        }
        if self.guarded {
            write!(f, ", guarded, {}", self.theme.name())?;
        }
        for fault in self.faults.iter() {
            write!(f, "; {} (1 in {})", fault.name(), self.rates[fault as usize])?;
        }
        Ok(())
    }
}

/// What services are told of how they share requests out.
pub(super) const BALANCING: Faults =
    Faults::of(&[Fault::Balancers, Fault::Sticky, Fault::SlowStarts, Fault::Zones, Fault::Shares]);

/// What bounds how many requests there are: in worlds with any of them not all that ask come
/// through.
pub(super) const LIMITS: Faults = Faults::of(&[Fault::RateLimits, Fault::Gates, Fault::Adaptive]);

/// What services and ports are told to do: drawn once for each of them.
pub(super) const POLICIES: Faults = BALANCING.and(LIMITS).and(Faults::of(&[Fault::DeadEndpoints]));

/// What routes are told to do.
const ROUTES: Faults = Faults::of(&[Fault::Retries, Fault::Splits]);

/// What comes of tunnels whose adapter has pipes. It is not drawn with the others: see
/// [`Splicing`](super::splicing::Splicing).
pub(super) const SPLICES: Faults = Faults::of(&[
    Fault::Bulk,
    Fault::PipesRefused,
    Fault::ShortSplice,
    Fault::PipesRecalled,
    Fault::ReadAhead,
]);

/// Faults that nobody notices who reads HTTP.
pub(super) const UNNOTICED: Faults = Faults::of(&[
    Fault::Pings,
    Fault::Padding,
    Fault::CutFrames,
    Fault::AppHints,
    Fault::TimerEarly,
    Fault::TimerLate,
])
.and(SPLICES);

/// What there may be in a quiet world: connects that fail let endpoints come back.
const QUIET: Faults = Faults::of(&[Fault::ConnectFails, Fault::AppSlow, Fault::AppFails])
    .and(UNNOTICED)
    .and(ROUTES)
    .and(POLICIES);

/// Faults that send no request twice, and keep none from where it should go.
pub(super) const UNSHAKEN: Faults = Faults::of(&[
    Fault::CutRead,
    Fault::CutWrite,
    Fault::SmallPipe,
    Fault::AppSlow,
    Fault::AppFails,
    Fault::TryTimeouts,
    Fault::Injected,
    Fault::SmallWindows,
    Fault::LateCredit,
    Fault::Weights,
])
.and(UNNOTICED)
.and(ROUTES)
.and(POLICIES);

/// Faults of identities that keep requests from where they should go.
pub(super) const IDENTITIES: Faults = Faults::of(&[
    Fault::CertifyLate,
    Fault::CertifyFails,
    Fault::CertifyExpired,
    Fault::CertifyOther,
    Fault::CertifyStranger,
    Fault::ShortLived,
    Fault::ClockStep,
    Fault::WrongIdentity,
    Fault::Denied,
    Fault::NoGoodbye,
]);

/// What happens to identities and keeps nobody from anything.
const RENEWALS: Faults = Faults::of(&[Fault::Rotation, Fault::Anchors]);

/// How long an engine stalls at most.
pub(super) const STALL: Duration = Duration::from_millis(200);
/// How late a timer is at most.
pub(super) const LATE: Duration = Duration::from_millis(50);
