//! Whether a database can be what fnhost needs, for `fnhost doctor`.

use super::{Error, OwnerPool};
use sqlx::postgres::PgConnectOptions;

/// The oldest Postgres that has everything that is used.
pub const VERSION_MIN: i32 = 14;

/// What was found out about a database.
#[derive(Debug, Clone)]
pub struct Fitness {
    /// Its major version.
    pub version: i32,
    /// Whether the login may create roles.
    pub creates_roles: bool,
    /// Whether the login may create schemas.
    pub creates_schemas: bool,
    /// Connections that the server takes, over everybody.
    pub connections_max: i32,
}

/// Looks at a database; changes nothing.
///
/// # Errors
/// It does not answer, or it does not keep what it commits.
pub async fn look(options: PgConnectOptions) -> Result<Fitness, Error> {
    let pool = OwnerPool::connect(options).await?;
    let found: Result<(i32, bool, bool, i32), sqlx::Error> = sqlx::query_as(
        "SELECT current_setting('server_version_num')::int / 10000,
                (SELECT rolcreaterole OR rolsuper FROM pg_roles WHERE rolname = current_user),
                has_database_privilege(current_database(), 'CREATE'),
                current_setting('max_connections')::int",
    )
    .fetch_one(pool.pool())
    .await;
    pool.close().await;
    let (version, creates_roles, creates_schemas, connections_max) = found?;
    Ok(Fitness { version, creates_roles, creates_schemas, connections_max })
}
