//! `selvedge run`: workers that carry traffic on threads of their own, and one thread that looks
//! after them: admin server, mesh file, signals.

use std::io;
use std::net::SocketAddr;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use selvedge_core::config::{Config, ListenerKind};
use selvedge_tokio::{Options, Worker, Workers};
use tokio::net::TcpListener;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::mpsc::{Receiver, Sender, channel};
use tokio::time::{MissedTickBehavior, interval, sleep};
use tracing::{error, info, warn};

use crate::admin::{self, Admin};
use crate::cli::{self, BAD_CONFIG, RunArgs};
use crate::log::{self, EventLog};
use crate::mesh::{Mesh, Problem};
use crate::watch::Watch;

/// How much longer than the grace a drain may take before the process ends without it.
const OVERTIME: Duration = Duration::from_secs(2);

/// Runs until a signal ends it. Exit codes: 0 drained, 64 bad configuration, 1 anything else.
pub(crate) fn run(args: &RunArgs) -> ExitCode {
    if let Err(why) = log::init(&args.log, args.log_format) {
        eprintln!("--log: {why}");
        return ExitCode::from(BAD_CONFIG);
    }
    log::abort_on_panic();
    let (mesh, text) = match cli::read(&args.mesh) {
        Ok(read) => read,
        Err(problems) => {
            for problem in problems {
                error!("{problem}");
            }
            return ExitCode::from(BAD_CONFIG);
        }
    };
    match start(args, mesh, text) {
        Ok(code) => code,
        Err(why) => {
            error!("{why}");
            ExitCode::FAILURE
        }
    }
}

/// Opens everything and stays until the end. `Err`: what could not be opened.
fn start(args: &RunArgs, mesh: Mesh, text: String) -> Result<ExitCode, String> {
    if let Err(error) = selvedge_tokio::raise_descriptor_limit() {
        warn!(%error, "cannot raise the limit of open descriptors");
    }
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| format!("cannot start: {error}"))?;
    let _context = runtime.enter();
    // First of all, so that a signal never meets its default action.
    let signals =
        [SignalKind::terminate(), SignalKind::interrupt()].map(|kind| (kind, signal(kind)));

    let options = Options {
        workers: args.workers.map_or(mesh.workers.unwrap_or(1), |n| n as usize),
        keepalive: mesh.sockets.keepalive,
        user_timeout: mesh.sockets.user_timeout,
        backlog: mesh.sockets.backlog,
    };
    let bound = selvedge_tokio::bind(&mesh.config, &options).map_err(|error| error.to_string())?;
    let (admin_listener, admin_addr) = open_admin(mesh.admin)
        .map_err(|error| format!("cannot listen on {}: {error}", mesh.admin))?;
    // With the ports that the system chose.
    let mut config = mesh.config.clone();
    for (listener, addr) in config.listeners.iter_mut().zip(bound.local_addrs()) {
        listener.addr = *addr;
    }
    log_listeners(&config, admin_addr);

    let failed = |error: io::Error| format!("cannot start: {error}");
    let events = EventLog::start().map_err(failed)?;
    let config = Arc::new(config);
    let workers = bound.serve(&config, events.sink()).map_err(failed)?;
    let handles = workers.handles().to_vec();
    let admin = Arc::new(Admin::new(events.suppressed(), scrape(handles.clone())));
    tokio::spawn(Arc::clone(&admin).serve(admin_listener));

    let (sender, receiver) = channel(8);
    for (kind, signal) in signals {
        let signal = signal.map_err(failed)?;
        tokio::spawn(pass_on(signal, kind, sender.clone()));
    }
    if let Some(watch) = Watch::new(&args.mesh, text) {
        tokio::spawn(look(watch, sender.clone()));
    } else {
        warn!("the mesh file is no regular file: changes are not seen");
    }
    tokio::spawn(wait(workers, sender.clone()));

    let control =
        Control { mesh, config, workers: handles, admin, events, sender, draining: false };
    control.admin.ready.store(true, Ordering::Relaxed);
    info!(workers = options.workers, "ready");
    Ok(runtime.block_on(control.stay(receiver)))
}

fn open_admin(addr: SocketAddr) -> io::Result<(TcpListener, SocketAddr)> {
    let listener = std::net::TcpListener::bind(addr)?;
    listener.set_nonblocking(true)?;
    let addr = listener.local_addr()?;
    Ok((TcpListener::from_std(listener)?, addr))
}

fn log_listeners(config: &Config, admin: SocketAddr) {
    for listener in &config.listeners {
        let kind = match listener.kind {
            ListenerKind::Outbound => "outbound",
            ListenerKind::Inbound => "inbound",
            ListenerKind::Forward(_) => "tcp",
        };
        info!(kind, addr = %listener.addr, "listening");
    }
    info!(kind = "admin", addr = %admin, "listening");
}

