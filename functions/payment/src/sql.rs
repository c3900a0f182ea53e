//! Every statement of the function. Those of a batch take all its rows at once and lock them in key order.

use crate::domain::{Payment, State};
use crate::webhook;
use contract::event::Money;
use fnhost_sdk::{Row, Sql, SqlError, unnest};
use std::collections::{BTreeMap, BTreeSet};
use uuid::Uuid;

const LOCK_PAYMENTS: &str = "
    SELECT order_id, payment_id, user_id, amount, currency, state, reason, version, refunded
    FROM payment
    WHERE order_id = ANY ($1::text[]::uuid[])
    ORDER BY order_id
    FOR NO KEY UPDATE";

// What a payment is for and whose it is never changes.
const WRITE: &str = "
    INSERT INTO payment (order_id, payment_id, user_id, amount, currency, state, reason, version, refunded)
    SELECT * FROM unnest($1::text[]::uuid[], $2::text[]::uuid[], $3::text[]::uuid[], $4::int8[], $5::text[],
                         $6::text[], $7::text[], $8::int8[], $9::int8[])
    ON CONFLICT (order_id) DO UPDATE
    SET state = excluded.state, version = excluded.version, refunded = excluded.refunded, updated_at = now()";

const PAYMENT_OF_USER: &str = "
    SELECT order_id, payment_id, user_id, amount, currency, state, reason, version, refunded
    FROM payment
    WHERE order_id = $1::text::uuid AND user_id = $2::text::uuid";

const KEEP_GATEWAY_EVENTS: &str = "
    INSERT INTO gateway_event (id, order_id, status, amount, refunded, happened_at)
    SELECT id, order_id, status, amount, refunded, to_timestamp(seconds)
    FROM unnest($1::text[], $2::text[]::uuid[], $3::text[], $4::int8[], $5::int8[], $6::int8[])
         AS told (id, order_id, status, amount, refunded, seconds)
    ORDER BY id
    ON CONFLICT (id) DO NOTHING";

/// Keeps what the gateway told that was not told before; answers how many that were.
///
/// # Errors
/// What the database refused.
pub async fn keep_gateway_events(db: &impl Sql, events: &[webhook::Event]) -> Result<u64, SqlError> {
    if events.is_empty() {
        return Ok(0);
    }
    let rows = events.iter().map(|webhook::Event { id, created, payment }| {
        let webhook::Payment { reference, status, amount, refunded } = payment;
        (id, *reference, status, *amount, *refunded, *created)
    });
    db.execute(KEEP_GATEWAY_EVENTS, unnest(rows)).await
}

/// The payments of these orders, locked.
///
/// # Errors
/// What the database refused.
pub async fn lock_payments(
    db: &impl Sql,
    order_ids: &BTreeSet<Uuid>,
) -> Result<BTreeMap<Uuid, Payment>, SqlError> {
    if order_ids.is_empty() {
        return Ok(BTreeMap::new());
    }
    let ids = order_ids.iter().map(Uuid::to_string).collect();
    let rows = db.query(LOCK_PAYMENTS, vec![ids]).await?;
    rows.iter().map(|row| Ok((row.uuid(0)?, payment(row)?))).collect()
}

/// The payment of this order, where it is the user's.
///
/// # Errors
/// What the database refused.
pub async fn payment_of_user(
    db: &impl Sql,
    order_id: Uuid,
    user_id: Uuid,
) -> Result<Option<Payment>, SqlError> {
    let params = vec![order_id.to_string().into(), user_id.to_string().into()];
    db.query(PAYMENT_OF_USER, params).await?.first().map(payment).transpose()
}

fn payment(row: &Row) -> Result<Payment, SqlError> {
    let currency = row.text_or_null(4)?.map(str::to_owned);
    let amount = row.int64_or_null(3)?.zip(currency).map(|(amount, currency)| Money { amount, currency });
    let state = row.text(5)?;
    Ok(Payment {
        payment_id: row.uuid(1)?,
        user_id: row.uuid(2)?,
        amount,
        state: State::from_name(state)
            .ok_or_else(|| SqlError::new(None, format!("unknown state {state:?}")))?,
        reason: row.text_or_null(6)?.map(str::to_owned),
        version: row.int64(7)?,
        refunded: row.int64(8)?,
    })
}

/// Writes payments by the id of their order: new ones whole, of others what can change.
///
/// # Errors
/// What the database refused.
pub async fn write(db: &impl Sql, payments: &BTreeMap<Uuid, Payment>) -> Result<(), SqlError> {
    if payments.is_empty() {
        return Ok(());
    }
    let rows = payments.iter().map(|(order_id, payment)| {
        let Payment { payment_id, user_id, amount, state, reason, version, refunded } = payment;
        let (amount, currency) = amount.as_ref().map(|money| (money.amount, &money.currency)).unzip();
        let state = state.as_str();
        (*order_id, *payment_id, *user_id, amount, currency, state, reason.as_deref(), *version, *refunded)
    });
    db.execute(WRITE, unnest(rows)).await?;
    Ok(())
}
