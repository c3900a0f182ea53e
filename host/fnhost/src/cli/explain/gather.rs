//! Gathers what Kafka and the database know.

use super::fate::{Fate, judge};
use super::{Explained, RecordView, Story, Unsatisfied, Unsent};
use crate::cli::setup::Beside;
use crate::cli::triggers::topics;
use fnhost_db::fates::{self, TriggerAt};
use fnhost_kafka::access::Access;
use fnhost_kafka::cluster::Cluster;
use fnhost_kafka::scan::{Bounds, Scanned, scan};
use fnhost_manifest::Start;
use fnhost_types::clock::rfc3339;
use fnhost_types::outbox;
use fnhost_types::record::{Record, TopicPartition, VERSION_HEADER};
use futures::{StreamExt as _, TryStreamExt as _};
use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

/// Records of a partition that are looked through for a key at most, from its end.
const KEY_RECORDS_MAX: i64 = 100_000;
/// Records before one that are looked through for an earlier copy of it.
const COPY_RECORDS_MAX: i64 = 1_000;
/// Longest reading of one partition.
const SCAN_TIMEOUT: Duration = Duration::from_secs(30);
/// Partitions that are read at a time.
const SCANS_MAX: usize = 4;

/// Where everything is read.
pub(super) struct Reader<'a> {
    pub beside: &'a Beside,
    pub access: &'a Access,
    pub cluster: &'a Arc<Cluster>,
}

