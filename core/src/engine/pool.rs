//! Idle connections to endpoints.

use super::Engine;
use super::conn::{ClientPhase, Conn, State};
use super::contract::{CloseKind, ConnId};
use super::exchange::ExchangeId;
use crate::time::Duration;

/// Connects of an endpoint that nobody waits for: more would be an attack, or useless.
const MAX_ORPHANS: usize = 8;

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

    /// Gives an exchange a connect that is under way and that nobody waits for.
    pub(super) fn adopt(&mut self, endpoint: u32, exchange: ExchangeId) -> Option<ConnId> {
        let target = self.mesh.endpoints.get_mut(endpoint as usize)?;
        while let Some(id) = target.orphans.pop() {
            if let Some(conn) = self.conns.find_mut(id)
                && let State::Connecting(waiting @ None) = &mut conn.state
            {
                *waiting = Some(exchange);
                return Some(id);
            }
        }
        None
    }

    /// A connect whose exchange ended waits for the next one, if not too many do.
    pub(super) fn orphan(&mut self, index: u32) {
        let Some(id) = self.conns.id(index) else { return };
        let endpoint = self.conns.get(index).and_then(|conn| conn.endpoint);
        let Some(target) = endpoint.and_then(|e| self.mesh.endpoints.get_mut(e as usize)) else {
            return;
        };
        if target.orphans.len() >= MAX_ORPHANS {
            let conns = &self.conns;
            let connecting = |id| {
                conns.find(id).is_some_and(|conn| matches!(conn.state, State::Connecting(None)))
            };
            target.orphans.retain(|&id| connecting(id));
        }
        if target.orphans.len() >= MAX_ORPHANS {
            return self.end_conn(index, CloseKind::Abort);
        }
        target.orphans.push(id);
        if let Some(conn) = self.conns.get_mut(index) {
            conn.state = State::Connecting(None);
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
        let pool_idle = self.pool_idle(endpoint);
        self.timers.conns.set(index, self.now + pool_idle);
        if surplus {
            self.close_longest_idle(endpoint);
        }
    }

    /// How long a connection to an endpoint may be unused.
    pub(super) fn pool_idle(&self, endpoint: u32) -> Duration {
        let service = self.mesh.endpoints.get(endpoint as usize).map(|endpoint| endpoint.service);
        let service = service.and_then(|service| self.mesh.services.get(service as usize));
        service.map_or(self.config.timeouts.pool_idle, |service| service.times.pool_idle)
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
        self.retire_multiplexed(endpoint);
    }
}

/// Is this a connection in the pool?
fn is_idle(conn: &Conn) -> bool {
    matches!(&conn.state, State::Client(client) if matches!(client.phase, ClientPhase::Idle))
}
