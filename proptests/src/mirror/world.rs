//! One engine between clients, their app and a mirror, in virtual time.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use selvedge_core::engine::{Accepted, CloseKind, ConnId, Engine, Input, Output};
use selvedge_core::error::{ConnectError, IoError};
use selvedge_core::http2::ErrorCode;
use selvedge_core::rng::Seed;
use selvedge_core::stats::Snapshot;
use selvedge_core::time::Time;

use super::mood::Mood;
use super::peer::{Peer, Seen, http1_body};
use super::plan::{Body, Plan};
use super::{APP, MIRROR, OUTBOUND};
use crate::choose::Choose;
use crate::traffic::content::{content, is_content, request_key, response_key};

/// Whose end of a connection it is. In this order they have their turns.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Role {
    Client(usize),
    App(usize),
    Mirror(usize),
}

#[derive(Debug)]
struct End {
    conn: ConnId,
    peer: Peer,
    out: VecDeque<u8>,
    /// Requests by stream, or in the order of HTTP/1.
    requests: BTreeMap<u32, u32>,
    /// How much of a request's body came, and whether that was all.
    got: BTreeMap<u32, (usize, bool)>,
    mood: Mood,
    waits: bool,
}

#[derive(Clone, Copy, Debug)]
enum Event {
    Begin(usize),
    Piece(usize, usize),
    Cancel(usize),
    Connected(Role, bool),
    Answer(Role, u32, u32),
    Reset(Role),
    Close(Role),
    Unblock(Role),
}

/// What one side saw of one request.
pub(super) type Log = BTreeMap<(&'static str, u32), Vec<(Time, Seen)>>;

pub(super) struct World<'a> {
    plan: &'a Plan,
    moods: &'a mut dyn Choose,
    engine: Engine,
    now: Time,
    ends: BTreeMap<Role, End>,
    roles: BTreeMap<ConnId, Role>,
    events: BTreeMap<(Time, bool, u64), Event>,
    counts: [u64; 4],
    /// How often the app was asked.
    attempts: BTreeMap<u32, u32>,
    pub(super) log: Log,
    /// Copies that were complete, and that were not.
    pub(super) copies: [u64; 2],
}

/// By then everything is over.
const END: Duration = Duration::from_secs(20);

impl<'a> World<'a> {
    /// `mirror`: what it speaks, and which part it gets.
    pub(super) fn new(
        plan: &'a Plan,
        seed: u64,
        mirror: Option<(selvedge_core::config::Protocol, f64)>,
        moods: &'a mut dyn Choose,
    ) -> Self {
        let config = Arc::new(plan.config(mirror));
        World {
            plan,
            moods,
            engine: Engine::new(config, Seed::from_number(seed), Time::ZERO),
            now: Time::ZERO,
            ends: BTreeMap::new(),
            roles: BTreeMap::new(),
            events: BTreeMap::new(),
            counts: [0; 4],
            attempts: BTreeMap::new(),
            log: Log::new(),
            copies: [0; 2],
        }
    }

    pub(super) fn snapshot(&self) -> Snapshot {
        self.engine.snapshot()
    }

    /// From the first request to the end of everything.
    pub(super) fn run(&mut self) -> Result<(), String> {
        for (index, request) in self.plan.requests.iter().enumerate() {
            self.at(request.at, false, Event::Begin(index));
        }
        loop {
            let event = self.events.first_key_value().map(|(&(at, ..), _)| at);
            let timer = self.engine.next_timeout().map(|(at, _)| at.max(self.now));
            let next = event.into_iter().chain(timer).min();
            if next.is_none_or(|next| next > Time::ZERO + END) {
                break;
            }
            match (event, timer) {
                (event, Some(timer)) if event.is_none_or(|event| timer <= event) => {
                    self.now = timer;
                    self.engine.handle_input(self.now, Input::Timeout);
                }
                _ => {
                    let Some(((at, ..), event)) = self.events.pop_first() else { break };
                    self.now = at;
                    self.act(event);
                }
            }
            self.turn()?;
        }
        let gauges = self.engine.gauges();
        if gauges.exchanges > 0 {
            return Err(format!("at the end: {gauges:?}"));
        }
        Ok(())
    }

    /// Something will happen after `wait`; what is the mirror's comes after what is not.
    fn at(&mut self, wait: Duration, mirror: bool, event: Event) {
        let count = &mut self.counts[usize::from(mirror)];
        *count += 1;
        self.events.insert((self.now + wait, mirror, *count), event);
    }

