//! What a batch of events reads and writes.

use super::{entry_event, repeated, status};
use crate::domain::{Order, PENDING_SECONDS_MAX, Transition};
use contract::event::{Event, OrderStatus, PaymentSettled};
use fnhost_sdk::event::CloudEvent as _;
use fnhost_sdk::{Row, Sql, SqlError, Value, unnest};
use std::collections::{BTreeMap, BTreeSet};
use uuid::Uuid;

/// $1 orders to lock, ascending, $2 orders only to know of.
///
/// The sub-select is run for one order after the other, so rows are locked in the order of $1 and found by index
/// whatever the planner believes of the table. NO KEY: an order's id never changes.
pub const READ_AND_LOCK: &str = "
SELECT o.id, o.user_id, o.status, o.version, o.reserved, o.authorized, o.reason
FROM unnest($1::text[]::uuid[]) AS wanted (id)
CROSS JOIN LATERAL (SELECT * FROM orders WHERE orders.id = wanted.id FOR NO KEY UPDATE) AS o
UNION ALL
SELECT o.id, o.user_id, o.status, o.version, o.reserved, o.authorized, o.reason
FROM unnest($2::text[]::uuid[]) AS wanted (id)
CROSS JOIN LATERAL (SELECT * FROM orders WHERE orders.id = wanted.id OFFSET 0) AS o";

/// $1 the time of the tick, $2 seconds that an order may wait, $3 how many orders at most.
///
/// Orders that have waited for longer, locked by id as batches lock them; one that was decided while the lock was waited
/// for does not come back. The search goes on where the last one ended, so that it reads each order once.
pub const LOCK_OVERDUE: &str = "
WITH latest AS (
    SELECT $1::text::timestamptz - $2::int8 * interval '1 second' AS at
), overdue AS (
    SELECT orders.id, orders.created_at
    FROM orders, latest, expiry
    WHERE orders.created_at >= expiry.done_until AND orders.created_at < latest.at AND orders.status = 'PENDING'
    ORDER BY orders.created_at
    LIMIT $3::int8
), searched AS (
    UPDATE expiry SET done_until = greatest(done_until, CASE
        WHEN (SELECT count(*) FROM overdue) < $3::int8 THEN latest.at
        ELSE (SELECT max(created_at) FROM overdue) END)
    FROM latest
)
SELECT o.id, o.user_id, o.status, o.version, o.reserved, o.authorized, o.reason
FROM (SELECT id FROM overdue ORDER BY id) AS wanted
CROSS JOIN LATERAL (
    SELECT * FROM orders WHERE orders.id = wanted.id AND orders.status = 'PENDING' FOR NO KEY UPDATE
) AS o";

/// $1 to $6 the changed orders, $7 to $10 the entries of the timeline.
pub const STORE: &str = "
WITH changed AS (
    UPDATE orders
    SET status = change.status, version = change.version, reserved = change.reserved <> 0,
        authorized = change.authorized <> 0, reason = change.reason, updated_at = now()
    FROM unnest($1::text[]::uuid[], $2::text[], $3::int8[], $4::int4[], $5::int4[], $6::text[])
        AS change (id, status, version, reserved, authorized, reason)
    WHERE orders.id = change.id
)
INSERT INTO timeline (order_id, event, status, detail)
SELECT entry.order_id, entry.event, entry.status, entry.detail
FROM unnest($7::text[]::uuid[], $8::text[], $9::text[], $10::text[])
    AS entry (order_id, event, status, detail)
ON CONFLICT (order_id, event) DO NOTHING";

/// An order as a batch knows it.
#[derive(Clone, Debug)]
pub struct Known {
    /// Id of the order.
    pub order_id: Uuid,
    /// Id of the customer.
    pub user_id: Uuid,
    /// The state that the next event is decided on.
    pub order: Order,
    /// Why it ended as it did.
    pub reason: Option<String>,
}

