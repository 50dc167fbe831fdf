//! What must hold of the reader of ClientHellos whatever the bytes are: it says the same in every
//! cut and in records of every size, and what rustls says, but for a list of differences.

mod generate;
mod real;
mod theirs;

use selvedge_core::tls::{HelloScanner, Malformed};

pub use generate::generate;
pub use real::{RealHello, real_hellos};
pub use theirs::{Agreement, DIFFERENCES, Difference, compare, theirs};

use crate::choose::{Bytes, Choose, pick};

/// The limit of the configuration's default.
pub const LIMIT: usize = 64 * 1024;

/// What a ClientHello says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Reading {
    /// The server name, in lower case and without a trailing dot.
    pub server_name: Option<String>,
    /// The protocols of ALPN.
    pub protocols: Vec<Vec<u8>>,
}

/// What we read; `None`: it is not complete.
///
/// # Errors
/// Why it is none.
pub fn ours(
    scanner: &mut HelloScanner,
    bytes: &[u8],
    limit: usize,
) -> Result<Option<Reading>, Malformed> {
    let mut scratch = Vec::new();
    let hello = scanner.scan(bytes, &mut scratch, limit)?;
    Ok(hello.map(|hello| Reading {
        server_name: hello.server_name.map(str::to_ascii_lowercase),
        protocols: hello.protocols.iter().map(<[u8]>::to_vec).collect(),
    }))
}

/// The same for bytes that are all there.
///
/// # Errors
/// Why it is none.
pub fn read(bytes: &[u8]) -> Result<Option<Reading>, Malformed> {
    ours(&mut HelloScanner::default(), bytes, LIMIT)
}

/// The fragments of the records that `bytes` begin with, as far as they are complete and not empty.
fn fragments(mut bytes: &[u8]) -> Vec<u8> {
    let mut message = Vec::new();
    while let [22, 3, _, high, low, rest @ ..] = bytes
        && let Some((fragment, rest)) =
            rest.split_at_checked(usize::from(u16::from_be_bytes([*high, *low])))
        && !fragment.is_empty()
    {
        message.extend_from_slice(fragment);
        bytes = rest;
    }
    message
}

/// `message` in handshake records of at most `size` bytes.
pub fn records(message: &[u8], size: usize) -> Vec<u8> {
    let chunks = message.chunks(size);
    let record = |fragment: &[u8]| {
        let [high, low] = (fragment.len() as u16).to_be_bytes();
        [&[22, 3, 1, high, low], fragment].concat()
    };
    chunks.flat_map(record).collect()
}

/// Fuzzes the reader. The first bytes say how the others are cut.
///
/// # Panics
/// If something does not hold.
pub fn client_hello(data: &[u8]) {
    let (choices, bytes) = data.split_at(data.len().min(4));
    let mut choose = Bytes::new(choices);
    let limit = pick(&mut choose, &[LIMIT, 100, 512, 1 << 24]);
    let whole = ours(&mut HelloScanner::default(), bytes, limit);
    check_cuts(&mut choose, bytes, limit, &whole);
    if let Ok(Some(reading)) = &whole {
        check_records(&mut choose, bytes, reading);
    }
    if limit == LIMIT
        && let Agreement::No(problem) = compare(bytes)
    {
        panic!("{problem}");
    }
}

/// In pieces it is the same as whole, and a decision stays.
fn check_cuts(
    choose: &mut dyn Choose,
    bytes: &[u8],
    limit: usize,
    whole: &Result<Option<Reading>, Malformed>,
) {
    let mut scanner = HelloScanner::default();
    let step = 1 + choose.below(200);
    let ends = (0..bytes.len()).step_by(step).chain([bytes.len()]);
    let mut decided = Ok(None);
    for end in ends {
        let now = ours(&mut scanner, &bytes[..end], limit);
        assert!(decided == Ok(None) || now == decided, "first {decided:?}, then {now:?}");
        decided = now;
    }
    assert_eq!(&decided, whole, "in pieces and whole");
}

/// The same message in records of another size says the same.
fn check_records(choose: &mut dyn Choose, bytes: &[u8], reading: &Reading) {
    let message = fragments(bytes);
    let length = u32::from_be_bytes([0, message[1], message[2], message[3]]) as usize;
    let size = pick(choose, &[16_384, 1, 2, 5, 100]);
    let again = records(&message[..4 + length], size);
    let limit = usize::MAX;
    let read = ours(&mut HelloScanner::default(), &again, limit);
    assert_eq!(read.as_ref(), Ok(&Some(reading.clone())), "in records of {size}");
}
