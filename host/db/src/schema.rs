//! Schemas, roles and the host's rows for triggers: everything `fnhost migrate` prepares.

pub use super::roles::{Passwords, kept_secret, read_secret, role_password};
use super::roles::{check_secret, prepare_role};
use super::session::{Bounded, VERSION_SETTING};
use super::{Error, OwnerConnection, OwnerPool, batch, ident, literal, walls};
use fnhost_types::record::TopicPartition;
use sqlx::migrate::{Migration, MigrationType, Migrator};
use sqlx::{Row as _, SqlSafeStr as _};
use std::path::Path;
use uuid::Uuid;

/// The host's schema.
pub const HOST_SCHEMA: &str = "fnhost";
/// The table that a host locks while it migrates.
const MIGRATION_LOCK: &str = "fnhost.migration_lock";

/// Bytes of an event's key, value and headers: a larger one is refused when it is inserted. What its topic takes is less, as a rule.
const EVENT_BYTES_MAX: i32 = 16 * 1024 * 1024;

/// The host's own migrations, oldest first.
const HOST_MIGRATIONS: &[(i64, &str, &str)] = &[
    (1, "dispatch", include_str!("../../../migrations/fnhost/0001_dispatch.sql")),
    (2, "deployment", include_str!("../../../migrations/fnhost/0002_deployment.sql")),
    (3, "announce_changes", include_str!("../../../migrations/fnhost/0003_announce_changes.sql")),
    (4, "schedule", include_str!("../../../migrations/fnhost/0004_schedule.sql")),
    (5, "edges", include_str!("../../../migrations/fnhost/0005_edges.sql")),
    (6, "retention", include_str!("../../../migrations/fnhost/0006_retention.sql")),
    (7, "operations", include_str!("../../../migrations/fnhost/0007_operations.sql")),
    (8, "kept_secret", include_str!("../../../migrations/fnhost/0008_kept_secret.sql")),
    (9, "audit", include_str!("../../../migrations/fnhost/0009_audit.sql")),
    (10, "token_keys", include_str!("../../../migrations/fnhost/0010_token_keys.sql")),
    (11, "signatures", include_str!("../../../migrations/fnhost/0011_signatures.sql")),
];

/// A function's place in the database.
#[derive(Clone, Debug)]
pub struct FunctionSchema<'a> {
    /// Schema name.
    pub schema: &'a str,
    /// Login role.
    pub role: &'a str,
    /// Password of the role, derived from the deployment's secret.
    pub password: &'a str,
    /// Folder with the function's migrations.
    pub migrations: Option<&'a Path>,
    /// Its table for events from HTTP, where it has one.
    pub events: Option<&'a str>,
}

