//! Who is there, and where: outbound engines, inbound engines with an app each, and apps without.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use selvedge_core::config::{
    Allow, Config, Endpoint, Identity, InboundPort, Listener, ListenerKind, Meshed, Protocol,
    Service, ServiceTimeouts, Target, Timeouts,
};
use selvedge_core::limits::Limits;
use selvedge_core::policy::{Concurrency, Mirror, Route, RouteTable};
use selvedge_core::tls::Nameless;

use super::availability::{self, Blame, Watch};
use super::balancing;
use super::fault::{Fault, Faults};
use super::host::client::{Place, Speaks};
use super::limiting;
use super::limits::Limits as Limited;
use super::mesh::{inbound_name, other_name, outbound_name};
use super::mix::Mix;
use super::model::{Model, ServiceModel};
use super::policy::{self, RouteModel};
use super::shares::Shares;
use crate::choose::{Choose, pick};

/// Ports of the engines.
pub(super) const OUTBOUND: u16 = 4140;
pub(super) const INBOUND: u16 = 4143;
/// An opaque port of every host.
const TCP: u16 = 5432;
/// A port at which streams are told from HTTP by their beginning.
const SNIFFED: u16 = 6379;
/// The port of apps behind an inbound engine, and of others.
const BEHIND: u16 = 8080;
const DIRECT: u16 = 80;

/// Where copies of requests go, in worlds that have a mirror.
pub(super) const MIRROR: SocketAddr =
    SocketAddr::new(IpAddr::V4(Ipv4Addr::new(10, 4, 0, 1)), DIRECT);

/// What authorities clients ask for.
pub(super) fn authorities(mix: &Mix) -> &'static [&'static str] {
    const ALL: [&str; 7] = [
        "web.example",
        "Direct.example:80",
        "mixed.example",
        "WEB.example:80",
        "named.example:80",
        "gone.example",
        "nobody.example",
    ];
    if mix.has(Fault::Services) { &ALL } else { &ALL[..5] }
}

/// How many users clients have.
pub(super) fn users(mix: &Mix) -> usize {
    if mix.has_any(Faults::of(&[Fault::Balancers, Fault::Sticky])) { 6 } else { 0 }
}

/// An app: where, and whether it speaks first.
#[derive(Clone, Copy, Debug)]
pub(super) struct AppPlace {
    pub(super) addr: SocketAddr,
    pub(super) streams: bool,
}

/// Who is there.
#[derive(Debug)]
pub(super) struct Topology {
    /// Addresses and configurations of outbound engines: those of a proxy follow each other.
    pub(super) outbound: Vec<(IpAddr, Config)>,
    pub(super) inbound: Vec<(IpAddr, Config)>,
    pub(super) apps: Vec<AppPlace>,
    /// The addresses of `app.test`.
    pub(super) named: Vec<IpAddr>,
    /// Faults that are of the configuration.
    pub(super) faults: Vec<Fault>,
}

pub(super) fn outbound_ip(n: usize) -> IpAddr {
    [10, 0, n as u8, 1].into()
}

pub(super) fn inbound_ip(n: usize) -> IpAddr {
    [10, 1, n as u8, 1].into()
}

fn direct_ip(n: usize) -> IpAddr {
    [10, 2, n as u8, 1].into()
}

impl Topology {
    pub(super) fn draw(choose: &mut dyn Choose, mix: &Mix) -> Self {
        let [least, most] = if mix.guarded { [2, 5] } else { [1, 3] };
        let [outbound, inbound] = [choose.within(1, 2), choose.within(1, 3)];
        // No more outbound engines than two in all.
        let outbound = if mix.workers > 1 { 1 } else { outbound };
        let direct = choose.within(least, most);
        Self::sized(choose, mix, [outbound, inbound, direct])
    }

