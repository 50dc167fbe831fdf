//! Active health checks: connections of their own, and what they say about endpoints.

use alloc::boxed::Box;
use alloc::format;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;

use bytes::{Buf, BytesMut};

use super::Engine;
use super::conn::{Conn, State};
use super::contract::{CloseKind, ConnId, Direction, Event, Output};
use crate::config::Protocol;
use crate::error::Reason;
use crate::http1::{self, HeadScanner, ResponseTo};
use crate::http2::{self, Connection};
use crate::policy::check::{CheckFailure, CheckKind, encode_request, is_serving};
use crate::stats::Decision;
use crate::tls::transport_header::SessionProtocol;

/// Bytes of the answer to a gRPC check that are looked at: it has 7.
const ANSWER: usize = 64;

/// A check that is under way on its connection.
#[derive(Debug)]
pub(crate) enum Asking {
    Http1(HeadScanner),
    Http2(Box<AskingHttp2>),
}

/// The same, on a stream.
#[derive(Debug)]
pub(crate) struct AskingHttp2 {
    connection: Connection,
    is_grpc: bool,
    /// What came of the body.
    body: Vec<u8>,
}

type Answer = Result<(), CheckFailure>;

impl Engine {
    /// It is time to check an endpoint.
    pub(super) fn check_due(&mut self, index: u32) {
        let (now, certified) = (self.now, self.is_certified());
        let full = self.conns.len() >= self.config.limits.connections;
        let Some((service, endpoint)) = self.mesh.service_of(index) else { return };
        let (Some(guard), Some(standing)) = (&service.guard, &mut endpoint.standing) else {
            return;
        };
        let Some(config) = &guard.check else { return };
        // What we cannot do ourselves says nothing about it.
        if full || standing.asking.is_some() || endpoint.mesh.is_some() && !certified {
            return self.plan_check(index);
        }
        endpoint.conns += 1;
        let (addr, timeout) = (endpoint.addr, config.timeout);
        let mut conn = Conn::new(service.direction, State::Connecting(None), addr, now);
        conn.endpoint = Some(index);
        conn.flags.check = true;
        let id = self.conns.insert(conn);
        standing.asking = Some(id);
        if !canary!(EndlessCheck) {
            self.timers.conns.set(id.index, now + timeout);
        }
        self.outputs.push_back(Output::Connect { conn: id, addr });
    }

    /// Is this the connection of a health check that is under way? It carries no request of a client.
    pub fn is_check(&self, id: ConnId) -> bool {
        self.conns.find(id).is_some_and(|conn| {
            conn.flags.check && !matches!(conn.state, State::Closing | State::Linger { .. })
        })
    }

    /// Sets the time of the next check.
    pub(super) fn plan_check(&mut self, index: u32) {
        let unit = self.rng.unit();
        let Some((service, endpoint)) = self.mesh.service_of(index) else { return };
        let (Some(guard), Some(standing)) = (&service.guard, &endpoint.standing) else { return };
        let Some(config) = &guard.check else { return };
        let is_first = standing.checks.is_new() && standing.asking.is_none();
        let wait = if is_first { config.first_wait(unit) } else { config.wait(unit) };
        self.timers.checks.set(index, self.now + wait);
    }

    /// Ends what is asked of an endpoint that is no longer checked.
    pub(super) fn stop_check(&mut self, index: u32) {
        self.timers.checks.clear(index);
        let Some((_, endpoint)) = self.mesh.service_of(index) else { return };
        let asking = endpoint.standing.as_mut().and_then(|standing| standing.asking.take());
        if let Some(asking) = asking.filter(|&asking| self.conns.find(asking).is_some()) {
            self.end_conn(asking.index, CloseKind::Abort);
        }
    }

