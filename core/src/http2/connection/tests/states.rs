//! Connections, state by state: what each frame means in it.

use std::string::ToString;

use super::*;
use crate::http2::frame::{FrameHeader, Kind};

/// A state of a connection, and how one gets there from the beginning.
type State = (&'static str, fn(&mut End));

/// The states of a connection: which column of the table.
const STATES: [State; 7] = [
    ("no preface", |_| {}),
    ("preface", |end| give(end, PREFACE)),
    ("open", open),
    ("in a block", |end| {
        open(end);
        // HEADERS without END_HEADERS.
        give(end, b"\0\0\x01\x01\x01\0\0\0\x01\x82");
    }),
    ("farewell", |end| {
        open(end);
        end.connection.shut_down(&mut end.tx, NOW);
        end.take();
    }),
    ("last stream", |end| {
        open(end);
        end.connection.shut_down(&mut end.tx, NOW);
        give(end, b"\0\0\x08\x06\x01\0\0\0\0farewell");
    }),
    ("dead", |end| {
        open(end);
        give(end, b"\0\0\x01\0\0\0\0\0\0x");
    }),
];

fn open(end: &mut End) {
    give(end, PREFACE);
    give(end, b"\0\0\0\x04\0\0\0\0\0");
}

fn give(end: &mut End, bytes: &[u8]) {
    end.rx.extend_from_slice(bytes);
    end.events();
    end.take();
}

/// What happens: `-` nothing; `<` answered; the rule that is broken, and with it the connection, or
/// in parentheses only the stream; anything else is reported.
fn outcome(end: &mut End, bytes: &[u8]) -> String {
    end.rx.extend_from_slice(bytes);
    let dead = end.connection.dead.is_some();
    let events = end.events();
    let sent = end.take();
    let mut text = String::new();
    for event in &events {
        text = match event.split_once(' ').map_or(event.as_str(), |(first, _)| first) {
            "request" => "request".into(),
            "GoAway" => "goaway".into(),
            "Offence(StreamClosed)" => "(StreamClosed)".into(),
            other => other.to_string(),
        };
    }
    let answers = sent.first_chunk::<4>().is_some_and(|header| matches!(header[3], 4 | 6));
    match text.as_str() {
        "" if answers => "<".into(),
        "" => "-".into(),
        _ if dead => "dead".into(),
        _ => text,
    }
}

/// Frame, its bytes, what it means in each state, and where that is said.
type Row = (&'static str, &'static [u8], [&'static str; 7], &'static str);

#[rustfmt::skip]
const TABLE: &[Row] = &[
    ("SETTINGS", b"\x00\x00\x00\x04\x00\x00\x00\x00\x00",
     ["Preface", "<", "<", "Interleaved", "<", "<", "dead"], "RFC 9113 §3.4, §6.5"),
    ("SETTINGS, ACK", b"\x00\x00\x00\x04\x01\x00\x00\x00\x00",
     ["Preface", "PrefaceSettings", "-", "Interleaved", "-", "-", "dead"], "RFC 9113 §3.4, §6.5"),
    ("SETTINGS out of range", b"\x00\x00\x06\x04\x00\x00\x00\x00\x00\x00\x02\x00\x00\x00\x02",
     ["Preface", "SettingValue", "SettingValue", "Interleaved", "SettingValue", "SettingValue", "dead"], "RFC 9113 §6.5.2"),
    ("SETTINGS on a stream", b"\x00\x00\x00\x04\x00\x00\x00\x00\x01",
     ["Preface", "FrameStream", "FrameStream", "Interleaved", "FrameStream", "FrameStream", "dead"], "RFC 9113 §6.5"),
    ("PING", b"\x00\x00\x08\x06\x00\x00\x00\x00\x00abcdefgh",
     ["Preface", "PrefaceSettings", "<", "Interleaved", "<", "<", "dead"], "RFC 9113 §6.7"),
    ("PING, ACK", b"\x00\x00\x08\x06\x01\x00\x00\x00\x00abcdefgh",
     ["Preface", "PrefaceSettings", "-", "Interleaved", "-", "-", "dead"], "RFC 9113 §6.7"),
    ("GOAWAY", b"\x00\x00\x08\x07\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00",
     ["Preface", "PrefaceSettings", "goaway", "Interleaved", "goaway", "goaway", "dead"], "RFC 9113 §6.8"),
    ("WINDOW_UPDATE", b"\x00\x00\x04\x08\x00\x00\x00\x00\x00\x00\x00\x00\x01",
     ["Preface", "PrefaceSettings", "-", "Interleaved", "-", "-", "dead"], "RFC 9113 §6.9"),
    ("WINDOW_UPDATE of 0", b"\x00\x00\x04\x08\x00\x00\x00\x00\x00\x00\x00\x00\x00",
     ["Preface", "PrefaceSettings", "WindowIncrement", "Interleaved", "WindowIncrement", "WindowIncrement", "dead"], "RFC 9113 §6.9"),
    ("HEADERS, a new stream", b"\x00\x00\x06\x01\x05\x00\x00\x00\x03\x82\x86\x84A\x01a",
     ["Preface", "PrefaceSettings", "request", "Interleaved", "request", "-", "dead"], "RFC 9113 §5.1.1, §6.8"),
    ("HEADERS, an even stream", b"\x00\x00\x06\x01\x05\x00\x00\x00\x02\x82\x86\x84A\x01a",
     ["Preface", "PrefaceSettings", "StreamIdle", "Interleaved", "StreamIdle", "StreamIdle", "dead"], "RFC 9113 §5.1.1"),
    ("CONTINUATION", b"\x00\x00\x05\x09\x04\x00\x00\x00\x01\x86\x84A\x01a",
     ["Preface", "PrefaceSettings", "Continuation", "request", "Continuation", "Continuation", "dead"], "RFC 9113 §6.10"),
    ("CONTINUATION, another stream", b"\x00\x00\x05\x09\x04\x00\x00\x00\x03\x86\x84A\x01a",
     ["Preface", "PrefaceSettings", "Continuation", "Interleaved", "Continuation", "Continuation", "dead"], "RFC 9113 §6.10"),
    ("DATA, an idle stream", b"\x00\x00\x01\x00\x00\x00\x00\x00\x03x",
     ["Preface", "PrefaceSettings", "StreamIdle", "Interleaved", "StreamIdle", "StreamIdle", "dead"], "RFC 9113 §5.1"),
    ("RST_STREAM, an idle stream", b"\x00\x00\x04\x03\x00\x00\x00\x00\x03\x00\x00\x00\x08",
     ["Preface", "PrefaceSettings", "StreamIdle", "Interleaved", "StreamIdle", "StreamIdle", "dead"], "RFC 9113 §5.1, §6.4"),
    ("WINDOW_UPDATE, an idle stream", b"\x00\x00\x04\x08\x00\x00\x00\x00\x03\x00\x00\x00\x01",
     ["Preface", "PrefaceSettings", "StreamIdle", "Interleaved", "StreamIdle", "StreamIdle", "dead"], "RFC 9113 §5.1"),
    ("PRIORITY, an idle stream", b"\x00\x00\x05\x02\x00\x00\x00\x00\x03\x00\x00\x00\x01\x10",
     ["Preface", "PrefaceSettings", "-", "Interleaved", "-", "-", "dead"], "RFC 9113 §6.3"),
    ("PUSH_PROMISE", b"\x00\x00\x05\x05\x04\x00\x00\x00\x01\x00\x00\x00\x02\x82",
     ["Preface", "PrefaceSettings", "Push", "Interleaved", "Push", "Push", "dead"], "RFC 9113 §8.4"),
    ("PRIORITY_UPDATE", b"\x00\x00\x07\x10\x00\x00\x00\x00\x00\x00\x00\x00\x01u=1",
     ["Preface", "PrefaceSettings", "-", "Interleaved", "-", "-", "dead"], "RFC 9218 §7.1"),
    ("an unknown type", b"\x00\x00\x01\xbb\xff\x00\x00\x00\x07x",
     ["Preface", "PrefaceSettings", "-", "Interleaved", "-", "-", "dead"], "RFC 9113 §4.1, §5.5"),
    ("no preface", b"GET / HTTP/1.1\x0d\x0a",
     ["Preface", "FrameTooLarge", "FrameTooLarge", "FrameTooLarge", "FrameTooLarge", "FrameTooLarge", "dead"], "RFC 9113 §3.4"),
];

#[test]
fn every_frame_in_every_state_of_a_connection() {
    for (frame, bytes, cells, clause) in TABLE {
        for ((state, enter), cell) in STATES.iter().zip(cells) {
            let mut end = End::new(Role::Server, Config::default());
            enter(&mut end);
            let got = outcome(&mut end, bytes);
            assert_eq!(got, *cell, "{frame} in state `{state}` ({clause})");
            assert_eq!(end.connection.dead.is_some(), is_end(cell), "{frame}, {state}");
            // Whatever came, the sums are right.
            assert!(is_end(cell) || end.connection.check_invariants().is_ok());
        }
    }
}

/// Does this cell cost the connection?
fn is_end(cell: &str) -> bool {
    !matches!(cell, "-" | "<" | "request" | "goaway") && !cell.starts_with('(')
}

#[test]
fn every_kind_of_frame_has_a_row() {
    for kind in 0..=0x10 {
        let kind = FrameHeader::parse(&[0, 0, 0, kind, 0, 0, 0, 0, 0]).expect("a header").kind;
        let known = !matches!(kind, Kind::Unknown(_));
        let is = |row: &Row| FrameHeader::parse(row.1).is_some_and(|header| header.kind == kind);
        assert!(!known || TABLE.iter().any(is), "{kind:?}");
    }
}
