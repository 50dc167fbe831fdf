//! The mesh that a script runs in: services, listeners, limits, and where connections go.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use selvedge_core::config::{
    Config, Endpoint, Listener, ListenerId, ListenerKind, Service, ServiceTimeouts, Target,
    Timeouts,
};
use selvedge_core::limits::Limits;
use selvedge_core::policy::{Concurrency, RouteTable};
use selvedge_core::tls::Nameless;

use crate::choose::{Choose, pick};

/// Where a client connects, and what it may say there.
#[derive(Clone, Copy, Debug)]
pub(super) struct Place {
    pub(super) listener: ListenerId,
    pub(super) original_dst: Option<&'static str>,
    pub(super) speaks: Speaks,
}

/// What a client speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Speaks {
    /// HTTP/1.
    Http,
    /// Anything that is not HTTP/1.
    Other,
    /// Anything at all, and the server may begin.
    Opaque,
}

const OUTBOUND: ListenerId = 0;
const INBOUND: ListenerId = 1;
const FORWARD: ListenerId = 2;

const fn place(listener: ListenerId, dst: Option<&'static str>, speaks: Speaks) -> Place {
    Place { listener, original_dst: dst, speaks }
}

/// The first are the usual ones.
pub(super) const PLACES: [Place; 17] = [
    place(OUTBOUND, None, Speaks::Http),
    place(OUTBOUND, None, Speaks::Http),
    place(OUTBOUND, None, Speaks::Http),
    place(OUTBOUND, Some("10.9.0.1:80"), Speaks::Http),
    place(OUTBOUND, Some("10.0.0.1:80"), Speaks::Http),
    place(INBOUND, None, Speaks::Http),
    place(INBOUND, Some("10.7.7.7:4143"), Speaks::Http),
    place(INBOUND, Some("10.9.0.1:80"), Speaks::Http),
    place(FORWARD, None, Speaks::Opaque),
    place(FORWARD, None, Speaks::Opaque),
    place(OUTBOUND, Some("10.9.0.2:6379"), Speaks::Other),
    place(OUTBOUND, Some("10.9.0.3:3306"), Speaks::Opaque),
    place(OUTBOUND, Some("10.0.3.1:80"), Speaks::Other),
    place(INBOUND, None, Speaks::Other),
    // Nowhere to go: the last three are refused.
    place(OUTBOUND, None, Speaks::Other),
    place(OUTBOUND, Some("127.0.0.1:4143"), Speaks::Http),
    place(OUTBOUND, Some("127.0.0.1:9999"), Speaks::Http),
];

/// How many of [`PLACES`] lead somewhere.
pub(super) const SERVED: usize = 14;

/// Authorities of requests; the last ones are not known.
pub(super) const AUTHORITIES: [&str; 6] = [
    "web.example",
    "WEB.example:80",
    "one.example:80",
    "named.example",
    "two.example",
    "nobody.example",
];

/// Those that are there whatever a reload does.
pub(super) const KEPT: [&str; 4] =
    ["web.example", "Web.Example:80", "one.example", "named.example"];

/// The address of the app, and another that a reload may bring.
const APPS: [&str; 2] = [APP, "127.0.0.1:8081"];
const APP: &str = "127.0.0.1:8080";
/// Port of the addresses of names.
const NAME_PORT: u16 = 81;

/// The configuration, and all that it ever was.
#[derive(Debug)]
pub(super) struct Mesh {
    pub(super) config: Config,
    faults: bool,
    /// The endpoints that a service ever had.
    ever: BTreeMap<String, BTreeSet<SocketAddr>>,
    /// What names ever stood for: two services may know different answers.
    names: BTreeMap<String, BTreeSet<IpAddr>>,
}

