//! Logs that are not what they were: made anew, cut off by retention, or ended by what is not for consumers.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use fnhost_db::session::SharedTransaction;
use fnhost_dispatch::{CallFailure, Called, Fixed, Handler};
use fnhost_types::wit::{Batch, Outcome, Reply};
use futures::FutureExt as _;
use futures::future::BoxFuture;
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::producer::{BaseProducer, BaseRecord, Producer as _};
use tokio::sync::Notify;

use super::world::{Host, PATIENCE, World};
use crate::support::holds;

fn admin(world: &World) -> AdminClient<DefaultClientContext> {
    world.client().create().expect("an admin client")
}

/// Deletes a topic and makes it anew, with so many records that may be written.
async fn make_anew(world: &World, records: usize) {
    let (admin, topic) = (admin(world), world.topics[0].as_str());
    let options = AdminOptions::new().operation_timeout(Some(PATIENCE));
    admin.delete_topics(&[topic], &options).await.expect("an answer")[0].as_ref().expect("deleted");
    let made = holds(async || {
        let topic = NewTopic::new(topic, 1, TopicReplication::Fixed(1));
        admin.create_topics([&topic], &options).await.is_ok_and(|made| made[0].is_ok())
    });
    tokio::time::timeout(PATIENCE, made).await.expect("the broker forgets the former topic");
    for _ in 0..records {
        // The producer has still to learn of the new topic.
        let sent = holds(async || {
            let record = rdkafka::producer::FutureRecord::to(topic).key("k").payload("write");
            world.producer.send(record, Duration::from_secs(5)).await.is_ok()
        });
        tokio::time::timeout(PATIENCE, sent).await.expect("sent");
    }
}

async fn until_stopped(world: &World, reason: &str) {
    world.until(&format!("SELECT coalesce(stopped, '') LIKE '%{reason}%' FROM fnhost.partition")).await;
}

