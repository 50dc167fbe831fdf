//! What must hold between turns, whatever the peers do.

use alloc::format;
use alloc::string::String;

use super::Engine;
use super::conn::{ClientPhase, Conn, State};
use super::exchange::Exchange;
use super::gate::{Gate, Passage};
use crate::limits::Limits;
use crate::tls::session::MAX_RECORD;

/// Returns the first violated one of these conditions.
macro_rules! ensure {
    ($condition:expr, $($message:tt)*) => {
        if !$condition {
            return Err(format!($($message)*));
        }
    };
}

/// Of an exchange that has come to its second gate, or is through: whether it waits there.
fn waits_at_second(exchange: &Exchange) -> Option<bool> {
    match exchange.traits.passage {
        Passage::First | Passage::Refused => None,
        Passage::Second => Some(true),
        Passage::Done => Some(false),
    }
}

impl Engine {
    /// Checks everything that must hold between turns. For tests, simulations and debugging: it
    /// looks at every connection.
    pub fn check_invariants(&self) -> Result<(), String> {
        self.check_buffers()?;
        self.check_credit()?;
        self.check_load()?;
        self.check_availability()
    }

    /// The part of it about what is buffered: under its caps, connection by connection.
    pub fn check_buffers(&self) -> Result<(), String> {
        let limits = &self.config.limits;
        // One read buffer more than the budget, and what one drive moves more than the mark.
        let body = limits.header_bytes.max(limits.stream_buffer) + 2 * Limits::READ_BLOCK;
        let heads = limits.header_bytes + 2048;
        for (index, conn) in self.conns.iter() {
            let (rx, tx) = (conn.rx.len(), conn.tx.unsent());
            let tunnelled = matches!(conn.state, State::Tunnel(_));
            let body = if tunnelled { body + Limits::BULK_BLOCK } else { body };
            let most = body + Limits::PIPELINE_BYTES;
            ensure!(rx <= most, "connection {index} holds {rx} received bytes");
            // Heads of many streams may be ready at once.
            let most = limits.stream_buffer + body + heads + limits.replay_bytes;
            let most = most + self.window_of_source(index, conn) + Limits::MIRROR_BYTES;
            let fits = tx <= most || conn.http2().is_some();
            ensure!(fits, "connection {index} holds {tx} bytes to write, and {most} are allowed");
            let spliced = conn.spliced as usize;
            let fits = spliced == 0 || tunnelled && conn.tls.is_none();
            ensure!(fits, "connection {index} is no end of a tunnel, and has a pipe");
            let fits = spliced <= Limits::BULK_BLOCK;
            ensure!(fits, "connection {index} has {spliced} bytes in a pipe");
            let sealed = conn.tls.as_ref().map_or(0, |tls| tls.outgoing().unsent());
            let most = limits.stream_buffer + 2 * MAX_RECORD;
            ensure!(sealed <= most, "connection {index} holds {sealed} sealed bytes");
        }
        Ok(())
    }

    /// The part of it about credit: what is held is what was charged, and nobody is kept from
    /// reading while there is room.
    pub fn check_credit(&self) -> Result<(), String> {
        let conns = self.conns.iter().map(|(_, conn)| conn.charged).sum::<usize>();
        let waiting = self.exchanges.iter().map(|(_, exchange)| exchange.charged).sum::<usize>();
        let (buffered, total) = (conns + waiting, self.buffered);
        ensure!(buffered == total, "charged {buffered}, total {total}");
        let low = self.config.limits.stream_buffer / 2;
        for (index, conn) in self.conns.iter() {
            if let Some(connection) = conn.http2() {
                let checked = connection.check_invariants();
                checked.map_err(|error| format!("connection {index}: {error}"))?;
            }
            let may_pause = !conn.flags.paused || conn.flags.starved || conn.flags.queued;
            if may_pause || conn.unsent() > low || self.budget(conn) == 0 {
                continue;
            }
            let busy = self.sink_of(index, conn).is_some_and(|sink| {
                // Streams share a room that may have become larger since.
                let connecting = matches!(sink.state, State::Connecting(_));
                // A request that is sent again goes on when its new connection is there.
                connecting
                    || sink.unsent() > low
                    || sink.spliced > 0
                    || sink.http2().is_some_and(|sink| sink.queued() > 0)
            });
            let busy = busy || self.waits_for_another(index, conn);
            ensure!(busy, "connection {index} is paused, and there is room");
        }
        Ok(())
    }

