//! `selvedge demo`: Selvedge at work, in one process on loopback, judged by what its client saw.
//!
//! Three apps and a client know nothing of each other's troubles: one app is slow, one crashes
//! half-way and is back a little later. Apps and client share the thread that calls; Selvedge has
//! one of its own, and is configured as anybody would configure it: with an authority and three
//! addresses.

mod app;
mod client;
mod grpc;
mod health;
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
use selvedge_tokio::Options;
use tokio::sync::{Notify, mpsc};

use app::App;
use client::Load;
use report::{Report, Seen};

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

/// Plays the demo with so many requests, of [`REQUESTS`], over `wire`, and prints what came of it: a
/// table, or with `json` one object. The progress is shown if standard error is a terminal.
///
/// Success if all was as it should be.
pub(crate) fn run(requests: u64, wire: Wire, json: bool) -> ExitCode {
    let plan = Plan::new(requests, wire);
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
        Plan { requests, wire, duration: Duration::from_secs(15), outage: Duration::from_secs(2) }
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
        writeln!(
            f,
            "
                          +--> {STEADY}  answers in {fast} ms
  client ---> selvedge ---+--> {SLOW}    answers in {slow} ms
                          +--> {CRASHES}   answers in {fast} ms, crashes half-way, is back {outage} s later

{load} in {seconds} s or more …
"
        )
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
    let apps = [steady.name, slow.name, flaky.name];
    let (crashing, diary) = (flaky.addr, flaky.diary());

    let mut config = config([steady.addr, slow.addr, flaky.addr]);
    let bound = selvedge_tokio::bind(&config, &Options::default()).map_err(io::Error::other)?;
    let proxy = bound.local_addrs()[0];
    config.listeners[0].addr = proxy;
    let config = Arc::new(config);
    let (sender, events) = mpsc::unbounded_channel();
    let workers = bound.serve(&config, move |event| {
        // Nobody to tell once the demo is over.
        let _ = sender.send((Instant::now(), event));
    })?;
    let worker = workers.handles()[0].clone();

    let half_way = Arc::new(Notify::new());
    let crash = Arc::clone(&half_way);
    tokio::spawn(steady.serve());
    tokio::spawn(slow.serve());
    let outage = plan.outage;
    tokio::spawn(async move { flaky.serve_and_crash(&crash, outage).await });
    let health = tokio::spawn(health::follow(crashing, worker.clone(), events, progress.clone()));

    let start = Instant::now();
    let load = Load {
        proxy,
        wire,
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
    Ok(Report::new(&Seen {
        wire,
        apps: &apps,
        answers: &answers,
        start,
        end,
        diary: &diary.read(),
        downs: &downs,
        resent: counted.services.iter().map(|service| service.stats.replays).sum(),
    }))
}

/// As a mesh file would say it: one service with three endpoints, everything else at its default.
fn config(apps: [SocketAddr; 3]) -> Config {
    let endpoint = |addr| Endpoint { target: Target::Addr(addr), weight: 1, mesh: None };
    Config {
        listeners: vec![Listener {
            addr: (Ipv4Addr::LOCALHOST, 0).into(),
            kind: ListenerKind::Outbound,
        }],
        services: vec![Service {
            name: AUTHORITY.into(),
            endpoints: apps.map(endpoint).into(),
            ..Service::default()
        }],
        ..Config::default()
    }
}
