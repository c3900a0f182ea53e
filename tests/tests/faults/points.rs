//! Hosts that are killed at an exact place of the protocol: between COMMIT and the sending of what it decided, and between
//! Kafka's acknowledgement and the clearing of the outbox row.
//!
//! Nothing in the host helps: the place is held from outside. To a Kafka that is gone nothing can have been sent; and a trigger
//! on the outbox, put there by the test, lets rows be deleted when the test says so.

use super::alone;
use std::collections::BTreeMap;
use std::time::Duration;
use tests::consistency::{assert_consistent, wait_settled};
use tests::customer::{Customer, NewOrder, Status};
use tests::database::Database;
use tests::kafka::{self, Arrived, Cluster};
use tests::outcome::Outcome;
use tests::system::{Fnhost, Setup};
use tests::wait::{Look, until};
use uuid::Uuid;

/// Time in which the place is reached.
const REACH_DEADLINE: Duration = Duration::from_secs(20);

/// A host whose servers run while it is frozen itself, and the one that does all the work.
pub(super) async fn frozen_and_working() -> anyhow::Result<(Fnhost, Fnhost)> {
    let frozen = Fnhost::start(Setup::default()).await?;
    frozen.freeze()?;
    let working = frozen.join().await?;
    Ok((frozen, working))
}

/// Waits until a question of the database has the answer true.
pub(super) async fn wait_for(db: &Database, what: &str, question: &'static str) -> anyhow::Result<()> {
    until(what, REACH_DEADLINE, async || {
        let seen: bool = sqlx::query_scalar(question).fetch_one(&db.pool).await?;
        Ok(Look::from_bool(seen, question))
    })
    .await
}

pub(super) async fn run(db: &Database, sql: &'static str) -> anyhow::Result<()> {
    sqlx::raw_sql(sql).execute(&db.pool).await?;
    Ok(())
}

/// Triggers with messages in the outbox, each as often as it has rows.
async fn unsent(db: &Database) -> anyhow::Result<Vec<String>> {
    let sql = "SELECT t.id FROM fnhost.outbox o JOIN fnhost.trigger t USING (trigger) ORDER BY 1";
    Ok(sqlx::query_scalar(sql).fetch_all(&db.pool).await?)
}

/// How often a topic has each message about `order`: by type and number.
pub(super) async fn copies(
    cluster: &Cluster,
    topic: &'static str,
    order: Uuid,
) -> anyhow::Result<BTreeMap<(String, String), usize>> {
    let cluster = cluster.clone();
    let all: Vec<Arrived> = tokio::task::spawn_blocking(move || kafka::read_all(&cluster, topic)).await??;
    let mut copies = BTreeMap::new();
    for record in all.iter().filter(|record| record.key.as_deref() == Some(order.to_string().as_bytes())) {
        let header = |name: &str| record.headers.get(name).cloned().unwrap_or_default();
        *copies.entry((header("ce_type"), header("fnhost-seq"))).or_default() += 1;
    }
    Ok(copies)
}

/// The types of a topic's messages about an order with how often there is each, where its number is the same.
fn by_type(copies: &BTreeMap<(String, String), usize>) -> Vec<(&str, usize)> {
    copies.iter().map(|((kind, _), count)| (kind.as_str(), *count)).collect()
}

/// A relay and a dispatch have each committed messages that cannot have left the host: Kafka was gone before.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_between_commit_and_sending() -> Outcome {
    let _alone = alone().await;
    let (frozen, mut working) = frozen_and_working().await?;
    let db = frozen.database().await?;
    let ada = Customer::register(&working.client()?).await?;

    // The dispatch has its record, and its COMMIT comes when the test lets go of the table.
    let mut held = db.pool.begin().await.map_err(anyhow::Error::from)?;
    let lock = sqlx::raw_sql("LOCK TABLE inventory.reservation IN EXCLUSIVE MODE").execute(&mut *held).await;
    lock.map_err(anyhow::Error::from)?;
    let dispatched = ada.order(&NewOrder::of(&[("TEA-250G", 2)])).await?.order_id;
    let in_dispatch = "SELECT EXISTS (SELECT FROM pg_stat_activity WHERE usename = 'fn_inventory' AND wait_event_type = 'Lock')
                          AND EXISTS (SELECT FROM orders.orders WHERE authorized) AND NOT EXISTS (SELECT FROM fnhost.outbox)
                          AND NOT EXISTS (SELECT FROM auth.outgoing_event)";
    wait_for(&db, "inventory in its dispatch, and all else quiet", in_dispatch).await?;
    frozen.kill_kafka()?;
    let relayed = ada.order(&NewOrder::of(&[("MUG-RED", 1)])).await?.order_id;
    held.rollback().await.map_err(anyhow::Error::from)?;
    let committed = "SELECT count(DISTINCT trigger) = 2 FROM fnhost.outbox";
    wait_for(&db, "both commits", committed).await?;
    working.kill()?;
    assert_eq!(unsent(&db).await?, ["inventory", "order:events"]);

    // Another owner; Kafka comes back with it.
    frozen.thaw()?;
    let ada = Customer::login(&frozen.client()?, &ada.email).await?;
    for order in [dispatched, relayed] {
        assert_eq!(ada.wait_final(order).await?.status, Status::Confirmed);
    }
    wait_settled(&frozen, &db).await?;
    assert_consistent(&db).await;
    let cluster = frozen.kafka()?;
    let reserved = copies(&cluster, "inventory-events", dispatched).await?;
    assert_eq!(by_type(&reserved), [("inventory.committed", 1), ("inventory.reserved", 1)]);
    let created = copies(&cluster, "order-events", relayed).await?;
    assert_eq!(by_type(&created), [("order.confirmed", 1), ("order.created", 1)]);
    Ok(())
}

