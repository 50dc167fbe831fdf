//! The balancer against a reference model, by its public interface: what is pending, what is
//! expected of each member, who may be picked; and what share each member gets.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use proptest::collection::vec;
use proptest::prelude::*;
use selvedge_core::balance::{Balancer, MemberId, Outcome, Params};
use selvedge_core::rng::{Rng, Seed};
use selvedge_core::time::{Duration, Time};

/// Something that happens to a balancer. Indices are taken modulo what there is.
#[derive(Clone, Debug)]
enum Event {
    Insert { weight: u32 },
    Remove { member: usize },
    Weigh { member: usize, weight: u32 },
    Ready { member: usize, ready: bool },
    Request,
    End { request: usize, outcome: Outcome },
    Sample { request: usize, outcome: Outcome },
    Wait { micros: u64 },
}

fn outcome() -> impl Strategy<Value = Outcome> {
    let took = || (0_u64..8_000_000).prop_map(Duration::from_micros);
    prop_oneof![
        6 => took().prop_map(Outcome::Success),
        1 => Just(Outcome::Failure),
        1 => took().prop_map(Outcome::Cancelled),
        1 => Just(Outcome::Unsent),
    ]
}

fn event() -> impl Strategy<Value = Event> {
    let index = any::<usize>;
    let weight = || 0_u32..5;
    prop_oneof![
        2 => weight().prop_map(|weight| Event::Insert { weight }),
        1 => index().prop_map(|member| Event::Remove { member }),
        1 => (index(), weight()).prop_map(|(member, weight)| Event::Weigh { member, weight }),
        2 => (index(), any::<bool>()).prop_map(|(member, ready)| Event::Ready { member, ready }),
        12 => Just(Event::Request),
        8 => (index(), outcome()).prop_map(|(request, outcome)| Event::End { request, outcome }),
        2 => (index(), outcome()).prop_map(|(request, outcome)| Event::Sample { request, outcome }),
        8 => (0_u64..3_000_000).prop_map(|micros| Event::Wait { micros }),
    ]
}

/// A member as it can be computed by hand.
#[derive(Debug)]
struct Member {
    id: MemberId,
    weight: f64,
    ready: bool,
    pending: u32,
    /// Seconds, at `since`.
    estimate: f64,
    since: Time,
}

const DEFAULT_RTT: f64 = 0.030;
const PENALTY: f64 = 5.0;
const DECAY: f64 = 10.0;

impl Member {
    fn estimate(&self, now: Time) -> f64 {
        self.estimate * (-(now - self.since).as_secs_f64() / DECAY).exp()
    }

    fn load(&self, now: Time) -> f64 {
        self.estimate(now).max(1e-6) * (f64::from(self.pending) + 1.0) / self.weight
    }

    fn sample(&mut self, outcome: Outcome, now: Time) {
        let current = self.estimate(now);
        let kept = (-(now - self.since).as_secs_f64() / DECAY).exp();
        let peak = |value: f64| (value > current).then_some(value);
        let next = match outcome {
            Outcome::Success(took) => {
                let took = took.as_secs_f64();
                peak(took).or(Some(current + took * (1.0 - kept)))
            }
            Outcome::Failure => peak(PENALTY),
            Outcome::Cancelled(took) => peak(took.as_secs_f64()),
            Outcome::Unsent => None,
        };
        if let Some(next) = next {
            (self.estimate, self.since) = (next, now);
        }
    }
}

fn close(a: f64, b: f64) -> bool {
    (a - b).abs() <= 1e-9 * a.abs().max(b.abs())
}

struct World {
    balancer: Balancer,
    rng: Rng,
    now: Time,
    members: Vec<Member>,
    removed: Vec<MemberId>,
    /// Requests that are not over, on members that may be removed.
    requests: Vec<MemberId>,
}

impl World {
    fn new(seed: u64) -> Self {
        World {
            balancer: Balancer::new(Params::default()),
            rng: Rng::fork(Seed::from_number(seed), 0),
            now: Time::ZERO,
            members: Vec::new(),
            removed: Vec::new(),
            requests: Vec::new(),
        }
    }

    fn member(&mut self, id: MemberId) -> Option<&mut Member> {
        self.members.iter_mut().find(|member| member.id == id)
    }