/// Brings the host's schema and the functions' schemas up to date and makes the roles. Safe to run from several hosts.
///
/// # Errors
/// A migration failed, or the owner role may not create schemas or roles.
pub async fn migrate(
    pool: &OwnerPool,
    functions: &[FunctionSchema<'_>],
    passwords: &Passwords<'_>,
) -> Result<(), Error> {
    with_host_schema(pool, async {
        check_secret(pool, passwords).await?;
        for function in functions {
            prepare_function(pool, function).await?;
        }
        Ok(())
    })
    .await
}

/// Runs something after the host's own migrations, on one host at a time.
pub(super) async fn with_host_schema<T>(
    pool: &OwnerPool,
    then: impl Future<Output = Result<T, Error>>,
) -> Result<T, Error> {
    let lock = lock(pool).await?;
    run(pool, HOST_SCHEMA, host_migrator()).await?;
    let mut connection = pool.acquire().await?;
    walls::raise(&mut connection).await?;
    drop(connection);
    let done = then.await?;
    lock.commit().await?;
    Ok(done)
}

/// Lets one host at a time migrate, until what it answers is dropped. It locks a table and takes no advisory lock: that is open to
/// every role of the database, and a function that held it would keep all hosts from starting.
async fn lock(pool: &OwnerPool) -> Result<OwnerConnection, Error> {
    let mut connection = pool.acquire().await?;
    let make =
        format!("CREATE SCHEMA IF NOT EXISTS {HOST_SCHEMA}; CREATE TABLE IF NOT EXISTS {MIGRATION_LOCK} ()");
    // Of hosts that make it at the same time all but one fail, and find it when they try again.
    if batch(&mut connection, make.clone()).await.is_err() {
        batch(&mut connection, make).await?;
    }
    drop(connection);
    let mut lock = pool.begin().await?;
    // It sits idle while the migrations run on other connections.
    let sql = format!(
        "SET LOCAL idle_in_transaction_session_timeout = 0; LOCK TABLE {MIGRATION_LOCK} IN SHARE ROW EXCLUSIVE MODE"
    );
    batch(&mut lock, sql).await?;
    Ok(lock)
}

/// The host's own migrations.
pub(super) fn host_migrator() -> Migrator {
    let migration = |(version, name, sql): &(i64, &'static str, &'static str)| {
        Migration::new(*version, (*name).into(), MigrationType::Simple, sql.into_sql_str(), false)
    };
    Migrator::with_migrations(HOST_MIGRATIONS.iter().map(migration).collect())
}

async fn run(pool: &OwnerPool, schema: &str, mut migrator: Migrator) -> Result<(), Error> {
    let failed = |source| Error::Migrate { schema: schema.to_string(), source };
    let mut connection = pool.acquire().await?;
    batch(
        &mut connection,
        format!(
            "CREATE SCHEMA IF NOT EXISTS {0}; SET search_path = {0}; SET statement_timeout = 0",
            ident(schema)
        ),
    )
    .await?;
    // The lock above serves all schemas; sqlx's own would be an advisory one, which functions could hold.
    let result =
        migrator.set_locking(false).run_direct(None, connection.unbounded(), false).await.map_err(failed);
    batch(&mut connection, "RESET search_path; RESET statement_timeout".into()).await?;
    result
}

async fn prepare_function(pool: &OwnerPool, function: &FunctionSchema<'_>) -> Result<(), Error> {
    let (schema, role) = (ident(function.schema), ident(function.role));
    let mut connection = pool.acquire().await?;
    prepare_role(pool, &mut connection, function.role, function.password, function.schema).await?;
    // Default privileges come before the migrations, so that every table they make is covered; a function owns nothing,
    // so it can neither change its tables nor switch a trigger off.
    let owner: String = sqlx::query_scalar("SELECT current_user").fetch_one(&mut *connection).await?;
    let owner = ident(&owner);
    batch(
        &mut connection,
        format!(
            "CREATE SCHEMA IF NOT EXISTS {schema};
             GRANT USAGE ON SCHEMA {schema} TO {role};
             ALTER DEFAULT PRIVILEGES FOR ROLE {owner} IN SCHEMA {schema} GRANT SELECT, INSERT, UPDATE, DELETE ON TABLES TO {role};
             ALTER DEFAULT PRIVILEGES FOR ROLE {owner} IN SCHEMA {schema} GRANT USAGE ON SEQUENCES TO {role};
             GRANT USAGE ON SCHEMA {HOST_SCHEMA} TO {role};
             GRANT EXECUTE ON FUNCTION fnhost.store, fnhost.park, fnhost.park_charged, fnhost.bury, fnhost.pause TO {role};"
        ),
    )
    .await?;
    drop(connection);
    if let Some(folder) = function.migrations {
        let migrator = Migrator::new(folder)
            .await
            .map_err(|source| Error::Migrate { schema: function.schema.to_string(), source })?;
        run(pool, function.schema, migrator).await?;
    }
    let mut connection = pool.acquire().await?;
    batch(&mut connection, format!("REVOKE ALL ON ALL TABLES IN SCHEMA {schema} FROM PUBLIC")).await?;
    batch(
        &mut connection,
        format!("DO $$ BEGIN IF to_regclass({0}) IS NOT NULL THEN REVOKE ALL ON {schema}._sqlx_migrations FROM {role}; END IF; END $$",
            literal(&format!("{schema}._sqlx_migrations"))),
    )
    .await?;
    if let Some(table) = function.events {
        prepare_events(&mut connection, &format!("{schema}.{}", ident(table)), &role).await?;
    }
    Ok(())
}

/// The table for events from HTTP: insert-only for the function, emptied by the relay. The version that writes an event comes from
/// its session; under Spin there is none.
async fn prepare_events(connection: &mut Bounded, table: &str, role: &str) -> Result<(), Error> {
    batch(
        connection,
        format!(
            "CREATE TABLE IF NOT EXISTS {table} (
                 id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
                 topic text NOT NULL,
                 key bytea,
                 value bytea,
                 headers jsonb NOT NULL DEFAULT '{{}}' CHECK (jsonb_typeof(headers) = 'object'),
                 created_at timestamptz NOT NULL DEFAULT clock_timestamp());
             ALTER TABLE {table} SET (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 5000);
             ALTER TABLE {table} ADD COLUMN IF NOT EXISTS version text DEFAULT current_setting('{VERSION_SETTING}', true);
             ALTER TABLE {table} DROP CONSTRAINT IF EXISTS event_size;
             ALTER TABLE {table} ADD CONSTRAINT event_size CHECK (
                 COALESCE(octet_length(key), 0) + COALESCE(octet_length(value), 0) + octet_length(headers::text) <= {EVENT_BYTES_MAX}) NOT VALID;
             REVOKE ALL ON {table} FROM {role};
             GRANT INSERT (topic, key, value, headers) ON {table} TO {role};
             CREATE OR REPLACE TRIGGER wake_relay AFTER INSERT ON {table}
                 FOR EACH STATEMENT EXECUTE FUNCTION fnhost.wake_relay();"
        ),
    )
    .await?;
    Ok(())
}

