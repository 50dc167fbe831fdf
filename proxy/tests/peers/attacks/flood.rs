//! Every attack, over and over, beside canaries.

use std::fmt::Write as _;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use selvedge_core::http2::Role;
use selvedge_proptests::h2::attack::{ATTACKS, Attack, get, header_bombs};
use selvedge_proptests::h2::wire::Frame;

use super::watch::Watch;
use super::{World, hold, version};
use crate::common::{Need, PATIENCE, Sent, Wire, full, have, tell};

/// Steps that are sent together.
const BATCH: u32 = 32;

/// What no test of ours takes for slow, however busy the machine is. The bound that counts is ten
/// times what a canary takes when nothing else happens; the table shows both.
const FLOOR: Duration = Duration::from_millis(500);

/// What the process may take beyond what it had, whoever attacks: the caps of one connection, what
/// the allocator keeps of those before, and the stack of a debug build.
const MEMORY: u64 = 12 << 20;

/// One line of the table.
struct Row {
    name: String,
    /// What became of the connections.
    end: String,
    /// How many there were.
    connections: u32,
    p99: Duration,
    /// The most memory, in bytes.
    peak: u64,
}

/// One connection of an attacker; how it ended.
type Strike = Box<dyn Fn(SocketAddr) -> String>;

#[test]
fn attackers_are_cut_off_and_nobody_else_notices() {
    if !have(&[Need::Program("curl")]) {
        return;
    }
    let mut strikes: Vec<(String, Strike)> = Vec::new();
    for attack in ATTACKS.iter().filter(|attack| attack.role == Role::Server) {
        let name = format!("{} ({})", attack.name, attack.reference);
        strikes.push((name, Box::new(|to| flood(to, attack))));
    }
    for (name, strike) in hold::STRIKES {
        strikes.push(((*name).to_owned(), Box::new(strike)));
    }
    for http2 in [false, true] {
        // Slow ones are given a second, and not the default half minute.
        let limits = |mesh: crate::common::Mesh| {
            mesh.timeout("header = \"1s\"").timeout("request = \"2s\"").timeout("idle = \"1s\"")
        };
        let world = World::new(http2, limits);
        let to = world.proxy.outbound();
        let watch = Watch::start(to);
        std::thread::sleep(Duration::from_millis(if full() { 2000 } else { 400 }));
        watch.begin();
        std::thread::sleep(Duration::from_millis(if full() { 2000 } else { 400 }));
        let idle = watch.p99();
        let before = world.proxy.memory("VmRSS");
        let rows: Vec<Row> =
            strikes.iter().map(|(name, strike)| run(&world, &watch, name, strike)).collect();
        tell(&table(version(http2), idle, before, &rows));
        for row in &rows {
            let most = FLOOR.max(10 * idle);
            assert!(row.p99 <= most, "{}: canaries take {:?}", row.name, row.p99);
            let grown = row.peak.saturating_sub(before);
            assert!(grown <= MEMORY, "{}: {grown} bytes more", row.name);
        }
    }
}

/// Attacks with one connection after another for a while.
fn run(world: &World, watch: &Watch, name: &str, strike: &Strike) -> Row {
    // The peak counts from here.
    let peak = format!("/proc/{}/clear_refs", world.proxy.pid());
    std::fs::write(peak, "5").expect("cannot reset the peak");
    watch.begin();
    let time = Duration::from_millis(if full() { 2000 } else { 150 });
    let (start, mut connections, mut end) = (Instant::now(), 0, String::new());
    while connections == 0 || start.elapsed() < time {
        end = strike(world.proxy.outbound());
        connections += 1;
    }
    let (p99, peak) = (watch.p99(), world.proxy.memory("VmHWM"));
    Row { name: name.to_owned(), end, connections, p99, peak }
}

