//! Which endpoint gets the next request.
//!
//! A [`Balancer`] knows the members of a service, who of them is ready, and what is pending on each.
//! How it chooses among those that are ready is its [`Kind`], and can be changed at any time:
//!
//! | Kind | Who is chosen | Cost |
//! |---|---|---|
//! | [`PeakEwma`](Kind::PeakEwma) | of two drawn by weight the one with the lower load, by latency | O(log n) |
//! | [`LeastRequest`](Kind::LeastRequest) | of two drawn by weight the one with less pending | O(log n) |
//! | [`RoundRobin`](Kind::RoundRobin) | one after the other, by weight | O(log n) |
//! | [`Random`](Kind::Random) | drawn by weight | O(log n) |
//! | [`RingHash`](Kind::RingHash) | whose key it is, on a ring; without a key, at random | O(log n) |
//! | [`Maglev`](Kind::Maglev) | whose key it is, in a table; without a key, at random | O(1) |
//!
//! A request with a key goes by it under any kind, on a ring unless the kind is Maglev: that is session
//! affinity. Nothing is allocated for a pick; the first one after a change of who there is, or who is
//! ready, costs O(n), and a table is built again at most five times a second.
//!
//! # Peak EWMA
//!
//! Every member has an estimate of its round trip and a count of what is pending on it. Its load is
//!
//! ```text
//! estimate × (pending + 1) / weight
//! ```
//!
//! [`Balancer::pick`] draws two distinct ready members by weight and takes the one with the lower
//! load. That is nearly as good as looking at all of them, costs the same with 3 as with 3,000, and
//! does not send everybody to the same favourite at once (Mitzenmacher, "The Power of Two Choices in
//! Randomized Load Balancing").
//!
//! Weight counts in the draw and in the load. With equal latency the loads are equal when a member
//! has `c × weight - 1` requests pending: with 8 or more in flight per unit of weight every share is
//! within 10 % of its weight (weight 1 among many of weight 10 gets 9 % less). With fewer the heavy
//! ones get more than their share: of two idle members with weights 1 and 2 the heavy one gets nearly
//! everything, because its load is half that of the other.
//!
//! ```
//! use core::time::Duration;
//! use selvedge_core::balance::{Balancer, Outcome, Params};
//! use selvedge_core::rng::{Rng, Seed};
//! use selvedge_core::time::Time;
//!
//! let mut rng = Rng::fork(Seed::from_number(1), 0);
//! let mut balancer = Balancer::new(Params::default());
//! let (one, two) = (balancer.insert(1, Time::ZERO), balancer.insert(1, Time::ZERO));
//! balancer.begin(one);
//! let now = Time::ZERO + Duration::from_millis(400);
//! balancer.end(one, Outcome::Success(now - Time::ZERO), now);
//! assert_eq!(balancer.pick(&mut rng, now), Some(two));
//! ```

mod choose;
mod ewma;
pub mod hash;
mod members;
mod round_robin;
mod table;
#[cfg(test)]
mod tests;

use alloc::boxed::Box;

use crate::rng::Rng;
use crate::time::{Duration, Time};
use choose::{Ask, Choose, LeastRequest, PeakEwma, Random};
use ewma::{Decay, Ewma};
use members::Members;
use round_robin::RoundRobin;
use table::{Layout, Table};

/// What a balancer is told once. The defaults are those of linkerd2-proxy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Params {
    /// The estimate of a member that nothing is known of. Not below [`Params::floor`].
    pub default_rtt: Duration,
    /// Time in which an estimate decays to 1/e without samples. Zero counts as a nanosecond.
    pub decay: Duration,
    /// The round trip that a failure counts as.
    pub penalty: Duration,
    /// The least default round trip.
    pub floor: Duration,
}

impl Default for Params {
    fn default() -> Self {
        Params {
            default_rtt: Duration::from_millis(30),
            decay: Duration::from_secs(10),
            penalty: Duration::from_secs(5),
            floor: Duration::from_millis(1),
        }
    }
}

/// Names a member of one balancer. It carries a generation: the id of a removed member stays
/// invalid when its slot is in use again, and every method takes it for nothing.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct MemberId {
    index: u32,
    generation: u32,
}

