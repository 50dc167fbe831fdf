//! The values of a mesh file: each reader returns what was expected when it meets something else.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use selvedge_core::config::{Allow, Protocol, Target};
use selvedge_core::http::authority::normalize;
use selvedge_core::identity::Name;
use selvedge_core::time::parse_duration;
use selvedge_core::tls::Nameless;
use toml::de::DeValue;

use super::identity::Source;
use crate::ca;

/// Result of reading one value; the error says what was expected.
type Read<T> = Result<T, String>;

/// An integer in a range.
pub(super) fn integer(value: &DeValue<'_>, min: u64, max: u64) -> Read<u64> {
    value
        .as_integer()
        .and_then(|digits| i128::from_str_radix(digits.as_str(), digits.radix()).ok())
        .and_then(|number| u64::try_from(number).ok())
        .filter(|number| (min..=max).contains(number))
        .ok_or_else(|| format!("expected an integer from {min} to {max}"))
}

/// `true` or `false`.
pub(super) fn boolean(value: &DeValue<'_>) -> Read<bool> {
    value.as_bool().ok_or("expected true or false".into())
}

/// What endpoints are spoken to.
pub(super) fn protocol(value: &DeValue<'_>) -> Read<Protocol> {
    match value.as_str() {
        Some("auto") => Ok(Protocol::Auto),
        Some("http1") => Ok(Protocol::Http1),
        Some("h2") => Ok(Protocol::Http2),
        Some("mesh") => Ok(Protocol::Mesh),
        _ => Err(r#"expected "auto", "http1", "h2" or "mesh""#.into()),
    }
}

/// What becomes of TLS that names no server.
pub(super) fn nameless_tls(value: &DeValue<'_>) -> Read<Nameless> {
    match value.as_str() {
        Some("passthrough") => Ok(Nameless::Passthrough),
        Some("terminate") => Ok(Nameless::Terminate),
        Some("close") => Ok(Nameless::Close),
        _ => Err(r#"expected "passthrough", "terminate" or "close""#.into()),
    }
}

/// A duration longer than nothing.
pub(super) fn duration(value: &DeValue<'_>) -> Read<Duration> {
    any_duration(value)
        .filter(|duration| !duration.is_zero())
        .ok_or(expected_duration("more than 0"))
}

/// A duration; 0 means at once.
pub(super) fn duration_or_at_once(value: &DeValue<'_>) -> Read<Duration> {
    any_duration(value).ok_or(expected_duration("or 0 for at once"))
}

/// A duration; 0 means that there is no limit, which the core reads as one that is never reached.
pub(super) fn duration_or_endless(value: &DeValue<'_>) -> Read<Duration> {
    duration_or_none(value).map(|duration| duration.unwrap_or(Duration::MAX))
}

/// A duration; 0 means none.
pub(super) fn duration_or_none(value: &DeValue<'_>) -> Read<Option<Duration>> {
    any_duration(value)
        .map(|duration| Some(duration).filter(|duration| !duration.is_zero()))
        .ok_or(expected_duration("or 0 for no limit"))
}

fn expected_duration(zero: &str) -> String {
    format!(r#"expected a duration like "300ms", "10s", "5m", "1h" or "2d", {zero}"#)
}

/// `0`, or an integer with its unit.
fn any_duration(value: &DeValue<'_>) -> Option<Duration> {
    match value.as_str() {
        Some(text) => parse_duration(text),
        None => integer(value, 0, 0).ok().map(|_| Duration::ZERO),
    }
}

/// `ip:port` to listen on. Port 0: the system chooses one.
pub(super) fn listen_addr(value: &DeValue<'_>) -> Read<SocketAddr> {
    value.as_str().and_then(|text| text.parse().ok()).ok_or_else(|| {
        r#"expected ip:port to listen on, like "127.0.0.1:4140" or "[::1]:0""#.into()
    })
}

/// `ip:port` to connect to.
pub(super) fn socket_addr(value: &DeValue<'_>) -> Read<SocketAddr> {
    value
        .as_str()
        .and_then(|text| text.parse().ok())
        .filter(is_reachable)
        .ok_or_else(|| r#"expected ip:port to connect to, like "127.0.0.1:8080""#.into())
}

/// `ip:port` or `name:port` to connect to.
pub(super) fn target(value: &DeValue<'_>) -> Read<Target> {
    value.as_str().and_then(parse_target).ok_or_else(|| {
        r#"expected host:port to connect to, like "10.0.0.1:80", "[::1]:80" or "web.local:80""#
            .into()
    })
}

fn parse_target(text: &str) -> Option<Target> {
    if let Ok(addr) = text.parse::<SocketAddr>() {
        let addr = SocketAddr::new(addr.ip().to_canonical(), addr.port());
        return is_reachable(&addr).then_some(Target::Addr(addr));
    }
    let (host, port) = text.rsplit_once(':')?;
    let port = parse_port(port)?;
    is_name(host).then(|| Target::Name { host: host.to_ascii_lowercase().into(), port })
}

/// The wildcard addresses and port 0 mean something to a listener only.
fn is_reachable(addr: &SocketAddr) -> bool {
    addr.port() != 0 && !addr.ip().to_canonical().is_unspecified()
}

/// A port, digits only: `u16::from_str` would take a sign.
fn parse_port(text: &str) -> Option<u16> {
    text.bytes()
        .all(|byte| byte.is_ascii_digit())
        .then(|| text.parse().ok())
        .flatten()
        .filter(|&port| port != 0)
}

/// A DNS name, one final dot allowed. One whose last label is a number is a mistyped address.
fn is_name(host: &str) -> bool {
    let name = host.strip_suffix('.').unwrap_or(host);
    let is_label = |label: &str| {
        (1..=63).contains(&label.len())
            && !label.starts_with('-')
            && !label.ends_with('-')
            && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
    };
    let ends_in_number =
        name.rsplit('.').next().is_some_and(|label| label.bytes().all(|b| b.is_ascii_digit()));
    name.len() <= 253 && name.split('.').all(is_label) && !ends_in_number
}

/// What ends the names of a mesh.
pub(super) fn trust_domain(value: &DeValue<'_>) -> Read<String> {
    value
        .as_str()
        .filter(|domain| ca::is_trust_domain(domain))
        .map(Into::into)
        .ok_or_else(|| r#"expected a trust domain in lower case, like "cluster.local""#.into())
}

/// The name of a workload in a trust domain.
pub(super) fn own_name(value: &DeValue<'_>, trust_domain: &str) -> Read<Name> {
    let name = value.as_str().and_then(|text| Name::parse(text).ok());
    name.filter(|name| ca::check_name(name, trust_domain).is_ok()).ok_or_else(|| {
        format!("expected a DNS name that ends in .{trust_domain}, or spiffe://{trust_domain}/path")
    })
}

/// The name of any workload.
pub(super) fn name(value: &DeValue<'_>) -> Read<Name> {
    let expected = "expected a DNS name or a spiffe URI";
    let name = value.as_str().ok_or_else(|| expected.to_owned())?;
    Name::parse(name).map_err(|why| format!("{expected}, but {why}"))
}

/// What is asked for by SNI.
pub(super) fn server_name(value: &DeValue<'_>) -> Read<Arc<str>> {
    let name = value.as_str().and_then(|text| Name::parse(text).ok());
    let name = name.filter(|name| !name.is_uri());
    name.map(|name| name.as_str().into()).ok_or_else(|| "expected a DNS name".into())
}

/// Whom a port is open to.
pub(super) fn allow(value: &DeValue<'_>) -> Read<Allow> {
    value.as_str().and_then(|text| Allow::parse(text).ok()).ok_or_else(|| {
        r#"expected "unauthenticated", a name, "*." and what names end in, a spiffe URI, or "*""#
            .into()
    })
}

/// Where something is.
pub(super) fn zone(value: &DeValue<'_>) -> Read<Option<Arc<str>>> {
    let zone = value.as_str().filter(|zone| !zone.is_empty());
    zone.map(|zone| Some(zone.into())).ok_or_else(|| r#"expected a name, like "eu-1a""#.into())
}

/// One port.
pub(super) fn port(value: &DeValue<'_>) -> Read<u16> {
    integer(value, 1, 65_535).map(|port| port as u16)
}

/// Who signs.
pub(super) fn source(value: &DeValue<'_>) -> Read<Source> {
    value.as_str().and_then(Source::parse).ok_or_else(|| {
        r#"expected a folder, or "http://ip:port" on loopback, like "http://127.0.0.1:4190""#.into()
    })
}

/// How long a certificate is good for.
pub(super) fn lifetime(value: &DeValue<'_>) -> Read<Duration> {
    let range = ca::MIN_LIFETIME..=ca::MAX_LIFETIME;
    any_duration(value)
        .filter(|lifetime| range.contains(lifetime))
        .ok_or_else(|| r#"expected a duration from "20s" to "365d""#.into())
}

/// Where a file is.
pub(super) fn path(value: &DeValue<'_>) -> Read<PathBuf> {
    value
        .as_str()
        .filter(|path| !path.is_empty())
        .map(Into::into)
        .ok_or_else(|| "expected the path of a file".into())
}

/// What requests are matched by: `host` or `host:port`, normalised to lower case with the port.
pub(super) fn authority(value: &DeValue<'_>) -> Read<Arc<str>> {
    value
        .as_str()
        .and_then(normalize_authority)
        .ok_or_else(|| r#"expected host or host:port, like "web.example" or "[::1]:8080""#.into())
}

/// As requests are normalised, so that both sides always agree; but hosts that nobody means, like
/// wildcards, are refused.
fn normalize_authority(text: &str) -> Option<Arc<str>> {
    let mut name = String::new();
    normalize(text.as_bytes(), 80, &mut name).ok()?;
    let (host, port) = name.rsplit_once(':')?;
    let plausible = host.starts_with('[') || host.parse::<Ipv4Addr>().is_ok() || is_name(host);
    (plausible && parse_port(port).is_some()).then(|| name.into())
}

/// Is this `host` or `host:port` that somebody may mean?
pub(super) fn is_host(text: &str) -> bool {
    let (host, port) = match text.rsplit_once(':') {
        Some((host, port)) if !text.ends_with(']') => (host, Some(port)),
        _ => (text, None),
    };
    let plausible = host.starts_with('[') || host.parse::<Ipv4Addr>().is_ok() || is_name(host);
    plausible && port.is_none_or(|port| parse_port(port).is_some())
}

/// A port, or a range of ports `"a-b"`, both ends included.
pub(super) fn ports(value: &DeValue<'_>) -> Read<std::ops::RangeInclusive<u16>> {
    let expected = || r#"expected a port from 1 to 65535, or a range like "3000-3010""#.to_owned();
    let Some(text) = value.as_str() else {
        return match integer(value, 1, 65_535) {
            Ok(port) => Ok(port as u16..=port as u16),
            Err(_) => Err(expected()),
        };
    };
    text.split_once('-')
        .and_then(|(first, last)| Some(parse_port(first)?..=parse_port(last)?))
        .filter(|range| !range.is_empty())
        .ok_or_else(expected)
}

/// Does a connection to `target` arrive at a socket that listens on `listener`? As far as can be
/// told without asking the machine for its addresses.
pub(super) fn arrives_at(target: &Target, listener: SocketAddr) -> bool {
    let own = listener.ip().to_canonical();
    match target {
        Target::Addr(addr) => {
            let ip = addr.ip().to_canonical();
            addr.port() == listener.port() && (ip == own || (ip.is_loopback() && covers(own, ip)))
        }
        Target::Name { host, port } => {
            let is_local = matches!(&**host, "localhost" | "localhost.");
            is_local && *port == listener.port() && (own.is_loopback() || own.is_unspecified())
        }
    }
}

/// Would two sockets that listen on these addresses get in each other's way?
pub(super) fn collide(a: SocketAddr, b: SocketAddr) -> bool {
    let (one, other) = (a.ip(), b.ip());
    a.port() != 0
        && a.port() == b.port()
        && (one == other || covers(one, other) || covers(other, one))
}

/// Does a socket on `wide` take connections to `narrow`? A v6 wildcard may take v4 ones too.
fn covers(wide: IpAddr, narrow: IpAddr) -> bool {
    wide.is_unspecified() && (wide.is_ipv6() || narrow.is_ipv4())
}
