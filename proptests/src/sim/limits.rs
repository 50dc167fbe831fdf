//! How much services and ports take: rates, requests in flight, and those that wait for their turn.
//! What may come of what they are told.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use selvedge_core::config::Config;
use selvedge_core::engine::{GateGauge, Guarded};
use selvedge_core::error::Reason;
use selvedge_core::policy::Concurrency;
use selvedge_core::policy::rate::{Client, Override, RateLimit};
use selvedge_core::time::Time;

use super::fault::{Fault, Faults};
use super::invariant::{Check, Checks, Invariant};
use super::mesh::outbound_name;
use super::mix::{BALANCING, LIMITS, Mix, UNNOTICED, UNSHAKEN};
use super::model::Sent;
use super::topology::outbound_ip;

/// Services that may be limited: the first ones.
pub(super) const LIMITED: usize = 3;

/// Faults that let it be told when a request is where.
const TIMED: Faults =
    Faults::of(&[Fault::AppSlow, Fault::AppFails, Fault::Splits, Fault::Injected])
        .and(UNNOTICED)
        .and(BALANCING)
        .and(LIMITS);

/// Is nothing sent twice, nor given up?
pub(super) fn is_exact(mix: &Mix) -> bool {
    mix.has_only(UNSHAKEN) && !mix.has_any(Faults::of(&[Fault::Retries, Fault::TryTimeouts]))
}

/// How long a request may be on its way to where it is counted, if that is known.
fn transit(mix: &Mix) -> Option<Duration> {
    let known = mix.has_only(TIMED) && mix.largest <= 5000 && !mix.redirects;
    known.then(|| mix.slack() + Duration::from_nanos(24 * mix.latency))
}

/// Faults that keep no request between its coming to an inbound engine and its gates, nor, behind
/// these, from its app.
const NEAR: Faults = TIMED.and(Faults::of(&[
    Fault::DeadEndpoints,
    Fault::Weights,
    Fault::SmallWindows,
    Fault::LateCredit,
]));

/// How long a request that is through the gate of a port is on its way to the app at most: there may
/// be no connection yet. Known only where nothing is sent twice.
fn last_hop(mix: &Mix) -> Option<Duration> {
    (is_exact(mix) && mix.has_only(NEAR)).then(|| Duration::from_nanos(8 * mix.latency))
}

/// What limits there are, and what came by them.
#[derive(Debug, Default)]
pub(super) struct Limits {
    /// Of an outbound engine, whatever its requests are for.
    all: Concurrency,
    services: Vec<(String, Concurrency)>,
    /// By app.
    ports: Vec<Option<Port>>,
    /// Those who may have waited at a gate: which, when they came, and when they were through.
    passed: Vec<(Gate, Time, Time)>,
}

#[derive(Debug)]
struct Port {
    addr: SocketAddr,
    rate: Option<RateLimit>,
    concurrency: Concurrency,
    /// First attempts that came to the app, and when the last of them was sent.
    came: u32,
    last: Time,
    /// What is in the bucket of all clients, and of each; when that was.
    all: Bucket,
    clients: Vec<Bucket>,
}

/// A gate: of an engine, of a service of one, or of the port of an app, of the engine before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Gate {
    Engine(u16),
    Service(u16, usize),
    Port(u16, usize),
}

/// Who refuses a request because there are too many.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Refuser<'a> {
    /// An outbound engine, whatever the request is for: it has so many tunnels, too.
    Proxy(u16, usize),
    /// … for this service.
    Service(u16, &'a str),
    /// This inbound engine, at this address: so many checks of health are there, too.
    Port(u16, IpAddr, usize),
}

/// An inbound engine, at its address, refuses a request of this peer.
#[derive(Debug)]
pub(super) struct Refusal {
    pub(super) engine: u16,
    pub(super) ip: IpAddr,
    pub(super) peer: IpAddr,
    pub(super) reason: Reason,
    /// When the checks of health began that came to it.
    pub(super) looks: Vec<Time>,
}

/// What came, and has not run out since.
#[derive(Clone, Copy, Debug, Default)]
struct Bucket {
    level: f64,
    at: Time,
}

