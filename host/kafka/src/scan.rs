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

/// Where a scan ends although it has not read everything.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    /// Longest time that it takes.
    pub timeout: Duration,
    /// Bytes of wanted records after which it ends.
    pub max_bytes: usize,
}

impl Bounds {
    /// Bounded by time alone.
    pub fn time(timeout: Duration) -> Self {
        Self { timeout, max_bytes: usize::MAX }
    }
}

/// What a scan found.
pub struct Scanned {
    /// The records that were wanted, in offset order.
    pub records: Vec<Record>,
    /// Whether everything was read; false where a bound was reached before.
    pub complete: bool,
    /// The offset after the last record that was looked at.
    pub next: i64,
}

/// Reads offsets `from..to` of a partition within `bounds` and keeps what is `wanted`.
///
/// # Errors
/// The cluster cannot be read.
pub async fn scan(
    access: &Access,
    tp: &TopicPartition,
    range: std::ops::Range<i64>,
    bounds: Bounds,
    wanted: impl Fn(&Record) -> bool + Send + 'static,
) -> Result<Scanned, Error> {
    if range.is_empty() {
        return Ok(Scanned { records: Vec::new(), complete: true, next: range.start });
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
    tokio::task::spawn_blocking(move || read(&consumer, &keys, range, bounds, &wanted))
        .await
        .map_err(|error| Error::Client(format!("reading {name} ended early: {error}")))?
        .map_err(Error::new(format!("cannot read {tp}")))
}

fn read(
    consumer: &BaseConsumer,
    keys: &StreamKeys,
    range: std::ops::Range<i64>,
    bounds: Bounds,
    wanted: &dyn Fn(&Record) -> bool,
) -> Result<Scanned, KafkaError> {
    let deadline = Instant::now() + bounds.timeout;
    let mut scanned = Scanned { records: Vec::new(), complete: true, next: range.start };
    let mut bytes = 0;
    while Instant::now() < deadline && bytes < bounds.max_bytes {
        match consumer.poll(POLL_TIMEOUT) {
            Some(Ok(message)) if message.offset() >= range.end => return Ok(scanned),
            Some(Ok(message)) => {
                let record = borrowed(&message, keys);
                scanned.next = record.offset + 1;
                if wanted(&record) {
                    bytes += record.size();
                    scanned.records.push(record);
                }
                if scanned.next >= range.end {
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