    /// The connection of a check is there, and its handshake done: it is asked.
    pub(super) fn begin_check(&mut self, id: ConnId) {
        let Some(index) = self.conns.find(id).and_then(|conn| conn.endpoint) else { return };
        self.count_tcp(Direction::Outbound, Some(index), |tcp| tcp.opens += 1);
        let Some((service, _)) = self.mesh.service_of(index) else { return };
        let check = service.guard.as_ref().and_then(|guard| guard.check.as_ref());
        let Some(kind) = check.map(|check| check.kind.clone()) else {
            return self.end_conn(id.index, CloseKind::Abort);
        };
        let host = String::from(service.name.strip_suffix(":80").unwrap_or(&service.name));
        let http2 = service.protocol == Protocol::Http2;
        let agent = concat!("selvedge/", env!("CARGO_PKG_VERSION"), " health check");
        match kind {
            CheckKind::Tcp => self.answered(id.index, Ok(())),
            CheckKind::Http(path) => {
                let head = format!(
                    "GET {path} HTTP/1.1\r\nhost: {host}\r\nuser-agent: {agent}\r\n\
                     connection: close\r\n\r\n"
                );
                if http2 {
                    self.ask_http2(id.index, &head, &host, None);
                } else {
                    self.ask_http1(id.index, &head);
                }
            }
            CheckKind::Grpc(service) => {
                let head = format!(
                    "POST /grpc.health.v1.Health/Check HTTP/1.1\r\nhost: {host}\r\n\
                     user-agent: {agent}\r\ncontent-type: application/grpc\r\nte: trailers\r\n\
                     transfer-encoding: chunked\r\n\r\n"
                );
                self.ask_http2(id.index, &head, &host, Some(&encode_request(&service)));
            }
        }
    }

    fn ask_http1(&mut self, index: u32, head: &str) {
        self.put_transport_header(index, Some(SessionProtocol::Http1));
        let Some(conn) = self.conns.get_mut(index) else { return };
        conn.state = State::Check(Asking::Http1(HeadScanner::default()));
        conn.tx.append(|out| out.extend_from_slice(head.as_bytes()));
        conn.flags.dirty = true;
        self.touch(index);
    }

    fn ask_http2(&mut self, index: u32, head: &str, host: &str, body: Option<&[u8]>) {
        let (config, now) = (Arc::clone(&self.http2), self.now);
        self.put_transport_header(index, Some(SessionProtocol::Http2));
        let mut scratch = core::mem::take(&mut self.scratch);
        let request = http1::parse_request(head.as_bytes(), &mut scratch, &self.config.limits);
        if let (Some(conn), Ok(request)) = (self.conns.get_mut(index), request) {
            let tx = &mut conn.tx;
            let mut connection = Connection::client(config, tx, now);
            let end = body.is_none();
            let stream = connection.send_request(tx, &request, host.as_bytes(), end, 1, now);
            if let (Some(stream), Some(body)) = (stream, body)
                && let Some(queue) = connection.body(stream)
            {
                queue.append(|out| out.extend_from_slice(body));
                connection.body_added(stream, body.len(), true);
            }
            let is_grpc = body.is_some();
            let asking = AskingHttp2 { connection, is_grpc, body: Vec::new() };
            conn.state = State::Check(Asking::Http2(Box::new(asking)));
            conn.flags.dirty = true;
        }
        self.scratch = scratch;
        self.touch(index);
    }

    /// Takes what came on the connection of a check.
    pub(super) fn drive_check(&mut self, index: u32) {
        let Some(conn) = self.conns.get_mut(index) else { return };
        let State::Check(asking) = &mut conn.state else { return };
        let limits = &self.config.limits;
        let answer = match asking {
            Asking::Http1(scanner) => read_http1(scanner, &mut conn.rx, &mut self.scratch, limits),
            Asking::Http2(asking) => {
                let (scratch, now) = (&mut self.http2_scratch, self.now);
                let answer = asking.read(&mut conn.rx, &mut conn.tx, scratch, limits, now);
                asking.connection.flush(&mut conn.tx, limits.stream_buffer);
                conn.flags.dirty = true;
                answer
            }
        };
        match answer {
            Some(answer) => self.answered(index, answer),
            None if conn.flags.eof => self.answered(index, Err(CheckFailure::NoAnswer)),
            None => {}
        }
    }

    /// A check is over, and its connection with it.
    pub(super) fn answered(&mut self, index: u32, answer: Answer) {
        let Some(id) = self.conns.id(index) else { return };
        let Some(endpoint) = self.conns.get(index).and_then(|conn| conn.endpoint) else { return };
        if answer == Err(CheckFailure::Timeout) {
            self.end_conn(index, CloseKind::Abort);
        } else {
            self.close_when_flushed(index);
        }
        self.checked(endpoint, id, answer);
    }

