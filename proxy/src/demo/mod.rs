//! `selvedge demo`: Selvedge at work, in one process on loopback, judged by what its client saw.
//!
//! Three apps and a client know nothing of each other's troubles: one app is slow, one crashes
//! half-way and is back a little later. Apps and client share the thread that calls; each Selvedge
//! has one of its own, and is configured as anybody would configure it. By default there is one in
//! front of the client and one in front of each app, and between them is mutual TLS; an app crashes
//! with its own. In plain there is the client's alone.

mod app;
mod client;
mod cost;
mod grpc;
mod health;
mod mesh;
mod render;
mod report;
#[cfg(test)]
mod tests;
mod wire;

use std::fmt;
use std::io::{self, Write};
use std::net::{Ipv4Addr, SocketAddr};
use std::ops::RangeInclusive;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};
use selvedge_core::config::{Config, Endpoint, Listener, ListenerKind, Service, Target};
use selvedge_core::engine::Event;
use selvedge_tokio::{Options, Workers};
use tokio::sync::{Notify, mpsc};

use app::App;
use client::Load;
use mesh::{Mesh, Pod};
use report::{Report, Secured, Seen};

/// How many requests can be asked for. With fewer, a share of the last quarter says little. With
/// more than about 25,000 the run takes longer than its 15 s: as long as 16 connections need.
pub(crate) const REQUESTS: RangeInclusive<u64> = 1_000..=1_000_000;

const STEADY: &str = "steady";
const SLOW: &str = "slow";
/// The app that crashes.
const CRASHES: &str = "flaky";

/// What the client calls all three.
const AUTHORITY: &str = "shop.demo:80";

const FAST_ANSWER: Duration = Duration::from_millis(5);
const SLOW_ANSWER: Duration = Duration::from_millis(200);

pub(crate) use wire::Wire;

