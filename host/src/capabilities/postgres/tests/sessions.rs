//! What a call leaves behind: nothing.

use sqlx::Connection;

use super::super::error::FailureClass;
use super::{DbValue as V, World, failure, rows};
use crate::db::session::{CommitError, SessionError, Transaction};

/// Marks a session in every way that statements on rows allow.
const MARK: [&str; 4] = [
    "SELECT set_config('work_mem', '1234kB', false)",
    "SELECT pg_advisory_lock(7)::text",
    "SELECT 1 AS x INTO TEMP TABLE left_over",
    "SELECT nextval('numbers')",
];

const BACKEND: &str = "SELECT pg_backend_pid()";

async fn assert_unmarked(world: &mut World, backend: &V) {
    let call = world.http_call();
    let connection = world.open(&call);
    assert_eq!(&rows(&call, &connection, BACKEND, &[]).await[0][0], backend, "the same session");
    let settings = "SELECT current_setting('work_mem'), current_setting('statement_timeout'), \
                    current_setting('idle_in_transaction_session_timeout'), to_regclass('pg_temp.left_over')::text";
    assert_eq!(
        rows(&call, &connection, settings, &[]).await,
        [[V::Str("4MB".into()), V::Str("20s".into()), V::Str("21s".into()), V::DbNull]]
    );
    let lost = failure(&call, &connection, "SELECT lastval()", &[]).await;
    assert_eq!(lost.failure().code.as_deref(), Some("55000"), "no sequence was used in this session");
    assert_eq!(world.count("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND database = \
                            (SELECT oid FROM pg_database WHERE datname = current_database())").await, 0);
}

#[tokio::test]
async fn a_dispatch_leaves_nothing_in_its_session() {
    for commit in [true, false] {
        let mut world = World::with_connections(1).await;
        world.prepare("CREATE SEQUENCE numbers; GRANT ALL ON SEQUENCE numbers TO PUBLIC").await;
        let (call, transaction) = world.kafka_call();
        let connection = world.open(&call);
        for sql in MARK {
            rows(&call, &connection, sql, &[]).await;
        }
        let backend = rows(&call, &connection, BACKEND, &[]).await.remove(0).remove(0);
        let transaction = transaction.take().expect("nothing else holds it");
        if commit {
            transaction.commit().await.expect("committed");
        } else {
            transaction.rollback().await;
        }
        assert_unmarked(&mut world, &backend).await;
    }
}

#[tokio::test]
async fn an_http_statement_leaves_nothing_in_its_session() {
    let mut world = World::with_connections(1).await;
    world.prepare("CREATE SEQUENCE numbers; GRANT ALL ON SEQUENCE numbers TO PUBLIC").await;
    let call = world.http_call();
    let connection = world.open(&call);
    let backend = rows(&call, &connection, BACKEND, &[]).await.remove(0).remove(0);
    for sql in MARK {
        rows(&call, &connection, sql, &[]).await;
    }
    assert_unmarked(&mut world, &backend).await;
}

#[tokio::test]
async fn a_cancelled_statement_closes_its_connection() {
    let mut world = World::with_connections(1).await;
    let (call, transaction) = world.kafka_call();
    let connection = world.open(&call);
    let backend = rows(&call, &connection, BACKEND, &[]).await;

    world.prepare("SELECT pg_advisory_lock(1)").await;
    let mut waiting = Box::pin(call.run(&connection, "SELECT pg_advisory_lock(1)::text", &[]));
    // Polled until the server reports that it waits for the lock, then dropped, as a call that is ended does.
    loop {
        assert!(futures::poll!(&mut waiting).is_pending());
        if world.count("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted").await == 1 {
            break;
        }
    }
    assert!(call.in_flight());
    assert!(transaction.take().is_none(), "a statement is running on it");
    drop(waiting);

    let error = failure(&call, &connection, "SELECT 1", &[]).await;
    assert_eq!(error.failure().class(), FailureClass::Infrastructure);
    let mut cancelled = transaction.take().expect("the statement is gone");
    assert!(matches!(cancelled.connection().await, Err(SessionError::UnknownState)));
    cancelled.rollback().await;

    // The budget is one connection, so this is where its place must have become free.
    let (call, _transaction) = world.kafka_call();
    let connection = world.open(&call);
    assert_ne!(rows(&call, &connection, BACKEND, &[]).await, backend, "another session");
}

