//! Topics, their partitions, limits and offsets.

use super::access::Access;
use super::{Error, murmur2, reports};
use fnhost_manifest::Start;
use fnhost_types::record::TopicPartition;
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::{ClientContext, DefaultClientContext};
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::{BaseConsumer, Consumer, ConsumerContext};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::{Offset, TopicPartitionList};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Duration;
use tokio::sync::{Notify, watch};
use uuid::Uuid;

/// Longest wait for an answer of the cluster to a metadata or offset question.
pub const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);
/// How long it is waited for one more event of librdkafka when there are no further ones.
const EVENTS_TIMEOUT: Duration = Duration::from_millis(20);
/// Events of librdkafka that are handled at a time.
const EVENTS_MAX: usize = 1_000;
/// Pause between two tries of a question that a cluster in motion cannot answer yet.
const RETRY_PAUSE: Duration = Duration::from_millis(50);
/// Largest record of a topic whose configuration cannot be read, bytes: Kafka's default `max.message.bytes`.
pub(super) const DEFAULT_MAX_MESSAGE_BYTES: usize = 1_048_588;

/// What an emit needs to know of a topic.
#[derive(Clone, Copy, Debug)]
pub struct Topic {
    /// Number of partitions.
    pub partitions: i32,
    /// Largest record, bytes.
    pub max_message_bytes: usize,
}

/// A connection to the cluster for questions about topics.
pub struct Cluster {
    scout: BaseConsumer<Scout>,
    pub(super) admin: AdminClient<DefaultClientContext>,
    pub(super) topics: RwLock<HashMap<String, Topic>>,
    pub(super) ids: watch::Sender<Arc<HashMap<String, Uuid>>>,
    /// Asks for the limits to be read at once.
    pub(super) doubted: Notify,
}

/// First and next offset of a partition's log.
#[derive(Clone, Copy, Debug)]
pub struct LogBounds {
    /// First offset still there.
    pub start: i64,
    /// Offset of the next record.
    pub end: i64,
}

/// What helps where the broker's certificate is not good: librdkafka says it in some of the places where it finds that out.
fn authority_cure(reason: &str) -> &'static str {
    if reason.contains("certificate verify failed") && !reason.contains("ssl.ca.location") {
        "; name the authority of the broker's certificate with ssl.ca.location"
    } else {
        ""
    }
}

impl Cluster {
    /// Connects and checks that a broker answers.
    ///
    /// # Errors
    /// No broker answered within [`ANSWER_TIMEOUT`].
    pub async fn connect(access: &Access) -> Result<Arc<Self>, Error> {
        let mut config = access.base_config();
        let config = access.over(&mut config);
        let scout: BaseConsumer<Scout> = config
            .clone()
            // A listener that expects TLS hangs up on a client that does not speak it, and says nothing.
            .set("log.connection.close", "true")
            .set_log_level(RDKafkaLogLevel::Info)
            .create_with_context(Scout::default())
            .map_err(Error::new("cannot make a Kafka client"))?;
        let admin = config.create().map_err(Error::new("cannot make a Kafka admin client"))?;
        let cluster = Arc::new(Self {
            scout,
            admin,
            topics: RwLock::new(HashMap::new()),
            ids: watch::Sender::default(),
            doubted: Notify::new(),
        });
        let answer = cluster.clone().ask(|c| {
            let answer = c.scout.fetch_metadata(None, ANSWER_TIMEOUT).map(drop);
            c.take_events();
            answer
        });
        answer.await?.map_err(|error| {
            let last = cluster.scout.context().last_failure.lock().unwrap_or_else(PoisonError::into_inner).take();
            let brokers = access.brokers();
            Error::new(match last {
                Some(reason) => format!(
                    "no Kafka broker can be used at {brokers}: {reason}{}; check the address (--kafka, FNHOST_KAFKA), and for TLS and \
                     logins the properties (--kafka-config, FNHOST_KAFKA_CONFIG)",
                    authority_cure(&reason)
                ),
                None => format!("no Kafka broker answers at {brokers}; check the address (--kafka, FNHOST_KAFKA)"),
            })(error)
        })?;
        Ok(cluster)
    }

    /// Creates the topics that do not exist, with the given numbers of partitions and the broker's default replication,
    /// and learns the limits of all topics named.
    ///
    /// # Errors
    /// The broker refused, or a topic in `used` neither exists nor is declared.
    pub async fn prepare_topics(
        self: &Arc<Self>,
        declared: &BTreeMap<String, i32>,
        used: &[String],
    ) -> Result<(), Error> {
        let existing = self.topic_partitions().await?;
        let missing: Vec<NewTopic> = declared
            .iter()
            .filter(|(name, _)| !existing.contains_key(*name))
            .map(|(name, partitions)| NewTopic::new(name, *partitions, TopicReplication::Fixed(-1)))
            .collect();
        if !missing.is_empty() {
            let options = AdminOptions::new()
                .operation_timeout(Some(ANSWER_TIMEOUT))
                .request_timeout(Some(ANSWER_TIMEOUT));
            let answers = self
                .admin
                .create_topics(&missing, &options)
                .await
                .map_err(Error::new("cannot create topics"))?;
            for answer in answers {
                match answer {
                    Ok(_) | Err((_, RDKafkaErrorCode::TopicAlreadyExists)) => {}
                    Err((topic, code)) => {
                        return Err(Error::Kafka {
                            action: format!("cannot create topic {topic}"),
                            source: rdkafka::error::KafkaError::AdminOp(code),
                        });
                    }
                }
            }
        }
        self.learn(used).await
    }