impl Bucket {
    /// One more comes, of a bucket that so many a second run out of.
    fn add(&mut self, rps: f64, now: Time) -> f64 {
        self.level = self.level_at(rps, now) + 1.0;
        self.at = now;
        self.level
    }

    fn level_at(&self, rps: f64, now: Time) -> f64 {
        let out = now.saturating_since(self.at).as_secs_f64() * rps;
        (self.level - out).max(0.0)
    }
}

fn gated(concurrency: &Concurrency) -> bool {
    concurrency.max_in_flight.is_some() || concurrency.adaptive.is_some()
}

/// Where nobody waits, everybody is through at once.
fn queues(concurrency: &Concurrency) -> bool {
    gated(concurrency) && concurrency.max_queue > 0
}

/// The most that the gates of a proxy let through, where it is one of so many workers that has them.
fn most(concurrency: &Concurrency, workers: u32) -> u32 {
    let adaptive = concurrency.adaptive.as_ref().map(|it| it.max.max(it.min));
    let all = concurrency.max_in_flight.unwrap_or(u32::MAX).min(adaptive.unwrap_or(u32::MAX));
    all.div_ceil(workers)
}

/// The least that such a gate lets through.
fn least(concurrency: &Concurrency, workers: u32) -> u32 {
    let adaptive = concurrency.adaptive.as_ref().map(|it| it.min);
    let all = concurrency.max_in_flight.unwrap_or(u32::MAX).min(adaptive.unwrap_or(u32::MAX));
    all.div_ceil(workers)
}

impl Limits {
    /// Those of the services of outbound engines, and of the ports of `apps`.
    pub(super) fn new(
        outbound: &Config,
        inbound: &[(IpAddr, Config)],
        apps: impl Iterator<Item = SocketAddr>,
    ) -> Self {
        let limited = outbound.services.iter().take(LIMITED);
        let services = limited.map(|it| (it.name.to_string(), it.concurrency.clone())).collect();
        let port = |addr: SocketAddr| {
            let (_, config) = inbound.iter().find(|(ip, _)| *ip == addr.ip())?;
            let port = config.inbound.iter().find(|port| port.port == addr.port())?;
            Some(Port {
                addr,
                rate: port.rate_limit.clone(),
                concurrency: port.concurrency.clone(),
                came: 0,
                last: Time::ZERO,
                all: Bucket::default(),
                clients: vec![Bucket::default(); 2],
            })
        };
        let all = outbound.concurrency.clone();
        Limits { all, services, ports: apps.map(port).collect(), passed: Vec::new() }
    }

    /// A request is at an app: had it to wait so long, and is it not one too many?
    pub(super) fn came(
        &mut self,
        checks: &mut Checks,
        mix: &Mix,
        requests: &[Sent],
        [id, app]: [usize; 2],
        [settled, shared]: [bool; 2],
        now: Time,
    ) -> Check {
        if !mix.has_any(LIMITS) {
            return Ok(());
        }
        let sent = &requests[id];
        if sent.attempts == 1 {
            self.check_rate(checks, mix, sent, app, now)?;
        }
        if !is_exact(mix) {
            return Ok(());
        }
        let here = |other: &&Sent| other.serving == Some(app as u16);
        if let Some(port) = &self.ports[app] {
            // All the workers of a proxy bring requests there.
            let most = most(&port.concurrency, mix.workers).saturating_mul(mix.workers);
            let at_app = requests.iter().filter(here).count();
            checks.that(Invariant::Bounded, at_app <= most as usize, || {
                format!("app {app} has {at_app} requests at once, and {most} are allowed")
            })?;
        }
        let service = self.service_of(sent).filter(|_| !shared);
        if let Some(index) = service {
            let (name, concurrency) = &self.services[index];
            let through = under_way(requests, sent, None).count();
            let most = most(concurrency, mix.workers);
            checks.that(Invariant::Bounded, through <= most as usize, || {
                format!("{through} requests are under way for {name}, and {most} are allowed")
            })?;
        }
        if let Some(engine) = sent.engine {
            let mine = |other: &&Sent| other.serving.is_some() && other.engine == Some(engine);
            let most = most(&self.all, mix.workers);
            let through = requests.iter().filter(mine).count();
            checks.that(Invariant::Bounded, through <= most as usize, || {
                format!("{through} requests of engine {engine} are under way, of {most}")
            })?;
        }
        self.take_turn_at_port(checks, mix, sent, app, now)?;
        if !settled || shared || !(sent.stream || sent.alone) {
            return Ok(());
        }
        self.check_turn(checks, mix, sent, app, now)
    }