/// Puts a function's demo data in, once in the life of a database.
///
/// # Errors
/// The SQL failed; nothing of it stays.
pub async fn seed(pool: &OwnerPool, schema: &str, sql: &str) -> Result<(), Error> {
    let mut tx = pool.begin().await?;
    let first =
        sqlx::query("INSERT INTO fnhost.seeded (schema_name) VALUES ($1::text::name) ON CONFLICT DO NOTHING")
            .bind(schema)
            .execute(&mut *tx)
            .await?;
    if first.rows_affected() == 1 {
        batch(&mut tx, format!("SET LOCAL search_path = {}", ident(schema))).await?;
        batch(&mut tx, sql.to_string()).await?;
    }
    Ok(tx.commit().await?)
}

/// Registers a trigger and answers its row number.
///
/// # Errors
/// A trigger of that id has another group: its positions are that group's.
pub async fn register_trigger(
    pool: &OwnerPool,
    deployment: &str,
    id: &str,
    kind: &str,
    group: &str,
    role: &str,
) -> Result<i64, Error> {
    let (trigger, stored): (i64, String) = sqlx::query_as(
        "INSERT INTO fnhost.trigger AS t (deployment, id, kind, group_id, role) VALUES ($1, $2, $3, $4, $5::text::name)
         ON CONFLICT (deployment, id) DO UPDATE SET role = EXCLUDED.role, kind = t.kind
         RETURNING trigger, group_id",
    )
    .bind(deployment)
    .bind(id)
    .bind(kind)
    .bind(group)
    .bind(role)
    .fetch_one(pool.pool())
    .await?;
    if stored != group {
        return Err(Error::Unfit(format!(
            "trigger {id} of deployment {deployment} belongs to consumer group {stored}, not {group}: its positions are that \
             group's; give a trigger with a new group a new id"
        )));
    }
    Ok(trigger)
}

/// The name of the owner role, which the relays' triggers store as.
///
/// # Errors
/// The database did not answer.
pub async fn owner_role(pool: &OwnerPool) -> Result<String, Error> {
    Ok(sqlx::query_scalar("SELECT session_user::text").fetch_one(pool.pool()).await?)
}

/// The stored positions of a trigger.
///
/// # Errors
/// The database did not answer.
pub async fn positions(pool: &OwnerPool, trigger: i64) -> Result<Vec<(TopicPartition, i64)>, Error> {
    let rows: Vec<(String, i32, i64)> =
        sqlx::query_as("SELECT topic, partition, position FROM fnhost.partition WHERE trigger = $1")
            .bind(trigger)
            .fetch_all(pool.pool())
            .await?;
    Ok(rows
        .into_iter()
        .map(|(topic, partition, position)| (TopicPartition { topic, partition }, position))
        .collect())
}

