//! HPACK, the header compression of HTTP/2 (RFC 7541), both directions.
//!
//! A [`Decoder`] reads the header blocks that one peer sends on a connection, an [`Encoder`] writes
//! those that go to it. Each has a dynamic table that must stay in step with the other side's: every
//! block goes through, in order, also one that is refused. Nothing is allocated before the first
//! entry, and decoded fields are borrowed: from the block, from the table, or from the end of the
//! table's arena, where Huffman-coded literals are unpacked.
//!
//! ```
//! use bytes::BytesMut;
//! use selvedge_core::hpack::{Decoded, Decoder, Encoder};
//!
//! let (mut encoder, mut decoder) = (Encoder::new(4096), Decoder::new(4096));
//! let mut block = BytesMut::new();
//! encoder.begin(&mut block);
//! encoder.status(&mut block, 200);
//! encoder.field(&mut block, b"Content-Type", b"application/grpc", false);
//!
//! let mut fields = Vec::new();
//! let outcome = decoder
//!     .decode(&block, 64 * 1024, |line| fields.push((line.name.to_vec(), line.value.to_vec())))
//!     .unwrap();
//! assert_eq!(outcome, Decoded::Complete);
//! assert_eq!(fields[0], (b":status".to_vec(), b"200".to_vec()));
//! assert_eq!(fields[1], (b"content-type".to_vec(), b"application/grpc".to_vec()));
//! ```

mod decoder;
mod encoder;
mod error;
pub(crate) mod hash;
mod huffman;
mod index;
mod integer;
mod names;
mod policy;
mod static_table;
mod table;
#[cfg(test)]
mod tests;

pub use decoder::{Decoded, Decoder, FieldLine};
pub use encoder::Encoder;
pub use error::Error;

/// What a table may hold before a peer says something else, in octets (RFC 9113 §6.5.2,
/// `SETTINGS_HEADER_TABLE_SIZE`).
pub const DEFAULT_TABLE_SIZE: u32 = 4096;

/// What an entry counts beside its name and value, in octets (RFC 7541 §4.1).
pub const ENTRY_OVERHEAD: usize = 32;
