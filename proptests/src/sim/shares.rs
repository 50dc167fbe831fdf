//! How requests are shared out over endpoints: what services are told to do, and what may come of
//! it. By weight, by zone, by turns; and the same place for the same key.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use selvedge_core::balance::{Kind, LoadBound};
use selvedge_core::config::{Config, Endpoint, Service, Target};
use selvedge_core::engine::Event;
use selvedge_core::policy::Balancing;
use selvedge_core::policy::affinity::{Affinity, Key};
use selvedge_core::stats::Snapshot;
use selvedge_core::time::Time;

use super::fault::{Fault, Faults};
use super::invariant::{Check, Checks, Invariant};
use super::limits::under_way;
use super::mix::{LIMITS, Mix, UNSHAKEN};
use super::model::Sent;
use crate::choose::{Choose, pick};

/// The zone of outbound engines, where there are zones.
pub(super) const ZONE: &str = "a";
/// Services that are balanced otherwise, in some worlds: the first ones.
const BALANCED: usize = 3;

// ---- What services are told ----

/// Draws how the first services share their requests out.
pub(super) fn balance(
    choose: &mut dyn Choose,
    mix: &Mix,
    services: &mut [Service],
    faults: &mut Vec<Fault>,
) {
    for (index, service) in services.iter_mut().enumerate().take(BALANCED) {
        let mut once = |fault, choose: &mut dyn Choose| {
            let hit = mix.draws_once(choose, fault);
            faults.extend(hit.then_some(fault));
            hit
        };
        if once(Fault::DeadEndpoints, choose) {
            let addr = super::topology::address(index as u8, 80);
            let like = service.endpoints[0].clone();
            service.endpoints.push(Endpoint { target: Target::Addr(addr), ..like });
        }
        let balancing = &mut service.balancing;
        if once(Fault::Balancers, choose) {
            balancing.kind = pick(choose, &KINDS);
            if balancing.kind.is_hash() && !choose.one_in(6) {
                balancing.affinity = Some(affinity(choose));
            }
        }
        if once(Fault::Sticky, choose) {
            balancing.sticky = Some(affinity(choose));
        }
        if once(Fault::SlowStarts, choose) {
            balancing.slow_start = pick(choose, &[300, 3000, 30_000].map(Duration::from_millis));
        }
        let zones = once(Fault::Zones, choose);
        let weights = once(Fault::Shares, choose);
        for endpoint in &mut service.endpoints {
            if zones {
                endpoint.zone = pick(choose, &[Some(ZONE), Some("b"), None]).map(Into::into);
            }
            if weights {
                endpoint.weight = pick(choose, &[1, 2, 5]);
            }
        }
    }
}

const KINDS: [Kind; 5] =
    [Kind::RoundRobin, Kind::Random, Kind::RingHash, Kind::Maglev, Kind::LeastRequest];

fn affinity(choose: &mut dyn Choose) -> Affinity {
    let key = match choose.below(3) {
        0 => Key::Header("x-user".into()),
        1 => Key::Cookie("user".into()),
        _ => Key::Source,
    };
    let load_bound =
        pick(choose, &[LoadBound::NONE, LoadBound::default(), LoadBound::thousandths(2_000)]);
    Affinity { key, load_bound }
}

/// The key of a request, if it has one: never the same for different requests.
pub(super) fn key_of(affinity: &Affinity, sent: &Sent) -> Option<u32> {
    match affinity.key {
        Key::Header(_) | Key::Cookie(_) => sent.request.user.map(|user| user as u32),
        Key::Source => Some(1_000_000 + u32::from(sent.client)),
    }
}

// ---- What may come of it ----

/// Faults that do not keep a request with a key from where it belongs.
const KEYED: Faults = Faults::of(&[
    Fault::ConnectFails,
    Fault::ConnectLate,
    Fault::AcceptLate,
    Fault::AppDown,
    Fault::AppDropsIdle,
    Fault::ClientHalfCloses,
]);

/// Whether one of so many is as likely as one may expect to see: further off less than once in
/// 10¹¹ times (Chernoff's bound). `least` and `most`: how many are to be expected.
pub(super) fn is_likely(count: u32, all: u32, [least, most]: [f64; 2]) -> bool {
    let (n, is) = (f64::from(all.max(1)), f64::from(count) / f64::from(all.max(1)));
    let expected = (is * n).clamp(least, most.max(least)) / n;
    let term = |is: f64, expected: f64| if is > 0.0 { is * (is / expected).ln() } else { 0.0 };
    let distance = term(is, expected) + term(1.0 - is, 1.0 - expected);
    (is - expected).abs() < 1e-9 || n * distance < 26.0
}

