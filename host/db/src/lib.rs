//! All SQL of the host.
//!
//! [`session`] holds the functions' connections, each as its function's login role; everything else here runs as the
//! owner role, except [`store`], which runs in a function's transaction. [`schema`] migrates and makes roles, [`ownership`]
//! and [`store`] are the dispatch protocol, [`relay`] moves events from HTTP, [`deployment`] and [`hosts`] are what runs and
//! where, [`refused`] and [`stream_keys`] are the messages that Kafka refuses and the keys that messages are numbered under, [`changes`] hears of what operators change, [`views`] is what the admin address shows, [`fates`] what became of a
//! record.

mod call;
pub mod changes;
pub mod deployment;
pub mod fates;
pub mod fitness;
pub mod hosts;
pub mod ownership;
pub mod parked;
pub mod refused;
pub mod relay;
pub mod schedule;
pub mod schema;
pub mod scratch;
pub mod session;
pub mod store;
pub mod stream_keys;
pub mod tally;
pub mod views;

use sqlx::postgres::{PgConnectOptions, PgPoolOptions, Postgres};
use sqlx::{ConnectOptions as _, Connection as _, Executor as _, pool::PoolConnection};
use std::time::Duration;

/// Connections of the owner role per host: take-overs, relays, the admin address.
pub const OWNER_CONNECTIONS_MAX: u32 = 8;
/// Longest wait for one of them.
const OWNER_ACQUIRE_TIMEOUT: Duration = Duration::from_secs(30);
/// Longest run of one of the host's own statements.
const OWNER_STATEMENT_TIMEOUT_MS: u32 = 60_000;

/// What can go wrong in the host's own SQL.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The database said so, or did not answer.
    #[error("database")]
    Sql(#[from] sqlx::Error),
    /// A migration failed or does not fit what was applied before.
    #[error("cannot migrate schema {schema}")]
    Migrate {
        /// Schema.
        schema: String,
        /// Error of the migration that failed.
        source: sqlx::migrate::MigrateError,
    },
    /// Another host owns the partition now.
    #[error("{partition} has another owner")]
    Fenced {
        /// Topic and partition, `topic/number`.
        partition: String,
    },
    /// Sessions that could not be ended hold the partition's row.
    #[error("the row of {partition} is still locked by sessions that could not be terminated; see pg_locks")]
    Locked {
        /// Topic and partition, `topic/number`.
        partition: String,
    },
    /// A stored value is of a newer format.
    #[error(transparent)]
    Unreadable(#[from] fnhost_types::outbox::Unreadable),
    /// The database is not set up as the guarantees need it.
    #[error("{0}")]
    Unfit(String),
}

/// Connections as the owner role.
#[derive(Clone)]
pub struct OwnerPool(sqlx::PgPool);

impl OwnerPool {
    /// Connects and checks that committed means durable.
    ///
    /// # Errors
    /// The database does not answer, or `fsync` or `synchronous_commit` is off.
    pub async fn connect(options: PgConnectOptions) -> Result<Self, Error> {
        let options = options
            .application_name("fnhost")
            .options([
                ("statement_timeout", OWNER_STATEMENT_TIMEOUT_MS.to_string()),
                ("search_path", "fnhost".to_string()),
            ])
            .statement_cache_capacity(200)
            // Some of the statements hold passwords.
            .disable_statement_logging();
        let pool = PgPoolOptions::new()
            .max_connections(OWNER_CONNECTIONS_MAX)
            .acquire_timeout(OWNER_ACQUIRE_TIMEOUT)
            .test_before_acquire(false)
            .connect_with(options.clone())
            .await;
        let pool = match pool {
            // The pool tried again all the time and kept none of the reasons.
            Err(sqlx::Error::PoolTimedOut) => {
                sqlx::PgConnection::connect_with(&options).await?.close().await?;
                return Err(sqlx::Error::PoolTimedOut.into());
            }
            other => other?,
        };
        for setting in ["fsync", "synchronous_commit"] {
            let value: String =
                sqlx::query_scalar("SELECT current_setting($1)").bind(setting).fetch_one(&pool).await?;
            if value == "off" {
                return Err(Error::Unfit(format!(
                    "the database runs with {setting} = off: after a crash it can lose what it committed, and fnhost could keep \
                     no promise; set {setting} = on"
                )));
            }
        }
        Ok(Self(pool))
    }

    /// The pool.
    pub fn pool(&self) -> &sqlx::PgPool {
        &self.0
    }

    async fn begin(&self) -> Result<sqlx::Transaction<'static, Postgres>, sqlx::Error> {
        self.0.begin().await
    }

    async fn acquire(&self) -> Result<PoolConnection<Postgres>, sqlx::Error> {
        self.0.acquire().await
    }

    /// How its connections are used at the moment; who waits is not known.
    pub fn usage(&self) -> session::Usage {
        let idle = self.0.num_idle();
        let used = (self.0.size() as usize).saturating_sub(idle);
        session::Usage { limit: OWNER_CONNECTIONS_MAX as usize, used, idle, waiting: 0 }
    }

    /// Closes all connections.
    pub async fn close(&self) {
        self.0.close().await;
    }
}

/// Closes a connection whose state is not known, instead of giving it back.
async fn discard(connection: PoolConnection<Postgres>) {
    drop(connection.detach());
}

/// Runs several statements without parameters.
async fn batch(connection: &mut sqlx::PgConnection, sql: String) -> Result<(), sqlx::Error> {
    connection.execute(sqlx::raw_sql(sqlx::AssertSqlSafe(sql))).await.map(drop)
}

/// Quotes an SQL identifier.
fn ident(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// Quotes an SQL string.
fn literal(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}
