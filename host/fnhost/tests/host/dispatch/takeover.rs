//! An owner that is held inside COMMIT, and one that gets no answer to it. The server is told to wait for a standby that
//! does not exist: a commit is then durable and stays without an answer until its session is ended.

use std::sync::Arc;

use fnhost_test_postgres::TestPostgres;

use super::world::World;
use crate::support::gate::Gate;

/// Whether the function's session sits in COMMIT.
const IN_COMMIT: &str =
    "SELECT count(*) = 1 FROM pg_stat_activity WHERE wait_event = 'SyncRep' AND datname = current_database()";

/// A world on a server of its own, with one record to handle.
async fn world() -> World {
    let world = World::on(Arc::new(TestPostgres::start()), &["held"]).await;
    world.send(0, &[("a", "write")]).await;
    world.run("CREATE TABLE own.probe (id int)").await;
    world
}

/// Waits until everything of the first record is settled, and holds each further COMMIT.
async fn hold_commits(world: &World) {
    world.until("SELECT NOT EXISTS (SELECT FROM fnhost.outbox)").await;
    world.run("ALTER SYSTEM SET synchronous_standby_names = 'absent'").await;
    world.run("SELECT pg_reload_conf()").await;
    // The server takes the setting over in its own time: it has when a commit is held.
    loop {
        let pool = world.database.clone();
        let probe = tokio::spawn(async move {
            let mut session = pool.acquire().await.expect("a session").detach();
            let commit = sqlx::raw_sql("SET synchronous_commit = on; INSERT INTO own.probe VALUES (1)");
            commit.execute(&mut session).await.expect("committed");
        });
        let mut held = false;
        while !held && !probe.is_finished() {
            held = world.value::<bool>(IN_COMMIT).await;
        }
        if held {
            // Ends the wait and not the commit.
            world
                .run("SELECT pg_cancel_backend(pid) FROM pg_stat_activity WHERE wait_event = 'SyncRep'")
                .await;
        }
        probe.await.expect("no panic");
        if held {
            return;
        }
    }
}

