//! Which endpoints may be asked: breakers and health checks that services are given, and what must
//! hold of everything that an engine says, and does, about them.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use selvedge_core::config::{Config, Service};
use selvedge_core::engine::{Direction, Event};
use selvedge_core::policy::breaker::{BreakerConfig, SuccessRate, Trip};
use selvedge_core::policy::check::{CheckKind, HealthCheck};
use selvedge_core::stats::Snapshot;
use selvedge_core::time::Time;

use super::fault::{Fault, Faults};
use super::invariant::{Check, Checks, Invariant, violated};
use super::mix::{BALANCING, Mix, UNNOTICED};
use super::topology::is_nobody;
use crate::choose::{Choose, pick};

/// Services whose endpoints may be judged, by their place, and what clients call them. Not the one
/// of byte streams.
pub(super) const GUARDED: [(usize, &[&str]); 4] = [
    (0, &["web.example"]),
    (1, &["direct.example:80"]),
    (2, &["mixed.example"]),
    (4, &["named.example:80"]),
];
/// After that an endpoint is checked for the first time, and the check is over.
const FIRST: Duration = Duration::from_secs(5);
/// The path of HTTP checks.
pub(super) const HEALTHZ: &str = "/healthz";

/// Has the endpoints of some services judged, or of none.
pub(super) fn guard(choose: &mut dyn Choose, services: &mut [Service]) {
    for (index, _) in GUARDED {
        guard_one(choose, &mut services[index]);
    }
}

/// Draws how the endpoints of a service are judged, if they are.
pub(super) fn guard_one(choose: &mut dyn Choose, service: &mut Service) {
    let millis = Duration::from_millis;
    service.breaker = (!choose.one_in(4)).then(|| {
        let rate = SuccessRate {
            min: pick(choose, &[0.8, 0.5]),
            window: pick(choose, &[1000, 10_000].map(millis)),
            min_requests: pick(choose, &[5, 20, 1]),
        };
        let consecutive = pick(choose, &[3, 1, 2, 7, 0]);
        let backoff_min = pick(choose, &[100, 300, 1000].map(millis));
        BreakerConfig {
            consecutive,
            success_rate: (consecutive == 0 || choose.one_in(3)).then_some(rate),
            backoff_min,
            backoff_max: backoff_min * pick(choose, &[4, 1, 10]),
            max_ejected: pick(choose, &[0.5, 1.0, 0.34, 0.0]),
            ..BreakerConfig::default()
        }
    });
    service.health_check = choose.one_in(3).then(|| HealthCheck {
        kind: match choose.below(4) {
            0 | 1 => CheckKind::Http(HEALTHZ.into()),
            2 => CheckKind::Grpc(pick(choose, &["", "web"]).into()),
            _ => CheckKind::Tcp,
        },
        interval: pick(choose, &[1000, 2000, 5000].map(millis)),
        timeout: pick(choose, &[1000, 2000].map(millis)),
        healthy: pick(choose, &[2, 1, 3]),
        unhealthy: pick(choose, &[3, 1]),
    });
    service.panic = pick(choose, &[None, Some(0.0), Some(0.5), Some(1.0)]);
}

/// What is known of the endpoints of one engine, from what it says.
#[derive(Debug, Default)]
pub(super) struct Watch {
    standings: BTreeMap<Key, Standing>,
    /// Services whose engine ignores what is said against their endpoints, or did until then.
    panics: BTreeMap<Arc<str>, Option<Time>>,
    /// It has just been given other endpoints, or another configuration: not everything is said.
    pub(super) is_changing: bool,
}

type Key = (Arc<str>, SocketAddr);

#[derive(Clone, Copy, Debug, Default)]
struct Standing {
    ejected: Option<Ejected>,
    /// How often in a row it was ejected.
    shut: u32,
    /// Since when.
    unhealthy: Option<Time>,
}

#[derive(Clone, Copy, Debug)]
struct Ejected {
    at: Time,
    /// Nobody may ask it before.
    until: Time,
    /// Probes that were announced since, and requests that came.
    probes: u32,
    came: u32,
}

