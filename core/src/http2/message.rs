//! From a header block to a message (RFC 9113 §8).
//!
//! A block is decoded into the form that the same message has in HTTP/1: request line or status
//! line, one line per field, an empty line. Whatever handles messages sees no difference, going on
//! to HTTP/1 is a copy, and what could become a second message there is refused here.

use alloc::vec::Vec;
use core::ops::Range;

use super::error::Violation;
use super::grammar::{is_field_name, is_field_value, is_path, is_protocol, is_scheme};
use crate::error::Reason;
use crate::hpack::FieldLine;
use crate::http::facts::{Expect, Facts};
use crate::http::grammar::is_token;
use crate::http::hop::is_hop_by_hop;
use crate::http::{
    self, Fate, Fields, Framing, Known, Request, RequestHead, Response, ResponseHead, Span,
    TargetForm, Version, authority, method,
};
use crate::limits::Limits;

/// Where header blocks are decoded to. One serves all connections.
#[derive(Debug, Default)]
pub struct Scratch {
    /// The HTTP/1 form.
    head: Vec<u8>,
    fields: http::Scratch,
    /// The values of the pseudo-headers, until their line can be written.
    pseudo: Vec<u8>,
    /// Cookie crumbs that do not follow another one.
    crumbs: Vec<u8>,
}

/// Why a message is not handed on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// It is malformed: a stream error (RFC 9113 §8.1.1).
    Malformed(Violation),
    /// It is well-formed and will be answered with an error.
    Answer(Reason),
}

/// What a block is the head of, or the end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum BlockKind {
    Request,
    Response,
    Trailers,
}

/// The request that a response belongs to, as far as its framing depends on it.
pub(crate) use crate::http1::ResponseTo;

/// Takes the fields of one block, in order.
#[derive(Debug)]
pub(crate) struct Reader<'s> {
    scratch: &'s mut Scratch,
    kind: BlockKind,
    pseudo: Pseudo,
    /// The first line is written: no pseudo-header may follow.
    begun: bool,
    /// The first violation; everything after it is skipped.
    error: Option<Violation>,
    /// The first cookie's span.
    cookie: Option<usize>,
    count_max: usize,
    /// What `l5d-orig-proto` said …
    origin: Option<Version>,
    /// … and whether its target was in absolute-form.
    absolute: bool,
    /// We have said that we understand extended CONNECT.
    extended: bool,
}

/// Ranges of [`Scratch::pseudo`].
#[derive(Debug, Default)]
struct Pseudo {
    method: Option<Range<usize>>,
    scheme: Option<Range<usize>>,
    path: Option<Range<usize>>,
    authority: Option<Range<usize>>,
    status: Option<Range<usize>>,
    /// Of an extended CONNECT (RFC 8441).
    protocol: Option<Range<usize>>,
}

impl<'s> Reader<'s> {
    /// `extended`: we have said that we understand extended CONNECT (RFC 8441).
    pub(crate) fn new(scratch: &'s mut Scratch, kind: BlockKind, extended: bool) -> Self {
        scratch.head.clear();
        scratch.fields.spans.clear();
        scratch.pseudo.clear();
        scratch.crumbs.clear();
        let begun = kind == BlockKind::Trailers;
        let count_max = Limits::MAX_HEADER_COUNT;
        let pseudo = Pseudo::default();
        Reader {
            scratch,
            kind,
            pseudo,
            begun,
            error: None,
            cookie: None,
            count_max,
            origin: None,
            absolute: false,
            extended,
        }
    }

    /// The next field.
    pub(crate) fn field(&mut self, line: &FieldLine<'_>) {
        if self.error.is_some() {
            return;
        }
        let result = match line.name {
            [b':', ..] => self.pseudo(line.name, line.value),
            _ => self.regular(line),
        };
        self.error = result.err();
    }

    fn pseudo(&mut self, name: &[u8], value: &[u8]) -> Result<(), Violation> {
        if self.begun {
            return Err(Violation::PseudoPlace);
        }
        let request = self.kind == BlockKind::Request;
        let slot = match name {
            b":method" if request => &mut self.pseudo.method,
            b":scheme" if request => &mut self.pseudo.scheme,
            b":path" if request => &mut self.pseudo.path,
            b":authority" if request => &mut self.pseudo.authority,
            b":protocol" if request && self.extended => &mut self.pseudo.protocol,
            b":status" if !request => &mut self.pseudo.status,
            _ => return Err(Violation::PseudoUnknown),
        };
        if slot.is_some() {
            return Err(Violation::PseudoRepeated);
        }
        let start = self.scratch.pseudo.len();
        self.scratch.pseudo.extend_from_slice(value);
        *slot = Some(start..start + value.len());
        Ok(())
    }

