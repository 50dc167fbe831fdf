//! A listening socket that survives running out of descriptors.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use selvedge_core::config::ListenerId;
use selvedge_core::time::Time;
use tracing::{info, warn};

use crate::inbox::{Inbox, Source};
use crate::{Runtime, os};

/// The first wait after an error; each further one doubles it …
const BACKOFF_MIN: Duration = Duration::from_millis(10);
/// … up to this.
const BACKOFF_MAX: Duration = Duration::from_secs(1);

/// One listening socket.
pub(crate) struct Acceptor<R: Runtime> {
    pub(crate) id: ListenerId,
    pub(crate) source: Arc<Source>,
    /// When to look again after an error, and how long that wait is.
    backoff: Option<(Time, Duration)>,
    listener: R::Listener,
    waker: Waker,
    inbox: Arc<Inbox>,
}

impl<R: Runtime> Acceptor<R> {
    /// Takes a non-blocking socket, and its index on the ready list.
    pub(crate) fn new(
        id: ListenerId,
        index: u32,
        socket: std::net::TcpListener,
        inbox: &Arc<Inbox>,
    ) -> io::Result<Self> {
        let source = Source::new(inbox, index);
        let waker = Waker::from(Arc::clone(&source));
        let listener = R::listener(socket)?;
        Ok(Acceptor { id, source, backoff: None, listener, waker, inbox: Arc::clone(inbox) })
    }

    /// When to look again after an error.
    pub(crate) fn retry_at(&self) -> Option<Time> {
        self.backoff.map(|(until, _)| until)
    }

    /// A connection and its peer; `None` for one that broke before it could be accepted. Pending:
    /// the waker, or the time of [`Acceptor::retry_at`], tells when to look again.
    pub(crate) fn poll(&mut self, now: Time) -> Poll<Option<(R::Stream, SocketAddr)>> {
        if self.retry_at().is_some_and(|until| now < until) {
            return Poll::Pending;
        }
        let cx = &mut Context::from_waker(&self.waker);
        match R::poll_accept(&self.listener, cx) {
            Poll::Pending => Poll::Pending,
            Poll::Ready(Ok((stream, peer))) => {
                if self.backoff.take().is_some() {
                    info!(listener = self.id, "accepting connections again");
                }
                Poll::Ready(Some((stream, os::canonical(peer))))
            }
            Poll::Ready(Err(error)) => {
                self.inbox.accept_errors.fetch_add(1, Ordering::Relaxed);
                if os::is_about_one_connection(&error) {
                    return Poll::Ready(None);
                }
                self.back_off(now, &error);
                Poll::Pending
            }
        }
    }

    /// Out of descriptors or memory, or an error that nobody foresaw: the connections wait in the
    /// kernel's backlog and the socket stays ready, so that trying at once would only spin.
    fn back_off(&mut self, now: Time, error: &io::Error) {
        let wait = if let Some((_, wait)) = self.backoff {
            (wait * 2).min(BACKOFF_MAX)
        } else {
            warn!(listener = self.id, %error, "cannot accept connections; will keep trying");
            BACKOFF_MIN
        };
        self.backoff = Some((now + wait, wait));
    }
}