/// What an app has answered that counts as a failure, and what engines have made of that.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Blame {
    pub(super) failures: u32,
    counted: u32,
}

/// Where it is checked what must hold.
pub(super) struct Scene<'a> {
    pub(super) checks: &'a mut Checks,
    pub(super) mix: &'a Mix,
    pub(super) config: &'a Config,
    pub(super) now: Time,
}

impl Scene<'_> {
    fn service(&self, name: &str) -> Option<&Service> {
        self.config.services.iter().find(|service| *service.name == *name)
    }

    fn that(&mut self, invariant: Invariant, holds: bool, what: impl FnOnce() -> String) -> Check {
        self.checks.that(invariant, holds, what)
    }
}

impl Watch {
    // ---- What an engine says ----

    /// The engine says something; `blame`: of the app at that address, if it is known.
    pub(super) fn hear(
        &mut self,
        scene: &mut Scene<'_>,
        event: &Event,
        blame: Option<&mut Blame>,
    ) -> Check {
        match event {
            Event::EndpointEjected { service, addr, trip, retry_in } => {
                self.ejected(scene, &(Arc::clone(service), *addr), *trip, *retry_in)?;
                count_blame(scene, *trip, blame)
            }
            Event::EjectionSpared { service, ejected, endpoints, .. } => {
                let floor = scene.service(service).and_then(|it| it.breaker.as_ref());
                let full = floor.is_none_or(|breaker| *ejected == breaker.floor(*endpoints));
                scene.that(Invariant::Ejected, full || self.is_changing, || {
                    format!("an endpoint of {service} is spared: {ejected} of {endpoints}")
                })?;
                let Event::EjectionSpared { trip, .. } = event else { return Ok(()) };
                count_blame(scene, *trip, blame)
            }
            Event::EndpointProbed { service, addr } => {
                self.probed(scene, &(Arc::clone(service), *addr))
            }
            Event::EndpointReadmitted { service, addr } => {
                let key = (Arc::clone(service), *addr);
                let Some(standing) = self.standings.get_mut(&key) else { return Ok(()) };
                let was = standing.ejected.take();
                standing.shut = 0;
                let probed = was.is_some_and(|was| was.probes > 0);
                scene.that(Invariant::Ejected, probed || self.is_changing, || {
                    format!("{key:?} is readmitted without a probe: {was:?}")
                })
            }
            Event::CheckFailed { service, addr, .. } | Event::CheckPassed { service, addr } => {
                let failed = matches!(event, Event::CheckFailed { .. });
                let key = (Arc::clone(service), *addr);
                let Some(standing) = self.standings.get_mut(&key) else { return Ok(()) };
                standing.unhealthy = failed.then(|| standing.unhealthy.unwrap_or(scene.now));
                let checked = scene.service(service).is_some_and(|it| it.health_check.is_some());
                scene.that(Invariant::Checked, checked || self.is_changing, || {
                    format!("{key:?} is checked, and should not be")
                })
            }
            Event::PanicEntered { service, available, endpoints } => {
                self.panics.insert(Arc::clone(service), None);
                let short = is_short(scene.service(service), *available, *endpoints);
                scene.that(Invariant::Panic, short || self.is_changing, || {
                    format!("{service} panics with {available} of {endpoints}")
                })
            }
            Event::PanicLeft { service, .. } => {
                self.panics.insert(Arc::clone(service), Some(scene.now));
                Ok(())
            }
            _ => Ok(()),
        }
    }

