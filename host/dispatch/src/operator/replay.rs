//! Running a range of a log again on purpose: its records are put before their trigger once more, a part at a time.

use super::{Error, Operator, Place};
use fnhost_db::parked::{self, Replayed};
use fnhost_kafka::scan::{Bounds, scan};
use fnhost_types::record::{Record, TopicPartition};
use serde::{Deserialize, Serialize};
use std::collections::HashMap;
use std::time::Duration;

/// Offsets that are read and put before the trigger at a time.
const PART_OFFSETS: i64 = 1_000;
/// Bytes after which a part ends.
const PART_BYTES: usize = 8 << 20;
/// Longest reading of a part.
const READ_TIMEOUT: Duration = Duration::from_secs(30);
/// Between two looks whether there is room for a part.
const ROOM_INTERVAL: Duration = Duration::from_millis(500);

/// What is to be run again.
#[derive(Clone, Debug, Deserialize)]
pub struct Replay {
    /// Trigger id.
    pub trigger: String,
    /// The first record.
    pub from: Place,
    /// The record that is not run any more; none: up to what is settled.
    pub to: Option<Place>,
    /// Whether what the function emits is sent once more.
    #[serde(default)]
    pub emit: bool,
}

/// Offsets of a partition that are run again.
#[derive(Clone, Debug, Serialize)]
pub struct Part {
    /// Topic.
    pub topic: String,
    /// Partition.
    pub partition: i32,
    /// The next offset to put before the trigger.
    pub next: i64,
    /// The offset that ends it, which is not run.
    pub end: i64,
    /// Records put before the trigger so far.
    pub records: u64,
    /// The highest number of each stream so far: another copy of a message is not run.
    #[serde(skip)]
    seen: HashMap<String, i64>,
}

impl Part {
    /// True where all of it waits before the trigger or is done.
    pub fn is_done(&self) -> bool {
        self.next >= self.end
    }

    fn tp(&self) -> TopicPartition {
        TopicPartition::new(&self.topic, self.partition)
    }
}

impl Operator {
    /// What a replay would run: a part for each partition of the trigger, or for the one that is asked for. Only what is settled is run
    /// again, since the rest comes anyway.
    ///
    /// # Errors
    /// It makes no sense, or the database or Kafka did not answer.
    pub async fn plan_replay(
        &self,
        replay: &Replay,
        only: Option<&TopicPartition>,
    ) -> Result<Vec<Part>, Error> {
        self.trigger(&replay.trigger)?;
        let by_offset =
            matches!(replay.from, Place::Offset(_)) || matches!(replay.to, Some(Place::Offset(_)));
        if by_offset && only.is_none() {
            return Err(Error::Refused("an offset means something in one partition only: name it".into()));
        }
        let mut parts = Vec::new();
        for (tp, position) in self.positions(&replay.trigger, only).await? {
            let start = self.cluster.log_bounds(&tp).await?.start;
            let next = self.offset(&tp, replay.from).await?.max(start);
            let end = match replay.to {
                Some(to) => self.offset(&tp, to).await?.min(position),
                None => position,
            };
            let (end, seen) = (end.max(next), HashMap::new());
            parts.push(Part { topic: tp.topic, partition: tp.partition, next, end, records: 0, seen });
        }
        Ok(parts)
    }

    /// Puts the next records of a part before the trigger; waits until there is room for them.
    ///
    /// # Errors
    /// The database or Kafka did not answer, or the log cannot be read.
    pub async fn replay_next(&self, replay: &Replay, part: &mut Part) -> Result<(), Error> {
        let filter = self.trigger(&replay.trigger)?.filter.clone();
        let tp = part.tp();
        let bounds = Bounds { timeout: READ_TIMEOUT, max_bytes: PART_BYTES };
        let range = part.next..part.end.min(part.next + PART_OFFSETS);
        let scanned =
            scan(&self.access, &tp, range.clone(), bounds, move |record| filter.wants(record)).await?;
        if !scanned.complete && scanned.next == range.start {
            return Err(Error::Refused(format!("{tp} cannot be read at offset {}", range.start)));
        }
        // Taken over with the records: where they are not put back, none of them was seen.
        let mut seen = part.seen.clone();
        let records: Vec<Record> =
            scanned.records.into_iter().filter(|record| is_new(&mut seen, record)).collect();
        let (trigger, silent) = (&replay.trigger, !replay.emit);
        loop {
            match parked::replay(&self.owner, &self.deployment, trigger, &tp, &records, silent).await? {
                Replayed::Parked(count) => {
                    part.seen = seen;
                    part.records += count;
                    part.next = if scanned.complete { range.end } else { scanned.next };
                    return Ok(());
                }
                Replayed::NoRoom => tokio::time::sleep(ROOM_INTERVAL).await,
            }
        }
    }
}

/// Whether no copy of the record is among those that were seen.
fn is_new(seen: &mut HashMap<String, i64>, record: &Record) -> bool {
    let Some((stream, seq)) = record.stream() else { return true };
    match seen.get_mut(stream) {
        Some(seen) if seq <= *seen => false,
        Some(seen) => {
            *seen = seq;
            true
        }
        None => {
            seen.insert(stream.to_owned(), seq);
            true
        }
    }
}
