//! An adaptive limit in front of a server with a knee, in virtual time.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};
use std::time::Duration;

use selvedge_core::policy::gradient::{Adaptive, Gradient};
use selvedge_core::rng::{Rng, Seed};
use selvedge_core::time::Time;

/// Serves so many at once; the others wait inside it.
struct Server {
    slots: usize,
    service: Duration,
    /// When each of those being served is done, and when it came.
    busy: BinaryHeap<Reverse<(Time, Time)>>,
    waiting: VecDeque<Time>,
}

impl Server {
    fn start(&mut self, came: Time, now: Time, rng: &mut Rng) {
        // A fifth more or less.
        let took = self.service.mul_f64(0.8 + 0.4 * rng.unit());
        self.busy.push(Reverse((now + took, came)));
    }

    fn take(&mut self, now: Time, rng: &mut Rng) {
        if self.busy.len() < self.slots {
            self.start(now, now, rng);
        } else {
            self.waiting.push_back(now);
        }
    }

    fn in_flight(&self) -> usize {
        self.busy.len() + self.waiting.len()
    }
}

/// What clients that never stop saw in one second: the mean of the limit, the worst latency, answers.
struct Second {
    limit: f64,
    worst: Duration,
    served: usize,
}

/// More requests come than the server can take, and the limit decides how many it gets.
fn run(
    gradient: &mut Gradient,
    server: &mut Server,
    from: Time,
    seconds: u64,
    rng: &mut Rng,
) -> Vec<Second> {
    let mut told = Vec::new();
    let mut now = from;
    for second in 1..=seconds {
        let until = from + Duration::from_secs(second);
        let (mut limits, mut worst, mut served) = (0.0, Duration::ZERO, 0);
        while now < until {
            while server.in_flight() < gradient.limit() as usize {
                server.take(now, rng);
            }
            let Some(Reverse((done, came))) = server.busy.pop() else { panic!("nothing goes on") };
            now = done;
            gradient.sample(now - came, server.in_flight() as u32 + 1, now);
            limits += f64::from(gradient.limit());
            worst = worst.max(now - came);
            served += 1;
            if let Some(came) = server.waiting.pop_front() {
                if server.busy.len() < server.slots {
                    server.start(came, now, rng);
                } else {
                    server.waiting.push_front(came);
                }
            }
        }
        told.push(Second { limit: limits / served as f64, worst, served });
    }
    told
}

#[test]
fn the_limit_finds_the_knee_and_latency_does_not_run_away() {
    let mut rng = Rng::fork(Seed::from_number(3), 1);
    for (slots, millis) in [(4, 20), (10, 50), (40, 10), (100, 100)] {
        let service = Duration::from_millis(millis);
        let mut server =
            Server { slots, service, busy: BinaryHeap::new(), waiting: VecDeque::new() };
        let mut gradient = Gradient::new(&Adaptive { min: 3, max: 2_000 }, 1, Time::ZERO);
        let told = run(&mut gradient, &mut server, Time::ZERO, 150, &mut rng);
        let capacity = slots as f64 / service.as_secs_f64();
        // Every minute a second or two go by with a small limit, to measure.
        let mut settled: Vec<&Second> = told[20..].iter().collect();
        settled.sort_by_key(|second| second.served);
        for second in &settled[12..] {
            let (limit, served) = (second.limit, second.served as f64);
            let knee = slots as f64;
            assert!(served > capacity * 0.85, "{slots} slots: {served} of {capacity}");
            assert!(
                (knee * 0.8..knee * 2.5 + 8.0).contains(&limit),
                "{slots} slots: limit {limit}"
            );
            assert!(second.worst < service * 5, "{slots} slots: {:?}", second.worst);
        }
    }
}

#[test]
fn a_server_that_becomes_slow_gets_less_and_then_more_again() {
    let mut rng = Rng::fork(Seed::from_number(4), 1);
    let service = Duration::from_millis(20);
    let mut server =
        Server { slots: 50, service, busy: BinaryHeap::new(), waiting: VecDeque::new() };
    let mut gradient = Gradient::new(&Adaptive { min: 3, max: 2_000 }, 1, Time::ZERO);
    let mut now = Time::ZERO;
    let mut phase = |server: &mut Server, seconds: u64| {
        let told = run(&mut gradient, server, now, seconds, &mut rng);
        now += Duration::from_secs(seconds);
        told.last().expect("a second").limit
    };
    let before = phase(&mut server, 30);
    server.slots = 5;
    let during = phase(&mut server, 10);
    server.slots = 50;
    let after = phase(&mut server, 15);
    assert!(during < before / 3.0, "{before}, {during}");
    assert!(after > before * 0.7, "{before}, {during}, {after}");
}

/// A quiet server: nothing is proven, and nobody is refused.
#[test]
fn a_limit_that_is_not_used_does_not_grow_and_does_not_fall() {
    let mut gradient = Gradient::new(&Adaptive { min: 10, max: 1_000 }, 1, Time::ZERO);
    let mut now = Time::ZERO;
    for _ in 0..100_000 {
        now += Duration::from_millis(10);
        gradient.sample(Duration::from_millis(5), 2, now);
        assert_eq!(gradient.limit(), 10);
    }
}

#[test]
fn it_stays_within_its_bounds_whatever_comes() {
    let mut rng = Rng::fork(Seed::from_number(5), 1);
    for workers in [1, 2, 8] {
        let mut gradient = Gradient::new(&Adaptive { min: 8, max: 80 }, workers, Time::ZERO);
        let (mut now, mut seen) = (Time::ZERO, [u32::MAX, 0]);
        for _ in 0..100_000 {
            let scales = [rng.below(32), rng.below(63)];
            let [passed, took] = scales.map(|scale| Duration::from_nanos(rng.below(1 << scale)));
            now += passed;
            gradient.sample(took, rng.below(200) as u32, now);
            let limit = gradient.limit();
            seen = [seen[0].min(limit), seen[1].max(limit)];
        }
        assert!(seen[0] >= 8 / workers && seen[1] <= 80 / workers, "{seen:?}");
    }
}