    fn regular(&mut self, line: &FieldLine<'_>) -> Result<(), Violation> {
        if !self.begun {
            self.begin()?;
        }
        // The static table's names are valid.
        if line.static_name == 0 && !is_field_name(line.name) {
            return Err(Violation::FieldName);
        }
        if !is_field_value(line.value) {
            return Err(Violation::FieldValue);
        }
        let known = Known::of(line.name);
        match known {
            Known::Connection
            | Known::KeepAlive
            | Known::ProxyConnection
            | Known::TransferEncoding
            | Known::Upgrade => return Err(Violation::ConnectionField),
            Known::Te if line.value != b"trailers" => return Err(Violation::ConnectionField),
            // It says what `:authority` says, or something else: see `Reader::finish_request`.
            Known::Host if self.pseudo.authority.is_some() => return self.same_host(line.value),
            Known::Other if line.name == b"cookie" => {
                if let Some(first) = self.cookie {
                    self.crumb(first, line.value);
                    if line.never_indexed {
                        self.scratch.fields.spans[first].fate = Fate::Sensitive;
                    }
                    return Ok(());
                }
                self.cookie = Some(self.scratch.fields.spans.len());
            }
            _ => {}
        }
        // Between mesh proxies only, and never beyond them.
        let mark = known == Known::Other && line.name == b"l5d-orig-proto";
        if mark {
            let (version, rest) = line.value.split_at_checked(8).unwrap_or_default();
            self.origin = match version {
                b"HTTP/1.0" => Some(Version::Http10),
                b"HTTP/1.1" => Some(Version::Http11),
                _ => None,
            };
            self.absolute = self.origin.is_some() && rest == b"; absolute-form";
        }
        let fate = if mark || is_hop_by_hop(known) {
            Fate::Dropped
        } else if line.never_indexed {
            Fate::Sensitive
        } else {
            Fate::Verbatim
        };
        self.put(line.name, line.value, known, fate);
        Ok(())
    }

    /// Writes a field line.
    fn put(&mut self, name: &[u8], value: &[u8], known: Known, fate: Fate) {
        let head = &mut self.scratch.head;
        let start = head.len();
        head.extend_from_slice(name);
        head.extend_from_slice(b": ");
        head.extend_from_slice(value);
        head.extend_from_slice(b"\r\n");
        self.scratch.fields.spans.push(Span {
            name: start as u32,
            value: (start + name.len() + 2) as u32,
            value_len: value.len() as u32,
            // Blocks are far shorter than 4 GiB, and names than blocks; see `finish`.
            name_len: name.len().min(usize::from(u16::MAX)) as u16,
            known,
            fate,
        });
    }

    fn same_host(&self, host: &[u8]) -> Result<(), Violation> {
        let authority = self.value(self.pseudo.authority.as_ref());
        if authority.eq_ignore_ascii_case(host) { Ok(()) } else { Err(Violation::Authority) }
    }

    /// Cookies may come in crumbs (RFC 9113 §8.2.3): HTTP/1 knows one line.
    fn crumb(&mut self, first: usize, value: &[u8]) {
        let Scratch { head, fields, crumbs, .. } = &mut *self.scratch;
        let last = fields.spans.len() - 1;
        if first == last && crumbs.is_empty() {
            head.truncate(head.len() - 2);
            head.extend_from_slice(b"; ");
            head.extend_from_slice(value);
            head.extend_from_slice(b"\r\n");
            fields.spans[first].value_len += value.len() as u32 + 2;
        } else {
            crumbs.extend_from_slice(b"; ");
            crumbs.extend_from_slice(value);
        }
    }

    /// Crumbs that other fields came between join their line, all in one go.
    fn join_crumbs(&mut self) {
        let Scratch { head, fields, crumbs, .. } = &mut *self.scratch;
        let Some(first) = self.cookie.filter(|_| !crumbs.is_empty()) else { return };
        let (added, span) = (crumbs.len() as u32, &mut fields.spans[first]);
        let at = (span.value + span.value_len) as usize;
        span.value_len += added;
        head.splice(at..at, crumbs.iter().copied());
        for span in &mut fields.spans[first + 1..] {
            span.name += added;
            span.value += added;
        }
    }

