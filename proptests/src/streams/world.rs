//! An engine, its clients, its apps, and what each of them has said.

use std::collections::BTreeMap;
use std::time::Duration;

use selvedge_core::config::{
    Config, Endpoint, Listener, ListenerKind, Protocol, Service, Target, Timeouts,
};
use selvedge_core::engine::{Accepted, Command, ConnId, Input};
use selvedge_core::error::{ConnectError, IoError};
use selvedge_core::http2;
use selvedge_core::limits::Limits;
use selvedge_core::time::Time;

use super::Outcome;
use super::app::App;
use super::client::Client;
use super::message::{Answer, Request};
use crate::choose::{Choose, pick, weighted};
use crate::script::net::{Check, Net, Note, Reset, millis};

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
    /// Its client has said something that no client should.
    pub(super) wild: bool,
    /// Its client has sent its end, or will.
    pub(super) complete: bool,
    /// The apps, and their streams, that saw any of it.
    pub(super) attempts: Vec<(usize, u32)>,
    /// A final answer began …
    pub(super) answered: bool,
    /// … of an app. One of the proxy may overtake a request whose bytes wait for the app to read.
    pub(super) served: bool,
}

/// An answer, and what became of it.
#[derive(Debug)]
pub(super) struct Told {
    pub(super) answer: Answer,
    /// All of it was sent, or will be.
    pub(super) finished: bool,
    pub(super) seen: bool,
}

/// See the [module](super).
pub(super) struct World<'a> {
    pub(super) choose: &'a mut dyn Choose,
    pub(super) net: Net,
    config: Config,
    /// Peers may misbehave, and connections break.
    pub(super) faults: bool,
    pub(super) largest: usize,
    pub(super) requests: Vec<Sent>,
    pub(super) answers: Vec<Told>,
    pub(super) clients: Vec<Client>,
    pub(super) apps: Vec<App>,
    owners: BTreeMap<ConnId, Owner>,
    drained: bool,
    pub(super) outcome: Outcome,
}

/// Services, and the second number of their endpoints' addresses.
const SERVICES: [(&str, u8); 4] =
    [("h1.example:80", 1), ("h2.example:80", 2), ("mesh.example:80", 3), ("auto.example:80", 4)];

/// Authorities of requests; the last one is not known.
pub(super) const AUTHORITIES: [&str; 5] =
    ["h1.example", "h2.example", "mesh.example", "auto.example", "nobody.example"];

const CLIENTS: usize = 5;
/// How long things may take when everybody does what they should.
const SOON: Duration = Duration::from_secs(30);
/// How long things may take when nobody does anything.
const LATE: Duration = Duration::from_hours(3);

impl<'a> World<'a> {
    pub(super) fn new(choose: &'a mut dyn Choose) -> Self {
        let faults = !choose.one_in(4);
        let config = config(choose, faults);
        let largest = match config.limits.stream_buffer {
            0..100 => 100,
            100..10_000 => 5000,
            _ => pick(choose, &[100, 5000, 40_000, 300_000]),
        };
        World {
            net: Net::new(config.clone(), choose.below(256) as u64),
            choose,
            config,
            faults,
            largest,
            requests: Vec::new(),
            answers: Vec::new(),
            clients: Vec::new(),
            apps: Vec::new(),
            owners: BTreeMap::new(),
            drained: false,
            outcome: Outcome::default(),
        }
    }

    pub(super) fn play(&mut self, steps: usize) -> Check {
        self.settle()?;
        for _ in 0..steps {
            if self.choose.is_exhausted() {
                break;
            }
            self.step()?;
        }
        self.heal()
    }

