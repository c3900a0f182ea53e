//! Every statement of the function. Those of a batch take all its rows at once and lock them in key order.

use crate::domain::{Ledger, Reservation, State, Stock};
use fnhost_sdk::{Row, Sql, SqlError, unnest};
use std::collections::{BTreeMap, BTreeSet};
use uuid::Uuid;

const LOCK_RESERVATIONS: &str = "
    SELECT r.order_id, r.state, r.reason, r.version,
           (SELECT jsonb_object_agg(l.sku, l.quantity) FROM reservation_line l WHERE l.order_id = r.order_id)
    FROM reservation r
    WHERE r.order_id = ANY ($1::text[]::uuid[])
    ORDER BY r.order_id
    FOR NO KEY UPDATE OF r";

const LOCK_STOCK: &str = "
    SELECT sku, on_hand, reserved
    FROM product
    WHERE sku = ANY ($1::text[])
    ORDER BY sku
    FOR NO KEY UPDATE";

const WRITE: &str = "
    WITH moved AS (
        UPDATE product
        SET on_hand = product.on_hand + delta.on_hand, reserved = product.reserved + delta.reserved
        FROM unnest($1::text[], $2::int8[], $3::int8[]) AS delta (sku, on_hand, reserved)
        WHERE product.sku = delta.sku
    ), settled AS (
        INSERT INTO reservation (order_id, state, reason, version)
        SELECT * FROM unnest($4::text[]::uuid[], $5::text[], $6::text[], $7::int8[])
        ON CONFLICT (order_id) DO UPDATE
        SET state = excluded.state, version = excluded.version, updated_at = now()
    )
    INSERT INTO reservation_line (order_id, sku, quantity)
    SELECT * FROM unnest($8::text[]::uuid[], $9::text[], $10::int8[])";

const PRODUCTS: &str = "
    SELECT sku, name, price, currency, on_hand - reserved
    FROM product
    WHERE sku > $1::text
    ORDER BY sku
    LIMIT $2::int8";

const PRODUCT: &str = "
    SELECT sku, name, price, currency, on_hand - reserved FROM product WHERE sku = $1::text";

const STOCK: &str = "SELECT sku, on_hand, reserved FROM product WHERE sku = $1::text";

const SET_ON_HAND: &str = "
    UPDATE product SET on_hand = $2::int8 WHERE sku = $1::text AND reserved <= $2::int8
    RETURNING sku, on_hand, reserved";

/// The reservations of these orders, locked.
///
/// # Errors
/// What the database refused.
pub async fn lock_reservations(
    db: &impl Sql,
    order_ids: &BTreeSet<Uuid>,
) -> Result<BTreeMap<Uuid, Reservation>, SqlError> {
    if order_ids.is_empty() {
        return Ok(BTreeMap::new());
    }
    let ids = order_ids.iter().map(Uuid::to_string).collect();
    db.query(LOCK_RESERVATIONS, vec![ids]).await?.iter().map(reservation).collect()
}

fn reservation(row: &Row) -> Result<(Uuid, Reservation), SqlError> {
    let state = row.text(1)?;
    let state =
        State::from_name(state).ok_or_else(|| SqlError::new(None, format!("unknown state {state:?}")))?;
    let reason = row.text_or_null(2)?.map(str::to_owned);
    let lines = row.json_or_null(4)?.unwrap_or_default();
    Ok((row.uuid(0)?, Reservation { state, reason, version: row.int64(3)?, lines }))
}

/// The stock of these products, locked; those that do not exist are not in it.
///
/// # Errors
/// What the database refused.
pub async fn lock_stock(db: &impl Sql, skus: &BTreeSet<&str>) -> Result<BTreeMap<String, Stock>, SqlError> {
    if skus.is_empty() {
        return Ok(BTreeMap::new());
    }
    let skus = skus.iter().map(|sku| (*sku).to_owned()).collect();
    let rows = db.query(LOCK_STOCK, vec![skus]).await?;
    rows.iter().map(|row| Ok((row.text(0)?.to_owned(), stock(row)?))).collect()
}

fn stock(row: &Row) -> Result<Stock, SqlError> {
    Ok(Stock { on_hand: row.int64(1)?, reserved: row.int64(2)? })
}

/// Writes what the batch changed.
///
/// # Errors
/// What the database refused.
pub async fn write(db: &impl Sql, ledger: &Ledger) -> Result<(), SqlError> {
    let reservations: Vec<_> = ledger.written().collect();
    if reservations.is_empty() {
        return Ok(());
    }
    let moved = ledger.moved().map(|(sku, delta)| (sku, delta.on_hand, delta.reserved));
    let settled = reservations.iter().map(|(order_id, reservation)| {
        let Reservation { state, reason, version, .. } = reservation;
        (*order_id, state.as_str(), reason.as_deref(), *version)
    });
    let lines = ledger.new_lines();
    let params = [unnest(moved), unnest(settled), unnest(lines)].concat();
    db.execute(WRITE, params).await?;
    Ok(())
}

/// Up to `limit` products whose SKU comes after `after`, by SKU: sku, name, price, currency, available.
///
/// # Errors
/// What the database refused.
pub async fn products(db: &impl Sql, after: String, limit: i64) -> Result<Vec<Row>, SqlError> {
    db.query(PRODUCTS, vec![after.into(), limit.into()]).await
}

/// The product of this SKU, as in [`products`].
///
/// # Errors
/// What the database refused.
pub async fn product(db: &impl Sql, sku: &str) -> Result<Option<Row>, SqlError> {
    Ok(db.query(PRODUCT, vec![sku.into()]).await?.pop())
}

/// The stock of this SKU.
///
/// # Errors
/// What the database refused.
pub async fn stock_of(db: &impl Sql, sku: &str) -> Result<Option<Stock>, SqlError> {
    db.query(STOCK, vec![sku.into()]).await?.first().map(stock).transpose()
}

/// Sets the units on hand and answers the stock after it; changes nothing where more units are reserved, or where there
/// is no such product.
///
/// # Errors
/// What the database refused.
pub async fn set_on_hand(db: &impl Sql, sku: &str, on_hand: i64) -> Result<Option<Stock>, SqlError> {
    let rows = db.query(SET_ON_HAND, vec![sku.into(), on_hand.into()]).await?;
    rows.first().map(stock).transpose()
}
