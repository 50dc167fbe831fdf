//! What the tests share: programs with a time limit, the proxy under test, small servers.

mod app;
mod canned;
pub(crate) mod grpc_app;
mod peer;
mod ports;
mod program;
mod proxy;
mod servers;
mod wire;

use std::io::Write as _;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

pub(crate) use app::App;
pub(crate) use canned::Canned;
pub(crate) use peer::Peer;
pub(crate) use ports::free_port;
pub(crate) use program::{
    HURRIED, Ran, curl, example, hurry, program, run, script, signal, this_thread,
};
pub(crate) use proxy::{Mesh, Proxy};
pub(crate) use wire::{Sent, Wire};

/// How long anything may take that is not itself limited: only a hang takes longer.
pub(crate) const PATIENCE: Duration = Duration::from_mins(1);

/// Are the full sizes wanted (`SELVEDGE_FULL=1`)? They take minutes.
pub(crate) fn full() -> bool {
    std::env::var_os("SELVEDGE_FULL").is_some_and(|value| value == "1")
}

/// What a test cannot do without.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Need {
    /// A program.
    Program(&'static str),
    /// A Python module.
    Python(&'static str),
    /// An example of this package, which `cargo test` builds, but not `cargo test --test peers`.
    Example(&'static str),
    /// The right to make network namespaces and redirect what happens in them: the table that does
    /// (`iptables` or `ip6tables`).
    Redirect(&'static str),
    /// The right to run before all that has no real-time priority.
    RealTime,
}

impl Need {
    pub(crate) fn is_met(self) -> bool {
        let succeeds = |command: &mut Command| {
            let status = command.stdout(Stdio::null()).stderr(Stdio::null()).status();
            status.is_ok_and(|status| status.success())
        };
        match self {
            Need::Program(name) => std::env::var_os("PATH").is_some_and(|path| {
                std::env::split_paths(&path).any(|folder| folder.join(name).is_file())
            }),
            Need::Python(module) => {
                succeeds(Command::new("python3").args(["-c", &format!("import {module}")]))
            }
            Need::Example(name) => example(name).is_file(),
            Need::RealTime => succeeds(Command::new(HURRIED[0]).args(&HURRIED[1..]).arg("true")),
            Need::Redirect(tables) => {
                // In a namespace that is gone when the command ends.
                let rule = format!(
                    "{tables} -t nat -A OUTPUT -p tcp -m owner --uid-owner 1 -j REDIRECT --to-ports 1"
                );
                succeeds(Command::new("unshare").args(["--net", "sh", "-c", &rule]))
                    && succeeds(Command::new("ip").args(["netns", "list"]))
            }
        }
    }

    fn name(self) -> String {
        match self {
            Need::Program(name) => format!("the program {name}"),
            Need::Python(module) => format!("the Python module {module}"),
            Need::Example(name) => format!("the example {name}"),
            Need::RealTime => "the right to chrt --fifo".into(),
            Need::Redirect(tables) => format!("root with network namespaces and {tables}"),
        }
    }
}

/// Is everything there? If not, says so past the capture of the test runner, or fails when
/// `SELVEDGE_REQUIRE_PEERS=1`.
pub(crate) fn have(needs: &[Need]) -> bool {
    let missing: Vec<_> = needs.iter().filter(|need| !need.is_met()).collect();
    if missing.is_empty() {
        return true;
    }
    let names: Vec<_> = missing.iter().map(|need| need.name()).collect();
    let names = names.join(", ");
    let thread = std::thread::current();
    let test = thread.name().unwrap_or("a test");
    assert!(
        std::env::var_os("SELVEDGE_REQUIRE_PEERS").is_none_or(|value| value != "1"),
        "{test} misses {names}"
    );
    let line = format!("\n*** SKIPPED: {test}: misses {names} ***\n");
    let _ = std::io::stderr().write_all(line.as_bytes());
    false
}

/// Tells a figure past the capture of the test runner.
pub(crate) fn tell(figure: &str) {
    let _ = std::io::stderr().write_all(format!("\n--- {figure}\n").as_bytes());
}

/// Runs `test` on a runtime of its own, for at most `limit`.
pub(crate) fn on_a_runtime(limit: Duration, test: impl Future<Output = ()>) {
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().expect("no runtime");
    runtime.block_on(async { tokio::time::timeout(limit, test).await.expect("it hangs") });
}

/// Tries until it works, or fails after `limit`.
#[track_caller]
pub(crate) fn eventually<T>(
    what: &str,
    limit: Duration,
    mut attempt: impl FnMut() -> Option<T>,
) -> T {
    let start = Instant::now();
    loop {
        if let Some(value) = attempt() {
            return value;
        }
        assert!(start.elapsed() < limit, "not within {limit:?}: {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}
