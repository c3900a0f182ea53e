//! Asks the broker and the database, all the time, so that nobody who wants to know has to.

use super::{Answer, Health, lock};
use fnhost_db::{OwnerPool, views};
use fnhost_kafka::cluster::Cluster;
use fnhost_types::causes::chain;
use futures::FutureExt as _;
use futures::future::BoxFuture;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio_util::sync::CancellationToken;

/// How often each is asked.
pub const PROBE_INTERVAL: Duration = Duration::from_secs(2);
/// Time after which one that has not answered is taken not to.
pub const PROBE_TIMEOUT: Duration = Duration::from_secs(3);

impl Health {
    /// Asks until `stop`. The question to the database is what `/metrics` shows of it: the outbox.
    pub fn probe(
        self,
        owner: OwnerPool,
        deployment: String,
        cluster: Option<Arc<Cluster>>,
        stop: CancellationToken,
    ) -> BoxFuture<'static, ()> {
        // Boxed, so that it is compiled here and not in the crate that awaits it.
        Box::pin(async move {
            let health = self.clone();
            let database = keep_asking(&self.inner.database, || {
                health.clone().ask_database(owner.clone(), deployment.clone()).boxed()
            });
            let broker = async {
                if let (Some(answer), Some(cluster)) = (&self.inner.broker, cluster) {
                    keep_asking(answer, || ask_broker(cluster.clone()).boxed()).await;
                }
            };
            tokio::select! {
                _ = async { tokio::join!(database, broker) } => {}
                () = stop.cancelled() => {}
            }
        })
    }

    async fn ask_database(self, owner: OwnerPool, deployment: String) -> Answer {
        let rows = views::outbox(&owner, &deployment).await.map_err(|error| chain(&error))?;
        *lock(&self.inner.outbox) = rows;
        Ok(())
    }
}

async fn ask_broker(cluster: Arc<Cluster>) -> Answer {
    cluster.probe(PROBE_TIMEOUT).await.map_err(|error| chain(&error))
}

/// Notes what `ask` answers, for ever. A question that takes too long is noted and not asked again: its answer is waited for, so that
/// one that hangs holds one connection and not one more each time.
async fn keep_asking(noted: &Mutex<Answer>, ask: impl Fn() -> BoxFuture<'static, Answer>) {
    loop {
        let mut asked = ask();
        let answer = match tokio::time::timeout(PROBE_TIMEOUT, &mut asked).await {
            Ok(answer) => answer,
            Err(_) => {
                *lock(noted) = Err(format!("no answer within {} s", PROBE_TIMEOUT.as_secs()));
                asked.await
            }
        };
        *lock(noted) = answer;
        tokio::time::sleep(PROBE_INTERVAL).await;
    }
}
