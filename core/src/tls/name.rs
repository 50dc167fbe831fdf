//! Host names as TLS and the transport header carry them.

use core::net::IpAddr;

/// The longest name that DNS has, without a trailing dot (RFC 1035 §2.3.4).
const MAX_NAME: usize = 253;
/// The longest of its labels.
const MAX_LABEL: usize = 63;

/// Why something is no host name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NotAHost {
    /// It is an address.
    Address,
    /// It is neither.
    Malformed,
}

/// A name as it is matched and logged: without the trailing dot that RFC 6066 §3 does not want and
/// clients send all the same.
pub(crate) fn host(name: &[u8]) -> Result<&str, NotAHost> {
    let name = str::from_utf8(name).map_err(|_| NotAHost::Malformed)?;
    if name.parse::<IpAddr>().is_ok() {
        return Err(NotAHost::Address);
    }
    let name = name.strip_suffix('.').unwrap_or(name);
    // An underscore is in no host name, and in many names that hosts have.
    let is_label = |label: &str| {
        let mut bytes = label.bytes();
        (1..=MAX_LABEL).contains(&label.len())
            && bytes.all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'))
    };
    if name.len() <= MAX_NAME && name.split('.').all(is_label) {
        Ok(name)
    } else {
        Err(NotAHost::Malformed)
    }
}
