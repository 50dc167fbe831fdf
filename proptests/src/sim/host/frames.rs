//! What stands between a peer's streams and its wire: frames in other shapes, and an account of
//! credit and of the ends of streams that shares nothing with the core's.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use selvedge_core::http2::Settings;

use crate::choose::pick;
use crate::h2::wire::{ACK, END_HEADERS, END_STREAM, Frame, PADDED, PREFACE};
use crate::sim::fault::{Fault, Faults};
use crate::sim::invariant::{Check, Invariant};
use crate::sim::net::Net;

/// The types of frames that matter here.
mod kind {
    pub(super) const DATA: u8 = 0;
    pub(super) const HEADERS: u8 = 1;
    pub(super) const RST_STREAM: u8 = 3;
    pub(super) const SETTINGS: u8 = 4;
    pub(super) const PING: u8 = 6;
    pub(super) const GOAWAY: u8 = 7;
    pub(super) const WINDOW_UPDATE: u8 = 8;
    pub(super) const CONTINUATION: u8 = 9;
}

const HEADER_TABLE_SIZE: u16 = 1;
const MAX_CONCURRENT_STREAMS: u16 = 3;
const INITIAL_WINDOW_SIZE: u16 = 4;

/// What streams and connections begin with (RFC 9113 §6.5.2, §6.9.2).
const DEFAULT_WINDOW: i64 = 65_535;
/// What an engine may send in one frame: nobody here says otherwise.
const MAX_FRAME: usize = 16_384;
/// What PINGs of this layer carry.
const OPAQUE: [u8; 8] = *b"are you?";
/// Credit that the peer is not told of, so that there is some for padding: of a stream, and of the
/// connection.
const RESERVE: [i64; 2] = [512, 4096];

/// Whose SETTINGS have not been acknowledged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Whose {
    /// The state machine's behind this layer.
    Peer,
    /// This layer's.
    Ours,
}

/// See the [module](self).
#[derive(Debug)]
pub(super) struct Frames {
    /// It is a client's end.
    client: bool,
    hostile: bool,
    /// Bytes of the preface that go out, or come in, before the first frame.
    preface: [usize; 2],
    /// The peer's own SETTINGS went out.
    greeted: bool,
    /// What may still be sent on the connection: by this end, and by the engine.
    credit: [i64; 2],
    /// What this end's SETTINGS say that a stream begins with: the number that was acknowledged, and those that were not.
    told: VecDeque<i64>,
    settings: VecDeque<Whose>,
    streams: BTreeMap<u32, Stream>,
    /// Streams that the engine has ended.
    ended: BTreeSet<u32>,
    /// The last stream that this end opened, and the last that the engine opened.
    last: [u32; 2],
    /// What the peer decodes header blocks with, and how many streams it takes.
    table: u32,
    concurrent: u32,
    /// A smaller window was told, and this one is to come back.
    lowered: Option<u32>,
    /// There is padding here: some credit is kept back for it.
    pads: bool,
    /// Padding that was sent on the connection and not given back.
    owed: i64,
    /// The largest credit of the connection that this end ever had, and what it has sent.
    full: i64,
    sent: i64,
    /// What had been sent when a PING went out that is not answered, if no stream was open then.
    probe: Option<i64>,
    given: i64,
    /// The frame that is coming in.
    coming: Vec<u8>,
}

/// The engine's credit beyond what streams begin with, and which sides have ended.
#[derive(Clone, Copy, Debug, Default)]
struct Stream {
    credit: i64,
    done: [bool; 2],
    /// Padding that was not given back.
    owed: i64,
}

/// This end, and the engine's.
const US: usize = 0;
const ENGINE: usize = 1;

impl Frames {
    /// Of a client, or else of a server, with what it tells about itself.
    pub(super) fn new(net: &Net<'_>, client: bool, settings: &Settings) -> Self {
        let preface = if client { [PREFACE.len(), 0] } else { [0, PREFACE.len()] };
        Frames {
            client,
            hostile: false,
            preface,
            greeted: false,
            credit: [DEFAULT_WINDOW; 2],
            told: VecDeque::from([DEFAULT_WINDOW]),
            settings: VecDeque::new(),
            streams: BTreeMap::new(),
            ended: BTreeSet::new(),
            last: [0; 2],
            table: settings.header_table_size,
            concurrent: settings.max_concurrent_streams.unwrap_or(100),
            lowered: None,
            pads: net.mix.has(Fault::Padding),
            owed: 0,
            full: DEFAULT_WINDOW,
            sent: 0,
            probe: None,
            given: 0,
            coming: Vec::new(),
        }
    }

    // ---- What goes out ----