/// Reads these orders, those in `deciding` locked until the transaction ends.
///
/// # Errors
/// What the database refused.
pub async fn read_and_lock<S: Sql>(
    db: &S,
    deciding: &BTreeSet<Uuid>,
    noted: &BTreeSet<Uuid>,
) -> Result<BTreeMap<Uuid, Known>, SqlError> {
    if deciding.is_empty() && noted.is_empty() {
        return Ok(BTreeMap::new());
    }
    let texts = |ids: &BTreeSet<Uuid>| ids.iter().map(Uuid::to_string).collect::<Value>();
    db.query(READ_AND_LOCK, vec![texts(deciding), texts(noted)]).await?.iter().map(known).collect()
}

/// Orders that have waited for too long at this time (RFC 3339), the oldest `max` of them, locked until the transaction
/// ends.
///
/// # Errors
/// What the database refused.
pub async fn lock_overdue<S: Sql>(db: &S, at: &str, max: i64) -> Result<BTreeMap<Uuid, Known>, SqlError> {
    let params = vec![at.into(), PENDING_SECONDS_MAX.into(), max.into()];
    db.query(LOCK_OVERDUE, params).await?.iter().map(known).collect()
}

fn known(row: &Row) -> Result<(Uuid, Known), SqlError> {
    let known = Known {
        order_id: row.uuid(0)?,
        user_id: row.uuid(1)?,
        order: Order {
            status: status(row, 2)?,
            version: row.int64(3)?,
            reserved: row.bool(4)?,
            authorized: row.bool(5)?,
        },
        reason: row.text_or_null(6)?.map(str::to_owned),
    };
    Ok((known.order_id, known))
}

/// An entry of an order's timeline.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    order_id: Uuid,
    event: String,
    status: Option<OrderStatus>,
    detail: Option<String>,
}

impl Entry {
    /// Something that was heard of.
    #[must_use]
    pub fn new(event: &Event) -> Self {
        let detail = match event {
            Event::InventoryRejected(rejected) => Some(rejected.reason.clone()),
            Event::PaymentDeclined(declined) => Some(declined.reason.clone()),
            Event::PaymentRefunded(refunded) => Some(refunded.amount.to_string()),
            _ => None,
        };
        let name = match event {
            // Money can go back in parts; what has gone back in all tells them apart.
            Event::PaymentRefunded(PaymentSettled { refunded: Some(in_all), .. }) => {
                repeated(event.event_type(), in_all.amount)
            }
            _ => event.event_type().to_owned(),
        };
        Self { order_id: event.order_id(), event: name, status: None, detail }
    }

    /// A change of status. Its event tells the status, except for `order.rejected`, which has two.
    #[must_use]
    pub fn of_transition(order_id: Uuid, transition: &Transition) -> Self {
        let Transition { status, reason, .. } = transition.clone();
        Self { order_id, event: entry_event(status).to_owned(), status: Some(status), detail: reason }
    }
}

/// What a batch writes.
#[derive(Debug, Default)]
pub struct Changes {
    orders: BTreeSet<Uuid>,
    entries: Vec<Entry>,
}

impl Changes {
    /// This order is not as it was read.
    pub fn add_order(&mut self, order_id: Uuid) {
        self.orders.insert(order_id);
    }

    /// One more line of history.
    pub fn add_entry(&mut self, entry: Entry) {
        self.entries.push(entry);
    }

    /// Writes everything in one statement; none where there is nothing. `known` holds the orders as they are now.
    ///
    /// # Errors
    /// What the database refused.
    pub async fn store<S: Sql>(self, db: &S, known: &BTreeMap<Uuid, Known>) -> Result<(), SqlError> {
        let Self { orders, entries } = self;
        if entries.is_empty() {
            return Ok(());
        }
        let changed = orders.iter().filter_map(|id| known.get(id));
        let mut params = unnest(changed.map(|Known { order_id, order, reason, .. }| {
            let Order { status, version, reserved, authorized } = order;
            let flags = (i32::from(*reserved), i32::from(*authorized));
            (*order_id, status.as_str(), *version, flags.0, flags.1, reason.as_deref())
        }));
        params.extend(unnest(entries.into_iter().map(|Entry { order_id, event, status, detail }| {
            (order_id, event, status.map(OrderStatus::as_str), detail)
        })));
        db.execute(STORE, params).await.map(|_| ())
    }
}
