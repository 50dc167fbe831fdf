//! Canaries: one request after another on a connection of their own.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::World;
use crate::common::{PATIENCE, hurry, this_thread};

/// Asks `canary.test` until it is dropped.
pub(super) struct Watch {
    took: Arc<Mutex<Vec<Duration>>>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

/// What 99 % of some requests took at most.
pub(super) fn p99(mut took: Vec<Duration>) -> Duration {
    took.sort();
    took[took.len() * 99 / 100]
}

impl Watch {
    /// `hurries`: nothing that is usual keeps it waiting for a CPU.
    pub(super) fn start(world: &World, hurries: bool) -> Self {
        let took = Arc::<Mutex<Vec<Duration>>>::default();
        let stop = Arc::<AtomicBool>::default();
        let (shared, stopped) = (Arc::clone(&took), Arc::clone(&stop));
        let to = world.proxy.outbound();
        let thread = std::thread::spawn(move || {
            if hurries {
                hurry(&this_thread());
            }
            let mut stream = TcpStream::connect(to).expect("cannot connect");
            stream.set_nodelay(true).expect("cannot set an option");
            stream.set_read_timeout(Some(PATIENCE)).expect("cannot set an option");
            while !stopped.load(Ordering::Acquire) {
                let start = Instant::now();
                ask(&mut stream);
                shared.lock().expect("a lock").push(start.elapsed());
                std::thread::sleep(Duration::from_micros(500));
            }
        });
        Watch { took, stop, thread: Some(thread) }
    }

    /// Forgets what was measured so far.
    pub(super) fn begin(&self) {
        self.took.lock().expect("a lock").clear();
    }

    /// What each request since then took, once there are that many.
    pub(super) fn took(&self, least: usize) -> Vec<Duration> {
        let start = Instant::now();
        loop {
            let took = self.took.lock().expect("a lock").clone();
            if took.len() >= least {
                return took;
            }
            assert!(start.elapsed() < PATIENCE, "canaries do not come back");
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

fn ask(stream: &mut TcpStream) {
    let request = b"GET /name HTTP/1.1\r\nHost: canary.test\r\n\r\n";
    stream.write_all(request).expect("a canary is sent");
    let (mut answer, mut buffer) = (Vec::new(), [0; 1024]);
    while !answer.ends_with(b"canary") {
        let n = stream.read(&mut buffer).expect("a canary comes back");
        assert!(n > 0, "a canary's connection was closed");
        answer.extend_from_slice(&buffer[..n]);
    }
    assert!(answer.starts_with(b"HTTP/1.1 200 "), "{}", answer.escape_ascii());
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Release);
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            assert!(std::thread::panicking(), "the canaries failed");
        }
    }
}
