//! Streams to endpoints: which connection carries them, and what waits for one.

use alloc::boxed::Box;
use alloc::collections::VecDeque;
use alloc::sync::Arc;
use alloc::vec::Vec;

use crate::engine::Engine;
use crate::engine::conn::{Conn, Http2, State};
use crate::engine::contract::ConnId;
use crate::engine::exchange::{ExchangeId, Speaks, Switch};
use crate::engine::mesh::{Endpoint, Health};
use crate::error::Reason;
use crate::http::{Fate, Fields, Request, Span, TargetForm, grpc, websocket};
use crate::http1;
use crate::http2::{Connection, ErrorCode};
use crate::limits::Limits;
use crate::policy::HeaderChanges;
use crate::time::{Duration, Time};
use crate::tls::transport_header::SessionProtocol;

/// Streams that we open on one connection, whatever the endpoint allows.
const STREAMS: usize = 256;

/// Connections to one endpoint. With [`STREAMS`]: 16,384 requests at once.
const CONNECTIONS: usize = 64;

/// A stream whose response nobody has taken a byte of for so long makes room for others, where there
/// is none.
pub(super) const STALLED: Duration = Duration::from_secs(1);

/// What a call may have waited without its `grpc-timeout` being another: the least that most say.
const GRACE: Duration = Duration::from_millis(1);

/// Where the next stream to an endpoint goes.
enum Choice {
    /// This connection has room.
    Ready(u32),
    /// One will.
    Wait,
    /// None will, here.
    Elsewhere,
    /// None will.
    Refuse(Reason),
}

impl Engine {
    /// Gives an exchange a stream to its endpoint, or lets it wait for one.
    pub(in crate::engine) fn assign_stream(
        &mut self,
        id: ExchangeId,
        endpoint: u32,
        request: Option<&Request<'_>>,
    ) {
        match self.choose(endpoint, self.needs_settings(id)) {
            Choice::Ready(index) => self.attach_stream(id, index, request),
            Choice::Wait => {
                if let Some(target) = self.mesh.endpoints.get_mut(endpoint as usize) {
                    target.waiting.push_back(id);
                }
            }
            Choice::Elsewhere => self.not_connected(id, Reason::ConnectFailed, false, false),
            Choice::Refuse(reason) => self.fail(id, reason),
        }
    }

    /// Has an endpoint to say first whether it knows extended CONNECT, or, to one that was refused,
    /// how many streams it takes?
    fn needs_settings(&self, id: ExchangeId) -> bool {
        let exchange = self.exchanges.get(id);
        exchange.is_some_and(|exchange| exchange.traits.upgrade || exchange.progress.replays > 0)
    }

    /// `settled`: only where SETTINGS have come.
    fn choose(&mut self, endpoint: u32, settled: bool) -> Choice {
        let certified = self.is_certified();
        let conns = &self.conns;
        let Some(target) = self.mesh.endpoints.get_mut(endpoint as usize) else {
            return Choice::Refuse(Reason::ConnectFailed);
        };
        let (mut connecting, mut live) = (0, 0);
        for &id in &target.multiplexed {
            let state = conns.find(id).map(|conn| &conn.state);
            live += usize::from(matches!(state, Some(State::Http2(_) | State::Connecting(_))));
            match state {
                Some(State::Http2(http2)) if settled && !http2.connection.is_ready() => {
                    connecting += 1;
                }
                Some(State::Http2(http2)) if has_room(&http2.connection, &self.http2) => {
                    return Choice::Ready(id.index);
                }
                Some(State::Connecting(_)) => connecting += 1,
                _ => {}
            }
        }
        let exchanges = &self.exchanges;
        if target.waiting.len() >= self.config.limits.queue {
            target.waiting.retain(|&id| exchanges.get(id).is_some());
        }
        if target.waiting.len() >= self.config.limits.queue {
            return Choice::Refuse(Reason::QueueFull);
        }
        if target.waiting.len() < connecting * STREAMS {
            return Choice::Wait;
        }
        let unreachable = target.mesh.is_some() && !certified;
        if target.removed || unreachable || matches!(target.health, Health::Down { .. }) {
            return Choice::Elsewhere;
        }
        if live < CONNECTIONS && self.conns.len() < self.config.limits.connections {
            self.connect_http2(endpoint);
            return Choice::Wait;
        }
        match self.relieve(endpoint) {
            Some(index) => Choice::Ready(index),
            None if live > 0 => Choice::Wait,
            None => Choice::Refuse(Reason::ConnectionLimit),
        }
    }

