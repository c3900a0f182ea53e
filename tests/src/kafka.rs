//! Kafka as a stranger uses it: records of any kind, and what has arrived.

use anyhow::Context as _;
use fnhost_embedded::PrivateKafka;
use rdkafka::ClientConfig;
use rdkafka::Offset;
use rdkafka::TopicPartitionList;
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::message::{BorrowedMessage, Header, Headers as _, Message as _, OwnedHeaders};
use rdkafka::producer::{FutureProducer, FutureRecord};
use std::collections::BTreeMap;
use std::time::Duration;

/// Time in which the broker answers.
pub(crate) const ANSWER_DEADLINE: Duration = Duration::from_secs(20);

/// A cluster as clients reach it.
#[derive(Clone, Debug)]
pub struct Cluster {
    addresses: String,
    login: Vec<(String, String)>,
}

impl Cluster {
    /// One that asks for no login, at these bootstrap addresses.
    #[must_use]
    pub fn open(addresses: String) -> Self {
        Self { addresses, login: Vec::new() }
    }

    /// A private Kafka.
    ///
    /// # Errors
    /// Its login cannot be read.
    pub fn private(kafka: &PrivateKafka) -> anyhow::Result<Self> {
        Ok(Self { addresses: kafka.address.clone(), login: kafka.properties()? })
    }

    /// What clients begin with.
    #[must_use]
    pub fn client(&self) -> ClientConfig {
        let mut config = ClientConfig::new();
        config.set("bootstrap.servers", &self.addresses);
        config.extend(self.login.clone());
        config
    }
}

/// A record to produce.
#[derive(Clone, Debug, Default)]
pub struct Record {
    /// Key of the record as text, absent for a record without one.
    pub key: Option<String>,
    /// The value; absent for a tombstone.
    pub value: Option<Vec<u8>>,
    /// Names and values of the headers, in order.
    pub headers: Vec<(String, String)>,
}

/// A record as it arrived.
#[derive(Clone, Debug)]
#[allow(missing_docs, reason = "Kafka's own terms")]
pub struct Arrived {
    pub partition: i32,
    pub offset: i64,
    pub key: Option<Vec<u8>>,
    pub value: Option<Vec<u8>>,
    pub headers: BTreeMap<String, String>,
}

/// Appends a record to a partition, and returns its offset.
///
/// # Errors
/// The broker did not take it.
pub async fn produce(cluster: &Cluster, topic: &str, partition: i32, record: &Record) -> anyhow::Result<i64> {
    let producer: FutureProducer = cluster.client().create()?;
    let headers = record.headers.iter().fold(OwnedHeaders::new(), |headers, (key, value)| {
        headers.insert(Header { key, value: Some(value) })
    });
    let mut sent = FutureRecord::<String, Vec<u8>>::to(topic).partition(partition);
    sent.key = record.key.as_ref();
    sent.payload = record.value.as_ref();
    if !record.headers.is_empty() {
        sent = sent.headers(headers);
    }
    let delivered = producer.send(sent, ANSWER_DEADLINE).await;
    Ok(delivered.map_err(|(error, _)| error).with_context(|| format!("produce to {topic}"))?.offset)
}

/// The offset after the last record of each partition of a topic. Blocks.
///
/// # Errors
/// The broker did not answer.
pub fn ends(cluster: &Cluster, topic: &str) -> anyhow::Result<Vec<i64>> {
    let consumer = consumer(cluster)?;
    let mut ends = Vec::new();
    for partition in partitions(&consumer, topic)? {
        ends.push(consumer.fetch_watermarks(topic, partition, ANSWER_DEADLINE)?.1);
    }
    Ok(ends)
}

/// Every record of a topic, partition by partition. Blocks.
///
/// # Errors
/// The broker did not answer.
pub fn read_all(cluster: &Cluster, topic: &str) -> anyhow::Result<Vec<Arrived>> {
    let consumer = consumer(cluster)?;
    let mut arrived = Vec::new();
    for partition in partitions(&consumer, topic)? {
        let (start, end) = consumer.fetch_watermarks(topic, partition, ANSWER_DEADLINE)?;
        if start == end {
            continue;
        }
        let mut assignment = TopicPartitionList::new();
        assignment.add_partition_offset(topic, partition, Offset::Offset(start))?;
        consumer.assign(&assignment)?;
        loop {
            let message = consumer.poll(ANSWER_DEADLINE).context("no record in time")??;
            let last = message.offset() + 1 >= end;
            arrived.push(read(&message));
            if last {
                break;
            }
        }
    }
    Ok(arrived)
}

fn read(message: &BorrowedMessage<'_>) -> Arrived {
    let mut headers = BTreeMap::new();
    for header in message.headers().map(|headers| headers.iter()).into_iter().flatten() {
        let value = String::from_utf8_lossy(header.value.unwrap_or_default()).into_owned();
        headers.insert(header.key.to_owned(), value);
    }
    Arrived {
        partition: message.partition(),
        offset: message.offset(),
        key: message.key().map(<[u8]>::to_vec),
        value: message.payload().map(<[u8]>::to_vec),
        headers,
    }
}

pub(crate) fn consumer(cluster: &Cluster) -> anyhow::Result<BaseConsumer> {
    let mut config = cluster.client();
    // A group is demanded for reading, and never joined.
    config.set("group.id", "tests").set("enable.auto.commit", "false");
    Ok(config.create()?)
}

pub(crate) fn partitions(consumer: &BaseConsumer, topic: &str) -> anyhow::Result<Vec<i32>> {
    let metadata = consumer.fetch_metadata(Some(topic), ANSWER_DEADLINE)?;
    let topic = metadata.topics().first().context("no such topic")?;
    let mut partitions: Vec<i32> = topic.partitions().iter().map(|partition| partition.id()).collect();
    partitions.sort_unstable();
    Ok(partitions)
}
