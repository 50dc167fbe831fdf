//! What framing and routing need to know of the fields of a head.

use super::Known;
use super::field::is;
use super::grammar::{is_tchar, is_token, list, number};
use super::hop::Options;
use crate::error::Reason;

/// What the fields say.
#[derive(Debug, Default)]
pub(crate) struct Facts<'a> {
    pub(crate) options: Options,
    pub(crate) host: Option<&'a [u8]>,
    pub(crate) host_repeated: bool,
    pub(crate) length: Option<u64>,
    pub(crate) codings: Codings,
    /// Upgrade lists something other than `h2c`.
    pub(crate) upgrade: bool,
    pub(crate) te_trailers: bool,
    pub(crate) expect: Expect,
    pub(crate) grpc: bool,
    pub(crate) grpc_status: Option<u16>,
}

/// What Expect asks for.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) enum Expect {
    #[default]
    Nothing,
    Continue,
    Unknown,
}

/// What the Transfer-Encoding fields list.
#[derive(Debug, Default)]
pub(crate) struct Codings {
    pub(crate) present: bool,
    chunked: bool,
    unknown: bool,
    misplaced: bool,
}

impl Codings {
    /// Is the body chunked, and nothing else?
    ///
    /// # Errors
    ///
    /// [`Reason::CodingMisplaced`] if `chunked` is repeated, not last, has parameters, or an
    /// element is empty or no coding at all; else [`Reason::CodingUnknown`] for another coding.
    pub(crate) fn check(&self) -> Result<(), Reason> {
        if self.misplaced {
            return Err(Reason::CodingMisplaced);
        }
        if self.unknown {
            return Err(Reason::CodingUnknown);
        }
        Ok(())
    }

    fn add(&mut self, value: &[u8]) {
        self.present = true;
        for coding in list(value) {
            // Whatever follows `chunked` displaces it, `chunked` itself included.
            self.misplaced |= self.chunked;
            let name = coding.iter().take_while(|&&byte| is_tchar(byte)).count();
            let (name, parameters) = coding.split_at(name);
            if name.eq_ignore_ascii_case(b"chunked") {
                self.chunked = true;
                self.misplaced |= !parameters.is_empty();
            } else {
                self.unknown = true;
                self.misplaced |= !is_token(name) || !matches!(parameters, [] | [b';', ..]);
            }
        }
    }
}

impl<'a> Facts<'a> {
    /// Gathers what a known field says.
    pub(crate) fn add(&mut self, known: Known, value: &'a [u8]) -> Result<(), Reason> {
        match known {
            Known::ContentLength => self.add_length(value)?,
            Known::ContentType => self.grpc |= is_grpc(value),
            Known::GrpcStatus => self.grpc_status = grpc_status(value),
            Known::Host => {
                self.host_repeated |= self.host.is_some();
                self.host = Some(value);
            }
            _ => self.add_list(known, value),
        }
        Ok(())
    }

    /// The same of a list. Out of line: most heads have none.
    #[inline(never)]
    fn add_list(&mut self, known: Known, value: &'a [u8]) {
        match known {
            Known::Connection => self.options.add(value),
            Known::Expect => self.add_expect(value),
            Known::Te => self.te_trailers |= list(value).any(is_trailers),
            Known::TransferEncoding => self.codings.add(value),
            Known::Upgrade => self.upgrade |= list(value).any(is_upgrade),
            // Nothing that framing or routing goes by, or no list. Without `_`: what is new is decided.
            Known::Other
            | Known::ContentType
            | Known::GrpcStatus
            | Known::Trailer
            | Known::ContentLength
            | Known::Host
            | Known::Http2Settings
            | Known::KeepAlive
            | Known::ProxyConnection
            | Known::ClientId => {}
        }
    }

    /// A list of identical numbers is one number: RFC 9110 §8.6 lets a recipient accept what
    /// a message processor upstream may have joined.
    fn add_length(&mut self, value: &[u8]) -> Result<(), Reason> {
        match number(value) {
            Some(length) => self.note_length(Some(length)),
            None => self.add_lengths(value),
        }
    }

    #[cold]
    fn add_lengths(&mut self, value: &[u8]) -> Result<(), Reason> {
        list(value).try_for_each(|element| self.note_length(number(element)))
    }

    fn note_length(&mut self, length: Option<u64>) -> Result<(), Reason> {
        // Beyond i64::MAX some reader behind us would see a negative length.
        let length = length.filter(|&length| i64::try_from(length).is_ok());
        let length = length.ok_or(Reason::ContentLengthInvalid)?;
        match self.length.replace(length) {
            Some(other) if other != length => Err(Reason::ContentLengthsDiffer),
            _ => Ok(()),
        }
    }

    fn add_expect(&mut self, value: &[u8]) {
        if !list(value).all(|element| element.eq_ignore_ascii_case(b"100-continue")) {
            self.expect = Expect::Unknown;
        } else if self.expect == Expect::Nothing {
            self.expect = Expect::Continue;
        }
    }
}

/// Is this protocol of an Upgrade field one that we pass on? `h2c` is not: the request goes on as
/// HTTP/1.1.
pub(crate) fn is_upgrade(protocol: &[u8]) -> bool {
    !protocol.is_empty() && !protocol.eq_ignore_ascii_case(b"h2c")
}

/// The number of a `grpc-status`; `None` if it is none.
pub(crate) fn grpc_status(value: &[u8]) -> Option<u16> {
    number(value).and_then(|status| u16::try_from(status).ok())
}

fn is_trailers(coding: &[u8]) -> bool {
    coding.eq_ignore_ascii_case(b"trailers")
}

fn is_grpc(content_type: &[u8]) -> bool {
    let Some((media_type, rest)) = content_type.split_first_chunk::<16>() else { return false };
    // What it is compared with has no character that a control character could pass for.
    is(media_type, b"application/grpc") && matches!(rest, [] | [b'+' | b';' | b' ' | b'\t', ..])
}
