//! The client's side: detection, requests, request bodies.

use bytes::{Buf, BytesMut};

use super::Engine;
use super::body::{BodyStep, Carried, Outgoing, carry};
use super::conn::{Server, ServerPhase, State};
use super::contract::{ConnId, Direction};
use super::exchange::{ExchangeId, Kind, Speaks, Traits};
use super::gate::Passage;
use super::mirror::Copied;
use super::policy::Selected;
use super::relay;
use crate::config::Timeouts;
use crate::error::Reason;
use crate::http::{Known, grpc, websocket};
use crate::http1::{self, BodyDecoder, Framing, HeadScanner, Request, RequestRewrite, TargetForm};
use crate::limits::Limits;
use crate::sniff::Protocol;

/// Requests of one connection that are begun in one go: a pipeline of requests that we answer
/// ourselves does not hold up everybody else.
const PIPELINE_BATCH: usize = 16;

/// Whether a part of the machine can go on with what it has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// There may be more to do.
    More,
    /// Something else has to happen first.
    Blocked,
}

impl Engine {
    // ---- Detection ----

    /// Looks at the first bytes of a connection.
    pub(super) fn drive_detect(&mut self, index: u32) {
        let now = self.now;
        let draining = self.is_draining();
        let Some(conn) = self.conns.get_mut(index) else { return };
        let State::Detect(detect) = &mut conn.state else { return };
        if conn.rx.is_empty() {
            if conn.flags.eof {
                // Nobody said anything: a health check's connect, or a client that gave up.
                conn.state = State::Closing;
            } else if draining {
                // Its first bytes may be on their way.
                self.timers.conns.set(index, now + Timeouts::LINGER);
            }
            return;
        }
        let since = *detect.since.get_or_insert(now);
        let stats = &mut self.directions[conn.direction as usize].detect;
        let protocol = match detect.sniffer.sniff(&conn.rx) {
            None => return self.expect_beginning(index),
            Some(Protocol::Tls) => return self.drive_hello(index),
            Some(protocol) => protocol,
        };
        stats.duration.record(now - detect.accepted);
        match protocol {
            Protocol::Http1 => {
                stats.http1 += 1;
                conn.state = State::Server(Server::default());
                self.timers.conns.set(index, since + self.config.timeouts.header);
                self.drive_server(index);
            }
            Protocol::Http2 => {
                stats.http2 += 1;
                self.begin_http2(index);
            }
            Protocol::Tls | Protocol::Opaque => {
                stats.opaque += 1;
                self.begin_opaque(index);
            }
        }
    }

    /// What came could become more than one thing.
    pub(super) fn expect_beginning(&mut self, index: u32) {
        let Some(conn) = self.conns.get(index) else { return };
        let State::Detect(detect) = &conn.state else { return };
        if conn.flags.eof {
            // What came is all there will be: no allowed continuation is left.
            return self.give_up_detection(index);
        }
        // A beginning that could become HTTP or TLS is waited for briefly, and not for ever by drips.
        let timeouts = &self.config.timeouts;
        let since = detect.since.unwrap_or(self.now);
        let due = (self.now + timeouts.detect_prefix).min(since + timeouts.header);
        self.timers.conns.set(index, due);
    }

    /// Forwards a connection untouched, to wherever it wanted to go.
    pub(super) fn begin_opaque(&mut self, index: u32) {
        let Some(conn) = self.conns.get(index) else { return };
        let (direction, original_dst) = (conn.direction, conn.original_dst);
        let way = self
            .authorize(index)
            .and_then(|()| self.route_unnamed(direction, original_dst, Reason::OpaqueNowhere));
        match way {
            Ok(service) => self.begin_tunnel(index, service, None),
            Err(reason) => self.close_unserved(index, reason),
        }
    }

    // ---- HTTP/1 ----