/// An attack, to its end.
fn flood(to: SocketAddr, attack: &Attack) -> String {
    let mut wire = Wire::connect(to, &[]);
    let start = Instant::now();
    let mut step = 0;
    while wire.goaway().is_none() && !wire.closed {
        assert!(start.elapsed() < PATIENCE, "{} goes on after {step} steps", attack.name);
        let frames: Vec<Frame> = (step..step + BATCH).flat_map(attack.step).collect();
        step += BATCH;
        match wire.send(&frames) {
            Sent::All => drop(wire.poll(Duration::ZERO)),
            Sent::Closed => break,
            Sent::Stuck => return "is not read".to_owned(),
        }
    }
    // The last words may be on their way.
    while !wire.closed && wire.goaway().is_none() && start.elapsed() < PATIENCE {
        wire.poll(Duration::from_millis(20));
    }
    let Some(code) = wire.goaway() else { return "cut off".to_owned() };
    assert_eq!(code, format!("{:?}", attack.ends.code()), "{}", attack.name);
    format!("GOAWAY {code}")
}

fn table(version: &str, idle: Duration, before: u64, rows: &[Row]) -> String {
    let mut text = format!(
        "attacks, endpoint speaks {version}: canaries take {idle:?} (p99) when nothing happens, \
         {} KiB resident before\n{:<58} {:<26} {:>5} {:>9} {:>9}\n",
        before >> 10,
        "attack",
        "end of its connections",
        "conns",
        "p99 ms",
        "peak KiB"
    );
    for row in rows {
        let (p99, peak) = (row.p99.as_secs_f64() * 1e3, row.peak >> 10);
        let Row { name, end, connections, .. } = row;
        let _ = writeln!(text, "{name:<58} {end:<26} {connections:>5} {p99:>9.2} {peak:>9}");
    }
    text
}

/// The answers to header bombs are 431, and the connection goes on: its table is what the client
/// made it.
pub(super) fn bombs(to: SocketAddr) -> String {
    let mut wire = Wire::connect(to, &[]);
    for round in 0..20 {
        let first = 4 * round + 1;
        assert_eq!(wire.send(&header_bombs(first, first + 2)), Sent::All);
        wire.answers(2);
    }
    assert_eq!(wire.complaints, []);
    "431 each".to_owned()
}

/// A window that opens an octet at a time, and requests that are reset meanwhile.
pub(super) fn drip(to: SocketAddr) -> String {
    let mut wire = Wire::connect(to, &[(4, 0)]);
    wire.credits = false;
    wire.send(&[request(1, "/bytes/60000")]);
    let mut id = 3;
    while wire.goaway().is_none() && !wire.closed {
        assert!(id < 200_000, "it goes on");
        let mut frames = Vec::new();
        for _ in 0..16 {
            frames.extend([1; 4].map(|n| Frame::window_update(1, n)));
            frames.extend([get(id), Frame::reset(id, 8)]);
            id += 2;
        }
        if wire.send(&frames) != Sent::All {
            break;
        }
        wire.poll(Duration::ZERO);
    }
    wire.poll(Duration::from_millis(100));
    wire.goaway().map_or_else(|| "cut off".to_owned(), |code| format!("GOAWAY {code}"))
}

/// A GET of some path.
pub(super) fn request(id: u32, path: &str) -> Frame {
    ask("GET", id, path)
}

/// A POST to some path. Its body follows.
pub(super) fn upload(id: u32, path: &str) -> Frame {
    ask("POST", id, path)
}

fn ask(method: &str, id: u32, path: &str) -> Frame {
    let fields =
        [(":method", method), (":scheme", "http"), (":path", path), (":authority", "a.example")];
    Frame::headers(id, method == "GET", &fields)
}

/// DATA of an octet each, to an app that does not read: the window ends it.
pub(super) fn tiny_data(to: SocketAddr) -> String {
    let mut wire = Wire::connect(to, &[]);
    wire.credits = false;
    wire.send(&[upload(1, "/slow/60000")]);
    let batch = vec![Frame::data(1, false, b"x"); 512];
    let start = Instant::now();
    while wire.complaints.is_empty() && !wire.closed && start.elapsed() < PATIENCE {
        if wire.send(&batch) != Sent::All {
            break;
        }
        wire.poll(Duration::ZERO);
    }
    wire.complained().split(" RST").next().unwrap_or_default().to_owned()
}
