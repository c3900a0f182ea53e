//! What a refund reads and writes.

use super::repeated;
use super::request::{Stored, stored};
use crate::refund::{OWN_REFUND_SECONDS, Refunded};
use fnhost_sdk::outgoing::OutgoingEvents;
use fnhost_sdk::{Sql, SqlError, Value};
use uuid::Uuid;

/// $1 order, $2 its customer or null for any, $3 idempotency key or null, $4 body hash or null, $5 seconds in which
/// customers may ask themselves.
///
/// The order and what its key was used for are seen at one moment: a request that finds neither its key nor a newer
/// version may decide.
pub const REFUNDABLE: &str = "
SELECT id, status, orders.version, items, total, currency, orders.reason,
    to_char(created_at AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS.US\"Z\"'),
    to_char(updated_at AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS.US\"Z\"'), reserved, authorized,
    refunded, refunded_lines, user_id, created_at > now() - $5::int8 * interval '1 second',
    refund.body_hash = $4::bytea
FROM orders LEFT JOIN refund ON refund.order_id = orders.id AND refund.idempotency_key = $3::text
WHERE id = $1::text::uuid AND ($2::text IS NULL OR user_id = $2::text::uuid)";

/// $1 order, $2 the version it was decided on, $3 version, $4 refunded in all, $5 pieces in all, $6 amount, $7 lines,
/// $8 reason, $9 who asked, $10 idempotency key, $11 body hash, $12 the entry's event, $13 its detail, $14 to $17
/// events. No row where the order has moved on since.
pub const REFUND: &str = "
WITH changed AS (
    UPDATE orders
    SET version = $3::int8, refunded = $4::int8, refunded_lines = $5::jsonb, updated_at = now()
    WHERE id = $1::text::uuid AND version = $2::int8
    RETURNING id, updated_at
), kept AS (
    INSERT INTO refund (order_id, version, amount, lines, reason, requested_by, idempotency_key, body_hash)
    SELECT id, $3::int8, $6::int8, $7::jsonb, $8::text, $9::text::uuid, $10::text, $11::bytea FROM changed
), entry AS (
    INSERT INTO timeline (order_id, event, detail) SELECT id, $12::text, $13::text FROM changed
), event AS (
    INSERT INTO outgoing_event (topic, key, value, headers)
    SELECT event.topic, convert_to(event.key, 'UTF8'), convert_to(event.value, 'UTF8'), event.headers::jsonb
    FROM changed CROSS JOIN unnest($14::text[], $15::text[], $16::text[], $17::text[])
        AS event (topic, key, value, headers)
)
SELECT to_char(updated_at AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS.US\"Z\"') FROM changed";

/// An order that somebody wants to refund.
#[derive(Debug)]
pub struct Refundable {
    /// The order as it is stored.
    pub stored: Stored,
    /// Id of the customer.
    pub user_id: Uuid,
    /// Whether its customer may still ask.
    pub recent: bool,
    /// Where the key was used before: whether it was for the same body.
    pub key_used: Option<bool>,
}

/// The order, where it is `customer`'s or nobody is named, and what the key was used for.
///
/// # Errors
/// What the database refused.
pub async fn refundable<S: Sql>(
    db: &S,
    order_id: Uuid,
    customer: Option<Uuid>,
    idempotency: Option<&(String, Vec<u8>)>,
) -> Result<Option<Refundable>, SqlError> {
    let params = vec![
        order_id.to_string().into(),
        customer.map(|id| id.to_string()).into(),
        idempotency.map(|(key, _)| key.clone()).into(),
        idempotency.map(|(_, hash)| hash.clone()).into(),
        OWN_REFUND_SECONDS.into(),
    ];
    let rows = db.query(REFUNDABLE, params).await?;
    rows.first()
        .map(|row| {
            Ok(Refundable {
                stored: stored(row)?,
                user_id: row.uuid(13)?,
                recent: row.bool(14)?,
                key_used: row.bool_or_null(15)?,
            })
        })
        .transpose()
}

/// A refund that was decided.
#[derive(Debug)]
#[allow(missing_docs, reason = "named by the columns")]
pub struct NewRefund {
    pub order_id: Uuid,
    /// The order's version that it was decided on; it is the next one after it.
    pub decided_on: i64,
    pub refund: Refunded,
    /// With the refunds before it.
    pub in_all: Refunded,
    pub reason: Option<String>,
    pub requested_by: Uuid,
    pub idempotency: Option<(String, Vec<u8>)>,
    /// Text of the timeline entry.
    pub detail: String,
}

/// Writes a refund with its entry and event. `None` where the order has moved on since; the time of the change
/// otherwise.
///
/// # Errors
/// What the database refused.
pub async fn refund<S: Sql>(
    db: &S,
    new: NewRefund,
    events: OutgoingEvents,
) -> Result<Option<String>, SqlError> {
    let json = |value: serde_json::Result<Vec<u8>>| {
        value.map(Value::Json).map_err(|error| SqlError::new(None, error.to_string()))
    };
    let lines: Vec<_> = new.refund.pieces.iter().collect();
    let lines: Vec<_> = lines
        .into_iter()
        .map(|(sku, quantity)| crate::domain::Line { sku: sku.clone(), quantity: *quantity })
        .collect();
    let version = new.decided_on + 1;
    let (key, hash) = new.idempotency.unzip();
    let mut params = vec![
        new.order_id.to_string().into(),
        new.decided_on.into(),
        version.into(),
        new.in_all.amount.into(),
        json(serde_json::to_vec(&new.in_all.pieces))?,
        new.refund.amount.into(),
        json(serde_json::to_vec(&lines))?,
        new.reason.into(),
        new.requested_by.to_string().into(),
        key.into(),
        hash.into(),
        repeated("order.refunded", version).into(),
        new.detail.into(),
    ];
    params.extend(events.into_params());
    let rows = db.query(REFUND, params).await?;
    rows.first().map(|row| Ok(row.text(0)?.to_owned())).transpose()
}
