//! File descriptors: none are leaked, and running out of them is survived. The tests change and
//! count what belongs to the whole process, so they are alone in it and take turns.

use std::fs::File;
use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::path::Path;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::common::{PATIENCE, Proxy, SERVED, echo, fill, fill_beside, server, wait_for};
use rlimit::Resource;

static TURN: Mutex<()> = Mutex::new(());

/// Begins when nothing is left of the test before.
fn turn() -> MutexGuard<'static, ()> {
    let turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    wait_for("servers to close", || SERVED.load(Ordering::Acquire) == 0);
    turn
}

#[test]
fn a_dropped_proxy_leaves_no_descriptor() {
    let _turn = turn();
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
    let _turn = turn();
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
    let _turn = turn();
    let start = Instant::now();
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
    wait_for("more errors than one", || worker.accept_errors() >= 4);
    let errors = worker.accept_errors();
    let most = most_errors(start.elapsed());
    assert!(errors <= most, "{errors} errors, and {most} if it waits after each");

    drop(ballast);
    rlimit::setrlimit(Resource::NOFILE, soft, hard).unwrap();
    client.set_read_timeout(Some(PATIENCE)).unwrap();
    client.read_exact(&mut [0; 5]).unwrap();
}

/// How many errors there may be in that time: after each it waits, twice as long as after the one before,
/// from 10 ms to a second. If it span, there would be thousands.
fn most_errors(time: Duration) -> u64 {
    let (mut errors, mut wait, mut until) = (1, Duration::from_millis(10), Duration::ZERO);
    while until + wait <= time {
        until += wait;
        errors += 1;
        wait = (wait * 2).min(Duration::from_secs(1));
    }
    errors
}

/// A client that reads no more of a flow, and its server, when all that can hold bytes is full: a pipe
/// too, where there are any. What fills up last may have been read and not spliced; the client takes
/// all of it then, and it begins anew.
fn stuck(proxy: &Proxy, servers: &Receiver<TcpStream>) -> (TcpStream, TcpStream) {
    let mut client = proxy.connect();
    let server = servers.recv_timeout(PATIENCE).unwrap();
    let mut unread = 0;
    wait_for("a pipe to be full", || {
        let before = full_pipes();
        unread += fill(proxy, &server);
        // Those of others may have become empty: a kernel takes some more in time.
        let is_full = full_pipes() > before || cfg!(not(target_os = "linux"));
        if !is_full {
            client.read_exact(&mut vec![0; std::mem::take(&mut unread)]).unwrap();
        }
        is_full
    });
    (client, server)
}

#[test]
fn a_pipe_is_there_for_a_flow_and_no_longer() {
    let _turn = turn();
    let (tell, servers) = channel();
    let proxy = Proxy::forward(server(move |stream| tell.send(stream).unwrap()));
    proxy.snapshot();
    let before = open_descriptors();
    let (clients, servers): (Vec<_>, Vec<_>) = (0..3).map(|_| stuck(&proxy, &servers)).unzip();
    // Each has four sockets here, a pipe of two ends at most; and one may wait for the next flow.
    assert!(open_descriptors() <= before + 3 * (4 + 2) + 2);
    drop(clients);
    proxy.wait_idle();
    drop(servers);
    // What is in a pipe goes with its connection; an empty one may wait for the next flow.
    wait_until_closed(before + 2);
}

#[test]
fn without_descriptors_for_a_pipe_bytes_flow_all_the_same() {
    let _turn = turn();
    let (tell, servers) = channel();
    let proxy = Proxy::forward(server(move |stream| tell.send(stream).unwrap()));
    let mut client = proxy.connect();
    let mut server = servers.recv_timeout(PATIENCE).unwrap();
    let (soft, hard) = rlimit::getrlimit(Resource::NOFILE).unwrap();
    let limit = open_descriptors() as u64;
    rlimit::setrlimit(Resource::NOFILE, limit.min(hard), hard).unwrap();
    let mut ballast = Vec::new();
    while let Ok(file) = File::open("/dev/null") {
        ballast.push(file);
    }
    // From now on it never rests, until its client has gone.
    let pour = std::thread::spawn(move || {
        let block = vec![7; 1 << 20];
        while server.write(&block).is_ok() {}
    });
    let n = std::io::copy(&mut (&mut client).take(POURED), &mut std::io::sink());
    drop(ballast);
    rlimit::setrlimit(Resource::NOFILE, soft, hard).unwrap();
    assert_eq!(n.unwrap(), POURED);
    // Now that there are some, they are asked for again, though it flows on all the time.
    let mut reader = client.try_clone().unwrap();
    let read = std::thread::spawn(move || std::io::copy(&mut reader, &mut std::io::sink()));
    let start = Instant::now();
    while spliced(&proxy) == 0 && cfg!(target_os = "linux") {
        flow_beside(&proxy, &servers);
        assert!(start.elapsed() < PATIENCE, "no pipe any more");
    }
    client.shutdown(Shutdown::Both).unwrap();
    drop(client);
    let _ = read.join().unwrap();
    pour.join().unwrap();
    proxy.wait_idle();
}

const POURED: u64 = 64 << 20;

/// What pays to be spliced, however fast the proxy is: much that has come while nobody read it.
fn flow_beside(proxy: &Proxy, servers: &Receiver<TcpStream>) {
    let mut client = proxy.connect();
    let server = servers.recv_timeout(PATIENCE).unwrap();
    let wrote = fill_beside(&server, || {
        // It looks at its sockets.
        proxy.snapshot();
        1
    });
    client.read_exact(&mut vec![0; wrote]).unwrap();
}

/// Bytes that went through pipes to clients.
fn spliced(proxy: &Proxy) -> u64 {
    proxy.snapshot().services.iter().map(|service| service.stats.tcp.spliced_bytes).sum()
}

/// Ends of pipes that have bytes in them: not of those that wait for the next flow.
fn full_pipes() -> usize {
    let all = std::fs::read_dir("/proc/self/fd").unwrap().flatten();
    let is_pipe = |fd: &Path| {
        std::fs::read_link(fd).is_ok_and(|link| link.to_string_lossy().starts_with("pipe:"))
    };
    let pipes = all.map(|fd| fd.path()).filter(|fd| is_pipe(fd));
    let bytes = pipes.filter_map(|pipe| rustix::io::ioctl_fionread(File::open(pipe).ok()?).ok());
    bytes.filter(|&bytes| bytes > 0).count()
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
