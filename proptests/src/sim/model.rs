//! What may happen to each request, told without the engine's help.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use selvedge_core::config::Protocol;
use selvedge_core::http2::Violation;
use selvedge_core::time::Time;

use super::availability::{Blame, Watch};
use super::excuses::{DELAYS, HOSTILE, LATE, WAITS};
use super::fault::{Fault, Faults};
use super::host::client::Place;
use super::invariant::{Check, Checks, Invariant};
use super::limits::{Limits, is_exact};
use super::link::Stamp;
use super::mix::Mix;
use super::policy::{Failing, RouteModel};
use super::shares::Shares;
use crate::choose::Choose;
use crate::traffic::arrival::{Crossed, Way};
use crate::traffic::content::{Stream, number};
use crate::traffic::request::{Body, Request, is_idempotent};
use crate::traffic::response::{self, Response};
use crate::traffic::wire::{Head, show};

/// Everything that was said, and what became of it.
#[derive(Debug, Default)]
pub(super) struct Model {
    pub(super) requests: Vec<Sent>,
    pub(super) responses: Vec<Told>,
    pub(super) hints: Vec<Hint>,
    /// Heads of requests that came to apps.
    pub(super) heads: u32,
    pub(super) streams: Vec<StreamSent>,
    pub(super) services: Vec<ServiceModel>,
    pub(super) routes: Vec<RouteModel>,
    pub(super) shares: Shares,
    pub(super) limits: Limits,
    /// How apps fail.
    pub(super) failing: Vec<Failing>,
    /// Which app is at which address that engines know.
    pub(super) places: Vec<(SocketAddr, u16)>,
    /// Apps that some endpoints lead to which are somebody else, or closed to their clients, as bits.
    pub(super) closed: u64,
    /// What is known of the endpoints of each outbound engine.
    pub(super) watches: Vec<Watch>,
    /// What may be held against each app.
    pub(super) blames: Vec<Blame>,
    /// How many outbound engines there are.
    pub(super) outbound: u32,
    /// The address of every engine.
    pub(super) ips: Vec<IpAddr>,
    /// Apps that said what no HTTP server would, as bits.
    pub(super) tainted: u64,
    /// An engine gave up a peer of HTTP/2 that did not answer in time: another engine, perhaps.
    pub(super) impatient: bool,
    /// How long a request that no service is named for may take.
    pub(super) deadline: Option<Duration>,
    /// How long after a request its answer may begin.
    pub(super) response_headers: Option<Duration>,
    /// How long nothing may move.
    pub(super) idle: Option<Duration>,
    /// Engines between a client and an app at most: each may send a request once more.
    pub(super) hops: u32,
}

/// What is known of a service.
#[derive(Debug)]
pub(super) struct ServiceModel {
    /// Its authority.
    pub(super) name: String,
    /// The apps that its requests may reach, as bits.
    pub(super) apps: u64,
    /// How long a request may take.
    pub(super) deadline: Option<Duration>,
    /// What its endpoints are spoken to.
    pub(super) protocol: Protocol,
    /// Some of its endpoints are mesh proxies.
    pub(super) meshed: bool,
}

/// A request, and what became of it.
#[derive(Debug)]
pub(super) struct Sent {
    pub(super) request: Request,
    pub(super) client: u16,
    /// The outbound engine that it comes to, if it goes where it asks to.
    pub(super) engine: Option<u16>,
    /// The client sent it on a stream of HTTP/2.
    pub(super) stream: bool,
    /// No other waited for an answer before it, where answers have an order.
    pub(super) alone: bool,
    /// What it was, or may have been, on its way.
    pub(super) crossed: Crossed,
    /// The apps that it may reach, as bits.
    pub(super) apps: u64,
    /// Its route, if it has one.
    pub(super) route: Option<usize>,
    /// Its service has routes, and none matches it.
    pub(super) unrouted: bool,
    /// How long it may take.
    pub(super) deadline: Option<Duration>,
    /// It was damaged, or follows something that was.
    pub(super) wild: bool,
    /// When the first engine had its head.
    pub(super) fed: Option<Time>,
    /// When the second one had it, and which that is, if that could be read.
    pub(super) between: Option<(Time, u16)>,
    /// How often it reached an app.
    pub(super) attempts: u32,
    /// The app that has it and has not answered.
    pub(super) serving: Option<u16>,
    /// Apps said 1xx.
    pub(super) hinted: bool,
    /// Whose 100 came, and whose other 1xx: by the number of the head that an app had.
    pub(super) informed: [Option<u32>; 2],
    /// When a final head was passed to the client.
    pub(super) answered: Option<Stamp>,
    pub(super) ended: Option<Ended>,
    /// … and when.
    pub(super) over: Option<Time>,
}

