//! What goes into an engine and what comes out of it.

use alloc::sync::Arc;
use alloc::vec::Vec;
use core::fmt;
use core::net::{IpAddr, SocketAddr};
use core::time::Duration;

use bytes::BytesMut;

pub use crate::config::Direction;
use crate::config::{Config, ListenerId};
use crate::error::{ConnectError, DnsError, IoError, Reason};
use crate::http2::Violation;
use crate::identity;
use crate::policy::breaker::Trip;
use crate::policy::check::CheckFailure;
use crate::policy::retry::Failed;
use crate::stats::Decision;
use crate::time::UnixTime;
use crate::tls;

/// Names a connection. Only the engine makes ids; each carries a generation, so an input for a
/// connection that is gone is ignored, even when its slot is in use again.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ConnId {
    pub(crate) index: u32,
    pub(crate) generation: u32,
}

impl ConnId {
    /// No connection: whoever it names has none.
    pub(crate) const NOBODY: ConnId = ConnId { index: u32::MAX, generation: 0 };

    /// A small number, unique among live connections: an index for an adapter's slab.
    pub const fn index(self) -> usize {
        self.index as usize
    }
}

impl fmt::Debug for ConnId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "c{}.{}", self.index, self.generation)
    }
}

/// Names a running name resolution.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct QueryId {
    pub(crate) index: u32,
    pub(crate) generation: u32,
}

/// A connection that a listener accepted.
#[derive(Clone, Copy, Debug)]
pub struct Accepted {
    /// Which listener.
    pub listener: ListenerId,
    /// The other end. A v4-mapped v6 address is unwrapped by the adapter.
    pub peer: SocketAddr,
    /// Our end.
    pub local: SocketAddr,
    /// What the peer connected to before the kernel redirected it (`SO_ORIGINAL_DST`). Equal to
    /// `local`, or `None`, when it was not redirected.
    pub original_dst: Option<SocketAddr>,
}

/// What happened.
#[derive(Debug)]
pub enum Input {
    /// An [`Output::Connect`] is done; the value is our end of the connection. On `Err` the
    /// connection is over: no [`Output::Close`] follows.
    Connected {
        /// Which.
        conn: ConnId,
        /// Our own address, or why not.
        result: Result<SocketAddr, ConnectError>,
    },
    /// Bytes were read.
    Received {
        /// Where.
        conn: ConnId,
        /// The bytes; an empty buffer is ignored (end of stream is [`Input::ReadClosed`]).
        data: BytesMut,
    },
    /// Bytes were read into a pipe, which goes to the connection that
    /// [`Engine::splices_to`](super::Engine::splices_to) has just named: write it there, before
    /// anything else, and answer with [`Input::Wrote`]. It is lost with either connection. On a
    /// connection that nothing was named for, the tunnel is reset: nobody knows where these bytes
    /// belong.
    Spliced {
        /// Where they were read.
        conn: ConnId,
        /// How many: [`BULK_BLOCK`](crate::limits::Limits::BULK_BLOCK) at most. 0 is ignored.
        n: usize,
    },
    /// What is in the pipe to a connection was read out of it: from now on the engine shows these bytes,
    /// before all others. For an adapter that wants its pipe back from whoever reads slowly. If it is not
    /// all of them, the tunnel is reset.
    Unspliced {
        /// Where they go.
        conn: ConnId,
        /// All that was [spliced](Input::Spliced) to it and not written.
        data: BytesMut,
    },
    /// The first `n` of the bytes that [`Engine::write_bufs`](super::Engine::write_bufs) showed
    /// were written, or of those in a pipe.
    Wrote {
        /// Where.
        conn: ConnId,
        /// How many.
        n: usize,
    },
    /// The peer will send no more (FIN).
    ReadClosed {
        /// Where.
        conn: ConnId,
    },
    /// Reading or writing failed. The engine answers with [`Output::Close`] `Abort`.
    Failed {
        /// Where.
        conn: ConnId,
        /// How.
        kind: IoError,
    },
    /// An [`Output::Resolve`] is done.
    Resolved {
        /// Which.
        query: QueryId,
        /// The addresses and how long they are good for.
        result: Result<(Vec<IpAddr>, Duration), DnsError>,
    },
    /// An [`Output::Certify`] is done, or the certificate or the trust anchors were replaced for
    /// another reason. On `Err`, which is for the log, it is asked again after a while.
    Identity(Result<identity::Update, Arc<str>>),
    /// What the wall clock shows: at the start, and whenever it was set. Until then no certificate
    /// is valid.
    WallClock(UnixTime),
    /// The operator wants something.
    Command(Command),
    /// The time of [`Engine::next_timeout`](super::Engine::next_timeout) has come. Early and late
    /// ones do no harm.
    Timeout,
}

