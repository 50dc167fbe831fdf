//! File descriptors: none are leaked, and running out of them is survived. The tests change and
//! count what belongs to the whole process, so they are alone in it and take turns.

use std::fs::File;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::common::{PATIENCE, Proxy, echo, server, wait_for};
use rlimit::Resource;

static TURN: Mutex<()> = Mutex::new(());

#[test]
fn a_dropped_proxy_leaves_no_descriptor() {
    let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    let backend = server(echo);
    // The first runtime of a process may open what all share and nobody closes: tokio's signals.
    drop(Proxy::forward(backend));
    let before = open_descriptors();
    let proxy = Proxy::forward(backend);
    let mut clients: Vec<TcpStream> = (0..20).map(|_| proxy.connect()).collect();
    for client in &mut clients {
        client.write_all(b"hello").unwrap();
        client.read_exact(&mut [0; 5]).unwrap();
    }
    assert!(open_descriptors() >= before + 80);
    drop(proxy);
    for client in &mut clients {
        assert!(matches!(client.read(&mut [0; 1]), Ok(0) | Err(_)));
    }
    drop(clients);
    // The backend's threads need a moment to see the end.
    wait_until_closed(before);
}

#[test]
fn finished_connections_leave_no_descriptor() {
    let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    let proxy = Proxy::forward(server(echo));
    proxy.snapshot();
    let before = open_descriptors();
    for _ in 0..200 {
        let mut client = proxy.connect();
        client.write_all(b"hello").unwrap();
        client.read_exact(&mut [0; 5]).unwrap();
    }
    proxy.wait_idle();
    wait_until_closed(before);
}

#[test]
fn running_out_of_descriptors_slows_accepting_down_and_it_recovers() {
    let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    let proxy = Proxy::forward(server(echo));
    // It runs, and has all that it needs for itself.
    proxy.snapshot();
    let (soft, hard) = rlimit::getrlimit(Resource::NOFILE).unwrap();
    let limit = open_descriptors() as u64 + 50;
    rlimit::setrlimit(Resource::NOFILE, limit.min(hard), hard).unwrap();
    let mut ballast = Vec::new();
    while let Ok(file) = File::open("/dev/null") {
        ballast.push(file);
    }
    // Room for the client's own socket, and for nothing else.
    ballast.pop();
    let mut client = TcpStream::connect(proxy.addr).unwrap();
    client.write_all(b"hello").unwrap();

    let worker = proxy.worker();
    wait_for("an error", || worker.accept_errors() > 0);
    std::thread::sleep(Duration::from_millis(500));
    // 10, 20, 40, … ms: seven of them in 640 ms, and thousands if it span.
    let errors = worker.accept_errors();
    assert!((2..=20).contains(&errors), "{errors} errors");

    drop(ballast);
    rlimit::setrlimit(Resource::NOFILE, soft, hard).unwrap();
    client.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
    client.read_exact(&mut [0; 5]).unwrap();
}

/// A client that reads no more of a flow, when all that can hold bytes is full: a pipe too, where
/// there are any, so that there are `pipes` ends. What fills up last may have been read and not
/// spliced; it takes some more then. (An empty pipe that was waiting for a flow is closed in time.)
fn stuck(proxy: &Proxy, pipes: usize) -> TcpStream {
    let mut client = proxy.connect();
    let held = || proxy.snapshot().gauges.buffered_bytes;
    wait_for("all to be full", || {
        let before = held();
        std::thread::sleep(Duration::from_millis(50));
        let full = before > 0 && before == held();
        if full && open_pipes() < pipes {
            client.read_exact(&mut vec![0; 1 << 20]).unwrap();
        }
        full && open_pipes() == pipes
    });
    client
}

/// In large writes, so that there always is more than a proxy has read.
fn pour(mut stream: TcpStream) {
    let block = vec![7; 1 << 20];
    while stream.write_all(&block).is_ok() {}
}

#[test]
fn a_pipe_is_there_for_a_flow_and_no_longer() {
    let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    let proxy = Proxy::forward(server(pour));
    proxy.snapshot();
    let (before, pipes) = (open_descriptors(), open_pipes());
    let each = if cfg!(target_os = "linux") { 2 } else { 0 };
    let clients: Vec<TcpStream> = (1..=3).map(|n| stuck(&proxy, pipes + n * each)).collect();
    drop(clients);
    proxy.wait_idle();
    // What is in a pipe goes with its connection; an empty one may wait for the next flow.
    wait_until_closed(before + 2);
}

#[test]
fn without_descriptors_for_a_pipe_bytes_flow_all_the_same() {
    let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    let proxy = Proxy::forward(server(|mut stream| {
        // It is there, and waits until there are no descriptors left.
        stream.write_all(b"r").unwrap();
        stream.read_exact(&mut [0; 1]).unwrap();
        // From now on it never rests, until its client has gone.
        while stream.write(&[7; 1 << 14]).is_ok() {}
    }));
    let mut client = proxy.connect();
    client.read_exact(&mut [0; 1]).unwrap();
    let (soft, hard) = rlimit::getrlimit(Resource::NOFILE).unwrap();
    let limit = open_descriptors() as u64;
    rlimit::setrlimit(Resource::NOFILE, limit.min(hard), hard).unwrap();
    let mut ballast = Vec::new();
    while let Ok(file) = File::open("/dev/null") {
        ballast.push(file);
    }
    client.write_all(b"x").unwrap();
    let flow = |bytes| std::io::copy(&mut (&client).take(bytes), &mut std::io::sink());
    let n = flow(POURED);
    drop(ballast);
    rlimit::setrlimit(Resource::NOFILE, soft, hard).unwrap();
    assert_eq!(n.unwrap(), POURED);
    // Now that there are some, they are asked for again, though it flows on all the time.
    let start = Instant::now();
    while spliced(&proxy) == 0 && cfg!(target_os = "linux") {
        flow(POURED / 16).unwrap();
        assert!(start.elapsed() < PATIENCE, "no pipe any more");
    }
    drop(client);
    proxy.wait_idle();
}

const POURED: u64 = 64 << 20;

/// Bytes that went through pipes to clients.
fn spliced(proxy: &Proxy) -> u64 {
    proxy.snapshot().services.iter().map(|service| service.stats.tcp.spliced_bytes).sum()
}

/// Ends of pipes.
fn open_pipes() -> usize {
    let all = std::fs::read_dir("/proc/self/fd").unwrap().flatten();
    let links = all.filter_map(|fd| std::fs::read_link(fd.path()).ok());
    links.filter(|link| link.to_string_lossy().starts_with("pipe:")).count()
}

/// Waits until there are no more descriptors than `before`; if there are, says which.
fn wait_until_closed(before: usize) {
    let start = Instant::now();
    while open_descriptors() > before {
        if start.elapsed() > PATIENCE {
            let all = std::fs::read_dir("/proc/self/fd").unwrap().flatten();
            let all: Vec<_> = all.filter_map(|fd| std::fs::read_link(fd.path()).ok()).collect();
            panic!("there were {before}, there are {}: {all:?}", all.len());
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}

fn open_descriptors() -> usize {
    std::fs::read_dir("/proc/self/fd").unwrap().count()
}
