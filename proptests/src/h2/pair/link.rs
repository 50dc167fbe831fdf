//! The link: what goes on it, and what comes of it.

use super::super::end::Seen;
use super::super::wire::{self, Frame};
use super::{Pair, SERVER, content};
use crate::choose::Choose;

impl Pair<'_> {
    /// Some bytes arrive on one side.
    pub(super) fn carry(&mut self) -> Result<(), String> {
        let to = self.choose.below(2);
        self.load(1 - to);
        let n = match self.choose.below(4) {
            0 => self.wires[to].bytes.len(),
            1 => self.choose.below(20),
            2 => self.choose.below(300),
            _ => self.choose.below(40_000),
        };
        self.deliver(to, n)
    }

    /// What one side wants to send goes on the link, maybe reshaped.
    pub(super) fn load(&mut self, from: usize) {
        let mut bytes = self.ends[from].take();
        let wire = &mut self.wires[1 - from];
        if bytes.starts_with(wire::PREFACE) {
            wire.bytes.extend(bytes.drain(..wire::PREFACE.len()));
        }
        for frame in wire::frames(&bytes) {
            // The first is the answer to the greeting.
            if frame.is("SETTINGS") && frame.has(wire::ACK) {
                wire.made_up += 1;
                if wire.made_up > 1 {
                    continue;
                }
            }
            for frame in reshape(self.choose, frame) {
                frame.write(&mut wire.bytes);
            }
        }
    }

    pub(super) fn deliver(&mut self, to: usize, n: usize) -> Result<(), String> {
        let n = n.min(self.wires[to].bytes.len());
        let bytes: Vec<u8> = self.wires[to].bytes.drain(..n).collect();
        self.ends[to].receive(&bytes);
        if self.ends[to].dead || !self.ends[to].violations.is_empty() {
            return Err(format!("{:?} at {to}", self.ends[to].violations));
        }
        for seen in std::mem::take(&mut self.ends[to].seen) {
            self.arrived(to, seen)?;
        }
        Ok(())
    }

    fn arrived(&mut self, to: usize, seen: Seen) -> Result<(), String> {
        let line = match seen {
            Seen::Data { stream, bytes, end } => return self.data_arrived(to, stream, &bytes, end),
            Seen::Line(line) => line,
        };
        let mut words = line.split(' ');
        let what = words.next().unwrap_or_default();
        if matches!(what, "settings" | "goaway") {
            return Ok(());
        }
        let id: u32 = words.next().and_then(|id| id.parse().ok()).ok_or_else(|| line.clone())?;
        let key = self.ends[to].key(id);
        let exchange = self.exchanges.get_mut(&id).ok_or_else(|| format!("unasked: {line}"))?;
        if to == SERVER {
            exchange.at_server = Some(key);
        }
        let half = if to == SERVER { &mut exchange.request } else { &mut exchange.response };
        if half.got_end && what != "reset" {
            return Err(format!("after the end: {line}"));
        }
        match what {
            "request" | "response" => {
                half.got_end = line.ends_with(" end");
                half.got_heads.push(line);
            }
            "trailers" => {
                half.got_trailers = Some(line);
                half.got_end = true;
                self.tally.trailers += 1;
            }
            "reset" => {
                exchange.reset = true;
                self.tally.resets += 1;
            }
            _ => return Err(line),
        }
        Ok(())
    }

    fn data_arrived(&mut self, to: usize, id: u32, data: &[u8], end: bool) -> Result<(), String> {
        let exchange = self.exchanges.get_mut(&id).ok_or("DATA out of nowhere")?;
        let half = if to == SERVER { &mut exchange.request } else { &mut exchange.response };
        let wanted = content(id, to, half.got_body, data.len());
        if half.got_end || wanted != data {
            return Err(format!("stream {id}: other bytes than were sent"));
        }
        half.got_body += data.len();
        half.got_end = end;
        exchange.unreleased[to] += data.len();
        self.tally.bytes += data.len() as u64;
        Ok(())
    }
}

/// The same in other frames: DATA in several, a header block in several.
fn reshape(choose: &mut dyn Choose, frame: Frame) -> Vec<Frame> {
    let splits = frame.is("DATA") || frame.is("HEADERS");
    if !splits || frame.payload.len() < 2 || !choose.one_in(4) {
        return vec![frame];
    }
    let at = choose.within(1, frame.payload.len() - 1);
    let (mut first, mut second) = (frame.clone(), frame);
    second.payload.drain(..at);
    first.payload.truncate(at);
    if first.is("DATA") {
        first.flags &= !wire::END_STREAM;
    } else {
        first.flags &= !wire::END_HEADERS;
        second.kind = 9;
        second.flags = wire::END_HEADERS;
    }
    vec![first, second]
}