/// What is known of the endpoints of services.
#[derive(Debug, Default)]
pub(super) struct Shares {
    pools: Vec<Pool>,
}

/// The endpoints of a service.
#[derive(Debug)]
struct Pool {
    service: String,
    balancing: Balancing,
    /// As they were configured.
    endpoints: Vec<Endpoint>,
    members: Vec<Member>,
    /// Other services' requests come here, too.
    shared: bool,
    /// What each outbound engine knows, and does.
    views: Vec<View>,
    /// Where the requests with a key went, by the members that were ready, as bits.
    keys: BTreeMap<u32, Vec<(u64, usize)>>,
}

#[derive(Debug)]
struct Member {
    addr: SocketAddr,
    /// The app behind it.
    app: Option<u16>,
    weight: u32,
    local: bool,
    meshed: bool,
}

/// What an engine knows of the members of a pool.
#[derive(Debug)]
struct View {
    /// Those that are connected, as bits.
    up: u64,
    /// It can connect to those that are meshed.
    certified: bool,
    /// When that was last another answer.
    changed: Time,
    /// … for better or worse, apart from the first certificate.
    moved: bool,
    /// Since when each is ready.
    since: Vec<Time>,
    /// It knows other members than those that it began with.
    other: bool,
    /// Requests without a key, by member; what is to be expected of them.
    came: Vec<u32>,
    expected: Vec<[f64; 2]>,
    /// … and of the zone.
    local: [f64; 2],
    /// Requests that came and are not counted.
    uncounted: u32,
    /// Some may have taken a turn that they had to give up: their connects failed.
    unsteady: bool,
}

impl View {
    fn ready(&self, members: &[Member]) -> u64 {
        let meshed = members.iter().enumerate().filter(|(_, member)| member.meshed);
        let meshed: u64 = meshed.fold(0, |bits, (at, _)| bits | 1 << at);
        self.up & !if self.certified { 0 } else { meshed }
    }
}

impl Shares {
    /// A model of the services of outbound engines. `app`: who is behind an endpoint, as bits.
    pub(super) fn new(config: &Config, engines: usize, app: impl Fn(&Endpoint) -> u64) -> Self {
        let backends = || config.routes.iter().flat_map(|route| route.split.backends());
        let pool = |service: &Service| {
            let members: Option<Vec<Member>> = service
                .endpoints
                .iter()
                .map(|endpoint| {
                    let Target::Addr(addr) = endpoint.target else { return None };
                    let apps = app(endpoint);
                    let local = config.zone.is_some() && config.zone == endpoint.zone;
                    (apps.count_ones() < 2).then(|| Member {
                        addr,
                        app: (apps > 0).then(|| apps.trailing_zeros() as u16),
                        weight: endpoint.weight,
                        local,
                        meshed: endpoint.mesh.is_some(),
                    })
                })
                .collect();
            let members = members?;
            let view = || View {
                up: (1 << members.len()) - 1,
                certified: config.identity.is_none(),
                changed: Time::ZERO,
                moved: false,
                since: vec![Time::ZERO; members.len()],
                other: false,
                came: vec![0; members.len()],
                expected: vec![[0.0; 2]; members.len()],
                local: [0.0; 2],
                uncounted: 0,
                unsteady: false,
            };
            Some(Pool {
                service: service.name.to_string(),
                balancing: service.balancing.clone(),
                endpoints: service.endpoints.clone(),
                views: (0..engines).map(|_| view()).collect(),
                members,
                shared: backends().any(|backend| backend.service == service.name),
                keys: BTreeMap::new(),
            })
        };
        let pools = config.services.iter().take(BALANCED).filter_map(pool).collect();
        Shares { pools }
    }

    /// An engine says what it has found out.
    pub(super) fn hear(&mut self, engine: usize, event: &Event, now: Time) {
        match event {
            Event::EndpointDown { service, addr, .. } => {
                self.turn(engine, service, *addr, false, now);
            }
            Event::EndpointUp { service, addr } => self.turn(engine, service, *addr, true, now),
            Event::Certified { .. } | Event::Uncertified { .. } => {
                for pool in &mut self.pools {
                    let Some(view) = pool.views.get_mut(engine) else { continue };
                    let certified = matches!(event, Event::Certified { .. });
                    if view.certified == certified {
                        continue;
                    }
                    (view.certified, view.changed) = (certified, now);
                    view.moved |= !certified;
                    for (member, since) in pool.members.iter().zip(&mut view.since) {
                        if member.meshed {
                            *since = now;
                        }
                    }
                }
            }
            _ => {}
        }
    }