    fn note(&mut self, side: &'static str, id: u32, seen: Seen) {
        let all = self.log.entry((side, id)).or_default();
        if let (Some((at, Seen::Data(last))), Seen::Data(data)) = (all.last_mut(), &seen)
            && *at == self.now
        {
            last.extend_from_slice(data);
        } else {
            all.push((self.now, seen));
        }
    }

    // ---- What peers do ----

    fn act(&mut self, event: Event) {
        match event {
            Event::Begin(index) => self.begin(index),
            Event::Piece(index, piece) => self.piece(index, piece),
            Event::Cancel(index) => self.cancel(index),
            Event::Connected(role, accepted) => {
                let Some(end) = self.ends.get(&role) else { return };
                let refused = Err(ConnectError::Refused);
                let result = if accepted { Ok(OUTBOUND) } else { refused };
                let input = Input::Connected { conn: end.conn, result };
                if !accepted {
                    self.forget(role);
                }
                self.engine.handle_input(self.now, input);
            }
            Event::Answer(role, stream, id) => self.answer(role, stream, id),
            Event::Reset(role) => self.reset(role),
            Event::Close(role) => {
                if let Some(end) = self.ends.get(&role) {
                    self.engine.handle_input(self.now, Input::ReadClosed { conn: end.conn });
                }
            }
            Event::Unblock(role) => {
                if let Some(end) = self.ends.get_mut(&role) {
                    end.waits = false;
                }
            }
        }
    }

    fn begin(&mut self, index: usize) {
        let request = &self.plan.requests[index];
        let role = Role::Client(request.client);
        if !self.log.contains_key(&("connection", request.client as u32))
            && !self.ends.contains_key(&role)
        {
            let accepted =
                Accepted { listener: 0, peer: MIRROR, local: OUTBOUND, original_dst: None };
            let conn = self.engine.accept(self.now, accepted).expect("room");
            let http2 = self.plan.clients[request.client].0;
            self.insert(role, conn, Peer::client(http2, self.now), Mood::Honest);
        }
        let now = self.now;
        let Some(end) = self.ends.get_mut(&role) else { return };
        let mut head = format!(
            "{} /{index} HTTP/1.1\r\nHost: web.example\r\nx-a: b\r\n{}\r\n",
            request.method,
            request.body.field()
        );
        let empty = request.body.size() == 0;
        if let Some(mux) = end.peer.http2() {
            head = head.replace("Transfer-Encoding: chunked\r\n", "");
            let ends = empty && !matches!(request.body, Body::Chunked(..));
            let Some(stream) = mux.ask(head.as_bytes(), ends, now) else { return };
            end.requests.insert(stream, index as u32);
        } else {
            end.requests.insert(end.requests.len() as u32, index as u32);
            end.out.extend(head.as_bytes());
        }
        if empty && matches!(request.body, Body::Chunked(..)) {
            self.piece(index, 0);
        }
        for (piece, &(after, _)) in request.pieces.iter().enumerate() {
            self.at(after, false, Event::Piece(index, piece));
        }
        if let Some(after) = request.cancelled {
            self.at(after, false, Event::Cancel(index));
        }
    }

    fn piece(&mut self, index: usize, piece: usize) {
        let request = &self.plan.requests[index];
        let Some(end) = self.ends.get_mut(&Role::Client(request.client)) else { return };
        let from: usize = request.pieces[..piece].iter().map(|piece| piece.1).sum();
        let n = request.pieces.get(piece).map_or(0, |piece| piece.1);
        let bytes = content(request_key(index as u32), from, n);
        let last = from + n == request.body.size();
        let stream = end.requests.iter().find(|(_, id)| **id == index as u32).map(|(&s, _)| s);
        let Some(stream) = stream else { return };
        let Some(mux) = end.peer.http2() else {
            return end.out.extend(http1_body(request.body, &bytes, last));
        };
        let trailers = matches!(request.body, Body::Chunked(_, true));
        if mux.can_send(stream) {
            mux.send(stream, &bytes, last && !trailers);
            if last && trailers {
                mux.trailers(stream, b"x-sum: 1\r\n\r\n");
            }
        }
    }

