//! All routes, compiled so that finding one does not take longer the more there are.

use alloc::boxed::Box;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::cmp::Reverse;

use super::Route;
use super::matches::{HostMatch, Match, PathMatch, Target};
use crate::http::Request;
use crate::time::Duration;

/// Routes by host, and of each host by path.
///
/// Of those that match a request, the first by this order is taken:
///
/// 1. host: exact, then the longest suffix, then any; one with a port before the same without;
/// 2. path: exact, then a pattern, then the longest prefix;
/// 3. one that asks for a method;
/// 4. more fields asked for;
/// 5. more query parameters asked for;
/// 6. given first.
///
/// A gRPC method is an exact path, a gRPC service a prefix.
#[derive(Clone, Debug, Default)]
pub struct RouteTable {
    routes: Vec<Arc<Route>>,
    /// Sorted, with the index of their group.
    exact: Vec<(Box<str>, u32)>,
    suffixes: Vec<(Box<str>, u32)>,
    longest_suffix: usize,
    any: Option<u32>,
    groups: Vec<Group>,
    /// See [`RouteTable::shortest_timeout`].
    shortest: Duration,
}

/// The routes for one authority, found before anybody asks it.
#[derive(Clone, Debug, Default)]
pub(crate) struct HostRoutes {
    /// Indices of groups, in the order in which they are looked through.
    groups: Box<[u32]>,
    /// See [`RouteTable::covers`].
    covered: bool,
    /// All of them are its own: they belong to the service of that name.
    own: bool,
    /// The one there is, if nothing but a path says which requests it is for.
    only: Option<Only>,
}

/// A route that is compared instead of looked for.
#[derive(Clone, Debug)]
struct Only {
    route: u32,
    /// It is for this path and all below it; `None`: for any.
    prefix: Option<Box<[u8]>>,
}

impl HostRoutes {
    /// See [`RouteTable::covers`].
    pub(crate) fn is_covered(&self) -> bool {
        self.covered
    }

    /// Is its service whom all requests are for that one of them is for?
    pub(crate) fn is_own(&self) -> bool {
        self.own
    }
}

impl Only {
    /// What says it all about the route of that index, if a path does.
    fn of(index: u32, route: &Route) -> Option<Self> {
        let Match { path, methods, headers, query, grpc } = &route.matches;
        if !methods.is_empty() || !headers.is_empty() || !query.is_empty() || grpc.is_some() {
            return None;
        }
        let prefix = match path {
            PathMatch::Any => None,
            PathMatch::Prefix(path) if path.starts_with('/') && !path.contains('?') => {
                Some(path.strip_suffix('/').unwrap_or(path).as_bytes().into())
            }
            _ => return None,
        };
        Some(Only { route: index, prefix })
    }

    /// Is it for this path, its query included?
    fn accepts(&self, path: &[u8]) -> bool {
        let Some(prefix) = &self.prefix else { return true };
        let below = path.strip_prefix(&**prefix);
        below.is_some_and(|below| matches!(below.first(), None | Some(b'/' | b'?')))
    }
}

/// The routes of one host.
#[derive(Clone, Debug, Default)]
struct Group {
    /// Indices of routes; the place of one here is its rank.
    ranked: Vec<u32>,
    /// The services that they belong to, sorted.
    owners: Vec<Arc<str>>,
    /// A tree of path segments. The first is the root.
    nodes: Vec<Node>,
    /// There are patterns in it.
    has_patterns: bool,
}

/// A path. Its lists hold ranks, in order.
#[derive(Clone, Debug, Default)]
struct Node {
    /// `u32::MAX`: it is the root.
    parent: u32,
    /// By their next segment, sorted.
    children: Vec<(Box<[u8]>, u32)>,
    exact: Vec<u32>,
    /// Patterns that match nothing but paths from here on.
    patterns: Vec<u32>,
    prefix: Vec<u32>,
}

