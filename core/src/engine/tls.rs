//! TLS on a connection: the stage between its records and its plaintext.
//!
//! ```text
//!   received ─▶ Session::open ─▶ rx ─▶ … the engine … ─▶ tx ─▶ Session::seal ─▶ out ─▶ written
//! ```
//!
//! Everything else of the engine sees plaintext. What waits in `tx` is sealed at the end of a turn,
//! up to a high-water mark, so `tx` keeps its meaning: what is there was not given away yet.

use alloc::boxed::Box;
use alloc::sync::Arc;
use core::net::IpAddr;

use bytes::{Buf, BytesMut};

use super::Engine;
use super::conn::{Conn, Fin, State};
use super::contract::{ConnId, Event};
use crate::buf::OutQueue;
use crate::error::IoError;
use crate::identity::Name;
use crate::time::{Duration, Time};
use crate::tls::session::{MAX_RECORD, RECORD_OVERHEAD};
use crate::tls::{Peer, Problem, Session, Side};

/// The TLS of one connection.
#[derive(Debug)]
pub(crate) struct Tls {
    pub(super) session: Box<dyn Session>,
    pub(super) side: Side,
    /// Received, and not given to the session: the handshake waits for its turn, or for the rest of
    /// a record.
    pub(super) waiting: BytesMut,
    /// Sealed and waiting to be written.
    pub(super) out: OutQueue,
    /// When the handshake began.
    pub(super) since: Time,
    /// Whom a server has to be, or whom a client asked for. For the log.
    pub(super) name: Arc<str>,
    /// Our own address, which the port of a transport header is on.
    pub(super) local: Option<IpAddr>,
    /// The port of the transport header that the server is told, if it agrees to be.
    pub(super) header: Option<u16>,
    pub(super) progress: Progress,
    sizes: RecordSizes,
}

/// How far a session has come.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Progress {
    /// The session was given something, if only nothing: a client has said hello.
    pub(super) begun: bool,
    /// Waits for its turn.
    pub(super) deferred: bool,
    /// The session is of no more use.
    pub(super) failed: bool,
    /// Our close_notify was sealed.
    pub(super) closed: bool,
}

impl Tls {
    pub(super) fn new(session: Box<dyn Session>, side: Side, name: Arc<str>, now: Time) -> Self {
        Tls {
            session,
            side,
            waiting: BytesMut::new(),
            out: OutQueue::default(),
            since: now,
            name,
            local: None,
            header: None,
            progress: Progress::default(),
            sizes: RecordSizes::default(),
        }
    }

    /// Is the handshake over?
    pub(crate) fn is_established(&self) -> bool {
        self.session.peer().is_some()
    }

    pub(crate) fn peer(&self) -> Option<&Peer> {
        self.session.peer()
    }

    /// Sealed bytes that wait to be written.
    pub(crate) fn outgoing(&self) -> &OutQueue {
        &self.out
    }

    /// The same, for whoever takes them away.
    pub(crate) fn outgoing_mut(&mut self) -> &mut OutQueue {
        &mut self.out
    }

    /// What it holds of memory beside plaintext.
    pub(crate) fn held(&self) -> usize {
        self.unopened() + self.out.held()
    }

    /// Of that: what came and waits for the rest of a record, or of a handshake.
    pub(super) fn unopened(&self) -> usize {
        self.waiting.capacity() + self.session.held()
    }

    /// Something is still to be sealed once `tx` is empty: our end.
    fn owes_goodbye(&self) -> bool {
        self.is_established() && !self.progress.closed && !self.progress.failed
    }
}

/// How large records are: a receiver can use none before its last byte. The first ones after a pause
/// fit into one segment each; once a transfer is under way, large ones cost less.
#[derive(Clone, Copy, Debug, Default)]
struct RecordSizes {
    /// Small ones since the last pause.
    small: u8,
    last: Time,
}

impl RecordSizes {
    /// Fits into a segment of 1,400 bytes with what a record adds: Ethernet less IPv6, TCP with
    /// timestamps, and a tunnel around it.
    const SMALL: usize = 1400 - RECORD_OVERHEAD;
    /// The initial window of a connection (RFC 6928): after it, the peer is not waiting for its first
    /// byte any more.
    const COUNT: u8 = 10;
    /// After so long without a byte the window may be the initial one again (RFC 9293's restart).
    const PAUSE: Duration = Duration::from_secs(1);