async fn release_commits(world: &World) {
    world.run("ALTER SYSTEM RESET synchronous_standby_names").await;
    world.run("SELECT pg_reload_conf()").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_new_owner_sees_what_the_old_one_was_committing() {
    let world = world().await;
    let old = world.host("one", 3).await;
    world.until_position(0, 1).await;
    assert_eq!(world.emitted(0, 1).await, [1]);
    hold_commits(&world).await;
    world.send(0, &[("a", "write"), ("b", "write")]).await;
    world.until(IN_COMMIT).await;
    // Not visible to anybody yet, the old owner included.
    assert_eq!(world.effects(0).await, [0]);

    // Told to stop, so that it does not fight for its place in the group; it waits for the batch in hand.
    let stopped = tokio::spawn(old.stop());
    let new = world.host("one", 3).await;
    world.until("SELECT epoch > 1 FROM fnhost.partition").await;
    // Ended by the take-over; what it was committing stands, and its messages are the new owner's to send.
    let handled = world.effects(0).await;
    assert!(handled == [0, 1] || handled == [0, 1, 2], "{handled:?}");
    release_commits(&world).await;
    world.until_position(0, 3).await;
    assert_eq!(world.effects(0).await, [0, 1, 2], "nothing is doubled");
    assert_eq!(world.emitted(0, 3).await, [1, 2, 3], "nothing is missing");
    assert_eq!(world.dead(0).await, []);

    world.send(0, &[("c", "write")]).await;
    world.until_position(0, 4).await;
    assert_eq!(world.emitted(0, 4).await, [1, 2, 3, 4]);
    stopped.await.expect("no panic");
    new.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_commit_without_an_answer_is_judged_by_the_row() {
    let world = world().await;
    let host = world.host("one", 3).await;
    world.until_position(0, 1).await;
    hold_commits(&world).await;
    world.send(0, &[("a", "write")]).await;
    world.until(IN_COMMIT).await;
    world.run("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE wait_event = 'SyncRep'").await;
    release_commits(&world).await;
    world.until_position(0, 2).await;
    world.send(0, &[("b", "write")]).await;
    world.until_position(0, 3).await;
    assert_eq!(world.effects(0).await, [0, 1, 2], "it was committed, and so it is not done again");
    assert_eq!(world.emitted(0, 3).await, [1, 2, 3]);
    assert_eq!(world.dead(0).await, []);
    host.stop().await;
}

/// The same in the middle of a function's own statement, which no limit of the host is on: the deadline of its call is.
#[tokio::test(flavor = "multi_thread")]
async fn an_answer_to_a_function_that_never_comes_is_not_waited_for() {
    const IN_STATEMENT: &str = "SELECT count(*) = 1 FROM pg_stat_activity WHERE wait_event = 'PgSleep'";
    let mut world = World::on(Arc::new(TestPostgres::start()), &["withheld"]).await;
    let gate = Gate::before(world.postgres.port()).await;
    world.way = Some(gate.port());
    world.statements = std::time::Duration::from_secs(1);
    world.run("GRANT EXECUTE ON FUNCTION pg_catalog.pg_sleep(double precision) TO PUBLIC").await;
    let host = world.host("one", 3).await;
    world.send(0, &[("a", "write")]).await;
    world.until_position(0, 1).await;
    world.send(0, &[("b", "sql SELECT pg_sleep(1)")]).await;
    world.until(IN_STATEMENT).await;
    let session = "SELECT pid FROM pg_stat_activity WHERE wait_event = 'PgSleep'";
    let pid = world.value::<i32>(session).await;
    gate.withhold();
    world.send(0, &[("c", "write")]).await;
    world.until_position(0, 3).await;
    world.until(&format!("SELECT NOT EXISTS (SELECT FROM pg_stat_activity WHERE pid = {pid})")).await;
    assert_eq!(world.effects(0).await, [0, 2]);
    assert_eq!(world.dead(0).await, []);
    host.stop().await;
}

/// The server is gone while its connections stay open, in the middle of a COMMIT: nothing ever comes on them again.
#[tokio::test(flavor = "multi_thread")]
async fn an_answer_that_never_comes_is_not_waited_for() {
    let mut world = world().await;
    let gate = Gate::before(world.postgres.port()).await;
    world.way = Some(gate.port());
    world.statements = std::time::Duration::from_secs(1);
    let host = world.host("one", 3).await;
    world.until_position(0, 1).await;
    hold_commits(&world).await;
    world.send(0, &[("a", "write")]).await;
    world.until(IN_COMMIT).await;
    gate.withhold();
    release_commits(&world).await;
    world.send(0, &[("b", "write")]).await;
    world.until_position(0, 3).await;
    assert_eq!(world.effects(0).await, [0, 1, 2], "it was committed, and so it is not done again");
    assert_eq!(world.emitted(0, 3).await, [1, 2, 3]);
    assert_eq!(world.dead(0).await, []);
    host.stop().await;
}

/// The function's session ends before COMMIT: nothing happened, nobody is to blame, and the batch is run again.
#[tokio::test(flavor = "multi_thread")]
async fn a_session_that_ends_before_commit_is_no_attempt() {
    let world = world().await;
    let mut held = world.database.begin().await.expect("a transaction");
    sqlx::raw_sql("LOCK TABLE own.effect").execute(&mut *held).await.expect("locked");
    let host = world.host("one", 1).await;
    let waiting = "SELECT count(*) = 1 FROM pg_stat_activity \
                   WHERE wait_event_type = 'Lock' AND datname = current_database()";
    world.until(waiting).await;
    let ended = "SELECT pg_terminate_backend(pid, 10000) FROM pg_stat_activity \
                 WHERE wait_event_type = 'Lock' AND datname = current_database()";
    world.run(ended).await;
    held.rollback().await.expect("released");
    world.until_position(0, 1).await;
    assert_eq!((world.effects(0).await, world.dead(0).await), (vec![0], vec![]));
    host.stop().await;
}

/// A function may not choose that its batch is committed without being durable: the messages that follow from it
/// could not be taken back.
#[tokio::test(flavor = "multi_thread")]
async fn a_function_cannot_make_its_commit_less_durable() {
    let world = world().await;
    world.run("GRANT EXECUTE ON FUNCTION pg_catalog.set_config(text, text, boolean) TO PUBLIC").await;
    let host = world.host("one", 3).await;
    world.until_position(0, 1).await;
    hold_commits(&world).await;
    world.send(0, &[("a", "sql SELECT set_config('synchronous_commit', 'off', false)")]).await;
    world.until(IN_COMMIT).await;
    release_commits(&world).await;
    world.until_position(0, 2).await;
    host.stop().await;
}
