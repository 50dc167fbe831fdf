//! What must hold of an engine, seen from outside.

use selvedge_core::limits::Limits as Caps;
use selvedge_core::tls::session::MAX_RECORD;

use super::EngineHost;
use crate::sim::invariant::{Check, Invariant};
use crate::sim::limits::{Limits, is_exact};
use crate::sim::mix::{LIMITS, POLICIES};
use crate::sim::model::Sent;
use crate::sim::net::{HostId, Net};

impl EngineHost {
    /// What the worker holds stays near its cap: one connection more than the cap allows may have
    /// been read when it was met, and each has its own bound.
    pub(super) fn check_buffers(&self, net: &mut Net<'_>) -> Check {
        let gauges = self.engine.gauges();
        let limits = &self.config.limits;
        // What TLS holds back: a part of a record that came, and records that wait to be written.
        let sealed = match self.config.identity {
            Some(_) => limits.stream_buffer + 4 * MAX_RECORD,
            None => 0,
        };
        let each = 2 * limits.stream_buffer.max(limits.header_bytes)
            + limits.replay_bytes
            + Caps::PIPELINE_BYTES
            + 3 * Caps::READ_BLOCK
            + sealed;
        let most = limits.buffer_bytes + gauges.connections * each;
        let held = gauges.buffered_bytes;
        // What is in a pipe is held as if it was here, and may be more than is read at once.
        let in_pipes = self.in_pipes();
        net.checks.that(Invariant::Credit, held >= in_pipes, || {
            format!("{} holds {held} bytes, and has {in_pipes} in pipes", self.id)
        })?;
        // Pipes are for when little is held: the last of them is all that they may add.
        let crowded = self.crowded.unwrap_or(0);
        net.checks.that(Invariant::Caps, crowded == 0, || {
            format!("{} splices and holds {crowded} of {} bytes", self.id, limits.buffer_bytes)
        })?;
        let most = most + in_pipes.min(Caps::BULK_BLOCK);
        net.checks.that(Invariant::Caps, held <= most, || {
            format!("{} holds {held} bytes, and {most} are allowed", self.id)
        })
    }

    /// As many are in flight, and wait, as may be.
    pub(super) fn check_gates(&self, net: &mut Net<'_>) -> Check {
        if !net.mix.has_any(LIMITS) {
            return Ok(());
        }
        let mut gates = self.engine.gates();
        gates.try_for_each(|gate| Limits::check_gate(&mut net.checks, &self.config, &gate))
    }

    /// Everything that must hold between turns.
    pub(in crate::sim) fn check(&mut self, net: &mut Net<'_>) -> Check {
        self.check_judged(net)?;
        self.check_looks(net)?;
        net.checks.result(Invariant::Caps, self.engine.check_buffers())?;
        net.checks.result(Invariant::Credit, self.engine.check_credit())?;
        net.checks.result(Invariant::Load, self.engine.check_load())?;
        if let HostId::Engine(engine) = self.id
            && u32::from(engine) < net.model.outbound
            && net.mix.has_any(POLICIES)
            && is_exact(&net.mix)
        {
            let (model, snapshot) = (&net.model, self.engine.snapshot());
            let is_shared =
                |sent: &Sent| sent.route.is_some_and(|route| model.routes[route].is_shared());
            let requests = &model.requests;
            model.shares.check_pending(&mut net.checks, requests, engine, &snapshot, is_shared)?;
        }
        let gauges = self.engine.gauges();
        let open = self.open();
        net.checks.that(Invariant::Drains, gauges.connections == open, || {
            format!("{} connections, {open} sockets", gauges.connections)
        })?;
        for socket in self.sockets.iter().flatten() {
            let mut io = [&[][..]; 1];
            let conn = socket.conn;
            let offers = self.engine.write_bufs(conn, &mut io) > 0;
            net.checks.that(Invariant::Credit, !offers || socket.flush, || {
                format!("{} {conn:?} has bytes to write and nobody was told", self.id)
            })?;
            let told = !socket.paused || self.engine.read_budget(conn) == 0;
            net.checks.that(Invariant::Credit, told, || {
                format!("{} {conn:?} may be read and nobody was told", self.id)
            })?;
        }
        Ok(())
    }

    /// Is nothing left?
    pub(in crate::sim) fn is_idle(&self) -> bool {
        let gauges = self.engine.gauges();
        (gauges.connections, gauges.exchanges, gauges.buffered_bytes) == (0, 0, 0)
    }

    /// What must hold when everything has ended.
    pub(in crate::sim) fn check_end(&mut self, net: &mut Net<'_>) -> Check {
        self.check(net)?;
        let snapshot = self.engine.snapshot();
        let gauges = snapshot.gauges;
        net.checks.that(Invariant::Drains, self.is_idle() && gauges.accepted == 0, || {
            format!("{} keeps {gauges:?}", self.id)
        })?;
        let told = u32::from(self.draining);
        net.checks.that(Invariant::Drains, self.drained == told, || {
            format!("{} said {} times that it is drained", self.id, self.drained)
        })?;
        let mut moved = [0; 2];
        for direction in &snapshot.directions {
            let tcp = &direction.accepted;
            moved = [moved[0] + tcp.read_bytes, moved[1] + tcp.write_bytes];
            net.checks.that(Invariant::Drains, tcp.opens == tcp.closes, || {
                format!("{} counted {tcp:?}", self.id)
            })?;
        }
        net.checks.that(Invariant::Credit, moved == self.moved, || {
            format!("{} counted {moved:?} bytes, and moved {:?}", self.id, self.moved)
        })?;
        self.check_spliced(net)?;
        for gate in self.engine.gates() {
            net.checks.that(Invariant::Bounded, gate.in_flight == 0 && gate.queued == 0, || {
                format!("{} has something left at {gate:?}", self.id)
            })?;
        }
        for direction in &snapshot.directions {
            net.coverage.sessions(&direction.tls);
        }
        if let Some(identity) = &snapshot.identity {
            net.coverage.renewals(identity.certifications);
        }
        for service in &snapshot.services {
            net.coverage.mirrors(&service.stats.decisions);
            let loaded = service.endpoints.iter().find(|endpoint| endpoint.pending > 0);
            net.checks.that(Invariant::Load, loaded.is_none() && service.queued == 0, || {
                format!("{} is still loaded: {loaded:?}, {} queued", self.id, service.queued)
            })?;
        }
        Ok(())
    }
}