    /// Learns partitions and limits of these topics.
    async fn learn(self: &Arc<Self>, used: &[String]) -> Result<(), Error> {
        let mut partitions = self.topic_partitions().await?;
        // A topic just created may not be in the first answer.
        let deadline = tokio::time::Instant::now() + ANSWER_TIMEOUT;
        while used.iter().any(|t| !partitions.contains_key(t)) && tokio::time::Instant::now() < deadline {
            tokio::time::sleep(RETRY_PAUSE).await;
            partitions = self.topic_partitions().await?;
        }
        let limits = self.limits(used).await?;
        let mut learned = HashMap::new();
        for topic in used {
            let partitions = *partitions.get(topic).ok_or_else(|| Error::NoTopic { topic: topic.clone() })?;
            let max_message_bytes = limits.get(topic).copied().unwrap_or(DEFAULT_MAX_MESSAGE_BYTES);
            learned.insert(topic.clone(), Topic { partitions, max_message_bytes });
        }
        write(&self.topics).extend(learned);
        Ok(())
    }

    /// What is known of a topic that [`Cluster::prepare_topics`] was told of.
    pub fn topic(&self, name: &str) -> Option<Topic> {
        self.topics.read().unwrap_or_else(PoisonError::into_inner).get(name).copied()
    }

    /// The partition of `topic` for a message: by its key as Kafka's Java client has it, else by its number in turn.
    pub fn partition_for(&self, topic: &str, key: Option<&[u8]>, seq: i64) -> i32 {
        let partitions = self.topic(topic).map_or(1, |t| t.partitions.max(1));
        match key {
            Some(key) => murmur2::partition(key, partitions),
            None => (seq % i64::from(partitions)) as i32,
        }
    }

    pub(super) async fn topic_partitions(self: &Arc<Self>) -> Result<HashMap<String, i32>, Error> {
        let metadata = self
            .clone()
            .ask(|c| {
                c.scout.fetch_metadata(None, ANSWER_TIMEOUT).map(|m| {
                    m.topics()
                        .iter()
                        .filter(|t| t.error().is_none())
                        .map(|t| (t.name().to_string(), t.partitions().len() as i32))
                        .collect()
                })
            })
            .await?;
        metadata.map_err(Error::new("cannot read the cluster's topics"))
    }

    /// Resolves where a trigger starts in a partition: an offset.
    ///
    /// # Errors
    /// The cluster did not answer.
    pub async fn resolve_start(self: &Arc<Self>, tp: &TopicPartition, start: Start) -> Result<i64, Error> {
        let bounds = self.log_bounds(tp).await?;
        let timestamp_ms = match start {
            Start::Earliest => return Ok(bounds.start),
            Start::Latest => return Ok(bounds.end),
            Start::Time(unix_ms) => unix_ms,
        };
        let wanted = tp.clone();
        let found = self
            .clone()
            .ask(move |c| {
                let mut list = TopicPartitionList::new();
                list.add_partition_offset(&wanted.topic, wanted.partition, Offset::Offset(timestamp_ms))?;
                c.scout.offsets_for_times(list, ANSWER_TIMEOUT)
            })
            .await?
            .map_err(Error::new(format!("cannot find the offset of a time in {tp}")))?;
        match found.elements().first().map(|e| e.offset()) {
            Some(Offset::Offset(offset)) => Ok(offset),
            // No record at or after that time.
            _ => Ok(bounds.end),
        }
    }

    /// First and next offset of a partition.
    ///
    /// # Errors
    /// The cluster did not answer.
    pub async fn log_bounds(self: &Arc<Self>, tp: &TopicPartition) -> Result<LogBounds, Error> {
        let deadline = tokio::time::Instant::now() + ANSWER_TIMEOUT;
        loop {
            let wanted = tp.clone();
            let answer = self
                .clone()
                .ask(move |c| c.scout.fetch_watermarks(&wanted.topic, wanted.partition, ANSWER_TIMEOUT))
                .await?;
            match answer {
                Ok((start, end)) => return Ok(LogBounds { start, end }),
                // A topic just made, or a broker just started, has no leader for a moment.
                Err(error) if is_passing(&error) && tokio::time::Instant::now() < deadline => {
                    tokio::time::sleep(RETRY_PAUSE).await;
                    // What the client knows of the topic may be older than the partition.
                    drop(self.topic_partitions().await);
                }
                Err(error) => return Err(Error::new(format!("cannot read the log bounds of {tp}"))(error)),
            }
        }
    }