    /// Gives the target of a request the absolute-form that it had before it was HTTP/2; where that is.
    fn make_absolute(&mut self) -> Option<Range<usize>> {
        let Pseudo { method, path, authority, .. } = &self.pseudo;
        let (method, path, authority) = (method.clone()?, path.clone()?, authority.clone()?);
        let Scratch { head, fields, pseudo, .. } = &mut *self.scratch;
        let start = pseudo.len();
        pseudo.extend_from_slice(b"http://");
        pseudo.extend_from_within(authority);
        // RFC 9112 §3.2.4: `*` is what there is without a path.
        if pseudo[path.clone()] != *b"*" {
            pseudo.extend_from_within(path.clone());
        }
        let target = start..pseudo.len();
        let at = method.len() + 1;
        head.splice(at..at + path.len(), pseudo[target.clone()].iter().copied());
        for span in &mut fields.spans {
            span.name = span.name + target.len() as u32 - path.len() as u32;
            span.value = span.value + target.len() as u32 - path.len() as u32;
        }
        Some(target)
    }

    fn value(&self, range: Option<&Range<usize>>) -> &[u8] {
        range.map_or(&[], |range| &self.scratch.pseudo[range.clone()])
    }

    /// All pseudo-headers are there: writes the first line.
    fn begin(&mut self) -> Result<(), Violation> {
        self.begun = true;
        match self.kind {
            BlockKind::Request => self.begin_request(),
            BlockKind::Response => self.begin_response(),
            BlockKind::Trailers => Ok(()),
        }
    }

    fn begin_request(&mut self) -> Result<(), Violation> {
        let Pseudo { method, scheme, path, authority, protocol, .. } = &self.pseudo;
        let Some(method) = method.clone() else { return Err(Violation::PseudoMissing) };
        let Scratch { head, pseudo, fields, .. } = &mut *self.scratch;
        let method = &pseudo[method];
        if !is_token(method) {
            return Err(Violation::Method);
        }
        let value = |range: &Option<Range<usize>>| range.clone().map(|range| &pseudo[range]);
        let authority = value(authority);
        if authority.is_some_and(|authority| authority::validate(authority).is_err()) {
            return Err(Violation::Authority);
        }
        let is_connect = method == b"CONNECT";
        // RFC 8441 §4: with :protocol, CONNECT has everything that other requests have.
        let extended = protocol.is_some();
        if extended && (!is_connect || authority.is_none()) {
            return Err(Violation::PseudoUnknown);
        }
        if protocol.clone().is_some_and(|range| !is_protocol(&pseudo[range])) {
            return Err(Violation::Method);
        }
        let target = if is_connect && !extended {
            // RFC 9113 §8.5.
            if scheme.is_some() || path.is_some() {
                return Err(Violation::PseudoUnknown);
            }
            let authority = authority.ok_or(Violation::PseudoMissing)?;
            let port = authority::parse(authority).ok().and_then(|authority| authority.port);
            port.filter(|&port| port != 0).ok_or(Violation::Authority)?;
            authority
        } else {
            let (Some(scheme), Some(path)) = (value(scheme), value(path)) else {
                return Err(Violation::PseudoMissing);
            };
            if !is_scheme(scheme) {
                return Err(Violation::Scheme);
            }
            if !is_path(method, path) {
                return Err(Violation::Path);
            }
            path
        };
        // In HTTP/1 it is a GET with Upgrade (RFC 6455 §1.3).
        head.extend_from_slice(if extended { b"GET" } else { method });
        head.extend_from_slice(b" ");
        head.extend_from_slice(target);
        head.extend_from_slice(b" HTTP/1.1\r\n");
        if let Some(authority) = authority {
            let start = head.len();
            head.extend_from_slice(b"Host: ");
            head.extend_from_slice(authority);
            head.extend_from_slice(b"\r\n");
            fields.spans.push(Span {
                name: start as u32,
                value: start as u32 + 6,
                value_len: authority.len() as u32,
                name_len: 4,
                known: Known::Host,
                fate: Fate::Verbatim,
            });
        }
        Ok(())
    }

