//! Everything at once: an engine, its clients, its apps, and what each of them has said.

use std::collections::BTreeMap;

use selvedge_core::engine::{Accepted, Command, ConnId, Event, Input};
use selvedge_core::error::{ConnectError, DnsError, IoError};
use selvedge_core::time::Time;

use super::Outcome;
use super::app::App;
use super::client::Client;
use super::mesh::{self, Mesh, PLACES, Place, SERVED};
use super::net::{Check, Net, Note, Reset, millis};
use crate::choose::{Choose, pick, weighted};
use crate::traffic::content::Stream;
use crate::traffic::request::Request;
use crate::traffic::response::Response;

/// Whose connection it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Owner {
    Client(usize),
    App(usize),
}

/// A request, and what became of it.
#[derive(Debug)]
pub(super) struct Sent {
    pub(super) request: Request,
    pub(super) client: usize,
    /// Where in the client's bytes it begins.
    pub(super) start: usize,
    /// It was damaged, or follows something that was.
    pub(super) wild: bool,
    /// The apps that saw any of it.
    pub(super) attempts: Vec<usize>,
    /// How many 1xx apps sent.
    pub(super) interims: usize,
    /// A final answer began.
    pub(super) answered: bool,
}

/// A response, and what became of it.
#[derive(Debug)]
pub(super) struct Told {
    pub(super) response: Response,
    /// It was damaged, or follows something that was.
    pub(super) wild: bool,
    pub(super) seen: bool,
}

/// See the [module](super).
pub(super) struct World<'a> {
    pub(super) choose: &'a mut dyn Choose,
    pub(super) net: Net,
    pub(super) mesh: Mesh,
    /// Peers may misbehave, and connections break.
    pub(super) faults: bool,
    /// The largest body.
    pub(super) largest: usize,
    pub(super) requests: Vec<Sent>,
    pub(super) responses: Vec<Told>,
    pub(super) streams: Vec<(Stream, Owner)>,
    pub(super) clients: Vec<Client>,
    pub(super) apps: Vec<App>,
    owners: BTreeMap<ConnId, Owner>,
    pub(super) drained: bool,
    pub(super) outcome: Outcome,
}

/// How many clients there may be at once.
const CLIENTS: usize = 8;

impl<'a> World<'a> {
    pub(super) fn new(choose: &'a mut dyn Choose) -> Self {
        let faults = !choose.one_in(4);
        let mesh = Mesh::new(choose, faults);
        let largest = match mesh.config.limits.stream_buffer {
            0..100 => 100,
            100..10_000 => 5000,
            _ => pick(choose, &[100, 5000, 40_000, 100_000]),
        };
        World {
            net: Net::new(mesh.config.clone(), choose.below(256) as u64),
            choose,
            mesh,
            faults,
            largest,
            requests: Vec::new(),
            responses: Vec::new(),
            streams: Vec::new(),
            clients: Vec::new(),
            apps: Vec::new(),
            owners: BTreeMap::new(),
            drained: false,
            outcome: Outcome::default(),
        }
    }

    /// One thing happens.
    pub(super) fn step(&mut self) -> Check {
        let rare = usize::from(self.faults);
        let op =
            weighted(self.choose, &[8, 8, 6, 4, 6, 2, 3, 3, 1, 1, 4, rare, 2 * rare, rare, rare]);
        match op {
            0 => self.some_client(World::client_delivers)?,
            1 => self.some_app(World::app_delivers),
            2 => self.some_app(World::app_acts),
            3 => self.answer_connect(),
            4 => self.some_client(World::client_acts)?,
            5 => self.new_client()?,
            6 => self.change_room(),
            7 => self.pass_time()?,
            8 => self.answer_query(),
            9 => self.reload()?,
            10 => self.go_well()?,
            11 => self.some_client(World::client_breaks)?,
            12 => self.some_app(World::app_breaks),
            13 => self.late_input(),
            _ => self.drain(),
        }
        self.outcome.steps += 1;
        if self.choose.one_in(6) {
            // More happens before the turn ends.
            return Ok(());
        }
        self.settle()
    }

    /// Ends the turn; peers notice.
    pub(super) fn settle(&mut self) -> Check {
        self.net.turn(self.choose)?;
        self.outcome.turns += 1;
        self.notice()?;
        let accepted = self.net.engine.gauges().accepted;
        let open = self.clients.iter().filter(|client| client.conn.is_some()).count();
        if accepted != open {
            return Err(format!("{accepted} connections accepted, {open} open"));
        }
        Ok(())
    }

