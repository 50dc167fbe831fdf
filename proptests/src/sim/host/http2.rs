//! A client's or an app's end of a connection of HTTP/2: streams, their frames, and their wire.

use std::time::Duration;

use selvedge_core::http2::{Config, ErrorCode};

use super::frames::Frames;
use super::wire::Wire;
use crate::choose::pick;
use crate::h2::mux::{Happened, Mux};
use crate::sim::fault::Fault;
use crate::sim::invariant::{Invariant, Violation, violated};
use crate::sim::net::{HostId, Net};

/// Tokens of wake-ups, for both hosts.
const CREDIT: u32 = 12;
const RESTORE: u32 = 13;
/// Those of a stream: its number goes before it.
pub(super) const STREAM: u32 = 16;

/// See the [module](self).
#[derive(Debug)]
pub(super) struct Streams {
    pub(super) mux: Mux,
    frames: Frames,
    me: HostId,
    slot: u32,
    /// It takes back soon that windows are smaller.
    restores: bool,
    /// It says nothing more.
    pub(super) mute: bool,
}

impl Streams {
    /// A client's end.
    pub(super) fn client(net: &mut Net<'_>, me: HostId, slot: u32) -> Self {
        let config = config(net);
        let frames = Frames::new(net, true, &config.settings);
        Self::new(Mux::client(config, net.now), frames, me, slot)
    }

    /// An app's end.
    pub(super) fn server(net: &mut Net<'_>, me: HostId, slot: u32) -> Self {
        let config = config(net);
        let frames = Frames::new(net, false, &config.settings);
        Self::new(Mux::server(config, net.now), frames, me, slot)
    }

    fn new(mux: Mux, frames: Frames, me: HostId, slot: u32) -> Self {
        Streams { mux, frames, me, slot, restores: false, mute: false }
    }

    // ---- What goes out ----

    /// Sends what can be sent.
    pub(super) fn pump(&mut self, net: &mut Net<'_>, wire: &mut Wire) {
        let bytes = self.mux.take();
        self.send(net, wire, bytes);
    }

    /// The same, for heads only: where the last one ends.
    pub(super) fn pump_heads(&mut self, net: &mut Net<'_>, wire: &mut Wire) -> u64 {
        let bytes = self.mux.take_heads();
        self.send(net, wire, bytes);
        wire.queued
    }

    fn send(&mut self, net: &mut Net<'_>, wire: &mut Wire, bytes: Vec<u8>) {
        if self.mute || bytes.is_empty() || wire.over {
            return;
        }
        let bytes = self.frames.outbound(net, bytes);
        if self.frames.has_lowered() && !self.restores {
            self.restores = true;
            let wait = net.some(Duration::from_secs(1));
            net.wake(wait, self.me, self.slot, RESTORE);
        }
        wire.send(net, &bytes);
    }

    /// Takes back that windows are smaller.
    fn restore(&mut self, net: &mut Net<'_>, wire: &mut Wire) {
        self.restores = false;
        let bytes = self.frames.restore();
        if !self.mute && !bytes.is_empty() {
            wire.send(net, &bytes);
        }
    }

    /// Says goodbye at once: no stream of the engine's above `last` was looked at.
    pub(super) fn goodbye(&mut self, net: &mut Net<'_>, wire: &mut Wire, last: u32) {
        self.pump(net, wire);
        let bytes = self.frames.goodbye(last);
        wire.send(net, &bytes);
    }

    /// Says something that no peer should.
    pub(super) fn offend(&mut self, net: &mut Net<'_>, wire: &mut Wire) {
        self.mux.offend(net.choose);
        self.frames.give_up();
        self.pump(net, wire);
    }

    pub(super) fn reset(&mut self, net: &mut Net<'_>, wire: &mut Wire, id: u32, code: ErrorCode) {
        self.mux.reset(id, code);
        self.pump(net, wire);
    }

    // ---- What comes in ----

    /// What bytes of the engine mean.
    pub(super) fn receive(
        &mut self,
        net: &mut Net<'_>,
        bytes: &[u8],
    ) -> Result<Vec<(u32, Happened)>, Box<Violation>> {
        let mut seen = Vec::with_capacity(bytes.len());
        self.frames.inbound(net, bytes, &mut seen)?;
        let happened = self.mux.receive(&seen, net.now);
        let data = |(_, it): &(u32, Happened)| matches!(it, Happened::Data(..));
        if self.mux.reads
            && happened.as_ref().is_ok_and(|all| all.iter().any(data))
            && net.hits(Fault::LateCredit)
        {
            self.mux.reads = false;
            let wait = net.some(Duration::from_secs(3));
            net.wake(wait, self.me, self.slot, CREDIT);
        }
        net.checks.counts[Invariant::Bodies as usize] += 1;
        net.checks.result(Invariant::Credit, self.mux.check())?;
        happened.map_err(|message| violated(Invariant::Bodies, format!("{}: {message}", self.me)))
    }

    /// It gives back credit again.
    fn read_on(&mut self, net: &mut Net<'_>, wire: &mut Wire) {
        self.mux.read_on();
        self.pump(net, wire);
    }

    /// Nothing goes wrong any more; and has all credit come back?
    pub(super) fn heal(&mut self, net: &mut Net<'_>, wire: &mut Wire) {
        self.restore(net, wire);
        self.read_on(net, wire);
        let bytes = self.frames.probe();
        if !self.mute && !bytes.is_empty() && !wire.is_ending() {
            wire.send(net, &bytes);
        }
    }

    /// A wake-up of the connection.
    pub(super) fn woken(&mut self, net: &mut Net<'_>, wire: &mut Wire, token: u32) {
        match token {
            CREDIT => self.read_on(net, wire),
            RESTORE => self.restore(net, wire),
            _ => {}
        }
    }

    /// The token of a wake-up that is about a stream.
    pub(super) fn token(stream: u32, what: u32) -> u32 {
        stream * STREAM + what
    }
}

/// What a peer says about itself.
fn config(net: &mut Net<'_>) -> Config {
    let mut config = Config::default();
    let settings = &mut config.settings;
    settings.initial_window_size = pick(net.choose, &[16_384, 65_535, 1 << 20]);
    settings.max_concurrent_streams = pick(net.choose, &[Some(100), None]);
    settings.header_table_size = pick(net.choose, &[4096, 0, 100]);
    config.connection_window = pick(net.choose, &[1 << 20, 65_535]);
    if net.hits_once(Fault::SmallWindows) {
        // Small for what is sent here.
        let largest = net.mix.largest as u32;
        settings.initial_window_size = pick(net.choose, &[largest / 8 + 1, largest / 64 + 1]);
    }
    if net.hits_once(Fault::FewStreams) {
        settings.max_concurrent_streams = pick(net.choose, &[Some(1), Some(3)]);
    }
    config
}
