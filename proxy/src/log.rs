//! Logs: one line per [`Event`] of an engine, plain or JSON, through `tracing`.
//!
//! Lines are written by a thread of their own, so that nothing ever waits for whoever reads them: a
//! line that finds the queue full is dropped and counted. And what a peer can cause is limited to
//! [`Limiter::PER_SECOND`] lines a second: a flood of refusals must not become a flood of lines. The
//! metrics count all of them.

use std::backtrace::Backtrace;
use std::io::{self, Write};
use std::net::SocketAddr;
use std::panic::PanicHookInfo;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use selvedge_core::engine::Event;
use selvedge_core::error::Reason;
use selvedge_core::identity::Name;
use selvedge_core::stats::Decision;
use selvedge_core::tls;
use tracing::{Subscriber, debug, error, info, warn};
use tracing_subscriber::filter::Targets;
use tracing_subscriber::fmt::{self, MakeWriter};
use tracing_subscriber::prelude::*;

/// How lines are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Format {
    /// For people: time, level, message, `key=value`.
    Plain,
    /// For machines: one object a line.
    Json,
}

/// Sends everything that is logged to standard output. `filter` is a level, or levels by module:
/// `warn,selvedge=debug`.
pub(crate) fn init(filter: &str, format: Format) -> Result<Log, String> {
    let targets: Targets = filter
        .parse()
        .map_err(|error| format!("{filter:?} is not a level or target=level,…: {error}"))?;
    let (log, receiver) = Log::new();
    let writer = log.clone();
    thread::Builder::new()
        .name("log".into())
        .spawn(move || writer.write(&receiver, &mut io::stdout()))
        .map_err(|error| error.to_string())?;
    subscriber(targets, format, log.clone()).try_init().map_err(|error| error.to_string())?;
    Ok(log)
}

fn subscriber(targets: Targets, format: Format, log: Log) -> Box<dyn Subscriber + Send + Sync> {
    let registry = tracing_subscriber::registry().with(targets);
    let layer = fmt::layer().with_writer(log);
    match format {
        Format::Plain => Box::new(registry.with(layer)),
        Format::Json => Box::new(registry.with(layer.json().flatten_event(true))),
    }
}

/// The queue of lines, and what is known about those that were not written.
#[derive(Clone, Debug)]
pub(crate) struct Log {
    queue: SyncSender<Message>,
    limiter: Arc<Mutex<Limiter>>,
    suppressed: Arc<AtomicU64>,
    /// Of them: those that met a full queue, since that was last said.
    lost: Arc<AtomicU64>,
    start: Instant,
}

#[derive(Debug)]
enum Message {
    Line(Vec<u8>),
    /// The limiter has something to sum up.
    Owing,
    /// Everything before this was written.
    Flush(SyncSender<()>),
}

impl Log {
    /// Lines that may wait. They only do when standard output blocks.
    const WAITING: usize = 1024;

    fn new() -> (Self, Receiver<Message>) {
        let (queue, receiver) = sync_channel(Self::WAITING);
        let log = Log {
            queue,
            limiter: Arc::default(),
            suppressed: Arc::default(),
            lost: Arc::default(),
            start: Instant::now(),
        };
        (log, receiver)
    }

    /// Logs an event, from any thread, without waiting.
    pub(crate) fn event(&self, event: &Event) {
        if !event.kind().is_caused_by_a_peer() {
            return line(event);
        }
        let verdict = self.limited(|limiter, second| limiter.admit(second));
        match verdict {
            Verdict::Write => line(event),
            Verdict::Suppress { first } => {
                self.suppressed.fetch_add(1, Ordering::Relaxed);
                if first {
                    self.send(Message::Owing);
                }
            }
        }
    }

    /// Counts the lines that were not written.
    pub(crate) fn suppressed(&self) -> Arc<AtomicU64> {
        Arc::clone(&self.suppressed)
    }

    /// Waits until all lines so far are written, but not for a reader that does not read.
    pub(crate) fn flush(&self) {
        let deadline = Instant::now() + Duration::from_secs(1);
        let (done, written) = sync_channel(1);
        let mut message = Message::Flush(done);
        while let Err(TrySendError::Full(back)) = self.queue.try_send(message) {
            if Instant::now() > deadline {
                return;
            }
            message = back;
            thread::sleep(Duration::from_millis(1));
        }
        let _ = written.recv_timeout(deadline.saturating_duration_since(Instant::now()));
    }

    /// From now on a panic anywhere is logged and ends the process: nothing is known about the
    /// state it leaves behind.
    pub(crate) fn abort_on_panic(&self) {
        let log = self.clone();
        std::panic::set_hook(Box::new(move |panic| {
            log_panic(panic);
            log.flush();
            std::process::abort();
        }));
    }

