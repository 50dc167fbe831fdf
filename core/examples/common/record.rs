//! Peers talk through something once; what they sent is then given to another of its kind alone, so
//! that nothing but it is measured.

// Each program uses some of it.
#![allow(dead_code)]

use std::collections::BTreeMap;

use selvedge_core::time::Time;

use super::peer::Peer;

/// What stands between peers. Its connections are numbered from 0, those of clients first.
pub(crate) trait Through {
    fn now(&self) -> Time;
    /// How many there are.
    fn connections(&self) -> usize;
    /// One of them brings bytes.
    fn read(&mut self, at: usize, bytes: &[u8]);
    /// What it has written to each since that was last asked for, where that is kept.
    fn wrote(&mut self) -> BTreeMap<usize, Vec<u8>>;
    /// Bytes that it has ever written.
    fn total(&self) -> usize;
}

/// What the peers speak, and how much.
#[derive(Clone, Copy)]
pub(crate) struct Talk {
    pub(crate) from_http2: bool,
    pub(crate) to_http2: bool,
    /// Connections of clients, which are there, and what each has under way at once.
    pub(crate) clients: usize,
    pub(crate) streams: usize,
    /// So many calls, or a few more.
    pub(crate) count: usize,
}

/// Lets peers talk; what they sent, as records of connection, length and bytes.
pub(crate) fn record(hop: &mut dyn Through, talk: Talk) -> Vec<u8> {
    let mut peers: Vec<Peer> =
        (0..talk.clients).map(|_| Peer::new(talk.from_http2, true, hop.now())).collect();
    let (mut log, mut answered) = (Vec::new(), 0);
    while answered < talk.count {
        let now = hop.now();
        peers[..talk.clients].iter_mut().for_each(|peer| peer.ask(talk.streams, now));
        let each = if talk.from_http2 { talk.streams } else { 1 };
        let expected = answered + talk.clients * each;
        while answered < expected {
            for (at, peer) in peers.iter_mut().enumerate() {
                for piece in peer.written().chunks(32 * 1024) {
                    log.extend_from_slice(&(at as u32).to_le_bytes());
                    log.extend_from_slice(&(piece.len() as u32).to_le_bytes());
                    log.extend_from_slice(piece);
                    hop.read(at, piece);
                }
            }
            peers.resize_with(hop.connections(), || Peer::new(talk.to_http2, false, hop.now()));
            for (at, bytes) in hop.wrote() {
                peers[at].rx.extend_from_slice(&bytes);
                let complete = peers[at].take(hop.now());
                answered += if at < talk.clients { complete } else { 0 };
            }
        }
    }
    log
}

/// Gives it what peers sent to another.
pub(crate) fn replay(hop: &mut dyn Through, mut log: &[u8]) {
    while let Some((at, rest)) = log.split_first_chunk() {
        let (length, rest) = rest.split_first_chunk().expect("a whole record");
        let at = u32::from_le_bytes(*at) as usize;
        let (bytes, rest) = rest.split_at(u32::from_le_bytes(*length) as usize);
        hop.read(at, bytes);
        log = rest;
    }
}

/// `h1` or `h2`.
pub(crate) fn is_http2(version: &str) -> bool {
    match version {
        "h1" => false,
        "h2" => true,
        other => panic!("h1 or h2, not {other}"),
    }
}

pub(crate) fn number(text: &str) -> usize {
    text.parse().unwrap_or_else(|error| panic!("{text}: {error}"))
}
