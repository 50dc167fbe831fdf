//! Pipes from one connection to another, as an adapter has them that can splice.

use std::time::Duration;

use bytes::BytesMut;
use selvedge_core::engine::{ConnId, Input};
use selvedge_core::limits::Limits;

use super::EngineHost;
use crate::choose::Choose;
use crate::sim::fault::Fault;
use crate::sim::invariant::{Check, Invariant};
use crate::sim::link::FAR;
use crate::sim::net::Net;

/// An adapter that was refused a pipe does not ask for another at once.
const RETRY_AFTER: Duration = Duration::from_secs(1);

impl EngineHost {
    /// Moves what has come to a connection into a pipe to another. False: it has to be read.
    pub(super) fn splice(&mut self, net: &mut Net<'_>, conn: ConnId) -> bool {
        let Some(sink) = self.engine.splices_to(conn) else { return false };
        let Some(socket) = self.socket(conn) else { return false };
        let (link, side) = (socket.link, socket.side);
        if net.links[link as usize].pipes[1 - side].ready == 0 || !self.finds_pipe(net) {
            return false;
        }
        let most = if net.hits_splice(Fault::ShortSplice) {
            net.splicing.choose.within(1, Limits::READ_BLOCK)
        } else {
            Limits::BULK_BLOCK
        };
        let held = self.engine.gauges().buffered_bytes;
        if held > self.config.limits.buffer_bytes / 4 {
            self.crowded = Some(held);
        }
        let mut data = BytesMut::new();
        let n = net.read(link, side, most, &mut data);
        net.say(self.id, || format!("{conn:?} moves {n} into a pipe to {sink:?}"));
        net.trace.hash.word(n as u64 | 8 << 32);
        net.coverage.pipes[3] += 1;
        if side == FAR {
            self.moved[0] += n as u64;
            self.spliced += n as u64;
        }
        if let Some(sink) = self.socket(sink) {
            // Behind what is there, if the engine lets that happen: order is its concern.
            sink.pipe.extend_from_slice(&data);
        }
        self.engine.handle_input(net.now, Input::Spliced { conn, n });
        self.queue(net, conn);
        if net.hits_splice(Fault::ReadAhead) {
            self.read_block(net, conn);
        }
        true
    }

    fn finds_pipe(&mut self, net: &mut Net<'_>) -> bool {
        if net.now < self.no_pipes_until || !net.splicing.finds_one() {
            return false;
        }
        let refused = net.hits_splice(Fault::PipesRefused);
        if refused {
            net.say(self.id, || "is refused a pipe".to_owned());
            self.no_pipes_until = net.now + RETRY_AFTER;
        }
        !refused
    }

    /// Takes a pipe back from who reads slowly, at times.
    pub(super) fn recall_pipe(&mut self, net: &mut Net<'_>) {
        if !net.mix.has(Fault::PipesRecalled) {
            return;
        }
        let slow = self.sockets.iter_mut().flatten().filter(|socket| !socket.pipe.is_empty());
        let mut slow: Vec<_> = slow.collect();
        if slow.is_empty() || !net.hits_splice(Fault::PipesRecalled) {
            return;
        }
        let socket = slow.swap_remove(net.splicing.choose.below(slow.len()));
        let (conn, data) = (socket.conn, std::mem::take(&mut socket.pipe));
        socket.recalled += data.len();
        net.say(self.id, || format!("takes back the pipe to {conn:?}, with {} bytes", data.len()));
        self.engine.handle_input(net.now, Input::Unspliced { conn, data });
    }

    /// Bytes that are in pipes, or were taken out of one and not written.
    pub(super) fn in_pipes(&self) -> usize {
        let sockets = self.sockets.iter().flatten();
        sockets.map(|socket| socket.pipe.len() + socket.recalled).sum()
    }

    /// What went through pipes is counted as that, and as read.
    pub(super) fn check_spliced(&self, net: &mut Net<'_>) -> Check {
        let snapshot = self.engine.snapshot();
        let accepted = snapshot.directions.iter().map(|direction| &direction.accepted);
        let counted: u64 = accepted.clone().map(|tcp| tcp.spliced_bytes).sum();
        net.checks.that(Invariant::Credit, counted == self.spliced, || {
            format!("{} counted {counted} bytes as spliced of {}", self.id, self.spliced)
        })?;
        let endpoints = snapshot.services.iter().flat_map(|service| &service.endpoints);
        let endpoints = endpoints.map(|endpoint| &endpoint.stats.tcp);
        let services = snapshot.services.iter().map(|service| &service.stats.tcp);
        let more = accepted.chain(services).chain(endpoints);
        let more = more.filter(|tcp| tcp.spliced_bytes > tcp.read_bytes).count();
        net.checks.that(Invariant::Credit, more == 0, || {
            format!("{} counted more as spliced than as read, {more} times", self.id)
        })
    }
}
