//! Attackers, and the app that they attack, in a process of their own: what they take of the machine is
//! not the proxy's doing, and not what a canary should wait for.

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::SocketAddr;
use std::process::{Child, ChildStdin, ChildStdout, Stdio};
use std::time::{Duration, Instant};

use selvedge_core::http2::Role;
use selvedge_proptests::h2::attack::ATTACKS;

use super::{flood, hold};
use crate::common::{App, program};

/// Makes a process of this test a crew.
const IS_CREW: &str = "SELVEDGE_IS_CREW";
/// What its lines begin with, among those of the test runner.
const MARK: &str = "crew: ";

/// One connection of an attacker; how it ended.
type Strike = Box<dyn Fn(SocketAddr) -> String>;

/// Every attack and its name.
fn strikes() -> Vec<(String, Strike)> {
    let mut strikes: Vec<(String, Strike)> = Vec::new();
    for attack in ATTACKS.iter().filter(|attack| attack.role == Role::Server) {
        let name = format!("{} ({})", attack.name, attack.reference);
        strikes.push((name, Box::new(|to| flood::flood(to, attack))));
    }
    for (name, strike) in hold::STRIKES {
        strikes.push(((*name).to_owned(), Box::new(strike)));
    }
    strikes
}

/// The names of the attacks, in the order of their numbers.
pub(super) fn names() -> Vec<String> {
    strikes().into_iter().map(|(name, _)| name).collect()
}

/// The process, as seen from outside. It ends when this is dropped.
pub(super) struct Crew {
    child: Child,
    orders: ChildStdin,
    reports: BufReader<ChildStdout>,
    /// Its app.
    pub(super) app: SocketAddr,
}

impl Crew {
    pub(super) fn start() -> Self {
        let this = std::env::current_exe().expect("no path of this test");
        let mut command = program(this);
        command.args(["--exact", "--ignored", "--nocapture", "attacks::crew::a_crew"]);
        command.env(IS_CREW, "1").stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().expect("cannot start a crew");
        let orders = child.stdin.take().expect("a pipe");
        let reports = BufReader::new(child.stdout.take().expect("a pipe"));
        let app = SocketAddr::from(([0, 0, 0, 0], 0));
        let mut crew = Crew { child, orders, reports, app };
        crew.app = crew.report().parse().expect("the address of the app");
        crew
    }

    /// Attacks with one connection after another for a while: how many there were, and how the last
    /// one ended.
    pub(super) fn strike(
        &mut self,
        number: usize,
        to: SocketAddr,
        time: Duration,
    ) -> (u32, String) {
        writeln!(self.orders, "{number} {to} {}", time.as_millis())
            .expect("a crew that takes orders");
        let report = self.report();
        let (connections, end) = report.split_once(' ').expect("two words");
        (connections.parse().expect("a number"), end.to_owned())
    }

    fn report(&mut self) -> String {
        loop {
            let mut line = String::new();
            let n = self.reports.read_line(&mut line).expect("a crew that reports");
            assert!(n > 0, "the crew failed");
            if let Some(report) = line.strip_prefix(MARK) {
                return report.trim_end().to_owned();
            }
        }
    }
}

impl Drop for Crew {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The same process from inside. No test: it does nothing unless [`Crew::start`] has started it.
#[test]
#[ignore = "a part of another test"]
fn a_crew() {
    if std::env::var_os(IS_CREW).is_none() {
        return;
    }
    let (app, strikes) = (App::start("app"), strikes());
    // The runner has begun a line.
    println!("\n{MARK}{}", app.addr);
    for order in std::io::stdin().lines() {
        let order = order.expect("an order");
        let mut words = order.split(' ');
        let mut word = || words.next().expect("three words");
        let strike = &strikes[word().parse::<usize>().expect("a number")].1;
        let to: SocketAddr = word().parse().expect("an address");
        let time = Duration::from_millis(word().parse().expect("a number"));
        let (start, mut connections, mut end) = (Instant::now(), 0, String::new());
        while connections == 0 || start.elapsed() < time {
            end = strike(to);
            connections += 1;
        }
        println!("{MARK}{connections} {end}");
    }
}