    fn turn(&mut self, engine: usize, service: &str, addr: SocketAddr, up: bool, now: Time) {
        let Some(pool) = self.pools.iter_mut().find(|pool| pool.service == service) else { return };
        let Some(view) = pool.views.get_mut(engine) else { return };
        let at = pool.members.iter().position(|member| member.addr == addr);
        let Some(at) = at.filter(|at| (view.up >> at & 1 == 1) != up) else { return };
        view.up ^= 1 << at;
        (view.changed, view.moved) = (now, true);
        view.since[at] = now;
    }

    /// An engine is told of other endpoints, perhaps.
    pub(super) fn reload(&mut self, engine: usize, config: &Config) {
        for pool in &mut self.pools {
            let service = config.services.iter().find(|service| *service.name == *pool.service);
            let same = service.is_some_and(|service| service.endpoints == pool.endpoints);
            if let Some(view) = pool.views.get_mut(engine) {
                view.other |= !same;
            }
        }
    }

    /// Has nothing changed for this engine since then, and is everything as it was at first?
    pub(super) fn is_settled(&self, engine: usize, since: Time) -> bool {
        let mut views = self.pools.iter().filter_map(|pool| pool.views.get(engine));
        views.all(|view| view.certified && !view.other && !view.moved && view.changed < since)
    }

    /// A request of no split, which its engine had at `fed`, is the first time at an app.
    pub(super) fn came(
        &mut self,
        checks: &mut Checks,
        mix: &Mix,
        sent: &Sent,
        app: u16,
        at: Time,
    ) -> Check {
        if mix.has(Fault::Retries) || !mix.has_only(UNSHAKEN.and(KEYED)) {
            return Ok(());
        }
        let asked = sent.request.authority.as_deref();
        let (Some(engine), Some(fed)) = (sent.engine, sent.fed) else { return Ok(()) };
        let Some(pool) = self.pools.iter_mut().find(|pool| asked == Some(&pool.service)) else {
            return Ok(());
        };
        let Some(view) = pool.views.get_mut(usize::from(engine)) else { return Ok(()) };
        let Some(member) = pool.members.iter().position(|member| member.app == Some(app)) else {
            return Ok(());
        };
        let ready = view.ready(&pool.members);
        if view.other || view.changed >= fed || ready == 0 {
            view.uncounted += 1;
            return Ok(());
        }
        checks.that(Invariant::Balanced, ready >> member & 1 == 1, || {
            format!("a request for {} goes to app {app}, which is not ready", pool.service)
        })?;
        let affinity = pool.balancing.endpoint_affinity();
        if let Some(key) = affinity.and_then(|affinity| key_of(affinity, sent)) {
            if affinity.is_some_and(|affinity| affinity.load_bound == LoadBound::NONE) {
                return pool.stays(checks, key, ready, member);
            }
            return Ok(());
        }
        // A connect that fails moves the few that waited for it: they are not counted.
        let counts = UNSHAKEN.and(Faults::of(&[Fault::ConnectFails]));
        if mix.has_only(counts) && !mix.has_any(LIMITS) {
            view.unsteady |= mix.has(Fault::ConnectFails);
            pool.count(usize::from(engine), member, [fed, at], ready);
        }
        Ok(())
    }

    /// Nobody but those who go by other things than keys gets more than a load bound allows. There is
    /// one more at an app, and nothing has changed since it came.
    pub(super) fn check_load(
        &self,
        checks: &mut Checks,
        requests: &[Sent],
        [id, app]: [usize; 2],
        now: Time,
    ) -> Check {
        let (sent, app) = (&requests[id], app as u16);
        let asked = sent.request.authority.as_deref();
        let pool = self.pools.iter().find(|pool| asked == Some(&pool.service) && !pool.shared);
        let (Some(pool), Some(fed)) = (pool, sent.fed) else { return Ok(()) };
        let Some(affinity) = pool.balancing.endpoint_affinity() else { return Ok(()) };
        let Some(member) = pool.members.iter().find(|member| member.app == Some(app)) else {
            return Ok(());
        };
        let here = || under_way(requests, sent, Some(app));
        if here().any(|other| key_of(affinity, other).is_none()) {
            return Ok(());
        }
        // All that were under way when the last of these was placed, and perhaps more.
        let all = requests.iter().filter(|other| {
            let open = other.fed.is_some_and(|fed| fed <= now)
                && other.over.is_none_or(|over| over >= fed);
            open && other.engine == sent.engine && other.request.authority == sent.request.authority
        });
        let (all, pending) = (all.count() as u64, here().count() as u32);
        let total = pool.members.iter().map(|member| u64::from(member.weight)).sum();
        let others = pending.saturating_sub(1);
        let bound = affinity.load_bound;
        let full = bound.is_full(others, member.weight.into(), all.saturating_sub(1), total);
        checks.that(Invariant::Balanced, !full, || {
            format!("app {app} has {pending} of {all} requests for {}, by {bound:?}", pool.service)
        })
    }

