//! The clock and the one timer of a worker.

use std::sync::Arc;
use std::task::{Context, Waker};
use std::time::{Duration, Instant};

use selvedge_core::time::Time;

use crate::Runtime;
use crate::inbox::{Inbox, Source};

/// No sleep is longer: the engine's "never" is far beyond what a timer can be set to.
const MAX_SLEEP: Duration = Duration::from_hours(1);

pub(crate) struct Timer<R: Runtime> {
    pub(crate) source: Arc<Source>,
    waker: Waker,
    sleep: R::Timer,
    /// What `sleep` is set to; [`Time::MAX`] once it fired.
    armed: Time,
    /// [`Time::ZERO`].
    origin: Instant,
}

impl<R: Runtime> Timer<R> {
    /// Takes its index on the ready list.
    pub(crate) fn new(inbox: &Arc<Inbox>, index: u32) -> Self {
        let source = Source::new(inbox, index);
        Timer {
            waker: Waker::from(Arc::clone(&source)),
            source,
            sleep: R::timer(),
            armed: Time::MAX,
            origin: Instant::now(),
        }
    }

    pub(crate) fn now(&self) -> Time {
        Time::ZERO + self.origin.elapsed()
    }

    /// Has so much time gone by.
    #[cfg(test)]
    pub(crate) fn put_forward(&mut self, by: Time) {
        self.origin -= by - Time::ZERO;
    }

    /// It was woken.
    pub(crate) fn begin_visit(&mut self) {
        self.source.begin_visit();
        self.armed = Time::MAX;
    }

    /// Sees to a wake-up at `deadline` or earlier. Setting the timer anew costs more than being
    /// woken once too often, so a deadline that moves away is left to fire. True if it has come.
    pub(crate) fn arm(&mut self, deadline: Time, now: Time) -> bool {
        if deadline <= now {
            return true;
        }
        let deadline = deadline.min(now + MAX_SLEEP);
        if deadline >= self.armed {
            return false;
        }
        self.armed = deadline;
        let at = self.origin + Duration::from_nanos(deadline.as_nanos());
        let cx = &mut Context::from_waker(&self.waker);
        R::poll_timer(&mut self.sleep, at, cx).is_ready()
    }
}