    /// The connection of a check could not be made.
    pub(super) fn check_unconnected(
        &mut self,
        endpoint: u32,
        id: ConnId,
        reason: Reason,
        ours: bool,
    ) {
        if ours {
            let standing = self.mesh.endpoints.get_mut(endpoint as usize);
            if let Some(standing) = standing.and_then(|endpoint| endpoint.standing.as_mut()) {
                standing.asking.take_if(|asking| *asking == id);
            }
            return self.plan_check(endpoint);
        }
        let failure = match reason {
            Reason::ConnectTimeout => CheckFailure::Timeout,
            reason => CheckFailure::Connect(reason),
        };
        self.checked(endpoint, id, Err(failure));
    }

    /// Counts what a check says, unless it belongs to nobody any more.
    fn checked(&mut self, index: u32, id: ConnId, answer: Answer) {
        let Some((service, endpoint)) = self.mesh.service_of(index) else { return };
        let (Some(guard), Some(standing)) = (&service.guard, &mut endpoint.standing) else {
            return;
        };
        let Some(config) = &guard.check else { return };
        if standing.asking != Some(id) {
            return;
        }
        let is_first = standing.checks.is_new();
        let changed = standing.checks.record(config, answer.is_ok());
        standing.asking = None;
        let owner = endpoint.service;
        if changed || is_first && answer.is_err() {
            let (name, addr) = (Arc::clone(&service.name), endpoint.addr);
            let decision = if answer.is_ok() { Decision::Healthy } else { Decision::Unhealthy };
            service.stats.decisions.count(decision);
            self.emit(match answer {
                Ok(()) => Event::CheckPassed { service: name, addr },
                Err(failure) => Event::CheckFailed { service: name, addr, failure },
            });
        }
        if !canary!(CheckedOnce) {
            self.plan_check(index);
        }
        if changed {
            self.stand(index);
            self.wake(owner);
        }
    }
}

fn read_http1(
    scanner: &mut HeadScanner,
    rx: &mut BytesMut,
    scratch: &mut crate::http::Scratch,
    limits: &crate::limits::Limits,
) -> Option<Answer> {
    loop {
        if rx.is_empty() {
            return None;
        }
        match http1::receive_response(scanner, rx, scratch, limits, ResponseTo::default()) {
            Err(_) => return Some(Err(CheckFailure::NoAnswer)),
            Ok(None) => return None,
            Ok(Some((len, response))) => match response.head.status {
                100..=199 => {
                    rx.advance(len);
                    *scanner = HeadScanner::default();
                }
                status => return Some(judge_status(status)),
            },
        }
    }
}

fn judge_status(status: u16) -> Answer {
    if (200..300).contains(&status) { Ok(()) } else { Err(CheckFailure::Status(status)) }
}

impl AskingHttp2 {
    fn read(
        &mut self,
        rx: &mut BytesMut,
        tx: &mut crate::buf::OutQueue,
        scratch: &mut http2::Scratch,
        limits: &crate::limits::Limits,
        now: crate::time::Time,
    ) -> Option<Answer> {
        use http2::Event;
        loop {
            match self.connection.poll(rx, tx, scratch, limits, now) {
                Err(_) => return Some(Err(CheckFailure::NoAnswer)),
                Ok(None) => return None,
                Ok(Some(Event::Response { response, end, .. })) => {
                    let status = response.head.status;
                    if status < 200 {
                        continue;
                    }
                    if !self.is_grpc || status != 200 {
                        return Some(judge_status(status));
                    }
                    match response.grpc_status {
                        Some(status @ 1..) => return Some(Err(CheckFailure::Grpc(status))),
                        _ if end => return Some(Err(CheckFailure::NoAnswer)),
                        _ => {}
                    }
                }
                Ok(Some(Event::Data { data, end, .. })) => {
                    let room = ANSWER.saturating_sub(self.body.len()).min(data.len());
                    self.body.extend_from_slice(&data[..room]);
                    if end || room < data.len() {
                        // A call ends with trailers.
                        return Some(Err(CheckFailure::NoAnswer));
                    }
                }
                Ok(Some(Event::Trailers { fields, .. })) => {
                    return Some(match fields.grpc_status() {
                        Some(0) if is_serving(&self.body) => Ok(()),
                        Some(0) => Err(CheckFailure::NotServing),
                        Some(status) => Err(CheckFailure::Grpc(status)),
                        None => Err(CheckFailure::NoAnswer),
                    });
                }
                Ok(Some(Event::Reset { .. } | Event::Broken { .. } | Event::GoAway { .. })) => {
                    return Some(Err(CheckFailure::NoAnswer));
                }
                Ok(Some(_)) => {}
            }
        }
    }
}