    fn begin_response(&mut self) -> Result<(), Violation> {
        let Some(status) = self.pseudo.status.clone() else {
            return Err(Violation::PseudoMissing);
        };
        let Scratch { head, pseudo, .. } = &mut *self.scratch;
        match pseudo[status] {
            [a @ b'1'..=b'9', b, c] if b.is_ascii_digit() && c.is_ascii_digit() => {
                let number =
                    u16::from(a - b'0') * 100 + u16::from(b - b'0') * 10 + u16::from(c - b'0');
                // RFC 9113 §8.6: there is no 101.
                if number == 101 {
                    return Err(Violation::Status);
                }
                head.extend_from_slice(b"HTTP/1.1 ");
                head.extend_from_slice(&[a, b, c, b' ']);
                head.extend_from_slice(http::status::phrase(number).as_bytes());
                head.extend_from_slice(b"\r\n");
                Ok(())
            }
            _ => Err(Violation::Status),
        }
    }

    /// Everything is there: checks what can only be checked now.
    fn close(&mut self, limits: &Limits) -> Result<(), Refusal> {
        if self.error.is_none() && !self.begun {
            self.error = self.begin().err();
        }
        if let Some(violation) = self.error {
            return Err(Refusal::Malformed(violation));
        }
        self.join_crumbs();
        let Scratch { head, fields, .. } = &*self.scratch;
        if fields.spans.len() > limits.header_count.min(self.count_max) {
            return Err(Refusal::Answer(Reason::TooManyFields));
        }
        let longest = fields.spans.iter().map(|span| span.name_len).max();
        if head.len() + 2 > limits.header_bytes || longest == Some(u16::MAX) {
            return Err(Refusal::Answer(Reason::HeadTooLarge));
        }
        Ok(())
    }

    /// The request; `end`: END_STREAM came with it.
    pub(crate) fn request(mut self, end: bool, limits: &Limits) -> Result<RequestFacts, Refusal> {
        self.close(limits)?;
        let facts = gather(self.scratch)?;
        if self.pseudo.authority.is_none() {
            // Then Host is what names it, and has to do so once.
            match facts.host {
                Some(_) if facts.host_repeated => return Err(Violation::Authority.into()),
                Some(host) if authority::validate(host).is_err() => {
                    return Err(Violation::Authority.into());
                }
                _ => {}
            }
        }
        let length = facts.length;
        let (expect, grpc, te_trailers) = (facts.expect, facts.grpc, facts.te_trailers);
        let mut method = self.pseudo.method.clone().unwrap_or_default();
        let upgrade = self.pseudo.protocol.clone();
        let is_connect = upgrade.is_none() && self.scratch.pseudo[method.clone()] == *b"CONNECT";
        if let Some(protocol) = &upgrade {
            let protocol = self.scratch.pseudo[protocol.clone()].to_vec();
            self.put(b"Connection", b"upgrade", Known::Connection, Fate::Dropped);
            self.put(b"Upgrade", &protocol, Known::Upgrade, Fate::Dropped);
            let start = self.scratch.pseudo.len();
            self.scratch.pseudo.extend_from_slice(b"GET");
            method = start..start + 3;
        }
        let absolute = self.absolute && !is_connect && upgrade.is_none();
        let absolute = if absolute { self.make_absolute() } else { None };
        let tunnel = is_connect || upgrade.is_some();
        let framing = match length {
            Some(1..) if end => return Err(Violation::ContentMismatch.into()),
            Some(1..) if tunnel => return Err(Violation::ContentLength.into()),
            _ if tunnel => Framing::None,
            Some(length) => Framing::Length(length),
            None if end => Framing::None,
            None => {
                self.put(b"Transfer-Encoding", b"chunked", Known::TransferEncoding, Fate::Dropped);
                Framing::Chunked
            }
        };
        self.scratch.head.extend_from_slice(b"\r\n");
        let target = self.pseudo.path.clone().or(self.pseudo.authority.clone()).unwrap_or_default();
        if absolute.as_ref().unwrap_or(&target).len() > limits.target_bytes {
            return Err(Refusal::Answer(Reason::TargetTooLong));
        }
        if expect == Expect::Unknown {
            return Err(Refusal::Answer(Reason::Expectation));
        }
        let expect_continue = expect == Expect::Continue;
        let origin = self.origin;
        Ok(RequestFacts {
            method,
            target,
            absolute,
            framing,
            is_connect,
            upgrade: upgrade.is_some(),
            expect_continue,
            grpc,
            te_trailers,
            origin,
        })
    }

