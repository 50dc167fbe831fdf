//! `selvedge run`: workers that carry traffic on threads of their own, and one thread that looks
//! after them: admin server, mesh file, signals.

use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
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
use crate::certify::keeper;
use crate::cli::{self, BAD_CONFIG, RunArgs};
use crate::log::{self, Log};
use crate::memory;
use crate::watch::Watch;
use selvedge::mesh::{Identity, Mesh};

/// How much longer than the grace a drain may take before the process ends without it.
const OVERTIME: Duration = Duration::from_secs(2);

/// Runs until a signal ends it. Exit codes: 0 drained, 64 bad configuration, 1 anything else.
pub(crate) fn run(args: &RunArgs) -> ExitCode {
    let log = match log::init(&args.log, args.log_format) {
        Ok(log) => log,
        Err(why) => {
            eprintln!("--log: {why}");
            return ExitCode::from(BAD_CONFIG);
        }
    };
    log.abort_on_panic();
    let code = match cli::read(&args.mesh) {
        Ok((mesh, text)) => start(args, mesh, text, &log).unwrap_or_else(|why| {
            error!("{why}");
            ExitCode::FAILURE
        }),
        Err(problems) => {
            for problem in problems {
                error!("{problem}");
            }
            ExitCode::from(BAD_CONFIG)
        }
    };
    log.flush();
    code
}

