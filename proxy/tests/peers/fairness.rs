//! Small requests beside one that is large or slow: streams of one HTTP/2 connection, and connections.

use std::cell::RefCell;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use bytes::Bytes;
use h2::RecvStream;
use h2::client::SendRequest;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::task::LocalSet;
use tokio::time::{MissedTickBehavior, interval};

use crate::common::{Mesh, PATIENCE, full, on_a_runtime, tell};

/// How often each of the small ones asks.
const PACE: Duration = Duration::from_millis(50);
/// Rounds, of which the best counts: a machine that is busy with something else spoils either half of
/// one, a proxy that lets the small ones wait always the same.
const ROUNDS: usize = 5;
const SMALL: &str = "hello";

/// Bytes of the large answer.
fn large() -> usize {
    if full() { 1 << 30 } else { 32 << 20 }
}

/// An app that answers `/large` with so many bytes, and all else with a few.
fn app() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("cannot listen");
    let addr = listener.local_addr().expect("no address");
    thread::spawn(move || {
        for socket in listener.incoming().flatten() {
            // Clients that go away early are part of the test.
            thread::spawn(move || serve(socket));
        }
    });
    addr
}

fn serve(mut socket: TcpStream) -> std::io::Result<()> {
    socket.set_nodelay(true)?;
    let mut lines = BufReader::new(socket.try_clone()?);
    let block = vec![b'x'; 64 * 1024];
    loop {
        let mut first = String::new();
        if lines.read_line(&mut first)? == 0 {
            return Ok(());
        }
        let mut line = first.clone();
        while line != "\r\n" {
            line.clear();
            lines.read_line(&mut line)?;
        }
        let head = |length| format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n");
        if first.starts_with("GET /large ") {
            socket.write_all(head(large()).as_bytes())?;
            (0..large() / block.len()).try_for_each(|_| socket.write_all(&block))?;
        } else {
            socket.write_all((head(SMALL.len()) + SMALL).as_bytes())?;
        }
    }
}

/// How long requests took.
#[derive(Clone, Default)]
struct Latencies(Rc<RefCell<Vec<Duration>>>);

impl Latencies {
    /// What 99 of 100 took at most, and how many there were since this was last asked.
    fn p99(&self) -> (Duration, usize) {
        let mut taken = self.0.take();
        taken.sort_unstable();
        (taken[(taken.len() * 99 / 100).min(taken.len() - 1)], taken.len())
    }
}

/// Asks at its pace, for ever. Every one begins at another time.
async fn keep_asking(nth: u32, latencies: Latencies, mut ask: impl AsyncFnMut()) {
    tokio::time::sleep(PACE * (nth % 100) / 100).await;
    let mut pace = interval(PACE);
    pace.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        pace.tick().await;
        let start = Instant::now();
        ask().await;
        latencies.0.borrow_mut().push(start.elapsed());
    }
}

fn request(path: &str) -> http::Request<()> {
    http::Request::get(format!("http://web.example{path}")).body(()).expect("a request")
}

async fn fetch(client: &SendRequest<Bytes>, path: &str) -> usize {
    let mut client = client.clone().ready().await.expect("the connection stays");
    let (response, _) = client.send_request(request(path), true).expect("a stream");
    let response = response.await.expect("an answer");
    assert_eq!(response.status(), 200);
    drain(response.into_body()).await
}

async fn drain(mut body: RecvStream) -> usize {
    let mut length = 0;
    while let Some(data) = body.data().await {
        let data = data.expect("no reset");
        length += data.len();
        body.flow_control().release_capacity(data.len()).expect("it was received");
    }
    length
}