    /// The response; `end`: END_STREAM came with it.
    pub(crate) fn response(
        mut self,
        end: bool,
        to: ResponseTo,
        limits: &Limits,
    ) -> Result<ResponseFacts, Refusal> {
        self.close(limits)?;
        let facts = gather(self.scratch)?;
        let (length, grpc, grpc_status) = (facts.length, facts.grpc, facts.grpc_status);
        let status = self.value(self.pseudo.status.as_ref());
        let status = status.iter().fold(0, |status, digit| status * 10 + u16::from(digit - b'0'));
        let connected = to.is_connect && matches!(status, 200..=299);
        let bodiless = connected || matches!(status, 100..=199 | 204);
        let announces = to.is_head || status == 304;
        let stated = length.map_or(Framing::None, Framing::Length);
        let (framing, announced) = match length {
            _ if bodiless => (Framing::None, Framing::None),
            _ if announces => (Framing::None, stated),
            Some(1..) if end => return Err(Violation::ContentMismatch.into()),
            Some(length) => (Framing::Length(length), Framing::None),
            None if end => (Framing::Length(0), Framing::None),
            None => (Framing::Chunked, Framing::None),
        };
        self.scratch.head.extend_from_slice(b"\r\n");
        let origin = self.origin;
        Ok(ResponseFacts { status, framing, announced, grpc, grpc_status, origin })
    }

    /// The trailers, as a section of HTTP/1.
    pub(crate) fn trailers(mut self, limits: &Limits) -> Result<(), Refusal> {
        self.close(limits)?;
        self.scratch.head.extend_from_slice(b"\r\n");
        Ok(())
    }
}

/// What a request is, beside what is in the scratch that it was read to.
#[derive(Debug)]
pub(crate) struct RequestFacts {
    method: Range<usize>,
    target: Range<usize>,
    /// The target in absolute-form, if it had that.
    absolute: Option<Range<usize>>,
    pub(crate) framing: Framing,
    pub(crate) is_connect: bool,
    /// An extended CONNECT.
    pub(crate) upgrade: bool,
    expect_continue: bool,
    grpc: bool,
    te_trailers: bool,
    origin: Option<Version>,
}

/// What a response is, beside what is in the scratch that it was read to.
#[derive(Debug)]
pub(crate) struct ResponseFacts {
    pub(crate) status: u16,
    pub(crate) framing: Framing,
    announced: Framing,
    grpc: bool,
    grpc_status: Option<u16>,
    origin: Option<Version>,
}

impl Scratch {
    pub(crate) fn fields(&self) -> Fields<'_> {
        Fields { buf: &self.head, spans: &self.fields.spans }
    }

    pub(crate) fn request(&self, facts: RequestFacts) -> Request<'_> {
        let RequestFacts { method, target, framing, is_connect, .. } = facts;
        let (method, path) = (&self.pseudo[method], &self.pseudo[target]);
        let fields = self.fields();
        let form = match (path, &facts.absolute) {
            _ if is_connect => TargetForm::Authority,
            (_, Some(_)) => TargetForm::Absolute,
            (b"*", _) => TargetForm::Asterisk,
            _ => TargetForm::Origin,
        };
        let target = facts.absolute.map_or(path, |absolute| &self.pseudo[absolute]);
        Request {
            head: RequestHead { method, target, version: Version::Http11, fields },
            form,
            authority: fields.get(Known::Host).filter(|host| !host.is_empty()),
            path,
            framing,
            keep_alive: true,
            expect_continue: facts.expect_continue,
            upgrade: facts.upgrade,
            te_trailers: facts.te_trailers,
            grpc: facts.grpc,
            is_head: method == b"HEAD",
            is_connect,
            idempotent: method::is_idempotent(method),
            origin: facts.origin,
            client_id: None,
        }
    }

    pub(crate) fn response(&self, facts: &ResponseFacts) -> Response<'_> {
        let reason = http::status::phrase(facts.status).as_bytes();
        let (status, fields) = (facts.status, self.fields());
        let version = facts.origin.unwrap_or(Version::Http11);
        Response {
            head: ResponseHead { status, reason, version, fields },
            framing: facts.framing,
            announced: facts.announced,
            keep_alive: true,
            upgrade: false,
            grpc: facts.grpc,
            grpc_status: facts.grpc_status,
            origin: facts.origin,
        }
    }
}

impl From<Violation> for Refusal {
    fn from(violation: Violation) -> Self {
        Refusal::Malformed(violation)
    }
}

/// What the fields say that matters here.
fn gather(scratch: &Scratch) -> Result<Facts<'_>, Refusal> {
    let mut facts = Facts::default();
    for span in scratch.fields.spans.iter().filter(|span| span.known != Known::Other) {
        facts
            .add(span.known, span.value(&scratch.head))
            .map_err(|_| Refusal::Malformed(Violation::ContentLength))?;
    }
    Ok(facts)
}
