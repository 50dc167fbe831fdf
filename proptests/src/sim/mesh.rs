//! TLS on the hop between engines: who is who, who says so, and what may go over a link there.

use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use selvedge_core::identity::{Name, Update};
use selvedge_core::time::{Time, UnixTime};
use selvedge_core::tls::null::{Certificate, Null};
use selvedge_core::tls::{Expected, Peer, Problem, Provider, Session, session};

/// What the right wall clock shows when a run begins.
const BEGIN: UnixTime = UnixTime::from_secs(1_800_000_000);
/// How long before it is issued a certificate is valid: clocks differ.
const LEEWAY: Duration = Duration::from_mins(1);
/// How long a certificate is valid (Linkerd: a day).
const LIFETIME: Duration = Duration::from_hours(24);
/// An anchor that nobody believes.
const STRANGER: u32 = u32::MAX;

/// Who the outbound engine `n` is.
pub(super) fn outbound_name(n: usize) -> Name {
    name(&format!("out{n}.ns"))
}

/// Who the inbound engine `n` is.
pub(super) fn inbound_name(n: usize) -> Name {
    name(&format!("in{n}.ns"))
}

/// Somebody else.
pub(super) fn other_name() -> Name {
    name("somebody.else")
}

/// May an app be told that a request is from this client? `lies`: certificates may be for others.
pub(super) fn may_be_client(client: &[u8], lies: bool) -> bool {
    let mut known = (0..2).map(outbound_name).chain(lies.then(other_name));
    known.any(|name| name.as_str().as_bytes() == client)
}

fn name(text: &str) -> Name {
    Name::parse(text).expect("a name")
}

/// A wall clock that is wrong by so many seconds.
pub(super) fn wall(now: Time, wrong: i64) -> UnixTime {
    let right = BEGIN.as_millis() + now.as_nanos() / 1_000_000;
    UnixTime::from_millis(right.saturating_add_signed(wrong * 1000))
}

/// What an authority answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Grant {
    /// A certificate that lasts for `lasts`; `abrupt`: its owner ends sessions without a word.
    Good { lasts: Duration, abrupt: bool },
    /// None.
    Fails,
    /// One that is over.
    Expired,
    /// One for somebody else, and it says so.
    Other,
    /// One for somebody else, as if it were for who asked.
    Lie,
    /// One of an authority that nobody knows.
    Stranger,
}

impl Grant {
    /// As it should be.
    pub(super) const GOOD: Grant = Grant::Good { lasts: LIFETIME, abrupt: false };
}

/// Who issues certificates. Its anchor is replaced as it must be: first everybody believes the next
/// one as well, then it is used, then the one before is not believed any more.
#[derive(Debug, Default)]
pub(super) struct Authority {
    /// Steps that were made.
    pub(super) step: u32,
}

impl Authority {
    /// The anchors that everybody is to believe, and the one that is used.
    fn anchors(&self) -> (Vec<u32>, u32) {
        let anchor = self.step / 3;
        match self.step % 3 {
            0 => (vec![anchor], anchor),
            1 => (vec![anchor, anchor + 1], anchor),
            _ => (vec![anchor, anchor + 1], anchor + 1),
        }
    }

    /// Answers `own`, who asks at `now`.
    pub(super) fn issue(&self, own: &Name, now: Time, grant: Grant) -> Result<Update, Arc<str>> {
        let (anchors, used) = self.anchors();
        let right = wall(now, 0);
        let (mut lasts, mut quiet, mut anchor) = (LIFETIME, false, used);
        let (mut says, mut shows) = (own.clone(), own.clone());
        match grant {
            Grant::Good { lasts: own, abrupt } => (lasts, quiet) = (own, abrupt),
            Grant::Fails => return Err("the authority is not well".into()),
            Grant::Expired => lasts = Duration::ZERO,
            Grant::Other => (says, shows) = (other_name(), other_name()),
            Grant::Lie => shows = other_name(),
            Grant::Stranger => anchor = STRANGER,
        }
        let not_before = wall(now, -(LEEWAY.as_secs().cast_signed()));
        let not_after = right + lasts;
        let certificate = Certificate { name: shows, anchor, not_before, not_after };
        let null = Null { client: Some(certificate.clone()), server: certificate, anchors };
        let provider: Arc<dyn Provider> =
            if quiet { Arc::new(Abrupt(null)) } else { Arc::new(null) };
        Ok(Update { provider, name: says, not_before, not_after })
    }
}

