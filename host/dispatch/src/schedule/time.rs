//! When a tick is due. Pure.

use std::time::Duration;

/// What a schedule has to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Due {
    /// Run the tick of this time, in milliseconds since 1970.
    Now(i64),
    /// Nothing is due for this long.
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
}