    fn step(&mut self) -> Check {
        let rare = usize::from(self.faults);
        match weighted(self.choose, &[8, 8, 8, 3, 8, 2, 3, 3, 1, 4, rare, rare, rare, rare]) {
            0 => self.some_client(World::client_delivers)?,
            1 => self.some_app(World::app_delivers),
            2 => self.some_app(World::app_acts),
            3 => self.answer_connect(),
            4 => self.some_client(World::client_acts)?,
            5 => self.new_client()?,
            6 => self.change_room(),
            7 => self.pass_time()?,
            8 => self.reload(),
            9 => self.go_well()?,
            10 => self.some_client(World::client_breaks)?,
            11 => self.some_app(World::app_breaks),
            12 => self.late_input(),
            _ if self.choose.one_in(3) => {
                self.drained = true;
                self.net.input(Input::Command(Command::Drain));
            }
            _ => {}
        }
        if self.choose.one_in(6) {
            return Ok(());
        }
        self.settle()
    }

    /// Ends the turn; peers notice.
    fn settle(&mut self) -> Check {
        self.net.turn(self.choose)?;
        self.notice()
    }

    fn notice(&mut self) -> Check {
        while let Some(note) = self.net.notes.pop_front() {
            let (Note::Connect(conn, _)
            | Note::Bytes(conn, _)
            | Note::Fin(conn)
            | Note::Over(conn, _)) = &note;
            let owner = self.owners.get(conn).copied();
            let noticed = match (note, owner) {
                (Note::Connect(conn, _), None) => {
                    self.owners.insert(conn, Owner::App(self.apps.len()));
                    self.apps.push(App::new(conn));
                    Ok(())
                }
                (Note::Bytes(_, bytes), Some(Owner::Client(at))) => self.client_got(at, &bytes),
                (Note::Bytes(_, bytes), Some(Owner::App(at))) => self.app_got(at, &bytes),
                (Note::Fin(_), Some(Owner::Client(at))) => self.client_fin(at),
                (Note::Fin(_), Some(Owner::App(at))) => {
                    self.apps[at].finishing = true;
                    Ok(())
                }
                (Note::Over(conn, reset), Some(owner)) => {
                    self.owners.remove(&conn);
                    self.over(owner, reset)
                }
                (note, owner) => Err(format!("{note:?} at {owner:?}")),
            };
            noticed.map_err(|error| format!("{owner:?}: {error}"))?;
        }
        let drains = |event: &_| matches!(event, selvedge_core::engine::Event::Drained);
        let events = std::mem::take(&mut self.net.events);
        self.outcome.drains += events.iter().filter(|event| drains(event)).count() as u64;
        Ok(())
    }

    fn over(&mut self, owner: Owner, reset: Reset) -> Check {
        match owner {
            Owner::Client(at) => self.client_over(at),
            Owner::App(at) => {
                self.apps[at].conn = None;
                if reset == Reset::Yes && !self.faults && self.apps[at].is_busy() {
                    return Err("a reset where nothing went wrong".to_owned());
                }
                Ok(())
            }
        }
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
        let accepted = Accepted {
            listener: 0,
            peer: ([127, 0, 0, 1], 50_000).into(),
            local: ([127, 0, 0, 1], 4140).into(),
            original_dst: None,
        };
        if let Some(conn) = self.net.accept(accepted)? {
            self.owners.insert(conn, Owner::Client(self.clients.len()));
            let client = if self.choose.one_in(4) {
                Client::http1(conn)
            } else {
                Client::http2(conn, self.choose, self.faults, self.net.now)
            };
            self.clients.push(client);
            let at = self.clients.len() - 1;
            self.client_acts(at);
        }
        Ok(())
    }

    fn answer_connect(&mut self) {
        if self.net.connects.is_empty() {
            return;
        }
        let index = self.choose.below(self.net.connects.len());
        let errors = [ConnectError::Refused, ConnectError::TimedOut, ConnectError::Local];
        let fails = self.faults && self.choose.one_in(4);
        let result = if fails { Err(pick(self.choose, &errors)) } else { Ok(()) };
        self.finish_connect(index, result);
    }

