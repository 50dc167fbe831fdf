//! Finds the end of a head in what has arrived so far.
//!
//! ```text
//! Start ─► Method ─SP─► Target ─SP─► Version ─CR─► FirstLf ─LF─► LineStart ◄─LF─ LineLf
//!   │ CR LF (skipped)                   Status ─CR──┘ (responses)   │  └─► Field ─CR─┘
//!                                                                   └─CR─► EndLf ─LF─► end
//! ```
//!
//! Every byte is looked at once, whatever the cuts, and every error is decided by a position in
//! the stream and never by where a read ended: so a message is refused alike however it was cut.

use wide::u8x16;

use super::classify;
use crate::error::Reason;
use crate::http::grammar::skip;
use crate::limits::Limits;

/// What kind of head is looked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HeadKind {
    /// A request line and fields.
    Request,
    /// A status line and fields. Whatever is wrong with it is [`Reason::BadResponse`].
    Response,
    /// Fields only: what follows the last chunk.
    Trailers,
}

/// Finds the end of one head. Make a new one for the next.
#[derive(Clone, Debug, Default)]
pub struct HeadScanner {
    /// Bytes looked at.
    scanned: usize,
    /// While the head is no longer than this, a visible byte changes nothing.
    fast_until: usize,
    /// Where the target or the version begins; `MALFORMED` if the first line has too few parts.
    mark: u32,
    fields: u16,
    empty_lines: u8,
    phase: Phase,
}

const _: () = assert!(size_of::<HeadScanner>() <= 24);

const MALFORMED: u32 = u32::MAX;

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Phase {
    #[default]
    Start,
    /// In an empty line before the request line.
    StartLf,
    Method,
    Target,
    Version,
    Status,
    FirstLf,
    LineStart,
    Field,
    LineLf,
    EndLf,
}

impl HeadScanner {
    /// Looks at what is new in `buf`, which holds the head from its first byte on, and says how
    /// long the head is once it is complete: with its last empty line, and with any empty lines
    /// skipped before it ([`Limits::LEADING_EMPTY_LINES`], requests only). It is not asked again
    /// after that, nor after an error.
    ///
    /// # Errors
    ///
    /// [`Reason::BareLf`], [`Reason::BareCr`], [`Reason::Nul`], [`Reason::ObsoleteFold`] (also for
    /// whitespace before the first field), [`Reason::RequestLine`] and [`Reason::Version`] for a
    /// first line that does not end in a version, [`Reason::TargetTooLong`],
    /// [`Reason::HeadTooLarge`], [`Reason::TooManyFields`]; for responses always
    /// [`Reason::BadResponse`].
    #[inline]
    pub fn scan(
        &mut self,
        buf: &[u8],
        kind: HeadKind,
        limits: &Limits,
    ) -> Result<Option<usize>, Reason> {
        // A head that arrives byte by byte must not cost a search per byte.
        if let [before @ .., byte] = buf
            && before.len() == self.scanned
            && buf.len() <= self.fast_until
            && *byte > b' '
        {
            self.scanned += 1;
            return Ok(None);
        }
        self.search(buf, kind, limits)
    }

    /// Has nothing been looked at?
    pub(super) fn is_new(&self) -> bool {
        self.scanned == 0
    }

    /// Has anything but empty lines arrived?
    pub fn started(&self) -> bool {
        !matches!(self.phase, Phase::Start | Phase::StartLf)
    }

    #[inline(never)]
    fn search(
        &mut self,
        buf: &[u8],
        kind: HeadKind,
        limits: &Limits,
    ) -> Result<Option<usize>, Reason> {
        let found = self.advance(buf, kind, limits);
        if kind == HeadKind::Response {
            return found.map_err(|_| Reason::BadResponse);
        }
        found
    }

    fn advance(
        &mut self,
        buf: &[u8],
        kind: HeadKind,
        limits: &Limits,
    ) -> Result<Option<usize>, Reason> {
        loop {
            let pos = self.scanned;
            let (stop, reason) = self.limit(limits);
            if pos >= stop {
                return Err(reason);
            }
            let Some(&byte) = buf.get(pos) else {
                self.rest(stop);
                return Ok(None);
            };
            match self.phase {
                Phase::Start => self.start(byte, kind)?,
                Phase::StartLf => {
                    expect_lf(byte)?;
                    self.empty_lines += 1;
                    if usize::from(self.empty_lines) > Limits::LEADING_EMPTY_LINES {
                        return Err(Reason::RequestLine);
                    }
                    self.step(Phase::Start);
                }
                Phase::Method | Phase::Target | Phase::Version => {
                    self.first_line(&buf[..buf.len().min(stop)])?;
                }
                Phase::Status => self.status_line(&buf[..buf.len().min(stop)])?,
                Phase::FirstLf => {
                    expect_lf(byte)?;
                    if kind == HeadKind::Request {
                        self.check_version(&buf[..pos - 1])?;
                    }
                    self.step(Phase::LineStart);
                }
                Phase::LineStart if byte == b'\r' => self.step(Phase::EndLf),
                Phase::LineStart => {
                    self.line_start(byte, limits)?;
                    self.fields(&buf[..buf.len().min(stop)], limits)?;
                }
                Phase::Field => self.fields(&buf[..buf.len().min(stop)], limits)?,
                Phase::LineLf => {
                    expect_lf(byte)?;
                    self.step(Phase::LineStart);
                }
                Phase::EndLf => {
                    expect_lf(byte)?;
                    return Ok(Some(pos + 1));
                }
            }
        }
    }