    fn ejected(
        &mut self,
        scene: &mut Scene<'_>,
        key: &Key,
        trip: Trip,
        retry_in: Duration,
    ) -> Check {
        let now = scene.now;
        let Some(standing) = self.standings.get_mut(key) else {
            let message = format!("{key:?} is ejected, and is not there");
            let known = if self.is_changing { Ok(()) } else { Err(message) };
            return scene.checks.result(Invariant::Ejected, known);
        };
        standing.shut += 1;
        let (was, nth) = (standing.ejected, standing.shut);
        standing.ejected = Some(Ejected { at: now, until: now + retry_in, probes: 0, came: 0 });
        if self.is_changing {
            return Ok(());
        }
        let in_turn = match trip {
            Trip::Probe => was.is_some_and(|was| was.until <= now && was.probes > 0),
            Trip::Consecutive(_) | Trip::SuccessRate { .. } => was.is_none(),
        };
        scene.that(Invariant::Ejected, in_turn, || {
            format!("{key:?} is ejected by {trip:?}: {was:?}")
        })?;
        let Some(breaker) = scene.service(&key.0).and_then(|it| it.breaker.clone()) else {
            return Err(violated(Invariant::Ejected, format!("{key:?} has no breaker")));
        };
        let (min, max) = (breaker.backoff_min, breaker.backoff_max);
        let base = min.saturating_mul(1 << (nth - 1).min(30)).min(max);
        let least = (base * 3 / 2).min(max) * 2 / 3;
        let good = retry_in + Duration::from_micros(1) >= least && retry_in <= max;
        scene.that(Invariant::Ejected, good, || {
            format!("{key:?} is ejected for {retry_in:?} the {nth}th time: {breaker:?}")
        })?;
        let mine = self.standings.iter().filter(|(other, _)| other.0 == key.0);
        let [members, ejected] = mine.fold([0, 0], |[members, ejected], (_, standing)| {
            [members + 1, ejected + u32::from(standing.ejected.is_some())]
        });
        scene.that(Invariant::Ejected, ejected <= breaker.floor(members), || {
            format!("{ejected} of {members} endpoints of {} are ejected: {breaker:?}", key.0)
        })
    }

    fn probed(&mut self, scene: &mut Scene<'_>, key: &Key) -> Check {
        let (changing, now) = (self.is_changing, scene.now);
        let Some(standing) = self.standings.get_mut(key) else { return Ok(()) };
        let before = standing.ejected;
        if let Some(ejected) = &mut standing.ejected {
            ejected.probes += 1;
        }
        // Where nobody gives up a request, a probe always says something.
        let first = before.is_some_and(|was| was.probes == 0) || !scene.mix.has_only(CONCLUSIVE);
        let due = before.is_some_and(|was| was.until <= now);
        scene.that(Invariant::Ejected, due && first || changing, || {
            format!("{key:?} is probed at {now:?}: {before:?}")
        })
    }

    // ---- What an engine is ----

    /// What the engine holds is what it has said.
    pub(super) fn compare(&self, scene: &mut Scene<'_>, snapshot: &Snapshot) -> Check {
        if self.is_changing {
            return Ok(());
        }
        for service in &snapshot.services {
            let Some(config) = scene.service(&service.name) else { continue };
            let (panic, floor) = (config.panic, config.breaker.clone());
            if service.direction != Direction::Outbound
                || config.breaker.is_none() && config.health_check.is_none()
            {
                continue;
            }
            let name = &service.name;
            let (mut ejected, mut available, mut ignored) = (0, 0, 0);
            let panics = self.panics.get(name) == Some(&None);
            for endpoint in &service.endpoints {
                let key = (Arc::clone(name), endpoint.addr);
                let said = self.standings.get(&key).copied().unwrap_or_default();
                let same = said.ejected.is_some() == endpoint.ejected;
                scene.that(Invariant::Ejected, same, || {
                    format!("{key:?} is ejected: {}, and said to be {said:?}", endpoint.ejected)
                })?;
                let same = said.unhealthy.is_some() == endpoint.unhealthy;
                scene.that(Invariant::Checked, same, || {
                    format!("{key:?} is unhealthy: {}, and said to be {said:?}", endpoint.unhealthy)
                })?;
                ejected += u32::from(endpoint.ejected);
                let bad = endpoint.ejected || endpoint.unhealthy;
                available += u32::from(endpoint.ready && !bad);
                // One that awaits its probe is ready for that.
                let waits = said.ejected.is_some_and(|it| it.until <= scene.now);
                ignored += u32::from(endpoint.ready && bad && (panics || !waits));
            }
            let members = service.endpoints.len() as u32;
            let floor = floor.map_or(0, |breaker| breaker.floor(members));
            scene.that(Invariant::Ejected, ejected <= floor, || {
                format!("{ejected} of {members} endpoints of {name} are ejected, not {floor}")
            })?;
            let short = f64::from(available) < panic.unwrap_or(Service::PANIC) * f64::from(members)
                || available == 0;
            let holds = if panics { short && ignored > 0 } else { ignored == 0 };
            scene.that(Invariant::Panic, holds, || {
                format!("{name} panics: {panics}, with {available} of {members}, {ignored} ignored")
            })?;
        }
        Ok(())
    }

