//! A partition that is handed to this host.

use super::Error;
use super::consumer::{Context, Inner};
use super::record::owned;
use fnhost_types::record::{Record, TopicPartition};
use rdkafka::consumer::base_consumer::PartitionQueue;
use rdkafka::consumer::{CommitMode, Consumer as _};
use rdkafka::{Offset, TopicPartitionList};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Notify;

/// Longest wait for a seek or for the group's stored offset.
const GROUP_ANSWER_TIMEOUT: Duration = Duration::from_secs(10);

/// A partition that the group gave to this host, with its queue of fetched records.
pub struct Assigned {
    /// Topic and partition.
    pub tp: TopicPartition,
    /// The stored position when it was assigned: fetching begins there.
    pub position: i64,
    pub(super) consumer: Arc<Inner>,
    pub(super) queue: PartitionQueue<Context>,
    pub(super) arrived: Arc<Notify>,
}

impl Assigned {
    /// Takes what has arrived, in order: at most `max_records`, and no more once `max_bytes` are reached. Does not wait.
    ///
    /// # Errors
    /// Fetching this partition failed for good, for example because its position is not in the log any more.
    pub fn take(&self, max_records: usize, max_bytes: usize) -> Result<Vec<Record>, Error> {
        let mut records = Vec::new();
        let mut bytes = 0;
        while records.len() < max_records && bytes < max_bytes {
            match self.queue.poll(Duration::ZERO) {
                None => break,
                Some(Ok(message)) => {
                    let record = owned(&message);
                    bytes += record.size();
                    records.push(record);
                }
                Some(Err(error)) => {
                    if records.is_empty() {
                        return Err(Error::new(format!("cannot fetch {}", self.tp))(error));
                    }
                    tracing::warn!(%error, topic = self.tp.topic, partition = self.tp.partition, "a fetch failed; records that arrived before are handled first");
                    break;
                }
            }
        }
        Ok(records)
    }

    /// Waits until something has arrived since the last call of [`Assigned::take`] that found nothing.
    pub async fn arrived(&self) {
        self.arrived.notified().await;
    }

    /// Fetches from `position` on; what was fetched before is dropped.
    ///
    /// # Errors
    /// The partition is not assigned any more, or the seek got no answer.
    pub async fn refetch(&self, position: i64) -> Result<(), Error> {
        let (consumer, tp) = (self.consumer.clone(), self.tp.clone());
        blocking(move || {
            consumer.seek(&tp.topic, tp.partition, Offset::Offset(position), GROUP_ANSWER_TIMEOUT)
        })
        .await?
        .map_err(Error::new(format!("cannot fetch {} from offset {position}", self.tp)))
    }

    /// Proves that this host is a member of the group in its current generation, by committing `position`.
    ///
    /// # Errors
    /// The broker refused: the host is not a member any more, or a rebalance is under way.
    pub async fn prove_membership(&self, position: i64) -> Result<(), Error> {
        let (consumer, tp) = (self.consumer.clone(), self.tp.clone());
        blocking(move || {
            let mut list = TopicPartitionList::new();
            list.add_partition_offset(&tp.topic, tp.partition, Offset::Offset(position))?;
            consumer.commit(&list, CommitMode::Sync)
        })
        .await?
        .map_err(Error::new(format!("the group did not confirm the membership for {}", self.tp)))
    }

    /// The offset that the group has committed, if any.
    ///
    /// # Errors
    /// The group's coordinator did not answer.
    pub async fn group_position(&self) -> Result<Option<i64>, Error> {
        let (consumer, tp) = (self.consumer.clone(), self.tp.clone());
        let committed = blocking(move || {
            let mut list = TopicPartitionList::new();
            list.add_partition(&tp.topic, tp.partition);
            consumer.committed_offsets(list, GROUP_ANSWER_TIMEOUT)
        })
        .await?
        .map_err(Error::new(format!("cannot read the group's offset of {}", self.tp)))?;
        Ok(committed.elements().first().and_then(|e| match e.offset() {
            Offset::Offset(offset) => Some(offset),
            _ => None,
        }))
    }
}

async fn blocking<R: Send + 'static>(work: impl FnOnce() -> R + Send + 'static) -> Result<R, Error> {
    tokio::task::spawn_blocking(work)
        .await
        .map_err(|e| Error::Client(format!("a request to the group ended early: {e}")))
}
