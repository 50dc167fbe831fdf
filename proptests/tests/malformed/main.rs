//! Every message of the table goes through the engine: whole, cut in two at every byte, and byte by
//! byte. However it is cut, it must mean the same.
//!
//! Of a long message every cut is tried only with `SELVEDGE_FULL` set: see [`cuts::of`].

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, LazyLock};

use selvedge_core::config::{Config, Endpoint, Service, Target};
use selvedge_core::engine::{ConnId, Event};
use selvedge_core::error::Reason;
use selvedge_core::time::Duration;
use selvedge_proptests::harness::message::{Field, Message, Sender, read};
use selvedge_proptests::harness::{Harness, outbound};
use selvedge_proptests::table::AUTHORITIES;

mod cuts;
mod request;
mod response;

/// After this, whatever lingers is over.
const LINGER: Duration = Duration::from_secs(2);

/// A service for every authority, with one endpoint each.
static CONFIG: LazyLock<Arc<Config>> = LazyLock::new(|| {
    let service = |(number, name): (usize, &&str)| Service {
        name: (*name).into(),
        endpoints: vec![Endpoint {
            target: Target::Addr(SocketAddr::from(([198, 51, 100, number as u8], 80))),
            weight: 1,
            mesh: None,
            zone: None,
        }],
        ..Service::default()
    };
    Arc::new(Config {
        listeners: vec![outbound()],
        services: AUTHORITIES.iter().enumerate().map(service).collect(),
        ..Config::default()
    })
});

/// What is wrong, by what was sent and how it was cut.
type Failures = BTreeMap<String, String>;

/// Notes a failure; of the cuts of one case the first is enough.
fn note(failures: &mut Failures, case: &str, cut: &cuts::Cut, result: Result<(), String>) {
    if let Err(problem) = result {
        let entry = failures.entry(case.to_owned());
        entry.or_insert_with(|| format!("{cut:?}: {problem}"));
    }
}

fn report(failures: &Failures) {
    let lines = failures.iter().map(|(case, problem)| format!("{case}: {problem}\n"));
    let text: String = lines.collect();
    assert!(failures.is_empty(), "{} cases fail:\n{text}", failures.len());
}

/// What the backends got. They read strictly and answer every complete request.
#[derive(Default)]
struct Backends {
    /// Complete requests, in order, and where they came.
    seen: Vec<(ConnId, Message)>,
    /// Of each connection: bytes read as messages, bytes looked at.
    read: BTreeMap<ConnId, (usize, usize)>,
}

impl Backends {
    /// Reads what came and answers, until nothing more comes.
    fn serve(
        &mut self,
        harness: &mut Harness,
        mut answer: impl FnMut(&mut Harness, ConnId, &Message),
    ) -> Result<(), String> {
        while let Some((conn, message)) = self.next(harness)? {
            self.seen.push((conn, message.clone()));
            answer(harness, conn, &message);
        }
        Ok(())
    }

    /// The next complete request on any connection.
    fn next(&mut self, harness: &Harness) -> Result<Option<(ConnId, Message)>, String> {
        for &conn in harness.connected() {
            let received = &harness.pipe(conn).received;
            let (read_to, looked) = self.read.entry(conn).or_default();
            if *looked == received.len() {
                continue;
            }
            let rest = &received[*read_to..];
            let (messages, left) = read(rest, Sender::Client, false)
                .map_err(|problem| format!("the backend cannot read {}: {problem}", show(rest)))?;
            match messages.into_iter().next() {
                Some(message) if message.complete => {
                    // One at a time: none is sent before the one before it was answered.
                    if !left.is_empty() {
                        return Err(format!("{} after a request", show(&left)));
                    }
                    *read_to = received.len();
                    *looked = received.len();
                    return Ok(Some((conn, message)));
                }
                _ => *looked = received.len(),
            }
        }
        Ok(None)
    }

    /// Has any connection got something that is not a complete request?
    fn has_part(&self, harness: &Harness) -> bool {
        harness.connected().iter().any(|conn| {
            let read = self.read.get(conn).map_or(0, |read| read.0);
            harness.pipe(*conn).received.len() > read
        })
    }
}

/// 200 with a body, or without one to HEAD.
fn answer_ok(harness: &mut Harness, conn: ConnId, request: &Message) {
    let body: &[u8] = if request.method() == b"HEAD" { b"" } else { b"ok" };
    let head = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n";
    harness.send(conn, &[head, body].concat());
}

/// Why the engine says it refused something.
fn reasons(harness: &Harness) -> Vec<Reason> {
    let reason = |event: &Event| match event {
        Event::Refused { reason, .. } => Some(*reason),
        _ => None,
    };
    harness.events().iter().filter_map(reason).collect()
}

/// Compares messages by what they say, not by how they are framed or what Connection says.
fn compare(got: &[Message], wanted: &[Message]) -> Result<(), String> {
    let essence = |message: &Message| {
        let hop = |name: &[u8]| {
            [&b"connection"[..], b"content-length", b"transfer-encoding"]
                .iter()
                .any(|hop| name.eq_ignore_ascii_case(hop))
        };
        let mut fields: Vec<Field> = message.fields.clone();
        fields.retain(|field| !hop(&field.0));
        let (line, body) = (message.line.clone(), message.body.clone());
        (line, fields, body, message.trailers.clone())
    };
    if got.len() != wanted.len() {
        let lines: Vec<_> = got.iter().map(|message| show(&message.line)).collect();
        return Err(format!("{} messages: {lines:?}, not {}", got.len(), wanted.len()));
    }
    for (got, wanted) in got.iter().zip(wanted) {
        if essence(got) != essence(wanted) {
            return Err(format!("forwarded {}, not {}", show_message(got), show_message(wanted)));
        }
        if !got.complete {
            return Err(format!("forwarded a part of {}", show_message(got)));
        }
    }
    Ok(())
}

/// Checks single fields of a message.
fn check_fields(message: &Message, has: &[Vec<u8>], lacks: &[Vec<u8>]) -> Result<(), String> {
    let lines = |message: &Message| -> Vec<Vec<u8>> {
        let line = |field: &Field| [&field.0[..], b": ", &field.1].concat();
        message.fields.iter().map(line).collect()
    };
    for wanted in has {
        if !lines(message).iter().any(|line| line.eq_ignore_ascii_case(wanted)) {
            return Err(format!("no `{}` in {}", show(wanted), show_message(message)));
        }
    }
    for name in lacks {
        if message.fields.iter().any(|field| field.0.eq_ignore_ascii_case(name)) {
            return Err(format!("`{}` in {}", show(name), show_message(message)));
        }
    }
    Ok(())
}

fn show_message(message: &Message) -> String {
    let fields = message.fields.iter().chain(&message.trailers);
    let fields: Vec<_> =
        fields.map(|(name, value)| format!("{}: {}", show(name), show(value))).collect();
    format!("`{}` {fields:?} `{}`", show(&message.line), show(&message.body))
}

/// Bytes for people; long ones shortened.
fn show(bytes: &[u8]) -> String {
    const MOST: usize = 200;
    let shown = bytes[..bytes.len().min(MOST)].escape_ascii().to_string();
    if bytes.len() > MOST { format!("{shown}… ({} bytes)", bytes.len()) } else { shown }
}
