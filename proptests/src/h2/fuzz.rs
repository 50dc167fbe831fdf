//! What must hold of a connection whatever the bytes are. As in [`codec`](crate::codec), what does not
//! hold is a panic.

use selvedge_core::http2::{Config, Role};

use super::end::End;
use super::oracle::{compare, generate, is_allowed, ours, theirs};
use super::table::Case;
use super::wire::{Frame, PREFACE, frames};
use crate::choose::{Bytes, Choose};

/// The first bytes, taken off, are choices.
const CHOICES: usize = 4;

/// What bytes come to.
#[derive(Debug, PartialEq, Eq)]
struct Outcome {
    seen: Vec<String>,
    sent: Vec<Frame>,
    dead: bool,
}

/// Bytes of a client mean the same in every cut, and leave a connection whose sums are right.
///
/// # Panics
/// If something does not hold.
pub fn http2_server(data: &[u8]) {
    in_every_cut(data, Role::Server);
}

/// The same, of a server that was asked for three things.
///
/// # Panics
/// If something does not hold.
pub fn http2_client(data: &[u8]) {
    in_every_cut(data, Role::Client);
}

fn in_every_cut(data: &[u8], role: Role) {
    let (choices, bytes) = data.split_at(data.len().min(CHOICES));
    let mut choose = Bytes::new(choices);
    let (first, second) = (choose.below(bytes.len() + 1), choose.below(bytes.len() + 1));
    let whole = run(role, bytes, &[]);
    let pieces = [first.min(second), first.max(second)];
    assert_eq!(run(role, bytes, &pieces), whole, "cut at {pieces:?}");
    if bytes.len() <= 4096 {
        let all: Vec<usize> = (1..bytes.len()).collect();
        assert_eq!(run(role, bytes, &all), whole, "byte by byte");
    }
}

fn run(role: Role, bytes: &[u8], cuts: &[usize]) -> Outcome {
    let mut end = End::new(role, Config::default());
    let mut sent = end.take();
    if role == Role::Server {
        end.receive(PREFACE);
    }
    end.receive(&Frame::settings(&[]).bytes());
    end.receive(&Frame::settings_ack().bytes());
    if role == Role::Client {
        for (method, last) in [("GET", true), ("POST", false), ("HEAD", true)] {
            let head = format!("{method} / HTTP/1.1\r\nHost: a.example\r\n\r\n");
            end.ask(head.as_bytes(), last).expect("room for a stream");
        }
    }
    let mut from = 0;
    for &to in cuts.iter().chain([&bytes.len()]) {
        end.receive(&bytes[from..to]);
        from = to;
        sent.extend(end.take());
        let invariants = end.connection.check_invariants();
        assert!(end.dead || invariants.is_ok(), "{invariants:?}");
        let heap = end.connection.heap_bytes();
        assert!(heap <= 2 * bytes.len() + (1 << 20), "{heap} heap bytes for {}", bytes.len());
    }
    // We answer at most a few octets for each that we get, and always in whole frames.
    assert!(sent.len() <= 8 * bytes.len() + 4096, "{} octets for {}", sent.len(), bytes.len());
    let preface = if role == Role::Client { PREFACE.len() } else { 0 };
    let sent = frames(&sent.split_off(preface));
    Outcome { seen: end.lines(), sent, dead: end.dead }
}

/// A conversation that these bytes choose means the same to us and to the `h2` crate, but for what is
/// listed.
///
/// # Panics
/// If there is a difference that is not.
pub fn http2_differential(data: &[u8]) {
    let mut choose = Bytes::new(data);
    let role = if choose.flip() { Role::Client } else { Role::Server };
    let (steps, name) = generate::script(&mut choose, role);
    let case = Case::made_up(role, steps);
    let Some(theirs) = theirs(&case) else { return };
    if let Err(difference) = compare(name, &ours(&case), &theirs) {
        assert!(is_allowed(&difference), "{difference:?}");
    }
}
