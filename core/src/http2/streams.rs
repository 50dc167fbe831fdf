//! The open streams of a connection, by identifier.

use alloc::collections::VecDeque;

use slab::Slab;

use super::stream::{Stream, StreamKey};

/// Ids only grow, so the index is a sorted list that new streams are appended to; streams that end
/// leave a hole that is closed when there are too many. Nothing is hashed, and an idle connection
/// holds no memory for it.
#[derive(Debug, Default)]
pub(crate) struct Streams {
    slab: Slab<Stream>,
    /// Identifier and slot; [`HOLE`]: gone.
    index: VecDeque<(u32, u32)>,
    holes: usize,
}

const HOLE: u32 = u32::MAX;

impl Streams {
    pub(crate) fn len(&self) -> usize {
        self.slab.len()
    }

    /// Adds a stream whose id is above all others.
    pub(crate) fn insert(&mut self, stream: Stream) -> StreamKey {
        let id = stream.id;
        debug_assert!(self.index.back().is_none_or(|&(last, _)| last < id), "ids only grow");
        let slot = self.slab.insert(stream) as u32;
        self.index.push_back((id, slot));
        StreamKey { slot, id }
    }

    /// The stream with that id on the wire.
    pub(crate) fn find(&self, id: u32) -> Option<StreamKey> {
        // Most frames are about the newest stream, or the only one.
        let &(last, slot) = self.index.back()?;
        let slot = if last == id {
            slot
        } else {
            self.index[self.index.binary_search_by_key(&id, |&(id, _)| id).ok()?].1
        };
        (slot != HOLE).then_some(StreamKey { slot, id })
    }

    pub(crate) fn get(&self, key: StreamKey) -> Option<&Stream> {
        self.slab.get(key.slot as usize).filter(|stream| stream.id == key.id)
    }

    pub(crate) fn get_mut(&mut self, key: StreamKey) -> Option<&mut Stream> {
        self.slab.get_mut(key.slot as usize).filter(|stream| stream.id == key.id)
    }

    pub(crate) fn remove(&mut self, key: StreamKey) -> Option<Stream> {
        self.get(key)?;
        let stream = self.slab.try_remove(key.slot as usize)?;
        if let Ok(at) = self.index.binary_search_by_key(&key.id, |&(id, _)| id) {
            self.index[at].1 = HOLE;
            self.holes += 1;
        }
        self.close_holes();
        Some(stream)
    }

    fn close_holes(&mut self) {
        while let Some(&(_, HOLE)) = self.index.front() {
            self.index.pop_front();
            self.holes -= 1;
        }
        while let Some(&(_, HOLE)) = self.index.back() {
            self.index.pop_back();
            self.holes -= 1;
        }
        if self.holes > self.slab.len() + 16 {
            self.index.retain(|&(_, slot)| slot != HOLE);
            self.holes = 0;
        }
        if self.slab.is_empty() && self.slab.capacity() > 16 {
            // A burst is over.
            *self = Streams::default();
        }
    }

    /// Every stream, the oldest first.
    pub(crate) fn keys(&self) -> impl DoubleEndedIterator<Item = StreamKey> + '_ {
        let open = self.index.iter().filter(|&&(_, slot)| slot != HOLE);
        open.map(|&(id, slot)| StreamKey { slot, id })
    }

    pub(crate) fn values_mut(&mut self) -> impl Iterator<Item = (StreamKey, &mut Stream)> {
        self.slab
            .iter_mut()
            .map(|(slot, stream)| (StreamKey { slot: slot as u32, id: stream.id }, stream))
    }

    /// Heap bytes.
    pub(crate) fn heap_bytes(&self) -> usize {
        self.slab.capacity() * size_of::<Stream>() + self.index.capacity() * size_of::<(u32, u32)>()
    }
}