    fn happen(&mut self, event: &Event) {
        let chosen = |index: usize, len: usize| index.checked_rem(len);
        match *event {
            Event::Insert { weight } => self.insert(weight),
            Event::Remove { member } => {
                if let Some(at) = chosen(member, self.members.len()) {
                    let id = self.members.swap_remove(at).id;
                    self.balancer.remove(id);
                    self.removed.push(id);
                }
            }
            Event::Weigh { member, weight } => {
                if let Some(at) = chosen(member, self.members.len()) {
                    self.members[at].weight = f64::from(weight.max(1));
                    self.balancer.set_weight(self.members[at].id, weight);
                }
            }
            Event::Ready { member, ready } => {
                if let Some(at) = chosen(member, self.members.len()) {
                    let (now, member) = (self.now, &mut self.members[at]);
                    if ready && !member.ready {
                        (member.estimate, member.since) = (DEFAULT_RTT, now);
                    }
                    member.ready = ready;
                    self.balancer.set_ready(member.id, ready, now);
                }
            }
            Event::Request => self.request(),
            Event::End { request, outcome } => {
                if let Some(at) = chosen(request, self.requests.len()) {
                    let (id, now) = (self.requests.swap_remove(at), self.now);
                    self.balancer.end(id, outcome, now);
                    if let Some(member) = self.member(id) {
                        member.sample(outcome, now);
                        member.pending -= 1;
                    }
                }
            }
            Event::Sample { request, outcome } => {
                if let Some(at) = chosen(request, self.requests.len()) {
                    let (id, now) = (self.requests[at], self.now);
                    self.balancer.sample(id, outcome, now);
                    if let Some(member) = self.member(id) {
                        member.sample(outcome, now);
                    }
                }
            }
            Event::Wait { micros } => self.now += Duration::from_micros(micros),
        }
    }

    fn insert(&mut self, weight: u32) {
        let id = self.balancer.insert(weight, self.now);
        assert!(!self.removed.contains(&id), "the id of a removed member is given out again");
        self.members.push(Member {
            id,
            weight: f64::from(weight.max(1)),
            ready: true,
            pending: 0,
            estimate: DEFAULT_RTT,
            since: self.now,
        });
    }

    fn request(&mut self) {
        let now = self.now;
        let picked = self.balancer.pick(&mut self.rng, now);
        let ready: Vec<&Member> = self.members.iter().filter(|member| member.ready).collect();
        let Some(id) = picked else { return assert!(ready.is_empty(), "nobody is picked") };
        assert!(!self.removed.contains(&id), "a removed member is picked");
        let winner = ready.iter().find(|member| member.id == id).expect("a ready member");
        let beaten =
            |other: &&Member| other.id != id && winner.load(now) <= other.load(now) * (1.0 + 1e-9);
        assert!(
            ready.len() < 2 || ready.iter().copied().any(|other| beaten(&other)),
            "the worst wins"
        );
        self.balancer.begin(id);
        self.requests.push(id);
        if let Some(member) = self.member(id) {
            member.pending += 1;
        }
    }

    fn check(&self) {
        assert_eq!(self.balancer.len(), self.members.len());
        let ready = self.members.iter().filter(|member| member.ready).count();
        assert_eq!(self.balancer.ready_len(), ready);
        for member in &self.members {
            assert_eq!(self.balancer.is_ready(member.id), member.ready);
            assert_eq!(self.balancer.pending(member.id), member.pending, "in flight");
            let (load, expected) = (self.balancer.load(member.id, self.now), member.load(self.now));
            assert!(close(load, expected), "load {load}, by hand {expected}");
        }
        for &id in &self.removed {
            assert!(!self.balancer.is_ready(id) && self.balancer.pending(id) == 0);
        }
    }
}