    /// Who is there has changed. `before`: the configuration until now; what is new in a service that
    /// was checked is not good until its first check.
    pub(super) fn learn(
        &mut self,
        snapshot: &Snapshot,
        [before, config]: [Option<&Config>; 2],
        now: Time,
    ) {
        let had = std::mem::take(&mut self.standings);
        let find = |config: &Config, name: &str| {
            let service = config.services.iter().find(|service| *service.name == *name);
            service.map(|service| (service.breaker.is_some(), service.health_check.is_some()))
        };
        let now_guarded =
            |name: &str| config.and_then(|config| find(config, name)).unwrap_or_default();
        for service in &snapshot.services {
            let (breaks, checks) = now_guarded(&service.name);
            let was_checked =
                before.is_none_or(|before| find(before, &service.name).unwrap_or_default().1);
            for endpoint in &service.endpoints {
                let key = (Arc::clone(&service.name), endpoint.addr);
                let mut standing = match had.get(&key) {
                    Some(standing) if checks && !was_checked => {
                        Standing { unhealthy: None, ..*standing }
                    }
                    Some(standing) => *standing,
                    // It may count as one that was in use.
                    None if checks && !was_checked => {
                        let unhealthy = endpoint.unhealthy.then_some(now);
                        Standing { unhealthy, ..Standing::default() }
                    }
                    None => Standing { unhealthy: checks.then_some(now), ..Standing::default() },
                };
                if !breaks {
                    (standing.ejected, standing.shut) = (None, 0);
                }
                standing.unhealthy = standing.unhealthy.filter(|_| checks);
                self.standings.insert(key, standing);
            }
        }
        self.panics.retain(|name, _| now_guarded(name) != (false, false));
        self.is_changing = false;
    }

    // ---- What comes ----

    /// A request for one of `services`, sent at `at`, reached the endpoint at one of `places`. May it?
    pub(super) fn came(
        &mut self,
        checks: &mut Checks,
        [at, grace]: [Time; 2],
        services: &[Arc<str>],
        places: &[SocketAddr],
    ) -> Check {
        let grace = grace.saturating_since(Time::ZERO);
        let mut refused = None;
        for (service, place) in services.iter().flat_map(|it| places.iter().map(move |at| (it, at)))
        {
            let key = (Arc::clone(service), *place);
            let panics = match self.panics.get(service) {
                Some(None) => true,
                Some(Some(left)) => at <= *left + grace,
                None => false,
            };
            let Some(standing) = self.standings.get_mut(&key) else { continue };
            let unhealthy = standing.unhealthy.is_some_and(|since| at > since + grace);
            let ejected = standing.ejected.as_mut().filter(|it| at > it.at + grace);
            match (unhealthy, ejected) {
                _ if panics => return Ok(()),
                (false, None) => return Ok(()),
                (false, Some(ejected)) if ejected.came < ejected.probes => {
                    ejected.came += 1;
                    return Ok(());
                }
                (true, _) => refused = Some((Invariant::Checked, key)),
                (false, Some(_)) => refused = Some((Invariant::Ejected, key)),
            }
        }
        let Some((invariant, key)) = refused else { return Ok(()) };
        checks.that(invariant, false, || {
            format!("a request goes to {key:?} at {at:?}: {:?}", self.standings[&key])
        })
    }

    /// Whether what is said of an endpoint lets it be chosen, now and ever since it was last said;
    /// `None`: it waits for a request that shows how it does, or has one.
    pub(super) fn lets(&self, service: &Arc<str>, addr: SocketAddr, now: Time) -> Option<bool> {
        let standing = self.standings.get(&(Arc::clone(service), addr)).copied();
        let Standing { ejected, unhealthy, .. } = standing.unwrap_or_default();
        match ejected {
            _ if self.panics.get(service) == Some(&None) => Some(true),
            _ if unhealthy.is_some() => Some(false),
            Some(ejected) if ejected.until <= now => None,
            Some(_) => Some(false),
            None => Some(true),
        }
    }