/// Rounds of a while without what disturbs and a while with it; the best ratio of the two.
async fn compare(what: &str, latencies: Latencies, mut disturb: impl AsyncFnMut()) {
    let quiet = Duration::from_millis(if full() { 3000 } else { 500 });
    let mut best: Option<(f64, String)> = None;
    // The first requests find nothing connected.
    tokio::time::sleep(quiet).await;
    for _ in 0..if full() { ROUNDS } else { 1 } {
        latencies.0.take();
        tokio::time::sleep(quiet).await;
        let (without, _) = latencies.p99();
        let start = Instant::now();
        disturb().await;
        let took = start.elapsed();
        let (with, count) = latencies.p99();
        let ratio = with.as_secs_f64() / without.as_secs_f64();
        let figure = format!(
            "{what}: p99 {without:?} without, {with:?} with it, {ratio:.2} times ({count} requests in {took:.1?})"
        );
        if best.as_ref().is_none_or(|(best, _)| ratio < *best) {
            best = Some((ratio, figure));
        }
    }
    let (ratio, figure) = best.expect("a round");
    tell(&figure);
    assert!(!full() || ratio <= 2.0, "{figure}");
}

#[test]
fn a_large_stream_lets_small_ones_by() {
    let mesh = Mesh::new().service("web.example", &[app()]).speaks("http1");
    let proxy = mesh.start();
    let to = proxy.outbound();
    on_a_runtime(
        PATIENCE * 3,
        LocalSet::new().run_until(async move {
            let socket = tokio::net::TcpStream::connect(to).await.expect("cannot connect");
            socket.set_nodelay(true).expect("an option");
            let mut builder = h2::client::Builder::new();
            builder.initial_window_size(1 << 20).initial_connection_window_size(4 << 20);
            let (client, connection) = builder.handshake(socket).await.expect("HTTP/2");
            tokio::task::spawn_local(async { connection.await.expect("the connection stays") });
            let latencies = Latencies::default();
            for nth in 0..99 {
                let client = client.clone();
                tokio::task::spawn_local(keep_asking(nth, latencies.clone(), async move || {
                    assert_eq!(fetch(&client, "/small").await, SMALL.len());
                }));
            }
            compare("99 small streams beside a large one", latencies, async || {
                assert_eq!(fetch(&client, "/large").await, large());
            })
            .await;
        }),
    );
}

/// Reads 64 KiB every 20 ms.
fn read_slowly(to: SocketAddr, stop: &AtomicBool) {
    let mut socket = TcpStream::connect(to).expect("cannot connect");
    socket.write_all(b"GET /large HTTP/1.1\r\nHost: web.example\r\n\r\n").expect("it is taken");
    let mut block = vec![0; 64 * 1024];
    while !stop.load(Ordering::Relaxed) {
        let n = socket.read(&mut block).expect("no reset");
        assert!(n > 0, "it is not over");
        thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn a_connection_that_reads_slowly_slows_no_other() {
    let proxy = Mesh::new().service("web.example", &[app()]).speaks("http1").start();
    let to = proxy.outbound();
    on_a_runtime(
        PATIENCE * 3,
        LocalSet::new().run_until(async move {
            let latencies = Latencies::default();
            for nth in 0..100 {
                let mut socket = tokio::net::TcpStream::connect(to).await.expect("cannot connect");
                socket.set_nodelay(true).expect("an option");
                tokio::task::spawn_local(keep_asking(nth, latencies.clone(), async move || {
                    let request = b"GET /small HTTP/1.1\r\nHost: web.example\r\n\r\n";
                    socket.write_all(request).await.expect("it is taken");
                    let mut answer = Vec::new();
                    while !answer.ends_with(SMALL.as_bytes()) {
                        assert!(socket.read_buf(&mut answer).await.expect("no reset") > 0);
                    }
                }));
            }
            compare("100 connections beside one that reads slowly", latencies, async || {
                let stop = Arc::new(AtomicBool::new(false));
                let stopped = Arc::clone(&stop);
                let slow = thread::spawn(move || read_slowly(to, &stopped));
                tokio::time::sleep(Duration::from_millis(if full() { 3000 } else { 300 })).await;
                assert!(!slow.is_finished(), "it reads");
                stop.store(true, Ordering::Relaxed);
                slow.join().expect("nothing went wrong");
            })
            .await;
        }),
    );
}
