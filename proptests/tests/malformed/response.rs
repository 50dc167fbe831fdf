//! What backends send.

use selvedge_core::engine::{CloseKind, ConnId};
use selvedge_proptests::harness::Harness;
use selvedge_proptests::harness::message::{Framing, Message, Sender, read};
use selvedge_proptests::table::{self, Case, Expect, Kind, Reached, Then};

use super::cuts::{self, Cut};
use super::*;

/// Goes through the proxy after every case, and must get an answer of its own.
const NEXT: &[u8] = b"GET /next HTTP/1.1\r\nHost: a.example\r\n\r\n";
const NEXT_ANSWER: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nnext";

#[test]
fn responses_get_what_the_table_says() {
    let mut failures = Failures::new();
    for case in table::responses() {
        let Kind::Response(request) = &case.kind else {
            continue;
        };
        for cut in cuts::of(&case.bytes) {
            note(&mut failures, &case.name, &cut, run(&case, request, &cut));
        }
    }
    report(&failures);
}

/// Sends one response one way.
fn run(case: &Case, request: &[u8], cut: &Cut) -> Result<(), String> {
    let mut harness = Harness::new(CONFIG.clone());
    let mut backends = Backends::default();
    let client = harness.accept(0);
    harness.send(client, request);
    let Some((backend, asked)) = backends.next(&harness)? else {
        return Err("the request did not arrive".to_owned());
    };
    for piece in cuts::pieces(&case.bytes, cut) {
        harness.send(backend, piece);
    }
    match case.then {
        Then::Open => {}
        Then::Eof => harness.close(backend),
        Then::Reset => harness.reset(backend),
    }
    if backends.next(&harness)?.is_some() || backends.has_part(&harness) {
        return Err("the request was sent again".to_owned());
    }
    let pipe = harness.pipe(client);
    let ended = pipe.ended() && pipe.over != Some(CloseKind::Abort);
    let methods = [asked.method()];
    let (answers, left) = read(&pipe.received, Sender::Server(&methods), ended)
        .map_err(|problem| format!("the client got {}: {problem}", show(&pipe.received)))?;
    if !left.is_empty() {
        return Err(format!("{} after the answer", show(&left)));
    }
    match case.expect {
        Expect::Forward => check_forwarded(case, &asked, &harness, &answers)?,
        Expect::Refused { reason, .. } => check_refused(case, reason, &harness, client, &answers)?,
        Expect::Closed => unreachable!("the table allows it for requests only"),
    }
    check_next(case, harness, client, backends, backend)
}

/// The client got what the table says.
fn check_forwarded(
    case: &Case,
    asked: &Message,
    harness: &Harness,
    answers: &[Message],
) -> Result<(), String> {
    let reasons = reasons(harness);
    if !reasons.is_empty() {
        return Err(format!("refused because {reasons:?}"));
    }
    let text = case.forwarded.as_deref().unwrap_or_default();
    let (wanted, rest) = read(text, Sender::Server(&[asked.method()]), false)?;
    assert!(rest.is_empty(), "{}: `forwarded` is no message", case.name);
    compare(answers, &wanted)?;
    check_fields(&answers[0], &case.has, &case.lacks)
}

/// The client got a 502, or what it got is visibly cut short.
fn check_refused(
    case: &Case,
    reason: Option<Reason>,
    harness: &Harness,
    client: ConnId,
    answers: &[Message],
) -> Result<(), String> {
    let said = reasons(harness);
    if said.len() != 1 || reason.is_some_and(|reason| reason != said[0] && !may_differ(case)) {
        return Err(format!("refused because {said:?}"));
    }
    let over = harness.pipe(client).over;
    let Some((last, interim)) = answers.split_last() else {
        // A reset may overtake what it cuts short.
        let reset = case.reached == Reached::Head && over == Some(CloseKind::Abort);
        return if reset { Ok(()) } else { Err("no answer".to_owned()) };
    };
    if let Some(wrong) = interim.iter().find(|answer| answer.status() >= 200) {
        return Err(format!("answered {} and more", show_message(wrong)));
    }
    if last.status() == 502 && last.complete {
        if last.field("l5d-proxy-error") != Some(said[0].message().as_bytes()) {
            return Err(format!("no l5d-proxy-error in {}", show_message(last)));
        }
        return Ok(());
    }
    if case.reached == Reached::Nothing {
        return Err(format!("answered {}, because {said:?}", show_message(last)));
    }
    let visible = !last.complete && over.is_some();
    // Where the end of the connection is the end of the body, only a reset shows the difference.
    if !visible || (last.framing == Framing::UntilClose && over != Some(CloseKind::Abort)) {
        return Err(format!("{over:?} after {}", show_message(last)));
    }
    Ok(())
}

/// A body that breaks is a bad response before its head went on and a truncated one after; which
/// of them depends on how it arrived.
fn may_differ(case: &Case) -> bool {
    case.reached == Reached::Head
}

/// The next request gets its own answer, over the same connection to the backend only if the table
/// says that it may.
fn check_next(
    case: &Case,
    mut harness: Harness,
    client: ConnId,
    mut backends: Backends,
    backend: ConnId,
) -> Result<(), String> {
    harness.advance(LINGER);
    let kept = !harness.pipe(client).ended();
    if case.keeps.is_some_and(|keeps| keeps != kept) {
        return Err(format!("the client's connection kept: {kept}"));
    }
    let client = if kept { client } else { harness.accept(0) };
    let before = harness.pipe(client).received.len();
    harness.send(client, NEXT);
    let answer = |harness: &mut Harness, conn, _: &Message| harness.send(conn, NEXT_ANSWER);
    backends.serve(&mut harness, answer)?;
    let got = &harness.pipe(client).received[before..];
    if got != NEXT_ANSWER {
        return Err(format!("the next request was answered {}", show(got)));
    }
    let [(conn, _)] = backends.seen[..] else {
        return Err(format!("{} requests after the first", backends.seen.len()));
    };
    let reused = conn == backend;
    let may = case.expect == Expect::Forward && case.reused != Some(false);
    if (reused && !may) || (!reused && case.reused == Some(true)) {
        return Err(format!("the backend's connection used again: {reused}"));
    }
    if !reused && harness.pipe(backend).over.is_none() {
        return Err("a connection of no use stays open".to_owned());
    }
    Ok(())
}
