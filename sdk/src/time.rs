//! Clock, ids and RFC 3339, without a date library.

use std::time::{SystemTime, UNIX_EPOCH};
use uuid::Uuid;

/// Seconds since 1970-01-01T00:00Z; 0 for a clock before it.
#[must_use]
pub fn unix_seconds() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

/// Milliseconds since 1970-01-01T00:00Z; 0 for a clock before it.
#[must_use]
pub fn unix_millis() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    since.as_secs() * 1_000 + u64::from(since.subsec_millis())
}

/// The current time as RFC 3339 with milliseconds, in UTC.
#[must_use]
pub fn now_rfc3339() -> String {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    rfc3339(since.as_secs(), since.subsec_millis())
}

/// `seconds` since 1970-01-01T00:00Z and `millis` of the second as RFC 3339 in UTC.
///
/// The calendar part is Howard Hinnant's `civil_from_days`, for days since the epoch (never negative here).
#[must_use]
pub fn rfc3339(seconds: u64, millis: u32) -> String {
    const DAY_SECONDS: u64 = 86_400;
    const ERA_DAYS: u64 = 146_097;
    let (days, second) = (seconds / DAY_SECONDS, seconds % DAY_SECONDS);
    // Days counted from 0000-03-01, so that the leap day is the last of its year.
    let shifted = days + 719_468;
    let (era, day_of_era) = (shifted / ERA_DAYS, shifted % ERA_DAYS);
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 { shifted_month + 3 } else { shifted_month - 9 };
    let year = year_of_era + era * 400 + u64::from(month <= 2);
    let (hour, minute, second) = (second / 3_600, second / 60 % 60, second % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{millis:03}Z")
}

/// Microseconds since 1970-01-01T00:00Z of a time in RFC 3339; a date alone is its first moment in UTC. `None` for
/// anything else.
///
/// The calendar part is Howard Hinnant's `days_from_civil`.
#[must_use]
pub fn parse_rfc3339(text: &str) -> Option<i64> {
    let number = |range: std::ops::Range<usize>| -> Option<i64> {
        let digits = text.get(range)?;
        digits.bytes().all(|byte| byte.is_ascii_digit()).then(|| digits.parse().ok())?
    };
    let at = |index: usize, letters: &[u8]| letters.contains(text.as_bytes().get(index).unwrap_or(&0));
    let (year, month, day) = (number(0..4)?, number(5..7)?, number(8..10)?);
    let leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    let days_of_month = match month {
        2 => 28 + i64::from(leap),
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    };
    if !at(4, b"-") || !at(7, b"-") || !(1..=12).contains(&month) || !(1..=days_of_month).contains(&day) {
        return None;
    }
    // Years that begin in March, so that the leap day is the last of its year.
    let (shifted_year, shifted_month) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let (era, year_of_era) = (shifted_year.div_euclid(400), shifted_year.rem_euclid(400));
    let day_of_era =
        year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + (153 * shifted_month + 2) / 5 + day - 1;
    let days = era * 146_097 + day_of_era - 719_468;
    if text.len() == 10 {
        return Some(days * 86_400_000_000);
    }
    let (hour, minute, second) = (number(11..13)?, number(14..16)?, number(17..19)?);
    if !at(10, b"Tt") || !at(13, b":") || !at(16, b":") || hour > 23 || minute > 59 || second > 59 {
        return None;
    }
    let rest = text.get(19..)?;
    let (fraction, zone) = match rest.strip_prefix('.') {
        Some(rest) => rest.split_at(rest.bytes().take_while(u8::is_ascii_digit).count()),
        None => ("0", rest),
    };
    if fraction.is_empty() || fraction.len() > 9 {
        return None;
    }
    // Microseconds; what is finer is cut off.
    let micros: i64 = format!("{fraction:0<6}").get(..6)?.parse().ok()?;
    let seconds = days * 86_400 + hour * 3_600 + minute * 60 + second - zone_seconds(zone)?;
    Some(seconds * 1_000_000 + micros)
}

/// Seconds that a zone is ahead of UTC: `Z`, `+02:00`.
fn zone_seconds(zone: &str) -> Option<i64> {
    if zone.eq_ignore_ascii_case("z") {
        return Some(0);
    }
    let (hours, minutes) = zone.get(1..)?.split_once(':')?;
    let number = |text: &str, max: i64| -> Option<i64> {
        let digits = text.len() == 2 && text.bytes().all(|byte| byte.is_ascii_digit());
        text.parse().ok().filter(|number| digits && *number <= max)
    };
    let seconds = number(hours, 23)? * 3_600 + number(minutes, 59)? * 60;
    match zone.as_bytes()[0] {
        b'+' => Some(seconds),
        b'-' => Some(-seconds),
        _ => None,
    }
}

/// Makes ids for one call: UUIDv7 that increase in the order they were asked for.
///
/// One draw from the clock and the random source serves the whole call, because each is a call to the host.
#[derive(Debug)]
pub struct Ids {
    next: u128,
}

impl Ids {
    /// Draws the first id.
    #[must_use]
    pub fn new() -> Self {
        // Its highest random bit cleared, the 62-bit tail cannot run over into the variant within one call.
        Self { next: Uuid::now_v7().as_u128() & !(1 << 61) }
    }

    /// The next id.
    #[allow(clippy::should_implement_trait, reason = "endless, so an Option would lie")]
    pub fn next(&mut self) -> Uuid {
        let id = Uuid::from_u128(self.next);
        self.next += 1;
        id
    }
}

impl Default for Ids {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rfc3339_follows_the_calendar() {
        let cases = [
            (0, "1970-01-01T00:00:00.000Z"),
            (951_782_399, "2000-02-28T23:59:59.000Z"),
            (951_782_400, "2000-02-29T00:00:00.000Z"),
            (951_868_800, "2000-03-01T00:00:00.000Z"),
            (1_709_164_800, "2024-02-29T00:00:00.000Z"),
            (1_767_225_599, "2025-12-31T23:59:59.000Z"),
            (4_107_542_400, "2100-03-01T00:00:00.000Z"),
        ];
        for (seconds, expected) in cases {
            assert_eq!(rfc3339(seconds, 0), expected);
        }
    }

    #[test]
    fn times_are_read_as_they_are_written() {
        for seconds in [0, 951_782_399, 951_868_800, 1_709_164_800, 4_107_542_400] {
            let written = rfc3339(seconds, 250);
            assert_eq!(parse_rfc3339(&written), Some(seconds as i64 * 1_000_000 + 250_000), "{written}");
        }
        for (text, seconds) in [
            ("1970-01-02", 86_400),
            ("1969-12-31T23:59:59Z", -1),
            ("2000-02-29T01:00:00+01:00", 951_782_400),
            ("2000-02-28t19:00:00-05:00", 951_782_400),
            ("0001-01-01T00:00:00Z", -62_135_596_800),
        ] {
            assert_eq!(parse_rfc3339(text), Some(seconds * 1_000_000), "{text}");
        }
        assert_eq!(parse_rfc3339("1970-01-01T00:00:00.1234567Z"), Some(123_456));
        for text in [
            "",
            "now",
            "1970",
            "1970-13-01",
            "1970-02-29",
            "1970-01-00",
            "1970-01-01T24:00:00Z",
            "1970-01-01T00:00:00",
            "1970-01-01T00:00:00.Z",
            "1970-01-01T00:00:00 02:00",
            "1970-01-01T00:00:00+2:00",
            "1970-01-01 00:00:00Z",
            "+970-01-01",
            "1970-01-01T00:00:00Zx",
            "1970-01-01x",
            "１９７０-01-01",
        ] {
            assert_eq!(parse_rfc3339(text), None, "{text}");
        }
    }

    #[test]
    fn ids_are_distinct_increasing_version_7() {
        let mut ids = Ids::new();
        let (first, second) = (ids.next(), ids.next());
        assert!(first < second);
        assert_eq!(second.get_version_num(), 7);
        assert_eq!(second.get_variant(), uuid::Variant::RFC4122);
    }
}
