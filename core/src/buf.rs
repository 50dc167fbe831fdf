//! The queue of bytes that wait to be written to one connection.

use alloc::collections::VecDeque;
use alloc::vec::Vec;

use bytes::{Buf, Bytes, BytesMut};

use crate::limits::Limits;

/// Bytes on their way out: slices of read buffers as they are, small pieces copied together.
///
/// ```text
///   parts: [ slice ][ slice ] … | tail: small pieces, copied
///   ^^^^^^^^^^^ `sent`: written, but kept while the queue retains
/// ```
#[derive(Debug, Default)]
pub struct OutQueue {
    parts: VecDeque<Bytes>,
    tail: BytesMut,
    /// Bytes in `parts` and `tail`.
    len: usize,
    /// Of them, written ones: not 0 only while `retain`.
    sent: usize,
    /// How many of `parts` hold no more memory than they use.
    settled: usize,
    /// Slices were handed out: they may be written before that is reported.
    shown: bool,
    /// Keep what was written, so that it can be written again to another connection.
    retain: bool,
}

impl OutQueue {
    /// Bytes that still have to be written.
    pub fn unsent(&self) -> usize {
        self.len - self.sent
    }

    /// Bytes held, written ones included.
    pub fn held(&self) -> usize {
        self.len
    }

    /// What was appended, in one piece: all there is, if nothing else was done.
    pub(crate) fn appended(&self) -> &[u8] {
        &self.tail
    }

    /// May any of what is retained have been written?
    pub(crate) fn may_be_sent(&self) -> bool {
        self.sent > 0 || self.shown
    }

    /// Are there slices that may pin a larger buffer?
    pub(crate) fn is_unsettled(&self) -> bool {
        self.parts.len() > self.settled
    }

    /// Lets `write` append to the queue.
    pub fn append<R>(&mut self, write: impl FnOnce(&mut BytesMut) -> R) -> R {
        let before = self.tail.len();
        let result = write(&mut self.tail);
        self.len += self.tail.len() - before;
        result
    }

    /// Moves the first `n` bytes of `from` here; copies them if that is cheaper.
    pub fn take(&mut self, from: &mut BytesMut, n: usize) {
        self.len += n;
        if n < Limits::COALESCE_BELOW {
            self.tail.extend_from_slice(&from[..n]);
            from.advance(n);
        } else {
            self.push(from.split_to(n).freeze());
        }
    }

    /// Puts a buffer that holds nothing else in front. Nothing of the queue was written, or is retained.
    pub(crate) fn put_first(&mut self, data: Bytes) {
        debug_assert!(!self.retain, "what is retained was before it");
        self.len += data.len();
        self.settled += 1;
        self.parts.push_front(data);
    }

    /// Moves the first `n` unsent bytes to `to`, copying only small pieces. What this queue retains
    /// stays here, too.
    pub(crate) fn pass(&mut self, to: &mut OutQueue, n: usize) {
        debug_assert!(n <= self.unsent(), "passed more than there was");
        if self.retain {
            self.pass_copy(to, n);
            self.sent += n;
            return;
        }
        self.len -= n;
        let mut left = n;
        while left > 0 {
            let Some(front) = self.parts.front_mut() else {
                to.len += left;
                if left < Limits::COALESCE_BELOW {
                    to.tail.extend_from_slice(&self.tail[..left]);
                    self.tail.advance(left);
                } else {
                    to.push(self.tail.split_to(left).freeze());
                }
                break;
            };
            let whole = front.len() <= left;
            let part = if whole {
                self.settled = self.settled.saturating_sub(1);
                self.parts.pop_front().unwrap_or_default()
            } else {
                front.split_to(left)
            };
            left -= part.len();
            to.len += part.len();
            if part.len() < Limits::COALESCE_BELOW {
                to.tail.extend_from_slice(&part);
            } else {
                to.push(part);
            }
        }
        if self.len == 0 {
            self.tail.clear();
        }
    }

    /// The same, without taking anything away here.
    fn pass_copy(&mut self, to: &mut OutQueue, n: usize) {
        let before_tail = self.len - self.tail.len();
        let of_tail = (self.sent + n).saturating_sub(before_tail.max(self.sent));
        if of_tail >= Limits::COALESCE_BELOW {
            self.parts.push_back(self.tail.split().freeze());
        }
        let (mut skip, mut left) = (self.sent, n);
        to.len += n;
        for part in &self.parts {
            if left == 0 {
                return;
            }
            if skip >= part.len() {
                skip -= part.len();
                continue;
            }
            let piece = part.slice(skip..(skip + left).min(part.len()));
            skip = 0;
            left -= piece.len();
            if piece.len() < Limits::COALESCE_BELOW {
                to.tail.extend_from_slice(&piece);
            } else {
                to.push(piece);
            }
        }
        to.tail.extend_from_slice(&self.tail[skip..skip + left]);
    }

