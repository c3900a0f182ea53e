//! What a group has committed, as one who is no member of it sees it.

use super::Error;
use super::access::Access;
use super::cluster::ANSWER_TIMEOUT;
use fnhost_types::record::TopicPartition;
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::topic_partition_list::TopicPartitionListElem;
use rdkafka::{Offset, TopicPartitionList};
use std::collections::HashMap;

/// The offsets that a group has committed of these partitions, without joining it.
///
/// # Errors
/// The group's coordinator did not answer.
pub async fn group_positions(
    access: &Access,
    group: &str,
    partitions: &[TopicPartition],
) -> Result<HashMap<TopicPartition, i64>, Error> {
    if partitions.is_empty() {
        return Ok(HashMap::new());
    }
    let mut config = access.base_config();
    let failed = Error::new(format!("cannot read the offsets of group {group}"));
    let consumer: BaseConsumer = access
        .over(config.set("group.id", group).set("enable.auto.commit", "false"))
        .create()
        .map_err(Error::new(format!("cannot make a consumer of group {group}")))?;
    let mut list = TopicPartitionList::new();
    for tp in partitions {
        list.add_partition(&tp.topic, tp.partition);
    }
    let committed = tokio::task::spawn_blocking(move || consumer.committed_offsets(list, ANSWER_TIMEOUT))
        .await
        .map_err(|error| Error::Client(format!("a request to the group ended early: {error}")))?
        .map_err(failed)?;
    let offset = |e: &TopicPartitionListElem<'_>| match e.offset() {
        Offset::Offset(offset) => Some((TopicPartition::new(e.topic(), e.partition()), offset)),
        _ => None,
    };
    Ok(committed.elements().iter().filter_map(offset).collect())
}