/// The positions of a trigger that nobody chose, where it is not stopped: the group cannot be ahead of them.
///
/// # Errors
/// The database did not answer.
pub async fn unchosen_positions(pool: &OwnerPool, trigger: i64) -> Result<Vec<(TopicPartition, i64)>, Error> {
    let rows: Vec<(String, i32, i64)> = sqlx::query_as(
        "SELECT topic, partition, position FROM fnhost.partition WHERE trigger = $1 AND NOT chosen AND stopped IS NULL",
    )
    .bind(trigger)
    .fetch_all(pool.pool())
    .await?;
    let position = |(topic, partition, position)| (TopicPartition { topic, partition }, position);
    Ok(rows.into_iter().map(position).collect())
}

/// The position a partition goes on from.
#[derive(Clone, Debug)]
pub struct StoredPosition {
    /// Next offset to process.
    pub position: i64,
    /// Raised by changes from outside.
    pub version: i64,
    /// An operator chose it, so it may be below the group's offset.
    pub chosen: bool,
    /// Why nobody may go on from it until `fnhost position` has decided.
    pub stopped: Option<String>,
    /// The id of the topic that it belongs to, where one has been seen.
    pub topic_id: Option<Uuid>,
}

/// Stores the start positions of partitions, all or none of them; those that have one keep it.
///
/// # Errors
/// The database did not answer.
pub async fn store_starts(
    pool: &OwnerPool,
    trigger: i64,
    starts: &[(TopicPartition, i64)],
) -> Result<(), Error> {
    let topics: Vec<&str> = starts.iter().map(|(tp, _)| tp.topic.as_str()).collect();
    let partitions: Vec<i32> = starts.iter().map(|(tp, _)| tp.partition).collect();
    let positions: Vec<i64> = starts.iter().map(|(_, position)| *position).collect();
    sqlx::query(
        "INSERT INTO fnhost.partition (trigger, topic, partition, position)
         SELECT $1, s.topic, s.partition, s.position FROM unnest($2::text[], $3::int[], $4::bigint[]) AS s(topic, partition, position)
         ON CONFLICT DO NOTHING",
    )
    .bind(trigger)
    .bind(topics)
    .bind(partitions)
    .bind(positions)
    .execute(pool.pool())
    .await?;
    Ok(())
}

/// Stores the start position of a partition, unless it has one, and answers the one it has.
///
/// Where it has one this only reads, and so never waits: an `INSERT ... ON CONFLICT DO NOTHING` would wait for a former
/// owner that is held inside COMMIT, before the take-over could end that owner's session.
///
/// # Errors
/// The database did not answer.
pub async fn store_start(
    pool: &OwnerPool,
    trigger: i64,
    tp: &TopicPartition,
    position: i64,
) -> Result<StoredPosition, Error> {
    if let Some(stored) = stored_position(pool, trigger, tp).await? {
        return Ok(stored);
    }
    store_starts(pool, trigger, &[(tp.clone(), position)]).await?;
    Ok(stored_position(pool, trigger, tp).await?.ok_or(sqlx::Error::RowNotFound)?)
}

async fn stored_position(
    pool: &OwnerPool,
    trigger: i64,
    tp: &TopicPartition,
) -> Result<Option<StoredPosition>, Error> {
    let row = sqlx::query(
        "SELECT position, version, chosen, stopped, topic_id FROM fnhost.partition WHERE trigger = $1 AND topic = $2 AND partition = $3",
    )
    .bind(trigger)
    .bind(&tp.topic)
    .bind(tp.partition)
    .fetch_optional(pool.pool())
    .await?;
    let Some(row) = row else { return Ok(None) };
    Ok(Some(StoredPosition {
        position: row.try_get(0)?,
        version: row.try_get(1)?,
        chosen: row.try_get(2)?,
        stopped: row.try_get(3)?,
        topic_id: row.try_get(4)?,
    }))
}
