//! The mesh file: what `selvedge run` is told to do, in TOML.
//!
//! `reference.toml`, beside this file, shows every key with its default. A file is read whole:
//! everything that is wrong with it is reported at once, each with its line, key path, value and
//! what was expected. Unknown keys are errors.

mod balance;
mod breaker;
mod check;
mod health_check;
mod identity;
mod inbound;
mod read;
mod reload;
mod retry;
mod route;
mod value;

#[cfg(test)]
mod tests;

use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use selvedge_core::config::{
    Config, Endpoint, Listener, ListenerKind, Protocol, Service, ServiceTimeouts, Target, Timeouts,
};
use selvedge_core::limits::Limits;
use selvedge_core::tls::Nameless;
use toml::de::DeTable;

pub use identity::{Identity, Source};
pub use read::Problem;
use read::{Item, Reader, Table};

/// A mesh file that was read and found good.
#[derive(Clone, Debug, PartialEq)]
pub struct Mesh {
    /// Where `/live`, `/ready` and `/metrics` are served.
    pub admin: SocketAddr,
    /// Worker threads; `None` leaves it to the command line.
    pub workers: Option<usize>,
    /// What sockets are opened with.
    pub sockets: Sockets,
    /// Who this proxy is, if anybody.
    pub identity: Option<Identity>,
    /// What the engine is told. The listeners are in the order outbound, inbound, opaque forwards;
    /// the services of the forwards come after all others, in the same order.
    pub config: Config,
}

/// What sockets are opened with. Changes take effect at the next start.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sockets {
    /// Connections that wait to be accepted, per listener; the kernel may allow fewer.
    pub backlog: u32,
    /// Idle time before TCP keepalive probes, and between them.
    pub keepalive: Option<Duration>,
    /// How long written data may stay unacknowledged (`TCP_USER_TIMEOUT`).
    pub user_timeout: Option<Duration>,
}

impl Default for Sockets {
    fn default() -> Self {
        Sockets {
            backlog: 1024,
            // Linkerd's injector: 10 s. A peer that vanished is noticed although nothing is sent.
            keepalive: Some(Duration::from_secs(10)),
            // Off: it also ends connections whose peer merely does not read for that long.
            user_timeout: None,
        }
    }
}

/// How many worker threads can be asked for.
pub const MAX_WORKERS: u64 = 256;

impl Mesh {
    /// Reads a mesh file. On failure: everything that is wrong with it, in the order of the file.
    pub fn parse(text: &str) -> Result<Mesh, Vec<Problem>> {
        let mut reader = Reader::new(text);
        let (document, errors) = DeTable::parse_recoverable(text);
        if !errors.is_empty() {
            // What was recovered is a guess: complaints about it would only confuse.
            for error in errors {
                let at = error.span().map_or(0, |span| span.start);
                reader.refuse_syntax(at, error.message());
            }
            return Err(reader.finish());
        }
        let mut sites = check::Sites::default();
        let mesh = read_mesh(&mut reader, Table::root(document.get_ref()), &mut sites);
        sites.check(&mut reader);
        let problems = reader.finish();
        if problems.is_empty() { Ok(mesh) } else { Err(problems) }
    }
}

impl Mesh {
    /// Lets the relative paths in it begin at `folder`, where the file is. Returns what is wrong
    /// with the files that it names, one sentence each.
    pub fn settle(&mut self, folder: &Path) -> Vec<String> {
        let Some(identity) = &mut self.identity else { return Vec::new() };
        identity.resolve(folder);
        identity.problems()
    }
}

/// What is wrong leaves its default behind and a problem with the reader.
fn read_mesh(reader: &mut Reader<'_>, mut root: Table<'_>, sites: &mut check::Sites) -> Mesh {
    let mut mesh = Mesh {
        admin: loopback(4191),
        workers: None,
        sockets: Sockets::default(),
        identity: None,
        config: Config {
            listeners: vec![
                Listener { addr: loopback(4140), kind: ListenerKind::Outbound },
                Listener { addr: loopback(4143), kind: ListenerKind::Inbound },
            ],
            ..Config::default()
        },
    };
    let mut section = |reader: &mut Reader<'_>, key| {
        root.get(reader, key)
            .and_then(|item| item.table(reader, &format!("expected a table: [{key}]")))
    };
    match section(reader, "proxy") {
        Some(table) => read_proxy(reader, table, &mut mesh, sites),
        None => sites.default_listeners(&mesh),
    }
    if let Some(table) = section(reader, "limits") {
        mesh.config.limits = read_limits(reader, table);
    }
    if let Some(table) = section(reader, "timeouts") {
        mesh.config.timeouts = read_timeouts(reader, table);
    }
    if let Some(table) = section(reader, "identity") {
        if let Some((identity, known)) = identity::read(reader, table) {
            mesh.identity = Some(identity);
            mesh.config.identity = Some(known);
        }
        sites.identity();
    }
    for table in read_tables(reader, &mut root, "inbound") {
        mesh.config.inbound.extend(inbound::read(reader, table, sites));
    }
    for table in read_tables(reader, &mut root, "service") {
        let service = read_service(reader, table, sites);
        mesh.config.services.push(service);
    }
    let routes = read_tables(reader, &mut root, "route");
    let routes = routes.into_iter().map(|table| route::read(reader, table, sites));
    mesh.config.routes = routes.collect::<Vec<_>>().into();
    for table in read_tables(reader, &mut root, "tcp") {
        let (listener, service) = read_forward(reader, table, sites);
        mesh.config.listeners.push(listener);
        mesh.config.services.push(service);
    }
    root.finish(reader);
    mesh
}

