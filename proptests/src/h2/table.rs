//! The table of what peers may and may not send on an HTTP/2 connection.
//!
//! It lives in `proptests/tables/http2-*.toml`. A case is a table, named by its header:
//!
//! ```toml
//! [window_update_of_zero_on_a_stream]
//! clause = "RFC 9113 §6.9"
//! steps = '''
//! HEADERS(1, END_HEADERS, POST)
//! WINDOW_UPDATE(1, 0)
//! '''
//! expect = "stream 1 PROTOCOL_ERROR window_increment"
//! ```
//!
//! | key | meaning |
//! |---|---|
//! | `steps` | see [`notation`]; what the peer sends follows an honest greeting |
//! | `expect` | `accept`; `stream N CODE label`, one a line in order; `connection CODE label` |
//! | `events` | everything that is reported, one a line, greeting and end of a broken connection excepted |
//! | `sends` | every frame that we send, one a line, the answers to the greeting excepted |
//! | `bare` | there is no greeting: `steps` has all bytes |
//! | `max_streams`, `header_bytes`, `header_table` | what we allow, where it is not the default |

use std::collections::BTreeMap;

use selvedge_core::http2::{Config, ErrorCode, Role};
use selvedge_core::limits::Limits;
use selvedge_core::time::Duration;
use serde::Deserialize;

use super::end::{End, Seen};
use super::notation::{self, Action, Step};
use super::wire::{Frame, PREFACE, code, frames};

/// One case.
#[derive(Clone, Debug)]
pub struct Case {
    /// Unique.
    pub name: String,
    /// What it breaks, or what makes it legal.
    pub clause: String,
    /// Who we are.
    pub role: Role,
    /// What happens.
    pub steps: Vec<Step>,
    /// What becomes of it.
    pub expect: Vec<String>,
    /// What is reported.
    pub events: Option<Vec<String>>,
    /// What we send.
    pub sends: Option<Vec<String>>,
    config: Config,
    limits: Limits,
    bare: bool,
}

/// What became of a case.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// As [`Case::expect`].
    pub verdict: Vec<String>,
    /// As [`Case::events`].
    pub events: Vec<String>,
    /// As [`Case::sends`].
    pub sends: Vec<String>,
}

/// A case as it is written.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Row {
    clause: String,
    steps: String,
    expect: String,
    events: Option<String>,
    sends: Option<String>,
    #[serde(default)]
    bare: bool,
    max_streams: Option<u32>,
    header_bytes: Option<usize>,
    header_table: Option<u32>,
}

macro_rules! files {
    ($($name:literal)*) => { &[$(($name, include_str!(concat!("../../tables/", $name)))),*] };
}

const SERVER_FILES: &[(&str, &str)] = files!(
    "http2-server-connection.toml"
    "http2-server-farewell.toml"
    "http2-server-stream.toml"
    "http2-server-block.toml"
    "http2-server-window.toml"
    "http2-server-message.toml"
    "http2-server-body.toml"
    "http2-server-hpack.toml"
);

const CLIENT_FILES: &[(&str, &str)] = files!("http2-client.toml" "http2-client-message.toml");

/// All cases.
///
/// # Panics
/// If a file is not as the module describes.
pub fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    for (role, files) in [(Role::Server, SERVER_FILES), (Role::Client, CLIENT_FILES)] {
        for (file, text) in files {
            let rows: BTreeMap<String, Row> =
                toml::from_str(text).unwrap_or_else(|error| panic!("{file}: {error}"));
            for (name, row) in rows {
                let case = case(name.clone(), role, row);
                cases.push(case.unwrap_or_else(|error| panic!("{file}: {name}: {error}")));
            }
        }
    }
    cases
}

fn case(name: String, role: Role, row: Row) -> Result<Case, String> {
    let lines =
        |text: &str| text.lines().filter(|line| !line.is_empty()).map(str::to_owned).collect();
    let mut config = Config::default();
    config.settings.max_concurrent_streams =
        row.max_streams.or(config.settings.max_concurrent_streams);
    config.settings.header_table_size =
        row.header_table.unwrap_or(config.settings.header_table_size);
    let limits = Limits::default();
    let header_bytes = row.header_bytes.unwrap_or(limits.header_bytes);
    Ok(Case {
        name,
        clause: row.clause,
        role,
        steps: notation::parse(&row.steps)?,
        expect: lines(&row.expect),
        events: row.events.as_deref().map(lines),
        sends: row.sends.as_deref().map(lines),
        config,
        limits: Limits { header_bytes, ..limits },
        bare: row.bare,
    })
}

impl Case {
    /// A case that is not of the table: an honest greeting, then these steps.
    pub fn made_up(role: Role, steps: Vec<Step>) -> Self {
        Case {
            name: String::new(),
            clause: String::new(),
            role,
            steps,
            expect: Vec::new(),
            events: None,
            sends: None,
            config: Config::default(),
            limits: Limits::default(),
            bare: false,
        }
    }
}

/// How the bytes of the `n`th run of bytes are cut.
pub type Cutter<'a> = &'a dyn Fn(usize, &[u8]) -> Vec<usize>;

impl Case {
    /// What the peer sends before the case begins.
    pub fn greeting(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        if !self.bare {
            if self.role == Role::Server {
                bytes.extend(PREFACE);
            }
            Frame::settings(&[]).write(&mut bytes);
            Frame::settings_ack().write(&mut bytes);
        }
        bytes
    }