    /// Gives `to` the last `n` bytes but `skip`, too: as slices of the same memory, but for small
    /// pieces, which are copied.
    pub(crate) fn share(&self, n: usize, skip: usize, to: &mut OutQueue) {
        let end = self.len - skip;
        let start = end - n;
        let mut at = self.len - self.tail.len();
        let mut first = self.parts.len();
        while first > 0 && at > start {
            first -= 1;
            at -= self.parts[first].len();
        }
        to.len += n;
        for part in self.parts.range(first..) {
            let from = start.saturating_sub(at).min(part.len());
            let until = end.saturating_sub(at).min(part.len());
            at += part.len();
            if until - from < Limits::COALESCE_BELOW {
                to.tail.extend_from_slice(&part[from..until]);
            } else {
                to.push(part.slice(from..until));
            }
        }
        if end > at {
            to.tail.extend_from_slice(&self.tail[start.saturating_sub(at)..end - at]);
        }
    }

    /// Appends a slice as it is; `len` is the caller's.
    fn push(&mut self, part: Bytes) {
        if !self.tail.is_empty() {
            self.parts.push_back(self.tail.split().freeze());
        }
        self.parts.push_back(part);
    }

    /// The first `n` unsent bytes were written.
    pub fn wrote(&mut self, n: usize) {
        debug_assert!(n <= self.unsent(), "wrote more than there was");
        let n = n.min(self.unsent());
        if self.retain {
            self.sent += n;
        } else {
            self.discard(n);
        }
    }

    /// From now on, keeps what is written.
    pub(crate) fn retain(&mut self) {
        self.retain = true;
        self.shown = false;
    }

    /// Is everything that was ever queued since [`OutQueue::retain`] still here?
    pub(crate) fn is_retaining(&self) -> bool {
        self.retain
    }

    /// Forgets what was written and no longer keeps it.
    pub(crate) fn release(&mut self) {
        if self.retain {
            self.retain = false;
            let sent = core::mem::take(&mut self.sent);
            self.discard(sent);
        }
    }

    /// Everything that was retained is to be written again, elsewhere.
    pub(crate) fn rewind(&mut self) {
        self.sent = 0;
    }

    /// Copies out slices that use less than half of the buffer they pin. For queues that outlive a
    /// turn.
    pub(crate) fn settle(&mut self) {
        for part in self.parts.iter_mut().skip(self.settled) {
            if part.len() < Limits::READ_BLOCK / 2 {
                *part = Bytes::copy_from_slice(part);
            }
        }
        self.settled = self.parts.len();
    }

    /// The same for a queue that may hold a slice of a large buffer; there is one at most, in front,
    /// as large reads are made while nothing waits. True: it is no longer there.
    pub(crate) fn settle_bulk(&mut self) -> bool {
        let Some(front) = self.parts.front_mut() else { return true };
        if front.len() >= Limits::BULK_BLOCK / 2 {
            return false;
        }
        *front = Bytes::copy_from_slice(front);
        true
    }

    /// Gives up the memory of an empty queue: an idle connection holds none. The copy buffer goes
    /// to `spare`, for the next connection that needs one.
    pub(crate) fn vacate(&mut self, spare: &mut Spare) {
        if self.len == 0 {
            spare.put(core::mem::take(&mut self.tail));
            if self.parts.capacity() > 0 {
                self.parts = VecDeque::new();
            }
        }
    }

    /// Is it as new: without bytes, and without memory for any?
    pub(crate) fn is_unused(&self) -> bool {
        self.tail.capacity() == 0 && self.parts.capacity() == 0 && !self.retain
    }

    /// Takes a copy buffer from `spare` if there is none here.
    pub(crate) fn furnish(&mut self, spare: &mut Spare) {
        if self.tail.capacity() == 0 {
            self.tail = spare.get();
        }
    }

    /// Up to `n` bytes of what has to be written, from the front, in one piece: in `gathered` where
    /// they are not.
    pub(crate) fn front<'a>(&'a self, n: usize, gathered: &'a mut BytesMut) -> &'a [u8] {
        let n = n.min(self.unsent());
        gathered.clear();
        let mut skip = self.sent;
        let parts = self.parts.iter().map(|part| &part[..]);
        for piece in parts.chain(core::iter::once(&self.tail[..])) {
            if skip >= piece.len() {
                skip -= piece.len();
                continue;
            }
            let piece = &piece[skip..];
            skip = 0;
            if gathered.is_empty() && piece.len() >= n {
                return &piece[..n];
            }
            let part = piece.len().min(n - gathered.len());
            gathered.extend_from_slice(&piece[..part]);
            if gathered.len() == n {
                break;
            }
        }
        gathered
    }