    fn cancel(&mut self, index: usize) {
        let role = Role::Client(self.plan.requests[index].client);
        let Some(end) = self.ends.get_mut(&role) else { return };
        let stream = end.requests.iter().find(|(_, id)| **id == index as u32).map(|(&s, _)| s);
        let (Some(stream), Some(_)) = (stream, end.peer.http2()) else { return self.reset(role) };
        end.peer.reset(stream, ErrorCode::CANCEL);
    }

    fn reset(&mut self, role: Role) {
        if let Some(end) = self.ends.get(&role) {
            let input = Input::Failed { conn: end.conn, kind: IoError::Reset };
            self.engine.handle_input(self.now, input);
        }
    }

    fn answer(&mut self, role: Role, stream: u32, id: u32) {
        let attempt = self.attempts.get(&id).copied().unwrap_or(0);
        let Some(end) = self.ends.get_mut(&role) else { return };
        let plan = self.plan.requests[id as usize].answer;
        let (status, body, resets) = match role {
            Role::Mirror(_) => end.mood.answer(),
            _ if attempt > 1 => (200, plan.body, false),
            _ => (plan.status, plan.body, plan.resets),
        };
        if !resets {
            let bytes = content(response_key(id), 0, body.size());
            end.out.extend(end.peer.answer(stream, status, body, &bytes));
        } else if end.peer.http2().is_some() {
            end.peer.reset(stream, ErrorCode::INTERNAL_ERROR);
        } else {
            self.reset(role);
        }
    }

    // ---- What the engine does ----

    fn turn(&mut self) -> Result<(), String> {
        loop {
            self.engine.end_turn(self.now);
            while let Some(output) = self.engine.poll_output() {
                self.output(output)?;
            }
            self.engine.check_invariants()?;
            let mut moved = false;
            for role in self.ends.keys().copied().collect::<Vec<_>>() {
                moved |= self.write(role)? | self.read(role);
            }
            if !moved {
                return Ok(());
            }
        }
    }

    fn output(&mut self, output: Output) -> Result<(), String> {
        match output {
            Output::Connect { conn, addr } if addr == APP => {
                let role = Role::App(self.counts[2] as usize);
                self.counts[2] += 1;
                self.insert(role, conn, Peer::app(false), Mood::Honest);
                self.note("connects", 0, Seen::End(String::new()));
                self.at(Duration::from_millis(1), false, Event::Connected(role, true));
            }
            Output::Connect { conn, .. } => {
                let role = Role::Mirror(self.counts[3] as usize);
                self.counts[3] += 1;
                let mood = Mood::draw(self.moods);
                self.insert(role, conn, Peer::app(mood == Mood::Stingy), mood);
                if let Some((after, accepted)) = mood.connect() {
                    self.at(after, true, Event::Connected(role, accepted));
                }
                match mood {
                    Mood::Resets(after) => self.at(after, true, Event::Reset(role)),
                    Mood::Closes(after) => self.at(after, true, Event::Close(role)),
                    _ => {}
                }
            }
            Output::Close { conn, how } => {
                let Some(&role) = self.roles.get(&conn) else { return Ok(()) };
                if how == CloseKind::Half {
                    self.at(
                        Duration::from_millis(1),
                        matches!(role, Role::Mirror(_)),
                        Event::Close(role),
                    );
                } else {
                    self.write(role)?;
                    self.closed(role);
                }
            }
            Output::Flush(_) | Output::ReadReady(_) | Output::Event(_) => {}
            other => return Err(format!("{other:?}")),
        }
        Ok(())
    }

    fn insert(&mut self, role: Role, conn: ConnId, peer: Peer, mood: Mood) {
        let (requests, got) = (BTreeMap::new(), BTreeMap::new());
        let end = End { conn, peer, out: VecDeque::new(), requests, got, mood, waits: false };
        self.ends.insert(role, end);
        self.roles.insert(conn, role);
    }

    fn forget(&mut self, role: Role) -> Option<End> {
        let end = self.ends.remove(&role)?;
        self.roles.remove(&end.conn);
        Some(end)
    }

    fn closed(&mut self, role: Role) {
        let Some(end) = self.forget(role) else { return };
        match role {
            Role::Client(client) => self.note("connection", client as u32, Seen::Closed),
            Role::App(_) => {
                for (stream, (_, complete)) in end.got {
                    if !complete {
                        self.note("app", end.requests[&stream], Seen::Closed);
                    }
                }
            }
            Role::Mirror(_) => {
                self.copies[1] += end.got.values().filter(|(_, complete)| !complete).count() as u64;
            }
        }
    }