    /// So many outbound and inbound proxies, and apps without one.
    fn sized(choose: &mut dyn Choose, mix: &Mix, [outbound, inbound, direct]: [usize; 3]) -> Self {
        let mut apps = Vec::new();
        for n in 0..inbound {
            apps.push(app(inbound_ip(n), BEHIND, false));
            apps.push(app(inbound_ip(n), TCP, true));
        }
        for n in 0..direct {
            apps.push(app(direct_ip(n), DIRECT, false));
        }
        apps.push(app(direct_ip(0), TCP, true));
        apps.push(app(direct_ip(0), SNIFFED, true));
        let mut faults = Vec::new();
        let mut services = services(choose, mix, [inbound, direct], &mut faults);
        let mut routes = policy::routes(choose, mix, &mut services, &mut faults);
        balancing::balance(choose, mix, &mut services, &mut faults);
        limiting::services(choose, mix, &mut services, &mut faults);
        let all = limiting::proxy(choose, mix, &mut faults);
        if mix.guarded {
            availability::guard(choose, &mut services);
        }
        if mix.mirrored {
            mirrors(choose, &mut services, &mut routes);
        }
        let bounds = bounds(choose, mix);
        let timeouts = timeouts(choose, mix);
        let config = |listeners, services, app| Config {
            identity: None,
            zone: None,
            inbound: Vec::new(),
            concurrency: Concurrency::default(),
            listeners,
            own: Vec::new(),
            app,
            opaque_ports: vec![TCP],
            nameless_tls: Nameless::default(),
            services,
            routes: RouteTable::default(),
            workers: mix.workers,
            limits: bounds.clone(),
            timeouts: timeouts.clone(),
        };
        let outbound = (0..outbound).map(|n| {
            let ip = outbound_ip(n);
            let listeners = vec![
                Listener { addr: (ip, OUTBOUND).into(), kind: ListenerKind::Outbound },
                Listener { addr: (ip, TCP).into(), kind: ListenerKind::Forward("tcp/5432".into()) },
            ];
            let mut config = config(listeners, services.clone(), None);
            config.identity = mix.meshed.then(|| Identity::new(outbound_name(n)));
            config.routes = RouteTable::new(routes.clone());
            config.concurrency = all.clone();
            config.zone = mix.has(Fault::Zones).then(|| balancing::ZONE.into());
            (ip, config)
        });
        let workers = |proxy| std::iter::repeat_n(proxy, mix.workers as usize);
        let outbound = outbound.flat_map(workers).collect();
        let inbound = (0..inbound).map(|n| {
            let ip = inbound_ip(n);
            let listener = Listener { addr: (ip, INBOUND).into(), kind: ListenerKind::Inbound };
            let mut config = config(vec![listener], Vec::new(), Some((ip, BEHIND).into()));
            if mix.meshed {
                config.identity = Some(Identity::new(inbound_name(n)));
                config.inbound = allowed(choose, mix, n, &mut faults);
                // Nothing may be taken for opaque because it is slow.
                config.timeouts.detect = Duration::from_hours(1);
                config.timeouts.detect_prefix = Duration::from_hours(1);
            }
            limiting::port(choose, mix, BEHIND, &mut config.inbound, &mut faults);
            (ip, config)
        });
        let inbound = inbound.flat_map(workers).collect();
        let named = (0..direct).map(direct_ip).collect();
        Topology { outbound, inbound, apps, named, faults }
    }

    /// The smallest that has a client, two engines and an app.
    pub(super) fn small(choose: &mut dyn Choose, mix: &Mix) -> Self {
        let mut small = Self::sized(choose, mix, [1, 1, 1]);
        for service in &mut small.outbound[0].1.services {
            service.endpoints = vec![endpoint((inbound_ip(0), INBOUND).into())];
        }
        small
    }

    /// What may happen here.
    pub(super) fn model(&self) -> Model {
        let config = &self.outbound[0].1;
        let service = |service: &Service| ServiceModel {
            name: service.name.to_string(),
            apps: service.endpoints.iter().fold(0, |apps, e| apps | self.reach(e)),
            deadline: service.timeouts.request.or(config.timeouts.request),
            protocol: service.protocol,
            meshed: service.endpoints.iter().any(|endpoint| endpoint.mesh.is_some()),
        };
        let reach = |service: &Service| {
            service.endpoints.iter().fold(0, |apps, endpoint| apps | self.reach(endpoint))
        };
        let named = |name: &str| config.services.iter().find(|service| *service.name == *name);
        let routes = config.routes.iter().filter_map(|route| {
            let parent = named(&route.service)?;
            let backends = route.split.backends().iter();
            let split = backends.filter_map(|to| Some((reach(named(&to.service)?), to.weight)));
            let mut backends: Vec<_> = split.collect();
            if backends.is_empty() {
                backends.push((reach(parent), 1));
            }
            Some(RouteModel::new((**route).clone(), backends, parent))
        });
        Model {
            services: config.services.iter().map(service).collect(),
            routes: routes.collect(),
            shares: Shares::new(config, self.outbound.len(), |endpoint| self.reach(endpoint)),
            limits: Limited::new(config, &self.inbound, self.apps.iter().map(|app| app.addr)),
            failing: vec![policy::Failing::No; self.apps.len()],
            blames: vec![Blame::default(); self.apps.len()],
            watches: self.outbound.iter().map(|_| Watch::default()).collect(),
            places: self.places(),
            closed: self.closed(),
            outbound: self.outbound.len() as u32,
            ips: self.outbound.iter().chain(&self.inbound).map(|(ip, _)| *ip).collect(),
            deadline: config.timeouts.request,
            response_headers: config.timeouts.response_headers,
            idle: config.timeouts.idle,
            hops: 2,
            ..Model::default()
        }
    }

