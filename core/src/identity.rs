//! Who a workload is: names, what they are compared with, and when a certificate is asked for.

use alloc::string::String;
use alloc::sync::Arc;
use core::fmt;

use crate::time::{Duration, Time, UnixTime};
use crate::tls::Provider;

/// The identity of a workload: what a certificate says in its first subject alternative name.
///
/// It is either like a DNS name, as Linkerd's are
/// (`web.ns.serviceaccount.identity.linkerd.cluster.local`), or a SPIFFE ID
/// (`spiffe://trust.domain/path`). DNS-like ones are kept in lower case, so equal names are equal
/// bytes.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Name(Arc<str>);

/// Why a text is no [`Name`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum NameError {
    /// It is empty.
    Empty,
    /// It has more bytes than such a name may have (DNS: 253, SPIFFE: 2048).
    TooLong,
    /// A label of a DNS-like name is empty, longer than 63 bytes, or begins or ends with a hyphen.
    Label,
    /// It has a character that such a name may not have.
    Character,
    /// It is an IP address, which is where somebody is and not who.
    Address,
    /// It is a URI of another scheme than `spiffe`.
    Scheme,
    /// The path of a SPIFFE ID has an empty segment, `.` or `..`, or ends in `/`.
    Path,
}

impl Name {
    /// The longest SPIFFE ID (SPIFFE-ID §2.3).
    const MAX_URI: usize = 2048;
    /// The longest DNS name, as text (RFC 1035 §2.3.4).
    const MAX_DNS: usize = 253;

    /// Reads a name. A dot at the end of a DNS-like one is dropped.
    ///
    /// # Errors
    /// The text is no such name.
    pub fn parse(text: &str) -> Result<Name, NameError> {
        if text.contains("://") {
            check_spiffe(text)?;
            return Ok(Name(text.into()));
        }
        Ok(Name(dns_name(text)?.into()))
    }

    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Is it a SPIFFE ID?
    pub fn is_uri(&self) -> bool {
        self.0.contains("://")
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl fmt::Display for NameError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            NameError::Empty => "it is empty",
            NameError::TooLong => "it is too long",
            NameError::Label => "a label is empty, too long, or begins or ends with a hyphen",
            NameError::Character => "it has a character that is not allowed",
            NameError::Address => "it is an IP address",
            NameError::Scheme => "only spiffe:// URIs are identities",
            NameError::Path => "its path has an empty segment, . or .., or ends in a slash",
        })
    }
}

impl core::error::Error for NameError {}

/// Checks a DNS-like name and brings it to lower case.
fn dns_name(text: &str) -> Result<String, NameError> {
    let text = text.strip_suffix('.').unwrap_or(text);
    if text.is_empty() {
        return Err(NameError::Empty);
    }
    if text.len() > Name::MAX_DNS {
        return Err(NameError::TooLong);
    }
    if text.bytes().any(|b| !(b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_' | b':')))
    {
        return Err(NameError::Character);
    }
    let last = text.rsplit('.').next().unwrap_or_default();
    if text.contains(':') || last.bytes().all(|b| b.is_ascii_digit()) && !last.is_empty() {
        return Err(NameError::Address);
    }
    let is_label = |label: &str| {
        matches!(label.len(), 1..=63) && !label.starts_with('-') && !label.ends_with('-')
    };
    if !text.split('.').all(is_label) {
        return Err(NameError::Label);
    }
    Ok(text.to_ascii_lowercase())
}

/// Checks a SPIFFE ID (SPIFFE-ID §2).
fn check_spiffe(text: &str) -> Result<(), NameError> {
    if text.len() > Name::MAX_URI {
        return Err(NameError::TooLong);
    }
    let Some(rest) = text.strip_prefix("spiffe://") else { return Err(NameError::Scheme) };
    let (domain, path) = match rest.split_once('/') {
        Some((domain, path)) => (domain, Some(path)),
        None => (rest, None),
    };
    if domain.is_empty() {
        return Err(NameError::Empty);
    }
    let in_domain =
        |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'.' | b'-' | b'_');
    let in_path = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_' | b'/');
    if !domain.bytes().all(in_domain) || !path.unwrap_or_default().bytes().all(in_path) {
        return Err(NameError::Character);
    }
    let is_segment = |segment: &str| !matches!(segment, "" | "." | "..");
    if path.is_some_and(|path| !path.split('/').all(is_segment)) {
        return Err(NameError::Path);
    }
    Ok(())
}

/// Which identities somebody means.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Pattern {
    /// `*`: whoever has one.
    Any,
    /// `*.ns.cluster.local`: DNS-like names with at least one label more. Holds `.ns.cluster.local`.
    Suffix(Arc<str>),
    /// That one.
    Exact(Name),
}

impl Pattern {
    /// Reads a pattern.
    ///
    /// # Errors
    /// What is left of it without a `*.` in front is no [`Name`].
    pub fn parse(text: &str) -> Result<Pattern, NameError> {
        if text == "*" {
            return Ok(Pattern::Any);
        }
        match text.strip_prefix("*.") {
            Some(rest) => Ok(Pattern::Suffix(alloc::format!(".{}", dns_name(rest)?).into())),
            None => Name::parse(text).map(Pattern::Exact),
        }
    }

