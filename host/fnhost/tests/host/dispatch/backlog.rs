//! An outbox that grew while Kafka was away: whoever goes on with its stream sends it page by page, in order.

use fnhost_db::unsent::{PAGE_BYTES_MAX, PAGE_ROWS_MAX};
use fnhost_types::outbox::{self, Outgoing};

use super::world::World;

/// Messages of a row for the first topic's output.
fn encoded(world: &World, value: &[u8]) -> Vec<u8> {
    let output = world.output(0);
    outbox::encode(
        "",
        &[Outgoing { topic: &output, partition: 0, key: None, value: Some(value), headers: vec![] }],
    )
}

/// Puts rows of one message each into the outbox.
async fn leave(world: &World, first: i64, last: i64, messages: &[u8]) {
    let insert = "INSERT INTO fnhost.outbox (trigger, topic, partition, first_seq, last_seq, messages, incarnation)
                  SELECT trigger, topic, partition, seq, seq, $3, incarnation FROM fnhost.partition, generate_series($1, $2) seq";
    let inserted = sqlx::query(insert).bind(first).bind(last).bind(messages).execute(&world.database).await;
    inserted.expect("the rows");
    world.run(&format!("UPDATE fnhost.partition SET emitted = {last}")).await;
}

/// Makes the row that is left one that can be read.
async fn mend(world: &World, messages: &[u8]) {
    let mended = sqlx::query("UPDATE fnhost.outbox SET messages = $1").bind(messages);
    mended.execute(&world.database).await.expect("the row");
}

async fn until_left(world: &World, first: i64, last: i64) {
    world
        .until(&format!("SELECT (min(first_seq), max(first_seq)) = ({first}, {last}) FROM fnhost.outbox"))
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_large_outbox_is_sent_in_pages_each_acknowledged_and_cleared_before_the_next_is_read() {
    const LARGE_BYTES: usize = 1_000_000;
    let world = World::new(&["backlog"]).await;
    let host = world.host("one", 2).await;
    host.ready().await;
    host.stop().await;
    // A row that no host can read shows how far the outbox was read before.
    let unreadable = [99];
    let by_rows = PAGE_ROWS_MAX + 1;
    leave(&world, 1, PAGE_ROWS_MAX, &encoded(&world, b"small")).await;
    leave(&world, by_rows, by_rows, &unreadable).await;
    let host = world.host("one", 2).await;
    until_left(&world, by_rows, by_rows).await;
    host.stop().await;

    let large = encoded(&world, &vec![b'x'; LARGE_BYTES]);
    mend(&world, &large).await;
    let by_bytes = PAGE_ROWS_MAX + PAGE_BYTES_MAX / large.len() as i64 + 2;
    leave(&world, by_rows + 1, by_bytes - 1, &large).await;
    leave(&world, by_bytes, by_bytes, &unreadable).await;
    let host = world.host("one", 2).await;
    until_left(&world, by_bytes, by_bytes).await;

    mend(&world, &large).await;
    let count = usize::try_from(by_bytes).expect("a count");
    assert_eq!(world.emitted(0, count).await, (1..=by_bytes).collect::<Vec<_>>(), "all of them, in order");
    world.until("SELECT NOT EXISTS (SELECT FROM fnhost.outbox)").await;
    host.ready().await;
    host.stop().await;
}