/// What the operator can want.
#[derive(Clone, Debug)]
pub enum Command {
    /// From now on, this configuration. Listeners are not compared.
    Reload(Arc<Config>),
    /// Stop accepting (the adapter's part), let what is in progress finish, close what is idle.
    /// After the grace everything is closed. The engine says [`Event::Drained`] when it holds no
    /// connection that a peer opened.
    Drain,
}

/// What an engine wants done, in this order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Output {
    /// Open a connection; answer with [`Input::Connected`].
    Connect {
        /// Its name from now on.
        conn: ConnId,
        /// Where to.
        addr: SocketAddr,
    },
    /// There are bytes to write: call [`Engine::write_bufs`](super::Engine::write_bufs), write,
    /// answer with [`Input::Wrote`], until there are none. Not repeated while the socket is full.
    Flush(ConnId),
    /// [`Engine::read_budget`](super::Engine::read_budget) was 0 and no longer is.
    ReadReady(ConnId),
    /// End a connection. Every connection that was accepted or connected ends by exactly one
    /// `Full` or `Abort`, whoever ended it; its id means nothing afterwards.
    Close {
        /// Which.
        conn: ConnId,
        /// How.
        how: CloseKind,
    },
    /// Look a name up (A and AAAA); answer with [`Input::Resolved`].
    Resolve {
        /// Its name.
        query: QueryId,
        /// What to look up.
        name: Arc<str>,
    },
    /// A certificate for [`Config::identity`] is wanted; answer with [`Input::Identity`]. One that
    /// has not come for a minute is asked for again.
    Certify,
    /// Something worth a log line.
    Event(Event),
}

/// How to close a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum CloseKind {
    /// Shut down the write side (FIN). All was written. Reading goes on.
    Half,
    /// Close both sides. All was written.
    Full,
    /// Reset (linger zero): what was not written is lost, and the peer must be able to tell.
    Abort,
}

