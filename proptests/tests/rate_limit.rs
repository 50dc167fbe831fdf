//! Rate limits, against one that remembers every request.

use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use selvedge_core::policy::rate::{Client, Limiter, RateLimit};
use selvedge_core::rng::{KeyedState, Rng, Seed};
use selvedge_core::time::Time;

/// When each request was let through.
struct Memory {
    passed: Vec<Time>,
    /// Requests a second that a worker lets through …
    rate: f64,
    /// … and how many of them at once.
    burst: f64,
}

impl Memory {
    fn new(rps: u32, workers: u32) -> Self {
        let rate = f64::from(rps) / f64::from(workers);
        Memory { passed: Vec::new(), rate, burst: rate.max(1.0) }
    }

    /// In any window at most the burst and what the rate allows in its time.
    fn check(&self) {
        for (index, &from) in self.passed.iter().enumerate() {
            for (more, &to) in self.passed[index..].iter().enumerate() {
                let most = self.burst + self.rate * (to - from).as_secs_f64();
                let passed = more + 1;
                assert!(passed as f64 <= most + 1e-6, "{passed} from {from:?} to {to:?}: {most}");
            }
        }
    }

    /// Would one more now keep within it in every window?
    fn fits(&self, now: Time) -> bool {
        self.passed.iter().enumerate().all(|(index, &from)| {
            let more = self.passed.len() - index + 1;
            more as f64 <= self.burst + self.rate * (now - from).as_secs_f64()
        })
    }
}

fn pick<T: Copy>(rng: &mut Rng, of: &[T]) -> T {
    of[rng.below(of.len() as u64) as usize]
}

fn client(number: u64) -> Client<'static> {
    Client { identity: None, addr: IpAddr::V4(Ipv4Addr::from_bits(number as u32)) }
}

/// Clients send at any times, many at once: no limit lets more through than it may, and none refuses
/// what would still fit.
#[test]
fn no_window_holds_more_than_burst_and_rate_and_what_fits_is_let_through() {
    let mut rng = Rng::fork(Seed::from_number(5), 1);
    let mut counts = [0; 2];
    for _ in 0..300 {
        let workers = pick(&mut rng, &[1, 1, 2, 5]);
        let total = pick(&mut rng, &[None, Some(1), Some(7), Some(40)]);
        let own = pick(&mut rng, &[1, 3, 10, 999]);
        let limit = RateLimit { total, per_client: Some(own), ..RateLimit::default() };
        let mut limiter = Limiter::new(&limit, workers, KeyedState::new(&mut rng));
        let mut all = total.map(|rps| Memory::new(rps, workers));
        let mut clients: Vec<Memory> = (0..4).map(|_| Memory::new(own, workers)).collect();
        let mut now = Time::from_nanos(rng.below(1 << 40));
        for _ in 0..200 {
            now += Duration::from_micros(pick(&mut rng, &[0, 0, 1, 1_000, 90_000, 400_000]));
            let number = rng.below(4);
            let memory = &mut clients[number as usize];
            let fits = memory.fits(now) && all.as_ref().is_none_or(|all| all.fits(now));
            let passes = limiter.admit(client(number), now).is_ok();
            assert!(passes || !fits, "refused although it fits: {limit:?}, {workers}, {now:?}");
            counts[usize::from(passes)] += 1;
            if passes {
                memory.passed.push(now);
                if let Some(all) = &mut all {
                    all.passed.push(now);
                }
            }
        }
        clients.iter().chain(&all).for_each(Memory::check);
    }
    assert!(counts.iter().all(|&count| count > 5_000), "{counts:?}");
}

/// The wait that a client is told is right: a moment before it is refused, and then let through.
#[test]
fn who_waits_as_long_as_it_is_told_is_let_through() {
    let mut rng = Rng::fork(Seed::from_number(6), 1);
    for rps in [1, 3, 7, 1000] {
        let limit = RateLimit { per_client: Some(rps), ..RateLimit::default() };
        let mut limiter = Limiter::new(&limit, 1, KeyedState::new(&mut rng));
        let mut now = Time::ZERO;
        for _ in 0..3 * rps {
            if let Err(refused) = limiter.admit(client(1), now) {
                let sooner = refused.wait.saturating_sub(Duration::from_nanos(1));
                assert!(limiter.admit(client(1), now + sooner).is_err());
                now += refused.wait;
                limiter.admit(client(1), now).expect("it waited");
            }
        }
    }
}

/// Somebody with any number of addresses beside honest clients within their rate: these are never
/// refused, and the memory stays what it is.
#[test]
fn any_number_of_addresses_takes_nothing_from_clients_within_their_rate() {
    let mut rng = Rng::fork(Seed::from_number(7), 1);
    let limit = RateLimit { per_client: Some(10), ..RateLimit::default() };
    let mut limiter = Limiter::new(&limit, 1, KeyedState::new(&mut rng));
    let (mut now, mut fresh) = (Time::ZERO, 1_000_000);
    for round in 0..60 {
        for honest in 0..20 {
            limiter.admit(client(honest), now).unwrap_or_else(|e| panic!("{round}: {e:?}"));
        }
        for _ in 0..5_000 {
            fresh += 1;
            let _ = limiter.admit(client(fresh), now);
        }
        assert!(limiter.heap_bytes() < 1024 * 1024, "{}", limiter.heap_bytes());
        now += Duration::from_millis(100);
    }
}