/// How a request ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ended {
    /// With the answer of an app.
    Answered,
    /// With an answer of the proxy.
    Refused,
    /// Its answer was cut short, and that could be seen.
    Truncated,
    /// Its connection ended before an answer.
    Lost,
    /// The client gave it up, or was not understood.
    Given,
}

/// A 1xx that an app said.
#[derive(Debug)]
pub(super) struct Hint {
    request: u32,
    /// Which head of that request it answers.
    head: u32,
    status: u16,
    seen: bool,
}

/// A response, and what became of it.
#[derive(Debug)]
pub(super) struct Told {
    pub(super) response: Response,
    /// It was damaged, or follows something that was.
    pub(super) wild: bool,
    pub(super) seen: bool,
}

/// A direction of a byte tunnel.
#[derive(Debug)]
pub(super) struct StreamSent {
    pub(super) stream: Stream,
    /// How much was sent, or waits to be.
    pub(super) queued: usize,
    /// It ends here.
    pub(super) finished: bool,
    /// The stream that comes the other way, once that is known.
    pub(super) other: Option<u32>,
    /// The apps that may be at one of its ends, as bits.
    pub(super) apps: u64,
}

impl Model {
    /// The apps that a request for `authority` may reach, and how long it may take.
    pub(super) fn route(&self, authority: Option<&str>) -> Option<&ServiceModel> {
        let authority = authority?;
        self.services.iter().find(|service| service.name == authority)
    }

    /// A client asks at `place`, which is one of `engine`, on a stream or not, perhaps for something `wild`, and `alone` on its
    /// connection or after others.
    pub(super) fn ask(
        &mut self,
        request: Request,
        client: u16,
        place: &Place,
        engine: Option<u16>,
        [stream, wild, alone]: [bool; 3],
    ) {
        let apps = place.apps;
        let engine = engine.filter(|_| place.original_dst.is_none());
        let route = self.route(request.authority.as_deref());
        let protocol = route.map(|service| (service.protocol, service.meshed));
        let (mut reaches, mut deadline) = match route {
            Some(service) => (service.apps | apps, service.deadline),
            None => (apps, self.deadline),
        };
        let mut crossed = Self::crosses(stream, protocol, apps != 0);
        let route = self.routes.iter().position(|route| route.is_for(&request));
        let concerned = self.routes.iter().any(|route| route.concerns(&request));
        let unrouted = route.is_none() && concerned && request.method != "CONNECT";
        if let Some(route) = route.map(|index| &mut self.routes[index]) {
            route.ask();
            let to: Vec<_> = route.route.split.backends().iter().map(|to| &*to.service).collect();
            let backends = self.services.iter().filter(|it| to.contains(&it.name.as_str()));
            let mut longest = deadline;
            for backend in backends {
                let protocol = Some((backend.protocol, backend.meshed));
                if Self::crosses(stream, protocol, apps != 0) != crossed {
                    crossed = Crossed::Maybe;
                }
                longest = longest.zip(backend.deadline).map(|(one, other)| one.max(other));
            }
            reaches = route.apps() | apps;
            deadline = route.route.timeouts.request.or(longest);
        }
        self.requests.push(Sent {
            request,
            client,
            engine,
            stream,
            alone,
            crossed,
            apps: reaches,
            route,
            unrouted,
            deadline,
            wild,
            fed: None,
            between: None,
            attempts: 0,
            serving: None,
            hinted: false,
            informed: [None; 2],
            answered: None,
            ended: None,
            over: None,
        });
    }

