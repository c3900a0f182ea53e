//! A record that its function fails on: it alone is parked and becomes a dead letter, and everything else flows.

use std::sync::atomic::Ordering;

use super::world::World;

/// Ways to fail, and what the dead letter says; a reject takes one attempt, everything else as many as there are.
const FAILURES: [(&str, &str); 14] = [
    ("panic", "asked to panic"),
    ("exit", "exit"),
    ("loop", "1500 ms"),
    ("sleep", "1500 ms"),
    ("memory", "memory"),
    ("error", "asked to fail"),
    ("retry", "later"),
    ("reject", "never"),
    ("short-reply", "0 outcomes for 1 messages"),
    ("emit-elsewhere", "does not list in `emits`"),
    ("emit-forged", "are reserved for the host"),
    ("emit-without-cause", "which the batch does not have"),
    ("emit-retried", "which is not done"),
    ("sql-swallow SELECT 1 / 0", "current transaction is aborted"),
];
const MAX_ATTEMPTS: u32 = 2;
/// The place of the bad record in its batch.
const BAD: i64 = 3;

/// Seven good records around a bad one, and one behind it with its key.
fn batch(behaviour: &str) -> [(&str, &str); 9] {
    let good = |key| (key, "write");
    let [a, b, c, d, e, f, g] = ["a", "b", "c", "d", "e", "f", "g"].map(good);
    [a, b, c, ("bad", behaviour), d, e, good("bad"), f, g]
}

#[tokio::test(flavor = "multi_thread")]
async fn the_bad_record_ends_alone_and_everything_else_has_its_effect_once() {
    let topics: Vec<String> = (0..FAILURES.len()).map(|index| format!("failure-{index}")).collect();
    let world = World::new(&topics.iter().map(String::as_str).collect::<Vec<_>>()).await;
    for (index, (behaviour, _)) in FAILURES.iter().enumerate() {
        world.send(index, &batch(behaviour)).await;
    }
    let host = world.host("one", MAX_ATTEMPTS).await;
    for (index, (behaviour, reason)) in FAILURES.iter().enumerate() {
        world.until_position(index, 9).await;
        let dead = world.dead(index).await;
        let [(offset, attempts, said)] = &dead[..] else { panic!("{behaviour}: {dead:?}") };
        let expected_attempts = if *behaviour == "reject" { 1 } else { MAX_ATTEMPTS as i32 };
        assert_eq!((*offset, *attempts), (BAD, expected_attempts), "{behaviour}");
        assert!(said.contains(reason), "{behaviour}: {said}");
        assert_eq!(world.effects(index).await, [0, 1, 2, 4, 5, 6, 7, 8], "{behaviour}");
        assert_eq!(world.emitted(index, 8).await.len(), 8, "{behaviour}");
    }
    for (index, (behaviour, reason)) in FAILURES.iter().enumerate() {
        let letters = world.dead_letters(index, 1).await;
        assert_eq!(letters.len(), 1, "{behaviour}");
        assert_eq!(
            (letters[0]["fnhost-dead-offset"].as_str(), letters[0]["fnhost-dead-trigger"].as_str()),
            ("3", "trigger")
        );
        assert!(letters[0]["fnhost-dead-reason"].contains(reason), "{behaviour}: {letters:?}");
    }
    host.stop().await;
}

/// The function says done for a record behind one of its key that it wants to retry.
#[tokio::test(flavor = "multi_thread")]
async fn a_record_done_too_early_is_taken_back_and_waits_its_turn() {
    let world = World::new(&["early"]).await;
    world.send(0, &[("a", "retry"), ("a", "write"), ("b", "write"), ("a", "write")]).await;
    let host = world.host("one", MAX_ATTEMPTS).await;
    world.until_position(0, 4).await;
    assert_eq!(world.effects(0).await, [1, 2, 3], "each once, whatever the first reply had written");
    let dead = world.dead(0).await;
    assert_eq!((dead.len(), dead[0].0, dead[0].1), (1, 0, MAX_ATTEMPTS as i32));
    host.stop().await;
}

