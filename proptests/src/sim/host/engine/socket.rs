//! The engine's end of a link: reads and writes.

use std::time::Duration;

use bytes::{Buf as _, BytesMut};
use selvedge_core::engine::{ConnId, Input};
use selvedge_core::error::IoError;
use selvedge_core::limits::Limits;

use super::EngineHost;
use crate::sim::invariant::{Check, Invariant, violated};
use crate::sim::link::{FAR, Fin, LinkId, NEAR};
use crate::sim::mix::LIMITS;
use crate::sim::net::{HostId, Net};

/// How many slices go into one write.
const SLICES: usize = 16;

/// What the adapter knows of a connection.
#[derive(Debug)]
pub(super) struct Socket {
    pub(super) conn: ConnId,
    pub(super) link: LinkId,
    pub(super) side: usize,
    pub(super) connecting: bool,
    /// It is of a health check, which may take so long.
    pub(super) check: Option<Duration>,
    /// On the ready list.
    pub(super) queued: bool,
    /// The engine wants to write, and not everything is written.
    pub(super) flush: bool,
    /// The link takes no more for now.
    pub(super) blocked: bool,
    write_failed: Option<IoError>,
    /// What is in the pipe to it: written before all else.
    pub(super) pipe: BytesMut,
    /// What was taken out of such a pipe and is not written.
    pub(super) recalled: usize,
    /// The budget was seen to be 0.
    pub(super) paused: bool,
    read_closed: bool,
    failed: bool,
    pub(super) fin_sent: bool,
}

impl EngineHost {
    pub(super) fn socket(&mut self, conn: ConnId) -> Option<&mut Socket> {
        self.sockets.get_mut(conn.index())?.as_mut().filter(|socket| socket.conn == conn)
    }

    pub(super) fn insert(&mut self, conn: ConnId, link: LinkId, side: usize) -> Check {
        let index = conn.index();
        if self.sockets.len() <= index {
            self.sockets.resize_with(index + 1, || None);
        }
        if let Some(other) = &self.sockets[index] {
            let message = format!("{conn:?} has the index of {:?}", other.conn);
            return Err(violated(Invariant::Drains, message));
        }
        self.sockets[index] = Some(Socket {
            conn,
            link,
            side,
            connecting: side == NEAR,
            check: None,
            queued: false,
            flush: false,
            blocked: false,
            write_failed: None,
            pipe: BytesMut::new(),
            recalled: 0,
            paused: false,
            read_closed: false,
            failed: false,
            fin_sent: false,
        });
        Ok(())
    }

    /// Writes what was blocked and reads at most one block.
    pub(super) fn visit(&mut self, net: &mut Net<'_>, conn: ConnId) {
        let Some(socket) = self.socket(conn) else { return };
        socket.queued = false;
        if socket.connecting || socket.failed {
            return;
        }
        if socket.flush && !socket.blocked {
            self.flush(net, conn);
        }
        self.read(net, conn);
    }

    pub(super) fn read(&mut self, net: &mut Net<'_>, conn: ConnId) {
        let budget = self.engine.read_budget(conn);
        let Some(Some(socket)) = self.sockets.get_mut(conn.index()) else { return };
        let write_failed = socket.write_failed;
        if budget == 0 || socket.read_closed {
            socket.paused |= budget == 0;
            let gauges = self.engine.gauges();
            net.say(self.id, || format!("{conn:?} may not be read; {gauges:?}"));
            if let Some(kind) = write_failed {
                self.break_off(net, conn, kind);
            }
            return;
        }
        if !self.splice(net, conn) {
            self.read_block(net, conn);
        }
    }