    /// All that happens, greeting included.
    pub fn script(&self) -> Vec<Step> {
        let greeting = self.greeting();
        let mut script = self.steps.clone();
        match script.first_mut() {
            _ if greeting.is_empty() => {}
            Some(Step::Bytes(bytes)) => drop(bytes.splice(..0, greeting)),
            _ => script.insert(0, Step::Bytes(greeting)),
        }
        script
    }

    /// What we allow, where it is not the default.
    pub fn config_key(&self) -> (Option<u32>, usize, u32) {
        let settings = &self.config.settings;
        (settings.max_concurrent_streams, self.limits.header_bytes, settings.header_table_size)
    }

    /// Are our limits the default ones?
    pub fn has_default_limits(&self) -> bool {
        self.config_key() == Case::made_up(self.role, Vec::new()).config_key()
    }

    /// Does the peer act alone, so that the case can be sent to anybody?
    pub fn is_one_sided(&self) -> bool {
        self.steps.iter().all(|step| matches!(step, Step::Bytes(_)))
    }

    /// Us, before anything happened.
    pub(super) fn end(&self) -> End {
        let mut end = End::new(self.role, self.config.clone());
        end.limits = self.limits.clone();
        end
    }

    /// Runs it, each run of bytes in the pieces that end at `cuts`.
    pub fn run(&self, cuts: Cutter<'_>) -> Outcome {
        let mut end = self.end();
        let mut sent = end.take();
        for (index, step) in self.script().iter().enumerate() {
            match step {
                Step::Bytes(bytes) => {
                    let mut from = 0;
                    for to in cuts(index, bytes).into_iter().chain([bytes.len()]) {
                        end.receive(&bytes[from..to]);
                        from = to;
                    }
                }
                Step::We(action) => act(&mut end, action),
            }
            sent.extend(end.take());
        }
        self.outcome(end, sent)
    }

    fn outcome(&self, mut end: End, mut sent: Vec<u8>) -> Outcome {
        let alive = !end.dead && !self.steps.is_empty();
        if alive && end.rx.is_empty() {
            // It still lives, and is where we believe that it is.
            end.receive(&Frame::ping(*b"liveness").bytes());
            let answer = end.take();
            let expected = [&[0, 0, 8, 6, 1, 0, 0, 0, 0][..], b"liveness"].concat();
            assert!(answer == expected || end.dead, "{}: no answer to PING", self.name);
        }
        let invariants = end.connection.check_invariants();
        assert!(end.dead || invariants.is_ok(), "{}: {invariants:?}", self.name);
        let preface = if self.role == Role::Client { PREFACE.len() } else { 0 };
        let sent = frames(&sent.split_off(preface));
        // SETTINGS and the window of the connection; the answer to the greeting.
        let greeted = usize::from(!self.bare);
        let sends: Vec<&Frame> = sent.iter().skip(2 + greeted).collect();
        let mut events: Vec<String> = end.seen.iter().map(Seen::to_string).collect();
        if !self.bare && !events.is_empty() {
            events.remove(0);
        }
        Outcome {
            verdict: self.verdict(&end, &sends),
            events,
            sends: sends.iter().map(ToString::to_string).collect(),
        }
    }

    /// What we did about it: the frames, and why.
    fn verdict(&self, end: &End, sends: &[&Frame]) -> Vec<String> {
        let mut why = end.violations.iter();
        let mut label = || why.next().map_or("?", |violation| violation.label());
        let mut ours: Vec<u32> = self.steps.iter().filter_map(Step::resets).collect();
        let mut verdict = Vec::new();
        for frame in sends {
            if frame.is("RST_STREAM") {
                if let Some(at) = ours.iter().position(|&id| id == frame.stream) {
                    ours.remove(at);
                    continue;
                }
                let code = code(frame.first_word());
                verdict.push(format!("stream {} {code} {}", frame.stream, label()));
            } else if frame.is("GOAWAY") && end.dead {
                let code = code(frame.word(4).unwrap_or(0));
                verdict.push(format!("connection {code} {}", label()));
            }
        }
        if verdict.is_empty() {
            verdict.push("accept".to_owned());
        }
        verdict
    }
}

impl Step {
    /// The stream that we reset.
    fn resets(&self) -> Option<u32> {
        match self {
            Step::We(Action::Reset(id, _)) => Some(*id),
            _ => None,
        }
    }
}

/// Does what the script says that we do.
pub(super) fn act(end: &mut End, action: &Action) {
    match action {
        Action::Ask(head, last) => {
            end.ask(head, *last).expect("room for a stream");
        }
        Action::Respond(id, head, last) => end.answer(end.key(*id), head, *last),
        Action::Send(id, n, last) => {
            assert!(end.put(end.key(*id), &vec![b'x'; *n], *last), "nothing can be sent");
        }
        Action::Trail(id, section) => {
            end.trail(end.key(*id), section).expect("trailers");
        }
        Action::Reset(id, code) => end.reset(end.key(*id), ErrorCode(*code)),
        Action::Release(id, n) => {
            let key = end.key(*id);
            end.connection.release(&mut end.tx, key, *n, false);
        }
        Action::Wait(millis) => end.wait_until(end.now + Duration::from_millis(*millis)),
        Action::ShutDown => end.connection.shut_down(&mut end.tx, end.now),
        Action::KeepAlive => end.connection.keep_alive(&mut end.tx, end.now),
    }
}