impl MemberId {
    /// A small number, unique among the members there are: an index for a table beside the
    /// balancer.
    pub const fn index(self) -> usize {
        self.index as usize
    }
}

/// How a request on a member ended, as far as its load is concerned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// A response that counts, and its round trip.
    Success(Duration),
    /// A timeout or a failure response: counts as a round trip of [`Params::penalty`], and never
    /// lowers the estimate, however long it was. A failure is not a fast answer.
    Failure,
    /// Ended by the client after this time: the answer would have taken at least as long, so it can
    /// raise the estimate, but not lower it.
    Cancelled(Duration),
    /// Never reached the endpoint: says nothing about it.
    Unsent,
}

/// Somebody who can get requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Member {
    /// Its share, relative to the others; 0 counts as 1.
    pub weight: u32,
    /// Who it is to all proxies ([`hash::member_name`]): keys go by it.
    pub name: u64,
    /// It is in the zone of the proxy.
    pub local: bool,
}

/// How to choose. The table in the [module's documentation](self) says what each does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[expect(missing_docs, reason = "said there")]
pub enum Kind {
    #[default]
    PeakEwma,
    LeastRequest,
    RoundRobin,
    Random,
    RingHash,
    Maglev,
}

impl Kind {
    /// Does it go by keys?
    pub const fn is_hash(self) -> bool {
        matches!(self, Kind::RingHash | Kind::Maglev)
    }
}

/// How a balancer balances. Can be changed: the members stay, with what is pending on them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Settings {
    /// How to choose.
    pub kind: Kind,
    /// What is too much for the owner of a key.
    pub load_bound: LoadBound,
    /// How long the effective weight of a member that is new, or ready again, grows from a tenth to
    /// the whole. Draws and turns go by it; keys do not, so that they stay where they are. If all are
    /// new nothing changes: weights are relative. Zero: at once.
    pub slow_start: Duration,
}

/// How much more than its share a member may have pending before its keys go to the next.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct LoadBound {
    thousandths: u32,
}

impl LoadBound {
    /// Keys stay whatever the load.
    pub const NONE: LoadBound = LoadBound { thousandths: 0 };

    /// So many thousandths of its share, at least 1,000. (Mirrokni et al., "Consistent Hashing with
    /// Bounded Loads", 2016.)
    pub const fn thousandths(thousandths: u32) -> Self {
        LoadBound { thousandths: if thousandths < 1_000 { 1_000 } else { thousandths } }
    }

    /// Has somebody of this weight too much pending to get one more? `all` is pending on those who
    /// weigh `total` together. There is always somebody who has not.
    ///
    /// Nobody is full with one: while less is pending than there are members a share says nothing, and
    /// a key would move whenever its endpoint is asked twice at once.
    pub const fn is_full(self, pending: u32, weight: u64, all: u64, total: u64) -> bool {
        if pending < 2 {
            return false;
        }
        let (pending, weight) = (pending as u128, weight as u128);
        let share = self.thousandths as u128 * (all as u128 + 1) * weight;
        self.thousandths != 0 && pending * total as u128 * 1_000 >= share
    }
}

impl Default for LoadBound {
    /// A quarter more.
    fn default() -> Self {
        LoadBound::thousandths(1_250)
    }
}

/// Who was picked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Picked {
    /// It.
    pub member: MemberId,
    /// How that came.
    pub why: Why,
}

/// Why a member was picked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Why {
    /// That is how its kind balances.
    Balanced,
    /// The same, and it was another zone's turn, or the proxy's own one has nobody.
    OtherZone,
    /// Keys are what its kind goes by, and there was none.
    NoKey,
    /// The key is its own.
    Key,
    /// The owner of the key is not ready.
    NotReady,
    /// … or has too much pending.
    Full,
    /// … or was not wanted.
    Tried,
}

impl Why {
    /// The first reason why a key does not go to its owner.
    fn or(self, other: Why) -> Why {
        if self == Why::Key { other } else { self }
    }
}

