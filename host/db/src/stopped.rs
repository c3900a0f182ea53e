//! Partitions that stop until somebody decides, and the incarnation that begins where the database has lost commits.

use super::{Error, OwnerPool};
use fnhost_types::record::TopicPartition;

/// Stops a partition whose row has this position and version: nobody serves it until `fnhost position` has decided. A present owner is
/// fenced. Does nothing where the row is another one by now, which an operator may have decided meanwhile.
///
/// # Errors
/// The database did not answer.
pub async fn stop(
    pool: &OwnerPool,
    trigger: i64,
    tp: &TopicPartition,
    (position, version): (i64, i64),
    reason: &str,
) -> Result<(), Error> {
    sqlx::query(
        "UPDATE fnhost.partition SET stopped = $5, stopped_at = clock_timestamp(), version = version + 1
          WHERE trigger = $1 AND topic = $2 AND partition = $3 AND position = $4 AND version = $6 AND stopped IS NULL",
    )
    .bind(trigger)
    .bind(&tp.topic)
    .bind(tp.partition)
    .bind(position)
    .bind(reason)
    .bind(version)
    .execute(pool.pool())
    .await?;
    Ok(())
}

/// Begins a new incarnation: the database has lost commits that Kafka remembers.
///
/// # Errors
/// The database did not answer.
pub async fn begin_incarnation(pool: &OwnerPool) -> Result<(), Error> {
    sqlx::query("SELECT fnhost.present_incarnation(true)").execute(pool.pool()).await?;
    Ok(())
}