    /// Does it mean `name`?
    pub fn matches(&self, name: &Name) -> bool {
        match self {
            Pattern::Any => true,
            Pattern::Exact(exact) => exact == name,
            Pattern::Suffix(suffix) => {
                let text = name.as_str();
                !name.is_uri() && text.len() > suffix.len() && text.ends_with(&**suffix)
            }
        }
    }
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Pattern::Any => f.write_str("*"),
            Pattern::Suffix(suffix) => write!(f, "*{suffix}"),
            Pattern::Exact(name) => name.fmt(f),
        }
    }
}

/// A new certificate, or new trust anchors, or both: the answer to
/// [`Output::Certify`](crate::engine::Output::Certify). New sessions are made with it; those that
/// there are go on with what they began with.
#[derive(Clone, Debug)]
pub struct Update {
    /// Makes sessions with the key, the chain and the anchors.
    pub provider: Arc<dyn Provider>,
    /// Whom the certificate names.
    pub name: Name,
    /// Not valid before this.
    pub not_before: UnixTime,
    /// Not valid from this on.
    pub not_after: UnixTime,
}

/// When a certificate is asked for, and whether there is a valid one. It has no clock: whoever
/// drives it says what time it is, by both clocks.
///
/// ```text
///   receipt ──── 70 % of what is left, 10 s to 24 h ────▶ renew ── failed: 1, 2, 4, 8, 10, 10 … s ─▶
/// ```
#[derive(Clone, Debug, Default)]
pub struct Renewal {
    validity: Option<(UnixTime, UnixTime)>,
    /// When the next certificate is asked for, by the wall clock; `None`: as soon as may be.
    renew_at: Option<UnixTime>,
    /// Not before this, after a failure; or when an answer has been waited for long enough.
    not_before: Time,
    failures: u32,
}

/// What became of a question by [`Renewal`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Due {
    /// A certificate has to be asked for now.
    Now,
    /// Nothing before this.
    At(Time),
}

impl Renewal {
    /// linkerd2-proxy: IDENTITY_MIN_REFRESH.
    pub const MIN: Duration = Duration::from_secs(10);
    /// linkerd2-proxy: IDENTITY_MAX_REFRESH.
    pub const MAX: Duration = Duration::from_hours(24);
    /// First wait after a failure; it doubles …
    pub const BACKOFF_MIN: Duration = Duration::from_secs(1);
    /// … up to this (linkerd2-proxy waits so long after each).
    pub const BACKOFF_MAX: Duration = Duration::from_secs(10);
    /// An authority that has not answered for so long is asked again.
    pub const PATIENCE: Duration = Duration::from_mins(1);

    /// Takes the validity of a certificate that came at `wall`. False if it is over already: that
    /// is a failure.
    pub fn certified(&mut self, wall: UnixTime, not_before: UnixTime, not_after: UnixTime) -> bool {
        let left = not_after.saturating_since(wall);
        if left.is_zero() || not_before >= not_after {
            return false;
        }
        let wait = left.mul_f64(0.7).clamp(Self::MIN, Self::MAX);
        self.validity = Some((not_before, not_after));
        self.renew_at = Some(wall + wait);
        self.failures = 0;
        self.not_before = Time::ZERO;
        true
    }

    /// Notes that none came; after how long to ask again. `jitter` is from 0 to 1: a tenth of it is
    /// added, so that proxies do not knock in step.
    pub fn failed(&mut self, now: Time, jitter: f64) -> Duration {
        let doublings = self.failures.min(10);
        self.failures += 1;
        let base = Self::BACKOFF_MIN.saturating_mul(1 << doublings).min(Self::BACKOFF_MAX);
        let wait = base + base.mul_f64(0.1 * jitter);
        self.not_before = now + wait;
        // What there is stays until it ends.
        self.renew_at = None;
        wait
    }

    /// Asks whether a certificate has to be asked for. If so, an answer is waited for.
    pub fn poll(&mut self, now: Time, wall: UnixTime) -> Due {
        let due = self.due(now, wall);
        if due > now {
            return Due::At(due);
        }
        self.renew_at = None;
        self.not_before = now + Self::PATIENCE;
        Due::Now
    }

    /// When the next certificate is asked for, if the clocks go on as they do.
    pub fn due(&self, now: Time, wall: UnixTime) -> Time {
        // A clock that was set back must not put it off: the longest wait is one from now.
        let wait = self.renew_at.map_or(Duration::ZERO, |at| at.saturating_since(wall));
        (now + wait.min(Self::MAX)).max(self.not_before)
    }

    /// Is there a certificate that is valid at `wall`?
    pub fn is_valid(&self, wall: UnixTime) -> bool {
        self.validity.is_some_and(|(from, to)| from <= wall && wall < to)
    }

    /// From when to when the last certificate is valid.
    pub fn validity(&self) -> Option<(UnixTime, UnixTime)> {
        self.validity
    }

    /// When [`Renewal::is_valid`] changes next, after `wall`.
    pub fn next_change(&self, wall: UnixTime) -> Option<UnixTime> {
        let (from, to) = self.validity?;
        [from, to].into_iter().find(|&at| at > wall)
    }
}

#[cfg(test)]
mod tests;