impl Mesh {
    pub(super) fn new(choose: &mut dyn Choose, faults: bool) -> Self {
        let listener = |addr, kind| Listener { addr: self::addr(addr), kind };
        let config = Config {
            identity: None,
            zone: None,
            inbound: Vec::new(),
            concurrency: Concurrency::default(),
            listeners: vec![
                listener("127.0.0.1:4140", ListenerKind::Outbound),
                listener("0.0.0.0:4143", ListenerKind::Inbound),
                listener("127.0.0.1:5432", ListenerKind::Forward("tcp/5432".into())),
            ],
            app: Some(addr(APP)),
            own: Vec::new(),
            opaque_ports: vec![3306],
            nameless_tls: Nameless::default(),
            services: Vec::new(),
            routes: RouteTable::default(),
            workers: 1,
            limits: if faults { limits(choose) } else { Limits::default() },
            timeouts: if faults { timeouts(choose) } else { Timeouts::default() },
        };
        let mut mesh = Mesh { config, faults, ever: BTreeMap::new(), names: BTreeMap::new() };
        mesh.config.services = mesh.services(choose);
        mesh.note();
        mesh
    }

    /// Another configuration.
    pub(super) fn change(&mut self, choose: &mut dyn Choose) {
        self.config.services = self.services(choose);
        if self.faults {
            self.config.app =
                pick(choose, &[Some(APP), Some(APP), Some(APP), Some(APPS[1]), None]).map(addr);
            self.config.timeouts = timeouts(choose);
            self.config.limits.queue = pick(choose, &[10_000, 1]);
            self.config.limits.pool_idle = pick(choose, &[10_000, 1, 0]);
        }
        self.note();
    }

    fn services(&self, choose: &mut dyn Choose) -> Vec<Service> {
        let mut services = vec![
            service("web.example:80", subset(choose, "10.0.0.", 80, 4)),
            service("one.example:80", subset(choose, "10.0.1.", 80, 1)),
            service("tcp/5432", subset(choose, "10.0.2.", 5432, 2)),
            service("opaque.example:80", subset(choose, "10.0.3.", 80, 1)),
            service("named.example:80", vec![name("app.test")]),
        ];
        services[3].opaque = true;
        if choose.flip() {
            services.push(service("two.example:80", subset(choose, "10.0.0.", 80, 2)));
        }
        if choose.one_in(4) {
            services[0].endpoints.push(name("app.test"));
        }
        if self.faults {
            for service in &mut services {
                if choose.one_in(12) {
                    service.endpoints.clear();
                }
                if choose.one_in(6) {
                    service.timeouts.request = Some(Duration::from_secs(3));
                    service.timeouts.connect = Some(Duration::from_secs(2));
                    service.timeouts.pool_idle = Some(Duration::from_secs(9));
                    service.timeouts.tcp_idle = Some(Duration::from_secs(9));
                    service.timeouts.failfast = Some(Duration::from_millis(500));
                }
            }
            services[3].opaque = !choose.one_in(3);
            if choose.one_in(8) {
                services.remove(1);
            }
        }
        services
    }

    /// Remembers what is configured.
    fn note(&mut self) {
        for service in &self.config.services {
            let addrs = self.ever.entry(service.name.to_string()).or_default();
            for endpoint in &service.endpoints {
                match &endpoint.target {
                    Target::Addr(addr) => drop(addrs.insert(*addr)),
                    Target::Name { host, port } => {
                        let ips = self.names.get(&**host).into_iter().flatten();
                        addrs.extend(ips.map(|&ip| SocketAddr::new(ip, *port)));
                    }
                }
            }
        }
    }

    /// The addresses of a name, new ones.
    pub(super) fn resolve(&mut self, choose: &mut dyn Choose, host: &str) -> Vec<IpAddr> {
        let least = usize::from(!self.faults);
        let count = choose.within(least, 3) as u8;
        let first = choose.below(4) as u8;
        let mut ips: Vec<IpAddr> = (first..first + count).map(|n| [10, 1, 0, n].into()).collect();
        if !ips.is_empty() && choose.one_in(4) {
            ips.extend([ips[0], IpAddr::from([0xfd00, 0, 0, 0, 0, 0, 0, 1])]);
        }
        self.names.entry(host.to_owned()).or_default().extend(&ips);
        self.note();
        ips
    }