    fn finish_connect(&mut self, index: usize, result: Result<(), ConnectError>) {
        let (conn, _) = self.net.connects[index];
        if let Some(&Owner::App(at)) = self.owners.get(&conn) {
            if result.is_ok() {
                self.apps[at].connected = true;
            } else {
                self.apps[at].conn = None;
                self.owners.remove(&conn);
            }
        }
        self.net.connected(index, result);
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
                if self.apps[at].is_open() {
                    self.app_acts(at);
                    self.app_delivers(at);
                }
            }
            self.settle()?;
        }
        Ok(())
    }

    fn change_room(&mut self) {
        let conns: Vec<ConnId> = self.net.sockets.keys().copied().collect();
        if !conns.is_empty() {
            let conn = pick(self.choose, &conns);
            let room = pick(self.choose, &[usize::MAX, 0, 1, 100, 5000]);
            self.give_room(conn, room);
        }
    }

    fn give_room(&mut self, conn: ConnId, room: usize) {
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
            1 => self.net.input(Input::Timeout),
            2 => {
                let late = micros(self.choose.below(3_000_000));
                return self.fire(due.unwrap_or(now) + late);
            }
            _ => return self.fire(due.unwrap_or(now)),
        }
        Ok(())
    }

    fn fire(&mut self, to: Time) -> Check {
        self.settle()?;
        // Who has not said what it speaks is taken for something else.
        for client in &mut self.clients {
            client.hush();
        }
        self.net.fire(self.choose, to)?;
        self.notice()
    }

    fn reload(&mut self) {
        let limits = self.config.limits.clone();
        self.config = config(self.choose, self.faults);
        self.config.limits = limits;
        self.outcome.reloads += 1;
        self.net.reload(self.config.clone());
    }

    fn late_input(&mut self) {
        if self.net.dead.is_empty() {
            return;
        }
        let conn = self.net.dead[self.choose.below(self.net.dead.len())];
        let input = match self.choose.below(4) {
            0 => Input::ReadClosed { conn },
            1 => Input::Received { conn, data: b"late"[..].into() },
            2 => Input::Failed { conn, kind: IoError::Reset },
            _ => Input::Connected { conn, result: Err(ConnectError::Refused) },
        };
        self.net.input(input);
    }

    // ---- The end ----

    /// Everything comes to its end, soon if everybody cooperates, by timeouts if nobody does.
    fn heal(&mut self) -> Check {
        self.settle()?;
        if self.faults && self.choose.one_in(4) {
            self.wait_out()?;
        }
        self.cooperate("exchanges", Self::is_idle)?;
        self.cooperate("connections", |world| world.net.sockets.is_empty())?;
        if self.outcome.drains != u64::from(self.drained) {
            return Err(format!("drained {} times", self.outcome.drains));
        }
        match self.requests.iter().find(|sent| !sent.answered) {
            Some(sent) if !self.faults => Err(format!("no answer to {:?}", sent.request)),
            _ => Ok(()),
        }
    }

    fn is_idle(&self) -> bool {
        let gauges = self.net.engine.gauges();
        (gauges.accepted, gauges.exchanges, gauges.buffered_bytes) == (0, 0, 0)
    }

    /// Nobody does anything any more: every timeout passes.
    fn wait_out(&mut self) -> Check {
        let until = self.net.now + LATE;
        while self.net.now < until {
            if self.is_idle() {
                return Ok(());
            }
            let Some((due, _)) = self.net.engine.next_timeout() else {
                return Err(format!("nothing is waited for: {:?}", self.net.engine.gauges()));
            };
            self.fire(due)?;
        }
        Err(format!("no timeout ends {:?}", self.net.engine.gauges()))
    }

    fn cooperate(&mut self, what: &str, done: fn(&Self) -> bool) -> Check {
        let until = self.net.now + SOON;
        while !done(self) {
            let inputs = self.net.inputs;
            self.do_what_is_due();
            self.settle()?;
            if self.net.inputs > inputs {
                continue;
            }
            self.net.check_told()?;
            match self.net.engine.next_timeout() {
                Some((due, _)) if due <= until => self.fire(due)?,
                next => {
                    let gauges = self.net.engine.gauges();
                    let waits: Vec<String> =
                        self.clients.iter().filter_map(Client::waits_for).collect();
                    return Err(format!("{what} do not end; {next:?}; {gauges:?}; {waits:?}"));
                }
            }
        }
        Ok(())
    }

    fn do_what_is_due(&mut self) {
        while !self.net.connects.is_empty() {
            self.finish_connect(0, Ok(()));
        }
        let conns: Vec<_> = self.net.sockets.keys().copied().collect();
        for conn in conns {
            self.give_room(conn, usize::MAX);
        }
        for at in 0..self.clients.len() {
            if self.clients[at].conn.is_some() {
                self.client_heals(at);
                self.client_delivers(at);
            }
        }
        for at in 0..self.apps.len() {
            if self.apps[at].is_open() {
                self.app_heals(at);
                self.app_delivers(at);
            }
        }
    }

    /// How much of `out` goes to the engine now.
    pub(super) fn some_of(&mut self, conn: ConnId, want: usize) -> usize {
        let most = self.net.readable(self.choose, conn, want);
        match self.choose.below(5) {
            _ if most == 0 => 0,
            0..=2 => most,
            3 => 1,
            _ => self.choose.within(1, most),
        }
    }
}

