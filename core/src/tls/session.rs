//! What the engine needs of TLS: bytes in, plaintext and bytes out.

use alloc::boxed::Box;
use alloc::string::String;
use core::fmt;

use bytes::BytesMut;

use crate::identity::Name;
use crate::time::UnixTime;

/// Makes sessions with one key, one certificate chain and one set of trust anchors. Replaced as a
/// whole when any of them changes.
pub trait Provider: Send + Sync + fmt::Debug {
    /// A session with a client: presents our chain, asks for the client's and does without it; one
    /// that is shown must lead to a trust anchor at `now`.
    ///
    /// # Errors
    /// No session can be made; no peer is at fault.
    fn server(&self, now: UnixTime) -> Result<Box<dyn Session>, Problem>;

    /// A session with a server that must be `expected`. Its first message comes out of the first
    /// [`Session::open`], which is called with nothing to open.
    ///
    /// # Errors
    /// No session can be made; no peer is at fault.
    fn client(&self, now: UnixTime, expected: &Expected<'_>) -> Result<Box<dyn Session>, Problem>;
}

/// Whom a client means to talk to.
#[derive(Clone, Copy, Debug)]
pub struct Expected<'a> {
    /// Must be among the DNS and URI names of the server's certificate.
    pub identity: &'a Name,
    /// The server name that is sent (RFC 6066 §3). It verifies nothing.
    pub server_name: &'a str,
    /// The protocols that are offered (RFC 7301), best first; none: the extension is not sent.
    pub protocols: &'a [&'a [u8]],
}

/// One TLS session, of either side.
///
/// `open` takes what was received, `seal` what is to be sent; `received` and `out` are bytes of the
/// connection, records of TLS. A session holds no plaintext between two calls.
pub trait Session: Send + fmt::Debug {
    /// Takes what was received, appends what complete records carry to `plain` and what has to be
    /// sent at once to `out`. The rest is held until more comes.
    ///
    /// # Errors
    /// The session is over: nothing more can be opened or sealed. What `out` got, an alert, is
    /// still to be sent; what `plain` got before is good.
    fn open(
        &mut self,
        received: BytesMut,
        plain: &mut BytesMut,
        out: &mut BytesMut,
    ) -> Result<(), Problem>;

    /// Appends one record that carries `plain`, at most [`MAX_RECORD`] bytes, to `out`. Only once
    /// there is a [`Session::peer`].
    ///
    /// # Errors
    /// Nothing can be sealed any more.
    fn seal(&mut self, plain: &[u8], out: &mut BytesMut) -> Result<(), Problem>;

    /// Says that nothing more will be sent (close_notify, RFC 8446 §6.1). Receiving goes on.
    fn close(&mut self, out: &mut BytesMut);

    /// Has the peer said that it will send no more?
    fn is_closed(&self) -> bool;

    /// Bytes of memory that hold what was received and not opened: less than a record, but in a
    /// handshake.
    fn held(&self) -> usize;

    /// Whom the session is with, once the handshake is over on this side.
    fn peer(&self) -> Option<&Peer>;
}

/// The most plaintext in one record (RFC 8446 §5.1).
pub const MAX_RECORD: usize = 16 * 1024;

/// What a record adds to its plaintext, at most: header, content type and tag (RFC 8446 §5.2).
pub const RECORD_OVERHEAD: usize = 5 + 1 + 16;

/// What is known of a peer after a handshake.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Peer {
    /// Whom it has proven to be; `None`: it showed no certificate.
    pub identity: Option<Name>,
    /// The protocol that was agreed on (RFC 7301).
    pub protocol: Option<Box<[u8]>>,
    /// `TLSv1.3`.
    pub version: &'static str,
    /// The group of the key exchange, by its name in the IANA registry.
    pub group: &'static str,
    /// The cipher suite, by its name in the IANA registry.
    pub suite: &'static str,
}

impl Peer {
    /// Will a transport header come first?
    pub fn is_transport(&self) -> bool {
        self.protocol.as_deref() == Some(super::transport_header::PROTOCOL)
    }
}

/// Which end of a session we are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Side {
    /// We began it.
    Client,
    /// The peer began it.
    Server,
}

impl Side {
    /// Both, in the order of their discriminants.
    pub const ALL: [Side; 2] = [Side::Client, Side::Server];

    /// The label value in metrics.
    pub const fn label(self) -> &'static str {
        match self {
            Side::Client => "client",
            Side::Server => "server",
        }
    }
}

/// What went wrong, and the words of whoever noticed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// What kind of thing.
    pub failure: Failure,
    /// More about it, for people; may be empty.
    pub detail: String,
}

impl From<Failure> for Problem {
    fn from(failure: Failure) -> Self {
        Problem { failure, detail: String::new() }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.failure.message())?;
        if self.detail.is_empty() { Ok(()) } else { write!(f, ": {}", self.detail) }
    }
}

impl core::error::Error for Problem {}

faults! {
    /// Why a handshake failed or a session broke.
    Failure:

    // ---- The peer's certificate ----
    /// Its chain does not lead to a trust anchor.
    UnknownIssuer = "unknown_issuer", "certificate is not from a trusted issuer";
    /// It is over.
    Expired = "expired", "certificate has expired";
    /// It has not begun.
    NotYetValid = "not_yet_valid", "certificate is not valid yet";
    /// It names somebody else than was meant.
    WrongIdentity = "wrong_identity", "certificate is for another identity";
    /// It is malformed, badly signed, not for this use, or names nobody.
    BadCertificate = "bad_certificate", "certificate is not acceptable";

    // ---- What could not be agreed on ----
    /// TLS 1.2 or older.
    Version = "version", "peer does not speak TLS 1.3";
    /// No cipher suite, group or signature scheme in common.
    Parameters = "parameters", "no common cipher suite, group or signature scheme";
    /// No application protocol in common (RFC 7301).
    Protocol = "protocol", "no common application protocol";

    // ---- The peer's conduct ----
    /// It refused, by an alert: our certificate, most likely.
    Alert = "alert", "peer sent an alert";
    /// A message that breaks RFC 8446.
    Malformed = "malformed", "peer broke the TLS protocol";
    /// A record that is not authentic.
    BadRecord = "bad_record", "record could not be authenticated";
    /// It closed in the middle of the handshake.
    Truncated = "truncated", "peer closed during the handshake";
    /// It reset the connection in the middle of the handshake.
    Reset = "reset", "connection broke during the handshake";
    /// It took too long.
    Timeout = "timeout", "handshake not complete in time";

    // ---- Ours ----
    /// Too many handshakes at once.
    Limit = "limit", "too many handshakes in progress";
    /// We have no valid certificate.
    NotCertified = "not_certified", "this proxy has no valid certificate";
    /// The session could not be made or continued.
    Internal = "internal", "session cannot go on";
}

#[cfg(test)]
mod tests {
    use super::Failure;

    #[test]
    fn failures_index_themselves_and_have_distinct_labels() {
        for (index, &failure) in Failure::ALL.iter().enumerate() {
            assert_eq!(failure as usize, index);
            assert!(Failure::ALL[..index].iter().all(|other| other.label() != failure.label()));
        }
    }
}
