//! Everything at once: hosts, links and time.

use std::net::SocketAddr;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;

use selvedge_core::error::ConnectError;
use selvedge_core::time::Time;

use super::availability::GUARDED;
use super::fault::{Fault, Faults};
use super::host::Host;
use super::host::app::App;
use super::host::client::{Client, Place, Speaks};
use super::host::discovery::Discovery;
use super::host::engine::EngineHost;
use super::host::mirror::Mirror;
use super::invariant::{Check, Invariant, Violation, violated};
use super::link::{Cut, End, FAR, LinkId, LinkState, NEAR};
use super::mix::{LIMITS, Mix, Theme};
use super::model::Ended;
use super::net::{Event, HostId, Net};
use super::policy::Failing;
use super::recut;
use super::report::Report;
use super::splicing::Splicing;
use super::topology::{INBOUND, MIRROR, OUTBOUND, Topology};
use crate::choose::Choose;

/// Faults are over by then.
const FAULTY: Duration = Duration::from_mins(2);
/// How long healing may take: the longest timeouts are an hour.
const HEALING: Duration = Duration::from_hours(3);
/// By then everybody is connected to again, and every backoff of a breaker is over.
const REVIVAL: Duration = Duration::from_secs(30);
/// So many requests show whether an endpoint that is back begins slowly.
const BEGINS: u32 = 100;
/// No run has more events.
const STEPS: u64 = 3_000_000;

/// How large a run is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Scope {
    /// At most so many clients, at least 1.
    pub clients: usize,
    /// At most so many requests of each, at least 1.
    pub requests: usize,
    /// All worlds have these faults, and often.
    pub with: Faults,
    /// What all runs are about, if that is not to be drawn.
    pub theme: Option<Theme>,
    /// The only invariant that is judged, if not all are: whatever else does not hold, it goes on.
    pub only: Option<Invariant>,
}

impl Scope {
    /// What a seed plays.
    pub const SEED: Scope =
        Scope { clients: 10, requests: 47, with: Faults::NONE, theme: None, only: None };
    /// What a fuzzer's input plays.
    pub const SMALL: Scope = Scope { clients: 3, requests: 4, ..Scope::SEED };
}

/// See the [module](self).
pub(super) struct World<'a> {
    pub(super) net: Net<'a>,
    engines: Vec<EngineHost>,
    clients: Vec<Client>,
    apps: Vec<App>,
    mirror: Mirror,
    discovery: Discovery,
    pub(super) steps: u64,
}

impl<'a> World<'a> {
    /// Draws a world: who is there, and what goes wrong.
    pub(super) fn draw(choose: &'a mut dyn Choose, scope: &Scope, shown: bool) -> Self {
        let mut mix = Mix::draw(choose, scope.theme);
        scope.with.iter().for_each(|fault| mix.demand(fault));
        let topology = Topology::draw(choose, &mix);
        let clients = choose.within(1, scope.clients.max(1));
        let clients = (0..clients).map(|index| {
            let place = topology.place(choose, &mix);
            let requests = choose.within(1, scope.requests.max(1));
            Client::new(index as u16, place, requests as u32)
        });
        let clients = clients.collect();
        let mut world = Self::new(choose, mix, &topology, clients, shown);
        world.net.checks.only = scope.only;
        world
    }

    /// One client with one request, and nothing that goes wrong by chance.
    pub(super) fn small(choose: &'a mut dyn Choose, mix: Mix) -> Self {
        let topology = Topology::small(choose, &mix);
        let place = topology.first_place(choose);
        let client = Client::new(0, place, 1);
        Self::new(choose, mix, &topology, vec![client], false)
    }

