//! Idle connections to endpoints.

use super::Engine;
use super::conn::{ClientPhase, Conn, State};

impl Engine {
    /// Takes the most recently used idle connection of an endpoint.
    pub(super) fn unpark(&mut self, endpoint: u32) -> Option<u32> {
        loop {
            let target = self.mesh.endpoints.get_mut(endpoint as usize)?;
            let id = target.idle.pop_back()?;
            let Some(conn) = self.conns.find(id).filter(|conn| is_idle(conn)) else { continue };
            target.idle_live -= 1;
            // One that said something unasked, or goodbye, is of no use.
            if conn.rx.is_empty() && !conn.flags.eof {
                return Some(id.index);
            }
            self.close_when_flushed(id.index);
        }
    }

    /// Puts a connection without an exchange into the pool, or closes it.
    pub(super) fn park(&mut self, index: u32) {
        let keep = !self.is_draining();
        let Some(id) = self.conns.id(index) else { return };
        let Some(conn) = self.conns.get_mut(index) else { return };
        let (State::Client(client), Some(endpoint)) = (&mut conn.state, conn.endpoint) else {
            return;
        };
        client.exchange = None;
        let usable = client.reusable && !conn.flags.eof && conn.rx.is_empty();
        let Some(target) = self.mesh.endpoints.get_mut(endpoint as usize) else { return };
        if !usable || !keep || target.removed {
            conn.state = State::Closing;
            return self.touch(index);
        }
        client.phase = ClientPhase::Idle;
        conn.tx.vacate(&mut self.spare);
        let conns = &self.conns;
        target.park(id, |id| conns.find(id).is_some_and(is_idle));
        let surplus = target.idle_live as usize > self.config.limits.pool_idle;
        self.timers.conns.set(index, self.now + self.config.timeouts.pool_idle);
        if surplus {
            self.close_longest_idle(endpoint);
        }
    }

    fn close_longest_idle(&mut self, endpoint: u32) {
        let Some(target) = self.mesh.endpoints.get_mut(endpoint as usize) else { return };
        while let Some(id) = target.idle.pop_front() {
            if self.conns.find(id).is_some_and(is_idle) {
                target.idle_live -= 1;
                return self.close_when_flushed(id.index);
            }
        }
    }

    /// Closes all idle connections of an endpoint.
    pub(super) fn close_idle(&mut self, endpoint: u32) {
        let Some(target) = self.mesh.endpoints.get_mut(endpoint as usize) else { return };
        target.idle_live = 0;
        for id in core::mem::take(&mut target.idle) {
            if self.conns.find(id).is_some_and(is_idle) {
                self.close_when_flushed(id.index);
            }
        }
    }
}

/// Is this a connection in the pool?
fn is_idle(conn: &Conn) -> bool {
    matches!(&conn.state, State::Client(client) if matches!(client.phase, ClientPhase::Idle))
}