    /// Writes lines to `out` until nobody can send any.
    fn write(&self, receiver: &Receiver<Message>, out: &mut impl Write) {
        let mut owing = false;
        loop {
            let message = if owing {
                receiver.recv_timeout(Duration::from_secs(1))
            } else {
                receiver.recv().map_err(|_| RecvTimeoutError::Disconnected)
            };
            match message {
                // There is nobody to tell that nobody reads.
                Ok(Message::Line(line)) => drop(out.write_all(&line)),
                Ok(Message::Owing) => owing = true,
                Ok(Message::Flush(done)) => {
                    let _ = out.flush();
                    let _ = done.send(());
                }
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return,
            }
            if owing && let Some(suppressed) = self.limited(Limiter::summary) {
                owing = false;
                warn!(suppressed, "too many refusals to log each");
            }
            let lost = self.lost.swap(0, Ordering::Relaxed);
            if lost > 0 {
                warn!(lost, "log lines were lost: standard output was blocked");
            }
        }
    }

    fn limited<T>(&self, ask: impl FnOnce(&mut Limiter, u64) -> T) -> T {
        let second = self.start.elapsed().as_secs();
        let mut limiter = self.limiter.lock().unwrap_or_else(PoisonError::into_inner);
        ask(&mut limiter, second)
    }

    fn send(&self, message: Message) {
        if let Err(TrySendError::Full(Message::Line(_))) = self.queue.try_send(message) {
            self.suppressed.fetch_add(1, Ordering::Relaxed);
            self.lost.fetch_add(1, Ordering::Relaxed);
        }
    }
}

impl<'a> MakeWriter<'a> for Log {
    type Writer = &'a Log;

    fn make_writer(&'a self) -> &'a Log {
        self
    }
}

/// Takes a line at once: the subscriber formats it first.
impl Write for &Log {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        self.send(Message::Line(line.into()));
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn log_panic(panic: &PanicHookInfo<'_>) {
    let location = panic.location().map(ToString::to_string);
    error!(
        location,
        thread = thread::current().name(),
        backtrace = %Backtrace::force_capture(),
        "panic: {}",
        panic.payload_as_str().unwrap_or("(no message)")
    );
}

/// So many lines in each second; the rest is counted and summed up in one line afterwards.
#[derive(Debug, Default)]
struct Limiter {
    second: u64,
    admitted: u64,
    suppressed: u64,
}

/// May a line be written?
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verdict {
    Write,
    /// No. `first`: since the last summary.
    Suppress {
        first: bool,
    },
}

impl Limiter {
    /// Lines a second. Enough to see what is going on, and 30 KB/s at most.
    const PER_SECOND: u64 = 100;

    fn admit(&mut self, second: u64) -> Verdict {
        if second != self.second {
            self.second = second;
            self.admitted = 0;
        }
        if self.admitted < Self::PER_SECOND {
            self.admitted += 1;
            return Verdict::Write;
        }
        self.suppressed += 1;
        Verdict::Suppress { first: self.suppressed == 1 }
    }

