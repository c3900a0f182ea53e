//! Copies of dead records for the dead-letter topic.

use super::Worker;
use super::work::Work;
use crate::plan::{FRAMING_MAX_BYTES, Verdict};
use fnhost_kafka::murmur2;
use fnhost_types::outbox::{HeaderRef, Outgoing};
use fnhost_types::record::{HOST_HEADER_PREFIX, Record, TopicPartition};

/// A copy of a dead record for the dead-letter topic.
pub(super) struct DeadLetter<'r> {
    topic: String,
    partition: i32,
    record: &'r Record,
    added: Vec<(&'static str, String)>,
}

impl<'r> DeadLetter<'r> {
    /// A letter for `topic` about `record`, which `trigger` consumed from `from`.
    pub fn new(
        topic: &str,
        partitions: i32,
        trigger: &str,
        from: &TopicPartition,
        record: &'r Record,
        attempts: u32,
        reason: &str,
    ) -> Self {
        let partition =
            record.key.as_deref().map_or(from.partition % partitions, |k| murmur2::partition(k, partitions));
        let added = vec![
            ("fnhost-dead-trigger", trigger.to_string()),
            ("fnhost-dead-topic", from.topic.clone()),
            ("fnhost-dead-partition", from.partition.to_string()),
            ("fnhost-dead-offset", record.offset.to_string()),
            ("fnhost-dead-attempts", attempts.to_string()),
            ("fnhost-dead-reason", reason.chars().take(1_000).collect()),
        ];
        Self { topic: topic.to_string(), partition, record, added }
    }

    /// Bytes that Kafka would count, at most.
    pub fn size(&self) -> usize {
        self.record.size()
            + self.added.iter().map(|(n, v)| n.len() + v.len() + 10).sum::<usize>()
            + FRAMING_MAX_BYTES
    }

    /// The letter as a message.
    pub fn outgoing(&self) -> Outgoing<'_> {
        let kept = self.record.headers.iter().filter(|h| !h.name.starts_with(HOST_HEADER_PREFIX));
        let added = self.added.iter().map(|(name, value)| HeaderRef { name, value: value.as_bytes() });
        Outgoing {
            topic: &self.topic,
            partition: self.partition,
            key: self.record.key.as_deref(),
            value: self.record.value.as_deref(),
            headers: kept.map(HeaderRef::from).chain(added).collect(),
        }
    }
}

impl Worker<'_> {
    /// The letters of the records that are dead by these verdicts.
    pub(super) fn dead_letters<'w>(
        &self,
        work: &'w Work,
        verdicts: &[(usize, Verdict)],
    ) -> Vec<DeadLetter<'w>> {
        if !verdicts.iter().any(|(_, verdict)| matches!(verdict, Verdict::Dead { .. })) {
            return Vec::new();
        }
        let topic = self.subscription.dead_letters(&self.assigned.tp.topic);
        let limits = self.subscription.cluster.topic(&topic);
        verdicts
            .iter()
            .filter_map(|(i, verdict)| match verdict {
                Verdict::Dead { attempts, reason } if !work.items[*i].silent => {
                    let record = &work.items[*i].record;
                    let limits = limits?;
                    let letter = DeadLetter::new(
                        &topic,
                        limits.partitions,
                        &self.subscription.id,
                        &self.assigned.tp,
                        record,
                        *attempts,
                        reason,
                    );
                    // The table keeps it in any case; a letter that Kafka would refuse must not stop the stream.
                    (letter.size() < limits.max_message_bytes).then_some(letter)
                }
                _ => None,
            })
            .collect()
    }
}
