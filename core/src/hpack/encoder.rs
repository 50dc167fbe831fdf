//! Header blocks that go out (RFC 7541 §3, §6).

use bytes::BytesMut;

use super::hash::{self, equal, hash, hash_words, words};
use super::index::Index;
use super::integer::push;
use super::names::{self, Name};
use super::policy::{self, Literal, Recent};
use super::table::Table;
use super::{DEFAULT_TABLE_SIZE, ENTRY_OVERHEAD, huffman, integer, static_table};

/// Encodes the header blocks of one direction of a connection.
#[derive(Debug)]
pub struct Encoder {
    table: Table,
    index: Index,
    recent: Recent,
    max_table: u32,
    /// The table's size was changed: the smallest it had since the last block.
    resized: Option<u32>,
    expected: Expected,
}

/// Which entry comes next if this block is like those before it. Most are: then a field costs a
/// comparison, and no search.
#[derive(Debug, Default)]
struct Expected {
    /// The entry that was written last in this block, if any was.
    last: Option<u16>,
    next: u16,
    /// The entry that was the first in the last block.
    first: u16,
}

/// No table is larger, in octets: what finds entries numbers them with 16 bits.
const MAX_TABLE: u32 = 64 * 1024;

/// Names with upper-case letters are put into lower case on the stack. Longer ones are written
/// without being looked up.
const MAX_FOLDED: usize = 64;

impl Encoder {
    /// `max_table`: the most memory for the table, in octets as RFC 7541 §4.1 counts, whatever the
    /// peer allows; 64 KiB at most. The peer's setting is [`DEFAULT_TABLE_SIZE`] until it says
    /// otherwise.
    pub fn new(max_table: u32) -> Self {
        let max_table = max_table.min(MAX_TABLE);
        let size = max_table.min(DEFAULT_TABLE_SIZE);
        Encoder {
            table: Table::new(size),
            index: Index::default(),
            recent: Recent::default(),
            max_table,
            resized: (size < DEFAULT_TABLE_SIZE).then_some(size),
            expected: Expected::default(),
        }
    }

    /// The peer's `SETTINGS_HEADER_TABLE_SIZE` is now `octets`. If that changes the table, the next
    /// block begins with its smallest size since the last one, and its final size (RFC 7541 §4.2).
    pub fn set_peer_limit(&mut self, octets: u32) {
        let size = octets.min(self.max_table);
        if size as usize != self.table.max_size() {
            self.table.set_max_size(size);
            self.resized = Some(self.resized.map_or(size, |smallest| smallest.min(size)));
        }
    }

    /// Begins a block: writes the size updates that are due.
    #[inline]
    pub fn begin(&mut self, out: &mut BytesMut) {
        self.expected.last = None;
        self.expected.next = self.expected.first;
        if let Some(smallest) = self.resized.take() {
            self.size_updates(smallest as usize, out);
        }
    }

    fn size_updates(&mut self, smallest: usize, out: &mut BytesMut) {
        let size = self.table.max_size();
        if smallest < size {
            integer::write(out, 0x20, 5, smallest);
        }
        integer::write(out, 0x20, 5, size);
    }

    /// Appends a field. Its name may be in any case and is written in lower case (RFC 9113 §8.2.1).
    /// Whether it is indexed depends on its name and value; `never_indexed` forbids it to all that
    /// follow on the way (RFC 7541 §7.1.3), as some names do of themselves.
    pub fn field(&mut self, out: &mut BytesMut, name: &[u8], value: &[u8], never_indexed: bool) {
        if !never_indexed && self.as_expected(out, name, value) {
            return;
        }
        let words = words(name);
        if !has_upper_case(name, words) {
            return self.lower_case(out, name, words, value, never_indexed);
        }
        let mut folded = [0; MAX_FOLDED];
        match folded.get_mut(..name.len()) {
            Some(folded) => {
                folded.copy_from_slice(name);
                folded.make_ascii_lowercase();
                self.lower_case(out, folded, hash::words(folded), value, never_indexed);
            }
            None => write_long_name(out, name, value, never_indexed),
        }
    }

