//! Futures that run beside the driver, within it: no task of the runtime, and gone when it is gone.

use std::fmt;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Wake, Waker};

use futures_util::stream::{FuturesUnordered, StreamExt};
use hickory_resolver::net::runtime::Spawn;

use crate::inbox::{Inbox, Source};

type BoxFuture = Pin<Box<dyn Future<Output = ()> + Send>>;

/// Where futures can be left that the worker is to run. Clones are the same place.
#[derive(Clone)]
pub struct Background(Arc<Shared>);

struct Shared {
    source: Arc<Source>,
    /// `None`: there is no runner any more.
    new: Mutex<Option<Vec<BoxFuture>>>,
}

impl fmt::Debug for Background {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Background").finish_non_exhaustive()
    }
}

impl Spawn for Background {
    fn spawn_bg(&mut self, future: impl Future<Output = ()> + Send + 'static) {
        self.spawn(future);
    }
}

impl Background {
    pub(crate) fn spawn(&self, future: impl Future<Output = ()> + Send + 'static) {
        let Some(new) = &mut *self.lock() else {
            return;
        };
        new.push(Box::pin(future));
        self.0.source.wake_by_ref();
    }

    fn lock(&self) -> MutexGuard<'_, Option<Vec<BoxFuture>>> {
        self.0.new.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Runs them. They are dropped with it.
pub(crate) struct Runner {
    pub(crate) background: Background,
    waker: Waker,
    running: FuturesUnordered<BoxFuture>,
}

impl Runner {
    /// Takes its index on the ready list.
    pub(crate) fn new(inbox: &Arc<Inbox>, index: u32) -> Self {
        let source = Source::new(inbox, index);
        let waker = Waker::from(Arc::clone(&source));
        let background = Background(Arc::new(Shared { source, new: Mutex::new(Some(Vec::new())) }));
        Runner { background, waker, running: FuturesUnordered::new() }
    }

    pub(crate) fn visit(&mut self) {
        self.background.0.source.begin_visit();
        let cx = &mut Context::from_waker(&self.waker);
        // One that leaves another there wakes the source, which brings us here again.
        self.running.extend(self.background.lock().iter_mut().flat_map(|new| new.drain(..)));
        while let Poll::Ready(Some(())) = self.running.poll_next_unpin(cx) {}
    }
}

impl Drop for Runner {
    fn drop(&mut self) {
        // They may hold clones of what holds them.
        let left = self.background.lock().take();
        drop(left);
    }
}
