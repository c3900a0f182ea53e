//! Every statement of the function. Those of a batch take all its rows at once and lock them in key order.

use crate::domain::{Day, Ledger, Order, Placed, Stage};
use contract::event::StockLevel;
use fnhost_sdk::{Row, Sql, SqlError, Value, unnest};
use std::collections::{BTreeMap, BTreeSet};
use uuid::Uuid;

const LOCK_ORDERS: &str = "
    SELECT order_id, version, stage, day - date '1970-01-01', lines, total, refunded
    FROM known_order
    WHERE order_id = ANY ($1::text[]::uuid[])
    ORDER BY order_id
    FOR NO KEY UPDATE";

// $1 to $7 orders, $8 to $11 what is added to the demand.
const WRITE: &str = "
    WITH orders AS (
        INSERT INTO known_order (order_id, version, stage, day, lines, total, refunded)
        SELECT new.order_id, new.version, new.stage, date '1970-01-01' + new.day, new.lines, new.total, new.refunded
        FROM unnest($1::text[]::uuid[], $2::int8[], $3::text[], $4::int4[], $5::text[]::jsonb[], $6::int8[], $7::int8[])
            AS new (order_id, version, stage, day, lines, total, refunded)
        ORDER BY new.order_id
        ON CONFLICT (order_id) DO UPDATE
        SET version = excluded.version, stage = excluded.stage, day = excluded.day, lines = excluded.lines,
            total = excluded.total, refunded = excluded.refunded
    ), found AS (
        INSERT INTO series (sku) SELECT DISTINCT added.sku FROM unnest($8::text[]) AS added (sku) ORDER BY added.sku
        ON CONFLICT (sku) DO NOTHING
    )
    INSERT INTO demand (sku, day, units, short)
    SELECT added.sku, date '1970-01-01' + added.day, added.units, added.short <> 0
    FROM unnest($8::text[], $9::int4[], $10::int8[], $11::int4[]) AS added (sku, day, units, short)
    ORDER BY added.sku, added.day
    ON CONFLICT (sku, day) DO UPDATE
    SET units = demand.units + excluded.units, short = demand.short OR excluded.short";

const WRITE_STOCK: &str = "
    INSERT INTO stock (sku, on_hand, reserved, as_of)
    SELECT new.sku, new.on_hand, new.reserved, new.as_of
    FROM unnest($1::text[], $2::int8[], $3::int8[], $4::int8[]) AS new (sku, on_hand, reserved, as_of)
    ORDER BY new.sku
    ON CONFLICT (sku) DO UPDATE
    SET on_hand = excluded.on_hand, reserved = excluded.reserved, as_of = excluded.as_of
    WHERE excluded.as_of >= stock.as_of";

// $1 the day, $2 how many at most, $3 days of history. One host runs a schedule's ticks, one after the other: nobody else has
// these rows in work.
const DUE: &str = "
    WITH due AS (
        SELECT sku, lead_time_days, service_level_percent FROM series
        WHERE forecast_on < date '1970-01-01' + $1::int4
        ORDER BY forecast_on, sku
        LIMIT $2::int8
    )
    SELECT due.sku, due.lead_time_days, due.service_level_percent, coalesce((
        SELECT string_agg((day - date '1970-01-01') || ':' || units || CASE WHEN short THEN '!' ELSE '' END, ',')
        FROM demand
        WHERE demand.sku = due.sku AND day >= date '1970-01-01' + $1::int4 - $3::int4
          AND day < date '1970-01-01' + $1::int4
    ), '')
    FROM due
    ORDER BY due.sku";

// $1 the day, $2 all that were looked at, $3 to $6 the forecasts: a product that was first wanted today has none yet.
const STORE: &str = "
    WITH looked_at AS (
        UPDATE series SET forecast_on = date '1970-01-01' + $1::int4
        WHERE sku = ANY ($2::text[])
    )
    INSERT INTO forecast (sku, begins, reorder_point, order_up_to, plan)
    SELECT new.sku, date '1970-01-01' + $1::int4, new.reorder_point, new.order_up_to, new.plan
    FROM unnest($3::text[], $4::int8[], $5::int8[], $6::text[]::jsonb[]) AS new (sku, reorder_point, order_up_to, plan)
    ON CONFLICT (sku) DO UPDATE
    SET begins = excluded.begins, made_at = now(), reorder_point = excluded.reorder_point,
        order_up_to = excluded.order_up_to, plan = excluded.plan";

