//! What can be wrong with a header block.

use core::fmt;

/// Declares [`Error`] as a table: variant, message.
macro_rules! errors {
    ($($(#[$doc:meta])* $variant:ident = $message:literal;)*) => {
        /// Why a header block could not be decoded. The tables of the two sides may differ from here
        /// on, so each is a connection error of type `COMPRESSION_ERROR` (RFC 9113 §4.3).
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum Error {
            $($(#[$doc])* $variant,)*
        }

        impl Error {
            /// Every error, in declaration order.
            pub const ALL: &'static [Error] = &[$(Error::$variant,)*];

            /// One sentence for people: ASCII, no quotes.
            pub const fn message(self) -> &'static str {
                match self { $(Error::$variant => $message,)* }
            }
        }
    };
}

errors! {
    /// An integer over 32 bits, or of more than five continuation octets (RFC 7541 §5.1).
    IntegerOverflow = "HPACK integer too large";
    /// The block ends within a representation (RFC 7541 §6).
    Truncated = "header block ends within a field";
    /// Index 0, or one beyond both tables (RFC 7541 §2.3.3, §6.1).
    IndexOutOfRange = "HPACK index out of range";
    /// The EOS symbol within a Huffman-coded string (RFC 7541 §5.2).
    HuffmanEos = "EOS in a Huffman-coded string";
    /// Huffman padding that is longer than 7 bits or not all ones (RFC 7541 §5.2).
    HuffmanPadding = "malformed Huffman padding";
    /// A dynamic table size update over our setting (RFC 7541 §6.3).
    SizeUpdateTooLarge = "dynamic table size update over the limit";
    /// A dynamic table size update after a field, or a third one (RFC 7541 §4.2).
    SizeUpdateMisplaced = "misplaced dynamic table size update";
    /// Our setting became smaller than the table, and the next block did not begin with the size
    /// update that this demands (RFC 7541 §4.2).
    SizeUpdateMissing = "no dynamic table size update after the setting was reduced";
    /// New entries that take their long names from older ones, over and over: a few octets make the
    /// table copy kilobytes. No honest encoder has names like that.
    Amplified = "header block copies too much within the dynamic table";
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.message())
    }
}

impl core::error::Error for Error {}
