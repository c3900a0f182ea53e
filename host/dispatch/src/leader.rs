//! Work that one host of a deployment does at a time: whoever has the lease.

use crate::worker::{self, REFUSED_CURE};
use crate::{BACK_OFF_FIRST, BACK_OFF_MAX};
use fnhost_db::OwnerPool;
use fnhost_db::ownership::Ownership;
use fnhost_db::refused;
use fnhost_kafka::producer::{Failed, NotResent, Producer, Refusal, StreamSender};
use fnhost_types::outbox::Unsent;
use fnhost_types::record::StreamSource;
use futures::future::BoxFuture;
use std::time::{Duration, Instant};
use tokio_util::sync::CancellationToken;

/// Time after which another host may take the lead over from one that does not renew.
pub const LEASE: Duration = Duration::from_secs(6);
/// How often a host that is not the leader tries to become it.
const ELECTION_INTERVAL: Duration = Duration::from_secs(1);

/// Runs `lead` until `stop`: it answers true where it led until then, and false where another host has the lease. After
/// a failure or a panic it is run again, with a growing pause; `/readyz` shows it until `lead` has recovered.
pub async fn elect<'a>(
    kind: &'static str,
    name: &str,
    stop: &CancellationToken,
    lead: impl Fn() -> BoxFuture<'a, anyhow::Result<bool>>,
) {
    fnhost_metrics::supervise(kind, name, || campaign(kind, name, stop, &lead)).await;
}

async fn campaign<'a>(
    kind: &'static str,
    name: &str,
    stop: &CancellationToken,
    lead: &impl Fn() -> BoxFuture<'a, anyhow::Result<bool>>,
) {
    let mut pause = BACK_OFF_FIRST;
    while !stop.is_cancelled() {
        let began = Instant::now();
        let wait = match lead().await {
            Ok(led) => {
                fnhost_metrics::recovers(kind, name);
                if led { Duration::ZERO } else { ELECTION_INTERVAL }
            }
            Err(error) => {
                let cure = refusal(&error).map(|_| format!("; {REFUSED_CURE}")).unwrap_or_default();
                fnhost_metrics::ails(kind, name, format!("{error:#}{cure}"));
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

/// Opens a leader's stream and sends what a former leader left. Where Kafka refused a message of the stream before, its acknowledgement
/// is waited for.
pub async fn open(
    owner: &OwnerPool,
    producer: &Producer,
    source: &StreamSource,
    ownership: &Ownership,
    unsent: &[Unsent],
) -> anyhow::Result<StreamSender> {
    let sender = producer.open(source, &ownership.incarnation)?;
    sender.resend(unsent).await?;
    if sender.is_apart() {
        sender.drained().await?;
        refused::forget(owner, ownership).await?;
        producer.trust(source);
    }
    Ok(sender)
}

/// Notes for people where a leader ended because Kafka refuses a message of its stream.
pub async fn note_refused<T>(owner: &OwnerPool, ownership: &Ownership, ended: &anyhow::Result<T>) {
    if let Some(refusal) = ended.as_ref().err().and_then(refusal) {
        worker::note_refused(owner, ownership, refusal).await;
    }
}

fn refusal(error: &anyhow::Error) -> Option<&Refusal> {
    let failed = error.downcast_ref::<Failed>().or_else(|| match error.downcast_ref::<NotResent>() {
        Some(NotResent::Failed(failed)) => Some(failed),
        _ => None,
    });
    match failed {
        Some(Failed::Refused(refusal)) => Some(refusal),
        _ => None,
    }
}
