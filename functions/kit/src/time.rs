//! Clock, ids and RFC 3339, without a date library.

use std::time::{SystemTime, UNIX_EPOCH};
use uuid::Uuid;

/// Seconds since 1970-01-01T00:00Z; 0 for a clock before it.
#[must_use]
pub fn unix_seconds() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
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
    fn ids_are_distinct_increasing_version_7() {
        let mut ids = Ids::new();
        let (first, second) = (ids.next(), ids.next());
        assert!(first < second);
        assert_eq!(second.get_version_num(), 7);
        assert_eq!(second.get_variant(), uuid::Variant::RFC4122);
    }
}
