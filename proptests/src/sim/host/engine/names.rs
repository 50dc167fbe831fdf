//! What an engine asks of discovery, and what it is told.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use selvedge_core::engine::{Command, Input, QueryId};
use selvedge_core::error::DnsError;

use super::EngineHost;
use crate::sim::fault::Fault;
use crate::sim::invariant::{Check, Invariant};
use crate::sim::net::{Answer, Event, HostId, Net};

impl EngineHost {
    pub(super) fn resolve(&mut self, net: &mut Net<'_>, query: QueryId, name: &str) {
        let HostId::Engine(engine) = self.id else { return };
        net.say(self.id, || format!("asks for {name}"));
        if net.hits(Fault::DiscoverySilent) {
            return;
        }
        let fails = net.hits(Fault::DiscoveryFails);
        let answer = if fails { Answer::Fails } else { Answer::Good };
        let wait = if net.mix.has(Fault::ConnectLate) {
            net.some(Duration::from_secs(3))
        } else {
            Duration::from_millis(1)
        };
        net.after(wait, Event::Resolved { engine, query, answer });
    }

    /// Discovery answers.
    pub(in crate::sim) fn resolved(
        &mut self,
        net: &mut Net<'_>,
        query: QueryId,
        answer: Result<(Vec<IpAddr>, Duration), DnsError>,
    ) -> Check {
        net.say(self.id, || format!("is told {answer:?}"));
        let failed = answer.is_err();
        let before = if failed { self.endpoints() } else { Vec::new() };
        if let Ok((ips, _)) = &answer {
            self.names.insert(query, ips.clone());
        }
        self.will_change(net);
        self.engine.handle_input(net.now, Input::Resolved { query, result: answer });
        self.settle(net)?;
        let config = Arc::clone(&self.config);
        self.has_changed(net, Some(&config))?;
        if failed {
            let after = self.endpoints();
            net.checks.that(Invariant::LastKnown, before == after, || {
                format!("without an answer {before:?} has become {after:?}")
            })?;
        }
        self.arm(net);
        Ok(())
    }

    pub(super) fn endpoints(&self) -> Vec<SocketAddr> {
        let services = self.engine.snapshot().services;
        services
            .iter()
            .flat_map(|service| &service.endpoints)
            .map(|endpoint| endpoint.addr)
            .collect()
    }

    /// The operator wants something.
    pub(in crate::sim) fn command(&mut self, net: &mut Net<'_>, command: Command) -> Check {
        self.will_change(net);
        let before = Arc::clone(&self.config);
        match &command {
            Command::Reload(config) => {
                net.say(self.id, || "is given another configuration".to_owned());
                self.config = Arc::clone(config);
                if let HostId::Engine(engine) = self.id {
                    net.model.shares.reload(usize::from(engine), config);
                }
            }
            Command::Drain => {
                net.say(self.id, || "is told to drain".to_owned());
                self.draining = true;
            }
        }
        // What is under way is for the configuration before.
        self.settle(net)?;
        self.engine.handle_input(net.now, Input::Command(command));
        self.settle(net)?;
        self.has_changed(net, Some(&before))?;
        self.check(net)?;
        self.arm(net);
        Ok(())
    }
}
