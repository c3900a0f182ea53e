//! The demand of one product, day by day. Pure.

use crate::domain::Day;
use crate::models::SEASON_DAYS;

/// Days of history that a forecast reads at most.
pub const HISTORY_DAYS_MAX: usize = 730;
/// Weeks to each side of a day without stock that its fill is taken from.
const FILL_WEEKS: usize = 2;

/// A day with demand or without stock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry {
    /// A day in UTC.
    pub day: Day,
    /// Units that were sold.
    pub units: i64,
    /// More was wanted than there was.
    pub short: bool,
}

/// Demand of consecutive days.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Series {
    /// Units of each day. A day without stock has an estimate instead, and never less than was sold.
    pub units: Vec<f64>,
    /// Whether the demand of the day is known, which it is not without stock.
    pub known: Vec<bool>,
}

impl Series {
    /// The days from the first entry until the day before `today`; a day without an entry had no demand.
    #[must_use]
    pub fn new(entries: &[Entry], today: Day) -> Self {
        let window = Day::try_from(HISTORY_DAYS_MAX).unwrap_or(Day::MAX);
        let read = || entries.iter().filter(|entry| (today - window..today).contains(&entry.day));
        let Some(first) = read().map(|entry| entry.day).min() else {
            return Self::default();
        };
        let days = usize::try_from(today - first).unwrap_or_default();
        let mut series = Self { units: vec![0.0; days], known: vec![true; days] };
        for entry in read() {
            let index = usize::try_from(entry.day - first).unwrap_or_default();
            series.units[index] = entry.units.max(0) as f64;
            series.known[index] = !entry.short;
        }
        series.fill();
        series
    }

    /// A series whose every day is known.
    #[must_use]
    pub fn of(units: &[f64]) -> Self {
        Self { units: units.to_vec(), known: vec![true; units.len()] }
    }

    /// Its first `days`.
    #[must_use]
    pub fn until(&self, days: usize) -> Self {
        Self { units: self.units[..days].to_vec(), known: self.known[..days].to_vec() }
    }

    /// Demand that was not met is not low demand: such a day gets the mean of the same weekday in the weeks around it, or what
    /// was sold if that is more.
    fn fill(&mut self) {
        let sold = self.units.clone();
        for day in (0..sold.len()).filter(|&day| !self.known[day]) {
            let around: Vec<f64> = (1..=FILL_WEEKS)
                .flat_map(|weeks| [day.checked_sub(weeks * SEASON_DAYS), Some(day + weeks * SEASON_DAYS)])
                .flatten()
                .filter(|&other| self.known.get(other) == Some(&true))
                .map(|other| sold[other])
                .collect();
            if !around.is_empty() {
                self.units[day] = sold[day].max(around.iter().sum::<f64>() / around.len() as f64);
            }
        }
    }
}

/// Reads entries as the statements write them: `20454:3,20455:0!`, days since 1970 with their units and `!` if it was short.
#[must_use]
pub fn parse(text: &str) -> Option<Vec<Entry>> {
    let entry = |text: &str| {
        let (day, units) = text.split_once(':')?;
        let (units, short) = units.strip_suffix('!').map_or((units, false), |units| (units, true));
        Some(Entry { day: day.parse().ok()?, units: units.parse().ok()?, short })
    };
    text.split(',').filter(|entry| !entry.is_empty()).map(entry).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(day: Day, units: i64) -> Entry {
        Entry { day, units, short: false }
    }

    #[test]
    fn days_without_an_entry_had_no_demand_and_today_is_not_over() {
        let series = Series::new(&[entry(100, 2), entry(103, 5), entry(104, 9)], 104);
        assert_eq!(series, Series::of(&[2.0, 0.0, 0.0, 5.0]));
        assert_eq!(Series::new(&[entry(104, 9)], 104), Series::default());
    }

    #[test]
    fn what_is_older_than_the_window_is_left_out() {
        let window = HISTORY_DAYS_MAX as Day;
        let series = Series::new(&[entry(0, 7), entry(window + 4, 1)], window + 5);
        assert_eq!(series.units, [1.0]);
    }

    #[test]
    fn a_day_without_stock_is_not_low_demand() {
        let mut entries: Vec<_> = (0..35).map(|day| entry(day, if day % 7 == 3 { 20 } else { 5 })).collect();
        entries[17] = Entry { day: 17, units: 1, short: true };
        entries[18] = Entry { day: 18, units: 8, short: true };
        let series = Series::new(&entries, 35);
        assert_eq!((series.units[17], series.known[17]), (20.0, false), "as the same weekday around it");
        assert_eq!((series.units[18], series.known[18]), (8.0, false), "and never less than was sold");
        assert_eq!((series.units[19], series.known[19]), (5.0, true));
    }

    #[test]
    fn entries_are_read_as_they_are_written() {
        let short = Entry { day: 20_455, units: 0, short: true };
        assert_eq!(parse("20454:3,20455:0!"), Some(vec![entry(20_454, 3), short]));
        assert_eq!(parse(""), Some(Vec::new()));
        assert_eq!(parse("20454"), None);
    }
}
