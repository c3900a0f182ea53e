//! When to order more of a product, and how much. Pure.

use crate::choose::Plan;
use crate::models::HORIZON_DAYS;
use distrs::Normal;

/// Days until ordered goods arrive, if nobody says otherwise.
pub const LEAD_TIME_DAYS_DEFAULT: i32 = 7;
/// Days until they arrive at most, so that the forecast covers them and the day of review.
pub const LEAD_TIME_DAYS_MAX: i32 = HORIZON_DAYS as i32 - 1;
/// Percent of the times in which the stock is to last until they arrive, if nobody says otherwise.
pub const SERVICE_LEVEL_PERCENT_DEFAULT: i32 = 95;
/// The range of that percentage. Below half there would be no safety stock but the opposite.
pub const SERVICE_LEVEL_PERCENT: std::ops::RangeInclusive<i32> = 50..=99;
/// The stock is looked at once a day, so it has to last for a day longer than the lead time.
const REVIEW_DAYS: usize = 1;

/// Levels of the stock that can be promised, in units.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Levels {
    /// At this many or fewer, order.
    pub reorder_point: i64,
    /// Order so many that there are this many.
    pub order_up_to: i64,
}

/// The levels for a lead time and a service level.
///
/// The safety stock takes the errors of days as independent of each other. That holds for noise, and not if the forecast as a
/// whole is too low.
#[must_use]
pub fn levels(plan: &Plan, lead_time_days: i32, service_level_percent: i32) -> Levels {
    let days = usize::try_from(lead_time_days).unwrap_or_default() + REVIEW_DAYS;
    let share = f64::from(service_level_percent) / 100.0;
    let safety = Normal::ppf(share, 0.0, 1.0) * plan.deviation * (days as f64).sqrt();
    let units = |days: usize| plan.units.iter().take(days).sum::<f64>();
    let reorder_point = whole(units(days) + safety);
    Levels { reorder_point, order_up_to: whole(units(HORIZON_DAYS) + safety).max(reorder_point) }
}

/// Rounded up, since half a unit is none.
fn whole(units: f64) -> i64 {
    // A hair below, so that a sum of whole units is not rounded to the next one.
    (units - 1e-6).ceil() as i64
}

/// Units to order where so many are available; 0 while the stock is above the reorder point.
#[must_use]
pub fn quantity(levels: Levels, available: i64) -> i64 {
    if available > levels.reorder_point { 0 } else { levels.order_up_to - available }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan(units: f64, deviation: f64) -> Plan {
        Plan {
            model: "ets-level".to_owned(),
            error: None,
            naive_error: None,
            deviation,
            units: vec![units; HORIZON_DAYS],
            within_80: Vec::new(),
            within_95: Vec::new(),
        }
    }

    #[test]
    fn a_sure_demand_needs_no_safety_stock() {
        let levels = levels(&plan(10.0, 0.0), 7, 95);
        assert_eq!(levels, Levels { reorder_point: 80, order_up_to: 280 });
        for (available, expected) in [(81, 0), (80, 200), (0, 280), (-5, 285)] {
            assert_eq!(quantity(levels, available), expected, "{available}");
        }
    }

    #[test]
    fn the_safety_stock_grows_with_the_service_level_and_the_root_of_the_days() {
        let point =
            |days, percent| levels(&plan(10.0, 6.0), days, percent).reorder_point - 10 * i64::from(days + 1);
        assert_eq!(point(8, 50), 0);
        // 1.645 and 2.326 deviations of 6 units, over 3 and 5 as the roots of 9 and 25 days.
        assert_eq!((point(8, 95), point(8, 99), point(24, 95)), (30, 42, 50));
    }
}