    /// Takes what a client sent as far as it goes.
    pub(super) fn drive_server(&mut self, index: u32) {
        for _ in 0..PIPELINE_BATCH {
            let Some(conn) = self.conns.get(index) else { return };
            let State::Server(server) = &conn.state else { return };
            let step = match server.phase {
                ServerPhase::Head(_) => self.drive_request_head(index),
                ServerPhase::Body(_) => self.drive_request_body(index),
                ServerPhase::Wait => Step::Blocked,
            };
            if step == Step::Blocked {
                return;
            }
        }
        self.touch(index);
    }

    fn drive_request_head(&mut self, index: u32) -> Step {
        let draining = self.is_draining();
        let Some(conn) = self.conns.get_mut(index) else { return Step::Blocked };
        let State::Server(Server { phase: ServerPhase::Head(scanner), .. }) = &mut conn.state
        else {
            return Step::Blocked;
        };
        if conn.rx.is_empty() {
            if conn.flags.eof {
                conn.state = State::Closing;
            } else if draining {
                // A request that crosses our FIN must not meet a reset.
                self.linger(index);
            }
            return Step::Blocked;
        }
        if conn.tx.unsent() > self.config.limits.stream_buffer {
            // It pipelines and does not read the answers.
            return Step::Blocked;
        }
        let fresh = !scanner.started();
        let mut scanner = core::mem::take(scanner);
        let id = conn.id(index);
        let eof = conn.flags.eof;
        let full = self.buffered >= self.config.limits.buffer_bytes;
        let mut rx = core::mem::take(&mut conn.rx);
        let mut scratch = core::mem::take(&mut self.scratch);
        let limits = &self.config.limits;
        let step = match http1::receive_request(&mut scanner, &rx, &mut scratch, limits) {
            Err(reason) => {
                assert!(!(canary!(Panic) && reason == Reason::ControlCharacter), "canary");
                self.refuse(index, reason);
                Step::Blocked
            }
            Ok(Some((len, ref request))) => {
                self.timers.conns.clear(index);
                self.accept_request(index, request);
                rx.advance(len);
                Step::More
            }
            Ok(None) => {
                if let Some(conn) = self.conns.get_mut(index) {
                    if draining && !scanner.started() {
                        self.linger(index);
                    } else if eof {
                        // Half a head, and nobody left to send the other half.
                        conn.state = State::Closing;
                    } else if let State::Server(server) = &mut conn.state {
                        // Empty lines are no beginning (RFC 9112 §2.2).
                        let begun = fresh && scanner.started();
                        server.phase = ServerPhase::Head(scanner);
                        if begun {
                            let due = self.now + self.config.timeouts.header;
                            self.timers.conns.set(index, due);
                        }
                        if full && rx.len() > Limits::COALESCE_BELOW {
                            // The rest of it would make things worse.
                            self.refuse(index, Reason::BuffersFull);
                        }
                    }
                }
                Step::Blocked
            }
        };
        self.scratch = scratch;
        if let Some(conn) = self.conns.find_mut(id) {
            conn.rx = rx;
        }
        step
    }

