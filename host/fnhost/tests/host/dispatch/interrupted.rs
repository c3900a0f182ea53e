//! A redrive and a replay whose session ends at the server in the middle of a part: what was put back stays, the part in hand is not
//! put back at all, and the command can be given again.

use std::time::Duration;

use fnhost_db::dead::{self, DeadFilter};
use fnhost_dispatch::operator::{Place, Replay};
use fnhost_manifest::{BackOff, Start};
use fnhost_types::record::{MAC_HEADER, SEQ_HEADER, STREAM_HEADER};
use fnhost_types::stream_keys::Claim;
use rdkafka::message::{Header, OwnedHeaders};
use rdkafka::producer::FutureRecord;

use super::operations::{good_mood, line, mood, moody, operator, redrive};
use super::world::{PATIENCE, World};

/// The lock that whoever is held waits for.
const LOCK: i64 = 7;

/// Holds whoever does this to a row of this topic, in the middle of its statement.
async fn hold(world: &World, doing: &str, table: &str, row: &str, topic: &str) -> sqlx::PgConnection {
    world
        .run(&format!(
            "CREATE FUNCTION own.hold() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
                 PERFORM pg_advisory_xact_lock({LOCK}); RETURN {row}; END $$;
             CREATE TRIGGER hold BEFORE {doing} ON {table} FOR EACH ROW WHEN ({row}.topic = '{topic}')
                 EXECUTE FUNCTION own.hold()"
        ))
        .await;
    let mut holder = world.database.acquire().await.expect("a connection").detach();
    sqlx::query("SELECT pg_advisory_lock($1)").bind(LOCK).execute(&mut holder).await.expect("locked");
    holder
}

/// Waits until somebody is held, and ends that session.
async fn end_session_of_held(world: &World) {
    let held = "FROM pg_locks WHERE locktype = 'advisory' AND NOT granted
                AND database = (SELECT oid FROM pg_database WHERE datname = current_database())";
    world.until(&format!("SELECT EXISTS (SELECT {held})")).await;
    assert!(world.value::<bool>(&format!("SELECT bool_and(pg_terminate_backend(pid)) {held}")).await);
}

/// Nobody is held any more.
async fn let_go(world: &World, holder: sqlx::PgConnection, table: &str) {
    sqlx::Connection::close(holder).await.expect("closed");
    world.run(&format!("DROP TRIGGER hold ON {table}")).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_redrive_that_ends_in_the_middle_is_given_again() {
    // Their parts come in this order.
    let mut world = moody(&["a-first", "b-second"]).await;
    world.config.back_off = BackOff { initial: Duration::from_millis(1), ..BackOff::default() };
    world.send(0, &[("a", &mood(0)), ("b", &mood(1))]).await;
    world.send(1, &[("a", &mood(2)), ("b", &mood(3))]).await;
    let host = world.host("one", 1).await;
    world.until("SELECT count(*) = 4 FROM fnhost.dead").await;
    good_mood(&world).await;
    let holder = hold(&world, "DELETE", "fnhost.dead", "OLD", &world.topics[1]).await;
    let owner = world.owner().await;
    let everything = DeadFilter::default();
    let (ended, ()) = tokio::join!(dead::redrive(&owner, "test", &everything), end_session_of_held(&world));
    ended.expect_err("its session has ended");
    assert_eq!((world.dead(0).await.len(), world.dead(1).await.len()), (0, 2), "the part in hand is whole");
    let_go(&world, holder, "fnhost.dead").await;
    world.until_position(0, 2).await;
    assert_eq!(redrive(&world, &everything).await.records, 2);
    world.until_position(1, 2).await;
    let mut done = line(&world).await;
    done.sort_unstable();
    assert_eq!(done, [0, 1, 2, 3]);
    assert_eq!((world.dead(0).await, world.dead(1).await), (vec![], vec![]));
    owner.close().await;
    host.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replay_that_ends_in_the_middle_of_a_part_goes_on_with_it() {
    let world = World::new(&["a-first", "b-second"]).await;
    world.send(0, &[("a", "write"), ("b", "write")]).await;
    for seq in 1..=2 {
        numbered(&world, seq).await;
    }
    let host = world.host("one", 3).await;
    world.until_position(0, 2).await;
    world.until_position(1, 2).await;
    let holder = hold(&world, "INSERT", "fnhost.parked", "NEW", &world.topics[1]).await;
    let operator = operator(&world).await;
    let replay =
        Replay { trigger: "trigger".into(), from: Place::Start(Start::Earliest), to: None, emit: false };
    let mut parts = operator.plan_replay(&replay, None).await.expect("a plan");
    parts.sort_by(|a, b| a.topic.cmp(&b.topic));
    let [first, second] = &mut parts[..] else { panic!("two partitions: {parts:?}") };
    operator.replay_next(&replay, first).await.expect("put before its trigger");
    let (ended, ()) = tokio::join!(operator.replay_next(&replay, second), end_session_of_held(&world));
    ended.expect_err("its session has ended");
    let_go(&world, holder, "fnhost.parked").await;
    world.until_position(0, 2).await;
    assert_eq!((world.effects(0).await, world.effects(1).await), (vec![0, 0, 1, 1], vec![0, 1]));
    while !second.is_done() {
        operator.replay_next(&replay, second).await.expect("put before its trigger");
    }
    assert_eq!(second.records, 2, "a record is no copy of one that was not put back");
    world.until_position(1, 2).await;
    assert_eq!((world.effects(0).await, world.effects(1).await), (vec![0, 0, 1, 1], vec![0, 0, 1, 1]));
    operator.owner.close().await;
    host.stop().await;
}

/// Sends a record of the second topic with this number of a stream of the deployment.
async fn numbered(world: &World, seq: i64) {
    let claim = Claim { stream: "test/x/source", seq, topic: &world.topics[1], partition: 0 };
    let mac = world.keys.sign(claim).expect("a key");
    let headers = OwnedHeaders::new()
        .insert(Header { key: STREAM_HEADER, value: Some("test/x/source") })
        .insert(Header { key: SEQ_HEADER, value: Some(&seq.to_string()) })
        .insert(Header { key: MAC_HEADER, value: Some(&mac) });
    let record = FutureRecord::to(&world.topics[1]).key("k").payload("write").headers(headers);
    world.producer.send(record, PATIENCE).await.expect("sent");
}