    /// May the proxy connect here now?
    pub(super) fn is_target(&self, addr: SocketAddr) -> bool {
        let original = PLACES[..SERVED].iter().filter_map(|place| place.original_dst);
        self.config.app == Some(addr)
            || original.into_iter().any(|dst| self::addr(dst) == addr)
            || self.config.services.iter().flat_map(|service| &service.endpoints).any(|endpoint| {
                match &endpoint.target {
                    Target::Addr(target) => *target == addr,
                    Target::Name { host, port } => self
                        .names
                        .get(&**host)
                        .is_some_and(|ips| *port == addr.port() && ips.contains(&addr.ip())),
                }
            })
    }

    /// Where a request for `authority` from `place` may end up.
    pub(super) fn targets(&self, place: Place, authority: Option<&str>) -> Vec<SocketAddr> {
        let named = authority.filter(|_| place.listener == OUTBOUND);
        if let Some(addrs) = named.and_then(|name| self.ever.get(name)) {
            // It may have been removed, or not be there yet.
            return addrs.iter().copied().chain(place.original_dst.map(addr)).collect();
        }
        match (place.listener, place.original_dst) {
            (FORWARD, _) => self.ever["tcp/5432"].iter().copied().collect(),
            (INBOUND, Some(dst)) if addr(dst).port() == 4143 => APPS.map(addr).into(),
            (_, Some(dst)) => vec![addr(dst)],
            (INBOUND, None) => APPS.map(addr).into(),
            _ => Vec::new(),
        }
    }

    /// Is this a service now?
    pub(super) fn is_known(&self, authority: &str) -> bool {
        self.config.services.iter().any(|service| &*service.name == authority)
    }
}

/// Do servers at this address speak first, or anything they like?
pub(super) fn is_opaque(addr: SocketAddr) -> bool {
    matches!(addr.port(), 5432 | 3306 | 6379) || addr.to_string().starts_with("10.0.3.")
}

pub(super) fn addr(text: &str) -> SocketAddr {
    text.parse().expect("an address")
}

fn service(name: &str, endpoints: Vec<Endpoint>) -> Service {
    let timeouts = ServiceTimeouts::default();
    Service { name: name.into(), endpoints, timeouts, ..Service::default() }
}

fn name(host: &str) -> Endpoint {
    Endpoint {
        target: Target::Name { host: host.into(), port: NAME_PORT },
        weight: 1,
        mesh: None,
        zone: None,
    }
}

/// At least one of the addresses that end in 1 to `count`.
fn subset(choose: &mut dyn Choose, net: &str, port: u16, count: usize) -> Vec<Endpoint> {
    let sure = choose.below(count);
    let chosen: Vec<usize> = (0..count).filter(|&n| n == sure || choose.flip()).collect();
    let endpoint = |n: usize| Endpoint {
        target: Target::Addr(addr(&format!("{net}{}:{port}", n + 1))),
        weight: choose.within(1, 3) as u32,
        mesh: None,
        zone: None,
    };
    chosen.into_iter().map(endpoint).collect()
}

fn limits(choose: &mut dyn Choose) -> Limits {
    let all = Limits::default();
    if !choose.flip() {
        return all;
    }
    Limits {
        connections: pick(choose, &[all.connections, 12, 5]),
        in_flight: pick(choose, &[all.in_flight, 3]),
        queue: pick(choose, &[all.queue, 1]),
        header_bytes: pick(choose, &[all.header_bytes, 4096]),
        target_bytes: pick(choose, &[all.target_bytes, 100]),
        pool_idle: pick(choose, &[all.pool_idle, 1, 0]),
        replay_bytes: pick(choose, &[all.replay_bytes, 300, 0]),
        stream_buffer: pick(choose, &[all.stream_buffer, 4096, 50, 1]),
        buffer_bytes: pick(choose, &[all.buffer_bytes, 10_000]),
        ..all
    }
}

fn timeouts(choose: &mut dyn Choose) -> Timeouts {
    let all = Timeouts::default();
    let secs = |n: usize| Some(Duration::from_secs(n as u64));
    Timeouts {
        response_headers: pick(choose, &[None, secs(2)]),
        request: pick(choose, &[None, secs(5)]),
        idle: pick(choose, &[all.idle, secs(4)]),
        keep_alive: pick(choose, &[all.keep_alive, Duration::from_secs(2)]),
        tcp_idle: pick(choose, &[all.tcp_idle, Duration::from_secs(6)]),
        ..all
    }
}