/// Opens everything and stays until the end. `Err`: what could not be opened.
fn start(args: &RunArgs, mesh: Mesh, text: String, log: &Log) -> Result<ExitCode, String> {
    if let Err(error) = selvedge_tokio::raise_descriptor_limit() {
        warn!(%error, "cannot raise the limit of open descriptors");
    }
    let failed = |error: io::Error| format!("cannot start: {error}");
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(failed)?;
    let _context = runtime.enter();
    let (sender, receiver) = channel(8);
    // First of all, so that a signal hardly ever meets its default action.
    for kind in [SignalKind::terminate(), SignalKind::interrupt()] {
        tokio::spawn(pass_on(signal(kind).map_err(failed)?, kind, sender.clone()));
    }

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
    config.own = vec![admin_addr];
    config.workers = options.workers as u32;
    log_listeners(&config, admin_addr);

    if mesh.identity.is_some()
        && let Err(error) = selvedge_tokio::forbid_core_dumps()
    {
        warn!(%error, "cannot forbid core dumps, which would hold the key");
    }
    let config = Arc::new(config);
    let events = log.clone();
    let workers = bound.serve(&config, move |event| events.event(&event)).map_err(failed)?;
    let handles = workers.handles().to_vec();
    tokio::spawn(wait(workers, sender.clone()));
    let admin = Arc::new(Admin::new(log.suppressed(), scrape(handles.clone())));
    tokio::spawn(Arc::clone(&admin).serve(admin_listener));
    tokio::spawn(memory::give_back());
    if let Some(watch) = Watch::new(&args.mesh, text) {
        tokio::spawn(look(watch, sender.clone()));
    } else {
        warn!("the mesh file is no regular file: changes are not seen");
    }

    let keeper = keeper::start(mesh.identity.clone(), handles.clone(), Arc::clone(&admin.counters));
    admin.ready.store(true, Ordering::Relaxed);
    match &mesh.identity {
        None => info!(workers = options.workers, "ready"),
        Some(Identity { name, ca, .. }) => {
            info!(workers = options.workers, %name, %ca, "ready once there is a certificate");
        }
    }
    let control = Control {
        identity: mesh.identity.clone(),
        keeper,
        mesh,
        path: args.mesh.clone(),
        config,
        workers: handles,
        admin,
        log: log.clone(),
        sender,
        draining: false,
    };
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
fn scrape(
    workers: Vec<Worker>,
) -> impl Fn() -> std::pin::Pin<Box<dyn Future<Output = admin::Workers> + Send>> {
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
    /// Of the mesh file.
    path: PathBuf,
    /// What the engines work by now.
    config: Arc<Config>,
    workers: Vec<Worker>,
    /// Who the proxy is now …
    identity: Option<Identity>,
    /// … and who sees to it.
    keeper: keeper::Handle,
    admin: Arc<Admin>,
    log: Log,
    sender: Sender<Happened>,
    draining: bool,
}

impl Control {
    async fn stay(mut self, mut receiver: Receiver<Happened>) -> ExitCode {
        while let Some(happened) = receiver.recv().await {
            match happened {
                Happened::Signal(kind) if self.draining => {
                    warn!(signal = name(kind), "second signal: ending at once");
                    // As if the signal had done it.
                    self.exit(128 + kind.as_raw_value());
                }
                Happened::Signal(kind) => self.drain(kind),
                Happened::File(_) if self.draining => {}
                Happened::File(Ok(text)) => self.reload(&text),
                Happened::File(Err(why)) => {
                    self.refuse(&[format!("{}: {why}", self.path.display())]);
                }
                Happened::Ended(Ok(())) if self.draining => {
                    info!("drained");
                    return ExitCode::SUCCESS;
                }
                Happened::Ended(result) => {
                    match result {
                        Ok(()) => error!("the workers ended without being told to"),
                        Err(why) => error!("a worker failed: {why}"),
                    }
                    return ExitCode::FAILURE;
                }
                Happened::Overdue => {
                    error!("the drain did not end in time: ending without it");
                    self.exit(1);
                }
            }
        }
        unreachable!("the control thread holds a sender itself")
    }

    fn exit(&self, code: i32) -> ! {
        self.log.flush();
        std::process::exit(code)
    }

    fn drain(&mut self, kind: SignalKind) {
        self.draining = true;
        self.admin.ready.store(false, Ordering::Relaxed);
        for worker in &self.workers {
            worker.drain();
        }
        let grace = self.config.timeouts.grace;
        info!(signal = name(kind), ?grace, "draining");
        let sender = self.sender.clone();
        tokio::spawn(async move {
            sleep(grace.saturating_add(OVERTIME)).await;
            let _ = sender.send(Happened::Overdue).await;
        });
    }

    /// Makes a new text of the mesh file take effect, unless something is wrong with it.
    fn reload(&mut self, text: &str) {
        let next = match parse_change(&self.path, text) {
            Ok(mesh) => mesh,
            Err(problems) => return self.refuse(&problems),
        };
        let identity = next.identity.clone();
        let reload = self.mesh.reload(&self.config, next);
        for change in &reload.needs_restart {
            warn!("the mesh file changed: needs a restart: {change}");
        }
        if reload.config == *self.config && identity == self.identity {
            return;
        }
        self.config = Arc::new(reload.config);
        for worker in &self.workers {
            worker.reload(Arc::clone(&self.config));
        }
        // After the workers know who they are.
        if identity != self.identity {
            self.keeper.changed(identity.clone());
            self.identity = identity;
        }
        let services = self.config.services.len();
        info!(services, "the mesh file changed: in effect");
        self.admin.counters.reloads_applied.fetch_add(1, Ordering::Relaxed);
    }

    /// Says what is wrong with a new text of the mesh file.
    fn refuse(&self, problems: &[String]) {
        for problem in problems {
            error!("{problem}");
        }
        warn!("the mesh file changed: refused, what it said before stays in effect");
        self.admin.counters.reloads_refused.fetch_add(1, Ordering::Relaxed);
    }
}

fn name(kind: SignalKind) -> &'static str {
    if kind == SignalKind::interrupt() { "SIGINT" } else { "SIGTERM" }
}

/// An empty file is a good one to start from, but as a change it is one whose writer failed half-way:
/// better not to drop every service for it.
fn parse_change(path: &Path, text: &str) -> Result<Mesh, Vec<String>> {
    if text.trim().is_empty() {
        return Err(vec![format!("{}:1: the file is empty", path.display())]);
    }
    cli::parse(path, text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_became_empty_is_no_change() {
        let path = Path::new("a/mesh.toml");
        let problems = parse_change(path, " \n").unwrap_err();
        assert_eq!(problems, ["a/mesh.toml:1: the file is empty"]);
        assert!(parse_change(path, "# all defaults, and meant so").is_ok());
    }
}
