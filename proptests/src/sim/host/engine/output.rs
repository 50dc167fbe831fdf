//! What an engine wants done.

use std::net::{IpAddr, SocketAddr};

use selvedge_core::config::Target;
use selvedge_core::engine::{CloseKind, ConnId, Direction, Event as Told, Output};
use selvedge_core::error::Reason;
use selvedge_core::identity::Name;
use selvedge_core::stats::Decision;
use selvedge_core::time::Time;

use super::socket::Socket;
use super::{EngineHost, ROUNDS};
use crate::sim::fault::Fault;
use crate::sim::invariant::{Check, Invariant, violated};
use crate::sim::limits::{Refusal, Refuser};
use crate::sim::link::{FAR, NEAR};
use crate::sim::model::Sent;
use crate::sim::net::{HostId, Net};
use crate::sim::policy::RouteModel;
use crate::sim::topology::MIRROR;

impl EngineHost {
    /// Ends the turn and does what comes out, until nothing more does.
    pub(super) fn settle(&mut self, net: &mut Net<'_>) -> Check {
        let mut rounds = 0;
        let mut told = true;
        net.tick += 1;
        while told {
            self.engine.end_turn(net.now);
            told = false;
            while let Some(output) = self.engine.poll_output() {
                net.coverage.output(&output);
                told |= self.perform(net, output)?;
            }
            rounds += 1;
            if rounds > ROUNDS {
                return Err(violated(Invariant::Progress, "a turn does not end"));
            }
        }
        net.checks.counts[Invariant::Hostile as usize] += 1;
        for conn in std::mem::take(&mut self.broken) {
            let gone = self.socket(conn).is_none();
            net.checks.that(Invariant::Drains, gone, || {
                format!("{:?} {conn:?} broke and is still there", self.id)
            })?;
        }
        self.check_gates(net)?;
        if self.judged {
            self.check_judged(net)?;
        }
        self.check_buffers(net)
    }

    pub(super) fn perform(
        &mut self,
        net: &mut Net<'_>,
        output: Output,
    ) -> Result<bool, Box<crate::sim::Violation>> {
        match output {
            Output::Flush(conn) => {
                net.trace.hash.word(conn.index() as u64);
                let id = self.id;
                let Some(socket) = self.socket(conn).filter(|socket| !socket.connecting) else {
                    let message = format!("{id} flushes {conn:?}, which is not there");
                    return Err(violated(Invariant::Credit, message));
                };
                net.checks.that(Invariant::Bodies, !socket.fin_sent, || {
                    format!("{id} writes to {conn:?} after its end")
                })?;
                socket.flush = true;
                return Ok(self.flush(net, conn));
            }
            Output::ReadReady(conn) => {
                net.trace.hash.word(conn.index() as u64 | 1 << 32);
                // It may have been paused again in the same turn.
                let budget = self.engine.read_budget(conn);
                if let Some(socket) = self.socket(conn) {
                    socket.paused = budget == 0;
                }
                net.checks.counts[Invariant::Credit as usize] += 1;
                self.queue(net, conn);
            }
            Output::Connect { conn, addr } => self.connect(net, conn, addr)?,
            Output::Close { conn, how } => self.close(net, conn, how)?,
            Output::Resolve { query, name } => self.resolve(net, query, &name),
            Output::Certify => self.certify(net),
            Output::Event(event) => {
                net.say(self.id, || format!("says {event:?}"));
                if let Some(heard) = &mut self.heard {
                    heard.push_back(event.clone());
                }
                self.hear(net, &event)?;
                // What a mirror says is nobody's concern.
                if let Told::Violation { violation, peer, .. } = event
                    && peer != MIRROR
                {
                    net.model.accuse(&mut net.checks, &net.mix, violation)?;
                }
                if let HostId::Engine(engine) = self.id {
                    net.model.shares.hear(usize::from(engine), &event, net.now);
                }
                if let Told::Refused { peer, reason, service, .. } = &event {
                    self.check_refusal(net, peer.ip(), *reason, service.as_deref())?;
                }
                if let Told::Retry { service, nth, decision: Decision::Retried, .. } = &event {
                    self.check_retry(net, service, *nth)?;
                }
                if let Told::TlsEstablished {
                    direction: Direction::Outbound, peer, session, ..
                } = &event
                {
                    self.check_peer(net, *peer, session.identity.as_ref())?;
                }
                if event == Told::Drained {
                    self.drained += 1;
                    let accepted = self.engine.gauges().accepted;
                    net.checks.that(
                        Invariant::Drains,
                        self.drained == 1 && accepted == 0,
                        || format!("drained {} times, with {accepted} connections", self.drained),
                    )?;
                }
            }
        }
        Ok(false)
    }

