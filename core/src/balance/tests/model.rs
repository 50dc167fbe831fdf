//! Random operations against a model that is too simple to be wrong.

use super::*;

/// One member as simply as it can be written: everything that was sampled, computed anew.
#[derive(Clone)]
struct Model {
    id: MemberId,
    weight: u32,
    ready: bool,
    pending: u32,
    ready_since: Time,
    samples: Vec<(Time, Outcome)>,
}

impl Model {
    /// Seconds.
    fn estimate(&self, now: Time) -> f64 {
        let mut estimate = 0.030;
        let mut last = self.ready_since;
        let keep = |from: Time, to: Time| libm::exp(-(to - from).as_secs_f64() / 10.0);
        for &(time, outcome) in &self.samples {
            let decayed = estimate * keep(last, time);
            let (rtt, lowers) = match outcome {
                Outcome::Success(rtt) => (rtt.as_secs_f64(), true),
                Outcome::Failure => (5.0, false),
                Outcome::Cancelled(rtt) => (rtt.as_secs_f64(), false),
                Outcome::Unsent => continue,
            };
            if rtt > decayed {
                estimate = rtt;
            } else if lowers {
                estimate = decayed + rtt * (1.0 - keep(last, time));
            } else {
                continue;
            }
            last = time;
        }
        estimate * keep(last, now)
    }

    fn load(&self, now: Time) -> f64 {
        self.estimate(now).max(1e-6) * f64::from(self.pending + 1) / f64::from(self.weight.max(1))
    }
}

struct Checked {
    balancer: Balancer,
    members: Vec<Model>,
    removed: Vec<MemberId>,
    rng: Rng,
    now: Time,
}

impl Checked {
    fn new(seed: u64) -> Self {
        Checked {
            balancer: Balancer::new(Params::default()),
            members: Vec::new(),
            removed: Vec::new(),
            rng: rng(seed),
            now: Time::ZERO,
        }
    }

    fn step(&mut self) {
        self.now += Duration::from_micros(self.rng.below(1 << self.rng.clone().below(23)));
        let roll = self.rng.below(100);
        if self.members.is_empty() || roll < 3 {
            return self.insert();
        }
        let chosen = self.rng.below(self.members.len() as u64) as usize;
        match roll {
            3..6 if self.members.len() > 3 => {
                let member = self.members.swap_remove(chosen);
                self.balancer.remove(member.id);
                self.removed.push(member.id);
            }
            6..10 => self.set_ready(chosen),
            10..13 => {
                let weight = self.rng.below(3) as u32;
                self.members[chosen].weight = weight;
                self.balancer.set_weight(self.members[chosen].id, weight);
            }
            13..35 => self.finish(chosen),
            35..37 => self.use_removed(),
            _ => self.pick(),
        }
    }

    fn insert(&mut self) {
        let weight = self.rng.below(3) as u32;
        let id = self.balancer.insert(weight, self.now);
        assert!(!self.removed.contains(&id));
        self.members.push(Model {
            id,
            weight,
            ready: true,
            pending: 0,
            ready_since: self.now,
            samples: Vec::new(),
        });
    }

    fn set_ready(&mut self, chosen: usize) {
        let ready = self.rng.below(3) > 0;
        let member = &mut self.members[chosen];
        if ready && !member.ready {
            member.samples.clear();
            member.ready_since = self.now;
        }
        member.ready = ready;
        self.balancer.set_ready(member.id, ready, self.now);
    }

    fn finish(&mut self, chosen: usize) {
        let rtt = Duration::from_micros(self.rng.below(200_000));
        let outcome = match self.rng.below(10) {
            0 => Outcome::Failure,
            1 => Outcome::Cancelled(rtt),
            2 => Outcome::Unsent,
            _ => Outcome::Success(rtt),
        };
        let (id, member) = (self.members[chosen].id, &mut self.members[chosen]);
        match self.rng.below(4) {
            0 => self.balancer.sample(id, outcome, self.now),
            1 => {
                member.pending = member.pending.saturating_sub(1);
                return self.balancer.release(id);
            }
            _ => {
                member.pending = member.pending.saturating_sub(1);
                self.balancer.end(id, outcome, self.now);
            }
        }
        member.samples.push((self.now, outcome));
    }

    fn use_removed(&mut self) {
        if let Some(&id) = self.removed.last() {
            self.balancer.end(id, Outcome::Failure, self.now);
            self.balancer.set_ready(id, true, self.now);
            self.balancer.remove(id);
        }
    }

    fn pick(&mut self) {
        let ready: Vec<&Model> = self.members.iter().filter(|member| member.ready).collect();
        let picked = self.balancer.pick(&mut self.rng, self.now);
        let Some(id) = picked else { return assert!(ready.is_empty()) };
        let winner = ready.iter().find(|member| member.id == id);
        let load = winner.expect("a ready member").load(self.now);
        // Of two distinct ones the better wins: never one that is worse than all others.
        if ready.len() > 1 {
            let beaten = ready
                .iter()
                .any(|other| other.id != id && load <= other.load(self.now) * (1.0 + 1e-9));
            assert!(beaten);
        }
        self.balancer.begin(id);
        for member in self.members.iter_mut().filter(|member| member.id == id) {
            member.pending += 1;
        }
    }

    fn check(&self) {
        let (balancer, now) = (&self.balancer, self.now);
        assert_eq!(balancer.len(), self.members.len());
        let ready = self.members.iter().filter(|member| member.ready).count();
        assert_eq!(balancer.ready_len(), ready);
        for member in &self.members {
            assert_eq!(balancer.is_ready(member.id), member.ready);
            assert_eq!(balancer.pending(member.id), member.pending);
            let (load, expected) = (balancer.load(member.id, now), member.load(now));
            assert!(close(load, expected), "{load} {expected}");
        }
    }
}

#[test]
fn random_operations_agree_with_a_naive_model() {
    for seed in 0..8 {
        let mut checked = Checked::new(seed);
        let mut most = 0;
        for _ in 0..4_000 {
            checked.step();
            checked.check();
            most = most.max(checked.members.len());
        }
        assert!(most >= 5 && !checked.removed.is_empty(), "{most}");
    }
}