    /// Frames of the peer, and what goes on the wire instead.
    pub(super) fn outbound(&mut self, net: &mut Net<'_>, bytes: Vec<u8>) -> Vec<u8> {
        const SHAPES: Faults =
            Faults::of(&[Fault::Padding, Fault::CutFrames, Fault::Pings, Fault::SettingsChange]);
        if bytes.is_empty() {
            return bytes;
        }
        let greeting = std::mem::take(&mut self.preface[US]);
        let mut rest = &bytes[greeting..];
        if net.healed || self.hostile || !net.mix.has_any(SHAPES) {
            while let Some((header, payload, after)) = split(rest) {
                self.note_sent(header, payload, Whose::Peer);
                rest = after;
            }
            return bytes;
        }
        let mut out = bytes[..greeting].to_vec();
        // Whoever asks where a head ends wants it last.
        if self.greeted {
            self.inject(net, &mut out);
        }
        while let Some(frame) = Frame::take(&mut rest) {
            self.reshape(net, frame, &mut out);
        }
        out
    }

    /// The same in other frames: with padding, or in pieces.
    fn reshape(&mut self, net: &mut Net<'_>, mut frame: Frame, out: &mut Vec<u8>) {
        let data = frame.kind == kind::DATA;
        if !data && frame.kind != kind::HEADERS {
            return self.send(&frame, Whose::Peer, out);
        }
        if frame.payload.len() > 1 && net.hits(Fault::CutFrames) {
            let at = net.choose.within(1, frame.payload.len() - 1);
            let rest = frame.payload.split_off(at);
            if data {
                let first = Frame { flags: frame.flags & !END_STREAM, ..frame.clone() };
                self.send(&first, Whose::Peer, out);
                frame.payload = rest;
            } else {
                let last = Frame::new(kind::CONTINUATION, END_HEADERS, frame.stream, rest);
                frame.flags &= !END_HEADERS;
                self.pad(net, &mut frame);
                self.send(&frame, Whose::Peer, out);
                return self.send(&last, Whose::Peer, out);
            }
        }
        self.pad(net, &mut frame);
        self.send(&frame, Whose::Peer, out);
    }

    fn pad(&mut self, net: &mut Net<'_>, frame: &mut Frame) {
        let data = frame.kind == kind::DATA;
        let plain = !frame.has(PADDED) && frame.payload.len() + 256 < MAX_FRAME;
        // A request is known before padding at its end has come.
        let plain = plain && (data || !self.client || !frame.has(END_HEADERS));
        if plain && net.hits(Fault::Padding) {
            let padding = net.choose.below(256) as u8;
            if !data || self.owe(frame.stream, 1 + i64::from(padding)) {
                frame.flags |= PADDED;
                frame.payload.insert(0, padding);
                frame.payload.resize(frame.payload.len() + usize::from(padding), 0);
            }
        }
    }

    /// Takes credit for padding, if there is some.
    fn owe(&mut self, id: u32, size: i64) -> bool {
        let greeted = self.full > DEFAULT_WINDOW;
        let Some(stream) = self.streams.get_mut(&id).filter(|_| greeted) else { return false };
        let fits = stream.owed + size <= RESERVE[0] && self.owed + size <= RESERVE[1];
        if fits {
            stream.owed += size;
            self.owed += size;
        }
        fits
    }

    /// Says something that the peer has not asked for, and that is allowed.
    fn inject(&mut self, net: &mut Net<'_>, out: &mut Vec<u8>) {
        if net.hits(Fault::Pings) {
            self.ping(out);
        }
        if net.hits(Fault::SettingsChange) {
            let entry = match net.choose.below(3) {
                0 => (HEADER_TABLE_SIZE, pick(net.choose, &[0, self.table / 2, self.table])),
                1 => (MAX_CONCURRENT_STREAMS, self.concurrent.min(pick(net.choose, &[100, 1, 3]))),
                _ => {
                    let now = self.told.back().copied().unwrap_or(DEFAULT_WINDOW) as u32;
                    self.lowered.get_or_insert(now);
                    (INITIAL_WINDOW_SIZE, net.choose.below(now as usize + 1) as u32)
                }
            };
            self.send(&Frame::settings(&[entry]), Whose::Ours, out);
        }
    }

    fn ping(&mut self, out: &mut Vec<u8>) {
        self.probe = self.streams.is_empty().then_some(self.sent);
        self.send(&Frame::ping(OPAQUE), Whose::Ours, out);
    }

    /// Has it told of a smaller window that it should take back?
    pub(super) fn has_lowered(&self) -> bool {
        self.lowered.is_some()
    }

    /// Takes back that windows are smaller.
    pub(super) fn restore(&mut self) -> Vec<u8> {
        let mut out = Vec::new();
        if let Some(window) = self.lowered.take() {
            let settings = Frame::settings(&[(INITIAL_WINDOW_SIZE, window)]);
            self.send(&settings, Whose::Ours, &mut out);
        }
        out
    }