    fn next(&mut self, now: Time) -> usize {
        if now.saturating_since(self.last) >= Self::PAUSE {
            self.small = 0;
        }
        self.last = now;
        if self.small >= Self::COUNT {
            return MAX_RECORD;
        }
        self.small += 1;
        Self::SMALL
    }
}

impl Conn {
    /// The TLS session, once its handshake is over.
    pub(super) fn peer(&self) -> Option<&Peer> {
        self.tls.as_ref()?.peer()
    }

    /// Whom the peer has proven to be.
    pub(super) fn peer_identity(&self) -> Option<&Name> {
        self.peer()?.identity.as_ref()
    }

    /// Is a handshake in progress?
    pub(super) fn is_handshaking(&self) -> bool {
        self.tls.as_ref().is_some_and(|tls| !tls.is_established())
    }
}

impl Engine {
    /// Bytes were received on a connection that has a session.
    pub(super) fn received_sealed(&mut self, id: ConnId, data: BytesMut) {
        let Some(conn) = self.conns.get_mut(id.index) else { return };
        let Some(tls) = &mut conn.tls else { return };
        if tls.progress.failed || tls.session.is_closed() {
            // Whatever it is, nobody wants it any more.
            if let State::Linger { left } = &mut conn.state {
                *left = left.saturating_sub(data.len());
            }
        } else if tls.is_established() {
            self.open(id, data);
        } else if tls.waiting.is_empty() {
            tls.waiting = data;
        } else {
            tls.waiting.extend_from_slice(&data);
        }
        self.touch_id(id);
    }

    /// Opens records.
    fn open(&mut self, id: ConnId, data: BytesMut) {
        let Some(conn) = self.conns.get_mut(id.index) else { return };
        let Some(tls) = &mut conn.tls else { return };
        if conn.rx.is_empty() {
            // Plaintext is memory of its own from the start.
            conn.rx = BytesMut::new();
            conn.flags.rx_owned = true;
        }
        let (session, rx) = (&mut tls.session, &mut conn.rx);
        let opened = tls.out.append(|out| session.open(data, rx, out));
        conn.flags.dirty |= tls.out.unsent() > 0;
        conn.flags.eof |= tls.session.is_closed();
        if let Err(problem) = opened {
            self.tls_broken(id, problem);
        }
    }

    /// A session cannot go on: as if the connection had broken.
    fn tls_broken(&mut self, id: ConnId, problem: Problem) {
        if let Some(conn) = self.conns.get_mut(id.index)
            && let Some(tls) = &mut conn.tls
        {
            tls.progress.failed = true;
        }
        self.count_tls_failure(id.index, problem);
        // What came before it counts.
        self.touch_id(id);
        self.failed(id, IoError::Reset);
    }

    /// Seals what waits to be sent, and our end behind it.
    pub(super) fn seal(&mut self, index: u32) {
        let now = self.now;
        let high_water = self.config.limits.stream_buffer;
        let Some(id) = self.conns.id(index) else { return };
        let Some(conn) = self.conns.get_mut(index) else { return };
        let Some(tls) = &mut conn.tls else { return };
        if !tls.is_established() || tls.progress.failed {
            return;
        }
        let mut sealed = Ok(());
        if conn.tx.unsent() > 0 && tls.out.unsent() < high_water {
            tls.out.furnish(&mut self.spare);
        }
        while sealed.is_ok() && conn.tx.unsent() > 0 && tls.out.unsent() < high_water {
            let most = tls.sizes.next(now);
            let plain = conn.tx.front(most, &mut self.gathered);
            let (session, n) = (&mut tls.session, plain.len());
            sealed = tls.out.append(|out| session.seal(plain, out));
            conn.tx.wrote(n);
            conn.flags.dirty = true;
        }
        let ends = matches!(conn.state, State::Closing) || conn.flags.fin == Fin::Wanted;
        if conn.tx.unsent() == 0 {
            conn.tx.vacate(&mut self.spare);
            if ends && tls.owes_goodbye() {
                let session = &mut tls.session;
                tls.out.append(|out| session.close(out));
                tls.progress.closed = true;
                conn.flags.dirty = true;
            }
        }
        if let Err(problem) = sealed {
            self.tls_broken(id, problem);
        }
    }