/// Plays the demo with so many requests, of [`REQUESTS`], over `wire`, in mutual TLS or `plain`, and
/// prints what came of it: a table, or with `json` one object. The progress is shown if standard
/// error is a terminal.
///
/// Success if all was as it should be.
pub(crate) fn run(requests: u64, wire: Wire, plain: bool, json: bool) -> ExitCode {
    let plan = Plan { meshed: !plain, ..Plan::new(requests, wire) };
    if !json {
        print(&plan.to_string());
    }
    let progress = ProgressBar::new(requests);
    if let Ok(style) = ProgressStyle::with_template("{bar:40} {pos}/{len} {msg}") {
        progress.set_style(style);
    }
    let result = play(&plan, &progress);
    progress.finish_and_clear();
    match result {
        Ok(report) => {
            print(&if json { format!("{}\n", report.to_json()) } else { report.to_string() });
            if report.ok() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
        }
        Err(error) => {
            eprintln!("demo: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Whoever closed standard output still gets the exit status.
fn print(text: &str) {
    let mut out = io::stdout().lock();
    let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
}

/// How much, and at what pace.
#[derive(Clone, Copy, Debug)]
struct Plan {
    requests: u64,
    wire: Wire,
    /// In mutual TLS, from one Selvedge to another.
    meshed: bool,
    /// What the requests are spread over.
    duration: Duration,
    /// How long the app that crashes is gone.
    outage: Duration,
}

impl Plan {
    /// A quarter of 15 s is enough for the outage and for what Selvedge then takes to look again:
    /// with its default backoff it does so 3.4 s after the crash at the latest. So the last quarter
    /// begins with three healthy apps.
    fn new(requests: u64, wire: Wire) -> Self {
        let (duration, outage) = (Duration::from_secs(15), Duration::from_secs(2));
        Plan { requests, wire, meshed: true, duration, outage }
    }
}

impl Plan {
    /// Is the cost shown beside that of the other way?
    fn costs(&self) -> bool {
        !self.meshed
    }
}

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (fast, slow) = (FAST_ANSWER.as_millis(), SLOW_ANSWER.as_millis());
        let users = client::USERS;
        let load = match self.wire {
            Wire::Http1 => format!("{} GETs over {users} connections", self.requests),
            Wire::Grpc => {
                format!("{} gRPC calls, {users} at once, over one connection", self.requests)
            }
        };
        let (seconds, outage) = (self.duration.as_secs(), self.outage.as_secs());
        let to = if self.meshed { "===> selvedge --->" } else { "--->" };
        let crashes = if self.meshed { "crashes with its selvedge" } else { "crashes" };
        writeln!(
            f,
            "
                          +{to} {STEADY}  answers in {fast} ms
  client ---> selvedge ---+{to} {SLOW}    answers in {slow} ms
                          +{to} {CRASHES}   answers in {fast} ms, {crashes} half-way, is back {outage} s later
"
        )?;
        if self.meshed {
            writeln!(f, "  ===> is mutual TLS and HTTP/2, certified by an authority in memory\n")?;
        }
        writeln!(f, "{load} in {seconds} s or more …\n")
    }
}

fn play(plan: &Plan, progress: &ProgressBar) -> io::Result<Report> {
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_io().enable_time().build()?;
    runtime.block_on(stage(plan, progress))
}

/// Puts everybody in place, lets the client run, and collects what was seen.
async fn stage(plan: &Plan, progress: &ProgressBar) -> io::Result<Report> {
    let wire = plan.wire;
    let steady = App::bind(STEADY, FAST_ANSWER, wire).await?;
    let slow = App::bind(SLOW, SLOW_ANSWER, wire).await?;
    let flaky = App::bind(CRASHES, FAST_ANSWER, wire).await?;
    let names = [steady.name, slow.name, flaky.name];
    let apps = [steady.addr, slow.addr, flaky.addr];
    let diaries = [steady.diary(), slow.diary(), flaky.diary()];

    let mesh = plan.meshed.then(Mesh::new).transpose()?;
    let pods = mesh.iter().flat_map(|mesh| apps.map(|app| mesh.pod(app)));
    let mut pods: Vec<Pod> = pods.collect::<io::Result<_>>()?;
    let endpoints: Vec<SocketAddr> =
        if pods.is_empty() { apps.into() } else { pods.iter().map(|p| p.addr).collect() };
    let crashing = endpoints[2];
    let Outbound { addr: proxy, workers, events } = Outbound::start(&endpoints, mesh.as_ref())?;
    let worker = workers.handles()[0].clone();

    let half_way = Arc::new(Notify::new());
    let crash = Arc::clone(&half_way);
    tokio::spawn(steady.serve());
    tokio::spawn(slow.serve());
    let (outage, diary) = (plan.outage, flaky.diary());
    let pod = pods.pop();
    tokio::spawn(async move {
        let Some(pod) = pod else { return flaky.serve_and_crash(&crash, outage).await };
        let app_crash = Notify::new();
        let app = flaky.serve_and_crash(&app_crash, outage);
        // Both for as long as there is a demo.
        let pod = async {
            let _pod = pod.serve_and_crash(&crash, &app_crash, &diary).await?;
            std::future::pending::<io::Result<()>>().await
        };
        tokio::try_join!(app, pod).map(|_| ())
    });
    let health = tokio::spawn(health::follow(crashing, worker.clone(), events, progress.clone()));

    let start = Instant::now();
    let load = Load {
        proxy,
        wire,
        insists: plan.meshed,
        authority: AUTHORITY,
        requests: plan.requests,
        duration: plan.duration,
        half_way,
        progress: progress.clone(),
    };
    let answers = load.run().await;
    let end = Instant::now();

    let counted = worker.snapshot().await.unwrap_or_default();
    // With the events' sender gone, `health` ends too.
    drop(workers);
    let downs = health.await.map_err(io::Error::other)?;
    let diaries = diaries.map(|diary| diary.read());
    let cost = if plan.costs() { cost::measure(wire).await? } else { None };
    Ok(Report::new(&Seen {
        wire,
        apps: &names,
        answers: &answers,
        start,
        end,
        diary: &diaries[2],
        downs: &downs,
        resent: counted.services.iter().map(|service| service.stats.replays).sum(),
        secured: mesh.map(|mesh| Secured {
            sessions: mesh.sessions(),
            received: diaries.iter().map(|diary| diary.received.len() as u64).sum(),
            identified: diaries.iter().map(|diary| diary.identified).sum(),
        }),
        cost,
    }))
}

/// The client's Selvedge.
struct Outbound {
    addr: SocketAddr,
    workers: Workers,
    /// What it says, and when.
    events: mpsc::UnboundedReceiver<(Instant, Event)>,
}

impl Outbound {
    /// As a mesh file would say it: one service with its endpoints, everything else at its default.
    fn start(endpoints: &[SocketAddr], mesh: Option<&Mesh>) -> io::Result<Outbound> {
        let endpoint = |&addr| Endpoint {
            target: Target::Addr(addr),
            weight: 1,
            mesh: mesh.map(Mesh::meshed),
            zone: None,
        };
        let (identity, update) = mesh.map(Mesh::client).unzip();
        let mut config = Config {
            listeners: vec![Listener {
                addr: (Ipv4Addr::LOCALHOST, 0).into(),
                kind: ListenerKind::Outbound,
            }],
            services: vec![Service {
                name: AUTHORITY.into(),
                endpoints: endpoints.iter().map(endpoint).collect(),
                ..Service::default()
            }],
            identity,
            ..Config::default()
        };
        let bound = selvedge_tokio::bind(&config, &Options::default()).map_err(io::Error::other)?;
        let addr = bound.local_addrs()[0];
        config.listeners[0].addr = addr;
        let (sender, events) = mpsc::unbounded_channel();
        let workers = bound.serve(&Arc::new(config), move |event| {
            // Nobody to tell once the demo is over.
            let _ = sender.send((Instant::now(), event));
        })?;
        if let Some(update) = update {
            workers.handles()[0].identify(Ok(update));
        }
        Ok(Outbound { addr, workers, events })
    }
}
