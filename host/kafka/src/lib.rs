//! Kafka: the only crate that names rdkafka.
//!
//! [`consumer`] runs one group membership per trigger and hands out its partitions, [`producer`] sends numbered
//! streams in order, [`scan`] reads a part of a partition once, [`cluster`] knows topics, their partitions and limits, [`access`] how all of them reach it.

pub mod access;
pub mod assigned;
pub mod cluster;
pub mod consumer;
mod learned;
pub mod murmur2;
pub mod offsets;
pub mod producer;
mod queue;
mod record;
mod reports;
pub mod scan;
mod sender;
pub mod tail;
mod topic_ids;
mod topics;

/// What can go wrong with the cluster.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// librdkafka said so.
    #[error("{action}")]
    Kafka {
        /// What failed, as the message begins: `cannot create topics`.
        action: String,
        /// Error that librdkafka returned.
        source: rdkafka::error::KafkaError,
    },
    /// A topic is missing and not declared to be created.
    #[error(
        "topic {topic} does not exist; declare it under [application.tool.fnhost] topics with its number of partitions, \
         or create it"
    )]
    NoTopic {
        /// Name of the topic.
        topic: String,
    },
    /// A property of the clients that is unknown, unfit or refused.
    #[error("{given}: {name} cannot be set: {reason}")]
    Property {
        /// File and line, or variable.
        given: String,
        /// Property.
        name: String,
        /// Why fnhost refuses it, and what to use instead.
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
