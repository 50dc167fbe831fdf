//! Header blocks that come in (RFC 7541 §3, §6).

use core::ops::Range;

use super::error::Error;
use super::static_table::{self, STATIC_TABLE};
use super::table::Table;
use super::{DEFAULT_TABLE_SIZE, ENTRY_OVERHEAD, huffman, integer};

/// Decodes the header blocks of one direction of a connection.
#[derive(Debug)]
pub struct Decoder {
    table: Table,
    /// The most that a size update may choose.
    limit: u32,
    /// The next block must begin with a size update, of at most this.
    owed: Option<u32>,
}

/// One decoded field line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FieldLine<'a> {
    /// The name as it came: that it is lower case and a token is not checked here.
    pub name: &'a [u8],
    /// The value as it came: any octets.
    pub value: &'a [u8],
    /// The sender asks that the value never enters a table: whoever forwards the field must ask so
    /// too (RFC 7541 §6.2.3, §7.1.3).
    pub never_indexed: bool,
    /// The lowest static index of the name if that was, or once came from, an index into the static
    /// table, else 0: 1 is `:authority`, 2 `:method`, 4 `:path`, 6 `:scheme`, 8 `:status`
    /// (RFC 7541 Appendix A). 0 says nothing: any name may be spelled out.
    pub static_name: u8,
}

/// How decoding of a good block ended. In both cases the table is in step with the sender's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decoded {
    /// All fields were handed out.
    Complete,
    /// The fields were too large together: those that still fitted were handed out, those after them
    /// were not.
    TooLarge,
}

/// Names copied from older entries cost so much per octet of block at most, plus four tables: the
/// work of a block is proportional to its length. An honest encoder copies a name of 20 octets for
/// a representation of 3 or more.
const COPIED_PER_OCTET: usize = 64;

impl Decoder {
    /// `max_table`: our `SETTINGS_HEADER_TABLE_SIZE`, in octets. Until it is acknowledged the sender
    /// may use [`DEFAULT_TABLE_SIZE`], so of a smaller one the decoder must be told by
    /// [`set_limit`](Decoder::set_limit) then.
    pub fn new(max_table: u32) -> Self {
        Decoder {
            table: Table::new(DEFAULT_TABLE_SIZE),
            limit: max_table.max(DEFAULT_TABLE_SIZE),
            owed: None,
        }
    }

    /// The sender has acknowledged a `SETTINGS_HEADER_TABLE_SIZE` of `octets`. If its table may be
    /// larger, the next block must say how it shrinks (RFC 7541 §4.2).
    pub fn set_limit(&mut self, octets: u32) {
        self.limit = octets;
        if (octets as usize) < self.table.max_size() {
            self.owed = Some(self.owed.map_or(octets, |owed| owed.min(octets)));
        }
    }

    /// Decodes a whole header block (CONTINUATIONs joined) and calls `field` for each field line, in
    /// order.
    ///
    /// `limit` bounds the decoded fields, in octets, each counted as name, value and
    /// [`ENTRY_OVERHEAD`]: what is beyond is decoded, so that the table stays in step, but not
    /// handed out. The work is proportional to the length of the block, and `field` is called at
    /// most `limit / 32` times.
    pub fn decode(
        &mut self,
        block: &[u8],
        limit: usize,
        field: impl FnMut(FieldLine<'_>),
    ) -> Result<Decoded, Error> {
        let mut input = block;
        self.size_updates(&mut input)?;
        let may_copy =
            COPIED_PER_OCTET.saturating_mul(block.len()).saturating_add(4 * self.table.max_size());
        let mut reader = Reader {
            table: &mut self.table,
            input,
            sink: Sink { left: limit, outcome: Decoded::Complete, field },
            may_copy,
        };
        while let Some((&first, rest)) = reader.input.split_first() {
            reader.input = rest;
            match first {
                0x80.. => reader.indexed(first)?,
                0x40..0x80 => reader.literal_indexed(first)?,
                0x20..0x40 => return Err(Error::SizeUpdateMisplaced),
                ..0x20 => reader.literal(first)?,
            }
        }
        let outcome = reader.sink.outcome;
        self.table.settle();
        Ok(outcome)
    }

    /// The size of the dynamic table, in octets, as RFC 7541 §4.1 counts it.
    pub fn table_bytes(&self) -> usize {
        self.table.size()
    }

    /// Octets of memory that the decoder holds beside itself.
    pub fn heap_bytes(&self) -> usize {
        self.table.heap_bytes()
    }

    /// Updates are at the beginning of a block, at most two: the smallest size since the last block,
    /// and the final one (RFC 7541 §4.2, §6.3).
    fn size_updates(&mut self, input: &mut &[u8]) -> Result<(), Error> {
        for _ in 0..2 {
            let Some((&first @ 0x20..0x40, rest)) = input.split_first() else { break };
            *input = rest;
            let size = integer::read(first, 5, input)?;
            if size > self.limit {
                return Err(Error::SizeUpdateTooLarge);
            }
            if self.owed.take().is_some_and(|owed| size > owed) {
                return Err(Error::SizeUpdateMissing);
            }
            self.table.set_max_size(size);
        }
        // An empty block has no beginning: the update may come with the next.
        if self.owed.is_some() && !input.is_empty() {
            return Err(Error::SizeUpdateMissing);
        }
        Ok(())
    }
}

/// What reads one block.
struct Reader<'t, 'b, F> {
    table: &'t mut Table,
    input: &'b [u8],
    sink: Sink<F>,
    /// So many octets of names may still be copied from older entries.
    may_copy: usize,
}

/// Who gets the fields, and how many.
struct Sink<F> {
    left: usize,
    outcome: Decoded,
    field: F,
}

/// A name or value.
enum Text<'b> {
    /// In the block, or the static table.
    Borrowed(&'b [u8]),
    /// In the arena of the dynamic table.
    Arena(Range<usize>),
}

impl<'b, F: FnMut(FieldLine<'_>)> Reader<'_, 'b, F> {
    /// An indexed field (RFC 7541 §6.1).
    #[inline]
    fn indexed(&mut self, first: u8) -> Result<(), Error> {
        let index = integer::read(first, 7, &mut self.input)? as usize;
        let nth = index.checked_sub(1).ok_or(Error::IndexOutOfRange)?;
        let line = if let Some(&(name, value)) = STATIC_TABLE.get(nth) {
            let static_name = static_table::lowest(nth);
            FieldLine { name, value, never_indexed: false, static_name }
        } else {
            let place = self.table.place(nth - static_table::LEN).ok_or(Error::IndexOutOfRange)?;
            FieldLine {
                name: self.table.bytes(place.name),
                value: self.table.bytes(place.value),
                never_indexed: false,
                static_name: place.label,
            }
        };
        self.sink.give(line);
        Ok(())
    }

