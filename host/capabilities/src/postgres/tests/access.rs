//! What a call may reach and say.

use super::super::error::Error;
use super::super::wit::{Error as WitError, QueryError};
use super::{DbValue as V, ParameterValue as P, Wanted, World, failure, rows};
use fnhost_manifest::HttpSql;
use fnhost_test_postgres::TestPostgres;
use fnhost_types::failure::FailureClass;
use std::sync::Arc;

#[tokio::test]
async fn all_connections_of_a_dispatch_are_one_transaction() {
    let mut world = World::new().await;
    world.prepare("CREATE TABLE t (id int4); GRANT ALL ON t TO PUBLIC").await;
    let (call, transaction) = world.kafka_call();
    let (one, other) = (world.open(&call), world.open(&call));
    let inserted =
        call.run(&one, "INSERT INTO t SELECT generate_series(1, $1)", &[P::Int32(3)], Wanted::Count).await;
    assert_eq!(inserted.expect("an answer").affected, 3);
    assert_eq!(rows(&call, &other, "SELECT count(*) FROM t", &[]).await, [[V::Int64(3)]]);
    assert_eq!(world.count("SELECT count(*) FROM t").await, 0, "not yet committed");

    call.close();
    assert!(!call.in_flight());
    let mut transaction = transaction.take().expect("nothing else holds it");
    let store = sqlx::query("SELECT 1").execute(transaction.connection().await.expect("open")).await;
    assert_eq!(store.expect("the host's own statement").rows_affected(), 1);
    transaction.commit().await.expect("committed");
    assert_eq!(world.count("SELECT count(*) FROM t").await, 3);
    failure(&call, &one, "SELECT 1", &[]).await;
}

#[tokio::test]
async fn a_dispatch_without_sql_takes_no_connection() {
    let world = World::new().await;
    let (call, transaction) = world.kafka_call();
    world.open(&call);
    let transaction = transaction.take().expect("nothing else holds it");
    assert!(!transaction.is_open());
    transaction.commit().await.expect("nothing to commit");
}

#[tokio::test]
async fn a_dispatch_refuses_other_statements_and_other_addresses() {
    let world = World::new().await;
    for sql in ["COMMIT", "/* SELECT */ ROLLBACK", "SET search_path = public", "LISTEN x", "BEGIN", ""] {
        let (call, _transaction) = world.kafka_call();
        let connection = world.open(&call);
        let error = failure(&call, &connection, sql, &[]).await;
        assert!(matches!(error.into_wit(), WitError::Other(_)), "{sql}");
        let failure = call.failure().expect("recorded");
        assert_eq!((failure.class(), failure.code), (FailureClass::Function, None));
    }
    let (call, _transaction) = world.kafka_call();
    let own = world.address();
    for address in [
        own.replace("127.0.0.1", "127.0.0.2"),
        own.replace("?", "_other?"),
        own.replace(&format!("//{}", world.name), "//postgres"),
        "not an address".to_owned(),
    ] {
        assert!(call.open(&address, None).is_err(), "{address}");
    }
    let call = world.http_call();
    let error = call.open(&own.replace("127.0.0.1", "localhost"), None).map(drop).expect_err("not allowed");
    let WitError::ConnectionFailed(text) = error.into_wit() else { panic!("another error") };
    assert!(text.contains("allowed_outbound_hosts"), "{text}");
}

#[tokio::test]
async fn several_statements_in_one_text_are_refused_by_the_server() {
    let world = World::new().await;
    let (call, _transaction) = world.kafka_call();
    let connection = world.open(&call);
    let error = failure(&call, &connection, "SELECT 1; COMMIT", &[]).await;
    let WitError::QueryFailed(QueryError::DbError(report)) = error.into_wit() else {
        panic!("another error")
    };
    assert_eq!(report.code, "42601");
}

