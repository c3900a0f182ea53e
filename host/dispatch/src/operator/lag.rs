//! How far behind each partition is, whichever host has it.

use super::{Error, Operator};
use fnhost_db::positions::{self, PartitionRow};
use fnhost_types::record::TopicPartition;
use futures::{StreamExt as _, TryStreamExt as _};
use serde::Serialize;

/// Partitions that Kafka is asked about at a time.
const ASKED_MAX: usize = 8;

/// A partition, and how much of its log is still to be processed.
#[derive(Clone, Debug, Serialize)]
pub struct Lag {
    /// What the database knows of it.
    #[serde(flatten)]
    pub row: PartitionRow,
    /// The offset after the last record; none for a relay and a schedule, and where the topic is gone.
    pub log_end: Option<i64>,
    /// Offsets from the position to the log's end; parked records are not among them.
    pub lag: Option<i64>,
}

impl Operator {
    /// The partitions of all triggers, or of one.
    ///
    /// # Errors
    /// The database or Kafka did not answer.
    pub async fn lag(&self, trigger: Option<&str>) -> Result<Vec<Lag>, Error> {
        let rows = positions::partitions(&self.owner, &self.deployment, trigger).await?;
        if rows.is_empty()
            && let Some(trigger) = trigger
        {
            return Err(Error::Refused(format!("trigger {trigger} has no partition yet")));
        }
        futures::stream::iter(rows).map(|row| self.lag_of(row)).buffered(ASKED_MAX).try_collect().await
    }

    async fn lag_of(&self, row: PartitionRow) -> Result<Lag, Error> {
        let tp = TopicPartition::new(&row.topic, row.partition);
        let known = row.kind == "kafka" && self.cluster.topic_id(&tp.topic).await.is_ok();
        if !known {
            return Ok(Lag { row, log_end: None, lag: None });
        }
        let end = self.cluster.log_bounds(&tp).await.map(|bounds| bounds.end).ok();
        let lag = end.map(|end| (end - row.position).max(0));
        Ok(Lag { row, log_end: end, lag })
    }
}
