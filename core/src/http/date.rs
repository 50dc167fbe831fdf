//! Dates in fields.

use super::grammar::number;
use crate::time::UnixTime;

/// Reads an HTTP date in any of its three forms (RFC 9110 §5.6.7). `None`: it is none, or is before
/// 1970.
pub(crate) fn parse(value: &[u8]) -> Option<UnixTime> {
    let parts = value.split(|byte| b" ,-".contains(byte)).filter(|part| !part.is_empty());
    let mut parts = parts.skip(1);
    let (first, second, third, fourth) =
        (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
    // What follows the name of the day: `06 Nov 1994 08:49:37 GMT` or `Nov  6 08:49:37 1994`.
    let (day, month, year, time) = if first[0].is_ascii_digit() {
        if parts.next() != Some(b"GMT") {
            return None;
        }
        (first, second, third, fourth)
    } else {
        (second, first, fourth, third)
    };
    if parts.next().is_some() {
        return None;
    }
    const MONTHS: &[u8; 36] = b"JanFebMarAprMayJunJulAugSepOctNovDec";
    let month = MONTHS.chunks(3).position(|name| name == month)? as u64 + 1;
    let day = number(day).filter(|day| (1..=31).contains(day))?;
    let year = match (year.len(), number(year)?) {
        (4, year @ 1970..) => year,
        (2, year @ 70..) => 1900 + year,
        (2, year) => 2000 + year,
        _ => return None,
    };
    let mut clock =
        time.split(|&byte| byte == b':').map(|part| number(part).filter(|_| part.len() == 2));
    let (hour, minute, second) = (clock.next()??, clock.next()??, clock.next()??);
    // A leap second is the one after it.
    if hour > 23 || minute > 59 || second > 60 || clock.next().is_some() {
        return None;
    }
    Some(UnixTime::from_secs(days(year, month, day) * 86_400 + hour * 3_600 + minute * 60 + second))
}

/// Days from 1970-01-01, in the Gregorian calendar. Years begin in March: a leap day is the last.
fn days(year: u64, month: u64, day: u64) -> u64 {
    let year = if month > 2 { year } else { year - 1 };
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    year * 365 + year / 4 - year / 100 + year / 400 + day_of_year - 719_468
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_three_forms_are_read() {
        for (date, seconds) in [
            ("Sun, 06 Nov 1994 08:49:37 GMT", Some(784_111_777)),
            ("Sunday, 06-Nov-94 08:49:37 GMT", Some(784_111_777)),
            ("Sun Nov  6 08:49:37 1994", Some(784_111_777)),
            ("Thu, 01 Jan 1970 00:00:00 GMT", Some(0)),
            ("Thu, 29 Feb 2024 12:00:00 GMT", Some(1_709_208_000)),
            ("Fri, 01 Mar 2024 00:00:00 GMT", Some(1_709_251_200)),
            ("Fri, 31 Dec 1999 23:59:60 GMT", Some(946_684_800)),
            ("Sun, 06 Nov 1994 08:49:37 CET", None),
            ("Sun, 06 Nov 1994 08:49:37", None),
            ("Sun, 06 Nov 1994 24:49:37 GMT", None),
            ("Sun, 06 Nov 1994 08:49 GMT", None),
            ("Sun, 32 Nov 1994 08:49:37 GMT", None),
            ("Sun, 06 Foo 1994 08:49:37 GMT", None),
            ("Sun, 06 Nov 1969 08:49:37 GMT", None),
            ("Sun, 06 Nov 1994 08:49:37 GMT GMT", None),
            ("soon", None),
            ("", None),
        ] {
            assert_eq!(parse(date.as_bytes()), seconds.map(UnixTime::from_secs), "{date}");
        }
    }
}