    /// How many lines were not written, once their second is over.
    fn summary(&mut self, second: u64) -> Option<u64> {
        (self.suppressed > 0 && second != self.second).then(|| std::mem::take(&mut self.suppressed))
    }
}

/// Logs what became of an attempt that failed.
fn retry_line(event: &Event) {
    let Event::Retry { service, addr, failed, took, decision, nth, limit, wait } = event else {
        return;
    };
    let from = addr.map_or_else(|| "no endpoint".into(), |addr| addr.to_string());
    if *decision == Decision::Retried {
        debug!(%service, ?wait, "retry {nth} of {limit}, {from} failed: {failed} after {took:?}");
    } else {
        let reason = decision.label();
        debug!(%service, reason, "no retry, {from} failed: {failed} after {took:?}");
    }
}

/// What was done with a request.
fn deed(decision: Decision) -> &'static str {
    match decision {
        Decision::Redirected => "request redirected by a route",
        Decision::Queued => "request waits for its turn",
        Decision::RetrySucceeded => "request answered after a retry",
        Decision::Mirrored => "request copied to a mirror",
        _ => "decided",
    }
}

/// Logs what became of a mirror.
fn mirror(service: &str, addr: Option<SocketAddr>, decision: &str, reason: Option<Reason>) {
    let endpoint = addr.map(tracing::field::display);
    if let Some(reason) = reason {
        debug!(decision, %service, endpoint, "mirror reset: {reason}");
    } else {
        debug!(decision, %service, endpoint, "request not mirrored");
    }
}

/// Logs one event.
fn line(event: &Event) {
    match event {
        Event::Refused { conn, direction, peer, reason, service, authority } => {
            let (status, label, direction) = (reason.status(), reason.label(), direction.label());
            let (service, authority) = (service.as_deref(), authority.as_deref());
            // From 500 on it was not the client's fault.
            if status < 500 {
                info!(
                    status,
                    reason = label,
                    direction,
                    %peer,
                    service,
                    authority,
                    ?conn,
                    "refused: {reason}"
                );
            } else {
                warn!(status, reason = label, direction, %peer, service, ?conn, "failed: {reason}");
            }
        }
        Event::Closed { conn, direction, peer, reason } => {
            let (label, direction) = (reason.label(), direction.label());
            info!(reason = label, direction, %peer, ?conn, "closed: {reason}");
        }
        Event::UnknownServerName { conn, direction, peer, name } => {
            let (reason, direction) = (Reason::UnknownServerName, direction.label());
            let label = reason.label();
            warn!(reason = label, direction, %peer, server_name = %name, ?conn, "closed: {reason}");
        }
        Event::Violation { conn, direction, peer, violation } => {
            let (label, direction) = (violation.label(), direction.label());
            info!(violation = label, direction, %peer, ?conn, "HTTP/2: {violation}");
        }
        Event::EndpointDown { service, addr, reason, retry_in } => {
            warn!(%service, %addr, reason = reason.label(), ?retry_in, "endpoint down: {reason}");
        }
        Event::EndpointUp { service, addr } => info!(%service, %addr, "endpoint up"),
        Event::EndpointEjected { .. }
        | Event::EjectionSpared { .. }
        | Event::EndpointProbed { .. }
        | Event::EndpointReadmitted { .. }
        | Event::CheckFailed { .. }
        | Event::CheckPassed { .. }
        | Event::PanicEntered { .. }
        | Event::PanicLeft { .. } => availability(event),
        Event::FailfastEntered { service, failed } => {
            warn!(%service, failed, "no endpoint ready: requests fail at once");
        }
        Event::Retry { .. } => retry_line(event),
        Event::Mirror { service, addr, decision, reason } => {
            mirror(service, *addr, decision.label(), *reason);
        }
        Event::Decided { service, decision } => {
            debug!(decision = decision.label(), %service, "{}", deed(*decision));
        }
        Event::Placed { service, addr, to, decision } => {
            let endpoint = addr.map(tracing::field::display);
            let (to, decision) = (to.as_deref(), decision.label());
            debug!(decision, %service, endpoint, to, "request placed elsewhere");
        }
        Event::FailfastLeft { service } => info!(%service, "an endpoint is ready again"),
        Event::ResolveFailed { name, error, retry_in } => {
            warn!(%name, ?error, ?retry_in, "cannot resolve; the last good answer stays");
        }
        Event::TlsEstablished { conn, direction, peer, session } => {
            let tls::Peer { identity, version, group, suite, .. } = session;
            let (direction, identity) = (direction.label(), identity.as_ref().map(Name::as_str));
            debug!(identity, version, group, suite, direction, %peer, ?conn, "TLS session");
        }
        Event::TlsFailed { conn, direction, side, peer, name, problem } => {
            let (failure, direction) = (problem.failure.label(), direction.label());
            let (side, name) = (side.label(), name.as_deref());
            warn!(failure, side, name, direction, %peer, ?conn, "TLS: {problem}");
        }
        Event::Certified { name, not_after, renew_in } => {
            info!(%name, not_after = not_after.as_secs(), ?renew_in, "certified");
        }
        Event::CertifyFailed { error, retry_in } => {
            warn!(?retry_in, "no certificate: {error}");
        }
        Event::Uncertified { name } => {
            warn!(%name, "no valid certificate: nothing meshed is served");
        }
        // The control thread says these once, and not for every worker.
        Event::Reloaded { services } => debug!(services, "worker: new configuration in effect"),
        Event::Draining => debug!("worker: draining"),
        Event::Drained => debug!("worker: drained"),
    }
}

/// Logs who is asked and who is not.
fn availability(event: &Event) {
    match event {
        Event::EndpointEjected { service, addr, trip, retry_in } => {
            warn!(%service, %addr, ?retry_in, "endpoint ejected: {trip}");
        }
        Event::EjectionSpared { service, addr, trip, ejected, endpoints } => {
            debug!(%service, %addr, "not ejected, {ejected} of {endpoints} are: {trip}");
        }
        Event::EndpointProbed { service, addr } => {
            debug!(%service, %addr, "ejected endpoint is asked once");
        }
        Event::EndpointReadmitted { service, addr } => {
            info!(%service, %addr, "endpoint readmitted");
        }
        Event::CheckFailed { service, addr, failure } => {
            warn!(%service, %addr, "endpoint unhealthy: {failure}");
        }
        Event::CheckPassed { service, addr } => info!(%service, %addr, "endpoint healthy"),
        Event::PanicEntered { service, available, endpoints } => {
            warn!(%service, available, endpoints, "too few available: failing endpoints are asked, too");
        }
        Event::PanicLeft { service, available, endpoints } => {
            info!(%service, available, endpoints, "failing endpoints are left out again");
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests;
