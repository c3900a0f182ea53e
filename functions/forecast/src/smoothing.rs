//! Exponential smoothing with additive errors: a level, a damped trend, and a weekly season. Pure.
//!
//! Parameters come from a small grid by the error of one day ahead. It costs microseconds for a point of the grid, and on a
//! demand's noise a finer search gains nothing.

use crate::models::{HORIZON_DAYS, SEASON_DAYS};

const LEVELS: [f64; 6] = [0.02, 0.05, 0.1, 0.2, 0.35, 0.6];
const TRENDS: [f64; 2] = [0.0, 0.03];
const SEASONS: [f64; 3] = [0.03, 0.1, 0.2];
/// What is left of the trend after a day: half of it after two weeks.
const DAMPING: f64 = 0.95;
/// Days that the first level is the mean of.
const FIRST_DAYS: usize = 2 * SEASON_DAYS;

/// Where the smoothing stands after the last day.
#[derive(Clone, Debug)]
pub struct State {
    squared: f64,
    level: f64,
    trend: f64,
    /// Of the weekdays; the next day is the first.
    season: [f64; SEASON_DAYS],
}

/// How much a new day moves each part; 0 keeps it as it began.
#[derive(Clone, Copy, Debug)]
struct Weights {
    level: f64,
    trend: f64,
    season: f64,
}

/// The best fit with a weekly season, or without.
#[must_use]
pub fn fit(units: &[f64], seasonal: bool) -> Option<State> {
    let first = first(units, seasonal)?;
    let seasons = if seasonal { &SEASONS[..] } else { &[0.0] };
    let mut best: Option<State> = None;
    for level in LEVELS {
        for trend in TRENDS {
            for &season in seasons {
                let state = run(units, first.clone(), Weights { level, trend, season });
                if best.as_ref().is_none_or(|best| state.squared < best.squared) {
                    best = Some(state);
                }
            }
        }
    }
    best.filter(|state| state.squared.is_finite())
}

/// The state before the first day.
fn first(units: &[f64], seasonal: bool) -> Option<State> {
    let begin = &units[..units.len().min(FIRST_DAYS)];
    if begin.is_empty() {
        return None;
    }
    let level = begin.iter().sum::<f64>() / begin.len() as f64;
    let mut season = [0.0; SEASON_DAYS];
    if seasonal {
        if begin.len() < FIRST_DAYS {
            return None;
        }
        for (day, value) in begin.iter().enumerate() {
            season[day % SEASON_DAYS] += (value - level) * SEASON_DAYS as f64 / FIRST_DAYS as f64;
        }
    }
    Some(State { squared: 0.0, level, trend: 0.0, season })
}

fn run(units: &[f64], mut state: State, weights: Weights) -> State {
    let mut weekday = 0;
    for value in units {
        let season = state.season[weekday];
        let expected = state.level + DAMPING * state.trend;
        let error = value - expected - season;
        state.squared += error * error;
        state.level = expected + weights.level * error;
        state.trend = DAMPING * state.trend + weights.level * weights.trend * error;
        state.season[weekday] = season + weights.season * error;
        weekday = if weekday + 1 == SEASON_DAYS { 0 } else { weekday + 1 };
    }
    state.season.rotate_left(weekday);
    state
}

impl State {
    /// The days that follow.
    #[must_use]
    pub fn ahead(&self) -> [f64; HORIZON_DAYS] {
        let (mut level, mut trend) = (self.level, self.trend);
        std::array::from_fn(|day| {
            trend *= DAMPING;
            level += trend;
            level + self.season[day % SEASON_DAYS]
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_constant_stays_what_it_is() {
        for seasonal in [false, true] {
            let ahead = fit(&[4.0; 60], seasonal).unwrap().ahead();
            assert!(ahead.iter().all(|value| (value - 4.0).abs() < 1e-9), "{ahead:?}");
        }
    }

    #[test]
    fn a_week_is_continued_on_the_right_day() {
        // 60 days are no whole number of weeks.
        let units: Vec<f64> = (0..60).map(|day| [1.0, 2.0, 3.0, 4.0, 9.0, 20.0, 10.0][day % 7]).collect();
        let ahead = fit(&units, true).unwrap().ahead();
        for (day, value) in ahead.iter().enumerate() {
            let expected = [1.0, 2.0, 3.0, 4.0, 9.0, 20.0, 10.0][(60 + day) % 7];
            assert!((value - expected).abs() < 0.5, "day {day}: {value} is not {expected}");
        }
    }

    #[test]
    fn without_days_or_weeks_there_is_no_fit() {
        assert!(fit(&[], false).is_none() && fit(&[1.0; 13], true).is_none());
    }
}
