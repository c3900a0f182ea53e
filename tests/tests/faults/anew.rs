//! A topic that is deleted and made anew after its broker has died: the former topic's leader epochs are the higher ones, and clients that
//! go by them would find no leader.

use super::alone;
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use tests::customer::{Customer, NewOrder};
use tests::kafka::Cluster;
use tests::outcome::Outcome;
use tests::system::{Fnhost, READY_DEADLINE, Setup};
use tests::wait::{Look, until};

/// Consumed by notify, and sent to by order.
const TOPIC: &str = "notification-events";
const PARTITIONS: i32 = 3;

/// Deletes the topic and makes it anew at once.
async fn make_anew(cluster: &Cluster) -> anyhow::Result<()> {
    let admin: AdminClient<DefaultClientContext> = cluster.client().create()?;
    let options = AdminOptions::new().operation_timeout(Some(READY_DEADLINE));
    for result in admin.delete_topics(&[TOPIC], &options).await? {
        result.map_err(|(topic, code)| anyhow::anyhow!("{topic}: {code}"))?;
    }
    until("the topic made anew", READY_DEADLINE, async || {
        let new = NewTopic::new(TOPIC, PARTITIONS, TopicReplication::Fixed(1));
        let made = admin.create_topics([&new], &options).await?.pop();
        // The former one may not be gone yet.
        Ok(Look::from_bool(matches!(made, Some(Ok(_))), format!("{made:?}")))
    })
    .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_topic_made_anew_is_read_and_written_although_its_leaders_begin_from_the_start() -> Outcome {
    let _alone = alone().await;
    let fnhost = Fnhost::start(Setup::default()).await?;
    let ada = Customer::register(&fnhost.client()?).await?;
    let before = ada.order_to_end(&NewOrder::of(&[("TEA-250G", 1)])).await?;
    ada.wait_notifications(before.order_id, &["CONFIRMED"]).await?;
    // Each start of the broker raises the epochs of its partitions.
    for _ in 0..2 {
        fnhost.kill_kafka()?;
        let order = ada.order_to_end(&NewOrder::of(&[("TEA-250G", 1)])).await?;
        ada.wait_notifications(order.order_id, &["CONFIRMED"]).await?;
    }
    make_anew(&fnhost.kafka()?).await?;
    let db = fnhost.database().await?;
    until("the partitions to stop", READY_DEADLINE, async || {
        let stopped = db.count("SELECT count(*) FROM fnhost.partition WHERE stopped IS NOT NULL").await?;
        Ok(Look::from_bool(stopped == i64::from(PARTITIONS), format!("{stopped} are stopped")))
    })
    .await?;
    let moved =
        fnhost.beside(&["position", "--trigger", "notify", "--all", "--to", "earliest", "--yes"]).await?;
    assert!(moved.status.success(), "{moved:?}");
    // Sent by one client to each partition, and read by another.
    for _ in 0..8 {
        let order = ada.order_to_end(&NewOrder::of(&[("TEA-250G", 1)])).await?;
        ada.wait_notifications(order.order_id, &["CONFIRMED"]).await?;
    }
    Ok(())
}