    /// What an engine counts as under way at its endpoints is what their apps have not answered, and
    /// nothing that is over. `is_shared`: is a request one of a split?
    pub(super) fn check_pending(
        &self,
        checks: &mut Checks,
        requests: &[Sent],
        engine: u16,
        snapshot: &Snapshot,
        is_shared: impl Fn(&Sent) -> bool,
    ) -> Check {
        let mut all = 0;
        for pool in &self.pools {
            let service = snapshot.services.iter().find(|it| *it.name == *pool.service);
            let Some(service) = service else { continue };
            for endpoint in &service.endpoints {
                all += endpoint.pending as usize;
                let member = pool.members.iter().find(|member| member.addr == endpoint.addr);
                let Some(app) = member.and_then(|member| member.app) else { continue };
                let here = requests.iter().filter(|sent| {
                    let asked = sent.request.authority.as_deref() == Some(&pool.service);
                    let there = sent.serving == Some(app) && sent.engine == Some(engine);
                    asked && there && !is_shared(sent)
                });
                let (here, pending) = (here.count(), endpoint.pending as usize);
                checks.that(Invariant::Load, here <= pending, || {
                    format!(
                        "engine {engine} counts {pending} at app {app} for {}, which has {here}",
                        pool.service
                    )
                })?;
            }
        }
        let open = requests.iter().filter(|sent| {
            let mine = sent.engine.is_none_or(|mine| mine == engine);
            mine && sent.fed.is_some() && sent.over.is_none()
        });
        let open = open.count();
        checks.that(Invariant::Load, all <= open, || {
            format!("engine {engine} counts {all} requests at endpoints: {open} are open")
        })
    }

    /// What came of all requests is what weights, zones and turns say.
    pub(super) fn check_end(&self, checks: &mut Checks) -> Check {
        for pool in &self.pools {
            for view in &pool.views {
                pool.check(checks, view)?;
            }
        }
        Ok(())
    }
}

/// What a weight may count as, between two times: it grows from a tenth.
fn effective(weight: u32, since: Time, slow_start: Duration, [from, to]: [Time; 2]) -> [f64; 2] {
    let part = |at: Time| {
        if slow_start.is_zero() {
            return 1.0;
        }
        let age = at.saturating_since(since).as_secs_f64() / slow_start.as_secs_f64();
        age.clamp(0.0, 1.0).mul_add(0.9, 0.1)
    };
    // In steps.
    let step = (slow_start / 32).max(Duration::from_millis(2));
    let before = Time::from_nanos(from.as_nanos().saturating_sub(step.as_nanos() as u64));
    [before, to].map(|at| f64::from(weight) * part(at))
}

impl Pool {
    /// Everywhere, a key stays where it is while those who are ready stay the same; and where it is
    /// ready, whoever else comes or goes.
    fn stays(&mut self, checks: &mut Checks, key: u32, ready: u64, member: usize) -> Check {
        let seen = self.keys.entry(key).or_default();
        for &(then, was) in seen.iter() {
            let (fewer, more) = if ready & !then == 0 { (ready, then) } else { (then, ready) };
            let of_more = if more == then { was } else { member };
            let comparable = fewer & !more == 0 && fewer >> of_more & 1 == 1;
            checks.that(Invariant::Balanced, !comparable || was == member, || {
                format!(
                    "key {key} of {} goes to endpoint {member} of {ready:b}, and was at {was} of {then:b}",
                    self.service
                )
            })?;
        }
        if !seen.iter().any(|&(then, _)| then == ready) {
            seen.push((ready, member));
        }
        Ok(())
    }