    /// What a stream whose bytes go, or may have gone, to this connection may send before it is told
    /// to stop.
    fn window_of_source(&self, index: u32, conn: &Conn) -> usize {
        let from_stream = match conn.exchange().and_then(|id| self.exchanges.get(id)) {
            Some(exchange) if exchange.down.index == index => exchange.up_stream.is_some(),
            Some(exchange) => exchange.down_stream.is_some(),
            None => true,
        };
        if from_stream { self.http2.max_stream_window as usize } else { 0 }
    }

    /// Is it a client whose request has no connection, because it is to be sent again? It goes on
    /// when there is one.
    fn waits_for_another(&self, index: u32, conn: &Conn) -> bool {
        let exchange = conn.exchange().and_then(|id| self.exchanges.get(id));
        exchange.is_some_and(|exchange| exchange.down.index == index && exchange.up.is_none())
    }

    /// The connection that what this one receives goes to.
    fn sink_of(&self, index: u32, conn: &Conn) -> Option<&Conn> {
        let sink = if let State::Tunnel(tunnel) = &conn.state {
            Some(tunnel.peer)
        } else {
            let exchange = self.exchanges.get(conn.exchange()?)?;
            if exchange.down.index == index { exchange.up } else { Some(exchange.down) }
        };
        self.conns.find(sink?)
    }

    /// The part of it about who is there: connections, exchanges, load.
    pub fn check_load(&self) -> Result<(), String> {
        let mut accepted = 0;
        for (index, conn) in self.conns.iter() {
            accepted += usize::from(conn.endpoint.is_none());
            self.check_conn(index, conn)?;
        }
        let handshakes =
            self.conns.iter().filter(|(_, conn)| matches!(conn.state, State::Handshake)).count();
        let counted = self.handshakes.clients;
        ensure!(handshakes == counted, "{handshakes} handshakes, counted {counted}");
        ensure!(accepted == self.accepted, "accepted {accepted}, counted {}", self.accepted);
        self.check_exchanges()?;
        self.check_endpoints()
    }

    fn check_conn(&self, index: u32, conn: &Conn) -> Result<(), String> {
        if let State::Tunnel(tunnel) = &conn.state {
            let peer = self.conns.find(tunnel.peer);
            ensure!(peer.is_some(), "tunnel {index} has no peer");
        }
        if let Some(id) = conn.exchange()
            && !matches!(conn.state, State::Connecting(_))
        {
            let exchange = self.exchanges.get(id);
            ensure!(exchange.is_some(), "connection {index} refers to an exchange that is gone");
        }
        if let State::Client(client) = &conn.state {
            let idle = matches!(client.phase, ClientPhase::Idle);
            ensure!(idle == client.exchange.is_none(), "connection {index} is idle and busy");
        }
        Ok(())
    }

