//! One table of scenarios, played on four runtimes: the engine in memory and in virtual time, the
//! adapters for tokio and for async-io, and the example on plain epoll, these three with sockets on
//! loopback. Each scenario says what must be seen; beyond that, everything that clients and apps saw
//! and what the proxy counted must be the same on all four.

mod lines;
mod memory;
mod net;
mod runtimes;
mod sockets;
mod stage;
mod table;

#[allow(dead_code, reason = "its main is not used")]
#[path = "../../../proxy/examples/epoll.rs"]
mod epoll;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use memory::Memory;
use net::{Net, Setup};
use sockets::Sockets;
use stage::Stage;
use table::Scenario;

/// How many are played at a time. They mostly wait.
const AT_ONCE: usize = 12;

type Runtime = fn(Setup) -> Box<dyn Net>;

const RUNTIMES: [(&str, Runtime); 4] = [
    ("memory", |setup| Box::new(Memory::start(setup))),
    ("tokio", |setup| Box::new(Sockets::start(runtimes::tokio, setup))),
    ("smol", |setup| Box::new(Sockets::start(runtimes::smol, setup))),
    ("epoll", |setup| Box::new(Sockets::start(runtimes::epoll, setup))),
];

#[test]
fn four_runtimes_see_the_same() {
    // `SCENARIO=name` plays one, and prints what was seen.
    let only = std::env::var("SCENARIO").ok();
    let scenarios: Vec<Scenario> =
        table::all().filter(|s| only.as_deref().is_none_or(|name| name == s.name)).collect();
    let reports: Vec<[Mutex<Option<String>>; 4]> =
        scenarios.iter().map(|_| Default::default()).collect();
    let next = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for _ in 0..AT_ONCE {
            scope.spawn(|| {
                loop {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    let Some(scenario) = scenarios.get(number / RUNTIMES.len()) else { return };
                    let runtime = number % RUNTIMES.len();
                    *reports[number / RUNTIMES.len()][runtime].lock().unwrap() =
                        play(scenario, RUNTIMES[runtime]);
                }
            });
        }
    });
    let mut bad = Vec::new();
    for (scenario, reports) in scenarios.iter().zip(reports) {
        let reports = reports.map(|report| report.into_inner().unwrap());
        if only.is_some() {
            println!("{}", reports[0].as_deref().unwrap_or("it failed in memory"));
        }
        if reports.contains(&None) {
            bad.push(scenario.name);
        } else if let Some(other) = (1..4).find(|&other| reports[other] != reports[0]) {
            bad.push(scenario.name);
            let [memory, other] = [0, other].map(|n| (RUNTIMES[n].0, reports[n].as_ref().unwrap()));
            eprintln!("{}: {memory:#?}\nbut {other:#?}", scenario.name);
        }
    }
    assert!(bad.is_empty(), "of {} scenarios these differ: {bad:?}", scenarios.len());
}

/// What was seen; `None`: not what the scenario says.
fn play(scenario: &Scenario, (name, runtime): (&str, Runtime)) -> Option<String> {
    let played = catch_unwind(AssertUnwindSafe(|| {
        let mut stage = Stage::new(runtime(scenario.setup));
        (scenario.play)(&mut stage);
        stage.finale()
    }));
    if played.is_err() {
        eprintln!("{} on {name} failed", scenario.name);
    }
    played.ok()
}

#[test]
fn the_table_has_what_it_should() {
    let mut names: Vec<_> = table::all().map(|scenario| scenario.name).collect();
    let count = names.len();
    println!("{count} scenarios");
    assert!(count >= 50, "{count}");
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), count, "two have the same name");
}