    /// No more connections may be opened, and those that there are hold too much that nobody reads:
    /// on the one that holds least, resets streams that do not move, the longest-stalled first, until
    /// there is room. One client's stalled streams must not starve another.
    fn relieve(&mut self, endpoint: u32) -> Option<u32> {
        let crowded = |id: &ConnId| {
            let connection = self.conns.find(*id)?.http2()?;
            let full = connection.capacity() == 0 || connection.open_streams() >= STREAMS;
            (!full).then_some((connection.held(), id.index))
        };
        let target = self.mesh.endpoints.get(endpoint as usize)?;
        let (_, index) = target.multiplexed.iter().filter_map(crowded).min()?;
        loop {
            let connection = self.conns.get(index)?.http2()?;
            if has_room(connection, &self.http2) {
                return Some(index);
            }
            let stalled = self.exchanges_of(index).into_iter().filter_map(|(stream, id)| {
                let last = self.exchanges.get(id)?.last;
                let stalled = connection.stream_held(stream) > 0 && last + STALLED <= self.now;
                stalled.then_some((last, stream, id))
            });
            let oldest = stalled.min_by_key(|&(last, stream, _)| (last, stream));
            let Some((_, stream, id)) = oldest else {
                self.timers.conns.set(index, self.now + STALLED);
                return None;
            };
            let up = self.conns.id(index)?;
            self.with_http2(up, |connection, tx| connection.reset(tx, stream, ErrorCode::CANCEL));
            if let Some(exchange) = self.exchanges.get_mut(id) {
                // The place is for the one that it is made for.
                exchange.up = None;
                exchange.up_stream = None;
            }
            self.fail(id, Reason::StreamStalled);
        }
    }

    /// Opens a connection that HTTP/2 will be spoken on.
    fn connect_http2(&mut self, endpoint: u32) {
        let Some(id) = self.connect(endpoint, None) else { return };
        if let Some(conn) = self.conns.get_mut(id.index) {
            conn.flags.http2 = true;
        }
        if let Some(target) = self.mesh.endpoints.get_mut(endpoint as usize) {
            target.multiplexed.push(id);
        }
    }

    /// An endpoint's last connection is gone, and requests failed with it: is it the connection that
    /// was too old, or is the endpoint no more? A connect finds out. The balancer would not for long:
    /// it shuns what failed.
    pub(super) fn look_again(&mut self, endpoint: u32) {
        let draining = self.is_draining();
        let Some((service, target)) = self.mesh.service_of(endpoint) else { return };
        let known = target.removed || matches!(target.health, Health::Down { .. });
        let room = self.conns.len() < self.config.limits.connections;
        if target.multiplexed.is_empty() && !(known || service.kind.is_fixed()) && room && !draining
        {
            self.connect_http2(endpoint);
        }
    }

    /// A connection that HTTP/2 will be spoken on is connected.
    pub(in crate::engine) fn http2_connected(&mut self, index: u32) {
        let (config, now) = (Arc::clone(&self.http2), self.now);
        let age = self.config.timeouts.connection_age;
        // Those that were opened together do not all end together.
        let retires = now + age / 1024 * (1024 - self.rng.below(205) as u32);
        self.put_transport_header(index, Some(SessionProtocol::Http2));
        let Some(conn) = self.conns.get_mut(index) else { return };
        conn.tx.furnish(&mut self.spare);
        let connection = Connection::client(config, &mut conn.tx, now);
        conn.state = State::Http2(Box::new(Http2::new(connection, retires)));
        conn.flags.dirty = true;
        let endpoint = conn.endpoint;
        self.touch(index);
        self.serve_waiting_of(index);
        let target = endpoint.and_then(|endpoint| self.mesh.endpoints.get(endpoint as usize));
        if target.is_some_and(|target| target.removed && target.waiting.is_empty())
            && let Some(id) = self.conns.id(index)
        {
            self.forget_multiplexed(endpoint.unwrap_or(u32::MAX), index);
            self.with_http2(id, |connection, tx| connection.shut_down(tx, now));
        }
        self.rearm_http2(index);
    }

