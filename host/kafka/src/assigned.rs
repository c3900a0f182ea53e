//! A partition that is handed to this host.

use super::Error;
use super::consumer::Inner;
use super::queue::{Polled, Queue};
use fnhost_types::record::{Record, TopicPartition};
use fnhost_types::stream_keys::StreamKeys;
use rdkafka::consumer::{CommitMode, Consumer as _};
use rdkafka::error::KafkaError;
use rdkafka::{Offset, TopicPartitionList};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;
use tokio::sync::Notify;
use uuid::Uuid;

/// Longest wait for the group's stored offset.
const GROUP_ANSWER_TIMEOUT: Duration = Duration::from_secs(10);

/// A partition that the group gave to this host, with its queue of fetched records.
pub struct Assigned {
    /// Topic and partition.
    pub tp: TopicPartition,
    /// The stored position when it was assigned: fetching begins there.
    pub position: i64,
    consumer: Arc<Inner>,
    keys: StreamKeys,
    fetched: Arc<Mutex<Fetched>>,
    arrived: Arc<Notify>,
}

struct Fetched {
    queue: Queue,
    /// A fetch that failed behind records which were taken before it.
    failed: Option<KafkaError>,
}

/// Counts what was fetched of a partition and not taken, for as long as that is assigned.
#[derive(Clone, Debug)]
pub struct Fetches(Weak<Mutex<Fetched>>);

impl Fetches {
    /// Records that were fetched and not taken; none while some are being taken, and once the partition has gone. Does not wait.
    pub fn waiting(&self) -> usize {
        let fetched = self.0.upgrade();
        fetched.and_then(|fetched| Some(fetched.try_lock().ok()?.queue.len())).unwrap_or(0)
    }
}

/// What was taken at once.
#[derive(Debug, Default)]
pub struct Taken {
    /// Records in order.
    pub records: Vec<Record>,
    /// Everything below this offset has been taken by now: records of it that are missing are not for consumers, such as
    /// markers of transactions and records of aborted ones.
    pub reached: Option<i64>,
    /// The id of the topic that they were fetched by; none where nothing was, or the brokers are of before Kafka 3.1.
    pub topic_id: Option<Uuid>,
}

impl Assigned {
    /// A partition to be fetched from `position`; its queue is split off, so that it can be assigned.
    pub(super) fn new(
        consumer: &Arc<Inner>,
        tp: TopicPartition,
        position: i64,
        keys: StreamKeys,
    ) -> Result<Self, Error> {
        let arrived = Arc::new(Notify::new());
        let queue = Queue::split(consumer, &tp, arrived.clone())
            .ok_or_else(|| Error::Client(format!("{tp} has no queue")))?;
        let fetched = Arc::new(Mutex::new(Fetched { queue, failed: None }));
        Ok(Self { tp, position, consumer: consumer.clone(), keys, fetched, arrived })
    }

    /// Takes what has arrived, in order: at most `max_records`, and no more once `max_bytes` are reached. Does not wait.
    ///
    /// # Errors
    /// Fetching this partition failed for good, for example because its position is not in the log any more. What arrived before is
    /// given first.
    pub fn take(&self, max_records: usize, max_bytes: usize) -> Result<Taken, Error> {
        let mut fetched = lock(&self.fetched);
        let mut taken = Taken::default();
        let mut bytes = 0;
        while fetched.failed.is_none() && taken.records.len() < max_records && bytes < max_bytes {
            match fetched.queue.poll(&self.keys) {
                None => break,
                Some(Polled::Record(record)) => {
                    bytes += record.size();
                    taken.records.push(record);
                }
                Some(Polled::End(offset)) => taken.reached = Some(offset),
                Some(Polled::Failed(error)) => fetched.failed = Some(error),
            }
        }
        if taken.records.is_empty()
            && let Some(error) = fetched.failed.take()
        {
            return Err(Error::new(format!("cannot fetch {}", self.tp))(error));
        }
        if !taken.records.is_empty() || taken.reached.is_some() {
            taken.topic_id = self.consumer.context().fetched_by(&self.tp.topic);
        }
        Ok(taken)
    }

    /// Counts what waits to be taken.
    pub fn fetches(&self) -> Fetches {
        Fetches(Arc::downgrade(&self.fetched))
    }

    /// Waits until something has arrived since the last call of [`Assigned::take`] that found nothing.
    pub async fn arrived(&self) {
        self.arrived.notified().await;
    }

    /// Fetches from `position` on; what was fetched before is dropped.
    ///
    /// The partition is assigned anew. A seek would not do: librdkafka refuses it for a partition that it has stopped fetching, as it
    /// does where the position was not in the log, and that is when a position is moved.
    ///
    /// # Errors
    /// The partition is not assigned any more, or the group is in motion.
    pub async fn refetch(&self, position: i64) -> Result<(), Error> {
        let (consumer, tp, fetched) = (self.consumer.clone(), self.tp.clone(), self.fetched.clone());
        blocking(move || {
            consumer.context().reassign(&consumer, &tp, position, || {
                let mut fetched = lock(&fetched);
                fetched.queue.keep_apart();
                fetched.failed = None;
            })
        })
        .await?
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

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

async fn blocking<R: Send + 'static>(work: impl FnOnce() -> R + Send + 'static) -> Result<R, Error> {
    tokio::task::spawn_blocking(work)
        .await
        .map_err(|e| Error::Client(format!("a request to the group ended early: {e}")))
}
