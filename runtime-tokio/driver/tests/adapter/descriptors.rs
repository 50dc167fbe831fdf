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
