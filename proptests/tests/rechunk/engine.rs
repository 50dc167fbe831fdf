//! A stream of messages through the engine: what the other side gets of it.

use std::fmt::{self, Display};
use std::sync::{Arc, OnceLock};

use selvedge_core::config::{Config, Endpoint, Service, Target};
use selvedge_core::engine::{CloseKind, ConnId};
use selvedge_proptests::harness::message::{Message, Sender, read};
use selvedge_proptests::harness::{Harness, outbound};
use selvedge_proptests::table;

/// What was asked, where responses are cut.
pub(crate) const ASKED: [&str; 3] = [
    "GET / HTTP/1.1\r\nHost: web.example\r\n\r\n",
    "HEAD / HTTP/1.1\r\nHost: web.example\r\n\r\n",
    "GET / HTTP/1.0\r\nHost: web.example\r\n\r\n",
];

/// What everybody got.
#[derive(Debug)]
pub(crate) struct Outcome {
    /// Complete requests that reached the app, over all its connections.
    pub(crate) reached: Vec<Message>,
    /// What the client got; chunks put together.
    answered: Result<(Vec<Message>, Vec<u8>), String>,
    /// Its connection was reset. (Else it may linger or not: that depends on what was still to be
    /// read when it was closed.)
    reset: bool,
}

impl Outcome {
    pub(crate) fn same(&self, other: &Outcome) -> bool {
        self.reached == other.reached
            && self.reset == other.reset
            // A reset may take bytes along that were on their way.
            && (self.reset || self.answered == other.answered)
    }
}

impl Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let show = |f: &mut fmt::Formatter<'_>, message: &Message| {
            write!(f, "  {} {:?} ", message.line.escape_ascii(), message.framing)?;
            for (name, value) in message.fields.iter().chain(&message.trailers) {
                write!(f, "{}: {}, ", name.escape_ascii(), value.escape_ascii())?;
            }
            writeln!(f, "{} complete {}", message.body.escape_ascii(), message.complete)
        };
        writeln!(f, "reset {}, reached:", self.reset)?;
        self.reached.iter().try_for_each(|message| show(f, message))?;
        writeln!(f, "answered:")?;
        match &self.answered {
            Ok((messages, rest)) => {
                messages.iter().try_for_each(|message| show(f, message))?;
                writeln!(f, "  rest {}", rest.escape_ascii())
            }
            Err(error) => writeln!(f, "  {error}"),
        }
    }
}

fn config() -> Arc<Config> {
    static CONFIG: OnceLock<Arc<Config>> = OnceLock::new();
    let service = |name: &str| {
        let endpoint = Endpoint {
            target: Target::Addr(([10, 0, 0, 1], 80).into()),
            weight: 1,
            mesh: None,
            zone: None,
        };
        Service { name: name.into(), endpoints: vec![endpoint], ..Service::default() }
    };
    // Of the grammar, the tables and the corpora.
    let names = ["web.example:80", "a:80", "b:80", "c:80"].into_iter().chain(table::AUTHORITIES);
    let make = || {
        let services = names.map(service).collect();
        Arc::new(Config { listeners: vec![outbound()], services, ..Config::default() })
    };
    Arc::clone(CONFIG.get_or_init(make))
}

/// A client sends these pieces, then closes; the app answers each complete request at once.
pub(crate) fn requests(pieces: &[&[u8]]) -> Outcome {
    let mut harness = Harness::new(config());
    let client = harness.accept(0);
    let mut app = App { answered: Vec::new(), reads: !asks_for_a_tunnel(pieces) };
    for piece in pieces {
        if harness.pipe(client).over.is_none() {
            harness.send(client, piece);
        }
        app.answer(&mut harness);
    }
    app.end(&mut harness, client)
}

/// The engine makes a tunnel of a CONNECT itself: what follows goes to the app as it is.
fn asks_for_a_tunnel(pieces: &[&[u8]]) -> bool {
    pieces.concat().windows(7).any(|window| window == b"CONNECT")
}

/// A client asks; the app answers in these pieces, whatever that is, then closes.
pub(crate) fn responses(kind: usize, pieces: &[&[u8]]) -> Outcome {
    let mut harness = Harness::new(config());
    let client = harness.accept(0);
    harness.send(client, ASKED[kind].as_bytes());
    let app = harness.connected()[0];
    for piece in pieces {
        if harness.pipe(app).over.is_none() {
            harness.send(app, piece);
        }
    }
    if harness.pipe(app).over.is_none() {
        harness.close(app);
    }
    // The request went out before: nothing answers it again.
    App { answered: vec![usize::MAX], reads: true }.end(&mut harness, client)
}

/// The app's side.
struct App {
    /// How many requests were answered on each connection.
    answered: Vec<usize>,
    /// It reads and answers; else it takes whatever comes.
    reads: bool,
}

impl App {
    /// Both sides close; the app first.
    fn end(mut self, harness: &mut Harness, client: ConnId) -> Outcome {
        for app in harness.connected().to_vec() {
            if harness.pipe(app).over.is_none() {
                harness.close(app);
            }
        }
        self.answer(harness);
        if harness.pipe(client).over.is_none() {
            harness.close(client);
        }
        self.answer(harness);
        let apps = harness.connected().iter();
        let reached: Vec<Message> = apps.flat_map(|&app| self.received(harness, app)).collect();
        // What the proxy answers itself it answers with a length.
        let mut methods: Vec<&[u8]> = reached.iter().map(Message::method).collect();
        methods.resize(methods.len() + 10, b"GET");
        let pipe = harness.pipe(client);
        Outcome {
            answered: read(&pipe.received, Sender::Server(&methods), pipe.ended()),
            reset: pipe.over == Some(CloseKind::Abort),
            reached,
        }
    }

    /// The complete requests that came on a connection. What the engine writes itself is well-formed.
    fn received(&self, harness: &Harness, app: ConnId) -> Vec<Message> {
        let bytes = &harness.pipe(app).received;
        match read(bytes, Sender::Client, false) {
            Ok((mut messages, _)) => {
                messages.retain(|message| message.complete);
                messages
            }
            // What comes through a tunnel may be anything.
            Err(_) if !self.reads => {
                vec![Message { body: bytes.clone(), complete: true, ..Message::default() }]
            }
            Err(error) => panic!("{error}: {}", bytes.escape_ascii()),
        }
    }

    /// Answers every complete request that has no answer.
    fn answer(&mut self, harness: &mut Harness) {
        while self.reads
            && let Some((conn, answer)) = self.next(harness)
        {
            if harness.pipe(conn).over.is_none() {
                harness.send(conn, answer);
            }
        }
    }

    fn next(&mut self, harness: &Harness) -> Option<(ConnId, &'static [u8])> {
        self.answered.resize(harness.connected().len().max(self.answered.len()), 0);
        for (index, &conn) in harness.connected().iter().enumerate() {
            let complete = self.received(harness, conn);
            if let Some(message) = complete.get(self.answered[index]) {
                self.answered[index] += 1;
                return Some((
                    conn,
                    match message.method() {
                        b"HEAD" => b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n",
                        _ => b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok",
                    },
                ));
            }
        }
        None
    }
}