    /// The apps behind endpoints that are somebody else, or closed to their clients.
    fn closed(&self) -> u64 {
        let services = &self.outbound[0].1.services;
        let endpoints = services.iter().flat_map(|service| &service.endpoints);
        endpoints.fold(0, |apps, endpoint| apps | self.behind(endpoint) & !self.reach(endpoint))
    }

    /// The apps behind an endpoint, as bits: none if it is somebody else, or closed to its clients.
    fn reach(&self, endpoint: &Endpoint) -> u64 {
        self.open(endpoint) & self.behind(endpoint)
    }

    /// The apps that let in who comes by an endpoint, and are behind who it is said to be.
    fn open(&self, endpoint: &Endpoint) -> u64 {
        let mesh = endpoint.mesh.as_ref();
        let client = mesh.map(|_| outbound_name(0));
        let open = |app: &AppPlace| {
            let engine = self.inbound.iter().find(|(ip, _)| *ip == app.addr.ip());
            let Some((_, config)) = engine else { return true };
            let own = config.identity.as_ref().map(|own| &own.name);
            let listed = config.inbound.iter().find(|inbound| inbound.port == app.addr.port());
            mesh.is_none_or(|mesh| Some(&mesh.identity) == own)
                && listed
                    .is_none_or(|it| it.allow.iter().any(|allow| allow.admits(client.as_ref())))
        };
        self.which(open)
    }

    fn which(&self, is_it: impl Fn(&AppPlace) -> bool) -> u64 {
        let apps = self.apps.iter().enumerate();
        apps.fold(0, |bits, (index, app)| bits | u64::from(is_it(app)) << index)
    }

    /// The apps behind an endpoint, whoever that is.
    fn behind(&self, endpoint: &Endpoint) -> u64 {
        let header = endpoint.mesh.as_ref().and_then(|mesh| mesh.port);
        let leads = |app: &AppPlace| match &endpoint.target {
            Target::Addr(addr) if header.is_some() => {
                Some(app.addr.port()) == header && app.addr.ip() == addr.ip()
            }
            Target::Addr(addr) if addr.port() == INBOUND => {
                app.addr == SocketAddr::new(addr.ip(), BEHIND)
            }
            Target::Addr(addr) => app.addr == *addr,
            Target::Name { port, .. } => {
                app.addr.port() == *port && self.named.contains(&app.addr.ip())
            }
        };
        self.which(leads)
    }

    /// Which app is at which address that engines know: its own, or that of the engine before it.
    fn places(&self) -> Vec<(SocketAddr, u16)> {
        let apps = self.apps.iter().zip(0..).filter(|(app, _)| !app.streams);
        let places = apps.flat_map(|(app, index)| {
            let engine = SocketAddr::new(app.addr.ip(), INBOUND);
            let behind = app.addr.port() == BEHIND;
            [Some((app.addr, index)), behind.then_some((engine, index))]
        });
        places.flatten().collect()
    }

    /// To the first outbound engine, with HTTP.
    pub(super) fn first_place(&self, choose: &mut dyn Choose) -> Place {
        let to = SocketAddr::new(self.outbound[0].0, OUTBOUND);
        let speaks = if choose.one_in(3) { Speaks::Http2 } else { Speaks::Http1 };
        Place { to, original_dst: None, speaks, apps: 0, asks: None }
    }

