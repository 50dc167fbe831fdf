//! One client that stalls does not slow another down.

use std::time::{Duration, Instant};

use selvedge_proptests::h2::wire::Frame;

use super::flood::request;
use super::hold::stalled;
use super::{World, version};
use crate::common::{App, Need, Sent, Wire, full, have, tell};

/// Rounds, one of which has to show it: a machine that is busy with something else slows down either
/// half of a round, a proxy that lets a client wait for another one always the same.
const ROUNDS: usize = 12;

#[test]
fn a_client_that_stalls_a_hundred_streams_slows_no_other() {
    if !have(&[Need::Program("curl")]) {
        return;
    }
    for http2 in [false, true] {
        let app = App::start("app");
        let world = World::new(app.addr, http2, |mesh| mesh);
        let to = world.proxy.outbound();
        let mut other = Wire::connect(to, &[]);
        let mut next = 0;
        rate(&mut other, &mut next);
        let mut best = 0.0_f64;
        for _ in 0..ROUNDS {
            let alone = rate(&mut other, &mut next);
            let stalls = stalled(to, 100);
            let beside = rate(&mut other, &mut next);
            drop(stalls);
            best = best.max(beside / alone);
            if best >= 0.9 {
                break;
            }
        }
        let (percent, speaks) = (100.0 * best, version(http2));
        tell(&format!(
            "client A stalls 100 streams of 1 MB (endpoint speaks {speaks}): client B keeps \
             {percent:.0} % of its rate; the app was connected to {} times",
            app.connections()
        ));
        assert!(best >= 0.9, "{speaks}: {percent:.0} %");
        assert_eq!(other.complaints, []);
    }
}

/// Requests a second, sixteen at a time.
fn rate(wire: &mut Wire, next: &mut u32) -> f64 {
    let time = Duration::from_millis(if full() { 1000 } else { 250 });
    let (start, mut count) = (Instant::now(), 0);
    while start.elapsed() < time {
        let ids = (*next..*next + 16).map(|n| 2 * n + 1);
        let asks: Vec<Frame> = ids.map(|id| request(id, "/bytes/5000")).collect();
        assert_eq!(wire.send(&asks), Sent::All);
        assert_eq!(wire.answers(16), 80_000);
        (*next, count) = (*next + 16, count + 16);
    }
    f64::from(count) / start.elapsed().as_secs_f64()
}
