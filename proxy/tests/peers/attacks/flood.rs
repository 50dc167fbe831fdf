//! Every attack, over and over, beside canaries.

use std::fmt::Write as _;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use selvedge_proptests::h2::attack::{Attack, get, header_bombs};
use selvedge_proptests::h2::wire::Frame;

use super::crew::{Crew, names};
use super::watch::{Watch, p99};
use super::{World, version};
use crate::common::{HURRIED, Mesh, Need, PATIENCE, Sent, Wire, full, have, hurry, tell};

/// Steps that are sent together.
const BATCH: u32 = 32;

/// What canaries take at most under attack, times what they take when nothing else happens.
const SLOWER: u32 = 10;

/// What no quick test takes for slow, however busy the machine is: it has too few canaries.
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

#[test]
fn attackers_are_cut_off_and_nobody_else_notices() {
    // Other programs on this machine are not what canaries should wait for.
    let hurries = Need::RealTime.is_met();
    let needs = [Need::Program("curl"), Need::RealTime];
    if !have(if full() { &needs } else { &needs[..1] }) {
        return;
    }
    for http2 in [false, true] {
        // Slow ones are given a second, and not the default half minute.
        let limits = |mesh: Mesh| {
            mesh.timeout("header = \"1s\"").timeout("request = \"2s\"").timeout("idle = \"1s\"")
        };
        let mut crew = Crew::start();
        let priority = |mesh: Mesh| if hurries { mesh.wrapper(HURRIED) } else { mesh };
        let world = World::new(crew.app, http2, |mesh| priority(limits(mesh)));
        if hurries {
            hurry(&world.canary.thread_id);
        }
        let watch = Watch::start(&world, hurries);
        std::thread::sleep(Duration::from_millis(400));
        let before = world.proxy.memory("VmRSS");
        let (mut rows, mut idle) = (Vec::new(), Vec::new());
        for (number, name) in names().into_iter().enumerate() {
            // Between attacks nothing happens: on the same machine, at about the same time.
            std::thread::sleep(Duration::from_millis(50));
            watch.begin();
            std::thread::sleep(Duration::from_millis(if full() { 250 } else { 20 }));
            idle.extend(watch.took(1));
            rows.push(run(&world, &watch, &mut crew, number, name));
        }
        let idle = p99(idle);
        tell(&table(version(http2), idle, before, &rows));
        for row in &rows {
            let (took, most) = (row.p99, SLOWER * idle);
            let most = if full() { most } else { most.max(FLOOR) };
            assert!(took <= most, "{}: canaries take {took:?}, and {most:?} is the most", row.name);
            let grown = row.peak.saturating_sub(before);
            assert!(grown <= MEMORY, "{}: {grown} bytes more", row.name);
        }
    }
}

/// Attacks for a while.
fn run(world: &World, watch: &Watch, crew: &mut Crew, number: usize, name: String) -> Row {
    // The peak counts from here.
    let peak = format!("/proc/{}/clear_refs", world.proxy.pid());
    std::fs::write(peak, "5").expect("cannot reset the peak");
    watch.begin();
    let time = Duration::from_millis(if full() { 2000 } else { 150 });
    let (connections, end) = crew.strike(number, world.proxy.outbound(), time);
    let p99 = p99(watch.took(100));
    Row { name, end, connections, p99, peak: world.proxy.memory("VmHWM") }
}

/// An attack, to its end.
pub(super) fn flood(to: SocketAddr, attack: &Attack) -> String {
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
         {} KiB resident before\n{:<60} {:<33} {:>5} {:>7} {:>7} {:>9}\n",
        before >> 10,
        "attack",
        "end of its connections",
        "conns",
        "p99 ms",
        "x idle",
        "peak KiB"
    );
    for Row { name, end, connections, p99, peak } in rows {
        let (times, peak) = (p99.as_secs_f64() / idle.as_secs_f64(), peak >> 10);
        let p99 = p99.as_secs_f64() * 1e3;
        let _ = writeln!(
            text,
            "{name:<60} {end:<33} {connections:>5} {p99:>7.2} {times:>7.1} {peak:>9}"
        );
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