#[tokio::test]
async fn a_full_pool_waits() {
    let world = World::with_connections(1).await;
    let held = world.pool.acquire().await.expect("a session");
    let mut waiting = Box::pin(world.pool.acquire());
    assert!(futures::poll!(&mut waiting).is_pending());
    held.release();
    waiting.await.expect("a session");
}

#[tokio::test]
async fn a_commit_of_a_failed_transaction_is_refused() {
    let world = World::new().await;
    let mut transaction = Transaction::new(world.pool.clone());
    let connection = transaction.connection().await.expect("open");
    sqlx::query("SELECT 1 / 0").execute(connection).await.expect_err("a failed statement");
    let Err(CommitError::Refused(error)) = transaction.commit().await else { panic!("not refused") };
    assert_eq!(error.as_database_error().and_then(|error| error.code()).as_deref(), Some("25P02"));
}

#[tokio::test]
async fn a_commit_that_the_server_did_not_answer_is_unknown() {
    let mut world = World::new().await;
    // A deferred trigger runs inside COMMIT, after the check; there the backend is ended.
    world.prepare("CREATE TABLE t (id int4); GRANT ALL ON t TO PUBLIC; \
         CREATE FUNCTION die() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS \
         $$ BEGIN PERFORM pg_terminate_backend(pg_backend_pid()); RETURN NULL; END $$; \
         CREATE CONSTRAINT TRIGGER die AFTER INSERT ON t DEFERRABLE INITIALLY DEFERRED \
         FOR EACH ROW EXECUTE FUNCTION die()").await;
    let mut transaction = Transaction::new(world.pool.clone());
    let connection = transaction.connection().await.expect("open");
    sqlx::query("INSERT INTO t VALUES (1)").execute(connection).await.expect("inserted");
    assert!(matches!(transaction.commit().await, Err(CommitError::Unknown(_))));
}

#[tokio::test]
async fn connections_that_died_in_the_pool_do_not_fail_a_dispatch() {
    let mut world = World::new().await;
    let sessions = [world.pool.acquire().await, world.pool.acquire().await];
    for session in sessions {
        let mut session = session.expect("a session");
        session.connection().ping().await.expect("alive");
        session.release();
    }
    world.prepare("SELECT pg_terminate_backend(pid, 10000) FROM pg_stat_activity \
                   WHERE datname = current_database() AND pid <> pg_backend_pid()").await;
    let (call, _transaction) = world.kafka_call();
    let connection = world.open(&call);
    assert_eq!(rows(&call, &connection, "SELECT 1", &[]).await, [[V::Int32(1)]]);
}

#[tokio::test]
async fn a_stale_prepared_statement_is_a_conflict_that_does_not_come_back() {
    let mut world = World::with_connections(1).await;
    world.prepare("CREATE TABLE t (id int4); GRANT ALL ON t TO PUBLIC").await;
    let read = "SELECT * FROM t";
    let call = world.http_call();
    let connection = world.open(&call);
    rows(&call, &connection, read, &[]).await;
    world.prepare("ALTER TABLE t ADD COLUMN more text").await;
    let (call, transaction) = world.kafka_call();
    let connection = world.open(&call);
    assert_eq!(failure(&call, &connection, read, &[]).await.failure().class(), FailureClass::Conflict);
    transaction.take().expect("nothing else holds it").rollback().await;

    let (call, _transaction) = world.kafka_call();
    let connection = world.open(&call);
    rows(&call, &connection, read, &[]).await;
}
