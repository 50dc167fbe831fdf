//! Connections in memory, and futures that are polled until none can go on.

use std::cell::RefCell;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Wake, Waker};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// A connection: what came and was not read, and what was written.
#[derive(Clone, Default)]
pub(crate) struct Pipe(Rc<RefCell<Inner>>);

#[derive(Default)]
struct Inner {
    came: Vec<u8>,
    wrote: Vec<u8>,
    reader: Option<Waker>,
}

impl Pipe {
    pub(crate) fn bring(&self, bytes: &[u8]) {
        let mut inner = self.0.borrow_mut();
        inner.came.extend_from_slice(bytes);
        if let Some(reader) = inner.reader.take() {
            reader.wake();
        }
    }

    /// What was written since, if there is any.
    pub(crate) fn written<R>(&self, use_it: impl FnOnce(&[u8]) -> R) -> Option<R> {
        let mut inner = self.0.borrow_mut();
        if inner.wrote.is_empty() {
            return None;
        }
        let result = use_it(&inner.wrote);
        inner.wrote.clear();
        Some(result)
    }

    fn read(
        &self,
        context: &Context<'_>,
        put: impl FnOnce(&[u8]) -> usize,
    ) -> Poll<io::Result<()>> {
        let mut inner = self.0.borrow_mut();
        if inner.came.is_empty() {
            inner.reader = Some(context.waker().clone());
            return Poll::Pending;
        }
        let n = put(&inner.came);
        inner.came.drain(..n);
        Poll::Ready(Ok(()))
    }

    fn write(&self, slices: &[io::IoSlice<'_>]) -> usize {
        let mut inner = self.0.borrow_mut();
        for slice in slices {
            inner.wrote.extend_from_slice(slice);
        }
        slices.iter().map(|slice| slice.len()).sum()
    }
}

impl AsyncRead for Pipe {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.read(context, |came| {
            let n = came.len().min(buf.remaining());
            buf.put_slice(&came[..n]);
            n
        })
    }
}

impl AsyncWrite for Pipe {
    fn poll_write(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Poll::Ready(Ok(self.write(&[io::IoSlice::new(bytes)])))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Poll::Ready(Ok(self.write(slices)))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

impl hyper::rt::Read for Pipe {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        mut buf: hyper::rt::ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        self.read(context, |came| {
            let n = came.len().min(buf.remaining());
            buf.put_slice(&came[..n]);
            n
        })
    }
}

impl hyper::rt::Write for Pipe {
    fn poll_write(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Poll::Ready(Ok(self.write(&[io::IoSlice::new(bytes)])))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Poll::Ready(Ok(self.write(slices)))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

/// Who is woken.
struct Flag(AtomicBool);

impl Wake for Flag {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Ordering::Relaxed);
    }
}

type Task = Pin<Box<dyn Future<Output = ()>>>;

/// Futures, each with its own flag: only who was woken is polled.
#[derive(Clone, Default)]
pub(crate) struct Tasks(Rc<RefCell<Table>>);

#[derive(Default)]
struct Table {
    tasks: Vec<Place>,
    /// Places whose futures are over.
    free: Vec<usize>,
}

struct Place {
    flag: Arc<Flag>,
    waker: Waker,
    /// Not while it is polled.
    task: Option<Task>,
}

impl Tasks {
    pub(crate) fn spawn(&self, future: impl Future<Output = ()> + 'static) {
        let flag = Arc::new(Flag(AtomicBool::new(true)));
        let waker = Waker::from(Arc::clone(&flag));
        let place = Place { flag, waker, task: Some(Box::pin(future)) };
        let mut table = self.0.borrow_mut();
        match table.free.pop() {
            Some(at) => table.tasks[at] = place,
            None => table.tasks.push(place),
        }
    }

    /// Until nobody was woken.
    pub(crate) fn run(&self) {
        let mut again = true;
        while again {
            again = false;
            let mut at = 0;
            // Those that are polled may spawn others.
            while let Some((waker, mut task)) = self.woken(&mut at) {
                again = true;
                let over = task.as_mut().poll(&mut Context::from_waker(&waker)).is_ready();
                let mut table = self.0.borrow_mut();
                if over {
                    table.free.push(at);
                } else {
                    table.tasks[at].task = Some(task);
                }
                at += 1;
            }
        }
    }

    fn woken(&self, at: &mut usize) -> Option<(Waker, Task)> {
        let mut table = self.0.borrow_mut();
        while let Some(place) = table.tasks.get_mut(*at) {
            if place.task.is_some() && place.flag.0.swap(false, Ordering::Relaxed) {
                return Some((place.waker.clone(), place.task.take()?));
            }
            *at += 1;
        }
        None
    }
}
