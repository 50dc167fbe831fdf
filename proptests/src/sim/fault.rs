//! What can go wrong in a run, and sets of that.

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
    /// An app says 1xx as soon as it has a head, whatever becomes of the request.
    AppHints = "apps that say 1xx";
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
    /// What goes through some tunnels is much.
    Bulk = "tunnels that carry much";
    /// An adapter that has pipes gets none for a while.
    PipesRefused = "pipes refused";
    /// A pipe is given less than there is.
    ShortSplice = "splices cut short";
    /// An adapter wants a pipe back, with what is in it.
    PipesRecalled = "pipes taken back";
    /// A connection is read once more than it may be, when what came before is in a pipe.
    ReadAhead = "reads behind a pipe";
}

impl Fault {
    /// The one of this name.
    pub fn named(name: &str) -> Option<Fault> {
        Fault::ALL.iter().copied().find(|fault| fault.name() == name)
    }
}

/// A set of kinds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Faults(u128);

impl Faults {
    /// None.
    pub const NONE: Faults = Faults(0);

    /// These.
    pub const fn of(faults: &[Fault]) -> Faults {
        let (mut bits, mut at) = (0, 0);
        while at < faults.len() {
            bits |= 1 << faults[at] as u32;
            at += 1;
        }
        Faults(bits)
    }

    /// Those of either.
    #[must_use]
    pub const fn and(self, other: Faults) -> Faults {
        Faults(self.0 | other.0)
    }

    /// Is it one of them?
    pub const fn contains(self, fault: Fault) -> bool {
        self.0 >> fault as u32 & 1 == 1
    }

    /// Is any of them one of the others?
    pub const fn meets(self, others: Faults) -> bool {
        self.0 & others.0 != 0
    }

    /// Are all of them among the others?
    pub const fn is_within(self, others: Faults) -> bool {
        self.0 & !others.0 == 0
    }

    /// Every one of them, in order.
    pub fn iter(self) -> impl Iterator<Item = Fault> {
        Fault::ALL.iter().copied().filter(move |&fault| self.contains(fault))
    }

    pub(super) fn set(&mut self, fault: Fault, is_in: bool) {
        let bit = 1 << fault as u32;
        self.0 = if is_in { self.0 | bit } else { self.0 & !bit };
    }
}
