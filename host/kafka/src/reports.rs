//! What librdkafka and the brokers report, as far as it is used: the logs' ends, and what a group has assigned.

use fnhost_types::record::TopicPartition;
use serde::Deserialize;
use std::collections::{BTreeSet, HashMap};

/// The part of librdkafka's statistics that is read. See STATISTICS.md of librdkafka.
#[derive(Deserialize)]
struct Statistics {
    topics: HashMap<String, Topic>,
}

#[derive(Deserialize)]
struct Topic {
    partitions: HashMap<i32, Partition>,
}

#[derive(Deserialize)]
struct Partition {
    /// The end that a consumer of committed records sees; negative while it is not known.
    ls_offset: i64,
}

/// The logs' ends in a consumer's statistics, where they are known.
pub(super) fn log_ends(statistics: &[u8]) -> Vec<(TopicPartition, i64)> {
    read_log_ends(statistics).unwrap_or_else(|error| {
        tracing::warn!(%error, "cannot read librdkafka's statistics; lag is unknown");
        Vec::new()
    })
}

fn read_log_ends(statistics: &[u8]) -> serde_json::Result<Vec<(TopicPartition, i64)>> {
    let Statistics { topics } = serde_json::from_slice(statistics)?;
    let mut ends = Vec::new();
    for (topic, Topic { partitions }) in topics {
        for (partition, Partition { ls_offset }) in partitions {
            // Partition -1 holds what has no partition yet.
            if partition >= 0 && ls_offset >= 0 {
                ends.push((TopicPartition::new(topic.as_str(), partition), ls_offset));
            }
        }
    }
    Ok(ends)
}

/// The partitions in one member's assignment, as the consumer protocol encodes it: a version, then topics, each with its
/// partitions, big endian, lengths before contents. None where it cannot be read.
pub(super) fn assignment(mut bytes: &[u8]) -> Option<BTreeSet<TopicPartition>> {
    let mut partitions = BTreeSet::new();
    if bytes.is_empty() {
        return Some(partitions);
    }
    let bytes = &mut bytes;
    take(bytes, 2)?;
    for _ in 0..number(bytes)? {
        let length = u16::from_be_bytes(take(bytes, 2)?.try_into().ok()?);
        let topic = std::str::from_utf8(take(bytes, usize::from(length))?).ok()?.to_owned();
        for _ in 0..number(bytes)? {
            partitions.insert(TopicPartition::new(topic.as_str(), number(bytes)?));
        }
    }
    Some(partitions)
}

fn number(bytes: &mut &[u8]) -> Option<i32> {
    Some(i32::from_be_bytes(take(bytes, 4)?.try_into().ok()?))
}

fn take<'b>(bytes: &mut &'b [u8], length: usize) -> Option<&'b [u8]> {
    let (taken, rest) = bytes.split_at_checked(length)?;
    *bytes = rest;
    Some(taken)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_logs_ends_are_found_in_statistics() {
        let json = br#"{"name": "rdkafka#consumer-1", "topics": {"a": {"topic": "a", "partitions": {
            "0": {"partition": 0, "hi_offset": 9, "ls_offset": 7},
            "1": {"partition": 1, "hi_offset": -1001, "ls_offset": -1001},
            "-1": {"partition": -1, "ls_offset": 0}}}}, "cgrp": {}}"#;
        assert_eq!(log_ends(json), [(TopicPartition::new("a", 0), 7)]);
        assert!(read_log_ends(b"{}").is_err() && log_ends(b"{}").is_empty());
    }

    #[test]
    fn an_assignment_is_read_and_a_broken_one_is_not() {
        let mut bytes = vec![0, 1, 0, 0, 0, 2];
        for (topic, partitions) in [("ab", vec![0_i32, 2]), ("c", vec![])] {
            bytes.extend((topic.len() as u16).to_be_bytes());
            bytes.extend(topic.as_bytes());
            bytes.extend((partitions.len() as i32).to_be_bytes());
            partitions.iter().for_each(|p| bytes.extend(p.to_be_bytes()));
        }
        bytes.extend((-1_i32).to_be_bytes());
        let expected = [TopicPartition::new("ab", 0), TopicPartition::new("ab", 2)];
        assert_eq!(assignment(&bytes), Some(expected.into()));
        assert_eq!(assignment(&[]), Some(BTreeSet::new()), "a member that has not got one yet");
        assert_eq!(assignment(&bytes[..bytes.len() - 6]), None);
    }
}
