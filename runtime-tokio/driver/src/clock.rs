//! The wall clock, by which certificates end.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use selvedge_core::time::{Time, UnixTime};

/// Between two looks at it: a clock that was set is noticed so late.
const EVERY: Duration = Duration::from_secs(10);
/// What it may drift from the monotonic clock before the engine is told.
const DRIFT: Duration = Duration::from_millis(500);

/// Finds out when the wall clock was set.
#[derive(Default)]
pub(crate) struct WallClock {
    /// What the engine was told last, and when.
    told: Option<(Time, UnixTime)>,
    due: Time,
}

impl WallClock {
    pub(crate) fn due(&self) -> Time {
        self.due
    }

    pub(crate) fn is_due(&self, now: Time) -> bool {
        self.due <= now
    }

    /// Looks at the clock: what the engine has to be told, if it does not know.
    pub(crate) fn read(&mut self, now: Time) -> Option<UnixTime> {
        self.compare(now, system_time())
    }

    fn compare(&mut self, now: Time, wall: UnixTime) -> Option<UnixTime> {
        self.due = now + EVERY;
        if let Some((at, told)) = self.told {
            let expected = told + now.saturating_since(at);
            let drift = wall.saturating_since(expected) + expected.saturating_since(wall);
            if drift <= DRIFT {
                return None;
            }
        }
        self.told = Some((now, wall));
        Some(wall)
    }
}

/// What the wall clock shows; the epoch if that is before it.
fn system_time() -> UnixTime {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    UnixTime::from_millis(since.as_millis() as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tells_at_the_start_and_when_the_clock_was_set() {
        let mut clock = WallClock::default();
        let start = UnixTime::from_secs(1_000);
        let at = |secs| Time::ZERO + Duration::from_secs(secs);
        assert!(clock.is_due(at(0)));
        assert_eq!(clock.compare(at(0), start), Some(start));
        assert!(!clock.is_due(at(9)) && clock.is_due(at(10)));
        let later = start + Duration::from_millis(10_400);
        assert_eq!(clock.compare(at(10), later), None, "it drifts");
        let set = start + Duration::from_hours(1);
        assert_eq!(clock.compare(at(20), set), Some(set));
        assert_eq!(clock.compare(at(30), start), Some(start), "and back");
    }
}
