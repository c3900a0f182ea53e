//! What of the topics can change while the host runs: their ids, partitions and limits.

use super::Error;
use super::cluster::{ANSWER_TIMEOUT, Cluster, DEFAULT_MAX_MESSAGE_BYTES, write};
use super::topic_ids;
use fnhost_types::causes::chain;
use futures::future::BoxFuture;
use rdkafka::admin::{AdminOptions, ConfigResourceResult, ResourceSpecifier};
use std::collections::HashMap;
use std::sync::{Arc, PoisonError};
use std::time::Duration;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

/// How often the topics' ids are read anew: how long a topic that was made anew can be taken for the former one.
const IDS_INTERVAL: Duration = Duration::from_secs(1);
/// How often the numbers of the topics' partitions, and their limits, are read anew, in rounds of [`IDS_INTERVAL`].
const REFRESH_ROUNDS: u32 = 60;

impl Cluster {
    /// The largest record of each of these topics, bytes, where its configuration can be read.
    pub(super) async fn limits(&self, topics: &[String]) -> Result<HashMap<String, usize>, Error> {
        if topics.is_empty() {
            return Ok(HashMap::new());
        }
        let resources: Vec<_> = topics.iter().map(|t| ResourceSpecifier::Topic(t)).collect();
        let options = AdminOptions::new().request_timeout(Some(ANSWER_TIMEOUT));
        let configs = self
            .admin
            .describe_configs(&resources, &options)
            .await
            .map_err(Error::new("cannot read the topics' configuration"))?;
        let limit = |config: &ConfigResourceResult| {
            config.as_ref().ok()?.get("max.message.bytes")?.value.as_ref()?.parse().ok()
        };
        let found = topics.iter().zip(&configs).filter_map(|(topic, c)| Some((topic.clone(), limit(c)?)));
        Ok(found.collect())
    }

    /// Reads the numbers of partitions and the limits anew, so that messages use partitions that were added, and none is
    /// committed that Kafka would refuse.
    ///
    /// # Errors
    /// The cluster did not answer.
    async fn refresh(self: &Arc<Self>) -> Result<(), Error> {
        self.clone().ask(Self::take_events).await?;
        let known = self.known();
        let (partitions, limits) = (self.topic_partitions().await?, self.limits(&known).await?);
        for (name, topic) in write(&self.topics).iter_mut() {
            topic.partitions = partitions.get(name).copied().unwrap_or(topic.partitions);
            topic.max_message_bytes = limits.get(name).copied().unwrap_or(topic.max_message_bytes);
        }
        Ok(())
    }

