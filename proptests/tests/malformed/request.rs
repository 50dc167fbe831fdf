//! What clients send.

use selvedge_core::engine::{CloseKind, ConnId};
use selvedge_core::sniff::{Protocol, Sniffer};
use selvedge_core::time::Duration;
use selvedge_proptests::harness::Harness;
use selvedge_proptests::harness::message::{Message, Sender, read};
use selvedge_proptests::table::{self, Case, Expect, GOOD_REQUEST, Reached, Then};

use super::cuts::{self, Cut};
use super::*;

/// Later than the deadline for a head, and earlier than that of an idle connection.
const HEADER_TIMEOUT: Duration = Duration::from_secs(31);

#[test]
fn requests_get_what_the_table_says() {
    let mut failures = Failures::new();
    for case in table::requests() {
        for cut in cuts::of(&case.bytes) {
            note(&mut failures, &case.name, &cut, run(&case, &cut));
        }
    }
    report(&failures);
}

/// Otherwise a case would be forwarded as opaque, and test nothing.
#[test]
fn requests_that_come_first_are_http() {
    for case in table::requests().iter().filter(|case| !case.after_good) {
        let protocol = Sniffer::default().sniff(&case.bytes);
        assert_eq!(protocol, Some(Protocol::Http1), "{}", case.name);
    }
}

/// Sends one case one way.
fn run(case: &Case, cut: &Cut) -> Result<(), String> {
    let mut harness = Harness::new(CONFIG.clone());
    let mut backends = Backends::default();
    let client = harness.accept(0);
    if case.after_good {
        harness.send(client, GOOD_REQUEST);
        backends.serve(&mut harness, answer_ok)?;
    }
    for piece in cuts::pieces(&case.bytes, cut) {
        harness.send(client, piece);
        if case.tunnel.is_none() {
            backends.serve(&mut harness, answer_ok)?;
        }
    }
    match case.then {
        Then::Open => {}
        Then::Eof => harness.close(client),
        Then::Reset => harness.reset(client),
    }
    if matches!(case.expect, Expect::Refused { status: 408, .. }) {
        harness.advance(HEADER_TIMEOUT);
    }
    if let Some(wanted) = &case.tunnel {
        return check_tunnel(&harness, client, wanted);
    }
    backends.serve(&mut harness, answer_ok)?;
    check(case, harness, client, &backends)
}

fn check(
    case: &Case,
    mut harness: Harness,
    client: ConnId,
    backends: &Backends,
) -> Result<(), String> {
    let before = usize::from(case.after_good);
    let seen: Vec<Message> = backends.seen.iter().map(|(_, message)| message.clone()).collect();
    let mut methods: Vec<&[u8]> = seen.iter().map(Message::method).collect();
    // Of the one that is refused.
    methods.push(b"GET");
    let pipe = harness.pipe(client);
    let (responses, left) = read(&pipe.received, Sender::Server(&methods), pipe.ended())
        .map_err(|problem| format!("answered {}: {problem}", show(&pipe.received)))?;
    if !left.is_empty() {
        return Err(format!("{} after the answer", show(&left)));
    }
    for good in responses.iter().take(seen.len()) {
        if good.status() != 200 || !good.complete {
            return Err(format!("a good request was answered {}", show_message(good)));
        }
    }
    if case.expect == Expect::Forward {
        return check_forwarded(case, harness, client, &seen[before..], responses.len());
    }
    if seen.len() > before {
        return Err(format!("served {}", show_message(&seen[before])));
    }
    if case.reached == Reached::Nothing && backends.has_part(&harness) {
        return Err("a part of it reached the backend".to_owned());
    }
    if let Expect::Refused { status, reason } = case.expect {
        check_refusal(&harness, &responses[before..], status, reason)?;
    }
    harness.advance(LINGER);
    check_end(case, &harness, client, &responses, backends)
}

