//! All SQL of the host.
//!
//! [`session`] holds the functions' connections, each as its function's login role; everything else here runs as the
//! owner role, except [`store`], which runs in a function's transaction. [`schema`] migrates and makes roles, [`ownership`]
//! and [`store`] are the dispatch protocol, [`relay`] moves events from HTTP, [`deployment`] and [`hosts`] are what runs and
//! where, [`unsent`] is what a former owner left in the outbox, [`stopped`] what waits for somebody to decide, [`refused`] and [`stream_keys`] are the messages that Kafka refuses and the keys that messages are numbered under, [`token_keys`] those of the application's tokens, [`retention`] is what
//! is kept, [`dead`], [`parked`] and [`positions`] are what people see and change of records, [`changes`] hears of what operators change, [`audit`] keeps who did, [`views`] is what the admin address shows, [`fates`] what became of a
//! record.

pub mod audit;
mod call;
pub mod changes;
pub mod dead;
pub mod deployment;
pub mod fates;
pub mod fitness;
pub mod hosts;
mod owner;
pub mod ownership;
pub mod parked;
pub mod positions;
pub mod refused;
pub mod relay;
pub mod retention;
mod roles;
pub mod schedule;
pub mod schema;
pub mod scratch;
pub mod session;
pub mod stopped;
pub mod store;
pub mod stream_keys;
pub mod tally;
pub mod token_keys;
pub mod unsent;
pub mod views;
mod walls;

pub use owner::{OWNER_CONNECTIONS, OWNER_STATEMENT_TIMEOUT, OwnerConnection, OwnerPool};

use session::Bounded;
use sqlx::Executor as _;

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

/// Runs several statements without parameters.
async fn batch(connection: &mut Bounded, sql: String) -> Result<(), sqlx::Error> {
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