    /// Does this socket take nothing now? Until when?
    fn blocked(&self, role: Role) -> Option<Time> {
        let (from, time) = match role {
            Role::Client(client) => self.plan.clients[client].1,
            Role::App(_) => self.plan.app_pause,
            Role::Mirror(_) => self.ends.get(&role)?.mood.pause(),
        };
        let from = Time::ZERO + from;
        (self.now >= from && self.now < from + time).then_some(from + time)
    }

    fn write(&mut self, role: Role) -> Result<bool, String> {
        let Some(end) = self.ends.get_mut(&role) else { return Ok(false) };
        let mut io = [&[][..]; 64];
        let count = self.engine.write_bufs(end.conn, &mut io);
        let bytes = io[..count].concat();
        if bytes.is_empty() {
            return Ok(false);
        }
        if let Some(until) = self.blocked(role) {
            if let Some(end) = self.ends.get_mut(&role)
                && !std::mem::replace(&mut end.waits, true)
            {
                let wait = until.saturating_since(self.now);
                self.at(wait, matches!(role, Role::Mirror(_)), Event::Unblock(role));
            }
            return Ok(false);
        }
        let Some(end) = self.ends.get_mut(&role) else { return Ok(false) };
        self.engine.handle_input(self.now, Input::Wrote { conn: end.conn, n: bytes.len() });
        for (stream, seen) in end.peer.receive(&bytes, self.now)? {
            self.came(role, stream, seen)?;
        }
        Ok(true)
    }

    fn came(&mut self, role: Role, stream: u32, seen: Seen) -> Result<(), String> {
        let Some(end) = self.ends.get_mut(&role) else { return Ok(()) };
        if let Role::Client(_) = role {
            let Some(&id) = end.requests.get(&stream) else {
                return Err(format!("{role:?}: {seen:?} on {stream}, and nothing was asked"));
            };
            self.note("client", id, seen);
            return Ok(());
        }
        if let Seen::Head(head) = &seen {
            let path = head.split(' ').nth(1).and_then(|path| path.strip_prefix('/'));
            let id = path.and_then(|path| path.parse().ok()).ok_or(format!("{role:?}: {head}"))?;
            end.requests.insert(stream, id);
            end.got.insert(stream, (0, false));
        }
        let Some(&id) = end.requests.get(&stream) else { return Ok(()) };
        let Some((got, complete)) = end.got.get_mut(&stream) else { return Ok(()) };
        let body = self.plan.requests[id as usize].body;
        match &seen {
            Seen::Data(data) if !is_content(request_key(id), *got, data) => {
                return Err(format!("{role:?}: request {id} is another at {got}"));
            }
            Seen::Data(data) => *got += data.len(),
            Seen::End(trailers) => {
                let whole = *got == body.size();
                let fits = trailers.is_empty() != matches!(body, Body::Chunked(_, true));
                if !whole || !fits {
                    return Err(format!("{role:?}: request {id} ends at {got}: {trailers:?}"));
                }
                *complete = true;
            }
            _ => {}
        }
        let mirror = matches!(role, Role::Mirror(_));
        let (early, after) = if mirror {
            self.copies[0] += u64::from(matches!(seen, Seen::End(_)));
            end.mood.pace()
        } else {
            let answer = self.plan.requests[id as usize].answer;
            (answer.early, Some(answer.after))
        };
        let begins = matches!(seen, Seen::Head(_));
        let is_due = if early { begins } else { matches!(seen, Seen::End(_)) };
        if let Some(after) = after.filter(|_| is_due) {
            self.at(after, mirror, Event::Answer(role, stream, id));
        }
        if !mirror {
            *self.attempts.entry(id).or_default() += u32::from(begins);
            self.note("app", id, seen);
        }
        Ok(())
    }

    /// The engine reads what a peer has sent, as far as it wants to.
    fn read(&mut self, role: Role) -> bool {
        let Some(end) = self.ends.get_mut(&role) else { return false };
        end.out.extend(end.peer.take());
        if let Some(noise) = end.mood.noise()
            && matches!(end.peer, Peer::Http1(..))
        {
            end.out.extend(noise);
        }
        let n = self.engine.read_budget(end.conn).min(16_384).min(end.out.len());
        if n == 0 {
            return false;
        }
        let data: Vec<u8> = end.out.drain(..n).collect();
        let data = BytesMut::from(&data[..]);
        self.engine.handle_input(self.now, Input::Received { conn: end.conn, data });
        true
    }
}