/// The members of one service and their loads.
#[derive(Clone, Debug)]
pub struct Balancer {
    params: Params,
    settings: Settings,
    members: Members,
    load: PeakEwma,
    round_robin: RoundRobin,
    /// For requests with a key: built when the first of them comes.
    table: Option<Box<Table>>,
}

impl Balancer {
    /// A balancer without members.
    pub fn new(params: Params) -> Self {
        Balancer {
            params,
            settings: Settings::default(),
            members: Members::new(),
            load: PeakEwma { decay: Decay::new(params.decay) },
            round_robin: RoundRobin::default(),
            table: None,
        }
    }

    /// How it balances from now on.
    pub fn configure(&mut self, settings: Settings) {
        if settings.slow_start != self.settings.slow_start {
            self.members.set_slow_start(settings.slow_start);
        }
        if settings.kind != self.settings.kind {
            self.round_robin = RoundRobin::default();
        }
        self.settings = settings;
        let layout = self.layout();
        match &mut self.table {
            Some(table) if table.layout() == layout => table.set_bound(settings.load_bound),
            table => *table = None,
        }
    }

    /// How it balances.
    pub fn settings(&self) -> Settings {
        self.settings
    }

    /// How many members there are.
    pub fn len(&self) -> usize {
        self.members.len()
    }

    /// Whether there is no member.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// How many members are ready.
    pub fn ready_len(&self) -> usize {
        self.members.ready_len()
    }

    /// Whether this member can be picked.
    pub fn is_ready(&self, id: MemberId) -> bool {
        self.members.is_ready(id)
    }

    /// What was begun on this member and not ended or released.
    pub fn pending(&self, id: MemberId) -> u32 {
        self.members.slot(id).map_or(0, |slot| slot.pending)
    }

    /// `estimate × (pending + 1) / weight`, in seconds: finite and above zero. Infinite for a
    /// member that was removed.
    pub fn load(&self, id: MemberId, now: Time) -> f64 {
        self.members.slot(id).map_or(f64::INFINITY, |slot| self.load.load(slot, now))
    }

    /// The round trip that is expected of this member. Without samples it decays towards zero.
    /// [`Duration::MAX`] for a member that was removed.
    pub fn estimate(&self, id: MemberId, now: Time) -> Duration {
        self.members.slot(id).map_or(Duration::MAX, |slot| {
            let estimate = slot.estimate.get(now, self.load.decay);
            Duration::try_from_secs_f64(estimate).unwrap_or(Duration::MAX)
        })
    }

    /// A new member of no name and zone; see [`add`](Self::add).
    pub fn insert(&mut self, weight: u32, now: Time) -> MemberId {
        self.add(&Member { weight, name: 0, local: false }, now)
    }

    /// A new member, ready at once, expected to answer within the default round trip. Its share of
    /// the draws is `weight` over the sum of the weights of all ready members.
    pub fn add(&mut self, member: &Member, now: Time) -> MemberId {
        self.members.insert(member, self.initial_estimate(now), now)
    }

    /// Takes a member out. What is pending on it is forgotten: nothing has to be ended.
    pub fn remove(&mut self, id: MemberId) {
        self.members.remove(id);
    }

    /// Another weight from now on; 0 counts as 1.
    pub fn set_weight(&mut self, id: MemberId, weight: u32) {
        self.members.set_weight(id, weight);
    }

    /// Whether this member is in the zone of the proxy. The share of that zone is 1.4 times the part
    /// of its weight that is ready, and at most all; keys go to any zone.
    pub fn set_local(&mut self, id: MemberId, local: bool) {
        self.members.set_local(id, local);
    }

    /// Whether this member can be picked. When one becomes ready its estimate starts again at the
    /// default round trip: what was known of it was known of another process. What is pending on it
    /// stays.
    pub fn set_ready(&mut self, id: MemberId, ready: bool, now: Time) {
        let estimate = self.initial_estimate(now);
        match (self.members.is_ready(id), ready) {
            (false, true) => {
                let Some(slot) = self.members.slot_mut(id) else { return };
                slot.estimate = estimate;
                self.members.enter_ready(id.index, now);
            }
            (true, false) => {
                self.members.leave_ready(id.index);
            }
            _ => {}
        }
    }