    /// Counts a request without a key.
    fn count(&mut self, engine: usize, member: usize, times: [Time; 2], ready: u64) {
        let slow_start = self.balancing.slow_start;
        let view = &mut self.views[engine];
        view.came[member] += 1;
        let own = own_share(&self.members, ready);
        view.local = view.local.map(|sum| sum + own.unwrap_or(0.0));
        let weights: Vec<[f64; 2]> = self
            .members
            .iter()
            .zip(&view.since)
            .enumerate()
            .map(|(at, (member, &since))| match ready >> at & 1 {
                1 => effective(member.weight, since, slow_start, times),
                _ => [0.0; 2],
            })
            .collect();
        for (at, sum) in view.expected.iter_mut().enumerate() {
            let local = self.members[at].local;
            let zone = match own {
                Some(own) => {
                    if local {
                        own
                    } else {
                        1.0 - own
                    }
                }
                None => 1.0,
            };
            let others = (0..self.members.len())
                .filter(|&other| other != at && self.members[other].local == local)
                .fold([0.0; 2], |sum, other| {
                    [sum[0] + weights[other][0], sum[1] + weights[other][1]]
                });
            let [least, most] = weights[at];
            if most > 0.0 {
                sum[0] += zone * least / (least + others[1]);
                sum[1] += zone * most / (most + others[0]);
            }
        }
    }

    fn check(&self, checks: &mut Checks, view: &View) -> Check {
        let all: u32 = view.came.iter().sum();
        if all == 0 {
            return Ok(());
        }
        let local: u32 = self
            .members
            .iter()
            .zip(&view.came)
            .filter(|(member, _)| member.local)
            .map(|(_, came)| came)
            .sum();
        if self.members.iter().any(|member| member.local) {
            checks.that(Invariant::Balanced, is_likely(local, all, view.local), || {
                format!(
                    "{local} of {all} requests for {} stay in the zone: {:?} expected",
                    self.service, view.local
                )
            })?;
        }
        let drawn = matches!(self.balancing.kind, Kind::Random | Kind::RingHash | Kind::Maglev);
        for (at, &came) in view.came.iter().enumerate() {
            let likely = !drawn || is_likely(came, all, view.expected[at]);
            checks.that(Invariant::Balanced, likely, || {
                format!(
                    "{came} of {all} requests for {} go to endpoint {at}: {:?} expected",
                    self.service, view.expected[at]
                )
            })?;
        }
        self.check_turns(checks, view, all)
    }

    /// Who takes turns gets its share, but for a turn of each.
    fn check_turns(&self, checks: &mut Checks, view: &View, all: u32) -> Check {
        let kind = self.balancing.kind;
        let even =
            self.balancing.slow_start.is_zero() && self.balancing.endpoint_affinity().is_none();
        let moved = view.moved || view.other || view.unsteady;
        if kind != Kind::RoundRobin || !even || self.shared || moved {
            return Ok(());
        }
        let local = self.members.iter().any(|member| member.local);
        let active = || self.members.iter().filter(move |member| member.local == local);
        let weight: u32 = active().map(|member| member.weight).sum();
        let turns = active().count() as f64;
        for (member, &came) in self.members.iter().zip(&view.came) {
            if member.local != local {
                continue;
            }
            let share = f64::from(member.weight) / f64::from(weight);
            let off = (share.mul_add(-f64::from(all), f64::from(came))).abs();
            let most = turns.mul_add(share, 1.0) + f64::from(view.uncounted);
            checks.that(Invariant::Balanced, off <= most + 1e-6, || {
                format!(
                    "{} had {came} of {all} turns of {}: {share} is its share",
                    member.addr, self.service
                )
            })?;
        }
        Ok(())
    }
}

/// What the own zone gets, if somebody of it is a member.
fn own_share(members: &[Member], ready: u64) -> Option<f64> {
    let weight = |local: bool, bits: u64| -> u32 {
        let of = members.iter().enumerate();
        of.filter(|(at, member)| member.local == local && bits >> at & 1 == 1)
            .map(|(_, member)| member.weight)
            .sum()
    };
    let all = weight(true, u64::MAX);
    if all == 0 {
        return None;
    }
    let own = f64::from(weight(true, ready));
    if weight(false, ready) == 0 {
        return Some(1.0);
    }
    Some((1.4 * own / f64::from(all)).min(1.0))
}

#[cfg(test)]
mod tests {
    use super::is_likely;

    #[test]
    fn what_is_far_off_is_not_likely() {
        assert!(is_likely(50, 100, [50.0; 2]) && is_likely(30, 100, [50.0; 2]));
        assert!(!is_likely(90, 100, [50.0; 2]) && !is_likely(10, 100, [50.0; 2]));
        assert!(!is_likely(1, 100, [0.0; 2]) && !is_likely(99, 100, [100.0; 2]));
        assert!(is_likely(0, 100, [0.0; 2]) && is_likely(100, 100, [100.0; 2]));
        assert!(is_likely(90, 100, [50.0, 95.0]) && is_likely(0, 0, [0.0; 2]));
    }
}
