//! Rate limits: how many requests a second one port of the app takes, in all and from each client.
//!
//! Every limit is a GCRA, the generic cell rate algorithm (ITU-T I.371), as linkerd2-proxy's are:
//! one time per limit is all its state, and no clock ticks. A second's worth may come at once.

mod clients;
#[cfg(test)]
mod tests;

use alloc::vec::Vec;
use core::net::IpAddr;

use crate::identity::{Name, Pattern};
use crate::rng::KeyedState;
use crate::time::{Duration, Time};
use clients::{Clients, Key};

/// What a port takes. Without any of the three: everything.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RateLimit {
    /// Requests a second of all clients together.
    pub total: Option<u32>,
    /// Requests a second of each client: of each identity, or of each address that shows none. An
    /// IPv6 client is its /64, which is what one host is given.
    pub per_client: Option<u32>,
    /// Other limits for some clients; the first that means a client is its.
    pub overrides: Vec<Override>,
}

/// The limit of some clients, instead of [`RateLimit::per_client`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Override {
    /// Whoever one of these means. They share the limit, as in Linkerd's HTTPLocalRateLimitPolicy.
    pub clients: Vec<ClientMatch>,
    /// Requests a second of all of them together.
    pub rps: u32,
}

/// Whom an override is for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ClientMatch {
    /// Clients that have proven to be one of these.
    Identity(Pattern),
    /// Clients of this network, by its address and the length of its prefix. Those that have proven
    /// who they are included.
    Network(IpAddr, u8),
}

impl ClientMatch {
    /// Does it mean this client?
    pub fn matches(&self, client: Client<'_>) -> bool {
        match self {
            ClientMatch::Identity(pattern) => {
                client.identity.is_some_and(|name| pattern.matches(name))
            }
            ClientMatch::Network(network, len) => {
                match (network.to_canonical(), client.addr.to_canonical()) {
                    (IpAddr::V4(network), IpAddr::V4(addr)) => {
                        let mask = u32::MAX.checked_shl(32 - u32::from(*len)).unwrap_or(0);
                        network.to_bits() & mask == addr.to_bits() & mask
                    }
                    (IpAddr::V6(network), IpAddr::V6(addr)) => {
                        let mask = u128::MAX.checked_shl(128 - u32::from(*len)).unwrap_or(0);
                        network.to_bits() & mask == addr.to_bits() & mask
                    }
                    _ => false,
                }
            }
        }
    }
}

/// Who sends a request.
#[derive(Clone, Copy, Debug)]
pub struct Client<'a> {
    /// What its certificate says.
    pub identity: Option<&'a Name>,
    /// Where it comes from.
    pub addr: IpAddr,
}

/// A request that came too soon.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TooSoon {
    /// Whose limit it met.
    pub limit: Limited,
    /// After how long it would be let through, if nothing else came.
    pub wait: Duration,
}

/// Whose limit a request met.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Limited {
    /// That of all clients together.
    Total,
    /// Its client's own, or the override's that it shares.
    Client,
}

/// A rate, as GCRA has it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Rate {
    /// Between two requests, in nanoseconds.
    interval: u64,
    /// How much sooner than that they may come, in nanoseconds.
    tolerance: u64,
}

/// When the next request would come, if all came evenly: the whole state of a limit. A time that has
/// passed is as good as none.
pub(crate) type Expected = Time;

impl Rate {
    /// So many requests a second, by so many workers. Each lets at least one through at a time.
    fn new(rps: u32, workers: u32) -> Self {
        const SECOND: u128 = 1_000_000_000;
        let (rps, workers) = (u128::from(rps.max(1)), u128::from(workers.max(1)));
        let interval = (SECOND * workers).div_ceil(rps);
        // A second's worth may come at once.
        let tolerance = (interval * rps / workers).saturating_sub(interval);
        Rate { interval: interval as u64, tolerance: tolerance as u64 }
    }

    /// What is expected after one more request, or how long it is too soon by.
    pub(crate) fn next(self, expected: Expected, now: Time) -> Result<Expected, Duration> {
        let early = expected.saturating_since(now);
        let interval = self.interval >> u32::from(canary!(DoubleRate));
        let interval = interval << u32::from(canary!(HalfRate));
        let tolerance = Duration::from_nanos(self.tolerance);
        match early.checked_sub(tolerance) {
            Some(wait) if !wait.is_zero() => Err(wait),
            _ => Ok(expected.max(now) + Duration::from_nanos(interval)),
        }
    }
}

/// The limits of one port, with what they have let through.
#[derive(Debug)]
pub struct Limiter {
    total: Option<(Rate, Expected)>,
    per_client: Option<Rate>,
    overrides: Vec<(Vec<ClientMatch>, Rate, Expected)>,
    clients: Clients,
}

impl Limiter {
    /// Limits that nothing has come against yet, of one of so many workers that share them. `keys`:
    /// what clients are hashed with.
    pub fn new(limit: &RateLimit, workers: u32, keys: KeyedState) -> Self {
        let rate = |rps| Rate::new(rps, workers);
        Limiter {
            total: limit.total.map(|rps| (rate(rps), Time::ZERO)),
            per_client: limit.per_client.map(rate),
            overrides: limit
                .overrides
                .iter()
                .map(|own| (own.clients.clone(), rate(own.rps), Time::ZERO))
                .collect(),
            clients: Clients::new(keys),
        }
    }

    /// Lets a request through, or says why not. What is refused counts against no limit.
    ///
    /// # Errors
    /// It came too soon.
    pub fn admit(&mut self, client: Client<'_>, now: Time) -> Result<(), TooSoon> {
        let by = |limit| move |wait| TooSoon { limit, wait };
        let total = match self.total {
            Some((rate, expected)) => {
                let expected = rate.next(expected, now).map_err(by(Limited::Total))?;
                Some((rate, expected))
            }
            None => None,
        };
        let own = self.overrides.iter_mut();
        let mut own = own.filter(|(clients, ..)| clients.iter().any(|one| one.matches(client)));
        let (rate, expected) = if let Some((_, rate, expected)) = own.next() {
            (*rate, Some(expected))
        } else if let Some(rate) = self.per_client {
            (rate, Some(self.clients.get(Key::of(client), now)))
        } else {
            (Rate::new(1, 1), None)
        };
        if let Some(expected) = expected {
            *expected = rate.next(*expected, now).map_err(by(Limited::Client))?;
        }
        self.total = total;
        Ok(())
    }

    /// Bytes that it holds for clients. Bounded, however many there are.
    pub fn heap_bytes(&self) -> usize {
        self.clients.heap_bytes()
    }

    /// Clients that are remembered one by one.
    pub fn clients(&self) -> usize {
        self.clients.len()
    }
}
