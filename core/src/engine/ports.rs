//! Limits of the app's ports: what each takes of its clients.

use alloc::boxed::Box;
use alloc::format;
use alloc::string::String;

use super::Engine;
use super::contract::Direction;
use super::gate::{Gate, GateOf};
use super::policy::FixedAnswer;
use crate::config::{Config, InboundPort};
use crate::error::Reason;
use crate::policy::Concurrency;
use crate::policy::rate::{Client, Limited, Limiter, RateLimit};
use crate::rng::KeyedState;
use crate::stats::PortSnapshot;

/// A port of the app that has limits.
#[derive(Debug)]
pub(super) struct Port {
    pub(super) number: u16,
    rate: Option<Box<Rated>>,
    pub(super) gate: Gate,
}

/// A rate limit, and what it was made from.
#[derive(Debug)]
struct Rated {
    config: (RateLimit, u32),
    limiter: Limiter,
}

impl Port {
    /// What it lets through.
    pub(super) fn snapshot(&self) -> PortSnapshot {
        PortSnapshot { number: self.number, gate: self.gate.snapshot() }
    }
}

fn is_limited(inbound: &InboundPort) -> bool {
    inbound.rate_limit.is_some() || inbound.concurrency != Concurrency::default()
}

impl Engine {
    /// Makes the limits of ports those of `config`. What was let through counts on, unless its limit
    /// is another.
    pub(super) fn apply_ports(&mut self, config: &Config) {
        let mut old = core::mem::take(&mut self.ports);
        for inbound in config.inbound.iter().filter(|inbound| is_limited(inbound)) {
            let known = old.iter().position(|port| port.number == inbound.port);
            let known = known.map(|at| old.swap_remove(at));
            let (known, mut gate) =
                known.map_or_else(Default::default, |port| (port.rate, port.gate));
            let rate = self.apply_rate(inbound, config.workers, known);
            gate.configure(&inbound.concurrency, config.workers, self.now);
            self.opens(GateOf::Port(inbound.port));
            self.ports.push(Port { number: inbound.port, rate, gate });
        }
        // Those that have no limits any more go with the last request that they counted.
        for Port { number, mut gate, .. } in old.into_iter().filter(|port| !port.gate.is_idle()) {
            gate.configure(&Concurrency::default(), config.workers, self.now);
            self.opens(GateOf::Port(number));
            self.ports.push(Port { number, rate: None, gate });
        }
    }

    fn apply_rate(
        &mut self,
        inbound: &InboundPort,
        workers: u32,
        known: Option<Box<Rated>>,
    ) -> Option<Box<Rated>> {
        let config = (inbound.rate_limit.clone()?, workers);
        let known = known.filter(|known| known.config == config);
        Some(known.unwrap_or_else(|| {
            let keys = KeyedState::new(&mut self.rng);
            let thin = canary!(ThinRate) && workers > 1;
            let limiter = Limiter::new(&config.0, workers << u32::from(thin), keys);
            Box::new(Rated { config, limiter })
        }))
    }

    pub(super) fn port_gate(&mut self, number: u16) -> Option<&mut Gate> {
        self.ports.iter_mut().find(|port| port.number == number).map(|port| &mut port.gate)
    }

    /// Does this connection's client send faster than the port takes? If so: what it is told.
    #[inline]
    pub(super) fn limit_rate(&mut self, index: u32) -> Option<FixedAnswer> {
        if self.ports.is_empty() { None } else { self.check_rate(index) }
    }

    fn check_rate(&mut self, index: u32) -> Option<FixedAnswer> {
        let conn = self.conns.get(index)?;
        if conn.direction == Direction::Outbound {
            return None;
        }
        let number = self.inbound_port(conn)?;
        let port = self.ports.iter_mut().find(|port| port.number == number)?;
        let rate = port.rate.as_mut()?;
        let client = Client { identity: conn.peer_identity(), addr: conn.peer.ip() };
        let refused = rate.limiter.admit(client, self.now).err()?;
        let reason = match refused.limit {
            Limited::Total => Reason::RateLimit,
            Limited::Client => Reason::ClientRateLimit,
        };
        // Whole seconds are all that the field can say (RFC 9110 §10.2.3).
        let seconds = refused.wait.as_nanos().div_ceil(1_000_000_000).max(1);
        let retry_after: String = format!("{seconds}");
        Some(FixedAnswer::Refused { reason, retry_after })
    }
}
