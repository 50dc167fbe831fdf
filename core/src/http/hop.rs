//! What stays on one hop (RFC 9110 §7.6.1).
//!
//! Removed: Connection, every field that it nominates, Keep-Alive, Proxy-Connection, TE,
//! Transfer-Encoding, Upgrade and HTTP2-Settings, and `l5d-client-id`, which nobody may forge; what
//! the next hop needs of them is written anew.
//! Host, Content-Length, Transfer-Encoding and Expect are not lost by a nomination: we frame, route
//! and wait by them, and a peer must not make the next reader see another message than we do.
//! Proxy-Authorization and Proxy-Authenticate are kept: the mesh is not the proxy that they mean.

use super::field::{Fate, Known, Span};
use super::grammar::list;
use crate::error::Reason;

/// Is this field always only for one hop?
pub fn is_hop_by_hop(known: Known) -> bool {
    matches!(
        known,
        Known::ClientId
            | Known::Connection
            | Known::Http2Settings
            | Known::KeepAlive
            | Known::ProxyConnection
            | Known::Te
            | Known::TransferEncoding
            | Known::Upgrade
    )
}

/// What the Connection fields of a head say.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Options {
    /// `close`.
    pub close: bool,
    /// `keep-alive`.
    pub keep_alive: bool,
    /// `upgrade`.
    pub upgrade: bool,
    /// Options that may be names of fields of this message.
    pub nominations: usize,
}

impl Options {
    /// Field names that the Connection fields of one head may nominate. Each is compared with each
    /// field, so without a bound a 64 KiB head would cost millions of comparisons; nobody
    /// nominates more than two or three.
    pub const MAX_NOMINATIONS: usize = 32;

    /// Reads one Connection field. Empty elements are skipped (RFC 9110 §5.6.1.2).
    pub(crate) fn add(&mut self, value: &[u8]) {
        // What nearly every client sends.
        if Known::of(value) == Known::KeepAlive {
            self.keep_alive = true;
            return;
        }
        for option in list(value) {
            match Known::of(option) {
                Known::KeepAlive => self.keep_alive = true,
                Known::Upgrade => self.upgrade = true,
                Known::Other if option.eq_ignore_ascii_case(b"close") => self.close = true,
                known => self.nominations += usize::from(is_nomination(option, known)),
            }
        }
    }
}

/// Is this connection option the name of a field that would otherwise be kept?
fn is_nomination(option: &[u8], known: Known) -> bool {
    !option.is_empty() && !is_hop_by_hop(known) && !option.eq_ignore_ascii_case(b"close")
}

/// Marks the fields that Connection nominates.
///
/// # Errors
///
/// [`Reason::TooManyFields`] if it nominates more than [`Options::MAX_NOMINATIONS`].
pub(crate) fn mark_nominated(
    buf: &[u8],
    spans: &mut [Span],
    options: Options,
) -> Result<(), Reason> {
    if options.nominations > Options::MAX_NOMINATIONS {
        return Err(Reason::TooManyFields);
    }
    for index in 0..spans.len() {
        if spans[index].known != Known::Connection {
            continue;
        }
        for option in
            list(spans[index].value(buf)).filter(|option| is_nomination(option, Known::of(option)))
        {
            let nominated = |span: &&mut Span| {
                usize::from(span.name_len) == option.len()
                    && span.name(buf).eq_ignore_ascii_case(option)
            };
            for span in spans.iter_mut().filter(nominated) {
                if !matches!(span.known, Known::Host | Known::ContentLength | Known::Expect) {
                    span.fate = Fate::Dropped;
                }
            }
        }
    }
    Ok(())
}

/// May a field of this name not come after the body (RFC 9110 §6.5.1)? True for what frames or
/// routes a message, is only for one hop, modifies a request, authenticates, controls a response or
/// says how content is to be read (the list of RFC 7230 §4.1.2).
pub fn is_forbidden_in_trailers(name: &[u8]) -> bool {
    is_recognised_forbidden(Known::of(name), name)
}

/// The same, of a field that was recognised.
pub(crate) fn is_recognised_forbidden(known: Known, name: &[u8]) -> bool {
    let Some(&first) = name.first() else { return false };
    is_hop_by_hop(known)
        || (LIKELY.0 >> name.len().min(63)) & (LIKELY.1 >> (first & 0x1f)) & 1 == 1
            && FORBIDDEN.iter().any(|forbidden| name.eq_ignore_ascii_case(forbidden))
}

/// In lower case.
const FORBIDDEN: [&[u8]; 37] = [
    b"host",
    b"content-length",
    b"trailer",
    b"expect",
    b"max-forwards",
    b"cache-control",
    b"pragma",
    b"range",
    b"if-match",
    b"if-none-match",
    b"if-modified-since",
    b"if-unmodified-since",
    b"if-range",
    b"authorization",
    b"authentication-info",
    b"www-authenticate",
    b"proxy-authorization",
    b"proxy-authenticate",
    b"proxy-authentication-info",
    b"cookie",
    b"set-cookie",
    b"age",
    b"date",
    b"expires",
    b"location",
    b"retry-after",
    b"vary",
    b"warning",
    b"content-encoding",
    b"content-type",
    b"content-range",
    b"forwarded",
    b"via",
    b"x-forwarded-for",
    b"x-forwarded-host",
    b"x-forwarded-proto",
    b"x-forwarded-port",
];

/// Bits for the lengths of these names, and for their first letters: most others lack one of them.
const LIKELY: (u64, u64) = {
    let (mut lengths, mut letters, mut index) = (0, 0, 0);
    while index < FORBIDDEN.len() {
        lengths |= 1 << FORBIDDEN[index].len();
        letters |= 1 << (FORBIDDEN[index][0] & 0x1f);
        index += 1;
    }
    (lengths, letters)
};
