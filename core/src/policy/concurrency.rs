//! How many requests may be in flight at once, and what becomes of those beyond.

use super::gradient::Adaptive;
use crate::time::Duration;

/// A bound on requests in flight, to a service or a port of the app.
#[derive(Clone, Debug, PartialEq)]
pub struct Concurrency {
    /// Requests in flight at once, of all workers. `None`: no limit.
    pub max_in_flight: Option<u32>,
    /// Requests beyond that wait for their turn, in order, of all workers. Past it: 503.
    pub max_queue: u32,
    /// How long one waits: 503.
    pub queue_timeout: Duration,
    /// Fewer than [`max_in_flight`](Self::max_in_flight), as found out from how long requests take.
    pub adaptive: Option<Adaptive>,
}

impl Default for Concurrency {
    fn default() -> Self {
        // HAProxy's queue waits as long as its connect timeout, often seconds. Who waited for one has
        // mostly been given up on.
        let queue_timeout = Duration::from_secs(1);
        Concurrency { max_in_flight: None, max_queue: 0, queue_timeout, adaptive: None }
    }
}
