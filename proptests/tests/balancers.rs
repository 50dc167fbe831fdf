//! One suite for every way to balance: who may be picked, what share each member gets, and which keys
//! move when members come, go, or have too much to do.

use std::collections::{BTreeMap, HashSet};
use std::net::SocketAddr;

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;
use selvedge_core::balance::{
    Balancer, Kind, LoadBound, Member, MemberId, Outcome, Params, Picked, Settings, Why, hash,
};
use selvedge_core::rng::{Rng, Seed};
use selvedge_core::time::{Duration, Time};

const KINDS: [Kind; 6] = [
    Kind::PeakEwma,
    Kind::LeastRequest,
    Kind::RoundRobin,
    Kind::Random,
    Kind::RingHash,
    Kind::Maglev,
];

/// A balancer whose members have the addresses 10.0.0.0:80 and up.
struct Rig {
    balancer: Balancer,
    ids: Vec<MemberId>,
    rng: Rng,
    now: Time,
}

impl Rig {
    fn new(kind: Kind, weights: &[u32]) -> Rig {
        Rig::with(Settings { kind, ..Settings::default() }, weights)
    }

    fn with(settings: Settings, weights: &[u32]) -> Rig {
        let mut balancer = Balancer::new(Params::default());
        balancer.configure(settings);
        let rng = Rng::fork(Seed::from_number(7), 0);
        let mut rig = Rig { balancer, ids: Vec::new(), rng, now: Time::ZERO };
        for &weight in weights {
            rig.add(weight, false);
        }
        rig
    }

    fn add(&mut self, weight: u32, local: bool) {
        let name = name(self.ids.len());
        self.ids.push(self.balancer.add(&Member { weight, name, local }, self.now));
    }

    fn pick(&mut self, key: Option<u64>) -> Option<Picked> {
        self.balancer.pick_by(key, &mut self.rng, self.now, |_| true)
    }

    /// The number of the member that a key goes to.
    fn owner(&mut self, key: u64) -> usize {
        let picked = self.pick(Some(key)).expect("somebody is ready").member;
        self.number(picked)
    }

    fn number(&self, id: MemberId) -> usize {
        self.ids.iter().position(|&other| other == id).expect("a member that was not removed")
    }

    fn owners(&mut self, keys: u64) -> Vec<usize> {
        (0..keys).map(|key| self.owner(hash::endpoint_key(&key.to_le_bytes()))).collect()
    }

    /// What part of so many picks each gets, all of which are over at once.
    fn shares(&mut self, picks: u32) -> Vec<f64> {
        let mut shares = vec![0.0; self.ids.len()];
        for _ in 0..picks {
            let picked = self.pick(None).expect("somebody is ready").member;
            let number = self.number(picked);
            shares[number] += 1.0 / f64::from(picks);
        }
        shares
    }
}

fn addr(number: usize) -> SocketAddr {
    ([10, 0, (number >> 8) as u8, number as u8], 80).into()
}

fn name(number: usize) -> u64 {
    hash::member_name(addr(number), None)
}

fn weighed(weights: &[u32]) -> impl Iterator<Item = f64> {
    let total: u32 = weights.iter().sum();
    weights.iter().map(move |&weight| f64::from(weight) / f64::from(total))
}

fn hashing() -> impl Strategy<Value = Kind> {
    select(vec![Kind::RingHash, Kind::Maglev])
}

/// Something that happens. Numbers are taken modulo what there is.
#[derive(Clone, Debug)]
enum Event {
    Add { weight: u32, local: bool },
    Remove(usize),
    Weigh(usize, u32),
    Move(usize, bool),
    Ready(usize, bool),
    Kind(Kind, u64),
    Request(Option<u64>),
    End(usize),
    Wait(u64),
}

fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        2 => (0_u32..20, any::<bool>()).prop_map(|(weight, local)| Event::Add { weight, local }),
        1 => any::<usize>().prop_map(Event::Remove),
        1 => (any::<usize>(), 0_u32..20).prop_map(|(number, weight)| Event::Weigh(number, weight)),
        1 => (any::<usize>(), any::<bool>()).prop_map(|(number, local)| Event::Move(number, local)),
        4 => (any::<usize>(), any::<bool>()).prop_map(|(number, ready)| Event::Ready(number, ready)),
        1 => (select(&KINDS[..]), 0_u64..20).prop_map(|(kind, seconds)| Event::Kind(kind, seconds)),
        12 => proptest::option::of(any::<u64>()).prop_map(Event::Request),
        6 => any::<usize>().prop_map(Event::End),
        2 => (0_u64..2_000).prop_map(Event::Wait),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]

    /// Whatever happens, and whatever the kind is changed to meanwhile: somebody is picked if and only
    /// if somebody is ready, and that is somebody who is ready; loads are what was begun.
    #[test]
    fn who_is_picked_is_ready(kind in select(&KINDS[..]), events in vec(event(), 1..200)) {
        let mut rig = Rig::new(kind, &[]);
        // Number, ready, pending.
        let mut members: Vec<(MemberId, bool, u32)> = Vec::new();
        let mut requests: Vec<MemberId> = Vec::new();
        for event in events {
            let chosen = |number: usize| number % members.len().max(1);
            match event {
                Event::Add { weight, local } => {
                    rig.add(weight, local);
                    members.push((*rig.ids.last().unwrap(), true, 0));
                }
                Event::Wait(millis) => rig.now += Duration::from_millis(millis),
                Event::Kind(kind, seconds) => rig.balancer.configure(Settings {
                    kind,
                    slow_start: Duration::from_secs(seconds),
                    ..Settings::default()
                }),
                Event::Request(key) => {
                    let picked = rig.pick(key).map(|picked| picked.member);
                    let member = members.iter_mut().find(|(id, ..)| Some(*id) == picked);
                    prop_assert_eq!(picked.is_some(), member.is_some(), "a member that is gone");
                    if let Some((id, ready, pending)) = member {
                        prop_assert!(*ready, "a member that is not ready");
                        rig.balancer.begin(*id);
                        *pending += 1;
                        requests.push(*id);
                    } else {
                        prop_assert!(members.iter().all(|(_, ready, _)| !ready), "nobody");
                    }
                }
                Event::End(number) if !requests.is_empty() => {
                    let id = requests.swap_remove(number % requests.len());
                    rig.balancer.release(id);
                    for (_, _, pending) in members.iter_mut().filter(|(other, ..)| *other == id) {
                        *pending -= 1;
                    }
                }
                Event::Remove(number) if !members.is_empty() => {
                    let (id, ..) = members.swap_remove(chosen(number));
                    rig.balancer.remove(id);
                }
                Event::Ready(number, ready) if !members.is_empty() => {
                    let at = chosen(number);
                    members[at].1 = ready;
                    rig.balancer.set_ready(members[at].0, ready, rig.now);
                }
                Event::Weigh(number, weight) if !members.is_empty() => {
                    rig.balancer.set_weight(members[chosen(number)].0, weight);
                }
                Event::Move(number, local) if !members.is_empty() => {
                    rig.balancer.set_local(members[chosen(number)].0, local);
                }
                _ => {}
            }
            prop_assert_eq!(rig.balancer.len(), members.len());
            for &(id, ready, pending) in &members {
                prop_assert_eq!(rig.balancer.is_ready(id), ready);
                prop_assert_eq!(rig.balancer.pending(id), pending);
            }
        }
    }
}

