//! What wakes a driver: sockets that became ready, and messages.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Wake, Waker};

use futures_channel::oneshot;
use selvedge_core::engine::Input;
use selvedge_core::stats::Snapshot;

/// Something for the driver that no socket told it.
#[derive(Debug)]
pub(crate) enum Message {
    /// For the engine, as it is.
    Input(Input),
    /// Somebody waits until a certificate is wanted.
    AwaitCertify(oneshot::Sender<()>),
    /// Somebody wants the counters.
    Snapshot(oneshot::Sender<Snapshot>),
    /// End at once.
    Stop,
}

/// Shared by a driver, the wakers of its sockets and the handles of its worker.
#[derive(Debug, Default)]
pub(crate) struct Inbox {
    state: Mutex<State>,
    pub(crate) accept_errors: AtomicU64,
}

#[derive(Debug, Default)]
struct State {
    /// Indices of the sources that are ready.
    ready: Vec<u32>,
    messages: Vec<Message>,
    /// Wakes the driver. Taken when it is woken, so that many events wake it once.
    driver: Option<Waker>,
    closed: bool,
}

impl Inbox {
    /// Queues a message. Dropped when the driver is gone.
    pub(crate) fn send(&self, message: Message) {
        let mut state = self.lock();
        if !state.closed {
            state.messages.push(message);
            wake(state);
        }
    }

    /// Takes everything, and remembers whom to wake next time.
    pub(crate) fn collect(&self, waker: &Waker, ready: &mut VecDeque<u32>) -> Vec<Message> {
        let mut state = self.lock();
        ready.extend(state.ready.drain(..));
        if !state.driver.as_ref().is_some_and(|w| w.will_wake(waker)) {
            state.driver = Some(waker.clone());
        }
        std::mem::take(&mut state.messages)
    }

    /// The driver is gone: whoever waits for an answer learns that none comes.
    pub(crate) fn close(&self) {
        let mut state = self.lock();
        let left = std::mem::take(&mut *state);
        state.closed = true;
        drop(state);
        drop(left);
    }

    /// A panic elsewhere leaves nothing half-done here.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn wake(mut state: MutexGuard<'_, State>) {
    let driver = state.driver.take();
    drop(state);
    if let Some(driver) = driver {
        driver.wake();
    }
}

/// One socket, listener or timer: its waker puts its index on the ready list, once.
#[derive(Debug)]
pub(crate) struct Source {
    inbox: Arc<Inbox>,
    index: u32,
    queued: AtomicBool,
}

impl Source {
    pub(crate) fn new(inbox: &Arc<Inbox>, index: u32) -> Arc<Self> {
        Arc::new(Source { inbox: Arc::clone(inbox), index, queued: AtomicBool::new(false) })
    }

    /// Before its events are looked at: later ones queue it again.
    pub(crate) fn begin_visit(&self) {
        self.queued.store(false, Ordering::Release);
    }

    /// The driver itself queues it.
    pub(crate) fn queue(&self, ready: &mut VecDeque<u32>) {
        if !self.queued.swap(true, Ordering::AcqRel) {
            ready.push_back(self.index);
        }
    }
}

impl Wake for Source {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        if !self.queued.swap(true, Ordering::AcqRel) {
            let mut state = self.inbox.lock();
            state.ready.push(self.index);
            wake(state);
        }
    }
}
