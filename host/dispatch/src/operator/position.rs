//! Choosing where a trigger goes on.

use super::{Error, Operator, Place};
use fnhost_db::positions;
use fnhost_types::record::TopicPartition;
use serde::Serialize;

/// A position that was chosen, or would be.
#[derive(Clone, Debug, Serialize)]
pub struct Moved {
    /// Topic.
    pub topic: String,
    /// Partition.
    pub partition: i32,
    /// Position before.
    pub former: i64,
    /// Position from now on.
    pub position: i64,
}

impl Operator {
    /// Moves a trigger's position in one partition, or in all of its partitions, to a place; only says what would change where it is a
    /// `dry_run`. A stopped partition goes on from there.
    ///
    /// # Errors
    /// There is no such position, the place is outside of a log, or the database or Kafka did not answer. Partitions
    /// before it in the order of their names have been moved.
    pub async fn move_position(
        &self,
        trigger: &str,
        only: Option<&TopicPartition>,
        place: Place,
        dry_run: bool,
    ) -> Result<Vec<Moved>, Error> {
        let mut moved = Vec::new();
        for (tp, former) in self.positions(trigger, only).await? {
            // Before its log is looked at: should the topic be made anew in between, the owner finds another id and stops.
            let topic_id = self.cluster.topic_id(&tp.topic).await?;
            let position = self.offset(&tp, place).await?;
            let bounds = self.cluster.log_bounds(&tp).await?;
            if !(bounds.start..=bounds.end).contains(&position) {
                return Err(Error::Refused(format!(
                    "offset {position} is outside {tp}, which has offsets {} to {}",
                    bounds.start, bounds.end
                )));
            }
            let former = if dry_run {
                former
            } else {
                positions::set(&self.owner, &self.deployment, trigger, &tp, position, topic_id)
                    .await?
                    .unwrap_or(former)
            };
            moved.push(Moved { topic: tp.topic, partition: tp.partition, former, position });
        }
        Ok(moved)
    }
}