/// Where a key goes, as simply as it can be said: everybody's points in order, and from the key's own
/// on the first of somebody who is ready and not full.
fn on_the_ring(key: u64, members: &[(u32, bool, u32)], bound: f64) -> Option<usize> {
    let ready = || members.iter().filter(|(_, ready, _)| *ready);
    let total: u32 = ready().map(|(weight, ..)| weight).sum();
    let pending: u32 = ready().map(|(_, _, pending)| pending).sum();
    let mut ring = BTreeMap::new();
    for (number, &(weight, ..)) in members.iter().enumerate() {
        for nth in 0..128 * u64::from(weight) {
            ring.insert(hash::point(name(number), nth), number);
        }
    }
    let fits = |&&number: &&usize| {
        let (weight, ready, has) = members[number];
        let share = f64::from(pending + 1) * f64::from(weight) / f64::from(total);
        ready && (has < 2 || f64::from(has) < bound * share)
    };
    let order: Vec<usize> = ring.range(key..).chain(&ring).map(|(_, &number)| number).collect();
    order.iter().find(fits).copied()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 60, ..ProptestConfig::default() })]

    #[test]
    fn a_ring_agrees_with_the_model(
        members in vec((1_u32..4, prop::bool::weighted(0.8), 0_u32..30), 1..9),
        keys in vec(any::<u64>(), 1..20),
        thousandths in 1_001_u32..3_000,
    ) {
        let weights: Vec<u32> = members.iter().map(|&(weight, ..)| weight).collect();
        let settings = Settings {
            kind: Kind::RingHash,
            load_bound: LoadBound::thousandths(thousandths),
            ..Settings::default()
        };
        let mut rig = Rig::with(settings, &weights);
        for (&id, &(_, ready, pending)) in rig.ids.clone().iter().zip(&members) {
            rig.balancer.set_ready(id, ready, rig.now);
            (0..pending).for_each(|_| rig.balancer.begin(id));
        }
        for key in keys {
            let picked = rig.pick(Some(key)).map(|picked| rig.number(picked.member));
            prop_assert_eq!(picked, on_the_ring(key, &members, f64::from(thousandths) / 1_000.0));
        }
    }

    /// All proxies agree, in whatever order they were told of the endpoints, and whatever they had to
    /// do with others before.
    #[test]
    fn the_order_of_members_means_nothing(
        kind in hashing(),
        weights in vec(1_u32..6, 2..12),
        seed in any::<u64>(),
    ) {
        let mut one = Rig::new(kind, &weights);
        let mut other = Rig::new(kind, &[]);
        let stranger = other.balancer.insert(3, other.now);
        let mut rng = Rng::fork(Seed::from_number(seed), 0);
        let mut left: Vec<usize> = (0..weights.len()).collect();
        let mut ids: Vec<Option<MemberId>> = vec![None; weights.len()];
        while !left.is_empty() {
            let number = left.swap_remove(rng.below(left.len() as u64) as usize);
            let member = Member { weight: weights[number], name: name(number), local: true };
            ids[number] = Some(other.balancer.add(&member, other.now));
        }
        other.balancer.remove(stranger);
        other.ids = ids.into_iter().flatten().collect();
        prop_assert_eq!(one.owners(500), other.owners(500));
    }

    /// A member that is not ready loses its keys to all others, and gets them back; nobody else's key
    /// moves. So it is when one is removed, but that Maglev moves a few more.
    #[test]
    fn only_the_keys_of_who_goes_move(
        kind in hashing(),
        weights in vec(1_u32..6, 3..12),
        gone in any::<prop::sample::Index>(),
    ) {
        let mut rig = Rig::new(kind, &weights);
        let (gone, keys) = (gone.index(weights.len()), 2_000);
        let before = rig.owners(keys);
        rig.balancer.set_ready(rig.ids[gone], false, rig.now);
        let without = rig.owners(keys);
        let kept = |after: &[usize]| {
            let kept = |(&was, is)| was == gone || was == is;
            before.iter().zip(after).filter(|&(was, &is)| kept((was, is))).count()
        };
        prop_assert!(without.iter().all(|&owner| owner != gone));
        prop_assert_eq!(kept(&without), before.len());
        let heirs: HashSet<usize> = (0..before.len())
            .filter(|&key| before[key] == gone)
            .map(|key| without[key])
            .collect();
        prop_assert!(heirs.len() >= weights.len().min(4) - 1, "{heirs:?} inherit it all");
        rig.balancer.set_ready(rig.ids[gone], true, rig.now);
        prop_assert_eq!(&rig.owners(keys), &before);
        rig.balancer.remove(rig.ids[gone]);
        rig.now += Duration::from_secs(1);
        let after = rig.owners(keys);
        let least = if kind == Kind::RingHash { before.len() } else { before.len() * 4 / 5 };
        prop_assert!(after.iter().all(|&owner| owner != gone));
        prop_assert!(kept(&after) >= least, "{} of {keys} keys stay", kept(&after));
    }

    /// Of any number of members one that is removed takes about its share of the keys along, and few of
    /// the others'. A ring moves none of those; what Maglev's table moves, as its places are taken in
    /// another order, stays a small part.
    #[test]
    fn who_is_removed_takes_about_its_share_of_keys_along(
        kind in hashing(),
        count in 2_usize..120,
        gone in any::<prop::sample::Index>(),
    ) {
        let mut rig = Rig::new(kind, &vec![1; count]);
        let (gone, keys) = (gone.index(count), 10_000);
        let before = rig.owners(keys);
        rig.balancer.remove(rig.ids[gone]);
        rig.now += Duration::from_secs(1);
        let after = rig.owners(keys);
        let own = before.iter().filter(|&&owner| owner == gone).count();
        let moved = before.iter().zip(&after).filter(|(was, is)| was != is).count();
        let others = (moved - own) as f64 / keys as f64;
        let share = 1.0 / count as f64;
        let most = if kind == Kind::Maglev { 0.01 } else { 0.0 };
        prop_assert!(others <= most, "{others} of others' keys move when one of {count} goes");
        prop_assert!(own as f64 / keys as f64 <= 1.5 * share + 0.01, "{own} of {keys} were its own");
    }

    /// However hot a key is: nobody has more than 1.25 times its share of what is under way, rounded
    /// up, and two at least.
    #[test]
    fn load_is_bounded(
        kind in select(&KINDS[..]),
        weights in vec(1_u32..6, 2..9),
        hot in any::<u64>(),
        others in 0_u64..5,
    ) {
        let mut rig = Rig::new(kind, &weights);
        let total: u32 = weights.iter().sum();
        for nth in 1..400_u64 {
            let key = if nth % 5 < others { rig.rng.next_u64() } else { hot };
            let id = rig.pick(Some(key)).unwrap().member;
            rig.balancer.begin(id);
            let (pending, weight) = (rig.balancer.pending(id), weights[rig.number(id)]);
            let share = nth as f64 * f64::from(weight) / f64::from(total);
            let most = (1.25 * share).ceil().max(2.0);
            prop_assert!(f64::from(pending) <= most, "{pending} of {nth}");
        }
    }

    /// Of any number of turns in a row everybody gets its share, but for about one.
    #[test]
    fn round_robin_is_smooth(weights in vec(1_u32..8, 1..9), turns in 1_usize..60) {
        let mut rig = Rig::new(Kind::RoundRobin, &weights);
        let total: u32 = weights.iter().sum();
        for _ in 0..20 {
            let mut counts = vec![0_u32; weights.len()];
            for _ in 0..turns {
                let picked = rig.pick(None).unwrap().member;
                counts[rig.number(picked)] += 1;
            }
            for (&count, &weight) in counts.iter().zip(&weights) {
                let part = f64::from(weight) / f64::from(total);
                let off = (f64::from(count) - turns as f64 * part).abs();
                prop_assert!(off <= 1.0 + weights.len() as f64 * part, "{counts:?} of {weights:?}");
            }
        }
    }

    /// Without keys shares are weights, whatever the kind, if nobody is busy; only the better of two
    /// prefers the heavy ones then (see `core::balance`), and has tests of its own.
    #[test]
    fn shares_are_weights(
        kind in select(vec![Kind::RoundRobin, Kind::Random, Kind::RingHash, Kind::Maglev]),
        weights in vec(1_u32..8, 1..7),
    ) {
        let shares = Rig::new(kind, &weights).shares(20_000);
        for (share, weight) in shares.iter().zip(weighed(&weights)) {
            prop_assert!((share - weight).abs() < 0.02, "{shares:?} of {weights:?}");
        }
    }

    /// Keys are shared out by weight: exactly in a Maglev table, to about a tenth on a ring.
    #[test]
    fn keys_are_shared_by_weight(kind in hashing(), weights in vec(1_u32..8, 1..7)) {
        let mut rig = Rig::new(kind, &weights);
        let keys = 20_000;
        let owners = rig.owners(keys);
        let most = if kind == Kind::Maglev { 0.02 } else { 0.09 };
        for (number, weight) in weighed(&weights).enumerate() {
            let count = owners.iter().filter(|&&owner| owner == number).count();
            let share = count as f64 / keys as f64;
            prop_assert!((share - weight).abs() < most, "{share} instead of {weight}");
        }
    }

    /// The own zone's share is 1.4 times the part of it that is ready, and at most all; the rest goes
    /// to the others by weight. Keys know no zones. The better of two prefers the heavy where nobody is
    /// busy: there all are alike.
    #[test]
    fn the_own_zone_gets_its_share(
        kind in select(vec![Kind::RoundRobin, Kind::Random, Kind::LeastRequest, Kind::PeakEwma]),
        mut own in vec((1_u32..6, any::<bool>()), 1..6),
        mut other in vec(1_u32..6, 1..6),
    ) {
        if matches!(kind, Kind::LeastRequest | Kind::PeakEwma) {
            own.iter_mut().map(|(weight, _)| weight).chain(&mut other).for_each(|one| *one = 1);
        }
        let mut rig = Rig::new(kind, &[]);
        let weights: Vec<u32> = own.iter().map(|&(weight, _)| weight).chain(other.clone()).collect();
        for (number, &weight) in weights.iter().enumerate() {
            rig.add(weight, number < own.len());
        }
        for (number, &(_, ready)) in own.iter().enumerate() {
            rig.balancer.set_ready(rig.ids[number], ready, rig.now);
        }
        let sum = |only_ready: bool| -> u32 {
            own.iter().filter(|(_, ready)| *ready || !only_ready).map(|(weight, _)| weight).sum()
        };
        let stays = (1.4 * f64::from(sum(true)) / f64::from(sum(false))).min(1.0);
        let shares = rig.shares(20_000);
        for (number, &share) in shares.iter().enumerate() {
            let (part, of) = match own.get(number) {
                Some((_, false)) => (0.0, 1),
                Some((weight, true)) => (stays * f64::from(*weight), sum(true)),
                None => ((1.0 - stays) * f64::from(weights[number]), other.iter().sum()),
            };
            let expected = part / f64::from(of);
            prop_assert!((share - expected).abs() < 0.02, "{shares:?} of {own:?} and {other:?}");
        }
    }

    /// Within each zone the better of two is picked by weight, where there is much to do: eight requests
    /// in flight for each unit of weight are enough for a share that is within a tenth or so.
    #[test]
    fn who_is_busy_in_a_zone_has_its_share_of_it(
        kind in select(vec![Kind::LeastRequest, Kind::PeakEwma]),
        own in vec(1_u32..5, 2..5),
        other in vec(1_u32..5, 2..5),
    ) {
        let mut rig = Rig::new(kind, &[]);
        let weights: Vec<u32> = own.iter().chain(&other).copied().collect();
        for (number, &weight) in weights.iter().enumerate() {
            rig.add(weight, number < own.len());
        }
        // As heavy as the rest of the own zone, and not ready: that keeps 70 % of what comes.
        rig.add(own.iter().sum(), true);
        rig.balancer.set_ready(rig.ids[weights.len()], false, rig.now);
        let rtt = Duration::from_millis(10);
        let in_flight = 40 * weights.iter().sum::<u32>() as usize;
        let mut requests: Vec<MemberId> = Vec::new();
        let (warm, counted) = (3 * in_flight, 20_000);
        let mut came = vec![0_u32; weights.len() + 1];
        for nth in 0..warm + counted {
            if requests.len() == in_flight {
                let over = rig.rng.below(in_flight as u64) as usize;
                let over = requests.swap_remove(over);
                rig.balancer.end(over, Outcome::Success(rtt), rig.now);
            }
            let id = rig.pick(None).expect("somebody is ready").member;
            rig.balancer.begin(id);
            requests.push(id);
            rig.now += Duration::from_micros(100);
            came[rig.number(id)] += u32::from(nth >= warm);
        }
        let zones = [(0, &own), (own.len(), &other)];
        let in_zone = |&(from, zone): &(usize, &Vec<u32>)| -> u32 {
            came[from..from + zone.len()].iter().sum()
        };
        let stays = f64::from(in_zone(&zones[0])) / counted as f64;
        prop_assert!((stays - 0.7).abs() < 0.02, "{stays} stay in the zone");
        for zone in &zones {
            let all = f64::from(in_zone(zone));
            for (number, part) in weighed(zone.1).enumerate() {
                let share = f64::from(came[zone.0 + number]) / all;
                let most = 0.12_f64.mul_add(part, 0.01);
                prop_assert!((share - part).abs() < most, "{share} instead of {part} of {zone:?}");
            }
        }
    }

    /// A member that is new has a tenth of its share, and then more and more; if all are new, nothing
    /// is different. (Peak EWMA draws as least request does, and what it then prefers is another
    /// matter.)
    #[test]
    fn a_new_member_starts_slowly(
        kind in select(vec![Kind::RoundRobin, Kind::Random, Kind::LeastRequest]),
        others in 1_usize..6,
        recovered in any::<bool>(),
    ) {
        let slow_start = Duration::from_secs(30);
        let mut rig = Rig::with(Settings { kind, slow_start, ..Settings::default() }, &[]);
        (0..others).for_each(|_| rig.add(1, false));
        if recovered {
            rig.add(1, false);
        }
        let cold = rig.shares(4_000);
        let fair = 1.0 / cold.len() as f64;
        prop_assert!(cold.iter().all(|share| (share - fair).abs() < 0.05), "all are new: {cold:?}");
        rig.now += Duration::from_secs(100);
        if recovered {
            rig.balancer.set_ready(rig.ids[others], false, rig.now);
            rig.balancer.set_ready(rig.ids[others], true, rig.now);
        } else {
            rig.add(1, false);
        }
        for tenths in [1_u32, 4, 7, 10] {
            let part = f64::from(tenths) / 10.0;
            let fair = part / (part + others as f64);
            let share = rig.shares(8_000)[others];
            // The better of two, all idle and alike, is the first that was drawn.
            prop_assert!((share - fair).abs() < 0.05, "{share} instead of {fair}");
            rig.now += Duration::from_secs(10);
        }
    }
}