    /// Reads the topics' ids every [`IDS_INTERVAL`] until `stop`, and partitions and limits less often.
    pub fn keep_fresh(self: Arc<Self>, stop: CancellationToken) -> BoxFuture<'static, ()> {
        // Boxed, so that it is compiled here and not in the crate that awaits it.
        Box::pin(async move {
            let mut round = 0;
            loop {
                tokio::select! {
                    () = tokio::time::sleep(IDS_INTERVAL) => round += 1,
                    () = self.doubted.notified() => round = REFRESH_ROUNDS,
                    () = stop.cancelled() => return,
                }
                if round >= REFRESH_ROUNDS {
                    round = 0;
                    if let Err(error) = self.refresh().await {
                        tracing::warn!(
                            error = chain(&error),
                            "cannot read the topics' partitions and limits"
                        );
                    }
                }
                match self.read_topic_ids(self.known()).await {
                    Ok(ids) => drop(self.ids.send_if_modified(|known| {
                        let changed = **known != ids;
                        *known = Arc::new(ids);
                        changed
                    })),
                    Err(error) => tracing::debug!(error = chain(&error), "cannot read the topics' ids"),
                }
            }
        })
    }

    /// Asks for partitions and limits to be read at once: Kafka refused a message that they allow.
    pub fn doubt_limits(&self) {
        self.doubted.notify_one();
    }

    /// Topics that are known, with their ids as last read; changes where one of them is made anew.
    pub fn topic_ids(&self) -> watch::Receiver<Arc<HashMap<String, Uuid>>> {
        self.ids.subscribe()
    }

    /// Notices topics that are made anew from here on.
    pub(super) fn made_anew(&self) -> MadeAnew {
        let ids = self.ids.subscribe();
        let known = ids.borrow().as_ref().clone();
        MadeAnew { ids, known }
    }

    /// The present id of a topic; none where it does not exist, or the brokers have no ids (before Kafka 2.8).
    ///
    /// # Errors
    /// The cluster did not answer.
    pub async fn topic_id(self: &Arc<Self>, topic: &str) -> Result<Option<Uuid>, Error> {
        Ok(self.read_topic_ids(vec![topic.to_owned()]).await?.remove(topic))
    }

    #[allow(unsafe_code, reason = "the client is handed to librdkafka as it is")]
    async fn read_topic_ids(self: &Arc<Self>, topics: Vec<String>) -> Result<HashMap<String, Uuid>, Error> {
        if topics.is_empty() {
            return Ok(HashMap::new());
        }
        // SAFETY: the client lives as long as `c`.
        let asked =
            self.clone().ask(move |c| unsafe { topic_ids::read(c.admin.inner().native_ptr(), &topics) });
        asked.await?.map_err(Error::new("cannot read the topics' ids"))
    }

    /// Bytes of the smallest of the known topics' largest records: what a batch of messages may have wherever it goes.
    pub fn smallest_limit(&self) -> usize {
        let topics = self.topics.read().unwrap_or_else(PoisonError::into_inner);
        topics.values().map(|topic| topic.max_message_bytes).min().unwrap_or(DEFAULT_MAX_MESSAGE_BYTES)
    }

    pub(super) fn known(&self) -> Vec<String> {
        self.topics.read().unwrap_or_else(PoisonError::into_inner).keys().cloned().collect()
    }
}

/// Notices topics that were deleted and made anew. A client of librdkafka that used the former one has to be made anew as well: it
/// keeps the epochs of the former leaders, and where they are higher than those of the new ones, it ignores the new leaders as outdated
/// and is answered by none.
pub(super) struct MadeAnew {
    ids: watch::Receiver<Arc<HashMap<String, Uuid>>>,
    /// The last id of each topic, also of those that are deleted at the moment.
    known: HashMap<String, Uuid>,
}

impl MadeAnew {
    /// Waits until the ids change; false where nobody reads them any more.
    pub async fn changed(&mut self) -> bool {
        self.ids.changed().await.is_ok()
    }

    /// A topic that is another one since the last call.
    pub fn topic(&mut self) -> Option<String> {
        let mut anew = None;
        for (topic, id) in self.ids.borrow_and_update().iter() {
            if self.known.insert(topic.clone(), *id).is_some_and(|former| former != *id) {
                anew = Some(topic.clone());
            }
        }
        anew
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_topic_that_was_gone_in_between_is_another_one() {
        let ids = |list: &[(&str, u128)]| -> Arc<HashMap<String, Uuid>> {
            Arc::new(list.iter().map(|(topic, id)| ((*topic).to_owned(), Uuid::from_u128(*id))).collect())
        };
        let sender = watch::Sender::new(ids(&[("a", 1)]));
        let mut anew = MadeAnew { ids: sender.subscribe(), known: sender.borrow().as_ref().clone() };
        assert_eq!(anew.topic(), None);
        for (present, expected) in [
            (ids(&[("a", 1), ("b", 2)]), None),
            (ids(&[("a", 1)]), None),
            (ids(&[("a", 1), ("b", 3)]), Some("b".to_owned())),
            (ids(&[("a", 1), ("b", 3)]), None),
        ] {
            sender.send_replace(present);
            assert_eq!(anew.topic(), expected);
        }
    }
}