    /// Where a client may connect.
    pub(super) fn place(&self, choose: &mut dyn Choose, mix: &Mix) -> Place {
        let (ip, _) = self.outbound[choose.below(self.outbound.len())];
        let to = SocketAddr::new(ip, OUTBOUND);
        let kind = choose.below(8);
        let waits = choose.flip();
        let speaks = if choose.flip() { Speaks::Http2 } else { Speaks::Http1 };
        let http = Place { to, original_dst: None, speaks, apps: 0, asks: None };
        let towards = |dst: SocketAddr, speaks| {
            let apps = self.reach(&endpoint(dst));
            Place { to, original_dst: Some(dst), speaks, apps, asks: None }
        };
        match kind {
            5 if mix.redirects => {
                let behind = choose.flip();
                let dst = if behind { (inbound_ip(0), BEHIND) } else { (direct_ip(0), DIRECT) };
                towards(dst.into(), speaks)
            }
            6 => match choose.below(3) {
                0 => {
                    let forward = &self.outbound[0].1.services[3];
                    let apps = forward.endpoints.iter();
                    let apps = apps.fold(0, |apps, e| apps | self.reach(e));
                    let speaks = Speaks::Stream { waits, sniffed: false };
                    Place { to: (ip, TCP).into(), original_dst: None, speaks, apps, asks: None }
                }
                1 => towards((inbound_ip(0), TCP).into(), Speaks::Stream { waits, sniffed: false }),
                // Where detection gives up after a while, the server may still speak first.
                _ if waits && !mix.redirects => {
                    let speaks = Speaks::Stream { waits, sniffed: false };
                    towards((direct_ip(0), SNIFFED).into(), speaks)
                }
                _ => {
                    let speaks = Speaks::Stream { waits: false, sniffed: true };
                    towards((direct_ip(0), SNIFFED).into(), speaks)
                }
            },
            _ => http,
        }
    }
}

fn app(ip: IpAddr, port: u16, streams: bool) -> AppPlace {
    AppPlace { addr: (ip, port).into(), streams }
}

/// Who may reach the ports of the inbound engine `n`. Clients without an identity come to the first.
fn allowed(
    choose: &mut dyn Choose,
    mix: &Mix,
    n: usize,
    faults: &mut Vec<Fault>,
) -> Vec<InboundPort> {
    let allow: &[&str] = if mix.draws_once(choose, Fault::Denied) {
        faults.push(Fault::Denied);
        &["nobody.at.all", "out.ns"]
    } else if n == 0 {
        pick::<&[&str]>(choose, &[&["*.ns", "unauthenticated"], &["unauthenticated"]])
    } else {
        pick::<&[&str]>(choose, &[&["*.ns"], &["out0.ns", "out1.ns"], &["*"]])
    };
    let allow: Vec<_> = allow.iter().map(|text| Allow::parse(text).expect("a rule")).collect();
    [BEHIND, TCP].map(|port| InboundPort::new(port, allow.clone())).into()
}

/// The endpoint of an inbound engine: in TLS, in a world that is meshed. `port`: the app's, where
/// that is not where the endpoint is.
fn behind(
    mix: &Mix,
    identity: &selvedge_core::identity::Name,
    addr: SocketAddr,
    port: Option<u16>,
) -> Endpoint {
    let mesh = mix.meshed.then(|| Meshed::new(identity.clone(), port));
    Endpoint { mesh, ..endpoint(addr) }
}

fn services(
    choose: &mut dyn Choose,
    mix: &Mix,
    [inbound, direct]: [usize; 2],
    faults: &mut Vec<Fault>,
) -> Vec<Service> {
    let identities: Vec<_> = (0..inbound)
        .map(|n| {
            if mix.meshed && mix.draws_once(choose, Fault::WrongIdentity) {
                faults.push(Fault::WrongIdentity);
                return other_name();
            }
            inbound_name(n)
        })
        .collect();
    let headers = mix.meshed && choose.flip();
    // Half of the inbound engines are addressed, the others are in the way.
    let web = |n: usize| {
        let (port, header) =
            if n.is_multiple_of(2) { (INBOUND, headers.then_some(BEHIND)) } else { (BEHIND, None) };
        behind(mix, &identities[n], (inbound_ip(n), port).into(), header)
    };
    let web: Vec<Endpoint> = (0..inbound).map(web).collect();
    let apps: Vec<Endpoint> =
        (0..direct).map(|n| endpoint((direct_ip(n), DIRECT).into())).collect();
    let name = Endpoint {
        target: Target::Name { host: "app.test".into(), port: DIRECT },
        weight: 1,
        mesh: None,
        zone: None,
    };
    let mut mixed = web.clone();
    mixed.push(apps[0].clone());
    if choose.flip() && !mix.guarded {
        mixed.push(name.clone());
    }
    let tcp = |n: usize| {
        // Its port goes in a header.
        let port = if mix.meshed { INBOUND } else { TCP };
        behind(mix, &identities[n], (inbound_ip(n), port).into(), Some(TCP))
    };
    let mut tcp: Vec<Endpoint> = (0..inbound).map(tcp).collect();
    tcp.push(endpoint((direct_ip(0), TCP).into()));
    let mut services = vec![
        service("web.example:80", web),
        service("direct.example:80", apps.clone()),
        service("mixed.example:80", mixed),
        service("tcp/5432", tcp),
        service("named.example:80", vec![name]),
        service("gone.example:80", apps),
    ];
    for service in &mut services {
        service.protocol = pick(choose, &PROTOCOLS);
    }
    if mix.has(Fault::ShortTimeouts) {
        services[1].timeouts.request =
            pick(choose, &[None, Some(Duration::from_millis(800)), Some(Duration::from_secs(2))]);
        services[2].timeouts.failfast = pick(choose, &[None, Some(Duration::from_millis(500))]);
    }
    services
}

