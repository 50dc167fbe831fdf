//! What Selvedge knew of an endpoint's health, and what it did meanwhile.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use indicatif::ProgressBar;
use selvedge_core::engine::Event;
use selvedge_core::stats::Snapshot;
use selvedge_tokio::Worker;
use tokio::sync::mpsc::UnboundedReceiver;
use tokio::time::timeout;

/// How often Selvedge's counters are read while the endpoint is down.
const INTERVAL: Duration = Duration::from_millis(10);

/// A time in which Selvedge knew that an endpoint was down.
#[derive(Clone, Debug)]
pub(super) struct Down {
    /// Its event `EndpointDown`.
    pub(super) since: Instant,
    /// Its event `EndpointUp`; `None` if it never came.
    pub(super) until: Option<Instant>,
    /// How often the counters were read meanwhile.
    pub(super) looks: u64,
    /// Requests that Selvedge had sent the endpoint's way, at the first look and at the last.
    first: u64,
    last: u64,
}

impl Down {
    pub(super) fn new(since: Instant) -> Self {
        Down { since, until: None, looks: 0, first: 0, last: 0 }
    }

    /// Requests that were sent the endpoint's way all the same.
    pub(super) fn attempts(&self) -> u64 {
        self.last - self.first
    }

    pub(super) fn contains(&self, at: Instant) -> bool {
        self.since < at && self.until.is_none_or(|until| at < until)
    }

    /// Notes the counter. The engine counts a request as it chooses the endpoint, whatever becomes
    /// of it.
    pub(super) fn look(&mut self, attempts: u64) {
        if self.looks == 0 {
            self.first = attempts;
        }
        self.last = attempts;
        self.looks += 1;
    }
}

/// Follows the endpoint at `addr` until Selvedge ends. The events come with their time, taken on
/// Selvedge's own thread in the turn in which they happened.
pub(super) async fn follow(
    addr: SocketAddr,
    worker: Worker,
    mut events: UnboundedReceiver<(Instant, Event)>,
    progress: ProgressBar,
) -> Vec<Down> {
    let mut downs = Vec::new();
    loop {
        match timeout(INTERVAL, events.recv()).await {
            Ok(None) => return downs,
            Ok(Some((at, event))) => {
                if let Some(news) = note(&mut downs, addr, at, &event) {
                    progress.set_message(news);
                }
            }
            Err(_) => {}
        }
        if let Some(down) = current(&mut downs) {
            look(down, addr, &worker).await;
        }
    }
}

/// The time that is not over.
fn current(downs: &mut [Down]) -> Option<&mut Down> {
    downs.last_mut().filter(|down| down.until.is_none())
}

/// Begins or ends a time, and has words for it. Selvedge says again that an endpoint is down each
/// time that it looked again in vain.
fn note(
    downs: &mut Vec<Down>,
    addr: SocketAddr,
    at: Instant,
    event: &Event,
) -> Option<&'static str> {
    match (event, current(downs)) {
        (Event::EndpointDown { addr: which, .. }, None) if *which == addr => {
            downs.push(Down::new(at));
            Some("one app is down")
        }
        (Event::EndpointUp { addr: which, .. }, Some(down)) if *which == addr => {
            down.until = Some(at);
            Some("it is in use again")
        }
        _ => None,
    }
}

/// Reads the counter, unless the endpoint is up again and its event is on the way.
async fn look(down: &mut Down, addr: SocketAddr, worker: &Worker) {
    let snapshot = worker.snapshot().await.unwrap_or_default();
    if let Some((false, attempts)) = endpoint(&snapshot, addr) {
        down.look(attempts);
    }
}

/// Is the endpoint ready, and how many requests were sent its way?
fn endpoint(snapshot: &Snapshot, addr: SocketAddr) -> Option<(bool, u64)> {
    let mut endpoints = snapshot.services.iter().flat_map(|service| &service.endpoints);
    let endpoint = endpoints.find(|endpoint| endpoint.addr == addr)?;
    Some((endpoint.ready, endpoint.stats.requests))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use selvedge_core::error::Reason;

    use super::*;

    #[test]
    fn a_time_begins_with_the_first_down_and_ends_with_the_up() {
        let (addr, other) = (([127, 0, 0, 1], 1).into(), ([127, 0, 0, 1], 2).into());
        let service: Arc<str> = "a:80".into();
        let down = |addr| {
            let (reason, retry_in) = (Reason::ConnectFailed, Duration::from_millis(100));
            Event::EndpointDown { service: Arc::clone(&service), addr, reason, retry_in }
        };
        let up = |addr| Event::EndpointUp { service: Arc::clone(&service), addr };
        let start = Instant::now();
        let at = |ms| start + Duration::from_millis(ms);
        let mut downs = Vec::new();
        let events = [up(addr), down(other), down(addr), down(addr), up(other), up(addr)];
        for (event, ms) in events.iter().chain(&[down(addr)]).zip(0..) {
            note(&mut downs, addr, at(ms), event);
        }
        let times: Vec<_> = downs.iter().map(|down| (down.since, down.until)).collect();
        assert_eq!(times, [(at(2), Some(at(5))), (at(6), None)]);
        assert!(downs[0].contains(at(3)) && downs[1].contains(at(7)));
        assert!(!downs[0].contains(at(5)) && !downs[0].contains(at(2)));
    }

    #[test]
    fn attempts_are_counted_from_the_first_look() {
        let mut down = Down::new(Instant::now());
        assert_eq!(down.attempts(), 0);
        down.look(7);
        assert_eq!(down.attempts(), 0);
        down.look(9);
        down.look(10);
        assert_eq!((down.attempts(), down.looks), (3, 3));
    }
}
