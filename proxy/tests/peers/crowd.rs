//! Many connections: what they cost, and what happens when there are too many.

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use crate::common::{App, Mesh, Need, PATIENCE, Proxy, eventually, full, have, program, run, tell};

const GET: &[u8] = b"GET /name HTTP/1.1\r\nHost: web.test\r\n\r\n";

fn open(to: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(to).expect("cannot connect");
    stream.set_read_timeout(Some(PATIENCE)).expect("cannot set a timeout");
    stream
}

/// Asks for `/name` and stays connected. False: closed instead.
fn ask(stream: &mut TcpStream) -> bool {
    let mut answer = Vec::new();
    let mut buffer = [0; 1024];
    if stream.write_all(GET).is_err() {
        return false;
    }
    while !answer.ends_with(b"the app") {
        match stream.read(&mut buffer) {
            Ok(0) => return false,
            Ok(n) => answer.extend_from_slice(&buffer[..n]),
            Err(error) if error.kind() == ErrorKind::ConnectionReset => return false,
            Err(error) => panic!("{error}"),
        }
    }
    answer.starts_with(b"HTTP/1.1 200 ")
}

/// Lets this process open as many descriptors as it may.
fn raise_own_limit() {
    let pid = std::process::id().to_string();
    let limits = std::fs::read_to_string("/proc/self/limits").expect("no /proc");
    let line = limits.lines().find(|line| line.starts_with("Max open files"));
    let hard = line.and_then(|line| line.split_whitespace().nth(4)).expect("no limit");
    let mut prlimit = program("prlimit");
    run(prlimit.args(["--pid", &pid, &format!("--nofile={hard}:{hard}")]), PATIENCE).ok();
}

#[test]
fn memory_of_an_idle_keep_alive_connection() {
    if !have(&[Need::Program("curl"), Need::Program("prlimit")]) {
        return;
    }
    raise_own_limit();
    let count: u64 = if full() { 10_000 } else { 1_000 };
    let app = App::start("the app");
    let proxy = Mesh::new().service("web.test", &[app.addr]).start();
    // What the first ones cost, and no later ones, is not theirs.
    let warm: Vec<_> = (0..50)
        .map(|_| {
            let mut stream = open(proxy.outbound());
            assert!(ask(&mut stream));
            stream
        })
        .collect();
    let before = proxy.memory("VmRSS");
    let mut idle = Vec::new();
    for _ in 0..count {
        let mut stream = open(proxy.outbound());
        assert!(ask(&mut stream));
        idle.push(stream);
    }
    let after = proxy.memory("VmRSS");
    let each = after.saturating_sub(before) / count;
    tell(&format!(
        "{count} idle keep-alive connections: {each} bytes resident each ({before} before, {after} after)"
    ));
    // Far above the budget, which a debug build need not meet; far below a buffer each.
    assert!(each < 6_000, "{each} bytes each");
    // They were really idle and not closed: each still serves.
    for stream in idle.iter_mut().step_by(97) {
        assert!(ask(stream));
    }
    drop((warm, idle));
    eventually("all are closed", PATIENCE, || (descriptors(&proxy) < 50).then_some(()));
}

#[test]
fn what_a_burst_held_is_given_back() {
    if !have(&[Need::Program("prlimit")]) {
        return;
    }
    raise_own_limit();
    let app = App::start("the app");
    let proxy = Mesh::new().service("web.test", &[app.addr]).start();
    let before = proxy.memory("VmRSS");
    let begin = || {
        let mut stream = open(proxy.outbound());
        let head =
            format!("GET /name HTTP/1.1\r\nhost: web.test\r\nx-long: {}", "x".repeat(15_000));
        stream.write_all(head.as_bytes()).expect("it takes a head");
        stream
    };
    let burst: Vec<_> = (0..1_000).map(|_| begin()).collect();
    // Without this one, the last, the C library would see that what is behind the others is free.
    let mut last = begin();
    let held = eventually("they are held", PATIENCE, || {
        let now = proxy.memory("VmRSS");
        (now > before + 10_000_000).then_some(now)
    });
    drop(burst);
    // It is looked every ten seconds, and not while it is busy.
    let left = eventually("it is given back", PATIENCE, || {
        let now = proxy.memory("VmRSS");
        (now < before + 5_000_000).then_some(now)
    });
    tell(&format!("a burst: {before} bytes resident before, {held} in it, {left} after"));
    last.write_all(b"\r\n\r\n").expect("it is still there");
    let mut answer = [0; 12];
    last.read_exact(&mut answer).expect("an answer");
    assert_eq!(&answer, b"HTTP/1.1 200");
}

