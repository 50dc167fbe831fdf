//! Small requests beside one that is large or slow: streams of one HTTP/2 connection, and connections.

use std::cell::RefCell;
use std::fmt;
use std::future::poll_fn;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use bytes::Bytes;
use h2::RecvStream;
use h2::client::SendRequest;
use h2::server::SendResponse;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::task::{JoinSet, LocalSet, spawn_local};
use tokio::time::{MissedTickBehavior, interval};

use crate::common::{Mesh, PATIENCE, full, on_a_runtime, tell};

/// How often each of the small ones asks.
const PACE: Duration = Duration::from_millis(50);
/// Rounds, of which the lowest p99 of each kind counts: what a machine that is busy with something else
/// adds is missing in one of them, what a proxy adds is in every one …
const ROUNDS: usize = 5;
/// … and so many until one of them is quiet.
const MOST_ROUNDS: usize = 20;
const SMALL: &str = "hello";
/// What a p99 may grow to, times what it is without.
const MOST: f64 = 2.0;
/// Credit that every HTTP/2 client gives for a stream (RFC 9113 §6.5.2) …
const USUAL: u32 = 65_535;
/// … and those that want speed: hyper's clients give the second.
const MORE: [u32; 2] = [1 << 20, 2 << 20];

/// Held by the test that measures: the other would be what disturbs it.
static ALONE: Mutex<()> = Mutex::new(());

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

/// An app that answers the same over HTTP/2: what a client has without a proxy.
fn http2_app() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("cannot listen");
    listener.set_nonblocking(true).expect("an option");
    let addr = listener.local_addr().expect("no address");
    thread::spawn(move || {
        let tasks = LocalSet::new();
        let serving = tasks.run_until(async move {
            let listener = tokio::net::TcpListener::from_std(listener).expect("a listener");
            while let Ok((socket, _)) = listener.accept().await {
                socket.set_nodelay(true).expect("an option");
                spawn_local(serve_http2(socket));
            }
        });
        on_a_runtime(PATIENCE * 10, serving);
    });
    addr
}

async fn serve_http2(socket: tokio::net::TcpStream) {
    // Clients that go away early are part of the test.
    let Ok(mut connection) = h2::server::handshake(socket).await else { return };
    while let Some(Ok((request, respond))) = connection.accept().await {
        spawn_local(answer(request.uri().path() == "/large", respond));
    }
}

/// `None`: the client went away.
async fn answer(is_large: bool, mut respond: SendResponse<Bytes>) -> Option<()> {
    let mut body = respond.send_response(http::Response::new(()), false).ok()?;
    if !is_large {
        return body.send_data(Bytes::from_static(SMALL.as_bytes()), true).ok();
    }
    let block = Bytes::from(vec![b'x'; 64 * 1024]);
    let mut left = large();
    while left > 0 {
        body.reserve_capacity(block.len().min(left));
        let credit = poll_fn(|cx| body.poll_capacity(cx)).await?.ok()?;
        let length = credit.min(left).min(block.len());
        left -= length;
        body.send_data(block.slice(..length), left == 0).ok()?;
    }
    Some(())
}

/// What the p99 is in a while without what disturbs and in a while with it, and how long that took.
#[derive(Clone, Copy)]
struct Figure {
    without: Duration,
    with: Duration,
    took: Duration,
    /// Requests beside what disturbs.
    count: usize,
}

impl Figure {
    async fn take(latencies: &Latencies, mut disturb: impl AsyncFnMut()) -> Self {
        let quiet = Duration::from_millis(if full() { 2000 } else { 300 });
        // The first requests find nothing connected.
        tokio::time::sleep(quiet / 2).await;
        latencies.0.take();
        tokio::time::sleep(quiet).await;
        let (without, _) = latencies.p99();
        let start = Instant::now();
        disturb().await;
        let took = start.elapsed();
        let (with, count) = latencies.p99();
        Figure { without, with, took, count }
    }

    /// The lowest of each in both.
    fn lowest(self, other: Self) -> Self {
        Figure {
            without: self.without.min(other.without),
            with: self.with.min(other.with),
            took: self.took.min(other.took),
            count: self.count.max(other.count),
        }
    }

    fn times(&self, than: Duration) -> f64 {
        self.with.as_secs_f64() / than.as_secs_f64()
    }
}

impl fmt::Display for Figure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Figure { without, with, count, took } = self;
        let times = self.times(*without);
        write!(f, "p99 {without:?} without, {with:?} with it, {times:.2} times ")?;
        write!(f, "({count} requests in {took:.1?})")
    }
}

/// What a round, or several, showed.
#[derive(Clone, Copy)]
struct Round {
    proxied: Figure,
    /// The same with no proxy, where that is what may be expected.
    direct: Option<Figure>,
}

impl Round {
    fn lowest(self, other: Self) -> Self {
        let direct = self.direct.zip(other.direct);
        Round {
            proxied: self.proxied.lowest(other.proxied),
            direct: direct.map(|(one, other)| one.lowest(other)),
        }
    }

    /// What the p99 grew to, times what it is without or what it grows to with no proxy.
    fn times(&self) -> f64 {
        let usual = self.proxied.without;
        self.proxied.times(self.direct.map_or(usual, |direct| usual.max(direct.with)))
    }
}