/// Everything was sent and acknowledged, and its consumers have acted on it, but it still stands in the outbox: the next owner cannot
/// know, sends it again, and every consumer refuses the second copy.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_between_acknowledgement_and_clearing() -> Outcome {
    let _alone = alone().await;
    let (frozen, mut working) = frozen_and_working().await?;
    let db = frozen.database().await?;
    let ada = Customer::register(&working.client()?).await?;
    // What was mailed to her is none of this.
    let sent =
        "SELECT NOT EXISTS (SELECT FROM auth.outgoing_event) AND NOT EXISTS (SELECT FROM fnhost.outbox)";
    wait_for(&db, "the mail of the registration to be sent", sent).await?;

    run(
        &db,
        "CREATE FUNCTION public.hold() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS
             $$ BEGIN PERFORM pg_advisory_xact_lock_shared(1); RETURN NULL; END $$;
         CREATE TRIGGER hold BEFORE DELETE ON fnhost.outbox FOR EACH STATEMENT EXECUTE FUNCTION public.hold()",
    )
    .await?;
    let mut held = db.pool.begin().await.map_err(anyhow::Error::from)?;
    let lock = sqlx::raw_sql("SELECT pg_advisory_xact_lock(1)").execute(&mut *held).await;
    lock.map_err(anyhow::Error::from)?;
    let order = ada.order(&NewOrder::of(&[("TEA-250G", 2)])).await?.order_id;
    assert_eq!(ada.wait_final(order).await?.status, Status::Confirmed);
    ada.wait_notifications(order, &["CONFIRMED"]).await?;
    // Each of the four that emitted stands in the store that would clear its row.
    let in_clearing = "SELECT count(*) = 4 FROM pg_stat_activity WHERE wait_event = 'advisory'";
    wait_for(&db, "every outbox row to be acknowledged", in_clearing).await?;
    working.kill()?;
    // The killed host's sessions end before the test lets go, so that none of them commits what it had begun.
    run(&db, "SELECT pg_terminate_backend(pid, 10000) FROM pg_stat_activity WHERE wait_event = 'advisory'")
        .await?;
    held.rollback().await.map_err(anyhow::Error::from)?;
    run(&db, "DROP TRIGGER hold ON fnhost.outbox").await?;
    assert_eq!(unsent(&db).await?, ["inventory", "order", "order:events", "payment"]);

    working.restart().await?;
    wait_settled(&frozen, &db).await?;
    assert_consistent(&db).await;
    ada.wait_notifications(order, &["CONFIRMED"]).await?;
    let cluster = frozen.kafka()?;
    for (topic, expected) in [
        ("order-events", vec![("order.confirmed", 2), ("order.created", 2)]),
        ("inventory-events", vec![("inventory.committed", 1), ("inventory.reserved", 2)]),
        ("payment-events", vec![("payment.authorized", 2), ("payment.captured", 1)]),
        ("notification-events", vec![("notification.requested", 2)]),
    ] {
        assert_eq!(by_type(&copies(&cluster, topic, order).await?), expected, "{topic}");
    }
    // inventory, payment and forecast read what order says; order and notify what they say; forecast what inventory says.
    assert_eq!(refused(&working).await?, 3 * 2 + 2 + 1 + 1);
    Ok(())
}

/// Records that a host has refused because their number was accepted before.
async fn refused(fnhost: &Fnhost) -> anyhow::Result<u64> {
    #[derive(serde::Deserialize)]
    struct Partition {
        duplicates_refused: u64,
    }
    let partitions: Vec<Partition> = fnhost.admin()?.get("/partitions").await?.json(http::StatusCode::OK)?;
    Ok(partitions.iter().map(|partition| partition.duplicates_refused).sum())
}