    /// A literal field without indexing, or never indexed (RFC 7541 §6.2.2, §6.2.3).
    fn literal(&mut self, first: u8) -> Result<(), Error> {
        let end = self.table.end();
        let (name, static_name) = self.name(first, 4)?;
        let value = self.string()?;
        let line = FieldLine {
            name: text(self.table, &name),
            value: text(self.table, &value),
            never_indexed: first & 0x10 != 0,
            static_name,
        };
        self.sink.give(line);
        self.table.truncate(end);
        Ok(())
    }

    /// A literal field with incremental indexing (RFC 7541 §6.2.1). Name and value are put at the
    /// end of the arena before anything is evicted: the name may be that of an entry that must go
    /// (RFC 7541 §4.4).
    fn literal_indexed(&mut self, first: u8) -> Result<(), Error> {
        let start = self.table.end();
        let (name, static_name) = self.name(first, 6)?;
        match name {
            Text::Borrowed(name) => self.table.arena().extend_from_slice(name),
            Text::Arena(name) if name.start < start => {
                self.may_copy = self.may_copy.checked_sub(name.len()).ok_or(Error::Amplified)?;
                self.table.arena().extend_from_within(name);
            }
            // It was unpacked to where it has to be.
            Text::Arena(_) => {}
        }
        let middle = self.table.end();
        if let Text::Borrowed(value) = self.string()? {
            self.table.arena().extend_from_slice(value);
        }
        let end = self.table.end();
        self.sink.give(FieldLine {
            name: self.table.bytes(start..middle),
            value: self.table.bytes(middle..end),
            never_indexed: false,
            static_name,
        });
        self.table.insert(middle - start, end - middle, static_name);
        Ok(())
    }

    /// The name of a literal, and the lowest index of the static table that has it.
    fn name(&mut self, first: u8, prefix: u32) -> Result<(Text<'b>, u8), Error> {
        let index = integer::read(first, prefix, &mut self.input)? as usize;
        let Some(nth) = index.checked_sub(1) else { return Ok((self.string()?, 0)) };
        if let Some(&(name, _)) = STATIC_TABLE.get(nth) {
            return Ok((Text::Borrowed(name), static_table::lowest(nth)));
        }
        let place = self.table.place(nth - static_table::LEN).ok_or(Error::IndexOutOfRange)?;
        Ok((Text::Arena(place.name), place.label))
    }

    /// A string literal (RFC 7541 §5.2). A Huffman-coded one is unpacked to the end of the arena.
    fn string(&mut self) -> Result<Text<'b>, Error> {
        let (&first, rest) = self.input.split_first().ok_or(Error::Truncated)?;
        self.input = rest;
        let len = integer::read(first, 7, &mut self.input)? as usize;
        let (octets, rest) = self.input.split_at_checked(len).ok_or(Error::Truncated)?;
        self.input = rest;
        if first & 0x80 == 0 {
            return Ok(Text::Borrowed(octets));
        }
        let start = self.table.end();
        huffman::decode(octets, self.table.arena())?;
        Ok(Text::Arena(start..self.table.end()))
    }
}

fn text<'a>(table: &'a Table, text: &Text<'a>) -> &'a [u8] {
    match text {
        Text::Borrowed(bytes) => bytes,
        Text::Arena(range) => table.bytes(range.clone()),
    }
}

impl<F: FnMut(FieldLine<'_>)> Sink<F> {
    #[inline]
    fn give(&mut self, line: FieldLine<'_>) {
        let size = line.name.len() + line.value.len() + ENTRY_OVERHEAD;
        if let Some(left) = self.left.checked_sub(size) {
            self.left = left;
            (self.field)(line);
        } else {
            // Nothing fits any more, not even an empty field.
            (self.left, self.outcome) = (0, Decoded::TooLarge);
        }
    }
}