    fn new(
        choose: &'a mut dyn Choose,
        mut mix: Mix,
        topology: &Topology,
        clients: Vec<Client>,
        shown: bool,
    ) -> Self {
        let seed = choose.below(1 << 16) as u64;
        let splicing = Splicing::draw(seed, &mut mix);
        let mut net = Net::new(choose, mix, topology.model(), shown);
        net.coverage.pipes[splicing.finds as usize] += 1;
        net.splicing = splicing;
        let mut engines = Vec::new();
        let mut configs = Vec::new();
        for (ip, config) in topology.outbound.iter().chain(&topology.inbound) {
            let index = engines.len() as u16;
            let seed = seed * 16 + u64::from(index);
            engines.push(EngineHost::new(index, *ip, config.clone(), seed, net.now));
            configs.push(config.clone());
        }
        if net.mix.has(Fault::SmallLimits) {
            net.coverage.faults[Fault::SmallLimits as usize] += 1;
        }
        if net.mix.has(Fault::ShortTimeouts) {
            net.coverage.faults[Fault::ShortTimeouts as usize] += 1;
        }
        for &fault in &topology.faults {
            net.coverage.faults[fault as usize] += 1;
        }
        net.coverage.themes[net.mix.theme as usize] += 1;
        if net.mix.theme != Theme::Anything {
            net.model.failing = Failing::themed(net.choose, net.mix.theme, topology.apps.len());
        }
        let apps = topology.apps.iter().enumerate();
        let apps = apps.map(|(index, app)| App::new(index as u16, app.addr, app.streams)).collect();
        let workers = net.mix.workers as usize;
        let discovery =
            Discovery::new(configs, topology.outbound.len(), workers, topology.named.clone());
        let mirror = Mirror::new(MIRROR);
        World { net, engines, clients, apps, mirror, discovery, steps: 0 }
    }

