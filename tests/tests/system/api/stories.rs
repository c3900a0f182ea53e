//! Orders of every fate, and the records and live events that tell of them.

use serde_json::{Value, json};
use tests::consistency::wait_settled;
use tests::customer::{Customer, NewOrder, Status};
use tests::kafka::{self, Arrived, Cluster};
use tests::live::{Live, Transport};
use tests::system::Fnhost;

const TOPICS: [&str; 4] = ["order-events", "inventory-events", "payment-events", "notification-events"];

/// Orders that are confirmed, refunded, cancelled, rejected, declined and expired; then all records of the topics, and what
/// a viewer of the first order was sent.
///
/// # Errors
/// An order does not become what it should.
pub async fn seen(fnhost: &Fnhost) -> anyhow::Result<(Value, Value)> {
    let db = fnhost.database().await?;
    let ada = Customer::register(&fnhost.client()?).await?;
    let kettle = NewOrder::of(&[("KETTLE", 2)]);

    let order = ada.order(&kettle).await?;
    let mut live = Live::watch(Transport::Events, &ada, order.order_id, None).await?;
    anyhow::ensure!(ada.wait_final(order.order_id).await?.status == Status::Confirmed);
    ada.wait_payment(order.order_id, "CAPTURED").await?;
    ada.refund(
        order.order_id,
        &json!({ "lines": [{ "sku": "KETTLE", "quantity": 1 }], "reason": "one is chipped" }),
    )
    .await?;
    ada.refund(order.order_id, &json!({})).await?;
    ada.wait_payment(order.order_id, "REFUNDED").await?;
    let mut pushed = Vec::new();
    while pushed.iter().filter(|data: &&Value| data["type"] == "payment.refunded").count() < 2 {
        let event = live.next().await?;
        if event.event != "snapshot" {
            pushed.push(event.data);
        }
    }

    let cancelled = ada.order_to_end(&kettle).await?;
    ada.wait_payment(cancelled.order_id, "CAPTURED").await?;
    ada.cancel(cancelled.order_id).await?;
    let rejected = ada.order_to_end(&NewOrder::of(&[("OUT-OF-STOCK", 1)])).await?;
    anyhow::ensure!(rejected.status == Status::Rejected);
    let declined = ada.order_to_end(&NewOrder::of(&[("KETTLE", 1)]).paid_with("tok_declined")).await?;
    anyhow::ensure!(declined.status == Status::PaymentFailed);

    // Payment has no answer to anything meanwhile, and the order is older than any may wait.
    let mut silent = db.pool.begin().await?;
    sqlx::raw_sql("LOCK TABLE payment.payment IN ACCESS EXCLUSIVE MODE").execute(&mut *silent).await?;
    let waiting = ada.order(&kettle).await?;
    let age = "UPDATE orders.orders SET created_at = created_at - interval '20 minutes';
               UPDATE orders.expiry SET done_until = '-infinity'";
    sqlx::raw_sql(age).execute(&db.pool).await?;
    let expired = ada.wait(waiting.order_id, "the end", |order| order.status == Status::Expired).await;
    silent.rollback().await?;
    expired?;

    wait_settled(fnhost, &db).await?;
    let cluster = fnhost.kafka()?;
    let records = tokio::task::spawn_blocking(move || records(&cluster)).await??;
    Ok((records, pushed.into()))
}

fn records(cluster: &Cluster) -> anyhow::Result<Value> {
    let mut records = Vec::new();
    for topic in TOPICS {
        for Arrived { key, value, headers, .. } in kafka::read_all(cluster, topic)? {
            let key = String::from_utf8(key.unwrap_or_default())?;
            let value: Value = serde_json::from_slice(&value.unwrap_or_default())?;
            records.push(json!({ "topic": topic, "key": key, "headers": headers, "value": value }));
        }
    }
    Ok(records.into())
}