/// Makes sessions that end without a close_notify.
#[derive(Debug)]
struct Abrupt(Null);

impl Provider for Abrupt {
    fn server(&self, now: UnixTime) -> Result<Box<dyn Session>, Problem> {
        Ok(Box::new(AbruptSession(self.0.server(now)?)))
    }

    fn client(&self, now: UnixTime, expected: &Expected<'_>) -> Result<Box<dyn Session>, Problem> {
        Ok(Box::new(AbruptSession(self.0.client(now, expected)?)))
    }
}

#[derive(Debug)]
struct AbruptSession(Box<dyn Session>);

impl Session for AbruptSession {
    fn open(
        &mut self,
        received: BytesMut,
        plain: &mut BytesMut,
        out: &mut BytesMut,
    ) -> Result<(), Problem> {
        self.0.open(received, plain, out)
    }

    fn seal(&mut self, plain: &[u8], out: &mut BytesMut) -> Result<(), Problem> {
        self.0.seal(plain, out)
    }

    fn close(&mut self, _: &mut BytesMut) {}

    fn is_closed(&self) -> bool {
        self.0.is_closed()
    }

    fn held(&self) -> usize {
        self.0.held()
    }

    fn peer(&self) -> Option<&Peer> {
        self.0.peer()
    }
}

/// Reads along on one direction of a link between engines: nothing goes there but records, and the
/// first is of a handshake or an alert.
#[derive(Clone, Debug, Default)]
pub(super) struct Records {
    header: Vec<u8>,
    /// What is still to come of a record.
    left: usize,
    /// Whole headers that were seen.
    pub(super) seen: u64,
}

impl Records {
    /// The first `n` bytes of `slices` are written.
    pub(super) fn take(&mut self, slices: &[&[u8]], n: usize) -> Result<(), String> {
        let mut more = n;
        for slice in slices {
            let mut rest = &slice[..slice.len().min(more)];
            more -= rest.len();
            while !rest.is_empty() {
                let skipped = rest.len().min(self.left);
                self.left -= skipped;
                let (header, after) =
                    rest[skipped..].split_at((rest.len() - skipped).min(5 - self.header.len()));
                self.header.extend_from_slice(header);
                rest = after;
                if let [kind, major, _, high, low] = self.header[..] {
                    self.left = usize::from(u16::from_be_bytes([high, low]));
                    let first = self.seen == 0;
                    let known = if first { 21..=22 } else { 21..=23 };
                    if !known.contains(&kind) || major != 3 || self.left > session::MAX_RECORD + 256
                    {
                        return Err(format!("no record: {:?}", self.header));
                    }
                    self.seen += 1;
                    self.header.clear();
                }
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::Records;

    /// Whatever the pieces, records pass and everything else is noticed.
    #[test]
    fn only_records_pass() {
        let good =
            [&[22, 3, 1, 0, 2, 7, 7][..], &[23, 3, 3, 0, 1, 9], &[21, 3, 3, 0, 2, 1, 0]].concat();
        for cut in 0..=good.len() {
            let mut records = Records::default();
            let (before, after) = good.split_at(cut);
            assert_eq!(records.take(&[before, after], good.len()), Ok(()));
            assert_eq!(records.seen, 3, "{cut}");
            let mut records = Records::default();
            assert_eq!(records.take(&[&good], cut), Ok(()));
            assert_eq!(records.take(&[after], after.len()), Ok(()));
            assert_eq!(records.seen, 3, "{cut}");
        }
        for bad in [&b"GET / HTTP/1.1\r\n"[..], b"PRI * HTTP/2.0", &good[7..]] {
            assert!(Records::default().take(&[bad], bad.len()).is_err());
        }
    }
}