impl Reader<'_> {
    fn deployment(&self) -> &str {
        &self.beside.manifest.application.name
    }

    /// The fate of one record, and what of its key is not sent yet.
    pub async fn record(&self, tp: &TopicPartition, offset: i64) -> anyhow::Result<Story> {
        let partitions = self.cluster.partitions(&tp.topic).await?;
        if tp.partition >= partitions {
            let topic = &tp.topic;
            return Err(Unsatisfied(format!("topic {topic} has partitions 0 to {}", partitions - 1)).into());
        }
        let bounds = self.cluster.log_bounds(tp).await?;
        if offset >= bounds.end {
            return Err(Unsatisfied(format!(
                "there is no record at {tp}/{offset} yet: the log ends before offset {}",
                bounds.end
            ))
            .into());
        }
        let found =
            scan(self.access, tp, offset.max(bounds.start)..offset + 1, Bounds::time(SCAN_TIMEOUT), |_| true)
                .await?;
        let record = found.records.into_iter().find(|record| record.offset == offset);
        let copy = match &record {
            Some(record) => self.earlier_copy(tp, record, bounds.start).await?,
            None => None,
        };
        let at = fates::triggers_at(&self.beside.owner, self.deployment(), tp, &[offset]).await?;
        let mut incomplete = Vec::new();
        if !found.complete {
            incomplete.push(tp.to_string());
        }
        let key = record.as_ref().and_then(|record| record.key.clone());
        let explained = self.explained(tp, offset, record.as_ref(), copy, &at);
        let unsent = match key {
            Some(key) => self.of_consumers(self.unsent(&key).await?, tp),
            None => Vec::new(),
        };
        Ok(Story { records: vec![explained], unsent, incomplete })
    }

    /// Those on the streams of the partition's own dispatches.
    fn of_consumers(&self, unsent: Vec<Unsent>, tp: &TopicPartition) -> Vec<Unsent> {
        let end = format!("/{tp}");
        unsent.into_iter().filter(|unsent| unsent.from.ends_with(&end)).collect()
    }

    /// The offset of an earlier record that has this one's number on its stream, or a higher one.
    async fn earlier_copy(
        &self,
        tp: &TopicPartition,
        record: &Record,
        start: i64,
    ) -> anyhow::Result<Option<i64>> {
        let Some((stream, seq)) = record.stream() else { return Ok(None) };
        let stream = stream.to_owned();
        let range = (record.offset - COPY_RECORDS_MAX).max(start)..record.offset;
        let is_copy = move |other: &Record| other.stream().is_some_and(|(s, n)| s == stream && n >= seq);
        let found = scan(self.access, tp, range, Bounds::time(SCAN_TIMEOUT), is_copy).await?;
        Ok(found.records.first().map(|record| record.offset))
    }

    /// The story of a key: its records over all topics of the manifest, in the order of their times.
    pub async fn key(&self, key: &str, since: Start, all_partitions: bool) -> anyhow::Result<Story> {
        let topics: Vec<String> = topics(&self.beside.manifest).into_iter().collect();
        self.cluster.prepare_topics(&BTreeMap::new(), &topics).await?;
        let mut partitions = Vec::new();
        for topic in &topics {
            let of_key = self.cluster.partition_for(topic, Some(key.as_bytes()), 0);
            let count = self.cluster.topic(topic).map_or(1, |topic| topic.partitions);
            let wanted = if all_partitions { 0..count } else { of_key..of_key + 1 };
            partitions.extend(wanted.map(|partition| TopicPartition::new(topic, partition)));
        }
        let scans = partitions.iter().map(|tp| self.scan_key(tp, key, since));
        let scanned: Vec<Scanned> = futures::stream::iter(scans).buffered(SCANS_MAX).try_collect().await?;
        let mut story = Story { records: Vec::new(), unsent: Vec::new(), incomplete: Vec::new() };
        let mut sent: HashSet<(String, i64)> = HashSet::new();
        let mut records = Vec::new();
        for (tp, scanned) in partitions.iter().zip(scanned) {
            if !scanned.complete {
                story.incomplete.push(tp.to_string());
            }
            let numbers = scanned.records.iter().filter_map(Record::stream);
            sent.extend(numbers.map(|(stream, seq)| (stream.to_owned(), seq)));
            let offsets: Vec<i64> = scanned.records.iter().map(|record| record.offset).collect();
            if offsets.is_empty() {
                continue;
            }
            let at = fates::triggers_at(&self.beside.owner, self.deployment(), tp, &offsets).await?;
            for (i, record) in scanned.records.iter().enumerate() {
                let copy = record.stream().and_then(|(stream, seq)| {
                    let mut earlier = scanned.records[..i].iter();
                    earlier.find(|o| o.stream().is_some_and(|(s, n)| s == stream && n >= seq))
                });
                let copy = copy.map(|record| record.offset);
                let explained = self.explained(tp, record.offset, Some(record), copy, &at);
                records.push((record.timestamp_ms, explained));
            }
        }
        records.sort_by_key(|(time, _)| *time);
        story.records = records.into_iter().map(|(_, explained)| explained).collect();
        story.unsent = self.unsent(key.as_bytes()).await?;
        // A row stays until a later store clears it, also when Kafka has its messages.
        story.unsent.retain(|u| u.seq.is_none_or(|seq| !sent.contains(&(u.from.clone(), seq))));
        Ok(story)
    }

    async fn scan_key(&self, tp: &TopicPartition, key: &str, since: Start) -> anyhow::Result<Scanned> {
        let bounds = self.cluster.log_bounds(tp).await?;
        let since = self.cluster.resolve_start(tp, since).await?;
        let first = bounds.start.max(since);
        let from = first.max(bounds.end - KEY_RECORDS_MAX);
        let key = key.as_bytes().to_vec();
        let wanted = move |record: &Record| record.key.as_ref() == Some(&key);
        let mut scanned = scan(self.access, tp, from..bounds.end, Bounds::time(SCAN_TIMEOUT), wanted).await?;
        scanned.complete &= from == first;
        Ok(scanned)
    }

    fn explained(
        &self,
        tp: &TopicPartition,
        offset: i64,
        record: Option<&Record>,
        copy: Option<i64>,
        at: &BTreeMap<String, TriggerAt>,
    ) -> Explained {
        let consumers =
            self.beside.manifest.kafka.iter().filter(|trigger| trigger.topics.contains(&tp.topic));
        // Also triggers that the manifest has no longer.
        let ids: HashSet<&String> = consumers.map(|trigger| &trigger.id).chain(at.keys()).collect();
        let numbered = record.and_then(Record::stream);
        let unwanted = |id: &String| {
            let trigger = self.beside.manifest.kafka.iter().find(|trigger| trigger.id == *id);
            trigger.zip(record).is_some_and(|(trigger, record)| !trigger.filter.wants(record))
        };
        let fate = |id: &String| match judge(offset, numbered, copy, at.get(id)) {
            Fate::Handled if unwanted(id) => Fate::Unwanted,
            other => other,
        };
        let fates = ids.into_iter().map(|id| (id.clone(), fate(id))).collect();
        Explained {
            topic: tp.topic.clone(),
            partition: tp.partition,
            offset,
            record: record.map(view),
            fates,
        }
    }

    /// Messages of a key that are committed and may not be in Kafka.
    async fn unsent(&self, key: &[u8]) -> anyhow::Result<Vec<Unsent>> {
        let mut unsent = Vec::new();
        for component in self.beside.manifest.components.values() {
            let Some(database) = &component.database else { continue };
            let Some(table) = &database.events else { continue };
            for (topic, kind) in fates::unrelayed(&self.beside.owner, &database.schema, table, key).await? {
                let kind = Some(kind).filter(|kind| !kind.is_empty());
                unsent.push(Unsent { from: component.id.clone(), seq: None, topic, kind, age_ms: None });
            }
        }
        for row in fates::outbox_rows(&self.beside.owner, self.deployment()).await? {
            let numbered = outbox::decode(row.first_seq, &row.messages)?;
            for (message, seq) in numbered.messages.iter().zip(row.first_seq..) {
                if message.key == Some(key) {
                    unsent.push(Unsent {
                        from: row.stream.clone(),
                        seq: Some(seq),
                        topic: message.topic.to_owned(),
                        kind: message.header("ce_type").map(text),
                        age_ms: Some(row.age_ms),
                    });
                }
            }
        }
        Ok(unsent)
    }
}

fn view(record: &Record) -> RecordView {
    let (stream, seq) = record.stream().unzip();
    RecordView {
        time: (record.timestamp_ms >= 0).then(|| rfc3339(record.timestamp_ms)),
        key: record.key.as_deref().map(text),
        kind: record.header("ce_type").map(text),
        size: record.size(),
        stream: stream.map(str::to_owned),
        seq,
        version: record.header(VERSION_HEADER).map(text),
        trace_id: record.trace_id().map(str::to_owned),
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}