    /// Fills `io` with what has to be written, from the front; how many slices that took.
    pub fn slices<'a>(&'a self, io: &mut [&'a [u8]]) -> usize {
        let mut skip = self.sent;
        if self.parts.is_empty() {
            // Heads and small bodies are all that most queues hold.
            let Some(slot) = io.first_mut().filter(|_| skip < self.len) else { return 0 };
            *slot = &self.tail[skip..];
            return 1;
        }
        let mut used = 0;
        let parts = self.parts.iter().map(|part| &part[..]);
        for piece in parts.chain(core::iter::once(&self.tail[..])) {
            if skip >= piece.len() {
                skip -= piece.len();
                continue;
            }
            let Some(slot) = io.get_mut(used) else { break };
            *slot = &piece[skip..];
            skip = 0;
            used += 1;
        }
        used
    }

    /// Appends what has to be written to `out`, as owned slices. They stay in the queue until they
    /// are reported as written.
    pub fn owned(&mut self, out: &mut Vec<Bytes>) {
        self.shown = true;
        if !self.tail.is_empty() {
            self.parts.push_back(self.tail.split().freeze());
        }
        let mut skip = self.sent;
        for part in &self.parts {
            if skip >= part.len() {
                skip -= part.len();
            } else {
                out.push(part.slice(skip..));
                skip = 0;
            }
        }
    }

    fn discard(&mut self, mut n: usize) {
        self.len -= n;
        while n > 0 {
            let Some(front) = self.parts.front_mut() else {
                if self.len > 0 {
                    self.tail.advance(n);
                }
                break;
            };
            if n < front.len() {
                front.advance(n);
                return;
            }
            n -= front.len();
            self.parts.pop_front();
            self.settled = self.settled.saturating_sub(1);
        }
        if self.len == 0 {
            // The whole buffer is free again, unless `advance` has moved its start before.
            self.tail.clear();
        }
    }
}

/// A few empty buffers that wait for their next use: a request allocates none.
#[derive(Debug, Default)]
pub(crate) struct Spare {
    buffers: Vec<BytesMut>,
}

impl Spare {
    const COUNT: usize = 64;
    /// Buffers that grew beyond this are given back to the allocator.
    const CAPACITY: usize = 16 * 1024;
    /// What a message head and a small body need.
    const INITIAL: usize = 1024;

    pub(crate) fn put(&mut self, mut buffer: BytesMut) {
        buffer.clear();
        // Restores the part that was advanced over; false if a slice of it is still in use.
        let whole = buffer.try_reclaim(Self::INITIAL);
        if whole && buffer.capacity() <= Self::CAPACITY && self.buffers.len() < Self::COUNT {
            self.buffers.push(buffer);
        }
    }

