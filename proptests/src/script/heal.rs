//! The end of a script: nothing goes wrong any more, and everything must come to its end.

use std::time::Duration;

use super::net::Check;
use super::world::World;

/// How long things may take when everybody does what they should: connects are answered at once, so
/// this covers backoffs and the second that a refused connection lingers.
const SOON: Duration = Duration::from_secs(30);
/// How long things may take when nobody does anything: the longest timeouts are an hour, and what
/// ends by one may leave something that ends by another.
const LATE: Duration = Duration::from_hours(3);

impl World<'_> {
    /// Everything comes to its end, soon if everybody cooperates, by timeouts if nobody does.
    pub(super) fn heal(&mut self) -> Check {
        self.settle()?;
        if self.faults && self.choose.one_in(4) {
            self.wait_out()?;
        }
        self.cooperate("exchanges", Self::is_idle)?;
        self.cooperate("connections", |world| world.net.sockets.is_empty())?;
        if self.outcome.drains != u64::from(self.drained) {
            return Err(format!("drained {} times", self.outcome.drains));
        }
        self.check_stats()?;
        match self.clients.iter().position(|client| !client.is_served()) {
            Some(at) if !self.faults => Err(format!("client {at} has no answer")),
            _ => Ok(()),
        }
    }

    fn is_idle(&self) -> bool {
        let gauges = self.net.engine.gauges();
        (gauges.accepted, gauges.exchanges, gauges.buffered_bytes) == (0, 0, 0)
    }

    /// Nobody does anything any more: every timeout passes.
    fn wait_out(&mut self) -> Check {
        let until = self.net.now + LATE;
        while self.net.now < until {
            if self.is_idle() {
                return Ok(());
            }
            let Some((due, _)) = self.net.engine.next_timeout() else {
                return Err(format!("nothing is waited for: {:?}", self.net.engine.gauges()));
            };
            self.fire(due)?;
        }
        Err(format!("no timeout ends {:?}", self.net.engine.gauges()))
    }

    /// Everybody does what is to be done, until `done`.
    fn cooperate(&mut self, what: &str, done: fn(&Self) -> bool) -> Check {
        let until = self.net.now + SOON;
        while !done(self) {
            let inputs = self.net.inputs;
            self.do_what_is_due();
            self.settle()?;
            if self.net.inputs > inputs {
                continue;
            }
            self.net.check_told()?;
            match self.net.engine.next_timeout() {
                Some((due, _)) if due <= until => self.fire(due)?,
                next => {
                    let gauges = self.net.engine.gauges();
                    return Err(format!("{what} do not end; {next:?}; {gauges:?}"));
                }
            }
        }
        Ok(())
    }

    fn do_what_is_due(&mut self) {
        while !self.net.connects.is_empty() {
            self.finish_connect(0, Ok(()));
        }
        while !self.net.resolves.is_empty() {
            self.finish_query(0, false);
        }
        let conns: Vec<_> = self.net.sockets.keys().copied().collect();
        for conn in conns {
            self.give_room(conn, usize::MAX);
        }
        for at in 0..self.clients.len() {
            if self.clients[at].conn.is_some() {
                self.client_heals(at);
                self.client_delivers(at);
            }
        }
        for at in 0..self.apps.len() {
            if self.apps[at].is_open() {
                self.app_heals(at);
                self.app_delivers(at);
            }
        }
    }

    /// The counters tell of a world in which everything has ended.
    fn check_stats(&mut self) -> Check {
        let snapshot = self.net.engine.snapshot();
        let accepted = snapshot.directions.iter().map(|direction| &direction.accepted);
        let services = snapshot.services.iter().map(|service| &service.stats.tcp);
        for tcp in accepted.chain(services) {
            if tcp.opens != tcp.closes {
                return Err(format!("counted {tcp:?}"));
            }
        }
        let opens: u64 = snapshot.directions.iter().map(|direction| direction.accepted.opens).sum();
        if opens != self.outcome.clients {
            return Err(format!("{opens} clients counted of {}", self.outcome.clients));
        }
        Ok(())
    }
}
