//! Which faults a run has, and how often: each seed draws its own mix.

use std::fmt;
use std::time::Duration;

use crate::choose::{Choose, pick};

/// Declares [`Fault`] as a table: variant and name.
macro_rules! faults {
    ($($(#[$doc:meta])* $variant:ident = $name:literal;)*) => {
        /// What can go wrong, or at least go otherwise than in the best of worlds.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[repr(u8)]
        pub enum Fault {
            $($(#[$doc])* $variant,)*
        }

        impl Fault {
            /// Every kind, in order: `ALL[fault as usize] == fault`.
            pub const ALL: &'static [Fault] = &[$(Fault::$variant,)*];

            /// Its name in tables.
            pub const fn name(self) -> &'static str {
                match self { $(Fault::$variant => $name,)* }
            }
        }
    };
}

faults! {
    /// Reads bring less than there is, down to one byte.
    CutRead = "reads cut short";
    /// Writes take less than they could, down to one byte.
    CutWrite = "writes cut short";
    /// A direction of a link holds few bytes.
    SmallPipe = "small socket buffers";
    /// A link is slow.
    SlowLink = "slow links";
    /// A connection breaks.
    LinkReset = "links reset";
    /// What is sent does not arrive for a while.
    BlackHole = "black holes";
    /// A connect is refused, or fails in another way.
    ConnectFails = "connects that fail";
    /// A connect is not answered.
    ConnectHangs = "connects that hang";
    /// A connect takes long, so that others overtake it.
    ConnectLate = "connects out of order";
    /// A connection is accepted some time after it was made.
    AcceptLate = "accepts delayed";
    /// A client resets its connection.
    ClientAborts = "clients that abort";
    /// A client closes in the middle of a request.
    ClientLeaves = "clients that leave mid-request";
    /// A client closes its side after its last request.
    ClientHalfCloses = "clients that half-close";
    /// A client sends in small pieces with pauses.
    ClientSlow = "clients that send slowly";
    /// A client does not read for a while.
    ClientStuck = "clients that do not read";
    /// A client sends what is no HTTP.
    ClientMalformed = "malformed requests";
    /// A client sends nothing for longer than detection waits.
    ClientSilent = "silent clients";
    /// An app takes long to answer.
    AppSlow = "slow apps";
    /// An app stops in the middle of a head.
    AppStallsHead = "apps that stall in a head";
    /// An app stops in the middle of a body.
    AppStallsBody = "apps that stall in a body";
    /// An app closes in the middle of a response.
    AppCloses = "apps that close mid-response";
    /// An app resets in the middle of a response, or before.
    AppResets = "apps that reset";
    /// An app closes a connection that it said it would keep.
    AppDropsIdle = "apps that close idle connections";
    /// An app answers before it has the whole request.
    AppAnswersEarly = "apps that answer early";
    /// An app says what no HTTP server would.
    AppMalformed = "malformed responses";
    /// An app does not read for a while.
    AppStuck = "apps that do not read";
    /// An app goes away and comes back.
    AppDown = "apps that go down";
    /// An engine's thread does not run for a while.
    EngineStalls = "stalled engines";
    /// A timer fires late.
    TimerLate = "late timers";
    /// A timer fires for no reason.
    TimerEarly = "early timers";
    /// An engine is told about connections that are gone.
    LateInput = "late inputs";
    /// Limits that traffic meets.
    SmallLimits = "small limits";
    /// Timeouts that traffic meets.
    ShortTimeouts = "short timeouts";
    /// An endpoint is removed by an update, or added again.
    Endpoints = "endpoints removed and added";
    /// The weight of an endpoint changes.
    Weights = "weights changed";
    /// A service is removed by an update, or added again.
    Services = "services removed and added";
    /// Discovery does not answer.
    DiscoverySilent = "silent discovery";
    /// Discovery fails.
    DiscoveryFails = "failed discovery";
    /// An engine is told to drain.
    Drain = "drains";
    /// A client resets a stream.
    ClientResets = "streams that clients reset";
    /// An app resets a stream, before or within its answer.
    AppResetsStream = "streams that apps reset";
    /// An app says that it has not looked at a stream.
    AppRefuses = "streams that apps refuse";
    /// A peer says GOAWAY.
    GoAway = "GOAWAYs";
    /// A peer gives little credit.
    SmallWindows = "small windows";
    /// A peer gives credit back late.
    LateCredit = "late WINDOW_UPDATEs";
    /// A peer takes few streams at once.
    FewStreams = "few streams allowed";
    /// A peer changes its SETTINGS.
    SettingsChange = "SETTINGS changed";
    /// A peer asks whether the other is there.
    Pings = "PINGs";
    /// DATA and HEADERS are padded.
    Padding = "padded frames";
    /// Bodies and header blocks come in small frames.
    CutFrames = "frames cut, CONTINUATIONs";
    /// A certificate comes late, or not at all until it is asked for again.
    CertifyLate = "certificates that come late";
    /// The authority issues none.
    CertifyFails = "certificates that are refused";
    /// A certificate is over when it comes.
    CertifyExpired = "certificates that are over";
    /// A certificate is for somebody else.
    CertifyOther = "certificates for somebody else";
    /// A certificate is from an authority that nobody knows.
    CertifyStranger = "certificates from strangers";
    /// A certificate is over in seconds.
    ShortLived = "certificates that last seconds";
    /// A certificate is replaced before its time.
    Rotation = "certificates replaced in use";
    /// The trust anchors are replaced, in the three steps that this takes.
    Anchors = "trust anchors replaced";
    /// The wall clock of an engine is set.
    ClockStep = "wall clocks set";
    /// A server is not who its clients were told.
    WrongIdentity = "servers that are somebody else";
    /// A client is not on the list.
    Denied = "clients that are not allowed";
    /// Sessions end without a close_notify.
    NoGoodbye = "sessions without close_notify";
    /// An app answers with errors: all the time, some of it, or from when it has slowed down.
    AppFails = "apps that fail";
    /// A route tries again.
    Retries = "routes that retry";
    /// A route gives up attempts that take long.
    TryTimeouts = "attempts given up";
    /// A route shares its requests out.
    Splits = "routes that split";
    /// A route answers itself: it redirects, or fails.
    Injected = "routes that answer";
    /// A service chooses endpoints otherwise than by their latency.
    Balancers = "other balancers";
    /// Requests of the same user, or from the same client, go to the same place.
    Sticky = "requests that stick";
    /// Endpoints that are back get less than their share for a while.
    SlowStarts = "slow starts";
    /// Endpoints are in zones.
    Zones = "zones";
    /// Endpoints have weights.
    Shares = "endpoints with weights";
    /// Nobody is where an endpoint should be.
    DeadEndpoints = "endpoints that are not there";
    /// A port takes so many requests a second.
    RateLimits = "rate limits";
    /// A service or a port takes so many requests at once.
    Gates = "limits of requests in flight";
    /// … as many as it turns out to bear.
    Adaptive = "limits that adapt";
    /// Breakers and health checks are added, changed, or taken away.
    Guards = "breakers and checks changed";
}

impl Fault {
    /// The one of this name.
    pub fn named(name: &str) -> Option<Fault> {
        Fault::ALL.iter().copied().find(|fault| fault.name() == name)
    }
}

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
    /// Faults that happen without being drawn, as bits.
    planned: u128,
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
            planned: 0,
            largest: 1024,
            latency: 100_000,
            batches: false,
            shuffles: false,
            redirects: false,
            meshed: false,
            mirrored: false,
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
        let quiet = choose.one_in(4) && !themed;
        mix.guarded = themed || !quiet && choose.one_in(6);
        if themed {
            // Half of those that are about something are about nothing else.
            density *= choose.below(2);
        } else if quiet {
            density = pick(choose, &[3, 2, 4]);
        }
        for &fault in Fault::ALL {
            let may = density > 0 && (!quiet || QUIET.contains(&fault));
            if may && choose.one_in(density) {
                let rate = pick(choose, &RATES);
                let often = POLICIES.contains(&fault) || quiet && ROUTES.contains(&fault);
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
        if mix.guarded {
            // What comes of these can be told only where nobody is ejected.
            for &fault in POLICIES {
                mix.set(fault, 0);
            }
        } else {
            mix.set(Fault::Guards, 0);
        }
        if !mix.meshed {
            IDENTITIES.iter().chain(&[Fault::Rotation, Fault::Anchors]).for_each(|&fault| {
                mix.set(fault, 0);
            });
        }
        mix
    }

    /// Lets a fault happen once in `rate` times; 0: never.
    pub fn set(&mut self, fault: Fault, rate: u16) {
        self.rates[fault as usize] = rate;
    }

    /// Lets a fault happen often.
    pub(super) fn demand(&mut self, fault: Fault) {
        self.set(fault, if POLICIES.contains(&fault) { 1 } else { RATES[5] });
        self.guarded &= !POLICIES.contains(&fault);
    }

    /// A fault will happen, and is not drawn.
    pub(super) fn plan(&mut self, fault: Fault) {
        self.planned |= 1 << fault as u32;
    }

    /// Can it happen in this run?
    pub fn has(&self, fault: Fault) -> bool {
        self.rates[fault as usize] > 0 || self.planned >> fault as u32 & 1 == 1
    }

    /// Can any of them happen in this run?
    pub fn has_any(&self, faults: &[Fault]) -> bool {
        faults.iter().any(|&fault| self.has(fault))
    }

    /// Can nothing else happen in this run?
    pub(super) fn has_only(&self, faults: &[Fault]) -> bool {
        Fault::ALL.iter().all(|fault| !self.has(*fault) || faults.contains(fault))
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
        !self.has_any(super::model::DELAYS) && !self.has_any(super::model::WAITS)
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
        if self.guarded {
            write!(f, ", guarded, {}", self.theme.name())?;
        }
        for &fault in Fault::ALL.iter().filter(|&&fault| self.has(fault)) {
            write!(f, "; {} (1 in {})", fault.name(), self.rates[fault as usize])?;
        }
        Ok(())
    }
}

/// What services and ports are told to do: drawn once for each of them.
pub(super) const POLICIES: &[Fault] = &[
    Fault::Balancers,
    Fault::Sticky,
    Fault::SlowStarts,
    Fault::Zones,
    Fault::Shares,
    Fault::DeadEndpoints,
    Fault::RateLimits,
    Fault::Gates,
    Fault::Adaptive,
];

/// What routes are told to do.
const ROUTES: &[Fault] = &[Fault::Retries, Fault::Splits];

/// What bounds how many requests there are: in worlds with any of them not all that ask come
/// through.
pub(super) const LIMITS: &[Fault] = &[Fault::RateLimits, Fault::Gates, Fault::Adaptive];

/// What there may be in a quiet world: connects that fail let endpoints come back.
const QUIET: &[Fault] = &[
    Fault::ConnectFails,
    Fault::AppSlow,
    Fault::AppFails,
    Fault::Retries,
    Fault::Splits,
    Fault::Pings,
    Fault::Padding,
    Fault::CutFrames,
    Fault::TimerEarly,
    Fault::TimerLate,
    Fault::Balancers,
    Fault::Sticky,
    Fault::SlowStarts,
    Fault::Zones,
    Fault::Shares,
    Fault::DeadEndpoints,
    Fault::RateLimits,
    Fault::Gates,
    Fault::Adaptive,
];

/// Faults that send no request twice, and keep none from where it should go.
pub(super) const UNSHAKEN: &[Fault] = &[
    Fault::CutRead,
    Fault::CutWrite,
    Fault::SmallPipe,
    Fault::AppSlow,
    Fault::AppFails,
    Fault::Retries,
    Fault::TryTimeouts,
    Fault::Splits,
    Fault::Injected,
    Fault::Pings,
    Fault::Padding,
    Fault::CutFrames,
    Fault::SmallWindows,
    Fault::LateCredit,
    Fault::TimerEarly,
    Fault::TimerLate,
    Fault::Weights,
    Fault::Balancers,
    Fault::Sticky,
    Fault::SlowStarts,
    Fault::Zones,
    Fault::Shares,
    Fault::DeadEndpoints,
    Fault::RateLimits,
    Fault::Gates,
    Fault::Adaptive,
];

/// Faults of identities that keep requests from where they should go.
pub(super) const IDENTITIES: &[Fault] = &[
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
];

/// How long an engine stalls at most.
pub(super) const STALL: Duration = Duration::from_millis(200);
/// How late a timer is at most.
pub(super) const LATE: Duration = Duration::from_millis(50);
