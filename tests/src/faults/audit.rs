//! What the topics hold, read as a stranger reads them: which numbered messages there are, in which order, and how often.

use super::odd::Odd;
use crate::kafka::{ANSWER_DEADLINE, Cluster, consumer, partitions};
use anyhow::Context as _;
use fnhost_types::record::{MAC_HEADER, SEQ_HEADER, STREAM_HEADER};
use fnhost_types::stream_keys::{Claim, StreamKey, StreamKeys};
use rdkafka::consumer::Consumer as _;
use rdkafka::message::{BorrowedMessage, Headers as _, Message as _};
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};
use std::collections::hash_map::Entry;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::hash::{DefaultHasher, Hash as _, Hasher as _};

/// Violations of one kind that are kept.
const SHOWN_MAX: usize = 5;

/// A numbered message where it stands first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Seen {
    /// Number of the topic in [`Audit::topics`], with its partition.
    pub place: (u32, i32),
    /// Its offset there.
    pub offset: i64,
    /// Of key and value.
    hash: u64,
    /// Copies of it.
    pub copies: u32,
}

/// What was read so far. Kept from a topic that is deleted to the one that is made anew.
#[derive(Default)]
pub struct Audit {
    /// Topics by their numbers, a topic that was made anew apart from the former one.
    pub topics: Vec<String>,
    /// Streams by their numbers, and the messages on each.
    pub streams: BTreeMap<String, HashMap<i64, Seen>>,
    /// Records of the suite's own that were found.
    pub odd: usize,
    /// What is wrong, by kind, with how often it is and the first ones.
    pub faults: BTreeMap<&'static str, (usize, Vec<String>)>,
    keys: StreamKeys,
}

impl Audit {
    /// An audit of messages that were signed with these keys.
    #[must_use]
    pub fn new(keys: Vec<(i32, Vec<u8>)>) -> Self {
        let audit = Self::default();
        audit
            .keys
            .replace(keys.into_iter().map(|(id, secret)| StreamKey { id, secret, settled: true }).collect());
        audit
    }

    /// Messages, each counted once.
    #[must_use]
    pub fn distinct(&self) -> usize {
        self.streams.values().map(HashMap::len).sum()
    }

    /// Further copies of messages, which consumers refuse.
    #[must_use]
    pub fn copies(&self) -> u64 {
        let seen = self.streams.values().flat_map(HashMap::values);
        seen.map(|seen| u64::from(seen.copies) - 1).sum()
    }

    /// Notes that something is wrong.
    pub fn fault(&mut self, kind: &'static str, text: impl FnOnce() -> String) {
        let (count, shown) = self.faults.entry(kind).or_default();
        *count += 1;
        if shown.len() < SHOWN_MAX {
            shown.push(text());
        }
    }

    /// Reads a topic from its start to its end. Blocks.
    ///
    /// # Errors
    /// The brokers did not answer.
    pub fn read(&mut self, cluster: &Cluster, topic: &str, odd: &[Odd]) -> anyhow::Result<()> {
        let odd: HashSet<(i32, i64)> =
            odd.iter().filter(|odd| odd.topic == topic).map(|odd| (odd.partition, odd.offset)).collect();
        let consumer = consumer(cluster)?;
        let number = u32::try_from(self.topics.len())?;
        self.topics.push(topic.to_owned());
        // Asked before anything is fetched: a later question waits behind the fetch that is under way.
        let mut bounds = Vec::new();
        for partition in partitions(&consumer, topic)? {
            bounds.push((partition, consumer.fetch_watermarks(topic, partition, ANSWER_DEADLINE)?));
        }
        for (partition, (start, end)) in bounds {
            if start == end {
                continue;
            }
            let mut assignment = TopicPartitionList::new();
            assignment.add_partition_offset(topic, partition, Offset::Offset(start))?;
            consumer.assign(&assignment)?;
            let mut highest = HashMap::new();
            loop {
                let message = consumer.poll(ANSWER_DEADLINE).context("no record in time")??;
                let last = message.offset() + 1 >= end;
                // The headers of an odd one may have names that are no text.
                if odd.contains(&(partition, message.offset())) {
                    self.odd += 1;
                } else {
                    self.message(number, &message, &mut highest);
                }
                if last {
                    break;
                }
            }
        }
        Ok(())
    }