/// Asks every worker for what it counted.
fn scrape(workers: Vec<Worker>) -> impl Fn() -> ScrapeFuture {
    move || {
        let workers = workers.clone();
        Box::pin(async move {
            let mut counted = admin::Workers::default();
            for worker in workers {
                counted.accept_errors += worker.accept_errors();
                counted.snapshots.extend(worker.snapshot().await);
            }
            counted
        })
    }
}

type ScrapeFuture = std::pin::Pin<Box<dyn Future<Output = admin::Workers> + Send>>;

/// What the control thread hears of.
enum Happened {
    /// SIGTERM or SIGINT.
    Signal(SignalKind),
    /// The mesh file has a new text, or none.
    File(Result<String, String>),
    /// The workers ended.
    Ended(io::Result<()>),
    /// A drain did not end by itself.
    Overdue,
}

async fn pass_on(mut signal: Signal, kind: SignalKind, sender: Sender<Happened>) {
    while signal.recv().await.is_some() {
        let _ = sender.send(Happened::Signal(kind)).await;
    }
}

async fn look(mut watch: Watch, sender: Sender<Happened>) {
    let mut ticks = interval(Watch::INTERVAL);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        if let Some(reading) = watch.poll() {
            let _ = sender.send(Happened::File(reading)).await;
        }
    }
}

async fn wait(mut workers: Workers, sender: Sender<Happened>) {
    let ended = workers.ended().await;
    let _ = sender.send(Happened::Ended(ended)).await;
}

/// What the control thread knows.
struct Control {
    /// As it was at the start: what the sockets were opened from.
    mesh: Mesh,
    /// What the engines work by now.
    config: Arc<Config>,
    workers: Vec<Worker>,
    admin: Arc<Admin>,
    events: EventLog,
    sender: Sender<Happened>,
    draining: bool,
}

impl Control {
    async fn stay(mut self, mut receiver: Receiver<Happened>) -> ExitCode {
        while let Some(happened) = receiver.recv().await {
            match happened {
                Happened::Signal(kind) if self.draining => {
                    warn!(signal = kind.as_raw_value(), "second signal: ending at once");
                    self.events.flush();
                    // As if the signal had done it.
                    std::process::exit(128 + kind.as_raw_value());
                }
                Happened::Signal(kind) => self.drain(kind),
                Happened::File(_) if self.draining => {}
                Happened::File(Ok(text)) => self.reload(&text),
                Happened::File(Err(why)) => {
                    warn!("the mesh file cannot be read, keeping what it said: {why}");
                    self.count_refused();
                }
                Happened::Ended(ended) => {
                    self.events.flush();
                    return match ended {
                        Ok(()) if self.draining => {
                            info!("done");
                            ExitCode::SUCCESS
                        }
                        Ok(()) => {
                            error!("the workers ended without being told to");
                            ExitCode::FAILURE
                        }
                        Err(why) => {
                            error!("a worker failed: {why}");
                            ExitCode::FAILURE
                        }
                    };
                }
                Happened::Overdue => {
                    self.events.flush();
                    error!("the drain did not end in time: ending without it");
                    std::process::exit(1);
                }
            }
        }
        unreachable!("the control thread holds a sender itself")
    }

    fn drain(&mut self, kind: SignalKind) {
        self.draining = true;
        self.admin.ready.store(false, Ordering::Relaxed);
        let grace = self.config.timeouts.grace;
        info!(signal = kind.as_raw_value(), ?grace, "draining");
        for worker in &self.workers {
            worker.drain();
        }
        let sender = self.sender.clone();
        tokio::spawn(async move {
            sleep(grace.saturating_add(OVERTIME)).await;
            let _ = sender.send(Happened::Overdue).await;
        });
    }

    /// Makes a new text of the mesh file take effect, unless something is wrong with it.
    fn reload(&mut self, text: &str) {
        let next = match parse_change(text) {
            Ok(mesh) => mesh,
            Err(problems) => {
                for problem in problems {
                    error!("mesh file:{problem}");
                }
                warn!("the mesh file changed but is refused, keeping what it said before");
                self.count_refused();
                return;
            }
        };
        let reload = self.mesh.reload(&self.config, next);
        for change in &reload.needs_restart {
            warn!("needs a restart: {change}");
        }
        if reload.config == *self.config {
            return;
        }
        self.config = Arc::new(reload.config);
        for worker in &self.workers {
            worker.reload(Arc::clone(&self.config));
        }
        self.admin.counters.reloads_applied.fetch_add(1, Ordering::Relaxed);
    }

    fn count_refused(&self) {
        self.admin.counters.reloads_refused.fetch_add(1, Ordering::Relaxed);
    }
}

/// An empty file is a good one to start from, but as a change it is one whose writer failed half-way:
/// better not to drop every service for it.
fn parse_change(text: &str) -> Result<Mesh, Vec<Problem>> {
    if text.trim().is_empty() {
        return Err(vec![Problem { line: 1, column: None, message: "the file is empty".into() }]);
    }
    Mesh::parse(text)
}
