//! The models that compete for a series. Pure: the days until now in, the days that follow out.

use crate::smoothing;
use augurs_core::{Fit as _, Forecast, ModelError, Predict as _};
use augurs_mstl::{FittedTrendModel, MSTLModel, TrendModel};
use std::borrow::Cow;
use std::error::Error;

/// Days of a season.
pub const SEASON_DAYS: usize = 7;
/// Days that a forecast covers.
pub const HORIZON_DAYS: usize = 28;
/// The share of days without demand from which on a series is intermittent.
pub const INTERMITTENT_SHARE: f64 = 0.4;

/// Units of the days ahead.
pub type Ahead = [f64; HORIZON_DAYS];

/// A way to forecast.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Model {
    /// Each day as the same weekday of the last week: what the others have to beat.
    SeasonalNaive,
    /// Exponential smoothing of the level, with a damped trend.
    Level,
    /// The same with a weekly season: Holt and Winters, ETS(A,Ad,A).
    Weekly,
    /// MSTL takes the week out, the level is smoothed, the week is added again.
    Mstl,
    /// The mean of `Level`, `Weekly` and `Mstl`.
    Mean,
    /// Teunter, Syntetos and Babai: how often there is demand, times how much it is then. For intermittent series alone.
    Tsb,
}

impl Model {
    /// All of them, the simplest first.
    pub const ALL: [Self; 6] =
        [Self::SeasonalNaive, Self::Level, Self::Weekly, Self::Mstl, Self::Mean, Self::Tsb];

    /// The name in answers.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::SeasonalNaive => "seasonal-naive",
            Self::Level => "ets-level",
            Self::Weekly => "ets-weekly",
            Self::Mstl => "mstl",
            Self::Mean => "mean-of-three",
            Self::Tsb => "tsb",
        }
    }
}

/// What every model that can says of the days that follow; demand is never negative.
#[must_use]
pub fn forecasts(units: &[f64]) -> Vec<(Model, Ahead)> {
    let level = smoothing::fit(units, false).map(|state| state.ahead());
    let weekly = smoothing::fit(units, true).map(|state| state.ahead());
    let decomposed = mstl(units);
    let mean = level.zip(weekly).zip(decomposed).map(|((level, weekly), decomposed)| {
        std::array::from_fn(|day| (level[day] + weekly[day] + decomposed[day]) / 3.0)
    });
    let found = [
        (Model::SeasonalNaive, seasonal_naive(units)),
        (Model::Level, level),
        (Model::Weekly, weekly),
        (Model::Mstl, decomposed),
        (Model::Mean, mean),
        (Model::Tsb, if is_intermittent(units) { tsb(units) } else { None }),
    ];
    let usable =
        |ahead: Ahead| ahead.iter().all(|value| value.is_finite()).then(|| ahead.map(|value| value.max(0.0)));
    found.into_iter().filter_map(|(model, ahead)| Some((model, usable(ahead?)?))).collect()
}

/// Whether a large part of the days has no demand.
#[must_use]
pub fn is_intermittent(units: &[f64]) -> bool {
    let without = units.iter().filter(|value| **value <= 0.0).count();
    without as f64 >= INTERMITTENT_SHARE * units.len() as f64
}

fn seasonal_naive(units: &[f64]) -> Option<Ahead> {
    let week = units.len().checked_sub(SEASON_DAYS).map(|first| &units[first..])?;
    Some(std::array::from_fn(|day| week[day % SEASON_DAYS]))
}

fn mstl(units: &[f64]) -> Option<Ahead> {
    let fitted = MSTLModel::new(vec![SEASON_DAYS], Smoothed).fit(units).ok()?;
    fitted.predict(HORIZON_DAYS, None).ok()?.point.try_into().ok()
}

/// Smooths what is left when the week is taken out.
#[derive(Debug)]
struct Smoothed;

#[derive(Debug)]
struct SmoothedFit(smoothing::State, usize);

#[derive(Debug)]
struct NoFit;

impl std::fmt::Display for NoFit {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("nothing to smooth")
    }
}

impl Error for NoFit {}
impl ModelError for NoFit {}

type Failed = Box<dyn Error + Send + Sync + 'static>;

impl TrendModel for Smoothed {
    fn name(&self) -> Cow<'_, str> {
        Cow::Borrowed("smoothed level")
    }

    fn fit(&self, units: &[f64]) -> Result<Box<dyn FittedTrendModel + Sync + Send>, Failed> {
        let state = smoothing::fit(units, false).ok_or(NoFit)?;
        Ok(Box::new(SmoothedFit(state, units.len())))
    }
}