/// A closed loop until a time: so many requests are always under way; each takes what `takes` says of
/// its member and the time it begins at. Returns how many each member got after `from`.
fn closed_loop(
    weights: &[u32],
    under_way: usize,
    [from, until]: [Time; 2],
    mut takes: impl FnMut(usize, Time) -> Duration,
) -> Vec<f64> {
    let mut rng = Rng::fork(Seed::from_number(11), 0);
    let mut balancer = Balancer::new(Params::default());
    let ids: Vec<_> = weights.iter().map(|&weight| balancer.insert(weight, Time::ZERO)).collect();
    let mut flights: BinaryHeap<Reverse<(Time, usize, usize, Time)>> = BinaryHeap::new();
    let (mut now, mut counts) = (Time::ZERO, vec![0.0; ids.len()]);
    for number in 0.. {
        if flights.len() < under_way {
            // They do not all begin at once.
            now += Duration::from_micros(rng.below(10_000 / under_way as u64 + 1));
        } else if let Some(Reverse((end, _, member, begin))) = flights.pop() {
            now = now.max(end);
            balancer.end(ids[member], Outcome::Success(end - begin), end);
        }
        if now > until {
            break;
        }
        let id = balancer.pick(&mut rng, now).expect("all are ready");
        balancer.begin(id);
        let member = ids.iter().position(|&other| other == id).expect("a member");
        counts[member] += f64::from(u8::from(now > from));
        flights.push(Reverse((now + takes(member, now), number, member, now)));
    }
    counts
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]

    #[test]
    fn whatever_happens_it_agrees_with_the_model(
        seed in any::<u64>(),
        events in vec(event(), 1..300),
    ) {
        let mut world = World::new(seed);
        for event in &events {
            world.happen(event);
            world.check();
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    /// At the equilibrium `(pending + 1) / weight` is the same everywhere, so that a member has
    /// `c × weight - 1` in flight: the light ones of a heavy mesh are a request short. At 8 requests
    /// per unit of weight that is at most an eighth, and drawing by weight makes it less.
    #[test]
    fn with_equal_latency_shares_are_the_weights(
        weights in vec(1_u32..=10, 2..8),
        per_unit in 8_usize..=24,
        micros in 10_000_u64..200_000,
    ) {
        let total: u32 = weights.iter().sum();
        let from = Time::ZERO + Duration::from_micros(micros * 10);
        // 4,000 requests for each unit of weight: luck does not count.
        let until = from + Duration::from_micros(micros * 4_000 / per_unit as u64);
        let mut rng = Rng::fork(Seed::from_number(micros), 1);
        let takes = |_, _| Duration::from_micros(micros + rng.below(micros / 100));
        let counts = closed_loop(&weights, per_unit * total as usize, [from, until], takes);
        let sum: f64 = counts.iter().sum();
        prop_assert!(sum > 3_500.0 * f64::from(total), "{sum} requests");
        for (count, &weight) in counts.iter().zip(&weights) {
            let share = count / sum * f64::from(total) / f64::from(weight);
            prop_assert!((0.9..=1.1).contains(&share), "{share} of its weight {weight} of {weights:?}");
        }
    }

    /// A member that was slow for five seconds and is fast again gets its share again, when what
    /// the slow answers were worth has decayed to what a fast one is.
    #[test]
    fn a_member_that_is_fast_again_comes_back(
        others in 1_usize..5,
        fast in 20_u64..100,
        times in 5_u64..100,
        per_member in 2_usize..6,
    ) {
        let members = others + 1;
        let slow_until = Time::ZERO + Duration::from_secs(5);
        let last_slow = slow_until + Duration::from_millis(fast * times);
        let from = last_slow + Duration::from_secs_f64((times as f64).ln() * DECAY + 10.0);
        let until = from + Duration::from_secs(10);
        let mut rng = Rng::fork(Seed::from_number(fast), 1);
        let (mut slowed, mut meanwhile) = (0.0, 0.0);
        let takes = |member, now| {
            let is_slow = member == 0 && now < slow_until;
            slowed += f64::from(u8::from(is_slow));
            meanwhile += f64::from(u8::from(now < slow_until));
            let takes = if is_slow { fast * times } else { fast };
            Duration::from_micros(takes * 1_000 + rng.below(100))
        };
        let counts = closed_loop(&vec![1; members], per_member * members, [from, until], takes);
        let share = counts[0] / counts.iter().sum::<f64>() * members as f64;
        prop_assert!((0.8..=1.2).contains(&share), "{share} of its share");
        let share = slowed / meanwhile * members as f64;
        prop_assert!(share < 0.7, "while it was slow it got {share} of its share");
    }
}
