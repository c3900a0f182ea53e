//! What a call leaves behind: nothing.

use std::sync::Arc;

use sqlx::Connection;
use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};

use super::super::wit::Error as WitError;
use super::{DEADLINE, DbValue as V, Wanted, World, failure, rows};
use fnhost_db::session::{CommitError, SessionError, Transaction};
use fnhost_test_postgres::TestPostgres;
use fnhost_types::failure::FailureClass;

/// Marks a session in every way that statements on rows allow.
const MARK: [&str; 4] = [
    "SELECT set_config('work_mem', '1234kB', false)",
    "SELECT pg_advisory_lock(7)::text",
    "SELECT 1 AS x INTO TEMP TABLE left_over",
    "SELECT nextval('numbers')",
];

const BACKEND: &str = "SELECT pg_backend_pid()";

/// How many sessions of this database wait for an advisory lock.
const WAITING: &str = "SELECT count(*) FROM pg_locks JOIN pg_stat_activity USING (pid) \
                       WHERE locktype = 'advisory' AND NOT granted AND datname = current_database()";

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
    assert_eq!(
        world
            .count(
                "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND database = \
                            (SELECT oid FROM pg_database WHERE datname = current_database())"
            )
            .await,
        0
    );
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
async fn what_a_trigger_does_leaves_nothing_either() {
    let mut world = World::with_connections(1).await;
    world
        .prepare(
            "CREATE TABLE t (id int4); GRANT ALL ON t TO PUBLIC;
             CREATE FUNCTION mark() RETURNS trigger LANGUAGE plpgsql AS $$
             BEGIN
                 CREATE TEMP TABLE left_over (id int4);
                 SET work_mem = '1GB';
                 RETURN NULL;
             END $$;
             CREATE TRIGGER mark AFTER INSERT ON t FOR EACH ROW EXECUTE FUNCTION mark()",
        )
        .await;
    let call = world.http_call();
    let connection = world.open(&call);
    let backend = rows(&call, &connection, BACKEND, &[]).await.remove(0).remove(0);
    drop(connection);
    // A session that is asked of anew: of one that was open before the trigger was made, nobody could know.
    world.pool.close_idle();
    let connection = world.open(&call);
    rows(&call, &connection, "INSERT INTO t VALUES (1)", &[]).await;
    drop(connection);
    let connection = world.open(&call);
    let now = rows(&call, &connection, BACKEND, &[]).await.remove(0).remove(0);
    assert_ne!(now, backend);
    drop(connection);
    assert_unmarked(&mut world, &now).await;
}

#[tokio::test]
async fn a_session_is_not_reset_after_what_leaves_it_alone() {
    let mut world = World::with_connections(1).await;
    world
        .prepare("CREATE TABLE t (id int4 GENERATED ALWAYS AS IDENTITY, a int4); GRANT ALL ON t TO PUBLIC; GRANT ALL ON SEQUENCE t_id_seq TO PUBLIC")
        .await;
    let (call, transaction) = world.kafka_call();
    let connection = world.open(&call);
    rows(&call, &connection, "INSERT INTO t (a) VALUES (1)", &[]).await;
    transaction.take().expect("nothing else holds it").commit().await.expect("committed");
    let call = world.http_call();
    let connection = world.open(&call);
    rows(&call, &connection, "SELECT lower('A')", &[]).await;
    drop(connection);
    let mut session = world.pool.acquire().await.expect("a session");
    assert!(session.is_reused());
    // A reset would have taken this from it.
    let last: i64 =
        sqlx::query_scalar("SELECT lastval()").fetch_one(session.connection()).await.expect("known");
    assert_eq!(last, 1);
}