    /// May a request wait before this app, after its endpoint was chosen?
    pub(super) fn delays(&self, app: u16) -> bool {
        let port = self.ports.get(usize::from(app)).and_then(Option::as_ref);
        port.is_some_and(|port| queues(&port.concurrency))
    }

    fn service_of(&self, sent: &Sent) -> Option<usize> {
        sent.engine?;
        let name = sent.request.authority.as_deref()?;
        self.services.iter().position(|service| service.0 == name)
    }

    /// At the gates of outbound engines who comes first is first through, and nobody waits longer than
    /// these and that of the port say.
    fn check_turn(
        &mut self,
        checks: &mut Checks,
        mix: &Mix,
        sent: &Sent,
        app: usize,
        now: Time,
    ) -> Check {
        let (Some(fed), Some(transit)) = (sent.fed, transit(mix)) else { return Ok(()) };
        let service = self
            .service_of(sent)
            .zip(sent.engine)
            .map(|(index, engine)| (Gate::Service(engine, index), &self.services[index].1));
        let port = self.ports[app].as_ref().map(|port| (Gate::Port(0, app), &port.concurrency));
        let all = sent.engine.map(|engine| (Gate::Engine(engine), &self.all));
        let [all, service, port] =
            [all, service, port].map(|gate| gate.filter(|(_, it)| queues(it)));
        let waits = [all, service, port].map(|gate| gate.map(|(_, it)| it.queue_timeout));
        let due = waits.into_iter().flatten().fold(fed + transit, |due, wait| due + wait);
        checks.that(Invariant::Bounded, now <= due, || {
            format!("a request is through at {now:?}, and was to wait until {due:?} at most")
        })?;
        // When it was through the one, and came to the other. Of one behind the other that is known
        // only where it could be read on its way.
        let ((Some((gate, _)), None) | (None, Some((gate, _)))) = (all, service) else {
            return Ok(());
        };
        let through = match (port, sent.between) {
            (None, _) => now,
            (Some(_), Some((between, _))) => between,
            (Some(_), None) => return Ok(()),
        };
        self.take_turn(checks, gate, [fed, through], [transit; 2])
    }

    /// At the gate of a port, too: when a request comes to that, and of which worker, is read on its
    /// way. There is nothing to wait for before it.
    fn take_turn_at_port(
        &mut self,
        checks: &mut Checks,
        mix: &Mix,
        sent: &Sent,
        app: usize,
        now: Time,
    ) -> Check {
        let queues = self.ports[app].as_ref().is_some_and(|port| queues(&port.concurrency));
        let (Some((came, engine)), Some(last), true) = (sent.between, last_hop(mix), queues) else {
            return Ok(());
        };
        let gate = Gate::Port(engine, app);
        self.take_turn(checks, gate, [came, now], [Duration::ZERO, last])
    }

    /// A request that came to a gate then is through: before those that came after it. It may have been
    /// on its way to the gate for so long, and behind it.
    fn take_turn(
        &mut self,
        checks: &mut Checks,
        gate: Gate,
        [came, through]: [Time; 2],
        [before, behind]: [Duration; 2],
    ) -> Check {
        let overtaken = self.passed.iter().find(|&&(other, later, sooner)| {
            other == gate && later > came + before && sooner + behind < through
        });
        checks.that(Invariant::Bounded, overtaken.is_none(), || {
            format!("who came to {gate:?} at {came:?} is through at {through:?}, {overtaken:?}")
        })?;
        self.passed.push((gate, came, through));
        Ok(())
    }

