//! Reads a part of one partition once: in no group, and no offset is moved.

use super::Error;
use super::access::Access;
use super::record::borrowed;
use fnhost_types::record::{Record, TopicPartition};
use fnhost_types::stream_keys::StreamKeys;
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::error::KafkaError;
use rdkafka::message::Message as _;
use rdkafka::{Offset, TopicPartitionList};
use std::time::{Duration, Instant};

/// Longest sleep in one poll.
const POLL_TIMEOUT: Duration = Duration::from_millis(100);

/// What a scan found.
pub struct Scanned {
    /// The records that were wanted, in offset order.
    pub records: Vec<Record>,
    /// Whether everything was read; false where time was up before.
    pub complete: bool,
}

/// Reads offsets `from..to` of a partition and keeps what is `wanted`, for `timeout` at most.
///
/// # Errors
/// The cluster cannot be read.
pub async fn scan(
    access: &Access,
    tp: &TopicPartition,
    range: std::ops::Range<i64>,
    timeout: Duration,
    wanted: impl Fn(&Record) -> bool + Send + 'static,
) -> Result<Scanned, Error> {
    if range.is_empty() {
        return Ok(Scanned { records: Vec::new(), complete: true });
    }
    let mut config = access.reader_config();
    // A compacted log may have nothing at the offsets before its end.
    config.set("enable.partition.eof", "true");
    let consumer: BaseConsumer =
        access.over(&mut config).create().map_err(Error::new(format!("cannot make a consumer of {tp}")))?;
    let mut list = TopicPartitionList::new();
    list.add_partition_offset(&tp.topic, tp.partition, Offset::Offset(range.start))
        .map_err(Error::new(format!("cannot assign the partition {tp}")))?;
    consumer.assign(&list).map_err(Error::new(format!("cannot read {tp}")))?;
    let name = tp.to_string();
    let keys = access.keys().clone();
    tokio::task::spawn_blocking(move || read(&consumer, &keys, range.end, timeout, &wanted))
        .await
        .map_err(|error| Error::Client(format!("reading {name} ended early: {error}")))?
        .map_err(Error::new(format!("cannot read {tp}")))
}

fn read(
    consumer: &BaseConsumer,
    keys: &StreamKeys,
    end: i64,
    timeout: Duration,
    wanted: &dyn Fn(&Record) -> bool,
) -> Result<Scanned, KafkaError> {
    let deadline = Instant::now() + timeout;
    let mut scanned = Scanned { records: Vec::new(), complete: true };
    while Instant::now() < deadline {
        match consumer.poll(POLL_TIMEOUT) {
            Some(Ok(message)) if message.offset() >= end => return Ok(scanned),
            Some(Ok(message)) => {
                let record = borrowed(&message, keys);
                let last = record.offset + 1 >= end;
                if wanted(&record) {
                    scanned.records.push(record);
                }
                if last {
                    return Ok(scanned);
                }
            }
            Some(Err(KafkaError::PartitionEOF(_))) => return Ok(scanned),
            Some(Err(error)) => return Err(error),
            None => {}
        }
    }
    scanned.complete = false;
    Ok(scanned)
}
