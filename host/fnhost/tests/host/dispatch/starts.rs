//! Where a trigger begins: at one moment in all partitions of a topic, whatever happens while that is stored.

use std::panic::AssertUnwindSafe;

use fnhost_manifest::Start;
use futures::FutureExt as _;
use rdkafka::admin::{AdminClient, AdminOptions, NewPartitions};
use rdkafka::client::DefaultClientContext;
use rdkafka::producer::FutureRecord;

use super::world::{PATIENCE, World};
use crate::support::holds;

/// A topic of three partitions with a record in each, which a trigger that starts at the latest record does not want.
async fn world(name: &str) -> World {
    let mut world = World::new(&[name]).await;
    world.start = Start::Latest;
    let admin: AdminClient<DefaultClientContext> = world.client().create().expect("an admin client");
    let grown = NewPartitions::new(&world.topics[0], 3);
    let made = admin.create_partitions([&grown], &AdminOptions::new()).await.expect("an answer");
    made[0].as_ref().expect("grown");
    for partition in 0..3 {
        send(&world, partition).await;
    }
    world
}

async fn send(world: &World, partition: i32) {
    let sent = holds(async || {
        // One that has only just looked at the topic.
        let producer: rdkafka::producer::FutureProducer = world.client().create().expect("a producer");
        let record = FutureRecord::to(&world.topics[0]).key("k").payload("write").partition(partition);
        producer.send(record, std::time::Duration::from_secs(5)).await.is_ok()
    });
    tokio::time::timeout(PATIENCE, sent).await.expect("sent");
}

/// One more record in each partition, and these alone have an effect.
async fn goes_on_from_here(world: &World) {
    for partition in 0..3 {
        send(world, partition).await;
    }
    world.until("SELECT count(*) = 3 FROM fnhost.partition WHERE position = 2").await;
    assert_eq!(world.effects(0).await, [1, 1, 1], "in each partition the second record alone");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_start_that_fails_half_way_has_stored_nothing() {
    let world = world("half-way").await;
    world
        .run(
            "CREATE FUNCTION public.fails() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
                 RAISE EXCEPTION 'as where the host or the server ends here'; END $$;
             CREATE TRIGGER half_way BEFORE INSERT ON fnhost.partition FOR EACH ROW WHEN (NEW.partition = 2)
                 EXECUTE FUNCTION public.fails()",
        )
        .await;
    let failed = AssertUnwindSafe(world.host("one", 2)).catch_unwind().await;
    assert!(failed.is_err(), "the host does not start");
    assert_eq!(world.value::<i64>("SELECT count(*) FROM fnhost.partition").await, 0);
    world.run("DROP TRIGGER half_way ON fnhost.partition").await;
    let host = world.host("one", 2).await;
    host.ready().await;
    goes_on_from_here(&world).await;
    host.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn hosts_that_start_together_agree_on_the_start() {
    let world = world("together").await;
    let (one, two) = tokio::join!(world.host("one", 2), world.host("two", 2));
    tokio::join!(one.ready(), two.ready());
    goes_on_from_here(&world).await;
    tokio::join!(one.stop(), two.stop());
}
