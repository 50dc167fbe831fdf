//! What an engine asks of the authority, what it is told, and what its wall clock shows.

use std::time::Duration;

use selvedge_core::engine::Input;

use super::EngineHost;
use crate::choose::pick;
use crate::sim::fault::Fault;
use crate::sim::invariant::{Check, Invariant};
use crate::sim::mesh::{Grant, wall};
use crate::sim::net::{Event, HostId, Net};

impl EngineHost {
    /// The engine wants a certificate.
    pub(super) fn certify(&mut self, net: &mut Net<'_>) {
        let HostId::Engine(engine) = self.id else { return };
        net.say(self.id, || "asks for a certificate".to_owned());
        let mut wait = Duration::from_millis(1);
        if net.hits_once(Fault::CertifyLate) {
            if net.choose.one_in(4) {
                return;
            }
            wait += net.some(Duration::from_secs(6));
        }
        let bad = [
            (Fault::CertifyFails, Grant::Fails),
            (Fault::CertifyExpired, Grant::Expired),
            (Fault::CertifyOther, pick(net.choose, &[Grant::Lie, Grant::Other])),
            (Fault::CertifyStranger, Grant::Stranger),
        ];
        let Grant::Good { mut lasts, mut abrupt } = Grant::GOOD else { return };
        if net.hits_once(Fault::ShortLived) {
            lasts = Duration::from_secs(1) + net.some(Duration::from_secs(30));
        }
        abrupt |= net.hits_once(Fault::NoGoodbye);
        let mut grant = Grant::Good { lasts, abrupt };
        for (fault, instead) in bad {
            if net.hits_once(fault) {
                grant = instead;
            }
        }
        net.after(wait, Event::Certified { engine, grant });
    }

    /// The authority answers, or gives it another certificate for a reason of its own.
    pub(in crate::sim) fn certified(&mut self, net: &mut Net<'_>, grant: Grant) -> Check {
        let Some(own) = &self.config.identity else { return Ok(()) };
        let grant = if net.healed { Grant::GOOD } else { grant };
        net.say(self.id, || format!("is certified: {grant:?}"));
        let update = net.authority.issue(&own.name, net.now, grant);
        let (ready, open) = (self.engine.is_ready(), self.open());
        self.engine.handle_input(net.now, Input::Identity(update));
        self.settle(net)?;
        let (goes_on, left) = (ready && self.engine.is_ready(), self.open());
        net.checks.that(Invariant::Identified, !goes_on || left >= open, || {
            format!("{} has another certificate, and {left} of {open} connections", self.id)
        })?;
        self.check(net)?;
        self.arm(net);
        Ok(())
    }

    /// Its wall clock is set.
    pub(in crate::sim) fn set_clock(&mut self, net: &mut Net<'_>, wrong: i64) -> Check {
        self.clock_wrong = wrong;
        net.say(self.id, || format!("has a clock that is wrong by {wrong} s"));
        self.tell_clock(net);
        self.settle(net)?;
        self.check(net)?;
        self.arm(net);
        Ok(())
    }

    /// Tells it what its wall clock shows, if it wants to know, or that may change.
    pub(super) fn tell_clock(&mut self, net: &mut Net<'_>) {
        if self.engine.has_identity() || net.mix.has(Fault::ClockStep) {
            let wall = wall(net.now, self.clock_wrong);
            self.engine.handle_input(net.now, Input::WallClock(wall));
        }
    }
}
