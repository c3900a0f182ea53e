//! A database that has lost commits, positions outside the log, topics that grow, and streams that nobody owns any more.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use fnhost_dispatch::relay::orphans::Orphans;
use fnhost_types::outbox::{self, Outgoing};
use rdkafka::admin::{AdminClient, AdminOptions, NewPartitions};
use rdkafka::client::DefaultClientContext;
use rdkafka::producer::{FutureProducer, FutureRecord};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::world::{PATIENCE, World};

const STOPPED: &str = "SELECT coalesce(stopped, '') LIKE";

#[tokio::test(flavor = "multi_thread")]
async fn a_restored_database_stops_the_partition_and_uses_no_number_again() {
    let world = World::new(&["restored"]).await;
    world.send(0, &[("a", "write"), ("b", "write"), ("c", "write")]).await;
    let host = world.host("one", 2).await;
    world.until_position(0, 3).await;
    let before = world.messages(0, 3).await;
    world.until("SELECT NOT EXISTS (SELECT FROM fnhost.outbox)").await;
    host.stop().await;
    // As the backup has it that was made after the first record.
    world
        .run(
            "UPDATE fnhost.partition SET position = 1, emitted = 1, stores = 1;
             DELETE FROM own.effect WHERE record > 0",
        )
        .await;
    let host = world.host("one", 2).await;
    world.until(&format!("{STOPPED} '%below the group%' FROM fnhost.partition")).await;
    assert_eq!(world.effects(0).await, [0]);
    world.send(0, &[("d", "write")]).await;
    world.move_position(0, 1).await;
    world.until_position(0, 4).await;
    assert_eq!(world.effects(0).await, [0, 1, 2, 3]);
    // Everything after the restore is on a stream that no consumer has a number of.
    let all = world.messages(0, 6).await;
    let streams: Vec<&str> = all.iter().map(|headers| headers["fnhost-stream"].as_str()).collect();
    let names: BTreeSet<&str> = streams.iter().copied().collect();
    assert_eq!(names.len(), 2, "{streams:?}");
    assert!(streams[3..].iter().all(|name| *name != before[0]["fnhost-stream"]), "{streams:?}");
    host.ready().await;
    host.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_position_beyond_the_log_stops_and_is_cured_without_a_restart() {
    let world = World::new(&["beyond"]).await;
    world.send(0, &[("a", "write")]).await;
    let host = world.host("one", 2).await;
    world.until_position(0, 1).await;
    host.stop().await;
    world.run("UPDATE fnhost.partition SET position = 100").await;
    let host = world.host("one", 2).await;
    world.until(&format!("{STOPPED} '%beyond the log%' FROM fnhost.partition")).await;
    world.send(0, &[("b", "write")]).await;
    world.move_position(0, 1).await;
    world.until_position(0, 2).await;
    assert_eq!(world.effects(0).await, [0, 1]);
    host.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_partition_that_is_added_is_handled_from_its_first_record() {
    let world = World::new(&["grows"]).await;
    world.send(0, &[("a", "write")]).await;
    let host = world.host("one", 2).await;
    world.until_position(0, 1).await;
    let admin: AdminClient<DefaultClientContext> = world.client().create().expect("an admin client");
    let topic = world.topics[0].as_str();
    let grown = NewPartitions::new(topic, 2);
    let made = admin.create_partitions([&grown], &AdminOptions::new()).await.expect("an answer");
    made[0].as_ref().expect("grown");
    let sent = crate::support::holds(async || {
        // One that has only just looked at the topic.
        let producer: FutureProducer = world.client().create().expect("a producer");
        let record = FutureRecord::to(topic).key("z").payload("write").partition(1);
        producer.send(record, Duration::from_secs(5)).await.is_ok()
    });
    tokio::time::timeout(PATIENCE, sent).await.expect("sent");
    world.until("SELECT EXISTS (SELECT FROM fnhost.partition WHERE partition = 1 AND position = 1)").await;
    assert_eq!(world.effects(0).await, [0, 0]);
    host.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_trigger_left_that_is_not_in_the_manifest_any_more_is_sent() {
    let world = World::new(&["orphan"]).await;
    let output = world.output(0);
    let message = Outgoing { topic: &output, partition: 0, key: None, value: Some(b"left"), headers: vec![] };
    let left = outbox::encode("", &[message]);
    world
        .run(
            "INSERT INTO fnhost.trigger (deployment, id, kind, group_id, role) VALUES ('test', 'gone', 'kafka', 'g', 'postgres');
             INSERT INTO fnhost.partition (trigger, topic, partition, position, emitted)
             SELECT trigger, 'former', 0, 7, 1 FROM fnhost.trigger WHERE id = 'gone'",
        )
        .await;
    sqlx::query(
        "INSERT INTO fnhost.outbox (trigger, topic, partition, first_seq, last_seq, messages, created_at, incarnation)
         SELECT trigger, 'former', 0, 1, 1, $1, clock_timestamp() - interval '5 minutes', 'abcd0123'
           FROM fnhost.trigger WHERE id = 'gone'",
    )
    .bind(left)
    .execute(&world.database)
    .await
    .expect("a row");
    let orphans = Orphans {
        deployment: "test".to_owned(),
        known: vec![],
        host: Uuid::new_v4(),
        owner: world.owner().await,
        producer: world.sender(),
    };
    let stop = CancellationToken::new();
    let searching = tokio::spawn(Arc::new(orphans).run(stop.clone()));
    let sent = world.messages(0, 1).await;
    assert_eq!(
        sent[0]["fnhost-stream"], "test/abcd0123/gone/former/0",
        "under the name that Kafka may have it by"
    );
    world.until("SELECT NOT EXISTS (SELECT FROM fnhost.outbox)").await;
    stop.cancel();
    searching.await.expect("no panic");
}