    fn notice(&mut self) -> Check {
        while let Some(note) = self.net.notes.pop_front() {
            let (Note::Connect(conn, _)
            | Note::Bytes(conn, _)
            | Note::Fin(conn)
            | Note::Over(conn, _)) = &note;
            let owner = self.owners.get(conn).copied();
            let noticed = match (note, owner) {
                (Note::Connect(conn, addr), None) => {
                    if !self.mesh.is_target(addr) {
                        return Err(format!("connects to {addr}, which is no target"));
                    }
                    self.owners.insert(conn, Owner::App(self.apps.len()));
                    self.apps.push(App::new(conn, addr));
                    Ok(())
                }
                (Note::Bytes(_, bytes), Some(Owner::Client(at))) => self.client_got(at, &bytes),
                (Note::Bytes(_, bytes), Some(Owner::App(at))) => self.app_got(at, &bytes),
                (Note::Fin(_), Some(Owner::Client(at))) => self.client_fin(at),
                (Note::Fin(_), Some(Owner::App(at))) => self.app_fin(at),
                (Note::Over(conn, reset), Some(Owner::Client(at))) => {
                    self.owners.remove(&conn);
                    self.client_over(at, reset)
                }
                (Note::Over(conn, reset), Some(Owner::App(at))) => {
                    self.owners.remove(&conn);
                    self.app_over(at, reset)
                }
                (note, owner) => Err(format!("{note:?} at {owner:?}")),
            };
            noticed.map_err(|error| format!("{owner:?}: {error}"))?;
        }
        for event in std::mem::take(&mut self.net.events) {
            if event == Event::Drained && self.net.engine.gauges().accepted > 0 {
                return Err("drained with connections".to_owned());
            }
            self.outcome.drains += u64::from(event == Event::Drained);
        }
        Ok(())
    }

    // ---- Whom it happens to ----

    fn some_client(&mut self, what: fn(&mut Self, usize)) -> Check {
        let open = |(at, client): (usize, &Client)| client.conn.map(|_| at);
        let open: Vec<usize> = self.clients.iter().enumerate().filter_map(open).collect();
        if open.is_empty() {
            return self.new_client();
        }
        let at = pick(self.choose, &open);
        what(self, at);
        Ok(())
    }

    fn some_app(&mut self, what: fn(&mut Self, usize)) {
        let open = |(at, app): (usize, &App)| app.is_open().then_some(at);
        let open: Vec<usize> = self.apps.iter().enumerate().filter_map(open).collect();
        if open.is_empty() {
            return self.answer_connect();
        }
        let at = pick(self.choose, &open);
        what(self, at);
    }

    // ---- What happens ----

    fn new_client(&mut self) -> Check {
        let open = self.clients.iter().filter(|client| client.conn.is_some()).count();
        if open >= CLIENTS || self.drained {
            return Ok(());
        }
        let places = if self.faults { &PLACES[..] } else { &PLACES[..SERVED] };
        let place = pick(self.choose, places);
        if let Some(conn) = self.net.accept(accepted(place))? {
            self.outcome.clients += 1;
            self.owners.insert(conn, Owner::Client(self.clients.len()));
            self.clients.push(Client::new(conn, place));
            let at = self.clients.len() - 1;
            if self.net.sockets.contains_key(&conn) {
                self.client_acts(at);
            }
        }
        Ok(())
    }

    fn answer_connect(&mut self) {
        if self.net.connects.is_empty() {
            return;
        }
        let index = self.choose.below(self.net.connects.len());
        let errors = [
            ConnectError::Refused,
            ConnectError::Unreachable,
            ConnectError::TimedOut,
            ConnectError::Local,
        ];
        let fails = self.faults && self.choose.one_in(4);
        let result = if fails { Err(pick(self.choose, &errors)) } else { Ok(()) };
        self.finish_connect(index, result);
    }

    /// Answers a connect.
    pub(super) fn finish_connect(&mut self, index: usize, result: Result<(), ConnectError>) {
        let (conn, _) = self.net.connects[index];
        if let Some(&Owner::App(at)) = self.owners.get(&conn) {
            if result.is_ok() {
                self.app_connected(at);
            } else {
                self.apps[at].conn = None;
                self.owners.remove(&conn);
            }
        }
        self.net.connected(index, result);
    }

    fn answer_query(&mut self) {
        if self.net.resolves.is_empty() {
            return;
        }
        let index = self.choose.below(self.net.resolves.len());
        let fails = self.faults && self.choose.one_in(3);
        self.finish_query(index, fails);
    }

