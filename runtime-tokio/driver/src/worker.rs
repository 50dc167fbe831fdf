//! Workers: engines that run, and the handles to them.

use std::future::poll_fn;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread;

use futures_channel::{mpsc, oneshot};
use futures_util::StreamExt;
use selvedge_core::config::Config;
use selvedge_core::engine::{Command, Event, Input};
use selvedge_core::identity;
use selvedge_core::stats::Snapshot;

use crate::driver::Driver;
use crate::inbox::{Inbox, Message};
use crate::{Bound, Options, Runtime};

/// A handle to one running engine. Clones are handles to the same. What is asked of a worker that
/// has ended is ignored.
#[derive(Clone, Debug)]
pub struct Worker {
    inbox: Arc<Inbox>,
}

impl Worker {
    /// From now on, this configuration. Listeners stay as they are.
    pub fn reload(&self, config: Arc<Config>) {
        self.command(Command::Reload(config));
    }

    /// Stops accepting and lets what is in progress finish. The worker ends with
    /// [`Event::Drained`], after `timeouts.grace` at the latest. What was connected in the kernel
    /// already is still accepted.
    pub fn drain(&self) {
        self.command(Command::Drain);
    }

    /// Ends the worker now: everything it holds is closed.
    pub fn stop(&self) {
        self.inbox.send(Message::Stop);
    }

    /// What it has counted and what it holds. `None` when it has ended.
    pub async fn snapshot(&self) -> Option<Snapshot> {
        let (reply, answer) = oneshot::channel();
        self.inbox.send(Message::Snapshot(reply));
        answer.await.ok()
    }

    /// Waits until the worker wants a certificate: at once if it does already, and nobody was told.
    /// False when it has ended. The answer is [`Worker::identify`].
    pub async fn wants_certificate(&self) -> bool {
        let (reply, answer) = oneshot::channel();
        self.inbox.send(Message::AwaitCertify(reply));
        answer.await.is_ok()
    }

    /// Gives it a certificate, or says why there is none; new trust anchors may come unasked.
    pub fn identify(&self, result: Result<identity::Update, Arc<str>>) {
        self.inbox.send(Message::Input(Input::Identity(result)));
    }

    /// How often `accept` failed, for want of descriptors for example.
    pub fn accept_errors(&self) -> u64 {
        self.inbox.accept_errors.load(Ordering::Relaxed)
    }

    fn command(&self, command: Command) {
        self.inbox.send(Message::Input(Input::Command(command)));
    }
}

/// Is told what happens on one worker. A box, so that there is one driver for a runtime, however many
/// listen to it.
pub type Events = Box<dyn FnMut(Event) + Send>;

impl<R: Runtime> Bound<R> {
    /// Serves on threads of its own, one for each of [`Options::workers`].
    ///
    /// Each calls a clone of `events`, which must not block.
    ///
    /// # Errors
    /// When the operating system refuses a thread.
    pub fn serve<E>(self, config: &Arc<Config>, events: E) -> io::Result<Workers>
    where
        E: FnMut(Event) + Clone + Send + 'static,
    {
        self.serve_each(config, &mut || Box::new(events.clone()))
    }

    /// The same, with something to tell it to that is made for each worker.
    ///
    /// # Errors
    /// As [`Bound::serve`].
    pub fn serve_each(
        self,
        config: &Arc<Config>,
        events: &mut dyn FnMut() -> Events,
    ) -> io::Result<Workers> {
        let (ended, endings) = mpsc::unbounded();
        let mut workers = Workers { handles: Vec::new(), threads: Vec::new(), endings };
        for (number, listeners) in self.listeners.into_iter().enumerate() {
            let (handle, future) = worker::<R>(config, listeners, &self.options, events());
            workers.handles.push(handle);
            let ended = ended.clone();
            let thread = thread::Builder::new()
                .name(format!("selvedge-{number}"))
                .spawn(move || drop(ended.unbounded_send(run_thread::<R>(future))))?;
            workers.threads.push(thread);
        }
        Ok(workers)
    }

    /// For an embedder with a runtime of its own: the first worker's future, to be run there as a
    /// task. The listeners of further workers are closed.
    ///
    /// The future ends when the engine is drained or told to [`stop`](Worker::stop), with an error
    /// when it cannot start; dropping it closes everything. A panic in it must end the process.
    /// SIGPIPE must be ignored, as it is where Rust's `main` is the program's: a write to a peer that is
    /// gone is an error here.
    pub fn embed<E>(
        mut self,
        config: &Arc<Config>,
        events: E,
    ) -> (Worker, impl Future<Output = io::Result<()>> + Send + use<R, E>)
    where
        E: FnMut(Event) + Send + 'static,
    {
        worker::<R>(config, self.listeners.swap_remove(0), &self.options, Box::new(events))
    }
}

/// The worker threads. Dropping it [stops](Worker::stop) them and waits until they have ended.
#[derive(Debug)]
pub struct Workers {
    handles: Vec<Worker>,
    threads: Vec<thread::JoinHandle<()>>,
    endings: mpsc::UnboundedReceiver<io::Result<()>>,
}

impl Workers {
    /// A handle to each.
    pub fn handles(&self) -> &[Worker] {
        &self.handles
    }

    /// Waits until all have ended, as they do after a drain, or the first has failed: then the
    /// process has to end.
    ///
    /// May be dropped and called again.
    ///
    /// # Errors
    /// A worker could not start, or it panicked (where a panic does not abort the process anyway).
    pub async fn ended(&mut self) -> io::Result<()> {
        while let Some(result) = self.endings.next().await {
            result?;
        }
        Ok(())
    }
}

impl Drop for Workers {
    fn drop(&mut self) {
        for worker in &self.handles {
            worker.stop();
        }
        for thread in self.threads.drain(..) {
            // A panic was reported by its hook and by `ended`.
            let _ = thread.join();
        }
    }
}

/// One worker thread. Everything is closed when it returns; nothing goes on after a panic.
fn run_thread<R: Runtime>(
    worker: impl Future<Output = io::Result<()>> + 'static,
) -> io::Result<()> {
    catch_unwind(AssertUnwindSafe(|| R::run(worker)))
        .unwrap_or_else(|_| Err(io::Error::other("a worker panicked")))
}

/// A worker and the future that is it.
fn worker<R>(
    config: &Arc<Config>,
    listeners: Vec<std::net::TcpListener>,
    options: &Options,
    events: Events,
) -> (Worker, impl Future<Output = io::Result<()>> + Send + use<R>)
where
    R: Runtime,
{
    let (config, options) = (Arc::clone(config), options.clone());
    let inbox = Arc::new(Inbox::default());
    let worker = Worker { inbox: Arc::clone(&inbox) };
    let closing = CloseOnDrop(Arc::clone(&inbox));
    let future = async move {
        let _closing = closing;
        let mut driver = Driver::<R>::new(config, listeners, options, inbox, events)?;
        R::unlimited(poll_fn(|cx| driver.poll(cx))).await;
        Ok(())
    };
    (worker, future)
}

/// Closes the inbox however the future ends, even if it never began.
struct CloseOnDrop(Arc<Inbox>);

impl Drop for CloseOnDrop {
    fn drop(&mut self) {
        self.0.close();
    }
}