    /// Appends `:status`.
    pub fn status(&mut self, out: &mut BytesMut, status: u16) {
        let index = match status {
            200 => 8,
            204 => 9,
            206 => 10,
            304 => 11,
            400 => 12,
            404 => 13,
            500 => 14,
            _ => {
                let digit = |unit: u16| b'0' + (status / unit % 10) as u8;
                let value = [digit(100), digit(10), digit(1)];
                return self.field(out, b":status", &value, false);
            }
        };
        self.indexed_static(out, index);
    }

    /// Appends an entry of the static table, 1 to 61, name and value.
    #[inline]
    pub fn indexed_static(&mut self, out: &mut BytesMut, index: u8) {
        debug_assert!((1..=static_table::LEN).contains(&usize::from(index)), "no such entry");
        push(out, 0x80 | index);
    }

    /// The size of the dynamic table, in octets, as RFC 7541 §4.1 counts it.
    pub fn table_bytes(&self) -> usize {
        self.table.size()
    }

    /// Octets of memory that the encoder holds beside itself.
    pub fn heap_bytes(&self) -> usize {
        self.table.heap_bytes() + self.index.heap_bytes()
    }

    /// Appends the field if it is the entry that was expected.
    #[inline]
    fn as_expected(&mut self, out: &mut BytesMut, name: &[u8], value: &[u8]) -> bool {
        let nth = self.index.age(self.expected.next);
        let Some(place) = self.table.place(nth) else { return false };
        if !equal(self.table.bytes(place.value), value)
            || !equal(self.table.bytes(place.name), name)
        {
            return false;
        }
        self.expected.last = Some(self.expected.next);
        self.expected.next = self.table.next(nth);
        write_index(out, nth);
        true
    }

    /// The `nth` entry is written now: learns that it comes after the last one.
    fn learn(&mut self, nth: usize) {
        let entry = self.index.entry(nth);
        match self.expected.last.replace(entry) {
            Some(last) => self.table.set_next(self.index.age(last), entry),
            None => self.expected.first = entry,
        }
        self.expected.next = self.table.next(nth);
    }

    fn lower_case(
        &mut self,
        out: &mut BytesMut,
        name: &[u8],
        words: (u64, u64),
        value: &[u8],
        never_indexed: bool,
    ) {
        let name_hash = hash_words(0, name, words);
        let known = names::find(name, words, name_hash);
        let index = known.map_or(0, |known| known.index);
        if never_indexed {
            return write_literal(out, Literal::Never, index.into(), name, value);
        }
        // What is never indexed need not be looked for.
        if let Some(literal) = known.and_then(|known| policy::not_indexed(known.policy, value)) {
            return write_literal(out, literal, index.into(), name, value);
        }
        if let Some(index) = static_table::with_value(index, value) {
            return push(out, 0x80 | index);
        }
        let label = known.map_or(0, |known| known.id);
        let hash = hash(name_hash, value);
        if let Some(nth) = self.index.find(&self.table, hash, |place| {
            place.label == label
                && equal(self.table.bytes(place.value), value)
                && (label > 0 || self.table.bytes(place.name) == name)
        }) {
            self.learn(nth);
            return write_index(out, nth);
        }
        self.new_literal(out, name, known, (name_hash, hash), value);
    }

    /// Appends a field that is in no table, and may be from now on. The hashes are those of its name
    /// and of both.
    #[inline(never)]
    fn new_literal(
        &mut self,
        out: &mut BytesMut,
        name: &[u8],
        known: Option<&Name>,
        (name_hash, hash): (u64, u64),
        value: &[u8],
    ) {
        let policy = known.map_or_else(|| policy::unknown(name), |known| known.policy);
        let literal = policy::literal(policy, value, || self.recent.seen(hash));
        // An entry that takes most of the table costs more than it saves.
        let size = name.len() + value.len() + ENTRY_OVERHEAD;
        let literal = match literal {
            Literal::Indexed if 4 * size > 3 * self.table.max_size() => Literal::Plain,
            literal => literal,
        };
        let static_name = known.map_or(0, |known| known.index);
        let label = known.map_or(0, |known| known.id);
        let index = match static_name {
            0 => self.name_index(name, name_hash),
            index => index.into(),
        };
        write_literal(out, literal, index, name, value);
        if literal == Literal::Indexed {
            let arena = self.table.arena();
            arena.extend_from_slice(name);
            arena.extend_from_slice(value);
            self.table.insert(name.len(), value.len(), label);
            // The static table has the other names.
            self.index.insert(&self.table, hash, (static_name == 0).then_some(name_hash));
            self.learn(0);
        }
    }