// $1 the product, $2 days of history.
const ONE: &str = "
    SELECT series.sku, series.lead_time_days, series.service_level_percent, stock.on_hand, stock.reserved, stock.as_of,
           to_char(forecast.begins, 'YYYY-MM-DD'),
           to_char(forecast.made_at AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS.MS\"Z\"'),
           extract(epoch FROM now() - forecast.made_at)::int8,
           forecast.reorder_point, forecast.order_up_to, forecast.plan,
           coalesce((
               SELECT jsonb_agg(jsonb_build_object('day', to_char(day, 'YYYY-MM-DD'), 'units', units, 'short', short)
                                ORDER BY day)
               FROM demand
               WHERE demand.sku = series.sku AND day > (now() AT TIME ZONE 'UTC')::date - $2::int4
           ), '[]')
    FROM series LEFT JOIN forecast USING (sku) LEFT JOIN stock USING (sku)
    WHERE series.sku = $1::text";

// $1 the product before, $2 how many at most, $3 whether only those that are to be ordered.
const LIST: &str = "
    SELECT forecast.sku, series.lead_time_days, series.service_level_percent, stock.on_hand, stock.reserved, stock.as_of,
           to_char(forecast.begins, 'YYYY-MM-DD'),
           to_char(forecast.made_at AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS.MS\"Z\"'),
           extract(epoch FROM now() - forecast.made_at)::int8,
           forecast.reorder_point, forecast.order_up_to, forecast.plan
    FROM forecast JOIN series USING (sku) LEFT JOIN stock USING (sku)
    WHERE forecast.sku > $1::text
      AND ($3::int4 = 0 OR stock.on_hand - stock.reserved <= forecast.reorder_point)
    ORDER BY forecast.sku
    LIMIT $2::int8";

const SET: &str = "
    UPDATE series
    SET lead_time_days = $2::int4, service_level_percent = $3::int4, forecast_on = '-infinity'
    WHERE sku = $1::text";

/// The orders of these ids that are known, locked.
///
/// # Errors
/// What the database refused.
pub async fn lock_orders(
    db: &impl Sql,
    order_ids: &BTreeSet<Uuid>,
) -> Result<BTreeMap<Uuid, Order>, SqlError> {
    if order_ids.is_empty() {
        return Ok(BTreeMap::new());
    }
    let ids = order_ids.iter().map(Uuid::to_string).collect();
    db.query(LOCK_ORDERS, vec![ids]).await?.iter().map(order).collect()
}

fn order(row: &Row) -> Result<(Uuid, Order), SqlError> {
    let stage = row.text(2)?;
    let stage =
        Stage::from_name(stage).ok_or_else(|| SqlError::new(None, format!("unknown stage {stage:?}")))?;
    let placed = match row.int32_or_null(3)? {
        None => None,
        Some(day) => Some(Placed { day, lines: row.json(4)?, total: row.int64(5)? }),
    };
    Ok((row.uuid(0)?, Order { version: row.int64(1)?, stage, placed, refunded: row.int64(6)? }))
}

/// Writes what the batch changed.
///
/// # Errors
/// What the database refused.
pub async fn write(db: &impl Sql, ledger: &Ledger) -> Result<(), SqlError> {
    let orders = ledger.orders().map(|(order_id, order)| {
        let placed = order.placed.as_ref();
        // A map of texts to numbers: writing it into memory cannot fail.
        let lines = placed.map(|placed| serde_json::to_string(&placed.lines).unwrap_or_default());
        let (day, total) = (placed.map(|placed| placed.day), placed.map(|placed| placed.total));
        (order_id, order.version, order.stage.as_str(), day, lines, total, order.refunded)
    });
    let added = ledger.added().map(|(sku, day, added)| (sku, day, added.units, i32::from(added.short)));
    if orders.size_hint().1 == Some(0) && ledger.added().next().is_none() {
        return Ok(());
    }
    let params = [unnest(orders), unnest(added)].concat();
    db.execute(WRITE, params).await?;
    Ok(())
}

/// Writes what is newer than what is known of the stock, by SKU, with the time of each in milliseconds since 1970.
///
/// # Errors
/// What the database refused.
pub async fn write_stock(db: &impl Sql, stock: &BTreeMap<&str, (&StockLevel, i64)>) -> Result<(), SqlError> {
    if stock.is_empty() {
        return Ok(());
    }
    let rows = stock.iter().map(|(sku, (level, as_of))| (*sku, level.on_hand, level.reserved, *as_of));
    db.execute(WRITE_STOCK, unnest(rows)).await?;
    Ok(())
}

/// Up to `limit` products that were not yet forecast on this day: SKU, lead time, service level, and the entries of up to
/// `history_days` before it as [`crate::series::parse`] reads them.
///
/// # Errors
/// What the database refused.
pub async fn due(db: &impl Sql, day: Day, limit: i64, history_days: i32) -> Result<Vec<Row>, SqlError> {
    db.query(DUE, vec![day.into(), limit.into(), history_days.into()]).await
}

/// A forecast to store.
#[derive(Debug)]
pub struct Made {
    /// The product.
    pub sku: String,
    /// When to order.
    pub reorder_point: i64,
    /// Up to how many.
    pub order_up_to: i64,
    /// The [`crate::choose::Plan`] as JSON.
    pub plan: String,
}

/// Stores forecasts that begin on this day, and that all of `looked_at` were looked at.
///
/// # Errors
/// What the database refused.
pub async fn store(db: &impl Sql, day: Day, looked_at: Vec<String>, made: &[Made]) -> Result<(), SqlError> {
    let rows = made.iter().map(|made| (&made.sku, made.reorder_point, made.order_up_to, &made.plan));
    let looked_at: Value = looked_at.into_iter().collect();
    let params = [vec![day.into(), looked_at], unnest(rows)].concat();
    db.execute(STORE, params).await?;
    Ok(())
}

/// The product of this SKU with its forecast, and its last days of history.
///
/// # Errors
/// What the database refused.
pub async fn one(db: &impl Sql, sku: &str, history_days: i32) -> Result<Option<Row>, SqlError> {
    Ok(db.query(ONE, vec![sku.into(), history_days.into()]).await?.pop())
}

/// Up to `limit` forecasts of SKUs after `after`, as [`one`] without the history; only of those to be ordered if `low`.
///
/// # Errors
/// What the database refused.
pub async fn list(db: &impl Sql, after: String, limit: i64, low: bool) -> Result<Vec<Row>, SqlError> {
    db.query(LIST, vec![after.into(), limit.into(), i32::from(low).into()]).await
}

/// Sets a product's lead time and service level, and has it forecast again; whether there is such a product.
///
/// # Errors
/// What the database refused.
pub async fn set(db: &impl Sql, sku: &str, lead_time_days: i32, percent: i32) -> Result<bool, SqlError> {
    Ok(db.execute(SET, vec![sku.into(), lead_time_days.into(), percent.into()]).await? > 0)
}