    fn accept_request(&mut self, index: u32, request: &Request<'_>) {
        let Some(conn) = self.conns.get_mut(index) else { return };
        let (direction, redirected) = (conn.direction, conn.original_dst.is_some());
        let decoder = BodyDecoder::new(request.framing);
        let complete = decoder.is_done();
        if let State::Server(server) = &mut conn.state {
            server.phase = if complete { ServerPhase::Wait } else { ServerPhase::Body(decoder) };
        }
        self.direction(direction).requests += 1;
        let mut traits = Traits {
            client: request.head.version,
            framing: request.framing,
            keep_alive: request.keep_alive,
            is_head: request.is_head,
            is_connect: request.is_connect,
            upgrade: request.upgrade,
            expect_continue: request.expect_continue,
            idempotent: request.idempotent,
            grpc: request.grpc,
            speaks: Speaks::Http1,
            sensitive: false,
            keyless: false,
            marked: false,
            passage: Passage::Done,
            at_port: false,
        };
        if request.is_connect && !redirected {
            return self.connect_to_us(index, request, traits);
        }
        // A CONNECT that was redirected to us is meant for the proxy that it was sent to.
        let authority = request.authority.filter(|_| !request.is_connect);
        let selected = match self.select(index, request, authority) {
            Ok(selected) => selected,
            Err(reason) => return self.answer_unserved(index, reason, &traits),
        };
        if let Some(refused) = self.limit_rate(index) {
            self.collect_service(selected.service);
            return self.answer_fixed(index, &refused, &traits);
        }
        if !request.is_connect {
            traits.speaks = self.speaks(selected.service, Speaks::Http1);
        }
        if request.upgrade && !websocket::fits_stream(request) {
            traits.speaks = Speaks::Http1;
        }
        let Some(route) = selected.acting_route() else {
            return self.begin_request(index, request, selected, traits);
        };
        match self.fixed_answer(&route, request) {
            Some(fixed) => self.answer_fixed(index, &fixed, &traits),
            None => self.with_changes(&route, request, |engine, request| {
                engine.begin_request(index, request, selected, traits);
            }),
        }
    }

    fn begin_request(
        &mut self,
        index: u32,
        request: &Request<'_>,
        selected: Selected,
        traits: Traits,
    ) {
        let is_mirrored = selected.is_mirrored();
        let Selected { service, policy, key } = selected;
        let Some(down) = self.conns.id(index) else { return };
        let time = request.grpc.then(|| grpc::timeout(request.head.fields)).flatten();
        let id = match self.begin_exchange(Kind::Http, down, service, traits, time) {
            Ok(id) => id,
            Err(reason) => {
                self.collect_service(service);
                return self.answer_unserved(index, reason, &traits);
            }
        };
        self.set_key(id, key);
        self.set_policy(id, policy);
        let redirected = self.conns.get(index).is_some_and(|conn| conn.original_dst.is_some());
        self.encode(id, request, redirected);
        if let Some(conn) = self.conns.get_mut(index)
            && let State::Server(server) = &mut conn.state
        {
            server.exchange = Some(id);
            if matches!(server.phase, ServerPhase::Wait) {
                self.request_done(id);
            }
        }
        self.dispatch_head(id, Some(request));
        if is_mirrored {
            self.begin_mirror(id, request);
        }
    }

    /// Encodes the request as it goes to whatever endpoint will be chosen. `absolute`: a target in
    /// absolute-form stays one.
    pub(super) fn encode(&mut self, id: ExchangeId, request: &Request<'_>, absolute: bool) {
        let client = self.client_id(id);
        let Some(exchange) = self.exchanges.get_mut(id) else { return };
        let fallback = self.mesh.services.get(exchange.service as usize);
        let host = match (request.authority, fallback) {
            (Some(authority), _) => authority,
            // RFC 9112 §3.3: without a Host, the authority is that of the server.
            (None, Some(service)) => service.name.as_bytes(),
            (None, None) => b"",
        };
        let rewrite = RequestRewrite {
            host,
            // A client that meant this proxy gets the form that origin servers expect; one that was
            // redirected to us may well talk to a forward proxy of its own.
            absolute: absolute && request.form == TargetForm::Absolute,
            upgrade: request.upgrade,
        };
        // An HTTP/1 client without one gets what the endpoint thinks of that.
        let over_http2 = exchange.down_stream.is_some();
        let keyless = over_http2 && request.upgrade && websocket::lacks_key(request);
        exchange.traits.keyless = keyless;
        let key = keyless.then(|| websocket::key(&mut self.rng));
        let queue = &mut exchange.request;
        debug_assert!(queue.is_unused(), "a request is encoded into nothing");
        queue.furnish(&mut self.spare);
        queue.append(|out| match exchange.traits.speaks {
            Speaks::Http1 => {
                http1::encode_request(out, request, &rewrite);
                if let Some(client) = &client {
                    http1::encode_client_id(out, client.as_str().as_bytes());
                }
                if let Some(key) = key {
                    http1::encode_websocket_key(out, &key);
                }
            }
            // How it looks there depends on the connection that it will go to.
            Speaks::Http2 | Speaks::Mesh => keep_head(out, request, host),
        });
        exchange.charged = queue.held();
        self.buffered += exchange.charged;
    }

