//! How far behind each partition is, whichever host has it.

use super::{Error, Operator};
use fnhost_db::positions::{self, PartitionRow};
use fnhost_kafka::scan::{Bounds, scan};
use fnhost_types::clock::now_ms;
use fnhost_types::record::TopicPartition;
use futures::{StreamExt as _, TryStreamExt as _};
use serde::Serialize;
use std::ops::Range;
use std::time::Duration;

/// Partitions that Kafka is asked about at a time.
const ASKED_MAX: usize = 8;
/// Longest reading of the oldest record that waits in a partition.
const AGE_TIMEOUT: Duration = Duration::from_secs(5);

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
    /// Age of the oldest record that is not processed, parked ones included, by its timestamp, in seconds; none where there is none,
    /// or its timestamp could not be read in time.
    pub oldest_age_s: Option<f64>,
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
            return Ok(Lag { row, log_end: None, lag: None, oldest_age_s: None });
        }
        let bounds = self.cluster.log_bounds(&tp).await.ok();
        let log_end = bounds.map(|bounds| bounds.end);
        let lag = log_end.map(|end| (end - row.position).max(0));
        let waits = match bounds {
            Some(bounds) => self.first_at_ms(&tp, row.position.max(bounds.start)..bounds.end).await,
            None => None,
        };
        let oldest_age_s = [waits, row.oldest_parked_ms].into_iter().flatten().min().and_then(age_s);
        Ok(Lag { row, log_end, lag, oldest_age_s })
    }

    /// The timestamp of the first record of this range.
    async fn first_at_ms(&self, tp: &TopicPartition, range: Range<i64>) -> Option<i64> {
        // Ends behind the first record.
        let bounds = Bounds { timeout: AGE_TIMEOUT, max_bytes: 1 };
        let scanned = scan(&self.access, tp, range, bounds, |_| true).await.ok()?;
        scanned.records.first().map(|record| record.timestamp_ms)
    }
}

/// The age of what happened then; none where it has no time.
fn age_s(at_ms: i64) -> Option<f64> {
    (at_ms >= 0).then(|| (now_ms() - at_ms).max(0) as f64 / 1e3)
}