fn loopback(port: u16) -> SocketAddr {
    (Ipv4Addr::LOCALHOST, port).into()
}

/// `[[key]]`, any number of times.
fn read_tables<'a>(
    reader: &mut Reader<'_>,
    root: &mut Table<'a>,
    key: &'static str,
) -> Vec<Table<'a>> {
    let Some(item) = root.get(reader, key) else {
        return Vec::new();
    };
    let expected = format!("expected tables, each under [[{key}]]");
    let items = item.array(reader, &expected);
    items.iter().filter_map(|item| item.table(reader, &expected)).collect()
}

/// `[proxy]`.
fn read_proxy(
    reader: &mut Reader<'_>,
    mut table: Table<'_>,
    mesh: &mut Mesh,
    sites: &mut check::Sites,
) {
    let [outbound, inbound, ..] = &mut mesh.config.listeners[..] else {
        unreachable!("both listeners have a default")
    };
    for (key, slot) in [
        ("outbound", &mut outbound.addr),
        ("inbound", &mut inbound.addr),
        ("admin", &mut mesh.admin),
    ] {
        let item = table.get(reader, key);
        match item {
            None => sites.default_listener(key, *slot),
            Some(item) => {
                if let Some(addr) = item.read(reader, value::listen_addr) {
                    *slot = addr;
                    sites.listener(item.site, addr);
                }
            }
        }
    }
    if let Some(item) = table.get(reader, "app")
        && let Some(addr) = item.read(reader, value::socket_addr)
    {
        mesh.config.app = Some(addr);
        sites.target(item.site, Target::Addr(addr));
    }
    if let Some(item) = table.get(reader, "opaque_ports") {
        mesh.config.opaque_ports = read_ports(reader, &item);
    }
    if let Some(item) = table.get(reader, "nameless_tls")
        && let Some(nameless) = item.read(reader, value::nameless_tls)
    {
        mesh.config.nameless_tls = nameless;
        if nameless == Nameless::Terminate {
            sites.meshed(item.site);
        }
    }
    table.set(reader, "zone", &mut mesh.config.zone, value::zone);
    table.set(reader, "workers", &mut mesh.workers, |v| {
        value::integer(v, 1, MAX_WORKERS).map(|n| Some(n as usize))
    });
    mesh.config.concurrency = inbound::read_concurrency(reader, &mut table);
    let Sockets { backlog, keepalive, user_timeout } = &mut mesh.sockets;
    table.set(reader, "backlog", backlog, |v| value::integer(v, 1, 65_535).map(|n| n as u32));
    table.set(reader, "keepalive", keepalive, value::duration_or_none);
    table.set(reader, "user_timeout", user_timeout, value::duration_or_none);
    table.finish(reader);
}