    /// What a request is on its way, if it goes to `service` or, with `elsewhere`, perhaps to where
    /// its client was redirected from.
    pub(super) fn crosses(
        stream: bool,
        service: Option<(Protocol, bool)>,
        elsewhere: bool,
    ) -> Crossed {
        let named = match service {
            _ if stream => Crossed::Yes,
            Some((Protocol::Http2 | Protocol::Mesh, _)) => Crossed::Yes,
            // Not to those of its endpoints that are no mesh proxies.
            Some((Protocol::Auto, true)) => Crossed::Maybe,
            Some((Protocol::Auto | Protocol::Http1, _)) | None => Crossed::No,
        };
        if elsewhere && named == Crossed::Yes && !stream { Crossed::Maybe } else { named }
    }

    /// The way of a request to an app, or of its answer back; `stream`: it is read from a stream.
    pub(super) fn way(&self, id: u32, stream: bool) -> Way {
        let crossed = self.requests[id as usize].crossed;
        Way { proxies: self.hops, crossed, stream }
    }

    /// An app has the head of a request: a number of its own.
    pub(super) fn next_head(&mut self) -> u32 {
        self.heads += 1;
        self.heads
    }

    /// An app says a 1xx for a request, of which it has this head.
    pub(super) fn hint(&mut self, choose: &mut dyn Choose, request: u32, head: u32) -> Vec<u8> {
        let sent = &mut self.requests[request as usize];
        sent.hinted = true;
        let (status, bytes) = response::interim(choose, &sent.request, self.hints.len() as u32);
        self.hints.push(Hint { request, head, status, seen: false });
        bytes
    }

    /// A 1xx came to who waits for the answer to a request: it was said for that, is told once, before
    /// the answer, and of those that several attempts were answered with only those of one come.
    pub(super) fn inform(&mut self, checks: &mut Checks, id: u32, head: &Head) -> Check {
        let sent = &mut self.requests[id as usize];
        if sent.apps & self.tainted != 0 {
            return Ok(());
        }
        let line = || show(&head.line);
        let hint = head.get("X-Hint").and_then(number);
        let hint = hint.and_then(|hint| self.hints.get_mut(hint as usize));
        let mine = hint.filter(|hint| hint.request == id && hint.status == head.status());
        let Some(hint) = mine else {
            let message = format!("a 1xx that nobody said for request {id}: {}", line());
            return checks.result(Invariant::Informed, Err(message));
        };
        let again = std::mem::replace(&mut hint.seen, true);
        checks.that(Invariant::Informed, !again, || {
            format!("request {id} gets the same 1xx twice: {}", line())
        })?;
        let told = *sent.informed[usize::from(hint.status != 100)].get_or_insert(hint.head);
        checks.that(Invariant::Informed, told == hint.head, || {
            format!("request {id} gets a 1xx of one attempt after that of another: {}", line())
        })?;
        checks.that(Invariant::Informed, sent.answered.is_none(), || {
            format!("request {id} gets a 1xx after its answer: {}", line())
        })?;
        let http10 = sent.request.http10;
        checks.that(Invariant::Bodies, !http10, || "a 1xx to an HTTP/1.0 client".to_owned())
    }

    /// This engine has read the heads of these requests from another.
    pub(super) fn note_between(&mut self, came: &[u32], engine: u16, now: Time) {
        for &id in came {
            if let Some(sent) = self.requests.get_mut(id as usize) {
                sent.between.get_or_insert((now, engine));
            }
        }
    }

