//! What a mirror is like.

use std::time::Duration;

use super::plan::{Body, Pause};
use crate::choose::{Choose, pick};

/// How one connection to a mirror goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mood {
    /// It reads and answers at once.
    Honest,
    /// It answers late.
    Slow(Duration),
    /// It answers what it has not read.
    Early,
    /// It says that it failed.
    Failing,
    /// It says much.
    Talkative,
    /// It reads and says nothing.
    Silent,
    /// It does not read.
    Deaf(Pause),
    /// It gives credit for a byte.
    Stingy,
    /// It refuses the connection, or is late to take it.
    Refuses,
    Late(Duration),
    /// It takes no connection.
    Absent,
    Resets(Duration),
    Closes(Duration),
    /// It resets streams, or connections, instead of answers.
    ResetsStreams,
    /// It says what is no HTTP, once.
    Raving,
    Raved,
}

impl Mood {
    pub(super) fn draw(choose: &mut dyn Choose) -> Self {
        let mut time = |most: usize| Duration::from_millis(choose.below(most) as u64);
        let (short, long) = (time(50), time(3_000));
        let ever = Duration::from_hours(1);
        let deaf = [(short, ever), (Duration::ZERO, ever), (short, long), (short, short)];
        let deaf = Mood::Deaf(pick(choose, &deaf));
        let all = [
            Mood::Honest,
            Mood::Slow(long),
            Mood::Early,
            Mood::Failing,
            Mood::Talkative,
            Mood::Silent,
            deaf,
            Mood::Stingy,
            Mood::Refuses,
            Mood::Late(long),
            Mood::Absent,
            Mood::Resets(short),
            Mood::Closes(short),
            Mood::ResetsStreams,
            Mood::Raving,
        ];
        pick(choose, &all)
    }

    /// When, and whether, it takes the connection.
    pub(super) fn connect(self) -> Option<(Duration, bool)> {
        match self {
            Mood::Absent => None,
            Mood::Late(after) => Some((after, true)),
            _ => Some((Duration::from_millis(1), self != Mood::Refuses)),
        }
    }

    /// When its socket takes nothing.
    pub(super) fn pause(self) -> Pause {
        match self {
            Mood::Deaf(pause) => pause,
            _ => (Duration::ZERO, Duration::ZERO),
        }
    }

    /// Does it answer a head, and after what time, if at all?
    pub(super) fn pace(self) -> (bool, Option<Duration>) {
        match self {
            Mood::Silent => (false, None),
            Mood::Early => (true, Some(Duration::ZERO)),
            Mood::Slow(after) => (false, Some(after)),
            _ => (false, Some(Duration::ZERO)),
        }
    }

    /// Status and body, or a reset.
    pub(super) fn answer(self) -> (u16, Body, bool) {
        match self {
            Mood::Failing => (500, Body::None, false),
            Mood::Talkative => (200, Body::Chunked(500_000, true), false),
            Mood::ResetsStreams => (200, Body::None, true),
            _ => (200, Body::Length(100), false),
        }
    }

    /// What it says unasked, once.
    pub(super) fn noise(&mut self) -> Option<&'static [u8]> {
        if *self != Mood::Raving {
            return None;
        }
        *self = Mood::Raved;
        Some(b"no HTTP at all\r\n\r\n")
    }
}