/// One answer, with this status and for this reason.
fn check_refusal(
    harness: &Harness,
    answers: &[Message],
    status: u16,
    reason: Option<Reason>,
) -> Result<(), String> {
    let reasons = reasons(harness);
    let [answer] = answers else {
        return Err(format!("{} answers, because {reasons:?}", answers.len()));
    };
    if answer.status() != status || !answer.complete {
        return Err(format!("answered {}, because {reasons:?}", show(&answer.line)));
    }
    if reasons.len() != 1 || reason.is_some_and(|reason| reasons != [reason]) {
        return Err(format!("refused because {reasons:?}"));
    }
    if answer.field("l5d-proxy-error") != Some(reasons[0].message().as_bytes()) {
        return Err(format!("no l5d-proxy-error in {}", show_message(answer)));
    }
    Ok(())
}

/// After a refusal everything is closed: the client, and a backend that saw a part.
fn check_end(
    case: &Case,
    harness: &Harness,
    client: ConnId,
    responses: &[Message],
    backends: &Backends,
) -> Result<(), String> {
    // An unknown authority is nothing that the next request must suffer for.
    let may_stay = matches!(case.expect, Expect::Refused { status: 404, .. });
    let over = harness.pipe(client).over;
    if over.is_none() && !may_stay {
        return Err("the client's connection stays open".to_owned());
    }
    if over.is_some() && over != Some(CloseKind::Full) && case.then == Then::Open {
        return Err("the client's connection is reset: it may not see the answer".to_owned());
    }
    let last = responses.last().filter(|_| over.is_some());
    if last.is_some_and(|last| last.status() != 200 && last.field("connection") != Some(b"close")) {
        return Err("the answer does not say that the connection closes".to_owned());
    }
    let part = |conn: &&ConnId| {
        let read = backends.read.get(*conn).map_or(0, |read| read.0);
        harness.pipe(**conn).received.len() > read
    };
    match harness.connected().iter().find(part) {
        Some(&conn) if harness.pipe(conn).over.is_none() => {
            Err("a backend waits for the rest".to_owned())
        }
        _ => Ok(()),
    }
}

fn check_forwarded(
    case: &Case,
    mut harness: Harness,
    client: ConnId,
    seen: &[Message],
    answers: usize,
) -> Result<(), String> {
    let reasons = reasons(&harness);
    if !reasons.is_empty() {
        return Err(format!("refused because {reasons:?}"));
    }
    let text = case.forwarded.as_deref().unwrap_or_default();
    let (wanted, rest) = read(text, Sender::Client, false)?;
    assert!(rest.is_empty(), "{}: `forwarded` is no message", case.name);
    compare(seen, &wanted)?;
    for (got, wanted) in seen.iter().zip(&wanted) {
        if got.framing != wanted.framing {
            return Err(format!("framed as {:?}, not {:?}", got.framing, wanted.framing));
        }
    }
    if let Some(first) = seen.first() {
        check_fields(first, &case.has, &case.lacks)?;
    }
    if answers != seen.len() + usize::from(case.after_good) {
        return Err(format!("{answers} answers to {} requests", seen.len()));
    }
    harness.advance(LINGER);
    let kept = !harness.pipe(client).ended();
    let keeps = case.keeps.unwrap_or(true);
    if kept != keeps {
        return Err(format!("connection kept: {kept}"));
    }
    Ok(())
}

/// A tunnel carries what follows its request, and nothing else.
fn check_tunnel(harness: &Harness, client: ConnId, wanted: &[u8]) -> Result<(), String> {
    let answer = &harness.pipe(client).received;
    if !answer.starts_with(b"HTTP/1.1 200 ") || !answer.ends_with(b"\r\n\r\n") {
        return Err(format!("answered {}", show(answer)));
    }
    let [conn] = harness.connected() else {
        return Err(format!("{} connections", harness.connected().len()));
    };
    let got = &harness.pipe(*conn).received;
    if got != wanted {
        return Err(format!("tunnelled {}", show(got)));
    }
    Ok(())
}
