//! The `h2` crate on the same bytes: what does it make of them?
//!
//! Both get the same script; both say, for each stream, what arrived on it and how it ended, and
//! whether the connection broke. Where they differ, one of [`ALLOWED`] says why, or it is a bug.

mod allowed;
pub mod generate;
mod peer;

use std::collections::BTreeMap;

use selvedge_core::http2::Role;

use super::end::{End, Seen};
use super::notation::Step;
use super::table::{Case, act};
use super::wire::{self, Frame, PREFACE};
pub use allowed::{ALLOWED, Allowed};

/// What a stream came to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Stream {
    /// First line and fields, sorted, without framing.
    pub head: Option<Vec<String>>,
    /// Its body.
    pub body: Vec<u8>,
    /// The fields of its trailers, sorted.
    pub trailers: Option<Vec<String>>,
    /// All of it came.
    pub end: bool,
    /// The code with which the receiver reset it.
    pub broken: Option<u32>,
    /// The sender reset it: what came before may be handed out, or not.
    pub cancelled: bool,
}

/// What a script came to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Meaning {
    /// By identifier.
    pub streams: BTreeMap<u32, Stream>,
    /// The code of the GOAWAY with which the receiver gave up.
    pub dead: Option<u32>,
    /// The rules that it says were broken (ours only).
    pub labels: Vec<String>,
}

/// Where two meanings differ first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Difference {
    /// The rule that we say was broken, or the name of what was compared if there is none.
    pub label: String,
    /// What we did.
    pub ours: String,
    /// What `h2` did.
    pub theirs: String,
}

/// What we make of a script; `None`: it was too much for a comparison.
pub fn ours(case: &Case) -> Meaning {
    let mut end = case.end();
    let mut sent = end.take();
    for step in case.script() {
        match step {
            Step::Bytes(bytes) => end.receive(&bytes),
            Step::We(action) => act(&mut end, &action),
        }
        sent.extend(end.take());
    }
    meaning(&end, &sent)
}

fn meaning(end: &End, sent: &[u8]) -> Meaning {
    let mut meaning = Meaning::default();
    for seen in &end.seen {
        match seen {
            Seen::Data { stream, bytes, end } => {
                let stream = meaning.streams.entry(*stream).or_default();
                stream.body.extend_from_slice(bytes);
                stream.end |= end;
            }
            Seen::Line(line) => note_line(&mut meaning, line),
        }
    }
    meaning.labels = end.violations.iter().map(|violation| violation.label().to_owned()).collect();
    note_sent(&mut meaning, sent, end.dead);
    meaning
}

fn note_line(meaning: &mut Meaning, line: &str) {
    let Some((what, rest)) = line.split_once(' ') else { return };
    let Some((id, rest)) = rest.split_once(' ') else { return };
    let Ok(id) = id.parse() else { return };
    let (first, fields) = rest.split_once(" {").unwrap_or(("", rest.trim_start_matches('{')));
    let (fields, tail) = fields.rsplit_once('}').unwrap_or((fields, ""));
    let stream = meaning.streams.entry(id).or_default();
    match what {
        "request" => stream.head = Some(lines(first, fields)),
        "response" if first.starts_with('1') => {}
        "response" => stream.head = Some(lines(first, fields)),
        "reset" => stream.cancelled = true,
        "refused" => stream.head = Some(vec!["refused".to_owned()]),
        "trailers" => {
            stream.trailers = Some(lines("", fields));
            stream.end = true;
        }
        _ => {}
    }
    stream.end |= tail.ends_with(" end");
}

/// Sorted, and without what only says how the body is framed.
fn lines(first: &str, fields: &str) -> Vec<String> {
    let mut lines: Vec<String> = fields
        .split(", ")
        .filter(|line| !line.is_empty() && *line != "Transfer-Encoding: chunked")
        .map(|line| line.replacen("Host: ", "host: ", 1).trim_end().to_owned())
        .collect();
    lines.sort();
    lines.insert(0, first.to_owned());
    lines
}

