//! The clock of schedules.

use super::{Error, OwnerPool};

/// The database's time, in milliseconds since 1970: one clock for all hosts of a deployment.
///
/// # Errors
/// The database did not answer.
pub async fn now_ms(pool: &OwnerPool) -> Result<i64, Error> {
    let sql = "SELECT (extract(epoch FROM clock_timestamp()) * 1000)::int8";
    Ok(sqlx::query_scalar(sql).fetch_one(pool.pool()).await?)
}
