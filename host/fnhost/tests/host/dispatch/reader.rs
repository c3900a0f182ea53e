//! Reads what the hosts of a test have sent.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::message::{Headers as _, Message as _};

use super::world::{PATIENCE, World};

impl World {
    /// The headers of a topic's records, from its start, once it has `count` of them. All that it has then, as a consumer
    /// accepts them: a message may reach Kafka twice, and its number tells.
    pub(super) async fn read(&self, topic: &str, count: usize) -> Vec<BTreeMap<String, String>> {
        let (config, topic) = (self.client(), topic.to_owned());
        let read = move || {
            let consumer: BaseConsumer =
                config.clone().set("group.id", "reader").create().expect("a consumer");
            let mut assignment = rdkafka::TopicPartitionList::new();
            assignment.add_partition_offset(&topic, 0, rdkafka::Offset::Beginning).expect("a partition");
            consumer.assign(&assignment).expect("assigned");
            let deadline = std::time::Instant::now() + PATIENCE;
            let (mut next, mut highest, mut accepted) = (0, HashMap::new(), Vec::new());
            loop {
                if let Some(record) = consumer.poll(Duration::from_millis(100)) {
                    let record = record.expect("a record");
                    next = record.offset() + 1;
                    let headers = headers(&record);
                    let number: i64 = headers["fnhost-seq"].parse().expect("a number");
                    let seen = highest.entry(headers["fnhost-stream"].clone()).or_insert(0);
                    if number > *seen {
                        *seen = number;
                        accepted.push(headers);
                    }
                    continue;
                }
                // Asked when nothing comes: the question waits behind the fetch that is under way.
                let (_, end) = consumer.fetch_watermarks(&topic, 0, PATIENCE).expect("the log's end");
                if accepted.len() >= count && next == end {
                    return accepted;
                }
                assert!(
                    std::time::Instant::now() < deadline,
                    "{topic} has {} of {count} records",
                    accepted.len()
                );
            }
        };
        tokio::task::spawn_blocking(read).await.expect("no panic")
    }
}

fn headers(record: &rdkafka::message::BorrowedMessage<'_>) -> BTreeMap<String, String> {
    let Some(headers) = record.headers() else { return BTreeMap::new() };
    let text = |value: Option<&[u8]>| String::from_utf8_lossy(value.unwrap_or_default()).into_owned();
    headers.iter().map(|header| (header.key.to_owned(), text(header.value))).collect()
}