    /// A request reached an app. May it?
    pub(super) fn attempt(
        &mut self,
        checks: &mut Checks,
        mix: &Mix,
        id: u32,
        app: u16,
        stamp: Stamp,
    ) -> Check {
        let hops = self.hops;
        let sent = &mut self.requests[id as usize];
        sent.attempts += 1;
        sent.serving = Some(app);
        if sent.wild {
            return Ok(());
        }
        let (attempts, method) = (sent.attempts, sent.request.method);
        checks.that(Invariant::Routed, !sent.unrouted, || {
            format!("request {id}, a {method} that no route matches, goes to app {app}")
        })?;
        let route = sent.route.map(|index| &mut self.routes[index]);
        // Each engine may send a request again once, if it met a connection that was dead.
        let most = match &route {
            Some(route) => route.most_attempts(method, hops),
            None if is_idempotent(method) => 1 << hops,
            None => 1,
        };
        checks.that(Invariant::EndsOnce, attempts <= most, || {
            format!("request {id}, a {method}, reaches apps {attempts} times")
        })?;
        // What was sent before may still be on its way.
        let prompt = !mix.has_any(DELAYS) && attempts > 1;
        let late = prompt && sent.answered.is_some_and(|answered| stamp.tick > answered.tick);
        checks.that(Invariant::EndsOnce, !late, || {
            format!("request {id} is sent again after its answer began")
        })?;
        // Those that should be met there are others, or would not let it in.
        let closed = self.closed >> app & 1 == 1;
        let invariant = if closed { Invariant::Identified } else { Invariant::Load };
        checks.that(invariant, sent.apps >> app & 1 == 1, || {
            format!("request {id}, for {:?}, goes to app {app}", sent.request.authority)
        })?;
        let known = sent.fed.is_some() || mix.has(Fault::BlackHole);
        checks.that(Invariant::Bodies, known, || {
            format!("request {id} reaches an app before the proxy had it")
        })?;
        // On a connection of its own it began when it came. On the way it may wait for a connect.
        if let (true, Some(limit), Some(fed)) = (sent.stream, sent.deadline, sent.fed)
            && !mix.has_any(DELAYS)
            && !mix.has_any(WAITS)
        {
            let due = fed + limit + mix.slack() + Duration::from_nanos(10 * mix.latency);
            checks.that(Invariant::Deadlines, stamp.at <= due, || {
                format!("request {id} is sent at {:?}, and was due at {due:?}", stamp.at)
            })?;
        }
        let shared = sent.route.is_some_and(|route| self.routes[route].is_shared());
        let prompt = mix.guarded && mix.is_prompt() && !self.limits.delays(app);
        if let Some(via) = sent.engine.filter(|_| prompt) {
            let named = sent.request.authority.as_deref().map(Arc::from);
            let of_split = sent.route.map(|route| self.routes[route].route.split.backends());
            let mut services: Vec<Arc<str>> =
                of_split.into_iter().flatten().map(|to| Arc::clone(&to.service)).collect();
            if services.is_empty() {
                services.extend(named);
            }
            let places: Vec<_> =
                self.places.iter().filter(|place| place.1 == app).map(|place| place.0).collect();
            // A request that was given to the endpoint before has arrived by then.
            let grace = Time::ZERO + mix.slack() + Duration::from_nanos(40 * mix.latency);
            let watch = &mut self.watches[usize::from(via)];
            watch.came(checks, [stamp.at, grace], &services, &places)?;
        }
        if attempts == 1 && !shared {
            let watch = sent.engine.filter(|_| mix.guarded);
            let watch = watch.and_then(|via| self.watches.get(usize::from(via)));
            self.shares.came(checks, mix, sent, app, stamp.at, watch)?;
        }
        let settled = sent
            .engine
            .zip(sent.fed)
            .is_some_and(|(engine, fed)| self.shares.is_settled(usize::from(engine), fed));
        if let Some(route) = sent.route.map(|index| &mut self.routes[index]) {
            let (shares, via) = (&self.shares, sent.engine.zip(sent.fed));
            // Where endpoints are judged, shares are those of services that have one to ask.
            let open = !mix.guarded
                || via.is_some_and(|(engine, fed)| {
                    let mut names = route.shared_out();
                    names.all(|name| shares.is_open(usize::from(engine), name, fed))
                });
            let proxies = self.outbound / mix.workers;
            route.came(checks, mix, sent, app, [settled, open], stamp.at, proxies)?;
        }
        let at = [id as usize, usize::from(app)];
        let flags = [settled, shared];
        if settled && !shared && is_exact(mix) {
            self.shares.check_load(checks, &self.requests, at, stamp.at)?;
        }
        self.limits.came(checks, mix, &self.requests, at, flags, stamp.at)
    }

