//! Discovery: changes what engines know of services, falls silent, and tells what names stand for.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use selvedge_core::config::Config;
use selvedge_core::engine::Command;
use selvedge_core::error::DnsError;

use crate::choose::pick;
use crate::sim::availability;
use crate::sim::fault::Fault;
use crate::sim::mesh::Grant;
use crate::sim::net::{Answer, Event, HostId, Net};

/// See the [module](self).
pub(in crate::sim) struct Discovery {
    /// The configurations of all engines, at the start; outbound ones come first.
    configs: Vec<Config>,
    outbound: usize,
    /// How many of them are one proxy.
    workers: usize,
    /// What `app.test` may stand for.
    named: Vec<IpAddr>,
}

/// What an engine is told of a name, and for how long.
pub(in crate::sim) type Known = Result<(Vec<IpAddr>, Duration), DnsError>;

impl Discovery {
    pub(in crate::sim) fn new(
        configs: Vec<Config>,
        outbound: usize,
        workers: usize,
        named: Vec<IpAddr>,
    ) -> Self {
        Discovery { configs, outbound, workers, named }
    }

    /// The engines of one of the first proxies, which have so many engines in all.
    fn workers_of_one(&self, net: &mut Net<'_>, engines: usize) -> std::ops::Range<usize> {
        let first = net.choose.below(engines / self.workers) * self.workers;
        first..first + self.workers
    }

    pub(in crate::sim) fn start(&mut self, net: &mut Net<'_>) {
        let wait = net.some(Duration::from_secs(1));
        net.wake(wait, HostId::Discovery, 0, 0);
        if net.mix.meshed && net.hits_once(Fault::Anchors) {
            let wait = net.some(Duration::from_secs(1));
            net.after(wait, Event::Anchors);
        }
        if net.hits_once(Fault::Drain) {
            let wait = net.some(Duration::from_secs(3));
            for engine in self.workers_of_one(net, self.configs.len()) {
                let engine = engine as u16;
                net.after(wait, Event::Command { engine, command: Command::Drain });
            }
        }
    }

    /// Something may have changed.
    pub(in crate::sim) fn woken(&mut self, net: &mut Net<'_>) {
        if net.healed {
            return;
        }
        let mut wait = Duration::from_millis(50) + net.some(Duration::from_millis(1500));
        if net.hits_once(Fault::DiscoverySilent) {
            wait += net.some(Duration::from_secs(10));
        } else {
            let changed = [Fault::Endpoints, Fault::Weights, Fault::Services, Fault::Guards]
                .map(|fault| net.hits_once(fault));
            if changed.contains(&true) {
                self.change(net, changed);
            }
        }
        if net.mix.meshed || net.mix.has(Fault::ClockStep) {
            self.disturb_identities(net);
        }
        net.wake(wait, HostId::Discovery, 0, 0);
    }

    /// Certificates are replaced, and clocks are set.
    fn disturb_identities(&mut self, net: &mut Net<'_>) {
        let engines = self.workers_of_one(net, self.configs.len());
        let engines = || engines.clone().map(|engine| engine as u16);
        if net.mix.meshed && net.hits_once(Fault::Rotation) {
            for engine in engines() {
                let grant = Grant::GOOD;
                net.after(Duration::from_millis(1), Event::Certified { engine, grant });
            }
        }
        if net.hits_once(Fault::ClockStep) {
            let wrong = pick(net.choose, &[0, 5, -5, 90, -90, 90_000, -90_000]);
            for engine in engines() {
                net.after(Duration::from_millis(1), Event::Clock { engine, wrong });
            }
        }
    }

    /// Everybody learns of the next step of a change of anchors; the one after that follows.
    pub(in crate::sim) fn next_anchors(&mut self, net: &mut Net<'_>) {
        if net.healed {
            return;
        }
        net.authority.step += 1;
        let step = net.authority.step;
        net.say(HostId::Discovery, || format!("takes step {step} to other anchors"));
        for engine in 0..self.configs.len() as u16 {
            let wait = net.some(Duration::from_millis(100));
            net.after(wait, Event::Certified { engine, grant: Grant::GOOD });
        }
        // A handshake has ended by then.
        let wait = Duration::from_millis(1500) + net.some(Duration::from_secs(2));
        net.after(wait, Event::Anchors);
    }

    fn change(&mut self, net: &mut Net<'_>, [endpoints, weights, services, guards]: [bool; 4]) {
        let engines = self.workers_of_one(net, self.outbound);
        let mut config = self.configs[engines.start].clone();
        if guards {
            for (index, _) in availability::GUARDED {
                availability::guard_one(net.choose, &mut config.services[index]);
            }
        }
        for service in &mut config.services {
            if endpoints {
                let sure = net.choose.below(service.endpoints.len());
                let mut index = 0;
                service.endpoints.retain(|_| {
                    index += 1;
                    index - 1 == sure || net.choose.flip()
                });
                if net.choose.one_in(16) {
                    service.endpoints.clear();
                }
            }
            if weights {
                for endpoint in &mut service.endpoints {
                    endpoint.weight = pick(net.choose, &[1, 1, 2, 10]);
                }
            }
        }
        if services && net.choose.flip() {
            config.services.truncate(5);
        }
        let config = Arc::new(config);
        for engine in engines {
            net.say(HostId::Discovery, || format!("changes what engine {engine} knows"));
            let wait = net.some(Duration::from_millis(5));
            net.reload(wait, engine as u16, Arc::clone(&config));
        }
    }

    /// Nothing goes wrong any more: everybody knows everything.
    pub(in crate::sim) fn heal(&mut self, net: &mut Net<'_>) {
        for engine in 0..self.outbound {
            let config = Arc::new(self.configs[engine].clone());
            net.reload(Duration::from_millis(1), engine as u16, config);
        }
    }

    /// Nobody is judged any more, so that there is an end to it.
    pub(in crate::sim) fn rest(&mut self, net: &mut Net<'_>) {
        for engine in 0..self.outbound {
            let mut config = self.configs[engine].clone();
            for service in &mut config.services {
                (service.breaker, service.health_check) = (None, None);
            }
            net.reload(Duration::from_millis(1), engine as u16, Arc::new(config));
        }
    }

    /// What the name stands for now.
    pub(in crate::sim) fn answer(&mut self, net: &mut Net<'_>, answer: Answer) -> Known {
        match answer {
            Answer::Fails if !net.healed => {
                Err(pick(net.choose, &[DnsError::Failed, DnsError::NotFound]))
            }
            _ => {
                let moves = net.mix.has(Fault::Endpoints) && !net.healed;
                let sure = net.choose.below(self.named.len());
                let named = self.named.iter().enumerate();
                let keep =
                    |(index, &ip)| (!moves || index == sure || net.choose.flip()).then_some(ip);
                let ips = named.filter_map(keep).collect();
                let ttl = pick(net.choose, &[30, 1, 6]);
                Ok((ips, Duration::from_secs(ttl)))
            }
        }
    }
}
