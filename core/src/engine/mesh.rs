//! Services, their endpoints, and the names that endpoints come from.

use alloc::boxed::Box;
use alloc::collections::{BTreeMap, VecDeque};
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::net::SocketAddr;
use core::time::Duration;

use hashbrown::{HashMap, HashSet};
use slab::Slab;

use super::availability::{Guard, Standing};
use super::contract::{ConnId, Direction};
use super::exchange::ExchangeId;
use super::gate::Gate;
use super::spellings::{ByName, Spellings};
use crate::balance::{Balancer, Member, MemberId, Params};
use crate::config::{self, Meshed, Protocol, Timeouts};
use crate::policy::affinity::Balancing;
use crate::policy::budget::{Budget, BudgetConfig};
use crate::policy::route::{HostRoutes, RouteTable};
use crate::rng::{KeyedState, Rng};
use crate::stats::RequestStats;
use crate::time::Time;

/// All services and endpoints.
#[derive(Debug)]
pub(crate) struct Mesh {
    pub(crate) services: Slab<Service>,
    pub(crate) endpoints: Slab<Endpoint>,
    pub(crate) names: Slab<Name>,
    pub(crate) by_name: HashMap<Arc<str>, u32, ByName>,
    /// Named services, too. After every change of those.
    pub(crate) spellings: Spellings,
    /// Services made on demand, one per original destination. A peer can fill it.
    pub(crate) originals: HashMap<(Direction, SocketAddr), u32, KeyedState>,
    /// What requests to original destinations that are gone counted, by direction.
    pub(crate) past_originals: [RequestStats; 2],
    /// Addresses of services that are marked opaque.
    pub(crate) opaque: HashSet<SocketAddr, KeyedState>,
    /// Named services by their host alone, for TLS. Lower case.
    pub(crate) hosts: BTreeMap<Box<str>, Host>,
    /// The service of the local app.
    pub(crate) app: Option<u32>,
    pub(crate) generation: u32,
}

/// A set of endpoints that share a balancer and a queue.
#[derive(Debug)]
pub(crate) struct Service {
    pub(crate) name: Arc<str>,
    pub(crate) direction: Direction,
    pub(crate) kind: ServiceKind,
    pub(crate) opaque: bool,
    pub(crate) protocol: Protocol,
    /// Endpoints of it are mesh proxies.
    pub(crate) meshed: bool,
    pub(crate) times: Times,
    pub(crate) balancer: Balancer,
    /// What that is told, and what keys are.
    pub(crate) balancing: Balancing,
    /// Endpoints by [`MemberId::index`].
    pub(crate) members: Vec<u32>,
    pub(crate) targets: Vec<TargetState>,
    /// Exchanges that wait for an endpoint. Some may have ended meanwhile …
    pub(crate) queue: VecDeque<ExchangeId>,
    /// … this many have not.
    pub(crate) queued: usize,
    /// In fail-fast: requests fail at once.
    pub(crate) failing: bool,
    /// Its failfast deadline is set.
    pub(crate) failfast_armed: bool,
    /// Exchanges that refer to it.
    pub(crate) exchanges: u32,
    /// The app's port, of services of inbound traffic.
    pub(crate) port: u16,
    /// What its exchanges pass before an endpoint is chosen.
    pub(crate) gate: Gate,
    /// Endpoints that refer to it, those that are no longer members included.
    pub(crate) endpoints: u32,
    /// Members that are our own sockets.
    pub(crate) own: u32,
    /// No longer configured: goes when nothing refers to it.
    pub(crate) removed: bool,
    pub(crate) stats: RequestStats,
    /// The routes for who asks it, of the configuration that named it.
    pub(crate) routes: HostRoutes,
    /// Of the retries of its routes.
    pub(crate) budget: Budget,
    /// What that was made from.
    pub(crate) budget_config: (BudgetConfig, u32),
    /// What is known of its endpoints, if it has them judged.
    pub(crate) guard: Option<Box<Guard>>,
}

/// Which service TLS for a host means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Host {
    /// The one on port 443.
    Https(u32),
    /// The only one.
    Only(u32),
    /// None on port 443, and several others: its name does not say which.
    Several,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ServiceKind {
    /// Of the configuration: balanced, queued, with backoff and fail-fast.
    Named,
    /// The local app.
    App,
    /// An original destination: goes with its last connection.
    Original,
}

impl ServiceKind {
    /// One fixed address: what becomes of a connect is passed on at once, without queue and
    /// backoff.
    pub(crate) fn is_fixed(self) -> bool {
        matches!(self, ServiceKind::App | ServiceKind::Original)
    }
}

/// The times that apply to a service.
#[derive(Clone, Debug)]
pub(crate) struct Times {
    pub(crate) connect: Duration,
    pub(crate) response_headers: Option<Duration>,
    pub(crate) request: Option<Duration>,
    pub(crate) idle: Option<Duration>,
    /// Of those that an exchange may end by: `response_headers`, `request`, `idle`.
    pub(crate) shortest: Duration,
    pub(crate) pool_idle: Duration,
    pub(crate) tcp_idle: Duration,
    pub(crate) failfast: Duration,
}