    /// A connect failed: whoever waited for it waits for another connection, or goes elsewhere, which
    /// must be known by now not to be here.
    pub(in crate::engine) fn http2_unconnected(
        &mut self,
        endpoint: u32,
        index: u32,
        reason: Reason,
        ours: bool,
    ) {
        self.forget_multiplexed(endpoint, index);
        let Some(target) = self.mesh.endpoints.get_mut(endpoint as usize) else { return };
        if !target.multiplexed.is_empty() {
            return;
        }
        // One connect failed, however many waited for it.
        for (nth, id) in core::mem::take(&mut target.waiting).into_iter().enumerate() {
            self.not_connected(id, reason, ours, nth == 0);
        }
    }

    /// A connection ended before its endpoint said a word of HTTP/2. Those that wait for SETTINGS
    /// would wait for those of one connection after another: what is to become another protocol is
    /// asked for in HTTP/1, what was sent before fails.
    pub(super) fn give_up_settings(&mut self, endpoint: u32, index: u32, reason: Reason) {
        if self.conns.get(index).and_then(Conn::http2).is_none_or(Connection::is_ready) {
            return;
        }
        let Some(target) = self.mesh.endpoints.get_mut(endpoint as usize) else { return };
        let waiting = core::mem::take(&mut target.waiting);
        let (settings, others): (VecDeque<_>, VecDeque<_>) =
            waiting.into_iter().partition(|&id| self.needs_settings(id));
        if let Some(target) = self.mesh.endpoints.get_mut(endpoint as usize) {
            target.waiting = others;
        }
        for id in settings {
            match self.exchanges.get(id) {
                Some(exchange) if exchange.endpoint != Some(endpoint) => {}
                Some(exchange) if exchange.traits.upgrade => self.go_apart(id, None),
                _ => self.fail(id, reason),
            }
        }
    }

    /// A connection is no longer one that streams can be opened on.
    pub(super) fn forget_multiplexed(&mut self, endpoint: u32, index: u32) {
        if let Some(target) = self.mesh.endpoints.get_mut(endpoint as usize) {
            target.multiplexed.retain(|id| id.index != index);
        }
    }

    /// There is room on a connection: those that wait for it are served.
    pub(in crate::engine) fn serve_waiting_of(&mut self, index: u32) {
        let Some(endpoint) = self.conns.get(index).and_then(|conn| conn.endpoint) else { return };
        let going = self.conns.get(index).and_then(Conn::http2).is_some_and(Connection::is_going);
        if going {
            self.forget_multiplexed(endpoint, index);
        }
        self.serve_waiting(endpoint);
    }

    /// Those that wait for a stream to an endpoint get one, if there is room anywhere.
    pub(in crate::engine) fn serve_waiting(&mut self, endpoint: u32) {
        loop {
            let Some(target) = self.mesh.endpoints.get_mut(endpoint as usize) else { return };
            let Some(&id) = target.waiting.front() else { return };
            if self.exchanges.get(id).is_none_or(|exchange| exchange.endpoint != Some(endpoint)) {
                target.waiting.pop_front();
                continue;
            }
            // It is among those that wait: no connect is made for it twice.
            let waiting = target.waiting.pop_front();
            match self.choose(endpoint, self.needs_settings(id)) {
                Choice::Ready(index) => self.attach_stream(id, index, None),
                Choice::Wait => {
                    let target = self.mesh.endpoints.get_mut(endpoint as usize);
                    if let (Some(target), Some(id)) = (target, waiting) {
                        target.waiting.push_front(id);
                    }
                    return;
                }
                Choice::Elsewhere => self.not_connected(id, Reason::ConnectFailed, false, false),
                Choice::Refuse(reason) => self.fail(id, reason),
            }
        }
    }

    /// Those that wait for an endpoint that is no more go elsewhere.
    pub(in crate::engine) fn serve_waiting_of_removed(&mut self) {
        let stranded = |target: &Endpoint| target.removed && !target.waiting.is_empty();
        let all = self.mesh.endpoints.iter();
        let all = all.filter(|(_, target)| stranded(target)).map(|(index, _)| index as u32);
        for endpoint in all.collect::<Vec<u32>>() {
            self.serve_waiting(endpoint);
            self.forget_removed(endpoint);
        }
    }

