//! Series whose best model is known.

use super::*;

/// Numbers from 0 to 1, the same in each run.
fn noise(seed: u64) -> impl FnMut() -> f64 {
    let mut state = seed;
    move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 11) as f64 / (1_u64 << 53) as f64
    }
}

const WEEK: [f64; 7] = [0.8, 0.9, 0.9, 1.0, 1.2, 1.5, 0.7];

fn weekly(days: usize, seed: u64) -> Series {
    let mut noise = noise(seed);
    Series::of(&(0..days).map(|day| 40.0 * WEEK[day % 7] + 16.0 * (noise() - 0.5)).collect::<Vec<_>>())
}

#[test]
fn a_noisy_week_is_no_case_for_naive_and_its_error_is_shown() {
    let plan = plan(&weekly(400, 7)).unwrap();
    assert!(["ets-weekly", "mstl", "mean-of-three"].contains(&plan.model.as_str()), "{plan:?}");
    assert!(plan.error.unwrap() < 0.9 * plan.naive_error.unwrap(), "{plan:?}");
    assert_eq!((plan.units.len(), plan.within_80.len(), plan.within_95.len()), (28, 28, 28));
}

#[test]
fn the_last_days_choose_and_what_follows_them_does_not() {
    // The future is not in the series, so a plan made of its first days is the same whatever follows.
    let whole = weekly(500, 3);
    let mut other = whole.clone();
    other.units[400..].fill(1e6);
    assert_eq!(plan(&whole.until(400)), plan(&other.until(400)));
}

#[test]
fn the_intervals_hold_what_they_say() {
    let (mut within_80, mut within_95, mut all) = (0, 0, 0);
    for seed in 1..=40 {
        let series = weekly(300 + 28, seed);
        let plan = plan(&series.until(300)).unwrap();
        for day in 0..28 {
            let units = series.units[300 + day];
            let within = |[low, high]: [f64; 2]| usize::from((low..=high).contains(&units));
            all += 1;
            within_80 += within(plan.within_80[day]);
            within_95 += within(plan.within_95[day]);
        }
    }
    let percent = |found: usize| found * 100 / all;
    assert!((72..=90).contains(&percent(within_80)), "{}% are within 80%", percent(within_80));
    assert!((90..=100).contains(&percent(within_95)), "{}% are within 95%", percent(within_95));
}

#[test]
fn what_is_rarely_wanted_is_forecast_at_its_mean_and_not_at_zero() {
    let mut noise = noise(11);
    let units: Vec<f64> = (0..500).map(|_| if noise() < 0.2 { 5.0 } else { 0.0 }).collect();
    let plan = plan(&Series::of(&units)).unwrap();
    let mean = plan.units.iter().sum::<f64>() / 28.0;
    assert!((0.5..1.6).contains(&mean), "one a day is sold: {plan:?}");
}

#[test]
fn days_without_stock_judge_nobody() {
    let mut series = weekly(400, 5);
    let before = plan(&series).unwrap();
    for day in 380..387 {
        series.known[day] = false;
    }
    let without = plan(&series).unwrap();
    let mut far_off = series.clone();
    // Only the judge sees these days: the models are given an estimate for them.
    for day in 380..387 {
        far_off.units[day] += 0.001;
    }
    let almost = plan(&far_off).unwrap();
    assert_ne!(before.error, without.error);
    assert!((without.error.unwrap() - almost.error.unwrap()).abs() < 0.001);
}

#[test]
fn few_days_get_a_level_and_no_error_and_none_get_nothing() {
    assert_eq!(plan(&Series::default()), None);
    for days in [1, 6, 13, 30, 83] {
        let plan = plan(&Series::of(&vec![3.0; days])).unwrap();
        assert_eq!(
            (plan.model.as_str(), plan.error, plan.units[27].round()),
            ("ets-level", None, 3.0),
            "{days}"
        );
    }
    assert!(plan(&Series::of(&[3.0; 84])).unwrap().error.is_some());
}
