//! Affinity: what of a request says where it goes, so that the next one like it goes there too.

use alloc::boxed::Box;
use core::net::{IpAddr, Ipv6Addr};
use core::time::Duration;

use crate::balance::{Kind, LoadBound, Settings};
use crate::http::Request;

/// How a service's requests are shared out over its endpoints.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Balancing {
    /// The way to choose.
    pub kind: Kind,
    /// What a way that goes by keys goes by; such a way without any chooses at random.
    pub affinity: Option<Affinity>,
    /// See [`Settings::slow_start`].
    pub slow_start: Duration,
    /// What requests go by, whatever the kind: first of all by which of the services of a split they
    /// go to, and then, unless `affinity` says otherwise, to which endpoint.
    pub sticky: Option<Affinity>,
}

impl Balancing {
    /// What endpoints are chosen by, if it is not by load.
    pub fn endpoint_affinity(&self) -> Option<&Affinity> {
        self.affinity.as_ref().or(self.sticky.as_ref())
    }

    /// What the balancer is told.
    pub fn settings(&self) -> Settings {
        let affinity = self.endpoint_affinity();
        Settings {
            kind: self.kind,
            load_bound: affinity.map(|affinity| affinity.load_bound).unwrap_or_default(),
            slow_start: self.slow_start,
        }
    }
}

/// What requests are kept together by, and at what cost.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Affinity {
    /// What they have in common.
    pub key: Key,
    /// How much more than its share whoever gets them may have under way.
    pub load_bound: LoadBound,
}

/// What requests that belong together have in common.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Key {
    /// The value of the first header field of this name.
    Header(Box<str>),
    /// The value of the first cookie of this name.
    Cookie(Box<str>),
    /// The client's IP address. Whoever services are chosen for is a local app, or sent here by one:
    /// such clients have no other identity.
    Source,
}

impl Key {
    /// Looks at a request. `None`: it has no key, or an empty one. Connections that carry no requests
    /// that we read have a source only.
    pub fn with<R>(
        &self,
        request: Option<&Request<'_>>,
        client: IpAddr,
        see: impl FnOnce(&[u8]) -> R,
    ) -> Option<R> {
        let fields = request.map(|request| request.head.fields);
        let value = match self {
            Key::Source => return Some(see(&octets(client))),
            Key::Header(name) => fields?
                .iter()
                .find(|field| field.name.eq_ignore_ascii_case(name.as_bytes()))
                .map(|field| field.value),
            Key::Cookie(name) => fields?
                .iter()
                .filter(|field| field.name.eq_ignore_ascii_case(b"cookie"))
                .find_map(|field| cookie(field.value, name.as_bytes())),
        };
        value.filter(|value| !value.is_empty()).map(see)
    }
}

/// The same for a v4 address however it is written.
fn octets(ip: IpAddr) -> [u8; 16] {
    let ip: Ipv6Addr = match ip {
        IpAddr::V4(ip) => ip.to_ipv6_mapped(),
        IpAddr::V6(ip) => ip,
    };
    ip.octets()
}

/// The value of a cookie in a Cookie field (RFC 6265 §5.4).
fn cookie<'a>(field: &'a [u8], name: &[u8]) -> Option<&'a [u8]> {
    field.split(|&byte| byte == b';').find_map(|pair| {
        let value = pair.trim_ascii().strip_prefix(name)?.strip_prefix(b"=")?;
        Some(value.strip_prefix(b"\"").and_then(|v| v.strip_suffix(b"\"")).unwrap_or(value))
    })
}

#[cfg(test)]
mod tests {
    use alloc::string::String;

    use super::*;
    use crate::http::Scratch;
    use crate::http1;
    use crate::limits::Limits;

    fn key(key: &Key, fields: &str) -> Option<String> {
        let head = alloc::format!("GET / HTTP/1.1\r\nHost: h\r\n{fields}\r\n");
        let mut scratch = Scratch::default();
        let request = http1::parse_request(head.as_bytes(), &mut scratch, &Limits::default());
        let request = request.expect("a request");
        key.with(Some(&request), [10, 0, 0, 9].into(), |key| {
            String::from_utf8_lossy(key).into_owned()
        })
    }

    #[test]
    fn a_header_is_the_first_of_its_name_and_not_empty() {
        let user = Key::Header("x-user".into());
        assert_eq!(key(&user, "X-User: ada\r\nx-user: bob\r\n").as_deref(), Some("ada"));
        assert_eq!(key(&user, "x-users: ada\r\n"), None);
        assert_eq!(key(&user, "x-user: \r\n"), None);
    }

    #[test]
    fn a_cookie_is_found_among_others_and_in_several_fields() {
        let session = Key::Cookie("sid".into());
        for fields in [
            "Cookie: sid=42\r\n",
            "Cookie: a=1; sid=42; b=2\r\n",
            "Cookie: a=1;sid=42\r\n",
            "Cookie: a=1\r\nCookie: sid=42\r\n",
            "Cookie: xsid=41; sid=\"42\"\r\n",
            "Cookie: sid=42; sid=43\r\n",
        ] {
            assert_eq!(key(&session, fields).as_deref(), Some("42"), "{fields}");
        }
        for fields in
            ["", "Cookie: sid\r\n", "Cookie: sid=\r\n", "Cookie: SID=42\r\n", "sid: 42\r\n"]
        {
            assert_eq!(key(&session, fields), None, "{fields}");
        }
    }

    #[test]
    fn a_source_needs_no_request_and_no_port() {
        let see = |ip: &str| Key::Source.with(None, ip.parse().unwrap(), <[u8]>::to_vec);
        assert_eq!(see("10.0.0.9"), see("::ffff:10.0.0.9"));
        assert_ne!(see("10.0.0.9"), see("10.0.0.8"));
        assert_eq!(Key::Header("x".into()).with(None, [1; 4].into(), |_| ()), None);
    }
}
