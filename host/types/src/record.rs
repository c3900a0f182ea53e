//! A record of a Kafka partition as it was consumed, and the headers that belong to the host.

use crate::trace_context::{self, TRACEPARENT};
use crate::wit::Header;

/// Header with the name of the stream that numbered a message.
pub const STREAM_HEADER: &str = "fnhost-stream";
/// Header with the message's number on its stream, decimal, from 1.
pub const SEQ_HEADER: &str = "fnhost-seq";
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

    /// Stream and number, where a dispatch or a relay emitted this record.
    pub fn stream(&self) -> Option<(&str, i64)> {
        let stream = std::str::from_utf8(self.header(STREAM_HEADER)?).ok()?;
        let seq = std::str::from_utf8(self.header(SEQ_HEADER)?).ok()?.parse().ok()?;
        Some((stream, seq))
    }
}