    /// Partitions of a topic, from the cluster.
    ///
    /// # Errors
    /// The cluster did not answer, or there is no such topic.
    pub async fn partitions(self: &Arc<Self>, topic: &str) -> Result<i32, Error> {
        self.topic_partitions()
            .await?
            .get(topic)
            .copied()
            .ok_or_else(|| Error::NoTopic { topic: topic.to_string() })
    }

    /// Handles what librdkafka has to say besides its answers: it keeps that until somebody asks.
    pub(super) fn take_events(&self) {
        (0..EVENTS_MAX).take_while(|_| self.scout.poll(EVENTS_TIMEOUT).is_some()).for_each(drop);
    }

    /// Asks whether a broker answers, by the metadata of one known topic.
    ///
    /// # Errors
    /// None answered within `timeout`.
    pub async fn probe(self: &Arc<Self>, timeout: Duration) -> Result<(), Error> {
        let topic = self.known().pop();
        let asked = self.clone().ask(move |c| c.scout.fetch_metadata(topic.as_deref(), timeout).map(drop));
        asked.await?.map_err(Error::new("no Kafka broker answers"))
    }

    /// True where the group has settled and its members have all partitions of these topics.
    ///
    /// # Errors
    /// The cluster did not answer.
    pub async fn group_has_all(self: &Arc<Self>, group: &str, topics: &[String]) -> Result<bool, Error> {
        let partitions = self.topic_partitions().await?;
        let expected: i32 =
            topics.iter().map(|topic| partitions.get(topic).copied().unwrap_or_default()).sum();
        let name = group.to_string();
        let assigned = self.clone().ask(move |c| c.assigned(&name)).await?;
        let assigned = assigned.map_err(Error::new(format!("cannot describe group {group}")))?;
        let assigned = assigned.iter().filter(|tp| topics.contains(&tp.topic)).count();
        Ok(expected > 0 && assigned == expected as usize)
    }

    /// What the members of a group have; nothing while it is not settled. Blocks.
    fn assigned(&self, group: &str) -> Result<BTreeSet<TopicPartition>, KafkaError> {
        let groups = self.scout.fetch_group_list(Some(group), ANSWER_TIMEOUT)?;
        let settled = groups.groups().iter().filter(|group| group.state() == "Stable");
        let members = settled.flat_map(|group| group.members());
        let assignments = members.filter_map(|m| reports::assignment(m.assignment().unwrap_or_default()));
        Ok(assignments.flatten().collect())
    }

    pub(super) async fn ask<R: Send + 'static>(
        self: Arc<Self>,
        question: impl FnOnce(&Self) -> R + Send + 'static,
    ) -> Result<R, Error> {
        tokio::task::spawn_blocking(move || question(&self))
            .await
            .map_err(|e| Error::Client(format!("a request to Kafka ended early: {e}")))
    }
}

/// True for what passes by itself while leaders are elected and metadata spread.
fn is_passing(error: &KafkaError) -> bool {
    use RDKafkaErrorCode::{
        LeaderNotAvailable, NotLeaderForPartition, UnknownPartition, UnknownTopic, UnknownTopicOrPartition,
    };
    matches!(
        error.rdkafka_error_code(),
        Some(
            LeaderNotAvailable
                | NotLeaderForPartition
                | UnknownTopicOrPartition
                | UnknownPartition
                | UnknownTopic
        )
    )
}

/// What librdkafka says of an address that it did not reach.
const NOT_CONNECTED: &str = "in state CONNECT)";

/// Remembers why a broker was given up last: a refused login or certificate, or a listener that hangs up on a client without TLS, is
/// only said in librdkafka's log, while the question that is asked runs into its time-out.
#[derive(Default)]
struct Scout {
    last_failure: Mutex<Option<String>>,
}

impl ClientContext for Scout {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        tracing::debug!(?level, facility, "Kafka client: {message}");
        if facility == "FAIL" {
            // Begins with the name of a thread.
            let message = message.split_once("]: ").map_or(message, |(_, rest)| rest);
            let mut last = self.last_failure.lock().unwrap_or_else(PoisonError::into_inner);
            // One name often stands for two addresses, IPv6 and IPv4, of which only one is listened on: that the other one
            // refuses says less than what came of this one.
            if last
                .as_ref()
                .is_none_or(|last| last.contains(NOT_CONNECTED) || !message.contains(NOT_CONNECTED))
            {
                *last = Some(message.to_owned());
            }
        }
    }

    fn error(&self, error: KafkaError, reason: &str) {
        tracing::debug!(%error, reason, "Kafka client");
    }
}

impl ConsumerContext for Scout {}

pub(super) fn write<T>(lock: &RwLock<T>) -> std::sync::RwLockWriteGuard<'_, T> {
    lock.write().unwrap_or_else(PoisonError::into_inner)
}