/// Adds a service that gets copies of the requests to all others, by the routes that they have or
/// by others.
fn mirrors(choose: &mut dyn Choose, services: &mut Vec<Service>, routes: &mut Vec<Route>) {
    let name = "mirror.example:80";
    let fraction = pick(choose, &[1.0, 0.3]);
    let timeout = pick(choose, &[Mirror::TIMEOUT, Duration::from_millis(300)]);
    for service in services.iter() {
        let has_all =
            |route: &Route| route.service == service.name && route.matches.methods.is_empty();
        if !routes.iter().any(has_all) {
            routes.push(Route { service: service.name.clone(), ..Route::default() });
        }
    }
    for route in routes {
        route.mirror = Some(Mirror::new(name.into(), fraction, timeout));
    }
    let mut mirror = service(name, vec![endpoint(MIRROR)]);
    mirror.protocol = pick(choose, &PROTOCOLS);
    services.push(mirror);
}

/// What a service is spoken to.
const PROTOCOLS: [Protocol; 4] = [Protocol::Auto, Protocol::Http1, Protocol::Http2, Protocol::Mesh];

/// An address of a host that is in no topology.
pub(super) fn address(host: u8, port: u16) -> SocketAddr {
    ([10, 3, 0, host], port).into()
}

/// Is it one of those?
pub(super) fn is_nobody(addr: SocketAddr) -> bool {
    (0..=u8::MAX).any(|host| address(host, addr.port()) == addr)
}

pub(super) fn service(name: &str, endpoints: Vec<Endpoint>) -> Service {
    let timeouts = ServiceTimeouts::default();
    Service {
        name: name.into(),
        endpoints,
        opaque: false,
        protocol: Protocol::default(),
        timeouts,
        ..Service::default()
    }
}

pub(super) fn endpoint(addr: SocketAddr) -> Endpoint {
    Endpoint { target: Target::Addr(addr), weight: 1, mesh: None, zone: None }
}

fn bounds(choose: &mut dyn Choose, mix: &Mix) -> Limits {
    let all = Limits::default();
    if !mix.has(Fault::SmallLimits) {
        return all;
    }
    Limits {
        connections: pick(choose, &[all.connections, 24, 8]),
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

fn timeouts(choose: &mut dyn Choose, mix: &Mix) -> Timeouts {
    let mut all = Timeouts::default();
    if mix.redirects {
        // Nothing may be taken for opaque because it is slow.
        all.detect = Duration::from_hours(1);
        all.detect_prefix = Duration::from_hours(1);
        all.header = Duration::from_hours(1);
    }
    if !mix.has(Fault::ShortTimeouts) {
        return all;
    }
    let secs = |n: u64| Some(Duration::from_secs(n));
    Timeouts {
        response_headers: pick(choose, &[None, secs(2)]),
        request: pick(choose, &[None, secs(3), secs(1)]),
        idle: pick(choose, &[all.idle, secs(4)]),
        keep_alive: pick(choose, &[all.keep_alive, Duration::from_secs(2)]),
        tcp_idle: pick(choose, &[all.tcp_idle, Duration::from_secs(6)]),
        half_open: pick(choose, &[all.half_open, Duration::from_secs(4)]),
        grace: pick(choose, &[all.grace, Duration::from_secs(1)]),
        ..all
    }
}
