//! Tells this host's workers that somebody changed their partition from outside, so that one with nothing to do looks too.
//!
//! One connection and one query for all partitions of a host. Being told late or never is safe: the store refuses
//! an owner that has not noticed.

use super::status::Registry;
use fnhost_db::OwnerPool;
use fnhost_db::changes::{CHANGE_CHANNEL, versions};
use fnhost_types::causes::chain;
use futures::future::BoxFuture;
use sqlx::postgres::PgListener;
use std::time::Duration;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

/// How often versions are read although nobody announced a change: the backstop of a lost notification.
pub const POLL_INTERVAL: Duration = Duration::from_secs(10);

/// Passes changes on to the workers of `host`, until `stop`; `poll` is [`POLL_INTERVAL`] but in tests.
pub fn watch(
    owner: OwnerPool,
    host: Uuid,
    registry: Registry,
    poll: Duration,
    stop: CancellationToken,
) -> BoxFuture<'static, ()> {
    // Boxed, so that it is compiled here and not in the crate that awaits it.
    Box::pin(async move {
        let mut listener = None;
        loop {
            // Listens before it reads: what changes after the reading is announced.
            if listener.is_none() {
                listener = listen(&owner).await;
            }
            match versions(&owner, host).await {
                Ok(versions) => {
                    for found in versions {
                        registry.set_version(&found.trigger, &found.tp, found.version);
                    }
                }
                Err(error) => {
                    // The listener's connection may be as dead, without anybody having said so.
                    listener = None;
                    tracing::debug!(error = chain(&error), "cannot read the partitions' versions");
                }
            }
            let announced = async {
                match &mut listener {
                    // A listener that failed is made anew.
                    Some(listening) => listening.recv().await.is_ok(),
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                listens = announced => if !listens { listener = None },
                () = tokio::time::sleep(poll) => {}
                () = stop.cancelled() => return,
            }
        }
    })
}

async fn listen(owner: &OwnerPool) -> Option<PgListener> {
    let listening = owner.listen(CHANGE_CHANNEL).await;
    let cannot = |error: &sqlx::Error| {
        tracing::debug!(error = chain(error), "cannot listen for changes of partitions; polling for them");
    };
    listening.inspect_err(cannot).ok()
}