    /// CONNECT to the listener itself: a tunnel to an endpoint of that authority, never an open
    /// proxy.
    fn connect_to_us(&mut self, index: u32, request: &Request<'_>, traits: Traits) {
        match self.tunnel_service(index, request.authority) {
            Ok(service) => self.begin_tunnel(index, service, Some(&traits)),
            Err(reason) => self.answer_unserved(index, reason, &traits),
        }
    }

    /// The service that a CONNECT to us means.
    pub(super) fn tunnel_service(
        &mut self,
        index: u32,
        authority: Option<&[u8]>,
    ) -> Result<u32, Reason> {
        let service = match self.conns.get(index).map(|conn| conn.direction) {
            Some(Direction::Outbound) => self.named(authority),
            _ => None,
        };
        service.ok_or_else(|| self.unknown(authority))
    }

    // ---- Request bodies ----

    fn drive_request_body(&mut self, index: u32) -> Step {
        let Some(conn) = self.conns.get(index) else { return Step::Blocked };
        let State::Server(Server { exchange: Some(id), .. }) = conn.state else {
            return Step::Blocked;
        };
        match self.exchanges.get(id).and_then(|exchange| exchange.up) {
            Some(up) => match self.move_request_body(index, up, id) {
                Ok(BodyStep::Done) => return Step::More,
                Ok(BodyStep::Starved) => self.body_eof(index, id),
                Ok(BodyStep::Blocked) => {}
                Err(reason) => self.fail(id, reason),
            },
            // Until a connection is there, the body waits in its read buffer.
            None if self.conns.get(index).is_some_and(|conn| conn.rx.is_empty()) => {
                self.body_eof(index, id);
            }
            None => {}
        }
        Step::Blocked
    }

    /// A client that closed in the middle of a body will not complete it.
    fn body_eof(&mut self, index: u32, id: ExchangeId) {
        if self.conns.get(index).is_some_and(|conn| conn.flags.eof) {
            self.fail(id, Reason::ClientGone);
        }
    }

    fn move_request_body(
        &mut self,
        index: u32,
        up: ConnId,
        id: ExchangeId,
    ) -> Result<BodyStep, Reason> {
        let now = self.now;
        let limits = &self.config.limits;
        if self.conns.find(up).is_none() {
            return Ok(BodyStep::Blocked);
        }
        let Some((conn, sink)) = self.conns.pair(index, up.index) else {
            return Ok(BodyStep::Blocked);
        };
        let State::Server(server) = &mut conn.state else { return Ok(BodyStep::Blocked) };
        let ServerPhase::Body(decoder) = &mut server.phase else { return Ok(BodyStep::Blocked) };
        let Some(exchange) = self.exchanges.get_mut(id) else { return Ok(BodyStep::Blocked) };
        let room = limits.stream_buffer;
        let mut copied = exchange.mirror().map(|_| Copied::default());
        let copy = copied.as_mut();
        let carried = match (&mut sink.state, exchange.up_stream) {
            (State::Client(_), _) => {
                let outgoing = match exchange.traits.framing {
                    Framing::Chunked => Outgoing::Chunked,
                    _ => Outgoing::Plain,
                };
                let (rx, tx) = (&mut conn.rx, &mut sink.tx);
                let carried = carry(decoder, rx, tx, outgoing, room, limits, copy);
                let most = exchange.replay_bytes(limits.replay_bytes);
                if sink.tx.is_retaining() && sink.tx.held() > most {
                    sink.tx.release();
                }
                carried
            }
            (State::Http2(http2), Some(stream)) => {
                let (connection, rx) = (&mut http2.connection, &mut conn.rx);
                let tx = &mut sink.tx;
                let carried =
                    relay::carry_to_stream(decoder, rx, connection, tx, stream, limits, copy);
                if connection.stream_kept(stream) > exchange.replay_bytes(limits.replay_bytes) {
                    connection.release_body(stream);
                }
                carried
            }
            _ => return Ok(BodyStep::Blocked),
        };
        if let Some(reason) = carried.error {
            return Err(reason);
        }
        let Carried { moved, done, starved, dropped, .. } = carried;
        self.directions[conn.direction as usize].trailers_dropped += dropped as u64;
        if moved {
            exchange.last = now;
            sink.flags.dirty = true;
            sink.touch(up.index, &mut self.ready);
        }
        if done {
            server.phase = ServerPhase::Wait;
            self.request_done(id);
        }
        if let Some(copied) = copied {
            self.feed_mirror(id, copied, done);
        }
        Ok(BodyStep::of(done, starved))
    }