    /// Answers a query.
    pub(super) fn finish_query(&mut self, index: usize, fails: bool) {
        let (query, name) = self.net.resolves.remove(index);
        let result = if fails {
            Err(pick(self.choose, &[DnsError::NotFound, DnsError::Failed]))
        } else {
            let ttl = millis(pick(self.choose, &[30_000, 1, 6000]));
            Ok((self.mesh.resolve(self.choose, &name), ttl))
        };
        self.net.input(Input::Resolved { query, result });
    }

    /// For a moment everybody does what there is to do.
    fn go_well(&mut self) -> Check {
        for _ in 0..=self.choose.below(4) {
            while !self.net.connects.is_empty() {
                self.finish_connect(0, Ok(()));
            }
            for at in 0..self.clients.len() {
                self.client_delivers(at);
            }
            self.settle()?;
            for at in 0..self.apps.len() {
                if self.faults && self.is_stale(at) && self.choose.one_in(8) {
                    self.app_is_gone(at);
                } else if self.apps[at].is_open() {
                    self.app_answers(at);
                    self.app_delivers(at);
                }
            }
            self.settle()?;
        }
        Ok(())
    }

    fn change_room(&mut self) {
        let conns: Vec<ConnId> = self.net.sockets.keys().copied().collect();
        if conns.is_empty() {
            return;
        }
        let conn = pick(self.choose, &conns);
        let room = pick(self.choose, &[usize::MAX, 0, 1, 100, 5000]);
        self.give_room(conn, room);
    }

    /// The kernel takes so many bytes of a connection.
    pub(super) fn give_room(&mut self, conn: ConnId, room: usize) {
        if let Some(socket) = self.net.sockets.get_mut(&conn) {
            socket.room = room;
            self.net.resume(self.choose, conn);
        }
    }

    fn pass_time(&mut self) -> Check {
        let now = self.net.now;
        let due = self.net.engine.next_timeout().map(|(at, _)| at);
        let micros = |n: usize| millis(n) / 1000;
        if !self.faults {
            // Nothing takes long enough for any timeout.
            self.net.now = now + micros(self.choose.below(500));
            return Ok(());
        }
        match self.choose.below(4) {
            0 => self.net.now = now + micros(self.choose.below(5000)),
            // Early.
            1 => self.net.input(Input::Timeout),
            // Late.
            2 => {
                let late = micros(self.choose.below(3_000_000));
                return self.fire(due.unwrap_or(now) + late);
            }
            _ => return self.fire(due.unwrap_or(now)),
        }
        Ok(())
    }

    /// Lets time pass, with its timeouts.
    pub(super) fn fire(&mut self, to: Time) -> Check {
        self.settle()?;
        self.hush_clients();
        self.net.fire(self.choose, to)?;
        self.notice()
    }

    fn reload(&mut self) -> Check {
        // What is under way is for the configuration before.
        self.settle()?;
        self.mesh.change(self.choose);
        self.outcome.reloads += 1;
        self.net.reload(self.mesh.config.clone());
        self.settle()?;
        // Who is not configured any more keeps no connection that serves nobody.
        let idle = |app: &&App| app.is_idle() && !self.mesh.is_target(app.addr);
        match self.apps.iter().find(idle).filter(|_| self.net.is_flushed()) {
            Some(app) => Err(format!("{:?} to {} stays", app.conn, app.addr)),
            None => Ok(()),
        }
    }

    fn drain(&mut self) {
        if self.choose.one_in(3) {
            self.drained = true;
            self.net.input(Input::Command(Command::Drain));
        }
    }

    /// Something happens to a connection that is gone.
    fn late_input(&mut self) {
        if self.net.dead.is_empty() {
            return;
        }
        let conn = self.net.dead[self.choose.below(self.net.dead.len())];
        let input = match self.choose.below(5) {
            0 => Input::ReadClosed { conn },
            1 => Input::Received { conn, data: b"late"[..].into() },
            2 => Input::Wrote { conn, n: self.choose.below(100) },
            3 => Input::Failed { conn, kind: IoError::Reset },
            _ => Input::Connected { conn, result: Err(ConnectError::Refused) },
        };
        self.net.input(input);
    }

    /// Where the traffic of a client may go.
    pub(super) fn place_of(&self, client: usize) -> Place {
        self.clients[client].place
    }
}

fn accepted(place: Place) -> Accepted {
    let local = if place.listener == 1 { "10.7.7.8:4143" } else { "127.0.0.1:4140" };
    Accepted {
        listener: place.listener,
        peer: mesh::addr("127.0.0.1:50000"),
        local: mesh::addr(local),
        original_dst: place.original_dst.map(mesh::addr),
    }
}

impl Reset {
    /// Did it end as it should?
    pub(super) fn is_clean(self) -> bool {
        self == Reset::No
    }
}
