//! The quick way into a head: all there, and in the plainest form, as nearly all heads are.
//!
//! One pass checks every byte, eight at a time, and notes the fields as it goes. It takes nothing
//! that httparse would refuse, and understands what it takes alike: the tests and a fuzz target
//! compare the two. What it does not take may be good all the same: that is for the scanner and
//! httparse to say.

use core::ops::Range;

use super::fields;
use crate::http::facts::Facts;
use crate::http::grammar::{name_end, token_end, value_end, visible_end};
use crate::http::{Fate, Known, Scratch, Span, Version, hop};
use crate::limits::Limits;

/// What a request line says.
pub(super) struct RequestLine<'a> {
    pub(super) method: &'a [u8],
    pub(super) target: &'a [u8],
    pub(super) version: Version,
}

/// What a status line says.
pub(super) struct StatusLine<'a> {
    pub(super) version: Version,
    pub(super) status: u16,
    pub(super) reason: &'a [u8],
}

/// The part of `buf` that may hold a head. Its positions fit into spans.
pub(super) fn within<'a>(buf: &'a [u8], limits: &Limits) -> &'a [u8] {
    &buf[..buf.len().min(limits.header_bytes).min(u32::MAX as usize - 1)]
}

/// The request line at the front, with a target of visible ASCII, and where it ends.
pub(super) fn request_line(head: &[u8]) -> Option<(RequestLine<'_>, usize)> {
    let method = token_end(head, 0);
    let target = visible_end(head, method + 1);
    let version = version(head.get(target + 1..)?)?;
    let separated = head[method] == b' ' && head[target] == b' ' && ends_line(head, target + 9);
    if !separated || method == 0 || target == method + 1 {
        return None;
    }
    let line = RequestLine { method: &head[..method], target: &head[method + 1..target], version };
    Some((line, target + 11))
}

/// The status line at the front, with a reason, if only an empty one, and where it ends.
pub(super) fn status_line(head: &[u8]) -> Option<(StatusLine<'_>, usize)> {
    let version = version(head)?;
    let [b' ', rest @ ..] = &head[8..] else { return None };
    let [digits @ .., b' '] = rest.first_chunk::<4>()? else { return None };
    if !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let status = digits.iter().fold(0, |status, digit| status * 10 + u16::from(digit - b'0'));
    let end = value_end(head, 13);
    let line = StatusLine { version, status, reason: &head[13..end] };
    ends_line(head, end).then_some((line, end + 2))
}

/// Fills `scratch` with the spans of the field lines that begin at `at`, gathers the facts, and says
/// where the head ends.
pub(super) fn fields<'a>(
    head: &'a [u8],
    mut at: usize,
    scratch: &mut Scratch,
    facts: &mut Facts<'a>,
    limits: &Limits,
) -> Option<usize> {
    let most = limits.header_count.min(Limits::MAX_HEADER_COUNT);
    let spans = &mut scratch.spans;
    spans.clear();
    loop {
        let colon = name_end(head, at);
        if colon == at {
            break;
        }
        if head.get(colon) != Some(&b':') || spans.len() == most {
            return None;
        }
        let end = value_end(head, colon + 1);
        if !ends_line(head, end) {
            return None;
        }
        let (value, tidy) = trimmed(head, colon + 1, end);
        spans.push(Span {
            name: at as u32,
            value: value.start as u32,
            value_len: (value.end - value.start) as u32,
            name_len: u16::try_from(colon - at).ok()?,
            known: Known::Other,
            fate: fields::fate(Known::Other, tidy),
        });
        if Known::may_be(&head[at..colon]) {
            recognise(head, spans.last_mut()?, facts)?;
        }
        at = end + 2;
    }
    if facts.options.nominations > 0 {
        hop::mark_nominated(head, spans, facts.options).ok()?;
    }
    ends_line(head, at).then_some(at + 2)
}

/// Looks closer at a field that may be a known one, and gathers what it says. Out of line, so that it
/// does not cost the loop its registers.
#[inline(never)]
fn recognise<'a>(head: &'a [u8], span: &mut Span, facts: &mut Facts<'a>) -> Option<()> {
    span.known = Known::compare(span.name(head));
    if span.known != Known::Other {
        if hop::is_hop_by_hop(span.known) {
            span.fate = Fate::Dropped;
        }
        facts.add(span.known, span.value(head)).ok()?;
    }
    Some(())
}

/// Where the value between a colon and the end of its line is; with nothing but one space before it?
#[inline]
fn trimmed(head: &[u8], start: usize, end: usize) -> (Range<usize>, bool) {
    match head[start..end] {
        [b' ', first, ..] if first > b' ' && head[end - 1] > b' ' => (start + 1..end, true),
        _ => untidy(head, start, end),
    }
}

/// The same of any line.
#[cold]
fn untidy(head: &[u8], start: usize, end: usize) -> (Range<usize>, bool) {
    let blank = |byte: &&u8| matches!(byte, b' ' | b'\t');
    let from = start + head[start..end].iter().take_while(blank).count();
    let to = end - head[from..end].iter().rev().take_while(blank).count();
    (from..to, from == start + 1 && head[start] == b' ' && to == end)
}

fn version(at: &[u8]) -> Option<Version> {
    match at.first_chunk()? {
        b"HTTP/1.1" => Some(Version::Http11),
        b"HTTP/1.0" => Some(Version::Http10),
        _ => None,
    }
}

#[inline]
fn ends_line(head: &[u8], at: usize) -> bool {
    head.get(at..at + 2) == Some(b"\r\n")
}
