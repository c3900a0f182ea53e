//! What a customer's request reads and writes.

use super::{entry_event, status};
use crate::domain::{Order, Transition};
use crate::refund::Refunded;
use contract::event::{Item, Money, OrderStatus};
use fnhost_sdk::outgoing::OutgoingEvents;
use fnhost_sdk::{Row, Sql, SqlError, Value};
use std::collections::BTreeMap;
use uuid::Uuid;

/// $1 SKUs.
pub const PRICES: &str = "SELECT sku, amount, currency FROM price WHERE sku = ANY ($1::text[])";

/// $1 order, $2 user, $3 items, $4 total, $5 currency, $6 idempotency key, $7 body hash, $8 to $11 events, $12 SKUs and $13 what each
/// costs. No row where one of these prices is another one by now.
///
/// One statement, so that order, history and event exist together or not at all. The second request with a key
/// waits for the first, changes nothing, and is told which order was made.
pub const CREATE: &str = "
WITH claimed AS (
    INSERT INTO orders (id, user_id, status, version, items, total, currency, idempotency_key, body_hash)
    SELECT $1::text::uuid, $2::text::uuid, 'PENDING', 1, $3::jsonb, $4::int8, $5::text, $6::text, $7::bytea
    WHERE NOT EXISTS (
        SELECT FROM unnest($12::text[], $13::int8[]) AS charged (sku, amount)
        LEFT JOIN price ON price.sku = charged.sku AND price.amount = charged.amount AND price.currency = $5::text
        WHERE price.sku IS NULL
    )
    ON CONFLICT (user_id, idempotency_key) WHERE idempotency_key IS NOT NULL
        DO UPDATE SET idempotency_key = excluded.idempotency_key
    RETURNING id, body_hash, created_at
), created AS (
    SELECT id FROM claimed WHERE id = $1::text::uuid
), entry AS (
    INSERT INTO timeline (order_id, event, status) SELECT id, 'order.created', 'PENDING' FROM created
), event AS (
    INSERT INTO outgoing_event (topic, key, value, headers)
    SELECT event.topic, convert_to(event.key, 'UTF8'), convert_to(event.value, 'UTF8'), event.headers::jsonb
    FROM created CROSS JOIN unnest($8::text[], $9::text[], $10::text[], $11::text[])
        AS event (topic, key, value, headers)
)
SELECT id, body_hash = $7::bytea, to_char(created_at AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS.US\"Z\"')
FROM claimed";

/// $1 order, $2 user.
pub const GET: &str = "
SELECT id, status, version, items, total, currency, reason,
    to_char(created_at AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS.US\"Z\"'),
    to_char(updated_at AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS.US\"Z\"'), reserved, authorized,
    refunded, refunded_lines
FROM orders
WHERE id = $1::text::uuid AND user_id = $2::text::uuid";

/// $1 user, $2 status or null, $3 the order to begin after or null, $4 how many, $5 and $6 the first time and the one
/// after the last, in microseconds since 1970, or null.
///
/// By id, which never changes and sorts by time: a page goes on where the last one ended, whatever happens meanwhile.
pub const LIST: &str = "
SELECT id, status, version, items, total, currency, reason,
    to_char(created_at AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS.US\"Z\"'),
    to_char(updated_at AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS.US\"Z\"'), reserved, authorized,
    refunded, refunded_lines
FROM orders
WHERE user_id = $1::text::uuid
    AND ($2::text IS NULL OR status = $2::text)
    AND ($3::text IS NULL OR id < $3::text::uuid)
    AND ($5::int8 IS NULL OR created_at >= timestamptz 'epoch' + $5::int8 * interval '1 microsecond')
    AND ($6::int8 IS NULL OR created_at < timestamptz 'epoch' + $6::int8 * interval '1 microsecond')
ORDER BY id DESC
LIMIT $4::int8";

/// $1 order, $2 user. An order has at least the entry of its creation.
pub const TIMELINE: &str = "
SELECT split_part(entry.event, '#', 1), entry.status, entry.detail,
    to_char(entry.at AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS.US\"Z\"')
FROM orders JOIN timeline AS entry ON entry.order_id = orders.id
WHERE orders.id = $1::text::uuid AND orders.user_id = $2::text::uuid
ORDER BY entry.place";

/// $1 order, $2 user, $3 the version it was decided on, $4 status, $5 version, $6 reason, $7 the entry's event,
/// $8 to $11 events. No row where the order has moved on since.
pub const CHANGE: &str = "
WITH changed AS (
    UPDATE orders
    SET status = $4::text, version = $5::int8, reason = $6::text, updated_at = now()
    WHERE id = $1::text::uuid AND user_id = $2::text::uuid AND version = $3::int8
    RETURNING id, updated_at
), entry AS (
    INSERT INTO timeline (order_id, event, status, detail) SELECT id, $7::text, $4::text, $6::text FROM changed
), event AS (
    INSERT INTO outgoing_event (topic, key, value, headers)
    SELECT event.topic, convert_to(event.key, 'UTF8'), convert_to(event.value, 'UTF8'), event.headers::jsonb
    FROM changed CROSS JOIN unnest($8::text[], $9::text[], $10::text[], $11::text[])
        AS event (topic, key, value, headers)
)
SELECT to_char(updated_at AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS.US\"Z\"') FROM changed";

/// The prices of these SKUs, as far as there are any.
///
/// # Errors
/// What the database refused.
pub async fn prices<S: Sql>(
    db: &S,
    skus: impl Iterator<Item = String>,
) -> Result<BTreeMap<String, Money>, SqlError> {
    let rows = db.query(PRICES, vec![skus.collect()]).await?;
    rows.iter()
        .map(|row| {
            let money = Money { amount: row.int64(1)?, currency: row.text(2)?.to_owned() };
            Ok((row.text(0)?.to_owned(), money))
        })
        .collect()
}

/// A new order.
#[derive(Debug)]
#[allow(missing_docs, reason = "named by the columns")]
pub struct NewOrder {
    pub order_id: Uuid,
    pub user_id: Uuid,
    pub items: Vec<Item>,
    pub total: Money,
    /// The key and the hash of what was asked for with it.
    pub idempotency: Option<(String, Vec<u8>)>,
}

/// What became of a new order.
#[derive(Debug, PartialEq, Eq)]
pub enum Created {
    /// It exists since this time, RFC 3339.
    Now(String),
    /// The same request had made this one already.
    Before(Uuid),
    /// Another request had used the key.
    KeyTaken,
    /// It was not made: a price has changed.
    Repriced,
}

/// Writes a new order with the first entry of its timeline and its event.
///
/// # Errors
/// What the database refused.
pub async fn create<S: Sql>(db: &S, order: NewOrder, events: OutgoingEvents) -> Result<Created, SqlError> {
    let items = serde_json::to_vec(&order.items).map_err(|error| SqlError::new(None, error.to_string()))?;
    let (key, hash) = order.idempotency.unzip();
    let (skus, amounts): (Vec<_>, Vec<_>) =
        order.items.into_iter().map(|item| (item.sku, item.unit_price)).unzip();
    let mut params = vec![
        order.order_id.to_string().into(),
        order.user_id.to_string().into(),
        Value::Json(items),
        order.total.amount.into(),
        order.total.currency.into(),
        key.into(),
        hash.into(),
    ];
    params.extend(events.into_params());
    params.extend([skus.into_iter().collect(), amounts.into_iter().collect()]);
    let rows = db.query(CREATE, params).await?;
    let Some(row) = rows.first() else { return Ok(Created::Repriced) };
    let order_id = row.uuid(0)?;
    if order_id == order.order_id {
        Ok(Created::Now(row.text(2)?.to_owned()))
    } else if row.bool_or_null(1)? == Some(true) {
        Ok(Created::Before(order_id))
    } else {
        Ok(Created::KeyTaken)
    }
}

/// An order as its customer sees it.
#[derive(Clone, Debug)]
#[allow(missing_docs, reason = "named by the columns; times are RFC 3339")]
pub struct Stored {
    pub order_id: Uuid,
    pub order: Order,
    pub items: Vec<Item>,
    pub total: Money,
    pub reason: Option<String>,
    pub refunded: Refunded,
    pub created_at: String,
    pub updated_at: String,
}

/// The user's own order.
///
/// # Errors
/// What the database refused.
pub async fn get<S: Sql>(db: &S, order_id: Uuid, user_id: Uuid) -> Result<Option<Stored>, SqlError> {
    let rows = db.query(GET, vec![order_id.to_string().into(), user_id.to_string().into()]).await?;
    rows.first().map(stored).transpose()
}

/// What a page of orders is chosen by.
#[derive(Clone, Copy, Debug, Default)]
pub struct Filter {
    /// Only these.
    pub status: Option<OrderStatus>,
    /// Made at this time or later, in microseconds since 1970.
    pub from: Option<i64>,
    /// Made before this time.
    pub to: Option<i64>,
    /// The last order of the page before.
    pub after: Option<Uuid>,
}

/// The user's orders, the newest first.
///
/// # Errors
/// What the database refused.
pub async fn list<S: Sql>(
    db: &S,
    user_id: Uuid,
    filter: Filter,
    limit: i64,
) -> Result<Vec<Stored>, SqlError> {
    let params = vec![
        user_id.to_string().into(),
        filter.status.map(OrderStatus::as_str).into(),
        filter.after.map(|id| id.to_string()).into(),
        limit.into(),
        filter.from.into(),
        filter.to.into(),
    ];
    db.query(LIST, params).await?.iter().map(stored).collect()
}

/// One thing that happened to an order.
#[derive(Debug, serde::Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema), schema(as = TimelineEntry))]
#[allow(missing_docs, reason = "named by the columns; times are RFC 3339")]
pub struct Happened {
    pub event: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub status: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
    pub at: String,
}

/// What happened to the user's own order, in order; empty where there is no such order.
///
/// # Errors
/// What the database refused.
pub async fn timeline<S: Sql>(db: &S, order_id: Uuid, user_id: Uuid) -> Result<Vec<Happened>, SqlError> {
    let rows = db.query(TIMELINE, vec![order_id.to_string().into(), user_id.to_string().into()]).await?;
    let owned = |text: Option<&str>| text.map(str::to_owned);
    rows.iter()
        .map(|row| {
            Ok(Happened {
                event: row.text(0)?.to_owned(),
                status: owned(row.text_or_null(1)?),
                detail: owned(row.text_or_null(2)?),
                at: row.text(3)?.to_owned(),
            })
        })
        .collect()
}

/// Writes a change that was decided on version `decided_on`, with its entry and events. `None` where the order has
/// moved on since; the time of the change otherwise.
///
/// # Errors
/// What the database refused.
pub async fn change<S: Sql>(
    db: &S,
    order_id: Uuid,
    user_id: Uuid,
    decided_on: i64,
    transition: &Transition,
    events: OutgoingEvents,
) -> Result<Option<String>, SqlError> {
    let mut params = vec![
        order_id.to_string().into(),
        user_id.to_string().into(),
        decided_on.into(),
        transition.status.as_str().into(),
        transition.version.into(),
        transition.reason.clone().into(),
        entry_event(transition.status).into(),
    ];
    params.extend(events.into_params());
    let rows = db.query(CHANGE, params).await?;
    rows.first().map(|row| Ok(row.text(0)?.to_owned())).transpose()
}

/// An order whose columns begin with those of [`GET`].
pub(super) fn stored(row: &Row) -> Result<Stored, SqlError> {
    Ok(Stored {
        order_id: row.uuid(0)?,
        order: Order {
            status: status(row, 1)?,
            version: row.int64(2)?,
            reserved: row.bool(9)?,
            authorized: row.bool(10)?,
        },
        items: row.json(3)?,
        total: Money { amount: row.int64(4)?, currency: row.text(5)?.to_owned() },
        reason: row.text_or_null(6)?.map(str::to_owned),
        refunded: Refunded { amount: row.int64(11)?, pieces: row.json(12)? },
        created_at: row.text(7)?.to_owned(),
        updated_at: row.text(8)?.to_owned(),
    })
}