    /// It has a session with an endpoint: is that who it is said to be?
    fn check_peer(&self, net: &mut Net<'_>, addr: SocketAddr, is: Option<&Name>) -> Check {
        let endpoints = self.config.services.iter().flat_map(|service| &service.endpoints);
        let here = endpoints.filter(|endpoint| endpoint.target == Target::Addr(addr));
        let mut meant = here.filter_map(|endpoint| endpoint.mesh.as_ref()).peekable();
        let known = meant.peek().is_some();
        let is_one = meant.any(|mesh| Some(&mesh.identity) == is);
        net.checks.that(Invariant::Identified, is_one || !known, || {
            format!("{} takes {is:?} for the endpoint at {addr}", self.id)
        })
    }

    /// It refuses a request: for a reason?
    fn check_refusal(
        &self,
        net: &mut Net<'_>,
        peer: IpAddr,
        reason: Reason,
        service: Option<&str>,
    ) -> Check {
        let (now, limits, requests) = (net.now, &net.model.limits, &net.model.requests);
        let HostId::Engine(engine) = self.id else { return Ok(()) };
        let looks = || net.links.iter().filter(|it| it.is_check && it.ends[FAR].host == self.id);
        let looks = looks().map(|link| link.since).collect();
        let refusal = Refusal { engine, ip: self.ip, peer, reason, looks };
        limits.refused(&mut net.checks, &net.mix, requests, refusal, now)?;
        let at = match (reason, service) {
            (Reason::PortBusy | Reason::PortQueueFull, _) => {
                Refuser::Port(engine, self.ip, self.looks(net))
            }
            (Reason::ServiceBusy | Reason::ServiceQueueFull, Some(name)) => {
                Refuser::Service(engine, name)
            }
            (Reason::ProxyBusy | Reason::ProxyQueueFull, _) => {
                Refuser::Proxy(engine, self.tunnels(net))
            }
            _ => return Ok(()),
        };
        let Net { model, checks, mix, .. } = net;
        let (limits, requests) = (&model.limits, &model.requests);
        let is_for = |sent: &Sent, name: &str| {
            let split = sent.route.map(|route| model.routes[route].route.split.backends());
            sent.request.authority.as_deref() == Some(name)
                || split.is_some_and(|to| to.iter().any(|to| *to.service == *name))
        };
        limits.turned_away(checks, mix, requests, at, is_for)
    }

    /// Connections over which engines check how the app does.
    fn looks(&self, net: &Net<'_>) -> usize {
        let sockets = self.sockets.iter().flatten();
        let here = sockets.filter(|it| it.side == FAR && net.links[it.link as usize].is_check);
        here.count()
    }

    /// Connections of clients that have asked nothing: streams of bytes, perhaps.
    fn tunnels(&self, net: &Net<'_>) -> usize {
        let silent = |socket: &&Socket| match net.links[socket.link as usize].ends[NEAR].host {
            HostId::Client(client) if socket.side == FAR => {
                !net.model.requests.iter().any(|sent| sent.client == client)
            }
            _ => false,
        };
        self.sockets.iter().flatten().filter(silent).count()
    }

    /// It sends a request for this service again, for the `nth` time.
    fn check_retry(&mut self, net: &mut Net<'_>, service: &str, nth: u32) -> Check {
        let of =
            |route: &&RouteModel| *route.route.service == *service && route.route.retry.is_some();
        let Some(route) = net.model.routes.iter().find(of) else {
            return Err(violated(Invariant::Budget, format!("a retry for {service}")));
        };
        let times = self.retries.entry(service.to_owned()).or_default();
        times.push_back(net.now);
        let HostId::Engine(engine) = self.id else { return Ok(()) };
        let began = net.now.saturating_since(Time::ZERO).saturating_sub(route.window());
        let began = Time::ZERO + began;
        while times.front().is_some_and(|&at| at <= began && at < net.now) {
            times.pop_front();
        }
        let firsts = net.model.firsts(service, engine, began);
        let (workers, counts) = (net.mix.workers, [times.len(), firsts]);
        route.check_retry(&mut net.checks, workers, counts, nth, net.now)
    }