impl FittedTrendModel for SmoothedFit {
    /// Without intervals: those come from the back-test, as for every model.
    fn predict_inplace(&self, days: usize, _: Option<f64>, forecast: &mut Forecast) -> Result<(), Failed> {
        forecast.point = self.0.ahead().into_iter().take(days).collect();
        Ok(())
    }

    fn predict_in_sample_inplace(&self, _: Option<f64>, _: &mut Forecast) -> Result<(), Failed> {
        Err(Box::new(NoFit))
    }

    fn training_data_size(&self) -> Option<usize> {
        Some(self.1)
    }
}

/// Smooths the chance of demand every day, and its size on the days that have some, so that a product that is no longer wanted
/// goes to zero. Both weights by the squared error of a day ahead.
fn tsb(units: &[f64]) -> Option<Ahead> {
    const WEIGHTS: [f64; 3] = [0.02, 0.1, 0.3];
    let sizes: Vec<f64> = units.iter().copied().filter(|value| *value > 0.0).collect();
    if sizes.is_empty() {
        return (!units.is_empty()).then_some([0.0; HORIZON_DAYS]);
    }
    let (first_chance, first_size) =
        (sizes.len() as f64 / units.len() as f64, sizes.iter().sum::<f64>() / sizes.len() as f64);
    let mut best = (f64::INFINITY, 0.0);
    for chance_weight in WEIGHTS {
        for size_weight in WEIGHTS {
            let (mut chance, mut size, mut squared) = (first_chance, first_size, 0.0);
            for &value in units {
                squared += (value - chance * size).powi(2);
                let came = value > 0.0;
                chance += chance_weight * (f64::from(u8::from(came)) - chance);
                if came {
                    size += size_weight * (value - size);
                }
            }
            if squared < best.0 {
                best = (squared, chance * size);
            }
        }
    }
    Some([best.1; HORIZON_DAYS])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ahead(units: &[f64], model: Model) -> Option<Ahead> {
        forecasts(units).into_iter().find(|(found, _)| *found == model).map(|(_, ahead)| ahead)
    }

    #[test]
    fn each_model_continues_a_week() {
        let week = [5.0, 6.0, 5.0, 7.0, 12.0, 20.0, 15.0];
        let units: Vec<f64> = (0..120).map(|day| week[day % 7]).collect();
        for model in [Model::SeasonalNaive, Model::Weekly, Model::Mstl] {
            for (day, value) in ahead(&units, model).unwrap().iter().enumerate() {
                let expected = week[(120 + day) % 7];
                assert!((value - expected).abs() < 0.5, "{model:?} on day {day}: {value}, not {expected}");
            }
        }
    }

    #[test]
    fn too_few_days_leave_fewer_models_and_none_leave_none() {
        let names = |days: usize| -> Vec<_> {
            forecasts(&vec![2.0; days]).into_iter().map(|(model, _)| model).collect()
        };
        assert_eq!(names(0), []);
        assert_eq!(names(1), [Model::Level]);
        assert_eq!(names(13), [Model::SeasonalNaive, Model::Level]);
        assert_eq!(names(14), Model::ALL[..5]);
    }

    #[test]
    fn no_forecast_is_negative_or_no_number() {
        let falling: Vec<f64> = (0..90).map(|day| f64::from(90 - day)).collect();
        let wild: Vec<f64> = (0..90).map(|day| if day % 13 == 0 { 1e9 } else { 0.0 }).collect();
        for units in [falling, wild, vec![0.0; 90]] {
            for (model, ahead) in forecasts(&units) {
                assert!(ahead.iter().all(|value| value.is_finite() && *value >= 0.0), "{model:?}: {ahead:?}");
            }
        }
    }

    #[test]
    fn what_is_wanted_no_more_goes_to_zero() {
        let units: Vec<f64> = (0..300).map(|day| if day < 150 && day % 3 == 0 { 4.0 } else { 0.0 }).collect();
        let tsb = ahead(&units, Model::Tsb).expect("it is intermittent")[0];
        assert!(tsb < 0.1, "{tsb}");
        let regular: Vec<f64> = (0..300).map(|day| if day % 3 == 0 { 6.0 } else { 0.0 }).collect();
        let tsb = ahead(&regular, Model::Tsb).expect("it is intermittent")[0];
        assert!((1.0..3.5).contains(&tsb), "two a day, give or take what the last day did: {tsb}");
        assert_eq!(ahead(&[3.0; 100], Model::Tsb), None);
    }
}
