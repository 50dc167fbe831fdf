//! What a peer may make us do for nothing.
//!
//! Every frame that moves no message forward costs; every frame that does, in either direction,
//! earns; time refills. Honest peers send overhead in proportion to traffic (a WINDOW_UPDATE or two
//! and a PING for the DATA they receive, a RST_STREAM for a call whose deadline passed) or rarely
//! (a keep-alive PING); floods are neither.

use core::time::Duration;

use crate::time::Time;

/// The account of one connection.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Budget {
    balance: u32,
    /// When time last refilled it.
    since: Time,
}

impl Budget {
    /// What a connection begins with and can save up. With [`Budget::YOUNG_RESET`] it pays for
    /// 2,500 calls that are cancelled at once; nghttp2 allows 1,000.
    pub(crate) const CAPACITY: u32 = 10_000;
    /// What a second gives: 250 keep-alive PINGs, or 62 young resets. nghttp2 allows 33.
    pub(crate) const PER_SECOND: u32 = 250;

    /// PING (CVE-2019-9512), PRIORITY (CVE-2019-9513), WINDOW_UPDATE, frames of unknown types.
    pub(crate) const FRAME: u32 = 1;
    /// SETTINGS (CVE-2019-9515), and for each stream whose window it changes …
    pub(crate) const SETTINGS: u32 = 8;
    /// … one for so many.
    pub(crate) const STREAMS_PER_UNIT: u32 = 16;
    /// DATA without content that does not end its stream (CVE-2019-9518), HEADERS and CONTINUATION
    /// that add nothing (CVE-2024-27316).
    pub(crate) const EMPTY: u32 = 4;
    /// A stream that the peer resets before it was [`Budget::OLD`]: work for nothing, and no place
    /// taken among the concurrent ones (rapid reset, CVE-2023-44487).
    pub(crate) const YOUNG_RESET: u32 = 4;
    /// An older one: how many there can be is bounded by concurrency.
    pub(crate) const OLD_RESET: u32 = 1;
    /// A stream that the peer makes *us* reset, by an invalid frame or message (made-you-reset,
    /// CVE-2025-8671), or that exceeds the concurrency we allow.
    pub(crate) const STREAM_ERROR: u32 = 8;
    /// A frame for a stream that is over: it makes no work but the RST_STREAM. Many may be under way
    /// when many streams are reset at once.
    pub(crate) const LATE: u32 = 1;
    /// See [`Budget::YOUNG_RESET`].
    pub(crate) const OLD: Duration = Duration::from_millis(50);

    /// A DATA frame that we sent: for it come back WINDOW_UPDATEs for the stream and for the
    /// connection, and a PING of those who measure bandwidth × delay (gRPC).
    pub(crate) const DATA_SENT: u32 = 4;
    /// A DATA frame of at least [`Budget::WORTHWHILE`] that was received.
    pub(crate) const DATA_RECEIVED: u32 = 1;
    /// Content that is worth its frame. Less earns nothing: else one byte would pay for a PING, and
    /// a few of them for a reset.
    pub(crate) const WORTHWHILE: usize = 256;
    /// An exchange that was complete in both directions. A request alone earns nothing: it may be
    /// reset right after its end (CVE-2023-44487).
    pub(crate) const EXCHANGE: u32 = 4;

    pub(crate) fn new(now: Time) -> Self {
        Budget { balance: Self::CAPACITY, since: now }
    }

    /// Takes `cost`; false if it is not there, even after what time has added.
    pub(crate) fn spend(&mut self, cost: u32, now: Time) -> bool {
        if self.balance < cost {
            self.refill(now);
        }
        match self.balance.checked_sub(cost) {
            Some(balance) => {
                self.balance = balance;
                true
            }
            None => false,
        }
    }

    pub(crate) fn earn(&mut self, amount: u32) {
        self.balance = (self.balance + amount).min(Self::CAPACITY);
    }

    fn refill(&mut self, now: Time) {
        let nanos = u64::try_from(now.saturating_since(self.since).as_nanos()).unwrap_or(u64::MAX);
        let each = 1_000_000_000 / u64::from(Self::PER_SECOND);
        let units = nanos / each;
        self.balance = (u64::from(self.balance) + units.min(u64::from(Self::CAPACITY)))
            .min(u64::from(Self::CAPACITY)) as u32;
        // What is left of a unit counts towards the next.
        self.since += Duration::from_nanos(nanos - nanos % each);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(millis: u64) -> Time {
        Time::ZERO + Duration::from_millis(millis)
    }

    #[test]
    fn a_flood_is_over_when_the_balance_is() {
        let mut budget = Budget::new(at(0));
        let spent = (0..1_000_000).take_while(|_| budget.spend(Budget::FRAME, at(1))).count();
        assert_eq!(spent as u32, Budget::CAPACITY);
    }

    #[test]
    fn a_ping_every_ten_milliseconds_goes_on_for_ever() {
        let mut budget = Budget::new(at(0));
        assert!((0..1_000_000).all(|n| budget.spend(Budget::FRAME, at(n * 10))));
    }

    #[test]
    fn overhead_in_proportion_to_traffic_goes_on_for_ever() {
        let mut budget = Budget::new(at(0));
        for _ in 0..1_000_000 {
            budget.earn(Budget::DATA_SENT);
            // Two WINDOW_UPDATEs and a PING.
            assert!((0..3).all(|_| budget.spend(Budget::FRAME, at(0))));
        }
    }

    #[test]
    fn time_adds_up_in_small_steps_and_not_beyond_the_capacity() {
        let mut budget = Budget::new(at(0));
        while budget.spend(100, at(0)) {}
        let count = (1..=1000).filter(|&n| budget.spend(1, at(n))).count();
        assert_eq!(count as u32, Budget::PER_SECOND);
        assert!(!budget.spend(Budget::CAPACITY + 1, at(1 << 40)));
        assert!(budget.spend(Budget::CAPACITY, at(1 << 40)));
        assert!(!budget.spend(1, at(1 << 40)));
    }
}