    /// The index of an entry with this name, or 0.
    fn name_index(&self, name: &[u8], hash: u64) -> usize {
        let nth = self.index.find(&self.table, hash, |place| self.table.bytes(place.name) == name);
        nth.map_or(0, |nth| static_table::LEN + 1 + nth)
    }
}

/// Is there any of A to Z?
#[inline]
fn has_upper_case(name: &[u8], words: (u64, u64)) -> bool {
    let inner = if name.len() > hash::SHORT { name } else { &[] };
    let (inner, _) = inner.as_chunks();
    let ends = upper_case(words.0) | upper_case(words.1);
    inner.iter().fold(ends, |any, word| any | upper_case(u64::from_le_bytes(*word))) != 0
}

/// The highest bit of each octet that is A to Z.
#[inline]
fn upper_case(word: u64) -> u64 {
    const EACH: u64 = u64::from_le_bytes([1; 8]);
    const HIGH: u64 = 0x80 * EACH;
    let low = word & !HIGH;
    // Adding carries into the highest bit from `A` on, and from what follows `Z` on.
    let from_a = low + (0x80 - 0x41) * EACH;
    let after_z = low + (0x7f - 0x5a) * EACH;
    from_a & !after_z & !word & HIGH
}

/// Appends the `nth` newest entry as an indexed field (RFC 7541 §6.1).
#[inline]
fn write_index(out: &mut BytesMut, nth: usize) {
    match nth {
        0..=64 => push(out, 0x80 | (static_table::LEN + 1 + nth) as u8),
        _ => integer::write(out, 0x80, 7, static_table::LEN + 1 + nth),
    }
}

/// Appends a literal whose name is that of `index`, or spelled out if that is 0.
///
/// What is indexed is Huffman-coded where that is shorter: it is written once. What is not indexed is
/// written as it is: coding costs both sides some 20 instructions an octet, to save a fifth of the
/// octets, on every message.
fn write_literal(out: &mut BytesMut, literal: Literal, index: usize, name: &[u8], value: &[u8]) {
    let (pattern, prefix) = pattern(literal);
    integer::write(out, pattern, prefix, index);
    let write = if literal == Literal::Indexed { write_coded } else { write_plain };
    if index == 0 {
        write(out, name);
    }
    write(out, value);
}

/// Pattern and length of the prefix (RFC 7541 §6.2).
fn pattern(literal: Literal) -> (u8, u32) {
    match literal {
        Literal::Indexed => (0x40, 6),
        Literal::Plain => (0x00, 4),
        Literal::Never => (0x10, 4),
    }
}

/// Appends a string, Huffman-coded if that is shorter (RFC 7541 §5.2).
fn write_coded(out: &mut BytesMut, bytes: &[u8]) {
    let coded = huffman::encoded_len(bytes);
    if coded < bytes.len() {
        integer::write(out, 0x80, 7, coded);
        let start = out.len();
        out.resize(start + coded, 0);
        huffman::encode(bytes, &mut out[start..]);
    } else {
        write_plain(out, bytes);
    }
}

/// Appends a string as it is.
fn write_plain(out: &mut BytesMut, bytes: &[u8]) {
    integer::write(out, 0x00, 7, bytes.len());
    out.extend_from_slice(bytes);
}

/// Appends a field whose name is too long to be put into lower case beforehand.
#[cold]
fn write_long_name(out: &mut BytesMut, name: &[u8], value: &[u8], never_indexed: bool) {
    push(out, if never_indexed { 0x10 } else { 0x00 });
    write_plain(out, name);
    let start = out.len() - name.len();
    out[start..].make_ascii_lowercase();
    write_plain(out, value);
}