/// What has waited behind a bad record of its key follows in batches, not in a transaction for each.
#[tokio::test(flavor = "multi_thread")]
async fn what_waited_behind_a_record_follows_in_batches() {
    const BEHIND: usize = 300;
    let world = World::new(&["hot"]).await;
    let mut records = vec![("hot", "retry")];
    records.extend([("hot", "write"); BEHIND]);
    world.send(0, &records).await;
    let host = world.host("one", MAX_ATTEMPTS).await;
    world.until_position(0, BEHIND as i64 + 1).await;
    assert_eq!(world.effects(0).await, (1..=BEHIND as i64).collect::<Vec<_>>());
    // The first message of the stream is the dead letter.
    assert_eq!(world.emitted(0, BEHIND).await, (2..=BEHIND as i64 + 1).collect::<Vec<_>>());
    let triggers = host.registry.triggers();
    let [trigger] = &triggers[..] else { panic!("one trigger") };
    let batches: u64 = trigger.partitions().iter().map(|p| p.counts.batches.load(Ordering::Relaxed)).sum();
    assert!(batches < BEHIND as u64 / 10, "{batches}");
    host.stop().await;
}

/// Of the records behind one that fails another fails: those behind it wait again, and nothing overtakes anything.
#[tokio::test(flavor = "multi_thread")]
async fn a_batch_of_what_waited_that_fails_keeps_the_order_of_its_key() {
    const PATIENT: u32 = 1_000;
    let world = World::new(&["again"]).await;
    world.run("CREATE TABLE own.open (record bigint NOT NULL)").await;
    // Fails until the test opens it.
    let topic = &world.topics[0];
    let closed = |record: i64| {
        format!(
            "sql INSERT INTO effect (topic, record)
             SELECT '{topic}', {record} + 0 / (SELECT count(*) FROM open WHERE record = {record})"
        )
    };
    let (first, third) = (closed(0), closed(2));
    let behaviours = [&first, "write", &third, "write", "write"];
    world.send(0, &behaviours.map(|behaviour| ("hot", behaviour))).await;
    let host = world.host("one", PATIENT).await;
    for record in [0, 2] {
        let failed =
            format!("SELECT EXISTS (SELECT FROM fnhost.parked WHERE \"offset\" = {record} AND attempts > 0)");
        world.until(&failed).await;
        world.run(&format!("INSERT INTO own.open VALUES ({record})")).await;
    }
    world.until_position(0, 5).await;
    let order: Vec<i64> = world.value("SELECT array_agg(record ORDER BY ctid) FROM own.effect").await;
    assert_eq!(order, [0, 1, 2, 3, 4]);
    host.stop().await;
}

/// Attempts are counted in Postgres, so a restart forgives none.
#[tokio::test(flavor = "multi_thread")]
async fn a_parked_record_and_its_attempts_survive_the_host() {
    const MANY: u32 = 4;
    let world = World::new(&["parked"]).await;
    world.send(0, &[("a", "retry"), ("a", "write"), ("b", "write")]).await;
    let host = world.host("one", MANY).await;
    world.until("SELECT EXISTS (SELECT FROM fnhost.parked WHERE attempts = 2)").await;
    host.stop().await;
    let before: i32 = world.value("SELECT max(attempts) FROM fnhost.parked").await;
    assert!((2..MANY as i32).contains(&before), "{before}");
    assert_eq!(world.effects(0).await, [2], "the other key did not wait");
    let host = world.host("one", MANY).await;
    world.until_position(0, 3).await;
    assert_eq!(world.dead(0).await[0].1, MANY as i32);
    assert_eq!(world.effects(0).await, [1, 2]);
    host.stop().await;
}

/// A tombstone or a record without a key is nothing special to the host.
#[tokio::test(flavor = "multi_thread")]
async fn many_batches_have_each_effect_once_and_number_their_messages_without_a_gap() {
    const RECORDS: usize = 600;
    let world = World::new(&["many"]).await;
    let host = world.host("one", MAX_ATTEMPTS).await;
    host.ready().await;
    let keys: Vec<String> = (0..RECORDS).map(|n| format!("key-{}", n % 7)).collect();
    let records: Vec<(&str, &str)> = keys.iter().map(|key| (key.as_str(), "write")).collect();
    world.send(0, &records).await;
    world.until_position(0, RECORDS as i64).await;
    assert_eq!(world.effects(0).await, (0..RECORDS as i64).collect::<Vec<_>>());
    assert_eq!(world.emitted(0, RECORDS).await, (1..=RECORDS as i64).collect::<Vec<_>>());
    host.stop().await;
}