    /// Something that comes before everything else on a connection is sealed now.
    pub(super) fn seal_first(&mut self, index: u32, write: impl FnOnce(&mut BytesMut)) {
        let Some(id) = self.conns.id(index) else { return };
        let Some(conn) = self.conns.get_mut(index) else { return };
        let Some(tls) = &mut conn.tls else { return };
        self.gathered.clear();
        write(&mut self.gathered);
        let (session, plain) = (&mut tls.session, &self.gathered[..]);
        let sealed = tls.out.append(|out| session.seal(plain, out));
        conn.flags.dirty = true;
        if let Err(problem) = sealed {
            self.tls_broken(id, problem);
        }
    }

    /// The peer's FIN came on a connection that has a session. Without its close_notify there may
    /// have been more (RFC 8446 §6.1): it ends nothing that only the end of the connection ends.
    pub(super) fn sealed_eof(&mut self, id: ConnId) {
        let Some(conn) = self.conns.get_mut(id.index) else { return };
        let Some(tls) = &conn.tls else { return };
        conn.flags.truncated = !tls.session.is_closed();
    }

    /// Something was cut short that only a close_notify could have ended.
    pub(super) fn count_truncation(&mut self, index: u32) {
        if let Some(conn) = self.conns.get(index) {
            let direction = conn.direction;
            self.direction(direction).tls.truncated += 1;
        }
    }

    /// Counts a handshake that failed or a session that broke, and says so.
    pub(super) fn count_tls_failure(&mut self, index: u32, problem: Problem) {
        let Some(conn) = self.conns.get(index) else { return };
        let Some(tls) = &conn.tls else { return };
        let (side, name) = (tls.side, Arc::clone(&tls.name));
        self.tls_failed(index, side, name, problem);
    }

    /// The same, where no session was made.
    pub(super) fn tls_failed(&mut self, index: u32, side: Side, name: Arc<str>, problem: Problem) {
        let Some(conn) = self.conns.get(index) else { return };
        let (direction, peer) = (conn.direction, conn.peer);
        self.direction(direction).tls.failures[problem.failure as usize] += 1;
        if let Some(conn) = self.conns.id(index) {
            let name = Some(name);
            self.emit(Event::TlsFailed { conn, direction, side, peer, name, problem });
        }
    }
}

/// How much of `waiting` is whole records, or nothing that could become one: as much as is worth
/// showing to a session.
pub(super) fn whole_records(waiting: &[u8]) -> usize {
    let mut rest = waiting;
    while let Some(&[kind, major, _, high, low]) = rest.first_chunk() {
        let length = usize::from(u16::from_be_bytes([high, low]));
        if !matches!(kind, 20..=23) || major != 3 || length > MAX_RECORD + 256 {
            return waiting.len();
        }
        match rest.get(5 + length..) {
            Some(after) => rest = after,
            None => break,
        }
    }
    waiting.len() - rest.remaining()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_are_small_at_first_and_after_a_pause() {
        let mut sizes = RecordSizes::default();
        let at = |millis: u64| Time::from_nanos(5_000_000_000 + millis * 1_000_000);
        for _ in 0..10 {
            assert_eq!(sizes.next(at(0)), 1378);
        }
        assert_eq!(sizes.next(at(1)), MAX_RECORD);
        assert_eq!(sizes.next(at(1000)), MAX_RECORD);
        assert_eq!(sizes.next(at(2000)), 1378);
    }

    #[test]
    fn whole_records_are_shown_at_once_and_parts_wait() {
        let one = [22, 3, 1, 0, 2, 7, 7];
        let two = [one, one].concat();
        for cut in 0..7 {
            assert_eq!(whole_records(&two[..cut]), 0, "{cut}");
            assert_eq!(whole_records(&two[..7 + cut]), 7, "{cut}");
        }
        assert_eq!(whole_records(&two), 14);
        // What is no record is shown, so that it is refused.
        assert_eq!(whole_records(b"GET / HTTP/1.1"), 14);
        assert_eq!(whole_records(&[22, 3, 1, 0xff, 0xff, 0]), 6);
        assert_eq!(whole_records(&[22, 9, 1, 0, 9]), 5);
    }
}
