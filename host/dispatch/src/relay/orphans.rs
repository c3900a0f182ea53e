//! Sends what streams without an owner have left behind: those of triggers that are not in the manifest any more.
//!
//! A stream's messages are sent by the owner of its partition. A trigger that was taken out of the manifest has no
//! owner, so what it had committed and not sent would wait for ever. Rows of a trigger that somebody still runs
//! are cleared within moments, so only old ones are looked for; should there be an owner after all, it is fenced and takes
//! over again, which is safe and loses nothing.

use crate::stream;
use fnhost_db::OwnerPool;
use fnhost_db::ownership;
use fnhost_kafka::producer::Producer;
use fnhost_types::causes::chain;
use fnhost_types::record::StreamSource;
use futures::future::BoxFuture;
use std::sync::Arc;
use std::time::Duration;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

/// How often orphaned streams are looked for.
const SEARCH_INTERVAL: Duration = Duration::from_secs(15);
/// Age of an outbox row after which its stream is taken to have no owner.
const ORPHANED_AFTER: Duration = Duration::from_secs(60);
/// Longest wait for Kafka's acknowledgement of one stream.
const SEND_TIMEOUT: Duration = Duration::from_secs(30);

/// What the search needs.
pub struct Orphans {
    /// Deployment name.
    pub deployment: String,
    /// Triggers of this manifest, relays included: they have owners.
    pub known: Vec<i64>,
    /// Id of this process, which becomes the owner.
    pub host: Uuid,
    /// Connections as the owner role.
    pub owner: OwnerPool,
    /// The host's producer.
    pub producer: Arc<Producer>,
}

impl Orphans {
    /// Looks and sends until `stop`.
    pub fn run(self: Arc<Self>, stop: CancellationToken) -> BoxFuture<'static, ()> {
        // Boxed, so that it is compiled here and not in the crate that awaits it.
        Box::pin(async move {
            loop {
                tokio::select! {
                    () = tokio::time::sleep(SEARCH_INTERVAL) => {}
                    () = stop.cancelled() => return,
                }
                match fnhost_db::relay::orphaned(&self.owner, &self.deployment, &self.known, ORPHANED_AFTER)
                    .await
                {
                    Ok(orphans) => {
                        for orphan in orphans {
                            if let Err(error) = self.adopt(&orphan).await {
                                tracing::warn!(
                                    trigger = orphan.id,
                                    topic = orphan.tp.topic,
                                    partition = orphan.tp.partition,
                                    error = format!("{error:#}"),
                                    "cannot send orphaned messages"
                                );
                            }
                        }
                    }
                    Err(error) => {
                        tracing::warn!(error = chain(&error), "cannot search for orphaned messages")
                    }
                }
            }
        })
    }

    /// Takes one stream's partition over, sends its outbox, clears it, and gives it up.
    async fn adopt(&self, orphan: &fnhost_db::relay::Orphan) -> anyhow::Result<()> {
        let taken = ownership::raise_epoch(&self.owner, orphan.trigger, &orphan.tp, self.host, None).await?;
        let loaded = ownership::load(&self.owner, orphan.trigger, &orphan.tp, &taken).await?;
        let consumed = (!orphan.tp.topic.is_empty()).then_some(&orphan.tp);
        let source = StreamSource::new(&self.deployment, &orphan.id, consumed);
        let sent = async {
            stream::open(&self.owner, &self.producer, &source, &loaded.ownership).await?.drained().await?;
            Ok::<_, anyhow::Error>(())
        };
        let sent = tokio::time::timeout(SEND_TIMEOUT, sent).await?;
        if let Some(refusal) = sent.as_ref().err().and_then(stream::refusal) {
            stream::note_refused(&self.owner, &self.producer, &loaded.ownership, refusal).await;
        }
        sent?;
        ownership::clear(&self.owner, &loaded.ownership, loaded.ownership.emitted).await?;
        ownership::release(&self.owner, &loaded.ownership).await?;
        tracing::info!(
            stream = %source,
            last = loaded.ownership.emitted,
            "sent the remaining messages of a stream without an owner"
        );
        Ok(())
    }
}