#[tokio::test]
async fn a_report_of_the_server_reaches_the_guest_whole() {
    let mut world = World::new().await;
    world
        .prepare("CREATE TABLE t (id int4 CONSTRAINT positive CHECK (id > 0)); GRANT ALL ON t TO PUBLIC")
        .await;
    let call = world.http_call();
    let connection = world.open(&call);
    let error = failure(&call, &connection, "INSERT INTO t VALUES (-1)", &[]).await;
    let WitError::QueryFailed(QueryError::DbError(report)) = error.into_wit() else {
        panic!("another error")
    };
    assert_eq!((report.severity.as_str(), report.code.as_str()), ("ERROR", "23514"));
    assert!(
        report.message.contains("positive") && report.detail.is_some_and(|detail| detail.contains("(-1)"))
    );
    for (name, value) in [("table", "t"), ("constraint", "positive"), ("schema", "public")] {
        assert!(report.extras.contains(&(name.to_owned(), value.to_owned())), "{name}");
    }
}

#[tokio::test]
async fn the_first_failure_is_the_calls_and_has_its_class() {
    let mut world = World::new().await;
    world
        .prepare(
            "CREATE FUNCTION fail(code text) RETURNS void LANGUAGE plpgsql AS \
                   $$ BEGIN RAISE EXCEPTION 'failed' USING ERRCODE = code; END $$",
        )
        .await;
    let cases = [
        ("08006", FailureClass::Infrastructure),
        ("57P03", FailureClass::Infrastructure),
        ("57P01", FailureClass::Infrastructure),
        ("25P03", FailureClass::Infrastructure),
        ("25006", FailureClass::Unclear),
        ("53100", FailureClass::Unclear),
        ("53200", FailureClass::Unclear),
        ("53300", FailureClass::Unclear),
        ("58000", FailureClass::Unclear),
        ("58030", FailureClass::Unclear),
        ("58P01", FailureClass::Unclear),
        ("F0000", FailureClass::Unclear),
        ("XX000", FailureClass::Unclear),
        ("XX001", FailureClass::Unclear),
        ("22021", FailureClass::Function),
        ("54000", FailureClass::Function),
        ("40001", FailureClass::Conflict),
        ("40P01", FailureClass::Conflict),
        ("57014", FailureClass::Function),
        ("23505", FailureClass::Function),
    ];
    for (code, class) in cases {
        let (call, transaction) = world.kafka_call();
        let connection = world.open(&call);
        failure(&call, &connection, "SELECT fail($1)", &[P::Str(code.to_owned())]).await;
        let later = failure(&call, &connection, "SELECT 1", &[]).await;
        assert_eq!(later.failure().code.as_deref(), Some("25P02"), "after {code}");
        let first = call.failure().expect("recorded");
        assert_eq!((first.code.as_deref(), first.class()), (Some(code), class));
        transaction.take().expect("nothing else holds it").rollback().await;
    }
}

#[tokio::test]
async fn an_http_statement_is_its_own_transaction_and_begin_ends_with_the_connection() {
    let mut world = World::new().await;
    world.prepare("CREATE TABLE t (id int4); GRANT ALL ON t TO PUBLIC").await;
    let call = world.http_call_with(HttpSql::Any);
    let connection = world.open(&call);
    rows(&call, &connection, "INSERT INTO t VALUES (1)", &[]).await;
    assert_eq!(world.count("SELECT count(*) FROM t").await, 1);

    for sql in ["BEGIN", "INSERT INTO t VALUES (2)", "COMMIT", "BEGIN", "INSERT INTO t VALUES (3)"] {
        rows(&call, &connection, sql, &[]).await;
    }
    assert_eq!(world.count("SELECT count(*) FROM t").await, 2, "the second transaction is open");
    drop(connection);
    let next = world.open(&call);
    assert_eq!(rows(&call, &next, "SELECT count(*) FROM t", &[]).await, [[V::Int64(2)]]);
}

