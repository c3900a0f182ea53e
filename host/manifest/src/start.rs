//! Where a Kafka trigger starts on a partition that it has no stored position for.

/// The start of a partition without a stored position.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Start {
    /// The oldest record that the log still has.
    Earliest,
    /// The first record that arrives from now on.
    Latest,
    /// The first record at or after a time, in milliseconds since 1970-01-01T00:00Z.
    Time(i64),
}

impl std::str::FromStr for Start {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "earliest" => Ok(Self::Earliest),
            "latest" => Ok(Self::Latest),
            time => epoch_ms(time).map(Self::Time).ok_or_else(|| {
                format!(
                    "start = \"{time}\" is none of \"earliest\", \"latest\" and an RFC 3339 time \
                     like \"2026-01-31T08:00:00Z\""
                )
            }),
        }
    }
}

/// Milliseconds since the epoch of an RFC 3339 time with its offset; `None` where it is not one.
fn epoch_ms(text: &str) -> Option<i64> {
    // Also what TOML calls a date-time, so its reader knows the calendar and the leap years.
    let time: toml::value::Datetime = text.parse().ok()?;
    let (date, clock, offset) = (time.date?, time.time?, time.offset?);
    let offset_minutes = match offset {
        toml::value::Offset::Z => 0,
        toml::value::Offset::Custom { minutes } => i64::from(minutes),
    };
    let days = days_since_epoch(i64::from(date.year), i64::from(date.month), i64::from(date.day));
    let second = clock.second.map_or(0, i64::from);
    let minutes = (days * 24 + i64::from(clock.hour)) * 60 + i64::from(clock.minute) - offset_minutes;
    Some((minutes * 60 + second) * 1000 + i64::from(clock.nanosecond.unwrap_or(0)) / 1_000_000)
}

/// Days from 1970-01-01 to a date of the Gregorian calendar: years begin in March, so that the leap
/// day is the last of its year.
fn days_since_epoch(year: i64, month: i64, day: i64) -> i64 {
    const DAYS_PER_400_YEARS: i64 = 146_097;
    const DAYS_FROM_0000_03_01_TO_1970: i64 = 719_468;
    let year = if month <= 2 { year - 1 } else { year };
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    let (era, year_of_era) = (year.div_euclid(400), year.rem_euclid(400));
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    era * DAYS_PER_400_YEARS + day_of_era - DAYS_FROM_0000_03_01_TO_1970
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn start_values() {
        let cases = [
            ("earliest", Some(Start::Earliest)),
            ("latest", Some(Start::Latest)),
            ("1970-01-01T00:00:00Z", Some(Start::Time(0))),
            ("1969-12-31T23:59:59.999Z", Some(Start::Time(-1))),
            ("2024-02-29T12:00:00Z", Some(Start::Time(1_709_208_000_000))),
            ("2026-11-22T10:00:00+01:00", Some(Start::Time(1_795_338_000_000))),
            ("2000-03-01T00:00:00.250Z", Some(Start::Time(951_868_800_250))),
            ("2023-02-29T00:00:00Z", None),
            ("2026-11-22", None),
            ("2026-11-22T10:00:00", None),
            ("newest", None),
            ("", None),
        ];
        for (text, expected) in cases {
            assert_eq!(text.parse::<Start>().ok(), expected, "{text}");
        }
    }
}