impl Times {
    pub(crate) fn new(all: &Timeouts, own: &config::ServiceTimeouts) -> Self {
        let request = own.request.or(all.request);
        let limits = [all.response_headers, request, all.idle];
        Times {
            connect: own.connect.unwrap_or(all.connect),
            response_headers: all.response_headers,
            request,
            idle: all.idle,
            shortest: limits.into_iter().flatten().min().unwrap_or(Duration::MAX),
            pool_idle: own.pool_idle.unwrap_or(all.pool_idle),
            tcp_idle: own.tcp_idle.unwrap_or(all.tcp_idle),
            failfast: own.failfast.unwrap_or(all.failfast),
        }
    }
}

/// One configured endpoint and the addresses it stands for now.
#[derive(Debug)]
pub(crate) struct TargetState {
    pub(crate) config: config::Endpoint,
    /// The resolution of its name.
    pub(crate) name: Option<u32>,
    /// Indices of endpoints.
    pub(crate) endpoints: Vec<u32>,
}

/// One address.
#[derive(Debug)]
pub(crate) struct Endpoint {
    pub(crate) service: u32,
    pub(crate) member: MemberId,
    pub(crate) addr: SocketAddr,
    /// It is one of our own listeners: never connected to.
    pub(crate) is_self: bool,
    /// It is a mesh proxy.
    pub(crate) mesh: Option<Meshed>,
    /// No longer a member; goes with its last connection.
    pub(crate) removed: bool,
    pub(crate) health: Health,
    /// What is known of it, if its service has it judged.
    pub(crate) standing: Option<Box<Standing>>,
    /// Idle connections, the longest idle first. Some may be gone.
    pub(crate) idle: VecDeque<ConnId>,
    /// Connects whose exchange ended: the next one takes them over. Some may be gone.
    pub(crate) orphans: Vec<ConnId>,
    /// How many of `idle` are really there.
    pub(crate) idle_live: u32,
    /// Connections that speak HTTP/2, or will. Some may be gone.
    pub(crate) multiplexed: Vec<ConnId>,
    /// Exchanges that wait for a stream on one of them. Some may have ended.
    pub(crate) waiting: VecDeque<ExchangeId>,
    /// Connections, connecting ones included.
    pub(crate) conns: u32,
    pub(crate) stats: RequestStats,
}

/// Whether an endpoint may be chosen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Health {
    /// Yes.
    Up {
        /// Failures since the last good response: a flapping endpoint backs off further.
        failures: u32,
    },
    /// Not before the backoff ends and a connect succeeds.
    Down {
        /// How often in a row it failed.
        failures: u32,
        /// The connect is under way.
        probing: bool,
    },
}

/// A name and when it is looked up.
#[derive(Debug)]
pub(crate) struct Name {
    pub(crate) service: u32,
    pub(crate) host: Arc<str>,
    pub(crate) port: u16,
    /// Makes a late answer for a name that is gone harmless.
    pub(crate) generation: u32,
    /// Failures in a row.
    pub(crate) failures: u32,
}

#[cfg(selvedge_canary)]
impl Mesh {
    /// What no other proxy makes of this.
    pub(crate) fn seeded_hash(&self, key: u64) -> u64 {
        core::hash::BuildHasher::hash_one(self.originals.hasher(), key)
    }
}

impl Mesh {
    pub(crate) fn new(rng: &mut Rng) -> Self {
        Mesh {
            services: Slab::new(),
            endpoints: Slab::new(),
            names: Slab::new(),
            by_name: HashMap::with_hasher(ByName),
            spellings: Spellings::default(),
            originals: HashMap::with_hasher(KeyedState::new(rng)),
            opaque: HashSet::with_hasher(KeyedState::new(rng)),
            hosts: BTreeMap::new(),
            past_originals: [RequestStats::default(), RequestStats::default()],
            app: None,
            generation: 0,
        }
    }

    /// Makes an empty service.
    pub(crate) fn add_service(
        &mut self,
        name: Arc<str>,
        direction: Direction,
        kind: ServiceKind,
        times: Times,
    ) -> u32 {
        self.services.insert(Service {
            name,
            direction,
            kind,
            opaque: false,
            protocol: Protocol::Auto,
            meshed: false,
            times,
            balancer: Balancer::new(Params::default()),
            balancing: Balancing::default(),
            members: Vec::new(),
            targets: Vec::new(),
            queue: VecDeque::new(),
            queued: 0,
            failing: false,
            failfast_armed: false,
            exchanges: 0,
            port: 0,
            gate: Gate::default(),
            endpoints: 0,
            own: 0,
            removed: false,
            stats: RequestStats::default(),
            routes: HostRoutes::default(),
            budget: Budget::new(&BudgetConfig::default(), 1),
            budget_config: (BudgetConfig::default(), 1),
            guard: None,
        }) as u32
    }

