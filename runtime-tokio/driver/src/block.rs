//! The buffers that all sockets of a worker read into.

use bytes::buf::Limit;
use bytes::{BufMut as _, BytesMut};
use selvedge_core::limits::Limits;

use crate::pipe::Pipes;

/// The blocks of a worker.
#[derive(Debug)]
pub(crate) struct Blocks {
    pub(crate) usual: Block,
    /// For those that move much. It has no memory while there are none.
    pub(crate) bulk: Block,
    /// The same, for those whose bytes nobody has to see.
    pub(crate) pipes: Pipes,
}

impl Default for Blocks {
    fn default() -> Self {
        Blocks {
            usual: Block::default(),
            bulk: Block::new(Limits::BULK_BLOCK),
            pipes: Pipes::default(),
        }
    }
}

/// What every socket of a worker reads into. The filled part is handed over; once that was written
/// on, its room is used again.
#[derive(Debug)]
pub struct Block {
    bytes: BytesMut,
    /// Of a new one.
    size: usize,
    /// Room that the next reader gets.
    pub(crate) most: usize,
}

impl Default for Block {
    fn default() -> Self {
        Block::new(Limits::READ_BLOCK)
    }
}

impl Block {
    /// Of that size, but no memory yet.
    pub(crate) fn new(size: usize) -> Self {
        Block { bytes: BytesMut::new(), size, most: size }
    }

    /// A read into less room than this is not worth its system call: better a new block.
    fn min_room(&self) -> usize {
        self.size / 4
    }

    /// Gives up the memory that it does not share.
    pub(crate) fn vacate(&mut self) {
        self.bytes = BytesMut::new();
    }

    /// Room for a reader that needs no initialised bytes: empty, and to be filled from the front.
    #[inline]
    pub fn spare(&mut self) -> Limit<&mut BytesMut> {
        let most = self.most.min(self.whole_spare().capacity());
        (&mut self.bytes).limit(most)
    }

    #[inline]
    fn whole_spare(&mut self) -> &mut BytesMut {
        self.bytes.clear();
        if !self.bytes.try_reclaim(self.size) && self.bytes.capacity() < self.min_room() {
            self.bytes.reserve(self.size);
        }
        &mut self.bytes
    }

    /// Room for a reader that takes a slice. What is not filled stays initialised for the next
    /// read, so that a block is cleared once and not at each small read.
    pub fn room(&mut self) -> &mut [u8] {
        if self.bytes.len() < self.min_room() {
            let spare = self.whole_spare();
            spare.resize(spare.capacity(), 0);
        }
        let most = self.most.min(self.bytes.len());
        &mut self.bytes[..most]
    }

    /// What was filled.
    pub(crate) fn take(&mut self, length: usize) -> BytesMut {
        self.bytes.split_to(length)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn room_is_used_up_before_there_is_a_new_block() {
        let mut block = Block::default();
        let whole = block.room().len();
        assert!(whole >= Limits::READ_BLOCK);
        block.room()[..3].copy_from_slice(b"abc");
        let first = block.take(3);
        assert_eq!(&first[..], b"abc");
        assert_eq!(block.room().len(), whole - 3);
        let most = block.take(whole - 3 - block.min_room() + 1);
        // Both are still held: their room cannot come back.
        assert!(block.room().len() >= Limits::READ_BLOCK);
        assert_eq!((&first[..], most.len()), (&b"abc"[..], whole - 2 - block.min_room()));
    }

    #[test]
    fn room_comes_back_when_what_was_read_is_gone() {
        let mut block = Block::default();
        let start = block.spare().get_ref().as_ptr();
        block.spare().put_slice(b"abc");
        drop(block.take(3));
        assert_eq!(block.spare().get_ref().as_ptr(), start);
        assert!(block.spare().get_ref().is_empty());
    }

    #[test]
    fn both_kinds_of_room_go_together() {
        let mut block = Block::default();
        block.room()[0] = b'x';
        assert!(block.spare().get_ref().is_empty());
        block.spare().put_slice(b"abc");
        assert_eq!(&block.take(3)[..], b"abc");
        assert!(block.room().len() >= Limits::READ_BLOCK / 4);
    }

    #[test]
    fn no_reader_gets_more_than_it_may_read() {
        let mut block = Block { most: 10, ..Block::default() };
        assert_eq!(block.room().len(), 10);
        drop(block.take(10));
        assert_eq!(block.spare().remaining_mut(), 10);
        block.spare().put_slice(b"0123456789");
        assert_eq!(&block.take(10)[..], b"0123456789");
        block.most = usize::MAX;
        assert!(block.spare().remaining_mut() <= Limits::READ_BLOCK);
        assert!(block.room().len() <= Limits::READ_BLOCK);
    }
}
