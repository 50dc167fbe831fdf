//! What can be read on the way between two engines: which requests have come, in either version of
//! HTTP, in TLS without cryptography or without any TLS.

use selvedge_core::hpack::Decoder;

use crate::h2::wire::{Frame, PREFACE};
use crate::traffic::content::number;

/// Frames of HTTP/2 that are looked at (RFC 9113 §6).
const HEADERS: u8 = 1;
const CONTINUATION: u8 = 9;
const END_HEADERS: u8 = 0x4;
/// The table of field lines that engines give each other (RFC 9113 §6.5.2).
const TABLE: u32 = 4096;
/// A record of application data (RFC 8446 §5.1).
const DATA: u8 = 23;
/// What a record of no cryptography is masked with.
const MASK: u8 = 0xa5;

/// Reads along what one end of a link sends.
#[derive(Debug, Default)]
pub(super) struct Tap {
    /// Records that are not complete.
    sealed: Vec<u8>,
    /// What is not understood yet.
    plain: Vec<u8>,
    /// It speaks HTTP/2: its field lines, and a block that is not complete.
    streams: Option<(Decoder, Vec<u8>)>,
    /// What came cannot be followed any more.
    lost: bool,
}

impl Tap {
    /// More came, in records if `sealed`: the requests whose heads are complete now.
    pub(super) fn read(&mut self, data: &[u8], sealed: bool) -> Vec<u32> {
        if self.lost {
            return Vec::new();
        }
        if sealed {
            self.sealed.extend_from_slice(data);
            self.unseal();
        } else {
            self.plain.extend_from_slice(data);
        }
        if self.streams.is_none() {
            // Behind a transport header, perhaps.
            let preface = self.plain.windows(PREFACE.len()).position(|it| it == PREFACE);
            if let Some(at) = preface {
                self.plain.drain(..at + PREFACE.len());
                self.streams = Some((Decoder::new(TABLE), Vec::new()));
            }
        }
        if self.streams.is_some() { self.read_frames() } else { self.read_heads() }
    }

    fn unseal(&mut self) {
        while let [kind, _, _, high, low, rest @ ..] = &self.sealed[..] {
            let length = usize::from(u16::from_be_bytes([*high, *low]));
            let Some(body) = rest.get(..length) else { return };
            if *kind == DATA
                && let Some((_, masked)) = body.split_last()
            {
                self.plain.extend(masked.iter().map(|byte| byte ^ MASK));
            }
            self.sealed.drain(..5 + length);
        }
    }

    /// Heads of HTTP/1 name their request in a line, whatever comes between them.
    fn read_heads(&mut self) -> Vec<u32> {
        const LINE: &[u8] = b"\r\nx-id: ";
        let mut ids = Vec::new();
        let mut done = 0;
        for at in 0..self.plain.len().saturating_sub(LINE.len() + 7) {
            let (name, value) = self.plain[at..].split_at(LINE.len());
            if name.eq_ignore_ascii_case(LINE) {
                ids.extend(number(&value[..8]));
                done = at + LINE.len();
            }
        }
        // The beginning of a line, or of the preface, may be at the end.
        let keep = self.plain.len().saturating_sub(LINE.len() + 7 + PREFACE.len());
        self.plain.drain(..keep.max(done));
        ids
    }

    fn read_frames(&mut self) -> Vec<u32> {
        let mut ids = Vec::new();
        let Some((decoder, block)) = &mut self.streams else { return ids };
        let mut rest = &self.plain[..];
        while let Some(frame) = Frame::take(&mut rest) {
            if !matches!(frame.kind, HEADERS | CONTINUATION) {
                continue;
            }
            block.extend_from_slice(&frame.payload);
            if !frame.has(END_HEADERS) {
                continue;
            }
            let decoded = decoder.decode(block, usize::MAX, |line| {
                ids.extend((line.name == b"x-id").then(|| number(line.value)).flatten());
            });
            block.clear();
            self.lost |= decoded.is_err();
        }
        let done = self.plain.len() - rest.len();
        self.plain.drain(..done);
        ids
    }
}

#[cfg(test)]
mod tests {
    use super::{MASK, Tap};
    use crate::h2::wire::{Frame, PREFACE};
    use crate::traffic::content::token;

    fn heads() -> Vec<u8> {
        let head = |id| format!("GET / HTTP/1.1\r\nhost: a\r\nX-Id: {}\r\n\r\n", token(id));
        [head(1), head(2), head(70)].concat().into_bytes()
    }

    fn frames() -> Vec<u8> {
        let mut out = b"l5d-something before it".to_vec();
        out.extend_from_slice(PREFACE);
        Frame::settings(&[]).write(&mut out);
        for (stream, id) in [(1, 1), (3, 2), (5, 70)] {
            Frame::headers(stream, false, &[("a", "b"), ("x-id", &token(id))]).write(&mut out);
            Frame::data(stream, true, b"x-id: 12345678").write(&mut out);
        }
        out
    }

    fn seal(plain: &[u8]) -> Vec<u8> {
        let mut out = vec![22, 3, 1, 0, 2, 7, 7];
        for part in plain.chunks(11) {
            out.extend_from_slice(&[23, 3, 3, 0, part.len() as u8 + 1]);
            out.extend(part.iter().map(|byte| byte ^ MASK));
            out.push(0);
        }
        out
    }

    /// Whatever is spoken, and however it is cut.
    #[test]
    fn requests_are_seen_once_each() {
        for (plain, sealed) in
            [heads(), frames()].iter().flat_map(|it| [(it.clone(), false), (seal(it), true)])
        {
            for cut in 1..=plain.len() {
                let mut tap = Tap::default();
                let ids: Vec<u32> =
                    plain.chunks(cut).flat_map(|piece| tap.read(piece, sealed)).collect();
                assert_eq!(ids, [1, 2, 70], "{cut}, {sealed}");
            }
        }
    }
}