    fn message(&mut self, topic: u32, message: &BorrowedMessage<'_>, highest: &mut HashMap<String, i64>) {
        let at = || format!("{}/{}@{}", message.topic(), message.partition(), message.offset());
        let header = |name: &str| {
            let mut headers = message.headers()?.iter();
            headers.find(|header| header.key == name)?.value.and_then(|value| std::str::from_utf8(value).ok())
        };
        let number = header(STREAM_HEADER).zip(header(SEQ_HEADER).and_then(|seq| seq.parse::<i64>().ok()));
        let Some((stream, seq)) = number.filter(|(stream, seq)| {
            let claim = Claim { stream, seq: *seq, topic: message.topic(), partition: message.partition() };
            header(MAC_HEADER).is_some_and(|mac| self.keys.verify(mac.as_bytes(), claim))
        }) else {
            return self.fault("a record has no number of the deployment, and is not the suite's own", at);
        };
        let mut hasher = DefaultHasher::new();
        (message.key(), message.payload()).hash(&mut hasher);
        let (hash, place) = (hasher.finish(), (topic, message.partition()));
        if !self.streams.contains_key(stream) {
            self.streams.insert(stream.to_owned(), HashMap::new());
        }
        let Some(seen) = self.streams.get_mut(stream) else { return };
        match seen.entry(seq) {
            Entry::Vacant(entry) => {
                entry.insert(Seen { place, offset: message.offset(), hash, copies: 1 });
                let highest = highest.entry(stream.to_owned()).or_default();
                if seq < *highest {
                    let highest = *highest;
                    self.fault("a message stands behind a higher number of its stream", || {
                        format!("{}: {stream} #{seq} behind #{highest}", at())
                    });
                } else {
                    *highest = seq;
                }
            }
            Entry::Occupied(mut entry) => {
                let first = entry.get_mut();
                first.copies += 1;
                if (first.hash, first.place) != (hash, place) {
                    self.fault("a number stands for two messages", || format!("{}: {stream} #{seq}", at()));
                }
            }
        }
    }

    /// Holds each stream against how many messages were numbered on it: all are there. `numbered` has the streams without the
    /// incarnation in their names; a new one goes on with the numbers of the former.
    pub fn check_streams(&mut self, numbered: &BTreeMap<String, i64>) {
        let mut seen: BTreeMap<String, HashSet<i64>> = BTreeMap::new();
        let mut twice = Vec::new();
        for (stream, messages) in &self.streams {
            let numbers = seen.entry(without_incarnation(stream)).or_default();
            twice.extend(
                messages.keys().filter(|seq| !numbers.insert(**seq)).map(|seq| format!("{stream} #{seq}")),
            );
        }
        let mut missing = Vec::new();
        for (stream, last) in numbered {
            let numbers = seen.get(stream);
            let is_missing = |seq: &i64| !numbers.is_some_and(|numbers| numbers.contains(seq));
            missing.extend((1..=*last).filter(is_missing).map(|seq| format!("{stream} #{seq}")));
        }
        let mut beyond = Vec::new();
        for (stream, numbers) in &seen {
            let last = numbered.get(stream).copied().unwrap_or_default();
            beyond.extend(numbers.iter().filter(|seq| **seq > last).map(|seq| format!("{stream} #{seq}")));
        }
        for (kind, found) in [
            ("a number stands in two incarnations", twice),
            ("a committed message is in no topic", missing),
            ("a message was sent that nobody committed", beyond),
        ] {
            found.into_iter().for_each(|text| self.fault(kind, || text));
        }
    }

    /// Incarnations of the database in which messages were numbered.
    #[must_use]
    pub fn incarnations(&self) -> usize {
        let names = self.streams.keys().filter_map(|stream| stream.split('/').nth(1));
        names.collect::<HashSet<_>>().len()
    }
}

/// `deployment/incarnation/rest` as `deployment/rest`.
fn without_incarnation(stream: &str) -> String {
    let mut parts = stream.splitn(3, '/');
    let (deployment, _, rest) = (parts.next(), parts.next(), parts.next());
    format!("{}/{}", deployment.unwrap_or_default(), rest.unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn audit(streams: &[(&str, &[i64])]) -> Audit {
        let mut audit = Audit::default();
        for (stream, numbers) in streams {
            let seen = Seen { place: (0, 0), offset: 0, hash: 0, copies: 1 };
            audit.streams.insert((*stream).to_owned(), numbers.iter().map(|seq| (*seq, seen)).collect());
        }
        audit
    }

    #[test]
    fn every_number_is_there_once_over_all_incarnations() {
        let numbered = BTreeMap::from([("d/a/t/0".to_owned(), 4)]);
        let kinds = |streams: &[(&str, &[i64])]| {
            let mut audit = audit(streams);
            audit.check_streams(&numbered);
            audit.faults.into_keys().collect::<Vec<_>>()
        };
        assert!(kinds(&[("d/1/a/t/0", &[1, 2]), ("d/2/a/t/0", &[3, 4])]).is_empty());
        assert_eq!(kinds(&[("d/1/a/t/0", &[1, 2, 4])]), ["a committed message is in no topic"]);
        assert_eq!(kinds(&[("d/1/a/t/0", &[1, 2, 3, 4, 5])]), ["a message was sent that nobody committed"]);
        assert_eq!(
            kinds(&[("d/1/a/t/0", &[1, 2, 3, 4]), ("d/2/a/t/0", &[4])]),
            ["a number stands in two incarnations"]
        );
        assert_eq!(audit(&[("d/1/a/t/0", &[1]), ("d/2/b:events", &[1])]).incarnations(), 2);
    }
}