/// Descriptors that the proxy has open.
fn descriptors(proxy: &Proxy) -> usize {
    let folder = std::fs::read_dir(format!("/proc/{}/fd", proxy.pid()));
    folder.expect("no /proc").count()
}

fn few_descriptors() -> (App, Proxy) {
    let app = App::start("the app");
    let proxy = Mesh::new()
        .service("web.test", &[app.addr])
        .wrapper(&["prlimit", "--nofile=64:64"])
        .start();
    (app, proxy)
}

#[test]
fn a_burst_beyond_the_descriptors_slows_down_and_recovers() {
    if !have(&[Need::Program("curl"), Need::Program("prlimit")]) {
        return;
    }
    let (_app, mut proxy) = few_descriptors();
    let mut burst: Vec<_> = (0..200).map(|_| open(proxy.outbound())).collect();
    for stream in &mut burst {
        // Some are not accepted yet, and the kernel keeps what they say.
        let _ = stream.write_all(GET);
    }
    // It waits, and does not spin.
    std::thread::sleep(Duration::from_millis(500));
    let (start, cpu) = (Instant::now(), proxy.cpu());
    std::thread::sleep(Duration::from_secs(2));
    let busy = proxy.cpu().saturating_sub(cpu);
    let elapsed = start.elapsed();
    assert!(busy < elapsed / 2, "busy for {busy:?} of {elapsed:?}");
    proxy.assert_alive();
    // It says whose fault it is.
    let log = proxy.log();
    assert!(log.contains("failed: proxy is out of descriptors, ports or memory"), "{log}");
    assert!(!log.contains("connection to the endpoint failed"), "{log}");
    drop(burst);
    eventually("it serves again", Duration::from_secs(20), || {
        (proxy.get("http://web.test/name") == (200, "the app".into())).then_some(())
    });
    // And goes on to.
    for _ in 0..20 {
        assert_eq!(proxy.get("http://web.test/name"), (200, "the app".into()));
    }
}

#[test]
fn a_crowd_within_the_descriptors_is_served() {
    if !have(&[Need::Program("curl"), Need::Program("prlimit")]) {
        return;
    }
    let (_app, proxy) = few_descriptors();
    let mut crowd: Vec<_> = (0..25).map(|_| open(proxy.outbound())).collect();
    for _ in 0..4 {
        for stream in &mut crowd {
            assert!(ask(stream));
        }
    }
}

#[test]
fn past_the_limit_of_connections_new_ones_are_closed() {
    if !have(&[Need::Program("curl")]) {
        return;
    }
    let app = App::start("the app");
    let proxy = Mesh::new().service("web.test", &[app.addr]).limit("connections = 20").start();
    // The one to the app counts too.
    let mut within: Vec<_> = (0..15).map(|_| open(proxy.outbound())).collect();
    for stream in &mut within {
        assert!(ask(stream));
    }
    let mut beyond: Vec<_> = (0..20).map(|_| open(proxy.outbound())).collect();
    let refused = beyond.iter_mut().filter_map(|stream| (!ask(stream)).then_some(())).count();
    assert!(refused >= 15, "{refused} were refused");
    for stream in &mut within {
        assert!(ask(stream));
    }
    drop((within, beyond));
    eventually("there is room again", Duration::from_secs(20), || {
        (proxy.get("http://web.test/name").0 == 200).then_some(())
    });
    let metrics = proxy.admin("/metrics").expect("no metrics");
    assert!(metrics.contains("connection_limit"), "{metrics}");
}
