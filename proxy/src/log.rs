//! Logs: one line per [`Event`] of an engine, plain or JSON, through `tracing`.
//!
//! Lines are written by a thread of their own, so that a worker never waits for whoever reads them,
//! and what a peer can cause is limited to [`Limiter::PER_SECOND`] lines a second: a flood of
//! refusals must not become a flood of lines. The metrics count all of them.

use std::backtrace::Backtrace;
use std::io;
use std::panic::PanicHookInfo;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TrySendError, sync_channel};
use std::thread;
use std::time::{Duration, Instant};

use selvedge_core::engine::Event;
use tracing::{error, info, warn};
use tracing_subscriber::filter::Targets;
use tracing_subscriber::fmt;
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
pub(crate) fn init(filter: &str, format: Format) -> Result<(), String> {
    let targets: Targets = filter
        .parse()
        .map_err(|error| format!("{filter:?} is not a level or target=level,…: {error}"))?;
    let registry = tracing_subscriber::registry().with(targets);
    let layer = fmt::layer();
    let result = match format {
        Format::Plain => registry.with(layer.with_writer(io::stdout)).try_init(),
        Format::Json => {
            registry.with(layer.json().flatten_event(true).with_writer(io::stdout)).try_init()
        }
    };
    result.map_err(|error| error.to_string())
}

/// From now on a panic anywhere is logged and ends the process: nothing is known about the state it
/// leaves behind.
pub(crate) fn abort_on_panic() {
    std::panic::set_hook(Box::new(|panic| {
        log_panic(panic);
        std::process::abort();
    }));
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

/// The thread that writes down events.
#[derive(Debug)]
pub(crate) struct EventLog {
    sender: SyncSender<Message>,
    suppressed: Arc<AtomicU64>,
}

enum Message {
    Event(Event),
    /// Everything before this was written.
    Flush(SyncSender<()>),
}

impl EventLog {
    /// Events that may wait for the writer. It only falls behind when standard output blocks.
    const WAITING: usize = 1024;

    /// Starts the thread.
    pub(crate) fn start() -> io::Result<Self> {
        let (sender, receiver) = sync_channel(Self::WAITING);
        let suppressed = Arc::new(AtomicU64::new(0));
        let counter = Arc::clone(&suppressed);
        thread::Builder::new().name("log".into()).spawn(move || write(&receiver, &counter))?;
        Ok(EventLog { sender, suppressed })
    }

    /// Takes events from any thread without waiting.
    pub(crate) fn sink(&self) -> impl Fn(Event) + Clone + Send + Sync + use<> {
        let sender = self.sender.clone();
        let suppressed = Arc::clone(&self.suppressed);
        move |event| {
            if let Err(TrySendError::Full(_)) = sender.try_send(Message::Event(event)) {
                suppressed.fetch_add(1, Ordering::Relaxed);
            }
        }
    }

    /// Counts the events that were not written.
    pub(crate) fn suppressed(&self) -> Arc<AtomicU64> {
        Arc::clone(&self.suppressed)
    }

    /// Waits until all events so far are written, but not for a reader that does not read.
    pub(crate) fn flush(&self) {
        let deadline = Instant::now() + Duration::from_secs(1);
        let (done, written) = sync_channel(1);
        let mut message = Message::Flush(done);
        while let Err(TrySendError::Full(back)) = self.sender.try_send(message) {
            if Instant::now() > deadline {
                return;
            }
            message = back;
            thread::sleep(Duration::from_millis(1));
        }
        let _ = written.recv_timeout(deadline.saturating_duration_since(Instant::now()));
    }
}

/// Writes events until all senders are gone.
fn write(receiver: &Receiver<Message>, counter: &AtomicU64) {
    let start = Instant::now();
    let mut limiter = Limiter::default();
    loop {
        let message = if limiter.suppressed == 0 {
            receiver.recv().map_err(|_| RecvTimeoutError::Disconnected)
        } else {
            receiver.recv_timeout(Duration::from_secs(1))
        };
        let second = start.elapsed().as_secs();
        // Before it waits, or ends, it says what it owes.
        let due = match message {
            Ok(Message::Event(_)) => second,
            _ => u64::MAX,
        };
        if let Some(suppressed) = limiter.summary(due) {
            warn!(suppressed, "too many refusals to log each");
        }
        match message {
            Ok(Message::Event(event)) if is_caused_by_a_peer(&event) => {
                if limiter.admit(second) {
                    line(&event);
                } else {
                    counter.fetch_add(1, Ordering::Relaxed);
                }
            }
            Ok(Message::Event(event)) => line(&event),
            Ok(Message::Flush(done)) => drop(done.send(())),
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => return,
        }
    }
}

/// A peer decides how often these happen.
fn is_caused_by_a_peer(event: &Event) -> bool {
    matches!(event, Event::Refused { .. } | Event::Closed { .. })
}

/// So many lines in each second; the rest is counted and summed up in one line afterwards.
#[derive(Debug, Default)]
pub(crate) struct Limiter {
    second: u64,
    admitted: u64,
    suppressed: u64,
}

impl Limiter {
    /// Lines a second. Enough to see what is going on, and 20 KB/s at most.
    pub(crate) const PER_SECOND: u64 = 100;

    /// May a line be written in this second?
    fn admit(&mut self, second: u64) -> bool {
        if second != self.second {
            self.second = second;
            self.admitted = 0;
        }
        if self.admitted < Self::PER_SECOND {
            self.admitted += 1;
            return true;
        }
        self.suppressed += 1;
        false
    }

    /// How many lines were not written, once their second is over.
    fn summary(&mut self, second: u64) -> Option<u64> {
        (self.suppressed > 0 && second != self.second).then(|| std::mem::take(&mut self.suppressed))
    }
}

/// Logs one event.
fn line(event: &Event) {
    match event {
        Event::Refused { conn, direction, peer, reason, service } => {
            let (status, label, direction) = (reason.status(), reason.label(), direction.label());
            let service = service.as_deref();
            // From 500 on it was not the client's fault.
            if status < 500 {
                info!(status, reason = label, direction, %peer, service, ?conn, "refused: {reason}");
            } else {
                warn!(status, reason = label, direction, %peer, service, ?conn, "failed: {reason}");
            }
        }
        Event::Closed { conn, direction, peer, reason } => {
            let (label, direction) = (reason.label(), direction.label());
            info!(reason = label, direction, %peer, ?conn, "closed: {reason}");
        }
        Event::EndpointDown { service, addr, reason, retry_in } => {
            warn!(%service, %addr, reason = reason.label(), ?retry_in, "endpoint down: {reason}");
        }
        Event::EndpointUp { service, addr } => info!(%service, %addr, "endpoint up"),
        Event::FailfastEntered { service, failed } => {
            warn!(%service, failed, "no endpoint ready: requests fail at once");
        }
        Event::FailfastLeft { service } => info!(%service, "an endpoint is ready again"),
        Event::ResolveFailed { name, error, retry_in } => {
            warn!(%name, ?error, ?retry_in, "cannot resolve; the last good answer stays");
        }
        Event::Reloaded { services } => info!(services, "new configuration in effect"),
        Event::Draining => info!("draining"),
        Event::Drained => info!("drained"),
    }
}

#[cfg(test)]
mod tests;
