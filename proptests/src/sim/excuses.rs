//! What excuses what: the faults by which a request may be refused, come late, or be cut off.

use selvedge_core::error::Reason;

use super::fault::{Fault, Faults};
use super::mix::{IDENTITIES, LIMITS, Mix};

/// May an honest request be refused for this reason?
pub(super) fn may_refuse(reason: Reason, mix: &Mix, impatient: bool) -> bool {
    #[allow(clippy::enum_glob_use, reason = "a table of them")]
    use Fault::*;
    let causes: &[Fault] = match reason {
        Reason::HeaderTimeout => &[ClientSlow, BlackHole, SlowLink, SmallPipe, CutWrite, CutRead],
        Reason::InFlight | Reason::QueueFull | Reason::BuffersFull | Reason::ConnectionLimit => {
            &[SmallLimits]
        }
        Reason::TooManyFields | Reason::HeadTooLarge | Reason::TargetTooLong => &[SmallLimits],
        Reason::UnknownAuthority => &[Services],
        Reason::Failfast => &[
            ConnectFails,
            ConnectHangs,
            LinkReset,
            AppDown,
            AppResets,
            Endpoints,
            Drain,
            DiscoverySilent,
            DiscoveryFails,
            SlowLink,
            EngineStalls,
            SmallLimits,
            BlackHole,
        ],
        Reason::ConnectFailed => &[ConnectFails, AppDown, Drain, LinkReset, SmallLimits],
        Reason::NoResources => &[ConnectFails],
        Reason::ConnectTimeout => {
            &[ConnectHangs, ConnectFails, ConnectLate, SlowLink, EngineStalls]
        }
        Reason::UpstreamClosed | Reason::UpstreamReset => &[
            LinkReset,
            AppResets,
            AppCloses,
            AppDown,
            AppMalformed,
            AppDropsIdle,
            ShortTimeouts,
            SmallLimits,
            Drain,
            AppAnswersEarly,
            ClientMalformed,
            AppResetsStream,
            AppRefuses,
            GoAway,
        ],
        Reason::BadResponse | Reason::ResponseTruncated => &[AppMalformed, ClientMalformed],
        Reason::ResponseTimeout
        | Reason::RequestTimeout
        | Reason::IdleTimeout
        | Reason::ResponseStreamTimeout => &[ShortTimeouts],
        Reason::TryTimeout => &[TryTimeouts],
        Reason::RateLimit | Reason::ClientRateLimit => &[RateLimits],
        Reason::ProxyBusy
        | Reason::ProxyQueueFull
        | Reason::ProxyQueueTimeout
        | Reason::ServiceBusy
        | Reason::ServiceQueueFull
        | Reason::ServiceQueueTimeout
        | Reason::PortBusy
        | Reason::PortQueueFull
        | Reason::PortQueueTimeout => &[Gates, Adaptive],
        Reason::Drained => &[Drain],
        _ => &[],
    };
    // Who has no identity, or meets none that it believes, does not get far.
    let unmeshed = match reason {
        Reason::HandshakeFailed | Reason::NotCertified | Reason::Failfast if mix.meshed => {
            IDENTITIES
        }
        Reason::Unauthorized => Faults::of(&[Denied, CertifyOther]),
        Reason::UpstreamClosed
        | Reason::UpstreamReset
        | Reason::BadResponse
        | Reason::ResponseTruncated => Faults::of(&[NoGoodbye]),
        _ => Faults::NONE,
    };
    let broken = match reason {
        Reason::HandshakeFailed | Reason::ConnectTimeout if mix.meshed => HANDSHAKES,
        _ => Faults::NONE,
    };
    let causes = Faults::of(causes).and(unmeshed).and(broken);
    // A peer of HTTP/2 that does not answer in time is given up, and all its streams with it.
    let given_up =
        matches!(reason, Reason::BadResponse | Reason::UpstreamClosed | Reason::UpstreamReset);
    mix.has_any(causes) || impatient && given_up
}

/// Faults that let bytes come late, and in pieces.
const SLOW_BYTES: Faults = Faults::of(&[
    Fault::BlackHole,
    Fault::SlowLink,
    Fault::SmallPipe,
    Fault::CutWrite,
    Fault::CutRead,
]);

/// Faults that keep a peer of HTTP/2 from answering in time.
pub(super) const LATE: Faults = Faults::of(&[
    Fault::AppStuck,
    Fault::AppStallsHead,
    Fault::ClientStuck,
    Fault::ClientSlow,
    Fault::ClientSilent,
    Fault::ClientLeaves,
])
.and(SLOW_BYTES);

/// Faults that end handshakes, or keep them from ending in time.
const HANDSHAKES: Faults =
    Faults::of(&[Fault::LinkReset, Fault::EngineStalls, Fault::SmallLimits, Fault::Drain])
        .and(SLOW_BYTES);

/// Faults that let a request wait between the engines.
pub(super) const WAITS: Faults = Faults::of(&[
    Fault::ConnectLate,
    Fault::ConnectHangs,
    Fault::ConnectFails,
    Fault::AcceptLate,
    Fault::FewStreams,
    Fault::SmallLimits,
    Fault::SmallWindows,
    Fault::LateCredit,
    Fault::CertifyLate,
]);

/// Faults that let a peer of HTTP/2 say what it should not.
pub(super) const HOSTILE: Faults = Faults::of(&[Fault::ClientMalformed, Fault::AppMalformed]);

/// Faults that let an attempt arrive long after it was sent.
pub(super) const DELAYS: Faults =
    Faults::of(&[Fault::AppStuck, Fault::EngineStalls]).and(SLOW_BYTES);

/// Faults that may end a client's connection before its requests are answered.
pub(super) const BREAKS: Faults = Faults::of(&[
    Fault::LinkReset,
    Fault::BlackHole,
    Fault::ClientAborts,
    Fault::ClientLeaves,
    Fault::ClientMalformed,
    Fault::ClientSlow,
    Fault::ClientSilent,
    Fault::SlowLink,
    Fault::AppCloses,
    Fault::AppResets,
    Fault::AppDown,
    Fault::AppMalformed,
    Fault::AppAnswersEarly,
    Fault::AppStallsBody,
    Fault::AppResetsStream,
    Fault::AppRefuses,
    Fault::GoAway,
    Fault::SmallLimits,
    Fault::ShortTimeouts,
    Fault::Services,
    Fault::Drain,
    Fault::EngineStalls,
    Fault::Denied,
    Fault::NoGoodbye,
    Fault::TryTimeouts,
    Fault::Injected,
])
.and(LIMITS);

/// Faults that may end a tunnel before both its ends have said everything.
pub(super) const TUNNEL_BREAKS: Faults = Faults::of(&[
    Fault::LinkReset,
    Fault::BlackHole,
    Fault::ConnectFails,
    Fault::ConnectHangs,
    Fault::ConnectLate,
    Fault::ClientAborts,
    Fault::ClientSilent,
    Fault::AppDown,
    Fault::SlowLink,
    Fault::SmallLimits,
    Fault::ShortTimeouts,
    Fault::Endpoints,
    Fault::Drain,
    Fault::EngineStalls,
    Fault::Gates,
])
.and(IDENTITIES);