impl RouteTable {
    /// Compiles routes.
    pub fn new(routes: Vec<Route>) -> Self {
        let mut table = RouteTable {
            shortest: routes.iter().map(Route::shortest_timeout).min().unwrap_or_default(),
            routes: routes.into_iter().map(Arc::new).collect(),
            ..RouteTable::default()
        };
        for index in 0..table.routes.len() {
            let route = Arc::clone(&table.routes[index]);
            if route.hosts.is_empty() {
                table.add(&HostMatch::Exact((*route.service).into()), index as u32);
            }
            for host in &route.hosts {
                table.add(host, index as u32);
            }
        }
        for group in &mut table.groups {
            group.build(&table.routes);
        }
        table
    }

    /// All of them, as they were given.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<Route>> {
        self.routes.iter()
    }

    /// Are there none?
    pub fn is_empty(&self) -> bool {
        self.routes.is_empty()
    }

    /// The shortest of the times that a request may end by on any route.
    pub(crate) fn shortest_timeout(&self) -> Duration {
        self.shortest
    }

    /// The route of a request. `authority`: whom it asks, as
    /// [`authority::normalize`](crate::http::authority::normalize) writes it; empty if it asks
    /// nobody.
    pub fn find(&self, authority: &str, request: &Request<'_>) -> Option<&Arc<Route>> {
        self.find_in(self.listed(authority).chain(self.wild(authority)), request)
    }

    /// The routes for an authority that is often asked.
    pub(crate) fn routes_of(&self, authority: &str, is_service: bool) -> HostRoutes {
        let groups: Box<[u32]> = self.listed(authority).chain(self.wild(authority)).collect();
        let all = groups.iter().map(|&group| &self.groups[group as usize]);
        let only = match all.clone().flat_map(|group| &group.ranked).collect::<Vec<_>>()[..] {
            [&only] => Only::of(only, &self.routes[only as usize]),
            _ => None,
        };
        HostRoutes {
            covered: self.covers(authority, is_service),
            own: is_service && all.flat_map(|group| &group.owners).all(|o| **o == *authority),
            only,
            groups,
        }
    }

    /// The route of a request to it, as [`find`](RouteTable::find) finds it.
    #[inline]
    pub(crate) fn find_of(&self, host: &HostRoutes, request: &Request<'_>) -> Option<&Arc<Route>> {
        match &host.only {
            Some(only) if only.accepts(request.path) => self.routes.get(only.route as usize),
            Some(_) => None,
            None => self.find_in(host.groups.iter().copied(), request),
        }
    }

    fn find_in(
        &self,
        groups: impl IntoIterator<Item = u32>,
        request: &Request<'_>,
    ) -> Option<&Arc<Route>> {
        let target = Target::of(request);
        let find = |group: u32| self.groups[group as usize].find(&self.routes, request, &target);
        let route = groups.into_iter().find_map(find)?;
        Some(&self.routes[route as usize])
    }

    /// Is a request for `authority` one for the routes, although [`find`](RouteTable::find) finds
    /// none? Then nobody serves it. So it is if a route lists its host, or if a wildcard of one
    /// means it: a wildcard means hosts of no service, and those of the route's own.
    pub fn covers(&self, authority: &str, is_service: bool) -> bool {
        let owns = |group: u32| {
            let owners = &self.groups[group as usize].owners;
            !is_service || owners.binary_search_by(|owner| (**owner).cmp(authority)).is_ok()
        };
        self.listed(authority).next().is_some() || self.wild(authority).any(owns)
    }

    /// The routes that list the host of an authority, those with its port first.
    fn listed(&self, authority: &str) -> impl Iterator<Item = u32> {
        let named = |name| index_of(&self.exact, name);
        [authority, host_of(authority)].into_iter().filter_map(named)
    }

    /// The routes with wildcards that match it, the longest first.
    fn wild(&self, authority: &str) -> impl Iterator<Item = u32> {
        let host = host_of(authority);
        let dots = memchr::memchr_iter(b'.', host.as_bytes());
        // A label has to precede it.
        let dots = dots.filter(move |&dot| dot > 0 && host.len() - dot <= self.longest_suffix);
        let names = dots.flat_map(move |dot| [&authority[dot..], &host[dot..]]);
        let suffixes = names.filter_map(|name| index_of(&self.suffixes, name));
        suffixes.chain(self.any)
    }

    fn add(&mut self, host: &HostMatch, route: u32) {
        let groups = &mut self.groups;
        let mut group = || {
            groups.push(Group::default());
            groups.len() as u32 - 1
        };
        let mut named = |list: &mut Vec<(Box<str>, u32)>, name: &str| {
            let at = list.binary_search_by(|(other, _)| (**other).cmp(name));
            match at {
                Ok(at) => list[at].1,
                Err(at) => {
                    let index = group();
                    list.insert(at, (name.into(), index));
                    index
                }
            }
        };
        let index = match host {
            HostMatch::Exact(name) => named(&mut self.exact, name),
            HostMatch::Suffix(name) => {
                self.longest_suffix = self.longest_suffix.max(name.len());
                named(&mut self.suffixes, name)
            }
            HostMatch::Any => *self.any.get_or_insert_with(group),
        };
        let ranked = &mut self.groups[index as usize].ranked;
        if ranked.last() != Some(&route) {
            ranked.push(route);
        }
    }
}

