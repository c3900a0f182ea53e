//! Removes what is not kept any more, on one host of the deployment at a time.

use super::{Deployment, FORGET_HOST};
use fnhost_db::retention::{self, Kept, Removed};
use fnhost_types::causes::chain;
use std::time::Duration;
use tokio_util::sync::CancellationToken;

/// Time from one upkeep of a deployment to the next.
const UPKEEP_INTERVAL: Duration = Duration::from_secs(60 * 60);
/// How often a host looks whether it is due, beginning after this time: a start has other things to do.
const LOOK_INTERVAL: Duration = Duration::from_secs(60);

impl Deployment {
    pub(super) async fn keep_up(&self, stop: &CancellationToken) {
        loop {
            tokio::select! {
                () = tokio::time::sleep(LOOK_INTERVAL) => {}
                () = stop.cancelled() => return,
            }
            match self.remove_if_due().await {
                Ok(removed) if removed == Removed::default() => {}
                Ok(Removed { dead, watermarks, hosts, audit }) => {
                    tracing::info!(dead, watermarks, hosts, audit, "removed what is not kept any more");
                }
                Err(error) => tracing::warn!(error = chain(&error), "the upkeep of the database failed"),
            }
        }
    }

    async fn remove_if_due(&self) -> Result<Removed, fnhost_db::Error> {
        let owner = &self.shared.owner;
        if !retention::is_due(owner, self.id(), UPKEEP_INTERVAL).await? {
            return Ok(Removed::default());
        }
        retention::remove(owner, self.id(), &Kept { host: FORGET_HOST, ..Kept::default() }).await
    }
}
