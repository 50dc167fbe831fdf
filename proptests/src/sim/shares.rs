//! How requests are shared out over endpoints: what services are told to do, and what may come of
//! it. By weight, by zone, by turns; and the same place for the same key.

use std::collections::BTreeMap;
use std::sync::Arc;

use selvedge_core::balance::{Kind, LoadBound};
use selvedge_core::config::{Config, Endpoint, Service, Target};
use selvedge_core::engine::Event;
use selvedge_core::policy::Balancing;
use selvedge_core::stats::Snapshot;
use selvedge_core::time::Time;

use super::availability::Watch;
use super::balancing::key_of;
use super::fault::{Fault, Faults};
use super::invariant::{Check, Checks, Invariant};
use super::likely::{drawn_of_two, effective, is_likely};
use super::limits::under_way;
use super::mix::{LIMITS, Mix, UNSHAKEN};
use super::model::Sent;
use super::readiness::{self, Member, Readiness, bits_of};

/// Services that are balanced otherwise, in some worlds: the first ones.
pub(super) const BALANCED: usize = 3;

/// Faults that do not keep a request with a key from where it belongs.
const KEYED: Faults = Faults::of(&[
    Fault::ConnectFails,
    Fault::ConnectLate,
    Fault::AcceptLate,
    Fault::AppDown,
    Fault::AppDropsIdle,
    Fault::ClientHalfCloses,
]);

/// What is known of the endpoints of services.
#[derive(Debug, Default)]
pub(super) struct Shares {
    pools: Vec<Pool>,
}

/// The endpoints of a service.
#[derive(Debug)]
struct Pool {
    service: String,
    name: Arc<str>,
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

/// Requests while a member's weight was small: all of them, those that it got, and how many are to be
/// expected at most.
#[derive(Clone, Copy, Debug, Default)]
struct Growing {
    all: u32,
    came: u32,
    expected: f64,
}

/// What an engine knows of a pool, and does.
#[derive(Debug)]
struct View {
    known: Readiness,
    /// Requests without a key, by member; what is to be expected of them.
    came: Vec<u32>,
    expected: Vec<[f64; 2]>,
    /// … and of the zone.
    local: [f64; 2],
    /// What came while its weight grew and that of the others did not, by member.
    growing: Vec<Growing>,
    /// Requests that came and are not counted.
    uncounted: u32,
    /// Some may have taken a turn that they had to give up: their connects failed.
    unsteady: bool,
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
                known: Readiness::new(members.len(), config, service),
                came: vec![0; members.len()],
                expected: vec![[0.0; 2]; members.len()],
                local: [0.0; 2],
                growing: vec![Growing::default(); members.len()],
                uncounted: 0,
                unsteady: false,
            };
            Some(Pool {
                service: service.name.to_string(),
                name: Arc::clone(&service.name),
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
        let service = readiness::service_of(event);
        for pool in &mut self.pools {
            if service.is_none_or(|service| *service == *pool.service)
                && let Some(view) = pool.views.get_mut(engine)
            {
                view.known.hear(&pool.members, event, now);
            }
        }
    }

    /// An engine is told of other endpoints, perhaps.
    pub(super) fn reload(&mut self, engine: usize, config: &Config) {
        for pool in &mut self.pools {
            let service = config.services.iter().find(|service| *service.name == *pool.service);
            let same = service.is_some_and(|service| service.endpoints == pool.endpoints);
            if let Some(view) = pool.views.get_mut(engine) {
                view.known.other |= !same;
            }
        }
    }

    /// Has nothing changed for this engine since then, and is everything as it was at first?
    pub(super) fn is_settled(&self, engine: usize, since: Time) -> bool {
        let mut views = self.pools.iter().filter_map(|pool| pool.views.get(engine));
        views.all(|view| view.known.is_settled(since))
    }

    /// Has this engine had an endpoint of a service to ask ever since then, against which nothing is
    /// said, if that is known?
    pub(super) fn is_open(&self, engine: usize, service: &str, since: Time) -> bool {
        let pool = self.pools.iter().find(|pool| pool.service == *service);
        let view = pool.and_then(|pool| Some((pool.views.get(engine)?, &pool.members)));
        view.is_some_and(|(view, members)| view.known.is_open(members, since))
    }

    /// A request of no split, which its engine had at `fed`, is the first time at an app.
    pub(super) fn came(
        &mut self,
        checks: &mut Checks,
        mix: &Mix,
        sent: &Sent,
        app: u16,
        at: Time,
        watch: Option<&Watch>,
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
        let mut ready = view.known.ready(&pool.members);
        if let Some(watch) = watch {
            let lets = |member: &Member| watch.lets(&pool.name, member.addr, at);
            let Some(fit) = bits_of(pool.members.iter().map(lets)) else {
                view.uncounted += 1;
                return Ok(());
            };
            ready &= fit;
        }
        if view.known.other || view.known.changed >= fed || ready == 0 {
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

/// Does it draw two, and take the one with less to do?
fn is_better_of_two(kind: Kind) -> bool {
    matches!(kind, Kind::PeakEwma | Kind::LeastRequest)
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
        let vague = view.known.vague.is_some_and(|since| times[0] <= since + slow_start);
        view.came[member] += 1;
        let own = own_share(&self.members, ready);
        view.local = view.local.map(|sum| sum + own.unwrap_or(0.0));
        let weights: Vec<[f64; 2]> = self
            .members
            .iter()
            .zip(&view.known.since)
            .enumerate()
            .map(|(at, (member, &since))| match ready >> at & 1 {
                1 if vague => [0.1, 1.0].map(|part| f64::from(member.weight) * part),
                1 => effective(member.weight, since, slow_start, times),
                _ => [0.0; 2],
            })
            .collect();
        let two = is_better_of_two(self.balancing.kind);
        let is_whole = |at: usize| {
            let weight = f64::from(self.members[at].weight);
            ready >> at & 1 == 0 || weights[at][0] > 0.9 * weight
        };
        for (at, sum) in view.expected.iter_mut().enumerate() {
            let before = sum[1];
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
            if most > 0.0 && two {
                let here = |other: &usize| self.members[*other].local == local;
                let zoned: Vec<usize> = (0..self.members.len()).filter(here).collect();
                sum[1] += zone * drawn_of_two(&weights, &zoned, at);
            } else if most > 0.0 {
                sum[0] += zone * least / (least + others[1]);
                sum[1] += zone * most / (most + others[0]);
            }
            let small = most < 0.5 * f64::from(self.members[at].weight) && ready >> at & 1 == 1;
            if small && (0..self.members.len()).all(|other| other == at || is_whole(other)) {
                let growing = &mut view.growing[at];
                growing.all += 1;
                growing.came += u32::from(at == member);
                growing.expected += sum[1] - before;
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
        let turns = self.balancing.kind == Kind::RoundRobin;
        for (at, growing) in view.growing.iter().enumerate().filter(|_| !turns) {
            let bounds = [0.0, growing.expected];
            checks.that(
                Invariant::Balanced,
                is_likely(growing.came, growing.all, bounds),
                || {
                    format!(
                        "endpoint {at} of {} gets too many while it begins: {growing:?}",
                        self.service
                    )
                },
            )?;
        }
        for (at, &came) in view.came.iter().enumerate() {
            let likely = turns || is_likely(came, all, view.expected[at]);
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
        let moved = view.known.moved || view.known.other || view.unsteady;
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
