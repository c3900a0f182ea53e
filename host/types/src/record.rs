//! A record of a Kafka partition as it was consumed, and the headers that belong to the host.

use crate::guard;
use crate::stream_keys::{Claim, StreamKeys};
use crate::trace_context::{self, TRACEPARENT};
use crate::wit::Header;

/// Header with the name of the stream that numbered a message.
pub const STREAM_HEADER: &str = "fnhost-stream";
/// Header with the message's number on its stream, decimal, from 1.
pub const SEQ_HEADER: &str = "fnhost-seq";
/// Header with the MAC of stream and number, see [`crate::stream_keys`].
pub const MAC_HEADER: &str = "fnhost-mac";
/// Header with the first digits of the digest of the version that emitted a message.
pub const VERSION_HEADER: &str = "fnhost-version";
/// Headers whose names begin with this belong to the host.
pub const HOST_HEADER_PREFIX: &str = "fnhost-";

/// What the name of a dead-letter topic adds to that of its topic.
pub const DEAD_LETTER_SUFFIX: &str = ".dlq";

/// The topic that gets copies of the dead letters of `topic`.
pub fn dead_letter_topic(topic: &str) -> String {
    format!("{topic}{DEAD_LETTER_SUFFIX}")
}

/// A topic partition.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TopicPartition {
    /// Topic name.
    pub topic: String,
    /// Partition number, from 0.
    pub partition: i32,
}

impl TopicPartition {
    /// Names a partition.
    pub fn new(topic: impl Into<String>, partition: i32) -> Self {
        Self { topic: topic.into(), partition }
    }
}

impl std::fmt::Display for TopicPartition {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.topic, self.partition)
    }
}

/// What numbers messages: a trigger's partition, a relay or a schedule.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct StreamSource {
    deployment: String,
    /// Id of the trigger, and the partition that it consumes, if any.
    within: String,
}

impl StreamSource {
    /// The source of what `trigger` emits; `consumed` is the partition whose records cause it, none for a relay and a schedule.
    pub fn new(deployment: &str, trigger: &str, consumed: Option<&TopicPartition>) -> Self {
        let within = consumed.map_or_else(|| trigger.to_owned(), |tp| format!("{trigger}/{tp}"));
        Self { deployment: deployment.to_owned(), within }
    }

    /// Name of its stream in an incarnation of the database. A database that was restored from a backup uses numbers again, so they
    /// have to be on another stream. None: the name before there were incarnations.
    pub fn name(&self, incarnation: Option<&str>) -> String {
        match incarnation {
            Some(incarnation) => format!("{}/{incarnation}/{}", self.deployment, self.within),
            None => format!("{}/{}", self.deployment, self.within),
        }
    }
}

impl std::fmt::Display for StreamSource {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.deployment, self.within)
    }
}

/// What a record said of its number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NumberClaim {
    /// Nothing: it is a foreign producer's, and its offset protects it.
    None,
    /// A number of this deployment.
    Good,
    /// A number that this deployment has not given: it does not count.
    Forged,
}

/// A record as it was consumed, owned.
#[derive(Clone, Debug)]
pub struct Record {
    /// Offset in its partition.
    pub offset: i64,
    /// Milliseconds since 1970, -1 where there is none.
    pub timestamp_ms: i64,
    /// Key bytes.
    pub key: Option<Vec<u8>>,
    /// Value bytes; none for a tombstone.
    pub value: Option<Vec<u8>>,
    /// Headers in their order, the host's own among them.
    pub headers: Vec<Header>,
}

impl Record {
    /// Bytes of key, value and headers.
    pub fn size(&self) -> usize {
        let headers: usize = self.headers.iter().map(|h| h.name.len() + h.value.len()).sum();
        self.key.as_ref().map_or(0, Vec::len) + self.value.as_ref().map_or(0, Vec::len) + headers
    }

    /// The first header of that name.
    pub fn header(&self, name: &str) -> Option<&[u8]> {
        self.headers.iter().find(|h| h.name == name).map(|h| h.value.as_slice())
    }

    /// The key, where it is text.
    pub fn key_text(&self) -> Option<&str> {
        std::str::from_utf8(self.key.as_deref()?).ok()
    }

    /// The trace that it belongs to.
    pub fn trace_id(&self) -> Option<&str> {
        trace_context::trace_id(self.header(TRACEPARENT)?)
    }

    /// Stream and number, where a dispatch, a relay or a schedule of this deployment emitted this record: who reads records from Kafka
    /// takes the headers of any other away.
    pub fn stream(&self) -> Option<(&str, i64)> {
        let stream = std::str::from_utf8(self.header(STREAM_HEADER)?).ok()?;
        let seq = std::str::from_utf8(self.header(SEQ_HEADER)?).ok()?.parse().ok()?;
        Some((stream, seq))
    }

    /// Takes the number away, where it has not been given by who has `keys`; answers whether one was claimed.
    pub fn keep_number_of(&mut self, keys: &StreamKeys, tp: (&str, i32)) -> NumberClaim {
        if self.header(STREAM_HEADER).is_none() && self.header(SEQ_HEADER).is_none() {
            return NumberClaim::None;
        }
        let good = self.stream().zip(self.header(MAC_HEADER)).is_some_and(|((stream, seq), mac)| {
            keys.verify(mac, Claim { stream, seq, topic: tp.0, partition: tp.1 }) || !guard::on("mac")
        });
        if good {
            return NumberClaim::Good;
        }
        self.headers.retain(|h| ![STREAM_HEADER, SEQ_HEADER, MAC_HEADER].contains(&h.name.as_str()));
        NumberClaim::Forged
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stream_keys::StreamKey;

    #[test]
    fn a_number_counts_only_with_the_macs_of_its_place() {
        let keys = StreamKeys::default();
        keys.replace(vec![StreamKey { id: 1, secret: vec![1; 32], settled: true }]);
        let mac = keys.sign(Claim { stream: "s", seq: 4, topic: "t", partition: 0 }).unwrap();
        let header = |name: &str, value: &str| Header { name: name.to_owned(), value: value.into() };
        let record = |headers| Record { offset: 0, timestamp_ms: 0, key: None, value: None, headers };
        let own = |seq, mac: Option<&str>| {
            let mac = mac.map(|mac| header(MAC_HEADER, mac));
            record(
                [header("a", "b"), header(STREAM_HEADER, "s"), header(SEQ_HEADER, seq)]
                    .into_iter()
                    .chain(mac)
                    .collect(),
            )
        };
        let mut good = own("4", Some(&mac));
        assert_eq!(good.keep_number_of(&keys, ("t", 0)), NumberClaim::Good);
        assert_eq!(good.stream(), Some(("s", 4)));
        for (mut forged, at) in [
            (own("4", Some(&mac)), ("t", 1)),
            (own("5", Some(&mac)), ("t", 0)),
            (own("9223372036854775807", None), ("t", 0)),
            (own("x", Some(&mac)), ("t", 0)),
            (record(vec![header(STREAM_HEADER, &"s".repeat(4_000)), header("a", "b")]), ("t", 0)),
        ] {
            assert_eq!(forged.keep_number_of(&keys, at), NumberClaim::Forged);
            assert!(forged.stream().is_none() && forged.headers.len() == 1, "what is not the host's stays");
        }
        assert_eq!(record(vec![header("a", "b")]).keep_number_of(&keys, ("t", 0)), NumberClaim::None);
    }
}