    fn check_rate(
        &mut self,
        checks: &mut Checks,
        mix: &Mix,
        sent: &Sent,
        app: usize,
        now: Time,
    ) -> Check {
        let Some(port) = &mut self.ports[app] else { return Ok(()) };
        let Some(rate) = &port.rate else { return Ok(()) };
        port.came += 1;
        // What was sent before may come later.
        port.last = port.last.max(now);
        let elapsed = port.last.saturating_since(Time::ZERO).as_secs_f64();
        if let Some(rps) = rate.total {
            let most = f64::from(rps).mul_add(elapsed, f64::from(rps));
            checks.that(Invariant::Admitted, f64::from(port.came) <= most + 1e-6, || {
                format!("{} requests came to app {app} until {now:?}, of {rps} a second", port.came)
            })?;
        }
        // Of those that waited, some come together.
        let wait =
            if gated(&port.concurrency) { port.concurrency.queue_timeout } else { Duration::ZERO };
        let Some(transit) = transit(mix).filter(|_| is_exact(mix)) else { return Ok(()) };
        let late = (transit + wait).as_secs_f64();
        let fits =
            |level: f64, rps: u32| level <= f64::from(rps).mul_add(late, f64::from(rps)) + 1e-6;
        if let Some(rps) = rate.total {
            let level = port.all.add(rps.into(), now);
            checks.that(Invariant::Admitted, fits(level, rps), || {
                format!("{level} requests too soon at app {app}, of {rps} a second")
            })?;
        }
        // The workers of a proxy are one client.
        let client = sent.engine.map(|engine| engine / mix.workers as u16);
        if let (Some(engine), Some(rps)) = (client, client.and_then(|it| own(rate, mix, it))) {
            let level = port.clients[usize::from(engine)].add(rps.into(), now);
            checks.that(Invariant::Admitted, fits(level, rps), || {
                format!(
                    "{level} requests of engine {engine} too soon at app {app}, of {rps} a second"
                )
            })?;
        }
        Ok(())
    }

    /// An engine refuses a request because too many are in flight: there are as many as may be, and as
    /// many wait as may.
    pub(super) fn turned_away(
        &self,
        checks: &mut Checks,
        mix: &Mix,
        requests: &[Sent],
        at: Refuser<'_>,
        is_for: impl Fn(&Sent, &str) -> bool,
    ) -> Check {
        if !is_exact(mix) {
            return Ok(());
        }
        let open = requests.iter().filter(|sent| sent.fed.is_some() && sent.over.is_none());
        let of = |engine| move |sent: &&Sent| sent.engine.is_none_or(|it| it == engine);
        let (concurrency, here) = match at {
            Refuser::Proxy(engine, tunnels) => {
                (&self.all, open.filter(of(engine)).count() + tunnels)
            }
            Refuser::Service(engine, name) => {
                let service = self.services.iter().find(|service| service.0 == name);
                let Some((_, concurrency)) = service else { return Ok(()) };
                (concurrency, open.filter(of(engine)).filter(|sent| is_for(sent, name)).count())
            }
            Refuser::Port(engine, ip, checks) => {
                let Some((app, port)) = self.port_at(ip) else { return Ok(()) };
                let may = |sent: &&Sent| {
                    let elsewhere = sent.serving.is_some_and(|it| usize::from(it) != app);
                    sent.apps >> app & 1 == 1 && !elsewhere && came_to(sent, engine).is_some()
                };
                (&port.concurrency, open.filter(may).count() + checks)
            }
        };
        let least = least(concurrency, mix.workers);
        let queue = concurrency.max_queue.div_ceil(mix.workers);
        // And this one.
        let full = here as u64 > u64::from(least) + u64::from(queue);
        checks.that(Invariant::Bounded, full, || {
            format!("one of {here} requests is refused at {at:?}, where {least} may be in flight")
        })
    }

    /// The app behind the inbound engine at this address, and its port.
    fn port_at(&self, ip: IpAddr) -> Option<(usize, &Port)> {
        let mut ports = self.ports.iter().enumerate();
        ports.find_map(|(app, port)| Some((app, port.as_ref().filter(|it| it.addr.ip() == ip)?)))
    }