async fn until_says_so(host: &Host, reason: &str) {
    let said = holds(async || host.registry.not_ready().iter().any(|line| line.contains(reason)));
    let said = tokio::time::timeout(PATIENCE, said).await;
    assert!(said.is_ok(), "{:?}", host.registry.not_ready());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_topic_made_anew_while_nobody_looked_skips_nothing() {
    let world = World::new(&["anew"]).await;
    world.send(0, &[("a", "write"), ("b", "write")]).await;
    let host = world.host("one", 2).await;
    world.until_position(0, 2).await;
    host.stop().await;
    // More records than the position: nothing about the log's bounds is odd.
    make_anew(&world, 4).await;
    let host = world.host("one", 2).await;
    until_stopped(&world, "made anew").await;
    until_says_so(&host, "fnhost position").await;
    assert_eq!(world.effects(0).await, [0, 1]);
    world.run("DELETE FROM own.effect").await;
    world.move_position(0, 0).await;
    world.until_position(0, 4).await;
    assert_eq!(world.effects(0).await, [0, 1, 2, 3], "cured without a restart");
    host.ready().await;
    host.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_topic_made_anew_while_it_is_read_is_noticed_and_cured_without_a_restart() {
    let world = World::new(&["under"]).await;
    world.send(0, &[("a", "write"), ("b", "write")]).await;
    let host = world.host("one", 2).await;
    world.until_position(0, 2).await;
    make_anew(&world, 0).await;
    until_stopped(&world, "made anew").await;
    until_says_so(&host, "fnhost position").await;
    make_sure_it_stays_stopped(&world, &host).await;
    world.run("DELETE FROM own.effect").await;
    world.move_position(0, 0).await;
    world.until_position(0, 3).await;
    assert_eq!(world.effects(0).await, [0, 1, 2]);
    host.ready().await;
    host.stop().await;
}

/// Nobody reads the ids: only what the records were fetched by tells.
#[tokio::test(flavor = "multi_thread")]
async fn no_record_of_a_topic_made_anew_is_taken_for_one_of_the_former() {
    let mut world = World::new(&["fetched"]).await;
    world.watchful = false;
    world.send(0, &[("a", "write"), ("b", "write")]).await;
    let host = world.host("one", 2).await;
    world.until_position(0, 2).await;
    make_anew(&world, 4).await;
    until_stopped(&world, "made anew").await;
    assert_eq!(world.effects(0).await, [0, 1]);
    world.run("DELETE FROM own.effect").await;
    world.move_position(0, 0).await;
    world.until_position(0, 4).await;
    assert_eq!(world.effects(0).await, [0, 1, 2, 3]);
    host.ready().await;
    host.stop().await;
}

/// The position is beyond the end of the new log, so the fetch fails: behind the end of the former one, which was said before.
#[tokio::test(flavor = "multi_thread")]
async fn a_fetch_that_fails_behind_the_end_of_the_log_leaves_no_partition_idle() {
    let mut world = World::new(&["shorter"]).await;
    world.watchful = false;
    world.send(0, &[("a", "write"), ("b", "write")]).await;
    let host = world.host("one", 2).await;
    world.until_position(0, 2).await;
    make_anew(&world, 0).await;
    until_stopped(&world, "made anew").await;
    assert_eq!(world.effects(0).await, [0, 1]);
    host.stop().await;
}

/// More than is fetched ahead, and the rest is deleted: what was fetched is handled, and only then the failure is said.
#[tokio::test(flavor = "multi_thread")]
async fn a_fetch_that_fails_behind_fetched_records_leaves_no_partition_idle() {
    const RECORDS: i64 = 24;
    let world = World::new(&["behind"]).await;
    let (handler, entered, go) = Held::new();
    let handlers = Arc::new(Fixed::from(handler.clone() as Arc<dyn Handler>));
    let host = world.host_with(|_| handlers, "one", 2).await;
    let value = "x".repeat(900_000);
    world.send(0, &[("a", "first")]).await;
    tokio::time::timeout(PATIENCE, entered.notified()).await.expect("the first call");
    for _ in 1..RECORDS {
        world.send(0, &[("a", &value)]).await;
    }
    let mut before = rdkafka::TopicPartitionList::new();
    before.add_partition_offset(&world.topics[0], 0, rdkafka::Offset::Offset(RECORDS)).expect("an offset");
    admin(&world).delete_records(&before, &AdminOptions::new()).await.expect("deleted");
    go.notify_one();
    until_stopped(&world, "retention deleted").await;
    let position = world.value::<i64>("SELECT position FROM fnhost.partition").await;
    assert!(position > 1 && position < RECORDS, "what was fetched is handled, up to {position}");
    assert_eq!(handler.seen.load(Ordering::Acquire), position);
    host.stop().await;
}

/// A handler whose first call waits.
struct Held {
    entered: Arc<Notify>,
    go: Arc<Notify>,
    seen: AtomicI64,
}

impl Held {
    fn new() -> (Arc<Self>, Arc<Notify>, Arc<Notify>) {
        let (entered, go) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
        let held = Self { entered: entered.clone(), go: go.clone(), seen: AtomicI64::new(0) };
        (Arc::new(held), entered, go)
    }
}

impl Handler for Held {
    fn call(&self, batch: Batch, _: SharedTransaction) -> BoxFuture<'_, Result<Called, CallFailure>> {
        async move {
            if self.seen.fetch_add(batch.messages.len() as i64, Ordering::AcqRel) == 0 {
                self.entered.notify_one();
                self.go.notified().await;
            }
            let outcomes = batch.messages.iter().map(|_| Outcome::Done).collect();
            Ok(Called::from(Reply { outcomes, emits: vec![] }))
        }
        .boxed()
    }
}

/// The new log grows over the position, which is no reason to go on.
async fn make_sure_it_stays_stopped(world: &World, host: &Host) {
    for _ in 0..3 {
        let record = rdkafka::producer::FutureRecord::to(&world.topics[0]).key("k").payload("write");
        world.producer.send(record, PATIENCE).await.expect("sent");
    }
    // Each look at the row finds another reason, so that it can be told from the one before.
    for look in ["a first look", "a second look"] {
        world.run(&format!("UPDATE fnhost.partition SET stopped = '{look}'")).await;
        until_says_so(host, look).await;
    }
    assert!(world.value::<bool>("SELECT stopped IS NOT NULL AND position = 2 FROM fnhost.partition").await);
}

#[tokio::test(flavor = "multi_thread")]
async fn records_that_retention_took_stop_it_and_the_cure_needs_no_restart() {
    let world = World::new(&["retention"]).await;
    world.send(0, &[("a", "write"), ("b", "write")]).await;
    let host = world.host("one", 2).await;
    world.until_position(0, 2).await;
    host.stop().await;
    world.send(0, &[("c", "write"), ("d", "write"), ("e", "write")]).await;
    let mut before = rdkafka::TopicPartitionList::new();
    before.add_partition_offset(&world.topics[0], 0, rdkafka::Offset::Offset(4)).expect("an offset");
    admin(&world).delete_records(&before, &AdminOptions::new()).await.expect("deleted");
    let host = world.host("one", 2).await;
    until_stopped(&world, "retention deleted").await;
    world.move_position(0, 4).await;
    world.until_position(0, 5).await;
    assert_eq!(world.effects(0).await, [0, 1, 4]);
    host.ready().await;
    host.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_position_passes_what_is_not_for_consumers() {
    let world = World::new(&["transactions"]).await;
    let topic = world.topics[0].clone();
    let producer: BaseProducer =
        world.client().set("transactional.id", &topic).create().expect("a transactional producer");
    let send = tokio::task::spawn_blocking(move || {
        producer.init_transactions(PATIENCE).expect("initialised");
        for (payload, commits) in [("write", true), ("write", false), ("write", true), ("write", false)] {
            producer.begin_transaction().expect("begun");
            producer.send(BaseRecord::to(&topic).key("k").payload(payload)).expect("queued");
            producer.flush(PATIENCE).expect("sent");
            if commits {
                producer.commit_transaction(PATIENCE).expect("committed");
            } else {
                producer.abort_transaction(PATIENCE).expect("aborted");
            }
        }
    });
    send.await.expect("no panic");
    let host = world.host("one", 2).await;
    // Each transaction has a record and a marker, and the last one was aborted.
    world.until_position(0, 8).await;
    assert_eq!(world.effects(0).await, [0, 4]);
    host.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_position_moved_back_over_parked_records_runs_them_once_and_in_order() {
    let world = World::new(&["parked"]).await;
    world.send(0, &[("a", "retry"), ("a", "write"), ("b", "write")]).await;
    let host = world.host("one", 100).await;
    world
        .until("SELECT position = 3 AND (SELECT count(*) = 2 FROM fnhost.parked) FROM fnhost.partition")
        .await;
    assert_eq!(world.effects(0).await, [2]);
    world.run("DELETE FROM own.effect").await;
    world.move_position(0, 1).await;
    // The head stays parked, and what comes again waits behind it.
    world
        .until("SELECT position = 3 AND (SELECT count(*) = 2 FROM fnhost.parked) FROM fnhost.partition")
        .await;
    assert_eq!(world.effects(0).await, [2]);
    world.run("DELETE FROM own.effect").await;
    world.move_position(0, 2).await;
    world.until("SELECT position = 3 FROM fnhost.partition").await;
    assert_eq!(world.effects(0).await, [2], "it is parked before the position, and stays");
    host.stop().await;
}
