//! Chooses a model for a series by what it would have said before, and says how far off it was. Pure.

use crate::models::{Ahead, HORIZON_DAYS, Model, SEASON_DAYS, forecasts, is_intermittent};
use crate::series::Series;
use serde::{Deserialize, Serialize};

/// Times that the last weeks are forecast again from what was known before them.
pub const FOLDS_MAX: usize = 4;
/// Days before the first of these.
const TRAINING_DAYS_MIN: usize = 2 * HORIZON_DAYS;
/// Weeks of the horizon, each with an error of its own.
const WEEKS: usize = HORIZON_DAYS / SEASON_DAYS;
/// Standard normal deviates of the bounds of 80 and 95 percent.
const DEVIATES: [f64; 2] = [1.281_552, 1.959_964];

/// A forecast, and how it came about.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Plan {
    /// The name of the model.
    pub model: String,
    /// Its mean absolute scaled error in the back-test; `None` where there were too few days for one.
    pub error: Option<f64>,
    /// The error of seasonal naive in the same back-test.
    pub naive_error: Option<f64>,
    /// The standard deviation of a day's error.
    pub deviation: f64,
    /// Units of each day.
    pub units: Vec<f64>,
    /// The bounds that a day's demand is between with 80%.
    pub within_80: Vec<[f64; 2]>,
    /// The bounds that a day's demand is between with 95%.
    pub within_95: Vec<[f64; 2]>,
}

/// How a model did in the back-test.
#[derive(Clone, Debug, Default)]
struct Score {
    /// Folds in which it could say something.
    folds: usize,
    /// Sums of the scaled errors and of their squares, over days.
    scaled: f64,
    scaled_squares: f64,
    /// Days that were compared.
    days: usize,
    /// Sums of the squared errors, and days, by week of the horizon.
    squares: [(f64, usize); WEEKS],
}

/// Forecasts a series with the model that would have done best; `None` if it has no day.
#[must_use]
pub fn plan(series: &Series) -> Option<Plan> {
    let candidates = forecasts(&series.units);
    let scores = back_test(series);
    let by_squares = is_intermittent(&series.units);
    let measure = |model: Model| {
        let score = &scores.scores[model as usize];
        if score.days == 0 || score.folds < scores.folds {
            return f64::INFINITY;
        }
        // Of a series that is mostly zero the absolute error is least for a forecast of zero; the squared one for its mean.
        if by_squares { score.scaled_squares } else { score.scaled }
    };
    let best = candidates.iter().min_by(|(one, _), (other, _)| measure(*one).total_cmp(&measure(*other)));
    // Without a back-test the level is the choice: it needs no week.
    let level = candidates.iter().find(|(model, _)| *model == Model::Level);
    let (model, ahead) = best.filter(|(model, _)| measure(*model).is_finite()).or(level)?;
    let score = &scores.scores[*model as usize];
    let deviations = deviations(score).unwrap_or_else(|| [spread(&series.units); WEEKS]);
    let error = |model: Model| scores.scores[model as usize].error();
    let mean_square = deviations.iter().map(|deviation| deviation * deviation).sum::<f64>() / WEEKS as f64;
    Some(Plan {
        model: model.as_str().to_owned(),
        error: error(*model),
        naive_error: error(Model::SeasonalNaive),
        deviation: mean_square.sqrt(),
        units: ahead.to_vec(),
        within_80: bounds(ahead, &deviations, DEVIATES[0]),
        within_95: bounds(ahead, &deviations, DEVIATES[1]),
    })
}

/// What all models scored.
struct Scores {
    folds: usize,
    scores: [Score; Model::ALL.len()],
}

/// Forecasts the last weeks again, each time from the days before them only.
fn back_test(series: &Series) -> Scores {
    let days = series.units.len();
    let mut scores = Scores { folds: 0, scores: Default::default() };
    for fold in 1..=FOLDS_MAX {
        let Some(until) = days.checked_sub(fold * HORIZON_DAYS).filter(|until| *until >= TRAINING_DAYS_MIN)
        else {
            break;
        };
        let training = series.until(until);
        let scale = scale(&training);
        scores.folds += 1;
        for (model, ahead) in forecasts(&training.units) {
            scores.scores[model as usize].add(&ahead, series, until, scale);
        }
    }
    scores
}

impl Score {
    fn add(&mut self, ahead: &Ahead, series: &Series, until: usize, scale: f64) {
        self.folds += 1;
        for (day, expected) in ahead.iter().enumerate() {
            // What would have been sold with stock is an estimate, and no judge of forecasts.
            if !series.known[until + day] {
                continue;
            }
            let error = series.units[until + day] - expected;
            self.days += 1;
            self.scaled += error.abs() / scale;
            self.scaled_squares += (error / scale).powi(2);
            let week = &mut self.squares[day / SEASON_DAYS];
            *week = (week.0 + error * error, week.1 + 1);
        }
    }

    /// The mean absolute scaled error.
    fn error(&self) -> Option<f64> {
        (self.days > 0).then(|| self.scaled / self.days as f64)
    }
}

/// The mean absolute difference to the day a week before: what the errors are scaled by, so that series compare. 1 unit where
/// nothing ever changes.
#[must_use]
pub fn scale(series: &Series) -> f64 {
    let differences: Vec<f64> = (SEASON_DAYS..series.units.len())
        .filter(|&day| series.known[day] && series.known[day - SEASON_DAYS])
        .map(|day| (series.units[day] - series.units[day - SEASON_DAYS]).abs())
        .collect();
    let mean = differences.iter().sum::<f64>() / differences.len().max(1) as f64;
    if mean > 0.0 { mean } else { 1.0 }
}

/// The standard deviation of a day's error in each week ahead, which does not fall: what is further away is no surer.
fn deviations(score: &Score) -> Option<[f64; WEEKS]> {
    let mut largest = 0.0_f64;
    let mut found = [0.0; WEEKS];
    for (deviation, (squares, days)) in found.iter_mut().zip(score.squares) {
        if days > 0 {
            largest = largest.max((squares / days as f64).sqrt());
        }
        *deviation = largest;
    }
    (score.days > 0).then_some(found)
}

/// The standard deviation of the days themselves.
fn spread(units: &[f64]) -> f64 {
    let days = units.len().max(1) as f64;
    let mean = units.iter().sum::<f64>() / days;
    (units.iter().map(|value| (value - mean).powi(2)).sum::<f64>() / days).sqrt()
}

fn bounds(ahead: &Ahead, deviations: &[f64; WEEKS], deviate: f64) -> Vec<[f64; 2]> {
    let of_day = |(day, units): (usize, &f64)| {
        let width = deviate * deviations[day / SEASON_DAYS];
        [(units - width).max(0.0), units + width]
    };
    ahead.iter().enumerate().map(of_day).collect()
}

#[cfg(test)]
#[path = "choose_tests.rs"]
mod tests;