fn config(choose: &mut dyn Choose, faults: bool) -> Config {
    let services = SERVICES.map(|(name, net)| {
        let protocols = [Protocol::Http1, Protocol::Http2, Protocol::Mesh, Protocol::Auto];
        let count = choose.within(1, 3) as u8;
        let endpoint = |n: u8| Endpoint {
            target: Target::Addr(([10, net, 0, n], 80).into()),
            weight: 1,
            mesh: None,
            zone: None,
        };
        Service {
            name: name.into(),
            protocol: if choose.one_in(6) {
                pick(choose, &protocols)
            } else {
                protocols[usize::from(net) - 1]
            },
            endpoints: (0..count).map(endpoint).collect(),
            ..Service::default()
        }
    });
    let mut services: Vec<Service> = services.into();
    if faults && choose.one_in(8) {
        services.remove(1);
    }
    Config {
        listeners: vec![Listener {
            addr: ([127, 0, 0, 1], 4140).into(),
            kind: ListenerKind::Outbound,
        }],
        services,
        limits: if faults { limits(choose) } else { Limits::default() },
        timeouts: if faults { timeouts(choose) } else { Timeouts::default() },
        ..Config::default()
    }
}

fn limits(choose: &mut dyn Choose) -> Limits {
    let all = Limits::default();
    if !choose.flip() {
        return all;
    }
    Limits {
        connections: pick(choose, &[all.connections, 12, 5]),
        in_flight: pick(choose, &[all.in_flight, 3]),
        queue: pick(choose, &[all.queue, 1]),
        pool_idle: pick(choose, &[all.pool_idle, 1, 0]),
        replay_bytes: pick(choose, &[all.replay_bytes, 300, 0]),
        stream_buffer: pick(choose, &[all.stream_buffer, 4096, 50, 1]),
        buffer_bytes: pick(choose, &[all.buffer_bytes, 10_000]),
        ..all
    }
}

fn timeouts(choose: &mut dyn Choose) -> Timeouts {
    let all = Timeouts::default();
    let secs = |n: usize| Some(Duration::from_secs(n as u64));
    Timeouts {
        response_headers: pick(choose, &[None, secs(2)]),
        request: pick(choose, &[None, secs(5)]),
        idle: pick(choose, &[all.idle, secs(4)]),
        keep_alive: pick(choose, &[all.keep_alive, Duration::from_secs(2)]),
        ..all
    }
}

/// What a peer says about itself.
pub(super) fn settings(choose: &mut dyn Choose, faults: bool) -> http2::Config {
    let mut config = http2::Config::default();
    let settings = &mut config.settings;
    settings.initial_window_size = pick(choose, &[16_384, 65_535, 1, 0, 100, 1 << 20]);
    settings.max_concurrent_streams = pick(choose, &[Some(100), None, Some(1), Some(3)]);
    settings.header_table_size = pick(choose, &[4096, 0, 100]);
    if faults && choose.one_in(16) {
        settings.max_concurrent_streams = Some(0);
    }
    // What has no credit must get some one day.
    if settings.initial_window_size == 0 {
        settings.initial_window_size = 2;
    }
    config.connection_window = pick(choose, &[1 << 20, 65_535]);
    config
}