    pub(super) fn connect(&mut self, net: &mut Net<'_>, conn: ConnId, addr: SocketAddr) -> Check {
        net.trace.hash.word(u64::from(addr.port()) | 2 << 32);
        let known = self.is_target(addr);
        net.checks.that(Invariant::Load, known, || {
            format!("{} connects to {addr}, which is no target", self.id)
        })?;
        let link = net.connect(self.id, conn.index() as u32, addr, None);
        net.say(self.id, || format!("{conn:?} connects to {addr} over l{link}"));
        net.links[link as usize].ends[NEAR].conn = Some(conn);
        if self.is_meshed(addr) {
            net.links[link as usize].records = Some(Box::default());
        }
        let is_check = self.engine.is_check(conn);
        net.links[link as usize].is_check = is_check;
        let check = if is_check { Some(self.begins_check(net, addr)?) } else { None };
        self.insert(conn, link, NEAR)?;
        if let Some(socket) = self.socket(conn) {
            socket.check = check;
        }
        Ok(())
    }

    /// May it connect here now?
    pub(super) fn is_target(&self, addr: SocketAddr) -> bool {
        let config = &self.config;
        config.app == Some(addr)
            || self.originals.contains(&addr)
            || self.is_own_port(addr)
            || config.services.iter().flat_map(|service| &service.endpoints).any(|endpoint| {
                match &endpoint.target {
                    Target::Addr(target) => *target == addr,
                    Target::Name { port, .. } => {
                        let mut ips = self.names.values().flatten();
                        *port == addr.port() && ips.any(|&ip| ip == addr.ip())
                    }
                }
            })
    }

    /// Is this another port of the app, which a transport header may name?
    fn is_own_port(&self, addr: SocketAddr) -> bool {
        let config = &self.config;
        config.identity.is_some() && config.app.is_some() && addr.ip() == self.ip
    }

    /// Is this an endpoint that is spoken to in TLS only?
    fn is_meshed(&self, addr: SocketAddr) -> bool {
        let mut endpoints = self.config.services.iter().flat_map(|service| &service.endpoints);
        endpoints.any(|endpoint| endpoint.mesh.is_some() && endpoint.target == Target::Addr(addr))
    }

    pub(super) fn close(&mut self, net: &mut Net<'_>, conn: ConnId, how: CloseKind) -> Check {
        net.trace.hash.word(conn.index() as u64 | (how as u64 + 3) << 32);
        let id = self.id;
        let Some(socket) = self.socket(conn) else {
            let message = format!("{id} closes {conn:?} ({how:?}), which is not open");
            return Err(violated(Invariant::Drains, message));
        };
        let (link, side, connecting) = (socket.link, socket.side, socket.connecting);
        let check = socket.check;
        let written = !socket.flush && !connecting;
        let twice = how == CloseKind::Half && std::mem::replace(&mut socket.fin_sent, true);
        net.say(id, || format!("{conn:?} is closed: {how:?}"));
        net.checks.that(Invariant::Bodies, how == CloseKind::Abort || written, || {
            format!("{id} closes {conn:?} ({how:?}) before everything is written")
        })?;
        net.checks.that(Invariant::Drains, !twice, || format!("{id} ends {conn:?} twice"))?;
        if how == CloseKind::Half {
            net.fin(link, side);
            return Ok(());
        }
        net.coverage.pipes[5] += u64::from(!socket.pipe.is_empty());
        self.sockets[conn.index()] = None;
        self.bury(conn);
        if let Some(timeout) = check {
            let since = net.links[link as usize].since;
            self.check_ends(net, since, timeout)?;
        }
        if connecting {
            net.links[link as usize].ends[NEAR].closed = true;
            let since = net.links[link as usize].since;
            return if check.is_some() { Ok(()) } else { self.check_connect(net, since) };
        }
        match how {
            CloseKind::Abort => {
                let hard = net.mix.has(Fault::LinkReset) && net.choose.flip();
                net.reset(link, side, hard);
            }
            _ => net.close(link, side),
        }
        Ok(())
    }

    /// A connect was given up: not later than its deadline.
    pub(super) fn check_connect(&self, net: &mut Net<'_>, since: Time) -> Check {
        let due = since + self.config.timeouts.connect + net.mix.slack();
        net.checks.that(Invariant::Deadlines, net.now <= due, || {
            format!("{} gives up a connect at {:?} that was due at {due:?}", self.id, net.now)
        })
    }

    pub(super) fn bury(&mut self, conn: ConnId) {
        self.dead.push_back(conn);
        if self.dead.len() > 8 {
            self.dead.pop_front();
        }
    }
}