    /// The head of an answer came that was written at `stamp`: not after the deadline, if the proxy
    /// could write, which it last could not at `blocked`. `since`: when the answer before it on the
    /// connection was over, if that is known.
    pub(super) fn check_answer_time(
        &mut self,
        checks: &mut Checks,
        mix: &Mix,
        id: u32,
        since: Option<Time>,
        stamp: Stamp,
        blocked: Time,
    ) -> Check {
        let sent = &mut self.requests[id as usize];
        sent.answered.get_or_insert(stamp);
        // Without a body it is complete, and nothing of it moves any more.
        let alone = sent.request.body == Body::Nothing;
        let quiet = alone && !sent.hinted;
        let route = sent.route.map(|index| &self.routes[index].route);
        // A retry has a time of its own for its head, and something moves.
        let gated = mix.has_any(Faults::of(&[Fault::Gates, Fault::Adaptive]));
        let once = route.is_none_or(|route| route.retry.is_none()) && !gated;
        let idle = route.and_then(|route| route.timeouts.idle).or(self.idle);
        let limits = [
            sent.deadline,
            self.response_headers.filter(|_| alone && once),
            route.and_then(|route| route.timeouts.response).filter(|_| alone && !gated),
            idle.filter(|_| quiet && once),
        ];
        let limit = limits.into_iter().flatten().min();
        let (Some(limit), Some(fed), false) = (limit, sent.fed, sent.wild) else {
            return Ok(());
        };
        let Some(since) = since.filter(|_| fed > blocked) else { return Ok(()) };
        let due = fed.max(since) + limit + mix.slack();
        checks.that(Invariant::Deadlines, stamp.at <= due, || {
            format!("request {id} is answered at {:?}, and was due at {due:?}", stamp.at)
        })
    }

    /// More of the body of an answer to request `id` came, after what came `before`: not after
    /// nothing moved for too long, if the proxy could write.
    pub(super) fn check_pause(
        &self,
        checks: &mut Checks,
        mix: &Mix,
        id: u32,
        [before, now]: [Stamp; 2],
        blocked: Time,
    ) -> Check {
        let sent = &self.requests[id as usize];
        let alone = sent.request.body == Body::Nothing && !sent.wild;
        let route = sent.route.map(|index| &self.routes[index].route);
        let idle = route.and_then(|route| route.timeouts.idle).or(self.idle);
        let Some(idle) = idle.filter(|_| alone && before.at > blocked) else {
            return Ok(());
        };
        let due = before.at + idle + mix.slack();
        checks.that(Invariant::Deadlines, now.at <= due, || {
            format!("the answer to {id} goes on at {:?}, and was due at {due:?}", now.at)
        })
    }

    /// How many requests for a service an engine may have sent for the first time since `began`: those
    /// that were not over by then.
    pub(super) fn firsts(&self, service: &str, engine: u16, began: Time) -> usize {
        // Of a client that gave it up it may be read later.
        let lasts = |sent: &Sent| match sent.ended {
            Some(Ended::Given | Ended::Lost) | None => true,
            Some(_) => sent.over.is_none_or(|over| over >= began),
        };
        let all = self.requests.iter().filter(|sent| {
            let mine = sent.engine.is_none_or(|mine| mine == engine);
            mine && sent.fed.is_some() && sent.request.authority.as_deref() == Some(service)
        });
        all.filter(|sent| lasts(sent)).count()
    }

    /// An engine says that a peer broke a rule of HTTP/2. May one have?
    pub(super) fn accuse(&mut self, checks: &mut Checks, mix: &Mix, violation: Violation) -> Check {
        let late = matches!(
            violation,
            Violation::SettingsTimeout | Violation::PingTimeout | Violation::HeaderTimeout
        );
        self.impatient |= late;
        let causes = if late { LATE } else { HOSTILE };
        checks.that(Invariant::Bodies, mix.has_any(causes), || {
            format!("an honest peer is accused: {violation:?}")
        })
    }

    /// A request is over, in one way.
    pub(super) fn end(&mut self, checks: &mut Checks, id: u32, how: Ended, now: Time) -> Check {
        let sent = &mut self.requests[id as usize];
        sent.over.get_or_insert(now);
        let before = sent.ended.replace(how);
        checks.that(Invariant::EndsOnce, before.is_none(), || {
            format!("request {id} ends twice: {before:?}, then {how:?}")
        })
    }
}