    fn check_exchanges(&self) -> Result<(), String> {
        for (id, exchange) in self.exchanges.iter() {
            let index = id.index;
            let client = exchange.is_mirror() || self.conns.find(exchange.down).is_some();
            ensure!(client, "exchange {index} has no client");
            let service = self.mesh.services.get(exchange.service as usize);
            ensure!(service.is_some(), "exchange {index} has no service");
            let endpoint = exchange.endpoint.map(|e| self.mesh.endpoints.get(e as usize));
            let placed = endpoint.is_some();
            let waits = endpoint.flatten().is_some_and(|target| target.waiting.contains(&id));
            ensure!(placed == (exchange.up.is_some() || waits), "exchange {index} is half placed");
            if let Some(up) = exchange.up.and_then(|up| self.conns.find(up)) {
                let carries = match (up.http2(), exchange.up_stream) {
                    (Some(connection), Some(stream)) => {
                        let over = connection.token(stream) == 0;
                        over || connection.token(stream) == id.token()
                    }
                    _ => up.exchange() == Some(id),
                };
                ensure!(carries, "exchange {index} is not on its connection");
            }
            ensure!(
                exchange.up.is_none_or(|up| self.conns.find(up).is_some()),
                "exchange {index} is on a connection that is gone"
            );
            let queued = || service.is_some_and(|service| service.queue.contains(&id));
            let rests = exchange.is_resting();
            let gated = exchange.traits.passage.waits();
            ensure!(placed || queued() || rests || gated, "exchange {index} waits for nothing");
        }
        let mirrors = self.exchanges.iter().filter(|(_, exchange)| exchange.is_mirror()).count();
        ensure!(mirrors == self.mirrors.live, "{mirrors} mirrors, counted {}", self.mirrors.live);
        for (index, service) in &self.mesh.services {
            let refers = self.exchanges.iter().filter(|(_, e)| e.service as usize == index).count();
            ensure!(refers == service.exchanges as usize, "service {index} miscounts exchanges");
            let here = |e: &Exchange| e.service as usize == index && !e.traits.at_port;
            self.check_gate(&service.gate, |e| waits_at_second(e).filter(|_| here(e)))?;
            let waiting = service.queue.iter().filter(|&&id| self.exchanges.get(id).is_some());
            ensure!(waiting.count() == service.queued, "service {index} miscounts its queue");
        }
        let here = |e: &Exchange| (!e.is_mirror()).then_some(e.traits.passage == Passage::First);
        self.check_gate(&self.gate, here)?;
        for port in &self.ports {
            let here = |e: &Exchange| {
                let service = self.mesh.services.get(e.service as usize);
                e.traits.at_port && service.is_some_and(|service| service.port == port.number)
            };
            self.check_gate(&port.gate, |e| waits_at_second(e).filter(|_| here(e)))?;
        }
        Ok(())
    }

    /// `waits`: of exchanges that are at this gate or through, whether they wait.
    fn check_gate(
        &self,
        gate: &Gate,
        waits: impl Fn(&Exchange) -> Option<bool>,
    ) -> Result<(), String> {
        let at = |waiting| self.exchanges.iter().filter(|(_, e)| waits(e) == Some(waiting)).count();
        let (through, waiting) = (gate.in_flight() as usize, gate.queued());
        ensure!(at(false) == through, "{} through a gate, counted {through}", at(false));
        ensure!(at(true) == waiting, "{} wait at a gate, counted {waiting}", at(true));
        Ok(())
    }

    fn check_endpoints(&self) -> Result<(), String> {
        for (index, service) in &self.mesh.services {
            let owns = |endpoint: &super::mesh::Endpoint| endpoint.service as usize == index;
            let endpoints = self.mesh.endpoints.iter().filter(|(_, e)| owns(e)).count();
            let counted = service.endpoints as usize;
            ensure!(endpoints == counted, "service {index}: {endpoints} endpoints, {counted}");
        }
        for (index, endpoint) in &self.mesh.endpoints {
            let serves = |id: &super::ConnId| {
                let conn = self.conns.find(*id);
                conn.is_some_and(|conn| {
                    matches!(conn.state, State::Connecting(_) | State::Http2(_))
                })
            };
            let waits = endpoint.waiting.iter().any(|&id| self.exchanges.get(id).is_some());
            ensure!(
                !waits || endpoint.multiplexed.iter().any(serves),
                "at endpoint {index} they wait for nothing"
            );
            let to = |conn: &Conn| conn.endpoint == Some(index as u32);
            let conns = self.conns.iter().filter(|(_, conn)| to(conn)).count();
            ensure!(conns == endpoint.conns as usize, "endpoint {index} miscounts connections");
            let idle = |conn: &Conn| {
                matches!(&conn.state, State::Client(client)
                    if matches!(client.phase, ClientPhase::Idle))
            };
            let idle = self.conns.iter().filter(|(_, conn)| to(conn) && idle(conn)).count();
            let counted = endpoint.idle_live as usize;
            ensure!(idle == counted, "endpoint {index} has {idle} idle, counts {counted}");
            if !endpoint.removed {
                let service = self.mesh.services.get(endpoint.service as usize);
                let pending =
                    service.map_or(0, |service| service.balancer.pending(endpoint.member));
                let load = self
                    .exchanges
                    .iter()
                    .filter(|(_, exchange)| exchange.endpoint == Some(index as u32))
                    .count();
                ensure!(load == pending as usize, "endpoint {index}: load {load}, {pending}");
            }
        }
        Ok(())
    }
}
