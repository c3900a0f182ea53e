//! Changes of partitions from outside (redrive, discard, a moved position): how a host hears of them.

use super::{Error, OwnerPool};
use fnhost_types::record::TopicPartition;
use sqlx::Row as _;
use uuid::Uuid;

/// Channel on which is said that a partition's version was raised.
pub const CHANGE_CHANNEL: &str = "fnhost_partition";

/// A partition's version.
pub struct Version {
    /// Trigger id.
    pub trigger: String,
    /// Topic and partition.
    pub tp: TopicPartition,
    /// Raised by changes from outside.
    pub version: i64,
}

/// The versions of the partitions that `owner` owns.
///
/// # Errors
/// The database did not answer.
pub async fn versions(pool: &OwnerPool, owner: Uuid) -> Result<Vec<Version>, Error> {
    let rows = sqlx::query(
        "SELECT t.id, p.topic, p.partition, p.version FROM fnhost.partition p JOIN fnhost.trigger t USING (trigger)
          WHERE p.owner = $1",
    )
    .bind(owner)
    .fetch_all(pool.pool())
    .await?;
    rows.iter()
        .map(|row| {
            Ok(Version {
                trigger: row.try_get(0)?,
                tp: TopicPartition::new(row.try_get::<String, _>(1)?, row.try_get(2)?),
                version: row.try_get(3)?,
            })
        })
        .collect()
}