/// What an HTTP handler could do to its role or its session for longer than its call lasts.
#[tokio::test]
async fn an_http_handler_is_held_to_statements_on_rows() {
    let world = World::new().await;
    for sql in [
        "ALTER ROLE CURRENT_USER SET synchronous_commit = off",
        "ALTER ROLE CURRENT_USER PASSWORD 'mine'",
        "SET statement_timeout = 0",
        "BEGIN",
        "/* SELECT */ LISTEN fnhost_partition",
        "NOTIFY fnhost_partition",
        "DO $$ BEGIN PERFORM 1; END $$",
        "CREATE TEMP TABLE t (id int4)",
        // Last, since with this nothing of the role's is written any more.
        "ALTER ROLE CURRENT_USER SET default_transaction_read_only = on",
    ] {
        let call = world.http_call();
        let connection = world.open(&call);
        let error = failure(&call, &connection, sql, &[]).await;
        assert!(error.to_string().contains("http_sql = \"any\""), "{sql}: {error}");
        let call = world.http_call_with(HttpSql::Any);
        let connection = world.open(&call);
        rows(&call, &connection, sql, &[]).await;
    }
}

#[tokio::test]
async fn the_own_server_is_reached_as_the_own_role_alone() {
    let (world, other) = (World::new().await, World::new().await);
    for user in [other.name.as_str(), "postgres"] {
        let address = world.address().replace(&format!("//{}:", world.name), &format!("//{user}:"));
        let call = world.http_call_with(HttpSql::Any);
        let error = call.open(&address, None).map(drop).expect_err("another user's name");
        assert!(error.to_string().contains("own role alone"), "{error}");
    }
}

#[tokio::test]
async fn an_http_call_reaches_allowed_addresses_as_the_user_they_name() {
    let world = World::new().await;
    let other = World::on(Arc::new(TestPostgres::start()), 4).await;
    let call = world.http_call();
    let connection = call.open(&other.address(), None).map_err(Error::into_wit).expect("allowed");
    let user = rows(&call, &connection, "SELECT current_user::text", &[]).await;
    assert_eq!(user, [[V::Str(other.name.clone())]]);

    let encrypted = other.address().replace("disable", "require");
    let connection = call.open(&encrypted, None).map_err(Error::into_wit).expect("allowed");
    let error = failure(&call, &connection, "SELECT 1", &[]).await;
    assert!(matches!(error.into_wit(), WitError::ConnectionFailed(_)), "this server has no TLS");
}

#[tokio::test]
async fn rows_beyond_the_calls_memory_are_an_error() {
    let world = World::new().await;
    let call = world.http_call();
    let connection = world.open(&call);
    let sql = "SELECT repeat('x', 1000000) FROM generate_series(1, $1)";
    let held = call.run(&connection, sql, &[P::Int32(60)], Wanted::Rows).await.expect("60 MB fit");
    let error = failure(&call, &connection, sql, &[P::Int32(10)]).await;
    assert!(matches!(error.into_wit(), WitError::QueryFailed(QueryError::Text(_))));
    drop(held);
    assert_eq!(rows(&call, &connection, sql, &[P::Int32(10)]).await.len(), 10, "given back");
}

#[tokio::test]
async fn a_cell_beyond_the_calls_memory_is_refused() {
    let world = World::new().await;
    let call = world.http_call();
    let connection = world.open(&call);
    let error = failure(&call, &connection, "SELECT repeat('x', 200000000)", &[]).await;
    assert!(error.to_string().contains("memory_limit_mb"), "{error:?}");
    assert_eq!(rows(&call, &connection, "SELECT 1", &[]).await, [[V::Int32(1)]], "another session serves it");
}

#[tokio::test]
async fn decimals_count_as_the_texts_that_they_are() {
    let world = World::new().await;
    let call = world.http_call();
    let connection = world.open(&call);
    // Ten bytes each on the wire, and 131 KB for the guest.
    let sql = "SELECT array_agg(1e131071::numeric) FROM generate_series(1, 1000)";
    let error = failure(&call, &connection, sql, &[]).await;
    assert!(error.to_string().contains("memory_limit_mb"), "{error}");
}

#[tokio::test]
async fn a_call_holds_a_bounded_number_of_connections() {
    let world = World::new().await;
    let call = world.http_call();
    let held: Vec<_> = (0..64).map(|_| world.open(&call)).collect();
    assert!(call.open(&world.address(), None).is_err());
    drop(held);
    world.open(&call);
}
