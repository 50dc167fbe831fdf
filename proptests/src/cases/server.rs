//! A server that can do so much and no more.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use selvedge_core::time::{Duration, Time};

/// Takes requests one after the other, and works on so many at a time. It works on all of them to the
/// end: most servers do not notice that nobody waits any more.
pub(super) struct Server {
    /// When each worker is free.
    workers: BinaryHeap<Reverse<Time>>,
}

impl Server {
    pub(super) fn new(workers: usize) -> Self {
        Server { workers: (0..workers).map(|_| Reverse(Time::ZERO)).collect() }
    }

    /// A request comes; when it is answered. `takes`: how long, for one whose turn is then.
    pub(super) fn serve(&mut self, now: Time, takes: impl Fn(Time) -> Duration) -> Time {
        let Some(Reverse(free)) = self.workers.pop() else { return now };
        let turn = free.max(now);
        let end = turn + takes(turn);
        self.workers.push(Reverse(end));
        end
    }
}
