//! One pass over the fields of a head: spans, and everything that framing and routing need.

use core::mem::MaybeUninit;

use crate::error::Reason;
use crate::http::facts::Facts;
use crate::http::{Fate, Known, Scratch, Span, hop};
use crate::limits::Limits;

/// Room for httparse's result. Uninitialised, so its size costs nothing.
pub(super) type Headers<'a> = [MaybeUninit<httparse::Header<'a>>; Limits::MAX_HEADER_COUNT];

/// An empty one.
pub(super) const fn headers<'a>() -> Headers<'a> {
    [const { MaybeUninit::uninit() }; Limits::MAX_HEADER_COUNT]
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
        *span = Span {
            name: name_start as u32,
            value: value_start as u32,
            value_len: value.len() as u32,
            name_len: name.len() as u16,
            known,
            fate: fate(known, tidy),
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

/// What becomes of a field whose line is `tidy`: one space before its value, and none behind it.
#[inline]
pub(super) fn fate(known: Known, tidy: bool) -> Fate {
    match tidy {
        _ if known != Known::Other && hop::is_hop_by_hop(known) => Fate::Dropped,
        true => Fate::Verbatim,
        false => Fate::Tidied,
    }
}

/// Where `part` begins in `whole`.
fn offset(whole: &[u8], part: &[u8]) -> usize {
    part.as_ptr().addr().wrapping_sub(whole.as_ptr().addr())
}