    /// How many bytes of the head the current part must be over within, and what it is otherwise.
    fn limit(&self, limits: &Limits) -> (usize, Reason) {
        let mark = self.mark as usize;
        let (part, reason) = match self.phase {
            // The target and the space behind it.
            Phase::Target => {
                ((mark + 1).saturating_add(limits.target_bytes), Reason::TargetTooLong)
            }
            // `HTTP/1.1` and CR.
            Phase::Version => (mark + 9, Reason::RequestLine),
            _ => (usize::MAX, Reason::HeadTooLarge),
        };
        // Spans count in 32 bits.
        let head = limits.header_bytes.min(MALFORMED as usize - 1);
        if part < head { (part, reason) } else { (head, Reason::HeadTooLarge) }
    }

    /// Everything that arrived was looked at: arranges the fast path for what comes next.
    fn rest(&mut self, stop: usize) {
        self.fast_until = match self.phase {
            // The byte that reaches the limit is one for `advance`.
            Phase::Method | Phase::Target | Phase::Field => stop - 1,
            _ => 0,
        };
    }

    /// One byte was consumed.
    fn step(&mut self, next: Phase) {
        self.scanned += 1;
        self.phase = next;
    }

    /// Consumes nothing but an empty line's CR.
    fn start(&mut self, byte: u8, kind: HeadKind) -> Result<(), Reason> {
        match kind {
            HeadKind::Request if byte == b'\r' => self.step(Phase::StartLf),
            HeadKind::Request if byte == b'\n' => return Err(Reason::BareLf),
            HeadKind::Request => self.phase = Phase::Method,
            HeadKind::Response => self.phase = Phase::Status,
            HeadKind::Trailers => self.phase = Phase::LineStart,
        }
        Ok(())
    }

    /// Method, target and version, as far as they are there.
    fn first_line(&mut self, seen: &[u8]) -> Result<(), Reason> {
        let end = find_below::<{ b' ' + 1 }>(seen, self.scanned);
        self.scanned = end;
        let Some(&byte) = seen.get(end) else { return Ok(()) };
        self.scanned += 1;
        match byte {
            b' ' => {
                self.phase = match self.phase {
                    Phase::Method => Phase::Target,
                    Phase::Target => Phase::Version,
                    _ => return Err(Reason::RequestLine),
                };
                self.mark = self.scanned as u32;
            }
            b'\r' => {
                if self.phase != Phase::Version {
                    self.mark = MALFORMED;
                }
                self.phase = Phase::FirstLf;
            }
            b'\n' => return Err(Reason::BareLf),
            0 => return Err(Reason::Nul),
            _ => return Err(Reason::ControlCharacter),
        }
        Ok(())
    }

    /// `line` ends where the first line's CR is.
    fn check_version(&self, line: &[u8]) -> Result<(), Reason> {
        if self.mark == MALFORMED {
            return Err(Reason::RequestLine);
        }
        classify::version(&line[self.mark as usize..])
    }

    fn status_line(&mut self, seen: &[u8]) -> Result<(), Reason> {
        // An endpoint that does not speak HTTP/1 is told by its first bytes: it may never send
        // a line.
        const PREFIX: &[u8] = b"HTTP/1.";
        let known = seen.len().min(PREFIX.len());
        if seen[..known] != PREFIX[..known] {
            return Err(Reason::BadResponse);
        }
        self.line(seen, Phase::FirstLf)
    }

    /// The first byte of a field line; consumes nothing.
    fn line_start(&mut self, byte: u8, limits: &Limits) -> Result<(), Reason> {
        match byte {
            b' ' | b'\t' => Err(Reason::ObsoleteFold),
            b'\n' => Err(Reason::BareLf),
            _ => self.count_field(limits),
        }
    }

    #[inline]
    fn count_field(&mut self, limits: &Limits) -> Result<(), Reason> {
        if usize::from(self.fields) >= limits.header_count.min(Limits::MAX_HEADER_COUNT) {
            return Err(Reason::TooManyFields);
        }
        self.fields += 1;
        self.phase = Phase::Field;
        Ok(())
    }

    /// Field lines, as long as whole ones are there.
    #[inline]
    fn fields(&mut self, seen: &[u8], limits: &Limits) -> Result<(), Reason> {
        loop {
            self.line(seen, Phase::LineLf)?;
            // The usual end of a line and beginning of the next, without going round the loop of
            // `advance`.
            match seen.get(self.scanned..) {
                Some([b'\n', next, ..]) if *next > b' ' && self.phase == Phase::LineLf => {
                    self.scanned += 2;
                    self.count_field(limits)?;
                }
                _ => return Ok(()),
            }
        }
    }

    /// The rest of a line up to its CR, which leads to `next`.
    #[inline]
    fn line(&mut self, seen: &[u8], next: Phase) -> Result<(), Reason> {
        loop {
            let end = find_below::<b' '>(seen, self.scanned);
            self.scanned = end;
            let Some(&byte) = seen.get(end) else { return Ok(()) };
            self.scanned += 1;
            match byte {
                b'\r' => {
                    self.phase = next;
                    return Ok(());
                }
                b'\t' => {}
                b'\n' => return Err(Reason::BareLf),
                0 => return Err(Reason::Nul),
                _ => return Err(Reason::ControlCharacter),
            }
        }
    }
}

/// The index of the first byte below `LIMIT` from `from` on, or the length.
#[inline]
pub(super) fn find_below<const LIMIT: u8>(bytes: &[u8], from: usize) -> usize {
    let below = |block: u8x16| block.simd_lt(u8x16::splat(LIMIT));
    skip(bytes, from, below, |byte| byte >= LIMIT)
}

fn expect_lf(byte: u8) -> Result<(), Reason> {
    if byte == b'\n' { Ok(()) } else { Err(Reason::BareCr) }
}
