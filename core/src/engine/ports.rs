//! Limits of the app's ports: what each takes of its clients.

use alloc::boxed::Box;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use super::Engine;
use super::contract::Direction;
use super::policy::FixedAnswer;
use crate::config::{Config, InboundPort};
use crate::error::Reason;
use crate::policy::rate::{Client, Limited, Limiter, RateLimit};
use crate::rng::KeyedState;

/// A port of the app that has limits.
#[derive(Debug)]
pub(super) struct Port {
    number: u16,
    rate: Option<Box<Rated>>,
}

/// A rate limit, and what it was made from.
#[derive(Debug)]
struct Rated {
    config: (RateLimit, u32),
    limiter: Limiter,
}

impl Engine {
    /// Makes the limits of ports those of `config`. What was let through counts on, unless its limit
    /// is another.
    pub(super) fn apply_ports(&mut self, config: &Config) {
        let mut old = core::mem::take(&mut self.ports);
        let limited = |inbound: &&InboundPort| inbound.rate_limit.is_some();
        let ports: Vec<Port> = config
            .inbound
            .iter()
            .filter(limited)
            .map(|inbound| {
                let known = old.iter_mut().find(|port| port.number == inbound.port);
                let rate = known.and_then(|port| port.rate.take());
                self.apply_port(inbound, config.workers, rate)
            })
            .collect();
        self.ports = ports;
    }

    fn apply_port(
        &mut self,
        inbound: &InboundPort,
        workers: u32,
        known: Option<Box<Rated>>,
    ) -> Port {
        let rate = inbound.rate_limit.clone().map(|limit| {
            let config = (limit, workers);
            known.filter(|known| known.config == config).unwrap_or_else(|| {
                let keys = KeyedState::new(&mut self.rng);
                let limiter = Limiter::new(&config.0, workers, keys);
                Box::new(Rated { config, limiter })
            })
        });
        Port { number: inbound.port, rate }
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