#[test]
fn why_somebody_was_picked_is_said() {
    let mut rig = Rig::new(Kind::RingHash, &[1, 1, 1]);
    let why = |rig: &mut Rig, key| rig.pick(key).map(|picked| picked.why);
    assert_eq!(why(&mut rig, None), Some(Why::NoKey));
    assert_eq!(why(&mut rig, Some(5)), Some(Why::Key));
    let owner = rig.pick(Some(5)).unwrap().member;
    rig.balancer.begin(owner);
    rig.balancer.begin(owner);
    assert_eq!(why(&mut rig, Some(5)), Some(Why::Full));
    rig.balancer.release(owner);
    rig.balancer.release(owner);
    let other = rig.balancer.pick_by(Some(5), &mut rig.rng, rig.now, |id| id != owner).unwrap();
    assert_eq!((other.member != owner, other.why), (true, Why::Tried));
    rig.balancer.set_ready(owner, false, rig.now);
    assert_eq!(why(&mut rig, Some(5)), Some(Why::NotReady));
}

/// Computed by hand: by a program in another language, of a screen's length, from the papers.
#[test]
fn keys_go_where_they_ever_went() {
    for (kind, golden) in
        [(Kind::RingHash, "332231323232331212331323"), (Kind::Maglev, "213313131233231133313231")]
    {
        let mut rig = Rig::new(kind, &[]);
        // So that the first has the address 10.0.0.1:80.
        rig.add(1, false);
        rig.balancer.remove(rig.ids[0]);
        for weight in [1, 1, 2] {
            rig.add(weight, false);
        }
        let owner = |nth| {
            let key = hash::endpoint_key(format!("user-{nth}").as_bytes());
            char::from_digit(rig.owner(key) as u32, 10).unwrap()
        };
        assert_eq!((0..24).map(owner).collect::<String>(), golden, "{kind:?}");
    }
}

/// When nearly all of a large service are down, those that are left share all keys, and agree.
#[test]
fn a_few_of_three_thousand_are_enough() {
    for kind in [Kind::RingHash, Kind::Maglev] {
        let mut rig = Rig::new(kind, &[1; 3_000]);
        for (number, &id) in rig.ids.iter().enumerate() {
            rig.balancer.set_ready(id, number % 1_000 == 7, rig.now);
        }
        let owners = rig.owners(300);
        for number in [7, 1_007, 2_007] {
            let count = owners.iter().filter(|&&owner| owner == number).count();
            assert!((40..=170).contains(&count), "{count} of 300");
        }
        assert_eq!(owners, rig.owners(300));
    }
}
