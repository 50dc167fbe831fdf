//! Planted bugs. They exist only under `--cfg selvedge_canary`, which no build sets but the test
//! that shows that the mesh simulator finds each of them: a check that nothing has ever tripped is
//! not known to check anything.

use core::sync::atomic::{AtomicUsize, Ordering};

/// Declares [`Canary`] as a table: variant, name.
macro_rules! canaries {
    ($($(#[$doc:meta])* $variant:ident = $name:literal;)*) => {
        /// A planted bug. At most one is at work at a time.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Canary {
            $($(#[$doc])* $variant,)*
        }

        impl Canary {
            /// Every canary.
            pub const ALL: &'static [Canary] = &[$(Canary::$variant,)*];

            /// Its name. The text before the colon is in a binary only if canaries are.
            pub const fn name(self) -> &'static str {
                match self { $(Canary::$variant => concat!("selvedge-canary: ", $name),)* }
            }
        }
    };
}

canaries! {
    /// A request goes out again when its connection breaks after the response head was passed on.
    SentAfterHead = "a request sent twice after response headers";
    /// A POST that may have been received goes out again.
    RepeatedPost = "a request repeated that must not be";
    /// A response that was cut short is ended as if it were complete.
    ShortBody = "a body cut short and called complete";
    /// A byte of a body is another.
    FlippedByte = "a body byte changed";
    /// The source of a body is never paused.
    UnboundedBuffer = "an unbounded buffer";
    /// What was written still counts as held.
    LeakedCredit = "a leaked credit";
    /// A source that was paused is not told that there is room.
    LostResume = "a paused source never resumed";
    /// The time of a whole request starts again with every byte.
    MovingDeadline = "a deadline that grows";
    /// A timer that fires is set to the same time again.
    StuckTimer = "a timer that never moves";
    /// The end of a connection is noted, and nobody looks.
    LostWakeup = "a lost wake-up";
    /// A request whose client has gone stays.
    LeakedExchange = "a request that never ends";
    /// An endpoint that was removed is still chosen.
    RemovedPicked = "a removed endpoint picked";
    /// A request that is over still counts as load.
    LostLoad = "load that is never given back";
    /// Chance that is not the seed's.
    OtherDice = "a random number from elsewhere";
    /// A head that is refused for a control character ends the process.
    Panic = "a panic on hostile input";
    /// A name that cannot be resolved any more loses its addresses.
    ForgottenEndpoints = "the last known endpoints forgotten";
    /// What comes for a connection that is gone goes to the next in its slot.
    StaleId = "a stale connection id acted upon";
    /// What was taken of a stream is not given back to who sends on it.
    LeakedWindow = "stream credit leaked";
    /// A request that has failed goes on at its endpoint: its stream is not reset.
    LostReset = "a reset that is not passed on";
    /// An answer is complete, and its stream does not end.
    OpenStream = "a stream left open after its answer";
    /// A GOAWAY is taken to mean every stream, those that it counts included.
    RepeatedAfterGoAway = "a request repeated that a GOAWAY counts";
    /// When the copy of a request is too far behind, it is the request that is reset.
    SharedFate = "a request that shares the fate of its mirror";
    /// A budget that is spent allows retries all the same.
    NoBudget = "a retry budget ignored";
    /// A route tries again as often as it can.
    NoLimit = "a retry limit ignored";
    /// A method that a route does not list is tried again.
    RetriedPost = "a retry of a method that no route lists";
    /// A retry has all the time of the request again.
    LateRetry = "a retry that starts the deadline again";
    /// All requests go to the first service of a split.
    OneShare = "a split that ignores its weights";
    /// All requests that a failure may be injected into fail.
    AlwaysInjected = "a failure injected whatever its ratio";
    /// Every proxy hashes keys in its own way.
    SeededHash = "keys hashed with the seed";
    /// When somebody is ready, or is not any more, all keys move.
    MovingKeys = "keys that move with the ready set";
    /// Whoever owns a key gets its requests, however many it has.
    NoLoadBound = "a load bound ignored";
    /// Requests go to any zone.
    NoZones = "zones ignored";
    /// Who has a share of a split has the same as the others.
    EvenShares = "a split that ignores a weight";
    /// Of services whose endpoints are judged, the first has the share of all.
    JudgedShares = "a split that ignores its weights where endpoints are judged";
    /// An endpoint has every other of its turns only.
    SkippedTurns = "a round robin that skips one";
    /// A request that is given up keeps its place among those in flight.
    LostSlot = "a slot not given back on a cancel";
    /// Who comes last is first through.
    LastFirst = "a queue that is last in, first out";
    /// A stream goes before everybody who waits at the port that it is for.
    OvertakingStream = "a stream that overtakes at its port";
    /// Nobody is told that they have waited too long.
    PatientQueue = "a queue timeout that is not armed";
    /// A queue holds one more.
    LongQueue = "a queue with one too many";
    /// One more is in flight.
    WideGate = "one too many in flight";
    /// Every worker of a proxy lets through as many as all of them may.
    WholeShare = "a worker that has the limit of all";
    /// The port of one of several workers that has room for one more says that it has none.
    ThinPort = "a worker's port that refuses below its share";
    /// It lets requests through half as often as its share is.
    ThinRate = "a worker's rate that refuses below its share";
    /// A limit adapts to more than it may.
    WideLimit = "an adaptive limit beyond its bounds";
    /// A rate limit recovers twice as fast.
    DoubleRate = "a rate limiter that refills twice";
    /// A request that no route matches goes to its service all the same.
    Unrouted = "a request served that no route matches";
    /// As many endpoints are ejected as fail.
    NoFloor = "an ejection beyond the floor";
    /// A request that its client gave up counts as the endpoint's failure.
    BlamedForCancel = "a cancelled request that counts as failed";
    /// When the backoff of an endpoint is over, nobody is told.
    EjectedForEver = "an ejected endpoint never asked again";
    /// While the probe of an endpoint is under way, more requests go there.
    ManyProbes = "more than one probe";
    /// The check of an endpoint goes on when that is removed.
    LingeringCheck = "a check of an endpoint that was removed";
    /// A check is not followed by another.
    CheckedOnce = "an endpoint that is not checked again";
    /// A check waits for its answer as long as that takes.
    EndlessCheck = "a check that does not time out";
    /// An endpoint that fails its checks is used all the same.
    UnhealthyPicked = "an endpoint used that fails its checks";
    /// A gate that has room for one more says that it has none.
    NarrowGate = "a request refused below its limit";
    /// The gate of a whole proxy that has room for one more says that it has none.
    NarrowProxy = "a request refused below its proxy's limit";
    /// Who is new, or back, has its whole share at once.
    NoSlowStart = "slow start ignored";
    /// A rate limit recovers half as fast.
    HalfRate = "a request refused below its rate";
    /// Whoever has a certificate is who an endpoint is said to be.
    AnyIdentity = "an identity check skipped";
    /// A request is tried again though its answer has begun.
    RetriedAfterHead = "a retry after the answer has begun";
    /// What an attempt has told the client in a 1xx the next one tells it again.
    RepeatedHints = "a 1xx passed on again by a retry";
    /// Every client may reach every port.
    OpenPort = "a client let in that is not allowed";
    /// A certificate that is replaced takes the sessions along that were made with it.
    RotationDrops = "a rotation that drops connections";
    /// What is said against endpoints is ignored for ever, once it was.
    EndlessPanic = "a panic that is never left";
    /// What was in a pipe goes behind what came after it.
    UnsplicedLast = "a pipe's bytes put behind what follows";
    /// What is in a pipe is lost with its connection, and is still held.
    LeakedPipe = "a pipe not given back on a close";
    /// A FIN is passed on while there are bytes in a pipe.
    HastyFin = "a FIN before a pipe is empty";
    /// What is in a pipe goes before what was there before it.
    OvertakingPipe = "a splice past what is unsent";
    /// Bytes go into pipes however much is held.
    CrowdedPipe = "a splice while much is held";
    /// What is in a pipe is held by nobody.
    UncountedPipe = "a pipe that does not count as held";
    /// Bytes that pass through a pipe are more than they are.
    MiscountedPipe = "spliced bytes counted twice";
}

/// 0: none.
static PLANTED: AtomicUsize = AtomicUsize::new(0);

/// From now on, this bug and no other, in every engine of the process.
pub fn plant(canary: Option<Canary>) {
    PLANTED.store(canary.map_or(0, |canary| canary as usize + 1), Ordering::Relaxed);
}

/// Is it this one?
pub(crate) fn is_planted(canary: Canary) -> bool {
    PLANTED.load(Ordering::Relaxed) == canary as usize + 1
}

/// A number that no seed has to do with.
pub(crate) fn dice() -> u64 {
    static COUNT: AtomicUsize = AtomicUsize::new(0);
    COUNT.fetch_add(1, Ordering::Relaxed) as u64
}