    /// The whole request was received.
    pub(super) fn request_done(&mut self, id: ExchangeId) {
        if let Some(exchange) = self.exchanges.get_mut(id) {
            exchange.progress.request_done = true;
            exchange.sent = self.now;
            self.rearm(id);
        }
    }

    /// The exchange of a client connection is over: the next request may begin.
    pub(super) fn next_request(&mut self, index: u32) {
        let Some(conn) = self.conns.get_mut(index) else { return };
        if let State::Server(server) = &mut conn.state {
            server.exchange = None;
            server.phase = ServerPhase::Head(HeadScanner::default());
            conn.touch(index, &mut self.ready);
            self.timers.conns.set(index, self.now + self.config.timeouts.keep_alive);
        }
    }
}

/// Keeps a head as it was received, in a form that can be read again: HTTP/1.1 has a Host.
fn keep_head(out: &mut BytesMut, request: &Request<'_>, host: &[u8]) {
    let fields = request.head.fields;
    if fields.get(Known::Host).is_some() {
        return out.extend_from_slice(fields.buf);
    }
    // In front of all others, as on HTTP/1 (RFC 9110 §7.2). Empty lines may precede the request line.
    let begin = fields.buf.iter().position(|&byte| byte > b' ').unwrap_or(0);
    let line = fields.buf[begin..].iter().position(|&byte| byte == b'\n').map_or(0, |at| at + 1);
    let (line, rest) = fields.buf[begin..].split_at(line);
    for part in [line, b"Host: ", host, b"\r\n", rest] {
        out.extend_from_slice(part);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::Scratch;
    use crate::limits::Limits;

    #[test]
    fn a_head_is_kept_with_a_host_and_it_comes_first() {
        for (head, kept) in [
            (
                "GET http://a/b HTTP/1.0\r\nX: y\r\n\r\n",
                "GET http://a/b HTTP/1.0\r\nHost: a\r\nX: y\r\n\r\n",
            ),
            ("\r\nGET http://a/ HTTP/1.0\r\n\r\n", "GET http://a/ HTTP/1.0\r\nHost: a\r\n\r\n"),
            // One that is there stays where it is.
            (
                "GET / HTTP/1.1\r\nX: y\r\nHost: a\r\n\r\n",
                "GET / HTTP/1.1\r\nX: y\r\nHost: a\r\n\r\n",
            ),
        ] {
            let (mut scratch, mut out) = (Scratch::default(), BytesMut::new());
            let request = http1::parse_request(head.as_bytes(), &mut scratch, &Limits::default());
            keep_head(&mut out, &request.expect(head), b"a");
            assert_eq!(out, kept.as_bytes());
        }
    }
}
