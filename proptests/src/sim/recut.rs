//! The same bytes in other pieces mean the same: one message each way, through two engines that see
//! it whole and in pieces.

use std::sync::Arc;

use bytes::BytesMut;
use selvedge_core::config::{Config, Listener, ListenerKind};
use selvedge_core::engine::{Accepted, CloseKind, ConnId, Engine, Input, Output};
use selvedge_core::rng::Seed;
use selvedge_core::time::Time;

use super::topology::{address, endpoint, service};
use crate::choose::Choose;
use crate::traffic::request::{Ask, Request, request};
use crate::traffic::response::{Answer, Response, response};
use crate::traffic::wire::{Framing, Head, Part, Reader};

/// Draws a request, its response and where to cut them, and compares.
///
/// # Errors
/// What is different in pieces.
pub(super) fn check(choose: &mut dyn Choose) -> Result<(), String> {
    let authorities = &["one.example"];
    let ask =
        Ask { id: 0, authorities, redirected: false, largest: 1024, tunnels: false, users: 0 };
    let request = request(choose, ask);
    let answer =
        Answer { id: 0, to: &request, largest: 1024, status: None, tunnel: false, wait: None };
    let response = response(choose, answer);
    let mut cuts = |bytes: &[u8]| {
        let mut cuts = [0; 3].map(|_| choose.below(bytes.len() + 1));
        cuts.sort_unstable();
        cuts
    };
    let cuts = [cuts(&request.bytes), cuts(&response.bytes)];
    let whole = Path::default().pass(&request, &response, [[0; 3]; 2])?;
    let pieces = Path::default().pass(&request, &response, cuts)?;
    if whole == pieces {
        return Ok(());
    }
    Err(format!("cut at {cuts:?}, {whole:?} has become {pieces:?}"))
}

/// What left at both ends of an engine.
#[derive(Debug, PartialEq)]
struct Meaning {
    request: Vec<Part>,
    response: Vec<Part>,
    closed: bool,
}

/// An engine with a client and an endpoint.
struct Path {
    engine: Engine,
    down: ConnId,
    up: Option<ConnId>,
    sent_down: Vec<u8>,
    sent_up: Vec<u8>,
    closed: bool,
}

const NOW: Time = Time::from_nanos(1);

impl Default for Path {
    fn default() -> Self {
        let listener = Listener { addr: address(1, 4140), kind: ListenerKind::Outbound };
        let config = Config {
            listeners: vec![listener],
            services: vec![service("one.example:80", vec![endpoint(address(2, 80))])],
            ..Config::default()
        };
        let mut engine = Engine::new(Arc::new(config), Seed::from_number(1), NOW);
        let (peer, local) = (address(3, 40_000), address(1, 4140));
        let accepted = Accepted { listener: 0, peer, local, original_dst: None };
        let down = engine.accept(NOW, accepted);
        Path {
            engine,
            down: down.unwrap_or_else(|| unreachable!("there is room for one connection")),
            up: None,
            sent_down: Vec::new(),
            sent_up: Vec::new(),
            closed: false,
        }
    }
}

impl Path {
    fn pass(
        mut self,
        request: &Request,
        response: &Response,
        [first, second]: [[usize; 3]; 2],
    ) -> Result<Meaning, String> {
        self.feed(self.down, &request.bytes, first);
        if let Some(up) = self.up {
            self.feed(up, &response.bytes, second);
            self.engine.handle_input(NOW, Input::ReadClosed { conn: up });
            self.turn();
        }
        let method = request.method;
        let mut of_request = |head: &Head| match head.framing()? {
            Framing::UntilClose => Ok(Framing::Nothing),
            framing => Ok(framing),
        };
        let mut of_response = |head: &Head| match (head.status(), method) {
            (100..=199 | 204 | 304, _) | (_, "HEAD") => Ok(Framing::Nothing),
            _ => head.framing(),
        };
        Ok(Meaning {
            request: parts(&self.sent_up, &mut of_request)?,
            response: parts(&self.sent_down, &mut of_response)?,
            closed: self.closed,
        })
    }

    fn feed(&mut self, conn: ConnId, bytes: &[u8], cuts: [usize; 3]) {
        let mut from = 0;
        for to in cuts.into_iter().chain([bytes.len()]) {
            let data = BytesMut::from(&bytes[from..to]);
            from = to;
            self.engine.handle_input(NOW, Input::Received { conn, data });
            self.turn();
        }
    }

    fn turn(&mut self) {
        let mut told = true;
        while std::mem::take(&mut told) {
            self.engine.end_turn(NOW);
            while let Some(output) = self.engine.poll_output() {
                match output {
                    Output::Connect { conn, .. } => {
                        self.up = Some(conn);
                        let result = Ok(address(1, 40_001));
                        self.engine.handle_input(NOW, Input::Connected { conn, result });
                        told = true;
                    }
                    Output::Flush(conn) => {
                        let mut owned = Vec::new();
                        self.engine.take_bufs(conn, &mut owned);
                        let bytes = owned.concat();
                        let n = bytes.len();
                        let sent =
                            if conn == self.down { &mut self.sent_down } else { &mut self.sent_up };
                        sent.extend(bytes);
                        self.engine.handle_input(NOW, Input::Wrote { conn, n });
                        told = true;
                    }
                    Output::Close { conn, how } => {
                        self.closed |= conn == self.down && how != CloseKind::Abort;
                    }
                    _ => {}
                }
            }
        }
    }
}

/// The parts of messages; data that follows data is one.
fn parts(
    bytes: &[u8],
    framing: &mut dyn FnMut(&Head) -> Result<Framing, String>,
) -> Result<Vec<Part>, String> {
    let mut reader = Reader::default();
    reader.feed(bytes);
    let mut parts: Vec<Part> = Vec::new();
    while let Some(part) = reader.next(framing)? {
        match (parts.last_mut(), part) {
            (Some(Part::Data(data)), Part::Data(more)) => data.extend(more),
            (_, part) => parts.push(part),
        }
    }
    Ok(parts)
}
