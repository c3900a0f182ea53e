//! Counts the confirmed orders of each customer.

use fnhost_sdk::kafka::{Batch, Failure, Json, Reply};
use fnhost_sdk::{Sql, Uuid, unnest};
use serde::Deserialize;

/// What is read of an event's value. A record with something else becomes a dead letter.
#[derive(Deserialize)]
pub struct Order {
    user_id: Uuid,
    status: Option<String>,
}

/// In key order, so that two partitions with the same customers wait for each other in one direction only.
const COUNT: &str = "
    INSERT INTO loyalty AS l (user_id, orders)
    SELECT user_id, count(*) FROM unnest($1::text[]::uuid[]) AS confirmed (user_id) GROUP BY user_id ORDER BY user_id
    ON CONFLICT (user_id) DO UPDATE SET orders = l.orders + excluded.orders";

/// Handles a batch of `order-events` in one statement, however many records it has.
///
/// # Errors
/// What the database refused; nothing of the batch is kept then.
pub async fn handle<S: Sql>(db: &S, batch: Batch<Json<Order>>) -> Result<Reply, Failure> {
    let Batch { records, reply, .. } = batch;
    let orders = records.iter().map(|record| &record.event.value);
    let confirmed = orders.filter(|order| order.status.as_deref() == Some("CONFIRMED"));
    db.execute(COUNT, unnest(confirmed.map(|order| (order.user_id,)))).await?;
    Ok(reply)
}

fnhost_sdk::export_kafka!(crate::handle);