    /// Says goodbye at once: of the engine's streams none above `last` was looked at.
    pub(super) fn goodbye(&mut self, last: u32) -> Vec<u8> {
        let payload = [last.to_be_bytes(), [0; 4]].concat();
        let mut out = Vec::new();
        self.send(&Frame::new(kind::GOAWAY, 0, 0, payload), Whose::Ours, &mut out);
        out
    }

    /// Asks whether everything has come: the answer tells about credit.
    pub(super) fn probe(&mut self) -> Vec<u8> {
        let mut out = Vec::new();
        if self.greeted {
            self.ping(&mut out);
        }
        out
    }

    /// What it says from now on, no peer should: nothing is known any more.
    pub(super) fn give_up(&mut self) {
        self.hostile = true;
    }

    fn send(&mut self, frame: &Frame, whose: Whose, out: &mut Vec<u8>) {
        self.note_sent((frame.kind, frame.flags, frame.stream), &frame.payload, whose);
        frame.write(out);
    }

    /// Keeps account of a frame that goes out.
    fn note_sent(&mut self, (kind, flags, id): Header, payload: &[u8], whose: Whose) {
        match kind {
            kind::DATA => {
                let len = size(payload);
                self.credit[US] -= len;
                self.sent += len;
            }
            kind::HEADERS if self.client && id > self.last[US] => {
                self.last[US] = id;
                self.streams.insert(id, Stream::default());
                self.probe = None;
            }
            kind::RST_STREAM => {
                self.streams.remove(&id);
            }
            kind::SETTINGS if flags & ACK == 0 => {
                self.greeted = true;
                self.settings.push_back(whose);
                let before = self.told.back().copied().unwrap_or(DEFAULT_WINDOW);
                let window = setting(payload, INITIAL_WINDOW_SIZE).map_or(before, i64::from);
                self.told.push_back(window);
            }
            kind::WINDOW_UPDATE if id == 0 => self.credit[ENGINE] += i64::from(word(payload)),
            kind::WINDOW_UPDATE => {
                if let Some(stream) = self.streams.get_mut(&id) {
                    stream.credit += i64::from(word(payload));
                }
            }
            _ => {}
        }
        if matches!(kind, kind::DATA | kind::HEADERS) && flags & END_STREAM > 0 {
            self.end(US, id);
        }
    }

    /// One side of a stream has ended.
    fn end(&mut self, side: usize, id: u32) {
        let Some(stream) = self.streams.get_mut(&id) else { return };
        stream.done[side] = true;
        if stream.done == [true; 2] {
            self.streams.remove(&id);
        }
    }

    // ---- What comes in ----

    /// Bytes of the engine, and what the peer gets to see of them.
    pub(super) fn inbound(&mut self, net: &mut Net<'_>, bytes: &[u8], out: &mut Vec<u8>) -> Check {
        let greeting = self.preface[ENGINE].min(bytes.len());
        self.preface[ENGINE] -= greeting;
        out.extend_from_slice(&bytes[..greeting]);
        if self.hostile {
            out.extend_from_slice(&self.coming);
            out.extend_from_slice(&bytes[greeting..]);
            self.coming.clear();
            return Ok(());
        }
        let mut coming = std::mem::take(&mut self.coming);
        let fresh = coming.is_empty();
        if !fresh {
            coming.extend_from_slice(&bytes[greeting..]);
        }
        let mut rest = if fresh { &bytes[greeting..] } else { &coming[..] };
        while let Some((header, payload, after)) = split(rest) {
            let frame = &rest[..rest.len() - after.len()];
            self.take(net, header, payload, frame, out)?;
            rest = after;
        }
        self.coming = rest.to_vec();
        Ok(())
    }

    /// A frame of the engine: is it allowed, and what is the peer told?
    fn take(
        &mut self,
        net: &mut Net<'_>,
        header: Header,
        payload: &[u8],
        frame: &[u8],
        out: &mut Vec<u8>,
    ) -> Check {
        let (kind, flags, id) = header;
        net.coverage.frame(kind);
        net.checks.that(Invariant::Bodies, payload.len() <= MAX_FRAME, || {
            format!("a frame of {} bytes", payload.len())
        })?;
        match kind {
            kind::DATA | kind::HEADERS => self.take_message(net, header, size(payload))?,
            kind::RST_STREAM => {
                self.streams.remove(&id);
                self.ended.insert(id);
            }
            kind::SETTINGS if flags & ACK > 0 => {
                self.told.pop_front();
                if self.settings.pop_front() == Some(Whose::Ours) {
                    return Ok(());
                }
            }
            kind::SETTINGS => {
                self.take_settings(payload, frame, out);
                return Ok(());
            }
            kind::PING if flags & ACK > 0 && payload == OPAQUE => return self.answered(net),
            kind::WINDOW_UPDATE => return self.take_credit(net, id, payload, frame, out),
            _ => {}
        }
        out.extend_from_slice(frame);
        Ok(())
    }