/// They say the same; what they were compiled to follows from that.
impl PartialEq for RouteTable {
    fn eq(&self, other: &Self) -> bool {
        self.routes == other.routes
    }
}

impl From<Vec<Route>> for RouteTable {
    fn from(routes: Vec<Route>) -> Self {
        RouteTable::new(routes)
    }
}

/// Where in the tree a route hangs.
enum Place<'a> {
    Exact(&'a [u8]),
    /// Its patterns begin with this.
    Pattern(&'a [u8]),
    Prefix(&'a [u8]),
}

impl Route {
    /// Calls `with` with the place of this route: a gRPC one makes its path on the way.
    fn place<R>(&self, with: impl FnOnce(Place<'_>) -> R) -> R {
        if let Some(grpc) = &self.matches.grpc {
            return match (&grpc.service, &grpc.method) {
                (Some(service), Some(method)) => {
                    with(Place::Exact(alloc::format!("/{service}/{method}").as_bytes()))
                }
                (Some(service), None) => {
                    with(Place::Prefix(alloc::format!("/{service}").as_bytes()))
                }
                (None, _) => with(Place::Prefix(b"/")),
            };
        }
        match &self.matches.path {
            PathMatch::Any => with(Place::Prefix(b"")),
            PathMatch::Exact(path) => with(Place::Exact(path.as_bytes())),
            PathMatch::Prefix(path) => with(Place::Prefix(path.as_bytes())),
            PathMatch::Regex(pattern) => with(Place::Pattern(pattern.prefix())),
        }
    }

    /// What comes first of two that match the same request.
    fn order(&self) -> impl Ord + use<> {
        let matches = &self.matches;
        let path = self.place(|place| match place {
            Place::Exact(_) => (0, Reverse(0)),
            Place::Pattern(_) => (1, Reverse(0)),
            Place::Prefix(path) => (2, Reverse(path.strip_suffix(b"/").unwrap_or(path).len())),
        });
        // A method of any service asks for more than nothing.
        let method = matches.grpc.as_ref().is_some_and(|grpc| grpc.method.is_some());
        (
            path,
            matches.methods.is_empty() && !method,
            Reverse(matches.headers.len()),
            Reverse(matches.query.len()),
        )
    }
}

impl Group {
    fn build(&mut self, routes: &[Arc<Route>]) {
        // It is stable: ties go to the first.
        self.ranked.sort_by_cached_key(|&route| routes[route as usize].order());
        let owners = self.ranked.iter().map(|&route| Arc::clone(&routes[route as usize].service));
        self.owners = owners.collect();
        self.owners.sort_unstable();
        self.owners.dedup();
        self.nodes.push(Node { parent: u32::MAX, ..Node::default() });
        for rank in 0..self.ranked.len() {
            let route = &routes[self.ranked[rank] as usize];
            route.place(|place| {
                let rank = rank as u32;
                match place {
                    Place::Exact(path) => self.node(path).exact.push(rank),
                    Place::Pattern(prefix) => {
                        // The last segment may go on.
                        let end = memchr::memrchr(b'/', prefix).unwrap_or(0);
                        self.node(&prefix[..end]).patterns.push(rank);
                        self.has_patterns = true;
                    }
                    Place::Prefix(path) => {
                        let path = path.strip_suffix(b"/").unwrap_or(path);
                        self.node(path).prefix.push(rank);
                    }
                }
            });
        }
    }

    /// The node of a path, made if need be.
    fn node(&mut self, path: &[u8]) -> &mut Node {
        let mut node = 0;
        for segment in segments(path) {
            let child = self.nodes[node].child(segment);
            node = match child {
                Ok(at) => self.nodes[node].children[at].1 as usize,
                Err(at) => {
                    let index = self.nodes.len();
                    self.nodes[node].children.insert(at, (segment.into(), index as u32));
                    self.nodes.push(Node { parent: node as u32, ..Node::default() });
                    index
                }
            };
        }
        &mut self.nodes[node]
    }

    /// The first route that matches.
    fn find(
        &self,
        routes: &[Arc<Route>],
        request: &Request<'_>,
        target: &Target<'_>,
    ) -> Option<u32> {
        let route = |rank: u32| &routes[self.ranked[rank as usize] as usize];
        let accepts = |rank: &u32| route(*rank).matches.accepts(request, target);
        let (deepest, whole) = self.descend(target.path);
        let exact = || deepest.exact.iter().copied().filter(|_| whole).find(accepts);
        let pattern = || {
            let all = self.ancestors(deepest).flat_map(|node| &node.patterns);
            let matching = all.copied().filter(|&rank| match &route(rank).matches.path {
                PathMatch::Regex(pattern) => accepts(&rank) && pattern.is_match(target.path),
                _ => false,
            });
            if self.has_patterns { matching.min() } else { None }
        };
        let below = |rank: &u32| {
            let any = matches!(route(*rank).matches.path, PathMatch::Any);
            (any || target.path.first() == Some(&b'/')) && accepts(rank)
        };
        let prefix =
            || self.ancestors(deepest).find_map(|node| node.prefix.iter().copied().find(below));
        let rank = exact().or_else(pattern).or_else(prefix)?;
        Some(self.ranked[rank as usize])
    }

    /// How far the tree knows this path; whether that is all of it.
    fn descend(&self, path: &[u8]) -> (&Node, bool) {
        let mut node = &self.nodes[0];
        let mut below = path.strip_prefix(b"/");
        while let Some(rest) = below {
            let Some((child, after)) = node.step(rest) else { return (node, false) };
            (node, below) = (&self.nodes[child as usize], after);
        }
        (node, path.first() == Some(&b'/'))
    }

    /// A node and all above it.
    fn ancestors<'a>(&'a self, node: &'a Node) -> impl Iterator<Item = &'a Node> {
        core::iter::successors(Some(node), |node| self.nodes.get(node.parent as usize))
    }
}

impl Node {
    /// The child that a path without its slash leads to, and what follows its segment after the next
    /// slash.
    fn step<'a>(&self, path: &'a [u8]) -> Option<(u32, Option<&'a [u8]>)> {
        let (segment, child) = match &self.children[..] {
            [] => return None,
            // Where there is one way, its length says how much there is to compare.
            [(only, child)] => {
                (path.get(..only.len()).filter(|segment| **segment == **only)?, *child)
            }
            children => {
                let end = memchr::memchr(b'/', path).unwrap_or(path.len());
                (&path[..end], children[self.child(&path[..end]).ok()?].1)
            }
        };
        match &path[segment.len()..] {
            [] => Some((child, None)),
            [b'/', after @ ..] => Some((child, Some(after))),
            _ => None,
        }
    }

    /// Where the child of that segment is, or would be.
    fn child(&self, segment: &[u8]) -> Result<usize, usize> {
        self.children.binary_search_by(|(name, _)| (**name).cmp(segment))
    }
}

/// The group of that name in a sorted list.
fn index_of(list: &[(Box<str>, u32)], name: &str) -> Option<u32> {
    let at = list.binary_search_by(|(other, _)| (**other).cmp(name)).ok()?;
    Some(list[at].1)
}

/// The host of an authority.
fn host_of(authority: &str) -> &str {
    authority.rfind(':').map_or(authority, |colon| &authority[..colon])
}

/// The segments of a path that begins with a slash; none of any other.
fn segments(path: &[u8]) -> impl Iterator<Item = &[u8]> {
    let below = path.strip_prefix(b"/");
    below.into_iter().flat_map(|below| below.split(|&byte| byte == b'/'))
}
