//! Where a read may have ended before urgent data.
//!
//! A read ends before it, though more is there (RFC 9293 §3.8.5), and a reactor that takes a short read
//! for all there is tells of nothing until more comes. To look once more after each read would cost
//! every message a system call, for what hardly anybody sends: it is looked a moment later, once for
//! all that was read meanwhile.

use std::collections::VecDeque;

use selvedge_core::time::{Duration, Time};

/// How long what is behind urgent data may wait.
const MOMENT: Duration = Duration::from_millis(100);
/// At so many at once: each is a system call, and others wait.
const MOST: usize = 256;

/// The connections to look at.
#[derive(Debug)]
pub(crate) struct Looks<Conn> {
    conns: VecDeque<Conn>,
    at: Time,
}

impl<Conn> Default for Looks<Conn> {
    fn default() -> Self {
        Looks { conns: VecDeque::new(), at: Time::ZERO }
    }
}

impl<Conn> Looks<Conn> {
    /// One more, which is not among them.
    pub(crate) fn add(&mut self, conn: Conn, now: Time) {
        if self.conns.is_empty() {
            self.at = now + MOMENT;
        }
        self.conns.push_back(conn);
    }

    /// When to look, if there are any.
    pub(crate) fn due(&self) -> Option<Time> {
        (!self.conns.is_empty()).then_some(self.at)
    }

    /// Those that it is time for, or the first of them.
    pub(crate) fn take(&mut self, now: Time) -> impl Iterator<Item = Conn> + use<'_, Conn> {
        let is_due = self.due().is_some_and(|due| due <= now);
        let count = if is_due { self.conns.len().min(MOST) } else { 0 };
        self.conns.drain(..count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_are_looked_at_a_moment_later_and_few_at_once() {
        let (mut looks, start) = (Looks::default(), Time::ZERO + Duration::from_secs(1));
        assert_eq!(looks.due(), None);
        (0..MOST + 2).for_each(|conn| looks.add(conn, start + Duration::from_nanos(conn as u64)));
        let due = start + MOMENT;
        assert_eq!(looks.due(), Some(due), "the first of them does not wait for others");
        assert_eq!(looks.take(start + MOMENT / 2).count(), 0);
        assert!(looks.take(due).eq(0..MOST));
        assert_eq!(looks.due(), Some(due), "the others are late already");
        assert!(looks.take(due).eq(MOST..MOST + 2));
        assert_eq!(looks.due(), None);
        looks.add(7, due);
        assert_eq!(looks.due(), Some(due + MOMENT));
    }
}