    /// Reads a block, the end, or that there is none.
    pub(super) fn read_block(&mut self, net: &mut Net<'_>, conn: ConnId) {
        let Some(socket) = self.socket(conn) else { return };
        let (link, side, write_failed) = (socket.link, socket.side, socket.write_failed);
        let mut block = std::mem::take(&mut self.block);
        if !block.try_reclaim(Limits::READ_BLOCK) && block.capacity() < Limits::READ_BLOCK / 4 {
            block.reserve(Limits::READ_BLOCK);
        }
        let n = net.read(link, side, Limits::READ_BLOCK.min(block.capacity()), &mut block);
        let pipe = &mut net.links[link as usize].pipes[1 - side];
        if n > 0 {
            let data = block.split();
            self.block = block;
            while let Some(id) = pipe.pop_mark() {
                net.model.requests[id as usize].fed.get_or_insert(net.now);
            }
            let found = &mut net.links[link as usize];
            let from = found.ends[NEAR].host;
            if let (HostId::Engine(_), HostId::Engine(to)) = (from, self.id)
                && side == FAR
                && net.mix.has_any(LIMITS)
            {
                let came = found.tap.read(&data, found.records.is_some());
                net.model.note_between(&came, to, net.now);
            }
            let pipe = &mut net.links[link as usize].pipes[1 - side];
            let more = pipe.ready > 0 || pipe.fin == Fin::Arrived;
            net.say(self.id, || format!("{conn:?} reads {n}: {}", show(&data)));
            self.moved[0] += if side == FAR { n as u64 } else { 0 };
            self.engine.handle_input(net.now, Input::Received { conn, data });
            if more || net.links[link as usize].ends[side].reset.is_some() {
                self.queue(net, conn);
            }
            return;
        }
        self.block = block;
        if pipe.fin == Fin::Arrived {
            pipe.fin = Fin::Read;
            if let Some(socket) = self.socket(conn) {
                socket.read_closed = true;
            }
            net.say(self.id, || format!("{conn:?} reads the end"));
            self.engine.handle_input(net.now, Input::ReadClosed { conn });
        } else if let Some(kind) = net.links[link as usize].ends[side].reset.or(write_failed) {
            self.break_off(net, conn, kind);
        }
    }

    /// Tells the engine that a connection broke.
    pub(super) fn break_off(&mut self, net: &mut Net<'_>, conn: ConnId, kind: IoError) {
        let Some(socket) = self.socket(conn) else { return };
        if !std::mem::replace(&mut socket.failed, true) {
            net.say(self.id, || format!("{conn:?} broke: {kind:?}"));
            self.broken.push(conn);
            self.engine.handle_input(net.now, Input::Failed { conn, kind });
        }
    }

    /// Writes as much as the link takes. True if the engine was told.
    pub(super) fn flush(&mut self, net: &mut Net<'_>, conn: ConnId) -> bool {
        let mut told = false;
        loop {
            let Some(socket) = self.sockets.get_mut(conn.index()).and_then(Option::as_mut) else {
                return told;
            };
            if socket.blocked || socket.write_failed.is_some() {
                return told;
            }
            let mut io = [&[][..]; SLICES];
            let mut count = self.engine.write_bufs(conn, &mut io);
            if !socket.pipe.is_empty() {
                (io[0], count) = (&socket.pipe, 1);
            }
            let wanted: usize = io[..count].iter().map(|slice| slice.len()).sum();
            socket.flush = wanted > 0;
            if wanted == 0 {
                return told;
            }
            match net.write(socket.link, socket.side, &io[..count]) {
                Ok(n) => {
                    net.say(self.id, || format!("{conn:?} writes {n}: {}", show(io[0])));
                    self.moved[1] += if socket.side == FAR { n as u64 } else { 0 };
                    socket.blocked = n < wanted;
                    if n > 0 {
                        let of_pipe = n.min(socket.pipe.len());
                        socket.pipe.advance(of_pipe);
                        socket.recalled -= (n - of_pipe).min(socket.recalled);
                        net.coverage.pipes[4] += u64::from(!socket.pipe.is_empty());
                        self.engine.handle_input(net.now, Input::Wrote { conn, n });
                        told = true;
                    }
                }
                Err(kind) => {
                    socket.write_failed = Some(kind);
                    self.queue(net, conn);
                }
            }
        }
    }
}

fn show(bytes: &[u8]) -> String {
    crate::traffic::wire::show(&bytes[..bytes.len().min(60)])
}
