//! Forecasts products, some with each tick, until each has been forecast today.

use crate::choose;
use crate::domain::day_of_seconds;
use crate::reorder;
use crate::series::{HISTORY_DAYS_MAX, Series, parse};
use crate::sql::{self, Made};
use fnhost_sdk::kafka::{Failure, Reply, Tick};
use fnhost_sdk::time::parse_rfc3339;
use fnhost_sdk::{Sql, SqlError};
use std::time::{Duration, Instant};

/// The schedule's id in the manifest.
pub const SCHEDULE: &str = "forecast";
/// Products that a tick reads at most, which bounds its memory.
pub const PRODUCTS_MAX: i64 = 500;
/// Time after which a tick begins no further forecast, so that it ends well before its deadline; the next tick goes on.
pub const TICK_TIME_MAX: Duration = Duration::from_secs(10);

/// Handles the ticks of a batch in two statements. What it stores is committed with the tick, so that a host that dies in between
/// loses one tick's forecasts, and the next tick makes them.
///
/// # Errors
/// What the database refused; nothing is kept then.
pub async fn handle<S: Sql>(db: &S, ticks: Vec<Tick>, mut reply: Reply) -> Result<Reply, Failure> {
    let mut latest = None;
    for tick in &ticks {
        if tick.schedule != SCHEDULE {
            reply.reject(tick, format!("forecast has no schedule {:?}", tick.schedule));
            continue;
        }
        match parse_rfc3339(&tick.due).and_then(|micros| u64::try_from(micros / 1_000_000).ok()) {
            Some(seconds) => latest = latest.max(Some(day_of_seconds(seconds))),
            None => reply.reject(tick, format!("{:?} is no time", tick.due)),
        }
    }
    let Some(today) = latest else {
        return Ok(reply);
    };
    let begun = Instant::now();
    let history_days = i32::try_from(HISTORY_DAYS_MAX).unwrap_or(i32::MAX);
    let (mut looked_at, mut made) = (Vec::new(), Vec::new());
    for row in sql::due(db, today, PRODUCTS_MAX, history_days).await? {
        if begun.elapsed() >= TICK_TIME_MAX {
            break;
        }
        let (sku, entries) = (row.text(0)?, row.text(3)?);
        let entries = parse(entries).ok_or_else(|| SqlError::new(None, format!("no entries: {entries}")))?;
        if let Some(plan) = choose::plan(&Series::new(&entries, today)) {
            let levels = reorder::levels(&plan, row.int32(1)?, row.int32(2)?);
            made.push(Made {
                sku: sku.to_owned(),
                reorder_point: levels.reorder_point,
                order_up_to: levels.order_up_to,
                // Texts and finite numbers: writing them into memory cannot fail.
                plan: serde_json::to_string(&plan).unwrap_or_default(),
            });
        }
        looked_at.push(sku.to_owned());
    }
    if !looked_at.is_empty() {
        sql::store(db, today, looked_at, &made).await?;
    }
    Ok(reply)
}