    fn take_message(&mut self, net: &mut Net<'_>, (kind, flags, id): Header, len: i64) -> Check {
        let again = self.ended.contains(&id);
        net.checks
            .that(Invariant::EndsOnce, !again, || format!("stream {id} goes on after its end"))?;
        let opens = !self.client && kind == kind::HEADERS && id > self.last[ENGINE];
        if opens {
            self.last[ENGINE] = id;
            self.streams.insert(id, Stream::default());
            self.probe = None;
        }
        if kind == kind::DATA {
            self.credit[ENGINE] -= len;
            let most = self.told.iter().copied().max().unwrap_or(DEFAULT_WINDOW);
            let left = self.credit[ENGINE];
            let stream = self.streams.get_mut(&id);
            let of_stream = stream.map_or(0, |stream| {
                stream.credit -= len;
                most + stream.credit
            });
            net.checks.that(Invariant::Credit, len == 0 || left >= 0 && of_stream >= 0, || {
                format!(
                    "{len} bytes on stream {id}, which leaves it {of_stream}, and {left} to all"
                )
            })?;
        }
        if flags & END_STREAM > 0 {
            self.ended.insert(id);
            self.end(ENGINE, id);
        }
        Ok(())
    }

    /// The peer is told of smaller windows than there are, so that there is credit for padding.
    fn take_settings(&self, payload: &[u8], frame: &[u8], out: &mut Vec<u8>) {
        let start = out.len();
        out.extend_from_slice(frame);
        for (index, entry) in payload.chunks_exact(6).enumerate() {
            if self.pads && entry[..2] == INITIAL_WINDOW_SIZE.to_be_bytes() {
                let less = (i64::from(word(&entry[2..])) - RESERVE[0]).max(0) as u32;
                let at = start + 9 + 6 * index + 2;
                out[at..at + 4].copy_from_slice(&less.to_be_bytes());
            }
        }
    }

    fn take_credit(
        &mut self,
        net: &mut Net<'_>,
        id: u32,
        payload: &[u8],
        frame: &[u8],
        out: &mut Vec<u8>,
    ) -> Check {
        let n = i64::from(word(payload));
        let stream = self.streams.get_mut(&id);
        let owed = match stream {
            Some(stream) => &mut stream.owed,
            None if id == 0 => {
                self.credit[US] += n;
                self.given += n;
                let first = self.full == DEFAULT_WINDOW;
                if first {
                    // The greeting: it gives nothing back.
                    self.full += n;
                    self.given = 0;
                    self.owed += if self.pads { RESERVE[1] } else { 0 };
                }
                &mut self.owed
            }
            None => {
                out.extend_from_slice(frame);
                return Ok(());
            }
        };
        let kept = n.min(*owed);
        *owed -= kept;
        if kept < n {
            out.extend_from_slice(&frame[..9]);
            out.extend_from_slice(&((n - kept) as u32).to_be_bytes());
        }
        let more = self.credit[US] <= self.full;
        net.checks.that(Invariant::Credit, more, || {
            format!("credit of {} where there was {}", self.credit[US], self.full)
        })
    }

    /// Everything that was sent before a PING has come: what is not given back is little.
    fn answered(&mut self, net: &mut Net<'_>) -> Check {
        let Some(sent) = self.probe.take() else { return Ok(()) };
        let kept = sent - self.given;
        net.checks.that(Invariant::Credit, kept <= self.full / 2, || {
            format!("of {} bytes of credit {kept} are not given back", self.full)
        })
    }
}

/// Type, flags and stream.
type Header = (u8, u8, u32);

/// The first frame of `bytes`, and what follows it.
fn split(bytes: &[u8]) -> Option<(Header, &[u8], &[u8])> {
    let (header, rest) = bytes.split_first_chunk::<9>()?;
    let len = u32::from_be_bytes([0, header[0], header[1], header[2]]) as usize;
    let (payload, rest) = rest.split_at_checked(len)?;
    Some(((header[3], header[4], word(&header[5..])), payload, rest))
}

/// How much credit a payload takes.
fn size(payload: &[u8]) -> i64 {
    i64::try_from(payload.len()).unwrap_or(i64::MAX)
}

/// The number that a payload begins with.
fn word(payload: &[u8]) -> u32 {
    payload.first_chunk().map_or(0, |bytes| u32::from_be_bytes(*bytes))
}

/// What SETTINGS say about something.
fn setting(payload: &[u8], id: u16) -> Option<u32> {
    let entries = payload.chunks_exact(6);
    entries.rev().find(|entry| entry[..2] == id.to_be_bytes()).map(|entry| word(&entry[2..]))
}
