//! Which members of a pool an engine may choose: followed from what it says of their connections, of
//! ejections, of health checks and of panic.

use std::net::SocketAddr;

use selvedge_core::config::{Config, Service};
use selvedge_core::engine::Event;
use selvedge_core::time::Time;

/// An endpoint of a service.
#[derive(Debug)]
pub(super) struct Member {
    pub(super) addr: SocketAddr,
    /// The app behind it.
    pub(super) app: Option<u16>,
    pub(super) weight: u32,
    pub(super) local: bool,
    pub(super) meshed: bool,
}

/// What an engine knows of the members of a pool.
#[derive(Debug)]
pub(super) struct Readiness {
    /// Those that are connected, as bits.
    up: u64,
    /// It can connect to those that are meshed.
    certified: bool,
    /// When that was last another answer.
    pub(super) changed: Time,
    /// … for better or worse, apart from the first certificate.
    pub(super) moved: bool,
    /// Since when each is ready.
    pub(super) since: Vec<Time>,
    /// It knows other members than those that it began with.
    pub(super) other: bool,
    /// What is said against members, as bits, and whether that does not count.
    ejected: u64,
    unhealthy: u64,
    panics: bool,
    /// Until when those that are ejected are not asked.
    until: Vec<Time>,
    /// When it was last not known of a member since when it is ready.
    pub(super) vague: Option<Time>,
}

/// The service that an engine says something of, if that is about who may be chosen.
pub(super) fn service_of(event: &Event) -> Option<&str> {
    match event {
        Event::EndpointDown { service, .. }
        | Event::EndpointUp { service, .. }
        | Event::EndpointEjected { service, .. }
        | Event::EndpointReadmitted { service, .. }
        | Event::EndpointProbed { service, .. }
        | Event::CheckFailed { service, .. }
        | Event::CheckPassed { service, .. }
        | Event::PanicEntered { service, .. }
        | Event::PanicLeft { service, .. } => Some(service),
        _ => None,
    }
}

impl Readiness {
    /// What an engine knows of so many members of a service when it begins.
    pub(super) fn new(members: usize, config: &Config, service: &Service) -> Self {
        Readiness {
            up: (1 << members) - 1,
            certified: config.identity.is_none(),
            changed: Time::ZERO,
            moved: false,
            since: vec![Time::ZERO; members],
            other: false,
            ejected: 0,
            // Until they were checked.
            unhealthy: if service.health_check.is_some() { u64::MAX } else { 0 },
            panics: false,
            until: vec![Time::ZERO; members],
            vague: None,
        }
    }

    /// The engine says something of these members, or of itself.
    pub(super) fn hear(&mut self, members: &[Member], event: &Event, now: Time) {
        let bit = |addr: &SocketAddr| position(members, *addr).map_or(0, |at| 1 << at);
        match event {
            Event::EndpointDown { addr, .. } => self.turn(bit(addr), false, now),
            Event::EndpointUp { addr, .. } => self.turn(bit(addr), true, now),
            Event::EndpointEjected { addr, retry_in, .. } => self.judge(now, |it| {
                let Some(at) = position(members, *addr) else { return };
                it.ejected |= 1 << at;
                it.until[at] = now + *retry_in;
            }),
            Event::EndpointReadmitted { addr, .. } => {
                self.judge(now, |it| it.ejected &= !bit(addr));
            }
            Event::EndpointProbed { .. } => self.judge(now, |_| {}),
            Event::CheckFailed { addr, .. } => self.judge(now, |it| it.unhealthy |= bit(addr)),
            Event::CheckPassed { addr, .. } => self.judge(now, |it| it.unhealthy &= !bit(addr)),
            Event::PanicEntered { .. } => self.judge(now, |it| {
                it.panics = true;
                // Of those that wait for a probe it is not known since when they are ready.
                let waits = |at: usize| it.ejected >> at & 1 == 1 && it.until[at] <= now;
                if (0..it.until.len()).any(waits) {
                    it.vague = Some(now);
                }
            }),
            Event::PanicLeft { .. } => self.judge(now, |it| it.panics = false),
            Event::Certified { .. } => self.certify(members, true, now),
            Event::Uncertified { .. } => self.certify(members, false, now),
            _ => {}
        }
    }

    /// A member is connected, or is not any more.
    fn turn(&mut self, bit: u64, up: bool, now: Time) {
        if bit == 0 || (self.up & bit != 0) == up {
            return;
        }
        self.up ^= bit;
        (self.changed, self.moved) = (now, true);
        self.since[bit.trailing_zeros() as usize] = now;
    }

    /// Something is said for or against members: those that may be chosen now are ready since now.
    fn judge(&mut self, now: Time, change: impl FnOnce(&mut Self)) {
        let before = self.lets();
        change(self);
        (self.changed, self.moved) = (now, true);
        let new = self.lets() & !before;
        for (at, since) in self.since.iter_mut().enumerate() {
            if new >> at & 1 == 1 {
                *since = now;
            }
        }
    }

    fn certify(&mut self, members: &[Member], certified: bool, now: Time) {
        if self.certified == certified {
            return;
        }
        (self.certified, self.changed) = (certified, now);
        self.moved |= !certified;
        for (member, since) in members.iter().zip(&mut self.since) {
            if member.meshed {
                *since = now;
            }
        }
    }

    /// Those that nothing is said against that counts, as bits.
    fn lets(&self) -> u64 {
        if self.panics { u64::MAX } else { !(self.ejected | self.unhealthy) }
    }

    /// Those that it can send requests to, whatever is said against them, as bits.
    pub(super) fn ready(&self, members: &[Member]) -> u64 {
        let meshed = members.iter().enumerate().filter(|(_, member)| member.meshed);
        let meshed: u64 = meshed.fold(0, |bits, (at, _)| bits | 1 << at);
        self.up & !if self.certified { 0 } else { meshed }
    }

    /// Has nothing changed since then, and is everything as it was at first?
    pub(super) fn is_settled(&self, since: Time) -> bool {
        self.certified && !self.other && !self.moved && self.changed < since
    }

    /// Has nothing changed since then, and may one be chosen against which nothing is said?
    pub(super) fn is_open(&self, members: &[Member], since: Time) -> bool {
        let good = self.ready(members) & !(self.ejected | self.unhealthy);
        !self.other && self.changed < since && good != 0
    }
}

fn position(members: &[Member], addr: SocketAddr) -> Option<usize> {
    members.iter().position(|member| member.addr == addr)
}

/// Which of them it is true of, as bits, if that is known of all.
pub(super) fn bits_of(all: impl Iterator<Item = Option<bool>>) -> Option<u64> {
    let mut all = all.enumerate();
    all.try_fold(0, |bits, (at, is)| Some(bits | u64::from(is?) << at))
}