    /// An inbound engine refuses a request: has its client sent too many?
    pub(super) fn refused(
        &self,
        checks: &mut Checks,
        mix: &Mix,
        requests: &[Sent],
        refusal: Refusal,
        now: Time,
    ) -> Check {
        let Refusal { engine, ip, peer, reason, looks } = refusal;
        let Some(hop) = last_hop(mix) else { return Ok(()) };
        let client = (0..2).find(|&n| outbound_ip(n) == peer);
        let (Some((app, port)), Some(client)) = (self.port_at(ip), client) else { return Ok(()) };
        let Some(rate) = &port.rate else { return Ok(()) };
        let client = client as u16;
        let (rps, mine) = match reason {
            Reason::RateLimit => (rate.total, false),
            Reason::ClientRateLimit => (own(rate, mix, client), true),
            _ => return Ok(()),
        };
        // Each worker has its share, and lets one through at a time at least.
        let share = f64::from(rps.unwrap_or(u32::MAX)) / f64::from(mix.workers);
        let is_of = |sent: &&Sent| {
            let sender = sent.engine.is_none_or(|it| it / mix.workers as u16 == client);
            sent.apps >> app & 1 == 1 && (sender || !mine)
        };
        let mut came: Vec<Time> =
            requests.iter().filter(is_of).filter_map(|sent| came_to(sent, engine)).collect();
        // Checks come some time after they began.
        let late = if looks.is_empty() { 0.0 } else { 2.0 * hop.as_secs_f64() };
        came.extend(looks);
        came.sort_unstable();
        let mut bucket = Bucket::default();
        for at in came {
            bucket.add(share, at);
        }
        let level = late.mul_add(share, bucket.level_at(share, now));
        checks.that(Invariant::Admitted, level + 1e-6 > share, || {
            format!("engine {engine} refuses at {now:?} ({reason:?}): {level} of {share} a second")
        })
    }

    /// What an engine says of its gates is what they are told.
    pub(super) fn check_gate(checks: &mut Checks, config: &Config, gate: &GateGauge<'_>) -> Check {
        let concurrency = match gate.of {
            Guarded::Worker => Some(&config.concurrency),
            Guarded::Service(name) => {
                let service = config.services.iter().find(|service| *service.name == *name);
                service.map(|service| &service.concurrency)
            }
            Guarded::Port(number) => {
                let port = config.inbound.iter().find(|port| port.port == number);
                port.map(|port| &port.concurrency)
            }
        };
        let Some(concurrency) = concurrency else { return Ok(()) };
        let workers = config.workers;
        checks.that(Invariant::Bounded, gate.in_flight <= most(concurrency, workers), || {
            format!("{gate:?}, and it is told {concurrency:?}")
        })?;
        let queue = concurrency.max_queue.div_ceil(workers) as usize;
        let queued = if gated(concurrency) { queue } else { 0 };
        checks.that(Invariant::Bounded, gate.queued <= queued, || {
            format!("{gate:?}, and it is told {concurrency:?}")
        })?;
        let within = match (&concurrency.adaptive, gate.adaptive_limit) {
            (Some(bounds), Some(limit)) => {
                let [min, max] = [bounds.min, bounds.max].map(|all| all.div_ceil(workers));
                (min..=max.max(min)).contains(&limit)
            }
            (bounds, limit) => bounds.is_some() == limit.is_some(),
        };
        checks.that(Invariant::Bounded, within, || {
            format!("{gate:?}, and it is told {concurrency:?}")
        })
    }
}

/// When a request came to this inbound engine, if it did.
fn came_to(sent: &Sent, engine: u16) -> Option<Time> {
    sent.between.filter(|between| between.1 == engine).map(|between| between.0)
}

/// The requests that are at an app, or at this one, of the same service and engine as `like`.
pub(super) fn under_way<'a>(
    requests: &'a [Sent],
    like: &'a Sent,
    app: Option<u16>,
) -> impl Iterator<Item = &'a Sent> {
    requests.iter().filter(move |other| {
        let there = if app.is_some() { other.serving == app } else { other.serving.is_some() };
        there
            && other.engine == like.engine
            && other.request.authority == like.request.authority
            && other.route == like.route
    })
}

/// What an engine may send of its own, by a rate limit.
fn own(rate: &RateLimit, mix: &Mix, engine: u16) -> Option<u32> {
    let name = outbound_name(usize::from(engine));
    let addr = outbound_ip(usize::from(engine));
    let client = Client { identity: mix.meshed.then_some(&name), addr };
    let mine = |own: &&Override| own.clients.iter().any(|one| one.matches(client));
    rate.overrides.iter().find(mine).map(|own| own.rps).or(rate.per_client)
}