    pub(crate) fn get(&mut self) -> BytesMut {
        self.buffers.pop().unwrap_or_else(|| BytesMut::with_capacity(Self::INITIAL))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec;

    fn content(queue: &OutQueue) -> Vec<u8> {
        let mut io = [&[][..]; 16];
        let n = queue.slices(&mut io);
        io[..n].concat()
    }

    fn push(queue: &mut OutQueue, n: usize, byte: u8) {
        let mut buf = BytesMut::from(&vec![byte; n][..]);
        queue.take(&mut buf, n);
        assert!(buf.is_empty());
    }

    #[test]
    fn order_is_kept_and_every_partial_write_leaves_the_rest() {
        let build = || {
            let mut queue = OutQueue::default();
            push(&mut queue, 3, b'a');
            push(&mut queue, Limits::COALESCE_BELOW, b'b');
            queue.append(|out| out.extend_from_slice(b"cc"));
            push(&mut queue, 1, b'd');
            queue
        };
        let whole = content(&build());
        assert_eq!(whole.len(), build().unsent());
        for cut in 0..=whole.len() {
            let mut queue = build();
            queue.wrote(cut);
            assert_eq!(content(&queue), whole[cut..]);
            queue.settle();
            assert_eq!(content(&queue), whole[cut..]);
            let mut owned = Vec::new();
            queue.owned(&mut owned);
            assert_eq!(owned.concat(), whole[cut..]);
        }
    }

    #[test]
    fn retained_bytes_can_be_written_again() {
        let mut queue = OutQueue::default();
        queue.retain();
        push(&mut queue, 2000, b'x');
        push(&mut queue, 5, b'y');
        let whole = content(&queue);
        queue.wrote(1500);
        assert_eq!((content(&queue).len(), queue.held(), queue.may_be_sent()), (505, 2005, true));
        queue.rewind();
        assert_eq!(content(&queue), whole);
        queue.wrote(2003);
        queue.release();
        assert_eq!((content(&queue), queue.held()), (b"yy".to_vec(), 2));
    }

    #[test]
    fn passing_on_keeps_order_whatever_the_pieces_and_retains_what_it_should() {
        for retain in [false, true] {
            let build = || {
                let mut queue = OutQueue::default();
                if retain {
                    queue.retain();
                }
                push(&mut queue, 3, b'a');
                push(&mut queue, Limits::COALESCE_BELOW + 7, b'b');
                queue.append(|out| out.extend_from_slice(&[b'c'; 2000]));
                queue
            };
            let whole = content(&build());
            for first in 0..=whole.len() {
                let (mut from, mut to) = (build(), OutQueue::default());
                to.append(|out| out.extend_from_slice(b"<"));
                from.pass(&mut to, first);
                assert_eq!(content(&from), whole[first..]);
                from.pass(&mut to, whole.len() - first);
                assert_eq!(
                    (content(&to)[1..].to_vec(), to.unsent()),
                    (whole.clone(), 1 + whole.len())
                );
                assert_eq!(from.held(), if retain { whole.len() } else { 0 });
                from.rewind();
                assert_eq!(content(&from).len(), from.held());
            }
        }
    }

    #[test]
    fn sharing_gives_the_last_bytes_and_takes_none_away() {
        let build = || {
            let mut queue = OutQueue::default();
            push(&mut queue, 3, b'a');
            push(&mut queue, Limits::COALESCE_BELOW + 7, b'b');
            push(&mut queue, Limits::COALESCE_BELOW, b'c');
            queue.append(|out| out.extend_from_slice(b"dddd\r\n"));
            queue
        };
        let queue = build();
        let whole = content(&queue);
        for skip in 0..8 {
            for n in 0..=whole.len() - skip {
                let mut to = OutQueue::default();
                to.append(|out| out.extend_from_slice(b"<"));
                queue.share(n, skip, &mut to);
                let end = whole.len() - skip;
                assert_eq!(content(&to)[1..], whole[end - n..end]);
                assert_eq!((to.unsent(), content(&queue).len()), (1 + n, whole.len()));
            }
        }
        // What is large is the same memory.
        let mut to = OutQueue::default();
        queue.share(Limits::COALESCE_BELOW, 6, &mut to);
        assert!(core::ptr::eq(to.parts[0].as_ptr(), queue.parts[2].as_ptr()));
    }

    #[test]
    fn settling_unpins_the_read_buffer() {
        let mut block = BytesMut::with_capacity(Limits::READ_BLOCK);
        block.resize(2048, 7);
        let mut data = block.split();
        let mut queue = OutQueue::default();
        queue.take(&mut data, 2048);
        drop(data);
        assert!(queue.is_unsettled() && !block.try_reclaim(Limits::READ_BLOCK));
        queue.settle();
        assert!(!queue.is_unsettled() && block.try_reclaim(Limits::READ_BLOCK));
    }

    #[test]
    fn what_is_left_of_a_large_read_unpins_it_once_it_is_small() {
        let mut block = BytesMut::with_capacity(Limits::BULK_BLOCK);
        block.resize(Limits::BULK_BLOCK, 7);
        let mut data = block.split();
        let mut queue = OutQueue::default();
        queue.take(&mut data, Limits::BULK_BLOCK);
        drop(data);
        queue.settle();
        queue.wrote(Limits::BULK_BLOCK / 2);
        assert!(!queue.settle_bulk() && !block.try_reclaim(Limits::BULK_BLOCK));
        queue.wrote(1);
        assert!(queue.settle_bulk() && block.try_reclaim(Limits::BULK_BLOCK));
        assert_eq!(content(&queue), vec![7; Limits::BULK_BLOCK / 2 - 1]);
    }

    #[test]
    fn an_idle_queue_holds_nothing() {
        let mut spare = Spare::default();
        let mut queue = OutQueue::default();
        queue.furnish(&mut spare);
        push(&mut queue, 10, 1);
        queue.wrote(10);
        queue.vacate(&mut spare);
        assert_eq!((queue.tail.capacity(), queue.parts.capacity()), (0, 0));
        assert_eq!(spare.buffers.len(), 1);
        assert!(spare.get().capacity() >= Spare::INITIAL);
    }
}