    /// Plays it to its end: what did not hold. A panic is a violation, too.
    pub(super) fn play_caught(&mut self) -> Option<Violation> {
        let result = catch_unwind(AssertUnwindSafe(|| self.play()));
        let result = result.unwrap_or_else(|panic| {
            let text = panic.downcast_ref::<String>().cloned();
            let text = text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()));
            let text = text.unwrap_or_default();
            Err(violated(Invariant::Hostile, format!("panic: {text}")))
        });
        result.err().map(|violation| Violation { step: self.steps, ..*violation })
    }

    fn play(&mut self) -> Check {
        for engine in &mut self.engines {
            engine.start(&mut self.net)?;
        }
        for app in &mut self.apps {
            app.start(&mut self.net);
        }
        for client in &mut self.clients {
            client.start(&mut self.net);
        }
        self.discovery.start(&mut self.net);
        self.net.say("world", || self.net.mix.to_string());
        self.net.say("world", || format!("{:?}", self.engines[0].config.limits));
        let until = self.net.now + FAULTY;
        while !self.clients.iter().all(Client::is_done)
            && !self.net.choose.is_exhausted()
            && self.net.peek().is_some_and(|at| at < until)
        {
            self.step()?;
        }
        self.heal()?;
        if self.net.mix.guarded {
            self.revive()?;
        }
        let until = self.net.now + HEALING;
        while !self.is_over() {
            let next = self.net.peek();
            let in_time = next.is_some_and(|at| at < until);
            self.net.checks.counts[Invariant::Drains as usize] += 1;
            if !in_time {
                return Err(violated(Invariant::Drains, self.what_is_left()));
            }
            self.step()?;
        }
        self.check_end()?;
        let recut = recut::check(self.net.choose);
        self.net.checks.result(Invariant::Determinism, recut)
    }

    fn step(&mut self) -> Check {
        self.steps += 1;
        let steps = self.steps;
        self.net
            .checks
            .that(Invariant::Progress, steps < STEPS, || format!("{steps} events, and no end"))?;
        match self.net.next() {
            Some(event) => self.handle(event)?,
            None => return Ok(()),
        }
        match self.net.leak.take() {
            Some(message) => Err(violated(Invariant::Bodies, message)),
            None => Ok(()),
        }
    }

    // ---- What happens ----

    fn handle(&mut self, event: Event) -> Check {
        self.net.trace.hash.word(self.net.now.as_nanos());
        match event {
            Event::Connect(link) => self.answer_connect(link),
            Event::Accept(link) => self.accept(link),
            Event::Deliver { link, from, n } => {
                if self.net.arrive(link, from, n) {
                    self.readable(link, 1 - from)
                } else {
                    Ok(())
                }
            }
            Event::Fin { link, from } => {
                if self.net.arrive_fin(link, from) {
                    self.readable(link, 1 - from)
                } else {
                    Ok(())
                }
            }
            Event::Reset { link, from, hard } => {
                if self.net.arrive_reset(link, from, hard) {
                    self.readable(link, 1 - from)
                } else {
                    Ok(())
                }
            }
            Event::Open { link, from } => {
                if self.net.open(link, from) {
                    self.readable(link, 1 - from)
                } else {
                    Ok(())
                }
            }
            Event::Writable { link, side } => self.writable(link, side),
            Event::Wake { host, slot, token } => self.wake(host, slot, token),
            Event::Resolved { engine, query, answer } => {
                let answer = self.discovery.answer(&mut self.net, answer);
                self.engines[usize::from(engine)].resolved(&mut self.net, query, answer)
            }
            Event::Certified { engine, grant } => {
                self.engines[usize::from(engine)].certified(&mut self.net, grant)
            }
            Event::Clock { engine, wrong } => {
                self.engines[usize::from(engine)].set_clock(&mut self.net, wrong)
            }
            Event::Anchors => {
                self.discovery.next_anchors(&mut self.net);
                Ok(())
            }
            Event::Command { engine, command } => {
                self.engines[usize::from(engine)].command(&mut self.net, command)
            }
        }
    }

    fn host(&mut self, id: HostId) -> Option<(&mut dyn Host, &mut Net<'a>)> {
        let host: &mut dyn Host = match id {
            HostId::Engine(n) => &mut self.engines[usize::from(n)],
            HostId::Client(n) => &mut self.clients[usize::from(n)],
            HostId::App(n) => &mut self.apps[usize::from(n)],
            HostId::Mirror => &mut self.mirror,
            HostId::Discovery => return None,
        };
        Some((host, &mut self.net))
    }

    fn readable(&mut self, link: LinkId, side: usize) -> Check {
        let end = self.net.links[link as usize].ends[side];
        match self.host(end.host) {
            Some((host, net)) if !end.closed => host.readable(net, link, side),
            _ => Ok(()),
        }
    }

    fn writable(&mut self, link: LinkId, side: usize) -> Check {
        let end = self.net.links[link as usize].ends[side];
        match self.host(end.host) {
            Some((host, net)) if !end.closed => host.writable(net, link, side),
            _ => Ok(()),
        }
    }

    fn wake(&mut self, id: HostId, slot: u32, token: u32) -> Check {
        if let Some((host, net)) = self.host(id) {
            return host.woken(net, slot, token);
        }
        self.discovery.woken(&mut self.net);
        Ok(())
    }

    /// A connect is answered: by whoever listens there.
    fn answer_connect(&mut self, link: LinkId) -> Check {
        let found = &self.net.links[link as usize];
        if found.state != LinkState::Connecting {
            return Ok(());
        }
        let (near, to) = (found.ends[NEAR], found.to);
        let far = self.listener(near.host, to);
        let result = match far {
            Some(_) => self.net.connect_result(),
            None => Err(ConnectError::Refused),
        };
        let found = &mut self.net.links[link as usize];
        found.state = if result.is_ok() { LinkState::Open } else { LinkState::Failed };
        if let (Ok(()), Some(host)) = (result, far) {
            let slot = u32::MAX;
            found.ends[FAR] = End::new(host, slot);
            if matches!(host, HostId::Engine(_)) && to.port() == found.to.port() {
                self.redirect(link, host);
            }
            if self.net.hits(Fault::AcceptLate) {
                let wait = self.net.some(Duration::from_millis(200));
                self.net.after(wait, Event::Accept(link));
            } else {
                self.accept(link)?;
            }
            if near.closed {
                self.net.reset(link, NEAR, false);
            }
        }
        match self.host(near.host) {
            Some((host, net)) => host.connected(net, link, result),
            None => Ok(()),
        }
    }

    /// What is sent to a host with an inbound engine comes to that, whatever the port.
    fn redirect(&mut self, link: LinkId, host: HostId) {
        let HostId::Engine(n) = host else { return };
        let config = &self.engines[usize::from(n)].config;
        let link = &mut self.net.links[link as usize];
        let own = config.listeners.iter().any(|listener| listener.addr.port() == link.to.port());
        if !own {
            link.original_dst = Some(link.to);
        }
    }

    /// Who takes connections from `from` to `to`?
    fn listener(&mut self, from: HostId, to: SocketAddr) -> Option<HostId> {
        let here: Vec<_> = self.engines.iter().filter(|engine| engine.ip == to.ip()).collect();
        if !here.is_empty() && here.iter().all(|engine| engine.id != from) {
            // Any worker of a proxy, but none for its own.
            let open: Vec<_> = here.iter().filter(|engine| !engine.draining).collect();
            let one = if open.len() > 1 { self.net.choose.below(open.len()) } else { 0 };
            return open.get(one).map(|engine| engine.id);
        }
        if to == self.mirror.addr {
            return Some(HostId::Mirror);
        }
        let index = self.apps.iter().position(|app| app.addr == to)?;
        (!self.apps[index].down && to.port() != INBOUND).then_some(HostId::App(index as u16))
    }

    fn accept(&mut self, link: LinkId) -> Check {
        let host = self.net.links[link as usize].ends[FAR].host;
        let closed = match host {
            HostId::Engine(n) => self.engines[usize::from(n)].draining,
            HostId::App(n) => self.apps[usize::from(n)].down,
            HostId::Mirror => false,
            _ => true,
        };
        if closed {
            self.net.reset(link, FAR, false);
            return Ok(());
        }
        match self.host(host) {
            Some((host, net)) => host.accepted(net, link),
            None => Ok(()),
        }
    }

    // ---- The end ----

    /// Nothing goes wrong any more.
    fn heal(&mut self) -> Check {
        self.net.healed = true;
        self.net.say("world", || "heals".to_owned());
        let now = self.net.now;
        for id in 0..self.net.links.len() {
            let link = &mut self.net.links[id];
            let waits = link.state == LinkState::Connecting;
            for from in [NEAR, FAR] {
                let pipe = &mut link.pipes[from];
                pipe.trap = None;
                pipe.cap = pipe.cap.max(256 * 1024);
                pipe.pace = 0;
                (pipe.read_cut, pipe.write_cut) = (Cut::Whole, Cut::Whole);
            }
            let id = id as LinkId;
            if waits {
                self.net.at(now, Event::Connect(id));
            }
            for from in [NEAR, FAR] {
                let pipe = &mut self.net.links[id as usize].pipes[from];
                let blocked = std::mem::take(&mut pipe.blocked);
                if pipe.hole {
                    self.net.at(now, Event::Open { link: id, from });
                }
                if blocked {
                    self.net.at(now, Event::Writable { link: id, side: from });
                }
            }
        }
        self.discovery.heal(&mut self.net);
        for app in &mut self.apps {
            app.heal(&mut self.net)?;
        }
        self.mirror.heal(&mut self.net)?;
        for client in &mut self.clients {
            client.heal(&mut self.net)?;
        }
        Ok(())
    }

    /// Everybody who was ejected, or did not pass its checks, is asked again, and is well.
    fn revive(&mut self) -> Check {
        // By then every backoff is over, and every check was made as often as it has to be.
        let until = self.net.now + REVIVAL;
        self.play_until(until, |_| false)?;
        self.net.reviving = true;
        let before = self.clients.len();
        for engine in self.engines.iter().filter(|engine| !engine.draining) {
            let HostId::Engine(via) = engine.id else { continue };
            if usize::from(via) >= self.net.model.watches.len() {
                continue;
            }
            for (service, asks) in GUARDED {
                let Some(name) = engine.config.services.get(service).map(|it| &it.name) else {
                    continue;
                };
                let members = self.net.model.watches[usize::from(via)].members(name);
                let place = Place {
                    to: SocketAddr::new(engine.ip, OUTBOUND),
                    original_dst: None,
                    speaks: Speaks::Http1,
                    apps: 0,
                    asks: Some(asks),
                };
                let index = self.clients.len() as u16;
                // Where who is back gets little at first, that has to be seen.
                let begins = self.net.mix.has(Fault::SlowStarts);
                let requests = if begins { BEGINS } else { 4 * members as u32 + 4 };
                self.clients.push(Client::new(index, place, requests));
            }
        }
        for client in &mut self.clients[before..] {
            client.start(&mut self.net);
        }
        let first = self.net.model.requests.len();
        let until = self.net.now + HEALING;
        self.play_until(until, |world| world.clients.iter().all(Client::is_done))?;
        self.net.reviving = false;
        self.check_revived(first)?;
        self.discovery.rest(&mut self.net);
        Ok(())
    }

    fn play_until(&mut self, until: Time, is_over: impl Fn(&Self) -> bool) -> Check {
        while !is_over(self) && self.net.peek().is_some_and(|at| at < until) {
            self.step()?;
        }
        Ok(())
    }

    /// `first`: the first request that was made after everything was healed.
    fn check_revived(&mut self, first: usize) -> Check {
        // Who drains does not come back, nor do those whose requests are too many.
        let excuses = Faults::of(&[Fault::SmallLimits, Fault::Drain]).and(LIMITS);
        if self.net.mix.has_any(excuses) || self.net.mix.doubts_identities() {
            return Ok(());
        }
        let Net { model, checks, now, .. } = &mut self.net;
        for engine in self.engines.iter().filter(|engine| !engine.draining) {
            let HostId::Engine(via) = engine.id else { continue };
            let Some(watch) = model.watches.get(usize::from(via)) else { continue };
            // Those that are asked themselves, as often as they have endpoints.
            let is_asked = |name: &&Arc<str>| {
                let asked = model.requests[first..].iter().filter(|sent| {
                    let split = sent.route.map(|route| &model.routes[route].route.split);
                    let whole = split.is_none_or(|split| split.backends().is_empty());
                    let named = sent.request.authority.as_deref() == Some(&***name);
                    named && whole && sent.engine == Some(via) && sent.attempts > 0
                });
                asked.count() > watch.members(name)
            };
            let asked: Vec<_> = engine.guarded().filter(is_asked).cloned().collect();
            watch.check_healed(checks, &asked, *now)?;
        }
        Ok(())
    }

    fn is_over(&self) -> bool {
        self.clients.iter().all(Client::is_done)
            && self.engines.iter().all(EngineHost::is_idle)
            && self.apps.iter().all(App::is_done)
            && self.mirror.is_done()
    }

    fn what_is_left(&self) -> String {
        let clients = self.clients.iter().filter(|client| !client.is_done()).count();
        let apps = self.apps.iter().filter(|app| !app.is_done()).count();
        let gauges: Vec<_> = self.engines.iter().map(|engine| engine.engine.gauges()).collect();
        format!("{clients} clients and {apps} apps do not end; {gauges:?}")
    }

    fn check_end(&mut self) -> Check {
        for engine in &mut self.engines {
            engine.check_end(&mut self.net)?;
        }
        let Net { model, checks, .. } = &mut self.net;
        model.shares.check_end(checks)?;
        for route in &model.routes {
            route.check_end(checks)?;
        }
        let requests = &self.net.model.requests;
        let open = requests.iter().position(|sent| sent.ended.is_none());
        self.net
            .checks
            .that(Invariant::EndsOnce, open.is_none(), || format!("request {open:?} does not end"))
    }

    /// What happened.
    pub(super) fn report(&self) -> Report {
        let requests = &self.net.model.requests;
        let count = |how: Ended| requests.iter().filter(|sent| sent.ended == Some(how)).count();
        Report {
            hash: self.net.trace.hash.0,
            runs: 1,
            steps: self.steps,
            nanos: self.net.now.saturating_since(Time::ZERO).as_nanos() as u64,
            links: self.net.links.len() as u64,
            requests: requests.len() as u64,
            reached: requests.iter().filter(|sent| sent.attempts > 0).count() as u64,
            replayed: requests.iter().filter(|sent| sent.attempts > 1).count() as u64,
            answered: count(Ended::Answered) as u64,
            refused: count(Ended::Refused) as u64,
            truncated: count(Ended::Truncated) as u64,
            lost: count(Ended::Lost) as u64,
            given: count(Ended::Given) as u64,
            checks: self.net.checks,
            coverage: self.net.coverage.clone(),
        }
    }
}
