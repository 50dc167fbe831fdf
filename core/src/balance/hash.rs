//! The hash that all proxies share: SipHash-2-4 under fixed keys.
//!
//! It has no seed. Two proxies, or one before and after a restart, send the same key to the same
//! endpoint, whatever the order in which they were told of the endpoints. Somebody who wants to can
//! therefore find many keys for one endpoint: what that may cost is bounded by the load bound. Keys of
//! services and of endpoints are hashed apart: those who were sent to one service by their key are
//! spread over all of its endpoints.
//!
//! Golden vectors: `hash/tests.rs`.

use core::hash::Hasher;
use core::net::{IpAddr, SocketAddr};

#[cfg(test)]
mod tests;

/// Half of every key; the other half says what is hashed.
const OURS: u64 = u64::from_le_bytes(*b"selvedge");
const ENDPOINT: u64 = u64::from_le_bytes(*b"endpoint");
const SERVICE: u64 = u64::from_le_bytes(*b"service\0");
const MEMBER: u64 = u64::from_le_bytes(*b"member\0\0");
const POINT: u64 = u64::from_le_bytes(*b"point\0\0\0");

/// What of a request chooses an endpoint: the hash of its header, cookie or source.
pub fn endpoint_key(key: &[u8]) -> u64 {
    hash(ENDPOINT, key)
}

/// What of a request chooses one of the services of a split.
pub fn service_key(key: &[u8]) -> u64 {
    hash(SERVICE, key)
}

/// Who an endpoint is to all proxies: its address, and the app's port that is meant behind it.
pub fn member_name(addr: SocketAddr, port: Option<u16>) -> u64 {
    let mut bytes = [0; 20];
    let ip = match addr.ip().to_canonical() {
        IpAddr::V4(ip) => ip.to_ipv6_mapped(),
        IpAddr::V6(ip) => ip,
    };
    bytes[..16].copy_from_slice(&ip.octets());
    bytes[16..18].copy_from_slice(&addr.port().to_be_bytes());
    bytes[18..].copy_from_slice(&port.unwrap_or(0).to_be_bytes());
    hash(MEMBER, &bytes)
}

/// Who one of the services of a split is to all proxies.
pub fn service_name(name: &str) -> u64 {
    hash(MEMBER, name.as_bytes())
}

/// The `nth` number of what goes by `name`.
pub fn point(name: u64, nth: u64) -> u64 {
    let mut bytes = [0; 16];
    bytes[..8].copy_from_slice(&name.to_le_bytes());
    bytes[8..].copy_from_slice(&nth.to_le_bytes());
    hash(POINT, &bytes)
}

#[expect(deprecated, reason = "SipHash-2-4 with a key; what replaced it has none that is fixed")]
fn hash(what: u64, bytes: &[u8]) -> u64 {
    let mut hasher = core::hash::SipHasher::new_with_keys(OURS, what);
    hasher.write(bytes);
    hasher.finish()
}