    /// After everything has healed, and each service was asked often enough, nothing is held against
    /// anybody. `asked`: which services were.
    pub(super) fn check_healed(&self, checks: &mut Checks, asked: &[Arc<str>], now: Time) -> Check {
        // Who has just come was not checked yet.
        let is_new = |standing: &Standing| standing.unhealthy.is_some_and(|it| it + FIRST > now);
        for (key, standing) in self.standings.iter().filter(|(key, _)| !is_nobody(key.1)) {
            let ready = standing.ejected.is_none() || !asked.contains(&key.0);
            checks.that(Invariant::Ejected, ready, || {
                format!("{key:?} was healed, and is not readmitted: {standing:?}")
            })?;
            let healthy = standing.unhealthy.is_none() || is_new(standing);
            checks.that(Invariant::Checked, healthy, || {
                format!("{key:?} was healed, and does not become healthy: {standing:?}")
            })?;
        }
        for name in asked {
            let mut mine = self.standings.iter().filter(|(key, _)| key.0 == *name);
            let panics = self.panics.get(name) == Some(&None);
            // Who is not there fails its checks for ever.
            let holds = !panics || mine.any(|(key, it)| is_new(it) || is_nobody(key.1));
            checks.that(Invariant::Panic, holds, || format!("{name} was healed, and panics"))?;
        }
        Ok(())
    }

    /// How many endpoints a service has.
    pub(super) fn members(&self, name: &str) -> usize {
        self.standings.keys().filter(|key| *key.0 == *name).count()
    }
}

/// Every failure that is counted is an answer of the app, where nothing else fails.
fn count_blame(scene: &mut Scene<'_>, trip: Trip, blame: Option<&mut Blame>) -> Check {
    let Some(blame) = blame else { return Ok(()) };
    blame.counted += match trip {
        Trip::Consecutive(failures) => failures,
        Trip::SuccessRate { succeeded, total } => total - succeeded,
        Trip::Probe => 0,
    };
    if !scene.mix.has_only(INNOCENT) {
        return Ok(());
    }
    scene.that(Invariant::Ejected, blame.counted <= blame.failures, || {
        format!("{} failures counted, {} answered", blame.counted, blame.failures)
    })
}

/// Are too few endpoints available?
fn is_short(service: Option<&Service>, available: u32, endpoints: u32) -> bool {
    let share = service.and_then(|service| service.panic).unwrap_or(Service::PANIC);
    f64::from(available) < share * f64::from(endpoints) || available == 0
}

/// Faults that let no request end without a word from who it was sent to.
const CONCLUSIVE: Faults = Faults::of(&[
    Fault::CutRead,
    Fault::AppFails,
    Fault::Splits,
    Fault::Injected,
    Fault::Retries,
    Fault::Weights,
    Fault::Guards,
    Fault::DeadEndpoints,
])
.and(BALANCING)
.and(UNNOTICED);

/// Faults that are nothing against an endpoint: its clients give up, or are slow, or it is.
const INNOCENT: Faults = Faults::of(&[
    Fault::CutRead,
    Fault::CutWrite,
    Fault::SmallPipe,
    Fault::AppFails,
    Fault::AppSlow,
    Fault::AppStuck,
    Fault::AppRefuses,
    Fault::ClientAborts,
    Fault::ClientLeaves,
    Fault::ClientHalfCloses,
    Fault::ClientSlow,
    Fault::ClientStuck,
    Fault::ClientResets,
    Fault::Splits,
    Fault::Injected,
    Fault::Retries,
    Fault::SmallWindows,
    Fault::LateCredit,
    Fault::FewStreams,
    Fault::EngineStalls,
    Fault::Weights,
    Fault::Guards,
    Fault::DeadEndpoints,
])
.and(BALANCING)
.and(UNNOTICED);