/// Ports and ranges, as a sorted list without repetitions.
fn read_ports(reader: &mut Reader<'_>, item: &Item<'_>) -> Vec<u16> {
    let mut ports: Vec<u16> = item
        .array(reader, r#"expected a list like [3306, "5000-5010"]"#)
        .iter()
        .filter_map(|item| item.read(reader, value::ports))
        .flatten()
        .collect();
    ports.sort_unstable();
    ports.dedup();
    ports
}

/// `[limits]`.
fn read_limits(reader: &mut Reader<'_>, mut table: Table<'_>) -> Limits {
    let mut limits = Limits::default();
    // Without `..`: a limit that the core gains is missed here at compile time.
    let Limits {
        connections,
        handshakes,
        in_flight,
        queue,
        header_count,
        header_bytes,
        target_bytes,
        client_hello_bytes,
        pool_idle,
        replay_bytes,
        mirrors,
        stream_buffer,
        buffer_bytes,
    } = &mut limits;
    const COUNT: u64 = 100_000_000;
    const BYTES: u64 = 1 << 40;
    for (key, slot, min, max) in [
        ("connections", connections, 1, COUNT),
        ("handshakes", handshakes, 1, COUNT),
        ("in_flight", in_flight, 1, COUNT),
        ("queue", queue, 0, COUNT),
        ("header_count", header_count, 1, Limits::MAX_HEADER_COUNT as u64),
        ("header_bytes", header_bytes, 256, 1 << 30),
        ("target_bytes", target_bytes, 16, 1 << 30),
        ("client_hello_bytes", client_hello_bytes, 512, 1 << 24),
        ("pool_idle", pool_idle, 0, COUNT),
        ("replay_bytes", replay_bytes, 0, 1 << 30),
        ("mirrors", mirrors, 0, COUNT),
        ("stream_buffer", stream_buffer, 1024, 1 << 30),
        ("buffer_bytes", buffer_bytes, 1024 * 1024, BYTES),
    ] {
        table.set(reader, key, slot, |v| value::integer(v, min, max).map(|n| n as usize));
    }
    table.finish(reader);
    limits
}

/// `[timeouts]`.
fn read_timeouts(reader: &mut Reader<'_>, mut table: Table<'_>) -> Timeouts {
    let mut timeouts = Timeouts::default();
    // Without `..`: a timeout that the core gains is missed here at compile time.
    let Timeouts {
        detect,
        detect_prefix,
        handshake,
        header,
        keep_alive,
        connect,
        response_headers,
        request,
        idle,
        pool_idle,
        connection_age,
        failfast,
        backoff_min,
        backoff_max,
        tcp_idle,
        half_open,
        grace,
    } = &mut timeouts;
    for (key, slot) in [
        ("detect", detect),
        ("detect_prefix", detect_prefix),
        ("handshake", handshake),
        ("header", header),
        ("connect", connect),
        ("backoff_min", &mut *backoff_min),
    ] {
        table.set(reader, key, slot, value::duration);
    }
    for (key, slot) in [
        ("keep_alive", keep_alive),
        ("connection_age", connection_age),
        ("tcp_idle", tcp_idle),
        ("half_open", half_open),
    ] {
        table.set(reader, key, slot, value::duration_or_endless);
    }
    for (key, slot) in [("pool_idle", pool_idle), ("failfast", failfast), ("grace", grace)] {
        table.set(reader, key, slot, value::duration_or_at_once);
    }
    for (key, slot) in
        [("response_headers", response_headers), ("request", request), ("idle", idle)]
    {
        table.set(reader, key, slot, value::duration_or_none);
    }
    if let Some(item) = table.get(reader, "backoff_max") {
        let least = *backoff_min;
        let read = item.read(reader, |v| {
            value::duration(v).and_then(|max| {
                let expected = format!("expected at least backoff_min, which is {least:?}");
                (max >= least).then_some(max).ok_or(expected)
            })
        });
        *backoff_max = read.unwrap_or(*backoff_max);
    } else if *backoff_min > *backoff_max {
        let site = table.get(reader, "backoff_min").map(|item| item.site);
        let expected = format!("expected at most backoff_max, which is {backoff_max:?}");
        if let Some(site) = site {
            reader.refuse(&site, &expected);
        }
    }
    table.finish(reader);
    timeouts
}

/// `[[service]]`.
fn read_service(
    reader: &mut Reader<'_>,
    mut table: Table<'_>,
    sites: &mut check::Sites,
) -> Service {
    let mut name: Arc<str> = Arc::default();
    let expected = "expected host or host:port";
    if let Some(item) = table.require(reader, "authority", expected)
        && let Some(authority) = item.read(reader, value::authority)
    {
        name = authority;
        sites.name(item.site, &name);
    }
    let mut opaque = false;
    table.set(reader, "opaque", &mut opaque, value::boolean);
    let endpoints = read_endpoints(reader, &mut table, "endpoints", sites);
    let mut timeouts = read_service_timeouts(reader, &mut table);
    let idle = &mut timeouts.pool_idle;
    table.set(reader, "idle_timeout", idle, |v| value::duration_or_at_once(v).map(Some));
    let mut protocol = Protocol::default();
    table.set(reader, "protocol", &mut protocol, value::protocol);
    let budget = table.table(reader, "retry_budget");
    let budget = budget.map(|table| retry::read_budget(reader, table));
    let concurrency = inbound::read_concurrency(reader, &mut table);
    let breaker = table.table(reader, "breaker");
    let breaker = breaker.map(|table| breaker::read(reader, table));
    let mut panic = None;
    table.set(reader, "panic", &mut panic, |v| breaker::share(v).map(Some));
    let health_check = table.table(reader, "health_check");
    let health_check = health_check.and_then(|table| health_check::read(reader, table));
    let mut balancing = balance::read(reader, &mut table);
    balancing.sticky = balance::read_sticky(reader, &mut table);
    table.finish(reader);
    Service {
        name,
        endpoints,
        opaque,
        timeouts,
        protocol,
        retry_budget: budget.unwrap_or_default(),
        concurrency,
        breaker,
        panic,
        health_check,
        balancing,
    }
}

/// `[[tcp]]`: a listener and the service it forwards to, which nothing else can name.
fn read_forward(
    reader: &mut Reader<'_>,
    mut table: Table<'_>,
    sites: &mut check::Sites,
) -> (Listener, Service) {
    let mut addr = loopback(0);
    if let Some(item) = table.require(reader, "listen", "expected ip:port to listen on")
        && let Some(listen) = item.read(reader, value::listen_addr)
    {
        addr = listen;
        sites.forward(item.site, addr);
    }
    let endpoints = read_endpoints(reader, &mut table, "to", sites);
    let mut timeouts = read_service_timeouts(reader, &mut table);
    // Connections that are forwarded are not pooled.
    let idle = &mut timeouts.tcp_idle;
    table.set(reader, "idle_timeout", idle, |v| value::duration_or_endless(v).map(Some));
    let balancing = balance::read(reader, &mut table);
    table.finish(reader);
    let name: Arc<str> = format!("tcp/{addr}").into();
    let listener = Listener { addr, kind: ListenerKind::Forward(name.clone()) };
    let service =
        Service { name, endpoints, opaque: true, timeouts, balancing, ..Service::default() };
    (listener, service)
}

/// The overrides that services and forwards share. What is idle is something else for each.
fn read_service_timeouts(reader: &mut Reader<'_>, table: &mut Table<'_>) -> ServiceTimeouts {
    let mut timeouts = ServiceTimeouts::default();
    // Without `..`: a timeout that the core gains is missed here at compile time.
    let ServiceTimeouts { request, connect, pool_idle: _, tcp_idle: _, failfast } = &mut timeouts;
    // `None` inherits, so "no limit" is a limit that is never reached.
    table.set(reader, "timeout", request, |v| value::duration_or_endless(v).map(Some));
    table.set(reader, "connect_timeout", connect, |v| value::duration(v).map(Some));
    table.set(reader, "failfast", failfast, |v| value::duration_or_at_once(v).map(Some));
    timeouts
}

/// A list of endpoints: at least one, each once.
fn read_endpoints(
    reader: &mut Reader<'_>,
    table: &mut Table<'_>,
    key: &'static str,
    sites: &mut check::Sites,
) -> Vec<Endpoint> {
    let expected = "expected a list of at least one endpoint";
    let Some(list) = table.require(reader, key, expected) else {
        return Vec::new();
    };
    let mut endpoints: Vec<Endpoint> = Vec::new();
    let items = list.array(reader, expected);
    if items.is_empty() {
        // What is no list at all was complained about above.
        let _: Option<()> = list.read(reader, |v| match v.as_array() {
            Some(_) => Err(expected.into()),
            None => Ok(()),
        });
    }
    for item in &items {
        let Some((site, endpoint)) = read_endpoint(reader, item, sites) else {
            continue;
        };
        sites.target(site.clone(), endpoint.target.clone());
        if endpoints.iter().any(|other| other.target == endpoint.target) {
            reader.refuse(&site, "expected every endpoint once, this one was given before");
        }
        endpoints.push(endpoint);
    }
    endpoints
}

/// `"host:port"`, or `{ addr = "host:port", weight = n }`, or with the identity of a mesh proxy.
fn read_endpoint(
    reader: &mut Reader<'_>,
    item: &Item<'_>,
    sites: &mut check::Sites,
) -> Option<(read::Site, Endpoint)> {
    let Some(mut table) = item.as_table() else {
        let target = item.read(reader, value::target)?;
        return Some((item.site.clone(), Endpoint::new(target)));
    };
    let mut weight = 1;
    // A bound that keeps the sum of any mesh's weights in 32 bits.
    table.set(reader, "weight", &mut weight, |v| value::integer(v, 1, 1_000_000).map(|n| n as u32));
    let mut zone = None;
    table.set(reader, "zone", &mut zone, value::zone);
    let addr = table.require(reader, "addr", "expected host:port to connect to");
    let mesh = identity::read_meshed(reader, &mut table, sites);
    table.finish(reader);
    let addr = addr?;
    let target = addr.read(reader, value::target)?;
    Some((addr.site, Endpoint { target, weight, mesh, zone }))
}
