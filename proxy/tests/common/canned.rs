//! A server that answers with bytes, right or wrong.

use std::io::{Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

/// How long the server waits for a peer: only a hang takes longer.
const LIMIT: Duration = Duration::from_secs(20);

/// A server that reads a request head on each connection, answers with what it was told, and
/// closes.
pub(crate) struct Canned {
    pub(crate) addr: SocketAddr,
    requests: Arc<AtomicUsize>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Canned {
    /// `answer` makes the bytes from the request head.
    pub(crate) fn start(answer: impl Fn(&str) -> Vec<u8> + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("cannot listen");
        let addr = listener.local_addr().expect("no address");
        let requests = Arc::new(AtomicUsize::new(0));
        let stop = Arc::new(AtomicBool::new(false));
        let (counter, stopped) = (Arc::clone(&requests), Arc::clone(&stop));
        let answer = Arc::new(answer);
        let thread = std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                if stopped.load(Ordering::Acquire) {
                    return;
                }
                let (answer, counter) = (Arc::clone(&answer), Arc::clone(&counter));
                std::thread::spawn(move || converse(stream, answer.as_ref(), &counter));
            }
        });
        Canned { addr, requests, stop, thread: Some(thread) }
    }

    /// Complete request heads that arrived.
    pub(crate) fn requests(&self) -> usize {
        self.requests.load(Ordering::Acquire)
    }
}

impl Drop for Canned {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Release);
        // Wakes the listener.
        let _ = TcpStream::connect(self.addr);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn converse(mut stream: TcpStream, answer: impl Fn(&str) -> Vec<u8>, requests: &AtomicUsize) {
    let _ = stream.set_read_timeout(Some(LIMIT));
    let _ = stream.set_write_timeout(Some(LIMIT));
    let mut head = Vec::new();
    let mut buffer = [0; 4096];
    while !head.windows(4).any(|window| window == b"\r\n\r\n") {
        match stream.read(&mut buffer) {
            Ok(0) | Err(_) => return,
            Ok(n) => head.extend_from_slice(&buffer[..n]),
        }
    }
    requests.fetch_add(1, Ordering::AcqRel);
    let bytes = answer(&String::from_utf8_lossy(&head));
    if stream.write_all(&bytes).is_err() || stream.shutdown(Shutdown::Write).is_err() {
        return;
    }
    // Until the peer closes: closing first could reset what it has not read yet.
    while stream.read(&mut buffer).is_ok_and(|n| n > 0) {}
}
