//! One pass over the fields of a head: spans, and everything that framing and routing need.

use core::mem::MaybeUninit;

use crate::error::Reason;
use crate::http::grammar::{is_tchar, is_token, list, number};
use crate::http::hop::{self, Options};
use crate::http::{Fate, Known, Scratch, Span};
use crate::limits::Limits;

/// Room for httparse's result. Uninitialised, so its size costs nothing.
pub(super) type Headers<'a> = [MaybeUninit<httparse::Header<'a>>; Limits::MAX_HEADER_COUNT];

/// An empty one.
pub(super) const fn headers<'a>() -> Headers<'a> {
    [const { MaybeUninit::uninit() }; Limits::MAX_HEADER_COUNT]
}

/// What the fields say.
#[derive(Debug, Default)]
pub(super) struct Facts<'a> {
    pub(super) options: Options,
    pub(super) host: Option<&'a [u8]>,
    pub(super) host_repeated: bool,
    pub(super) length: Option<u64>,
    pub(super) codings: Codings,
    /// Upgrade lists something other than `h2c`.
    pub(super) upgrade: bool,
    pub(super) te_trailers: bool,
    pub(super) expect: Expect,
    pub(super) grpc: bool,
    pub(super) grpc_status: Option<u16>,
}

/// What Expect asks for.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) enum Expect {
    #[default]
    Nothing,
    Continue,
    Unknown,
}

/// What the Transfer-Encoding fields list.
#[derive(Debug, Default)]
pub(super) struct Codings {
    pub(super) present: bool,
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
    pub(super) fn check(&self) -> Result<(), Reason> {
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

/// Fills `scratch` with the spans of `headers`, which are slices of `head`, and gathers the facts.
///
/// # Errors
///
/// [`Reason::TooManyFields`], [`Reason::HeadTooLarge`], [`Reason::ContentLengthInvalid`],
/// [`Reason::ContentLengthsDiffer`]; [`Reason::BareLf`], which httparse takes for the end of a line.
pub(super) fn gather<'a>(
    head: &'a [u8],
    headers: &[httparse::Header<'a>],
    scratch: &mut Scratch,
    limits: &Limits,
) -> Result<Facts<'a>, Reason> {
    if headers.len() > limits.header_count {
        return Err(Reason::TooManyFields);
    }
    if head.len() >= u32::MAX as usize {
        return Err(Reason::HeadTooLarge);
    }
    let spans = &mut scratch.spans;
    spans.clear();
    spans.resize(headers.len(), Span::EMPTY);
    // Each line ends where the next begins, the last one where the empty line does.
    let mut line_end = head.len() - 2;
    let mut crlf = head.ends_with(b"\r\n");
    let mut longest = 0;
    for (span, header) in spans.iter_mut().zip(headers).rev() {
        let (name, value) = (header.name.as_bytes(), header.value);
        let (name_start, value_start) = (offset(head, name), offset(head, value));
        crlf &= head[line_end - 2] == b'\r';
        longest = longest.max(name.len());
        let tidy = name_start + name.len() + 2 == value_start
            && value_start + value.len() + 2 == line_end
            && head[value_start - 1] == b' ';
        let known = Known::of(name);
        let fate = if tidy { Fate::Verbatim } else { Fate::Tidied };
        *span = Span {
            name: name_start as u32,
            value: value_start as u32,
            value_len: value.len() as u32,
            name_len: name.len() as u16,
            known,
            fate: if hop::is_hop_by_hop(known) { Fate::Dropped } else { fate },
        };
        line_end = name_start;
    }
    crlf &= head[line_end - 2] == b'\r';
    if !crlf {
        return Err(Reason::BareLf);
    }
    if longest > usize::from(u16::MAX) {
        return Err(Reason::HeadTooLarge);
    }
    let mut facts = Facts::default();
    for span in spans.iter().filter(|span| span.known != Known::Other) {
        facts.add(span.known, span.value(head))?;
    }
    if facts.options.nominations > 0 {
        hop::mark_nominated(head, spans, facts.options)?;
    }
    Ok(facts)
}

/// Where `part` begins in `whole`.
fn offset(whole: &[u8], part: &[u8]) -> usize {
    part.as_ptr().addr().wrapping_sub(whole.as_ptr().addr())
}

impl<'a> Facts<'a> {
    // Out of line, so that it does not cost the loop its registers.
    #[inline(never)]
    fn add(&mut self, known: Known, value: &'a [u8]) -> Result<(), Reason> {
        match known {
            Known::Connection => self.options.add(value),
            Known::ContentLength => self.add_length(value)?,
            Known::ContentType => self.grpc |= is_grpc(value),
            Known::Expect => self.add_expect(value),
            Known::GrpcStatus => self.grpc_status = grpc_status(value),
            Known::Host => {
                self.host_repeated |= self.host.is_some();
                self.host = Some(value);
            }
            Known::Te => self.te_trailers |= list(value).any(is_trailers),
            Known::TransferEncoding => self.codings.add(value),
            Known::Upgrade => self.upgrade |= list(value).any(is_upgrade),
            Known::Http2Settings
            | Known::KeepAlive
            | Known::ProxyConnection
            | Known::Trailer
            | Known::Other => {}
        }
        Ok(())
    }

    /// A list of identical numbers is one number: RFC 9110 §8.6 lets a recipient accept what
    /// a message processor upstream may have joined.
    fn add_length(&mut self, value: &[u8]) -> Result<(), Reason> {
        for element in list(value) {
            // Beyond i64::MAX some reader behind us would see a negative length.
            let length = number(element)
                .filter(|&length| i64::try_from(length).is_ok())
                .ok_or(Reason::ContentLengthInvalid)?;
            if self.length.is_some_and(|other| other != length) {
                return Err(Reason::ContentLengthsDiffer);
            }
            self.length = Some(length);
        }
        Ok(())
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
pub(super) fn is_upgrade(protocol: &[u8]) -> bool {
    !protocol.is_empty() && !protocol.eq_ignore_ascii_case(b"h2c")
}

/// The number of a `grpc-status`; `None` if it is none.
pub(super) fn grpc_status(value: &[u8]) -> Option<u16> {
    number(value).and_then(|status| u16::try_from(status).ok())
}

fn is_trailers(coding: &[u8]) -> bool {
    coding.eq_ignore_ascii_case(b"trailers")
}

fn is_grpc(content_type: &[u8]) -> bool {
    const GRPC: &[u8] = b"application/grpc";
    content_type.len() >= GRPC.len()
        && content_type[..GRPC.len()].eq_ignore_ascii_case(GRPC)
        && matches!(content_type.get(GRPC.len()), None | Some(b'+' | b';' | b' ' | b'\t'))
}
