//! Messages that Kafka refuses: their stream waits, alone and visibly, until Kafka takes them or somebody gives them up.

use fnhost_db::refused;
use fnhost_types::record::TopicPartition;
use rdkafka::admin::{AdminClient, AdminOptions, AlterConfig, ResourceSpecifier};
use rdkafka::client::DefaultClientContext;

use super::world::{PATIENCE, World};
use crate::support::holds;

/// Sets the largest message of what the first topic's records emit to.
async fn limit(world: &World, bytes: &str) {
    let admin: AdminClient<DefaultClientContext> = world.client().create().expect("an admin client");
    let output = world.output(0);
    let change = AlterConfig::new(ResourceSpecifier::Topic(&output)).set("max.message.bytes", bytes);
    let changed = admin.alter_configs([&change], &AdminOptions::new().request_timeout(Some(PATIENCE))).await;
    changed.expect("an answer")[0].as_ref().expect("changed");
}

/// A record of the first topic whose message is refused, and one of the second that goes on.
async fn refuse(world: &World) -> TopicPartition {
    limit(world, "60").await;
    world.send(0, &[("a", "write")]).await;
    world.until("SELECT EXISTS (SELECT FROM fnhost.refused)").await;
    world.send(1, &[("b", "write"), ("c", "write")]).await;
    world.until_position(1, 2).await;
    assert_eq!(world.emitted(1, 2).await, [1, 2], "the other stream goes on");
    TopicPartition::new(&world.topics[0], 0)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refused_message_blocks_its_stream_alone_and_is_sent_once_kafka_takes_it() {
    let world = World::new(&["refused", "beside"]).await;
    let host = world.host("one", 3).await;
    host.ready().await;
    let tp = refuse(&world).await;
    let owner = world.owner().await;
    let waiting = refused::list(&owner, "test").await.expect("the database");
    assert_eq!((waiting.len(), waiting[0].seq, waiting[0].rows), (1, 1, 1), "{waiting:?}");
    assert_eq!(waiting[0].stream, format!("test/trigger/{tp}"));
    assert_eq!(waiting[0].target_topic, world.output(0));
    let said = holds(async || host.registry.not_ready().iter().any(|line| line.contains("fnhost outbox")));
    tokio::time::timeout(PATIENCE, said).await.expect("it is said");
    assert!(
        !refused::retry(&owner, "test", "trigger", &TopicPartition::new("none", 0))
            .await
            .expect("the database")
    );
    assert!(refused::retry(&owner, "test", "trigger", &tp).await.expect("the database"), "in vain");
    limit(&world, "1048588").await;
    assert_eq!(world.emitted(0, 1).await, [1], "by itself");
    world.until("SELECT NOT EXISTS (SELECT FROM fnhost.refused)").await;
    world.send(0, &[("a", "write")]).await;
    assert_eq!(world.emitted(0, 2).await, [1, 2]);
    assert_eq!(world.dead(0).await, []);
    host.ready().await;
    owner.close().await;
    host.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refused_message_that_is_given_up_is_a_dead_letter_and_what_is_behind_it_goes_on() {
    let world = World::new(&["given-up", "beside"]).await;
    let host = world.host("one", 3).await;
    host.ready().await;
    let tp = refuse(&world).await;
    let owner = world.owner().await;
    assert_eq!(refused::to_dead(&owner, "test", "trigger", &tp).await.expect("the database"), Some(1));
    assert_eq!(refused::to_dead(&owner, "test", "trigger", &tp).await.expect("the database"), None);
    let dead = world.dead(0).await;
    assert_eq!((dead.len(), dead[0].0), (1, 1), "{dead:?}");
    assert!(dead[0].2.contains("refused by Kafka"), "{dead:?}");
    limit(&world, "1048588").await;
    // Until the new limit is known the function's own messages would be refused as too large for the topic.
    world.until("SELECT NOT EXISTS (SELECT FROM fnhost.outbox)").await;
    host.ready().await;
    assert_eq!(world.effects(0).await, [0], "its effect stands");
    owner.close().await;
    host.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_host_that_starts_goes_on_with_a_refused_message() {
    let world = World::new(&["restarted", "beside"]).await;
    let host = world.host("one", 3).await;
    host.ready().await;
    refuse(&world).await;
    host.stop().await;
    limit(&world, "1048588").await;
    let host = world.host("one", 3).await;
    assert_eq!(world.emitted(0, 1).await, [1]);
    world.until("SELECT NOT EXISTS (SELECT FROM fnhost.refused)").await;
    host.ready().await;
    host.stop().await;
}