#[tokio::test]
async fn a_cancelled_statement_closes_its_connection() {
    let mut world = World::with_connections(1).await;
    let (call, transaction) = world.kafka_call();
    let connection = world.open(&call);
    let backend = rows(&call, &connection, BACKEND, &[]).await;

    world.prepare("SELECT pg_advisory_lock(1)").await;
    let mut waiting = Box::pin(call.run(&connection, "SELECT pg_advisory_lock(1)::text", &[], Wanted::Rows));
    // Polled until the server reports that it waits for the lock, then dropped, as a call that is ended does.
    loop {
        assert!(futures::poll!(&mut waiting).is_pending());
        if world.count(WAITING).await == 1 {
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

    let noticed = async { while world.count(WAITING).await > 0 {} };
    tokio::time::timeout(DEADLINE / 2, noticed).await.expect("the server has ended the statement");
}

#[tokio::test]
async fn a_cancelled_http_statement_closes_its_connection() {
    let mut world = World::with_connections(1).await;
    let call = world.http_call();
    let connection = world.open(&call);
    let backend = rows(&call, &connection, BACKEND, &[]).await;
    world.prepare("SELECT pg_advisory_lock(1)").await;
    let mut waiting = Box::pin(call.run(&connection, "SELECT pg_advisory_lock(1)::text", &[], Wanted::Rows));
    loop {
        assert!(futures::poll!(&mut waiting).is_pending());
        if world.count(WAITING).await == 1 {
            break;
        }
    }
    let refused = call.run_blocking(&connection, "SELECT 1", &[], Wanted::Rows).await;
    assert!(refused.is_err(), "would wait for a statement that waits for it");
    drop(waiting);
    assert!(!call.in_flight());
    assert_ne!(rows(&call, &connection, BACKEND, &[]).await, backend, "another session");
}

#[tokio::test]
async fn a_connection_that_is_cut_in_a_statement_is_a_connection_failure() {
    let mut world = World::with_connections(1).await;
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let (server, line) = (world.postgres.port(), listener.local_addr().expect("an address").port());
    let address = world.address().replace(&format!(":{server}/"), &format!(":{line}/"));
    let line = tokio::spawn(async move {
        let (mut client, _) = listener.accept().await.expect("a client");
        let mut server = TcpStream::connect(("127.0.0.1", server)).await.expect("the server");
        copy_bidirectional(&mut client, &mut server).await
    });
    let call = world.http_call();
    let connection = call.open(&address, None).expect("a permitted host");
    world.prepare("SELECT pg_advisory_lock(1)").await;
    let waiting = failure(&call, &connection, "SELECT pg_advisory_lock(1)::text", &[]);
    let mut waiting = Box::pin(waiting);
    loop {
        assert!(futures::poll!(&mut waiting).is_pending());
        if world.count(WAITING).await == 1 {
            break;
        }
    }
    line.abort();
    let error = waiting.await;
    assert_eq!(error.failure().class(), FailureClass::Infrastructure);
    assert!(matches!(error.into_wit(), WitError::ConnectionFailed(_)), "not the statement's fault");
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
    // A server of its own, because it is told to wait for a standby that does not exist: a commit is then durable
    // here and stays without an answer, until the backend is ended.
    let mut world = World::on(Arc::new(TestPostgres::start()), 4).await;
    world.prepare("CREATE TABLE t (id int4); GRANT ALL ON t TO PUBLIC").await;
    world.prepare("SET synchronous_commit = local").await;
    world.prepare("ALTER SYSTEM SET synchronous_standby_names = 'absent'").await;
    world.prepare("SELECT pg_reload_conf()").await;
    let mut transaction = Transaction::new(world.pool.clone());
    let connection = transaction.connection().await.expect("open");
    sqlx::query("INSERT INTO t VALUES (1)").execute(connection).await.expect("inserted");

    let commit = tokio::spawn(transaction.commit());
    let end = "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE wait_event = 'SyncRep'";
    let ended = async { while world.count(end).await == 0 {} };
    tokio::time::timeout(DEADLINE, ended).await.expect("the commit waits for the standby");
    assert!(matches!(commit.await.expect("no panic"), Err(CommitError::Unknown(_))));
    assert_eq!(world.count("SELECT count(*) FROM t").await, 1, "and it was committed");
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
    world
        .prepare(
            "SELECT pg_terminate_backend(pid, 10000) FROM pg_stat_activity \
                   WHERE datname = current_database() AND pid <> pg_backend_pid()",
        )
        .await;
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
