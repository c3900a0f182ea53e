//! What people ask of triggers and do with them where both Kafka and the database are needed: for the command line and the admin
//! address alike. Running owners are not asked: they find the row's version raised, and read it anew.

mod lag;
mod position;
mod replay;

use fnhost_db::OwnerPool;
use fnhost_kafka::access::Access;
use fnhost_kafka::cluster::Cluster;
use fnhost_manifest::{KafkaTrigger, Start};
use fnhost_types::record::TopicPartition;
pub use lag::Lag;
pub use position::Moved;
pub use replay::{Part, Replay};
use serde::{Deserialize, Deserializer};
use std::str::FromStr;
use std::sync::Arc;

/// What it takes to look at a deployment's triggers and to change them.
#[derive(Clone)]
pub struct Operator {
    /// Deployment name: the application's.
    pub deployment: String,
    /// Connections as the owner role.
    pub owner: OwnerPool,
    /// Topics.
    pub cluster: Arc<Cluster>,
    /// How Kafka is reached, with the deployment's keys.
    pub access: Access,
    /// The Kafka triggers of the manifest.
    pub triggers: Arc<[KafkaTrigger]>,
}

/// What could not be done.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// It makes no sense, as said.
    #[error("{0}")]
    Refused(String),
    /// The database did not answer.
    #[error(transparent)]
    Database(#[from] fnhost_db::Error),
    /// Kafka did not answer.
    #[error(transparent)]
    Kafka(#[from] fnhost_kafka::Error),
}

/// A place in a partition: an offset, `earliest`, `latest` or an RFC 3339 time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// This offset.
    Offset(i64),
    /// The first or last record, or the first at or after a time.
    Start(Start),
}

impl FromStr for Place {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.parse() {
            Ok(offset) if offset >= 0 => Ok(Self::Offset(offset)),
            _ => text.parse().map(Self::Start).map_err(|_: String| {
                format!(
                    "\"{text}\" is none of an offset, earliest, latest and an RFC 3339 time like 2026-01-31T08:00:00Z"
                )
            }),
        }
    }
}

impl<'de> Deserialize<'de> for Place {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

/// Reads `TOPIC/PARTITION`.
///
/// # Errors
/// It is none, as said.
pub fn topic_partition(text: &str) -> Result<TopicPartition, String> {
    let parsed = text.rsplit_once('/').and_then(|(topic, number)| Some((topic, number.parse().ok()?)));
    match parsed {
        Some((topic, partition)) if !topic.is_empty() && partition >= 0 => {
            Ok(TopicPartition::new(topic, partition))
        }
        _ => Err(format!("\"{text}\" is not TOPIC/NUMBER, like order-events/0")),
    }
}

impl Operator {
    /// The manifest's trigger of this id.
    fn trigger(&self, id: &str) -> Result<&KafkaTrigger, Error> {
        self.triggers.iter().find(|trigger| trigger.id == id).ok_or_else(|| {
            let known: Vec<&str> = self.triggers.iter().map(|trigger| trigger.id.as_str()).collect();
            Error::Refused(format!("there is no Kafka trigger {id}; there are {}", known.join(", ")))
        })
    }

    /// The partitions of a trigger's topics that have a stored position, or the one that is asked for, with it.
    async fn positions(
        &self,
        trigger: &str,
        only: Option<&TopicPartition>,
    ) -> Result<Vec<(TopicPartition, i64)>, Error> {
        let rows = fnhost_db::positions::partitions(&self.owner, &self.deployment, Some(trigger)).await?;
        let stored: Vec<(TopicPartition, i64)> = rows
            .into_iter()
            .map(|row| (TopicPartition::new(row.topic, row.partition), row.position))
            .filter(|(tp, _)| only.is_none_or(|only| only == tp))
            .collect();
        if stored.is_empty() {
            let what = only.map_or_else(|| "any partition".to_owned(), ToString::to_string);
            return Err(Error::Refused(format!("trigger {trigger} has no stored position for {what}")));
        }
        Ok(stored)
    }

    async fn offset(&self, tp: &TopicPartition, place: Place) -> Result<i64, Error> {
        Ok(match place {
            Place::Offset(offset) => offset,
            Place::Start(start) => self.cluster.resolve_start(tp, start).await?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_and_partitions_are_read() {
        assert_eq!("42".parse(), Ok(Place::Offset(42)));
        assert_eq!("latest".parse(), Ok(Place::Start(Start::Latest)));
        assert_eq!("1970-01-01T00:00:01Z".parse(), Ok(Place::Start(Start::Time(1_000))));
        assert!("-1".parse::<Place>().is_err() && "soon".parse::<Place>().is_err());
        assert_eq!(topic_partition("a/b/3"), Ok(TopicPartition::new("a/b", 3)));
        for text in ["a", "a/", "/1", "a/-1", "a/x"] {
            assert!(topic_partition(text).is_err(), "{text}");
        }
    }
}