    /// Adds an address to a service.
    pub(crate) fn add_endpoint(
        &mut self,
        service: u32,
        addr: SocketAddr,
        member: &Member,
        is_self: bool,
        now: Time,
    ) -> u32 {
        let owner = &mut self.services[service as usize];
        let member = owner.balancer.add(member, now);
        owner.endpoints += 1;
        if owner.kind.is_fixed() {
            owner.port = addr.port();
        }
        if is_self {
            // Never chosen; if there is nothing else, requests are told so.
            owner.balancer.set_ready(member, false, now);
            owner.own += 1;
        }
        let index = self.endpoints.insert(Endpoint {
            service,
            member,
            addr,
            is_self,
            mesh: None,
            removed: false,
            health: Health::Up { failures: 0 },
            standing: None,
            idle: VecDeque::new(),
            orphans: Vec::new(),
            idle_live: 0,
            multiplexed: Vec::new(),
            waiting: VecDeque::new(),
            conns: 0,
            stats: RequestStats::default(),
        }) as u32;
        if owner.members.len() <= member.index() {
            owner.members.resize(member.index() + 1, u32::MAX);
        }
        owner.members[member.index()] = index;
        index
    }

    /// Brings a service back that was removed while requests still use it.
    pub(crate) fn revive(&mut self, name: &Arc<str>) -> Option<u32> {
        let gone = |service: &Service| {
            service.removed && service.kind == ServiceKind::Named && service.name == *name
        };
        let (index, service) = self.services.iter_mut().find(|(_, service)| gone(service))?;
        service.removed = false;
        self.by_name.insert(Arc::clone(name), index as u32);
        Some(index as u32)
    }

    /// Forgets an endpoint without connections; its service.
    pub(crate) fn drop_endpoint(&mut self, index: u32) {
        if let Some(endpoint) = self.endpoints.try_remove(index as usize)
            && let Some(service) = self.services.get_mut(endpoint.service as usize)
        {
            service.endpoints -= 1;
        }
    }

    /// The service that an endpoint belongs to.
    pub(crate) fn service_of(&mut self, endpoint: u32) -> Option<(&mut Service, &mut Endpoint)> {
        let endpoint = self.endpoints.get_mut(endpoint as usize)?;
        let service = self.services.get_mut(endpoint.service as usize)?;
        Some((service, endpoint))
    }

    /// The endpoint that `query` was for, unless it is gone.
    pub(crate) fn name_mut(&mut self, index: u32, generation: u32) -> Option<&mut Name> {
        self.names.get_mut(index as usize).filter(|name| name.generation == generation)
    }

    /// The service that TLS with this server name means. `buffer`: for the name in lower case.
    pub(crate) fn host(&self, name: &str, buffer: &mut String) -> Option<u32> {
        buffer.clear();
        buffer.push_str(name);
        buffer.make_ascii_lowercase();
        match *self.hosts.get(buffer.as_str())? {
            Host::Https(service) | Host::Only(service) => Some(service),
            Host::Several => None,
        }
    }

    /// Collects the names of services, and what is for each of them, after every change of either.
    pub(crate) fn note_names(&mut self, services: &[config::Service], routes: &RouteTable) {
        self.hosts.clear();
        self.spellings.clear();
        for service in services {
            let Some((host, port)) = service.name.rsplit_once(':') else { continue };
            let Some(&index) = self.by_name.get(&service.name) else { continue };
            self.spellings.add(&service.name, index);
            if let Some(known) = self.services.get_mut(index as usize) {
                known.routes = routes.routes_of(&service.name, true);
            }
            let https = port == "443";
            let known = self.hosts.get(host);
            let host_means = match known {
                _ if https => Host::Https(index),
                None => Host::Only(index),
                Some(&Host::Https(other)) => Host::Https(other),
                Some(_) => Host::Several,
            };
            self.hosts.insert(host.into(), host_means);
        }
    }

    /// Collects the addresses of services that are marked opaque. After every change of either.
    pub(crate) fn note_opaque(&mut self) {
        self.opaque.clear();
        for (_, service) in self.services.iter().filter(|(_, service)| service.opaque) {
            for &endpoint in service.targets.iter().flat_map(|target| &target.endpoints) {
                self.opaque.insert(self.endpoints[endpoint as usize].addr);
            }
        }
    }
}

impl Endpoint {
    /// Puts an idle connection into the pool.
    pub(crate) fn park(&mut self, conn: ConnId, is_idle: impl Fn(ConnId) -> bool) {
        // Names of connections that closed while idle stay behind, but not more than live ones.
        if self.idle.len() > 16 && self.idle.len() > 2 * self.idle_live as usize {
            self.idle.retain(|&conn| is_idle(conn));
        }
        self.idle.push_back(conn);
        self.idle_live += 1;
    }
}