    /// The member that should get the next request, which has no key. `None` when nothing is ready.
    /// It does not [`begin`](Self::begin).
    pub fn pick(&mut self, rng: &mut Rng, now: Time) -> Option<MemberId> {
        self.choose(None, rng, now, &|_| true).map(|picked| picked.member)
    }

    /// The same, for a request that some members should not get again: the least loaded of the others,
    /// if few draws find none. Any, if there are no others.
    pub fn pick_other(
        &mut self,
        rng: &mut Rng,
        now: Time,
        suits: impl Fn(MemberId) -> bool,
    ) -> Option<MemberId> {
        self.pick_by(None, rng, now, suits).map(|picked| picked.member)
    }

    /// The same, for a request with a key ([`hash::endpoint_key`]) or without, and why.
    pub fn pick_by(
        &mut self,
        key: Option<u64>,
        rng: &mut Rng,
        now: Time,
        suits: impl Fn(MemberId) -> bool,
    ) -> Option<Picked> {
        const DRAWS: usize = 3;
        for _ in 0..DRAWS {
            let drawn = self.choose(key, rng, now, &suits)?;
            if suits(drawn.member) {
                return Some(drawn);
            }
        }
        let member = |index: u32| self.members.id(index);
        let others = self.members.ready().map(member).filter(|&member| suits(member));
        let load = |member: &MemberId| self.load(*member, now);
        let least = others.min_by(|a, b| load(a).total_cmp(&load(b)));
        match least {
            Some(member) => Some(Picked { member, why: Why::Tried }),
            None => self.choose(key, rng, now, &|_| true),
        }
    }

    fn choose(
        &mut self,
        key: Option<u64>,
        rng: &mut Rng,
        now: Time,
        suits: &dyn Fn(MemberId) -> bool,
    ) -> Option<Picked> {
        if self.members.ready_len() == 0 {
            return None;
        }
        let mut ask = Ask { rng, now, key: key.unwrap_or_default(), suits };
        let kind = self.settings.kind;
        let way: &mut dyn Choose = match kind {
            _ if key.is_some() => {
                let (layout, bound) = (self.layout(), self.settings.load_bound);
                &mut **self.table.get_or_insert_with(|| Box::new(Table::new(layout, bound)))
            }
            Kind::PeakEwma => &mut self.load,
            Kind::LeastRequest => &mut LeastRequest,
            Kind::RoundRobin => &mut self.round_robin,
            Kind::Random | Kind::RingHash | Kind::Maglev => &mut Random,
        };
        let (index, why) = way.choose(&mut self.members, &mut ask);
        let why = if key.is_none() && kind.is_hash() { Why::NoKey } else { why };
        Some(Picked { member: self.members.id(index), why })
    }

    /// A request is on its way to this member.
    pub fn begin(&mut self, id: MemberId) {
        self.members.begin(id);
    }

    /// A request is over, and this is how it went.
    pub fn end(&mut self, id: MemberId, outcome: Outcome, now: Time) {
        self.sample(id, outcome, now);
        self.release(id);
    }

    /// How a request went that is not over: at the first byte of a response body, say.
    pub fn sample(&mut self, id: MemberId, outcome: Outcome, now: Time) {
        let (decay, penalty) = (self.load.decay, self.params.penalty);
        let Some(slot) = self.members.slot_mut(id) else { return };
        match outcome {
            Outcome::Success(rtt) => slot.estimate.sample(rtt, now, decay),
            Outcome::Failure => slot.estimate.raise(penalty, now, decay),
            Outcome::Cancelled(rtt) => slot.estimate.raise(rtt, now, decay),
            Outcome::Unsent => {}
        }
    }

    /// A request is over, and how it went is known already or says nothing.
    pub fn release(&mut self, id: MemberId) {
        self.members.release(id);
    }

    fn initial_estimate(&self, now: Time) -> Ewma {
        Ewma::new(self.params.default_rtt.max(self.params.floor), now)
    }

    fn layout(&self) -> Layout {
        if self.settings.kind == Kind::Maglev { Layout::Maglev } else { Layout::Ring }
    }
}
