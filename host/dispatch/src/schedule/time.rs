//! When a tick is due. Pure.

use std::time::Duration;

/// What a schedule has to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Due {
    /// Run the tick of this time, in milliseconds since 1970.
    Now(i64),
    /// Wait.
    In(Duration),
}

/// The latest multiple of `every` that has come and lies at `position` or behind it; ticks before it are missed and
/// do not come any more. All times are milliseconds since 1970.
pub(super) fn due(position_ms: i64, now_ms: i64, every: Duration) -> Due {
    let every_ms = i64::try_from(every.as_millis()).unwrap_or(i64::MAX).max(1);
    let latest = now_ms - now_ms.rem_euclid(every_ms);
    if latest >= position_ms {
        return Due::Now(latest);
    }
    // Behind `latest`, which is done; and where `every` has changed, behind whatever is done.
    let next = (latest + every_ms).max(position_ms + (-position_ms).rem_euclid(every_ms));
    Due::In(Duration::from_millis(u64::try_from(next - now_ms).unwrap_or_default()))
}

/// A time in RFC 3339 with milliseconds, in UTC.
///
/// The calendar part is Howard Hinnant's `civil_from_days`.
pub(crate) fn rfc3339(ms: i64) -> String {
    const DAY_MS: i64 = 86_400_000;
    const ERA_DAYS: i64 = 146_097;
    // Days counted from 0000-03-01, so that the leap day is the last of its year.
    let (shifted, ms_of_day) = (ms.div_euclid(DAY_MS) + 719_468, ms.rem_euclid(DAY_MS));
    let (era, day_of_era) = (shifted.div_euclid(ERA_DAYS), shifted.rem_euclid(ERA_DAYS));
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 { shifted_month + 3 } else { shifted_month - 9 };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    let (hour, minute, second) = (ms_of_day / 3_600_000, ms_of_day / 60_000 % 60, ms_of_day / 1_000 % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{:03}Z", ms_of_day % 1_000)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_latest_tick_is_run_once_and_those_before_it_are_missed() {
        const EVERY: Duration = Duration::from_secs(60);
        const MINUTE: i64 = 60_000;
        let wait = |ms: u64| Due::In(Duration::from_millis(ms));
        for (position, now, expected) in [
            // Never run before.
            (0, 10 * MINUTE + 1, Due::Now(10 * MINUTE)),
            // Just done, and a moment before the next.
            (10 * MINUTE + 1, 10 * MINUTE + 1, wait(59_999)),
            (10 * MINUTE + 1, 11 * MINUTE - 1, wait(1)),
            (10 * MINUTE + 1, 11 * MINUTE, Due::Now(11 * MINUTE)),
            // Five were missed.
            (10 * MINUTE + 1, 15 * MINUTE + 30_000, Due::Now(15 * MINUTE)),
            // The clock was set back: what is done is not done again.
            (10 * MINUTE + 1, 8 * MINUTE, wait(3 * 60_000)),
            // It was another interval before, whose last tick is none of this one.
            (10 * MINUTE + 30_001, 10 * MINUTE + 45_000, wait(15_000)),
        ] {
            assert_eq!(due(position, now, EVERY), expected, "position {position}, now {now}");
        }
    }

    #[test]
    fn times_follow_the_calendar() {
        for (ms, expected) in [
            (0, "1970-01-01T00:00:00.000Z"),
            (951_782_400_250, "2000-02-29T00:00:00.250Z"),
            (1_767_225_599_999, "2025-12-31T23:59:59.999Z"),
            (4_107_542_400_000, "2100-03-01T00:00:00.000Z"),
            (-1, "1969-12-31T23:59:59.999Z"),
        ] {
            assert_eq!(rfc3339(ms), expected);
        }
    }
}