/// Resets and the end, from the frames that were sent.
fn note_sent(meaning: &mut Meaning, sent: &[u8], dead: bool) {
    let mut sent = sent.strip_prefix(PREFACE).unwrap_or(sent);
    while let Some(frame) = Frame::take(&mut sent) {
        if frame.is("RST_STREAM") {
            let stream = meaning.streams.entry(frame.stream).or_default();
            stream.broken.get_or_insert(frame.first_word());
        } else if frame.is("GOAWAY") {
            let code = frame.word(4).unwrap_or(0);
            if dead || code != 0 {
                meaning.dead = Some(code);
            }
        }
    }
}

/// What `h2` makes of it; `None` if the script has something that it cannot do.
pub fn theirs(case: &Case) -> Option<Meaning> {
    let mut peer = match case.role {
        Role::Server => peer::Peer::server(),
        Role::Client => peer::Peer::client(),
    };
    for step in case.script() {
        match step {
            Step::Bytes(bytes) => peer.receive(&bytes),
            Step::We(action) => peer.act(&action)?,
        }
    }
    Some(peer.meaning())
}

/// The first difference.
///
/// # Errors
/// If there is one.
pub fn compare(name: &str, ours: &Meaning, theirs: &Meaning) -> Result<(), Difference> {
    // What broke the connection came last.
    let labels = &ours.labels;
    let label = if ours.dead.is_some() { labels.last() } else { labels.first() };
    let label = || label.map_or(name, String::as_str).to_owned();
    let differ = |ours: String, theirs: String| Err(Difference { label: label(), ours, theirs });
    let how = |meaning: &Meaning| {
        if let Some(code) = meaning.dead {
            return format!("connection {}", wire::code(code));
        }
        let broken = meaning.streams.values().find_map(|stream| stream.broken);
        broken.map_or("accept".to_owned(), |code| format!("stream {}", wire::code(code)))
    };
    if how(ours) != how(theirs) {
        return differ(how(ours), how(theirs));
    }
    if ours.dead.is_some() {
        // What arrived before it broke may not have been handed out.
        return Ok(());
    }
    let ids = ours.streams.keys().chain(theirs.streams.keys());
    for id in ids {
        let (ours, theirs) = (ours.streams.get(id), theirs.streams.get(id));
        let (empty, empty_too) = (Stream::default(), Stream::default());
        let (ours, theirs) = (ours.unwrap_or(&empty), theirs.unwrap_or(&empty_too));
        // What is answered with an error says no more.
        let answered = ours.head.as_ref().is_some_and(|head| head[0] == "refused");
        if answered || ours.cancelled || ours.broken.is_some() && theirs.broken == ours.broken {
            continue;
        }
        if let (Some(code), None) = (ours.broken, theirs.broken) {
            return differ(format!("stream {}", wire::code(code)), "accept".to_owned());
        }
        if ours != theirs {
            return differ(format!("{id}: {ours:?}"), format!("{id}: {theirs:?}"));
        }
    }
    Ok(())
}

/// Is that one of those that are allowed?
pub fn is_allowed(difference: &Difference) -> bool {
    ALLOWED.iter().copied().flatten().any(|allowed| {
        allowed.label == difference.label
            && allowed.ours == difference.ours
            && allowed.theirs == difference.theirs
    })
}

/// Names of fields and their values from `h2`, as [`lines`] has them.
fn header_lines(first: &str, map: &http::HeaderMap) -> Vec<String> {
    let mut text = String::new();
    for name in map.keys() {
        let values: Vec<String> = map
            .get_all(name)
            .iter()
            .map(|value| value.as_bytes().escape_ascii().to_string())
            .collect();
        let shown = name.as_str().as_bytes().escape_ascii();
        let one = |value: &String| format!(", {shown}: {value}");
        if name == "cookie" {
            text.push_str(&one(&values.join("; ")));
        } else {
            text.extend(values.iter().map(one));
        }
    }
    lines(first, &text)
}