/// Something worth a log line. Nothing depends on it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// A message was refused or an exchange failed, and the client was answered `reason.status()`
    /// if it could still be answered.
    Refused {
        /// The client's connection.
        conn: ConnId,
        /// Which side of the proxy.
        direction: Direction,
        /// The client.
        peer: SocketAddr,
        /// Why.
        reason: Reason,
        /// The service, when one was chosen.
        service: Option<Arc<str>>,
        /// Whom it asks, if that is what is wrong: normalized, and at most 256 bytes of it.
        authority: Option<Arc<str>>,
    },
    /// A connection was closed without a request being at fault.
    Closed {
        /// Which.
        conn: ConnId,
        /// Which side of the proxy.
        direction: Direction,
        /// The peer.
        peer: SocketAddr,
        /// Why.
        reason: Reason,
    },
    /// A TLS connection was closed: it had no original destination, and no service has its name.
    UnknownServerName {
        /// Which.
        conn: ConnId,
        /// Which side of the proxy.
        direction: Direction,
        /// The client.
        peer: SocketAddr,
        /// The name that it asked for.
        name: Arc<str>,
    },
    /// A peer broke a rule of HTTP/2 that costs it a stream or the connection.
    Violation {
        /// Its connection.
        conn: ConnId,
        /// Which side of the proxy.
        direction: Direction,
        /// The peer.
        peer: SocketAddr,
        /// The rule.
        violation: Violation,
    },
    /// An endpoint is not ready; it is connected to again after `retry_in`.
    EndpointDown {
        /// Its service.
        service: Arc<str>,
        /// Its address.
        addr: SocketAddr,
        /// What happened to it.
        reason: Reason,
        /// The backoff.
        retry_in: Duration,
    },
    /// An endpoint is ready again.
    EndpointUp {
        /// Its service.
        service: Arc<str>,
        /// Its address.
        addr: SocketAddr,
    },
    /// An endpoint fails too much: it is not asked for a while.
    EndpointEjected {
        /// Its service.
        service: Arc<str>,
        /// Its address.
        addr: SocketAddr,
        /// How it failed.
        trip: Trip,
        /// After this, one request is sent to it.
        retry_in: Duration,
    },
    /// The same, but so many endpoints were ejected already that it is asked all the same.
    EjectionSpared {
        /// Its service.
        service: Arc<str>,
        /// Its address.
        addr: SocketAddr,
        /// How it failed.
        trip: Trip,
        /// So many are ejected …
        ejected: u32,
        /// … of so many.
        endpoints: u32,
    },
    /// One request is sent to an endpoint that was ejected.
    EndpointProbed {
        /// Its service.
        service: Arc<str>,
        /// Its address.
        addr: SocketAddr,
    },
    /// An endpoint that was ejected is asked again.
    EndpointReadmitted {
        /// Its service.
        service: Arc<str>,
        /// Its address.
        addr: SocketAddr,
    },
    /// An endpoint does not pass its health checks: it is not asked, and checked on.
    CheckFailed {
        /// Its service.
        service: Arc<str>,
        /// Its address.
        addr: SocketAddr,
        /// What the last check came to.
        failure: CheckFailure,
    },
    /// An endpoint passes its health checks, for the first time or again.
    CheckPassed {
        /// Its service.
        service: Arc<str>,
        /// Its address.
        addr: SocketAddr,
    },
    /// Too few endpoints of a service are available: those that fail are asked, too.
    PanicEntered {
        /// Which.
        service: Arc<str>,
        /// So many are available …
        available: u32,
        /// … of so many.
        endpoints: u32,
    },
    /// Enough endpoints of a service are available again, or none can be connected to.
    PanicLeft {
        /// Which.
        service: Arc<str>,
        /// So many are available …
        available: u32,
        /// … of so many.
        endpoints: u32,
    },
    /// A service was without a ready endpoint for its failfast time: requests fail at once.
    FailfastEntered {
        /// Which.
        service: Arc<str>,
        /// How many waiting requests failed.
        failed: usize,
    },
    /// The first endpoint of a service in fail-fast is ready.
    FailfastLeft {
        /// Which.
        service: Arc<str>,
    },
    /// An attempt failed in a way that its route tries again: the request is sent again, or was not.
    Retry {
        /// The service of its route.
        service: Arc<str>,
        /// The endpoint that failed.
        addr: Option<SocketAddr>,
        /// How.
        failed: Failed,
        /// How long it took.
        took: Duration,
        /// [`Decision::Retried`], or why not.
        decision: Decision,
        /// Which retry of this request it is, from 1 …
        nth: u32,
        /// … of so many.
        limit: u32,
        /// After this.
        wait: Duration,
    },
    /// The copy of a request was not made, or ended without a complete answer. Its request is not
    /// affected.
    Mirror {
        /// The service that was to get it.
        service: Arc<str>,
        /// The endpoint, if one had been chosen.
        addr: Option<SocketAddr>,
        /// What was decided …
        decision: Decision,
        /// … and what happened to it, if it was made.
        reason: Option<Reason>,
    },
    /// Something that a policy says was done with a request, and went well.
    Decided {
        /// The service that it is for, of its route, or that got its copy.
        service: Arc<str>,
        /// What.
        decision: Decision,
    },
    /// A request went elsewhere than those like it, or to another zone.
    Placed {
        /// The service that it asked, or of its route.
        service: Arc<str>,
        /// The endpoint that it went to …
        addr: Option<SocketAddr>,
        /// … or the service of a split.
        to: Option<Arc<str>>,
        /// Why.
        decision: Decision,
    },
    /// A name could not be resolved; the last good answer stays.
    ResolveFailed {
        /// Which name.
        name: Arc<str>,
        /// Why.
        error: DnsError,
        /// When it is tried again.
        retry_in: Duration,
    },
    /// A TLS handshake was completed.
    TlsEstablished {
        /// The connection.
        conn: ConnId,
        /// Which side of the proxy.
        direction: Direction,
        /// The peer.
        peer: SocketAddr,
        /// Who that is, and what was agreed on.
        session: tls::Peer,
    },
    /// A TLS handshake failed, or a session broke.
    TlsFailed {
        /// The connection.
        conn: ConnId,
        /// Which side of the proxy.
        direction: Direction,
        /// Which end of the session we are.
        side: tls::Side,
        /// The peer.
        peer: SocketAddr,
        /// Whom the peer was asked to be, or asked for.
        name: Option<Arc<str>>,
        /// What went wrong.
        problem: tls::Problem,
    },
    /// There is a valid certificate.
    Certified {
        /// Whose.
        name: identity::Name,
        /// Until when it is valid.
        not_after: UnixTime,
        /// When the next one is asked for.
        renew_in: Duration,
    },
    /// No certificate was issued; what there is stays.
    CertifyFailed {
        /// What the issuer said.
        error: Arc<str>,
        /// When it is asked again.
        retry_in: Duration,
    },
    /// The certificate has expired, or the clock was set to before it begins: nothing meshed is
    /// served until there is another.
    Uncertified {
        /// Whose.
        name: identity::Name,
    },
    /// A reload took effect.
    Reloaded {
        /// How many services there are now.
        services: usize,
    },
    /// A drain began.
    Draining,
    /// No connection that a peer opened is left: the process may end.
    Drained,
}

/// Why [`Engine::next_timeout`](super::Engine::next_timeout) wants to be woken: the earliest
/// deadline is one of these.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum TimerKind {
    /// A connection: detection, header, keep-alive, pool, connect, linger, idle.
    Connection,
    /// An exchange: response headers, whole, idle.
    Exchange,
    /// An endpoint's backoff.
    Endpoint,
    /// A service's failfast.
    Service,
    /// A name's time to live.
    Resolve,
    /// Our certificate: its renewal, its beginning, its end.
    Identity,
    /// TLS handshakes that wait for their turn.
    Handshake,
    /// The grace of a drain.
    Drain,
    /// Nothing but the end of the turn: there is more to do than others should wait for.
    Turn,
    /// An ejected endpoint's backoff, or its probe.
    Breaker,
    /// The next health check of an endpoint.
    Check,
}
