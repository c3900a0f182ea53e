//! What commands take that need both the database and Kafka beside running hosts.

use super::setup::Beside;
use super::{Application, KafkaArgs, Unsatisfied};
use clap::Args;
use fnhost_db::stream_keys;
use fnhost_dispatch::operator::{Error, Operator};
use fnhost_kafka::cluster::Cluster;
use fnhost_types::stream_keys::StreamKeys;

/// The application, its database and its Kafka.
#[derive(Args, Debug)]
pub(super) struct OperatorArgs {
    #[command(flatten)]
    app: Application,
    #[command(flatten)]
    kafka: KafkaArgs,
}

impl OperatorArgs {
    /// Connects to the given servers, or to the private ones of the fnhost that runs on the data directory.
    ///
    /// # Errors
    /// One of them is not given or does not answer.
    pub(super) async fn connect(&self) -> anyhow::Result<Operator> {
        let beside = Beside::attach(&self.app).await?;
        let keys = StreamKeys::default();
        keys.replace(stream_keys::load(&beside.owner).await?);
        let access = self.kafka.access_beside(beside.kafka.as_ref())?.with_keys(keys);
        Ok(Operator {
            deployment: beside.manifest.application.name.clone(),
            owner: beside.owner,
            cluster: Cluster::connect(&access).await?,
            access,
            triggers: beside.manifest.kafka.into(),
        })
    }
}

/// What makes no sense is no failure: the command ran, and says so.
pub(super) fn said(error: Error) -> anyhow::Error {
    match error {
        Error::Refused(reason) => Unsatisfied(reason).into(),
        other => other.into(),
    }
}
