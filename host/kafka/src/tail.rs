//! The shared tail of some topics: reads what arrives while somebody watches, in no group, and moves no offset.

use super::Error;
use super::access::Access;
use super::cluster::Cluster;
use super::record::borrowed;
use fnhost_types::causes::chain;
use fnhost_types::record::{Record, TopicPartition};
use fnhost_types::stream_keys::StreamKeys;
use futures::future::BoxFuture;
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::message::Message as _;
use rdkafka::{Offset, TopicPartitionList};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio_util::sync::CancellationToken;

/// Records of each partition that are read again at the start, so that clients of an earlier process, or of an earlier tail, can go on.
const RECORDS_BEFORE: i64 = 1_000;
/// Longest sleep in one poll; how soon a stop is noticed.
const POLL_TIMEOUT: Duration = Duration::from_millis(100);
/// How long nobody has watched when the tail ends: longer than a client takes to come back.
const UNWATCHED_MAX: Duration = Duration::from_secs(60);
/// How often partitions that were added, and topics that were made anew, are looked for, and whether somebody watches.
const PARTITIONS_INTERVAL: Duration = Duration::from_secs(10);
/// Pause before a tail that broke is begun anew.
const RETRY_PAUSE: Duration = Duration::from_secs(1);

/// Where the tail's records go.
pub trait Tailed: Send + Sync + 'static {
    /// The topics that are read.
    fn topics(&self) -> &[String];

    /// The tail reads each of these partitions from that offset on. What an earlier one left no longer counts.
    fn begin(&self, from: &[(TopicPartition, i64)]);

    /// Takes a record.
    fn push(&self, tp: &TopicPartition, record: Record);

    /// The tail has ended; it may begin again.
    fn end(&self);

    /// Waits until somebody wants to watch; at once where that was since the last call.
    fn wanted(&self) -> BoxFuture<'_, ()>;

    /// How long nobody has watched.
    fn unwatched(&self) -> Duration;
}

/// Reads the topics of `tailed` into it while somebody watches, until `stop`; begins anew where that breaks.
pub fn run(
    tailed: Arc<dyn Tailed>,
    cluster: Arc<Cluster>,
    access: Access,
    stop: CancellationToken,
) -> BoxFuture<'static, ()> {
    // Boxed, so that it is compiled here and not in the crate that awaits it.
    Box::pin(async move {
        loop {
            tokio::select! {
                () = tailed.wanted() => {}
                () = stop.cancelled() => return,
            }
            let ended = follow(&tailed, &cluster, &access, &stop).await;
            tailed.end();
            if let Err(error) = ended {
                tracing::warn!(error = chain(&error), "the tail for live updates restarts");
                tokio::select! {
                    () = tokio::time::sleep(RETRY_PAUSE) => {}
                    () = stop.cancelled() => {}
                }
            }
        }
    })
}

async fn follow(
    tailed: &Arc<dyn Tailed>,
    cluster: &Arc<Cluster>,
    access: &Access,
    stop: &CancellationToken,
) -> Result<(), Error> {
    let (mut from, mut anew) = (Vec::new(), cluster.made_anew());
    for topic in tailed.topics() {
        for partition in 0..cluster.partitions(topic).await? {
            let tp = TopicPartition::new(topic, partition);
            let bounds = cluster.log_bounds(&tp).await?;
            from.push((tp, (bounds.end - RECORDS_BEFORE).max(bounds.start)));
        }
    }
    let mut config = access.reader_config();
    config.set("fetch.queue.backoff.ms", "5");
    let consumer: BaseConsumer =
        access.over(&mut config).create().map_err(Error::new("cannot make a consumer for live updates"))?;
    let mut list = TopicPartitionList::new();
    for (tp, offset) in &from {
        list.add_partition_offset(&tp.topic, tp.partition, Offset::Offset(*offset))
            .map_err(Error::new(format!("cannot assign the partition {tp}")))?;
    }
    consumer.assign(&list).map_err(Error::new("cannot read the topics for live updates"))?;
    tailed.begin(&from);
    let counts: Vec<(String, i32)> = tailed
        .topics()
        .iter()
        .map(|topic| (topic.clone(), from.iter().filter(|(tp, _)| tp.topic == *topic).count() as i32))
        .collect();
    let (tailed, cluster, stop, keys) =
        (tailed.clone(), cluster.clone(), stop.clone(), access.keys().clone());
    tokio::task::spawn_blocking(move || {
        let mut outdated = || {
            let grew =
                |(topic, count): &(String, i32)| cluster.topic(topic).is_some_and(|t| t.partitions > *count);
            counts.iter().any(grew)
                || anew.topic().is_some_and(|topic| counts.iter().any(|(tailed, _)| *tailed == topic))
        };
        read(&consumer, &keys, &*tailed, &stop, &mut outdated)
    })
    .await
    .map_err(|error| Error::Client(format!("the tail for live updates ended: {error}")))?
}

/// Reads until `stop`, until nobody watches, or until it is `outdated`: a topic has more partitions, or is another one.
fn read(
    consumer: &BaseConsumer,
    keys: &StreamKeys,
    tailed: &dyn Tailed,
    stop: &CancellationToken,
    outdated: &mut dyn FnMut() -> bool,
) -> Result<(), Error> {
    let mut looked = Instant::now();
    while !stop.is_cancelled() {
        match consumer.poll(POLL_TIMEOUT) {
            Some(Ok(message)) => {
                let tp = TopicPartition::new(message.topic(), message.partition());
                tailed.push(&tp, borrowed(&message, keys));
            }
            Some(Err(error)) => return Err(Error::new("cannot read the topics for live updates")(error)),
            None => {}
        }
        if looked.elapsed() > PARTITIONS_INTERVAL {
            looked = Instant::now();
            if outdated() || tailed.unwatched() > UNWATCHED_MAX {
                return Ok(());
            }
        }
    }
    Ok(())
}
