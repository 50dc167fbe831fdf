//! Header blocks that go out (RFC 7541 §3, §6).

use bytes::{BufMut, BytesMut};

use super::hash::hash;
use super::index::Index;
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
}

/// Names with upper-case letters are put into lower case on the stack. Longer ones are written
/// without being looked up.
const MAX_FOLDED: usize = 64;

impl Encoder {
    /// `max_table`: the most memory for the table, in octets as RFC 7541 §4.1 counts, whatever the
    /// peer allows. The peer's setting is [`DEFAULT_TABLE_SIZE`] until it says otherwise.
    pub fn new(max_table: u32) -> Self {
        let size = max_table.min(DEFAULT_TABLE_SIZE);
        Encoder {
            table: Table::new(size),
            index: Index::default(),
            recent: Recent::default(),
            max_table,
            resized: (size < DEFAULT_TABLE_SIZE).then_some(size),
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
        if !name.iter().any(u8::is_ascii_uppercase) {
            return self.lower_case(out, name, value, never_indexed);
        }
        let mut folded = [0; MAX_FOLDED];
        match folded.get_mut(..name.len()) {
            Some(folded) => {
                folded.copy_from_slice(name);
                folded.make_ascii_lowercase();
                self.lower_case(out, folded, value, never_indexed);
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
                let hash = hash(0, b":status");
                return self.repeating(out, b":status", hash, Some(&names::STATUS), &value);
            }
        };
        self.indexed_static(out, index);
    }

    /// Appends an entry of the static table, 1 to 61, name and value.
    #[inline]
    pub fn indexed_static(&mut self, out: &mut BytesMut, index: u8) {
        debug_assert!((1..=static_table::LEN).contains(&usize::from(index)), "no such entry");
        out.put_u8(0x80 | index);
    }

    /// The size of the dynamic table, in octets, as RFC 7541 §4.1 counts it.
    pub fn table_bytes(&self) -> usize {
        self.table.size()
    }

    /// Octets of memory that the encoder holds beside itself.
    pub fn heap_bytes(&self) -> usize {
        self.table.heap_bytes() + self.index.heap_bytes()
    }

    fn lower_case(&mut self, out: &mut BytesMut, name: &[u8], value: &[u8], never_indexed: bool) {
        let hash = hash(0, name);
        let known = names::find(name, hash);
        let index = known.map_or(0, |known| known.index);
        if never_indexed {
            return write_literal(out, Literal::Never, index.into(), name, value);
        }
        // What is never indexed, for what it is, need not be looked for.
        match known.and_then(|known| policy::not_indexed(known.policy, value)) {
            Some(literal) => write_literal(out, literal, index.into(), name, value),
            None => self.repeating(out, name, hash, known, value),
        }
    }

    /// Appends a field that may be in a table.
    fn repeating(
        &mut self,
        out: &mut BytesMut,
        name: &[u8],
        name_hash: u64,
        known: Option<&Name>,
        value: &[u8],
    ) {
        let static_name = known.map_or(0, |known| known.index);
        if let Some(index) = static_table::with_value(static_name, value) {
            return out.put_u8(0x80 | index);
        }
        let hash = hash(name_hash, value);
        if let Some(nth) = self.index.find(&self.table, hash, |place| {
            self.table.bytes(place.value) == value && self.table.bytes(place.name) == name
        }) {
            return integer::write(out, 0x80, 7, static_table::LEN + 1 + nth);
        }
        let policy = known.map_or_else(|| policy::unknown(name), |known| known.policy);
        let literal = policy::literal(policy, value, || self.recent.seen(hash));
        // An entry that takes most of the table costs more than it saves.
        let size = name.len() + value.len() + ENTRY_OVERHEAD;
        let literal = match literal {
            Literal::Indexed if 4 * size > 3 * self.table.max_size() => Literal::Plain,
            literal => literal,
        };
        let index = match static_name {
            0 => self.name_index(name, name_hash),
            index => index.into(),
        };
        write_literal(out, literal, index, name, value);
        if literal == Literal::Indexed {
            self.insert(name, name_hash, static_name, value, hash);
        }
    }

    /// The index of an entry with this name, or 0.
    fn name_index(&self, name: &[u8], hash: u64) -> usize {
        let nth = self.index.find(&self.table, hash, |place| self.table.bytes(place.name) == name);
        nth.map_or(0, |nth| static_table::LEN + 1 + nth)
    }

    fn insert(&mut self, name: &[u8], name_hash: u64, static_name: u8, value: &[u8], hash: u64) {
        let arena = self.table.arena();
        arena.extend_from_slice(name);
        arena.extend_from_slice(value);
        self.table.insert(name.len(), value.len(), static_name);
        // The static table has the other names.
        let name_hash = (static_name == 0).then_some(name_hash);
        self.index.insert(&self.table, hash, name_hash);
    }
}

/// Appends a literal whose name is that of `index`, or spelled out if that is 0.
fn write_literal(out: &mut BytesMut, literal: Literal, index: usize, name: &[u8], value: &[u8]) {
    let (pattern, prefix) = pattern(literal);
    integer::write(out, pattern, prefix, index);
    if index == 0 {
        write_string(out, name);
    }
    write_string(out, value);
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
fn write_string(out: &mut BytesMut, bytes: &[u8]) {
    let coded = huffman::encoded_len(bytes);
    if coded < bytes.len() {
        integer::write(out, 0x80, 7, coded);
        huffman::encode(bytes, coded, out);
    } else {
        integer::write(out, 0x00, 7, bytes.len());
        out.extend_from_slice(bytes);
    }
}

/// Appends a field whose name is too long to be put into lower case beforehand.
#[cold]
fn write_long_name(out: &mut BytesMut, name: &[u8], value: &[u8], never_indexed: bool) {
    out.put_u8(if never_indexed { 0x10 } else { 0x00 });
    integer::write(out, 0x00, 7, name.len());
    let start = out.len();
    out.extend_from_slice(name);
    out[start..].make_ascii_lowercase();
    write_string(out, value);
}
