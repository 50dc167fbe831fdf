//! As much of protobuf's encoding as a transport header needs.
//!
//! ```text
//! field    tag = number << 3 | type, then the value
//! type 0   varint: 7 bits a byte, the lowest first; the high bit says that more follow
//! type 1   8 bytes        type 2   length as a varint, then as many bytes        type 5   4 bytes
//! ```

use bytes::{BufMut, BytesMut};

use super::Malformed;

/// The value of a field.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Value<'a> {
    Varint(u64),
    /// 4 or 8 bytes: nothing that we read.
    Fixed,
    Bytes(&'a [u8]),
}

/// The fields of a message, by number. Ends with the first that is malformed.
pub(super) struct Fields<'a> {
    rest: &'a [u8],
}

impl<'a> Fields<'a> {
    pub(super) fn new(message: &'a [u8]) -> Self {
        Fields { rest: message }
    }

    fn read(&mut self) -> Result<(u32, Value<'a>), Malformed> {
        let tag = u32::try_from(self.varint()?).map_err(|_| Malformed::Tag)?;
        let number = tag >> 3;
        if number == 0 {
            return Err(Malformed::Tag);
        }
        let value = match tag & 7 {
            0 => Value::Varint(self.varint()?),
            1 => self.take(8).map(|_| Value::Fixed)?,
            2 => {
                let length = self.varint()?;
                let length = usize::try_from(length).map_err(|_| Malformed::Length)?;
                Value::Bytes(self.take(length)?)
            }
            5 => self.take(4).map(|_| Value::Fixed)?,
            // 3 and 4 are groups, which no version of proto3 writes.
            _ => return Err(Malformed::Tag),
        };
        Ok((number, value))
    }

    fn take(&mut self, n: usize) -> Result<&'a [u8], Malformed> {
        let (taken, rest) = self.rest.split_at_checked(n).ok_or(Malformed::Length)?;
        self.rest = rest;
        Ok(taken)
    }

    fn varint(&mut self) -> Result<u64, Malformed> {
        let mut value = 0;
        for shift in (0..64).step_by(7) {
            let (&byte, rest) = self.rest.split_first().ok_or(Malformed::Length)?;
            self.rest = rest;
            // The tenth byte has room for one bit.
            if shift == 63 && byte > 1 {
                break;
            }
            value |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return Ok(value);
            }
        }
        Err(Malformed::Varint)
    }
}

impl<'a> Iterator for Fields<'a> {
    type Item = Result<(u32, Value<'a>), Malformed>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.rest.is_empty() {
            return None;
        }
        let field = self.read();
        if field.is_err() {
            self.rest = &[];
        }
        Some(field)
    }
}

/// Writes a field that is a number.
pub(super) fn put_varint(out: &mut BytesMut, field: u8, value: u64) {
    out.put_u8(field << 3);
    varint(out, value);
}

/// Writes a field that is text, bytes or a message.
pub(super) fn put_bytes(out: &mut BytesMut, field: u8, value: &[u8]) {
    out.put_u8(field << 3 | 2);
    varint(out, value.len() as u64);
    out.put_slice(value);
}

fn varint(out: &mut BytesMut, mut value: u64) {
    while value >= 0x80 {
        out.put_u8(value as u8 | 0x80);
        value >>= 7;
    }
    out.put_u8(value as u8);
}
