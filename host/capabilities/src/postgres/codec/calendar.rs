//! Dates and times: the interface's calendar fields and Postgres' counts since 2000-01-01.

use fnhost_types::clock::{civil_from_days, days_from_civil};

/// Days from 1970-01-01 to 2000-01-01.
const POSTGRES_EPOCH_DAYS: i64 = 10_957;
const SECONDS_PER_DAY: i64 = 86_400;
const MICROS_PER_SECOND: i64 = 1_000_000;
const MICROS_PER_DAY: i64 = SECONDS_PER_DAY * MICROS_PER_SECOND;
const NANOS_PER_MICRO: u32 = 1_000;
const NANOS_PER_SECOND: u32 = 1_000_000_000;

/// (year, month, day) of the proleptic Gregorian calendar, with a year 0.
pub(super) type Date = (i32, u8, u8);
/// (hour, minute, second, nanosecond)
pub(super) type Time = (u8, u8, u8, u32);
/// (year, month, day, hour, minute, second, nanosecond)
pub(super) type DateTime = (i32, u8, u8, u8, u8, u8, u32);

/// Days since 2000-01-01; nothing where there is no such date or Postgres has no number for it.
pub(super) fn date_to_postgres((year, month, day): Date) -> Option<i32> {
    if !(1..=12).contains(&month) || day == 0 || day > days_in_month(year, month) {
        return None;
    }
    i32::try_from(days_from_civil(i64::from(year), i64::from(month), i64::from(day)) - POSTGRES_EPOCH_DAYS)
        .ok()
}

/// The date so many days after 2000-01-01; nothing for `infinity` and `-infinity`.
pub(super) fn date_from_postgres(days: i32) -> Option<Date> {
    if days == i32::MAX || days == i32::MIN {
        return None;
    }
    date(i64::from(days) + POSTGRES_EPOCH_DAYS)
}

/// Microseconds since midnight (a finer part is cut off); nothing where there is no such time.
pub(super) fn time_to_postgres((hour, minute, second, nanosecond): Time) -> Option<i64> {
    if hour > 23 || minute > 59 || second > 59 || nanosecond >= NANOS_PER_SECOND {
        return None;
    }
    let seconds = (i64::from(hour) * 60 + i64::from(minute)) * 60 + i64::from(second);
    Some(seconds * MICROS_PER_SECOND + i64::from(nanosecond / NANOS_PER_MICRO))
}

/// The time so many microseconds after midnight; `24:00:00` is a time in Postgres and stays one.
pub(super) fn time_from_postgres(micros: i64) -> Option<Time> {
    if !(0..=MICROS_PER_DAY).contains(&micros) {
        return None;
    }
    let seconds = micros / MICROS_PER_SECOND;
    let nanosecond = u32::try_from(micros % MICROS_PER_SECOND).ok()? * NANOS_PER_MICRO;
    let part = |value: i64| u8::try_from(value).ok();
    Some((part(seconds / 3_600)?, part(seconds / 60 % 60)?, part(seconds % 60)?, nanosecond))
}

/// Microseconds since 2000-01-01T00:00; nothing where there is no such instant or no number for it.
pub(super) fn datetime_to_postgres((y, mo, d, h, mi, s, ns): DateTime) -> Option<i64> {
    let days = i64::from(date_to_postgres((y, mo, d))?);
    days.checked_mul(MICROS_PER_DAY)?.checked_add(time_to_postgres((h, mi, s, ns))?)
}

/// The instant so many microseconds after 2000-01-01T00:00; nothing for `infinity` and `-infinity`.
pub(super) fn datetime_from_postgres(micros: i64) -> Option<DateTime> {
    if micros == i64::MAX || micros == i64::MIN {
        return None;
    }
    let (y, mo, d) = date(micros.div_euclid(MICROS_PER_DAY) + POSTGRES_EPOCH_DAYS)?;
    let (h, mi, s, ns) = time_from_postgres(micros.rem_euclid(MICROS_PER_DAY))?;
    Some((y, mo, d, h, mi, s, ns))
}

/// Microseconds since 2000-01-01T00:00Z of a Unix time in seconds.
pub(super) fn unix_seconds_to_postgres(seconds: i64) -> Option<i64> {
    seconds.checked_sub(POSTGRES_EPOCH_DAYS * SECONDS_PER_DAY)?.checked_mul(MICROS_PER_SECOND)
}

fn days_in_month(year: i32, month: u8) -> u8 {
    let leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    match month {
        2 if leap => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

/// The date so many days after 1970-01-01; nothing where the interface has no field for its year.
fn date(days: i64) -> Option<Date> {
    let (year, month, day) = civil_from_days(days);
    Some((i32::try_from(year).ok()?, month, day))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_days_since_2000() {
        let cases = [
            ((2000, 1, 1), Some(0)),
            ((1970, 1, 1), Some(-10_957)),
            ((2024, 2, 29), Some(8_825)),
            ((2023, 2, 29), None),
            ((1900, 2, 29), None),
            ((2000, 13, 1), None),
            ((2000, 4, 31), None),
            ((2000, 0, 1), None),
            ((2000, 1, 0), None),
            ((0, 3, 1), Some(-730_425)),
            ((i32::MAX, 1, 1), None),
        ];
        for (date, days) in cases {
            assert_eq!(date_to_postgres(date), days, "{date:?}");
            if let Some(days) = days {
                assert_eq!(date_from_postgres(days), Some(date), "{days}");
            }
        }
        assert_eq!(date_from_postgres(i32::MAX), None, "infinity");
    }

    #[test]
    fn every_day_of_five_centuries_comes_back() {
        for days in -200_000..200_000 {
            let date = date_from_postgres(days).expect("a date");
            assert_eq!(date_to_postgres(date), Some(days), "{date:?}");
        }
    }

    #[test]
    fn instants_before_2000_round_down() {
        assert_eq!(datetime_from_postgres(-1), Some((1999, 12, 31, 23, 59, 59, 999_999_000)));
        assert_eq!(datetime_to_postgres((1999, 12, 31, 23, 59, 59, 999_999_999)), Some(-1));
        assert_eq!(datetime_from_postgres(i64::MAX), None, "infinity");
        assert_eq!(unix_seconds_to_postgres(946_684_801), Some(1_000_000));
        assert_eq!(time_to_postgres((24, 0, 0, 0)), None);
    }
}
