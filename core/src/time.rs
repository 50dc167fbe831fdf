//! The core's own clock reading: nanoseconds since an origin that only the adapter knows.

use core::fmt;
use core::ops::{Add, AddAssign, Sub};
pub use core::time::Duration;

/// A point in monotonic time, in nanoseconds since an arbitrary origin.
///
/// The core never reads a clock: every entry point is handed the time. 64 bits hold 584 years.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Time(u64);

impl Time {
    /// The origin.
    pub const ZERO: Time = Time(0);
    /// Later than any time that can be reached: "never".
    pub const MAX: Time = Time(u64::MAX);

    /// `nanos` nanoseconds after the origin.
    pub const fn from_nanos(nanos: u64) -> Self {
        Time(nanos)
    }

    /// Nanoseconds since the origin.
    pub const fn as_nanos(self) -> u64 {
        self.0
    }

    /// How long after `earlier` this is; zero if it is not.
    pub const fn saturating_since(self, earlier: Time) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }

    /// The next whole millisecond: the resolution of every timer.
    #[must_use]
    pub const fn ceil_millis(self) -> Time {
        const MILLI: u64 = 1_000_000;
        match self.0.checked_next_multiple_of(MILLI) {
            Some(nanos) => Time(nanos),
            None => Time::MAX,
        }
    }
}

impl Add<Duration> for Time {
    type Output = Time;
    /// Saturates at [`Time::MAX`], so that an endless timeout is simply never reached.
    fn add(self, rhs: Duration) -> Time {
        let nanos = rhs.as_secs().saturating_mul(1_000_000_000);
        Time(self.0.saturating_add(nanos).saturating_add(u64::from(rhs.subsec_nanos())))
    }
}

impl AddAssign<Duration> for Time {
    fn add_assign(&mut self, rhs: Duration) {
        *self = *self + rhs;
    }
}

impl Sub<Time> for Time {
    type Output = Duration;
    fn sub(self, rhs: Time) -> Duration {
        self.saturating_since(rhs)
    }
}

impl fmt::Debug for Time {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{:09}s", self.0 / 1_000_000_000, self.0 % 1_000_000_000)
    }
}

/// Reads a duration as people write it: `300ms`, `10s`, `5m`, `1h` or `2d`; the unit of 0 may be left
/// out. It is how mesh files, the command line and linkerd2-proxy's `l5d-*` fields have it.
pub fn parse_duration(text: &str) -> Option<Duration> {
    let unit_at = text.find(|c: char| !c.is_ascii_digit());
    let (number, unit) = text.split_at(unit_at.unwrap_or(text.len()));
    let number: u64 = number.parse().ok()?;
    let millis = match unit {
        "ms" => 1,
        "s" => 1_000,
        "m" => 60_000,
        "h" => 3_600_000,
        "d" => 86_400_000,
        "" if number == 0 => 0,
        _ => return None,
    };
    number.checked_mul(millis).map(Duration::from_millis)
}

/// A point of the wall clock: milliseconds since 1970-01-01 00:00 UTC. Certificates end by it.
///
/// It comes in as an input, at the start and whenever the clock was set.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct UnixTime(u64);

impl UnixTime {
    /// `secs` seconds after the epoch.
    pub const fn from_secs(secs: u64) -> Self {
        UnixTime(secs.saturating_mul(1000))
    }

    /// `millis` milliseconds after the epoch.
    pub const fn from_millis(millis: u64) -> Self {
        UnixTime(millis)
    }

    /// Whole seconds since the epoch.
    pub const fn as_secs(self) -> u64 {
        self.0 / 1000
    }

    /// Milliseconds since the epoch.
    pub const fn as_millis(self) -> u64 {
        self.0
    }

    /// How long after `earlier` this is; zero if it is not.
    pub const fn saturating_since(self, earlier: UnixTime) -> Duration {
        Duration::from_millis(self.0.saturating_sub(earlier.0))
    }
}

impl Add<Duration> for UnixTime {
    type Output = UnixTime;
    fn add(self, rhs: Duration) -> UnixTime {
        let millis = u64::try_from(rhs.as_millis()).unwrap_or(u64::MAX);
        UnixTime(self.0.saturating_add(millis))
    }
}

impl fmt::Debug for UnixTime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "@{}.{:03}", self.0 / 1000, self.0 % 1000)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arithmetic_saturates() {
        assert_eq!(Time::MAX + Duration::from_secs(1), Time::MAX);
        assert_eq!(Time::ZERO + Duration::MAX, Time::MAX);
        assert_eq!(Time::ZERO - Time::from_nanos(5), Duration::ZERO);
    }

    #[test]
    fn durations_are_read_as_people_write_them() {
        let ms = |millis| Some(Duration::from_millis(millis));
        for (text, expected) in [
            ("300ms", ms(300)),
            ("10s", ms(10_000)),
            ("5m", ms(300_000)),
            ("1h", ms(3_600_000)),
            ("2d", ms(172_800_000)),
            ("0", ms(0)),
            ("0s", ms(0)),
            ("00010s", ms(10_000)),
            ("", None),
            ("s", None),
            ("10", None),
            ("-1s", None),
            ("+1s", None),
            ("1.5s", None),
            ("1 s", None),
            ("1S", None),
            ("1µs", None),
            ("18446744073709551616s", None),
            ("18446744073709551615d", None),
        ] {
            assert_eq!(parse_duration(text), expected, "{text}");
        }
    }

    #[test]
    fn millis_round_up() {
        assert_eq!(Time::from_nanos(1).ceil_millis(), Time::from_nanos(1_000_000));
        assert_eq!(Time::from_nanos(2_000_000).ceil_millis(), Time::from_nanos(2_000_000));
        assert_eq!(Time::MAX.ceil_millis(), Time::MAX);
    }
}
