//! Kafka: the only module that names rdkafka.
//!
//! [`consumer`] runs one group membership per trigger and hands out its partitions, [`producer`] sends numbered
//! streams in order, [`scan`] reads a part of a partition once, [`cluster`] knows topics, their partitions and limits, [`access`] how all of them reach it.

pub mod access;
pub mod assigned;
pub mod cluster;
pub mod consumer;
pub mod murmur2;
pub mod producer;
mod record;
mod reports;
pub mod scan;
pub mod tail;

use crate::engine::kafka::Header;
use crate::trace;

/// Header with the name of the stream that numbered a message.
pub const STREAM_HEADER: &str = "fnhost-stream";
/// Header with the message's number on its stream, decimal, from 1.
pub const SEQ_HEADER: &str = "fnhost-seq";
/// Header with the first digits of the digest of the version that emitted a message.
pub const VERSION_HEADER: &str = "fnhost-version";
/// Headers whose names begin with this belong to the host.
pub const HOST_HEADER_PREFIX: &str = "fnhost-";

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
        trace::trace_id(self.header(trace::TRACEPARENT)?)
    }

    /// Stream and number, where a dispatch or a relay emitted this record.
    pub fn stream(&self) -> Option<(&str, i64)> {
        let stream = std::str::from_utf8(self.header(STREAM_HEADER)?).ok()?;
        let seq = std::str::from_utf8(self.header(SEQ_HEADER)?).ok()?.parse().ok()?;
        Some((stream, seq))
    }
}

/// What can go wrong with the cluster.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// librdkafka said so.
    #[error("{action}")]
    Kafka {
        /// What was tried.
        action: String,
        /// What librdkafka answered.
        source: rdkafka::error::KafkaError,
    },
    /// A topic is missing and not declared to be created.
    #[error(
        "topic {topic} does not exist; declare it under [application.tool.fnhost] topics with its number of partitions, \
         or create it"
    )]
    NoTopic {
        /// Its name.
        topic: String,
    },
    /// A property of the clients that is unknown, unfit or refused.
    #[error("{given}: {name} cannot be set: {reason}")]
    Property {
        /// File and line, or variable.
        given: String,
        /// Property.
        name: String,
        /// Why.
        reason: String,
    },
    /// Another process runs under the name of this one.
    #[error(
        "another fnhost has taken this one's place in the consumer groups: both are the member {instance} of group {group}, because \
         they have the same data directory or a copy of it; each host needs one of its own (--data-dir, FNHOST_DATA_DIR): in a copied \
         one delete the file secrets/instance, and start again"
    )]
    Fenced {
        /// Consumer group.
        group: String,
        /// Name of the member.
        instance: String,
    },
    /// A worker thread of a client could not start or ended.
    #[error("{0}")]
    Client(String),
}

impl Error {
    pub(crate) fn new(action: impl Into<String>) -> impl FnOnce(rdkafka::error::KafkaError) -> Error {
        let action = action.into();
        move |source| Error::Kafka { action, source }
    }
}