    /// Opens a stream for an exchange. `request`: its head, if it has just been read; else it is
    /// read again from what was kept of it.
    fn attach_stream(&mut self, id: ExchangeId, index: u32, request: Option<&Request<'_>>) {
        let connects = self
            .conns
            .get(index)
            .and_then(Conn::http2)
            .is_some_and(|connection| connection.peer_settings().enable_connect_protocol);
        let Some(exchange) = self.exchanges.get_mut(id) else { return };
        if exchange.traits.upgrade && !connects {
            return self.go_apart(id, request);
        }
        let complete = exchange.progress.request_done && !exchange.is_tunnel();
        if complete {
            // What was kept of a request without a body: its head ends the stream, or who forwards
            // it in HTTP/1 would chunk nothing.
            let pending = &mut exchange.pending;
            pending.take_if(|body| body.queue.unsent() == 0 && body.trailers.is_none());
        }
        let end = complete && exchange.pending.is_none();
        if let Some(request) = request {
            return self.open_stream(id, index, request, end);
        }
        let sensitive = exchange.traits.sensitive;
        let kept = core::mem::take(&mut exchange.request);
        let mut scratch = core::mem::take(&mut self.scratch);
        // It has passed all limits, in a form that was a little shorter.
        let limits = Limits {
            header_bytes: usize::MAX,
            header_count: Limits::MAX_HEADER_COUNT,
            target_bytes: usize::MAX,
            ..self.config.limits.clone()
        };
        match http1::parse_request(kept.appended(), &mut scratch, &limits) {
            Ok(request) if sensitive => {
                self.open_stream(id, index, &hide(&request, &mut Vec::new()), end);
            }
            Ok(request) => self.open_stream(id, index, &request, end),
            Err(reason) => self.fail(id, reason),
        }
        self.scratch = scratch;
        if let Some(exchange) = self.exchanges.get_mut(id) {
            exchange.request = kept;
        }
    }

    /// A request gets a connection of its own, in HTTP/1: one that is to become another protocol, to
    /// an endpoint that does not know extended CONNECT; one of HTTP/1 that might have gone to a mesh
    /// proxy, to an endpoint that is none.
    pub(in crate::engine) fn go_apart(&mut self, id: ExchangeId, request: Option<&Request<'_>>) {
        let Some(exchange) = self.exchanges.get_mut(id) else { return };
        let Some(endpoint) = exchange.endpoint else { return };
        exchange.traits.speaks = Speaks::Http1;
        let down = exchange.down;
        let kept = core::mem::take(&mut exchange.request);
        self.buffered -= core::mem::take(&mut exchange.charged);
        let absolute = self.conns.find(down).is_some_and(|down| down.original_dst.is_some());
        if let Some(request) = request {
            self.encode(id, request, absolute);
        } else {
            let mut scratch = core::mem::take(&mut self.scratch);
            let limits = Limits { header_bytes: usize::MAX, ..self.config.limits.clone() };
            if let Ok(request) = http1::parse_request(kept.appended(), &mut scratch, &limits) {
                self.encode(id, &request, absolute);
            }
            self.scratch = scratch;
        }
        self.assign_connection(id, endpoint);
    }

    /// Opens a stream. A call that has waited, or was tried before, says how much of its time is left.
    fn open_stream(&mut self, id: ExchangeId, index: u32, request: &Request<'_>, end: bool) {
        let exchange = self.exchanges.get(id);
        let timed = exchange.filter(|exchange| exchange.deadline != Time::MAX);
        let waited = timed.filter(|exchange| self.now >= exchange.started + GRACE);
        let Some(exchange) = waited else { return self.send_head(id, index, request, end) };
        let left = grpc::put_timeout(exchange.deadline - self.now);
        let set = [("grpc-timeout".into(), left.into())].into();
        let changes = HeaderChanges { set, ..HeaderChanges::default() };
        let mut edited = core::mem::take(&mut self.edited);
        let mut request = *request;
        request.head.fields = edited.apply(request.head.fields, &changes);
        self.send_head(id, index, &request, end);
        self.edited = edited;
    }

