//! Whether a database can be what fnhost needs, for `fnhost doctor`.

use super::schema::{HOST_SCHEMA, host_migrator};
use super::{Error, OWNER_CONNECTIONS, OwnerPool, ident};
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

/// Connections per host that wait for notifications, besides one for each relay: of the running set, and of changed partitions.
const LISTENERS: usize = 2;

/// Connections that one host opens to its database at most, by use.
#[derive(Clone, Copy, Debug)]
pub struct Budget {
    /// Relays, one for each component with events.
    pub relays: usize,
    /// Schedules of all components.
    pub schedules: usize,
    /// Connections of the functions' roles.
    pub functions: usize,
}

impl Budget {
    /// Connections of the owner role that run statements.
    pub fn owner(&self) -> usize {
        OWNER_CONNECTIONS + self.relays + self.schedules
    }

    /// Connections of the owner role that wait for notifications.
    pub fn listeners(&self) -> usize {
        LISTENERS + self.relays
    }

    /// All of them.
    pub fn total(&self) -> usize {
        self.owner() + self.listeners() + self.functions
    }

    /// Refuses a server that does not take as many, whoever else is connected.
    ///
    /// # Errors
    /// As said, or the database did not answer.
    pub async fn check(&self, pool: &OwnerPool) -> Result<(), Error> {
        let max = connections_max(pool).await?;
        let total = i64::try_from(self.total()).unwrap_or(i64::MAX);
        if total <= max {
            return Ok(());
        }
        Err(Error::Unfit(format!(
            "this host needs up to {total} connections ({} of its own, {} that listen, {} of functions), but the database takes {max}: \
             set max_connections to {} or more and restart the server",
            self.owner(),
            self.listeners(),
            self.functions,
            total + RESERVED_FOR_OTHERS
        )))
    }
}

/// Connections that the advice on `max_connections` leaves to superusers, backups and people.
pub const RESERVED_FOR_OTHERS: i64 = 10;

pub(super) async fn connections_max(pool: &OwnerPool) -> Result<i64, Error> {
    let sql = "SELECT current_setting('max_connections')::int8 - current_setting('superuser_reserved_connections')::int8
                    - COALESCE(current_setting('reserved_connections', true)::int8, 0)";
    Ok(sqlx::query_scalar(sql).fetch_one(pool.pool()).await?)
}

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
    let connections_max = connections_max(pool).await?;
    let (version, creates_roles, creates_schemas, connections_used, full_page_writes) = sqlx::query_as(
        "SELECT current_setting('server_version_num')::int / 10000,
                (SELECT rolcreaterole OR rolsuper FROM pg_roles WHERE rolname = current_user),
                has_database_privilege(current_database(), 'CREATE'),
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
