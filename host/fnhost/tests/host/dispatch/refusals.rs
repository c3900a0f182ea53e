//! Messages that Kafka refuses: their stream waits, alone and visibly, until Kafka takes them or somebody gives them up.

use fnhost_db::refused;
use fnhost_types::outbox::{self, Outgoing};
use fnhost_types::record::TopicPartition;
use rdkafka::admin::{AdminClient, AdminOptions, AlterConfig, NewTopic, ResourceSpecifier, TopicReplication};
use rdkafka::client::DefaultClientContext;

use super::world::{PATIENCE, World};
use crate::support::holds;

fn admin(world: &World) -> AdminClient<DefaultClientContext> {
    world.client().create().expect("an admin client")
}

/// Sets the largest message of what the first topic's records emit to.
pub async fn limit(world: &World, bytes: &str) {
    let (admin, output) = (admin(world), world.output(0));
    let change = AlterConfig::new(ResourceSpecifier::Topic(&output)).set("max.message.bytes", bytes);
    let changed = admin.alter_configs([&change], &AdminOptions::new().request_timeout(Some(PATIENCE))).await;
    changed.expect("an answer")[0].as_ref().expect("changed");
}

/// A record of the first topic whose message is refused, and one of the second that goes on.
pub async fn refuse(world: &World) -> TopicPartition {
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
    assert_eq!(refused::give_up(&owner, "test", "trigger", &tp).await.expect("the database"), Some(1));
    world.until("SELECT EXISTS (SELECT FROM fnhost.dead)").await;
    assert_eq!(refused::give_up(&owner, "test", "trigger", &tp).await.expect("the database"), None);
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

/// What librdkafka refuses itself never gets to Kafka, and the producer of all streams stays as it is.
#[tokio::test(flavor = "multi_thread")]
async fn a_message_that_the_client_itself_refuses_blocks_its_stream_alone() {
    let world = World::new(&["no-partition", "beside"]).await;
    let host = world.host("one", 3).await;
    host.ready().await;
    // The producer knows the topic, and that it has one partition.
    world.send(1, &[("b", "write")]).await;
    assert_eq!(world.emitted(1, 1).await, [1]);
    let (tp, target) = (TopicPartition::new(&world.topics[0], 0), world.output(1));
    let message = Outgoing { topic: &target, partition: 7, key: None, value: Some(b"x"), headers: vec![] };
    let insert = "INSERT INTO fnhost.outbox (trigger, topic, partition, first_seq, last_seq, messages, incarnation)
                  SELECT trigger, topic, partition, 1, 1, $2, incarnation FROM fnhost.partition WHERE topic = $1";
    let left = sqlx::query(insert).bind(&tp.topic).bind(outbox::encode("", &[message]));
    left.execute(&world.database).await.expect("a row");
    world.run(&format!("UPDATE fnhost.partition SET emitted = 1 WHERE topic = '{}'", tp.topic)).await;
    // As an operator does, so that the stream is opened anew.
    world.move_position(0, 0).await;
    world.until("SELECT EXISTS (SELECT FROM fnhost.refused WHERE seq = 1 AND target_partition = 7)").await;
    let reason = world.value::<String>("SELECT reason FROM fnhost.refused").await;
    assert!(reason.to_lowercase().contains("partition"), "{reason}");
    world.send(1, &[("b", "write"), ("c", "write")]).await;
    world.until_position(1, 3).await;
    assert_eq!(world.emitted(1, 3).await, [1, 2, 3], "the other stream goes on");
    let owner = world.owner().await;
    assert_eq!(refused::give_up(&owner, "test", "trigger", &tp).await.expect("the database"), Some(1));
    world.send(0, &[("a", "write")]).await;
    world.until_position(0, 1).await;
    host.ready().await;
    owner.close().await;
    host.stop().await;
}

/// What is emitted to it waits for somebody to make it again.
#[tokio::test(flavor = "multi_thread")]
async fn a_topic_that_is_deleted_blocks_the_streams_to_it_alone() {
    let world = World::new(&["deleted", "beside"]).await;
    let host = world.host("one", 3).await;
    host.ready().await;
    world.send(0, &[("a", "write")]).await;
    assert_eq!(world.emitted(0, 1).await, [1]);
    let (admin, output) = (admin(&world), world.output(0));
    let options = AdminOptions::new().operation_timeout(Some(PATIENCE));
    admin.delete_topics(&[&output], &options).await.expect("an answer")[0].as_ref().expect("deleted");
    world.send(0, &[("a", "write")]).await;
    world.until("SELECT EXISTS (SELECT FROM fnhost.refused WHERE seq = 2)").await;
    world.send(1, &[("b", "write"), ("c", "write")]).await;
    world.until_position(1, 2).await;
    assert_eq!(world.emitted(1, 2).await, [1, 2], "the other stream goes on");
    let made = holds(async || {
        let topic = NewTopic::new(&output, 1, TopicReplication::Fixed(1));
        admin.create_topics([&topic], &options).await.is_ok_and(|made| made[0].is_ok())
    });
    tokio::time::timeout(PATIENCE, made).await.expect("the broker forgets the former topic");
    assert_eq!(world.emitted(0, 1).await, [2], "by itself");
    world.until("SELECT NOT EXISTS (SELECT FROM fnhost.refused)").await;
    assert_eq!(world.effects(0).await, [0, 1]);
    host.ready().await;
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