/// Fails if the p99 grows to more than [`MOST`] times what it may.
async fn compare(what: &str, mut round: impl AsyncFnMut() -> Round) {
    let mut lowest = round().await;
    for nth in 1..if full() { MOST_ROUNDS } else { 1 } {
        if nth >= ROUNDS && lowest.times() <= MOST {
            break;
        }
        lowest = lowest.lowest(round().await);
    }
    let Round { proxied, direct } = lowest;
    let direct = direct.map_or_else(String::new, |direct| format!("; no proxy: {direct}"));
    let figure = format!("{what}: {proxied}{direct}");
    tell(&figure);
    assert!(!full() || lowest.times() <= MOST, "{figure}");
}

/// 99 small streams, and then a large one beside them on the same connection.
async fn small_beside_large(to: SocketAddr, window: u32) -> Figure {
    let socket = tokio::net::TcpStream::connect(to).await.expect("cannot connect");
    socket.set_nodelay(true).expect("an option");
    let mut builder = h2::client::Builder::new();
    builder.initial_window_size(window).initial_connection_window_size(4 * window);
    let (client, connection) = builder.handshake(socket).await.expect("HTTP/2");
    // They end with this.
    let mut tasks = JoinSet::new();
    tasks.spawn_local(async { connection.await.expect("the connection stays") });
    let latencies = Latencies::default();
    for nth in 0..99 {
        let client = client.clone();
        tasks.spawn_local(keep_asking(nth, latencies.clone(), async move || {
            assert_eq!(fetch(&client, "/small").await, SMALL.len());
        }));
    }
    Figure::take(&latencies, async || assert_eq!(fetch(&client, "/large").await, large())).await
}

#[test]
fn a_large_stream_lets_small_ones_by() {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let proxy = Mesh::new().service("web.example", &[app()]).speaks("http1").start();
    let to = proxy.outbound();
    let rounds = compare("99 small streams beside a large one", async || Round {
        proxied: small_beside_large(to, USUAL).await,
        direct: None,
    });
    on_a_runtime(PATIENCE * 10, LocalSet::new().run_until(rounds));
}

/// A client that gives more credit than the usual finds its small answers behind what it let come. It
/// is the slowest of the three here: app and proxy copy bytes, it looks at each frame. So nearly all of
/// the credit is on its way to it or in its receive buffer at any time, as `ss -tim` shows (at most
/// 80 KiB are in the engine, 32 KiB unsent in its kernel), and an answer waits until the client has read
/// that: 1 MiB is half a millisecond at 2 GB/s, where the p99 without is 0.15 ms. With no proxy at all it
/// grows from 0.1 to 0.65 ms, 5 to 8 times.
///
/// Who sends could only have less under way than it was given credit for. With 128 KiB the p99 is 2.4
/// times what it is without, so that it had to be less; and h2 gives credit back once half of a window
/// was read: with less than half of it under way a stream stands still for ever. So the proxy is held
/// to what the same client has with none.
#[test]
fn where_more_comes_at_once_small_ones_wait_as_without_a_proxy() {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let proxy = Mesh::new().service("web.example", &[app()]).speaks("http1").start();
    let (to, server) = (proxy.outbound(), http2_app());
    for window in MORE {
        let what = format!("99 small streams beside a large one, window {window}");
        let rounds = compare(&what, async || {
            let direct = Some(small_beside_large(server, window).await);
            Round { proxied: small_beside_large(to, window).await, direct }
        });
        on_a_runtime(PATIENCE * 10, LocalSet::new().run_until(rounds));
    }
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
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let proxy = Mesh::new().service("web.example", &[app()]).speaks("http1").start();
    let to = proxy.outbound();
    let rounds = compare("100 connections beside one that reads slowly", async || Round {
        proxied: small_beside_slow(to).await,
        direct: None,
    });
    on_a_runtime(PATIENCE * 10, LocalSet::new().run_until(rounds));
}

/// 100 connections, and then one beside them that does not read what it asked for.
async fn small_beside_slow(to: SocketAddr) -> Figure {
    let latencies = Latencies::default();
    let mut tasks = JoinSet::new();
    for nth in 0..100 {
        let mut socket = tokio::net::TcpStream::connect(to).await.expect("cannot connect");
        socket.set_nodelay(true).expect("an option");
        tasks.spawn_local(keep_asking(nth, latencies.clone(), async move || {
            let request = b"GET /small HTTP/1.1\r\nHost: web.example\r\n\r\n";
            socket.write_all(request).await.expect("it is taken");
            let mut answer = Vec::new();
            while !answer.ends_with(SMALL.as_bytes()) {
                assert!(socket.read_buf(&mut answer).await.expect("no reset") > 0);
            }
        }));
    }
    Figure::take(&latencies, async || {
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let slow = thread::spawn(move || read_slowly(to, &stopped));
        tokio::time::sleep(Duration::from_millis(if full() { 3000 } else { 300 })).await;
        assert!(!slow.is_finished(), "it reads");
        stop.store(true, Ordering::Relaxed);
        slow.join().expect("nothing went wrong");
    })
    .await
}
