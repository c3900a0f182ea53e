//! What is kept of a deployment and what goes, on a real Postgres.

use std::sync::Arc;
use std::time::Duration;

use fnhost_db::OwnerPool;
use fnhost_db::hosts;
use fnhost_db::retention::{self, Kept, Removed, VERSIONS_KEPT};
use fnhost_db::schema::{self, Passwords};
use fnhost_test_postgres::TestPostgres;
use sqlx::postgres::PgConnection;

const NONE: Duration = Duration::ZERO;

/// A server, and a database with the host's schema and one trigger's partition.
async fn world() -> (Arc<TestPostgres>, OwnerPool, PgConnection) {
    let postgres = TestPostgres::shared();
    let (place, mut database) = postgres.new_database().await;
    let owner = OwnerPool::connect(postgres.login("postgres", &place)).await.expect("a login");
    let passwords = Passwords { secret: "unused", rotate: false };
    schema::migrate(&owner, &[], &passwords).await.expect("migrations");
    schema::register_trigger(&owner, "test", "trigger", "kafka", "group", "postgres")
        .await
        .expect("a trigger");
    run(
        &mut database,
        "INSERT INTO fnhost.partition (trigger, topic, partition, position) SELECT trigger, 't', 0, 0 FROM fnhost.trigger",
    )
    .await;
    (postgres, owner, database)
}

async fn run(database: &mut PgConnection, sql: &str) {
    let ran = sqlx::raw_sql(sqlx::AssertSqlSafe(sql.to_owned())).execute(database).await;
    ran.unwrap_or_else(|error| panic!("{sql}: {error}"));
}

async fn count(database: &mut PgConnection, sql: &str) -> i64 {
    sqlx::query_scalar(sqlx::AssertSqlSafe(sql.to_owned())).fetch_one(database).await.expect("a number")
}

#[tokio::test]
async fn dead_letters_go_by_age_and_by_number() {
    let (_postgres, owner, mut database) = world().await;
    let dead = "INSERT INTO fnhost.dead (trigger, topic, partition, \"offset\", headers, timestamp_ms, attempts, reason, died_at)
                SELECT trigger, 't', 0, n, '', 0, 1, 'bad', clock_timestamp() - n * interval '1 day'
                  FROM fnhost.trigger, generate_series(30, 1, -1) AS n";
    run(&mut database, dead).await;
    let kept = Kept { dead: Duration::from_secs(20 * 86_400 + 60), ..Kept::default() };
    assert_eq!(retention::remove(&owner, "other", &kept).await.expect("removed"), Removed::default());
    assert_eq!(retention::remove(&owner, "test", &kept).await.expect("removed").dead, 10);
    let kept = Kept { dead_max: 3, ..kept };
    assert_eq!(retention::remove(&owner, "test", &kept).await.expect("removed").dead, 17);
    let newest = "SELECT count(*) FROM fnhost.dead WHERE \"offset\" <= 3";
    assert_eq!(count(&mut database, newest).await, 3);
}

#[tokio::test]
async fn only_watermarks_that_do_not_rise_go() {
    let (_postgres, owner, mut database) = world().await;
    let marks = "INSERT INTO fnhost.watermark (trigger, topic, partition, stream, seq)
                 SELECT trigger, 't', 0, stream, 7 FROM fnhost.trigger, unnest(ARRAY['ended', 'alive']) AS stream";
    run(&mut database, marks).await;
    let kept = Kept { watermark: Duration::from_secs(3600), ..Kept::default() };
    assert_eq!(
        retention::remove(&owner, "test", &kept).await.expect("removed").watermarks,
        0,
        "seen just now"
    );
    run(&mut database, "UPDATE fnhost.watermark SET noted_at = noted_at - interval '2 hours'").await;
    run(&mut database, "UPDATE fnhost.watermark SET seq = 8 WHERE stream = 'alive'").await;
    assert_eq!(retention::remove(&owner, "test", &kept).await.expect("removed").watermarks, 1);
    let alive = "SELECT count(*) FROM fnhost.watermark WHERE stream = 'alive' AND noted_seq = 8";
    assert_eq!(count(&mut database, alive).await, 1);
}

#[tokio::test]
async fn starts_with_new_files_leave_no_more_versions_than_are_kept() {
    let (_postgres, owner, mut database) = world().await;
    let variables = std::collections::BTreeMap::new();
    for start in 0..VERSIONS_KEPT + 5 {
        let (digest, wasm) = (format!("{start:064x}"), start.to_string());
        let file = fnhost_db::deployment::NewVersion {
            component: "own",
            digest: &digest,
            wasm: wasm.as_bytes(),
            signature: None,
            variables: &variables,
            origin: "a file",
            is_file: true,
        };
        hosts::enlist(&owner, "test", "one", &[file], NONE, "machine").await.expect("enlisted");
    }
    assert_eq!(count(&mut database, "SELECT count(*) FROM fnhost.version").await, VERSIONS_KEPT);
    run(&mut database, "UPDATE fnhost.code SET stored_at = stored_at - interval '2 hours'").await;
    retention::remove(&owner, "test", &Kept::default()).await.expect("removed");
    assert_eq!(count(&mut database, "SELECT count(*) FROM fnhost.code").await, VERSIONS_KEPT);
}

#[tokio::test]
async fn one_host_at_a_time_does_the_upkeep() {
    let (_postgres, owner, _database) = world().await;
    let hour = Duration::from_secs(3600);
    let due = async |interval| retention::is_due(&owner, "test", interval).await.expect("the database");
    assert!(due(hour).await);
    assert!(!due(hour).await, "another host did it");
    assert!(retention::is_due(&owner, "other", NONE).await.expect("the database"));
    assert!(retention::is_due(&owner, "other", NONE).await.expect("the database"), "it is due again");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_trigger_keeps_its_dead_letters_as_long_as_it_says() {
    let (_postgres, owner, mut database) = world().await;
    run(
        &mut database,
        "INSERT INTO fnhost.dead (trigger, topic, partition, \"offset\", headers, timestamp_ms, attempts, reason, died_at)
         SELECT trigger, 't', 0, n, '', 0, 1, 'x', clock_timestamp() - n * interval '1 day' + interval '1 hour'
           FROM fnhost.trigger, generate_series(1, 10) n",
    )
    .await;
    let trigger: i64 =
        sqlx::query_scalar("SELECT trigger FROM fnhost.trigger").fetch_one(&mut database).await.expect("one");
    retention::keep_dead(&owner, trigger, 3).await.expect("the database");
    let removed = retention::remove(&owner, "test", &Kept::default()).await.expect("the database");
    assert_eq!(removed.dead, 7);
    assert_eq!(count(&mut database, "SELECT max(\"offset\") FROM fnhost.dead").await, 3);
    owner.close().await;
}
