//! Whether a database can be what fnhost needs, for `fnhost doctor`.

use super::schema::{HOST_SCHEMA, host_migrator};
use super::{Error, OwnerPool, ident};
use sqlx::migrate::Migrator;
use sqlx::postgres::PgConnectOptions;
use sqlx::{Connection as _, PgConnection};
use std::collections::BTreeMap;
use std::path::Path;
use std::time::{Duration, SystemTime};

/// For the first connection.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// The oldest Postgres that has everything that is used.
pub const VERSION_MIN: i32 = 14;

/// What was found out about a database.
#[derive(Debug, Clone)]
pub struct Fitness {
    /// Major version of Postgres, for example 15.
    pub version: i32,
    /// Whether the login may create roles.
    pub creates_roles: bool,
    /// Whether the login may create schemas.
    pub creates_schemas: bool,
    /// Connections that the server takes, over everybody, without those that it keeps for superusers.
    pub connections_max: i64,
    /// Connections that others have at the moment.
    pub connections_used: i64,
    /// Whether a page that was half written when the server's machine died is made whole again.
    pub full_page_writes: bool,
    /// Seconds by which the server's clock is ahead of this machine's.
    pub clock_ahead_s: f64,
}

/// What of a schema's migrations has run.
#[derive(Debug, Clone, Default)]
pub struct History {
    /// Name of the migrated schema.
    pub schema: String,
    /// How many have run.
    pub run: usize,
    /// How many are still to be run.
    pub waiting: usize,
    /// Versions whose text was another one when they ran.
    pub changed: Vec<i64>,
    /// Versions that ran and are not known here.
    pub unknown: Vec<i64>,
}

/// Looks at a database, and at what has run in the host's schema and in these, each with the folder of its migrations;
/// changes nothing.
///
/// # Errors
/// It does not answer, it does not keep what it commits, or a folder cannot be read.
pub async fn look(
    options: PgConnectOptions,
    schemas: &[(&str, &Path)],
) -> Result<(Fitness, Vec<History>), Error> {
    // A pool would try again, which nobody waits for here.
    let first = tokio::time::timeout(CONNECT_TIMEOUT, PgConnection::connect_with(&options)).await;
    first.map_err(|_| Error::from(sqlx::Error::Io(std::io::ErrorKind::TimedOut.into())))??.close().await?;
    let pool = OwnerPool::connect(options).await?;
    let found = look_at(&pool, schemas).await;
    pool.close().await;
    found
}

async fn look_at(pool: &OwnerPool, schemas: &[(&str, &Path)]) -> Result<(Fitness, Vec<History>), Error> {
    let (version, creates_roles, creates_schemas, connections_max, connections_used, full_page_writes) =
        sqlx::query_as(
            "SELECT current_setting('server_version_num')::int / 10000,
                (SELECT rolcreaterole OR rolsuper FROM pg_roles WHERE rolname = current_user),
                has_database_privilege(current_database(), 'CREATE'),
                current_setting('max_connections')::int8 - current_setting('superuser_reserved_connections')::int8,
                (SELECT count(*) FROM pg_stat_activity
                  WHERE backend_type = 'client backend' AND pid <> pg_backend_pid()),
                current_setting('full_page_writes')::bool",
        )
        .fetch_one(pool.pool())
        .await?;
    let clock_ahead_s = clock_ahead_s(pool).await?;
    let fitness = Fitness {
        version,
        creates_roles,
        creates_schemas,
        connections_max,
        connections_used,
        full_page_writes,
        clock_ahead_s,
    };
    let mut histories = vec![history(pool, HOST_SCHEMA, &host_migrator()).await?];
    for (schema, folder) in schemas {
        let migrator = Migrator::new(*folder)
            .await
            .map_err(|source| Error::Migrate { schema: (*schema).to_owned(), source })?;
        histories.push(history(pool, schema, &migrator).await?);
    }
    Ok((fitness, histories))
}

/// The server's clock against ours in the middle of the question.
async fn clock_ahead_s(pool: &OwnerPool) -> Result<f64, Error> {
    let seconds = |time: SystemTime| {
        time.duration_since(SystemTime::UNIX_EPOCH).map_or(0.0, |since| since.as_secs_f64())
    };
    let before = seconds(SystemTime::now());
    let theirs: f64 = sqlx::query_scalar("SELECT extract(epoch FROM clock_timestamp())::float8")
        .fetch_one(pool.pool())
        .await?;
    Ok(theirs - before.midpoint(seconds(SystemTime::now())))
}

async fn history(pool: &OwnerPool, schema: &str, migrator: &Migrator) -> Result<History, Error> {
    let table = format!("{}._sqlx_migrations", ident(schema));
    let there: bool =
        sqlx::query_scalar("SELECT to_regclass($1) IS NOT NULL").bind(&table).fetch_one(pool.pool()).await?;
    let mut run: BTreeMap<i64, Vec<u8>> = BTreeMap::new();
    if there {
        let sql = sqlx::AssertSqlSafe(format!("SELECT version, checksum FROM {table}"));
        run = sqlx::query_as(sql).fetch_all(pool.pool()).await?.into_iter().collect();
    }
    let mut history = History { schema: schema.to_owned(), run: run.len(), ..History::default() };
    for migration in migrator.iter() {
        match run.remove(&migration.version) {
            None => history.waiting += 1,
            Some(checksum) if checksum == *migration.checksum => {}
            Some(_) => history.changed.push(migration.version),
        }
    }
    history.unknown = run.into_keys().collect();
    Ok(history)
}
