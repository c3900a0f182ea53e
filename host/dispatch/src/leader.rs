//! Work that one host of a deployment does at a time: whoever has the lease.

use crate::stream::{self, REFUSED_CURE};
use crate::{BACK_OFF_FIRST, BACK_OFF_MAX};
use fnhost_db::OwnerPool;
use fnhost_db::ownership::Ownership;
use fnhost_db::relay;
use fnhost_kafka::producer::{Producer, StreamSender};
use fnhost_types::record::StreamSource;
use futures::future::BoxFuture;
use std::time::{Duration, Instant};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

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
                let cure = stream::refusal(&error).map(|_| format!("; {REFUSED_CURE}")).unwrap_or_default();
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

/// The lead over one stream: what it takes to get it, and to go on with the stream.
pub struct Leadership<'a> {
    /// What it is, for `/readyz`.
    pub kind: &'static str,
    /// Its name.
    pub name: &'a str,
    /// Row of `fnhost.trigger`.
    pub trigger: i64,
    /// What numbers its messages.
    pub source: &'a StreamSource,
    /// Id of this process, which becomes the owner.
    pub host: Uuid,
    /// Connections as the owner role.
    pub owner: &'a OwnerPool,
    /// The host's producer.
    pub producer: &'a Producer,
}

impl Leadership<'_> {
    /// Takes the lease, sends what a former leader left, and does the work (true); false where another host has the lease.
    ///
    /// # Errors
    /// The lease, the stream or the work failed.
    pub async fn lead<F>(&self, work: impl FnOnce(Ownership, StreamSender) -> F) -> anyhow::Result<bool>
    where
        F: Future<Output = anyhow::Result<()>>,
    {
        let Self { kind, name, trigger, source, host, owner, producer } = *self;
        if !relay::take_lease(owner, trigger, host, LEASE).await? {
            return Ok(false);
        }
        let ownership = relay::load(owner, trigger, host).await?;
        let led = async {
            let sender = stream::open(owner, producer, source, &ownership).await?;
            fnhost_metrics::recovers(kind, name);
            tracing::debug!(kind, name, epoch = ownership.epoch, "leads");
            work(ownership.clone(), sender).await
        }
        .await;
        if let Some(refusal) = led.as_ref().err().and_then(stream::refusal) {
            stream::note_refused(owner, producer, &ownership, refusal).await;
        }
        led.map(|()| true)
    }
}
