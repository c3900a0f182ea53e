//! Work that one host of a deployment does at a time: whoever has the lease.

use crate::{BACK_OFF_FIRST, BACK_OFF_MAX};
use futures::future::BoxFuture;
use std::time::{Duration, Instant};
use tokio_util::sync::CancellationToken;

/// Time after which another host may take the lead over from one that does not renew.
pub const LEASE: Duration = Duration::from_secs(6);
/// How often a host that is not the leader tries to become it.
const ELECTION_INTERVAL: Duration = Duration::from_secs(1);

/// Runs `lead` until `stop`: it answers true where it led until then, and false where another host has the lease. After
/// a failure it is run again, with a growing pause.
pub async fn elect<'a>(
    name: &str,
    stop: &CancellationToken,
    lead: impl Fn() -> BoxFuture<'a, anyhow::Result<bool>>,
) {
    let mut pause = BACK_OFF_FIRST;
    while !stop.is_cancelled() {
        let began = Instant::now();
        let wait = match lead().await {
            Ok(false) => ELECTION_INTERVAL,
            Ok(true) => Duration::ZERO,
            Err(error) => {
                tracing::warn!(name, error = format!("{error:#}"), "the leader failed and starts again");
                pause = if began.elapsed() > BACK_OFF_MAX {
                    BACK_OFF_FIRST
                } else {
                    (pause * 2).min(BACK_OFF_MAX)
                };
                pause
            }
        };
        tokio::select! {
            () = tokio::time::sleep(wait) => {}
            () = stop.cancelled() => {}
        }
    }
}