    fn send_head(&mut self, id: ExchangeId, index: u32, request: &Request<'_>, end: bool) {
        let now = self.now;
        let client = self.client_id(id);
        let Some(exchange) = self.exchanges.get_mut(id) else { return };
        let fallback = self.mesh.services.get(exchange.service as usize);
        let name = fallback.map_or(&b""[..], |service| service.name.as_bytes());
        let host = request.authority.unwrap_or(name);
        let mut request = *request;
        request.client_id = client.as_ref().map(|client| client.as_str().as_bytes());
        request.origin = match exchange.traits.speaks {
            Speaks::Mesh if exchange.down_stream.is_none() => Some(exchange.traits.client),
            _ => None,
        };
        let redirected =
            self.conns.find(exchange.down).is_some_and(|down| down.original_dst.is_some());
        if request.form == TargetForm::Absolute && !redirected {
            // It meant us: see `Engine::encode`.
            request.form = TargetForm::Origin;
        }
        if request.upgrade && exchange.down_stream.is_none() {
            let protocol = request.protocol().unwrap_or_default();
            let accept = websocket::find_key(&request).map(websocket::accept);
            exchange.switch = Some(Box::new(Switch { protocol: protocol.into(), accept }));
        }
        let Some(conn_id) = self.conns.id(index) else { return };
        let Some(conn) = self.conns.get_mut(index) else { return };
        let State::Http2(http2) = &mut conn.state else { return };
        let reused = http2.served && http2.connection.open_streams() == 0;
        http2.served = true;
        conn.tx.furnish(&mut self.spare);
        let connection = &mut http2.connection;
        let opened = connection.send_request(&mut conn.tx, &request, host, end, id.token(), now);
        let Some(stream) = opened else { return self.fail(id, Reason::QueueFull) };
        if exchange.retry().is_some() {
            connection.retain_body_to_the_end(stream);
        } else {
            connection.retain_body(stream);
        }
        exchange.up = Some(conn_id);
        exchange.up_stream = Some(stream);
        exchange.progress.reused = reused;
        // The first bytes of a tunnel wait until it is one.
        if !exchange.is_tunnel()
            && let Some(mut pending) = exchange.pending.take()
        {
            let n = pending.queue.unsent();
            exchange.charged -= n;
            self.buffered -= n;
            let done = exchange.progress.request_done;
            if let Some(body) = connection.body(stream) {
                pending.queue.pass(body, n);
            }
            connection.body_added(stream, n, done && pending.trailers.is_none());
            if let Some(section) = pending.trailers {
                // They were checked when they came.
                let _ = connection.send_trailers(&mut conn.tx, stream, &section);
            }
        }
        conn.flags.dirty = true;
        let down = exchange.down;
        self.touch(index);
        self.touch_id(down);
    }

    /// Connections of an endpoint that is gone, or down, take no more streams.
    pub(in crate::engine) fn retire_multiplexed(&mut self, endpoint: u32) {
        let now = self.now;
        let Some(target) = self.mesh.endpoints.get_mut(endpoint as usize) else { return };
        for id in core::mem::take(&mut target.multiplexed) {
            let retired = self.with_http2(id, |connection, tx| connection.shut_down(tx, now));
            if retired.is_none()
                && self.conns.find(id).is_some()
                && let Some(target) = self.mesh.endpoints.get_mut(endpoint as usize)
            {
                // It is being connected, for those that wait.
                target.multiplexed.push(id);
            }
        }
    }
}

/// May another stream be opened here? Not where streams that nobody reads hold half of what the
/// endpoint may send.
fn has_room(connection: &Connection, config: &crate::http2::Config) -> bool {
    connection.capacity() > 0
        && connection.open_streams() < STREAMS
        && connection.held() <= config.connection_window as usize / 2
}

/// The same request with no field that may be indexed: which one must not is not known any more.
fn hide<'a>(request: &Request<'a>, spans: &'a mut Vec<Span>) -> Request<'a> {
    spans.extend_from_slice(request.head.fields.spans);
    for span in spans.iter_mut().filter(|span| span.fate != Fate::Dropped) {
        span.fate = Fate::Sensitive;
    }
    let mut hidden = *request;
    hidden.head.fields = Fields { buf: request.head.fields.buf, spans };
    hidden
}
